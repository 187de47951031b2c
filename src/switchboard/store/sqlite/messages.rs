//! Messages by filter, each filter by an index.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};

use super::super::super::campaign::{Campaign, CostRow};
use super::super::super::messages::MessageFilter;
use super::super::super::record::price_of;
use super::super::super::status::State;
use crate::model::address::Address;

/// A list of messages, by parameters that are the same in each: the line, a state or several between commas, the message
/// before the first, the maximum, the tag, two times and the person.
macro_rules! list {
    ($by:literal, $order:literal) => {
        concat!(
            "SELECT id FROM message ",
            $by,
            " AND (?5 IS NULL OR tag = ?5) AND queued >= ?6 AND queued < ?7
               AND ?8 IS ?8 ORDER BY ",
            $order,
            " LIMIT ?4"
        )
    };
}

/// Scans what waits: an index in this order would cost every message.
const WAITING: &str =
    list!("INDEXED BY message_open WHERE line = ?1 AND state = ?2 AND settled IS NULL AND +id > ?3", "+id");
const UNKNOWN: &str =
    list!("INDEXED BY message_unknown WHERE line = ?1 AND state = 'unknown' AND ?2 = 'unknown' AND id > ?3", "id");
/// No more than are in flight; claims are not in the file.
const HELD: &str =
    list!("INDEXED BY message_held WHERE line = ?1 AND lease IS NOT NULL AND state = ?2 AND +id > ?3", "id");
const SETTLED: &str =
    list!("INDEXED BY message_settled WHERE line = ?1 AND state = ?2 AND settled IS NOT NULL AND id > ?3", "id");
const TAGGED_OPEN: &str = list!(
    "INDEXED BY message_tag_open WHERE line = ?1 AND tag = ?5 AND settled IS NULL AND id > ?3
       AND instr(?2, ',' || state || ',')",
    "id"
);
const TAGGED_SETTLED: &str = list!(
    "INDEXED BY message_tag_settled WHERE line = ?1 AND tag = ?5 AND state = ?2 AND settled IS NOT NULL AND id > ?3",
    "id"
);
/// Those of a time are sorted.
const OF_TIME: &str = list!(
    "INDEXED BY message_queued WHERE line = ?1 AND queued + 0 >= ?6 AND queued + 0 < ?7 AND +id > ?3
       AND instr(?2, ',' || state || ',')",
    "+id"
);
/// Those of a person are sorted.
const OF_PERSON: &str = list!(
    "INDEXED BY message_person WHERE line = ?1 AND recipient IN (
         WITH now (person) AS (
             SELECT coalesce((SELECT current FROM link WHERE line = ?1 AND previous = ?8), ?8))
         SELECT person FROM now
         UNION SELECT previous FROM link WHERE line = ?1 AND current = (SELECT person FROM now))
       AND +id > ?3 AND instr(?2, ',' || state || ',')",
    "+id"
);

/// Returns the statement that lists the messages in a state.
const fn by_state(state: State) -> &'static str {
    match state {
        State::Queued | State::Deferred => WAITING,
        State::Unknown => UNKNOWN,
        State::Claimed | State::Sending => HELD,
        _ => SETTLED,
    }
}

/// Returns the statements that together list the messages of a filter, each with its states.
fn statements(of: &MessageFilter) -> Vec<(&'static str, String)> {
    let states = of.states();
    let (some, one) = (|of: &BTreeSet<State>| joined(of), |state: &State| state.as_str().to_owned());
    if of.person.is_some() {
        return vec![(OF_PERSON, some(&states))];
    }
    if of.tag.is_none() {
        let by_time = of.since.is_some() || of.before.is_some();
        return if by_time {
            vec![(OF_TIME, some(&states))]
        } else {
            states.iter().map(|state| (by_state(*state), one(state))).collect()
        };
    }
    let (settled, open): (BTreeSet<_>, BTreeSet<_>) = states.into_iter().partition(|state| state.is_settled());
    let mut all: Vec<_> = settled.iter().map(|state| (TAGGED_SETTLED, one(state))).collect();
    if open.contains(&State::Queued) || open.contains(&State::Deferred) {
        all.push((TAGGED_OPEN, some(&open)));
    } else {
        // Few, whatever their tags.
        all.extend(open.iter().map(|state| (by_state(*state), one(state))));
    }
    all
}

/// Returns states between commas.
fn joined(states: &BTreeSet<State>) -> String {
    states.iter().fold(",".to_owned(), |all, state| all + state.as_str() + ",")
}

/// Returns the next messages of a filter.
pub(super) fn ids(db: &Connection, line: &str, of: &MessageFilter, after: i64, max: u32) -> rusqlite::Result<Vec<i64>> {
    let (since, before) =
        (of.since.map_or(i64::MIN, |at| at.as_millis()), of.before.map_or(i64::MAX, |at| at.as_millis()));
    let person = of.person.as_ref().map(Address::expose);
    let mut all = Vec::new();
    for (sql, states) in statements(of) {
        let mut list = db.prepare_cached(sql)?;
        let rows =
            list.query_map(params![line, states, after, max, of.tag, since, before, person], |row| row.get(0))?;
        for id in rows {
            all.push(id?);
        }
    }
    all.sort_unstable();
    all.truncate(max as usize);
    Ok(all)
}

/// The counts of a campaign: settled messages by their index alone.
const COUNTS: [&str; 2] = [
    "SELECT state, count(*) FROM message INDEXED BY message_tag_settled
     WHERE line = ?1 AND tag = ?2 AND settled IS NOT NULL GROUP BY state",
    "SELECT state, count(*) FROM message INDEXED BY message_tag_open
     WHERE line = ?1 AND tag = ?2 AND settled IS NULL GROUP BY state",
];

const COSTS: &str = "SELECT coalesce(sum(a.segments), 0), sum(a.price), a.currency, sum(a.price IS NULL)
     FROM message AS m INDEXED BY message_tag_settled CROSS JOIN attempt AS a ON a.message = m.id
     WHERE m.line = ?1 AND m.tag = ?2 AND m.settled IS NOT NULL AND a.outcome = 'accepted'
     GROUP BY a.price IS NULL, a.currency ORDER BY a.currency";

pub(super) fn campaign(db: &Connection, line: &str, tag: &str) -> rusqlite::Result<Campaign> {
    let mut counts = Vec::new();
    for sql in COUNTS {
        let mut states = db.prepare_cached(sql)?;
        for row in states.query_map((line, tag), |row| Ok((row.get(0)?, row.get(1)?)))? {
            counts.push(row?);
        }
    }
    let mut costs = db.prepare_cached(COSTS)?;
    let read = |row: &Row<'_>| {
        let price = price_of(row.get(1)?, row.get_ref(2)?.as_str_or_null()?);
        Ok(CostRow { segments: row.get(0)?, price, unpriced: row.get(3)? })
    };
    let costs = costs.query_map((line, tag), read)?.collect::<Result<_, _>>()?;
    Ok(Campaign::from_rows(counts, costs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;

    /// Returns the steps of the plans of a filter's statements.
    fn steps(db: &Connection, of: &MessageFilter) -> Vec<String> {
        let mut steps = Vec::new();
        for (sql, _) in statements(of) {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            for n in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(n, 9).unwrap();
            }
            let mut rows = plan.raw_query();
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get::<_, String>(3).unwrap());
            }
        }
        steps
    }

    #[test]
    fn every_filter_uses_an_index() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        let (all, tag) = (MessageFilter::new(), MessageFilter::new().tag("bins"));
        let mut filters: Vec<_> = State::ALL
            .into_iter()
            .map(|state| {
                let by = match state {
                    State::Queued | State::Deferred => "INDEX message_open (line=?)",
                    State::Unknown => "INDEX message_unknown (line=? AND id>?)",
                    // Few, and sorted.
                    State::Claimed | State::Sending => "INDEX message_held (line=?)",
                    _ => "INDEX message_settled (line=? AND state=? AND id>?)",
                };
                let sorts = matches!(state, State::Queued | State::Deferred | State::Claimed | State::Sending);
                (all.clone().state(state), by, sorts)
            })
            .collect();
        let person = Address::phone("07700 900123").unwrap();
        filters.extend([
            (tag.clone().state(State::Queued), "INDEX message_tag_open (line=? AND tag=? AND id>?)", false),
            (tag.clone().state(State::Deferred), "INDEX message_tag_open (line=? AND tag=? AND id>?)", false),
            (tag.clone().state(State::Unknown), "INDEX message_unknown (line=? AND id>?)", false),
            (
                tag.clone().state(State::Parked),
                "INDEX message_tag_settled (line=? AND tag=? AND state=? AND id>?)",
                false,
            ),
            (tag, "INDEX message_tag_settled (line=? AND tag=? AND state=? AND id>?)", false),
            (
                all.clone().since(Timestamp::from_millis(1)),
                "INDEX message_queued (line=? AND <expr>>? AND <expr><?)",
                true,
            ),
            (all.person(person), "INDEX message_person (line=? AND recipient=?", true),
        ]);
        for (filter, by, sorted) in filters {
            let steps = steps(&db, &filter);
            assert!(steps.iter().any(|step| step.contains(by)), "{filter:?}: {steps:#?}");
            let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY"));
            assert_eq!(sorts, sorted, "{filter:?}: {steps:#?}");
            assert!(!steps.iter().any(|step| step == "SCAN message"), "{filter:?}: {steps:#?}");
        }
    }

    #[test]
    fn counts_of_a_campaign_read_an_index() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        for (sql, by) in [
            (COUNTS[0], "COVERING INDEX message_tag_settled (line=? AND tag=?)"),
            (COUNTS[1], "INDEX message_tag_open (line=? AND tag=?)"),
            (COSTS, "INDEX message_tag_settled (line=? AND tag=?)"),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(("desk", "bins"), |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert!(steps.iter().any(|step| step.contains(by)), "{steps:#?}");
        }
    }
}
