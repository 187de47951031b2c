//! Sending: forms, options, responses and refusals.

use super::*;

#[tokio::test]
async fn text_is_sent_as_one_form() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(MESSAGES))
        .and(header(
            "authorization",
            "Basic QUNhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYToxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMg==",
        ))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .and(body_string("To=%2B447700900123&From=%2B447700900456&Body=Bin+day+%C2%A35+%26+more"))
        .respond_with(ResponseTemplate::new(201).set_body_json(resource()))
        .expect(1)
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let accepted = sms.send(&hello()).await.unwrap();
    assert_eq!(accepted.id().as_str(), SID);
    assert_eq!((accepted.state, accepted.status.as_deref()), (DeliveryState::Accepted, Some("queued")));
    assert_eq!((accepted.recipient, accepted.segments, accepted.price), (Some(resident()), Some(1), None));
    assert!(accepted.raw.starts_with(b"{"));
}

#[tokio::test]
async fn price_is_positive_and_missing_values_are_none() {
    for (change, segments, price) in [
        (json!({ "price": "-0.04000", "price_unit": "GBP" }), Some(1), Some(40_000)),
        (json!({ "price": "-0.0075", "price_unit": "usd", "num_segments": "2" }), Some(2), Some(7_500)),
        (json!({ "price": "0.01", "price_unit": "GBP" }), Some(1), Some(-10_000)),
        (json!({ "price": "free", "price_unit": "GBP", "num_segments": "0" }), None, None),
        (json!({ "price": -0.5, "price_unit": "GBP", "num_segments": 3 }), Some(3), Some(500_000)),
        (json!({ "price": -0.06810000000000001, "price_unit": "GBP", "num_segments": "3" }), Some(3), Some(68_100)),
        (json!({ "price": "-0.0681000001", "price_unit": "GBP", "num_segments": [3] }), None, Some(68_100)),
        (json!({ "price": {}, "body": 1, "status": [], "date_created": false, "from": {} }), Some(1), None),
        (json!({ "price": "-0.04", "price_unit": null, "num_segments": null }), None, None),
    ] {
        let server = answers(201, with(change.clone())).await;
        let accepted = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap();
        assert_eq!((accepted.segments, accepted.price.map(|price| price.micros())), (segments, price), "{change}");
    }
}

#[tokio::test]
async fn unreadable_acceptance_is_unknown() {
    for body in [json!({}), json!({ "sid": "" }), json!({ "sid": null }), json!([]), json!("created")] {
        let server = answers(201, body).await;
        let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.is_retryable()),
            (ErrorKind::Unexpected, Outcome::Unknown, false)
        );
    }
    let server = answers(201, json!({ "sid": SID, "status": "teleported", "new": { "field": [1] } })).await;
    let accepted = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap();
    assert_eq!((accepted.state, accepted.status.as_deref()), (DeliveryState::Accepted, Some("teleported")));
}

#[tokio::test]
async fn messaging_service_and_options_are_encoded() {
    let server = answers(201, with(json!({ "status": "scheduled", "num_segments": "0", "from": null }))).await;
    let callback = "https://sms.example.gov.uk/status";
    let config = bare().messaging_service(SERVICE).status_callback(callback);
    let sms = Twilio::sms_with(at(&server, config), &context()).unwrap();
    assert_eq!(sms.info().account.as_str(), SERVICE);
    let mut options = Options::default();
    options.validity_period = Some(600);
    options.smart_encoded = Some(true);
    options.attempt = Some(2);
    options.discard_content = true;
    options.obfuscate_address = true;
    options.shorten_urls = Some(true);
    options.send_as_mms = Some(false);
    options.send_at = Some("2026-11-23T09:00:00Z".parse().unwrap());
    let accepted = sms.send(&hello().gateway_options(&options).unwrap()).await.unwrap();
    assert_eq!((accepted.state, accepted.segments), (DeliveryState::Accepted, None));
    let expected = pairs(&[
        ("To", THEIRS),
        ("MessagingServiceSid", SERVICE),
        ("Body", "Bin day £5 & more"),
        ("ValidityPeriod", "600"),
        ("SmartEncoded", "true"),
        ("ShortenUrls", "true"),
        ("SendAsMms", "false"),
        ("Attempt", "2"),
        ("ContentRetention", "discard"),
        ("AddressRetention", "obfuscate"),
        ("ScheduleType", "fixed"),
        ("SendAt", "2026-11-23T09:00:00.000Z"),
        ("StatusCallback", callback),
    ]);
    assert_eq!(sent(&server).await, expected);
}

#[tokio::test]
async fn invalid_options_are_refused_before_the_network() {
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let change: [Change<Options>; 6] = [
        (|o| o.validity_period = Some(0), "options.twilio.validity_period"),
        (|o| o.validity_period = Some(36_001), "options.twilio.validity_period"),
        (|o| o.shorten_urls = Some(true), "options.twilio.shorten_urls"),
        (|o| o.send_at = Some(NOON), "options.twilio.send_at"),
        (|o| o.status_callback = Some("http://example.org".into()), "options.twilio.status_callback"),
        (|o| o.status_callback = Some("https://a_b.example.org".into()), "options.twilio.status_callback"),
    ];
    for (change, field) in change {
        let mut options = Options::default();
        change(&mut options);
        let message = hello().gateway_options(&options).unwrap();
        assert_eq!(sms.plan(&message).problems()[0].field(), Some(field));
        let error = sms.send(&message).await.unwrap_err();
        assert_eq!((error.field(), error.outcome(), error.gateway()), (Some(field), Outcome::NotSent, Some("twilio")));
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn not_after_limits_validity_period() {
    for (left, validity) in
        [(500, Some("1")), (1_500, Some("1")), (90_000, Some("90")), (35_999_999, Some("35999")), (36_000_000, None)]
    {
        let server = answers(201, resource()).await;
        let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
        sms.send(&hello().not_after(NOON.plus(Duration::from_millis(left)))).await.unwrap();
        let fields = sent(&server).await;
        assert_eq!(
            fields.iter().find(|(name, _)| name == "ValidityPeriod").map(|(_, v)| v.as_str()),
            validity,
            "{left}"
        );
    }
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, bare().messaging_service(SERVICE)), &context()).unwrap();
    let mut later = Options::default();
    later.send_at = Some(NOON.plus(Duration::from_secs(7_200)));
    let message = hello().gateway_options(&later).unwrap();
    let error = sms.send(&message.clone().not_after(NOON.plus(Duration::from_secs(7_199)))).await.unwrap_err();
    assert_eq!(error.field(), Some("not_after"));
    sms.send(&message.not_after(NOON.plus(Duration::from_secs(7_260)))).await.unwrap();
    assert!(sent(&server).await.contains(&("ValidityPeriod".into(), "60".into())));
}

#[tokio::test]
async fn mms_carries_several_files_by_link() {
    let server = answers(201, with(json!({ "sid": "MM11111111111111111111111111111111" }))).await;
    let sms = Twilio::sms_with(at(&server, config()), &context().publish(Shelf)).unwrap();
    let stored = StoredMedia::new(civic_messaging::media::Digest::sha256(b"x"), 1, "image/png");
    let media = [Media::image("https://example.org/a.jpg").caption("Road closed"), Media::image(stored.clone())];
    let message = Message::media(resident(), media);
    sms.send(&message).await.unwrap();
    let expected = pairs(&[
        ("To", THEIRS),
        ("From", OURS),
        ("Body", "Road closed"),
        ("MediaUrl", "https://example.org/a.jpg"),
        ("MediaUrl", "https://files.example.gov.uk/x"),
    ]);
    assert_eq!(sent(&server).await, expected);
    let ten = |count| Message::media(resident(), vec![Media::image("https://example.org/a.jpg"); count]);
    assert!(sms.check(&ten(10)).is_ok());
    assert_eq!(sms.plan(&ten(11)).parts(), 2);
    let unpublished = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    assert_eq!(unpublished.check(&message).unwrap_err().field(), Some("media.source"));
    let big = |mime, len| Message::media(resident(), [Media::image(StoredMedia::new(stored.sha256, len, mime))]);
    assert!(sms.check(&big("image/png", 5 * 1024 * 1024)).is_ok());
    assert_eq!(sms.check(&big("image/png", 5 * 1024 * 1024 + 1)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(sms.check(&big("image/webp", 500 * 1024 + 1)).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn whatsapp_prefixes_both_addresses() {
    let to = Address::whatsapp(THEIRS).unwrap();
    let sides = [("To", "whatsapp:+447700900123"), ("From", "whatsapp:+447700900456")];
    let picture = Media::image("https://example.org/a.jpg").caption("Road closed");
    let place = Location::new(52.7077, -2.7541).name("Depot").address("Mill Lane 1");
    let positional = Template::new("bin_day").native("twilio", TEMPLATE).parameter("Alex").parameter("Tue \"2\"");
    let named = Template::new(TEMPLATE).language("en_GB").named("day", "Tuesday");
    for (message, fields) in [
        (Message::text(to.clone(), "Hi"), vec![("Body", "Hi")]),
        (Message::text(resident(), "Hi"), vec![("Body", "Hi")]),
        (
            Message::media(to.clone(), [picture]),
            vec![("Body", "Road closed"), ("MediaUrl", "https://example.org/a.jpg")],
        ),
        (
            Message::new(to.clone(), place),
            vec![("Body", "Depot"), ("PersistentAction", "geo:52.7077,-2.7541|Mill Lane 1")],
        ),
        (
            Message::new(to.clone(), Location::new(52.5, -2.0)),
            vec![("Body", "52.5, -2"), ("PersistentAction", "geo:52.5,-2")],
        ),
        (
            Message::template(to.clone(), positional),
            vec![("ContentSid", TEMPLATE), ("ContentVariables", r#"{"1":"Alex","2":"Tue \"2\""}"#)],
        ),
        (
            Message::template(to.clone(), named),
            vec![("ContentSid", TEMPLATE), ("ContentVariables", r#"{"day":"Tuesday"}"#)],
        ),
        (Message::template(to.clone(), Template::new(TEMPLATE)), vec![("ContentSid", TEMPLATE)]),
    ] {
        let answer = with(json!({ "to": "whatsapp:+447700900123", "from": "whatsapp:+447700900456" }));
        let server = answers(201, answer).await;
        let whatsapp = Twilio::whatsapp_with(at(&server, config()), &context()).unwrap();
        assert_eq!(whatsapp.info().account.as_str(), OURS);
        let accepted = whatsapp.send(&message).await.unwrap();
        assert_eq!(accepted.recipient, Some(to.clone()));
        assert_eq!(sent(&server).await, pairs(&[&sides[..], &fields].concat()));
    }
}

#[tokio::test]
async fn unsupported_content_is_refused_before_the_network() {
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let whatsapp = Twilio::whatsapp_with(at(&server, config()), &context()).unwrap();
    let to = resident();
    for (channel, message, field) in [
        (&sms, Message::text(to.clone(), "a".repeat(1_601)), "text"),
        (&whatsapp, Message::text(to.clone(), "a".repeat(1_601)), "text"),
        (&sms, Message::new(to.clone(), Location::new(1.0, 1.0)), "location"),
        (&whatsapp, Message::new(to.clone(), Choice::buttons("Which?").option("a", "A")), "choice"),
        (&sms, Message::template(to.clone(), Template::new("bin_day")), "template.native"),
        (&sms, Message::template(to.clone(), Template::new("x").native("twilio", "HX1")), "template.native"),
        (&whatsapp, Message::text(to.clone(), "Hi").reply_to(SID), "reply_to"),
        (&sms, Message::text(Address::from("60777".parse::<civic_messaging::address::Sender>().unwrap()), "Hi"), "to"),
        (&sms, Message::text(Address::whatsapp("GB.1").unwrap(), "Hi"), "to"),
    ] {
        let error = channel.send(&message).await.unwrap_err();
        assert_eq!((error.field(), error.outcome()), (Some(field), Outcome::NotSent), "{error}");
        assert!(channel.plan(&message).problems().iter().any(|problem| problem.field() == Some(field)), "{field}");
    }
    assert!(sms.check(&Message::text(to.clone(), "a".repeat(1_600))).is_ok());
    let template = Message::template(to, Template::new(TEMPLATE));
    assert_eq!((sms.plan(&template).segments(), whatsapp.plan(&template).segments()), (None, Some(0)));
    assert_eq!(sms.plan(&template).notes().len(), 1);
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn refusals_are_classified_by_code() {
    use ErrorKind::{Config as Setting, *};
    use Outcome::{Rejected as No, Unknown};
    for (status, code, kind, outcome, retryable) in [
        (400, 21211, InvalidRecipient, No, false),
        (400, 21610, OptedOut, No, false),
        (400, 21608, Forbidden, No, false),
        (400, 21617, InvalidMessage, No, false),
        (400, 21659, Setting, No, false),
        (400, 21611, RateLimited, No, true),
        (400, 63016, OutsideWindow, No, false),
        (401, 20003, Unauthenticated, No, false),
        (403, 30002, Account, No, false),
        (404, 20404, NotFound, No, false),
        (429, 20429, RateLimited, No, true),
        (429, 63038, QuotaExceeded, No, true),
        (400, 99999, Rejected, No, false),
        (500, 20500, Unavailable, Unknown, false),
        (503, 20503, Unavailable, Unknown, false),
    ] {
        let text = format!("The 'To' number {THEIRS} is canary");
        let body = json!({ "code": code, "message": text, "more_info": "https://evil.example", "status": status });
        let server = answers(status, body).await;
        let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (kind, outcome, retryable), "{code}");
        assert_eq!(error.code(), Some(code.to_string().as_str()));
        assert_eq!(error.help(), Some(format!("https://www.twilio.com/docs/errors/{code}").as_str()));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("900123") && !shown.contains(TOKEN), "{shown}");
    }
}

#[tokio::test]
async fn retry_after_and_request_id_come_from_headers() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "7").insert_header("twilio-request-id", "RQ1");
    Mock::given(method("POST")).respond_with(busy.set_body_string("<html>")).mount(&server).await;
    let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert_eq!((error.code(), error.help(), error.request_id()), (None, None, Some("RQ1")));

    let server = answers(400, json!({ "code": "21612" })).await;
    let mut config = at(&server, config());
    config.errors.insert("21612".into(), civic_messaging::error::ErrorClass::new(ErrorKind::InvalidRecipient));
    let error = Twilio::sms_with(config, &context()).unwrap().send(&hello()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRecipient, Some("21612")));
}
