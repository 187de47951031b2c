//! Inbound messages of each kind.

use super::*;

#[tokio::test]
async fn inbound_text_has_its_sender_and_profile() {
    let cases = [
        ("inbound/text.json", Some("+447700900123"), Some("GB.10000000000000000001"), "When is my bin collected?"),
        ("inbound/text_legacy_no_bsuid.json", Some("+447700900123"), None, "Pre-April-2026 shape"),
        ("inbound/text_bsuid_only.json", None, Some("GB.10000000000000000001"), "My number is hidden"),
        ("inbound/text_bsuid_in_from_defensive.json", None, Some("GB.10000000000000000001"), "from carries a BSUID"),
        (
            "inbound/text_username_and_phone.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Username set, number still shared",
        ),
        (
            "inbound/text_ad_referral.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Can I get more info?",
        ),
        (
            "inbound/text_product_inquiry_context.json",
            Some("+447700900123"),
            Some("GB.10000000000000000001"),
            "Is this available?",
        ),
    ];
    for (name, phone, user_id, text) in cases {
        let inbound = only_inbound(name).await;
        let Address::WhatsApp(user) = &inbound.from else { panic!("{name}") };
        assert_eq!((user.phone().map(|p| p.as_str()), user.user_id()), (phone, user_id), "{name}");
        assert_eq!(inbound.text(), Some(text), "{name}");
        assert_eq!(inbound.profile.name.as_deref(), Some("Alex Resident"), "{name}");
        assert!(!inbound.echo && !inbound.forwarded);
    }
    let first = only_inbound("inbound/text.json").await;
    assert_eq!(first.envelope.at, Timestamp::from_secs(1_795_000_001));
    assert_eq!(first.id.as_str(), "wamid.FIXTURE_IN_0001");
    assert_eq!(only_inbound("inbound/text_bsuid_only.json").await.profile.handle.as_deref(), Some("alex.resident"));
    let reply = only_inbound("inbound/text_reply_context.json").await;
    assert_eq!(reply.reply_to.unwrap().as_str(), "wamid.FIXTURE_OUT_0001");
    for name in ["inbound/text_forwarded.json", "inbound/text_frequently_forwarded.json"] {
        let forwarded = only_inbound(name).await;
        assert!(forwarded.forwarded && forwarded.reply_to.is_none());
    }
    let group = only_inbound("inbound/text_group.json").await;
    assert!(matches!(group.reply_address(), Address::Conversation(c) if c.id() == "Z3JvdXAtZml4dHVyZQ"));
}

#[tokio::test]
async fn inbound_file_has_its_type_digest_and_expiry() {
    let cases = [
        ("inbound/image_caption.json", "image/jpeg", Some("Fly-tipping on Mill Lane"), true),
        ("inbound/image_no_url.json", "image/jpeg", None, false),
        ("inbound/audio_voice_note.json", "audio/ogg; codecs=opus", None, false),
        ("inbound/audio_file.json", "audio/mpeg", None, false),
        ("inbound/video.json", "video/mp4", Some("pothole"), false),
        ("inbound/document.json", "application/pdf", Some("proof of address"), false),
        ("inbound/sticker.json", "image/webp", None, false),
    ];
    for (name, mime, caption, url) in cases {
        let inbound = only_inbound(name).await;
        let [media] = inbound.media() else { panic!("{name}") };
        assert_eq!((media.mime.as_deref(), inbound.text(), media.url.is_some()), (Some(mime), caption, url), "{name}");
        assert!(media.sha256.is_some(), "{name}");
        assert_eq!(media.expires.unwrap().since(inbound.envelope.at).as_secs(), 7 * 24 * 3600);
    }
    let document = only_inbound("inbound/document.json").await;
    assert_eq!(document.media()[0].filename.as_deref(), Some("bill.pdf"));
}

#[tokio::test]
async fn inbound_content_has_its_type() {
    let content = async |name: &str| only_inbound(name).await.content;
    for (name, label) in [("inbound/location_full.json", Some("Town Hall")), ("inbound/location_bare.json", None)] {
        let InboundContent::Location(place) = content(name).await else { panic!("{name}") };
        assert_eq!((place.latitude, place.longitude, place.name.as_deref()), (51.50072, -0.12462, label));
    }
    for (name, card, phone) in [
        ("inbound/contacts_shared.json", "Sam Neighbour", "+44 7700 900456"),
        ("inbound/contacts_request_contact_info_answer.json", "", "+447700900123"),
    ] {
        let InboundContent::Contacts(cards) = content(name).await else { panic!("{name}") };
        assert_eq!((cards[0].name.as_str(), cards[0].phones[0].value.as_str()), (card, phone));
    }
    for (name, id, title) in [
        ("inbound/interactive_button_reply.json", "confirm", "Confirm"),
        ("inbound/interactive_list_reply.json", "slot-1", "Mon 9am"),
    ] {
        let InboundContent::Selection(chosen) = content(name).await else { panic!("{name}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title));
    }
    for (name, form) in [
        ("inbound/interactive_nfm_reply_flow.json", r#"{"flow_token": "tok-1", "rating": "4"}"#),
        ("inbound/interactive_nfm_reply_array_json.json", r#"["not","an","object"]"#),
    ] {
        assert_eq!(content(name).await, InboundContent::Form(form.into()));
    }
    for (name, emoji) in [
        ("inbound/reaction.json", Some("👍")),
        ("inbound/reaction_removed_no_emoji.json", None),
        ("inbound/reaction_removed_empty_emoji.json", None),
    ] {
        let expected = InboundContent::Reaction { to: "wamid.FIXTURE_OUT_0001".into(), emoji: emoji.map(Into::into) };
        assert_eq!(content(name).await, expected, "{name}");
    }
    let InboundContent::Order(order) = content("inbound/order.json").await else { panic!() };
    assert!(order.contains("bin-240l"));
    let InboundContent::Edited { id, content: now } = content("inbound/edit_text.json").await else { panic!() };
    assert_eq!(id.as_str(), "wamid.FIXTURE_IN_0001");
    assert_eq!(*now, InboundContent::Text("When is my brown bin collected?".into()));
    assert_eq!(content("inbound/revoke.json").await, InboundContent::Withdrawn("wamid.FIXTURE_IN_0001".into()));
    assert_eq!(
        content("inbound/unsupported.json").await,
        InboundContent::Unsupported { kind: None, code: Some("131051".into()) }
    );
    let poll = content("inbound/unsupported_with_type.json").await;
    assert_eq!(poll, InboundContent::Unsupported { kind: Some("poll_creation".into()), code: Some("131051".into()) });
    let notice = content("inbound/system_customer_identity_changed.json").await;
    assert_eq!(notice, InboundContent::System("User identity changed".into()));
}

#[tokio::test]
async fn button_that_cancels_is_a_selection_to_answer() {
    let mut body = json_fixture("inbound/interactive_button_reply.json");
    for (id, title) in [("appointment-17-no", "Cancel"), ("stop", "No"), ("1", "Remove"), ("1", "Start")] {
        let message = body.pointer_mut("/entry/0/changes/0/value/messages/0/interactive/button_reply").unwrap();
        *message = serde_json::json!({ "id": id, "title": title });
        let received = offline().receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
        let [Event::Inbound(inbound)] = received.events.as_slice() else { panic!("{title}: {:?}", received.events) };
        assert_eq!(inbound.text(), Some(title));
        assert_eq!(received.answerable().count(), 1, "{title}");
    }
}

#[tokio::test]
async fn stop_in_an_edit_or_a_caption_is_an_opt_out() {
    for (name, at) in [
        ("inbound/edit_text.json", "/entry/0/changes/0/value/messages/0/edit/message/text/body"),
        ("inbound/image_caption.json", "/entry/0/changes/0/value/messages/0/image/caption"),
    ] {
        let mut body = json_fixture(name);
        *body.pointer_mut(at).unwrap() = "STOP".into();
        let received = offline().receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
        let [Event::Inbound(inbound), Event::OptOut(opt_out)] = received.events.as_slice() else { panic!("{name}") };
        assert_eq!((opt_out.inbound.as_ref(), opt_out.resume), (Some(&inbound.id), false), "{name}");
        assert_eq!(received.answerable().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn stop_button_is_an_opt_out() {
    for name in ["inbound/button_template_quick_reply.json", "inbound/button_without_context.json"] {
        let events = events(name).await;
        let [Event::Inbound(inbound), Event::OptOut(opt_out)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!(inbound.text(), Some("Stop messages"));
        assert_eq!((opt_out.scope, opt_out.resume), (OptOutScope::All, false));
        assert_eq!(opt_out.inbound.as_ref(), Some(&inbound.id));
    }
}

#[tokio::test]
async fn changed_number_has_previous_and_current_address() {
    let user = |phone: Option<&str>, id: &str| {
        Address::from(civic_messaging::address::WhatsAppUser::new(phone.map(|p| p.parse().unwrap()), Some(id)).unwrap())
    };
    let (before, after) = ("GB.10000000000000000001", "GB.10000000000000000009");
    for (name, previous, current) in [
        (
            "inbound/system_user_changed_number.json",
            user(Some("07700900123"), before),
            user(Some("07700900789"), after),
        ),
        ("inbound/system_user_changed_user_id.json", user(None, before), user(None, after)),
    ] {
        let events = events(name).await;
        let [Event::AddressChanged(changed)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((&changed.previous, &changed.current), (&previous, &current), "{name}");
    }
}

#[tokio::test]
async fn unknown_webhooks_are_kept_whole() {
    let unknown = events("inbound/unknown_future_type.json").await;
    let [Event::Unrecognised(unrecognised)] = unknown.as_slice() else { panic!("{unknown:?}") };
    assert_eq!(unrecognised.what, "messages.hologram");
    assert!(unrecognised.from.as_ref().unwrap().as_phone().is_some());
    assert!(String::from_utf8_lossy(unrecognised.envelope.raw.as_bytes()).contains("frames"));

    let events = events("inbound/interactive_without_payload_plus_value_error.json").await;
    let [Event::Inbound(inbound), Event::Account(error)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(inbound.content, InboundContent::unsupported(Some("interactive")));
    assert_eq!((error.topic, error.state.as_str()), (Topic::Error, "131000"));
}

#[tokio::test]
async fn batches_keep_their_order_and_groups_their_members() {
    let statuses = events("batch/out_of_order_statuses.json").await;
    let states: Vec<_> = statuses.iter().map(|e| e.as_delivery().unwrap().state).collect();
    assert_eq!(states, [DeliveryState::Read, DeliveryState::Sent, DeliveryState::Delivered]);
    assert_eq!(states.into_iter().reduce(DeliveryState::join), Some(DeliveryState::Read));

    let batch = events("batch/two_entries_messages_and_statuses.json").await;
    let texts: Vec<_> = batch.iter().filter_map(|e| e.as_inbound()?.text()).collect();
    assert_eq!((batch.len(), texts), (6, vec!["one", "two", "other number"]));
    let ids: std::collections::HashSet<_> = batch.iter().map(Event::id).collect();
    assert_eq!(ids.len(), 6);

    let members = events("status/group_read_two_participants.json").await;
    let who: Vec<_> = members.iter().filter_map(|e| e.as_delivery()?.recipient.as_ref()?.as_phone()).collect();
    assert_eq!(who.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["+447700900123", "+447700900456"]);
    assert!(members.iter().all(|e| e.envelope().conversation.is_some()));
    assert_ne!(members[0].id(), members[1].id());
    assert!(matches!(&members[0], Event::Delivery(d) if matches!(d.of, DeliveryOf::Message { .. })));
}

#[tokio::test]
async fn batch_of_a_thousand_messages_in_3_mb_is_read() {
    let mut body = json_fixture("inbound/text.json");
    let messages = body["entry"][0]["changes"][0]["value"]["messages"].as_array_mut().unwrap();
    let one = messages[0].clone();
    *messages = (0..1000)
        .map(|n| {
            let mut message = one.clone();
            message["id"] = format!("wamid.{n}").into();
            message["text"]["body"] = "x".repeat(2_900).into();
            message
        })
        .collect();
    let body = body.to_string();
    assert!(body.len() > 3_000_000 && body.len() < 4_000_000);
    let received = offline().receive(&signed_by_meta(SECRET, body)).await.unwrap();
    assert_eq!(received.events.len(), 1000);
    assert_eq!(received.events[999].as_inbound().unwrap().id.as_str(), "wamid.999");
    let error = offline().receive(&signed_by_meta(SECRET, vec![b' '; 4 * 1024 * 1024 + 1])).await.unwrap_err();
    assert_eq!((error.kind(), error.webhook_status().as_u16()), (ErrorKind::TooLarge, 413));
}

#[tokio::test]
async fn writer_is_joined_with_their_contact() {
    let both = json!({ "wa_id": "447700900123", "user_id": "GB.1" });
    let joined = person(Some("07700900123"), Some("GB.1"));
    let brazil = person(Some("+5511987654321"), Some("BR.1"));
    let brazil_short = person(Some("+551187654321"), Some("BR.1"));
    let many: Vec<_> =
        (0..9).map(|n| json!({ "wa_id": format!("44770090020{n}"), "user_id": format!("GB.9{n}") })).collect();
    for (names, contact, from) in [
        (json!({ "from_user_id": "GB.1" }), &both, &joined),
        (json!({ "from": "GB.1" }), &both, &joined),
        (json!({ "from": "+447700900123" }), &both, &joined),
        (json!({}), &both, &joined),
        (json!({ "from": "5511987654321" }), &json!({ "wa_id": "551187654321", "user_id": "BR.1" }), &brazil),
        (json!({ "from": "551187654321" }), &json!({ "wa_id": "5511987654321", "user_id": "BR.1" }), &brazil_short),
    ] {
        let mut message = text_message("wamid.1", "Hello");
        message.as_object_mut().unwrap().remove("from");
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        let few = json!({ "contacts": [contact], "messages": [message] });
        assert_eq!(&inbound(&value("messages", few).await).from, from, "{names}");
        if names != json!({}) {
            let many: Vec<_> = many.iter().chain([contact]).collect();
            let events = value("messages", json!({ "contacts": many, "messages": [message] })).await;
            assert_eq!(&inbound(&events).from, from, "{names} of many");
        }
    }
    // Somebody else, who cannot be read.
    let mut message = text_message("wamid.1", "Hello");
    message["from"] = "12345".into();
    let events = value("messages", json!({ "contacts": [both], "messages": [message] })).await;
    assert!(matches!(&events[..], [Event::Unrecognised(one)] if one.from.is_none()), "{events:?}");
    // The recipient of a status as well.
    let status =
        json!({ "id": "wamid.1", "status": "sent", "timestamp": "1795000000", "recipient_id": "447700900123" });
    let events = value("messages", json!({ "contacts": [both], "statuses": [status] })).await;
    assert_eq!(events[0].as_delivery().unwrap().recipient, Some(joined));
}

#[tokio::test]
async fn echo_is_of_our_own_number() {
    let contacts = json!([{ "wa_id": "447700900123", "user_id": "GB.1" }]);
    let echo = json!({ "to": "447700900123", "id": "wamid.1", "timestamp": "1795000000", "type": "text", "text": { "body": "STOP" } });
    for (field, list) in
        [("smb_message_echoes", "message_echoes"), ("smb_message_echoes", "messages"), ("standby", "message_echoes")]
    {
        let events = value(field, json!({ "contacts": contacts, list: [echo] })).await;
        let [Event::Inbound(read)] = &events[..] else { panic!("{field} {list}: {events:?}") };
        assert_eq!((read.echo, read.standby), (true, field == "standby"), "{field}");
        assert_eq!(read.from, Address::whatsapp("+441743000000").unwrap());
        assert_eq!(read.to, Some(person(Some("07700900123"), Some("GB.1"))));
    }
    let mut of_user = echo.clone();
    of_user["to"].take();
    of_user["to_user_id"] = "GB.2".into();
    let events = value("smb_message_echoes", json!({ "message_echoes": [of_user] })).await;
    assert_eq!(inbound(&events).to, Some(person(None, Some("GB.2"))));
    // Of a number that is not shown, nobody is taken for the writer.
    let hidden = json!({ "metadata": { "phone_number_id": NUMBER }, "contacts": contacts, "message_echoes": [echo] });
    let received = changes(json!([{ "field": "smb_message_echoes", "value": hidden }])).await;
    let [Event::Unrecognised(one)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!((&one.from, one.envelope.raw.as_bytes()), (&None, &Bytes::from(echo.to_string())));
}

#[tokio::test]
async fn history_tells_residents_from_us() {
    let message = |names: Value| {
        let mut message = text_message("wamid.1", "Hello");
        message.as_object_mut().unwrap().remove("from");
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        message
    };
    for (thread, names, is_ours) in [
        ("447700900123", json!({ "from": "447700900123" }), false),
        ("447700900123", json!({ "from": "+447700900123" }), false),
        ("+447700900123", json!({ "from": "447700900123" }), false),
        ("GB.99", json!({ "from_user_id": "GB.99" }), false),
        ("447700900123", json!({ "from_user_id": "GB.99" }), false),
        ("GB.99", json!({ "from": "447700900123", "from_user_id": "GB.99" }), false),
        ("GB.99", json!({ "from": "447700900123" }), false),
        ("447700900123", json!({ "from": "447700900123", "to": DISPLAY }), false),
        ("GB.99", json!({ "from": DISPLAY }), true),
        ("447700900123", json!({ "from": DISPLAY, "to": "447700900123" }), true),
        ("447700900123", json!({ "from": "447700900789" }), true),
    ] {
        let history = json!([{ "threads": [{ "id": thread, "messages": [message(names.clone())] }] }]);
        let events = value("history", json!({ "history": history })).await;
        let read = inbound(&events);
        assert_eq!((read.echo, read.history), (is_ours, true), "{thread} {names}");
        assert_eq!(read.from == Address::whatsapp("+441743000000").unwrap(), names["from"] == DISPLAY);
    }
    for (names, is_ours) in [
        (json!({ "from": DISPLAY, "to": "447700900123" }), true),
        (json!({ "from": DISPLAY }), true),
        (json!({ "from": "447700900123", "to": DISPLAY }), false),
        (json!({ "from": "447700900123" }), false),
    ] {
        let events = value("history", json!({ "messages": [message(names.clone())] })).await;
        assert_eq!(inbound(&events).echo, is_ours, "{names}");
    }
}

#[tokio::test]
async fn change_of_number_names_both_numbers() {
    let [old, new] = [Some("07700900123"), Some("07700900789")];
    for (names, system, previous, current) in [
        (
            json!({ "from_user_id": "GB.1" }),
            json!({ "wa_id": "447700900789", "user_id": "GB.2" }),
            person(None, Some("GB.1")),
            person(new, Some("GB.2")),
        ),
        (
            json!({}),
            json!({ "customer": "447700900123", "wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
        (
            json!({}),
            json!({ "wa_id": "447700900123", "new_wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
        (
            json!({ "from": "447700900123" }),
            json!({ "wa_id": "447700900123", "new_wa_id": "447700900789" }),
            person(old, None),
            person(new, None),
        ),
    ] {
        let mut message = json!({ "id": "wamid.1", "timestamp": "1795000000", "type": "system", "system": system });
        message.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        message["system"]["type"] = "user_changed_number".into();
        let events = messages(json!([message])).await;
        let [Event::AddressChanged(changed)] = &events[..] else { panic!("{message}: {events:?}") };
        assert_eq!((&changed.previous, &changed.current), (&previous, &current), "{message}");
    }
}

#[tokio::test]
async fn contact_card_has_a_name_and_a_number() {
    let vcard = |lines: &str| json!({ "vcard": format!("BEGIN:VCARD\r\nVERSION:4.0\r\n{lines}\r\nEND:VCARD") });
    for (card, name) in [
        (vcard("N:Neighbour;Sam;;;\r\nTEL;VALUE=uri:tel:+447700900456"), "Sam Neighbour"),
        (vcard("FN:Sam Neigh\r\n bour\r\nTEL:+447700900456"), "Sam Neighbour"),
        (
            json!({ "name": { "first_name": "Sam", "last_name": "Neighbour" }, "phones": [{ "wa_id": "447700900456" }] }),
            "Sam Neighbour",
        ),
        (json!({ "name": { "last_name": "Neighbour" }, "phones": { "phone": "+447700900456" } }), "Neighbour"),
    ] {
        let mut message = text_message("wamid.1", "");
        (message["type"], message["contacts"]) = ("contacts".into(), json!([card]));
        let events = messages(json!([message])).await;
        let InboundContent::Contacts(cards) = &inbound(&events).content else { panic!("{card}: {events:?}") };
        assert_eq!((cards[0].name.as_str(), cards[0].phones[0].value.as_str()), (name, "+447700900456"), "{card}");
    }
}
