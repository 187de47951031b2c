//! Look-up of sent messages, and of users by handle.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::api::{ApiRequest, numeric};
use super::poll::{Listing, PAGES_MAX};
use super::text::{unescaped, without_media_link};
use super::wire::{DmEvent, Url};
use super::{GATEWAY, X};
use crate::adapter::json::{self, Json};
use crate::adapter::query;
use crate::medium::x as rules;
use crate::model::address::{Address, XUser};
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{Delivery, Raw};
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Content, MediaSource};

/// The maximum lag of X's clock behind ours in a look-up.
const SKEW: Duration = Duration::from_secs(30);

impl X {
    /// Looks up a user by handle, with or without its `@`. Keep the id: a handle can change owners.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`] for what cannot be a handle, [`ErrorKind::NotFound`] when nobody has it.
    pub async fn look_up_user(&self, handle: &str) -> Result<UserProfile> {
        let handle = handle.strip_prefix('@').unwrap_or(handle);
        if !rules::handle(handle) {
            return Err(Error::recipient("must be 1 to 15 letters, digits or _ as a handle on X").with_gateway(GATEWAY));
        }
        let fields = query(&[("user.fields", "receives_your_dm,connection_status")]);
        let answer = self.call(ApiRequest::get("user", format!("/2/users/by/username/{handle}?{fields}"))).await?;
        let user: User = self.data(&answer)?;
        let handle = user.username.as_deref().unwrap_or(handle);
        let id = XUser::new(&user.id).map_err(|_| answer.unreadable())?.with_handle(handle);
        Ok(UserProfile { user: id, name: user.name, receives_dm: user.receives_your_dm })
    }

    /// Finds a message by its id, or by its content among ours since it was sent: X has no idempotency key.
    pub(super) async fn find(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let delivery = |id: &str, at: Timestamp, raw: Raw| {
            let mut delivery = Delivery::new(self.info.envelope(at, raw), id, DeliveryState::Accepted, "MessageCreate");
            delivery.recipient = Some(sent.message.to.clone());
            delivery
        };
        if let Some(id) = &sent.id {
            let path = format!("/2/dm_events/{}", numeric("id", id.as_str())?);
            let answer = match self.call(ApiRequest::get("dm_event", path)).await {
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                    return Ok(LookupOutcome::Inconclusive);
                }
                answer => answer?,
            };
            return match self.data::<FoundEvent>(&answer) {
                Ok(event) if event.id != id.as_str() => Err(answer.unreadable()),
                Ok(_) => Ok(LookupOutcome::Found(vec![delivery(id.as_str(), sent.at, Raw::new(answer.body.clone()))])),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(LookupOutcome::Inconclusive),
                Err(error) => Err(error),
            };
        }
        let path = match &sent.message.to {
            Address::X(user) => format!("/2/dm_conversations/with/{}/dm_events", user.id()),
            Address::Conversation(id) if rules::conversation_id(id.id()) => {
                format!("/2/dm_conversations/{}/dm_events", id.id())
            }
            _ => return Err(Error::recipient("is not an address on X").with_gateway(GATEWAY)),
        };
        let since = sent.at.minus(SKEW);
        let (mut found, mut unsure, mut token) = (Vec::new(), false, None::<String>);
        for _ in 0..PAGES_MAX {
            let answer = self.listing(&path, token.as_deref()).await?;
            let json = Json::new(&answer.body);
            let listing = Listing::read(&json, &answer)?;
            let mut older = false;
            for piece in listing.data.iter() {
                let event: DmEvent<'_> = json::read(piece.get()).unwrap_or_default();
                let created = event.created_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
                older |= created.is_some_and(|created| created < since);
                if older || !event.says(&sent.message.content) {
                    continue;
                }
                match (event.sender_id.as_deref(), created, event.id.some()) {
                    (Some(sender), _, _) if sender != self.info.account.as_str() => {}
                    (Some(_), Some(created), Some(id)) => {
                        found.push(delivery(id, created, Raw::new(json.raw(piece.get()))));
                    }
                    _ => unsure = true,
                }
            }
            token = listing.next().filter(|_| !older);
            if token.is_none() {
                break;
            }
        }
        Ok(match (found.is_empty(), unsure || token.is_some()) {
            (false, _) => LookupOutcome::Found(found),
            (true, _) => LookupOutcome::Inconclusive,
        })
    }
}

/// The event that a look-up by id returns.
#[derive(Deserialize)]
struct FoundEvent {
    id: String,
}

impl DmEvent<'_> {
    /// Returns `true` if this is the content of a message: its text, with links as they were and with or without
    /// escapes, and its file.
    fn says(&self, content: &Content) -> bool {
        let (text, file) = match content {
            Content::Text(text) => (text.as_str(), None),
            Content::Media(media) => match media.as_slice() {
                [media] => (media.caption.as_deref().unwrap_or_default(), Some(&media.source)),
                _ => return false,
            },
            _ => return false,
        };
        let files: Vec<&str> = self.media_ids().map(|(_, id)| id).collect();
        let same_file = match file {
            None => files.is_empty(),
            Some(MediaSource::Gateway { id, .. }) => files.contains(&id.as_str()),
            Some(_) => !files.is_empty(),
        };
        let (urls, said) = (self.urls(), self.text.as_deref().unwrap_or_default());
        let said = if files.is_empty() { said } else { without_media_link(said, urls) };
        let link = |text: String, url: &Url<'_>| match (url.url.some(), url.expanded_url.as_deref()) {
            (Some(short), Some(long)) => text.replace(short, long),
            _ => text,
        };
        let expanded = urls.iter().fold(said.to_owned(), link);
        let ways = [said.to_owned(), unescaped(said), unescaped(&expanded), expanded];
        same_file && ways.iter().any(|way| way.trim() == text.trim())
    }
}

/// A user found by handle.
#[non_exhaustive]
#[derive(Clone)]
pub struct UserProfile {
    /// The numeric id, with the handle.
    pub user: XUser,
    /// The name they show.
    pub name: Option<String>,
    /// `true` if the user accepts our messages, where X reports it.
    pub receives_dm: Option<bool>,
}

impl std::fmt::Debug for UserProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserProfile").field("receives_dm", &self.receives_dm).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) username: Option<String>,
    pub(super) receives_your_dm: Option<bool>,
}
