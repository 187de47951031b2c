//! A table of a configuration, read field by field, so that all errors are found.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::error::{Error, Result};
use crate::settings::{self, Settings, nearest};

/// A table, and the names of its fields that were asked for.
pub(super) struct Table {
    /// Its name in errors: empty for the whole file.
    path: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Table {
    pub(super) fn new(path: impl Into<String>, fields: Map<String, Value>) -> Self {
        Self { path: path.into(), fields, known: Vec::new() }
    }

    /// Returns the name of a field in errors.
    pub(super) fn field(&self, name: &str) -> String {
        under(&self.path, name)
    }

    /// Removes and returns a field.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name)
    }

    /// Reads a field.
    pub(super) fn read<T: DeserializeOwned>(&mut self, name: &'static str, errors: &mut Vec<Error>) -> Option<T> {
        let value = self.take(name)?;
        noted(settings::value(&self.field(name), value), errors)
    }

    /// Reads a field that must be set.
    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &'static str, errors: &mut Vec<Error>) -> Option<T> {
        if !self.fields.contains_key(name) {
            self.known.push(name);
            errors.push(Error::config(self.field(name), "is missing"));
        }
        self.read(name, errors)
    }

    /// Takes a table.
    pub(super) fn table(&mut self, name: &'static str, errors: &mut Vec<Error>) -> Option<Self> {
        let (field, value) = (self.field(name), self.take(name)?);
        noted(table(field, value), errors)
    }

    /// Takes a table of tables, each with its name.
    pub(super) fn tables(&mut self, name: &'static str, errors: &mut Vec<Error>) -> Vec<(String, Self)> {
        let Some(all) = self.table(name, errors) else { return Vec::new() };
        let named = |(name, value): (String, Value)| {
            let table = table(under(&all.path, &name), value);
            noted(table, errors).map(|table| (name, table))
        };
        all.fields.into_iter().filter_map(named).collect()
    }

    /// Takes a list of tables.
    pub(super) fn list(&mut self, name: &'static str, errors: &mut Vec<Error>) -> Vec<Self> {
        let field = self.field(name);
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(all)) => {
                let all = all.into_iter().enumerate();
                all.filter_map(|(n, value)| noted(table(format!("{field}[{n}]"), value), errors)).collect()
            }
            Some(_) => {
                errors
                    .push(Error::config(field.clone(), format!("is not a list of tables: write each as [[{field}]]")));
                Vec::new()
            }
        }
    }

    /// Takes the fields that are left.
    pub(super) fn into_fields(self) -> (String, Map<String, Value>) {
        (self.path, self.fields)
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn finish(self, errors: &mut Vec<Error>) {
        for name in self.fields.keys() {
            let rule = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("unknown field; did you mean {near}?"),
                None => format!("unknown field; known fields: {}", self.known.join(", ")),
            };
            errors.push(Error::config(self.field(name), rule));
        }
    }
}

/// Reads a whole table. After an error it reads the table again with a faultless `stand_in` for the faulty field, or
/// without the field, to find the other errors.
pub(super) fn read_all<T>(
    path: &str,
    mut fields: Map<String, Value>,
    errors: &mut Vec<Error>,
    stand_in: impl Fn(&str) -> Option<(&'static str, Value)>,
    read: impl Fn(&Settings) -> Result<T>,
) -> Option<T> {
    let mut removed = BTreeSet::new();
    loop {
        let settings = Settings(fields);
        let error = match read(&settings) {
            Ok(value) => return removed.is_empty().then_some(value),
            Err(error) => error,
        };
        fields = settings.0;
        let missing = error.what().strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let field = match (missing, error.field()) {
            // It is missing because it was faulty.
            (Some(missing), _) if removed.contains(missing) => return None,
            (Some(missing), None | Some("configuration")) => missing.to_owned(),
            (_, None | Some("configuration")) => String::new(),
            (_, Some(field)) => field.to_owned(),
        };
        let name = field.split(['.', '[']).next().unwrap_or_default().to_owned();
        let replaced = stand_in(&field);
        let place = replaced.as_ref().map_or(&*name, |(place, _)| place).to_owned();
        if removed.contains(&place) {
            return None;
        }
        let is_missing = missing.is_some();
        let error = if is_missing { error.with_what("is missing") } else { error };
        errors.push(error.with_field(under(path, &field)));
        match replaced {
            Some((place, value)) => {
                let (of, leaf) = match place.rsplit_once('.') {
                    Some((table, leaf)) => (fields.get_mut(table)?.as_object_mut()?, leaf),
                    None => (&mut fields, place),
                };
                of.insert(leaf.to_owned(), value);
            }
            None => drop(fields.remove(&name)?),
        }
        removed.insert(place);
    }
}

/// Returns the value, or notes the error.
pub(super) fn noted<T>(result: Result<T>, errors: &mut Vec<Error>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn table(path: String, value: Value) -> Result<Table> {
    match value {
        Value::Object(fields) => Ok(Table::new(path, fields)),
        _ => Err(Error::config(path, "is not a table")),
    }
}

fn under(path: &str, name: &str) -> String {
    match (path, name) {
        (one, "") | ("", one) => one.to_owned(),
        _ => format!("{path}.{name}"),
    }
}
