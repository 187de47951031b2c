//! WhatsApp: the vendor's own bytes in, values out, over real HTTP on loopback.

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
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::SECRET;
use crate::support::signed_by_meta;

mod account;
mod error;
mod inbound;
mod malformed;
mod media;
mod send;
mod signature;
mod status;

const NUMBER: &str = "200000000000001";
const ACCOUNT: &str = "100000000000001";
const DISPLAY: &str = "441743000000";

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

async fn events(name: &str) -> Vec<Event> {
    let received = offline().receive(&signed_by_meta(SECRET, fixture(name))).await.unwrap();
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

async fn answering(status: u16, body: impl Into<Vec<u8>>) -> (MockServer, Meta) {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_bytes(body);
    Mock::given(|_: &wiremock::Request| true).respond_with(answer).mount(&server).await;
    let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
    (server, meta)
}

async fn received(body: impl Into<Vec<u8>>) -> civic_messaging::webhook::Received {
    offline().receive(&signed_by_meta(SECRET, body)).await.unwrap()
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

fn person(phone: Option<&str>, user_id: Option<&str>) -> Address {
    let phone = phone.map(|phone| phone.parse().unwrap());
    civic_messaging::address::WhatsAppUser::new(phone, user_id).unwrap().into()
}

fn inbound(events: &[Event]) -> &Inbound {
    events.iter().find_map(Event::as_inbound).unwrap_or_else(|| panic!("{events:?}"))
}
