//! `docs/support.md`, generated from the suite's results. `CIVIC_WRITE=1 cargo test --all-features --test conformance
//! support` writes it; without the variable the test fails if the page is out of date.

use std::fmt::Write;
use std::time::Duration;

use civic_messaging::Capability;
use civic_messaging::capability::{TextLimit, Unit};
use civic_messaging::testing::{self, Report, Subject};
use civic_messaging::webhook::SignatureCoverage;

/// Every gateway and medium in the table.
const SUBJECTS: &[&dyn Subject] = &[
    &crate::custom::BulkSms,
    &crate::custom::FireText,
    &crate::custom::Kannel,
    &crate::meta::CloudApi,
    &crate::meta::Dialog360,
    &crate::meta::Messenger,
    &crate::notify::Sms,
    &crate::twilio::Sms,
    &crate::twilio::WhatsApp,
    &crate::vonage::Sms,
    &crate::vonage::WhatsApp,
    &crate::vonage::Messenger,
    &crate::x::DirectMessages,
    &crate::mock::Mocked("messenger"),
    &crate::mock::Mocked("sms"),
    &crate::mock::Mocked("whatsapp"),
    &crate::mock::Mocked("x"),
    &crate::mock::Mocked("pager"),
];

#[test]
fn support_matrix_matches_conformance_suite() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reports: Vec<_> = SUBJECTS.iter().map(|subject| runtime.block_on(testing::conformance(*subject))).collect();
    reports.iter().for_each(Report::assert_good);
    let made = page(&reports);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/support.md");
    if std::env::var_os("CIVIC_WRITE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    let line = made.lines().zip(there.lines()).find(|(made, there)| made != there);
    assert!(
        made == there,
        "docs/support.md is out of date: regenerate it with CIVIC_WRITE=1. First difference: {line:?}"
    );
}

fn page(reports: &[Report]) -> String {
    let checks = testing::CHECKS.len();
    let mut page = format!(
        "# What each gateway supports\n\n\
         Generated from the conformance suite's results. The suite has {checks} checks, which \
         [the guide for adapters][adapter] describes. Checks of undeclared capabilities do not \
         apply: such calls are refused before the network. Checks of requests do not apply to the mock.\n\n\
         | gateway | medium | checks passed | failed | do not apply | webhook signature covers | run against the live vendor |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for report in reports {
        let info = report.info.as_ref().unwrap();
        let (passed, failed) = (report.passed(), report.failed().count());
        let covers = match report.covers {
            None => "receives nothing",
            Some(SignatureCoverage::Body) => "the body",
            Some(SignatureCoverage::Claims) => "claims in the body",
            Some(SignatureCoverage::Nothing) => "nothing: a token",
            Some(SignatureCoverage::UrlAndForm) => "address and form",
        };
        let live = if info.gateway == "mock" { "there is none" } else { "no" };
        let (gateway, medium, rest) = (info.gateway, &info.medium, checks - passed - failed);
        writeln!(page, "| {gateway} | {medium} | {passed} | {failed} | {rest} | {covers} | {live} |").unwrap();
    }
    page.push_str(
        "\n## What each can do\n\nThe mock supports what its test configures; by default everything that its medium supports.\n\n| |",
    );
    let mut columns: Vec<_> = reports.iter().map(|report| report.info.as_ref().unwrap()).collect();
    columns.retain(|info| info.gateway != "mock");
    columns.iter().for_each(|info| write!(page, " {} {} |", info.gateway, info.medium).unwrap());
    page.push_str("\n|---|");
    columns.iter().for_each(|_| page.push_str("---|"));
    for (name, cell) in ROWS {
        write!(page, "\n| {name} |").unwrap();
        columns.iter().for_each(|info| write!(page, " {} |", cell(&info.capability)).unwrap());
    }
    // A reference, which the crate's documentation defines in its own way.
    page.push_str("\n\n[adapter]: adapter.md#conformance-checks\n");
    page
}

type Cell = fn(&Capability) -> String;

const ROWS: &[(&str, Cell)] = &[
    ("text, up to", |can| can.text.map(limit).unwrap_or_default()),
    ("files in one message", |can| can.media.as_ref().map(|media| media.per_message.to_string()).unwrap_or_default()),
    ("files by link", |can| yes(can.media.as_ref().is_some_and(|media| media.link))),
    ("files of the store", |can| yes(can.media.as_ref().is_some_and(|media| media.stored))),
    ("templates", |can| yes(can.template.is_some())),
    ("buttons, up to", |can| can.choice.map(|choice| choice.buttons.to_string()).unwrap_or_default()),
    ("rows of a list, up to", |can| match can.choice {
        Some(choice) if choice.rows > 0 => choice.rows.to_string(),
        _ => String::new(),
    }),
    ("labelled links", |can| yes(can.link.is_some())),
    ("asks for a location", |can| yes(can.ask_location)),
    ("asks for a contact", |can| yes(can.ask_contact)),
    ("places", |can| yes(can.location)),
    ("contact cards", |can| yes(can.contacts)),
    ("reactions", |can| yes(can.reaction)),
    ("native content", |can| yes(can.native)),
    ("quotes", |can| yes(can.reply_to)),
    ("conversations of several people", |can| yes(can.conversation)),
    ("a status carries our key back", |can| yes(can.key)),
    ("its longest reference, in bytes", |can| can.max_reference.map(grouped).unwrap_or_default()),
    ("recognises a repeated send, for", |can| can.idempotency_window.map(hours).unwrap_or_default()),
    ("receives webhooks", |can| yes(can.receive)),
    ("can be polled", |can| match can.webhook_excludes_poll {
        true => "instead of webhooks".to_owned(),
        false => yes(can.poll),
    }),
    ("looks messages up", |can| yes(can.look_up)),
    ("tells of deliveries", |can| yes(can.delivery_status)),
    ("takes uploads", |can| yes(can.upload_media)),
    ("gives out files", |can| yes(can.fetch_media)),
    ("marks as read", |can| yes(can.read)),
    ("shows typing", |can| yes(can.typing)),
    ("tells its health", |can| yes(can.health)),
];

fn hours(window: Duration) -> String {
    format!("{} h", window.as_secs() / 3600)
}

fn yes(can: bool) -> String {
    if can { "✓".to_owned() } else { String::new() }
}

fn limit(limit: TextLimit) -> String {
    let unit = match limit.unit {
        Unit::Bytes => "bytes",
        Unit::Characters => "characters",
        Unit::Segments => "segments",
        Unit::Utf16 => "UTF-16 code units",
    };
    format!("{} {unit}", grouped(limit.max))
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    match digits.split_at_checked(digits.len().saturating_sub(3)) {
        Some((thousands, rest)) if !thousands.is_empty() => format!("{thousands},{rest}"),
        _ => digits,
    }
}
