//! Checks of sends.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::channel::ChannelExt;
use crate::medium::sms;
use crate::model::address::{Address, Medium, Sender};
use crate::model::capability::{TextLimit, Unit};
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::message::{Accepted, GatewayOptions, Message, Purpose};
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::request::ReceivedRequest;
use crate::testing::run::{CallResult, CheckError, CheckResult, Pace, Replayed, Run, applies, ensure};
use crate::testing::step::{SocketFault, Step};
use crate::testing::subject::{Call, Expectation};

/// Every recorded send makes exactly its recorded requests.
pub(super) async fn send_makes_the_recorded_requests(run: &Run<'_>) -> CheckResult {
    let sends = run.accepted_sends();
    applies(!sends.is_empty(), "no send is recorded")?;
    for (nth, exchange) in sends.iter().enumerate() {
        let Replayed { result, gateway, .. } = run.replay(exchange, |_, step| step).await?;
        let problems = gateway.problems();
        ensure!(problems.is_empty(), "accepted send {}: {}", nth + 1, problems.join("; "));
        if let CallResult::Failed(error) = result {
            return Err(CheckError::Failed(format!("accepted send {}: expected acceptance, got {error}", nth + 1)));
        }
    }
    Ok(())
}

/// An accepted send has the gateway's id of every part, and the gateway's name.
pub(super) async fn send_keeps_every_id(run: &Run<'_>) -> CheckResult {
    let sends = run.accepted_sends();
    applies(!sends.is_empty(), "no send is recorded")?;
    for exchange in sends {
        let replayed = run.replay(&exchange, |_, step| step.unconditional()).await?;
        if let (CallResult::Accepted(accepted), Expectation::Accepted(ids)) = (replayed.result, &exchange.result) {
            let came: Vec<_> = accepted.ids().map(crate::model::id::MessageId::as_str).collect();
            let (here, there) = (came.len(), ids.len());
            ensure!(came == *ids, "accepted send: expected the gateway's {there} ids, got {here}");
            ensure!(came.iter().all(|id| !id.trim().is_empty()), "accepted send: expected an id, got an empty one");
            let gateway = accepted.gateway;
            ensure!(gateway == run.info.gateway, "accepted send: expected the channel's gateway, got {gateway}");
        }
    }
    Ok(())
}

/// Each recorded rejection has its kind, outcome, code and `is_retryable`.
pub(super) async fn rejection_maps_to_the_recorded_error(run: &Run<'_>) -> CheckResult {
    let exchanges = run.subject.exchanges();
    let refused = exchanges.iter().enumerate().filter(|(_, exchange)| {
        matches!((&exchange.call, &exchange.result), (Call::Send(_), Expectation::Fails { .. }))
    });
    let mut any = false;
    for (nth, exchange) in refused {
        any = true;
        run.play(nth, exchange).await?;
    }
    applies(any, "no rejection is recorded")
}

/// The request contains the whole text, up to the channel's limit.
pub(super) async fn text_is_sent_unchanged(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    applies(model.has_text(), "sends no text")?;
    let longest = run.info.capability.text.map(|limit| filled(limit, 0));
    let texts = [
        (true, "Your collection is on Tuesday at 7.30".to_owned()),
        (true, r#"a & b = c + d; 50% "off" <here> \ {x} 'y' #1 ? /"#.to_owned()),
        (true, "Line one\nline two\n\n  indented".to_owned()),
        (false, "Mae’r casgliad ddydd Mawrth: dŵr, tŷ, £5, €3 – “diolch” 🗑️".to_owned()),
        (true, longest.unwrap_or_default()),
    ];
    for (plain, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, |step| step);
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        let what = format!("a text of {} characters", text.chars().count());
        match channel.send(&model.with_text(text.clone())).await {
            Ok(_) => {
                let rewritten = run.info.rewrites.map(|rewrite| rewrite(&text).into_owned());
                let arrived = gateway
                    .requests()
                    .iter()
                    .any(|asked| asked.contains(&text) || rewritten.as_ref().is_some_and(|text| asked.contains(text)));
                ensure!(arrived, "{what}: expected the whole text in the request, got part of it");
            }
            // A gateway may not support an alphabet: the channel refuses it before the network.
            Err(error) if !plain && error.outcome() == Outcome::NotSent => {
                ensure!(gateway.requests().is_empty(), "{what} was refused: expected no request, got one");
            }
            Err(error) => {
                return Err(CheckError::Failed(format!("{what} within the limit: expected acceptance, got {error}")));
            }
        }
    }
    Ok(())
}

/// Returns a text of the limit's length plus `more` units.
fn filled(limit: TextLimit, more: usize) -> String {
    let units = match limit.unit {
        Unit::Bytes | Unit::Characters | Unit::Utf16 => limit.max + more,
        Unit::Segments if limit.max == 1 => sms::GSM7_SINGLE + more,
        Unit::Segments => limit.max * sms::GSM7_PART + more,
    };
    let end = "the end";
    "Collections change next week. ".chars().cycle().take(units.saturating_sub(end.len())).chain(end.chars()).collect()
}

/// A text over the limit and a blank text are refused before the network.
pub(super) async fn text_over_the_limit_is_refused_offline(run: &Run<'_>) -> CheckResult {
    let Some(limit) = run.info.capability.text else { return applies(false, "sends no text") };
    let model = run.sample()?;
    let gateway = FakeGateway::start().await;
    gateway.always(model.last());
    let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
    for (what, text) in [
        ("a text that is one unit too long", filled(limit, 1)),
        ("a text that is far too long", filled(limit, limit.max)),
        ("an empty text", String::new()),
        ("a text of white space", " \n\t".to_owned()),
    ] {
        let sent = channel.send(&model.with_text(text)).await;
        not_sent(run, &gateway, what, sent, &[ErrorKind::InvalidMessage])?;
    }
    Ok(())
}

/// An address of another medium is refused before the network.
pub(super) async fn invalid_address_is_refused_offline(run: &Run<'_>) -> CheckResult {
    let model = run.sample()?;
    let gateway = FakeGateway::start().await;
    gateway.always(model.last());
    let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
    let addresses = [
        Address::phone("07700 900123"),
        Address::whatsapp("GB.10000000000000000001"),
        Address::x("1900000000000000101"),
        Address::messenger("6000000000000001"),
        Medium::other("conformance").and_then(|medium| Address::other(medium, "resident")),
        "CONFORMANCE".parse::<Sender>().map(Address::from),
    ];
    for address in addresses {
        let address = address.map_err(|error| error.to_string())?;
        if address.fits(&run.info.medium) {
            continue;
        }
        let mut message = model.message().clone();
        message.to = address;
        let sent = channel.send(&message).await;
        let kinds = [ErrorKind::InvalidRecipient, ErrorKind::Unsupported];
        not_sent(run, &gateway, "a message to an address of another medium", sent, &kinds)?;
    }
    let mut message = model.message().clone();
    message.key = Some("line\nbreak".to_owned());
    not_sent(run, &gateway, "a key with a line break", channel.send(&message).await, &[ErrorKind::InvalidMessage])
}

/// A key of any length is accepted, and the gateway gets the whole reference if it supports keys.
pub(super) async fn key_of_any_length_is_sent_as_a_reference(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let limit = run.info.capability.reference_limit();
    let keys = [
        "conformance-key".to_owned(),
        "k".repeat(limit.max(1)),
        "k".repeat(limit + 1),
        // Two keys that a truncation would make equal.
        format!("{}a", "key-".repeat(limit.max(250))),
        format!("{}b", "key-".repeat(limit.max(250))),
        "ŵ".repeat(limit.max(1)),
    ];
    let mut handed = run.info.capability.key;
    for (nth, key) in keys.into_iter().enumerate() {
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, |step| step);
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        let what = format!("a key of {} bytes", key.len());
        let message = model.message().clone().key(key);
        let sent = channel.send(&message).await;
        sent.map_err(|error| format!("{what}: expected acceptance, got {error}"))?;
        let Some(reference) = run.info.reference(&message) else { continue };
        let arrived = gateway.requests().iter().any(|asked| asked.contains(&reference));
        handed |= nth == 0 && arrived;
        ensure!(
            arrived || !handed,
            "{what}: expected the whole reference in the request, got another: see `Info::reference`"
        );
    }
    Ok(())
}

/// `check`, `plan` and `send` agree: what is refused is refused by all three, before the network.
pub(super) async fn check_plan_and_send_agree(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let plain = || model.message().clone();
    let mut messages: Vec<(String, Message)> = Vec::new();
    for length in [20, 32, 36, 40, 50, 64, 100, 128, 160, 255, 256] {
        let key = "case/2026-11:4711 _".chars().cycle().take(length - 1).chain(['z']).collect::<String>();
        messages.push((format!("a reference of {length} bytes"), plain().key(key)));
    }
    messages.push(("a reference with an accent".to_owned(), plain().key("tŷ-4711")));
    for purpose in [Purpose::Emergency, Purpose::Marketing, Purpose::Notice, Purpose::Reply] {
        messages.push((format!("the purpose {purpose:?}"), plain().purpose(purpose)));
    }
    messages.push(("a language".to_owned(), plain().language("cy")));
    messages.push(("a tag".to_owned(), plain().tag("waste-2026")));
    if model.has_text() {
        for (what, text) in [
            ("an accented text", "Mae’r casgliad ddydd Mawrth: dŵr, tŷ, “diolch”"),
            ("a text with emoji", "On Tuesday 🗑️ 👩🏽‍🚒"),
            ("a text with a link", "See https://council.example/bins?week=47&day=2#7"),
            ("a text with a control character", "On Tuesday\u{7}"),
            ("a text that starts with white space", "  On Tuesday\n"),
            ("a text that says STOP", "STOP"),
        ] {
            messages.push((what.to_owned(), model.with_text(text)));
        }
        if let Some(limit) = run.info.capability.text {
            messages.push(("the longest text".to_owned(), model.with_text(filled(limit, 0))));
            messages.push(("a text over the limit".to_owned(), model.with_text(filled(limit, 1))));
        }
    }
    for (what, message) in messages {
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, |step| step);
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        let (checked, plan) = (channel.check(&message), channel.plan(&message));
        let planned = plan.problems().is_empty() && plan.parts() == 1;
        let verdict = |accepts: bool| if accepts { "accepts" } else { "refuses" };
        let (check, by_plan) = (verdict(checked.is_ok()), verdict(planned));
        ensure!(check == by_plan, "{what}: `check` {check} it, and `plan` {by_plan} it");
        let sent = channel.send(&message).await;
        let send = verdict(sent.is_ok());
        let why = sent.as_ref().err().or(checked.as_ref().err()).map(ToString::to_string).unwrap_or_default();
        ensure!(check == send, "{what}: `check` {check} it, and `send` {send} it ({why}): state the rule in `Info`");
        if let Err(error) = checked {
            let kinds = [error.kind()];
            not_sent(run, &gateway, &what, sent, &kinds)?;
        }
    }
    Ok(())
}

/// With an idempotency window, each send of a message carries the same key, and another message another one.
pub(super) async fn repeated_send_carries_the_same_key(run: &Run<'_>) -> CheckResult {
    let Some(window) = run.info.capability.idempotency_window else {
        return applies(false, "declares no idempotency window");
    };
    let limit = run.info.capability.reference_limit();
    ensure!(limit >= REFERENCE_MIN, "a window needs references of at least {REFERENCE_MIN} bytes, got {limit}");
    let (model, seed) = (run.model()?, run.seed.get());
    let mut requests = Vec::new();
    // The same message again from another process, with other random bytes and half a window later.
    for (nth, key) in ["conformance-key-1", "conformance-key-2", "conformance-key-1"].into_iter().enumerate() {
        if nth == 2 {
            run.seed.set(seed.wrapping_add(1));
            run.later.set(window / 2);
        }
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, |step| step);
        let sent = run.connect(&gateway.base_url(), Pace::Patient)?.send(&model.message().clone().key(key)).await;
        sent.map_err(|error| format!("send {} with a key: expected acceptance, got {error}", nth + 1))?;
        requests.push(gateway.requests().last().map(ReceivedRequest::fields).unwrap_or_default());
    }
    run.seed.set(seed);
    run.later.set(Duration::ZERO);
    let of = |nth: usize, place: &String| requests.get(nth).and_then(|fields: &BTreeMap<_, _>| fields.get(place));
    let is_key =
        |place: &&String| of(0, place) == of(2, place) && of(0, place) != of(1, place) && of(1, place).is_some();
    let places = || requests.iter().flat_map(BTreeMap::keys);
    ensure!(
        places().any(|place| is_key(&place)),
        "the same message sent twice, and another: expected a key that is the same for one message and differs between \
         messages, got none in any header, parameter or member"
    );
    let named = |place: &&String| ["idempot", "dedup"].iter().any(|word| place.to_ascii_lowercase().contains(word));
    match places().filter(named).find(|place| !is_key(place)) {
        Some(place) => Err(CheckError::Failed(format!(
            "{place}: expected the same value for one message and another for another, got otherwise"
        ))),
        None => Ok(()),
    }
}

/// The minimum length of references that identify messages, in bytes.
const REFERENCE_MIN: usize = 8;

/// A message whose `not_after` has passed, by the context's clock, is not sent.
pub(super) async fn expired_message_is_not_sent(run: &Run<'_>) -> CheckResult {
    let model = run.sample()?;
    let gateway = FakeGateway::start().await;
    gateway.always(model.last());
    let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
    let late = model.message().clone().not_after(run.subject.now().minus(Duration::from_millis(1)));
    let sent = channel.send(&late).await;
    not_sent(run, &gateway, "a message whose time has passed", sent, &[ErrorKind::InvalidMessage])
}

fn not_sent(
    run: &Run<'_>,
    gateway: &FakeGateway,
    what: &str,
    sent: Result<Accepted>,
    kinds: &[ErrorKind],
) -> CheckResult {
    let Err(error) = sent else { return Err(CheckError::Failed(format!("{what}: expected an error, got success"))) };
    run.note_error(&error);
    ensure!(gateway.requests().is_empty(), "{what}: expected no request, got one");
    ensure!(error.outcome() == Outcome::NotSent, "{what}: expected the outcome NotSent, got {:?}", error.outcome());
    ensure!(kinds.contains(&error.kind()), "{what}: expected {kinds:?}, got {:?}", error.kind());
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Elsewhere {
    colour: String,
}

impl GatewayOptions for Elsewhere {
    const GATEWAY: &'static str = "conformance-elsewhere";
}

/// Options of another gateway change nothing, so that a message can fail over.
pub(super) async fn options_of_other_gateways_are_ignored(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let options = Elsewhere { colour: "conformance-green".to_owned() };
    let with = model.message().clone().gateway_options(&options).map_err(|error| error.to_string())?;
    let mut bodies = Vec::new();
    for message in [model.message(), &with] {
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, |step| step);
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        channel
            .send(message)
            .await
            .map_err(|error| format!("options of another gateway: expected acceptance, got {error}"))?;
        bodies.push(gateway.requests().last().map(|asked| asked.body.clone()));
    }
    ensure!(bodies.first() == bodies.last(), "options of another gateway: expected the same request, got another");
    Ok(())
}

/// A send makes its request once, whatever the response.
pub(super) async fn send_makes_one_request(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    type Change = fn(Step) -> Step;
    let answers: [(&str, Change); 6] = [
        ("a yes", |step| step),
        ("a 500", |step| step.answers(500, "")),
        ("a 503 with a wait", |step| step.answers(503, "").response_header("retry-after", "0")),
        ("a 429 with a wait", |step| step.answers(429, "").response_header("retry-after", "0")),
        ("a reset", |step| step.breaks(SocketFault::ResetAfterRequest)),
        ("an unreadable 200", |step| step.answers(200, "<html>")),
    ];
    for (what, change) in answers {
        let gateway = FakeGateway::start().await;
        model.expect(&gateway, change);
        gateway.always(model.last());
        let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
        // Other checks cover the result.
        _ = channel.send(&model.marked("once")).await;
        let (asked, expected) = (gateway.requests().len(), model.requests());
        ensure!(asked == expected, "{what}: expected {expected} requests, got {asked}");
    }
    Ok(())
}

/// Concurrent sends on one channel each arrive once, with their own recipient.
pub(super) async fn concurrent_sends_do_not_mix(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    applies(model.has_text(), "sends no text")?;
    let gateway = FakeGateway::start().await;
    let channel = model.begun(run, &gateway).await?;
    gateway.always(model.last());
    let marks: Vec<String> = (0..20).map(|n| format!("side-{n:02}-by-side")).collect();
    let messages: Vec<Message> = marks.iter().map(|mark| model.marked(mark)).collect();
    let mut sends: Vec<Option<BoxFuture<'_, Result<Accepted>>>> =
        messages.iter().map(|message| Some(channel.send(message))).collect();
    let mut failed = None;
    std::future::poll_fn(|cx| {
        for send in &mut sends {
            if let Some(std::task::Poll::Ready(sent)) = send.as_mut().map(|send| send.as_mut().poll(cx)) {
                *send = None;
                failed = failed.take().or(sent.err());
            }
        }
        if sends.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    if let Some(error) = failed {
        return Err(CheckError::Failed(format!("20 concurrent sends: expected acceptance, got {error}")));
    }
    let counts: Vec<usize> = marks.iter().map(|mark| gateway.accepted(mark)).collect();
    ensure!(
        counts.iter().all(|count| *count == 1),
        "20 concurrent sends: expected each to be accepted once, got {counts:?}"
    );
    Ok(())
}
