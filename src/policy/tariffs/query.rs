//! The question to which a price is the answer.

use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::info::Info;
use crate::model::message::{Content, Message, Purpose};
use crate::policy::hours::Zone;

use super::tariff::{Direction, Tariff};

/// A question for the price of a message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct PriceQuery<'a> {
    /// The gateway, as in [`Info::gateway`](crate::Info::gateway).
    pub gateway: &'a str,
    /// The medium.
    pub medium: &'a Medium,
    /// The time at which the message is sent or received.
    pub at: Timestamp,
    /// The direction: outbound by default.
    pub direction: Direction,
    /// The gateway's category: on WhatsApp `service`, `utility`, `marketing` or `authentication`.
    pub category: Option<&'a str>,
    /// The first digits of the phone number without `+`, or all of them.
    pub country: Option<&'a str>,
    /// The number of units: 1 by default.
    pub units: u64,
    /// The units of the free allowance that were used in this period: 0 by default.
    pub used: u64,
    /// Sent in an open service window, where utility templates of WhatsApp were free until October 2026.
    pub in_window: bool,
}

impl<'a> PriceQuery<'a> {
    /// Creates a question for one unit of an outbound message.
    pub fn new(gateway: &'a str, medium: &'a Medium, at: Timestamp) -> Self {
        let direction = Direction::Outbound;
        Self { gateway, medium, at, direction, category: None, country: None, units: 1, used: 0, in_window: false }
    }

    /// Creates a question for one unit of a message through a channel, with its category and country.
    ///
    /// On WhatsApp a template is `marketing` by its [`Purpose`], else `utility`, and any other content is `service`.
    /// Meta decides by the approved category of a template, which the message does not contain.
    pub fn from_message(message: &'a Message, info: &'a Info, at: Timestamp) -> Self {
        let mut query = Self::new(info.gateway, &info.medium, at);
        query.country = country(&message.to);
        query.category = match (&info.medium, &message.content, message.purpose) {
            (Medium::WhatsApp, Content::Template(_), Purpose::Marketing) => Some("marketing"),
            (Medium::WhatsApp, Content::Template(_), _) => Some("utility"),
            (Medium::WhatsApp, Content::Native(_), _) => None,
            (Medium::WhatsApp, ..) => Some("service"),
            _ => None,
        };
        query
    }

    /// Sets the direction.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Sets the category.
    #[must_use]
    pub fn category(mut self, category: &'a str) -> Self {
        self.category = Some(category);
        self
    }

    /// Sets the first digits of the phone number, or all of them, without `+`.
    #[must_use]
    pub fn country(mut self, digits: &'a str) -> Self {
        self.country = Some(digits);
        self
    }

    /// Sets the number of units.
    #[must_use]
    pub fn units(mut self, units: u64) -> Self {
        self.units = units;
        self
    }

    /// Sets the units of the free allowance that were used in this period.
    #[must_use]
    pub fn used(mut self, used: u64) -> Self {
        self.used = used;
        self
    }

    /// Sets if it is sent in an open service window.
    #[must_use]
    pub fn in_window(mut self, in_window: bool) -> Self {
        self.in_window = in_window;
        self
    }

    /// Returns `true` if the tariff is the price of this in a category.
    pub(super) fn matches(&self, tariff: &Tariff, category: Option<&str>) -> bool {
        let Ok((date, _)) = Zone::default().local(self.at) else { return false };
        tariff.gateway == self.gateway
            && tariff.medium == *self.medium
            && tariff.direction == self.direction
            && tariff.category.as_deref().is_none_or(|own| category == Some(own))
            && tariff.country.as_deref().is_none_or(|own| self.country.is_some_and(|digits| digits.starts_with(own)))
            && tariff.from <= date
            && tariff.until.is_none_or(|until| date < until)
    }
}

/// Returns the digits that show the country of an address.
fn country(to: &Address) -> Option<&str> {
    if let Some(phone) = to.as_phone() {
        return Some(phone.digits());
    }
    // Meta's user ids start with the country: GB.13491208655302741918.
    let Address::WhatsApp(user) = to else { return None };
    let (country, _) = user.user_id()?.split_once('.')?;
    matches!(country, "GB" | "GG" | "IM" | "JE").then_some("44")
}
