//! X: the vendor's own shapes in, values out, over real HTTP on loopback.
#![cfg(all(feature = "x", feature = "reqwest"))]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::adapter::{OAuth1, OAuth2};
use civic_messaging::address::XUser;
use civic_messaging::clock::VirtualClock;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{DeliveryOf, InboundContent, Topic};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::media::MediaStream;
use civic_messaging::message::{Degradation, Media, MediaKind, MediaRef, MediaSource};
use civic_messaging::poll::{Cursor, Page};
use civic_messaging::tokens::{MemoryTokens, TokenPair, TokenStore};
use civic_messaging::transport::{Body, Transport, TransportError};
use civic_messaging::webhook::{Discarded, Request, SigningSecret};
use civic_messaging::x::{Config, Credentials};
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, Error, ErrorKind, Event, Inbound, Medium, Message, Outcome,
    Registry, Result, Secret, Settings, Timestamp, X, async_trait,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use wiremock::matchers::{body_string_contains, header, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, Request as Asked, Respond, ResponseTemplate};

mod account;
mod config;
mod error;
mod inbound;
mod lookup;
mod malformed;
mod media;
mod oauth;
mod poll;
mod send;
mod signature;
#[path = "../support/mod.rs"]
mod support;

const COUNCIL: &str = "1900000000000000202";
const RESIDENT: &str = "1900000000000000101";
const SECRET: &str = "fixture-consumer-secret";
const SIGNATURE: &str = "x-twitter-webhooks-signature";
const SEND: &str = "/2/dm_conversations/with/1900000000000000101/messages";
const NOW: Timestamp = Timestamp::from_secs(1_788_256_000);

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/x/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn json_fixture(name: &str) -> Value {
    serde_json::from_slice(&fixture(name)).unwrap()
}

fn answer(status: u16, name: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(fixture(name).to_vec(), "application/json")
}

fn keys() -> OAuth1 {
    OAuth1::new("fixture-key", SECRET, "1900-token", "token-secret").unwrap()
}

fn clock() -> VirtualClock {
    VirtualClock::starting_at(NOW)
}

fn context() -> Context {
    Context::new().clock(clock())
}

fn signed(server: &MockServer) -> X {
    X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context()).unwrap()
}

fn offline() -> X {
    X::direct_messages_with(Config::new(COUNCIL, keys()).base_url("http://127.0.0.1:9").unwrap(), &context()).unwrap()
}

fn client() -> OAuth2 {
    OAuth2::new("client-id", "FIXTURE-REFRESH-1").unwrap()
}

fn resident() -> Address {
    Address::x(RESIDENT).unwrap()
}

async fn given(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

async fn asked(server: &MockServer) -> Vec<Asked> {
    server.received_requests().await.unwrap()
}

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

#[derive(Debug)]
struct NoCalls;

#[async_trait]
impl Transport for NoCalls {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        use civic_messaging::transport::{SendProgress, TransportErrorKind};
        Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent))
    }
}

fn mac(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", BASE64_STANDARD.encode(support::mac(secret, body)))
}

fn post(signature: &str, body: impl Into<Bytes>) -> Request {
    let request = http::Request::post("/webhooks/x").header(SIGNATURE, signature).body(body.into()).unwrap();
    Request::from(request).arrived_at(NOW)
}

async fn events(x: &X, body: impl Into<Bytes>) -> Vec<Event> {
    let body = body.into();
    let received = x.receive(&post(&mac(SECRET, &body), body.clone())).await.unwrap();
    assert_eq!((received.response.status.as_u16(), received.discarded_events()), (200, 0));
    received.events
}

async fn only(name: &str) -> Event {
    let mut events = events(&offline(), fixture(name)).await;
    assert_eq!(events.len(), 1, "{name}: {events:?}");
    assert_eq!(events[0].envelope().account.as_str(), COUNCIL);
    assert_eq!((events[0].envelope().gateway.as_ref(), &events[0].envelope().medium), ("x", &Medium::X));
    events.remove(0)
}

async fn inbound(name: &str) -> Inbound {
    let Event::Inbound(inbound) = only(name).await else { panic!("{name}") };
    inbound
}

/// A message of the resident, as both APIs write it.
fn said(id: &str, text: &str) -> Value {
    json!({ "type": "message_create", "id": id, "created_timestamp": "1788254998705", "message_create": {
        "target": { "recipient_id": COUNCIL }, "sender_id": RESIDENT, "message_data": { "text": text } } })
}

fn is_opt_out(event: &Event) -> bool {
    matches!(event, Event::OptOut(opt_out) if opt_out.from == resident())
}

fn listed(id: u64, text: &str) -> Value {
    json!({ "id": id.to_string(), "event_type": "MessageCreate", "text": text, "sender_id": RESIDENT,
        "dm_conversation_id": format!("{RESIDENT}-{COUNCIL}"), "created_at": "2026-09-01T09:30:00.000Z" })
}
