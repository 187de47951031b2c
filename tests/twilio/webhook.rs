//! Ownership, verification and unknown webhooks.

use super::*;

#[tokio::test]
async fn events_belong_to_our_address() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let by_service = Twilio::sms_with(bare().messaging_service(SERVICE), &context()).unwrap();
    let other = "MGdddddddddddddddddddddddddddddddd";
    for (channel, change, account) in [
        (&sms, &[("To", "+447700900789")][..], "+447700900789"),
        (&sms, &[("MessagingServiceSid", other)], OURS),
        (&by_service, &[("MessagingServiceSid", SERVICE)], SERVICE),
        (&by_service, &[("MessagingServiceSid", other)], other),
        (&by_service, &[], SERVICE),
    ] {
        assert_eq!(one(channel, &inbound(change)).await.envelope().account.as_str(), account, "{change:?}");
    }
}

#[tokio::test]
async fn events_of_unowned_accounts_are_discarded() {
    let sub = "ACeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
    let mut config = config();
    config
        .previous_auth_tokens
        .push(SigningSecret::for_accounts(Secret::new("token-of-the-subaccount").unwrap(), [sub.into()]));
    config.account_sid = ACCOUNT.to_uppercase();
    let sms = Twilio::sms_with(config, &context()).unwrap();
    for (token, account, kept) in [
        (TOKEN, ACCOUNT, true),
        (TOKEN, sub, false),
        ("token-of-the-subaccount", sub, true),
        ("token-of-the-subaccount", ACCOUNT, false),
    ] {
        let received = sms.receive(&signed(token, &inbound(&[("AccountSid", account)]))).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (usize::from(kept), usize::from(!kept)));
        assert_eq!(received.response.status, 200);
    }
}

#[tokio::test]
async fn only_auth_tokens_verify_webhooks() {
    let (api_secret, old) = ("secret-of-the-api-key", "the-token-until-yesterday");
    let mut config = config().api_key("SKffffffffffffffffffffffffffffffff", api_secret).unwrap();
    config.previous_auth_tokens.push(key(old));
    let sms = Twilio::sms_with(config.clone(), &context()).unwrap();
    assert!(sms.receive(&signed(TOKEN, INBOUND)).await.is_ok());
    assert!(sms.receive(&signed(old, INBOUND)).await.is_ok());
    for forged in [api_secret, "another-secret", ACCOUNT] {
        let error = sms.receive(&signed(forged, INBOUND)).await.unwrap_err();
        assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, 403));
    }
    let unsigned = http::Request::post("/twilio").body("From=%2B447700900123").unwrap();
    assert_eq!(sms.receive(&unsigned.into()).await.unwrap_err().webhook_status(), 401);
    let strict = Twilio::sms_with(config.shared_key("webhooks-shared-key").unwrap(), &context()).unwrap();
    assert_eq!(strict.receive(&signed(TOKEN, INBOUND)).await.unwrap_err().webhook_status(), 403);
}

#[tokio::test]
async fn receive_requires_public_url() {
    let mut config = config();
    config.public_url = None;
    let sms = Twilio::sms_with(config, &context()).unwrap();
    assert!(!sms.info().capability.receive);
    let error = sms.receive(&signed(TOKEN, INBOUND)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.field(), error.webhook_status().as_u16()),
        (ErrorKind::Config, Some("public_url"), 503)
    );
    assert_eq!(Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).covers(), SignatureCoverage::UrlAndForm);
}

#[tokio::test]
async fn get_webhook_has_its_fields_in_the_query() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(INBOUND).finish();
    let target = format!("/twilio?{query}");
    let signature = Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).sign(&target, b"").unwrap();
    let request = http::Request::get(&target).header("x-twilio-signature", signature).body("").unwrap();
    let received = sms.receive(&request.into()).await.unwrap();
    assert_eq!(received.events[0].as_inbound().unwrap().text(), Some("Hello ŵ 😀 & more"));
    assert_eq!(*received.events[0].envelope().raw.as_bytes(), query);
}

#[tokio::test]
async fn unknown_webhooks_are_kept_whole() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for fields in [
        &[("Colour", "red")][..],
        &[("AccountSid", ACCOUNT), ("From", THEIRS)],
        &inbound(&[("From", "rcs:agent_1")]),
        &inbound(&[("From", "whatsapp:not a person")]),
        &[("MessageStatus", "sent"), ("To", THEIRS)],
    ] {
        let event = one(&sms, fields).await;
        let Event::Unrecognised(unrecognised) = &event else { panic!("{event:?}") };
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        assert_eq!((unrecognised.what.as_str(), unrecognised.envelope.raw.as_bytes()), ("form", &Bytes::from(body)));
        assert_eq!(unrecognised.envelope.account.as_str(), OURS);
    }
    // A text in JSON must not become fields of a form.
    let json = format!(r#"{{"text":"&MessageSid={SID}&From=%2B447700900123&Body=forged&x="}}"#);
    let target = format!("/twilio?bodySHA256={}", civic_messaging::media::Digest::sha256(json.as_bytes()));
    let signature = Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).sign(&target, b"").unwrap();
    let request = http::Request::post(&target).header("x-twilio-signature", signature).body(json.clone()).unwrap();
    let received = sms.receive(&request.into()).await.unwrap();
    assert!(
        matches!(&received.events[..], [Event::Unrecognised(u)] if u.what == "json" && *u.envelope.raw.as_bytes() == json)
    );
}
