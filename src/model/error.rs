//! The error of every operation: its kind, the outcome of the send, and what to do next.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::model::id::{MessageId, is_code, is_request_id};

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a channel, layer or gateway.
///
/// Three methods decide what to do: [`outcome`](Self::outcome) is whether a resident may have received the message,
/// [`kind`](Self::kind) is the remedy, and [`is_retryable`](Self::is_retryable) is whether the same request may be
/// repeated. The `Display` text is for the person who has to act on it. It contains no token, number, id or message
/// text, whatever the gateway returned.
///
/// ```
/// use civic_messaging::{Address, ChannelExt, ErrorKind, Message, Mock, Outcome};
///
/// let sms = Mock::sms();
/// let empty = Message::text(Address::phone("07700 900123")?, "");
/// let error = sms.check(&empty).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidMessage);
/// assert_eq!(error.field(), Some("text"));
/// assert_eq!(error.outcome(), Outcome::NotSent);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    retryable: bool,
    retry_after: Option<Duration>,
    what: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    gateway: Option<Cow<'static, str>>,
    code: Option<String>,
    status: Option<StatusCode>,
    request_id: Option<String>,
    help: Option<Cow<'static, str>>,
    webhook_status: StatusCode,
    accepted: Vec<MessageId>,
    per_recipient: bool,
    scope: Option<Scope>,
    raw: Option<Bytes>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The outcome of a failed send: whether a resident may have received the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not sent: no byte of the request left this machine, or no send was attempted.
    NotSent,
    /// Not sent: the gateway refused the message.
    Rejected,
    /// The gateway may have accepted the message. Never resend it blindly: wait for a status event, call
    /// [`look_up`](crate::Channel::look_up), or let a person decide.
    Unknown,
}

/// The kind of an error, and its remedy.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The account is locked, restricted or out of credit: stop the channel and alert somebody.
    Account,
    /// A setting is wrong: correct the configuration.
    Config,
    /// The credentials are valid but lack a permission: request it.
    Forbidden,
    /// The message is invalid: change it. [`Error::field`] names the field.
    InvalidMessage,
    /// The address cannot be reached: ask the person for another.
    InvalidRecipient,
    /// The requested resource does not exist, or no longer does.
    NotFound,
    /// The person has opted out: do not retry through any gateway.
    OptedOut,
    /// The service window for free text has closed: use a template.
    OutsideWindow,
    /// A webhook body or a file exceeds its limit.
    TooLarge,
    /// The quota of the day or month is exhausted: wait for the next period.
    QuotaExceeded,
    /// Too many requests: wait for [`Error::retry_after`], or back off if there is none.
    RateLimited,
    /// Our own [`policy`](crate::policy) refused the message: the text names the rule.
    Refused,
    /// The gateway refused the message for another reason: see [`Error::code`].
    Rejected,
    /// The credentials, or a webhook's signature, were not accepted.
    Unauthenticated,
    /// The gateway, or the network path to it, is unavailable.
    Unavailable,
    /// A response could not be parsed.
    Unexpected,
    /// The channel does not support this: see [`Info::capability`](crate::Info::capability).
    Unsupported,
}

/// The extent of a fault, and so what else fails while it lasts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Our account or the path to the gateway: credentials, configuration, permissions, balance. No message can be sent
    /// through it until it is repaired.
    Channel,
    /// This message.
    Message,
    /// The recipient: their address, their choice, or what may be sent to them.
    Recipient,
    /// A template. Messages that do not use it are not affected.
    Template,
}

impl Outcome {
    /// Returns the outcome's stable name, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

impl ErrorKind {
    /// Returns `true` if another gateway may accept a message that failed with this kind.
    ///
    /// | kind | eligible | reason |
    /// |---|---|---|
    /// | `Account`, `QuotaExceeded`, `RateLimited` | yes | specific to this account |
    /// | `Config`, `Forbidden`, `Unauthenticated` | yes | specific to this account's configuration |
    /// | `NotFound` | yes | a template or sender that this account does not have |
    /// | `Unavailable` | yes | specific to this gateway |
    /// | `Unsupported` | yes | specific to this gateway |
    /// | `OptedOut` | **no** | the opt-out is from the council, not from a supplier |
    /// | `InvalidRecipient` | **no** | the address is invalid at every gateway |
    /// | `InvalidMessage`, `TooLarge`, `OutsideWindow` | **no** | the message breaks a rule of the medium |
    /// | `Refused` | **no** | our own policy refused it |
    /// | `Rejected` | **no** | the reason is unknown and could be an opt-out |
    /// | `Unexpected` | **no** | the cause is unknown |
    pub const fn is_failover_eligible(self) -> bool {
        matches!(
            self,
            Self::Account
                | Self::Config
                | Self::Forbidden
                | Self::NotFound
                | Self::QuotaExceeded
                | Self::RateLimited
                | Self::Unauthenticated
                | Self::Unavailable
                | Self::Unsupported
        )
    }

    /// Returns the default scope of this kind, which a row of an error table can override.
    ///
    /// | kind | scope |
    /// |---|---|
    /// | `Account`, `Config`, `Forbidden`, `QuotaExceeded`, `RateLimited`, `Unauthenticated`, `Unavailable` | channel |
    /// | `InvalidRecipient`, `OptedOut`, `OutsideWindow` | recipient |
    /// | all others | message |
    pub const fn scope(self) -> Scope {
        match self {
            Self::Account
            | Self::Config
            | Self::Forbidden
            | Self::QuotaExceeded
            | Self::RateLimited
            | Self::Unauthenticated
            | Self::Unavailable => Scope::Channel,
            Self::InvalidRecipient | Self::OptedOut | Self::OutsideWindow => Scope::Recipient,
            _ => Scope::Message,
        }
    }

    /// Returns the kind's stable name, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Config => "config",
            Self::Forbidden => "forbidden",
            Self::InvalidMessage => "invalid_message",
            Self::InvalidRecipient => "invalid_recipient",
            Self::NotFound => "not_found",
            Self::OptedOut => "opted_out",
            Self::OutsideWindow => "outside_window",
            Self::TooLarge => "too_large",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::Unexpected => "unexpected",
            Self::Unsupported => "unsupported",
        }
    }
}

impl Error {
    /// Creates an error whose outcome is [`Outcome::NotSent`].
    ///
    /// The kinds [`ErrorKind::RateLimited`] and [`ErrorKind::Unavailable`] are retryable unless
    /// [`with_retry`](Self::with_retry) changes that.
    ///
    /// `what` must not contain a token, number, id or message text: it appears in logs.
    pub fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome: Outcome::NotSent,
            retryable: matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable),
            retry_after: None,
            what: what.into(),
            field: None,
            gateway: None,
            code: None,
            status: None,
            request_id: None,
            help: None,
            webhook_status: match kind {
                ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::Unauthenticated => StatusCode::FORBIDDEN,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            },
            accepted: Vec::new(),
            per_recipient: false,
            scope: None,
            raw: None,
            source: None,
        }))
    }

    /// Creates an error for an invalid message: the field and the rule it breaks.
    pub fn invalid(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidMessage, rule).with_field(field)
    }

    /// Creates an error for an invalid address.
    pub fn recipient(rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRecipient, rule).with_field("to")
    }

    /// Creates an error for an invalid setting: its name and the rule it breaks.
    pub fn config(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, rule).with_field(field)
    }

    /// Creates an error for a feature that the channel does not support.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    /// Creates an error for a send whose outcome is unknown.
    pub fn unknown(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, what).with_outcome(Outcome::Unknown)
    }

    /// Returns the kind, which determines what to do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the outcome: whether a resident may have received the message.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Returns `true` if the same request may be repeated after [`retry_after`](Self::retry_after).
    ///
    /// Always `false` if the outcome is unknown or the gateway accepted a part of the message.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable && self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty()
    }

    /// Returns the minimum wait before the next attempt, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns `true` if the error applies to one pair of sender and recipient, such as a rate limit per recipient.
    ///
    /// Messages to other recipients are not affected.
    pub fn is_per_recipient(&self) -> bool {
        self.0.per_recipient
    }

    /// Returns the scope of the fault: the message, its template, its recipient, or the whole channel.
    pub fn scope(&self) -> Scope {
        let by_kind = if self.0.per_recipient { Scope::Recipient } else { self.0.kind.scope() };
        self.0.scope.unwrap_or(by_kind)
    }

    /// Returns `true` if the account cannot send until it is repaired, and this message was certainly not sent.
    ///
    /// Transient errors, such as [`ErrorKind::Unavailable`], are retried and do not count.
    pub fn is_account_fault(&self) -> bool {
        let certain = self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty();
        certain && !self.0.retryable && self.scope() == Scope::Channel
    }

    /// Returns the gateway's error code, such as `131047` or `21610`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Returns the HTTP status of the gateway's response.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the gateway's id of the failed request, for its support desk.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Returns the gateway that returned the error, or that the message was to be sent through.
    pub fn gateway(&self) -> Option<&str> {
        self.0.gateway.as_deref()
    }

    /// Returns the invalid field of the message or configuration.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// Returns a link to the gateway's documentation of this code.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Returns the HTTP status for a webhook's response.
    ///
    /// Use it for errors of [`receive`](crate::Channel::receive) only, not for those of a later send: a 503 makes the
    /// gateway redeliver the webhook, and the send would be repeated.
    ///
    /// 401 for a request without a signature, 403 for a wrong signature, 413 for a body that is too large, and 503 for
    /// every fault of ours: some gateways permanently drop an event on any other 4xx.
    pub fn webhook_status(&self) -> StatusCode {
        self.0.webhook_status
    }

    /// Returns the ids of the parts accepted before a send of several parts failed.
    pub fn accepted_parts(&self) -> &[MessageId] {
        &self.0.accepted
    }

    /// Returns the gateway's raw response. It may contain personal data: keep it out of logs.
    pub fn raw(&self) -> Option<&Bytes> {
        self.0.raw.as_ref()
    }

    /// Returns the description without the context that `Display` adds.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    pub(crate) fn with_what(mut self, what: impl Into<Cow<'static, str>>) -> Self {
        self.0.what = what.into();
        self
    }

    /// Combines this error with an earlier attempt's, whose outcome is unknown: the result stays unknown. The kind is
    /// that of this error if it is not eligible for failover, else that of the earlier one.
    pub(crate) fn after_unknown(mut self, mut earlier: Self) -> Self {
        let certain = self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty();
        let one = certain || self.0.gateway == earlier.0.gateway;
        let gateway = if one { earlier.0.gateway.take() } else { None };
        let parts = [std::mem::take(&mut earlier.0.accepted), std::mem::take(&mut self.0.accepted)].concat();
        let mut error = if self.0.kind.is_failover_eligible() { earlier } else { self };
        (error.0.gateway, error.0.accepted, error.0.outcome) = (gateway, parts, Outcome::Unknown);
        error
    }

    /// Returns `true` if the fault is transient, even if the message was partly accepted and must not be resent.
    pub(crate) fn is_transient(&self) -> bool {
        self.0.retryable
    }

    /// Sets the outcome.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Sets whether the same request may be repeated, and the minimum wait.
    #[must_use]
    pub fn with_retry(mut self, retryable: bool, after: Option<Duration>) -> Self {
        self.0.retryable = retryable;
        self.0.retry_after = after;
        self
    }

    /// Sets whether the error applies to one pair of sender and recipient only.
    #[must_use]
    pub fn with_per_recipient(mut self, per_recipient: bool) -> Self {
        self.0.per_recipient = per_recipient;
        self
    }

    /// Sets the scope, if it differs from that of the [kind](ErrorKind::scope).
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.0.scope = Some(scope);
        self
    }

    /// Sets the invalid field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Sets the gateway.
    #[must_use]
    pub fn with_gateway(mut self, gateway: impl Into<Cow<'static, str>>) -> Self {
        self.0.gateway = Some(gateway.into());
        self
    }

    /// Sets the gateway's code.
    ///
    /// Anything that does not look like a code is dropped, since it could contain personal data. A code is a number of
    /// up to 7 digits, a word of up to 12 letters and digits, or words of up to 32 letters, with `.`, `_` and `-`, and
    /// neither a token nor a message id.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.0.code = is_code(code).then(|| code.to_owned());
        self
    }

    /// Sets a code that is known to be safe: one from a table, or our own.
    #[must_use]
    pub(crate) fn with_known_code(mut self, code: &str) -> Self {
        self.0.code = Some(code.to_owned());
        self
    }

    /// Sets the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Sets the gateway's request id.
    ///
    /// Anything that looks like a number, a token or a message id, or is not 1 to 32 letters, digits, `.`, `_` and `-`,
    /// is dropped. UUIDs, and Twilio's `RQ` with 32 hexadecimal digits, are kept.
    #[must_use]
    pub fn with_request_id(mut self, id: &str) -> Self {
        self.0.request_id = is_request_id(id).then(|| id.to_owned());
        self
    }

    /// Sets the cause, which must contain no secret and no personal data.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Sets a link to the gateway's documentation.
    #[must_use]
    pub fn with_help(mut self, url: impl Into<Cow<'static, str>>) -> Self {
        self.0.help = Some(url.into());
        self
    }

    /// Sets the HTTP status for a webhook's response.
    #[must_use]
    pub fn with_webhook_status(mut self, status: StatusCode) -> Self {
        self.0.webhook_status = status;
        self
    }

    /// Sets the ids of the parts accepted before the failure.
    #[must_use]
    pub fn with_accepted_parts(mut self, ids: Vec<MessageId>) -> Self {
        self.0.accepted = ids;
        self
    }

    /// Sets the gateway's raw response.
    #[must_use]
    pub fn with_raw(mut self, raw: Bytes) -> Self {
        self.0.raw = Some(raw);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        if let Some(gateway) = &e.gateway {
            write!(f, "{gateway}: ")?;
        }
        if let Some(field) = &e.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&e.what)?;
        if let Some(code) = &e.code {
            write!(f, "; code {code}")?;
        }
        if let Some(status) = e.status {
            write!(f, "; HTTP {}", status.as_u16())?;
        }
        if e.outcome == Outcome::Unknown {
            f.write_str("; the message may have been accepted, so do not resend it blindly")?;
        }
        if let Some(after) = e.retry_after {
            write!(f, "; wait {} s", after.as_secs_f32())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        f.debug_struct("Error")
            .field("kind", &e.kind)
            .field("scope", &self.scope())
            .field("outcome", &e.outcome)
            .field("retryable", &self.is_retryable())
            .field("retry_after", &e.retry_after)
            .field("gateway", &e.gateway)
            .field("field", &e.field)
            .field("what", &e.what)
            .field("code", &e.code)
            .field("status", &e.status)
            .field("request_id", &e.request_id)
            .field("accepted_parts", &e.accepted.len())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    /// Returns the [`TransportError`](crate::transport::TransportError) of a call without a response; no other error
    /// has a source, because those of vendors and parsers may contain personal data.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The meaning of a gateway's error code: one row of its table.
///
/// Rows are data that a configuration can override, because vendors change their codes. A retry is allowed only where
/// the gateway documents that it helps.
///
/// ```
/// use std::time::Duration;
/// use civic_messaging::ErrorKind;
/// use civic_messaging::error::ErrorClass;
///
/// const ROWS: &[(&str, ErrorClass)] = &[
///     ("131047", ErrorClass::new(ErrorKind::OutsideWindow)),
///     ("130429", ErrorClass::new(ErrorKind::RateLimited).retry(Some(Duration::from_secs(1))).not_accepted()),
/// ];
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorClass {
    /// The kind, and so the remedy.
    pub kind: ErrorKind,
    /// Allows repeating the same request.
    #[serde(default)]
    pub retryable: bool,
    /// The minimum wait before a retry, in whole seconds in a configuration.
    #[serde(default, with = "seconds")]
    pub after: Option<Duration>,
    /// The gateway documents that it did not accept a message with this code, whatever the HTTP status.
    #[serde(default)]
    pub not_accepted: bool,
    /// Applies to one pair of sender and recipient, not to messages to others.
    #[serde(default)]
    pub per_recipient: bool,
    /// The scope, if it differs from that of the [kind](ErrorKind::scope).
    #[serde(default)]
    pub scope: Option<Scope>,
}

impl ErrorClass {
    /// Creates a row that is not retryable.
    pub const fn new(kind: ErrorKind) -> Self {
        Self { kind, retryable: false, after: None, not_accepted: false, per_recipient: false, scope: None }
    }

    /// Allows a retry after this wait.
    #[must_use]
    pub const fn retry(self, after: Option<Duration>) -> Self {
        Self { retryable: true, after, ..self }
    }

    /// Marks a code as "not accepted" even under a 5xx status.
    #[must_use]
    pub const fn not_accepted(self) -> Self {
        Self { not_accepted: true, ..self }
    }

    /// Marks a code as specific to one pair of sender and recipient.
    #[must_use]
    pub const fn per_recipient(self) -> Self {
        Self { per_recipient: true, ..self }
    }

    /// Sets the scope.
    #[must_use]
    pub const fn scope(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(after: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        after.map(|d| d.as_secs()).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_partly_accepted_are_never_retryable() {
        let half = Error::new(ErrorKind::Unavailable, "no").with_accepted_parts(vec![MessageId::new("SM1")]);
        assert!(!half.is_retryable());
        let error = Error::unknown("no answer").with_retry(true, None);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("do not resend it"));
    }

    #[test]
    fn names_match_the_stored_values() {
        for kind in [ErrorKind::Account, ErrorKind::OptedOut, ErrorKind::QuotaExceeded, ErrorKind::Unsupported] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for outcome in [Outcome::NotSent, Outcome::Rejected, Outcome::Unknown] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn codes_that_could_contain_text_are_dropped() {
        assert_eq!(Error::unsupported("x").with_code("131047").code(), Some("131047"));
        assert_eq!(Error::unsupported("x").with_code("+447700900123").code(), None);
        assert_eq!(Error::unsupported("x").with_code("447700900123").code(), None);
        assert_eq!(Error::unsupported("x").with_code("hello there").code(), None);
        let hidden =
            ["wamid.HBgMNDQ3NzAwOTAwMTIzFQIAERgSMEE5", "HBgMNDQ3NzAwOTAwMTIz", "EAAG-canary-token", "447700900123"];
        for canary in hidden {
            let error = Error::unsupported("x").with_code(canary).with_request_id(canary);
            assert_eq!((error.code(), error.request_id()), (None, None), "{canary}");
            assert!(!format!("{error} {error:?}").contains(canary));
        }
        assert_eq!(
            Error::unsupported("x").with_request_id("AbCdEf123GhIjKlMnOpQr").request_id(),
            Some("AbCdEf123GhIjKlMnOpQr")
        );
    }

    #[test]
    fn our_faults_are_never_a_4xx_to_the_gateway() {
        assert_eq!(Error::config("token", "is empty").webhook_status(), 503);
        assert_eq!(Error::new(ErrorKind::Unauthenticated, "no").webhook_status(), 403);
        assert_eq!(Error::new(ErrorKind::TooLarge, "no").webhook_status(), 413);
    }
}
