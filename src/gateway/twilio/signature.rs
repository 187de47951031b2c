//! Twilio's webhook signature.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use sha1::Sha1;
use sha2::Sha256;

use super::url_variants::url_variants;
use crate::model::digest::Digest;
use crate::transport::BaseUrl;
use crate::webhook::{Form, Refusal, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification, Verified};

/// Verifies `X-Twilio-Signature`: an HMAC of the public URL with its query, and of the form's fields sorted by name.
/// (Twilio, webhooks security, and the validator of its Python library 9.13.0, read 2026-11-22 from stored copies.)
///
/// - The URL is tried with and without its port, because Twilio and proxies differ; with its scheme and host as
///   configured and in lower case; and with its query as received and as Twilio's Node.js library (6.2.0, read
///   2026-11-30) re-encodes it: `%20` for `+`, upper-case hexadecimal, `%27` or `'`. All variants are equivalent, and
///   there are few of them.
/// - A JSON body is covered by `bodySHA256` in the query.
/// - `X-Twilio-Webhooks-Signature-Settings` selects HMAC-SHA256 under a shared key; its first algorithm counts, in any
///   case. Without the header or an algorithm, HMAC-SHA1 applies. The header itself is not signed, so the configuration
///   decides: with a shared key only HMAC-SHA256 is accepted, without one only HMAC-SHA1, and an unknown algorithm
///   never.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The variants of the public URL up to the path, at most six: as configured, then with or without its port, then
    /// in lower case.
    bases: Vec<Box<str>>,
    tokens: Vec<Key<Hmac<Sha1>>>,
    shared: Vec<Key<Hmac<Sha256>>>,
}

/// A secret and its keyed HMAC.
#[derive(Clone)]
struct Key<M> {
    mac: M,
    secret: SigningSecret,
}

impl<M: KeyInit> Key<M> {
    fn new(secret: SigningSecret) -> Option<Self> {
        let mac = M::new_from_slice(secret.secret().expose().as_bytes()).ok()?;
        Some(Self { mac, secret })
    }
}

impl<M: Mac + Clone> Key<M> {
    /// The HMAC of a URL and form.
    fn mac(&self, base: &str, path_and_query: &str, form: &Form) -> M {
        let mut mac = self.mac.clone();
        mac.update(base.as_bytes());
        mac.update(path_and_query.as_bytes());
        form.pairs().for_each(|piece| mac.update(piece));
        mac
    }

    fn sign(&self, base: &str, path_and_query: &str, form: &Form) -> String {
        BASE64_STANDARD.encode(self.mac(base, path_and_query, form).finalize().into_bytes())
    }
}

impl<M> fmt::Debug for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
}

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");

/// The query parameter that holds the digest of a JSON body.
pub(super) const BODY_HASH: &str = "bodySHA256";

impl Signature {
    /// Creates the scheme for webhooks at a public URL.
    ///
    /// With shared keys it is HMAC-SHA256, otherwise HMAC-SHA1 under any of the tokens.
    pub fn new(
        public_url: &BaseUrl,
        auth_tokens: impl IntoIterator<Item = SigningSecret>,
        shared_keys: impl IntoIterator<Item = SigningSecret>,
    ) -> Self {
        Self {
            bases: bases(public_url.as_str()),
            tokens: auth_tokens.into_iter().filter_map(Key::new).collect(),
            shared: shared_keys.into_iter().filter_map(Key::new).collect(),
        }
    }

    /// Returns the `X-Twilio-Signature` of a request under the first key, for tests and fake gateways.
    ///
    /// `form` is the body as sent; empty for a GET and for JSON. `None` without a key, or if the body is not a form.
    pub fn sign(&self, path_and_query: &str, form: &[u8]) -> Option<String> {
        let form = Form::sorted(form)?;
        let base = self.bases.first()?;
        match self.shared.first() {
            Some(key) => Some(key.sign(base, path_and_query, &form)),
            None => Some(self.tokens.first()?.sign(base, path_and_query, &form)),
        }
    }

    /// Finds the secret that made the signature, over any variant of the URL.
    fn find<'k, M: Mac + Clone>(
        &self,
        keys: &'k [Key<M>],
        path_and_query: &str,
        form: &Form,
        signature: &[u8],
    ) -> Option<&'k SigningSecret> {
        let find = |target: &str| {
            let mut candidates = self.bases.iter().flat_map(|base| keys.iter().map(move |key| (base, key)));
            let (_, key) =
                candidates.find(|(base, key)| key.mac(base, target, form).verify_slice(signature).is_ok())?;
            Some(&key.secret)
        };
        find(path_and_query).or_else(|| url_variants(path_and_query).iter().find_map(|variant| find(variant)))
    }
}

/// The variants of a public URL: with and without its port, and in lower case as Twilio's Python (scheme) and Node.js
/// (scheme and host) libraries write it.
fn bases(url: &str) -> Vec<Box<str>> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The last colon precedes the port, unless it is part of an IPv6 address such as [::1].
    let port = authority.rfind(':').filter(|colon| !authority.get(*colon..).unwrap_or_default().contains(']'));
    let default_port = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    let other = match port {
        Some(colon) => authority.get(..colon).unwrap_or_default().to_owned(),
        None => [authority, default_port].concat(),
    };
    let lower = str::to_ascii_lowercase;
    let mut bases: Vec<Box<str>> = Vec::with_capacity(6);
    for (scheme, authorities) in [
        (scheme.to_owned(), [authority.to_owned(), other.clone()]),
        (lower(scheme), [authority.to_owned(), other.clone()]),
        (lower(scheme), [lower(authority), lower(&other)]),
    ] {
        for authority in authorities {
            let base = format!("{scheme}://{authority}{path}").into_boxed_str();
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    bases
}

/// The first algorithm in the settings header, parsed as Twilio's Python library does: HMAC-SHA1 if there is none, and
/// `None` if it is unknown.
fn algorithm(headers: &HeaderMap) -> Option<Algorithm> {
    for settings in headers.get_all(&SETTINGS) {
        let settings = String::from_utf8_lossy(settings.as_bytes());
        let pairs = settings.split(',').filter_map(|pair| pair.split_once('='));
        let mut named = pairs.filter(|(name, value)| name.trim() == "algorithm" && !value.trim().is_empty());
        if let Some((_, value)) = named.next() {
            return match value.trim().to_ascii_uppercase().as_str() {
                "HMAC_SHA1" => Some(Algorithm::Sha1),
                "HMAC_SHA256" => Some(Algorithm::Sha256),
                _ => None,
            };
        }
    }
    Some(Algorithm::Sha1)
}

impl Scheme for Signature {
    fn verify(&self, request: Unverified<'_>) -> Verification {
        let Some(signature) = request.header(&SIGNATURE) else { return Verification::Refused(Refusal::Missing) };
        let wrong = Verification::Refused(Refusal::Wrong);
        let (Ok(signature), Some(algorithm)) = (BASE64_STANDARD.decode(signature), algorithm(request.headers())) else {
            return wrong;
        };
        let body_hash = request.query_parameter(BODY_HASH);
        let form = match &body_hash {
            Some(_) => Form::default(),
            None => match Form::sorted(request.body()) {
                Some(form) => form,
                None => return wrong,
            },
        };
        let target = request.path_and_query();
        let secret = match (self.shared.as_slice(), algorithm) {
            ([], Algorithm::Sha1) => self.find(&self.tokens, target, &form, &signature),
            (shared @ [_, ..], Algorithm::Sha256) => self.find(shared, target, &form, &signature),
            _ => None,
        };
        let Some(secret) = secret else { return wrong };
        if let Some(hash) = &body_hash
            && (hash.len() != 64 || hash.parse().ok() != Some(Digest::sha256(request.body())))
        {
            return wrong;
        }
        let verified = Verified::new(&request, request.body().clone(), secret).with_query(request.query());
        Verification::Open(if body_hash.is_some() { verified } else { verified.with_form(form) })
    }

    fn covers(&self) -> SignatureCoverage {
        SignatureCoverage::UrlAndForm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_vary_port_and_case_only() {
        for (url, variants) in [
            ("https://a.example", &["https://a.example", "https://a.example:443"][..]),
            ("https://a.example:443/b", &["https://a.example:443/b", "https://a.example/b"]),
            ("https://a.example:8443", &["https://a.example:8443", "https://a.example"]),
            ("http://127.0.0.1/a:b", &["http://127.0.0.1/a:b", "http://127.0.0.1:80/a:b"]),
            ("http://[::1]:8080", &["http://[::1]:8080", "http://[::1]"]),
            ("http://[::1]", &["http://[::1]", "http://[::1]:80"]),
        ] {
            assert_eq!(bases(url).iter().map(|base| &**base).collect::<Vec<_>>(), variants, "{url}");
        }
        assert_eq!(bases("HTTPS://SMS.Example.GOV.uk/Prefix").len(), 6);
    }
}
