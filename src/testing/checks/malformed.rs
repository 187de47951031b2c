//! Checks of malformed webhooks: other events survive, other accounts stay separate, time stays linear.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::receiving::{receive, recorded, webhooks_with_events};
use crate::model::event::{Event, InboundContent};
use crate::testing::run::{CheckError, CheckResult, OTHER, OWN, Pace, Run, applies, elsewhere, ensure, own};
use crate::testing::subject::{Reception, Webhook};
use crate::webhook::Received;

/// Values that no documentation foresees, in the place of any other.
const ODD: [&str; 8] = ["null", "{}", "[]", "7", "true", "\"\"", "1e999", "[[{\"odd\":[]}]]"];

/// The most values of one webhook that are replaced, and the most webhooks.
const VALUES_MAX: usize = 80;
const WEBHOOKS_MAX: usize = 12;

/// The recorded webhooks with a JSON body that bring messages or deliveries.
async fn in_json(run: &Run<'_>) -> CheckResult<Vec<Webhook>> {
    let own = |webhook: &Webhook| !matches!(webhook.result, Reception::Discards(_)) && !values(webhook).is_empty();
    let mut webhooks = recorded(run).await?;
    webhooks.retain(|(webhook, _)| own(webhook));
    // Several events in one webhook have most to lose.
    webhooks.sort_by_key(|(_, events)| std::cmp::Reverse(events.len()));
    webhooks.truncate(WEBHOOKS_MAX);
    applies(!webhooks.is_empty(), "webhooks are not JSON")?;
    Ok(webhooks.into_iter().map(|(webhook, _)| webhook).collect())
}

/// A malformed value loses no message or delivery beside it.
pub(super) async fn malformed_value_costs_no_other_event(run: &Run<'_>) -> CheckResult {
    let mut compared = 0;
    for (nth, webhook) in in_json(run).await?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let before = receive(run, &*channel, nth, webhook).await?;
        for value in values(webhook) {
            let mut bodies: Vec<_> = ODD.iter().map(|odd| with(webhook, &value.range, odd)).collect();
            if value.is_object() {
                // An unknown member.
                let at = value.range.start + 1..value.range.start + 1;
                bodies.push(with(webhook, &at, if value.is_empty { "\"odd\":[1e999]" } else { "\"odd\":[1e999]," }));
            }
            for malformed in bodies {
                let received = receive(run, &*channel, nth, &malformed).await?;
                if !received.discarded.is_empty() {
                    // It was the account that it names.
                    continue;
                }
                let what = || {
                    let body = String::from_utf8_lossy(malformed.request.body()).into_owned();
                    format!("webhook {}, {} bytes: {body}", nth + 1, body.len())
                };
                for event in beside(webhook, &before, &value.range) {
                    compared += 1;
                    let kept = received.events.iter().any(|one| same(one, event));
                    ensure!(kept, "expected the other events beside a malformed value, got fewer; {}", what());
                }
                ensure!(
                    !received.events.is_empty(),
                    "expected an event from a webhook with a malformed value, got none; {}",
                    what()
                );
            }
        }
    }
    applies(compared > 0, "each webhook holds one event")
}

/// No malformed webhook that another account's secret proves returns an event.
pub(super) async fn malformed_webhook_of_others_returns_nothing(run: &Run<'_>) -> CheckResult {
    applies(run.subject.signer().signs, "the gateway does not sign webhooks")?;
    let mut setup = run.setup("http://127.0.0.1:9", Pace::Patient);
    setup.webhook_secrets = own(&[OWN]).into_iter().chain(elsewhere()).collect();
    let channel = run.built(&setup)?;
    for (nth, webhook) in in_json(run).await?.iter().filter(|webhook| webhook.signed).enumerate() {
        for value in values(webhook) {
            for odd in ODD {
                let malformed = with(webhook, &value.range, odd);
                let received = run.receive(&*channel, &run.arrives(&malformed, OTHER)).await?;
                if let Ok(Received { events, discarded, .. }) = received {
                    let n = nth + 1;
                    ensure!(
                        events.is_empty(),
                        "malformed webhook {n} of another account: expected no events, got {}",
                        events.len()
                    );
                    ensure!(
                        !discarded.is_empty(),
                        "malformed webhook {n} of another account: expected a discarded event, got none"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Half of a surrogate pair, and a byte that is not UTF-8, cost one character and no more; and two ids that are read alike
/// for it are two.
pub(super) async fn half_a_character_costs_one_character(run: &Run<'_>) -> CheckResult {
    for (nth, webhook) in in_json(run).await?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let before = receive(run, &*channel, nth, webhook).await?;
        for value in values(webhook).into_iter().filter(|value| value.text.is_some()) {
            let end = value.range.end - 1..value.range.end - 1;
            for half in [&b"\\ud83d"[..], b"\xff"] {
                let broken = spliced(webhook, &end, half);
                let received = receive(run, &*channel, nth, &broken).await?;
                if !received.discarded.is_empty() {
                    continue;
                }
                for event in beside(webhook, &before, &value.range) {
                    let kept = received.events.iter().any(|one| same(one, event));
                    ensure!(
                        kept,
                        "webhook {}: expected the other events beside an invalid character, got fewer",
                        nth + 1
                    );
                }
                let text = value.text.as_deref().unwrap_or_default();
                if before.events.iter().any(|event| event.as_inbound().is_some_and(|one| one.id.as_str() == text)) {
                    let other = spliced(webhook, &end, if half == b"\xff" { b"\xfe" } else { b"\\ud83e" });
                    let other = receive(run, &*channel, nth, &other).await?;
                    ensure!(
                        ids(&received).iter().zip(&ids(&other)).any(|(one, other)| one != other),
                        "webhook {}: expected distinct ids of two messages with invalid ids, got one",
                        nth + 1
                    );
                }
                let has_text = |event: &&Event| {
                    let text = event.as_inbound().and_then(|inbound| match &inbound.content {
                        InboundContent::Text(text) => Some(text),
                        _ => None,
                    });
                    text.is_some() && text == value.text.as_ref() && within(webhook, event, &value.range)
                };
                for event in before.events.iter().filter(has_text) {
                    let text = value.text.clone().unwrap_or_default() + "\u{FFFD}";
                    let read = |one: &&Event| same(one, event);
                    let found = received.events.iter().find(read).and_then(|one| one.as_inbound()?.text());
                    ensure!(
                        found == Some(&text),
                        "webhook {}: expected the text with one character replaced, got another",
                        nth + 1
                    );
                }
            }
        }
    }
    Ok(())
}

/// An event that comes again with other white space, and its members in another order, has the same id; and one that says
/// something else has another.
pub(super) async fn event_id_ignores_formatting(run: &Run<'_>) -> CheckResult {
    let webhooks = webhooks_with_events(run)?;
    for (nth, webhook) in webhooks.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let again = match serde_json::from_slice::<Value>(webhook.request.body()) {
            Ok(json) => whole(webhook, reordered(&json).into()),
            Err(_) if webhook.request.body().is_empty() => continue,
            Err(_) => {
                let fields: Vec<_> = webhook.request.body().split(|byte| *byte == b'&').rev().collect();
                whole(webhook, fields.join(&b'&').into())
            }
        };
        let before = ids(&receive(run, &*channel, nth, webhook).await?);
        let after = ids(&receive(run, &*channel, nth, &again).await?);
        ensure!(
            before == after,
            "webhook {}: expected the same ids with other white space and order, got others",
            nth + 1
        );
    }
    let Some(model) = webhooks.iter().find(|webhook| !webhook.request.body().is_empty()) else { return Ok(()) };
    let channel = run.receiving(&[OWN])?;
    let mut ids = Vec::new();
    for body in [r#"{"conformance":1}"#, r#"{"conformance":2}"#] {
        let received =
            run.receive(&*channel, &run.arrives(&whole(model, Bytes::from_static(body.as_bytes())), OWN)).await?;
        ids.extend(received.ok().and_then(|received| received.events.first().map(Event::id)));
    }
    ensure!(ids.len() < 2 || ids.first() != ids.last(), "expected distinct ids of two different webhooks, got one");
    Ok(())
}

/// The stored size grows linearly with the number of events.
pub(super) async fn batch_cost_is_linear(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (nth, webhook) in in_json(run).await?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let times = async |element: &Range<usize>, times: usize| -> CheckResult<[usize; 2]> {
            let one =
                String::from_utf8_lossy(webhook.request.body().get(element.clone()).unwrap_or_default()).into_owned();
            let long = with(webhook, element, &vec![one; times].join(","));
            let received = receive(run, &*channel, nth, &long).await?;
            let stored = serde_json::to_string(&received.events)
                .map_err(|_| CheckError::Failed("cannot serialise the events".into()))?;
            Ok([received.events.len(), stored.len()])
        };
        let mut sizes = Vec::new();
        for element in values(webhook).iter().filter(|value| value.is_object() && is_element(webhook, &value.range)) {
            // One that has events of its own.
            if times(&element.range, 1).await?[0] < times(&element.range, 2).await?[0] {
                any = true;
                sizes = vec![times(&element.range, 64).await?, times(&element.range, 128).await?];
                break;
            }
        }
        let [[events, bytes], [twice_events, twice_bytes]] = sizes[..] else { continue };
        let linear = twice_events * 10 <= events * 22 && twice_bytes * 10 <= bytes * 22;
        ensure!(
            linear,
            "webhook {}: of twice as many parts, {twice_events} events of {twice_bytes} bytes, from {events} of {bytes}: \
             is the `Raw` of each event its own piece (`Json::raw`)?",
            nth + 1
        );
    }
    applies(any, "no webhook has a list of events")
}

fn ids(received: &Received) -> Vec<String> {
    received.events.iter().map(Event::id).collect()
}

/// A value in a JSON body.
struct ValueAt {
    range: Range<usize>,
    /// The text, if it is a string.
    text: Option<String>,
    /// The value is an empty object or list.
    is_empty: bool,
    first: u8,
}

impl ValueAt {
    fn is_object(&self) -> bool {
        self.first == b'{'
    }
}

/// The values of a body, outermost first; none where it is no JSON.
fn values(webhook: &Webhook) -> Vec<ValueAt> {
    let mut found = Vec::new();
    if let Ok(text) = std::str::from_utf8(webhook.request.body())
        && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
        && raw.get().starts_with(['{', '['])
    {
        walk(text, raw.get(), &mut found);
    }
    // The root has no siblings.
    found.into_iter().skip(1).take(VALUES_MAX).collect()
}

fn walk(body: &str, value: &str, found: &mut Vec<ValueAt>) {
    let start = value.as_ptr().addr() - body.as_ptr().addr();
    let inner: Vec<&str> = match value.as_bytes().first() {
        Some(b'{') => {
            let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(value).unwrap_or_default();
            members.into_values().map(RawValue::get).collect()
        }
        Some(b'[') => {
            serde_json::from_str::<Vec<&RawValue>>(value).unwrap_or_default().into_iter().map(RawValue::get).collect()
        }
        _ => Vec::new(),
    };
    found.push(ValueAt {
        range: start..start + value.len(),
        text: serde_json::from_str(value).ok(),
        is_empty: inner.is_empty(),
        first: value.as_bytes().first().copied().unwrap_or_default(),
    });
    inner.into_iter().for_each(|inner| walk(body, inner, found));
}

/// Returns the position of an event's raw bytes in the body.
fn piece(webhook: &Webhook, event: &Event) -> Option<Range<usize>> {
    let (body, raw) = (webhook.request.body(), event.envelope().raw.as_bytes());
    let start = body.windows(raw.len().max(1)).position(|piece| piece == raw)?;
    Some(start..start + raw.len())
}

/// Returns `true` for an element of a list: a member's value follows a colon.
fn is_element(webhook: &Webhook, value: &Range<usize>) -> bool {
    let before = webhook.request.body().get(..value.start).map(<[u8]>::trim_ascii_end);
    matches!(before.and_then(<[u8]>::last), Some(b'[' | b','))
}

fn within(webhook: &Webhook, event: &Event, value: &Range<usize>) -> bool {
    piece(webhook, event).is_some_and(|piece| piece.start <= value.start && value.end <= piece.end)
}

/// The messages and deliveries that a value is no part of, and that are no part of it.
///
/// Where several events come from one object, one of them may keep the object and the others their parts of it: all of
/// them depend on the object.
fn beside<'r>(webhook: &Webhook, received: &'r Received, value: &Range<usize>) -> Vec<&'r Event> {
    let pieces: Vec<_> = received.events.iter().filter_map(|event| piece(webhook, event)).collect();
    let apart = |event: &&Event| {
        let Some(own) = piece(webhook, event) else { return false };
        let around = pieces.iter().filter(|piece| piece.start <= own.start && own.end <= piece.end);
        let is_apart = |piece: &Range<usize>| piece.end <= value.start || value.end <= piece.start;
        matches!(event, Event::Inbound(_) | Event::Delivery(_)) && around.into_iter().all(is_apart)
    };
    received.events.iter().filter(apart).collect()
}

/// Returns `true` if two events have the same gateway id. A malformed account may change the account.
fn same(one: &Event, other: &Event) -> bool {
    match (one, other) {
        (Event::Inbound(one), Event::Inbound(other)) => one.id == other.id,
        (Event::Delivery(one), Event::Delivery(other)) => (&one.of, &one.status) == (&other.of, &other.status),
        _ => false,
    }
}

fn whole(webhook: &Webhook, body: Bytes) -> Webhook {
    let mut webhook = webhook.clone();
    *webhook.request.body_mut() = body;
    webhook
}

fn with(webhook: &Webhook, place: &Range<usize>, text: &str) -> Webhook {
    spliced(webhook, place, text.as_bytes())
}

fn spliced(webhook: &Webhook, place: &Range<usize>, bytes: &[u8]) -> Webhook {
    let body = webhook.request.body();
    let [before, after] = [body.get(..place.start), body.get(place.end..)].map(Option::unwrap_or_default);
    whole(webhook, [before, bytes, after].concat().into())
}

/// Returns the same JSON with extra white space and reversed members.
fn reordered(json: &Value) -> String {
    match json {
        Value::Array(all) => format!("[ {} ]", all.iter().map(reordered).collect::<Vec<_>>().join(" , ")),
        Value::Object(all) => {
            let members =
                all.iter().rev().map(|(name, value)| format!("{} : {}", Value::from(name.as_str()), reordered(value)));
            format!("{{ {}\n}}", members.collect::<Vec<_>>().join(" ,\t"))
        }
        scalar => scalar.to_string(),
    }
}
