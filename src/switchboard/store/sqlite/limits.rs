//! The rows of recent messages.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use super::super::super::limits::{Check, Checked, read, stored};
use crate::model::clock::Timestamp;

/// Evaluates a check.
pub(super) fn check(db: &Connection, check: &Check) -> rusqlite::Result<Checked> {
    let mut rows = BTreeMap::new();
    for key in &check.keys {
        let of = "SELECT messages FROM recent WHERE key = ?1";
        let row: Option<String> = db.prepare_cached(of)?.query_row((key,), |row| row.get(0)).optional()?;
        rows.insert(key.clone(), row.map(|row| read(&row)).unwrap_or_default());
    }
    let before = rows.get(&check.own).cloned();
    let checked = check.evaluate(&mut rows);
    if let Some(row) = rows.get(&check.own).filter(|row| Some(*row) != before.as_ref()) {
        let set = "INSERT INTO recent (key, messages, expires) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET messages = ?2, expires = max(expires, ?3)";
        db.prepare_cached(set)?.execute((&check.own, stored(row), check.expires()))?;
    }
    Ok(checked)
}

/// Removes rows that nothing needs any more.
pub(super) fn purge(db: &Connection, now: Timestamp, max: u32) -> rusqlite::Result<()> {
    let purge =
        "DELETE FROM recent WHERE key IN (SELECT key FROM recent WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    db.prepare_cached(purge)?.execute((now, max)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limits::Bursts;

    #[test]
    fn recent_numbers_are_removed_after_their_window() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let rows = || db.query_row("SELECT count(*) FROM recent", (), |row| row.get::<_, i64>(0)).unwrap();
        check(&db, &Check::bursts(Bursts::new(), "desk", 447_700_900_123, Timestamp::from_secs(0))).unwrap();
        purge(&db, Timestamp::from_secs(3_599), 9).unwrap();
        assert_eq!(rows(), 1);
        purge(&db, Timestamp::from_secs(3_600), 9).unwrap();
        assert_eq!(rows(), 0);
    }
}
