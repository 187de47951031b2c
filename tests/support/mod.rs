//! Helpers shared by the test binaries, each of which uses some of them.
#![allow(dead_code)]

use std::env;
use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use civic_messaging::webhook::Request;
use civic_messaging::{Address, address};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A seeded random generator (splitmix64: neighbouring seeds give unrelated sequences).
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns an index into a list of `len` items.
    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.index(all.len())]
    }
}

/// Reads a number from an environment variable.
pub(crate) fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// Reads a number from an environment variable that has a default.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    variable(name).unwrap_or(default)
}

/// The seed of this run, printed so that the run can be repeated.
pub(crate) fn seed(default: u64) -> u64 {
    let seed = variable("CIVIC_SEED").unwrap_or(default);
    println!("CIVIC_SEED={seed}");
    seed
}

/// The seeds of `CIVIC_RUNS` runs, or `CIVIC_SEED` alone.
pub(crate) fn seeds(runs: u64) -> std::ops::Range<u64> {
    match variable("CIVIC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("CIVIC_RUNS").unwrap_or(runs),
    }
}

pub(crate) fn person(n: u32) -> Address {
    address::Phone::from_digits(&format!("4477009{n:05}")).unwrap().into()
}

/// The HMAC-SHA256 of a body.
pub(crate) fn mac(secret: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// The HMAC-SHA256 of a body as the headers of Meta and of the mock write it.
pub(crate) fn signature(secret: &str, body: &[u8]) -> String {
    mac(secret, body).iter().fold("sha256=".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A webhook with Meta's signature.
pub(crate) fn signed_by_meta(secret: &str, body: impl Into<Vec<u8>>) -> Request {
    let body = body.into();
    http::Request::post("/").header("x-hub-signature-256", signature(secret, &body)).body(body).unwrap().into()
}

pub(crate) fn block_on<T>(workers: usize, future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap().block_on(future)
}

/// Runs one test of this binary in a process of its own, with these variables. Returns `true` if it passed, and its
/// output.
pub(crate) fn run_in_child(test: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("CIVIC_CHILD", "1").envs(variables.iter().copied());
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "{test} is not the name of this test");
    (output.status.success(), text)
}

pub(crate) fn is_child() -> bool {
    env::var_os("CIVIC_CHILD").is_some()
}
