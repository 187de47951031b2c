//! Sends, and what X says to them.

use super::*;

#[tokio::test]
async fn send_matches_the_recorded_request() {
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
async fn unsupported_message_is_refused_before_the_network() {
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
async fn every_request_has_a_new_valid_signature() {
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
async fn unreadable_acceptance_is_unknown() {
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
async fn quota_is_reported_with_each_message_by_our_clock() {
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
