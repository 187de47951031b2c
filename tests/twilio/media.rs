//! Media, fetched and published.

use super::*;

/// Files by the target of their redirect.
const GOOD: &str = "MEaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const EVIL: &str = "MEbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const ACCOUNT_ITSELF: &str = "MEcccccccccccccccccccccccccccccccc";
const DOTTED: &str = "MEdddddddddddddddddddddddddddddddd";

/// A transport that records requests and responds like Twilio and its CDN.
#[derive(Clone, Debug, Default)]
struct Files(Arc<Mutex<Vec<(String, bool)>>>);

#[async_trait]
impl Transport for Files {
    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let url = request.uri().to_string();
        let credential = request.headers().contains_key("authorization");
        self.0.lock().unwrap().push((url.clone(), credential));
        let response = http::Response::builder();
        let account = url.split("/Messages/").next().unwrap();
        let target = match url.rsplit('/').next().unwrap() {
            GOOD => "https://mms.twiliocdn.com/AC/file?sig=1".to_owned(),
            EVIL => "https://evil.example/file".to_owned(),
            ACCOUNT_ITSELF => format!("{account}.json"),
            DOTTED => format!("{account}/Messages/{SID}/Media/%2E%2e/%2e%2E/%2e./Keys.json"),
            _ => String::new(),
        };
        Ok(if target.is_empty() {
            response.header("content-type", "image/jpeg").body(Body::from("bytes".to_owned())).unwrap()
        } else {
            response.status(307).header("location", target).body(Body::empty()).unwrap()
        })
    }
}

#[tokio::test]
async fn credential_is_sent_to_the_api_only() {
    let files = Files::default();
    let sms = Twilio::sms_with(config(), &Context::with_transport(files.clone())).unwrap();
    let media = |url: &str| {
        let mut media = MediaRef::new("twilio", "ME1");
        media.url = Some(url.to_owned());
        media
    };
    let api = format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media");
    let file = sms.fetch_media(&media(&format!("{api}/{GOOD}"))).await.unwrap();
    assert_eq!(file.mime(), Some("image/jpeg"));
    assert_eq!(file.bytes().await.unwrap(), "bytes");
    let requests = std::mem::take(&mut *files.0.lock().unwrap());
    assert_eq!(requests, [(format!("{api}/{GOOD}"), true), ("https://mms.twiliocdn.com/AC/file?sig=1".into(), false)]);
    for refused in [EVIL, ACCOUNT_ITSELF, DOTTED] {
        let error = sms.fetch_media(&media(&format!("{api}/{refused}"))).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")));
        assert_eq!(std::mem::take(&mut *files.0.lock().unwrap()).len(), 1, "{refused}");
    }
    let account = format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}");
    for url in [
        format!("{account}/Messages.json"),
        format!("{account}.json"),
        format!("{account}/Messages/{SID}/Media/../../../Keys.json"),
        format!("{account}/Messages/{SID}/Media/%2e%2e/%2e%2e/%2e%2e.json"),
        format!("{account}/Messages/{SID}/Media/%2E%2E"),
        format!("{account}/Messages/{SID}/Media/.%2e/"),
        format!("{account}/Messages/{SID}/Media/%252e%252e/"),
        format!("{account}/Messages/{SID}/Media/..%2f..%2f"),
        format!("{account}/Messages/{SID}/Media/..\\..\\"),
        format!("{account}/Messages/{SID}/Media/{GOOD}/"),
        format!("{account}/Messages/{SID}/Media/{GOOD}.json"),
        format!("{account}/Messages/{SID}/Media/{GOOD}?PageSize=1"),
        format!("{account}/Messages/{SID}/Media/{GOOD}?"),
        format!("{account}/Messages/{SID}/Media/{GOOD}/../../../../Keys.json"),
        format!("{account}/Messages/{SID}//Media/{GOOD}"),
        format!("{account}//Messages/{SID}/Media/{GOOD}"),
        format!("{account}/Messages/{SID}/Media/"),
        format!("{account}/Messages/{SID}/Media"),
        format!("{account}/Messages/{SID}/Media/ME1"),
        format!("{account}/Messages/x/Media/{GOOD}"),
        format!("{account}/Messages/{SID}/media/{GOOD}"),
        format!("{account}/Keys/../Messages/{SID}/Media/{GOOD}"),
        format!("{account}/Calls/CA1/Media/{GOOD}"),
        format!("https://api.twilio.com/2010-04-01/Accounts/ACdead/Messages/{SID}/Media/{GOOD}"),
        format!("https://api.twilio.com/v1/../2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media/{GOOD}"),
        "https://mms.twiliocdn.com/AC/file?sig=1".into(),
        api.replace("api.twilio.com", "evil.example") + "/" + GOOD,
        api.replace("https", "http") + "/" + GOOD,
        api.replace("api.twilio.com", "api.twilio.com:8443") + "/" + GOOD,
        "ME1".into(),
    ] {
        let error = sms.fetch_media(&media(&url)).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{url}");
        assert_eq!((error.gateway(), error.outcome()), (Some("twilio"), Outcome::NotSent), "{url}");
    }
    assert_eq!(sms.fetch_media(&MediaRef::new("twilio", "ME1")).await.unwrap_err().field(), Some("media.url"));
    assert_eq!(sms.fetch_media(&MediaRef::new("meta", "1")).await.unwrap_err().field(), Some("media.gateway"));
    assert!(files.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn stored_file_is_not_read_to_publish_it() {
    // Twilio takes links, so the store is not read: the embedder's `publish` returns the link.
    let context = context().publish(Shelf);
    let stored = context.media.put(MediaStream::from_bytes("image/png", "png")).await.unwrap();
    context.media.remove(&stored.sha256).await.unwrap();
    let server = answers(201, resource()).await;
    let sms = Twilio::sms_with(at(&server, config()), &context).unwrap();
    sms.send(&Message::media(resident(), [Media::image(stored)])).await.unwrap();
    assert!(sent(&server).await.contains(&("MediaUrl".into(), "https://files.example.gov.uk/x".into())));
}
