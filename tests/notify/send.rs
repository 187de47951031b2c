//! Requests, responses, and the length of texts.

use super::*;

#[tokio::test]
async fn request_carries_a_new_token() {
    let vector = fixture("notify_jwt");
    let case = &vector["cases"][0];
    let server = MockServer::start().await;
    let clock = VirtualClock::starting_at(Timestamp::from_secs(case["iat"].as_i64().unwrap()));
    let mut config = config(&server);
    config.api_key = civic_messaging::Secret::new(vector["api_key"].as_str().unwrap()).unwrap();
    let notify = with(config, &clock);
    answers(&server, 201, &json!({ "id": "a" })).await;
    notify.send(&text("07700 900123", "Hello")).await.unwrap();
    clock.advance(Duration::from_secs(1));
    notify.send(&text("07700 900123", "Hello")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let token = |n: usize| requests[n].headers["authorization"].to_str().unwrap().to_owned();
    assert_eq!(token(0), case["authorization"].as_str().unwrap());
    assert_ne!(token(0), token(1));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    let body =
        json!({ "phone_number": "+447700900123", "template_id": TEMPLATE, "personalisation": { "body": "Hello" } });
    assert_eq!(requests[0].body_json::<Value>().unwrap(), body);
}

#[tokio::test]
async fn invalid_message_is_refused_before_the_network() {
    let (server, _, notify) = channel().await;
    let to = Address::phone("07700 900123").unwrap();
    let short = Address::ShortCode("60777".parse().unwrap());
    let sender = |id: &str| {
        let mut options = notify::Options::default();
        options.sms_sender_id = Some(id.into());
        Message::text(to.clone(), "Hello").gateway_options(&options).unwrap()
    };
    for (message, kind, field) in [
        (Message::text(short, "Hello"), ErrorKind::InvalidRecipient, "to"),
        (text("07700 900123", &"a".repeat(919)), ErrorKind::InvalidMessage, "text"),
        (text("07700 900123", "   "), ErrorKind::InvalidMessage, "text"),
        (text("07700 900123", "Hello").reply_to("m1"), ErrorKind::Unsupported, "reply_to"),
        (Message::template(to.clone(), Template::new("bins")), ErrorKind::InvalidMessage, "template.name"),
        (
            Message::template(to.clone(), Template::new(TEMPLATE).parameter("x")),
            ErrorKind::Unsupported,
            "template.parameters",
        ),
        (Message::template(to.clone(), Template::new(TEMPLATE).header("x")), ErrorKind::Unsupported, "template"),
        (sender("Shropshire"), ErrorKind::InvalidMessage, "options.sms_sender_id"),
    ] {
        let error = notify.send(&message).await.unwrap_err();
        assert_eq!((error.kind(), error.field(), error.outcome()), (kind, Some(field), Outcome::NotSent));
    }
    assert!(server.received_requests().await.unwrap().is_empty());
    answers(&server, 201, &json!({ "id": "a" })).await;
    notify.send(&sender("8e222534-7f05-4972-86e3-17c5d9f894e2")).await.unwrap();
    let template = Template::new(TEMPLATE).named("name", "Alex").named("day", "Tuesday");
    notify.send(&Message::template(to, template)).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let body = |n: usize| requests[n].body_json::<Value>().unwrap();
    assert_eq!(body(0)["sms_sender_id"], "8e222534-7f05-4972-86e3-17c5d9f894e2");
    assert_eq!(
        (&body(1)["template_id"], &body(1)["personalisation"]),
        (&json!(TEMPLATE), &json!({ "name": "Alex", "day": "Tuesday" }))
    );
}

#[tokio::test]
async fn planned_losses_match_the_response() {
    let (server, clock, notify) = channel().await;
    for (sent, back, lost) in
        [("It’s due… 😀", "It's due... ?", 3), (" trimmed \n", "trimmed", 0), ("Dŵr", "Dŵr", 0), ("ç", "Council: c", 1)]
    {
        answers(&server, 201, &json!({ "id": "a", "content": { "body": back, "from_number": "council" } })).await;
        let message = text("07700 900123", sent);
        let accepted = notify.send(&message).await.unwrap();
        let losses = if lost > 0 { vec![Loss::Rewritten { characters: lost }] } else { Vec::new() };
        assert_eq!(accepted.losses, losses, "{sent}");
        assert_eq!(notify.plan(&message).losses(), losses, "{sent}");
    }
    // Notify charges Welsh vowels as UCS-2, and characters replaced by `?` as GSM-7.
    assert_eq!(notify.plan(&text("07700 900123", &"ŵ".repeat(71))).segments(), Some(2));
    assert_eq!(notify.plan(&text("07700 900123", &"и".repeat(71))).segments(), Some(1));
    let mut config = config(&server);
    config.unicode = true;
    let keeps = with(config, &clock);
    assert_eq!(keeps.plan(&text("07700 900123", &"и".repeat(71))).segments(), Some(2));
    assert!(keeps.plan(&text("07700 900123", "ç 😀")).losses().is_empty());
}

#[tokio::test]
async fn outcome_is_unknown_only_if_possibly_accepted() {
    let (server, clock, notify) = channel().await;
    let message = text("07700 900123", "Hello").key("bin-1");
    let reply =
        |error: &str, message: &str| json!({ "status_code": 0, "errors": [{ "error": error, "message": message }] });
    let quota = "Exceeded send limits (250000) for today";
    let left = Duration::from_secs(24 * 3600 - (13 * 3600 + 46 * 60 + 42));
    for (status, body, kind, outcome, retry) in [
        (
            429,
            reply("RateLimitError", "Exceeded rate limit for key type LIVE"),
            ErrorKind::RateLimited,
            Outcome::Rejected,
            Some(None),
        ),
        (429, reply("TooManyRequestsError", quota), ErrorKind::QuotaExceeded, Outcome::Rejected, Some(Some(left))),
        (
            400,
            reply("BadRequestError", "Can’t send to this recipient when service is in trial mode"),
            ErrorKind::Forbidden,
            Outcome::Rejected,
            None,
        ),
        (400, reply("InvalidRecipientError", "x"), ErrorKind::InvalidRecipient, Outcome::Rejected, None),
        (400, reply("SomethingNew", "x"), ErrorKind::Rejected, Outcome::Rejected, None),
        (400, json!("not its format"), ErrorKind::Rejected, Outcome::Rejected, None),
        (
            403,
            reply("BadRequestError", "Invalid token: API key not found"),
            ErrorKind::Unauthenticated,
            Outcome::Rejected,
            None,
        ),
        (500, reply("KeyError", "Internal server error"), ErrorKind::Unavailable, Outcome::Unknown, None),
        (503, json!(null), ErrorKind::Unavailable, Outcome::Unknown, None),
        (504, reply("TimeoutError", "Timeout serving request"), ErrorKind::Unavailable, Outcome::Unknown, None),
        (201, json!({ "no": "id" }), ErrorKind::Unexpected, Outcome::Unknown, None),
    ] {
        answers(&server, status, &body).await;
        let error = notify.send(&message).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
        assert_eq!(error.is_retryable().then(|| error.retry_after()), retry, "{status} {body}");
    }
    // The same quota at another hour, on a lookup, and overridden by the configuration.
    clock.advance(left - Duration::from_secs(1));
    answers(&server, 429, &reply("TooManyRequestsError", quota)).await;
    let error = notify.poll(None).await.unwrap_err();
    assert_eq!((error.outcome(), error.retry_after()), (Outcome::NotSent, Some(Duration::from_secs(1))));
    let mut config = config(&server);
    config.errors = BTreeMap::from([("TooManyRequestsError".to_owned(), ErrorClass::new(ErrorKind::Account))]);
    let error = with(config, &clock).send(&message).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable(), error.retry_after()), (ErrorKind::Account, false, None));
}

#[tokio::test]
async fn response_without_an_id_is_unknown() {
    for (body, known) in [
        (json!({ "id": "" }), false),
        (json!({ "id": null, "content": { "body": "Hello" } }), false),
        (json!({ "content": { "body": "Hello" } }), false),
        (json!({ "id": "a", "content": 7 }), true),
        (json!({ "id": "a", "content": { "body": [] } }), true),
    ] {
        let (server, _, notify) = channel().await;
        answers(&server, 201, &body).await;
        match notify.send(&text("07700 900123", "Hello")).await {
            Ok(accepted) => assert!(known && accepted.id().as_str() == "a", "{body}"),
            Err(error) => assert!(!known && error.outcome() == Outcome::Unknown, "{body} {error}"),
        }
    }
}

#[tokio::test]
async fn text_length_matches_notify() {
    let (server, _, notify) = channel().await;
    let unicode = {
        let mut config = config(&server);
        config.unicode = true;
        with(config, &VirtualClock::starting_at(recorded()))
    };
    answers(&server, 201, &json!({ "id": "a" })).await;
    for (body, fits) in [
        ("a".repeat(918), true),
        ("a".repeat(919), false),
        ("ŵ".repeat(918), true),
        ("ŵ".repeat(919), false),
        ("€".repeat(918), true),
        ("😀".repeat(459), true),
        ("😀".repeat(460), false),
        ("…".repeat(306), true),
        ("…".repeat(307), false),
        (format!(" {} \n\n", "a".repeat(918)), true),
        (format!("{}  b", "a".repeat(916)), true),
        (format!("{} \t.", "a".repeat(917)), true),
        (format!("{}\n\n\n\nb", "a".repeat(915)), true),
        (format!("{}\n\n\n\nb", "a".repeat(916)), false),
        (format!("\u{200B}\u{FEFF}{}", "a".repeat(918)), true),
        ("\u{200B}".to_owned(), false),
    ] {
        for notify in [&notify, &unicode] {
            let message = text("07700 900123", &body);
            let planned = notify.plan(&message).problems().is_empty();
            let checked = notify.check(&message).is_ok();
            let sent = notify.send(&message).await;
            assert_eq!((planned, checked, sent.is_ok()), (fits, fits, fits), "{} characters", body.chars().count());
            if let Err(error) = sent {
                assert_eq!((error.field(), error.outcome()), (Some("text"), Outcome::NotSent));
            }
        }
    }
}

#[tokio::test]
async fn plan_refuses_what_send_refuses() {
    let (_server, _, notify) = channel().await;
    let to = Address::phone("07700 900123").unwrap();
    let mut options = notify::Options::default();
    options.sms_sender_id = Some("Shropshire".into());
    for (message, field) in [
        (Message::template(to.clone(), Template::new("bins")), "template.name"),
        (Message::template(to.clone(), Template::new("x").native("notify", "bins")), "template.name"),
        (Message::text(to.clone(), "Hello").gateway_options(&options).unwrap(), "options.sms_sender_id"),
    ] {
        assert_eq!(notify.plan(&message).problems()[0].field(), Some(field));
        assert_eq!(notify.check(&message).unwrap_err().field(), Some(field));
        assert_eq!(notify.send(&message).await.unwrap_err().field(), Some(field));
    }
    let plan = notify.plan(&Message::template(to, Template::new(TEMPLATE)));
    assert_eq!((plan.segments(), plan.notes(), plan.problems().len()), (None, &[Note::UnknownSegments][..], 0));
}

#[tokio::test]
async fn template_id_must_be_a_uuid() {
    for id in [
        "bins",
        "",
        "5484cfca-668a-4c18-afb1-5ddd0e3521b",
        "5484cfca668a4c18afb15ddd0e3521b1",
        " 5484cfca-668a-4c18-afb1-5ddd0e3521b1",
    ] {
        let toml = format!(
            "gateway = \"notify\"\nmedium = \"sms\"\napi_key = \"{}\"\ntemplate_id = \"{id}\"",
            fixture("notify_jwt")["api_key"].as_str().unwrap()
        );
        let settings = civic_messaging::Settings::from_toml(&toml).unwrap();
        let error = civic_messaging::Registry::standard().connect(&settings, &Context::new()).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("template_id")), "{id}");
        assert!(error.to_string().contains("copy it from"), "{error}");
    }
}
