//! Regression tests of webhooks that were once read wrongly.

use civic_messaging::adapter::OAuth1;
use civic_messaging::event::{Account, InboundContent, OptOut, Selection, Topic, Unrecognised, Upcoming};
use civic_messaging::transport::NoTransport;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Address, Channel, Context, Event, Inbound, Meta, Timestamp, X, meta, x};

use super::support::{mac, signed_by_meta};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn case(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/cases/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn context() -> Context {
    Context::with_transport(NoTransport)
}

/// Receives a WhatsApp webhook with the number that it names.
async fn whatsapp(name: &str) -> Received {
    let body = case(name);
    let text = String::from_utf8_lossy(&body).into_owned();
    let id = |after: &str| text.split(after).nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let number = id(r#""phone_number_id":""#).unwrap_or_else(|| "200000000000001".to_owned());
    let mut config = meta::Config::new("EAAG-system-user-token", number).unwrap().app_secret(SECRET).unwrap();
    config.business_account_id = id(r#""entry":[{"id":""#).map(Into::into);
    Meta::whatsapp_with(config, &context()).unwrap().receive(&signed_by_meta(SECRET, body)).await.unwrap()
}

async fn messenger(name: &str) -> Received {
    let config = meta::Config::for_page("EAAG-page-token", "7000000000000001").unwrap().app_secret(SECRET).unwrap();
    Meta::messenger_with(config, &context()).unwrap().receive(&signed_by_meta(SECRET, case(name))).await.unwrap()
}

fn inbound(received: &Received) -> Vec<&Inbound> {
    received.events.iter().filter_map(Event::as_inbound).collect()
}

fn texts(received: &Received) -> Vec<&str> {
    inbound(received).into_iter().filter_map(Inbound::text).collect()
}

fn opt_outs(received: &Received) -> Vec<&OptOut> {
    let mut found = Vec::new();
    for event in &received.events {
        found.extend(if let Event::OptOut(opt_out) = event { Some(opt_out) } else { None });
    }
    found
}

fn unrecognised(received: &Received) -> Vec<&Unrecognised> {
    let mut found = Vec::new();
    for event in &received.events {
        found.extend(if let Event::Unrecognised(one) = event { Some(one) } else { None });
    }
    found
}

fn account(received: &Received) -> &Account {
    let [Event::Account(account)] = &received.events[..] else { panic!("{:?}", received.events) };
    account
}

#[tokio::test]
async fn lone_surrogate_in_name_keeps_message() {
    let received = whatsapp("meta/profile_name_half_emoji.json").await;
    assert_eq!(texts(&received), ["My bin was missed", "STOP"]);
    let people = inbound(&received);
    assert_eq!(people[0].profile.name.as_deref(), Some("Jo \u{FFFD}"));
    assert_eq!(opt_outs(&received).iter().map(|one| &one.from).collect::<Vec<_>>(), [&people[1].from]);
}

#[tokio::test]
async fn lone_surrogate_in_text_keeps_text() {
    let received = whatsapp("meta/text_half_emoji.json").await;
    assert_eq!(texts(&received), ["Bin not emptied \u{FFFD}", "and the glass box"]);
}

#[tokio::test]
async fn malformed_neighbour_keeps_stop() {
    for name in ["meta/errors_null_beside_stop.json", "meta/contacts_object_beside_stop.json"] {
        let received = whatsapp(name).await;
        assert_eq!((texts(&received), opt_outs(&received).len()), (vec!["STOP"], 1), "{name}");
        assert_eq!(unrecognised(&received).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn flow_alert_is_an_account_event() {
    let received = whatsapp("meta/flow_alert_beside_message.json").await;
    let [Event::Account(alert), Event::Inbound(text)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!((alert.state.as_str(), alert.id.as_deref()), ("CLIENT_ERROR_RATE", Some("691244242662581")));
    assert_eq!(text.text(), Some("There is a gas smell in Mill Lane"));
}

#[tokio::test]
async fn standby_and_history_are_kept_but_not_answerable() {
    let standby = whatsapp("meta/standby_message.json").await;
    assert_eq!(texts(&standby), ["There is a gas smell in Mill Lane"]);
    assert!(inbound(&standby)[0].standby && standby.answerable().next().is_none());

    let history = whatsapp("meta/history_media.json").await;
    let photo = inbound(&history)[0];
    assert!(photo.history && history.answerable().next().is_none());
    assert_eq!(photo.envelope.at, Timestamp::from_secs(1_738_796_547));
    assert_eq!(photo.media().len(), 1);
}

#[tokio::test]
async fn cancel_button_is_a_selection_not_an_opt_out() {
    let button = whatsapp("meta/button_cancel.json").await;
    let quick_reply = messenger("messenger/quick_reply_cancel.json").await;
    for (received, id) in [(button, "appointment-17-no"), (quick_reply, "cancel")] {
        let chosen = Selection { id: id.to_owned(), title: "Cancel".to_owned() };
        assert_eq!(inbound(&received)[0].content, InboundContent::Selection(chosen));
        assert_eq!((received.events.len(), received.answerable().count()), (1, 1));
    }
}

#[tokio::test]
async fn message_edited_to_stop_is_an_opt_out() {
    let received = whatsapp("meta/edited_to_stop.json").await;
    assert!(
        matches!(&inbound(&received)[0].content, InboundContent::Edited { id, .. } if id.as_str() == "wamid.CASE_1")
    );
    assert_eq!(opt_outs(&received).len(), 1);
}

#[tokio::test]
async fn lifted_ban_is_reported_as_lifted() {
    let received = whatsapp("meta/ban_reinstated.json").await;
    let ban = account(&received);
    assert_eq!((ban.topic, ban.state.as_str()), (Topic::Reinstatement, "DISABLED_UPDATE"));
    assert_eq!(ban.reason.as_deref(), Some("REINSTATE"));
}

#[tokio::test]
async fn future_template_category_differs_from_current_one() {
    let received = whatsapp("meta/template_category_coming.json").await;
    let template = account(&received);
    assert_eq!((template.topic, template.state.as_str()), (Topic::Template, "UTILITY"));
    let coming = Upcoming::new("MARKETING", Some(Timestamp::from_secs(1_795_100_000)));
    assert_eq!(template.upcoming, Some(coming));
    assert_eq!(
        (template.name.as_deref(), template.language.as_deref(), template.id.as_deref()),
        (Some("bin_day"), Some("en_GB"), Some("1"))
    );
}

#[tokio::test]
async fn account_verification_is_not_a_restriction() {
    let received = whatsapp("meta/account_verified.json").await;
    assert_eq!(account(&received).topic, Topic::Information);
}

#[tokio::test]
async fn call_status_is_not_a_delivery() {
    let received = whatsapp("meta/call_status.json").await;
    let [Event::Unrecognised(call)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!(call.what, "calls");
}

#[tokio::test]
async fn sole_contact_is_sender_if_message_names_none() {
    let received = whatsapp("meta/sender_only_in_contacts.json").await;
    assert_eq!(inbound(&received)[0].from.expose(), "GB.123456");
}

#[tokio::test]
async fn reply_typed_in_phone_app_is_an_echo() {
    let received = whatsapp("meta/phone_app_echo.json").await;
    let echo = inbound(&received)[0];
    assert!(echo.echo && received.answerable().next().is_none());
    assert_eq!(echo.to, Some(Address::whatsapp("+447700900123").unwrap()));
}

#[tokio::test]
async fn postback_without_id_gets_a_stable_id() {
    let [first, again] = [
        messenger("messenger/postback_without_mid.json").await,
        messenger("messenger/postback_without_mid.json").await,
    ];
    let tap = inbound(&first)[0];
    let chosen = Selection { id: "REPORT".to_owned(), title: "Report a problem".to_owned() };
    assert_eq!(tap.content, InboundContent::Selection(chosen));
    assert_eq!(tap.id.as_str(), "postback/6000000000000001/1795000000000");
    assert_eq!(first.events[0].id(), again.events[0].id());
}

#[tokio::test]
async fn time_in_seconds_is_not_read_as_milliseconds() {
    let received = messenger("messenger/timestamp_in_seconds.json").await;
    assert_eq!(received.events[0].envelope().at, Timestamp::from_secs(1_795_000_000));
}

#[tokio::test]
async fn location_beside_image_is_kept() {
    let received = messenger("messenger/image_and_location.json").await;
    let [image, place] = &inbound(&received)[..] else { panic!("{:?}", received.events) };
    assert_eq!(image.media().len(), 1);
    assert!(
        matches!(&place.content, InboundContent::Location(place) if (place.latitude, place.longitude) == (52.3, -2.7))
    );
    assert_eq!(image.id, place.id);
    assert_ne!(received.events[0].id(), received.events[1].id());
}

#[tokio::test]
async fn messenger_edit_has_its_own_id() {
    let received = messenger("messenger/message_edit.json").await;
    let edit = inbound(&received)[0];
    assert_eq!(edit.text(), Some("new words"));
    assert!(matches!(&edit.content, InboundContent::Edited { id, .. } if id.as_str() == "m_1"));
    assert!(received.events[0].id().ends_with("/inbound/m_1/edit/1"));
}

#[tokio::test]
async fn encrypted_message_keeps_its_conversation() {
    let keys = OAuth1::new("consumer-key", SECRET, "access-token", "access-token-secret").unwrap();
    let config = x::Config::new("1900000000000000202", keys);
    let x = X::direct_messages_with(config, &context()).unwrap();
    let post = |body: Vec<u8>| -> Request {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let signature = format!("sha256={}", BASE64_STANDARD.encode(mac(SECRET, &body)));
        http::Request::post("/").header("x-twitter-webhooks-signature", signature).body(body).unwrap().into()
    };
    let received = x.receive(&post(case("x/chat_received_group.json"))).await.unwrap();
    let group = inbound(&received)[0];
    assert_eq!((&group.content, group.id.as_str()), (&InboundContent::Encrypted, "e1"));
    assert_eq!(group.envelope.conversation.as_ref().map(Address::expose), Some("g1900000000000000999"));
    // Without a filter and an id: the recipient comes from the conversation of two, and the id from the event.
    let short = r#"{"data":{"event_type":"chat.received","event_uuid":"u1","payload":{"conversation_id":
        "1900000000000000101-1900000000000000202","sender_id":"1900000000000000101","encoded_event":"B64"}}}"#;
    let received = x.receive(&post(short.into())).await.unwrap();
    let message = inbound(&received)[0];
    assert_eq!((message.id.as_str(), message.from.expose()), ("u1", "1900000000000000101"));
    let elsewhere = short.replace("1900000000000000202", "1900000000000000303");
    let received = x.receive(&post(elsewhere.into())).await.unwrap();
    assert_eq!((received.events.len(), received.discarded_events()), (0, 1));
}

/// Receives a WhatsApp webhook with one value for this field.
async fn value(field: &str, value: serde_json::Value) -> Received {
    let entry = serde_json::json!({ "id": "300000000000001", "time": 1_795_000_000, "changes": [{ "field": field, "value": value }] });
    let body = serde_json::json!({ "object": "whatsapp_business_account", "entry": [entry] });
    let mut config = meta::Config::new("EAAG-token-1", "200000000000001").unwrap().app_secret(SECRET).unwrap();
    config.business_account_id = Some("300000000000001".into());
    let channel = Meta::whatsapp_with(config, &context()).unwrap();
    channel.receive(&signed_by_meta(SECRET, body.to_string().into_bytes())).await.unwrap()
}

async fn message(mut message: serde_json::Value) -> Received {
    for (name, text) in [("from", "447700900123"), ("id", "wamid.1"), ("timestamp", "1795000000")] {
        message.as_object_mut().unwrap().entry(name).or_insert(text.into());
    }
    let metadata = serde_json::json!({ "phone_number_id": "200000000000001" });
    value("messages", serde_json::json!({ "metadata": metadata, "messages": [message] })).await
}

async fn item(name: &str, what: serde_json::Value) -> Received {
    let item = serde_json::json!({ "sender": { "id": "6000000000000001" }, "recipient": { "id": "7000000000000001" },
        "timestamp": 1_795_000_000_000_i64, name: what });
    let entry = serde_json::json!({ "id": "7000000000000001", "time": 1_795_000_000_500_i64, "messaging": [item] });
    let body = serde_json::json!({ "object": "page", "entry": [entry] }).to_string();
    let config = meta::Config::for_page("EAAG-page-token", "7000000000000001").unwrap().app_secret(SECRET).unwrap();
    Meta::messenger_with(config, &context()).unwrap().receive(&signed_by_meta(SECRET, body.into_bytes())).await.unwrap()
}

#[tokio::test]
async fn account_update_states_its_restriction() {
    use serde_json::json;
    for (update, topic, reason) in [
        (
            json!({ "event": "DISABLED_UPDATE", "ban_info": { "waba_ban_state": "DISABLE" } }),
            Topic::Restriction,
            Some("DISABLE"),
        ),
        (
            json!({ "event": "DISABLED_UPDATE", "ban_info": { "waba_ban_state": "SCHEDULE_FOR_DISABLE" } }),
            Topic::Restriction,
            Some("SCHEDULE_FOR_DISABLE"),
        ),
        (
            json!({ "event": "ACCOUNT_VIOLATION", "violation_info": { "violation_type": "SCAM" } }),
            Topic::Restriction,
            Some("SCAM"),
        ),
        (
            json!({ "event": "ACCOUNT_RESTRICTION", "restriction_info": [{ "restriction_type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION" }] }),
            Topic::Restriction,
            Some("RESTRICTED_ADD_PHONE_NUMBER_ACTION"),
        ),
        (json!({ "event": "ACCOUNT_DELETED" }), Topic::Access, None),
        (json!({ "event": "PARTNER_REMOVED", "waba_info": { "waba_id": "1" } }), Topic::Access, None),
        (json!({ "event": "AD_ACCOUNT_LINKED" }), Topic::Information, None),
        (
            json!({ "event": "BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE", "country": "GB" }),
            Topic::Information,
            Some("GB"),
        ),
        (
            json!({ "event": "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE", "partner_client_certification_info": { "status": "FAILED" } }),
            Topic::Information,
            Some("FAILED"),
        ),
        (json!({ "event": "SOMETHING_OF_TOMORROW" }), Topic::Information, None),
    ] {
        let received = value("account_update", update.clone()).await;
        let event = account(&received);
        assert_eq!((event.topic, event.reason.as_deref()), (topic, reason), "{update}");
        assert_eq!(event.state, update["event"].as_str().unwrap());
    }
}

#[tokio::test]
async fn account_alert_is_read_nested_and_flat() {
    use serde_json::json;
    let alert = json!({ "alert_severity": "WARNING", "alert_type": "INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED",
        "alert_description": "Limits cannot be increased." });
    for update in [json!({ "entity_type": "BUSINESS", "entity_id": "5", "alert_info": alert }), alert.clone()] {
        let received = value("account_alerts", update).await;
        let event = account(&received);
        assert_eq!((event.topic, event.state.as_str()), (Topic::Limit, "INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED"));
        assert_eq!(event.reason.as_deref(), Some("Limits cannot be increased."));
    }
    let lost = value("account_alerts", json!({ "alert_info": { "alert_type": "PROFILE_PICTURE_LOST" } })).await;
    assert_eq!(account(&lost).topic, Topic::Information);
}

#[tokio::test]
async fn account_event_id_depends_on_its_time() {
    use serde_json::json;
    let config = || meta::Config::new("EAAG-token-1", "200000000000001").unwrap().app_secret(SECRET).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for time in [1_795_000_000, 1_795_000_000, 1_796_000_000] {
        let entry = json!({ "id": "300000000000001", "time": time, "changes": [
            { "field": "account_update", "value": { "event": "DISABLED_UPDATE", "ban_info": { "waba_ban_state": "DISABLE" } } },
        ] });
        let body = json!({ "object": "whatsapp_business_account", "entry": [entry] }).to_string();
        let mut config = config();
        config.business_account_id = Some("300000000000001".into());
        let channel = Meta::whatsapp_with(config, &context()).unwrap();
        ids.insert(channel.receive(&signed_by_meta(SECRET, body.into_bytes())).await.unwrap().events[0].id());
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn history_thread_has_both_sides() {
    use serde_json::json;
    let text = |from: &str, id: &str| json!({ "from": from, "id": id, "timestamp": "1738796547", "type": "text", "text": { "body": "STOP" } });
    let received = value(
        "history",
        json!({
            "metadata": { "display_phone_number": "441743000000", "phone_number_id": "200000000000001" },
            "history": [{ "metadata": { "phase": 0 }, "threads": [{ "id": "447700900123", "messages": [
                text("447700900123", "wamid.1"), text("441743000000", "wamid.2"),
            ] }] }],
        }),
    )
    .await;
    let [theirs, ours] = inbound(&received)[..] else { panic!("{:?}", received.events) };
    assert_eq!((theirs.echo, ours.echo, theirs.history && ours.history), (false, true, true));
    assert_eq!(ours.to, Some(Address::whatsapp("+447700900123").unwrap()));
    assert_eq!((opt_outs(&received).len(), received.answerable().count()), (0, 0));
}

#[tokio::test]
async fn meta_fields_beside_a_message_are_kept() {
    use serde_json::json;
    let card = json!({ "type": "contacts", "contacts": [{ "vcard":
        "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Town Hall\r\nORG:Shropshire Council\r\nitem1.TEL;type=WORK:+44 345 678 9000\r\nEND:VCARD" }] });
    let received = message(card).await;
    let InboundContent::Contacts(cards) = &inbound(&received)[0].content else { panic!() };
    assert_eq!((cards[0].name.as_str(), cards[0].organisation.as_deref()), ("Town Hall", Some("Shropshire Council")));
    assert_eq!(cards[0].phones[0].value, "+44 345 678 9000");

    let referral =
        json!({ "source_url": "https://fb.me/1", "source_type": "ad", "source_id": "17", "headline": "Bin days" });
    let received = message(json!({ "type": "text", "text": { "body": "Hello" }, "referral": referral })).await;
    let referral = inbound(&received)[0].referral.as_ref().unwrap();
    assert_eq!((referral.source.as_deref(), referral.text.as_deref()), (Some("ad"), Some("Bin days")));

    let unsupported = json!({ "type": "unsupported", "errors": [{ "code": 131_060, "title": "t" }] });
    let received = message(unsupported).await;
    let code = InboundContent::Unsupported { kind: None, code: Some("131060".to_owned()) };
    assert_eq!(inbound(&received)[0].content, code);

    for kind in ["user_changed_number", "customer_changed_number"] {
        let system = json!({ "type": kind, "body": "b", "new_wa_id": "447700900789" });
        let received = message(json!({ "type": "system", "system": system })).await;
        let [Event::AddressChanged(changed)] = &received.events[..] else { panic!("{:?}", received.events) };
        assert_eq!(changed.current, Address::whatsapp("+447700900789").unwrap());
    }

    let received = message(json!({ "timestamp": "1795000000123", "type": "text", "text": { "body": "Hello" } })).await;
    assert_eq!(received.events[0].envelope().at, Timestamp::from_millis(1_795_000_000_123));
}

#[tokio::test]
async fn number_and_user_id_of_a_message_are_linked() {
    use serde_json::json;
    let received = value("messages", json!({
        "metadata": { "phone_number_id": "200000000000001" },
        "contacts": [{ "wa_id": "447700900123", "user_id": "GB.1349", "profile": { "name": "A" } }],
        "messages": [{ "from": "447700900123", "id": "wamid.1", "timestamp": "1795000000", "type": "text", "text": { "body": "STOP" } }],
    }))
    .await;
    let from = &inbound(&received)[0].from;
    assert_eq!((from.expose(), from.as_phone().unwrap().as_str()), ("GB.1349", "+447700900123"));
    assert_eq!(&opt_outs(&received)[0].from, from);
}

#[tokio::test]
async fn messenger_keeps_every_part_of_an_item() {
    use serde_json::json;
    let received = item("postback", json!({ "mid": "m_1", "title": "Get started" })).await;
    let chosen = Selection { id: "Get started".to_owned(), title: "Get started".to_owned() };
    assert_eq!(inbound(&received)[0].content, InboundContent::Selection(chosen));

    let referral = json!({ "ref": "poster-17", "source": "SHORTLINK", "type": "OPEN_THREAD" });
    let received = item("referral", referral.clone()).await;
    let opened = inbound(&received)[0];
    assert_eq!(
        (&opened.content, opened.referral.as_ref().unwrap().text.as_deref()),
        (&InboundContent::Opened, Some("poster-17"))
    );
    assert_eq!(received.answerable().count(), 0);
    let postback = json!({ "mid": "m_1", "title": "Start", "payload": "START", "referral": referral });
    assert!(inbound(&item("postback", postback).await)[0].referral.is_some());

    let deleted = item("message", json!({ "mid": "m_1", "is_deleted": true })).await;
    assert_eq!(inbound(&deleted)[0].content, InboundContent::Withdrawn("m_1".into()));

    for kind in ["reel", "ig_reel", "post", "fallback", "share"] {
        let attachment =
            json!({ "type": kind, "payload": { "title": "Bin days", "url": "https://www.facebook.com/reel/1" } });
        let received = item("message", json!({ "mid": "m_1", "attachments": [attachment] })).await;
        let link = InboundContent::Link {
            title: Some("Bin days".to_owned()),
            url: "https://www.facebook.com/reel/1".to_owned(),
        };
        assert_eq!(inbound(&received)[0].content, link, "{kind}");
    }
}
