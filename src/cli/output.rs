//! Tables for people, and JSON for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;

/// Writes to stdout. Ends the program quietly if nobody reads it any more.
pub(crate) fn print(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes JSON to stdout.
pub(crate) fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// A table with left-aligned columns.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn print(&self) {
        print(self.text().trim_end());
    }

    fn text(&self) -> String {
        let head: Vec<String> = self.head.iter().map(|name| name.to_uppercase()).collect();
        let rows = || std::iter::once(&head).filter(|head| head.iter().any(|name| !name.is_empty())).chain(&self.rows);
        let width = |n: usize| rows().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..self.head.len()).map(|n| width(n).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in rows() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Returns a text without control characters: a resident's message must not control an officer's terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_controls_removed() {
        let mut table = Table::new(&["line", "text"]);
        table.row(["enquiries".to_owned(), "a\u{1b}[31mb\nc".to_owned()]);
        table.row(["ŵ".to_owned(), String::new()]);
        assert_eq!(table.text(), "LINE       TEXT\nenquiries  a [31mb c\nŵ\n");
    }
}
