//! Batches of events, and replies that acknowledge their event.

use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
use civic_messaging::switchboard::{Line, Switchboard};
use civic_messaging::{ErrorKind, Mock, Result};

use super::desk::memory;
use super::virtual_clock;

/// Refuses every message that contains "no".
#[derive(Debug)]
struct Refuses;

#[civic_messaging::async_trait]
impl Policy for Refuses {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        let refused = serde_json::to_string(question.message).is_ok_and(|message| message.contains("never"));
        Ok(if refused { Decision::Refuse(Reason::new("never", "it is never said")) } else { Decision::Allow })
    }
}

async fn board(mock: &Mock, clock: &VirtualClock) -> Switchboard {
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).policy(Refuses);
    builder.line(Line::new("desk").channel(mock.clone())).route("sms", ["desk"]).build().unwrap()
}

#[tokio::test]
async fn reply_and_ack_sends_once_and_acknowledges() {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let board = board(&mock, &clock).await;
    assert_eq!(board.receive("sms", mock.arrives("07700 900123", "When is it?")).await.status, 200);
    let inbox = board.line("desk").unwrap();
    let event = inbox.next().await.unwrap().unwrap();
    let inbound = event.answerable().unwrap().clone();
    // One program replies and crashes before it acknowledges; the next one replies again.
    let id = board.reply("desk", &inbound, "On Friday.").await.unwrap();
    assert_eq!(event.reply_and_ack("On Friday.").await.unwrap(), id);
    clock.advance(Duration::from_secs(3600));
    assert!(inbox.try_next().await.unwrap().is_none());
    assert_eq!(event.reply_and_ack("On Friday.").await.unwrap(), id);
}

#[tokio::test]
async fn refused_reply_leaves_event_unacknowledged() {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let board = board(&mock, &clock).await;
    assert_eq!(board.receive("sms", mock.arrives("07700 900123", "When is it?")).await.status, 200);
    let inbox = board.line("desk").unwrap();
    let event = inbox.next().await.unwrap().unwrap();
    assert_eq!(event.reply_and_ack("That is never said.").await.unwrap_err().kind(), ErrorKind::Refused);
    clock.advance(Duration::from_secs(60));
    let again = inbox.try_next().await.unwrap().unwrap();
    assert_eq!((again.id(), again.attempts()), (event.id(), 2));
    // Only a resident's message can be replied to.
    let id = again.reply_and_ack("On Friday.").await.unwrap();
    assert!(board.cancel(id).await.unwrap());
    let settled = inbox.try_next().await.unwrap().unwrap();
    assert_eq!(settled.as_settled().unwrap().id, id);
    assert_eq!(settled.reply_and_ack("Hello").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    clock.advance(Duration::from_secs(60));
    assert_eq!(inbox.try_next().await.unwrap().unwrap().id(), settled.id());
}

#[tokio::test]
async fn next_batch_waits_for_the_first_event_only() {
    let (mock, clock) = (Mock::sms(), virtual_clock());
    let board = board(&mock, &clock).await;
    let reader = tokio::spawn({
        let inbox = board.all();
        async move { inbox.next_batch(100).await.unwrap().len() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(board.receive("sms", mock.arrives("07700 900123", "One")).await.status, 200);
    assert_eq!(reader.await.unwrap(), 1);
    for text in ["Two", "Three", "Four"] {
        assert_eq!(board.receive("sms", mock.arrives("07700 900123", text)).await.status, 200);
    }
    let inbox = board.line("desk").unwrap();
    let batch = inbox.next_batch(2).await.unwrap();
    let texts: Vec<_> = batch.iter().map(|event| event.as_inbound().unwrap().text().unwrap().to_owned()).collect();
    assert_eq!(texts, ["Two", "Three"]);
    assert_eq!(inbox.next_batch(0).await.unwrap().len(), 1);
    assert!(inbox.try_next().await.unwrap().is_none());
}
