//! Errors and rate limits.

use super::*;

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
async fn recorded_errors_have_their_kind_and_code() {
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
async fn error_is_read_in_every_shape() {
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
async fn configured_error_code_overrides_the_table() {
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
async fn retry_after_is_measured_by_the_clock_of_x() {
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
async fn rates_of_each_call_are_kept_from_refusals_too() {
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
