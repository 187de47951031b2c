//! The faults, one row each; what a peer has to play; and the words of the cells, the same for all.

use std::fmt::Debug;
use std::time::Duration;

use crate::fake::{Fake, RETRY_AFTER};

/// How long anybody waits for an answer: a client by its own setting, if it has one, and this program for the client.
pub const CLIENT_PATIENCE: Duration = Duration::from_millis(200);
pub const PATIENCE: Duration = Duration::from_millis(400);

/// Who writes, to whom, and what.
pub const FROM: &str = "+447700900456";
pub const TO: &str = "+447700900123";
pub const TEXT: &str = "Your collection is on Tuesday.";

/// Where the rows that only receive would send to: nobody listens on that port.
pub const NOWHERE: &str = "http://127.0.0.1:9";

/// 9,000 times a letter that is nowhere else in a request, so that it can be counted there.
pub fn long_text() -> String {
    "z".repeat(LONG)
}
const LONG: usize = 9_000;
const LETTER: u8 = b'z';

/// One row: what goes wrong, and what is asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Dropped,
    Silent,
    DroppedAlone,
    OptedOut,
    TooMany,
    ServerError,
    Repeated,
    Forged,
    NoSecret,
    Failed,
    TooLong,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::Dropped,
        Self::Silent,
        Self::DroppedAlone,
        Self::OptedOut,
        Self::TooMany,
        Self::ServerError,
        Self::Repeated,
        Self::Forged,
        Self::NoSecret,
        Self::Failed,
        Self::TooLong,
    ];

    pub fn number(self) -> &'static str {
        match self {
            Self::Dropped => "1a",
            Self::Silent => "1b",
            Self::DroppedAlone => "1c",
            Self::OptedOut => "2",
            Self::TooMany => "3",
            Self::ServerError => "4",
            Self::Repeated => "5",
            Self::Forged => "6a",
            Self::NoSecret => "6b",
            Self::Failed => "7",
            Self::TooLong => "8",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Dropped => {
                "The supplier takes the message, then drops the connection. A second supplier stands by. How many copies \
                 were taken, and what does the caller get?"
            }
            Self::Silent => "The same, but the supplier never answers.",
            Self::DroppedAlone => {
                "The supplier takes the message, then drops the connection. There is no second. Can the caller tell it \
                 from a supplier that was never reached?"
            }
            Self::OptedOut => {
                "The first supplier says that the person has opted out. A second stands by. Is the message carried to it?"
            }
            Self::TooMany => {
                "The supplier answers 429, and to wait 7 seconds. How many requests, and does the caller get the wait?"
            }
            Self::ServerError => {
                "The supplier answers 500, and may have taken the message. How many requests, and can the caller tell it \
                 from a refusal by the error's type or fields?"
            }
            Self::Repeated => "The same webhook comes twice. Can the program tell by an id?",
            Self::Forged => "A webhook comes with a wrong signature. Is it refused?",
            Self::NoSecret => "The same, where no secret is configured.",
            Self::Failed => "A webhook says that a message was not delivered. Does a typed event come out?",
            Self::TooLong => "A text of 9,000 characters is sent. What reaches the supplier?",
        }
    }
}

/// A column: what it is called, its crates, and what it does under each fault.
pub trait Peer {
    const NAME: &'static str;
    /// Its crates, as Cargo.lock names them, the one that gives the version first.
    const CRATES: &'static [&'static str];
    /// How it is played here.
    const HOW: &'static str;

    async fn play(&self, fault: Fault) -> Cell;
}

/// What was seen, and what has to be known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub note: Option<&'static str>,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), note: None }
    }

    /// A row that does not apply, and why.
    pub fn none(why: &'static str) -> Self {
        Self::new("–").note(why)
    }

    pub fn note(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }

    /// Faults 1a and 1b: what two suppliers took, and what the caller got.
    pub fn copies(suppliers: [&Fake; 2], reported: &str) -> Self {
        let requests = many(suppliers.iter().map(|fake| fake.requests()).sum(), "request", "requests");
        let copies = many(suppliers.iter().map(|fake| fake.copies()).sum(), "copy", "copies");
        Self::new(format!("{requests}, {copies}; reported {reported}"))
    }

    /// Fault 1c: what the caller gets when the message was taken, and when the supplier was never reached.
    pub fn unreached(taken: &str, unreached: &str) -> Self {
        Self::new(apart(taken, unreached, "if never reached"))
    }

    /// Fault 2: whether the second supplier was asked.
    pub fn carried(suppliers: [&Fake; 2], reported: &str) -> Self {
        let [_, second] = suppliers;
        let carried = if second.requests() > 0 { "yes" } else { "no" };
        Self::new(format!("{carried}: {} at the second; reported {reported}", many(second.copies(), "copy", "copies")))
    }

    /// Fault 3: how many requests, and whether the wait was anywhere in what the caller got.
    pub fn wait(supplier: &Fake, reported: &str, reported_wait: bool) -> Self {
        let wait = if reported_wait { "with the wait" } else { "without the wait" };
        Self::new(format!("{}; reported {reported}, {wait}", requests(supplier)))
    }

    /// Fault 4: how many requests, and what the caller gets, and what it gets for a rejection.
    pub fn failure(requests: usize, failed: &str, refused: &str) -> Self {
        let requests = many(requests, "request", "requests");
        Self::new(format!("{requests}; {}", apart(failed, refused, "if refused")))
    }

    /// Fault 5: the ids that the program saw, if it saw any.
    pub fn ids<T: PartialEq>(ids: &[Option<T>]) -> Self {
        Self::new(match ids {
            [Some(first), Some(second)] if first == second => "yes: the same id both times",
            [Some(_), Some(_)] => "no: another id the second time",
            _ => "no: no id",
        })
    }

    /// Faults 6a and 6b: what the program answers, if not with the message.
    pub fn proof(refusal: Option<&str>) -> Self {
        Self::new(match refusal {
            Some(words) => format!("refused: {words}"),
            None => "let in".into(),
        })
    }

    /// Fault 7: the event that came out, or what came instead.
    pub fn event(event: Result<String, String>) -> Self {
        Self::new(match event {
            Ok(event) => format!("yes: {event}"),
            Err(instead) => format!("no: {instead}"),
        })
    }

    /// Fault 8: what reached the supplier, by the letters that did.
    pub fn long(supplier: &Fake, reported: &str) -> Self {
        let letters = supplier.letters(LETTER);
        let requests = requests(supplier);
        Self::new(match letters.iter().sum() {
            0 => format!("refused before the network: {requests}; reported {reported}"),
            LONG if letters.len() == 1 => format!("sent as it is: {requests}; reported {reported}"),
            LONG => format!("split: {requests}; reported {reported}"),
            left => format!("cut to {left} characters: {requests}; reported {reported}"),
        })
    }
}

/// Whether the caller can tell one from the other.
fn apart(one: &str, other: &str, when: &str) -> String {
    match one == other {
        true => format!("no: reported {one} both times"),
        false => format!("yes: reported {one}, and {other} {when}"),
    }
}

fn requests(supplier: &Fake) -> String {
    many(supplier.requests(), "request", "requests")
}

fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The name of an error's variant, as code.
pub fn variant(error: &impl Debug) -> String {
    let name: String = format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    format!("`{name}`")
}

/// The result of a caller that waited for [`PATIENCE`].
pub const NOTHING: &str = "nothing within 400 ms";

/// Returns the reported result: sent, or the variant of the error.
pub fn reported<T, E: Debug>(result: &Result<T, E>) -> String {
    match result {
        Ok(_) => "sent".into(),
        Err(error) => variant(error),
    }
}

/// Whether the wait is anywhere in an error: in a field, or in its text.
pub fn tells_wait(error: &impl Debug) -> bool {
    let wait = RETRY_AFTER.as_secs().to_string();
    format!("{error:?}").split(|c: char| !c.is_ascii_digit()).any(|number| number == wait)
}
