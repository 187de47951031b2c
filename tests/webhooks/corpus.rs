//! Replays `fuzz/corpus` with the functions of `fuzz/src/targets.rs`.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use targets::{TARGETS, Target};

// A module of the fuzz targets too, which need it public.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

#[test]
fn corpus_inputs_pass_their_targets() {
    let broken: Vec<PathBuf> = thread::scope(|scope| {
        let replays: Vec<_> =
            TARGETS.iter().map(|(name, target)| scope.spawn(|| broken(&corpus(name), *target))).collect();
        replays.into_iter().flat_map(|replay| replay.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "broken by these files of fuzz/: {broken:#?}");
}

#[test]
fn fuzz_target_has_corpus_file_and_binary() {
    let folder = fuzz();
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets have one name");
    for name in &names {
        assert!(!corpus(name).is_empty(), "{name} has no corpus");
        let file = folder.join(format!("fuzz_targets/{name}.rs"));
        let body = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(body.contains(&format!("::{name}(data)")), "{} runs another target", file.display());
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
    }
    for of in ["corpus", "fuzz_targets"] {
        let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let there: BTreeSet<String> = entries(&folder.join(of)).iter().map(name).collect();
        assert_eq!(there, names, "fuzz/{of} and the table of targets differ");
    }
}

/// Returns the files on which a target panics.
fn broken(corpus: &[PathBuf], target: Target) -> Vec<PathBuf> {
    let breaks = |path: &&PathBuf| {
        let input = fs::read(fuzz().join(path)).unwrap();
        catch_unwind(|| target(&input)).is_err()
    };
    corpus.iter().filter(breaks).cloned().collect()
}

/// Returns the files of a target's corpus, relative to `fuzz/`.
fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new("corpus").join(name);
    entries(&fuzz().join(&folder)).iter().map(|path| folder.join(path.file_name().unwrap())).collect()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
