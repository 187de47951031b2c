//! WhatsApp's error codes.

use std::time::Duration;

use super::super::graph::graph_error;
use crate::adapter::{Answer, VendorError};
use crate::model::error::{ErrorClass, ErrorKind, Scope};

/// The classes of Meta's codes: [error codes][codes], state of June 2026, read 2026-11-22 from stored copies. Codes of
/// groups are those of pywa 4.5.0, and 132018 is that of public reports, read 2026-11-30.
///
/// UNVERIFIED is 100 with the subcode 33 and without details, which public reports show for an id that Meta does not
/// know or that the token may not see: of the number on a send, of the file where a file is asked for. See
/// [`graph_error`].
///
/// [codes]: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
pub(in super::super) const ERRORS: &[(&str, ErrorClass)] = {
    use ErrorKind::{
        Account, Config, Forbidden, InvalidMessage, InvalidRecipient, OptedOut, OutsideWindow, QuotaExceeded,
        RateLimited, Rejected, Unauthenticated, Unavailable,
    };
    const fn wait(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }
    &[
        ("0", ErrorClass::new(Unauthenticated)),
        ("1", ErrorClass::new(Unavailable).retry(None)),
        ("2", ErrorClass::new(Unavailable).retry(None)),
        ("3", ErrorClass::new(Forbidden)),
        ("4", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        ("10", ErrorClass::new(Forbidden)),
        ("33", ErrorClass::new(Config)),
        ("100", ErrorClass::new(InvalidMessage)),
        ("190", ErrorClass::new(Unauthenticated)),
        ("368", ErrorClass::new(Account)),
        ("613", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        ("80007", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        // We blocked this person.
        ("130403", ErrorClass::new(InvalidRecipient)),
        ("130429", ErrorClass::new(RateLimited).retry(wait(1)).not_accepted()),
        // Marketing held back from people in an experiment.
        ("130472", ErrorClass::new(Rejected)),
        ("130497", ErrorClass::new(Account)),
        ("131000", ErrorClass::new(Unavailable).retry(None)),
        ("131005", ErrorClass::new(Forbidden)),
        ("131008", ErrorClass::new(InvalidMessage)),
        ("131009", ErrorClass::new(InvalidMessage)),
        ("131014", ErrorClass::new(InvalidMessage)),
        ("131016", ErrorClass::new(Unavailable).retry(None)),
        ("131020", ErrorClass::new(InvalidMessage)),
        ("131021", ErrorClass::new(InvalidRecipient)),
        ("131026", ErrorClass::new(InvalidRecipient)),
        ("131030", ErrorClass::new(Config).scope(Scope::Recipient)),
        ("131031", ErrorClass::new(Account)),
        ("131037", ErrorClass::new(Config)),
        ("131041", ErrorClass::new(InvalidMessage)),
        ("131042", ErrorClass::new(Account)),
        ("131044", ErrorClass::new(Account)),
        ("131045", ErrorClass::new(Config)),
        ("131047", ErrorClass::new(OutsideWindow)),
        ("131048", ErrorClass::new(Account)),
        // A person's share of marketing is used up; trying again within 24 hours makes it longer.
        ("131049", ErrorClass::new(QuotaExceeded).per_recipient()),
        ("131050", ErrorClass::new(OptedOut)),
        ("131051", ErrorClass::new(InvalidMessage)),
        ("131053", ErrorClass::new(InvalidMessage)),
        ("131056", ErrorClass::new(RateLimited).retry(wait(6)).not_accepted().per_recipient()),
        ("131057", ErrorClass::new(Unavailable).retry(wait(60))),
        // A one-time code cannot go to a user id: it needs the phone number.
        ("131062", ErrorClass::new(InvalidRecipient)),
        ("131063", ErrorClass::new(Config).scope(Scope::Message)),
        ("131064", ErrorClass::new(Account)),
        // Of groups: suspended, too fast, and a number that may have none.
        ("131207", ErrorClass::new(InvalidRecipient)),
        ("131208", ErrorClass::new(RateLimited).retry(None)),
        ("131215", ErrorClass::new(Config)),
        ("132000", ErrorClass::new(InvalidMessage)),
        ("132001", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132005", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132007", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132008", ErrorClass::new(InvalidMessage)),
        ("132012", ErrorClass::new(InvalidMessage)),
        ("132015", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132016", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        // A parameter with a new line, a tab or more than four spaces in a row.
        ("132018", ErrorClass::new(InvalidMessage)),
        ("132068", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        ("132069", ErrorClass::new(RateLimited).retry(wait(3600)).scope(Scope::Template)),
        ("133004", ErrorClass::new(Unavailable).retry(None)),
        ("133005", ErrorClass::new(Config)),
        ("133006", ErrorClass::new(Config)),
        ("133008", ErrorClass::new(Config)),
        ("133009", ErrorClass::new(Config)),
        ("133010", ErrorClass::new(Config)),
        ("133015", ErrorClass::new(Unavailable).retry(wait(300))),
        ("133016", ErrorClass::new(RateLimited)),
        ("134011", ErrorClass::new(Config)),
        ("135000", ErrorClass::new(InvalidMessage)),
        ("137000", ErrorClass::new(InvalidRecipient)),
    ]
};

pub(in super::super) const HELP: &str =
    "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes";

pub(in super::super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    graph_error(answer, ERRORS, HELP, |_, _| None)
}
