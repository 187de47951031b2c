//! The rules of persons with several addresses, over the statements of each store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future;

use super::super::directory::{Directory, Named, PersonKey, kind_beside};
use super::super::people::{LinkChange, PersonLinkRow};
use super::{Statement, Tx};
use crate::model::clock::Timestamp;

/// A name linked to another.
#[derive(Clone, Debug)]
pub(in super::super) struct Linked {
    /// The name from which it was found.
    pub(in super::super) of: String,
    pub(in super::super) line: String,
    pub(in super::super) to: LinkedTo,
}

/// The other end of a link.
#[derive(Clone, Debug)]
pub(in super::super) enum LinkedTo {
    /// A gateway links two names of one medium.
    Name(String),
    /// An officer links two addresses: the key of the first, and that of the second.
    Key(String, String),
}

/// The statements of persons with several addresses.
pub(in super::super) trait Persons: Tx {
    /// Locks the register until the end of the transaction: shared by those that read it to send, and exclusive for those
    /// that write. A transaction that begins a send therefore sees every opt-out that was committed before it.
    fn lock_register(&self, _exclusive: bool) -> impl Statement<(), Self::Error> {
        future::ready(Ok(()))
    }

    /// Returns the controller of a line, as configured in the worker that started last.
    fn controller_of(&self, line: &str) -> impl Statement<Option<String>, Self::Error>;

    /// Returns the lines of a controller.
    fn lines_of(&self, controller: &str) -> impl Statement<Vec<String>, Self::Error>;

    /// Returns what is linked to these names on any line, by gateways and by officers.
    fn links_of(&self, names: Vec<String>) -> impl Statement<Vec<Linked>, Self::Error>;

    /// Inserts a link.
    fn insert_person_link(&self, change: &LinkChange, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Returns the active links between two addresses, in either order: each with its line.
    fn links_between(&self, keys: &[String; 2]) -> impl Statement<Vec<(i64, String)>, Self::Error>;

    /// Ends a link.
    fn end_person_link(&self, id: i64, change: &LinkChange, now: Timestamp) -> impl Statement<(), Self::Error>;

    /// Returns the next active links of these lines, oldest first, after one.
    fn person_links(&self, lines: Vec<String>, after: i64, max: u32)
    -> impl Statement<Vec<PersonLinkRow>, Self::Error>;

    /// Removes the links of these addresses, active or not.
    fn forget_person_links(&self, keys: &[PersonKey]) -> impl Statement<(), Self::Error>;
}

/// Returns the controller of a line.
pub(super) async fn controller<T: Persons>(tx: &T, of: &Directory, line: &str) -> Result<String, T::Error> {
    match of.controller(line) {
        Some(controller) => Ok(controller.to_owned()),
        None => Ok(tx.controller_of(line).await?.unwrap_or_default()),
    }
}

/// Returns the lines of a controller, as configured here and in other programs.
pub(super) async fn lines_of<T: Persons>(
    tx: &T,
    of: &Directory,
    controller: &str,
) -> Result<BTreeSet<String>, T::Error> {
    let mut lines: BTreeSet<String> = tx.lines_of(controller).await?.into_iter().collect();
    lines.retain(|line| of.controller(line).is_none_or(|now| now == controller));
    lines.extend(of.lines_of(controller).map(str::to_owned));
    Ok(lines)
}

/// A person within a controller, with every name that links lead to.
pub(super) struct Person {
    pub(super) controller: String,
    pub(super) names: Vec<String>,
    pub(super) keys: Vec<PersonKey>,
}

/// Returns the person of an address on a line: links count on every line of the controller, and on no other.
pub(super) async fn person<T: Persons>(tx: &T, of: &Directory, line: &str, named: &Named) -> Result<Person, T::Error> {
    let controller = controller(tx, of, line).await?;
    // Each name with the kinds of address that it is known by.
    let mut known = BTreeMap::<String, BTreeSet<String>>::new();
    for name in named.names.iter().filter(|name| !name.is_empty()) {
        known.entry(tx.name(name).into_owned()).or_default().insert(named.kind.clone());
    }
    let (mut open, mut is_ours) = (known.keys().cloned().collect::<Vec<_>>(), HashMap::new());
    while !open.is_empty() {
        let mut found = BTreeSet::new();
        for Linked { of: from, line, to } in tx.links_of(open).await? {
            let counts = match is_ours.get(&line) {
                Some(counts) => *counts,
                None => {
                    let counts = self::controller(tx, of, &line).await? == controller;
                    is_ours.insert(line, counts);
                    counts
                }
            };
            let Some(kinds) = known.get(&from).filter(|_| counts).cloned() else { continue };
            for kind in kinds {
                let (name, kind) = match &to {
                    LinkedTo::Name(name) => (name.clone(), kind),
                    LinkedTo::Key(own, other) if *own == format!("{}:{from}", kind_beside(&kind, &from)) => {
                        let Some((kind, name)) = other.split_once(':') else { continue };
                        (name.to_owned(), kind.to_owned())
                    }
                    LinkedTo::Key(..) => continue,
                };
                if known.entry(name.clone()).or_default().insert(kind) {
                    found.insert(name);
                }
            }
        }
        open = found.into_iter().collect();
    }
    let mut keys = Vec::new();
    for (name, kinds) in &known {
        for kind in kinds {
            let found = of.keys(&Named { kind: kind.clone(), names: vec![name.clone()] });
            keys.extend(found.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
        }
    }
    Ok(Person { controller, names: known.into_keys().collect(), keys })
}

/// Links two addresses, unless they are linked already.
pub(in super::super) async fn link_persons<T: Persons>(
    tx: &T,
    of: &Directory,
    change: &LinkChange,
    now: Timestamp,
) -> Result<bool, T::Error> {
    tx.lock_register(true).await?;
    if !between(tx, of, change).await?.is_empty() {
        return Ok(false);
    }
    tx.insert_person_link(change, now).await?;
    Ok(true)
}

/// Ends the link between two addresses.
pub(in super::super) async fn unlink_persons<T: Persons>(
    tx: &T,
    of: &Directory,
    change: &LinkChange,
    now: Timestamp,
) -> Result<bool, T::Error> {
    tx.lock_register(true).await?;
    let between = between(tx, of, change).await?;
    for id in &between {
        tx.end_person_link(*id, change, now).await?;
    }
    Ok(!between.is_empty())
}

/// Returns the links of a controller between two addresses.
async fn between<T: Persons>(tx: &T, of: &Directory, change: &LinkChange) -> Result<Vec<i64>, T::Error> {
    let (ours, mut ids) = (controller(tx, of, &change.line).await?, Vec::new());
    for (id, line) in tx.links_between(&change.keys).await? {
        if controller(tx, of, &line).await? == ours {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Returns the active links of a line's controller, oldest first, after one.
pub(in super::super) async fn person_links<T: Persons>(
    tx: &T,
    of: &Directory,
    line: &str,
    after: Option<i64>,
    max: u32,
) -> Result<Vec<PersonLinkRow>, T::Error> {
    let controller = controller(tx, of, line).await?;
    let mut lines = lines_of(tx, of, &controller).await?;
    lines.insert(line.to_owned());
    tx.person_links(lines.into_iter().collect(), after.unwrap_or(i64::MIN), max).await
}
