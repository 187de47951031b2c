//! The countries and number ranges to which messages may be sent.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde::Deserialize;

use crate::model::error::{Error, Result};
use crate::model::message::Purpose;
use crate::policy::{Decision, Policy, PolicyInput, Reason};

/// The countries and number ranges to which messages may be sent: a guard against typing errors, and against SMS pumping.
///
/// By default only numbers of +44, which includes Jersey, Guernsey and the Isle of Man. A reply to a person in another
/// country may go. Personal numbers (070), pagers, and special-rate and premium-rate numbers (084, 087, 09) of the United
/// Kingdom are refused to everybody, because a reply to them is how pumping earns. Addresses without a phone number are
/// not affected.
///
/// The rules are `place` and `number-range`. In a configuration: `{ countries = ["353"] }`, beside the United Kingdom.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PlacesWire")]
pub struct Places {
    /// The calling codes, without `+`.
    countries: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { countries = [\"353\"] }")]
struct PlacesWire {
    #[serde(default)]
    countries: Vec<String>,
}

/// The ranges of UK numbers that cost their callers more, or are no telephones, by the digits after +44.
const REFUSED: &[&str] = &["70", "76", "84", "87", "9"];

/// Mobiles of the Isle of Man, in the range of the pagers.
const ISLE_OF_MAN: &str = "7624";

impl Places {
    /// Creates the rule for the United Kingdom and the islands.
    pub fn uk() -> Self {
        Self { countries: BTreeSet::from(["44".to_owned()]) }
    }

    /// Allows another country, by its calling code without `+`: `353` for Ireland.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) unless it is 1 to 4 digits that do not start with 0.
    pub fn country(mut self, code: impl Into<String>) -> Result<Self> {
        let code = code.into();
        let is_code = (1..=4).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
        if !is_code || code.starts_with('0') {
            return Err(Error::config("countries", "must be calling codes of 1 to 4 digits, without + and zeros"));
        }
        self.countries.insert(code);
        Ok(self)
    }

    fn refusal(&self, digits: &str, purpose: Purpose) -> Option<Reason> {
        let is_refused = digits.strip_prefix("44").is_some_and(|national| {
            REFUSED.iter().any(|range| national.starts_with(range)) && !national.starts_with(ISLE_OF_MAN)
        });
        if is_refused {
            let text = "personal, pager, special-rate and premium-rate numbers receive no messages";
            return Some(Reason::new("number-range", text));
        }
        let is_allowed = self.countries.iter().any(|code| digits.starts_with(code.as_str()));
        let text = "messages to this country are not allowed, except replies: add it to the countries";
        (!is_allowed && purpose != Purpose::Reply).then(|| Reason::new("place", text))
    }
}

impl TryFrom<PlacesWire> for Places {
    type Error = Error;

    fn try_from(wire: PlacesWire) -> Result<Self> {
        wire.countries.into_iter().try_fold(Self::uk(), Self::country)
    }
}

#[async_trait]
impl Policy for Places {
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
        let Some(phone) = input.message.to.as_phone() else { return Ok(Decision::Allow) };
        let refusal = self.refusal(phone.as_str().trim_start_matches('+'), input.message.purpose);
        Ok(refusal.map_or(Decision::Allow, Decision::Refuse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::{Address, Phone};
    use crate::model::clock::Timestamp;
    use crate::model::message::Message;

    fn rule(places: &Places, to: Address, purpose: Purpose) -> Option<String> {
        let message = Message::text(to, "Hello").purpose(purpose);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(places.decide(&PolicyInput::new("desk", &message, Timestamp::default()))).unwrap() {
            Decision::Refuse(reason) => {
                assert!(!reason.to_string().contains(char::is_numeric), "no number in a reason");
                assert!(!reason.is_for_medium());
                Some(reason.rule().to_owned())
            }
            _ => None,
        }
    }

    #[test]
    fn number_outside_the_places_is_refused() {
        let ireland = Places::uk().country("353").unwrap();
        for (digits, uk, with_ireland) in [
            ("447700900123", None, None),
            ("447797712345", None, None), // Jersey
            ("447624312345", None, None), // Isle of Man
            ("442079460123", None, None),
            ("353861234567", Some("place"), None),
            ("12025550123", Some("place"), Some("place")),
            ("447012345678", Some("number-range"), Some("number-range")),
            ("447640123456", Some("number-range"), Some("number-range")),
            ("448712345678", Some("number-range"), Some("number-range")),
            ("449098790123", Some("number-range"), Some("number-range")),
        ] {
            let to = || Address::from(Phone::from_digits(digits).unwrap());
            for purpose in [Purpose::Notice, Purpose::Marketing, Purpose::Emergency] {
                assert_eq!(rule(&Places::uk(), to(), purpose).as_deref(), uk, "{digits}");
                assert_eq!(rule(&ireland, to(), purpose).as_deref(), with_ireland, "{digits}");
            }
            let for_reply = uk.filter(|rule| *rule == "number-range");
            assert_eq!(rule(&Places::uk(), to(), Purpose::Reply).as_deref(), for_reply, "{digits}");
        }
        assert_eq!(rule(&Places::uk(), Address::x("1900000000000000101").unwrap(), Purpose::Notice), None);
    }

    #[test]
    fn wrong_country_is_named() {
        for code in ["", "+353", "0044", "12345", "ie"] {
            assert_eq!(Places::uk().country(code).unwrap_err().field(), Some("countries"), "{code}");
        }
        assert!(serde_json::from_str::<Places>(r#"{"countries":["353"]}"#).is_ok());
        assert!(
            serde_json::from_str::<Places>(r#"{"countries":["+353"]}"#).unwrap_err().to_string().contains("calling")
        );
    }
}
