//! A desk of several processes on one PostgreSQL: two workers send, one of them is killed halfway, and another department's
//! program enqueues messages by SQL within its own transactions (a transactional outbox).
//!
//! Run it with `cargo run --example desk_postgres --all-features`. The database is a temporary server, or the empty database
//! in `CIVIC_MESSAGING_TEST_POSTGRES`; the gateway is a fake GOV.UK Notify on loopback.

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
const POSTGRES: &str = "CIVIC_MESSAGING_TEST_POSTGRES";

/// Runs a temporary server until its stdin closes.
const SERVER: &str = r#"
trap '' INT
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1) && mkdir -m 700 "$1" && cd "$1" || exit 1
"$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C >log 2>&1 &&
    "$bin/pg_ctl" -D data -w -l log -o "-k '$1' -c listen_addresses=''" start >start 2>&1 && echo ready
read -r _
"$bin/pg_ctl" -D data -m immediate stop >/dev/null 2>&1
rm -rf "$1"
"#;

/// Builds the switchboard of each process.
async fn switchboard(database: &str, gateway: &str) -> civic_messaging::Result<Switchboard> {
    let key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
    let config = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1")?;
    let sms = Notify::sms(config.base_url(gateway)?)?;
    let enquiries = Line::new("enquiries").name("General enquiries").controller("Exampleshire Council").channel(sms);
    Switchboard::builder(Store::open(database).await?).line(enquiries).build()
}

/// The program of another department, in any language: it books a collection and enqueues the message, both or neither.
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
        // Every fifth transaction rolls back.
        if house % 5 == 0 { booking.rollback().await? } else { booking.commit().await? }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(database), Ok(gateway)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) {
        // A worker process.
        let switchboard = switchboard(&database, &gateway).await?;
        println!("running");
        switchboard.run(std::future::pending()).await?;
        return Ok(());
    }
    let Some((server, database)) = server()? else {
        println!("No PostgreSQL is installed under /usr/lib/postgresql, and {POSTGRES} is not set: nothing to run.");
        return Ok(());
    };
    Store::migrate(&database).await?;
    let gateway = FakeGateway::start().await;
    let accepted = r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;
    gateway.always(Step::any().answers(201, accepted));
    let (mut first, mut second) = (worker(&database, &gateway.base_url())?, worker(&database, &gateway.base_url())?);

    println!(
        "Two workers run. The desk writes to 20 residents, and another program books 40 collections by SQL: eight"
    );
    println!("transactions roll back, and send no message. One worker is killed halfway.");
    let switchboard = switchboard(&database, &gateway.base_url()).await?;
    let replies = async {
        for n in 1..=20 {
            let to = Address::phone(&format!("+4477009002{n:02}"))?;
            switchboard
                .send("enquiries", Message::text(to, format!("Reply {n}: we are on it.")).key(format!("reply-{n}")))
                .await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let bookings = async { Ok::<_, Box<dyn Error>>(book(&database, 1..=20).await?) };
    tokio::try_join!(replies, bookings)?;
    first.kill()?;
    first.wait()?;
    book(&database, 21..=40).await?;

    // The other worker takes over the killed one's claims when their lease expires, after three minutes.
    let started = Instant::now();
    let states = loop {
        let states: BTreeMap<_, _> =
            switchboard.stats().await?.all().messages.into_iter().map(|(state, n)| (state.as_str(), n)).collect();
        let count = |state: State| states.get(state.as_str()).copied().unwrap_or(0);
        let waiting = count(State::Queued) + count(State::Deferred);
        let claimed = count(State::Claimed) + count(State::Sending);
        if waiting == 0 && (claimed == 0 || started.elapsed() > Duration::from_secs(3)) {
            break states;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    second.kill()?;
    second.wait()?;

    assert_eq!(states.values().sum::<u64>(), 20 + 32, "a message was lost");
    let mut accepted = 0;
    for n in 1..=40 {
        let copies = gateway.accepted(&format!("House {n}: your collection is on Tuesday."));
        assert!(copies <= usize::from(n % 5 != 0), "house {n} had {copies} texts");
        accepted += copies;
    }
    for n in 1..=20 {
        let copies = gateway.accepted(&format!("Reply {n}: we are on it."));
        assert!(copies <= 1, "resident {n} had {copies} texts");
        accepted += copies;
    }
    println!("In the store: {states:?}, all 52. The gateway accepted {accepted} messages, none of them twice.");
    println!(
        "Messages still claimed or sending belong to the killed worker: the other takes them over after three minutes,"
    );
    println!("when the lease expires. Those that were being sent are looked up, and never resent blindly.");
    drop((switchboard, server));
    Ok(())
}

/// Starts a worker in a separate process.
fn worker(database: &str, gateway: &str) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.env(DATABASE, database).env(GATEWAY, gateway).stdout(Stdio::piped()).spawn()?;
    wait_for_line(&mut child, "running")?;
    Ok(child)
}

/// Waits until a child prints this line.
fn wait_for_line(child: &mut Child, expected: &str) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("the child has no stdout")?).read_line(&mut line)?;
    if line.trim() == expected { Ok(()) } else { Err("the child did not start".into()) }
}

/// Stops the temporary server on drop.
struct Server(Option<Child>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.stdin.take());
            _ = child.wait();
        }
    }
}

/// Returns the configured database or a temporary one, `None` if PostgreSQL is not installed.
fn server() -> Result<Option<(Server, String)>, Box<dyn Error>> {
    if let Ok(url) = std::env::var(POSTGRES) {
        return Ok(Some((Server(None), url)));
    }
    if std::fs::read_dir("/usr/lib/postgresql").map_or(0, Iterator::count) == 0 {
        return Ok(None);
    }
    let folder = std::env::temp_dir().join(format!("civic-desk-pg-{}", std::process::id()));
    // PostgreSQL refuses to run as root.
    let root = Command::new("id").arg("-u").output()?.stdout.trim_ascii() == b"0";
    let mut command = Command::new(if root { "setpriv" } else { "sh" });
    if root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
    }
    let mut child =
        command.args(["-c", SERVER, "sh"]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    wait_for_line(&mut child, "ready")?;
    let socket = folder.to_string_lossy().replace('/', "%2F");
    Ok(Some((Server(Some(child)), format!("postgres://postgres@{socket}/postgres"))))
}
