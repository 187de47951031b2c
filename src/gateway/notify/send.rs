//! Encoding of a message as Notify's request, and decoding of the response.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GATEWAY, Notify, is_uuid};
use crate::adapter::json::{Json, Text};
use crate::adapter::{Answer, lenient};
use crate::model::error::{Error, Result};
use crate::model::json::without_nulls;
use crate::model::message::{Accepted, Content, GatewayOptions, Message, Template};
use crate::plan::{Loss, changed};

/// Options that only this gateway reads.
///
/// ```
/// use civic_messaging::{Address, Message, notify};
///
/// let mut options = notify::Options::default();
/// options.sms_sender_id = Some("8e222534-7f05-4972-86e3-17c5d9f894e2".into());
/// let message = Message::text(Address::phone("07700 900123")?, "Hello").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// The UUID of the sender of this message, instead of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms_sender_id: Option<String>,
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}

/// Encodes a prepared message.
pub(super) fn encode(message: &Message, notify: &Notify) -> Result<Value> {
    let (template_id, personalisation) = match &message.content {
        Content::Text(text) => {
            (notify.template_id.as_str(), BTreeMap::from([(notify.body_field.as_str(), text.as_str())]))
        }
        Content::Template(template) => (template_id(template)?, personalisation(template)),
        _ => return Err(Error::unsupported("Notify sends only texts and templates").with_field("content")),
    };
    Ok(without_nulls(json!({
        "phone_number": message.to.expose(),
        "template_id": template_id,
        "personalisation": personalisation,
        "reference": message.key,
        "sms_sender_id": sms_sender_id(message)?.or_else(|| notify.sms_sender_id.clone()),
    })))
}

/// The message rule beyond the capability.
pub(super) fn rule(message: &Message) -> Result<()> {
    if let Content::Template(template) = &message.content {
        template_id(template)?;
    }
    sms_sender_id(message).map(|_| ())
}

fn sms_sender_id(message: &Message) -> Result<Option<String>> {
    let options: Option<Options> = message.options()?;
    match options.and_then(|options| options.sms_sender_id) {
        Some(id) if !is_uuid(&id) => Err(Error::invalid("options.sms_sender_id", "must be the UUID of a sender")),
        id => Ok(id),
    }
}

fn template_id(template: &Template) -> Result<&str> {
    let id = template.native.get(GATEWAY).unwrap_or(&template.name);
    let rule = "must be the UUID of a Notify template, unless `native` has one for notify";
    if is_uuid(id) { Ok(id) } else { Err(Error::invalid("template.name", rule).with_gateway(GATEWAY)) }
}

fn personalisation(template: &Template) -> BTreeMap<&str, &str> {
    let pairs = template.parameters.iter();
    pairs.filter_map(|parameter| Some((parameter.name.as_deref()?, parameter.value.as_str()))).collect()
}

/// Decodes the response to a send.
///
/// The response holds the text as it will be sent, which shows the losses of a free text. Those of a template cannot be
/// distinguished from the template's own text.
pub(super) fn decode(message: &Message, answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let response: SendResponse<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(response.id.id())?;
    let sent = response.content.as_ref().and_then(|content| content.body.as_deref());
    if let (Content::Text(text), Some(sent)) = (&message.content, sent) {
        // Trimming at both ends is not a loss.
        match changed(text.trim(), sent) {
            0 => {}
            characters => accepted.losses.push(Loss::Rewritten { characters }),
        }
    }
    Ok(accepted)
}

lenient! {
    struct SendResponse<'a> {
        id: Text<'a>,
        content: Option<SentContent<'a>>,
    }

    struct SentContent<'a> {
        body: Text<'a>,
    }
}
