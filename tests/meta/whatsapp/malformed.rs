//! Malformed webhooks: whose they are, and what is read in them.

use super::*;

#[tokio::test]
async fn malformed_message_costs_only_itself() {
    let mut body = json_fixture("batch/two_entries_messages_and_statuses.json");
    body["entry"][0]["changes"][0]["value"]["messages"][0]["text"] = json!(["not", "an", "object"]);
    body["entry"][0]["changes"][1]["value"]["statuses"][1]["errors"] = json!("none");
    let received = offline().receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
    let strange: Vec<_> = received.events.iter().map(|e| matches!(e, Event::Unrecognised(_))).collect();
    // A delivery is read whatever its errors are.
    assert_eq!(strange, [true, false, false, false, false, false]);
    // Of a body that names no account nobody knows whose it is.
    for body in ["", "[]", "{", "null", r#"{"entry":{}}"#, "\u{0}", "hello"] {
        let received = offline().receive(&signed_by_meta(SECRET, body)).await.unwrap();
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
        assert_eq!(received.response.status, 200);
    }
}

#[tokio::test]
async fn entry_without_changes_is_kept_or_counted() {
    // One app can serve a page on Messenger too, with one address for both.
    let entry = |id: &str| json!({ "id": id, "time": 1_795_000_000, "messaging": [{ "message": { "mid": "m_1" } }] });
    let body = json!({ "object": "page", "entry": [entry(ACCOUNT), entry("7000000000000001")] });
    let received = offline().receive(&signed_by_meta(SECRET, body.to_string())).await.unwrap();
    let [Event::Unrecognised(kept)] = &received.events[..] else { panic!("{:?}", received.events) };
    assert_eq!((kept.what.as_str(), received.discarded_events()), ("entry", 1));
    assert_eq!(received.discarded, [Discarded::new(Some("7000000000000001".into()), 1)]);
    let raw: Value = serde_json::from_slice(kept.envelope.raw.as_bytes()).unwrap();
    assert_eq!(raw, entry(ACCOUNT));
}

const THEIRS: &str = "200000000000009";

fn number_value(number: &str, text: &str) -> Value {
    json!({ "metadata": { "phone_number_id": number }, "messages": [text_message("wamid.1", text)] })
}

fn stops(events: &[Event]) -> Vec<&Address> {
    let mut from = Vec::new();
    for event in events {
        from.extend(if let Event::OptOut(stop) = event { (!stop.resume).then_some(&stop.from) } else { None });
    }
    from
}

/// The names and the pieces of what is not understood.
fn kept(events: &[Event]) -> Vec<(&str, String)> {
    let mut kept = Vec::new();
    for event in events {
        if let Event::Unrecognised(one) = event {
            kept.push((one.what.as_str(), String::from_utf8_lossy(one.envelope.raw.as_bytes()).into_owned()));
        }
    }
    kept
}

#[tokio::test]
async fn raw_of_a_change_holds_no_other_change() {
    let (theirs, ours) = (number_value(THEIRS, "Their secret"), number_value(NUMBER, "My bin was missed"));
    let theirs = json!({ "field": "messages", "value": theirs });
    let ours = json!({ "field": "messages", "value": ours });
    for odd in [
        r#"{"field":"messages"}"#,
        "null",
        "{}",
        "7",
        r#"{"field":"messages","value":null}"#,
        r#"{"field":"account_update","value":[]}"#,
        r#"{"field":"account_update","value":"odd"}"#,
    ] {
        for list in [format!("[{odd},{theirs},{ours}]"), format!("[{theirs},{ours},{odd}]")] {
            let received = changes(list).await;
            assert_eq!(inbound(&received.events).text(), Some("My bin was missed"), "{odd}");
            let [(_, raw)] = &kept(&received.events)[..] else { panic!("{odd}: {:?}", received.events) };
            assert_eq!(raw, odd);
            assert_eq!(received.discarded, [Discarded::new(Some(THEIRS.into()), 1)], "{odd}");
        }
    }
}

#[tokio::test]
async fn object_in_place_of_a_list_is_a_list_of_one() {
    for (number, is_ours) in [(NUMBER, true), (THEIRS, false)] {
        let mut value = number_value(number, "STOP");
        value["contacts"] = json!({ "wa_id": "447700900123", "user_id": "GB.1" });
        value["messages"] = value["messages"][0].take();
        let entry = |changes: Value| json!({ "id": ACCOUNT, "time": 1_795_000_000, "changes": changes });
        let change = |value: &Value| json!({ "field": "messages", "value": value });
        for entry in [
            json!([entry(json!([change(&value)]))]),
            json!([entry(change(&value))]),
            entry(change(&value)),
            entry(change(&json!([value]))),
        ] {
            let received = entries(&entry).await;
            if is_ours {
                assert_eq!(stops(&received.events), [&person(Some("07700900123"), Some("GB.1"))], "{entry}");
                assert_eq!(received.discarded_events(), 0);
            } else {
                assert!(received.events.is_empty(), "{entry}: {:?}", received.events);
                assert_eq!(received.discarded, [Discarded::new(Some(THEIRS.into()), 1)]);
            }
        }
    }
    let status =
        json!({ "id": "wamid.1", "status": "sent", "timestamp": "1795000000", "recipient_id": "447700900123" });
    assert!(matches!(&value("messages", json!({ "statuses": status })).await[..], [Event::Delivery(_)]));
}

#[tokio::test]
async fn message_without_a_readable_number_is_nobodys() {
    let message = text_message("wamid.1", "Their secret");
    let theirs = json!({ "phone_number_id": THEIRS });
    for field in ["messages", "history", "standby", "smb_message_echoes", "calls", "user_preferences", "account_update"]
    {
        for (metadata, account) in [
            (json!([theirs]), Some(THEIRS)),
            (json!({ "odd": theirs }), None),
            (json!("odd"), None),
            (json!({ "phone_number_id": [THEIRS] }), None),
            (Value::Null, None),
        ] {
            for member in ["messages", "statuses", "message_echoes", "contacts", "user_preferences", "history"] {
                let value = json!({ "metadata": metadata, member: [message] });
                let received = changes(json!([{ "field": field, "value": value }])).await;
                assert!(received.events.is_empty(), "{field} {value}: {:?}", received.events);
                assert_eq!(received.discarded, [Discarded::new(account.map(Into::into), 1)], "{field} {value}");
            }
        }
    }
    // Where nothing says what it is, it may hold a message too.
    let theirs = number_value(THEIRS, "Their secret");
    for change in [
        json!({ "field": "messages", "value": { "odd": theirs } }),
        json!({ "field": "messages", "value": [[theirs]] }),
        json!({ "field": "messages", "value": theirs.to_string() }),
        json!({ "field": "tomorrow", "value": { "odd": theirs } }),
        json!({ "field": "tomorrow", "value": { "metadata": "odd", "odd": "Their secret" } }),
        json!({ "field": "account_update", "value": { "odd": theirs } }),
        json!({ "odd": theirs }),
        json!([theirs]),
    ] {
        let received = changes(json!([change])).await;
        assert!(received.events.is_empty(), "{change}: {:?}", received.events);
        assert_eq!(received.discarded, [Discarded::new(None, 1)], "{change}");
    }
    for odd in [json!(theirs.to_string()), json!([[theirs]]), json!("odd")] {
        let received = changes(&odd).await;
        assert_eq!((received.events.len(), received.discarded_events()), (0, 1), "{odd}");
    }
    // What is of the account, or of our number by its own member, is ours.
    for value in [
        json!({ "event": "TOMORROW" }),
        json!({ "phone_number_id": NUMBER }),
        json!({ "phone_number_settings": { "phone_number_id": NUMBER } }),
        json!({}),
    ] {
        let received = changes(json!([{ "field": "tomorrow", "value": value }])).await;
        assert_eq!(kept(&received.events), [("tomorrow", value.to_string())]);
    }
}

#[tokio::test]
async fn value_that_names_two_owners_is_nobodys() {
    let message = text_message("wamid.1", "Whose?");
    let [ours, theirs] = [NUMBER, THEIRS].map(|number| format!(r#"{{"phone_number_id":"{number}"}}"#));
    let mut twice = Vec::new();
    for (one, other) in [(&ours, &theirs), (&theirs, &ours)] {
        twice.push(format!(r#""metadata":{one},"metadata":{other}"#));
        twice.push(format!(r#""metadata":[{one},{other}]"#));
        let [one, other] = [one, other].map(|metadata| metadata.trim_matches(['{', '}']));
        twice.push(format!(r#""metadata":{{{one},{other}}}"#));
    }
    for metadata in twice {
        let received =
            changes(format!(r#"[{{"field":"messages","value":{{{metadata},"messages":[{message}]}}}}]"#)).await;
        assert!(received.events.is_empty(), "{metadata}: {:?}", received.events);
        assert_eq!(received.discarded, [Discarded::new(None, 1)], "{metadata}");
    }
    // The same twice, or with nothing beside it, is one.
    for metadata in [
        format!(r#""metadata":{ours},"metadata":{ours}"#),
        format!(r#""metadata":{ours},"metadata":null"#),
        format!(r#""metadata":null,"metadata":{ours}"#),
    ] {
        let received =
            changes(format!(r#"[{{"field":"messages","value":{{{metadata},"messages":[{message}]}}}}]"#)).await;
        assert_eq!(inbound(&received.events).text(), Some("Whose?"));
    }
    let update = r#""changes":[{"field":"account_update","value":{"event":"ACCOUNT_DELETED"}}]"#;
    for [one, other] in [[ACCOUNT, "100000000000009"], ["100000000000009", ACCOUNT]] {
        let received = entries(format!(r#"[{{"id":"{one}","id":"{other}",{update}}}]"#)).await;
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]));
    }
}

#[tokio::test]
async fn empty_changes_are_kept_each_by_itself() {
    let received = changes(format!("[{}]", vec!["{}"; 5_000].join(","))).await;
    assert_eq!(received.events.len(), 5_000);
    assert!(received.events.iter().all(|event| event.envelope().raw.as_bytes() == "{}"));
}

#[tokio::test]
async fn preference_that_names_nobody_is_of_the_only_contact() {
    let stop = json!({ "category": "marketing_messages", "value": "stop", "timestamp": 1_795_000_000 });
    let one = json!([{ "user_id": "GB.1" }]);
    let events = value("user_preferences", json!({ "contacts": one, "user_preferences": [stop] })).await;
    assert_eq!(stops(&events), [&person(None, Some("GB.1"))]);
    let two = json!([{ "user_id": "GB.1" }, { "user_id": "GB.2" }]);
    let events = value("user_preferences", json!({ "contacts": two, "user_preferences": [stop] })).await;
    assert_eq!(kept(&events), [("user_preferences", stop.to_string())]);
}

#[tokio::test]
async fn stop_beside_an_unreadable_member_is_heard() {
    let image = json!({ "mime_type": "image/jpeg", "caption": "STOP" });
    let text = json!({ "body": "STOP" });
    let reply = json!({ "type": "list_reply", "list_reply": { "title": "Stop messages" } });
    for mut message in [
        json!({ "type": "image", "image": image }),
        json!({ "image": image }),
        json!({ "text": text }),
        json!({ "type": null, "text": text }),
        json!({ "type": ["text"], "text": text }),
        json!({ "type": "edit", "edit": { "message": { "type": "text", "text": text } } }),
        json!({ "type": "edit", "edit": { "original_message_id": "wamid.0", "message": { "text": text } } }),
        json!({ "type": "edit", "edit": { "original_message_id": "wamid.0", "message": { "type": "image", "image": image } } }),
        json!({ "edit": { "message": { "image": image } } }),
        json!({ "type": "interactive", "interactive": reply }),
        json!({ "type": "interactive", "interactive": { "button_reply": { "id": "", "title": "Stop messages" } } }),
    ] {
        message["from"] = "447700900123".into();
        for id in [Some("wamid.1"), None] {
            message["id"] = json!(id);
            let events = messages(json!([message])).await;
            assert_eq!(stops(&events), [&person(Some("07700900123"), None)], "{message}: {events:?}");
            assert_eq!(events.len(), 2, "{message}");
        }
    }
}

#[tokio::test]
async fn message_without_an_id_has_a_stable_one() {
    let mut nameless = [text_message("", "one"), text_message("", "two")];
    nameless[0]["id"].take();
    let [first, again] = [messages(json!(nameless)).await, messages(json!(nameless)).await];
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!((first.len(), ids(&first)), (2, ids(&again)));
    assert_ne!(first[0].id(), first[1].id());
}

#[tokio::test]
async fn siblings_of_what_is_read_are_kept() {
    let [call, group, error] = ["call", "group", "error"].map(|id| json!({ "id": id }));
    let status = json!({ "id": "wacid.1", "status": "RINGING", "type": "call" });
    let events = value("calls", json!({ "calls": [call], "statuses": [status] })).await;
    assert_eq!(kept(&events), [("calls", status.to_string()), ("calls", call.to_string())]);
    let events = messages(json!([text_message("wamid.1", "Hello")])).await;
    assert!(kept(&events).is_empty());
    let both = json!({ "groups": [group], "messages": [text_message("wamid.1", "Hello")] });
    assert_eq!(kept(&value("messages", both).await), [("groups", group.to_string())]);
    let threads = json!([{ "id": "447700900123", "messages": [text_message("wamid.1", "Hello")] }]);
    let history = json!({ "history": [{ "threads": threads, "errors": [error] }] });
    assert_eq!(kept(&value("history", history).await), [("history.errors", error.to_string())]);
    let events = value("messages", json!({ "statuses": [status] })).await;
    assert_eq!(kept(&events), [("calls", status.to_string())]);
}

#[tokio::test]
async fn edits_in_edits_are_not_followed() {
    for depth in [200, 50_000] {
        let [open, close] = [r#"{"type":"edit","edit":{"message":"#.repeat(depth), "}}".repeat(depth)];
        let edits = format!(r#"{open}{{"odd":1e999}}{close}"#);
        let stop = text_message("wamid.1", "STOP");
        let value = format!(r#"{{"metadata":{{"phone_number_id":"{NUMBER}"}},"messages":[{edits},{stop}]}}"#);
        let received = changes(format!(r#"[{{"field":"messages","value":{value}}}]"#)).await;
        assert_eq!(stops(&received.events).len(), 1);
        assert!(kept(&received.events).iter().any(|(what, raw)| *what == "messages.edit" && *raw == edits));
    }
}
