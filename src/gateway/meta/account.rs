//! What Meta says of our own WhatsApp account: templates, quality, limits, restrictions.
//!
//! Webhook references of [account_update][update], [account_alerts][alerts], [template_category_update][category] and
//! their like, read 2026-11-30 from stored copies. The values of `flows` are of a webhook that Meta sends and that page
//! describes in part only.
//!
//! [update]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/account_update
//! [alerts]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/account_alerts
//! [category]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/template_category_update

use crate::adapter::json::{self, List, Text};
use crate::adapter::lenient;
use crate::clock::Timestamp;
use crate::event::{Account, Envelope, Event, Topic, Unrecognised, Upcoming};

/// An event of the account; whatever Meta calls it, its piece is kept.
pub(super) fn account_event(field: &str, piece: &str, envelope: Envelope) -> Event {
    let value: Value<'_> = json::read(piece).unwrap_or_default();
    let flat: Alert<'_> = json::read(piece).unwrap_or_default();
    let (topic, state, reason) = match field {
        "message_template_status_update" => (Topic::Template, &value.event, value.why()),
        "template_category_update" => (Topic::Template, &value.new_category, value.previous_category.some()),
        "message_template_quality_update" => {
            (Topic::Quality, &value.new_quality_score, value.previous_quality_score.some())
        }
        "phone_number_quality_update" => (Topic::Quality, &value.event, value.limit().some()),
        "business_capability_update" => (Topic::Limit, value.limit(), None),
        "account_update" => (value.topic(), &value.event, value.details()),
        "account_alerts" => {
            // Older webhooks have its members in the value itself.
            let alert = value.alert_info.as_ref().unwrap_or(&flat);
            let limit = alert.alert_type.as_deref().is_some_and(|alert| alert.starts_with("INCREASED_CAPABILITIES"));
            let topic = if limit { Topic::Limit } else { Topic::Information };
            (topic, &alert.alert_type, alert.alert_description.some().or(alert.alert_severity.some()))
        }
        "account_review_update" => (Topic::Access, &value.decision, None),
        "phone_number_name_update" => (Topic::Information, &value.decision, value.rejection_reason.some()),
        "payment_configuration_update" => (Topic::Information, &value.status, None),
        "flows" => {
            let alert = value.alert_state.some();
            (if alert.is_some() { Topic::Error } else { Topic::Information }, &value.event, alert)
        }
        "security" => (Topic::Access, &value.event, None),
        _ => return Unrecognised::new(envelope, field).into(),
    };
    let Some(state) = state.some() else { return Unrecognised::new(envelope, field).into() };
    let mut account = Account::new(envelope, topic, state);
    account.reason = reason.map(str::to_owned);
    account.name = value.name.to_text();
    account.id = value.id.to_text();
    account.language = value.message_template_language.to_text();
    let begins = value.category_update_timestamp.as_deref().and_then(Timestamp::from_unix);
    account.upcoming = value.correct_category.some().map(|category| Upcoming::new(category, begins));
    account.into()
}

impl Value<'_> {
    /// What an `account_update` is about. Most of its kinds take nothing from us.
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

    /// The details of an `account_update`: how far a ban goes, which rule was broken, what is restricted.
    fn details(&self) -> Option<&str> {
        let restricted = || self.restriction_info.first().and_then(|restriction| restriction.restriction_type.some());
        let violated = || self.violation_info.as_ref().and_then(|violation| violation.violation_type.some());
        let certified = || self.partner_client_certification_info.as_ref().and_then(|info| info.status.some());
        self.ban().some().or_else(violated).or_else(restricted).or_else(certified).or_else(|| self.country.some())
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

lenient! {
    struct Value<'a> {
        event: Text<'a>,
        reason: Text<'a>,
        id = "message_template_id" | "flow_id" | "entity_id": Text<'a>,
        name = "message_template_name" | "requested_verified_name" | "configuration_name": Text<'a>,
        message_template_language: Text<'a>,
        other_info: Option<Titled<'a>>,
        new_category: Text<'a>,
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
        restriction_info: List<Restriction<'a>>,
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
    }

    struct Certification<'a> {
        status: Text<'a>,
    }

    struct Alert<'a> {
        alert_type: Text<'a>,
        alert_severity: Text<'a>,
        alert_description: Text<'a>,
    }
}
