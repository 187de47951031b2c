//! Notify's errors.

use http::StatusCode;

use crate::adapter::json::{Json, List, Text};
use crate::adapter::{Answer, VendorError, lenient};
use crate::model::error::{ErrorClass, ErrorKind, Scope};

const HELP: &str = "https://docs.notifications.service.gov.uk/rest-api.html";

/// Classes by the name in `error`, or by the status of a delivery. A 5xx carries the name of an internal exception,
/// which is not listed: Notify may have accepted the message before it.
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    ("AuthError", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("BadRequestError", ErrorClass::new(ErrorKind::Rejected)),
    ("InvalidPhoneError InvalidRecipientError", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("NoResultFound", ErrorClass::new(ErrorKind::NotFound)),
    // 3,000 requests a minute per key type. The response has no wait.
    ("RateLimitError", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    // The daily quota, until midnight UTC.
    ("TooManyRequestsError", ErrorClass::new(ErrorKind::QuotaExceeded).retry(None)),
    ("ValidationError", ErrorClass::new(ErrorKind::InvalidMessage)),
    // Statuses of failed deliveries.
    ("permanent-failure", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("temporary-failure technical-failure", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
];

/// Kinds by the start of the message, which distinguishes one `BadRequestError` or `ValidationError` from another. If
/// Notify rewords a message, the row of [`ERRORS`] applies.
const MESSAGES: &[(&str, &str, ErrorKind)] = &[
    ("BadRequestError", "Can’t send to this recipient", ErrorKind::Forbidden),
    ("BadRequestError", "Cannot send to international", ErrorKind::Forbidden),
    ("BadRequestError", "Cannot send to this recipient", ErrorKind::Forbidden),
    ("BadRequestError", "Missing personalisation", ErrorKind::InvalidMessage),
    ("BadRequestError", "Service is not allowed", ErrorKind::Forbidden),
    ("BadRequestError", "Template ", ErrorKind::Config),
    ("BadRequestError", "Text messages cannot be longer", ErrorKind::InvalidMessage),
    ("BadRequestError", "Your message ", ErrorKind::InvalidMessage),
    ("BadRequestError", "email template is not", ErrorKind::Config),
    ("BadRequestError", "letter template is not", ErrorKind::Config),
    ("BadRequestError", "sms_sender_id ", ErrorKind::Config),
    ("ValidationError", "phone_number ", ErrorKind::InvalidRecipient),
    ("ValidationError", "sms_sender_id ", ErrorKind::Config),
    ("ValidationError", "template_id ", ErrorKind::Config),
];

pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let json = Json::new(&answer.body);
    let list: ErrorList<'_> = json.read().unwrap_or_default();
    let mut error = VendorError { help: Some(HELP.into()), ..VendorError::default() };
    let Some(first) = list.errors.first() else { return error };
    let (code, message) = (first.error.as_deref(), first.message.as_deref().unwrap_or_default());
    error.class = match answer.status {
        // Notify documents a refused token as BadRequestError, and its server sends AuthError: the status decides.
        StatusCode::FORBIDDEN if code != Some("AuthError") => Some(ErrorKind::Unauthenticated),
        StatusCode::BAD_REQUEST => {
            let is_row = |(name, start, _): &&(&str, &str, _)| code == Some(*name) && message.starts_with(start);
            MESSAGES.iter().find(is_row).map(|(_, _, kind)| *kind)
        }
        _ => None,
    }
    .map(|kind| match kind {
        // A key that is limited to the team or to the United Kingdom.
        ErrorKind::Forbidden if !message.starts_with("Service ") => ErrorClass::new(kind).scope(Scope::Recipient),
        kind => ErrorClass::new(kind),
    });
    error.code = code.map(|code| code.to_owned().into());
    error
}

lenient! {
    struct ErrorList<'a> {
        errors: List<ErrorItem<'a>>,
    }

    struct ErrorItem<'a> {
        error: Text<'a>,
        message: Text<'a>,
    }
}
