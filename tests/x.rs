//! X: the vendor's own shapes in, values out, over real HTTP on loopback.
#![cfg(all(feature = "x", feature = "reqwest"))]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::address::XUser;
use civic_messaging::clock::VirtualClock;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{DeliveryOf, InboundContent, Topic};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::media::MediaStream;
use civic_messaging::message::{Degradation, Media, MediaKind, MediaRef, MediaSource};
use civic_messaging::poll::{Cursor, Page};
use civic_messaging::tokens::{MemoryTokens, TokenPair, TokenStore};
use civic_messaging::transport::{Body, Transport, TransportError};
use civic_messaging::webhook::{Discarded, Request, SigningSecret};
use civic_messaging::x::{Config, Credentials, OAuth1, OAuth2};
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, Error, ErrorKind, Event, Inbound, Medium, Message, Outcome,
    Registry, Result, Secret, Settings, Timestamp, X, async_trait,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Semaphore;
use wiremock::matchers::{body_string_contains, header, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, Request as Asked, Respond, ResponseTemplate};

const COUNCIL: &str = "1900000000000000202";
const RESIDENT: &str = "1900000000000000101";
const SECRET: &str = "fixture-consumer-secret";
const SIGNATURE: &str = "x-twitter-webhooks-signature";
const SEND: &str = "/2/dm_conversations/with/1900000000000000101/messages";
const NOW: Timestamp = Timestamp::from_secs(1_788_256_000);

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/x/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")).into()
}

fn json_fixture(name: &str) -> Value {
    serde_json::from_slice(&fixture(name)).unwrap()
}

fn answer(status: u16, name: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(fixture(name).to_vec(), "application/json")
}

fn keys() -> OAuth1 {
    OAuth1::new("fixture-key", SECRET, "1900-token", "token-secret").unwrap()
}

fn clock() -> VirtualClock {
    VirtualClock::starting_at(NOW)
}

fn context() -> Context {
    Context::new().clock(clock())
}

fn signed(server: &MockServer) -> X {
    X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context()).unwrap()
}

fn offline() -> X {
    X::direct_messages_with(Config::new(COUNCIL, keys()).base_url("http://127.0.0.1:9").unwrap(), &context()).unwrap()
}

fn client() -> OAuth2 {
    OAuth2::new("client-id", "FIXTURE-REFRESH-1").unwrap()
}

fn resident() -> Address {
    Address::x(RESIDENT).unwrap()
}

async fn given(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

async fn asked(server: &MockServer) -> Vec<Asked> {
    server.received_requests().await.unwrap()
}

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

// Sending

#[tokio::test]
async fn a_send_is_the_request_of_the_fixture() {
    let server = MockServer::start().await;
    given(&server, "POST", SEND, answer(201, "v2_send.response.201.json")).await;
    let group = "/2/dm_conversations/1900000000000000601/messages";
    given(&server, "POST", group, answer(201, "v2_send.response.201.json")).await;
    let x = signed(&server);
    let text = "Your bin collection is on Thursday.";
    let map = || Media::image(MediaRef::new("x", "1900000000000000401"));
    let conversation = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    for (message, wanted, at) in [
        (Message::text(resident(), text), "v2_send_text.request.json", SEND),
        (Message::text(conversation, text), "v2_send_text.request.json", group),
        (Message::media(resident(), [map().caption("Map of the works")]), "v2_send_media.request.json", SEND),
        (Message::media(resident(), [map()]), "v2_send_media_only.request.json", SEND),
        (Message::media(resident(), [map().caption("")]), "v2_send_media_only.request.json", SEND),
    ] {
        let accepted = x.send(&message).await.unwrap();
        assert_eq!(accepted.id().as_str(), "1900000000000000501");
        assert_eq!(accepted.state, DeliveryState::Accepted);
        assert_eq!(accepted.raw, fixture("v2_send.response.201.json"));
        let asked = asked(&server).await;
        let asked = asked.last().unwrap();
        assert_eq!(body(asked), json_fixture(wanted), "{wanted}");
        assert_eq!((asked.url.path(), asked.headers["content-type"].to_str().unwrap()), (at, "application/json"));
    }
    assert_eq!(asked(&server).await.len(), 5);
}

#[tokio::test]
async fn what_x_cannot_carry_is_refused_before_the_network() {
    let x = offline();
    let stored = |kind, mime: &str| {
        let source =
            MediaSource::Stored { sha256: civic_messaging::media::Digest::sha256(b"x"), len: 1, mime: mime.to_owned() };
        Message::media(resident(), [Media::new(kind, source)])
    };
    let to = |id: &str| Message::text(Address::conversation(Medium::X, id).unwrap(), "Hello");
    for (message, kind) in [
        (stored(MediaKind::Document, "application/pdf"), ErrorKind::Unsupported),
        (stored(MediaKind::Audio, "audio/ogg"), ErrorKind::Unsupported),
        (stored(MediaKind::Image, "image/svg+xml"), ErrorKind::InvalidMessage),
        (Message::media(resident(), [Media::image("https://example.org/a.jpg")]), ErrorKind::Unsupported),
        (Message::media(resident(), [Media::image(MediaRef::new("meta", "1"))]), ErrorKind::Unsupported),
        (Message::media(resident(), [Media::image(MediaRef::new("x", "../1"))]), ErrorKind::InvalidMessage),
        (Message::text(resident(), "Hello").reply_to("1"), ErrorKind::Unsupported),
        (Message::text(resident(), "y".repeat(10_001)), ErrorKind::InvalidMessage),
        (Message::text(resident(), " "), ErrorKind::InvalidMessage),
        (Message::text(Address::phone("07700 900123").unwrap(), "Hello"), ErrorKind::InvalidRecipient),
        (to("../../users"), ErrorKind::InvalidRecipient),
        (to("1-2-3"), ErrorKind::InvalidRecipient),
    ] {
        let error = x.send(&message).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.gateway()), (kind, Outcome::NotSent, Some("x")), "{error}");
    }
    let quoting = Message::text(resident(), "Hello").reply_to("1").allow(Degradation::DropQuote);
    assert!(x.check(&quoting).is_ok() && x.check(&Message::text(resident(), "ŷ".repeat(10_000))).is_ok());
}

#[tokio::test]
async fn every_request_is_signed_as_it_is_called_and_anew() {
    let server = MockServer::start().await;
    given(&server, "POST", SEND, answer(201, "v2_send.response.201.json")).await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_empty.response.200.json")).await;
    let x = signed(&server);
    for _ in 0..3 {
        x.send_text(&resident(), "Hello, tŷ & co").await.unwrap();
        x.poll(None).await.unwrap();
    }
    let mut nonces = BTreeSet::new();
    for asked in asked(&server).await {
        let header = asked.headers["authorization"].to_str().unwrap();
        let parts: BTreeMap<_, _> =
            header.strip_prefix("OAuth ").unwrap().split(", ").filter_map(|part| part.split_once('=')).collect();
        let part = |name: &str| parts[name].trim_matches('"');
        nonces.insert(part("oauth_nonce").to_owned());
        let client = oauth1_request::Credentials::new("fixture-key", SECRET);
        let mut oracle = oauth1_request::Builder::new(client, oauth1_request::HMAC_SHA1);
        oracle
            .token(oauth1_request::Credentials::new("1900-token", "token-secret"))
            .nonce(part("oauth_nonce"))
            .timestamp(NonZeroU64::new(part("oauth_timestamp").parse().unwrap()))
            .version(true);
        assert_eq!(part("oauth_timestamp"), NOW.as_secs().to_string());
        // Only what stands in the query: a body of JSON takes no part.
        let query: Vec<(String, String)> = asked.url.query_pairs().into_owned().collect();
        let address = format!("{}{}", server.uri(), asked.url.path());
        let verb = asked.method.as_str();
        let theirs =
            oracle.authorize_with_buf(String::new(), verb, address, &oauth1_request::ParameterList::new(query));
        assert!(theirs.contains(&format!("oauth_signature=\"{}\"", part("oauth_signature"))), "{theirs}\n{header}");
    }
    assert_eq!(nonces.len(), 6);
}

#[tokio::test]
async fn a_yes_that_cannot_be_read_leaves_the_outcome_unknown() {
    let server = MockServer::start().await;
    let x = signed(&server);
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"data":{}}"#,
        r#"{"data":{"dm_event_id":""}}"#,
        r#"{"data":{"dm_event_id":" "},"errors":[{"title":"Not Found Error","status":404}]}"#,
        r#"{"errors":[]}"#,
        r#"{"errors":[{}]}"#,
        r#"{"errors":"no"}"#,
    ] {
        server.reset().await;
        given(&server, "POST", SEND, ResponseTemplate::new(201).set_body_string(body)).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::Unknown), "{body}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn send_answered_2xx_with_errors_only_is_rejected() {
    use ErrorKind::{InvalidRecipient, NotFound, RateLimited, Rejected, Unavailable};
    let server = MockServer::start().await;
    let x = signed(&server);
    let problem = |last: &str| format!("https://api.x.com/2/problems/{last}");
    for (body, kind, code, outcome) in [
        (
            json!({ "errors": [{ "type": problem("resource-not-found"), "title": "Not Found Error",
                "detail": "Could not find user", "status": 404 }] }),
            NotFound,
            Some("resource-not-found"),
            Outcome::Rejected,
        ),
        (
            json!({ "data": null, "errors": [{ "type": problem("resource-not-found"), "title": 7 }] }),
            NotFound,
            Some("resource-not-found"),
            Outcome::Rejected,
        ),
        (json!({ "errors": [{ "title": "Not Found Error", "status": 404 }] }), NotFound, None, Outcome::Rejected),
        (json!({ "errors": [{ "title": "Not Found Error", "status": "404" }] }), NotFound, None, Outcome::Rejected),
        (json!({ "errors": [{ "detail": "no" }] }), Rejected, None, Outcome::Rejected),
        (json!({ "errors": [{ "code": 349, "message": "no" }] }), InvalidRecipient, Some("349"), Outcome::Rejected),
        (
            json!({ "errors": [{ "detail": "You do not have permission to DM one or more participants." }] }),
            InvalidRecipient,
            Some("dm-not-permitted"),
            Outcome::Rejected,
        ),
        (json!({ "errors": [{ "type": "about:blank", "status": 429 }] }), RateLimited, None, Outcome::Rejected),
        // A fault may have come after the message had gone.
        (json!({ "errors": [{ "type": "about:blank", "status": 503 }] }), Unavailable, None, Outcome::Unknown),
        (
            json!({ "errors": [{ "type": problem("resource-not-found"), "status": 404 }, { "status": 500 }] }),
            NotFound,
            Some("resource-not-found"),
            Outcome::Unknown,
        ),
        (
            json!({ "errors": [{ "type": problem("internal-error") }] }),
            Unavailable,
            Some("internal-error"),
            Outcome::Unknown,
        ),
        (json!({ "errors": [{ "code": 131, "message": "no" }] }), Unavailable, Some("131"), Outcome::Unknown),
    ] {
        for status in [200, 201] {
            server.reset().await;
            given(&server, "POST", SEND, ResponseTemplate::new(status).set_body_json(&body)).await;
            let error = x.send_text(&resident(), "Hello").await.unwrap_err();
            assert_eq!((error.kind(), error.code(), error.outcome()), (kind, code, outcome), "{body}");
            assert_eq!(error.status().unwrap(), status, "{body}");
        }
    }
    // A half surrogate costs only the words that it is in.
    server.reset().await;
    let odd = r#"{"errors":[{"detail":"\ud83d","type":"https://api.x.com/2/problems/resource-not-found"}]}"#;
    given(&server, "POST", SEND, ResponseTemplate::new(200).set_body_string(odd)).await;
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (NotFound, Outcome::Rejected));
}

#[tokio::test]
async fn send_answered_with_data_and_errors_is_accepted() {
    let server = MockServer::start().await;
    let x = signed(&server);
    for (data, recipient) in [
        (json!({ "dm_event_id": "7", "dm_conversation_id": format!("{RESIDENT}-{COUNCIL}") }), Some(RESIDENT)),
        (json!({ "dm_event_id": 7, "dm_conversation_id": "1900000000000000601" }), Some("1900000000000000601")),
        (json!({ "dm_event_id": "7", "dm_conversation_id": "../1" }), None),
        (json!({ "dm_event_id": "7", "dm_conversation_id": {} }), None),
        (json!({ "dm_event_id": "7" }), None),
    ] {
        server.reset().await;
        let body = json!({ "data": data, "errors": [{ "title": "Field Hydration Failure", "status": 500 }] });
        given(&server, "POST", SEND, ResponseTemplate::new(201).set_body_json(body)).await;
        let accepted = x.send_text(&resident(), "Hello").await.unwrap();
        assert_eq!(accepted.id().as_str(), "7");
        assert_eq!(accepted.recipient.as_ref().map(Address::expose), recipient, "{data}");
    }
}

#[tokio::test]
async fn call_answered_200_with_errors_only_has_failed() {
    let server = MockServer::start().await;
    let body = json!({ "errors": [{ "type": "https://api.x.com/2/problems/resource-not-found", "title": "no" }] });
    Mock::given(|_: &Asked| true).respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&server).await;
    let x = signed(&server);
    let person = XUser::new(RESIDENT).unwrap();
    for error in [
        x.delete_event(&"1900000000000000501".into()).await.unwrap_err(),
        x.block(&person).await.unwrap_err(),
        x.unblock(&person).await.unwrap_err(),
        x.subscribe_account_activity("1900000000000000801").await.unwrap_err(),
        x.look_up_user("ShropCouncil").await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NotFound, Outcome::NotSent), "{error}");
    }
}

// Errors

#[tokio::test]
async fn codes_187_and_476_are_not_retried() {
    let server = MockServer::start().await;
    let x = signed(&server);
    for (code, kind) in [(187, ErrorKind::Rejected), (476, ErrorKind::InvalidRecipient)] {
        server.reset().await;
        let body = json!({ "errors": [{ "code": code, "message": "no" }] });
        given(&server, "POST", SEND, ResponseTemplate::new(403).set_body_json(body)).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::Rejected), "{code}");
        assert!(!error.is_retryable(), "{code}");
    }
}

#[tokio::test]
async fn every_error_of_x_means_what_it_means() {
    use ErrorKind::{Account, Forbidden, InvalidMessage, InvalidRecipient, RateLimited, Rejected, Unauthenticated};
    let table: &[(&str, u16, ErrorKind, bool, Option<&str>)] = &[
        ("err_400_invalid_request.json", 400, InvalidMessage, false, Some("invalid-request")),
        ("err_401_unauthorized.json", 401, Unauthenticated, false, None),
        ("err_402_credits_a.json", 402, Account, false, Some("credits")),
        ("err_402_credits_a.json", 403, Account, false, Some("credits")),
        ("err_402_credits_b.json", 402, Account, false, Some("credits-depleted")),
        ("err_403_client_forbidden.json", 403, Forbidden, false, Some("client-forbidden")),
        ("err_403_dm_not_permitted.json", 403, InvalidRecipient, false, Some("dm-not-permitted")),
        ("err_403_oauth1_permissions.json", 403, Forbidden, false, Some("oauth1-permissions")),
        ("err_403_operation_not_permitted.json", 403, Rejected, false, Some("operation-not-permitted")),
        ("err_403_scope_missing.json", 403, Forbidden, false, None),
        ("err_403_unsupported_authentication.json", 403, Forbidden, false, Some("unsupported-authentication")),
        ("err_429_problem.json", 429, RateLimited, true, None),
        ("err_429_v1_style.json", 429, RateLimited, true, Some("88")),
        ("err_v1_code_108.json", 404, InvalidRecipient, false, Some("108")),
        ("err_v1_code_150.json", 403, InvalidRecipient, false, Some("150")),
        ("err_v1_code_151.json", 403, Rejected, false, Some("151")),
        ("err_v1_code_226.json", 403, Account, false, Some("226")),
        ("err_v1_code_32.json", 401, Unauthenticated, false, Some("32")),
        ("err_v1_code_326.json", 403, InvalidRecipient, false, Some("326")),
        ("err_v1_code_349.json", 403, InvalidRecipient, false, Some("349")),
        ("err_v1_code_389.json", 403, InvalidRecipient, false, Some("389")),
        ("err_v1_code_89.json", 401, Unauthenticated, false, Some("89")),
        ("err_v1_code_93.json", 403, Forbidden, false, Some("93")),
    ];
    let server = MockServer::start().await;
    let x = signed(&server);
    for (name, status, kind, retryable, code) in table {
        server.reset().await;
        given(&server, "POST", SEND, answer(*status, name).insert_header("x-transaction-id", "a1b2c3d4e5f60718")).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable(), error.code()), (*kind, *retryable, *code), "{name}");
        assert_eq!((error.outcome(), error.request_id()), (Outcome::Rejected, Some("a1b2c3d4e5f60718")), "{name}");
        assert!(error.help().unwrap().starts_with("https://docs.x.com/"));
        assert_eq!(asked(&server).await.len(), 1, "{name}");
    }
    let folder = format!("{}/tests/fixtures/x", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let errors: BTreeSet<String> = files.filter(|name| name.starts_with("err_")).collect();
    assert_eq!(errors, table.iter().map(|(name, ..)| (*name).to_owned()).collect());
}

#[tokio::test]
async fn every_shape_of_an_error_is_read_and_none_is_no_error() {
    let server = MockServer::start().await;
    let x = signed(&server);
    let problem = "https://api.x.com/2/problems/usage-capped";
    for (status, body, kind, code) in [
        (429, json!({ "type": problem, "title": "UsageCapExceeded" }), ErrorKind::QuotaExceeded, Some("usage-capped")),
        (403, json!({ "errors": [{ "type": problem }] }), ErrorKind::QuotaExceeded, Some("usage-capped")),
        (400, json!({ "code": 354, "message": "too long" }), ErrorKind::InvalidMessage, Some("354")),
        (403, json!({ "errors": [{ "code": "64" }] }), ErrorKind::Account, Some("64")),
        (403, json!({ "title": "CreditsDepleted" }), ErrorKind::Account, Some("credits-depleted")),
        (
            403,
            json!({ "errors": [{ "code": 326, "message": "this account is temporarily locked" }] }),
            ErrorKind::Account,
            Some("326"),
        ),
        (403, json!({ "errors": [{ "code": 326, "message": "what now?" }] }), ErrorKind::Forbidden, Some("326")),
        (
            400,
            json!({ "error": "invalid_request", "error_description": "no" }),
            ErrorKind::Unauthenticated,
            Some("invalid_request"),
        ),
        (404, json!("nothing here"), ErrorKind::NotFound, None),
        (403, json!({ "errors": ["odd"], "type": 7 }), ErrorKind::Forbidden, None),
        (302, json!({}), ErrorKind::Config, None),
    ] {
        server.reset().await;
        given(&server, "POST", SEND, ResponseTemplate::new(status).set_body_json(&body)).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.code()), (kind, Outcome::Rejected, code), "{body}");
    }
    for status in [500, 502, 503, 504, 408] {
        server.reset().await;
        let body = json!({ "errors": [{ "code": 130, "message": "Over capacity" }] });
        given(&server, "POST", SEND, ResponseTemplate::new(status).set_body_json(body)).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.is_retryable()),
            (ErrorKind::Unavailable, Outcome::Unknown, false)
        );
    }
}

#[tokio::test]
async fn the_configuration_can_say_what_a_code_means() {
    let server = MockServer::start().await;
    let mut config = Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap();
    config.errors.insert("151".to_owned(), ErrorClass::new(ErrorKind::Unavailable).retry(None));
    config.errors.insert("dm-not-permitted".to_owned(), ErrorClass::new(ErrorKind::OptedOut));
    let x = X::direct_messages_with(config, &context()).unwrap();
    for (name, kind) in
        [("err_v1_code_151.json", ErrorKind::Unavailable), ("err_403_dm_not_permitted.json", ErrorKind::OptedOut)]
    {
        server.reset().await;
        given(&server, "POST", SEND, answer(403, name)).await;
        assert_eq!(x.send_text(&resident(), "Hello").await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_full_window_says_how_long_to_wait_by_xs_own_clock() {
    let server = MockServer::start().await;
    let x = signed(&server);
    // X's clock says 09:20:00, ours something else.
    let now = 1_788_254_400;
    let date = "Tue, 01 Sep 2026 09:20:00 GMT";
    for (headers, kind, wait) in [
        (
            vec![("x-rate-limit-limit", 15), ("x-rate-limit-remaining", 0), ("x-rate-limit-reset", now + 600)],
            ErrorKind::RateLimited,
            Some(600),
        ),
        (
            vec![
                ("x-rate-limit-remaining", 9),
                ("x-rate-limit-reset", now + 600),
                ("x-user-limit-24hour-remaining", 0),
                ("x-user-limit-24hour-reset", now + 7200),
            ],
            ErrorKind::QuotaExceeded,
            Some(7200),
        ),
        (
            vec![("x-app-limit-24hour-remaining", 0), ("x-app-limit-24hour-reset", now + 900_000)],
            ErrorKind::QuotaExceeded,
            Some(86_400),
        ),
        (
            vec![
                ("x-rate-limit-remaining", 0),
                ("x-rate-limit-reset", now + 600),
                ("x-app-limit-24hour-remaining", 0),
                ("x-app-limit-24hour-reset", now + 7200),
            ],
            ErrorKind::QuotaExceeded,
            Some(7200),
        ),
        (vec![("x-rate-limit-remaining", 0), ("x-rate-limit-reset", now - 5)], ErrorKind::RateLimited, Some(1)),
        (vec![("x-rate-limit-remaining", 3), ("x-rate-limit-reset", now + 600)], ErrorKind::RateLimited, None),
        (vec![], ErrorKind::RateLimited, None),
    ] {
        server.reset().await;
        let answer = answer(429, "err_429_problem.json").insert_header("date", date);
        let answer =
            headers.iter().fold(answer, |answer, (name, value)| answer.insert_header(*name, value.to_string()));
        given(&server, "POST", SEND, answer).await;
        let error = x.send_text(&resident(), "Hello").await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after().map(|wait| wait.as_secs())), (kind, wait), "{headers:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn the_rates_of_each_call_are_remembered_from_refusals_too() {
    let server = MockServer::start().await;
    let x = signed(&server);
    assert!(x.rate_limits().is_empty());
    let sent = answer(201, "v2_send.response.201.json").insert_header("x-rate-limit-limit", "15");
    let sent = sent.insert_header("x-rate-limit-remaining", "14").insert_header("x-rate-limit-reset", "1788255300");
    given(&server, "POST", SEND, sent.insert_header("x-user-limit-24hour-remaining", "1439")).await;
    given(
        &server,
        "GET",
        "/2/dm_events",
        answer(429, "err_429_problem.json").insert_header("x-rate-limit-remaining", "0"),
    )
    .await;
    x.send_text(&resident(), "Hello").await.unwrap();
    x.poll(None).await.unwrap_err();
    let rates = x.rate_limits();
    let of = |call: &str| rates.iter().find(|rates| rates.call == call).unwrap();
    let window = of("dm_send").window.unwrap();
    assert_eq!(
        (window.limit, window.remaining, window.reset),
        (Some(15), 14, Some(Timestamp::from_secs(1_788_255_300)))
    );
    assert_eq!(of("dm_send").user_day.unwrap().remaining, 1439);
    assert_eq!(of("dm_send").app_day, None);
    assert_eq!(of("dm_events").window.unwrap().remaining, 0);
    assert_eq!(rates.len(), 2);
}

// Files

/// The bytes of each segment of an upload, in the order in which they came.
fn segments(asked: &[Asked]) -> Vec<(u32, Vec<u8>)> {
    let of = |asked: &Asked| {
        let content_type = asked.headers["content-type"].to_str().unwrap();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let split = |bytes: &[u8], by: &str| -> Vec<Vec<u8>> {
            let by = by.as_bytes();
            let mut parts = vec![Vec::new()];
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at..].starts_with(by) {
                    parts.push(Vec::new());
                    at += by.len();
                } else {
                    parts.last_mut().unwrap().push(bytes[at]);
                    at += 1;
                }
            }
            parts
        };
        let parts = split(&asked.body, &format!("--{boundary}"));
        let [_, index, media, end] = parts.as_slice() else { panic!("{} parts", parts.len()) };
        assert_eq!(end, b"--\r\n");
        let value = |part: &[u8], name: &str| {
            let at = part.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            assert!(String::from_utf8_lossy(&part[..at]).contains(&format!("name=\"{name}\"")));
            part[at + 4..part.len() - 2].to_vec()
        };
        (String::from_utf8(value(index, "segment_index")).unwrap().parse().unwrap(), value(media, "media"))
    };
    asked.iter().filter(|asked| asked.url.path().ends_with("/append")).map(of).collect()
}

async fn upload_server(id: &str, finalized: &str) -> MockServer {
    let server = MockServer::start().await;
    let begun = String::from_utf8(fixture("media_initialize.response.200.json").to_vec()).unwrap();
    let begun = begun.replace("1900000000000000401", id);
    given(&server, "POST", "/2/media/upload/initialize", ResponseTemplate::new(200).set_body_string(begun)).await;
    given(&server, "POST", &format!("/2/media/upload/{id}/append"), answer(200, "media_append.response.200.json"))
        .await;
    given(&server, "POST", &format!("/2/media/upload/{id}/finalize"), answer(200, finalized)).await;
    given(&server, "POST", SEND, answer(201, "v2_send.response.201.json")).await;
    server
}

#[tokio::test]
async fn a_stored_file_goes_up_and_then_out() {
    let server = upload_server("1900000000000000401", "media_finalize_sync.response.200.json").await;
    let context = context();
    let bytes: Vec<u8> = (0..34_567_u32).map(|n| n.to_le_bytes()[0]).collect();
    let stored = context.media.put(MediaStream::from_bytes("image/png", bytes.clone())).await.unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    x.send(&Message::media(resident(), [Media::image(stored).caption("Map of the works")])).await.unwrap();
    let asked = asked(&server).await;
    let paths: Vec<&str> = asked.iter().map(|asked| asked.url.path()).collect();
    let upload = "/2/media/upload/1900000000000000401";
    assert_eq!(paths, ["/2/media/upload/initialize", &format!("{upload}/append"), &format!("{upload}/finalize"), SEND]);
    assert_eq!(body(&asked[0]), json_fixture("media_initialize.request.json"));
    assert_eq!(segments(&asked), [(0, bytes)]);
    assert_eq!(body(&asked[3]), json_fixture("v2_send_media.request.json"));
}

#[tokio::test]
async fn a_film_goes_up_in_pieces_of_a_mebibyte_and_is_waited_for() {
    const MIB: usize = 1024 * 1024;
    let id = "1900000000000000403";
    let server = upload_server(id, "media_finalize_async.response.200.json").await;
    let status = || {
        Mock::given(method("GET"))
            .and(path("/2/media/upload"))
            .and(query_param("command", "STATUS"))
            .and(query_param("media_id", id))
    };
    status()
        .respond_with(answer(200, "media_status_in_progress.response.200.json"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    status().respond_with(answer(200, "media_status_succeeded.response.200.json")).mount(&server).await;
    let clock = clock();
    let context = Context::new().clock(clock.clone());
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    let film: Vec<u8> = (0..2 * MIB + MIB / 2).map(|n| (n % 251) as u8).collect();
    // Pieces that do not fit the segments.
    let pieces: Vec<_> = film.chunks(700_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let stream =
        MediaStream::from_stream("video/mp4", futures_util::stream::iter(pieces).boxed(), Some(film.len() as u64));
    let media = Media::video("https://example.org/not-asked-for");
    let upload = tokio::spawn(async move { x.upload_media(&media, stream).await });
    // The fixtures ask to wait 1 s, then 5 s twice.
    for wait in [1, 5, 5] {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(wait));
        while clock.sleepers() > 0 {
            tokio::task::yield_now().await;
        }
    }
    let held = upload.await.unwrap().unwrap();
    assert_eq!((held.id.as_str(), held.mime.as_deref(), held.len), (id, Some("video/mp4"), Some(film.len() as u64)));
    assert_eq!(held.expires, Some(NOW.plus(Duration::from_secs(11 + 86_000))));
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0])["media_category"], "dm_video");
    let segments = segments(&asked);
    assert_eq!(
        segments.iter().map(|(n, piece)| (*n, piece.len())).collect::<Vec<_>>(),
        [(0, MIB), (1, MIB), (2, MIB / 2)]
    );
    assert!(segments.into_iter().flat_map(|(_, piece)| piece).eq(film));
    assert_eq!(asked.iter().filter(|asked| asked.url.path() == "/2/media/upload").count(), 3);
}

#[tokio::test]
async fn a_file_that_x_cannot_prepare_or_does_not_finish_was_not_sent() {
    let id = "1900000000000000403";
    for (status, kind, calls) in [
        ("media_status_failed.response.200.json", ErrorKind::InvalidMessage, 1),
        ("media_status_in_progress.response.200.json", ErrorKind::Unavailable, 60),
    ] {
        let server = upload_server(id, "media_finalize_async.response.200.json").await;
        given(&server, "GET", "/2/media/upload", answer(200, status)).await;
        let clock = clock();
        let context = Context::new().clock(clock.clone());
        let stored = context.media.put(MediaStream::from_bytes("video/mp4", "film")).await.unwrap();
        let x =
            X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
        let send = tokio::spawn(async move { x.send(&Message::media(resident(), [Media::video(stored)])).await });
        while !send.is_finished() {
            if clock.sleepers() > 0 {
                clock.advance(Duration::from_secs(60));
            }
            tokio::task::yield_now().await;
        }
        let error = send.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent));
        let asked = asked(&server).await;
        assert_eq!(asked.iter().filter(|asked| asked.url.path() == "/2/media/upload").count(), calls);
        assert!(asked.iter().all(|asked| asked.url.path() != SEND));
    }
}

#[tokio::test]
async fn a_message_whose_time_passed_during_the_upload_is_not_sent() {
    let server = upload_server("1900000000000000403", "media_finalize_async.response.200.json").await;
    given(&server, "GET", "/2/media/upload", answer(200, "media_status_succeeded.response.200.json")).await;
    let clock = clock();
    let context = Context::new().clock(clock.clone());
    let stored = context.media.put(MediaStream::from_bytes("image/gif", "gif")).await.unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    let message = Message::media(resident(), [Media::image(stored)]).not_after(NOW.plus(Duration::from_secs(30)));
    let send = tokio::spawn(async move { x.send(&message).await });
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(31));
    assert_eq!(send.await.unwrap().unwrap_err().field(), Some("not_after"));
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0])["media_category"], "dm_gif");
    assert!(asked.iter().all(|asked| asked.url.path() != SEND));
}

#[tokio::test]
async fn a_refused_or_misdescribed_upload_was_not_sent() {
    let server = MockServer::start().await;
    let x = signed(&server);
    let media = Media::image("https://example.org/not-asked-for");
    for status in [400, 429, 503] {
        server.reset().await;
        given(&server, "POST", "/2/media/upload/initialize", answer(status, "err_429_problem.json")).await;
        let error = x.upload_media(&media, MediaStream::from_bytes("image/png", "png")).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
    }
    let server = upload_server("1900000000000000401", "media_finalize_sync.response.200.json").await;
    let x = signed(&server);
    let of = |mime: &'static str, said: Option<u64>, len: usize| {
        let stream = futures_util::stream::iter([Ok(Bytes::from(vec![0; len]))]).boxed();
        x.upload_media(&media, MediaStream::from_stream(mime, stream, said))
    };
    for (result, kind) in [
        (of("image/png", None, 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(0), 0).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(5), 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(3), 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(6 * 1024 * 1024), 4).await, ErrorKind::TooLarge),
        (of("application/pdf", Some(4), 4).await, ErrorKind::Unsupported),
    ] {
        assert_eq!(result.unwrap_err().kind(), kind);
    }
    assert!(asked(&server).await.iter().all(|asked| !asked.url.path().ends_with("/finalize")));
    assert!(of("image/png; charset=binary", Some(4), 4).await.is_ok());
}

#[tokio::test]
async fn a_residents_file_is_fetched_with_the_credential_that_its_address_takes() {
    let server = MockServer::start().await;
    let ton = "/1.1/ton/data/dm/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
    let v2 = "/2/dm_conversations/media/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
    given(&server, "GET", ton, ResponseTemplate::new(200).set_body_raw("signed", "image/jpeg")).await;
    let bearing = Mock::given(method("GET")).and(path(v2)).and(header("authorization", "Bearer FIXTURE-ACCESS-2"));
    bearing.respond_with(ResponseTemplate::new(200).set_body_raw("bearing", "image/jpeg")).mount(&server).await;
    given(&server, "GET", v2, answer(401, "err_401_unauthorized.json")).await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    let mut media = MediaRef::new("x", "1900000000000000404");
    media.url = Some(format!("{}{ton}", server.uri()));

    let stream = signed(&server).fetch_media(&media).await.unwrap();
    assert_eq!(stream.mime(), Some("image/jpeg"));
    assert_eq!(stream.bytes().await.unwrap(), "signed");
    assert!(asked(&server).await[0].headers["authorization"].to_str().unwrap().starts_with("OAuth "));

    // The first token is refused, and bought anew.
    let oauth2 = client().access_token("FIXTURE-ACCESS-1").unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, oauth2).base_url(&server.uri()).unwrap(), &context()).unwrap();
    assert_eq!(x.fetch_media(&media).await.unwrap().bytes().await.unwrap(), "bearing");
}

#[tokio::test]
async fn a_file_is_fetched_from_x_and_nowhere_else() {
    // The real base URL, so that the hosts are the real ones; nothing is called.
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()), &Context::with_transport(NoCalls)).unwrap();
    let fetch = |url: Option<&str>| {
        let mut media = MediaRef::new("x", "1");
        media.url = url.map(str::to_owned);
        let x = &x;
        async move { x.fetch_media(&media).await.unwrap_err() }
    };
    for bad in [
        "https://evil.example/1.1/ton/data/dm/1/2/a.jpg",
        "http://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg",
        "https://ton.twitter.com.evil.example/dm/1/2/a.jpg",
        "https://ton.twitter.com@evil.example/dm/1/2/a.jpg",
        "https://169.254.169.254/dm/1/2/a.jpg",
        "https://pbs.twimg.com/dm/1/2/a.jpg",
        "https://ton.twitter.com:8443/dm/1/2/a.jpg",
        "https://ton.twitter.com/dm/1/2/..",
        "https://ton.twitter.com/dm/1/../a.jpg",
        "https://ton.twitter.com/a.jpg",
        "https://ton.twitter.com/dm/1/2/a%2e.jpg",
        "https://ton.twitter.com/1.1/ton/data/dm/%2e%2e/dm/1/2/a.jpg",
        "https://ton.twitter.com/1.1//ton/data/dm/1/2/a.jpg",
        "https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg/",
        // Signed, each of these would be a call of the API's and no file.
        "https://api.x.com/2/users/1/2/a",
        "https://api.x.com/1.1/account/1/2/settings.json",
        "https://ton.twitter.com/1.1/other/dm/1/2/a.jpg",
    ] {
        let error = fetch(Some(bad)).await;
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{bad}");
    }
    assert_eq!(fetch(None).await.kind(), ErrorKind::NotFound);
    for good in ["https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg", "https://ton.x.com/1.1/ton/data/dm/1/2/a.jpg"] {
        assert_eq!(fetch(Some(good)).await.kind(), ErrorKind::Unavailable, "{good}");
    }
}

#[derive(Debug)]
struct NoCalls;

#[async_trait]
impl Transport for NoCalls {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        use civic_messaging::transport::{SendProgress, TransportErrorKind};
        Err(TransportError::new(TransportErrorKind::Connect, SendProgress::NothingSent))
    }
}

// OAuth 2.0

fn rotating(server: &MockServer, context: &Context) -> X {
    X::direct_messages_with(Config::new(COUNCIL, client()).base_url(&server.uri()).unwrap(), context).unwrap()
}

fn pair(n: u32, expires: Timestamp) -> TokenPair {
    let secret = |what: &str| Secret::new(format!("FIXTURE-{what}-{n}")).unwrap();
    TokenPair::new(secret("ACCESS"), secret("REFRESH"), expires)
}

async fn kept(store: &dyn TokenStore) -> String {
    store.load(&format!("x/{COUNCIL}")).await.unwrap().map_or_else(String::new, |pair| pair.access.expose().to_owned())
}

/// Takes messages with one token only.
async fn takes(server: &MockServer, access: &str) {
    let good =
        Mock::given(method("POST")).and(path(SEND)).and(header("authorization", format!("Bearer {access}").as_str()));
    good.respond_with(answer(201, "v2_send.response.201.json")).mount(server).await;
    given(server, "POST", SEND, answer(401, "err_401_unauthorized.json")).await;
}

async fn refreshes(server: &MockServer) -> usize {
    asked(server).await.iter().filter(|asked| asked.url.path() == "/2/oauth2/token").count()
}

#[tokio::test]
async fn a_hundred_sends_with_an_expired_token_refresh_it_once() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    let name = format!("x/{COUNCIL}");
    // Expires in 59 s, which is within the minute that a token is refreshed early.
    assert!(context.tokens.replace(&name, None, &pair(1, NOW.plus(Duration::from_secs(59)))).await.unwrap());
    let x = Arc::new(rotating(&server, &context));
    let sends = (0..100).map(|_| {
        let x = x.clone();
        tokio::spawn(async move { x.send_text(&resident(), "Hello").await })
    });
    for send in join_all(sends).await {
        send.unwrap().unwrap();
    }
    assert_eq!(refreshes(&server).await, 1);
    assert_eq!(asked(&server).await.len(), 101);
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-2");
}

#[tokio::test]
async fn a_refused_token_is_refreshed_and_the_call_made_once_more() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    let good = pair(1, NOW.plus(Duration::from_secs(3600)));
    context.tokens.replace(&format!("x/{COUNCIL}"), None, &good).await.unwrap();
    let x = rotating(&server, &context);
    x.send_text(&resident(), "Hello").await.unwrap();
    let paths: Vec<String> = asked(&server).await.iter().map(|asked| asked.url.path().to_owned()).collect();
    assert_eq!(paths, [SEND, "/2/oauth2/token", SEND]);
    // With another refused token, it ends there.
    server.reset().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    given(&server, "POST", SEND, answer(401, "err_401_unauthorized.json")).await;
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unauthenticated, Outcome::Rejected));
    assert_eq!(asked(&server).await.len(), 3);
}

#[tokio::test]
async fn a_client_proves_itself_by_its_secret_or_by_its_name() {
    for confidential in [false, true] {
        let server = MockServer::start().await;
        given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
        takes(&server, "FIXTURE-ACCESS-2").await;
        let client = if confidential { client().client_secret("client-secret").unwrap() } else { client() };
        let x =
            X::direct_messages_with(Config::new(COUNCIL, client).base_url(&server.uri()).unwrap(), &context()).unwrap();
        x.send_text(&resident(), "Hello").await.unwrap();
        let asked = &asked(&server).await[0];
        let form = String::from_utf8(asked.body.clone()).unwrap();
        let wanted = "grant_type=refresh_token&refresh_token=FIXTURE-REFRESH-1";
        assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
        if confidential {
            let basic = format!("Basic {}", BASE64_STANDARD.encode("client-id:client-secret"));
            assert_eq!((form.as_str(), asked.headers["authorization"].to_str().unwrap()), (wanted, basic.as_str()));
        } else {
            assert_eq!(form, format!("{wanted}&client_id=client-id"));
            assert!(!asked.headers.contains_key("authorization"));
        }
    }
}

#[tokio::test]
async fn a_configured_access_token_is_used_until_x_refuses_it() {
    let server = MockServer::start().await;
    takes(&server, "FIXTURE-ACCESS-1").await;
    let context = context();
    let oauth2 = client().access_token("FIXTURE-ACCESS-1").unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, oauth2).base_url(&server.uri()).unwrap(), &context).unwrap();
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (0, ""));
    server.reset().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (1, "FIXTURE-ACCESS-2"));
}

/// A store in which another process is at work.
#[derive(Debug, Default)]
struct Shared {
    tokens: MemoryTokens,
    /// What the other process stores, at our n-th look.
    theirs: Mutex<Option<(usize, TokenPair)>>,
    looks: AtomicUsize,
    /// How often storing fails, and whether the pair was there before its first use.
    failures: AtomicUsize,
    log: Mutex<Vec<&'static str>>,
}

#[derive(Clone, Debug)]
struct SharedStore(Arc<Shared>);

#[async_trait]
impl TokenStore for SharedStore {
    async fn load(&self, name: &str) -> Result<Option<TokenPair>> {
        let look = self.0.looks.fetch_add(1, Ordering::SeqCst);
        let theirs = self.0.theirs.lock().unwrap().take_if(|(at, _)| *at <= look);
        if let Some((_, pair)) = theirs {
            let spent = self.0.tokens.load(name).await?.map(|pair| pair.refresh);
            self.0.tokens.replace(name, spent.as_ref(), &pair).await?;
        }
        self.0.tokens.load(name).await
    }

    async fn replace(&self, name: &str, spent: Option<&Secret>, pair: &TokenPair) -> Result<bool> {
        if self.0.failures.load(Ordering::SeqCst) > 0 {
            self.0.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::unknown("the database is away"));
        }
        self.0.log.lock().unwrap().push("stored");
        self.0.tokens.replace(name, spent, pair).await
    }
}

fn shared() -> (Arc<Shared>, Context) {
    let shared = Arc::new(Shared::default());
    (shared.clone(), context().tokens(SharedStore(shared)))
}

#[tokio::test]
async fn a_spent_refresh_token_is_no_end_when_another_process_has_the_next_pair() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    let (shared, context) = shared();
    *shared.theirs.lock().unwrap() = Some((1, pair(7, NOW.plus(Duration::from_secs(7200)))));
    rotating(&server, &context).send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, shared.log.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn a_spent_refresh_token_without_a_next_pair_needs_a_person() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    let x = rotating(&server, &context());
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.is_retryable()),
        (ErrorKind::Unauthenticated, Outcome::NotSent, false)
    );
    assert!(error.to_string().contains("authorise the account again") && error.raw().is_none());
    assert_eq!(refreshes(&server).await, 1);
}

#[tokio::test]
async fn a_newly_authorised_account_goes_on_from_the_configuration() {
    let server = MockServer::start().await;
    // X has ended the family of tokens in the store; the configuration has the first of the next.
    let new = Mock::given(path("/2/oauth2/token")).and(body_string_contains("refresh_token=FIXTURE-REFRESH-1&"));
    new.respond_with(answer(200, "oauth2_token.response.200.json")).mount(&server).await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let context = context();
    context.tokens.replace(&format!("x/{COUNCIL}"), None, &pair(9, NOW)).await.unwrap();
    rotating(&server, &context).send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (2, "FIXTURE-ACCESS-2"));
}

#[tokio::test]
async fn the_pair_of_the_process_that_was_first_is_used() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    let (shared, context) = shared();
    let name = format!("x/{COUNCIL}");
    shared.tokens.replace(&name, None, &pair(1, NOW)).await.unwrap();
    let x = rotating(&server, &context);
    // It stores between our look and our storing: the listener does so as it answers.
    struct First(Arc<Shared>);
    impl Respond for First {
        fn respond(&self, _: &Asked) -> ResponseTemplate {
            let (shared, name) = (self.0.clone(), format!("x/{COUNCIL}"));
            std::thread::spawn(move || {
                let theirs = pair(7, NOW.plus(Duration::from_secs(7200)));
                let spent = pair(1, NOW).refresh;
                let store = shared.tokens.replace(&name, Some(&spent), &theirs);
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store).map(|_| ()).unwrap();
            })
            .join()
            .unwrap();
            answer(200, "oauth2_token.response.200.json")
        }
    }
    server.reset().await;
    Mock::given(path("/2/oauth2/token")).respond_with(First(shared.clone())).mount(&server).await;
    takes(&server, "FIXTURE-ACCESS-7").await;
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-7");
}

#[tokio::test]
async fn a_new_pair_is_stored_before_it_is_used_and_kept_while_the_store_is_away() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    takes(&server, "FIXTURE-ACCESS-2").await;
    let (shared, context) = shared();
    shared.failures.store(1, Ordering::SeqCst);
    let x = rotating(&server, &context);
    let error = x.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "whatever the store says");
    assert!(asked(&server).await.iter().all(|asked| asked.url.path() != SEND), "used before it was stored");
    x.send_text(&resident(), "Hello").await.unwrap();
    assert_eq!((refreshes(&server).await, kept(&*context.tokens).await.as_str()), (1, "FIXTURE-ACCESS-2"));
}

/// Holds the answer to a refresh back until it is let go.
#[derive(Debug)]
struct Holding {
    refreshes: AtomicUsize,
    sends: AtomicUsize,
    go: Semaphore,
}

#[derive(Clone, Debug)]
struct HoldingTransport(Arc<Holding>);

#[async_trait]
impl Transport for HoldingTransport {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let name = if request.uri().path() == "/2/oauth2/token" {
            self.0.refreshes.fetch_add(1, Ordering::SeqCst);
            self.0.go.acquire().await.unwrap().forget();
            "oauth2_token.response.200.json"
        } else {
            self.0.sends.fetch_add(1, Ordering::SeqCst);
            "v2_send.response.201.json"
        };
        Ok(http::Response::new(Body::from(fixture(name))))
    }
}

#[tokio::test]
async fn a_send_that_is_given_up_does_not_lose_the_new_tokens() {
    let holding =
        Arc::new(Holding { refreshes: AtomicUsize::new(0), sends: AtomicUsize::new(0), go: Semaphore::new(0) });
    let context = context().transport(HoldingTransport(holding.clone()));
    let x = Arc::new(X::direct_messages_with(Config::new(COUNCIL, client()), &context).unwrap());
    let send = || {
        let x = x.clone();
        tokio::spawn(async move { x.send_text(&resident(), "Hello").await })
    };
    let (first, second) = (send(), send());
    while holding.refreshes.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    holding.go.add_permits(1);
    second.await.unwrap().unwrap();
    send().await.unwrap().unwrap();
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    assert_eq!((count(&holding.refreshes), count(&holding.sends)), (1, 2));
    assert_eq!(kept(&*context.tokens).await, "FIXTURE-ACCESS-2");
}

// Webhooks

fn mac(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

fn post(signature: &str, body: impl Into<Bytes>) -> Request {
    let request = http::Request::post("/webhooks/x").header(SIGNATURE, signature).body(body.into()).unwrap();
    Request::from(request).arrived_at(NOW)
}

async fn events(x: &X, body: impl Into<Bytes>) -> Vec<Event> {
    let body = body.into();
    let received = x.receive(&post(&mac(SECRET, &body), body.clone())).await.unwrap();
    assert_eq!((received.response.status.as_u16(), received.discarded_events()), (200, 0));
    received.events
}

async fn only(name: &str) -> Event {
    let mut events = events(&offline(), fixture(name)).await;
    assert_eq!(events.len(), 1, "{name}: {events:?}");
    assert_eq!(events[0].envelope().account.as_str(), COUNCIL);
    assert_eq!((events[0].envelope().gateway.as_ref(), &events[0].envelope().medium), ("x", &Medium::X));
    events.remove(0)
}

async fn inbound(name: &str) -> Inbound {
    let Event::Inbound(inbound) = only(name).await else { panic!("{name}") };
    inbound
}

#[tokio::test]
async fn every_signature_of_the_vectors_opens_and_none_that_was_tampered_with() {
    let vectors = json_fixture("vectors.json");
    let vectors = &vectors["webhook_signature"];
    assert_eq!((vectors["header"].as_str(), vectors["consumer_secret"].as_str()), (Some(SIGNATURE), Some(SECRET)));
    let files = vectors["files"].as_object().unwrap();
    assert_eq!(files.len(), 17);
    let x = offline();
    for (name, signature) in files {
        let signature = signature.as_str().unwrap();
        let body = fixture(name);
        let received = x.receive(&post(signature, body.clone())).await.unwrap();
        assert!(!received.events.is_empty(), "{name}");
        let mut tampered = body.to_vec();
        tampered[10] ^= 1;
        let cut = &body[..body.len() - 1];
        for (signature, body) in [
            (signature, tampered.as_slice()),
            (signature, cut),
            (&mac("another-consumer-secret", &body), &body),
            (&signature[7..], &body),
            (&signature[..signature.len() - 1], &body),
            ("", &body),
        ] {
            let error = x.receive(&post(signature, body.to_vec())).await.unwrap_err();
            assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::Unauthenticated, 403), "{name}");
        }
        let unsigned = http::Request::post("/webhooks/x").body(body).unwrap();
        assert_eq!(x.receive(&unsigned.into()).await.unwrap_err().webhook_status(), 401);
    }
}

async fn handshake(x: &X, query: &str) -> Result<Value> {
    let request = http::Request::get(format!("/webhooks/x?{query}")).body("").unwrap();
    let received = x.receive(&request.into()).await?;
    assert!(received.events.is_empty());
    assert_eq!((received.response.status.as_u16(), received.response.content_type), (200, Some("application/json")));
    Ok(serde_json::from_slice(&received.response.body).unwrap())
}

fn with_secrets(secrets: &[&str]) -> X {
    let mut config = Config::new(COUNCIL, keys());
    for secret in secrets {
        config = config.webhook_secret(*secret).unwrap();
    }
    X::direct_messages_with(config, &context()).unwrap()
}

#[tokio::test]
async fn the_handshake_is_answered_as_the_vectors_say() {
    let vectors = json_fixture("vectors.json");
    for vector in vectors["crc"].as_array().unwrap() {
        let x = with_secrets(&[vector["consumer_secret"].as_str().unwrap(), "the-secret-before"]);
        let answer = handshake(&x, vector["query_as_sent"].as_str().unwrap()).await.unwrap();
        assert_eq!(answer, json!({ "response_token": vector["response_token"] }));
        let answer = handshake(&x, &format!("nonce=1&{}", vector["query_as_sent"].as_str().unwrap())).await.unwrap();
        assert_eq!(answer["response_token"], vector["response_token"]);
    }
    let x = offline();
    for query in ["", "crc_token=", "token=a"] {
        assert!(handshake(&x, query).await.is_err(), "{query}");
    }
}

#[tokio::test]
async fn the_handshake_signs_no_event_for_anybody() {
    // Handshake and webhook are signed with one key in one way: whoever has a body signed as a token could post it.
    let x = offline();
    for forged in [r#"{"for_user_id":"1900000000000000202"}"#, " \n{}", "[{}]"] {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("crc_token", forged).finish();
        assert_eq!(handshake(&x, &query).await.unwrap_err().webhook_status(), 403, "{forged}");
    }
    // What it does sign is no event, with the right signature too.
    let token = "a1b2+/c3==";
    let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("crc_token", token).finish();
    let signature = handshake(&x, &query).await.unwrap()["response_token"].as_str().unwrap().to_owned();
    assert_eq!(x.receive(&post(&signature, token)).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn both_secrets_open_during_a_rotation_and_each_makes_events_of_its_own_account() {
    let x = with_secrets(&["the-new-secret", "the-old-secret"]);
    let body = fixture("webhook_aaa_dm_text.json");
    for secret in ["the-new-secret", "the-old-secret"] {
        assert_eq!(x.receive(&post(&mac(secret, &body), body.clone())).await.unwrap().events.len(), 1);
    }
    // An app that serves somebody else as well.
    let mut config = Config::new(COUNCIL, keys());
    config.webhook_secrets = vec![
        SigningSecret::for_accounts(Secret::new("of-another-account").unwrap(), ["1900000000000000999".into()]),
        SigningSecret::new(Secret::new(SECRET).unwrap()),
    ];
    let x = X::direct_messages_with(config, &context()).unwrap();
    let batch = fixture("webhook_aaa_dm_batch_of_two.json");
    let received = x.receive(&post(&mac("of-another-account", &batch), batch.clone())).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events(), received.response.status.as_u16()), (0, 2, 200));
    let received = x.receive(&post(&mac(SECRET, &batch), batch)).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events()), (2, 0));
}

#[tokio::test]
async fn a_text_is_the_same_event_by_either_api() {
    let (old, new) = (inbound("webhook_aaa_dm_text.json").await, inbound("webhook_xaa_dm_received.json").await);
    for message in [&old, &new, &inbound("webhook_aaa_dm_welcome_initiated.json").await] {
        assert_eq!(message.id.as_str(), "1900000000000000511");
        assert_eq!(message.content, InboundContent::Text("When is my bin day?".into()));
        assert_eq!(message.envelope.at, Timestamp::from_millis(1_788_254_998_705));
        assert_eq!((message.from.clone(), message.echo), (resident(), false));
        let Address::X(from) = &message.from else { panic!() };
        assert_eq!(from.handle(), Some("resident_one"));
        assert_eq!(
            (message.profile.name.as_deref(), message.profile.handle.as_deref()),
            (Some("A Resident"), Some("resident_one"))
        );
        assert_eq!((message.envelope.conversation.as_ref(), message.reply_address()), (None, &resident()));
        assert_eq!(Event::from(message.clone()).id(), format!("x/{COUNCIL}/inbound/1900000000000000511"));
    }
    for message in [&old, &new] {
        let raw: Value = serde_json::from_slice(message.envelope.raw.as_bytes()).unwrap();
        assert_eq!(raw["id"], "1900000000000000511");
    }
}

#[tokio::test]
async fn a_delivery_may_hold_several_messages() {
    let events = events(&offline(), fixture("webhook_aaa_dm_batch_of_two.json")).await;
    let texts: Vec<_> = events.iter().filter_map(|event| event.as_inbound()?.text()).collect();
    assert_eq!(texts, ["When is my bin day?", "second in the same delivery"]);
    assert_ne!(events[0].envelope().raw, events[1].envelope().raw);
}

#[tokio::test]
async fn an_echo_of_our_own_is_marked_and_never_answered() {
    for name in ["webhook_aaa_dm_echo_own_send.json", "webhook_xaa_dm_sent.json"] {
        let echo = inbound(name).await;
        assert_eq!((echo.echo, echo.from.expose(), echo.text()), (true, COUNCIL, Some("Thursday.")));
        assert_eq!(offline().reply(&echo, "Thank you").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[tokio::test]
async fn a_photo_has_its_text_without_its_link() {
    for name in ["webhook_aaa_dm_media_photo.json", "webhook_xaa_dm_received_media_INFERRED.json"] {
        let message = inbound(name).await;
        assert_eq!(message.text(), Some("Pothole photo"));
        let [photo] = message.media() else { panic!("{name}") };
        assert_eq!((photo.gateway.as_str(), photo.id.as_str()), ("x", "1900000000000000404"));
        let url = "https://ton.twitter.com/1.1/ton/data/dm/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
        assert_eq!(
            (photo.url.as_deref(), photo.mime.as_deref(), photo.kind()),
            (Some(url), Some("image/jpeg"), MediaKind::Image)
        );
    }
    // Alone, it has none, and indices that do not fit do no harm.
    let mut alone = json_fixture("webhook_aaa_dm_media_photo.json");
    let data = &mut alone["direct_message_events"][0]["message_create"]["message_data"];
    data["text"] = "https://t.co/bbbbbbbbbb".into();
    data["attachment"]["media"]["indices"] = json!([9000, -1]);
    let events = events(&offline(), alone.to_string()).await;
    assert!(
        matches!(&events[0].as_inbound().unwrap().content, InboundContent::Media { text: None, media } if media.len() == 1)
    );
}

#[tokio::test]
async fn a_film_is_its_best_version() {
    let mut film = json_fixture("webhook_aaa_dm_media_photo.json");
    film["direct_message_events"][0]["message_create"]["message_data"]["attachment"]["media"]["video_info"] = json!({ "variants": [
        { "content_type": "application/x-mpegURL", "url": "https://ton.twitter.com/a.m3u8" },
        { "bitrate": 256_000, "content_type": "video/mp4", "url": "https://ton.twitter.com/small.mp4" },
        { "bitrate": 832_000, "content_type": "video/mp4", "url": "https://ton.twitter.com/large.mp4" },
    ]});
    let events = events(&offline(), film.to_string()).await;
    let [film] = events[0].as_inbound().unwrap().media() else { panic!() };
    assert_eq!((film.url.as_deref(), film.kind()), (Some("https://ton.twitter.com/large.mp4"), MediaKind::Video));
}

#[tokio::test]
async fn a_quick_reply_is_an_answer_that_was_chosen() {
    let message = inbound("webhook_aaa_dm_quick_reply.json").await;
    let InboundContent::Selection(chosen) = &message.content else { panic!() };
    assert_eq!((chosen.id.as_str(), chosen.title.as_str()), ("report_pothole", "Report a pothole"));
}

#[tokio::test]
async fn escapes_are_read_back_where_the_source_writes_them() {
    let name = "webhook_aaa_dm_html_entities.json";
    assert_eq!(inbound(name).await.text(), Some("Bins & recycling: is 7 < 8 > 6?"));
    let mut config = Config::new(COUNCIL, keys());
    config.unescape.account_activity = false;
    config.unescape.activity = true;
    let x = X::direct_messages_with(config, &context()).unwrap();
    let escaped = "Bins &amp; recycling: is 7 &lt; 8 &gt; 6?";
    assert_eq!(events(&x, fixture(name)).await[0].as_inbound().unwrap().text(), Some(escaped));
    let mut new = json_fixture("webhook_xaa_dm_received.json");
    new["data"]["payload"]["direct_message_events"][0]["message_create"]["message_data"]["text"] = escaped.into();
    assert_eq!(events(&offline(), new.to_string()).await[0].as_inbound().unwrap().text(), Some(escaped));
    assert_eq!(
        events(&x, new.to_string()).await[0].as_inbound().unwrap().text(),
        Some("Bins & recycling: is 7 < 8 > 6?")
    );
}

#[tokio::test]
async fn an_encrypted_message_is_told_of_and_not_read() {
    let message = inbound("webhook_xaa_chat_received_encrypted.json").await;
    assert_eq!((&message.content, message.from.clone(), message.echo), (&InboundContent::Encrypted, resident(), false));
    assert_eq!(message.id.as_str(), "e4f4d3fc-8bbf-4928-92eb-e5058d6bb6f6");
    assert_eq!(message.envelope.at, Timestamp::from_millis(1_788_255_183_370));
    let mut own = json_fixture("webhook_xaa_chat_received_encrypted.json");
    own["data"]["event_type"] = "chat.sent".into();
    own["data"]["payload"]["sender_id"] = COUNCIL.into();
    assert!(events(&offline(), own.to_string()).await[0].as_inbound().unwrap().echo);
}

#[tokio::test]
async fn a_read_is_a_delivery_of_all_up_to_a_message() {
    let Event::Delivery(read) = only("webhook_aaa_mark_read.json").await else { panic!() };
    let at = Timestamp::from_millis(1_788_255_498_999);
    assert_eq!(read.of, DeliveryOf::UpTo { at, id: Some("1900000000000000515".into()) });
    assert_eq!((read.state, read.status.as_str(), &read.recipient), (DeliveryState::Read, "read", &Some(resident())));
    // What we read says nothing of what they have.
    let mut own = json_fixture("webhook_aaa_mark_read.json");
    own["direct_message_mark_read_events"][0]["sender_id"] = COUNCIL.into();
    let events = events(&offline(), own.to_string()).await;
    assert!(matches!(events.as_slice(), [Event::Unrecognised(unknown)] if unknown.what == "mark_read"));
}

#[tokio::test]
async fn what_happens_to_our_account_is_told() {
    for (name, at) in [
        ("webhook_aaa_user_revoke.json", "2026-09-01T09:48:12Z"),
        ("webhook_xaa_oauth_revoke.json", "2026-09-01T21:44:05Z"),
    ] {
        let Event::Account(revoked) = only(name).await else { panic!("{name}") };
        assert_eq!((revoked.topic, revoked.state.as_str()), (Topic::Access, "revoke"));
        assert_eq!(revoked.envelope.at, at.parse().unwrap());
        // Somebody else's is no business of ours.
        let other = String::from_utf8(fixture(name).to_vec()).unwrap().replace(COUNCIL, "1900000000000000999");
        let received = offline().receive(&post(&mac(SECRET, other.as_bytes()), other)).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1));
    }
    let Event::Account(replay) = only("webhook_aaa_replay_complete.json").await else { panic!() };
    assert_eq!((replay.topic, replay.state.as_str()), (Topic::Replay, "Complete"));
    assert_eq!(
        (replay.name.as_deref(), replay.reason.as_deref()),
        (Some("1900000000000000803"), Some("Job completed successfully"))
    );
}

#[tokio::test]
async fn what_is_not_known_is_kept_whole() {
    let unknown = |event: Event| match event {
        Event::Unrecognised(unknown) => unknown,
        other => panic!("{other:?}"),
    };
    let typing = unknown(only("webhook_aaa_typing.json").await);
    assert_eq!((typing.what.as_str(), typing.from), ("typing", Some(resident())));
    let tweet = unknown(only("webhook_aaa_tweet_create_ignored.json").await);
    assert_eq!(tweet.what, "tweet_create_events");
    let raw: Value = serde_json::from_slice(tweet.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, json_fixture("webhook_aaa_tweet_create_ignored.json")["tweet_create_events"]);

    let activity = |kind: &str, payload: Value| {
        json!({ "data": { "event_uuid": "-1", "filter": { "user_id": COUNCIL }, "event_type": kind, "payload": payload } }).to_string()
    };
    let message = |create: Value| json!({ "for_user_id": COUNCIL, "direct_message_events": [create] }).to_string();
    for (body, what) in [
        (r#"{"for_user_id":"1900000000000000202","users":{}}"#.to_owned(), "webhook"),
        (json!({ "for_user_id": COUNCIL, "user_event": { "new": {} } }).to_string(), "user_event"),
        (activity("dm.read", json!({ "something": "new" })), "dm.read"),
        (activity("profile.update.handle", Value::Null), "profile.update.handle"),
        (activity("chat.conversation_join", json!({})), "chat.conversation_join"),
        (activity("chat.received", json!({ "id": "1" })), "chat.received"),
        (activity("oauth.revoke", json!({})), "oauth.revoke"),
        (message(json!({ "type": "welcome", "id": "1" })), "welcome"),
        (message(json!(7)), "direct_message"),
        (
            message(json!({ "type": "message_create", "id": "1", "message_create": { "sender_id": "@handle" } })),
            "message_create",
        ),
    ] {
        let events = events(&offline(), body.clone()).await;
        let [Event::Unrecognised(unknown)] = events.as_slice() else { panic!("{body}: {events:?}") };
        assert_eq!(unknown.what, what, "{body}");
    }
    // Without an account, nobody can tell who wrote to whom, nor whose it is.
    let nobody = json!({ "direct_message_events": [{ "type": "message_create", "id": "1", "message_create": { "sender_id": RESIDENT } }] });
    for body in ["{", "{}", "[{}]", r#"{"data":[]}"#, r#"{"data":{}}"#, &nobody.to_string()] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.to_owned())).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    // One message that cannot be read takes none of the others with it.
    let mut batch = json_fixture("webhook_aaa_dm_batch_of_two.json");
    batch["direct_message_events"][0] = json!({ "type": ["?"] });
    let events = events(&offline(), batch.to_string()).await;
    assert!(matches!(events.as_slice(), [Event::Unrecognised(_), Event::Inbound(_)]));
}

#[tokio::test]
async fn a_message_without_words_or_files_is_still_a_message() {
    let with = |data: Value| {
        json!({ "for_user_id": COUNCIL, "direct_message_events": [{ "type": "message_create", "id": 511,
            "created_timestamp": 1_788_254_998_705_u64, "message_create": { "sender_id": RESIDENT, "message_data": data } }] })
        .to_string()
    };
    for (data, content) in [
        (json!({}), InboundContent::unsupported(None::<String>)),
        (json!({ "text": "", "attachment": { "type": "location" } }), InboundContent::unsupported(Some("location"))),
        (json!({ "text": "Here", "attachment": { "type": "location" } }), InboundContent::Text("Here".into())),
    ] {
        let events = events(&offline(), with(data)).await;
        let inbound = events[0].as_inbound().unwrap();
        assert_eq!((&inbound.content, inbound.id.as_str()), (&content, "511"));
        assert_eq!(inbound.envelope.at, Timestamp::from_millis(1_788_254_998_705));
    }
}

#[tokio::test]
async fn a_stop_word_is_an_opt_out() {
    let mut stop = json_fixture("webhook_xaa_dm_received.json");
    stop["data"]["payload"]["direct_message_events"][0]["message_create"]["message_data"]["text"] = "STOP".into();
    assert!(matches!(events(&offline(), stop.to_string()).await.as_slice(), [Event::Inbound(_), Event::OptOut(_)]));
}

const OTHER: &str = "1900000000000000303";

/// A message of the resident, as both APIs write it.
fn said(id: &str, text: &str) -> Value {
    json!({ "type": "message_create", "id": id, "created_timestamp": "1788254998705", "message_create": {
        "target": { "recipient_id": COUNCIL }, "sender_id": RESIDENT, "message_data": { "text": text } } })
}

fn is_opt_out(event: &Event) -> bool {
    matches!(event, Event::OptOut(opt_out) if opt_out.from == resident())
}

#[tokio::test]
async fn unknown_list_is_kept_without_its_neighbours() {
    let body = json!({ "for_user_id": COUNCIL, "user_event": { "revoke": { "source": { "user_id": OTHER } } },
        "follow_events": [{}], "block_events": [{}] });
    let body = body.to_string();
    let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body)).await.unwrap();
    assert_eq!(received.discarded, [Discarded::new(Some(OTHER.into()), 1)]);
    let [Event::Unrecognised(block), Event::Unrecognised(follow)] = &received.events[..] else {
        panic!("{:?}", received.events)
    };
    assert_eq!((block.what.as_str(), follow.what.as_str()), ("block_events", "follow_events"));
    assert_eq!(follow.envelope.raw.as_bytes(), "[{}]");
    // Their pieces are alike, and they are no repeats of each other.
    assert_ne!(received.events[0].id(), received.events[1].id());
}

#[tokio::test]
async fn account_named_twice_and_differently_is_nobodys() {
    let stop = said("1", "STOP");
    let list = format!(r#""direct_message_events":[{stop}]"#);
    let activity = |filter: &str| {
        format!(r#"{{"data":{{"event_uuid":"1","event_type":"dm.received",{filter},"payload":{{{list}}}}}}}"#)
    };
    for body in [
        format!(r#"{{"for_user_id":"{OTHER}","for_user_id":"{COUNCIL}",{list}}}"#),
        format!(r#"{{"for_user_id":"{COUNCIL}","for_user_id":19000000000000003030000,{list}}}"#),
        activity(&format!(r#""filter":{{"user_id":"{OTHER}"}},"filter":{{"user_id":"{COUNCIL}"}}"#)),
        activity(&format!(r#""filter":{{"user_id":"{OTHER}","user_id":"{COUNCIL}"}}"#)),
        format!(
            r#"{{"user_event":{{"revoke":{{"source":{{"user_id":"{OTHER}"}}}},"revoke":{{"source":{{"user_id":"{COUNCIL}"}}}}}}}}"#
        ),
    ] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.clone())).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    for body in [
        format!(r#"{{"for_user_id":"{COUNCIL}","for_user_id":null,{list}}}"#),
        format!(r#"{{"for_user_id":{COUNCIL},"for_user_id":"{COUNCIL}",{list}}}"#),
        activity(&format!(r#""filter":[],"filter":{{"user_id":"{COUNCIL}"}}"#)),
    ] {
        assert!(events(&offline(), body.clone()).await.iter().any(is_opt_out), "{body}");
    }
}

#[tokio::test]
async fn list_or_payload_that_occurs_twice_is_joined() {
    let (stop, text) = (said("1", "STOP"), said("2", "My bin was missed"));
    let lists =
        format!(r#""direct_message_events":[{stop}],"direct_message_events":[{text}],"direct_message_events":null"#);
    let filter = format!(r#""event_type":"dm.received","filter":{{"user_id":"{COUNCIL}"}}"#);
    for body in [
        format!(r#"{{"for_user_id":"{COUNCIL}",{lists}}}"#),
        format!(r#"{{"data":{{{filter},"payload":{{{lists}}},"payload":null}}}}"#),
        format!(
            r#"{{"data":{{{filter},"payload":{{"direct_message_events":[{stop}]}},"payload":{{"direct_message_events":[{text}]}}}}}}"#
        ),
    ] {
        let events = events(&offline(), body.clone()).await;
        let [Event::Inbound(_), stop, Event::Inbound(text)] = &events[..] else { panic!("{body}: {events:?}") };
        assert!(is_opt_out(stop));
        assert_eq!(text.text(), Some("My bin was missed"));
    }
}

#[tokio::test]
async fn data_without_activity_hides_no_messages() {
    let activity = json!({ "event_type": "dm.received", "filter": { "user_id": COUNCIL },
        "payload": { "direct_message_events": [said("2", "Hello")] } });
    for (data, count) in [
        (Value::Null, 2),
        (json!({}), 2),
        (json!([]), 2),
        (json!("nothing"), 2),
        (json!(7), 2),
        (activity.clone(), 3),
        (json!([activity]), 3),
    ] {
        let body = json!({ "for_user_id": COUNCIL, "direct_message_events": [said("1", "STOP")], "data": data });
        let events = events(&offline(), body.to_string()).await;
        assert!(events.iter().any(is_opt_out), "{body}");
        assert_eq!(events.len(), count, "{body}");
    }
}

#[tokio::test]
async fn photo_with_a_number_alone_is_read() {
    let photo = |id: &str| {
        let mut body = json_fixture("webhook_aaa_dm_media_photo.json");
        let data = &mut body["direct_message_events"][0]["message_create"]["message_data"];
        data["text"] = "STOP https://t.co/bbbbbbbbbb".into();
        data["attachment"]["media"].as_object_mut().unwrap().remove("id_str");
        body.to_string().replace(r#""id":1900000000000000404"#, &format!(r#""id":{id}"#))
    };
    for (id, read) in [
        ("1788254998705000001", "1788254998705000001"),
        // No id can be built: the file has that of its message.
        ("19000000000000004040000", "1900000000000000512"),
        ("null", "1900000000000000512"),
    ] {
        let events = events(&offline(), photo(id)).await;
        let [Event::Inbound(message), stop] = &events[..] else { panic!("{events:?}") };
        assert!(is_opt_out(stop));
        let [file] = message.media() else { panic!("{message:?}") };
        assert_eq!((file.id.as_str(), message.text()), (read, Some("STOP")));
    }
}

#[tokio::test]
async fn message_without_an_id_is_heard() {
    let without = |text: &str, id: Value| {
        let mut message = said("1", text);
        message["id"] = id;
        message
    };
    for id in [Value::Null, json!(""), json!([])] {
        let list = [without("STOP", id.clone()), without("Hello", id)];
        let body = json!({ "for_user_id": COUNCIL, "direct_message_events": list }).to_string();
        let events = events(&offline(), body.clone()).await;
        let [stop, opt_out, text] = &events[..] else { panic!("{events:?}") };
        assert!(is_opt_out(opt_out));
        assert_ne!(stop.id(), text.id());
        let again = self::events(&offline(), body).await;
        assert_eq!(again.iter().map(Event::id).collect::<Vec<_>>(), events.iter().map(Event::id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn long_name_is_not_kept_with_each_message() {
    let messages: Vec<_> = (0..100).map(|n| said(&n.to_string(), "Hello")).collect();
    let body = |name: String| {
        let users = json!({ RESIDENT: { "name": name, "screen_name": "resident_one" } });
        json!({ "for_user_id": COUNCIL, "direct_message_events": messages, "users": users }).to_string()
    };
    for (name, kept) in [("A Resident".to_owned(), true), ("a".repeat(2_000), false)] {
        let events = events(&offline(), body(name)).await;
        assert_eq!(events.len(), 100);
        let profiles = events.iter().map(|event| &event.as_inbound().unwrap().profile);
        assert!(profiles.clone().all(|profile| profile.name.is_some() == kept));
        assert!(profiles.clone().all(|profile| profile.handle.as_deref() == Some("resident_one")));
    }
}

#[tokio::test]
async fn place_is_read_beside_its_text() {
    let with = |text: &str, location: Value| {
        let mut message = said("1", text);
        message["message_create"]["message_data"]["attachment"] = json!({ "type": "location", "location": location });
        json!({ "for_user_id": COUNCIL, "direct_message_events": [message] }).to_string()
    };
    let point = json!({ "type": "shared_coordinate",
        "shared_coordinate": { "coordinates": { "type": "Point", "coordinates": [-2.7, 52.3] } } });
    let alone = events(&offline(), with("", point.clone())).await;
    let [Event::Inbound(place)] = &alone[..] else { panic!("{alone:?}") };
    assert!(matches!(&place.content, InboundContent::Location(at) if (at.latitude, at.longitude) == (52.3, -2.7)));
    let beside = events(&offline(), with("STOP", point)).await;
    let [Event::Inbound(text), stop, Event::Inbound(place)] = &beside[..] else { panic!("{beside:?}") };
    assert!(is_opt_out(stop) && text.text() == Some("STOP"));
    assert!(matches!(&place.content, InboundContent::Location(_)));
    assert_eq!(place.id, text.id);
    assert_ne!(beside[0].id(), beside[2].id());
    let known = json!({ "type": "shared_place",
        "shared_place": { "place": { "name": "Library", "url": "https://api.twitter.com/1.1/geo/id/1.json" } } });
    let page = events(&offline(), with("", known)).await;
    assert!(
        matches!(&page[0].as_inbound().unwrap().content, InboundContent::Link { title: Some(name), .. } if name == "Library")
    );
}

#[tokio::test]
async fn group_chat_belongs_to_the_account_of_the_body() {
    let chat = |kind: &str, sender: &str, filter: Value| {
        json!({ "for_user_id": COUNCIL, "data": { "event_type": kind, "event_uuid": "u1", "filter": filter,
            "payload": { "conversation_id": "g1900000000000000999", "sender_id": sender } } })
    };
    let received = events(&offline(), chat("chat.received", RESIDENT, json!({})).to_string()).await;
    // The body has a message of the newer API alone, and a list of the older one is not in it.
    let [Event::Inbound(message)] = &received[..] else { panic!("{received:?}") };
    assert_eq!((&message.content, &message.from), (&InboundContent::Encrypted, &resident()));
    let mut sent = chat("chat.sent", COUNCIL, Value::Null);
    sent.as_object_mut().unwrap().remove("for_user_id");
    let sent = events(&offline(), sent.to_string()).await;
    assert!(sent[0].as_inbound().unwrap().echo);
    // Nobody's: neither says whose it is, or the two filters differ.
    let mut nobody = chat("chat.received", RESIDENT, json!({}));
    nobody.as_object_mut().unwrap().remove("for_user_id");
    let disputed = chat("chat.received", RESIDENT, json!({ "user_id": OTHER }));
    let disputed = disputed.to_string().replace(r#""filter":{"#, &format!(r#""filter":{{"user_id":"{COUNCIL}","#));
    for body in [nobody.to_string(), disputed] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.clone())).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1), "{body}");
    }
}

// Polling

fn listed(id: u64, text: &str) -> Value {
    json!({ "id": id.to_string(), "event_type": "MessageCreate", "text": text, "sender_id": RESIDENT,
        "dm_conversation_id": format!("{RESIDENT}-{COUNCIL}"), "created_at": "2026-09-01T09:30:00.000Z" })
}

fn ids(page: &Page) -> Vec<&str> {
    page.events.iter().filter_map(|event| Some(event.as_inbound()?.id.as_str())).collect()
}

async fn lists(server: &MockServer, token: Option<&str>, page: Value) {
    let mock = Mock::given(method("GET")).and(path("/2/dm_events"));
    let mock = match token {
        Some(token) => mock.and(query_param("pagination_token", token)),
        None => mock.and(query_param_is_missing("pagination_token")),
    };
    mock.respond_with(ResponseTemplate::new(200).set_body_json(page)).mount(server).await;
}

#[tokio::test]
async fn a_poll_gives_the_event_that_the_webhook_gave() {
    let server = MockServer::start().await;
    let text = json_fixture("webhook_aaa_dm_text.json");
    let message = &text["direct_message_events"][0];
    let mut event =
        listed(1_900_000_000_000_000_511, message["message_create"]["message_data"]["text"].as_str().unwrap());
    event["created_at"] = "2026-09-01T09:29:58.705Z".into();
    let users = json!([{ "id": RESIDENT, "name": "A Resident", "username": "resident_one" }]);
    lists(&server, None, json!({ "data": [event], "includes": { "users": users }, "meta": {} })).await;
    let page = signed(&server).poll(None).await.unwrap();
    let (Event::Inbound(polled), pushed) = (&page.events[0], inbound("webhook_aaa_dm_text.json").await) else {
        panic!()
    };
    assert_eq!(page.events[0].id(), Event::from(pushed.clone()).id());
    // All but the bytes that the gateway wrote.
    let mut polled = polled.clone();
    polled.envelope.raw = pushed.envelope.raw.clone();
    assert_eq!(polled, pushed);
}

#[tokio::test]
async fn pages_are_walked_down_to_the_known_event_and_given_oldest_first() {
    let server = MockServer::start().await;
    lists(&server, None, json!({ "data": [listed(15, "e"), listed(14, "d")], "meta": { "next_token": "PAGE2" } }))
        .await;
    lists(
        &server,
        Some("PAGE2"),
        json!({ "data": [listed(13, "c"), listed(12, "b")], "meta": { "next_token": "PAGE3" } }),
    )
    .await;
    lists(&server, Some("PAGE3"), json!({ "meta": { "result_count": 0 } })).await;
    let x = signed(&server);
    let page = x.poll(None).await.unwrap();
    assert_eq!((ids(&page), page.more), (vec!["12", "13", "14", "15"], false));
    assert_eq!(page.next.as_ref().unwrap().as_str(), "15");
    assert_eq!(asked(&server).await.len(), 3);
    // The known event need not be there any more: it may have been deleted.
    for (known, found, calls) in [
        ("13", vec!["14", "15"], 2),
        ("11", vec!["12", "13", "14", "15"], 3),
        ("14", vec!["15"], 1),
        ("15", vec![], 1),
        ("16", vec![], 1),
    ] {
        let before = asked(&server).await.len();
        let page = x.poll(Some(&Cursor::new(known))).await.unwrap();
        assert_eq!((ids(&page), asked(&server).await.len() - before), (found.clone(), calls), "{known}");
        assert_eq!(page.next, (!found.is_empty()).then(|| Cursor::new("15")));
    }
    assert_eq!(x.poll(Some(&Cursor::new("soon"))).await.unwrap_err().field(), Some("after"));
}

#[tokio::test]
async fn an_empty_list_has_no_data_and_a_list_by_default_no_senders() {
    let server = MockServer::start().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_empty.response.200.json")).await;
    let page = signed(&server).poll(Some(&Cursor::new("1"))).await.unwrap();
    assert_eq!((page.events.len(), page.next, page.more), (0, None, false));
    server.reset().await;
    let first = Mock::given(path("/2/dm_events")).and(query_param_is_missing("pagination_token"));
    first.respond_with(answer(200, "v2_dm_events_defaults.response.200.json")).mount(&server).await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_empty.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    assert!(page.events.iter().all(|event| matches!(event, Event::Unrecognised(unknown) if unknown.from.is_none())));
    assert_eq!((page.events.len(), page.next), (2, Some(Cursor::new("1900000000000000502"))));
}

#[tokio::test]
async fn events_are_read_under_their_old_and_their_new_names() {
    let server = MockServer::start().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_full_old_names.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    let what: Vec<_> = page
        .events
        .iter()
        .map(|event| match event {
            Event::Unrecognised(unknown) => unknown.what.clone(),
            Event::Inbound(inbound) => inbound.id.as_str().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(what, ["ParticipantsLeave", "ParticipantsJoin", "1900000000000000503"]);
    let group = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    assert_eq!(page.events[0].envelope().conversation, Some(group));
    let old = page.events[2].as_inbound().unwrap().clone();
    assert_eq!((old.profile.handle.as_deref(), old.envelope.conversation.as_ref()), (Some("resident_one"), None));
    assert_eq!(old.media()[0].id, "1900000000000000402");
    // The link is of a post, so it stays.
    assert_eq!(old.text(), Some("Pothole https://t.co/aaaaaaaaaa"));
    server.reset().await;
    given(&server, "GET", "/2/dm_events", answer(200, "v2_dm_events_full_spec_2_167_names.response.200.json")).await;
    let page = signed(&server).poll(None).await.unwrap();
    let new = page.events[0].as_inbound().unwrap();
    assert_eq!((&new.id, new.text(), new.media()), (&old.id, old.text(), old.media()));
    assert!(page.events[0].envelope().raw.as_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn a_group_is_answered_in_the_group() {
    let server = MockServer::start().await;
    let mut event = listed(15, "Hello all");
    event["dm_conversation_id"] = "1900000000000000601".into();
    lists(&server, None, json!({ "data": [event] })).await;
    let page = signed(&server).poll(None).await.unwrap();
    let inbound = page.events[0].as_inbound().unwrap();
    assert_eq!((inbound.reply_address().expose(), inbound.from.clone()), ("1900000000000000601", resident()));
}

#[tokio::test]
async fn the_shorter_list_of_fields_is_asked_for_when_x_refuses_the_longer_one() {
    let server = MockServer::start().await;
    struct Strict;
    impl Respond for Strict {
        fn respond(&self, asked: &Asked) -> ResponseTemplate {
            let query: BTreeMap<_, _> = asked.url.query_pairs().into_owned().collect();
            if query["dm_event.fields"].contains("sender_id") {
                return ResponseTemplate::new(400).set_body_json(json!({
                    "errors": [{ "parameters": { "dm_event.fields": ["sender_id"] }, "message": "The `dm_event.fields` query parameter value [sender_id] is not one of [id]" }],
                    "title": "Invalid Request", "type": "https://api.x.com/2/problems/invalid-request" }));
            }
            assert_eq!(query["expansions"], "sender_id");
            let mut event = listed(15, "Hello");
            event.as_object_mut().unwrap().remove("sender_id");
            let users = json!([{ "id": RESIDENT, "username": "resident_one" }]);
            ResponseTemplate::new(200).set_body_json(json!({ "data": [event], "includes": { "users": users } }))
        }
    }
    Mock::given(path("/2/dm_events")).respond_with(Strict).mount(&server).await;
    let x = signed(&server);
    let page = x.poll(None).await.unwrap();
    // Nobody but the resident wrote on this page, so the sender is known.
    assert_eq!(page.events[0].as_inbound().unwrap().from, resident());
    assert_eq!(asked(&server).await.len(), 2);
    x.poll(None).await.unwrap();
    assert_eq!(asked(&server).await.len(), 3, "it is refused once");
    // Any other 400 is an error at once.
    server.reset().await;
    given(&server, "GET", "/2/dm_events", answer(400, "err_400_invalid_request.json")).await;
    assert_eq!(signed(&server).poll(None).await.unwrap_err().code(), Some("invalid-request"));
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn a_sender_is_never_guessed() {
    let without = |conversation: &str| {
        let mut event = listed(15, "Hello");
        event.as_object_mut().unwrap().remove("sender_id");
        event["dm_conversation_id"] = conversation.into();
        event
    };
    let pair = format!("{RESIDENT}-{COUNCIL}");
    let both = json!([{ "id": RESIDENT }, { "id": COUNCIL }]);
    for (event, users) in [
        (without(&pair), both),
        (without(&pair), json!([{ "id": COUNCIL }])),
        (without(&pair), json!([])),
        (without("1900000000000000601"), json!([{ "id": RESIDENT }])),
        (without("1-2"), json!([{ "id": "1" }])),
    ] {
        let server = MockServer::start().await;
        lists(&server, None, json!({ "data": [event], "includes": { "users": users } })).await;
        let page = signed(&server).poll(None).await.unwrap();
        assert!(matches!(&page.events[0], Event::Unrecognised(unknown) if unknown.what == "MessageCreate"), "{users}");
    }
}

#[tokio::test]
async fn a_backlog_is_fetched_ten_pages_at_a_time_and_nothing_of_it_is_lost() {
    /// 25 pages of two events, newest first: 1049, 1048, ...
    struct Backlog;
    impl Respond for Backlog {
        fn respond(&self, asked: &Asked) -> ResponseTemplate {
            let token = asked
                .url
                .query_pairs()
                .find(|(name, _)| name == "pagination_token")
                .map(|(_, token)| token.into_owned());
            let page: u64 = token.map_or(0, |token| token.strip_prefix("PAGE").unwrap().parse().unwrap());
            let events = [listed(1049 - 2 * page, "a"), listed(1048 - 2 * page, "b")];
            let meta = if page < 24 { json!({ "next_token": format!("PAGE{}", page + 1) }) } else { json!({}) };
            ResponseTemplate::new(200).set_body_json(json!({ "data": events, "meta": meta }))
        }
    }
    let server = MockServer::start().await;
    Mock::given(path("/2/dm_events")).respond_with(Backlog).mount(&server).await;
    let x = signed(&server);
    for (known, least) in [(None, 1000), (Some("1004"), 1005)] {
        let (mut cursor, mut all, mut polls) = (known.map(Cursor::new), Vec::new(), 0);
        loop {
            let page = x.poll(cursor.as_ref()).await.unwrap();
            let ids: Vec<u64> = ids(&page).iter().map(|id| id.parse().unwrap()).collect();
            assert!(ids.is_sorted() && ids.len() <= 20);
            all.extend(ids);
            polls += 1;
            cursor = page.next.or(cursor);
            if !page.more {
                break;
            }
        }
        all.sort_unstable();
        assert_eq!((all, polls), ((least..1050).collect::<Vec<u64>>(), 3));
        assert_eq!(cursor.as_ref().unwrap().as_str(), "1049");
        assert!(x.poll(cursor.as_ref()).await.unwrap().events.is_empty());
    }
}

#[tokio::test]
async fn a_page_token_that_x_no_longer_takes_begins_the_walk_again() {
    let server = MockServer::start().await;
    let stale = Mock::given(path("/2/dm_events")).and(query_param("pagination_token", "STALE"));
    stale.respond_with(answer(400, "err_400_invalid_request.json")).mount(&server).await;
    lists(&server, None, json!({ "data": [listed(16, "new"), listed(12, "seen"), listed(11, "known")] })).await;
    let page = signed(&server).poll(Some(&Cursor::new("11:15:STALE"))).await.unwrap();
    assert_eq!((ids(&page), page.next.as_ref().unwrap().as_str()), (vec!["12", "16"], "16"));
}

#[tokio::test]
async fn a_poll_that_fails_says_why_and_loses_nothing() {
    let server = MockServer::start().await;
    let x = signed(&server);
    given(&server, "GET", "/2/dm_events", answer(429, "err_429_problem.json")).await;
    assert!(x.poll(None).await.unwrap_err().is_retryable());
    server.reset().await;
    given(&server, "GET", "/2/dm_events", ResponseTemplate::new(200).set_body_string("<html>")).await;
    let error = x.poll(None).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::NotSent));
}

// Looking up

fn ours(id: u64, text: &str, at: &str) -> Value {
    let mut event = listed(id, text);
    event["sender_id"] = COUNCIL.into();
    event["created_at"] = at.into();
    event
}

async fn looked_up(sent: &LookupQuery, events: Value) -> LookupOutcome {
    let server = MockServer::start().await;
    let at = "/2/dm_conversations/with/1900000000000000101/dm_events";
    given(&server, "GET", at, ResponseTemplate::new(200).set_body_json(json!({ "data": events }))).await;
    signed(&server).look_up(sent).await.unwrap()
}

fn found(evidence: &LookupOutcome) -> Vec<&str> {
    match evidence {
        LookupOutcome::Found(deliveries) => deliveries.iter().map(|delivery| delivery.id().unwrap().as_str()).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_message_is_found_by_what_it_says_among_our_own_since_it_was_sent() {
    let at: Timestamp = "2026-09-01T09:30:00Z".parse().unwrap();
    let sent = |text: &str| LookupQuery::new(Message::text(resident(), text), at);
    let (before, within, after) = ("2026-09-01T09:29:00Z", "2026-09-01T09:29:31Z", "2026-09-01T09:30:05Z");
    let hello = sent("Hello & welcome");
    let absent = LookupOutcome::Inconclusive;
    for (events, ids) in [
        (json!([ours(9, "Hello & welcome", after)]), vec!["9"]),
        (json!([ours(9, "Hello &amp; welcome", after)]), vec!["9"]),
        (json!([ours(9, "Hello & welcome", within)]), vec!["9"]),
        (
            json!([ours(9, "Hello & welcome", after), ours(8, "Other", after), ours(7, "Hello & welcome", after)]),
            vec!["9", "7"],
        ),
        (json!([ours(9, "Hello & welcome", before)]), vec![]),
        (json!([listed(9, "Hello & welcome")]), vec![]),
        (json!([ours(9, "Hello", after)]), vec![]),
        (json!([]), vec![]),
    ] {
        let evidence = looked_up(&hello, events.clone()).await;
        assert_eq!(found(&evidence), ids, "{events}");
        assert_eq!(evidence == absent, ids.is_empty(), "{events}");
    }
    // X shortens links on the way.
    let mut linked = ours(9, "See https://t.co/a", after);
    linked["entities"] =
        json!({ "urls": [{ "url": "https://t.co/a", "expanded_url": "https://example.org/bins" }], "hashtags": null });
    assert_eq!(found(&looked_up(&sent("See https://example.org/bins"), json!([linked])).await), ["9"]);
    // A file, by its id and caption.
    let media = |id: &str| {
        LookupQuery::new(Message::media(resident(), [Media::image(MediaRef::new("x", id)).caption("Map")]), at)
    };
    let mut file = ours(9, "Map https://t.co/b", after);
    file["attachments"] = json!({ "media_keys": ["3_401"] });
    file["entities"] =
        json!({ "urls": [{ "url": "https://t.co/b", "expanded_url": "https://x.com/messages/media/9" }] });
    assert_eq!(found(&looked_up(&media("401"), json!([file])).await), ["9"]);
    assert_eq!(looked_up(&media("402"), json!([file])).await, absent);
    assert_eq!(looked_up(&sent("Map"), json!([file])).await, absent);
    // Inconclusive without a sender or a time.
    for field in ["sender_id", "created_at"] {
        let mut event = ours(9, "Hello & welcome", after);
        event.as_object_mut().unwrap().remove(field);
        assert_eq!(looked_up(&hello, json!([event])).await, LookupOutcome::Inconclusive, "{field}");
    }
}

#[tokio::test]
async fn a_message_with_an_id_is_found_by_it() {
    let sent = LookupQuery::new(Message::text(resident(), "Hello"), NOW).with_id("1900000000000000501".into());
    let at = "/2/dm_events/1900000000000000501";
    let server = MockServer::start().await;
    let x = signed(&server);
    given(
        &server,
        "GET",
        at,
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "id": "1900000000000000501" } })),
    )
    .await;
    let evidence = x.look_up(&sent).await.unwrap();
    assert_eq!(found(&evidence), ["1900000000000000501"]);
    for gone in [answer(200, "v2_users_not_found_partial.response.200.json"), ResponseTemplate::new(404)] {
        server.reset().await;
        given(&server, "GET", at, gone).await;
        assert_eq!(x.look_up(&sent).await.unwrap(), LookupOutcome::Inconclusive);
    }
    server.reset().await;
    given(&server, "GET", at, ResponseTemplate::new(503)).await;
    assert!(x.look_up(&sent).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_search_that_does_not_reach_the_time_of_sending_cannot_tell() {
    struct Endless;
    impl Respond for Endless {
        fn respond(&self, _: &Asked) -> ResponseTemplate {
            let events = [ours(9, "Other", "2026-09-01T10:30:00Z")];
            ResponseTemplate::new(200).set_body_json(json!({ "data": events, "meta": { "next_token": "MORE" } }))
        }
    }
    let server = MockServer::start().await;
    Mock::given(path("/2/dm_conversations/1900000000000000601/dm_events")).respond_with(Endless).mount(&server).await;
    let group = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    let sent = LookupQuery::new(Message::text(group, "Hello"), "2026-09-01T09:30:00Z".parse().unwrap());
    assert_eq!(signed(&server).look_up(&sent).await.unwrap(), LookupOutcome::Inconclusive);
    assert_eq!(asked(&server).await.len(), 10);
}

// Health and what only X has

fn with_bearer(server: &MockServer) -> X {
    let config = Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap().bearer("app-only-bearer").unwrap();
    X::direct_messages_with(config, &context()).unwrap()
}

#[tokio::test]
async fn health_looks_at_whose_credentials_they_are_and_at_the_webhook() {
    let me = |id: &str| {
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "id": id, "name": "n", "username": "u" } }))
    };
    let valid = |valid: bool| {
        ResponseTemplate::new(200)
            .set_body_json(json!({ "data": [{ "id": "1", "url": "https://a.example", "valid": valid }] }))
    };
    for (me, hooks, credentials, webhook) in [
        (me(COUNCIL), valid(true), CheckStatus::Pass, CheckStatus::Pass),
        (me(RESIDENT), answer(200, "webhooks_list.response.200.json"), CheckStatus::Fail, CheckStatus::Fail),
        (
            answer(401, "err_v1_code_89.json"),
            answer(403, "err_403_client_forbidden.json"),
            CheckStatus::Fail,
            CheckStatus::Fail,
        ),
        (ResponseTemplate::new(503), answer(429, "err_429_problem.json"), CheckStatus::Unknown, CheckStatus::Unknown),
        (
            me(COUNCIL),
            ResponseTemplate::new(200).set_body_json(json!({ "meta": { "result_count": 0 } })),
            CheckStatus::Pass,
            CheckStatus::Warn,
        ),
    ] {
        let server = MockServer::start().await;
        given(&server, "GET", "/2/users/me", me).await;
        given(&server, "GET", "/2/webhooks", hooks).await;
        let health = with_bearer(&server).health().await.unwrap();
        let status = |name: &str| health.check(name).unwrap().status;
        assert_eq!((status("credentials"), status("webhook")), (credentials, webhook));
        let bearing = |asked: &Asked| asked.headers["authorization"] == "Bearer app-only-bearer";
        assert!(asked(&server).await.iter().all(|asked| bearing(asked) == (asked.url.path() == "/2/webhooks")));
        // Without a bearer token, the webhook is not asked for.
        assert!(signed(&server).health().await.unwrap().check("webhook").is_none());
    }
}

#[tokio::test]
async fn a_handle_leads_to_an_id() {
    let server = MockServer::start().await;
    let at = "/2/users/by/username/resident_one";
    let found = Mock::given(path(at)).and(query_param("user.fields", "receives_your_dm,connection_status"));
    found.respond_with(answer(200, "v2_user_by_username.response.200.json")).mount(&server).await;
    given(
        &server,
        "GET",
        "/2/users/by/username/nobody_here",
        answer(200, "v2_users_not_found_partial.response.200.json"),
    )
    .await;
    given(&server, "GET", "/2/users/by/username/gone", ResponseTemplate::new(404)).await;
    let x = signed(&server);
    for handle in ["resident_one", "@resident_one"] {
        let profile = x.look_up_user(handle).await.unwrap();
        assert_eq!((profile.user.id(), profile.user.handle()), (RESIDENT, Some("resident_one")));
        assert_eq!((profile.name.as_deref(), profile.receives_dm), (Some("A Resident"), Some(true)));
        assert!(!format!("{profile:?}").contains("esident"));
    }
    for nobody in ["nobody_here", "gone"] {
        assert_eq!(x.look_up_user(nobody).await.unwrap_err().kind(), ErrorKind::NotFound, "{nobody}");
    }
    for bad in ["", "a/b", "../me", "sixteen_letters_", "tŷ"] {
        assert_eq!(x.look_up_user(bad).await.unwrap_err().kind(), ErrorKind::InvalidRecipient, "{bad}");
    }
}

#[tokio::test]
async fn webhooks_are_managed_with_the_apps_own_token() {
    let server = MockServer::start().await;
    given(&server, "POST", "/2/webhooks", answer(200, "webhooks_create.response.200.json")).await;
    given(&server, "GET", "/2/webhooks", answer(200, "webhooks_list.response.200.json")).await;
    let x = with_bearer(&server);
    let webhook = x.register_webhook("https://messages.exampleshire.gov.uk/webhooks/x").await.unwrap();
    assert_eq!((webhook.id.as_str(), webhook.valid), ("1900000000000000801", true));
    let listed = x.webhooks().await.unwrap();
    assert_eq!((listed.len(), listed[0].valid, &listed[0].id), (1, false, &webhook.id));
    for (data, valid) in
        [(json!({ "valid": true }), true), (json!({ "valid": false }), false), (json!({ "attempted": true }), true)]
    {
        let at = format!("/2/webhooks/{}", webhook.id);
        Mock::given(method("PUT"))
            .and(path(at))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "data": data })))
            .up_to_n_times(1)
            .mount(&server)
            .await;
        assert_eq!(x.revalidate_webhook(&webhook.id).await.unwrap(), valid);
    }
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0]), json_fixture("webhooks_create.request.json"));
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == "Bearer app-only-bearer"));
    for bad in [
        "http://a.example/x",
        "https://a.example:8443/x",
        "a.example",
        &format!("https://a.example/{}", "x".repeat(200)),
    ] {
        assert_eq!(x.register_webhook(bad).await.unwrap_err().field(), Some("url"));
    }
    assert_eq!(x.revalidate_webhook("1/../2").await.unwrap_err().field(), Some("id"));
}

#[tokio::test]
async fn a_subscription_is_read_in_each_of_its_three_shapes() {
    for (name, by) in [
        ("xaa_subscribe_shape_docs_array.response.200.json", Credentials::User),
        ("xaa_subscribe_shape_docs_flat.response.200.json", Credentials::App),
        ("xaa_subscribe_shape_spec.response.200.json", Credentials::User),
    ] {
        let server = MockServer::start().await;
        given(&server, "POST", "/2/activity/subscriptions", answer(200, name)).await;
        let x = with_bearer(&server);
        let id = x.subscribe("dm.received", "1900000000000000801", Some("council-inbound"), by).await.unwrap();
        assert_eq!(id, "1900000000000000802");
        let asked = &asked(&server).await[0];
        assert_eq!(body(asked), json_fixture("xaa_subscribe.request.json"));
        let bearer = asked.headers["authorization"] == "Bearer app-only-bearer";
        assert_eq!(bearer, by == Credentials::App);
    }
    let server = MockServer::start().await;
    let at = "/2/account_activity/webhooks/1900000000000000801/subscriptions/all";
    given(&server, "POST", at, answer(200, "aaa_subscribe.response.200.json")).await;
    with_bearer(&server).subscribe_account_activity("1900000000000000801").await.unwrap();
    let asked = asked(&server).await;
    assert!(asked[0].headers["authorization"].to_str().unwrap().starts_with("OAuth "));
    // X requires a body, of no members.
    assert_eq!((body(&asked[0]), asked[0].headers["content-type"].to_str().unwrap()), (json!({}), "application/json"));
}

#[tokio::test]
async fn messages_are_deleted_people_blocked_and_groups_begun() {
    let server = MockServer::start().await;
    given(&server, "DELETE", "/2/dm_events/1900000000000000501", answer(200, "v2_dm_delete.response.200.json")).await;
    given(&server, "POST", "/2/users/1900000000000000101/dm/block", answer(200, "v2_dm_block.response.200.json")).await;
    given(
        &server,
        "POST",
        "/2/users/1900000000000000101/dm/unblock",
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "blocked": false } })),
    )
    .await;
    given(&server, "POST", "/2/dm_conversations", answer(201, "v2_group_create.response.201.json")).await;
    let x = signed(&server);
    x.delete_event(&"1900000000000000501".into()).await.unwrap();
    assert_eq!(x.delete_event(&"../1".into()).await.unwrap_err().field(), Some("id"));
    let people = [RESIDENT, "1900000000000000303"].map(|id| XUser::new(id).unwrap());
    x.block(&people[0]).await.unwrap();
    x.unblock(&people[0]).await.unwrap();
    let (group, accepted) = x.create_conversation(&people, "Hello both").await.unwrap();
    assert_eq!((group.expose(), accepted.id().as_str()), ("1900000000000000601", "1900000000000000602"));
    assert_eq!(body(asked(&server).await.last().unwrap()), json_fixture("v2_group_create.request.json"));
    assert_eq!(x.create_conversation(&people[..1], "Hello").await.unwrap_err().kind(), ErrorKind::InvalidRecipient);
    assert_eq!(x.create_conversation(&people, "").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    server.reset().await;
    given(&server, "POST", "/2/dm_conversations", ResponseTemplate::new(502)).await;
    assert_eq!(x.create_conversation(&people, "Hello").await.unwrap_err().outcome(), Outcome::Unknown);
}

// Configuration

#[cfg(feature = "toml")]
#[test]
fn a_channel_is_built_from_a_file_with_either_kind_of_credentials() {
    let build = |text: &str| {
        let text = format!("gateway = \"x\"\nmedium = \"x\"\n{text}");
        Registry::standard().connect(&Settings::from_toml(&text)?, &Context::with_transport(NoCalls))
    };
    let signed = "user_id = \"1900000000000000202\"\nconsumer_key = \"fixture-key\"\nconsumer_secret = \"fixture-secret\"\n\
                  access_token = \"1900-token\"\naccess_token_secret = \"token-secret\"\n";
    let x = build(signed).unwrap();
    assert_eq!((x.info().gateway, x.info().account.as_str(), &x.info().medium), ("x", COUNCIL, &Medium::X));
    let can = &x.info().capability;
    assert!(
        can.receive && can.poll && can.look_up && can.upload_media && can.fetch_media && can.health && can.conversation
    );
    assert!(!can.reply_to && !can.read && !can.typing && !can.key);

    let client =
        "user_id = \"1900000000000000202\"\nclient_id = \"client-id\"\nrefresh_token = \"FIXTURE-REFRESH-1\"\n";
    assert!(!build(client).unwrap().info().capability.receive, "nothing proves a webhook");
    for proof in [
        "consumer_secret = \"fixture-secret\"",
        "webhook_secrets = \"fixture-secret\"",
        "webhook_secrets = [\"fixture-secret\", \"before-it\"]",
    ] {
        assert!(
            build(&format!("{client}{proof}\nclient_secret = \"client-secret\"")).unwrap().info().capability.receive,
            "{proof}"
        );
    }
    let all = "bearer = \"app-only-bearer\"\nbase_url = \"https://api.twitter.com\"\nunescape = { activity = true }\n\
               errors = { 151 = { kind = \"unavailable\", retryable = true } }\n";
    assert!(build(&format!("{signed}{all}")).is_ok());

    for (text, field, words) in [
        ("user_id = \"1900000000000000202\"".to_owned(), "configuration", "consumer_key"),
        (format!("{client}consumer_key = \"fixture-key\""), "configuration", "set one of them"),
        (client.replace("refresh_token", "#"), "configuration", "refresh_token"),
        (signed.replace("access_token_secret", "#"), "configuration", "access_token_secret"),
        (signed.replace("\"fixture-secret\"", "\"short\""), "consumer_secret", "8 bytes"),
        (signed.replace("1900000000000000202", "@exampleshire"), "user_id", "numeric id"),
        (format!("{signed}colour = 1"), "colour", "unknown field"),
        (format!("{signed}base_url = \"http://api.x.com\""), "base_url", "https"),
        (format!("{signed}unescape = {{ everything = true }}"), "unescape.everything", "unknown field"),
    ] {
        let error = build(&text).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let sms = Settings::from_toml(&format!("gateway = \"x\"\nmedium = \"sms\"\n{signed}")).unwrap();
    let error = Registry::standard().connect(&sms, &Context::with_transport(NoCalls)).unwrap_err();
    assert_eq!(error.field(), Some("medium"));
}

#[tokio::test]
async fn output_has_no_secret_or_personal_data() {
    let server = MockServer::start().await;
    given(&server, "POST", SEND, answer(403, "err_402_credits_a.json")).await;
    given(&server, "POST", "/2/oauth2/token", answer(400, "oauth2_refresh_spent.response.400.json")).await;
    let oauth2 = OAuth2::new("client-id", "canary-refresh")
        .unwrap()
        .client_secret("canary-client")
        .unwrap()
        .access_token("canary-access")
        .unwrap();
    let keys = OAuth1::new("canary-consumer", "canary-secret", "canary-token", "canary-token-secret").unwrap();
    for auth in [civic_messaging::x::Auth::from(oauth2), keys.into()] {
        let config = Config::new(COUNCIL, auth).base_url(&server.uri()).unwrap().bearer("canary-bearer").unwrap();
        let config = config.webhook_secret("canary-webhook").unwrap();
        let mut shown = format!("{config:?}");
        let x = X::direct_messages_with(config, &context()).unwrap();
        let error = x.send_text(&resident(), "canary-text").await.unwrap_err();
        shown += &format!("{x:?} {error:?} {error}");
        let body = fixture("webhook_aaa_dm_media_photo.json");
        let received = x.receive(&post(&mac("canary-webhook", &body), body)).await.unwrap();
        shown += &format!("{received:?} {:?}", x.rate_limits());
        for canary in ["canary", RESIDENT, "Pothole", "resident_one", "1900000000000000900", "ton.twitter.com"] {
            assert!(!shown.contains(canary), "{canary} in {shown}");
        }
    }
}

#[tokio::test]
async fn what_is_left_is_told_with_each_message_by_our_own_clock() {
    let server = MockServer::start().await;
    let x = signed(&server);
    // X's clock is 700 s behind ours.
    let (there, date) = (NOW.as_secs() - 700, NOW.minus(Duration::from_secs(700)));
    let date = httpdate(date);
    let left = |window: i64, day: i64| {
        let answer = answer(201, "v2_send.response.201.json").insert_header("date", date.as_str());
        [
            ("x-rate-limit-limit", 15),
            ("x-rate-limit-remaining", window),
            ("x-rate-limit-reset", there + 600),
            ("x-user-limit-24hour-limit", 1440),
            ("x-user-limit-24hour-remaining", day),
            ("x-user-limit-24hour-reset", there + 7_200),
        ]
        .into_iter()
        .fold(answer, |answer, (name, value)| answer.insert_header(name, value.to_string()))
    };
    for (window, day, limit, remaining, reset) in
        [(14, 900, 15, 14, 600), (3, 2, 1440, 2, 7_200), (0, 0, 1440, 0, 7_200)]
    {
        server.reset().await;
        given(&server, "POST", SEND, left(window, day)).await;
        let quota = x.send_text(&resident(), "Hello").await.unwrap().quota.unwrap();
        assert_eq!((quota.limit, quota.remaining), (Some(limit), remaining));
        assert_eq!(quota.reset, Some(NOW.plus(Duration::from_secs(reset))));
    }
    server.reset().await;
    given(&server, "POST", SEND, answer(201, "v2_send.response.201.json")).await;
    assert_eq!(x.send_text(&resident(), "Hello").await.unwrap().quota, None);
}

fn httpdate(at: Timestamp) -> String {
    let (days, secs) = (at.as_secs().div_euclid(86_400), at.as_secs().rem_euclid(86_400));
    let text = at.to_string();
    let day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days.rem_euclid(7) as usize];
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        [text[5..7].parse::<usize>().unwrap() - 1];
    format!(
        "{day}, {} {month} {} {:02}:{:02}:{:02} GMT",
        &text[8..10],
        &text[..4],
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}
