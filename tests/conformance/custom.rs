//! Conformance of the suppliers that tables describe: each from its file in `docs/suppliers` alone.

use std::path::PathBuf;
use std::sync::Arc;

use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::{Address, Channel, Custom, DeliveryState, ErrorKind, Medium, Message, Result, Settings, custom};

/// Connects to a supplier with these values in place of its environment.
fn connect(table: &str, values: &[(&str, &str)], setup: &Setup) -> Result<Arc<dyn Channel>> {
    let table = values.iter().fold(table.to_owned(), |table, (name, value)| {
        let reference = format!("{{ env = \"{name}\" }}");
        assert!(table.contains(&reference), "{name}");
        table.replace(&reference, &format!("{value:?}"))
    });
    let config: custom::Config = Settings::from_toml(&table)?.read()?;
    let config = config.base_url(setup.base_url.parse()?).webhook_secrets(setup.webhook_secrets.clone());
    Ok(Arc::new(Custom::new(Medium::Sms, config, &setup.context)?))
}

fn resident() -> Address {
    Address::phone("07700 900123").unwrap()
}

fn text() -> Message {
    Message::text(resident(), "Your collection is on Tuesday.").key("case-26-4711")
}

/// A text that needs UCS-2.
fn welsh() -> Message {
    Message::text(resident(), "Mae’r casgliad ddydd Mawrth, tŷ’r cyngor.").key("case-26-4712")
}

pub(crate) struct FireText;

impl FireText {
    fn send(message: Message, fields: &str) -> Exchange {
        let form = format!("apiKey=firetext-api-key&from=Exampleshr&{fields}&to=447700900123");
        let step = Step::post("/api/sendsms/json").form(sorted(&form));
        Exchange::send(message).step(step.answers(200, r#"{"code":0,"description":"SMS successfully queued"}"#))
    }
}

/// Returns a form in the order in which the adapter writes it: fields by name, then the credential.
fn sorted(form: &str) -> String {
    let (secret, fields) = form.split_once('&').unwrap();
    let mut fields: Vec<_> = fields.split('&').collect();
    fields.sort_unstable();
    fields.push(secret);
    fields.join("&")
}

impl Subject for FireText {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let values = [("FIRETEXT_API_KEY", "firetext-api-key"), ("FIRETEXT_WEBHOOK_PASSWORD", "replaced-below")];
        connect(include_str!("../../docs/suppliers/firetext.toml"), &values, setup)
    }

    fn secrets(&self) -> Vec<String> {
        vec!["firetext-api-key".to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::basic("firetext")
    }

    fn snapshot(&self) -> Option<PathBuf> {
        Some(super::snapshot("custom_firetext"))
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let refusal = |status, body| Exchange::send(text()).step(Step::any().answers(status, body));
        vec![
            Self::send(text(), "message=Your+collection+is+on+Tuesday.&reference=case-26-4711")
                .accepts(["case-26-4711"]),
            Self::send(
                welsh(),
                "message=Mae%E2%80%99r+casgliad+ddydd+Mawrth%2C+t%C5%B7%E2%80%99r+cyngor.&reference=case-26-4712",
            )
            .accepts(["case-26-4712"]),
            // A code that no page explains.
            refusal(200, r#"{"code":5,"description":"Message error"}"#).fails(ErrorKind::Unexpected).unknown(),
            refusal(401, "").fails(ErrorKind::Unauthenticated),
            refusal(503, "").fails(ErrorKind::Unavailable).unknown(),
        ]
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let inbound = |text: &str| {
            Webhook::form(format!(
                "source=447700900123&destination=447700900456&message={text}&keyword=&time=2026-07-22+14%3A46%3A42"
            ))
        };
        let receipt = |status: &str, code: &str| {
            Webhook::form(format!(
                "mobile=447700900123&status={status}&code={code}&reference=case-26-4711&time=2026-11-22+13%3A46%3A42"
            ))
        };
        // FireText gives no id: it is a digest of the fields.
        let id = "e289d8931a0d522fc61b890597ef0791eef2b99e04c8b662a167a3d97995235c";
        let asked = ExpectedEvent::text(id, "When is my bin day?").from("+447700900123");
        vec![
            inbound("When+is+my+bin+day%3F").returns_events([asked]),
            inbound("STOP"),
            inbound(""),
            Webhook::form("source=353861234567&destination=447700900456&message=Hello&time=2026-07-22+14%3A46%3A42"),
            receipt("0", "000"),
            receipt("1", "101"),
            receipt("1", "999"),
            receipt("2", "000"),
            receipt("7", "000"),
            Webhook::form("source=447700900123&destination=447700900999&message=Hello").discards(1),
            Webhook::form("colour=green&destination=447700900456"),
        ]
    }
}

pub(crate) struct BulkSms;

impl BulkSms {
    fn send(message: Message, body: &str) -> Exchange {
        let step = Step::post("/v1/messages").basic("council-token-id", "bulksms-token-secret").json(body);
        Exchange::send(message).step(step.answers(201, r#"[{"id":"872316489122455553","type":"SENT"}]"#))
    }
}

impl Subject for BulkSms {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let values = [("BULKSMS_TOKEN_SECRET", "bulksms-token-secret"), ("BULKSMS_WEBHOOK_TOKEN", "replaced-below")];
        connect(include_str!("../../docs/suppliers/bulksms.toml"), &values, setup)
    }

    fn secrets(&self) -> Vec<String> {
        vec!["bulksms-token-secret".to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::query_token("token")
    }

    fn snapshot(&self) -> Option<PathBuf> {
        Some(super::snapshot("custom_bulksms"))
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let refusal = |status, body: &str| Exchange::send(text()).step(Step::any().answers(status, body.to_owned()));
        let error = |name: &str| format!(r#"{{"type":"https://developer.bulksms.com/json/v1/errors#{name}"}}"#);
        vec![
            Self::send(
                text(),
                r#"{"from":"+447700900456","to":"+447700900123","body":"Your collection is on Tuesday.",
                    "encoding":"TEXT","longMessageMaxParts":10,"userSuppliedId":"case-26-4711"}"#,
            )
            .accepts(["872316489122455553"]),
            Self::send(
                welsh(),
                r#"{"from":"+447700900456","to":"+447700900123","body":"Mae’r casgliad ddydd Mawrth, tŷ’r cyngor.",
                    "encoding":"UNICODE","longMessageMaxParts":10,"userSuppliedId":"case-26-4712"}"#,
            )
            .accepts(["872316489122455553"]),
            refusal(403, &error("insufficient-credits")).fails(ErrorKind::Account),
            refusal(400, &error("bad-request")).fails(ErrorKind::InvalidMessage),
            refusal(401, "").fails(ErrorKind::Unauthenticated),
            refusal(503, "").fails(ErrorKind::Unavailable).unknown(),
        ]
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let received = |id: &str, from: &str, text: &str| {
            format!(
                r#"{{"id":"{id}","type":"RECEIVED","from":"{from}","to":"447700900456","body":{text},"encoding":"TEXT",
                    "submission":{{"id":"x","date":"2026-11-22T13:46:42Z"}},"status":{{"id":"x","type":"UNKNOWN"}}}}"#
            )
        };
        let sent = |id: &str, kind: &str, subtype: &str| {
            format!(
                r#"{{"id":"{id}","type":"SENT","from":"447700900456","to":"447700900123","body":"Hello",
                    "userSuppliedId":"case-26-4711","numberOfParts":2,"creditCost":1.5,"status":{{"id":"{kind}.null","type":"{kind}","subtype":{subtype}}}}}"#
            )
        };
        let list = |items: &[String]| Webhook::json(format!("[{}]", items.join(",")));
        let delivery = |id: &str, state| ExpectedEvent::delivery(id, state).key("case-26-4711");
        vec![
            list(&[
                received("101", "447700900123", r#""When is my bin day?""#),
                received("102", "447700900123", r#""STOP""#),
                sent("201", "DELIVERED", "null"),
            ])
            .returns_events([
                ExpectedEvent::text("101", "When is my bin day?").from("+447700900123"),
                ExpectedEvent::inbound("102"),
                ExpectedEvent::opt_out(),
                delivery("201", DeliveryState::Delivered),
            ]),
            list(&[received("103", "353861234567", r#""Hello""#)]),
            list(&[received("104", "447700900123", r#""""#)]),
            list(&[sent("202", "SENT", "null")]),
            list(&[sent("203", "FAILED", r#""BLOCKED""#)]),
            list(&[sent("204", "PONDERING", "null")]),
            list(&[received("105", "447700900123", r#""Hello""#).replace("447700900456", "447700900999")]).discards(1),
            // The call with which BulkSMS checks the address.
            list(&[]),
            list(&[r#"{"type":"OTHER","to":"447700900456"}"#.to_owned()]),
        ]
    }
}

pub(crate) struct Kannel;

impl Kannel {
    fn send(message: Message, fields: &str) -> Exchange {
        let path = format!("/cgi-bin/sendsms?charset=UTF-8&{fields}&username=council&password=kannel-password");
        Exchange::send(message).step(Step::get(path).answers(202, "0: Accepted for delivery"))
    }
}

impl Subject for Kannel {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let url = "https://sms.example.gov.uk/kannel?id={reference:url}&status=%d";
        let values = [
            ("KANNEL_PASSWORD", "kannel-password"),
            ("KANNEL_WEBHOOK_TOKEN", "replaced-below"),
            ("KANNEL_DLR_URL", url),
        ];
        connect(include_str!("../../docs/suppliers/kannel.toml"), &values, setup)
    }

    fn secrets(&self) -> Vec<String> {
        vec!["kannel-password".to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::query_token("token")
    }

    fn snapshot(&self) -> Option<PathBuf> {
        Some(super::snapshot("custom_kannel"))
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let dlr = |key: &str| {
            format!(
                "dlr-mask=31&dlr-url=https%3A%2F%2Fsms.example.gov.uk%2Fkannel%3Fid%3D{key}%26status%3D%25d&from=60777"
            )
        };
        let refusal = |status, body| Exchange::send(text()).step(Step::any().answers(status, body));
        vec![
            Self::send(
                text(),
                &format!(
                    "coding=0&{}&text=Your%20collection%20is%20on%20Tuesday.&to=%2B447700900123",
                    dlr("case-26-4711")
                ),
            )
            .accepts(["case-26-4711"]),
            Self::send(
                welsh(),
                &format!(
                    "coding=2&{}&text=Mae%E2%80%99r%20casgliad%20ddydd%20Mawrth%2C%20t%C5%B7%E2%80%99r%20cyngor.\
                     &to=%2B447700900123",
                    dlr("case-26-4712")
                ),
            )
            .accepts(["case-26-4712"]),
            refusal(202, "3: Queued for later delivery").accepts(["case-26-4711"]),
            refusal(403, "Authorization failed for sendsms").fails(ErrorKind::Unauthenticated),
            refusal(400, "Empty receiver number not allowed, rejected").fails(ErrorKind::InvalidRecipient),
            refusal(400, "Number(s) has/have been denied by white- and/or black-lists.")
                .fails(ErrorKind::InvalidRecipient),
            refusal(400, "Something new").fails(ErrorKind::Rejected),
            refusal(503, "Temporal failure, try again later.").fails(ErrorKind::Unavailable).unknown(),
        ]
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let receipt =
            |status: &str| Webhook::get(&format!("id=case-26-4711&to=%2B447700900123&status={status}&ts=1795353820"));
        let inbound = |id: &str, text: &str| {
            Webhook::get(&format!("from=447700900123&to=60777&text={text}&id={id}&ts=1795353817&coding=0"))
        };
        vec![
            inbound("5785166f-25c9-4e6d-b3da-5069bbbcf92d", "STOP+my+council+texts"),
            inbound("edaef28f-d36d-48e0-8315-9b009a666c29", "Hi%E2%82%AC%F0%9F%98%80").returns_events([
                ExpectedEvent::text("edaef28f-d36d-48e0-8315-9b009a666c29", "Hi€😀").from("+447700900123"),
            ]),
            inbound("0", ""),
            Webhook::get("from=353861234567&to=60777&text=Hello&id=1&ts=1795353817"),
            receipt("1"),
            receipt("2"),
            receipt("8"),
            receipt("16"),
            receipt("32"),
            Webhook::get("from=447700900123&to=60999&text=Hello&id=2&ts=1795353817").discards(1),
            Webhook::get("colour=green&to=60777"),
        ]
    }
}

mod firetext {
    civic_messaging::conformance_tests!(crate::custom::FireText);
}

mod bulksms {
    civic_messaging::conformance_tests!(crate::custom::BulkSms);
}

mod kannel {
    civic_messaging::conformance_tests!(crate::custom::Kannel);
}
