//! An in-memory channel for tests.
//!
//! ```
//! use civic_messaging::{Channel, ChannelExt, Error, Event, Mock, Outcome};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sms = Mock::sms();
//! sms.will_fail(Error::unknown("no answer in time"));
//!
//! let webhook = sms.arrives("07700 900123", "When is my bin collected?");
//! for event in sms.receive(&webhook).await?.events {
//!     if let Event::Inbound(inbound) = event {
//!         let error = sms.reply(&inbound, "On Tuesday.").await.unwrap_err();
//!         assert_eq!(error.outcome(), Outcome::Unknown);
//!     }
//! }
//! sms.assert_sent("07700 900123", "On Tuesday.");
//! # Ok::<(), Error>(()) }).unwrap();
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderName;

use crate::channel::{Channel, Indicator};
use crate::media::MediaStream;
use crate::model::address::{Address, Medium};
use crate::model::capability::{Capability, ChoiceLimits, MediaLimits, MediaRule, TemplateLimits, TextLimit};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::delivery::DeliveryState;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::{Delivery, DeliveryOf, Envelope, Event, Inbound, InboundContent, Raw, Unrecognised};
use crate::model::health::{CheckStatus, Health};
use crate::model::id::{AccountId, MessageId};
use crate::model::info::Info;
use crate::model::lookup::{LookupOutcome, LookupQuery};
use crate::model::message::{Accepted, Content, Media, MediaKind, MediaRef, Message};
use crate::model::poll::{Cursor, Page};
use crate::model::secret::Secret;
use crate::webhook::{self, HmacSha256, Received, SignatureEncoding, SigningSecret, Verifier};

/// An in-memory channel that records sent messages, returns scripted results and simulates inbound messages.
///
/// Scripted results are consumed in order; after the last one, every send is accepted. It can have any medium and any
/// capability; the default is everything that the medium supports. Clones share their state.
#[derive(Clone)]
pub struct Mock {
    info: Arc<Info>,
    clock: Arc<dyn Clock>,
    scheme: Arc<HmacSha256>,
    verifier: Option<Verifier>,
    state: Arc<Mutex<State>>,
    ids: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    scripted: VecDeque<Scripted>,
    sent: Vec<Message>,
    accepted: Vec<AcceptedMessage>,
    arrived: Vec<Event>,
    indicators: Vec<(MessageId, Indicator)>,
    files: HashMap<String, (String, Bytes)>,
    fetch_errors: VecDeque<Error>,
}

struct AcceptedMessage {
    id: MessageId,
    message: Message,
    at: Timestamp,
}

enum Scripted {
    Accept,
    LoseResponse,
    Fail(Error),
}

impl Mock {
    /// Creates a Facebook Messenger channel.
    pub fn messenger() -> Self {
        Self::new(Medium::Messenger)
    }

    /// Creates an SMS channel.
    pub fn sms() -> Self {
        Self::new(Medium::Sms)
    }

    /// Creates a WhatsApp channel.
    pub fn whatsapp() -> Self {
        Self::new(Medium::WhatsApp)
    }

    /// Creates a channel of X direct messages.
    pub fn x() -> Self {
        Self::new(Medium::X)
    }

    /// Creates a channel of any medium.
    ///
    /// Its ids count from 1. A test that restarts a service must keep the same mock, because a new one repeats the ids.
    ///
    /// ```
    /// use civic_messaging::{Medium, Mock};
    ///
    /// let rcs = Mock::new(Medium::other("rcs")?).capability(|can| can.choice = None);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    pub fn new(medium: Medium) -> Self {
        let capability = full_capability(&medium);
        Self::with_info(Info::new("mock", medium, "mock-account").with_capability(|can| *can = capability))
    }

    /// Creates a channel with the [`Info`] of another, to test against a gateway's limits.
    pub fn like(channel: &dyn Channel) -> Self {
        Self::with_info(channel.info().clone())
    }

    /// Changes the capability.
    #[must_use]
    pub fn capability(mut self, set: impl FnOnce(&mut Capability)) -> Self {
        self.info = Arc::new((*self.info).clone().with_capability(set));
        self
    }

    /// Creates a mock of another account with the same settings, without messages: for a service with several accounts.
    #[must_use]
    pub fn account(self, account: impl Into<AccountId>) -> Self {
        let info = Info { account: account.into(), ..(*self.info).clone() };
        Self { clock: self.clock, ..Self::with_info(info) }
    }

    /// Sets the secrets that verify webhooks; the first one also signs those that the mock creates.
    ///
    /// Use it to test a rotation, or a service that signs webhooks itself. The scheme is HMAC-SHA256 of the body in
    /// hexadecimal, after `sha256=` in the header `x-mock-signature`. Without a secret, the mock rejects every webhook.
    #[must_use]
    pub fn webhook_secrets(mut self, secrets: impl IntoIterator<Item = SigningSecret>) -> Self {
        let owned = std::slice::from_ref(&self.info.account);
        let secrets: Vec<_> = secrets.into_iter().map(|secret| secret.or_owns(owned)).collect();
        Arc::make_mut(&mut self.info).capability.receive &= !secrets.is_empty();
        self.verifier = Verifier::new([], &secrets);
        self.scheme = Arc::new(HmacSha256::new(HEADER, "sha256=", SignatureEncoding::Hex, secrets));
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Accepts the next send.
    pub fn will_accept(&self) {
        self.state().scripted.push_back(Scripted::Accept);
    }

    /// Accepts the next send but loses the response: the outcome is unknown, and a lookup finds the message.
    pub fn will_lose_response(&self) {
        self.state().scripted.push_back(Scripted::LoseResponse);
    }

    /// Fails the next send with this error; the message is not accepted.
    pub fn will_fail(&self, error: Error) {
        self.state().scripted.push_back(Scripted::Fail(error));
    }

    /// Fails the next media fetch with this error.
    pub fn will_withhold(&self, error: Error) {
        self.state().fetch_errors.push_back(error);
    }

    /// Simulates an inbound text and returns its webhook request; `poll` returns it as well.
    ///
    /// `from` is parsed as an address of the medium.
    ///
    /// # Panics
    /// If `from` is not an address of the medium.
    #[track_caller]
    pub fn arrives(&self, from: &str, text: impl Into<String>) -> webhook::Request {
        self.arrives_with(from, InboundContent::Text(text.into()))
    }

    /// Simulates an inbound message with any content. See [`arrives`](Self::arrives).
    ///
    /// # Panics
    /// If `from` is not an address of the medium.
    #[track_caller]
    pub fn arrives_with(&self, from: &str, content: InboundContent) -> webhook::Request {
        self.emits(Inbound::new(self.envelope(), self.next_id("in"), self.address(from), content).into())
    }

    /// Simulates a status event and returns its webhook request.
    pub fn reports(&self, id: &MessageId, state: DeliveryState) -> webhook::Request {
        self.emits(self.delivery(id, state, None).into())
    }

    /// Simulates a status event that names a message by its key alone, and returns its webhook request.
    pub fn reports_key(&self, key: &str, state: DeliveryState) -> webhook::Request {
        let mut delivery = self.delivery(&self.next_id("none"), state, None);
        delivery.of = DeliveryOf::Message { id: None, key: Some(key.to_owned()) };
        self.emits(delivery.into())
    }

    /// Simulates any event and returns its webhook request.
    pub fn emits(&self, event: Event) -> webhook::Request {
        self.emits_all([event])
    }

    /// Simulates several events and returns one webhook request with all of them, as gateways send under load.
    pub fn emits_all(&self, events: impl IntoIterator<Item = Event>) -> webhook::Request {
        let events: Vec<_> = events.into_iter().collect();
        // Our own events always serialise.
        let body = serde_json::to_vec(&events).unwrap_or_default();
        self.state().arrived.extend(events);
        let mut request = http::Request::new(Bytes::from(body));
        *request.method_mut() = http::Method::POST;
        if let Some(signature) = self.scheme.sign(request.body()).and_then(|s| s.parse().ok()) {
            request.headers_mut().insert(HEADER, signature);
        }
        webhook::Request::new(request).arrived_at(self.clock.now())
    }

    /// Stores a file at the gateway, such as a resident's picture, and returns its reference for an inbound message.
    pub fn add_file(&self, mime: &str, bytes: impl Into<Bytes>) -> MediaRef {
        let id = self.next_id("media").as_str().to_owned();
        let bytes = bytes.into();
        let mut media = MediaRef::new(self.info.gateway, &id);
        media.mime = Some(mime.to_owned());
        media.len = Some(bytes.len() as u64);
        self.state().files.insert(id, (mime.to_owned(), bytes));
        media
    }

    /// Returns every message passed to `send`, in order, whatever the result.
    pub fn sent(&self) -> Vec<Message> {
        self.state().sent.clone()
    }

    /// Returns every message that was accepted, in order: what residents receive.
    ///
    /// With [`Capability::idempotency_window`], the mock recognises a repeated send by its key, accepts it under the same
    /// id, and makes no second message.
    ///
    /// ```
    /// use std::time::Duration;
    /// use civic_messaging::{Address, Channel, Message, Mock};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let sms = Mock::sms().capability(|can| can.idempotency_window = Some(Duration::from_secs(12 * 3600)));
    /// let note = Message::text(Address::phone("07700 900123")?, "On Tuesday.").key("waste-4711");
    /// assert_eq!(sms.send(&note).await?.id(), sms.send(&note).await?.id());
    /// assert_eq!((sms.sent().len(), sms.accepted().len()), (2, 1));
    /// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
    /// ```
    pub fn accepted(&self) -> Vec<Message> {
        self.state().accepted.iter().map(|of| of.message.clone()).collect()
    }

    /// Returns the indicators that were sent, in order.
    pub fn indicators(&self) -> Vec<(MessageId, Indicator)> {
        self.state().indicators.clone()
    }

    /// Asserts that this text was sent to this address exactly once.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn assert_sent(&self, to: &str, text: &str) {
        let to = self.address(to);
        let sent = self.sent();
        let here: Vec<_> = sent.iter().filter(|message| message.to.same_person(&to)).collect();
        let same = here.iter().filter(|message| message.content == Content::from(text)).count();
        // Masked, because test output is a log too.
        assert!(
            same == 1,
            "{} messages were sent, {} of them to {to}, and {same} of those with this text: {:?}",
            sent.len(),
            here.len(),
            here.iter().map(|message| &message.content).collect::<Vec<_>>(),
        );
    }

    /// Asserts that nothing was sent.
    ///
    /// # Panics
    /// If anything was sent.
    #[track_caller]
    pub fn assert_nothing_sent(&self) {
        let sent = self.sent().len();
        assert!(sent == 0, "{sent} messages were sent");
    }

    fn with_info(info: Info) -> Self {
        // The secret is fixed and public: a mock has nothing to protect, but verifies its webhooks like any channel.
        let secret = Secret::new("mock-signing-secret").map(|s| SigningSecret::for_accounts(s, [info.account.clone()]));
        let secrets: Vec<_> = secret.into_iter().collect();
        Self {
            info: Arc::new(info),
            clock: Arc::new(SystemClock::new()),
            verifier: Verifier::new([], &secrets),
            scheme: Arc::new(HmacSha256::new(HEADER, "sha256=", SignatureEncoding::Hex, secrets)),
            state: Arc::default(),
            ids: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self, what: &str) -> MessageId {
        let n = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        MessageId::new(format!("mock-{}-{what}-{n:04}", self.info.medium))
    }

    fn envelope(&self) -> Envelope {
        self.info.envelope(self.clock.now(), Raw::default())
    }

    #[track_caller]
    #[allow(clippy::panic, reason = "an invalid address in a test must fail at its own line")]
    fn address(&self, text: &str) -> Address {
        match Address::parse(&self.info.medium, text) {
            Ok(address) => address,
            Err(error) => panic!("{error}"),
        }
    }

    fn delivery(&self, id: &MessageId, state: DeliveryState, key: Option<String>) -> Delivery {
        let status = format!("{state:?}").to_lowercase();
        let mut delivery = Delivery::new(self.envelope(), id.clone(), state, status);
        delivery.of = DeliveryOf::Message { id: Some(id.clone()), key };
        delivery
    }
}

const HEADER: HeaderName = HeaderName::from_static("x-mock-signature");

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Channel for Mock {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let now = self.clock.now();
        let message = self.info.prepare(message, now)?.into_owned();
        let mut state = self.state();
        state.sent.push(message.clone());
        let answer = state.scripted.pop_front().unwrap_or(Scripted::Accept);
        if let Scripted::Fail(error) = answer {
            return Err(error.with_gateway(self.info.gateway));
        }
        let window = self.info.capability.idempotency_window.filter(|_| message.key.is_some());
        let is_repeated = |of: &&AcceptedMessage| {
            of.message.key == message.key && window.is_some_and(|window| now < of.at.plus(window))
        };
        let id = match state.accepted.iter().rfind(is_repeated) {
            Some(of) => of.id.clone(),
            None => {
                let id = self.next_id("out");
                state.accepted.push(AcceptedMessage { id: id.clone(), message, at: now });
                id
            }
        };
        match answer {
            Scripted::LoseResponse => Err(Error::unknown("the response was lost").with_gateway(self.info.gateway)),
            _ => Ok(Accepted::new(self.info.gateway, id, Bytes::new())),
        }
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        if !self.info.capability.receive {
            return Err(Error::unsupported("this channel cannot receive webhooks"));
        }
        let verified = request.verified(&*self.scheme)?;
        let unrecognised = |_| vec![Unrecognised::new(verified.envelope(&self.info), "body").into()];
        let events = serde_json::from_slice::<Vec<Event>>(verified.body()).unwrap_or_else(unrecognised);
        let is_own = |event: &Event| verified.owns(event.envelope().account.as_str());
        let (own, others) = events.into_iter().partition::<Vec<_>, _>(is_own);
        let mut discarded = BTreeMap::<_, usize>::new();
        others.into_iter().for_each(|event| *discarded.entry(event.envelope().account.clone()).or_default() += 1);
        let discard = |received: Received, (account, events)| received.with_discarded(Some(account), events);
        Ok(discarded.into_iter().fold(Received::new(own), discard))
    }

    fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        if !self.info.capability.poll {
            return Err(Error::unsupported("this channel cannot be polled"));
        }
        let seen = after.map_or(Ok(0), |cursor| cursor.as_str().parse::<usize>());
        let seen = seen.map_err(|_| Error::invalid("cursor", "is not from this channel"))?;
        let state = self.state();
        let events = state.arrived.iter().skip(seen).cloned().collect();
        Ok(Page::new(events, Some(Cursor::new(state.arrived.len().to_string()))))
    }

    async fn look_up(&self, sent: &LookupQuery) -> Result<LookupOutcome> {
        if !self.info.capability.look_up {
            return Err(Error::unsupported("this channel cannot look messages up"));
        }
        let (state, reference) = (self.state(), self.info.reference(&sent.message));
        let same = |of: &&AcceptedMessage| match (&sent.id, &reference) {
            (Some(known), _) => *known == of.id,
            (None, Some(reference)) => of.message.key.as_deref() == Some(reference),
            (None, None) => false,
        };
        let found = state.accepted.iter().filter(same);
        let found: Vec<_> =
            found.map(|of| self.delivery(&of.id, DeliveryState::Accepted, of.message.key.clone())).collect();
        Ok(match (found.is_empty(), &sent.id, &reference) {
            (false, ..) => LookupOutcome::Found(found),
            (true, None, None) => LookupOutcome::Inconclusive,
            (true, ..) => LookupOutcome::NotFound,
        })
    }

    async fn upload_media(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        let rule =
            self.info.capability.media.as_ref().and_then(|limits| limits.kinds.iter().find(|r| r.kind == media.kind));
        match rule {
            Some(rule) if self.info.capability.upload_media => {
                let mime = bytes.mime().unwrap_or("application/octet-stream").to_owned();
                let bytes = bytes.capped(rule.max)?.bytes().await?;
                Ok(self.add_file(&mime, bytes))
            }
            _ => Err(Error::unsupported("this channel does not accept such uploads")),
        }
    }

    async fn fetch_media(&self, media: &MediaRef) -> Result<MediaStream> {
        if !self.info.capability.fetch_media {
            return Err(Error::unsupported("this channel cannot fetch files"));
        }
        let mut state = self.state();
        if let Some(error) = state.fetch_errors.pop_front() {
            return Err(error.with_gateway(self.info.gateway));
        }
        let file =
            state.files.get(&media.id).ok_or_else(|| Error::new(ErrorKind::NotFound, "the mock holds no such file"))?;
        Ok(MediaStream::from_bytes(file.0.clone(), file.1.clone()))
    }

    async fn send_indicator(&self, inbound: &Inbound, signal: Indicator) -> Result<()> {
        let can = match signal {
            Indicator::Read => self.info.capability.read,
            Indicator::Typing => self.info.capability.typing,
        };
        if !can {
            return Err(Error::unsupported("this channel cannot send this indicator"));
        }
        self.state().indicators.push((inbound.id.clone(), signal));
        Ok(())
    }

    async fn health(&self) -> Result<Health> {
        if !self.info.capability.health {
            return Err(Error::unsupported("this channel cannot report its health"));
        }
        Ok(Health::default().check_result("credentials", CheckStatus::Pass, "a mock needs none"))
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock").field("medium", &self.info.medium).field("sent", &self.state().sent.len()).finish()
    }
}

/// Returns everything that a medium supports.
fn full_capability(medium: &Medium) -> Capability {
    let mut can = Capability {
        receive: true,
        poll: true,
        look_up: true,
        delivery_status: true,
        upload_media: true,
        fetch_media: true,
        health: true,
        key: true,
        text: Some(match medium {
            Medium::Messenger => TextLimit::characters(crate::medium::messenger::TEXT_MAX),
            Medium::Sms => TextLimit::segments(10),
            Medium::X => TextLimit::characters(crate::medium::x::TEXT_MAX),
            _ => TextLimit::characters(crate::medium::whatsapp::TEXT_MAX),
        }),
        media: Some(match medium {
            Medium::Messenger => MediaLimits::messenger(),
            Medium::X => MediaLimits::x(),
            Medium::Sms => MediaLimits {
                per_message: 10,
                link: true,
                stored: true,
                gateway: true,
                kinds: vec![MediaRule::new(MediaKind::Image, 5_000_000, &[], 1600)],
            },
            _ => MediaLimits::whatsapp(),
        }),
        ..Capability::default()
    };
    if !matches!(medium, Medium::Messenger | Medium::Sms) {
        can.conversation = true;
    }
    if !matches!(medium, Medium::Sms | Medium::X) {
        can.read = true;
        can.typing = true;
        can.reply_to = true;
        can.native = true;
        can.choice = Some(if *medium == Medium::Messenger { ChoiceLimits::MESSENGER } else { ChoiceLimits::WHATSAPP });
    }
    if !matches!(medium, Medium::Messenger | Medium::Sms | Medium::X) {
        can.link = Some(crate::medium::whatsapp::LINK_LABEL_MAX);
        can.ask_location = true;
        can.ask_contact = true;
        can.location = true;
        can.contacts = true;
        can.reaction = true;
    }
    if !matches!(medium, Medium::Messenger | Medium::X) {
        can.template = Some(TemplateLimits { language: false, positional: true, named: true, components: true });
    }
    can
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelExt, Outcome};

    #[tokio::test]
    async fn results_are_consumed_in_order_then_sends_accepted() {
        let sms = Mock::sms();
        let to = Address::phone("07700 900123").unwrap();
        sms.will_accept();
        sms.will_fail(Error::new(ErrorKind::OptedOut, "no").with_outcome(Outcome::Rejected));
        sms.will_lose_response();
        let send = |key: &'static str| {
            let (sms, message) = (sms.clone(), Message::text(to.clone(), "Hello").key(key));
            async move { sms.send(&message).await.map(|_| ()).map_err(|e| e.outcome()) }
        };
        assert_eq!(send("a").await, Ok(()));
        assert_eq!(send("b").await, Err(Outcome::Rejected));
        assert_eq!(send("c").await, Err(Outcome::Unknown));
        assert_eq!(send("d").await, Ok(()));
        let look_up = |key: &str| {
            let sent = LookupQuery::new(Message::text(to.clone(), "Hello").key(key), sms.clock.now());
            let sms = sms.clone();
            async move { sms.look_up(&sent).await.unwrap() }
        };
        assert!(matches!(look_up("c").await, LookupOutcome::Found(found) if found[0].key() == Some("c")));
        assert_eq!(look_up("b").await, LookupOutcome::NotFound);
        assert_eq!(sms.sent().len(), 4);
    }

    #[tokio::test]
    async fn other_medium_works_end_to_end() {
        let pager = Mock::new(Medium::other("pager").unwrap());
        let webhook = pager.arrives("unit-7", "Flood at the bridge");
        let received = pager.receive(&webhook).await.unwrap();
        let inbound = received.events[0].as_inbound().unwrap();
        pager.reply(inbound, "On our way").await.unwrap();
        pager.assert_sent("unit-7", "On our way");
        let polled = pager.poll(None).await.unwrap();
        assert_eq!(polled.events, received.events);
        assert!(pager.poll(polled.next.as_ref()).await.unwrap().events.is_empty());
        let elsewhere = Address::other(Medium::other("telex").unwrap(), "unit-7").unwrap();
        assert_eq!(pager.send_text(&elsewhere, "Hello").await.unwrap_err().kind(), ErrorKind::InvalidRecipient);
    }

    #[tokio::test]
    async fn disabled_features_are_refused() {
        let mock = Mock::whatsapp().capability(|can| *can = Capability::default());
        let webhook = mock.arrives("07700 900123", "Hello");
        assert_eq!(mock.receive(&webhook).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(mock.poll(None).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(mock.health().await.unwrap_err().kind(), ErrorKind::Unsupported);
        let text = Message::text(Address::phone("07700 900123").unwrap(), "Hello");
        assert_eq!(mock.send(&text).await.unwrap_err().field(), Some("text"));
        mock.assert_nothing_sent();
    }

    #[test]
    fn choice_with_a_picture_is_not_degraded_to_text() {
        use crate::model::message::Choice;
        let to = Address::phone("07700 900123").unwrap();
        let choice = || Choice::buttons("Keep it?").option("y", "Yes").footer("Bins");
        let message = |choice| Message::new(to.clone(), choice).allow(crate::model::message::Degradation::ChoiceToText);
        let mut lines = Mock::sms().plan(&message(choice().header("Tuesday"))).split().unwrap();
        assert_eq!(lines.pop().unwrap().content, Content::from("Tuesday\nKeep it?\n1. Yes\nBins"));
        let picture = choice().header(Media::image("https://example.org/a.png"));
        assert_eq!(Mock::sms().check(&message(picture)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
