//! A council's scenes from end to end: residents, officers, gateways that fail, and a process that is killed.

use std::time::Duration;

use civic_messaging::testing::{SocketFault, Step};
use serde_json::{Value, json};

use super::council::{ACCEPTED_BY_NOTIFY, Council, FILE, Service, until};

const NUMBER: &str = "447700900123";

fn sms() -> Value {
    json!({ "phone": "+447700900123" })
}

fn whatsapp() -> Value {
    json!({ "whatsapp": { "phone": "+447700900123" } })
}

fn photo(council: &Council, n: u32, caption: Option<&str>) -> Value {
    let url = format!("{}/photo-{n}", council.files.base_url());
    let mut image = json!({ "id": n.to_string(), "mime_type": "image/jpeg", "url": url });
    if let Some(caption) = caption {
        image["caption"] = caption.into();
    }
    json!({ "id": format!("wamid.photo-{n}"), "type": "image", "image": image })
}

/// The texts that a gateway accepted and that contain this text.
fn texts(gateway: &civic_messaging::testing::FakeGateway, part: &str) -> Vec<String> {
    let accepted = gateway.requests().into_iter().filter(|request| request.accepted);
    accepted.flat_map(|request| request.texts()).filter(|text| text.contains(part)).collect()
}

/// Scene 1. A resident sends pictures of a fallen tree while the office is closed; the process is killed before its reply
/// leaves.
async fn photo_while_closed(sunday: [&str; 2], opening: &str) {
    let council = Council::new().await;
    // The gateway is busy, so that the reply still waits when the process dies.
    let busy = r#"{"error":{"message":"Rate limit hit","type":"OAuthException","code":130429}}"#;
    council.meta.expects(Step::any().answers(429, busy));
    let service = council.start(sunday[0]);
    service.whatsapp(NUMBER, sunday[0], photo(&council, 1, Some("A tree has fallen on Mill Lane"))).await;
    until(async || (service.messages("deferred").await.len() == 1).then_some(())).await;
    service.kill();

    let service = council.start(sunday[1]);
    let reply = until(async || texts(&council.meta, "We are closed now.").pop()).await;
    assert!(reply.contains(opening) && reply.contains("In an emergency call 999."), "{reply}");
    for n in [2, 3] {
        service.whatsapp(NUMBER, sunday[1], photo(&council, n, None)).await;
    }
    // All three pictures are there, and the reply went once.
    let entries = until(async || {
        let entries = service.conversation(whatsapp()).await;
        let held = entries.iter().filter(|entry| entry["files"][0]["state"] == "held").count();
        (held == 3).then_some(entries)
    })
    .await;
    assert_eq!(entries.iter().filter(|entry| entry["direction"] == "out").count(), 1);
    let event = &entries.iter().find(|entry| entry["direction"] == "in").unwrap()["event"];
    let (status, picture) = service.call("GET", &format!("/v1/files?event={event}&file=0"), None).await;
    assert_eq!((status, picture), (200, "a fallen tree".into()));
    let (code, report) = service.terminate();
    assert_eq!((code, report), (0, json!({ "stopped": { "unfinished": 0 } })));
    assert_eq!(texts(&council.meta, "We are closed now.").len(), 1);
    council.assert_log_is_clean(&["Mill Lane", "We are closed"]);
}

#[tokio::test]
async fn scene_1_photo_on_sunday_gets_one_reply() {
    photo_while_closed(["2026-11-22T21:14:00Z", "2026-11-22T21:16:00Z"], "We open again tomorrow at 9am.").await;
}

#[tokio::test]
async fn scene_1_reply_skips_the_bank_holiday() {
    let sunday = ["2026-12-27T21:14:00Z", "2026-12-27T21:16:00Z"];
    photo_while_closed(sunday, "We open again on Tuesday 29 December at 9am.").await;
}

#[tokio::test]
async fn scene_2_welsh_is_answered_in_welsh_and_priced_before() {
    let council = Council::new().await;
    let at = "2026-11-22T21:14:00Z";
    let service = council.start(at);
    service.sms(1, NUMBER, at, "Mae coeden wedi cwympo ar y ffordd").await;
    let reply = until(async || texts(&council.notify, "Rydym ar gau nawr.").pop()).await;
    assert!(reply.contains("yfory am 9yb") && reply.contains("ffoniwch 999"), "{reply}");

    // One â makes two segments of 116 characters.
    let plain = "Mae eich casgliad gwastraff gardd wedi newid i ddydd Iau yr wythnos hon. Rhowch y bin allan erbyn saith y bore, da.";
    let accented = plain.replacen("da.", "dâ.", 1);
    assert!((100..=160).contains(&plain.chars().count()));
    for (text, segments) in [(plain, 1), (&*accented, 2)] {
        let message = json!({ "to": sms(), "content": { "text": text } });
        let plan = service.post("/v1/plan", json!({ "line": "enquiries", "message": message })).await;
        assert_eq!(plan["segments"], segments, "{plan}");
        let words = ["send", FILE, "--line", "enquiries", "--to", "07700 900123", "--text", text, "--dry-run"];
        let (code, shown, _) = council.run(at, &words);
        assert_eq!(code, 0);
        assert!(shown.contains(&format!("{segments} segment")), "{shown}");
    }
    assert_eq!(texts(&council.notify, "casgliad").len(), 0, "a plan was sent");
    council.assert_log_is_clean(&["coeden", "Rydym ar gau"]);
}

#[tokio::test]
async fn scene_4_failing_supplier_gets_one_message() {
    let council = Council::new().await;
    let busy = r#"{"errors":[{"error":"RateLimitError","message":"Exceeded rate limit"}],"status_code":429}"#;
    council.notify.expects(Step::post("/v2/notifications/sms").answers(429, busy));
    council.notify.expects(Step::post("/v2/notifications/sms").answers(500, "").accepting(false));
    let service = council.start("2026-11-24T10:00:00Z");
    let (status, message) = service.send(sms(), "Your collection is on Thursday.", "notice").await;
    assert_eq!(status, 200, "{message}");
    let (id, key) = (message["id"].clone(), message["key"].clone());
    service.until(&id, "unknown").await;
    service.kill();

    // Ten minutes later Notify does not know it, and so it certainly has not accepted it.
    let none = Step::get(format!("/v2/notifications?template_type=sms&reference={}", key.as_str().unwrap()));
    council.notify.expects(none.answers(200, r#"{"notifications":[],"links":{}}"#));
    // The answer takes its time.
    let slow = SocketFault::Drip(Duration::from_millis(30));
    council.notify.expects(Step::post("/v2/notifications/sms").answers(201, ACCEPTED_BY_NOTIFY).breaks(slow));
    let service = council.start("2026-11-24T10:10:00Z");
    until(async || (council.notify.accepted("Your collection") == 1).then_some(())).await;
    // The report overtakes the answer.
    service
        .notify(json!({
            "id": "740e5834-3a29-46b4-9a6f-16142fde533a", "reference": key, "to": "+447700900123",
            "status": "delivered", "notification_type": "sms", "created_at": "2026-11-24T10:10:00.000000Z",
            "completed_at": "2026-11-24T10:10:01.000000Z", "sent_at": "2026-11-24T10:10:00.500000Z",
        }))
        .await;
    let message = until(async || {
        let message = service.get(&format!("/v1/messages/{id}")).await;
        let has_ended = message["history"].as_array()?.iter().all(|attempt| !attempt["outcome"].is_null());
        (has_ended && message["delivery"] == "delivered").then_some(message)
    })
    .await;
    let outcomes: Vec<_> = message["history"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["rejected", "unknown", "accepted"], "{message}");
    assert_eq!(message["state"], "accepted");
    assert_eq!(council.notify.accepted("Your collection"), 1);
    council.notify.assert_done();
    assert_eq!(service.stats().await["messages"], json!({ "accepted": 1 }));
    council.assert_log_is_clean(&["collection"]);
}

#[tokio::test]
async fn scene_5_killed_send_is_unknown_and_a_person_decides() {
    let council = Council::new().await;
    council.meta.expects(Step::any().breaks(SocketFault::Stall));
    let at = "2026-11-24T10:00:00Z";
    let service = council.start(at);
    let text = json!({ "id": "wamid.in", "type": "text", "text": { "body": "Is the library open?" } });
    service.whatsapp(NUMBER, at, text).await;
    let reply = json!({ "line": "enquiries", "person": whatsapp(), "text": "Yes, until five." });
    let id = service.post("/v1/reply", reply).await["id"].clone();
    // The gateway has it, and has not answered.
    until(async || (council.meta.accepted("Yes, until five.") == 1).then_some(())).await;
    service.kill();

    let service = council.start("2026-11-24T10:01:00Z");
    let message = service.until(&id, "unknown").await;
    assert!(message["reason"].as_str().unwrap().contains("the process ended during the send"), "{message}");
    assert_eq!(service.messages("unknown").await.len(), 1);
    // A person looks at the gateway's pages, and decides beside the running service.
    let number = id.to_string();
    let (code, _, error) = council.run("2026-11-24T10:02:00Z", &["settle", FILE, &number, "sent"]);
    assert_eq!(code, 2);
    assert!(error.contains("--yes"), "{error}");
    let (code, shown, _) = council.run("2026-11-24T10:02:00Z", &["settle", FILE, &number, "sent", "--yes"]);
    assert_eq!((code, shown), (0, format!("message {id} is accepted\n")));
    assert_eq!(service.get(&format!("/v1/messages/{id}")).await["state"], "accepted");
    let (status, refusal) =
        service.call("POST", &format!("/v1/messages/{id}/settle"), Some(json!({ "decision": "resend" }))).await;
    assert_eq!(status, 409, "{refusal}");
    service.terminate();
    assert_eq!(council.meta.accepted("Yes, until five."), 1);
    council.assert_log_is_clean(&["library", "until five"]);
}

#[tokio::test]
async fn scene_6_stop_by_sms_holds_on_every_medium() {
    let council = Council::new().await;
    let tuesday = "2026-11-24T10:00:00Z";
    let service = council.start(tuesday);
    service.sms(1, NUMBER, tuesday, "STOP").await;
    // Answered 2xx is enough.
    service.kill();

    let wednesday = "2026-11-25T10:00:00Z";
    let service = council.start(wednesday);
    for to in [sms(), whatsapp()] {
        let (status, refusal) = service.send(to, "Your council tax is due on Friday.", "notice").await;
        assert_eq!((status, &refusal["error"]["code"]), (422, &json!("opt-out")), "{refusal}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains("the person opted out"), "{refusal}");
    }
    service.sms(2, NUMBER, wednesday, "When is my council tax due?").await;
    let reply = json!({ "line": "enquiries", "person": sms(), "text": "On Friday, and you can pay by card." });
    let id = service.post("/v1/reply", reply).await["id"].clone();
    service.until(&id, "accepted").await;
    assert_eq!(council.notify.accepted("pay by card"), 1);
    assert_eq!(council.notify.accepted("is due on Friday") + council.meta.accepted("is due on Friday"), 0);
    let register = service.get("/v1/opt-outs?line=enquiries").await;
    assert_eq!(register["opt_outs"][0]["source"], "keyword", "{register}");
    council.assert_log_is_clean(&["council tax", "pay by card"]);
}

#[tokio::test]
async fn scene_7_promotion_without_consent_is_refused() {
    let council = Council::new().await;
    let at = "2026-11-24T10:00:00Z";
    let service = council.start(at);
    let (status, refusal) = service.send(sms(), "Half price at the leisure centre.", "marketing").await;
    assert_eq!((status, &refusal["error"]["code"]), (422, &json!("consent")), "{refusal}");
    let reason = refusal["error"]["message"].as_str().unwrap();
    assert!(reason.contains("no consent of the person to marketing is recorded"), "{reason}");
    let words = ["send", FILE, "--line", "enquiries", "--to", "07700 900123", "--text", "Half price", "--purpose"];
    let (code, shown, error) = council.run(at, &[&words[..], &["marketing"]].concat());
    assert_eq!((code, &*shown), (1, ""));
    assert!(error.contains("no consent of the person to marketing is recorded"), "{error}");
    assert!(council.notify.requests().is_empty());
    council.assert_log_is_clean(&["leisure", "Half price"]);
}

#[tokio::test]
async fn scene_11_spent_budget_stops_bulk_and_not_replies() {
    let budget = r#"
        [[budgets]]
        name = "reminders"
        messages = 5
        per = "day"
        tag = "council-tax"
        exempt = ["reply"]
    "#;
    let council = Council::with(budget).await;
    let at = "2026-11-24T10:00:00Z";
    let service = council.start(at);
    let remind = async |service: &Service<'_>, n: u32| {
        let message = json!({
            "to": { "phone": format!("+4477009001{n:02}") }, "content": { "text": format!("Reminder {n} is here.") },
            "tag": "council-tax", "key": format!("council-tax-{n}"),
        });
        service.post("/v1/messages", json!({ "line": "enquiries", "message": message })).await["id"].clone()
    };
    for n in 1..=4 {
        remind(&service, n).await;
    }
    // In the middle of the broadcast.
    service.kill();

    let service = council.start("2026-11-24T10:01:00Z");
    for n in 1..=8 {
        remind(&service, n).await;
    }
    let counts = until(async || {
        let counts = service.stats().await["messages"].clone();
        let count = |state: &str| counts[state].as_u64().unwrap_or(0);
        (count("accepted") + count("unknown") + count("refused") == 8).then(|| [count("refused"), count("unknown")])
    })
    .await;
    let [refused, unknown] = counts;
    let sent: Vec<_> = (1..=8).map(|n| council.notify.accepted(&format!("Reminder {n} "))).collect();
    assert_eq!(refused, 3, "{unknown} unknown, sent: {sent:?}");
    assert!(sent.iter().all(|copies| *copies <= 1) && sent.iter().sum::<usize>() <= 5, "{sent:?}");
    // A reply goes.
    service.sms(1, NUMBER, at, "What do I owe?").await;
    let reply = json!({ "line": "enquiries", "person": sms(), "text": "Nothing any more." });
    let id = service.post("/v1/reply", reply).await["id"].clone();
    service.until(&id, "accepted").await;
    // The officer sees how many were not sent, and why.
    let (code, shown, _) = council.run(at, &["messages", &council.file, "--line", "enquiries", "--state", "refused"]);
    assert_eq!(code, 0);
    assert_eq!(shown.matches("the budget reminders of this day is spent").count(), 3, "{shown}");
    let budgets = service.get("/v1/stats").await["budgets"].clone();
    let reminders = budgets.as_array().unwrap().iter().find(|budget| budget["name"] == "reminders").unwrap();
    assert_eq!((&reminders["used"], &reminders["per"]), (&json!("5 messages"), &json!("day")), "{budgets}");
    let (_, shown, _) = council.run(at, &["stats", &council.file]);
    assert!(shown.contains("reminders  5 messages  5 messages"), "{shown}");
    council.assert_log_is_clean(&["Reminder", "Nothing any more"]);
}
