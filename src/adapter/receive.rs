//! The shared part of receiving webhooks: verification, ownership, limits, and the response.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::{Envelope, Event, Raw, Unrecognised};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::model::json::{self, Piece, Text};
use crate::webhook::{Discarded, Opened, Received, Request, Scheme, Verified};

/// The maximum number of events in one webhook. Meta posts up to 1,000 at once.
///
/// The rest is kept as [`Unrecognised`] pieces, each with many events, which bounds the memory that one body takes.
pub const EVENTS_MAX: usize = 10_000;

/// The maximum total size of the raw pieces of one webhook's events in bytes: ten times the largest webhook that Meta
/// documents.
///
/// Each piece is stored with its event, so a piece from which several events are parsed counts for each.
const PIECES_MAX: usize = 32 * 1024 * 1024;

/// The maximum number of accounts that [`Received::discarded`] names; the rest are counted without a name.
const ACCOUNTS_MAX: usize = 100;

/// Verifies a webhook and collects its events, as the body of a [`Channel::receive`](crate::Channel::receive).
///
/// `read` is called once the scheme has accepted the request. It passes each event to the [`Collector`], which requires
/// an [`Owner`]: an account that the secret owns. A verified webhook without any events is kept as [`Unrecognised`].
///
/// ```
/// use civic_messaging::adapter::{self, json::Text, lenient};
/// use civic_messaging::webhook::{self, BearerToken, Received};
/// use civic_messaging::event::Raw;
/// use civic_messaging::{Address, Inbound, Info, Result};
/// use civic_messaging::event::InboundContent;
///
/// lenient! {
///     struct Callback<'a> {
///         number: Text<'a>,
///         id: Text<'a>,
///         from: Text<'a>,
///         text: Text<'a>,
///     }
/// }
///
/// fn receive(request: &webhook::Request, info: &Info, scheme: &BearerToken) -> Result<Received> {
///     adapter::receive(request, info, Some(scheme), "webhook_tokens", |webhook, events| {
///         let json = adapter::json::Json::new(webhook.body());
///         let callback: Callback<'_> = json.read().unwrap_or_default();
///         let Some(owner) = events.owner(callback.number.as_deref(), 1) else { return };
///         // The whole body is one event. For a batch, use `Raw::new(json.raw(piece.get()))` of each part.
///         let envelope = events.envelope(&owner, Raw::new(webhook.body().clone()), None);
///         let from = callback.from.as_deref().and_then(Address::sms_sender);
///         match (callback.id.some(), from, callback.text.to_text()) {
///             (Some(id), Some(from), Some(text)) => {
///                 events.push(Inbound::new(envelope, id, from, InboundContent::Text(text)));
///             }
///             _ => events.unrecognised(envelope, "callback", None),
///         }
///     })
/// }
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `setting` if there is no scheme or the channel does not
/// receive, and those of [`Request::open`].
pub fn receive(
    request: &Request,
    info: &Info,
    scheme: Option<&dyn Scheme>,
    setting: &'static str,
    read: impl FnOnce(&Verified, &mut Collector<'_>),
) -> Result<Received> {
    let Some(scheme) = scheme.filter(|_| info.capability.receive) else {
        return Err(Error::config(setting, "must be set to receive webhooks").with_gateway(info.gateway));
    };
    let verified = match request.open(scheme).map_err(|error| error.with_gateway(info.gateway))? {
        Opened::Verified(verified) => verified,
        Opened::Handshake(received) => return Ok(received),
        Opened::NeedKey(_) => {
            return Err(Error::unsupported("the scheme needs an external key").with_gateway(info.gateway));
        }
    };
    let mut events = Collector::new(&verified, info);
    read(&verified, &mut events);
    Ok(events.received())
}

/// A collector of a verified webhook's events.
#[derive(Debug)]
pub struct Collector<'w> {
    verified: &'w Verified,
    info: &'w Info,
    events: Vec<Event>,
    discarded: BTreeMap<Option<AccountId>, usize>,
    overflow: Option<Box<Overflow>>,
    /// The total length of the pieces of all events.
    pieces: usize,
}

/// Adjacent pieces of one owner in the body.
#[derive(Debug)]
struct Overflow {
    envelope: Envelope,
    range: Range<usize>,
}

/// An account that the secret owns, and so may have events: see [`Collector::owner`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(AccountId);

impl Owner {
    /// Returns the account.
    pub fn account(&self) -> &AccountId {
        &self.0
    }
}

/// An account that several values name, such as all occurrences of a member, which should agree.
///
/// If they differ, the account is disputed and nobody owns it. A number that was rounded while parsing is an account
/// too, though an unknown one.
#[derive(Clone, Debug, Default)]
pub struct NamedAccount<'a> {
    id: Text<'a>,
    is_disputed: bool,
}

impl<'a> NamedAccount<'a> {
    /// Reads the values.
    pub fn new(values: impl IntoIterator<Item = Piece<'a>>) -> Self {
        let mut named = Self::default();
        for piece in values {
            let id: Text<'a> = json::read(piece.get()).unwrap_or_default();
            let is_rounded = id.0.is_none() && piece.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
            named.is_disputed |= is_rounded || (id.some().is_some() && named.id.some().is_some() && id != named.id);
            if id.some().is_some() {
                named.id = id;
            }
        }
        named
    }

    /// Returns `true` if the values differ.
    pub fn is_disputed(&self) -> bool {
        self.is_disputed
    }

    /// Returns the account, unless it is disputed or not named at all.
    pub fn id(&self) -> Option<&str> {
        self.id.some().filter(|_| !self.is_disputed)
    }

    /// Returns the account, or the other one if none is named at all.
    pub fn or<'i>(&'i self, other: Option<&'i str>) -> Option<&'i str> {
        self.id().or(other.filter(|_| !self.is_disputed))
    }
}

impl<'w> Collector<'w> {
    fn new(verified: &'w Verified, info: &'w Info) -> Self {
        Self { verified, info, events: Vec::new(), discarded: BTreeMap::new(), overflow: None, pieces: 0 }
    }

    /// Reserves capacity for `events` more events.
    pub fn reserve(&mut self, events: usize) {
        self.events.reserve_exact(events.min(EVENTS_MAX));
    }

    /// Returns the owner of a part of the webhook, if the secret owns the account that the part names.
    ///
    /// `events` is the number of events in the part. If the secret does not own the account, they count as
    /// [`Received::discarded`]: an app's secret signs the webhooks of every account of that app. A part that names no
    /// account is discarded too, under `None`.
    pub fn owner(&mut self, account: Option<&str>, events: usize) -> Option<Owner> {
        // A kept piece must not contain another owner's data.
        let goes_on = self.overflow.as_ref().is_some_and(|run| account == Some(run.envelope.account.as_str()));
        if !goes_on {
            self.end_overflow();
        }
        let own = &self.info.account;
        match account {
            Some(account) if self.verified.owns(account) => {
                Some(Owner(if account == own.as_str() { own.clone() } else { account.into() }))
            }
            account => {
                let account = account.filter(|account| !account.is_empty()).map(AccountId::from);
                let known = account.is_none() || self.discarded.contains_key(&account);
                let named = if known || self.discarded.len() < ACCOUNTS_MAX { account } else { None };
                *self.discarded.entry(named).or_default() += events;
                None
            }
        }
    }

    /// Returns the channel's own account, for a gateway that names none in its webhooks: the secret alone decides
    /// ownership.
    pub fn channel(&mut self) -> Option<Owner> {
        let account = self.info.account.clone();
        self.owner(Some(account.as_str()), 1)
    }

    /// Creates the envelope of an event, with the gateway's time, or else the time of arrival.
    #[inline]
    pub fn envelope(&self, owner: &Owner, raw: Raw, at: Option<Timestamp>) -> Envelope {
        let arrived = self.verified.arrived();
        Envelope::new(self.info.gateway, self.info.medium.clone(), owner.0.clone(), arrived, raw).dated(at)
    }

    /// Adds an event.
    ///
    /// Beyond [`EVENTS_MAX`] events or 32 MiB of pieces, it is kept as an [`Unrecognised`] piece.
    #[inline]
    pub fn push(&mut self, event: impl Into<Event>) {
        let event = event.into();
        let pieces = self.pieces.saturating_add(event.envelope().raw.as_bytes().len());
        if self.events.len() < EVENTS_MAX && pieces <= PIECES_MAX {
            self.pieces = pieces;
            self.events.push(event);
        } else {
            self.overflow(event.envelope());
        }
    }

    /// Adds unrecognised data by the gateway's name for it, with the sender if known.
    pub fn unrecognised(
        &mut self,
        envelope: Envelope,
        what: impl Into<String>,
        from: Option<crate::model::address::Address>,
    ) {
        let mut event = Unrecognised::new(envelope, what);
        event.from = from;
        self.push(event);
    }

    /// Returns the number of events so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns `true` if there are no events so far.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Keeps the piece of an event over the limit, merged with adjacent ones of the same account.
    fn overflow(&mut self, envelope: &Envelope) {
        let body = self.verified.body();
        let range = range_in(body, envelope.raw.as_bytes());
        match (&mut self.overflow, range) {
            (Some(run), Some(range)) if run.envelope.account == envelope.account && range.start >= run.range.start => {
                run.range.end = run.range.end.max(range.end);
            }
            (_, range) => {
                self.end_overflow();
                let range = range.unwrap_or_default();
                self.overflow = Some(Box::new(Overflow { envelope: envelope.clone(), range }));
            }
        }
    }

    fn end_overflow(&mut self) {
        if let Some(overflow) = self.overflow.take() {
            let Overflow { mut envelope, range } = *overflow;
            if !range.is_empty() {
                envelope.raw = Raw::new(self.verified.body().slice(range));
            }
            self.events.push(Unrecognised::new(envelope, "overflow").into());
        }
    }

    fn received(mut self) -> Received {
        self.end_overflow();
        if self.events.is_empty()
            && self.discarded.is_empty()
            && let Some(owner) = self.channel()
        {
            let envelope = Envelope { account: owner.0, ..self.verified.envelope(self.info) };
            self.events.push(Unrecognised::new(envelope, "body").into());
        }
        let mut received = Received::new(self.events);
        received.discarded.extend(self.discarded.into_iter().map(|(account, events)| Discarded { account, events }));
        received
    }
}

/// Returns the range of a piece in the body that it was cut from.
fn range_in(body: &Bytes, piece: &Bytes) -> Option<Range<usize>> {
    let from = piece.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let to = from.checked_add(piece.len())?;
    (to <= body.len()).then_some(from..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_disputed_if_its_names_differ() {
        for (values, id, is_disputed) in [
            (&[][..], None, false),
            (&[r#""7""#, "7", "null", "\"\""], Some("7"), false),
            (&["7", "8"], None, true),
            // It would be rounded to another account.
            (&["18446744073709551617"], None, true),
            (&["7", "18446744073709551617"], None, true),
        ] {
            let named = NamedAccount::new(values.iter().map(|value| Piece::whole(value)));
            assert_eq!((named.id(), named.is_disputed()), (id, is_disputed), "{values:?}");
            assert_eq!(named.or(Some("9")), id.or(Some("9").filter(|_| !is_disputed)), "{values:?}");
        }
    }
}
