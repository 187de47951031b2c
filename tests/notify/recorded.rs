//! Recorded exchanges with Notify's API, replayed.

use super::*;

/// How a recorded exchange is replayed.
enum Replay {
    /// The adapter makes this exact request.
    Ours,
    /// The adapter never makes this request; only the response is replayed.
    AnswerOnly,
}

/// The error of a recorded refusal.
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

/// The losses of a recorded acceptance.
fn accepted(name: &str) -> Option<(usize, Replay)> {
    Some(match name {
        "simulated ok" | "e164 ok" | "real number (queue absent)" | "test key number" => (3, Replay::Ours),
        // A template, whose losses are not known.
        "extra personalisation key" => (0, Replay::Ours),
        "918 chars" => (0, Replay::Ours),
        // Seven digits: Notify accepts them, an Address does not.
        "too few digits" => (3, Replay::AnswerOnly),
        _ => return None,
    })
}

/// The settings and message that make a recorded request.
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
async fn recorded_exchanges_have_their_recorded_meaning() {
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
                let text = response["errors"][0]["message"].as_str().unwrap();
                assert!(!shown.contains(text) && !shown.contains("26785a09"), "{name}: {shown}");
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

/// Replays the recorded exchanges that are not sends.
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
            assert_eq!(health.check("credentials").unwrap().status, CheckStatus::Pass);
            assert_eq!(health.check("template").unwrap().status, CheckStatus::Pass);
            assert_eq!(path().await, format!("/v2/template/{TEMPLATE}"));
        }
        // The adapter never lists templates; each has the fields that it reads.
        "templates" => {
            let cases = fixture("notify_api_recorded");
            let one = cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == "template").unwrap();
            assert_eq!(response["templates"][0], one["response"]);
        }
        "preview" => {
            // A preview has no fields, and this one lost the emoji inconclusively.
            let health = notify.health().await.unwrap();
            assert_eq!(health.check("template").unwrap().status, CheckStatus::Fail);
            assert_eq!(health.check("characters").unwrap().status, CheckStatus::Unknown);
            let requests = server.received_requests().await.unwrap();
            let preview = requests.iter().find(|request| request.method.as_str() == "POST").unwrap();
            assert_eq!(preview.url.path(), format!("/v2/template/{TEMPLATE}/preview"));
            assert_eq!(preview.body_json::<Value>().unwrap(), json!({ "personalisation": { "body": "😀" } }));
        }
        other => panic!("{other} is not replayed"),
    }
}
