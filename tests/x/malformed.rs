//! Malformed webhooks: whose they are, and what is read in them.

use super::*;

const OTHER: &str = "1900000000000000303";

#[tokio::test]
async fn unknown_list_is_kept_without_its_neighbours() {
    let body = json!({ "for_user_id": COUNCIL, "user_event": { "revoke": { "source": { "user_id": OTHER } } },
        "follow_events": [{}], "block_events": [{}] });
    let body = body.to_string();
    let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body)).await.unwrap();
    assert_eq!(received.discarded, [Discarded::new(Some(OTHER.into()), 1)]);
    let [Event::Unrecognised(block), Event::Unrecognised(follow)] = &received.events[..] else {
        panic!("{:?}", received.events)
    };
    assert_eq!((block.what.as_str(), follow.what.as_str()), ("block_events", "follow_events"));
    assert_eq!(follow.envelope.raw.as_bytes(), "[{}]");
    // Their pieces are alike, and they are no repeats of each other.
    assert_ne!(received.events[0].id(), received.events[1].id());
}

#[tokio::test]
async fn account_named_twice_and_differently_is_nobodys() {
    let stop = said("1", "STOP");
    let list = format!(r#""direct_message_events":[{stop}]"#);
    let activity = |filter: &str| {
        format!(r#"{{"data":{{"event_uuid":"1","event_type":"dm.received",{filter},"payload":{{{list}}}}}}}"#)
    };
    for body in [
        format!(r#"{{"for_user_id":"{OTHER}","for_user_id":"{COUNCIL}",{list}}}"#),
        format!(r#"{{"for_user_id":"{COUNCIL}","for_user_id":19000000000000003030000,{list}}}"#),
        activity(&format!(r#""filter":{{"user_id":"{OTHER}"}},"filter":{{"user_id":"{COUNCIL}"}}"#)),
        activity(&format!(r#""filter":{{"user_id":"{OTHER}","user_id":"{COUNCIL}"}}"#)),
        format!(
            r#"{{"user_event":{{"revoke":{{"source":{{"user_id":"{OTHER}"}}}},"revoke":{{"source":{{"user_id":"{COUNCIL}"}}}}}}}}"#
        ),
    ] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.clone())).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    for body in [
        format!(r#"{{"for_user_id":"{COUNCIL}","for_user_id":null,{list}}}"#),
        format!(r#"{{"for_user_id":{COUNCIL},"for_user_id":"{COUNCIL}",{list}}}"#),
        activity(&format!(r#""filter":[],"filter":{{"user_id":"{COUNCIL}"}}"#)),
    ] {
        assert!(events(&offline(), body.clone()).await.iter().any(is_opt_out), "{body}");
    }
}

#[tokio::test]
async fn list_or_payload_that_occurs_twice_is_joined() {
    let (stop, text) = (said("1", "STOP"), said("2", "My bin was missed"));
    let lists =
        format!(r#""direct_message_events":[{stop}],"direct_message_events":[{text}],"direct_message_events":null"#);
    let filter = format!(r#""event_type":"dm.received","filter":{{"user_id":"{COUNCIL}"}}"#);
    for body in [
        format!(r#"{{"for_user_id":"{COUNCIL}",{lists}}}"#),
        format!(r#"{{"data":{{{filter},"payload":{{{lists}}},"payload":null}}}}"#),
        format!(
            r#"{{"data":{{{filter},"payload":{{"direct_message_events":[{stop}]}},"payload":{{"direct_message_events":[{text}]}}}}}}"#
        ),
    ] {
        let events = events(&offline(), body.clone()).await;
        let [Event::Inbound(_), stop, Event::Inbound(text)] = &events[..] else { panic!("{body}: {events:?}") };
        assert!(is_opt_out(stop));
        assert_eq!(text.text(), Some("My bin was missed"));
    }
}

#[tokio::test]
async fn data_without_activity_hides_no_messages() {
    let activity = json!({ "event_type": "dm.received", "filter": { "user_id": COUNCIL },
        "payload": { "direct_message_events": [said("2", "Hello")] } });
    for (data, count) in [
        (Value::Null, 2),
        (json!({}), 2),
        (json!([]), 2),
        (json!("nothing"), 2),
        (json!(7), 2),
        (activity.clone(), 3),
        (json!([activity]), 3),
    ] {
        let body = json!({ "for_user_id": COUNCIL, "direct_message_events": [said("1", "STOP")], "data": data });
        let events = events(&offline(), body.to_string()).await;
        assert!(events.iter().any(is_opt_out), "{body}");
        assert_eq!(events.len(), count, "{body}");
    }
}

#[tokio::test]
async fn photo_with_a_number_alone_is_read() {
    let photo = |id: &str| {
        let mut body = json_fixture("webhook_aaa_dm_media_photo.json");
        let data = &mut body["direct_message_events"][0]["message_create"]["message_data"];
        data["text"] = "STOP https://t.co/bbbbbbbbbb".into();
        data["attachment"]["media"].as_object_mut().unwrap().remove("id_str");
        body.to_string().replace(r#""id":1900000000000000404"#, &format!(r#""id":{id}"#))
    };
    for (id, read) in [
        ("1788254998705000001", "1788254998705000001"),
        // No id can be built: the file has that of its message.
        ("19000000000000004040000", "1900000000000000512"),
        ("null", "1900000000000000512"),
    ] {
        let events = events(&offline(), photo(id)).await;
        let [Event::Inbound(message), stop] = &events[..] else { panic!("{events:?}") };
        assert!(is_opt_out(stop));
        let [file] = message.media() else { panic!("{message:?}") };
        assert_eq!((file.id.as_str(), message.text()), (read, Some("STOP")));
    }
}

#[tokio::test]
async fn message_without_an_id_is_heard() {
    let without = |text: &str, id: Value| {
        let mut message = said("1", text);
        message["id"] = id;
        message
    };
    for id in [Value::Null, json!(""), json!([])] {
        let list = [without("STOP", id.clone()), without("Hello", id)];
        let body = json!({ "for_user_id": COUNCIL, "direct_message_events": list }).to_string();
        let events = events(&offline(), body.clone()).await;
        let [stop, opt_out, text] = &events[..] else { panic!("{events:?}") };
        assert!(is_opt_out(opt_out));
        assert_ne!(stop.id(), text.id());
        let again = self::events(&offline(), body).await;
        assert_eq!(again.iter().map(Event::id).collect::<Vec<_>>(), events.iter().map(Event::id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn long_name_is_not_kept_with_each_message() {
    let messages: Vec<_> = (0..100).map(|n| said(&n.to_string(), "Hello")).collect();
    let body = |name: String| {
        let users = json!({ RESIDENT: { "name": name, "screen_name": "resident_one" } });
        json!({ "for_user_id": COUNCIL, "direct_message_events": messages, "users": users }).to_string()
    };
    for (name, kept) in [("A Resident".to_owned(), true), ("a".repeat(2_000), false)] {
        let events = events(&offline(), body(name)).await;
        assert_eq!(events.len(), 100);
        let profiles = events.iter().map(|event| &event.as_inbound().unwrap().profile);
        assert!(profiles.clone().all(|profile| profile.name.is_some() == kept));
        assert!(profiles.clone().all(|profile| profile.handle.as_deref() == Some("resident_one")));
    }
}

#[tokio::test]
async fn group_chat_belongs_to_the_account_of_the_body() {
    let chat = |kind: &str, sender: &str, filter: Value| {
        json!({ "for_user_id": COUNCIL, "data": { "event_type": kind, "event_uuid": "u1", "filter": filter,
            "payload": { "conversation_id": "g1900000000000000999", "sender_id": sender } } })
    };
    let received = events(&offline(), chat("chat.received", RESIDENT, json!({})).to_string()).await;
    // The body has a message of the newer API alone, and a list of the older one is not in it.
    let [Event::Inbound(message)] = &received[..] else { panic!("{received:?}") };
    assert_eq!((&message.content, &message.from), (&InboundContent::Encrypted, &resident()));
    let mut sent = chat("chat.sent", COUNCIL, Value::Null);
    sent.as_object_mut().unwrap().remove("for_user_id");
    let sent = events(&offline(), sent.to_string()).await;
    assert!(sent[0].as_inbound().unwrap().echo);
    // Nobody's: neither says whose it is, or the two filters differ.
    let mut nobody = chat("chat.received", RESIDENT, json!({}));
    nobody.as_object_mut().unwrap().remove("for_user_id");
    let disputed = chat("chat.received", RESIDENT, json!({ "user_id": OTHER }));
    let disputed = disputed.to_string().replace(r#""filter":{"#, &format!(r#""filter":{{"user_id":"{COUNCIL}","#));
    for body in [nobody.to_string(), disputed] {
        let received = offline().receive(&post(&mac(SECRET, body.as_bytes()), body.clone())).await.unwrap();
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1), "{body}");
    }
}
