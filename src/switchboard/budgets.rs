//! Budgets of a switchboard: what they charge, and what is left of them.

use std::collections::BTreeSet;

use super::charge::{Charge, ChargeUnit};
use super::{Builder, Line, Switchboard};
use crate::channel::{Channel, ChannelExt};
use crate::model::address::Medium;
use crate::model::capability::Unit;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::message::Message;
use crate::policy::budgets::{AtCap, Budget, BudgetCap};
use crate::policy::tariffs::{Direction, PriceQuery, Tariffs};
use crate::policy::{BillingPeriod, Reason};

/// The state of a budget in the current period.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The budget's name.
    pub name: String,
    /// The period after which it starts again.
    pub period: BillingPeriod,
    /// When it starts again.
    pub ends: Timestamp,
    /// The cap.
    pub cap: BudgetCap,
    /// What was taken from it: what gateways accepted, or may have, and what is being sent. It exceeds the cap only where a
    /// gateway reported more than was reserved.
    pub used: BudgetCap,
}

impl Builder {
    /// Adds a budget, which caps what is sent in a period.
    ///
    /// Each attempt takes from the budgets that cover it in the transaction that records the start of its send, and what was
    /// certainly not sent is given back when it ends. An unknown outcome stays counted until a look-up or a person finds
    /// that it was not sent. Together, accepted and unknown sends never exceed the cap, over restarts and over all processes
    /// on a store. After a restore from a backup, sends since the backup are not counted.
    ///
    /// A message beyond the cap is refused when it is due, with the rule `budget`, or waits for the next period:
    /// [`AtCap`].
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// Sets the prices of budgets in money: [`Tariffs::standard`] by default.
    #[must_use]
    pub fn tariffs(mut self, tariffs: Tariffs) -> Self {
        self.tariffs = Some(tariffs);
        self
    }
}

impl Switchboard {
    /// Returns the state of each budget in the current period, in their order.
    ///
    /// ```
    /// use civic_messaging::policy::BillingPeriod;
    /// use civic_messaging::policy::budgets::{Budget, BudgetCap};
    /// use civic_messaging::switchboard::{Line, Store, Switchboard};
    /// use civic_messaging::Mock;
    ///
    /// # if !cfg!(feature = "sqlite-system") { return }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let texts = Budget::new("texts", BudgetCap::Messages(500), BillingPeriod::Month)?;
    /// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?)
    ///     .line(Line::new("enquiries").channel(Mock::sms()))
    ///     .budget(texts)
    ///     .build()?;
    /// let states = switchboard.budgets().await?;
    /// assert_eq!((states[0].used, states[0].cap), (BudgetCap::Messages(0), BudgetCap::Messages(500)));
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn budgets(&self) -> Result<Vec<BudgetState>> {
        let (inner, now) = (&*self.0, self.0.clock.now());
        let budgets = &inner.budgets.all;
        let counters = budgets.iter().map(|budget| budget.counter(now)).collect::<Result<Vec<_>>>()?;
        let used = inner.store.0.used(counters).await?;
        let state = |(budget, used): (&Budget, i64)| {
            let Budget { ref name, period, cap, .. } = *budget;
            Ok(BudgetState { name: name.clone(), period, ends: period.end(now)?, cap, used: cap.with_units(used) })
        };
        budgets.iter().zip(used).map(state).collect()
    }
}

/// The budgets of a switchboard, with the prices that they need.
#[derive(Debug)]
pub(super) struct Budgets {
    all: Vec<Budget>,
    tariffs: Tariffs,
}

impl Budgets {
    pub(super) fn new(all: Vec<Budget>, tariffs: Option<Tariffs>) -> Result<Self> {
        let tariffs = match tariffs {
            Some(tariffs) => tariffs,
            None if all.iter().any(|budget| budget.cap.currency().is_some()) => Tariffs::standard()?,
            None => Tariffs::new(),
        };
        Ok(Self { all, tariffs })
    }

    /// Returns what an attempt takes from the budgets that cover it.
    ///
    /// # Errors
    /// The reason why a budget refuses it without counting: no tariff states its price.
    pub(super) fn charges(
        &self,
        line: &str,
        channel: &dyn Channel,
        message: &Message,
        now: Timestamp,
    ) -> Result<Vec<Charge>, Reason> {
        let info = channel.info();
        let covering = self.all.iter().filter(|budget| budget.covers(line, &info.medium, message));
        covering.map(|budget| self.charge(budget, channel, message, now)).collect()
    }

    fn charge(
        &self,
        budget: &Budget,
        channel: &dyn Channel,
        message: &Message,
        now: Timestamp,
    ) -> Result<Charge, Reason> {
        let info = channel.info();
        let segments = || {
            let most = info.capability.text.filter(|limit| limit.unit == Unit::Segments).map(|limit| limit.max);
            channel.plan(message).segments().or(most).unwrap_or(1).max(1) as u64
        };
        let (units, unit) = match budget.cap {
            BudgetCap::Segments(_) => (segments().try_into().unwrap_or(i64::MAX), ChargeUnit::Segments),
            BudgetCap::Money(cap) => {
                // What is left of a free allowance is not known here.
                let query = PriceQuery::from_message(message, info, now).used(u64::MAX);
                let units = if info.medium == Medium::Sms { segments() } else { 1 };
                let price = self.tariffs.price(&query.units(units)).and_then(|price| price.as_money());
                let price = price.filter(|price| price.currency == cap.currency).ok_or_else(|| budget.no_price())?;
                (price.micros, ChargeUnit::Money(cap.currency.to_string()))
            }
            _ => (1, ChargeUnit::Messages),
        };
        let (Ok(counter), Ok(ends)) = (budget.counter(now), budget.period.end(now)) else {
            return Err(Reason::new("budget", "the clock shows no year between 1996 and 2099"));
        };
        let until = (budget.at_cap == AtCap::Wait).then_some(ends);
        let cap = budget.cap.units().unwrap_or(0);
        Ok(Charge { counter, units, cap, until, reason: budget.reason(), unit })
    }

    /// Returns everything that is wrong with budgets of these lines.
    pub(super) fn faults(&self, lines: &[Line]) -> Vec<Error> {
        let (mut faults, mut names) = (Vec::new(), BTreeSet::new());
        for (n, budget) in self.all.iter().enumerate() {
            let mut wrong = |field: &str, rule: String| {
                faults.push(Error::config(format!("budgets[{n}].{field}"), rule));
            };
            if !names.insert(&budget.name) {
                wrong("name", format!("is a duplicate: {}", budget.name));
            }
            for id in &budget.lines {
                if !lines.iter().any(|line| line.id == *id) {
                    let near = crate::settings::nearest(id, lines.iter().map(|line| &*line.id));
                    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    wrong("lines", format!("names the unknown line {id}{hint}"));
                }
            }
            let Some(currency) = budget.cap.currency() else { continue };
            let covered = lines.iter().filter(|line| budget.lines.is_empty() || budget.lines.contains(&line.id));
            let infos: BTreeSet<_> = covered
                .flat_map(|line| &line.channels)
                .map(|channel| channel.info())
                .filter(|info| budget.medium.as_ref().is_none_or(|own| *own == info.medium))
                .map(|info| (info.gateway, info.medium.as_str()))
                .collect();
            for (gateway, medium) in infos {
                let of = self.tariffs.iter().filter(|tariff| {
                    tariff.gateway == gateway
                        && tariff.medium.as_str() == medium
                        && tariff.direction == Direction::Outbound
                });
                let currencies: BTreeSet<_> = of.map(|tariff| tariff.price.currency.to_string()).collect();
                if currencies.is_empty() {
                    wrong("money", format!("needs a price: no tariff is for {gateway} and {medium}"));
                } else if !currencies.contains(currency.as_str()) {
                    let of: Vec<_> = currencies.into_iter().collect();
                    let rule = format!("is in {currency}, but {gateway} charges {medium} in {}", of.join(", "));
                    wrong("money", rule);
                }
            }
        }
        faults
    }
}
