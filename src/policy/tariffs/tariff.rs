//! One price of one gateway, with its dates and its source.

use serde::{Deserialize, Serialize};

use crate::model::address::Medium;
use crate::model::error::{Error, Result};
use crate::model::message::{Currency, Money};
use crate::policy::hours::Date;
use crate::policy::period::BillingPeriod;

/// A price of a gateway, with the days on which it applies and its source.
///
/// In a file each is a `[[tariffs]]` table with these fields, where the price is `micros` and `currency`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TariffWire")]
pub struct Tariff {
    /// The gateway, as in [`Info::gateway`](crate::Info::gateway).
    pub gateway: String,
    /// The medium.
    pub medium: Medium,
    /// The direction.
    pub direction: Direction,
    /// The gateway's category, such as `utility` on WhatsApp. `None` for every message.
    pub category: Option<String>,
    /// The first digits of the phone numbers, without `+`: `44`. `None` for every address.
    pub country: Option<String>,
    /// The first day, in British time.
    pub from: Date,
    /// The first day on which it no longer applies. `None` if no end is known.
    pub until: Option<Date>,
    /// The unit that is charged.
    pub per: BilledUnit,
    /// The price of a unit, before tax.
    pub price: Money,
    /// The units that cost nothing.
    pub free: Option<FreeAllowance>,
    /// The source of the figures.
    pub source: String,
    /// The day on which the source was read.
    pub as_of: Date,
    /// The reliability of the source.
    pub confidence: Confidence,
}

/// The direction of a message: sent or received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Received from a resident.
    Inbound,
    /// Sent by the council.
    #[default]
    Outbound,
}

/// The unit that a gateway charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BilledUnit {
    /// A message.
    Message,
    /// A segment of a text message.
    Segment,
}

/// The units that cost nothing in each period, per account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeAllowance {
    /// The number of units.
    pub units: u64,
    /// The period after which the allowance starts again.
    pub period: BillingPeriod,
}

/// The reliability of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Remembered, or from one weak source: confirm it before relying on it.
    Unverified,
    /// From somebody who quotes the gateway.
    Secondary,
    /// From the gateway's own page, or from the council's contract.
    Primary,
}

impl std::fmt::Display for Confidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unverified => "unverified",
            Self::Secondary => "secondary",
            Self::Primary => "primary",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TariffWire {
    gateway: String,
    medium: Medium,
    #[serde(default)]
    direction: Direction,
    category: Option<String>,
    country: Option<String>,
    from: Date,
    until: Option<Date>,
    per: BilledUnit,
    micros: i64,
    currency: Currency,
    free: Option<FreeAllowance>,
    source: String,
    as_of: Date,
    confidence: Confidence,
}

impl TryFrom<TariffWire> for Tariff {
    type Error = Error;

    fn try_from(wire: TariffWire) -> Result<Self> {
        let is_code = |code: &String| {
            (1..=15).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit()) && !code.starts_with('0')
        };
        let wrong = [
            (wire.micros < 0, "micros", "must not be negative"),
            (wire.until.is_some_and(|until| until <= wire.from), "until", "must be after the day in from"),
            (
                !wire.country.as_ref().is_none_or(is_code),
                "country",
                "must be a calling code without + and zeros, such as 44",
            ),
            (wire.free.is_some_and(|free| free.units == 0), "free.units", "must not be 0: leave the allowance out"),
            (wire.gateway.trim().is_empty(), "gateway", "is empty"),
            (wire.category.as_ref().is_some_and(|category| category.trim().is_empty()), "category", "is empty"),
            (wire.source.trim().is_empty(), "source", "is empty: say where the price is from"),
        ];
        if let Some((_, field, rule)) = wrong.into_iter().find(|(is_wrong, ..)| *is_wrong) {
            return Err(Error::config(field, rule));
        }
        Ok(Self {
            gateway: wire.gateway,
            medium: wire.medium,
            direction: wire.direction,
            category: wire.category,
            country: wire.country,
            from: wire.from,
            until: wire.until,
            per: wire.per,
            price: Money { micros: wire.micros, currency: wire.currency },
            free: wire.free,
            source: wire.source,
            as_of: wire.as_of,
            confidence: wire.confidence,
        })
    }
}

impl Tariff {
    /// Returns the price of this many units, after `used` units of the free allowance of the period were used.
    pub fn cost(&self, units: u64, used: u64) -> Money {
        let free = self.free.map_or(0, |free| free.units.saturating_sub(used));
        let paid = i64::try_from(units.saturating_sub(free)).unwrap_or(i64::MAX);
        Money { micros: self.price.micros.saturating_mul(paid), currency: self.price.currency }
    }

    /// Returns the subject of the price: it has one price a day.
    pub(super) fn subject(&self) -> (&str, &str, Direction, Option<&str>, Option<&str>) {
        let Self { gateway, medium, direction, category, country, .. } = self;
        (gateway, medium.as_str(), *direction, category.as_deref(), country.as_deref())
    }
}
