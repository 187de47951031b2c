//! Twilio's JSON, its error codes and its message statuses.

use std::time::Duration;

use http::header::HeaderName;
use serde::Deserialize;

use super::Twilio;
use super::address::parse_address;
use crate::adapter::json::{List, Piece, Text};
use crate::adapter::wire::Str;
use crate::adapter::{Answer, VendorError, lenient};
use crate::model::address::Address;
use crate::model::error::{ErrorClass, ErrorKind, Scope};
use crate::model::event::{DeliveryState, Failure};
use crate::model::id::is_code;
use crate::model::message::Money;

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
    // Rate limit per recipient.
    ("14107", ErrorClass::new(ErrorKind::RateLimited).retry(None).per_recipient()),
    ("20003", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("20404", ErrorClass::new(ErrorKind::NotFound)),
    ("20429", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("20500", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("21211", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21212", ErrorClass::new(ErrorKind::Config)),
    ("21217", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21265", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21266", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21268", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21408", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("21602", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21603", ErrorClass::new(ErrorKind::Config)),
    ("21604", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21606", ErrorClass::new(ErrorKind::Config)),
    ("21607", ErrorClass::new(ErrorKind::Config)),
    ("21608", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("21609", ErrorClass::new(ErrorKind::Config)),
    ("21610", ErrorClass::new(ErrorKind::OptedOut)),
    ("21611", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("21612", ErrorClass::new(ErrorKind::Rejected)),
    ("21614", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("21617", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21618", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21619", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21620", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21621", ErrorClass::new(ErrorKind::Config)),
    ("21623", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21624", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21635", ErrorClass::new(ErrorKind::InvalidRecipient)),
    // An invalid template or template parameter.
    ("21654", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21655", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21656", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("21659", ErrorClass::new(ErrorKind::Config)),
    ("21660", ErrorClass::new(ErrorKind::Config)),
    ("21661", ErrorClass::new(ErrorKind::Config)),
    // The messaging service is missing, belongs to another account, or has no sender that can send.
    ("21701", ErrorClass::new(ErrorKind::Config)),
    ("21702", ErrorClass::new(ErrorKind::Config)),
    ("21703", ErrorClass::new(ErrorKind::Config)),
    ("21704", ErrorClass::new(ErrorKind::Config)),
    ("21705", ErrorClass::new(ErrorKind::Config)),
    ("21706", ErrorClass::new(ErrorKind::Config)),
    ("21707", ErrorClass::new(ErrorKind::Config)),
    ("21708", ErrorClass::new(ErrorKind::Config)),
    ("21709", ErrorClass::new(ErrorKind::Config)),
    ("21710", ErrorClass::new(ErrorKind::Config)),
    ("21711", ErrorClass::new(ErrorKind::Config)),
    ("21712", ErrorClass::new(ErrorKind::Config)),
    ("21713", ErrorClass::new(ErrorKind::Config)),
    ("21714", ErrorClass::new(ErrorKind::Config)),
    ("21715", ErrorClass::new(ErrorKind::Config)),
    ("21716", ErrorClass::new(ErrorKind::Config)),
    ("21717", ErrorClass::new(ErrorKind::Config)),
    // Maintenance.
    ("21730", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30001", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30002", ErrorClass::new(ErrorKind::Account)),
    ("30003", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30004", ErrorClass::new(ErrorKind::Rejected)),
    ("30005", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("30006", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("30007", ErrorClass::new(ErrorKind::Rejected)),
    ("30008", ErrorClass::new(ErrorKind::Rejected).retry(None)),
    ("30010", ErrorClass::new(ErrorKind::Config).scope(Scope::Message)),
    ("30012", ErrorClass::new(ErrorKind::InvalidMessage)),
    // The carrier's network is congested.
    ("30017", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30018", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30019", ErrorClass::new(ErrorKind::InvalidMessage)),
    // Internal errors of scheduling and of messaging services.
    ("30020", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30021", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    // Carriers' limits per second and per day.
    ("30022", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("30023", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // A numeric sender that the carrier has not provisioned.
    ("30024", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30027", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // An unverified toll-free number; a campaign that is suspended or not registered.
    ("30032", ErrorClass::new(ErrorKind::Config)),
    ("30033", ErrorClass::new(ErrorKind::Account)),
    ("30034", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30035", ErrorClass::new(ErrorKind::Config).scope(Scope::Recipient)),
    ("30036", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30410", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("30500", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63001", ErrorClass::new(ErrorKind::Config)),
    ("63002", ErrorClass::new(ErrorKind::Config)),
    ("63003", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63005", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63006", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63007", ErrorClass::new(ErrorKind::Config)),
    ("63008", ErrorClass::new(ErrorKind::Config)),
    ("63009", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63010", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63011", ErrorClass::new(ErrorKind::Rejected)),
    ("63012", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63013", ErrorClass::new(ErrorKind::Rejected)),
    // The person blocked the sender or withdrew consent.
    ("63014", ErrorClass::new(ErrorKind::OptedOut)),
    ("63015", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("63016", ErrorClass::new(ErrorKind::OutsideWindow)),
    ("63017", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("63018", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("63019", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63020", ErrorClass::new(ErrorKind::Account)),
    ("63021", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63022", ErrorClass::new(ErrorKind::Config)),
    // A generic error of the medium, as 30008 is of a network.
    ("63023", ErrorClass::new(ErrorKind::Rejected).retry(None)),
    ("63024", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63025", ErrorClass::new(ErrorKind::Rejected)),
    // Templates: language missing, parameters do not match.
    ("63027", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63028", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63029", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("63030", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63031", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63032", ErrorClass::new(ErrorKind::Rejected)),
    ("63033", ErrorClass::new(ErrorKind::OptedOut)),
    ("63034", ErrorClass::new(ErrorKind::InvalidMessage)),
    // The phone has no RCS but may have SMS.
    ("63036", ErrorClass::new(ErrorKind::Unsupported)),
    // The account's quota for a rolling 24 hours is used up.
    ("63038", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // Templates: rejected, paused, disabled.
    ("63040", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63041", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("63042", ErrorClass::new(ErrorKind::InvalidMessage)),
    // Meta limits marketing to this person for the time being.
    ("63049", ErrorClass::new(ErrorKind::QuotaExceeded).per_recipient()),
    ("63051", ErrorClass::new(ErrorKind::Account)),
];

/// Maps a Twilio status to a delivery state.
///
/// `partially_delivered`, which Twilio calls deprecated, means that only some parts arrived, so it is `Sent`. A failure
/// with code 30036 is an expired `ValidityPeriod`.
pub(super) fn delivery_state(status: &str, code: Option<&str>) -> DeliveryState {
    match status {
        "accepted" | "queued" | "scheduled" => DeliveryState::Accepted,
        "sending" => DeliveryState::Sending,
        "partially_delivered" | "sent" => DeliveryState::Sent,
        "delivered" => DeliveryState::Delivered,
        "read" => DeliveryState::Read,
        "canceled" => DeliveryState::Cancelled,
        "failed" | "undelivered" if code == Some("30036") => DeliveryState::Expired,
        "failed" | "undelivered" => DeliveryState::Failed,
        _ => DeliveryState::Unrecognised,
    }
}

impl Twilio {
    /// The reason of a failed or expired delivery.
    pub(super) fn failure(&self, state: DeliveryState, code: Option<&str>, detail: Option<String>) -> Option<Failure> {
        if !matches!(state, DeliveryState::Failed | DeliveryState::Expired) {
            return None;
        }
        let class = code.and_then(|code| self.endpoint.class(code)).unwrap_or(ErrorClass::new(ErrorKind::Rejected));
        let mut failure = Failure::new(class.kind).temporary(class.retryable).detail(detail);
        failure.code = code.map(str::to_owned);
        Some(failure)
    }
}

/// Reads `{"code":21211,"message":"…","more_info":"https://…","status":400}`. The message is not kept, because it may
/// contain the number.
pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let body: ErrorBody<'_> = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut error = VendorError::default();
    let request_id = HeaderName::from_static("twilio-request-id");
    error.request_id = answer.headers.get(request_id).and_then(|id| id.to_str().ok()).map(Into::into);
    if let Some(code) = body.code {
        if is_code(&code) && code.bytes().all(|b| b.is_ascii_digit()) {
            error.help = Some(format!("https://www.twilio.com/docs/errors/{}", &*code).into());
        }
        error.code = Some(code.0);
    }
    error
}

#[derive(Default, Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    code: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct AccountResource<'a> {
    #[serde(borrow, default)]
    pub(super) status: Option<Str<'a>>,
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<Str<'a>>,
}

lenient! {
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
        delivery_state(self.status.as_deref().unwrap_or_default(), self.error_code.as_deref())
    }

    pub(super) fn recipient(&self) -> Option<Address> {
        parse_address(self.to.as_deref()?, None, None).map(|(_, address)| address)
    }

    /// The number of segments. With a messaging service Twilio writes 0 until a sender is chosen.
    pub(super) fn segments(&self) -> Option<u32> {
        self.num_segments.as_deref()?.parse().ok().filter(|count| *count > 0)
    }

    /// The price as a positive amount; Twilio writes a charge as a negative one.
    pub(super) fn price(&self) -> Option<Money> {
        let mut price = Money::rounded(self.price.as_deref()?, self.price_unit.as_deref()?).ok()?;
        price.micros = price.micros.checked_neg()?;
        Some(price)
    }
}
