//! What a council decides before and after a message: when it is there to answer, and what it says when it is not.
//!
//! What is here is pure: it reads no clock, no file and no network, and sends nothing. A decision is a value; what is done
//! with it is for the service, or for the switchboard that has a [`Policy`].
//!
//! | module | answers |
//! |---|---|
//! | [`hours`] | Is anybody there? When again? How much of this time was working time? |
//! | [`auto_reply`] | Is this message to be answered by itself, out of hours, and in which words? |

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;

use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::message::Message;

pub mod auto_reply;
pub mod hours;

/// Decides whether a message may go: asked when it is taken, and again right before it is sent.
///
/// ```
/// use civic_messaging::policy::hours::Hours;
/// use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
/// use civic_messaging::{Purpose, Result, async_trait};
///
/// /// This council sends no advertising, and nothing but emergencies while its office is closed.
/// #[derive(Debug)]
/// struct House(Hours);
///
/// #[async_trait]
/// impl Policy for House {
///     async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
///         Ok(match question.message.purpose {
///             Purpose::Marketing => Decision::Refuse(Reason::new("no-marketing", "this council sends no advertising")),
///             Purpose::Emergency => Decision::Allow,
///             _ if self.0.is_open(question.at)? => Decision::Allow,
///             _ => {
///                 let reason = Reason::new("office-hours", "it waits until the office opens");
///                 Decision::Defer { until: self.0.next_opening(question.at)?, reason }
///             }
///         })
///     }
/// }
/// ```
#[async_trait]
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Whether this message may go now.
    ///
    /// # Errors
    /// What keeps it from deciding, in words that hold no personal data: the message waits then, and it is asked again.
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision>;
}

/// What a [`Policy`] is asked.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// The line that the message is to go from.
    pub line: &'a str,
    /// The message.
    pub message: &'a Message,
    /// The moment at which it would go: now, or when it is due.
    pub at: Timestamp,
}

impl<'a> PolicyInput<'a> {
    /// Whether this message may go from this line at that moment.
    pub fn new(line: &'a str, message: &'a Message, at: Timestamp) -> Self {
        Self { line, message, at }
    }
}

/// What a [`Policy`] says.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may go.
    Allow,
    /// It may not go before this moment, at which the policy is asked again.
    Defer {
        /// The moment.
        until: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// It may not go.
    Refuse(Reason),
}

/// The rule by which a message may not go, and why, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    rule: Cow<'static, str>,
    words: Cow<'static, str>,
    of_medium: bool,
}

impl Reason {
    /// A rule by its short name, for counting, and words for the person who asks why. Neither may hold personal data.
    pub fn new(rule: impl Into<Cow<'static, str>>, words: impl Into<Cow<'static, str>>) -> Self {
        Self { rule: rule.into(), words: words.into(), of_medium: false }
    }

    /// Limits the reason to the medium of the message: what goes instead of it by another medium may go.
    ///
    /// Without it the reason is one of the person or of the message, and a refusal ends the fallback as well.
    ///
    /// ```
    /// use civic_messaging::policy::{Decision, Reason};
    ///
    /// let objects = Decision::Refuse(Reason::new("objection", "this person objected"));
    /// let unpaid = Decision::Refuse(Reason::new("sms-budget", "the SMS budget is spent").of_medium());
    /// # assert_ne!(objects, unpaid);
    /// ```
    #[must_use]
    pub fn of_medium(mut self) -> Self {
        self.of_medium = true;
        self
    }

    /// Returns `true` if the reason holds for the medium of the message only.
    pub fn is_of_medium(&self) -> bool {
        self.of_medium
    }

    /// The rule.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}
