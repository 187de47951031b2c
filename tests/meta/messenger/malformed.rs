//! Malformed webhooks: whose they are, and what is read in them.

use super::*;

#[tokio::test]
async fn malformed_item_costs_only_itself() {
    let text = |mid: &str| item("message", json!({ "mid": mid, "text": "Hello" }));
    let events = events_of([
        text("m_1"),
        item("message", json!([])),
        item("message", json!({ "text": "without an id" })),
        json!({ "sender": { "id": "somebody" }, "timestamp": AT, "message": { "mid": "m_2", "text": "Hello" } }),
        json!(7),
        item("optin", json!({ "type": "notification_messages" })),
        item("pass_thread_control", json!({ "new_owner_app_id": "8000000000000001" })),
        item("policy_enforcement", json!({ "action": "block", "reason": "…" })),
        item("postback", json!({ "mid": "m_4" })),
        text("m_3"),
    ])
    .await;
    assert_eq!([&events[0], &events[9]].map(|event| inbound(std::slice::from_ref(event)).id.as_str()), ["m_1", "m_3"]);
    assert_eq!(inbound(&events[2..3]).text(), Some("without an id"));
    assert_eq!(unknown(&events[1..2]), ["message"]);
    assert_eq!(
        unknown(&events[3..9]),
        ["message", "messaging", "optin", "pass_thread_control", "policy_enforcement", "postback"]
    );
    assert_eq!(events[4].envelope().raw.as_bytes(), "7");
    // A whole entry, another product of Meta's, something that is of the page and no message, and nothing at all.
    let entries = |object: &str, entry: Value| json!({ "object": object, "entry": [entry] }).to_string();
    for (body, name) in [
        (entries("page", json!({ "id": PAGE, "messaging": 7 })), "entry"),
        (entries("page", json!({ "id": PAGE, "messaging": {} })), "messaging"),
        (entries("page", json!({ "id": PAGE, "time": SENT })), "entry"),
        (entries("page", json!({ "id": PAGE, "changes": [{ "field": "feed", "value": {} }] })), "feed"),
        (entries("instagram", json!({ "id": PAGE, "messaging": [text("m_4")] })), "instagram"),
    ] {
        let received = received(body).await;
        assert_eq!((unknown(&received.events), received.discarded_events()), (vec![name], 0));
    }
    // Of a body that names no page nobody knows whose it is.
    let nobody = received("{\"entry\":7}".to_owned()).await;
    assert_eq!((nobody.events.len(), &nobody.discarded[..]), (0, &[Discarded::new(None, 1)][..]));
}

const OTHER: &str = "7000000000000002";

fn is_opt_out(event: &Event) -> bool {
    matches!(event, Event::OptOut(opt_out) if opt_out.from == person())
}

/// How many bytes the events keep of the body, all together.
fn kept(events: &[Event]) -> usize {
    events.iter().map(|event| event.envelope().raw.as_bytes().len()).sum()
}

fn event_ids(events: &[Event]) -> std::collections::HashSet<String> {
    events.iter().map(Event::id).collect()
}

#[tokio::test]
async fn item_of_another_page_is_never_ours() {
    let theirs = || to(OTHER, text("m_9", "said to another page"));
    let entry = |entry: Value| json!({ "object": "page", "entry": entry }).to_string();
    for body in [
        entry(json!([{ "id": PAGE, "messaging": theirs() }])),
        entry(json!({ "id": PAGE, "messaging": [theirs()] })),
        entry(json!([{ "id": PAGE, "standby": [theirs()] }])),
        entry(json!([{ "messaging": [theirs()] }])),
        json!({ "object": "instagram", "entry": [{ "id": PAGE, "messaging": [theirs()] }] }).to_string(),
        format!(r#"{{"entry":[{{"id":"{OTHER}","id":"{PAGE}","messaging":[{}]}}]}}"#, text("m_1", "Hello")),
        format!(
            r#"{{"entry":[{{"id":"{PAGE}","messaging":[{{"sender":{{"id":"{PERSON}"}},"recipient":{{"id":"{OTHER}"}},
                "recipient":{{"id":"{PAGE}"}},"message":{{"mid":"m_1","text":"Hello"}}}}]}}]}}"#
        ),
    ] {
        let received = received(body.clone()).await;
        assert_eq!((received.events.len(), &received.discarded[..]), (0, &[Discarded::new(None, 1)][..]), "{body}");
    }
    // Beside one of ours, and with a value that is no list.
    let body = entry(json!([{ "id": PAGE, "messaging": [theirs(), text("m_1", "STOP"), theirs()], "standby": 7 }]));
    let received = received(body).await;
    let [Event::Inbound(_), stop, odd] = &received.events[..] else { panic!("{:?}", received.events) };
    assert!(is_opt_out(stop));
    assert_eq!((odd.envelope().raw.as_bytes().as_ref(), received.discarded_events()), (&b"7"[..], 2));
}

#[tokio::test]
async fn object_in_the_place_of_a_list_is_one_value() {
    let one = json!({ "object": "page", "entry": { "id": PAGE, "time": SENT, "messaging": text("m_1", "STOP") } });
    let events = received(one.to_string()).await.events;
    assert!(matches!(&events[..], [Event::Inbound(_), stop] if is_opt_out(stop)));
}

#[tokio::test]
async fn entry_without_an_id_is_of_the_page_it_was_written_to() {
    let echo = json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT,
        "message": { "mid": "m_2", "text": "Reply", "is_echo": true } });
    for id in [Value::Null, json!([]), json!("")] {
        let items = [text("m_1", "STOP"), echo.clone(), to(OTHER, text("m_9", "Hello"))];
        let body = json!({ "object": "page", "entry": [{ "id": id, "time": SENT, "messaging": items }] });
        let received = received(body.to_string()).await;
        let [Event::Inbound(_), stop, Event::Inbound(echo)] = &received.events[..] else {
            panic!("{:?}", received.events)
        };
        assert!(is_opt_out(stop) && echo.echo && echo.envelope.account.as_str() == PAGE);
        assert_eq!(received.discarded, [Discarded::new(None, 1)]);
    }
}

#[tokio::test]
async fn many_parts_of_one_thing_keep_it_once() {
    let mids: Vec<_> = (0..3_000).map(|n| format!("m_{n}")).collect();
    let many = item("delivery", json!({ "mids": mids, "watermark": AT }));
    let events = events_of([many.clone()]).await;
    assert_eq!((events.len(), event_ids(&events).len()), (3_001, 3_001));
    assert!(kept(&events) <= 5 * many.to_string().len());
    assert_eq!(events[4].envelope().raw.as_bytes(), "\"m_4\"");
    assert_eq!(events_of([many]).await, events);
    // More than the limit are kept together.
    let mids: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let events = events_of([item("delivery", json!({ "mids": mids }))]).await;
    assert_eq!(unknown(&events[10_000..]), ["overflow"]);
    // One that is named often is one.
    let events = events_of([item("delivery", json!({ "mids": vec!["m"; 3_000] }))]).await;
    assert_eq!(deliveries(&events).len(), 1);

    let link = |n: usize| json!({ "type": "share", "payload": { "url": format!("https://example.gov.uk/{n}") } });
    let links: Vec<_> = (0..3_000).map(link).collect();
    let many = item(
        "message",
        json!({ "mid": "m_1", "text": "See https://example.gov.uk/0", "attachments": links,
        "referral": { "ref": "r".repeat(1_000) } }),
    );
    let events = events_of([many.clone()]).await;
    assert_eq!((events.len(), event_ids(&events).len()), (3_000, 3_000));
    assert!(kept(&events) <= 5 * many.to_string().len());
    assert_eq!(events[4].envelope().raw.as_bytes(), link(4).to_string().as_str());
    assert_eq!(events.iter().filter(|event| event.as_inbound().unwrap().referral.is_some()).count(), 1);
    // Nor is a time that is none a part of each id.
    let taps = (0..1_000).map(|n| json!({ "sender": { "id": PERSON }, "postback": { "payload": n.to_string() } }));
    let body = json!({ "object": "page", "entry": [{ "id": PAGE, "time": "1".repeat(2_000), "messaging": taps.collect::<Vec<_>>() }] });
    let events = received(body.to_string()).await.events;
    assert_eq!((events.len(), event_ids(&events).len()), (1_000, 1_000));
    assert!(events.iter().all(|event| event.id().len() < 300));
    // Nor is an id kept with each part that is longer than any of Meta's.
    let long = item("message", json!({ "mid": "m".repeat(2_000), "attachments": [link(1), link(2)] }));
    let events = events_of([long]).await;
    assert_eq!(event_ids(&events).len(), 2);
    assert!(events.iter().all(|event| event.as_inbound().unwrap().id.as_str().len() < 100));
}

#[tokio::test]
async fn message_without_an_id_is_heard() {
    let without = |text: &str| item("message", json!({ "text": text }));
    let events = events_of([without("STOP"), without("Hello")]).await;
    let [Event::Inbound(stop), opt_out, Event::Inbound(hello)] = &events[..] else { panic!("{events:?}") };
    assert!(is_opt_out(opt_out) && stop.id != hello.id);
    assert_eq!(event_ids(&events), event_ids(&events_of([without("STOP"), without("Hello")]).await));
    // An echo of which only our key is known.
    let echo = json!({ "sender": { "id": PAGE }, "recipient": { "id": PERSON }, "timestamp": AT,
        "message": { "text": "Reply", "is_echo": true, "metadata": "case-1" } });
    let events = events_of([echo]).await;
    let delivery = events[1].as_delivery().unwrap();
    assert_eq!((delivery.id(), delivery.key()), (None, Some("case-1")));
}

#[tokio::test]
async fn second_tap_is_no_repeat_of_the_first() {
    let tap = |payload: &str, time: Value| {
        let mut tap = item("postback", json!({ "title": "Report", "payload": payload }));
        tap["timestamp"] = time;
        tap
    };
    let reaction = |emoji: &str, time: Value| {
        let mut reaction = item("reaction", json!({ "mid": "m_1", "action": "react", "emoji": emoji }));
        reaction["timestamp"] = time;
        reaction
    };
    let referral = |word: &str| {
        let mut referral = item("referral", json!({ "ref": word }));
        referral["timestamp"] = Value::Null;
        referral
    };
    let items = || {
        [
            tap("A", AT.into()),
            tap("B", AT.into()),
            tap("A", Value::Null),
            tap("B", Value::Null),
            reaction("1", AT.into()),
            reaction("2", AT.into()),
            reaction("1", Value::Null),
            referral("a"),
            referral("b"),
        ]
    };
    let events = events_of(items()).await;
    assert_eq!(event_ids(&events).len(), 9, "{:?}", event_ids(&events));
    assert_eq!(event_ids(&events), event_ids(&events_of(items()).await));
    // The same tap on another day.
    let at = |time: i64| json!({ "object": "page", "entry": [{ "id": PAGE, "time": time, "messaging": [tap("A", Value::Null)] }] });
    let days = [received(at(SENT).to_string()).await, received(at(SENT + 86_400_000).to_string()).await];
    assert_ne!(days[0].events[0].id(), days[1].events[0].id());
}

#[tokio::test]
async fn item_with_several_parts_keeps_each() {
    let contents = |events: &[Event]| -> Vec<InboundContent> {
        assert_eq!(event_ids(events).len(), events.len());
        events.iter().filter_map(Event::as_inbound).map(|inbound| inbound.content.clone()).collect()
    };
    let message = |message: Value| events_of([item("message", message)]);
    let link = || json!({ "type": "share", "payload": { "url": "https://example.gov.uk/a" } });
    let page = || InboundContent::Link { title: None, url: "https://example.gov.uk/a".into() };

    let place = json!({ "type": "location", "url": "https://example.gov.uk/a",
        "payload": { "coordinates": { "lat": 52.3, "long": -2.7 } } });
    let events = message(json!({ "mid": "m_1", "attachments": [place] })).await;
    assert!(matches!(&contents(&events)[..], [InboundContent::Location(_), link] if *link == page()));

    let image = json!({ "type": "image", "payload": { "url": "https://scontent.xx.fbcdn.net/a.png" } });
    let reply =
        json!({ "mid": "m_1", "text": "Stop", "quick_reply": { "payload": "1" }, "attachments": [image, link()] });
    let events = message(reply).await;
    assert!(events.iter().any(is_opt_out));
    let read = contents(&events);
    assert!(
        matches!(&read[..], [InboundContent::Selection(_), InboundContent::Media { text: None, .. }, link] if *link == page())
    );

    let events = message(json!({ "mid": "m_1", "text": "STOP", "attachments": link() })).await;
    assert_eq!(contents(&events), [InboundContent::Text("STOP".into()), page()]);
    assert!(events.iter().any(is_opt_out));

    let unread = json!([{ "type": "template" }, { "type": "fallback" }, { "type": "template" }]);
    let events = message(json!({ "mid": "m_1", "attachments": unread })).await;
    assert_eq!(contents(&events), ["template", "fallback"].map(|kind| InboundContent::unsupported(Some(kind))));

    let mut both = text("m_1", "STOP");
    both["postback"] = json!({ "mid": "m_1", "title": "Report", "payload": "REPORT" });
    both["read"] = json!({ "watermark": AT });
    let events = events_of([both]).await;
    assert!(events.iter().any(is_opt_out) && events.iter().any(|event| event.as_delivery().is_some()));
    assert!(matches!(&contents(&events)[..], [InboundContent::Text(_), InboundContent::Selection(_)]));
}
