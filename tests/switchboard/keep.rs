//! Retention: nothing of erased content can be read in the file.

use std::time::Duration;

use civic_messaging::event::InboundContent;
use civic_messaging::media::FolderStore;
use civic_messaging::switchboard::{Line, State, Store, Switchboard};
use civic_messaging::{Address, DeliveryState, Error, ErrorKind, Message, Mock, Outcome};

use rusqlite::Connection;

use super::desk::Desk;
use super::{Database, until, virtual_clock};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Enough rows for many pages of each kind.
const MESSAGES: u32 = 100;

/// A folder that is removed at the end.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

fn number(n: u32) -> String {
    format!("+4477008{n:05}")
}

/// Counts the occurrences of a text in the store's files.
fn traces(database: &Database, of: &str) -> usize {
    let found = |end: &str| {
        let bytes = std::fs::read(format!("{}{end}", database.0.display())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches(of).count()
    };
    ["", "-wal", "-shm", "-worker"].into_iter().map(found).sum()
}

#[tokio::test]
async fn retention_erases_content_and_keeps_counts() {
    let (database, mock) = (Database::new(), Mock::whatsapp());
    let clock = virtual_clock();
    let mock = mock.clock(clock.clone());
    let leader = Mock::sms().account("leader").clock(clock.clone());
    let folder = Folder(database.0.with_extension("files"));
    let builder = Switchboard::builder(Store::open(&database.url()).await.unwrap())
        .clock(clock.clone())
        .media(FolderStore::new(&folder.0).unwrap())
        .line(Line::new("desk").channel(mock.clone()).retention(30 * DAY))
        .line(Line::new("leader").channel(leader.clone()))
        .route("all", ["desk"]);
    let desk = Desk::run(builder);
    let board = &desk.switchboard;
    // Rows of every length, kept ones between erased ones.
    for n in 0..MESSAGES {
        let filler = "x".repeat((n as usize * 37) % 900);
        if n % 10 == 0 {
            mock.will_fail(Error::new(ErrorKind::InvalidRecipient, "canary-reason").with_outcome(Outcome::Rejected));
        }
        let to = Address::whatsapp(&number(n)).unwrap();
        board.send("desk", Message::text(to, format!("canary-text-{n} {filler}")).key(format!("k-{n}"))).await.unwrap();
        let to = Address::phone(&format!("+4477007{n:05}")).unwrap();
        board.send("leader", Message::text(to, format!("stays-{n} {filler}"))).await.unwrap();
        let webhook = mock.arrives(&number(n), format!("canary-text-{n} {filler}"));
        assert_eq!(board.receive("all", webhook).await.status, 200);
    }
    let tree = mock.add_file("image/jpeg", "canary-photograph");
    let photo = InboundContent::Media { text: Some("canary-text".to_owned()), media: vec![tree] };
    assert_eq!(board.receive("all", mock.arrives_with(&number(0), photo)).await.status, 200);
    until(&clock, Duration::from_millis(500), async || {
        let all = board.stats().await.unwrap().all();
        all.count(State::Accepted) + all.count(State::Rejected) == u64::from(2 * MESSAGES) && all.files == 0
    })
    .await;
    let id = board.by_key("desk", "k-1").await.unwrap().unwrap();
    let gateway_id = board.status(id).await.unwrap().unwrap().gateway_id.unwrap();
    let delivered = mock.reports(&gateway_id, DeliveryState::Delivered);
    assert_eq!(board.receive("all", delivered).await.status, 200);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2);
    // An unread one.
    let acknowledged = async || {
        while let Some(event) = board.all().try_next().await.unwrap() {
            event.ack().await.unwrap();
        }
    };
    acknowledged().await;
    assert_eq!(board.receive("all", mock.arrives("07700 300001", "unread-text")).await.status, 200);
    let before = board.stats().await.unwrap();
    clock.advance(29 * DAY);
    tokio::time::sleep(Duration::from_millis(20)).await;
    for canary in ["canary-text-1 ", "canary-reason", "77008", "unread-text", gateway_id.as_str()] {
        assert!(traces(&database, canary) > 0, "{canary}");
    }

    clock.advance(DAY);
    let gone = || ["canary-", "77008", gateway_id.as_str()].map(|canary| traces(&database, canary)) == [0; 3];
    let kept = Connection::open(&database.0).unwrap();
    let left = "SELECT (SELECT count(*) FROM message WHERE line = 'desk' AND removed IS NULL)
                     + (SELECT count(*) FROM event WHERE line = 'desk' AND removed IS NULL AND acked IS NOT NULL)";
    until(&clock, Duration::from_millis(500), async || {
        kept.query_row(left, (), |row| row.get::<_, i64>(0)).unwrap() == 0
    })
    .await;
    // SQLite may leave a copy of a row that it moved to another page.
    kept.busy_timeout(Duration::from_secs(60)).unwrap();
    kept.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(kept);
    until(&clock, Duration::from_millis(500), async || gone()).await;
    until(&clock, Duration::from_millis(500), async || std::fs::read_dir(&folder.0).unwrap().count() == 0).await;
    assert!(traces(&database, "stays-9") > 0 && traces(&database, "unread-text") > 0);

    // It still counts, and its key is still taken.
    assert_eq!(board.stats().await.unwrap(), before);
    let status = board.status(id).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts, status.gateway.as_deref()), (State::Accepted, 1, Some("mock")));
    assert_eq!((status.delivery, status.gateway_id), (Some(DeliveryState::Delivered), None));
    let text = format!("canary-text-1 {}", "x".repeat(37));
    let again = Message::text(Address::whatsapp(&number(1)).unwrap(), text).key("k-1");
    assert_eq!(board.send("desk", again).await.unwrap(), id);
    assert!(gone(), "asking for it left a trace");
    let late = mock.reports(&gateway_id, DeliveryState::Read);
    assert_eq!(board.receive("all", late).await.status, 200);
    assert!(!board.cancel(id).await.unwrap());
    let unread = board.line("desk").unwrap().next().await.unwrap().unwrap();
    assert_eq!(unread.as_inbound().unwrap().text(), Some("unread-text"));
    unread.ack().await.unwrap();
    let sent = mock.sent().len();
    desk.close().await;
    assert_eq!(sent, MESSAGES as usize);
}

#[tokio::test]
async fn controller_of_a_line_is_stored() {
    let database = Database::new();
    let lines = [
        Line::new("enquiries").name("General enquiries").controller("Exampleshire Council").languages(["en", "cy"]),
        Line::new("ward-north").controller("Councillor A. Adams").retention(90 * DAY),
    ];
    let lines = lines.into_iter().enumerate().map(|(n, line)| line.channel(Mock::sms().account(n.to_string())));
    let desk = Desk::open(Store::open(&database.url()).await.unwrap(), lines).await;
    desk.close().await;
    let db = rusqlite::Connection::open(&database.0).unwrap();
    let mut lines = db.prepare("SELECT id, name, controller, languages, retention FROM line ORDER BY id").unwrap();
    type Noted = (String, String, Option<String>, String, Option<i64>);
    let noted: Vec<Noted> = lines
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let text = str::to_owned;
    assert_eq!(
        noted,
        [
            (text("enquiries"), text("General enquiries"), Some(text("Exampleshire Council")), text("en cy"), None),
            (text("ward-north"), text("ward-north"), Some(text("Councillor A. Adams")), text(""), Some(7_776_000_000)),
        ]
    );
}
