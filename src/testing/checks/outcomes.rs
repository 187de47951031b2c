//! Checks of the outcome of a failed send.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::message::Accepted;
use crate::testing::fake_gateway::{FakeGateway, RefusedPort};
use crate::testing::request::ReceivedRequest;
use crate::testing::run::{CallResult, CheckError, CheckResult, Model, Pace, Run, applies, ensure};
use crate::testing::step::{SocketFault, Step};
use crate::testing::subject::Expectation;

/// The result of a send, and the requests that the gateway received.
struct Sent {
    result: Result<Accepted>,
    asked: Vec<ReceivedRequest>,
}

/// Sends one message to a gateway that misbehaves so, and waits until nothing more of it can arrive.
async fn send(run: &Run<'_>, model: &Model, pace: Pace, change: impl FnOnce(Step) -> Step) -> CheckResult<Sent> {
    let gateway = FakeGateway::start().await;
    let base = gateway.base_url();
    model.expect(&gateway, |step| change(step).based(&base));
    gateway.always(model.last());
    let channel = run.connect(&base, pace)?;
    let result = channel.send(&model.marked("outcome")).await;
    if let Err(error) = &result {
        run.note_error(error);
    }
    drop(channel);
    closed(&gateway).await;
    Ok(Sent { result, asked: gateway.requests() })
}

/// Waits for the connections of a channel that was dropped. One that keeps them for itself is not waited for.
async fn closed(gateway: &FakeGateway) {
    _ = tokio::time::timeout(Duration::from_secs(2), gateway.closed()).await;
}

impl Sent {
    fn accepted(&self) -> usize {
        self.asked.iter().filter(|asked| asked.accepted).count()
    }

    /// Returns the error after checking it against the gateway's requests.
    fn error(&self, what: &str) -> CheckResult<&Error> {
        let accepted = self.accepted();
        let Err(error) = &self.result else {
            return Err(CheckError::Failed(format!("{what}: expected an error, got acceptance")));
        };
        let unsent = error.outcome() == Outcome::NotSent;
        let read = self.asked.iter().map(|asked| asked.len).sum::<usize>();
        ensure!(!unsent || accepted == 0, "{what}: expected no acceptance after NotSent, got one");
        ensure!(!unsent || read == 0, "{what}: expected no bytes after NotSent, got {read}");
        ensure!(
            error.outcome() != Outcome::Unknown || !error.is_retryable(),
            "{what}: expected an unknown outcome not to be retryable, got retryable"
        );
        Ok(error)
    }

    fn is(&self, what: &str, outcome: Outcome) -> CheckResult<&Error> {
        let error = self.error(what)?;
        ensure!(error.outcome() == outcome, "{what}: expected {outcome:?}, got {:?}", error.outcome());
        Ok(error)
    }
}

/// A refused connection is `NotSent` and retryable.
pub(super) async fn refused_connection_is_not_sent(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let deaf = RefusedPort::new().map_err(|error| format!("no port on loopback: {error}"))?;
    let channel = run.connect(&deaf.base_url(), Pace::Patient)?;
    let result = channel.send(&model.marked("refused")).await;
    let sent = Sent { result, asked: Vec::new() };
    let error = sent.is("a refused connection", Outcome::NotSent)?;
    ensure!(error.is_retryable(), "refused connection: expected a retryable error, got one that is not");
    Ok(())
}

/// A connection that breaks inside the request leaves the outcome unknown: something of it has left.
pub(super) async fn truncated_request_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    for bytes in [1, 16, 64, 128, 200] {
        let sent = send(run, &model, Pace::Patient, |step| step.breaks(SocketFault::CutRequest(bytes))).await?;
        sent.is(&format!("a reset after {bytes} bytes of the request"), Outcome::Unknown)?;
    }
    Ok(())
}

/// A connection that breaks before the answer leaves the outcome unknown: the gateway has the message.
pub(super) async fn reset_before_the_response_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let sent = send(run, &model, Pace::Patient, |step| step.breaks(SocketFault::ResetAfterRequest)).await?;
    sent.is("a reset before the answer", Outcome::Unknown).map(|_| ())
}

/// Sends one message to a gateway whose answer takes longer than the channel waits. A machine may be so busy that the time
/// is over before the gateway has the request: then it is sent again, with more time.
async fn send_in_a_hurry(run: &Run<'_>, model: &Model, change: impl Fn(Duration, Step) -> Step) -> CheckResult<Sent> {
    let mut time = Duration::from_millis(200);
    loop {
        let sent = send(run, model, Pace::Hasty(time), |step| change(time, step)).await?;
        let read = sent.asked.iter().filter(|asked| asked.whole).count();
        if read >= model.requests() || time >= Pace::Patient.time() {
            return Ok(sent);
        }
        time *= 10;
    }
}

/// A gateway that does not answer in time leaves the outcome unknown.
pub(super) async fn timeout_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let sent = send_in_a_hurry(run, &model, |_, step| step.breaks(SocketFault::Stall)).await?;
    sent.is("no answer", Outcome::Unknown).map(|_| ())
}

/// The time is for the whole answer: one that comes byte by byte is not waited for without end.
pub(super) async fn slow_response_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let body = u32::try_from(model.last().answer().len()).unwrap_or(u32::MAX);
    applies(body > 0, "the expected response is empty")?;
    // Three times as long, in all, as the channel waits.
    let sent = send_in_a_hurry(run, &model, |time, step| step.breaks(SocketFault::Drip(time * 3 / body))).await?;
    sent.is("an answer byte by byte", Outcome::Unknown).map(|_| ())
}

/// An answer that breaks off, or is shorter or longer than it says, leaves the outcome unknown.
pub(super) async fn truncated_response_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let (len, body) = (model.last().answer_len(), model.last().answer().len() as u64);
    for nth in 0..8 {
        let bytes = len * nth / 8;
        let sent = send(run, &model, Pace::Patient, |step| step.breaks(SocketFault::CutAnswer(bytes))).await?;
        sent.is(&format!("an answer that ends after {bytes} of {len} bytes"), Outcome::Unknown)?;
    }
    let sent = send(run, &model, Pace::Patient, |step| step.content_length(body + 10)).await?;
    sent.is("an answer shorter than it says", Outcome::Unknown)?;
    if serde_json::from_slice::<serde_json::Value>(model.last().answer()).is_ok() && body > 1 {
        let sent = send(run, &model, Pace::Patient, |step| step.content_length(body / 2)).await?;
        sent.is("an answer longer than it says", Outcome::Unknown)?;
    }
    Ok(())
}

/// A 200 without a readable answer leaves the outcome unknown: it was taken, and nobody knows under which id.
pub(super) async fn unreadable_success_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    applies(!model.last().answer().is_empty(), "the expected response is empty")?;
    let answer = model.last().answer().clone();
    // Half of a text such as `OK 8841001` is another text; half of an object is none.
    let json = matches!(answer.first(), Some(b'{' | b'['));
    let half = if json { answer.slice(..answer.len() / 2) } else { "".into() };
    for (what, body) in [
        ("an empty 200", "".into()),
        ("a 200 that is a page", "<html><body>Please log in</body></html>".into()),
        ("a 200 that is half an answer", half),
        ("a 200 that is null", "null".into()),
        ("a 200 that is not text", bytes::Bytes::from_static(b"\xff\xfe\x00\x01")),
    ] {
        let sent = send(run, &model, Pace::Patient, |step| step.answers(200, body)).await?;
        sent.is(what, Outcome::Unknown)?;
    }
    Ok(())
}

/// A 200 in which an id is empty, missing or of another type leaves the outcome unknown: an acceptance under no id is lost for every
/// status that follows.
pub(super) async fn success_without_an_id_is_unknown(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let mut seen = BTreeSet::new();
    for exchange in run.accepted_sends() {
        let (Some(last), Expectation::Accepted(ids)) = (exchange.steps.last(), &exchange.result) else { continue };
        if !seen.insert(last.answer().clone()) {
            continue;
        }
        let nth_last = exchange.steps.len() - 1;
        for (what, body) in without_ids(last.answer(), ids) {
            let change = |nth, step: Step| match nth == nth_last {
                true => step.unconditional().with_answer(body.clone()),
                false => step.unconditional(),
            };
            match run.replay(&exchange, change).await?.result {
                CallResult::Accepted(accepted) => {
                    let same =
                        accepted.ids().map(crate::model::id::MessageId::as_str).eq(ids.iter().map(String::as_str));
                    ensure!(same, "{what}: expected the recorded ids or an error, got other ids");
                }
                CallResult::Failed(error) => {
                    let outcome = error.outcome();
                    ensure!(outcome == Outcome::Unknown, "{what}: expected Unknown, got {outcome:?}");
                    ensure!(
                        !error.is_retryable(),
                        "{what}: expected an error that is not retryable, got a retryable one"
                    );
                }
                _ => ensure!(false, "{what}: expected a result of the send, got none"),
            }
        }
    }
    Ok(())
}

/// A success with a damaged member is the same acceptance, or unknown: it may have been accepted, as this message only.
pub(super) async fn partial_success_is_unknown_or_the_same(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    let mut seen = std::collections::BTreeSet::new();
    for exchange in run.accepted_sends() {
        let (Some(last), Expectation::Accepted(ids)) = (exchange.steps.last(), &exchange.result) else { continue };
        let Ok(whole) = serde_json::from_slice::<Value>(last.answer()) else { continue };
        if !seen.insert(last.answer().clone()) {
            continue;
        }
        let nth_last = exchange.steps.len() - 1;
        for pointer in members(&whole, "") {
            let at =
                whole.pointer(&pointer).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            let is_id = at.is_some_and(|value| ids.contains(&value));
            for damage in [None, Some(json!("")), Some(json!(null)), Some(json!(7)), Some(json!("x")), Some(json!([]))]
            {
                let Some(damaged) = replaced(&whole, &pointer, damage.as_ref()) else { continue };
                let change = |nth, step: Step| match nth == nth_last {
                    true => step.unconditional().with_answer(damaged.to_string()),
                    false => step.unconditional(),
                };
                // In the place of an id, another word or number is another id.
                let renamed = is_id && (damage == Some(json!("x")) || damage == Some(json!(7)));
                let what = match &damage {
                    Some(value) => format!("{}: a success with {value} at {pointer}", exchange.place),
                    None => format!("{}: a success without {pointer}", exchange.place),
                };
                match run.replay(&exchange, change).await?.result {
                    CallResult::Accepted(accepted) => {
                        let got: Vec<_> = accepted.ids().map(crate::model::id::MessageId::as_str).collect();
                        ensure!(renamed || got == *ids, "{what}: expected the ids {ids:?} or an error, got {got:?}");
                    }
                    CallResult::Failed(error) => {
                        let outcome = error.outcome();
                        ensure!(outcome == Outcome::Unknown, "{what}: expected Unknown, got {outcome:?}");
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// The JSON pointers of all members of objects.
pub(super) fn members(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Array(all) => {
            all.iter().enumerate().flat_map(|(n, value)| members(value, &format!("{at}/{n}"))).collect()
        }
        Value::Object(all) => {
            let below = all.iter().flat_map(|(name, value)| {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                let inner = members(value, &at);
                [at].into_iter().chain(inner)
            });
            below.collect()
        }
        _ => Vec::new(),
    }
}

/// Returns a copy with another value of this member, or without the member.
pub(super) fn replaced(whole: &Value, pointer: &str, value: Option<&Value>) -> Option<Value> {
    let mut copy = whole.clone();
    let (above, name) = pointer.rsplit_once('/')?;
    let Value::Object(members) = copy.pointer_mut(above)? else { return None };
    match value {
        Some(value) => members.insert(unescaped(name), value.clone()),
        None => members.remove(&unescaped(name)),
    };
    Some(copy)
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// An acceptance is not a delivery: a state above `Accepted` needs the gateway's own word for it.
pub(super) async fn acceptance_is_not_above_accepted(run: &Run<'_>) -> CheckResult {
    applies(!run.subject.in_memory(), "in memory: it calls no gateway")?;
    for exchange in run.accepted_sends() {
        let CallResult::Accepted(accepted) = run.replay(&exchange, |_, step| step.unconditional()).await?.result else {
            continue;
        };
        let stated = accepted.status.as_deref().is_some_and(|status| {
            let answer = exchange.steps.last().map(|step| step.answer().clone()).unwrap_or_default();
            !status.is_empty() && answer.windows(status.len()).any(|piece| piece == status.as_bytes())
        });
        let (state, place) = (accepted.state, exchange.place);
        let proven = stated || matches!(state, DeliveryState::Accepted | DeliveryState::Unrecognised);
        ensure!(proven, "{place}: expected Accepted, got {state:?} without the gateway's status in `Accepted::status`");
        let read = matches!(state, DeliveryState::Delivered | DeliveryState::Read);
        ensure!(!read, "{place}: expected an acceptance, got {state:?}: report it as a delivery event");
    }
    Ok(())
}

/// The answer with each of the ids emptied, of another type or left out, one at a time, and what stands around it.
fn without_ids(answer: &[u8], ids: &[String]) -> Vec<(String, bytes::Bytes)> {
    let Ok(whole) = serde_json::from_slice::<Value>(answer) else {
        // In plain text, a missing id is detectable only if all are missing.
        let text = ids.iter().fold(String::from_utf8_lossy(answer).into_owned(), |text, id| text.replace(id, ""));
        return vec![("a 200 with empty ids".to_owned(), text.into())];
    };
    let mut paths = Vec::new();
    find(&whole, ids, &mut Vec::new(), &mut paths);
    let mut all = Vec::new();
    for value in [json!({}), json!([]), json!(""), json!(0), json!(true)] {
        all.push((format!("a 200 that is {value}"), value.to_string().into()));
    }
    for path in paths {
        for len in 1..=path.len() {
            let at = path.get(..len).unwrap_or_default().iter().fold(String::new(), |at, step| at + "/" + step);
            let place = if len == path.len() { "an id" } else { "what is around an id" };
            for value in [json!(""), json!(" \n"), json!(null), json!(true), json!([]), json!({})] {
                let mut changed = whole.clone();
                if let Some(there) = changed.pointer_mut(&at) {
                    *there = value.clone();
                    all.push((format!("a 200 with {value} for {place}, at {at}"), changed.to_string().into()));
                }
            }
            // Of a list, nobody can tell that there was one more.
            let mut changed = whole.clone();
            let (above, name) = at.rsplit_once('/').unwrap_or_default();
            if let Some(Value::Object(members)) = changed.pointer_mut(above) {
                members.remove(&unescaped(name));
                all.push((format!("a 200 without {place}, at {at}"), changed.to_string().into()));
            }
        }
    }
    all
}

/// The JSON pointers, step by step, to where these ids stand.
fn find(value: &Value, ids: &[String], at: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut below = |step: String, value: &Value| {
        at.push(step);
        find(value, ids, at, found);
        at.pop();
    };
    match value {
        Value::Array(values) => values.iter().enumerate().for_each(|(n, value)| below(n.to_string(), value)),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| below(name.replace('~', "~0").replace('/', "~1"), value))
        }
        Value::String(text) if ids.contains(text) => found.push(at.clone()),
        Value::Number(number) if ids.contains(&number.to_string()) => found.push(at.clone()),
        _ => {}
    }
}

/// 408 and 5xx leave the outcome unknown, unless the vendor documents that its code means "not accepted".
pub(super) async fn server_error_is_unknown(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    for status in [408, 500, 502, 503, 504] {
        for body in ["", "<html>It broke</html>"] {
            let sent = send(run, &model, Pace::Patient, |step| step.answers(status, body)).await?;
            sent.is(&format!("a {status}"), Outcome::Unknown)?;
        }
    }
    Ok(())
}

/// A definite rejection is `Rejected` and not retryable.
pub(super) async fn client_error_is_rejected(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    for status in [400, 402, 403, 404, 405, 409, 410, 413, 415, 422] {
        for body in ["", "<html>No</html>"] {
            let sent = send(run, &model, Pace::Patient, |step| step.answers(status, body)).await?;
            let error = sent.is(&format!("a {status}"), Outcome::Rejected)?;
            ensure!(!error.is_retryable(), "{status}: expected an error that is not retryable, got a retryable one");
            ensure!(
                error.status().is_some_and(|s| s == status),
                "{status}: expected Error::status to return it, got another"
            );
        }
    }
    Ok(())
}

/// A redirect is a setting that is wrong, and is not followed: a second request could be a second message.
pub(super) async fn redirect_is_not_followed(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    for status in [301, 302, 303, 307, 308] {
        let redirect = |step: Step| step.answers(status, "").response_header("location", "{base}/elsewhere");
        let sent = send(run, &model, Pace::Patient, redirect).await?;
        let (asked, expected) = (sent.asked.len(), model.requests());
        ensure!(asked == expected, "{status}: expected {expected} requests, got {asked}");
        let error = sent.is(&format!("a {status}"), Outcome::Rejected)?;
        ensure!(error.kind() == ErrorKind::Config, "{status}: expected Config, got {:?}", error.kind());
    }
    Ok(())
}

/// A 429 is a retryable rejection with its Retry-After, in seconds or as a date, of at most a day.
pub(super) async fn rate_limit_reports_its_wait(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    let date = http_date(run.subject.now().plus(Duration::from_secs(90)));
    for (header, least, max) in [
        (Some("7"), Some(7), 7),
        (Some("0"), Some(1), 1),
        (Some(date.as_str()), Some(89), 91),
        (Some("99999999999999999999"), Some(86_400), 86_400),
        // Nonsense asks for nothing; the gateway's own pages may.
        (Some("soon"), None, 86_400),
        (Some("-5"), None, 86_400),
        (None, None, 86_400),
    ] {
        let what = format!("a 429 with Retry-After {}", header.unwrap_or("left out"));
        let sent = send(run, &model, Pace::Patient, |step| {
            let step = step.answers(429, "");
            header.iter().fold(step, |step, value| step.response_header("retry-after", *value))
        });
        let sent = sent.await?;
        let error = sent.is(&what, Outcome::Rejected)?;
        let kind = error.kind();
        ensure!(
            matches!(kind, ErrorKind::RateLimited | ErrorKind::QuotaExceeded),
            "{what}: expected RateLimited or QuotaExceeded, got {kind:?}"
        );
        ensure!(error.is_retryable(), "{what}: expected a retryable error, got one that is not");
        match (error.retry_after().map(|wait| wait.as_secs()), least) {
            (None, None) => {}
            (Some(wait), _) if (least.unwrap_or(0)..=max).contains(&wait) => {}
            (wait, _) => return Err(CheckError::Failed(format!("{what}: unexpected retry_after of {wait:?} seconds"))),
        }
    }
    Ok(())
}

fn http_date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_secs()).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A gateway that closes connections between sends, as many do when they are idle, gets no message twice.
pub(super) async fn closed_connections_double_no_message(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    applies(model.has_text(), "sends no text")?;
    let gateway = FakeGateway::start().await;
    let channel = model.begun(run, &gateway).await?;
    gateway.always(model.last().breaks(SocketFault::CloseAfterAnswer));
    let mut sent = Vec::new();
    for nth in 0..40 {
        let mark = format!("closing-{nth:02}-time");
        let result = channel.send(&model.marked(&mark)).await;
        sent.push((mark, result));
    }
    drop(channel);
    closed(&gateway).await;
    for (mark, result) in &sent {
        let accepted = gateway.accepted(mark);
        ensure!(accepted <= 1, "expected one acceptance, got {accepted}");
        match result {
            Ok(_) => ensure!(accepted == 1, "accepted send: expected acceptance at the gateway, got none"),
            Err(error) => ensure!(
                error.outcome() != Outcome::NotSent || accepted == 0,
                "expected no acceptance after NotSent, got one"
            ),
        }
    }
    ensure!(
        sent.iter().any(|(_, result)| result.is_ok()),
        "expected sends to succeed when connections close after each, got errors only"
    );
    Ok(())
}

/// A send whose future is dropped after its first, second, … 64th poll has gone once or not at all, and the channel goes
/// on.
pub(super) async fn cancelled_send_is_sent_at_most_once(run: &Run<'_>) -> CheckResult {
    let model = run.model()?;
    applies(model.has_text(), "the recorded send is not a text")?;
    let gateway = FakeGateway::start().await;
    let channel = model.begun(run, &gateway).await?;
    gateway.always(model.last());
    let mut marks = Vec::new();
    for max in 0..=64 {
        let mark = format!("dropped-{max:02}");
        let message = model.marked(&mark);
        let mut sending = channel.send(&message);
        let mut polls = 0;
        poll_fn(|cx| {
            if polls == max {
                return Poll::Ready(());
            }
            polls += 1;
            match sending.as_mut().poll(cx) {
                Poll::Pending if polls < max => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        drop(sending);
        let after = channel.send(&model.marked(&format!("after-{max:02}"))).await;
        after.map_err(|error| format!("send after one dropped at poll {max}: expected acceptance, got {error}"))?;
        marks.push(mark);
    }
    drop(channel);
    closed(&gateway).await;
    for (max, mark) in marks.iter().enumerate() {
        let accepted = gateway.accepted(mark);
        ensure!(accepted <= 1, "send dropped at poll {max}: expected at max one acceptance, got {accepted}");
    }
    Ok(())
}
