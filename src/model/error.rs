//! What went wrong, whether the message may have gone, and what to do next.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::model::id::{MessageId, is_code, is_trace};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong between a council and a gateway.
///
/// Ask it three things: [`outcome`](Self::outcome) says whether a resident may have got the message,
/// [`kind`](Self::kind) says what to do, [`is_retryable`](Self::is_retryable) says whether the same request may be
/// made again. The text that `Display` gives is written for the person who has to act on it, and holds no token,
/// number, id or message text, whatever the gateway answered.
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
    trace: Option<String>,
    help: Option<Cow<'static, str>>,
    reply: StatusCode,
    accepted: Vec<MessageId>,
    pair: bool,
    scope: Option<Scope>,
    raw: Option<Bytes>,
}

/// Whether a resident may have got the message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Certainly not sent: nothing of the request left this machine, or no send was tried.
    NotSent,
    /// Certainly not sent: the gateway said no.
    Rejected,
    /// It may have gone. Never send it again blindly: wait for a status event, ask with
    /// [`look_up`](crate::Channel::look_up), or let a person decide.
    Unknown,
}

/// What an error asks of the program that gets it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The account is locked, restricted or out of money: stop the channel and tell somebody.
    Account,
    /// A setting is wrong: mend the configuration.
    Config,
    /// The credentials are good but may not do this: ask for the permission.
    Forbidden,
    /// The message itself is wrong: change it. [`Error::field`] says where.
    InvalidMessage,
    /// Nobody can be reached at this address: ask the person for another.
    InvalidRecipient,
    /// The thing that was asked for is not there, or no longer.
    NotFound,
    /// This person does not want messages: do not try again, by any gateway.
    OptedOut,
    /// The person has not written lately enough for free text: use a template.
    OutsideWindow,
    /// A webhook body or a file is over its limit.
    TooLarge,
    /// A quota of the day or month is used up: wait for the next one.
    QuotaExceeded,
    /// Too many requests: wait for [`Error::retry_after`]; where that is none, some seconds, and longer each time.
    RateLimited,
    /// Our own [`policy`](crate::policy) said no: the words give the rule.
    Refused,
    /// The gateway said no for a reason of its own: see [`Error::code`].
    Rejected,
    /// The credentials, or a webhook's signature, were not accepted.
    Unauthenticated,
    /// The gateway, or the way to it, does not work at the moment.
    Unavailable,
    /// An answer that could not be read.
    Unexpected,
    /// This channel cannot do it: see [`Info::capability`](crate::Info::capability).
    Unsupported,
}

/// What a fault lies in, and so what else fails as long as it lasts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Our own account or the way to the gateway: its credentials, configuration, permissions, balance. No message goes by
    /// it until that is repaired.
    Channel,
    /// This message.
    Message,
    /// The person: their address, their choice, or what we may send to it.
    Recipient,
    /// A template: messages that do not use it are not affected.
    Template,
}

impl Outcome {
    /// The outcome as one word, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

impl ErrorKind {
    /// Whether another gateway could take what one refused for a reason of this kind.
    ///
    /// | kind | another could | because |
    /// |---|---|---|
    /// | `Account`, `QuotaExceeded`, `RateLimited` | yes | it is this account's own trouble |
    /// | `Config`, `Forbidden`, `Unauthenticated` | yes | it is how this account is set up |
    /// | `NotFound` | yes | a template, a sender that this account does not have |
    /// | `Unavailable` | yes | it does not work |
    /// | `Unsupported` | yes | it cannot do this |
    /// | `OptedOut` | **no** | the person said no to the council, and not to a supplier |
    /// | `InvalidRecipient` | **no** | nobody is there, by whichever gateway |
    /// | `InvalidMessage`, `TooLarge`, `OutsideWindow` | **no** | the message breaks a rule of the medium |
    /// | `Refused` | **no** | it is our own no |
    /// | `Rejected` | **no** | an unknown no, which could be the person's own |
    /// | `Unexpected` | **no** | nobody knows what it means |
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

    /// Returns what a fault of this kind lies in, where no row of an error table says otherwise.
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

    /// The kind as one word, as it is stored.
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
    /// An error of this kind, in plain words, when nothing was sent. One of kind [`ErrorKind::RateLimited`] or
    /// [`ErrorKind::Unavailable`] is retryable, unless [`with_retry`](Self::with_retry) says otherwise.
    ///
    /// `what` must not hold a token, number, id or message text: it is shown in logs.
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
            trace: None,
            help: None,
            reply: match kind {
                ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::Unauthenticated => StatusCode::FORBIDDEN,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            },
            accepted: Vec::new(),
            pair: false,
            scope: None,
            raw: None,
        }))
    }

    /// A message that breaks a rule: which field, which rule.
    pub fn invalid(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidMessage, rule).with_field(field)
    }

    /// An address that breaks a rule.
    pub fn recipient(rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRecipient, rule).with_field("to")
    }

    /// A setting that breaks a rule: which setting, which rule.
    pub fn config(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, rule).with_field(field)
    }

    /// Something that this channel cannot do.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    /// A send that may have arrived.
    pub fn unknown(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, what).with_outcome(Outcome::Unknown)
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether a resident may have got the message.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether the same request may be made again, after [`retry_after`](Self::retry_after). Never true when the
    /// outcome is unknown, nor when the gateway took a part of it.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable && self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty()
    }

    /// How long to wait at least before the next try, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether it holds for this pair of sender and recipient only, so that messages to others may go on: a limit of how
    /// often one person is written to.
    pub fn is_per_recipient(&self) -> bool {
        self.0.pair
    }

    /// Returns what the fault lies in: the message, its template, its recipient, or the whole channel.
    pub fn scope(&self) -> Scope {
        let by_kind = if self.0.pair { Scope::Recipient } else { self.0.kind.scope() };
        self.0.scope.unwrap_or(by_kind)
    }

    /// Returns `true` if no message goes by this account until somebody repairs it, and this one certainly did not go.
    ///
    /// What passes by itself, such as [`ErrorKind::Unavailable`], is retried and does not count.
    pub fn is_account_fault(&self) -> bool {
        let certain = self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty();
        certain && !self.0.retryable && self.scope() == Scope::Channel
    }

    /// The gateway's own code, such as `131047` or `21610`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The HTTP status that the gateway answered with.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The gateway's id of the failed call, for its support desk.
    pub fn request_id(&self) -> Option<&str> {
        self.0.trace.as_deref()
    }

    /// The gateway that said it, or to which it should have gone.
    pub fn gateway(&self) -> Option<&str> {
        self.0.gateway.as_deref()
    }

    /// The field of the message or configuration that is wrong.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// A link to the gateway's page about this code.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The status with which a webhook route should answer the gateway.
    ///
    /// For errors of [`receive`](crate::Channel::receive), and not of a send that followed: a gateway that is told 503
    /// posts the webhook again, and the send would be made again with it.
    ///
    /// 401 for a request without a proof, 403 for one whose proof is wrong, 413 for one that is too large, and 503 for everything
    /// that is our own fault: some gateways drop an event for good on any other 4xx.
    pub fn webhook_status(&self) -> StatusCode {
        self.0.reply
    }

    /// The ids of the parts that the gateway did accept before a send of several parts failed.
    pub fn accepted_parts(&self) -> &[MessageId] {
        &self.0.accepted
    }

    /// The gateway's whole answer. It may hold personal data: keep it out of logs.
    pub fn raw(&self) -> Option<&Bytes> {
        self.0.raw.as_ref()
    }

    /// What is wrong, without the rest that `Display` shows.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    pub(crate) fn with_what(mut self, what: impl Into<Cow<'static, str>>) -> Self {
        self.0.what = what.into();
        self
    }

    /// The error of a send of which an earlier try may have gone: it may have gone, by the gateway of that try, whatever
    /// this one says. A no that is the person's or the medium's own stays the kind of it.
    pub(crate) fn after_doubt(mut self, mut doubt: Self) -> Self {
        let certain = self.0.outcome != Outcome::Unknown && self.0.accepted.is_empty();
        let one = certain || self.0.gateway == doubt.0.gateway;
        let gateway = if one { doubt.0.gateway.take() } else { None };
        let parts = [std::mem::take(&mut doubt.0.accepted), std::mem::take(&mut self.0.accepted)].concat();
        let mut error = if self.0.kind.is_failover_eligible() { doubt } else { self };
        (error.0.gateway, error.0.accepted, error.0.outcome) = (gateway, parts, Outcome::Unknown);
        error
    }

    /// Whether it passes with time, a half-taken message among them, of which nothing may be made again.
    pub(crate) fn passes(&self) -> bool {
        self.0.retryable
    }

    /// Sets whether the message may have gone.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Sets whether the same request may be made again.
    #[must_use]
    pub fn with_retry(mut self, retryable: bool, after: Option<Duration>) -> Self {
        self.0.retryable = retryable;
        self.0.retry_after = after;
        self
    }

    /// Says that it holds for this pair of sender and recipient only.
    #[must_use]
    pub fn with_pair(mut self, pair: bool) -> Self {
        self.0.pair = pair;
        self
    }

    /// Sets what the fault lies in, where that is not what its [kind](ErrorKind::scope) says.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.0.scope = Some(scope);
        self
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Names the gateway.
    #[must_use]
    pub fn with_gateway(mut self, gateway: impl Into<Cow<'static, str>>) -> Self {
        self.0.gateway = Some(gateway.into());
        self
    }

    /// Keeps the gateway's code. One that does not look like a code is left out, since it could hold anything: a code is
    /// a number of up to 7 digits, a word of up to 12 letters and digits, or words of up to 32 letters, with `.`, `_` and
    /// `-`, and neither a token nor a message id.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.0.code = is_code(code).then(|| code.to_owned());
        self
    }

    /// Keeps a code that is known not to hold anything else: one of a table, or of our own.
    #[must_use]
    pub(crate) fn with_known_code(mut self, code: &str) -> Self {
        self.0.code = Some(code.to_owned());
        self
    }

    /// Keeps the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Keeps the gateway's id of the call. One that looks like a number, a token or a message id, or is none of up to 32
    /// letters, digits, `.`, `_` and `-`, is left out. UUIDs, and Twilio's `RQ` with 32 hexadecimal digits, are kept.
    #[must_use]
    pub fn with_request_id(mut self, trace: &str) -> Self {
        self.0.trace = is_trace(trace).then(|| trace.to_owned());
        self
    }

    /// Links the gateway's page about it.
    #[must_use]
    pub fn with_help(mut self, url: impl Into<Cow<'static, str>>) -> Self {
        self.0.help = Some(url.into());
        self
    }

    /// Sets the status with which a webhook route should answer.
    #[must_use]
    pub fn with_webhook_status(mut self, status: StatusCode) -> Self {
        self.0.reply = status;
        self
    }

    /// Keeps the ids of the parts that were accepted before the failure.
    #[must_use]
    pub fn with_accepted_parts(mut self, ids: Vec<MessageId>) -> Self {
        self.0.accepted = ids;
        self
    }

    /// Keeps the gateway's answer.
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
            f.write_str("; it may have been sent, so do not send it again blindly")?;
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
            .field("trace", &e.trace)
            .field("accepted_parts", &e.accepted.len())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

/// What a gateway's code means: one row of its table.
///
/// Rows are data, and a configuration can override them, because vendors change their codes and their meaning. A
/// retry is allowed only where the gateway documents that it is useful.
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
    /// What the program should do.
    pub kind: ErrorKind,
    /// Whether the same request may be made again.
    #[serde(default)]
    pub retryable: bool,
    /// The least wait before that, in the configuration as whole seconds.
    #[serde(default, with = "seconds")]
    pub after: Option<Duration>,
    /// The gateway documents that a message refused with this code was not accepted, whatever the HTTP status.
    #[serde(default)]
    pub not_accepted: bool,
    /// It holds for one pair of sender and recipient, and not for messages to others.
    #[serde(default)]
    pub pair: bool,
    /// What the fault lies in, where that is not what the [kind](ErrorKind::scope) says.
    #[serde(default)]
    pub scope: Option<Scope>,
}

impl ErrorClass {
    /// A refusal that a second try does not cure.
    pub const fn new(kind: ErrorKind) -> Self {
        Self { kind, retryable: false, after: None, not_accepted: false, pair: false, scope: None }
    }

    /// A refusal that may be tried again after this wait.
    #[must_use]
    pub const fn retry(self, after: Option<Duration>) -> Self {
        Self { retryable: true, after, ..self }
    }

    /// Marks a code that means "not accepted" even under a 5xx status.
    #[must_use]
    pub const fn not_accepted(self) -> Self {
        Self { not_accepted: true, ..self }
    }

    /// Marks a code that is about one pair of sender and recipient.
    #[must_use]
    pub const fn per_recipient(self) -> Self {
        Self { pair: true, ..self }
    }

    /// Sets what the fault lies in.
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
    fn an_unknown_outcome_and_a_half_taken_message_are_never_retryable() {
        let half = Error::new(ErrorKind::Unavailable, "no").with_accepted_parts(vec![MessageId::new("SM1")]);
        assert!(!half.is_retryable());
        let error = Error::unknown("no answer").with_retry(true, None);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("do not send it again"));
    }

    #[test]
    fn the_words_are_those_that_are_stored() {
        for kind in [ErrorKind::Account, ErrorKind::OptedOut, ErrorKind::QuotaExceeded, ErrorKind::Unsupported] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for outcome in [Outcome::NotSent, Outcome::Rejected, Outcome::Unknown] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn codes_that_could_hold_text_are_left_out() {
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
    fn our_own_faults_are_never_a_4xx_to_the_gateway() {
        assert_eq!(Error::config("token", "is empty").webhook_status(), 503);
        assert_eq!(Error::new(ErrorKind::Unauthenticated, "no").webhook_status(), 403);
        assert_eq!(Error::new(ErrorKind::TooLarge, "no").webhook_status(), 413);
    }
}
