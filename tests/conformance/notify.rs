//! Conformance of GOV.UK Notify, with the recorded responses of its server and its callbacks.
//!
//! Recordings are read from their fixture by name. What Notify documents but was not recorded is derived from a
//! recording by changing fields.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use civic_messaging::address::Sender;
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::LookupQuery;
use civic_messaging::message::Template;
use civic_messaging::notify::{Config, KeyType, Options};
use civic_messaging::poll::Cursor;
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::{Address, Channel, DeliveryState, ErrorKind, Message, Notify, Result, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::with;

const SERVICE: &str = "26785a09-ab16-4eb0-8407-a37497a57506";
const SECRET: &str = "3d844edf-8d35-48ac-975b-e847b4f122b0";
const TEMPLATE: &str = "5484cfca-668a-4c18-afb1-5ddd0e3521b1";
const NOBODY: &str = "00000000-0000-0000-0000-000000000001";
/// The message that occurs in both a recorded list and a recorded callback.
const ID: &str = "ff7110b4-9ee1-4b92-85d7-7842f33d3722";
const INBOUND: &str = "9968018b-f64e-4d8a-b068-2815a1faa0e7";

type Cases = BTreeMap<String, Value>;

/// The recorded cases of a file, by name.
fn cases(file: &str) -> Cases {
    let file: Value = serde_json::from_str(file).unwrap();
    let named = |case: &Value| (case["name"].as_str().unwrap().to_owned(), case.clone());
    file["cases"].as_array().unwrap().iter().map(named).collect()
}

static API: LazyLock<Cases> = LazyLock::new(|| cases(include_str!("../fixtures/sms/notify_api_recorded.json")));
static CALLBACKS: LazyLock<Cases> =
    LazyLock::new(|| cases(include_str!("../fixtures/sms/notify_callbacks_recorded.json")));

fn callback(name: &str) -> &'static str {
    CALLBACKS[name]["body"].as_str().unwrap()
}

/// The body of a recorded response.
fn response(name: &str) -> &'static Value {
    &API[name]["response"]
}

/// The id of a message without a recording.
fn id(n: usize) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

/// Adds a recorded response to a step.
fn answered(step: Step, name: &str) -> Step {
    step.answers(u16::try_from(API[name]["status"].as_u64().unwrap()).unwrap(), response(name).to_string())
}

/// The token of a request: a JWT with the service and the time in seconds.
fn authorization(iat: i64) -> String {
    let claims = format!(r#"{{"iss":"{SERVICE}","iat":{iat}}}"#);
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#), BASE64.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// Text messages with a live key.
pub(crate) struct Sms;

impl Sms {
    fn authorized(&self, step: Step) -> Step {
        step.header("authorization", authorization(self.now().as_secs()))
    }

    fn get(&self, path: impl Into<String>) -> Step {
        self.authorized(Step::get(path))
    }

    /// A recorded request and its response. The crate writes numbers in one form; Notify accepts many.
    fn post(&self, name: &str, message: &Message) -> Step {
        let body = with(&API[name]["request"]["body"], json!({ "phone_number": message.to.expose() }));
        let path = API[name]["request"]["path"].as_str().unwrap();
        let step = Step::post(path).header("content-type", "application/json").json(body.to_string());
        answered(self.authorized(step), name)
    }

    fn accepted(&self, name: &str, message: Message) -> Exchange {
        let step = self.post(name, &message);
        Exchange::send(message).step(step).accepts([response(name)["id"].as_str().unwrap()])
    }

    fn refused(&self, name: &str, message: Message, kind: ErrorKind) -> Exchange {
        let step = self.post(name, &message);
        let code = response(name)["errors"][0]["error"].as_str().unwrap();
        Exchange::send(message).step(step).fails(kind).code(code)
    }

    fn sends(&self) -> Vec<Exchange> {
        use ErrorKind::{
            Config, Forbidden, InvalidMessage, InvalidRecipient, QuotaExceeded, RateLimited, Rejected, Unauthenticated,
            Unavailable,
        };
        let body = &API["e164 ok"]["request"]["body"];
        let words = body["personalisation"]["body"].as_str().unwrap();
        let text = |to: &str| Message::text(Address::phone(to).unwrap(), words).key("ref-1");
        let by = |template: Template| Message::template(text("07700 900000").to, template).key("ref-1");
        let resident = || text("07700 900123");
        let mut sender = Options::default();
        sender.sms_sender_id = Some(NOBODY.to_owned());
        // Recorded responses to requests of other clients, which could occur for ours.
        let rejected = |name: &str, kind| {
            let code = response(name)["errors"][0]["error"].as_str().unwrap();
            Exchange::send(resident()).step(answered(Step::any(), name)).fails(kind).code(code)
        };
        // Documented limits.
        let limit = |error: &str, message: &str| {
            let errors = json!({ "status_code": 429, "errors": [{ "error": error, "message": message }] });
            Exchange::send(resident()).step(Step::any().answers(429, errors.to_string()))
        };
        let broken =
            json!({ "status_code": 500, "errors": [{ "error": "KeyError", "message": "Internal server error" }] });
        let named = Template::new("bin_day").native("notify", TEMPLATE).named("body", "x").named("zz", "y");
        vec![
            self.accepted("e164 ok", text("+447700900111")),
            self.accepted("real number (queue absent)", resident()),
            self.accepted("test key number", text("07700 900003")),
            self.accepted("extra personalisation key", by(named)),
            self.refused("landline", text("020 7946 0000"), InvalidRecipient),
            self.refused("international", text("+12025550123"), Forbidden),
            self.refused("unknown template", by(Template::new(NOBODY).named("body", words)), Config),
            self.refused("bad sender id", text("07700 900000").gateway_options(&sender).unwrap(), Config),
            self.refused("team key outsider", resident(), Forbidden),
            self.refused("old iat", text("07700 900000"), Unauthenticated),
            self.refused("wrong secret", text("07700 900000"), Unauthenticated),
            rejected("no auth", Unauthenticated),
            rejected("letters", InvalidRecipient),
            rejected("empty body", InvalidMessage),
            rejected("missing personalisation", InvalidMessage),
            rejected("bad template uuid", Config),
            rejected("invalid json", Rejected),
            limit("RateLimitError", "Exceeded rate limit for key type LIVE of 3000 requests per 60 seconds")
                .fails(RateLimited)
                .code("RateLimitError")
                .retryable(),
            limit("TooManyRequestsError", "Exceeded send limits (250000) for today")
                .fails(QuotaExceeded)
                .code("TooManyRequestsError")
                .retryable(),
            Exchange::send(resident()).step(Step::any().answers(500, broken.to_string())).fails(Unavailable).unknown(),
        ]
    }

    fn look_ups(&self) -> Vec<Exchange> {
        let message = || Message::text(Address::phone("07700 900003").unwrap(), "It’s bin day");
        let keyed = |ago| LookupQuery::new(message().key("ref-1"), self.now().minus(Duration::from_secs(ago)));
        let by_id = |id: &str| keyed(600).with_id(id.into());
        let by_key = "/v2/notifications?template_type=sms&reference=ref-1";
        let list = response("get list");
        let none = with(list, json!({ "notifications": [] }));
        let found = |status: &str| with(&list["notifications"][0], json!({ "status": status })).to_string();
        let one = format!("/v2/notifications/{ID}");
        let simulated = Message::text(Address::phone("07700 900111").unwrap(), "It’s bin day").key("ref-1");
        vec![
            Exchange::look_up(keyed(600)).step(answered(self.get(by_key), "get list")).finds([DeliveryState::Accepted]),
            // Notify lists a message within minutes and keeps it for days.
            Exchange::look_up(keyed(600)).step(self.get(by_key).answers(200, none.to_string())).not_found(),
            Exchange::look_up(keyed(2)).step(self.get(by_key).answers(200, none.to_string())).inconclusive(),
            Exchange::look_up(keyed(8 * 24 * 3600))
                .step(self.get(by_key).answers(200, none.to_string()))
                .inconclusive(),
            Exchange::look_up(by_id(ID))
                .step(self.get(&one).answers(200, found("created")))
                .finds([DeliveryState::Accepted]),
            Exchange::look_up(by_id(ID)).step(self.get(&one).answers(200, found("sent"))).finds([DeliveryState::Sent]),
            Exchange::look_up(by_id(NOBODY))
                .step(answered(self.get(format!("/v2/notifications/{NOBODY}")), "get unknown"))
                .inconclusive(),
            Exchange::look_up(by_id(ID))
                .step(answered(self.get(&one), "wrong secret"))
                .fails(ErrorKind::Unauthenticated),
            Exchange::look_up(LookupQuery::new(message(), self.now())).inconclusive(),
            Exchange::look_up(LookupQuery::new(simulated, self.now())).inconclusive(),
        ]
    }

    /// Both lists, newest first, each read to its end.
    fn polls(&self) -> Vec<Exchange> {
        let (sent, received) = ("/v2/notifications?template_type=sms", "/v2/received-text-messages");
        let recorded = &response("get list")["notifications"][0];
        // The content of the callback in the fields of a list.
        let callback: Value = serde_json::from_str(callback("delivery_status")).unwrap();
        let delivered = json!({
            "status": callback["status"], "sent_at": callback["sent_at"], "completed_at": callback["completed_at"],
        });
        let open = json!({ "id": id(1), "created_at": "2026-11-22T13:46:43.000000Z" });
        let failed = json!({
            "id": id(2), "reference": null, "status": "permanent-failure", "created_at": "2026-11-22T13:45:00.000000Z",
            "completed_at": "2026-11-22T13:46:00.000000Z",
        });
        let odd = json!({ "id": id(3), "status": ["new"], "created_at": "2026-11-22T13:44:00.000000Z" });
        let rows = [open, delivered, failed, odd].map(|change| with(recorded, change));
        let page = with(response("get list"), json!({ "notifications": rows }));
        let end = with(response("get list"), json!({ "notifications": [] }));
        let text: Value = serde_json::from_str(self::callback("inbound_sms")).unwrap();
        let text = json!({
            "id": text["id"], "created_at": text["date_received"], "service_id": SERVICE, "content": text["message"],
            "user_number": text["source_number"], "notify_number": text["destination_number"],
        });
        let stop = with(&text, json!({ "id": id(10), "content": "STOP" }));
        let inbound = with(response("inbound"), json!({ "received_text_messages": [stop, text] }));
        let empty = |path: &str| self.get(path).answers(200, end.to_string());
        vec![
            Exchange::poll(None)
                .step(self.get(sent).answers(200, page.to_string()))
                .step(empty(&format!("{sent}&older_than={}", id(3))))
                .step(self.get(received).answers(200, inbound.to_string()))
                .step(answered(self.get(format!("{received}?older_than={INBOUND}")), "inbound")),
            Exchange::poll(None).step(empty(sent)).step(answered(self.get(received), "inbound")),
            Exchange::poll(None).step(answered(self.get(sent), "get bad query")).fails(ErrorKind::InvalidMessage),
            Exchange::poll(Some(Cursor::new("somebody else's"))).fails(ErrorKind::InvalidMessage),
        ]
    }

    fn healths(&self) -> Vec<Exchange> {
        let template = format!("/v2/template/{TEMPLATE}");
        let billed = json!({
            "status": "delivered", "is_cost_data_ready": true, "cost_in_pounds": 0.0227,
            "cost_details": { "billable_sms_fragments": 1, "international_rate_multiplier": 1.0, "sms_rate": 0.0227 },
        });
        let billed = with(&response("get list")["notifications"][0], billed);
        let billed = with(response("get list"), json!({ "notifications": [billed] }));
        let preview = with(response("preview"), json!({ "body": "?" }));
        let request = self.authorized(Step::post(format!("{template}/preview")));
        vec![
            Exchange::health()
                .step(answered(self.get(&template), "template"))
                .step(self.get("/v2/notifications?template_type=sms&status=delivered").answers(200, billed.to_string()))
                .step(request.json(r#"{ "personalisation": { "body": "😀" } }"#).answers(200, preview.to_string()))
                .health_check("credentials", CheckStatus::Pass)
                .health_check("template", CheckStatus::Pass)
                .health_check("key", CheckStatus::Pass)
                .health_check("characters", CheckStatus::Pass)
                .health_check("webhook", CheckStatus::Unknown),
            Exchange::health()
                .step(answered(self.get(&template), "old iat"))
                .health_check("credentials", CheckStatus::Fail),
        ]
    }
}

impl Subject for Sms {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let key = format!("my-test-key-{SERVICE}-{SECRET}");
        let mut config = Config::new(key, TEMPLATE)?.key_type(KeyType::Live).base_url(&setup.base_url)?;
        config.callback_tokens = setup.webhook_secrets.clone();
        Ok(Arc::new(Notify::sms_with(config, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        self.secrets()
    }

    fn signer(&self) -> Signer {
        Signer::bearer()
    }

    fn now(&self) -> Timestamp {
        "2026-11-22T13:50:00Z".parse().unwrap()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let code = Address::from("60777".parse::<Sender>().unwrap());
        let to_code = Exchange::send(Message::text(code, "Hello")).fails(ErrorKind::InvalidRecipient).not_sent();
        [self.sends(), self.look_ups(), self.polls(), self.healths(), vec![to_code]].concat()
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let receipt: Value = serde_json::from_str(callback("delivery_status")).unwrap();
        let text: Value = serde_json::from_str(callback("inbound_sms")).unwrap();
        let statuses =
            ["sending", "sent", "permanent-failure", "temporary-failure", "technical-failure", "held-by-owl"];
        let receipts = statuses.map(|status| Webhook::json(with(&receipt, json!({ "status": status })).to_string()));
        let says =
            |n: usize, change: Value| Webhook::json(with(&with(&text, json!({ "id": id(n) })), change).to_string());
        let unkeyed = with(&receipt, json!({ "id": id(20), "reference": null, "completed_at": null }));
        let email = json!({ "notification_type": "email", "to": "resident@example.org" });
        let mut webhooks = vec![
            Webhook::json(callback("delivery_status")),
            // More than the keyword is not an opt-out.
            Webhook::json(callback("inbound_sms"))
                .returns_events([ExpectedEvent::text(INBOUND, "STOP please £ ŵ 😀").from("+447700900123")]),
            says(10, json!({ "message": "STOP" })),
            says(11, json!({ "message": "start" })),
            says(12, json!({ "message": "" })),
            says(13, json!({ "source_number": "60777", "message": "Your parcel is here" })),
            says(15, json!({ "source_number": "O2+" })),
            // A malformed member beside a text.
            says(16, json!({ "cost_details": "none", "message": "STOP" })),
            says(14, json!({ "source_number": null })),
            Webhook::json(unkeyed.to_string()),
            // One callback URL receives the statuses of everything the service sends.
            Webhook::json(with(&receipt, email).to_string()),
            Webhook::json(r#"{"colour":"green"}"#),
        ];
        webhooks.extend(receipts);
        webhooks
    }
}

#[test]
fn token_matches_official_client() {
    let vector: Value = serde_json::from_str(include_str!("../fixtures/sms/notify_jwt.json")).unwrap();
    let case = &vector["cases"][0];
    assert_eq!((&vector["service_id"], &vector["secret"]), (&json!(SERVICE), &json!(SECRET)));
    assert_eq!(authorization(case["iat"].as_i64().unwrap()), case["authorization"]);
}

mod sms {
    use super::Sms;

    civic_messaging::conformance_tests!(Sms);
}
