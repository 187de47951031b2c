//! Conversations, and addresses of other media.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::Medium;
use crate::model::error::{Error, Result};

/// A group conversation.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "OtherAddress", into = "OtherAddress")]
pub struct Conversation {
    medium: Medium,
    id: Box<str>,
}

impl Conversation {
    /// Returns the medium.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Returns the medium's id. Personal data: an X conversation's id contains both user ids.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// An address on a medium that this crate does not implement.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OtherAddress {
    medium: Medium,
    #[serde(deserialize_with = "opaque_id")]
    id: Box<str>,
}

impl OtherAddress {
    pub(super) fn new(medium: Medium, id: &str) -> Result<Self> {
        Ok(Self { medium, id: opaque(id)? })
    }

    /// Returns the medium.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Returns the id. Personal data: keep it out of logs.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl From<OtherAddress> for Conversation {
    fn from(OtherAddress { medium, id }: OtherAddress) -> Self {
        Self { medium, id }
    }
}

impl From<Conversation> for OtherAddress {
    fn from(Conversation { medium, id }: Conversation) -> Self {
        Self { medium, id }
    }
}

pub(super) fn opaque(id: &str) -> Result<Box<str>> {
    match id {
        "" => Err(Error::recipient("is empty")),
        _ if id.len() > 256 => Err(Error::recipient("is over 256 bytes")),
        _ if id.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(Error::recipient("contains white space or control characters"))
        }
        _ => Ok(id.into()),
    }
}

fn opaque_id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Box<str>, D::Error> {
    opaque(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("medium", &format_args!("{}", self.medium)).finish_non_exhaustive()
    }
}

impl fmt::Debug for OtherAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherAddress").field("medium", &format_args!("{}", self.medium)).finish_non_exhaustive()
    }
}
