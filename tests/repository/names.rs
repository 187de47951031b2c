//! Names of public types.

use std::collections::BTreeMap;

use civic_messaging::{Channel, Meta, Mock, Notify, Twilio, Vonage, X};

use crate::boundaries::{Source, sources};

/// Each gateway has its own of these.
const REPEATED: &[&str] = &["Config", "Options"];

/// The names of a file's public types.
fn types(source: &Source) -> impl Iterator<Item = &str> {
    source.code.lines().filter_map(|line| {
        let item = line.strip_prefix("pub ")?;
        let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| item.strip_prefix(kind))?;
        name.split(|c: char| !c.is_alphanumeric()).next()
    })
}

fn repeated(sources: &[Source]) -> Vec<String> {
    let mut files = BTreeMap::<&str, Vec<&str>>::new();
    for source in sources {
        let repeats = if source.path.starts_with("src/gateway/") { REPEATED } else { &[] };
        for name in types(source).filter(|name| !repeats.contains(name)) {
            files.entry(name).or_default().push(&source.path);
        }
    }
    let twice = files.iter().filter(|(_, files)| files.len() > 1);
    twice.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn public_type_names_are_unique() {
    let sources = sources();
    assert!(sources.iter().flat_map(types).count() > 200);
    assert_eq!(repeated(&sources), [""; 0]);
}

#[test]
fn repeated_name_is_found() {
    let files = [
        ("src/model/a.rs", "pub struct Window {}\npub(crate) enum Row {}"),
        ("src/medium/b.rs", "pub enum Window {}\npub enum Row {}\n#[cfg(test)]\nmod tests {\npub struct Row;\n}"),
        ("src/gateway/a/mod.rs", "pub struct Config {}"),
        ("src/gateway/b/mod.rs", "pub struct Config {}"),
    ];
    let sources = files.map(|(path, text)| Source::new(path, text));
    assert_eq!(repeated(&sources), ["Window: src/model/a.rs, src/medium/b.rs"]);
}

#[test]
fn channels_are_cloned() {
    fn is_cloned<C: Channel + Clone>() {}
    is_cloned::<Meta>();
    is_cloned::<Mock>();
    is_cloned::<Notify>();
    is_cloned::<Twilio>();
    is_cloned::<Vonage>();
    is_cloned::<X>();
}
