//! Look-ups of messages.

use super::*;

fn ours(id: u64, text: &str, at: &str) -> Value {
    let mut event = listed(id, text);
    event["sender_id"] = COUNCIL.into();
    event["created_at"] = at.into();
    event
}

fn found(evidence: &LookupOutcome) -> Vec<&str> {
    match evidence {
        LookupOutcome::Found(deliveries) => deliveries.iter().map(|delivery| delivery.id().unwrap().as_str()).collect(),
        _ => Vec::new(),
    }
}

async fn looked_up(sent: &LookupQuery, events: Value) -> LookupOutcome {
    let server = MockServer::start().await;
    let at = "/2/dm_conversations/with/1900000000000000101/dm_events";
    given(&server, "GET", at, ResponseTemplate::new(200).set_body_json(json!({ "data": events }))).await;
    signed(&server).look_up(sent).await.unwrap()
}

#[tokio::test]
async fn look_up_finds_own_message_by_text_since_sending() {
    let at: Timestamp = "2026-09-01T09:30:00Z".parse().unwrap();
    let sent = |text: &str| LookupQuery::new(Message::text(resident(), text), at);
    let (before, within, after) = ("2026-09-01T09:29:00Z", "2026-09-01T09:29:31Z", "2026-09-01T09:30:05Z");
    let hello = sent("Hello & welcome");
    let absent = LookupOutcome::Inconclusive;
    for (events, ids) in [
        (json!([ours(9, "Hello & welcome", after)]), vec!["9"]),
        (json!([ours(9, "Hello &amp; welcome", after)]), vec!["9"]),
        (json!([ours(9, "Hello & welcome", within)]), vec!["9"]),
        (
            json!([ours(9, "Hello & welcome", after), ours(8, "Other", after), ours(7, "Hello & welcome", after)]),
            vec!["9", "7"],
        ),
        (json!([ours(9, "Hello & welcome", before)]), vec![]),
        (json!([listed(9, "Hello & welcome")]), vec![]),
        (json!([ours(9, "Hello", after)]), vec![]),
        (json!([]), vec![]),
    ] {
        let evidence = looked_up(&hello, events.clone()).await;
        assert_eq!(found(&evidence), ids, "{events}");
        assert_eq!(evidence == absent, ids.is_empty(), "{events}");
    }
    // X shortens links on the way.
    let mut linked = ours(9, "See https://t.co/a", after);
    linked["entities"] =
        json!({ "urls": [{ "url": "https://t.co/a", "expanded_url": "https://example.org/bins" }], "hashtags": null });
    assert_eq!(found(&looked_up(&sent("See https://example.org/bins"), json!([linked])).await), ["9"]);
    // A file, by its id and caption.
    let media = |id: &str| {
        LookupQuery::new(Message::media(resident(), [Media::image(MediaRef::new("x", id)).caption("Map")]), at)
    };
    let mut file = ours(9, "Map https://t.co/b", after);
    file["attachments"] = json!({ "media_keys": ["3_401"] });
    file["entities"] =
        json!({ "urls": [{ "url": "https://t.co/b", "expanded_url": "https://x.com/messages/media/9" }] });
    assert_eq!(found(&looked_up(&media("401"), json!([file])).await), ["9"]);
    assert_eq!(looked_up(&media("402"), json!([file])).await, absent);
    assert_eq!(looked_up(&sent("Map"), json!([file])).await, absent);
    // Inconclusive without a sender or a time.
    for field in ["sender_id", "created_at"] {
        let mut event = ours(9, "Hello & welcome", after);
        event.as_object_mut().unwrap().remove(field);
        assert_eq!(looked_up(&hello, json!([event])).await, LookupOutcome::Inconclusive, "{field}");
    }
}

#[tokio::test]
async fn look_up_by_id_finds_the_message() {
    let sent = LookupQuery::new(Message::text(resident(), "Hello"), NOW).with_id("1900000000000000501".into());
    let at = "/2/dm_events/1900000000000000501";
    let server = MockServer::start().await;
    let x = signed(&server);
    given(
        &server,
        "GET",
        at,
        ResponseTemplate::new(200).set_body_json(json!({ "data": { "id": "1900000000000000501" } })),
    )
    .await;
    let evidence = x.look_up(&sent).await.unwrap();
    assert_eq!(found(&evidence), ["1900000000000000501"]);
    for gone in [answer(200, "v2_users_not_found_partial.response.200.json"), ResponseTemplate::new(404)] {
        server.reset().await;
        given(&server, "GET", at, gone).await;
        assert_eq!(x.look_up(&sent).await.unwrap(), LookupOutcome::Inconclusive);
    }
    server.reset().await;
    given(&server, "GET", at, ResponseTemplate::new(503)).await;
    assert!(x.look_up(&sent).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn look_up_short_of_the_sending_time_is_inconclusive() {
    struct Endless;
    impl Respond for Endless {
        fn respond(&self, _: &Asked) -> ResponseTemplate {
            let events = [ours(9, "Other", "2026-09-01T10:30:00Z")];
            ResponseTemplate::new(200).set_body_json(json!({ "data": events, "meta": { "next_token": "MORE" } }))
        }
    }
    let server = MockServer::start().await;
    Mock::given(path("/2/dm_conversations/1900000000000000601/dm_events")).respond_with(Endless).mount(&server).await;
    let group = Address::conversation(Medium::X, "1900000000000000601").unwrap();
    let sent = LookupQuery::new(Message::text(group, "Hello"), "2026-09-01T09:30:00Z".parse().unwrap());
    assert_eq!(signed(&server).look_up(&sent).await.unwrap(), LookupOutcome::Inconclusive);
    assert_eq!(asked(&server).await.len(), 10);
}
