//! Snapshots: the whole result of each recording as JSON, kept beside the recordings for review.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::prelude::{BASE64_STANDARD, Engine};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::describe::{described, described_error};
use super::multipart::{self, Part};
use super::request::ReceivedRequest;
use super::run::{CallResult, CheckError, CheckResult, OWN, Replayed, Run, ensure};
use crate::media::Digest;
use crate::model::error::{Error, Result};
use crate::model::id::MessageId;
use crate::model::lookup::LookupOutcome;
use crate::webhook::Received;

/// The environment variable that writes snapshots in place of comparing them.
pub(super) const UPDATE: &str = "UPDATE_SNAPSHOTS";

/// A recording with its result.
pub(super) struct Entry {
    name: String,
    /// The result in words.
    summary: Vec<String>,
    result: Value,
}

impl Entry {
    pub(super) fn received(name: String, received: &Result<Received>) -> Self {
        let (summary, result) = match received {
            Ok(received) => {
                let response = json!({
                    "status": received.response.status.as_u16(),
                    "content_type": received.response.content_type,
                    "body": text(&received.response.body),
                });
                let discarded: Vec<_> = received
                    .discarded
                    .iter()
                    .map(|one| json!({ "account": one.account, "events": one.events }))
                    .collect();
                let result = json!({ "events": received.events, "discarded": discarded, "response": response });
                (received.events.iter().map(described).collect(), result)
            }
            Err(error) => (vec![described_error(error)], self::error(error)),
        };
        Self { name, summary, result }
    }

    /// Creates the entry of a call; `varying` are the names of headers to mask.
    pub(super) fn called(name: String, replayed: &Replayed, varying: &[&str]) -> Self {
        let mut summary = Vec::new();
        let result = match &replayed.result {
            CallResult::Accepted(accepted) => {
                let ids: Vec<_> = accepted.ids().map(MessageId::as_str).collect();
                let price = accepted.price.map(|price| format!(", price {price}")).unwrap_or_default();
                summary.push(format!("accepted as {}, state {:?}{price}", ids.join(", "), accepted.state));
                json!({ "accepted": {
                    "ids": ids,
                    "state": accepted.state,
                    "status": accepted.status,
                    "recipient": accepted.recipient,
                    "segments": accepted.segments,
                    "price": accepted.price,
                    "losses": accepted.losses,
                    "quota": accepted.quota,
                }})
            }
            CallResult::Done => json!({ "done": true }),
            CallResult::Failed(error) => {
                summary.push(described_error(error));
                self::error(error)
            }
            CallResult::File(bytes) => json!({ "file": bytes_of(bytes) }),
            CallResult::Health(health) => {
                let checks = health.checks.iter();
                summary.extend(checks.map(|check| format!("{}: {:?}, {}", check.name, check.status, check.detail)));
                let checks = health.checks.iter();
                let checks = checks.map(|check| {
                    json!({ "name": check.name, "status": format!("{:?}", check.status), "detail": check.detail })
                });
                json!({ "health": checks.collect::<Vec<_>>() })
            }
            CallResult::Held(media) => json!({ "media": media }),
            CallResult::LookupOutcome(outcome) => match outcome {
                LookupOutcome::Found(found) => {
                    summary.extend(found.iter().map(|delivery| described(&delivery.clone().into())));
                    json!({ "found": found })
                }
                LookupOutcome::NotFound => json!("not found"),
                LookupOutcome::Inconclusive => json!("inconclusive"),
            },
            CallResult::Page(page) => {
                summary.extend(page.events.iter().map(described));
                json!({ "events": page.events, "next": page.next, "more": page.more })
            }
        };
        let requests: Vec<_> = replayed.gateway.requests().iter().map(|asked| request(asked, varying)).collect();
        let mut result = json!({ "requests": requests, "result": result });
        replace(&mut result, &replayed.gateway.base_url(), "{base}");
        Self { name, summary, result }
    }

    fn into_value(self) -> Value {
        json!({ "recording": self.name, "summary": self.summary, "result": self.result })
    }
}

/// Compares results with the snapshot of the subject, or writes it if [`UPDATE`] is set.
pub(super) fn compare(run: &Run<'_>, entries: Vec<Entry>) -> CheckResult {
    let path = path(run)?;
    let mut got: Vec<Value> = entries.into_iter().map(Entry::into_value).collect();
    for entry in &mut got {
        shorten(entry);
        replace(entry, OWN, "{webhook secret}");
        for (nth, secret) in run.subject.secrets().iter().enumerate() {
            replace(entry, secret, &format!("{{secret {}}}", nth + 1));
        }
    }
    let ci = env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
    if env::var_os(UPDATE).is_some_and(|update| !update.is_empty() && update != "0") {
        ensure!(!ci, "{UPDATE} is set under CI, where snapshots are compared only: update and review them locally");
        return write(&path, &got);
    }
    let stored = match fs::read(&path) {
        Ok(stored) => stored,
        Err(_) if !ci => {
            got.iter().for_each(print);
            return Err(CheckError::DoesNotApply(
                "no snapshot yet: review the results above, and write it with UPDATE_SNAPSHOTS=1",
            ));
        }
        Err(error) => {
            let path = path.display();
            return Err(format!("cannot read the snapshot {path}: {error}; write it with {UPDATE}=1").into());
        }
    };
    let expected: Vec<Value> = serde_json::from_slice(&stored)
        .map_err(|error| format!("the snapshot {} is not a JSON array: {error}", path.display()))?;
    let differences = differences(&expected, &got);
    ensure!(
        differences.is_empty(),
        "{}: {}\nReview each difference; if it is right, run again with {UPDATE}=1",
        path.display(),
        differences.join("\n")
    );
    Ok(())
}

fn path(run: &Run<'_>) -> CheckResult<PathBuf> {
    if let Some(path) = run.subject.snapshot() {
        return Ok(path);
    }
    let Some(package) = env::var_os("CARGO_MANIFEST_DIR") else {
        return Err("CARGO_MANIFEST_DIR is not set: run the tests with cargo, or set `Subject::snapshot`"
            .to_owned()
            .into());
    };
    let name = format!("{}_{}.json", run.info.gateway, run.info.medium);
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'), "_");
    Ok(Path::new(&package).join("tests/snapshots").join(name))
}

fn write(path: &Path, got: &[Value]) -> CheckResult {
    got.iter().for_each(print);
    let text = serde_json::to_string_pretty(got).unwrap_or_default() + "\n";
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|error| CheckError::Failed(format!("cannot write the snapshot {}: {error}", path.display())))?;
    println!("written: {}", path.display());
    Ok(())
}

fn print(entry: &Value) {
    let lines = entry["summary"].as_array().map(Vec::as_slice).unwrap_or_default();
    println!("{}", entry["recording"].as_str().unwrap_or_default());
    lines.iter().filter_map(Value::as_str).for_each(|line| println!("    {line}"));
}

/// The maximum number of differences in one message.
const SHOWN: usize = 10;

/// Returns where and how results differ from the snapshot. Recorded data is invented, so both values are shown.
fn differences(expected: &[Value], got: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for (nth, entry) in got.iter().enumerate() {
        let name = entry["recording"].as_str().unwrap_or_default();
        match expected.get(nth) {
            Some(stored) if stored["recording"] == entry["recording"] => {
                differ(&stored["result"], &entry["result"], name, &mut found);
            }
            Some(_) => found.push(format!("{name}: the snapshot has another recording in its place")),
            None => found.push(format!("{name}: not in the snapshot")),
        }
    }
    if expected.len() > got.len() {
        found.push(format!("{} recordings of the snapshot are no longer there", expected.len() - got.len()));
    }
    if found.len() > SHOWN {
        let more = found.len() - SHOWN;
        found.truncate(SHOWN);
        found.push(format!("and {more} more"));
    }
    found
}

fn differ(expected: &Value, got: &Value, at: &str, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let names = expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name)));
            for name in names {
                let at = format!("{at}/{name}");
                match (expected.get(name), got.get(name)) {
                    (Some(expected), Some(got)) => differ(expected, got, &at, found),
                    (Some(expected), None) => found.push(format!("{at}: expected {expected}, got nothing")),
                    (None, got) => found.push(format!("{at}: expected nothing, got {}", got.unwrap_or(&Value::Null))),
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            let both = expected.iter().zip(got).enumerate();
            both.for_each(|(n, (expected, got))| differ(expected, got, &format!("{at}/{n}"), found));
        }
        _ if expected == got => {}
        _ => found.push(format!("{at}: expected {expected}, got {got}")),
    }
}

/// The maximum length of a string in a snapshot, in bytes.
const STRING_MAX: usize = 4_096;

/// Replaces strings that nobody can review, such as files, with their length and digest.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(all) => all.values_mut().for_each(shorten),
        Value::String(text) if text.len() > STRING_MAX => *value = bytes_of(text.as_bytes()),
        _ => {}
    }
}

/// Replaces a text in all strings.
fn replace(value: &mut Value, text: &str, with: &str) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| replace(value, text, with)),
        Value::Object(all) => all.values_mut().for_each(|value| replace(value, text, with)),
        Value::String(there) if !text.is_empty() && there.contains(text) => *there = there.replace(text, with),
        _ => {}
    }
}

fn error(error: &Error) -> Value {
    let parts: Vec<_> = error.accepted_parts().iter().map(MessageId::as_str).collect();
    json!({ "error": {
        "kind": format!("{:?}", error.kind()),
        "outcome": format!("{:?}", error.outcome()),
        "is_retryable": error.is_retryable(),
        "retry_after_ms": error.retry_after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        "is_per_recipient": error.is_per_recipient(),
        "scope": format!("{:?}", error.scope()),
        "code": error.code(),
        "field": error.field(),
        "gateway": error.gateway(),
        "request_id": error.request_id(),
        "help": error.help(),
        "accepted_parts": parts,
        "text": error.to_string(),
    }})
}

fn request(asked: &ReceivedRequest, varying: &[&str]) -> Value {
    let mut headers = headers(&asked.headers);
    for name in varying {
        if let Some(value) = headers.get_mut(*name) {
            *value = "{varies}".into();
        }
    }
    let mut request = json!({
        "method": asked.method.as_str(),
        "path": asked.path,
        "headers": headers,
        "body": body(asked),
    });
    // It is random.
    if let Some(boundary) = multipart::boundary(&asked.headers) {
        replace(&mut request, boundary, "{boundary}");
    }
    request
}

/// Headers of the transport and of the connection, which no adapter decides.
const TRANSPORT: &[HeaderName] =
    &[ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT];

fn headers(headers: &HeaderMap) -> Value {
    let own = headers.iter().filter(|(name, _)| !TRANSPORT.contains(name));
    let text = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        // Decoded, so that the password is masked.
        let decoded = text.strip_prefix("Basic ").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        decoded.and_then(|decoded| String::from_utf8(decoded).ok()).map_or(text, |decoded| format!("Basic {decoded}"))
    };
    own.map(|(name, value)| (name.to_string(), text(value).into())).collect::<serde_json::Map<_, _>>().into()
}

fn body(asked: &ReceivedRequest) -> Value {
    let body = &asked.body;
    if body.is_empty() {
        return Value::Null;
    }
    if asked.is_form() {
        return form_urlencoded::parse(body).map(|(name, value)| json!([name, value])).collect();
    }
    if let Some(parts) = asked.parts() {
        return json!({ "multipart": parts.iter().map(Part::shown).collect::<Vec<_>>() });
    }
    serde_json::from_slice(body).unwrap_or_else(|_| text(body))
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| bytes_of(bytes), Value::from)
}

/// Returns the length and the digest of bytes that are no text.
fn bytes_of(bytes: &[u8]) -> Value {
    json!({ "len": bytes.len(), "sha256": Digest::sha256(bytes).to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, result: &Value) -> Value {
        json!({ "recording": name, "summary": [], "result": result })
    }

    #[test]
    fn difference_names_its_place_and_both_values() {
        let stored = [entry("webhook 1", &json!({ "events": [{ "inbound": { "id": "M-1", "echo": false } }] }))];
        let got = [entry("webhook 1", &json!({ "events": [{ "inbound": { "id": "M-2", "at": 1 } }] }))];
        assert_eq!(
            differences(&stored, &got),
            [
                "webhook 1/events/0/inbound/echo: expected false, got nothing",
                "webhook 1/events/0/inbound/id: expected \"M-1\", got \"M-2\"",
                "webhook 1/events/0/inbound/at: expected nothing, got 1",
            ]
        );
        assert!(differences(&stored, &stored).is_empty());
    }

    #[test]
    fn recordings_that_come_and_go_are_differences() {
        let (one, two) = ([entry("webhook 1", &json!(1))], [entry("webhook 2", &json!(2))]);
        let both = [one[0].clone(), two[0].clone()];
        assert_eq!(differences(&one, &both), ["webhook 2: not in the snapshot"]);
        let gone = differences(&both, &one);
        assert_eq!(gone, ["1 recordings of the snapshot are no longer there"]);
        let swapped = differences(&one, &two);
        assert_eq!(swapped, ["webhook 2: the snapshot has another recording in its place"]);
    }

    #[test]
    fn long_lists_of_differences_are_cut() {
        let all = |from: u64| [entry("webhook 1", &(from..from + 30).collect::<Vec<_>>().into())];
        let found = differences(&all(0), &all(100));
        assert_eq!((found.len(), found.last().map(String::as_str)), (SHOWN + 1, Some("and 20 more")));
    }
}
