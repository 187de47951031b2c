//! Signatures and the handshake.

use super::*;

#[tokio::test]
async fn signature_vectors_are_decided_as_recorded() {
    let vectors: Vec<Value> = serde_json::from_slice(&fixture("signature/vectors.json")).unwrap();
    assert_eq!(vectors.len(), 9);
    for vector in &vectors {
        let hex = vector["body_hex"].as_str().unwrap();
        let body: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        match vector["name"].as_str().unwrap() {
            "escaped" => assert_eq!(body, fixture("signature/body_escaped_unicode.json").trim_ascii_end()),
            "utf8" => assert_eq!(body, fixture("signature/body_utf8.json").trim_ascii_end()),
            _ => {}
        }
        let mut config = config("http://127.0.0.1:9");
        config.app_secrets = vec![Secret::new(vector["app_secret"].as_str().unwrap()).unwrap().into()];
        let meta = Meta::whatsapp_with(config, &Context::new()).unwrap();
        let request = http::Request::post("/").header("X-Hub-Signature-256", vector["header"].as_str().unwrap());
        let received = meta.receive(&request.body(body).unwrap().into()).await;
        match received {
            Ok(received) => {
                assert_eq!(vector["valid"], true, "{}", vector["name"]);
                assert_eq!(received.response.status, 200);
            }
            Err(error) => {
                assert_eq!(vector["valid"], false, "{}", vector["name"]);
                assert_eq!(error.webhook_status(), 403, "{}", vector["name"]);
            }
        }
    }
}

#[tokio::test]
async fn secret_of_one_account_yields_no_event_of_another() {
    let mut theirs = config("http://127.0.0.1:9");
    let secret = |text: &str| Secret::new(text).unwrap();
    theirs.app_secrets = vec![
        SigningSecret::for_accounts(secret("secret-of-a"), ["200000000000007".into()]),
        SigningSecret::for_accounts(secret("secret-of-b"), [NUMBER.into(), ACCOUNT.into()]),
    ];
    let meta = Meta::whatsapp_with(theirs, &Context::new()).unwrap();
    for (name, count) in [
        ("inbound/text.json", 1),
        ("status/sent.json", 1),
        ("account/account_update_restriction.json", 1),
        ("batch/two_entries_messages_and_statuses.json", 6),
    ] {
        let forged = meta.receive(&signed_by_meta("secret-of-a", fixture(name))).await.unwrap();
        assert_eq!((forged.events.len(), forged.discarded_events()), (0, count), "{name}");
        let genuine = meta.receive(&signed_by_meta("secret-of-b", fixture(name))).await.unwrap();
        assert_eq!((genuine.events.len(), genuine.discarded_events()), (count, 0), "{name}");
    }
}

#[tokio::test]
async fn handshake_echoes_the_challenge_for_the_right_token() {
    let get = |query: &str| Request::from(http::Request::get(format!("/webhooks/meta?{query}")).body("").unwrap());
    let good = "hub.mode=subscribe&hub.challenge=11%2B58&hub.verify_token=verify-token";
    let received = offline().receive(&get(good)).await.unwrap();
    assert_eq!((received.response.status.as_u16(), &received.response.body[..]), (200, &b"11+58"[..]));
    for bad in [
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=verify-toke",
        "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=verify-token",
        "hub.mode=subscribe&hub.verify_token=verify-token",
        "",
    ] {
        assert_eq!(offline().receive(&get(bad)).await.unwrap_err().webhook_status(), 403, "{bad}");
    }
    let mut silent = config("http://127.0.0.1:9");
    silent.verify_token = None;
    let meta = Meta::whatsapp_with(silent, &Context::new()).unwrap();
    assert!(meta.receive(&get("hub.mode=subscribe&hub.challenge=1&hub.verify_token=")).await.is_err());
}
