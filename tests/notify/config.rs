//! Settings.

use super::*;

#[test]
fn invalid_setting_is_named_and_no_secret_is_shown() {
    let config = || notify::Config::new(KEY, TEMPLATE).unwrap();
    let build = |config| Notify::sms_with(config, &Context::new());
    assert!(build(config()).is_ok());
    let mut bad = config();
    bad.template_id = "bins".into();
    assert_eq!(build(bad).unwrap_err().field(), Some("template_id"));
    let mut bad = config();
    bad.body_field = " ".into();
    assert_eq!(build(bad).unwrap_err().field(), Some("body_field"));
    assert_eq!(build(config().sms_sender_id("Shropshire")).unwrap_err().field(), Some("sms_sender_id"));
    assert_eq!(notify::Config::new("", "x").unwrap_err().field(), Some("api_key"));
    assert_eq!(config().callback_token(" ").unwrap_err().field(), Some("callback_tokens"));
    let shown = format!("{:?} {:?}", config(), build(config()).unwrap());
    assert!(!shown.contains("3d844edf") && !shown.contains("my_test_key"), "{shown}");
}

#[cfg(feature = "toml")]
#[tokio::test]
async fn configuration_builds_channel_and_errors_name_field() {
    use civic_messaging::{Registry, Settings};

    let server = MockServer::start().await;
    let full = format!(
        r#"
        gateway = "notify"
        medium = "sms"
        api_key = "{KEY}"
        template_id = "{TEMPLATE}"
        body_field = "words"
        sms_sender_id = "8e222534-7f05-4972-86e3-17c5d9f894e2"
        callback_tokens = ["a-long-bearer-token", {{ secret = "token-of-two", accounts = ["{SERVICE}"] }}]
        key_type = "live"
        unicode = true
        base_url = "{}"
        errors = {{ RateLimitError = {{ kind = "rate_limited", retryable = true, after = 7 }} }}
        "#,
        server.uri()
    );
    let connect = |toml: &str| Registry::standard().connect(&Settings::from_toml(toml).unwrap(), &Context::new());
    let sms = connect(&full).unwrap();
    assert_eq!((sms.info().gateway, sms.info().account.as_str()), ("notify", SERVICE));
    let reply = json!({ "errors": [{ "error": "RateLimitError", "message": "x" }] });
    let answer = ResponseTemplate::new(429).set_body_json(reply);
    let body = json!({
        "phone_number": "+447700900123", "template_id": TEMPLATE, "personalisation": { "words": "Hello" },
        "sms_sender_id": "8e222534-7f05-4972-86e3-17c5d9f894e2",
    });
    let ours = Mock::given(method("POST")).and(header("content-type", "application/json")).and(body_json(body));
    ours.respond_with(answer).mount(&server).await;
    let error = sms.send_text(&Address::phone("07700 900123").unwrap(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    let body = r#"{"id":"m1","status":"delivered"}"#;
    assert_eq!(sms.receive(&callback("token-of-two", body)).await.unwrap().events.len(), 1);

    for (from, to, field) in [
        (r#"medium = "sms""#, r#"medium = "whatsapp""#, "medium"),
        (KEY, "canary-26785a09", "api_key"),
        (TEMPLATE, "canary", "template_id"),
        (r#""live""#, r#""canary""#, "key_type"),
        ("unicode = true", "colour = 1", "colour"),
        ("8e222534", "canary", "sms_sender_id"),
        (&server.uri(), "http://canary.example.org", "base_url"),
    ] {
        let error = connect(&full.replace(from, to)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}
