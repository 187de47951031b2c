//! The rules of limits on recent messages.

use super::super::directory::{Addressee, Directory};
use super::super::limits::{Check, Checked, Limits, consequence};
use super::super::register::Begun;
use super::budgets::defer;
use super::register::{Register, end_refused, keys_of};
use crate::model::clock::Timestamp;

/// Counts a message that is about to begin, or puts it off or ends it, where a limit has no room.
pub(super) async fn limit_begin<T: Register>(
    tx: &T,
    of: &Directory,
    (id, limits): (i64, &Limits),
    to: &Addressee,
    now: Timestamp,
) -> Result<Option<Begun>, T::Error> {
    let number = to.to.names.iter().find_map(|name| name.strip_prefix('+')?.parse().ok());
    if let Some((bursts, number)) = limits.bursts.zip(number)
        && let Checked::Full(_) = tx.check_recent(Check::bursts(bursts, &tx.name(&to.line), number, now)).await?
    {
        let reason = bursts.reason();
        end_refused(tx, id, &reason, now).await?;
        return Ok(Some(Begun::Refused(reason)));
    }
    let Some(frequency) = limits.frequency else { return Ok(None) };
    let (keys, own) = keys_of(tx, of, &to.line, &to.to).await?;
    let Some(own) = own else { return Ok(None) };
    let check = Check::frequency(&frequency, keys, own, id, now);
    let Checked::Full(until) = tx.check_recent(check).await? else { return Ok(None) };
    let (reason, until) = consequence(&frequency, until);
    match until {
        Some(until) => defer(tx, id, (&reason, until), now).await?,
        None => end_refused(tx, id, &reason, now).await?,
    }
    Ok(Some(if until.is_some() { Begun::Deferred(reason) } else { Begun::Refused(reason) }))
}
