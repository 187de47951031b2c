//! The statements of officers' links.

use super::super::super::directory::PersonKey;
use super::super::super::flow::{Linked, LinkedTo, Persons};
use super::super::super::people::{LinkChange, PersonLinkRow};
use super::tx::{Db, Done, done, done_all};
use crate::model::clock::Timestamp;

const LINKS: &str = "SELECT line, current, NULL FROM link WHERE previous = ?1
             UNION ALL SELECT line, previous, NULL FROM link WHERE current = ?1
             UNION ALL SELECT line, one, other FROM person_link WHERE one_name = ?1 AND ended IS NULL
             UNION ALL SELECT line, other, one FROM person_link WHERE other_name = ?1 AND ended IS NULL";

/// Returns the name of an address's key.
fn name(key: &str) -> &str {
    key.split_once(':').map_or(key, |(_, name)| name)
}

#[expect(refining_impl_trait, reason = "the trait is for stores that wait, too")]
impl Persons for Db<'_> {
    fn controller_of(&self, line: &str) -> Done<Option<String>> {
        let of = "SELECT controller FROM line WHERE id = ?1";
        done(self.row(of, (line,), |row| row.get(0)).map(Option::flatten))
    }

    fn lines_of(&self, controller: &str) -> Done<Vec<String>> {
        done(self.rows("SELECT id FROM line WHERE coalesce(controller, '') = ?1", (controller,), |row| row.get(0)))
    }

    fn links_of(&self, names: Vec<String>) -> Done<Vec<Linked>> {
        done_all(|| {
            let mut links = Vec::new();
            for name in names {
                links.extend(self.rows(LINKS, (&name,), |row| {
                    let to = match row.get::<_, Option<String>>(2)? {
                        Some(other) => LinkedTo::Key(row.get(1)?, other),
                        None => LinkedTo::Name(row.get(1)?),
                    };
                    Ok(Linked { of: name.clone(), line: row.get(0)?, to })
                })?);
            }
            Ok(links)
        })
    }

    fn insert_person_link(&self, change: &LinkChange, now: Timestamp) -> Done<()> {
        let insert = "INSERT INTO person_link (line, one, one_name, other, other_name, officer, reason, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let LinkChange { line, keys: [one, other], officer, reason } = change;
        self.put(insert, (line, one, name(one), other, name(other), officer, reason, now))
    }

    fn links_between(&self, keys: &[String; 2]) -> Done<Vec<(i64, String)>> {
        let between = "SELECT id, line FROM person_link
             WHERE one_name = ?3 AND one = ?1 AND other = ?2 AND ended IS NULL
             UNION ALL SELECT id, line FROM person_link
             WHERE other_name = ?3 AND other = ?1 AND one = ?2 AND ended IS NULL";
        let [one, other] = keys;
        done(self.rows(between, (one, other, name(one)), |row| Ok((row.get(0)?, row.get(1)?))))
    }

    fn end_person_link(&self, id: i64, change: &LinkChange, now: Timestamp) -> Done<()> {
        let end = "UPDATE person_link SET ended = ?2, ended_by = ?3, ended_reason = ?4 WHERE id = ?1";
        self.put(end, (id, now, &change.officer, &change.reason))
    }

    fn person_links(&self, lines: Vec<String>, after: i64, max: u32) -> Done<Vec<PersonLinkRow>> {
        let listed = "SELECT id, line, one, other, officer, reason, at FROM person_link
             WHERE line = ?1 AND ended IS NULL AND id > ?2 ORDER BY id LIMIT ?3";
        done_all(|| {
            let mut all = Vec::new();
            for line in lines {
                all.extend(self.rows(listed, (line, after, max), |row| {
                    let (id, line, keys) = (row.get(0)?, row.get(1)?, [row.get(2)?, row.get(3)?]);
                    Ok(PersonLinkRow { id, line, keys, officer: row.get(4)?, reason: row.get(5)?, at: row.get(6)? })
                })?);
            }
            all.sort_by_key(|row: &PersonLinkRow| row.id);
            all.truncate(max as usize);
            Ok(all)
        })
    }

    fn forget_person_links(&self, keys: &[PersonKey]) -> Done<()> {
        let forget = "DELETE FROM person_link
             WHERE id IN (SELECT id FROM person_link WHERE one_name = ?2 AND one = ?1
                          UNION ALL SELECT id FROM person_link WHERE other_name = ?2 AND other = ?1)";
        let forget = |key: &PersonKey| self.change(forget, (&key.address, name(&key.address))).map(drop);
        done(keys.iter().try_for_each(forget))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn links_are_found_by_indexes() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {LINKS}")).unwrap();
        let steps = plan.query_map(("name",), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.map(Result::unwrap).collect();
        for by in [
            "INDEX link_previous (previous=?)",
            "INDEX link_current (current=?)",
            "INDEX person_link_one (one_name=?)",
            "INDEX person_link_other (other_name=?)",
        ] {
            assert!(steps.iter().any(|step| step.contains(by)), "{by}: {steps:#?}");
        }
        assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{steps:#?}");
    }
}
