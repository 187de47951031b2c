//! Vonage's JSON, its error codes and its message statuses.

use std::time::Duration;

use crate::adapter::json::{Json, Text};
use crate::adapter::{Answer, VendorError, lenient};
use crate::model::delivery::DeliveryState;
use crate::model::error::{ErrorClass, ErrorKind, Scope};
use crate::model::id::is_code;

const HOUR: Duration = Duration::from_secs(3_600);

/// Classes by Vonage code, for refusals and for failed deliveries: the fragment of the error's `type`.
///
/// Words and the codes 1000 to 1160 are those of Vonage's pages on errors, read 2026-12-01 from stored copies. The codes
/// from 1170 are from memory, UNVERIFIED, and so is that 1050, a number on a block list, follows an opt-out. A code
/// without a row is [`ErrorKind::Rejected`]. The configuration's `errors` override this table.
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    ("account-suspended low-balance 1060 1070", ErrorClass::new(ErrorKind::Account)),
    (
        "invalid-api-key invalid-signature jwt-expired jwt-revoked unauthorized 1370",
        ErrorClass::new(ErrorKind::Unauthenticated),
    ),
    ("forbidden", ErrorClass::new(ErrorKind::Forbidden)),
    // 1120 and 1420: a sender that is not allowed.
    ("not-found unprovisioned 1080 1120 1140 1420", ErrorClass::new(ErrorKind::Config)),
    ("invalid-params 1010 1020 1021 1022 1090 1130 1150", ErrorClass::new(ErrorKind::InvalidMessage)),
    // 1040: among others, an unknown prefix of a number.
    ("1040 1170 1190 1430", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("1050", ErrorClass::new(ErrorKind::OptedOut)),
    // Of a trial account: not in the list of allowed numbers.
    ("1160", ErrorClass::new(ErrorKind::Forbidden).scope(Scope::Recipient)),
    ("1000", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("1460", ErrorClass::new(ErrorKind::QuotaExceeded).retry(Some(HOUR))),
    // 1210 and 1241: spam.
    ("1210 1241", ErrorClass::new(ErrorKind::Rejected)),
    ("1340", ErrorClass::new(ErrorKind::OutsideWindow)),
    ("1030 1180 1220 1230", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    // "Message was not submitted".
    ("1100", ErrorClass::new(ErrorKind::Unavailable).retry(None).not_accepted()),
];

/// The delivery states by Vonage's status.
pub(super) const STATES: &[(&str, DeliveryState)] = &[
    ("submitted", DeliveryState::Sent),
    ("delivered", DeliveryState::Delivered),
    ("read", DeliveryState::Read),
    ("rejected undeliverable", DeliveryState::Failed),
];

lenient! {
    /// The response to a send.
    pub(super) struct Sent<'a> {
        pub(super) message_uuid: Text<'a>,
    }

    /// An error, as the body of a refusal (RFC 7807) or inside a status.
    pub(super) struct Problem<'a> {
        kind = "type": Text<'a>,
        title: Text<'a>,
        pub(super) detail: Text<'a>,
        instance: Text<'a>,
    }
}

impl Problem<'_> {
    /// Returns the code: the fragment of the type, or a title that is a number.
    pub(super) fn code(&self) -> Option<&str> {
        let fragment = self.kind.some().and_then(|kind| kind.rsplit_once('#')).map(|(_, code)| code);
        let is_number = |title: &&str| title.bytes().all(|b| b.is_ascii_digit());
        fragment.filter(|code| !code.is_empty()).or_else(|| self.title.some().filter(is_number))
    }
}

/// Reads the error of a refusal. Its texts are not kept, because they may contain the number.
pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let json = Json::new(&answer.body);
    let problem: Problem<'_> = json.read().unwrap_or_default();
    let mut error = VendorError { request_id: problem.instance.to_text().map(Into::into), ..VendorError::default() };
    if let Some(code) = problem.code() {
        if is_code(code) {
            error.help = Some(format!("https://developer.vonage.com/en/api-errors/messages#{code}").into());
        }
        error.code = Some(code.to_owned().into());
    }
    error
}
