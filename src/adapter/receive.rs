//! The shared half of receiving: verification, ownership, bounds, and the answer.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::{Envelope, Event, Raw, Unrecognised};
use crate::model::id::AccountId;
use crate::model::info::Info;
use crate::webhook::{Discarded, Opened, Received, Request, Scheme, Verified};

/// The most events of one webhook. Meta posts up to 1,000 at once.
///
/// The rest is kept as [`Unrecognised`] pieces, each with many events in it, so that the memory that one body takes is
/// bounded.
pub const EVENTS_MAX: usize = 10_000;

/// The most bytes that the pieces of one webhook's events have together. Each is stored with its event, so that a part from
/// which many events are read counts as often. Ten times the largest webhook that Meta documents.
const PIECES_MAX: usize = 32 * 1024 * 1024;

/// The most accounts that [`Received::discarded`] names, before it counts the rest without a name.
const ACCOUNTS_MAX: usize = 100;

/// Verifies a webhook and collects its events: the whole of a [`Channel::receive`](crate::Channel::receive).
///
/// `read` is called once the scheme has accepted the request. It hands each event to the [`Collector`], for which it needs
/// an [`Owner`]: an account that the secret owns. A verified webhook of which it makes nothing is kept as [`Unrecognised`].
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
///         // The whole body, because it is one event: of a batch, `Raw::new(json.raw(piece.get()))` of each part.
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
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `setting` where there is no scheme, or the channel does not
/// receive; and those of [`Request::open`].
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
            return Err(Error::unsupported("the scheme needs a key from elsewhere").with_gateway(info.gateway));
        }
    };
    let mut events = Collector::new(&verified, info);
    read(&verified, &mut events);
    Ok(events.received())
}

/// Collects the events of a verified webhook.
#[derive(Debug)]
pub struct Collector<'w> {
    verified: &'w Verified,
    info: &'w Info,
    events: Vec<Event>,
    discarded: BTreeMap<Option<AccountId>, usize>,
    overflow: Option<Box<Overflow>>,
    /// The length of the pieces of all events.
    pieces: usize,
}

/// Pieces of one owner that follow each other in the body.
#[derive(Debug)]
struct Overflow {
    envelope: Envelope,
    place: Range<usize>,
}

/// An account that the secret owns, and of which there may be events: see [`Collector::owner`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(AccountId);

impl Owner {
    /// The account.
    pub fn account(&self) -> &AccountId {
        &self.0
    }
}

impl<'w> Collector<'w> {
    fn new(verified: &'w Verified, info: &'w Info) -> Self {
        Self { verified, info, events: Vec::new(), discarded: BTreeMap::new(), overflow: None, pieces: 0 }
    }

    /// Makes room for so many events.
    pub fn reserve(&mut self, events: usize) {
        self.events.reserve_exact(events.min(EVENTS_MAX));
    }

    /// Returns the owner of a part of the webhook, if the secret owns the account that the part names.
    ///
    /// `events` is how many events the part holds. If the secret does not own the account they are counted as
    /// [`Received::discarded`]: the secret of an app proves the webhooks of every account of that app. A part that names no
    /// account is discarded too, under `None`.
    pub fn owner(&mut self, account: Option<&str>, events: usize) -> Option<Owner> {
        // A piece that is kept holds nothing of another owner.
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

    /// Returns the channel's own account, for a gateway whose webhooks name none: the secret alone says whose they are.
    pub fn channel(&mut self) -> Option<Owner> {
        let account = self.info.account.clone();
        self.owner(Some(account.as_str()), 1)
    }

    /// The envelope of an event, with the gateway's time, or else the time of arrival.
    #[inline]
    pub fn envelope(&self, owner: &Owner, raw: Raw, at: Option<Timestamp>) -> Envelope {
        let arrived = self.verified.arrived();
        Envelope::new(self.info.gateway, self.info.medium.clone(), owner.0.clone(), arrived, raw).dated(at)
    }

    /// Adds an event. One that is over [`EVENTS_MAX`], or whose pieces are over 32 MiB with those before it, is kept as an
    /// [`Unrecognised`] piece.
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

    /// Adds what is not understood, by the gateway's name for it, and from whom it came if that is known.
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

    /// The number of events so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns `true` if there are no events so far.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Keeps the piece of one event too many, together with its neighbours of the same account.
    fn overflow(&mut self, envelope: &Envelope) {
        let body = self.verified.body();
        let place = place(body, envelope.raw.as_bytes());
        match (&mut self.overflow, place) {
            (Some(run), Some(place)) if run.envelope.account == envelope.account && place.start >= run.place.start => {
                run.place.end = run.place.end.max(place.end);
            }
            (_, place) => {
                self.end_overflow();
                let place = place.unwrap_or_default();
                self.overflow = Some(Box::new(Overflow { envelope: envelope.clone(), place }));
            }
        }
    }

    fn end_overflow(&mut self) {
        if let Some(overflow) = self.overflow.take() {
            let Overflow { mut envelope, place } = *overflow;
            if !place.is_empty() {
                envelope.raw = Raw::new(self.verified.body().slice(place));
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

/// Where a piece stands in the body that it was cut from.
fn place(body: &Bytes, piece: &Bytes) -> Option<Range<usize>> {
    let from = piece.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let to = from.checked_add(piece.len())?;
    (to <= body.len()).then_some(from..to)
}
