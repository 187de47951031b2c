//! Checks of the declared capabilities.

use super::receiving::recorded;
use crate::channel::{Channel, Indicator};
use crate::media::MediaStream;
use crate::model::address::Address;
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::event::{Envelope, Event, Inbound, InboundContent, Raw};
use crate::model::lookup::LookupQuery;
use crate::model::message::{
    Choice, ContactCard, Content, InfoField, InfoRequest, Link, Location, Media, MediaKind, MediaRef, Message, Native,
    Reaction, Template,
};
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::run::{CheckError, CheckResult, Pace, Run, ensure};
use crate::testing::subject::{Call, Expectation};

/// Every declared capability has a recording.
pub(super) async fn declared_capabilities_are_recorded(run: &Run<'_>) -> CheckResult {
    let can = &run.info.capability;
    let (exchanges, webhooks) = (run.subject.exchanges(), run.subject.webhooks());
    let sent: Vec<Message> = exchanges.iter().filter_map(|exchange| exchange.accepted().cloned()).collect();
    let sends = |holds: &dyn Fn(&Message) -> bool| sent.iter().any(holds);
    let content = |holds: fn(&Content) -> bool| sent.iter().any(|message| holds(&message.content));
    let calls = |name| exchanges.iter().any(|exchange| exchange.call.name() == name);
    let signals = |which: Indicator| {
        exchanges.iter().any(|exchange| matches!(&exchange.call, Call::Indicator(_, signal) if *signal == which))
    };
    let received = if can.receive && !webhooks.is_empty() { recorded(run).await? } else { Vec::new() };
    let events = || received.iter().flat_map(|(_, events)| events);
    let keys = events().filter_map(Event::as_delivery).any(|delivery| delivery.key().is_some());
    let writers = webhooks.iter().flat_map(|webhook| webhook.expected_events()).any(|expected| expected.from.is_some());
    let inbound = events().any(|event| event.as_inbound().is_some());
    let refuses_address = exchanges.iter().any(|exchange| {
        matches!(
            &exchange.result,
            Expectation::Fails { kind: ErrorKind::InvalidRecipient, outcome: Some(Outcome::NotSent), .. }
        )
    });
    let refuses = exchanges
        .iter()
        .any(|exchange| matches!((&exchange.call, &exchange.result), (Call::Send(_), Expectation::Fails { .. })));
    let lists = can.choice.is_some_and(|limits| limits.rows > 0);
    let needed = [
        (can.text.is_some(), content(|c| matches!(c, Content::Text(_))), "an accepted text"),
        (can.media.is_some(), content(|c| matches!(c, Content::Media(_))), "an accepted file"),
        (can.template.is_some(), content(|c| matches!(c, Content::Template(_))), "an accepted template"),
        (
            can.choice.is_some(),
            content(|c| matches!(c, Content::Choice(choice) if choice.list_label.is_none())),
            "accepted buttons",
        ),
        (lists, content(|c| matches!(c, Content::Choice(choice) if choice.list_label.is_some())), "an accepted list"),
        (can.link.is_some(), content(|c| matches!(c, Content::Link(_))), "an accepted labelled link"),
        (
            can.ask_location,
            content(|c| matches!(c, Content::InfoRequest(ask) if ask.what == InfoField::Location)),
            "an accepted request for a location",
        ),
        (
            can.ask_contact,
            content(|c| matches!(c, Content::InfoRequest(ask) if ask.what == InfoField::Contact)),
            "an accepted request for a contact",
        ),
        (can.location, content(|c| matches!(c, Content::Location(_))), "an accepted location"),
        (can.contacts, content(|c| matches!(c, Content::Contacts(_))), "an accepted contact card"),
        (can.reaction, content(|c| matches!(c, Content::Reaction(_))), "an accepted reaction"),
        (can.native, content(|c| matches!(c, Content::Native(_))), "accepted native content"),
        (can.reply_to, sends(&|m| m.reply_to.is_some()), "a send with reply_to"),
        (can.conversation, sends(&|m| matches!(m.to, Address::Conversation(_))), "a send to a conversation"),
        (!sent.is_empty() && !run.subject.in_memory(), refuses, "a send that the gateway rejects"),
        (can.poll, calls("poll"), "a poll"),
        (can.look_up, calls("look_up"), "a look-up"),
        (can.upload_media, calls("upload_media"), "an upload"),
        (can.fetch_media, calls("fetch_media"), "a fetch of a file"),
        (can.read, signals(Indicator::Read), "the indicator Read"),
        (can.typing, signals(Indicator::Typing), "the indicator Typing"),
        (can.health, calls("health"), "a health check"),
        (
            can.receive,
            inbound || events().any(|event| event.as_delivery().is_some()),
            "a webhook with a message or a delivery",
        ),
        (
            can.receive,
            events().any(|event| matches!(event, Event::Unrecognised(_))),
            "a webhook with an unrecognised event",
        ),
        (can.receive && inbound, writers, "the sender of a message: `ExpectedEvent::from`"),
        (can.receive && can.key, keys, "a delivery with an idempotency key"),
        (
            run.info.address_rule.is_some() && !sent.is_empty(),
            refuses_address,
            "an address that breaks its rule: a send that fails with InvalidRecipient, and is `not_sent()`",
        ),
    ];
    let missing: Vec<_> = needed.iter().filter(|(declared, there, _)| *declared && !there).map(|row| row.2).collect();
    ensure!(
        can.poll || !can.webhook_excludes_poll,
        "the capability declares `webhook_excludes_poll`, and no `poll` to exclude"
    );
    ensure!(missing.is_empty(), "the capability declares it, and it is not recorded: {}", missing.join("; "));
    // A recording without its declaration would be skipped by every check that is chosen by what is declared.
    let extra = [
        (
            !webhooks.is_empty() && !can.receive,
            "webhooks, but it does not declare `receive`: does it set the flag, and does `connect` put the setup's webhook \
             secrets in?",
        ),
        (keys && !can.key, "deliveries with a key, but it does not declare `key`"),
        (calls("poll") && !can.poll, "a poll, but it does not declare `poll`"),
        (calls("look_up") && !can.look_up, "a look-up, but it does not declare `look_up`"),
        (calls("upload_media") && !can.upload_media, "an upload, but it does not declare `upload_media`"),
        (calls("fetch_media") && !can.fetch_media, "a fetch, but it does not declare `fetch_media`"),
        (calls("health") && !can.health, "the health, but it does not declare `health`"),
        (
            calls("send_indicator") && !(can.read || can.typing),
            "an indicator, but it declares neither `read` nor `typing`",
        ),
    ];
    let extra: Vec<_> = extra.iter().filter(|(is, _)| *is).map(|row| row.1).collect();
    ensure!(extra.is_empty(), "it is recorded, and not declared: {}", extra.join("; "));
    Ok(())
}

/// Undeclared calls are refused as unsupported, and none reaches the gateway.
pub(super) async fn undeclared_capabilities_are_refused_offline(run: &Run<'_>) -> CheckResult {
    let gateway = FakeGateway::start().await;
    let channel = run.connect(&gateway.base_url(), Pace::Patient)?;
    let person = run
        .accepted_sends()
        .iter()
        .filter_map(|exchange| exchange.accepted())
        .find_map(|message| (!matches!(message.to, Address::Conversation(_))).then(|| message.to.clone()));
    if let Some(to) = &person {
        for (what, content) in undeclared(run)? {
            let sent = channel.send(&Message::new(to.clone(), content)).await;
            refused(run, &gateway, what, sent)?;
        }
        let text = Content::from("This is a test of what is not declared.");
        if run.info.capability.text.is_some() && !run.info.capability.reply_to {
            let quoting = Message::new(to.clone(), text.clone()).reply_to("conformance-1");
            refused(run, &gateway, "a reply_to", channel.send(&quoting).await)?;
        }
        let group = Address::conversation(run.info.medium.clone(), "conformance-1");
        if let (false, Ok(group)) = (run.info.capability.conversation, group) {
            let sent = channel.send(&Message::new(group, text)).await;
            refused(run, &gateway, "a conversation of several people", sent)?;
        }
    }
    methods(run, &gateway, &*channel, person).await
}

async fn methods(run: &Run<'_>, gateway: &FakeGateway, channel: &dyn Channel, person: Option<Address>) -> CheckResult {
    let can = &run.info.capability;
    if !can.poll {
        refused(run, gateway, "a poll", channel.poll(None).await)?;
    }
    if !can.health {
        refused(run, gateway, "a health check", channel.health().await)?;
    }
    let file = MediaRef::new(run.info.gateway, "conformance-1");
    if !can.fetch_media {
        refused(run, gateway, "a fetch of a file", channel.fetch_media(&file).await)?;
    }
    if !can.upload_media {
        let bytes = MediaStream::from_bytes("image/png", "conformance");
        refused(run, gateway, "an upload", channel.upload_media(&Media::image(file), bytes).await)?;
    }
    if !can.receive {
        let request = http::Request::post("/").body("{}").map_err(|_| "no request can be made".to_owned())?;
        let received = run.receive(channel, &request.into()).await?;
        ensure!(received.is_err(), "webhooks are not declared: expected an error, got success");
    }
    let Some(from) = person else { return Ok(()) };
    if !can.look_up {
        let sent = LookupQuery::new(Message::text(from.clone(), "conformance"), run.subject.now());
        refused(run, gateway, "a look-up", channel.look_up(&sent).await)?;
    }
    let (name, account) = (run.info.gateway, run.info.account.clone());
    let envelope = Envelope::new(name, run.info.medium.clone(), account, run.subject.now(), Raw::default());
    let inbound = Inbound::new(envelope, "conformance-1", from, InboundContent::Text("conformance".to_owned()));
    for (declared, signal) in [(can.read, Indicator::Read), (can.typing, Indicator::Typing)] {
        if !declared {
            refused(run, gateway, "an indicator", channel.send_indicator(&inbound, signal).await)?;
        }
    }
    Ok(())
}

fn refused<T>(run: &Run<'_>, gateway: &FakeGateway, what: &str, came: Result<T>) -> CheckResult {
    let Err(error) = came else {
        return Err(CheckError::Failed(format!("{what} is not declared: expected Unsupported, got success")));
    };
    run.note_error(&error);
    ensure!(
        error.kind() == ErrorKind::Unsupported && error.outcome() == Outcome::NotSent,
        "{what} is not declared: expected Unsupported and NotSent, got {error}"
    );
    ensure!(gateway.requests().is_empty(), "{what} is not declared: expected no request, got one");
    Ok(())
}

/// Returns the contents that the capability does not declare.
fn undeclared(run: &Run<'_>) -> CheckResult<Vec<(&'static str, Content)>> {
    let can = &run.info.capability;
    let image = || Media::image("https://example.org/conformance.png");
    let native = Native::new("conformance-elsewhere", &serde_json::json!({ "type": "text" }));
    let native = native.map_err(|error| error.to_string())?;
    let kinds = [MediaKind::Audio, MediaKind::Document, MediaKind::Image, MediaKind::Sticker, MediaKind::Video];
    let sent = |kind| can.media.as_ref().is_some_and(|limits| limits.kinds.iter().any(|rule| rule.kind == kind));
    let lists = can.choice.is_some_and(|limits| limits.rows > 0);
    let buttons = Choice::buttons("Keep it?").option("yes", "Yes").option("no", "No");
    let list = Choice::list("Which day?", "Days").option("mon", "Monday").option("tue", "Tuesday");
    let mut contents: Vec<(bool, &'static str, Content)> = vec![
        (can.text.is_some(), "a text", Content::from("conformance")),
        (can.media.as_ref().is_some_and(|limits| limits.link), "a file by link", Content::Media(vec![image()])),
        (can.template.is_some(), "a template", Content::Template(Template::new("conformance").language("en_GB"))),
        (can.choice.is_some(), "buttons", Content::Choice(buttons)),
        (lists, "a list", Content::Choice(list)),
        (can.link.is_some(), "a labelled link", Content::Link(Link::new("Pay", "Pay", "https://example.org/pay"))),
        (can.ask_location, "a request for a location", Content::InfoRequest(InfoRequest::location("Where is it?"))),
        (can.ask_contact, "a request for a contact", Content::InfoRequest(InfoRequest::contact("Who are you?"))),
        (can.location, "a location", Content::Location(Location::new(52.7, -2.75))),
        (can.contacts, "a contact card", Content::Contacts(vec![ContactCard::new("Council")])),
        (can.reaction, "a reaction", Content::Reaction(Reaction::new("conformance-1", "👍"))),
        // No channel declares content native to another gateway.
        (false, "content that is native to another gateway", Content::Native(native)),
    ];
    for kind in kinds {
        let media = Media::new(kind, "https://example.org/conformance");
        contents.push((sent(kind), "a file of a kind", Content::Media(vec![media])));
    }
    Ok(contents.into_iter().filter(|(declared, ..)| !declared).map(|(_, what, content)| (what, content)).collect())
}
