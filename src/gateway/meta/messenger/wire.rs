//! The wire format of Messenger's webhooks.

use std::collections::BTreeMap;

use serde::Deserializer;
use serde::de::IgnoredAny;

use crate::adapter::json::{self, List, Member, Occurrences, Pass, Piece, Text};
use crate::adapter::lenient;
use crate::model::error::Result;
use crate::webhook::Verified;

/// One value of a list of an entry.
pub(super) struct Part<'a> {
    pub(super) list: &'static str,
    pub(super) piece: Piece<'a>,
    /// It stands where the list should be.
    pub(super) is_odd: bool,
}

impl Part<'_> {
    pub(super) fn is_item(&self) -> bool {
        !self.is_odd && self.list != "changes"
    }

    pub(super) fn account(&self, page: Option<&str>, webhook: &Verified) -> Option<String> {
        let item: Item<'_> = json::read(self.piece.get()).unwrap_or_default();
        item.account(page, webhook)
    }
}

/// An array's values, as they stand. An object where an array should be is one value.
#[derive(Default)]
pub(super) struct Pieces<'a> {
    pub(super) items: Vec<Piece<'a>>,
    pub(super) malformed: Vec<Piece<'a>>,
}

impl<'a> Member<'a> for Pieces<'a> {
    fn read<D: Deserializer<'a>>(&mut self, value: D, pass: Pass) -> Result<bool, D::Error> {
        let mut piece = Piece::default();
        piece.read(value, pass)?;
        match piece.get().as_bytes().first() {
            Some(b'{') => self.items.push(piece),
            Some(b'[') => {
                self.items.extend(json::read::<List<Piece<'a>>>(piece.get()).unwrap_or_default().iter());
            }
            Some(b'n') | None => {}
            Some(_) => self.malformed.push(piece),
        }
        Ok(self.malformed.is_empty())
    }
}

/// Meta's name for an event: the member that holds it.
pub(super) fn kind(json: &str) -> String {
    const KNOWN: [&str; 7] = ["message", "message_edit", "postback", "delivery", "read", "reaction", "referral"];
    const COMMON: [&str; 3] = ["sender", "recipient", "timestamp"];
    // In the order of the alphabet, so that what has two unknown members is called the same each time.
    let Ok(members) = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(json) else { return "messaging".to_owned() };
    let known = KNOWN.into_iter().find(|name| members.contains_key(*name)).map(str::to_owned);
    let other = members.into_keys().find(|name| !COMMON.contains(&name.as_str()));
    known.or(other).unwrap_or_else(|| "messaging".to_owned())
}

impl<'a> Entry<'a> {
    /// The items of its lists, in the order of the body, so that what is of one page is not joined over what is of
    /// another.
    pub(super) fn parts(&self) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let lists = [("messaging", &self.messaging), ("standby", &self.standby), ("changes", &self.changes)];
        for (list, pieces) in lists {
            parts.extend(pieces.items.iter().map(|piece| Part { list, piece: *piece, is_odd: false }));
            parts.extend(pieces.malformed.iter().map(|piece| Part { list, piece: *piece, is_odd: true }));
        }
        parts.sort_by_key(|part| part.piece.get().as_ptr().addr());
        parts
    }
}

lenient! {
    pub(super) struct Hook<'a> {
        pub(super) object: Text<'a>,
        pub(super) entry: Pieces<'a>,
    }

    pub(super) struct Entry<'a> {
        pub(super) id: Occurrences<Piece<'a>>,
        pub(super) time: Text<'a>,
        pub(super) messaging: Pieces<'a>,
        /// Of conversations that another app holds.
        pub(super) standby: Pieces<'a>,
        /// Of the page itself, such as posts: no messages.
        pub(super) changes: Pieces<'a>,
    }

    pub(super) struct Change<'a> {
        pub(super) field: Text<'a>,
    }

    pub(super) struct Party<'a> {
        pub(super) id: Occurrences<Piece<'a>>,
    }

    /// One thing that happened in a conversation; the member that is present names it.
    pub(super) struct Item<'a> {
        pub(super) sender: Occurrences<Party<'a>>,
        pub(super) recipient: Occurrences<Party<'a>>,
        pub(super) timestamp: Text<'a>,
        pub(super) message: Option<Box<Message<'a>>>,
        pub(super) message_edit: Option<Edit<'a>>,
        pub(super) postback: Option<Postback<'a>>,
        pub(super) delivery: Option<Watermark<'a>>,
        pub(super) read: Option<Watermark<'a>>,
        pub(super) reaction: Option<Reaction<'a>>,
        pub(super) referral: Option<ReferralWire<'a>>,
    }

    pub(super) struct Message<'a> {
        pub(super) mid: Text<'a>,
        pub(super) text: Text<'a>,
        pub(super) quick_reply: Option<Postback<'a>>,
        pub(super) attachments: Pieces<'a>,
        pub(super) reply_to: Option<Quoted<'a>>,
        pub(super) is_echo: Option<bool>,
        pub(super) is_deleted: Option<bool>,
        pub(super) metadata: Text<'a>,
        pub(super) referral: Option<ReferralWire<'a>>,
    }

    pub(super) struct Edit<'a> {
        pub(super) mid: Text<'a>,
        pub(super) text: Text<'a>,
        pub(super) num_edit: Text<'a>,
    }

    pub(super) struct Attachment<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) title: Text<'a>,
        pub(super) url = "url" | "URL": Text<'a>,
        pub(super) payload: Option<Payload<'a>>,
    }

    pub(super) struct Payload<'a> {
        pub(super) url: Text<'a>,
        pub(super) title: Text<'a>,
        pub(super) coordinates: Option<Coordinates<'a>>,
    }

    pub(super) struct Coordinates<'a> {
        pub(super) lat: Option<f64>,
        pub(super) long = "long" | "lon" | "lng": Option<f64>,
    }

    pub(super) struct Quoted<'a> {
        pub(super) mid: Text<'a>,
    }

    pub(super) struct Postback<'a> {
        pub(super) mid: Text<'a>,
        pub(super) title: Text<'a>,
        pub(super) payload: Text<'a>,
        pub(super) referral: Option<ReferralWire<'a>>,
    }

    pub(super) struct Watermark<'a> {
        pub(super) mids: List<Piece<'a>>,
        pub(super) watermark: Option<Piece<'a>>,
    }

    pub(super) struct Reaction<'a> {
        pub(super) mid: Text<'a>,
        pub(super) action: Text<'a>,
        pub(super) emoji: Text<'a>,
    }

    pub(super) struct ReferralWire<'a> {
        pub(super) word = "ref": Text<'a>,
        pub(super) source: Text<'a>,
        pub(super) ad_id: Text<'a>,
        pub(super) referer_uri: Text<'a>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_is_named_by_the_member_that_holds_it() {
        for (json, name) in [
            (r#"{"sender":{},"recipient":{},"timestamp":1,"optin":{}}"#, "optin"),
            (r#"{"sender":{},"pass_thread_control":{},"app_roles":{}}"#, "app_roles"),
            (r#"{"client_timestamp":1,"read":7}"#, "read"),
            (r#"{"sender":{}}"#, "messaging"),
            ("[]", "messaging"),
        ] {
            assert_eq!(kind(json), name, "{json}");
        }
    }
}
