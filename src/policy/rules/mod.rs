//! Ready rules, and rules of your own, as one ordered policy.
//!
//! ```
//! use civic_messaging::policy::rules::{Places, QuietHours, Rules};
//! use civic_messaging::policy::{Decision, Policy, PolicyInput};
//! use civic_messaging::{Address, Message, Purpose};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let rules = Rules::new().rule(Places::uk()).rule(QuietHours::new("21:00".parse()?, "08:00".parse()?)?);
//!
//! let reminder = Message::text(Address::phone("07700 900123")?, "Your collection is tomorrow.").purpose(Purpose::Notice);
//! let night = "2026-11-22T23:30:00Z".parse()?;
//! let decision = rules.decide(&PolicyInput::new("enquiries", &reminder, night)).await?;
//! let Decision::Defer { until, reason } = decision else { panic!("not deferred") };
//! assert_eq!((until, reason.rule()), ("2026-11-23T08:00:00Z".parse()?, "quiet-hours"));
//! # Ok::<(), civic_messaging::Error>(()) }).unwrap();
//! ```

mod places;
mod quiet_hours;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::places::Places;
pub use self::quiet_hours::QuietHours;
use crate::model::error::Result;
use crate::policy::{Decision, Policy, PolicyInput};

/// An ordered list of rules, as one [`Policy`].
///
/// Every rule is asked. A refusal beats a deferral, whatever their order: the reason is that of the first rule that
/// refuses. Of several deferrals the latest applies, because until then one rule would defer the message again; of two
/// with the same time, the first. Without rules, every message may be sent.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Arc<dyn Policy>>,
}

impl Rules {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind those that are there: a ready one, or a [`Policy`] of your own.
    #[must_use]
    pub fn rule(mut self, rule: impl Policy) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }
}

#[async_trait]
impl Policy for Rules {
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
        let mut decision = Decision::Allow;
        for rule in &self.rules {
            decision = stricter(decision, rule.decide(input).await?);
        }
        Ok(decision)
    }
}

/// Returns the stricter of two decisions: the first, if they are equally strict.
fn stricter(first: Decision, second: Decision) -> Decision {
    match (&first, &second) {
        (Decision::Refuse(_), _) | (_, Decision::Allow) => first,
        (Decision::Allow, _) | (_, Decision::Refuse(_)) => second,
        (Decision::Defer { until: a, .. }, Decision::Defer { until: b, .. }) => {
            if b > a {
                second
            } else {
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::address::Address;
    use crate::model::clock::Timestamp;
    use crate::model::message::Message;
    use crate::policy::Reason;

    /// A rule that always decides this.
    #[derive(Debug)]
    struct Always(Decision);

    #[async_trait]
    impl Policy for Always {
        async fn decide(&self, _: &PolicyInput<'_>) -> Result<Decision> {
            Ok(self.0.clone())
        }
    }

    fn decisions() -> impl Strategy<Value = Vec<Decision>> {
        let one = (0..4_i64, 0..3_u8).prop_map(|(n, kind)| match kind {
            0 => Decision::Allow,
            1 => Decision::Defer { until: Timestamp::from_secs(n), reason: Reason::new(format!("defer-{n}"), "x") },
            _ => Decision::Refuse(Reason::new(format!("refuse-{n}"), "x")),
        });
        proptest::collection::vec(one, 0..6)
    }

    fn decide(decisions: &[Decision]) -> Decision {
        let rules = decisions.iter().fold(Rules::new(), |rules, decision| rules.rule(Always(decision.clone())));
        let message = Message::text(Address::phone("07700 900123").unwrap(), "Hello");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(rules.decide(&PolicyInput::new("desk", &message, Timestamp::default()))).unwrap()
    }

    proptest! {
        #[test]
        fn refusal_beats_deferral_beats_permission(decisions in decisions()) {
            let refusal = decisions.iter().find(|decision| matches!(decision, Decision::Refuse(_)));
            let until = |decision: &Decision| match decision {
                Decision::Defer { until, .. } => Some(*until),
                _ => None,
            };
            let latest = decisions.iter().filter_map(until).max();
            let deferral = decisions.iter().find(|decision| latest.is_some() && until(decision) == latest);
            let expected = refusal.or(deferral).cloned().unwrap_or(Decision::Allow);
            prop_assert_eq!(decide(&decisions), expected.clone());
            // Another rule never permits more, and the same rules again change nothing.
            let twice: Vec<_> = decisions.iter().chain(&decisions).cloned().collect();
            prop_assert_eq!(decide(&twice), expected);
        }
    }
}
