//! GOV.UK Notify over HTTP: recorded exchanges, callbacks, and a server with lists to poll.

#![cfg(all(feature = "notify", feature = "reqwest"))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{DeliveryOf, InboundContent};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::message::Template;
use civic_messaging::notify::{self, KeyType, Notify};
use civic_messaging::plan::{Loss, Note};
use civic_messaging::poll::Cursor;
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, ErrorKind, Event, Message, Outcome, Timestamp,
};
use serde_json::{Value, json};
use wiremock::matchers::{any, body_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

mod callback;
mod config;
mod health;
mod lookup;
mod poll;
mod recorded;
mod send;

const SERVICE: &str = "26785a09-ab16-4eb0-8407-a37497a57506";
const KEY: &str = "my_test_key-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
const TEMPLATE: &str = "5484cfca-668a-4c18-afb1-5ddd0e3521b1";
const TOKENS: [&str; 2] = ["a-long-bearer-token", "another-bearer-token"];

/// The time of the recorded callbacks.
fn recorded() -> Timestamp {
    "2026-11-22T13:46:42.108956Z".parse().unwrap()
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/sms/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn config(server: &MockServer) -> notify::Config {
    let config = notify::Config::new(KEY, TEMPLATE).unwrap().base_url(&server.uri()).unwrap();
    TOKENS.iter().fold(config, |config, token| config.callback_token(*token).unwrap())
}

fn with(config: notify::Config, clock: &VirtualClock) -> Notify {
    Notify::sms_with(config, &Context::new().clock(clock.clone())).unwrap()
}

async fn channel() -> (MockServer, VirtualClock, Notify) {
    let server = MockServer::start().await;
    let clock = VirtualClock::starting_at(recorded());
    let notify = with(config(&server), &clock);
    (server, clock, notify)
}

async fn answers(server: &MockServer, status: u64, body: &Value) {
    server.reset().await;
    let answer = ResponseTemplate::new(u16::try_from(status).unwrap()).set_body_json(body);
    Mock::given(any()).respond_with(answer).mount(server).await;
}

fn text(to: &str, text: &str) -> Message {
    Message::text(Address::phone(to).unwrap(), text)
}

fn callback(token: &str, body: impl Into<String>) -> civic_messaging::webhook::Request {
    let request = http::Request::post("/notify").header("authorization", format!("Bearer {token}"));
    request.body(body.into()).unwrap().into()
}

/// The events of a callback.
async fn called_back(notify: &Notify, body: &Value) -> Vec<Event> {
    notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap().events
}

/// A time as Notify writes it, to the microsecond.
fn stamp(at: Timestamp, micros: u16) -> String {
    at.to_string().replace('Z', &format!("{micros:03}Z"))
}

fn uuid(n: usize) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}
