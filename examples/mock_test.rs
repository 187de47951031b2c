//! Tests a service with the mock: no account, no network, no waiting.
//!
//! `answer` is the service; the rest tests it. Run it with `cargo run --example mock_test`.

use civic_messaging::{Channel, ChannelExt, Error, ErrorKind, Mock, Outcome, Result, webhook};

/// The service: answers every resident, and returns the errors of sends with an unknown outcome.
async fn answer(channel: &dyn Channel, request: &webhook::Request) -> Result<Vec<Error>> {
    let received = channel.receive(request).await?;
    // A real service stores `received.events` here first.
    let mut unknown = Vec::new();
    for inbound in received.answerable() {
        match channel.reply(inbound, "Your bins are collected on Tuesday.").await {
            Err(error) if error.outcome() == Outcome::Unknown => unknown.push(error),
            other => drop(other?),
        }
    }
    Ok(unknown)
}

#[tokio::main]
async fn main() -> Result<()> {
    // A question is answered once.
    let sms = Mock::sms();
    let question = sms.arrives("07700 900123", "When is my bin day?");
    assert!(answer(&sms, &question).await?.is_empty());
    sms.assert_sent("07700 900123", "Your bins are collected on Tuesday.");

    // An answer with an unknown outcome is not resent.
    let sms = Mock::sms();
    sms.will_lose_response();
    let question = sms.arrives("07700 900123", "bins?");
    assert_eq!(answer(&sms, &question).await?.len(), 1);
    sms.assert_sent("07700 900123", "Your bins are collected on Tuesday.");

    // An opt-out is a final error.
    let sms = Mock::sms();
    sms.will_fail(Error::new(ErrorKind::OptedOut, "the recipient has opted out").with_outcome(Outcome::Rejected));
    let question = sms.arrives("07700 900123", "bins?");
    assert_eq!(answer(&sms, &question).await.unwrap_err().kind(), ErrorKind::OptedOut);

    // STOP gets no answer.
    let sms = Mock::sms();
    answer(&sms, &sms.arrives("07700 900123", "STOP")).await?;
    sms.assert_nothing_sent();

    println!("4 tests passed");
    Ok(())
}
