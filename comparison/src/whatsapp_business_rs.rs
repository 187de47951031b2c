//! whatsapp-business-rs: its client, and its webhook service.

use http::{Request, StatusCode};
use tokio::sync::mpsc;
use whatsapp_business_rs::error::{Error, ServiceError};
use whatsapp_business_rs::message::MessageCreate;
use whatsapp_business_rs::server::{ErrorContext, Event, EventContext};
use whatsapp_business_rs::webhook_service::WebhookServiceBuilder;
use whatsapp_business_rs::{Client, WebhookHandler};

use crate::fake::{Answer, Down, Fake, Wire};
use crate::fault::{long_text, tells_wait, variant, Cell, Fault, Peer, CLIENT_PATIENCE, TEXT, TO};
use crate::webhook::{Webhook, META_NUMBER, META_SECRET, NO_SECRET_OF_OURS};

/// Its feature `test-mode` reads the base URL from this variable at each request, and calls Meta if there is none.
pub const BASE_URL: &str = "API_BASE_URL_FOR_TESTING";

/// One supplier for all rows, because there is one environment.
pub struct WhatsappBusinessRs {
    supplier: Fake,
    unreached: Sent,
}

type Sent = Result<MessageCreate, Error>;

impl WhatsappBusinessRs {
    /// Sends once while the supplier is not up, which a row asks about, and then brings it up.
    pub async fn new(down: Down) -> Self {
        let unreached = send(&down.url(), TEXT).await;
        Self { supplier: down.start(Wire::Meta).await, unreached }
    }

    async fn send(&self, answers: &[Answer], text: &str) -> Sent {
        self.supplier.script(answers);
        send(&self.supplier.url(), text).await
    }
}

impl Peer for WhatsappBusinessRs {
    const NAME: &'static str = "whatsapp-business-rs";
    const CRATES: &'static [&'static str] = &["whatsapp-business-rs"];
    const HOW: &'static str =
        "its client of Meta's Cloud API, built with a time-out of 200 ms, and its `WebhookService`";

    async fn play(&self, fault: Fault) -> Cell {
        match fault {
            Fault::Dropped | Fault::Silent | Fault::OptedOut => Cell::none(NO_FAILOVER),
            Fault::DroppedAlone => {
                let taken = self.send(&[Answer::Drops], TEXT).await;
                Cell::unreached(&reported(&taken), &reported(&self.unreached))
            }
            Fault::TooMany => {
                let result = self.send(&[Answer::TooMany, Answer::Accepts], TEXT).await;
                Cell::wait(&self.supplier, &reported(&result), result.as_ref().is_err_and(tells_wait))
            }
            Fault::ServerError => {
                let failed = self.send(&[Answer::ServerError], TEXT).await;
                let requests = self.supplier.requests();
                let refused = self.send(&[Answer::OptedOut], TEXT).await;
                Cell::failure(requests, &reported(&failed), &reported(&refused))
            }
            Fault::Repeated => repeated().await,
            Fault::Forged => forged(checking()).await,
            Fault::NoSecret => forged(unchecking()).await.note(NO_APP_SECRET),
            Fault::Failed => failed().await,
            Fault::TooLong => {
                let result = self.send(&[Answer::Accepts], &long_text()).await;
                Cell::long(&self.supplier, &reported(&result))
            }
        }
    }
}

const NO_FAILOVER: &str = "It is a client of one supplier, and has no failover.";

const NO_APP_SECRET: &str =
    "Its signature check is turned on by `verify_payload`, as its documentation says; without it, as \
     here, there is none. The row before is with it.";

async fn send(url: &str, text: &str) -> Sent {
    assert_eq!(std::env::var(BASE_URL).as_deref(), Ok(url), "nothing may go anywhere but to loopback");
    let client = Client::builder().timeout(CLIENT_PATIENCE).connect("the-access-token").await?;
    client.message(META_NUMBER).send(TO, text.to_owned()).await
}

/// The error's variant, and what its documentation says is inside: the HTTP status, or reqwest's own error.
fn reported(result: &Sent) -> String {
    match result {
        Ok(_) => "sent".into(),
        Err(Error::Service(error)) => format!("`Service` with HTTP {}", ServiceError::status(error).as_u16()),
        Err(Error::Network(error)) => match error.downcast_ref::<reqwest::Error>() {
            Some(inner) if inner.is_connect() => "`Network` with reqwest's connect error".into(),
            Some(_) => "`Network` with reqwest's error".into(),
            None => "`Network`".into(),
        },
        Err(error) => variant(error),
    }
}

/// As the example of its documentation builds it, with both secrets.
fn checking() -> WebhookServiceBuilder {
    unchecking().verify_payload(META_SECRET)
}

fn unchecking() -> WebhookServiceBuilder {
    WebhookServiceBuilder::new().verify_token("the-verify-token")
}

async fn repeated() -> Cell {
    let webhook = Webhook::message_by_meta(META_SECRET);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (_, events) = receive(checking(), &webhook).await;
        ids.push(events.into_iter().find_map(|event| match event {
            Event::IncomingMessage(message) => Some(message.message.id),
            _ => None,
        }));
    }
    Cell::ids(&ids)
}

async fn forged(service: WebhookServiceBuilder) -> Cell {
    let (status, events) = receive(service, &Webhook::message_by_meta(NO_SECRET_OF_OURS)).await;
    let refusal = events.is_empty().then(|| format!("HTTP {}", status.as_u16()));
    Cell::proof(refusal.as_deref())
}

async fn failed() -> Cell {
    let (status, events) = receive(checking(), &Webhook::failure_by_meta(META_SECRET)).await;
    let event = events.iter().find_map(|event| match event {
        Event::MessageUpdate(update) => {
            let code = update.context.errors.first().map(|error| error.code);
            Some(format!("`MessageUpdate`, `{:?}`, code {}", update.status, code?))
        }
        _ => None,
    });
    Cell::event(event.ok_or(format!("HTTP {}", status.as_u16())))
}

/// What the service answers, and the events that it hands to the program. It hands them over in tasks of their own: the
/// channel ends when the last of them has ended.
async fn receive(service: WebhookServiceBuilder, webhook: &Webhook) -> (StatusCode, Vec<Event>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let service = service.build(Events(sender));
    let (name, proof) = &webhook.proof;
    let request = Request::post("/").header("content-type", webhook.content_type).header(*name, proof);
    let answer = service.handle(request.body(webhook.body.clone()).expect("a request")).await;
    drop(service);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    (answer.status(), events)
}

struct Events(mpsc::UnboundedSender<Event>);

impl WebhookHandler for Events {
    async fn handle(&self, _context: EventContext, event: Event) {
        _ = self.0.send(event);
    }

    /// The status says it, and nothing else is printed here.
    async fn handle_error(&self, _context: ErrorContext, _error: Box<dyn std::error::Error + Send>) {}
}
