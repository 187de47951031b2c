//! The rules of the list of conversations: who waits for an answer.

use super::super::conversations::Heard;
use super::super::record::{LinkRow, partner_of};
use super::super::status::priority;
use super::Tx;
use crate::model::clock::Timestamp;
use crate::model::event::Inbound;
use crate::model::message::Purpose;

/// Records that a person wrote, or that an answer of ours was written elsewhere.
pub(super) async fn heard<T: Tx>(
    tx: &T,
    line: &str,
    inbound: &Inbound,
    waits: bool,
    at: Timestamp,
) -> Result<(), T::Error> {
    let person = partner_of(inbound);
    let address = serde_json::to_string(person)?;
    tx.set_heard(&Heard { line, person: person.expose(), address, waits, is_echo: inbound.echo, at }).await
}

/// Records that a message was accepted, which is an answer if it is a reply.
pub(super) async fn answered<T: Tx>(tx: &T, id: i64, class: u8, now: Timestamp) -> Result<(), T::Error> {
    if class == priority(Purpose::Reply) { tx.set_answered(id, now).await } else { Ok(()) }
}

/// Merges the conversations of a name that links to an address now.
pub(super) async fn moved<T: Tx>(tx: &T, line: &str, from: &str, to: &LinkRow) -> Result<(), T::Error> {
    if from == to.current { Ok(()) } else { tx.merge_conversations(line, from, to).await }
}
