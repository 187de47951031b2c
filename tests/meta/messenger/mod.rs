//! Messenger: what the conformance suite does not say of it, over real HTTP on loopback.

use bytes::Bytes;
use civic_messaging::event::{DeliveryOf, InboundContent};
use civic_messaging::medium::messenger::{MessagingWindow, window};
use civic_messaging::message::{Choice, Degradation, Media, MediaKind, MediaRef};
use civic_messaging::meta::{Config, Options};
use civic_messaging::webhook::{Discarded, Received, SigningSecret};
use civic_messaging::{
    Address, Channel, ChannelExt, Content, Context, Delivery, DeliveryState, ErrorKind, Event, Inbound, Indicator,
    Message, Meta, Outcome, Purpose, Registry, Secret, Settings, Timestamp,
};
use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::SECRET;
use crate::support::signed_by_meta;

mod config;
mod inbound;
mod malformed;
mod send;

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

fn person() -> Address {
    Address::messenger(PERSON).unwrap()
}

fn page() -> Address {
    Address::messenger(PAGE).unwrap()
}

async fn received(body: impl Into<Vec<u8>>) -> Received {
    offline().receive(&signed_by_meta(SECRET, body)).await.unwrap()
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

fn text(mid: &str, text: &str) -> Value {
    item("message", json!({ "mid": mid, "text": text }))
}

fn to(page: &str, mut item: Value) -> Value {
    item["recipient"]["id"] = page.into();
    item
}
