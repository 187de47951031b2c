//! Persons with several addresses, as officers link them.

use serde::{Deserialize, Serialize};

use super::Switchboard;
use super::directory::{address_of, key_of};
use super::opt_outs::officer;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};

/// Links between the addresses of a person, as officers record them.
///
/// Gateways link a person's addresses on one medium by themselves. An officer who knows that two addresses belong to one
/// person links them here: within the [`controller`](super::Line::controller) of a line, and over several links to all
/// addresses of the person. From then on [opt-outs](super::OptOuts) and [consents](super::Consents) of one address hold for
/// each of them, those recorded before included. No message changes its way, and each address keeps its own conversation.
///
/// Each link has the officer, the reason and the time, and so has its end: it stays in the store until
/// [`OptOuts::pseudonymise`](super::OptOuts::pseudonymise) erases one of its addresses.
///
/// ```
/// use civic_messaging::switchboard::{Line, NewOptOut, Store, Switchboard};
/// use civic_messaging::{Address, Mock};
///
/// # if !cfg!(feature = "sqlite-system") { return }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let line = Line::new("enquiries").controller("Exampleshire Council").channel(Mock::sms()).channel(Mock::x());
/// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(line).build()?;
///
/// let (phone, x) = (Address::phone("07700 900123")?, Address::x("2244994945")?);
/// switchboard.opt_outs().record("enquiries", NewOptOut::new(phone.clone(), "J. Jones")).await?;
/// switchboard.people().link("enquiries", &phone, &x, "J. Jones", "gave the number in a message").await?;
/// assert!(switchboard.opt_outs().is_opted_out("enquiries", &x).await?);
///
/// switchboard.people().unlink("enquiries", &phone, &x, "A. Adams", "another resident").await?;
/// assert!(!switchboard.opt_outs().is_opted_out("enquiries", &x).await?);
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct People(Switchboard);

/// An active link between two addresses of a person.
///
/// `Debug` masks the addresses.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonLink {
    /// The two addresses.
    pub addresses: [Address; 2],
    /// The line on which it was recorded: it holds on every line of its controller.
    pub line: String,
    /// The officer who recorded it.
    pub officer: String,
    /// The reason.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
    pub(super) id: i64,
}

/// A link to record, or to end: the keys of the two addresses, who says so, and why.
#[derive(Clone)]
pub(super) struct LinkChange {
    pub(super) line: String,
    pub(super) keys: [String; 2],
    pub(super) officer: String,
    pub(super) reason: String,
}

/// A link as stored.
pub(super) struct PersonLinkRow {
    pub(super) id: i64,
    pub(super) line: String,
    pub(super) keys: [String; 2],
    pub(super) officer: String,
    pub(super) reason: String,
    pub(super) at: Timestamp,
}

impl PersonLinkRow {
    /// Returns the link: `None` if this program cannot read its addresses.
    pub(super) fn read(self) -> Option<PersonLink> {
        let Self { id, line, keys: [one, other], officer, reason, at } = self;
        Some(PersonLink { addresses: [address_of(&one)?, address_of(&other)?], line, officer, reason, at, id })
    }
}

impl Switchboard {
    /// Returns the links between the addresses of persons.
    pub fn people(&self) -> People {
        People(self.clone())
    }
}

impl People {
    /// Links two addresses of a person, as an officer of this name decides for this reason. Returns `false` if they are
    /// linked already.
    ///
    /// A waiting message that an opt-out of the other address stops is refused when it is due.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for an unknown line, a blank officer or reason, one
    /// address twice, or one that is no person's; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is
    /// unavailable.
    pub async fn link(&self, line: &str, one: &Address, other: &Address, by: &str, reason: &str) -> Result<bool> {
        let change = self.change(line, [one, other], by, reason).await?;
        self.0.0.store.0.link_persons(change, self.0.0.clock.now()).await
    }

    /// Ends the link between two addresses. Returns `false` if no officer linked them to each other.
    ///
    /// Addresses that other links still lead to stay linked. An opt-out holds for the addresses that were linked when it
    /// was recorded, until it is lifted.
    ///
    /// # Errors
    /// Those of [`link`](Self::link).
    pub async fn unlink(&self, line: &str, one: &Address, other: &Address, by: &str, reason: &str) -> Result<bool> {
        let change = self.change(line, [one, other], by, reason).await?;
        self.0.0.store.0.unlink_persons(change, self.0.0.clock.now()).await
    }

    /// Lists the active links of the controller of a line, oldest first: at most `max`, starting behind `after`.
    ///
    /// # Errors
    /// Those of [`link`](Self::link).
    pub async fn links(&self, line: &str, after: Option<&PersonLink>, max: u32) -> Result<Vec<PersonLink>> {
        self.0.0.known(line).await?;
        self.0.0.store.0.person_links(line, after.map(|after| after.id), max).await
    }

    async fn change(&self, line: &str, addresses: [&Address; 2], by: &str, reason: &str) -> Result<LinkChange> {
        self.0.0.known(line).await?;
        let officer = officer(by.to_owned())?;
        if reason.trim().is_empty() {
            return Err(Error::invalid("reason", "is blank"));
        }
        let keys = addresses.map(key_of);
        if keys.iter().any(|key| key.starts_with("conversation") || address_of(key).is_none()) {
            return Err(Error::invalid(
                "address",
                "is no person's: groups, short codes and sender names have no links",
            ));
        }
        if let [one, other] = &keys
            && one == other
        {
            return Err(Error::invalid("address", "is the same twice"));
        }
        Ok(LinkChange { line: line.to_owned(), keys, officer, reason: reason.to_owned() })
    }
}
