//! Building blocks of adapters, for this crate and others: requests, webhooks, and lenient parsing.
//!
//! [`receive`] implements [`Channel::receive`](crate::Channel::receive): it verifies the request, decides the ownership
//! of each event, and builds the response. [`json`] parses bodies with undocumented values. [`Endpoint`] makes the calls,
//! which [`OAuth1`] or [`TokenSource`] authorise where a bearer token does not.

#[doc(inline)]
pub use crate::__lenient as lenient;

mod answer;
mod encode;
mod endpoint;
mod fetch;
mod lenient;
mod oauth1;
mod oauth2;
mod outcome;
mod receive;
pub use crate::model::health::probe;
pub use crate::model::info::{AddressRule, MessageRule};
pub use answer::{Answer, VendorError};
pub use encode::{basic, bearer, query, segment, sensitive};
pub use endpoint::Endpoint;
pub use fetch::{Access, Credential, FetchLimits, Limited};
pub use oauth1::OAuth1;
pub use oauth2::{OAuth2, TokenSource};
#[cfg(feature = "meta")]
pub(crate) use outcome::row;
pub use outcome::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, delivery_state, retry_after};
pub use receive::{Collector, EVENTS_MAX, NamedAccount, Owner, receive};

pub mod json {
    //! Lenient JSON parsing, in which a malformed value costs only that value.
    //!
    //! Vendors' webhooks contain values that no documentation mentions: `null` for a list, an object for a string, a
    //! member twice, half of an emoji. A derived `Deserialize` rejects the whole body for one of them, and every
    //! message in it is lost. [`lenient!`](crate::adapter::lenient) declares structs in which such a value is absent
    //! and the rest is parsed:
    //!
    //! ```
    //! use bytes::Bytes;
    //! use civic_messaging::adapter::json::{self, Json, List, Piece, Text};
    //! use civic_messaging::adapter::lenient;
    //!
    //! lenient! {
    //!     /// What the gateway posts: several messages at once.
    //!     struct Batch<'a> {
    //!         messages: List<Piece<'a>>,
    //!     }
    //!
    //!     struct Message<'a> {
    //!         id: Text<'a>,
    //!         body = "text" | "message": Text<'a>,
    //!     }
    //! }
    //!
    //! let body = Bytes::from(r#"{"messages":[{"id":7,"text":"STOP","extra":{}},null]}"#);
    //! let json = Json::new(&body);
    //! let batch: Batch<'_> = json.read().unwrap();
    //! let [first, second] = &batch.messages[..] else { unreachable!() };
    //! let message: Message<'_> = json::read(first.get()).unwrap();
    //! assert_eq!((message.id.as_deref(), message.body.as_deref()), (Some("7"), Some("STOP")));
    //! assert_eq!(json.raw(first.get()), &br#"{"id":7,"text":"STOP","extra":{}}"#[..]);
    //! assert_eq!(second.get(), "null");
    //! ```

    #[doc(inline)]
    pub use crate::model::json::{
        Json, List, Member, MemberValue, Occurrences, Pass, Piece, Text, read, read_into, read_part, read_parts,
    };
    #[doc(hidden)]
    pub use crate::model::json::{MapAccess, Name};
}
