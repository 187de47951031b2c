//! The files of a new adapter: the templates, with the parts that its options select.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::options::{Auth, Body, Method, Options, Signature};

/// Returns each file of the new crate: its path in the crate, and its text.
///
/// # Errors
/// Options that exclude each other, or a name that is already that of another item in the crate.
pub(crate) fn generate(options: &Options) -> Result<Vec<(PathBuf, String)>, String> {
    options.check()?;
    let struct_name = struct_name(&options.name);
    if TEMPLATES.iter().any(|(path, template)| path.ends_with(".rs") && has_word(template, &struct_name)) {
        return Err(format!("NAME would name a struct `{struct_name}`, which the crate uses already: choose another"));
    }
    let (flags, values) = (flags(options), values(options, struct_name));
    let filled = |(path, template): &(&str, &str)| (PathBuf::from(path), fill(&select(template, &flags), &values));
    Ok(TEMPLATES.iter().map(filled).collect())
}

/// Each file of the new crate, with its template.
pub(crate) const TEMPLATES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("README.md", include_str!("template/README.md.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("tests/conformance.rs", include_str!("template/conformance.rs.in")),
];

/// Keeps the lines of a template whose conditions hold.
///
/// `%if a=b c=d` holds if one of its flags is set; it ends at `%end`, and may have an `%else`.
fn select(template: &str, flags: &BTreeSet<String>) -> String {
    let (mut kept, mut conditions) = (String::new(), Vec::new());
    for line in template.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("%if", any) => conditions.push(any.split(' ').any(|flag| flags.contains(flag))),
            ("%else", _) => conditions = negated(conditions),
            ("%end", _) => _ = conditions.pop(),
            _ if conditions.iter().all(|holds| *holds) => kept.extend([line, "\n"]),
            _ => {}
        }
    }
    kept
}

fn negated(mut conditions: Vec<bool>) -> Vec<bool> {
    if let Some(last) = conditions.last_mut() {
        *last = !*last;
    }
    conditions
}

/// Replaces each `@name@` with its value.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Returns the flags of the templates' conditions.
pub(crate) fn flags(options: &Options) -> BTreeSet<String> {
    let Options { medium, auth, signature, body, webhook, .. } = options;
    let proof = match (signature, webhook) {
        (Signature::Hmac, _) => "hmac",
        (Signature::Token, Method::Get) => "query",
        (Signature::Token, Method::Post) => "header",
        (Signature::None, _) => "none",
    };
    let read = if (*body, *webhook) == (Body::Json, Method::Post) { "json" } else { "form" };
    // Suppliers of forms mostly write numbers without a plus.
    let numbers = if *body == Body::Form && has_numbers(medium) { "digits" } else { "plus" };
    let medium = if is_other(medium) { "other" } else { medium };
    let auth = match auth {
        Auth::Basic => "basic",
        Auth::Bearer => "bearer",
        Auth::Header => "header",
        Auth::Query => "query",
    };
    let body = if *body == Body::Json { "json" } else { "form" };
    let webhook = if *webhook == Method::Get { "get" } else { "post" };
    [
        ("auth", auth),
        ("body", body),
        ("medium", medium),
        ("numbers", numbers),
        ("proof", proof),
        ("read", read),
        ("webhook", webhook),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .into()
}

fn has_numbers(medium: &str) -> bool {
    matches!(medium, "sms" | "whatsapp")
}

fn is_other(medium: &str) -> bool {
    !matches!(medium, "messenger" | "sms" | "whatsapp" | "x")
}

/// Returns the values of the templates' names.
fn values(options: &Options, struct_name: String) -> Vec<(&'static str, String)> {
    let (account, resident) = match options.medium.as_str() {
        number if has_numbers(number) && options.body == Body::Form => ("447700900456", "447700900123"),
        number if has_numbers(number) => ("+447700900456", "+447700900123"),
        "messenger" => ("7000000000000001", "8000000000000001"),
        "x" => ("1900000000000000202", "1900000000000000101"),
        _ => ("council-desk", "resident-4711"),
    };
    vec![
        ("name", options.name.clone()),
        ("module", options.name.replace('-', "_")),
        ("host", options.name.replace('_', "-")),
        ("Type", struct_name),
        ("medium", options.medium.clone()),
        ("source", source(options.path.as_deref())),
        ("account", account.to_owned()),
        ("account_encoded", account.replace('+', "%2B")),
        ("resident", resident.to_owned()),
        ("resident_address", if has_numbers(&options.medium) { "+447700900123" } else { resident }.to_owned()),
        ("resident_encoded", resident.replace('+', "%2B")),
    ]
}

fn struct_name(name: &str) -> String {
    let capital = |part: &str| part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect();
    name.split(['-', '_']).map(capital).collect::<Vec<String>>().concat()
}

/// Returns the source of the dependency, as TOML.
fn source(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("path = {:?}", path.display().to_string()),
        None => "version = \"0.1\"".to_owned(),
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}
