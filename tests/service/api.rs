//! The officers' API and the endpoints of a running service.

use serde_json::{Value, json};

use super::council::{API_TOKEN, Council, until};

const AT: &str = "2026-11-24T10:00:00Z";
const NUMBER: &str = "447700900123";

#[tokio::test]
async fn api_needs_its_token() {
    let council = Council::new().await;
    let service = council.start(AT);
    for path in ["/v1/lines", "/v1/stats", "/v1/opt-outs?line=enquiries", "/metrics", "/nothing"] {
        for token in
            [None, Some(""), Some("canary-api-token-of-the-officerz"), Some("canary-api-token-of-the-officers1")]
        {
            let request = service.anonymous(path);
            let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
        }
        let basic = service.anonymous(path).basic_auth("officer", Some(API_TOKEN)).send().await.unwrap();
        assert_eq!(basic.status(), 401, "{path}");
    }
    let lines = service.anonymous("/v1/lines").bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(lines.headers()["cache-control"], "no-store");
    let lines: Value = serde_json::from_str(&lines.text().await.unwrap()).unwrap();
    assert_eq!(lines["lines"].as_array().unwrap().len(), 6);
    assert_eq!(
        lines["lines"][0]["channels"][1],
        json!({
            "gateway": "notify", "medium": "sms", "account": lines["lines"][0]["channels"][1]["account"],
        })
    );
    // Webhooks and the API are apart.
    assert_eq!(service.outside("/v1/lines").bearer_auth(API_TOKEN).send().await.unwrap().status(), 404);
    assert_eq!(service.outside("/health").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn wrong_request_names_the_member_and_no_value() {
    let council = Council::new().await;
    let service = council.start(AT);
    let message = json!({ "to": { "phone": "+447700900123" }, "content": { "text": "canary" } });
    let broken = |pointer: &str, value: Value| {
        let mut send = json!({ "line": "enquiries", "message": message });
        match send.pointer_mut(pointer) {
            Some(there) => *there = value,
            None => send[pointer.trim_start_matches('/')] = value,
        }
        send
    };
    for (body, status, field) in [
        (json!("canary"), 400, "."),
        (json!({}), 400, "line"),
        (json!({ "line": "enquiries" }), 400, "message"),
        (broken("/lime", json!("canary")), 400, "lime"),
        (broken("/message", json!({ "to": { "phone": "+447700900123" } })), 400, "message.content"),
        (broken("/message/to/phone", json!("canary")), 400, "message.to.phone"),
        (broken("/line", json!("canary")), 422, "line"),
        (broken("/message/content/text", json!("")), 422, "text"),
    ] {
        let (answered, json) = service.call("POST", "/v1/messages", Some(body)).await;
        let error = &json["error"];
        assert_eq!((answered, error["field"].as_str()), (status, Some(field)), "{json}");
        assert!(!json.to_string().contains("canary") && !json.to_string().contains("7700900"), "{json}");
    }
    for (path, status) in [
        ("/v1/messages", 400),
        ("/v1/messages?line=enquiries&state=canary", 400),
        ("/v1/messages?line=enquiries&state=parked&canary=1", 400),
        ("/v1/messages?line=enquiries&state=parked&after=canary", 400),
        ("/v1/messages/4711", 404),
        ("/v1/messages/canary", 404),
        ("/v1/files?event=1", 404),
        ("/v1/canary", 404),
    ] {
        let (answered, json) = service.call("GET", path, None).await;
        assert_eq!(answered, status, "{path}: {json}");
        assert!(!json.to_string().contains("canary"), "{json}");
    }
    council.assert_log_is_clean(&[]);
}

#[tokio::test]
async fn conversation_is_read_page_by_page_and_answered_once() {
    let council = Council::new().await;
    let service = council.start(AT);
    for n in 1..=5 {
        service.sms(n, NUMBER, AT, &format!("Question {n}?")).await;
    }
    let person = json!({ "phone": "+447700900123" });
    let (mut seen, mut before) = (Vec::new(), Value::Null);
    loop {
        let page = json!({ "line": "enquiries", "person": person, "before": before, "limit": 2 });
        let page = service.post("/v1/conversation", page).await;
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["content"]["text"].clone()));
        before = page["next"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["Question 5?", "Question 4?", "Question 3?", "Question 2?", "Question 1?"]);
    let entries = service.conversation(person.clone()).await;
    let third = entries[2]["event"].clone();
    let reply = json!({ "line": "enquiries", "person": person, "text": "To the third: yes.", "event": third });
    let first = service.post("/v1/reply", reply.clone()).await;
    // The same answer to the same message is one message.
    assert_eq!(service.post("/v1/reply", reply).await["id"], first["id"]);
    service.until(&first["id"], "accepted").await;
    assert_eq!(council.notify.accepted("To the third"), 1);
    let stranger = json!({ "line": "enquiries", "person": { "phone": "+447700900199" }, "text": "Hello" });
    assert_eq!(service.call("POST", "/v1/reply", Some(stranger)).await.0, 409);
}

#[tokio::test]
async fn waiting_person_is_listed_until_answered() {
    let council = Council::new().await;
    let service = council.start(AT);
    for n in 1..=3 {
        service.sms(n, &format!("44770090012{n}"), AT, &format!("Question {n}?")).await;
    }
    let (mut listed, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = json!({ "line": "enquiries", "filter": "waiting", "after": after, "limit": 2 });
        let page = service.post("/v1/conversations", page).await;
        for conversation in page["conversations"].as_array().unwrap() {
            assert_eq!((&conversation["unread"], &conversation["last"]["direction"]), (&json!(1), &json!("in")));
            listed.push(conversation["last"]["content"]["text"].clone());
        }
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    listed.sort_by_key(ToString::to_string);
    assert_eq!(listed, ["Question 1?", "Question 2?", "Question 3?"]);
    let person = json!({ "phone": "+447700900123" });
    let reply = json!({ "line": "enquiries", "person": person, "text": "Yes." });
    let id = service.post("/v1/reply", reply).await["id"].clone();
    service.until(&id, "accepted").await;
    let waiting = json!({ "line": "enquiries", "filter": "waiting" });
    let list = service.post("/v1/conversations", waiting).await;
    assert_eq!(list["conversations"].as_array().unwrap().len(), 2, "{list}");
    let other = json!({ "line": "enquiries", "person": { "phone": "+447700900122" } });
    assert_eq!(service.post("/v1/conversation/read", other.clone()).await, json!({ "read": true }));
    assert_eq!(service.post("/v1/conversation/read", other).await, json!({ "read": false }));

    let of = ["conversations", super::council::FILE, "--line", "enquiries"];
    let (code, shown, _) = council.run(AT, &of);
    assert_eq!((code, shown.lines().count()), (0, 3), "{shown}");
    assert!(!shown.contains("7700900") && !shown.contains("Question"), "{shown}");
    let (_, shown, _) = council.run(AT, &[&of[..], &["--filter", "unread", "--show-personal-data"]].concat());
    assert!(shown.contains("phone:+447700900121") && shown.contains("Question 1?"), "{shown}");
    assert!(!shown.contains("Question 2?") && !shown.contains("Question 3?"), "{shown}");
    let (_, shown, _) = council.run(AT, &[&of[..], &["--json"]].concat());
    assert!(!shown.contains("7700900") && shown.contains("waiting_since"), "{shown}");
}

#[tokio::test]
async fn event_comes_until_it_is_acknowledged() {
    let council = Council::new().await;
    let service = council.start(AT);
    service.sms(1, NUMBER, AT, "When is my bin day?").await;
    let events = service.post("/v1/events", json!({ "line": "enquiries", "wait_seconds": 20 })).await;
    let event = &events["events"][0];
    assert_eq!((&event["attempts"], &event["message"]["content"]["text"]), (&json!(1), &json!("When is my bin day?")));
    // It is leased.
    assert_eq!(service.post("/v1/events", json!({})).await, json!({ "events": [] }));
    let path = format!("/v1/events/{}/acknowledge", event["event"]);
    assert_eq!(service.call("POST", &path, None).await.0, 204);
    assert_eq!(service.call("POST", &path, None).await.0, 409);
    assert_eq!(service.stats().await["unread"], 0);
}

#[tokio::test]
async fn opt_out_is_recorded_checked_and_lifted() {
    let council = Council::new().await;
    let service = council.start(AT);
    let person = json!({ "phone": "+447700900123" });
    let of = json!({ "line": "enquiries", "person": person });
    let by = json!({ "line": "enquiries", "person": person, "officer": "J. Jones" });
    assert_eq!(service.post("/v1/opt-outs/check", of.clone()).await, json!({ "opted_out": false }));
    assert_eq!(service.post("/v1/opt-outs", by.clone()).await, json!({ "recorded": true }));
    assert_eq!(service.post("/v1/opt-outs", by.clone()).await, json!({ "recorded": false }));
    assert_eq!(service.post("/v1/opt-outs/check", of).await, json!({ "opted_out": true }));
    assert_eq!(service.send(person.clone(), "A notice.", "notice").await.0, 422);
    assert_eq!(service.post("/v1/opt-outs/lift", by).await, json!({ "lifted": 1 }));
    let (status, message) = service.send(person, "A notice.", "notice").await;
    assert_eq!(status, 200, "{message}");
    service.until(&message["id"], "accepted").await;
    for n in 1..=5 {
        let person = json!({ "phone": format!("+44770090020{n}") });
        let record = json!({ "line": "enquiries", "person": person, "officer": "J. Jones" });
        assert_eq!(service.post("/v1/opt-outs", record).await, json!({ "recorded": true }));
    }
    let (mut listed, mut after) = (Vec::new(), json!(0));
    loop {
        let page = service.get(&format!("/v1/opt-outs?line=enquiries&limit=2&after={after}")).await;
        let page = page["opt_outs"].as_array().unwrap().clone();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = last["id"].clone();
        listed.extend(page.iter().map(|entry| entry["addresses"][0]["phone"].clone()));
    }
    assert_eq!(listed, (1..=5).map(|n| format!("+44770090020{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn answers_have_documented_members_only() {
    let council = Council::new().await;
    let service = council.start(AT);
    service.whatsapp(NUMBER, AT, json!({ "id": "wamid.in", "type": "text", "text": { "body": "Hello?" } })).await;
    let person = json!({ "whatsapp": { "phone": "+447700900123" } });
    let reply = json!({ "line": "enquiries", "person": person, "text": "Good morning." });
    let message = service.post("/v1/reply", reply).await;
    service.until(&message["id"], "accepted").await;
    let record = json!({ "line": "enquiries", "person": person, "officer": "J. Jones", "note": "by letter" });
    service.post("/v1/opt-outs", record).await;
    let plan = json!({ "line": "enquiries", "message": { "to": person, "content": { "text": "Hello" } } });
    let stats = service.stats().await;
    let shapes = [
        service.get(&format!("/v1/messages/{}", message["id"])).await,
        service.post("/v1/plan", plan).await,
        service.conversation(person.clone()).await[0].clone(),
        service.conversation(person).await[1].clone(),
        service.post("/v1/events", json!({})).await["events"][0].clone(),
        service.get("/v1/opt-outs?line=enquiries").await["opt_outs"][0].clone(),
        service.get("/v1/health").await["channels"][0].clone(),
        service.get("/v1/lines").await["lines"][0].clone(),
        stats,
    ];
    let page = include_str!("../../docs/command_line.md");
    for shape in &shapes {
        let members: Vec<_> = shape.as_object().unwrap().keys().collect();
        assert!(members.len() > 1, "{shape}");
        for member in members {
            assert!(page.contains(&format!("`{member}`")), "{member} of {shape} is not documented");
        }
    }
}

#[tokio::test]
async fn metrics_count_by_line_and_name_nobody() {
    let council = Council::new().await;
    let service = council.start(AT);
    service.sms(1, NUMBER, AT, "When is my bin day?").await;
    let metrics = until(async || {
        let metrics = service.get("/metrics").await.as_str().unwrap().to_owned();
        metrics.contains(r#"civic_messaging_depth{line="enquiries",kind="unread"} 1"#).then_some(metrics)
    })
    .await;
    assert!(metrics.contains("civic_messaging_suspended 0"), "{metrics}");
    assert!(!metrics.contains("7700900"));
    let health = service.get("/v1/health").await;
    assert_eq!(health["channels"].as_array().unwrap().len(), 9);
}
