//! Limits on unprompted messages through the switchboard.
//!
//! `CIVIC_ATTEMPTS` sets the number of sequential phone numbers (1,000).

use std::time::Duration;

use civic_messaging::clock::VirtualClock;
use civic_messaging::message::Template;
use civic_messaging::policy::budgets::AtCap;
use civic_messaging::policy::limits::{Bursts, Frequency};
use civic_messaging::switchboard::{Builder, Fallback, Id, Line, Outgoing, State, Store, Switchboard};
use civic_messaging::{Address, Message, Mock, Purpose};

use super::{number, person, until};

/// A council with a virtual clock, and a worker that runs until the end.
async fn council(limit: impl Fn(Builder) -> Builder) -> (Switchboard, Mock, VirtualClock) {
    let clock = VirtualClock::starting_at("2026-12-01T09:00:00Z".parse().unwrap());
    let (sms, store) = (Mock::sms(), Store::open("sqlite::memory:").await.unwrap());
    let line = Line::new("desk").channel(sms.clone()).channel(Mock::whatsapp());
    let board = limit(Switchboard::builder(store).clock(clock.clone()).line(line)).build().unwrap();
    tokio::spawn(board.clone().run(std::future::pending()));
    (board, sms, clock)
}

async fn send(board: &Switchboard, to: Address, purpose: Purpose) -> Id {
    board.send("desk", Message::text(to, "Your code is 1234.").purpose(purpose)).await.unwrap()
}

async fn ends(board: &Switchboard, clock: &VirtualClock, id: Id, state: State) {
    until(clock, Duration::from_millis(100), async || board.status(id).await.unwrap().unwrap().state == state).await;
}

#[tokio::test]
async fn sequential_numbers_are_stopped() {
    let (board, sms, clock) = council(|builder| builder.bursts(Bursts::new())).await;
    let attempts = number("CIVIC_ATTEMPTS", 1_000);
    let mut last = None;
    for n in 0..attempts {
        let to = Address::phone(&format!("+447700{n:06}")).unwrap();
        last = Some(send(&board, to, Purpose::Notice).await);
    }
    until(&clock, Duration::from_millis(100), async || {
        let all = board.stats().await.unwrap().all();
        all.count(State::Accepted) + all.count(State::Refused) == attempts
    })
    .await;
    println!("{attempts} sequential numbers: {} sent", sms.sent().len());
    assert_eq!(sms.sent().len(), 15);
    let status = board.status(last.unwrap()).await.unwrap().unwrap();
    assert_eq!(status.reason.unwrap(), "too many adjacent phone numbers were sent messages within a short time");
    // Replies, emergencies, other ranges and other media go.
    for (to, purpose) in [
        (person(1), Purpose::Reply),
        (Address::phone("+447700000001").unwrap(), Purpose::Emergency),
        (Address::phone("+447911123456").unwrap(), Purpose::Notice),
        (Address::whatsapp("+447700000002").unwrap(), Purpose::Notice),
    ] {
        let id = send(&board, to, purpose).await;
        ends(&board, &clock, id, State::Accepted).await;
    }
}

#[tokio::test]
async fn free_text_is_refused_outside_the_window() {
    let (board, sms, clock) = council(|builder| builder.windows(true)).await;
    let whatsapp = || Address::whatsapp("+447700900001").unwrap();
    let refused = send(&board, whatsapp(), Purpose::Reply).await;
    ends(&board, &clock, refused, State::Refused).await;
    let why = board.status(refused).await.unwrap().unwrap().reason.unwrap();
    assert_eq!(why, "the person has not written within 24 hours: send an approved template");
    let template = Message::template(whatsapp(), Template::new("collection").language("en_GB"));
    let template = board.send("desk", template).await.unwrap();
    ends(&board, &clock, template, State::Accepted).await;
    // The fallback on another medium goes.
    let text = Message::text(whatsapp(), "Your collection is tomorrow.");
    let fallback = Fallback::on_failure(Message::text(person(1), "Your collection is tomorrow."));
    board.send("desk", Outgoing::new(text).fallback(fallback)).await.unwrap();
    until(&clock, Duration::from_secs(1), async || sms.sent().len() == 1).await;
}

#[tokio::test]
async fn person_is_sent_so_many_notices_and_all_replies() {
    let week = Frequency::new(2, Duration::from_secs(7 * 24 * 3600)).unwrap().at_cap(AtCap::Wait);
    let (board, sms, clock) = council(|builder| builder.frequency(week)).await;
    for _ in 0..2 {
        let id = send(&board, person(1), Purpose::Notice).await;
        ends(&board, &clock, id, State::Accepted).await;
    }
    let third = send(&board, person(1), Purpose::Notice).await;
    ends(&board, &clock, third, State::Deferred).await;
    let reply = send(&board, person(1), Purpose::Reply).await;
    ends(&board, &clock, reply, State::Accepted).await;
    assert_eq!(sms.sent().len(), 3);
    let why = board.status(third).await.unwrap().unwrap().reason.unwrap();
    assert_eq!(why, "this person was sent 2 messages without asking, the most within the time");
    clock.advance(Duration::from_secs(7 * 24 * 3600));
    ends(&board, &clock, third, State::Accepted).await;
}
