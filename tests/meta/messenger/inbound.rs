//! Inbound messages and deliveries.

use super::*;

#[tokio::test]
async fn inbound_has_sender_recipient_content_and_time() {
    let events = recorded("inbound_text.json").await;
    let text = inbound(&events);
    assert_eq!((&text.from, text.to.as_ref(), text.echo), (&person(), Some(&page()), false));
    assert_eq!(text.content, InboundContent::Text("Hello council".into()));
    assert_eq!((text.envelope.at, text.envelope.account.as_str()), (Timestamp::from_millis(AT), PAGE));
    let raw: Value = serde_json::from_slice(text.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, item("message", json!({ "mid": "m_FIXTURE_1", "text": "Hello council" })));

    let events = recorded("inbound_reply_to.json").await;
    assert_eq!(inbound(&events).reply_to.as_ref().unwrap().as_str(), "m_OUT_1");
    for (name, id, title) in
        [("inbound_quick_reply.json", "YES", "Yes"), ("postback.json", "GET_STARTED", "Get started")]
    {
        let events = recorded(name).await;
        let InboundContent::Selection(chosen) = &inbound(&events).content else { panic!("{name}") };
        assert_eq!((chosen.id.as_str(), chosen.title.as_str()), (id, title));
    }
}

#[tokio::test]
async fn quick_reply_that_cancels_is_a_selection_to_answer() {
    let body = String::from_utf8(fixture("inbound_quick_reply.json").to_vec()).unwrap();
    for (payload, title, events) in [("cancel", "Cancel", 1), ("STOP", "No", 1), ("1", "Start", 1), ("1", "Stop", 2)] {
        let body = body.replace("\"YES\"", &format!("{payload:?}")).replace("\"Yes\"", &format!("{title:?}"));
        let received = received(body).await;
        assert_eq!((received.events.len(), received.answerable().count()), (events, 2 - events), "{payload} {title}");
    }
}

#[tokio::test]
async fn files_have_a_kind_though_no_media_type() {
    let events = recorded("inbound_image.json").await;
    let [photo] = inbound(&events).media() else { panic!() };
    assert_eq!((photo.kind(), photo.mime.as_deref()), (MediaKind::Image, None));
    assert_eq!(
        (photo.id.as_str(), photo.url.as_deref()),
        ("m_FIXTURE_3/0", Some("https://scontent.example.org/1.jpg"))
    );
    // A store keeps the kind.
    let stored: MediaRef = serde_json::from_str(&serde_json::to_string(photo).unwrap()).unwrap();
    assert_eq!(stored, *photo);

    let attached =
        |kind: &str| json!({ "type": kind, "payload": { "url": format!("https://scontent.example.org/{kind}") } });
    let all = ["audio", "file", "image", "sticker", "video"].map(attached);
    let events = events_of([item("message", json!({ "mid": "m_1", "text": "See", "attachments": all }))]).await;
    use MediaKind::*;
    let kinds: Vec<_> = inbound(&events).media().iter().map(MediaRef::kind).collect();
    assert_eq!((kinds, inbound(&events).text()), (vec![Audio, Document, Image, Sticker, Video], Some("See")));
}

#[tokio::test]
async fn attachment_without_a_file_is_text_or_unsupported() {
    for (attachments, text, content) in [
        (json!([{ "type": "fallback", "payload": null }]), None, InboundContent::unsupported(Some("fallback"))),
        (json!([{ "type": "fallback", "title": "A page" }]), Some("See"), InboundContent::Text("See".into())),
        (json!([{ "type": "template", "payload": { "template_type": "button" } }]), None, {
            InboundContent::unsupported(Some("template"))
        }),
        (json!([{ "type": "image", "payload": {} }]), None, InboundContent::unsupported(Some("image"))),
        (json!([{ "payload": [] }]), None, InboundContent::unsupported(None::<String>)),
        (json!(null), None, InboundContent::unsupported(None::<String>)),
    ] {
        let events =
            events_of([item("message", json!({ "mid": "m_1", "text": text, "attachments": attachments }))]).await;
        assert_eq!(inbound(&events).content, content, "{attachments}");
    }
}

#[tokio::test]
async fn watermark_covers_all_messages_up_to_its_time() {
    let moment = DeliveryOf::UpTo { at: Timestamp::from_millis(1_795_000_000_999), id: None };
    for (name, state) in [("delivery_without_mids.json", DeliveryState::Delivered), ("read.json", DeliveryState::Read)]
    {
        let events = recorded(name).await;
        let [up_to] = deliveries(&events)[..] else { panic!("{name}: {events:?}") };
        assert_eq!((&up_to.of, up_to.state, up_to.recipient.as_ref()), (&moment, state, Some(&person())), "{name}");
    }
    let events = recorded("delivery.json").await;
    let [one, up_to] = deliveries(&events)[..] else { panic!("{events:?}") };
    assert_eq!(
        (one.id().unwrap().as_str(), one.state, one.recipient.as_ref()),
        ("m_OUT_1", DeliveryState::Delivered, Some(&person()))
    );
    assert_eq!((&up_to.of, up_to.state, up_to.status.as_str()), (&moment, DeliveryState::Delivered, "delivery"));
    // Neither ids nor a moment; a moment that is none; and what we read ourselves.
    for nothing in [
        item("delivery", json!({})),
        item("delivery", json!({ "mids": [""], "watermark": -1 })),
        item("read", json!({ "watermark": "soon" })),
        json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT, "read": { "watermark": AT } }),
    ] {
        let events = events_of([nothing]).await;
        assert!(matches!(unknown(&events)[..], ["delivery" | "read"]));
    }
}

#[tokio::test]
async fn echo_is_ours_and_settles_an_unknown_send() {
    let events = recorded("echo.json").await;
    let [Event::Inbound(echo), Event::Delivery(settled)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((echo.echo, &echo.from, echo.to.as_ref()), (true, &page(), Some(&person())));
    assert_eq!((settled.id().unwrap().as_str(), settled.key()), ("m_OUT_1", Some("case-1")));
    assert_eq!((settled.state, settled.status.as_str()), (DeliveryState::Sent, "echo"));
    assert_eq!(settled.recipient.as_ref(), Some(&person()));
    assert_eq!(received(fixture("echo.json")).await.answerable().count(), 0);
    let error = offline().send_indicator(echo, Indicator::Read).await.unwrap_err();
    assert_eq!((error.field(), error.outcome()), (Some("inbound"), Outcome::NotSent));

    // Without a key there is nothing to settle; a text of the page is an echo whether or not it says so; and a resident's
    // own metadata would be no key of ours.
    let from_page = |message: Value| json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT, "message": message });
    let events = events_of([from_page(json!({ "mid": "m_1", "text": "STOP" }))]).await;
    assert!(inbound(&events).echo);
    let events = events_of([item("message", json!({ "mid": "m_1", "text": "Hello", "metadata": "case-1" }))]).await;
    assert!(!inbound(&events).echo);
}

#[tokio::test]
async fn reaction_has_its_own_id() {
    let events = recorded("reaction.json").await;
    let reaction = inbound(&events);
    assert_eq!(reaction.content, InboundContent::Reaction { to: "m_OUT_1".into(), emoji: Some("👍".into()) });
    assert_eq!(reaction.id.as_str(), format!("m_OUT_1/react/{AT}"));
    let what = |action: &str| item("reaction", json!({ "mid": "m_OUT_1", "action": action, "reaction": "like" }));
    let events = events_of([what("unreact")]).await;
    assert_eq!(inbound(&events).content, InboundContent::Reaction { to: "m_OUT_1".into(), emoji: None });
    // Without an emoji it would read as one that is taken back.
    let events = events_of([what("react"), what("wave")]).await;
    assert_eq!(unknown(&events), ["reaction", "reaction"]);
}

#[tokio::test]
async fn standby_is_kept_and_never_answered_and_its_stop_is_heard() {
    let standby =
        [item("message", json!({ "mid": "m_1", "text": "STOP" })), item("postback", json!({ "title": "Report" }))];
    let body = json!({ "object": "page", "entry": [{ "id": PAGE, "time": SENT, "standby": standby }] });
    let received = received(body.to_string()).await;
    let [Event::Inbound(text), Event::OptOut(opt_out), Event::Inbound(tap)] = &received.events[..] else {
        panic!("{:?}", received.events)
    };
    assert!(text.standby && tap.standby && opt_out.from == person());
    assert_eq!(received.answerable().count(), 0);
}

#[tokio::test]
async fn ids_and_times_are_exact() {
    let event = |sender: &str, time: &str| {
        format!(
            r#"{{"object":"page","entry":[{{"id":{PAGE},"time":{SENT},"messaging":[
                {{"sender":{{"id":{sender}}},"timestamp":{time},"message":{{"mid":"m_1","text":"Hello"}}}}]}}]}}"#
        )
    };
    for (sender, time, came, at) in [
        ("6000000000000001", "1795000000123", "6000000000000001", AT),
        ("18446744073709551615", "\"1795000000123\"", "18446744073709551615", AT),
        ("\"99999999999999999999999999\"", "null", "99999999999999999999999999", SENT),
    ] {
        let events = received(event(sender, time)).await.events;
        let text = inbound(&events);
        assert_eq!((text.from.expose(), text.envelope.at.as_millis()), (came, at));
    }
    // Rounded, this would be another resident.
    let events = received(event("60000000000000000000001", "1795000000123")).await.events;
    assert_eq!(unknown(&events), ["message"]);
}

#[tokio::test]
async fn secret_yields_events_of_its_own_pages_only() {
    let entry = |page: &str| {
        let mut item = item("message", json!({ "mid": page, "text": "Hello" }));
        item["recipient"]["id"] = page.into();
        json!({ "id": page, "time": SENT, "messaging": [item] })
    };
    let body =
        json!({ "object": "page", "entry": [entry(PAGE), entry("7000000000000002"), entry("7000000000000003")] });
    let both = received(body.to_string()).await;
    assert_eq!((both.events.len(), both.discarded_events()), (1, 2));
    // One app of two pages.
    let mut config = config().base_url("http://127.0.0.1:9").unwrap();
    let secret = Secret::new(SECRET).unwrap();
    config.app_secrets = vec![SigningSecret::for_accounts(secret, [PAGE.into(), "7000000000000002".into()])];
    let meta = Meta::messenger_with(config, &Context::new()).unwrap();
    let both = meta.receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
    let accounts: Vec<_> = both.events.iter().map(|event| event.envelope().account.as_str()).collect();
    assert_eq!((accounts, both.discarded_events()), (vec![PAGE, "7000000000000002"], 1));
    // An entry that cannot be read may be another page's.
    let strange =
        json!({ "object": "page", "entry": [{ "id": "7000000000000002", "messaging": 7 }, { "messaging": 7 }, []] });
    let strange = received(strange.to_string()).await;
    assert_eq!((strange.events.len(), strange.discarded_events()), (0, 3));
}
