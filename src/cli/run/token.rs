//! The bearer token of the officers' API.

use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use civic_messaging::Secret;
use ctutils::CtEq;

use super::super::failure::Failure;

const VARIABLE: &str = "CIVIC_MESSAGING_API_TOKEN";

/// The least length: that of 16 random bytes in base64.
const LEN_MIN: usize = 22;

/// Reads the token from a file, or from the environment.
pub(super) fn read(file: Option<&Path>) -> Result<Secret, Failure> {
    let (name, text) = match file {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            let failed = |error: std::io::Error| format!("--api-token-file: cannot be read: {}", error.kind());
            ("--api-token-file", read.map_err(|error| Failure::Usage(failed(error)))?)
        }
        None => {
            let missing = || {
                let how = "set it, for instance to the output of `openssl rand -base64 32`, name a file with \
                           --api-token-file, or run without the API with --no-api";
                Failure::Usage(format!("{VARIABLE}: is not set: {how}"))
            };
            (VARIABLE, std::env::var(VARIABLE).map_err(|_| missing())?)
        }
    };
    let token = text.trim_end_matches(['\n', '\r']);
    if token.len() < LEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!(
            "{name}: must have at least {LEN_MIN} letters, digits and signs, no spaces"
        )));
    }
    Ok(Secret::new(token)?)
}

/// Returns `true` if a request carries the token. The time it takes shows nothing of the token but its length.
pub(super) fn matches(token: &Secret, headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
    let Some((scheme, given)) = value.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && token.expose().as_bytes().ct_eq(given.trim().as_bytes()).to_bool()
}
