//! Uploads and downloads.

use super::*;

/// The bytes of each segment of an upload, in the order in which they came.
fn segments(asked: &[Asked]) -> Vec<(u32, Vec<u8>)> {
    let of = |asked: &Asked| {
        let content_type = asked.headers["content-type"].to_str().unwrap();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let split = |bytes: &[u8], by: &str| -> Vec<Vec<u8>> {
            let by = by.as_bytes();
            let mut parts = vec![Vec::new()];
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at..].starts_with(by) {
                    parts.push(Vec::new());
                    at += by.len();
                } else {
                    parts.last_mut().unwrap().push(bytes[at]);
                    at += 1;
                }
            }
            parts
        };
        let parts = split(&asked.body, &format!("--{boundary}"));
        let [_, index, media, end] = parts.as_slice() else { panic!("{} parts", parts.len()) };
        assert_eq!(end, b"--\r\n");
        let value = |part: &[u8], name: &str| {
            let at = part.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            assert!(String::from_utf8_lossy(&part[..at]).contains(&format!("name=\"{name}\"")));
            part[at + 4..part.len() - 2].to_vec()
        };
        (String::from_utf8(value(index, "segment_index")).unwrap().parse().unwrap(), value(media, "media"))
    };
    asked.iter().filter(|asked| asked.url.path().ends_with("/append")).map(of).collect()
}

async fn upload_server(id: &str, finalized: &str) -> MockServer {
    let server = MockServer::start().await;
    let begun = String::from_utf8(fixture("media_initialize.response.200.json").to_vec()).unwrap();
    let begun = begun.replace("1900000000000000401", id);
    given(&server, "POST", "/2/media/upload/initialize", ResponseTemplate::new(200).set_body_string(begun)).await;
    given(&server, "POST", &format!("/2/media/upload/{id}/append"), answer(200, "media_append.response.200.json"))
        .await;
    given(&server, "POST", &format!("/2/media/upload/{id}/finalize"), answer(200, finalized)).await;
    given(&server, "POST", SEND, answer(201, "v2_send.response.201.json")).await;
    server
}

#[tokio::test]
async fn stored_file_is_uploaded_then_sent() {
    let server = upload_server("1900000000000000401", "media_finalize_sync.response.200.json").await;
    let context = context();
    let bytes: Vec<u8> = (0..34_567_u32).map(|n| n.to_le_bytes()[0]).collect();
    let stored = context.media.put(MediaStream::from_bytes("image/png", bytes.clone())).await.unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    x.send(&Message::media(resident(), [Media::image(stored).caption("Map of the works")])).await.unwrap();
    let asked = asked(&server).await;
    let paths: Vec<&str> = asked.iter().map(|asked| asked.url.path()).collect();
    let upload = "/2/media/upload/1900000000000000401";
    assert_eq!(paths, ["/2/media/upload/initialize", &format!("{upload}/append"), &format!("{upload}/finalize"), SEND]);
    assert_eq!(body(&asked[0]), json_fixture("media_initialize.request.json"));
    assert_eq!(segments(&asked), [(0, bytes)]);
    assert_eq!(body(&asked[3]), json_fixture("v2_send_media.request.json"));
}

#[tokio::test]
async fn video_is_uploaded_by_the_mebibyte_and_awaited() {
    const MIB: usize = 1024 * 1024;
    let id = "1900000000000000403";
    let server = upload_server(id, "media_finalize_async.response.200.json").await;
    let status = || {
        Mock::given(method("GET"))
            .and(path("/2/media/upload"))
            .and(query_param("command", "STATUS"))
            .and(query_param("media_id", id))
    };
    status()
        .respond_with(answer(200, "media_status_in_progress.response.200.json"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    status().respond_with(answer(200, "media_status_succeeded.response.200.json")).mount(&server).await;
    let clock = clock();
    let context = Context::new().clock(clock.clone());
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    let film: Vec<u8> = (0..2 * MIB + MIB / 2).map(|n| (n % 251) as u8).collect();
    // Pieces that do not fit the segments.
    let pieces: Vec<_> = film.chunks(700_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let stream =
        MediaStream::from_stream("video/mp4", futures_util::stream::iter(pieces).boxed(), Some(film.len() as u64));
    let media = Media::video("https://example.org/not-asked-for");
    let upload = tokio::spawn(async move { x.upload_media(&media, stream).await });
    // The fixtures ask to wait 1 s, then 5 s twice.
    for wait in [1, 5, 5] {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(wait));
        while clock.sleepers() > 0 {
            tokio::task::yield_now().await;
        }
    }
    let held = upload.await.unwrap().unwrap();
    assert_eq!((held.id.as_str(), held.mime.as_deref(), held.len), (id, Some("video/mp4"), Some(film.len() as u64)));
    assert_eq!(held.expires, Some(NOW.plus(Duration::from_secs(11 + 86_000))));
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0])["media_category"], "dm_video");
    let segments = segments(&asked);
    assert_eq!(
        segments.iter().map(|(n, piece)| (*n, piece.len())).collect::<Vec<_>>(),
        [(0, MIB), (1, MIB), (2, MIB / 2)]
    );
    assert!(segments.into_iter().flat_map(|(_, piece)| piece).eq(film));
    assert_eq!(asked.iter().filter(|asked| asked.url.path() == "/2/media/upload").count(), 3);
}

#[tokio::test]
async fn unprocessed_file_is_not_sent() {
    let id = "1900000000000000403";
    for (status, kind, calls) in [
        ("media_status_failed.response.200.json", ErrorKind::InvalidMessage, 1),
        ("media_status_in_progress.response.200.json", ErrorKind::Unavailable, 60),
    ] {
        let server = upload_server(id, "media_finalize_async.response.200.json").await;
        given(&server, "GET", "/2/media/upload", answer(200, status)).await;
        let clock = clock();
        let context = Context::new().clock(clock.clone());
        let stored = context.media.put(MediaStream::from_bytes("video/mp4", "film")).await.unwrap();
        let x =
            X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
        let send = tokio::spawn(async move { x.send(&Message::media(resident(), [Media::video(stored)])).await });
        while !send.is_finished() {
            if clock.sleepers() > 0 {
                clock.advance(Duration::from_secs(60));
            }
            tokio::task::yield_now().await;
        }
        let error = send.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent));
        let asked = asked(&server).await;
        assert_eq!(asked.iter().filter(|asked| asked.url.path() == "/2/media/upload").count(), calls);
        assert!(asked.iter().all(|asked| asked.url.path() != SEND));
    }
}

#[tokio::test]
async fn message_expired_during_its_upload_is_not_sent() {
    let server = upload_server("1900000000000000403", "media_finalize_async.response.200.json").await;
    given(&server, "GET", "/2/media/upload", answer(200, "media_status_succeeded.response.200.json")).await;
    let clock = clock();
    let context = Context::new().clock(clock.clone());
    let stored = context.media.put(MediaStream::from_bytes("image/gif", "gif")).await.unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()).base_url(&server.uri()).unwrap(), &context).unwrap();
    let message = Message::media(resident(), [Media::image(stored)]).not_after(NOW.plus(Duration::from_secs(30)));
    let send = tokio::spawn(async move { x.send(&message).await });
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(31));
    assert_eq!(send.await.unwrap().unwrap_err().field(), Some("not_after"));
    let asked = asked(&server).await;
    assert_eq!(body(&asked[0])["media_category"], "dm_gif");
    assert!(asked.iter().all(|asked| asked.url.path() != SEND));
}

#[tokio::test]
async fn refused_or_misdescribed_upload_is_not_sent() {
    let server = MockServer::start().await;
    let x = signed(&server);
    let media = Media::image("https://example.org/not-asked-for");
    for status in [400, 429, 503] {
        server.reset().await;
        given(&server, "POST", "/2/media/upload/initialize", answer(status, "err_429_problem.json")).await;
        let error = x.upload_media(&media, MediaStream::from_bytes("image/png", "png")).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
    }
    let server = upload_server("1900000000000000401", "media_finalize_sync.response.200.json").await;
    let x = signed(&server);
    let of = |mime: &'static str, said: Option<u64>, len: usize| {
        let stream = futures_util::stream::iter([Ok(Bytes::from(vec![0; len]))]).boxed();
        x.upload_media(&media, MediaStream::from_stream(mime, stream, said))
    };
    for (result, kind) in [
        (of("image/png", None, 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(0), 0).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(5), 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(3), 4).await, ErrorKind::InvalidMessage),
        (of("image/png", Some(6 * 1024 * 1024), 4).await, ErrorKind::TooLarge),
        (of("application/pdf", Some(4), 4).await, ErrorKind::Unsupported),
    ] {
        assert_eq!(result.unwrap_err().kind(), kind);
    }
    assert!(asked(&server).await.iter().all(|asked| !asked.url.path().ends_with("/finalize")));
    assert!(of("image/png; charset=binary", Some(4), 4).await.is_ok());
}

#[tokio::test]
async fn file_is_fetched_with_the_credential_of_its_host() {
    let server = MockServer::start().await;
    let ton = "/1.1/ton/data/dm/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
    let v2 = "/2/dm_conversations/media/1900000000000000512/1900000000000000404/Ab3dEf9h.jpg";
    given(&server, "GET", ton, ResponseTemplate::new(200).set_body_raw("signed", "image/jpeg")).await;
    let bearing = Mock::given(method("GET")).and(path(v2)).and(header("authorization", "Bearer FIXTURE-ACCESS-2"));
    bearing.respond_with(ResponseTemplate::new(200).set_body_raw("bearing", "image/jpeg")).mount(&server).await;
    given(&server, "GET", v2, answer(401, "err_401_unauthorized.json")).await;
    given(&server, "POST", "/2/oauth2/token", answer(200, "oauth2_token.response.200.json")).await;
    let mut media = MediaRef::new("x", "1900000000000000404");
    media.url = Some(format!("{}{ton}", server.uri()));

    let stream = signed(&server).fetch_media(&media).await.unwrap();
    assert_eq!(stream.mime(), Some("image/jpeg"));
    assert_eq!(stream.bytes().await.unwrap(), "signed");
    assert!(asked(&server).await[0].headers["authorization"].to_str().unwrap().starts_with("OAuth "));

    // The first token is refused, and bought anew.
    let oauth2 = client().access_token("FIXTURE-ACCESS-1").unwrap();
    let x = X::direct_messages_with(Config::new(COUNCIL, oauth2).base_url(&server.uri()).unwrap(), &context()).unwrap();
    assert_eq!(x.fetch_media(&media).await.unwrap().bytes().await.unwrap(), "bearing");
}

#[tokio::test]
async fn file_is_fetched_from_x_only() {
    // The real base URL, so that the hosts are the real ones; nothing is called.
    let x = X::direct_messages_with(Config::new(COUNCIL, keys()), &Context::with_transport(NoCalls)).unwrap();
    let fetch = |url: Option<&str>| {
        let mut media = MediaRef::new("x", "1");
        media.url = url.map(str::to_owned);
        let x = &x;
        async move { x.fetch_media(&media).await.unwrap_err() }
    };
    for bad in [
        "https://evil.example/1.1/ton/data/dm/1/2/a.jpg",
        "http://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg",
        "https://ton.twitter.com.evil.example/dm/1/2/a.jpg",
        "https://ton.twitter.com@evil.example/dm/1/2/a.jpg",
        "https://169.254.169.254/dm/1/2/a.jpg",
        "https://pbs.twimg.com/dm/1/2/a.jpg",
        "https://ton.twitter.com:8443/dm/1/2/a.jpg",
        "https://ton.twitter.com/dm/1/2/..",
        "https://ton.twitter.com/dm/1/../a.jpg",
        "https://ton.twitter.com/a.jpg",
        "https://ton.twitter.com/dm/1/2/a%2e.jpg",
        "https://ton.twitter.com/1.1/ton/data/dm/%2e%2e/dm/1/2/a.jpg",
        "https://ton.twitter.com/1.1//ton/data/dm/1/2/a.jpg",
        "https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg/",
        // Signed, each of these would be a call of the API's and no file.
        "https://api.x.com/2/users/1/2/a",
        "https://api.x.com/1.1/account/1/2/settings.json",
        "https://ton.twitter.com/1.1/other/dm/1/2/a.jpg",
    ] {
        let error = fetch(Some(bad)).await;
        assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{bad}");
    }
    assert_eq!(fetch(None).await.kind(), ErrorKind::NotFound);
    for good in ["https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg", "https://ton.x.com/1.1/ton/data/dm/1/2/a.jpg"] {
        assert_eq!(fetch(Some(good)).await.kind(), ErrorKind::Unavailable, "{good}");
    }
}
