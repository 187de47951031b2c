//! Budgets: caps on what may be sent in a period.

#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite-system")),
    allow(dead_code, reason = "the switchboard enforces them")
)]

use serde::{Deserialize, Serialize};

use super::{BillingPeriod, Reason};
use crate::model::address::Medium;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::message::{Currency, Message, Money, Purpose};
use crate::settings::Settings;

/// A cap on what may be sent in a period: in messages, in SMS segments, or in money.
///
/// A switchboard enforces it, exactly, over restarts and over several processes: see
/// `switchboard::Builder::budget`. It covers every line, medium, tag and purpose, unless it is
/// limited. A message that several budgets cover needs room in each.
///
/// ```
/// use civic_messaging::policy::BillingPeriod;
/// use civic_messaging::policy::budgets::{AtCap, Budget, BudgetCap};
/// use civic_messaging::{Medium, Purpose};
///
/// // 10,000 segments a financial year, without the answers to residents.
/// let texts = Budget::new("texts", BudgetCap::Segments(10_000), BillingPeriod::FinancialYear)?.exempt(Purpose::Reply);
/// assert_eq!(texts.medium, Some(Medium::Sms));
///
/// // 500 reminders a day: the rest of the campaign waits until midnight.
/// let reminders = Budget::new("reminders", BudgetCap::Messages(500), BillingPeriod::Day)?
///     .line("enquiries")
///     .tag("council-tax")
///     .at_cap(AtCap::Wait);
/// # assert_eq!(reminders.lines.len(), 1);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The name: 1 to 64 small letters, digits, `-` and `_`.
    pub name: String,
    /// The cap.
    pub cap: BudgetCap,
    /// The period after which it starts again.
    pub period: BillingPeriod,
    /// The lines covered: all, if none is named.
    pub lines: Vec<String>,
    /// The only medium covered: every medium, if not set.
    pub medium: Option<Medium>,
    /// The only tag covered: messages with any tag and without, if not set.
    pub tag: Option<String>,
    /// The purposes that are neither counted nor stopped.
    pub exempt: Vec<Purpose>,
    /// The consequence for a message beyond the cap.
    pub at_cap: AtCap,
}

/// The cap of a [`Budget`], and its unit.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetCap {
    /// A number of messages. Each attempt that the gateway accepted, or may have, counts.
    Messages(u64),
    /// A number of SMS segments.
    ///
    /// Where only the gateway knows the segments of a message, the maximum that its channel sends in one is reserved, and
    /// corrected if the gateway reports the number.
    Segments(u64),
    /// An amount of money.
    ///
    /// The price of the [tariff](super::tariffs) is reserved, without free allowances, and corrected if the gateway reports
    /// a price in the same currency. A message of unknown price is refused.
    Money(Money),
}

/// The consequence for a message beyond the cap of a [`Budget`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits until the next period.
    Wait,
}

impl Budget {
    /// Creates a budget.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid name, or a cap that is negative or over 2^63.
    pub fn new(name: impl Into<String>, cap: BudgetCap, period: BillingPeriod) -> Result<Self> {
        let name = name.into();
        let is_name = |name: &str| name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !(1..=64).contains(&name.len()) || !is_name(&name) {
            return Err(Error::config("name", "must be 1 to 64 small letters, digits, - and _"));
        }
        if cap.units().is_none() {
            return Err(Error::config(cap.unit(), "must not be negative, nor over 2^63"));
        }
        let medium = matches!(cap, BudgetCap::Segments(_)).then_some(Medium::Sms);
        let (lines, exempt) = (Vec::new(), Vec::new());
        Ok(Self { name, cap, period, lines, medium, tag: None, exempt, at_cap: AtCap::default() })
    }

    /// Reads a budget from a table of a configuration, such as `name = "texts"`, `segments = 10000`, `per = "month"`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the field: a missing, unknown or invalid one, or not exactly one
    /// cap.
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        settings.read_all::<BudgetWire>()?.try_into()
    }

    /// Limits it to a line, beside those named before.
    #[must_use]
    pub fn line(mut self, id: impl Into<String>) -> Self {
        self.lines.push(id.into());
        self
    }

    /// Limits it to a medium. A message that it stops may still be sent as its fallback on another medium.
    #[must_use]
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Limits it to messages with a [tag](Message::tag).
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Neither counts nor stops messages with a purpose.
    #[must_use]
    pub fn exempt(mut self, purpose: Purpose) -> Self {
        self.exempt.push(purpose);
        self
    }

    /// Sets the consequence for a message beyond the cap.
    #[must_use]
    pub fn at_cap(mut self, at_cap: AtCap) -> Self {
        self.at_cap = at_cap;
        self
    }

    /// Returns `true` if a message on a line and medium counts.
    pub fn covers(&self, line: &str, medium: &Medium, message: &Message) -> bool {
        (self.lines.is_empty() || self.lines.iter().any(|own| own == line))
            && self.medium.as_ref().is_none_or(|own| own == medium)
            && self.tag.as_ref().is_none_or(|own| message.tag.as_ref() == Some(own))
            && !self.exempt.contains(&message.purpose)
    }

    /// Returns the name of the counter for the period that contains this time, which no other budget, unit or period has.
    ///
    /// # Errors
    /// As [`BillingPeriod::start`].
    pub(crate) fn counter(&self, at: Timestamp) -> Result<String> {
        let (name, unit, start) = (&self.name, self.cap.unit(), self.period.start(at)?);
        Ok(match self.cap {
            BudgetCap::Money(money) => format!("{name} {} {} {start}", money.currency, self.period.as_str()),
            _ => format!("{name} {unit} {} {start}", self.period.as_str()),
        })
    }

    /// Returns the reason for a message beyond the cap.
    pub(crate) fn reason(&self) -> Reason {
        let (name, period) = (&self.name, self.period.as_str().replace('_', " "));
        self.limited(Reason::new(RULE, format!("the budget {name} of this {period} is spent")))
    }

    /// Returns the reason for a message whose price is not known.
    pub(crate) fn no_price(&self) -> Reason {
        self.limited(Reason::new(RULE, format!("no tariff states a price, which the budget {} needs", self.name)))
    }

    fn limited(&self, reason: Reason) -> Reason {
        if self.medium.is_some() { reason.for_medium() } else { reason }
    }
}

/// The name of the rule in decisions and errors.
const RULE: &str = "budget";

impl BudgetCap {
    /// Returns the number of units, micros for money: `None` if it is out of range.
    pub(crate) fn units(&self) -> Option<i64> {
        match self {
            Self::Messages(units) | Self::Segments(units) => i64::try_from(*units).ok(),
            Self::Money(money) => Some(money.micros).filter(|micros| *micros >= 0),
        }
    }

    /// Returns the same cap with another number of units.
    pub(crate) fn with_units(self, units: i64) -> Self {
        let whole = u64::try_from(units).unwrap_or(0);
        match self {
            Self::Messages(_) => Self::Messages(whole),
            Self::Segments(_) => Self::Segments(whole),
            Self::Money(Money { currency, .. }) => Self::Money(Money { micros: units, currency }),
        }
    }

    /// Returns the currency, if it is in money.
    pub fn currency(&self) -> Option<Currency> {
        match self {
            Self::Money(money) => Some(money.currency),
            _ => None,
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Messages(_) => "messages",
            Self::Segments(_) => "segments",
            Self::Money(_) => "money",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetWire {
    name: String,
    messages: Option<u64>,
    segments: Option<u64>,
    money: Option<String>,
    per: BillingPeriod,
    #[serde(default)]
    lines: Vec<String>,
    medium: Option<Medium>,
    tag: Option<String>,
    #[serde(default)]
    exempt: Vec<Purpose>,
    #[serde(default)]
    at_cap: AtCap,
}

impl TryFrom<BudgetWire> for Budget {
    type Error = Error;

    fn try_from(wire: BudgetWire) -> Result<Self> {
        let money = wire.money.map(|text| {
            let parts = text.trim().split_once(' ').map(|(amount, currency)| Money::parse(amount, currency.trim()));
            let rule = "must be an amount and a currency, such as \"250.00 GBP\"";
            parts.and_then(Result::ok).ok_or_else(|| Error::config("money", rule))
        });
        let caps = [wire.messages.map(BudgetCap::Messages), wire.segments.map(BudgetCap::Segments)];
        let caps: Vec<_> = caps.into_iter().flatten().chain(money.transpose()?.map(BudgetCap::Money)).collect();
        let [cap] = caps[..] else {
            return Err(Error::config("messages", "needs one cap: messages, segments or money"));
        };
        let mut budget = Self::new(wire.name, cap, wire.per)?;
        if budget.medium.is_some() && wire.medium.as_ref().is_some_and(|medium| *medium != Medium::Sms) {
            return Err(Error::config("medium", "must be sms: other media have no segments"));
        }
        budget.medium = wire.medium.or(budget.medium);
        (budget.lines, budget.tag, budget.exempt, budget.at_cap) = (wire.lines, wire.tag, wire.exempt, wire.at_cap);
        Ok(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::Address;

    fn read(json: &serde_json::Value) -> std::result::Result<Budget, String> {
        let settings = Settings::from_json(&json.to_string()).map_err(|error| error.to_string())?;
        Budget::from_settings(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn budget_covers_its_line_medium_tag_and_purposes() {
        let message = Message::text(Address::phone("07700 900123").unwrap(), "Hello").tag("bins");
        let budget = Budget::new("b", BudgetCap::Messages(1), BillingPeriod::Day).unwrap();
        let covers = |budget: &Budget, message: &Message| budget.covers("desk", &Medium::Sms, message);
        assert!(covers(&budget, &message));
        for (budget, expected) in [
            (budget.clone().line("leader"), false),
            (budget.clone().line("leader").line("desk"), true),
            (budget.clone().medium(Medium::WhatsApp), false),
            (budget.clone().tag("tax"), false),
            (budget.clone().tag("bins"), true),
            (budget.clone().exempt(Purpose::Reply), true),
        ] {
            assert_eq!(covers(&budget, &message), expected, "{budget:?}");
        }
        assert!(!covers(&budget.exempt(Purpose::Reply), &message.purpose(Purpose::Reply)));
    }

    #[test]
    fn counters_differ_by_name_unit_and_period() {
        let at = "2026-12-01T09:00:00Z".parse().unwrap();
        let mut counters = Vec::new();
        for name in ["a", "b"] {
            for cap in [
                BudgetCap::Messages(5),
                BudgetCap::Segments(5),
                BudgetCap::Money(Money::parse("5", "GBP").unwrap()),
                BudgetCap::Money(Money::parse("5", "USD").unwrap()),
            ] {
                for period in [BillingPeriod::Day, BillingPeriod::Month] {
                    counters.push(Budget::new(name, cap, period).unwrap().counter(at).unwrap());
                }
            }
        }
        assert_eq!(counters[1], "a messages month 2026-12-01");
        counters.sort();
        counters.dedup();
        assert_eq!(counters.len(), 16);
    }

    #[test]
    fn invalid_budget_names_its_field() {
        let base = serde_json::json!({ "name": "texts", "segments": 10, "per": "month" });
        assert_eq!(read(&base).unwrap().medium, Some(Medium::Sms));
        for (field, value, rule) in [
            ("name", serde_json::json!("Texts!"), "name: must be 1 to 64 small letters"),
            ("messages", serde_json::json!(5), "messages: needs one cap"),
            ("segments", serde_json::json!(u64::MAX), "segments: must not be negative"),
            ("segments", serde_json::Value::Null, "messages: needs one cap"),
            ("medium", serde_json::json!("whatsapp"), "medium: must be sms"),
            ("per", serde_json::json!("week"), "per: unknown variant"),
            ("limit", serde_json::json!(5), "limit: unknown field"),
        ] {
            let mut wrong = base.clone();
            wrong[field] = value;
            let error = read(&wrong).unwrap_err();
            assert!(error.contains(rule), "{field}: {error}");
        }
        for money in ["250", "250.00GBP", "-1 GBP", "1.2345678 GBP", "ten GBP"] {
            let error = read(&serde_json::json!({ "name": "m", "money": money, "per": "day" })).unwrap_err();
            assert!(error.contains("money: must"), "{money}: {error}");
        }
        let money = read(&serde_json::json!({ "name": "m", "money": "250.00 GBP", "per": "day" })).unwrap();
        assert_eq!(money.cap.units(), Some(250_000_000));
    }
}
