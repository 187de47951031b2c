//! A desk of several processes on one PostgreSQL: two workers send, one of them is killed in the middle of it, and the
//! program of another department hands its texts in by SQL, each within the transaction of its own business.
//!
//! Run it with `cargo run --example desk_postgres --all-features`. The database is a server of its own, which goes when
//! this does, or an empty one that `CIVIC_MESSAGING_TEST_POSTGRES` names; the gateway is a double of GOV.UK Notify on
//! loopback.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Address, Message, Notify, notify};
use tokio_postgres::NoTls;

const DATABASE: &str = "DESK_DATABASE";
const GATEWAY: &str = "DESK_GATEWAY";
const GIVEN: &str = "CIVIC_MESSAGING_TEST_POSTGRES";

/// A server of our own, for as long as somebody may write to it.
const SERVER: &str = r#"
trap '' INT
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1) && mkdir -m 700 "$1" && cd "$1" || exit 1
"$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C >log 2>&1 &&
    "$bin/pg_ctl" -D data -w -l log -o "-k '$1' -c listen_addresses=''" start >start 2>&1 && echo ready
read -r _
"$bin/pg_ctl" -D data -m immediate stop >/dev/null 2>&1
rm -rf "$1"
"#;

/// The switchboard of each process.
async fn switchboard(database: &str, gateway: &str) -> civic_messaging::Result<Switchboard> {
    let key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
    let config = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1")?;
    let sms = Notify::sms(config.base_url(gateway)?)?;
    let enquiries = Line::new("enquiries").name("General enquiries").controller("Exampleshire Council").channel(sms);
    Switchboard::builder(Store::open(database).await?).line(enquiries).build()
}

/// The program of another department, in whatever language: it books a collection and writes to the resident, both or
/// neither.
async fn book(database: &str, houses: impl Iterator<Item = u32>) -> Result<(), tokio_postgres::Error> {
    let (mut client, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE IF NOT EXISTS collection (house INT PRIMARY KEY, day TEXT NOT NULL)").await?;
    for house in houses {
        let booking = client.transaction().await?;
        booking.execute("INSERT INTO collection VALUES ($1, 'Tuesday')", &[&i32::try_from(house).unwrap_or(0)]).await?;
        let text = format!(
            r#"{{"to": {{"phone": "+4477009001{house:02}"}}, "key": "collection-{house}",
                 "content": {{"text": "House {house}: your collection is on Tuesday."}}}}"#
        );
        booking.query_one("SELECT civic_messaging.enqueue('enquiries', $1)", &[&text]).await?;
        // Every fifth thinks better of it.
        if house % 5 == 0 { booking.rollback().await? } else { booking.commit().await? }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(database), Ok(gateway)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) {
        // A worker, as it would run for years.
        let board = switchboard(&database, &gateway).await?;
        println!("works");
        board.run(std::future::pending()).await?;
        return Ok(());
    }
    let Some((server, database)) = server()? else {
        println!(
            "No PostgreSQL is installed under /usr/lib/postgresql, and {GIVEN} names none: there is nothing to show."
        );
        return Ok(());
    };
    Store::migrate(&database).await?;
    let double = FakeGateway::start().await;
    let taken = r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;
    double.always(Step::any().answers(201, taken));
    let (mut first, mut second) = (worker(&database, &double.base_url())?, worker(&database, &double.base_url())?);

    println!("Two workers run. The desk writes to 20 residents, and another program books 40 collections by SQL:");
    println!("eight of them it takes back, and no text may go for those. One worker is killed in the middle.");
    let board = switchboard(&database, &double.base_url()).await?;
    let writes = async {
        for n in 1..=20 {
            let to = Address::phone(&format!("+4477009002{n:02}"))?;
            board
                .send("enquiries", Message::text(to, format!("Reply {n}: we are on it.")).key(format!("reply-{n}")))
                .await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let books = async { Ok::<_, Box<dyn Error>>(book(&database, 1..=20).await?) };
    tokio::try_join!(writes, books)?;
    first.kill()?;
    first.wait()?;
    book(&database, 21..=40).await?;

    // What the one that was killed had claimed is taken over after three minutes; all else goes on at once.
    let begun = Instant::now();
    let stands = loop {
        let stands: BTreeMap<_, _> =
            board.stats().await?.all().messages.into_iter().map(|(state, n)| (state.as_str(), n)).collect();
        let held = |state: State| stands.get(state.as_str()).copied().unwrap_or(0);
        let waits = held(State::Queued) + held(State::Deferred);
        let held = held(State::Claimed) + held(State::Sending);
        if waits == 0 && (held == 0 || begun.elapsed() > Duration::from_secs(3)) {
            break stands;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    second.kill()?;
    second.wait()?;

    assert_eq!(stands.values().sum::<u64>(), 20 + 32, "something was lost");
    let mut at_the_gateway = 0;
    for n in 1..=40 {
        let copies = double.accepted(&format!("House {n}: your collection is on Tuesday."));
        assert!(copies <= usize::from(n % 5 != 0), "house {n} had {copies} texts");
        at_the_gateway += copies;
    }
    for n in 1..=20 {
        let copies = double.accepted(&format!("Reply {n}: we are on it."));
        assert!(copies <= 1, "resident {n} had {copies} texts");
        at_the_gateway += copies;
    }
    println!("In the store: {stands:?}, which is all 52. At the gateway: {at_the_gateway} texts, none of them twice.");
    println!(
        "What is claimed or sending yet, the worker that was killed held: the other takes it over after three minutes."
    );
    println!("What was on its way by then is looked into, and never sent again blindly.");
    drop((board, server));
    Ok(())
}

/// Starts a worker as a process of its own.
fn worker(database: &str, gateway: &str) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.env(DATABASE, database).env(GATEWAY, gateway).stdout(Stdio::piped()).spawn()?;
    said(&mut child, "works")?;
    Ok(child)
}

/// Waits until a child says that it is ready.
fn said(child: &mut Child, word: &str) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("it has no output")?).read_line(&mut line)?;
    if line.trim() == word { Ok(()) } else { Err("it did not start".into()) }
}

/// Ends a server of our own when it goes.
struct Server(Option<Child>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.stdin.take());
            _ = child.wait();
        }
    }
}

/// The database that is given, or one of our own. None where there is neither.
fn server() -> Result<Option<(Server, String)>, Box<dyn Error>> {
    if let Ok(url) = std::env::var(GIVEN) {
        return Ok(Some((Server(None), url)));
    }
    if std::fs::read_dir("/usr/lib/postgresql").map_or(0, Iterator::count) == 0 {
        return Ok(None);
    }
    let folder = std::env::temp_dir().join(format!("civic-desk-pg-{}", std::process::id()));
    // The server does not run as root.
    let root = Command::new("id").arg("-u").output()?.stdout.trim_ascii() == b"0";
    let mut command = Command::new(if root { "setpriv" } else { "sh" });
    if root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
    }
    let mut child =
        command.args(["-c", SERVER, "sh"]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    said(&mut child, "ready")?;
    let socket = folder.to_string_lossy().replace('/', "%2F");
    Ok(Some((Server(Some(child)), format!("postgres://postgres@{socket}/postgres"))))
}
