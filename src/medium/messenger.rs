//! The rules of Facebook Messenger: what fits, and when a message may go.
//!
//! Nobody can be written to first: a person writes to the page, and each thing that they do opens a window. There are no
//! templates that open it again.
//!
//! Lengths are in characters; Meta says that texts are UTF-8 and does not name the unit, so they are checked as Unicode
//! code points and Meta's refusal is mapped all the same. Sizes in bytes read Meta's "MB" as 1,048,576, the larger of
//! the two readings, which is unverified.
//!
//! Each constant names its page: "Meta, *page*, read 2026-11-22 from stored copies". Those copies are excerpts of Meta's
//! pages and a note that quotes them; no live page was read.

use std::time::Duration;

/// Characters in a text message. At least one. Meta, Send API, read 2026-11-22 from stored copies.
pub const TEXT_MAX: usize = 2_000;
/// Characters in `metadata`, which comes back in the echo of the message. Meta, Send API, read 2026-11-22 from stored
/// copies.
pub const METADATA_MAX: usize = 1_000;

/// Quick replies under a message. Meta, Quick replies, read 2026-11-22 from stored copies, as are the limits of quick
/// replies below.
pub const QUICK_REPLIES_MAX: usize = 13;
/// Characters in the title of a quick reply.
pub const QUICK_REPLY_TITLE_MAX: usize = 20;
/// Characters in the payload of a quick reply: what comes back when it is chosen.
pub const QUICK_REPLY_PAYLOAD_MAX: usize = 1_000;

/// Buttons in a template of buttons. At least one. Meta, Button template, read 2026-11-22 from stored copies, as is the
/// limit below.
pub const BUTTONS_MAX: usize = 3;
/// Characters in the text above the buttons of a template.
pub const BODY_WITH_BUTTONS_MAX: usize = 640;

/// Attachments in a message, which then has no text: a text with three pictures is four messages. Meta, Send API, read
/// 2026-11-22 from stored copies.
pub const ATTACHMENTS_MAX: usize = 1;

const MIB: u64 = 1_024 * 1_024;

/// Bytes of an attachment, of whichever kind: 25 MB. Meta, Send API, read 2026-11-22 from stored copies.
pub const ATTACHMENT_BYTES_MAX: u64 = 25 * MIB;
/// Bytes of what a resident can send us: 100 MB. No page of Meta's states a limit; this one is ours, so that a file
/// that never ends is not read for ever.
pub const INBOUND_BYTES_MAX: u64 = 100 * MIB;

/// How long what a person does keeps the door open for any message: 24 hours. Meta calls it the standard messaging
/// window. Meta, Messenger Platform policy (6 April 2026), read 2026-11-22 from stored copies, as is the window below.
pub const SERVICE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long, from the same moment, it stays open for what a person of ours typed (the tag `HUMAN_AGENT`): 7 days. The
/// app needs Meta's feature "Human Agent" for it, which App Review gives.
pub const HUMAN_AGENT_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What may go to a person at a moment: see [`window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Over: nothing may go until they write again.
    Closed,
    /// Only what a person of ours typed may go, until a moment that is no longer in it.
    HumanAgent {
        /// That moment, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
    /// Never opened: they have not written to the page, and cannot be written to.
    Never,
    /// Open for any message, until a moment that is no longer in it.
    Open {
        /// That moment, in milliseconds since 1970, UTC.
        until_ms: i64,
    },
}

impl Window {
    /// Whether any message could go at the moment asked about.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether what a person of ours typed could go at the moment asked about.
    #[must_use]
    pub const fn is_open_for_people(self) -> bool {
        matches!(self, Self::Open { .. } | Self::HumanAgent { .. })
    }

    /// How long it stays as it is from `now_ms` on, in milliseconds' precision; zero if it is closed or was never open,
    /// or if that time is over.
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

/// Says what may go, by the time of the last thing that the person did: a message, a button that they chose, a reaction,
/// a visit by an `m.me` link.
///
/// Times are milliseconds since 1970, UTC; `last_action_ms` is Meta's own `timestamp` (which is in milliseconds, unlike
/// WhatsApp's), not the time of arrival. Open from that moment and for less than 24 hours: **at exactly 24 hours** only
/// what a person of ours typed may go, and **at exactly 7 days** nothing. An action in the future, as skewed clocks give,
/// is open, and its time counts from its own moment. Each page has a window of its own with each person. Near an edge
/// Meta's answer has the last word.
///
/// ```
/// use civic_messaging::medium::messenger::{Window, window};
///
/// let nine = 1_795_338_000_000;
/// let day = 24 * 60 * 60 * 1_000;
/// assert_eq!(window(Some(nine), nine + day - 1), Window::Open { until_ms: nine + day });
/// assert_eq!(window(Some(nine), nine + day), Window::HumanAgent { until_ms: nine + 7 * day });
/// assert_eq!(window(Some(nine), nine + 7 * day), Window::Closed);
/// assert_eq!(window(None, nine), Window::Never);
/// ```
#[must_use]
pub const fn window(last_action_ms: Option<i64>, now_ms: i64) -> Window {
    let Some(from_ms) = last_action_ms else {
        return Window::Never;
    };
    let open_ms = from_ms.saturating_add(SERVICE_WINDOW.as_millis() as i64);
    let until_ms = from_ms.saturating_add(HUMAN_AGENT_WINDOW.as_millis() as i64);
    if now_ms < open_ms {
        Window::Open { until_ms: open_ms }
    } else if now_ms < until_ms {
        Window::HumanAgent { until_ms }
    } else {
        Window::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn the_windows_close_at_exactly_a_day_and_a_week() {
        for now in [0, 1, DAY - 1] {
            assert_eq!(window(Some(0), now), Window::Open { until_ms: DAY }, "{now}");
        }
        for now in [DAY, DAY + 1, 7 * DAY - 1] {
            assert_eq!(window(Some(0), now), Window::HumanAgent { until_ms: 7 * DAY }, "{now}");
        }
        for now in [7 * DAY, 7 * DAY + 1, i64::MAX] {
            assert_eq!(window(Some(0), now), Window::Closed, "{now}");
        }
        assert_eq!(window(None, 0), Window::Never);
    }

    #[test]
    fn an_action_from_the_future_is_open_from_its_own_time() {
        let skewed = window(Some(5_000), 0);
        assert_eq!(skewed, Window::Open { until_ms: 5_000 + DAY });
        assert_eq!(skewed.remaining(0), SERVICE_WINDOW + Duration::from_secs(5));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        assert_eq!(window(Some(i64::MIN), i64::MAX), Window::Closed);
        assert_eq!(window(Some(i64::MAX), i64::MAX), Window::Closed);
        let open = window(Some(i64::MAX), i64::MIN);
        assert!(open.is_open());
        assert_eq!(open.remaining(i64::MIN), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn who_may_write_and_for_how_long() {
        let (open, agent) = (window(Some(0), 0), window(Some(0), DAY));
        assert!(open.is_open() && open.is_open_for_people());
        assert!(!agent.is_open() && agent.is_open_for_people());
        assert!(![Window::Closed, Window::Never].iter().any(|w| w.is_open() || w.is_open_for_people()));
        assert_eq!(agent.remaining(7 * DAY - 1), Duration::from_millis(1));
        assert_eq!(agent.remaining(7 * DAY), Duration::ZERO);
        assert_eq!((Window::Closed.remaining(0), Window::Never.remaining(0)), (Duration::ZERO, Duration::ZERO));
    }
}
