//! The table of results.

use civic_messaging::Channel;

pub(crate) struct Table {
    rows: Vec<[String; 5]>,
    passed: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), passed: true }
    }

    pub(crate) fn row(
        &mut self,
        name: &str,
        channel: &dyn Channel,
        action: &str,
        what: &str,
        outcome: &str,
        passed: bool,
    ) {
        self.passed &= passed;
        let through = format!("{} by {} ({name})", channel.info().medium, channel.info().gateway);
        let mark = if passed { "ok" } else { "FAIL" };
        self.rows.push([mark, &through, action, what, outcome].map(str::to_owned));
    }

    pub(crate) fn check(&mut self, what: &str, passed: bool) {
        self.passed &= passed;
        let mark = if passed { "ok" } else { "FAIL" };
        self.rows.push([mark, "all", "checked", what, ""].map(str::to_owned));
    }

    /// Prints the table. Returns an error if a row failed.
    pub(crate) fn finish(self) -> crate::Result<()> {
        let heads = ["", "medium by gateway (name)", "action", "what", "outcome"].map(str::to_owned);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> =
            (0..5).map(|column| if column == 3 { width(column).min(32) } else { width(column) }).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        let count = |action: &str| self.rows.iter().filter(|row| row[2] == action).count();
        println!(
            "\n{} sent, {} refused (invalid or forged), {} received, {} replied, {} statuses",
            count("sent"),
            count("refused"),
            count("received"),
            count("replied"),
            count("status"),
        );
        if self.passed { Ok(()) } else { Err("some checks failed: see the rows marked FAIL".into()) }
    }
}
