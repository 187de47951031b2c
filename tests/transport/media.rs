//! Downloads and uploads of media: limits, allowed hosts, and which hosts receive the credential.

use std::collections::VecDeque;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::adapter::{Access, Answer, Credential, Endpoint, FetchLimits, VendorError, bearer};
use civic_messaging::clock::VirtualClock;
use civic_messaging::media::{Digest, FileUrl, HostRules, MediaStream};
use civic_messaging::transport::{
    Body, Deadline, PublicOnly, ReqwestTransport, SendProgress, Transport, TransportError, TransportErrorKind,
};
use civic_messaging::{Context, Error, ErrorKind, Outcome, Result, Secret, Timestamp, async_trait};
use futures_util::{StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{block_on, is_child, run_in_child};

/// A time-out that no passing test reaches.
const AMPLE: Duration = Duration::from_secs(20);

/// A secret that no error may contain.
const CANARY: &str = "canary-7Q4Z";

const HOSTS: HostRules = HostRules { trusted: &["lookaside.example"], open: &["*.cdn.example"] };

/// The size of a file in the streaming tests.
const LARGE: usize = 200 << 20;

const PIECE: usize = 64 << 10;

fn limits(cap: u64) -> FetchLimits {
    FetchLimits { cap, time: 3 * AMPLE }
}

fn endpoint(base: &str, context: &Context) -> Endpoint {
    Endpoint::new("double", base.parse().unwrap(), context, &[], |_: &Answer| VendorError::default())
}

fn local(address: SocketAddr) -> Endpoint {
    let transport = ReqwestTransport::from_settings(|builder| builder.no_proxy().connect_timeout(AMPLE).timeout(AMPLE));
    endpoint(&format!("http://{address}"), &Context::new().transport(transport))
}

fn credential() -> Option<HeaderValue> {
    Some(bearer(&Secret::new(format!("{CANARY}-token")).unwrap()).unwrap())
}

/// Checks an error about a file: it names its gateway, concerns no message, and contains nothing received.
fn assert_media_error(error: &Error, kind: ErrorKind) {
    assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{error:?}");
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains("7Q4Z") && !shown.contains("127.0.0.1") && !shown.contains("example"), "{shown}");
    }
}

/// A listener that passes each connection and its request head to `serve`.
async fn listen<F>(serve: impl Fn(TcpStream, String) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            tokio::spawn(serve(socket, String::from_utf8(head).unwrap().to_ascii_lowercase()));
        }
    });
    address
}

/// A listener that gives every client this response.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    listen(move |mut socket, _| {
        let answer = answer.clone();
        async move {
            _ = socket.write_all(&answer).await;
            _ = socket.shutdown().await;
            // Waits until the client has read it: closing with unread data resets the connection.
            _ = socket.read(&mut [0; 1]).await;
        }
    })
    .await
}

async fn fetched(address: SocketAddr, limits: FetchLimits) -> Result<MediaStream> {
    local(address).fetch(&format!("http://{address}/{CANARY}"), &HOSTS, credential(), limits).await
}

#[tokio::test]
async fn oversized_content_length_is_refused_before_first_byte() {
    let address = answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{CANARY}", 10_u64 << 30)).await;
    for cap in [0, 1_000, (10 << 30) - 1] {
        assert_media_error(&fetched(address, limits(cap)).await.unwrap_err(), ErrorKind::TooLarge);
    }
    let mut stream = fetched(address, limits(10 << 30)).await.unwrap();
    assert_eq!(stream.len(), Some(10 << 30));
    assert_eq!(stream.chunk().await.unwrap().unwrap(), CANARY);
}

#[tokio::test]
async fn endless_body_is_cut_at_the_cap() {
    let address = listen(|mut socket, _| async move {
        _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n").await;
        let piece = [b"10000\r\n".as_slice(), &[0; PIECE], b"\r\n"].concat();
        while socket.write_all(&piece).await.is_ok() {}
    })
    .await;
    for cap in [0, 1, 100_000, 3_000_000] {
        let mut stream = fetched(address, limits(cap)).await.unwrap();
        assert_eq!((stream.len(), stream.mime()), (None, Some("image/png")));
        let mut seen = 0;
        let error = loop {
            match stream.chunk().await.expect("an error before the end") {
                Ok(piece) => seen += piece.len() as u64,
                Err(error) => break error,
            }
        };
        assert_media_error(&error, ErrorKind::TooLarge);
        assert!(seen <= cap, "{seen} of at most {cap} bytes");
        assert!(stream.chunk().await.is_none(), "nothing follows an error");
    }
}

#[tokio::test]
async fn slow_body_ends_at_the_overall_deadline() {
    let in_body = listen(|mut socket, _| async move {
        _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
        let mut drops = tokio::time::interval(Duration::from_millis(5));
        while socket.write_all(b"x").await.is_ok() {
            drops.tick().await;
        }
    })
    .await;
    let in_head = listen(|mut socket, _| async move {
        _ = socket.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await;
        let mut drops = tokio::time::interval(Duration::from_millis(5));
        while socket.write_all(b"x").await.is_ok() {
            drops.tick().await;
        }
    })
    .await;
    for address in [in_body, in_head] {
        let start = Instant::now();
        let time = Duration::from_millis(150);
        let error = match fetched(address, FetchLimits { cap: 1_000_000, time }).await {
            Ok(stream) => stream.bytes().await.unwrap_err(),
            Err(error) => error,
        };
        assert_media_error(&error, ErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert!((time..AMPLE / 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn compressed_body_is_not_decoded() {
    // 100,000 zeros, 132 bytes with gzip.
    let bomb = format!("H4sIAAAAAAACA+3BMQEAAADCoPVPbQ0PoA{}IBXA32VEdSghgEA", "A".repeat(127));
    let bomb = BASE64_STANDARD.decode(bomb).unwrap();
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", bomb.len());
        let address = answering([head.as_bytes(), &bomb].concat()).await;
        let stream = fetched(address, limits(bomb.len() as u64)).await.unwrap();
        assert_eq!(stream.bytes().await.unwrap(), bomb, "{encoding}");
    }
}

#[tokio::test]
async fn truncated_body_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf of it",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ] {
        let address = answering(answer).await;
        let error = fetched(address, limits(100)).await.unwrap().bytes().await.unwrap_err();
        assert_media_error(&error, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn hash_mismatch_fails_at_the_end() {
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntree").await;
    let right = fetched(address, limits(4)).await.unwrap().hashed(Digest::sha256(b"tree"));
    assert_eq!(right.bytes().await.unwrap(), "tree");
    let mut wrong = fetched(address, limits(4)).await.unwrap().hashed(Digest::sha256(b"trees"));
    assert_eq!(wrong.chunk().await.unwrap().unwrap(), "tree");
    assert_media_error(&wrong.chunk().await.unwrap().unwrap_err(), ErrorKind::Unexpected);
    assert!(wrong.chunk().await.is_none());
    // Half a file does not have the hash of the whole.
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntree").await;
    let half = fetched(address, limits(5)).await.unwrap().hashed(Digest::sha256(b"tree"));
    assert_media_error(&half.bytes().await.unwrap_err(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn non_file_response_is_an_error() {
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
        (410, ErrorKind::NotFound),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        let answer = format!("HTTP/1.1 {status} {CANARY}\r\nContent-Length: 12\r\n\r\n{CANARY}");
        let error = fetched(answering(answer).await, limits(100)).await.unwrap_err();
        assert_media_error(&error, kind);
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
    }
}

/// Serves `/n` with a redirect to `/n-1`, and `/0` with a file. Redirects are absolute or relative.
async fn countdown(relative: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let shared = requests.clone();
    let address = listen(move |mut socket, head| {
        let shared = shared.clone();
        async move {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let n: u32 = path.trim_start_matches('/').parse().unwrap();
            shared.lock().unwrap().push(path);
            let host = if relative { String::new() } else { format!("http://{}", socket.local_addr().unwrap()) };
            let answer = match n.checked_sub(1) {
                Some(next) => format!("HTTP/1.1 302 Found\r\nLocation: {host}/{next}\r\nContent-Length: 0\r\n\r\n"),
                None => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile".to_owned(),
            };
            _ = socket.write_all(answer.as_bytes()).await;
            _ = socket.shutdown().await;
            _ = socket.read(&mut [0; 1]).await;
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn redirects_are_followed_three_times_at_most() {
    for relative in [false, true] {
        let (address, requests) = countdown(relative).await;
        let endpoint = local(address);
        for n in 0..=5 {
            requests.lock().unwrap().clear();
            let url = format!("http://{address}/{n}");
            let file = endpoint.fetch(&url, &HOSTS, credential(), limits(4)).await;
            let expected: Vec<String> = (0..=n).rev().take(4).map(|n| format!("/{n}")).collect();
            match file {
                Ok(file) => {
                    assert!(n <= 3);
                    assert_eq!(file.bytes().await.unwrap(), "file");
                }
                Err(error) => {
                    assert!(n > 3, "{n}, relative {relative}: {error}");
                    assert_media_error(&error, ErrorKind::Unexpected);
                }
            }
            assert_eq!(*requests.lock().unwrap(), expected);
        }
    }
}

/// The parts of a request that a test checks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenRequest {
    url: String,
    credential: Option<String>,
    public_only: bool,
    time: Duration,
}

/// A transport with scripted responses that records requests. Each response takes ten seconds of its clock.
#[derive(Clone, Debug)]
struct Scripted {
    clock: VirtualClock,
    requests: Arc<Mutex<Vec<SeenRequest>>>,
    answers: Arc<Mutex<VecDeque<Option<&'static str>>>>,
}

impl Scripted {
    /// `Some` is a redirect, `None` a file.
    fn new(answers: impl IntoIterator<Item = Option<&'static str>>) -> Self {
        Self {
            clock: VirtualClock::starting_at(Timestamp::from_secs(1_795_000_000)),
            requests: Arc::default(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        }
    }

    fn endpoint(&self, base: &str) -> Endpoint {
        endpoint(base, &Context::new().transport(self.clone()).clock(self.clock.clone()))
    }

    fn requests(&self) -> Vec<SeenRequest> {
        self.requests.lock().unwrap().clone()
    }

    fn urls(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.url).collect()
    }

    /// For each request, `true` if it carried the credential.
    fn credentials(&self) -> Vec<bool> {
        self.requests().into_iter().map(|request| request.credential.is_some()).collect()
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        assert_eq!(request.method(), Method::GET);
        assert!(request.body().is_empty());
        let credential = request.headers().get(AUTHORIZATION);
        assert!(credential.is_none_or(HeaderValue::is_sensitive));
        assert_eq!(request.headers().len(), usize::from(credential.is_some()), "no other header");
        self.requests.lock().unwrap().push(SeenRequest {
            url: request.uri().to_string(),
            credential: credential.map(|value| value.to_str().unwrap().to_owned()),
            public_only: request.extensions().get::<PublicOnly>().is_some(),
            time: request.extensions().get::<Deadline>().expect("a deadline").0,
        });
        self.clock.advance(Duration::from_secs(10));
        let answer = Response::builder();
        Ok(match self.answers.lock().unwrap().pop_front().expect("no more requests than answers") {
            Some("") => answer.status(302).body(Body::empty()),
            Some(to) => answer.status(302).header("location", to).body(Body::empty()),
            None => answer.status(200).body(Body::from("file".to_owned())),
        }
        .unwrap())
    }
}

const BASE: &str = "https://graph.example/v1";

#[tokio::test]
async fn credential_is_sent_to_trusted_hosts_only() {
    let trusted = "https://lookaside.example/a?mid=1";
    let open = "https://eu.cdn.example/a";
    for (first, then, expected) in [
        (trusted, vec![None], vec![true]),
        (open, vec![None], vec![false]),
        (trusted, vec![Some(open), None], vec![true, false]),
        (open, vec![Some(trusted), None], vec![false, true]),
        (trusted, vec![Some(open), Some(open), Some(open), None], vec![true, false, false, false]),
        (trusted, vec![Some("/b"), None], vec![true, true]),
        (open, vec![Some("/b"), None], vec![false, false]),
        (trusted, vec![Some("//eu.cdn.example/b"), None], vec![true, false]),
    ] {
        let transport = Scripted::new(then.clone());
        let endpoint = transport.endpoint(BASE);
        let file = endpoint.fetch(first, &HOSTS, credential(), limits(4)).await.unwrap();
        assert_eq!(file.bytes().await.unwrap(), "file");
        assert_eq!(transport.credentials(), expected, "{first}, then {then:?}");
        assert!(transport.requests().iter().all(|request| request.public_only), "public addresses only");
        assert!(transport.urls().iter().all(|url| url.starts_with("https://")));
    }
}

#[tokio::test]
async fn credential_is_computed_per_url() {
    let (first, second) = ("https://lookaside.example/a", "https://lookaside.example/b?c=d");
    let transport = Scripted::new([Some("https://eu.cdn.example/a"), Some(second), None]);
    let signed = |uri: &http::Uri| Ok(Some(civic_messaging::adapter::sensitive(&format!("Signed {uri}"))?));
    transport.endpoint(BASE).fetch(first, &HOSTS, signed, limits(4)).await.unwrap();
    let credentials: Vec<_> = transport.requests().into_iter().map(|request| request.credential).collect();
    assert_eq!(credentials, [Some(format!("Signed {first}")), None, Some(format!("Signed {second}"))]);

    // A credential that cannot be computed prevents the request.
    let transport = Scripted::new([]);
    let broken = |_: &http::Uri| Err(Error::config("secret", "holds characters that a header cannot"));
    let error = transport.endpoint(BASE).fetch(first, &HOSTS, broken, limits(4)).await.unwrap_err();
    assert_media_error(&error, ErrorKind::Config);
    assert_eq!(error.gateway(), Some("double"));
    assert!(transport.requests().is_empty());
}

/// URLs that are never fetched, as a file URL or as a redirect.
const FORBIDDEN: &[&str] = &[
    "https://elsewhere.example/canary-7Q4Z",
    "https://lookaside.example.evil.example/",
    "https://cdn.example/",
    "https://evilcdn.example/",
    "http://lookaside.example/",
    "ftp://lookaside.example/",
    "https://lookaside.example:8443/",
    "https://canary-7Q4Z@lookaside.example/",
    "https://lookaside.example@evil.example/",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://169.254.169.254/latest/meta-data",
    "https://localhost/",
    "//elsewhere.example/",
    "/\\elsewhere.example/",
    "relative",
    "?relative",
    "",
];

#[tokio::test]
async fn files_come_from_allowed_hosts_only() {
    for &url in FORBIDDEN {
        let transport = Scripted::new([]);
        let error = transport.endpoint(BASE).fetch(url, &HOSTS, credential(), limits(4)).await.unwrap_err();
        assert_media_error(&error, ErrorKind::Forbidden);
        assert!(transport.requests().is_empty(), "{url}");
        assert_eq!(error.gateway(), Some("double"));
    }
    for &url in FORBIDDEN {
        let transport = Scripted::new([Some(url), None]);
        let first = "https://lookaside.example/a";
        let answer = transport.endpoint(BASE).fetch(first, &HOSTS, credential(), limits(4)).await;
        // A path stays on the same host, whatever it contains.
        if url.starts_with("/\\") && answer.is_ok() {
            assert!(transport.urls().iter().all(|url| url.starts_with("https://lookaside.example/")));
            continue;
        }
        let error = answer.unwrap_err();
        assert_media_error(&error, if url.is_empty() { ErrorKind::Unexpected } else { ErrorKind::Forbidden });
        assert_eq!(error.gateway(), Some("double"), "{url}");
        assert_eq!(transport.urls(), [first], "{url}");
    }
}

#[tokio::test]
async fn loopback_base_allows_loopback_only() {
    let base = "http://127.0.0.1:8080";
    let transport = Scripted::new([Some("http://[::1]:9/b"), Some("http://localhost:7/c"), None]);
    transport.endpoint(base).fetch("http://127.0.0.1:8080/a", &HOSTS, credential(), limits(4)).await.unwrap();
    // Another port counts as another host, because gateways often serve files on one.
    assert_eq!(transport.credentials(), [true, false, false]);
    assert!(transport.requests().iter().all(|request| !request.public_only), "loopback is not public");
    for url in [
        "https://lookaside.example/a",
        "https://eu.cdn.example/a",
        "http://127.0.0.1.evil.example/a",
        "http://10.0.0.1/",
        "http://canary-7Q4Z@127.0.0.1/",
        "http://169.254.169.254/",
        "http://0.0.0.0/",
        "//evil.example/a",
    ] {
        let transport = Scripted::new([Some(url), None]);
        let first = "http://127.0.0.1:8080/a";
        let error = transport.endpoint(base).fetch(first, &HOSTS, credential(), limits(4)).await.unwrap_err();
        assert_media_error(&error, ErrorKind::Forbidden);
        assert_eq!(transport.urls(), [first], "{url}");
    }
}

#[tokio::test]
async fn deadline_covers_redirects_and_body() {
    let url = "https://eu.cdn.example/a";
    let fetch = async |seconds: u64| {
        let transport = Scripted::new([Some(url), Some(url), Some(url), None]);
        let limits = FetchLimits { cap: 4, time: Duration::from_secs(seconds) };
        let file = transport.endpoint(BASE).fetch(url, &HOSTS, credential(), limits).await;
        let times: Vec<_> = transport.requests().iter().map(|request| request.time.as_secs()).collect();
        (file, times, transport)
    };
    // Each of the four responses takes ten seconds.
    let (file, times, _) = fetch(60).await;
    assert_eq!(times, [60, 50, 40, 30]);
    assert_eq!(file.unwrap().bytes().await.unwrap(), "file");

    let (file, times, _) = fetch(25).await;
    assert_eq!(times, [25, 15, 5]);
    assert_media_error(&file.unwrap_err(), ErrorKind::Unavailable);

    // The remainder applies to the body.
    let (file, _, transport) = fetch(60).await;
    let mut file = file.unwrap();
    transport.clock.advance(Duration::from_secs(20));
    assert_media_error(&file.chunk().await.unwrap().unwrap_err(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn public_file_host_may_not_be_private() {
    // One port on both loopback addresses, if the machine has both.
    let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = v4.local_addr().unwrap().port();
    let v6 = TcpListener::bind(("::1", port)).await;
    let transport = ReqwestTransport::from_settings(|builder| builder.no_proxy());
    let hosts = [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fc00::1]",
    ];
    for scheme in ["https", "http"] {
        for host in hosts {
            let mut request = Request::new(Body::from(CANARY.to_owned()));
            *request.uri_mut() = format!("{scheme}://{host}:{port}/{CANARY}").parse().unwrap();
            request.extensions_mut().insert(PublicOnly);
            request.extensions_mut().insert(Deadline(AMPLE));
            let error = transport.call(request).await.unwrap_err();
            assert_eq!(
                error,
                TransportError::new(TransportErrorKind::NotPublic, SendProgress::NothingSent),
                "{scheme}://{host}"
            );
        }
    }
    for listener in [Ok(v4), v6].into_iter().flatten() {
        let listener = listener.into_std().unwrap();
        assert!(listener.accept().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "something connected");
    }
    println!("{} addresses refused, no connection", 2 * hosts.len());
}

/// A proxy on loopback that records request lines, responds like the file's host, and opens no tunnel.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let noted = lines.clone();
    let address = listen(move |mut socket, head| {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let answer = match line.starts_with("connect ") {
            true => "HTTP/1.1 502 no tunnel\r\nContent-Length: 0\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfile",
        };
        noted.lock().unwrap().push(line);
        async move {
            _ = socket.write_all(answer.as_bytes()).await;
            _ = socket.shutdown().await;
            _ = socket.read(&mut [0; 1]).await;
        }
    })
    .await;
    (address.port(), lines)
}

#[tokio::test]
async fn proxy_may_be_private_and_file_host_may_not() {
    let (port, lines) = proxy().await;
    // By name, which is resolved, and by address, which is not.
    for host in ["localhost", "127.0.0.1"] {
        let transport = ReqwestTransport::from_settings(move |builder| {
            builder.proxy(reqwest::Proxy::all(format!("http://{host}:{port}")).unwrap())
        });
        let call = async |url: &str| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = url.parse().unwrap();
            request.extensions_mut().insert(PublicOnly);
            request.extensions_mut().insert(Deadline(AMPLE));
            let answer = transport.call(request).await.map(|answer| answer.status().as_u16());
            (answer, lines.lock().unwrap().drain(..).collect::<Vec<_>>())
        };
        // A name that only the proxy resolves, over plain HTTP and through a tunnel.
        for _ in 0..2 {
            let (answer, requests) = call("http://files.invalid/a").await;
            assert_eq!((answer, requests), (Ok(200), vec!["get http://files.invalid/a http/1.1".to_owned()]), "{host}");
        }
        let (answer, requests) = call("https://files.invalid/a").await;
        assert_eq!(answer.unwrap_err().progress, SendProgress::NothingSent, "{host}");
        assert_eq!(requests, ["connect files.invalid:443 http/1.1"], "{host}");
        // The file's host is checked for every proxy.
        for scheme in ["http", "https"] {
            for private in
                ["localhost", "LOCALHOST", "127.0.0.1", "10.0.0.1", "0x7f.1", "169.254.169.254", "[::1]", "[fd00::1]"]
            {
                let (answer, requests) = call(&format!("{scheme}://{private}/a")).await;
                assert_eq!(
                    answer,
                    Err(TransportError::new(TransportErrorKind::NotPublic, SendProgress::NothingSent)),
                    "{private}"
                );
                assert!(requests.is_empty(), "{private} was asked of the proxy {host}");
            }
        }
    }
}

/// A transport that records the deadline of each request.
#[derive(Clone, Debug, Default)]
struct Deadlines(Arc<Mutex<Vec<Option<u64>>>>);

#[async_trait]
impl Transport for Deadlines {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        self.0.lock().unwrap().push(request.extensions().get::<Deadline>().map(|deadline| deadline.0.as_secs()));
        Ok(Response::new(Body::empty()))
    }
}

#[tokio::test]
async fn upload_deadline_grows_with_file_size() {
    let deadlines = Deadlines::default();
    let endpoint = endpoint(BASE, &Context::new().transport(deadlines.clone()));
    let upload = |body| endpoint.request(Method::POST, "/files", HeaderMap::new(), body).unwrap();
    endpoint.call(upload(Body::from(vec![7; 1 << 10]))).await.unwrap();
    endpoint.call(upload(Body::stream(stream::empty().boxed(), Some(16 << 20)))).await.unwrap();
    endpoint.send(upload(Body::stream(stream::empty().boxed(), None))).await.unwrap();
    let mut own = upload(Body::from(vec![7; 1 << 20]));
    own.extensions_mut().insert(Deadline(Duration::from_secs(7)));
    endpoint.call(own).await.unwrap();
    // The transport's default, 30 s plus 16 MiB at 64 KiB/s, the maximum, and the one set explicitly.
    assert_eq!(*deadlines.0.lock().unwrap(), [None, Some(286), Some(1_630), Some(7)]);
}

#[tokio::test]
async fn credential_is_limited_to_its_path() {
    let limited = || {
        credential().limited_to(|file: &FileUrl<'_>| match file.path() {
            "/files/1" if file.query().is_none() => Access::Credential,
            "/open/1" => Access::Anonymous,
            _ => Access::Refused,
        })
    };
    let host = "https://lookaside.example";
    let own = |path: &str| format!("{host}{path}");
    for (first, redirects, credentials) in [
        ("/files/1", vec![], vec![true]),
        ("/open/1", vec![], vec![false]),
        ("/files/1", vec!["/open/1"], vec![true, false]),
        ("/files/1", vec!["https://eu.cdn.example/%2e%2e/any?where"], vec![true, false]),
    ] {
        let script: Vec<_> = redirects.iter().copied().map(Some).chain([None]).collect();
        let transport = Scripted::new(script);
        transport.endpoint(BASE).fetch(&own(first), &HOSTS, limited(), limits(4)).await.unwrap();
        assert_eq!(transport.credentials(), credentials, "{first} {redirects:?}");
    }
    for path in [
        "/account",
        "/files/2",
        "/files/1?x=1",
        "/files/1/",
        "//files/1",
        "/files//1",
        "/files/./1",
        "/files/2/../1",
        "/files/1/../../account",
        "/files/1/%2e%2e/%2E%2E/account",
        "/files/%2e",
        "/files%2f1",
        "/files/1/..%5c..%5caccount",
        "/files/%252e%252e/account",
        "/FILES/1",
    ] {
        let refused = |error: Error| {
            assert_media_error(&error, ErrorKind::Forbidden);
            assert_eq!(error.field(), Some("media.url"), "{path}");
        };
        let transport = Scripted::new([None]);
        refused(transport.endpoint(BASE).fetch(&own(path), &HOSTS, limited(), limits(4)).await.unwrap_err());
        assert!(transport.requests().is_empty(), "{path}");
        // As a redirect to the same host.
        for target in [own(path), path.to_owned()] {
            let transport = Scripted::new([Some(&*target.leak()), None]);
            let fetched = transport.endpoint(BASE).fetch(&own("/files/1"), &HOSTS, limited(), limits(4)).await;
            // `//files/1` is another host.
            refused(fetched.unwrap_err());
            assert_eq!(transport.urls(), [own("/files/1")], "{path}");
        }
    }
}

/// The peak memory of this process in KiB, if the system reports it.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Checks that the peak has hardly grown since `before`.
fn assert_peak_is_stable(before: Option<usize>) {
    let Some((before, after)) = before.zip(peak()) else {
        return eprintln!("SKIPPED: this system does not say how much memory a process held");
    };
    println!("the peak grew by {} KiB", after - before);
    assert!(after - before < 32 << 10, "the peak grew by {} KiB", after - before);
}

/// The maximum in flight: the system's socket buffers and a little of ours.
const IN_FLIGHT: usize = 16 << 20;

#[test]
fn large_download_is_streamed() {
    if !is_child() {
        let (passed, output) = run_in_child("media::large_download_is_streamed", &[]);
        println!("{output}");
        return assert!(passed);
    }
    block_on(2, async {
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let address = listen(move |mut socket, _| {
            let count = count.clone();
            async move {
                _ = socket.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await;
                for _ in 0..LARGE / PIECE {
                    socket.write_all(&[7; PIECE]).await.unwrap();
                    count.fetch_add(PIECE, Ordering::SeqCst);
                }
            }
        })
        .await;
        let before = peak();
        let mut stream = fetched(address, limits(LARGE as u64)).await.unwrap();
        let (mut read, mut largest, mut ahead) = (0, 0, 0);
        while let Some(piece) = stream.chunk().await {
            let piece = piece.unwrap();
            read += piece.len();
            largest = largest.max(piece.len());
            ahead = ahead.max(written.load(Ordering::SeqCst).saturating_sub(read));
        }
        assert_eq!(read, LARGE);
        assert!(largest <= 1 << 20, "a piece of {largest} bytes");
        assert!(ahead <= IN_FLIGHT, "{ahead} bytes in flight");
        print!("{read} bytes in; largest piece {largest}, most in flight {ahead}; ");
        assert_peak_is_stable(before);
    });
}

/// A chunk of a file that is counted while held.
struct Held(Vec<u8>, Arc<[AtomicUsize; 2]>);

impl Held {
    /// Returns a chunk and updates the counts of bytes held, current and maximum.
    fn piece(len: usize, counts: &Arc<[AtomicUsize; 2]>) -> Bytes {
        let held = counts[0].fetch_add(len, Ordering::SeqCst) + len;
        counts[1].fetch_max(held, Ordering::SeqCst);
        Bytes::from_owner(Self(vec![7; len], counts.clone()))
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1[0].fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

/// A listener that accepts one upload per connection. Reports the head of each, the length of its body, and `true` if
/// it was complete.
async fn upload_server() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<(String, usize, bool)>) {
    let (sender, uploads) = tokio::sync::mpsc::unbounded_channel();
    let address = listen(move |mut socket, head| {
        let sender = sender.clone();
        async move {
            let len = head.split("content-length: ").nth(1).map(|rest| rest.lines().next().unwrap().parse().unwrap());
            let (mut piece, mut read, mut end) = (vec![0; PIECE], 0, Vec::new());
            let whole = loop {
                if len == Some(read) || (len.is_none() && end.ends_with(b"\r\n0\r\n\r\n")) {
                    break true;
                }
                match socket.read(&mut piece).await {
                    Ok(n @ 1..) => {
                        read += n;
                        end = [&end[end.len().saturating_sub(7)..], &piece[..n]].concat();
                    }
                    _ => break false,
                }
            };
            sender.send((head, read, whole)).unwrap();
            _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            _ = socket.shutdown().await;
            _ = socket.read(&mut [0; 1]).await;
        }
    })
    .await;
    (address, uploads)
}

async fn upload(address: SocketAddr, media: MediaStream) -> Result<Answer> {
    let endpoint = local(address);
    let mut request = endpoint.request(Method::POST, "/media", HeaderMap::new(), media.into_body())?;
    request.extensions_mut().insert(Deadline(AMPLE));
    endpoint.call(request).await
}

#[test]
fn large_upload_is_streamed() {
    if !is_child() {
        let (passed, output) = run_in_child("media::large_upload_is_streamed", &[]);
        println!("{output}");
        return assert!(passed);
    }
    block_on(2, async {
        let (address, mut uploads) = upload_server().await;
        let counts = Arc::<[AtomicUsize; 2]>::default();
        let pieces = {
            let counts = counts.clone();
            stream::iter(0..LARGE / PIECE).map(move |_| Ok(Held::piece(PIECE, &counts)))
        };
        let media = MediaStream::from_stream("video/mp4", Box::pin(pieces), Some(LARGE as u64));
        let before = peak();
        upload(address, media).await.unwrap();
        let (head, read, whole) = uploads.recv().await.unwrap();
        assert!(head.contains(&format!("\r\n{CONTENT_LENGTH}: {LARGE}\r\n")), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        assert_eq!((read, whole), (LARGE, true));
        let [held, max] = [&counts[0], &counts[1]].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(held, 0);
        assert!(max <= 2 << 20, "{max} bytes were held at once");
        print!("{LARGE} bytes out; never more than {max} held; ");
        assert_peak_is_stable(before);
    });
}

#[tokio::test]
async fn upload_states_its_length() {
    let (address, mut uploads) = upload_server().await;
    let pieces = || Box::pin(stream::iter(["ab", "cde"]).map(|piece| Ok(Bytes::from(piece))));

    upload(address, MediaStream::from_stream("a/b", pieces(), Some(5))).await.unwrap();
    let (head, read, _) = uploads.recv().await.unwrap();
    assert_eq!((head.contains("content-length: 5\r\n"), read), (true, 5));

    upload(address, MediaStream::from_bytes("a/b", "abcde")).await.unwrap();
    let (head, read, _) = uploads.recv().await.unwrap();
    assert_eq!((head.contains("content-length: 5\r\n"), read), (true, 5));

    upload(address, MediaStream::from_stream("a/b", pieces(), None)).await.unwrap();
    let (head, _, whole) = uploads.recv().await.unwrap();
    assert_eq!((head.contains("transfer-encoding: chunked\r\n"), whole), (true, true));

    // Bytes read earlier to detect the type are not counted again.
    let mut begun = MediaStream::from_stream("a/b", pieces(), Some(5));
    assert_eq!(begun.chunk().await.unwrap().unwrap(), "ab");
    assert_eq!(begun.len(), Some(3));
    upload(address, begun).await.unwrap();
    let (head, read, _) = uploads.recv().await.unwrap();
    assert_eq!((head.contains("content-length: 3\r\n"), read), (true, 3));
}

#[tokio::test]
async fn failed_upload_is_not_taken_for_whole() {
    let (address, mut uploads) = upload_server().await;
    let broken = || stream::iter([Ok(Bytes::from("ab")), Err(Error::new(ErrorKind::Unexpected, CANARY))]);
    for len in [Some(5), None] {
        let error = upload(address, MediaStream::from_stream("a/b", Box::pin(broken()), len)).await.unwrap_err();
        assert_media_error(&error, ErrorKind::Unexpected);
        assert!(!uploads.recv().await.unwrap().2, "a broken upload passed for a whole one");
    }
    // Over the cap, or with a hash mismatch.
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 1000])));
    let capped = MediaStream::from_stream("a/b", Box::pin(endless), None).capped(100_000).unwrap();
    assert_media_error(&upload(address, capped).await.unwrap_err(), ErrorKind::Unexpected);
    assert!(!uploads.recv().await.unwrap().2);
    let forged = MediaStream::from_stream("a/b", Box::pin(stream::iter([Ok(Bytes::from("ab"))])), None);
    assert_media_error(
        &upload(address, forged.hashed(Digest::sha256(b"cd"))).await.unwrap_err(),
        ErrorKind::Unexpected,
    );
    assert!(!uploads.recv().await.unwrap().2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_streams_from_one_gateway_to_another() {
    const LEN: usize = 20 << 20;
    let from = listen(|mut socket, _| async move {
        _ = socket.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n").as_bytes()).await;
        for _ in 0..LEN / PIECE {
            _ = socket.write_all(&[7; PIECE]).await;
        }
    })
    .await;
    let (to, mut uploads) = upload_server().await;
    let media = fetched(from, limits(LEN as u64)).await.unwrap();
    upload(to, media).await.unwrap();
    let (head, read, whole) = uploads.recv().await.unwrap();
    assert!(head.contains(&format!("content-length: {LEN}\r\n")), "{head}");
    assert_eq!((read, whole), (LEN, true));
}
