//! Events and the health of the account.

use super::*;

#[tokio::test]
async fn account_changes_are_events() {
    for (name, topic, state, of, reason) in [
        (
            "account/message_template_status_update_rejected.json",
            Topic::Template,
            "REJECTED",
            Some("bin_day_reminder"),
            Some("INVALID_FORMAT"),
        ),
        (
            "account/message_template_status_update_approved_hyphen_lang.json",
            Topic::Template,
            "APPROVED",
            Some("bin_day_reminder"),
            None,
        ),
        (
            "account/account_update_restriction.json",
            Topic::Restriction,
            "ACCOUNT_RESTRICTION",
            None,
            Some("RESTRICTED_BIZ_INITIATED_MESSAGING"),
        ),
        (
            "account/phone_number_quality_update.json",
            Topic::Quality,
            "THROUGHPUT_UPGRADE",
            None,
            Some("TIER_UNLIMITED"),
        ),
        ("inbound/value_level_errors.json", Topic::Error, "130429", None, Some("")),
    ] {
        let events = events(name).await;
        let [Event::Account(account)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((account.topic, account.state.as_str(), account.name.as_deref()), (topic, state, of), "{name}");
        match reason {
            Some("") => assert!(account.reason.is_some()),
            reason => assert_eq!(account.reason.as_deref(), reason, "{name}"),
        }
    }
    for (name, resume) in
        [("account/user_preferences_stop.json", false), ("account/user_preferences_resume.json", true)]
    {
        let events = events(name).await;
        let [Event::OptOut(opt_out)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((opt_out.scope, opt_out.resume), (OptOutScope::Marketing, resume));
    }
}

#[tokio::test]
async fn health_distinguishes_a_bad_token_from_a_good_one() {
    let server = MockServer::start().await;
    let number = json!({ "id": NUMBER, "quality_rating": "RED" });
    Mock::given(method("GET"))
        .and(path(format!("/v26.0/{NUMBER}")))
        .and(header("authorization", "Bearer EAAG-test-token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(&number))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(401).set_body_bytes(fixture("error/190_token_expired.json")))
        .with_priority(9)
        .mount(&server)
        .await;
    let health = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap().health().await.unwrap();
    assert!(health.is_good());
    assert_eq!(health.check("quality").unwrap().status, civic_messaging::health::CheckStatus::Warn);
    let mut expired = config(&server.uri());
    expired.access_token = Secret::new("expired-token").unwrap();
    assert!(!Meta::whatsapp_with(expired, &Context::new()).unwrap().health().await.unwrap().is_good());
}

/// The account event that one value of a webhook under this field brings.
async fn account_event(field: &str, value: Value) -> civic_messaging::event::Account {
    let entry = json!({ "id": ACCOUNT, "time": 1_795_000_000, "changes": [{ "field": field, "value": value }] });
    let body = json!({ "object": "whatsapp_business_account", "entry": [entry] });
    let received = offline().receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
    let [Event::Account(account)] = received.events.as_slice() else { panic!("{value}: {:?}", received.events) };
    account.clone()
}

#[tokio::test]
async fn account_update_tells_every_restriction_and_its_end() {
    let messaging = json!({ "restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 1_795_600_000 });
    let numbers = json!({ "restriction_type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION", "expiration": "1795700000" });
    let endless = json!({ "restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING" });
    let both = "RESTRICTED_BIZ_INITIATED_MESSAGING, RESTRICTED_ADD_PHONE_NUMBER_ACTION";
    for (info, reason, end) in [
        (json!([messaging]), "RESTRICTED_BIZ_INITIATED_MESSAGING", Some(1_795_600_000)),
        (messaging.clone(), "RESTRICTED_BIZ_INITIATED_MESSAGING", Some(1_795_600_000)),
        (json!([numbers, null]), "RESTRICTED_ADD_PHONE_NUMBER_ACTION", None),
        (json!([messaging, numbers]), both, Some(1_795_700_000)),
        (endless, "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", None),
        (json!({ "restriction_type": "A", "reason": "SPAM" }), "A: SPAM", None),
    ] {
        let account =
            account_event("account_update", json!({ "event": "ACCOUNT_RESTRICTION", "restriction_info": info })).await;
        assert_eq!((account.topic, account.reason.as_deref()), (Topic::Restriction, Some(reason)), "{info}");
        assert_eq!(account.upcoming.and_then(|end| end.at).map(|end| end.as_secs()), end, "{info}");
    }
}

#[tokio::test]
async fn account_update_tells_why_and_which_tier() {
    let tier = json!({ "tier_update_time": 1_795_000_000, "pricing_category": "UTILITY", "tier": "25000:50000",
        "effective_month": "2026-12", "region": "United Kingdom" });
    let failed =
        |reasons: Value| json!({ "status": "FAILED", "client_business_id": "1", "rejection_reasons": reasons });
    for (event, member, info, topic, reason) in [
        (
            "PARTNER_REMOVED",
            "disconnection_info",
            json!({ "reason": "USER_DISCONNECTED", "initiated_by": "USER" }),
            Topic::Access,
            "USER_DISCONNECTED",
        ),
        (
            "VOLUME_BASED_PRICING_TIER_UPDATE",
            "volume_tier_info",
            tier,
            Topic::Information,
            "25000:50000, UTILITY, United Kingdom, 2026-12",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!(["LEGAL_NAME_NOT_FOUND_IN_DOCUMENTS", "ADDRESS_NOT_MATCHING"])),
            Topic::Information,
            "FAILED: LEGAL_NAME_NOT_FOUND_IN_DOCUMENTS, ADDRESS_NOT_MATCHING",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!("ADDRESS_NOT_MATCHING")),
            Topic::Information,
            "FAILED: ADDRESS_NOT_MATCHING",
        ),
        (
            "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE",
            "partner_client_certification_info",
            failed(json!([])),
            Topic::Information,
            "FAILED",
        ),
    ] {
        let account = account_event("account_update", json!({ "event": event, member: info })).await;
        assert_eq!((account.topic, account.reason.as_deref()), (topic, Some(reason)), "{event}");
        assert_eq!((account.state.as_str(), &account.upcoming), (event, &None));
    }
}

#[tokio::test]
async fn template_events_have_id_and_language() {
    let template = |change: Value| {
        let mut template = json!({ "message_template_id": 278_077_987_957_091_u64, "message_template_name": "bin_day",
            "message_template_language": "en-GB" });
        template.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        template
    };
    for (field, change, state, coming) in [
        (
            "message_template_components_update",
            json!({ "message_template_element": "Your bins go out on {{1}}.",
                "message_template_buttons": [{ "message_template_button_type": "QUICK_REPLY" }] }),
            "message_template_components_update",
            None,
        ),
        (
            "template_correct_category_detection",
            json!({ "category": "UTILITY", "correct_category": "MARKETING" }),
            "UTILITY",
            Some("MARKETING"),
        ),
        (
            "template_correct_category_detection",
            json!({ "correct_category": "MARKETING" }),
            "template_correct_category_detection",
            Some("MARKETING"),
        ),
        (
            "template_category_update",
            json!({ "correct_category": "MARKETING", "category_update_timestamp": 1_795_100_000 }),
            "template_category_update",
            Some("MARKETING"),
        ),
    ] {
        let account = account_event(field, template(change)).await;
        assert_eq!((account.topic, account.state.as_str()), (Topic::Template, state), "{field}");
        assert_eq!((account.id.as_deref(), account.language.as_deref()), (Some("278077987957091"), Some("en-GB")));
        assert_eq!(account.name.as_deref(), Some("bin_day"));
        assert_eq!(account.upcoming.map(|coming| coming.state).as_deref(), coming, "{field}");
    }
}
