//! The statements of the register of opt-outs.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::super::directory::PersonKey;
use super::super::super::flow::Register;
use super::super::super::record::{Attempt, Hold};
use super::super::super::register::{
    OptOutEntry, OptOutSource, Preference, PreferenceKind, Standing, medium_of, scope_name, scope_of,
};
use super::session::{Fault, Session};
use super::together::{BeginOf, StandingOf};
use super::tx::all;
use super::{indexed, moment, text};
use crate::model::address::Medium;
use crate::model::clock::Timestamp;

/// The number of a person's last messages in which one to answer is looked for.
const WRITTEN_MAX: i64 = 50;

impl Register for Session {
    async fn standing(&self, controller: &str, keys: Vec<PersonKey>) -> Result<Vec<Standing>, Fault> {
        self.call(StandingOf(controller.to_owned(), keys)).await
    }

    async fn preferences(
        &self,
        controller: &str,
        kind: PreferenceKind,
        after: i64,
        max: u32,
    ) -> Result<Vec<(OptOutEntry, Option<String>)>, Fault> {
        let of = "SELECT o.id, o.scope, o.medium, o.source, o.officer, o.line, o.at, o.note,
                 ARRAY(SELECT k.address FROM civic_messaging.preference_key AS k WHERE k.preference = o.id ORDER BY k.n),
                 ARRAY(SELECT k.fingerprint FROM civic_messaging.preference_key AS k WHERE k.preference = o.id ORDER BY k.n), o.consent
             FROM civic_messaging.preference AS o
             WHERE o.controller = $1 AND o.kind = $2 AND o.lifted IS NULL AND o.id > $3 ORDER BY o.id LIMIT $4";
        let read = |row: &Row| {
            let mut entry = OptOutEntry {
                id: row.try_get(0)?,
                controller: Some(controller.to_owned()).filter(|controller| !controller.is_empty()),
                scope: scope_of(row.try_get(1)?),
                medium: medium_of(row.try_get(2)?),
                source: OptOutSource::read(row.try_get(3)?, row.try_get(4)?),
                line: row.try_get(5)?,
                at: moment(row, 6)?,
                note: row.try_get(7)?,
                addresses: Vec::new(),
                fingerprints: Vec::new(),
            };
            let (addresses, fingerprints): (Vec<Option<String>>, Vec<Option<String>>) =
                (row.try_get(8)?, row.try_get(9)?);
            entry.add_keys(addresses.into_iter().zip(fingerprints));
            Ok((entry, row.try_get(10)?))
        };
        self.rows(of, &[&text(controller), &kind.as_str(), &after, &i64::from(max)]).await?.iter().map(read).collect()
    }

    async fn last_event(&self) -> Result<i64, Fault> {
        let last = self.row("SELECT coalesce(max(id), 0) FROM civic_messaging.event", &[]).await?;
        Ok(last.ok_or(Fault::Unreadable)?.try_get(0)?)
    }

    async fn written_since(
        &self,
        line: &str,
        names: &[String],
        event: i64,
        until: Timestamp,
    ) -> Result<Vec<String>, Fault> {
        let of = "SELECT body FROM civic_messaging.event
             WHERE line = $1 AND person = ANY ($2) AND person IS NOT NULL AND kind = 'event' AND id > $3
               AND taken_in <= $4
             ORDER BY taken_in DESC, id DESC LIMIT $5";
        let names: Vec<_> = names.iter().map(|name| indexed(name)).collect();
        all(&self.rows(of, &[&indexed(line), &names, &event, &until.as_millis(), &WRITTEN_MAX]).await?)
    }

    async fn rejected_outside_window(
        &self,
        line: &str,
        names: &[String],
        attempt: &Attempt,
    ) -> Result<Option<Timestamp>, Fault> {
        let of = "SELECT max(a.ended) FROM (
                 SELECT id FROM civic_messaging.message
                 WHERE conversation
                       = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($2::text[]) AS person)
                   AND line = $1 AND recipient = ANY ($2)
                 ORDER BY queued DESC, id DESC LIMIT $5) AS m
             JOIN civic_messaging.attempt AS a ON a.message = m.id
             WHERE a.gateway = $3 AND a.account = $4 AND a.kind = 'outside_window'";
        let names: Vec<_> = names.iter().map(|name| indexed(name)).collect();
        let (gateway, account) = (text(&attempt.gateway), text(&attempt.account));
        let row = self.row(of, &[&indexed(line), &names, &gateway, &account, &WRITTEN_MAX]).await?;
        let ended: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(ended.map(Timestamp::from_millis))
    }

    async fn insert_preference(
        &self,
        controller: &str,
        preference: &Preference,
        event: i64,
        now: Timestamp,
    ) -> Result<i64, Fault> {
        let insert = "INSERT INTO civic_messaging.preference
                 (controller, line, scope, medium, source, officer, note, at, said, event, kind, consent)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id";
        let consent = preference.consent.as_ref().map(serde_json::to_string).transpose()?;
        let consent = consent.as_deref().map(text);
        let (line, scope) = (indexed(&preference.line), scope_name(preference.scope));
        let medium = preference.medium.as_ref().map(Medium::as_str);
        let (source, officer) = (preference.source.as_str(), preference.source.officer().map(text));
        let (note, at, said) = (preference.note.as_deref().map(text), now.as_millis(), preference.said.as_millis());
        let with: [&(dyn ToSql + Sync); 12] = [
            &text(controller),
            &line,
            &scope,
            &medium,
            &source,
            &officer,
            &note,
            &at,
            &said,
            &event,
            &preference.kind().as_str(),
            &consent,
        ];
        Ok(self.row(insert, &with).await?.ok_or(Fault::Unreadable)?.try_get(0)?)
    }

    async fn insert_preference_keys(&self, id: i64, controller: &str, keys: &[PersonKey]) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.preference_key (preference, controller, address, fingerprint)
             SELECT $1::bigint, $2::text, nullif(given.address, ''), given.fingerprint
             FROM unnest($3::text[], $4::text[]) AS given (address, fingerprint)
             WHERE NOT EXISTS (
                 SELECT 1 FROM civic_messaging.preference_key AS k
                 WHERE k.preference = $1 AND k.address IS NOT DISTINCT FROM nullif(given.address, '')
                   AND k.fingerprint IS NOT DISTINCT FROM given.fingerprint)";
        let addresses: Vec<_> = keys.iter().map(|key| indexed(&key.address)).collect();
        let fingerprints: Vec<_> = keys.iter().map(|key| key.fingerprint.as_deref()).collect();
        self.change(insert, &[&id, &text(controller), &addresses, &fingerprints]).await.map(drop)
    }

    async fn renew_preference(
        &self,
        id: i64,
        line: &str,
        said: Timestamp,
        event: i64,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let renew = "UPDATE civic_messaging.preference
             SET line = $2, said = $3, event = $4, at = $5, confirmation = NULL WHERE id = $1";
        self.change(renew, &[&id, &indexed(line), &said.as_millis(), &event, &now.as_millis()]).await.map(drop)
    }

    async fn preference_addresses(&self, controller: &str, keys: Vec<PersonKey>) -> Result<Vec<String>, Fault> {
        let of =
            "SELECT DISTINCT address FROM civic_messaging.preference_key WHERE address IS NOT NULL AND preference IN (
                 SELECT preference FROM civic_messaging.preference_key WHERE controller = $1 AND address = ANY ($2)
                 UNION ALL SELECT preference FROM civic_messaging.preference_key
                 WHERE controller = $1 AND fingerprint = ANY ($3))";
        let addresses: Vec<_> = keys.iter().map(|key| indexed(&key.address)).collect();
        let fingerprints: Vec<_> = keys.iter().filter_map(|key| key.fingerprint.as_deref()).collect();
        all(&self.rows(of, &[&text(controller), &addresses, &fingerprints]).await?)
    }

    async fn forget_address(&self, controller: &str, key: &PersonKey) -> Result<u64, Fault> {
        let forget = "UPDATE civic_messaging.preference_key SET address = NULL, fingerprint = $3
             WHERE controller = $1 AND address = $2";
        self.change(forget, &[&text(controller), &indexed(&key.address), &key.fingerprint]).await
    }

    async fn lift_preference(&self, id: i64, officer: Option<&str>, now: Timestamp) -> Result<(), Fault> {
        let lift = "UPDATE civic_messaging.preference SET lifted = $2, lifted_by = $3 WHERE id = $1";
        self.change(lift, &[&id, &now.as_millis(), &officer.map(text)]).await.map(drop)
    }

    async fn set_confirmation(&self, id: i64, message: i64) -> Result<bool, Fault> {
        let set = "UPDATE civic_messaging.preference SET confirmation = $2
             WHERE id = $1 AND lifted IS NULL AND (confirmation IS NULL OR confirmation = $2)";
        Ok(self.change(set, &[&id, &message]).await? == 1)
    }

    async fn begin_attempt(&self, hold: Hold, _: Option<Timestamp>, attempt: &Attempt) -> Result<bool, Fault> {
        self.call(BeginOf(hold, attempt.clone())).await
    }
}
