//! The register of opt-outs, for officers.

mod list;

pub use list::{ImportProblem, OptOutImport};

use super::Switchboard;
use super::directory::{Addressee, Named};
use super::register::{Lift, OptOutEntry, OptOutSource, Preference, PreferenceKind};
use crate::model::address::{Address, Medium};
use crate::model::error::{Error, Result};
use crate::model::event::OptOutScope;
use crate::model::message::Purpose;

/// The register of opt-outs: who must not be messaged, since when and why.
///
/// An opt-out is recorded in the transaction of the webhook that brings it, before its 2xx: a STOP, a gateway's event, or
/// a gateway's rejection of a message for that reason. An officer records others. It holds for the person on every line
/// of the [`controller`](super::Line::controller), on every medium and linked address, unless
/// [`Line::opt_out_reach`](super::Line::opt_out_reach) limits it to the medium. It is checked when a message is enqueued,
/// and again in the transaction that records the start of its send; it ends what waits for the person, with its
/// fallbacks.
///
/// | Purpose | after an opt-out |
/// |---|---|
/// | [`Notice`](Purpose::Notice), [`Marketing`](Purpose::Marketing) | refused |
/// | [`Reply`](Purpose::Reply) | sent in answer to a message that the person wrote on the line since; and once within ten minutes on the line of a STOP, to confirm it |
/// | [`Emergency`](Purpose::Emergency) | refused, unless [`Line::emergencies_despite_opt_out`](super::Line::emergencies_despite_opt_out) allows it |
///
/// An opt-out of [marketing](OptOutScope::Marketing) stops [`Marketing`](Purpose::Marketing) only.
///
/// What ends it: START ends what the person, a gateway's STOP or an officer recorded, on every medium; a gateway's opt-in
/// without a START ends the same, except an officer's entry. Meta's marketing preference is apart: its resumption ends
/// only what the preference, or a rejection of marketing, recorded. An entry for one medium is ended on that medium. An
/// officer can [`lift`](Self::lift) all of them. The later of a STOP and a START counts, by the gateway's time.
///
/// The register outlives every retention. An entry also has a fingerprint keyed with the
/// [pepper](super::Builder::pepper).
///
/// ```
/// use civic_messaging::switchboard::{Line, NewOptOut, Store, Switchboard};
/// use civic_messaging::{Address, ErrorKind, Message, Mock};
///
/// # if !cfg!(feature = "sqlite-system") { return }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let enquiries = Line::new("enquiries").controller("Exampleshire Council").channel(Mock::sms());
/// let switchboard = Switchboard::builder(Store::open("sqlite::memory:").await?).line(enquiries).build()?;
///
/// let resident = Address::phone("07700 900123")?;
/// let by_letter = NewOptOut::new(resident.clone(), "J. Jones").note("by letter");
/// switchboard.opt_outs().record("enquiries", by_letter).await?;
///
/// let reminder = Message::text(resident.clone(), "Your council tax is due.");
/// let error = switchboard.send("enquiries", reminder).await.unwrap_err();
/// assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some("opt-out")));
///
/// switchboard.opt_outs().lift("enquiries", &resident, "J. Jones").await?;
/// assert!(!switchboard.opt_outs().is_opted_out("enquiries", &resident).await?);
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct OptOuts(Switchboard);

/// An opt-out that an officer records.
#[derive(Clone, Debug)]
pub struct NewOptOut {
    person: Address,
    officer: String,
    scope: OptOutScope,
    medium: Option<Medium>,
    note: Option<String>,
}

impl NewOptOut {
    /// Returns an opt-out of a person from all messages on every medium, recorded by this officer.
    pub fn new(person: Address, officer: impl Into<String>) -> Self {
        Self { person, officer: officer.into(), scope: OptOutScope::All, medium: None, note: None }
    }

    /// Sets the messages concerned.
    #[must_use]
    pub fn scope(mut self, scope: OptOutScope) -> Self {
        self.scope = scope;
        self
    }

    /// Limits it to one medium.
    #[must_use]
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Sets a note. Keep personal data out of it: it outlives the erasure of the person.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl Switchboard {
    /// Returns the register of opt-outs.
    pub fn opt_outs(&self) -> OptOuts {
        OptOuts(self.clone())
    }
}

impl OptOuts {
    /// Records an officer's opt-out for the controller of a line, and ends the person's waiting messages. Returns `false`
    /// if an officer has recorded it already.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for an unknown line or a blank officer,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn record(&self, line: &str, new: NewOptOut) -> Result<bool> {
        self.0.0.known(line).await?;
        let (now, officer) = (self.0.0.clock.now(), officer(new.officer)?);
        let preference = Preference {
            line: line.to_owned(),
            persons: vec![Named::new(&new.person)],
            fingerprints: Vec::new(),
            scope: new.scope,
            medium: new.medium,
            source: OptOutSource::Officer { name: officer },
            note: new.note,
            consent: None,
            said: now,
            recorded: None,
        };
        let recorded = self.0.0.store.0.record_preferences(vec![preference], now).await?;
        self.0.0.to_read.notify_all();
        Ok(recorded > 0)
    }

    /// Lifts every opt-out of a person for the controller of a line, as an officer decides. Returns the number of lifted
    /// entries, which stay in the store with the officer and the time.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn lift(&self, line: &str, person: &Address, by: &str) -> Result<u64> {
        self.0.0.known(line).await?;
        let (now, lift) = (self.0.0.clock.now(), Lift::Officer(officer(by.to_owned())?));
        self.0.0.store.0.lift_preferences(line, Named::new(person), lift, now).await
    }

    /// Returns `true` if a [`Notice`](Purpose::Notice) to this address on this line would be refused because the person
    /// opted out.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn is_opted_out(&self, line: &str, person: &Address) -> Result<bool> {
        self.0.0.known(line).await?;
        let now = self.0.0.clock.now();
        self.0.0.store.0.is_stopped(Addressee::new(line, person, Purpose::Notice, now), now).await
    }

    /// Lists the active opt-outs of the controller of a line, oldest first: at most `max`, starting behind `after`.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn list(&self, line: &str, after: Option<&OptOutEntry>, max: u32) -> Result<Vec<OptOutEntry>> {
        self.0.0.known(line).await?;
        let listed =
            self.0.0.store.0.preferences(line, PreferenceKind::OptOut, after.map(|entry| entry.id), max).await?;
        Ok(listed.into_iter().map(|(entry, _)| entry).collect())
    }
}

impl OptOuts {
    /// Removes a person's addresses from the register of a line's controller, which keeps their fingerprints: the opt-out
    /// outlives the erasure of the person. Returns the number of removed addresses.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a [pepper](super::Builder::pepper), because nothing would
    /// be left that matches the person; and those of [`record`](Self::record).
    pub async fn pseudonymise(&self, line: &str, person: &Address) -> Result<u64> {
        self.0.0.known(line).await?;
        if self.0.0.pepper.is_none() {
            return Err(Error::config("pepper", "is missing: without fingerprints an erased person's opt-out is lost"));
        }
        self.0.0.store.0.pseudonymise(line, Named::new(person)).await
    }

    /// Records the opt-outs of a list for the controller of a line, as one that this officer vouches for.
    ///
    /// It reads what [`export_csv`](Self::export_csv) writes, and the lists that councils keep: with a header that names a
    /// column `number`, `phone`, `mobile`, `telephone` or the like, or without a header; separated by commas, semicolons or
    /// tabs. Numbers may lack the `+` or the first zero that a spreadsheet removed. Optional columns: `scope`, `medium`,
    /// `source`, `officer`, `note`, `line`, `at`; others are ignored. A row without a readable number or address is left
    /// out, and a detail that cannot be read widens the opt-out; both are reported by line and column, without their
    /// content.
    ///
    /// An opt-out that the register has is unchanged, so a list can be imported again. A list recorded before a person
    /// sent START opts them out again: import current ones.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for an unknown line, a blank officer, or a list
    /// without a column of numbers: nothing is recorded then. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if
    /// the store is unavailable: import the list again.
    pub async fn import_csv(&self, line: &str, csv: impl AsRef<[u8]>, by: &str) -> Result<OptOutImport> {
        self.0.0.known(line).await?;
        let (inner, by, now) = (&*self.0.0, officer(by.to_owned())?, self.0.0.clock.now());
        let controller = |line: &str| inner.lines.get(line).map(|line| line.controller.as_deref());
        let is_ours = |other: &str| other == line || controller(other).is_some_and(|of| controller(line) == Some(of));
        let list::Read { preferences, problems } = list::read(csv.as_ref(), line, &by, is_ours, now)?;
        let (mut import, rows) = (OptOutImport { problems, ..OptOutImport::default() }, preferences.len() as u64);
        // In parts, so that others do not wait.
        let mut rest = preferences.into_iter();
        loop {
            let part: Vec<_> = rest.by_ref().take(PART).collect();
            if part.is_empty() {
                break;
            }
            import.recorded += inner.store.0.record_preferences(part, now).await?;
        }
        import.unchanged = rows.saturating_sub(import.recorded);
        inner.to_read.notify_all();
        Ok(import)
    }

    /// Returns the active opt-outs of the controller of a line as CSV, with a header, for
    /// [`import_csv`](Self::import_csv).
    ///
    /// It contains addresses: keep it as you keep personal data. No cell is a formula to a spreadsheet.
    ///
    /// # Errors
    /// Those of [`record`](Self::record).
    pub async fn export_csv(&self, line: &str) -> Result<String> {
        let (mut written, mut last) = (list::write(&[], true)?, None);
        loop {
            let page = self.list(line, last.as_ref(), u32::try_from(PART).unwrap_or(u32::MAX)).await?;
            if page.is_empty() {
                return Ok(written);
            }
            written.push_str(&list::write(&page, false)?);
            last = page.into_iter().next_back();
        }
    }
}

/// The number of opt-outs recorded in one transaction, or read at once.
const PART: usize = 200;

pub(super) fn officer(name: String) -> Result<String> {
    if name.trim().is_empty() { Err(Error::invalid("officer", "is blank")) } else { Ok(name) }
}
