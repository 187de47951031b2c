//! Bulk sends: progress, refusals, repetition, and cancellation.

use std::collections::BTreeSet;
use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
use civic_messaging::switchboard::{
    BulkCounts, Fallback, Line, MessageFilter, NewOptOut, Outgoing, State, Store, Switchboard,
};
use civic_messaging::{Address, Error, ErrorKind, Message, Mock, Outcome, Purpose, Result, async_trait};
use futures_util::StreamExt;
use futures_util::stream;

use super::desk::{Desk, memory, text};
use super::{Database, person, virtual_clock};

fn board(store: Store, mock: &Mock) -> Switchboard {
    Switchboard::builder(store).line(Line::new("desk").channel(mock.clone())).build().unwrap()
}

fn reminders(count: u32) -> impl futures_util::Stream<Item = Message> + Send {
    stream::iter((0..count).map(|n| text(n, &format!("Reminder {n}"))))
}

#[tokio::test]
async fn bulk_reports_progress_and_refusals() {
    let switchboard = board(memory().await, &Mock::sms());
    switchboard.opt_outs().record("desk", NewOptOut::new(person(250), "J. Jones")).await.unwrap();
    let messages = stream::iter((0..450).map(|n| match n {
        // It has no text.
        7 => text(7, ""),
        // The same person, with another text and no key.
        300 => text(299, "Another reminder"),
        n => text(n, &format!("Reminder {n}")),
    }));
    let mut bulk = switchboard.send_many("desk", "tax", messages);
    let (mut stored, mut refusals) = (Vec::new(), Vec::new());
    while let Some(progress) = bulk.next().await.unwrap() {
        stored.push(progress.counts.stored);
        refusals.extend(progress.refusals);
    }
    assert_eq!(stored, [199, 397, 447]);
    let refused: Vec<_> =
        refusals.iter().map(|one| (one.position, one.error.kind(), one.error.field(), one.error.code())).collect();
    assert_eq!(
        refused,
        [
            (7, ErrorKind::InvalidMessage, Some("text"), None),
            (250, ErrorKind::Refused, None, Some("opt-out")),
            (300, ErrorKind::InvalidMessage, Some("key"), None),
        ]
    );
    assert!(refusals.iter().all(|one| one.key.starts_with("bulk-")));
    let counts = bulk.counts();
    assert_eq!((counts.stored, counts.existing, counts.refused), (447, 0, 3));
    assert!(bulk.next().await.unwrap().is_none());
    assert!(!format!("{bulk:?} {refusals:?}").contains("7700"));
}

#[tokio::test]
async fn repeated_bulk_stores_what_is_missing() {
    let (database, mock) = (Database::new(), Mock::sms());
    let switchboard = board(Store::open(&database.url()).await.unwrap(), &mock);
    let mut bulk = switchboard.send_many("desk", "tax", reminders(500));
    assert_eq!(bulk.next().await.unwrap().unwrap().counts.stored, 200);
    // The program ends, and starts again with the whole list.
    drop((bulk, switchboard));
    let switchboard = board(Store::open(&database.url()).await.unwrap(), &mock);
    let counts = switchboard.send_many("desk", "tax", reminders(500)).finish().await.unwrap();
    assert_eq!((counts.stored, counts.existing, counts.refused), (300, 200, 0));
    let counts = switchboard.send_many("desk", "tax", reminders(500)).finish().await.unwrap();
    assert_eq!((counts.stored, counts.existing, counts.refused), (0, 500, 0));
    // Another tag is another bulk, and so is another key.
    let counts = switchboard.send_many("desk", "tax-2", reminders(5)).finish().await.unwrap();
    assert_eq!(counts.stored, 5);
    let keyed = stream::iter(["a", "b"].map(|key| text(1, "Reminder").key(key)));
    assert_eq!(switchboard.send_many("desk", "tax", keyed).finish().await.unwrap().stored, 2);
    let figures = switchboard.campaign("desk", "tax").await.unwrap();
    assert_eq!((figures.total(), figures.count(State::Queued)), (502, 502));
}

#[tokio::test]
async fn bulk_goes_to_each_person_once() {
    let (database, mock) = (Database::new(), Mock::sms());
    let store = Store::open(&database.url()).await.unwrap();
    let desk = Desk::open(store, [Line::new("desk").channel(mock.clone())]).await;
    for _ in 0..2 {
        desk.switchboard.send_many("desk", "tax", reminders(300)).finish().await.unwrap();
    }
    while desk.switchboard.campaign("desk", "tax").await.unwrap().count(State::Accepted) < 300 {
        tokio::task::yield_now().await;
    }
    let recipients: BTreeSet<_> = mock.sent().iter().map(|sent| sent.to.expose().to_owned()).collect();
    assert_eq!((recipients.len(), mock.sent().len()), (300, 300));
    desk.close().await;
}

/// Fails at first, and then refuses marketing.
#[derive(Debug)]
struct Flaky(std::sync::atomic::AtomicU32);

#[async_trait]
impl Policy for Flaky {
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
        let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        if calls == 30 {
            return Err(Error::new(ErrorKind::Unavailable, "unavailable"));
        }
        let refuses = input.message.purpose == Purpose::Marketing;
        Ok(if refuses { Decision::Refuse(Reason::new("no-marketing", "no marketing")) } else { Decision::Allow })
    }
}

#[tokio::test]
async fn bulk_goes_on_after_the_policy_was_unavailable() {
    let builder = Switchboard::builder(memory().await).line(Line::new("desk").channel(Mock::sms()));
    let switchboard = builder.policy(Flaky(0.into())).build().unwrap();
    let messages = reminders(60).enumerate().map(|(n, message)| match n {
        50 => message.purpose(Purpose::Marketing),
        _ => message,
    });
    let mut bulk = switchboard.send_many("desk", "tax", messages);
    assert_eq!(bulk.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(bulk.counts(), BulkCounts::default());
    let progress = bulk.next().await.unwrap().unwrap();
    assert_eq!((progress.counts.stored, progress.counts.refused), (59, 1));
    assert_eq!((progress.refusals[0].position, progress.refusals[0].error.code()), (50, Some("no-marketing")));
}

#[tokio::test]
async fn slow_stream_is_stored_as_it_comes() {
    let switchboard = board(memory().await, &Mock::sms());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let received = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let mut bulk = switchboard.send_many("desk", "tax", received);
    for n in 0..3_u32 {
        sender.send(text(n, "Reminder")).unwrap();
        assert_eq!(bulk.next().await.unwrap().unwrap().counts.stored, u64::from(n) + 1);
    }
    drop(sender);
    assert!(bulk.next().await.unwrap().is_none());
}

#[tokio::test]
async fn bulk_needs_a_line_and_a_tag() {
    let switchboard = board(memory().await, &Mock::sms());
    for (line, tag, field) in [("dsek", "tax", "line"), ("desk", " ", "tag")] {
        let error = switchboard.send_many(line, tag, reminders(3)).next().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some(field)));
    }
    assert!(switchboard.stats().await.unwrap().all().messages.is_empty());
}

#[tokio::test]
async fn bulk_waits_for_its_time_and_is_cancelled() {
    let (clock, mock) = (virtual_clock(), Mock::sms());
    let desk =
        Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [Line::new("desk").channel(mock.clone())]);
    let morning = now(&clock).plus(Duration::from_secs(3600));
    let fallback = |n| {
        let instead = Fallback::on_failure(text(n, "Instead"));
        Outgoing::new(text(n, &format!("Reminder {n}"))).fallback(instead)
    };
    let counts =
        desk.switchboard.send_many("desk", "tax", stream::iter((0..450).map(fallback))).due(morning).finish().await;
    assert_eq!(counts.unwrap().stored, 450);
    desk.switchboard.send("desk", text(1_000, "Hello").tag("bins")).await.unwrap();
    let filter = MessageFilter::new().tag("tax").person(person(3));
    assert_eq!(desk.switchboard.cancel_many("desk", filter).await.unwrap(), 1);
    assert_eq!(desk.switchboard.cancel_many("desk", MessageFilter::new().tag("tax")).await.unwrap(), 449);
    assert_eq!(desk.switchboard.cancel_many("desk", MessageFilter::new().tag("tax")).await.unwrap(), 0);
    let settled = MessageFilter::new().tag("tax").state(State::Cancelled);
    assert_eq!(desk.switchboard.cancel_many("desk", settled.clone()).await.unwrap(), 0);
    assert_eq!(desk.switchboard.messages("desk", settled, None, 1_000).await.unwrap().len(), 450);
    let error = desk.switchboard.cancel_many("dsek", MessageFilter::new()).await.unwrap_err();
    assert_eq!(error.field(), Some("line"));
    desk.close().await;
    assert!(mock.sent().iter().all(|sent| sent.to == person(1_000)));
}

fn now(clock: &VirtualClock) -> civic_messaging::Timestamp {
    civic_messaging::clock::Clock::now(clock)
}

#[tokio::test]
async fn tag_covers_fallbacks() {
    let (sms, whatsapp) = (Mock::sms(), Mock::whatsapp());
    let line = Line::new("desk").channel(sms.clone()).channel(whatsapp.clone());
    let desk = Desk::open(memory().await, [line]).await;
    whatsapp.will_fail(Error::new(ErrorKind::InvalidRecipient, "not on WhatsApp").with_outcome(Outcome::Rejected));
    let first = Message::text(Address::whatsapp("07700 900123").unwrap(), "Reminder");
    let instead = Message::text(Address::phone("07700 900123").unwrap(), "Instead");
    let messages = stream::iter([Outgoing::new(first).fallback(Fallback::on_failure(instead))]);
    assert_eq!(desk.switchboard.send_many("desk", "tax", messages).finish().await.unwrap().stored, 1);
    let figures = async || desk.switchboard.campaign("desk", "tax").await.unwrap();
    while figures().await.count(State::Accepted) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((figures().await.count(State::Rejected), figures().await.total()), (1, 2));
    desk.close().await;
}
