//! Webhooks: each kind of event.

use super::*;

#[tokio::test]
async fn text_is_the_same_event_by_either_api() {
    let (old, new) = (inbound("webhook_aaa_dm_text.json").await, inbound("webhook_xaa_dm_received.json").await);
    for message in [&old, &new, &inbound("webhook_aaa_dm_welcome_initiated.json").await] {
        assert_eq!(message.id.as_str(), "1900000000000000511");
        assert_eq!(message.content, InboundContent::Text("When is my bin day?".into()));
        assert_eq!(message.envelope.at, Timestamp::from_millis(1_788_254_998_705));
        assert_eq!((message.from.clone(), message.echo), (resident(), false));
        let Address::X(from) = &message.from else { panic!() };
        assert_eq!(from.handle(), Some("resident_one"));
        assert_eq!(
            (message.profile.name.as_deref(), message.profile.handle.as_deref()),
            (Some("A Resident"), Some("resident_one"))
        );
        assert_eq!((message.envelope.conversation.as_ref(), message.reply_address()), (None, &resident()));
        assert_eq!(Event::from(message.clone()).id(), format!("x/{COUNCIL}/inbound/1900000000000000511"));
    }
    for message in [&old, &new] {
        let raw: Value = serde_json::from_slice(message.envelope.raw.as_bytes()).unwrap();
        assert_eq!(raw["id"], "1900000000000000511");
    }
}

#[tokio::test]
async fn webhook_may_hold_several_messages() {
    let events = events(&offline(), fixture("webhook_aaa_dm_batch_of_two.json")).await;
    let texts: Vec<_> = events.iter().filter_map(|event| event.as_inbound()?.text()).collect();
    assert_eq!(texts, ["When is my bin day?", "second in the same delivery"]);
    assert_ne!(events[0].envelope().raw, events[1].envelope().raw);
}

#[tokio::test]
async fn echo_is_marked_and_never_answered() {
    for name in ["webhook_aaa_dm_echo_own_send.json", "webhook_xaa_dm_sent.json"] {
        let echo = inbound(name).await;
        assert_eq!((echo.echo, echo.from.expose(), echo.text()), (true, COUNCIL, Some("Thursday.")));
        assert_eq!(offline().reply(&echo, "Thank you").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[tokio::test]
async fn photo_has_its_text_without_its_link() {
    for name in ["webhook_aaa_dm_media_photo.json", "webhook_xaa_dm_received_media_INFERRED.json"] {
        let message = inbound(name).await;
        assert_eq!(message.text(), Some("Pothole photo"));
        let [photo] = message.media() else { panic!("{name}") };
        assert_eq!((photo.gateway.as_str(), photo.id.as_str()), ("x", "1900000000000000404"));
        let url = "https://ton.twitter.com/1.1/ton/data/dm/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
        assert_eq!(
            (photo.url.as_deref(), photo.mime.as_deref(), photo.kind()),
            (Some(url), Some("image/jpeg"), MediaKind::Image)
        );
    }
    // Alone, it has none, and indices that do not fit do no harm.
    let mut alone = json_fixture("webhook_aaa_dm_media_photo.json");
    let data = &mut alone["direct_message_events"][0]["message_create"]["message_data"];
    data["text"] = "https://t.co/bbbbbbbbbb".into();
    data["attachment"]["media"]["indices"] = json!([9000, -1]);
    let events = events(&offline(), alone.to_string()).await;
    assert!(
        matches!(&events[0].as_inbound().unwrap().content, InboundContent::Media { text: None, media } if media.len() == 1)
    );
}

#[tokio::test]
async fn video_is_its_best_variant() {
    let mut film = json_fixture("webhook_aaa_dm_media_photo.json");
    film["direct_message_events"][0]["message_create"]["message_data"]["attachment"]["media"]["video_info"] = json!({ "variants": [
        { "content_type": "application/x-mpegURL", "url": "https://ton.twitter.com/a.m3u8" },
        { "bitrate": 256_000, "content_type": "video/mp4", "url": "https://ton.twitter.com/small.mp4" },
        { "bitrate": 832_000, "content_type": "video/mp4", "url": "https://ton.twitter.com/large.mp4" },
    ]});
    let events = events(&offline(), film.to_string()).await;
    let [film] = events[0].as_inbound().unwrap().media() else { panic!() };
    assert_eq!((film.url.as_deref(), film.kind()), (Some("https://ton.twitter.com/large.mp4"), MediaKind::Video));
}

#[tokio::test]
async fn quick_reply_is_a_selection() {
    let message = inbound("webhook_aaa_dm_quick_reply.json").await;
    let InboundContent::Selection(chosen) = &message.content else { panic!() };
    assert_eq!((chosen.id.as_str(), chosen.title.as_str()), ("report_pothole", "Report a pothole"));
}

#[tokio::test]
async fn escapes_are_read_back_where_the_source_writes_them() {
    let name = "webhook_aaa_dm_html_entities.json";
    assert_eq!(inbound(name).await.text(), Some("Bins & recycling: is 7 < 8 > 6?"));
    let mut config = Config::new(COUNCIL, keys());
    config.unescape.account_activity = false;
    config.unescape.activity = true;
    let x = X::direct_messages_with(config, &context()).unwrap();
    let escaped = "Bins &amp; recycling: is 7 &lt; 8 &gt; 6?";
    assert_eq!(events(&x, fixture(name)).await[0].as_inbound().unwrap().text(), Some(escaped));
    let mut new = json_fixture("webhook_xaa_dm_received.json");
    new["data"]["payload"]["direct_message_events"][0]["message_create"]["message_data"]["text"] = escaped.into();
    assert_eq!(events(&offline(), new.to_string()).await[0].as_inbound().unwrap().text(), Some(escaped));
    assert_eq!(
        events(&x, new.to_string()).await[0].as_inbound().unwrap().text(),
        Some("Bins & recycling: is 7 < 8 > 6?")
    );
}

#[tokio::test]
async fn encrypted_message_is_reported_without_content() {
    let message = inbound("webhook_xaa_chat_received_encrypted.json").await;
    assert_eq!((&message.content, message.from.clone(), message.echo), (&InboundContent::Encrypted, resident(), false));
    assert_eq!(message.id.as_str(), "e4f4d3fc-8bbf-4928-92eb-e5058d6bb6f6");
    assert_eq!(message.envelope.at, Timestamp::from_millis(1_788_255_183_370));
    let mut own = json_fixture("webhook_xaa_chat_received_encrypted.json");
    own["data"]["event_type"] = "chat.sent".into();
    own["data"]["payload"]["sender_id"] = COUNCIL.into();
    assert!(events(&offline(), own.to_string()).await[0].as_inbound().unwrap().echo);
}

#[tokio::test]
async fn read_receipt_covers_all_up_to_its_message() {
    let Event::Delivery(read) = only("webhook_aaa_mark_read.json").await else { panic!() };
    let at = Timestamp::from_millis(1_788_255_498_999);
    assert_eq!(read.of, DeliveryOf::UpTo { at, id: Some("1900000000000000515".into()) });
    assert_eq!((read.state, read.status.as_str(), &read.recipient), (DeliveryState::Read, "read", &Some(resident())));
    // What we read says nothing of what they have.
    let mut own = json_fixture("webhook_aaa_mark_read.json");
    own["direct_message_mark_read_events"][0]["sender_id"] = COUNCIL.into();
    let events = events(&offline(), own.to_string()).await;
    assert!(matches!(events.as_slice(), [Event::Unrecognised(unknown)] if unknown.what == "mark_read"));
}

#[tokio::test]
async fn account_changes_are_events() {
    for (name, at) in [
        ("webhook_aaa_user_revoke.json", "2026-09-01T09:48:12Z"),
        ("webhook_xaa_oauth_revoke.json", "2026-09-01T21:44:05Z"),
    ] {
        let Event::Account(revoked) = only(name).await else { panic!("{name}") };
        assert_eq!((revoked.topic, revoked.state.as_str()), (Topic::Access, "revoke"));
        assert_eq!(revoked.envelope.at, at.parse().unwrap());
        // Somebody else's is no business of ours.
        let other = String::from_utf8(fixture(name).to_vec()).unwrap().replace(COUNCIL, "1900000000000000999");
        let received = offline().receive(&post(&mac(SECRET, other.as_bytes()), other)).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1));
    }
    let Event::Account(replay) = only("webhook_aaa_replay_complete.json").await else { panic!() };
    assert_eq!((replay.topic, replay.state.as_str()), (Topic::Replay, "Complete"));
    assert_eq!(
        (replay.name.as_deref(), replay.reason.as_deref()),
        (Some("1900000000000000803"), Some("Job completed successfully"))
    );
}

#[tokio::test]
async fn unknown_webhooks_are_kept_whole() {
    let unknown = |event: Event| match event {
        Event::Unrecognised(unknown) => unknown,
        other => panic!("{other:?}"),
    };
    let typing = unknown(only("webhook_aaa_typing.json").await);
    assert_eq!((typing.what.as_str(), typing.from), ("typing", Some(resident())));
    let tweet = unknown(only("webhook_aaa_tweet_create_ignored.json").await);
    assert_eq!(tweet.what, "tweet_create_events");
    let raw: Value = serde_json::from_slice(tweet.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, json_fixture("webhook_aaa_tweet_create_ignored.json")["tweet_create_events"]);

    let activity = |kind: &str, payload: Value| {
        json!({ "data": { "event_uuid": "-1", "filter": { "user_id": COUNCIL }, "event_type": kind, "payload": payload } }).to_string()
    };
    let message = |create: Value| json!({ "for_user_id": COUNCIL, "direct_message_events": [create] }).to_string();
    for (body, what) in [
        (r#"{"for_user_id":"1900000000000000202","users":{}}"#.to_owned(), "webhook"),
        (json!({ "for_user_id": COUNCIL, "user_event": { "new": {} } }).to_string(), "user_event"),
        (activity("dm.read", json!({ "something": "new" })), "dm.read"),
        (activity("profile.update.handle", Value::Null), "profile.update.handle"),
        (activity("chat.conversation_join", json!({})), "chat.conversation_join"),
        (activity("chat.received", json!({ "id": "1" })), "chat.received"),
        (activity("oauth.revoke", json!({})), "oauth.revoke"),
        (message(json!({ "type": "welcome", "id": "1" })), "welcome"),
        (message(json!(7)), "direct_message"),
        (
            message(json!({ "type": "message_create", "id": "1", "message_create": { "sender_id": "@handle" } })),
            "message_create",
        ),
    ] {
        let events = events(&offline(), body.clone()).await;
        let [Event::Unrecognised(unknown)] = events.as_slice() else { panic!("{body}: {events:?}") };
        assert_eq!(unknown.what, what, "{body}");
    }
    // Without an account, nobody can tell who wrote to whom, nor whose it is.
    let nobody = json!({ "direct_message_events": [{ "type": "message_create", "id": "1", "message_create": { "sender_id": RESIDENT } }] });
    for body in ["{", "{}", "[{}]", r#"{"data":[]}"#, r#"{"data":{}}"#, &nobody.to_string()] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.to_owned())).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    // One message that cannot be read takes none of the others with it.
    let mut batch = json_fixture("webhook_aaa_dm_batch_of_two.json");
    batch["direct_message_events"][0] = json!({ "type": ["?"] });
    let events = events(&offline(), batch.to_string()).await;
    assert!(matches!(events.as_slice(), [Event::Unrecognised(_), Event::Inbound(_)]));
}

#[tokio::test]
async fn empty_message_is_an_inbound() {
    let with = |data: Value| {
        json!({ "for_user_id": COUNCIL, "direct_message_events": [{ "type": "message_create", "id": 511,
            "created_timestamp": 1_788_254_998_705_u64, "message_create": { "sender_id": RESIDENT, "message_data": data } }] })
        .to_string()
    };
    for (data, content) in [
        (json!({}), InboundContent::unsupported(None::<String>)),
        (json!({ "text": "", "attachment": { "type": "location" } }), InboundContent::unsupported(Some("location"))),
        (json!({ "text": "Here", "attachment": { "type": "location" } }), InboundContent::Text("Here".into())),
    ] {
        let events = events(&offline(), with(data)).await;
        let inbound = events[0].as_inbound().unwrap();
        assert_eq!((&inbound.content, inbound.id.as_str()), (&content, "511"));
        assert_eq!(inbound.envelope.at, Timestamp::from_millis(1_788_254_998_705));
    }
}

#[tokio::test]
async fn stop_keyword_is_an_opt_out() {
    let mut stop = json_fixture("webhook_xaa_dm_received.json");
    stop["data"]["payload"]["direct_message_events"][0]["message_create"]["message_data"]["text"] = "STOP".into();
    assert!(matches!(events(&offline(), stop.to_string()).await.as_slice(), [Event::Inbound(_), Event::OptOut(_)]));
}

#[tokio::test]
async fn place_is_read_beside_its_text() {
    let with = |text: &str, location: Value| {
        let mut message = said("1", text);
        message["message_create"]["message_data"]["attachment"] = json!({ "type": "location", "location": location });
        json!({ "for_user_id": COUNCIL, "direct_message_events": [message] }).to_string()
    };
    let point = json!({ "type": "shared_coordinate",
        "shared_coordinate": { "coordinates": { "type": "Point", "coordinates": [-2.7, 52.3] } } });
    let alone = events(&offline(), with("", point.clone())).await;
    let [Event::Inbound(place)] = &alone[..] else { panic!("{alone:?}") };
    assert!(matches!(&place.content, InboundContent::Location(at) if (at.latitude, at.longitude) == (52.3, -2.7)));
    let beside = events(&offline(), with("STOP", point)).await;
    let [Event::Inbound(text), stop, Event::Inbound(place)] = &beside[..] else { panic!("{beside:?}") };
    assert!(is_opt_out(stop) && text.text() == Some("STOP"));
    assert!(matches!(&place.content, InboundContent::Location(_)));
    assert_eq!(place.id, text.id);
    assert_ne!(beside[0].id(), beside[2].id());
    let known = json!({ "type": "shared_place",
        "shared_place": { "place": { "name": "Library", "url": "https://api.twitter.com/1.1/geo/id/1.json" } } });
    let page = events(&offline(), with("", known)).await;
    assert!(
        matches!(&page[0].as_inbound().unwrap().content, InboundContent::Link { title: Some(name), .. } if name == "Library")
    );
}
