//! The statements of officers' links.

use tokio_postgres::Row;

use super::super::super::directory::PersonKey;
use super::super::super::flow::{Linked, Persons};
use super::super::super::people::{LinkChange, PersonLinkRow};
use super::session::{Fault, Session};
use super::together::{LinksOf, ShareRegister};
use super::tx::all;
use super::{indexed, moment, text};
use crate::model::clock::Timestamp;

/// The exclusive lock of the register.
const LOCK_REGISTER: &str = "SELECT pg_advisory_xact_lock(1667854965, 0)";

/// Returns the name of an address's key.
fn name(key: &str) -> &str {
    key.split_once(':').map_or(key, |(_, name)| name)
}

impl Persons for Session {
    async fn lock_register(&self, exclusive: bool) -> Result<(), Fault> {
        if !exclusive {
            return self.call(ShareRegister).await;
        }
        // An opt-out concerns other messages as well.
        self.alone()?;
        self.rows(LOCK_REGISTER, &[]).await.map(drop)
    }

    async fn controller_of(&self, line: &str) -> Result<Option<String>, Fault> {
        let of = "SELECT controller FROM civic_messaging.line WHERE id = $1";
        Ok(self.row(of, &[&indexed(line)]).await?.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    async fn lines_of(&self, controller: &str) -> Result<Vec<String>, Fault> {
        let of = "SELECT id FROM civic_messaging.line WHERE coalesce(controller, '') = $1";
        all(&self.rows(of, &[&text(controller)]).await?)
    }

    async fn links_of(&self, names: Vec<String>) -> Result<Vec<Linked>, Fault> {
        self.call(LinksOf(names)).await
    }

    async fn insert_person_link(&self, change: &LinkChange, now: Timestamp) -> Result<(), Fault> {
        let insert = "INSERT INTO civic_messaging.person_link
                 (line, one, one_name, other, other_name, officer, reason, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let LinkChange { line, keys: [one, other], officer, reason } = change;
        let (line, officer, reason) = (indexed(line), text(officer), text(reason));
        let with: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [&line, one, &name(one), other, &name(other), &officer, &reason, &now.as_millis()];
        self.change(insert, &with).await.map(drop)
    }

    async fn links_between(&self, keys: &[String; 2]) -> Result<Vec<(i64, String)>, Fault> {
        let between = "SELECT id, line FROM civic_messaging.person_link
             WHERE one_name = $3 AND one = $1 AND other = $2 AND ended IS NULL
             UNION ALL SELECT id, line FROM civic_messaging.person_link
             WHERE other_name = $3 AND other = $1 AND one = $2 AND ended IS NULL";
        let [one, other] = keys;
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        self.rows(between, &[one, other, &name(one)]).await?.iter().map(read).collect()
    }

    async fn end_person_link(&self, id: i64, change: &LinkChange, now: Timestamp) -> Result<(), Fault> {
        let end = "UPDATE civic_messaging.person_link SET ended = $2, ended_by = $3, ended_reason = $4 WHERE id = $1";
        let with = (text(&change.officer), text(&change.reason));
        self.change(end, &[&id, &now.as_millis(), &with.0, &with.1]).await.map(drop)
    }

    async fn person_links(&self, lines: Vec<String>, after: i64, max: u32) -> Result<Vec<PersonLinkRow>, Fault> {
        let listed = "SELECT id, line, one, other, officer, reason, at FROM civic_messaging.person_link
             WHERE line = ANY ($1) AND ended IS NULL AND id > $2 ORDER BY id LIMIT $3";
        let lines: Vec<_> = lines.iter().map(|line| indexed(line)).collect();
        let read = |row: &Row| {
            let (id, line, keys) = (row.try_get(0)?, row.try_get(1)?, [row.try_get(2)?, row.try_get(3)?]);
            let (officer, reason, at) = (row.try_get(4)?, row.try_get(5)?, moment(row, 6)?);
            Ok(PersonLinkRow { id, line, keys, officer, reason, at })
        };
        self.rows(listed, &[&lines, &after, &i64::from(max)]).await?.iter().map(read).collect()
    }

    async fn forget_person_links(&self, keys: &[PersonKey]) -> Result<(), Fault> {
        let forget = "DELETE FROM civic_messaging.person_link
             WHERE one_name = ANY ($2) AND one = ANY ($1) OR other_name = ANY ($2) AND other = ANY ($1)";
        let addresses: Vec<_> = keys.iter().map(|key| &*key.address).collect();
        let names: Vec<_> = addresses.iter().map(|key| name(key)).collect();
        self.change(forget, &[&addresses, &names]).await.map(drop)
    }
}
