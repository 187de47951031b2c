//! Nothing secret or personal shows, and nobody else is connected to.

use crate::event::Event;
use crate::message::Content;
use crate::testing::leaks::Needles;
use crate::testing::run::{Came, Checked, NEXT, OTHER, OWN, Run, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange, Webhook};

/// No secret, address, id or text shows in a log at any level, in `Debug`, in `Display` or in an error, in any spelling.
///
/// The gateway is careless here: each of its answers repeats the whole request.
pub(super) async fn nothing_secret_or_personal_is_shown(run: &Run<'_>) -> Checked {
    let mut needles = Needles::default();
    run.subject.secrets().iter().chain(&[OWN, NEXT, OTHER].map(str::to_owned)).for_each(|s| needles.add("a secret", s));
    for exchange in run.subject.exchanges() {
        sought(&exchange, &mut needles);
        // It notes whatever comes of a call.
        let replayed = run.replay(&exchange, |_, step| step.unconditional()).await?;
        run.note(&replayed.channel);
        if let Came::Page(page) = &replayed.came {
            told(&page.events, &mut needles);
        }
        for status in [400, 429, 500, 200] {
            let answer = r#"{"error":{"code":400,"message":"cannot send"},"code":"NO","message":"cannot send"} "#;
            let last = exchange.steps.len().saturating_sub(1);
            let careless = |nth, step: Step| match nth == last {
                true => Step::any().answers(status, answer).echoes(),
                false => step.unconditional(),
            };
            run.replay(&exchange, careless).await?;
        }
    }
    for webhook in run.subject.webhooks() {
        receive(run, &webhook, &mut needles).await?;
    }
    let (logged, shown) = (run.logged(), run.shown());
    if let Some(what) = needles.found(&logged) {
        ensure!(false, "{what} shows in a log");
    }
    if let Some(what) = needles.found(&shown) {
        ensure!(false, "{what} shows in Debug, Display or an error");
    }
    Ok(())
}

/// What of an exchange must not show.
fn sought(exchange: &Exchange, needles: &mut Needles) {
    let mut message = |message: &crate::Message| {
        needles.add_address(&message.to);
        if let Some(id) = &message.reply_to {
            needles.add("a message's id", id.as_str());
        }
        match &message.content {
            Content::Template(template) => {
                template.parameters.iter().for_each(|parameter| needles.add("a text", &parameter.value));
            }
            content => content.words().iter().for_each(|words| needles.add("a text", words)),
        }
    };
    match &exchange.call {
        Call::LookUp(sent) => message(&sent.message),
        Call::Send(sent) => message(sent),
        _ => {}
    }
    if let crate::testing::subject::Expectation::Accepted(ids) = &exchange.result {
        ids.iter().for_each(|id| needles.add("a message's id", id));
    }
}

async fn receive(run: &Run<'_>, webhook: &Webhook, needles: &mut Needles) -> Checked {
    for secret in [OWN, OTHER] {
        let channel = run.receiving(&[OWN])?;
        run.note(&channel);
        let Ok(received) = run.receive(&*channel, &run.arrives(webhook, secret)).await? else { continue };
        told(&received.events, needles);
    }
    Ok(())
}

/// What of events must not show.
fn told(events: &[Event], needles: &mut Needles) {
    for event in events {
        match event {
            Event::Inbound(inbound) => {
                // An echo is from our own account, which is no person; to whom it went is one.
                let person = if inbound.echo { inbound.to.as_ref() } else { Some(&inbound.from) };
                person.into_iter().for_each(|person| needles.add_address(person));
                needles.add("a message's id", inbound.id.as_str());
                crate::testing::run::text(inbound).iter().for_each(|text| needles.add("a text", text));
                inbound.profile.name.iter().for_each(|name| needles.add("a name", name));
            }
            Event::Delivery(delivery) => {
                delivery.recipient.iter().for_each(|person| needles.add_address(person));
                crate::testing::run::id(event).iter().for_each(|id| needles.add("a message's id", id));
            }
            Event::Unrecognised(unknown) => unknown.from.iter().for_each(|person| needles.add_address(person)),
            _ => {}
        }
    }
}

/// Every request of every exchange goes through the context's transport, and to the base URL: a test must not reach the
/// real gateway, and an embedder's proxy must not be gone around.
pub(super) async fn it_connects_to_nobody_else(run: &Run<'_>) -> Checked {
    for exchange in run.subject.exchanges() {
        let before = run.calls();
        let double = run.replay(&exchange, |_, step| step.unconditional()).await?.double;
        let (asked, calls) = (double.asked().len(), run.calls() - before);
        let what = exchange.call.name();
        ensure!(calls >= asked, "{what} makes requests of which its context's transport knows nothing");
    }
    let strangers = run.strangers();
    ensure!(strangers.is_empty(), "it wants to connect to {}", strangers.join(", "));
    Ok(())
}
