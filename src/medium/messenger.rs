//! The rules of Facebook Messenger: message limits and messaging windows.
//!
//! A page cannot write to a person first: the person writes to the page, and each of their actions opens a window. No
//! template reopens it.
//!
//! Lengths are in characters. Meta documents UTF-8 texts without naming the unit, so they are checked as Unicode code
//! points, and Meta's own rejection is mapped as well. Sizes in bytes read Meta's "MB" as 1,048,576, the larger of the
//! two readings, which is unverified.
//! Each constant names its page: "Meta, *page*, read 2026-11-22 from stored copies". Those copies are excerpts of
//! Meta's pages and a note that quotes them; no live page was read.

use std::time::Duration;

/// Maximum characters in a text message, which has at least one. Meta, Send API, read 2026-11-22 from stored copies.
pub const TEXT_MAX: usize = 2_000;
/// Maximum characters in `metadata`, which the echo of the message returns. Meta, Send API, read 2026-11-22 from stored
/// copies.
pub const METADATA_MAX: usize = 1_000;

/// Maximum quick replies of a message. Meta, Quick replies, read 2026-11-22 from stored copies, as are the limits of
/// quick replies below.
pub const QUICK_REPLIES_MAX: usize = 13;
/// Maximum characters in the title of a quick reply.
pub const QUICK_REPLY_TITLE_MAX: usize = 20;
/// Maximum characters in the payload of a quick reply, which is returned when it is selected.
pub const QUICK_REPLY_PAYLOAD_MAX: usize = 1_000;

/// Maximum buttons in a button template, which has at least one. Meta, Button template, read 2026-11-22 from stored
/// copies, as is the limit below.
pub const BUTTONS_MAX: usize = 3;
/// Maximum characters in the text above the buttons of a template.
pub const BODY_WITH_BUTTONS_MAX: usize = 640;

/// Maximum attachments in a message, which then has no text: a text with three images is four messages. Meta, Send API,
/// read 2026-11-22 from stored copies.
pub const ATTACHMENTS_MAX: usize = 1;

const MIB: u64 = 1_024 * 1_024;

/// Maximum bytes of an attachment of any kind: 25 MB. Meta, Send API, read 2026-11-22 from stored copies.
pub const ATTACHMENT_BYTES_MAX: u64 = 25 * MIB;
/// Maximum bytes of a resident's file: 100 MB. Meta documents no limit; this is our own, so that an endless file is not
/// read forever.
pub const INBOUND_BYTES_MAX: u64 = 100 * MIB;

/// The standard messaging window: any message may be sent for 24 hours after a person's action. Meta, Messenger
/// Platform policy (6 April 2026), read 2026-11-22 from stored copies, as is the window below.
pub const SERVICE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The window for replies typed by a human agent (the tag `HUMAN_AGENT`): 7 days after a person's action. The app needs
/// Meta's feature "Human Agent", which App Review grants.
pub const HUMAN_AGENT_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The messages that may be sent to a person at a given time: see [`window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessagingWindow {
    /// Expired: nothing may be sent until the person writes again.
    Closed,
    /// Open for replies typed by a human agent only, until an exclusive end.
    HumanAgent {
        /// The end, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
    /// Never opened: the person has not written to the page, and cannot be written to.
    Never,
    /// Open for any message, until an exclusive end.
    Open {
        /// The end, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
}

impl MessagingWindow {
    /// Returns `true` if any message may be sent at the given time.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Returns `true` if a reply typed by a human agent may be sent at the given time.
    #[must_use]
    pub const fn is_open_for_people(self) -> bool {
        matches!(self, Self::Open { .. } | Self::HumanAgent { .. })
    }

    /// Returns the time until the window's state changes, in milliseconds' precision.
    ///
    /// Zero if it is closed, was never open, or has ended by `now_ms`.
    #[must_use]
    pub const fn remaining(self, now_ms: i64) -> Duration {
        match self {
            Self::Open { until_ms } | Self::HumanAgent { until_ms } if until_ms > now_ms => {
                Duration::from_millis(until_ms.abs_diff(now_ms))
            }
            _ => Duration::ZERO,
        }
    }
}

/// Returns the messaging window from the time of the person's last action.
///
/// An action is a message, a selected button, a reaction, or a visit through an `m.me` link.
///
/// Times are milliseconds since 1970, UTC; `last_action_ms` is Meta's own `timestamp` (in milliseconds, unlike
/// WhatsApp's), not the time of arrival. The window opens at that time and lasts less than 24 hours: **at exactly 24
/// hours** only a reply typed by a human agent may be sent, and **at exactly 7 days** nothing. An action in the future,
/// due to clock skew, is open and counts from its own time. Each page has its own window with each person. Near an
/// edge, Meta's response decides.
///
/// ```
/// use civic_messaging::medium::messenger::{MessagingWindow, window};
///
/// let nine = 1_795_338_000_000;
/// let day = 24 * 60 * 60 * 1_000;
/// assert_eq!(window(Some(nine), nine + day - 1), MessagingWindow::Open { until_ms: nine + day });
/// assert_eq!(window(Some(nine), nine + day), MessagingWindow::HumanAgent { until_ms: nine + 7 * day });
/// assert_eq!(window(Some(nine), nine + 7 * day), MessagingWindow::Closed);
/// assert_eq!(window(None, nine), MessagingWindow::Never);
/// ```
#[must_use]
pub const fn window(last_action_ms: Option<i64>, now_ms: i64) -> MessagingWindow {
    let Some(from_ms) = last_action_ms else {
        return MessagingWindow::Never;
    };
    let open_ms = from_ms.saturating_add(SERVICE_WINDOW.as_millis() as i64);
    let until_ms = from_ms.saturating_add(HUMAN_AGENT_WINDOW.as_millis() as i64);
    if now_ms < open_ms {
        MessagingWindow::Open { until_ms: open_ms }
    } else if now_ms < until_ms {
        MessagingWindow::HumanAgent { until_ms }
    } else {
        MessagingWindow::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn windows_close_at_exactly_a_day_and_a_week() {
        for now in [0, 1, DAY - 1] {
            assert_eq!(window(Some(0), now), MessagingWindow::Open { until_ms: DAY }, "{now}");
        }
        for now in [DAY, DAY + 1, 7 * DAY - 1] {
            assert_eq!(window(Some(0), now), MessagingWindow::HumanAgent { until_ms: 7 * DAY }, "{now}");
        }
        for now in [7 * DAY, 7 * DAY + 1, i64::MAX] {
            assert_eq!(window(Some(0), now), MessagingWindow::Closed, "{now}");
        }
        assert_eq!(window(None, 0), MessagingWindow::Never);
    }

    #[test]
    fn future_action_opens_the_window_from_its_own_time() {
        let skewed = window(Some(5_000), 0);
        assert_eq!(skewed, MessagingWindow::Open { until_ms: 5_000 + DAY });
        assert_eq!(skewed.remaining(0), SERVICE_WINDOW + Duration::from_secs(5));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        assert_eq!(window(Some(i64::MIN), i64::MAX), MessagingWindow::Closed);
        assert_eq!(window(Some(i64::MAX), i64::MAX), MessagingWindow::Closed);
        let open = window(Some(i64::MAX), i64::MIN);
        assert!(open.is_open());
        assert_eq!(open.remaining(i64::MIN), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn window_has_state_and_remaining_time() {
        let (open, agent) = (window(Some(0), 0), window(Some(0), DAY));
        assert!(open.is_open() && open.is_open_for_people());
        assert!(!agent.is_open() && agent.is_open_for_people());
        assert!(
            ![MessagingWindow::Closed, MessagingWindow::Never].iter().any(|w| w.is_open() || w.is_open_for_people())
        );
        assert_eq!(agent.remaining(7 * DAY - 1), Duration::from_millis(1));
        assert_eq!(agent.remaining(7 * DAY), Duration::ZERO);
        assert_eq!(
            (MessagingWindow::Closed.remaining(0), MessagingWindow::Never.remaining(0)),
            (Duration::ZERO, Duration::ZERO)
        );
    }
}
