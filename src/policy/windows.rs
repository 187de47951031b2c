//! The windows in which a medium lets a council write to a person.

use super::Reason;
use crate::medium::{messenger, whatsapp};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::event::{Inbound, InboundContent};
use crate::model::info::Info;
use crate::model::message::{Content, Message};

/// The window that a message needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// 24 hours, or 7 days for what a person types.
    Messenger { human_agent: bool },
    /// 24 hours.
    WhatsApp,
    /// Opened by the person's first message, and never closed.
    X,
}

impl Window {
    /// Returns the window that a message of a channel needs. None for templates, for content of a gateway's own format,
    /// which may be one, and for conversations, which exist only once a person wrote.
    pub(crate) fn of(info: &Info, message: &Message) -> Option<Self> {
        let is_template = matches!(message.content, Content::Template(_) | Content::Native(_));
        if is_template || matches!(message.to, Address::Conversation(_)) {
            return None;
        }
        match info.medium {
            Medium::Messenger => Some(Self::Messenger { human_agent: message.has_option(info.gateway, "human_agent") }),
            Medium::WhatsApp => Some(Self::WhatsApp),
            Medium::X => Some(Self::X),
            _ => None,
        }
    }

    /// Returns `true` if what a person did opens it.
    pub(crate) fn is_opened_by(self, inbound: &Inbound) -> bool {
        use InboundContent::{Edited, Opened, Reaction, System, Withdrawn};
        let is_action = match self {
            Self::Messenger { .. } => !matches!(inbound.content, System(_) | Withdrawn(_) | Edited { .. }),
            _ => !matches!(inbound.content, System(_) | Withdrawn(_) | Edited { .. } | Opened | Reaction { .. }),
        };
        is_action && !inbound.echo && !inbound.history
    }

    /// Returns why it is closed: from the time at which the person last opened it, and that at which the gateway last
    /// rejected a message because it was closed.
    pub(crate) fn refusal(
        self,
        opened: Option<Timestamp>,
        closed: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Reason> {
        let opened = opened.filter(|opened| closed.is_none_or(|closed| closed < *opened));
        let (from, now) = (opened.map(Timestamp::as_millis), now.as_millis());
        let text = match self {
            Self::WhatsApp if whatsapp::window(from, now).is_open() => return None,
            Self::WhatsApp => "the person has not written within 24 hours: send an approved template",
            Self::Messenger { human_agent } => match messenger::window(from, now) {
                window if window.is_open() || human_agent && window.is_open_for_people() => return None,
                window if window.is_open_for_people() => {
                    "the person has not written within 24 hours: what a person types may go for 7 days, with the option \
                     human_agent"
                }
                _ => {
                    "the person has not written within 7 days, and must write first: use a template, or another medium"
                }
            },
            Self::X if from.is_some() => return None,
            Self::X => "the person has not written to this account, and must write first: use another medium",
        };
        Some(Reason::new("window", text).for_medium())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_closes_after_its_time_or_a_rejection() {
        use Window::{Messenger, WhatsApp, X};
        let (page, typed) = (Messenger { human_agent: false }, Messenger { human_agent: true });
        let hour = 3_600_000;
        for (window, opened, closed, now, is_open) in [
            (WhatsApp, None, None, 0, false),
            (WhatsApp, Some(0), None, 24 * hour - 1, true),
            (WhatsApp, Some(0), None, 24 * hour, false),
            (WhatsApp, Some(0), Some(hour), 2 * hour, false),
            (WhatsApp, Some(hour + 1), Some(hour), 2 * hour, true),
            (page, Some(0), None, 24 * hour - 1, true),
            (page, Some(0), None, 24 * hour, false),
            (typed, Some(0), None, 24 * hour, true),
            (typed, Some(0), None, 7 * 24 * hour, false),
            (typed, None, None, 0, false),
            (X, None, None, 0, false),
            (X, Some(0), None, 1_000 * hour, true),
            (X, Some(0), Some(hour), 2 * hour, false),
        ] {
            let at = |millis: i64| Timestamp::from_millis(millis);
            let refusal = window.refusal(opened.map(at), closed.map(at), at(now));
            assert_eq!(refusal.is_none(), is_open, "{window:?} {opened:?} {closed:?} {now}");
            assert!(refusal.is_none_or(|reason| reason.rule() == "window" && reason.is_for_medium()));
        }
    }
}
