//! Twilio over HTTP on loopback: requests, responses, webhooks and lookups.
#![cfg(all(feature = "twilio", feature = "reqwest"))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::clock::VirtualClock;
use civic_messaging::event::{InboundContent, OptOutScope};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::media::{MediaStream, Publish, StoredMedia};
use civic_messaging::message::{Choice, Location, Media, MediaRef, Template};
use civic_messaging::transport::{Body, Transport, TransportError};
use civic_messaging::twilio::{Config, Options, Signature};
use civic_messaging::webhook::{Received, Request, Scheme, SignatureCoverage, SigningSecret};
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, ErrorKind, Event, Medium, Message, MessageId, Outcome,
    Registry, Secret, Settings, Timestamp, Twilio,
};
use serde_json::{Value, json};
use wiremock::matchers::{body_string, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

mod config;
mod inbound;
mod lookup;
mod media;
mod opt_out;
mod send;
mod signature;
mod status;
mod webhook;

const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TOKEN: &str = "12345678901234567890123456789012";
const SERVICE: &str = "MGbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const SID: &str = "SM11111111111111111111111111111111";
const TEMPLATE: &str = "HXcccccccccccccccccccccccccccccccc";
const MESSAGES: &str = "/2010-04-01/Accounts/ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/Messages.json";
const PUBLIC: &str = "https://sms.example.gov.uk";
const OURS: &str = "+447700900456";
const THEIRS: &str = "+447700900123";
/// Sun, 22 Nov 2026 12:00:00 GMT.
const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

/// A change and the field that it makes invalid.
type Change<T> = (fn(&mut T), &'static str);

fn bare() -> Config {
    Config::new(ACCOUNT, TOKEN).unwrap().public_url(PUBLIC).unwrap()
}

fn config() -> Config {
    bare().sender(OURS).unwrap()
}

fn context() -> Context {
    Context::new().clock(VirtualClock::starting_at(NOON))
}

fn at(server: &MockServer, config: Config) -> Config {
    config.base_url(&server.uri()).unwrap()
}

fn resident() -> Address {
    Address::phone(THEIRS).unwrap()
}

fn hello() -> Message {
    Message::text(resident(), "Bin day £5 & more")
}

/// A message as Twilio's API writes it, with all its fields.
fn resource() -> Value {
    json!({
        "account_sid": ACCOUNT, "api_version": "2010-04-01", "body": "Bin day £5 & more",
        "date_created": "Sun, 22 Nov 2026 12:00:01 +0000", "date_sent": null,
        "date_updated": "Sun, 22 Nov 2026 12:00:02 +0000", "direction": "outbound-api", "error_code": null,
        "error_message": null, "from": OURS, "messaging_service_sid": null, "num_media": "0", "num_segments": "1",
        "price": null, "price_unit": null, "sid": SID, "status": "queued",
        "subresource_uris": { "media": "/2010-04-01/…/Media.json" }, "to": THEIRS, "uri": "/2010-04-01/…"
    })
}

fn with(change: Value) -> Value {
    let (Value::Object(mut resource), Value::Object(change)) = (resource(), change) else { panic!("not an object") };
    resource.extend(change);
    Value::Object(resource)
}

async fn answers(status: u16, body: Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(MESSAGES))
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(&server)
        .await;
    server
}

/// The fields of the only request to this server, in order.
async fn sent(server: &MockServer) -> Vec<(String, String)> {
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    form_urlencoded::parse(&requests[0].body).into_owned().collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn key(secret: &str) -> SigningSecret {
    Secret::new(secret).unwrap().into()
}

/// A webhook as Twilio signs it.
fn signed(token: &str, fields: &[(&str, &str)]) -> Request {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let signature =
        Signature::new(&PUBLIC.parse().unwrap(), [key(token)], []).sign("/twilio", body.as_bytes()).unwrap();
    let request = http::Request::post("/twilio").header("X-Twilio-Signature", signature).body(body).unwrap();
    Request::from(request).arrived_at(NOON)
}

async fn received(channel: &Twilio, fields: &[(&str, &str)]) -> Received {
    channel.receive(&signed(TOKEN, fields)).await.unwrap()
}

async fn one(channel: &Twilio, fields: &[(&str, &str)]) -> Event {
    let mut received = received(channel, fields).await;
    assert_eq!(received.events.len(), 1, "{:?}", received.events);
    received.events.remove(0)
}

const INBOUND: &[(&str, &str)] = &[
    ("ToCountry", "GB"),
    ("SmsMessageSid", SID),
    ("NumMedia", "0"),
    ("SmsSid", SID),
    ("SmsStatus", "received"),
    ("Body", "Hello ŵ 😀 & more"),
    ("To", OURS),
    ("NumSegments", "1"),
    ("MessageSid", SID),
    ("AccountSid", ACCOUNT),
    ("From", THEIRS),
    ("ApiVersion", "2010-04-01"),
];

/// The inbound form with some fields replaced.
fn inbound<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = INBOUND.iter().filter(|(name, _)| !change.iter().any(|(n, _)| n == name));
    kept.copied().chain(change.iter().copied()).collect()
}

#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Publish for Shelf {
    async fn publish(&self, _: &Media) -> civic_messaging::Result<String> {
        Ok("https://files.example.gov.uk/x".into())
    }
}

/// The events of a webhook of tests/fixtures/cases/twilio, on a channel of its account.
async fn case(medium: &str, json: &str) -> Vec<Event> {
    let case: Value = serde_json::from_str(json).unwrap();
    let fields: Vec<(&str, &str)> = case["form"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let config = Config::new("ACa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", TOKEN).unwrap();
    let config = config.public_url(PUBLIC).unwrap().sender(OURS).unwrap();
    let channel = match medium {
        "sms" => Twilio::sms_with(config, &context()),
        _ => Twilio::whatsapp_with(config, &context()),
    };
    let request = match (case["body"].as_str(), case["signature"].as_str()) {
        (Some(body), Some(signature)) => {
            let request = http::Request::post("/hook").header("X-Twilio-Signature", signature);
            Request::from(request.body(body.to_owned()).unwrap()).arrived_at(NOON)
        }
        _ => signed(TOKEN, &fields),
    };
    let received = channel.unwrap().receive(&request).await.unwrap();
    assert_eq!(&received.response.body[..], EMPTY_TWIML);
    received.events
}

const EMPTY_TWIML: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;
