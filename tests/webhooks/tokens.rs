//! Fixed tokens, signed by the suite and verified by their schemes.

use bytes::Bytes;
use civic_messaging::testing::Signer;
use civic_messaging::webhook::{Basic, BearerToken, HeaderToken, QueryToken, Request, Scheme, SigningSecret};
use civic_messaging::{Secret, Timestamp};
use http::HeaderName;

#[test]
fn each_signer_satisfies_its_scheme_only() {
    let secret = || [SigningSecret::for_accounts(Secret::new("a-long: token/€").unwrap(), ["desk".into()])];
    let plain = || [SigningSecret::for_accounts(Secret::new("a-long-token").unwrap(), ["desk".into()])];
    let cases: [(Signer, Box<dyn Scheme>, &str); 4] = [
        (Signer::bearer(), Box::new(BearerToken::new(plain())), "a-long-token"),
        (
            Signer::header_token("x-token"),
            Box::new(HeaderToken::new(HeaderName::from_static("x-token"), plain())),
            "a-long-token",
        ),
        (Signer::basic("acme"), Box::new(Basic::new("acme", secret())), "a-long: token/€"),
        (Signer::query_token("token"), Box::new(QueryToken::new("token", secret())), "a-long: token/€"),
    ];
    for (signed, (signer, _, secret)) in cases.iter().enumerate() {
        for (verified, (_, scheme, _)) in cases.iter().enumerate() {
            let mut request = http::Request::post("/webhook").body(Bytes::from("{}")).unwrap();
            signer.sign(&mut request, secret, Timestamp::default());
            let opened = Request::from(request).open(&**scheme).is_ok();
            assert_eq!(opened, signed == verified, "signer {signed}, scheme {verified}");
        }
    }
}
