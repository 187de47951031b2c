//! Checks of secrecy: logs, Debug output, errors and connections.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::event::Event;
use crate::model::id::AccountId;
use crate::model::message::Content;
use crate::testing::leaks::Needles;
use crate::testing::run::{CallResult, CheckResult, NEXT, OTHER, OWN, Run, ensure};
use crate::testing::step::Step;
use crate::testing::subject::{Call, Exchange, Webhook};

/// No secret, address, id or text appears in logs at any level, `Debug`, `Display` or errors, in any encoding.
///
/// The gateway of this check echoes the whole request in each response, and plants a number, a message id, a token and a
/// name in every value of responses, headers and webhooks: codes, request ids, states, reasons and media types too.
pub(super) async fn output_has_no_secret_or_personal_data(run: &Run<'_>) -> CheckResult {
    let mut needles = Needles::default();
    run.subject.secrets().iter().chain(&[OWN, NEXT, OTHER].map(str::to_owned)).for_each(|s| needles.add("a secret", s));
    halves(run).iter().for_each(|half| needles.add("half of a secret", half));
    for exchange in run.subject.exchanges() {
        sought(&exchange, &mut needles);
        // It notes whatever comes of a call.
        let replayed = run.replay(&exchange, |_, step| step.unconditional()).await?;
        run.note(&replayed.channel);
        if let CallResult::Page(page) = &replayed.result {
            add_events(&page.events, &mut needles);
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
    nothing_shows(run, &needles)?;
    if run.subject.in_memory() {
        // Nothing stands between it and the events that a test makes.
        return Ok(());
    }
    run.forget_shown();
    let mut planted = Needles::default();
    PLANTED.iter().for_each(|text| planted.add("a value that the gateway put into another field", text));
    plant_in_answers(run).await?;
    plant_in_webhooks(run).await?;
    nothing_shows(run, &planted)
}

/// Returns both halves of each long secret, except those that also occur in recorded data.
fn halves(run: &Run<'_>) -> Vec<String> {
    let mut recorded = format!("{:?}", run.info);
    for exchange in run.subject.exchanges() {
        exchange.steps.iter().for_each(|step| recorded.push_str(&String::from_utf8_lossy(step.answer())));
    }
    for webhook in run.subject.webhooks() {
        recorded.push_str(&String::from_utf8_lossy(webhook.request.body()));
        recorded.push_str(&webhook.request.uri().to_string());
    }
    let halves =
        run.subject.secrets().into_iter().filter(|secret| secret.is_ascii() && secret.len() >= 16).flat_map(|s| {
            let (first, second) = s.split_at(s.len() / 2);
            [first.to_owned(), second.to_owned()]
        });
    halves.filter(|half| !recorded.contains(half.as_str())).collect()
}

fn nothing_shows(run: &Run<'_>, needles: &Needles) -> CheckResult {
    let (logged, shown) = (run.logged(), run.shown());
    if let Some(what) = needles.found(&logged) {
        ensure!(false, "expected no personal data in logs, got {what}");
    }
    if let Some(what) = needles.found(&shown) {
        ensure!(false, "expected no personal data in Debug, Display and errors, got {what}");
    }
    Ok(())
}

/// The planted values: a phone number, also as encoded in a WhatsApp id, a token and a name.
const PLANTED: [&str; 5] = [
    "+447700900987",
    "447700900987",
    "wamid.HBgMNDQ3NzAwOTAwOTg3FQIAERgSMEE5",
    "EAAGconformance0token9ZBpLqZCwYsXv7",
    "Ffion Canary",
];

/// Plants values in each recorded response: in all texts and headers, in all other values, and in each text.
async fn plant_in_answers(run: &Run<'_>) -> CheckResult {
    let mut seen = BTreeSet::new();
    for exchange in run.subject.exchanges() {
        let Some((last, nth_last)) = exchange.steps.last().zip(exchange.steps.len().checked_sub(1)) else { continue };
        if !seen.insert(last.answer().clone()) {
            continue;
        }
        let whole: Option<Value> = serde_json::from_slice(last.answer()).ok();
        let texts = whole.as_ref().map_or(0, |whole| texts(&mut whole.clone(), &mut |_, _| {}));
        let mut answers: Vec<(String, &str)> = PLANTED.map(|planted| (with(&whole, None, planted), planted)).into();
        answers.push((numbers(&whole), "447700900987"));
        let each = PLANTED.iter().cycle().take(texts).enumerate();
        answers.extend(each.map(|(nth, planted)| (with(&whole, Some(nth), planted), *planted)));
        for (answer, planted) in answers {
            let change = |nth, step: Step| match nth == nth_last {
                true => step.unconditional().with_answer(answer.clone()).with_header_values(planted),
                false => step.unconditional(),
            };
            run.replay(&exchange, change).await?;
        }
    }
    Ok(())
}

/// Plants values in each text or field of each recorded webhook.
async fn plant_in_webhooks(run: &Run<'_>) -> CheckResult {
    let channel = run.receiving(&[OWN])?;
    for webhook in run.subject.webhooks() {
        let body = webhook.request.body();
        let bodies: Vec<String> = match serde_json::from_slice::<Value>(body) {
            Ok(whole) => {
                let texts = texts(&mut whole.clone(), &mut |_, _| {});
                let whole = Some(whole);
                let each = (0..texts).flat_map(|nth| PLANTED.map(|planted| with(&whole, Some(nth), planted)));
                each.collect()
            }
            Err(_) => {
                let fields: Vec<_> = form_urlencoded::parse(body).into_owned().collect();
                let form = |nth: usize, planted: &str| {
                    let mut fields = fields.clone();
                    fields.iter_mut().skip(nth).take(1).for_each(|(_, value)| planted.clone_into(value));
                    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
                };
                (0..fields.len()).flat_map(|nth| PLANTED.map(|planted| form(nth, planted))).collect()
            }
        };
        for body in bodies {
            let request = webhook.request.clone().map(|_| body.into());
            let request = run.arriving(run.signed(&request, webhook.signed, OWN), run.subject.now());
            let Ok(mut received) = channel.receive(&request).await.inspect_err(|error| run.note_error(error)) else {
                continue;
            };
            for event in &mut received.events {
                // Our own account's id may appear.
                *account(event) = run.info.account.clone();
            }
            run.note(&received);
        }
    }
    Ok(())
}

fn account(event: &mut Event) -> &mut AccountId {
    let envelope = match event {
        Event::Account(event) => &mut event.envelope,
        Event::AddressChanged(event) => &mut event.envelope,
        Event::Delivery(event) => &mut event.envelope,
        Event::Inbound(event) => &mut event.envelope,
        Event::OptOut(event) => &mut event.envelope,
        Event::Unrecognised(event) => &mut event.envelope,
    };
    &mut envelope.account
}

/// Changes each text, by its place among them, and counts them.
fn texts(value: &mut Value, change: &mut dyn FnMut(usize, &mut String)) -> usize {
    fn walk(value: &mut Value, at: &mut usize, change: &mut dyn FnMut(usize, &mut String)) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, at, change)),
            Value::Object(members) => members.values_mut().for_each(|value| walk(value, at, change)),
            Value::String(text) => {
                change(*at, text);
                *at += 1;
            }
            _ => {}
        }
    }
    let mut at = 0;
    walk(value, &mut at, change);
    at
}

/// Replaces one text of a body, or all. A body that is not JSON is replaced completely.
fn with(whole: &Option<Value>, nth: Option<usize>, planted: &str) -> String {
    let Some(whole) = whole else { return planted.to_owned() };
    let mut whole = whole.clone();
    texts(&mut whole, &mut |at, text| {
        if nth.is_none_or(|nth| nth == at) {
            planted.clone_into(text);
        }
    });
    whole.to_string()
}

/// Replaces each number of a body with a phone number.
fn numbers(whole: &Option<Value>) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::Object(members) => members.values_mut().for_each(walk),
            Value::Number(number) => *number = 447_700_900_987_u64.into(),
            _ => {}
        }
    }
    let mut whole = whole.clone().unwrap_or_default();
    walk(&mut whole);
    whole.to_string()
}

/// Adds the personal data and ids of an exchange.
fn sought(exchange: &Exchange, needles: &mut Needles) {
    let mut message = |message: &crate::model::message::Message| {
        needles.add_address(&message.to);
        if let Some(id) = &message.reply_to {
            needles.add("a message's id", id.as_str());
        }
        match &message.content {
            Content::Template(template) => {
                template.parameters.iter().for_each(|parameter| needles.add("a text", &parameter.value));
            }
            content => content.as_text().iter().for_each(|words| needles.add("a text", words)),
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

async fn receive(run: &Run<'_>, webhook: &Webhook, needles: &mut Needles) -> CheckResult {
    for secret in [OWN, OTHER] {
        let channel = run.receiving(&[OWN])?;
        run.note(&channel);
        let Ok(received) = run.receive(&*channel, &run.arrives(webhook, secret)).await? else { continue };
        add_events(&received.events, needles);
    }
    Ok(())
}

/// Adds the personal data and ids of events.
fn add_events(events: &[Event], needles: &mut Needles) {
    for event in events {
        match event {
            Event::Inbound(inbound) => {
                // An echo is from our own account; its recipient is a person.
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

/// Every request uses the context's transport and the base URL: tests must not reach the real gateway, and an embedder's
/// proxy must not be bypassed.
pub(super) async fn only_the_gateway_is_contacted(run: &Run<'_>) -> CheckResult {
    for exchange in run.subject.exchanges() {
        let before = run.calls();
        let gateway = run.replay(&exchange, |_, step| step.unconditional()).await?.gateway;
        let (asked, calls) = (gateway.requests().len(), run.calls() - before);
        let what = exchange.call.name();
        ensure!(calls >= asked, "{what}: expected all requests through the context's transport, got others");
    }
    let foreign_hosts = run.foreign_hosts();
    ensure!(foreign_hosts.is_empty(), "expected connections to the base URL only, got {}", foreign_hosts.join(", "));
    Ok(())
}
