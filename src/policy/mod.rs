//! Policy: opening hours, auto-replies, and the trait that decides if a message may be sent.
//!
//! Everything here is pure: it reads no clock, no file and no network, and sends nothing. A decision is a value; acting on
//! it is for the service, or for the switchboard that has a [`Policy`].
//!
//! | module | answers |
//! |---|---|
//! | [`hours`] | Is the office open? When does it open next? How much of a period was working time? |
//! | [`auto_reply`] | Is an out-of-hours reply due, and with which text? |
//! | [`rules`] | May a message go now? Quiet hours, places, and rules of your own, in one order |
//! | [`tariffs`] | What does a message cost? |
//! | [`budgets`] | Is there room left for it in this period? |
//! | [`limits`] | Was the person, or the range of numbers, sent too many lately? |

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;

use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::message::Message;

pub mod auto_reply;
pub mod budgets;
pub mod hours;
pub mod limits;
mod period;
pub mod rules;
pub mod tariffs;
#[cfg(any(feature = "postgres", feature = "sqlite-system"))]
pub(crate) mod windows;

pub use self::period::BillingPeriod;

/// Decides if a message may be sent: evaluated when the message is enqueued, and again right before it is sent.
///
/// ```
/// use civic_messaging::policy::hours::Hours;
/// use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
/// use civic_messaging::{Purpose, Result, async_trait};
///
/// /// This council sends no advertising, and nothing but emergencies while its office is closed.
/// #[derive(Debug)]
/// struct OfficePolicy(Hours);
///
/// #[async_trait]
/// impl Policy for OfficePolicy {
///     async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
///         Ok(match input.message.purpose {
///             Purpose::Marketing => Decision::Refuse(Reason::new("no-marketing", "this council sends no advertising")),
///             Purpose::Emergency => Decision::Allow,
///             _ if self.0.is_open(input.at)? => Decision::Allow,
///             _ => {
///                 let reason = Reason::new("office-hours", "waits until the office opens");
///                 Decision::Defer { until: self.0.next_opening(input.at)?, reason }
///             }
///         })
///     }
/// }
/// ```
#[async_trait]
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Decides if the message may be sent at this time.
    ///
    /// # Errors
    /// The reason why no decision is possible, without personal data. The message waits, and the policy is evaluated again
    /// later.
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision>;
}

/// The input of a [`Policy`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// The line that sends the message.
    pub line: &'a str,
    /// The message.
    pub message: &'a Message,
    /// The time at which the message would be sent: now, or when it is due.
    pub at: Timestamp,
}

impl<'a> PolicyInput<'a> {
    /// Creates the input.
    pub fn new(line: &'a str, message: &'a Message, at: Timestamp) -> Self {
        Self { line, message, at }
    }
}

/// The decision of a [`Policy`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The message may be sent.
    Allow,
    /// The message waits, and the policy is evaluated again at this time.
    Defer {
        /// The time of the next evaluation.
        until: Timestamp,
        /// The reason.
        reason: Reason,
    },
    /// The message must not be sent.
    Refuse(Reason),
}

/// The rule that keeps a message from being sent, with an explanation in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    rule: Cow<'static, str>,
    text: Cow<'static, str>,
    for_medium: bool,
}

impl Reason {
    /// Creates a reason from the rule's short name, for counting, and an explanation. Neither may hold personal data.
    pub fn new(rule: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { rule: rule.into(), text: text.into(), for_medium: false }
    }

    /// Limits the reason to the medium of the message: its fallback on another medium may still be sent.
    ///
    /// By default the reason concerns the person or the message, and a refusal ends the fallback as well.
    ///
    /// ```
    /// use civic_messaging::policy::{Decision, Reason};
    ///
    /// let objection = Decision::Refuse(Reason::new("objection", "this person objected"));
    /// let budget = Decision::Refuse(Reason::new("sms-budget", "the SMS budget is spent").for_medium());
    /// # assert_ne!(objection, budget);
    /// ```
    #[must_use]
    pub fn for_medium(mut self) -> Self {
        self.for_medium = true;
        self
    }

    /// Returns `true` if the reason is limited to the medium of the message.
    pub fn is_for_medium(&self) -> bool {
        self.for_medium
    }

    /// Returns the short name of the rule.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
