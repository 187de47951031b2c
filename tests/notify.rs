//! GOV.UK Notify over HTTP: what its server was recorded to say, its callbacks, and a server of lists to poll.

#![cfg(all(feature = "notify", feature = "reqwest"))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::error::ErrorClass;
use civic_messaging::event::DeliveryOf;
use civic_messaging::event::InboundContent;
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

const SERVICE: &str = "26785a09-ab16-4eb0-8407-a37497a57506";
const KEY: &str = "my_test_key-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
const TEMPLATE: &str = "5484cfca-668a-4c18-afb1-5ddd0e3521b1";
const TOKENS: [&str; 2] = ["a-long-bearer-token", "another-bearer-token"];

/// The moment of the recorded callbacks.
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

// ---- what the server was recorded to say

/// How a recorded exchange is replayed.
enum Replay {
    /// The adapter makes this very request.
    Ours,
    /// It never makes it, or refuses before the network; the answer is read all the same.
    AnswerOnly,
}

/// What a recorded refusal of a send comes to.
fn refusal(name: &str) -> Option<(ErrorKind, &'static str, Replay)> {
    use ErrorKind::{Config, Forbidden, InvalidMessage, InvalidRecipient, Rejected, Unauthenticated};
    use Replay::{AnswerOnly, Ours};
    Some(match name {
        "missing personalisation" => (InvalidMessage, "BadRequestError", AnswerOnly),
        "missing template_id" => (Config, "ValidationError", AnswerOnly),
        "unknown property" => (InvalidMessage, "ValidationError", AnswerOnly),
        "bad template uuid" => (Config, "ValidationError", AnswerOnly),
        "unknown template" => (Config, "BadRequestError", Ours),
        "letters" => (InvalidRecipient, "ValidationError", AnswerOnly),
        "landline" => (InvalidRecipient, "InvalidPhoneError", Ours),
        "international" => (Forbidden, "BadRequestError", Ours),
        "bad sender id" => (Config, "BadRequestError", Ours),
        "919 chars" => (InvalidMessage, "BadRequestError", AnswerOnly),
        "empty body" => (InvalidMessage, "BadRequestError", AnswerOnly),
        "invalid json" => (Rejected, "BadRequestError", AnswerOnly),
        "no auth" | "basic auth" => (Unauthenticated, "AuthError", Ours),
        "wrong secret" | "old iat" | "future iat" | "unknown service" => (Unauthenticated, "AuthError", Ours),
        "team key outsider" => (Forbidden, "BadRequestError", Ours),
        "reference 1001" => (InvalidMessage, "ValidationError", AnswerOnly),
        _ => return None,
    })
}

/// What a recorded acceptance lost of its text.
fn accepted(name: &str) -> Option<(usize, Replay)> {
    Some(match name {
        "simulated ok" | "e164 ok" | "real number (queue absent)" | "test key number" => (3, Replay::Ours),
        // A template, of which no loss can be told.
        "extra personalisation key" => (0, Replay::Ours),
        "918 chars" => (0, Replay::Ours),
        // Seven digits: Notify takes them, and an Address does not.
        "too few digits" => (3, Replay::AnswerOnly),
        _ => return None,
    })
}

/// The message that makes a recorded request, and the settings that it needs.
fn made(case: &Value, server: &MockServer) -> (notify::Config, Message) {
    let body = &case["request"]["body"];
    let string = |field: &str| body[field].as_str().map(str::to_owned);
    let mut config = config(server);
    config.template_id = string("template_id").unwrap();
    config.sms_sender_id = string("sms_sender_id");
    let fields = body["personalisation"].as_object().unwrap();
    let to = Address::phone(&string("phone_number").unwrap()).unwrap();
    let message = if fields.len() == 1 {
        Message::text(to, fields["body"].as_str().unwrap())
    } else {
        let template = Template::new("anything").native("notify", TEMPLATE);
        let add = |t: Template, (name, value): (&String, &Value)| t.named(name, value.as_str().unwrap());
        Message::template(to, fields.iter().fold(template, add))
    };
    (config, message.key(string("reference").unwrap()))
}

#[tokio::test]
async fn all_recorded_exchanges_mean_what_they_did() {
    let file = fixture("notify_api_recorded");
    let cases = file["cases"].as_array().unwrap();
    let (server, clock, plain) = channel().await;
    let mut replayed = BTreeSet::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (status, response) = (case["status"].as_u64().unwrap(), &case["response"]);
        answers(&server, status, response).await;
        let replay = refusal(name).map(|(_, _, replay)| replay).or(accepted(name).map(|(_, replay)| replay));
        let sent = match replay {
            Some(Replay::Ours) => {
                let (config, message) = made(case, &server);
                let sent = with(config, &clock).send(&message).await;
                let mut expected = case["request"]["body"].clone();
                expected["phone_number"] = message.to.expose().into();
                let requests = server.received_requests().await.unwrap();
                assert_eq!(requests.len(), 1, "{name}");
                assert_eq!(requests[0].body_json::<Value>().unwrap(), expected, "{name}");
                assert_eq!(requests[0].url.path(), case["request"]["path"], "{name}");
                Some(sent)
            }
            Some(Replay::AnswerOnly) => Some(plain.send(&text("07700 900123", "It’s bin day 😀 — café, Dŵr €5")).await),
            None => None,
        };
        match (sent, refusal(name), accepted(name)) {
            (Some(Err(error)), Some((kind, code, _)), _) => {
                let got = (error.kind(), error.outcome(), error.is_retryable(), error.code(), error.status());
                let status = http::StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
                assert_eq!(got, (kind, Outcome::Rejected, false, Some(code), Some(status)), "{name}");
                let shown = format!("{error} {error:?}");
                let words = response["errors"][0]["message"].as_str().unwrap();
                assert!(!shown.contains(words) && !shown.contains("26785a09"), "{name}: {shown}");
                assert!(error.raw().is_some_and(|raw| !raw.is_empty()) && error.help().is_some(), "{name}");
            }
            (Some(Ok(accepted)), _, Some((lost, _))) => {
                assert_eq!(accepted.id().as_str(), response["id"], "{name}");
                assert_eq!((accepted.state, accepted.gateway), (DeliveryState::Accepted, "notify"), "{name}");
                let losses = if lost > 0 { vec![Loss::Rewritten { characters: lost }] } else { Vec::new() };
                assert_eq!(accepted.losses, losses, "{name}");
            }
            (None, None, None) => read(name, response, &server, &plain).await,
            (sent, ..) => panic!("{name}: {sent:?}"),
        }
        assert!(replayed.insert(name), "{name} twice");
    }
    assert_eq!(replayed.len(), 35);
}

/// The recorded exchanges that are no sends.
async fn read(name: &str, response: &Value, server: &MockServer, notify: &Notify) {
    let message = text("07700 900123", "Hello").key("ref-1");
    let unknown = LookupQuery::new(message.clone(), recorded());
    let by_id = unknown.clone().with_id("00000000-0000-0000-0000-000000000001".into());
    let path = || async { server.received_requests().await.unwrap()[0].url.path().to_owned() };
    match name {
        "get list" => {
            let LookupOutcome::Found(found) = notify.look_up(&unknown).await.unwrap() else { panic!("{name}") };
            let delivery = &found[0];
            assert_eq!((found.len(), delivery.state, delivery.key()), (1, DeliveryState::Accepted, Some("ref-1")));
            assert_eq!(delivery.id().unwrap().as_str(), response["notifications"][0]["id"]);
            assert_eq!(delivery.recipient, Some(Address::phone("07700 900003").unwrap()));
            assert_eq!((delivery.price, delivery.segments, delivery.envelope.at), (None, None, recorded()));
            let raw: Value = serde_json::from_slice(delivery.envelope.raw.as_bytes()).unwrap();
            assert_eq!(raw, response["notifications"][0]);
        }
        "get bad id" => {
            let error = notify.look_up(&by_id).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidMessage, Outcome::NotSent));
        }
        "get unknown" => {
            assert_eq!(notify.look_up(&by_id).await.unwrap(), LookupOutcome::Inconclusive);
            assert_eq!(path().await, "/v2/notifications/00000000-0000-0000-0000-000000000001");
        }
        "get bad query" => {
            let error = notify.poll(None).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidMessage, Outcome::NotSent));
        }
        "inbound" => {
            let page = notify.poll(None).await.unwrap();
            assert!(page.events.is_empty() && !page.more && page.next.is_some());
        }
        "template" => {
            let health = notify.health().await.unwrap();
            assert_eq!(health.check("credentials").unwrap().grade, CheckStatus::Pass);
            assert_eq!(health.check("template").unwrap().grade, CheckStatus::Pass);
            assert_eq!(path().await, format!("/v2/template/{TEMPLATE}"));
        }
        // The adapter never lists templates; what it would read of each is the same.
        "templates" => {
            let cases = fixture("notify_api_recorded");
            let one = cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == "template").unwrap();
            assert_eq!(response["templates"][0], one["response"]);
        }
        "preview" => {
            // A preview has no fields, and this one lost the emoji in a way that proves nothing.
            let health = notify.health().await.unwrap();
            assert_eq!(health.check("template").unwrap().grade, CheckStatus::Fail);
            assert_eq!(health.check("characters").unwrap().grade, CheckStatus::Unknown);
            let requests = server.received_requests().await.unwrap();
            let preview = requests.iter().find(|request| request.method.as_str() == "POST").unwrap();
            assert_eq!(preview.url.path(), format!("/v2/template/{TEMPLATE}/preview"));
            assert_eq!(preview.body_json::<Value>().unwrap(), json!({ "personalisation": { "body": "😀" } }));
        }
        other => panic!("{other} is not replayed"),
    }
}

#[tokio::test]
async fn a_request_carries_a_fresh_token_of_the_official_shape() {
    let vector = fixture("notify_jwt");
    let case = &vector["cases"][0];
    let server = MockServer::start().await;
    let clock = VirtualClock::starting_at(Timestamp::from_secs(case["iat"].as_i64().unwrap()));
    let mut config = config(&server);
    config.api_key = civic_messaging::Secret::new(vector["api_key"].as_str().unwrap()).unwrap();
    let notify = with(config, &clock);
    answers(&server, 201, &json!({ "id": "a" })).await;
    notify.send(&text("07700 900123", "Hello")).await.unwrap();
    clock.advance(Duration::from_secs(1));
    notify.send(&text("07700 900123", "Hello")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let token = |n: usize| requests[n].headers["authorization"].to_str().unwrap().to_owned();
    assert_eq!(token(0), case["authorization"].as_str().unwrap());
    assert_ne!(token(0), token(1));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    let body =
        json!({ "phone_number": "+447700900123", "template_id": TEMPLATE, "personalisation": { "body": "Hello" } });
    assert_eq!(requests[0].body_json::<Value>().unwrap(), body);
}

#[tokio::test]
async fn what_cannot_be_sent_does_not_reach_the_network() {
    let (server, _, notify) = channel().await;
    let to = Address::phone("07700 900123").unwrap();
    let short = Address::ShortCode("60777".parse().unwrap());
    let sender = |id: &str| {
        let mut options = notify::Options::default();
        options.sms_sender_id = Some(id.into());
        Message::text(to.clone(), "Hello").gateway_options(&options).unwrap()
    };
    for (message, kind, field) in [
        (Message::text(short, "Hello"), ErrorKind::InvalidRecipient, "to"),
        (text("07700 900123", &"a".repeat(919)), ErrorKind::InvalidMessage, "text"),
        (text("07700 900123", "   "), ErrorKind::InvalidMessage, "text"),
        (text("07700 900123", "Hello").reply_to("m1"), ErrorKind::Unsupported, "reply_to"),
        (Message::template(to.clone(), Template::new("bins")), ErrorKind::InvalidMessage, "template.name"),
        (
            Message::template(to.clone(), Template::new(TEMPLATE).parameter("x")),
            ErrorKind::Unsupported,
            "template.parameters",
        ),
        (Message::template(to.clone(), Template::new(TEMPLATE).header("x")), ErrorKind::Unsupported, "template"),
        (sender("Shropshire"), ErrorKind::InvalidMessage, "options.sms_sender_id"),
    ] {
        let error = notify.send(&message).await.unwrap_err();
        assert_eq!((error.kind(), error.field(), error.outcome()), (kind, Some(field), Outcome::NotSent));
    }
    assert!(server.received_requests().await.unwrap().is_empty());
    answers(&server, 201, &json!({ "id": "a" })).await;
    notify.send(&sender("8e222534-7f05-4972-86e3-17c5d9f894e2")).await.unwrap();
    let template = Template::new(TEMPLATE).named("name", "Alex").named("day", "Tuesday");
    notify.send(&Message::template(to, template)).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let body = |n: usize| requests[n].body_json::<Value>().unwrap();
    assert_eq!(body(0)["sms_sender_id"], "8e222534-7f05-4972-86e3-17c5d9f894e2");
    assert_eq!(
        (&body(1)["template_id"], &body(1)["personalisation"]),
        (&json!(TEMPLATE), &json!({ "name": "Alex", "day": "Tuesday" }))
    );
}

#[tokio::test]
async fn what_is_foretold_is_what_the_answer_says() {
    let (server, clock, notify) = channel().await;
    for (sent, back, lost) in
        [("It’s due… 😀", "It's due... ?", 3), (" trimmed \n", "trimmed", 0), ("Dŵr", "Dŵr", 0), ("ç", "Council: c", 1)]
    {
        answers(&server, 201, &json!({ "id": "a", "content": { "body": back, "from_number": "council" } })).await;
        let message = text("07700 900123", sent);
        let accepted = notify.send(&message).await.unwrap();
        let losses = if lost > 0 { vec![Loss::Rewritten { characters: lost }] } else { Vec::new() };
        assert_eq!(accepted.losses, losses, "{sent}");
        assert_eq!(notify.plan(&message).losses(), losses, "{sent}");
    }
    // Notify charges Welsh vowels as UCS-2, and what it replaces by `?` as GSM-7.
    assert_eq!(notify.plan(&text("07700 900123", &"ŵ".repeat(71))).segments(), Some(2));
    assert_eq!(notify.plan(&text("07700 900123", &"и".repeat(71))).segments(), Some(1));
    let mut config = config(&server);
    config.unicode = true;
    let keeps = with(config, &clock);
    assert_eq!(keeps.plan(&text("07700 900123", &"и".repeat(71))).segments(), Some(2));
    assert!(keeps.plan(&text("07700 900123", "ç 😀")).losses().is_empty());
}

#[tokio::test]
async fn an_outcome_is_unknown_only_where_the_message_may_have_gone() {
    let (server, clock, notify) = channel().await;
    let message = text("07700 900123", "Hello").key("bin-1");
    let said = |error: &str, words: &str| json!({ "status_code": 0, "errors": [{ "error": error, "message": words }] });
    let quota = "Exceeded send limits (250000) for today";
    let left = Duration::from_secs(24 * 3600 - (13 * 3600 + 46 * 60 + 42));
    for (status, body, kind, outcome, retry) in [
        (
            429,
            said("RateLimitError", "Exceeded rate limit for key type LIVE"),
            ErrorKind::RateLimited,
            Outcome::Rejected,
            Some(None),
        ),
        (429, said("TooManyRequestsError", quota), ErrorKind::QuotaExceeded, Outcome::Rejected, Some(Some(left))),
        (
            400,
            said("BadRequestError", "Can’t send to this recipient when service is in trial mode"),
            ErrorKind::Forbidden,
            Outcome::Rejected,
            None,
        ),
        (400, said("InvalidRecipientError", "x"), ErrorKind::InvalidRecipient, Outcome::Rejected, None),
        (400, said("SomethingNew", "x"), ErrorKind::Rejected, Outcome::Rejected, None),
        (400, json!("not its format"), ErrorKind::Rejected, Outcome::Rejected, None),
        (
            403,
            said("BadRequestError", "Invalid token: API key not found"),
            ErrorKind::Unauthenticated,
            Outcome::Rejected,
            None,
        ),
        (500, said("KeyError", "Internal server error"), ErrorKind::Unavailable, Outcome::Unknown, None),
        (503, json!(null), ErrorKind::Unavailable, Outcome::Unknown, None),
        (504, said("TimeoutError", "Timeout serving request"), ErrorKind::Unavailable, Outcome::Unknown, None),
        (201, json!({ "no": "id" }), ErrorKind::Unexpected, Outcome::Unknown, None),
    ] {
        answers(&server, status, &body).await;
        let error = notify.send(&message).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
        assert_eq!(error.is_retryable().then(|| error.retry_after()), retry, "{status} {body}");
    }
    // The same quota at another hour, on a call that is no send, and where the configuration knows better.
    clock.advance(left - Duration::from_secs(1));
    answers(&server, 429, &said("TooManyRequestsError", quota)).await;
    let error = notify.poll(None).await.unwrap_err();
    assert_eq!((error.outcome(), error.retry_after()), (Outcome::NotSent, Some(Duration::from_secs(1))));
    let mut config = config(&server);
    config.errors = BTreeMap::from([("TooManyRequestsError".to_owned(), ErrorClass::new(ErrorKind::Account))]);
    let error = with(config, &clock).send(&message).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable(), error.retry_after()), (ErrorKind::Account, false, None));
}

// ---- callbacks

#[tokio::test]
async fn the_recorded_callbacks_are_events() {
    let (_server, _, notify) = channel().await;
    let file = fixture("notify_callbacks_recorded");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let mut request = http::Request::builder().method(case["method"].as_str().unwrap()).uri("/notify");
        for (name, value) in case["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let body = case["body"].as_str().unwrap();
        let received = notify.receive(&request.body(body.to_owned()).unwrap().into()).await.unwrap();
        assert_eq!((received.response.status, received.discarded_events()), (http::StatusCode::OK, 0));
        let envelope = received.events[0].envelope();
        assert_eq!((envelope.account.as_str(), &*envelope.gateway), (SERVICE, "notify"));
        assert_eq!(*envelope.raw.as_bytes(), body);
        match (case["name"].as_str().unwrap(), &received.events[..]) {
            ("delivery_status", [Event::Delivery(delivery)]) => {
                assert_eq!((delivery.state, delivery.status.as_str()), (DeliveryState::Delivered, "delivered"));
                let of = DeliveryOf::Message {
                    id: Some("ff7110b4-9ee1-4b92-85d7-7842f33d3722".into()),
                    key: Some("ref-1".into()),
                };
                assert_eq!(delivery.of, of);
                assert_eq!(delivery.recipient, Some(Address::phone("07700 900003").unwrap()));
                assert_eq!((delivery.envelope.at, delivery.failure.is_none()), (recorded(), true));
            }
            ("inbound_sms", [Event::Inbound(inbound)]) => {
                // "STOP please £ ŵ 😀" is more than the word, and no opt-out.
                assert_eq!(inbound.content, InboundContent::Text("STOP please £ ŵ 😀".into()));
                assert_eq!(inbound.from, Address::phone("+447700900123").unwrap());
                assert_eq!(inbound.id.as_str(), "9968018b-f64e-4d8a-b068-2815a1faa0e7");
                assert_eq!(inbound.envelope.at, "2026-11-22T13:46:46.155Z".parse().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a callback brings.
async fn called_back(notify: &Notify, body: &Value) -> Vec<Event> {
    notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap().events
}

#[tokio::test]
async fn recipient_without_its_leading_0_is_read() {
    let (_server, _, notify) = channel().await;
    let body: Value = serde_json::from_str(include_str!("fixtures/cases/notify/callback_to_without_0.json")).unwrap();
    for (to, read) in [
        ("7700900123", Some("+447700900123")),
        ("7700 900123", Some("+447700900123")),
        ("+7700900123", Some("+447700900123")),
        ("447700900123", Some("+447700900123")),
        ("4407700900123", Some("+447700900123")),
        ("+447700900123", Some("+447700900123")),
        ("+44 (0)7700 900123", Some("+447700900123")),
        ("07700 900 123", Some("+447700900123")),
        ("0+447700900123", Some("+447700900123")),
        ("000007700900123", Some("+447700900123")),
        ("+07700900123", Some("+447700900123")),
        ("0+44(0)7700900123", Some("+447700900123")),
        ("00447700900123", Some("+447700900123")),
        ("1632960001", Some("+441632960001")),
        ("2079460000", Some("+442079460000")),
        ("+33612345678", Some("+33612345678")),
        ("0033612345678", Some("+33612345678")),
        ("33612345678", Some("+33612345678")),
        ("+4512345678", Some("+4512345678")),
        ("15005550123", Some("+15005550123")),
        ("not a number", None),
        ("", None),
        ("12", None),
    ] {
        let mut body = body.clone();
        body["to"] = to.into();
        let events = called_back(&notify, &body).await;
        let recipient = events[0].as_delivery().unwrap().recipient.as_ref().map(Address::expose);
        assert_eq!(recipient, read, "{to}");
    }
}

#[tokio::test]
async fn cost_with_float_noise_is_rounded_to_micros() {
    let (server, _, notify) = channel().await;
    let body: Value = serde_json::from_str(include_str!("fixtures/cases/notify/cost_of_three_parts.json")).unwrap();
    let id = "740e5834-3a29-46b4-9a6f-16142fde5300";
    Mock::given(method("GET"))
        .and(path(format!("/v2/notifications/{id}")))
        .respond_with(ResponseTemplate::new(200).set_body_json(&body))
        .mount(&server)
        .await;
    let sent = LookupQuery::new(text("07700 900123", "Hello"), recorded()).with_id(id.into());
    let LookupOutcome::Found(found) = notify.look_up(&sent).await.unwrap() else { panic!("not found") };
    let price = found[0].price.unwrap();
    assert_eq!((price.micros, price.currency.as_str(), found[0].segments), (68_100, "GBP", Some(3)));
}

#[tokio::test]
async fn senders_of_any_form_are_read() {
    let (_server, _, notify) = channel().await;
    for (from, read) in [
        ("447700900123", "+447700900123"),
        ("7700900123", "+447700900123"),
        ("07700 900123", "+447700900123"),
        ("+33612345678", "+33612345678"),
        ("4512345678", "+4512345678"),
        ("60777", "60777"),
        ("8400123", "8400123"),
        ("12", "12"),
        ("GOV.UK", "GOV.UK"),
        ("O2+", "O2+"),
        ("AT&T Info", "AT&T_Info"),
        ("Sainsbury's", "Sainsbury's"),
        ("T-Mobile", "T-Mobile"),
        ("A name that is longer", "A_name_that_is_longer"),
        ("Caf\u{e9}\t1", "Caf\u{e9}_1"),
    ] {
        let body =
            json!({ "id": "m1", "source_number": from, "destination_number": "07700987654", "message": "Hello" });
        let events = called_back(&notify, &body).await;
        let inbound = events[0].as_inbound().unwrap_or_else(|| panic!("{from}"));
        assert_eq!((inbound.from.expose(), inbound.text()), (read, Some("Hello")), "{from}");
        assert_eq!(inbound.to.as_ref().map(Address::expose), Some("+447700987654"));
    }
}

#[tokio::test]
async fn odd_member_costs_nothing_beside_it() {
    let (server, _, notify) = channel().await;
    let odd = [json!({}), json!([1]), json!(true), json!(null), json!(1e300), json!({ "a": [{}] })];
    let text = json!({ "id": "m1", "source_number": "447700900123", "destination_number": "07700987654",
        "message": "STOP", "date_received": "2026-11-22T10:00:00.000000Z" });
    let delivery = json!({ "id": "m1", "reference": "k", "to": "07700900123", "status": "delivered",
        "created_at": "2026-11-22T10:00:00.000000Z", "completed_at": "2026-11-22T10:00:00.000000Z",
        "sent_at": "2026-11-22T10:00:00.000000Z", "notification_type": "sms", "cost_in_pounds": 0.0227,
        "cost_details": { "billable_sms_fragments": 1 }, "is_cost_data_ready": true, "template": {} });
    for odd in &odd {
        for name in
            ["id", "destination_number", "date_received", "created_at", "notification_type", "cost_details", "to"]
        {
            let mut body = text.clone();
            body[name] = odd.clone();
            let events = called_back(&notify, &body).await;
            let [Event::Inbound(inbound), Event::OptOut(_)] = &events[..] else { panic!("{name}: {odd}: {events:?}") };
            assert_eq!((inbound.text(), inbound.from.expose()), (Some("STOP"), "+447700900123"));
            let again = called_back(&notify, &body).await;
            assert_eq!(again[0].id(), events[0].id());
        }
        for name in delivery.as_object().unwrap().keys().filter(|name| !["id", "status"].contains(&name.as_str())) {
            let mut body = delivery.clone();
            body[name] = odd.clone();
            let events = called_back(&notify, &body).await;
            let [Event::Delivery(read)] = &events[..] else { panic!("{name}: {odd}: {events:?}") };
            assert_eq!(read.state, DeliveryState::Delivered, "{name}: {odd}");
            assert_eq!(read.price.is_some(), name != "cost_in_pounds", "{name}: {odd}");
        }
    }
    let twice = r#"{"id":"m1","cost_details":7,"cost_details":{},"source_number":"447700900123","message":"Hello"}"#;
    let received = notify.receive(&callback(TOKENS[0], twice)).await.unwrap();
    assert_eq!(received.events[0].as_inbound().unwrap().text(), Some("Hello"));

    // The same holds for what a poll reads.
    let mut row = delivery.clone();
    row["cost_details"] = json!("none");
    let mut said = text.clone();
    said["cost_details"] = json!(7);
    said["user_number"] = said["source_number"].take();
    said["content"] = said["message"].take();
    said["created_at"] = json!("2026-11-22T10:00:00.000000Z");
    for (list, name, rows) in [
        ("/v2/notifications", "notifications", vec![row]),
        ("/v2/received-text-messages", "received_text_messages", vec![said]),
    ] {
        let page = ResponseTemplate::new(200).set_body_json(json!({ name: rows }));
        Mock::given(method("GET")).and(path(list)).respond_with(page).up_to_n_times(1).mount(&server).await;
        let end = ResponseTemplate::new(200).set_body_json(json!({ name: [] }));
        Mock::given(method("GET")).and(path(list)).respond_with(end).mount(&server).await;
    }
    let events = notify.poll(None).await.unwrap().events;
    assert!(events.iter().any(|event| event.as_inbound().is_some_and(|inbound| inbound.text() == Some("STOP"))));
    assert!(events.iter().any(|event| event.as_delivery().is_some_and(|delivery| delivery.price.is_some())));
}

#[tokio::test]
async fn look_up_by_key_is_inconclusive_beside_an_odd_row() {
    let rows = [json!({ "id": "m1", "reference": {}, "status": "delivered" }), json!({ "id": "m1" }), json!(7)];
    for row in rows {
        let (server, clock, notify) = channel().await;
        let list = ResponseTemplate::new(200).set_body_json(json!({ "notifications": [row] }));
        Mock::given(method("GET")).respond_with(list).mount(&server).await;
        let sent = LookupQuery::new(text("07700 900123", "Hello").key("k"), recorded());
        clock.advance(Duration::from_secs(3_600));
        let error = notify.look_up(&sent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{row}");
    }
}

#[tokio::test]
async fn look_up_by_a_long_key_asks_for_its_reference() {
    let (server, _, notify) = channel().await;
    answers(&server, 201, &json!({ "id": "m1" })).await;
    let message = text("07700 900123", "Hello").key("ŵ".repeat(501));
    notify.send(&message).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    let reference = sent["reference"].as_str().unwrap();
    assert_eq!(reference, notify.info().reference(&message).unwrap());
    let row = json!({ "id": "m1", "reference": reference, "status": "delivered" });
    server.reset().await;
    let list = ResponseTemplate::new(200).set_body_json(json!({ "notifications": [row] }));
    let asked = Mock::given(method("GET")).and(wiremock::matchers::query_param("reference", reference));
    asked.respond_with(list).mount(&server).await;
    let found = notify.look_up(&LookupQuery::new(message, recorded())).await.unwrap();
    assert!(matches!(found, LookupOutcome::Found(found) if found[0].key() == Some(reference)));
}

#[tokio::test]
async fn answer_without_an_id_is_an_unknown_outcome() {
    for (body, known) in [
        (json!({ "id": "" }), false),
        (json!({ "id": null, "content": { "body": "Hello" } }), false),
        (json!({ "content": { "body": "Hello" } }), false),
        (json!({ "id": "a", "content": 7 }), true),
        (json!({ "id": "a", "content": { "body": [] } }), true),
    ] {
        let (server, _, notify) = channel().await;
        answers(&server, 201, &body).await;
        match notify.send(&text("07700 900123", "Hello")).await {
            Ok(accepted) => assert!(known && accepted.id().as_str() == "a", "{body}"),
            Err(error) => assert!(!known && error.outcome() == Outcome::Unknown, "{body} {error}"),
        }
    }
}

#[tokio::test]
async fn text_is_counted_as_notify_counts_it() {
    let (server, _, notify) = channel().await;
    let unicode = {
        let mut config = config(&server);
        config.unicode = true;
        with(config, &VirtualClock::starting_at(recorded()))
    };
    answers(&server, 201, &json!({ "id": "a" })).await;
    for (words, fits) in [
        ("a".repeat(918), true),
        ("a".repeat(919), false),
        ("ŵ".repeat(918), true),
        ("ŵ".repeat(919), false),
        ("€".repeat(918), true),
        ("😀".repeat(459), true),
        ("😀".repeat(460), false),
        ("…".repeat(306), true),
        ("…".repeat(307), false),
        (format!(" {} \n\n", "a".repeat(918)), true),
        (format!("{}  b", "a".repeat(916)), true),
        (format!("{} \t.", "a".repeat(917)), true),
        (format!("{}\n\n\n\nb", "a".repeat(915)), true),
        (format!("{}\n\n\n\nb", "a".repeat(916)), false),
        (format!("\u{200B}\u{FEFF}{}", "a".repeat(918)), true),
        ("\u{200B}".to_owned(), false),
    ] {
        for notify in [&notify, &unicode] {
            let message = text("07700 900123", &words);
            let planned = notify.plan(&message).problems().is_empty();
            let checked = notify.check(&message).is_ok();
            let sent = notify.send(&message).await;
            assert_eq!((planned, checked, sent.is_ok()), (fits, fits, fits), "{} characters", words.chars().count());
            if let Err(error) = sent {
                assert_eq!((error.field(), error.outcome()), (Some("text"), Outcome::NotSent));
            }
        }
    }
}

#[tokio::test]
async fn plan_refuses_what_send_refuses() {
    let (_server, _, notify) = channel().await;
    let to = Address::phone("07700 900123").unwrap();
    let mut options = notify::Options::default();
    options.sms_sender_id = Some("Shropshire".into());
    for (message, field) in [
        (Message::template(to.clone(), Template::new("bins")), "template.name"),
        (Message::template(to.clone(), Template::new("x").native("notify", "bins")), "template.name"),
        (Message::text(to.clone(), "Hello").gateway_options(&options).unwrap(), "options.sms_sender_id"),
    ] {
        assert_eq!(notify.plan(&message).problems()[0].field(), Some(field));
        assert_eq!(notify.check(&message).unwrap_err().field(), Some(field));
        assert_eq!(notify.send(&message).await.unwrap_err().field(), Some(field));
    }
    let plan = notify.plan(&Message::template(to, Template::new(TEMPLATE)));
    assert_eq!((plan.segments(), plan.notes(), plan.problems().len()), (None, &[Note::UnknownSegments][..], 0));
}

#[tokio::test]
async fn template_id_that_is_no_uuid_is_refused_with_what_to_do() {
    for id in [
        "bins",
        "",
        "5484cfca-668a-4c18-afb1-5ddd0e3521b",
        "5484cfca668a4c18afb15ddd0e3521b1",
        " 5484cfca-668a-4c18-afb1-5ddd0e3521b1",
    ] {
        let toml = format!(
            "gateway = \"notify\"\nmedium = \"sms\"\napi_key = \"{}\"\ntemplate_id = \"{id}\"",
            fixture("notify_jwt")["api_key"].as_str().unwrap()
        );
        let settings = civic_messaging::Settings::from_toml(&toml).unwrap();
        let error = civic_messaging::Registry::standard().connect(&settings, &Context::new()).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("template_id")), "{id}");
        assert!(error.to_string().contains("copy it from"), "{error}");
    }
}

#[tokio::test]
async fn each_status_has_its_rung() {
    let (_server, _, notify) = channel().await;
    for (status, state, failure) in [
        ("created", DeliveryState::Accepted, None),
        ("sending", DeliveryState::Sending, None),
        ("pending", DeliveryState::Sending, None),
        ("sent", DeliveryState::Sent, None),
        ("delivered", DeliveryState::Delivered, None),
        ("permanent-failure", DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        ("temporary-failure", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("technical-failure", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("cancelled-by-owl", DeliveryState::Unrecognised, None),
    ] {
        let body =
            json!({ "id": "m1", "to": "not a number", "status": status, "notification_type": "sms", "new": [1] });
        let received = notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap();
        let delivery = received.events[0].as_delivery().unwrap();
        assert_eq!((delivery.state, delivery.status.as_str()), (state, status));
        assert_eq!(delivery.failure.as_ref().map(|f| (f.kind, f.temporary)), failure, "{status}");
        assert_eq!((&delivery.recipient, delivery.key()), (&None, None));
    }
}

#[tokio::test]
async fn a_stranger_is_refused_and_a_strange_body_is_kept() {
    let (server, clock, notify) = channel().await;
    let body = r#"{"id":"m1","source_number":"447700900123","message":"STOP"}"#;
    for token in TOKENS {
        let received = notify.receive(&callback(token, body)).await.unwrap();
        assert!(matches!(&received.events[..], [Event::Inbound(_), Event::OptOut(out)] if !out.resume));
    }
    // Notify has no list of its own, so a word that other gateways act on is a message.
    let end = callback(TOKENS[0], body.replace("STOP", "END"));
    assert!(matches!(&notify.receive(&end).await.unwrap().events[..], [Event::Inbound(_)]));
    let missing = http::Request::post("/").body(body).unwrap().into();
    for (request, status) in [(callback("a-wrong-bearer-token", body), 403), (missing, 401)] {
        let error = notify.receive(&request).await.unwrap_err();
        assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, status));
        assert_eq!(error.gateway(), Some("notify"));
    }
    for (body, what) in [
        ("", "body"),
        ("not json", "body"),
        ("[]", "body"),
        (r#"["m1","k","07700 900123","delivered"]"#, "body"),
        ("{}", "callback"),
        (r#"{"id":"m1"}"#, "callback"),
        (r#"{"source_number":"447700900123"}"#, "received_text_message"),
        (r#"{"id":"m1","source_number":"?","message":"x"}"#, "received_text_message"),
        (r#"{"id":"m1","to":"a@example.org","status":"delivered","notification_type":"email"}"#, "email"),
        (r#"{"id":"m1","to":"x","status":"delivered","notification_type":"fax"}"#, "callback"),
    ] {
        let received = notify.receive(&callback(TOKENS[0], body)).await.unwrap();
        let [Event::Unrecognised(unknown)] = &received.events[..] else { panic!("{body}") };
        assert_eq!((unknown.what.as_str(), &unknown.envelope.raw.as_bytes()[..]), (what, body.as_bytes()));
    }
    for (from, address) in
        [("07700900123", "+447700900123"), ("12025550123", "+12025550123"), ("60777", "60777"), ("HMRC", "HMRC")]
    {
        let body = json!({ "id": "m1", "source_number": from, "message": "x" }).to_string();
        let received = notify.receive(&callback(TOKENS[0], body)).await.unwrap();
        assert_eq!(received.events[0].as_inbound().unwrap().from.expose(), address);
    }
    // A token that is of another service makes no events here, and without one nothing is received.
    let mut other = config(&server);
    let secret = civic_messaging::Secret::new("token-of-another").unwrap();
    other.callback_tokens = vec![civic_messaging::webhook::SigningSecret::for_accounts(secret, ["other".into()])];
    let received = with(other, &clock).receive(&callback("token-of-another", body)).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events()), (0, 1));
    let mut none = config(&server);
    none.callback_tokens.clear();
    let deaf = with(none, &clock);
    assert!(!deaf.info().capability.receive);
    let error = deaf.receive(&callback(TOKENS[0], body)).await.unwrap_err();
    assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Config, 503));
}

// ---- polling

/// Notify's two lists: newest first, by when a message was made, in pages.
#[derive(Clone, Default)]
struct Lists(Arc<Mutex<Listed>>);

#[derive(Default)]
struct Listed {
    /// In the order in which they were made.
    notifications: Vec<Value>,
    received: Vec<Value>,
    page: usize,
    calls: usize,
}

/// A moment as Notify writes it, to the microsecond.
fn stamp(at: Timestamp, micros: u16) -> String {
    at.to_string().replace('Z', &format!("{micros:03}Z"))
}

fn uuid(n: usize) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

impl Lists {
    async fn on(server: &MockServer, page: usize) -> Self {
        let lists = Self::default();
        lists.0.lock().unwrap().page = page;
        Mock::given(method("GET")).respond_with(lists.clone()).mount(server).await;
        lists
    }

    fn send(&self, n: usize, status: &str, at: Timestamp) {
        let mut lists = self.0.lock().unwrap();
        let done = (!matches!(status, "created" | "sending" | "pending")).then(|| stamp(at, 0));
        lists.notifications.push(json!({
            "id": uuid(n), "reference": format!("key-{n}"), "phone_number": "07700 900123", "type": "sms",
            "status": status, "created_at": stamp(at, 0), "completed_at": done, "sent_at": null,
        }));
    }

    fn settle(&self, n: usize, status: &str, at: Timestamp) {
        let mut lists = self.0.lock().unwrap();
        let row = lists.notifications.iter_mut().find(|row| row["id"] == uuid(n)).unwrap();
        row["status"] = status.into();
        row["completed_at"] = stamp(at, 0).into();
    }

    fn write(&self, n: usize, at: Timestamp) {
        self.0.lock().unwrap().received.push(json!({
            "id": uuid(n), "user_number": "447700900123", "notify_number": "07700900456", "service_id": SERVICE,
            "content": "Hello", "created_at": stamp(at, 0),
        }));
    }

    fn calls(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

impl Respond for Lists {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut lists = self.0.lock().unwrap();
        lists.calls += 1;
        let (name, rows) = match request.url.path() {
            "/v2/notifications" => ("notifications", &lists.notifications),
            _ => ("received_text_messages", &lists.received),
        };
        let older = request.url.query_pairs().find(|(name, _)| name == "older_than").map(|(_, id)| id.into_owned());
        // As the server does: older than the moment of that one, and nothing when it is gone.
        let before = match older {
            None => Some(String::from("9")),
            Some(id) => {
                rows.iter().find(|row| row["id"] == id).map(|row| row["created_at"].as_str().unwrap().to_owned())
            }
        };
        let older =
            |row: &&Value| before.as_ref().is_some_and(|before| row["created_at"].as_str().unwrap() < before.as_str());
        let page: Vec<&Value> = rows.iter().rev().filter(older).take(lists.page).collect();
        ResponseTemplate::new(200).set_body_json(json!({ name: page, "links": {} }))
    }
}

/// Polls until there is no more, and gives what was told.
async fn drain(notify: &Notify, cursor: &mut Option<Cursor>) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let page = notify.poll(cursor.as_ref()).await.unwrap();
        all.extend(page.events);
        *cursor = page.next.or(cursor.take());
        if !page.more {
            return all;
        }
    }
}

fn told(events: &[Event]) -> Vec<String> {
    let id = |event: &Event| match event {
        Event::Delivery(delivery) => format!("{} {}", delivery.key().unwrap(), delivery.status),
        Event::Inbound(inbound) => format!("inbound {}", inbound.id.as_str().trim_start_matches(['0', '-'])),
        other => panic!("{other:?}"),
    };
    events.iter().map(id).collect()
}

#[tokio::test]
async fn a_poll_tells_each_final_state_once_oldest_first() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    let tick = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        clock.now()
    };
    let mut cursor = None;
    assert!(drain(&notify, &mut cursor).await.is_empty());
    assert_eq!(lists.calls(), 2);

    lists.send(1, "sending", tick(1));
    lists.send(2, "delivered", tick(1));
    lists.write(3, tick(1));
    lists.send(4, "created", tick(1));
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["key-2 delivered", "inbound 3"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());

    // What was not final is told when it is, whatever came since; what was told is not told again.
    lists.settle(4, "permanent-failure", tick(10));
    lists.send(5, "sent", tick(1));
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["key-4 permanent-failure", "key-5 sent"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
    lists.settle(1, "temporary-failure", tick(3 * 24 * 3600));
    lists.write(6, tick(1));
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["key-1 temporary-failure", "inbound 6"]);

    // Messages that Notify has deleted since are not missed, and a cursor survives being stored.
    clock.advance(Duration::from_secs(8 * 24 * 3600));
    {
        let mut all = lists.0.lock().unwrap();
        all.notifications.clear();
        all.received.clear();
    }
    cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert!(drain(&notify, &mut cursor).await.is_empty());
    lists.write(7, tick(1));
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["inbound 7"]);

    let error = notify.poll(Some(&Cursor::new("somebody else's"))).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("after")));
}

#[tokio::test]
async fn a_poll_and_a_callback_tell_one_event() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    lists.send(1, "delivered", recorded());
    lists.write(2, recorded());
    {
        let row = &mut lists.0.lock().unwrap().notifications[0];
        row["cost_in_pounds"] = json!(0.0454);
        row["cost_details"] = json!({ "billable_sms_fragments": 2, "sms_rate": 0.0227 });
    }
    clock.advance(Duration::from_secs(1));
    let page = notify.poll(None).await.unwrap();
    let delivery = json!({
        "id": uuid(1), "reference": "key-1", "to": "07700 900123", "status": "delivered", "sent_at": null,
        "created_at": recorded().to_string(), "completed_at": recorded().to_string(), "notification_type": "sms",
    });
    let inbound = json!({
        "id": uuid(2), "source_number": "447700900123", "destination_number": "07700900456", "message": "Hello",
        "date_received": recorded().to_string(),
    });
    let mut called = Vec::new();
    for body in [inbound, delivery] {
        called.extend(notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap().events);
    }
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!(ids(&page.events), ids(&called));
    for (polled, mut called) in page.events.into_iter().zip(called) {
        // All but what only the list tells: the piece of the body, and the price.
        match (&polled, &mut called) {
            (Event::Delivery(polled), Event::Delivery(called)) => {
                assert_eq!((polled.price.unwrap().micros, polled.segments), (45_400, Some(2)));
                called.envelope.raw = polled.envelope.raw.clone();
                (called.price, called.segments) = (polled.price, polled.segments);
            }
            (Event::Inbound(polled), Event::Inbound(called)) => called.envelope.raw = polled.envelope.raw.clone(),
            other => panic!("{other:?}"),
        }
        assert_eq!(polled, called);
    }
}

#[tokio::test]
async fn a_backlog_comes_in_parts_and_a_stuck_message_is_given_up() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 3).await;
    // Seven days of messages, one an hour, two of each in one millisecond; the oldest never becomes final.
    lists.send(0, "sending", clock.now());
    // One more, so that the two of a moment fall to two parts.
    lists.write(2000, clock.now());
    for n in 1..=168 {
        clock.advance(Duration::from_secs(3600));
        lists.write(2000 + n, clock.now());
        lists.send(n, "delivered", clock.now());
        lists.write(1000 + n, clock.now());
        lists.0.lock().unwrap().received.last_mut().unwrap()["created_at"] = stamp(clock.now(), 1).into();
    }
    let (mut cursor, mut all, mut parts) = (None, Vec::new(), 0);
    loop {
        let page = notify.poll(cursor.as_ref()).await.unwrap();
        // Eight pages of three from each list at most.
        assert!(page.events.len() <= 48, "{}", page.events.len());
        parts += 1;
        all.extend(told(&page.events));
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert!(parts > 168 / 24, "{parts}");
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (3 * 168 + 1, 3 * 168 + 1));
    let place = |n: usize| all.iter().position(|told| *told == format!("inbound {n}")).unwrap();
    assert!((1..=168).all(|n| place(2000 + n) < place(1000 + n)));
    // The stuck one is past four days: no poll goes down to it any more.
    lists.calls();
    drain(&notify, &mut cursor).await;
    assert_eq!(lists.calls(), 2);
}

/// Messages are made, become final and are polled at random: each is told, once.
#[tokio::test]
async fn nothing_is_lost_or_told_twice_whatever_the_order() {
    for seed in 1..=6_u64 {
        let (server, clock, notify) = channel().await;
        let lists = Lists::on(&server, 4).await;
        let chance = clock.clone().seeded(seed * 7919);
        let random = |below: u64| {
            let mut bytes = [0; 8];
            chance.random(&mut bytes).unwrap();
            u64::from_be_bytes(bytes) % below
        };
        let (mut open, mut expected, mut seen, mut cursor) = (Vec::new(), BTreeSet::new(), Vec::new(), None);
        let mut halves = 0;
        for n in 1..=400 {
            clock.advance(Duration::from_millis(random(90_000) + 1));
            match random(10 + seed % 3) {
                0..=3 => {
                    lists.send(n, "sending", clock.now());
                    open.push(n);
                }
                4..=5 if !open.is_empty() => {
                    let one = open.swap_remove(usize::try_from(random(open.len() as u64)).unwrap());
                    lists.settle(one, "delivered", clock.now());
                    expected.insert(format!("key-{one} delivered"));
                }
                6..=7 => {
                    lists.write(n, clock.now());
                    expected.insert(format!("inbound {n}"));
                }
                // One part of several, so that what comes next finds a backlog half read; seldom, so that there is one.
                _ if random(seed * 4) == 0 => {
                    let page = notify.poll(cursor.as_ref()).await.unwrap();
                    seen.extend(told(&page.events));
                    cursor = page.next;
                    halves += usize::from(page.more);
                }
                _ => {}
            }
        }
        assert!(seed < 4 || halves > 0, "seed {seed} had no backlog");
        seen.extend(told(&drain(&notify, &mut cursor).await));
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "seed {seed}");
        assert_eq!(distinct, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn a_list_that_is_not_one_is_an_error_and_a_row_that_is_not_is_kept() {
    let (server, _, notify) = channel().await;
    answers(&server, 200, &json!({ "something": "else" })).await;
    let error = notify.poll(None).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::NotSent));
    // One page for ever: a list that does not go down.
    let row = json!({ "id": uuid(1), "status": "delivered", "created_at": recorded().to_string() });
    answers(&server, 200, &json!({ "notifications": [row] })).await;
    assert_eq!(notify.poll(None).await.unwrap_err().kind(), ErrorKind::Unexpected);
    server.reset().await;
    let lists = Lists::on(&server, 250).await;
    lists.send(1, "delivered", recorded());
    let strange = |row: Value| lists.0.lock().unwrap().notifications.push(row);
    strange(json!({ "created_at": stamp(recorded(), 1), "status": ["new"] }));
    let mut cursor = None;
    let events = drain(&notify, &mut cursor).await;
    assert!(matches!(&events[..], [Event::Delivery(_), Event::Unrecognised(_)]), "{events:?}");
    // The next one is told as well, though neither has an id by which to know it.
    strange(json!({ "created_at": stamp(recorded(), 2), "status": "delivered" }));
    let events = drain(&notify, &mut cursor).await;
    let next =
        |event: &Event| matches!(event, Event::Unrecognised(one) if !one.envelope.raw.as_bytes().contains(&b'['));
    assert!(events.iter().any(next), "{events:?}");
}

#[tokio::test]
async fn a_strange_row_at_the_end_of_a_page_does_not_end_the_poll() {
    let (server, _, notify) = channel().await;
    let lists = Lists::on(&server, 2).await;
    let at = |seconds| recorded().minus(Duration::from_secs(seconds));
    lists.send(1, "delivered", at(40));
    // Its status is no word, and its id says where the next page begins.
    let strange = |n, seconds| json!({ "id": uuid(n), "created_at": stamp(at(seconds), 0), "status": ["new"] });
    lists.0.lock().unwrap().notifications.push(strange(2, 30));
    lists.send(3, "delivered", at(20));
    lists.0.lock().unwrap().received.push(strange(4, 10));
    let mut cursor = None;
    let events = drain(&notify, &mut cursor).await;
    let times: Vec<Timestamp> = events.iter().map(|event| event.envelope().at).collect();
    assert_eq!(times, [at(40), at(30), at(20), at(10)], "{events:?}");
    assert!(drain(&notify, &mut cursor).await.is_empty(), "and neither is told again");
}

#[tokio::test]
async fn an_unknown_word_is_told_when_notify_says_that_it_is_final() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    let set = |n: usize, field: &str, value: Value| {
        let mut lists = lists.0.lock().unwrap();
        lists.notifications.iter_mut().find(|row| row["id"] == uuid(n)).unwrap()[field] = value;
    };
    lists.send(1, "sending", clock.now());
    lists.send(2, "sending", clock.now());
    clock.advance(Duration::from_secs(600));
    let mut cursor = None;
    assert!(drain(&notify, &mut cursor).await.is_empty());
    clock.advance(Duration::from_secs(600));
    set(1, "status", "held-by-owl".into());
    set(2, "status", "delivered".into());
    // A final state without its moment is told all the same, and once.
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["key-2 delivered"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
    clock.advance(Duration::from_secs(600));
    set(1, "completed_at", stamp(clock.now(), 0).into());
    assert_eq!(told(&drain(&notify, &mut cursor).await), ["key-1 held-by-owl"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
}

// ---- evidence and health

#[tokio::test]
async fn a_look_up_is_conclusive_only_when_it_can_be() {
    let (server, clock, notify) = channel().await;
    answers(&server, 200, &json!({ "notifications": [], "links": {} })).await;
    let sent = LookupQuery::new(text("07700 900123", "Hello").key("waste/4711 é"), recorded());
    use LookupOutcome::{Inconclusive, NotFound};
    let (filed, deleted) = (300, 3 * 24 * 3600);
    for (after, outcome) in [
        (0, Inconclusive),
        (filed - 1, Inconclusive),
        (filed, NotFound),
        (deleted - 1, NotFound),
        (deleted, Inconclusive),
    ] {
        let clock = VirtualClock::starting_at(recorded().plus(Duration::from_secs(after)));
        let evidence = with(config(&server), &clock).look_up(&sent).await.unwrap();
        assert_eq!(evidence, outcome, "{after}");
    }
    let requests = server.received_requests().await.unwrap();
    let reference = requests[0].url.query_pairs().find(|(name, _)| name == "reference").unwrap().1.into_owned();
    assert_eq!(reference, "waste/4711 é");
    assert!(requests[0].url.query().unwrap().is_ascii());

    // Simulated numbers are filed nowhere, and without id and key there is nothing to ask by.
    for message in [text("07700 900111", "Hello").key("k"), text("07700 900123", "Hello")] {
        assert_eq!(notify.look_up(&LookupQuery::new(message, recorded())).await.unwrap(), LookupOutcome::Inconclusive);
    }

    // One key that went twice is found twice; another's is not ours.
    let row = |n: usize, key: &str| json!({ "id": uuid(n), "reference": key, "status": "sending", "type": "sms" });
    let rows = json!({ "notifications": [row(1, "k"), row(2, "k"), row(3, "K")] });
    answers(&server, 200, &rows).await;
    let sent = LookupQuery::new(text("07700 900123", "Hello").key("k"), clock.now());
    let LookupOutcome::Found(found) = notify.look_up(&sent).await.unwrap() else { panic!() };
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|delivery| delivery.state == DeliveryState::Sending));

    // The id says most: it finds what any kind of key sent.
    answers(&server, 200, &row(7, "k")).await;
    let LookupOutcome::Found(found) = notify.look_up(&sent.with_id(uuid(7).into())).await.unwrap() else { panic!() };
    assert_eq!(found[0].id().unwrap().as_str(), uuid(7));
    answers(&server, 200, &json!({})).await;
    let by_id = LookupQuery::new(text("07700 900123", "Hello"), recorded()).with_id(uuid(7).into());
    assert_eq!(notify.look_up(&by_id).await.unwrap_err().kind(), ErrorKind::Unexpected);
}

/// Answers the three calls of `health`.
async fn healthy(server: &MockServer, template: Value, delivered: Value, preview: &str) {
    server.reset().await;
    let answer = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let template_path = format!("/v2/template/{TEMPLATE}");
    let preview_path = format!("{template_path}/preview");
    let list = Mock::given(path("/v2/notifications")).and(query_param("status", "delivered"));
    Mock::given(method("GET")).and(path(template_path)).respond_with(answer(template)).mount(server).await;
    list.respond_with(answer(json!({ "notifications": delivered }))).mount(server).await;
    let body = json!({ "personalisation": { "body": "😀" } });
    let asked = Mock::given(method("POST")).and(path(preview_path)).and(body_json(body));
    asked.respond_with(answer(json!({ "body": preview, "type": "sms" }))).mount(server).await;
}

#[tokio::test]
async fn health_says_what_is_proven_and_what_is_declared() {
    let (server, clock, _) = channel().await;
    let good = json!({ "type": "sms", "body": "((body))", "personalisation": { "body": { "required": true } } });
    let billed = |n: u8| json!([{ "id": "a", "status": "delivered", "cost_details": { "billable_sms_fragments": n } }]);
    let unready = json!([{ "id": "a", "status": "delivered", "is_cost_data_ready": false, "cost_details": {} }]);
    for (declared, delivered, grade) in [
        (Some(KeyType::Live), billed(2), CheckStatus::Pass),
        (Some(KeyType::Live), billed(0), CheckStatus::Warn),
        (Some(KeyType::Live), json!([]), CheckStatus::Unknown),
        (Some(KeyType::Live), unready, CheckStatus::Unknown),
        (Some(KeyType::Team), billed(1), CheckStatus::Warn),
        (Some(KeyType::Test), billed(0), CheckStatus::Warn),
        (Some(KeyType::Test), billed(1), CheckStatus::Fail),
        (None, billed(1), CheckStatus::Unknown),
        (None, billed(0), CheckStatus::Unknown),
        (None, json!("not a list"), CheckStatus::Unknown),
    ] {
        healthy(&server, good.clone(), delivered.clone(), "?").await;
        let mut config = config(&server);
        config.key_type = declared;
        let health = with(config, &clock).health().await.unwrap();
        assert_eq!(health.check("key").unwrap().grade, grade, "{declared:?} {delivered}");
        assert_eq!(health.is_good(), grade != CheckStatus::Fail);
        let words = &health.check("key").unwrap().detail;
        assert!(declared.is_none() || words.starts_with("declared "), "{words}");
        // Nothing is sent, whatever is asked.
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|r| r.method.as_str() == "GET" || r.url.path().ends_with("/preview")));
    }
    for (unicode, preview, grade) in [
        (false, "?", CheckStatus::Pass),
        (false, "😀", CheckStatus::Warn),
        (true, "😀", CheckStatus::Pass),
        (true, "?", CheckStatus::Warn),
        (true, "Council: 😀", CheckStatus::Unknown),
    ] {
        healthy(&server, good.clone(), json!([]), preview).await;
        let mut config = config(&server);
        config.unicode = unicode;
        let health = with(config, &clock).health().await.unwrap();
        assert_eq!(health.check("characters").unwrap().grade, grade, "{unicode} {preview}");
        assert_eq!(health.check("webhook").unwrap().grade, CheckStatus::Unknown);
    }
    let mut deaf = config(&server);
    deaf.callback_tokens.clear();
    assert_eq!(with(deaf, &clock).health().await.unwrap().check("webhook").unwrap().grade, CheckStatus::Warn);
}

#[tokio::test]
async fn health_finds_the_wrong_template_and_the_wrong_key() {
    let (server, _, notify) = channel().await;
    let field = json!({ "required": true });
    for (template, grade) in [
        (json!({ "type": "sms", "body": "((BODY))\n", "personalisation": { "Body": field } }), CheckStatus::Pass),
        (json!({ "type": "sms", "body": "Hi ((body))", "personalisation": { "body": field } }), CheckStatus::Warn),
        (
            json!({ "type": "sms", "body": "((body)) ((day))", "personalisation": { "body": field, "day": field } }),
            CheckStatus::Fail,
        ),
        (json!({ "type": "sms", "body": "((text))", "personalisation": { "text": field } }), CheckStatus::Fail),
        (json!({ "type": "sms", "body": "Hello" }), CheckStatus::Fail),
        (json!({ "type": "email", "body": "((body))", "personalisation": { "body": field } }), CheckStatus::Fail),
    ] {
        healthy(&server, template.clone(), json!([]), "?").await;
        let health = notify.health().await.unwrap();
        assert_eq!(health.check("template").unwrap().grade, grade, "{template}");
    }
    let said = |words: &str| json!({ "status_code": 0, "errors": [{ "error": "AuthError", "message": words }] });
    for (status, words, hint) in [
        (403, "Error: Your system clock must be accurate to within 30 seconds", "clock"),
        (403, "Invalid token: API key not found", "key"),
        (403, "Invalid token: service not found", "service"),
        (401, "Unauthorized: authentication token must be provided", "key"),
    ] {
        answers(&server, status, &said(words)).await;
        let health = notify.health().await.unwrap();
        let check = health.check("credentials").unwrap();
        assert_eq!((check.grade, health.checks.len()), (CheckStatus::Fail, 1));
        assert!(check.detail.contains(hint), "{}", check.detail);
    }
    for status in [400, 404] {
        answers(&server, status, &said("No result found")).await;
        let health = notify.health().await.unwrap();
        assert_eq!(health.check("credentials").unwrap().grade, CheckStatus::Pass);
        assert_eq!(health.check("template").unwrap().grade, CheckStatus::Fail);
    }
    answers(&server, 503, &json!(null)).await;
    assert_eq!(notify.health().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

// ---- configuration

#[test]
fn invalid_setting_is_named_and_no_secret_is_shown() {
    let config = || notify::Config::new(KEY, TEMPLATE).unwrap();
    let build = |config| Notify::sms_with(config, &Context::new());
    assert!(build(config()).is_ok());
    let mut bad = config();
    bad.template_id = "bins".into();
    assert_eq!(build(bad).unwrap_err().field(), Some("template_id"));
    let mut bad = config();
    bad.body_field = " ".into();
    assert_eq!(build(bad).unwrap_err().field(), Some("body_field"));
    assert_eq!(build(config().sms_sender_id("Shropshire")).unwrap_err().field(), Some("sms_sender_id"));
    assert_eq!(notify::Config::new("", "x").unwrap_err().field(), Some("api_key"));
    assert_eq!(config().callback_token(" ").unwrap_err().field(), Some("callback_tokens"));
    let shown = format!("{:?} {:?}", config(), build(config()).unwrap());
    assert!(!shown.contains("3d844edf") && !shown.contains("my_test_key"), "{shown}");
}

#[cfg(feature = "toml")]
#[tokio::test]
async fn a_configuration_builds_it_and_errors_name_the_field() {
    use civic_messaging::{Registry, Settings};

    let server = MockServer::start().await;
    let full = format!(
        r#"
        gateway = "notify"
        medium = "sms"
        api_key = "{KEY}"
        template_id = "{TEMPLATE}"
        body_field = "words"
        sms_sender_id = "8e222534-7f05-4972-86e3-17c5d9f894e2"
        callback_tokens = ["a-long-bearer-token", {{ secret = "token-of-two", accounts = ["{SERVICE}"] }}]
        key_type = "live"
        unicode = true
        base_url = "{}"
        errors = {{ RateLimitError = {{ kind = "rate_limited", retryable = true, after = 7 }} }}
        "#,
        server.uri()
    );
    let connect = |toml: &str| Registry::standard().connect(&Settings::from_toml(toml).unwrap(), &Context::new());
    let sms = connect(&full).unwrap();
    assert_eq!((sms.info().gateway, sms.info().account.as_str()), ("notify", SERVICE));
    let said = json!({ "errors": [{ "error": "RateLimitError", "message": "x" }] });
    let answer = ResponseTemplate::new(429).set_body_json(said);
    let body = json!({
        "phone_number": "+447700900123", "template_id": TEMPLATE, "personalisation": { "words": "Hello" },
        "sms_sender_id": "8e222534-7f05-4972-86e3-17c5d9f894e2",
    });
    let ours = Mock::given(method("POST")).and(header("content-type", "application/json")).and(body_json(body));
    ours.respond_with(answer).mount(&server).await;
    let error = sms.send_text(&Address::phone("07700 900123").unwrap(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    let body = r#"{"id":"m1","status":"delivered"}"#;
    assert_eq!(sms.receive(&callback("token-of-two", body)).await.unwrap().events.len(), 1);

    for (from, to, field) in [
        (r#"medium = "sms""#, r#"medium = "whatsapp""#, "medium"),
        (KEY, "canary-26785a09", "api_key"),
        (TEMPLATE, "canary", "template_id"),
        (r#""live""#, r#""canary""#, "key_type"),
        ("unicode = true", "colour = 1", "colour"),
        ("8e222534", "canary", "sms_sender_id"),
        (&server.uri(), "http://canary.example.org", "base_url"),
    ] {
        let error = connect(&full.replace(from, to)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}
