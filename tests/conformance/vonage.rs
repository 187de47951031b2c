//! Conformance of Vonage's Messages API as documented: SMS, WhatsApp and Messenger.
//!
//! There is no recording of the API: requests and responses have every documented field. The inbound text message is the
//! one that Vonage's own library signed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use civic_messaging::media::Digest;
use civic_messaging::message::Template;
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::vonage::Config;
use civic_messaging::webhook::SignatureCoverage;
use civic_messaging::{Address, Channel, ErrorKind, Message, Purpose, Result, Timestamp, Vonage};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::with;

const APPLICATION: &str = "78d335fa-323d-0114-9c3d-d6f0d48968cf";
const PEM: &str = include_str!("../fixtures/vonage/private_key.pem");
const UUID: &str = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab";
const TEXT: &str = "Your collection is on Tuesday.";

static SIGNED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/sms/vonage_signature.json")).unwrap());

fn recorded() -> Value {
    let cases = SIGNED["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == "messages_api_signed_webhook_jwt").unwrap();
    serde_json::from_str(case["body"].as_str().unwrap()).unwrap()
}

fn signer() -> Signer {
    let sign = |request: &mut http::Request<bytes::Bytes>, secret: &str, now: Timestamp| {
        let claims = json!({
            "iat": now.as_secs(), "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", "iss": "Vonage",
            "payload_hash": Digest::sha256(request.body()).to_string(), "api_key": "abcd1234",
            "application_id": APPLICATION,
        });
        let header = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let token = format!("Bearer {signed}.{}", BASE64.encode(mac.finalize().into_bytes()));
        request.headers_mut().insert("authorization", token.parse().unwrap());
    };
    Signer::new(SignatureCoverage::Body, sign).tolerance(Duration::from_secs(300))
}

fn config(from: &str, setup: &Setup) -> Result<Config> {
    let mut config = Config::new(APPLICATION, PEM, from)?.base_url(&setup.base_url)?;
    config.signature_secrets = setup.webhook_secrets.clone();
    Ok(config)
}

/// A send that Vonage accepts.
fn accepted(message: Message, body: &Value) -> Exchange {
    let step = Step::post("/v1/messages").header("content-type", "application/json").json(body.to_string());
    Exchange::send(message).step(step.answers(202, json!({ "message_uuid": UUID }).to_string())).accepts([UUID])
}

/// The body of a refusal.
fn problem(page: &str, code: &str) -> String {
    json!({
        "type": format!("https://developer.vonage.com/api-errors{page}#{code}"), "title": "A title",
        "detail": "The value of one or more parameters is invalid.", "instance": "bf0ca0bf927b3b52e3cb03217e1a1ddf",
    })
    .to_string()
}

/// The refusals: status, page and code, with what follows from them.
fn refusals(message: &Message) -> Vec<Exchange> {
    use ErrorKind::{
        Account, Config, InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, QuotaExceeded, RateLimited,
        Rejected, Unauthenticated, Unavailable,
    };
    let refused = |status, page, code: &str| {
        Exchange::send(message.clone()).step(Step::any().answers(status, problem(page, code)))
    };
    let mut all = vec![
        refused(500, "/messages", "1030").fails(Unavailable).code("1030").unknown(),
        refused(500, "/messages", "1100").fails(Unavailable).code("1100").retryable(),
        Exchange::send(message.clone()).step(Step::any().answers(503, "")).fails(Unavailable).unknown(),
    ];
    for (status, page, code, kind) in [
        // Credentials, credit and sender: the account is suspended.
        (401, "", "unauthorized", Unauthenticated),
        (401, "", "jwt-expired", Unauthenticated),
        (402, "", "low-balance", Account),
        (403, "", "account-suspended", Account),
        (422, "/messages", "1120", Config),
        // The recipient, the message, and an unknown code.
        (422, "/messages", "1170", InvalidRecipient),
        (422, "/messages", "1050", OptedOut),
        (422, "/messages", "1150", InvalidMessage),
        (422, "/messages", "1340", OutsideWindow),
        (422, "/messages", "1241", Rejected),
        (422, "/messages", "9999", Rejected),
    ] {
        all.push(refused(status, page, code).fails(kind).code(code));
    }
    for (code, kind) in [("1000", RateLimited), ("1460", QuotaExceeded)] {
        all.push(refused(429, "/messages", code).fails(kind).code(code).retryable());
    }
    all
}

/// Statuses of one channel, from and to these sides.
fn statuses(channel: &str, from: &str, to: &str) -> Vec<Webhook> {
    let whole = json!({
        "message_uuid": UUID, "to": to, "from": from, "timestamp": "2026-11-22T13:00:00Z", "status": "delivered",
        "client_ref": "case-4711", "channel": channel, "usage": { "currency": "EUR", "price": "0.0333" },
    });
    let failed = |status: &str, code: &str| {
        let kind = format!("https://developer.vonage.com/api-errors/messages#{code}");
        json!({
            "status": status,
            "error": { "type": kind, "title": code, "detail": "Number barred", "instance": "bf0ca0bf927b3b52" },
        })
    };
    let post = |change: Value| Webhook::json(with(&whole, change).to_string());
    vec![
        post(json!({ "status": "submitted" })),
        post(json!({})),
        post(json!({ "status": "read" })),
        post(failed("rejected", "1050")),
        post(failed("undeliverable", "1180")),
        post(failed("undeliverable", "9999")),
        post(json!({ "status": "pondering" })),
        post(json!({ "from": "447700900999" })).discards(1),
    ]
}

/// Text messages.
pub(crate) struct Sms;

impl Sms {
    fn message(&self) -> Message {
        Message::text(Address::phone("07700 900123").unwrap(), TEXT)
    }
}

impl Subject for Sms {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Vonage::sms_with(config("+447700900456", setup)?, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signer(&self) -> Signer {
        signer()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let body = json!({
            "channel": "sms", "message_type": "text", "to": "447700900123", "from": "447700900456", "text": TEXT,
            "sms": { "encoding_type": "text" },
        });
        let welsh = "Mae’r casgliad ddydd Mawrth, tŷ’r cyngor.";
        let until = self.now().plus(Duration::from_secs(3_600));
        let mut all = vec![
            accepted(self.message().key("case-4711"), &with(&body, json!({ "client_ref": "case-4711" }))),
            accepted(
                Message::text(Address::phone("07700 900123").unwrap(), welsh),
                &with(&body, json!({ "text": welsh, "sms": { "encoding_type": "unicode" } })),
            ),
            accepted(self.message().not_after(until), &with(&body, json!({ "ttl": 3_600 }))),
            Exchange::send(Message::text(Address::sms_sender("60777").unwrap(), TEXT))
                .fails(ErrorKind::InvalidRecipient)
                .not_sent(),
        ];
        all.extend(refusals(&self.message()));
        all
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let whole = recorded();
        let post = |change: Value| Webhook::json(with(&whole, change).to_string());
        let mms = json!({
            "channel": "mms", "message_type": "image", "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ac", "text": null,
            "image": { "url": "https://api.nexmo.com/v3/media/1b456509", "name": "bin.jpg", "caption": "My bin" },
        });
        let mut all = vec![
            post(json!({})),
            post(json!({ "text": "When is my bin day?", "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ad" }))
                .returns_events([ExpectedEvent::text("aaaaaaaa-bbbb-cccc-dddd-0123456789ad", "When is my bin day?")
                    .from("+447700900123")]),
            post(mms),
            post(json!({ "to": "447700900999" })).discards(1),
            Webhook::json(r#"{"channel":"sms","to":"447700900456","colour":"green"}"#),
            post(json!({ "channel": "viber_service", "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ae" })),
        ];
        all.extend(statuses("sms", "447700900456", "447700900123"));
        let parts = json!({
            "message_uuid": UUID, "to": "447700900123", "from": "447700900456", "timestamp": "2026-11-22T13:00:01Z",
            "status": "submitted", "channel": "sms", "sms": { "count_total": "2" },
            "destination": { "network_code": "23410" },
        });
        all.push(Webhook::json(parts.to_string()));
        all
    }
}

/// WhatsApp.
pub(crate) struct WhatsApp;

impl Subject for WhatsApp {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Vonage::whatsapp_with(config("+447700900456", setup)?, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signer(&self) -> Signer {
        signer()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let to = Address::whatsapp("+447700900123").unwrap();
        let sides = json!({ "channel": "whatsapp", "to": "447700900123", "from": "447700900456" });
        let text = with(&sides, json!({ "message_type": "text", "text": TEXT }));
        let template = Template::new("bin_day").language("en_GB").parameter("Tuesday").parameter("Mill Lane");
        let mut all = vec![
            accepted(
                Message::text(to.clone(), TEXT).key("case-4711"),
                &with(&text, json!({ "client_ref": "case-4711" })),
            ),
            accepted(
                Message::text(to.clone(), TEXT).reply_to("aaaaaaaa-bbbb-cccc-dddd-0123456789ad"),
                &with(&text, json!({ "context": { "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ad" } })),
            ),
            accepted(
                Message::template(to.clone(), template),
                &with(
                    &sides,
                    json!({
                        "message_type": "template", "whatsapp": { "policy": "deterministic", "locale": "en_GB" },
                        "template": { "name": "bin_day", "parameters": ["Tuesday", "Mill Lane"] },
                    }),
                ),
            ),
            accepted(
                Message::template(to.clone(), Template::new("hello").language("en_GB")),
                &with(
                    &sides,
                    json!({
                        "message_type": "template", "whatsapp": { "policy": "deterministic", "locale": "en_GB" },
                        "template": { "name": "hello" },
                    }),
                ),
            ),
            Exchange::send(Message::text(Address::whatsapp("GB.1349120865530274").unwrap(), TEXT))
                .fails(ErrorKind::InvalidRecipient)
                .not_sent(),
        ];
        all.extend(refusals(&Message::text(to, TEXT)));
        all
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let id = |n: u32| format!("aaaaaaaa-bbbb-cccc-dddd-{n:012}");
        let whole = json!({
            "channel": "whatsapp", "to": "447700900456", "from": "447700900123", "timestamp": "2026-11-22T13:00:00Z",
            "context_status": "none", "profile": { "name": "Jane Smith", "username": "janesmith123" },
        });
        let post = |n: u32, change: Value| {
            let named = with(&whole, json!({ "message_uuid": id(n) }));
            Webhook::json(with(&named, change).to_string())
        };
        let file = |name: &str| json!({ "url": format!("https://api-us.nexmo.com/v1/media/{name}"), "name": name });
        let quoted = json!({ "message_uuid": UUID, "message_from": "447700900456" });
        let mut all = vec![
            post(1, json!({ "message_type": "text", "text": "When is my bin day?" }))
                .returns_events([ExpectedEvent::text(id(1), "When is my bin day?").from("+447700900123")]),
            post(2, json!({ "message_type": "text", "text": "STOP" })),
            post(
                3,
                json!({ "message_type": "image", "image": with(&file("bin.jpg"), json!({ "caption": "My bin" })) }),
            ),
            post(4, json!({ "message_type": "audio", "audio": { "url": "https://api-us.nexmo.com/v1/media/voice" } })),
            post(5, json!({ "message_type": "video", "video": file("bin.mp4") })),
            post(6, json!({ "message_type": "file", "file": file("form.pdf") })),
            post(
                7,
                json!({ "message_type": "sticker", "sticker": { "url": "https://api-us.nexmo.com/v1/media/sticker" } }),
            ),
            post(
                8,
                json!({
                    "message_type": "location",
                    "location": { "lat": 52.7081, "long": -2.7545, "name": "Shirehall", "address": "Abbey Foregate" },
                }),
            ),
            post(
                9,
                json!({
                    "message_type": "reply", "context": quoted,
                    "reply": { "id": "tue", "title": "Tuesday", "description": "Morning" },
                }),
            ),
            post(
                10,
                json!({ "message_type": "button", "context": quoted, "button": { "payload": "yes", "text": "Yes" } }),
            ),
            post(
                11,
                json!({ "message_type": "reaction", "context": quoted, "reaction": { "action": "react", "emoji": "👍" } }),
            ),
            post(12, json!({ "message_type": "reaction", "context": quoted, "reaction": { "action": "unreact" } })),
            post(13, json!({ "message_type": "order", "order": {} })),
            post(14, json!({ "message_type": "text", "text": "Hello", "to": "447700900999" })).discards(1),
            Webhook::json(r#"{"channel":"whatsapp","to":"447700900456","colour":"green"}"#),
        ];
        all.extend(statuses("whatsapp", "447700900456", "447700900123"));
        all
    }
}

/// Messenger.
pub(crate) struct Messenger;

impl Subject for Messenger {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        Ok(Arc::new(Vonage::messenger_with(config("107083064136738", setup)?, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec![PEM.to_owned()]
    }

    fn signer(&self) -> Signer {
        signer()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let text = || Message::text(Address::messenger("6079446955475023").unwrap(), TEXT);
        let body = json!({
            "channel": "messenger", "message_type": "text", "to": "6079446955475023", "from": "107083064136738",
            "text": TEXT, "messenger": { "category": "update" },
        });
        let reply = with(&body, json!({ "messenger": { "category": "response" }, "client_ref": "case-4711" }));
        let mut all = vec![accepted(text(), &body), accepted(text().purpose(Purpose::Reply).key("case-4711"), &reply)];
        all.extend(refusals(&text()));
        all
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let id = |n: u32| format!("aaaaaaaa-bbbb-cccc-dddd-{n:012}");
        let whole = json!({
            "channel": "messenger", "to": "107083064136738", "from": "6079446955475023",
            "timestamp": "2026-11-22T13:00:00Z", "message_type": "text",
        });
        let post = |n: u32, change: Value| {
            let named = with(&whole, json!({ "message_uuid": id(n) }));
            Webhook::json(with(&named, change).to_string())
        };
        let image = json!({ "message_type": "image", "image": { "url": "https://scontent.xx.fbcdn.net/v/bin.jpg" } });
        let mut all = vec![
            post(1, json!({ "text": "When is my bin day?" })).returns_events([ExpectedEvent::text(
                id(1),
                "When is my bin day?",
            )
            .from("6079446955475023")]),
            post(2, json!({ "text": "STOP" })),
            post(3, image),
            post(4, json!({ "message_type": "unsupported" })),
            post(5, json!({ "text": "Hello", "to": "107083064136739" })).discards(1),
            Webhook::json(r#"{"channel":"messenger","to":"107083064136738","colour":"green"}"#),
        ];
        all.extend(statuses("messenger", "107083064136738", "6079446955475023"));
        all
    }
}

mod sms {
    civic_messaging::conformance_tests!(crate::vonage::Sms);
}

mod whatsapp {
    civic_messaging::conformance_tests!(crate::vonage::WhatsApp);
}

mod messenger {
    civic_messaging::conformance_tests!(crate::vonage::Messenger);
}
