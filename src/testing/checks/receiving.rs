//! Checks of webhooks.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use memchr::memmem::find;
use serde_json::Value;

use crate::channel::Channel;
use crate::model::address::{Address, Medium};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{DeliveryOf, Event};
use crate::model::id::MessageId;
use crate::model::random::{Random, SeededRandom};
use crate::testing::run::{CheckError, CheckResult, OWN, Run, applies, caught, compare_events, ensure, id};
use crate::testing::subject::{EventKind, ExpectedEvent, Reception, Webhook};
use crate::webhook::{BODY_MAX, Received};

/// Returns the recorded webhooks that contain events.
pub(super) fn webhooks_with_events(run: &Run<'_>) -> CheckResult<Vec<Webhook>> {
    applies(run.info.capability.receive, "receives no webhooks")?;
    let has_events = |webhook: &Webhook| !matches!(webhook.result, Reception::Refused | Reception::Replies(..));
    let webhooks: Vec<_> = run.subject.webhooks().into_iter().filter(has_events).collect();
    ensure!(!webhooks.is_empty(), "expected a recorded webhook, got none");
    Ok(webhooks)
}

/// Receives a recorded webhook.
pub(super) async fn receive(
    run: &Run<'_>,
    channel: &dyn Channel,
    nth: usize,
    webhook: &Webhook,
) -> CheckResult<Received> {
    let received = run.receive(channel, &run.arrives(webhook, OWN)).await?;
    received.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::Unauthenticated => "; check that `Subject::signer` matches the scheme",
            _ => "",
        };
        CheckError::Failed(format!("webhook {} ({}): expected success, got {error}{hint}", nth + 1, webhook.place))
    })
}

/// Receives each recorded webhook, and returns its events.
pub(super) async fn recorded(run: &Run<'_>) -> CheckResult<Vec<(Webhook, Vec<Event>)>> {
    let mut all = Vec::new();
    for (nth, webhook) in webhooks_with_events(run)?.into_iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let events = receive(run, &*channel, nth, &webhook).await?.events;
        all.push((webhook, events));
    }
    Ok(all)
}

/// Returns an event without its raw bytes and time.
pub(super) fn bare(event: &Event) -> Value {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    for event in value.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if let Some(envelope) = event.get_mut("envelope").and_then(Value::as_object_mut) {
            envelope.remove("raw");
            envelope.remove("at");
        }
    }
    value
}

/// A recorded webhook returns its events, with the response that its gateway expects.
pub(super) async fn webhook_returns_the_recorded_events(run: &Run<'_>) -> CheckResult {
    for (nth, webhook) in webhooks_with_events(run)?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        let received = receive(run, &*channel, nth, webhook).await?;
        let (n, status) = (nth + 1, received.response.status);
        ensure!(status.is_success(), "webhook {n}: expected a 2xx response, got {status}");
        if let Reception::Discards(events) = webhook.result {
            let (brought, discarded) = (received.events.len(), received.discarded_events());
            ensure!(brought == 0, "webhook {n} of another account: expected no events, got {brought}");
            ensure!(discarded == events, "webhook {n}: expected {events} discarded events, got {discarded}");
            continue;
        }
        let discarded = received.discarded_events();
        ensure!(discarded == 0, "webhook {n}: expected no discarded events, got {discarded}");
        match &webhook.result {
            Reception::Events(expected) => {
                compare_events(&received.events, expected)
                    .map_err(|difference| format!("webhook {n} ({}): {difference}", webhook.place))
            }?,
            _ => ensure!(!received.events.is_empty(), "webhook {n}: expected an event, got none"),
        }
    }
    Ok(())
}

/// Each event has its gateway, medium and account, and the gateway's raw bytes.
///
/// Its medium is the channel's own. One that stands in front of it, such as RCS in front of SMS, is right as well where the
/// person is at an address of the channel's medium: they are one person on both.
pub(super) async fn event_names_its_origin(run: &Run<'_>) -> CheckResult {
    for (nth, webhook) in webhooks_with_events(run)?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        for event in receive(run, &*channel, nth, webhook).await?.events {
            let (n, envelope) = (nth + 1, event.envelope());
            ensure!(
                envelope.gateway == run.info.gateway,
                "webhook {n}: expected the channel's gateway, got {}",
                envelope.gateway
            );
            let person = match &event {
                Event::Inbound(inbound) => Some(&inbound.from),
                Event::OptOut(opt_out) => Some(&opt_out.from),
                Event::Delivery(delivery) => delivery.recipient.as_ref(),
                _ => None,
            };
            let in_front = matches!(envelope.medium, Medium::Other(_))
                && person.is_some_and(|person| person.fits(&run.info.medium));
            let of_medium = envelope.medium == run.info.medium || in_front;
            ensure!(of_medium, "webhook {n}: expected the channel's medium, got {}", envelope.medium);
            ensure!(!envelope.account.as_str().is_empty(), "webhook {n}: expected an account, got none");
            ensure!(envelope.at.as_millis() > 0, "webhook {n}: expected the gateway's time, got none");
            let (raw, body) = (envelope.raw.as_bytes(), webhook.request.body());
            ensure!(
                run.subject.in_memory() || !raw.is_empty(),
                "webhook {n}: expected raw bytes of the webhook, got none"
            );
            let there = body.is_empty() || raw.is_empty() || body.windows(raw.len()).any(|piece| piece == raw);
            ensure!(there, "webhook {n}: expected raw bytes of the webhook, got others");
            let secret = raw.windows(OWN.len()).any(|piece| piece == OWN.as_bytes());
            ensure!(!secret, "webhook {n}: the raw bytes of an event contain the secret, and would be stored");
            if let Event::Inbound(inbound) = &event {
                let nobody = matches!(inbound.from, Address::SenderName(_));
                let fits = inbound.from.fits(&run.info.medium) || inbound.echo || nobody;
                ensure!(fits, "webhook {n}: expected a sender's address of the medium, got another");
            }
        }
    }
    Ok(())
}

/// Events of one webhook keep the gateway's order: that of the recording, and messages and deliveries that of their
/// pieces in the body.
pub(super) async fn batch_keeps_its_order(run: &Run<'_>) -> CheckResult {
    let all = recorded(run).await?;
    // A query has no pieces.
    let is_batch = |webhook: &Webhook, events: &[Event]| events.len() > 1 && !webhook.request.body().is_empty();
    let batches: Vec<_> = all.iter().filter(|(webhook, events)| is_batch(webhook, events)).collect();
    applies(!batches.is_empty(), "no webhook with several events is recorded")?;
    for (webhook, events) in batches {
        let came: Vec<_> = events.iter().filter_map(id).collect();
        let expected = expected_ids(webhook.expected_events());
        ensure!(
            expected.is_empty() || came == expected,
            "{}: expected the recorded order of events, got another",
            webhook.place
        );
        let body = webhook.request.body();
        let of_people = events.iter().filter(|event| matches!(event, Event::Inbound(_) | Event::Delivery(_)));
        let pieces = of_people.map(|event| event.envelope().raw.as_bytes()).filter(|piece| find(body, piece).is_some());
        pieces
            .into_iter()
            .try_fold(&**body, |rest, piece| find(rest, piece).and_then(|at| rest.get(at..)))
            .ok_or_else(|| format!("{}: expected events in the order of their pieces, got another", webhook.place))?;
    }
    Ok(())
}

fn expected_ids(events: &[ExpectedEvent]) -> Vec<&str> {
    events.iter().filter_map(|expected| expected.id.as_deref()).collect()
}

/// A redelivered webhook, after a restart and later, returns the same event ids; distinct events have distinct ids.
pub(super) async fn redelivered_event_keeps_its_id(run: &Run<'_>) -> CheckResult {
    for (nth, webhook) in webhooks_with_events(run)?.iter().enumerate() {
        let mut ids = Vec::new();
        for later in [Duration::ZERO, Duration::from_millis(1_234)] {
            let channel = run.receiving(&[OWN])?;
            let request = run.signed(&webhook.request, webhook.signed, OWN);
            let request = run.arriving(request, run.subject.now().plus(later));
            let received = run.receive(&*channel, &request).await?;
            let received = received.map_err(|error| format!("webhook {}: expected success, got {error}", nth + 1))?;
            ids.push(received.events.iter().map(Event::id).collect::<Vec<_>>());
        }
        ensure!(
            ids.first() == ids.last(),
            "webhook {}: expected the same ids on redelivery, got others: does an id depend on the arrival time?",
            nth + 1
        );
        let all = ids.pop().unwrap_or_default();
        let different: BTreeSet<_> = all.iter().collect();
        ensure!(different.len() == all.len(), "webhook {}: expected distinct event ids, got a duplicate", nth + 1);
    }
    Ok(())
}

/// An event round-trips through serde, with the same id: of recorded webhooks and of 2,000 random mutations.
pub(super) async fn event_round_trips_through_serde(run: &Run<'_>) -> CheckResult {
    let webhooks = webhooks_with_events(run)?;
    let channel = run.receiving(&[OWN])?;
    let mut mutator = Mutator::new(run);
    for nth in 0..webhooks.len() + 2_000 {
        let webhook = match webhooks.get(nth) {
            Some(webhook) => Some(webhook.clone()),
            None => mutator.spoil_one_of(&webhooks),
        };
        let Some(webhook) = webhook else { continue };
        let Some(Ok(received)) = caught(channel.receive(&run.arrives(&webhook, OWN))).await else { continue };
        for event in received.events {
            let stored =
                serde_json::to_string(&event).map_err(|_| format!("webhook {nth}: cannot serialise an event"))?;
            let again = serde_json::from_str::<Event>(&stored);
            let again = again.map_err(|_| format!("webhook {nth}: cannot deserialise an event"))?;
            ensure!(again == event, "webhook {nth}: expected the same event after serialisation, got another");
            ensure!(again.id() == event.id(), "webhook {nth}: expected the same id after serialisation, got another");
        }
    }
    Ok(())
}

/// A delivery identifies its message by the gateway's id, by our key, or as all up to a time.
pub(super) async fn status_names_its_message(run: &Run<'_>) -> CheckResult {
    let mut any = false;
    for (nth, webhook) in webhooks_with_events(run)?.iter().enumerate() {
        let channel = run.receiving(&[OWN])?;
        for event in receive(run, &*channel, nth, webhook).await?.events {
            let Event::Delivery(delivery) = event else { continue };
            any = true;
            let named = match &delivery.of {
                DeliveryOf::Message { id, key } => {
                    id.as_ref().map(MessageId::as_str).or(key.as_deref()).is_some_and(|name| !name.is_empty())
                }
                DeliveryOf::UpTo { .. } => true,
            };
            ensure!(named, "webhook {}: expected a delivery with an id, a key or a time, got none", nth + 1);
            ensure!(!delivery.status.is_empty(), "webhook {}: expected the gateway's status text, got none", nth + 1);
        }
    }
    applies(any, "no delivery is recorded")
}

/// Statuses are reported in any order and number, even before the send returns: the delivery ladder resolves them.
pub(super) async fn statuses_are_reported_in_any_order(run: &Run<'_>) -> CheckResult {
    let is_status = |event: &Event| event.as_delivery().is_some();
    let all = recorded(run).await?;
    let statuses: Vec<_> = all.iter().enumerate().filter(|(_, (_, events))| events.iter().any(is_status)).collect();
    applies(!statuses.is_empty(), "no delivery is recorded")?;
    // One channel that has sent nothing: no earlier send influences the result.
    let channel = run.receiving(&[OWN])?;
    let results = |events: &[Event]| events.iter().map(bare).collect::<Vec<_>>();
    for (nth, (webhook, events)) in statuses.iter().chain(statuses.iter().rev()).chain(&statuses) {
        let received = receive(run, &*channel, *nth, webhook).await?;
        let same = results(&received.events) == results(events);
        ensure!(same, "{}, after others: expected the same events as alone, got others", webhook.place);
    }
    Ok(())
}

/// An unrecognised event is kept and answered 2xx: otherwise the gateway redelivers it for days.
pub(super) async fn unrecognised_webhook_is_kept(run: &Run<'_>) -> CheckResult {
    let webhooks = webhooks_with_events(run)?;
    for (nth, webhook) in webhooks.iter().enumerate() {
        let unknown =
            webhook.expected_events().iter().filter(|expected| expected.kind == EventKind::Unrecognised).count();
        if unknown > 0 {
            let channel = run.receiving(&[OWN])?;
            let received = receive(run, &*channel, nth, webhook).await?;
            let kept = received.events.iter().filter(|event| EventKind::of(event) == EventKind::Unrecognised).count();
            let status = received.response.status;
            ensure!(
                status.is_success(),
                "webhook {}: expected a 2xx response to an unrecognised event, got {status}",
                nth + 1
            );
            ensure!(kept == unknown, "webhook {}: expected {unknown} unrecognised events, got {kept}", nth + 1);
        }
    }
    let Some(model) = webhooks.first() else { return Ok(()) };
    let by_query = model.request.body().is_empty();
    for strange in ["conformance=true", r#"{"conformance":true}"#, "[]", "null", "", "<xml/>", "\u{0}"] {
        let mut webhook = model.clone();
        if by_query {
            let Ok(uri) = format!("/webhook?{}", percent(strange)).parse() else { continue };
            *webhook.request.uri_mut() = uri;
        } else {
            *webhook.request.body_mut() = Bytes::from_static(strange.as_bytes());
        }
        let channel = run.receiving(&[OWN])?;
        let received = run.receive(&*channel, &run.arrives(&webhook, OWN)).await?;
        let Some(received) = taken("an unrecognised webhook", received)? else { continue };
        let lost = received.events.is_empty() && received.discarded.is_empty();
        // Gateways send forms and objects: these must not be dropped.
        ensure!(!lost || !strange.contains("conformance"), "unrecognised webhook: expected an event, got none");
    }
    Ok(())
}

fn percent(text: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_key_only(text).finish()
}

/// Returns the events of a verified webhook, `None` if the scheme rejected bytes that its gateway never signs. Any other
/// error fails the check.
fn taken(what: &str, received: Result<Received, Error>) -> CheckResult<Option<Received>> {
    match received {
        Ok(received) => {
            let status = received.response.status;
            ensure!(status.is_success(), "{what}: expected a 2xx response, got {status}");
            Ok(Some(received))
        }
        Err(error) if error.kind() == ErrorKind::Unauthenticated => Ok(None),
        Err(error) => Err(CheckError::Failed(format!("{what} with a valid signature: expected success, got {error}"))),
    }
}

/// A truncated body with a valid signature is kept and is no error: the gateway sent it so.
pub(super) async fn truncated_body_is_no_error(run: &Run<'_>) -> CheckResult {
    let bodies: Vec<_> =
        webhooks_with_events(run)?.into_iter().filter(|webhook| !webhook.request.body().is_empty()).collect();
    applies(!bodies.is_empty(), "webhooks without a body")?;
    for (nth, webhook) in bodies.iter().take(8).enumerate() {
        let body = webhook.request.body().clone();
        for part in 0..16 {
            let mut short = webhook.clone();
            *short.request.body_mut() = body.slice(..body.len() * part / 16);
            let channel = run.receiving(&[OWN])?;
            let received = run.receive(&*channel, &run.arrives(&short, OWN)).await?;
            taken(&format!("webhook {} truncated to {part}/16", nth + 1), received)?;
        }
    }
    Ok(())
}

/// A body over the limit is rejected with 413, whatever its signature.
pub(super) async fn body_over_the_limit_is_refused(run: &Run<'_>) -> CheckResult {
    let webhooks = webhooks_with_events(run)?;
    let Some(model) = webhooks.iter().find(|webhook| !webhook.request.body().is_empty()) else {
        return applies(false, "webhooks without a body");
    };
    let mut large = model.clone();
    let mut body = model.request.body().to_vec();
    body.resize(BODY_MAX + 1, b' ');
    *large.request.body_mut() = body.into();
    let channel = run.receiving(&[OWN])?;
    match run.receive(&*channel, &run.arrives(&large, OWN)).await? {
        Err(error) if error.webhook_status() == StatusCode::PAYLOAD_TOO_LARGE => Ok(()),
        Err(error) => Err(CheckError::Failed(format!("body over 4 MiB: expected 413, got {}", error.webhook_status()))),
        Ok(_) => Err(CheckError::Failed("body over 4 MiB: expected 413, got success".to_owned())),
    }
}

/// The number of random bodies.
const BODIES: usize = 10_000;

/// No bytes cause a panic or an error: 10,000 random and mutated webhooks with valid signatures.
pub(super) async fn random_bytes_never_panic(run: &Run<'_>) -> CheckResult {
    let webhooks = webhooks_with_events(run)?;
    let channel = run.receiving(&[OWN])?;
    let (mut mutator, mut read) = (Mutator::new(run), 0);
    for _ in 0..BODIES {
        let Some(webhook) = mutator.spoil_one_of(&webhooks) else { continue };
        let request = run.arrives(&webhook, OWN);
        // Not recorded: 10,000 are too many to keep.
        let what = || match webhook.request.body().as_ref() {
            [] => format!("random webhook {}", webhook.request.uri()),
            body => format!("random webhook {}", body.get(..400).unwrap_or(body).escape_ascii()),
        };
        let received =
            caught(channel.receive(&request)).await.ok_or_else(|| format!("{}: expected no panic, got one", what()))?;
        let good = received.as_ref().is_ok_and(|received| received.response.status.is_success());
        read += usize::from(good);
        if !good {
            taken(&what(), received)?;
        }
    }
    // A scheme may reject some, such as bytes that its gateway never signs; if it rejects most, the check proves nothing.
    ensure!(read > BODIES / 2, "of {BODIES} signed webhooks only {read} are accepted: check `Subject::signer`");
    Ok(())
}

/// Mutates webhooks, repeatably from the run's seed.
struct Mutator(SeededRandom);

impl Mutator {
    fn new(run: &Run<'_>) -> Self {
        Self(SeededRandom::new(run.seed.get()))
    }

    fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 4];
        // A seeded source never fails.
        _ = self.0.fill(&mut bytes);
        usize::try_from(u32::from_le_bytes(bytes)).unwrap_or_default() % end.max(1)
    }

    /// Mutates one of these webhooks, `None` if the result is not valid HTTP.
    fn spoil_one_of(&mut self, webhooks: &[Webhook]) -> Option<Webhook> {
        let mut webhook = webhooks.get(self.below(webhooks.len()))?.clone();
        let request = &mut webhook.request;
        if request.body().is_empty() {
            let query = self.spoilt(request.uri().query().unwrap_or_default().as_bytes());
            let query = form_urlencoded::byte_serialize(&query).collect::<String>();
            let query = query.replace("%3D", "=").replace("%26", "&").replace("%25", "%");
            *request.uri_mut() = format!("/webhook?{query}").parse().ok()?;
        } else {
            *request.body_mut() = self.spoilt(request.body()).into();
        }
        Some(webhook)
    }

    /// Returns random bytes, or a mutation of these.
    fn spoilt(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        match self.below(8) {
            0 => {
                let mut random = vec![0; self.below(300)];
                _ = self.0.fill(&mut random);
                return random;
            }
            1 => bytes.truncate(self.below(good.len() + 1)),
            2 => {
                let (from, len) = (self.below(good.len() + 1), self.below(40));
                bytes = good
                    .iter()
                    .copied()
                    .enumerate()
                    .filter(|(n, _)| !(from..from + len).contains(n))
                    .map(|p| p.1)
                    .collect();
            }
            3 => {
                if let Ok(mut json) = serde_json::from_slice(good) {
                    self.spoil(&mut json, 0);
                    return serde_json::to_vec(&json).unwrap_or_default();
                }
            }
            _ => {
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len());
                    let byte = u8::try_from(self.below(256)).unwrap_or_default();
                    if let Some(there) = bytes.get_mut(at) {
                        *there = byte;
                    }
                }
            }
        }
        bytes
    }

    /// Replaces a random value with one of another type.
    fn spoil(&mut self, json: &mut serde_json::Value, depth: usize) {
        use serde_json::{Value, json};
        let inner: Vec<&mut Value> = match json {
            Value::Array(all) => all.iter_mut().collect(),
            Value::Object(all) => all.values_mut().collect(),
            _ => Vec::new(),
        };
        let len = inner.len();
        let chosen = self.below(len + usize::from(depth > 0));
        match inner.into_iter().nth(chosen) {
            Some(inner) => self.spoil(inner, depth + 1),
            None => {
                let others = [
                    json!(null),
                    json!(true),
                    json!(-1),
                    json!(1e308),
                    json!(u64::MAX),
                    json!(0.1),
                    json!(""),
                    json!("\u{0}\u{202E}"),
                    json!([]),
                    json!({}),
                    json!([[[]]]),
                    json!("9".repeat(400)),
                ];
                let nth = self.below(others.len());
                *json = others.into_iter().nth(nth).unwrap_or_default();
            }
        }
    }
}

/// A handshake gets exactly the recorded response, and an invalid one is rejected; neither returns an event.
pub(super) async fn handshake_gets_the_recorded_response(run: &Run<'_>) -> CheckResult {
    let webhooks = run.subject.webhooks();
    let mut any = false;
    for (nth, webhook) in webhooks.iter().enumerate() {
        if !matches!(webhook.result, Reception::Refused | Reception::Replies(..)) {
            continue;
        }
        any = true;
        let n = nth + 1;
        let channel = run.receiving(&[OWN])?;
        let received = run.receive(&*channel, &run.arrives(webhook, OWN)).await?;
        match (&webhook.result, received) {
            (Reception::Replies(status, body), Ok(received)) => {
                ensure!(received.events.is_empty(), "handshake {n}: expected no events, got some");
                let reply = &received.response;
                ensure!(reply.status == *status, "handshake {n}: expected {status}, got {}", reply.status);
                ensure!(reply.body == body(OWN), "handshake {n}: expected the recorded body, got another");
            }
            (Reception::Refused, Err(error)) => {
                let kind = error.kind();
                ensure!(kind == ErrorKind::Unauthenticated, "webhook {n}: expected Unauthenticated, got {kind:?}");
            }
            (_, Ok(_)) => return Err(CheckError::Failed(format!("webhook {n}: expected a rejection, got success"))),
            (_, Err(error)) => return Err(CheckError::Failed(format!("webhook {n}: expected success, got {error}"))),
        }
    }
    applies(any, "no handshake is recorded")
}
