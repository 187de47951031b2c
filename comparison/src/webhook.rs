//! Webhooks as the vendors post them, signed as the vendors sign: with code of this program, and of none of the peers.

use base64::prelude::{Engine, BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// The configured webhook URL. The webhook is passed in memory.
pub const TWILIO_URL: &str = "https://sms.example.gov.uk/webhooks/sms";

/// The same in two pieces: what is configured, and what a request brings.
pub const TWILIO_BASE: &str = "https://sms.example.gov.uk";
pub const TWILIO_PATH: &str = "/webhooks/sms";

/// The account at Twilio, and its token, which signs.
pub const TWILIO_ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const TWILIO_TOKEN: &str = "the-auth-token-of-the-account";

/// The number at Meta, and the secret of the app, which signs.
pub const META_NUMBER: &str = "200000000000001";
pub const META_SECRET: &str = "the-secret-of-the-meta-app";

/// A secret of nobody's: what it signs is forged.
pub const NO_SECRET_OF_OURS: &str = "the-secret-of-somebody-else";

/// A webhook: its body, and the header that proves it.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub content_type: &'static str,
    pub proof: (&'static str, String),
    pub body: Vec<u8>,
}

impl Webhook {
    /// A text message from a resident, by Twilio.
    pub fn message_by_twilio(secret: &str) -> Self {
        Self::by_twilio(
            secret,
            &[
                ("AccountSid", TWILIO_ACCOUNT),
                ("ApiVersion", "2010-04-01"),
                ("Body", "When is my bin collected?"),
                ("From", "+447700900123"),
                ("MessageSid", "SM22222222222222222222222222222222"),
                ("NumMedia", "0"),
                ("NumSegments", "1"),
                ("SmsMessageSid", "SM22222222222222222222222222222222"),
                ("SmsSid", "SM22222222222222222222222222222222"),
                ("SmsStatus", "received"),
                ("To", "+447700900456"),
            ],
        )
    }

    /// The news that a message of ours was not delivered, by Twilio.
    pub fn failure_by_twilio(secret: &str) -> Self {
        Self::by_twilio(
            secret,
            &[
                ("AccountSid", TWILIO_ACCOUNT),
                ("ApiVersion", "2010-04-01"),
                ("ErrorCode", "30003"),
                ("From", "+447700900456"),
                ("MessageSid", "SM11111111111111111111111111111111"),
                ("MessageStatus", "undelivered"),
                ("SmsSid", "SM11111111111111111111111111111111"),
                ("SmsStatus", "undelivered"),
                ("To", "+447700900123"),
            ],
        )
    }

    /// A WhatsApp message from a resident, by Meta.
    pub fn message_by_meta(secret: &str) -> Self {
        Self::by_meta(secret, include_str!("../../tests/fixtures/whatsapp/inbound/text.json"))
    }

    /// The news that a message of ours was not delivered, by Meta.
    pub fn failure_by_meta(secret: &str) -> Self {
        Self::by_meta(secret, include_str!("../../tests/fixtures/whatsapp/status/failed_131026_undeliverable.json"))
    }

    /// An HMAC-SHA1 of the address and of the fields in the order of their names, in which they are written here.
    fn by_twilio(secret: &str, form: &[(&str, &str)]) -> Self {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any key will do");
        mac.update(TWILIO_URL.as_bytes());
        for (name, value) in form {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        Self {
            content_type: "application/x-www-form-urlencoded",
            proof: ("x-twilio-signature", BASE64_STANDARD.encode(mac.finalize().into_bytes())),
            body: form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish().into_bytes(),
        }
    }

    /// An HMAC-SHA256 of the body.
    fn by_meta(secret: &str, body: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
        mac.update(body.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            content_type: "application/json",
            proof: ("x-hub-signature-256", format!("sha256={hex}")),
            body: body.as_bytes().to_vec(),
        }
    }
}
