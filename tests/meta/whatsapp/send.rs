//! Sends, and what Meta says to them.

use super::*;

fn template() -> Template {
    Template::new("bin_day").language("en_GB")
}

#[tokio::test]
async fn indicators_match_the_recorded_requests() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/success_true.json")))
        .mount(&server)
        .await;
    let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
    let inbound = only_inbound("inbound/text.json").await;
    for (signal, name) in [(Indicator::Read, "send/mark_read.json"), (Indicator::Typing, "send/mark_read_typing.json")]
    {
        meta.send_indicator(&inbound, signal).await.unwrap();
        let requests = server.received_requests().await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&requests.last().unwrap().body).unwrap(), json_fixture(name));
    }
    // `{"success": true}` is no answer to a send: it was taken, and nobody knows under which id.
    let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::Unknown));
}

#[tokio::test]
async fn accepted_keeps_recipient_status_and_raw() {
    for (name, phone, user_id, status) in [
        ("response/send_ok_phone.json", Some("+447700900123"), None, None),
        ("response/send_ok_bsuid.json", None, Some("GB.10000000000000000001"), None),
        ("response/send_ok_phone_and_bsuid.json", Some("+447700900123"), Some("GB.10000000000000000001"), None),
        ("response/send_ok_template_held.json", Some("+447700900123"), None, Some("held_for_quality_assessment")),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_bytes(fixture(name));
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
        let accepted = meta.send_text(&resident(), "Hello").await.unwrap();
        let Some(Address::WhatsApp(user)) = &accepted.recipient else { panic!("{name}") };
        assert_eq!((user.phone().map(|p| p.as_str()), user.user_id()), (phone, user_id), "{name}");
        assert_eq!(accepted.status.as_deref(), status, "{name}");
        assert_eq!(accepted.raw, fixture(name));
    }
}

#[tokio::test]
async fn dialog360_has_the_same_wire_format() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/messages"))
        .and(header("d360-api-key", "EAAG-test-token"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/send_ok_phone.json")))
        .expect(2)
        .mount(&server)
        .await;
    let meta = Meta::whatsapp_360dialog_with(config(&server.uri()), &Context::new()).unwrap();
    let accepted = meta.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!(accepted.gateway, "360dialog");
    let flow = Flow::new("5", "Report an issue", "Start").content().unwrap();
    meta.send(&Message::new(resident(), flow)).await.unwrap();
    let hook = |token: &str| {
        let request = http::Request::post("/").header("authorization", format!("Bearer {token}"));
        Request::from(request.body(fixture("inbound/text.json")).unwrap())
    };
    assert_eq!(meta.receive(&hook(SECRET)).await.unwrap().events.len(), 1);
    assert_eq!(meta.receive(&hook("another-token")).await.unwrap_err().webhook_status(), 403);
    assert_eq!(
        meta.receive(&signed_by_meta(SECRET, fixture("inbound/text.json"))).await.unwrap_err().webhook_status(),
        401
    );
}

#[tokio::test]
async fn invalid_message_is_refused_before_the_network() {
    let server = MockServer::start().await;
    let clock = VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000));
    let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new().clock(clock)).unwrap();
    let to = resident;
    let text = |text: String| Message::text(to(), text);
    let buttons = |n: usize| {
        (0..n).fold(Choice::buttons("Which?"), |choice, n| choice.option(n.to_string(), format!("Option {n}")))
    };
    let cases: Vec<(&str, Message)> = vec![
        ("text", text(String::new())),
        ("text", text(" \n ".into())),
        ("text", text("ŵ".repeat(4097))),
        ("to", Message::text(Address::x("1").unwrap(), "Hello")),
        ("key", text("Hello".into()).key("line\nbreak")),
        ("not_after", text("Hello".into()).not_after(Timestamp::from_secs(1_794_999_999))),
        ("content", Message::media(to(), [Media::image("https://a.example/1"), Media::image("https://a.example/2")])),
        ("media.caption", Message::media(to(), [Media::image("https://a.example/1").caption("c".repeat(1025))])),
        ("media.source", Message::media(to(), [Media::image("file:///etc/passwd")])),
        ("media.source", Message::media(to(), [Media::image(MediaSource::from(MediaRef::new("twilio", "1")))])),
        (
            "media",
            Message::media(
                to(),
                [Media::image(MediaSource::Stored {
                    sha256: Digest::sha256(b""),
                    len: 5_242_881,
                    mime: "image/png".into(),
                })],
            ),
        ),
        (
            "media",
            Message::media(
                to(),
                [Media::image(MediaSource::Stored { sha256: Digest::sha256(b""), len: 5, mime: "image/tiff".into() })],
            ),
        ),
        ("template.language", Message::template(to(), Template::new("bin_day"))),
        ("template.language", Message::template(to(), Template::new("bin_day").language("en-GB"))),
        (
            "template.parameters",
            Message::template(to(), Template::new("t").language("en_GB").parameter("a").named("b", "c")),
        ),
        ("template.parameters", Message::template(to(), Template::new("t").language("en_GB").parameter("a\nb"))),
        ("choice", Message::new(to(), buttons(4))),
        ("choice", Message::new(to(), buttons(0))),
        ("choice.title", Message::new(to(), Choice::buttons("Which?").option("a", "a title of 21 chars.."))),
        ("link.url", Message::new(to(), Link::new("Pay", "Pay", "javascript:alert(1)"))),
        ("location", Message::new(to(), Location::new(91.0, 0.0))),
        ("native", Message::new(to(), civic_messaging::message::Native::new("twilio", &json!({})).unwrap())),
        ("reaction.emoji", Message::new(to(), Reaction::new("wamid.1", ""))),
        ("contacts", Message::new(to(), Content::Contacts(Vec::new()))),
        ("options.meta", {
            let mut json = serde_json::to_value(text("Hello".into())).unwrap();
            json["options"] = json!({ "meta": { "preview_url": "perhaps" } });
            serde_json::from_value(json).unwrap()
        }),
    ];
    for (field, message) in &cases {
        let error = meta.send(message).await.expect_err(field);
        assert_eq!((error.field(), error.outcome()), (Some(*field), Outcome::NotSent), "{error}");
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
    for (field, config) in [
        ("access_token", Config::new("", NUMBER)),
        ("access_token", Config::new("short", NUMBER)),
        ("app_secrets", config("http://127.0.0.1:9").app_secret(" ")),
        ("base_url", config("http://127.0.0.1:9").base_url("http://graph.facebook.com")),
    ] {
        assert_eq!(config.unwrap_err().field(), Some(field));
    }
    let mut wrong = config("http://127.0.0.1:9");
    wrong.version = "26".into();
    assert_eq!(Meta::whatsapp_with(wrong, &Context::new()).unwrap_err().field(), Some("version"));
    let mut wrong = config("http://127.0.0.1:9");
    wrong.phone_number_id = Some("+447700900123".into());
    assert_eq!(Meta::whatsapp_with(wrong, &Context::new()).unwrap_err().field(), Some("phone_number_id"));
}

#[tokio::test]
async fn header_section_and_parameter_rules_hold_offline() {
    let meta = offline();
    let new = |content: Content| Message::new(resident(), content);
    let question = || Choice::buttons("Which?").option("a", "A");
    let above = |media: Media| new(question().header(media).into());
    let filled = |template: Template| new(template.into());
    let list = |rows: Vec<Row>| new(Choice::list("Which?", "Show").section("One", rows).into());
    let link = "https://a.example/file";
    let stored = |mime: &str, len| MediaSource::Stored { sha256: Digest::sha256(b""), len, mime: mime.into() };
    let code = |index, code: &str| TemplateButton::CopyCode { index, code: code.into() };
    let suffix = |suffix: &str| TemplateButton::Url { index: 0, suffix: suffix.into() };
    let payload = |index, payload: &str| TemplateButton::QuickReply { index, payload: payload.into() };
    for (field, message) in [
        ("choice.header", above(Media::audio(link))),
        ("choice.header", above(Media::sticker(link))),
        ("choice.header", above(Media::image(link).caption("A map"))),
        ("choice.header", above(Media::image(stored("image/tiff", 5)))),
        ("choice.header", above(Media::image(stored("image/png", 5_242_881)))),
        ("choice.header", above(Media::image(stored("image/png", 0)))),
        ("choice.header.source", above(Media::image("file:///etc/passwd"))),
        ("choice.header.source", above(Media::image(MediaRef::new("twilio", "1")))),
        ("choice.header", new(question().header(Location::new(51.0, 0.0)).into())),
        ("template.header", filled(template().header(Media::audio(link)))),
        ("template.header", filled(template().header(Media::sticker(link)))),
        ("template.header", filled(template().header(Media::document(link).caption("A form")))),
        ("template.header.source", filled(template().header(Media::video("ftp://a.example/film")))),
        ("template.header", filled(template().header(Location::new(91.0, 0.0)))),
        ("template.header", filled(template().header(""))),
        ("template.header", filled(template().header("a\nb"))),
        ("template.header", filled(template().header(&*"h".repeat(61)))),
        ("template.header_name", filled(template().header("Mill Lane").named("day", "Tuesday"))),
        ("template.header_name", filled(template().header("Mill Lane").header_name("road").parameter("Tuesday"))),
        ("template.header_name", filled(template().header("Mill Lane").header_name("The Road"))),
        ("template.header_name", filled(template().header(Media::image(link)).header_name("road"))),
        ("template.header_name", filled(template().header_name("road"))),
        ("template.parameters", filled(template().parameter(""))),
        ("template.parameters", filled(template().parameter(" \u{A0}"))),
        ("template.parameters", filled(template().parameter("a\tb"))),
        ("template.parameters", filled(template().parameter("a     b"))),
        ("template.parameters", filled(template().named("First name", "Alex"))),
        ("template.name", filled(Template::new("Bin_Day").language("en_GB"))),
        ("template.name", filled(Template::new("bin-day").language("en_GB"))),
        ("template.name", filled(Template::new("b".repeat(513)).language("en_GB"))),
        ("template.native", filled(template().native("meta", "Bin Day"))),
        ("template.buttons.code", filled(template().button(code(0, &"c".repeat(16))))),
        ("template.buttons.code", filled(template().button(code(0, "")))),
        ("template.buttons", filled(template().button(code(0, "SAVE")).button(code(1, "SAVE")))),
        ("template.buttons.suffix", filled(template().button(suffix("")))),
        ("template.buttons.suffix", filled(template().button(suffix("a\nb")))),
        ("template.buttons.payload", filled(template().button(payload(0, " ")))),
        ("template.buttons.index", filled(template().button(payload(10, "stop")))),
        ("template.buttons.index", filled(template().button(payload(1, "stop")).button(payload(1, "go")))),
        ("choice", list(Vec::new())),
        (
            "choice.sections",
            new(Choice::list("Which?", "Show").section("One", []).option("a", "A").section("Two", []).into()),
        ),
        ("choice.title", list(vec![Row::new("a", "")])),
        ("choice.title", list(vec![Row::new("a", " ")])),
        ("choice.title", list(vec![Row::new("a", "t".repeat(25))])),
        ("choice.id", list(vec![Row::new("", "A")])),
        ("choice.id", list(vec![Row::new("i".repeat(201), "A")])),
        ("choice.id", new(Choice::buttons("Which?").option(" a", "A").into())),
        ("choice.description", list(vec![Row::new("a", "A").description("")])),
        ("choice.description", list(vec![Row::new("a", "A").description("d".repeat(73))])),
        ("choice", list(vec![Row::new("a", "A"), Row::new("a", "B")])),
        ("choice.sections.title", new(Choice::buttons("Which?").section("One", [Row::new("a", "A")]).into())),
        ("reaction.emoji", new(Reaction::new("wamid.1", "👍👎").into())),
        ("reaction.emoji", new(Reaction::new("wamid.1", "ok").into())),
        ("reaction.emoji", new(Reaction::new("wamid.1", "👍 ").into())),
        ("reaction.to", new(Reaction::new("", "👍").into())),
        ("reply_to", new("Hello".into()).reply_to("")),
        ("contacts", new(ContactCard::new("Helpdesk").phone(" ", "WORK").into())),
    ] {
        let error = meta.check(&message).expect_err(field);
        assert_eq!((error.field(), error.outcome()), (Some(field), Outcome::NotSent), "{message:?}: {error}");
        assert_eq!(meta.plan(&message).problems()[0].field(), Some(field), "{message:?}");
        assert_eq!(meta.send(&message).await.unwrap_err().field(), Some(field), "{message:?}");
        // The mock has the rules of the medium.
        let mocked = civic_messaging::Mock::whatsapp().check(&message);
        assert!(mocked.is_err() || field == "template.native", "{message:?}");
    }
    for good in [
        above(Media::image(link)),
        above(Media::video(link)),
        above(Media::document(stored("application/pdf", 5)).filename("form.pdf")),
        filled(template().header(Media::image(link)).named("day", "Tuesday")),
        filled(template().header("Mill Lane").parameter("Tuesday")),
        filled(template().header("Mill Lane").header_name("road").named("day", "Tuesday")),
        filled(template().header(Location::new(51.0, 0.0).name("Town Hall"))),
        filled(template().button(code(0, &"c".repeat(15))).button(payload(1, "stop"))),
        filled(Template::new("b".repeat(512)).language("en_GB")),
        filled(Template::new("The bin day").language("en_GB").native("meta", "bin_day")),
        new(Reaction::new("wamid.1", "👍🏽").into()),
        new(Reaction::remove("wamid.1").into()),
    ] {
        meta.check(&good).unwrap_or_else(|error| panic!("{good:?}: {error}"));
    }
    // Twilio files templates on WhatsApp under ids of its own, which have capitals.
    let twilio = civic_messaging::Mock::whatsapp()
        .capability(|can| can.template.iter_mut().for_each(|limits| limits.components = false));
    assert!(twilio.check(&filled(Template::new("HX0123456789abcdef0123456789abcdef"))).is_ok());
    let named = filled(template().header_name("road"));
    assert_eq!(twilio.check(&named).unwrap_err().kind(), ErrorKind::Unsupported);
}

async fn last_body(server: &MockServer) -> Value {
    serde_json::from_slice(&server.received_requests().await.unwrap().last().unwrap().body).unwrap()
}

#[tokio::test]
async fn named_template_names_the_parameter_of_its_header() {
    let (server, meta) = answering(200, fixture("response/send_ok_phone.json")).await;
    let named = template().header("Mill Lane").header_name("road").named("day", "Tuesday");
    meta.send(&Message::template(resident(), named)).await.unwrap();
    let header = json!({ "type": "text", "text": "Mill Lane", "parameter_name": "road" });
    let body = json!({ "type": "text", "text": "Tuesday", "parameter_name": "day" });
    assert_eq!(
        last_body(&server).await["template"]["components"],
        json!([{ "type": "header", "parameters": [header] }, { "type": "body", "parameters": [body] }])
    );
    let native = template().native("meta", "bin_day_2").header("Mill Lane");
    meta.send(&Message::template(resident(), native)).await.unwrap();
    let sent = last_body(&server).await;
    assert_eq!(sent["template"]["name"], "bin_day_2");
    let header = json!({ "type": "text", "text": "Mill Lane" });
    assert_eq!(sent["template"]["components"], json!([{ "type": "header", "parameters": [header] }]));
}

#[tokio::test]
async fn flow_opens_at_a_screen_unless_its_endpoint_names_one() {
    let (server, meta) = answering(200, fixture("response/send_ok_phone.json")).await;
    let flow = || Flow::new("500000000000001", "Report an issue", "Start");
    for (flow, action, payload) in [
        (flow(), "navigate", None),
        (flow().screen("START"), "navigate", Some(json!({ "screen": "START" }))),
        (flow().endpoint(), "data_exchange", None),
    ] {
        meta.send(&Message::new(resident(), flow.content().unwrap())).await.unwrap();
        let sent = last_body(&server).await;
        let parameters = &sent["interactive"]["action"]["parameters"];
        assert_eq!(parameters["flow_action"], action);
        assert_eq!(parameters.get("flow_action_payload"), payload.as_ref());
    }
    for (field, flow) in [
        ("flow.screen", flow().screen("START").endpoint()),
        ("flow.screen", flow().screen(" ")),
        ("flow.id", Flow::new("", "Report an issue", "Start")),
        ("flow.label", Flow::new("5", "Report an issue", " ")),
    ] {
        assert_eq!(flow.content().unwrap_err().field(), Some(field));
    }
}

#[tokio::test]
async fn accepted_names_the_recipient_as_meta_does() {
    let person = |phone: Option<&str>, id: Option<&str>| {
        let phone = phone.map(|digits| civic_messaging::address::Phone::from_digits(digits).unwrap());
        Some(Address::from(civic_messaging::address::WhatsAppUser::new(phone, id).unwrap()))
    };
    let id = "GB.10000000000000000001";
    for (contacts, recipient) in [
        // Brazil: the ninth digit is left out.
        (json!([{ "input": "+5511987654321", "wa_id": "551187654321" }]), person(Some("551187654321"), None)),
        (json!([{ "wa_id": "447700900123", "user_id": id }]), person(Some("447700900123"), Some(id))),
        (json!([{ "input": "+447700900123", "user_id": id }]), person(None, Some(id))),
        (json!([{ "wa_id": id }]), person(None, Some(id))),
        (json!([{ "wa_id": "447700900123", "user_id": "odd" }]), person(Some("447700900123"), None)),
        (json!([{ "wa_id": {}, "user_id": id }]), person(None, Some(id))),
        (json!([{ "wa_id": "447700900123", "user_id": [] }]), person(Some("447700900123"), None)),
        (json!([null, { "wa_id": "447700900123" }]), person(Some("447700900123"), None)),
        (json!([{ "input": "Z3JvdXA" }]), None),
        (json!([]), None),
        (json!({}), None),
        (json!(null), None),
    ] {
        let body = json!({ "contacts": contacts, "messages": [{ "id": "wamid.1", "message_status": 7 }] });
        let (_server, meta) = answering(200, body.to_string()).await;
        let accepted = meta.send_text(&resident(), "Hello").await.unwrap_or_else(|e| panic!("{body}: {e}"));
        assert_eq!((accepted.id().as_str(), &accepted.recipient), ("wamid.1", &recipient), "{body}");
        let exact = |address: &Option<Address>| match address {
            Some(Address::WhatsApp(user)) => (user.phone().cloned(), user.user_id().map(str::to_owned)),
            _ => (None, None),
        };
        assert_eq!(exact(&accepted.recipient), exact(&recipient), "{body}");
    }
}

#[tokio::test]
async fn id_that_is_empty_is_no_part_of_what_was_accepted() {
    let parts = json!({ "messages": [{ "id": "wamid.1" }, { "id": "" }, {}, { "id": "wamid.2" }] });
    let (_server, meta) = answering(200, parts.to_string()).await;
    let accepted = meta.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!(accepted.ids().map(|id| id.as_str()).collect::<Vec<_>>(), ["wamid.1", "wamid.2"]);
    for body in [json!({ "messages": [{ "id": " " }] }), json!({ "messages": [] }), json!({ "messages": [{}] })] {
        let (_server, meta) = answering(200, body.to_string()).await;
        assert_eq!(meta.send_text(&resident(), "Hello").await.unwrap_err().outcome(), Outcome::Unknown, "{body}");
    }
}
