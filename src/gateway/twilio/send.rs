//! Encoding of a message as Twilio's form, and decoding of the response.

use std::borrow::Cow;
use std::ops::Not;
use std::time::Duration;

use http::Request;
use serde::{Deserialize, Serialize};

use super::wire::MessageResource;
use super::{GATEWAY, Source, Twilio, is_sid};
use crate::adapter::Answer;
use crate::adapter::json::Json;
use crate::model::clock::Timestamp;
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, Result};
use crate::model::id::CallbackUrl;
use crate::model::message::{Accepted, Content, GatewayOptions, MediaSource, Message, Template};
use crate::transport::Body;

/// Options that only this gateway reads.
///
/// Each sets the Twilio parameter of the same name; an option that is not set is not sent. `MaxPrice` is left out
/// because it has had no effect since June 2024.
///
/// ```
/// use civic_messaging::{Address, Message, twilio};
///
/// let mut options = twilio::Options::default();
/// options.smart_encoded = Some(true);
/// let message = Message::text(Address::phone("07700 900123")?, "It’s bin day").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// The maximum time in Twilio's queue, in seconds: 1 to 36,000. By default until the message's `not_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validity_period: Option<u32>,
    /// Replaces typographic characters with GSM look-alikes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart_encoded: Option<bool>,
    /// The number of attempts for this message with any supplier, including this one, for Twilio's statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Discards the text at Twilio (`ContentRetention=discard`).
    ///
    /// [`look_up`](crate::Channel::look_up) by text then finds nothing.
    #[serde(skip_serializing_if = "Not::not")]
    pub discard_content: bool,
    /// Obfuscates the number at Twilio (`AddressRetention=obfuscate`).
    ///
    /// [`look_up`](crate::Channel::look_up) by text then finds nothing. The price is the same.
    #[serde(skip_serializing_if = "Not::not")]
    pub obfuscate_address: bool,
    /// Shortens links. Requires a messaging service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shorten_urls: Option<bool>,
    /// Sends a text as an MMS, with or without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_as_mms: Option<bool>,
    /// Schedules the message for this time. Requires a messaging service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<Timestamp>,
    /// The complete URL for this message's status callbacks, instead of the configured one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_callback: Option<CallbackUrl>,
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}

/// The maximum `ValidityPeriod`. (Twilio, Messages, read 2026-11-22 from stored copies.)
const MAX_VALIDITY: Duration = Duration::from_secs(36_000);

pub(super) const CALLBACK_RULE: &str = "must be an https URL whose host has no underscore";

/// Returns `true` if Twilio accepts this URL as a status callback.
pub(super) fn is_callback(url: &CallbackUrl) -> bool {
    url.as_str().parse::<http::Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default();
        let is_secure = uri.scheme_str() == Some("https") || crate::transport::is_loopback(host);
        is_secure && !host.is_empty() && !host.contains('_')
    })
}

/// The message rule beyond the capability, on a channel with a messaging service or without.
pub(super) fn rule<const SERVICE: bool>(message: &Message) -> Result<()> {
    let invalid = |field, rule: &'static str| Err(Error::invalid(field, rule));
    let options = message.options::<Options>()?.unwrap_or_default();
    if options.validity_period.is_some_and(|seconds| !(1..=36_000).contains(&seconds)) {
        return invalid("options.twilio.validity_period", "must be 1 to 36000 seconds");
    }
    if options.shorten_urls == Some(true) && !SERVICE {
        return invalid("options.twilio.shorten_urls", "needs a channel with a messaging service");
    }
    if options.send_at.is_some() && !SERVICE {
        return invalid("options.twilio.send_at", "needs a channel with a messaging service");
    }
    if options.status_callback.as_ref().is_some_and(|url| !is_callback(url)) {
        return invalid("options.twilio.status_callback", CALLBACK_RULE);
    }
    match &message.content {
        Content::Template(template) => content_sid(template).map(|_| ()),
        _ => Ok(()),
    }
}

impl Twilio {
    /// Encodes a prepared message as the request of a form.
    pub(super) fn encode(&self, message: &Message) -> Result<Request<Body>> {
        let to = self.written(&message.to);
        let (from, service) = match &self.source {
            Source::Sender(from) => (Some(&**from), None),
            Source::Service(sid) => (None, Some(&**sid)),
        };
        let body = body_text(&message.content).filter(|body| !body.is_empty());
        let mut fields =
            vec![("To", Some(&*to)), ("From", from), ("MessagingServiceSid", service), ("Body", body.as_deref())];
        let (place, variables);
        match &message.content {
            Content::Text(_) => {}
            Content::Media(media) => {
                for file in media {
                    let MediaSource::Link(link) = &file.source else {
                        return Err(Error::invalid("media.source", "was not published"));
                    };
                    fields.push(("MediaUrl", Some(link)));
                }
            }
            Content::Location(location) => {
                let label = location.address.as_deref().or(location.name.as_deref());
                let label = label.map(|label| format!("|{label}")).unwrap_or_default();
                place = format!("geo:{},{}{label}", location.latitude, location.longitude);
                fields.push(("PersistentAction", Some(&place)));
            }
            Content::Template(template) => {
                variables = template_variables(template);
                fields.push(("ContentSid", Some(content_sid(template)?)));
                fields.push(("ContentVariables", variables.as_deref()));
            }
            _ => return Err(Error::unsupported("this channel cannot send this content").with_field("content")),
        }
        let options = self.option_fields(message)?;
        fields.extend(options.iter().map(|(name, value)| (*name, value.as_deref())));
        self.endpoint.form(&self.messages_path(), self.headers.clone(), fields)
    }

    fn option_fields(&self, message: &Message) -> Result<[(&'static str, Option<String>); 10]> {
        let options = message.options::<Options>()?.unwrap_or_default();
        let from = options.send_at.unwrap_or_else(|| self.context.clock.now());
        let validity = match (options.validity_period, message.not_after) {
            (Some(seconds), _) => Some(u64::from(seconds)),
            (None, Some(end)) if from > end => {
                return Err(Error::invalid("not_after", "is before the message would be sent"));
            }
            (None, Some(end)) => {
                Some(end.since(from)).filter(|left| *left < MAX_VALIDITY).map(|left| left.as_secs().max(1))
            }
            (None, None) => None,
        };
        let callback = options.status_callback.as_ref().or(self.status_callback.as_ref());
        Ok([
            ("ValidityPeriod", validity.map(|seconds| seconds.to_string())),
            ("SmartEncoded", options.smart_encoded.map(|flag| flag.to_string())),
            ("ShortenUrls", options.shorten_urls.map(|flag| flag.to_string())),
            ("SendAsMms", options.send_as_mms.map(|flag| flag.to_string())),
            ("Attempt", options.attempt.map(|attempt| attempt.to_string())),
            ("ContentRetention", options.discard_content.then(|| "discard".to_owned())),
            ("AddressRetention", options.obfuscate_address.then(|| "obfuscate".to_owned())),
            ("ScheduleType", options.send_at.map(|_| "fixed".to_owned())),
            ("SendAt", options.send_at.map(|at| at.to_string())),
            ("StatusCallback", callback.map(|url| url.as_str().to_owned())),
        ])
    }
}

/// The `Body` of this content, or the name of a location. `None` where Twilio composes the text.
pub(super) fn body_text(content: &Content) -> Option<Cow<'_, str>> {
    match content {
        Content::Text(text) => Some(Cow::Borrowed(text)),
        Content::Media(media) => Some(media.iter().find_map(|item| item.caption.as_deref()).unwrap_or_default().into()),
        // Twilio refuses a message with neither text nor file (21602).
        Content::Location(place) => Some(match place.name.as_deref().or(place.address.as_deref()) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("{}, {}", place.latitude, place.longitude)),
        }),
        _ => None,
    }
}

fn content_sid(template: &Template) -> Result<&str> {
    let sid = template.native.get(GATEWAY).unwrap_or(&template.name);
    if is_sid(sid, "HX") {
        return Ok(sid);
    }
    Err(Error::invalid(
        "template.native",
        "must hold the template's ContentSid for twilio: HX and 32 hexadecimal digits",
    ))
}

/// The parameters as a JSON object, keyed by their names or by position from `1`.
fn template_variables(template: &Template) -> Option<String> {
    let named = template.parameters.iter().enumerate().map(|(n, parameter)| {
        let name = parameter.name.clone().unwrap_or_else(|| (n + 1).to_string());
        (name, serde_json::Value::String(parameter.value.clone()))
    });
    let object: serde_json::Map<_, _> = named.collect();
    (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
}

/// Decodes the response to a send: the message resource.
pub(super) fn decode(answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let resource: MessageResource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(resource.sid.id())?;
    if let Some(status) = resource.status.as_deref() {
        accepted.state = resource.state().max(DeliveryState::Accepted);
        accepted.status = Some(status.to_owned());
    }
    accepted.recipient = resource.recipient();
    accepted.segments = resource.segments();
    accepted.price = resource.price();
    Ok(accepted)
}
