//! The content of an inbound message.

use std::time::Duration;

use super::people::is_number;
use super::wire::{Card, CardValue, Edit, File, Message};
use crate::adapter::json::{self};
use crate::model::event::{Envelope, InboundContent, Selection};
use crate::model::message::{ContactCard, LabelledValue, Location, MediaRef};

/// The kind of a message, by its `type`, or else by the member that it has.
pub(super) fn kind<'m>(message: &'m Message<'_>) -> &'m str {
    if let Some(kind) = message.kind.some() {
        return kind;
    }
    let members = [
        ("edit", message.edit.is_some()),
        ("revoke", message.revoke.is_some()),
        ("system", message.system.is_some()),
        ("text", message.text.is_some()),
        ("image", message.file.is_some()),
        ("location", message.location.is_some()),
        ("contacts", !message.contacts.is_empty()),
        ("interactive", message.interactive.is_some()),
        ("button", message.button.is_some()),
        ("reaction", message.reaction.is_some()),
        ("order", message.order.is_some()),
        ("unsupported", message.unsupported.is_some() || !message.errors.is_empty()),
    ];
    members.iter().find(|(_, is_there)| *is_there).map(|(kind, _)| *kind).unwrap_or_default()
}

/// The content of a message; at least its words, if the rest cannot be read.
pub(super) fn content(message: &Message<'_>, envelope: &Envelope) -> Option<InboundContent> {
    let read = match kind(message) {
        "edit" => edited(message.edit.as_deref(), envelope),
        kind => content_of(kind, message, envelope),
    };
    read.or_else(|| words(message))
}

fn edited(edit: Option<&Edit<'_>>, envelope: &Envelope) -> Option<InboundContent> {
    let edit = edit?;
    let message: Message<'_> = json::read(edit.message?.get())?;
    // An edit in an edit is of no form that is known, and is not followed.
    let content = content_of(kind(&message), &message, envelope).or_else(|| words(&message))?;
    Some(match edit.original_message_id.some() {
        Some(id) => InboundContent::Edited { id: id.into(), content: Box::new(content) },
        // Of which message is not known, but the words can be STOP.
        None => content,
    })
}

/// The words of a message that cannot be read as what it is.
fn words(message: &Message<'_>) -> Option<InboundContent> {
    let text = message.text.as_ref().and_then(|text| text.body.some());
    let caption = message.file.as_ref().and_then(|file| file.caption.some());
    let button = message.button.as_ref().and_then(|button| button.text.some());
    let words = text.or(caption).or(button)?;
    Some(InboundContent::Text(words.to_owned()))
}

fn content_of(kind: &str, message: &Message<'_>, envelope: &Envelope) -> Option<InboundContent> {
    Some(match kind {
        "text" => InboundContent::Text(message.text.as_ref()?.body.to_text()?),
        "image" | "video" | "document" | "audio" | "sticker" => {
            let file = message.file.as_ref()?;
            InboundContent::Media { text: file.caption.to_text(), media: vec![reference(file, envelope)?] }
        }
        "location" => {
            let place = message.location.as_ref()?;
            let mut location = Location::new(place.latitude?, place.longitude?);
            (location.name, location.address) = (place.name.to_text(), place.address.to_text());
            InboundContent::Location(location)
        }
        "contacts" => InboundContent::Contacts(message.contacts.iter().map(card).collect()),
        "button" => {
            let button = message.button.as_ref()?;
            let title = button.text.to_text().unwrap_or_default();
            InboundContent::Selection(Selection {
                id: button.payload.to_text().unwrap_or_else(|| title.clone()),
                title,
            })
        }
        "interactive" => match message.interactive.as_deref() {
            // Seen in the wild: no object, and an error beside the message.
            None => InboundContent::unsupported(Some("interactive")),
            Some(interactive) => match (&interactive.reply, &interactive.nfm_reply) {
                (Some(reply), _) => InboundContent::Selection(Selection {
                    id: reply.id.some().or(reply.title.some())?.to_owned(),
                    title: reply.title.to_text().unwrap_or_default(),
                }),
                (None, Some(form)) => InboundContent::Form(form.response_json.to_text()?),
                (None, None) => InboundContent::unsupported(interactive.kind.to_text()),
            },
        },
        "reaction" => {
            let reaction = message.reaction.as_ref()?;
            let emoji = reaction.emoji.some().map(str::to_owned);
            InboundContent::Reaction { to: reaction.message_id.some()?.into(), emoji }
        }
        "order" => InboundContent::Order(message.order?.get().to_owned()),
        "system" => InboundContent::System(message.system.as_ref()?.body.to_text()?),
        "revoke" => InboundContent::Withdrawn(message.revoke.as_ref()?.original_message_id.some()?.into()),
        "unsupported" | "unknown" => InboundContent::Unsupported {
            kind: message.unsupported.as_ref().and_then(|unsupported| unsupported.kind.to_text()),
            code: message.errors.first().and_then(|fault| fault.code.to_text()),
        },
        _ => return None,
    })
}

/// The time for which Meta keeps a resident's file.
const RECEIVED_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

fn reference(file: &File<'_>, envelope: &Envelope) -> Option<MediaRef> {
    let mut media = MediaRef::new(envelope.gateway.clone(), file.id.some()?);
    media.url = file.url.to_text();
    media.mime = file.mime_type.to_text();
    media.sha256 = file.sha256.as_deref().and_then(|hash| hash.parse().ok());
    media.filename = file.filename.to_text();
    media.expires = Some(envelope.at.plus(RECEIVED_KEPT));
    Some(media)
}

fn card(card: &Card<'_>) -> ContactCard {
    let (name, vcard) = (card.name.as_ref(), card.vcard.as_deref().unwrap_or_default());
    let values = |list: &[CardValue<'_>], property: &str| -> Vec<LabelledValue> {
        let listed: Vec<_> = list.iter().filter_map(card_value).collect();
        if listed.is_empty() { vcard_values(vcard, property) } else { listed }
    };
    let written = |property| vcard_values(vcard, property).into_iter().next().map(|one| one.value);
    let parts = || {
        let parts = name.map(|name| [name.first_name.some(), name.last_name.some()])?;
        full_name(parts.into_iter().flatten())
    };
    // In a vCard the family name comes first.
    let structured = || full_name(written("N")?.split(';').take(2).collect::<Vec<_>>().into_iter().rev());
    let shown = name.and_then(|name| name.formatted_name.some().map(str::to_owned));
    let shown = shown.or_else(parts).or_else(|| written("FN")).or_else(structured);
    let mut read = ContactCard::new(shown.unwrap_or_default());
    read.first_name = name.and_then(|name| name.first_name.to_text());
    read.organisation = card.org.as_ref().and_then(|org| org.company.to_text()).or_else(|| written("ORG"));
    read.phones = values(&card.phones, "TEL");
    read.emails = values(&card.emails, "EMAIL");
    read.urls = values(&card.urls, "URL");
    read
}

fn card_value(one: &CardValue<'_>) -> Option<LabelledValue> {
    let on_whatsapp = || one.wa_id.some().map(|id| if is_number(id) { format!("+{id}") } else { id.to_owned() });
    let value = one.value.some().map(str::to_owned).or_else(on_whatsapp)?;
    Some(LabelledValue { value, label: one.label.to_text() })
}

fn full_name<'n>(parts: impl Iterator<Item = &'n str>) -> Option<String> {
    let parts: Vec<_> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The values of one property of a vCard (RFC 6350), without its groups and parameters.
fn vcard_values(vcard: &str, property: &str) -> Vec<LabelledValue> {
    let value = |line: String| {
        let (name, value) = line.split_once(':')?;
        let name = name.split(';').next()?;
        let name = name.rsplit('.').next()?;
        let value = value.trim();
        let value = value.strip_prefix("tel:").or_else(|| value.strip_prefix("mailto:")).unwrap_or(value);
        let found = name.eq_ignore_ascii_case(property) && !value.is_empty();
        found.then(|| LabelledValue { value: value.replace("\\,", ",").replace("\\;", ";"), label: None })
    };
    unfolded(vcard).into_iter().filter_map(value).collect()
}

/// The lines of a vCard. One that begins with white space goes on with the line before it.
fn unfolded(vcard: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in vcard.lines() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}
