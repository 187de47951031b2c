//! Opt-outs through the switchboard, and a service killed with `kill -9` around a STOP.
//!
//! `CIVIC_CYCLES` sets the number of kills (30, and 15 for PostgreSQL), `CIVIC_SEED` the seed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::event::InboundContent;
use civic_messaging::switchboard::{Line, OptOutSource, State, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{ErrorKind, Message, Mock, Purpose};

use super::crash::{TAKEN, channel};
use super::{Ahead, Random, number, person, seed};

const DATABASE: &str = "CIVIC_TEST_OPT_OUT_DATABASE";
const GATEWAY: &str = "CIVIC_TEST_GATEWAY";
const CYCLE: &str = "CIVIC_TEST_CYCLE";
const AHEAD: &str = "CIVIC_TEST_AHEAD";

/// A number beside one that says STOP: the last digits of a phone number.
fn digits(n: u32) -> String {
    format!("+4477009{n:05}")
}

async fn switchboard(database: &str, base: &str, cycle: u32, ahead: Duration) -> (Switchboard, Mock) {
    let store = Store::open(database).await.unwrap();
    // Each process is an account of its own: a mock numbers its events from one.
    let whatsapp = Mock::whatsapp().account(format!("{cycle}"));
    let line = |id| Line::new(id).controller("Exampleshire Council");
    let board = Switchboard::builder(store)
        .clock(Ahead::by(ahead))
        .line(line("desk").channel(channel(base)))
        .line(line("leader").channel(whatsapp.clone()))
        .route("whatsapp", ["leader"])
        .build()
        .unwrap();
    (board, whatsapp)
}

/// The process that is killed: it enqueues messages and takes in STOPs, and prints each STOP that it answered with 2xx.
/// Does nothing without its variables.
#[tokio::test]
async fn child() {
    let (Ok(database), Ok(base)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) else { return };
    let cycle: u32 = std::env::var(CYCLE).unwrap().parse().unwrap();
    let ahead = Duration::from_secs(std::env::var(AHEAD).unwrap().parse().unwrap());
    let (board, whatsapp) = switchboard(&database, &base, cycle, ahead).await;
    tokio::spawn(board.clone().run(std::future::pending()));
    let say = |line: String| {
        println!("{line}");
        std::io::stdout().flush().unwrap();
    };
    for n in 0.. {
        // Three messages to each person, and the STOP among them.
        let who = (cycle * 100 + n / 3) % 100_000;
        let text = format!("Message {cycle:05}-{n:05} to {who}.");
        let key = format!("{cycle:05}-{n:05}");
        match board.send("desk", Message::text(person(who), text).key(key)).await {
            Ok(_) => {}
            Err(error) => assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some("opt-out"))),
        }
        if n % 3 == 1 {
            // Some are sent first.
            tokio::time::sleep(Duration::from_millis(u64::from(n % 13))).await;
            let stop = whatsapp.arrives_with(&digits(who), InboundContent::Text("STOP".to_owned()));
            assert_eq!(board.receive("whatsapp", stop).await.status, 200);
            say(format!("stopped {who}"));
        }
    }
}

fn start(database: &str, base: &str, cycle: u64, ahead: Duration) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opt_outs::child", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .env(GATEWAY, base)
        .env(CYCLE, cycle.to_string())
        .env(AHEAD, ahead.as_secs().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[cfg(feature = "sqlite-system")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_answered_2xx_holds_after_a_crash() {
    let file = super::Database::new();
    holds(&file.url(), 30, Duration::ZERO).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_answered_2xx_holds_after_a_crash_in_postgres() {
    let Some(database) = super::cluster::Database::new().await else { return };
    Store::migrate(database.url()).await.unwrap();
    holds(database.url(), 15, Duration::from_secs(181)).await;
}

async fn holds(database: &str, cycles: u64, ahead: Duration) {
    let (cycles, random) = (number("CIVIC_CYCLES", cycles), Random::new(seed(20_261_201)));
    let gateway = FakeGateway::start().await;
    gateway.always(Step::any().answers(201, TAKEN.replace("{}", "1a2b3c4d5e6f708192a3b4c5d6e7f809")));
    // The persons to whom requests were made from one on.
    let asked_from = |from: usize| {
        let requests = gateway.requests().into_iter().skip(from).filter(|request| request.accepted);
        let to =
            |text: &String| text.strip_prefix("Message ")?.split_once(" to ")?.1.trim_end_matches('.').parse().ok();
        requests.filter_map(|request| request.texts().iter().find_map(to)).collect::<Vec<u32>>()
    };
    let (mut stopped, mut clock, mut went) = (BTreeSet::<u32>::new(), Duration::ZERO, 0);
    for cycle in 0..cycles {
        clock += ahead;
        let requests_before = gateway.requests().len();
        let mut child = start(database, &gateway.base_url(), cycle, clock);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::task::spawn_blocking(move || {
            let persons = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("stopped ")?.parse().ok());
            persons.for_each(|who: u32| sender.send(who).unwrap());
        });
        let mut now = BTreeSet::new();
        for _ in 0..=random.below(12) {
            now.extend(received.recv().await);
        }
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reading.await.unwrap();
        while let Some(who) = received.recv().await {
            now.insert(who);
        }
        let asked = asked_from(requests_before);
        went += asked.len();
        // Those who had said STOP before this process started got nothing from it.
        let violations: Vec<_> = asked.iter().filter(|who| stopped.contains(who)).collect();
        assert!(violations.is_empty(), "cycle {cycle}: {violations:?}");
        // The very next send, by the next process.
        let cycle = u32::try_from(cycle).unwrap();
        let (board, _) = switchboard(database, &gateway.base_url(), cycle, clock + ahead).await;
        for (n, who) in now.iter().enumerate() {
            let next = Message::text(person(*who), "Your council tax is due.").key(format!("next-{cycle}-{n}"));
            let error = board.send("desk", next).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some("opt-out")), "cycle {cycle}: {who}");
        }
        stopped.append(&mut now);
    }
    // The last worker sends what is left: none of it to them.
    let requests_before = gateway.requests().len();
    let time = VirtualClock::starting_at(SystemClock::new().now().plus(clock + ahead));
    let builder = Switchboard::builder(Store::open(database).await.unwrap()).clock(time.clone());
    let line = Line::new("desk").controller("Exampleshire Council").channel(channel(&gateway.base_url()));
    let board = builder.line(line).build().unwrap();
    let (stop, stopping) = super::stop();
    let worker = tokio::spawn(board.clone().run(stopping));
    let open = [State::Queued, State::Claimed, State::Sending, State::Deferred];
    loop {
        let now = board.stats().await.unwrap().all();
        if open.into_iter().map(|state| now.count(state)).sum::<u64>() == 0 {
            break;
        }
        time.advance(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(stop);
    worker.await.unwrap().unwrap();
    let violations: Vec<_> = asked_from(requests_before).into_iter().filter(|who| stopped.contains(who)).collect();
    println!(
        "{cycles} kills: {} persons said STOP, {went} messages went, {} after it",
        stopped.len(),
        violations.len()
    );
    assert!(violations.is_empty(), "{violations:?}");
    assert!(stopped.len() as u64 > cycles && went as u64 > cycles, "hardly anything happened");
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn stop_is_answered_once_and_start_resumes() {
    let sms = Mock::sms();
    let line = Line::new("enquiries").channel(sms.clone());
    let store = Store::open("sqlite::memory:").await.unwrap();
    let board = Switchboard::builder(store).line(line).route("sms", ["enquiries"]).build().unwrap();
    let resident = civic_messaging::Address::phone("07700 900123").unwrap();
    let hears = async |text: &str| {
        let webhook = sms.arrives("07700 900123", text);
        assert_eq!(board.receive("sms", webhook).await.status, 200);
    };
    let sends = async |purpose| {
        let message = Message::text(resident.clone(), "Your council tax is due.").purpose(purpose);
        board.send("enquiries", message).await.map_err(|error| error.code().map(str::to_owned))
    };
    let refused = Err(Some("opt-out".to_owned()));
    assert!(sends(Purpose::Notice).await.is_ok());
    hears("STOP").await;
    assert_eq!(sends(Purpose::Notice).await, refused);
    let [entry] = &board.opt_outs().list("enquiries", None, 9).await.unwrap()[..] else { panic!("one entry") };
    assert_eq!((&entry.source, &*entry.addresses), (&OptOutSource::Keyword, &[resident.clone()][..]));
    assert!(!format!("{entry:?}").contains("900123"), "{entry:?}");
    assert!(sends(Purpose::Reply).await.is_ok());
    assert_eq!(sends(Purpose::Reply).await, refused);
    hears("When is my bin day?").await;
    assert!(sends(Purpose::Reply).await.is_ok());
    assert_eq!(sends(Purpose::Notice).await, refused);
    hears("START").await;
    assert!(sends(Purpose::Notice).await.is_ok());
    assert!(!board.opt_outs().is_opted_out("enquiries", &resident).await.unwrap());
}

#[cfg(feature = "sqlite-system")]
async fn register() -> Switchboard {
    let pepper = civic_messaging::Secret::new("a-pepper-for-tests").unwrap();
    let line = |id| Line::new(id).controller("Exampleshire Council").channel(Mock::sms().account(id));
    let store = Store::open("sqlite::memory:").await.unwrap();
    let ward = Line::new("ward").controller("Councillor A. Adams").channel(Mock::sms().account("ward"));
    let builder = Switchboard::builder(store).line(line("enquiries")).line(line("leader")).line(ward);
    builder.pepper(pepper).build().unwrap()
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn import_of_an_export_is_the_same_register() {
    use civic_messaging::Address;
    use civic_messaging::event::OptOutScope;
    use civic_messaging::switchboard::NewOptOut;

    let (first, second) = (register().await, register().await);
    let list = "mobile,reason\n07700900001,by letter\nnone,=1+1\n07700 900002,\"moved, says the family\"\n";
    let import = first.opt_outs().import_csv("enquiries", list, "J. Jones").await.unwrap();
    assert_eq!((import.recorded, import.unchanged, import.problems.len()), (2, 0, 1));
    assert_eq!((import.problems[0].line, import.problems[0].column), (3, 1));
    let again = first.opt_outs().import_csv("leader", list, "K. King").await.unwrap();
    assert_eq!((again.recorded, again.unchanged), (0, 2));
    let marketing = NewOptOut::new(Address::whatsapp("GB.13491208655302741918").unwrap(), "=J").note("'@x");
    first.opt_outs().record("leader", marketing.scope(OptOutScope::Marketing)).await.unwrap();
    // One that only its fingerprint is left of.
    let erased = Address::phone("07700 900001").unwrap();
    assert_eq!(first.opt_outs().pseudonymise("leader", &erased).await.unwrap(), 1);
    let export = first.opt_outs().export_csv("enquiries").await.unwrap();
    assert!(!export.contains("900001") && export.lines().count() == 4, "{export}");
    assert!(export.lines().all(|line| !line.split(',').any(|cell| cell.starts_with(['=', '@', '+', '-']))), "{export}");
    let import = second.opt_outs().import_csv("leader", &export, "K. King").await.unwrap();
    assert_eq!((import.recorded, &*import.problems), (3, &[][..]));
    assert_eq!(second.opt_outs().export_csv("leader").await.unwrap(), export);
    for board in [&first, &second] {
        let message = || Message::text(erased.clone(), "Your council tax is due.");
        assert_eq!(board.send("leader", message()).await.unwrap_err().code(), Some("opt-out"));
        assert!(board.send("ward", message()).await.is_ok());
        let blank = board.opt_outs().lift("leader", &erased, " ").await.unwrap_err();
        assert_eq!((blank.kind(), blank.field()), (ErrorKind::InvalidMessage, Some("officer")));
        assert_eq!(board.opt_outs().lift("leader", &erased, "J. Jones").await.unwrap(), 1);
        assert!(board.send("leader", message()).await.is_ok());
    }
}

#[cfg(feature = "sqlite-system")]
#[tokio::test]
async fn import_of_ten_thousand_rows_is_listed_in_pages() {
    let board = register().await;
    let list: String =
        std::iter::once("number\n".to_owned()).chain((0..10_000).map(|n| format!("+4479111{n:05}\n"))).collect();
    let import = board.opt_outs().import_csv("enquiries", list, "J. Jones").await.unwrap();
    assert_eq!((import.recorded, import.problems.len()), (10_000, 0));
    let (mut all, mut last) = (0, None);
    loop {
        let page = board.opt_outs().list("leader", last.as_ref(), 999).await.unwrap();
        all += page.len();
        last = page.into_iter().next_back();
        if last.is_none() {
            break;
        }
    }
    assert_eq!(all, 10_000);
    assert!(
        board
            .opt_outs()
            .is_opted_out("leader", &civic_messaging::Address::phone("+447911109999").unwrap())
            .await
            .unwrap()
    );
}
