//! Checks of poll, look-up, indicators and health.

use std::time::Duration;

use serde_json::Value;

use super::receiving::bare;
use crate::model::error::Outcome;
use crate::model::event::Event;
use crate::model::id::MessageId;
use crate::model::lookup::LookupOutcome;
use crate::testing::request::ReceivedRequest;
use crate::testing::run::{CallResult, CheckResult, OWN, Run, applies, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange};

async fn play(run: &Run<'_>, call: &str, declared: bool) -> CheckResult {
    applies(declared, "not declared")?;
    for (nth, exchange) in run.subject.exchanges().iter().enumerate() {
        if exchange.call.name() == call {
            run.play(nth, exchange).await?;
        }
    }
    Ok(())
}

/// Each recorded poll makes its requests and returns its events.
pub(super) async fn poll_returns_the_recorded_events(run: &Run<'_>) -> CheckResult {
    play(run, "poll", run.info.capability.poll).await
}

/// A poll returns a cursor that moves with its events, skips nothing that arrives after a page without any, and is used by the next poll.
pub(super) async fn cursor_moves_with_the_events(run: &Run<'_>) -> CheckResult {
    applies(run.info.capability.poll, "not declared")?;
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let mut any = false;
    for exchange in &run.subject.exchanges() {
        let Call::Poll(after) = &exchange.call else { continue };
        let first = run.replay(exchange, |_, step| step).await?;
        let CallResult::Page(page) = &first.result else { continue };
        let place = exchange.place;
        ensure!(!page.more || page.next.is_some(), "{place}: expected a cursor of a page with more to come, got none");
        let empty = |_, step: Step| match emptied(step.answer()) {
            Some(answer) => step.unconditional().with_answer(answer),
            None => step.unconditional(),
        };
        if let CallResult::Page(nothing) = run.replay(exchange, empty).await?.result
            && nothing.events.iter().all(|event| matches!(event, Event::Unrecognised(_)))
        {
            run.later.set(Duration::from_secs(3_600));
            let hour_later = run.replay(exchange, empty).await?.result;
            run.later.set(Duration::ZERO);
            if let CallResult::Page(hour_later) = hour_later {
                ensure!(
                    hour_later.next == nothing.next,
                    "{place}: expected a cursor from the gateway's events, got one that depends on our clock: it skips \
                     what the gateway lists late"
                );
            }
            // What arrives between two polls is not skipped, even if it is older than the first.
            let next = nothing.next.or_else(|| after.clone());
            let later = Exchange { call: Call::Poll(next), ..exchange.clone() };
            if let CallResult::Page(later) = run.replay(&later, |_, step| step.unconditional()).await?.result {
                let ids: Vec<_> = later.events.iter().map(Event::id).collect();
                let skipped = page.events.iter().filter(|event| !ids.contains(&event.id())).count();
                ensure!(
                    skipped == 0,
                    "{place}: expected the events that arrive after a poll without events, got {skipped} of them skipped"
                );
            }
        }
        if page.events.is_empty() {
            continue;
        }
        any = true;
        let moved = page.next.is_some() && page.next != *after;
        ensure!(moved, "{place}: expected a cursor after the events of the page, got none or the same");
        let again = Exchange { call: Call::Poll(page.next.clone()), ..exchange.clone() };
        let again = run.replay(&again, |_, step| step.unconditional()).await?;
        if let CallResult::Page(second) = &again.result {
            let paths = |asked: Vec<ReceivedRequest>| {
                asked.into_iter().map(|asked| (asked.path, asked.body)).collect::<Vec<_>>()
            };
            let same_request = paths(first.gateway.requests()) == paths(again.gateway.requests());
            let ids: Vec<_> = page.events.iter().map(Event::id).collect();
            let repeated = second.events.iter().any(|event| ids.contains(&event.id()));
            ensure!(
                !(same_request && repeated),
                "{place}: expected the next poll to continue after the cursor, got the same request and events"
            );
        }
    }
    applies(any, "no poll with events is recorded")
}

/// Empties each array of objects in a JSON answer.
fn emptied(answer: &[u8]) -> Option<String> {
    fn walk(value: &mut Value) {
        match value {
            Value::Array(all) if all.iter().all(Value::is_object) => all.clear(),
            Value::Array(all) => all.iter_mut().for_each(walk),
            Value::Object(all) => all.values_mut().for_each(walk),
            _ => {}
        }
    }
    let mut answer = serde_json::from_slice(answer).ok()?;
    walk(&mut answer);
    Some(answer.to_string())
}

/// A look-up finds the message that was asked for, and no other that the gateway returns in its place.
pub(super) async fn look_up_finds_no_other_message(run: &Run<'_>) -> CheckResult {
    applies(run.info.capability.look_up, "not declared")?;
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let mut any = false;
    for exchange in &run.subject.exchanges() {
        let Call::LookUp(query) = &exchange.call else { continue };
        let found = run.replay(exchange, |_, step| step).await?.result;
        if !matches!(found, CallResult::LookupOutcome(LookupOutcome::Found(_))) {
            continue;
        }
        let reference = run.info.reference(&query.message);
        let names = [query.id.as_ref().map(MessageId::as_str), query.message.key.as_deref(), reference.as_deref()];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let other = |answer: &[u8]| {
            let answer = String::from_utf8_lossy(answer).into_owned();
            let changed = names.iter().fold(answer.clone(), |answer, name| answer.replace(name, &another(name)));
            (changed != answer).then_some(changed)
        };
        let named = exchange.steps.iter().any(|step| other(step.answer()).is_some());
        if !named {
            continue;
        }
        any = true;
        let change = |_, step: Step| match other(step.answer()) {
            Some(answer) => step.unconditional().with_answer(answer),
            None => step.unconditional(),
        };
        let result = run.replay(exchange, change).await?.result;
        ensure!(
            !matches!(result, CallResult::LookupOutcome(LookupOutcome::Found(_))),
            "{}: expected no match if the gateway returns another message, got found",
            exchange.place
        );
    }
    applies(any, "no look-up is recorded whose answer names the message")
}

/// Returns another name of the same length and alphabet.
fn another(name: &str) -> String {
    let other = |c: char| match c {
        '9' => '0',
        '0'..='8' => char::from_u32(c as u32 + 1).unwrap_or(c),
        c => c,
    };
    let changed: String = name.chars().map(other).collect();
    if changed == name { name.chars().rev().chain(['x']).collect() } else { changed }
}

/// An event received by webhook and by poll is the same, except for its raw bytes.
pub(super) async fn poll_and_webhook_return_the_same_event(run: &Run<'_>) -> CheckResult {
    let can = &run.info.capability;
    applies(can.poll && can.receive, "it does not both poll and receive")?;
    let mut polled = Vec::new();
    for exchange in run.subject.exchanges().iter().filter(|exchange| matches!(exchange.call, Call::Poll(_))) {
        polled.extend(events(run, exchange).await?);
    }
    let mut both = 0;
    for (nth, webhook) in super::receiving::webhooks_with_events(run)?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        for event in super::receiving::receive(run, &*channel, nth, webhook).await?.events {
            for other in polled.iter().filter(|polled| polled.id() == event.id()) {
                both += 1;
                let n = nth + 1;
                let (polled, received) = (other.envelope().at, event.envelope().at);
                let apart = polled.since(received).max(received.since(polled));
                ensure!(
                    apart <= APART,
                    "webhook {n}: expected the same time of the polled event, got one {apart:?} apart"
                );
                if let Some(field) = differs(&bare(&event), &bare(other), "") {
                    ensure!(false, "webhook {n}: expected the same event by poll, got another {field}");
                }
            }
        }
    }
    ensure!(both > 0, "expected an event recorded by poll and by webhook, got none: record one");
    Ok(())
}

async fn events(run: &Run<'_>, exchange: &Exchange) -> CheckResult<Vec<Event>> {
    match run.replay(exchange, |_, step| step).await?.result {
        CallResult::Page(page) => Ok(page.events),
        _ => Ok(Vec::new()),
    }
}

/// The maximum difference of an event's time between poll and webhook.
const APART: Duration = Duration::from_secs(60);

/// Returns the first field that differs. A field that only one event has, such as a later price, is ignored.
fn differs(one: &Value, other: &Value, at: &str) -> Option<String> {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(one), Value::Object(other)) => {
            one.iter().find_map(|(name, value)| differs(value, other.get(name)?, &format!("{at}/{name}")))
        }
        _ => (one != other).then(|| at.to_owned()),
    }
}

/// Each recorded look-up returns its outcome.
pub(super) async fn look_up_returns_the_recorded_outcome(run: &Run<'_>) -> CheckResult {
    play(run, "look_up", run.info.capability.look_up).await
}

/// A look-up without a readable response is inconclusive.
pub(super) async fn failed_look_up_is_inconclusive(run: &Run<'_>) -> CheckResult {
    applies(run.info.capability.look_up, "not declared")?;
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    for exchange in run.subject.exchanges().iter().filter(|exchange| matches!(exchange.call, Call::LookUp(_))) {
        // Without a request there is no response to misread.
        if exchange.steps.is_empty() {
            continue;
        }
        for step in [
            Step::any().answers(500, ""),
            Step::any().answers(401, ""),
            Step::any().answers(200, "<html>Please log in</html>"),
            Step::any().answers(200, ""),
        ] {
            match run.replay(exchange, |_, _| step.clone()).await?.result {
                CallResult::LookupOutcome(LookupOutcome::Inconclusive) => {}
                CallResult::Failed(error) => {
                    let outcome = error.outcome();
                    ensure!(
                        outcome == Outcome::NotSent,
                        "failed look-up: expected the outcome NotSent, got {outcome:?}"
                    );
                }
                came => {
                    let what = if matches!(came, CallResult::LookupOutcome(LookupOutcome::Found(_))) {
                        "found"
                    } else {
                        "not found"
                    };
                    ensure!(false, "look-up with an unreadable response: expected inconclusive, got {what}");
                }
            }
        }
    }
    Ok(())
}

/// Each recorded indicator makes its request.
pub(super) async fn indicator_makes_the_recorded_request(run: &Run<'_>) -> CheckResult {
    let can = &run.info.capability;
    play(run, "send_indicator", can.read || can.typing).await
}

/// Each recorded health check makes its requests and returns its result.
pub(super) async fn health_returns_the_recorded_result(run: &Run<'_>) -> CheckResult {
    play(run, "health", run.info.capability.health).await
}
