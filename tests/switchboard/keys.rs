//! Keys, and the references sent to gateways.

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::switchboard::{Fallback, Line, Outgoing, State, Store, Switchboard};
use civic_messaging::{Address, Channel, DeliveryState, Error, Event, Message, Mock, OnUnknown, Outcome};

use super::desk::{Desk, memory, text};
use super::{Database, person};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// An SMS channel whose gateway accepts references of up to `limit` bytes.
fn short(limit: usize) -> Mock {
    Mock::sms().capability(|can| can.max_reference = Some(limit))
}

fn references(mock: &Mock) -> Vec<String> {
    mock.sent().into_iter().map(|message| message.key.unwrap()).collect()
}

#[tokio::test]
async fn generated_keys_fit_the_gateway_reference() {
    let mock = short(20);
    let desk = Desk::open(memory().await, [Line::new("desk").channel(mock.clone())]).await;
    let board = &desk.switchboard;
    let id = board.send("desk", text(1, "Without a key")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    let webhook = mock.arrives(person(2).expose(), "And the paper?");
    assert_eq!(board.receive("all", webhook).await.status, 200);
    let event = board.line("desk").unwrap().next().await.unwrap().unwrap();
    let event = if event.as_settled().is_some() {
        event.ack().await.unwrap();
        board.line("desk").unwrap().next().await.unwrap().unwrap()
    } else {
        event
    };
    let id = board.reply("desk", event.answerable().unwrap(), "On Friday.").await.unwrap();
    event.ack().await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    let sent = references(&mock);
    assert!(sent.len() == 2 && sent.iter().all(|reference| reference.len() == 20), "{sent:?}");
    desk.close().await;
}

#[tokio::test]
async fn fallback_key_fits_its_gateway_reference() {
    let (whatsapp, sms) = (Mock::whatsapp(), short(8));
    whatsapp.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    let desk = Desk::open(memory().await, [line]).await;
    let first = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp").key("flood-17");
    let outgoing = Outgoing::new(first).fallback(Fallback::new(text(1, "By SMS"), HOUR));
    let id = desk.switchboard.send("desk", outgoing).await.unwrap();
    desk.until(id, &[State::Rejected]).await;
    let instead = loop {
        match desk.switchboard.status(id).await.unwrap().unwrap().fallback {
            Some(instead) => break instead,
            None => tokio::task::yield_now().await,
        }
    };
    desk.until(instead, &[State::Accepted]).await;
    assert_eq!(references(&whatsapp), ["flood-17"]);
    assert_eq!(references(&sms)[0].len(), 8);
    desk.close().await;
}

#[tokio::test]
async fn reference_is_the_same_after_a_restart() {
    let (file, mock) = (Database::new(), short(20));
    let key = "waste-2026-11-28-route-4711";
    let line = || Line::new("desk").channel(mock.clone());
    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [line()]).await;
    mock.will_lose_response();
    let one = desk.switchboard.send("desk", text(1, "One").key(key)).await.unwrap();
    desk.until(one, &[State::Unknown]).await;
    desk.kill().await;

    // Another process resends it as its `OnUnknown` allows.
    let desk = Desk::open(Store::open(&file.url()).await.unwrap(), [line()]).await;
    assert_eq!(desk.switchboard.send("desk", text(1, "One").key(key)).await.unwrap(), one);
    mock.will_fail(Error::unknown("no answer in time"));
    let two = text(2, "Two").key(format!("{key}/2")).on_unknown(OnUnknown::Resend);
    let two = desk.switchboard.send("desk", two).await.unwrap();
    desk.until(two, &[State::Accepted]).await;
    let sent = references(&mock);
    assert_eq!(sent[1..], [sent[1].clone(), sent[1].clone()]);
    assert!(sent[0].len() == 20 && sent[1].len() == 20 && sent[0] != sent[1]);

    // A status with the reference settles the unknown message.
    let query = LookupQuery::new(text(1, "One").key(key), SystemClock::new().now());
    let LookupOutcome::Found(found) = mock.look_up(&query).await.unwrap() else { panic!("the mock has it") };
    assert_eq!(found[0].key(), Some(&*sent[0]));
    let status = mock.emits(Event::from(found[0].clone()));
    assert_eq!(desk.switchboard.receive("all", status).await.status, 200);
    let status = desk.switchboard.status(one).await.unwrap().unwrap();
    assert_eq!((status.state, status.delivery), (State::Accepted, Some(DeliveryState::Accepted)));
    assert_eq!(desk.switchboard.by_key("desk", key).await.unwrap(), Some(one));
    desk.close().await;
}

#[tokio::test]
async fn look_up_finds_a_message_by_its_reference() {
    let (file, mock, clock) = (Database::new(), short(8), super::Ahead::default());
    let desk = async || {
        let builder = Switchboard::builder(Store::open(&file.url()).await.unwrap()).clock(clock.clone());
        Desk::of(builder, [Line::new("desk").channel(mock.clone())])
    };
    let first = desk().await;
    mock.will_lose_response();
    let id = first.switchboard.send("desk", text(1, "Hello").key("ŵ".repeat(1_000))).await.unwrap();
    first.until(id, &[State::Unknown]).await;
    first.kill().await;
    // A starting worker looks it up at once.
    clock.advance_by(HOUR);
    let second = desk().await;
    second.until(id, &[State::Accepted]).await;
    assert_eq!(mock.sent().len(), 1);
    second.close().await;
}
