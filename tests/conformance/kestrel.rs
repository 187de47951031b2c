//! An invented chat supplier that delivers by webhook or by poll, never both, recognises a repeated send, and charges
//! credits. Its customers choose the proof of its webhooks: a password, or a token in a header.

use std::sync::Arc;
use std::time::Duration;

use civic_messaging::adapter::json::{self, Json, List, Piece, Text};
use civic_messaging::adapter::{self, Answer, Endpoint, VendorError, bearer, delivery_state, lenient};
use civic_messaging::capability::TextLimit;
use civic_messaging::error::ErrorClass;
use civic_messaging::event::{Envelope, Failure, InboundContent, Raw, Unrecognised};
use civic_messaging::message::{Credits, Price};
use civic_messaging::poll::{Cursor, Page};
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Step, Subject, Webhook};
use civic_messaging::webhook::{self, Basic, HeaderToken, Received, Scheme};
use civic_messaging::{
    Accepted, Address, Channel, Content, Context, Delivery, DeliveryState, Error, ErrorKind, Event, Inbound, Info,
    Medium, Message, Result, Secret, async_trait,
};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

#[derive(Debug)]
struct Kestrel {
    info: Info,
    endpoint: Endpoint,
    context: Context,
    token: Secret,
    scheme: Arc<dyn Scheme>,
}

/// The proof of a webhook.
#[derive(Clone, Copy, Debug)]
enum Proof {
    Password,
    Token,
}

const TOKEN: &str = "kestrel-api-token";
const USER: &str = "kestrel-hooks";
const HEADER: &str = "x-kestrel-token";

impl Kestrel {
    fn new(proof: Proof, setup: &Setup) -> Result<Self> {
        let info = Info::new("kestrel", Medium::other("chat")?, "kestrel-desk").with_capability(|can| {
            can.receive = !setup.webhook_secrets.is_empty();
            (can.poll, can.webhook_excludes_poll) = (true, true);
            can.key = true;
            can.idempotency_window = Some(Duration::from_secs(12 * 3600));
            can.text = Some(TextLimit::characters(500));
        });
        let owned = std::slice::from_ref(&info.account);
        let secrets: Vec<_> = setup.webhook_secrets.iter().map(|secret| secret.clone().or_owns(owned)).collect();
        Ok(Self {
            endpoint: Endpoint::new("kestrel", setup.base_url.parse()?, &setup.context, ERRORS, vendor_error),
            context: setup.context.clone(),
            token: Secret::new(TOKEN)?,
            scheme: match proof {
                Proof::Password => Arc::new(Basic::new(USER, secrets)),
                Proof::Token => Arc::new(HeaderToken::new(HeaderName::from_static(HEADER), secrets)),
            },
            info,
        })
    }

    fn headers(&self) -> Result<HeaderMap> {
        Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.token)?)]))
    }
}

#[async_trait]
impl Channel for Kestrel {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let message = self.info.prepare(message, self.context.clock.now())?;
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("Kestrel sends text")) };
        let body = serde_json::json!({ "to": message.to.expose(), "text": text, "reference": message.key });
        let mut headers = self.headers()?;
        if let Some(key) = &message.key {
            let key = HeaderValue::from_bytes(key.as_bytes());
            headers.insert("idempotency-key", key.map_err(|_| Error::invalid("key", "has a control character"))?);
        }
        let answer = self.endpoint.send(self.endpoint.json("/texts", headers, &body)?).await?;
        let mut accepted = answer.accepted(answer.member("id"))?;
        accepted.price = answer.member("credits").and_then(|credits| Credits::parse(&credits).ok()).map(Price::from);
        Ok(accepted)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<Received> {
        adapter::receive(request, &self.info, Some(&*self.scheme), "webhook_secrets", |webhook, events| {
            let Some(owner) = events.channel() else { return };
            let json = Json::new(webhook.body());
            let hook: Hook<'_> = json.read().unwrap_or_default();
            let envelope = events.envelope(&owner, Raw::new(webhook.body().clone()), hook.at());
            events.push(hook.event(envelope));
        })
    }

    async fn poll(&self, after: Option<&Cursor>) -> Result<Page> {
        let after = adapter::segment("after", after.map_or("0", Cursor::as_str))?;
        let answer = self.endpoint.get(&format!("/updates?after={after}"), self.headers()?).await?;
        let json = Json::new(&answer.body);
        let list = json.read::<List<Piece<'_>>>().ok_or_else(|| answer.unreadable())?;
        let (mut events, mut last) = (Vec::new(), None);
        for piece in list.iter() {
            let hook: Hook<'_> = json::read(piece.get()).unwrap_or_default();
            let envelope = self.info.envelope(self.context.clock.now(), Raw::new(json.raw(piece.get())));
            last = hook.n.to_text().or(last);
            events.push(hook.event(envelope.dated(hook.at())));
        }
        Ok(Page::new(events, last.map(Cursor::new)))
    }
}

const ERRORS: &[(&str, ErrorClass)] =
    &[("BARRED", ErrorClass::new(ErrorKind::OptedOut)), ("NO_CREDIT", ErrorClass::new(ErrorKind::Account))];

const STATES: &[(&str, DeliveryState)] =
    &[("SENT", DeliveryState::Sent), ("READ", DeliveryState::Read), ("FAILED", DeliveryState::Failed)];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    answer.member("code").map_or_else(VendorError::default, VendorError::new)
}

lenient! {
    struct Hook<'a> {
        n: Text<'a>,
        id: Text<'a>,
        from: Text<'a>,
        text: Text<'a>,
        status: Text<'a>,
        reference: Text<'a>,
        at: Text<'a>,
    }
}

impl Hook<'_> {
    fn at(&self) -> Option<civic_messaging::Timestamp> {
        self.at.as_deref().and_then(|at| at.parse().ok())
    }

    fn event(&self, envelope: Envelope) -> Event {
        let from = self.from.as_deref().and_then(|from| Address::other(envelope.medium.clone(), from).ok());
        match (self.id.some(), from, self.text.to_text(), self.status.some()) {
            (Some(id), Some(from), Some(text), None) => {
                Inbound::new(envelope, id, from, InboundContent::Text(text)).into()
            }
            (Some(id), None, None, Some(status)) => {
                let state = delivery_state(STATES, status);
                let failure = (state == DeliveryState::Failed).then(|| Failure::new(ErrorKind::Rejected));
                let delivery = Delivery::new(envelope, id, state, status).with_key(self.reference.to_text());
                delivery.with_failure(failure).into()
            }
            _ => Unrecognised::new(envelope, "event").into(),
        }
    }
}

const TEXT: &str =
    r#"{"n":"17","id":"M-1","from":"kite-20931","text":"When is my bin day?","at":"2026-11-18T11:06:40Z"}"#;

impl Proof {
    fn exchanges(self) -> Vec<Exchange> {
        let to = || Address::other(Medium::other("chat").unwrap(), "kite-20931").unwrap();
        let text = || Message::text(to(), "Your collection is on Tuesday.").key("case-4711");
        let written = r#"{"to":"kite-20931","text":"Your collection is on Tuesday.","reference":"case-4711"}"#;
        let post = || Step::post("/texts").bearer(TOKEN);
        let refusal = |status, body| Exchange::send(text()).step(post().answers(status, body));
        vec![
            Exchange::send(text())
                .step(
                    post()
                        .header("idempotency-key", "case-4711")
                        .json(written)
                        .answers(200, r#"{"id":"K-1","credits":"1.5"}"#),
                )
                .accepts(["K-1"]),
            refusal(403, r#"{"code":"BARRED"}"#).fails(ErrorKind::OptedOut).code("BARRED"),
            refusal(402, r#"{"code":"NO_CREDIT"}"#).fails(ErrorKind::Account).code("NO_CREDIT"),
            Exchange::poll(None)
                .step(Step::get("/updates?after=0").bearer(TOKEN).answers(200, format!("[{TEXT}]")))
                .returns_events([ExpectedEvent::text("M-1", "When is my bin day?").from("kite-20931")]),
            // As it answers while a webhook is set.
            Exchange::poll(None).step(Step::any().answers(409, r#"{"code":"WEBHOOK_SET"}"#)).fails(ErrorKind::Rejected),
        ]
    }

    fn webhooks(self) -> Vec<Webhook> {
        let receipt = |status: &str| {
            Webhook::json(format!(r#"{{"n":"18","id":"K-1","status":"{status}","reference":"case-4711"}}"#))
        };
        vec![
            Webhook::json(TEXT).returns_events([ExpectedEvent::text("M-1", "When is my bin day?")
                .from("kite-20931")
                .time("2026-11-18T11:06:40Z".parse().unwrap())]),
            Webhook::json(r#"{"n":"19","id":"M-2","from":"kite-20931","text":"STOP"}"#),
            receipt("SENT"),
            receipt("READ"),
            receipt("FAILED"),
            receipt("PONDERING"),
            Webhook::json(r#"{"n":"20","colour":"green"}"#),
        ]
    }
}

/// Makes a subject with one proof of webhooks.
macro_rules! subject {
    ($module:ident, $proof:expr, $signer:expr) => {
        mod $module {
            use super::*;

            struct Recorded;

            impl Subject for Recorded {
                fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
                    Ok(Arc::new(Kestrel::new($proof, setup)?))
                }

                fn secrets(&self) -> Vec<String> {
                    vec![TOKEN.to_owned()]
                }

                fn signer(&self) -> Signer {
                    $signer
                }

                fn exchanges(&self) -> Vec<Exchange> {
                    $proof.exchanges()
                }

                fn webhooks(&self) -> Vec<Webhook> {
                    $proof.webhooks()
                }
            }

            civic_messaging::conformance_tests!(Recorded);
        }
    };
}

subject!(password, Proof::Password, Signer::basic(USER));
subject!(token, Proof::Token, Signer::header_token(HEADER));
