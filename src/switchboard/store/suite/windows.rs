//! Windows in every store.

use super::super::super::limits::Limits;
use super::*;
use crate::policy::windows::Window;

const HOUR: i64 = 3_600_000;

/// Begins the send of a message, and ends it with an outcome and kind.
async fn send_in_window(store: &dyn Engine, key: &str, window: Window, now: i64, kind: &'static str) -> Begun {
    put(store, New { due: at(now), now: at(now), ..new(key, 1) }).await;
    let claimed = claims(store, at(now), 100).await.unwrap().pop().unwrap();
    let message = claimed.message.as_ref().unwrap();
    let to = Addressee::new(&claimed.line, &message.to, message.purpose, claimed.queued);
    let limits = Limits { window: Some(window), ..Limits::default() };
    let begun = store.begin_send(claimed.hold, Attempt { limits, ..attempt(at(now)) }, to).await.unwrap();
    if begun == Begun::Sending {
        let ended = if kind.is_empty() { accepted(key) } else { End { kind, ..end("rejected") } };
        assert!(store.finish(claimed.hold, End { now: at(now), ..ended }).await.unwrap());
    }
    begun
}

/// Receives a message of the person at this time.
async fn writes(store: &dyn Engine, id: &str, account: &str, now: i64, content: InboundContent) {
    let envelope = Envelope::new("mock", Medium::Sms, AccountId::new(account), at(now), Raw::default());
    let event = Inbound::new(envelope, id, Address::phone("+447700900001").unwrap(), content).into();
    let incoming = Incoming { line: Some("desk".to_owned()), event, fetch: false, auto_reply: None };
    store.store_events(vec![incoming], None, at(now)).await.unwrap();
}

fn is_refused(begun: &Begun) -> bool {
    matches!(begun, Begun::Refused(reason) if reason.rule() == "window")
}

pub(super) async fn window_opens_with_the_last_message(store: &dyn Engine, _: &dyn Engine) {
    let hello = || InboundContent::Text("Hello".to_owned());
    let window = Window::WhatsApp;
    let begun = send_in_window(store, "k-1", window, 1, "").await;
    assert!(is_refused(&begun), "{begun:?}");
    assert!(matches!(&begun, Begun::Refused(reason) if reason.to_string().contains("send an approved template")));
    // Neither a message to another account opens it, nor a reaction.
    writes(store, "in-1", "other", 2, hello()).await;
    let reaction = InboundContent::Reaction { to: "m0".into(), emoji: Some("👍".to_owned()) };
    writes(store, "in-2", "desk", 3, reaction).await;
    assert!(is_refused(&send_in_window(store, "k-2", window, 4, "").await));
    writes(store, "in-3", "desk", 5, hello()).await;
    assert_eq!(send_in_window(store, "k-3", window, 6, "").await, Begun::Sending);
    assert_eq!(send_in_window(store, "k-4", window, 5 + 24 * HOUR - 1, "").await, Begun::Sending);
    assert!(is_refused(&send_in_window(store, "k-5", window, 5 + 24 * HOUR, "").await));
    let typed = Window::Messenger { human_agent: true };
    assert_eq!(send_in_window(store, "k-6", typed, 5 + 25 * HOUR, "").await, Begun::Sending);
    assert!(is_refused(&send_in_window(store, "k-7", typed, 5 + 7 * 24 * HOUR, "").await));
    assert_eq!(send_in_window(store, "k-8", Window::X, 6 + 7 * 24 * HOUR, "").await, Begun::Sending);
}

pub(super) async fn rejection_closes_the_window_until_the_person_writes(store: &dyn Engine, _: &dyn Engine) {
    let (window, hello) = (Window::WhatsApp, || InboundContent::Text("Hello".to_owned()));
    writes(store, "in-1", "desk", 1, hello()).await;
    assert_eq!(send_in_window(store, "k-1", window, 2, "invalid_recipient").await, Begun::Sending);
    assert_eq!(send_in_window(store, "k-2", window, 3, "outside_window").await, Begun::Sending);
    assert!(is_refused(&send_in_window(store, "k-3", window, 4, "").await));
    writes(store, "in-2", "desk", 5, hello()).await;
    assert_eq!(send_in_window(store, "k-4", window, 6, "").await, Begun::Sending);
}
