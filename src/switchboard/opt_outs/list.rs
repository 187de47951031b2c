//! Lists of opt-outs as CSV: the register's own, and those that councils keep.

use std::collections::BTreeMap;

use csv::{ReaderBuilder, StringRecord, Trim, WriterBuilder};

use super::super::directory::{Named, address_of, key_of};
use super::super::register::{OptOutEntry, OptOutSource, Preference, scope_name};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::event::OptOutScope;

/// The columns of an export, in order.
const COLUMNS: [Column; 9] = [
    Column::Addresses,
    Column::Fingerprints,
    Column::Scope,
    Column::Medium,
    Column::Source,
    Column::Officer,
    Column::Note,
    Column::Line,
    Column::At,
];

/// A column by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Addresses,
    Fingerprints,
    Scope,
    Medium,
    Source,
    Officer,
    Note,
    Line,
    At,
    /// A phone number, as councils' lists have it.
    Number,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Fingerprints => "fingerprints",
            Self::Scope => "scope",
            Self::Medium => "medium",
            Self::Source => "source",
            Self::Officer => "officer",
            Self::Note => "note",
            Self::Line => "line",
            Self::At => "at",
            Self::Number => "number",
        }
    }

    /// Returns the column of a header, however it is written.
    fn of(header: &str) -> Option<Self> {
        let plain: String = header.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        Some(match &*plain {
            "addresses" => Self::Addresses,
            "fingerprint" | "fingerprints" => Self::Fingerprints,
            "scope" => Self::Scope,
            "medium" | "channel" => Self::Medium,
            "source" => Self::Source,
            "officer" | "recordedby" => Self::Officer,
            "note" | "notes" | "reason" | "comment" | "comments" => Self::Note,
            "line" => Self::Line,
            "at" | "date" | "when" | "optedout" | "optoutdate" | "optedoutat" => Self::At,
            "number" | "numbers" | "phone" | "phonenumber" | "phoneno" | "telephone" | "telephonenumber" | "tel"
            | "telno" | "mobile" | "mobilenumber" | "mobileno" | "mobilephone" | "cell" | "contactnumber"
            | "contact" | "msisdn" | "recipient" | "to" | "whatsapp" | "sms" | "landline" | "homephone"
            | "workphone" => Self::Number,
            _ => return None,
        })
    }
}

/// The result of an import: see [`OptOuts::import_csv`](super::OptOuts::import_csv).
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptOutImport {
    /// The number of opt-outs that are new.
    pub recorded: u64,
    /// The number of rows whose opt-outs the register had.
    pub unchanged: u64,
    /// What could not be read, in the order of the list.
    pub problems: Vec<ImportProblem>,
}

/// A cell that could not be read: without its content, which may be personal data.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportProblem {
    /// The number of the line in the file, from 1.
    pub line: u64,
    /// The number of the column, from 1.
    pub column: usize,
    /// What is wrong, and what was done.
    pub rule: String,
}

/// The rows of a list, as far as they could be read.
pub(super) struct Read {
    pub(super) preferences: Vec<Preference>,
    pub(super) problems: Vec<ImportProblem>,
}

/// Reads a list, to be recorded for a line by an officer unless a row says otherwise. `is_ours` tells a line of the same
/// controller.
pub(super) fn read(
    csv: &[u8],
    line: &str,
    officer: &str,
    is_ours: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<Read> {
    let text = String::from_utf8_lossy(csv.strip_prefix(b"\xef\xbb\xbf").unwrap_or(csv));
    let mut reader = ReaderBuilder::new();
    reader.has_headers(false).flexible(true).trim(Trim::All).delimiter(delimiter(&text));
    let mut reader = reader.from_reader(text.as_bytes());
    let (mut columns, mut read) = (None, Read { preferences: Vec::new(), problems: Vec::new() });
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(read),
            Err(_) => return Err(Error::invalid("csv", "is not CSV")),
        }
        if record.iter().all(str::is_empty) {
            continue;
        }
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let header: BTreeMap<usize, Column> =
                    record.iter().enumerate().filter_map(|(n, cell)| Some((n, Column::of(cell)?))).collect();
                let has_persons = header.values().any(|column| is_person(*column));
                // A list without a header starts with a row.
                let number = record.iter().position(|cell| phone(cell).is_some()).filter(|_| !has_persons);
                let is_row = number.is_some();
                let known = columns.insert(number.map_or(header, |n| BTreeMap::from([(n, Column::Number)])));
                if !known.values().any(|column| is_person(*column)) {
                    let rule = "has no column with a phone number: name one of them number, phone, mobile or telephone";
                    return Err(Error::invalid("csv", rule));
                }
                if !is_row {
                    continue;
                }
                &*known
            }
        };
        let at = record.position().map_or(0, csv::Position::line);
        let mut row = Row::new(line, officer, now);
        for (n, cell) in record.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            if let Some(column) = columns.get(&n)
                && let Err(rule) = row.take(*column, cell, &is_ours)
            {
                read.problems.push(ImportProblem { line: at, column: n + 1, rule: rule.to_owned() });
            }
        }
        match row.finish() {
            Ok(preference) => read.preferences.push(preference),
            // An unreadable cell is reported already.
            Err(()) if read.problems.last().is_some_and(|last| last.line == at) => {}
            Err(()) => {
                let column = columns.iter().find(|(_, column)| is_person(**column)).map_or(1, |(n, _)| n + 1);
                let rule = "is empty: the row is left out".to_owned();
                read.problems.push(ImportProblem { line: at, column, rule });
            }
        }
    }
}

fn is_person(column: Column) -> bool {
    matches!(column, Column::Addresses | Column::Fingerprints | Column::Number)
}

/// Returns what separates the cells: a comma, or what spreadsheets of other countries write.
fn delimiter(text: &str) -> u8 {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |delimiter: char| first.chars().filter(|c| *c == delimiter).count();
    [(count(','), b','), (count(';'), b';'), (count('\t'), b'\t')]
        .iter()
        .rev()
        .max_by_key(|(n, _)| *n)
        .map_or(b',', |(_, d)| *d)
}

/// A row in progress.
struct Row {
    preference: Preference,
    source: Option<OptOutSource>,
    officer: Option<String>,
}

impl Row {
    fn new(line: &str, officer: &str, now: Timestamp) -> Self {
        let preference = Preference {
            line: line.to_owned(),
            persons: Vec::new(),
            fingerprints: Vec::new(),
            scope: OptOutScope::All,
            medium: None,
            source: OptOutSource::Officer { name: officer.to_owned() },
            note: None,
            consent: None,
            said: now,
            recorded: Some(now),
        };
        Self { preference, source: None, officer: None }
    }

    /// Takes a cell. A detail that cannot be read leaves the wider reading.
    fn take(&mut self, column: Column, cell: &str, is_ours: &impl Fn(&str) -> bool) -> Result<(), &'static str> {
        match column {
            Column::Number => match phone(cell) {
                Some(address) => self.preference.persons.push(Named::new(&address)),
                None => return Err("is not a phone number: it is left out"),
            },
            Column::Addresses => {
                for key in cell.split_whitespace() {
                    match address_of(key) {
                        Some(address) => self.preference.persons.push(Named::new(&address)),
                        None => return Err("has something that is not an address such as phone:+447700900123"),
                    }
                }
            }
            Column::Fingerprints => {
                let is_one = |cell: &str| cell.len() == 16 && cell.bytes().all(|byte| byte.is_ascii_hexdigit());
                for fingerprint in cell.split_whitespace() {
                    if !is_one(fingerprint) {
                        return Err("has something that is not a fingerprint of 16 hexadecimal digits");
                    }
                    self.preference.fingerprints.push(fingerprint.to_ascii_lowercase());
                }
            }
            Column::Scope => match &*cell.to_lowercase() {
                "all" => self.preference.scope = OptOutScope::All,
                "marketing" => self.preference.scope = OptOutScope::Marketing,
                _ => return Err("is neither all nor marketing: taken as all"),
            },
            Column::Medium => match &*cell.to_lowercase() {
                "all" | "every" | "any" => self.preference.medium = None,
                "text" | "texts" | "text message" => self.preference.medium = Some(Medium::Sms),
                name => match name.parse() {
                    Ok(medium) => self.preference.medium = Some(medium),
                    Err(_) => return Err("is not a medium: taken as every medium"),
                },
            },
            Column::Source => match &*cell.to_lowercase() {
                "keyword" => self.source = Some(OptOutSource::Keyword),
                "gateway" => self.source = Some(OptOutSource::Gateway),
                "rejection" => self.source = Some(OptOutSource::Rejection),
                "officer" => {}
                _ => return Err("is not keyword, gateway, rejection or officer: taken as officer"),
            },
            Column::Officer => self.officer = Some(unguarded(cell).to_owned()),
            Column::Note => self.preference.note = Some(unguarded(cell).to_owned()),
            Column::Line if is_ours(cell) => cell.clone_into(&mut self.preference.line),
            Column::Line => return Err("is not a line of this controller: the given one is taken"),
            Column::At => match time(cell) {
                Some(at) if at <= self.preference.said => {
                    (self.preference.said, self.preference.recorded) = (at, Some(at))
                }
                Some(_) => return Err("is in the future: taken as now"),
                None => return Err("is not a date such as 2026-11-28 or 28/11/2026: taken as now"),
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Preference, ()> {
        if self.preference.persons.is_empty() && self.preference.fingerprints.is_empty() {
            return Err(());
        }
        if let Some(name) = self.officer {
            self.preference.source = OptOutSource::Officer { name };
        }
        self.preference.source = self.source.unwrap_or(self.preference.source);
        Ok(self.preference)
    }
}

/// Parses a phone number, also one that lost its `+` or its first zero to a spreadsheet.
fn phone(cell: &str) -> Option<Address> {
    let cell = unguarded(cell);
    if let Ok(address) = Address::phone(cell) {
        return Some(address);
    }
    let plain: String = cell.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '\u{a0}')).collect();
    if !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = match plain.len() {
        12 if plain.starts_with("44") => format!("+{plain}"),
        10 if plain.starts_with(['1', '2', '3', '7']) => format!("0{plain}"),
        _ => return None,
    };
    Address::phone(&number).ok()
}

/// Parses a time, or a date, which counts from midnight UTC.
fn time(cell: &str) -> Option<Timestamp> {
    if let Ok(at) = cell.parse() {
        return Some(at);
    }
    let midnight = |date: &str| format!("{date}T00:00:00Z").parse().ok();
    let parts: Vec<&str> = cell.split(['/', '.']).collect();
    match parts[..] {
        [day, month, year] if year.len() == 4 => midnight(&format!("{year}-{month:0>2}-{day:0>2}")),
        [_] => midnight(cell),
        _ => None,
    }
}

/// Returns `true` if a spreadsheet would take a cell for a formula, or if it looks guarded.
fn needs_guard(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\''])
}

/// Returns a free text that no spreadsheet takes for a formula.
fn guarded(cell: &str) -> String {
    if needs_guard(cell) { format!("'{cell}") } else { cell.to_owned() }
}

/// Removes the guard.
fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| needs_guard(rest)).unwrap_or(cell)
}

/// Writes entries as rows, below a header if they are the first.
pub(super) fn write(entries: &[OptOutEntry], with_header: bool) -> Result<String> {
    let failed = |_| Error::new(ErrorKind::Unavailable, "the list cannot be written");
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    if with_header {
        writer.write_record(COLUMNS.map(Column::name)).map_err(failed)?;
    }
    for entry in entries {
        let addresses = entry.addresses.iter().map(key_of).collect::<Vec<_>>().join(" ");
        let row = COLUMNS.map(|column| match column {
            Column::Addresses | Column::Number => addresses.clone(),
            Column::Fingerprints => entry.fingerprints.join(" "),
            Column::Scope => scope_name(entry.scope).to_owned(),
            Column::Medium => entry.medium.as_ref().map_or_else(String::new, ToString::to_string),
            Column::Source => entry.source.as_str().to_owned(),
            Column::Officer => entry.source.officer().map_or_else(String::new, guarded),
            Column::Note => entry.note.as_deref().map_or_else(String::new, guarded),
            Column::Line => entry.line.clone().unwrap_or_default(),
            Column::At => entry.at.to_string(),
        });
        writer.write_record(row).map_err(failed)?;
    }
    let written = writer.into_inner().map_err(|_| Error::new(ErrorKind::Unavailable, "the list cannot be written"))?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_796_000_000_000);

    fn list(csv: &str) -> Read {
        read(csv.as_bytes(), "desk", "J. Jones", |line| line == "leader", NOW).unwrap()
    }

    fn names(read: &Read) -> Vec<&str> {
        read.preferences.iter().flat_map(|preference| &preference.persons).map(|person| &*person.names[0]).collect()
    }

    fn problems(read: &Read) -> Vec<(u64, usize)> {
        read.problems.iter().map(|problem| (problem.line, problem.column)).collect()
    }

    #[test]
    fn council_list_is_read_row_by_row() {
        let read = list(
            "Name,Mobile No.,Date,Reason\n\
             A. Adams,07700 900123,28/11/2026,by letter\n\
             \n\
             B. Bevan,7700900124,2026-11-27,\n\
             C. Clarke,447700900125,yesterday,\"moved, and \"\"asked\"\"\"\n\
             D. Davies,not known,,\n\
             E. Evans,,,\n\
             F. Ford,+44 7700 900126\n",
        );
        assert_eq!(names(&read), ["+447700900123", "+447700900124", "+447700900125", "+447700900126"]);
        assert_eq!(problems(&read), [(5, 3), (6, 2), (7, 2)]);
        assert!(
            read.problems.iter().all(|problem| !problem.rule.contains("known,") && !problem.rule.contains("Davies"))
        );
        assert_eq!(
            read.preferences[0].recorded,
            "2026-11-28T00:00:00Z".parse().ok().filter(|at| *at <= NOW).or(Some(NOW))
        );
        assert_eq!(read.preferences[2].note.as_deref(), Some("moved, and \"asked\""));
        assert_eq!(read.preferences[0].source, OptOutSource::Officer { name: "J. Jones".to_owned() });
    }

    #[test]
    fn list_needs_no_header_and_any_separator() {
        for csv in [
            "07700 900123\n07700 900124",
            "\u{feff}phone;note\n07700900123;x\n07700900124;y\n",
            "x\ttel\n\t07700900123\na\t07700900124",
        ] {
            assert_eq!(names(&list(csv)), ["+447700900123", "+447700900124"], "{csv}");
        }
        let error = read(b"name,street\nA,B\n", "desk", "J", |_| false, NOW).map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("csv")));
    }

    #[test]
    fn unreadable_detail_leaves_the_wider_opt_out() {
        let read = list("number,scope,medium,source,line,at\n07700900123,half,pigeon post!,hearsay,other,2099-01-01\n");
        assert_eq!(problems(&read), [(2, 2), (2, 3), (2, 4), (2, 5), (2, 6)]);
        let preference = &read.preferences[0];
        assert_eq!((preference.scope, &preference.medium, preference.recorded), (OptOutScope::All, &None, Some(NOW)));
        assert_eq!((&*preference.line, preference.source.officer()), ("desk", Some("J. Jones")));
    }

    #[test]
    fn free_text_is_no_formula() {
        for text in ["=1+1", "+44", "-1", "@SUM(A1)", "\tx", "'=x", "'x", "plain", "a=b"] {
            let written = guarded(text);
            assert!(!written.starts_with(['=', '+', '-', '@', '\t', '\r']), "{written}");
            assert_eq!(unguarded(&written), text);
        }
    }

    #[test]
    fn export_is_read_back_unchanged() {
        let entry = OptOutEntry {
            addresses: vec![Address::phone("+447700900123").unwrap(), Address::whatsapp("GB.1").unwrap()],
            fingerprints: vec!["0123456789abcdef".to_owned()],
            controller: None,
            line: Some("leader".to_owned()),
            scope: OptOutScope::Marketing,
            medium: Some(Medium::WhatsApp),
            source: OptOutSource::Officer { name: "=J. Jones, \"chief\"".to_owned() },
            note: Some("'+ by\nletter".to_owned()),
            at: NOW,
            id: 1,
        };
        let written = write(&[entry], true).unwrap();
        let read = list(&written);
        assert_eq!(problems(&read), []);
        let preference = &read.preferences[0];
        assert_eq!(names(&read), ["+447700900123", "GB.1"]);
        assert_eq!(
            (&*preference.line, preference.scope, preference.recorded),
            ("leader", OptOutScope::Marketing, Some(NOW))
        );
        assert_eq!(
            (preference.source.officer(), preference.note.as_deref()),
            (Some("=J. Jones, \"chief\""), Some("'+ by\nletter"))
        );
        assert_eq!(
            (&preference.fingerprints, &preference.medium),
            (&vec!["0123456789abcdef".to_owned()], &Some(Medium::WhatsApp))
        );
    }
}
