//! Lookups by id and by key.

use super::*;

#[tokio::test]
async fn look_up_by_key_fails_beside_a_malformed_row() {
    let rows = [json!({ "id": "m1", "reference": {}, "status": "delivered" }), json!({ "id": "m1" }), json!(7)];
    for row in rows {
        let (server, clock, notify) = channel().await;
        let list = ResponseTemplate::new(200).set_body_json(json!({ "notifications": [row] }));
        Mock::given(method("GET")).respond_with(list).mount(&server).await;
        let sent = LookupQuery::new(text("07700 900123", "Hello").key("k"), recorded());
        clock.advance(Duration::from_secs(3_600));
        let error = notify.look_up(&sent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{row}");
    }
}

#[tokio::test]
async fn look_up_by_long_key_queries_its_reference() {
    let (server, _, notify) = channel().await;
    answers(&server, 201, &json!({ "id": "m1" })).await;
    let message = text("07700 900123", "Hello").key("ŵ".repeat(501));
    notify.send(&message).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    let reference = sent["reference"].as_str().unwrap();
    assert_eq!(reference, notify.info().reference(&message).unwrap());
    let row = json!({ "id": "m1", "reference": reference, "status": "delivered" });
    server.reset().await;
    let list = ResponseTemplate::new(200).set_body_json(json!({ "notifications": [row] }));
    let expected = Mock::given(method("GET")).and(wiremock::matchers::query_param("reference", reference));
    expected.respond_with(list).mount(&server).await;
    let found = notify.look_up(&LookupQuery::new(message, recorded())).await.unwrap();
    assert!(matches!(found, LookupOutcome::Found(found) if found[0].key() == Some(reference)));
}

#[tokio::test]
async fn look_up_is_conclusive_only_within_its_window() {
    let (server, clock, notify) = channel().await;
    answers(&server, 200, &json!({ "notifications": [], "links": {} })).await;
    let sent = LookupQuery::new(text("07700 900123", "Hello").key("waste/4711 é"), recorded());
    use LookupOutcome::{Inconclusive, NotFound};
    let (filed, deleted) = (300, 3 * 24 * 3600);
    for (after, outcome) in [
        (0, Inconclusive),
        (filed - 1, Inconclusive),
        (filed, NotFound),
        (deleted - 1, NotFound),
        (deleted, Inconclusive),
    ] {
        let clock = VirtualClock::starting_at(recorded().plus(Duration::from_secs(after)));
        let evidence = with(config(&server), &clock).look_up(&sent).await.unwrap();
        assert_eq!(evidence, outcome, "{after}");
    }
    let requests = server.received_requests().await.unwrap();
    let reference = requests[0].url.query_pairs().find(|(name, _)| name == "reference").unwrap().1.into_owned();
    assert_eq!(reference, "waste/4711 é");
    assert!(requests[0].url.query().unwrap().is_ascii());

    // Simulated numbers are not stored, and without id and key there is nothing to query.
    for message in [text("07700 900111", "Hello").key("k"), text("07700 900123", "Hello")] {
        assert_eq!(notify.look_up(&LookupQuery::new(message, recorded())).await.unwrap(), LookupOutcome::Inconclusive);
    }

    // A key that was sent twice is found twice; another key is not ours.
    let row = |n: usize, key: &str| json!({ "id": uuid(n), "reference": key, "status": "sending", "type": "sms" });
    let rows = json!({ "notifications": [row(1, "k"), row(2, "k"), row(3, "K")] });
    answers(&server, 200, &rows).await;
    let sent = LookupQuery::new(text("07700 900123", "Hello").key("k"), clock.now());
    let LookupOutcome::Found(found) = notify.look_up(&sent).await.unwrap() else { panic!() };
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|delivery| delivery.state == DeliveryState::Sending));

    // The id finds messages of any key type.
    answers(&server, 200, &row(7, "k")).await;
    let LookupOutcome::Found(found) = notify.look_up(&sent.with_id(uuid(7).into())).await.unwrap() else { panic!() };
    assert_eq!(found[0].id().unwrap().as_str(), uuid(7));
    answers(&server, 200, &json!({})).await;
    let by_id = LookupQuery::new(text("07700 900123", "Hello"), recorded()).with_id(uuid(7).into());
    assert_eq!(notify.look_up(&by_id).await.unwrap_err().kind(), ErrorKind::Unexpected);
}
