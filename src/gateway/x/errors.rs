//! X's error codes, and the refusals that come in a 2xx.

use std::borrow::Cow;

use http::StatusCode;

use super::X;
use super::api::{RateLimits, date};
use super::wire::Members;
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::{Answer, RETRY_AFTER_MAX, RETRY_AFTER_MIN, VendorError, lenient};
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome};

/// The classes of X's codes: the numbers of the v1.1 table, which shared layers still give, and the last parts of the
/// `type` of a problem. <https://docs.x.com/x-api/fundamentals/response-codes-and-errors>, read 2026-11-22 from a
/// stored copy. A 5xx is never documented as "not accepted", so after one the outcome stays unknown.
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    ("64 226 credits credits-depleted", ErrorClass::new(ErrorKind::Account)),
    (
        "93 220 261 416 client-forbidden not-authorized-for-resource oauth1-permissions unsupported-authentication",
        ErrorClass::new(ErrorKind::Forbidden),
    ),
    ("38 44 324 325 354 invalid-request", ErrorClass::new(ErrorKind::InvalidMessage)),
    // 476 is UNVERIFIED, from a public report: "Sender is not verified to send message requests". The person takes
    // requests of verified accounts only; others can still be written to.
    ("17 50 63 108 150 349 389 476 dm-not-permitted", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("34 resource-not-found resource-unavailable", ErrorClass::new(ErrorKind::NotFound)),
    ("usage-capped", ErrorClass::new(ErrorKind::QuotaExceeded)),
    ("88 420 rate-limit-exceeded", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    // 187: the same text was sent to the same person just before, and a second try is refused in the same way.
    ("151 187 disallowed-resource operation-not-permitted", ErrorClass::new(ErrorKind::Rejected)),
    ("32 89 99 135 215", ErrorClass::new(ErrorKind::Unauthenticated)),
    // The four of OAuth 2.0, which the call for new tokens gives.
    ("invalid_client invalid_grant invalid_request unauthorized_client", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("130 131 internal-error", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
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
    let json = Json::new(&answer.body);
    let first = json.read::<Problem<'_>>();
    let listed = listed(&json);
    let all = || first.iter().chain(&listed);
    let words = || all().flat_map(|p| [&p.title, &p.detail, &p.message]).filter_map(Text::as_deref);
    let named = || NAMED.iter().find(|(piece, _)| words().any(|words| words.contains(piece))).map(|(_, name)| *name);
    let code = (all().find_map(|p| p.code.as_deref()))
        .or_else(|| all().find_map(|p| p.kind.as_deref()?.rsplit_once('/').map(|(_, last)| last)))
        .or_else(|| first.as_ref()?.error.as_deref())
        .or_else(named);

    let mut error = VendorError::default();
    if code == Some("326") {
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
    error.code = code.map(|code| code.to_owned().into());
    error.request_id = answer.headers.get("x-transaction-id").and_then(|id| id.to_str().ok()).map(Cow::Borrowed);
    error.help = Some(Cow::Borrowed("https://docs.x.com/x-api/fundamentals/response-codes-and-errors"));
    error
}

impl X {
    /// The error that a 2xx holds in place of data, if it does.
    pub(super) fn refusal(&self, answer: &Answer) -> Option<Error> {
        let json = Json::new(&answer.body);
        if json.read::<Data<'_>>()?.data.is_some() {
            return None;
        }
        let errors = listed(&json);
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

/// The problems under `errors` that are not empty, each read by itself.
fn listed<'a>(json: &'a Json<'_>) -> Vec<Problem<'a>> {
    let is_filled = |piece: &Piece<'_>| json::read::<Members<'_>>(piece.get()).is_some_and(|it| !it.0.is_empty());
    // An object in the place of the list could be anything.
    let list = Some(json.read::<Errors<'_>>().unwrap_or_default().errors.get()).filter(|list| list.starts_with('['));
    let listed = list.and_then(json::read::<List<Piece<'_>>>).unwrap_or_default().items.into_iter();
    listed.filter(is_filled).filter_map(|piece| json::read(piece.get())).collect()
}

lenient! {
    struct Data<'a> {
        data: Option<Piece<'a>>,
    }

    struct Errors<'a> {
        errors: Piece<'a>,
    }

    /// All the shapes of X's errors in one: a problem, an item of a list of problems, the v1.1 pair of code and message,
    /// and that of OAuth 2.0.
    struct Problem<'a> {
        kind = "type": Text<'a>,
        title: Text<'a>,
        detail: Text<'a>,
        code: Text<'a>,
        message: Text<'a>,
        error: Text<'a>,
        status: Text<'a>,
    }
}

impl Problem<'_> {
    /// The status that it states, if it is that of a refusal or a fault.
    fn status(&self) -> Option<StatusCode> {
        let status = StatusCode::from_u16(self.status.as_deref()?.parse().ok()?).ok()?;
        Some(status).filter(|status| status.is_client_error() || status.is_server_error())
    }
}
