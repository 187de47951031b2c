//! Secrets that verify webhooks, and the accounts that each owns.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::model::digest::Digest;
use crate::model::error::Result;
use crate::model::id::AccountId;
use crate::model::secret::Secret;

/// A secret that verifies webhooks, and the accounts it may create events for.
///
/// In a configuration it is a string, which owns the channel's own account, or a table with `secret` and `accounts`. To
/// rotate, list the old one and the new one.
#[derive(Clone, Debug)]
pub struct SigningSecret {
    secret: Secret,
    pub(super) ownership: Ownership,
}

#[derive(Clone, Debug)]
pub(super) enum Ownership {
    /// The channel's accounts, not yet filled in.
    Channel,
    Accounts(Arc<[AccountId]>),
}

impl Ownership {
    pub(super) fn account(&self, account: &str) -> bool {
        match self {
            Self::Channel => false,
            Self::Accounts(accounts) => accounts.iter().any(|owned| owned.as_str() == account),
        }
    }
}

impl SigningSecret {
    /// Creates a secret that owns the account of its channel.
    pub fn new(secret: Secret) -> Self {
        Self { secret, ownership: Ownership::Channel }
    }

    /// Creates a secret that owns exactly these accounts.
    pub fn for_accounts(secret: Secret, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        Self { secret, ownership: Ownership::Accounts(accounts.into_iter().collect()) }
    }

    /// Returns the secret.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Assigns the channel's accounts, unless the secret names its own.
    #[must_use]
    pub fn or_owns(mut self, accounts: &[AccountId]) -> Self {
        if matches!(self.ownership, Ownership::Channel) {
            self.ownership = Ownership::Accounts(accounts.into());
        }
        self
    }
}

impl From<Secret> for SigningSecret {
    fn from(secret: Secret) -> Self {
        Self::new(secret)
    }
}

impl<'de> Deserialize<'de> for SigningSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Setting {
            Plain(String),
            Owning { secret: String, accounts: Vec<AccountId> },
        }
        let secret = |text| Secret::new(text).map_err(serde::de::Error::custom);
        Ok(match Setting::deserialize(deserializer)? {
            Setting::Plain(text) => Self::new(secret(text)?),
            Setting::Owning { secret: text, accounts } => Self::for_accounts(secret(text)?, accounts),
        })
    }
}

/// An identity for a channel's verification: channels with equal verifiers accept the same requests.
///
/// Channels often share a webhook, such as all numbers of a Meta app. One of them then decides for all whether a
/// request is accepted, and [`Received::discarded`](super::Received::discarded) names the accounts whose channels have to receive it too. See
/// [`Channel::verifier`](crate::Channel::verifier).
#[derive(Clone)]
pub struct Verifier {
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    scheme: Digest,
    accounts: Arc<[AccountId]>,
}

impl Verifier {
    /// Creates a verifier from the scheme's settings and its secrets, which own these accounts only.
    ///
    /// The settings are everything else that the scheme's result depends on: a header's name, a public URL, a handshake
    /// token. `None` without a secret, and if the secrets own different accounts, because the matching secret would
    /// then decide which events a request may contain.
    pub fn new<'s>(settings: impl IntoIterator<Item = &'s str>, secrets: &[SigningSecret]) -> Option<Self> {
        let Ownership::Accounts(accounts) = &secrets.first()?.ownership else { return None };
        let mut described = Vec::new();
        let mut add = |text: &str| {
            described.extend_from_slice(&text.len().to_le_bytes());
            described.extend_from_slice(text.as_bytes());
        };
        settings.into_iter().for_each(&mut add);
        // Separates settings from secrets.
        add("");
        for secret in secrets {
            match &secret.ownership {
                Ownership::Accounts(owned) if owned == accounts => add(secret.secret.expose()),
                _ => return None,
            }
        }
        Some(Self { scheme: Digest::sha256(&described), accounts: accounts.clone() })
    }

    /// Returns `true` if both accept the same requests.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.scheme == other.scheme
    }

    /// Returns the accounts that a request may contain events for.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite-system")),
        allow(dead_code, reason = "the switchboard reads it")
    )]
    pub(crate) fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest of a weak secret could be brute-forced.
        f.debug_struct("Verifier").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// Deserialises one secret, or a list of them, for a gateway's `Config`.
///
/// ```
/// use civic_messaging::webhook::{self, SigningSecret};
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     #[serde(deserialize_with = "webhook::secrets")]
///     secrets: Vec<SigningSecret>,
/// }
/// let one: Config = serde_json::from_str(r#"{ "secrets": "signing-secret" }"#).unwrap();
/// let two: Config = serde_json::from_str(r#"{ "secrets": ["old-secret", "new-secret"] }"#).unwrap();
/// assert_eq!((one.secrets.len(), two.secrets.len()), (1, 2));
/// ```
///
/// # Errors
/// The deserialiser's, with the rule that a secret breaks.
pub fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SigningSecret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<serde_json::Value>),
        One(serde_json::Value),
    }
    let values = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    };
    values.into_iter().map(|value| SigningSecret::deserialize(value).map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_owns_named_accounts_or_the_channels() {
        let plain: SigningSecret = serde_json::from_str(r#""signing-secret""#).unwrap();
        assert!(!plain.ownership.account("1"));
        assert!(plain.or_owns(&["1".into()]).ownership.account("1"));
        let named: SigningSecret = serde_json::from_str(r#"{"secret":"signing-secret","accounts":["2"]}"#).unwrap();
        let named = named.or_owns(&["1".into()]);
        assert!(named.ownership.account("2") && !named.ownership.account("1"));
        assert!(serde_json::from_str::<SigningSecret>(r#""short""#).unwrap_err().to_string().contains("8 bytes"));
    }
}
