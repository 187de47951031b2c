//! Prices of gateways, as dated data with a source.
//!
//! Prices change, and what one council pays is in its contract. The [standard](Tariffs::standard) tariffs are public
//! figures, each with its source, the day on which that was read, and its [`Confidence`]; a council adds its own from a
//! file. A price that is not known is `None`, and never 0.
//!
//! ```
//! use civic_messaging::policy::tariffs::{PriceQuery, Tariffs};
//! use civic_messaging::{Medium, Settings};
//!
//! let tariffs = Tariffs::standard()?;
//! let text = PriceQuery::new("notify", &Medium::Sms, "2026-12-01T09:00:00Z".parse()?).country("44");
//! // Three segments, of which one is still free in this financial year.
//! let price = tariffs.price(&text.units(3).used(9_999)).map(|price| price.to_string());
//! assert_eq!(price.as_deref(), Some("0.048000 GBP"));
//!
//! # #[cfg(feature = "toml")] {
//! let contract = Settings::from_toml(r#"
//!     [[tariffs]]
//!     gateway = "twilio"
//!     medium = "sms"
//!     country = "44"
//!     from = 2026-04-01
//!     per = "segment"
//!     micros = 31000
//!     currency = "GBP"
//!     source = "contract 4711"
//!     as_of = 2026-04-01
//!     confidence = "primary"
//! "#)?;
//! let tariffs = tariffs.with_settings(&contract)?;
//! let text = PriceQuery::new("twilio", &Medium::Sms, "2026-12-01T09:00:00Z".parse()?).country("44");
//! assert!(tariffs.price(&text).is_some());
//! # }
//! # Ok::<(), civic_messaging::Error>(())
//! ```

mod query;
mod tariff;

use serde::Deserialize;

pub use self::query::PriceQuery;
pub use self::tariff::{BilledUnit, Confidence, Direction, FreeAllowance, Tariff};
use crate::model::error::{Error, Result};
use crate::model::message::Price;
use crate::settings::Settings;

/// The tariffs of this crate, one file for each vendor.
const STANDARD: [(&str, &str); 4] = [
    ("notify.json", include_str!("notify.json")),
    ("twilio.json", include_str!("twilio.json")),
    ("whatsapp.json", include_str!("whatsapp.json")),
    ("x.json", include_str!("x.json")),
];

/// Prices of gateways. Those that were added last take precedence.
#[derive(Clone, Debug, Default)]
pub struct Tariffs {
    /// By file, the first first.
    files: Vec<Vec<Tariff>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TariffFile {
    tariffs: Vec<Tariff>,
}

impl Tariffs {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the public tariffs bundled with this crate: GOV.UK Notify for local authorities, WhatsApp in the United
    /// Kingdom, X, and Twilio in the United States as an example.
    ///
    /// Check [`Tariff::confidence`] before relying on one. WhatsApp's amounts are unverified.
    ///
    /// # Errors
    /// None for the bundled files; the signature avoids a panic.
    pub fn standard() -> Result<Self> {
        STANDARD.iter().try_fold(Self::new(), |tariffs, (_, text)| tariffs.with_json(text))
    }

    /// Adds the tariffs of a JSON file: an object with the list `tariffs`.
    ///
    /// # Errors
    /// As [`with_settings`](Self::with_settings).
    pub fn with_json(self, text: &str) -> Result<Self> {
        self.with_settings(&Settings::from_json(text)?)
    }

    /// Adds the tariffs of a file, its `[[tariffs]]`, which take precedence over those that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the table and the field, such as `tariffs[2].until`: a
    /// missing, unknown or invalid field, or two prices of one thing on one day.
    pub fn with_settings(mut self, settings: &Settings) -> Result<Self> {
        let file: TariffFile = settings.read()?;
        let mut sorted: Vec<_> = file.tariffs.iter().enumerate().collect();
        sorted.sort_by_key(|(_, tariff)| (tariff.subject(), tariff.from));
        // Sorted, a tariff that overlaps another overlaps its neighbour.
        for ((n, one), (m, next)) in sorted.iter().zip(sorted.iter().skip(1)) {
            if one.subject() == next.subject() && one.until.is_none_or(|until| until > next.from) {
                let rule = format!("is a day on which tariffs[{}] applies: set its until", n.min(m));
                return Err(Error::config(format!("tariffs[{}].from", n.max(m)), rule));
            }
        }
        self.files.push(file.tariffs);
        Ok(self)
    }

    /// Returns all tariffs, those with precedence first.
    pub fn iter(&self) -> impl Iterator<Item = &Tariff> {
        self.files.iter().rev().flatten()
    }

    /// Returns the tariff that applies: of the file that was added last, the one with the longest matching
    /// [`country`](Tariff::country), and with the category rather than one for every category.
    pub fn find(&self, query: &PriceQuery<'_>) -> Option<&Tariff> {
        let find = |category: Option<&str>| {
            let of_file = |file: &'_ Vec<Tariff>| {
                let matching = file.iter().enumerate().filter(|(_, tariff)| query.matches(tariff, category));
                let rank =
                    |tariff: &Tariff| (tariff.country.as_ref().map_or(0, String::len), tariff.category.is_some());
                matching.max_by_key(|(_, tariff)| rank(tariff)).map(|(n, _)| n)
            };
            self.files.iter().rev().find_map(|file| file.get(of_file(file)?))
        };
        match query.category {
            // Meta charged less in an open window, until it charged the same.
            Some("utility") if query.in_window => find(Some("utility_in_window"))
                .filter(|found| found.category.is_some())
                .or_else(|| find(query.category)),
            category => find(category),
        }
    }

    /// Returns the price: that of all units together, after the free allowance. `None` if no tariff applies.
    pub fn price(&self, query: &PriceQuery<'_>) -> Option<Price> {
        self.find(query).map(|tariff| tariff.cost(query.units, query.used).into())
    }
}

#[cfg(test)]
mod tests;
