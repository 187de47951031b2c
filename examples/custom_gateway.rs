//! An adapter for another gateway, in one file, as `examples/new_adapter` writes it: copy it, and change what differs for
//! your supplier.
//!
//! "Severn" is a fictitious UK supplier of text messages. It accepts JSON with a bearer token, signs its webhooks with
//! HMAC-SHA256 of the body, and posts inbound messages and delivery states. The adapter comes first; `mod recorded` has
//! the recorded exchanges and the conformance suite: `cargo test --example custom_gateway --all-features`.

use std::sync::Arc;

use civic_messaging::adapter::bearer;
use civic_messaging::adapter::json::{Json, Text};
use civic_messaging::adapter::lenient;
use civic_messaging::adapter::{self, Answer, Endpoint, VendorError, delivery_state};
use civic_messaging::capability::TextLimit;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{Envelope, Failure, InboundContent, Raw, Unrecognised};
use civic_messaging::transport::BaseUrl;
use civic_messaging::webhook::{self, HmacSha256, Received, SignatureEncoding, SigningSecret};
use civic_messaging::{
    Accepted, Address, Channel, Content, Context, Delivery, DeliveryState, Error, ErrorKind, Event, Inbound, Info,
    Medium, Message, Result, Secret, Settings, async_trait,
};
use http::HeaderName;
use http::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

/// The settings of a channel, as in the council's configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The token of the API.
    pub api_token: Secret,
    /// Our phone number, as the supplier writes it: the sender, and the owner of events.
    pub sender: String,
    /// The secrets that sign webhooks: several during a rotation.
    #[serde(default, deserialize_with = "webhook::secrets")]
    pub webhook_secrets: Vec<SigningSecret>,
    /// The base URL of the API, for tests.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

/// A channel through Severn.
#[derive(Debug)]
pub struct Severn {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    api_token: Secret,
    scheme: HmacSha256,
}

impl Severn {
    /// Creates the channel.
    pub fn new(config: Config, context: &Context) -> Result<Self> {
        let base = config.base_url.map_or_else(|| "https://api.severn.example".parse(), Ok)?;
        let info = Info::new("severn", Medium::Sms, config.sender).with_capability(|can| {
            can.receive = !config.webhook_secrets.is_empty();
            can.delivery_status = can.receive;
            can.key = true;
            can.text = Some(TextLimit::segments(6));
        });
        let owned = std::slice::from_ref(&info.account);
        let secrets = config.webhook_secrets.into_iter().map(|secret| secret.or_owns(owned));
        let header = HeaderName::from_static("x-severn-signature");
        let scheme = HmacSha256::new(header, "", SignatureEncoding::Hex, secrets);
        Ok(Self {
            endpoint: Endpoint::new("severn", base, context, ERRORS, vendor_error),
            context: context.clone(),
            api_token: config.api_token,
            scheme,
            info,
        })
    }
}

/// The constructor for the registry: `Registry::standard().register("severn", connect)`.
pub fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    Ok(Arc::new(Severn::new(settings.read()?, context)?))
}

#[async_trait]
impl Channel for Severn {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?; // checks limits before the network
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("Severn sends text")) };
        let (from, to) = (self.info.account.as_str(), message.to.expose());
        let path = "/v1/messages";
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.api_token)?)]);
        let body = serde_json::json!({ "from": from, "to": to, "text": text, "reference": message.key });
        let request = self.endpoint.json(path, headers, &body)?;
        let answer = self.endpoint.send(request).await?;
        answer.accepted(answer.member("id")) // without an id, the outcome is unknown
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        // The contents can be read only after the scheme verified the request.
        adapter::receive(request, &self.info, Some(&self.scheme), "webhook_secrets", |webhook, events| {
            let json = Json::new(webhook.body());
            let hook: Hook<'_> = json.read().unwrap_or_default();
            // An event of another account, or of none, is discarded.
            let Some(owner) = events.owner(hook.number.as_deref(), 1) else { return };
            let at = hook.at.as_deref().and_then(|at| at.parse().ok());
            // The body is one event. In a batch, each event keeps its own piece only.
            let envelope = events.envelope(&owner, Raw::new(webhook.body().clone()), at);
            events.push(hook.event(envelope));
        })
    }
}

/// The error codes, from the supplier's documentation. TODO: these are invented.
const ERRORS: &[(&str, ErrorClass)] = &[
    ("BARRED", ErrorClass::new(ErrorKind::OptedOut)),
    ("BUSY", ErrorClass::new(ErrorKind::RateLimited).retry(None).not_accepted()),
    ("NO_CREDIT", ErrorClass::new(ErrorKind::Account)),
    ("NO_SUCH_NUMBER", ErrorClass::new(ErrorKind::InvalidRecipient)),
];

/// The delivery statuses. TODO: these are invented.
const STATES: &[(&str, DeliveryState)] =
    &[("SENT", DeliveryState::Sent), ("DELIVERED", DeliveryState::Delivered), ("FAILED", DeliveryState::Failed)];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    answer.member("code").map_or_else(VendorError::default, VendorError::new)
}

/// Returns the address of a person, as the supplier writes it.
fn person(id: &str) -> Option<Address> {
    Address::sms_sender(id) // a number with or without a plus, a short code, or a name
}

lenient! {
    /// An inbound message or a delivery state. Any field may be missing or malformed.
    struct Hook<'a> {
        id: Text<'a>,
        number: Text<'a>,
        from: Text<'a>,
        text: Text<'a>,
        status: Text<'a>,
        reference: Text<'a>,
        at: Text<'a>,
    }
}

impl Hook<'_> {
    fn event(&self, envelope: Envelope) -> Event {
        let from = self.from.as_deref().and_then(person);
        match (self.id.some(), from, self.text.to_text(), self.status.some()) {
            (Some(id), Some(from), Some(text), _) => {
                Inbound::new(envelope, id, from, InboundContent::Text(text)).into()
            }
            (Some(id), None, None, Some(status)) => {
                let state = delivery_state(STATES, status);
                // Where the supplier gives a code, `Endpoint::failure` looks it up in the table of errors.
                let failure = (state == DeliveryState::Failed).then(|| Failure::new(ErrorKind::Rejected));
                let delivery = Delivery::new(envelope, id, state, status).with_key(self.reference.to_text());
                delivery.with_failure(failure).into()
            }
            _ => Unrecognised::new(envelope, "webhook").into(), // kept as raw data, and answered 200
        }
    }
}

// ---- In your own crate, move the content of this module to tests/conformance.rs, with your crate in place of `super`. ----

#[allow(unreachable_pub)]
mod recorded {
    use std::sync::Arc;

    use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
    use civic_messaging::webhook::SignatureEncoding;
    use civic_messaging::{Address, Channel, ErrorKind, Message, Result, Secret};

    pub struct Recorded;

    impl Subject for Recorded {
        fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
            let config = super::Config {
                api_token: Secret::new("severn-api-token")?,
                sender: "+447700900456".to_owned(),
                webhook_secrets: setup.webhook_secrets.clone(),
                base_url: Some(setup.base_url.parse()?),
            };
            Ok(Arc::new(super::Severn::new(config, &setup.context)?))
        }

        fn secrets(&self) -> Vec<String> {
            vec!["severn-api-token".to_owned()]
        }

        fn signer(&self) -> Signer {
            Signer::hmac_sha256("x-severn-signature", "", SignatureEncoding::Hex)
        }

        fn exchanges(&self) -> Vec<Exchange> {
            let resident = Address::phone("07700 900123").unwrap();
            let text = || Message::text(resident.clone(), "Your collection is on Tuesday.").key("case-4711");
            let refusal = |status, body| Exchange::send(text()).step(Step::any().answers(status, body));
            vec![
                Exchange::send(text())
                    .step(
                        Step::post("/v1/messages")
                            .bearer("severn-api-token")
                            .json(
                                r#"{ "from": "+447700900456", "to": "+447700900123",
                                 "text": "Your collection is on Tuesday.", "reference": "case-4711" }"#,
                            )
                            .answers(202, r#"{ "id": "out-0000001" }"#),
                    )
                    .accepts(["out-0000001"]),
                refusal(403, r#"{ "code": "BARRED" }"#).fails(ErrorKind::OptedOut).code("BARRED"),
                refusal(400, r#"{ "code": "NO_SUCH_NUMBER" }"#).fails(ErrorKind::InvalidRecipient),
                refusal(402, r#"{ "code": "NO_CREDIT" }"#).fails(ErrorKind::Account),
                refusal(503, r#"{ "code": "BUSY" }"#).fails(ErrorKind::RateLimited).retryable(),
            ]
        }

        /// The snapshot holds every field of every event. The sender is stated here: a reply goes to that address.
        fn webhooks(&self) -> Vec<Webhook> {
            let first = ExpectedEvent::text("in-0000001", "When is my bin day?").from("+447700900123");
            let hook = |account: &str, fields: &str| {
                Webhook::json(format!(r#"{{ {fields}, "number": "{account}", "at": "2026-11-22T13:46:42Z" }}"#))
            };
            let ours = |fields: &str| hook("+447700900456", fields);
            vec![
                ours(r#""id": "in-0000001", "from": "+447700900123", "text": "When is my bin day?""#)
                    .returns_events([first]),
                ours(r#""id": "in-0000002", "from": "+447700900123", "text": "STOP""#),
                ours(r#""id": "out-0000001", "status": "SENT", "reference": "case-4711""#),
                ours(r#""id": "out-0000001", "status": "DELIVERED", "reference": "case-4711""#),
                ours(r#""id": "out-0000002", "status": "FAILED""#),
                ours(r#""id": "out-0000002", "status": "PONDERING""#),
                ours(r#""colour": "green""#),
                hook("another", r#""id": "in-0000003", "from": "+447700900123", "text": "Hello""#).discards(1),
            ]
        }
    }

    #[cfg(test)]
    civic_messaging::conformance_tests!(Recorded);
}

// ---- Runs the suite without a test harness; your crate does not need it. -------------------------------------------------

#[tokio::main]
async fn main() {
    let report = civic_messaging::testing::conformance(&recorded::Recorded).await;
    println!("{report}");
    report.assert_good();
}
