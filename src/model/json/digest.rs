//! Digests of what a value means.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::Name;
use super::body::{Json, string_end};
use crate::model::digest::Digest;

/// Digests the meaning of a JSON value or form: ignores white space, and the order of members or fields.
pub(crate) fn digest(piece: &Bytes) -> Digest {
    let json = Json::new(piece);
    if let Some(hash) = hash_value(json.text()) {
        let replaced = json.replaced();
        return match replaced.is_empty() {
            true => Digest::new(hash),
            // Different bytes may be read as the same text.
            false => Digest::sha256(&[&hash[..], &replaced.concat()].concat()),
        };
    }
    let mut fields: Vec<_> = piece.split(|byte| *byte == b'&').collect();
    fields.sort_unstable();
    Digest::sha256(&fields.join(&b'&'))
}

/// Returns the hash of one JSON value of any depth, with numbers of any length; `None` if it is not one.
fn hash_value(text: &str) -> Option<[u8; 32]> {
    let json = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let bytes = json.as_bytes();
    // The contents of the open objects and arrays, outermost first; below them all, the value.
    let mut open: Vec<Vec<[u8; 32]>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (end, hash) = match byte {
            b'{' | b'[' => {
                open.push(Vec::new());
                at += 1;
                continue;
            }
            b'}' | b']' => {
                let mut all = open.pop()?;
                if *byte == b'}' {
                    let (members, _) = all.as_chunks_mut::<2>();
                    members.sort_unstable();
                }
                (at + 1, hash(*byte, all.as_flattened()))
            }
            b'"' => {
                let end = string_end(bytes, at + 1) + 1;
                let text: Cow<'_, str> = serde_json::from_str::<Name<'_>>(json.get(at..end)?).ok()?.into_text();
                (end, hash(b'"', text.as_bytes()))
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => {
                let scalar = bytes.get(at..)?;
                let len = scalar.iter().position(|byte| b",]} \t\n\r".contains(byte)).unwrap_or(scalar.len());
                (at + len, hash(b'0', scalar.get(..len)?))
            }
        };
        open.last_mut()?.push(hash);
        at = end;
    }
    open.pop()?.pop()
}

fn hash(kind: u8, content: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([kind]).chain_update(content).finalize().into()
}
