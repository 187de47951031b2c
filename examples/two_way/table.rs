//! One table of what happened, and whether all of it held.

use civic_messaging::Channel;

pub(crate) struct Table {
    rows: Vec<[String; 5]>,
    held: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), held: true }
    }

    pub(crate) fn row(&mut self, name: &str, channel: &dyn Channel, did: &str, what: &str, told: &str, held: bool) {
        self.held &= held;
        let through = format!("{} by {} ({name})", channel.info().medium, channel.info().gateway);
        let mark = if held { "ok" } else { "NO" };
        self.rows.push([mark, &through, did, what, told].map(str::to_owned));
    }

    pub(crate) fn held(&mut self, what: &str, held: bool) {
        self.held &= held;
        let mark = if held { "ok" } else { "NO" };
        self.rows.push([mark, "all", "checked", what, ""].map(str::to_owned));
    }

    /// Prints the table; an error if anything in it did not hold.
    pub(crate) fn finish(self) -> crate::Result<()> {
        let heads = ["", "medium by gateway (name)", "did", "what", "and then"].map(str::to_owned);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> =
            (0..5).map(|column| if column == 3 { width(column).min(32) } else { width(column) }).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        let count = |did: &str| self.rows.iter().filter(|row| row[2] == did).count();
        println!(
            "\n{} sent, {} refused before the network or at the door, {} received, {} replied, {} statuses",
            count("sent"),
            count("refused"),
            count("received"),
            count("replied"),
            count("status"),
        );
        if self.held { Ok(()) } else { Err("not all of it held: see the rows marked NO".into()) }
    }
}
