//! The counters of budgets.

use rusqlite::{Connection, OptionalExtension};

use super::super::super::charge::{Charge, first_over};

/// Charges an attempt wholly or not at all. Returns the place of a charge that has no room.
pub(super) fn spend(db: &Connection, charges: &[Charge]) -> rusqlite::Result<Option<usize>> {
    let used = charges.iter().map(|charge| units(db, &charge.counter)).collect::<Result<Vec<_>, _>>()?;
    let over = first_over(charges, &used);
    if over.is_none() {
        charges.iter().try_for_each(|charge| add(db, &charge.counter, charge.units))?;
    }
    Ok(over)
}

/// Adds units to a counter.
pub(super) fn add(db: &Connection, counter: &str, units: i64) -> rusqlite::Result<()> {
    let add = "INSERT INTO budget (counter, units) VALUES (?1, ?2)
         ON CONFLICT (counter) DO UPDATE SET units = units + ?2";
    db.prepare_cached(add)?.execute((counter, units)).map(drop)
}

/// Returns the units of a counter: none for one that is not there.
pub(super) fn units(db: &Connection, counter: &str) -> rusqlite::Result<i64> {
    let of = "SELECT units FROM budget WHERE counter = ?1";
    Ok(db.prepare_cached(of)?.query_row((counter,), |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Removes and returns the stored charges of a message's attempts with an unknown outcome.
pub(super) fn take_charges(db: &Connection, message: i64) -> rusqlite::Result<Vec<String>> {
    let of = "SELECT charges FROM attempt WHERE message = ?1 AND outcome = 'unknown' AND charges IS NOT NULL";
    let charges = db.prepare_cached(of)?.query_map((message,), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let take = "UPDATE attempt SET charges = NULL WHERE message = ?1 AND outcome = 'unknown' AND charges IS NOT NULL";
    db.prepare_cached(take)?.execute((message,))?;
    Ok(charges)
}
