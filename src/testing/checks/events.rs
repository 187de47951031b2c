//! Checks of the events of all recorded webhooks together.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::outcomes::{members, replaced};
use super::receiving::{bare, receive, recorded};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::event::{Envelope, Event, Inbound, InboundContent};
use crate::testing::run::{CheckResult, OWN, Run, applies, ensure};
use crate::testing::subject::Webhook;

/// Different events of different webhooks have different ids: one of them would be dropped as a duplicate.
pub(super) async fn event_ids_are_unique_across_webhooks(run: &Run<'_>) -> CheckResult {
    let mut seen = BTreeMap::<String, (Webhook, Value)>::new();
    for (webhook, events) in recorded(run).await? {
        for event in events {
            let content = subject_of(&event);
            match seen.get(&event.id()) {
                Some((first, known)) => ensure!(
                    *known == content,
                    "{}: expected an event id of its own, got that of another event, at {}: {}",
                    webhook.place,
                    first.place,
                    event.id()
                ),
                None => _ = seen.insert(event.id(), (webhook.clone(), content)),
            }
        }
    }
    Ok(())
}

/// Returns what an event says, as far as a redelivery must say the same. A status may be repeated with a later price.
fn subject_of(event: &Event) -> Value {
    match event {
        Event::Delivery(delivery) => json!(delivery.state),
        event => bare(event),
    }
}

/// An edit is an event of its own: with the original's id it would be dropped as a duplicate.
pub(super) async fn edit_has_an_event_id_of_its_own(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (webhook, events) in recorded(run).await? {
        for edit in events.iter().filter_map(Event::as_inbound) {
            let InboundContent::Edited { id, content } = &edit.content else { continue };
            any = true;
            let envelope = Envelope { id: None, ..edit.envelope.clone() };
            let original = Inbound::new(envelope, id.clone(), edit.from.clone(), (**content).clone());
            let (own, original) = (Event::from(edit.clone()).id(), Event::from(original).id());
            ensure!(
                own != original,
                "{}: expected an event id of its own for an edit, got the original's",
                webhook.place
            );
        }
    }
    applies(any, "no edit is recorded: record one if the gateway has edits")
}

/// A selection has the id that we gave the option, and a file has an id or a URL.
pub(super) async fn selection_and_file_have_an_id(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (webhook, events) in recorded(run).await? {
        for inbound in events.iter().filter_map(Event::as_inbound) {
            if let InboundContent::Selection(selection) = &inbound.content {
                any = true;
                let (id, title) = (selection.id.trim(), &selection.title);
                ensure!(!id.is_empty(), "{}: expected the id of the selection “{title}”, got none", webhook.place);
                let raw = inbound.envelope.raw.as_bytes();
                let there = raw.is_empty() || raw.windows(id.len()).any(|piece| piece == id.as_bytes());
                ensure!(
                    there || run.subject.in_memory(),
                    "{}: expected the id of the selection “{title}” from the webhook, got {id:?}",
                    webhook.place
                );
            }
            for file in inbound.media() {
                any = true;
                let named = !file.id.trim().is_empty() || file.url.is_some();
                ensure!(named, "{}: expected an id or a URL of a file, got neither", webhook.place);
            }
        }
    }
    applies(any, "no selection and no file is recorded")
}

/// A message of a group is answered to the group, not to its writer.
pub(super) async fn group_message_is_answered_to_the_group(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (webhook, events) in recorded(run).await? {
        let Some(group) = &webhook.group else { continue };
        any = true;
        let mut messages = events.iter().filter_map(Event::as_inbound).peekable();
        ensure!(messages.peek().is_some(), "{}: expected a message of a group, got none", webhook.place);
        for inbound in messages {
            let to = inbound.reply_address().expose();
            ensure!(to == group, "{}: expected a reply to the group {group}, got one to {to}", webhook.place);
        }
    }
    applies(any, "no message of a group is recorded: `Webhook::group` records one")
}

/// A failed delivery has a reason, even if the gateway leaves out a part of it: its kind decides what happens next.
pub(super) async fn failed_delivery_has_a_kind(run: &Run<'_>) -> CheckResult {
    let failed = |event: &Event| event.as_delivery().is_some_and(|delivery| delivery.state == DeliveryState::Failed);
    let mut webhooks = Vec::new();
    for (webhook, events) in recorded(run).await? {
        if events.iter().any(failed) {
            webhooks.extend(parts_left_out(&webhook));
            webhooks.push(webhook);
        }
    }
    applies(!webhooks.is_empty(), "no failed delivery is recorded")?;
    let channel = run.receiving(&[OWN])?;
    for (nth, webhook) in webhooks.iter().enumerate() {
        let events = receive(run, &*channel, nth, webhook).await?.events;
        for delivery in events.iter().filter(|event| failed(event)).filter_map(Event::as_delivery) {
            ensure!(
                delivery.failure.is_some(),
                "{}: expected `Delivery::failure` for {:?} ({}), got none; the webhook was {}",
                webhook.place,
                delivery.state,
                delivery.status,
                String::from_utf8_lossy(webhook.body())
            );
        }
    }
    Ok(())
}

/// Returns the webhook without each member of its JSON, or without each field of its form, one at a time.
fn parts_left_out(webhook: &Webhook) -> Vec<Webhook> {
    let with = |body: String| {
        let mut webhook = webhook.clone();
        *webhook.request.body_mut() = body.into();
        webhook
    };
    if let Ok(json) = serde_json::from_slice::<Value>(webhook.body()) {
        return members(&json, "")
            .iter()
            .filter_map(|at| replaced(&json, at, None))
            .map(|json| with(json.to_string()))
            .collect();
    }
    let pairs: Vec<_> = form_urlencoded::parse(webhook.body()).into_owned().collect();
    let without = |n: usize| {
        let pairs = pairs.iter().enumerate().filter(|(nth, _)| *nth != n).map(|(_, pair)| pair);
        with(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
    };
    (0..pairs.len()).map(without).collect()
}

const HOUR: Duration = Duration::from_secs(3_600);

/// The time of an event follows the time in the webhook, in its unit and its zone.
pub(super) async fn event_time_follows_the_webhook(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (nth, (webhook, before)) in recorded(run).await?.into_iter().enumerate() {
        for (what, shift) in [("an hour later", Shift::Clock), ("in another zone", Shift::Zone)] {
            let Some(later) = shifted(&webhook, shift, run.subject.now()) else { continue };
            let channel = run.receiving(&[OWN])?;
            let after = receive(run, &*channel, nth, &later).await?.events;
            for (old, new) in before.iter().zip(&after) {
                // Other events have times beside their own, such as the end of a pause.
                let dated = matches!(old, Event::Inbound(_) | Event::Delivery(_));
                if !dated || std::mem::discriminant(old) != std::mem::discriminant(new) {
                    continue;
                }
                if shift_text(&String::from_utf8_lossy(old.envelope().raw.as_bytes()), shift, run.subject.now())
                    .is_none()
                {
                    continue;
                }
                any = true;
                let (old, new) = (old.envelope().at, new.envelope().at);
                let expected = match shift {
                    Shift::Clock => old.plus(HOUR),
                    Shift::Zone => Timestamp::from_millis(old.as_millis() - 3_600_000),
                };
                ensure!(
                    new == expected,
                    "{}: with its times {what}, expected an event at {expected}, got {new} ({old} before)",
                    webhook.place
                );
            }
        }
    }
    applies(any, "no webhook with a time is recorded")
}

#[derive(Clone, Copy, PartialEq)]
enum Shift {
    /// An hour later.
    Clock,
    /// The same hands of the clock an hour further east, which is an hour earlier. Only where an offset is written.
    Zone,
}

/// Shifts all times of a webhook; `None` if it has none.
fn shifted(webhook: &Webhook, shift: Shift, now: Timestamp) -> Option<Webhook> {
    let mut webhook = webhook.clone();
    let body = String::from_utf8(webhook.request.body().to_vec()).ok()?;
    let pairs = |text: &str| {
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let changed = |value: &String| shift_text(value, shift, now);
        pairs.iter().any(|(_, value)| changed(value).is_some()).then(|| {
            let pairs = pairs.iter().map(|(name, value)| (name, changed(value).unwrap_or_else(|| value.clone())));
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        })
    };
    if body.is_empty() {
        let query = pairs(webhook.request.uri().query()?)?;
        *webhook.request.uri_mut() = format!("{}?{query}", webhook.request.uri().path()).parse().ok()?;
    } else if serde_json::from_str::<Value>(&body).is_ok() {
        *webhook.request.body_mut() = shift_text(&body, shift, now)?.into();
    } else {
        *webhook.request.body_mut() = pairs(&body)?.into();
    }
    Some(webhook)
}

/// Shifts all times of a text, `None` if it has none: seconds and milliseconds since 1970, and hours with minutes and
/// seconds, of any date format.
fn shift_text(text: &str, shift: Shift, now: Timestamp) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut changed, mut before) = (text, false, ' ');
    while let Some(first) = rest.chars().next() {
        let apart = !before.is_ascii_alphanumeric() && !matches!(before, '+' | '_' | '-' | '.');
        let replaced = match shift {
            Shift::Clock if apart && first.is_ascii_digit() => epoch(rest, now).or_else(|| clock(rest)),
            // In `2026-11-22T13:46:42` the hour follows a letter, in a compact one a digit.
            Shift::Clock if first.is_ascii_digit() && matches!(before, 'T' | ' ') => clock(rest),
            Shift::Zone if first.is_ascii_digit() && !before.is_ascii_digit() => zone(rest),
            _ => None,
        };
        let taken = match replaced {
            Some((new, len)) => {
                changed = true;
                out.push_str(&new);
                len
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        before = rest.get(..taken).and_then(|taken| taken.chars().last()).unwrap_or(' ');
        rest = rest.get(taken..).unwrap_or_default();
    }
    changed.then_some(out)
}

/// A time since 1970, within two years of now.
fn epoch(text: &str, now: Timestamp) -> Option<(String, usize)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let millis = match len {
        10 => 1,
        13 => 1_000,
        _ => return None,
    };
    if text.as_bytes().get(len).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'_' | b'-' | b'@')) {
        return None;
    }
    let time: i64 = text.get(..len)?.parse().ok()?;
    let apart = (time / millis).abs_diff(now.as_secs());
    (apart < 2 * 366 * 86_400).then(|| ((time + 3_600 * millis).to_string(), len))
}

/// `13:46:42`: an hour later. The last hour of a day is left alone.
fn clock(text: &str) -> Option<(String, usize)> {
    let &[a, b, b':', c, d, b':', e, f] = text.as_bytes().get(..8)? else { return None };
    if ![a, b, c, d, e, f].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let hour = (a - b'0') * 10 + (b - b'0');
    (hour < 23).then(|| (format!("{:02}", hour + 1), 2))
}

/// `13:46:42+01:00`: an offset an hour further east.
fn zone(text: &str) -> Option<(String, usize)> {
    clock(text)?;
    let rest = text.get(8..)?;
    let fraction = match rest.strip_prefix('.') {
        Some(digits) => 1 + digits.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let space = usize::from(rest.get(fraction..)?.starts_with(' '));
    let from = 8 + fraction + space;
    let &[b'+', a, b] = text.as_bytes().get(from..from + 3)? else { return None };
    if !a.is_ascii_digit() || !b.is_ascii_digit() {
        return None;
    }
    let hours = (a - b'0') * 10 + (b - b'0');
    (hours < 13).then(|| (format!("{}+{:02}", text.get(..from).unwrap_or_default(), hours + 1), from + 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn later(text: &str) -> Option<String> {
        shift_text(text, Shift::Clock, NOW)
    }

    #[test]
    fn times_of_every_format_shift_by_an_hour() {
        for (text, expected) in [
            ("\"at\": 1795000000,", "\"at\": 1795003600,"),
            ("1795000000123", "1795003600123"),
            ("2026-11-22T13:46:42Z", "2026-11-22T14:46:42Z"),
            ("2026-11-22 13:46:42.108956", "2026-11-22 14:46:42.108956"),
            ("Sun, 22 Nov 2026 13:46:42 +0000", "Sun, 22 Nov 2026 14:46:42 +0000"),
        ] {
            assert_eq!(later(text).as_deref(), Some(expected));
        }
        for text in ["+447700900123", "sev-1795000000", "2026-11-22", "4711", "2026-11-22T23:46:42Z"] {
            assert_eq!(later(text), None, "{text}");
        }
    }

    #[test]
    fn offsets_shift_and_universal_time_does_not() {
        let east = |text| shift_text(text, Shift::Zone, NOW);
        assert_eq!(east("2026-11-22T13:46:42+01:00").as_deref(), Some("2026-11-22T13:46:42+02:00"));
        assert_eq!(east("22 Nov 2026 13:46:42 +0000").as_deref(), Some("22 Nov 2026 13:46:42 +0100"));
        assert_eq!(east("2026-11-22T13:46:42Z"), None);
    }
}
