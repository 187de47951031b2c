//! Polling, against a server with two lists.

use civic_messaging::random::{Random, SeededRandom};

use super::*;

/// Notify's two lists, paged, newest first by creation time.
#[derive(Clone, Default)]
struct Lists(Arc<Mutex<Listed>>);

#[derive(Default)]
struct Listed {
    /// In creation order.
    notifications: Vec<Value>,
    received: Vec<Value>,
    page: usize,
    calls: usize,
}

impl Lists {
    async fn on(server: &MockServer, page: usize) -> Self {
        let lists = Self::default();
        lists.0.lock().unwrap().page = page;
        Mock::given(method("GET")).respond_with(lists.clone()).mount(server).await;
        lists
    }

    fn send(&self, n: usize, status: &str, at: Timestamp) {
        let mut lists = self.0.lock().unwrap();
        let done = (!matches!(status, "created" | "sending" | "pending")).then(|| stamp(at, 0));
        lists.notifications.push(json!({
            "id": uuid(n), "reference": format!("key-{n}"), "phone_number": "07700 900123", "type": "sms",
            "status": status, "created_at": stamp(at, 0), "completed_at": done, "sent_at": null,
        }));
    }

    fn settle(&self, n: usize, status: &str, at: Timestamp) {
        let mut lists = self.0.lock().unwrap();
        let row = lists.notifications.iter_mut().find(|row| row["id"] == uuid(n)).unwrap();
        row["status"] = status.into();
        row["completed_at"] = stamp(at, 0).into();
    }

    fn write(&self, n: usize, at: Timestamp) {
        self.0.lock().unwrap().received.push(json!({
            "id": uuid(n), "user_number": "447700900123", "notify_number": "07700900456", "service_id": SERVICE,
            "content": "Hello", "created_at": stamp(at, 0),
        }));
    }

    fn calls(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

impl Respond for Lists {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut lists = self.0.lock().unwrap();
        lists.calls += 1;
        let (name, rows) = match request.url.path() {
            "/v2/notifications" => ("notifications", &lists.notifications),
            _ => ("received_text_messages", &lists.received),
        };
        let older = request.url.query_pairs().find(|(name, _)| name == "older_than").map(|(_, id)| id.into_owned());
        // Like the server: rows older than that row, and none if it was deleted.
        let before = match older {
            None => Some(String::from("9")),
            Some(id) => {
                rows.iter().find(|row| row["id"] == id).map(|row| row["created_at"].as_str().unwrap().to_owned())
            }
        };
        let older =
            |row: &&Value| before.as_ref().is_some_and(|before| row["created_at"].as_str().unwrap() < before.as_str());
        let page: Vec<&Value> = rows.iter().rev().filter(older).take(lists.page).collect();
        ResponseTemplate::new(200).set_body_json(json!({ name: page, "links": {} }))
    }
}

/// Polls until there is no more, and returns the events.
async fn drain(notify: &Notify, cursor: &mut Option<Cursor>) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let page = notify.poll(cursor.as_ref()).await.unwrap();
        all.extend(page.events);
        *cursor = page.next.or(cursor.take());
        if !page.more {
            return all;
        }
    }
}

fn names(events: &[Event]) -> Vec<String> {
    let id = |event: &Event| match event {
        Event::Delivery(delivery) => format!("{} {}", delivery.key().unwrap(), delivery.status),
        Event::Inbound(inbound) => format!("inbound {}", inbound.id.as_str().trim_start_matches(['0', '-'])),
        other => panic!("{other:?}"),
    };
    events.iter().map(id).collect()
}

#[tokio::test]
async fn poll_returns_each_final_state_once_oldest_first() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    let tick = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        clock.now()
    };
    let mut cursor = None;
    assert!(drain(&notify, &mut cursor).await.is_empty());
    assert_eq!(lists.calls(), 2);

    lists.send(1, "sending", tick(1));
    lists.send(2, "delivered", tick(1));
    lists.write(3, tick(1));
    lists.send(4, "created", tick(1));
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["key-2 delivered", "inbound 3"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());

    // A message is returned once final, whatever arrived since, and never again.
    lists.settle(4, "permanent-failure", tick(10));
    lists.send(5, "sent", tick(1));
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["key-4 permanent-failure", "key-5 sent"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
    lists.settle(1, "temporary-failure", tick(3 * 24 * 3600));
    lists.write(6, tick(1));
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["key-1 temporary-failure", "inbound 6"]);

    // Messages deleted since are not needed, and a cursor survives serialisation.
    clock.advance(Duration::from_secs(8 * 24 * 3600));
    {
        let mut all = lists.0.lock().unwrap();
        all.notifications.clear();
        all.received.clear();
    }
    cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert!(drain(&notify, &mut cursor).await.is_empty());
    lists.write(7, tick(1));
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["inbound 7"]);

    let error = notify.poll(Some(&Cursor::new("somebody else's"))).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("after")));
}

#[tokio::test]
async fn poll_and_callback_give_the_same_event() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    lists.send(1, "delivered", recorded());
    lists.write(2, recorded());
    {
        let row = &mut lists.0.lock().unwrap().notifications[0];
        row["cost_in_pounds"] = json!(0.0454);
        row["cost_details"] = json!({ "billable_sms_fragments": 2, "sms_rate": 0.0227 });
    }
    clock.advance(Duration::from_secs(1));
    let page = notify.poll(None).await.unwrap();
    let delivery = json!({
        "id": uuid(1), "reference": "key-1", "to": "07700 900123", "status": "delivered", "sent_at": null,
        "created_at": recorded().to_string(), "completed_at": recorded().to_string(), "notification_type": "sms",
    });
    let inbound = json!({
        "id": uuid(2), "source_number": "447700900123", "destination_number": "07700900456", "message": "Hello",
        "date_received": recorded().to_string(),
    });
    let mut called = Vec::new();
    for body in [inbound, delivery] {
        called.extend(notify.receive(&callback(TOKENS[0], body.to_string())).await.unwrap().events);
    }
    let ids = |events: &[Event]| events.iter().map(Event::id).collect::<Vec<_>>();
    assert_eq!(ids(&page.events), ids(&called));
    for (polled, mut called) in page.events.into_iter().zip(called) {
        // All except what only the list has: the piece of the body, and the price.
        match (&polled, &mut called) {
            (Event::Delivery(polled), Event::Delivery(called)) => {
                assert_eq!((polled.price.unwrap().micros(), polled.segments), (45_400, Some(2)));
                called.envelope.raw = polled.envelope.raw.clone();
                (called.price, called.segments) = (polled.price, polled.segments);
            }
            (Event::Inbound(polled), Event::Inbound(called)) => called.envelope.raw = polled.envelope.raw.clone(),
            other => panic!("{other:?}"),
        }
        assert_eq!(polled, called);
    }
}

#[tokio::test]
async fn backlog_is_paged_and_stuck_message_is_dropped() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 3).await;
    // Seven days of messages, two per hour in one millisecond; the oldest never becomes final.
    lists.send(0, "sending", clock.now());
    // One more, so that a pair straddles two pages.
    lists.write(2000, clock.now());
    for n in 1..=168 {
        clock.advance(Duration::from_secs(3600));
        lists.write(2000 + n, clock.now());
        lists.send(n, "delivered", clock.now());
        lists.write(1000 + n, clock.now());
        lists.0.lock().unwrap().received.last_mut().unwrap()["created_at"] = stamp(clock.now(), 1).into();
    }
    let (mut cursor, mut all, mut parts) = (None, Vec::new(), 0);
    loop {
        let page = notify.poll(cursor.as_ref()).await.unwrap();
        // At most eight pages of three from each list.
        assert!(page.events.len() <= 48, "{}", page.events.len());
        parts += 1;
        all.extend(names(&page.events));
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert!(parts > 168 / 24, "{parts}");
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (3 * 168 + 1, 3 * 168 + 1));
    let place = |n: usize| all.iter().position(|name| *name == format!("inbound {n}")).unwrap();
    assert!((1..=168).all(|n| place(2000 + n) < place(1000 + n)));
    // The stuck message is past four days: polls no longer read back to it.
    lists.calls();
    drain(&notify, &mut cursor).await;
    assert_eq!(lists.calls(), 2);
}

/// Creates, finishes and polls messages at random: each is returned once.
#[tokio::test]
async fn poll_loses_and_repeats_nothing_in_any_order() {
    for seed in 1..=6_u64 {
        let (server, clock, notify) = channel().await;
        let lists = Lists::on(&server, 4).await;
        let source = SeededRandom::new(seed * 7919);
        let random = |below: u64| source.next_u64() % below;
        let (mut open, mut expected, mut seen, mut cursor) = (Vec::new(), BTreeSet::new(), Vec::new(), None);
        let mut halves = 0;
        for n in 1..=400 {
            clock.advance(Duration::from_millis(random(90_000) + 1));
            match random(10 + seed % 3) {
                0..=3 => {
                    lists.send(n, "sending", clock.now());
                    open.push(n);
                }
                4..=5 if !open.is_empty() => {
                    let one = open.swap_remove(usize::try_from(random(open.len() as u64)).unwrap());
                    lists.settle(one, "delivered", clock.now());
                    expected.insert(format!("key-{one} delivered"));
                }
                6..=7 => {
                    lists.write(n, clock.now());
                    expected.insert(format!("inbound {n}"));
                }
                // A single page, rarely, so that a backlog builds up and is read in part.
                _ if random(seed * 4) == 0 => {
                    let page = notify.poll(cursor.as_ref()).await.unwrap();
                    seen.extend(names(&page.events));
                    cursor = page.next;
                    halves += usize::from(page.more);
                }
                _ => {}
            }
        }
        assert!(seed < 4 || halves > 0, "seed {seed} had no backlog");
        seen.extend(names(&drain(&notify, &mut cursor).await));
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "seed {seed}");
        assert_eq!(distinct, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn malformed_list_is_an_error_and_row_is_kept() {
    let (server, _, notify) = channel().await;
    answers(&server, 200, &json!({ "something": "else" })).await;
    let error = notify.poll(None).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unexpected, Outcome::NotSent));
    // The same page each time: a list that does not descend.
    let row = json!({ "id": uuid(1), "status": "delivered", "created_at": recorded().to_string() });
    answers(&server, 200, &json!({ "notifications": [row] })).await;
    assert_eq!(notify.poll(None).await.unwrap_err().kind(), ErrorKind::Unexpected);
    server.reset().await;
    let lists = Lists::on(&server, 250).await;
    lists.send(1, "delivered", recorded());
    let push_malformed = |row: Value| lists.0.lock().unwrap().notifications.push(row);
    push_malformed(json!({ "created_at": stamp(recorded(), 1), "status": ["new"] }));
    let mut cursor = None;
    let events = drain(&notify, &mut cursor).await;
    assert!(matches!(&events[..], [Event::Delivery(_), Event::Unrecognised(_)]), "{events:?}");
    // The next one is returned as well, though neither has an id.
    push_malformed(json!({ "created_at": stamp(recorded(), 2), "status": "delivered" }));
    let events = drain(&notify, &mut cursor).await;
    let next =
        |event: &Event| matches!(event, Event::Unrecognised(one) if !one.envelope.raw.as_bytes().contains(&b'['));
    assert!(events.iter().any(next), "{events:?}");
}

#[tokio::test]
async fn malformed_last_row_does_not_end_the_poll() {
    let (server, _, notify) = channel().await;
    let lists = Lists::on(&server, 2).await;
    let at = |seconds| recorded().minus(Duration::from_secs(seconds));
    lists.send(1, "delivered", at(40));
    // Its status is not a string, and its id is where the next page starts.
    let malformed = |n, seconds| json!({ "id": uuid(n), "created_at": stamp(at(seconds), 0), "status": ["new"] });
    lists.0.lock().unwrap().notifications.push(malformed(2, 30));
    lists.send(3, "delivered", at(20));
    lists.0.lock().unwrap().received.push(malformed(4, 10));
    let mut cursor = None;
    let events = drain(&notify, &mut cursor).await;
    let times: Vec<Timestamp> = events.iter().map(|event| event.envelope().at).collect();
    assert_eq!(times, [at(40), at(30), at(20), at(10)], "{events:?}");
    assert!(drain(&notify, &mut cursor).await.is_empty(), "and neither is returned again");
}

#[tokio::test]
async fn unknown_status_is_returned_once_final() {
    let (server, clock, notify) = channel().await;
    let lists = Lists::on(&server, 250).await;
    let set = |n: usize, field: &str, value: Value| {
        let mut lists = lists.0.lock().unwrap();
        lists.notifications.iter_mut().find(|row| row["id"] == uuid(n)).unwrap()[field] = value;
    };
    lists.send(1, "sending", clock.now());
    lists.send(2, "sending", clock.now());
    clock.advance(Duration::from_secs(600));
    let mut cursor = None;
    assert!(drain(&notify, &mut cursor).await.is_empty());
    clock.advance(Duration::from_secs(600));
    set(1, "status", "held-by-owl".into());
    set(2, "status", "delivered".into());
    // A final state without a time is returned as well, once.
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["key-2 delivered"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
    clock.advance(Duration::from_secs(600));
    set(1, "completed_at", stamp(clock.now(), 0).into());
    assert_eq!(names(&drain(&notify, &mut cursor).await), ["key-1 held-by-owl"]);
    assert!(drain(&notify, &mut cursor).await.is_empty());
}
