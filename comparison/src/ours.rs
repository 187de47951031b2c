//! This crate: its Twilio and Meta channels.

use std::sync::Arc;
use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::layer::{Failover, Layer, Retry};
use civic_messaging::transport::ReqwestTransport;
use civic_messaging::{
    meta, twilio, Accepted, Address, Channel, Context, Event, Message, Meta, Result, Timestamp, Twilio,
};
use http::Request;
use tokio::time::timeout;

use crate::fake::{Answer, Down, Fake, Wire, RETRY_AFTER};
use crate::fault::{long_text, Cell, Fault, Peer, CLIENT_PATIENCE, FROM, NOWHERE, PATIENCE, TEXT, TO};
use crate::webhook::{
    Webhook, META_NUMBER, META_SECRET, NO_SECRET_OF_OURS, TWILIO_ACCOUNT, TWILIO_BASE, TWILIO_PATH, TWILIO_TOKEN,
};

pub struct Ours;

impl Peer for Ours {
    const NAME: &'static str = "civic-messaging";
    const CRATES: &'static [&'static str] = &["civic-messaging"];
    const HOW: &'static str =
        "its Twilio channel for SMS and its Meta channel for WhatsApp, with a time-out of 200 ms, and its \
         `Failover` over two of a kind; one cell where both come out the same";

    /// On both wires. Differences are listed separately.
    async fn play(&self, fault: Fault) -> Cell {
        let (twilio, meta) = (play(Wire::Twilio, fault).await, play(Wire::Meta, fault).await);
        match twilio.text == meta.text {
            true => twilio,
            false => Cell { text: format!("Twilio: {}. Meta: {}", twilio.text, meta.text), ..twilio },
        }
    }
}

async fn play(wire: Wire, fault: Fault) -> Cell {
    match fault {
        Fault::Dropped => two_suppliers(wire, Answer::Drops, Cell::copies).await,
        Fault::Silent => two_suppliers(wire, Answer::Silence, Cell::copies).await.note(TIME_OUT),
        Fault::DroppedAlone => dropped_alone(wire).await,
        Fault::OptedOut => two_suppliers(wire, Answer::OptedOut, Cell::carried).await,
        Fault::TooMany => too_many(wire).await,
        Fault::ServerError => server_error(wire).await,
        Fault::Repeated => repeated(wire).await,
        Fault::Forged => forged(&*receiver(wire), wire).await,
        Fault::NoSecret => forged(&*channel(wire, NOWHERE), wire).await,
        Fault::Failed => failed(wire).await,
        Fault::TooLong => too_long(wire).await,
    }
}

const TIME_OUT: &str = "By its time-out, which is 30 s unless it is set, as here.";

fn channel(wire: Wire, url: &str) -> Arc<dyn Channel> {
    connect(wire, url, false).expect("the settings are right")
}

/// A channel that can also receive: the settings with the secret of webhooks.
fn receiver(wire: Wire) -> Arc<dyn Channel> {
    connect(wire, NOWHERE, true).expect("the settings are right")
}

fn connect(wire: Wire, url: &str, receives: bool) -> Result<Arc<dyn Channel>> {
    let transport = ReqwestTransport::from_settings(|builder| builder.timeout(CLIENT_PATIENCE));
    let context = Context::with_transport(transport);
    Ok(match wire {
        Wire::Twilio => {
            let config = twilio::Config::new(TWILIO_ACCOUNT, TWILIO_TOKEN)?.sender(FROM)?.base_url(url)?;
            let config = if receives { config.public_url(TWILIO_BASE)? } else { config };
            Arc::new(Twilio::sms_with(config, &context)?)
        }
        Wire::Meta => {
            let config = meta::Config::new("the-access-token", META_NUMBER)?.base_url(url)?;
            let config = if receives { config.app_secret(META_SECRET)? } else { config };
            Arc::new(Meta::whatsapp_with(config, &context)?)
        }
    })
}

/// The message, to the address of the channel's medium.
fn message(wire: Wire, text: impl Into<String>) -> Message {
    let to = match wire {
        Wire::Twilio => Address::phone(TO),
        Wire::Meta => Address::whatsapp(TO),
    };
    Message::text(to.expect("a number"), text)
}

async fn two_suppliers(wire: Wire, answer: Answer, cell: fn([&Fake; 2], &str) -> Cell) -> Cell {
    let (first, second) = (Fake::start(wire).await, Fake::start(wire).await);
    first.script(&[answer]);
    let channel = Failover::new([channel(wire, &first.url()), channel(wire, &second.url())]).expect("one medium");
    let result = channel.send(&message(wire, TEXT)).await;
    cell([&first, &second], &reported(&result))
}

async fn dropped_alone(wire: Wire) -> Cell {
    let (supplier, down) = (Fake::start(wire).await, Down::new());
    supplier.script(&[Answer::Drops]);
    let taken = channel(wire, &supplier.url()).send(&message(wire, TEXT)).await;
    let unreached = channel(wire, &down.url()).send(&message(wire, TEXT)).await;
    Cell::unreached(&reported(&taken), &reported(&unreached))
}

/// Bare, and then with the layer that waits. It waits by a clock of this program, which is moved on here.
async fn too_many(wire: Wire) -> Cell {
    let supplier = Fake::start(wire).await;
    supplier.script(&[Answer::TooMany, Answer::Accepts]);
    let channel = channel(wire, &supplier.url());
    let message = message(wire, TEXT);
    let result = channel.send(&message).await;
    let wait = result.as_ref().err().and_then(|error| error.retry_after());
    let cell = Cell::wait(&supplier, &reported(&result), wait == Some(RETRY_AFTER));

    supplier.script(&[Answer::TooMany, Answer::Accepts]);
    let clock = VirtualClock::starting_at(Timestamp::default());
    let retrying = Retry::new().clock(clock.clone()).wrap(channel);
    let (sent, early) = tokio::join!(retrying.send(&message), async {
        let sleeps = async {
            while clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
        };
        _ = timeout(PATIENCE, sleeps).await;
        clock.advance(RETRY_AFTER - Duration::from_millis(1));
        let early = clock.sleepers() == 0;
        clock.advance(Duration::from_secs(60));
        early
    });
    let when = if early { "before the wait is over" } else { "after the wait" };
    let retried =
        format!("with `Retry`, {} requests, the second {when}; reported {}", supplier.requests(), reported(&sent));
    Cell { text: format!("{}; {retried}", cell.text), ..cell }
}

async fn server_error(wire: Wire) -> Cell {
    let supplier = Fake::start(wire).await;
    let channel = channel(wire, &supplier.url());
    supplier.script(&[Answer::ServerError]);
    let failed = channel.send(&message(wire, TEXT)).await;
    let requests = supplier.requests();
    supplier.script(&[Answer::OptedOut]);
    let refused = channel.send(&message(wire, TEXT)).await;
    Cell::failure(requests, &reported(&failed), &reported(&refused))
}

async fn too_long(wire: Wire) -> Cell {
    let supplier = Fake::start(wire).await;
    let result = channel(wire, &supplier.url()).send(&message(wire, long_text())).await;
    Cell::long(&supplier, &reported(&result))
}

async fn receive(channel: &dyn Channel, webhook: &Webhook) -> Result<Vec<Event>> {
    let (name, proof) = &webhook.proof;
    let request = Request::post(TWILIO_PATH).header("content-type", webhook.content_type).header(*name, proof);
    let request = request.body(webhook.body.clone()).expect("a request");
    Ok(channel.receive(&request.into()).await?.events)
}

fn incoming(wire: Wire, twilio: &str, meta: &str) -> Webhook {
    match wire {
        Wire::Twilio => Webhook::message_by_twilio(twilio),
        Wire::Meta => Webhook::message_by_meta(meta),
    }
}

async fn repeated(wire: Wire) -> Cell {
    let (channel, webhook) = (receiver(wire), incoming(wire, TWILIO_TOKEN, META_SECRET));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let events = receive(&*channel, &webhook).await.unwrap_or_default();
        ids.push(events.first().map(Event::id));
    }
    Cell::ids(&ids)
}

async fn forged(channel: &dyn Channel, wire: Wire) -> Cell {
    let webhook = incoming(wire, NO_SECRET_OF_OURS, NO_SECRET_OF_OURS);
    let refusal = receive(channel, &webhook).await.err();
    let words = refusal.map(|error| format!("`{:?}`, HTTP {}", error.kind(), error.webhook_status().as_u16()));
    Cell::proof(words.as_deref())
}

async fn failed(wire: Wire) -> Cell {
    let webhook = match wire {
        Wire::Twilio => Webhook::failure_by_twilio(TWILIO_TOKEN),
        Wire::Meta => Webhook::failure_by_meta(META_SECRET),
    };
    let events = receive(&*receiver(wire), &webhook).await.unwrap_or_default();
    let event = events.iter().find_map(|event| {
        let delivery = event.as_delivery()?;
        let code = delivery.failure.as_ref()?.code.as_deref()?;
        Some(format!("`Delivery`, `{:?}`, code {code}", delivery.state))
    });
    Cell::event(event.ok_or("nothing".into()))
}

/// Describes the outcome and its cause.
fn reported(result: &Result<Accepted>) -> String {
    match result {
        Ok(_) => "sent".into(),
        Err(error) => format!("`{:?}` (`{:?}`)", error.outcome(), error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISED: [(Fault, &str); 11] = [
        (Fault::Dropped, "1 request, 1 copy; reported `Unknown` (`Unavailable`)"),
        (Fault::Silent, "1 request, 1 copy; reported `Unknown` (`Unavailable`)"),
        (Fault::DroppedAlone, "yes: reported `Unknown` (`Unavailable`), and `NotSent` (`Unavailable`) if never reached"),
        (Fault::OptedOut, "no: 0 copies at the second; reported `Rejected` (`OptedOut`)"),
        (
            Fault::TooMany,
            "1 request; reported `Rejected` (`RateLimited`), with the wait; with `Retry`, 2 requests, the second after the \
             wait; reported sent",
        ),
        (Fault::ServerError, "1 request; yes: reported `Unknown` (`Unavailable`), and `Rejected` (`OptedOut`) if refused"),
        (Fault::Repeated, "yes: the same id both times"),
        (Fault::Forged, "refused: `Unauthenticated`, HTTP 403"),
        (Fault::NoSecret, "refused: `Config`, HTTP 503"),
        (Fault::Failed, "Twilio: yes: `Delivery`, `Failed`, code 30003. Meta: yes: `Delivery`, `Failed`, code 131026"),
        (Fault::TooLong, "refused before the network: 0 requests; reported `NotSent` (`InvalidMessage`)"),
    ];

    #[tokio::test]
    async fn crate_keeps_its_promises() {
        assert_eq!(PROMISED.map(|(fault, _)| fault), Fault::ALL);
        for (fault, promised) in PROMISED {
            assert_eq!(Ours.play(fault).await.text, promised, "{}", fault.words());
        }
    }
}
