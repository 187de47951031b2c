//! Messages that are claimed, sent to a channel in memory, and settled, in PostgreSQL: by a worker of the switchboard,
//! against plain tokio-postgres on as many connections.
//!
//! The floor claims as many at once as the worker does, with one statement of `SKIP LOCKED`; it then gives each message
//! the two transactions that the promises need, with one statement for each table that is written: one that marks it as
//! on its way before it is sent, one that writes its end. It knows nothing of other workers, of the order in a
//! conversation, or of deliveries that come early. `together` is for information: the same with the marks of all, and the
//! ends of all, in one statement each.

use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::{Channel, Message};
use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_postgres::{Client, Error, NoTls};

use crate::cluster::Database;
use crate::common::{Pairs, Target, header, rounds};
use crate::cycle::Takes;
use crate::taking::message;

/// As many as a store of ours has.
const SESSIONS: usize = 4;

/// As many as a worker of ours claims.
const AT_ONCE: i64 = 64;

pub(crate) fn measure(runtime: &Runtime) {
    let messages = if rounds(2) == 1 { 128 } else { 2_000 };
    let Some(database) = runtime.block_on(Database::new()) else { return };
    runtime.block_on(Store::migrate(database.url())).expect("the tables");
    header("claimed, sent and settled", "by hand", "µs a message");
    let ours = || runtime.block_on(ours(database.url(), messages));
    let each = || runtime.block_on(by_hand(database.url(), messages, false)).expect("it works");
    // 80 % of the floor's rate.
    Pairs::measure(rounds(11), ours, each).print("PostgreSQL", Target::Times(1.25));
    let together = || runtime.block_on(by_hand(database.url(), messages, true)).expect("it works");
    Pairs::measure(rounds(5), ours, together).print("PostgreSQL, together", Target::None);
}

async fn connected(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a session");
    tokio::spawn(connection);
    client
}

/// So many queued messages, each to another person, and nothing else.
async fn fill(client: &Client, messages: usize) {
    let empty =
        "TRUNCATE civic_messaging.message, civic_messaging.attempt, civic_messaging.part, civic_messaging.event";
    client.batch_execute(empty).await.expect("it is emptied");
    let (mut keys, mut people, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..messages {
        let message = message(n);
        bodies.push(serde_json::to_string(&message).expect("it serialises"));
        people.push(message.to.expose().to_owned());
        keys.extend(message.key);
    }
    let insert =
        "INSERT INTO civic_messaging.message (line, key, recipient, body, digest, priority, state, due, queued, lane, head)
         SELECT 'desk', key, recipient, body, encode(sha256(convert_to(body, 'UTF8')), 'hex'), 2, 'queued', 1, 1,
                'desk/phone', TRUE
         FROM unnest($1::text[], $2::text[], $3::text[]) AS new (key, recipient, body)";
    client.execute(insert, &[&keys, &people, &bodies]).await.expect("they are queued");
    client.batch_execute("ANALYZE").await.expect("it is counted");
}

/// Microseconds a message.
async fn ours(url: &str, messages: usize) -> f64 {
    fill(&connected(url).await, messages).await;
    let channel = Takes::new("desk");
    let store = Store::open(url).await.expect("a store");
    let line = Line::new("desk").channel(channel.clone());
    let board = Switchboard::builder(store).line(line).build().expect("a switchboard");
    let (stop, stopped) = oneshot::channel::<()>();
    let start = Instant::now();
    let worker = tokio::spawn(board.run(async { drop(stopped.await) }));
    while channel.taken() < messages as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stop);
    worker.await.expect("no panic").expect("it works");
    start.elapsed().as_secs_f64() * 1e6 / messages as f64
}

async fn by_hand(url: &str, messages: usize, together: bool) -> Result<f64, Error> {
    let mut clients = join_all((0..SESSIONS).map(|_| connected(url))).await;
    fill(&clients[0], messages).await;
    let channel = Takes::new("desk");
    let start = Instant::now();
    loop {
        let claimed = claim(&clients[0]).await?;
        if claimed.is_empty() {
            break;
        }
        if together {
            all(&clients[0], &channel, claimed).await?;
            continue;
        }
        let shares = claimed.chunks(claimed.len().div_ceil(SESSIONS));
        try_join_all(clients.iter_mut().zip(shares).map(|(client, share)| each(client, &channel, share))).await?;
    }
    assert_eq!(channel.taken(), messages as u64);
    Ok(start.elapsed().as_secs_f64() * 1e6 / messages as f64)
}

async fn claim(client: &Client) -> Result<Vec<(i64, Message)>, Error> {
    let claim = client
        .prepare(
            "UPDATE civic_messaging.message AS m SET state = 'claimed', lease = 2, fence = m.fence + 1
             FROM (SELECT id FROM civic_messaging.message WHERE head AND phase IN ('queued', 'deferred')
                     AND lane = 'desk/phone' AND priority = 2 AND due <= 1 ORDER BY due, id LIMIT $1 FOR UPDATE SKIP LOCKED) AS free
             WHERE m.id = free.id RETURNING m.id, m.body",
        )
        .await?;
    let read = |row: &tokio_postgres::Row| {
        Ok((row.try_get(0)?, serde_json::from_str(row.try_get(1)?).expect("it was written so")))
    };
    client.query(&claim, &[&AT_ONCE]).await?.iter().map(read).collect()
}

async fn each(client: &mut Client, channel: &Takes, claimed: &[(i64, Message)]) -> Result<(), Error> {
    let begin = client
        .prepare(
            "UPDATE civic_messaging.message SET state = 'sending', attempts = attempts + 1
             WHERE id = $1 AND fence = 1 AND state = 'claimed'",
        )
        .await?;
    let note = client
        .prepare("INSERT INTO civic_messaging.attempt (message, n, gateway, account, begun) VALUES ($1, 1, 'memory', 'desk', 1)")
        .await?;
    let end = client
        .prepare(
            "UPDATE civic_messaging.message SET state = 'accepted', due = NULL, lease = NULL, settled = 2,
                    head = FALSE, delivery = '\"accepted\"' WHERE id = $1 AND fence = 1 AND state = 'sending'",
        )
        .await?;
    let attempt = client
        .prepare(
            "UPDATE civic_messaging.attempt SET ended = 2, outcome = 'accepted', kind = '' WHERE message = $1 AND n = 1",
        )
        .await?;
    let part = client
        .prepare("INSERT INTO civic_messaging.part (gateway, account, id, message) VALUES ('memory', 'desk', $2, $1)")
        .await?;
    let word = client
        .prepare("INSERT INTO civic_messaging.event (line, kind, body, taken_in) VALUES ('desk', 'settled', $1, 2)")
        .await?;
    for (id, message) in claimed {
        let begins = client.transaction().await?;
        begins.execute(&begin, &[id]).await?;
        begins.execute(&note, &[id]).await?;
        begins.commit().await?;
        let accepted = channel.send(message).await.expect("it is taken");
        let ends = client.transaction().await?;
        ends.execute(&end, &[id]).await?;
        ends.execute(&attempt, &[id]).await?;
        ends.execute(&part, &[id, &accepted.id().as_str()]).await?;
        ends.execute(&word, &[&delivered(*id)]).await?;
        ends.commit().await?;
    }
    Ok(())
}

async fn all(client: &Client, channel: &Takes, claimed: Vec<(i64, Message)>) -> Result<(), Error> {
    let begin = client
        .prepare(
            "WITH begun AS (
                 UPDATE civic_messaging.message SET state = 'sending', attempts = attempts + 1
                 WHERE id = ANY ($1) AND fence = 1 AND state = 'claimed' RETURNING id, attempts)
             INSERT INTO civic_messaging.attempt (message, n, gateway, account, begun)
             SELECT id, attempts, 'memory', 'desk', 1 FROM begun",
        )
        .await?;
    let end = client
        .prepare(
            "WITH sent AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) AS sent (message, id, word)),
                  part AS (INSERT INTO civic_messaging.part (gateway, account, id, message)
                           SELECT 'memory', 'desk', id, message FROM sent),
                  inserted AS (INSERT INTO civic_messaging.event (line, kind, body, taken_in)
                           SELECT 'desk', 'settled', word, 2 FROM sent),
                  tried AS (UPDATE civic_messaging.attempt SET ended = 2, outcome = 'accepted', kind = ''
                            WHERE message = ANY ($1) AND n = 1)
             UPDATE civic_messaging.message SET state = 'accepted', due = NULL, lease = NULL, settled = 2,
                    head = FALSE, delivery = '\"accepted\"' WHERE id = ANY ($1) AND fence = 1 AND state = 'sending'",
        )
        .await?;
    let ids: Vec<i64> = claimed.iter().map(|(id, _)| *id).collect();
    client.execute(&begin, &[&ids]).await?;
    let mut parts = Vec::with_capacity(ids.len());
    for (_, message) in &claimed {
        parts.push(channel.send(message).await.expect("it is taken").id().as_str().to_owned());
    }
    let words: Vec<_> = ids.iter().map(|id| delivered(*id)).collect();
    client.execute(&end, &[&ids, &parts, &words]).await.map(drop)
}

fn delivered(id: i64) -> String {
    format!(r#"{{"id":{id},"state":"accepted","reason":null}}"#)
}
