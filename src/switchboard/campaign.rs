//! The figures of a campaign: the messages of a line under one tag.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Switchboard;
use super::status::State;
use crate::model::error::Result;
use crate::model::message::Price;

/// The figures of the messages of a line under one tag.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// The number of messages in each state, including those with removed content.
    pub messages: BTreeMap<State, u64>,
    /// The number of segments that gateways counted when they accepted messages.
    pub segments: u64,
    /// The prices that gateways returned when they accepted messages: a sum for each currency, and one of credits.
    pub cost: Vec<Price>,
    /// The number of accepted messages for which the gateway returned no price.
    pub unpriced: u64,
}

/// The sum of a campaign's accepted attempts with one currency, or without a price.
pub(super) struct CostRow {
    pub(super) segments: i64,
    pub(super) price: Option<Price>,
    pub(super) unpriced: i64,
}

impl Campaign {
    /// Returns the number of messages in this state.
    pub fn count(&self, state: State) -> u64 {
        self.messages.get(&state).copied().unwrap_or(0)
    }

    /// Returns the number of messages.
    pub fn total(&self) -> u64 {
        self.messages.values().sum()
    }

    pub(super) fn from_rows(counts: Vec<(State, i64)>, costs: Vec<CostRow>) -> Self {
        let mut campaign = Self::default();
        for (state, count) in counts {
            *campaign.messages.entry(state).or_default() += count.unsigned_abs();
        }
        for CostRow { segments, price, unpriced } in costs {
            campaign.segments += segments.unsigned_abs();
            campaign.cost.extend(price);
            campaign.unpriced += unpriced.unsigned_abs();
        }
        campaign
    }
}

impl Switchboard {
    /// Returns the figures of the messages of a line under a tag: of a bulk, or of single messages.
    ///
    /// It reads the index entry and the attempts of every message under the tag: a few seconds for a million.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a line that neither the switchboard nor its store
    /// has, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn campaign(&self, line: &str, tag: &str) -> Result<Campaign> {
        self.0.known(line).await?;
        self.0.store.0.campaign(line, tag).await
    }
}
