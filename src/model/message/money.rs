//! Prices: amounts of money or of a gateway's credits, exact to a millionth.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::error::{Error, Result};

/// An amount of money: millionths of a currency's main unit, and the currency's ISO 4217 code.
///
/// ```
/// use civic_messaging::message::Money;
///
/// let price = Money::parse("-0.0400", "GBP")?;
/// assert_eq!((price.micros, price.to_string().as_str()), (-40_000, "-0.040000 GBP"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Millionths of the main unit: £0.04 is 40,000.
    pub micros: i64,
    /// The currency.
    pub currency: Currency,
}

/// A number of a gateway's credits, which a council buys in advance, at a price of its own.
///
/// ```
/// use civic_messaging::message::Credits;
///
/// let price = Credits::parse("1.5")?;
/// assert_eq!((price.micros, price.to_string().as_str()), (1_500_000, "1.500000 credits"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Credits {
    /// Millionths of a credit.
    pub micros: i64,
}

/// The price of a message as the gateway reports it: in money, or in credits without a currency.
///
/// `Debug` does not show a million or more: that is no price, and may be a phone number in the wrong field.
///
/// ```
/// use civic_messaging::message::{Credits, Money, Price};
///
/// let prices = [Price::from(Money::parse("0.04", "GBP")?), Price::from(Credits::parse("1.5")?)];
/// assert_eq!(prices.map(|price| price.to_string()), ["0.040000 GBP", "1.500000 credits"]);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Price {
    /// An amount of money.
    Money(Money),
    /// A number of credits.
    Credits(Credits),
}

impl Price {
    /// Returns the millionths of the currency's main unit, or of a credit.
    pub fn micros(&self) -> i64 {
        match self {
            Self::Money(money) => money.micros,
            Self::Credits(credits) => credits.micros,
        }
    }

    /// Returns the amount, if it is money.
    pub fn as_money(&self) -> Option<Money> {
        match self {
            Self::Money(money) => Some(*money),
            Self::Credits(_) => None,
        }
    }

    /// Returns the credits, if it is a number of those.
    pub fn as_credits(&self) -> Option<Credits> {
        match self {
            Self::Credits(credits) => Some(*credits),
            Self::Money(_) => None,
        }
    }
}

impl From<Money> for Price {
    fn from(money: Money) -> Self {
        Self::Money(money)
    }
}

impl From<Credits> for Price {
    fn from(credits: Credits) -> Self {
        Self::Credits(credits)
    }
}

/// An ISO 4217 code: three uppercase letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Money {
    /// Parses an amount as gateways write it: a decimal number with up to six places, and a currency.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if it is not a decimal number, has more than six
    /// places that are not zero, or is out of range.
    pub fn parse(amount: &str, currency: &str) -> Result<Self> {
        Ok(Self { micros: parse(amount)?, currency: Currency::new(currency)? })
    }

    /// Parses an amount as written in JSON, rounded to micros, half away from zero.
    ///
    /// A gateway that multiplies floating-point numbers reports three texts at £0.0227 as `0.06810000000000001`.
    /// [`parse`](Self::parse) is for amounts that a person wrote, where a seventh place is a mistake.
    ///
    /// ```
    /// use civic_messaging::message::Money;
    ///
    /// assert_eq!(Money::rounded("0.06810000000000001", "GBP")?.micros, 68_100);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) if it is not a decimal number or is out of
    /// range.
    pub fn rounded(amount: &str, currency: &str) -> Result<Self> {
        Ok(Self { micros: rounded(amount)?, currency: Currency::new(currency)? })
    }
}

impl Credits {
    /// Parses a number as gateways write it: decimal, with up to six places.
    ///
    /// # Errors
    /// As [`Money::parse`].
    pub fn parse(amount: &str) -> Result<Self> {
        parse(amount).map(|micros| Self { micros })
    }

    /// Parses a number as written in JSON, rounded to micros: see [`Money::rounded`].
    ///
    /// # Errors
    /// As [`Money::rounded`].
    pub fn rounded(amount: &str) -> Result<Self> {
        rounded(amount).map(|micros| Self { micros })
    }
}

fn parse(amount: &str) -> Result<i64> {
    micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number with up to six places"))
}

fn rounded(amount: &str) -> Result<i64> {
    rounded_micros(amount).ok_or_else(|| Error::invalid("amount", "is not a decimal number"))
}

/// Accepts `5e-05`, as JSON and Python write small numbers.
fn rounded_micros(amount: &str) -> Option<i64> {
    let (digits, exponent) = match amount.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (amount, 0),
    };
    let (negative, digits) = digits.strip_prefix('-').map_or((false, digits), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(fraction) {
        return None;
    }
    // The number of digits that are micros: the first `kept`, padded with zeros where there are fewer.
    let kept = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(6)?;
    // Zeros with a large exponent would be padded one by one.
    if [whole, fraction].iter().all(|digits| digits.bytes().all(|digit| digit == b'0')) {
        return Some(0);
    }
    let digits = || whole.bytes().chain(fraction.bytes()).map(|digit| i64::from(digit - b'0'));
    let mut micros = 0_i64;
    if let Ok(kept) = usize::try_from(kept) {
        let mut shown = digits().chain(std::iter::repeat(0)).take(kept).skip_while(|digit| *digit == 0);
        micros = shown.by_ref().take(20).try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))?;
        if shown.next().is_some() {
            return None;
        }
        let half = digits().nth(kept).is_some_and(|digit| digit >= 5);
        micros = micros.checked_add(i64::from(half))?;
    }
    Some(if negative { -micros } else { micros })
}

fn micros(amount: &str) -> Option<i64> {
    let (negative, digits) = amount.strip_prefix('-').map_or((false, amount), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let (kept, rest) = fraction.split_at_checked(6).unwrap_or((fraction, ""));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all(whole) || !all(kept) || rest.bytes().any(|b| b != b'0') {
        return None;
    }
    let micros =
        format!("{kept:0<6}").parse::<i64>().ok()?.checked_add(whole.parse::<i64>().ok()?.checked_mul(1_000_000)?)?;
    Some(if negative { -micros } else { micros })
}

/// Writes millionths of a unit.
fn write(f: &mut fmt::Formatter<'_>, micros: i64, unit: &str) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    write!(f, "{sign}{whole}.{fraction:06} {unit}")
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.micros, self.currency.as_str())
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.micros, "credits")
    }
}

/// The millionths from which an amount is no price of a message.
const IMPLAUSIBLE: u64 = 1_000_000_000_000;

impl fmt::Debug for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micros().unsigned_abs() < IMPLAUSIBLE {
            true => write!(f, "Price({self})"),
            false => f.write_str("Price(implausible)"),
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Money(money) => money.fmt(f),
            Self::Credits(credits) => credits.fmt(f),
        }
    }
}

impl Currency {
    /// Creates a currency from its code.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) unless it is three ASCII letters.
    pub fn new(code: &str) -> Result<Self> {
        match code.to_ascii_uppercase().as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(Error::invalid("currency", "must be three letters, such as GBP")),
        }
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_or_an_error() {
        for (amount, micros) in
            [("0", 0), ("1", 1_000_000), ("-0.00750", -7_500), ("0.0333", 33_300), ("0.04000000", 40_000)]
        {
            assert_eq!(Money::parse(amount, "USD").unwrap().micros, micros, "{amount}");
        }
        for wrong in ["", ".", "1.", ".5", "1,5", "0.0000001", "--1", "9223372036854775807"] {
            assert!(Money::parse(wrong, "USD").is_err(), "{wrong}");
        }
        assert!(Money::parse("1", "POUND").is_err());
    }

    #[test]
    fn price_round_trips_through_serde_in_each_unit() {
        for (price, json) in [
            (Money::parse("0.04", "GBP").unwrap().into(), r#"{"money":{"micros":40000,"currency":"GBP"}}"#),
            (Price::from(Credits::rounded("1.5000001").unwrap()), r#"{"credits":{"micros":1500000}}"#),
        ] {
            assert_eq!(serde_json::to_string(&price).unwrap(), json);
            assert_eq!(serde_json::from_str::<Price>(json).unwrap(), price);
        }
        assert!(Credits::parse("1.5000001").is_err() && Credits::rounded("one").is_err());
    }

    #[test]
    fn debug_of_a_price_shows_no_phone_number() {
        for (amount, debug) in [
            ("0.04", "Price(0.040000 credits)"),
            ("-999999.999999", "Price(-999999.999999 credits)"),
            ("1000000", "Price(implausible)"),
            ("-447700900123", "Price(implausible)"),
        ] {
            assert_eq!(format!("{:?}", Price::from(Credits::parse(amount).unwrap())), debug);
        }
    }

    #[test]
    fn rounded_money_is_the_nearest_micro() {
        for (amount, micros) in [
            ("0.06810000000000001", 68_100),
            ("-0.06810000000000001", -68_100),
            ("0.0680999999999999", 68_100),
            ("0.0227", 22_700),
            ("12", 12_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("0.0000005", 1),
            ("0.00000049", 0),
            ("-0.0000005", -1),
            ("0.9999999", 1_000_000),
            ("5e-05", 50),
            ("6.81E-2", 68_100),
            ("5e-7", 1),
            ("5e-8", 0),
            ("1e3", 1_000_000_000),
            ("0e2000000000", 0),
            ("1e-2000000000", 0),
            ("00000000000000000000000001.5", 1_500_000),
            ("9223372036854.775807", i64::MAX),
        ] {
            assert_eq!(Money::rounded(amount, "GBP").unwrap().micros, micros, "{amount}");
        }
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "1,5",
            "--1",
            "1e",
            "e5",
            "1e2000000000",
            "9223372036854.775808",
            "NaN",
            "1e99999999999",
        ] {
            assert!(Money::rounded(wrong, "GBP").is_err(), "{wrong}");
        }
    }
}
