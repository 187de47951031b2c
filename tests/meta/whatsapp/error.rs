//! Errors.

use super::*;

#[tokio::test]
async fn rejection_under_5xx_is_certain_for_throttles_only() {
    let errors = format!("{}/tests/fixtures/whatsapp/error", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(errors).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for name in names.map(|name| format!("error/{name}")) {
        for status in [400, 500] {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(status).set_body_bytes(fixture(&name));
            Mock::given(method("POST")).respond_with(answer).mount(&server).await;
            let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
            let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
            assert!(error.request_id().is_some() && error.help().unwrap().contains("error-codes"), "{name}");
            let surely = status == 400 || error.kind() == ErrorKind::RateLimited;
            assert_eq!(error.outcome() == Outcome::Rejected, surely, "{name} under {status}");
        }
    }
}

#[tokio::test]
async fn configured_error_code_overrides_the_table() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(400).set_body_bytes(fixture("error/131031_account_locked.json"));
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let settings = json!({
        "gateway": "meta", "medium": "whatsapp", "access_token": "EAAG-test-token", "phone_number_id": NUMBER,
        "base_url": server.uri(), "errors": { "131031": { "kind": "unavailable", "retryable": true, "after": 90 } },
    });
    let settings = Settings::from_json(&settings.to_string()).unwrap();
    let meta = Registry::standard().connect(&settings, &Context::new()).unwrap();
    let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert_eq!(error.retry_after().unwrap().as_secs(), 90);
}

#[tokio::test]
async fn unknown_object_differs_between_send_and_fetch() {
    let error = json!({ "error": {
        "message": "Unsupported post request. Object with ID '1' does not exist", "type": "GraphMethodException",
        "code": 100, "error_subcode": 33, "fbtrace_id": "AXfu0NKfYelIG2VlOmIfK3C",
    } });
    let (_server, meta) = answering(400, error.to_string()).await;
    let sent = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((sent.kind(), sent.outcome(), sent.code()), (ErrorKind::Config, Outcome::Rejected, Some("100")));
    let upload = MediaStream::from_bytes("image/png", Bytes::from_static(b"a file"));
    assert_eq!(meta.upload_media(&Media::image("x"), upload).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(!meta.health().await.unwrap().is_good());
    let gone = meta.fetch_media(&MediaRef::new("meta", "900000000000001")).await.unwrap_err();
    assert_eq!((gone.kind(), gone.outcome(), gone.code()), (ErrorKind::NotFound, Outcome::NotSent, Some("100")));
    assert!(gone.request_id().is_some() && gone.raw().is_some() && gone.status().unwrap() == 400);
    let details = json!({ "messaging_product": "whatsapp", "details": "Parameter 'type' is invalid" });
    for other in [
        json!({ "error": { "message": "no", "code": 100, "error_subcode": 34 } }),
        json!({ "error": { "message": "no", "code": 100, "error_subcode": 33, "error_data": details } }),
    ] {
        let (_server, meta) = answering(400, other.to_string()).await;
        assert_eq!(meta.send_text(&resident(), "Hello").await.unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[tokio::test]
async fn code_132018_is_of_the_message() {
    let error = json!({ "error": { "message": "(#132018) Param text cannot have new-line", "code": 132018 } });
    let (_server, meta) = answering(400, error.to_string()).await;
    let error = meta.send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidMessage, Some("132018")));
}
