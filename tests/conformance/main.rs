//! Runs the conformance suite for every gateway and medium and for the mock, with one test per check.
//!
//! `CIVIC_SEED=n` replays a run.

#![cfg(all(
    feature = "testing",
    feature = "custom",
    feature = "meta",
    feature = "notify",
    feature = "twilio",
    feature = "vonage",
    feature = "x"
))]

mod broken;
mod custom;
mod kestrel;
mod larkfone;
mod meta;
mod mock;
mod notify;
mod support;
mod twilio;
mod vonage;
mod x;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns the path of a snapshot with another name than its gateway and medium.
fn snapshot(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name).with_extension("json")
}

/// Returns a JSON object with some of its fields replaced.
fn with(object: &Value, change: Value) -> Value {
    let (Value::Object(mut object), Value::Object(change)) = (object.clone(), change) else { panic!("not an object") };
    object.extend(change);
    Value::Object(object)
}
