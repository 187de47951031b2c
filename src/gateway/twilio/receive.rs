//! Webhook events.

use std::borrow::Cow;

use bytes::Bytes;

use super::address::{RCS, WHATSAPP, parse_address, strip_prefix};
use super::signature::BODY_HASH;
use super::wire::state;
use super::{GATEWAY, Source, Twilio};
use crate::adapter::Collector;
use crate::medium::sms::is_one_of;
use crate::model::address::{Address, Medium};
use crate::model::delivery::DeliveryState;
use crate::model::digest::Digest;
use crate::model::event::{
    Delivery, Envelope, Event, Inbound, InboundContent, OptOut, OptOutScope, Profile, Referral, Selection,
};
use crate::model::id::AccountId;
use crate::model::message::{Location, MediaRef};
use crate::webhook::{Form, Response, Verified};

/// TwiML without a message: Twilio sends any other text to the person as a reply.
const EMPTY_TWIML: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;

/// The response to a webhook, without a reply to the person.
pub(super) fn empty_response() -> Response {
    Response::body("text/xml", Bytes::from_static(EMPTY_TWIML))
}

impl Twilio {
    /// Collects the event of a verified webhook, with its location and opt-out if there are any.
    pub(super) fn events(&self, hook: &Verified, events: &mut Collector<'_>) {
        let query = hook.query().unwrap_or_default();
        let is_get = hook.body().is_empty();
        // A person's text in JSON could look like fields of a form.
        let is_json = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == BODY_HASH);
        let in_query = if is_get && !is_json { Form::decode(query.as_bytes()) } else { None };
        let form = in_query.as_ref().or(hook.form().filter(|_| !is_get));
        // A webhook that names no account belongs to the owner of the verifying token.
        let named = form.and_then(|form| form.get("AccountSid"));
        let own = self.account.rsplit('/').next().unwrap_or_default();
        let Some(_) = events.owner(Some(named.as_deref().unwrap_or(own)), 1) else { return };
        let envelope = hook.envelope(&self.info);
        let Some(form) = form else {
            return events.unrecognised(envelope, if is_json { "json" } else { "form" }, None);
        };
        let status = form.some("MessageStatus").or_else(|| form.some("SmsStatus"));
        let parsed = match status.as_deref() {
            Some("received" | "receiving") | None => self.inbound(form, envelope.clone()),
            Some(status) => self.status(form, status, envelope.clone()),
        };
        match parsed {
            Some(parsed) => parsed.into_iter().for_each(|event| events.push(event)),
            None => events.unrecognised(envelope, "form", None),
        }
    }

    fn inbound(&self, form: &Form, mut envelope: Envelope) -> Option<Vec<Event>> {
        let id = message_id(form)?;
        let (medium, from) = sender(form)?;
        let (content, location) = content_and_location(form, &medium);
        (envelope.medium, envelope.account) = (medium, self.account(form, "To"));
        let mut inbound = Inbound::new(envelope, &*id, from, content);
        inbound.profile = Profile { name: form.some("ProfileName").map(Cow::into_owned), handle: None };
        inbound.to = form.get("To").and_then(|to| parse_address(&to, None, None)).map(|(_, to)| to);
        inbound.reply_to = form.some("OriginalRepliedMessageSid").map(|id| (*id).into());
        inbound.forwarded =
            ["Forwarded", "FrequentlyForwarded"].iter().any(|name| form.get(name).as_deref() == Some("true"));
        inbound.referral = referral(form);
        let reported = form.some("OptOutType").map(|kind| kind.trim().to_ascii_uppercase());
        let resume = match reported.as_deref() {
            Some("STOP") => Some(false),
            Some("START") => Some(true),
            Some(_) => None,
            None => default_keyword(&inbound),
        };
        let opt_out = resume.map(|resume| {
            let mut event = OptOut::new(inbound.envelope.clone(), inbound.from.clone(), OptOutScope::All);
            event.resume = resume;
            event.inbound = Some(inbound.id.clone());
            Event::from(event)
        });
        let location = location.map(|location| location_event(&inbound, location));
        Some(std::iter::once(Event::from(inbound)).chain(location).chain(opt_out).collect())
    }

    /// Parses a status callback. Its time is that of arrival: the only time in it, `RawDlrDoneDate`, is a carrier's
    /// local time in an unknown zone.
    fn status(&self, form: &Form, status: &str, mut envelope: Envelope) -> Option<Vec<Event>> {
        let id = message_sid(form)?;
        let code = form.some("ErrorCode");
        let state = state(status, code.as_deref());
        if state != DeliveryState::Unrecognised {
            // With an unknown status, `From` may be a resident.
            envelope.account = self.account(form, "From");
        }
        // That Twilio adds the user id of the recipient is unverified.
        let user_id = form.some("ExternalUserId");
        let recipient =
            form.get("To").and_then(|to| parse_address(&to, None, user_id.as_deref())).map(|(medium, recipient)| {
                envelope.medium = medium;
                recipient
            });
        let mut delivery = Delivery::new(envelope, &*id, state, status);
        delivery.recipient = recipient;
        delivery.failure = self.failure(state, code.as_deref(), form.some("ErrorMessage").map(Cow::into_owned));
        Some(vec![delivery.into()])
    }

    /// Our side of an event: the address in this field, or the messaging service if the channel is configured with one.
    fn account(&self, form: &Form, field: &str) -> AccountId {
        let named = match self.source {
            Source::Sender(_) => form.some(field),
            Source::Service(_) => form.some("MessagingServiceSid"),
        };
        let named = named.as_deref().map(|name| strip_prefix(name, WHATSAPP).unwrap_or(name));
        // An RCS agent is an alias of the configured number or service.
        named
            .filter(|name| strip_prefix(name, RCS).is_none())
            .filter(|name| *name != self.info.account.as_str())
            .map_or_else(|| self.info.account.clone(), AccountId::new)
    }
}

/// The default opt-out keywords, as the whole message and in any case, after which sends fail with 21610. CANCEL, END,
/// QUIT and REVOKE are plain messages elsewhere, but Twilio blocks the person regardless. (Twilio, support for opt-out
/// keywords, read 2026-11-30 from a stored copy. REVOKE and OPTOUT are UNVERIFIED for numbers outside the United
/// States.) Advanced Opt-Out can use other words and reports them in `OptOutType`.
const STOP_WORDS: [&str; 8] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"];

/// The default opt-in keywords. YES is left out: it opts in only a person who had opted out, and otherwise answers a
/// question.
const START_WORDS: [&str; 2] = ["START", "UNSTOP"];

/// Returns `Some(true)` for a default opt-in keyword and `Some(false)` for an opt-out. Twilio acts on typed text on
/// SMS, MMS and RCS, and neither on WhatsApp nor for a button.
fn default_keyword(inbound: &Inbound) -> Option<bool> {
    let text = match &inbound.content {
        InboundContent::Text(text) => text,
        InboundContent::Media { text: Some(text), .. } => text,
        _ => return None,
    };
    match text {
        _ if inbound.envelope.medium == Medium::WhatsApp => None,
        text if is_one_of(text, &STOP_WORDS) => Some(false),
        text if is_one_of(text, &START_WORDS) => Some(true),
        _ => None,
    }
}

fn message_sid(form: &Form) -> Option<Cow<'_, str>> {
    form.some("MessageSid").or_else(|| form.some("SmsSid")).or_else(|| form.some("SmsMessageSid"))
}

/// The id of a message: its SID or, without one, a digest of the form, which is stable across redeliveries.
///
/// A form without a SID is a message only if it has a `Body`.
fn message_id(form: &Form) -> Option<Cow<'_, str>> {
    message_sid(form).or_else(|| {
        form.get("Body")?;
        let mut fields = Vec::new();
        for pair in form.pairs() {
            fields.extend_from_slice(pair);
            fields.push(b'\n');
        }
        Some(Cow::Owned(format!("form-{}", Digest::sha256(&fields))))
    })
}

/// The sender and medium of a message. WhatsApp may name the person only in `ExternalUserId` or `WaId`.
fn sender(form: &Form) -> Option<(Medium, Address)> {
    let from = form.some("From").unwrap_or(Cow::Borrowed(WHATSAPP));
    parse_address(&from, form.some("WaId").as_deref(), form.some("ExternalUserId").as_deref())
}

/// The advertisement or post that the conversation started from. (Twilio, WhatsApp's `Referral…` parameters, from
/// memory.)
fn referral(form: &Form) -> Option<Box<Referral>> {
    let field = |name| form.some(name).map(Cow::into_owned);
    let mut referral = Referral::default();
    (referral.source, referral.id) = (field("ReferralSourceType"), field("ReferralSourceId"));
    referral.url = field("ReferralSourceUrl");
    referral.text = field("ReferralHeadline").or_else(|| field("ReferralBody"));
    (referral != Referral::default()).then(|| Box::new(referral))
}

/// A separate event for the location of a message that has text or media too.
fn location_event(inbound: &Inbound, location: Location) -> Event {
    let mut event = inbound.clone();
    event.envelope.id = Some(format!("{}/location", inbound.id.as_str()).into());
    event.content = InboundContent::Location(location);
    Event::from(event)
}

/// The content of a message, and a location that accompanies it. A location is the content if the body only repeats its
/// name.
fn content_and_location(form: &Form, medium: &Medium) -> (InboundContent, Option<Location>) {
    let content = content(form, medium);
    let Some(location) = location(form) else { return (content, None) };
    let is_location_only = match &content {
        InboundContent::Text(text) => {
            let text = text.trim();
            text.is_empty() || [&location.name, &location.address].into_iter().any(|name| name.as_deref() == Some(text))
        }
        InboundContent::Unsupported { .. } => true,
        _ => false,
    };
    if is_location_only { (InboundContent::Location(location), None) } else { (content, Some(location)) }
}

fn location(form: &Form) -> Option<Location> {
    let degrees = |name| form.get(name)?.parse::<f64>().ok().filter(|degrees| degrees.is_finite());
    let mut location = Location::new(degrees("Latitude")?, degrees("Longitude")?);
    location.name = form.some("Label").map(Cow::into_owned);
    location.address = form.some("Address").map(Cow::into_owned);
    Some(location)
}

fn content(form: &Form, medium: &Medium) -> InboundContent {
    let body = form.get("Body").unwrap_or_default();
    // A list row or a button. The title is in the body too.
    for (id, title) in [("ListId", "ListTitle"), ("ButtonPayload", "ButtonText")] {
        let (id, title) = (form.some(id), form.some(title));
        if id.is_none() && title.is_none() {
            continue;
        }
        let title = title.or_else(|| form.some("Body")).or_else(|| id.clone()).unwrap_or_default().into_owned();
        let id = id.map_or_else(|| title.clone(), Cow::into_owned);
        return InboundContent::Selection(Selection { id, title });
    }
    let media = media_refs(form);
    if !media.is_empty() {
        return InboundContent::Media { text: form.some("Body").map(Cow::into_owned), media };
    }
    // The answers of a form, as JSON in a string. (Twilio, `twilio/flows`, from memory.)
    if let Some(filled) = form.some("InteractiveData") {
        return InboundContent::Form(filled.into_owned());
    }
    match form.some("MessageType") {
        // A WhatsApp type that Twilio does not pass on has no content.
        Some(kind) if *medium == Medium::WhatsApp && body.is_empty() => {
            InboundContent::unsupported(Some(kind.into_owned()))
        }
        _ => InboundContent::Text(body.into_owned()),
    }
}

/// The media of a message, regardless of `NumMedia`, which may be missing or wrong.
fn media_refs(form: &Form) -> Vec<MediaRef> {
    /// The documented maximum (Twilio, Messages, read 2026-11-22 from stored copies). Beyond it, the first gap ends the
    /// list.
    const MAX_FILES: usize = 10;
    if form.get("NumMedia").as_deref() == Some("0") && form.get("MediaUrl0").is_none() {
        return Vec::new();
    }
    let file = |n: usize| {
        let url = form.some(&format!("MediaUrl{n}"))?;
        let mut media = MediaRef::new(GATEWAY, url.rsplit('/').next().unwrap_or_default());
        media.mime = form.some(&format!("MediaContentType{n}")).map(Cow::into_owned);
        media.url = Some(url.into_owned());
        Some(media)
    };
    let numbered = (0..).map(|n| (n, file(n))).take_while(|(n, file)| *n < MAX_FILES || file.is_some());
    numbered.filter_map(|(_, file)| file).collect()
}
