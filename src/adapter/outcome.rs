//! The meaning of a response's status, of a vendor's codes, and of `Retry-After`.

use std::time::Duration;

use http::StatusCode;

use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{ErrorClass, ErrorKind};

/// Returns the value of a word in a vendor's table, in which a row may list several words with spaces between.
pub(crate) fn row<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(words, _)| words.split(' ').any(|one| one == word)).map(|(_, value)| *value)
}

/// Returns the delivery state of a vendor's status word by the vendor's table; [`DeliveryState::Unrecognised`] for any
/// other word.
///
/// A row may list several words with spaces between.
///
/// ```
/// use civic_messaging::DeliveryState;
/// use civic_messaging::adapter::delivery_state;
///
/// const STATES: &[(&str, DeliveryState)] =
///     &[("QUEUED SENT", DeliveryState::Sent), ("DELIVERED", DeliveryState::Delivered)];
///
/// assert_eq!(delivery_state(STATES, "SENT"), DeliveryState::Sent);
/// assert_eq!(delivery_state(STATES, "PONDERING"), DeliveryState::Unrecognised);
/// ```
pub fn delivery_state(states: &[(&str, DeliveryState)], word: &str) -> DeliveryState {
    row(states, word).unwrap_or(DeliveryState::Unrecognised)
}

pub(super) const PAGE: &str = "a web page responded instead of the gateway's API: check the base URL and any proxies";

/// Returns `true` if the gateway may have accepted the message despite this status.
pub(super) fn may_have_accepted(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::REQUEST_TIMEOUT || status.as_u16() >= 500
}

pub(super) fn by_status(status: StatusCode) -> ErrorClass {
    match status.as_u16() {
        300..=399 => ErrorClass::new(ErrorKind::Config),
        401 => ErrorClass::new(ErrorKind::Unauthenticated),
        402 => ErrorClass::new(ErrorKind::Account),
        403 => ErrorClass::new(ErrorKind::Forbidden),
        404 | 410 => ErrorClass::new(ErrorKind::NotFound),
        413 => ErrorClass::new(ErrorKind::TooLarge),
        429 => ErrorClass::new(ErrorKind::RateLimited).retry(None),
        408 | 500..=599 => ErrorClass::new(ErrorKind::Unavailable).retry(None),
        200..=299 | 400..=499 => ErrorClass::new(ErrorKind::Rejected),
        _ => ErrorClass::new(ErrorKind::Unexpected),
    }
}

pub(super) fn description(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Account => "the account is locked, restricted or out of credit",
        ErrorKind::Config => "the gateway does not know the requested resource: check the configuration",
        ErrorKind::Forbidden => "the credentials lack a permission",
        ErrorKind::InvalidMessage => "the gateway does not accept this message",
        ErrorKind::InvalidRecipient => "the address cannot be reached",
        ErrorKind::NotFound => "the gateway does not have it",
        ErrorKind::OptedOut => "the person has opted out",
        ErrorKind::OutsideWindow => "the service window has closed: use a template",
        ErrorKind::TooLarge => "it is too large for the gateway",
        ErrorKind::QuotaExceeded => "the quota is exhausted",
        ErrorKind::RateLimited => "too many requests",
        ErrorKind::Refused => "our policy refused the message",
        ErrorKind::Rejected => "the gateway refused",
        ErrorKind::Unauthenticated => "the credentials were not accepted",
        ErrorKind::Unavailable => "the gateway is unavailable",
        ErrorKind::Unexpected => "the gateway returned an unexpected response",
        ErrorKind::Unsupported => "the gateway does not support this",
    }
}

/// Parses a `Retry-After` header: seconds or an HTTP date in any of its three forms.
///
/// The result is at least 1 second and at most 24 hours. `None` for any other value.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::Timestamp;
/// use civic_messaging::adapter::retry_after;
///
/// let now = Timestamp::from_rfc2822("Sun, 22 Nov 2026 12:00:00 GMT").unwrap();
/// assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
/// assert_eq!(retry_after("Sun, 22 Nov 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("Sunday, 22-Nov-26 12:00:30 GMT", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("Sun Nov 22 12:00:30 2026", now), Some(Duration::from_secs(30)));
/// assert_eq!(retry_after("soon", now), None);
/// ```
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        // Some gateways write an offset in place of `GMT`, which no HTTP form allows.
        Timestamp::from_http_date(value).or_else(|| Timestamp::from_rfc2822(value))?.since(now)
    };
    Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

/// The minimum wait before a retry.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// The maximum wait before a retry.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_parsed_and_clamped() {
        let now = Timestamp::from_secs(1_795_000_000);
        let secs = |value: &str| retry_after(value, now).map(|d| d.as_secs());
        assert_eq!([secs("0"), secs("1"), secs(" 7 "), secs("999999999")], [Some(1), Some(1), Some(7), Some(86_400)]);
        assert_eq!(secs("99999999999999999999999999"), Some(86_400));
        for past in ["Thu, 01 Jan 1970 00:00:00 GMT", "Thursday, 01-Jan-70 00:00:00 GMT", "Thu Jan  1 00:00:00 1970"] {
            assert_eq!(secs(past), Some(1), "{past}");
        }
        for soon in ["Wed, 18 Nov 2026 11:07:30 GMT", "Wednesday, 18-Nov-26 11:07:30 GMT", "Wed Nov 18 11:07:30 2026"] {
            assert_eq!(secs(soon), Some(50), "{soon}");
        }
        for far in ["Sat, 01 Jan 2050 00:00:00 GMT", "Saturday, 01-Jan-50 00:00:00 GMT", "Sat Jan  1 00:00:00 2050"] {
            assert_eq!(secs(far), Some(86_400), "{far}");
        }
        for nonsense in ["", "-1", "1.5", "soon", "2026-11-22T12:00:00Z", "1e3", "٣"] {
            assert_eq!(secs(nonsense), None, "{nonsense}");
        }
    }
}
