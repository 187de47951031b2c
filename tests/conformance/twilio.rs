//! Conformance of Twilio as documented: SMS and WhatsApp, with auth tokens and with shared keys.
//!
//! There is no recording of Twilio's API: resources and errors have every documented field. Webhooks that Twilio's own
//! library signed are read from their fixture, and the others are derived from them.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::address::Sender;
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::LookupQuery;
use civic_messaging::media::{Digest, Publish, StoredMedia};
use civic_messaging::message::{Location, Media, MediaRef, Template};
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::twilio::{Config, Options};
use civic_messaging::webhook::SignatureCoverage;
use civic_messaging::{Address, Channel, DeliveryState, Error, ErrorKind, Message, Result, Timestamp, Twilio};
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;

use super::with;

const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SERVICE: &str = "MGbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const TEMPLATE: &str = "HXcccccccccccccccccccccccccccccccc";
const SID: &str = "SM11111111111111111111111111111111";
const NOBODY: &str = "SM00000000000000000000000000000000";
const PUBLIC: &str = "https://sms.example.gov.uk";
const STATUS: &str = "https://sms.example.gov.uk/status";
const OURS: &str = "+447700900456";
const THEIRS: &str = "+447700900123";
const WORDS: &str = "Bin day £5 & more: it’s Tuesday";

/// An API key, its secret, and the auth token, which then only verifies webhooks.
const KEY: &str = "SKffffffffffffffffffffffffffffffff";
const KEY_SECRET: &str = "secret-of-the-api-key";
const TOKEN: &str = "12345678901234567890123456789012";
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\x00 and so on";

static SIGNED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/sms/twilio_signature.json")).unwrap());

/// A webhook signed by Twilio's own library, by name.
fn recorded(name: &str) -> &'static Value {
    SIGNED["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

/// The fields of a JSON object as a form, not in the order of the signature.
fn form(fields: &Value) -> String {
    let pairs = fields.as_object().unwrap().iter().rev().map(|(name, value)| (name, value.as_str().unwrap()));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Twilio's signature: an HMAC of the URL followed by the sorted, deduplicated fields.
fn signature<M: Mac + KeyInit>(secret: &str, url: &str, body: &[u8]) -> String {
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_encoding::percent_decode(&spaced).collect::<Vec<u8>>()
    };
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(equals);
        (decoded(name), decoded(value.get(1..).unwrap_or_default()))
    });
    let fields: std::collections::BTreeSet<_> = pairs.collect();
    let mut mac = <M as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(url.as_bytes());
    for (name, value) in fields {
        mac.update(&name);
        mac.update(&value);
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// Adds the signature. JSON is signed by its hash in the query, everything else as a form.
fn sign<M: Mac + KeyInit>(request: &mut http::Request<Bytes>, secret: &str) {
    let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json {
        let target = format!("{}?bodySHA256={}", request.uri(), Digest::sha256(request.body()));
        *request.uri_mut() = target.parse().unwrap();
    }
    let signed: &[u8] = if is_json { b"" } else { request.body() };
    let signature = signature::<M>(secret, &format!("{PUBLIC}{}", request.uri()), signed);
    request.headers_mut().insert("x-twilio-signature", signature.parse().unwrap());
}

#[test]
fn signature_matches_official_twilio_library() {
    let mut made = 0;
    for case in SIGNED["cases"].as_array().unwrap().iter().filter(|case| case["valid"] == true) {
        let several = case["params_multi"].as_object().into_iter().flatten();
        let several = several.flat_map(|(name, values)| values.as_array().unwrap().iter().map(move |v| (name, v)));
        let pairs = case["params"].as_object().into_iter().flatten().chain(several);
        let pairs = pairs.map(|(name, value)| (name, value.as_str().unwrap()));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let (secret, url) = (case["secret"].as_str().unwrap(), case["url"].as_str().unwrap());
        let made_here = match case["algorithm"].as_str() {
            Some("HMAC_SHA256") => signature::<Hmac<Sha256>>(secret, url, body.as_bytes()),
            _ => signature::<Hmac<Sha1>>(secret, url, body.as_bytes()),
        };
        assert_eq!(made_here, case["signature"], "{}", case["name"]);
        made += 1;
    }
    assert_eq!(made, 8);
}

/// A sender.
struct Line {
    /// The prefix of the medium's addresses.
    mark: &'static str,
    /// The field that names the sender, and its value.
    from: (&'static str, &'static str),
    /// The API credential, unless the suite chooses it.
    credential: Option<(&'static str, &'static str)>,
}

impl Line {
    fn now(&self) -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn to(&self) -> Address {
        if self.mark.is_empty() { Address::phone(THEIRS) } else { Address::whatsapp(THEIRS) }.unwrap()
    }

    fn text(&self) -> Message {
        Message::text(self.to(), WORDS)
    }

    fn marked(&self, number: &str) -> String {
        [self.mark, number].concat()
    }

    fn path(&self, of: &str) -> String {
        format!("/2010-04-01/Accounts/{ACCOUNT}{of}")
    }

    /// A message resource with all its fields.
    fn resource(&self, change: Value) -> Value {
        let (named, service) = (self.from.0 == "From", self.from.1);
        let whole = json!({
            "account_sid": ACCOUNT, "api_version": "2010-04-01", "body": WORDS,
            "date_created": "Sun, 22 Nov 2026 12:00:00 +0000", "date_sent": null,
            "date_updated": "Sun, 22 Nov 2026 12:00:00 +0000", "direction": "outbound-api", "error_code": null,
            "error_message": null, "from": named.then(|| self.marked(OURS)),
            "messaging_service_sid": (!named).then_some(service), "num_media": "0",
            "num_segments": if named { "1" } else { "0" }, "price": null, "price_unit": null, "sid": SID,
            "status": if named { "queued" } else { "accepted" }, "to": self.marked(THEIRS),
            "subresource_uris": { "media": self.path(&format!("/Messages/{SID}/Media.json")) },
            "uri": self.path(&format!("/Messages/{SID}.json")),
        });
        with(&whole, change)
    }

    /// A list of message resources.
    fn list(&self, messages: &[Value], next: Option<&str>) -> String {
        let first = self.path("/Messages.json?PageSize=200&Page=0");
        json!({
            "messages": messages, "first_page_uri": first, "uri": first, "next_page_uri": next,
            "previous_page_uri": null, "page": 0, "page_size": 200, "start": 0, "end": messages.len(),
        })
        .to_string()
    }

    fn authorized(&self, step: Step) -> Step {
        match self.credential {
            Some((id, secret)) => {
                step.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}"))))
            }
            None => step,
        }
    }

    fn get(&self, of: &str) -> Step {
        self.authorized(Step::get(self.path(of)))
    }

    /// The step that sends a message: recipient and sender followed by these fields, answered by the resource.
    /// has it.
    fn post(&self, fields: &[(&str, &str)], taken: Value) -> Step {
        let (from, sender) = self.from;
        let sender = if from == "From" { self.marked(sender) } else { sender.to_owned() };
        let sides = [("To", self.marked(THEIRS)), (from, sender)];
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.extend_pairs(sides).extend_pairs(fields).append_pair("StatusCallback", STATUS).finish();
        let step = Step::post(self.path("/Messages.json")).form(form);
        self.authorized(step)
            .header("content-type", "application/x-www-form-urlencoded")
            .answers(201, self.resource(taken).to_string())
            .response_header("twilio-request-id", "RQ11111111111111111111111111111111")
    }

    /// A rejection by Twilio, with the number in its text.
    fn refusal(&self, status: u16, code: u32) -> Step {
        let body = json!({
            "code": code, "message": format!("The 'To' number {THEIRS} is not one to send to"), "status": status,
            "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        });
        Step::any().answers(status, body.to_string())
    }

    /// The sends of every sender: a text, templates, and rejections.
    fn sends(&self) -> Vec<Exchange> {
        use ErrorKind::{
            Account, Config, Forbidden, InvalidMessage, InvalidRecipient, NotFound, OptedOut, QuotaExceeded,
            RateLimited, Rejected, TooLarge, Unauthenticated, Unavailable,
        };
        let positional = Template::new("bin_day").native("twilio", TEMPLATE).parameter("Alex").parameter("Tue \"2\"");
        let named = Template::new(TEMPLATE).named("day", "Tuesday");
        let mut options = Options::default();
        options.smart_encoded = Some(true);
        options.attempt = Some(2);
        let until = self.now().plus(Duration::from_secs(90));
        let mut sends = vec![
            Exchange::send(self.text()).step(self.post(&[("Body", WORDS)], json!({}))).accepts([SID]),
            Exchange::send(Message::template(self.to(), positional))
                .step(self.post(
                    &[("ContentSid", TEMPLATE), ("ContentVariables", r#"{"1":"Alex","2":"Tue \"2\""}"#)],
                    json!({ "body": "" }),
                ))
                .accepts([SID]),
            Exchange::send(Message::template(self.to(), named))
                .step(self.post(
                    &[("ContentSid", TEMPLATE), ("ContentVariables", r#"{"day":"Tuesday"}"#)],
                    json!({ "body": "" }),
                ))
                .accepts([SID]),
            Exchange::send(self.text().gateway_options(&options).unwrap().not_after(until))
                .step(self.post(
                    &[("Body", WORDS), ("ValidityPeriod", "90"), ("SmartEncoded", "true"), ("Attempt", "2")],
                    json!({ "price": "-0.04000", "price_unit": "GBP", "num_segments": "2" }),
                ))
                .accepts([SID]),
            Exchange::send(self.text()).step(self.refusal(500, 20500)).fails(Unavailable).code("20500").unknown(),
            // Refused by a proxy in front of Twilio, without a code.
            Exchange::send(self.text()).step(Step::any().answers(413, "<html>")).fails(TooLarge),
        ];
        for (status, code, kind) in [
            (400, 21211, InvalidRecipient),
            (400, 21408, Forbidden),
            (400, 21602, InvalidMessage),
            (400, 21606, Config),
            (400, 21610, OptedOut),
            (400, 21614, InvalidRecipient),
            (400, 21617, InvalidMessage),
            (400, 99999, Rejected),
            (401, 20003, Unauthenticated),
            (403, 30002, Account),
            (404, 20404, NotFound),
        ] {
            let refused = Exchange::send(self.text()).step(self.refusal(status, code));
            sends.push(refused.fails(kind).code(code.to_string()));
        }
        for (status, code, kind) in [
            (400, 21611, RateLimited),
            (429, 20429, RateLimited),
            (429, 14107, RateLimited),
            (429, 63038, QuotaExceeded),
        ] {
            let refused = Exchange::send(self.text()).step(self.refusal(status, code));
            sends.push(refused.fails(kind).code(code.to_string()).retryable());
        }
        sends
    }

    fn look_ups(&self) -> Vec<Exchange> {
        let sent = || LookupQuery::new(self.text(), self.now());
        let by_id = |id: &str| sent().with_id(id.into());
        let one = format!("/Messages/{SID}.json");
        let to = form_urlencoded::byte_serialize(self.marked(THEIRS).as_bytes()).collect::<String>();
        let list = format!("/Messages.json?To={to}&PageSize=200");
        let next = self.path(&format!("{list}&Page=1&PageToken=PA{SID}"));
        let undelivered = json!({
            "status": "undelivered", "error_code": 30005, "error_message": "Unknown destination handset",
            "price": "-0.04", "price_unit": "GBP", "num_segments": "2",
        });
        let other = |n: u32, change: Value| with(&self.resource(json!({ "sid": format!("SM{n:032}") })), change);
        let page = [
            other(1, json!({ "status": "delivered" })),
            other(2, json!({ "body": "Another text" })),
            other(3, json!({ "from": self.marked("+447700900789"), "messaging_service_sid": null })),
            other(4, json!({ "direction": "inbound" })),
            other(5, json!({ "date_created": "Sun, 22 Nov 2026 12:10:00 +0000" })),
        ];
        // Smart encoding replaces a typographic quote by a plain one.
        let second = [other(6, json!({ "body": "Bin day £5 & more: it's Tuesday", "status": "sent" }))];
        let old = other(7, json!({ "date_created": "Sun, 22 Nov 2026 11:00:00 +0000" }));
        let template = Message::template(self.to(), Template::new(TEMPLATE));
        vec![
            Exchange::look_up(by_id(SID))
                .step(self.get(&one).answers(200, self.resource(undelivered).to_string()))
                .finds([DeliveryState::Failed]),
            Exchange::look_up(by_id(NOBODY))
                .step(self.refusing(self.get(&format!("/Messages/{NOBODY}.json")), 404, 20404))
                .inconclusive(),
            Exchange::look_up(by_id(SID))
                .step(self.refusing(self.get(&one), 401, 20003))
                .fails(ErrorKind::Unauthenticated),
            Exchange::look_up(by_id("CA11111111111111111111111111111111")).fails(ErrorKind::InvalidMessage),
            Exchange::look_up(sent())
                .step(self.get(&list).answers(200, self.list(&page, Some(&next))))
                .step(self.authorized(Step::get(next.clone())).answers(200, self.list(&second, None)))
                .finds([DeliveryState::Delivered, DeliveryState::Sent]),
            Exchange::look_up(sent()).step(self.get(&list).answers(200, self.list(&[], None))).inconclusive(),
            // Messages older than the send are not read to the end.
            Exchange::look_up(sent()).step(self.get(&list).answers(200, self.list(&[old], Some(&next)))).inconclusive(),
            Exchange::look_up(LookupQuery::new(template, self.now())).inconclusive(),
        ]
    }

    /// Answers a step with a rejection.
    fn refusing(&self, step: Step, status: u16, code: u32) -> Step {
        let body = json!({ "code": code, "message": "The requested resource was not found", "status": status });
        step.answers(status, body.to_string())
    }

    fn files(&self) -> Vec<Exchange> {
        let of = format!("/Messages/{SID}/Media/ME11111111111111111111111111111111");
        let at = |url: &str| {
            let mut media = MediaRef::new("twilio", url.rsplit('/').next().unwrap_or_default());
            media.url = Some(url.to_owned());
            Exchange::fetch(media)
        };
        let here = format!("{{base}}{}", self.path(&of));
        let picture = |step: Step| step.answers(200, PICTURE).response_header("content-type", "image/png");
        let moved = self.get(&of).answers(307, "").response_header("location", "{base}/a-place-of-files?sig=1");
        let another = here.replace(ACCOUNT, "ACeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
        vec![
            at(&here).step(picture(self.get(&of))).file(PICTURE),
            at(&here).step(moved).step(picture(Step::get("/a-place-of-files?sig=1"))).file(PICTURE),
            at(&here).step(self.refusing(self.get(&of), 404, 20404)).fails(ErrorKind::NotFound),
            at(&another).fails(ErrorKind::Forbidden),
            at(&format!("{here}/../../../../Keys.json")).fails(ErrorKind::Forbidden),
            Exchange::fetch(MediaRef::new("twilio", "ME1")).fails(ErrorKind::InvalidMessage),
        ]
    }

    fn healths(&self) -> Vec<Exchange> {
        let account = |kind: &str, status: &str| {
            json!({ "sid": ACCOUNT, "friendly_name": "Council", "type": kind, "status": status }).to_string()
        };
        let request = || self.get(if self.credential.is_some() { "/Messages.json?PageSize=1" } else { ".json" });
        let known = |answer: String, status| {
            let health =
                Exchange::health().step(request().answers(200, answer)).health_check("credentials", CheckStatus::Pass);
            health.health_check("account", status).health_check("webhook", CheckStatus::Unknown)
        };
        let refused = Exchange::health()
            .step(self.refusing(request(), 401, 20003))
            .health_check("credentials", CheckStatus::Fail);
        if self.credential.is_some() {
            return vec![known(self.list(&[], None), CheckStatus::Unknown), refused];
        }
        vec![
            known(account("Full", "active"), CheckStatus::Pass),
            known(account("Trial", "active"), CheckStatus::Warn),
            known(account("Full", "suspended"), CheckStatus::Fail),
            refused,
        ]
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let mut exchanges = [self.sends(), self.look_ups(), self.files(), self.healths()].concat();
        if self.mark.is_empty() {
            let code = Address::from("60777".parse::<Sender>().unwrap());
            let to_code = Exchange::send(Message::text(code, "Hello"));
            exchanges.push(to_code.fails(ErrorKind::InvalidRecipient).not_sent());
        }
        exchanges
    }

    /// A resident's message: the recording with some fields changed.
    fn inbound(&self, n: u32, change: Value) -> Value {
        let sid = format!("SM{n:032}");
        let this = json!({
            "MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "To": self.marked(OURS),
            "From": self.marked(THEIRS),
        });
        let fields = with(&recorded("inbound_form_post_https")["params"], this);
        let fields = match self.from {
            ("MessagingServiceSid", service) => with(&fields, json!({ "MessagingServiceSid": service })),
            _ => fields,
        };
        with(&fields, change)
    }

    /// A status callback.
    fn status(&self, status: &str, change: Value) -> Value {
        let this = json!({
            "MessageSid": SID, "SmsSid": SID, "MessageStatus": status, "SmsStatus": status,
            "To": self.marked(THEIRS), "From": self.marked(OURS), "RawDlrDoneDate": "2611221105",
        });
        let mut fields = with(&recorded("status_form_post_query_string")["params"], this);
        // The recorded message failed.
        fields.as_object_mut().unwrap().remove("ErrorCode");
        with(&fields, change)
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let sid = |n: u32| format!("SM{n:032}");
        let post = |fields: Value| Webhook::form(form(&fields));
        let says = |n: u32, change: Value| post(self.inbound(n, change));
        let media = |n| format!("https://api.twilio.com{}", self.path(&format!("/Messages/{SID}/Media/ME{n:032}")));
        let picture = json!({ "NumMedia": "1", "MediaUrl0": media(1), "MediaContentType0": "image/jpeg" });
        let two = json!({ "NumMedia": "2", "MediaUrl1": media(2), "MediaContentType1": "application/pdf", "Body": "" });
        let stop = "STOP & £5 + 100% ŵ 😀";
        let mut webhooks = vec![
            // The first three are for the signature checks: a form, a query, and JSON, which yields `Unrecognised`.
            says(1, json!({})).returns_events([ExpectedEvent::text(sid(1), stop).from(THEIRS)]),
            Webhook::get(&form(&self.inbound(2, json!({ "Body": "hi" })))),
            Webhook::json(recorded("json_body_bodySHA256")["body"].as_str().unwrap()),
            says(3, picture.clone()),
            says(4, with(&picture, two)),
            says(5, json!({ "Body": "STOP", "OptOutType": "STOP" })),
            says(6, json!({ "Body": "leave me", "OptOutType": "STOP" })),
            says(7, json!({ "Body": "YES", "OptOutType": "START" })),
            says(8, json!({ "Body": "HELP", "OptOutType": "HELP" })),
            says(9, json!({ "Body": "stop" })),
            // To another of our numbers.
            says(10, json!({ "To": self.marked("+447700900789") })),
            says(11, json!({ "Body": "" })),
            // List replies, files without a count, and a person with a user id beside the number.
            says(16, json!({ "ListId": "bins", "ListTitle": "My bins", "Body": "My bins" })),
            says(17, with(&picture, json!({ "NumMedia": "" }))),
            says(18, json!({ "ExternalUserId": "whatsapp:GB.1349", "Body": "STOP" })),
            // An unknown medium and an unknown form.
            says(12, json!({ "From": "rcs:agent_1" })),
            Webhook::form("Colour=green"),
            // Signed with our token but of another account.
            says(14, json!({ "AccountSid": "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" })).discards(1),
            says(15, json!({})).to("/twilio/status?tenant=bins&x=a%20b"),
            Webhook::get("Colour=green"),
        ];
        for status in ["queued", "sending", "sent", "delivered", "sent", "canceled", "teleported"] {
            webhooks.push(post(self.status(status, json!({}))));
        }
        for (n, status, code) in [(31, "undelivered", "30003"), (32, "failed", "30008"), (33, "failed", "30036")] {
            let failed = json!({
                "MessageSid": sid(n), "SmsSid": sid(n), "ErrorCode": code,
                "ErrorMessage": "It could not be delivered",
            });
            webhooks.push(post(self.status(status, failed)));
        }
        if self.mark.is_empty() {
            let rcs = json!({ "From": format!("rcs:{THEIRS}"), "Body": "STOP" });
            webhooks.push(says(19, rcs));
        }
        let by_get = Webhook::get(&form(&self.status("delivered", json!({}))));
        webhooks.push(by_get);
        webhooks
    }
}

/// Uses the first secret of a setup as the auth token and the others as previous tokens.
fn by_tokens(setup: &Setup) -> Result<Config> {
    let [token, old @ ..] = &*setup.webhook_secrets else { return Err(Error::config("auth_token", "is missing")) };
    let mut config = Config::new(ACCOUNT, token.secret().expose())?.public_url(PUBLIC)?.base_url(&setup.base_url)?;
    config.previous_auth_tokens = old.to_vec();
    Ok(config.status_callback(STATUS))
}

fn by_token() -> Signer {
    Signer::new(SignatureCoverage::UrlAndForm, |request, secret, _now| sign::<Hmac<Sha1>>(request, secret))
}

/// Publishes stored files.
#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Publish for Shelf {
    async fn publish(&self, _: &Media) -> Result<String> {
        Ok("https://files.example.gov.uk/road.png".to_owned())
    }
}

/// Text messages from a number; the auth token calls the API and verifies webhooks.
pub(crate) struct Sms;

const SMS: Line = Line { mark: "", from: ("From", OURS), credential: None };

impl Subject for Sms {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let context = setup.context.clone().publish(Shelf);
        Ok(Arc::new(Twilio::sms_with(by_tokens(setup)?.sender(OURS)?, &context)?))
    }

    /// The token is the suite's own.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn signer(&self) -> Signer {
        by_token()
    }

    fn now(&self) -> Timestamp {
        SMS.now()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let stored = StoredMedia::new(Digest::sha256(b"a picture"), 9, "image/png");
        let files = [Media::image("https://example.org/map.jpg").caption("Road closed"), Media::image(stored)];
        let fields = [
            ("Body", "Road closed"),
            ("MediaUrl", "https://example.org/map.jpg"),
            ("MediaUrl", "https://files.example.gov.uk/road.png"),
        ];
        let mms = "MM11111111111111111111111111111111";
        let taken = json!({ "sid": mms, "num_media": "2", "body": "Road closed" });
        let mut exchanges = SMS.exchanges();
        exchanges.push(
            Exchange::send(Message::media(SMS.to(), files))
                .stored("image/png", "a picture")
                .step(SMS.post(&fields, taken))
                .accepts([mms]),
        );
        exchanges
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let mut webhooks = SMS.webhooks();
        let code = SMS.inbound(20, json!({ "From": "60777", "Body": "Your parcel is here" }));
        webhooks.push(Webhook::form(form(&code)));
        webhooks
    }
}

/// A WhatsApp number; an API key calls the API and the auth token verifies webhooks.
pub(crate) struct WhatsApp;

const WHATSAPP: Line = Line { mark: "whatsapp:", from: ("From", OURS), credential: Some((KEY, KEY_SECRET)) };

impl Subject for WhatsApp {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let config = by_tokens(setup)?.sender(OURS)?.api_key(KEY, KEY_SECRET)?;
        Ok(Arc::new(Twilio::whatsapp_with(config, &setup.context)?))
    }

    fn secrets(&self) -> Vec<String> {
        vec![KEY_SECRET.to_owned()]
    }

    fn signer(&self) -> Signer {
        by_token()
    }

    fn now(&self) -> Timestamp {
        WHATSAPP.now()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let picture = Media::image("https://example.org/map.jpg").caption("Road closed");
        let depot = Location::new(52.7077, -2.7541).name("Depot").address("Mill Lane 1");
        let mut exchanges = WHATSAPP.exchanges();
        exchanges.extend([
            Exchange::send(Message::media(WHATSAPP.to(), [picture]))
                .step(WHATSAPP.post(&[("Body", "Road closed"), ("MediaUrl", "https://example.org/map.jpg")], json!({})))
                .accepts([SID]),
            Exchange::send(Message::new(WHATSAPP.to(), depot))
                .step(WHATSAPP.post(
                    &[("Body", "Depot"), ("PersistentAction", "geo:52.7077,-2.7541|Mill Lane 1")],
                    json!({ "body": "Depot" }),
                ))
                .accepts([SID]),
            Exchange::send(WHATSAPP.text())
                .step(WHATSAPP.refusal(400, 63016))
                .fails(ErrorKind::OutsideWindow)
                .code("63016"),
        ]);
        exchanges
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let says = |n: u32, change: Value| {
            let person = json!({ "WaId": "447700900123", "ProfileName": "Sam Resident" });
            Webhook::form(form(&with(&WHATSAPP.inbound(n, person), change)))
        };
        let hidden = json!({ "From": "whatsapp:GB.13491208655302741918", "WaId": "GB.13491208655302741918" });
        let place = json!({ "Latitude": "52.7077", "Longitude": "-2.7541", "Label": "Depot", "Body": "" });
        let mut webhooks = WHATSAPP.webhooks();
        webhooks.extend([
            says(20, json!({ "Body": "hi" })),
            says(21, hidden),
            says(22, place),
            says(23, json!({ "Body": "Yes", "ButtonText": "Yes", "ButtonPayload": "yes-1" })),
            says(24, json!({ "OriginalRepliedMessageSid": SID, "Forwarded": "true", "Body": "This one" })),
            says(25, json!({ "MessageType": "order", "Body": "" })),
            Webhook::form(form(&WHATSAPP.status("read", json!({})))),
            Webhook::form(form(&WHATSAPP.status("failed", json!({ "ErrorCode": "63016" })))),
        ]);
        webhooks
    }
}

/// Text messages through a messaging service; shared keys verify webhooks in place of the auth token.
pub(crate) struct SharedKey;

const SHARED: Line = Line { mark: "", from: ("MessagingServiceSid", SERVICE), credential: Some((KEY, KEY_SECRET)) };

impl Subject for SharedKey {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let config =
            Config::new(ACCOUNT, TOKEN)?.public_url(PUBLIC)?.base_url(&setup.base_url)?.status_callback(STATUS);
        let mut config = config.messaging_service(SERVICE).api_key(KEY, KEY_SECRET)?;
        config.shared_keys = setup.webhook_secrets.clone();
        Ok(Arc::new(Twilio::sms_with(config, &setup.context)?))
    }

    fn snapshot(&self) -> Option<PathBuf> {
        Some(super::snapshot("twilio_sms_shared_key"))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned(), KEY_SECRET.to_owned()]
    }

    fn signing_secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }

    fn signer(&self) -> Signer {
        Signer::new(SignatureCoverage::UrlAndForm, |request, secret, _now| {
            sign::<Hmac<Sha256>>(request, secret);
            let settings = "algorithm=HMAC_SHA256".parse().unwrap();
            request.headers_mut().insert("x-twilio-webhooks-signature-settings", settings);
        })
    }

    fn now(&self) -> Timestamp {
        SHARED.now()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let picture = Media::image("https://example.org/map.jpg");
        let taken = json!({ "num_media": "1", "body": "" });
        let mut exchanges = SHARED.exchanges();
        exchanges.push(
            Exchange::send(Message::media(SHARED.to(), [picture]))
                .step(SHARED.post(&[("MediaUrl", "https://example.org/map.jpg")], taken))
                .accepts([SID]),
        );
        exchanges
    }

    fn webhooks(&self) -> Vec<Webhook> {
        SHARED.webhooks()
    }
}

mod sms {
    use super::Sms;

    civic_messaging::conformance_tests!(Sms);
}

mod whatsapp {
    use super::WhatsApp;

    civic_messaging::conformance_tests!(WhatsApp);
}

mod shared_key {
    use super::SharedKey;

    civic_messaging::conformance_tests!(SharedKey);
}
