//! Statuses of sent messages.

use super::*;

#[tokio::test]
async fn every_status_maps_to_a_state() {
    use DeliveryState::*;
    let cases = [
        ("status/sent.json", Sent, None),
        ("status/sent_with_callback_data.json", Sent, None),
        ("status/sent_legacy_cbp_conversation.json", Sent, Some("CBP/service")),
        ("status/delivered_bsuid_only.json", Delivered, Some("regular/utility")),
        ("status/delivered_pmp_free_service.json", Delivered, Some("free_customer_service/service")),
        ("status/delivered_pmp_regular_service.json", Delivered, Some("regular/service")),
        ("status/delivered_pmp_regular_utility.json", Delivered, Some("regular/utility")),
        ("status/read.json", Read, None),
        ("status/played.json", Played, None),
        ("status/unknown_future_status.json", Unrecognised, None),
    ];
    for (name, state, billing) in cases {
        let events = events(name).await;
        let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{name}: {events:?}") };
        assert_eq!((delivery.state, delivery.billing.as_deref()), (state, billing), "{name}");
        assert_eq!(delivery.id().unwrap().as_str(), "wamid.FIXTURE_OUT_0001");
        assert!(delivery.recipient.is_some(), "{name}");
    }
    let events = events("status/sent_with_callback_data.json").await;
    assert_eq!(events[0].as_delivery().unwrap().key(), Some("case-4711"));
}

#[tokio::test]
async fn failed_status_has_its_kind_and_code() {
    use ErrorKind::*;
    for (name, kind, code) in [
        ("status/failed_131026_undeliverable.json", InvalidRecipient, "131026"),
        ("status/failed_131047_window_closed.json", OutsideWindow, "131047"),
        ("status/failed_131049_ecosystem.json", QuotaExceeded, "131049"),
        ("status/failed_title_only.json", InvalidMessage, "131014"),
        ("status/failed_to_bsuid.json", Unavailable, "131000"),
    ] {
        let events = events(name).await;
        let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{name}: {events:?}") };
        let failure = delivery.failure.as_ref().unwrap();
        assert_eq!((delivery.state, failure.kind, failure.code.as_deref()), (DeliveryState::Failed, kind, Some(code)));
        assert!(failure.detail.is_some() && delivery.recipient.is_some(), "{name}");
    }
}

#[tokio::test]
async fn failure_has_the_first_code_of_its_errors() {
    let error = json!({ "code": 131_026, "title": "Message undeliverable" });
    for errors in [json!([null, error]), json!([{ "title": "t" }, error]), error.clone()] {
        let status = json!({ "id": "wamid.1", "status": "failed", "timestamp": "1795000000",
            "recipient_id": "447700900123", "errors": errors });
        let events = value("messages", json!({ "statuses": [status] })).await;
        let failure = events[0].as_delivery().unwrap().failure.as_ref().unwrap();
        assert_eq!((failure.code.as_deref(), failure.kind), (Some("131026"), ErrorKind::InvalidRecipient), "{errors}");
    }
}
