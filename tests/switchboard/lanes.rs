//! Lanes: priorities, order, and independence of accounts.
//!
//! `CIVIC_SEED` sets the seed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use civic_messaging::capability::TextLimit;
use civic_messaging::clock::Clock;
use civic_messaging::rate::Rate;
use civic_messaging::switchboard::{Id, Line, State, Store, Switchboard};
use civic_messaging::{
    Accepted, Channel, Content, Error, ErrorKind, Info, Message, Mock, OnUnknown, Outcome, Purpose, Result, webhook,
};

use super::desk::{Desk, memory, text};
use super::{Database, Random, person, seed, stop, until, virtual_clock};

/// A channel that records accepted messages in order, and hangs or fails on request.
#[derive(Clone, Debug)]
struct Recording {
    mock: Mock,
    info: Info,
    taken: Arc<Mutex<Vec<String>>>,
    /// One in this many sends fails temporarily; none if zero.
    fails: Arc<AtomicU64>,
    random: Arc<Random>,
}

impl Recording {
    fn new(account: &str, rate: Option<Rate>) -> Self {
        let mock = Mock::sms().account(account);
        let info = mock.info().clone().with_capability(|can| can.rate = rate);
        Self { mock, info, taken: Arc::default(), fails: Arc::default(), random: Arc::new(Random::new(7)) }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    fn below(&self, end: u64) -> u64 {
        self.random.below(end)
    }
}

#[civic_messaging::async_trait]
impl Channel for Recording {
    fn info(&self) -> &Info {
        &self.info
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let Content::Text(text) = &message.content else { panic!("a text") };
        if text.starts_with("hang") {
            std::future::pending::<()>().await;
        }
        let fails = self.fails.load(Ordering::SeqCst);
        if fails > 0 && self.below(fails) == 0 {
            let kind = [ErrorKind::Unavailable, ErrorKind::RateLimited][self.below(2) as usize];
            return Err(Error::new(kind, "not now").with_outcome(Outcome::Rejected).with_gateway("mock"));
        }
        let accepted = self.mock.send(message).await?;
        self.taken.lock().unwrap().push(text.clone());
        Ok(accepted)
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }
}

#[tokio::test]
async fn emergency_and_reply_overtake_bulk() {
    let (clock, slow) = (virtual_clock(), Recording::new("desk", Some(Rate::per_second(10))));
    let desk = Desk::of(
        Switchboard::builder(memory().await).clock(clock.clone()),
        [Line::new("desk").channel(slow.clone()).marketing_without_consent(true)],
    );
    let board = &desk.switchboard;
    let bulk = (0..400).map(|n| text(n, &format!("Bulk {n}")).purpose(Purpose::Marketing));
    let counts = board.send_many("desk", "festival", futures_util::stream::iter(bulk)).finish().await.unwrap();
    assert_eq!(counts.stored, 400);
    let mut waited = Vec::new();
    for n in 0..20 {
        let before = slow.taken().len();
        until(&clock, Duration::from_millis(20), async || slow.taken().len() >= before + 12).await;
        let (name, purpose) = [("Emergency", Purpose::Emergency), ("Reply", Purpose::Reply)][n as usize % 2];
        let (at, words) = (slow.taken().len(), format!("{name} {n}"));
        board.send("desk", text(1_000 + n, &words).purpose(purpose)).await.unwrap();
        let place = async || slow.taken().iter().position(|taken| *taken == words);
        until(&clock, Duration::from_millis(20), async || place().await.is_some()).await;
        waited.push(place().await.unwrap() - at);
    }
    // The previous one may already have had its token.
    assert!(waited.iter().all(|others| *others <= 2), "{waited:?}");
    desk.close().await;
}

#[tokio::test]
async fn marketing_is_not_starved_by_replies() {
    let (clock, slow) = (virtual_clock(), Recording::new("desk", Some(Rate::per_second(10))));
    let desk = Desk::of(
        Switchboard::builder(memory().await).clock(clock.clone()),
        [Line::new("desk").channel(slow.clone()).marketing_without_consent(true)],
    );
    for n in 0..200 {
        desk.switchboard.send("desk", text(n, "Reply").purpose(Purpose::Reply)).await.unwrap();
        if n % 10 == 0 {
            desk.switchboard.send("desk", text(500 + n, "Marketing").purpose(Purpose::Marketing)).await.unwrap();
        }
    }
    until(&clock, Duration::from_millis(20), async || slow.taken().len() >= 150).await;
    let taken = slow.taken();
    // Ignores those sent before all were queued.
    for window in taken[20..150].windows(20) {
        assert!(window.iter().any(|words| words == "Marketing"), "{taken:?}");
    }
    assert!(taken[..150].iter().filter(|words| *words == "Reply").count() > 130, "{taken:?}");
    desk.close().await;
}

#[tokio::test]
async fn hanging_supplier_delays_no_other_line() {
    let (clock, hangs, works) = (virtual_clock(), Recording::new("hangs", None), Recording::new("works", None));
    let lines = [Line::new("hangs").channel(hangs.clone()), Line::new("works").channel(works.clone())];
    let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), lines);
    for n in 0..128 {
        desk.switchboard.send("hangs", text(n, &format!("hang {n}"))).await.unwrap();
    }
    let sending = async || desk.switchboard.stats().await.unwrap().line("hangs").unwrap().count(State::Sending);
    until(&clock, Duration::ZERO, async || sending().await == 32).await;
    // Without advancing the clock.
    let id = desk.switchboard.send("works", text(1, "Hello")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    assert_eq!(sending().await, 32, "no more than it may have in flight");
    desk.kill().await;
}

/// Sends five messages to each person through failures and restarts: each person gets them in order.
async fn stays_in_order(url: &str, rate: Option<Rate>, persons: u32, restarts: u32) {
    let seed = seed(20_261_130);
    let (random, clock, channel) = (Random::new(seed), virtual_clock(), Recording::new("desk", rate));
    channel.fails.store(5, Ordering::SeqCst);
    let open = async || {
        let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
        Desk::of(builder, [Line::new("desk").channel(channel.clone())])
    };
    let mut desk = open().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        for to in 0..persons {
            let message = text(to, &format!("{to}/{n}")).on_unknown(OnUnknown::Park);
            ids.push(desk.switchboard.send("desk", message).await.unwrap());
        }
        if n < restarts {
            let before = channel.taken().len();
            let some = random.below(u64::from(persons)) as usize;
            until(&clock, Duration::from_millis(50), async || channel.taken().len() > before + some / 2).await;
            // Restarts during sends.
            desk.kill().await;
            clock.advance(Duration::from_secs(181));
            desk = open().await;
        }
    }
    let settled = async |id: &Id| desk.switchboard.status(*id).await.unwrap().unwrap().state.is_settled();
    for id in &ids {
        until(&clock, Duration::from_millis(200), async || settled(id).await).await;
    }
    let mut last = HashMap::<u32, u32>::new();
    let taken = channel.taken();
    for words in &taken {
        let (to, n) = words.split_once('/').unwrap();
        let (to, n) = (to.parse().unwrap(), n.parse().unwrap());
        let before = last.insert(to, n);
        assert!(before.is_none_or(|before| before < n), "{to} had {before:?} before {n}");
    }
    assert!(taken.len() > ids.len() * 9 / 10, "hardly anything went");
    desk.close().await;
}

#[tokio::test]
async fn conversations_stay_in_order() {
    let file = Database::new();
    stays_in_order(&file.url(), None, 200, 3).await;
}

#[tokio::test]
async fn conversations_stay_in_order_at_a_rate() {
    let file = Database::new();
    stays_in_order(&file.url(), Some(Rate::per_second(40)), 60, 2).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn conversations_stay_in_order_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    stays_in_order(database.url(), None, 60, 2).await;
}

/// Messages waiting for a token are not touched: each is claimed once, however long it waits.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn message_is_claimed_once_at_a_rate() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let (clock, slow) = (virtual_clock(), Recording::new("desk", Some(Rate::per_second(20))));
    let builder = Switchboard::builder(Store::open(database.url()).await.unwrap()).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(slow.clone())]);
    for n in 0..100 {
        desk.switchboard.send("desk", text(n, &format!("Bulk {n}"))).await.unwrap();
    }
    until(&clock, Duration::from_millis(20), async || slow.taken().len() == 100).await;
    desk.close().await;
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT max(fence), count(*) FROM civic_messaging.message", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 100));
}

/// While an account is suspended its messages wait untouched, except for one probe at a time.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn suspended_account_claims_only_its_probe() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let (clock, channel) = (virtual_clock(), Recording::new("desk", None));
    let expired = || Error::new(ErrorKind::Unauthenticated, "the token has expired").with_outcome(Outcome::Rejected);
    (0..200).for_each(|_| channel.mock.will_fail(expired()));
    let builder = Switchboard::builder(Store::open(database.url()).await.unwrap()).clock(clock.clone());
    let board = builder.line(Line::new("desk").channel(channel.clone())).build().unwrap();
    for n in 0..200 {
        board.send("desk", text(n, &format!("Reminder {n}"))).await.unwrap();
    }
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    let begun = clock.now();
    until(&clock, Duration::from_millis(250), async || clock.now().since(begun) > Duration::from_secs(900)).await;
    drop(stop);
    worker.await.unwrap().unwrap();
    assert_eq!(channel.taken(), [""; 0]);
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT sum(fence)::bigint FROM civic_messaging.message", &[]).await.unwrap();
    // The concurrent sends and those first claimed, then a few for each of about ten probes.
    let claims: i64 = row.get(0);
    assert!(claims <= 64 + 10 * 4, "{claims} claims");
}

/// Two workers of one account share its rate.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn workers_share_the_account_rate() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    let (clock, slow) = (virtual_clock(), Recording::new("desk", Some(Rate::per_second(10))));
    let open = async || {
        let builder = Switchboard::builder(Store::open(database.url()).await.unwrap()).clock(clock.clone());
        Desk::of(builder, [Line::new("desk").channel(slow.clone())])
    };
    let desks = [open().await, open().await];
    for n in 0..120 {
        desks[0].switchboard.send("desk", text(n, &format!("Bulk {n}"))).await.unwrap();
    }
    let start = clock.now();
    until(&clock, Duration::from_millis(10), async || slow.taken().len() >= 100).await;
    let took = clock.now().since(start);
    let (sent, seconds) = (slow.taken().len() as f64, took.as_secs_f64());
    assert!(sent / seconds <= 10.5, "{sent} in {seconds} s");
    assert!(sent / seconds > 5.0, "{sent} in {seconds} s");
    for desk in desks {
        desk.close().await;
    }
}

/// The gateway's retry-after is two minutes, and the worker restarts meanwhile.
async fn pause_is_kept(url: &str) {
    let (clock, channel) = (virtual_clock(), Recording::new("desk", None));
    let open = async || {
        let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
        Desk::of(builder, [Line::new("desk").channel(channel.clone())])
    };
    let desk = open().await;
    let too_many = Error::new(ErrorKind::RateLimited, "too many").with_outcome(Outcome::Rejected);
    channel.mock.will_fail(too_many.with_retry(true, Some(Duration::from_secs(120))));
    let begun = clock.now();
    let id = desk.switchboard.send("desk", text(1, "One")).await.unwrap();
    let tried = async || desk.switchboard.status(id).await.unwrap().unwrap();
    until(&clock, Duration::ZERO, async || tried().await.state == State::Deferred).await;
    desk.close().await;
    let desk = open().await;
    desk.switchboard.send("desk", text(2, "Two")).await.unwrap();
    // Not the refused one, which has its own wait.
    until(&clock, Duration::from_millis(500), async || channel.taken().iter().any(|words| words == "Two")).await;
    assert!(clock.now().since(begun) >= Duration::from_secs(120), "{:?}", clock.now().since(begun));
    desk.close().await;
}

#[tokio::test]
async fn account_pause_survives_a_restart() {
    let file = Database::new();
    pause_is_kept(&file.url()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn account_pause_survives_a_restart_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    pause_is_kept(database.url()).await;
}

#[tokio::test]
async fn next_message_of_a_conversation_is_sent_at_once() {
    let (clock, channel) = (virtual_clock(), Recording::new("desk", None));
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let desk = Desk::of(builder, [Line::new("desk").channel(channel.clone())]);
    let mut last = None;
    for n in 0..50 {
        last = Some(desk.switchboard.send("desk", Message::text(person(1), format!("{n}"))).await.unwrap());
    }
    // The clock stands still.
    desk.until(last.unwrap(), &[State::Accepted]).await;
    assert_eq!(channel.taken(), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    desk.close().await;
}

#[tokio::test]
async fn scheduled_message_delays_no_other() {
    let (clock, channel) = (virtual_clock(), Recording::new("desk", None));
    let builder = Switchboard::builder(memory().await).clock(clock.clone());
    let board = builder.line(Line::new("desk").channel(channel.clone())).build().unwrap();
    let (stop, stopped) = stop();
    let worker = tokio::spawn(board.clone().run(stopped));
    let later = clock.now().plus(Duration::from_secs(60));
    board.send_at("desk", text(1, "Later"), later).await.unwrap();
    board.send("desk", text(1, "Now")).await.unwrap();
    until(&clock, Duration::from_millis(10), async || channel.taken() == ["Now"]).await;
    until(&clock, Duration::from_secs(1), async || channel.taken() == ["Now", "Later"]).await;
    assert!(clock.now() >= later);
    drop(stop);
    worker.await.unwrap().unwrap();
}

/// A line of two accounts: the first carries only short texts, the second all, at a message a second.
fn of_two_accounts() -> (Recording, Recording) {
    let (mut short, long) = (Recording::new("short", None), Recording::new("long", Some(Rate::per_second(1))));
    short.info = short.info.with_capability(|can| can.text = Some(TextLimit::characters(20)));
    (short, long)
}

fn longer(n: u32) -> Message {
    text(n, &format!("{n}: more than twenty characters"))
}

/// Messages that only a slow account can carry hold up no others of the line, before and after a restart.
async fn bound_messages_hold_up_no_others(url: &str) {
    let (clock, (short, long)) = (virtual_clock(), of_two_accounts());
    let open = async |channels: &[&Recording]| {
        let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
        let line = channels.iter().fold(Line::new("desk"), |line, channel| line.channel((*channel).clone()));
        Desk::of(builder, [line])
    };
    // Bound by a check before they are enqueued, and by one of the worker.
    for (n, accounts) in [(0, &[&short, &long][..]), (1, &[&long])] {
        let desk = open(accounts).await;
        for of in 0..100 {
            desk.switchboard.send("desk", longer(n * 100 + of)).await.unwrap();
        }
        for _ in 0..2 {
            let before = long.taken().len();
            until(&clock, Duration::from_millis(100), async || long.taken().len() > before).await;
        }
        desk.close().await;
        let desk = open(&[&short, &long]).await;
        let before = long.taken().len();
        until(&clock, Duration::from_millis(100), async || long.taken().len() > before).await;
        let id = desk.switchboard.send("desk", text(1_000 + n, "Short")).await.unwrap();
        let status = async || desk.switchboard.status(id).await.unwrap().unwrap();
        // No time passes, so that no token of the slow account can come before it.
        until(&clock, Duration::ZERO, async || status().await.state == State::Accepted).await;
        assert_eq!(short.taken().len(), n as usize + 1);
        desk.close().await;
    }
}

#[tokio::test]
async fn bound_messages_hold_up_no_others_of_the_line() {
    let file = Database::new();
    bound_messages_hold_up_no_others(&file.url()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn bound_messages_hold_up_no_others_of_the_line_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    bound_messages_hold_up_no_others(database.url()).await;
}

/// A limit of one recipient protects that person whichever account sends, so the retry is by the same account, after a
/// restart too; after a failure of the account itself it is by the other one.
async fn retry_is_by_the_same_account(url: &str) {
    let clock = virtual_clock();
    let (first, second) = (Recording::new("first", None), Recording::new("second", None));
    let open = async || {
        let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone());
        Desk::of(builder, [Line::new("desk").channel(first.clone()).channel(second.clone())])
    };
    let pair = Error::new(ErrorKind::RateLimited, "too many to this person").with_outcome(Outcome::Rejected);
    first.mock.will_fail(pair.with_retry(true, Some(Duration::from_secs(30))).with_per_recipient(true));
    let desk = open().await;
    let id = desk.switchboard.send("desk", text(1, "One")).await.unwrap();
    let status = async |desk: &Desk| desk.switchboard.status(id).await.unwrap().unwrap();
    until(&clock, Duration::ZERO, async || status(&desk).await.state == State::Deferred).await;
    desk.close().await;
    let desk = open().await;
    until(&clock, Duration::from_secs(1), async || status(&desk).await.state == State::Accepted).await;
    assert_eq!((first.taken().len(), second.taken().len()), (1, 0));
    // Failover says otherwise.
    first.mock.will_fail(Error::new(ErrorKind::Unavailable, "not now").with_outcome(Outcome::NotSent));
    let id = desk.switchboard.send("desk", text(2, "Two")).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    assert_eq!((first.taken().len(), second.taken().len()), (1, 1));
    desk.close().await;
}

#[tokio::test]
async fn retry_after_a_restart_is_by_the_same_account() {
    let file = Database::new();
    retry_is_by_the_same_account(&file.url()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn retry_after_a_restart_is_by_the_same_account_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    retry_is_by_the_same_account(database.url()).await;
}
