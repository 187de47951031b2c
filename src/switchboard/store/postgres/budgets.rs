//! The counters of budgets.

use std::collections::BTreeMap;

use super::super::super::charge::{Charge, first_over};
use super::session::{Fault, Session};

/// Charges attempts one after the other, each wholly or not at all. Returns for each the place of a charge that has no
/// room.
pub(super) async fn spend(db: &Session, attempts: &[&[Charge]]) -> Result<Vec<Option<usize>>, Fault> {
    let names = attempts.iter().copied().flatten().map(|charge| charge.counter.clone());
    let mut used: BTreeMap<String, i64> = names.map(|counter| (counter, 0)).collect();
    let names: Vec<_> = used.keys().cloned().collect();
    // Ordered, to prevent deadlocks.
    let insert = "INSERT INTO civic_messaging.budget (counter, units)
         SELECT name, 0 FROM unnest($1::text[]) AS of (name) ORDER BY name ON CONFLICT DO NOTHING";
    db.change(insert, &[&names]).await?;
    let lock = "SELECT counter, units FROM civic_messaging.budget WHERE counter = ANY ($1) ORDER BY counter FOR UPDATE";
    for row in db.rows(lock, &[&names]).await? {
        used.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let (mut results, mut spent) = (Vec::new(), BTreeMap::<&str, i64>::new());
    for charges in attempts {
        let of = |charge: &Charge| {
            let spent = spent.get(&*charge.counter).copied().unwrap_or(0);
            used.get(&charge.counter).copied().unwrap_or(0).saturating_add(spent)
        };
        let over = first_over(charges, &charges.iter().map(of).collect::<Vec<_>>());
        if over.is_none() {
            for charge in *charges {
                let units = spent.entry(&charge.counter).or_default();
                *units = units.saturating_add(charge.units);
            }
        }
        results.push(over);
    }
    let (names, units): (Vec<_>, Vec<_>) = spent.into_iter().unzip();
    let add = "UPDATE civic_messaging.budget AS b SET units = b.units + of.units
         FROM unnest($1::text[], $2::bigint[]) AS of (counter, units) WHERE b.counter = of.counter";
    db.change(add, &[&names, &units]).await?;
    Ok(results)
}

/// Changes counters, each by a number of units, ordered by name.
pub(super) async fn change(db: &Session, changes: &[(String, i64)]) -> Result<(), Fault> {
    let add = "INSERT INTO civic_messaging.budget AS b (counter, units) VALUES ($1, $2)
         ON CONFLICT (counter) DO UPDATE SET units = b.units + $2";
    for (counter, units) in changes {
        db.change(add, &[counter, units]).await?;
    }
    Ok(())
}

/// Removes and returns the stored charges of a message's attempts with an unknown outcome.
pub(super) async fn take_charges(db: &Session, message: i64) -> Result<Vec<String>, Fault> {
    let take = "WITH taken AS (
             SELECT message, n, charges FROM civic_messaging.attempt
             WHERE message = $1 AND outcome = 'unknown' AND charges IS NOT NULL FOR UPDATE)
         UPDATE civic_messaging.attempt AS a SET charges = NULL FROM taken
         WHERE a.message = taken.message AND a.n = taken.n RETURNING taken.charges";
    Ok(db.rows(take, &[&message]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
