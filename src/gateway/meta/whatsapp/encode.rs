//! A message as the JSON of Meta's Cloud API.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::Options;
use crate::model::address::Address;
use crate::model::error::{Error, Result};
use crate::model::json::without_nulls;
use crate::model::message::{
    Choice, ContactCard, Content, InfoField, InfoRequest, LabelledValue, Link, Location, Media, MediaKind, MediaSource,
    Message, Parameter, Row, Section, Template, TemplateButton, TemplateHeader,
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
        Content::Location(location) => ("location", place(location)),
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
    let (member, source) = match &media.source {
        MediaSource::Gateway { id, .. } => ("id", id),
        MediaSource::Link(link) => ("link", link),
        MediaSource::Stored { .. } => return Err(Error::invalid("media.source", "was not uploaded")),
    };
    Ok(without_nulls(json!({
        member: source,
        "caption": media.caption.as_ref().filter(|_| caption),
        "filename": media.filename.as_ref().filter(|_| media.kind == MediaKind::Document),
        "voice": media.voice.then_some(true),
    })))
}

fn place(place: &Location) -> Value {
    without_nulls(json!({
        "latitude": place.latitude,
        "longitude": place.longitude,
        "name": place.name,
        "address": place.address,
    }))
}

fn header(header: &TemplateHeader, name: Option<&str>) -> Result<Value> {
    let (kind, value) = match header {
        TemplateHeader::Location(location) => return Ok(json!({ "type": "location", "location": place(location) })),
        TemplateHeader::Media(media) => (media_type(media.kind), file(media, false)?),
        TemplateHeader::Text(text) => ("text", text.as_str().into()),
    };
    Ok(without_nulls(json!({ "type": kind, kind: value, "parameter_name": name })))
}

pub(super) fn interactive(kind: &str, body: &str, footer: Option<&str>, action: &Value) -> Value {
    let footer = footer.map(|text| json!({ "text": text }));
    without_nulls(json!({ "type": kind, "body": { "text": body }, "action": action, "footer": footer }))
}

fn interactive_ask(ask: &InfoRequest) -> Value {
    let (kind, name) = match ask.what {
        InfoField::Contact => ("request_contact_info", "request_contact_info"),
        InfoField::Location => ("location_request_message", "send_location"),
    };
    interactive(kind, &ask.body, None, &json!({ "name": name }))
}

fn interactive_link(link: &Link) -> Value {
    let parameters = json!({ "display_text": link.label, "url": link.url });
    interactive("cta_url", &link.body, link.footer.as_deref(), &json!({ "name": "cta_url", "parameters": parameters }))
}

fn interactive_choice(choice: &Choice) -> Result<Value> {
    let (kind, action) = match &choice.list_label {
        None => {
            let reply = |row: &Row| json!({ "type": "reply", "reply": { "id": row.id, "title": row.title } });
            ("button", json!({ "buttons": choice.rows().map(reply).collect::<Value>() }))
        }
        Some(label) => {
            let row =
                |row: &Row| without_nulls(json!({ "id": row.id, "title": row.title, "description": row.description }));
            let section = |section: &Section| {
                let rows: Value = section.rows.iter().map(row).collect();
                without_nulls(json!({ "title": section.title, "rows": rows }))
            };
            ("list", json!({ "button": label, "sections": choice.sections.iter().map(section).collect::<Value>() }))
        }
    };
    let mut value = interactive(kind, &choice.body, choice.footer.as_deref(), &action);
    if let (Some(above), Value::Object(members)) = (&choice.header, &mut value) {
        if let TemplateHeader::Location(_) = above {
            return Err(Error::invalid("choice.header", "cannot be a place"));
        }
        members.insert("header".to_owned(), header(above, None)?);
    }
    Ok(value)
}

fn filled(gateway: &str, template: &Template) -> Result<Value> {
    let mut components = Vec::new();
    if let Some(above) = &template.header {
        let name = template.header_name.as_deref();
        components.push(json!({ "type": "header", "parameters": [header(above, name)?] }));
    }
    if !template.parameters.is_empty() {
        let parameter = |parameter: &Parameter| {
            without_nulls(json!({ "type": "text", "text": parameter.value, "parameter_name": parameter.name }))
        };
        let parameters: Value = template.parameters.iter().map(parameter).collect();
        components.push(json!({ "type": "body", "parameters": parameters }));
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
        let index = index.to_string();
        components.push(json!({ "type": "button", "sub_type": kind, "index": index, "parameters": [parameter] }));
    }
    let name = template.native.get(gateway).unwrap_or(&template.name);
    let components = Some(components).filter(|components| !components.is_empty());
    Ok(without_nulls(json!({ "name": name, "language": { "code": template.language }, "components": components })))
}

fn card(card: &ContactCard) -> Value {
    // Meta wants one part of the name beside the whole.
    let first = card.first_name.as_deref().filter(|name| !name.trim().is_empty());
    let first = first.or_else(|| card.name.split_whitespace().next()).unwrap_or(&card.name);
    let list = |values: &[LabelledValue], member: &str| -> Option<Value> {
        let one = |labelled: &LabelledValue| without_nulls(json!({ member: labelled.value, "type": labelled.label }));
        (!values.is_empty()).then(|| values.iter().map(one).collect())
    };
    without_nulls(json!({
        "name": { "formatted_name": card.name, "first_name": first },
        "phones": list(&card.phones, "phone"),
        "emails": list(&card.emails, "email"),
        "urls": list(&card.urls, "url"),
        "org": card.organisation.as_ref().map(|company| json!({ "company": company })),
    }))
}
