//! Signatures and the handshake.

use super::*;

#[tokio::test]
async fn signature_vectors_verify_and_tampered_ones_fail() {
    let vectors = json_fixture("vectors.json");
    let vectors = &vectors["webhook_signature"];
    assert_eq!((vectors["header"].as_str(), vectors["consumer_secret"].as_str()), (Some(SIGNATURE), Some(SECRET)));
    let files = vectors["files"].as_object().unwrap();
    assert_eq!(files.len(), 17);
    let x = offline();
    for (name, signature) in files {
        let signature = signature.as_str().unwrap();
        let body = fixture(name);
        let received = x.receive(&post(signature, body.clone())).await.unwrap();
        assert!(!received.events.is_empty(), "{name}");
        let mut tampered = body.to_vec();
        tampered[10] ^= 1;
        let cut = &body[..body.len() - 1];
        for (signature, body) in [
            (signature, tampered.as_slice()),
            (signature, cut),
            (&mac("another-consumer-secret", &body), &body),
            (&signature[7..], &body),
            (&signature[..signature.len() - 1], &body),
            ("", &body),
        ] {
            let error = x.receive(&post(signature, body.to_vec())).await.unwrap_err();
            assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, 403), "{name}");
        }
        let unsigned = http::Request::post("/webhooks/x").body(body).unwrap();
        assert_eq!(x.receive(&unsigned.into()).await.unwrap_err().webhook_status(), 401);
    }
}

async fn handshake(x: &X, query: &str) -> Result<Value> {
    let request = http::Request::get(format!("/webhooks/x?{query}")).body("").unwrap();
    let received = x.receive(&request.into()).await?;
    assert!(received.events.is_empty());
    assert_eq!((received.response.status.as_u16(), received.response.content_type), (200, Some("application/json")));
    Ok(serde_json::from_slice(&received.response.body).unwrap())
}

fn with_secrets(secrets: &[&str]) -> X {
    let mut config = Config::new(COUNCIL, keys());
    for secret in secrets {
        config = config.webhook_secret(*secret).unwrap();
    }
    X::direct_messages_with(config, &context()).unwrap()
}

#[tokio::test]
async fn handshake_matches_its_vectors() {
    let vectors = json_fixture("vectors.json");
    for vector in vectors["crc"].as_array().unwrap() {
        let x = with_secrets(&[vector["consumer_secret"].as_str().unwrap(), "the-secret-before"]);
        let answer = handshake(&x, vector["query_as_sent"].as_str().unwrap()).await.unwrap();
        assert_eq!(answer, json!({ "response_token": vector["response_token"] }));
        let answer = handshake(&x, &format!("nonce=1&{}", vector["query_as_sent"].as_str().unwrap())).await.unwrap();
        assert_eq!(answer["response_token"], vector["response_token"]);
    }
    let x = offline();
    for query in ["", "crc_token=", "token=a"] {
        assert!(handshake(&x, query).await.is_err(), "{query}");
    }
}

#[tokio::test]
async fn handshake_signs_no_event() {
    // Handshake and webhook are signed with one key in one way: whoever has a body signed as a token could post it.
    let x = offline();
    for forged in [r#"{"for_user_id":"1900000000000000202"}"#, " \n{}", "[{}]"] {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("crc_token", forged).finish();
        assert_eq!(handshake(&x, &query).await.unwrap_err().webhook_status(), 403, "{forged}");
    }
    // What it does sign is no event, with the right signature too.
    let token = "a1b2+/c3==";
    let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("crc_token", token).finish();
    let signature = handshake(&x, &query).await.unwrap()["response_token"].as_str().unwrap().to_owned();
    assert_eq!(x.receive(&post(&signature, token)).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn rotated_secrets_verify_for_their_own_accounts() {
    let x = with_secrets(&["the-new-secret", "the-old-secret"]);
    let body = fixture("webhook_aaa_dm_text.json");
    for secret in ["the-new-secret", "the-old-secret"] {
        assert_eq!(x.receive(&post(&mac(secret, &body), body.clone())).await.unwrap().events.len(), 1);
    }
    // An app that serves somebody else as well.
    let mut config = Config::new(COUNCIL, keys());
    config.webhook_secrets = vec![
        SigningSecret::for_accounts(Secret::new("of-another-account").unwrap(), ["1900000000000000999".into()]),
        SigningSecret::new(Secret::new(SECRET).unwrap()),
    ];
    let x = X::direct_messages_with(config, &context()).unwrap();
    let batch = fixture("webhook_aaa_dm_batch_of_two.json");
    let received = x.receive(&post(&mac("of-another-account", &batch), batch.clone())).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events(), received.response.status.as_u16()), (0, 2, 200));
    let received = x.receive(&post(&mac(SECRET, &batch), batch)).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events()), (2, 0));
}
