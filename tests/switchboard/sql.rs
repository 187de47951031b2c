//! Messages enqueued by other programs through SQL, within their own transactions.

use std::time::Duration;

use civic_messaging::address::WhatsAppUser;
use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::message::{Choice, Degradation, Location, Media, Template};
use civic_messaging::switchboard::{Line, State, Status, Store, Switchboard};
use civic_messaging::{Address, ErrorKind, Message, Mock, OnUnknown, Purpose, Timestamp};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, NoTls};

use super::{Ahead, cluster, person};

const HELLO: &str = r#"{"to": {"phone": "+447700900001"}, "content": {"text": "Hello"}, "key": "k"}"#;

struct Desk {
    database: cluster::Database,
    mock: Mock,
    board: Switchboard,
}

impl Desk {
    async fn new() -> Option<Self> {
        let database = cluster::Database::new().await?;
        Store::migrate(database.url()).await.unwrap();
        let mock = Mock::sms().capability(|can| can.location = false);
        let board = board(database.url(), &mock, Duration::ZERO).await;
        Some(Self { database, mock, board })
    }

    /// A session of another program.
    async fn other(&self) -> Client {
        connect(self.database.url()).await
    }

    async fn until(&self, id: i64, state: State) -> Status {
        loop {
            let status = self.status(id).await;
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn status(&self, id: i64) -> Status {
        let id = serde_json::from_value(id.into()).unwrap();
        self.board.status(id).await.unwrap().unwrap()
    }
}

async fn board(url: &str, mock: &Mock, ahead: Duration) -> Switchboard {
    let clock = Ahead::by(ahead);
    let line = Line::new("desk").channel(mock.clone()).marketing_without_consent(true);
    Switchboard::builder(Store::open(url).await.unwrap()).clock(clock).line(line).build().unwrap()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn enqueue(db: &Client, line: &str, message: &str) -> Result<i64, DbError> {
    let row = db.query_one("SELECT civic_messaging.enqueue($1, $2)", &[&line, &message]).await;
    row.map(|row| row.get(0)).map_err(|error| error.as_db_error().unwrap().clone())
}

#[tokio::test]
async fn enqueue_is_bound_to_the_callers_transaction() {
    let Some(desk) = Desk::new().await else { return };
    let worker = tokio::spawn(desk.board.clone().run(std::future::pending()));
    let db = desk.other().await;
    db.batch_execute("CREATE TABLE collection (day TEXT)").await.unwrap();
    let text = |n: u32| format!(r#"{{"to": {{"phone": "+4477009{n:05}"}}, "content": {{"text": "Text {n}"}}}}"#);
    for (n, end) in [(1, "ROLLBACK"), (2, "COMMIT"), (3, "ROLLBACK"), (4, "COMMIT")] {
        db.batch_execute("BEGIN; INSERT INTO collection VALUES ('Tuesday')").await.unwrap();
        let id = enqueue(&db, "desk", &text(n)).await.unwrap();
        // Not committed yet.
        let id_of = serde_json::from_value(id.into()).unwrap();
        assert_eq!(desk.board.status(id_of).await.unwrap(), None);
        db.batch_execute(end).await.unwrap();
        if end == "COMMIT" {
            desk.until(id, State::Accepted).await;
        }
    }
    let sent: Vec<_> = desk.mock.sent().iter().map(|message| message.content.as_text().unwrap().to_owned()).collect();
    assert_eq!(sent, ["Text 2", "Text 4"]);
    let row = db.query_one("SELECT count(*) FROM collection", &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), desk.board.stats().await.unwrap().all().messages),
        (2, [(State::Accepted, 2)].into())
    );
    worker.abort();
}

#[tokio::test]
async fn key_of_any_length_is_unique_in_sql() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    for key in ["ŵ".repeat(129), "ŵ".repeat(500), "ŵ".repeat(501), "ŵ".repeat(3_000)] {
        let message = HELLO.replace(r#""k""#, &format!("\"{key}\""));
        let id = enqueue(&db, "desk", &message).await.unwrap();
        assert_eq!(enqueue(&db, "desk", &message).await.unwrap(), id);
        let found = desk.board.by_key("desk", &key).await.unwrap();
        assert_eq!(found, Some(serde_json::from_value(id.into()).unwrap()), "{}", key.len());
        let same = desk
            .board
            .send("desk", serde_json::from_str::<Message>(&message.replacen('{', r#"{"version": 1,"#, 1)).unwrap())
            .await;
        assert_eq!(same.unwrap(), found.unwrap());
    }
}

#[tokio::test]
async fn key_is_shared_by_sql_and_rust_senders() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let id = enqueue(&db, "desk", HELLO).await.unwrap();
    let same = r#"{"version": 1.0, "content": {"text": "H\u0065llo"}, "purpose": "notice", "on_unknown": "reconcile",
                   "to": {"phone": "+447700900001"}, "allow": [], "options": {}, "tag": null, "key": "k"}"#;
    assert_eq!(enqueue(&db, "desk", same).await.unwrap(), id);
    assert_ne!(enqueue(&db, "leader", HELLO).await.unwrap(), id);
    for another in [HELLO.replace("Hello", "Hallo"), HELLO.replace("0001", "0002")] {
        let error = enqueue(&db, "desk", &another).await.unwrap_err();
        assert_eq!(error.code(), &SqlState::UNIQUE_VIOLATION);
        assert_eq!(error.message(), "key belongs to a different message of this line");
        assert!(!format!("{error:?}").contains("900") && !format!("{error:?}").contains("llo"));
    }
    // Then by this program.
    let hello = Message::text(person(1), "Hello").key("k");
    assert_eq!(desk.board.send("desk", hello.clone()).await.unwrap().to_string(), id.to_string());
    let error = desk.board.send("desk", hello.tag("other")).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("key")));
    // Without a key each call is a new message.
    let keyless = HELLO.replace(r#", "key": "k""#, "");
    assert_ne!(enqueue(&db, "desk", &keyless).await.unwrap(), enqueue(&db, "desk", &keyless).await.unwrap());

    // Concurrently: the second waits for the first to finish.
    let (one, two) = (desk.other().await, desk.other().await);
    for end in ["COMMIT", "ROLLBACK"] {
        let twice = HELLO.replace(r#""k""#, &format!("{end:?}"));
        one.batch_execute("BEGIN").await.unwrap();
        let first = enqueue(&one, "desk", &twice).await.unwrap();
        let (second, ()) = tokio::join!(enqueue(&two, "desk", &twice), async {
            let waits = "SELECT 1 FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 UNION SELECT 1 FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'transactionid'";
            while db.query(waits, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            one.batch_execute(end).await.unwrap();
        });
        assert_eq!(second.unwrap() == first, end == "COMMIT");
    }
}

#[tokio::test]
async fn sql_and_rust_messages_are_stored_alike() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let mock = Mock::whatsapp();
    let board = Switchboard::builder(Store::open(desk.database.url()).await.unwrap())
        .line(Line::new("wa").channel(mock).marketing_without_consent(true))
        .build()
        .unwrap();
    let user = WhatsAppUser::new(Some("+447700900003".parse().unwrap()), Some("GB.13491208655302741918")).unwrap();
    let until = Timestamp::from_secs(2_000_000_000);
    let messages = [
        Message::text(person(1), "Hello ŵ \"quoted\" \\ \n 🏴"),
        Message::text(user, "Hello").purpose(Purpose::Emergency).language("cy").tag("flood"),
        Message::text(person(2), "Hello").reply_to("wamid.1").purpose(Purpose::Reply).on_unknown(OnUnknown::Park),
        Message::media(person(2), [Media::image("https://example.org/a.png").caption("A map")]),
        Message::new(person(2), Location::new(51.0, -0.000_000_12).name("Mill Lane")).purpose(Purpose::Marketing),
        Message::template(person(2), Template::new("bin_day").language("en_GB").parameter("Alex")),
        Message::new(person(2), Choice::buttons("Keep it?").option("keep", "Keep")).allow(Degradation::ChoiceToText),
        Message::text(person(2), "Hello").not_after(until).on_unknown(OnUnknown::Resend),
    ];
    let columns =
        "SELECT line, recipient, priority, state, due = queued, conversation, tag FROM civic_messaging.message
         WHERE id = $1";
    let read = async |id: i64| {
        let row = db.query_one(columns, &[&id]).await.unwrap();
        let (line, recipient, state): (String, String, String) = (row.get(0), row.get(1), row.get(3));
        let tag: Option<String> = row.get(6);
        (line, recipient, row.get::<_, i16>(2), state, row.get::<_, bool>(4), row.get::<_, i64>(5), tag)
    };
    // The index has a limit: a longer tag is replaced by its digest.
    let long = Message::text(person(3), "Hello").tag("t".repeat(3000));
    for (n, message) in messages.into_iter().chain([long]).enumerate() {
        let (ours, theirs) = (message.clone().key(format!("a-{n}")), message.key(format!("b-{n}")));
        let json = |message: &Message| serde_json::to_string(message).unwrap();
        let id = board.send("wa", ours.clone()).await.unwrap();
        // After and before ours.
        assert_eq!(enqueue(&db, "wa", &json(&ours)).await.unwrap().to_string(), id.to_string(), "{n}");
        let by_sql = enqueue(&db, "wa", &json(&theirs)).await.unwrap();
        assert_eq!(board.send("wa", theirs).await.unwrap().to_string(), by_sql.to_string(), "{n}");
        let id: i64 = id.to_string().parse().unwrap();
        let rows = (read(id).await, read(by_sql).await);
        assert_eq!(rows.0, rows.1, "{n}");
    }
}

#[tokio::test]
async fn sql_recipient_must_be_canonical() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let mut taken = 0;
    for to in [
        r#"{"phone": "+447700900123"}"#,
        r#"{"phone": "+447700900123 "}"#,
        r#"{"phone": "07700 900123"}"#,
        r#"{"phone": "+4407700900123"}"#,
        r#"{"phone": "+44770090012"}"#,
        r#"{"phone": "+442079460000"}"#,
        r#"{"phone": "+44207946000"}"#,
        r#"{"phone": "+4420794600"}"#,
        r#"{"phone": "+15550100"}"#,
        r#"{"phone": "+1555010"}"#,
        r#"{"phone": "+155501"}"#,
        r#"{"phone": "+015550100"}"#,
        r#"{"phone": "+1234567890123456"}"#,
        r#"{"phone": 447700900123}"#,
        r#"{"phone": null}"#,
        r#"{"phone": ["+447700900123"]}"#,
        r#"{"messenger": "1234"}"#,
        r#"{"messenger": "12a4"}"#,
        r#"{"x": {"id": "44196397", "handle": "council"}}"#,
        r#"{"x": {"id": "council"}}"#,
        r#"{"x": "44196397"}"#,
        r#"{"short_code": "60777"}"#,
        r#"{"short_code": "60777000000"}"#,
        r#"{"whatsapp": {"phone": "+447700900123"}}"#,
        r#"{"whatsapp": {"phone": "07700900123"}}"#,
        r#"{"whatsapp": {"phone": "07700900123", "user_id": "GB.1349"}}"#,
        r#"{"whatsapp": {"phone": "+447700900123", "user_id": "GB.ENT.1349"}}"#,
        r#"{"whatsapp": {"user_id": "1349"}}"#,
        r#"{"whatsapp": {}}"#,
        r#"{"conversation": {"medium": "x", "id": "1-2"}}"#,
        r#"{"other": {"medium": "rcs", "id": "a b"}}"#,
        r#"{"other": {"medium": "rcs", "id": ""}}"#,
        r#"{"sender_name": "Council"}"#,
        r#"{"phone": "+447700900123", "x": {"id": "1"}}"#,
        r#"{"fax": "+447700900123"}"#,
        r#"{}"#,
        r#""+447700900123""#,
    ] {
        let address = serde_json::from_str::<Address>(to).ok();
        let message = format!(r#"{{"to": {to}, "content": {{"text": "Hello"}}}}"#);
        match enqueue(&db, "desk", &message).await {
            Ok(id) => {
                let kept = "SELECT recipient FROM civic_messaging.message WHERE id = $1";
                let kept: String = db.query_one(kept, &[&id]).await.unwrap().get(0);
                assert_eq!(address.as_ref().map(Address::expose), Some(&*kept), "{to}");
                taken += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{to}: {error}");
                // Values that only the crate accepts are not canonical, or cannot be replied to.
                let given: serde_json::Value = serde_json::from_str(to).unwrap();
                let spelt = address.filter(|address| serde_json::to_value(address).unwrap() == given);
                assert!(spelt.is_none_or(|address| matches!(address, Address::SenderName(_))), "{to}: {error}");
            }
        }
    }
    assert_eq!(taken, 11);
}

#[tokio::test]
async fn invalid_enqueue_names_the_rule_not_the_value() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let with = |more: &str| HELLO.replacen('{', &format!("{{{more}, "), 1);
    for (message, rule) in [
        ("Hello".to_owned(), "message is not JSON"),
        (HELLO.replace('}', ""), "message is not JSON"),
        (HELLO.replace("Hello", "Hel\\u0000lo"), "message is not JSON"),
        (HELLO.replace("Hello", "Hel\\ud800lo"), "message is not JSON"),
        (format!("[{HELLO}]"), "message must be a JSON object"),
        (r#""Hello""#.to_owned(), "message must be a JSON object"),
        ("{}".to_owned(), "to is missing"),
        (HELLO.replace("content", "contents"), "message may have no more than version, to"),
        (HELLO.replace("key", "Key"), "message may have no more than version, to"),
        (r#"{"to": {"phone": "+447700900001"}}"#.to_owned(), "content is missing"),
        (HELLO.replace(r#"{"text": "Hello"}"#, "null"), "content is missing"),
        (HELLO.replace(r#"{"text": "Hello"}"#, r#""Hello""#), "content must be a JSON object"),
        (HELLO.replace("text", "Text"), "content must be one choice"),
        (HELLO.replace(r#""Hello""#, "7"), "content must have its text"),
        (with(r#""version": 2"#), "version must be 1"),
        (with(r#""version": "1""#), "version must be a JSON number"),
        (with(r#""purpose": "hello""#), "purpose must be emergency"),
        (with(r#""on_unknown": "hello""#), "on_unknown must be park"),
        (with(r#""allow": ["hello"]"#), "allow must be of choice_to_text"),
        (with(r#""allow": "typography""#), "allow must be a JSON array"),
        (with(r#""not_after": "2026-11-28T12:00:00Z""#), "not_after must be a JSON number"),
        (with(r#""not_after": 1.5"#), "not_after must be in whole milliseconds"),
        (HELLO.replace(r#""k""#, r#""""#), "key must have a character"),
        (HELLO.replace(r#""k""#, r#""k\nHello""#), "key must have a character"),
        (HELLO.replace(r#""k""#, "7"), "key must be a JSON string"),
    ] {
        let error = enqueue(&db, "desk", &message).await.unwrap_err();
        assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{message}: {error}");
        assert!(error.message().starts_with(rule), "{message}: {error}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("Hello") && !shown.contains("Hel") && !shown.contains("7700"), "{shown}");
    }
    for line in ["", "Desk", "the desk", &"d".repeat(65)] {
        let error = enqueue(&db, line, HELLO).await.unwrap_err();
        assert!(error.message().starts_with("line must be 1 to 64"), "{error}");
    }
    for nothing in ["NULL, $1", "'desk', NULL"] {
        let call = format!("SELECT civic_messaging.enqueue({nothing})").replace("$1", "'{}'");
        let error = db.query(&call, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{nothing}");
    }
    let error = db.query("SELECT civic_messaging.enqueue('desk', $1, 'infinity')", &[&HELLO]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    assert!(desk.board.stats().await.unwrap().all().messages.is_empty());
}

#[tokio::test]
async fn enqueue_accepts_jsonb_and_not_before() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let planned = "SELECT civic_messaging.enqueue(line => 'desk', due => now() + interval '1 hour', message =>
         jsonb_build_object('to', jsonb_build_object('phone', '+447700900001'),
                            'content', jsonb_build_object('text', 'Hello'), 'key', 'k'))";
    let id: i64 = db.query_one(planned, &[]).await.unwrap().get(0);
    let status = desk.status(id).await;
    let wait = status.due.unwrap().since(SystemClock::new().now());
    assert_eq!(status.state, State::Deferred);
    assert!(wait > Duration::from_secs(3000) && wait <= Duration::from_secs(3600), "{wait:?}");
    assert_eq!(enqueue(&db, "desk", HELLO).await.unwrap(), id);
    let past = "SELECT civic_messaging.enqueue('desk', $1, now() - interval '1 hour')";
    let id: i64 = db.query_one(past, &[&HELLO.replace(r#""k""#, r#""l""#)]).await.unwrap().get(0);
    assert_eq!(desk.status(id).await.state, State::Queued);
}

#[tokio::test]
async fn unsendable_sql_message_is_parked() {
    let Some(desk) = Desk::new().await else { return };
    let db = desk.other().await;
    let no_line = enqueue(&db, "dsek", HELLO).await.unwrap();
    let unread = enqueue(&db, "desk", &HELLO.replace(r#"{"text": "Hello"}"#, r#"{"media": "Hello"}"#)).await.unwrap();
    let no_channel =
        HELLO.replace(r#"{"phone": "+447700900001"}"#, r#"{"x": {"id": "1"}}"#).replace(r#""k""#, r#""x""#);
    let no_channel = enqueue(&db, "desk", &no_channel).await.unwrap();
    let cannot = HELLO
        .replace(r#""text": "Hello""#, r#""location": {"latitude": 51, "longitude": 0}"#)
        .replace(r#""k""#, r#""t""#);
    let cannot = enqueue(&db, "desk", &cannot).await.unwrap();
    let worker = tokio::spawn(desk.board.clone().run(std::future::pending()));
    for (id, reason) in [
        (no_channel, "no channel of the line reaches this address any more"),
        (cannot, "no channel of the line can carry it"),
    ] {
        assert_eq!(desk.until(id, State::Parked).await.reason.as_deref(), Some(reason));
    }
    // A newer program may be about to start.
    for id in [no_line, unread] {
        assert_eq!(desk.until(id, State::Deferred).await.attempts, 0);
    }
    worker.abort();
    let later = board(desk.database.url(), &desk.mock, Duration::from_secs(3601)).await;
    let worker = tokio::spawn(later.run(std::future::pending()));
    for (id, reason) in
        [(no_line, "unknown line"), (unread, "unreadable message: see its format in docs/operations.md")]
    {
        assert_eq!(desk.until(id, State::Parked).await.reason.as_deref(), Some(reason));
    }
    assert!(desk.mock.sent().is_empty());
    worker.abort();
}

#[tokio::test]
async fn minimal_role_can_enqueue() {
    let Some(desk) = Desk::new().await else { return };
    let step = include_str!("../../src/switchboard/store/postgres/schema.sql");
    let other = connect(&desk.database.url_of_role()).await;
    let refused = |done: Result<i64, DbError>| done.unwrap_err().code().clone();
    assert_eq!(refused(enqueue(&other, "desk", HELLO).await), SqlState::INSUFFICIENT_PRIVILEGE);
    // PUBLIC may not execute it, even with access to the schema.
    let role = desk.database.url_of_role().rsplit_once("%3D").unwrap().1.to_owned();
    let db = desk.other().await;
    db.batch_execute(&format!("GRANT USAGE ON SCHEMA civic_messaging TO {role}")).await.unwrap();
    assert_eq!(refused(enqueue(&other, "desk", HELLO).await), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(desk.database.grant(step, "the_application").await, 3);
    let id = enqueue(&other, "desk", HELLO).await.unwrap();
    let jsonb = "SELECT civic_messaging.enqueue('desk', $1::text::jsonb)";
    assert_eq!(other.query_one(jsonb, &[&HELLO]).await.unwrap().get::<_, i64>(0), id);
    // A table that shadows ours is not used.
    let in_the_way =
        "CREATE SCHEMA IF NOT EXISTS mine; CREATE TEMP TABLE message (id INT); SET search_path = pg_temp, mine";
    assert!(other.batch_execute(in_the_way).await.is_err());
    other.batch_execute("CREATE TEMP TABLE message (id INT); SET search_path = pg_temp").await.unwrap();
    other.batch_execute("SET standard_conforming_strings = off").await.unwrap();
    assert_eq!(enqueue(&other, "desk", HELLO).await.unwrap(), id);
    assert_eq!(enqueue(&other, "desk", r#"{"to": {}}"#).await.unwrap_err().code(), &SqlState::INVALID_PARAMETER_VALUE);
    for table in ["message", "attempt", "part", "early", "event", "cursor", "migration"] {
        let error = other.query(&format!("SELECT 1 FROM civic_messaging.{table}"), &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{table}");
    }
}
