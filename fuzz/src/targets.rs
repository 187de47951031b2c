//! What must hold for every input: the bodies of the fuzz targets.
//!
//! `tests/webhooks/corpus.rs` replays the corpora with every `cargo test`. To look for an input that breaks one, on the
//! stable toolchain, with what is found kept out of the corpus:
//!
//! ```text
//! mkdir -p fuzz/found/TARGET
//! cargo fuzz run -s none TARGET fuzz/found/TARGET fuzz/corpus/TARGET -- -max_total_time=310
//! ```
//!
//! A new target is a function here with its row in [`TARGETS`], a file in `fuzz_targets/` with its `[[bin]]`, and a
//! folder in `corpus/`. What breaks one is put into its corpus, small and with a name that says what it is.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Poll, Waker};
use std::time::Duration;

use civic_messaging::adapter::retry_after as wait;
use civic_messaging::address::{OtherAddress, PageScopedId, Phone, Sender, SenderName, ShortCode, WhatsAppUser, XUser};
use civic_messaging::clock::VirtualClock;
use civic_messaging::event::InboundContent;
use civic_messaging::media::Digest;
use civic_messaging::medium::sms;
use civic_messaging::transport::{Body, Transport, TransportError};
use civic_messaging::webhook::{BearerToken, Form, HmacSha256, Request, Scheme, SignatureEncoding, SigningSecret};
use civic_messaging::{
    Address, Channel, Context, Custom, Error, ErrorKind, Event, Medium, Meta, Notify, Registry, Secret, Settings,
    Timestamp, Twilio, Vonage, X, async_trait, meta, notify, twilio, vonage, x,
};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A target: what holds for every input, and panics where it does not.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("address", address),
    ("custom_webhook", custom_webhook),
    ("messenger_webhook", messenger_webhook),
    ("meta_webhook", meta_webhook),
    ("notify_webhook", notify_webhook),
    ("retry_after", retry_after),
    ("segments", segments),
    ("settings", settings),
    ("twilio_webhook", twilio_webhook),
    ("verifier", verifier),
    ("vonage_webhook", vonage_webhook),
    ("x_webhook", x_webhook),
];

// The accounts and secrets of tests/fixtures, so that their bodies are of an account that the channel owns.
const META_NUMBER: &str = "200000000000001";
const META_ACCOUNT: &str = "100000000000001";
const META_PAGE: &str = "7000000000000001";
const META_SECRET: &str = "test_app_secret";
const X_USER: &str = "1900000000000000202";
const X_SECRET: &str = "fixture-consumer-secret";
const TWILIO_ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TWILIO_SERVICE: &str = "MGbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const TWILIO_TOKEN: &str = "12345678901234567890123456789012";
const TWILIO_URL: &str = "https://sms.example.gov.uk";
const NOTIFY_KEY: &str = "my_test_key-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
const NOTIFY_TEMPLATE: &str = "5484cfca-668a-4c18-afb1-5ddd0e3521b1";
const NOTIFY_TOKEN: &str = "a-long-bearer-token";
const VONAGE_KEY: &str = include_str!("../../tests/fixtures/vonage/private_key.pem");
/// What nobody who sends a forged webhook knows.
const UNKNOWN: &str = "8f6e2b0d-unknown-to-everybody-outside";
/// Sun, 22 Nov 2026 12:00:00 GMT.
const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

const META_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
const X_SIGNATURE: HeaderName = HeaderName::from_static("x-twitter-webhooks-signature");
const TWILIO_SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const TWILIO_SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");

// Webhooks, truly signed.

/// The tables of suppliers with the token of their webhooks in the URL.
const BULKSMS: &str = include_str!("../../docs/suppliers/bulksms.toml");
const KANNEL: &str = include_str!("../../docs/suppliers/kannel.toml");

/// Any list and any form that a supplier of a table posts is read, and everything in it can be kept.
pub fn custom_webhook(body: &[u8]) {
    static CHANNELS: LazyLock<[Custom; 2]> = LazyLock::new(|| {
        [BULKSMS, KANNEL].map(|table| {
            let mut table: Value = toml::from_str(table).unwrap();
            replace_references(&mut table);
            let config = Settings::from_json(&table.to_string()).unwrap().read().unwrap();
            Custom::new(Medium::Sms, config, &context()).unwrap()
        })
    });
    for channel in &*CHANNELS {
        let target = format!("/custom?token={UNKNOWN}");
        is_read(channel, &post(&target, HeaderName::from_static("x-none"), "none", body));
    }
}

/// Puts a text in the place of each value of the environment.
fn replace_references(value: &mut Value) {
    let Value::Object(table) = value else { return };
    match table.get("env").and_then(Value::as_str) {
        Some(url) if url.ends_with("_URL") => *value = "https://sms.example.gov.uk/?id={reference:url}".into(),
        Some(_) => *value = UNKNOWN.into(),
        None => table.values_mut().for_each(replace_references),
    }
}

/// Any body that Meta signed is read, and everything in it can be kept.
pub fn meta_webhook(body: &[u8]) {
    static CHANNEL: LazyLock<Meta> = LazyLock::new(|| meta(META_SECRET));
    static SCHEME: LazyLock<HmacSha256> =
        LazyLock::new(|| HmacSha256::new(META_SIGNATURE, "sha256=", SignatureEncoding::Hex, [signing(META_SECRET)]));
    let signature = SCHEME.sign(body).unwrap();
    is_read(&*CHANNEL, &post("/meta", META_SIGNATURE, &signature, body));
}

/// Any body that Meta signed for a page is read, and everything in it can be kept.
pub fn messenger_webhook(body: &[u8]) {
    static CHANNEL: LazyLock<Meta> = LazyLock::new(|| messenger(META_SECRET));
    static SCHEME: LazyLock<HmacSha256> =
        LazyLock::new(|| HmacSha256::new(META_SIGNATURE, "sha256=", SignatureEncoding::Hex, [signing(META_SECRET)]));
    let signature = SCHEME.sign(body).unwrap();
    is_read(&*CHANNEL, &post("/messenger", META_SIGNATURE, &signature, body));
}

/// Any body that Vonage signed is read, and everything in it can be kept.
pub fn vonage_webhook(body: &[u8]) {
    static CHANNEL: LazyLock<Vonage> = LazyLock::new(|| {
        let config = vonage::Config::new("78d335fa-323d-0114-9c3d-d6f0d48968cf", VONAGE_KEY, "+447700900456");
        Vonage::sms_with(config.unwrap().signature_secret(UNKNOWN).unwrap(), &context()).unwrap()
    });
    static SCHEME: LazyLock<vonage::WebhookToken> = LazyLock::new(|| vonage::WebhookToken::new([signing(UNKNOWN)]));
    let signature = SCHEME.sign(body, NOON).unwrap();
    is_read(&*CHANNEL, &post("/vonage", AUTHORIZATION, &signature, body).arrived_at(NOON));
}

/// Any body that X signed is read, and everything in it can be kept; one that its handshake could have signed is refused.
pub fn x_webhook(body: &[u8]) {
    static CHANNEL: LazyLock<X> = LazyLock::new(|| x(X_SECRET));
    static SCHEME: LazyLock<HmacSha256> =
        LazyLock::new(|| HmacSha256::new(X_SIGNATURE, "sha256=", SignatureEncoding::Base64, [signing(X_SECRET)]));
    let signature = SCHEME.sign(body).unwrap();
    let request = post("/x", X_SIGNATURE, &signature, body);
    if body.contains(&b'{') {
        is_read(&*CHANNEL, &request);
    } else {
        is_refused(at_once(CHANNEL.receive(&request)));
    }
}

/// Any form, query or JSON that Twilio signed is read, and everything in it can be kept.
pub fn twilio_webhook(body: &[u8]) {
    static CHANNELS: LazyLock<[Twilio; 2]> = LazyLock::new(|| {
        let service = twilio_config(TWILIO_TOKEN).messaging_service(TWILIO_SERVICE);
        [twilio(TWILIO_TOKEN), Twilio::whatsapp_with(service, &context()).unwrap()]
    });
    static SCHEME: LazyLock<twilio::Signature> = LazyLock::new(|| twilio_scheme(TWILIO_TOKEN));
    for channel in &*CHANNELS {
        // A form of too many fields is not signed, and not read either.
        if let Some(signature) = SCHEME.sign("/twilio", body) {
            is_read(channel, &post("/twilio", TWILIO_SIGNATURE, &signature, body));
        }
        let hashed = format!("/twilio?bodySHA256={}", Digest::sha256(body));
        let signature = SCHEME.sign(&hashed, b"").unwrap();
        is_read(channel, &post(&hashed, TWILIO_SIGNATURE, &signature, body));

        let Ok(query) = str::from_utf8(body) else { continue };
        let target = format!("/twilio?{query}");
        // What a URL cannot hold cannot arrive in one, and a hash in it has to be that of the empty body.
        let arrives = target.parse::<Uri>().is_ok_and(|uri| uri.path_and_query().is_some_and(|p| *p == *target));
        if !arrives || Form::decode(body).is_none_or(|form| form.get("bodySHA256").is_some()) {
            continue;
        }
        let signature = SCHEME.sign(&target, b"").unwrap();
        let request = http::Request::get(&target).header(TWILIO_SIGNATURE, signature).body(Vec::new()).unwrap();
        is_read(channel, &Request::from(request).arrived_at(NOON));
    }
}

/// Any body under Notify's token is read, and everything in it can be kept.
pub fn notify_webhook(body: &[u8]) {
    static CHANNEL: LazyLock<Notify> = LazyLock::new(|| notify(NOTIFY_TOKEN));
    is_read(&*CHANNEL, &post("/notify", AUTHORIZATION, &format!("Bearer {NOTIFY_TOKEN}"), body));
}

fn post(target: &str, header: HeaderName, proof: &str, body: &[u8]) -> Request {
    let request = http::Request::post(target).header(header, proof).body(body.to_vec()).unwrap();
    Request::from(request).arrived_at(NOON)
}

/// A proven webhook is answered 2xx, whatever is in it, and each of its events survives a store.
fn is_read(channel: &dyn Channel, request: &Request) {
    let received = at_once(channel.receive(request)).unwrap();
    assert!(received.response.status.is_success(), "answered {}", received.response.status);
    received.events.iter().for_each(survives_a_store);
    assert!(received.answerable().count() <= received.events.len());
}

fn survives_a_store(event: &Event) {
    let (id, envelope) = (event.id(), event.envelope());
    assert!(id.starts_with(&format!("{}/{}/", envelope.gateway, envelope.account)));
    shows_nobody(event);
    let json = serde_json::to_string(event).unwrap();
    let stored: Event = serde_json::from_str(&json).expect("it cannot be read from the store");
    assert_eq!(serde_json::to_string(&stored).unwrap(), json);
    assert_eq!((&stored, stored.id()), (event, id));
}

/// Neither a person nor what they said is in `Debug`.
fn shows_nobody(event: &Event) {
    let debug = format!("{event:?}");
    let Event::Inbound(inbound) = event else { return };
    let said = match &inbound.content {
        InboundContent::Text(text) => text.as_str(),
        // These show names that the gateway gives, which an input can make equal to anything.
        InboundContent::Edited { .. } | InboundContent::Media { .. } | InboundContent::Unsupported { .. } => return,
        _ => "",
    };
    for personal in [said, inbound.from.expose()] {
        let is_own_account = inbound.envelope.account.as_str().contains(personal);
        assert!(personal.len() < 12 || is_own_account || !debug.contains(personal), "{debug}");
    }
}

// Webhooks that are not signed.

/// Nobody can forge: without the secret no scheme opens a request, whatever its query, headers and body.
///
/// The first line is the query, the second every header that could prove something, the third the settings of Twilio's
/// signature, and the rest the body.
pub fn verifier(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let [query, proof, settings, body] = [(); 4].map(|()| lines.next().unwrap_or_default());
    for method in [Method::GET, Method::POST] {
        let request = forged(&method, query, proof, settings, body);
        for scheme in &*SCHEMES {
            is_refused(request.open(&**scheme));
        }
        let Channels { meta, dialog, messenger, twilio, notify, .. } = &*CHANNELS;
        for channel in [meta as &dyn Channel, dialog, messenger, twilio, notify] {
            is_refused(at_once(channel.receive(&request)));
        }
        match at_once(CHANNELS.x.receive(&request)) {
            // X lets anybody ask for the handshake, whose answer is made with the key that signs webhooks.
            Ok(handshake) if method == Method::GET && handshake.events.is_empty() => {
                proves_no_event(&handshake.response.body, query);
            }
            received => is_refused(received),
        }
    }
    proves_no_other_body(body, proof);
}

struct Channels {
    meta: Meta,
    dialog: Meta,
    messenger: Meta,
    twilio: Twilio,
    notify: Notify,
    x: X,
}

static CHANNELS: LazyLock<Channels> = LazyLock::new(|| Channels {
    meta: meta(UNKNOWN),
    dialog: Meta::whatsapp_360dialog_with(meta_config(UNKNOWN), &context()).unwrap(),
    messenger: messenger(UNKNOWN),
    twilio: twilio(UNKNOWN),
    notify: notify(UNKNOWN),
    x: x(UNKNOWN),
});

static SCHEMES: LazyLock<[Box<dyn Scheme>; 5]> = LazyLock::new(|| {
    let url = TWILIO_URL.parse().unwrap();
    [
        Box::new(HmacSha256::new(META_SIGNATURE, "sha256=", SignatureEncoding::Hex, [signing(UNKNOWN)])),
        Box::new(HmacSha256::new(X_SIGNATURE, "", SignatureEncoding::Base64, [signing(UNKNOWN)])),
        Box::new(BearerToken::new([signing(UNKNOWN)])),
        Box::new(twilio_scheme(UNKNOWN)),
        Box::new(twilio::Signature::new(&url, [signing(UNKNOWN)], [signing(UNKNOWN)])),
    ]
});

fn forged(method: &Method, query: &[u8], proof: &[u8], settings: &[u8], body: &[u8]) -> Request {
    let mut request = http::Request::new(body.to_vec());
    *request.method_mut() = method.clone();
    let target = [b"/hook?", query].concat();
    *request.uri_mut() = Uri::try_from(target.as_slice()).unwrap_or_else(|_| Uri::from_static("/hook"));
    if let Ok(proof) = HeaderValue::from_bytes(proof) {
        for header in [META_SIGNATURE, X_SIGNATURE, TWILIO_SIGNATURE, AUTHORIZATION] {
            request.headers_mut().insert(header, proof.clone());
        }
    }
    if let Some(settings) = HeaderValue::from_bytes(settings).ok().filter(|settings| !settings.is_empty()) {
        request.headers_mut().insert(TWILIO_SETTINGS, settings);
    }
    Request::from(request).arrived_at(NOON)
}

/// What X's handshake answers to a token is no proof of that token as a body.
fn proves_no_event(answer: &[u8], query: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let token = Form::decode(query).and_then(|query| query.get("crc_token").map(|token| token.into_owned())).unwrap();
    let proof = answer["response_token"].as_str().unwrap();
    is_refused(at_once(CHANNELS.x.receive(&post("/x", X_SIGNATURE, proof, token.as_bytes()))));
}

/// The true proof of one body is no proof of another, nor is the beginning of it.
fn proves_no_other_body(body: &[u8], other: &[u8]) {
    static SCHEME: LazyLock<HmacSha256> =
        LazyLock::new(|| HmacSha256::new(META_SIGNATURE, "sha256=", SignatureEncoding::Hex, [signing(UNKNOWN)]));
    static TWILIO: LazyLock<twilio::Signature> = LazyLock::new(|| twilio_scheme(UNKNOWN));
    let proof = SCHEME.sign(body).unwrap();
    let longer = [body, b" "].concat();
    for other in [other, &longer] {
        if other != body {
            is_refused(post("/meta", META_SIGNATURE, &proof, other).open(&*SCHEME));
        }
    }
    is_refused(post("/meta", META_SIGNATURE, &proof[..proof.len() - 2], body).open(&*SCHEME));

    let hashed = format!("/twilio?bodySHA256={}", Digest::sha256(body));
    let proof = TWILIO.sign(&hashed, b"").unwrap();
    is_refused(post(&hashed, TWILIO_SIGNATURE, &proof, &longer).open(&*TWILIO));
    let forged = [body, b"&forged=1"].concat();
    // Twilio signs a pair of name and value once, however often it stands in the form.
    if Form::decode(body).is_some_and(|form| form.get("forged").is_none())
        && let Some(proof) = TWILIO.sign("/twilio", body)
    {
        is_refused(post("/twilio", TWILIO_SIGNATURE, &proof, &forged).open(&*TWILIO));
    }
}

fn is_refused<T: Debug>(outcome: Result<T, Error>) {
    let error = outcome.expect_err("it was opened without the secret");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(matches!(error.webhook_status().as_u16(), 401 | 403), "{error}");
}

// Addresses.

/// Whatever parses as an address survives a store, and is shown by its last three characters at most.
pub fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = text.as_ref();
    if let Ok(phone) = text.parse::<Phone>() {
        assert_eq!(phone.as_str().parse::<Phone>().as_ref().ok(), Some(&phone), "{}", phone.as_str());
        is_a_phone(&phone);
    }
    if let Ok(phone) = Phone::from_digits(text) {
        is_a_phone(&phone);
    }
    if let Ok(user) = text.parse::<WhatsAppUser>() {
        is_a_whatsapp_user(&user);
    }
    if let Ok(user) = XUser::new(text) {
        is_an_x_user(&user.clone().with_handle(text));
        is_an_x_user(&user);
    }
    if let Ok(id) = text.parse::<PageScopedId>() {
        assert_eq!((id.to_string(), format!("{id:?}")), shown("PageScopedId", id.as_str()));
        is_kept(&id);
    }
    if let Ok(code) = text.parse::<ShortCode>() {
        assert_eq!((code.to_string(), format!("{code:?}")), shown("ShortCode", code.as_str()));
        is_kept(&code);
    }
    if let Ok(name) = text.parse::<SenderName>() {
        assert_eq!((name.to_string(), format!("{name:?}")), shown("SenderName", name.as_str()));
        is_kept(&name);
    }
    if let Ok(sender) = text.parse::<Sender>() {
        let of = format!("{:?}", Address::from(sender.clone()));
        assert!(of.ends_with(&masked(sender.as_str())), "{of}");
        is_kept(&sender);
    }
    if let Ok(medium) = text.parse::<Medium>() {
        assert_eq!((medium.as_str(), medium.to_string()), (text, text.to_owned()));
        is_kept(&medium);
    }
    for medium in [Medium::Sms, Medium::WhatsApp, Medium::X, Medium::Messenger, Medium::other("rcs").unwrap()] {
        if let Ok(address) = Address::parse(&medium, text) {
            assert!(address.fits(&medium));
            is_an_address(&address);
        }
        if let Ok(address) = Address::conversation(medium, text) {
            is_an_address(&address);
        }
    }
    // As a store hands them back, in which somebody may have written.
    if let Ok(address) = serde_json::from_str::<Address>(text) {
        is_an_address(&address);
    }
    if let Ok(address) = serde_json::from_str::<OtherAddress>(text) {
        assert_eq!(format!("{address:?}"), format!("OtherAddress {{ medium: {}, .. }}", address.medium()));
        is_kept(&address);
    }
}

fn is_a_phone(phone: &Phone) {
    let number = phone.as_str();
    assert!(number.starts_with('+') && (8..=16).contains(&number.len()), "{number}");
    assert_eq!(Phone::from_digits(phone.digits()).as_ref().ok(), Some(phone), "{number}");
    assert_eq!((phone.to_string(), format!("{phone:?}")), shown("Phone", number));
    assert!(phone.is_uk() || !phone.is_uk_mobile());
    is_kept(phone);
}

fn is_a_whatsapp_user(user: &WhatsAppUser) {
    let user_id = user.user_id().map(masked);
    assert_eq!(format!("{user:?}"), format!("WhatsAppUser {{ phone: {:?}, user_id: {user_id:?} }}", user.phone()));
    assert!(user.phone().is_some() || user.user_id().is_some());
    user.phone().into_iter().for_each(is_a_phone);
    is_kept(user);
}

fn is_an_x_user(user: &XUser) {
    assert_eq!(format!("{user:?}"), shown("XUser", user.id()).1);
    let stored: XUser = serde_json::from_str(&serde_json::to_string(user).unwrap()).unwrap();
    assert_eq!((stored.id(), stored.handle()), (user.id(), user.handle()));
}

fn is_an_address(address: &Address) {
    let tail = masked(address.expose());
    assert_eq!(address.to_string(), tail);
    let debug = format!("{address:?}");
    let kind = debug.strip_suffix(&tail).and_then(|rest| rest.strip_suffix(':')).unwrap();
    let known = ["conversation", "messenger", "phone", "sender-name", "short-code", "whatsapp", "x"];
    match address {
        Address::Other(other) => assert_eq!(kind, other.medium().as_str()),
        _ => assert!(known.contains(&kind), "{kind}"),
    }
    assert!(address.same_person(address));
    match address {
        Address::WhatsApp(user) => is_a_whatsapp_user(user),
        Address::X(user) => is_an_x_user(user),
        _ => address.as_phone().into_iter().for_each(is_a_phone),
    }
    is_kept(address);
}

fn is_kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).as_ref().ok(), Some(value), "{json}");
}

/// How something personal of this type has to be displayed, and debugged.
fn shown(name: &str, personal: &str) -> (String, String) {
    (masked(personal), format!("{name}({})", masked(personal)))
}

fn masked(personal: &str) -> String {
    let characters: Vec<char> = personal.chars().collect();
    let tail = if characters.len() < 8 { &[] } else { &characters[characters.len() - 3..] };
    tail.iter().fold("…".to_owned(), |text, c| format!("{text}{c}"))
}

// SMS.

/// The laws of counting, cutting, folding and packing a text.
pub fn segments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = text.as_ref();
    for header in [sms::ConcatHeader::Short, sms::ConcatHeader::Long] {
        is_cut(text, header);
    }
    is_counted(text);
    is_folded(text);
    is_packed(data);
    let _ = sms::keyword(text);
    assert_eq!(sms::keyword(&format!("\u{201C}{text}\u{201D} \u{200B}")), sms::keyword(text));
}

fn is_cut(text: &str, header: sms::ConcatHeader) {
    let count = sms::count_with(text, header);
    let parts: Vec<&str> = sms::segments(text, header).collect();
    assert_eq!(parts.concat(), text);
    assert_eq!(parts.len(), count.segments());
    let room = match parts.len() {
        1 => count.encoding().single(),
        _ => count.encoding().part(header),
    };
    for (at, part) in parts.iter().enumerate() {
        assert!(units(part, count.encoding()) <= room);
        // As much goes into each part as there is room for.
        let next = parts.get(at + 1).and_then(|next| next.chars().next());
        assert!(next.is_none_or(|next| units(&format!("{part}{next}"), count.encoding()) > room));
    }
}

fn is_counted(text: &str) {
    let count = sms::count(text);
    let encoded = sms::encode_gsm7(text);
    let costly = sms::costly(text);
    let forces_ucs2 = costly.iter().any(|costly| costly.reason == sms::Cost::ForcesUcs2);
    assert_eq!((count.encoding() == sms::Encoding::Gsm7, !forces_ucs2), (encoded.is_some(), encoded.is_some()));
    assert_eq!(count.units(), units(text, count.encoding()));
    for found in &costly {
        assert_eq!(found.count, text.matches(found.character).count());
        assert_eq!(text.find(found.character), Some(found.first));
    }
    assert!(costly.is_sorted_by_key(|costly| costly.reason));
    if let Some(septets) = encoded {
        assert_eq!(sms::decode_gsm7(&septets), text);
    }
}

fn is_folded(text: &str) {
    let folded = sms::fold(text);
    assert_eq!(sms::fold(&folded), folded);
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    assert_eq!(letters(&folded), letters(text));
    let is_gsm = |text: &str| sms::count(text).encoding() == sms::Encoding::Gsm7;
    assert!(is_gsm(&folded) || !is_gsm(text));
}

fn is_packed(octets: &[u8]) {
    let read = sms::decode_gsm7(octets);
    assert!(read.chars().count() <= octets.len());
    let septets: Vec<u8> = octets.iter().map(|octet| octet & 0x7F).collect();
    let packed = sms::pack(octets);
    assert_eq!(packed.len(), (septets.len() * 7).div_ceil(8));
    // Read back bit by bit, as slowly as the standard describes it.
    let bit = |at: usize| packed[at / 8] >> (at % 8) & 1;
    let septet = |n: usize| (0..7).fold(0, |septet, b| septet | bit(n * 7 + b) << b);
    assert!((0..septets.len()).map(septet).eq(septets));
}

fn units(text: &str, encoding: sms::Encoding) -> usize {
    match encoding {
        sms::Encoding::Gsm7 => sms::encode_gsm7(text).unwrap().len(),
        _ => text.encode_utf16().count(),
    }
}

// What a gateway asks to wait.

/// A `Retry-After` of any kind is a wait of 1 second to 24 hours, or none.
pub fn retry_after(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for now in [Timestamp::default(), NOON, Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX)] {
        let wait = wait(&text, now);
        let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        assert!(wait.is_none_or(|wait| bounds.contains(&wait)), "{wait:?}");
        let number = text.trim();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            let expected = number.parse::<u64>().unwrap_or(u64::MAX).clamp(1, 24 * 3600);
            assert_eq!(wait, Some(Duration::from_secs(expected)));
        }
    }
}

// Configuration.

/// Any configuration is taken or refused, and no refusal shows a value of it.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let json = (Settings::from_json(&text), serde_json::from_str::<Value>(&text).ok());
    let toml = (Settings::from_toml(&text), toml::from_str::<Value>(&text).ok());
    for (settings, value) in [json, toml] {
        let Some(value @ Value::Object(_)) = value else {
            let error = settings.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            continue;
        };
        let settings = settings.unwrap();
        // The files and the environment of the machine are not for a fuzzer to read, and a fuzzer learns what is looked
        // for: as the name of a setting it may be shown.
        let whole = value.to_string();
        if reaches_outside(&value) || whole.contains(CANARY) || whole.contains(CANARY_DIGITS) {
            continue;
        }
        connects_or_says_why(&settings);
        let mut places = Vec::new();
        leaves(&value, String::new(), &mut places);
        for (place, other) in places.iter().zip(places.iter().cycle().skip(1)).take(12) {
            hides(&value, place, other);
        }
    }
}

/// What is planted, and what of it must never be seen.
const CANARY: &str = "9f41c7b2d85e";
const CANARY_DIGITS: &str = "7730990123456";

/// Whatever stands in the place of one value, no error shows it, and no channel shows a secret.
fn hides(settings: &Value, place: &str, other: &str) {
    let beside = settings.pointer(other).and_then(Value::as_str).unwrap_or_default();
    let planted = [
        Value::from(CANARY),
        // Another value is a part of it.
        Value::from(format!("{beside}{CANARY}")),
        // Whoever quotes it has to escape it.
        Value::from(format!("{CANARY}\"{CANARY}")),
        Value::from(vec![CANARY]),
        Value::from(7_730_990_123_456_789_u64),
        Value::from(7.730_990_123_456_789e30),
    ];
    for plant in planted {
        let mut settings = settings.clone();
        *settings.pointer_mut(place).unwrap() = plant;
        let settings = Settings::from_json(&settings.to_string()).unwrap();
        let shown = match Registry::standard().connect(&settings, &context()) {
            Err(error) => format!("{error} {error:?}"),
            Ok(channel) if is_secret(place) => format!("{channel:?}"),
            Ok(_) => continue,
        };
        let seen = shown.contains(CANARY) || shown.contains(CANARY_DIGITS);
        assert!(!seen, "{place} is shown: {shown}");
    }
}

fn connects_or_says_why(settings: &Settings) {
    for outcome in [
        Registry::standard().connect(settings, &context()).map(|channel| vec![channel]),
        Registry::standard().connect_all(settings, &context()).map(|channels| channels.into_values().collect()),
    ] {
        match outcome {
            Ok(channels) => channels.iter().for_each(|channel| assert!(!channel.info().gateway.is_empty())),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        }
    }
}

/// Whether this place in a configuration is a secret's, and not the account's that it owns.
fn is_secret(place: &str) -> bool {
    const SECRETS: [&str; 16] = [
        "access_token",
        "access_token_secret",
        "app_secrets",
        "auth_token",
        "bearer",
        "callback_tokens",
        "client_secret",
        "consumer_key",
        "consumer_secret",
        "previous_auth_tokens",
        "private_key",
        "refresh_token",
        "shared_keys",
        "signature_secrets",
        "verify_token",
        "webhook_secrets",
    ];
    let setting = place.split('/').nth(1).unwrap_or_default();
    SECRETS.contains(&setting) && !place.contains("/accounts")
}

fn reaches_outside(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            let outside = |name| matches!(map.get(name), Some(Value::String(_)));
            map.len() == 1 && (outside("env") || outside("file")) || map.values().any(reaches_outside)
        }
        Value::Array(values) => values.iter().any(reaches_outside),
        _ => false,
    }
}

/// The places of the values that hold no others.
fn leaves(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
            map.iter().for_each(|(name, value)| leaves(value, format!("{place}/{}", escaped(name)), found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| leaves(value, format!("{place}/{at}"), found));
        }
        _ => found.push(place),
    }
}

// Channels without a network.

fn meta_config(secret: &str) -> meta::Config {
    let mut config = meta::Config::new("EAAG-test-token", META_NUMBER).unwrap().app_secret(secret).unwrap();
    config.business_account_id = Some(META_ACCOUNT.into());
    config.verify_token(secret).unwrap()
}

fn meta(secret: &str) -> Meta {
    Meta::whatsapp_with(meta_config(secret), &context()).unwrap()
}

fn messenger(secret: &str) -> Meta {
    let config = meta::Config::for_page("EAAG-page-token", META_PAGE).and_then(|config| config.app_secret(secret));
    Meta::messenger_with(config.unwrap().verify_token(secret).unwrap(), &context()).unwrap()
}

fn x(secret: &str) -> X {
    let keys = civic_messaging::adapter::OAuth1::new("fixture-key", secret, "1900-token", "token-secret").unwrap();
    X::direct_messages_with(x::Config::new(X_USER, keys), &context()).unwrap()
}

fn twilio_config(token: &str) -> twilio::Config {
    twilio::Config::new(TWILIO_ACCOUNT, token).unwrap().public_url(TWILIO_URL).unwrap()
}

fn twilio(token: &str) -> Twilio {
    Twilio::sms_with(twilio_config(token).sender("+447700900456").unwrap(), &context()).unwrap()
}

fn twilio_scheme(token: &str) -> twilio::Signature {
    let owner = SigningSecret::for_accounts(Secret::new(token).unwrap(), [TWILIO_ACCOUNT.into()]);
    twilio::Signature::new(&TWILIO_URL.parse().unwrap(), [owner], [])
}

fn notify(token: &str) -> Notify {
    let config = notify::Config::new(NOTIFY_KEY, NOTIFY_TEMPLATE).unwrap().callback_token(token).unwrap();
    Notify::sms_with(config, &context()).unwrap()
}

fn signing(secret: &str) -> SigningSecret {
    Secret::new(secret).unwrap().into()
}

fn context() -> Context {
    Context::with_transport(Nowhere).clock(VirtualClock::starting_at(NOON))
}

/// The network of a channel that has no reason to use one.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn call(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        panic!("a request of ours, where nothing is sent")
    }
}

/// What a future gives that has nothing to wait for.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits, and there is nothing to wait for"),
    }
}
