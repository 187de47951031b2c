//! Checks of the recordings themselves: what they cover, and that their results were reviewed.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::header::AUTHORIZATION;
use serde_json::Value;

use super::receiving::recorded;
use crate::model::delivery::DeliveryState;
use crate::model::event::{Event, opt_out_keyword};
use crate::testing::request::ReceivedRequest;
use crate::testing::run::{CheckResult, OWN, Run, applies, ensure};
use crate::testing::snapshot::{self, Entry};

/// A recorded send reaches the fake gateway. If none does, the checks that call the gateway do not apply.
pub(super) async fn requests_reach_the_fake_gateway(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let Some(exchange) = run.calling() else { return applies(false, "no recorded call makes a request") };
    ensure!(
        run.reaches(&exchange).await?,
        "{}: no request reached the fake gateway: does `Subject::connect` pass `Setup::base_url` to the adapter?",
        exchange.place
    );
    Ok(())
}

/// The seed of snapshots: nonces and boundaries are the same in each run.
const SEED: u64 = 4711;

/// Each recording has the reviewed result: every field of every event, acceptance, page, look-up and request.
pub(super) async fn results_match_their_snapshot(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it has no recordings of a gateway")?;
    run.seed.set(SEED);
    let mut entries = Vec::new();
    if run.info.capability.receive {
        for (nth, webhook) in run.subject.webhooks().iter().enumerate() {
            let channel = run.receiving(&[OWN])?;
            let received = run.receive(&*channel, &run.arrives(webhook, OWN)).await?;
            entries.push(Entry::received(format!("webhook {}", nth + 1), &received));
        }
    }
    for (nth, exchange) in run.subject.exchanges().iter().enumerate() {
        let replayed = run.replay(exchange, |_, step| step).await?;
        let name = format!("exchange {} ({})", nth + 1, exchange.call.name());
        entries.push(Entry::called(name, &replayed, run.subject.varying_headers()));
    }
    snapshot::compare(run, entries)
}

/// The cases that adapters get wrong are recorded: STOP, an unknown status, and a batch where webhooks are lists.
pub(super) async fn common_cases_are_recorded(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it has no recordings of a gateway")?;
    let all = recorded(run).await?;
    let events = || all.iter().flat_map(|(_, events)| events);
    let inbound = || events().filter_map(Event::as_inbound);
    let states = || events().filter_map(Event::as_delivery).map(|delivery| delivery.state);
    let texts = inbound().any(|inbound| inbound.text().is_some());
    let lists = all
        .iter()
        .any(|(webhook, _)| serde_json::from_slice::<Value>(webhook.request.body()).is_ok_and(|body| has_list(&body)));
    let derived = |event: &&Event| matches!(event, Event::OptOut(e) if e.inbound.is_some());
    let batch = all.iter().any(|(_, events)| events.iter().filter(|event| !derived(event)).count() > 1);
    let failed = states().any(|state| state == DeliveryState::Failed);
    let missing: Vec<_> = [
        (texts && !inbound().any(|inbound| opt_out_keyword(inbound).is_some()), "a message that says STOP"),
        // A gateway without failures, such as one with receipts only, has no status words.
        (failed && !states().any(|state| state == DeliveryState::Unrecognised), "a status word that is not known"),
        (lists && !batch, "a webhook with several events"),
    ]
    .into_iter()
    .filter_map(|(missing, what)| missing.then_some(what))
    .collect();
    ensure!(missing.is_empty(), "expected recordings of: {}", missing.join("; "));
    for (there, what) in [
        (failed || states().count() == 0, "a failed delivery"),
        (inbound().any(|inbound| !inbound.media().is_empty()), "a message with a file"),
        (inbound().any(|i| i.from.as_phone().is_some_and(|p| !p.as_str().starts_with("+44"))), "a foreign number"),
        (events().any(|event| matches!(event, Event::Unrecognised(_))), "an event that is not known"),
    ] {
        if !there {
            println!("not recorded, if the gateway has it: {what}");
        }
    }
    Ok(())
}

/// Returns `true` if a list of objects is somewhere in the value.
fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(all) => all.iter().any(|value| value.is_object() || has_list(value)),
        Value::Object(all) => all.values().any(has_list),
        _ => false,
    }
}

/// Every named credential occurs in a request or signs, and every credential in a request is named.
pub(super) async fn credentials_are_named_and_sent(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it has no credentials")?;
    let (named, signing) = (run.subject.secrets(), run.subject.signing_secrets());
    let (mut sent, mut answers) = (String::new(), String::new());
    for exchange in run.subject.exchanges() {
        let gateway = run.replay(&exchange, |_, step| step.unconditional()).await?.gateway;
        for step in &exchange.steps {
            answers.push_str(&String::from_utf8_lossy(step.answer()));
        }
        for asked in gateway.requests() {
            for (place, credential) in credentials(&asked) {
                let known = named.iter().any(|secret| credential.contains(secret.as_str())) || credential == OWN;
                // One that the gateway issued in an answer, such as an access token, is not configured.
                let issued = !credential.is_empty() && answers.contains(&credential);
                ensure!(
                    known || issued || credential.is_empty(),
                    "{}: the {place} has a credential that `Subject::secrets` does not name, so that no check looks for it",
                    exchange.place
                );
                sent.push_str(&credential);
            }
            sent.push_str(&asked.head);
            asked.texts().iter().for_each(|text| sent.push_str(text));
        }
    }
    ensure!(
        !named.is_empty() || sent.contains(OWN),
        "expected the credentials of the adapter: `Subject::secrets` names none"
    );
    for (nth, secret) in named.iter().enumerate() {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        ensure!(
            sent.contains(secret.as_str()) || sent.contains(&encoded) || signing.contains(secret),
            "secret {} of `Subject::secrets` occurs in no request: is it the one that `connect` configures? If it only \
             signs, return it from `Subject::signing_secrets` as well",
            nth + 1
        );
    }
    Ok(())
}

/// Returns the credentials of a request that are not computed: bearer tokens, passwords, and keys in headers and queries.
fn credentials(asked: &ReceivedRequest) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let header = asked.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match header.split_once(' ') {
        // A JWT is signed, and contains no credential.
        Some(("Bearer", token)) if token.split('.').count() != 3 => found.push(("bearer token", token.to_owned())),
        Some(("Basic", encoded)) => {
            let decoded = BASE64_STANDARD.decode(encoded).unwrap_or_default();
            let decoded = String::from_utf8_lossy(&decoded).into_owned();
            found.push(("password", decoded.split_once(':').map_or("", |(_, password)| password).to_owned()));
        }
        _ => {}
    }
    for (name, value) in &asked.headers {
        let key = ["api-key", "apikey", "token", "secret"].iter().any(|word| name.as_str().contains(word));
        if key && let Ok(value) = value.to_str() {
            found.push(("header", value.to_owned()));
        }
    }
    let query = asked.path.split_once('?').map_or("", |(_, query)| query);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if ["api_key", "apikey", "access_token", "password", "secret", "token"].contains(&&*name.to_lowercase()) {
            found.push(("query", value.into_owned()));
        }
    }
    found
}
