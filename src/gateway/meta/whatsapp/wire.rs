//! The JSON of WhatsApp's webhooks and responses: [messages][page], read 2026-11-22 from stored copies.
//!
//! [page]: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages

use crate::adapter::json::{self, List, Piece, Text};
use crate::adapter::lenient;

lenient! {
    pub(super) struct Contact<'a> {
        pub(super) wa_id: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) profile: Option<Profile<'a>>,
    }

    pub(super) struct Profile<'a> {
        pub(super) name: Text<'a>,
        pub(super) username: Text<'a>,
    }

    /// An error. Its code may be missing, and its details stand in one of two places.
    pub(super) struct Fault<'a> {
        pub(super) code: Text<'a>,
        pub(super) title: Text<'a>,
        pub(super) message: Text<'a>,
        /// An object with the details, or the details themselves.
        pub(super) error_data: Option<Piece<'a>>,
        pub(super) details: Text<'a>,
    }

    pub(super) struct FaultData<'a> {
        pub(super) details: Text<'a>,
    }

    pub(super) struct Preference<'a> {
        pub(super) wa_id: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) category: Text<'a>,
        pub(super) value: Text<'a>,
        pub(super) timestamp: Text<'a>,
    }

    /// A message. What only some have is boxed: a message is moved about, and most are texts.
    pub(super) struct Message<'a> {
        pub(super) id: Text<'a>,
        pub(super) timestamp: Text<'a>,
        pub(super) from: Text<'a>,
        pub(super) from_user_id: Text<'a>,
        pub(super) to: Text<'a>,
        pub(super) to_user_id: Text<'a>,
        pub(super) group_id: Text<'a>,
        pub(super) kind = "type": Text<'a>,
        pub(super) context: Option<Context<'a>>,
        pub(super) text: Option<Body<'a>>,
        pub(super) file = "image" | "video" | "document" | "audio" | "sticker": Option<Box<File<'a>>>,
        pub(super) location: Option<Box<Place<'a>>>,
        pub(super) contacts: List<Card<'a>>,
        pub(super) interactive: Option<Box<Interactive<'a>>>,
        pub(super) button: Option<Box<Button<'a>>>,
        pub(super) reaction: Option<Box<Reaction<'a>>>,
        pub(super) order: Option<Piece<'a>>,
        pub(super) system: Option<Box<System<'a>>>,
        pub(super) edit: Option<Box<Edit<'a>>>,
        pub(super) revoke: Option<Box<Edit<'a>>>,
        pub(super) unsupported: Option<Box<Kind<'a>>>,
        pub(super) errors: List<Fault<'a>>,
        pub(super) referral: Option<Box<Referral<'a>>>,
    }

    pub(super) struct Context<'a> {
        pub(super) id: Text<'a>,
        pub(super) forwarded: Option<bool>,
        pub(super) frequently_forwarded: Option<bool>,
    }

    pub(super) struct Body<'a> {
        pub(super) body: Text<'a>,
    }

    pub(super) struct File<'a> {
        pub(super) id: Text<'a>,
        pub(super) mime_type: Text<'a>,
        pub(super) sha256: Text<'a>,
        pub(super) url: Text<'a>,
        pub(super) caption: Text<'a>,
        pub(super) filename: Text<'a>,
    }

    pub(super) struct Place<'a> {
        pub(super) latitude: Option<f64>,
        pub(super) longitude: Option<f64>,
        pub(super) name: Text<'a>,
        pub(super) address: Text<'a>,
    }

    pub(super) struct Card<'a> {
        pub(super) name: Option<CardName<'a>>,
        pub(super) org: Option<CardOrg<'a>>,
        pub(super) phones: List<CardValue<'a>>,
        pub(super) emails: List<CardValue<'a>>,
        pub(super) urls: List<CardValue<'a>>,
        pub(super) vcard: Text<'a>,
    }

    pub(super) struct CardName<'a> {
        pub(super) formatted_name: Text<'a>,
        pub(super) first_name: Text<'a>,
        pub(super) last_name: Text<'a>,
    }

    pub(super) struct CardOrg<'a> {
        pub(super) company: Text<'a>,
    }

    pub(super) struct CardValue<'a> {
        pub(super) value = "phone" | "email" | "url": Text<'a>,
        pub(super) wa_id: Text<'a>,
        pub(super) label = "type": Text<'a>,
    }

    pub(super) struct Interactive<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) reply = "button_reply" | "list_reply": Option<Reply<'a>>,
        pub(super) nfm_reply: Option<Form<'a>>,
    }

    pub(super) struct Reply<'a> {
        pub(super) id: Text<'a>,
        pub(super) title: Text<'a>,
    }

    pub(super) struct Form<'a> {
        pub(super) response_json: Text<'a>,
    }

    pub(super) struct Button<'a> {
        pub(super) payload: Text<'a>,
        pub(super) text: Text<'a>,
    }

    pub(super) struct Reaction<'a> {
        pub(super) message_id: Text<'a>,
        pub(super) emoji: Text<'a>,
    }

    pub(super) struct System<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) body: Text<'a>,
        pub(super) wa_id: Text<'a>,
        pub(super) new_wa_id: Text<'a>,
        /// The old number, in older webhooks.
        pub(super) customer: Text<'a>,
        pub(super) user_id: Text<'a>,
        pub(super) previous_user_id: Text<'a>,
    }

    pub(super) struct Edit<'a> {
        pub(super) original_message_id: Text<'a>,
        /// A message: read when it is needed, so that edits in edits go no deeper.
        pub(super) message: Option<Piece<'a>>,
    }

    pub(super) struct Kind<'a> {
        pub(super) kind = "type": Text<'a>,
    }

    pub(super) struct Referral<'a> {
        pub(super) source_type: Text<'a>,
        pub(super) source_id: Text<'a>,
        pub(super) source_url: Text<'a>,
        pub(super) headline: Text<'a>,
    }

    pub(super) struct Status<'a> {
        pub(super) id: Text<'a>,
        pub(super) status: Text<'a>,
        pub(super) kind = "type": Text<'a>,
        pub(super) timestamp: Text<'a>,
        pub(super) recipient_id: Text<'a>,
        pub(super) recipient_user_id: Text<'a>,
        pub(super) recipient_type: Text<'a>,
        pub(super) participant = "recipient_participant_id" | "participant_recipient_id": Text<'a>,
        pub(super) recipient_participant_user_id: Text<'a>,
        pub(super) biz_opaque_callback_data: Text<'a>,
        pub(super) pricing: Option<Pricing<'a>>,
        pub(super) errors: List<Fault<'a>>,
    }

    /// The answer to a send.
    pub(super) struct SendResponse<'a> {
        pub(super) messages: List<AcceptedMessage<'a>>,
        pub(super) contacts: List<Contact<'a>>,
    }

    pub(super) struct AcceptedMessage<'a> {
        pub(super) id: Text<'a>,
        pub(super) message_status: Text<'a>,
    }

    pub(super) struct Pricing<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) pricing_model: Text<'a>,
        pub(super) category: Text<'a>,
    }
}

impl Fault<'_> {
    /// Meta's words, the most telling first.
    pub(super) fn words(&self) -> Option<String> {
        let data = self.error_data.as_ref().map(Piece::get);
        let details = data.and_then(|data| json::read::<FaultData<'_>>(data)?.details.to_text());
        let bare = || data.and_then(|data| json::read::<Text<'_>>(data)?.to_text());
        let rest = || self.details.to_text().or_else(|| self.title.to_text()).or_else(|| self.message.to_text());
        details.or_else(bare).or_else(rest)
    }
}
