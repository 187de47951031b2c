//! The number of dependencies.

use std::collections::BTreeSet;
use std::process::Command;

fn crates(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()).collect()
}

fn holds(crates: &BTreeSet<String>, name: &str) -> bool {
    crates.iter().any(|line| line.split(' ').next() == Some(name))
}

/// Including this crate.
#[test]
fn default_features_need_112_crates_and_no_c_build() {
    let all = crates(&[]);
    assert!(all.len() <= 112, "{} crates: {all:#?}", all.len());
    for heavy in ["aws-lc-rs", "aws-lc-sys", "h2", "native-tls", "openssl", "openssl-sys"] {
        assert!(!holds(&all, heavy), "{heavy}");
    }
}

#[test]
fn core_needs_no_runtime_and_no_tls() {
    let all = crates(&["--no-default-features", "--features", "meta,x,twilio,notify"]);
    assert!(all.len() <= 40, "{} crates: {all:#?}", all.len());
    for heavy in ["hyper", "reqwest", "ring", "rustls", "tokio"] {
        assert!(!holds(&all, heavy), "{heavy}");
    }
}

#[test]
fn axum_feature_adds_no_runtime_and_no_server() {
    let all = crates(&["--no-default-features", "--features", "axum"]);
    assert!(all.len() <= 56, "{} crates: {all:#?}", all.len());
    for heavy in ["hyper", "reqwest", "rustls", "tokio", "tracing"] {
        assert!(!holds(&all, heavy), "{heavy}");
    }
}

#[test]
fn command_line_adds_no_c_build_but_sqlite() {
    let all = crates(&["--features", "cli"]);
    assert!(all.len() <= 140, "{} crates: {all:#?}", all.len());
    for heavy in ["aws-lc-sys", "chrono", "console", "indicatif", "openssl", "regex", "rustix"] {
        assert!(!holds(&all, heavy), "{heavy}");
    }
}
