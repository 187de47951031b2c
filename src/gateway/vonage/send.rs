//! Encoding of a message as Vonage's request, and decoding of the response.

use serde_json::{Value, json};

use super::wire::Sent;
use super::{GATEWAY, Vonage};
use crate::adapter::Answer;
use crate::adapter::json::Json;
use crate::medium::sms::{self, Encoding};
use crate::model::address::{Medium, Phone};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Content, Message, Purpose, Template};

/// The range of `ttl` of a text message in seconds. (Messages API 1.17.0.)
const TTL: std::ops::RangeInclusive<u64> = 20..=259_200;

impl Vonage {
    /// Encodes a prepared message.
    ///
    /// A text message with a `not_after` has a `ttl` that ends then, or in 20 seconds, the least that Vonage accepts.
    pub(super) fn encode(&self, message: &Message, now: Timestamp) -> Result<Value> {
        let to = message.to.as_phone().map_or_else(|| message.to.expose(), Phone::digits);
        let mut body = json!({ "to": to, "from": &*self.from, "client_ref": message.key });
        let Value::Object(fields) = &mut body else { return Err(Error::unsupported("the message has no fields")) };
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        match &message.content {
            Content::Text(text) => {
                set("message_type", "text".into());
                set("text", text.as_str().into());
                if self.info.medium == Medium::Sms {
                    let encoding = match sms::count(text).encoding() {
                        Encoding::Gsm7 => "text",
                        Encoding::Ucs2 => "unicode",
                    };
                    set("sms", json!({ "encoding_type": encoding }));
                }
            }
            Content::Template(template) => {
                set("message_type", "template".into());
                set("template", content(template));
                set("whatsapp", json!({ "policy": "deterministic", "locale": template.language }));
            }
            _ => return Err(Error::unsupported("Vonage sends texts and templates here").with_field("content")),
        }
        match &self.info.medium {
            Medium::WhatsApp => set("channel", "whatsapp".into()),
            Medium::Messenger => {
                let category = if message.purpose == Purpose::Reply { "response" } else { "update" };
                set("messenger", json!({ "category": category }));
                set("channel", "messenger".into())
            }
            _ => {
                let ttl = message.not_after.map(|at| at.since(now).as_secs().clamp(*TTL.start(), *TTL.end()));
                set("ttl", json!(ttl));
                set("channel", "sms".into())
            }
        };
        if let Some(quoted) = &message.reply_to {
            set("context", json!({ "message_uuid": quoted.as_str() }));
        }
        Ok(without_nulls(body))
    }
}

fn content(template: &Template) -> Value {
    let name = template.native.get(GATEWAY).unwrap_or(&template.name);
    let parameters: Vec<_> = template.parameters.iter().map(|parameter| parameter.value.as_str()).collect();
    without_nulls(json!({ "name": name, "parameters": (!parameters.is_empty()).then_some(parameters) }))
}

/// Decodes the response to a send.
pub(super) fn decode(answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let sent: Sent<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    answer.accepted(sent.message_uuid.id())
}
