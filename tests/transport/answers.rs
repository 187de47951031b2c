//! Outcomes of sends with malformed responses: each member removed, emptied or of another type, bodies that are not
//! JSON, and every status, for each gateway over a scripted transport.
//!
//! `CIVIC_SEED=n` replays one seeded response, `CIVIC_RUNS=n` sets their number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use civic_messaging::clock::VirtualClock;
use civic_messaging::transport::{Body, Transport, TransportError};
use civic_messaging::{
    Accepted, Address, Channel, Context, Error, ErrorKind, Message, Meta, Notify, Outcome, Result, Timestamp, Twilio,
    X, async_trait, meta, notify, twilio, x,
};
use serde_json::{Value, json};

use super::support::{Random, seeds, variable};

/// The number of seeded responses per gateway, beside the listed ones.
const RUNS: u64 = 500;

/// Personal data that occurs throughout the responses and must not be shown.
const CANARIES: &[&str] = &["Canary", "Mill Lane", "7700900123", "10000000000000000001", "6000000000000001"];

const CANARY: &str = "Alex Canary, 12 Mill Lane, +447700900123";

/// Responds with a given status and body.
#[derive(Clone, Debug, Default)]
struct FakeGateway(Arc<Mutex<(u16, Bytes)>>);

#[async_trait]
impl Transport for FakeGateway {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let (status, body) = self.0.lock().unwrap().clone();
        Ok(http::Response::builder().status(status).body(Body::from(body)).unwrap())
    }
}

/// A gateway, its response to a send, and the position of the id in it.
struct Gateway {
    name: &'static str,
    channel: Box<dyn Channel>,
    transport: FakeGateway,
    to: Address,
    good: Value,
    refusal: Value,
    id: fn(&Value) -> Option<&Value>,
    /// A 2xx without an id may be a documented rejection.
    refuses_with_2xx: bool,
}

fn gateways() -> Vec<Gateway> {
    let phone = || Address::phone("07700 900123").unwrap();
    let whatsapp = json!({
        "messaging_product": "whatsapp",
        "contacts": [{ "input": "+447700900123", "wa_id": "447700900123", "user_id": "GB.10000000000000000001" }],
        "messages": [{ "id": "wamid.OUT_1", "message_status": "accepted" }],
    });
    let graph = json!({ "error": {
        "message": format!("(#131047) {CANARY}"), "type": "OAuthException", "code": 131_047,
        "error_data": { "messaging_product": "whatsapp", "details": CANARY }, "error_subcode": 2_494_010,
        "error_user_title": CANARY, "error_user_msg": CANARY, "is_transient": false, "fbtrace_id": "AfixtureTrace",
    } });
    let twilio_message = json!({
        "account_sid": "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "body": CANARY, "date_created": "Sun, 22 Nov 2026 12:00:01 +0000",
        "date_sent": null, "date_updated": "Sun, 22 Nov 2026 12:00:02 +0000", "direction": "outbound-api",
        "error_code": null, "error_message": null, "from": "+447700900456", "messaging_service_sid": null,
        "num_segments": "1", "price": null, "price_unit": "GBP", "sid": "SM11111111111111111111111111111111",
        "status": "queued", "to": "+447700900123",
    });
    let twilio_error = json!({ "code": 21_610, "message": CANARY, "more_info": "https://x.example", "status": 400 });
    let config = || meta::Config::new("EAAG-test-token", "200000000000001").unwrap();
    let keys = || {
        civic_messaging::adapter::OAuth1::new("fixture-key", "fixture-secret", "1900-token", "token-secret").unwrap()
    };
    let twilio_config =
        || twilio::Config::new("ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "12345678901234567890123456789012");
    let twilio_config = || twilio_config().unwrap().sender("+447700900456").unwrap();
    let key = "my_test_key-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
    let gateway = |name, build: &dyn Fn(&Context) -> Box<dyn Channel>, to, good, refusal, id| {
        let transport = FakeGateway::default();
        let context = Context::with_transport(transport.clone())
            .clock(VirtualClock::starting_at(Timestamp::from_secs(1_796_040_000)));
        let channel = build(&context);
        Gateway { name, channel, transport, to, good, refusal, id, refuses_with_2xx: false }
    };
    let wamid: fn(&Value) -> Option<&Value> = |body| {
        let messages = body.get("messages")?.as_array()?;
        messages.iter().filter_map(|message| message.get("id")).find(|id| readable(id).is_some())
    };
    let sid: fn(&Value) -> Option<&Value> = |body| body.get("sid");
    let mut all = vec![
        gateway(
            "meta whatsapp",
            &|context| Box::new(Meta::whatsapp_with(config(), context).unwrap()),
            phone(),
            whatsapp.clone(),
            graph.clone(),
            wamid,
        ),
        gateway(
            "360dialog",
            &|context| Box::new(Meta::whatsapp_360dialog_with(config(), context).unwrap()),
            phone(),
            whatsapp,
            graph.clone(),
            wamid,
        ),
        gateway(
            "meta messenger",
            &|context| {
                let config = meta::Config::for_page("EAAG-test-token", "7000000000000001").unwrap();
                Box::new(Meta::messenger_with(config, context).unwrap())
            },
            Address::messenger("6000000000000001").unwrap(),
            json!({ "recipient_id": "6000000000000001", "message_id": "m_OUT_1" }),
            graph,
            |body| body.get("message_id"),
        ),
        gateway(
            "x",
            &|context| {
                let config = x::Config::new("1900000000000000202", keys());
                Box::new(X::direct_messages_with(config, context).unwrap())
            },
            Address::x("1900000000000000101").unwrap(),
            json!({ "data": {
                "dm_conversation_id": "1900000000000000101-1900000000000000202", "dm_event_id": "1900000000000000501",
            } }),
            json!({ "errors": [{
                "type": "https://api.x.com/2/problems/resource-not-found", "title": CANARY, "detail": CANARY,
                "status": 404, "parameters": { "participant_id": ["7700900123"] },
            }] }),
            |body| body.get("data")?.get("dm_event_id"),
        ),
        gateway(
            "twilio sms",
            &|context| Box::new(Twilio::sms_with(twilio_config(), context).unwrap()),
            phone(),
            twilio_message.clone(),
            twilio_error.clone(),
            sid,
        ),
        gateway(
            "twilio whatsapp",
            &|context| Box::new(Twilio::whatsapp_with(twilio_config(), context).unwrap()),
            phone(),
            twilio_message,
            twilio_error,
            sid,
        ),
        gateway(
            "notify",
            &|context| {
                let config = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1").unwrap();
                Box::new(Notify::sms_with(config, context).unwrap())
            },
            phone(),
            json!({
                "id": "740e5834-3a29-46b4-9a6f-16142fde533a", "reference": null, "scheduled_for": null,
                "content": { "body": CANARY, "from_number": "07700900123" }, "uri": "https://api.example/v2/1",
                "template": { "id": "5484cfca-668a-4c18-afb1-5ddd0e3521b1", "version": 1, "uri": CANARY },
            }),
            json!({ "status_code": 400, "errors": [{ "error": "BadRequestError", "message": CANARY }] }),
            |body| body.get("id"),
        ),
    ];
    for gateway in &mut all {
        gateway.refuses_with_2xx = gateway.name == "x";
    }
    all
}

/// The id as text, if it is valid.
fn readable(id: &Value) -> Option<String> {
    match id {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// Replacements for a member: the bytes of JSON or of something close to it. `None` removes the member.
fn replacements() -> Vec<Option<Vec<u8>>> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let quoted = |text: &str| Some(format!("\"{text}\"").into_bytes());
    vec![
        None,
        text("null"),
        text("true"),
        text("0"),
        text("-1"),
        text("123456789012345678901234567890"),
        text("9007199254740993.0"),
        text("1e400"),
        text("[]"),
        text("{}"),
        text("[null]"),
        text("[[]]"),
        text("[{}]"),
        text("[\"x\",1]"),
        text("{\"a\":{\"b\":[]}}"),
        text("tru"),
        text(""),
        text(&format!("{}{}", "[".repeat(300), "]".repeat(300))),
        quoted(""),
        quoted(" "),
        quoted(CANARY),
        quoted("447700900123"),
        quoted("\\ud83d"),
        quoted("\\udc4d\\ud83d"),
        quoted("\\u0000"),
        quoted(&"y".repeat(100_000)),
        Some(b"\"\xff\xfe\"".to_vec()),
    ]
}

/// The placeholder for raw bytes.
const HOLE: &str = "@HOLE@";

/// The paths of all members and elements, including the root.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| paths(value, &format!("{at}/{name}"), all)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| paths(value, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

/// Returns the body with a replacement at this path.
fn replaced(body: &Value, path: &str, piece: Option<&[u8]>) -> Vec<u8> {
    let mut body = body.clone();
    match (piece, path.rsplit_once('/')) {
        (None, Some((parent, last))) => match body.pointer_mut(parent) {
            Some(Value::Object(members)) => _ = members.remove(last),
            Some(Value::Array(items)) => _ = items.remove(last.parse().unwrap()),
            _ => {}
        },
        (piece, _) => {
            *body.pointer_mut(path).unwrap() = HOLE.into();
            return filled(&body.to_string(), piece.unwrap_or_default());
        }
    }
    body.to_string().into_bytes()
}

fn filled(text: &str, piece: &[u8]) -> Vec<u8> {
    match text.split_once(&format!("\"{HOLE}\"")) {
        Some((before, after)) => [before.as_bytes(), piece, after.as_bytes()].concat(),
        None => text.as_bytes().to_vec(),
    }
}

/// Returns the body with a member repeated with this value.
fn doubled(body: &Value, path: &str, piece: &[u8]) -> Option<Vec<u8>> {
    let (parent, last) = path.rsplit_once('/')?;
    let mut body = body.clone();
    body.pointer_mut(parent)?.as_object_mut()?.insert(HOLE.to_owned(), HOLE.into());
    let text = body.to_string().replace(&format!("\"{HOLE}\":"), &format!("\"{last}\":"));
    Some(filled(&text, piece))
}

/// Malformed bodies as a whole.
fn wholes(body: &Value) -> Vec<Vec<u8>> {
    let text = body.to_string();
    let html = format!("<html><body>{CANARY}</body></html>");
    let mut all: Vec<Vec<u8>> = ["", " ", "null", "0", "\"\"", "[]", "{}", "{", "\u{feff}{}", "OK", &html, CANARY]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    all.push(format!("[{text}]").into_bytes());
    all.push(format!("{text}{text}").into_bytes());
    all.push(format!("{text}\n<!-- {CANARY} -->").into_bytes());
    all.push(format!("\u{feff}{text}").into_bytes());
    all.push(json!(text).to_string().into_bytes());
    all.push([text.as_bytes(), b"\0\xff"].concat());
    all.extend((1..8).map(|n| text.as_bytes()[..text.len() * n / 8].to_vec()));
    all
}

/// A malformed response: its description, status and body.
struct Odd {
    what: String,
    status: u16,
    body: Vec<u8>,
    /// A repeated member has no single value.
    doubled: bool,
}

/// Every replacement at every path, once with status 200.
fn listed(gateway: &Gateway) -> Vec<Odd> {
    let mut all = Vec::new();
    let mut add = |what: String, body: Vec<u8>, doubled| all.push(Odd { what, status: 200, body, doubled });
    for (which, body) in [("good", &gateway.good), ("refusal", &gateway.refusal)] {
        let mut places = Vec::new();
        paths(body, "", &mut places);
        for path in &places {
            for (n, piece) in replacements().iter().enumerate() {
                add(format!("{which}{path}: piece {n}"), replaced(body, path, piece.as_deref()), false);
            }
            for piece in [&b"\"\""[..], b"null", b"{}"] {
                doubled(body, path, piece)
                    .into_iter()
                    .for_each(|body| add(format!("{which}{path}: twice"), body, true));
            }
        }
        wholes(body).into_iter().enumerate().for_each(|(n, body)| add(format!("{which}: whole {n}"), body, false));
    }
    all
}

/// One seeded response: two changes of one body, with any status.
fn seeded(gateway: &Gateway, seed: u64) -> Odd {
    const STATUSES: &[u16] = &[
        100, 102, 103, 199, 200, 200, 200, 201, 202, 203, 204, 206, 226, 299, 300, 301, 302, 304, 307, 399, 400, 401,
        402, 403, 404, 405, 406, 408, 409, 410, 413, 418, 422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 507, 520,
        529, 599, 600, 999,
    ];
    let random = Random::new(seed);
    let status = *random.pick(STATUSES);
    let body = if random.below(3) == 0 { &gateway.refusal } else { &gateway.good };
    let pieces = replacements();
    let mut places = Vec::new();
    paths(body, "", &mut places);
    let first = random.pick(&places).clone();
    let changed = replaced(body, &first, random.pick(&pieces).as_deref());
    let Ok(once) = serde_json::from_slice::<Value>(&changed) else {
        return Odd { what: format!("seed {seed}: {first}"), status, body: changed, doubled: false };
    };
    let mut places = Vec::new();
    paths(&once, "", &mut places);
    let second = random.pick(&places).clone();
    let body = match random.below(6) {
        0 => random.pick(&wholes(&once)).clone(),
        _ => replaced(&once, &second, random.pick(&pieces).as_deref()),
    };
    Odd { what: format!("seed {seed}: {first} and {second}"), status, body, doubled: false }
}

/// Describes how the channel misread this response.
fn breach(gateway: &Gateway, odd: &Odd, result: &Result<Accepted>) -> Option<String> {
    let body: Option<Value> = serde_json::from_slice(&odd.body).ok();
    let id = body.as_ref().and_then(gateway.id).and_then(readable);
    let success = (200..300).contains(&odd.status);
    match result {
        Ok(_) if !success => Some("accepted under that status".to_owned()),
        Ok(accepted) => {
            let taken: Vec<_> = accepted.ids().map(|id| id.as_str()).collect();
            if taken.iter().any(|id| id.trim().is_empty()) {
                return Some("accepted with an empty id".to_owned());
            }
            let text = String::from_utf8_lossy(&odd.body);
            let there = |id: &&str| text.contains(*id) || text.contains(&json!(id).to_string());
            if !taken.iter().all(there) {
                return Some("accepted with an id that is not in the answer".to_owned());
            }
            match &id {
                Some(id) if !odd.doubled && taken.first() != Some(&id.as_str()) => Some("another id".to_owned()),
                None if body.is_some() && !odd.doubled && !is_float(gateway, body.as_ref()) => {
                    Some("accepted without an id".to_owned())
                }
                _ => None,
            }
        }
        Err(error) => shown(error).or_else(|| refused(gateway, odd, body.as_ref(), id.is_some(), error)),
    }
}

fn is_float(gateway: &Gateway, body: Option<&Value>) -> bool {
    body.and_then(gateway.id).is_some_and(Value::is_f64)
}

fn refused(gateway: &Gateway, odd: &Odd, body: Option<&Value>, has_id: bool, error: &Error) -> Option<String> {
    let outcome = error.outcome();
    let right = match odd.status {
        200..300 if has_id && !odd.doubled => return Some("there is an id".to_owned()),
        200..300 if gateway.refuses_with_2xx => {
            let errors = body.and_then(|body| body.get("errors")?.as_array());
            let says_no = errors.is_some_and(|errors| {
                errors.iter().any(|error| error.as_object().is_some_and(|error| !error.is_empty()))
            });
            let no_data = body.is_some_and(|body| body.get("data").is_none_or(Value::is_null));
            match says_no && no_data {
                true => outcome == Outcome::Rejected,
                // One half may not be JSON while the other half rejects.
                false => outcome == Outcome::Unknown || body.is_none() && outcome == Outcome::Rejected || odd.doubled,
            }
        }
        200..300 => outcome == Outcome::Unknown,
        300..=407 | 409..500 => outcome == Outcome::Rejected,
        // A throttle is documented as accepting nothing.
        _ => outcome == Outcome::Unknown || error.kind() == ErrorKind::RateLimited,
    };
    if !right {
        return Some(format!("its outcome is {outcome:?}"));
    }
    (error.is_retryable() && outcome == Outcome::Unknown).then(|| "retryable although unknown".to_owned())
}

fn shown(error: &Error) -> Option<String> {
    let shown = format!("{error}\n{error:?}\n{error:#?}");
    CANARIES.iter().find(|canary| shown.contains(**canary)).map(|canary| format!("shows {canary}: {shown}"))
}

#[tokio::test]
async fn malformed_response_never_understates_the_outcome() {
    let (seeds, is_replay) = (seeds(RUNS), variable("CIVIC_SEED").is_some());
    println!("seeds {seeds:?}; CIVIC_SEED=n replays one");
    let mut broken = Vec::new();
    for gateway in gateways() {
        let mut tally = BTreeMap::<String, usize>::new();
        let listed = if is_replay { Vec::new() } else { listed(&gateway) };
        let text = Message::text(gateway.to.clone(), "Your collection is on Tuesday.");
        for odd in listed.into_iter().chain(seeds.clone().map(|seed| seeded(&gateway, seed))) {
            *gateway.transport.0.lock().unwrap() = (odd.status, odd.body.clone().into());
            let result = gateway.channel.send(&text).await;
            let outcome =
                result.as_ref().map_or_else(|error| format!("{:?}", error.outcome()), |_| "Accepted".to_owned());
            *tally.entry(outcome).or_default() += 1;
            if let Some(breach) = breach(&gateway, &odd, &result) {
                let body = String::from_utf8_lossy(&odd.body).chars().take(300).collect::<String>();
                broken.push(format!("{}: {}: HTTP {}: {breach}: {body}", gateway.name, odd.what, odd.status));
            }
        }
        println!("{}: {tally:?}", gateway.name);
        assert!(tally.values().sum::<usize>() >= 500 || is_replay, "{}", gateway.name);
    }
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken[..broken.len().min(40)].join("\n"));
}

#[tokio::test]
async fn well_formed_response_is_accepted() {
    for gateway in gateways() {
        let body = gateway.good.to_string();
        *gateway.transport.0.lock().unwrap() = (201, body.clone().into());
        let text = Message::text(gateway.to.clone(), "Your collection is on Tuesday.");
        let accepted = gateway.channel.send(&text).await.unwrap_or_else(|e| panic!("{}: {e}", gateway.name));
        assert_eq!(Some(accepted.id().as_str().to_owned()), (gateway.id)(&gateway.good).and_then(readable));
        *gateway.transport.0.lock().unwrap() = (400, gateway.refusal.to_string().into());
        let error = gateway.channel.send(&text).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Rejected, "{}", gateway.name);
        assert!(error.code().is_some(), "{}", gateway.name);
    }
}
