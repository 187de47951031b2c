//! Health checks.

use super::*;

/// Responds to the three calls of `health`.
async fn healthy(server: &MockServer, template: Value, delivered: Value, preview: &str) {
    server.reset().await;
    let answer = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let template_path = format!("/v2/template/{TEMPLATE}");
    let preview_path = format!("{template_path}/preview");
    let list = Mock::given(path("/v2/notifications")).and(query_param("status", "delivered"));
    Mock::given(method("GET")).and(path(template_path)).respond_with(answer(template)).mount(server).await;
    list.respond_with(answer(json!({ "notifications": delivered }))).mount(server).await;
    let body = json!({ "personalisation": { "body": "😀" } });
    let expected = Mock::given(method("POST")).and(path(preview_path)).and(body_json(body));
    expected.respond_with(answer(json!({ "body": preview, "type": "sms" }))).mount(server).await;
}

#[tokio::test]
async fn health_distinguishes_proven_from_declared() {
    let (server, clock, _) = channel().await;
    let good = json!({ "type": "sms", "body": "((body))", "personalisation": { "body": { "required": true } } });
    let billed = |n: u8| json!([{ "id": "a", "status": "delivered", "cost_details": { "billable_sms_fragments": n } }]);
    let unready = json!([{ "id": "a", "status": "delivered", "is_cost_data_ready": false, "cost_details": {} }]);
    for (declared, delivered, status) in [
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
        assert_eq!(health.check("key").unwrap().status, status, "{declared:?} {delivered}");
        assert_eq!(health.is_good(), status != CheckStatus::Fail);
        let words = &health.check("key").unwrap().detail;
        assert!(declared.is_none() || words.starts_with("declared "), "{words}");
        // Nothing is sent by any call.
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|r| r.method.as_str() == "GET" || r.url.path().ends_with("/preview")));
    }
    for (unicode, preview, status) in [
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
        assert_eq!(health.check("characters").unwrap().status, status, "{unicode} {preview}");
        assert_eq!(health.check("webhook").unwrap().status, CheckStatus::Unknown);
    }
    let mut deaf = config(&server);
    deaf.callback_tokens.clear();
    assert_eq!(with(deaf, &clock).health().await.unwrap().check("webhook").unwrap().status, CheckStatus::Warn);
}

#[tokio::test]
async fn health_detects_wrong_template_and_key() {
    let (server, _, notify) = channel().await;
    let field = json!({ "required": true });
    for (template, status) in [
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
        assert_eq!(health.check("template").unwrap().status, status, "{template}");
    }
    let reply = |words: &str| json!({ "status_code": 0, "errors": [{ "error": "AuthError", "message": words }] });
    for (status, words, hint) in [
        (403, "Error: Your system clock must be accurate to within 30 seconds", "clock"),
        (403, "Invalid token: API key not found", "key"),
        (403, "Invalid token: service not found", "service"),
        (401, "Unauthorized: authentication token must be provided", "key"),
    ] {
        answers(&server, status, &reply(words)).await;
        let health = notify.health().await.unwrap();
        let check = health.check("credentials").unwrap();
        assert_eq!((check.status, health.checks.len()), (CheckStatus::Fail, 1));
        assert!(check.detail.contains(hint), "{}", check.detail);
    }
    for status in [400, 404] {
        answers(&server, status, &reply("No result found")).await;
        let health = notify.health().await.unwrap();
        assert_eq!(health.check("credentials").unwrap().status, CheckStatus::Pass);
        assert_eq!(health.check("template").unwrap().status, CheckStatus::Fail);
    }
    answers(&server, 503, &json!(null)).await;
    assert_eq!(notify.health().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
