//! The statements of the register of opt-outs.

use std::collections::BTreeSet;
use std::future::ready;

use rusqlite::{Row, params};

use super::super::super::directory::PersonKey;
use super::super::super::flow::Register;
use super::super::super::record::{Attempt, Hold};
use super::super::super::register::{
    OptOutEntry, OptOutSource, Preference, PreferenceKind, Standing, medium_of, scope_name, scope_of,
};
use super::claim;
use super::tx::{Db, Done, done, done_all};
use crate::model::address::Medium;
use crate::model::clock::Timestamp;

/// The number of a person's last messages in which one to answer is looked for.
const WRITTEN_MAX: u32 = 50;

const STANDING: &str =
    "SELECT id, scope, medium, source, officer, line, at, said, event, confirmation, kind FROM preference
             WHERE lifted IS NULL AND id IN (
                 SELECT preference FROM preference_key WHERE controller = ?1 AND address = ?2
                 UNION ALL SELECT preference FROM preference_key WHERE controller = ?1 AND fingerprint = ?3)";

const WRITTEN: &str = "SELECT body FROM event
             WHERE line = ?1 AND person = ?2 AND person IS NOT NULL AND kind = 'event' AND id > ?3 AND taken_in <= ?4
             ORDER BY taken_in DESC, id DESC LIMIT ?5";

const LISTED: &str = "SELECT id, scope, medium, source, officer, line, at, note, consent FROM preference
             WHERE controller = ?1 AND kind = ?2 AND lifted IS NULL AND id > ?3 ORDER BY id LIMIT ?4";

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    Ok(Standing {
        id: row.get(0)?,
        scope: scope_of(row.get_ref(1)?.as_str()?),
        medium: medium_of(row.get_ref(2)?.as_str_or_null()?),
        source: OptOutSource::read(row.get_ref(3)?.as_str()?, row.get(4)?),
        line: row.get(5)?,
        at: row.get(6)?,
        said: row.get(7)?,
        event: row.get(8)?,
        confirmation: row.get(9)?,
        kind: PreferenceKind::read(row.get_ref(10)?.as_str()?),
    })
}

#[expect(refining_impl_trait, reason = "the trait is for stores that wait, too")]
impl Register for Db<'_> {
    fn standing(&self, controller: &str, keys: Vec<PersonKey>) -> Done<Vec<Standing>> {
        done_all(|| {
            let (mut found, mut ids) = (Vec::new(), BTreeSet::new());
            for PersonKey { address, fingerprint } in keys {
                let entries = self.rows(STANDING, (controller, address, fingerprint), standing)?;
                found.extend(entries.into_iter().filter(|entry| ids.insert(entry.id)));
            }
            Ok(found)
        })
    }

    fn preferences(
        &self,
        controller: &str,
        kind: PreferenceKind,
        after: i64,
        max: u32,
    ) -> Done<Vec<(OptOutEntry, Option<String>)>> {
        let keys = "SELECT address, fingerprint FROM preference_key WHERE preference = ?1 ORDER BY rowid";
        done_all(|| {
            let mut entries = self.rows(LISTED, (controller, kind.as_str(), after, max), |row| {
                let entry = OptOutEntry {
                    id: row.get(0)?,
                    controller: Some(controller.to_owned()).filter(|controller| !controller.is_empty()),
                    scope: scope_of(row.get_ref(1)?.as_str()?),
                    medium: medium_of(row.get_ref(2)?.as_str_or_null()?),
                    source: OptOutSource::read(row.get_ref(3)?.as_str()?, row.get(4)?),
                    line: row.get(5)?,
                    at: row.get(6)?,
                    note: row.get(7)?,
                    addresses: Vec::new(),
                    fingerprints: Vec::new(),
                };
                Ok((entry, row.get(8)?))
            })?;
            for (entry, _) in &mut entries {
                let keys: Vec<(Option<String>, Option<String>)> =
                    self.rows(keys, (entry.id,), |row| Ok((row.get(0)?, row.get(1)?)))?;
                entry.add_keys(keys);
            }
            Ok(entries)
        })
    }

    fn last_event(&self) -> Done<i64> {
        let last = "SELECT max(id) FROM event";
        done(self.row(last, (), |row| row.get::<_, Option<i64>>(0)).map(|id| id.flatten().unwrap_or(0)))
    }

    fn written_since(&self, line: &str, names: &[String], event: i64, until: Timestamp) -> Done<Vec<String>> {
        done_all(|| {
            let mut bodies = Vec::new();
            for name in names {
                bodies.extend(
                    self.rows(WRITTEN, (line, name, event, until, WRITTEN_MAX), |row| row.get::<_, String>(0))?,
                );
            }
            Ok(bodies)
        })
    }

    fn rejected_outside_window(&self, line: &str, names: &[String], attempt: &Attempt) -> Done<Option<Timestamp>> {
        let of = "SELECT max(a.ended) FROM (
                 SELECT id FROM message WHERE line = ?1 AND recipient = ?2 ORDER BY queued DESC, id DESC LIMIT ?5) AS m
             JOIN attempt AS a ON a.message = m.id
             WHERE a.gateway = ?3 AND a.account = ?4 AND a.kind = 'outside_window'";
        let (gateway, account) = (&attempt.gateway, &attempt.account);
        done_all(|| {
            let mut last = None;
            for name in names {
                let with = (line, name, gateway, account, WRITTEN_MAX);
                let ended: Option<Option<Timestamp>> = self.row(of, with, |row| row.get(0))?;
                last = last.max(ended.flatten());
            }
            Ok(last)
        })
    }

    fn insert_preference(&self, controller: &str, preference: &Preference, event: i64, now: Timestamp) -> Done<i64> {
        let insert = "INSERT INTO preference 
                 (controller, line, scope, medium, source, officer, note, at, said, event, kind, consent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let consent = match preference.consent.as_ref().map(serde_json::to_string).transpose() {
            Ok(consent) => consent,
            Err(error) => return ready(Err(error.into())),
        };
        let Preference { line, scope, medium, source, note, said, .. } = preference;
        let (scope, medium) = (scope_name(*scope), medium.as_ref().map(Medium::as_str));
        let (source, officer) = (source.as_str(), source.officer());
        let with = params![
            controller,
            line,
            scope,
            medium,
            source,
            officer,
            note,
            now,
            said,
            event,
            preference.kind().as_str(),
            consent
        ];
        done(self.change(insert, with).map(|_| self.0.last_insert_rowid()))
    }

    fn insert_preference_keys(&self, id: i64, controller: &str, keys: &[PersonKey]) -> Done<()> {
        let insert = "INSERT INTO preference_key (preference, controller, address, fingerprint)
             SELECT ?1, ?2, nullif(?3, ''), ?4 WHERE NOT EXISTS (
                 SELECT 1 FROM preference_key WHERE preference = ?1 AND address IS nullif(?3, '') AND fingerprint IS ?4)";
        done(keys.iter().try_for_each(|PersonKey { address, fingerprint }| {
            self.change(insert, (id, controller, address, fingerprint)).map(drop)
        }))
    }

    fn renew_preference(&self, id: i64, line: &str, said: Timestamp, event: i64, now: Timestamp) -> Done<()> {
        let renew =
            "UPDATE preference SET line = ?2, said = ?3, event = ?4, at = ?5, confirmation = NULL WHERE id = ?1";
        self.put(renew, (id, line, said, event, now))
    }

    fn preference_addresses(&self, controller: &str, keys: Vec<PersonKey>) -> Done<Vec<String>> {
        let of = "SELECT address FROM preference_key WHERE address IS NOT NULL AND preference IN (
                 SELECT preference FROM preference_key WHERE controller = ?1 AND address = ?2
                 UNION ALL SELECT preference FROM preference_key WHERE controller = ?1 AND fingerprint = ?3)";
        done_all(|| {
            let mut addresses = BTreeSet::new();
            for PersonKey { address, fingerprint } in keys {
                addresses.extend(self.rows::<String>(of, (controller, address, fingerprint), |row| row.get(0))?);
            }
            Ok(addresses.into_iter().collect())
        })
    }

    fn forget_address(&self, controller: &str, key: &PersonKey) -> Done<u64> {
        let forget =
            "UPDATE preference_key SET address = NULL, fingerprint = ?3 WHERE controller = ?1 AND address = ?2";
        done(self.change(forget, (controller, &key.address, &key.fingerprint)).map(|forgotten| forgotten as u64))
    }

    fn lift_preference(&self, id: i64, officer: Option<&str>, now: Timestamp) -> Done<()> {
        self.put("UPDATE preference SET lifted = ?2, lifted_by = ?3 WHERE id = ?1", (id, now, officer))
    }

    fn set_confirmation(&self, id: i64, message: i64) -> Done<bool> {
        let set = "UPDATE preference SET confirmation = ?2
             WHERE id = ?1 AND lifted IS NULL AND (confirmation IS NULL OR confirmation = ?2)";
        done(self.change(set, (id, message)).map(|set| set == 1))
    }

    fn begin_attempt(&self, hold: Hold, lease: Option<Timestamp>, attempt: &Attempt) -> Done<bool> {
        match lease {
            Some(lease) => done(claim::begin(self.0, hold, lease, attempt)),
            None => done(Ok(false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn register_is_searched_by_indexes() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        for (sql, by) in [
            (
                STANDING,
                &["INDEX preference_key_address", "INDEX preference_key_fingerprint", "INTEGER PRIMARY KEY"][..],
            ),
            (WRITTEN, &["INDEX event_person (line=? AND person=?"]),
            (LISTED, &["INDEX preference_standing (controller=? AND kind=? AND id>?)"]),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            for n in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(n, 9).unwrap();
            }
            let (mut rows, mut steps) = (plan.raw_query(), Vec::new());
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get::<_, String>(3).unwrap());
            }
            for by in by {
                assert!(steps.iter().any(|step| step.contains(by)), "{by}: {steps:#?}");
            }
            let is_scan = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(is_scan), "{steps:#?}");
        }
    }
}
