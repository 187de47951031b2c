//! The same faults, played against this crate and its peers, on loopback.
//!
//! Each row is a fault, each column a library in its documented, default way. The program says what it saw and judges
//! nothing. It prints a table in Markdown, and writes it to `RESULTS.md`.

mod chorus;
mod fake;
mod fault;
mod ours;
mod smskit;
mod webhook;
mod whatsapp_business_rs;

use std::fmt::Write;

use fake::Down;
use fault::{Cell, Fault, Peer};

fn main() -> std::io::Result<()> {
    let down = Down::new();
    // Before there is a second thread. It is the reason for the edition of 2021, in which this is not unsafe.
    std::env::set_var(whatsapp_business_rs::BASE_URL, down.url());
    // Nothing of this leaves the machine, whatever proxy it has.
    std::env::set_var("NO_PROXY", "127.0.0.1");
    std::env::set_var("no_proxy", "127.0.0.1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(async {
        let columns = [
            Column::played(&smskit::Smskit).await,
            Column::played(&chorus::ChorusRs).await,
            Column::played(&whatsapp_business_rs::WhatsappBusinessRs::new(down).await).await,
            Column::played(&ours::Ours).await,
        ];
        results(&columns)
    });
    print!("{results}");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"), results)
}

/// A peer, and what it did under each fault.
struct Column {
    name: &'static str,
    version: String,
    how: String,
    cells: Vec<Cell>,
}

impl Column {
    async fn played<P: Peer>(peer: &P) -> Self {
        let mut cells = Vec::new();
        for fault in Fault::ALL {
            cells.push(peer.play(fault).await);
        }
        let crates: Vec<_> = P::CRATES.iter().map(|name| format!("`{name}` {}", version(name))).collect();
        let how = format!("**{}** ({}): {}.", P::NAME, crates.join(", "), P::HOW);
        let version = P::CRATES.first().map(|name| version(name)).unwrap_or_default();
        Self { name: P::NAME, version, how, cells }
    }
}

/// The version that this program was built with.
fn version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let package = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, rest)| rest);
    package.and_then(|rest| rest.split('"').next()).unwrap_or("?").to_owned()
}

/// The whole file.
fn results(columns: &[Column]) -> String {
    let mut notes = Vec::new();
    let mut text = format!(
        "# The same faults, played against peers\n\n\
         Made by `cargo run --release` in this folder, on {}. [README.md](README.md) says how, and what the words mean.\n\n\
         | | fault |",
        chrono::Utc::now().format("%-d %B %Y")
    );
    for column in columns {
        _ = write!(text, " {} {} |", column.name, column.version);
    }
    _ = writeln!(text, "\n|---|---|{}", "---|".repeat(columns.len()));
    for (row, fault) in Fault::ALL.into_iter().enumerate() {
        _ = write!(text, "| {} | {} |", fault.number(), fault.words());
        for cell in columns.iter().filter_map(|column| column.cells.get(row)) {
            _ = write!(text, " {}", cell.text);
            if let Some(note) = cell.note {
                let known = notes.iter().position(|known| *known == note);
                let number = known.unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                });
                _ = write!(text, "[^{}]", number + 1);
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    text.push('\n');
    for column in columns {
        _ = writeln!(text, "- {}", column.how);
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        _ = writeln!(text, "[^{}]: {note}", number + 1);
    }
    text
}
