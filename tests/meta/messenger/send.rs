//! Sends, and files of residents.

use super::*;

async fn answering(status: u16, body: Value) -> MockServer {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_json(body);
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn human_agent_message_carries_its_tag() {
    let server = MockServer::start().await;
    let body: Value = serde_json::from_slice(&fixture("send_human_agent.json")).unwrap();
    let answer = ResponseTemplate::new(200).set_body_bytes(fixture("send_ok.json"));
    let messages = Mock::given(method("POST")).and(path(format!("/v26.0/{PAGE}/messages")));
    let messages = messages.and(header("authorization", "Bearer EAAG-page-token")).and(body_json(body));
    messages.respond_with(answer).expect(1).mount(&server).await;
    let mut typed = Options::default();
    typed.human_agent = true;
    let message =
        Message::text(person(), "An officer replies").purpose(Purpose::Reply).gateway_options(&typed).unwrap();
    let accepted = at(&server).send(&message).await.unwrap();
    assert_eq!((accepted.id().as_str(), accepted.recipient.as_ref()), ("m_OUT_1", Some(&person())));
    // The rule says when it is needed.
    let week = window(Some(AT), AT + 24 * 3_600_000);
    assert_eq!(week, MessagingWindow::HumanAgent { until_ms: AT + 7 * 24 * 3_600_000 });
}

#[tokio::test]
async fn options_of_the_other_medium_are_refused_before_the_network() {
    let server = answering(200, json!({ "message_id": "m_OUT_1" })).await;
    let options = |set: fn(&mut Options)| {
        let mut options = Options::default();
        set(&mut options);
        options
    };
    for (field, set) in [
        ("options.meta.preview_url", (|options| options.preview_url = Some(false)) as fn(&mut Options)),
        ("options.meta.recipient_identity_key_hash", |options| options.recipient_identity_key_hash = Some("a".into())),
    ] {
        let message = Message::text(person(), "Hello").gateway_options(&options(set)).unwrap();
        let error = at(&server).send(&message).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.field(), error.outcome()),
            (ErrorKind::InvalidMessage, Some(field), Outcome::NotSent)
        );
    }
    let config = Config::new("EAAG-test-token", "200000000000001").unwrap().base_url(&server.uri()).unwrap();
    let whatsapp = Meta::whatsapp_with(config, &Context::new()).unwrap();
    let typed = options(|options| options.human_agent = true);
    let message = Message::text(Address::phone("07700 900123").unwrap(), "Hello").gateway_options(&typed).unwrap();
    let error = whatsapp.send(&message).await.unwrap_err();
    assert_eq!((error.field(), error.outcome()), (Some("options.meta.human_agent"), Outcome::NotSent));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn closed_window_differs_from_a_missing_permission() {
    let error = |subcode: Value, words: &str| json!({ "error": { "message": words, "type": "OAuthException", "code": 10, "error_subcode": subcode, "fbtrace_id": "A1" } });
    let closed = "(#10) This message is sent outside of allowed window. Learn more about the new policy here: …";
    for (body, kind) in [
        (error(2_018_278.into(), "This message is sent to 6000000000000001"), ErrorKind::OutsideWindow),
        (error("2018065".into(), ""), ErrorKind::OutsideWindow),
        (error(Value::Null, closed), ErrorKind::OutsideWindow),
        (error(json!({}), &closed.to_uppercase()), ErrorKind::OutsideWindow),
        (error(1_893_063.into(), closed), ErrorKind::Account),
        (error(Value::Null, "(#10) Application does not have permission for this action"), ErrorKind::Forbidden),
        (json!({ "error": { "code": 10, "message": ["outside of allowed window"] } }), ErrorKind::Forbidden),
    ] {
        let server = answering(400, body.clone()).await;
        let error = at(&server).send_text(&person(), "Your report is logged.").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.code()), (kind, Outcome::Rejected, Some("10")), "{body}");
        assert!(!error.is_retryable() && error.help().unwrap().contains("messenger-platform"));
        // Words of ours, that say what can still be done.
        let shown = format!("{error} {error:?}");
        assert_eq!(shown.contains("human_agent"), kind == ErrorKind::OutsideWindow, "{shown}");
        assert!(!shown.contains("allowed window") && !shown.contains(PERSON), "{shown}");
    }
}

#[tokio::test]
async fn throttle_has_a_wait_and_configured_code_wins() {
    let server = answering(400, json!({ "error": { "code": 613, "message": "too fast" } })).await;
    let error = at(&server).send_text(&person(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after().unwrap().as_secs()), (ErrorKind::RateLimited, 60));
    let server = answering(400, json!({ "error": { "code": 551, "message": "not available" } })).await;
    let settings = json!({
        "gateway": "meta", "medium": "messenger", "access_token": "EAAG-page-token", "page_id": PAGE,
        "base_url": server.uri(), "errors": { "551": { "kind": "opted_out" } },
    });
    let meta =
        Registry::standard().connect(&Settings::from_json(&settings.to_string()).unwrap(), &Context::new()).unwrap();
    assert_eq!(meta.send_text(&person(), "Hello").await.unwrap_err().kind(), ErrorKind::OptedOut);
}

#[tokio::test]
async fn response_without_an_id_is_unknown() {
    for body in [json!({ "recipient_id": PERSON }), json!({ "message_id": "" }), json!({ "message_id": null })] {
        let server = answering(200, body).await;
        let error = at(&server).send_text(&person(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::Unknown));
    }
}

#[tokio::test]
async fn unsupported_content_is_refused_before_the_network() {
    let meta = offline();
    // A caption goes before the file, as a text of its own; in one send there is no room for both.
    let captioned = Message::media(person(), [Media::image("https://example.org/map.png").caption("Road closed")]);
    let parts = meta.plan(&captioned.clone().key("case-1")).split().unwrap();
    assert_eq!(parts.iter().map(|part| part.key.as_deref().unwrap()).collect::<Vec<_>>(), ["case-1/1", "case-1/2"]);
    assert!(matches!(&parts[0].content, Content::Text(text) if text == "Road closed"));
    assert_eq!(meta.send(&captioned).await.unwrap_err().field(), Some("content"));

    let buttons = || Choice::buttons("Keep this appointment?").option("keep", "Keep");
    let many = (0..14).fold(Choice::buttons("Which?"), |choice, n| choice.option(n.to_string(), format!("Day {n}")));
    let list = || Message::new(person(), Choice::list("Which day?", "Days").option("mon", "Monday"));
    let stored = civic_messaging::media::StoredMedia::new(civic_messaging::media::Digest::sha256(b"a"), 1, "image/png");
    for (field, kind, message) in [
        ("choice.header", ErrorKind::Unsupported, Message::new(person(), buttons().header("Appointment"))),
        (
            "choice.header",
            ErrorKind::Unsupported,
            Message::new(person(), buttons().header(Media::image("https://example.org/map.png"))),
        ),
        ("choice.footer", ErrorKind::Unsupported, Message::new(person(), buttons().footer("Example Council"))),
        ("choice", ErrorKind::InvalidMessage, Message::new(person(), many)),
        ("choice", ErrorKind::Unsupported, list()),
        ("media", ErrorKind::Unsupported, Message::media(person(), [Media::sticker("https://example.org/s.webp")])),
        // Nothing publishes it.
        ("media.source", ErrorKind::Unsupported, Message::media(person(), [Media::image(stored)])),
    ] {
        let error = meta.send(&message).await.unwrap_err();
        assert_eq!((error.field(), error.kind(), error.outcome()), (Some(field), kind, Outcome::NotSent), "{error}");
    }
    let lines = meta.plan(&list().allow(Degradation::ChoiceToText)).split().unwrap();
    assert_eq!(lines[0].content, Content::from("Which day?\n1. Monday"));
    // What a resident sent has no id that Meta would know.
    let theirs = recorded("inbound_image.json").await[0].as_inbound().unwrap().media()[0].clone();
    let error = meta.send(&Message::media(person(), [Media::image(theirs)])).await.unwrap_err();
    assert_eq!((error.field(), error.outcome()), (Some("media.source"), Outcome::NotSent));
}

#[tokio::test]
async fn file_is_fetched_by_its_url_without_the_token() {
    let server = MockServer::start().await;
    let photo = ResponseTemplate::new(200).set_body_raw("a photo", "image/jpeg");
    Mock::given(method("GET")).and(path("/1.jpg")).respond_with(photo).mount(&server).await;
    let mut events = recorded("inbound_image.json").await;
    let Some(Event::Inbound(inbound)) = events.pop() else { panic!() };
    let mut file = inbound.media()[0].clone();
    file.url = Some(format!("{}/1.jpg", server.uri()));
    let fetched = at(&server).fetch_media(&file).await.unwrap();
    assert_eq!(fetched.mime(), Some("image/jpeg"));
    assert_eq!(fetched.bytes().await.unwrap(), "a photo");
    let asked = server.received_requests().await.unwrap();
    assert!(asked.len() == 1 && !asked[0].headers.contains_key("authorization"));
    file.url = None;
    assert_eq!(at(&server).fetch_media(&file).await.unwrap_err().field(), Some("media.url"));
    // As in life, where the base URL is not loopback: another host is not asked.
    let meta =
        Meta::messenger_with(config(), &Context::with_transport(civic_messaging::transport::NoTransport)).unwrap();
    for (url, kind) in [
        ("https://scontent-lhr8-1.xx.fbcdn.net/v/1.jpg?oh=1", ErrorKind::Unavailable),
        ("https://cdn.fbsbx.com/v/permit.pdf?oh=1", ErrorKind::Unavailable),
        ("https://scontent.example.org/1.jpg", ErrorKind::Forbidden),
    ] {
        file.url = Some(url.to_owned());
        assert_eq!(meta.fetch_media(&file).await.unwrap_err().kind(), kind, "{url}");
    }
}
