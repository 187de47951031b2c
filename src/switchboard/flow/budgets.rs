//! The rules of budgets: an attempt is charged before it begins, and settled when it ends.

use std::collections::BTreeMap;

use super::super::charge::{self, Charge, StoredCharge};
use super::super::record::{End, Settle};
use super::super::register::Begun;
use super::super::status::State;
use super::register::end_refused;
use super::{Tx, settle};
use crate::model::clock::Timestamp;
use crate::policy::Reason;

/// Charges an attempt that is about to begin, or puts its message off or ends it, where a budget has no room.
pub(super) async fn charge_begin<T: Tx>(
    tx: &T,
    id: i64,
    charges: &[Charge],
    now: Timestamp,
) -> Result<Option<Begun>, T::Error> {
    let Some(over) = tx.spend(charges).await?.and_then(|n| charges.get(n)) else { return Ok(None) };
    let Some(until) = over.until else {
        end_refused(tx, id, &over.reason, now).await?;
        return Ok(Some(Begun::Refused(over.reason.clone())));
    };
    defer(tx, id, (&over.reason, until), now).await?;
    Ok(Some(Begun::Deferred(over.reason.clone())))
}

/// Puts a message off until a time.
pub(super) async fn defer<T: Tx>(
    tx: &T,
    id: i64,
    (reason, until): (&Reason, Timestamp),
    now: Timestamp,
) -> Result<(), T::Error> {
    tx.insert_decision(id, "defer", reason, now).await?;
    let from = &[State::Queued, State::Deferred, State::Claimed];
    let reason = Some(reason.to_string());
    settle(tx, id, &Settle { state: State::Deferred, due: Some(until), reason, from, now }).await.map(drop)
}

/// Releases the charges of an attempt that did not begin.
pub(super) async fn release<T: Tx>(tx: &T, charges: &[Charge]) -> Result<(), T::Error> {
    change(tx, charges.iter().map(|charge| (charge.units.saturating_neg(), charge.counter.clone()))).await
}

/// Settles the charges of an attempt that ends: what was not sent is released, and what the gateway reports replaces the
/// estimate.
pub(super) async fn charge_end<T: Tx>(tx: &T, charges: &str, end: &End) -> Result<(), T::Error> {
    let charges = charge::read(charges).into_iter();
    let settled = |charge: StoredCharge| (charge.change(end.outcome, end.segments, end.price.as_ref()), charge.counter);
    change(tx, charges.map(settled)).await
}

/// Releases the charges of attempts whose outcome was unknown, and which were certainly not sent.
pub(super) async fn release_unknown<T: Tx>(tx: &T, id: i64) -> Result<(), T::Error> {
    let charges = tx.take_charges(id).await?;
    let charges = charges.iter().flat_map(|charges| charge::read(charges));
    change(tx, charges.map(|charge| (charge.units.saturating_neg(), charge.counter))).await
}

async fn change<T: Tx>(tx: &T, changes: impl Iterator<Item = (i64, String)>) -> Result<(), T::Error> {
    let mut sums = BTreeMap::<String, i64>::new();
    for (units, counter) in changes.filter(|(units, _)| *units != 0) {
        let sum = sums.entry(counter).or_default();
        *sum = sum.saturating_add(units);
    }
    if sums.is_empty() { Ok(()) } else { tx.change_counters(&sums.into_iter().collect::<Vec<_>>()).await }
}

/// Returns the units of counters: none for one that is not there.
pub(in super::super) async fn used<T: Tx>(tx: &T, counters: &[String]) -> Result<Vec<i64>, T::Error> {
    let there: BTreeMap<_, _> = tx.counters(counters).await?.into_iter().collect();
    Ok(counters.iter().map(|counter| there.get(counter).copied().unwrap_or(0)).collect())
}
