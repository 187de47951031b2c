//! Status callbacks.

use super::*;

#[tokio::test]
async fn congested_carrier_is_a_temporary_failure() {
    let events = case("sms", include_str!("../fixtures/cases/twilio/status_30017.json")).await;
    let [Event::Delivery(delivery)] = events.as_slice() else { panic!("{events:?}") };
    let failure = delivery.failure.as_ref().unwrap();
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(
        (failure.kind, failure.temporary, failure.code.as_deref()),
        (ErrorKind::Unavailable, true, Some("30017"))
    );
}

#[tokio::test]
async fn failure_codes_distinguish_temporary_failures() {
    use ErrorKind::{Config as Setting, *};
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (codes, kind, temporary) in [
        (&["30017", "30020", "30021", "30500", "63009", "63010", "63012", "63029"][..], Unavailable, true),
        (&["30022", "63017", "63018"], RateLimited, true),
        (&["30023", "30027", "63038"], QuotaExceeded, true),
        (&["63049"], QuotaExceeded, false),
        (&["30024", "30032", "21701", "21703", "21705", "21715", "63007", "63022"], Setting, false),
        (&["21654", "21655", "21656", "63006", "63027", "63028", "63040", "63042"], InvalidMessage, false),
        (&["63003", "63024", "63031"], InvalidRecipient, false),
        (&["63014", "63033"], OptedOut, false),
        (&["63016"], OutsideWindow, false),
        (&["63020", "63051", "30033"], Account, false),
        (&["63032", "63013", "99999"], Rejected, false),
    ] {
        for code in codes {
            let fields = [("MessageSid", SID), ("MessageStatus", "undelivered"), ("To", THEIRS), ("ErrorCode", code)];
            let event = one(&sms, &fields).await;
            let failure = event.as_delivery().unwrap().failure.as_ref().unwrap();
            assert_eq!((failure.kind, failure.temporary), (kind, temporary), "{code}");
        }
    }
}

#[tokio::test]
async fn every_status_maps_to_a_state() {
    let sms = Twilio::sms_with(config(), &context()).unwrap();
    for (status, code, state, failure) in [
        ("queued", "", DeliveryState::Accepted, None),
        ("accepted", "", DeliveryState::Accepted, None),
        ("scheduled", "", DeliveryState::Accepted, None),
        ("sending", "", DeliveryState::Sending, None),
        ("sent", "", DeliveryState::Sent, None),
        ("partially_delivered", "", DeliveryState::Sent, None),
        ("delivered", "", DeliveryState::Delivered, None),
        ("read", "", DeliveryState::Read, None),
        ("canceled", "", DeliveryState::Cancelled, None),
        ("undelivered", "30003", DeliveryState::Failed, Some((ErrorKind::Unavailable, true))),
        ("undelivered", "30005", DeliveryState::Failed, Some((ErrorKind::InvalidRecipient, false))),
        ("undelivered", "30007", DeliveryState::Failed, Some((ErrorKind::Rejected, false))),
        ("undelivered", "30008", DeliveryState::Failed, Some((ErrorKind::Rejected, true))),
        ("failed", "63016", DeliveryState::Failed, Some((ErrorKind::OutsideWindow, false))),
        ("failed", "30036", DeliveryState::Expired, Some((ErrorKind::Unavailable, true))),
        ("failed", "", DeliveryState::Failed, Some((ErrorKind::Rejected, false))),
        ("teleported", "30003", DeliveryState::Unrecognised, None),
    ] {
        let fields = [
            ("SmsSid", SID),
            ("SmsStatus", status),
            ("MessageStatus", status),
            ("To", THEIRS),
            ("MessageSid", SID),
            ("AccountSid", ACCOUNT),
            ("From", OURS),
            ("ErrorCode", code),
            ("RawDlrDoneDate", "2611221105"),
        ];
        let event = one(&sms, &fields).await;
        let delivery = event.as_delivery().unwrap();
        assert_eq!((delivery.state, delivery.status.as_str(), delivery.id().unwrap().as_str()), (state, status, SID));
        assert_eq!(delivery.recipient, Some(resident()));
        assert_eq!(delivery.failure.as_ref().map(|f| (f.kind, f.temporary)), failure, "{status} {code}");
        let kept = delivery.failure.as_ref().and_then(|f| f.code.as_deref());
        assert_eq!(kept, failure.and(Some(code)).filter(|code| !code.is_empty()));
        assert_eq!(
            (event.envelope().account.as_str(), event.envelope().at),
            (OURS, NOON),
            "a carrier's date is not used"
        );
        assert_eq!(event.id(), format!("twilio/{OURS}/delivery/{SID}/{status}/{THEIRS}"));
    }
    let old = [("SmsSid", SID), ("SmsStatus", "sent"), ("To", "whatsapp:+447700900123"), ("AccountSid", ACCOUNT)];
    let event = one(&sms, &old).await;
    assert_eq!(event.as_delivery().unwrap().state, DeliveryState::Sent);
    assert_eq!(event.envelope().medium, Medium::WhatsApp);
}
