//! What an attempt takes from budgets.

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::message::Price;
use crate::policy::Reason;

/// What an attempt takes from one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    /// The counter of the budget's period.
    pub(super) counter: String,
    pub(super) units: i64,
    pub(super) cap: i64,
    /// When the message is decided again if the cap is reached: `None` if it is refused.
    pub(super) until: Option<Timestamp>,
    /// The reason if the cap is reached.
    pub(super) reason: Reason,
    /// What the gateway reports in the same unit.
    pub(super) unit: ChargeUnit,
}

/// The unit of a charge, as far as a gateway reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChargeUnit {
    Messages,
    Segments,
    /// Micros of this currency.
    Money(String),
}

/// A charge of an attempt, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredCharge {
    pub(super) counter: String,
    pub(super) units: i64,
    pub(super) unit: ChargeUnit,
}

impl StoredCharge {
    /// Returns the change of the counter when an attempt ends: what was not sent is released, and the gateway's own
    /// figure replaces the estimate. An unknown outcome may have cost it.
    pub(super) fn change(&self, outcome: &str, segments: Option<u32>, price: Option<&Price>) -> i64 {
        let reported = match &self.unit {
            ChargeUnit::Messages => None,
            ChargeUnit::Segments => segments.map(i64::from),
            ChargeUnit::Money(currency) => price
                .and_then(Price::as_money)
                .filter(|money| money.currency.as_str() == currency && money.micros >= 0)
                .map(|money| money.micros),
        };
        match outcome {
            "unknown" => 0,
            "accepted" => reported.map_or(0, |reported| reported.saturating_sub(self.units)),
            _ => self.units.saturating_neg(),
        }
    }
}

/// Returns charges as stored with their attempt: `None` for none.
pub(super) fn stored(charges: &[Charge]) -> Option<String> {
    let charge = |charge: &Charge| StoredCharge {
        counter: charge.counter.clone(),
        units: charge.units,
        unit: charge.unit.clone(),
    };
    let all: Vec<_> = charges.iter().map(charge).collect();
    if all.is_empty() { None } else { serde_json::to_string(&all).ok() }
}

/// Reads stored charges. Those that cannot be read stay counted.
pub(super) fn read(stored: &str) -> Vec<StoredCharge> {
    serde_json::from_str(stored).unwrap_or_default()
}

/// Returns the place of the first charge for which a counter has no room. `used` is what is counted for each.
pub(super) fn first_over(charges: &[Charge], used: &[i64]) -> Option<usize> {
    let has_room = |(charge, used): (&Charge, &i64)| used.saturating_add(charge.units) <= charge.cap;
    charges.iter().zip(used).position(|pair| !has_room(pair))
}
