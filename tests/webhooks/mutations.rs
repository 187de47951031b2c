//! A message and a STOP beside a malformed member in a webhook: both are kept, and no event of another account is
//! returned.
//!
//! `CIVIC_SEED=n` replays one mutation of each kind, `CIVIC_RUNS=n` sets their number.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::clock::VirtualClock;
use civic_messaging::transport::{Body, NoTransport, Transport, TransportError};
use civic_messaging::webhook::Request;
use civic_messaging::{
    Channel, Context, Event, Meta, Notify, Timestamp, Twilio, X, async_trait, meta, notify, twilio, x,
};
use serde_json::{Value, json};

use super::support::{Random, mac, seeds, signed_by_meta};

const RUNS: u64 = 2_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Text of another account's residents.
const THEIRS: &str = "said to another council";
const MARK: &str = "@@here@@";

/// Returns the JSON text with one member or element removed, doubled, renamed, broken or replaced.
fn mutated(random: &Random, json: &Value) -> Vec<u8> {
    let mut json = json.clone();
    let mut place = &mut json;
    loop {
        let down = match place {
            Value::Array(all) if !all.is_empty() => all.len(),
            Value::Object(all) if !all.is_empty() => all.len(),
            _ => break,
        };
        // Usually goes deeper.
        if random.below(5) == 0 {
            break;
        }
        let nth = random.index(down);
        place = match place {
            Value::Array(all) => &mut all[nth],
            Value::Object(all) => all.values_mut().nth(nth).unwrap(),
            _ => unreachable!(),
        };
    }
    let before = place.take();
    *place = MARK.into();
    let text = json.to_string();
    let quoted = format!("\"{MARK}\"");
    // The name, if it is an object member.
    let above = text.split(&quoted).next().unwrap();
    let name = above.strip_suffix("\":").and_then(|above| above.rsplit('"').next()).unwrap_or("odd");
    let is_member = above.ends_with(':');
    let odd = match random.below(15) {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => "[]".to_owned(),
        3 => "{}".to_owned(),
        4 => "7".to_owned(),
        5 => "\"\"".to_owned(),
        6 => "1e999".to_owned(),
        7 => "-18446744073709551617.5".to_owned(),
        8 => format!("{}{}", "[".repeat(300), "]".repeat(300)),
        9 => format!("[{before}]"),
        10 => format!("{{\"odd\":{before}}}"),
        11 if is_member => format!("{before},\"{name}\":null"),
        12 if is_member => format!("[],\"{name}\":{before}"),
        13 => "\"half \\ud83d\"".to_owned(),
        _ => "\"byte @@byte@@\"".to_owned(),
    };
    let text = text.replace(&quoted, &odd);
    match text.split_once("@@byte@@") {
        Some((before, after)) => [before.as_bytes(), b"\xff", after.as_bytes()].concat(),
        None => text.into_bytes(),
    }
}

fn fixtures(folder: &str, name: impl Fn(&str) -> bool) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "json"));
    files.retain(|file| name(file.file_name().unwrap().to_str().unwrap()));
    files.sort();
    files.iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect()
}

fn context() -> Context {
    Context::with_transport(NoTransport)
}

/// Receives bodies with mutated fixtures before and after our events, and checks that the text and the STOP are found.
async fn assert_kept(
    channel: &dyn Channel,
    fixtures: &[Value],
    body: impl Fn(&[u8]) -> Vec<u8>,
    request: impl Fn(Vec<u8>) -> Request,
) {
    for seed in seeds(RUNS) {
        let random = Random::new(seed);
        let fixture = &fixtures[random.index(fixtures.len())];
        let mutated = mutated(&random, fixture);
        let body = body(&mutated);
        let received = channel.receive(&request(body.clone())).await.unwrap();
        let shown = || format!("CIVIC_SEED={seed}: {}", body.escape_ascii());
        let text =
            |event: &Event| event.as_inbound().is_some_and(|inbound| inbound.text() == Some("My bin was missed"));
        let stop = |event: &Event| matches!(event, Event::OptOut(stop) if !stop.resume && stop.from.expose() != "");
        assert!(received.events.iter().any(text), "the text is lost; {}", shown());
        assert!(received.events.iter().any(stop), "the STOP is lost; {}", shown());
    }
}

/// Receives mutated fixtures of another account.
async fn assert_discarded(channel: &dyn Channel, fixtures: &[Value], request: impl Fn(Vec<u8>) -> Request) {
    for seed in seeds(RUNS) {
        let random = Random::new(seed);
        let fixture = &fixtures[random.index(fixtures.len())];
        let body = mutated(&random, fixture);
        // X signs only objects.
        let Ok(received) = channel.receive(&request(body.clone())).await else {
            assert!(!body.contains(&b'{'), "CIVIC_SEED={seed}, refused: {}", body.escape_ascii());
            continue;
        };
        assert!(received.events.is_empty(), "CIVIC_SEED={seed}: {}", body.escape_ascii());
        assert!(!received.discarded.is_empty(), "CIVIC_SEED={seed}, uncounted: {}", body.escape_ascii());
    }
}

/// Splices mutated bytes into a body at its mark.
fn at_mark(body: &Value, mutated: &[u8]) -> Vec<u8> {
    let text = body.to_string();
    let (before, after) = text.split_once(&format!("\"{MARK}\"")).unwrap();
    [before.as_bytes(), mutated, after.as_bytes()].concat()
}

fn hub(body: Vec<u8>) -> Request {
    signed_by_meta(SECRET, body)
}

fn of_others(fixtures: &[Value], ids: &[(&str, &str)]) -> Vec<Value> {
    let other = |fixture: &Value| {
        let text = ids.iter().fold(fixture.to_string(), |text, (ours, theirs)| text.replace(ours, theirs));
        serde_json::from_str(&text).unwrap()
    };
    fixtures.iter().map(other).collect()
}

#[tokio::test]
async fn whatsapp_keeps_events_beside_a_malformed_member() {
    let mut config = meta::Config::new("EAAG-test-token", "200000000000001").unwrap().app_secret(SECRET).unwrap();
    config.business_account_id = Some("100000000000001".into());
    let channel = Meta::whatsapp_with(config, &context()).unwrap();
    let entries: Vec<Value> = ["inbound", "status", "account"]
        .iter()
        .flat_map(|folder| fixtures(&format!("whatsapp/{folder}"), |_| true))
        .map(|fixture| fixture["entry"][0].clone())
        .collect();
    let message = |id: &str, text: &str| json!({ "from": "447700900129", "id": id, "timestamp": "1795000000", "type": "text", "text": { "body": text } });
    let ours = json!({ "id": "100000000000001", "changes": [{ "field": "messages", "value": {
        "metadata": { "phone_number_id": "200000000000001" },
        "messages": [message("wamid.TEXT", "My bin was missed"), message("wamid.STOP", "STOP")],
    } }] });
    let body = json!({ "object": "whatsapp_business_account", "entry": [MARK, ours] });
    assert_kept(&channel, &entries, |mutated| at_mark(&body, mutated), hub).await;
    // Within the same value as well.
    let changes: Vec<Value> = fixtures("whatsapp/inbound", |_| true)
        .iter()
        .map(|fixture| fixture["entry"][0]["changes"][0]["value"]["messages"][0].clone())
        .filter(Value::is_object)
        .collect();
    let value = json!({ "object": "whatsapp_business_account", "entry": [{ "id": "100000000000001", "changes": [{
        "field": "messages", "value": { "metadata": { "phone_number_id": "200000000000001" },
        "messages": [message("wamid.TEXT", "My bin was missed"), MARK, message("wamid.STOP", "STOP")] },
    }] }] });
    assert_kept(&channel, &changes, |mutated| at_mark(&value, mutated), hub).await;

    let all: Vec<Value> = ["inbound", "status", "account"]
        .iter()
        .flat_map(|folder| fixtures(&format!("whatsapp/{folder}"), |_| true))
        .collect();
    let others = of_others(&all, &[("100000000000001", "100000000000009"), ("200000000000001", "200000000000009")]);
    assert_discarded(&channel, &others, hub).await;
}

#[tokio::test]
async fn messenger_keeps_events_beside_a_malformed_member() {
    let config = meta::Config::for_page("EAAG-test-token", "7000000000000001").unwrap().app_secret(SECRET).unwrap();
    let channel = Meta::messenger_with(config, &context()).unwrap();
    let all = fixtures("messenger", |name| !name.starts_with("send"));
    let entries: Vec<Value> = all.iter().map(|fixture| fixture["entry"][0].clone()).collect();
    let item = |mid: &str, text: &str| {
        json!({ "sender": { "id": "6000000000000009" }, "recipient": { "id": "7000000000000001" },
            "timestamp": 1_795_000_000_000_i64, "message": { "mid": mid, "text": text } })
    };
    let [text, stop] = [item("m_TEXT", "My bin was missed"), item("m_STOP", "STOP")];
    let body = json!({ "object": "page", "entry": [MARK,
        { "id": "7000000000000001", "time": 1_795_000_000_000_i64, "messaging": [text, stop] }] });
    assert_kept(&channel, &entries, |mutated| at_mark(&body, mutated), hub).await;
    let items: Vec<Value> = entries.iter().map(|entry| entry["messaging"][0].clone()).collect();
    let body = json!({ "object": "page", "entry": [
        { "id": "7000000000000001", "time": 1_795_000_000_000_i64, "messaging": [text, MARK, stop] }] });
    assert_kept(&channel, &items, |mutated| at_mark(&body, mutated), hub).await;
    let others = of_others(&all, &[("7000000000000001", "7000000000000009")]);
    assert_discarded(&channel, &others, hub).await;
}

#[tokio::test]
async fn x_keeps_events_beside_a_malformed_member() {
    let keys = civic_messaging::adapter::OAuth1::new("fixture-key", SECRET, "1900-token", "token-secret").unwrap();
    let channel = X::direct_messages_with(x::Config::new("1900000000000000202", keys), &context()).unwrap();
    let request = |body: Vec<u8>| -> Request {
        let signature = format!("sha256={}", BASE64_STANDARD.encode(mac(SECRET, &body)));
        http::Request::post("/").header("x-twitter-webhooks-signature", signature).body(body).unwrap().into()
    };
    let message = |id: &str, text: &str| {
        json!({ "type": "message_create", "id": id, "created_timestamp": "1788254998705", "message_create": {
            "target": { "recipient_id": "1900000000000000202" }, "sender_id": "1900000000000000101",
            "message_data": { "text": text } } })
    };
    let [text, stop] = [message("1", "My bin was missed"), message("2", "STOP")];
    let all = fixtures("x", |name| name.starts_with("webhook_"));
    let old: Vec<Value> = all.iter().filter_map(|body| body.get("direct_message_events")?.get(0).cloned()).collect();
    let old_body = json!({ "for_user_id": "1900000000000000202", "users": {},
        "direct_message_events": [text, MARK, stop] });
    assert_kept(&channel, &old, |mutated| at_mark(&old_body, mutated), request).await;
    // Beside the list as well.
    let users: Vec<Value> = all.iter().filter_map(|body| body.get("users").cloned()).collect();
    let users_body = json!({ "for_user_id": "1900000000000000202", "direct_message_events": [text, stop], "users": MARK,
        "replay_job_status": null });
    assert_kept(&channel, &users, |mutated| at_mark(&users_body, mutated), request).await;
    let new: Vec<Value> = all.iter().filter_map(|body| body.get("data").cloned()).collect();
    let activity = json!({ "event_uuid": "1", "filter": { "user_id": "1900000000000000202" }, "event_type": "dm.received",
        "payload": { "direct_message_events": [text, stop] } });
    let new_body = json!({ "data": [MARK, activity] });
    assert_kept(&channel, &new, |mutated| at_mark(&new_body, mutated), request).await;
    // A replay belongs to the app and names no account.
    let named: Vec<Value> = all.into_iter().filter(|body| body.get("replay_job_status").is_none()).collect();
    let others = of_others(&named, &[("1900000000000000202", "1900000000000000303")]);
    assert_discarded(&channel, &others, request).await;
}

#[tokio::test]
async fn twilio_keeps_text_beside_a_malformed_field() {
    let config = twilio::Config::new("ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "12345678901234567890123456789012").unwrap();
    let config = config.sender("+447700900456").unwrap().public_url("https://sms.example.gov.uk").unwrap();
    let channel = Twilio::sms_with(config, &context()).unwrap();
    let signer = twilio::Signature::new(
        &"https://sms.example.gov.uk".parse().unwrap(),
        [civic_messaging::Secret::new("12345678901234567890123456789012").unwrap().into()],
        [],
    );
    let request = |body: String| -> Request {
        let signature = signer.sign("/hook", body.as_bytes()).unwrap();
        http::Request::post("/hook").header("x-twilio-signature", signature).body(body).unwrap().into()
    };
    let fields = [
        "NumMedia",
        "NumSegments",
        "ApiVersion",
        "ToCountry",
        "FromCity",
        "ProfileName",
        "WaId",
        "Latitude",
        "SmsStatus",
        "ErrorCode",
        "OptOutType",
        "Forwarded",
        "OriginalRepliedMessageSid",
        "MediaContentType0",
    ];
    let odd = ["", "null", "%FF", "-1", "99999999999999999999", "NaN", "a%00b", "%ED%A0%BD", "[]", "received"];
    for seed in seeds(RUNS) {
        let random = Random::new(seed);
        let (field, value) = (fields[random.index(fields.len())], odd[random.index(odd.len())]);
        if field == "SmsStatus" && !["", "received"].contains(&value) {
            continue;
        }
        let form = |sid: &str, text: &str| {
            let mut parts = vec![
                format!("MessageSid={sid}"),
                "From=%2B447700900129".to_owned(),
                "To=%2B447700900456".to_owned(),
                format!("Body={text}"),
                "AccountSid=ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
            ];
            parts.insert(seed as usize % 6, format!("{field}={value}"));
            parts.join("&")
        };
        let received = channel.receive(&request(form("SM1", "STOP"))).await.unwrap();
        let stop = received.events.iter().any(|event| matches!(event, Event::OptOut(_)));
        assert!(stop, "CIVIC_SEED={seed}: {field}={value}: {:?}", received.events);
    }
}

/// Responds with a given body.
#[derive(Clone, Debug, Default)]
struct Canned(Arc<Mutex<Bytes>>);

#[async_trait]
impl Transport for Canned {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let received = request.uri().path().ends_with("received-text-messages");
        let first = !request.uri().query().unwrap_or_default().contains("older_than");
        let body = match received && first {
            true => self.0.lock().unwrap().clone(),
            false if received => r#"{"received_text_messages":[]}"#.into(),
            false => r#"{"notifications":[]}"#.into(),
        };
        Ok(http::Response::builder().status(200).body(Body::from(body)).unwrap())
    }
}

#[tokio::test]
async fn notify_keeps_events_beside_a_malformed_row() {
    let canned = Canned::default();
    let key = "my_test_key-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
    let config = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1").unwrap();
    let clock = VirtualClock::starting_at(Timestamp::from_secs(1_796_000_000));
    let channel = Notify::sms_with(config, &Context::with_transport(canned.clone()).clock(clock)).unwrap();
    let row = |id: &str, text: &str| {
        json!({ "id": id, "created_at": "2026-11-22T10:00:00.000000Z", "service_id": "s", "notify_number": "07700900456",
            "user_number": "447700900129", "content": text })
    };
    let body =
        json!({ "received_text_messages": [row("one", "My bin was missed"), MARK, row("two", "STOP")], "links": {} });
    for seed in seeds(RUNS) {
        let mutated = mutated(&Random::new(seed), &row("odd", THEIRS));
        let page = at_mark(&body, &mutated);
        *canned.0.lock().unwrap() = page.clone().into();
        let events = channel.poll(None).await.unwrap_or_else(|error| panic!("CIVIC_SEED={seed}: {error}")).events;
        let text =
            events.iter().any(|event| event.as_inbound().is_some_and(|one| one.text() == Some("My bin was missed")));
        let stop = events.iter().any(|event| matches!(event, Event::OptOut(_)));
        assert!(text && stop, "CIVIC_SEED={seed}: {}", page.escape_ascii());
    }
}
