//! Events of our own WhatsApp account: templates, quality, limits, restrictions.
//!
//! Webhook references of [account_update][update], [account_alerts][alerts], [template_category_update][category] and
//! their like, read 2026-11-30 from stored copies. The values of `flows` are of a webhook that Meta sends and that page
//! describes in part only.
//!
//! [update]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/account_update
//! [alerts]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/account_alerts
//! [category]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/template_category_update

use std::borrow::Cow;

use crate::adapter::json::{self, List, Member, Piece, Text};
use crate::adapter::lenient;
use crate::model::clock::Timestamp;
use crate::model::event::{Account, Envelope, Event, Topic, Unrecognised, Upcoming};

/// An event of the account; whatever Meta calls it, its piece is kept.
pub(super) fn account_event(field: &str, piece: &str, envelope: Envelope) -> Event {
    let value: Value<'_> = json::read(piece).unwrap_or_default();
    let flat: Alert<'_> = json::read(piece).unwrap_or_default();
    let details = if field == "account_update" { value.details() } else { None };
    let (topic, state, reason) = match field {
        "message_template_status_update" => (Topic::Template, value.event.some(), value.why()),
        "template_category_update" | "template_correct_category_detection" => (
            Topic::Template,
            value.category().or(value.correct_category.some().or(value.id.some()).and(Some(field))),
            value.previous_category.some(),
        ),
        "message_template_components_update" => {
            (Topic::Template, value.id.some().or(value.name.some()).and(Some(field)), None)
        }
        "message_template_quality_update" => {
            (Topic::Quality, value.new_quality_score.some(), value.previous_quality_score.some())
        }
        "phone_number_quality_update" => (Topic::Quality, value.event.some(), value.limit().some()),
        "business_capability_update" => (Topic::Limit, value.limit().some(), None),
        "account_update" => (value.topic(), value.event.some(), details.as_deref()),
        "account_alerts" => {
            // Older webhooks have its members in the value itself.
            let alert = value.alert_info.as_ref().unwrap_or(&flat);
            let limit = alert.alert_type.as_deref().is_some_and(|alert| alert.starts_with("INCREASED_CAPABILITIES"));
            let topic = if limit { Topic::Limit } else { Topic::Information };
            (topic, alert.alert_type.some(), alert.alert_description.some().or(alert.alert_severity.some()))
        }
        "account_review_update" => (Topic::Access, value.decision.some(), None),
        "phone_number_name_update" => (Topic::Information, value.decision.some(), value.rejection_reason.some()),
        "payment_configuration_update" => (Topic::Information, value.status.some(), None),
        "flows" => {
            let alert = value.alert_state.some();
            (if alert.is_some() { Topic::Error } else { Topic::Information }, value.event.some(), alert)
        }
        "security" => (Topic::Access, value.event.some(), None),
        _ => return Unrecognised::new(envelope, field).into(),
    };
    let Some(state) = state else { return Unrecognised::new(envelope, field).into() };
    let mut account = Account::new(envelope, topic, state);
    account.reason = reason.map(str::to_owned);
    account.name = value.name.to_text();
    account.id = value.id.to_text();
    account.language = value.message_template_language.to_text();
    let begins = value.category_update_timestamp.as_deref().and_then(Timestamp::from_unix);
    account.upcoming = match field {
        "account_update" => value.end_of_restrictions(),
        _ => value.correct_category.some().map(|category| Upcoming::new(category, begins)),
    };
    account.into()
}

impl Value<'_> {
    /// The subject of an `account_update`. Most of its kinds restrict nothing.
    fn topic(&self) -> Topic {
        match self.event.as_deref() {
            Some("DISABLED_UPDATE") if self.ban().as_deref() == Some("REINSTATE") => Topic::Reinstatement,
            Some("ACCOUNT_RESTRICTION" | "ACCOUNT_VIOLATION" | "DISABLED_UPDATE") => Topic::Restriction,
            Some(
                "ACCOUNT_DELETED"
                | "ACCOUNT_OFFBOARDED"
                | "ACCOUNT_RECONNECTED"
                | "PARTNER_ADDED"
                | "PARTNER_APP_INSTALLED"
                | "PARTNER_APP_UNINSTALLED"
                | "PARTNER_REMOVED",
            ) => Topic::Access,
            _ => Topic::Information,
        }
    }

    fn ban(&self) -> &Text<'_> {
        self.ban_info.as_ref().map_or(&self.ban_state, |ban| &ban.waba_ban_state)
    }

    /// The details of an `account_update`: how far a ban goes, which rule was broken, what is restricted and why, why a
    /// partner was disconnected, which price is paid, why a certification failed.
    fn details(&self) -> Option<Cow<'_, str>> {
        let violated = || self.violation_info.as_ref().and_then(|violation| violation.violation_type.some());
        let disconnected = || self.disconnection_info.as_ref().and_then(|info| info.reason.some());
        let banned_or_violated = self.ban().some().or_else(violated).map(Cow::Borrowed);
        banned_or_violated
            .or_else(|| self.restricted())
            .or_else(|| disconnected().map(Cow::Borrowed))
            .or_else(|| self.volume_tier_info.as_ref().and_then(VolumeTier::details))
            .or_else(|| self.partner_client_certification_info.as_ref().and_then(Certification::details))
            .or_else(|| self.country.some().map(Cow::Borrowed))
    }

    /// All that is restricted, with the reason for each where there is one.
    fn restricted(&self) -> Option<Cow<'_, str>> {
        let restrictions = list_or_one::<Restriction<'_>>(self.restriction_info);
        let restricted = restrictions.iter().filter_map(|restriction| {
            let (kind, reason) = (restriction.restriction_type.some(), restriction.reason.some());
            match (kind, reason) {
                (Some(kind), Some(reason)) => Some(format!("{kind}: {reason}")),
                (kind, reason) => kind.or(reason).map(str::to_owned),
            }
        });
        joined(restricted)
    }

    /// When the last restriction ends, under Meta's word for it; `None` if one of them has no end.
    fn end_of_restrictions(&self) -> Option<Upcoming> {
        let restrictions = list_or_one::<Restriction<'_>>(self.restriction_info);
        let ends = restrictions.iter().map(|restriction| Timestamp::from_unix(restriction.expiration.some()?));
        let ends: Option<Vec<Timestamp>> = ends.collect();
        Some(Upcoming::new("expiration", Some(ends?.into_iter().max()?)))
    }

    /// The present category of a template.
    fn category(&self) -> Option<&str> {
        self.new_category.some().or(self.category.some())
    }

    fn limit(&self) -> &Text<'_> {
        let limits =
            [&self.max_daily_conversations_per_business, &self.max_daily_conversation_per_phone, &self.current_limit];
        limits.into_iter().find(|limit| limit.some().is_some()).unwrap_or(&self.current_limit)
    }

    /// Why a template is in its state, in the most telling words.
    fn why(&self) -> Option<&str> {
        let titled = || self.other_info.as_ref().and_then(|info| info.title.some());
        self.reason.some().filter(|reason| *reason != "NONE").or_else(titled).or(self.reason.some())
    }
}

impl VolumeTier<'_> {
    /// The tier, and what it is of: "25000:50000, UTILITY, GB, 2026-12".
    fn details(&self) -> Option<Cow<'_, str>> {
        let parts = [&self.tier, &self.pricing_category, &self.region, &self.effective_month];
        joined(parts.into_iter().filter_map(Text::some).map(str::to_owned))
    }
}

impl Certification<'_> {
    /// The status, and why it is so: "FAILED: ADDRESS_NOT_MATCHING".
    fn details(&self) -> Option<Cow<'_, str>> {
        let reasons = list_or_one::<Text<'_>>(self.rejection_reasons);
        let reasons =
            joined(reasons.iter().filter_map(Text::some).filter(|reason| *reason != "NONE").map(str::to_owned));
        match (self.status.some(), reasons) {
            (Some(status), Some(reasons)) => Some(Cow::Owned(format!("{status}: {reasons}"))),
            (status, reasons) => status.map(Cow::Borrowed).or(reasons),
        }
    }
}

/// The elements of a list; or one value that stands there without a list.
fn list_or_one<'a, T: Member<'a>>(piece: Piece<'a>) -> Vec<T> {
    match json::read::<List<T>>(piece.get()) {
        Some(list) => list.items,
        None => json::read(piece.get()).into_iter().collect(),
    }
}

/// The parts with a comma between them; `None` without any.
fn joined<'a>(parts: impl Iterator<Item = String>) -> Option<Cow<'a, str>> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| Cow::Owned(parts.join(", ")))
}

lenient! {
    struct Value<'a> {
        event: Text<'a>,
        reason: Text<'a>,
        id = "message_template_id" | "flow_id" | "entity_id": Text<'a>,
        name = "message_template_name" | "requested_verified_name" | "configuration_name": Text<'a>,
        message_template_language: Text<'a>,
        other_info: Option<Titled<'a>>,
        new_category: Text<'a>,
        category = "category" | "current_category": Text<'a>,
        previous_category: Text<'a>,
        correct_category: Text<'a>,
        category_update_timestamp: Text<'a>,
        new_quality_score: Text<'a>,
        previous_quality_score: Text<'a>,
        current_limit: Text<'a>,
        max_daily_conversations_per_business: Text<'a>,
        max_daily_conversation_per_phone: Text<'a>,
        ban_info: Option<Ban<'a>>,
        ban_state: Text<'a>,
        violation_info: Option<Violation<'a>>,
        restriction_info: Piece<'a>,
        disconnection_info: Option<Disconnection<'a>>,
        volume_tier_info: Option<VolumeTier<'a>>,
        partner_client_certification_info: Option<Certification<'a>>,
        country: Text<'a>,
        alert_info: Option<Alert<'a>>,
        alert_state: Text<'a>,
        decision: Text<'a>,
        rejection_reason: Text<'a>,
        status: Text<'a>,
    }

    struct Titled<'a> {
        title: Text<'a>,
    }

    struct Ban<'a> {
        waba_ban_state: Text<'a>,
    }

    struct Violation<'a> {
        violation_type: Text<'a>,
    }

    struct Restriction<'a> {
        restriction_type: Text<'a>,
        reason: Text<'a>,
        expiration: Text<'a>,
    }

    struct Disconnection<'a> {
        reason: Text<'a>,
    }

    struct VolumeTier<'a> {
        tier: Text<'a>,
        pricing_category: Text<'a>,
        region: Text<'a>,
        effective_month: Text<'a>,
    }

    struct Certification<'a> {
        status: Text<'a>,
        rejection_reasons: Piece<'a>,
    }

    struct Alert<'a> {
        alert_type: Text<'a>,
        alert_severity: Text<'a>,
        alert_description: Text<'a>,
    }
}
