//! Uploads and downloads.

use super::*;

/// An address, and the headers of credentials that went there.
type Visit = (String, Vec<String>);

/// A transport that notes where it is sent to.
#[derive(Clone, Debug, Default)]
struct Noted(std::sync::Arc<std::sync::Mutex<Vec<Visit>>>);

#[civic_messaging::async_trait]
impl civic_messaging::transport::Transport for Noted {
    async fn call(
        &self,
        request: http::Request<civic_messaging::transport::Body>,
    ) -> Result<http::Response<civic_messaging::transport::Body>, civic_messaging::transport::TransportError> {
        let headers = request.headers().keys().map(|name| name.as_str().to_owned());
        let secret = |name: &String| matches!(name.as_str(), "authorization" | "d360-api-key");
        self.0.lock().unwrap().push((request.uri().to_string(), headers.filter(secret).collect()));
        Ok(http::Response::new(civic_messaging::transport::Body::from("a photo".to_owned())))
    }
}

#[tokio::test]
async fn image_is_uploaded_and_downloaded() {
    let server = MockServer::start().await;
    let photo = Bytes::from_static(b"a fallen tree");
    Mock::given(method("POST"))
        .and(path(format!("/v26.0/{NUMBER}/media")))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/media_upload.json")))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(format!("/v26.0/{NUMBER}/messages")))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(fixture("response/send_ok_phone.json")))
        .expect(1)
        .mount(&server)
        .await;
    let context = Context::new();
    let stored = context.media.put(MediaStream::from_bytes("image/jpeg", photo.clone())).await.unwrap();
    let meta = Meta::whatsapp_with(config(&server.uri()), &context).unwrap();
    meta.send(&Message::media(resident(), [Media::image(stored).caption("Cleared")])).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let upload = String::from_utf8_lossy(&requests[0].body).into_owned();
    for part in ["name=\"messaging_product\"\r\n\r\nwhatsapp", "name=\"type\"\r\n\r\nimage/jpeg", "a fallen tree"] {
        assert!(upload.contains(part), "{part}");
    }
    assert_eq!(requests[0].headers["content-length"].to_str().unwrap(), requests[0].body.len().to_string());
    let sent: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(sent["image"], json!({ "id": "900000000000010", "caption": "Cleared" }));
}

#[tokio::test]
async fn file_is_fetched_by_url_or_id_and_its_hash_checked() {
    for name in ["response/media_get_int_size.json", "response/media_get_string_size.json"] {
        let server = MockServer::start().await;
        let mut located = json_fixture(name);
        located["url"] = format!("{}/files/1?mid=1", server.uri()).into();
        located["sha256"] = Digest::sha256(b"a fallen tree").to_string().into();
        Mock::given(method("GET"))
            .and(path("/v26.0/900000000000001"))
            .and(header("authorization", "Bearer EAAG-test-token"))
            .respond_with(ResponseTemplate::new(200).set_body_json(&located))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .and(path("/files/1"))
            .and(query_param("mid", "1"))
            .and(header("authorization", "Bearer EAAG-test-token"))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(&b"a fallen tree"[..]))
            .mount(&server)
            .await;
        let meta = Meta::whatsapp_with(config(&server.uri()), &Context::new()).unwrap();
        let mut media = MediaRef::new("meta", "900000000000001");
        let bytes = async |media: &MediaRef| meta.fetch_media(media).await?.bytes().await;
        assert_eq!(bytes(&media).await.unwrap(), "a fallen tree");
        // The address in the webhook is tried first; when it has expired, the id gives another.
        media.url = Some(format!("{}/expired", server.uri()));
        assert_eq!(bytes(&media).await.unwrap(), "a fallen tree");
        media.url = Some(format!("{}/files/1?mid=1", server.uri()));
        media.sha256 = Some(Digest::sha256(b"another file"));
        assert_eq!(bytes(&media).await.unwrap_err().kind(), ErrorKind::Unexpected);
        media.url = Some("https://evil.example/files/1".into());
        assert_eq!(bytes(&media).await.unwrap_err().kind(), ErrorKind::Forbidden);
        media.url = None;
        let asked = server.received_requests().await.unwrap().len();
        for id in ["../../etc", "..", ".", "", "1/../2", "1?fields=a", "1#", "%2e%2e", "1\\2"] {
            media.id = id.into();
            let error = bytes(&media).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("media.id")), "{id}");
            assert_eq!(error.gateway(), Some("meta"));
        }
        // Nor is a call of the API's taken for a file.
        for path in ["/v26.0/me/accounts", "/files/%2e%2e/v26.0/me", "/files/../v26.0/me", "//v26.0/me"] {
            media.url = Some(format!("{}{path}", server.uri()));
            let error = bytes(&media).await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{path}");
        }
        assert_eq!(server.received_requests().await.unwrap().len(), asked);
    }
}

#[tokio::test]
async fn each_credential_goes_to_files_of_its_own_gateway() {
    let noted = Noted::default();
    let context = Context::with_transport(noted.clone());
    let config = || Config::new("EAAG-test-token", NUMBER).unwrap();
    let meta = Meta::whatsapp_with(config(), &context).unwrap();
    let dialog = Meta::whatsapp_360dialog_with(config(), &context).unwrap();
    let fetch = async |channel: &Meta, url: &str| {
        let mut media = MediaRef::new(channel.info().gateway, "900000000000001");
        media.url = Some(url.to_owned());
        let fetched = channel.fetch_media(&media).await;
        (fetched, noted.0.lock().unwrap().drain(..).collect::<Vec<_>>())
    };
    let path = "/whatsapp_business/attachments/?mid=900000000000001&ext=1";
    let (files, own) = ("https://lookaside.fbsbx.com", "https://waba-v2.360dialog.io");
    for (channel, url, asked, header) in [
        (&meta, format!("{files}{path}"), format!("{files}{path}"), vec!["authorization"]),
        (&dialog, format!("{files}{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&dialog, format!("https://LOOKASIDE.fbsbx.com{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&dialog, format!("{own}{path}"), format!("{own}{path}"), vec!["d360-api-key"]),
        (&meta, "https://a.fbcdn.net/v/1".into(), "https://a.fbcdn.net/v/1".into(), vec![]),
        (&dialog, "https://a.fbcdn.net/v/1".into(), "https://a.fbcdn.net/v/1".into(), vec![]),
    ] {
        let (fetched, noted) = fetch(channel, &url).await;
        assert!(fetched.is_ok(), "{url}");
        assert_eq!(noted, [(asked, header.into_iter().map(str::to_owned).collect())], "{url}");
    }
    for (channel, url) in [
        (&meta, format!("{own}{path}")),
        (&meta, "https://graph.facebook.com/v26.0/me/accounts".into()),
        (&meta, "https://graph.facebook.com/me?fields=name".into()),
        (&meta, format!("https://graph.facebook.com{path}")),
        (&meta, format!("{files}/another_product/?id=1")),
        (&meta, format!("{files}/whatsapp_business/../another_product")),
        (&meta, format!("{files}/whatsapp_business/%2e%2E/another_product")),
        (&meta, format!("{files}//whatsapp_business/")),
        (&dialog, "https://graph.facebook.com/v26.0/me".into()),
        (&dialog, format!("https://graph.facebook.com{path}")),
        (&dialog, format!("{own}/v1/configs/webhook")),
        (&dialog, format!("{own}/messages")),
        (&dialog, format!("{files}/v1/configs/webhook")),
        (&dialog, format!("{files}/whatsapp_business/%2e%2e/v1/configs/webhook")),
        (&dialog, format!("{files}.evil.example{path}")),
        (&dialog, format!("https://evil.example/lookaside.fbsbx.com{path}")),
        (&dialog, format!("https://lookaside.fbsbx.com@evil.example{path}")),
    ] {
        let (fetched, noted) = fetch(channel, &url).await;
        let error = fetched.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{url}");
        assert!(noted.is_empty(), "{url}");
    }
}

#[tokio::test]
async fn uploaded_file_has_an_extension_that_fits_its_type() {
    let (server, meta) = answering(200, fixture("response/media_upload.json")).await;
    for (media, mime, name) in [
        (Media::image("x"), "image/jpeg", "image.jpg"),
        (Media::audio("x"), "audio/ogg; codecs=opus", "audio.ogg"),
        (Media::document("x"), "application/pdf", "document.pdf"),
        (Media::document("x").filename("Your permit"), "application/pdf", "Your permit.pdf"),
        (Media::document("x").filename("permit.pdf"), "application/pdf", "permit.pdf"),
        (Media::document("x").filename("PERMIT.PDF"), "Application/PDF", "PERMIT.PDF"),
        (Media::document("x").filename("letter.2026"), "application/pdf", "letter.2026.pdf"),
        (Media::document("x").filename("permit."), "application/pdf", "permit.pdf"),
        (Media::document("x").filename(" "), "text/plain", "document.txt"),
        (Media::image("x").filename(".jpg"), "image/jpeg", ".jpg.jpg"),
        (Media::image("x").filename("tree.JPEG"), "image/jpeg", "tree.JPEG"),
        (Media::image("x").filename("tree.png"), "image/jpeg", "tree.png.jpg"),
        (Media::document("x").filename("plan.dwg"), "image/vnd.dwg", "plan.dwg"),
        (Media::document("x").filename("plan"), "application/octet-stream", "plan.bin"),
        (Media::video("x").filename("ŵ"), "video/3gpp", "ŵ.3gp"),
    ] {
        meta.upload_media(&media, MediaStream::from_bytes(mime, Bytes::from_static(b"a file"))).await.unwrap();
        let requests = server.received_requests().await.unwrap();
        let form = String::from_utf8_lossy(&requests.last().unwrap().body).into_owned();
        assert!(form.contains(&format!("filename=\"{name}\"")), "{name}: {form}");
    }
}
