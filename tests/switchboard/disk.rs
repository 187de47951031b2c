//! Fills the disk 200 times, each time at another moment: an in-memory file system of 16 megabytes, which a file beside
//! the store fills except for a few pages. It reports "no space left" as a real disk does, for the database, its WAL
//! and the index of that. It is mounted in its own namespace, which needs Linux but no privileges.
//!
//! `CIVIC_POINTS` sets the number of times, `CIVIC_SEED` the seed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::{Error, ErrorKind, Message, Mock, OnUnknown, Outcome};
use tokio::task::JoinSet;

use super::{Database, Random, number, person, seed, stop};

const FOLDER: &str = "CIVIC_TEST_DISK";
const DISKS: u64 = 8;

const SCRIPT: &str = r#"
for n in 0 1 2 3 4 5 6 7; do mkdir -p "$1/$n" && mount -t tmpfs -o size=16m none "$1/$n" || exit 77; done
"$2" --exact disk::child --nocapture --test-threads=1 || exit 101
mount -o remount,ro "$1/0" || exit 77
CIVIC_TEST_READ_ONLY=1 exec "$2" --exact disk::child --nocapture --test-threads=1
"#;

#[test]
fn full_disk_neither_loses_nor_doubles_messages() {
    let database = Database::new();
    let folder = &database.0;
    std::fs::create_dir(folder).unwrap();
    let ended = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(folder)
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder)
        .status();
    std::fs::remove_dir_all(folder).unwrap();
    let code = ended.ok().and_then(|ended| ended.code());
    if !matches!(code, Some(0 | 101)) {
        let words = "skipped: no file system can be mounted here by unshare --user --mount";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{words}");
        println!("{words}");
        return;
    }
    assert_eq!(code, Some(0));
}

/// The process that uses the small disks. Does nothing without its variable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let disks: Vec<_> = (0..DISKS).map(|n| Path::new(&folder).join(n.to_string())).collect();
    if std::env::var("CIVIC_TEST_READ_ONLY").is_ok() {
        return read_only(&disks[0]).await;
    }
    let (points, seed) = (number("CIVIC_POINTS", 200), seed(20_261_128));
    let mut working = JoinSet::new();
    for (n, disk) in (0..).zip(disks) {
        working.spawn(async move {
            let mut tally = Tally::default();
            for point in (n..points).step_by(DISKS as usize) {
                tally.add(full(&disk, Random::new(seed + point), point % 4 == 0).await);
            }
            // One disk remains for the read-only test.
            drop(Store::open(&format!("sqlite:{}", disk.join("left.db").display())).await.unwrap());
            tally
        });
    }
    let mut tally = Tally::default();
    working.join_all().await.into_iter().for_each(|of| tally.add(of));
    println!("{points} times full: {tally:?}");
    assert!(tally.refused >= points && tally.taken > points * 3, "hardly anything happened");
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    taken: u64,
    refused: u64,
    sent_while_full: usize,
    in_doubt: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.taken += other.taken;
        self.refused += other.refused;
        self.sent_while_full += other.sent_while_full;
        self.in_doubt += other.in_doubt;
    }
}

/// Fills the disk while messages are enqueued and sent, frees it again, and counts.
async fn full(disk: &Path, random: Random, restarts: bool) -> Tally {
    let (database, ballast) = (disk.join("desk.db"), disk.join("ballast"));
    let url = format!("sqlite:{}", database.display());
    let mock = Mock::sms();
    let open = async || {
        let store = Store::open(&url).await.unwrap();
        let line = Line::new("desk").channel(mock.clone());
        Switchboard::builder(store).line(line).route("sms", ["desk"]).build().unwrap()
    };
    let mut board = open().await;
    let message = |n: u64| {
        let to = person(u32::try_from(n).unwrap());
        Message::text(to, format!("Message {n}.")).key(format!("key-{n}")).on_unknown(OnUnknown::Park)
    };
    let (mut halt, stopped) = stop();
    let mut worker = tokio::spawn(board.clone().run(stopped));
    let log = rusqlite::Connection::open(&database).unwrap();
    let (mut tally, mut ids, mut refused) = (Tally::default(), BTreeMap::new(), Vec::new());
    let every = random.below(9) + 1;
    // A worker that starts on a full disk fails; this one has started.
    ids.insert(0, board.send("desk", message(0)).await.unwrap());
    until_settled(&board).await;
    fill(&ballast, 4096 * random.below(90));
    for n in 1..5000 {
        match board.send("desk", message(n)).await {
            Ok(id) => drop(ids.insert(n, id)),
            Err(error) => {
                is_full(&error);
                refused.push(n);
            }
        }
        if refused.len() > 5 {
            break;
        }
        // The database grows only at a checkpoint.
        if n % every == 0 {
            _ = log.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }
    assert!(!refused.is_empty(), "it was never full");
    let before = mock.sent().len();
    let webhook = mock.arrives("07700 900123", "Hello");
    let brought = board.receive("sms", webhook.clone()).await.status;
    assert!(brought == 200 || brought == 503, "{brought}");
    for path in [disk.join("new.db"), database.clone()] {
        if let Err(error) = Store::open(&format!("sqlite:{}", path.display())).await {
            is_full(&error);
        }
    }
    tokio::time::sleep(Duration::from_millis(random.below(50))).await;
    tally.sent_while_full = mock.sent().len() - before;
    drop(log);
    if restarts {
        worker.abort();
        _ = worker.await;
        std::fs::remove_file(&ballast).unwrap();
        drop(board);
        board = open().await;
        let (stop, stopped) = stop();
        halt = stop;
        worker = tokio::spawn(board.clone().run(stopped));
    } else {
        std::fs::remove_file(&ballast).unwrap();
    }

    (tally.taken, tally.refused) = (ids.len() as u64, refused.len() as u64);
    for n in refused {
        ids.insert(n, board.send("desk", message(n)).await.unwrap());
    }
    until_settled(&board).await;
    if brought != 200 {
        assert_eq!(board.receive("sms", webhook).await.status, 200);
    }
    let mut copies = BTreeMap::<String, u64>::new();
    for sent in mock.sent() {
        *copies.entry(sent.key.unwrap()).or_default() += 1;
    }
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
    for (n, id) in &ids {
        let key = format!("key-{n}");
        assert_eq!(board.by_key("desk", &key).await.unwrap(), Some(*id));
        let state = board.status(*id).await.unwrap().unwrap().state;
        match state {
            State::Accepted => assert!(copies.contains_key(&key), "{key} was not sent"),
            // A worker that ends during a send leaves it unknown.
            State::Parked if restarts => tally.in_doubt += 1,
            state => panic!("{key} is {state:?}"),
        }
    }
    let rows: u64 = board.stats().await.unwrap().all().messages.values().sum();
    assert_eq!(rows, ids.len() as u64);
    let (mut inbound, inbox) = (0, board.line("desk").unwrap());
    while let Some(event) = inbox.try_next().await.unwrap() {
        inbound += usize::from(event.as_inbound().is_some());
        event.ack().await.unwrap();
    }
    assert_eq!(inbound, 1);
    drop(halt);
    worker.await.unwrap().unwrap();
    drop(board);
    let check = rusqlite::Connection::open(&database).unwrap();
    let sound: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    drop(check);
    for file in std::fs::read_dir(disk).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    tally
}

async fn until_settled(board: &Switchboard) {
    let settled = async {
        while board.stats().await.unwrap().all().messages.iter().any(|(state, _)| !state.is_settled()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), settled).await.is_err() {
        panic!("it does not work on where there is room again: {:?}", board.stats().await);
    }
}

#[track_caller]
fn is_full(error: &Error) {
    let actual = (error.kind(), error.outcome(), error.field());
    assert_eq!(actual, (ErrorKind::Unavailable, Outcome::NotSent, Some("store")), "{error}");
    assert!(error.to_string().ends_with("its disk is full"), "{error}");
}

/// Fills a disk except for `but` bytes.
fn fill(ballast: &PathBuf, but: u64) {
    let mut file = File::create(ballast).unwrap();
    let mut len = 0;
    while let Ok(written) = file.write(&[0; 65536]) {
        len += written as u64;
    }
    file.set_len(len.saturating_sub(but)).unwrap();
}

async fn read_only(disk: &Path) {
    for name in ["left.db", "new.db"] {
        let error = Store::open(&format!("sqlite:{}", disk.join(name).display())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().ends_with("this user may write to both"), "{error}");
    }
}
