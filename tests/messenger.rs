//! Messenger: what the conformance suite does not say of it, over real HTTP on loopback.
#![cfg(all(feature = "meta", feature = "reqwest"))]

use bytes::Bytes;
use civic_messaging::event::{DeliveryOf, InboundContent};
use civic_messaging::medium::messenger::{Window, window};
use civic_messaging::message::{Choice, Degradation, Media, MediaKind, MediaRef};
use civic_messaging::meta::{Config, Options};
use civic_messaging::webhook::{Discarded, Received, Request, SigningSecret};
use civic_messaging::{
    Address, Channel, ChannelExt, Content, Context, Delivery, DeliveryState, ErrorKind, Event, Inbound, Indicator,
    Message, Meta, Outcome, Purpose, Registry, Secret, Settings, Timestamp,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const SECRET: &str = "test_app_secret";
const PAGE: &str = "7000000000000001";
const PERSON: &str = "6000000000000001";
/// When the fixtures' things happened, and when their webhooks were sent.
const AT: i64 = 1_795_000_000_123;
const SENT: i64 = 1_795_000_000_456;

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/messenger/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn config() -> Config {
    Config::for_page("EAAG-page-token", PAGE).unwrap().app_secret(SECRET).unwrap()
}

fn offline() -> Meta {
    Meta::messenger_with(config().base_url("http://127.0.0.1:9").unwrap(), &Context::new()).unwrap()
}

fn at(server: &MockServer) -> Meta {
    Meta::messenger_with(config().base_url(&server.uri()).unwrap(), &Context::new()).unwrap()
}

async fn answering(status: u16, body: Value) -> MockServer {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_json(body);
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    server
}

fn person() -> Address {
    Address::messenger(PERSON).unwrap()
}

fn page() -> Address {
    Address::messenger(PAGE).unwrap()
}

fn signed(body: impl Into<Bytes>) -> Request {
    let body = body.into();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&body);
    let signature = mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |s, b| format!("{s}{b:02x}"));
    http::Request::post("/webhooks/meta").header("X-Hub-Signature-256", signature).body(body).unwrap().into()
}

async fn received(body: impl Into<Bytes>) -> Received {
    offline().receive(&signed(body)).await.unwrap()
}

async fn recorded(name: &str) -> Vec<Event> {
    received(fixture(name)).await.events
}

/// What comes of things that happened in the conversation with the resident.
async fn events_of(items: impl IntoIterator<Item = Value>) -> Vec<Event> {
    let items: Vec<_> = items.into_iter().collect();
    received(json!({ "object": "page", "entry": [{ "id": PAGE, "time": SENT, "messaging": items }] }).to_string())
        .await
        .events
}

fn item(name: &str, what: Value) -> Value {
    let mut item = json!({ "sender": { "id": PERSON }, "recipient": { "id": PAGE }, "timestamp": AT });
    item[name] = what;
    item
}

fn inbound(events: &[Event]) -> &Inbound {
    let [Event::Inbound(inbound)] = events else { panic!("{events:?}") };
    inbound
}

fn deliveries(events: &[Event]) -> Vec<&Delivery> {
    events.iter().map(|event| event.as_delivery().unwrap()).collect()
}

fn unknown(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .map(|event| match event {
            Event::Unrecognised(event) => event.what.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn who_wrote_what_to_whom_and_when() {
    let events = recorded("inbound_text.json").await;
    let text = inbound(&events);
    assert_eq!((&text.from, text.to.as_ref(), text.echo), (&person(), Some(&page()), false));
    assert_eq!(text.content, InboundContent::Text("Hello council".into()));
    assert_eq!((text.envelope.at, text.envelope.account.as_str()), (Timestamp::from_millis(AT), PAGE));
    let raw: Value = serde_json::from_slice(text.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, item("message", json!({ "mid": "m_FIXTURE_1", "text": "Hello council" })));

    let events = recorded("inbound_reply_to.json").await;
    assert_eq!(inbound(&events).reply_to.as_ref().unwrap().as_str(), "m_OUT_1");
    for (name, id, title) in
        [("inbound_quick_reply.json", "YES", "Yes"), ("postback.json", "GET_STARTED", "Get started")]
    {
        let events = recorded(name).await;
        let InboundContent::Selection(chosen) = &inbound(&events).content else { panic!("{name}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title));
    }
}

#[tokio::test]
async fn quick_reply_that_cancels_is_a_selection_to_answer() {
    let body = String::from_utf8(fixture("inbound_quick_reply.json").to_vec()).unwrap();
    for (payload, title, events) in [("cancel", "Cancel", 1), ("STOP", "No", 1), ("1", "Start", 1), ("1", "Stop", 2)] {
        let body = body.replace("\"YES\"", &format!("{payload:?}")).replace("\"Yes\"", &format!("{title:?}"));
        let received = received(body).await;
        assert_eq!((received.events.len(), received.answerable().count()), (events, 2 - events), "{payload} {title}");
    }
}

#[tokio::test]
async fn files_have_a_kind_though_no_media_type() {
    let events = recorded("inbound_image.json").await;
    let [photo] = inbound(&events).media() else { panic!() };
    assert_eq!((photo.kind(), photo.mime.as_deref()), (MediaKind::Image, None));
    assert_eq!(
        (photo.id.as_str(), photo.url.as_deref()),
        ("m_FIXTURE_3/0", Some("https://scontent.example.org/1.jpg"))
    );
    // A store keeps the kind.
    let stored: MediaRef = serde_json::from_str(&serde_json::to_string(photo).unwrap()).unwrap();
    assert_eq!(stored, *photo);

    let attached =
        |kind: &str| json!({ "type": kind, "payload": { "url": format!("https://scontent.example.org/{kind}") } });
    let all = ["audio", "file", "image", "sticker", "video"].map(attached);
    let events = events_of([item("message", json!({ "mid": "m_1", "text": "See", "attachments": all }))]).await;
    use MediaKind::*;
    let kinds: Vec<_> = inbound(&events).media().iter().map(MediaRef::kind).collect();
    assert_eq!((kinds, inbound(&events).text()), (vec![Audio, Document, Image, Sticker, Video], Some("See")));
}

#[tokio::test]
async fn what_is_attached_and_is_no_file() {
    for (attachments, text, content) in [
        (json!([{ "type": "fallback", "payload": null }]), None, InboundContent::unsupported(Some("fallback"))),
        (json!([{ "type": "fallback", "title": "A page" }]), Some("See"), InboundContent::Text("See".into())),
        (json!([{ "type": "template", "payload": { "template_type": "button" } }]), None, {
            InboundContent::unsupported(Some("template"))
        }),
        (json!([{ "type": "image", "payload": {} }]), None, InboundContent::unsupported(Some("image"))),
        (json!([{ "payload": [] }]), None, InboundContent::unsupported(None::<String>)),
        (json!(null), None, InboundContent::unsupported(None::<String>)),
    ] {
        let events =
            events_of([item("message", json!({ "mid": "m_1", "text": text, "attachments": attachments }))]).await;
        assert_eq!(inbound(&events).content, content, "{attachments}");
    }
}

#[tokio::test]
async fn a_watermark_is_of_all_messages_up_to_a_moment() {
    let moment = DeliveryOf::UpTo { at: Timestamp::from_millis(1_795_000_000_999), id: None };
    for (name, state) in [("delivery_without_mids.json", DeliveryState::Delivered), ("read.json", DeliveryState::Read)]
    {
        let events = recorded(name).await;
        let [up_to] = deliveries(&events)[..] else { panic!("{name}: {events:?}") };
        assert_eq!((&up_to.of, up_to.state, up_to.recipient.as_ref()), (&moment, state, Some(&person())), "{name}");
    }
    let events = recorded("delivery.json").await;
    let [one, up_to] = deliveries(&events)[..] else { panic!("{events:?}") };
    assert_eq!(
        (one.id().unwrap().as_str(), one.state, one.recipient.as_ref()),
        ("m_OUT_1", DeliveryState::Delivered, Some(&person()))
    );
    assert_eq!((&up_to.of, up_to.state, up_to.status.as_str()), (&moment, DeliveryState::Delivered, "delivery"));
    // Neither ids nor a moment; a moment that is none; and what we read ourselves.
    for nothing in [
        item("delivery", json!({})),
        item("delivery", json!({ "mids": [""], "watermark": -1 })),
        item("read", json!({ "watermark": "soon" })),
        json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT, "read": { "watermark": AT } }),
    ] {
        let events = events_of([nothing]).await;
        assert!(matches!(unknown(&events)[..], ["delivery" | "read"]));
    }
}

#[tokio::test]
async fn an_echo_is_ours_and_settles_a_send_whose_answer_got_lost() {
    let events = recorded("echo.json").await;
    let [Event::Inbound(echo), Event::Delivery(settled)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((echo.echo, &echo.from, echo.to.as_ref()), (true, &page(), Some(&person())));
    assert_eq!((settled.id().unwrap().as_str(), settled.key()), ("m_OUT_1", Some("case-1")));
    assert_eq!((settled.state, settled.status.as_str()), (DeliveryState::Sent, "echo"));
    assert_eq!(settled.recipient.as_ref(), Some(&person()));
    assert_eq!(received(fixture("echo.json")).await.answerable().count(), 0);
    let error = offline().send_indicator(echo, Indicator::Read).await.unwrap_err();
    assert_eq!((error.field(), error.outcome()), (Some("inbound"), Outcome::NotSent));

    // Without a key there is nothing to settle; a text of the page is an echo whether or not it says so; and a resident's
    // own metadata would be no key of ours.
    let from_page = |message: Value| json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT, "message": message });
    let events = events_of([from_page(json!({ "mid": "m_1", "text": "STOP" }))]).await;
    assert!(inbound(&events).echo);
    let events = events_of([item("message", json!({ "mid": "m_1", "text": "Hello", "metadata": "case-1" }))]).await;
    assert!(!inbound(&events).echo);
}

#[tokio::test]
async fn a_reaction_has_an_id_of_its_own() {
    let events = recorded("reaction.json").await;
    let reaction = inbound(&events);
    assert_eq!(reaction.content, InboundContent::Reaction { to: "m_OUT_1".into(), emoji: Some("👍".into()) });
    assert_eq!(reaction.id.as_str(), format!("m_OUT_1/react/{AT}"));
    let what = |action: &str| item("reaction", json!({ "mid": "m_OUT_1", "action": action, "reaction": "like" }));
    let events = events_of([what("unreact")]).await;
    assert_eq!(inbound(&events).content, InboundContent::Reaction { to: "m_OUT_1".into(), emoji: None });
    // Without an emoji it would read as one that is taken back.
    let events = events_of([what("react"), what("wave")]).await;
    assert_eq!(unknown(&events), ["reaction", "reaction"]);
}

#[tokio::test]
async fn standby_is_kept_and_never_answered_and_its_stop_is_heard() {
    let standby =
        [item("message", json!({ "mid": "m_1", "text": "STOP" })), item("postback", json!({ "title": "Report" }))];
    let body = json!({ "object": "page", "entry": [{ "id": PAGE, "time": SENT, "standby": standby }] });
    let received = received(body.to_string()).await;
    let [Event::Inbound(text), Event::OptOut(opt_out), Event::Inbound(tap)] = &received.events[..] else {
        panic!("{:?}", received.events)
    };
    assert!(text.standby && tap.standby && opt_out.from == person());
    assert_eq!(received.answerable().count(), 0);
}

#[tokio::test]
async fn one_strange_thing_costs_only_itself() {
    let text = |mid: &str| item("message", json!({ "mid": mid, "text": "Hello" }));
    let events = events_of([
        text("m_1"),
        item("message", json!([])),
        item("message", json!({ "text": "without an id" })),
        json!({ "sender": { "id": "somebody" }, "timestamp": AT, "message": { "mid": "m_2", "text": "Hello" } }),
        json!(7),
        item("optin", json!({ "type": "notification_messages" })),
        item("pass_thread_control", json!({ "new_owner_app_id": "8000000000000001" })),
        item("policy_enforcement", json!({ "action": "block", "reason": "…" })),
        item("postback", json!({ "mid": "m_4" })),
        text("m_3"),
    ])
    .await;
    assert_eq!([&events[0], &events[9]].map(|event| inbound(std::slice::from_ref(event)).id.as_str()), ["m_1", "m_3"]);
    assert_eq!(inbound(&events[2..3]).text(), Some("without an id"));
    assert_eq!(unknown(&events[1..2]), ["message"]);
    assert_eq!(
        unknown(&events[3..9]),
        ["message", "messaging", "optin", "pass_thread_control", "policy_enforcement", "postback"]
    );
    assert_eq!(events[4].envelope().raw.as_bytes(), "7");
    // A whole entry, another product of Meta's, something that is of the page and no message, and nothing at all.
    let entries = |object: &str, entry: Value| json!({ "object": object, "entry": [entry] }).to_string();
    for (body, name) in [
        (entries("page", json!({ "id": PAGE, "messaging": 7 })), "entry"),
        (entries("page", json!({ "id": PAGE, "messaging": {} })), "messaging"),
        (entries("page", json!({ "id": PAGE, "time": SENT })), "entry"),
        (entries("page", json!({ "id": PAGE, "changes": [{ "field": "feed", "value": {} }] })), "feed"),
        (entries("instagram", json!({ "id": PAGE, "messaging": [text("m_4")] })), "instagram"),
    ] {
        let received = received(body).await;
        assert_eq!((unknown(&received.events), received.discarded_events()), (vec![name], 0));
    }
    // Of a body that names no page nobody knows whose it is.
    let nobody = received("{\"entry\":7}".to_owned()).await;
    assert_eq!((nobody.events.len(), &nobody.discarded[..]), (0, &[Discarded::new(None, 1)][..]));
}

#[tokio::test]
async fn ids_and_times_are_exact() {
    let event = |sender: &str, time: &str| {
        format!(
            r#"{{"object":"page","entry":[{{"id":{PAGE},"time":{SENT},"messaging":[
                {{"sender":{{"id":{sender}}},"timestamp":{time},"message":{{"mid":"m_1","text":"Hello"}}}}]}}]}}"#
        )
    };
    for (sender, time, came, at) in [
        ("6000000000000001", "1795000000123", "6000000000000001", AT),
        ("18446744073709551615", "\"1795000000123\"", "18446744073709551615", AT),
        ("\"99999999999999999999999999\"", "null", "99999999999999999999999999", SENT),
    ] {
        let events = received(event(sender, time)).await.events;
        let text = inbound(&events);
        assert_eq!((text.from.expose(), text.envelope.at.as_millis()), (came, at));
    }
    // Rounded, this would be another resident.
    let events = received(event("60000000000000000000001", "1795000000123")).await.events;
    assert_eq!(unknown(&events), ["message"]);
}

#[tokio::test]
async fn a_secret_makes_events_of_its_own_pages_only() {
    let entry = |page: &str| {
        let mut item = item("message", json!({ "mid": page, "text": "Hello" }));
        item["recipient"]["id"] = page.into();
        json!({ "id": page, "time": SENT, "messaging": [item] })
    };
    let body =
        json!({ "object": "page", "entry": [entry(PAGE), entry("7000000000000002"), entry("7000000000000003")] });
    let both = received(body.to_string()).await;
    assert_eq!((both.events.len(), both.discarded_events()), (1, 2));
    // One app of two pages.
    let mut config = config().base_url("http://127.0.0.1:9").unwrap();
    let secret = Secret::new(SECRET).unwrap();
    config.app_secrets = vec![SigningSecret::for_accounts(secret, [PAGE.into(), "7000000000000002".into()])];
    let meta = Meta::messenger_with(config, &Context::new()).unwrap();
    let both = meta.receive(&signed(body.to_string())).await.unwrap();
    let accounts: Vec<_> = both.events.iter().map(|event| event.envelope().account.as_str()).collect();
    assert_eq!((accounts, both.discarded_events()), (vec![PAGE, "7000000000000002"], 1));
    // An entry that cannot be read may be another page's.
    let strange =
        json!({ "object": "page", "entry": [{ "id": "7000000000000002", "messaging": 7 }, { "messaging": 7 }, []] });
    let strange = received(strange.to_string()).await;
    assert_eq!((strange.events.len(), strange.discarded_events()), (0, 3));
}

const OTHER: &str = "7000000000000002";

fn text(mid: &str, text: &str) -> Value {
    item("message", json!({ "mid": mid, "text": text }))
}

fn to(page: &str, mut item: Value) -> Value {
    item["recipient"]["id"] = page.into();
    item
}

fn is_opt_out(event: &Event) -> bool {
    matches!(event, Event::OptOut(opt_out) if opt_out.from == person())
}

/// How many bytes the events keep of the body, all together.
fn kept(events: &[Event]) -> usize {
    events.iter().map(|event| event.envelope().raw.as_bytes().len()).sum()
}

fn event_ids(events: &[Event]) -> std::collections::HashSet<String> {
    events.iter().map(Event::id).collect()
}

#[tokio::test]
async fn item_of_another_page_is_never_ours() {
    let theirs = || to(OTHER, text("m_9", "said to another page"));
    let entry = |entry: Value| json!({ "object": "page", "entry": entry }).to_string();
    for body in [
        entry(json!([{ "id": PAGE, "messaging": theirs() }])),
        entry(json!({ "id": PAGE, "messaging": [theirs()] })),
        entry(json!([{ "id": PAGE, "standby": [theirs()] }])),
        entry(json!([{ "messaging": [theirs()] }])),
        json!({ "object": "instagram", "entry": [{ "id": PAGE, "messaging": [theirs()] }] }).to_string(),
        format!(r#"{{"entry":[{{"id":"{OTHER}","id":"{PAGE}","messaging":[{}]}}]}}"#, text("m_1", "Hello")),
        format!(
            r#"{{"entry":[{{"id":"{PAGE}","messaging":[{{"sender":{{"id":"{PERSON}"}},"recipient":{{"id":"{OTHER}"}},
                "recipient":{{"id":"{PAGE}"}},"message":{{"mid":"m_1","text":"Hello"}}}}]}}]}}"#
        ),
    ] {
        let received = received(body.clone()).await;
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    // Beside one of ours, and with a value that is no list.
    let body = entry(json!([{ "id": PAGE, "messaging": [theirs(), text("m_1", "STOP"), theirs()], "standby": 7 }]));
    let received = received(body).await;
    let [Event::Inbound(_), stop, odd] = &received.events[..] else { panic!("{:?}", received.events) };
    assert!(is_opt_out(stop));
    assert_eq!((odd.envelope().raw.as_bytes().as_ref(), received.discarded_events()), (&b"7"[..], 2));
}

#[tokio::test]
async fn object_in_the_place_of_a_list_is_one_value() {
    let one = json!({ "object": "page", "entry": { "id": PAGE, "time": SENT, "messaging": text("m_1", "STOP") } });
    let events = received(one.to_string()).await.events;
    assert!(matches!(&events[..], [Event::Inbound(_), stop] if is_opt_out(stop)));
}

#[tokio::test]
async fn entry_without_an_id_is_of_the_page_it_was_written_to() {
    let echo = json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT,
        "message": { "mid": "m_2", "text": "Reply", "is_echo": true } });
    for id in [Value::Null, json!([]), json!("")] {
        let items = [text("m_1", "STOP"), echo.clone(), to(OTHER, text("m_9", "Hello"))];
        let body = json!({ "object": "page", "entry": [{ "id": id, "time": SENT, "messaging": items }] });
        let received = received(body.to_string()).await;
        let [Event::Inbound(_), stop, Event::Inbound(echo)] = &received.events[..] else {
            panic!("{:?}", received.events)
        };
        assert!(is_opt_out(stop) && echo.echo && echo.envelope.account.as_str() == PAGE);
        assert_eq!(received.discarded, [Discarded::new(None, 1)]);
    }
}

#[tokio::test]
async fn many_parts_of_one_thing_keep_it_once() {
    let mids: Vec<_> = (0..3_000).map(|n| format!("m_{n}")).collect();
    let many = item("delivery", json!({ "mids": mids, "watermark": AT }));
    let events = events_of([many.clone()]).await;
    assert_eq!((events.len(), event_ids(&events).len()), (3_001, 3_001));
    assert!(kept(&events) <= 5 * many.to_string().len());
    assert_eq!(events[4].envelope().raw.as_bytes(), "\"m_4\"");
    assert_eq!(events_of([many]).await, events);
    // More than the limit are kept together.
    let mids: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let events = events_of([item("delivery", json!({ "mids": mids }))]).await;
    assert_eq!(unknown(&events[10_000..]), ["overflow"]);
    // One that is named often is one.
    let events = events_of([item("delivery", json!({ "mids": vec!["m"; 3_000] }))]).await;
    assert_eq!(deliveries(&events).len(), 1);

    let link = |n: usize| json!({ "type": "share", "payload": { "url": format!("https://example.gov.uk/{n}") } });
    let links: Vec<_> = (0..3_000).map(link).collect();
    let many = item(
        "message",
        json!({ "mid": "m_1", "text": "See https://example.gov.uk/0", "attachments": links,
        "referral": { "ref": "r".repeat(1_000) } }),
    );
    let events = events_of([many.clone()]).await;
    assert_eq!((events.len(), event_ids(&events).len()), (3_000, 3_000));
    assert!(kept(&events) <= 5 * many.to_string().len());
    assert_eq!(events[4].envelope().raw.as_bytes(), link(4).to_string().as_str());
    assert_eq!(events.iter().filter(|event| event.as_inbound().unwrap().referral.is_some()).count(), 1);
    // Nor is a time that is none a part of each id.
    let taps = (0..1_000).map(|n| json!({ "sender": { "id": PERSON }, "postback": { "payload": n.to_string() } }));
    let body = json!({ "object": "page", "entry": [{ "id": PAGE, "time": "1".repeat(2_000), "messaging": taps.collect::<Vec<_>>() }] });
    let events = received(body.to_string()).await.events;
    assert_eq!((events.len(), event_ids(&events).len()), (1_000, 1_000));
    assert!(events.iter().all(|event| event.id().len() < 300));
    // Nor is an id kept with each part that is longer than any of Meta's.
    let long = item("message", json!({ "mid": "m".repeat(2_000), "attachments": [link(1), link(2)] }));
    let events = events_of([long]).await;
    assert_eq!(event_ids(&events).len(), 2);
    assert!(events.iter().all(|event| event.as_inbound().unwrap().id.as_str().len() < 100));
}

#[tokio::test]
async fn message_without_an_id_is_heard() {
    let without = |text: &str| item("message", json!({ "text": text }));
    let events = events_of([without("STOP"), without("Hello")]).await;
    let [Event::Inbound(stop), opt_out, Event::Inbound(hello)] = &events[..] else { panic!("{events:?}") };
    assert!(is_opt_out(opt_out) && stop.id != hello.id);
    assert_eq!(event_ids(&events), event_ids(&events_of([without("STOP"), without("Hello")]).await));
    // An echo of which only our key is known.
    let echo = json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT,
        "message": { "text": "Reply", "is_echo": true, "metadata": "case-1" } });
    let events = events_of([echo]).await;
    let delivery = events[1].as_delivery().unwrap();
    assert_eq!((delivery.id(), delivery.key()), (None, Some("case-1")));
}

#[tokio::test]
async fn second_tap_is_no_repeat_of_the_first() {
    let tap = |payload: &str, time: Value| {
        let mut tap = item("postback", json!({ "title": "Report", "payload": payload }));
        tap["timestamp"] = time;
        tap
    };
    let reaction = |emoji: &str, time: Value| {
        let mut reaction = item("reaction", json!({ "mid": "m_1", "action": "react", "emoji": emoji }));
        reaction["timestamp"] = time;
        reaction
    };
    let referral = |word: &str| {
        let mut referral = item("referral", json!({ "ref": word }));
        referral["timestamp"] = Value::Null;
        referral
    };
    let items = || {
        [
            tap("A", AT.into()),
            tap("B", AT.into()),
            tap("A", Value::Null),
            tap("B", Value::Null),
            reaction("1", AT.into()),
            reaction("2", AT.into()),
            reaction("1", Value::Null),
            referral("a"),
            referral("b"),
        ]
    };
    let events = events_of(items()).await;
    assert_eq!(event_ids(&events).len(), 9, "{:?}", event_ids(&events));
    assert_eq!(event_ids(&events), event_ids(&events_of(items()).await));
    // The same tap on another day.
    let at = |time: i64| json!({ "object": "page", "entry": [{ "id": PAGE, "time": time, "messaging": [tap("A", Value::Null)] }] });
    let days = [received(at(SENT).to_string()).await, received(at(SENT + 86_400_000).to_string()).await];
    assert_ne!(days[0].events[0].id(), days[1].events[0].id());
}

#[tokio::test]
async fn nothing_beside_another_thing_is_dropped() {
    let contents = |events: &[Event]| -> Vec<InboundContent> {
        assert_eq!(event_ids(events).len(), events.len());
        events.iter().filter_map(Event::as_inbound).map(|inbound| inbound.content.clone()).collect()
    };
    let message = |message: Value| events_of([item("message", message)]);
    let link = || json!({ "type": "share", "payload": { "url": "https://example.gov.uk/a" } });
    let page = || InboundContent::Link { title: None, url: "https://example.gov.uk/a".into() };

    let place = json!({ "type": "location", "url": "https://example.gov.uk/a",
        "payload": { "coordinates": { "lat": 52.3, "long": -2.7 } } });
    let events = message(json!({ "mid": "m_1", "attachments": [place] })).await;
    assert!(matches!(&contents(&events)[..], [InboundContent::Location(_), link] if *link == page()));

    let image = json!({ "type": "image", "payload": { "url": "https://scontent.xx.fbcdn.net/a.png" } });
    let reply =
        json!({ "mid": "m_1", "text": "Stop", "quick_reply": { "payload": "1" }, "attachments": [image, link()] });
    let events = message(reply).await;
    assert!(events.iter().any(is_opt_out));
    let read = contents(&events);
    assert!(
        matches!(&read[..], [InboundContent::Selection(_), InboundContent::Media { text: None, .. }, link] if *link == page())
    );

    let events = message(json!({ "mid": "m_1", "text": "STOP", "attachments": link() })).await;
    assert_eq!(contents(&events), [InboundContent::Text("STOP".into()), page()]);
    assert!(events.iter().any(is_opt_out));

    let unread = json!([{ "type": "template" }, { "type": "fallback" }, { "type": "template" }]);
    let events = message(json!({ "mid": "m_1", "attachments": unread })).await;
    assert_eq!(contents(&events), ["template", "fallback"].map(|kind| InboundContent::unsupported(Some(kind))));

    let mut both = text("m_1", "STOP");
    both["postback"] = json!({ "mid": "m_1", "title": "Report", "payload": "REPORT" });
    both["read"] = json!({ "watermark": AT });
    let events = events_of([both]).await;
    assert!(events.iter().any(is_opt_out) && events.iter().any(|event| event.as_delivery().is_some()));
    assert!(matches!(&contents(&events)[..], [InboundContent::Text(_), InboundContent::Selection(_)]));
}

#[tokio::test]
async fn what_a_person_typed_goes_with_its_tag() {
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
    assert_eq!(week, Window::HumanAgent { until_ms: AT + 7 * 24 * 3_600_000 });
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
async fn a_closed_window_is_told_from_a_missing_permission() {
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
async fn a_throttle_says_how_long_to_wait_and_a_configuration_overrides() {
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
async fn an_answer_without_an_id_leaves_it_unknown() {
    for body in [json!({ "recipient_id": PERSON }), json!({ "message_id": "" }), json!({ "message_id": null })] {
        let server = answering(200, body).await;
        let error = at(&server).send_text(&person(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::Unknown));
    }
}

#[tokio::test]
async fn what_messenger_has_no_place_for() {
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
async fn a_file_is_fetched_by_its_address_and_without_the_token() {
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

#[test]
fn a_configuration_is_of_one_medium() {
    let context = Context::with_transport(civic_messaging::transport::NoTransport);
    let field = |built: Result<Meta, civic_messaging::Error>| {
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.field().unwrap().to_owned()
    };
    let number = || Config::new("EAAG-test-token", "200000000000001").unwrap();
    let messenger = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        field(Meta::messenger_with(config, &context))
    };
    assert_eq!(messenger(|config| config.page_id = None), "page_id");
    assert_eq!(messenger(|config| config.page_id = Some("".into())), "page_id");
    assert_eq!(messenger(|config| config.page_id = Some("ExampleCouncil".into())), "page_id");
    assert_eq!(messenger(|config| config.phone_number_id = Some("200000000000001".into())), "phone_number_id");
    assert_eq!(messenger(|config| config.business_account_id = Some("1".into())), "business_account_id");
    assert_eq!(messenger(|config| config.messaging_account_id = Some("1".into())), "messaging_account_id");
    assert_eq!(messenger(|config| config.version = "26".into()), "version");
    let mut both = number();
    both.page_id = Some(PAGE.into());
    assert_eq!(field(Meta::whatsapp_with(both.clone(), &context)), "page_id");
    assert_eq!(field(Meta::whatsapp_360dialog_with(both, &context)), "page_id");
    assert_eq!(field(Meta::messenger_with(number(), &context)), "phone_number_id");
    assert_eq!(field(Meta::whatsapp_with(config(), &context)), "page_id");
}

#[test]
fn the_registry_knows_it() {
    let context = Context::with_transport(civic_messaging::transport::NoTransport);
    let settings = |medium: &str, gateway: &str| {
        let json = json!({ "gateway": gateway, "medium": medium, "access_token": "EAAG-page-token", "page_id": PAGE });
        Settings::from_json(&json.to_string()).unwrap()
    };
    let channel = Registry::standard().connect(&settings("messenger", "meta"), &context).unwrap();
    let info = channel.info();
    assert_eq!((info.gateway, info.medium.as_str(), info.account.as_str()), ("meta", "messenger", PAGE));
    // No secret, no webhooks.
    assert!(!info.capability.receive && !info.capability.health && !info.capability.upload_media);
    for (medium, gateway, field) in
        [("whatsapp", "meta", "page_id"), ("x", "meta", "medium"), ("messenger", "360dialog", "medium")]
    {
        let error = Registry::standard().connect(&settings(medium, gateway), &context).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
    }
}

#[tokio::test]
async fn the_mock_has_the_limits_of_messenger() {
    let mock = civic_messaging::Mock::messenger();
    let (can, real) = (&mock.info().capability, offline());
    let real = &real.info().capability;
    assert_eq!((can.text, &can.media, can.choice), (real.text, &real.media, real.choice));
    assert_eq!((can.link, can.template, can.location, can.conversation), (None, None, false, false));
    assert_eq!(mock.send_text(&person(), "a".repeat(2_001)).await.unwrap_err().field(), Some("text"));
    let webhook = mock.arrives(PERSON, "When is my bin day?");
    let events = mock.receive(&webhook).await.unwrap().events;
    mock.reply(inbound(&events), "On Tuesday.").await.unwrap();
    mock.assert_sent(PERSON, "On Tuesday.");
}
