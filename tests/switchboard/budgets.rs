//! Budgets through the switchboard, and workers killed with `kill -9` while a budget runs out.
//!
//! `CIVIC_CYCLES` sets the number of kills (12, and 8 for PostgreSQL), `CIVIC_ATTEMPTS` the number of messages (600),
//! `CIVIC_SEED` the seed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::policy::BillingPeriod;
use civic_messaging::policy::budgets::{AtCap, Budget, BudgetCap};
use civic_messaging::policy::tariffs::Tariffs;
use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, ReceivedRequest, Step};
use civic_messaging::{Address, ErrorKind, Medium, Message, Mock, Purpose, Timestamp};

use super::crash::{TAKEN, channel};
use super::{Ahead, Random, number, person, seed};

const DATABASE: &str = "CIVIC_TEST_BUDGET_DATABASE";
const GATEWAY: &str = "CIVIC_TEST_GATEWAY";
const CAP: &str = "CIVIC_TEST_CAP";
const AHEAD: &str = "CIVIC_TEST_AHEAD";

/// A budget of a period that does not end during the test.
fn budget(cap: u64) -> Budget {
    let soon = SystemClock::new().now().plus(Duration::from_secs(7 * 86_400));
    let ends_soon = BillingPeriod::Year.end(SystemClock::new().now()).unwrap() < soon;
    let period = if ends_soon { BillingPeriod::FinancialYear } else { BillingPeriod::Year };
    Budget::new("reminders", BudgetCap::Messages(cap), period).unwrap()
}

async fn switchboard(database: &str, base: &str, cap: u64, clock: impl Clock) -> Switchboard {
    let builder = Switchboard::builder(Store::open(database).await.unwrap()).clock(clock).budget(budget(cap));
    builder.line(Line::new("desk").channel(channel(base))).build().unwrap()
}

/// The process that is killed: it sends. Does nothing without its variables.
#[tokio::test]
async fn child() {
    let (Ok(database), Ok(base)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) else { return };
    let ahead = Duration::from_secs(std::env::var(AHEAD).unwrap().parse().unwrap());
    let cap = std::env::var(CAP).unwrap().parse().unwrap();
    switchboard(&database, &base, cap, Ahead::by(ahead)).await.run(std::future::pending()).await.unwrap();
}

fn start(database: &str, base: &str, cap: u64, ahead: Duration) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "budgets::child", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .env(GATEWAY, base)
        .env(CAP, cap.to_string())
        .env(AHEAD, ahead.as_secs().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(feature = "sqlite-system")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budget_is_exact_over_kills() {
    let file = super::Database::new();
    is_exact(&file.url(), 1, 12, Duration::ZERO).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budget_is_exact_over_kills_of_two_workers_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    is_exact(database.url(), 2, 8, Duration::from_secs(181)).await;
}

async fn is_exact(database: &str, workers: usize, cycles: u64, ahead: Duration) {
    let (cycles, random) = (number("CIVIC_CYCLES", cycles), Random::new(seed(20_261_202)));
    let attempts = number("CIVIC_ATTEMPTS", 600);
    let cap = (attempts / 4).min(500);
    let gateway = FakeGateway::start().await;
    gateway.always(Step::any().answers(201, TAKEN.replace("{}", "1a2b3c4d5e6f708192a3b4c5d6e7f809")));
    let board = switchboard(database, &gateway.base_url(), cap, SystemClock::new()).await;
    for n in 0..u32::try_from(attempts).unwrap() {
        let reminder = Message::text(person(n), "Your council tax is due.").key(format!("r-{n}"));
        board.send("desk", reminder).await.unwrap();
    }
    drop(board);
    // Without look-ups.
    let is_sent = |request: &&ReceivedRequest| request.accepted && request.contains("council tax");
    let accepted = || gateway.requests().iter().filter(is_sent).count() as u64;
    let mut clock = Duration::ZERO;
    for cycle in 0..cycles {
        clock += ahead;
        let mut children: Vec<_> = (0..workers).map(|_| start(database, &gateway.base_url(), cap, clock)).collect();
        // A moment at which some messages were sent, and others are being sent.
        let wanted = (accepted() + 1 + random.below(cap / cycles + 1)).min(cap);
        let sending = async {
            while accepted() < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(accepted() <= cap, "cycle {cycle}: {} of {cap}", accepted());
    }
    // The last worker tries all that is left.
    let time = VirtualClock::starting_at(SystemClock::new().now().plus(clock + ahead));
    let board = switchboard(database, &gateway.base_url(), cap, time.clone()).await;
    let (stop, stopping) = super::stop();
    let worker = tokio::spawn(board.clone().run(stopping));
    let open = [State::Queued, State::Claimed, State::Sending, State::Deferred];
    let stats = loop {
        let all = board.stats().await.unwrap().all();
        if open.into_iter().map(|state| all.count(state)).sum::<u64>() == 0 {
            break all;
        }
        time.advance(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(stop);
    worker.await.unwrap().unwrap();
    let unknown = stats.count(State::Unknown) + stats.count(State::Parked);
    let (sent, refused) = (stats.count(State::Accepted), stats.count(State::Refused));
    println!("{cycles} kills, {attempts} messages: {} at the gateway, {sent} accepted, {unknown} unknown", accepted());
    assert_eq!((sent + unknown, refused), (cap, attempts - cap));
    assert!(accepted() <= cap && sent <= accepted(), "{} of {cap}", accepted());
    assert_eq!(board.budgets().await.unwrap()[0].used, BudgetCap::Messages(cap));
}

/// A council with a virtual clock, and a worker that runs until the end.
#[cfg(feature = "sqlite-system")]
async fn council(at: &str, budgets: impl IntoIterator<Item = Budget>) -> (Switchboard, Mock, VirtualClock) {
    let clock = VirtualClock::starting_at(at.parse().unwrap());
    let sms = Mock::sms();
    let store = Store::open("sqlite::memory:").await.unwrap();
    let line = Line::new("desk").channel(sms.clone()).channel(Mock::whatsapp());
    let builder = Switchboard::builder(store).clock(clock.clone()).line(line);
    let board = budgets.into_iter().fold(builder, |builder, budget| builder.budget(budget)).build().unwrap();
    tokio::spawn(board.clone().run(std::future::pending()));
    (board, sms, clock)
}

#[cfg(feature = "sqlite-system")]
async fn send(board: &Switchboard, n: u32, purpose: Purpose) -> civic_messaging::switchboard::Id {
    let message = Message::text(person(n), "Your council tax is due.").purpose(purpose).tag("tax");
    board.send("desk", message).await.unwrap()
}

#[cfg(feature = "sqlite-system")]
async fn ends(board: &Switchboard, clock: &VirtualClock, id: civic_messaging::switchboard::Id, state: State) {
    super::until(clock, Duration::ZERO, async || board.status(id).await.unwrap().unwrap().state == state).await;
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn bulk_stops_at_the_budget_and_replies_continue() {
    let budget = Budget::new("tax", BudgetCap::Messages(3), BillingPeriod::Day).unwrap();
    let (board, sms, clock) = council("2026-12-01T09:00:00Z", [budget.tag("tax").exempt(Purpose::Reply)]).await;
    for n in 0..3 {
        let id = send(&board, n, Purpose::Notice).await;
        ends(&board, &clock, id, State::Accepted).await;
    }
    let refused = send(&board, 3, Purpose::Notice).await;
    ends(&board, &clock, refused, State::Refused).await;
    let why = board.status(refused).await.unwrap().unwrap().reason.unwrap();
    assert_eq!(why, "the budget tax of this day is spent");
    let reply = send(&board, 4, Purpose::Reply).await;
    ends(&board, &clock, reply, State::Accepted).await;
    let untagged = board.send("desk", Message::text(person(5), "Hello")).await.unwrap();
    ends(&board, &clock, untagged, State::Accepted).await;
    assert_eq!(sms.sent().len(), 5);
    let [state] = &board.budgets().await.unwrap()[..] else { panic!("one budget") };
    assert_eq!(
        (state.used, state.ends),
        (BudgetCap::Messages(3), "2026-12-02T00:00:00Z".parse::<Timestamp>().unwrap())
    );
    // The next day it starts again.
    clock.advance(Duration::from_secs(15 * 3600));
    let next = send(&board, 6, Purpose::Notice).await;
    ends(&board, &clock, next, State::Accepted).await;
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn message_waits_for_the_next_period_of_its_budget() {
    let budget = Budget::new("day", BudgetCap::Messages(1), BillingPeriod::Day).unwrap().at_cap(AtCap::Wait);
    let (board, sms, clock) = council("2026-12-01T23:59:00Z", [budget]).await;
    let first = send(&board, 1, Purpose::Notice).await;
    ends(&board, &clock, first, State::Accepted).await;
    let second = send(&board, 2, Purpose::Notice).await;
    ends(&board, &clock, second, State::Deferred).await;
    assert_eq!(sms.sent().len(), 1);
    clock.advance(Duration::from_secs(61));
    ends(&board, &clock, second, State::Accepted).await;
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn segments_are_counted_as_the_gateway_charges_them() {
    let budget = Budget::new("texts", BudgetCap::Segments(3), BillingPeriod::Month).unwrap();
    let (board, _, clock) = council("2026-12-01T09:00:00Z", [budget]).await;
    let text = "â".repeat(71); // two segments
    let two = board.send("desk", Message::text(person(1), &text)).await.unwrap();
    ends(&board, &clock, two, State::Accepted).await;
    assert_eq!(board.budgets().await.unwrap()[0].used, BudgetCap::Segments(2));
    let over = board.send("desk", Message::text(person(2), &text)).await.unwrap();
    ends(&board, &clock, over, State::Refused).await;
    let one = send(&board, 3, Purpose::Notice).await;
    ends(&board, &clock, one, State::Accepted).await;
    let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "Hello");
    let whatsapp = board.send("desk", whatsapp).await.unwrap();
    ends(&board, &clock, whatsapp, State::Accepted).await;
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn money_is_counted_by_the_tariff() {
    let tariff = r#"{ "tariffs": [{ "gateway": "mock", "medium": "sms", "country": "44", "from": "2026-01-01",
        "per": "segment", "micros": 24000, "currency": "GBP", "source": "contract 4711", "as_of": "2026-01-01",
        "confidence": "primary", "free": { "units": 1000, "period": "financial_year" } }] }"#;
    let money = |amount| BudgetCap::Money(civic_messaging::message::Money::parse(amount, "GBP").unwrap());
    let clock = VirtualClock::starting_at("2026-12-01T09:00:00Z".parse().unwrap());
    let board = Switchboard::builder(Store::open("sqlite::memory:").await.unwrap())
        .clock(clock.clone())
        .line(Line::new("desk").channel(Mock::sms()))
        .budget(Budget::new("money", money("0.05"), BillingPeriod::Month).unwrap())
        .tariffs(Tariffs::new().with_json(tariff).unwrap())
        .build()
        .unwrap();
    tokio::spawn(board.clone().run(std::future::pending()));
    for n in 0..2 {
        let id = send(&board, n, Purpose::Notice).await;
        ends(&board, &clock, id, State::Accepted).await;
    }
    let over = send(&board, 2, Purpose::Notice).await;
    ends(&board, &clock, over, State::Refused).await;
    assert_eq!(board.budgets().await.unwrap()[0].used, money("0.048"));
    // No tariff states the price of a text to Ireland.
    let abroad = Message::text(Address::phone("+353 86 123 4567").unwrap(), "Hello");
    let abroad = board.send("desk", abroad).await.unwrap();
    ends(&board, &clock, abroad, State::Refused).await;
    let why = board.status(abroad).await.unwrap().unwrap().reason.unwrap();
    assert_eq!(why, "no tariff states a price, which the budget money needs");
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn invalid_budgets_are_refused_at_build() {
    let cap = BudgetCap::Messages(1);
    let named = |name: &str| Budget::new(name, cap, BillingPeriod::Day).unwrap();
    let money = BudgetCap::Money(civic_messaging::message::Money::parse("5", "GBP").unwrap());
    let money = || Budget::new("money", money, BillingPeriod::Day).unwrap();
    let dollars = r#"{ "tariffs": [{ "gateway": "mock", "medium": "whatsapp", "from": "2026-01-01", "per": "message",
        "micros": 22000, "currency": "USD", "source": "contract", "as_of": "2026-01-01", "confidence": "primary" }] }"#;
    for (budgets, field, rule) in [
        (vec![named("a"), named("a")], "budgets[1].name", "is a duplicate"),
        (vec![named("a").line("dusk")], "budgets[0].lines", "did you mean desk?"),
        (vec![money()], "budgets[0].money", "no tariff is for mock and sms"),
        (vec![money().medium(Medium::WhatsApp)], "budgets[0].money", "is in GBP, but mock charges whatsapp in USD"),
    ] {
        let line = Line::new("desk").channel(Mock::sms()).channel(Mock::whatsapp());
        let builder = Switchboard::builder(Store::open("sqlite::memory:").await.unwrap()).line(line);
        let builder = builder.tariffs(Tariffs::new().with_json(dollars).unwrap());
        let built = budgets.into_iter().fold(builder, |builder, budget| builder.budget(budget)).build();
        let error = built.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
        assert!(error.to_string().contains(rule), "{error}");
    }
}
