//! chorus: its client with its router, over senders of our own, because the address of its bundled ones is fixed.

use std::sync::Arc;

use async_trait::async_trait;
use chorus::prelude::{Channel, Chorus, ChorusError, DeliveryStatus, SendResult, SmsMessage, SmsSender};
use reqwest::header::RETRY_AFTER;
use reqwest::StatusCode;
use tokio::time::timeout;

use crate::fake::{Answer, Down, Fake, Wire};
use crate::fault::{long_text, reported, tells_wait, Cell, Fault, Peer, FROM, NOTHING, PATIENCE, TEXT, TO};
use crate::webhook::{TWILIO_ACCOUNT, TWILIO_TOKEN};

pub struct ChorusRs;

impl Peer for ChorusRs {
    const NAME: &'static str = "chorus";
    const CRATES: &'static [&'static str] = &["chorus-rs", "chorus-core", "chorus-providers"];
    const HOW: &'static str =
        "its client and router over senders of this program, which make the same call as its bundled Twilio \
         sender; that one cannot be played, because its base URL is fixed outside its own tests";

    async fn play(&self, fault: Fault) -> Cell {
        match fault {
            Fault::Dropped => two_suppliers(Answer::Drops, Cell::copies).await,
            Fault::Silent => two_suppliers(Answer::Silence, Cell::copies).await.note(NO_TIME_OUT),
            Fault::DroppedAlone => dropped_alone().await.note(LOGGED),
            Fault::OptedOut => two_suppliers(Answer::OptedOut, Cell::carried).await,
            Fault::TooMany => too_many().await.note(WAIT),
            Fault::ServerError => server_error().await.note(LOGGED),
            Fault::Repeated | Fault::Forged | Fault::NoSecret => Cell::none(SENDS_ONLY),
            Fault::Failed => Cell::none(ASKS),
            Fault::TooLong => too_long().await.note(SENDER),
        }
    }
}

const NO_TIME_OUT: &str =
    "Neither its router nor its bundled Twilio sender has a time-out, and so the sender here has none. A \
     sender of one's own may have one; its error then moves the router on, as in the row before.";

const LOGGED: &str = "The router writes the sender's own error to the log, and hands its caller this one in its place.";

const WAIT: &str =
    "The sender here gives the router `RateLimited` with the wait in it, the most that its error type can say; \
     its bundled Twilio sender does not read the header (read in its source, not played).";

const SENDS_ONLY: &str =
    "The library only sends. Webhooks are the business of its separate server, which was not played.";

const ASKS: &str = "The library receives nothing. Its `check_status` asks the supplier, and answers with a typed `Failed` (read in its source, not played).";

const SENDER: &str =
    "Its router has no rule of length; what a sender does is up to the sender. Its bundled Twilio sender has none \
     either (read in its source, not played).";

async fn send(chorus: &Chorus, text: &str) -> Result<SendResult, ChorusError> {
    chorus.send_sms(&SmsMessage { to: TO.into(), body: text.into(), from: None }).await
}

/// As its README builds it.
fn chorus<const N: usize>(urls: [String; N]) -> Chorus {
    let builder = Chorus::builder().default_from_sms(FROM.into());
    urls.into_iter().fold(builder, |builder, url| builder.add_sms_provider(Arc::new(Sender::new(&url)))).build()
}

async fn two_suppliers(answer: Answer, cell: fn([&Fake; 2], &str) -> Cell) -> Cell {
    let (first, second) = (Fake::start(Wire::Twilio).await, Fake::start(Wire::Twilio).await);
    first.script(&[answer]);
    let chorus = chorus([first.url(), second.url()]);
    let reported = match timeout(PATIENCE, send(&chorus, TEXT)).await {
        Ok(result) => reported(&result),
        Err(_) => NOTHING.into(),
    };
    cell([&first, &second], &reported)
}

async fn dropped_alone() -> Cell {
    let (supplier, down) = (Fake::start(Wire::Twilio).await, Down::new());
    supplier.script(&[Answer::Drops]);
    let taken = send(&chorus([supplier.url()]), TEXT).await;
    let unreached = send(&chorus([down.url()]), TEXT).await;
    Cell::unreached(&reported(&taken), &reported(&unreached))
}

async fn too_many() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    supplier.script(&[Answer::TooMany, Answer::Accepts]);
    let result = send(&chorus([supplier.url()]), TEXT).await;
    Cell::wait(&supplier, &reported(&result), result.as_ref().is_err_and(tells_wait))
}

async fn server_error() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    supplier.script(&[Answer::ServerError]);
    let failed = send(&chorus([supplier.url()]), TEXT).await;
    let requests = supplier.requests();
    supplier.script(&[Answer::OptedOut]);
    let refused = send(&chorus([supplier.url()]), TEXT).await;
    Cell::failure(requests, &reported(&failed), &reported(&refused))
}

async fn too_long() -> Cell {
    let supplier = Fake::start(Wire::Twilio).await;
    let result = send(&chorus([supplier.url()]), &long_text()).await;
    Cell::long(&supplier, &reported(&result))
}

/// The call of its bundled Twilio sender, to another address. It differs in one thing, to the good of chorus: a 429
/// becomes the error that chorus has for it.
struct Sender {
    url: String,
    http: reqwest::Client,
}

impl Sender {
    fn new(base_url: &str) -> Self {
        let url = format!("{base_url}/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Messages.json");
        Self { url, http: reqwest::Client::new() }
    }
}

#[async_trait]
impl SmsSender for Sender {
    fn provider_name(&self) -> &str {
        "loopback"
    }

    async fn send(&self, message: &SmsMessage) -> Result<SendResult, ChorusError> {
        let failed = |message: String| ChorusError::Provider { provider: "loopback".into(), message };
        let from = message.from.as_deref().unwrap_or(FROM);
        let request = self.http.post(&self.url).basic_auth(TWILIO_ACCOUNT, Some(TWILIO_TOKEN));
        let form = [("To", &*message.to), ("From", from), ("Body", &*message.body)];
        let answer = request.form(&form).send().await.map_err(|error| failed(format!("HTTP error: {error}")))?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            return Err(ChorusError::RateLimited { retry_after_secs: wait.unwrap_or_default() });
        }
        if !answer.status().is_success() {
            return Err(failed(format!("API error: {}", answer.text().await.unwrap_or_default())));
        }
        Ok(SendResult {
            message_id: "SM11111111111111111111111111111111".into(),
            provider: "loopback".into(),
            channel: Channel::Sms,
            status: DeliveryStatus::Queued,
            created_at: chrono::Utc::now(),
        })
    }

    async fn check_status(&self, _message_id: &str) -> Result<DeliveryStatus, ChorusError> {
        Ok(DeliveryStatus::Sent)
    }
}
