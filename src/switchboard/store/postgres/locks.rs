//! Advisory locks on the ids and keys by which deliveries find their messages.

use super::super::super::record::{New, Written};
use super::session::{Fault, Session};
use super::{indexed, text};

/// Locks these names until the end of the transaction. Otherwise one transaction could record that a message has an id
/// or a key while another looks for it, neither seeing the other, and the delivery would stay among the early ones
/// forever. The locks are on 256 slots, so that a page of thousands does not exhaust the server's locks.
pub(super) async fn lock_names(db: &Session, names: &[String]) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let lock = "SELECT pg_advisory_xact_lock(1667854963, place) FROM (
             SELECT DISTINCT (hashtextextended(name, 0) & 255)::int AS place FROM unnest($1::text[]) AS name
             ORDER BY place) AS places";
    db.rows(lock, &[&names]).await.map(drop)
}

/// Locks a person on a line until the end of the transaction, on a slot as above. Otherwise an event could be stored as
/// held behind another while that is acknowledged, neither transaction seeing the other, and would stay held forever.
pub(super) async fn lock_person(db: &Session, line: &str, person: &str) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(1667854964, (hashtextextended($1 || chr(10) || $2, 0) & 255)::int)";
    db.rows(lock, &[&line, &person]).await.map(drop)
}

/// Locks the conversations of messages to enqueue, in one order in every program: two batches wait for each other without
/// a deadlock.
pub(super) async fn lock_conversations_with(db: &Session, each: &[(New, Written)]) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
             SELECT DISTINCT hashtextextended(name, 0) AS conversation FROM unnest($1::text[]) AS name
             ORDER BY conversation) AS all_of";
    let name = |(new, _): &(New, Written)| format!("{}\n{}", indexed(&new.line), text(new.message.to.expose()));
    db.rows(lock, &[&each.iter().map(name).collect::<Vec<_>>()]).await.map(drop)
}

/// Locks the conversations of stored messages, in the same order.
pub(super) async fn lock_conversations_of(db: &Session, messages: &[i64]) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(conversation) FROM (
             SELECT DISTINCT conversation FROM civic_messaging.message WHERE id = ANY ($1)
             ORDER BY conversation) AS all_of";
    db.rows(lock, &[&messages]).await.map(drop)
}

pub(super) fn by_id(gateway: &str, id: &str) -> String {
    text(&format!("id\n{gateway}\n{id}")).into_owned()
}

pub(super) fn by_key(key: &str) -> String {
    format!("key\n{}", indexed(key))
}
