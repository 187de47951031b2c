//! How a service that embeds this crate is tested: no account, no network, no waiting.
//!
//! `answer` is the service; the rest is its test. Run it with `cargo run --example mock_test`.

use civic_messaging::{Channel, ChannelExt, Error, ErrorKind, Mock, Outcome, Result, webhook};

/// The service: answers every resident, and says which answers are in doubt.
async fn answer(channel: &dyn Channel, request: &webhook::Request) -> Result<Vec<Error>> {
    let received = channel.receive(request).await?;
    // A real service would store `received.events` here, before anything else.
    let mut in_doubt = Vec::new();
    for inbound in received.answerable() {
        match channel.reply(inbound, "Your bins are collected on Tuesday.").await {
            Err(error) if error.outcome() == Outcome::Unknown => in_doubt.push(error),
            other => drop(other?),
        }
    }
    Ok(in_doubt)
}

#[tokio::main]
async fn main() -> Result<()> {
    // A question is answered, once.
    let sms = Mock::sms();
    let question = sms.arrives("07700 900123", "When is my bin day?");
    assert!(answer(&sms, &question).await?.is_empty());
    sms.assert_sent("07700 900123", "Your bins are collected on Tuesday.");

    // An answer that may have gone is not sent again.
    let sms = Mock::sms();
    sms.will_accept_unheard();
    let question = sms.arrives("07700 900123", "bins?");
    assert_eq!(answer(&sms, &question).await?.len(), 1);
    sms.assert_sent("07700 900123", "Your bins are collected on Tuesday.");

    // A person who opted out is an error that stops, not one that goes on to another gateway.
    let sms = Mock::sms();
    sms.will_fail(
        Error::new(ErrorKind::OptedOut, "this person does not want messages").with_outcome(Outcome::Rejected),
    );
    let question = sms.arrives("07700 900123", "bins?");
    assert_eq!(answer(&sms, &question).await.unwrap_err().kind(), ErrorKind::OptedOut);

    // STOP is nobody's question.
    let sms = Mock::sms();
    answer(&sms, &sms.arrives("07700 900123", "STOP")).await?;
    sms.assert_nothing_sent();

    println!("4 tests of a service, all on a mock: ok");
    Ok(())
}
