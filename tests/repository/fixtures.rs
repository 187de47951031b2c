//! Checks that a test reads every fixture.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn fixtures_are_all_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["tests", "src", "examples"]
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let fixtures = root.join("tests/fixtures");
    let mut unread = Vec::new();
    let mut count = 0;
    for path in files(&fixtures) {
        if path.ends_with("README.md") {
            continue;
        }
        count += 1;
        // Its path below one of the folders must occur in a test.
        let name = path.strip_prefix(&fixtures).unwrap().to_str().unwrap().to_owned();
        let endings = name.match_indices('/').map(|(at, _)| &name[at + 1..]).chain([name.as_str()]);
        let mut read = endings.map(|ending| sources.contains(&format!("{ending}\"")));
        if !read.any(|read| read) {
            unread.push(name.clone());
        }
    }
    assert!(unread.is_empty(), "no test reads {unread:#?}");
    assert!(count >= 180, "only {count} fixtures are there");
}

#[test]
fn fixture_folders_state_their_origin() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for folder in fs::read_dir(fixtures).unwrap() {
        let folder = folder.unwrap().path();
        assert!(folder.join("README.md").exists(), "{}", folder.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}
