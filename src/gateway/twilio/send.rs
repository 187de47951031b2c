//! Messages as Twilio's form, its answer, and what it knows of a message later.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use form_urlencoded::Serializer;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};

use super::receive::party;
use super::{GATEWAY, Source, Twilio, WHATSAPP, is_sid, state};
use crate::adapter::Answer;
use crate::adapter::json::{self, Json, List, Piece, Text};
use crate::adapter::lenient;
use crate::media::published;
use crate::medium::sms::fold;
use crate::model::address::{Address, Medium, Phone};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{Delivery, DeliveryState, Envelope, Raw};
use crate::model::id::{MessageId, UrlHost};
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Content, GatewayOptions, Message, Money, Template};

/// Options that only this gateway reads.
///
/// Each is what the parameter of that name does at Twilio; one that is not set is not sent. `MaxPrice` is left out, as
/// it has had no effect since June 2024.
///
/// ```
/// use civic_messaging::{Address, Message, twilio};
///
/// let mut options = twilio::Options::default();
/// options.smart_encoded = Some(true);
/// let message = Message::text(Address::phone("07700 900123")?, "It’s bin day").gateway_options(&options)?;
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// How long the message may wait at Twilio, in seconds: 1 to 36,000. Without it, until the message's `not_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validity_period: Option<u32>,
    /// Puts GSM look-alikes in the place of typographic characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart_encoded: Option<bool>,
    /// How often this message was tried in all, by whatever supplier, this time included. For Twilio's statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Lets Twilio keep no text (`ContentRetention=discard`). [`look_up`](crate::Channel::look_up) by text ends with it.
    #[serde(skip_serializing_if = "is_off")]
    pub discard_content: bool,
    /// Lets Twilio keep no whole number (`AddressRetention=obfuscate`), with the same price.
    #[serde(skip_serializing_if = "is_off")]
    pub obfuscate_address: bool,
    /// Shortens links. Needs a messaging service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shorten_urls: Option<bool>,
    /// Sends a text as an MMS, with or without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_as_mms: Option<bool>,
    /// Sends the message then and not now. Needs a messaging service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<Timestamp>,
    /// Where status events of this message go, whole, in the place of the configured address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_callback: Option<String>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("validity_period", &self.validity_period)
            .field("smart_encoded", &self.smart_encoded)
            .field("attempt", &self.attempt)
            .field("discard_content", &self.discard_content)
            .field("obfuscate_address", &self.obfuscate_address)
            .field("shorten_urls", &self.shorten_urls)
            .field("send_as_mms", &self.send_as_mms)
            .field("send_at", &self.send_at)
            // It may hold a token or a password.
            .field("status_callback", &self.status_callback.as_deref().map(UrlHost))
            .finish()
    }
}

impl GatewayOptions for Options {
    const GATEWAY: &'static str = GATEWAY;
}

fn is_off(flag: &bool) -> bool {
    !flag
}

/// The longest that Twilio holds a message. (Twilio, Messages, read 2026-11-22 from stored copies.)
const VALIDITY_MAX: Duration = Duration::from_secs(36_000);

pub(super) const CALLBACK: &str = "must be an https address whose host has no underscore";

/// Whether Twilio takes this as a status callback.
pub(super) fn is_callback(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default();
        let secure = uri.scheme_str() == Some("https") || crate::transport::is_loopback(host);
        secure && !host.is_empty() && !host.contains('_')
    })
}

/// What can be said of a message beside what the capability says, on a channel with a messaging service or without.
pub(super) fn rule<const SERVICE: bool>(message: &Message) -> Result<()> {
    let wrong = |field, rule: &'static str| Err(Error::invalid(field, rule));
    let options = message.options::<Options>()?.unwrap_or_default();
    if options.validity_period.is_some_and(|seconds| !(1..=36_000).contains(&seconds)) {
        return wrong("options.twilio.validity_period", "must be 1 to 36000 seconds");
    }
    if options.shorten_urls == Some(true) && !SERVICE {
        return wrong("options.twilio.shorten_urls", "needs a channel with a messaging service");
    }
    if options.send_at.is_some() && !SERVICE {
        return wrong("options.twilio.send_at", "needs a channel with a messaging service");
    }
    if options.status_callback.as_deref().is_some_and(|url| !is_callback(url)) {
        return wrong("options.twilio.status_callback", CALLBACK);
    }
    match &message.content {
        Content::Template(template) => content_sid(template).map(|_| ()),
        _ => Ok(()),
    }
}

impl Twilio {
    /// The form of a message that this channel can carry.
    pub(super) async fn encode(&self, message: &Message) -> Result<String> {
        let options = message.options::<Options>()?.unwrap_or_default();
        // Made reachable first: nothing has gone when that fails.
        let mut links = Vec::new();
        if let Content::Media(media) = &message.content {
            for item in media {
                links.push(published(item, self.context.publish.as_ref()).await?);
            }
        }
        let mut form = Serializer::new(String::with_capacity(512));
        form.append_pair("To", &self.spelled(&message.to));
        match &self.source {
            Source::Sender(from) => form.append_pair("From", from),
            Source::Service(sid) => form.append_pair("MessagingServiceSid", sid),
        };
        if let Some(body) = body(&message.content)
            && !body.is_empty()
        {
            form.append_pair("Body", &body);
        }
        for link in &links {
            form.append_pair("MediaUrl", link);
        }
        match &message.content {
            Content::Text(_) | Content::Media(_) => {}
            Content::Location(place) => {
                let label = place.address.as_deref().or(place.name.as_deref());
                let label = label.map(|label| format!("|{label}")).unwrap_or_default();
                form.append_pair("PersistentAction", &format!("geo:{},{}{label}", place.latitude, place.longitude));
            }
            Content::Template(template) => {
                form.append_pair("ContentSid", content_sid(template)?);
                if let Some(variables) = variables(template) {
                    form.append_pair("ContentVariables", &variables);
                }
            }
            _ => return Err(Error::unsupported("this channel cannot send this content").with_field("content")),
        }
        self.options(&mut form, &options, message.not_after)?;
        Ok(form.finish())
    }

    fn options(
        &self,
        form: &mut Serializer<'_, String>,
        options: &Options,
        not_after: Option<Timestamp>,
    ) -> Result<()> {
        let from = options.send_at.unwrap_or_else(|| self.context.clock.now());
        let validity = match (options.validity_period, not_after) {
            (Some(seconds), _) => Some(u64::from(seconds)),
            (None, Some(end)) if from > end => {
                return Err(Error::invalid("not_after", "comes before the message would go"));
            }
            (None, Some(end)) => {
                Some(end.since(from)).filter(|left| *left < VALIDITY_MAX).map(|left| left.as_secs().max(1))
            }
            (None, None) => None,
        };
        if let Some(seconds) = validity {
            form.append_pair("ValidityPeriod", &seconds.to_string());
        }
        for (name, flag) in [
            ("SmartEncoded", options.smart_encoded),
            ("ShortenUrls", options.shorten_urls),
            ("SendAsMms", options.send_as_mms),
        ] {
            if let Some(flag) = flag {
                form.append_pair(name, if flag { "true" } else { "false" });
            }
        }
        if let Some(attempt) = options.attempt {
            form.append_pair("Attempt", &attempt.to_string());
        }
        if options.discard_content {
            form.append_pair("ContentRetention", "discard");
        }
        if options.obfuscate_address {
            form.append_pair("AddressRetention", "obfuscate");
        }
        if let Some(at) = options.send_at {
            form.append_pair("ScheduleType", "fixed").append_pair("SendAt", &at.to_string());
        }
        match options.status_callback.as_deref() {
            Some(url) => form.append_pair("StatusCallback", url),
            None => match &self.status_callback {
                Some(url) => form.append_pair("StatusCallback", url),
                None => form,
            },
        };
        Ok(())
    }

    /// An address as Twilio writes it. Of a person on WhatsApp the number goes first: that a user id is taken as a
    /// recipient is unverified.
    fn spelled<'a>(&self, to: &'a Address) -> Cow<'a, str> {
        let who = to.as_phone().map_or_else(|| to.expose(), Phone::as_str);
        match self.info.medium {
            Medium::WhatsApp => Cow::Owned([WHATSAPP, who].concat()),
            _ => Cow::Borrowed(who),
        }
    }

    /// What became of a message that Twilio gave an id.
    pub(super) async fn find(&self, id: &MessageId) -> Result<LookupOutcome> {
        let answer = match self.endpoint.get(&self.message_path(id)?, self.reading()).await {
            Ok(answer) => answer,
            // It was accepted, and may have gone before it was deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LookupOutcome::Inconclusive),
            Err(error) => return Err(error),
        };
        let json = Json::new(&answer.body);
        let resource: Resource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
        let delivery = self.delivery(&resource, Raw::new(answer.body.clone()));
        delivery.map(|delivery| LookupOutcome::Found(vec![delivery])).ok_or_else(|| answer.unreadable())
    }

    /// What became of a message whose answer was lost: of those to this recipient, the ones from this sender, with this
    /// text, that Twilio made within [`NEARBY`] of the send.
    ///
    /// The list is not narrowed by `DateSent`, which one that still waits at Twilio does not have. That nothing is found
    /// is no proof, because Twilio does not say how soon a message shows.
    pub(super) async fn search(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        let options = sent.message.options::<Options>()?.unwrap_or_default();
        let text = match body(&sent.message.content) {
            Some(text) if !options.discard_content && !options.obfuscate_address => fold(&text).into_owned(),
            // Twilio writes a template's text itself, and what it does not keep cannot be compared.
            _ => return Ok(LookupOutcome::Inconclusive),
        };
        let to = self.spelled(&sent.message.to);
        let query = Serializer::new(String::new()).append_pair("To", &to).append_pair("PageSize", "200").finish();
        let list = [&*self.account, "/Messages.json"].concat();
        let mut path = Some(format!("{list}?{query}"));
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let Some(page) = path.take() else { break };
            let answer = self.endpoint.get(&page, self.reading()).await?;
            let json = Json::new(&answer.body);
            let page: Messages<'_> = json.read().ok_or_else(|| answer.unreadable())?;
            let mut older = !page.messages.is_empty();
            for piece in page.messages.iter() {
                let resource: &Resource<'_> = &json::read(piece.get()).unwrap_or_default();
                let made = resource.date_created.as_deref().and_then(Timestamp::from_rfc2822);
                older &= made.is_some_and(|made| made.plus(NEARBY) < sent.at);
                let near = made.is_some_and(|made| made.plus(NEARBY) >= sent.at && made <= sent.at.plus(NEARBY));
                let said = resource.body.as_deref().unwrap_or_default();
                if near && self.is_ours(resource) && fold(said.trim_end()) == text.trim_end() {
                    found.extend(self.delivery(resource, Raw::new(json.raw(piece.get()))));
                }
            }
            // A path that does not go on where this one is would lead the credential elsewhere.
            let goes_on = |next: &str| next.strip_prefix(&*list).is_some_and(|rest| rest.starts_with('?'));
            path = page.next_page_uri.to_text().filter(|next| !older && goes_on(next));
        }
        Ok(if found.is_empty() { LookupOutcome::Inconclusive } else { LookupOutcome::Found(found) })
    }

    fn is_ours(&self, resource: &Resource<'_>) -> bool {
        let outbound = resource.direction.as_deref().is_none_or(|direction| direction.starts_with("outbound"));
        let (of, ours) = match &self.source {
            Source::Sender(from) => (&resource.from, from),
            Source::Service(sid) => (&resource.messaging_service_sid, sid),
        };
        outbound && of.as_deref() == Some(&**ours)
    }

    fn reading(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        headers
    }

    fn delivery(&self, resource: &Resource<'_>, raw: Raw) -> Option<Delivery> {
        let id = resource.sid.as_deref()?;
        let dates = [&resource.date_updated, &resource.date_sent, &resource.date_created];
        let at = dates.into_iter().find_map(|date| Timestamp::from_rfc2822(date.as_deref()?));
        let at = at.unwrap_or_else(|| self.context.clock.now());
        let status = resource.status.as_deref().unwrap_or_default();
        let code = resource.error_code.as_deref();
        let state = state(status, code);
        let envelope = Envelope::new(GATEWAY, self.info.medium.clone(), self.info.account.clone(), at, raw);
        let mut delivery = Delivery::new(envelope, id, state, status);
        delivery.recipient = resource.recipient();
        delivery.failure = self.failure(state, code, resource.error_message.as_deref().map(str::to_owned));
        delivery.price = resource.price();
        delivery.segments = resource.segments();
        Some(delivery)
    }
}

/// How far the time at which Twilio made a message may lie from our own time of the send.
const NEARBY: Duration = Duration::from_secs(300);

/// How many pages of 200 messages to one recipient are looked through.
const PAGES: usize = 5;

/// The `Body` of this content: of a place, its name. None where Twilio writes the text itself.
fn body(content: &Content) -> Option<Cow<'_, str>> {
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
        "must hold for twilio the template's ContentSid: HX and 32 hexadecimal digits",
    ))
}

/// The parameters as one JSON object in a string: under their names, or under `1`, `2` and so on.
fn variables(template: &Template) -> Option<String> {
    let named = template.parameters.iter().enumerate().map(|(n, parameter)| {
        let name = parameter.name.clone().unwrap_or_else(|| (n + 1).to_string());
        (name, serde_json::Value::String(parameter.value.clone()))
    });
    let object: serde_json::Map<_, _> = named.collect();
    (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
}

/// What Twilio answers to a send: the message, as it then is.
pub(super) fn decode(answer: &Answer) -> Result<Accepted> {
    let json = Json::new(&answer.body);
    let resource: Resource<'_> = json.read().ok_or_else(|| answer.unreadable())?;
    let mut accepted = answer.accepted(resource.sid.id())?;
    if let Some(status) = resource.status.as_deref() {
        accepted.state = state(status, resource.error_code.as_deref()).max(DeliveryState::Accepted);
        accepted.status = Some(status.to_owned());
    }
    accepted.recipient = resource.recipient();
    accepted.segments = resource.segments();
    accepted.price = resource.price();
    Ok(accepted)
}

lenient! {
    struct Messages<'a> {
        messages: List<Piece<'a>>,
        next_page_uri: Text<'a>,
    }

    /// A message as Twilio's API writes it.
    struct Resource<'a> {
        sid: Text<'a>,
        status: Text<'a>,
        to: Text<'a>,
        from: Text<'a>,
        messaging_service_sid: Text<'a>,
        body: Text<'a>,
        direction: Text<'a>,
        num_segments: Text<'a>,
        price: Text<'a>,
        price_unit: Text<'a>,
        error_code: Text<'a>,
        error_message: Text<'a>,
        date_created: Text<'a>,
        date_sent: Text<'a>,
        date_updated: Text<'a>,
    }
}

impl Resource<'_> {
    fn recipient(&self) -> Option<Address> {
        party(self.to.as_deref()?, None, None).map(|(_, address)| address)
    }

    /// Through a messaging service it is 0 until a sender is chosen, which says nothing.
    fn segments(&self) -> Option<u32> {
        self.num_segments.as_deref()?.parse().ok().filter(|count| *count > 0)
    }

    /// What it costs: Twilio writes a charge as a negative amount, and ours is positive.
    fn price(&self) -> Option<Money> {
        let mut price = Money::rounded(self.price.as_deref()?, self.price_unit.as_deref()?).ok()?;
        price.micros = price.micros.checked_neg()?;
        Some(price)
    }
}
