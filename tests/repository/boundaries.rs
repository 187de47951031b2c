//! Who may name whom: read from the sources, with the file, the line and the rule of each breach.
//!
//! Comments, strings and test modules are left out: what stands there binds nothing together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fmt, fs};

/// The order of the modules: each imports only from those in the rows above its own.
const ORDER: &[&[&str]] = &[
    &["medium"],
    &["model"],
    &["transport"],
    &["webhook"],
    &["media"],
    &["settings", "telemetry", "tokens"],
    &["context", "plan"],
    &["channel"],
    &["adapter"],
    &["gateway"],
    &["layer"],
    &["policy"],
    &["mock", "registry"],
    &["switchboard"],
    &["axum"],
    &["testing"],
    &["cli"],
];

/// Modules whose files must not import each other in a cycle.
const ACYCLIC: &[&str] = &["adapter", "gateway", "layer", "model", "policy", "switchboard", "testing", "webhook"];

/// A session merges the statements of its concurrent transactions, and these are written over a session: the one cycle left.
const CYCLES_LEFT: &[&str] = &["switchboard::store::postgres: session -> together -> session"];

/// The crate's root, which re-exports all of them.
const ROOT: &str = "lib";

type Rule = fn(&Source) -> Vec<Breach>;

/// A file, as path and text.
type File = (&'static str, &'static str);

/// Every rule over one file, with two small breaches of it and a file that keeps to it.
const RULES: &[(Rule, [File; 2], File)] = &[
    (
        medium_imports_std_only,
        [
            ("src/medium/rcs.rs", "use serde::Serialize;"),
            ("src/medium/rcs.rs", "fn f(e: crate::model::error::Error) -> bytes::Bytes {}"),
        ],
        ("src/medium/rcs.rs", "use std::{borrow::Cow, fmt};\nuse self::Part::Whole;\n// use serde::Serialize;"),
    ),
    (
        gateway_imports_no_other_gateway,
        [
            ("src/gateway/acme/send.rs", "use super::super::{\n    twilio::Form,\n};"),
            ("src/gateway/acme.rs", "fn f() { crate::x::X::new() }"),
        ],
        ("src/gateway/acme/send.rs", "use super::{GATEWAY, Acme};\nuse crate::gateway::acme::Config;"),
    ),
    (
        only_registry_names_a_gateway,
        [
            ("src/plan.rs", "fn f(max: usize) { max == crate::gateway::meta::MAX }"),
            ("src/layer/retry/mod.rs", "use crate::{Error, Meta};"),
        ],
        ("src/registry/mod.rs", "fn f() { crate::gateway::meta::connect }"),
    ),
    (
        imports_follow_the_order,
        [
            ("src/webhook/form.rs", "use super::super::channel::Channel;"),
            ("src/gateway/acme/mod.rs", "fn f() -> crate::Mock {}"),
        ],
        (
            "src/gateway/acme/mod.rs",
            "use crate::channel::Channel;\n#[cfg(test)]\nmod tests {\n    use crate::mock::Mock;\n}",
        ),
    ),
    (
        imports_name_the_defining_module,
        [("src/plan.rs", "use crate::message::Link;"), ("src/channel.rs", "fn f(e: crate::Error) {}")],
        ("src/plan.rs", "use crate::model::message::Link;"),
    ),
    (
        module_has_a_row_in_the_order,
        [("src/helpers.rs", "fn f() {}"), ("src/telex/send.rs", "")],
        ("src/media/store.rs", "fn f() {}"),
    ),
    (
        only_transport_names_reqwest,
        [("src/adapter/endpoint.rs", "fn f(e: reqwest::Error) {}"), ("src/gateway/acme.rs", "use reqwest as http;")],
        ("src/transport/pool.rs", "use reqwest::Client;"),
    ),
];

#[test]
fn sources_keep_the_boundaries() {
    let sources = sources();
    assert!(sources.len() >= 35, "only {} files were read", sources.len());
    let mut breaches: Vec<String> = sources
        .iter()
        .flat_map(|source| RULES.iter().flat_map(move |(rule, ..)| rule(source)))
        .map(|breach| breach.to_string())
        .collect();
    // One import can break several rules.
    breaches.dedup();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn modules_have_no_other_cycles() {
    let cycles = cycles(&sources());
    assert_eq!(cycles, CYCLES_LEFT, "\n{}", cycles.join("\n"));
}

#[test]
fn cycle_is_found() {
    let files = [
        ("src/model/a.rs", "use super::b::B;"),
        ("src/model/b.rs", "use crate::model::c::C;"),
        ("src/model/c.rs", "use super::a::A;"),
        ("src/model/d.rs", "use super::a::A;"),
    ];
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    assert_eq!(cycles(&sources), ["model: a -> b -> c -> a"]);
    assert!(cycles(&sources[1..]).is_empty());
}

#[test]
fn every_rule_finds_its_breaches_only() {
    for (rule, breaches, kept) in RULES {
        for (path, text) in breaches {
            // Below a comment and a string with the same text, which import nothing.
            let apart = format!("/* {text} */\n// {text}\nconst NOTE: &str = {text:?};\n");
            let found = rule(&Source::new(path, &apart));
            assert!(text.is_empty() || found.iter().all(|breach| breach.line == 0), "{path}: {text}: {found:?}");
            let found = rule(&Source::new(path, &format!("{apart}{text}")));
            assert!(!found.is_empty(), "{path}: {text}");
            assert!(found.iter().all(|breach| breach.path == *path && !breach.rule.is_empty()));
            assert!(found.iter().all(|breach| breach.line == 0 || breach.line > 3), "{found:?}");
        }
        let (path, text) = kept;
        assert_eq!(rule(&Source::new(path, text)), [], "{path}: {text}");
    }
}

#[test]
fn breach_names_file_line_and_rule() {
    let text = "use std::fmt;\n\n//! reqwest\nmod tests;\nfn f() {\n    crate::gateway::meta::connect();\n}\n";
    let [breach] = &only_registry_names_a_gateway(&Source::new("src/plan.rs", text))[..] else { panic!("not one") };
    assert_eq!(
        breach.to_string(),
        "src/plan.rs:6: names crate::gateway::meta::connect; only the registry names a gateway"
    );
}

#[test]
fn every_gateway_is_registered_and_documented() {
    let papers = Papers::read();
    let gateways = gateways(&papers.list);
    assert!(gateways.len() >= 4, "{gateways:?}");
    let missing: Vec<String> = gateways.iter().flat_map(|gateway| papers.missing(gateway)).collect();
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn unregistered_gateway_is_missed_in_each_place() {
    let papers = Papers::read();
    let all = papers.missing("telex");
    for place in ["Cargo.toml", "src/registry/mod.rs", "README.md", "docs/support.md", "tests/fixtures"] {
        assert!(all.iter().any(|missing| missing.starts_with(place)), "{place}: {all:?}");
    }
    assert_eq!(all.len(), 5, "{all:?}");
    // A word inside another is not the gateway.
    assert!(!names_gateway("| Telexa and metal | ✓ |", "meta") && names_gateway("| Meta Cloud API | ✓ |", "meta"));
}

// The rules.

fn medium_imports_std_only(source: &Source) -> Vec<Breach> {
    if source.module() != "medium" {
        return Vec::new();
    }
    let ours = source.references().into_iter().filter(|name| name.path.first().is_none_or(|first| first != "medium"));
    let ours = ours.map(|name| source.breach(name.line, format!("names {name}; a medium imports std only")));
    let used =
        source.used().into_iter().filter(|(root, _)| !["std", "core", "self", "super", "crate"].contains(&&**root));
    let named = source.roots().into_iter().filter(|(root, _)| DEPENDENCIES.contains(root));
    let others = used.chain(named);
    ours.chain(others.map(|(name, line)| source.breach(line, format!("names {name}; a medium imports std only"))))
        .collect()
}

fn gateway_imports_no_other_gateway(source: &Source) -> Vec<Breach> {
    let Some(own) = source.gateway() else { return Vec::new() };
    let other = |name: &Reference| name.path.first().is_some_and(|m| m == "gateway") && name.path.get(1) != Some(&own);
    source.breaches(other, "a gateway imports no other gateway")
}

fn only_registry_names_a_gateway(source: &Source) -> Vec<Breach> {
    if ["gateway", "registry", "testing", ROOT].contains(&source.module()) {
        return Vec::new();
    }
    let gateway = |name: &Reference| name.path.first().is_some_and(|module| module == "gateway");
    source.breaches(gateway, "only the registry names a gateway")
}

fn imports_follow_the_order(source: &Source) -> Vec<Breach> {
    let module = source.module();
    let Some(own) = row(module) else { return Vec::new() };
    let wrong = |other: &str| row(other).is_some_and(|row| row >= own && other != module);
    let wrong = |name: &Reference| name.path.first().is_some_and(|other| wrong(other));
    source.breaches(wrong, "it does not come before, in the order of tests/repository/boundaries.rs")
}

/// `lib.rs` re-exports for users: the crate itself imports from where a thing is defined.
fn imports_name_the_defining_module(source: &Source) -> Vec<Breach> {
    if source.module() == ROOT {
        return Vec::new();
    }
    let elsewhere = |name: &Reference| name.written.first().is_some_and(|module| row(module).is_none());
    let macros = |name: &Reference| name.written.first().is_some_and(|name| name.starts_with("__"));
    source.breaches(|name| elsewhere(name) && !macros(name), "import it from the module that defines it")
}

fn module_has_a_row_in_the_order(source: &Source) -> Vec<Breach> {
    let module = source.module();
    match row(module) {
        None if module != ROOT => {
            vec![
                source.breach(
                    0,
                    format!("{module} has no row in the order of tests/repository/boundaries.rs: give it one"),
                ),
            ]
        }
        _ => Vec::new(),
    }
}

fn only_transport_names_reqwest(source: &Source) -> Vec<Breach> {
    source.foreign("reqwest", "transport")
}

fn row(module: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&module))
}

// Cycles.

/// The cycles between the modules of each directory, at every depth: a directory counts as one module of its parent.
fn cycles(sources: &[Source]) -> Vec<String> {
    let mut imports: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in sources {
        let place: Vec<String> = source.place().into_iter().map(str::to_owned).collect();
        if !place.first().is_some_and(|module| ACYCLIC.contains(&&**module)) {
            continue;
        }
        for name in source.references() {
            // The first part in which the two paths differ is the pair of modules.
            let depth = place.iter().zip(&name.path).take_while(|(own, other)| own == other).count();
            let (Some(own), Some(other)) = (place.get(depth), name.path.get(depth)) else { continue };
            // A type of the parent, and not a module.
            if depth == 0 || !other.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            let of = imports.entry(place[..depth].to_vec()).or_default();
            of.entry(own.clone()).or_default().insert(other.clone());
        }
    }
    let found = imports.iter().filter_map(|(parent, of)| {
        let cycle = of.keys().filter_map(|start| cycle_from(start, of)).min_by_key(Vec::len)?;
        Some(format!("{}: {}", parent.join("::"), cycle.join(" -> ")))
    });
    found.collect()
}

/// The shortest cycle through this module, if there is one.
fn cycle_from(start: &str, imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let (mut visited, mut paths) = (BTreeSet::new(), VecDeque::from([vec![start.to_owned()]]));
    while let Some(path) = paths.pop_front() {
        for next in path.last().and_then(|last| imports.get(last)).into_iter().flatten() {
            let longer = [&path[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if visited.insert(next.clone()) {
                paths.push_back(longer);
            }
        }
    }
    None
}

// Where a gateway has to be known.

struct Papers {
    list: String,
    manifest: String,
    registry: String,
    readme: String,
    support: String,
}

impl Papers {
    fn read() -> Self {
        Self {
            list: text("src/gateway/mod.rs"),
            manifest: text("Cargo.toml"),
            registry: text("src/registry/mod.rs"),
            readme: text("README.md"),
            // It is made by a program: without it every gateway is missing there.
            support: fs::read_to_string(root().join("docs/support.md")).unwrap_or_default(),
        }
    }

    /// Where nothing is known of a gateway.
    fn missing(&self, gateway: &str) -> Vec<String> {
        let features = self.manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next());
        let feature = |line: &str| line.starts_with(&format!("{gateway} = "));
        // Each supplier that a table describes is a gateway of its own.
        let named = if gateway == "custom" { "bulksms" } else { gateway };
        let cell = |line: &str| line.starts_with(&format!("| {named} |"));
        let table = self.readme.split("## Gateways").nth(1).and_then(|rest| rest.split("\n## ").next());
        [
            (features.is_some_and(|text| text.lines().any(feature)), "Cargo.toml: no feature"),
            (self.registry.contains(&format!("crate::gateway::{gateway}::")), "src/registry/mod.rs: no registration"),
            (
                table.is_some_and(|text| text.lines().any(|line| names_gateway(line, gateway))),
                "README.md: no row in the table of gateways",
            ),
            (self.support.lines().any(cell), "docs/support.md: no row"),
            (has_fixtures(gateway), "tests/fixtures: no folder that its tests read"),
        ]
        .into_iter()
        .filter(|(known, _)| !known)
        .map(|(_, what)| format!("{what} for the gateway {gateway}"))
        .collect()
    }
}

/// The modules that `src/gateway/mod.rs` lists.
fn gateways(list: &str) -> Vec<String> {
    let code = code(list);
    let declared = |line: &str| Some(line.trim().strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    code.lines().filter_map(declared).collect()
}

/// Whether the first cell of a table's row has the gateway's name as one of its words.
fn names_gateway(row: &str, gateway: &str) -> bool {
    let cell = row.strip_prefix('|').and_then(|row| row.split('|').next()).unwrap_or_default();
    cell.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case(gateway))
}

/// Whether its tests, in a file of their own or beside it, read a folder of fixtures that is there.
fn has_fixtures(gateway: &str) -> bool {
    let own = files("tests").into_iter().filter(|path| path.starts_with(&format!("tests/{gateway}")));
    let beside = [format!("src/gateway/{gateway}.rs"), format!("src/gateway/{gateway}/")];
    let files = files("src").into_iter().filter(|path| beside.iter().any(|start| path.starts_with(start)));
    let mut texts = files.chain(own).filter_map(|path| fs::read_to_string(root().join(path)).ok());
    texts.any(|text| {
        let mut folders = text.split("tests/fixtures/").skip(1).filter_map(|rest| rest.split(['/', '"']).next());
        folders.any(|folder| root().join("tests/fixtures").join(folder).join("README.md").exists())
    })
}

// Sources.

/// A file under `src/`, with nothing in it but code that is built without tests.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) code: String,
}

#[derive(Debug, PartialEq)]
struct Breach {
    path: String,
    /// 0 where it is not in a line but in the file's being there.
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Something of this crate that a file names, by its path from the crate's root.
struct Reference {
    /// By the module that defines it.
    path: Vec<String>,
    /// As it is written.
    written: Vec<String>,
    line: usize,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crate::{}", self.path.join("::"))
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: code(text) }
    }

    /// Where it stands in the tree of modules.
    fn place(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).unwrap_or_default();
        path.strip_suffix("/mod").unwrap_or(path).split('/').filter(|part| *part != "lib").collect()
    }

    /// The module at the crate's root that it belongs to.
    fn module(&self) -> &str {
        self.place().first().copied().unwrap_or("lib")
    }

    /// The gateway that it belongs to.
    fn gateway(&self) -> Option<String> {
        self.place().get(1).filter(|_| self.module() == "gateway").map(|name| (*name).to_owned())
    }

    /// Everything of this crate that it names, as if by its place in the tree and not as `lib.rs` shows it.
    fn references(&self) -> Vec<Reference> {
        let mut tokens = tokens(&self.code).peekable();
        let mut place: Vec<String> = self.place().into_iter().map(str::to_owned).collect();
        // How deep each module that is written out in the file begins.
        let (mut depth, mut inside) = (0, Vec::new());
        let (mut found, mut before) = (Vec::new(), "");
        while let Some((token, line)) = tokens.next() {
            let path = before != "::" && tokens.peek().is_some_and(|(next, _)| *next == "::");
            match token {
                "crate" if path => branches(&mut tokens, Vec::new(), line, &mut found),
                "self" if path => branches(&mut tokens, place.clone(), line, &mut found),
                "super" if path => {
                    let up = place.len().saturating_sub(1);
                    branches(&mut tokens, place[..up].to_vec(), line, &mut found);
                }
                "{" => {
                    depth += 1;
                    if before == "mod name" {
                        inside.push(depth);
                    }
                }
                "}" => {
                    if inside.last() == Some(&depth) {
                        inside.pop();
                        place.pop();
                    }
                    depth -= 1;
                }
                _ => {}
            }
            before = match (before, token) {
                ("mod", name) => {
                    if tokens.peek().is_some_and(|(next, _)| *next == "{") {
                        place.push(name.to_owned());
                    }
                    "mod name"
                }
                _ => token,
            };
        }
        found.into_iter().map(|(path, line)| Reference { path: shown_at(path.clone()), written: path, line }).collect()
    }

    /// What each `use` begins with.
    fn used(&self) -> Vec<(String, usize)> {
        let mut tokens = tokens(&self.code);
        let mut used = Vec::new();
        while let Some((token, _)) = tokens.next() {
            if token == "use" {
                used.extend(
                    tokens.by_ref().find(|(token, _)| *token != "::").map(|(root, line)| (root.to_owned(), line)),
                );
            }
        }
        used
    }

    /// What each path begins with, in a `use` or not.
    fn roots(&self) -> Vec<(String, usize)> {
        let mut tokens = tokens(&self.code).peekable();
        let (mut roots, mut before) = (Vec::new(), "");
        while let Some((token, line)) = tokens.next() {
            if before != "::" && is_name(token) && tokens.peek().is_some_and(|(next, _)| *next == "::") {
                roots.push((token.to_owned(), line));
            }
            before = token;
        }
        roots
    }

    /// The lines that have this word.
    fn word(&self, word: &str) -> Vec<usize> {
        tokens(&self.code).filter(|(token, _)| *token == word).map(|(_, line)| line).collect()
    }

    /// Breaches where it names what only one module may.
    fn foreign(&self, name: &str, home: &str) -> Vec<Breach> {
        if self.module() == home {
            return Vec::new();
        }
        self.word(name).into_iter().map(|line| self.breach(line, format!("names {name}; only {home} does"))).collect()
    }

    fn breaches(&self, wrong: impl Fn(&Reference) -> bool, rule: &str) -> Vec<Breach> {
        let wrong = self.references().into_iter().filter(wrong);
        wrong.map(|name| self.breach(name.line, format!("names {name}; {rule}"))).collect()
    }

    fn breach(&self, line: usize, rule: String) -> Breach {
        Breach { path: self.path.clone(), line, rule }
    }
}

/// Follows a path from its first part on, into each branch of its braces.
fn branches<'a, T: Iterator<Item = (&'a str, usize)>>(
    tokens: &mut Peekable<T>,
    mut path: Vec<String>,
    line: usize,
    found: &mut Vec<(Vec<String>, usize)>,
) {
    let mut line = line;
    while tokens.next_if(|(token, _)| *token == "::").is_some() {
        match tokens.peek().copied() {
            Some(("{", _)) => {
                tokens.next();
                while let Some((token, line)) = tokens.next() {
                    match token {
                        "}" => return,
                        "," => {}
                        "self" => found.push((path.clone(), line)),
                        name => {
                            let branch = path.iter().cloned().chain([name.to_owned()]).collect();
                            branches(tokens, branch, line, found);
                            tokens.next_if(|(token, _)| *token == "as").and_then(|_| tokens.next());
                        }
                    }
                }
                return;
            }
            Some(("super", _)) => {
                tokens.next();
                path.pop();
            }
            Some((name, at)) if is_name(name) || name == "*" => {
                tokens.next();
                path.push(name.to_owned());
                line = at;
            }
            _ => break,
        }
    }
    found.push((path, line));
}

/// A path by the module where a thing is, and not by the short name that `lib.rs` gives it.
fn shown_at(path: Vec<String>) -> Vec<String> {
    static NAMES: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
        // Without the facade modules, which nothing in the crate names.
        let lib = text("src/lib.rs");
        let names = names(lib.split("\npub mod address {").next().unwrap_or_default());
        assert_eq!(names["Meta"], ["gateway", "meta", "Meta"], "lib.rs is not read as it is written");
        names
    });
    match path.first().and_then(|first| NAMES.get(first)) {
        Some(place) => place.iter().chain(&path[1..]).cloned().collect(),
        None => path,
    }
}

/// What each name is that a file shows as its own by `pub use`.
fn names(lib: &str) -> BTreeMap<String, Vec<String>> {
    let code = code(lib);
    let mut tokens = tokens(&code).peekable();
    let mut found = Vec::new();
    while let Some((token, _)) = tokens.next() {
        if token == "use"
            && let Some((root, line)) = tokens.next()
        {
            branches(&mut tokens, vec![root.to_owned()], line, &mut found);
        }
    }
    found.into_iter().filter_map(|(path, _)| Some((path.last()?.clone(), path))).collect()
}

/// The crates that ours depends on, as code names them.
static DEPENDENCIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let manifest = text("Cargo.toml");
    let table = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_"));
    names.collect()
});

/// Names, `::` and every other character that is no space, each with its line.
fn tokens(code: &str) -> impl Iterator<Item = (&str, usize)> {
    let (mut rest, mut line) = (code, 1);
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !c.is_whitespace())?;
        line += rest[..start].matches('\n').count();
        rest = &rest[start..];
        let end = match rest.find(|c: char| !is_name_character(c)).unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next()?.len_utf8(),
            name => name,
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some((token, line))
    })
}

fn is_name(token: &str) -> bool {
    token.starts_with(is_name_character)
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A file's code: its comments, the insides of its strings, and what is built for tests only, are blanked out.
fn code(text: &str) -> String {
    without_tests(&without_prose(text))
}

fn without_prose(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_name = code.ends_with(is_name_character);
        let end = match rest.as_bytes() {
            [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => end_of_comment(rest),
            [b'"', ..] => end_of_string(rest, 1),
            [b'r' | b'b' | b'c', ..] if !after_name && end_of_literal(rest).is_some() => end_of_literal(rest).unwrap(),
            [b'\'', ..] => end_of_character(rest),
            _ => 0,
        };
        if end == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[end..];
        }
    }
    code
}

fn end_of_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return at,
            _ => at += 1,
        }
    }
}

/// The end of a string whose text begins at `from`.
fn end_of_string(text: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The end of a string with letters before its quote: raw, of bytes, or both.
fn end_of_literal(text: &str) -> Option<usize> {
    let letters = text.find(|c| !matches!(c, 'r' | 'b' | 'c')).filter(|letters| *letters <= 2)?;
    let hashes = text[letters..].find(|c| c != '#')?;
    let from = letters + hashes + 1;
    if !text[letters + hashes..].starts_with('"') {
        return None;
    }
    if !text[..letters].contains('r') {
        return (hashes == 0).then(|| end_of_string(text, from));
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[from..].find(&close).map_or(text.len(), |at| from + at + close.len()))
}

/// The end of a character; 0 for the quote of a lifetime.
fn end_of_character(text: &str) -> usize {
    let mut inside = text.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some(_)) => inside.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Blanks out each item that stands under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(ATTRIBUTE) {
        let (before, from) = rest.split_at(at);
        let end = end_of_item(from, ATTRIBUTE.len());
        kept.push_str(before);
        kept.extend(from[..end].chars().filter(|c| *c == '\n'));
        rest = &from[end..];
    }
    kept + rest
}

/// The end of the item that begins at `from`: its semicolon, or the brace that closes it.
fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' | b')' | b']' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

pub(crate) fn sources() -> Vec<Source> {
    // A module of tests in a file of its own is declared under `#[cfg(test)]` elsewhere.
    let paths = files("src").into_iter().filter(|path| path.ends_with(".rs") && !path.ends_with("/tests.rs"));
    paths.map(|path| Source::new(&path, &text(&path))).collect()
}

/// Every file of a folder, by its path from the crate's root, in order.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/")),
            }
        }
    }
    found.sort();
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
