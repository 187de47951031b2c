//! Lookups by SID and by search.

use super::*;

#[tokio::test]
async fn look_up_by_id_finds_the_message() {
    let server = MockServer::start().await;
    let charged = json!({
        "status": "undelivered", "error_code": 30005, "error_message": "Unknown destination handset",
        "price": "-0.04", "price_unit": "GBP", "num_segments": "2",
    });
    let one = MESSAGES.replace(".json", &format!("/{SID}.json"));
    Mock::given(method("GET"))
        .and(path(one))
        .respond_with(ResponseTemplate::new(200).set_body_json(with(charged)))
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let sent = |id: &str| LookupQuery::new(hello(), NOON).with_id(MessageId::new(id));
    let LookupOutcome::Found(found) = sms.look_up(&sent(SID)).await.unwrap() else { panic!("not found") };
    let [delivery] = &found[..] else { panic!("{found:?}") };
    assert_eq!((delivery.id().unwrap().as_str(), delivery.state), (SID, DeliveryState::Failed));
    let failure = delivery.failure.as_ref().unwrap();
    assert_eq!((failure.kind, failure.code.as_deref()), (ErrorKind::InvalidRecipient, Some("30005")));
    assert_eq!((delivery.price.unwrap().micros(), delivery.segments), (40_000, Some(2)));
    assert_eq!(delivery.envelope.at, Timestamp::from_secs(NOON.as_secs() + 2));
    let missing = sms.look_up(&sent("SM22222222222222222222222222222222")).await.unwrap();
    assert_eq!(missing, LookupOutcome::Inconclusive);
    for odd in ["../Calls/CA1", "SM1", "wamid.1", ""] {
        assert_eq!(sms.look_up(&sent(odd)).await.unwrap_err().field(), Some("id"), "{odd}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn search_compares_recipient_sender_text_and_time() {
    let id = |n: u32| format!("SM{n:032}");
    let listed = json!({
        "messages": [
            with(json!({ "sid": id(1), "body": "It's bin day ", "status": "delivered" })),
            with(json!({ "sid": id(2), "body": "Another text" })),
            with(json!({ "sid": id(3), "body": "It's bin day", "from": "+447700900789" })),
            with(json!({ "sid": id(4), "body": "It's bin day", "direction": "inbound" })),
            with(json!({ "sid": id(5), "body": "It's bin day", "date_created": "Sun, 22 Nov 2026 11:54:59 +0000" })),
            with(json!({ "sid": id(6), "body": "It's bin day", "date_created": "Sun, 22 Nov 2026 12:05:01 +0000" })),
            with(json!({ "sid": id(7), "body": "It's bin day", "date_created": null })),
        ],
        "next_page_uri": format!("{MESSAGES}?To=%2B447700900123&PageSize=200&Page=1&PageToken=PASM1"),
    });
    let second = json!({ "messages": [with(json!({ "sid": id(8), "body": "It’s bin day" }))], "next_page_uri": ".evil.example/" });
    let server = MockServer::start().await;
    let page = |value| ResponseTemplate::new(200).set_body_json(value);
    let pages = || {
        Mock::given(method("GET"))
            .and(path(MESSAGES))
            .and(query_param("To", THEIRS))
            .and(query_param("PageSize", "200"))
    };
    pages().and(query_param("Page", "1")).respond_with(page(second)).with_priority(1).expect(1).mount(&server).await;
    pages().respond_with(page(listed)).expect(1).mount(&server).await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    let sent = LookupQuery::new(Message::text(resident(), "It’s bin day"), NOON);
    let LookupOutcome::Found(found) = sms.look_up(&sent).await.unwrap() else { panic!("not found") };
    let ids: Vec<_> = found.iter().map(|d| (d.id().unwrap().as_str().to_owned(), d.state)).collect();
    assert_eq!(ids, [(id(1), DeliveryState::Delivered), (id(8), DeliveryState::Accepted)]);
    assert!(found[0].envelope.raw.as_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn search_without_evidence_is_inconclusive() {
    let server = MockServer::start().await;
    let old = with(json!({ "date_created": "Sun, 22 Nov 2026 11:00:00 +0000" }));
    let body = json!({ "messages": [old], "next_page_uri": format!("{MESSAGES}?Page=1") });
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(body))
        .expect(1)
        .mount(&server)
        .await;
    let sms = Twilio::sms_with(at(&server, config()), &context()).unwrap();
    // The page is older than the send, so no second page is read.
    assert_eq!(sms.look_up(&LookupQuery::new(hello(), NOON)).await.unwrap(), LookupOutcome::Inconclusive);
    let mut quiet = Options::default();
    quiet.discard_content = true;
    let mut masked = Options::default();
    masked.obfuscate_address = true;
    for message in [
        hello().gateway_options(&quiet).unwrap(),
        hello().gateway_options(&masked).unwrap(),
        Message::template(resident(), Template::new(TEMPLATE)),
    ] {
        assert_eq!(sms.look_up(&LookupQuery::new(message, NOON)).await.unwrap(), LookupOutcome::Inconclusive);
    }
}
