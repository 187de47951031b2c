//! Conformance of WhatsApp through Meta's Cloud API and 360dialog, and of Messenger.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::event::{Envelope, InboundContent, Raw};
use civic_messaging::health::CheckStatus;
use civic_messaging::media::{Digest, Publish, StoredMedia};
use civic_messaging::message::{
    Choice, ContactCard, InfoRequest, Link, Location, Media, MediaRef, MediaSource, Native, Reaction, Row, Template,
    TemplateButton,
};
use civic_messaging::meta::{Config, Flow, Options};
use civic_messaging::testing::{Exchange, ExpectedEvent, Part, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::webhook::SignatureEncoding;
use civic_messaging::{Address, Channel, ErrorKind, Inbound, Indicator, Medium, Message, Meta, Purpose, Result};
use serde_json::{Value, json};

const NUMBER: &str = "200000000000001";
const TOKEN: &str = "EAAG-test-token";

/// WhatsApp through the Cloud API.
pub(crate) struct CloudApi;

/// WhatsApp through 360dialog: the same protocol with another path and header, and a token for webhooks.
pub(crate) struct Dialog360;

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/whatsapp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn text_of(name: &str) -> String {
    String::from_utf8(fixture(name).to_vec()).unwrap()
}

fn config(setup: &Setup) -> Result<Config> {
    let mut config = Config::new(TOKEN, NUMBER)?.verify_token("verify-token")?.base_url(&setup.base_url)?;
    config.business_account_id = Some("100000000000001".into());
    config.app_secrets = setup.webhook_secrets.clone();
    Ok(config)
}

impl Subject for CloudApi {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Meta::whatsapp_with(config(setup)?, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned(), "verify-token".to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec!["verify-token".to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::hmac_sha256("x-hub-signature-256", "sha256=", SignatureEncoding::Hex)
    }

    fn exchanges(&self) -> Vec<Exchange> {
        exchanges("meta", "/v26.0", &format!("/v26.0/{NUMBER}"), ("authorization", "Bearer EAAG-test-token"))
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let handshake = |query: &str| Webhook::get(query).unsigned();
        let mut webhooks = webhooks();
        webhooks.extend([
            handshake("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-token")
                .replies(200, "1158201444"),
            handshake("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-toke").refused(),
            handshake("hub.mode=unsubscribe&hub.challenge=1158201444&hub.verify_token=verify-token").refused(),
        ]);
        webhooks
    }
}

impl Subject for Dialog360 {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Meta::whatsapp_360dialog_with(config(setup)?, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned(), "verify-token".to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec!["verify-token".to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::bearer()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        exchanges("360dialog", "", "", ("d360-api-key", TOKEN))
    }

    fn webhooks(&self) -> Vec<Webhook> {
        webhooks()
    }
}

fn resident() -> Address {
    Address::phone("07700 900123").unwrap()
}

fn text_options(preview: bool) -> Options {
    let mut options = Options::default();
    options.preview_url = Some(preview);
    options
}

fn exchanges(gateway: &'static str, root: &str, number: &str, auth: (&str, &str)) -> Vec<Exchange> {
    let post = |path: &str| Step::post(format!("{number}{path}")).header(auth.0, auth.1);
    let get = |path: &str| Step::get(path).header(auth.0, auth.1);
    let send = |name: &str, message: Message, answer: &str| {
        let step = post("/messages").header("content-type", "application/json").json(text_of(name));
        Exchange::send(message).step(step.answers(200, fixture(answer))).accepts(["wamid.FIXTURE_OUT_0001"])
    };
    let mut all: Vec<_> =
        sends(gateway).into_iter().map(|(name, message)| send(name, message, "response/send_ok_phone.json")).collect();
    for answer in ["send_ok_bsuid", "send_ok_phone_and_bsuid", "send_ok_template_held"] {
        let message =
            Message::text(resident(), "Your missed-bin report is logged.").gateway_options(&text_options(false));
        all.push(send("send/text.json", message.unwrap(), &format!("response/{answer}.json")));
    }

    let hello = || Message::text(resident(), "Your report is logged.");
    for (name, status, kind, retryable) in refusals() {
        let code = name.split_once('/').unwrap().1.split('_').next().unwrap();
        let refused = Exchange::send(hello()).step(post("/messages").answers(status, fixture(name))).fails(kind);
        let refused = if code == "error" { refused } else { refused.code(code) };
        all.push(if retryable { refused.retryable() } else { refused });
    }
    // With a 5xx, only a throttle means "not accepted".
    let faulty = |name: &str| Exchange::send(hello()).step(post("/messages").answers(500, fixture(name)));
    all.push(faulty("error/130429_throughput.json").fails(ErrorKind::RateLimited).retryable());
    all.push(faulty("error/131000_unknown.json").fails(ErrorKind::Unavailable).unknown());

    let envelope = Envelope::new(gateway, Medium::WhatsApp, NUMBER.into(), CloudApi.now(), Raw::default());
    let inbound =
        Inbound::new(envelope, "wamid.FIXTURE_IN_0001", resident(), InboundContent::Text("Hello there".into()));
    for (signal, name) in [(Indicator::Read, "send/mark_read.json"), (Indicator::Typing, "send/mark_read_typing.json")]
    {
        let step = post("/messages").json(text_of(name)).answers(200, fixture("response/success_true.json"));
        all.push(Exchange::send_indicator(inbound.clone(), signal).step(step));
    }

    let photo = "a photo of a fallen tree";
    all.push(
        Exchange::upload(Media::image("https://example.org/tree.jpg"), "image/jpeg", photo)
            .step(
                post("/media")
                    .multipart([
                        Part::text("messaging_product", "whatsapp"),
                        Part::text("type", "image/jpeg"),
                        Part::file("file", "image.jpg", "image/jpeg", photo),
                    ])
                    .answers(200, fixture("response/media_upload.json")),
            )
            .media_id("900000000000010"),
    );
    let mut at_once = MediaRef::new(gateway, "900000000000001");
    at_once.url = Some("{base}/files/1?mid=1".to_owned());
    at_once.sha256 = Some(Digest::sha256(photo.as_bytes()));
    let file = || get("/files/1?mid=1").answers(200, photo);
    all.push(Exchange::fetch(at_once.clone()).step(file()).file(photo));
    // The URL in a webhook is valid for five minutes; the id returns a new one.
    let mut located: serde_json::Value = serde_json::from_slice(&fixture("response/media_get_int_size.json")).unwrap();
    located["url"] = "{base}/files/1?mid=1".into();
    located["sha256"] = Digest::sha256(photo.as_bytes()).to_string().into();
    let locate = || get(&format!("{root}/900000000000001")).answers(200, located.to_string());
    all.push(Exchange::fetch(MediaRef::new(gateway, "900000000000001")).step(locate()).step(file()).file(photo));
    let expired = get("/files/1?mid=1").answers(404, "");
    all.push(Exchange::fetch(at_once).step(expired).step(locate()).step(file()).file(photo));

    let health = |step: Step| Exchange::health().step(step);
    let request = || {
        let fields = "?fields=id,quality_rating,whatsapp_business_manager_messaging_limit";
        get(&format!("{number}{fields}"))
    };
    if !number.is_empty() {
        all.push(
            health(request().answers(200, r#"{ "id": "200000000000001", "quality_rating": "RED" }"#))
                .health_check("credentials", CheckStatus::Pass)
                .health_check("quality", CheckStatus::Warn),
        );
        all.push(
            health(request().answers(401, fixture("error/190_token_expired.json")))
                .health_check("credentials", CheckStatus::Fail),
        );
    }
    all
}

fn refusals() -> Vec<(&'static str, u16, ErrorKind, bool)> {
    use ErrorKind::*;
    vec![
        ("error/100_invalid_parameter.json", 400, InvalidMessage, false),
        ("error/10_permission.json", 403, Forbidden, false),
        ("error/130429_throughput.json", 429, RateLimited, true),
        ("error/131000_unknown.json", 400, Unavailable, true),
        ("error/131009_parameter_value.json", 400, InvalidMessage, false),
        ("error/131030_not_in_allowed_list.json", 400, Config, false),
        ("error/131031_account_locked.json", 403, Account, false),
        ("error/131047_window_closed.json", 400, OutsideWindow, false),
        ("error/131056_pair_rate.json", 400, RateLimited, true),
        ("error/131062_bsuid_not_supported.json", 400, InvalidRecipient, false),
        ("error/132000_template_param_count.json", 400, InvalidMessage, false),
        ("error/132001_template_missing.json", 404, InvalidMessage, false),
        ("error/133010_not_registered.json", 400, Config, false),
        ("error/190_token_expired.json", 401, Unauthenticated, false),
        ("error/1_user_titles.json", 400, Unavailable, true),
        ("error/368_policy_block.json", 403, Account, false),
        ("error/4_app_rate_transient.json", 400, RateLimited, true),
        ("error/80007_waba_rate.json", 400, RateLimited, true),
        ("error/error_data_as_string.json", 400, InvalidMessage, false),
    ]
}

fn webhooks() -> Vec<Webhook> {
    let post = |name: &str| Webhook::json(fixture(name));
    let mut all = vec![
        post("inbound/text.json").returns_events([ExpectedEvent::text(
            "wamid.FIXTURE_IN_0001",
            "When is my bin collected?",
        )
        .from("GB.10000000000000000001")]),
        post("status/sent_with_callback_data.json"),
        post("batch/two_entries_messages_and_statuses.json"),
        post("batch/out_of_order_statuses.json"),
        post("inbound/unknown_future_type.json"),
        post("status/unknown_future_status.json"),
        post("status/played.json"),
        post("status/failed_131026_undeliverable.json"),
        post("inbound/system_user_changed_number.json"),
        post("account/message_template_status_update_rejected.json"),
        post("account/user_preferences_stop.json"),
    ];
    // The others must yield events and keep the invariants; their content is covered by tests/meta/whatsapp/.
    for folder in ["inbound", "status", "account"] {
        let path = format!("{}/tests/fixtures/whatsapp/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        all.extend(names.iter().map(|name| post(&format!("{folder}/{}", name.to_str().unwrap()))));
    }
    all
}

/// Each recorded request with its message.
fn sends(gateway: &'static str) -> Vec<(&'static str, Message)> {
    let held = |id: &str| MediaSource::from(MediaRef::new(gateway, id));
    let to = resident;
    let media = |media: Media| Message::media(to(), [media]);
    let template = |template: Template| Message::template(to(), template.language("en_GB"));
    vec![
        ("send/audio_by_id.json", media(Media::audio(held("900000000000012")))),
        ("send/audio_voice.json", media(Media::audio(held("900000000000013")).voice())),
        (
            "send/contacts.json",
            Message::new(
                to(),
                ContactCard::new("Council Helpdesk").first_name("Council").phone("+441632960001", "WORK"),
            ),
        ),
        (
            "send/document_by_id.json",
            media(Media::document(held("900000000000011")).filename("permit.pdf").caption("Your permit")),
        ),
        ("send/image_by_id.json", media(Media::image(held("900000000000010")))),
        ("send/image_by_link.json", media(Media::image("https://example.org/map.png").caption("Map"))),
        (
            "send/interactive_button.json",
            Message::new(
                to(),
                Choice::buttons("Keep this appointment?")
                    .option("keep", "Keep")
                    .option("cancel", "Cancel")
                    .footer("Example Council"),
            ),
        ),
        (
            "send/interactive_cta_url.json",
            Message::new(to(), Link::new("Pay your council tax", "Pay now", "https://example.org/pay")),
        ),
        (
            "send/interactive_flow.json",
            Message::new(
                to(),
                Flow::new("500000000000001", "Report an issue", "Start")
                    .token("tok-1")
                    .screen("START")
                    .content()
                    .unwrap(),
            ),
        ),
        (
            "send/interactive_list.json",
            Message::new(
                to(),
                Choice::list("Choose a slot", "View slots")
                    .section("Monday", [Row::new("m9", "09:00").description("Bulky waste"), Row::new("m10", "10:00")])
                    .header("Slots"),
            ),
        ),
        ("send/interactive_location_request.json", Message::new(to(), InfoRequest::location("Where is the pothole?"))),
        (
            "send/interactive_request_contact_info.json",
            Message::new(to(), InfoRequest::contact("Please share your number")),
        ),
        (
            "send/location.json",
            Message::new(to(), Location::new(51.50072, -0.12462).name("Town Hall").address("1 High Street")),
        ),
        ("send/reaction.json", Message::new(to(), Reaction::new("wamid.FIXTURE_IN_0001", "👍"))),
        ("send/reaction_remove_unverified.json", Message::new(to(), Reaction::remove("wamid.FIXTURE_IN_0001"))),
        ("send/sticker_by_id.json", media(Media::sticker(held("900000000000014")))),
        (
            "send/template_authentication_otp.json",
            template(
                Template::new("login_code")
                    .parameter("123456")
                    .button(TemplateButton::Url { index: 0, suffix: "123456".into() }),
            ),
        ),
        (
            "send/template_document_header_quick_reply.json",
            template(
                Template::new("permit_issued")
                    .header(Media::document(held("900000000000011")).filename("permit.pdf"))
                    .button(TemplateButton::QuickReply { index: 0, payload: "STOP".into() })
                    .button(TemplateButton::Url { index: 1, suffix: "permit/123".into() }),
            ),
        ),
        (
            "send/template_named.json",
            template(Template::new("bin_day_named").named("first_name", "Alex").named("day", "Tuesday")),
        ),
        ("send/template_no_params.json", Message::template(to(), Template::new("hello_world").language("en_US"))),
        (
            "send/template_positional.json",
            template(Template::new("bin_day_reminder").parameter("Alex").parameter("Tuesday")),
        ),
        (
            "send/text.json",
            Message::text(to(), "Your missed-bin report is logged.").gateway_options(&text_options(false)).unwrap(),
        ),
        (
            "send/text_preview_reply_callback.json",
            Message::text(to(), "See https://example.org/bins")
                .gateway_options(&text_options(true))
                .unwrap()
                .reply_to("wamid.FIXTURE_IN_0001")
                .key("case-4711"),
        ),
        (
            "send/text_to_bsuid.json",
            Message::text(Address::whatsapp("GB.10000000000000000001").unwrap(), "Reply to a hidden number"),
        ),
        (
            "send/text_to_group.json",
            Message::text(Address::conversation(Medium::WhatsApp, "Z3JvdXAtZml4dHVyZQ").unwrap(), "Hello all"),
        ),
        ("send/video_by_link.json", media(Media::video("https://example.org/v.mp4").caption("How to"))),
    ]
}

/// A page on Messenger.
pub(crate) struct Messenger;

const PAGE: &str = "7000000000000001";
const PERSON: &str = "6000000000000001";

/// Publishes stored files at a fixed URL.
#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Publish for Shelf {
    async fn publish(&self, _: &Media) -> Result<String> {
        Ok("https://files.example.gov.uk/map.png".to_owned())
    }
}

impl Subject for Messenger {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let mut config = Config::for_page(TOKEN, PAGE)?.verify_token("verify-token")?.base_url(&setup.base_url)?;
        config.app_secrets = setup.webhook_secrets.clone();
        Ok(Arc::new(Meta::messenger_with(config, &setup.context.clone().publish(Shelf))?))
    }

    fn secrets(&self) -> Vec<String> {
        CloudApi.secrets()
    }

    fn signing_secrets(&self) -> Vec<String> {
        CloudApi.signing_secrets()
    }

    fn signer(&self) -> Signer {
        CloudApi.signer()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let post = || Step::post(format!("/v26.0/{PAGE}/messages")).header("authorization", "Bearer EAAG-test-token");
        let mut all: Vec<_> = messenger_sends()
            .into_iter()
            .map(|(body, message)| {
                let step = post().header("content-type", "application/json").json(body);
                let stored = message.1;
                let send = Exchange::send(message.0).step(step.answers(200, messenger_fixture("send_ok.json")));
                if stored { send.stored("image/png", "a map") } else { send }.accepts(["m_OUT_1"])
            })
            .collect();
        let hello = || to_person("Your report is logged.");
        // A `user_ref` has no `recipient_id`.
        all.push(Exchange::send(hello()).step(post().answers(200, r#"{"message_id":"m_OUT_2"}"#)).accepts(["m_OUT_2"]));
        for (status, code, subcode, words, kind, retryable) in messenger_refusals() {
            let body = json!({ "error": {
                "message": format!("(#{code}) {words}"), "type": "OAuthException", "code": code,
                "error_subcode": subcode, "fbtrace_id": "AFixtureTrace",
            } });
            let refused = Exchange::send(hello()).step(post().answers(status, body.to_string())).fails(kind);
            let refused = refused.code(code.to_string());
            let refused = if retryable { refused.retryable() } else { refused };
            let throttled = kind == ErrorKind::RateLimited && status == 400;
            all.push(if throttled { refused.retry_after(Duration::from_secs(60)) } else { refused });
        }
        // With a 5xx, only a throttle means "not accepted".
        let faulty = |code| post().answers(500, json!({ "error": { "code": code } }).to_string());
        all.push(Exchange::send(hello()).step(faulty(613)).fails(ErrorKind::RateLimited).retryable());
        all.push(Exchange::send(hello()).step(faulty(1200)).fails(ErrorKind::Unavailable).unknown());

        let envelope = Envelope::new("meta", Medium::Messenger, PAGE.into(), self.now(), Raw::default());
        let inbound = Inbound::new(envelope, "m_FIXTURE_1", person(), InboundContent::Text("Hello council".into()));
        for (signal, action) in [(Indicator::Read, "mark_seen"), (Indicator::Typing, "typing_on")] {
            let body = json!({ "recipient": { "id": PERSON }, "sender_action": action }).to_string();
            let step = post().json(body).answers(200, json!({ "recipient_id": PERSON }).to_string());
            all.push(Exchange::send_indicator(inbound.clone(), signal).step(step));
        }
        let mut photo = MediaRef::new("meta", "m_FIXTURE_3/0");
        photo.url = Some("{base}/v/t1.15752-9/1.jpg?oh=1".to_owned());
        let file = Step::get("/v/t1.15752-9/1.jpg?oh=1").answers(200, "a photo of a fallen tree");
        all.push(Exchange::fetch(photo).step(file).file("a photo of a fallen tree"));
        all
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let post = |name: &str| Webhook::json(messenger_fixture(name));
        let handshake = |query: &str| Webhook::get(query).unsigned();
        vec![
            post("inbound_text.json")
                .returns_events([ExpectedEvent::text("m_FIXTURE_1", "Hello council").from(PERSON)]),
            post("inbound_quick_reply.json"),
            post("inbound_image.json"),
            post("inbound_reply_to.json"),
            post("postback.json"),
            post("reaction.json"),
            post("echo.json"),
            post("delivery.json"),
            post("delivery_without_mids.json"),
            post("read.json"),
            Webhook::json(messenger_batch().to_string()),
            Webhook::json(messenger_batch().to_string().replace(PAGE, "7000000000000002")).discards(6),
            handshake("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-token")
                .replies(200, "1158201444"),
            handshake("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-toke").refused(),
            handshake("hub.mode=unsubscribe&hub.challenge=1158201444&hub.verify_token=verify-token").refused(),
        ]
    }
}

fn messenger_fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/messenger/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn person() -> Address {
    Address::messenger(PERSON).unwrap()
}

fn to_person(text: &str) -> Message {
    Message::text(person(), text)
}

/// Each request, its message, and `true` if that contains the stored file. All fixtures are replies to a message of a
/// resident.
fn messenger_sends() -> Vec<(String, (Message, bool))> {
    let recorded = |name: &str| String::from_utf8(messenger_fixture(name).to_vec()).unwrap();
    let reply = |message: Message| (message.purpose(Purpose::Reply), false);
    let body = |kind: &str, message: Value| json!({ "messaging_type": kind, "recipient": { "id": PERSON }, "message": message });
    let attached = |kind: &str, payload: Value| {
        body("UPDATE", json!({ "attachment": { "type": kind, "payload": payload } })).to_string()
    };
    let link = |url: &str| json!({ "url": url, "is_reusable": true });
    let media = |media: Media| (Message::media(person(), [media]), false);
    let mut typed = Options::default();
    typed.human_agent = true;
    let buttons = json!({ "attachment": { "type": "template", "payload": {
        "template_type": "button", "text": "Pay your council tax",
        "buttons": [{ "type": "web_url", "title": "Pay now", "url": "https://example.org/pay" }],
    } } });
    let native = Native::new("meta", &buttons).unwrap();
    let mut with_key = buttons;
    with_key["metadata"] = "case-3".into();
    let mut quoting = body("RESPONSE", json!({ "text": "On Tuesday", "metadata": "case-2" }));
    quoting["reply_to"] = json!({ "mid": "m_FIXTURE_1" });
    let stored = Media::image(StoredMedia::new(Digest::sha256(b"a map"), 5, "image/png"));
    let held = Media::document(MediaSource::from(MediaRef::new("meta", "1857777774821032")));
    vec![
        (recorded("send_text_response.json"), reply(to_person("Hello"))),
        (
            recorded("send_attachment_url.json"),
            reply(Message::media(person(), [Media::image("https://example.org/i.jpg")])),
        ),
        (
            recorded("send_quick_replies.json"),
            reply(Message::new(person(), Choice::buttons("Continue?").option("YES", "Yes"))),
        ),
        (recorded("send_human_agent.json"), reply(to_person("An officer replies").gateway_options(&typed).unwrap())),
        (quoting.to_string(), reply(to_person("On Tuesday").key("case-2").reply_to("m_FIXTURE_1"))),
        (body("UPDATE", json!({ "text": "Roads are closed" })).to_string(), (to_person("Roads are closed"), false)),
        (attached("audio", link("https://example.org/a.mp3")), media(Media::audio("https://example.org/a.mp3"))),
        (attached("video", link("https://example.org/v.mp4")), media(Media::video("https://example.org/v.mp4"))),
        (attached("file", json!({ "attachment_id": "1857777774821032" })), media(held)),
        (attached("image", link("https://files.example.gov.uk/map.png")), (Message::media(person(), [stored]), true)),
        (body("UPDATE", with_key).to_string(), (Message::new(person(), native).key("case-3"), false)),
    ]
}

type MessengerRefusal = (u16, u32, Option<u32>, &'static str, ErrorKind, bool);

fn messenger_refusals() -> Vec<MessengerRefusal> {
    use ErrorKind::*;
    vec![
        (400, 2, None, "Service temporarily unavailable", Unavailable, true),
        (400, 4, None, "Application request limit reached", RateLimited, true),
        (400, 10, None, "Application does not have permission for this action", Forbidden, false),
        (400, 10, Some(1_893_063), "The page is restricted", Account, false),
        (400, 10, Some(2_018_065), "", OutsideWindow, false),
        (400, 10, Some(2_018_278), "", OutsideWindow, false),
        (400, 10, None, "This message is sent outside of allowed window.", OutsideWindow, false),
        (400, 10, Some(7), "This message is sent Outside the allowed window.", OutsideWindow, false),
        (400, 32, None, "Page request limit reached", RateLimited, true),
        (400, 100, None, "Invalid parameter", InvalidMessage, false),
        (400, 100, Some(2_018_001), "No matching user found", InvalidRecipient, false),
        (400, 190, None, "Error validating access token", Unauthenticated, false),
        (403, 200, None, "Permissions error", Forbidden, false),
        (403, 230, None, "Permissions disallow message to user", Forbidden, false),
        (400, 368, None, "Blocked for policy violations", Account, false),
        (400, 551, None, "This person isn't available right now.", InvalidRecipient, false),
        (400, 613, None, "Calls to this API have exceeded the rate limit", RateLimited, true),
        (400, 1200, None, "Temporary send message failure", Unavailable, true),
        (400, 1_545_041, None, "Message Not Sent", InvalidRecipient, false),
        (400, 99_999, None, "An error of tomorrow", Rejected, false),
        (429, 99_999, None, "An error of tomorrow", RateLimited, true),
    ]
}

/// Several items of one conversation, some of them unknown.
fn messenger_batch() -> Value {
    let item = |name: &str, what: Value| json!({ "sender": { "id": PERSON }, "recipient": { "id": PAGE }, "timestamp": 1_795_000_000_123_i64, name: what });
    json!({ "object": "page", "entry": [
        { "id": PAGE, "time": 1_795_000_000_456_i64, "messaging": [
            item("message", json!({ "mid": "m_A", "text": "STOP" })),
            item("optin", json!({ "type": "notification_messages" })),
            item("delivery", json!({ "mids": ["m_B", "m_C"] })),
            item("message", json!({ "mid": { "not": "an id" } })),
            item("message", json!({ "mid": "m_D", "text": "Hello again" })),
        ] },
        { "id": PAGE, "time": 1_795_000_000_456_i64, "standby": [item("message", json!({ "mid": "m_E", "text": "To another app" }))] },
    ] })
}

mod cloud_api {
    use super::CloudApi;
    civic_messaging::conformance_tests!(CloudApi);
}

mod dialog_360 {
    use super::Dialog360;
    civic_messaging::conformance_tests!(Dialog360);
}

mod messenger {
    use super::Messenger;
    civic_messaging::conformance_tests!(Messenger);
}
