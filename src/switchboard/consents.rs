//! The register of consents to marketing.

use super::Switchboard;
use super::directory::Named;
use super::opt_outs::officer;
use super::register::{ConsentEntry, ConsentText, Lift, OptOutSource, Preference, PreferenceKind};
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::OptOutScope;

/// The register of consents: who may be sent marketing, since when, how they agreed and to which wording.
///
/// A message with [`Purpose::Marketing`](crate::Purpose::Marketing) is refused unless the person consented, with the code
/// `consent`: when it is enqueued, and again in the transaction that records the start of its send. A consent holds for the
/// person on every line of the [`controller`](super::Line::controller), over linked addresses. It is apart from
/// [opt-outs](super::OptOuts): marketing needs a consent, and no opt-out. A line whose service keeps consents itself sets
/// [`Line::marketing_without_consent`](super::Line::marketing_without_consent).
///
/// Each consent is evidence, and stays in the store after its withdrawal. No retention removes it, and
/// [`OptOuts::pseudonymise`](super::OptOuts::pseudonymise) applies to it as well.
///
/// ```
/// use civic_messaging::switchboard::{Line, NewConsent, Store, Switchboard};
/// use civic_messaging::{Address, ErrorKind, Message, Mock, Purpose};
///
/// # if !cfg!(feature = "sqlite-system") { return }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let leisure = Line::new("leisure").controller("Exampleshire Council").channel(Mock::sms());
/// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(leisure).build()?;
///
/// let resident = Address::phone("07700 900123")?;
/// let offer = || Message::text(resident.clone(), "Half price swimming in May.").purpose(Purpose::Marketing);
/// let error = switchboard.send("leisure", offer()).await.unwrap_err();
/// assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some("consent")));
///
/// let consent = NewConsent::new(resident.clone(), "offers of the leisure centres", "J. Jones")
///     .how("the form at exampleshire.gov.uk/leisure")
///     .wording("Yes, text me offers. I can stop them at any time.");
/// switchboard.consents().record("leisure", consent).await?;
/// switchboard.send("leisure", offer()).await?;
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Consents(Switchboard);

/// A consent to record.
#[derive(Clone, Debug)]
pub struct NewConsent {
    person: Address,
    officer: String,
    text: ConsentText,
    at: Option<Timestamp>,
}

impl NewConsent {
    /// Returns a person's consent to this, recorded by an officer or a service of this name. It needs
    /// [`how`](Self::how) and [`wording`](Self::wording) as well.
    pub fn new(person: Address, what: impl Into<String>, officer: impl Into<String>) -> Self {
        let text = ConsentText { what: what.into(), how: String::new(), wording: String::new() };
        Self { person, officer: officer.into(), text, at: None }
    }

    /// Sets how it was given: a form, a letter, a call.
    #[must_use]
    pub fn how(mut self, how: impl Into<String>) -> Self {
        self.text.how = how.into();
        self
    }

    /// Sets the wording to which the person agreed.
    #[must_use]
    pub fn wording(mut self, wording: impl Into<String>) -> Self {
        self.text.wording = wording.into();
        self
    }

    /// Sets when it was given: now by default.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }
}

impl Switchboard {
    /// Returns the register of consents.
    pub fn consents(&self) -> Consents {
        Consents(self.clone())
    }
}

impl Consents {
    /// Records a consent for the controller of a line.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for an unknown line, a blank field, or a time in the
    /// future, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn record(&self, line: &str, new: NewConsent) -> Result<()> {
        self.0.0.known(line).await?;
        let (now, name) = (self.0.0.clock.now(), officer(new.officer)?);
        for (field, value) in [("what", &new.text.what), ("how", &new.text.how), ("wording", &new.text.wording)] {
            if value.trim().is_empty() {
                return Err(Error::invalid(field, "is blank"));
            }
        }
        if new.at.is_some_and(|at| at > now) {
            return Err(Error::invalid("at", "is in the future"));
        }
        let consent = Preference {
            line: line.to_owned(),
            persons: vec![Named::new(&new.person)],
            fingerprints: Vec::new(),
            scope: OptOutScope::Marketing,
            medium: None,
            source: OptOutSource::Officer { name },
            note: None,
            consent: Some(new.text),
            said: now,
            recorded: new.at,
        };
        self.0.0.store.0.record_preferences(vec![consent], now).await.map(drop)
    }

    /// Withdraws the consents of a person to the controller of a line, and returns their number.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn withdraw(&self, line: &str, person: &Address, by: &str) -> Result<u64> {
        self.0.0.known(line).await?;
        let (now, lift) = (self.0.0.clock.now(), Lift::Withdrawal(officer(by.to_owned())?));
        self.0.0.store.0.lift_preferences(line, Named::new(person), lift, now).await
    }

    /// Lists the consents of persons to the controller of a line that were not withdrawn, in the order of their recording:
    /// at most `max`, starting behind `after`.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn list(&self, line: &str, after: Option<&ConsentEntry>, max: u32) -> Result<Vec<ConsentEntry>> {
        self.0.0.known(line).await?;
        let listed =
            self.0.0.store.0.preferences(line, PreferenceKind::Consent, after.map(|entry| entry.id), max).await?;
        Ok(listed.into_iter().filter_map(|(entry, text)| ConsentEntry::read(entry, text.as_deref())).collect())
    }
}
