//! Checks of webhook signatures.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode};

use super::receiving::{recorded, webhooks_with_events};
use crate::channel::Channel;
use crate::model::error::ErrorKind;
use crate::model::event::Event;
use crate::testing::run::{CheckError, CheckResult, NEXT, OTHER, OWN, Pace, Run, applies, elsewhere, ensure, own};
use crate::testing::subject::Webhook;
use crate::webhook::{Received, SignatureCoverage};

/// Returns the recorded webhooks that are signed.
fn proven(run: &Run<'_>) -> CheckResult<Vec<Webhook>> {
    let webhooks = webhooks_with_events(run)?;
    applies(run.subject.signer().signs, "the gateway does not sign webhooks")?;
    Ok(webhooks.into_iter().filter(|webhook| webhook.signed).collect())
}

/// Asserts that a request is rejected as unauthenticated, with 401 or 403.
async fn refused(run: &Run<'_>, channel: &dyn Channel, what: &str, request: Request<Bytes>) -> CheckResult {
    let request = run.arriving(request, run.subject.now());
    match run.receive(channel, &request).await? {
        Ok(received) => {
            Err(CheckError::Failed(format!("{what}: expected a rejection, got {} events", received.events.len())))
        }
        Err(error) => {
            let (kind, reply) = (error.kind(), error.webhook_status());
            ensure!(kind == ErrorKind::Unauthenticated, "{what}: expected Unauthenticated, got {kind:?}");
            let no = matches!(reply, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            ensure!(no, "{what}: expected 401 or 403, got {reply}");
            Ok(())
        }
    }
}

/// An unsigned webhook is rejected.
pub(super) async fn webhook_without_signature_is_refused(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let channel = run.receiving(&[OWN])?;
    for webhook in &webhooks {
        refused(run, &*channel, "a webhook without its signature", webhook.request.clone()).await?;
    }
    let empty = Request::new(Bytes::new());
    refused(run, &*channel, "an empty request", empty).await
}

/// A signature with a changed character, truncated, extended, or made with another secret is rejected.
pub(super) async fn wrong_signature_is_refused(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let channel = run.receiving(&[OWN])?;
    for webhook in webhooks.iter().take(3) {
        let bare = &webhook.request;
        let good = run.signed(bare, true, OWN);
        for (what, secret) in [
            ("another secret", NEXT),
            ("another account's secret", OTHER),
            ("an empty secret", ""),
            ("a blank secret", " "),
            ("the secret without its last letter", "conformance-secret-on"),
            ("the secret in another case", "Conformance-secret-one"),
        ] {
            let request = run.signed(bare, true, secret);
            refused(run, &*channel, &format!("a signature made with {what}"), request).await?;
        }
        let added: Vec<HeaderName> = good
            .headers()
            .iter()
            .filter(|(name, value)| bare.headers().get(*name) != Some(value))
            .map(|h| h.0.clone())
            .collect();
        for name in &added {
            let Some(value) = good.headers().get(name).and_then(|value| value.to_str().ok()) else { continue };
            for wrong in wrong(value) {
                let mut request = good.clone();
                let Ok(value) = HeaderValue::from_str(&wrong) else { continue };
                request.headers_mut().insert(name, value);
                refused(run, &*channel, &format!("a webhook with the header {name}: {wrong:?}"), request).await?;
            }
        }
        if good.uri() != bare.uri() {
            let (before, after) = (bare.uri().to_string(), good.uri().to_string());
            let same = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
            let Some((same, proof)) = after.split_at_checked(same) else { continue };
            for wrong in wrong(proof) {
                let mut request = good.clone();
                let Ok(uri) = format!("{same}{wrong}").parse() else { continue };
                *request.uri_mut() = uri;
                refused(run, &*channel, &format!("a webhook at {same}{wrong}"), request).await?;
            }
        }
    }
    Ok(())
}

/// Returns invalid variants of a signature.
fn wrong(proof: &str) -> Vec<String> {
    let characters: Vec<char> = proof.chars().collect();
    let len = characters.len();
    let mut wrong: Vec<String> = (0..len).map(|len| characters.iter().take(len).collect()).collect();
    // The last character of base64 has bits that say nothing, so that two of them can be one proof.
    let padded = proof.trim_end_matches('=').chars().count();
    for at in (0..len).filter(|at| at + 1 != padded) {
        let mut changed = characters.clone();
        if let Some(there) = changed.get_mut(at) {
            *there = if there.eq_ignore_ascii_case(&'b') { 'c' } else { 'b' };
        }
        wrong.push(changed.into_iter().collect());
    }
    wrong.extend([format!("{proof}0"), format!("{proof}{proof}"), "null".to_owned(), "undefined".to_owned()]);
    wrong
}

/// Any change to what the signature covers is rejected: a byte of the body, the URL, a field.
pub(super) async fn changed_webhook_is_refused(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let covers = run.subject.signer().covers;
    applies(
        covers != SignatureCoverage::Nothing,
        "the signature covers nothing: a token proves the sender, not the content",
    )?;
    applies(
        covers != SignatureCoverage::Claims,
        "the signature covers claims in the body, which the suite cannot change",
    )?;
    let channel = run.receiving(&[OWN])?;
    for webhook in webhooks.iter().take(3) {
        let good = run.signed(&webhook.request, true, OWN);
        let mut changed: Vec<(&str, Bytes)> = Vec::new();
        let body = good.body();
        for at in (0..body.len()).step_by(body.len() / 64 + 1) {
            let mut bytes = body.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            changed.push(("a body with a byte changed", bytes.into()));
        }
        if !body.is_empty() {
            changed.push(("a body that ends early", body.slice(..body.len() - 1)));
            changed.push(("a body with nothing in it", Bytes::new()));
            changed.push(("a body with something behind it", [body, &b"&more=1"[..]].concat().into()));
        }
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
            let again = serde_json::to_vec(&json).unwrap_or_default();
            changed.push(("a body that was read and written again", again.into()));
        }
        // A form whose last field is empty can lose its last character and say the same.
        let fields = |body: &[u8]| {
            let mut fields: Vec<_> = form_urlencoded::parse(body).into_owned().collect();
            fields.sort();
            fields
        };
        let same = |changed: &Bytes| match covers {
            SignatureCoverage::UrlAndForm => fields(changed) == fields(body),
            _ => changed == body,
        };
        for (what, body) in changed.into_iter().filter(|(_, changed)| !same(changed)) {
            let mut request = good.clone();
            *request.body_mut() = body;
            refused(run, &*channel, what, request).await?;
        }
        if covers == SignatureCoverage::UrlAndForm {
            let uri = good.uri().to_string();
            let more = if uri.contains('?') { "&more=1" } else { "?more=1" };
            for other in [format!("{uri}{more}"), format!("/other{uri}")] {
                let mut request = good.clone();
                let Ok(uri) = other.parse() else { continue };
                *request.uri_mut() = uri;
                refused(run, &*channel, "a webhook at another address", request).await?;
            }
        }
    }
    Ok(())
}

/// A signature with a timestamp is rejected outside of its tolerance, and accepted just inside.
pub(super) async fn stale_webhook_is_refused(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let Some(tolerance) = run.subject.signer().tolerance else {
        return applies(false, "the signature has no timestamp");
    };
    let Some(webhook) = webhooks.first() else { return applies(false, "expected a recorded webhook, got none") };
    let channel = run.receiving(&[OWN])?;
    let (now, inside, outside) = (run.subject.now(), tolerance / 2, tolerance + Duration::from_secs(2));
    for (at, good) in [
        (now.plus(inside), true),
        (now.minus(inside), true),
        (now.plus(outside), false),
        (now.minus(outside), false),
        (now.plus(Duration::from_secs(365 * 24 * 3600)), false),
    ] {
        let request = run.arriving(run.signed(&webhook.request, true, OWN), at);
        let taken = run.receive(&*channel, &request).await?;
        match taken {
            Ok(_) if !good => {
                return Err(CheckError::Failed("stale signature: expected a rejection, got success".to_owned()));
            }
            Err(error) if good => {
                return Err(CheckError::Failed(format!("fresh signature: expected success, got {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Without a secret every webhook is rejected, including one signed with an empty secret.
pub(super) async fn missing_secret_verifies_nothing(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let mut setup = run.setup("http://127.0.0.1:9", Pace::Patient);
    setup.webhook_secrets.clear();
    // Refusing to connect is valid too.
    let Ok(channel) = run.subject.connect(&setup) else { return Ok(()) };
    for webhook in webhooks.iter().take(3) {
        for signed in [true, false] {
            let request = run.arriving(run.signed(&webhook.request, signed, ""), run.subject.now());
            let received = run.receive(&*channel, &request).await?;
            ensure!(received.is_err(), "no secret set: expected a rejection, got success");
        }
    }
    Ok(())
}

/// During a rotation the old and the new secret verify; afterwards the old one does not.
pub(super) async fn both_secrets_verify_during_a_rotation(run: &Run<'_>) -> CheckResult {
    let webhooks = proven(run)?;
    let Some(webhook) = webhooks.first() else { return applies(false, "expected a recorded webhook, got none") };
    for both in [[OWN, NEXT], [NEXT, OWN]] {
        let channel = run.receiving(&both)?;
        for secret in both {
            let received = run.receive(&*channel, &run.arrives(webhook, secret)).await?;
            let received =
                received.map_err(|error| format!("rotation: expected both secrets to verify, got {error}"))?;
            ensure!(!received.events.is_empty(), "rotation: expected events with both secrets, got none");
        }
    }
    let channel = run.receiving(&[NEXT])?;
    refused(run, &*channel, "a signature made with the old secret", run.signed(&webhook.request, true, OWN)).await
}

/// The secret of one account yields no event of another.
pub(super) async fn secret_is_limited_to_its_accounts(run: &Run<'_>) -> CheckResult {
    proven(run)?;
    let has_message = |event: &Event| matches!(event, Event::Inbound(_) | Event::Delivery(_));
    let webhooks: Vec<_> =
        recorded(run).await?.into_iter().filter(|(_, events)| events.iter().any(has_message)).collect();
    applies(!webhooks.is_empty(), "no webhook with a message or a delivery is recorded")?;
    let mut setup = run.setup("http://127.0.0.1:9", Pace::Patient);
    setup.webhook_secrets = own(&[OWN]).into_iter().chain(elsewhere()).collect();
    let channel = run.built(&setup)?;
    for (webhook, _) in webhooks.iter().filter(|(webhook, _)| webhook.signed) {
        let received = run.receive(&*channel, &run.arrives(webhook, OTHER)).await?;
        if let Ok(Received { events, discarded, .. }) = received {
            ensure!(events.is_empty(), "secret of another account: expected no events, got {}", events.len());
            ensure!(
                !discarded.is_empty(),
                "events of an account that the secret does not own: expected them counted as discarded, got none"
            );
        }
    }
    Ok(())
}
