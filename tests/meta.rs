//! Meta: the vendor's own bytes in, values out, over real HTTP on loopback.
#![cfg(all(feature = "meta", feature = "reqwest"))]

use bytes::Bytes;
use civic_messaging::clock::VirtualClock;
use civic_messaging::event::{DeliveryOf, InboundContent, OptOutScope, Topic};
use civic_messaging::media::{Digest, MediaStream};
use civic_messaging::message::{
    Choice, ContactCard, Link, Location, Media, MediaRef, MediaSource, Reaction, Row, Template, TemplateButton,
};
use civic_messaging::meta::{Config, Flow};
use civic_messaging::webhook::{Discarded, Request, SigningSecret};
use civic_messaging::{
    Address, Channel, ChannelExt, Content, Context, DeliveryState, ErrorKind, Event, Inbound, Indicator, Message, Meta,
    Outcome, Registry, Secret, Settings, Timestamp,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

const SECRET: &str = "test_app_secret";
const NUMBER: &str = "200000000000001";
const ACCOUNT: &str = "100000000000001";

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/whatsapp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn json_fixture(name: &str) -> Value {
    serde_json::from_slice(&fixture(name)).unwrap()
}

fn config(base: &str) -> Config {
    let mut config = Config::new("EAAG-test-token", NUMBER).unwrap().app_secret(SECRET).unwrap();
    config = config.verify_token("verify-token").unwrap().base_url(base).unwrap();
    config.business_account_id = Some(ACCOUNT.into());
    config
}

fn offline() -> Meta {
    Meta::whatsapp_with(config("http://127.0.0.1:9"), &Context::new()).unwrap()
}

fn signed_with(secret: &str, body: impl Into<Bytes>) -> Request {
    let body = body.into();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(&body);
    let signature = mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |s, b| format!("{s}{b:02x}"));
    http::Request::post("/webhooks/meta").header("X-Hub-Signature-256", signature).body(body).unwrap().into()
}

async fn events(name: &str) -> Vec<Event> {
    let received = offline().receive(&signed_with(SECRET, fixture(name))).await.unwrap();
    assert_eq!((received.response.status.as_u16(), received.discarded_events()), (200, 0), "{name}");
    received.events
}

async fn only_inbound(name: &str) -> Inbound {
    let events = events(name).await;
    let [Event::Inbound(inbound)] = events.as_slice() else { panic!("{name}: {events:?}") };
    assert_eq!(inbound.envelope.account.as_str(), NUMBER);
    assert_eq!(*inbound.envelope.raw.as_bytes(), piece(name, "/entry/0/changes/0/value/messages/0"));
    inbound.clone()
}

/// The bytes of a piece, found by text: the raw piece must be exactly these.
fn piece(name: &str, pointer: &str) -> Bytes {
    use serde_json::value::RawValue;
    let body = fixture(name);
    let mut text = std::str::from_utf8(&body).unwrap();
    for step in pointer.split('/').skip(1) {
        text = match step.parse::<usize>() {
            Ok(n) => serde_json::from_str::<Vec<&RawValue>>(text).unwrap()[n].get(),
            Err(_) => serde_json::from_str::<std::collections::HashMap<&str, &RawValue>>(text).unwrap()[step].get(),
        };
    }
    Bytes::copy_from_slice(text.as_bytes())
}

fn resident() -> Address {
    Address::phone("07700 900123").unwrap()
}

#[tokio::test]
async fn signals_and_other_answers_are_read_as_documented() {
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
async fn what_meta_took_is_kept() {
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
async fn a_refusal_has_its_trace_and_page_and_under_a_5xx_only_a_throttle_is_surely_not_sent() {
    let errors = format!("{}/tests/fixtures/whatsapp/error", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(errors).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for name in names.map(|name| format!("error/{name}")) {
        for status in [400, 500] {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(status).set_body_bytes(fixture(&name));
            Mock::given(method("POST")).respond_with(answer).mount(&server).await;
            let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
            let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
            assert!(error.request_id().is_some() && error.help().unwrap().contains("error-codes"), "{name}");
            let surely = status == 400 || error.kind() == ErrorKind::RateLimited;
            assert_eq!(error.outcome() == Outcome::Rejected, surely, "{name} under {status}");
        }
    }
}

#[tokio::test]
async fn a_configuration_overrides_the_table() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(400).set_body_bytes(fixture("error/131031_account_locked.json"));
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let settings = json!({
        "gateway": "meta", "medium": "whatsapp", "access_token": "EAAG-test-token", "phone_number_id": NUMBER,
        "base_url": server.uri(), "errors": { "131031": { "kind": "unavailable", "retryable": true, "after": 90 } },
    });
    let settings = Settings::from_json(&settings.to_string()).unwrap();
    let meta = Registry::standard().connect(&settings, &Context::new()).unwrap();
    let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert_eq!(error.retry_after().unwrap().as_secs(), 90);
}

#[tokio::test]
async fn inbound_texts_and_who_wrote_them() {
    let cases = [
        ("inbound/text.json", Some("+447700900123"), Some("GB.10000000000000000001"), "When is my bin collected?"),
        ("inbound/text_legacy_no_bsuid.json", Some("+447700900123"), None, "Pre-April-2026 shape"),
        ("inbound/text_bsuid_only.json", None, Some("GB.10000000000000000001"), "My number is hidden"),
        ("inbound/text_bsuid_in_from_defensive.json", None, Some("GB.10000000000000000001"), "from carries a BSUID"),
        (
            "inbound/text_username_and_phone.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Username set, number still shared",
        ),
        (
            "inbound/text_ad_referral.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Can I get more info?",
        ),
        (
            "inbound/text_product_inquiry_context.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Is this available?",
        ),
    ];
    for (name, phone, user_id, text) in cases {
        let inbound = only_inbound(name).await;
        let Address::WhatsApp(user) = &inbound.from else { panic!("{name}") };
        assert_eq!((user.phone().map(|p| p.as_str()), user.user_id()), (phone, user_id), "{name}");
        assert_eq!(inbound.text(), Some(text), "{name}");
        assert_eq!(inbound.profile.name.as_deref(), Some("Alex Resident"), "{name}");
        assert!(!inbound.echo && !inbound.forwarded);
    }
    let first = only_inbound("inbound/text.json").await;
    assert_eq!(first.envelope.at, Timestamp::from_secs(1_795_000_001));
    assert_eq!(first.id.as_str(), "wamid.FIXTURE_IN_0001");
    assert_eq!(only_inbound("inbound/text_bsuid_only.json").await.profile.handle.as_deref(), Some("alex.resident"));
    let reply = only_inbound("inbound/text_reply_context.json").await;
    assert_eq!(reply.reply_to.unwrap().as_str(), "wamid.FIXTURE_OUT_0001");
    for name in ["inbound/text_forwarded.json", "inbound/text_frequently_forwarded.json"] {
        let forwarded = only_inbound(name).await;
        assert!(forwarded.forwarded && forwarded.reply_to.is_none());
    }
    let group = only_inbound("inbound/text_group.json").await;
    assert!(matches!(group.reply_address(), Address::Conversation(c) if c.id() == "Z3JvdXAtZml4dHVyZQ"));
}

#[tokio::test]
async fn inbound_files() {
    let cases = [
        ("inbound/image_caption.json", "image/jpeg", Some("Fly-tipping on Mill Lane"), true),
        ("inbound/image_no_url.json", "image/jpeg", None, false),
        ("inbound/audio_voice_note.json", "audio/ogg; codecs=opus", None, false),
        ("inbound/audio_file.json", "audio/mpeg", None, false),
        ("inbound/video.json", "video/mp4", Some("pothole"), false),
        ("inbound/document.json", "application/pdf", Some("proof of address"), false),
        ("inbound/sticker.json", "image/webp", None, false),
    ];
    for (name, mime, caption, url) in cases {
        let inbound = only_inbound(name).await;
        let [media] = inbound.media() else { panic!("{name}") };
        assert_eq!((media.mime.as_deref(), inbound.text(), media.url.is_some()), (Some(mime), caption, url), "{name}");
        assert!(media.sha256.is_some(), "{name}");
        assert_eq!(media.expires.unwrap().since(inbound.envelope.at).as_secs(), 7 * 24 * 3600);
    }
    let document = only_inbound("inbound/document.json").await;
    assert_eq!(document.media()[0].filename.as_deref(), Some("bill.pdf"));
}

#[tokio::test]
async fn inbound_of_every_other_kind() {
    let content = async |name: &str| only_inbound(name).await.content;
    for (name, label) in [("inbound/location_full.json", Some("Town Hall")), ("inbound/location_bare.json", None)] {
        let InboundContent::Location(place) = content(name).await else { panic!("{name}") };
        assert_eq!((place.latitude, place.longitude, place.name.as_deref()), (51.50072, -0.12462, label));
    }
    for (name, card, phone) in [
        ("inbound/contacts_shared.json", "Sam Neighbour", "+44 7700 900456"),
        ("inbound/contacts_request_contact_info_answer.json", "", "+447700900123"),
    ] {
        let InboundContent::Contacts(cards) = content(name).await else { panic!("{name}") };
        assert_eq!((cards[0].name.as_str(), cards[0].phones[0].value.as_str()), (card, phone));
    }
    for (name, id, title) in [
        ("inbound/interactive_button_reply.json", "confirm", "Confirm"),
        ("inbound/interactive_list_reply.json", "slot-1", "Mon 9am"),
    ] {
        let InboundContent::Selection(chosen) = content(name).await else { panic!("{name}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title));
    }
    for (name, form) in [
        ("inbound/interactive_nfm_reply_flow.json", r#"{"flow_token": "tok-1", "rating": "4"}"#),
        ("inbound/interactive_nfm_reply_array_json.json", r#"["not","an","object"]"#),
    ] {
        assert_eq!(content(name).await, InboundContent::Form(form.into()));
    }
    for (name, emoji) in [
        ("inbound/reaction.json", Some("👍")),
        ("inbound/reaction_removed_no_emoji.json", None),
        ("inbound/reaction_removed_empty_emoji.json", None),
    ] {
        let expected = InboundContent::Reaction { to: "wamid.FIXTURE_OUT_0001".into(), emoji: emoji.map(Into::into) };
        assert_eq!(content(name).await, expected, "{name}");
    }
    let InboundContent::Order(order) = content("inbound/order.json").await else { panic!() };
    assert!(order.contains("bin-240l"));
    let InboundContent::Edited { id, content: now } = content("inbound/edit_text.json").await else { panic!() };
    assert_eq!(id.as_str(), "wamid.FIXTURE_IN_0001");
    assert_eq!(*now, InboundContent::Text("When is my brown bin collected?".into()));
    assert_eq!(content("inbound/revoke.json").await, InboundContent::Withdrawn("wamid.FIXTURE_IN_0001".into()));
    assert_eq!(
        content("inbound/unsupported.json").await,
        InboundContent::Unsupported { kind: None, code: Some("131051".into()) }
    );
    let poll = content("inbound/unsupported_with_type.json").await;
    assert_eq!(poll, InboundContent::Unsupported { kind: Some("poll_creation".into()), code: Some("131051".into()) });
    let notice = content("inbound/system_customer_identity_changed.json").await;
    assert_eq!(notice, InboundContent::System("User identity changed".into()));
}

#[tokio::test]
async fn button_that_cancels_is_a_selection_to_answer() {
    let mut body = json_fixture("inbound/interactive_button_reply.json");
    for (id, title) in [("appointment-17-no", "Cancel"), ("stop", "No"), ("1", "Remove"), ("1", "Start")] {
        let message = body.pointer_mut("/entry/0/changes/0/value/messages/0/interactive/button_reply").unwrap();
        *message = serde_json::json!({ "id": id, "title": title });
        let received = offline().receive(&signed_with(SECRET, body.to_string())).await.unwrap();
        let [Event::Inbound(inbound)] = received.events.as_slice() else { panic!("{title}: {:?}", received.events) };
        assert_eq!(inbound.text(), Some(title));
        assert_eq!(received.answerable().count(), 1, "{title}");
    }
}

#[tokio::test]
async fn edit_or_caption_that_says_stop_is_an_opt_out() {
    for (name, at) in [
        ("inbound/edit_text.json", "/entry/0/changes/0/value/messages/0/edit/message/text/body"),
        ("inbound/image_caption.json", "/entry/0/changes/0/value/messages/0/image/caption"),
    ] {
        let mut body = json_fixture(name);
        *body.pointer_mut(at).unwrap() = "STOP".into();
        let received = offline().receive(&signed_with(SECRET, body.to_string())).await.unwrap();
        let [Event::Inbound(inbound), Event::OptOut(opt_out)] = received.events.as_slice() else { panic!("{name}") };
        assert_eq!((opt_out.inbound.as_ref(), opt_out.resume), (Some(&inbound.id), false), "{name}");
        assert_eq!(received.answerable().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_button_that_says_stop_is_an_opt_out() {
    for name in ["inbound/button_template_quick_reply.json", "inbound/button_without_context.json"] {
        let events = events(name).await;
        let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!(inbound.text(), Some("Stop messages"));
        assert_eq!((opt_out.scope, opt_out.resume), (OptOutScope::All, false));
        assert_eq!(opt_out.inbound.as_ref(), Some(&inbound.id));
    }
}

#[tokio::test]
async fn people_who_move_keep_their_thread() {
    let user = |phone: Option<&str>, id: &str| {
        Address::from(civic_messaging::address::WhatsAppUser::new(phone.map(|p| p.parse().unwrap()), Some(id)).unwrap())
    };
    let (before, after) = ("GB.10000000000000000001", "GB.10000000000000000009");
    for (name, previous, current) in [
        (
            "inbound/system_user_changed_number.json",
            user(Some("07700900123"), before),
            user(Some("07700900789"), after),
        ),
        ("inbound/system_user_changed_user_id.json", user(None, before), user(None, after)),
    ] {
        let events = events(name).await;
        let [Event::AddressChanged(changed)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((&changed.previous, &changed.current), (&previous, &current), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_known_survives() {
    let unknown = events("inbound/unknown_future_type.json").await;
    let [Event::Unrecognised(unrecognised)] = unknown.as_slice() else { panic!("{unknown:?}") };
    assert_eq!(unrecognised.what, "messages.hologram");
    assert!(unrecognised.from.as_ref().unwrap().as_phone().is_some());
    assert!(String::from_utf8_lossy(unrecognised.envelope.raw.as_bytes()).contains("frames"));

    let events = events("inbound/interactive_without_payload_plus_value_error.json").await;
    let [Event::Inbound(inbound), Event::Account(error)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(inbound.content, InboundContent::unsupported(Some("interactive")));
    assert_eq!((error.topic, error.state.as_str()), (Topic::Error, "131000"));
}

#[tokio::test]
async fn one_strange_message_costs_only_itself() {
    let mut body = json_fixture("batch/two_entries_messages_and_statuses.json");
    body["entry"][0]["changes"][0]["value"]["messages"][0]["text"] = json!(["not", "an", "object"]);
    body["entry"][0]["changes"][1]["value"]["statuses"][1]["errors"] = json!("none");
    let received = offline().receive(&signed_with(SECRET, body.to_string())).await.unwrap();
    let strange: Vec<_> = received.events.iter().map(|e| matches!(e, Event::Unrecognised(_))).collect();
    // A delivery is read whatever its errors are.
    assert_eq!(strange, [true, false, false, false, false, false]);
    // Of a body that names no account nobody knows whose it is.
    for body in ["", "[]", "{", "null", r#"{"entry":{}}"#, "\u{0}", "hello"] {
        let received = offline().receive(&signed_with(SECRET, body)).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
        assert_eq!(received.response.status, 200);
    }
}

#[tokio::test]
async fn statuses_climb_the_ladder() {
    use DeliveryState::*;
    let cases = [
        ("status/sent.json", Sent, None),
        ("status/sent_with_callback_data.json", Sent, None),
        ("status/sent_legacy_cbp_conversation.json", Sent, Some("CBP/service")),
        ("status/delivered_bsuid_only.json", Delivered, Some("regular/utility")),
        ("status/delivered_pmp_free_service.json", Delivered, Some("free_customer_service/service")),
        ("status/delivered_pmp_regular_service.json", Delivered, Some("regular/service")),
        ("status/delivered_pmp_regular_utility.json", Delivered, Some("regular/utility")),
        ("status/read.json", Read, None),
        ("status/played.json", Played, None),
        ("status/unknown_future_status.json", Unrecognised, None),
    ];
    for (name, state, billing) in cases {
        let events = events(name).await;
        let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((delivery.state, delivery.billing.as_deref()), (state, billing), "{name}");
        assert_eq!(delivery.id().unwrap().as_str(), "wamid.FIXTURE_OUT_0001");
        assert!(delivery.recipient.is_some(), "{name}");
    }
    let events = events("status/sent_with_callback_data.json").await;
    assert_eq!(events[0].as_delivery().unwrap().key(), Some("case-4711"));
}

#[tokio::test]
async fn failures_say_why() {
    use ErrorKind::*;
    for (name, kind, code) in [
        ("status/failed_131026_undeliverable.json", InvalidRecipient, "131026"),
        ("status/failed_131047_window_closed.json", OutsideWindow, "131047"),
        ("status/failed_131049_ecosystem.json", QuotaExceeded, "131049"),
        ("status/failed_title_only.json", InvalidMessage, "131014"),
        ("status/failed_to_bsuid.json", Unavailable, "131000"),
    ] {
        let events = events(name).await;
        let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{name}: {events:?}") };
        let failure = delivery.failure.as_ref().unwrap();
        assert_eq!((delivery.state, failure.kind, failure.code.as_deref()), (DeliveryState::Failed, kind, Some(code)));
        assert!(failure.detail.is_some() && delivery.recipient.is_some(), "{name}");
    }
}

#[tokio::test]
async fn batches_keep_their_order_and_groups_their_members() {
    let statuses = events("batch/out_of_order_statuses.json").await;
    let states: Vec<_> = statuses.iter().map(|e| e.as_delivery().unwrap().state).collect();
    assert_eq!(states, [DeliveryState::Read, DeliveryState::Sent, DeliveryState::Delivered]);
    assert_eq!(states.into_iter().reduce(DeliveryState::join), Some(DeliveryState::Read));

    let batch = events("batch/two_entries_messages_and_statuses.json").await;
    let texts: Vec<_> = batch.iter().filter_map(|e| e.as_inbound()?.text()).collect();
    assert_eq!((batch.len(), texts), (6, vec!["one", "two", "other number"]));
    let ids: std::collections::HashSet<_> = batch.iter().map(Event::id).collect();
    assert_eq!(ids.len(), 6);

    let members = events("status/group_read_two_participants.json").await;
    let who: Vec<_> = members.iter().filter_map(|e| e.as_delivery()?.recipient.as_ref()?.as_phone()).collect();
    assert_eq!(who.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["+447700900123", "+447700900456"]);
    assert!(members.iter().all(|e| e.envelope().conversation.is_some()));
    assert_ne!(members[0].id(), members[1].id());
    assert!(matches!(&members[0], Event::Delivery(d) if matches!(d.of, DeliveryOf::Message { .. })));
}

#[tokio::test]
async fn a_batch_of_a_thousand_and_a_body_of_three_megabytes_are_read() {
    let mut body = json_fixture("inbound/text.json");
    let messages = body["entry"][0]["changes"][0]["value"]["messages"].as_array_mut().unwrap();
    let one = messages[0].clone();
    *messages = (0..1000)
        .map(|n| {
            let mut message = one.clone();
            message["id"] = format!("wamid.{n}").into();
            message["text"]["body"] = "x".repeat(2_900).into();
            message
        })
        .collect();
    let body = body.to_string();
    assert!(body.len() > 3_000_000 && body.len() < 4_000_000);
    let received = offline().receive(&signed_with(SECRET, body)).await.unwrap();
    assert_eq!(received.events.len(), 1000);
    assert_eq!(received.events[999].as_inbound().unwrap().id.as_str(), "wamid.999");
    let error = offline().receive(&signed_with(SECRET, vec![b' '; 4 * 1024 * 1024 + 1])).await.unwrap_err();
    assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::TooLarge, 413));
}

#[tokio::test]
async fn the_account_has_events_of_its_own() {
    for (name, topic, state, of, reason) in [
        (
            "account/message_template_status_update_rejected.json",
            Topic::Template,
            "REJECTED",
            Some("bin_day_reminder"),
            Some("INVALID_FORMAT"),
        ),
        (
            "account/message_template_status_update_approved_hyphen_lang.json",
            Topic::Template,
            "APPROVED",
            Some("bin_day_reminder"),
            None,
        ),
        (
            "account/account_update_restriction.json",
            Topic::Restriction,
            "ACCOUNT_RESTRICTION",
            None,
            Some("RESTRICTED_BIZ_INITIATED_MESSAGING"),
        ),
        (
            "account/phone_number_quality_update.json",
            Topic::Quality,
            "THROUGHPUT_UPGRADE",
            None,
            Some("TIER_UNLIMITED"),
        ),
        ("inbound/value_level_errors.json", Topic::Error, "130429", None, Some("")),
    ] {
        let events = events(name).await;
        let [Event::Account(account)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((account.topic, account.state.as_str(), account.name.as_deref()), (topic, state, of), "{name}");
        match reason {
            Some("") => assert!(account.reason.is_some()),
            reason => assert_eq!(account.reason.as_deref(), reason, "{name}"),
        }
    }
    for (name, resume) in
        [("account/user_preferences_stop.json", false), ("account/user_preferences_resume.json", true)]
    {
        let events = events(name).await;
        let [Event::OptOut(opt_out)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((opt_out.scope, opt_out.resume), (OptOutScope::Marketing, resume));
    }
}

#[tokio::test]
async fn every_signature_vector_is_judged_right() {
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
async fn one_accounts_secret_makes_no_event_of_another() {
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
        let forged = meta.receive(&signed_with("secret-of-a", fixture(name))).await.unwrap();
        assert_eq!((forged.events.len(), forged.discarded_events()), (0, count), "{name}");
        let genuine = meta.receive(&signed_with("secret-of-b", fixture(name))).await.unwrap();
        assert_eq!((genuine.events.len(), genuine.discarded_events()), (count, 0), "{name}");
    }
}

#[tokio::test]
async fn the_handshake_echoes_the_challenge_to_whoever_knows_the_token() {
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

#[tokio::test]
async fn a_photo_goes_up_and_comes_down() {
    let server = MockServer::start().await;
    let photo = Bytes::from_static(b"a fallen tree");
    Mock::given(method("POST"))
        .and(path(format!("/v26.0/{NUMBER}/media")))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/media_upload.json")))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(format!("/v26.0/{NUMBER}/messages")))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/send_ok_phone.json")))
        .expect(1)
        .mount(&server)
        .await;
    let context = Context::new();
    let stored = context.media.put(MediaStream::from_bytes("image/jpeg", photo.clone())).await.unwrap();
    let meta = Meta::whatsapp_with(config(&server.uri()), &context).unwrap();
    meta.send(&Message::media(resident(), [Media::image(stored).caption("Cleared")])).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let upload = String::from_utf8_lossy(&requests[0].body).into_owned();
    for part in ["name=\"messaging_product\"\r\n\r\nwhatsapp", "name=\"type\"\r\n\r\nimage/jpeg", "a fallen tree"] {
        assert!(upload.contains(part), "{part}");
    }
    assert_eq!(requests[0].headers["content-length"].to_str().unwrap(), requests[0].body.len().to_string());
    let sent: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(sent["image"], json!({ "id": "900000000000010", "caption": "Cleared" }));
}

#[tokio::test]
async fn a_file_is_fetched_by_its_address_or_by_its_id_and_its_hash_is_checked() {
    for name in ["response/media_get_int_size.json", "response/media_get_string_size.json"] {
        let server = MockServer::start().await;
        let mut located = json_fixture(name);
        located["url"] = format!("{}/files/1?mid=1", server.uri()).into();
        located["sha256"] = Digest::sha256(b"a fallen tree").to_string().into();
        Mock::given(method("GET"))
            .and(path("/v26.0/900000000000001"))
            .and(header("authorization", "Bearer EAAG-test-token"))
            .respond_with(ResponseTemplate::new(200).set_body_json(&located))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .and(path("/files/1"))
            .and(query_param("mid", "1"))
            .and(header("authorization", "Bearer EAAG-test-token"))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(&b"a fallen tree"[..]))
            .mount(&server)
            .await;
        let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
        let mut media = MediaRef::new("meta", "900000000000001");
        let bytes = async |media: &MediaRef| meta.fetch_media(media).await?.bytes().await;
        assert_eq!(bytes(&media).await.unwrap(), "a fallen tree");
        // The address in the webhook is tried first; when it has expired, the id gives another.
        media.url = Some(format!("{}/expired", server.uri()));
        assert_eq!(bytes(&media).await.unwrap(), "a fallen tree");
        media.url = Some(format!("{}/files/1?mid=1", server.uri()));
        media.sha256 = Some(Digest::sha256(b"another file"));
        assert_eq!(bytes(&media).await.unwrap_err().kind(), ErrorKind::Unexpected);
        media.url = Some("https://evil.example/files/1".into());
        assert_eq!(bytes(&media).await.unwrap_err().kind(), ErrorKind::Forbidden);
        media.url = None;
        let asked = server.received_requests().await.unwrap().len();
        for id in ["../../etc", "..", ".", "", "1/../2", "1?fields=a", "1#", "%2e%2e", "1\\2"] {
            media.id = id.into();
            let error = bytes(&media).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("media.id")), "{id}");
            assert_eq!(error.gateway(), Some("meta"));
        }
        // Nor is a call of the API's taken for a file.
        for path in ["/v26.0/me/accounts", "/files/%2e%2e/v26.0/me", "/files/../v26.0/me", "//v26.0/me"] {
            media.url = Some(format!("{}{path}", server.uri()));
            let error = bytes(&media).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{path}");
        }
        assert_eq!(server.received_requests().await.unwrap().len(), asked);
    }
}

/// An address, and the headers of credentials that went there.
type Visit = (String, Vec<String>);

/// A transport that notes where it is sent to.
#[derive(Clone, Debug, Default)]
struct Noted(std::sync::Arc<std::sync::Mutex<Vec<Visit>>>);

#[civic_messaging::async_trait]
impl civic_messaging::transport::Transport for Noted {
    async fn call(
        &self,
        request: http::Request<civic_messaging::transport::Body>,
    ) -> Result<http::Response<civic_messaging::transport::Body>, civic_messaging::transport::TransportError> {
        let headers = request.headers().keys().map(|name| name.as_str().to_owned());
        let secret = |name: &String| matches!(name.as_str(), "authorization" | "d360-api-key");
        self.0.lock().unwrap().push((request.uri().to_string(), headers.filter(secret).collect()));
        Ok(http::Response::new(civic_messaging::transport::Body::from("a photo".to_owned())))
    }
}

#[tokio::test]
async fn each_credential_goes_to_files_of_its_own_gateway() {
    let noted = Noted::default();
    let context = Context::with_transport(noted.clone());
    let config = || Config::new("EAAG-test-token", NUMBER).unwrap();
    let meta = Meta::whatsapp_with(config(), &context).unwrap();
    let dialog = Meta::whatsapp_360dialog_with(config(), &context).unwrap();
    let fetch = async |channel: &Meta, url: &str| {
        let mut media = MediaRef::new(channel.info().gateway, "900000000000001");
        media.url = Some(url.to_owned());
        let fetched = channel.fetch_media(&media).await;
        (fetched, noted.0.lock().unwrap().drain(..).collect::<Vec<_>>())
    };
    let path = "/whatsapp_business/attachments/?mid=900000000000001&ext=1";
    let (files, own) = ("https://lookaside.fbsbx.com", "https://waba-v2.360dialog.io");
    for (channel, url, asked, header) in [
        (&meta, format!("{files}{path}"), format!("{files}{path}"), vec!["authorization"]),
        (&dialog, format!("{files}{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&dialog, format!("https://LOOKASIDE.fbsbx.com{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&dialog, format!("{own}{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&meta, "https://a.fbcdn.net/v/1".into(), "https://a.fbcdn.net/v/1".into(), vec![]),
        (&dialog, "https://a.fbcdn.net/v/1".into(), "https://a.fbcdn.net/v/1".into(), vec![]),
    ] {
        let (fetched, noted) = fetch(channel, &url).await;
        assert!(fetched.is_ok(), "{url}");
        assert_eq!(noted, [(asked, header.into_iter().map(str::to_owned).collect())], "{url}");
    }
    for (channel, url) in [
        (&meta, format!("{own}{path}")),
        (&meta, "https://graph.facebook.com/v26.0/me/accounts".into()),
        (&meta, "https://graph.facebook.com/me?fields=name".into()),
        (&meta, format!("https://graph.facebook.com{path}")),
        (&meta, format!("{files}/another_product/?id=1")),
        (&meta, format!("{files}/whatsapp_business/../another_product")),
        (&meta, format!("{files}/whatsapp_business/%2e%2E/another_product")),
        (&meta, format!("{files}//whatsapp_business/")),
        (&dialog, "https://graph.facebook.com/v26.0/me".into()),
        (&dialog, format!("https://graph.facebook.com{path}")),
        (&dialog, format!("{own}/v1/configs/webhook")),
        (&dialog, format!("{own}/messages")),
        (&dialog, format!("{files}/v1/configs/webhook")),
        (&dialog, format!("{files}/whatsapp_business/%2e%2e/v1/configs/webhook")),
        (&dialog, format!("{files}.evil.example{path}")),
        (&dialog, format!("https://evil.example/lookaside.fbsbx.com{path}")),
        (&dialog, format!("https://lookaside.fbsbx.com@evil.example{path}")),
    ] {
        let (fetched, noted) = fetch(channel, &url).await;
        let error = fetched.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{url}");
        assert!(noted.is_empty(), "{url}");
    }
}

#[tokio::test]
async fn the_same_wire_by_360dialog() {
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
        meta.receive(&signed_with(SECRET, fixture("inbound/text.json"))).await.unwrap_err().webhook_status(),
        401
    );
}

#[tokio::test]
async fn health_tells_a_bad_token_from_a_good_one() {
    let server = MockServer::start().await;
    let number = json!({ "id": NUMBER, "quality_rating": "RED" });
    Mock::given(method("GET"))
        .and(path(format!("/v26.0/{NUMBER}")))
        .and(header("authorization", "Bearer EAAG-test-token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(&number))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(401).set_body_bytes(fixture("error/190_token_expired.json")))
        .with_priority(9)
        .mount(&server)
        .await;
    let health = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap().health().await.unwrap();
    assert!(health.is_good());
    assert_eq!(health.check("quality").unwrap().status, civic_messaging::health::CheckStatus::Warn);
    let mut expired = config(&server.uri());
    expired.access_token = Secret::new("expired-token").unwrap();
    assert!(!Meta::whatsapp_with(expired, &Context::new()).unwrap().health().await.unwrap().is_good());
}

#[tokio::test]
async fn wrong_input_is_refused_before_the_network() {
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
async fn an_entry_without_changes_is_kept_or_counted() {
    // One app can serve a page on Messenger too, with one address for both.
    let entry = |id: &str| json!({ "id": id, "time": 1_795_000_000, "messaging": [{ "message": { "mid": "m_1" } }] });
    let body = json!({ "object": "page", "entry": [entry(ACCOUNT), entry("7000000000000001")] });
    let received = offline().receive(&signed_with(SECRET, body.to_string())).await.unwrap();
    let [Event::Unrecognised(kept)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!((kept.what.as_str(), received.discarded_events()), ("entry", 1));
    assert_eq!(received.discarded, [Discarded::new(Some("7000000000000001".into()), 1)]);
    let raw: Value = serde_json::from_slice(kept.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, entry(ACCOUNT));
}

// What is refused before the network

fn template() -> Template {
    Template::new("bin_day").language("en_GB")
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

// What is sent

async fn answering(status: u16, body: impl Into<Vec<u8>>) -> (MockServer, Meta) {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_bytes(body);
    Mock::given(|_: &wiremock::Request| true).respond_with(answer).mount(&server).await;
    let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
    (server, meta)
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
async fn uploaded_file_has_an_extension_that_fits_its_type() {
    let (server, meta) = answering(200, fixture("response/media_upload.json")).await;
    for (media, mime, name) in [
        (Media::image("x"), "image/jpeg", "image.jpg"),
        (Media::audio("x"), "audio/ogg; codecs=opus", "audio.ogg"),
        (Media::document("x"), "application/pdf", "document.pdf"),
        (Media::document("x").filename("Your permit"), "application/pdf", "Your permit.pdf"),
        (Media::document("x").filename("permit.pdf"), "application/pdf", "permit.pdf"),
        (Media::document("x").filename("PERMIT.PDF"), "Application/PDF", "PERMIT.PDF"),
        (Media::document("x").filename("letter.2026"), "application/pdf", "letter.2026.pdf"),
        (Media::document("x").filename("permit."), "application/pdf", "permit.pdf"),
        (Media::document("x").filename(" "), "text/plain", "document.txt"),
        (Media::image("x").filename(".jpg"), "image/jpeg", ".jpg.jpg"),
        (Media::image("x").filename("tree.JPEG"), "image/jpeg", "tree.JPEG"),
        (Media::image("x").filename("tree.png"), "image/jpeg", "tree.png.jpg"),
        (Media::document("x").filename("plan.dwg"), "image/vnd.dwg", "plan.dwg"),
        (Media::document("x").filename("plan"), "application/octet-stream", "plan.bin"),
        (Media::video("x").filename("ŵ"), "video/3gpp", "ŵ.3gp"),
    ] {
        meta.upload_media(&media, MediaStream::from_bytes(mime, Bytes::from_static(b"a file"))).await.unwrap();
        let requests = server.received_requests().await.unwrap();
        let form = String::from_utf8_lossy(&requests.last().unwrap().body).into_owned();
        assert!(form.contains(&format!("filename=\"{name}\"")), "{name}: {form}");
    }
}

// What Meta says to it

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

#[tokio::test]
async fn unknown_object_is_a_setting_on_a_send_and_a_lost_file_on_a_fetch() {
    let error = json!({ "error": {
        "message": "Unsupported post request. Object with ID '1' does not exist", "type": "GraphMethodException",
        "code": 100, "error_subcode": 33, "fbtrace_id": "AXfu0NKfYelIG2VlOmIfK3C",
    } });
    let (_server, meta) = answering(400, error.to_string()).await;
    let sent = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((sent.kind(), sent.outcome(), sent.code()), (ErrorKind::Config, Outcome::Rejected, Some("100")));
    let upload = MediaStream::from_bytes("image/png", Bytes::from_static(b"a file"));
    assert_eq!(meta.upload_media(&Media::image("x"), upload).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(!meta.health().await.unwrap().is_good());
    let gone = meta.fetch_media(&MediaRef::new("meta", "900000000000001")).await.unwrap_err();
    assert_eq!((gone.kind(), gone.outcome(), gone.code()), (ErrorKind::NotFound, Outcome::NotSent, Some("100")));
    assert!(gone.request_id().is_some() && gone.raw().is_some() && gone.status().unwrap() == 400);
    let details = json!({ "messaging_product": "whatsapp", "details": "Parameter 'type' is invalid" });
    for other in [
        json!({ "error": { "message": "no", "code": 100, "error_subcode": 34 } }),
        json!({ "error": { "message": "no", "code": 100, "error_subcode": 33, "error_data": details } }),
    ] {
        let (_server, meta) = answering(400, other.to_string()).await;
        assert_eq!(meta.send_text(&resident(), "Hello").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[tokio::test]
async fn code_132018_is_of_the_message() {
    let error = json!({ "error": { "message": "(#132018) Param text cannot have new-line", "code": 132018 } });
    let (_server, meta) = answering(400, error.to_string()).await;
    let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidMessage, Some("132018")));
}

// Odd webhooks: whose they are, and what is heard in them

const THEIRS: &str = "200000000000009";
const DISPLAY: &str = "441743000000";

async fn received(body: impl Into<Bytes>) -> civic_messaging::webhook::Received {
    offline().receive(&signed_with(SECRET, body)).await.unwrap()
}

async fn entries(entry: impl std::fmt::Display) -> civic_messaging::webhook::Received {
    received(format!(r#"{{"object":"whatsapp_business_account","entry":{entry}}}"#)).await
}

async fn changes(changes: impl std::fmt::Display) -> civic_messaging::webhook::Received {
    entries(format!(r#"[{{"id":"{ACCOUNT}","time":1795000000,"changes":{changes}}}]"#)).await
}

/// The events of one value of our number.
async fn value(field: &str, mut value: Value) -> Vec<Event> {
    value["metadata"] = json!({ "display_phone_number": DISPLAY, "phone_number_id": NUMBER });
    let received = changes(json!([{ "field": field, "value": value }])).await;
    assert_eq!(received.discarded_events(), 0);
    received.events
}

async fn messages(messages: Value) -> Vec<Event> {
    value("messages", json!({ "messages": messages })).await
}

fn text_message(id: &str, text: &str) -> Value {
    json!({ "from": "447700900123", "id": id, "timestamp": "1795000000", "type": "text", "text": { "body": text } })
}

fn number_value(number: &str, text: &str) -> Value {
    json!({ "metadata": { "phone_number_id": number }, "messages": [text_message("wamid.1", text)] })
}

fn person(phone: Option<&str>, user_id: Option<&str>) -> Address {
    let phone = phone.map(|phone| phone.parse().unwrap());
    civic_messaging::address::WhatsAppUser::new(phone, user_id).unwrap().into()
}

fn inbound(events: &[Event]) -> &Inbound {
    events.iter().find_map(Event::as_inbound).unwrap_or_else(|| panic!("{events:?}"))
}

fn stops(events: &[Event]) -> Vec<&Address> {
    let mut from = Vec::new();
    for event in events {
        from.extend(if let Event::OptOut(stop) = event { (!stop.resume).then_some(&stop.from) } else { None });
    }
    from
}

/// The names and the pieces of what is not understood.
fn kept(events: &[Event]) -> Vec<(&str, String)> {
    let mut kept = Vec::new();
    for event in events {
        if let Event::Unrecognised(one) = event {
            kept.push((one.what.as_str(), String::from_utf8_lossy(one.envelope.raw.as_bytes()).into_owned()));
        }
    }
    kept
}

#[tokio::test]
async fn raw_of_a_change_holds_no_other_change() {
    let (theirs, ours) = (number_value(THEIRS, "Their secret"), number_value(NUMBER, "My bin was missed"));
    let theirs = json!({ "field": "messages", "value": theirs });
    let ours = json!({ "field": "messages", "value": ours });
    for odd in [
        r#"{"field":"messages"}"#,
        "null",
        "{}",
        "7",
        r#"{"field":"messages","value":null}"#,
        r#"{"field":"account_update","value":[]}"#,
        r#"{"field":"account_update","value":"odd"}"#,
    ] {
        for list in [format!("[{odd},{theirs},{ours}]"), format!("[{theirs},{ours},{odd}]")] {
            let received = changes(list).await;
            assert_eq!(inbound(&received.events).text(), Some("My bin was missed"), "{odd}");
            let [(_, raw)] = &kept(&received.events)[..] else { panic!("{odd}: {:?}", received.events) };
            assert_eq!(raw, odd);
            assert_eq!(received.discarded, [Discarded::new(Some(THEIRS.into()), 1)], "{odd}");
        }
    }
}

#[tokio::test]
async fn object_in_place_of_a_list_is_a_list_of_one() {
    for (number, is_ours) in [(NUMBER, true), (THEIRS, false)] {
        let mut value = number_value(number, "STOP");
        value["contacts"] = json!({ "wa_id": "447700900123", "user_id": "GB.1" });
        value["messages"] = value["messages"][0].take();
        let entry = |changes: Value| json!({ "id": ACCOUNT, "time": 1_795_000_000, "changes": changes });
        let change = |value: &Value| json!({ "field": "messages", "value": value });
        for entry in [
            json!([entry(json!([change(&value)]))]),
            json!([entry(change(&value))]),
            entry(change(&value)),
            entry(change(&json!([value]))),
        ] {
            let received = entries(&entry).await;
            if is_ours {
                assert_eq!(stops(&received.events), [&person(Some("07700900123"), Some("GB.1"))], "{entry}");
                assert_eq!(received.discarded_events(), 0);
            } else {
                assert!(received.events.is_empty(), "{entry}: {:?}", received.events);
                assert_eq!(received.discarded, [Discarded::new(Some(THEIRS.into()), 1)]);
            }
        }
    }
    let status =
        json!({ "id": "wamid.1", "status": "sent", "timestamp": "1795000000", "recipient_id": "447700900123" });
    assert!(matches!(&value("messages", json!({ "statuses": status })).await[..], [Event::Delivery(_)]));
}

#[tokio::test]
async fn message_without_a_readable_number_is_nobodys() {
    let message = text_message("wamid.1", "Their secret");
    let theirs = json!({ "phone_number_id": THEIRS });
    for field in ["messages", "history", "standby", "smb_message_echoes", "calls", "user_preferences", "account_update"]
    {
        for (metadata, account) in [
            (json!([theirs]), Some(THEIRS)),
            (json!({ "odd": theirs }), None),
            (json!("odd"), None),
            (json!({ "phone_number_id": [THEIRS] }), None),
            (Value::Null, None),
        ] {
            for member in ["messages", "statuses", "message_echoes", "contacts", "user_preferences", "history"] {
                let value = json!({ "metadata": metadata, member: [message] });
                let received = changes(json!([{ "field": field, "value": value }])).await;
                assert!(received.events.is_empty(), "{field} {value}: {:?}", received.events);
                assert_eq!(received.discarded, [Discarded::new(account.map(Into::into), 1)], "{field} {value}");
            }
        }
    }
    // Where nothing says what it is, it may hold a message too.
    let theirs = number_value(THEIRS, "Their secret");
    for change in [
        json!({ "field": "messages", "value": { "odd": theirs } }),
        json!({ "field": "messages", "value": [[theirs]] }),
        json!({ "field": "messages", "value": theirs.to_string() }),
        json!({ "field": "tomorrow", "value": { "odd": theirs } }),
        json!({ "field": "tomorrow", "value": { "metadata": "odd", "odd": "Their secret" } }),
        json!({ "field": "account_update", "value": { "odd": theirs } }),
        json!({ "odd": theirs }),
        json!([theirs]),
    ] {
        let received = changes(json!([change])).await;
        assert!(received.events.is_empty(), "{change}: {:?}", received.events);
        assert_eq!(received.discarded, [Discarded::new(None, 1)], "{change}");
    }
    for odd in [json!(theirs.to_string()), json!([[theirs]]), json!("odd")] {
        let received = changes(&odd).await;
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1), "{odd}");
    }
    // What is of the account, or of our number by its own member, is ours.
    for value in [
        json!({ "event": "TOMORROW" }),
        json!({ "phone_number_id": NUMBER }),
        json!({ "phone_number_settings": { "phone_number_id": NUMBER } }),
        json!({}),
    ] {
        let received = changes(json!([{ "field": "tomorrow", "value": value }])).await;
        assert_eq!(kept(&received.events), [("tomorrow", value.to_string())]);
    }
}

#[tokio::test]
async fn value_that_names_two_owners_is_nobodys() {
    let message = text_message("wamid.1", "Whose?");
    let [ours, theirs] = [NUMBER, THEIRS].map(|number| format!(r#"{{"phone_number_id":"{number}"}}"#));
    let mut twice = Vec::new();
    for (one, other) in [(&ours, &theirs), (&theirs, &ours)] {
        twice.push(format!(r#""metadata":{one},"metadata":{other}"#));
        twice.push(format!(r#""metadata":[{one},{other}]"#));
        let [one, other] = [one, other].map(|metadata| metadata.trim_matches(['{', '}']));
        twice.push(format!(r#""metadata":{{{one},{other}}}"#));
    }
    for metadata in twice {
        let received =
            changes(format!(r#"[{{"field":"messages","value":{{{metadata},"messages":[{message}]}}}}]"#)).await;
        assert!(received.events.is_empty(), "{metadata}: {:?}", received.events);
        assert_eq!(received.discarded, [Discarded::new(None, 1)], "{metadata}");
    }
    // The same twice, or with nothing beside it, is one.
    for metadata in [
        format!(r#""metadata":{ours},"metadata":{ours}"#),
        format!(r#""metadata":{ours},"metadata":null"#),
        format!(r#""metadata":null,"metadata":{ours}"#),
    ] {
        let received =
            changes(format!(r#"[{{"field":"messages","value":{{{metadata},"messages":[{message}]}}}}]"#)).await;
        assert_eq!(inbound(&received.events).text(), Some("Whose?"));
    }
    let update = r#""changes":[{"field":"account_update","value":{"event":"ACCOUNT_DELETED"}}]"#;
    for [one, other] in [[ACCOUNT, "100000000000009"], ["100000000000009", ACCOUNT]] {
        let received = entries(format!(r#"[{{"id":"{one}","id":"{other}",{update}}}]"#)).await;
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]));
    }
}

#[tokio::test]
async fn empty_changes_are_kept_each_by_itself() {
    let received = changes(format!("[{}]", vec!["{}"; 5_000].join(","))).await;
    assert_eq!(received.events.len(), 5_000);
    assert!(received.events.iter().all(|event| event.envelope().raw.as_bytes() == "{}"));
}

#[tokio::test]
async fn preference_that_names_nobody_is_of_the_only_contact() {
    let stop = json!({ "category": "marketing_messages", "value": "stop", "timestamp": 1_795_000_000 });
    let one = json!([{ "user_id": "GB.1" }]);
    let events = value("user_preferences", json!({ "contacts": one, "user_preferences": [stop] })).await;
    assert_eq!(stops(&events), [&person(None, Some("GB.1"))]);
    let two = json!([{ "user_id": "GB.1" }, { "user_id": "GB.2" }]);
    let events = value("user_preferences", json!({ "contacts": two, "user_preferences": [stop] })).await;
    assert_eq!(kept(&events), [("user_preferences", stop.to_string())]);
}

#[tokio::test]
async fn stop_beside_an_unreadable_member_is_heard() {
    let image = json!({ "mime_type": "image/jpeg", "caption": "STOP" });
    let text = json!({ "body": "STOP" });
    let reply = json!({ "type": "list_reply", "list_reply": { "title": "Stop messages" } });
    for mut message in [
        json!({ "type": "image", "image": image }),
        json!({ "image": image }),
        json!({ "text": text }),
        json!({ "type": null, "text": text }),
        json!({ "type": ["text"], "text": text }),
        json!({ "type": "edit", "edit": { "message": { "type": "text", "text": text } } }),
        json!({ "type": "edit", "edit": { "original_message_id": "wamid.0", "message": { "text": text } } }),
        json!({ "type": "edit", "edit": { "original_message_id": "wamid.0", "message": { "type": "image", "image": image } } }),
        json!({ "edit": { "message": { "image": image } } }),
        json!({ "type": "interactive", "interactive": reply }),
        json!({ "type": "interactive", "interactive": { "button_reply": { "id": "", "title": "Stop messages" } } }),
    ] {
        message["from"] = "447700900123".into();
        for id in [Some("wamid.1"), None] {
            message["id"] = json!(id);
            let events = messages(json!([message])).await;
            assert_eq!(stops(&events), [&person(Some("07700900123"), None)], "{message}: {events:?}");
            assert_eq!(events.len(), 2, "{message}");
        }
    }
}

#[tokio::test]
async fn message_without_an_id_has_a_stable_one() {
    let mut nameless = [text_message("", "one"), text_message("", "two")];
    nameless[0]["id"].take();
    let [first, again] = [messages(json!(nameless)).await, messages(json!(nameless)).await];
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!((first.len(), ids(&first)), (2, ids(&again)));
    assert_ne!(first[0].id(), first[1].id());
}

#[tokio::test]
async fn writer_is_joined_with_their_contact() {
    let both = json!({ "wa_id": "447700900123", "user_id": "GB.1" });
    let joined = person(Some("07700900123"), Some("GB.1"));
    let brazil = person(Some("+5511987654321"), Some("BR.1"));
    let brazil_short = person(Some("+551187654321"), Some("BR.1"));
    let many: Vec<_> =
        (0..9).map(|n| json!({ "wa_id": format!("44770090020{n}"), "user_id": format!("GB.9{n}") })).collect();
    for (names, contact, from) in [
        (json!({ "from_user_id": "GB.1" }), &both, &joined),
        (json!({ "from": "GB.1" }), &both, &joined),
        (json!({ "from": "+447700900123" }), &both, &joined),
        (json!({}), &both, &joined),
        (json!({ "from": "5511987654321" }), &json!({ "wa_id": "551187654321", "user_id": "BR.1" }), &brazil),
        (json!({ "from": "551187654321" }), &json!({ "wa_id": "5511987654321", "user_id": "BR.1" }), &brazil_short),
    ] {
        let mut message = text_message("wamid.1", "Hello");
        message.as_object_mut().unwrap().remove("from");
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        let few = json!({ "contacts": [contact], "messages": [message] });
        assert_eq!(&inbound(&value("messages", few).await).from, from, "{names}");
        if names != json!({}) {
            let many: Vec<_> = many.iter().chain([contact]).collect();
            let events = value("messages", json!({ "contacts": many, "messages": [message] })).await;
            assert_eq!(&inbound(&events).from, from, "{names} of many");
        }
    }
    // Somebody else, who cannot be read.
    let mut message = text_message("wamid.1", "Hello");
    message["from"] = "12345".into();
    let events = value("messages", json!({ "contacts": [both], "messages": [message] })).await;
    assert!(matches!(&events[..], [Event::Unrecognised(one)] if one.from.is_none()), "{events:?}");
    // The recipient of a status as well.
    let status =
        json!({ "id": "wamid.1", "status": "sent", "timestamp": "1795000000", "recipient_id": "447700900123" });
    let events = value("messages", json!({ "contacts": [both], "statuses": [status] })).await;
    assert_eq!(events[0].as_delivery().unwrap().recipient, Some(joined));
}

#[tokio::test]
async fn echo_is_of_our_own_number() {
    let contacts = json!([{ "wa_id": "447700900123", "user_id": "GB.1" }]);
    let echo = json!({ "to": "447700900123", "id": "wamid.1", "timestamp": "1795000000", "type": "text", "text": { "body": "STOP" } });
    for (field, list) in
        [("smb_message_echoes", "message_echoes"), ("smb_message_echoes", "messages"), ("standby", "message_echoes")]
    {
        let events = value(field, json!({ "contacts": contacts, list: [echo] })).await;
        let [Event::Inbound(read)] = &events[..] else { panic!("{field} {list}: {events:?}") };
        assert_eq!((read.echo, read.standby), (true, field == "standby"), "{field}");
        assert_eq!(read.from, Address::whatsapp("+441743000000").unwrap());
        assert_eq!(read.to, Some(person(Some("07700900123"), Some("GB.1"))));
    }
    let mut of_user = echo.clone();
    of_user["to"].take();
    of_user["to_user_id"] = "GB.2".into();
    let events = value("smb_message_echoes", json!({ "message_echoes": [of_user] })).await;
    assert_eq!(inbound(&events).to, Some(person(None, Some("GB.2"))));
    // Of a number that is not shown, nobody is taken for the writer.
    let hidden = json!({ "metadata": { "phone_number_id": NUMBER }, "contacts": contacts, "message_echoes": [echo] });
    let received = changes(json!([{ "field": "smb_message_echoes", "value": hidden }])).await;
    let [Event::Unrecognised(one)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!((&one.from, one.envelope.raw.as_bytes()), (&None, &Bytes::from(echo.to_string())));
}

#[tokio::test]
async fn history_tells_residents_from_us() {
    let message = |names: Value| {
        let mut message = text_message("wamid.1", "Hello");
        message.as_object_mut().unwrap().remove("from");
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        message
    };
    for (thread, names, is_ours) in [
        ("447700900123", json!({ "from": "447700900123" }), false),
        ("447700900123", json!({ "from": "+447700900123" }), false),
        ("+447700900123", json!({ "from": "447700900123" }), false),
        ("GB.99", json!({ "from_user_id": "GB.99" }), false),
        ("447700900123", json!({ "from_user_id": "GB.99" }), false),
        ("GB.99", json!({ "from": "447700900123", "from_user_id": "GB.99" }), false),
        ("GB.99", json!({ "from": "447700900123" }), false),
        ("447700900123", json!({ "from": "447700900123", "to": DISPLAY }), false),
        ("GB.99", json!({ "from": DISPLAY }), true),
        ("447700900123", json!({ "from": DISPLAY, "to": "447700900123" }), true),
        ("447700900123", json!({ "from": "447700900789" }), true),
    ] {
        let history = json!([{ "threads": [{ "id": thread, "messages": [message(names.clone())] }] }]);
        let events = value("history", json!({ "history": history })).await;
        let read = inbound(&events);
        assert_eq!((read.echo, read.history), (is_ours, true), "{thread} {names}");
        assert_eq!(read.from == Address::whatsapp("+441743000000").unwrap(), names["from"] == DISPLAY);
    }
    for (names, is_ours) in [
        (json!({ "from": DISPLAY, "to": "447700900123" }), true),
        (json!({ "from": DISPLAY }), true),
        (json!({ "from": "447700900123", "to": DISPLAY }), false),
        (json!({ "from": "447700900123" }), false),
    ] {
        let events = value("history", json!({ "messages": [message(names.clone())] })).await;
        assert_eq!(inbound(&events).echo, is_ours, "{names}");
    }
}

#[tokio::test]
async fn siblings_of_what_is_read_are_kept() {
    let [call, group, error] = ["call", "group", "error"].map(|id| json!({ "id": id }));
    let status = json!({ "id": "wacid.1", "status": "RINGING", "type": "call" });
    let events = value("calls", json!({ "calls": [call], "statuses": [status] })).await;
    assert_eq!(kept(&events), [("calls", status.to_string()), ("calls", call.to_string())]);
    let events = messages(json!([text_message("wamid.1", "Hello")])).await;
    assert!(kept(&events).is_empty());
    let both = json!({ "groups": [group], "messages": [text_message("wamid.1", "Hello")] });
    assert_eq!(kept(&value("messages", both).await), [("groups", group.to_string())]);
    let threads = json!([{ "id": "447700900123", "messages": [text_message("wamid.1", "Hello")] }]);
    let history = json!({ "history": [{ "threads": threads, "errors": [error] }] });
    assert_eq!(kept(&value("history", history).await), [("history.errors", error.to_string())]);
    let events = value("messages", json!({ "statuses": [status] })).await;
    assert_eq!(kept(&events), [("calls", status.to_string())]);
}

#[tokio::test]
async fn change_of_number_names_both_numbers() {
    let [old, new] = [Some("07700900123"), Some("07700900789")];
    for (names, system, previous, current) in [
        (
            json!({ "from_user_id": "GB.1" }),
            json!({ "wa_id": "447700900789", "user_id": "GB.2" }),
            person(None, Some("GB.1")),
            person(new, Some("GB.2")),
        ),
        (
            json!({}),
            json!({ "customer": "447700900123", "wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
        (
            json!({}),
            json!({ "wa_id": "447700900123", "new_wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
        (
            json!({ "from": "447700900123" }),
            json!({ "wa_id": "447700900123", "new_wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
    ] {
        let mut message = json!({ "id": "wamid.1", "timestamp": "1795000000", "type": "system", "system": system });
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        message["system"]["type"] = "user_changed_number".into();
        let events = messages(json!([message])).await;
        let [Event::AddressChanged(changed)] = &events[..] else { panic!("{message}: {events:?}") };
        assert_eq!((&changed.previous, &changed.current), (&previous, &current), "{message}");
    }
}

#[tokio::test]
async fn failure_has_the_first_code_of_its_errors() {
    let error = json!({ "code": 131_026, "title": "Message undeliverable" });
    for errors in [json!([null, error]), json!([{ "title": "t" }, error]), error.clone()] {
        let status = json!({ "id": "wamid.1", "status": "failed", "timestamp": "1795000000",
            "recipient_id": "447700900123", "errors": errors });
        let events = value("messages", json!({ "statuses": [status] })).await;
        let failure = events[0].as_delivery().unwrap().failure.as_ref().unwrap();
        assert_eq!((failure.code.as_deref(), failure.kind), (Some("131026"), ErrorKind::InvalidRecipient), "{errors}");
    }
}

#[tokio::test]
async fn contact_card_has_a_name_and_a_number() {
    let vcard = |lines: &str| json!({ "vcard": format!("BEGIN:VCARD\r\nVERSION:4.0\r\n{lines}\r\nEND:VCARD") });
    for (card, name) in [
        (vcard("N:Neighbour;Sam;;;\r\nTEL;VALUE=uri:tel:+447700900456"), "Sam Neighbour"),
        (vcard("FN:Sam Neigh\r\n bour\r\nTEL:+447700900456"), "Sam Neighbour"),
        (
            json!({ "name": { "first_name": "Sam", "last_name": "Neighbour" }, "phones": [{ "wa_id": "447700900456" }] }),
            "Sam Neighbour",
        ),
        (json!({ "name": { "last_name": "Neighbour" }, "phones": { "phone": "+447700900456" } }), "Neighbour"),
    ] {
        let mut message = text_message("wamid.1", "");
        (message["type"], message["contacts"]) = ("contacts".into(), json!([card]));
        let events = messages(json!([message])).await;
        let InboundContent::Contacts(cards) = &inbound(&events).content else { panic!("{card}: {events:?}") };
        assert_eq!((cards[0].name.as_str(), cards[0].phones[0].value.as_str()), (name, "+447700900456"), "{card}");
    }
}

#[tokio::test]
async fn edits_in_edits_are_not_followed() {
    for depth in [200, 50_000] {
        let [open, close] = [r#"{"type":"edit","edit":{"message":"#.repeat(depth), "}}".repeat(depth)];
        let edits = format!(r#"{open}{{"odd":1e999}}{close}"#);
        let stop = text_message("wamid.1", "STOP");
        let value = format!(r#"{{"metadata":{{"phone_number_id":"{NUMBER}"}},"messages":[{edits},{stop}]}}"#);
        let received = changes(format!(r#"[{{"field":"messages","value":{value}}}]"#)).await;
        assert_eq!(stops(&received.events).len(), 1);
        assert!(kept(&received.events).iter().any(|(what, raw)| *what == "messages.edit" && *raw == edits));
    }
}

/// The account event that one value of a webhook under this field brings.
async fn account_event(field: &str, value: Value) -> civic_messaging::event::Account {
    let entry = json!({ "id": ACCOUNT, "time": 1_795_000_000, "changes": [{ "field": field, "value": value }] });
    let body = json!({ "object": "whatsapp_business_account", "entry": [entry] });
    let received = offline().receive(&signed_with(SECRET, body.to_string())).await.unwrap();
    let [Event::Account(account)] = received.events.as_slice() else { panic!("{value}: {:?}", received.events) };
    account.clone()
}

#[tokio::test]
async fn account_update_tells_every_restriction_and_its_end() {
    let messaging = json!({ "restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1_795_600_000 });
    let numbers = json!({ "restriction_type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION", "expiration": "1795700000" });
    let endless = json!({ "restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING" });
    let both = "RESTRICTED_BIZ_INITIATED_MESSAGING, RESTRICTED_ADD_PHONE_NUMBER_ACTION";
    for (info, reason, end) in [
        (json!([messaging]), "RESTRICTED_BIZ_INITIATED_MESSAGING", Some(1_795_600_000)),
        (messaging.clone(), "RESTRICTED_BIZ_INITIATED_MESSAGING", Some(1_795_600_000)),
        (json!([numbers, null]), "RESTRICTED_ADD_PHONE_NUMBER_ACTION", None),
        (json!([messaging, numbers]), both, Some(1_795_700_000)),
        (endless, "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", None),
        (json!({ "restriction_type": "A", "reason": "SPAM" }), "A: SPAM", None),
    ] {
        let account =
            account_event("account_update", json!({ "event": "ACCOUNT_RESTRICTION", "restriction_info": info })).await;
        assert_eq!((account.topic, account.reason.as_deref()), (Topic::Restriction, Some(reason)), "{info}");
        assert_eq!(account.upcoming.and_then(|end| end.at).map(|end| end.as_secs()), end, "{info}");
    }
}

#[tokio::test]
async fn account_update_tells_why_and_which_tier() {
    let tier = json!({ "tier_update_time": 1_795_000_000, "pricing_category": "UTILITY", "tier": "25000:50000",
        "effective_month": "2026-12", "region": "United Kingdom" });
    let failed =
        |reasons: Value| json!({ "status": "FAILED", "client_business_id": "1", "rejection_reasons": reasons });
    for (event, member, info, topic, reason) in [
        (
            "PARTNER_REMOVED",
            "disconnection_info",
            json!({ "reason": "USER_DISCONNECTED", "initiated_by": "USER" }),
            Topic::Access,
            "USER_DISCONNECTED",
        ),
        (
            "VOLUME_BASED_PRICING_TIER_UPDATE",
            "volume_tier_info",
            tier,
            Topic::Information,
            "25000:50000, UTILITY, United Kingdom, 2026-12",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!(["LEGAL_NAME_NOT_FOUND_IN_DOCUMENTS", "ADDRESS_NOT_MATCHING"])),
            Topic::Information,
            "FAILED: LEGAL_NAME_NOT_FOUND_IN_DOCUMENTS, ADDRESS_NOT_MATCHING",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!("ADDRESS_NOT_MATCHING")),
            Topic::Information,
            "FAILED: ADDRESS_NOT_MATCHING",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!([])),
            Topic::Information,
            "FAILED",
        ),
    ] {
        let account = account_event("account_update", json!({ "event": event, member: info })).await;
        assert_eq!((account.topic, account.reason.as_deref()), (topic, Some(reason)), "{event}");
        assert_eq!((account.state.as_str(), &account.upcoming), (event, &None));
    }
}

#[tokio::test]
async fn template_events_have_id_and_language() {
    let template = |change: Value| {
        let mut template = json!({ "message_template_id": 278_077_987_957_091_u64, "message_template_name": "bin_day",
            "message_template_language": "en-GB" });
        template.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        template
    };
    for (field, change, state, coming) in [
        (
            "message_template_components_update",
            json!({ "message_template_element": "Your bins go out on {{1}}.",
                "message_template_buttons": [{ "message_template_button_type": "QUICK_REPLY" }] }),
            "message_template_components_update",
            None,
        ),
        (
            "template_correct_category_detection",
            json!({ "category": "UTILITY", "correct_category": "MARKETING" }),
            "UTILITY",
            Some("MARKETING"),
        ),
        (
            "template_correct_category_detection",
            json!({ "correct_category": "MARKETING" }),
            "template_correct_category_detection",
            Some("MARKETING"),
        ),
        (
            "template_category_update",
            json!({ "correct_category": "MARKETING", "category_update_timestamp": 1_795_100_000 }),
            "template_category_update",
            Some("MARKETING"),
        ),
    ] {
        let account = account_event(field, template(change)).await;
        assert_eq!((account.topic, account.state.as_str()), (Topic::Template, state), "{field}");
        assert_eq!((account.id.as_deref(), account.language.as_deref()), (Some("278077987957091"), Some("en-GB")));
        assert_eq!(account.name.as_deref(), Some("bin_day"));
        assert_eq!(account.upcoming.map(|coming| coming.state).as_deref(), coming, "{field}");
    }
}
