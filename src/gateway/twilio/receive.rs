//! Twilio's webhooks: their signature, and the events in them.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use sha1::Sha1;
use sha2::Sha256;

use super::respell::respelled;
use super::{GATEWAY, RCS, Source, Twilio, WHATSAPP, state};
use crate::adapter::Collector;
use crate::medium::sms::is_one_of;
use crate::model::address::{Address, Medium, Phone, WhatsAppUser};
use crate::model::digest::Digest;
use crate::model::event::{
    Delivery, DeliveryState, Envelope, Event, Inbound, InboundContent, OptOut, OptOutScope, Profile, Referral,
    Selection,
};
use crate::model::id::AccountId;
use crate::model::message::{Location, MediaRef};
use crate::transport::BaseUrl;
use crate::webhook::{
    Form, Refusal, Response, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification, Verified,
};

/// How Twilio proves that a webhook is its own: `X-Twilio-Signature`, an HMAC of the public address with its query and
/// of the form's fields in the order of their names. (Twilio, webhooks security, and the validator of its Python library
/// 9.13.0, read 2026-11-22 from stored copies.)
///
/// - The address counts with and without its port, because Twilio and proxies differ there; with its scheme and host as
///   they are configured and in lower case; and with its query as it arrived and as Twilio's Node.js library (6.2.0,
///   read 2026-11-30) encodes it anew: `%20` for `+`, upper-case hexadecimal, `%27` or `'`. Each spelling that is tried
///   means the same, and there are few of them.
/// - A JSON body is covered by the `bodySHA256` of the query.
/// - `X-Twilio-Webhooks-Signature-Settings` names HMAC-SHA256 under a shared key. Without the header, or without an
///   algorithm in it, HMAC-SHA1 is meant; the first algorithm counts, in capitals or not. That header is itself not
///   signed: with a shared key nothing but HMAC-SHA256 is accepted, without one HMAC-SHA256 is not, and an algorithm
///   that is unknown never is.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The spellings of the public address up to the path: the configured one first, then that with or without its
    /// port. There are more, six at most, where its scheme or host has capitals.
    bases: Vec<Box<str>>,
    tokens: Vec<Key<Hmac<Sha1>>>,
    shared: Vec<Key<Hmac<Sha256>>>,
}

/// A secret with its HMAC keyed once.
#[derive(Clone)]
struct Key<M> {
    mac: M,
    secret: SigningSecret,
}

impl<M: KeyInit> Key<M> {
    fn new(secret: SigningSecret) -> Option<Self> {
        let mac = M::new_from_slice(secret.secret().expose().as_bytes()).ok()?;
        Some(Self { mac, secret })
    }
}

impl<M> fmt::Debug for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
}

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
const BODY_HASH: &str = "bodySHA256";

impl Signature {
    /// The scheme for webhooks at this public address, under any of these tokens, or of the shared keys if there are any.
    pub fn new(
        public_url: &BaseUrl,
        auth_tokens: impl IntoIterator<Item = SigningSecret>,
        shared_keys: impl IntoIterator<Item = SigningSecret>,
    ) -> Self {
        let url = public_url.as_str();
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The last colon is the port's, unless it stands inside an address such as [::1].
        let port = authority.rfind(':').filter(|colon| !authority.get(*colon..).unwrap_or_default().contains(']'));
        let default = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
        let other = match port {
            Some(colon) => authority.get(..colon).unwrap_or_default().to_owned(),
            None => [authority, default].concat(),
        };
        // Twilio's Python library writes the scheme in lower case, and that for Node.js the host too.
        let lower = str::to_ascii_lowercase;
        let mut bases: Vec<Box<str>> = Vec::with_capacity(6);
        for (scheme, authorities) in [
            (scheme.to_owned(), [authority.to_owned(), other.clone()]),
            (lower(scheme), [authority.to_owned(), other.clone()]),
            (lower(scheme), [lower(authority), lower(&other)]),
        ] {
            for authority in authorities {
                let base = format!("{scheme}://{authority}{path}").into_boxed_str();
                if !bases.contains(&base) {
                    bases.push(base);
                }
            }
        }
        Self {
            bases,
            tokens: auth_tokens.into_iter().filter_map(Key::new).collect(),
            shared: shared_keys.into_iter().filter_map(Key::new).collect(),
        }
    }

    /// The value of `X-Twilio-Signature` for a request, under the first key: for tests and stand-ins of Twilio.
    ///
    /// `form` is the body as it will be sent; empty for a GET and for JSON. None without a key, or for no form.
    pub fn sign(&self, path_and_query: &str, form: &[u8]) -> Option<String> {
        let form = Form::sorted(form)?;
        let base = self.bases.first()?;
        Some(match self.shared.first() {
            Some(key) => BASE64_STANDARD.encode(mac(key, base, path_and_query, &form).finalize().into_bytes()),
            None => {
                let key = self.tokens.first()?;
                BASE64_STANDARD.encode(mac(key, base, path_and_query, &form).finalize().into_bytes())
            }
        })
    }

    /// The secret under which the signature is right, over one of the spellings of the address.
    fn find<'k, M: Mac + Clone>(
        &self,
        keys: &'k [Key<M>],
        path_and_query: &str,
        form: &Form,
        signature: &[u8],
    ) -> Option<&'k SigningSecret> {
        self.find_over(keys, path_and_query, form, signature).or_else(|| {
            let others = respelled(path_and_query);
            others.iter().find_map(|other| self.find_over(keys, other, form, signature))
        })
    }

    fn find_over<'k, M: Mac + Clone>(
        &self,
        keys: &'k [Key<M>],
        path_and_query: &str,
        form: &Form,
        signature: &[u8],
    ) -> Option<&'k SigningSecret> {
        let mut tries = self.bases.iter().flat_map(|base| keys.iter().map(move |key| (base, key)));
        let (_, key) =
            tries.find(|(base, key)| mac(key, base, path_and_query, form).verify_slice(signature).is_ok())?;
        Some(&key.secret)
    }
}

fn mac<M: Mac + Clone>(key: &Key<M>, base: &str, path_and_query: &str, form: &Form) -> M {
    let mut mac = key.mac.clone();
    signed(base, path_and_query, form, |piece| mac.update(piece));
    mac
}

/// What is signed, piece by piece.
fn signed(base: &str, path_and_query: &str, form: &Form, mut piece: impl FnMut(&[u8])) {
    piece(base.as_bytes());
    piece(path_and_query.as_bytes());
    form.pairs().for_each(piece);
}

/// The algorithm that the settings name first, as Twilio's Python library reads them: HMAC-SHA1 where they name none, and
/// nothing for one that is unknown.
fn algorithm(headers: &HeaderMap) -> Option<Algorithm> {
    for settings in headers.get_all(&SETTINGS) {
        let settings = String::from_utf8_lossy(settings.as_bytes());
        let pairs = settings.split(',').filter_map(|pair| pair.split_once('='));
        let mut named = pairs.filter(|(name, value)| name.trim() == "algorithm" && !value.trim().is_empty());
        if let Some((_, value)) = named.next() {
            return match value.trim().to_ascii_uppercase().as_str() {
                "HMAC_SHA1" => Some(Algorithm::Sha1),
                "HMAC_SHA256" => Some(Algorithm::Sha256),
                _ => None,
            };
        }
    }
    Some(Algorithm::Sha1)
}

impl Scheme for Signature {
    fn verify(&self, sealed: Unverified<'_>) -> Verification {
        let Some(signature) = sealed.header(&SIGNATURE) else { return Verification::Refused(Refusal::Missing) };
        let wrong = Verification::Refused(Refusal::Wrong);
        let (Ok(signature), Some(algorithm)) = (BASE64_STANDARD.decode(signature), algorithm(sealed.headers())) else {
            return wrong;
        };
        let body_hash = sealed.query_parameter(BODY_HASH);
        let form = match &body_hash {
            Some(_) => Form::default(),
            None => match Form::sorted(sealed.body()) {
                Some(form) => form,
                None => return wrong,
            },
        };
        let target = sealed.path_and_query();
        let secret = match (self.shared.as_slice(), algorithm) {
            ([], Algorithm::Sha1) => self.find(&self.tokens, target, &form, &signature),
            (shared @ [_, ..], Algorithm::Sha256) => self.find(shared, target, &form, &signature),
            _ => None,
        };
        let Some(secret) = secret else { return wrong };
        if let Some(hash) = &body_hash
            && (hash.len() != 64 || hash.parse().ok() != Some(Digest::sha256(sealed.body())))
        {
            return wrong;
        }
        let verified = Verified::new(&sealed, sealed.body().clone(), secret).with_query(sealed.query());
        Verification::Open(if body_hash.is_some() { verified } else { verified.with_form(form) })
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::UrlAndForm
    }
}

/// Twilio takes any other text for an answer to the person, and sends it.
const NOTHING_BACK: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;

/// The answer to a webhook: none to the person.
pub(super) fn nothing_back() -> Response {
    Response::body("text/xml", Bytes::from_static(NOTHING_BACK))
}

impl Twilio {
    /// Collects the events of a verified webhook: one, and the opt-out that Twilio may have seen in it.
    pub(super) fn events(&self, hook: &Verified, events: &mut Collector<'_>) {
        let query = hook.query().unwrap_or_default();
        let by_get = hook.body().is_empty();
        // JSON, in which a person's words could look like fields of a form.
        let json = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == BODY_HASH);
        let in_query = if by_get && !json { Form::decode(query.as_bytes()) } else { None };
        let form = in_query.as_ref().or(hook.form().filter(|_| !by_get));
        // A webhook that names no account is of the one whose token proves it.
        let named = form.and_then(|form| form.get("AccountSid"));
        let ours = self.account.rsplit('/').next().unwrap_or_default();
        let Some(_) = events.owner(Some(named.as_deref().unwrap_or(ours)), 1) else { return };
        let envelope = hook.envelope(&self.info);
        let Some(form) = form else {
            return events.unrecognised(envelope, if json { "json" } else { "form" }, None);
        };
        let status = form.some("MessageStatus").or_else(|| form.some("SmsStatus"));
        let read = match status.as_deref() {
            Some("received" | "receiving") | None => self.inbound(form, envelope.clone()),
            Some(status) => self.status(form, status, envelope.clone()),
        };
        match read {
            Some(read) => read.into_iter().for_each(|event| events.push(event)),
            None => events.unrecognised(envelope, "form", None),
        }
    }

    fn inbound(&self, form: &Form, mut envelope: Envelope) -> Option<Vec<Event>> {
        let id = message_id(form)?;
        let (medium, from) = writer(form)?;
        let (content, place) = contents(form, &medium);
        (envelope.medium, envelope.account) = (medium, self.account(form, "To"));
        let mut inbound = Inbound::new(envelope, &*id, from, content);
        inbound.profile = Profile { name: form.some("ProfileName").map(Cow::into_owned), handle: None };
        inbound.to = form.get("To").and_then(|to| party(&to, None, None)).map(|(_, to)| to);
        inbound.reply_to = form.some("OriginalRepliedMessageSid").map(|id| (*id).into());
        inbound.forwarded =
            ["Forwarded", "FrequentlyForwarded"].iter().any(|name| form.get(name).as_deref() == Some("true"));
        inbound.referral = referral(form);
        let reported = form.some("OptOutType").map(|kind| kind.trim().to_ascii_uppercase());
        let opt_out = match reported.as_deref() {
            Some("STOP") => Some(false),
            Some("START") => Some(true),
            Some(_) => None,
            None => default_keyword(&inbound),
        };
        let opt_out = opt_out.map(|resume| {
            let mut event = OptOut::new(inbound.envelope.clone(), inbound.from.clone(), OptOutScope::All);
            event.resume = resume;
            event.inbound = Some(inbound.id.clone());
            Event::from(event)
        });
        let place = place.map(|place| beside(&inbound, place));
        Some(std::iter::once(Event::from(inbound)).chain(place).chain(opt_out).collect())
    }

    /// The time of arrival stands for the time of the event: Twilio gives none but `RawDlrDoneDate`, which is a carrier's
    /// local time in a zone that nobody knows.
    fn status(&self, form: &Form, status: &str, mut envelope: Envelope) -> Option<Vec<Event>> {
        let id = message_sid(form)?;
        let code = form.some("ErrorCode");
        let state = state(status, code.as_deref());
        if state != DeliveryState::Unrecognised {
            // Under a word that is not known the sender may be a resident.
            envelope.account = self.account(form, "From");
        }
        // The other side of a status is its recipient. That Twilio adds the user id there too is unverified.
        let user_id = form.some("ExternalUserId");
        let recipient =
            form.get("To").and_then(|to| party(&to, None, user_id.as_deref())).map(|(medium, recipient)| {
                envelope.medium = medium;
                recipient
            });
        let mut delivery = Delivery::new(envelope, &*id, state, status);
        delivery.recipient = recipient;
        delivery.failure = self.failure(state, code.as_deref(), form.some("ErrorMessage").map(Cow::into_owned));
        Some(vec![delivery.into()])
    }

    /// Our own side of an event: the address in this field, or the service if the channel is configured by one.
    fn account(&self, form: &Form, ours: &str) -> AccountId {
        let named = match self.source {
            Source::Sender(_) => form.some(ours),
            Source::Service(_) => form.some("MessagingServiceSid"),
        };
        let named = named.as_deref().map(|name| unprefixed(name, WHATSAPP).unwrap_or(name));
        // An RCS agent stands in front of the number or service that the channel is configured by.
        named
            .filter(|name| unprefixed(name, RCS).is_none())
            .filter(|name| *name != self.info.account.as_str())
            .map_or_else(|| self.info.account.clone(), AccountId::new)
    }
}

/// The words on which Twilio stops messages to a person by default, as the whole message and in either case; further sends
/// fail with 21610. CANCEL, END, QUIT and REVOKE are plain messages elsewhere, but Twilio blocks the person whatever we
/// think. (Twilio, support for opt-out keywords, read 2026-11-30 from a stored copy. REVOKE and OPTOUT are UNVERIFIED for
/// numbers outside the United States.) Advanced Opt-Out can have other words, and reports them in `OptOutType`.
const STOP_WORDS: [&str; 8] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"];
/// The words on which Twilio starts them again. YES is left out: it does so only where the person had opted out, and answers
/// questions everywhere else.
const START_WORDS: [&str; 2] = ["START", "UNSTOP"];

/// Whether Twilio starts (`true`) or stops (`false`) messages because of what a person typed. It does so for SMS, MMS and
/// RCS alike, and neither on WhatsApp nor for a button.
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

/// The id of a message: its SID, or for one without a SID a digest of the form, which is the same when it comes again.
///
/// A form without a SID is a message if it has a `Body`.
fn message_id(form: &Form) -> Option<Cow<'_, str>> {
    message_sid(form).or_else(|| {
        form.get("Body")?;
        let mut spelled = Vec::new();
        for pair in form.pairs() {
            spelled.extend_from_slice(pair);
            spelled.push(b'\n');
        }
        Some(Cow::Owned(format!("form-{}", Digest::sha256(&spelled))))
    })
}

/// Who wrote a message, and over which medium. WhatsApp may name the person only in `ExternalUserId` or `WaId`.
fn writer(form: &Form) -> Option<(Medium, Address)> {
    let from = form.some("From").unwrap_or(Cow::Borrowed(WHATSAPP));
    party(&from, form.some("WaId").as_deref(), form.some("ExternalUserId").as_deref())
}

/// The text behind a prefix, in capitals or not.
fn unprefixed<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The advertisement or post that brought a person to us. (Twilio, WhatsApp's `Referral…` parameters, from memory.)
fn referral(form: &Form) -> Option<Box<Referral>> {
    let field = |name| form.some(name).map(Cow::into_owned);
    let mut referral = Referral::default();
    (referral.source, referral.id) = (field("ReferralSourceType"), field("ReferralSourceId"));
    referral.url = field("ReferralSourceUrl");
    referral.text = field("ReferralHeadline").or_else(|| field("ReferralBody"));
    (referral != Referral::default()).then(|| Box::new(referral))
}

/// The place that came with the words or files of a message, as an event of its own.
fn beside(inbound: &Inbound, place: Location) -> Event {
    let mut located = inbound.clone();
    located.envelope.id = Some(format!("{}/location", inbound.id.as_str()).into());
    located.content = InboundContent::Location(place);
    Event::from(located)
}

/// Who an address of Twilio's names, and over which medium: `+44…`, `60777`, `GOV UK`, `whatsapp:+44…`, `rcs:+44…`, and
/// since July 2026 `whatsapp:GB.…` for somebody who hides the number.
///
/// `WaId` and `ExternalUserId` (`whatsapp:GB.…`) name the same person on WhatsApp: the address holds all that is known.
pub(super) fn party(text: &str, wa_id: Option<&str>, user_id: Option<&str>) -> Option<(Medium, Address)> {
    if let Some(who) = unprefixed(text, WHATSAPP) {
        let read = |who: &str| {
            let who = unprefixed(who, WHATSAPP).unwrap_or(who);
            let number = Phone::from_digits(who).and_then(|phone| WhatsAppUser::new(Some(phone), None));
            number.or_else(|_| who.parse::<WhatsAppUser>()).ok()
        };
        let known = [Some(who), user_id, wa_id].map(|name| name.and_then(read));
        let known = || known.iter().flatten();
        let phone = known().find_map(WhatsAppUser::phone).cloned();
        let user = WhatsAppUser::new(phone, known().find_map(WhatsAppUser::user_id)).ok()?;
        return Some((Medium::WhatsApp, user.into()));
    }
    if let Some(who) = unprefixed(text, RCS) {
        // A person is at a phone number, as on SMS: no other name is one.
        return Some((Medium::other("rcs").ok()?, Address::Phone(Phone::from_digits(who).ok()?)));
    }
    // Other media are marked before a colon.
    Some((Medium::Sms, Address::sms_sender(text).filter(|address| !address.expose().contains(':'))?))
}

/// What a person wrote, and the place beside it. A place is all of it where the body only repeats its name.
fn contents(form: &Form, medium: &Medium) -> (InboundContent, Option<Location>) {
    let content = content(form, medium);
    let Some(place) = place(form) else { return (content, None) };
    let is_of_the_place = match &content {
        InboundContent::Text(text) => {
            let text = text.trim();
            text.is_empty() || [&place.name, &place.address].into_iter().any(|name| name.as_deref() == Some(text))
        }
        InboundContent::Unsupported { .. } => true,
        _ => false,
    };
    if is_of_the_place { (InboundContent::Location(place), None) } else { (content, Some(place)) }
}

fn place(form: &Form) -> Option<Location> {
    let degrees = |name| form.get(name)?.parse::<f64>().ok().filter(|degrees| degrees.is_finite());
    let mut place = Location::new(degrees("Latitude")?, degrees("Longitude")?);
    place.name = form.some("Label").map(Cow::into_owned);
    place.address = form.some("Address").map(Cow::into_owned);
    Some(place)
}

fn content(form: &Form, medium: &Medium) -> InboundContent {
    let body = form.get("Body").unwrap_or_default();
    // A row of a list, or a button. The title is in the body too.
    for (id, title) in [("ListId", "ListTitle"), ("ButtonPayload", "ButtonText")] {
        let (id, title) = (form.some(id), form.some(title));
        if id.is_none() && title.is_none() {
            continue;
        }
        let title = title.or_else(|| form.some("Body")).or_else(|| id.clone()).unwrap_or_default().into_owned();
        let id = id.map_or_else(|| title.clone(), Cow::into_owned);
        return InboundContent::Selection(Selection { id, title });
    }
    let media = files(form);
    if !media.is_empty() {
        return InboundContent::Media { text: form.some("Body").map(Cow::into_owned), media };
    }
    // What a person filled in, as JSON in a string. (Twilio, `twilio/flows`, from memory.)
    if let Some(filled) = form.some("InteractiveData") {
        return InboundContent::Form(filled.into_owned());
    }
    match form.some("MessageType") {
        // What WhatsApp has and Twilio does not hand on comes with nothing in it.
        Some(kind) if *medium == Medium::WhatsApp && body.is_empty() => {
            InboundContent::unsupported(Some(kind.into_owned()))
        }
        _ => InboundContent::Text(body.into_owned()),
    }
}

/// The files of a message: those that are there, whatever `NumMedia` says or whether it is there.
fn files(form: &Form) -> Vec<MediaRef> {
    /// One message has ten at most (Twilio, Messages, read 2026-11-22 from stored copies). More are read without a gap.
    const FILES: usize = 10;
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
    let numbered = (0..).map(|n| (n, file(n))).take_while(|(n, file)| *n < FILES || file.is_some());
    numbered.filter_map(|(_, file)| file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::webhook::{Opened, Request};
    use proptest::prelude::*;

    const TOKEN: &str = "12345678901234567890123456789012";
    const SHARED: &str = "webhooks-shared-key-secret-0001";

    fn keys(secrets: &[&str]) -> Vec<SigningSecret> {
        secrets.iter().map(|secret| SigningSecret::for_accounts(Secret::new(*secret).unwrap(), ["AC".into()])).collect()
    }

    fn scheme(base: &str, tokens: &[&str], shared: &[&str]) -> Signature {
        Signature::new(&base.parse().unwrap(), keys(tokens), keys(shared))
    }

    fn request(target: &str, body: &str, headers: &[(HeaderName, &str)]) -> Request {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        Request::from(request.body(body.to_owned()).unwrap())
    }

    fn opens(scheme: &Signature, request: &Request) -> Result<(), u16> {
        match request.open(scheme) {
            Ok(Opened::Verified(_)) => Ok(()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.webhook_status().as_u16()),
        }
    }

    fn to_sign(scheme: &Signature, base: usize, target: &str, form: &Form) -> String {
        let mut text = Vec::new();
        signed(&scheme.bases[base], target, form, |piece| text.extend_from_slice(piece));
        String::from_utf8(text).unwrap()
    }

    /// The fields of a case as a body, in an order that is not the one to sign in.
    fn body(case: &serde_json::Value) -> String {
        if let Some(json) = case["body"].as_str() {
            return json.to_owned();
        }
        let mut fields = Vec::new();
        for (name, value) in case["params"].as_object().into_iter().flatten() {
            fields.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
        for (name, values) in case["params_multi"].as_object().into_iter().flatten() {
            fields.extend(values.as_array().unwrap().iter().map(|v| (name.clone(), v.as_str().unwrap().to_owned())));
        }
        fields.reverse();
        form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
    }

    #[test]
    fn every_vector_of_twilios_own_validator() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/twilio_signature.json");
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut seen = Vec::new();
        for case in file["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let url = case["url"].as_str().unwrap();
            let (base, target) = url.split_at(url[8..].find('/').unwrap() + 8);
            let (secret, signature) = (case["secret"].as_str().unwrap(), case["signature"].as_str().unwrap());
            // Twilio signed with the port; we are called, and configured, without it.
            let with_port = name == "signed_with_explicit_443";
            let base = if with_port { "https://sms.example.gov.uk" } else { base };
            let sha256 = case["algorithm"] == "HMAC_SHA256";
            let scheme = if sha256 { scheme(base, &[TOKEN], &[secret]) } else { scheme(base, &[secret], &[]) };
            let body = body(case);
            let is_json = case["body"].is_string();
            if let Some(expected) = case["string_to_sign"].as_str() {
                let form = if is_json { Form::default() } else { Form::sorted(body.as_bytes()).unwrap() };
                assert_eq!(to_sign(&scheme, usize::from(with_port), target, &form), expected, "{name}");
                if !with_port {
                    let form = if is_json { b"" } else { body.as_bytes() };
                    assert_eq!(scheme.sign(target, form).as_deref(), Some(signature), "{name}");
                }
            }
            let mut headers = vec![(SIGNATURE, signature)];
            let settings = "X-Twilio-Webhooks-Signature-Settings";
            headers.extend(case["headers"][settings].as_str().map(|value| (SETTINGS, value)));
            let outcome = opens(&scheme, &request(target, &body, &headers));
            assert_eq!(outcome, if case["valid"] == true { Ok(()) } else { Err(403) }, "{name}");
            seen.push(name.to_owned());
        }
        assert_eq!(seen.len(), 10, "{seen:?}");
    }

    #[test]
    fn the_port_may_be_written_or_not() {
        for (base, other) in [
            ("https://sms.example.gov.uk", "https://sms.example.gov.uk:443"),
            ("https://sms.example.gov.uk:443/prefix", "https://sms.example.gov.uk/prefix"),
            ("https://sms.example.gov.uk:8443", "https://sms.example.gov.uk"),
            ("http://127.0.0.1/a:b", "http://127.0.0.1:80/a:b"),
            ("http://[::1]:8080", "http://[::1]"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            let ours = scheme(base, &[TOKEN], &[]);
            assert_eq!(&*ours.bases[1], other);
            for spelled in [base, other] {
                let signature = scheme(spelled, &[TOKEN], &[]).sign("/hook?a=%20b", b"Body=hi").unwrap();
                assert_eq!(
                    opens(&ours, &request("/hook?a=%20b", "Body=hi", &[(SIGNATURE, &signature)])),
                    Ok(()),
                    "{spelled}"
                );
            }
            let elsewhere = scheme("https://sms.example.org", &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
            assert_eq!(opens(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &elsewhere)])), Err(403), "{base}");
        }
    }

    #[test]
    fn signature_over_a_re_encoded_query_is_accepted() {
        let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
        let form = "Body=hi&From=%2B447700900123";
        for (signed, arrived) in [
            ("/hook?desk=Bins%20and%20roads", "/hook?desk=Bins+and+roads"),
            ("/hook?desk=%2B1", "/hook?desk=%2b1"),
            ("/hook?desk=Mae%27r", "/hook?desk=Mae'r"),
            ("/hook?desk=Mae'r", "/hook?desk=Mae%27r"),
            ("/hook?desk=a%3Ab%2Fc", "/hook?desk=a:b/c"),
            ("/hook?desk=~a", "/hook?desk=%7Ea"),
            ("/hook?desk=", "/hook?desk"),
            ("/hook", "/hook?"),
            ("/hook?desk=%C5%B5", "/hook?desk=%c5%b5"),
        ] {
            let signature = ours.sign(signed, form.as_bytes()).unwrap();
            let with = |target: &str| opens(&ours, &request(target, form, &[(SIGNATURE, &signature)]));
            assert_eq!((with(signed), with(arrived)), (Ok(()), Ok(())), "{signed} {arrived}");
            let forged = scheme("https://sms.example.gov.uk", &[SHARED], &[]).sign(signed, form.as_bytes()).unwrap();
            assert_eq!(opens(&ours, &request(arrived, form, &[(SIGNATURE, &forged)])), Err(403), "{arrived}");
        }
    }

    #[test]
    fn public_url_in_capitals_is_accepted() {
        for base in ["HTTPS://SMS.Example.GOV.uk/Prefix", "https://SMS.example.gov.uk:443/Prefix"] {
            let ours = scheme(base, &[TOKEN], &[]);
            assert!(ours.bases.len() <= 6, "{:?}", ours.bases);
            let lower = ["https://sms.example.gov.uk/Prefix", "https://sms.example.gov.uk:443/Prefix"];
            for spelled in [&[base][..], &lower].concat() {
                let signature = scheme(spelled, &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
                let opened = opens(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &signature)]));
                assert_eq!(opened, Ok(()), "{base} {spelled}");
            }
            let elsewhere = "https://sms.example.gov.uk/prefix";
            let signature = scheme(elsewhere, &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
            assert_eq!(opens(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &signature)])), Err(403), "{base}");
        }
        assert_eq!(scheme("https://sms.example.gov.uk", &[TOKEN], &[]).bases.len(), 2);
    }

    #[test]
    fn anything_else_is_refused() {
        let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
        let good = ours.sign("/hook?a=1", b"Body=hi&From=%2B447700900123").unwrap();
        let with =
            |target: &str, body: &str, signature: &str| opens(&ours, &request(target, body, &[(SIGNATURE, signature)]));
        assert_eq!(with("/hook?a=1", "Body=hi&From=%2B447700900123", &good), Ok(()));
        assert_eq!(
            with("/hook?a=1", "From=%2b447700900123&Body=%68i", &good),
            Ok(()),
            "the same fields, otherwise spelled"
        );
        assert_eq!(with("/hook?a=%31", "Body=hi&From=%2B447700900123", &good), Ok(()), "the same query");
        for (target, body) in [
            ("/hook", "Body=hi&From=%2B447700900123"),
            ("/hook?a=2", "Body=hi&From=%2B447700900123"),
            ("/hook?a=1&b=", "Body=hi&From=%2B447700900123"),
            ("/hook?a=1&a=1", "Body=hi&From=%2B447700900123"),
            ("/HOOK?a=1", "Body=hi&From=%2B447700900123"),
            ("/hook?A=1", "Body=hi&From=%2B447700900123"),
            ("/hook%3Fa=1", "Body=hi&From=%2B447700900123"),
            ("/x/../hook?a=1", "Body=hi&From=%2B447700900123"),
            ("/hook?a=1", "Body=hi&From=+447700900123"),
            ("/hook?a=1", "Body=hi%20&From=%2B447700900123"),
            ("/hook?a=1", "Body=hi&From=%2B447700900123&Extra=1"),
            ("/hook?a=1", "Body=hi"),
            ("/hook?a=1", ""),
        ] {
            assert_eq!(with(target, body, &good), Err(403), "{target} {body}");
        }
        let cut = &BASE64_STANDARD.encode(&BASE64_STANDARD.decode(&good).unwrap()[..19]);
        for bad in ["", "AAAA", "not base64", &good.to_lowercase(), &format!("{good} "), cut] {
            assert_eq!(with("/hook?a=1", "Body=hi&From=%2B447700900123", bad), Err(403), "{bad}");
        }
        assert_eq!(opens(&ours, &request("/hook?a=1", "Body=hi", &[])), Err(401));
        let nobody = scheme("https://sms.example.gov.uk", &[], &[]);
        assert_eq!(opens(&nobody, &request("/hook?a=1", "Body=hi", &[(SIGNATURE, &good)])), Err(403));
    }

    #[test]
    fn a_shared_key_ends_sha1_and_nothing_else_begins_sha256() {
        let base = "https://sms.example.gov.uk";
        let (plain, shared) = (scheme(base, &[TOKEN], &[]), scheme(base, &[TOKEN], &["another-key", SHARED]));
        let sha1 = plain.sign("/hook", b"Body=hi").unwrap();
        let sha256 = scheme(base, &[], &[SHARED]).sign("/hook", b"Body=hi").unwrap();
        let token256 = scheme(base, &[], &[TOKEN]).sign("/hook", b"Body=hi").unwrap();
        let with = |scheme: &Signature, signature: &str, settings: &[&str]| {
            let mut headers = vec![(SIGNATURE, signature)];
            headers.extend(settings.iter().map(|value| (SETTINGS, *value)));
            opens(scheme, &request("/hook", "Body=hi", &headers))
        };
        let s256 = "key=webhooks_sharedkey_0001,algorithm=HMAC_SHA256";
        assert_eq!(with(&shared, &sha256, &[s256]), Ok(()));
        assert_eq!(with(&plain, &sha1, &[]), Ok(()));
        for settings in [
            &["key=primary, algorithm=HMAC_SHA1"][..],
            &["algorithm=hmac_sha1"],
            &["algorithm="],
            &["key=1"],
            &[""],
            &["algorithm=,algorithm=HMAC_SHA1"],
            &["algorithm=HMAC_SHA1,algorithm=HMAC_SHA256"],
            &["key=1", "algorithm=HMAC_SHA1"],
        ] {
            assert_eq!(with(&plain, &sha1, settings), Ok(()), "{settings:?}");
            assert_eq!(with(&plain, &token256, settings), Err(403), "{settings:?}");
            assert_eq!(with(&shared, &sha1, settings), Err(403), "{settings:?}");
            assert_eq!(with(&shared, &sha256, settings), Err(403), "{settings:?}");
        }
        assert_eq!(with(&shared, &sha256, &["algorithm=hmac_sha256"]), Ok(()));
        for (scheme, signature, settings) in [
            (&shared, &sha1, &[][..]),
            (&shared, &sha1, &["algorithm=HMAC_SHA1"]),
            (&shared, &sha1, &[s256]),
            (&shared, &sha256, &[]),
            (&shared, &sha256, &["algorithm=HMAC_SHA1"]),
            (&shared, &sha256, &["algorithm=HMAC_SHA512"]),
            (&shared, &token256, &[s256]),
            (&plain, &sha1, &[s256]),
            (&plain, &token256, &[s256]),
            (&plain, &sha1, &["algorithm=HMAC_MD5"]),
            (&plain, &sha1, &["algorithm=HMAC_SHA256,algorithm=HMAC_SHA1"]),
        ] {
            assert_eq!(with(scheme, signature, settings), Err(403), "{settings:?}");
        }
    }

    #[test]
    fn the_body_of_a_signed_address_is_hashed() {
        let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
        let json = r#"{"a":1}"#;
        let target = format!("/hook?bodySHA256={}", Digest::sha256(json.as_bytes()));
        let with = |target: &str, body: &str| {
            let signature = ours.sign(target, b"").unwrap();
            opens(&ours, &request(target, body, &[(SIGNATURE, &signature)]))
        };
        assert_eq!(with(&target, json), Ok(()));
        assert_eq!(with(&target, ""), Err(403));
        assert_eq!(with(&target, "a=1"), Err(403));
        assert_eq!(with("/hook?bodySHA256=", json), Err(403));
        let base64 = BASE64_STANDARD.encode(Digest::sha256(json.as_bytes()).as_bytes()).replace('+', "%2B");
        assert_eq!(with(&format!("/hook?bodySHA256={base64}"), json), Err(403));
    }

    #[test]
    fn a_form_without_end_is_not_sorted() {
        let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
        let form = |count: usize| vec!["a=1"; count].join("&");
        assert!(Form::sorted(form(1_000).as_bytes()).is_some());
        assert!(Form::sorted(form(1_001).as_bytes()).is_none());
        assert_eq!(opens(&ours, &request("/hook", &form(1_001), &[(SIGNATURE, "AAAA")])), Err(403));
    }

    #[test]
    fn addresses_say_who_and_over_what() {
        let read = |text: &str, wa_id| {
            party(text, wa_id, None)
                .map(|(medium, who)| (medium, format!("{} {}", who.expose(), matches!(who, Address::Other(_)))))
        };
        let sms = |who: &str, other: bool| Some((Medium::Sms, format!("{who} {other}")));
        let whatsapp = |who: &str| Some((Medium::WhatsApp, format!("{who} false")));
        assert_eq!(read("+447700900123", None), sms("+447700900123", false));
        assert_eq!(read("60777", None), sms("60777", false));
        assert_eq!(read("GOV UK", None), sms("GOV UK", false));
        // Numbers that are in use, whatever the tables of what people type say.
        assert_eq!(read("+447700201000", None), sms("+447700201000", false));
        assert_eq!(read("whatsapp:+447700201000", None), whatsapp("+447700201000"));
        assert_eq!(read("T-Mobile", None), sms("T-Mobile", true));
        assert_eq!(read("whatsapp:+447700900123", Some("447700900123")), whatsapp("+447700900123"));
        assert_eq!(read("whatsapp:+447700900123", Some("447700900789")), whatsapp("+447700900123"));
        assert_eq!(read("whatsapp:GB.1349", Some("GB.1349")), whatsapp("GB.1349"));
        for (text, wa_id, user_id) in [
            ("whatsapp:GB.1349", Some("447700900123"), None),
            ("whatsapp:+447700900123", Some("447700900123"), Some("whatsapp:GB.1349")),
            ("whatsapp:+447700900123", None, Some("GB.1349")),
            ("whatsapp:GB.1349", None, Some("whatsapp:+447700900123")),
            ("whatsapp:?", Some("447700900123"), Some("whatsapp:GB.1349")),
        ] {
            let (_, both) = party(text, wa_id, user_id).unwrap();
            assert_eq!((both.expose(), both.as_phone().unwrap().as_str()), ("GB.1349", "+447700900123"), "{text}");
        }
        let (_, odd) = party("whatsapp:+447700900123", Some("?"), Some("whatsapp:?")).unwrap();
        assert_eq!(odd.expose(), "+447700900123");
        let rcs = |who: &str, other: bool| Some((Medium::other("rcs").unwrap(), format!("{who} {other}")));
        assert_eq!(read("rcs:+447700900123", None), rcs("+447700900123", false));
        assert_eq!(read("O2+", None), sms("O2+", true));
        assert_eq!(read("AT&T Info", None), sms("AT&T_Info", true));
        for unknown in ["", " ", "whatsapp:", "whatsapp:?", "messenger:1", "rcs:", "rcs:agent"] {
            assert_eq!(read(unknown, None), None, "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn nothing_opens_without_the_token(target in "/[a-z?=&%0-9]{0,20}", body in ".{0,60}", signature in "[A-Za-z0-9+/]{27}=") {
            let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
            prop_assume!(target.parse::<http::Uri>().is_ok());
            prop_assert!(opens(&ours, &request(&target, &body, &[(SIGNATURE, &signature)])).is_err());
        }
    }
}
