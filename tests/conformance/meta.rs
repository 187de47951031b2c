//! WhatsApp by Meta's Cloud API and by 360dialog, through the conformance suite.

use std::sync::Arc;

use bytes::Bytes;
use civic_messaging::channel::Grade;
use civic_messaging::event::{Envelope, Raw};
use civic_messaging::message::TemplateButton;
use civic_messaging::meta::{Config, Flow, Options};
use civic_messaging::testing::{Exchange, Setup, Signer, Step, Subject, Told, Webhook};
use civic_messaging::webhook::Encoding;
use civic_messaging::{
    Address, Ask, Channel, Choice, ContactCard, DeliveryState, Digest, ErrorKind, Inbound, InboundContent, Link,
    Location, Media, MediaRef, MediaSource, Medium, Message, Meta, Reaction, Result, Row, Signal, Template,
};

const NUMBER: &str = "200000000000001";
const TOKEN: &str = "EAAG-test-token";

/// WhatsApp by the Cloud API.
pub(crate) struct CloudApi;

/// The same wire by 360dialog: another path and header, and webhooks under a token.
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

    fn signer(&self) -> Signer {
        Signer::hmac_sha256("x-hub-signature-256", "sha256=", Encoding::Hex)
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
        let message = Message::text(resident(), "Your missed-bin report is logged.").with(&text_options(false));
        all.push(send("send/text.json", message.unwrap(), &format!("response/{answer}.json")));
    }

    let hello = || Message::text(resident(), "Your report is logged.");
    for (name, status, kind, retryable) in refusals() {
        let code = name.split_once('/').unwrap().1.split('_').next().unwrap();
        let refused = Exchange::send(hello()).step(post("/messages").answers(status, fixture(name))).fails(kind);
        let refused = if code == "error" { refused } else { refused.code(code) };
        all.push(if retryable { refused.retryable() } else { refused });
    }
    // Under a 5xx only a throttle is surely not sent.
    let faulty = |name: &str| Exchange::send(hello()).step(post("/messages").answers(500, fixture(name)));
    all.push(faulty("error/130429_throughput.json").fails(ErrorKind::RateLimited).retryable());
    all.push(faulty("error/131000_unknown.json").fails(ErrorKind::Unavailable).unknown());

    let envelope = Envelope::new(gateway, Medium::WhatsApp, NUMBER.into(), CloudApi.now(), Raw::default());
    let inbound =
        Inbound::new(envelope, "wamid.FIXTURE_IN_0001", resident(), InboundContent::Text("Hello there".into()));
    for (signal, name) in [(Signal::Read, "send/mark_read.json"), (Signal::Typing, "send/mark_read_typing.json")] {
        let step = post("/messages").json(text_of(name)).answers(200, fixture("response/success_true.json"));
        all.push(Exchange::signal(inbound.clone(), signal).step(step));
    }

    let photo = "a photo of a fallen tree";
    all.push(
        Exchange::upload(Media::image("https://example.org/tree.jpg"), "image/jpeg", photo)
            .step(post("/media").answers(200, fixture("response/media_upload.json")))
            .holds("900000000000010"),
    );
    let mut at_once = MediaRef::new(gateway, "900000000000001");
    at_once.url = Some("{base}/files/1?mid=1".to_owned());
    at_once.sha256 = Some(Digest::of(photo.as_bytes()));
    let file = || get("/files/1?mid=1").answers(200, photo);
    all.push(Exchange::fetch(at_once.clone()).step(file()).file(photo));
    // The address in a webhook lives five minutes; the id gives another.
    let mut located: serde_json::Value = serde_json::from_slice(&fixture("response/media_get_int_size.json")).unwrap();
    located["url"] = "{base}/files/1?mid=1".into();
    located["sha256"] = Digest::of(photo.as_bytes()).to_string().into();
    let locate = || get(&format!("{root}/900000000000001")).answers(200, located.to_string());
    all.push(Exchange::fetch(MediaRef::new(gateway, "900000000000001")).step(locate()).step(file()).file(photo));
    let expired = get("/files/1?mid=1").answers(404, "");
    all.push(Exchange::fetch(at_once).step(expired).step(locate()).step(file()).file(photo));

    let health = |step: Step| Exchange::health().step(step);
    let asked = || {
        let fields = "?fields=id,quality_rating,whatsapp_business_manager_messaging_limit";
        get(&format!("{number}{fields}"))
    };
    if !number.is_empty() {
        all.push(
            health(asked().answers(200, r#"{ "id": "200000000000001", "quality_rating": "RED" }"#))
                .graded("credentials", Grade::Pass)
                .graded("quality", Grade::Warn),
        );
        all.push(
            health(asked().answers(401, fixture("error/190_token_expired.json"))).graded("credentials", Grade::Fail),
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
    use DeliveryState::{Delivered, Failed, Played, Read, Sent};
    let post = |name: &str| Webhook::json(fixture(name));
    let one = "wamid.FIXTURE_OUT_0001";
    let mut all = vec![
        post("inbound/text.json")
            .brings([Told::text("wamid.FIXTURE_IN_0001", "When is my bin collected?").from("GB.10000000000000000001")]),
        post("status/sent_with_callback_data.json").brings([Told::delivery(one, Sent).key("case-4711")]),
        post("batch/two_entries_messages_and_statuses.json"),
        post("batch/out_of_order_statuses.json").brings([
            Told::delivery(one, Read),
            Told::delivery(one, Sent),
            Told::delivery(one, Delivered),
        ]),
        post("inbound/unknown_future_type.json").brings([Told::unrecognised()]),
        post("status/unknown_future_status.json").brings([Told::delivery(one, DeliveryState::Unrecognised)]),
        post("status/played.json").brings([Told::delivery(one, Played)]),
        post("status/failed_131026_undeliverable.json").brings([Told::delivery(one, Failed)]),
        post("inbound/system_user_changed_number.json").brings([Told::address_changed()]),
        post("account/message_template_status_update_rejected.json").brings([Told::account()]),
        post("account/user_preferences_stop.json").brings([Told::opt_out()]),
    ];
    // The others bring something, and obey the laws; what exactly they say, tests of their own know.
    for folder in ["inbound", "status", "account"] {
        let path = format!("{}/tests/fixtures/whatsapp/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        all.extend(names.iter().map(|name| post(&format!("{folder}/{}", name.to_str().unwrap()))));
    }
    all
}

/// Each recorded request, and the message that it is of.
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
        ("send/interactive_location_request.json", Message::new(to(), Ask::location("Where is the pothole?"))),
        ("send/interactive_request_contact_info.json", Message::new(to(), Ask::contact("Please share your number"))),
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
            Message::text(to(), "Your missed-bin report is logged.").with(&text_options(false)).unwrap(),
        ),
        (
            "send/text_preview_reply_callback.json",
            Message::text(to(), "See https://example.org/bins")
                .with(&text_options(true))
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

mod cloud_api {
    use super::CloudApi;
    civic_messaging::conformance_tests!(CloudApi);
}

mod dialog_360 {
    use super::Dialog360;
    civic_messaging::conformance_tests!(Dialog360);
}
