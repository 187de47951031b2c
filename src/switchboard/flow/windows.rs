//! The rules of windows: read in the transaction in which a send begins.

use super::super::directory::{Addressee, Directory};
use super::super::record::{Attempt, EventContent};
use super::super::register::Begun;
use super::register::{Register, end_refused, names_of};
use crate::model::clock::Timestamp;

/// Ends a message that is about to begin, if its window is closed.
pub(super) async fn window_begin<T: Register>(
    tx: &T,
    of: &Directory,
    (id, attempt): (i64, &Attempt),
    to: &Addressee,
) -> Result<Option<Begun>, T::Error> {
    let Some(window) = attempt.limits.window else { return Ok(None) };
    let names = names_of(tx, of, &to.line, &to.to).await?;
    let bodies = tx.written_since(&to.line, &names, 0, attempt.at).await?;
    let opened = |body: &String| -> Option<Timestamp> {
        let EventContent::Event(event) = EventContent::read("event", body) else { return None };
        let inbound = event.as_inbound()?;
        let envelope = &inbound.envelope;
        let is_ours = envelope.gateway == attempt.gateway && envelope.account.as_str() == attempt.account;
        (is_ours && window.is_opened_by(inbound)).then_some(envelope.at)
    };
    let opened = bodies.iter().filter_map(opened).max();
    let closed = tx.rejected_outside_window(&to.line, &names, attempt).await?;
    let Some(reason) = window.refusal(opened, closed, attempt.at) else { return Ok(None) };
    end_refused(tx, id, &reason, attempt.at).await?;
    Ok(Some(Begun::Refused(reason)))
}
