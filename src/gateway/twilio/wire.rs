//! Twilio's JSON, its error codes and its message statuses.

use std::time::Duration;

use super::Twilio;
use super::address::parse_address;
use crate::adapter::json::{List, Piece, Text};
use crate::adapter::{Answer, VendorError, delivery_state, lenient};
use crate::model::address::Address;
use crate::model::delivery::DeliveryState;
use crate::model::error::{ErrorClass, ErrorKind, Scope};
use crate::model::event::Failure;
use crate::model::id::is_code;
use crate::model::message::{Money, Price};

const HOUR: Duration = Duration::from_secs(3_600);

/// Classes by Twilio code, for refusals and for failed deliveries. Where a refusal may be retried, a failed delivery is
/// temporary.
///
/// Each code has a page under <https://www.twilio.com/docs/api/errors>. Read there, from copies stored until
/// 2026-11-30: 14107, 20003, 20404, 20429, 21211, 21602, 21606, 21610, 21611, 21617, 21623, 21635, 21654 to 21656,
/// 21659, 21660, 21701, 21705, 21715, 21730, 30001, 30003 to 30007, 30017, 30020 to 30022, 30024, 30034, 30500, 63003,
/// 63006 to 63008, 63011, 63014, 63016, 63017, 63023, 63028, 63038 and 63049. The classes of 63001, 63005, 63010,
/// 63012, 63013, 63018 to 63022, 63024, 63025, 63027, 63029, 63030, 63032 and 63033 follow from the WhatsApp codes in
/// Twilio's [mapping]. The others are from memory, UNVERIFIED, and so is which of 30xxx are permanent. A code without a
/// row is [`ErrorKind::Rejected`]. Twilio advises against depending on codes because they change: the configuration's
/// `errors` override this table.
///
/// [mapping]: https://www.twilio.com/docs/whatsapp/api/error-code-mapping
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    // 30033: a campaign that is suspended.
    ("30002 30033 63020 63051", ErrorClass::new(ErrorKind::Account)),
    // 217xx: the messaging service is missing, belongs to another account, or has no sender that can send. 30032: an
    // unverified toll-free number.
    (
        "21212 21603 21606 21607 21609 21621 21659 21660 21661 21701 21702 21703 21704 21705 21706 21707 21708 21709 \
         21710 21711 21712 21713 21714 21715 21716 21717 30032 63001 63002 63007 63008 63022",
        ErrorClass::new(ErrorKind::Config),
    ),
    ("30010", ErrorClass::new(ErrorKind::Config).scope(Scope::Message)),
    // 30024: a numeric sender that the carrier has not provisioned. 30034: a campaign that is not registered.
    ("30018 30024 30034 30035", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("21408 21608 63015", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    // 21654 to 21656: an invalid template or template parameter. 63027 and 63028: a template's language is missing, or
    // its parameters do not match. 63040 to 63042: a template that is rejected, paused or disabled.
    (
        "21602 21617 21618 21619 21620 21623 21624 21654 21655 21656 30012 30019 63005 63006 63019 63021 63027 63028 \
         63030 63034 63040 63041 63042",
        ErrorClass::new(ErrorKind::InvalidMessage),
    ),
    (
        "21211 21217 21265 21266 21268 21604 21614 21635 30005 30006 63003 63024 63031",
        ErrorClass::new(ErrorKind::InvalidRecipient),
    ),
    ("20404", ErrorClass::new(ErrorKind::NotFound)),
    // 63014: the person blocked the sender or withdrew consent.
    ("21610 63014 63033", ErrorClass::new(ErrorKind::OptedOut)),
    ("63016", ErrorClass::new(ErrorKind::OutsideWindow)),
    // Meta limits marketing to this person for the time being.
    ("63049", ErrorClass::new(ErrorKind::QuotaExceeded).per_recipient()),
    // 63038: the account's quota for a rolling 24 hours is used up.
    ("30023 30027 63038", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // 30022: carriers' limits per second and per day.
    ("20429 21611 30022 63017 63018", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("14107", ErrorClass::new(ErrorKind::RateLimited).retry(None).per_recipient()),
    ("21612 30004 30007 63011 63013 63025 63032", ErrorClass::new(ErrorKind::Rejected)),
    // Generic errors of a network and of a medium.
    ("30008 63023", ErrorClass::new(ErrorKind::Rejected).retry(None)),
    ("20003", ErrorClass::new(ErrorKind::Unauthenticated)),
    // 21730: maintenance. 30017: the carrier's network is congested. 30020 and 30021: internal errors of scheduling and
    // of messaging services.
    (
        "20500 21730 30001 30003 30017 30020 30021 30036 30410 30500 63009 63010 63012 63029",
        ErrorClass::new(ErrorKind::Unavailable).retry(None),
    ),
    // The phone has no RCS but may have SMS.
    ("63036", ErrorClass::new(ErrorKind::Unsupported)),
];

/// Maps a Twilio status to a delivery state.
///
/// `partially_delivered`, which Twilio calls deprecated, means that only some parts arrived, so it is `Sent`. A failure
/// with code 30036 is an expired `ValidityPeriod`.
pub(super) fn state(status: &str, code: Option<&str>) -> DeliveryState {
    match delivery_state(STATES, status) {
        DeliveryState::Failed if code == Some("30036") => DeliveryState::Expired,
        state => state,
    }
}

const STATES: &[(&str, DeliveryState)] = &[
    ("accepted queued scheduled", DeliveryState::Accepted),
    ("sending", DeliveryState::Sending),
    ("partially_delivered sent", DeliveryState::Sent),
    ("delivered", DeliveryState::Delivered),
    ("read", DeliveryState::Read),
    ("canceled", DeliveryState::Cancelled),
    ("failed undelivered", DeliveryState::Failed),
];

impl Twilio {
    /// The reason of a failed or expired delivery.
    pub(super) fn failure(&self, state: DeliveryState, code: Option<&str>, detail: Option<String>) -> Option<Failure> {
        let is_failed = matches!(state, DeliveryState::Failed | DeliveryState::Expired);
        is_failed.then(|| self.endpoint.failure(code, detail))
    }
}

/// Reads `{"code":21211,"message":"…","more_info":"https://…","status":400}`. The message is not kept, because it may
/// contain the number.
pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let request_id = answer.headers.get("twilio-request-id").and_then(|id| id.to_str().ok()).map(Into::into);
    let mut error = VendorError { request_id, ..VendorError::default() };
    if let Some(code) = answer.member("code") {
        if is_code(&code) && code.bytes().all(|b| b.is_ascii_digit()) {
            error.help = Some(format!("https://www.twilio.com/docs/errors/{code}").into());
        }
        error.code = Some(code.into());
    }
    error
}

lenient! {
    pub(super) struct AccountResource<'a> {
        pub(super) status: Text<'a>,
        pub(super) kind = "type": Text<'a>,
    }

    /// A page of messages.
    pub(super) struct MessageList<'a> {
        pub(super) messages: List<Piece<'a>>,
        pub(super) next_page_uri: Text<'a>,
    }

    /// A message.
    pub(super) struct MessageResource<'a> {
        pub(super) sid: Text<'a>,
        pub(super) status: Text<'a>,
        to: Text<'a>,
        pub(super) from: Text<'a>,
        pub(super) messaging_service_sid: Text<'a>,
        pub(super) body: Text<'a>,
        pub(super) direction: Text<'a>,
        num_segments: Text<'a>,
        price: Text<'a>,
        price_unit: Text<'a>,
        pub(super) error_code: Text<'a>,
        pub(super) error_message: Text<'a>,
        pub(super) date_created: Text<'a>,
        pub(super) date_sent: Text<'a>,
        pub(super) date_updated: Text<'a>,
    }
}

impl MessageResource<'_> {
    pub(super) fn state(&self) -> DeliveryState {
        state(self.status.as_deref().unwrap_or_default(), self.error_code.as_deref())
    }

    pub(super) fn recipient(&self) -> Option<Address> {
        parse_address(self.to.as_deref()?, None, None).map(|(_, address)| address)
    }

    /// The number of segments. With a messaging service Twilio writes 0 until a sender is chosen.
    pub(super) fn segments(&self) -> Option<u32> {
        self.num_segments.as_deref()?.parse().ok().filter(|count| *count > 0)
    }

    /// The price as a positive amount; Twilio writes a charge as a negative one.
    pub(super) fn price(&self) -> Option<Price> {
        let mut price = Money::rounded(self.price.as_deref()?, self.price_unit.as_deref()?).ok()?;
        price.micros = price.micros.checked_neg()?;
        Some(price.into())
    }
}
