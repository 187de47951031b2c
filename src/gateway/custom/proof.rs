//! Proofs that a webhook comes from the supplier.

use http::header::HeaderName;
use serde::Deserialize;

use crate::model::error::{Error, Result};
use crate::model::id::AccountId;
use crate::model::secret::Secret;
use crate::webhook::{
    self, Basic, BearerToken, HeaderToken, HmacSha256, QueryToken, Scheme, SignatureEncoding, SigningSecret, Unsigned,
};

/// The proof that a webhook comes from the supplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proof {
    Basic(BasicProof),
    Bearer(BearerProof),
    Header(TokenProof),
    HmacSha256(HmacProof),
    Query(TokenProof),
    /// Nothing proves the sender: anybody who knows the URL can write as any resident.
    Unproven(Unproven),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BasicProof {
    user: String,
    #[serde(deserialize_with = "webhook::secrets")]
    passwords: Vec<SigningSecret>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BearerProof {
    #[serde(deserialize_with = "webhook::secrets")]
    tokens: Vec<SigningSecret>,
}

/// A token in a header or a parameter with this name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenProof {
    name: String,
    #[serde(deserialize_with = "webhook::secrets")]
    tokens: Vec<SigningSecret>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HmacProof {
    header: String,
    #[serde(default)]
    prefix: String,
    encoding: HmacEncoding,
    #[serde(deserialize_with = "webhook::secrets")]
    secrets: Vec<SigningSecret>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HmacEncoding {
    Base64,
    Hex,
}

/// The statement that nothing proves the sender.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "bool")]
pub(super) struct Unproven;

impl TryFrom<bool> for Unproven {
    type Error = &'static str;

    fn try_from(stated: bool) -> Result<Self, Self::Error> {
        match stated {
            true => Ok(Self),
            false => Err("must be true: it states that nothing proves who sent a webhook"),
        }
    }
}

impl Proof {
    /// Returns the scheme, whose secrets own this account; `None` without a secret.
    pub(super) fn scheme(&self, account: &AccountId) -> Result<Option<Box<dyn Scheme>>> {
        let own = |secrets: &[SigningSecret]| {
            let owned = std::slice::from_ref(account);
            secrets.iter().map(|secret| secret.clone().or_owns(owned)).collect::<Vec<_>>()
        };
        let secrets = self.secrets();
        if secrets.is_empty() && !matches!(self, Self::Unproven(_)) {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Basic(BasicProof { user, .. }) => Box::new(Basic::new(user.clone(), own(secrets))),
            Self::Bearer(_) => Box::new(BearerToken::new(own(secrets))),
            Self::Header(TokenProof { name, .. }) => {
                Box::new(HeaderToken::new(header_name("webhook.proof.header.name", name)?, own(secrets)))
            }
            Self::HmacSha256(HmacProof { header, prefix, encoding, .. }) => {
                let encoding = match encoding {
                    HmacEncoding::Base64 => SignatureEncoding::Base64,
                    HmacEncoding::Hex => SignatureEncoding::Hex,
                };
                let header = header_name("webhook.proof.hmac_sha256.header", header)?;
                Box::new(HmacSha256::new(header, prefix.clone(), encoding, own(secrets)))
            }
            Self::Query(TokenProof { name, .. }) => Box::new(QueryToken::new(name.clone(), own(secrets))),
            Self::Unproven(_) => {
                let owner = SigningSecret::for_accounts(Secret::new("unproven")?, [account.clone()]);
                Box::new(Unsigned::new(owner))
            }
        }))
    }

    fn secrets(&self) -> &[SigningSecret] {
        match self {
            Self::Basic(proof) => &proof.passwords,
            Self::Bearer(proof) => &proof.tokens,
            Self::Header(proof) | Self::Query(proof) => &proof.tokens,
            Self::HmacSha256(proof) => &proof.secrets,
            Self::Unproven(_) => &[],
        }
    }

    /// Replaces the secrets.
    pub(super) fn set_secrets(&mut self, secrets: Vec<SigningSecret>) {
        match self {
            Self::Basic(proof) => proof.passwords = secrets,
            Self::Bearer(proof) => proof.tokens = secrets,
            Self::Header(proof) | Self::Query(proof) => proof.tokens = secrets,
            Self::HmacSha256(proof) => proof.secrets = secrets,
            Self::Unproven(_) => {}
        }
    }
}

/// Parses the name of a header.
pub(super) fn header_name(field: &str, name: &str) -> Result<HeaderName> {
    name.parse().map_err(|_| Error::config(field.to_owned(), "is not a header's name"))
}
