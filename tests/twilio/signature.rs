//! The webhook signature, against Twilio's own vectors and forgeries.

use base64::prelude::{BASE64_STANDARD, Engine};
use civic_messaging::Secret;
use civic_messaging::media::Digest;
use civic_messaging::twilio::Signature;
use civic_messaging::webhook::{Opened, Request, SigningSecret};
use http::HeaderName;
use proptest::prelude::*;

use super::TOKEN;

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
const SHARED: &str = "webhooks-shared-key-secret-0001";

fn keys(secrets: &[&str]) -> Vec<SigningSecret> {
    secrets.iter().map(|secret| SigningSecret::for_accounts(Secret::new(*secret).unwrap(), ["AC".into()])).collect()
}

fn scheme(base: &str, tokens: &[&str], shared: &[&str]) -> Signature {
    Signature::new(&base.parse().unwrap(), keys(tokens), keys(shared))
}

fn request(target: &str, body: &str, headers: &[(HeaderName, &str)]) -> Request {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    Request::from(request.body(body.to_owned()).unwrap())
}

fn verify(scheme: &Signature, request: &Request) -> Result<(), u16> {
    match request.open(scheme) {
        Ok(Opened::Verified(_)) => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.webhook_status().as_u16()),
    }
}

/// The fields of a case as a body, not in signing order.
fn body(case: &serde_json::Value) -> String {
    if let Some(json) = case["body"].as_str() {
        return json.to_owned();
    }
    let mut fields = Vec::new();
    for (name, value) in case["params"].as_object().into_iter().flatten() {
        fields.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    for (name, values) in case["params_multi"].as_object().into_iter().flatten() {
        fields.extend(values.as_array().unwrap().iter().map(|v| (name.clone(), v.as_str().unwrap().to_owned())));
    }
    fields.reverse();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

#[test]
fn signature_vectors_of_twilio_validator_verify() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/twilio_signature.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut seen = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let url = case["url"].as_str().unwrap();
        let (base, target) = url.split_at(url[8..].find('/').unwrap() + 8);
        let (secret, signature) = (case["secret"].as_str().unwrap(), case["signature"].as_str().unwrap());
        // Twilio signed with the port; the request and the configuration are without it.
        let with_port = name == "signed_with_explicit_443";
        let base = if with_port { "https://sms.example.gov.uk" } else { base };
        let sha256 = case["algorithm"] == "HMAC_SHA256";
        let scheme = if sha256 { scheme(base, &[TOKEN], &[secret]) } else { scheme(base, &[secret], &[]) };
        let body = body(case);
        let is_json = case["body"].is_string();
        if case["string_to_sign"].is_string() && !with_port {
            let form = if is_json { b"" } else { body.as_bytes() };
            assert_eq!(scheme.sign(target, form).as_deref(), Some(signature), "{name}");
        }
        let mut headers = vec![(SIGNATURE, signature)];
        let settings = "X-Twilio-Webhooks-Signature-Settings";
        headers.extend(case["headers"][settings].as_str().map(|value| (SETTINGS, value)));
        let outcome = verify(&scheme, &request(target, &body, &headers));
        assert_eq!(outcome, if case["valid"] == true { Ok(()) } else { Err(403) }, "{name}");
        seen.push(name.to_owned());
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
}

#[test]
fn signature_with_or_without_port_is_accepted() {
    for (base, other) in [
        ("https://sms.example.gov.uk", "https://sms.example.gov.uk:443"),
        ("https://sms.example.gov.uk:443/prefix", "https://sms.example.gov.uk/prefix"),
        ("https://sms.example.gov.uk:8443", "https://sms.example.gov.uk"),
        ("http://127.0.0.1/a:b", "http://127.0.0.1:80/a:b"),
        ("http://[::1]:8080", "http://[::1]"),
        ("http://[::1]", "http://[::1]:80"),
    ] {
        let ours = scheme(base, &[TOKEN], &[]);
        for spelled in [base, other] {
            let signature = scheme(spelled, &[TOKEN], &[]).sign("/hook?a=%20b", b"Body=hi").unwrap();
            assert_eq!(
                verify(&ours, &request("/hook?a=%20b", "Body=hi", &[(SIGNATURE, &signature)])),
                Ok(()),
                "{spelled}"
            );
        }
        let other_host = scheme("https://sms.example.org", &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
        assert_eq!(verify(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &other_host)])), Err(403), "{base}");
    }
}

#[test]
fn signature_over_re_encoded_query_is_accepted() {
    let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
    let form = "Body=hi&From=%2B447700900123";
    for (signed, arrived) in [
        ("/hook?desk=Bins%20and%20roads", "/hook?desk=Bins+and+roads"),
        ("/hook?desk=%2B1", "/hook?desk=%2b1"),
        ("/hook?desk=Mae%27r", "/hook?desk=Mae'r"),
        ("/hook?desk=Mae'r", "/hook?desk=Mae%27r"),
        ("/hook?desk=a%3Ab%2Fc", "/hook?desk=a:b/c"),
        ("/hook?desk=~a", "/hook?desk=%7Ea"),
        ("/hook?desk=", "/hook?desk"),
        ("/hook", "/hook?"),
        ("/hook?desk=%C5%B5", "/hook?desk=%c5%b5"),
    ] {
        let signature = ours.sign(signed, form.as_bytes()).unwrap();
        let with = |target: &str| verify(&ours, &request(target, form, &[(SIGNATURE, &signature)]));
        assert_eq!((with(signed), with(arrived)), (Ok(()), Ok(())), "{signed} {arrived}");
        let forged = scheme("https://sms.example.gov.uk", &[SHARED], &[]).sign(signed, form.as_bytes()).unwrap();
        assert_eq!(verify(&ours, &request(arrived, form, &[(SIGNATURE, &forged)])), Err(403), "{arrived}");
    }
}

#[test]
fn public_url_in_capitals_is_accepted() {
    for base in ["HTTPS://SMS.Example.GOV.uk/Prefix", "https://SMS.example.gov.uk:443/Prefix"] {
        let ours = scheme(base, &[TOKEN], &[]);
        let lower = ["https://sms.example.gov.uk/Prefix", "https://sms.example.gov.uk:443/Prefix"];
        for spelled in [&[base][..], &lower].concat() {
            let signature = scheme(spelled, &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
            let opened = verify(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &signature)]));
            assert_eq!(opened, Ok(()), "{base} {spelled}");
        }
        let other_path = "https://sms.example.gov.uk/prefix";
        let signature = scheme(other_path, &[TOKEN], &[]).sign("/hook", b"Body=hi").unwrap();
        assert_eq!(verify(&ours, &request("/hook", "Body=hi", &[(SIGNATURE, &signature)])), Err(403), "{base}");
    }
}

#[test]
fn signature_over_anything_else_is_refused() {
    let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
    let good = ours.sign("/hook?a=1", b"Body=hi&From=%2B447700900123").unwrap();
    let with =
        |target: &str, body: &str, signature: &str| verify(&ours, &request(target, body, &[(SIGNATURE, signature)]));
    assert_eq!(with("/hook?a=1", "Body=hi&From=%2B447700900123", &good), Ok(()));
    assert_eq!(
        with("/hook?a=1", "From=%2b447700900123&Body=%68i", &good),
        Ok(()),
        "the same fields in another encoding"
    );
    assert_eq!(with("/hook?a=%31", "Body=hi&From=%2B447700900123", &good), Ok(()), "the same query");
    for (target, body) in [
        ("/hook", "Body=hi&From=%2B447700900123"),
        ("/hook?a=2", "Body=hi&From=%2B447700900123"),
        ("/hook?a=1&b=", "Body=hi&From=%2B447700900123"),
        ("/hook?a=1&a=1", "Body=hi&From=%2B447700900123"),
        ("/HOOK?a=1", "Body=hi&From=%2B447700900123"),
        ("/hook?A=1", "Body=hi&From=%2B447700900123"),
        ("/hook%3Fa=1", "Body=hi&From=%2B447700900123"),
        ("/x/../hook?a=1", "Body=hi&From=%2B447700900123"),
        ("/hook?a=1", "Body=hi&From=+447700900123"),
        ("/hook?a=1", "Body=hi%20&From=%2B447700900123"),
        ("/hook?a=1", "Body=hi&From=%2B447700900123&Extra=1"),
        ("/hook?a=1", "Body=hi"),
        ("/hook?a=1", ""),
    ] {
        assert_eq!(with(target, body, &good), Err(403), "{target} {body}");
    }
    let cut = &BASE64_STANDARD.encode(&BASE64_STANDARD.decode(&good).unwrap()[..19]);
    for bad in ["", "AAAA", "not base64", &good.to_lowercase(), &format!("{good} "), cut] {
        assert_eq!(with("/hook?a=1", "Body=hi&From=%2B447700900123", bad), Err(403), "{bad}");
    }
    assert_eq!(verify(&ours, &request("/hook?a=1", "Body=hi", &[])), Err(401));
    let keyless = scheme("https://sms.example.gov.uk", &[], &[]);
    assert_eq!(verify(&keyless, &request("/hook?a=1", "Body=hi", &[(SIGNATURE, &good)])), Err(403));
}

#[test]
fn shared_key_requires_sha256_and_tokens_sha1() {
    let base = "https://sms.example.gov.uk";
    let (plain, shared) = (scheme(base, &[TOKEN], &[]), scheme(base, &[TOKEN], &["another-key", SHARED]));
    let sha1 = plain.sign("/hook", b"Body=hi").unwrap();
    let sha256 = scheme(base, &[], &[SHARED]).sign("/hook", b"Body=hi").unwrap();
    let token256 = scheme(base, &[], &[TOKEN]).sign("/hook", b"Body=hi").unwrap();
    let with = |scheme: &Signature, signature: &str, settings: &[&str]| {
        let mut headers = vec![(SIGNATURE, signature)];
        headers.extend(settings.iter().map(|value| (SETTINGS, *value)));
        verify(scheme, &request("/hook", "Body=hi", &headers))
    };
    let s256 = "key=webhooks_sharedkey_0001,algorithm=HMAC_SHA256";
    assert_eq!(with(&shared, &sha256, &[s256]), Ok(()));
    assert_eq!(with(&plain, &sha1, &[]), Ok(()));
    for settings in [
        &["key=primary, algorithm=HMAC_SHA1"][..],
        &["algorithm=hmac_sha1"],
        &["algorithm="],
        &["key=1"],
        &[""],
        &["algorithm=,algorithm=HMAC_SHA1"],
        &["algorithm=HMAC_SHA1,algorithm=HMAC_SHA256"],
        &["key=1", "algorithm=HMAC_SHA1"],
    ] {
        assert_eq!(with(&plain, &sha1, settings), Ok(()), "{settings:?}");
        assert_eq!(with(&plain, &token256, settings), Err(403), "{settings:?}");
        assert_eq!(with(&shared, &sha1, settings), Err(403), "{settings:?}");
        assert_eq!(with(&shared, &sha256, settings), Err(403), "{settings:?}");
    }
    assert_eq!(with(&shared, &sha256, &["algorithm=hmac_sha256"]), Ok(()));
    for (scheme, signature, settings) in [
        (&shared, &sha1, &[][..]),
        (&shared, &sha1, &["algorithm=HMAC_SHA1"]),
        (&shared, &sha1, &[s256]),
        (&shared, &sha256, &[]),
        (&shared, &sha256, &["algorithm=HMAC_SHA1"]),
        (&shared, &sha256, &["algorithm=HMAC_SHA512"]),
        (&shared, &token256, &[s256]),
        (&plain, &sha1, &[s256]),
        (&plain, &token256, &[s256]),
        (&plain, &sha1, &["algorithm=HMAC_MD5"]),
        (&plain, &sha1, &["algorithm=HMAC_SHA256,algorithm=HMAC_SHA1"]),
    ] {
        assert_eq!(with(scheme, signature, settings), Err(403), "{settings:?}");
    }
}

#[test]
fn json_body_must_match_hash_in_query() {
    let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
    let json = r#"{"a":1}"#;
    let target = format!("/hook?bodySHA256={}", Digest::sha256(json.as_bytes()));
    let with = |target: &str, body: &str| {
        let signature = ours.sign(target, b"").unwrap();
        verify(&ours, &request(target, body, &[(SIGNATURE, &signature)]))
    };
    assert_eq!(with(&target, json), Ok(()));
    assert_eq!(with(&target, ""), Err(403));
    assert_eq!(with(&target, "a=1"), Err(403));
    assert_eq!(with("/hook?bodySHA256=", json), Err(403));
    let base64 = BASE64_STANDARD.encode(Digest::sha256(json.as_bytes()).as_bytes()).replace('+', "%2B");
    assert_eq!(with(&format!("/hook?bodySHA256={base64}"), json), Err(403));
}

#[test]
fn form_over_1000_fields_is_refused() {
    let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
    let form = |count: usize| vec!["a=1"; count].join("&");
    assert!(ours.sign("/hook", form(1_000).as_bytes()).is_some());
    assert!(ours.sign("/hook", form(1_001).as_bytes()).is_none());
    assert_eq!(verify(&ours, &request("/hook", &form(1_001), &[(SIGNATURE, "AAAA")])), Err(403));
}

proptest! {
    #[test]
    fn signature_without_token_never_verifies(target in "/[a-z?=&%0-9]{0,20}", body in ".{0,60}", signature in "[A-Za-z0-9+/]{27}=") {
        let ours = scheme("https://sms.example.gov.uk", &[TOKEN], &[]);
        prop_assume!(target.parse::<http::Uri>().is_ok());
        prop_assert!(verify(&ours, &request(&target, &body, &[(SIGNATURE, &signature)])).is_err());
    }
}
