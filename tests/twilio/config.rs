//! Health, changes at Twilio, and settings.

use super::*;

#[tokio::test]
async fn health_reports_the_account_state() {
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
async fn messages_are_cancelled_redacted_and_deleted() {
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
fn delivery_status_needs_a_status_callback() {
    let silent = || Config::new(ACCOUNT, TOKEN).unwrap().sender(OURS).unwrap();
    let with_callback = |config: Config| config.status_callback("https://sms.example.gov.uk/status");
    let cases =
        [(silent(), false), (with_callback(silent()), false), (config(), false), (with_callback(config()), true)];
    for (config, reports) in cases {
        let can = Twilio::sms_with(config, &context()).unwrap().info().capability.clone();
        assert_eq!((can.delivery_status, can.look_up), (reports, true));
    }
}

#[test]
fn invalid_settings_are_named() {
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
fn channel_from_configuration_shows_no_secret() {
    let json = json!({
        "gateway": "twilio", "medium": "whatsapp", "account_sid": ACCOUNT, "auth_token": "canary-token-1",
        "api_key": { "sid": "SKffffffffffffffffffffffffffffffff", "secret": "canary-secret-2" }, "from": "+44 7700 900456",
        "public_url": PUBLIC, "status_callback": "https://sms.example.gov.uk/status", "previous_auth_tokens": "canary-token-3",
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
