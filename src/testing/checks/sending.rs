//! What is sent is what was meant, once.

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::medium::sms;
use crate::model::address::{Address, Medium, Sender};
use crate::model::capability::{TextLimit, Unit};
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::message::{Accepted, GatewayOptions, Message};
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::run::{Came, Checked, Pace, Replayed, Run, Stop, applies, ensure};
use crate::testing::step::{SocketFault, Step};
use crate::testing::subject::{Call, Expectation};

/// The requests of every recorded send are those that were recorded, and no others.
pub(super) async fn a_message_is_written_as_it_was_recorded(run: &Run<'_>) -> Checked {
    let sends = run.accepted_sends();
    applies(!sends.is_empty(), "no send is recorded")?;
    for (nth, exchange) in sends.iter().enumerate() {
        let Replayed { came, double, .. } = run.replay(exchange, |_, step| step).await?;
        let problems = double.problems();
        ensure!(problems.is_empty(), "accepted send {}: {}", nth + 1, problems.join("; "));
        if let Came::Failed(error) = came {
            return Err(Stop::Failed(format!("accepted send {}: it failed: {error}", nth + 1)));
        }
    }
    Ok(())
}

/// An accepted send has the id of every part that the gateway named, and the name of its gateway.
pub(super) async fn every_id_is_kept(run: &Run<'_>) -> Checked {
    let sends = run.accepted_sends();
    applies(!sends.is_empty(), "no send is recorded")?;
    for exchange in sends {
        let replayed = run.replay(&exchange, |_, step| step.unconditional()).await?;
        if let (Came::Accepted(accepted), Expectation::Accepted(ids)) = (replayed.came, &exchange.result) {
            let came: Vec<_> = accepted.ids().map(crate::model::id::MessageId::as_str).collect();
            let (here, there) = (came.len(), ids.len());
            ensure!(came == *ids, "the {here} ids of an accepted send are not the {there} that the gateway gave");
            ensure!(came.iter().all(|id| !id.trim().is_empty()), "an accepted send has an empty id");
            let gateway = accepted.gateway;
            ensure!(gateway == run.info.gateway, "it was accepted by {gateway}, which is not the channel's gateway");
        }
    }
    Ok(())
}

/// Each recorded refusal has its kind, outcome and code, and says whether a second try may cure it.
pub(super) async fn a_refusal_means_what_was_recorded(run: &Run<'_>) -> Checked {
    let exchanges = run.subject.exchanges();
    let refused = exchanges.iter().enumerate().filter(|(_, exchange)| {
        matches!((&exchange.call, &exchange.result), (Call::Send(_), Expectation::Fails { .. }))
    });
    let mut any = false;
    for (nth, exchange) in refused {
        any = true;
        run.play(nth, exchange).await?;
    }
    applies(any, "no refusal is recorded")
}

/// Every letter of a text is in the request, from the first to the last that the channel takes.
pub(super) async fn a_text_arrives_whole(run: &Run<'_>) -> Checked {
    let model = run.model()?;
    applies(model.has_text(), "it sends no text")?;
    let longest = run.info.capability.text.map(|limit| filled(limit, 0));
    let texts = [
        (true, "Your collection is on Tuesday at 7.30".to_owned()),
        (true, r#"a & b = c + d; 50% "off" <here> \ {x} 'y' #1 ? /"#.to_owned()),
        (true, "Line one\nline two\n\n  indented".to_owned()),
        (false, "Mae’r casgliad ddydd Mawrth: dŵr, tŷ, £5, €3 – “diolch” 🗑️".to_owned()),
        (true, longest.unwrap_or_default()),
    ];
    for (plain, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let double = FakeGateway::start().await;
        model.expect(&double, |step| step);
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        let what = format!("a text of {} characters", text.chars().count());
        match channel.send(&model.with_text(text.clone())).await {
            Ok(_) => {
                let rewritten = run.info.rewrites.map(|rewrite| rewrite(&text).into_owned());
                let arrived = double
                    .asked()
                    .iter()
                    .any(|asked| asked.holds(&text) || rewritten.as_ref().is_some_and(|text| asked.holds(text)));
                ensure!(arrived, "{what} was accepted, and is not whole in the request");
            }
            // Some alphabets are not for every gateway. Then it says so, before the network.
            Err(error) if !plain && error.outcome() == Outcome::NotSent => {
                ensure!(double.asked().is_empty(), "{what} was refused, and yet reached the gateway");
            }
            Err(error) => return Err(Stop::Failed(format!("{what} within the limit was not sent: {error}"))),
        }
    }
    Ok(())
}

/// A text of as many units as the limit allows, and so many more.
fn filled(limit: TextLimit, more: usize) -> String {
    let units = match limit.unit {
        Unit::Bytes | Unit::Characters | Unit::Utf16 => limit.max + more,
        Unit::Segments if limit.max == 1 => sms::GSM7_SINGLE + more,
        Unit::Segments => limit.max * sms::GSM7_PART + more,
    };
    let end = "the end";
    "Collections change next week. ".chars().cycle().take(units.saturating_sub(end.len())).chain(end.chars()).collect()
}

/// A text over the limit, and one without a word, are refused, and nothing of them reaches the gateway.
pub(super) async fn a_text_over_the_limit_is_refused_before_the_network(run: &Run<'_>) -> Checked {
    let Some(limit) = run.info.capability.text else { return applies(false, "it sends no text") };
    let model = run.sample()?;
    let double = FakeGateway::start().await;
    double.always(model.last());
    let channel = run.connect(&double.base_url(), Pace::Patient)?;
    for (what, text) in [
        ("a text that is one unit too long", filled(limit, 1)),
        ("a text that is far too long", filled(limit, limit.max)),
        ("an empty text", String::new()),
        ("a text of white space", " \n\t".to_owned()),
    ] {
        let sent = channel.send(&model.with_text(text)).await;
        not_sent(run, &double, what, sent, &[ErrorKind::InvalidMessage])?;
    }
    Ok(())
}

/// An address of another medium is refused, and nothing reaches the gateway.
pub(super) async fn a_wrong_address_is_refused_before_the_network(run: &Run<'_>) -> Checked {
    let model = run.sample()?;
    let double = FakeGateway::start().await;
    double.always(model.last());
    let channel = run.connect(&double.base_url(), Pace::Patient)?;
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
        not_sent(run, &double, "a message to an address of another medium", sent, &kinds)?;
    }
    let mut message = model.message().clone();
    message.key = Some("line\nbreak".to_owned());
    not_sent(run, &double, "a key with a line break", channel.send(&message).await, &[ErrorKind::InvalidMessage])
}

/// A key of any length is taken, and where the gateway is handed keys it gets the whole reference.
pub(super) async fn key_of_any_length_goes_as_its_reference(run: &Run<'_>) -> Checked {
    let model = run.model()?;
    let limit = run.info.capability.reference_limit();
    let keys = [
        "conformance-key".to_owned(),
        "k".repeat(limit.max(1)),
        "k".repeat(limit + 1),
        // Two that differ where a cut one would not.
        format!("{}a", "key-".repeat(limit.max(250))),
        format!("{}b", "key-".repeat(limit.max(250))),
        "ŵ".repeat(limit.max(1)),
    ];
    let mut handed = run.info.capability.key;
    for (nth, key) in keys.into_iter().enumerate() {
        let double = FakeGateway::start().await;
        model.expect(&double, |step| step);
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        let what = format!("a key of {} bytes", key.len());
        let message = model.message().clone().key(key);
        let sent = channel.send(&message).await;
        sent.map_err(|error| format!("a message with {what} is not sent: {error}"))?;
        let Some(reference) = run.info.reference(&message) else { continue };
        let arrived = double.asked().iter().any(|asked| asked.holds(&reference));
        handed |= nth == 0 && arrived;
        ensure!(arrived || !handed, "{what} is not in the request as its reference: see `Info::reference`");
    }
    Ok(())
}

/// A message whose `not_after` has passed, by the context's clock, does not go.
pub(super) async fn a_message_whose_time_has_passed_is_not_sent(run: &Run<'_>) -> Checked {
    let model = run.sample()?;
    let double = FakeGateway::start().await;
    double.always(model.last());
    let channel = run.connect(&double.base_url(), Pace::Patient)?;
    let late = model.message().clone().not_after(run.subject.now().minus(std::time::Duration::from_millis(1)));
    let sent = channel.send(&late).await;
    not_sent(run, &double, "a message whose time has passed", sent, &[ErrorKind::InvalidMessage])
}

fn not_sent(run: &Run<'_>, double: &FakeGateway, what: &str, sent: Result<Accepted>, kinds: &[ErrorKind]) -> Checked {
    let Err(error) = sent else { return Err(Stop::Failed(format!("{what} is taken"))) };
    run.note_error(&error);
    ensure!(double.asked().is_empty(), "{what} reached the gateway");
    ensure!(error.outcome() == Outcome::NotSent, "{what} is refused, and its outcome is {:?}", error.outcome());
    ensure!(kinds.contains(&error.kind()), "{what} is refused as {:?} in place of {kinds:?}", error.kind());
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Elsewhere {
    colour: String,
}

impl GatewayOptions for Elsewhere {
    const GATEWAY: &'static str = "conformance-elsewhere";
}

/// Options of another gateway change nothing: a message can be carried from one gateway to another.
pub(super) async fn options_of_another_gateway_are_ignored(run: &Run<'_>) -> Checked {
    let model = run.model()?;
    let options = Elsewhere { colour: "conformance-green".to_owned() };
    let with = model.message().clone().gateway_options(&options).map_err(|error| error.to_string())?;
    let mut bodies = Vec::new();
    for message in [model.message(), &with] {
        let double = FakeGateway::start().await;
        model.expect(&double, |step| step);
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        channel.send(message).await.map_err(|error| format!("a message with options of another gateway: {error}"))?;
        bodies.push(double.asked().last().map(|asked| asked.body.clone()));
    }
    ensure!(bodies.first() == bodies.last(), "options of another gateway change the request");
    Ok(())
}

/// A send makes its request, and never a second one by itself, whatever is answered.
pub(super) async fn one_send_is_one_request(run: &Run<'_>) -> Checked {
    let model = run.model()?;
    type Change = fn(Step) -> Step;
    let answers: [(&str, Change); 6] = [
        ("a yes", |step| step),
        ("a 500", |step| step.answers(500, "")),
        ("a 503 with a wait", |step| step.answers(503, "").response_header("retry-after", "0")),
        ("a 429 with a wait", |step| step.answers(429, "").response_header("retry-after", "0")),
        ("a reset", |step| step.breaks(SocketFault::ResetAfterRequest)),
        ("a yes that cannot be read", |step| step.answers(200, "<html>")),
    ];
    for (what, change) in answers {
        let double = FakeGateway::start().await;
        model.expect(&double, change);
        double.always(model.last());
        let channel = run.connect(&double.base_url(), Pace::Patient)?;
        // What comes of it is for other checks.
        _ = channel.send(&model.marked("once")).await;
        let (asked, expected) = (double.asked().len(), model.requests());
        ensure!(asked == expected, "after {what}, one send made {asked} requests in place of {expected}");
    }
    Ok(())
}

/// Sends side by side on one channel each go once, and to the person they are for.
pub(super) async fn sends_side_by_side_do_not_mix(run: &Run<'_>) -> Checked {
    let model = run.model()?;
    applies(model.has_text(), "it sends no text")?;
    let double = FakeGateway::start().await;
    let channel = model.begun(run, &double).await?;
    double.always(model.last());
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
        return Err(Stop::Failed(format!("one of 20 sends side by side failed: {error}")));
    }
    let counts: Vec<usize> = marks.iter().map(|mark| double.accepted(mark)).collect();
    ensure!(counts.iter().all(|count| *count == 1), "of 20 sends side by side, the gateway accepted {counts:?}");
    Ok(())
}
