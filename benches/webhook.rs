//! What a webhook costs, against the same verified and parsed by hand.
//!
//! By hand means: the signature's hexadecimal or base64, the HMAC keyed with `new_from_slice` for each webhook, as
//! examples have it, typed serde with owned strings for every field of the body, and each message cut out as it stands.
//! Ours gives events beyond that: typed addresses, times, ownership, the words of an opt-out.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};

use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Channel, Result};

#[path = "common/mod.rs"]
mod common;

fn main() {
    #[cfg(feature = "meta")]
    whatsapp::main();
    #[cfg(feature = "twilio")]
    twilio::main();
}

/// What a webhook turns out to be. To receive waits for nothing, so it is ready at once.
fn receive(channel: &dyn Channel, request: &Request) -> Result<Received> {
    match channel.receive(request).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(received) => received,
        Poll::Pending => unreachable!("it waits for something"),
    }
}

#[cfg(feature = "meta")]
mod whatsapp {
    use civic_messaging::transport::NoTransport;
    use civic_messaging::{Context, Meta, meta};
    use hmac::{Hmac, KeyInit, Mac};
    use serde::Deserialize;
    use serde_json::value::RawValue;
    use sha2::Sha256;

    use super::common::{Pairs, Target, header, rounds};
    use super::{Request, black_box, receive};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const TEXT: &str = include_str!("../tests/fixtures/whatsapp/inbound/text.json");
    const STATUS: &str = include_str!("../tests/fixtures/whatsapp/status/delivered_pmp_regular_utility.json");

    pub(super) fn main() {
        let config = meta::Config::new("EAAG-system-user-token", "200000000000001").and_then(|c| c.app_secret(SECRET));
        let context = Context::with_transport(NoTransport);
        let meta = config.and_then(|config| Meta::whatsapp_with(config, &context)).expect("a channel");
        let keyed = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");

        header("a webhook of WhatsApp: verify and parse", "by hand", "ns");
        let one = one();
        let batch = batch();
        for (name, body, calls, target) in [
            (format!("a text, {} bytes", one.len()), &one, 200, 1.15),
            (format!("a batch of 118, {} bytes", batch.len()), &batch, 2, 1.00),
        ] {
            let signature = sign(body);
            let request = request(body, &signature);
            let count = receive(&meta, &request).expect("it is signed").events.len();
            assert_eq!(by_hand(&signature, body).map(|hook| hook.count()), Some(count));
            let ours = || receive(&meta, black_box(&request));
            let floor = || by_hand(black_box(&signature), black_box(body));
            Pairs::time(rounds(401), calls, ours, floor).print(&name, Target::Times(target));
            let floor = || keyed_once(&keyed, black_box(&signature), black_box(body));
            Pairs::time(rounds(201), calls, ours, floor).print("  against a key made once", Target::None);
        }

        header("a refused webhook of WhatsApp", "HMAC", "ns");
        for (name, body, calls) in [("608 bytes", &one, 200), ("60 KB", &batch, 10)] {
            let wrong = sign(b"another body");
            let request = request(body, &wrong);
            assert!(receive(&meta, &request).is_err() && by_hand(&wrong, body).is_none());
            let ours = || receive(&meta, black_box(&request));
            let floor = || verify(black_box(&wrong), black_box(body));
            Pairs::time(rounds(401), calls, ours, floor).print(name, Target::Plus(250.0));
        }
    }

    /// A text, without white space, as Meta sends it: 608 bytes.
    fn one() -> Vec<u8> {
        const QUESTION: &str = "When is my bin collected?";
        let longer = format!("{QUESTION} It was not on Tuesday, and it is still out in Mill Lane, by the gate of 9.");
        let body = compact(TEXT).replace(QUESTION, &longer).into_bytes();
        assert_eq!(body.len(), 608);
        body
    }

    /// What Meta sends when there is much to tell: texts and deliveries of 118 people in one body.
    fn batch() -> Vec<u8> {
        let change = |n: usize| {
            let text = n % 5 < 2;
            let of = if text { TEXT } else { STATUS };
            let id = format!("wamid.HBgMNDQ3NzAwOTAw{n:04}FQIAEhgUM0E5QUYwRTY4");
            let states = ["sent", "delivered", "read"];
            let of = of
                .replace("447700900123", &format!("447700900{n:03}"))
                .replace("GB.10000000000000000001", &format!("GB.1000000000000000{n:04}"))
                .replace("wamid.FIXTURE_IN_0001", &id)
                .replace("wamid.FIXTURE_OUT_0001", &id)
                .replace("\"delivered\"", &format!("\"{}\"", states[n % 3]));
            let of = compact(&of);
            let (_, change) = of.split_once("\"changes\":[").expect("a change");
            change.strip_suffix("]}]}").expect("one change").to_owned()
        };
        let changes: Vec<_> = (0..118).map(change).collect();
        let before = r#"{"object":"whatsapp_business_account","entry":[{"id":"100000000000001","changes":["#;
        format!("{before}{}]}}]}}", changes.join(",")).into_bytes()
    }

    /// A fixture without its white space, its members in the order in which Meta writes them.
    fn compact(json: &str) -> String {
        json.lines().map(str::trim).collect::<String>().replace("\": ", "\":")
    }

    fn request(body: &[u8], signature: &str) -> Request {
        let request = http::Request::post("/webhooks/whatsapp").header("x-hub-signature-256", signature);
        request.body(body.to_vec()).expect("a request").into()
    }

    fn sign(body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(body);
        mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn by_hand(signature: &str, body: &[u8]) -> Option<Hook> {
        verify(signature, body)?;
        read(body)
    }

    /// The body, and each message and status with the piece that it stands in.
    fn read(body: &[u8]) -> Option<Hook> {
        let mut hook: Hook = serde_json::from_slice(body).ok()?;
        for value in hook.entry.iter_mut().flat_map(|entry| &mut entry.changes).map(|change| &mut change.value) {
            for piece in &value.messages {
                hook.messages.push(serde_json::from_str(piece.get()).ok()?);
            }
            for piece in &value.statuses {
                hook.statuses.push(serde_json::from_str(piece.get()).ok()?);
            }
        }
        Some(hook)
    }

    fn verify(signature: &str, body: &[u8]) -> Option<()> {
        let signature = unhex(signature.strip_prefix("sha256=")?)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).ok()?;
        mac.update(body);
        mac.verify_slice(&signature).ok()
    }

    fn keyed_once(mac: &Hmac<Sha256>, signature: &str, body: &[u8]) -> Option<Hook> {
        let signature = unhex(signature.strip_prefix("sha256=")?)?;
        let mut mac = mac.clone();
        mac.update(body);
        mac.verify_slice(&signature).ok()?;
        read(body)
    }

    fn unhex(text: &str) -> Option<[u8; 32]> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        if pairs.len() != 32 {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(bytes)
    }

    #[derive(Deserialize)]
    struct Hook {
        object: String,
        entry: Vec<Entry>,
        #[serde(skip)]
        messages: Vec<Message>,
        #[serde(skip)]
        statuses: Vec<Status>,
    }

    impl Hook {
        fn count(&self) -> usize {
            assert_eq!(self.object, "whatsapp_business_account");
            self.messages.len() + self.statuses.len()
        }
    }

    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "id")]
        _id: String,
        changes: Vec<Change>,
    }

    #[derive(Deserialize)]
    struct Change {
        value: Value,
        #[serde(rename = "field")]
        _field: String,
    }

    #[derive(Deserialize)]
    struct Value {
        #[serde(rename = "messaging_product")]
        _messaging_product: String,
        #[serde(rename = "metadata")]
        _metadata: Metadata,
        #[serde(rename = "contacts", default)]
        _contacts: Vec<Contact>,
        #[serde(default)]
        messages: Vec<Box<RawValue>>,
        #[serde(default)]
        statuses: Vec<Box<RawValue>>,
    }

    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "display_phone_number")]
        _display_phone_number: String,
        #[serde(rename = "phone_number_id")]
        _phone_number_id: String,
    }

    #[derive(Deserialize)]
    struct Contact {
        #[serde(rename = "profile")]
        _profile: Profile,
        #[serde(rename = "wa_id")]
        _wa_id: String,
        #[serde(rename = "user_id")]
        _user_id: Option<String>,
    }

    #[derive(Deserialize)]
    struct Profile {
        #[serde(rename = "name")]
        _name: String,
    }

    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "from")]
        _from: String,
        #[serde(rename = "from_user_id")]
        _from_user_id: Option<String>,
        #[serde(rename = "id")]
        _id: String,
        #[serde(rename = "timestamp")]
        _timestamp: String,
        #[serde(rename = "type")]
        _kind: String,
        #[serde(rename = "text")]
        _text: Option<Text>,
    }

    #[derive(Deserialize)]
    struct Text {
        #[serde(rename = "body")]
        _body: String,
    }

    #[derive(Deserialize)]
    struct Status {
        #[serde(rename = "id")]
        _id: String,
        #[serde(rename = "status")]
        _status: String,
        #[serde(rename = "timestamp")]
        _timestamp: String,
        #[serde(rename = "recipient_id")]
        _recipient_id: String,
        #[serde(rename = "recipient_user_id")]
        _recipient_user_id: Option<String>,
        #[serde(rename = "pricing")]
        _pricing: Option<Pricing>,
    }

    #[derive(Deserialize)]
    struct Pricing {
        #[serde(rename = "billable")]
        _billable: bool,
        #[serde(rename = "pricing_model")]
        _pricing_model: String,
        #[serde(rename = "type")]
        _kind: String,
        #[serde(rename = "category")]
        _category: String,
    }
}

#[cfg(feature = "twilio")]
mod twilio {
    use std::borrow::Cow;

    use base64::prelude::{BASE64_STANDARD, Engine};
    use civic_messaging::transport::NoTransport;
    use civic_messaging::{Context, Twilio, twilio};
    use hmac::{Hmac, KeyInit, Mac};
    use sha1::Sha1;

    use super::common::{Pairs, Target, header, rounds};
    use super::{Request, black_box, receive};

    const TOKEN: &str = "12345678901234567890123456789012";
    const URL: &str = "https://sms.example.gov.uk";
    const PATH: &str = "/twilio/inbound";

    pub(super) fn main() {
        let config = twilio::Config::new("ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", TOKEN)
            .and_then(|config| config.sender("+447700900456"))
            .and_then(|config| config.public_url(URL));
        let context = Context::with_transport(NoTransport);
        let twilio = config.and_then(|config| Twilio::sms_with(config, &context)).expect("a channel");

        let form = form("When is my bin collected? It was not on Tuesday.");
        let signature = sign(&form);
        let request = |signature: &str| -> Request {
            let request = http::Request::post(PATH).header("x-twilio-signature", signature);
            request.body(form.clone().into_bytes()).expect("a request").into()
        };
        let right = request(&signature);
        assert_eq!(receive(&twilio, &right).expect("it is signed").events.len(), 1);
        assert!(by_hand(&signature, &form).is_some_and(|sms| sms.text.starts_with("When")));
        header("a webhook of Twilio: verify and parse", "by hand", "ns");
        let ours = || receive(&twilio, black_box(&right));
        let floor = || by_hand(black_box(&signature), black_box(&form));
        Pairs::time(rounds(401), 200, ours, floor).print(&format!("a text, {} bytes", form.len()), Target::Times(1.15));

        let wrong = sign("another=form");
        let refused = request(&wrong);
        assert!(receive(&twilio, &refused).is_err() && by_hand(&wrong, &form).is_none());
        let ours = || receive(&twilio, black_box(&refused));
        let floor = || by_hand(black_box(&wrong), black_box(&form));
        // Two spellings of the address may have been signed, with the port and without: ours tries both.
        Pairs::time(rounds(401), 200, ours, floor).print("refused", Target::None);
    }

    fn form(text: &str) -> String {
        let message = "SM11111111111111111111111111111111";
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("ToCountry", "GB"),
            ("ToState", ""),
            ("SmsMessageSid", message),
            ("NumMedia", "0"),
            ("ToCity", ""),
            ("FromZip", ""),
            ("SmsSid", message),
            ("FromState", ""),
            ("SmsStatus", "received"),
            ("FromCity", ""),
            ("Body", text),
            ("FromCountry", "GB"),
            ("To", "+447700900456"),
            ("ToZip", ""),
            ("NumSegments", "1"),
            ("MessageSid", message),
            ("AccountSid", "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ("From", "+447700900123"),
            ("ApiVersion", "2010-04-01"),
        ] {
            form.append_pair(name, value);
        }
        form.finish()
    }

    /// The fields that a service reads.
    struct Sms {
        _from: String,
        _to: String,
        text: String,
        _id: String,
    }

    fn by_hand(signature: &str, form: &str) -> Option<Sms> {
        let signature = BASE64_STANDARD.decode(signature).ok()?;
        let fields = fields(form);
        mac(&fields).verify_slice(&signature).ok()?;
        let field = |name| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_string());
        Some(Sms { _from: field("From")?, _to: field("To")?, text: field("Body")?, _id: field("MessageSid")? })
    }

    fn sign(form: &str) -> String {
        BASE64_STANDARD.encode(mac(&fields(form)).finalize().into_bytes())
    }

    fn fields(form: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let mut fields: Vec<_> = form_urlencoded::parse(form.as_bytes()).collect();
        fields.sort();
        fields
    }

    fn mac(fields: &[(Cow<'_, str>, Cow<'_, str>)]) -> Hmac<Sha1> {
        let mut mac = Hmac::<Sha1>::new_from_slice(TOKEN.as_bytes()).expect("a key");
        mac.update(URL.as_bytes());
        mac.update(PATH.as_bytes());
        for (name, value) in fields {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        mac
    }
}
