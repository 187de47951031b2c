//! The start of a send: the last decision about a message, in the transaction that records it.

use super::super::directory::{Addressee, Directory};
use super::super::record::{Attempt, Hold};
use super::super::register::{Begun, Verdict, overridden};
use super::super::status::State;
use super::budgets::{charge_begin, release};
use super::limits::limit_begin;
use super::register::{Register, end_refused, verdict};
use super::windows::window_begin;
use crate::model::clock::Timestamp;
use crate::policy::Reason;

/// Records the start of a send, unless the person opted out, or a budget or limit has no room: then the message ends, or waits.
pub(in super::super) async fn begin<T: Register>(
    tx: &T,
    of: &Directory,
    (hold, lease): (Hold, Option<Timestamp>),
    attempt: &Attempt,
    to: &Addressee,
) -> Result<Begun, T::Error> {
    tx.lock_register(false).await?;
    let id = hold.id.0;
    let mut decided = verdict(tx, of, to, Some(id), attempt.at).await?;
    if matches!(decided, Verdict::Confirms(_) | Verdict::Stopped(_))
        && tx.held(hold).await?.is_none_or(|row| row.state == State::Sending)
    {
        return Ok(Begun::NotHeld);
    }
    if let Verdict::Confirms(entry) = decided
        && !tx.set_confirmation(entry, id).await?
    {
        decided = Verdict::Stopped(Reason::new("opt-out", "another message confirms the person's opt-out"));
    }
    if let Verdict::Stopped(reason) = decided {
        end_refused(tx, id, &reason, attempt.at).await?;
        return Ok(Begun::Refused(reason));
    }
    if !attempt.charges.is_empty() || !attempt.limits.is_empty() {
        if tx.held(hold).await?.is_none_or(|row| row.state == State::Sending) {
            return Ok(Begun::NotHeld);
        }
        if let Some(begun) = window_begin(tx, of, (id, attempt), to).await? {
            return Ok(begun);
        }
        if let Some(begun) = charge_begin(tx, id, &attempt.charges, attempt.at).await? {
            return Ok(begun);
        }
        if let Some(begun) = limit_begin(tx, of, (id, &attempt.limits), to, attempt.at).await? {
            release(tx, &attempt.charges).await?;
            return Ok(begun);
        }
    }
    if !tx.begin_attempt(hold, lease, attempt).await? {
        release(tx, &attempt.charges).await?;
        return Ok(Begun::NotHeld);
    }
    if matches!(decided, Verdict::Overrides) {
        tx.insert_decision(id, "override", &overridden(), attempt.at).await?;
    }
    Ok(Begun::Sending)
}
