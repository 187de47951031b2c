//! What an adapter says of itself is so.

use crate::channel::{Channel, Indicator};
use crate::media::MediaStream;
use crate::model::address::Address;
use crate::model::error::{ErrorKind, Outcome, Result};
use crate::model::event::{Envelope, Inbound, InboundContent, Raw};
use crate::model::lookup::LookupQuery;
use crate::model::message::{
    Choice, ContactCard, Content, InfoField, InfoRequest, Link, Location, Media, MediaKind, MediaRef, Message, Native,
    Reaction, Template,
};
use crate::testing::fake_gateway::FakeGateway;
use crate::testing::leaks::Needles;
use crate::testing::run::{Checked, OWN, Pace, Run, Stop, ensure};
use crate::testing::subject::{Call, Expectation, What};

/// Everything that is declared is recorded: what nobody has seen work is not to be relied on.
pub(super) async fn what_is_declared_is_recorded(run: &Run<'_>) -> Checked {
    let can = &run.info.capability;
    let (exchanges, webhooks) = (run.subject.exchanges(), run.subject.webhooks());
    let sent: Vec<Message> = exchanges.iter().filter_map(|exchange| exchange.accepted().cloned()).collect();
    let sends = |holds: &dyn Fn(&Message) -> bool| sent.iter().any(holds);
    let content = |holds: fn(&Content) -> bool| sent.iter().any(|message| holds(&message.content));
    let calls = |name| exchanges.iter().any(|exchange| exchange.call.name() == name);
    let signals = |which: Indicator| {
        exchanges.iter().any(|exchange| matches!(&exchange.call, Call::Indicator(_, signal) if *signal == which))
    };
    let told = |holds: fn(What) -> bool| webhooks.iter().flat_map(|w| w.told()).any(|told| holds(told.what));
    let keys = webhooks.iter().flat_map(|webhook| webhook.told()).any(|told| told.key.is_some());
    let writers = webhooks.iter().flat_map(|webhook| webhook.told()).any(|told| told.from.is_some());
    let inbound = told(|what| what == What::Inbound);
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
        (can.text.is_some(), content(|c| matches!(c, Content::Text(_))), "a text that is accepted"),
        (can.media.is_some(), content(|c| matches!(c, Content::Media(_))), "a file that is accepted"),
        (can.template.is_some(), content(|c| matches!(c, Content::Template(_))), "a template that is accepted"),
        (
            can.choice.is_some(),
            content(|c| matches!(c, Content::Choice(choice) if choice.list_label.is_none())),
            "buttons that are accepted",
        ),
        (
            lists,
            content(|c| matches!(c, Content::Choice(choice) if choice.list_label.is_some())),
            "a list that is accepted",
        ),
        (can.link.is_some(), content(|c| matches!(c, Content::Link(_))), "a labelled link that is accepted"),
        (
            can.ask_location,
            content(|c| matches!(c, Content::InfoRequest(ask) if ask.what == InfoField::Location)),
            "an ask for a location that is accepted",
        ),
        (
            can.ask_contact,
            content(|c| matches!(c, Content::InfoRequest(ask) if ask.what == InfoField::Contact)),
            "an ask for a contact that is accepted",
        ),
        (can.location, content(|c| matches!(c, Content::Location(_))), "a place that is accepted"),
        (can.contacts, content(|c| matches!(c, Content::Contacts(_))), "a contact card that is accepted"),
        (can.reaction, content(|c| matches!(c, Content::Reaction(_))), "a reaction that is accepted"),
        (can.native, content(|c| matches!(c, Content::Native(_))), "native content that is accepted"),
        (can.reply_to, sends(&|m| m.reply_to.is_some()), "a send that quotes"),
        (can.conversation, sends(&|m| matches!(m.to, Address::Conversation(_))), "a send to a conversation"),
        (!sent.is_empty() && !run.subject.in_memory(), refuses, "a send that the gateway refuses"),
        (can.poll, calls("poll"), "a poll"),
        (can.look_up, calls("look_up"), "a look-up"),
        (can.upload_media, calls("upload_media"), "an upload"),
        (can.fetch_media, calls("fetch_media"), "a fetch of a file"),
        (can.read, signals(Indicator::Read), "the signal Read"),
        (can.typing, signals(Indicator::Typing), "the signal Typing"),
        (can.health, calls("health"), "the health"),
        (
            can.receive,
            told(|what| matches!(what, What::Inbound | What::Delivery)),
            "a webhook with a message or a delivery",
        ),
        (can.receive, told(|what| what == What::Unrecognised), "a webhook with something that is not known"),
        (can.receive && inbound, writers, "who wrote a message: `Told::from`"),
        (can.receive && can.key, keys, "a webhook whose delivery carries a key back"),
        (
            run.info.address_rule.is_some() && !sent.is_empty(),
            refuses_address,
            "an address that breaks its rule: a send that fails with InvalidRecipient, and is `not_sent()`",
        ),
        (!run.subject.in_memory(), names_credentials(run).await?, "its credentials: `Subject::secrets` names none"),
    ];
    let missing: Vec<_> = needed.iter().filter(|(declared, there, _)| *declared && !there).map(|row| row.2).collect();
    ensure!(missing.is_empty(), "the capability declares it, and it is not recorded: {}", missing.join("; "));
    // What is recorded and not declared would be passed over by every check that is chosen by what is declared.
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
        (calls("signal") && !(can.read || can.typing), "a signal, but it declares neither `read` nor `typing`"),
    ];
    let extra: Vec<_> = extra.iter().filter(|(is, _)| *is).map(|row| row.1).collect();
    ensure!(extra.is_empty(), "it is recorded, and not declared: {}", extra.join("; "));
    Ok(())
}

/// Whether the credentials are known that must not show: named by the subject, or the setup's own.
async fn names_credentials(run: &Run<'_>) -> Checked<bool> {
    let sends = run.accepted_sends();
    let (false, Some(send)) = (!run.subject.secrets().is_empty(), sends.first()) else { return Ok(true) };
    let double = run.replay(send, |_, step| step.unconditional()).await?.double;
    let mut needles = Needles::default();
    needles.add("a credential", OWN);
    Ok(double.asked().iter().any(|asked| needles.found(&asked.head).is_some()))
}

/// What is not declared is refused, as unsupported, and nothing of it reaches the gateway.
pub(super) async fn what_is_not_declared_is_refused_before_the_network(run: &Run<'_>) -> Checked {
    let double = FakeGateway::start().await;
    let channel = run.connect(&double.base_url(), Pace::Patient)?;
    let person = run
        .accepted_sends()
        .iter()
        .filter_map(|exchange| exchange.accepted())
        .find_map(|message| (!matches!(message.to, Address::Conversation(_))).then(|| message.to.clone()));
    if let Some(to) = &person {
        for (what, content) in undeclared(run)? {
            let sent = channel.send(&Message::new(to.clone(), content)).await;
            refused(run, &double, what, sent)?;
        }
        let text = Content::from("This is a test of what is not declared.");
        if run.info.capability.text.is_some() && !run.info.capability.reply_to {
            let quoting = Message::new(to.clone(), text.clone()).reply_to("conformance-1");
            refused(run, &double, "a quote", channel.send(&quoting).await)?;
        }
        let group = Address::conversation(run.info.medium.clone(), "conformance-1");
        if let (false, Ok(group)) = (run.info.capability.conversation, group) {
            let sent = channel.send(&Message::new(group, text)).await;
            refused(run, &double, "a conversation of several people", sent)?;
        }
    }
    methods(run, &double, &*channel, person).await
}

async fn methods(run: &Run<'_>, double: &FakeGateway, channel: &dyn Channel, person: Option<Address>) -> Checked {
    let can = &run.info.capability;
    if !can.poll {
        refused(run, double, "a poll", channel.poll(None).await)?;
    }
    if !can.health {
        refused(run, double, "the health", channel.health().await)?;
    }
    let file = MediaRef::new(run.info.gateway, "conformance-1");
    if !can.fetch_media {
        refused(run, double, "a fetch of a file", channel.fetch_media(&file).await)?;
    }
    if !can.upload_media {
        let bytes = MediaStream::from_bytes("image/png", "conformance");
        refused(run, double, "an upload", channel.upload_media(&Media::image(file), bytes).await)?;
    }
    if !can.receive {
        let request = http::Request::post("/").body("{}").map_err(|_| "no request can be made".to_owned())?;
        let received = run.receive(channel, &request.into()).await?;
        ensure!(received.is_err(), "a webhook is taken, which the capability does not declare");
    }
    let Some(from) = person else { return Ok(()) };
    if !can.look_up {
        let sent = LookupQuery::new(Message::text(from.clone(), "conformance"), run.subject.now());
        refused(run, double, "a look-up", channel.look_up(&sent).await)?;
    }
    let (gateway, account) = (run.info.gateway, run.info.account.clone());
    let envelope = Envelope::new(gateway, run.info.medium.clone(), account, run.subject.now(), Raw::default());
    let inbound = Inbound::new(envelope, "conformance-1", from, InboundContent::Text("conformance".to_owned()));
    for (declared, signal) in [(can.read, Indicator::Read), (can.typing, Indicator::Typing)] {
        if !declared {
            refused(run, double, "a signal", channel.send_indicator(&inbound, signal).await)?;
        }
    }
    Ok(())
}

fn refused<T>(run: &Run<'_>, double: &FakeGateway, what: &str, came: Result<T>) -> Checked {
    let Err(error) = came else {
        return Err(Stop::Failed(format!("{what} is taken, which the capability does not declare")));
    };
    run.note_error(&error);
    ensure!(
        error.kind() == ErrorKind::Unsupported && error.outcome() == Outcome::NotSent,
        "{what} is not declared, and is not refused as unsupported: {error}"
    );
    ensure!(double.asked().is_empty(), "{what} is not declared, and yet reached the gateway");
    Ok(())
}

/// The contents that the capability does not declare.
fn undeclared(run: &Run<'_>) -> Checked<Vec<(&'static str, Content)>> {
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
        (can.ask_location, "an ask for a location", Content::InfoRequest(InfoRequest::location("Where is it?"))),
        (can.ask_contact, "an ask for a contact", Content::InfoRequest(InfoRequest::contact("Who are you?"))),
        (can.location, "a place", Content::Location(Location::new(52.7, -2.75))),
        (can.contacts, "a contact card", Content::Contacts(vec![ContactCard::new("Council")])),
        (can.reaction, "a reaction", Content::Reaction(Reaction::new("conformance-1", "👍"))),
        // What is native to another gateway is declared by nobody.
        (false, "content that is native to another gateway", Content::Native(native)),
    ];
    for kind in kinds {
        let media = Media::new(kind, "https://example.org/conformance");
        contents.push((sent(kind), "a file of a kind", Content::Media(vec![media])));
    }
    Ok(contents.into_iter().filter(|(declared, ..)| !declared).map(|(_, what, content)| (what, content)).collect())
}
