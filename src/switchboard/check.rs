//! The rules about all lines and routes of a switchboard.

use std::collections::{BTreeMap, BTreeSet};

use super::Line;
use super::route::Route;
use crate::model::error::Error;

/// Returns everything that is wrong with these lines and routes. Of incomplete lines, whose own faults are known
/// already, only the names are used.
pub(super) fn faults(lines: &[Line], routes: &[(String, Vec<String>)], incomplete: &BTreeSet<String>) -> Vec<Error> {
    let mut faults = Vec::new();
    if lines.is_empty() {
        faults.push(Error::config("lines", "is missing: add at least one line"));
    }
    let mut known: BTreeMap<&str, &Line> = BTreeMap::new();
    for line in lines {
        if !incomplete.contains(&line.id) {
            faults.extend(line.faults());
        }
        for (n, info) in line.channels.iter().map(|channel| channel.info()).enumerate() {
            let also = |other: &&&Line| other.owns(info.gateway, info.account.as_str(), &info.medium);
            if let Some(other) = known.values().find(also).filter(|other| other.id != line.id) {
                let account = format!("an account of {} for {}", info.gateway, info.medium);
                let rule = format!("has {account} that the line {} has too: an account belongs to one line", other.id);
                faults.push(Error::config(line.field(&format!("channels[{n}]")), rule));
            }
        }
        if known.insert(&line.id, line).is_some() {
            faults.push(Error::config(line.field(""), "is a duplicate"));
        }
    }
    let mut seen = BTreeSet::new();
    for (name, of) in routes {
        let mut wrong = |rule: String| faults.push(Error::config(format!("routes.{name}"), rule));
        if name.trim().is_empty() {
            wrong("needs a name, for Switchboard::receive".to_owned());
        } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~')) {
            wrong("must be one segment of a URL: letters, digits, -, _, . and ~".to_owned());
        }
        if !seen.insert(name) {
            wrong("is a duplicate".to_owned());
        }
        if of.is_empty() {
            wrong("has no lines: name at least one".to_owned());
            continue;
        }
        let mut is_certain = true;
        for line in of {
            is_certain &= known.contains_key(&**line) && !incomplete.contains(line);
            if !known.contains_key(&**line) {
                let near = crate::settings::nearest(line, known.keys().copied());
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                wrong(format!("names the unknown line {line}{hint}"));
            }
        }
        let channels = of.iter().filter_map(|line| known.get(&**line)).flat_map(|line| &line.channels);
        if is_certain && Route::new(channels).is_empty() {
            let rule = "has no channel that can verify a webhook: set a webhook secret for a channel of its lines (and \
                        public_url, where the gateway signs its address), or leave the route out";
            wrong(rule.to_owned());
        }
    }
    faults
}
