//! What a channel asks its gateway, besides sending.

use std::time::Duration;

use serde_json::Value;

use crate::model::error::Outcome;
use crate::model::event::Event;
use crate::model::lookup::LookupOutcome;
use crate::testing::run::{Came, Checked, OWN, Run, applies, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange};

async fn play(run: &Run<'_>, call: &str, declared: bool) -> Checked {
    applies(declared, "it is not declared")?;
    for (nth, exchange) in run.subject.exchanges().iter().enumerate() {
        if exchange.call.name() == call {
            run.play(nth, exchange).await?;
        }
    }
    Ok(())
}

/// Each recorded poll makes its requests, and brings its events.
pub(super) async fn a_poll_brings_what_was_recorded(run: &Run<'_>) -> Checked {
    play(run, "poll", run.info.capability.poll).await
}

/// What comes by webhook and by poll is one event: with the same id, and the same but for what the gateway wrote.
pub(super) async fn a_poll_and_a_webhook_bring_one_event(run: &Run<'_>) -> Checked {
    let can = &run.info.capability;
    applies(can.poll && can.receive, "it does not do both")?;
    let mut polled = Vec::new();
    for exchange in run.subject.exchanges().iter().filter(|exchange| matches!(exchange.call, Call::Poll(_))) {
        polled.extend(events(run, exchange).await?);
    }
    let mut both = 0;
    for (nth, webhook) in super::receiving::bringing(run)?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        for event in super::receiving::receive(run, &*channel, nth, webhook).await?.events {
            for other in polled.iter().filter(|polled| polled.id() == event.id()) {
                both += 1;
                let n = nth + 1;
                let (polled, received) = (other.envelope().at, event.envelope().at);
                let apart = polled.since(received).max(received.since(polled));
                ensure!(apart <= APART, "an event of webhook {n} is {apart:?} earlier or later when it is polled");
                if let Some(field) = differs(&bare(&event), &bare(other), "") {
                    ensure!(false, "an event of webhook {n} is another one when it is polled: {field}");
                }
            }
        }
    }
    ensure!(both > 0, "no event is recorded both ways: record one that a poll and a webhook bring");
    Ok(())
}

async fn events(run: &Run<'_>, exchange: &Exchange) -> Checked<Vec<Event>> {
    match run.replay(exchange, |_, step| step).await?.came {
        Came::Page(page) => Ok(page.events),
        _ => Ok(Vec::new()),
    }
}

/// How far the times may be apart that a gateway tells of one event.
const APART: Duration = Duration::from_secs(60);

/// Where two events say different things. What only one of them says, such as a price that comes later, is no difference.
fn differs(one: &Value, other: &Value, at: &str) -> Option<String> {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(one), Value::Object(other)) => {
            one.iter().find_map(|(name, value)| differs(value, other.get(name)?, &format!("{at}/{name}")))
        }
        _ => (one != other).then(|| at.to_owned()),
    }
}

/// An event without the gateway's own bytes, which differ by the way it came, and without its time.
fn bare(event: &Event) -> Value {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    for event in value.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if let Some(envelope) = event.get_mut("envelope").and_then(Value::as_object_mut) {
            envelope.remove("raw");
            envelope.remove("at");
        }
    }
    value
}

/// Each recorded look-up says whether the gateway has the message, and what the absence of it proves.
pub(super) async fn a_look_up_says_what_was_recorded(run: &Run<'_>) -> Checked {
    play(run, "look_up", run.info.capability.look_up).await
}

/// A look-up that the gateway does not answer proves nothing about the message.
pub(super) async fn a_look_up_that_fails_proves_nothing(run: &Run<'_>) -> Checked {
    applies(run.info.capability.look_up, "it is not declared")?;
    applies(!run.subject.in_memory(), "it reaches no gateway")?;
    for exchange in run.subject.exchanges().iter().filter(|exchange| matches!(exchange.call, Call::LookUp(_))) {
        // One that asks nothing has nothing to misread.
        if exchange.steps.is_empty() {
            continue;
        }
        for step in [
            Step::any().answers(500, ""),
            Step::any().answers(401, ""),
            Step::any().answers(200, "<html>Please log in</html>"),
            Step::any().answers(200, ""),
        ] {
            match run.replay(exchange, |_, _| step.clone()).await?.came {
                Came::LookupOutcome(LookupOutcome::Inconclusive) => {}
                Came::Failed(error) => {
                    let outcome = error.outcome();
                    ensure!(outcome == Outcome::NotSent, "a look-up that fails says of itself that it is {outcome:?}");
                }
                came => {
                    let what = if matches!(came, Came::LookupOutcome(LookupOutcome::Found(_))) {
                        "found"
                    } else {
                        "not found"
                    };
                    ensure!(false, "a look-up without a readable answer says that the message is {what}");
                }
            }
        }
    }
    Ok(())
}

/// Each recorded signal makes its request.
pub(super) async fn a_signal_is_shown_as_it_was_recorded(run: &Run<'_>) -> Checked {
    let can = &run.info.capability;
    play(run, "signal", can.read || can.typing).await
}

/// Each recorded health makes its requests, and is told so.
pub(super) async fn health_is_told_as_it_was_recorded(run: &Run<'_>) -> Checked {
    play(run, "health", run.info.capability.health).await
}
