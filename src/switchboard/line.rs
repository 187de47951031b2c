//! A line: one public identity of the council.

use std::sync::Arc;

use crate::address::{Address, Medium};
use crate::channel::{Channel, Info};
use crate::error::{Error, Result};
use crate::message::Message;

/// One public identity of the council: the channels by which it is reached, and who answers for what is written there.
///
/// Several channels of one medium are suppliers of it, the preferred one first.
///
/// ```
/// use civic_messaging::switchboard::Line;
/// use civic_messaging::Mock;
///
/// let leader = Line::new("leader")
///     .name("The leader of the council")
///     .controller("Councillor K. Barrow")
///     .channel(Mock::sms())
///     .channel(Mock::whatsapp());
/// ```
#[derive(Clone, Debug)]
pub struct Line {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) controller: Option<String>,
    pub(super) channels: Vec<Arc<dyn Channel>>,
}

impl Line {
    /// A line by its id: 1 to 64 small letters, digits, `-` and `_`. It stays in the store for good.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self { name: id.clone(), id, controller: None, channels: Vec::new() }
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Who answers for the data of this line: the council, or a councillor of their own.
    #[must_use]
    pub fn controller(mut self, controller: impl Into<String>) -> Self {
        self.controller = Some(controller.into());
        self
    }

    /// Adds a channel. It must be a bare one: the switchboard tries again, waits and changes the supplier itself, where each
    /// try can be counted and survives a crash.
    #[must_use]
    pub fn channel(mut self, channel: impl Channel) -> Self {
        self.channels.push(Arc::new(channel));
        self
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who answers for its data, where that was said.
    pub fn controlled_by(&self) -> Option<&str> {
        self.controller.as_deref()
    }

    pub(super) fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if !(1..=64).contains(&self.id.len()) || !self.id.chars().all(plain) {
            return Err(Error::config("line", "must have an id of 1 to 64 small letters, digits, - and _"));
        }
        let wrong = |rule: String| Err(Error::config(format!("line {}", self.id), rule));
        if self.channels.is_empty() {
            return wrong("has no channel".to_owned());
        }
        for info in self.channels.iter().map(|channel| channel.info()) {
            if let Some(layer) = info.layers.iter().find(|layer| **layer != "trace") {
                return wrong(format!("has a channel of {} with the layer {layer}: give the bare one", info.gateway));
            }
        }
        for (n, info) in self.channels.iter().map(|channel| channel.info()).enumerate() {
            let same = |other: &&Arc<dyn Channel>| {
                let other = other.info();
                other.gateway == info.gateway && other.account == info.account && other.medium == info.medium
            };
            if self.channels.iter().take(n).any(|other| same(&other)) {
                return wrong(format!("has an account of {} twice", info.gateway));
            }
        }
        Ok(())
    }

    /// Whether a channel of it can carry a message: else why the first one cannot.
    pub(super) fn carries(&self, message: &Message) -> Result<()> {
        let mut wrong = None;
        for channel in self.suppliers(&message.to) {
            match channel.info().check(message) {
                Ok(_) => return Ok(()),
                Err(error) => drop(wrong.get_or_insert(error)),
            }
        }
        let nobody = || Error::recipient(format!("is reached by no channel of the line {}", self.id));
        Err(wrong.unwrap_or_else(nobody))
    }

    /// The channels that reach an address, all of one medium: a phone number without more is one for SMS, where the line
    /// has that.
    pub(super) fn suppliers(&self, to: &Address) -> Vec<&Arc<dyn Channel>> {
        let media = || self.channels.iter().map(|channel| &channel.info().medium).filter(|medium| to.fits(medium));
        let Some(medium) = media().find(|medium| **medium == Medium::Sms).or_else(|| media().next()) else {
            return Vec::new();
        };
        self.channels.iter().filter(|channel| channel.info().medium == *medium).collect()
    }

    /// Whether an account of these is this line's.
    pub(super) fn owns(&self, gateway: &str, account: &str, medium: &Medium) -> bool {
        let same = |info: &Info| info.gateway == gateway && info.account.as_str() == account && info.medium == *medium;
        self.channels.iter().any(|channel| same(channel.info()))
    }
}
