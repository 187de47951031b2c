//! Events and errors in plain words, for reviewers of snapshots.
//!
//! Recorded data is invented: unlike everything else in the crate, these sentences show it.

use crate::model::address::Address;
use crate::model::error::Error;
use crate::model::event::{DeliveryOf, Event, Inbound, InboundContent, OptOutScope};
use crate::model::id::MessageId;

/// Returns an event as a sentence.
pub(super) fn described(event: &Event) -> String {
    let at = event.envelope().at;
    match event {
        Event::Account(e) => {
            let name = e.name.as_deref().map(|name| format!(" of {name}")).unwrap_or_default();
            format!("our account: {:?}{name} is now {}, at {at}", e.topic, e.state)
        }
        Event::AddressChanged(e) => {
            format!("a changed address: {} is now {}, at {at}", e.previous.expose(), e.current.expose())
        }
        Event::Delivery(e) => {
            let of = match &e.of {
                DeliveryOf::Message { id, key } => {
                    let key = key.as_deref().map(|key| format!(", our key {key}")).unwrap_or_default();
                    format!("message {}{key}", id.as_ref().map_or("without an id", MessageId::as_str))
                }
                DeliveryOf::UpTo { at, .. } => format!("all messages up to {at}"),
            };
            let to = e.recipient.as_ref().map(|to| format!(" to {}", to.expose())).unwrap_or_default();
            let failure = e.failure.as_ref().map(|failure| {
                let lasting = if failure.temporary { "temporary" } else { "permanent" };
                format!("; {:?}, {lasting}, code {}", failure.kind, failure.code.as_deref().unwrap_or("none"))
            });
            let price = e.price.map(|price| format!("; price {price}")).unwrap_or_default();
            format!("a status: {of}{to} is {:?} ({}) at {at}{}{price}", e.state, e.status, failure.unwrap_or_default())
        }
        Event::Inbound(e) => {
            let who = if e.echo { "an echo of our message" } else { "a message" };
            let marks = [(e.history, "history"), (e.standby, "standby"), (e.forwarded, "forwarded")];
            let marks: Vec<_> = marks.into_iter().filter_map(|(set, mark)| set.then_some(mark)).collect();
            let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
            let reply = e.envelope.conversation.as_ref().map(|to| format!("; a reply goes to {}", to.expose()));
            let quotes = e.reply_to.as_ref().map(|id| format!("; it quotes {}", id.as_str()));
            format!(
                "{who}{marks} from {} at {at}: {}{}{}; opt-out: {}",
                e.from.expose(),
                content(&e.content),
                reply.unwrap_or_default(),
                quotes.unwrap_or_default(),
                opt_out(e)
            )
        }
        Event::OptOut(e) => {
            let what = match (e.resume, e.scope) {
                (false, OptOutScope::All) => "an opt-out from all messages",
                (false, OptOutScope::Marketing) => "an opt-out from marketing",
                (true, OptOutScope::All) => "an opt-in to all messages",
                (true, OptOutScope::Marketing) => "an opt-in to marketing",
            };
            format!("{what} by {} at {at}", e.from.expose())
        }
        Event::Unrecognised(e) => {
            let from = e.from.as_ref().map(Address::expose).unwrap_or("nobody in particular");
            format!("not recognised: {} from {from}, at {at}", e.what)
        }
    }
}

fn opt_out(inbound: &Inbound) -> &'static str {
    match crate::model::event::opt_out_keyword(inbound) {
        Some(_) if inbound.echo || inbound.history => "no, it is not a live message",
        Some(_) => "yes",
        None => "no",
    }
}

fn content(content: &InboundContent) -> String {
    match content {
        InboundContent::Text(text) => format!("“{text}”"),
        InboundContent::Media { media, text } => {
            let kinds: Vec<_> = media.iter().map(|file| file.mime.as_deref().unwrap_or("of unknown type")).collect();
            let text = text.as_deref().map(|text| format!(" with the caption “{text}”")).unwrap_or_default();
            format!("{} file(s), {}{text}", media.len(), kinds.join(", "))
        }
        InboundContent::Selection(chosen) => format!("the selection “{}” (our id {})", chosen.title, chosen.id),
        InboundContent::Edited { id, content: now } => format!("an edit of {}, now {}", id.as_str(), content_of(now)),
        InboundContent::Withdrawn(id) => format!("the deletion of {}", id.as_str()),
        InboundContent::Reaction { emoji, to, .. } => {
            format!("the reaction {} to {}", emoji.as_deref().unwrap_or("removed"), to.as_str())
        }
        other => {
            // The variant's name and, for reviewers, its data.
            serde_json::to_string(other).unwrap_or_default()
        }
    }
}

/// An edit's content is one level deep: an edit of an edit is described by its variant alone.
fn content_of(inner: &InboundContent) -> String {
    match inner {
        InboundContent::Edited { .. } => "another edit".to_owned(),
        inner => content(inner),
    }
}

/// Returns an error as a sentence.
pub(super) fn described_error(error: &Error) -> String {
    let again = if error.is_retryable() { "may be retried" } else { "final" };
    format!("an error: {:?}, outcome {:?}, {again}: {error}", error.kind(), error.outcome())
}
