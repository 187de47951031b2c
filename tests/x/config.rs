//! Configuration, and what of it is shown.

use super::*;

#[cfg(feature = "toml")]
#[test]
fn configuration_builds_channel_with_either_credential() {
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
async fn debug_shows_nothing_secret_or_personal() {
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
