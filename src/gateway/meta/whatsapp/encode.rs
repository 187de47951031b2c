//! A message as the JSON of Meta's Cloud API.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::Options;
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::message::{
    Choice, ContactCard, Content, InfoField, InfoRequest, LabelledValue, Link, Media, MediaKind, MediaSource, Message,
    Parameter, Row, Section, Template, TemplateButton, TemplateHeader,
};

/// The body of `POST /{phone-number-id}/messages`.
pub(in super::super) fn encode(
    gateway: &str,
    message: &Message,
    options: &Options,
    messaging_account_id: Option<&str>,
) -> Result<Vec<u8>> {
    let (group, to, recipient) = match &message.to {
        Address::Conversation(group) => (true, Some(group.id()), None),
        Address::Phone(phone) => (false, Some(phone.as_str()), None),
        // Meta takes one of the two, and reaches people who hide their number by the user id only.
        Address::WhatsApp(user) => match user.phone() {
            Some(phone) => (false, Some(phone.as_str()), None),
            None => (false, None, user.user_id()),
        },
        _ => return Err(Error::recipient("is not an address on WhatsApp")),
    };
    let (kind, content) = content(gateway, &message.content, options)?;
    let outgoing = Outgoing {
        messaging_product: "whatsapp",
        recipient_type: if group { "group" } else { "individual" },
        to,
        recipient,
        kind: &kind,
        context: message.reply_to.as_ref().map(|id| Quoted { message_id: id.as_str() }),
        biz_opaque_callback_data: message.key.as_deref(),
        recipient_identity_key_hash: options.recipient_identity_key_hash.as_deref(),
        messaging_account_id,
        content,
    };
    serde_json::to_vec(&outgoing).map_err(|_| Error::invalid("content", "cannot be written as JSON"))
}

#[derive(Serialize)]
struct Outgoing<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Quoted<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    biz_opaque_callback_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_identity_key_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messaging_account_id: Option<&'a str>,
    #[serde(flatten)]
    content: OutgoingContent<'a>,
}

#[derive(Serialize)]
struct Quoted<'a> {
    message_id: &'a str,
}

/// The member that `type` names: a text without a detour, since most messages are texts, and JSON for the others.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum OutgoingContent<'a> {
    Text(Text<'a>),
    #[serde(untagged)]
    Other(Map<String, Value>),
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url: Option<bool>,
    body: &'a str,
}

fn content<'a>(
    gateway: &str,
    content: &'a Content,
    options: &Options,
) -> Result<(Cow<'static, str>, OutgoingContent<'a>)> {
    let (kind, value): (&'static str, Value) = match content {
        Content::Text(body) => {
            return Ok(("text".into(), OutgoingContent::Text(Text { preview_url: options.preview_url, body })));
        }
        Content::InfoRequest(ask) => ("interactive", interactive_ask(ask)),
        Content::Choice(choice) => ("interactive", interactive_choice(choice)?),
        Content::Contacts(cards) => ("contacts", cards.iter().map(card).collect()),
        Content::Link(link) => ("interactive", interactive_link(link)),
        Content::Location(place) => {
            let mut value = json!({ "latitude": place.latitude, "longitude": place.longitude });
            put(&mut value, "name", place.name.as_deref());
            put(&mut value, "address", place.address.as_deref());
            ("location", value)
        }
        Content::Media(media) => match media.as_slice() {
            [media] => (media_type(media.kind), file(media, true)?),
            _ => return Err(Error::invalid("media", "is not one file")),
        },
        Content::Native(native) => {
            let mut value: Map<String, Value> = native.read()?;
            let kind = match value.remove("type") {
                Some(Value::String(kind)) if value.contains_key(&kind) => kind,
                _ => return Err(Error::invalid("native", "needs a type, and the member that it names")),
            };
            return Ok((kind.into(), OutgoingContent::Other(value)));
        }
        Content::Reaction(reaction) => (
            "reaction",
            json!({ "message_id": reaction.to.as_str(), "emoji": reaction.emoji.as_deref().unwrap_or_default() }),
        ),
        Content::Template(template) => ("template", filled(gateway, template)?),
    };
    Ok((kind.into(), OutgoingContent::Other(Map::from_iter([(kind.to_owned(), value)]))))
}

fn media_type(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Document => "document",
        MediaKind::Image => "image",
        MediaKind::Sticker => "sticker",
        MediaKind::Video => "video",
    }
}

fn file(media: &Media, caption: bool) -> Result<Value> {
    let mut value = match &media.source {
        MediaSource::Gateway { id, .. } => json!({ "id": id }),
        MediaSource::Link(link) => json!({ "link": link }),
        MediaSource::Stored { .. } => return Err(Error::invalid("media.source", "was not uploaded")),
    };
    if caption {
        put(&mut value, "caption", media.caption.as_deref());
    }
    if media.kind == MediaKind::Document {
        put(&mut value, "filename", media.filename.as_deref());
    }
    if media.voice
        && let Value::Object(members) = &mut value
    {
        members.insert("voice".to_owned(), true.into());
    }
    Ok(value)
}

fn header(header: &TemplateHeader) -> Result<Value> {
    Ok(match header {
        TemplateHeader::Location(_) => return Err(Error::invalid("choice.header", "cannot be a place")),
        TemplateHeader::Media(media) => {
            let kind = media_type(media.kind);
            json!({ "type": kind, kind: file(media, false)? })
        }
        TemplateHeader::Text(text) => json!({ "type": "text", "text": text }),
    })
}

pub(super) fn interactive(kind: &str, body: &str, footer: Option<&str>, action: Value) -> Value {
    let mut value = json!({ "type": kind, "body": { "text": body } });
    if let Value::Object(members) = &mut value {
        members.insert("action".to_owned(), action);
    }
    if let (Some(text), Value::Object(members)) = (footer, &mut value) {
        members.insert("footer".to_owned(), json!({ "text": text }));
    }
    value
}

fn interactive_ask(ask: &InfoRequest) -> Value {
    match ask.what {
        InfoField::Contact => {
            interactive("request_contact_info", &ask.body, None, json!({ "name": "request_contact_info" }))
        }
        InfoField::Location => {
            interactive("location_request_message", &ask.body, None, json!({ "name": "send_location" }))
        }
    }
}

fn interactive_link(link: &Link) -> Value {
    let parameters = json!({ "display_text": link.label, "url": link.url });
    interactive("cta_url", &link.body, link.footer.as_deref(), json!({ "name": "cta_url", "parameters": parameters }))
}

fn interactive_choice(choice: &Choice) -> Result<Value> {
    let (kind, action) = match &choice.list_label {
        None => {
            let reply = |row: &Row| json!({ "type": "reply", "reply": { "id": row.id, "title": row.title } });
            ("button", json!({ "buttons": choice.rows().map(reply).collect::<Value>() }))
        }
        Some(label) => {
            let row = |row: &Row| {
                let mut value = json!({ "id": row.id, "title": row.title });
                put(&mut value, "description", row.description.as_deref());
                value
            };
            let section = |section: &Section| {
                let mut value = json!({ "rows": section.rows.iter().map(row).collect::<Value>() });
                put(&mut value, "title", section.title.as_deref());
                value
            };
            ("list", json!({ "button": label, "sections": choice.sections.iter().map(section).collect::<Value>() }))
        }
    };
    let mut value = interactive(kind, &choice.body, choice.footer.as_deref(), action);
    if let (Some(above), Value::Object(members)) = (&choice.header, &mut value) {
        members.insert("header".to_owned(), header(above)?);
    }
    Ok(value)
}
fn filled(gateway: &str, template: &Template) -> Result<Value> {
    let mut components = Vec::new();
    match &template.header {
        None => {}
        Some(TemplateHeader::Location(place)) => {
            let mut value = json!({ "latitude": place.latitude, "longitude": place.longitude });
            put(&mut value, "name", place.name.as_deref());
            put(&mut value, "address", place.address.as_deref());
            components.push(json!({ "type": "header", "parameters": [{ "type": "location", "location": value }] }));
        }
        Some(above) => {
            let mut parameter = header(above)?;
            put(&mut parameter, "parameter_name", template.header_name.as_deref());
            components.push(json!({ "type": "header", "parameters": [parameter] }));
        }
    }
    if !template.parameters.is_empty() {
        let parameter = |parameter: &Parameter| {
            let mut value = json!({ "type": "text", "text": parameter.value });
            put(&mut value, "parameter_name", parameter.name.as_deref());
            value
        };
        components.push(
            json!({ "type": "body", "parameters": template.parameters.iter().map(parameter).collect::<Value>() }),
        );
    }
    for button in &template.buttons {
        let (kind, index, parameter) = match button {
            TemplateButton::CopyCode { index, code } => {
                ("copy_code", index, json!({ "type": "coupon_code", "coupon_code": code }))
            }
            TemplateButton::QuickReply { index, payload } => {
                ("quick_reply", index, json!({ "type": "payload", "payload": payload }))
            }
            TemplateButton::Url { index, suffix } => ("url", index, json!({ "type": "text", "text": suffix })),
        };
        components
            .push(json!({ "type": "button", "sub_type": kind, "index": index.to_string(), "parameters": [parameter] }));
    }
    let name = template.native.get(gateway).unwrap_or(&template.name);
    let mut value = json!({ "name": name, "language": { "code": template.language } });
    if let (false, Value::Object(members)) = (components.is_empty(), &mut value) {
        members.insert("components".to_owned(), components.into());
    }
    Ok(value)
}

fn card(card: &ContactCard) -> Value {
    // Meta wants one part of the name beside the whole.
    let first = card.first_name.as_deref().filter(|name| !name.trim().is_empty());
    let first = first.or_else(|| card.name.split_whitespace().next()).unwrap_or(&card.name);
    let mut value = json!({ "name": { "formatted_name": card.name, "first_name": first } });
    let list = |values: &[LabelledValue], member: &str| -> Value {
        let one = |labelled: &LabelledValue| {
            let mut value = json!({ member: labelled.value });
            put(&mut value, "type", labelled.label.as_deref());
            value
        };
        values.iter().map(one).collect()
    };
    if let Value::Object(members) = &mut value {
        for (name, member, values) in
            [("phones", "phone", &card.phones), ("emails", "email", &card.emails), ("urls", "url", &card.urls)]
        {
            if !values.is_empty() {
                members.insert(name.to_owned(), list(values, member));
            }
        }
        if let Some(organisation) = &card.organisation {
            members.insert("org".to_owned(), json!({ "company": organisation }));
        }
    }
    value
}

pub(super) fn put(value: &mut Value, member: &str, text: Option<&str>) {
    if let (Some(text), Value::Object(members)) = (text, value) {
        members.insert(member.to_owned(), text.into());
    }
}
