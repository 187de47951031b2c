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
        ("368 130497 131031 131042 131044 131048 131064", ErrorClass::new(Account)),
        // 131215: a number that may have no groups.
        ("33 131037 131045 131215 133005 133006 133008 133009 133010 134011", ErrorClass::new(Config)),
        ("131063", ErrorClass::new(Config).scope(Scope::Message)),
        ("131030", ErrorClass::new(Config).scope(Scope::Recipient)),
        ("3 10 131005", ErrorClass::new(Forbidden)),
        // 132018: a parameter with a new line, a tab or more than four spaces in a row.
        (
            "100 131008 131009 131014 131020 131041 131051 131053 132000 132008 132012 132018 135000",
            ErrorClass::new(InvalidMessage),
        ),
        ("132001 132005 132007 132015 132016 132068", ErrorClass::new(InvalidMessage).scope(Scope::Template)),
        // 130403: we blocked this person. 131062: a one-time code cannot go to a user id, it needs the phone number.
        // 131207: the group is suspended.
        ("130403 131021 131026 131062 131207 137000", ErrorClass::new(InvalidRecipient)),
        ("131050", ErrorClass::new(OptedOut)),
        ("131047", ErrorClass::new(OutsideWindow)),
        // A person's share of marketing is used up; trying again within 24 hours makes it longer.
        ("131049", ErrorClass::new(QuotaExceeded).per_recipient()),
        ("133016", ErrorClass::new(RateLimited)),
        // Too fast for a group.
        ("131208", ErrorClass::new(RateLimited).retry(None)),
        ("130429", ErrorClass::new(RateLimited).retry(wait(1)).not_accepted()),
        ("4 613 80007", ErrorClass::new(RateLimited).retry(wait(60)).not_accepted()),
        ("131056", ErrorClass::new(RateLimited).retry(wait(6)).not_accepted().per_recipient()),
        ("132069", ErrorClass::new(RateLimited).retry(wait(3600)).scope(Scope::Template)),
        // Marketing held back from people in an experiment.
        ("130472", ErrorClass::new(Rejected)),
        ("0 190", ErrorClass::new(Unauthenticated)),
        ("1 2 131000 131016 133004", ErrorClass::new(Unavailable).retry(None)),
        ("131057", ErrorClass::new(Unavailable).retry(wait(60))),
        ("133015", ErrorClass::new(Unavailable).retry(wait(300))),
    ]
};

pub(in super::super) const HELP: &str =
    "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes";

pub(in super::super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    graph_error(answer, ERRORS, HELP, |_, _| None)
}
