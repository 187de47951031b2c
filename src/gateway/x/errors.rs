//! X's error codes, and the refusals that come in a 2xx.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::value::RawValue;

use super::X;
use super::api::{RateLimits, date};
use crate::adapter::wire::Str;
use crate::adapter::{Answer, RETRY_AFTER_MAX, RETRY_AFTER_MIN, VendorError};
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome};

/// The classes of X's codes: the numbers of the v1.1 table, which shared layers still give, and the last parts of the
/// `type` of a problem. <https://docs.x.com/x-api/fundamentals/response-codes-and-errors>, read 2026-11-22 from a
/// stored copy. A 5xx is never documented as "not accepted", so after one the outcome stays unknown.
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    ("17", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("32", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("34", ErrorClass::new(ErrorKind::NotFound)),
    ("38", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("44", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("50", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("64", ErrorClass::new(ErrorKind::Account)),
    ("88", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("89", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("93", ErrorClass::new(ErrorKind::Forbidden)),
    ("99", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("108", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("130", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("131", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("135", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("150", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("151", ErrorClass::new(ErrorKind::Rejected)),
    // The same text was sent to the same person just before: a second try is refused in the same way.
    ("187", ErrorClass::new(ErrorKind::Rejected)),
    ("215", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("220", ErrorClass::new(ErrorKind::Forbidden)),
    ("226", ErrorClass::new(ErrorKind::Account)),
    ("261", ErrorClass::new(ErrorKind::Forbidden)),
    ("324", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("325", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("349", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("354", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("389", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("416", ErrorClass::new(ErrorKind::Forbidden)),
    ("420", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    // UNVERIFIED, from a public report: "Sender is not verified to send message requests". The person takes requests of
    // verified accounts only; others can still be written to.
    ("476", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("client-forbidden", ErrorClass::new(ErrorKind::Forbidden)),
    ("credits", ErrorClass::new(ErrorKind::Account)),
    ("credits-depleted", ErrorClass::new(ErrorKind::Account)),
    ("disallowed-resource", ErrorClass::new(ErrorKind::Rejected)),
    ("dm-not-permitted", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("internal-error", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("invalid-request", ErrorClass::new(ErrorKind::InvalidMessage)),
    // The four of OAuth 2.0, which the call for new tokens gives.
    ("invalid_client", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("invalid_grant", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("invalid_request", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("unauthorized_client", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("not-authorized-for-resource", ErrorClass::new(ErrorKind::Forbidden)),
    ("oauth1-permissions", ErrorClass::new(ErrorKind::Forbidden)),
    ("operation-not-permitted", ErrorClass::new(ErrorKind::Rejected)),
    ("rate-limit-exceeded", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("resource-not-found", ErrorClass::new(ErrorKind::NotFound)),
    ("resource-unavailable", ErrorClass::new(ErrorKind::NotFound)),
    ("unsupported-authentication", ErrorClass::new(ErrorKind::Forbidden)),
    ("usage-capped", ErrorClass::new(ErrorKind::QuotaExceeded)),
];

/// Refusals with a sentence and no code: a part of the sentence, and our name for it.
const NAMED: &[(&str, &str)] = &[
    ("do not have permission to DM", "dm-not-permitted"),
    ("operation is not permitted", "operation-not-permitted"),
    ("CreditsDepleted", "credits-depleted"),
];

/// The two meanings of 326, by a part of its text.
const MEANINGS_OF_326: &[(&str, ErrorClass)] =
    &[("do not follow", ErrorClass::new(ErrorKind::InvalidRecipient)), ("locked", ErrorClass::new(ErrorKind::Account))];

pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let problems = Problem::of(&String::from_utf8_lossy(&answer.body));
    let all = || problems.iter();
    let words = || all().flat_map(|p| [&p.title, &p.detail, &p.message]).flatten();
    let named = || NAMED.iter().find(|(piece, _)| words().any(|words| words.contains(piece))).map(|(_, name)| *name);
    let last = |uri: &String| uri.rsplit_once('/').map(|(_, last)| last.to_owned());
    let code = (all().find_map(|p| p.code.clone()))
        .or_else(|| all().find_map(|p| p.r#type.as_ref().and_then(last)))
        .or_else(|| problems.first().and_then(|problem| problem.error.clone()))
        .or_else(|| named().map(str::to_owned));

    let mut error = VendorError::default();
    if code.as_deref() == Some("326") {
        let meaning = MEANINGS_OF_326.iter().find(|(piece, _)| words().any(|words| words.contains(piece)));
        error.class = meaning.map(|(_, class)| *class);
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let rates = RateLimits::read("", &answer.headers);
        // Both times are X's own, so a wrong clock of ours does no harm.
        let now = date(&answer.headers);
        let used_up = || rates.all().filter(|rate| rate.remaining == 0);
        let reset = used_up().filter_map(|rate| rate.reset).max();
        error.retry_after = reset.zip(now).map(|(reset, now)| reset.since(now).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX));
        if [rates.user_day, rates.app_day].iter().flatten().any(|rate| rate.remaining == 0) {
            error.class = Some(ErrorClass::new(ErrorKind::QuotaExceeded).retry(None));
        }
    }
    error.code = code.map(Cow::Owned);
    error.request_id = answer.headers.get("x-transaction-id").and_then(|id| id.to_str().ok()).map(Cow::Borrowed);
    error.help = Some(Cow::Borrowed("https://docs.x.com/x-api/fundamentals/response-codes-and-errors"));
    error
}

impl X {
    /// The error that a 2xx holds in place of data, if it does.
    pub(super) fn refusal(&self, answer: &Answer) -> Option<Error> {
        let body = String::from_utf8_lossy(&answer.body);
        let members: Members<'_> = serde_json::from_str(&body).ok()?;
        if members.get("data").is_some_and(|data| data.get() != "null") {
            return None;
        }
        let errors = Problem::listed(&members);
        errors.first()?;
        // The status that an error states is more precise than that of the response. The highest counts, so that a 5xx
        // among them leaves the outcome unknown.
        let mut refusal = answer.clone();
        refusal.status = errors.iter().filter_map(Problem::status).max().unwrap_or(answer.status);
        let error = self.endpoint.refused(&refusal).with_status(answer.status);
        // A fault is no refusal, whatever status it came with.
        let is_fault = error.outcome() == Outcome::Rejected && error.kind() == ErrorKind::Unavailable;
        Some(if is_fault { error.with_outcome(Outcome::Unknown) } else { error })
    }
}

/// The members of an object, each to be read by itself, so that a strange one costs nothing beside it.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// All the shapes of X's errors in one: a problem, a list of problems, the v1.1 pair of code and message, bare or in
/// a list, and that of OAuth 2.0.
struct Problem {
    r#type: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    message: Option<String>,
    error: Option<String>,
    status: Option<String>,
}

impl Problem {
    /// The problem that a body is, and those that it lists.
    fn of(body: &str) -> Vec<Self> {
        let Ok(members) = serde_json::from_str::<Members<'_>>(body) else { return Vec::new() };
        std::iter::once(Self::read(&members)).chain(Self::listed(&members)).collect()
    }

    /// The problems under `errors` that are not empty.
    fn listed(members: &Members<'_>) -> Vec<Self> {
        let listed = members.get("errors").and_then(|listed| serde_json::from_str::<Vec<&RawValue>>(listed.get()).ok());
        let listed = listed.unwrap_or_default().into_iter();
        let objects = listed.filter_map(|problem| serde_json::from_str::<Members<'_>>(problem.get()).ok());
        objects.filter(|members| !members.is_empty()).map(|members| Self::read(&members)).collect()
    }

    fn read(members: &Members<'_>) -> Self {
        let text = |name| serde_json::from_str::<Str<'_>>(members.get(name)?.get()).ok().map(Str::into_string);
        Self {
            r#type: text("type"),
            title: text("title"),
            detail: text("detail"),
            code: text("code"),
            message: text("message"),
            error: text("error"),
            status: text("status"),
        }
    }

    /// The status that it states, if it is that of a refusal or a fault.
    fn status(&self) -> Option<StatusCode> {
        let status = StatusCode::from_u16(self.status.as_deref()?.parse().ok()?).ok()?;
        Some(status).filter(|status| status.is_client_error() || status.is_server_error())
    }
}
