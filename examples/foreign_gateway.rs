//! A gateway that this crate does not know, written in a crate of your own and chosen from TOML like the built-in ones.
//!
//! "Acme" is invented: JSON to send, an HMAC on its webhooks. Three methods, and it is a channel.

use std::sync::Arc;

use civic_messaging::async_trait;
use civic_messaging::endpoint::{Answer, VendorError, bearer};
use civic_messaging::event::{Envelope, Raw};
use civic_messaging::webhook::{self, Encoding, HmacSha256, Opened, Received, SigningSecret};
use civic_messaging::{
    Accepted, Address, BaseUrl, Channel, ChannelExt, Class, Content, Context, Delivery, DeliveryState, Endpoint, Error,
    ErrorKind, Event, Inbound, InboundContent, Info, Medium, Message, Registry, Result, Secret, Settings, TextLimit,
    Unrecognised,
};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    token: Secret,
    #[serde(deserialize_with = "webhook::secrets")]
    webhook_secrets: Vec<SigningSecret>,
    base_url: BaseUrl,
}

#[derive(Debug)]
struct Acme {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    token: Secret,
    scheme: HmacSha256,
}

/// What the registry calls.
fn connect(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>> {
    let config: Config = settings.read()?;
    let info = Info::new("acme", Medium::Sms, "acme-desk").with_capability(|can| {
        can.receive = true;
        can.text = Some(TextLimit::segments(4));
    });
    let secrets = config.webhook_secrets.into_iter().map(|secret| secret.or_owns(std::slice::from_ref(&info.account)));
    Ok(Arc::new(Acme {
        endpoint: Endpoint::new("acme", config.base_url, context, ERRORS, vendor_error),
        context: context.clone(),
        token: config.token,
        scheme: HmacSha256::new(HeaderName::from_static("x-acme-signature"), "", Encoding::Hex, secrets),
        info,
    }))
}

#[async_trait]
impl Channel for Acme {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("Acme sends text")) };
        let body = serde_json::json!({ "to": message.to.expose(), "text": text, "reference": message.key });
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.token)?)]);
        let answer = self.endpoint.send(self.endpoint.json("/messages", headers, &body)?).await?;
        Ok(Accepted::new("acme", answer.json::<Taken>()?.id, answer.body))
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        let Opened::Verified(verified) = request.open(&self.scheme)? else {
            return Err(Error::unsupported("Acme has no handshake"));
        };
        let raw = Raw::whole(verified.body().clone());
        let envelope = Envelope::new("acme", Medium::Sms, self.info.account.clone(), verified.arrived(), raw);
        let event = match serde_json::from_slice::<Hook>(verified.body()) {
            Ok(hook) => hook.event(envelope),
            Err(_) => Unrecognised::new(envelope, "body").into(),
        };
        Ok(Received::new(vec![event]))
    }
}

/// What Acme's codes mean.
const ERRORS: &[(&str, Class)] =
    &[("BARRED", Class::new(ErrorKind::OptedOut)), ("BUSY", Class::new(ErrorKind::RateLimited).retry(None))];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    match serde_json::from_slice::<Refused>(&answer.body) {
        Ok(refused) => VendorError::new(refused.code),
        Err(_) => VendorError::default(),
    }
}

#[derive(Deserialize)]
struct Taken {
    id: String,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
}

/// A text from a resident, or how far a message of ours has got.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hook {
    Text { id: String, from: String, text: String },
    Status { id: String, status: String },
}

impl Hook {
    fn event(self, envelope: Envelope) -> Event {
        match self {
            Self::Text { id, from, text } => match Address::phone(&from) {
                Ok(from) => Inbound::new(envelope, id, from, InboundContent::Text(text)).into(),
                Err(_) => Unrecognised::new(envelope, "text").into(),
            },
            Self::Status { id, status } => {
                let state = match status.as_str() {
                    "SENT" => DeliveryState::Sent,
                    "DELIVERED" => DeliveryState::Delivered,
                    "FAILED" => DeliveryState::Failed,
                    _ => DeliveryState::Unrecognised,
                };
                Delivery::new(envelope, id, state, status).into()
            }
        }
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // A stand-in for Acme, on loopback.
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers};
    let acme = MockServer::start().await;
    let taken = ResponseTemplate::new(200).set_body_json(serde_json::json!({ "id": "A-1" }));
    Mock::given(matchers::path("/messages")).respond_with(taken).up_to_n_times(1).mount(&acme).await;
    let barred = ResponseTemplate::new(403).set_body_json(serde_json::json!({ "code": "BARRED" }));
    Mock::given(matchers::path("/messages")).respond_with(barred).mount(&acme).await;

    // Chosen from TOML, as a built-in gateway would be.
    let settings = Settings::from_toml(&format!(
        r#"
        gateway = "acme"
        medium = "sms"
        token = "example-token"
        webhook_secrets = ["old-example-secret", "new-example-secret"]
        base_url = "{}"
        "#,
        acme.uri()
    ))?;
    let channel = Registry::standard().with("acme", connect).connect(&settings, &Context::new())?;

    let resident = Address::phone("07700 900123")?;
    println!("accepted: {:?}", channel.send_text(&resident, "Your collection is on Tuesday.").await?);
    let error = channel.send_text(&resident, "And again.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OptedOut);
    println!("rejected: {error}");

    let forged = http::Request::post("/").header("x-acme-signature", "00").body(r#"{"id":"1"}"#)?;
    let refused = channel.receive(&forged.into()).await.unwrap_err();
    assert_eq!(refused.reply(), 403);
    println!("refused:  {refused}");

    let signed = |hook: &'static str| -> std::result::Result<webhook::Request, Box<dyn std::error::Error>> {
        let header = HeaderName::from_static("x-acme-signature");
        let secret = SigningSecret::new(Secret::new("new-example-secret")?);
        let signer = HmacSha256::new(header.clone(), "", Encoding::Hex, [secret]);
        let signature = signer.sign(hook.as_bytes()).unwrap_or_default();
        Ok(http::Request::post("/").header(header, signature).body(hook)?.into())
    };
    let received = channel.receive(&signed(r#"{"id":"1","from":"+447700900123","text":"STOP"}"#)?).await?;
    assert!(matches!(received.events.as_slice(), [Event::Inbound(_), Event::OptOut(_)]));
    assert_eq!(received.to_answer().count(), 0);
    println!("received: {} events, a STOP that nobody answers", received.events.len());

    let received = channel.receive(&signed(r#"{"id":"A-1","status":"DELIVERED"}"#)?).await?;
    let delivery = received.events[0].as_delivery().ok_or("no delivery")?;
    println!("received: {} is now {:?}", delivery.id().ok_or("no id")?, delivery.state);
    Ok(())
}
