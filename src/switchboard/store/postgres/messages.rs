//! Messages by filter, each filter by an index.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::super::campaign::{Campaign, CostRow};
use super::super::super::flow;
use super::super::super::messages::{CancelledPart, MessageFilter};
use super::super::super::record::price_of;
use super::super::super::status::{State, Status};
use super::locks::lock_conversations_of;
use super::session::{Fault, Session};
use super::{indexed, persons, state, statuses};
use crate::model::clock::Timestamp;

/// A list of messages, by parameters that are the same in each: the line, the states, the message before the first, the
/// maximum, the tag, two times and the names of the person.
macro_rules! list {
    ($by:literal, $order:literal) => {
        concat!(
            "SELECT id FROM civic_messaging.message WHERE line = $1 AND ",
            $by,
            " AND ($5::text IS NULL OR tag = $5) AND queued >= $6 AND queued < $7
               AND ($8::text[] IS NULL OR recipient = ANY ($8)) ORDER BY ",
            $order,
            " LIMIT $4"
        )
    };
}

/// Scans what waits: an index in this order would cost every message.
const OPEN: &str = list!(
    "NOT planned AND phase IN ('queued', 'deferred', 'claimed', 'unknown') AND phase = ($2::text[])[1] AND id + 0 > $3",
    "id + 0"
);
const PLANNED: &str = list!("planned AND phase = ($2::text[])[1] AND id + 0 > $3", "id + 0");
const UNKNOWN: &str = list!("phase = 'unknown' AND state = ($2::text[])[1] AND id > $3", "id");
/// No more than are in flight.
const HELD: &str = list!("phase = 'claimed' AND state = ($2::text[])[1] AND id > $3", "id");
const SETTLED: &str = list!("phase = ($2::text[])[1] AND settled IS NOT NULL AND id > $3", "id");
const TAGGED_OPEN: &str = list!("tag = $5 AND settled IS NULL AND state = ANY ($2::text[]) AND id > $3", "id");
const TAGGED_SETTLED: &str = list!("tag = $5 AND phase = ($2::text[])[1] AND settled IS NOT NULL AND id > $3", "id");
/// Those of a time are sorted.
const OF_TIME: &str =
    list!("queued + 0 >= $6 AND queued + 0 < $7 AND state = ANY ($2::text[]) AND id + 0 > $3", "id + 0");
/// Those of a person are sorted.
const OF_PERSON: &str = list!(
    "conversation = ANY (SELECT hashtextextended($1 || chr(10) || person, 0) FROM unnest($8::text[]) AS person)
     AND state = ANY ($2::text[]) AND id + 0 > $3",
    "id + 0"
);

/// Returns the statements that list the messages in a state.
const fn by_state(state: State) -> &'static [&'static str] {
    match state {
        State::Queued | State::Deferred => &[OPEN, PLANNED],
        State::Unknown => &[UNKNOWN],
        State::Claimed | State::Sending => &[HELD],
        _ => &[SETTLED],
    }
}

/// Returns the statements that together list the messages of a filter, each with its states.
fn statements(of: &MessageFilter) -> Vec<(&'static str, Vec<&'static str>)> {
    let states = of.states();
    let some = |of: &BTreeSet<State>| of.iter().map(|state| state.as_str()).collect::<Vec<_>>();
    let each = |states: &BTreeSet<State>| {
        let one = |state: &State| by_state(*state).iter().map(|sql| (*sql, vec![state.as_str()])).collect::<Vec<_>>();
        states.iter().flat_map(one).collect::<Vec<_>>()
    };
    if of.person.is_some() {
        return vec![(OF_PERSON, some(&states))];
    }
    if of.tag.is_none() {
        let by_time = of.since.is_some() || of.before.is_some();
        return if by_time { vec![(OF_TIME, some(&states))] } else { each(&states) };
    }
    let (settled, open): (BTreeSet<_>, BTreeSet<_>) = states.into_iter().partition(|state| state.is_settled());
    let mut all: Vec<_> = settled.iter().map(|state| (TAGGED_SETTLED, vec![state.as_str()])).collect();
    if open.contains(&State::Queued) || open.contains(&State::Deferred) {
        all.push((TAGGED_OPEN, some(&open)));
    } else {
        // Few, whatever their tags.
        all.extend(each(&open));
    }
    all
}

/// Returns the next messages of a filter.
async fn ids(db: &Session, line: &str, of: &MessageFilter, after: i64, max: u32) -> Result<Vec<i64>, Fault> {
    let (since, before) =
        (of.since.map_or(i64::MIN, Timestamp::as_millis), of.before.map_or(i64::MAX, Timestamp::as_millis));
    let (line, tag, max) = (indexed(line), of.tag.as_deref().map(indexed), i64::from(max));
    let persons = match &of.person {
        Some(person) => Some(persons(db, &line, &indexed(person.expose())).await?),
        None => None,
    };
    let mut all = Vec::<i64>::new();
    for (sql, states) in statements(of) {
        let with: [&(dyn ToSql + Sync); 8] = [&line, &states, &after, &max, &tag, &since, &before, &persons];
        for row in db.rows(sql, &with).await? {
            all.push(row.try_get(0)?);
        }
    }
    all.sort_unstable();
    all.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    Ok(all)
}

pub(super) async fn list(
    db: &Session,
    line: &str,
    of: &MessageFilter,
    after: i64,
    max: u32,
) -> Result<Vec<Status>, Fault> {
    let ids = ids(db, line, of, after, max).await?;
    let mut all: Vec<_> = statuses(db, ids).await?.into_iter().map(|(status, _)| status).collect();
    all.sort_unstable_by_key(|status| status.id);
    Ok(all)
}

pub(super) async fn cancel(
    db: &Session,
    line: &str,
    of: &MessageFilter,
    (after, max): (i64, u32),
    now: Timestamp,
) -> Result<CancelledPart, Fault> {
    let ids = ids(db, line, of, after, max).await?;
    lock_conversations_of(db, &ids).await?;
    flow::cancel_all(db, &ids, now).await
}

pub(super) async fn campaign(db: &Session, line: &str, tag: &str) -> Result<Campaign, Fault> {
    let counts = "SELECT phase, count(*) FROM civic_messaging.message
         WHERE line = $1 AND tag = $2 AND settled IS NOT NULL GROUP BY phase
         UNION ALL SELECT state, count(*) FROM civic_messaging.message
         WHERE line = $1 AND tag = $2 AND settled IS NULL GROUP BY state";
    let costs = "SELECT coalesce(sum(a.segments), 0)::bigint, sum(a.price)::bigint, a.currency,
                (count(*) FILTER (WHERE a.price IS NULL))::bigint
         FROM civic_messaging.message AS m JOIN civic_messaging.attempt AS a ON a.message = m.id
         WHERE m.line = $1 AND m.tag = $2 AND m.settled IS NOT NULL AND a.outcome = 'accepted'
         GROUP BY a.price IS NULL, a.currency ORDER BY a.currency";
    let (line, tag) = (indexed(line), indexed(tag));
    let count = |row: &Row| Ok::<_, Fault>((state(row, 0)?, row.try_get(1)?));
    let counts = db.rows(counts, &[&line, &tag]).await?.iter().map(count).collect::<Result<_, _>>()?;
    let cost = |row: &Row| {
        let price = price_of(row.try_get(1)?, row.try_get(2)?);
        Ok::<_, Fault>(CostRow { segments: row.try_get(0)?, price, unpriced: row.try_get(3)? })
    };
    let costs = db.rows(costs, &[&line, &tag]).await?.iter().map(cost).collect::<Result<_, _>>()?;
    Ok(Campaign::from_rows(counts, costs))
}

#[cfg(test)]
mod tests {
    use super::super::super::cluster::{self, Database};
    use super::*;
    use crate::model::address::Address;

    /// Returns a statement with its parameters.
    fn filled(sql: &str, states: &[&str], of: &MessageFilter) -> String {
        let states = format!("ARRAY['{}']", states.join("','"));
        let time = |at: Option<Timestamp>, none| at.map_or(none, Timestamp::as_millis).to_string();
        let tag = of.tag.as_ref().map_or("NULL".to_owned(), |tag| format!("'{tag}'"));
        let persons = of.person.as_ref().map_or("NULL".to_owned(), |person| format!("ARRAY['{}']", person.expose()));
        sql.replace("$1", "'desk'")
            .replace("$2", &states)
            .replace("$3", "10000")
            .replace("$4", "10")
            .replace("$5", &tag)
            .replace("$6", &time(of.since, 0))
            .replace("$7", &time(of.before, i64::MAX))
            .replace("$8", &persons)
    }

    #[tokio::test]
    async fn every_filter_uses_an_index() {
        let Some(database) = Database::new().await else { return };
        super::super::migrate(database.url()).await.unwrap();
        // Open messages are the latest, and some of the waiting ones are scheduled.
        let fill = "INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, lane, state, planned, due, queued, settled, tag)
             SELECT 'desk', n, '+4477009' || lpad((n % 5000)::text, 5, '0'), '', '', 2, 'desk/phone', state,
                    state = 'deferred' AND n % 2 = 0, 1, n,
                    CASE WHEN state IN ('accepted', 'cancelled', 'expired', 'parked', 'refused', 'rejected') THEN 1 END,
                    CASE WHEN n > 5000 THEN (ARRAY['bins', 'tax', NULL])[n % 3 + 1] END
             FROM generate_series(1, 20000) AS n, LATERAL (
                 SELECT CASE WHEN n <= 19700 THEN (ARRAY['accepted', 'parked'])[n % 2 + 1]
                        ELSE (ARRAY['queued', 'deferred', 'unknown'])[n / 3 % 3 + 1] END AS state) AS of_state;
             INSERT INTO civic_messaging.message
                 (line, key, recipient, body, digest, priority, lane, state, due, lease, queued)
             SELECT 'desk', state, '', '', '', 2, 'desk/phone', state, 1, 1, 1
             FROM unnest(ARRAY['claimed', 'sending']) AS state;
             ANALYZE civic_messaging.message";
        cluster::run(database.url(), fill).await;
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (all, tag) = (MessageFilter::new(), MessageFilter::new().tag("bins"));
        let each = |of: &MessageFilter| State::ALL.map(|state| of.clone().state(state)).to_vec();
        let since = all.clone().since(Timestamp::from_millis(19_990));
        let person = all.clone().person(Address::phone("+447700900123").unwrap());
        for filter in [each(&all), each(&tag), vec![tag, since, person]].concat() {
            for (sql, states) in statements(&filter) {
                let list = filled(sql, &states, &filter);
                let answer = client.simple_query(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {list}")).await;
                let answer = answer.unwrap();
                let plan = answer.iter().find_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                let plan: serde_json::Value = serde_json::from_str(plan.unwrap()).unwrap();
                let plan = &plan[0]["Plan"];
                let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|blocks| plan[blocks].as_u64().unwrap());
                // The tables have hundreds of blocks.
                assert!(blocks.iter().sum::<u64>() < 30, "{filter:?}: {plan:#}");
            }
        }
    }
}
