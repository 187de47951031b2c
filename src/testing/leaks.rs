//! Detection of secrets and personal data in output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aho_corasick::AhoCorasick;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::field::{Field, Visit};
use tracing::span;

/// Values that must not appear, in all their encodings.
#[derive(Default)]
pub(super) struct Needles(BTreeMap<String, &'static str>);

impl Needles {
    /// Adds a value, unless it is so short that it could match by chance.
    pub(super) fn add(&mut self, what: &'static str, needle: &str) {
        if needle.trim().chars().count() < 6 {
            return;
        }
        let encoded = utf8_percent_encode(needle, NON_ALPHANUMERIC).to_string();
        let form: String = form_urlencoded::byte_serialize(needle.as_bytes()).collect();
        let hex = needle.bytes().fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
        let escaped = needle.escape_debug().to_string();
        let json = serde_json::to_string(needle).unwrap_or_default().trim_matches('"').to_owned();
        self.0
            .extend([needle.to_owned(), encoded.to_lowercase(), encoded, form, hex, escaped, json].map(|n| (n, what)));
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            // Base64 of a longer text contains one of three encodings of a value, by its offset. The characters at both
            // ends depend on the neighbours, and are ignored.
            for (before, from) in [("", 0), (" ", 2), ("  ", 3)] {
                let whole = engine.encode([before, needle].concat());
                let to = whole.len() - 2;
                if let Some(inner) = whole.get(from..to).filter(|inner| inner.len() >= 6) {
                    self.0.insert(inner.to_owned(), what);
                }
            }
        }
    }

    /// Adds an address: complete, its digits, and a phone number without its country code.
    pub(super) fn add_address(&mut self, address: &crate::model::address::Address) {
        let whole = address.expose();
        self.add("an address", whole);
        self.add("an address", whole.trim_start_matches('+'));
        if let Some(phone) = address.as_phone() {
            let digits = phone.digits();
            self.add("a phone number", digits.get(digits.len().saturating_sub(9)..).unwrap_or_default());
        }
    }

    /// Returns the kind of value that a text contains.
    pub(super) fn found(&self, text: &str) -> Option<&'static str> {
        // One pass for thousands of encodings in megabytes of text.
        let found = AhoCorasick::new(self.0.keys()).ok()?.find(text)?;
        self.0.values().nth(found.pattern().as_usize()).copied()
    }
}

/// Captures everything logged on this thread, at every level, by `tracing` and by `log`.
pub(super) struct Capture {
    lines: Arc<Mutex<String>>,
    _tracing: tracing::dispatcher::DefaultGuard,
}

thread_local! {
    static LOGGED: RefCell<Option<Arc<Mutex<String>>>> = const { RefCell::new(None) };
}

impl Capture {
    pub(super) fn begin() -> Self {
        static LOGGER: OnceLock<()> = OnceLock::new();
        // If another logger is installed, only `tracing` is captured.
        LOGGER.get_or_init(|| {
            if log::set_logger(&Logger).is_ok() {
                log::set_max_level(log::LevelFilter::Trace);
            }
        });
        // With a single subscriber, `tracing` caches the interest of the first thread that reaches an event. With a second
        // one it checks each time.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(Listener(Arc::default())));
        let lines = Arc::<Mutex<String>>::default();
        LOGGED.set(Some(lines.clone()));
        let _tracing = tracing::dispatcher::set_default(&tracing::Dispatch::new(Listener(lines.clone())));
        Self { lines, _tracing }
    }

    pub(super) fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow(|lines| {
            if let Some(lines) = lines {
                _ = writeln!(lines.lock().unwrap_or_else(PoisonError::into_inner), "{}", record.args());
            }
        });
    }

    fn flush(&self) {}
}

struct Listener(Arc<Mutex<String>>);

impl Listener {
    fn note(&self, record: impl FnOnce(&mut Fields<'_>)) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record(&mut Fields(&mut lines));
        lines.push('\n');
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.note(|fields| span.record(fields));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        self.note(|fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.note(|fields| event.record(fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        _ = write!(self.0, "{}={value:?} ", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        _ = write!(self.0, "{}={value} ", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needle_is_found_in_every_encoding() {
        let mut needles = Needles::default();
        needles.add_address(&crate::Address::phone("07700 900123").unwrap());
        needles.add("a text", "Bin day, \"ŵŷ\"?");
        let base64 = |text: &str| BASE64_STANDARD_NO_PAD.encode(text);
        for shown in [
            "to=+447700900123".to_owned(),
            "to=%2B447700900123".to_owned(),
            "07700900123".to_owned(),
            base64("+447700900123"),
            base64("x+447700900123 and more"),
            base64("xy+447700900123:"),
            base64("xyz+447700900123"),
            format!("{:?}", "Bin day, \"ŵŷ\"?"),
            r#"{"a":"Bin day, \"ŵŷ\"?"}"#.to_owned(),
            "Bin+day%2C+%22%C5%B5%C5%B7%22%3F".to_owned(),
        ] {
            assert!(needles.found(&shown).is_some(), "{shown}");
        }
        assert_eq!(needles.found("…123, 447700900, <12 characters>"), None);
    }

    #[test]
    fn log_output_of_this_thread_is_captured() {
        let capture = Capture::begin();
        tracing::trace!(secret = "canary-one", "hello");
        tracing::info_span!("span", value = ?"canary-two").in_scope(|| tracing::debug!("canary-three"));
        let text = capture.text();
        for canary in ["canary-one", "canary-two", "canary-three"] {
            assert!(text.contains(canary), "{text}");
        }
        std::thread::spawn(|| tracing::info!("canary-elsewhere")).join().unwrap();
        assert!(!capture.text().contains("elsewhere"));
        // An event that another thread, without a subscriber, reaches first.
        let line = |thread| tracing::info!("canary-{thread}");
        std::thread::spawn(move || line("first")).join().unwrap();
        line("second");
        assert!(capture.text().contains("canary-second") && !capture.text().contains("canary-first"));
    }
}
