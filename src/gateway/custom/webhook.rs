//! The table that says how webhooks are read.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::answer::Source;
use super::pointer::Pointer;
use super::proof::Proof;
use super::time::{TimeFormat, Zone};
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorClass, Result};

/// The table that says how webhooks are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookConfig {
    pub(super) proof: Proof,
    pub(super) format: WebhookFormat,
    /// The list of events, if a webhook has several.
    #[serde(default)]
    pub(super) each: Option<Pointer>,
    #[serde(default)]
    pub(super) time_format: TimeFormat,
    #[serde(default)]
    pub(super) zone: Zone,
    #[serde(default)]
    pub(super) inbound: Option<InboundConfig>,
    #[serde(default)]
    pub(super) receipt: Option<ReceiptConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WebhookFormat {
    /// A posted form, or the query of a GET.
    Form,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InboundConfig {
    /// Our number. Without it, the proof alone decides whose event it is.
    #[serde(default)]
    pub(super) account: Option<Source>,
    #[serde(default)]
    pub(super) id: Option<Source>,
    pub(super) from: Source,
    #[serde(default)]
    pub(super) to: Option<Source>,
    pub(super) text: Source,
    #[serde(default)]
    pub(super) at: Option<Source>,
    #[serde(default)]
    pub(super) when: Option<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptConfig {
    /// Our number, as in an inbound message.
    #[serde(default)]
    pub(super) account: Option<Source>,
    #[serde(default)]
    pub(super) id: Option<Source>,
    #[serde(default)]
    pub(super) reference: Option<Source>,
    pub(super) status: Source,
    #[serde(default)]
    pub(super) code: Option<Source>,
    #[serde(default)]
    pub(super) to: Option<Source>,
    #[serde(default)]
    pub(super) at: Option<Source>,
    #[serde(default)]
    pub(super) parts: Option<Source>,
    /// The price, in the currency of the answers.
    #[serde(default)]
    pub(super) price: Option<Source>,
    #[serde(default)]
    pub(super) when: Option<Condition>,
    /// The supplier's words for each state.
    pub(super) states: BTreeMap<DeliveryState, Vec<String>>,
    /// The classes of the codes of failed deliveries.
    #[serde(default)]
    pub(super) failures: BTreeMap<String, ErrorClass>,
}

/// A value that an event of this kind has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    pub(super) field: Source,
    pub(super) is: String,
}

impl WebhookConfig {
    /// Checks what no single setting shows.
    pub(super) fn check(&self) -> Result<()> {
        if self.inbound.is_none() && self.receipt.is_none() {
            return Err(Error::config("webhook", "needs a table inbound, a table receipt, or both"));
        }
        if self.each.is_some() && self.format != WebhookFormat::Json {
            return Err(Error::config("webhook.each", "needs the format json"));
        }
        if self.receipt.as_ref().is_some_and(|receipt| receipt.id.is_none() && receipt.reference.is_none()) {
            return Err(Error::config("webhook.receipt", "needs id, reference, or both"));
        }
        let inbound = self.inbound.iter().flat_map(|of| {
            let when = of.when.as_ref().map(|when| &when.field);
            [of.account.as_ref(), of.id.as_ref(), Some(&of.from), of.to.as_ref(), Some(&of.text), of.at.as_ref(), when]
        });
        let receipt = self.receipt.iter().flat_map(|of| {
            let (when, reference) = (of.when.as_ref().map(|when| &when.field), of.reference.as_ref());
            let (code, to, parts, price) = (of.code.as_ref(), of.to.as_ref(), of.parts.as_ref(), of.price.as_ref());
            let status = Some(&of.status);
            [of.account.as_ref(), of.id.as_ref(), reference, status, code, to, of.at.as_ref(), parts, price, when]
        });
        let inbound = inbound.flatten().map(|source| ("webhook.inbound", source));
        let mut all = inbound.chain(receipt.flatten().map(|source| ("webhook.receipt", source)));
        all.try_for_each(|(table, source)| match source {
            Source::Header(_) => Err(Error::config(table, "cannot name a header, which its proof may not cover")),
            source => source.check(table, self.format == WebhookFormat::Form),
        })
    }
}
