//! smskit: its Twilio client, its `FallbackClient` over two of them, and its Twilio webhooks.

use std::sync::Arc;

use sms_core::{
    FallbackClient, Headers, InboundMessage, InboundWebhook, SendRequest, SendResponse, SmsClient, SmsError,
};
use sms_twilio::TwilioClient;
use tokio::time::timeout;

use crate::fake::{Answer, Down, Fake, Wire};
use crate::fault::{
    long_text, reported, tells_wait, variant, Cell, Fault, Peer, FROM, NOTHING, NOWHERE, PATIENCE, TEXT, TO,
};
use crate::webhook::{Webhook, NO_SECRET_OF_OURS, TWILIO_ACCOUNT, TWILIO_TOKEN, TWILIO_URL};

pub struct Smskit;

impl Peer for Smskit {
    const NAME: &'static str = "smskit";
    const CRATES: &'static [&'static str] = &["sms-core", "sms-twilio"];
    const HOW: &'static str = "its Twilio client, its `FallbackClient` over two of them, and its Twilio webhooks";

    async fn play(&self, fault: Fault) -> Cell {
        match fault {
            Fault::Dropped => two_suppliers(Answer::Drops, Cell::copies).await,
            Fault::Silent => two_suppliers(Answer::Silence, Cell::copies).await.note(NO_TIME_OUT),
            Fault::DroppedAlone => dropped_alone().await,
            Fault::OptedOut => two_suppliers(Answer::OptedOut, Cell::carried).await,
            Fault::TooMany => too_many().await.note(TEXT_OF_PROVIDER),
            Fault::ServerError => server_error().await.note(TEXT_OF_PROVIDER),
            Fault::Repeated => repeated(),
            Fault::Forged => forged(&twilio(NOWHERE).with_webhook_url(TWILIO_URL)),
            Fault::NoSecret => forged(&twilio(NOWHERE)).note(NO_WEBHOOK_URL),
            Fault::Failed => failed().note(INBOUND_ONLY),
            Fault::TooLong => too_long().await,
        }
    }
}

const NO_TIME_OUT: &str = "Its client has no time-out of its own, and takes none: the caller has to bring one.";

const NO_WEBHOOK_URL: &str =
    "Its signature check is turned on by `with_webhook_url`, as its documentation says; without it, \
     as here, the check is skipped. The row before is with it.";

const TEXT_OF_PROVIDER: &str =
    "The text inside `Provider` begins with the HTTP status, and goes on with the supplier's answer.";

const INBOUND_ONLY: &str = "Its webhook code reads inbound messages, and requires a `Body`, which a status has not.";

fn twilio(url: &str) -> TwilioClient {
    TwilioClient::new(TWILIO_ACCOUNT, TWILIO_TOKEN).with_base_url(url)
}

async fn send(client: &dyn SmsClient, text: &str) -> Result<SendResponse, SmsError> {
    client.send(SendRequest { to: TO, from: FROM, text }).await
}

async fn two_suppliers(answer: Answer, cell: fn([&Fake; 2], &str) -> Cell) -> Cell {
    let (first, second) = (Fake::start(Wire::Twilio).await, Fake::start(Wire::Twilio).await);
    first.script(&[answer]);
    let client = FallbackClient::new(vec![Arc::new(twilio(&first.url())), Arc::new(twilio(&second.url()))]);
    let reported = match timeout(PATIENCE, send(&client, TEXT)).await {
        Ok(result) => reported(&result),
        Err(_) => NOTHING.into(),
    };
    cell([&first, &second], &reported)
}

async fn dropped_alone() -> Cell {
    let (supplier, down) = (Fake::start(Wire::Twilio).await, Down::new());
    supplier.script(&[Answer::Drops]);
    let taken = send(&twilio(&supplier.url()), TEXT).await;
    let unreached = send(&twilio(&down.url()), TEXT).await;
    Cell::unreached(&reported(&taken), &reported(&unreached))
}

async fn too_many() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    supplier.script(&[Answer::TooMany, Answer::Accepts]);
    let result = send(&twilio(&supplier.url()), TEXT).await;
    Cell::wait(&supplier, &reported(&result), result.as_ref().is_err_and(tells_wait))
}

async fn server_error() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    supplier.script(&[Answer::ServerError]);
    let failed = send(&twilio(&supplier.url()), TEXT).await;
    let requests = supplier.requests();
    supplier.script(&[Answer::OptedOut]);
    let refused = send(&twilio(&supplier.url()), TEXT).await;
    Cell::failure(requests, &reported(&failed), &reported(&refused))
}

async fn too_long() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    let result = send(&twilio(&supplier.url()), &long_text()).await;
    Cell::long(&supplier, &reported(&result))
}

/// Verified, then parsed: the order that its own webhook processor keeps.
fn receive(client: &TwilioClient, webhook: &Webhook) -> Result<InboundMessage, SmsError> {
    let (name, proof) = &webhook.proof;
    let headers = Headers::from([((*name).to_owned(), proof.clone())]);
    client.verify(&headers, &webhook.body)?;
    client.parse_inbound(&headers, &webhook.body)
}

fn repeated() -> Cell {
    let client = twilio(NOWHERE).with_webhook_url(TWILIO_URL);
    let webhook = Webhook::message_by_twilio(TWILIO_TOKEN);
    let ids = [(); 2].map(|()| receive(&client, &webhook).ok().and_then(|message| message.id));
    Cell::ids(&ids)
}

fn forged(client: &TwilioClient) -> Cell {
    let refusal = receive(client, &Webhook::message_by_twilio(NO_SECRET_OF_OURS)).err();
    Cell::proof(refusal.as_ref().map(variant).as_deref())
}

fn failed() -> Cell {
    let client = twilio(NOWHERE).with_webhook_url(TWILIO_URL);
    Cell::event(match receive(&client, &Webhook::failure_by_twilio(TWILIO_TOKEN)) {
        Ok(_) => Err("an inbound message".into()),
        Err(error) => Err(variant(&error)),
    })
}
