//! Configuration, and the mock.

use super::*;

#[test]
fn configuration_fits_one_medium() {
    let context = Context::with_transport(civic_messaging::transport::NoTransport);
    let field = |built: Result<Meta, civic_messaging::Error>| {
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.field().unwrap().to_owned()
    };
    let number = || Config::new("EAAG-test-token", "200000000000001").unwrap();
    let messenger = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        field(Meta::messenger_with(config, &context))
    };
    assert_eq!(messenger(|config| config.page_id = None), "page_id");
    assert_eq!(messenger(|config| config.page_id = Some("".into())), "page_id");
    assert_eq!(messenger(|config| config.page_id = Some("ExampleCouncil".into())), "page_id");
    assert_eq!(messenger(|config| config.phone_number_id = Some("200000000000001".into())), "phone_number_id");
    assert_eq!(messenger(|config| config.business_account_id = Some("1".into())), "business_account_id");
    assert_eq!(messenger(|config| config.messaging_account_id = Some("1".into())), "messaging_account_id");
    assert_eq!(messenger(|config| config.version = "26".into()), "version");
    let mut both = number();
    both.page_id = Some(PAGE.into());
    assert_eq!(field(Meta::whatsapp_with(both.clone(), &context)), "page_id");
    assert_eq!(field(Meta::whatsapp_360dialog_with(both, &context)), "page_id");
    assert_eq!(field(Meta::messenger_with(number(), &context)), "phone_number_id");
    assert_eq!(field(Meta::whatsapp_with(config(), &context)), "page_id");
}

#[test]
fn registry_connects_messenger() {
    let context = Context::with_transport(civic_messaging::transport::NoTransport);
    let settings = |medium: &str, gateway: &str| {
        let json = json!({ "gateway": gateway, "medium": medium, "access_token": "EAAG-page-token", "page_id": PAGE });
        Settings::from_json(&json.to_string()).unwrap()
    };
    let channel = Registry::standard().connect(&settings("messenger", "meta"), &context).unwrap();
    let info = channel.info();
    assert_eq!((info.gateway, info.medium.as_str(), info.account.as_str()), ("meta", "messenger", PAGE));
    // No secret, no webhooks.
    assert!(!info.capability.receive && !info.capability.health && !info.capability.upload_media);
    for (medium, gateway, field) in
        [("whatsapp", "meta", "page_id"), ("x", "meta", "medium"), ("messenger", "360dialog", "medium")]
    {
        let error = Registry::standard().connect(&settings(medium, gateway), &context).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
    }
}

#[tokio::test]
async fn mock_has_the_limits_of_messenger() {
    let mock = civic_messaging::Mock::messenger();
    let (can, real) = (&mock.info().capability, offline());
    let real = &real.info().capability;
    assert_eq!((can.text, &can.media, can.choice), (real.text, &real.media, real.choice));
    assert_eq!((can.link, can.template, can.location, can.conversation), (None, None, false, false));
    assert_eq!(mock.send_text(&person(), "a".repeat(2_001)).await.unwrap_err().field(), Some("text"));
    let webhook = mock.arrives(PERSON, "When is my bin day?");
    let events = mock.receive(&webhook).await.unwrap().events;
    mock.reply(inbound(&events), "On Tuesday.").await.unwrap();
    mock.assert_sent(PERSON, "On Tuesday.");
}
