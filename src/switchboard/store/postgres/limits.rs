//! The rows of recent messages.

use std::collections::BTreeMap;

use super::super::super::limits::{Check, Checked, read, stored};
use super::session::{Fault, Session};

/// Evaluates checks one after the other.
pub(super) async fn check(db: &Session, checks: &[&Check]) -> Result<Vec<Checked>, Fault> {
    let keys = checks.iter().flat_map(|check| check.keys.iter().cloned());
    let mut rows: BTreeMap<String, Vec<_>> = keys.map(|key| (key, Vec::new())).collect();
    let keys: Vec<_> = rows.keys().cloned().collect();
    // Ordered, to prevent deadlocks. A new row is locked as well, so that nobody else counts at the same time.
    let insert = "INSERT INTO civic_messaging.recent (key, messages, expires)
         SELECT key, '', 0 FROM unnest($1::text[]) AS of (key) ORDER BY key ON CONFLICT DO NOTHING";
    db.change(insert, &[&keys]).await?;
    let lock = "SELECT key, messages FROM civic_messaging.recent WHERE key = ANY ($1) ORDER BY key FOR UPDATE";
    for row in db.rows(lock, &[&keys]).await? {
        rows.insert(row.try_get(0)?, read(row.try_get(1)?));
    }
    let (mut results, mut expires) = (Vec::new(), BTreeMap::<&str, i64>::new());
    for check in checks {
        results.push(check.evaluate(&mut rows));
        let until = expires.entry(&check.own).or_default();
        *until = (*until).max(check.expires().as_millis());
    }
    let (keys, expires): (Vec<_>, Vec<_>) = expires.into_iter().unzip();
    let changed: Vec<_> = keys.iter().map(|key| rows.get(*key).map(|row| stored(row)).unwrap_or_default()).collect();
    let set = "UPDATE civic_messaging.recent AS r SET messages = of.messages, expires = greatest(r.expires, of.expires)
         FROM unnest($1::text[], $2::text[], $3::bigint[]) AS of (key, messages, expires) WHERE r.key = of.key";
    db.change(set, &[&keys, &changed, &expires]).await?;
    Ok(results)
}

/// Removes rows that nothing needs any more.
pub(super) async fn purge(db: &Session, now: i64, max: i64) -> Result<(), Fault> {
    let purge = "DELETE FROM civic_messaging.recent WHERE key IN (
             SELECT key FROM civic_messaging.recent WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)";
    db.change(purge, &[&now, &max]).await.map(drop)
}
