//! Twilio over HTTP on loopback: requests, responses, webhooks and lookups.
#![cfg(all(feature = "twilio", feature = "reqwest"))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::Outcome;
use civic_messaging::clock::VirtualClock;
use civic_messaging::event::InboundContent;
use civic_messaging::event::OptOutScope;
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::media::MediaStream;
use civic_messaging::media::{Publish, StoredMedia};
use civic_messaging::message::{Choice, Location, Media, MediaRef, Money, Template};
use civic_messaging::transport::Transport;
use civic_messaging::transport::{Body, TransportError};
use civic_messaging::twilio::{Config, Options, Signature};
use civic_messaging::webhook::{Received, Request, Scheme, SignatureCoverage, SigningSecret};
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, ErrorKind, Event, Medium, Message, MessageId, Registry,
    Secret, Settings, Timestamp, Twilio,
};
use serde_json::{Value, json};
use wiremock::matchers::{body_string, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

mod signature;

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

/// A change, and the field that is wrong by it.
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

/// The fields that the one request to this server held, in order.
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

/// The inbound form with other fields over it.
fn inbound<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = INBOUND.iter().filter(|(name, _)| !change.iter().any(|(n, _)| n == name));
    kept.copied().chain(change.iter().copied()).collect()
}

#[tokio::test]
async fn a_text_is_one_form_and_its_answer_is_read() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(MESSAGES))
        .and(header(
            "authorization",
            "Basic QUNhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYToxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMg==",
        ))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .and(body_string("To=%2B447700900123&From=%2B447700900456&Body=Bin+day+%C2%A35+%26+more"))
        .respond_with(ResponseTemplate::new(201).set_body_json(resource()))
        .expect(1)
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let accepted = sms.send(&hello()).await.unwrap();
    assert_eq!(accepted.id().as_str(), SID);
    assert_eq!((accepted.state, accepted.status.as_deref()), (DeliveryState::Accepted, Some("queued")));
    assert_eq!((accepted.recipient, accepted.segments, accepted.price), (Some(resident()), Some(1), None));
    assert!(accepted.raw.starts_with(b"{"));
}

#[tokio::test]
async fn a_charge_is_positive_and_what_is_not_known_yet_is_none() {
    for (change, segments, price) in [
        (json!({ "price": "-0.04000", "price_unit": "GBP" }), Some(1), Some(40_000)),
        (json!({ "price": "-0.0075", "price_unit": "usd", "num_segments": "2" }), Some(2), Some(7_500)),
        (json!({ "price": "0.01", "price_unit": "GBP" }), Some(1), Some(-10_000)),
        (json!({ "price": "free", "price_unit": "GBP", "num_segments": "0" }), None, None),
        (json!({ "price": -0.5, "price_unit": "GBP", "num_segments": 3 }), Some(3), Some(500_000)),
        (json!({ "price": -0.06810000000000001, "price_unit": "GBP", "num_segments": "3" }), Some(3), Some(68_100)),
        (json!({ "price": "-0.0681000001", "price_unit": "GBP", "num_segments": [3] }), None, Some(68_100)),
        (json!({ "price": {}, "body": 1, "status": [], "date_created": false, "from": {} }), Some(1), None),
        (json!({ "price": "-0.04", "price_unit": null, "num_segments": null }), None, None),
    ] {
        let server = answers(201, with(change.clone())).await;
        let accepted = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap();
        assert_eq!((accepted.segments, accepted.price.map(|p: Money| p.micros)), (segments, price), "{change}");
    }
}

#[tokio::test]
async fn a_yes_that_cannot_be_read_is_an_unknown_outcome() {
    for body in [json!({}), json!({ "sid": "" }), json!({ "sid": null }), json!([]), json!("created")] {
        let server = answers(201, body).await;
        let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.is_retryable()),
            (ErrorKind::Unexpected, Outcome::Unknown, false)
        );
    }
    let server = answers(201, json!({ "sid": SID, "status": "teleported", "new": { "field": [1] } })).await;
    let accepted = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap();
    assert_eq!((accepted.state, accepted.status.as_deref()), (DeliveryState::Accepted, Some("teleported")));
}

#[tokio::test]
async fn a_service_chooses_the_sender_and_options_are_spelled_out() {
    let server = answers(201, with(json!({ "status": "scheduled", "num_segments": "0", "from": null }))).await;
    let callback = "https://sms.example.gov.uk/status";
    let config = bare().messaging_service(SERVICE).status_callback(callback);
    let sms = Twilio::sms_with(at(&server, config), &context()).unwrap();
    assert_eq!(sms.info().account.as_str(), SERVICE);
    let mut options = Options::default();
    options.validity_period = Some(600);
    options.smart_encoded = Some(true);
    options.attempt = Some(2);
    options.discard_content = true;
    options.obfuscate_address = true;
    options.shorten_urls = Some(true);
    options.send_as_mms = Some(false);
    options.send_at = Some("2026-11-23T09:00:00Z".parse().unwrap());
    let accepted = sms.send(&hello().gateway_options(&options).unwrap()).await.unwrap();
    assert_eq!((accepted.state, accepted.segments), (DeliveryState::Accepted, None));
    let expected = pairs(&[
        ("To", THEIRS),
        ("MessagingServiceSid", SERVICE),
        ("Body", "Bin day £5 & more"),
        ("ValidityPeriod", "600"),
        ("SmartEncoded", "true"),
        ("ShortenUrls", "true"),
        ("SendAsMms", "false"),
        ("Attempt", "2"),
        ("ContentRetention", "discard"),
        ("AddressRetention", "obfuscate"),
        ("ScheduleType", "fixed"),
        ("SendAt", "2026-11-23T09:00:00.000Z"),
        ("StatusCallback", callback),
    ]);
    assert_eq!(sent(&server).await, expected);
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_before_the_network() {
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let change: [Change<Options>; 6] = [
        (|o| o.validity_period = Some(0), "options.twilio.validity_period"),
        (|o| o.validity_period = Some(36_001), "options.twilio.validity_period"),
        (|o| o.shorten_urls = Some(true), "options.twilio.shorten_urls"),
        (|o| o.send_at = Some(NOON), "options.twilio.send_at"),
        (|o| o.status_callback = Some("http://example.org".into()), "options.twilio.status_callback"),
        (|o| o.status_callback = Some("https://a_b.example.org".into()), "options.twilio.status_callback"),
    ];
    for (change, field) in change {
        let mut options = Options::default();
        change(&mut options);
        let message = hello().gateway_options(&options).unwrap();
        assert_eq!(sms.plan(&message).problems()[0].field(), Some(field));
        let error = sms.send(&message).await.unwrap_err();
        assert_eq!((error.field(), error.outcome(), error.gateway()), (Some(field), Outcome::NotSent, Some("twilio")));
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_does_not_outlive_its_not_after_at_twilio() {
    for (left, validity) in
        [(500, Some("1")), (1_500, Some("1")), (90_000, Some("90")), (35_999_999, Some("35999")), (36_000_000, None)]
    {
        let server = answers(201, resource()).await;
        let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
        sms.send(&hello().not_after(NOON.plus(Duration::from_millis(left)))).await.unwrap();
        let fields = sent(&server).await;
        assert_eq!(
            fields.iter().find(|(name, _)| name == "ValidityPeriod").map(|(_, v)| v.as_str()),
            validity,
            "{left}"
        );
    }
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, bare().messaging_service(SERVICE)), &context()).unwrap();
    let mut later = Options::default();
    later.send_at = Some(NOON.plus(Duration::from_secs(7_200)));
    let message = hello().gateway_options(&later).unwrap();
    let error = sms.send(&message.clone().not_after(NOON.plus(Duration::from_secs(7_199)))).await.unwrap_err();
    assert_eq!(error.field(), Some("not_after"));
    sms.send(&message.not_after(NOON.plus(Duration::from_secs(7_260)))).await.unwrap();
    assert!(sent(&server).await.contains(&("ValidityPeriod".into(), "60".into())));
}

#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Publish for Shelf {
    async fn publish(&self, _: &Media) -> civic_messaging::Result<String> {
        Ok("https://files.example.gov.uk/x".into())
    }
}

#[tokio::test]
async fn an_mms_holds_several_files_by_link() {
    let server = answers(201, with(json!({ "sid": "MM11111111111111111111111111111111" }))).await;
    let sms = Twilio::sms_with(at(&server, config()), &context().publish(Shelf)).unwrap();
    let stored = StoredMedia::new(civic_messaging::media::Digest::sha256(b"x"), 1, "image/png");
    let media = [Media::image("https://example.org/a.jpg").caption("Road closed"), Media::image(stored.clone())];
    let message = Message::media(resident(), media);
    sms.send(&message).await.unwrap();
    let expected = pairs(&[
        ("To", THEIRS),
        ("From", OURS),
        ("Body", "Road closed"),
        ("MediaUrl", "https://example.org/a.jpg"),
        ("MediaUrl", "https://files.example.gov.uk/x"),
    ]);
    assert_eq!(sent(&server).await, expected);
    let ten = |count| Message::media(resident(), vec![Media::image("https://example.org/a.jpg"); count]);
    assert!(sms.check(&ten(10)).is_ok());
    assert_eq!(sms.plan(&ten(11)).parts(), 2);
    let unpublished = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    assert_eq!(unpublished.check(&message).unwrap_err().field(), Some("media.source"));
    let big = |mime, len| Message::media(resident(), [Media::image(StoredMedia::new(stored.sha256, len, mime))]);
    assert!(sms.check(&big("image/png", 5 * 1024 * 1024)).is_ok());
    assert_eq!(sms.check(&big("image/png", 5 * 1024 * 1024 + 1)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(sms.check(&big("image/webp", 500 * 1024 + 1)).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn whatsapp_marks_both_sides() {
    let to = Address::whatsapp(THEIRS).unwrap();
    let sides = [("To", "whatsapp:+447700900123"), ("From", "whatsapp:+447700900456")];
    let picture = Media::image("https://example.org/a.jpg").caption("Road closed");
    let place = Location::new(52.7077, -2.7541).name("Depot").address("Mill Lane 1");
    let positional = Template::new("bin_day").native("twilio", TEMPLATE).parameter("Alex").parameter("Tue \"2\"");
    let named = Template::new(TEMPLATE).language("en_GB").named("day", "Tuesday");
    for (message, fields) in [
        (Message::text(to.clone(), "Hi"), vec![("Body", "Hi")]),
        (Message::text(resident(), "Hi"), vec![("Body", "Hi")]),
        (
            Message::media(to.clone(), [picture]),
            vec![("Body", "Road closed"), ("MediaUrl", "https://example.org/a.jpg")],
        ),
        (
            Message::new(to.clone(), place),
            vec![("Body", "Depot"), ("PersistentAction", "geo:52.7077,-2.7541|Mill Lane 1")],
        ),
        (
            Message::new(to.clone(), Location::new(52.5, -2.0)),
            vec![("Body", "52.5, -2"), ("PersistentAction", "geo:52.5,-2")],
        ),
        (
            Message::template(to.clone(), positional),
            vec![("ContentSid", TEMPLATE), ("ContentVariables", r#"{"1":"Alex","2":"Tue \"2\""}"#)],
        ),
        (
            Message::template(to.clone(), named),
            vec![("ContentSid", TEMPLATE), ("ContentVariables", r#"{"day":"Tuesday"}"#)],
        ),
        (Message::template(to.clone(), Template::new(TEMPLATE)), vec![("ContentSid", TEMPLATE)]),
    ] {
        let answer = with(json!({ "to": "whatsapp:+447700900123", "from": "whatsapp:+447700900456" }));
        let server = answers(201, answer).await;
        let whatsapp = Twilio::whatsapp_with(at(&server, config()), &context()).unwrap();
        assert_eq!(whatsapp.info().account.as_str(), OURS);
        let accepted = whatsapp.send(&message).await.unwrap();
        assert_eq!(accepted.recipient, Some(to.clone()));
        assert_eq!(sent(&server).await, pairs(&[&sides[..], &fields].concat()));
    }
}

#[tokio::test]
async fn what_twilio_cannot_carry_is_refused_before_the_network() {
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let whatsapp = Twilio::whatsapp_with(at(&server, config()), &context()).unwrap();
    let to = resident();
    for (channel, message, field) in [
        (&sms, Message::text(to.clone(), "a".repeat(1_601)), "text"),
        (&whatsapp, Message::text(to.clone(), "a".repeat(1_601)), "text"),
        (&sms, Message::new(to.clone(), Location::new(1.0, 1.0)), "location"),
        (&whatsapp, Message::new(to.clone(), Choice::buttons("Which?").option("a", "A")), "choice"),
        (&sms, Message::template(to.clone(), Template::new("bin_day")), "template.native"),
        (&sms, Message::template(to.clone(), Template::new("x").native("twilio", "HX1")), "template.native"),
        (&whatsapp, Message::text(to.clone(), "Hi").reply_to(SID), "reply_to"),
        (&sms, Message::text(Address::from("60777".parse::<civic_messaging::address::Sender>().unwrap()), "Hi"), "to"),
        (&sms, Message::text(Address::whatsapp("GB.1").unwrap(), "Hi"), "to"),
    ] {
        let error = channel.send(&message).await.unwrap_err();
        assert_eq!((error.field(), error.outcome()), (Some(field), Outcome::NotSent), "{error}");
        assert!(channel.plan(&message).problems().iter().any(|problem| problem.field() == Some(field)), "{field}");
    }
    assert!(sms.check(&Message::text(to.clone(), "a".repeat(1_600))).is_ok());
    let template = Message::template(to, Template::new(TEMPLATE));
    assert_eq!((sms.plan(&template).segments(), whatsapp.plan(&template).segments()), (None, Some(0)));
    assert_eq!(sms.plan(&template).notes().len(), 1);
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn refusals_are_told_apart_by_code() {
    use ErrorKind::{Config as Setting, *};
    use Outcome::{Rejected as No, Unknown};
    for (status, code, kind, outcome, retryable) in [
        (400, 21211, InvalidRecipient, No, false),
        (400, 21610, OptedOut, No, false),
        (400, 21608, Forbidden, No, false),
        (400, 21617, InvalidMessage, No, false),
        (400, 21659, Setting, No, false),
        (400, 21611, RateLimited, No, true),
        (400, 63016, OutsideWindow, No, false),
        (401, 20003, Unauthenticated, No, false),
        (403, 30002, Account, No, false),
        (404, 20404, NotFound, No, false),
        (429, 20429, RateLimited, No, true),
        (429, 63038, QuotaExceeded, No, true),
        (400, 99999, Rejected, No, false),
        (500, 20500, Unavailable, Unknown, false),
        (503, 20503, Unavailable, Unknown, false),
    ] {
        let words = format!("The 'To' number {THEIRS} is canary");
        let body = json!({ "code": code, "message": words, "more_info": "https://evil.example", "status": status });
        let server = answers(status, body).await;
        let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (kind, outcome, retryable), "{code}");
        assert_eq!(error.code(), Some(code.to_string().as_str()));
        assert_eq!(error.help(), Some(format!("https://www.twilio.com/docs/errors/{code}").as_str()));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("900123") && !shown.contains(TOKEN), "{shown}");
    }
}

#[tokio::test]
async fn waits_and_traces_come_from_headers_and_a_configuration_can_overrule() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "7").insert_header("twilio-request-id", "RQ1");
    Mock::given(method("POST")).respond_with(busy.set_body_string("<html>")).mount(&server).await;
    let error = Twilio::sms_with(at(&server, config()), &context()).unwrap().send(&hello()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert_eq!((error.code(), error.help(), error.request_id()), (None, None, Some("RQ1")));

    let server = answers(400, json!({ "code": "21612" })).await;
    let mut config = at(&server, config());
    config.errors.insert("21612".into(), civic_messaging::error::ErrorClass::new(ErrorKind::InvalidRecipient));
    let error = Twilio::sms_with(config, &context()).unwrap().send(&hello()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRecipient, Some("21612")));
}

#[tokio::test]
async fn a_residents_text_arrives() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let received = received(&sms, INBOUND).await;
    assert_eq!((received.response.status.as_u16(), received.response.content_type), (200, Some("text/xml")));
    assert_eq!(received.response.body, r#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#);
    assert_eq!((received.events.len(), received.discarded_events()), (1, 0));
    let event = &received.events[0];
    let inbound = event.as_inbound().unwrap();
    assert_eq!((inbound.id.as_str(), &inbound.from, inbound.text()), (SID, &resident(), Some("Hello ŵ 😀 & more")));
    assert_eq!(
        (inbound.echo, inbound.forwarded, inbound.reply_to.is_none(), inbound.media().len()),
        (false, false, true, 0)
    );
    let envelope = event.envelope();
    assert_eq!((&envelope.medium, envelope.account.as_str(), envelope.at), (&Medium::Sms, OURS, NOON));
    assert_eq!(event.id(), format!("twilio/{OURS}/inbound/{SID}"));
    assert!(envelope.raw.as_bytes().starts_with(b"ToCountry=GB&"));
    assert!(!format!("{received:?}").contains("900123"));
}

#[tokio::test]
async fn what_residents_write_has_its_form() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let read = async |change: &[(&str, &str)]| {
        let event = one(&sms, &inbound(change)).await;
        event.as_inbound().unwrap().clone()
    };
    let url = |n| format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media/ME{n}");
    let (first, second) = (url(1), url(2));
    let files = [
        ("NumMedia", "2"),
        ("Body", ""),
        ("MediaUrl0", &first),
        ("MediaContentType0", "image/jpeg"),
        ("MediaUrl1", &second),
    ];
    let message = read(&files).await;
    let [a, b] = message.media() else { panic!("{message:?}") };
    assert_eq!((a.gateway.as_str(), a.id.as_str(), a.mime.as_deref()), ("twilio", "ME1", Some("image/jpeg")));
    assert_eq!((a.url.as_deref(), b.id.as_str(), b.mime.as_deref()), (Some(&*first), "ME2", None));
    assert_eq!(message.text(), None);
    let wa = [
        ("From", "whatsapp:+447700900123"),
        ("To", "whatsapp:+447700900456"),
        ("WaId", "447700900123"),
        ("ProfileName", "Sam"),
    ];
    let message = read(&[&wa[..], &[("NumMedia", "1"), ("MediaUrl0", &first), ("Body", "Look")]].concat()).await;
    assert_eq!((message.text(), message.media().len()), (Some("Look"), 1));
    assert_eq!(message.from, Address::whatsapp(THEIRS).unwrap());
    assert_eq!((message.profile.name.as_deref(), &message.envelope.medium), (Some("Sam"), &Medium::WhatsApp));
    assert_eq!(message.envelope.account.as_str(), OURS);
    let chosen = read(&[&wa[..], &[("Body", "Yes"), ("ButtonText", "Yes"), ("ButtonPayload", "yes-1")]].concat()).await;
    assert!(matches!(&chosen.content, InboundContent::Selection(c) if (&*c.id, &*c.title) == ("yes-1", "Yes")));
    let chosen = read(&[&wa[..], &[("ButtonText", "Yes")]].concat()).await;
    assert!(matches!(&chosen.content, InboundContent::Selection(c) if c.id == "Yes"));
    let place = [
        ("Latitude", "52.7077"),
        ("Longitude", "-2.7541"),
        ("Label", "Depot"),
        ("Address", "Mill Lane 1"),
        ("Body", ""),
    ];
    let place = read(&[&wa[..], &place].concat()).await;
    let depot = Location::new(52.7077, -2.7541).name("Depot").address("Mill Lane 1");
    assert_eq!(place.content, InboundContent::Location(depot));
    let nowhere = read(&[&wa[..], &[("Latitude", "NaN"), ("Longitude", "north")]].concat()).await;
    assert!(matches!(nowhere.content, InboundContent::Text(_)));
    let quoted = read(&[&wa[..], &[("OriginalRepliedMessageSid", "SM2"), ("Forwarded", "true")]].concat()).await;
    assert_eq!((quoted.reply_to, quoted.forwarded), (Some(MessageId::new("SM2")), true));
    let odd = read(&[&wa[..], &[("MessageType", "order"), ("Body", "")]].concat()).await;
    assert_eq!(odd.content, InboundContent::unsupported(Some("order")));
    assert_eq!(read(&[("Body", ""), ("MessageType", "text")]).await.content, InboundContent::Text(String::new()));
    assert_eq!(read(&[("NumMedia", "4000000000")]).await.text(), Some("Hello ŵ 😀 & more"));
}

#[tokio::test]
async fn writers_are_people_codes_and_names() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (from, fits_sms) in [(THEIRS, true), ("60777", true), ("GOVUK", false)] {
        let event = one(&sms, &inbound(&[("From", from)])).await;
        let who = &event.as_inbound().unwrap().from;
        assert_eq!((who.expose(), who.fits(&Medium::Sms)), (from, fits_sms));
    }
    let hidden = [("From", "whatsapp:GB.13491208655302741918"), ("WaId", "GB.13491208655302741918")];
    let event = one(&sms, &inbound(&hidden)).await;
    assert_eq!(event.as_inbound().unwrap().from, Address::whatsapp("GB.13491208655302741918").unwrap());
}

#[tokio::test]
async fn an_opt_out_comes_once() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (change, opt_outs) in [
        (&[("Body", "STOP"), ("OptOutType", "STOP")][..], &[false][..]),
        (&[("Body", "STOP")], &[false]),
        (&[("Body", "leave me"), ("OptOutType", "STOP")], &[false]),
        (&[("Body", "YES"), ("OptOutType", "START")], &[true]),
        (&[("Body", "HELP"), ("OptOutType", "HELP")], &[]),
        (&[("Body", "Please stop the noise")], &[]),
        // Words on which Twilio blocks the person whatever we think.
        (&[("Body", "END")], &[false]),
        (&[("Body", "Quit.")], &[false]),
        (&[("Body", "cancel")], &[false]),
        (&[("Body", "REVOKE")], &[false]),
        (&[("Body", "UNSTOP")], &[true]),
        (&[("Body", "YES")], &[]),
        (&[("Body", "cancel my appointment")], &[]),
        (&[("Body", "INFO"), ("OptOutType", "HELP")], &[]),
    ] {
        let received = received(&sms, &inbound(change)).await;
        assert!(received.events[0].as_inbound().is_some());
        let seen = received.events.iter().skip(1).map(|event| match event {
            Event::OptOut(o) => {
                assert_eq!(
                    (o.scope, &o.from, o.inbound.as_ref().unwrap().as_str()),
                    (OptOutScope::All, &resident(), SID)
                );
                o.resume
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), opt_outs, "{change:?}");
    }
}

/// A webhook of tests/fixtures/cases/twilio, and what comes of it on a channel of its own account.
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
    assert_eq!(&received.response.body[..], NOTHING_BACK);
    received.events
}

const NOTHING_BACK: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;

#[tokio::test]
async fn list_answer_keeps_its_id() {
    let events = case("whatsapp", include_str!("../fixtures/cases/twilio/list_reply.json")).await;
    let [Event::Inbound(inbound)] = events.as_slice() else { panic!("{events:?}") };
    let InboundContent::Selection(chosen) = &inbound.content else { panic!("{inbound:?}") };
    assert_eq!((chosen.id.as_str(), chosen.title.as_str()), ("bins", "My bins"));
}

#[tokio::test]
async fn interactive_answers_are_read_with_what_is_there() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    for (change, id, title) in [
        (&[("ListId", "bins"), ("ListTitle", "My bins")][..], "bins", "My bins"),
        (&[("ListId", "bins")], "bins", "Hello ŵ 😀 & more"),
        (&[("ListId", "bins"), ("Body", "")], "bins", "bins"),
        (&[("ListTitle", "My bins")], "My bins", "My bins"),
        (&[("ButtonPayload", "yes"), ("ButtonText", "Yes")], "yes", "Yes"),
        (&[("ButtonPayload", "yes"), ("Body", "Yes, please")], "yes", "Yes, please"),
        (&[("ButtonText", "Yes"), ("ButtonPayload", ""), ("NumMedia", "")], "Yes", "Yes"),
    ] {
        let whatsapp_from = [&[("From", "whatsapp:+447700900123")][..], change].concat();
        let event = one(&whatsapp, &inbound(&whatsapp_from)).await;
        let InboundContent::Selection(chosen) = &event.as_inbound().unwrap().content else { panic!("{change:?}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title), "{change:?}");
    }
    let filled = [("MessageType", "interactive"), ("Body", ""), ("InteractiveData", r#"{"day":"Tuesday"}"#)];
    let event = one(&whatsapp, &inbound(&filled)).await;
    assert_eq!(event.as_inbound().unwrap().content, InboundContent::Form(r#"{"day":"Tuesday"}"#.into()));
}

#[tokio::test]
async fn files_are_read_whatever_num_media_says() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let (one_url, two_url) = ("https://api.twilio.com/1/Media/ME1", "https://api.twilio.com/1/Media/ME2");
    let urls = |n: usize| -> Vec<(String, String)> {
        (0..n).map(|n| (format!("MediaUrl{n}"), format!("https://api.twilio.com/1/Media/ME{n}"))).collect()
    };
    for (change, files) in [
        (&[("MediaUrl0", one_url), ("MediaContentType0", "image/jpeg")][..], 1),
        (&[("MediaUrl0", one_url), ("NumMedia", "0")], 1),
        (&[("MediaUrl0", one_url), ("NumMedia", "x")], 1),
        (&[("MediaUrl0", one_url), ("MediaUrl1", two_url), ("NumMedia", "1")], 2),
        (&[("MediaUrl0", ""), ("MediaUrl1", two_url), ("NumMedia", "2")], 1),
        (&[("MediaUrl3", two_url), ("NumMedia", "1")], 1),
    ] {
        let bare = INBOUND.iter().copied().filter(|(name, _)| *name != "NumMedia");
        let event = one(&sms, &bare.chain(change.iter().copied()).collect::<Vec<_>>()).await;
        let InboundContent::Media { text, media } = &event.as_inbound().unwrap().content else { panic!("{change:?}") };
        assert_eq!((media.len(), text.as_deref()), (files, Some("Hello ŵ 😀 & more")), "{change:?}");
    }
    let many = urls(12);
    let many: Vec<_> = many.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let event = one(&sms, &inbound(&many)).await;
    assert_eq!(event.as_inbound().unwrap().media().len(), 12);
}

#[tokio::test]
async fn person_on_whatsapp_has_number_and_user_id() {
    let events = case("whatsapp", include_str!("../fixtures/cases/twilio/external_user_id.json")).await;
    let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
    for from in [&inbound.from, &opt_out.from] {
        let Address::WhatsApp(user) = from else { panic!("{from:?}") };
        let phone = user.phone().map(|phone| phone.as_str());
        assert_eq!((phone, user.user_id()), (Some("+447700900123"), Some("GB.1349")));
        for other in ["+447700900123", "GB.1349"] {
            assert!(from.same_person(&Address::whatsapp(other).unwrap()), "{other}");
        }
    }
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let status = [
        ("MessageSid", SID),
        ("MessageStatus", "read"),
        ("AccountSid", ACCOUNT),
        ("From", "whatsapp:+447700900456"),
        ("To", "whatsapp:+447700900123"),
        ("ExternalUserId", "whatsapp:GB.1349"),
    ];
    let event = one(&whatsapp, &status).await;
    let Some(Address::WhatsApp(user)) = &event.as_delivery().unwrap().recipient else { panic!("{event:?}") };
    assert_eq!((user.phone().is_some(), user.user_id()), (true, Some("GB.1349")));
}

#[tokio::test]
async fn rcs_sender_is_the_person_of_the_number() {
    let rcs = Medium::other("rcs").unwrap();
    let events = case("sms", include_str!("../fixtures/cases/twilio/rcs_stop.json")).await;
    let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((inbound.text(), &inbound.from, &opt_out.from), (Some("STOP"), &resident(), &resident()));
    assert_eq!((&inbound.envelope.medium, &opt_out.envelope.medium), (&rcs, &rcs));
    assert_eq!(inbound.envelope.account.as_str(), OURS);
    assert!(inbound.from.same_person(&resident()) && inbound.reply_address().fits(&Medium::Sms));

    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let event = one(&sms, &inbound_of_rcs()).await;
    assert_eq!((event.envelope().account.as_str(), event.as_inbound().unwrap().text()), (OURS, Some("Hello")));
    let status = [
        ("MessageSid", SID),
        ("MessageStatus", "read"),
        ("AccountSid", ACCOUNT),
        ("From", "rcs:shropshire_agent"),
        ("To", "rcs:+447700900123"),
    ];
    let event = one(&sms, &status).await;
    let delivery = event.as_delivery().unwrap();
    assert_eq!((delivery.state, &delivery.recipient), (DeliveryState::Read, &Some(resident())));
    assert_eq!((&event.envelope().medium, event.envelope().account.as_str()), (&rcs, OURS));
}

/// What a person wrote to an RCS agent that stands in front of our number.
fn inbound_of_rcs() -> [(&'static str, &'static str); 5] {
    [
        ("MessageSid", SID),
        ("AccountSid", ACCOUNT),
        ("From", "rcs:+447700900123"),
        ("To", "rcs:shropshire_agent"),
        ("Body", "Hello"),
    ]
}

#[tokio::test]
async fn congested_carrier_is_a_temporary_failure() {
    let events = case("sms", include_str!("../fixtures/cases/twilio/status_30017.json")).await;
    let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{events:?}") };
    let failure = delivery.failure.as_ref().unwrap();
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(
        (failure.kind, failure.temporary, failure.code.as_deref()),
        (ErrorKind::Unavailable, true, Some("30017"))
    );
}

#[tokio::test]
async fn failure_codes_say_what_passes() {
    use ErrorKind::{Config as Setting, *};
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (codes, kind, temporary) in [
        (&["30017", "30020", "30021", "30500", "63009", "63010", "63012", "63029"][..], Unavailable, true),
        (&["30022", "63017", "63018"], RateLimited, true),
        (&["30023", "30027", "63038"], QuotaExceeded, true),
        (&["63049"], QuotaExceeded, false),
        (&["30024", "30032", "21701", "21703", "21705", "21715", "63007", "63022"], Setting, false),
        (&["21654", "21655", "21656", "63006", "63027", "63028", "63040", "63042"], InvalidMessage, false),
        (&["63003", "63024", "63031"], InvalidRecipient, false),
        (&["63014", "63033"], OptedOut, false),
        (&["63016"], OutsideWindow, false),
        (&["63020", "63051", "30033"], Account, false),
        (&["63032", "63013", "99999"], Rejected, false),
    ] {
        for code in codes {
            let fields = [("MessageSid", SID), ("MessageStatus", "undelivered"), ("To", THEIRS), ("ErrorCode", code)];
            let event = one(&sms, &fields).await;
            let failure = event.as_delivery().unwrap().failure.as_ref().unwrap();
            assert_eq!((failure.kind, failure.temporary), (kind, temporary), "{code}");
        }
    }
}

#[tokio::test]
async fn default_keyword_of_sms_is_a_message_on_whatsapp() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (body, opt_outs) in [("END", 0), ("cancel", 0), ("STOP", 1)] {
        let from = [("Body", body), ("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
        let received = received(&sms, &inbound(&from)).await;
        assert_eq!((received.events.len(), received.answerable().count()), (1 + opt_outs, 1 - opt_outs), "{body}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/opt_out_phrases.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for word in file["opt_out_only_where_the_gateway_acts_on_it"]["twilio"].as_array().unwrap() {
        let received = received(&sms, &inbound(&[("Body", word.as_str().unwrap())])).await;
        assert_eq!(
            (received.events.len(), received.answerable().count()),
            (2, 0),
            "Twilio has blocked the person: {word}"
        );
    }
    let button = [("Body", "Cancel"), ("ButtonText", "Cancel"), ("ButtonPayload", "stop")];
    let button = received(&sms, &inbound(&button)).await;
    assert_eq!((button.events.len(), button.answerable().count()), (1, 1));
}

#[tokio::test]
async fn every_status_has_its_rung() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (status, code, state, failure) in [
        ("queued", "", DeliveryState::Accepted, None),
        ("accepted", "", DeliveryState::Accepted, None),
        ("scheduled", "", DeliveryState::Accepted, None),
        ("sending", "", DeliveryState::Sending, None),
        ("sent", "", DeliveryState::Sent, None),
        ("partially_delivered", "", DeliveryState::Sent, None),
        ("delivered", "", DeliveryState::Delivered, None),
        ("read", "", DeliveryState::Read, None),
        ("canceled", "", DeliveryState::Cancelled, None),
        ("undelivered", "30003", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("undelivered", "30005", DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        ("undelivered", "30007", DeliveryState::Failed, Some((ErrorKind::Rejected, false))),
        ("undelivered", "30008", DeliveryState::Failed, Some((ErrorKind::Rejected, true))),
        ("failed", "63016", DeliveryState::Failed, Some((ErrorKind::OutsideWindow, false))),
        ("failed", "30036", DeliveryState::Expired, Some((ErrorKind::Unavailable, true))),
        ("failed", "", DeliveryState::Failed, Some((ErrorKind::Rejected, false))),
        ("teleported", "30003", DeliveryState::Unrecognised, None),
    ] {
        let fields = [
            ("SmsSid", SID),
            ("SmsStatus", status),
            ("MessageStatus", status),
            ("To", THEIRS),
            ("MessageSid", SID),
            ("AccountSid", ACCOUNT),
            ("From", OURS),
            ("ErrorCode", code),
            ("RawDlrDoneDate", "2611221105"),
        ];
        let event = one(&sms, &fields).await;
        let delivery = event.as_delivery().unwrap();
        assert_eq!((delivery.state, delivery.status.as_str(), delivery.id().unwrap().as_str()), (state, status, SID));
        assert_eq!(delivery.recipient, Some(resident()));
        assert_eq!(delivery.failure.as_ref().map(|f| (f.kind, f.temporary)), failure, "{status} {code}");
        let kept = delivery.failure.as_ref().and_then(|f| f.code.as_deref());
        assert_eq!(kept, failure.and(Some(code)).filter(|code| !code.is_empty()));
        assert_eq!(
            (event.envelope().account.as_str(), event.envelope().at),
            (OURS, NOON),
            "a carrier's date is no time"
        );
        assert_eq!(event.id(), format!("twilio/{OURS}/delivery/{SID}/{status}/{THEIRS}"));
    }
    let old = [("SmsSid", SID), ("SmsStatus", "sent"), ("To", "whatsapp:+447700900123"), ("AccountSid", ACCOUNT)];
    let event = one(&sms, &old).await;
    assert_eq!(event.as_delivery().unwrap().state, DeliveryState::Sent);
    assert_eq!(event.envelope().medium, Medium::WhatsApp);
}

#[tokio::test]
async fn events_belong_to_our_side_of_them() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let by_service = Twilio::sms_with(bare().messaging_service(SERVICE), &context()).unwrap();
    let other = "MGdddddddddddddddddddddddddddddddd";
    for (channel, change, account) in [
        (&sms, &[("To", "+447700900789")][..], "+447700900789"),
        (&sms, &[("MessagingServiceSid", other)], OURS),
        (&by_service, &[("MessagingServiceSid", SERVICE)], SERVICE),
        (&by_service, &[("MessagingServiceSid", other)], other),
        (&by_service, &[], SERVICE),
    ] {
        assert_eq!(one(channel, &inbound(change)).await.envelope().account.as_str(), account, "{change:?}");
    }
}

#[tokio::test]
async fn events_of_an_account_that_the_secret_does_not_own_are_left_out() {
    let sub = "ACeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
    let mut config = config();
    config
        .old_auth_tokens
        .push(SigningSecret::for_accounts(Secret::new("token-of-the-subaccount").unwrap(), [sub.into()]));
    config.account_sid = ACCOUNT.to_uppercase();
    let sms = Twilio::sms_with(config, &context()).unwrap();
    for (token, account, kept) in [
        (TOKEN, ACCOUNT, true),
        (TOKEN, sub, false),
        ("token-of-the-subaccount", sub, true),
        ("token-of-the-subaccount", ACCOUNT, false),
    ] {
        let received = sms.receive(&signed(token, &inbound(&[("AccountSid", account)]))).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (usize::from(kept), usize::from(!kept)));
        assert_eq!(received.response.status, 200);
    }
}

#[tokio::test]
async fn only_tokens_prove_webhooks() {
    let (api_secret, old) = ("secret-of-the-api-key", "the-token-until-yesterday");
    let mut config = config().api_key("SKffffffffffffffffffffffffffffffff", api_secret).unwrap();
    config.old_auth_tokens.push(key(old));
    let sms = Twilio::sms_with(config.clone(), &context()).unwrap();
    assert!(sms.receive(&signed(TOKEN, INBOUND)).await.is_ok());
    assert!(sms.receive(&signed(old, INBOUND)).await.is_ok());
    for forged in [api_secret, "another-secret", ACCOUNT] {
        let error = sms.receive(&signed(forged, INBOUND)).await.unwrap_err();
        assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, 403));
    }
    let unsigned = http::Request::post("/twilio").body("From=%2B447700900123").unwrap();
    assert_eq!(sms.receive(&unsigned.into()).await.unwrap_err().webhook_status(), 401);
    let strict = Twilio::sms_with(config.shared_key("webhooks-shared-key").unwrap(), &context()).unwrap();
    assert_eq!(strict.receive(&signed(TOKEN, INBOUND)).await.unwrap_err().webhook_status(), 403);
}

#[tokio::test]
async fn without_its_public_address_nothing_is_received_and_nothing_is_let_through() {
    let mut config = config();
    config.public_url = None;
    let sms = Twilio::sms_with(config, &context()).unwrap();
    assert!(!sms.info().capability.receive);
    let error = sms.receive(&signed(TOKEN, INBOUND)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.field(), error.webhook_status().as_u16()),
        (ErrorKind::Config, Some("public_url"), 503)
    );
    assert_eq!(Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).covers(), SignatureCoverage::UrlAndForm);
}

#[tokio::test]
async fn a_webhook_by_get_has_its_fields_in_the_query() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(INBOUND).finish();
    let target = format!("/twilio?{query}");
    let signature = Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).sign(&target, b"").unwrap();
    let request = http::Request::get(&target).header("x-twilio-signature", signature).body("").unwrap();
    let received = sms.receive(&request.into()).await.unwrap();
    assert_eq!(received.events[0].as_inbound().unwrap().text(), Some("Hello ŵ 😀 & more"));
    assert_eq!(*received.events[0].envelope().raw.as_bytes(), query);
}

#[tokio::test]
async fn what_is_not_known_is_kept_whole() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for fields in [
        &[("Colour", "red")][..],
        &[("AccountSid", ACCOUNT), ("From", THEIRS)],
        &inbound(&[("From", "rcs:agent_1")]),
        &inbound(&[("From", "whatsapp:not a person")]),
        &[("MessageStatus", "sent"), ("To", THEIRS)],
    ] {
        let event = one(&sms, fields).await;
        let Event::Unrecognised(unrecognised) = &event else { panic!("{event:?}") };
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        assert_eq!((unrecognised.what.as_str(), unrecognised.envelope.raw.as_bytes()), ("form", &Bytes::from(body)));
        assert_eq!(unrecognised.envelope.account.as_str(), OURS);
    }
    // What a person wrote must not become fields of a form because it stands in JSON.
    let json = format!(r#"{{"text":"&MessageSid={SID}&From=%2B447700900123&Body=forged&x="}}"#);
    let target = format!("/twilio?bodySHA256={}", civic_messaging::media::Digest::sha256(json.as_bytes()));
    let signature = Signature::new(&PUBLIC.parse().unwrap(), [key(TOKEN)], []).sign(&target, b"").unwrap();
    let request = http::Request::post(&target).header("x-twilio-signature", signature).body(json.clone()).unwrap();
    let received = sms.receive(&request.into()).await.unwrap();
    assert!(
        matches!(&received.events[..], [Event::Unrecognised(u)] if u.what == "json" && *u.envelope.raw.as_bytes() == json)
    );
}

#[tokio::test]
async fn a_known_message_is_looked_up_by_its_id() {
    let server = MockServer::start().await;
    let charged = json!({
        "status": "undelivered", "error_code": 30005, "error_message": "Unknown destination handset",
        "price": "-0.04", "price_unit": "GBP", "num_segments": "2",
    });
    let one = MESSAGES.replace(".json", &format!("/{SID}.json"));
    Mock::given(method("GET"))
        .and(path(one))
        .respond_with(ResponseTemplate::new(200).set_body_json(with(charged)))
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let sent = |id: &str| LookupQuery::new(hello(), NOON).with_id(MessageId::new(id));
    let LookupOutcome::Found(found) = sms.look_up(&sent(SID)).await.unwrap() else { panic!("not found") };
    let [delivery] = &found[..] else { panic!("{found:?}") };
    assert_eq!((delivery.id().unwrap().as_str(), delivery.state), (SID, DeliveryState::Failed));
    let failure = delivery.failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (ErrorKind::InvalidRecipient, Some("30005")));
    assert_eq!((delivery.price.unwrap().micros, delivery.segments), (40_000, Some(2)));
    assert_eq!(delivery.envelope.at, Timestamp::from_secs(NOON.as_secs() + 2));
    let gone = sms.look_up(&sent("SM22222222222222222222222222222222")).await.unwrap();
    assert_eq!(gone, LookupOutcome::Inconclusive);
    for odd in ["../Calls/CA1", "SM1", "wamid.1", ""] {
        assert_eq!(sms.look_up(&sent(odd)).await.unwrap_err().field(), Some("id"), "{odd}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_without_an_answer_is_found_by_recipient_sender_text_and_time() {
    let id = |n: u32| format!("SM{n:032}");
    let listed = json!({
        "messages": [
            with(json!({ "sid": id(1), "body": "It's bin day ", "status": "delivered" })),
            with(json!({ "sid": id(2), "body": "Another text" })),
            with(json!({ "sid": id(3), "body": "It's bin day", "from": "+447700900789" })),
            with(json!({ "sid": id(4), "body": "It's bin day", "direction": "inbound" })),
            with(json!({ "sid": id(5), "body": "It's bin day", "date_created": "Sun, 22 Nov 2026 11:54:59 +0000" })),
            with(json!({ "sid": id(6), "body": "It's bin day", "date_created": "Sun, 22 Nov 2026 12:05:01 +0000" })),
            with(json!({ "sid": id(7), "body": "It's bin day", "date_created": null })),
        ],
        "next_page_uri": format!("{MESSAGES}?To=%2B447700900123&PageSize=200&Page=1&PageToken=PASM1"),
    });
    let second = json!({ "messages": [with(json!({ "sid": id(8), "body": "It’s bin day" }))], "next_page_uri": ".evil.example/" });
    let server = MockServer::start().await;
    let page = |value| ResponseTemplate::new(200).set_body_json(value);
    let pages = || {
        Mock::given(method("GET"))
            .and(path(MESSAGES))
            .and(query_param("To", THEIRS))
            .and(query_param("PageSize", "200"))
    };
    pages().and(query_param("Page", "1")).respond_with(page(second)).with_priority(1).expect(1).mount(&server).await;
    pages().respond_with(page(listed)).expect(1).mount(&server).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let sent = LookupQuery::new(Message::text(resident(), "It’s bin day"), NOON);
    let LookupOutcome::Found(found) = sms.look_up(&sent).await.unwrap() else { panic!("not found") };
    let ids: Vec<_> = found.iter().map(|d| (d.id().unwrap().as_str().to_owned(), d.state)).collect();
    assert_eq!(ids, [(id(1), DeliveryState::Delivered), (id(8), DeliveryState::Accepted)]);
    assert!(found[0].envelope.raw.as_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn what_cannot_be_told_is_said_so() {
    let server = MockServer::start().await;
    let old = with(json!({ "date_created": "Sun, 22 Nov 2026 11:00:00 +0000" }));
    let body = json!({ "messages": [old], "next_page_uri": format!("{MESSAGES}?Page=1") });
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(body))
        .expect(1)
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    // The page is older than the send, so that no second one is asked for.
    assert_eq!(sms.look_up(&LookupQuery::new(hello(), NOON)).await.unwrap(), LookupOutcome::Inconclusive);
    let mut quiet = Options::default();
    quiet.discard_content = true;
    let mut masked = Options::default();
    masked.obfuscate_address = true;
    for message in [
        hello().gateway_options(&quiet).unwrap(),
        hello().gateway_options(&masked).unwrap(),
        Message::template(resident(), Template::new(TEMPLATE)),
    ] {
        assert_eq!(sms.look_up(&LookupQuery::new(message, NOON)).await.unwrap(), LookupOutcome::Inconclusive);
    }
}

/// Files, by where Twilio redirects to.
const GOOD: &str = "MEaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const EVIL: &str = "MEbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const ACCOUNT_ITSELF: &str = "MEcccccccccccccccccccccccccccccccc";
const DOTTED: &str = "MEdddddddddddddddddddddddddddddddd";

/// A transport that notes what it is asked and answers as Twilio and its CDN do.
#[derive(Clone, Debug, Default)]
struct Files(Arc<Mutex<Vec<(String, bool)>>>);

#[async_trait]
impl Transport for Files {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let url = request.uri().to_string();
        let credential = request.headers().contains_key("authorization");
        self.0.lock().unwrap().push((url.clone(), credential));
        let response = http::Response::builder();
        let account = url.split("/Messages/").next().unwrap();
        let target = match url.rsplit('/').next().unwrap() {
            GOOD => "https://mms.twiliocdn.com/AC/file?sig=1".to_owned(),
            EVIL => "https://evil.example/file".to_owned(),
            ACCOUNT_ITSELF => format!("{account}.json"),
            DOTTED => format!("{account}/Messages/{SID}/Media/%2E%2e/%2e%2E/%2e./Keys.json"),
            _ => String::new(),
        };
        Ok(if target.is_empty() {
            response.header("content-type", "image/jpeg").body(Body::from("bytes".to_owned())).unwrap()
        } else {
            response.status(307).header("location", target).body(Body::empty()).unwrap()
        })
    }
}

#[tokio::test]
async fn a_file_comes_from_the_cdn_and_the_credential_stays_at_the_api() {
    let files = Files::default();
    let sms = Twilio::sms_with(config(), &Context::with_transport(files.clone())).unwrap();
    let media = |url: &str| {
        let mut media = MediaRef::new("twilio", "ME1");
        media.url = Some(url.to_owned());
        media
    };
    let api = format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media");
    let file = sms.fetch_media(&media(&format!("{api}/{GOOD}"))).await.unwrap();
    assert_eq!(file.mime(), Some("image/jpeg"));
    assert_eq!(file.bytes().await.unwrap(), "bytes");
    let asked = std::mem::take(&mut *files.0.lock().unwrap());
    assert_eq!(asked, [(format!("{api}/{GOOD}"), true), ("https://mms.twiliocdn.com/AC/file?sig=1".into(), false)]);
    for refused in [EVIL, ACCOUNT_ITSELF, DOTTED] {
        let error = sms.fetch_media(&media(&format!("{api}/{refused}"))).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")));
        assert_eq!(std::mem::take(&mut *files.0.lock().unwrap()).len(), 1, "{refused}");
    }
    let account = format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}");
    for url in [
        format!("{account}/Messages.json"),
        format!("{account}.json"),
        format!("{account}/Messages/{SID}/Media/../../../Keys.json"),
        format!("{account}/Messages/{SID}/Media/%2e%2e/%2e%2e/%2e%2e.json"),
        format!("{account}/Messages/{SID}/Media/%2E%2E"),
        format!("{account}/Messages/{SID}/Media/.%2e/"),
        format!("{account}/Messages/{SID}/Media/%252e%252e/"),
        format!("{account}/Messages/{SID}/Media/..%2f..%2f"),
        format!("{account}/Messages/{SID}/Media/..\\..\\"),
        format!("{account}/Messages/{SID}/Media/{GOOD}/"),
        format!("{account}/Messages/{SID}/Media/{GOOD}.json"),
        format!("{account}/Messages/{SID}/Media/{GOOD}?PageSize=1"),
        format!("{account}/Messages/{SID}/Media/{GOOD}?"),
        format!("{account}/Messages/{SID}/Media/{GOOD}/../../../../Keys.json"),
        format!("{account}/Messages/{SID}//Media/{GOOD}"),
        format!("{account}//Messages/{SID}/Media/{GOOD}"),
        format!("{account}/Messages/{SID}/Media/"),
        format!("{account}/Messages/{SID}/Media"),
        format!("{account}/Messages/{SID}/Media/ME1"),
        format!("{account}/Messages/x/Media/{GOOD}"),
        format!("{account}/Messages/{SID}/media/{GOOD}"),
        format!("{account}/Keys/../Messages/{SID}/Media/{GOOD}"),
        format!("{account}/Calls/CA1/Media/{GOOD}"),
        format!("https://api.twilio.com/2010-04-01/Accounts/ACdead/Messages/{SID}/Media/{GOOD}"),
        format!("https://api.twilio.com/v1/../2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media/{GOOD}"),
        "https://mms.twiliocdn.com/AC/file?sig=1".into(),
        api.replace("api.twilio.com", "evil.example") + "/" + GOOD,
        api.replace("https", "http") + "/" + GOOD,
        api.replace("api.twilio.com", "api.twilio.com:8443") + "/" + GOOD,
        "ME1".into(),
    ] {
        let error = sms.fetch_media(&media(&url)).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{url}");
        assert_eq!((error.gateway(), error.outcome()), (Some("twilio"), Outcome::NotSent), "{url}");
    }
    assert_eq!(sms.fetch_media(&MediaRef::new("twilio", "ME1")).await.unwrap_err().field(), Some("media.url"));
    assert_eq!(sms.fetch_media(&MediaRef::new("meta", "1")).await.unwrap_err().field(), Some("media.gateway"));
    assert!(files.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn health_is_what_twilio_says_of_the_account() {
    let account = MESSAGES.replace("/Messages.json", ".json");
    for (status, body, credentials, grade) in [
        (200, json!({ "status": "active", "type": "Full" }), CheckStatus::Pass, Some(CheckStatus::Pass)),
        (200, json!({ "status": "active", "type": "Trial" }), CheckStatus::Pass, Some(CheckStatus::Warn)),
        (200, json!({ "status": "suspended", "type": "Full" }), CheckStatus::Pass, Some(CheckStatus::Fail)),
        (200, json!({}), CheckStatus::Pass, Some(CheckStatus::Unknown)),
        (401, json!({ "code": 20003 }), CheckStatus::Fail, None),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path(&account))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .mount(&server)
            .await;
        let health = Twilio::sms_with(at(&server, config()), &context()).unwrap().health().await.unwrap();
        assert_eq!(health.check("credentials").unwrap().grade, credentials);
        assert_eq!(health.check("account").map(|check| check.grade), grade);
    }
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path(MESSAGES))
        .and(query_param("PageSize", "1"))
        .and(header("authorization", "Basic U0tmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZjpzZWNyZXQtb2YtdGhlLWtleQ=="))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "messages": [] })))
        .expect(1)
        .mount(&server)
        .await;
    let config = at(&server, config()).api_key("SKffffffffffffffffffffffffffffffff", "secret-of-the-key").unwrap();
    let health = Twilio::sms_with(config, &context()).unwrap().health().await.unwrap();
    assert_eq!(health.check("account").unwrap().grade, CheckStatus::Unknown);
    let nowhere = Twilio::sms_with(at(&MockServer::start().await, self::config()), &context()).unwrap();
    assert_eq!(
        nowhere.health().await.unwrap().check("credentials").unwrap().grade,
        CheckStatus::Fail,
        "404: no such account"
    );
}

#[tokio::test]
async fn a_message_is_cancelled_redacted_and_deleted_at_twilio() {
    let server = MockServer::start().await;
    let one = MESSAGES.replace(".json", &format!("/{SID}.json"));
    for (verb, body) in [("POST", "Status=canceled"), ("POST", "Body="), ("DELETE", "")] {
        let mock = Mock::given(method(verb)).and(path(&one)).and(body_string(body));
        mock.respond_with(ResponseTemplate::new(200).set_body_json(resource())).expect(1).mount(&server).await;
    }
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let id = MessageId::new(SID);
    sms.cancel(&id).await.unwrap();
    sms.redact(&id).await.unwrap();
    sms.delete(&id).await.unwrap();
    assert_eq!(sms.delete(&MessageId::new("../../x")).await.unwrap_err().field(), Some("id"));
}

#[test]
fn deliveries_are_reported_where_twilio_is_told_to() {
    let silent = || Config::new(ACCOUNT, TOKEN).unwrap().sender(OURS).unwrap();
    let told = |config: Config| config.status_callback("https://sms.example.gov.uk/status");
    let cases = [(silent(), false), (told(silent()), false), (config(), false), (told(config()), true)];
    for (config, reports) in cases {
        let can = Twilio::sms_with(config, &context()).unwrap().info().capability.clone();
        assert_eq!((can.delivery_status, can.look_up), (reports, true));
    }
}

#[test]
fn settings_are_checked_by_name() {
    let change: [Change<Config>; 8] = [
        (|c| c.account_sid = "AC1".into(), "account_sid"),
        (|c| c.account_sid = ACCOUNT.replace("AC", "SK"), "account_sid"),
        (|c| c.from = None, "from"),
        (|c| c.messaging_service_sid = Some(SERVICE.into()), "messaging_service_sid"),
        (|c| (c.from, c.messaging_service_sid) = (None, Some("MG1".into())), "messaging_service_sid"),
        (|c| *c = c.clone().api_key(ACCOUNT, "secret-of-the-key").unwrap(), "api_key.sid"),
        (|c| c.status_callback = Some("sms.example.gov.uk".into()), "status_callback"),
        (|c| c.status_callback = Some("https://my_host.example/s".into()), "status_callback"),
    ];
    for (change, field) in change {
        let mut config = config();
        change(&mut config);
        let error = Twilio::sms_with(config, &context()).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
    }
    for name in ["60777", "GOVUK"] {
        let config = bare().sender(name).unwrap();
        assert_eq!(Twilio::sms_with(config.clone(), &context()).unwrap().info().account.as_str(), name);
        assert_eq!(Twilio::whatsapp_with(config, &context()).unwrap_err().field(), Some("from"));
    }
    assert_eq!(bare().sender("Exampleshire Council").unwrap_err().field(), Some("from"));
    assert_eq!(bare().public_url("sms.example.gov.uk").unwrap_err().field(), Some("public_url"));
    assert_eq!(Config::new(ACCOUNT, "").unwrap_err().field(), Some("auth_token"));
}

#[test]
fn a_channel_is_built_from_configuration_and_shows_no_secret() {
    let json = json!({
        "gateway": "twilio", "medium": "whatsapp", "account_sid": ACCOUNT, "auth_token": "canary-token-1",
        "api_key": { "sid": "SKffffffffffffffffffffffffffffffff", "secret": "canary-secret-2" }, "from": "+44 7700 900456",
        "public_url": PUBLIC, "status_callback": "https://sms.example.gov.uk/status", "old_auth_tokens": "canary-token-3",
        "shared_keys": ["canary-shared-4", { "secret": "canary-shared-5", "accounts": ["AC1"] }],
        "base_url": "https://api.dublin.ie1.twilio.com", "errors": { "21612": { "kind": "invalid_recipient" } },
    });
    let build =
        |json: &Value| Registry::standard().connect(&Settings::from_json(&json.to_string()).unwrap(), &context());
    let channel = build(&json).unwrap();
    assert_eq!((channel.info().gateway, &channel.info().medium), ("twilio", &Medium::WhatsApp));
    assert_eq!(channel.info().account.as_str(), OURS);
    let config: Config = Settings::from_json(&json.to_string()).unwrap().read().unwrap();
    let shown = format!("{channel:?} {config:?}");
    assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
    for (name, value, field) in [
        ("medium", json!("x"), "medium"),
        ("from", json!("Exampleshire Council"), "from"),
        ("auth_token", json!("short"), "auth_token"),
        ("colour", json!("red"), "colour"),
        ("public_url", json!("http://sms.example.gov.uk"), "public_url"),
        ("api_key", json!({ "sid": "SK1" }), "api_key"),
    ] {
        let mut json = json.clone();
        json[name] = value;
        let error = build(&json).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_stored_file_is_never_asked_for_without_need() {
    // Twilio takes links, so that the store itself is left alone: the embedder's `publish` knows where the file is.
    let context = context().publish(Shelf);
    let stored = context.media.put(MediaStream::from_bytes("image/png", "png")).await.unwrap();
    context.media.remove(&stored.sha256).await.unwrap();
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context).unwrap();
    sms.send(&Message::media(resident(), [Media::image(stored)])).await.unwrap();
    assert!(sent(&server).await.contains(&("MediaUrl".into(), "https://files.example.gov.uk/x".into())));
}

#[tokio::test]
async fn stop_beside_a_location_is_heard() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let place = [("Latitude", "52.7077"), ("Longitude", "-2.7541"), ("Label", "Depot")];
    let wa = [("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
    for (channel, side) in [(&sms, &[][..]), (&whatsapp, &wa)] {
        let events = received(channel, &inbound(&[&place[..], side, &[("Body", "STOP")]].concat())).await.events;
        let texts: Vec<_> = events.iter().filter_map(Event::as_inbound).map(|inbound| inbound.text()).collect();
        assert_eq!(texts, [Some("STOP"), None], "{events:?}");
        let places = events.iter().filter_map(Event::as_inbound);
        assert_eq!(places.filter(|i| matches!(i.content, InboundContent::Location(_))).count(), 1, "{events:?}");
        assert_eq!(events.iter().filter(|event| matches!(event, Event::OptOut(_))).count(), 1, "{events:?}");
        let ids: std::collections::BTreeSet<_> = events.iter().map(Event::id).collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
    }
    for body in ["", "Depot"] {
        let event = one(&whatsapp, &inbound(&[&place[..], &wa, &[("Body", body)]].concat())).await;
        assert!(matches!(event.as_inbound().unwrap().content, InboundContent::Location(_)), "{body}");
    }
}

#[tokio::test]
async fn stop_without_a_sid_is_heard_under_a_stable_id() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    let stop = [("AccountSid", ACCOUNT), ("From", THEIRS), ("To", OURS), ("Body", "STOP")];
    let first = received(&sms, &stop).await.events;
    let [Event::Inbound(message), Event::OptOut(opt_out)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((message.text(), &opt_out.from), (Some("STOP"), &resident()));
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&received(&sms, &stop).await.events));
    let other = [("AccountSid", ACCOUNT), ("From", OURS), ("To", OURS), ("Body", "STOP")];
    assert_ne!(ids(&first), ids(&received(&sms, &other).await.events));
    let call = [("AccountSid", ACCOUNT), ("From", THEIRS), ("To", OURS), ("CallSid", "CA1")];
    assert!(matches!(one(&sms, &call).await, Event::Unrecognised(_)));
}

#[tokio::test]
async fn opt_out_type_and_prefixes_are_read_in_either_case() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (kind, resume) in [("stop", false), ("Stop", false), ("start", true)] {
        let events = received(&sms, &inbound(&[("OptOutType", kind), ("Body", "Halt")])).await.events;
        let [_, Event::OptOut(opt_out)] = events.as_slice() else { panic!("{kind} {events:?}") };
        assert_eq!(opt_out.resume, resume, "{kind}");
    }
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    for (channel, from, to, medium) in [
        (&sms, "RCS:+447700900123", "RCS:agent", "rcs"),
        (&whatsapp, "WhatsApp:+447700900123", "WHATSAPP:+447700900456", "whatsapp"),
    ] {
        let event = one(channel, &inbound(&[("From", from), ("To", to)])).await;
        let message = event.as_inbound().unwrap();
        assert_eq!((message.envelope.medium.as_str(), message.envelope.account.as_str()), (medium, OURS));
        assert!(message.from.same_person(&resident()), "{from}");
    }
}

#[tokio::test]
async fn writer_named_without_from_is_read() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let bare = [("MessageSid", SID), ("AccountSid", ACCOUNT), ("To", "whatsapp:+447700900456"), ("Body", "stop")];
    for (name, value, expected) in [
        ("WaId", "447700900123", THEIRS),
        ("WaId", "GB.1349", "GB.1349"),
        ("ExternalUserId", "whatsapp:GB.1349", "GB.1349"),
        ("ExternalUserId", "WhatsApp:GB.1349", "GB.1349"),
    ] {
        for from in [&[][..], &[("From", "")]] {
            let events = received(&whatsapp, &[&bare[..], from, &[(name, value)]].concat()).await.events;
            let [Event::Inbound(message), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{events:?}") };
            let expected = Address::whatsapp(expected).unwrap();
            assert_eq!((&message.from, &opt_out.from), (&expected, &expected), "{name}");
        }
    }
    assert!(matches!(one(&whatsapp, &bare).await, Event::Unrecognised(_)));
}

#[tokio::test]
async fn referral_of_an_advertisement_is_kept() {
    let whatsapp = Twilio::whatsapp_with(config(), &context()).unwrap();
    let wa = [("From", "whatsapp:+447700900123"), ("To", "whatsapp:+447700900456")];
    let referral = [
        ("ReferralSourceType", "ad"),
        ("ReferralSourceId", "120000000000001"),
        ("ReferralSourceUrl", "https://fb.me/1"),
        ("ReferralHeadline", "Recycle more"),
        ("ReferralBody", "Ask us about bins"),
    ];
    let event = one(&whatsapp, &inbound(&[&wa[..], &referral].concat())).await;
    let referral = event.as_inbound().unwrap().referral.as_deref().unwrap();
    assert_eq!((referral.source.as_deref(), referral.id.as_deref()), (Some("ad"), Some("120000000000001")));
    assert_eq!((referral.url.as_deref(), referral.text.as_deref()), (Some("https://fb.me/1"), Some("Recycle more")));
    let event = one(&whatsapp, &inbound(&[&wa[..], &[("ReferralBody", "Ask us")]].concat())).await;
    assert_eq!(event.as_inbound().unwrap().referral.as_deref().unwrap().text.as_deref(), Some("Ask us"));
    assert_eq!(one(&whatsapp, &inbound(&wa)).await.as_inbound().unwrap().referral, None);
}
