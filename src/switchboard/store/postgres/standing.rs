//! The statements of the register that precede every send, over all pieces of a group.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;

use super::super::super::directory::PersonKey;
use super::super::super::flow::{Linked, LinkedTo};
use super::super::super::register::{OptOutSource, PreferenceKind, Standing, medium_of, scope_of};
use super::session::{Fault, Session};
use super::{indexed, moment, text};

/// Takes the shared lock of the register.
pub(super) async fn share(db: &Session) -> Result<(), Fault> {
    db.rows("SELECT pg_advisory_xact_lock_shared(1667854965, 0)", &[]).await.map(drop)
}

/// Returns the entries that stand for each person, by the person's place among these.
pub(super) async fn standing_of(db: &Session, persons: &[(&str, &[PersonKey])]) -> Result<Vec<Vec<Standing>>, Fault> {
    let of =
        "SELECT o.id, o.scope, o.medium, o.source, o.officer, o.line, o.at, o.said, o.event, o.confirmation, found.n, o.kind
         FROM (SELECT given.n, k.preference
               FROM unnest($1::int[], $2::text[], $3::text[]) AS given (n, controller, address)
               JOIN civic_messaging.preference_key AS k ON k.controller = given.controller AND k.address = given.address
               UNION SELECT given.n, k.preference
               FROM unnest($1::int[], $2::text[], $4::text[]) AS given (n, controller, fingerprint)
               JOIN civic_messaging.preference_key AS k
                   ON k.controller = given.controller AND k.fingerprint = given.fingerprint) AS found
         JOIN civic_messaging.preference AS o ON o.id = found.preference AND o.lifted IS NULL
         ORDER BY o.id";
    let each =
        || (0_i32..).zip(persons).flat_map(|(n, (controller, keys))| keys.iter().map(move |key| (n, controller, key)));
    let numbers: Vec<_> = each().map(|(n, ..)| n).collect();
    let controllers: Vec<_> = each().map(|(_, controller, _)| text(controller)).collect();
    let addresses: Vec<_> = each().map(|(.., key)| indexed(&key.address)).collect();
    let fingerprints: Vec<_> = each().map(|(.., key)| key.fingerprint.as_deref()).collect();
    let mut found = vec![Vec::new(); persons.len()];
    for row in db.rows(of, &[&numbers, &controllers, &addresses, &fingerprints]).await? {
        let n = usize::try_from(row.try_get::<_, i32>(10)?).unwrap_or(usize::MAX);
        if let Some(of_person) = found.get_mut(n) {
            of_person.push(standing(&row)?);
        }
    }
    Ok(found)
}

fn standing(row: &Row) -> Result<Standing, Fault> {
    Ok(Standing {
        id: row.try_get(0)?,
        scope: scope_of(row.try_get(1)?),
        medium: medium_of(row.try_get(2)?),
        source: OptOutSource::read(row.try_get(3)?, row.try_get(4)?),
        line: row.try_get(5)?,
        at: moment(row, 6)?,
        said: moment(row, 7)?,
        event: row.try_get(8)?,
        confirmation: row.try_get(9)?,
        kind: PreferenceKind::read(row.try_get(11)?),
    })
}

/// Returns what is linked to each of these groups of names.
pub(super) async fn links_of(db: &Session, groups: &[&[String]]) -> Result<Vec<Vec<Linked>>, Fault> {
    let of = "SELECT given.name, l.line, l.current, NULL FROM unnest($1::text[]) AS given (name)
         JOIN civic_messaging.link AS l ON l.previous = given.name
         UNION ALL SELECT given.name, l.line, l.previous, NULL FROM unnest($1::text[]) AS given (name)
         JOIN civic_messaging.link AS l ON l.current = given.name
         UNION ALL SELECT given.name, l.line, l.one, l.other FROM unnest($1::text[]) AS given (name)
         JOIN civic_messaging.person_link AS l ON l.one_name = given.name AND l.ended IS NULL
         UNION ALL SELECT given.name, l.line, l.other, l.one FROM unnest($1::text[]) AS given (name)
         JOIN civic_messaging.person_link AS l ON l.other_name = given.name AND l.ended IS NULL";
    let names: Vec<_> =
        groups.iter().copied().flatten().map(|name| text(name)).collect::<HashSet<_>>().into_iter().collect();
    let mut links = HashMap::<String, Vec<(String, LinkedTo)>>::new();
    for row in db.rows(of, &[&names]).await? {
        let to = match row.try_get::<_, Option<String>>(3)? {
            Some(other) => LinkedTo::Key(row.try_get(2)?, other),
            None => LinkedTo::Name(row.try_get(2)?),
        };
        links.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, to));
    }
    let linked = |name: &String| {
        let found = links.get(&*text(name)).cloned().unwrap_or_default().into_iter();
        found.map(|(line, to)| Linked { of: name.clone(), line, to }).collect::<Vec<_>>()
    };
    Ok(groups.iter().map(|group| group.iter().flat_map(linked).collect()).collect())
}
