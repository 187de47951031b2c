//! Outcomes of sends over a misbehaving connection, compared with what the listener read.
//!
//! Every listener is a raw socket on loopback, so that it can count bytes, stop in the middle of a message, and break
//! the connection in ways that an HTTP server would not. `CIVIC_SEED=n` replays one run of the seeded test,
//! `CIVIC_RUNS=n` sets the number of runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use civic_messaging::adapter::{Answer, Endpoint, VendorError, bearer};
use civic_messaging::error::ErrorClass;
use civic_messaging::transport::{
    Body, Deadline, ReqwestTransport, SendProgress, Transport, TransportError, TransportErrorKind,
};
use civic_messaging::{Context, Error, ErrorKind, Outcome, Secret, async_trait};
use futures_util::future::join_all;
use futures_util::stream;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::{Random, block_on, is_child, run_in_child, seeds};

/// The number of attempts per connection failure.
const TIMES: usize = 40;

/// A time-out that no passing test reaches.
const AMPLE: Duration = Duration::from_secs(20);

/// A secret in the URL, headers, body and every response, which must never be shown.
const CANARY: &str = "canary-7Q4Z";

const CLASSES: &[(&str, ErrorClass)] =
    &[("not-taken", ErrorClass::new(ErrorKind::Unavailable).retry(Some(Duration::from_secs(3))).not_accepted())];

fn vendor_error(answer: &Answer) -> VendorError<'_> {
    #[derive(Deserialize)]
    struct ErrorBody<'a> {
        code: &'a str,
    }
    serde_json::from_slice::<ErrorBody<'_>>(&answer.body).map(|error| VendorError::new(error.code)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Reply {
    id: String,
}

fn quick() -> ReqwestTransport {
    ReqwestTransport::from_settings(|builder| builder.no_proxy().connect_timeout(Duration::from_millis(200)))
}

/// Time-outs that a busy machine does not reach by itself.
fn patient() -> ReqwestTransport {
    ReqwestTransport::from_settings(|builder| builder.no_proxy().connect_timeout(AMPLE).timeout(AMPLE))
}

fn endpoint(base: &str, transport: impl Transport) -> Endpoint {
    let context = Context::new().transport(transport);
    Endpoint::new("double", base.parse().unwrap(), &context, CLASSES, vendor_error)
}

fn at(address: SocketAddr, transport: impl Transport) -> Endpoint {
    endpoint(&format!("http://{address}/{CANARY}"), transport)
}

/// A request that carries its message id, by which the listener counts.
fn request(endpoint: &Endpoint, id: &str, body: Body) -> Request<Body> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer(&Secret::new(format!("{CANARY}-token")).unwrap()).unwrap());
    headers.insert("x-canary", HeaderValue::from_static(CANARY));
    headers.insert("x-message", id.parse().unwrap());
    endpoint.request(Method::POST, &format!("/messages?q={CANARY}"), headers, body).unwrap()
}

fn text(id: &str) -> Body {
    Body::from(format!("{CANARY} {id}"))
}

/// A body that records whether it was polled.
fn watched_body() -> (Body, Arc<AtomicBool>) {
    let polled = Arc::new(AtomicBool::new(false));
    let mut piece = Some(Bytes::from_static(b"canary-7Q4Z body"));
    let noted = polled.clone();
    let stream = stream::poll_fn(move |_| {
        noted.store(true, Ordering::SeqCst);
        Poll::Ready(piece.take().map(Ok))
    });
    (Body::stream(Box::pin(stream), Some(16)), polled)
}

fn assert_masked(error: &Error) {
    let source = std::error::Error::source(error);
    let own = source.and_then(|source| source.downcast_ref::<TransportError>());
    assert_eq!(source.is_some(), own.is_some(), "an error of another crate is inside");
    assert!(own.is_none_or(|own| std::error::Error::source(own).is_none()), "an error of another crate is inside");
    let inside = own.map(|own| format!("{own}\n{own:?}")).unwrap_or_default();
    for shown in [error.to_string(), format!("{error:?}"), format!("{error:#?}"), inside] {
        assert!(!shown.contains("7Q4Z") && !shown.contains("127.0.0.1") && !shown.contains("messages"), "{shown}");
    }
}

/// Records the transport's errors.
#[derive(Clone, Debug)]
struct Spy {
    inner: ReqwestTransport,
    errors: Arc<Mutex<Vec<TransportError>>>,
}

impl Spy {
    fn on(inner: ReqwestTransport) -> Self {
        Self { inner, errors: Arc::default() }
    }
}

#[async_trait]
impl Transport for Spy {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let answer = self.inner.call(request).await;
        if let Err(error) = &answer {
            self.errors.lock().unwrap().push(*error);
        }
        answer
    }
}

/// Sends [`TIMES`] messages that cannot get through, and checks that each is `NotSent`.
async fn assert_not_sent(base: &str, transport: ReqwestTransport, deadline: Duration, faults: &[TransportErrorKind]) {
    let spy = Spy::on(transport);
    let endpoint = endpoint(base, spy.clone());
    join_all((0..TIMES).map(|n| {
        let endpoint = &endpoint;
        async move {
            let (body, polled) = watched_body();
            let mut request = request(endpoint, &n.to_string(), body);
            request.extensions_mut().insert(Deadline(deadline));
            let error = endpoint.send(request).await.unwrap_err();
            assert_eq!((error.outcome(), error.kind()), (Outcome::NotSent, ErrorKind::Unavailable), "{error:?}");
            assert!(error.is_retryable(), "{error:?}");
            assert!(!polled.load(Ordering::SeqCst), "the body was asked for");
            assert_masked(&error);
        }
    }))
    .await;
    let errors = spy.errors.lock().unwrap();
    assert_eq!(errors.len(), TIMES);
    for error in &*errors {
        assert_eq!(error.progress, SendProgress::NothingSent);
        assert!(faults.contains(&error.kind), "{error:?}");
    }
    println!("{TIMES} of {TIMES} not sent and retryable, {:?}", errors[0].kind);
}

/// A reserved port without a listener.
fn unused_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn refused_connection_is_not_sent() {
    let (_socket, address) = unused_port();
    assert_not_sent(&format!("http://{address}"), quick(), AMPLE, &[TransportErrorKind::Connect]).await;
}

#[test]
fn unresolvable_name_is_not_sent() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Without a reachable name server the system's resolver times out later than we do.
    let faults = [TransportErrorKind::Name, TransportErrorKind::TimedOut];
    runtime.block_on(assert_not_sent("https://canary-7q4z.invalid", quick(), Duration::from_millis(300), &faults));
    runtime.shutdown_background();
}

/// A listener with a full backlog, which accepts no more connections.
async fn full_listener() -> Option<(TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let (mut waiting, mut late) = (Vec::new(), 0);
    // One late connection may be due to the machine.
    while late < 4 {
        match tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            Ok(_) if waiting.len() == 64 => return None,
            Ok(stream) => {
                waiting.push(stream.ok()?);
                late = 0;
            }
            Err(_) => late += 1,
        }
    }
    Some((listener, waiting))
}

#[tokio::test]
async fn connect_timeout_is_not_sent() {
    let Some((listener, _waiting)) = full_listener().await else {
        eprintln!("SKIPPED: this system takes connections past a full queue, so none can be made to hang");
        return;
    };
    let base = format!("http://{}", listener.local_addr().unwrap());
    assert_not_sent(&base, quick(), AMPLE, &[TransportErrorKind::TimedOut]).await;
    // The same with the deadline of the exchange.
    assert_not_sent(&base, patient(), Duration::from_millis(150), &[TransportErrorKind::TimedOut]).await;
}

/// A failure of the TLS handshake.
#[derive(Clone, Copy, Debug)]
enum BadTls {
    Alert,
    CloseAfterHello,
    CloseAtOnce,
    Garbage,
    PlainHttp,
    Reset,
    Stall,
}

#[tokio::test]
async fn failed_tls_handshake_is_not_sent() {
    use BadTls::{Alert, CloseAfterHello, CloseAtOnce, Garbage, PlainHttp, Reset, Stall};
    for bad in [Alert, CloseAfterHello, CloseAtOnce, Garbage, PlainHttp, Reset, Stall] {
        let gateway = FakeGateway::new(move |mut connection| async move {
            let socket = &mut connection.socket;
            let mut hello = [0; 4096];
            let answer: &[u8] = match bad {
                Alert => b"\x15\x03\x03\x00\x02\x02\x28",
                Garbage => b"\x00\xFF canary-7Q4Z is not TLS at all",
                PlainHttp => b"HTTP/1.1 400 canary-7Q4Z\r\nContent-Length: 0\r\n\r\n",
                CloseAtOnce => return,
                Reset => return socket.set_zero_linger().unwrap(),
                CloseAfterHello | Stall => b"",
            };
            _ = socket.read(&mut hello).await;
            _ = socket.write_all(answer).await;
            if matches!(bad, Stall) {
                while socket.read(&mut hello).await.is_ok_and(|len| len > 0) {}
            }
        })
        .await;
        let faults: &[TransportErrorKind] = match bad {
            Alert | Garbage | PlainHttp => &[TransportErrorKind::Tls],
            CloseAfterHello | CloseAtOnce | Reset => &[TransportErrorKind::Connect, TransportErrorKind::Tls],
            Stall => &[TransportErrorKind::TimedOut],
        };
        let transport = trusting().with_times(if matches!(bad, Stall) { Duration::from_millis(200) } else { AMPLE });
        print!("{bad:?}: ");
        assert_not_sent(&format!("https://{}", gateway.address), transport, AMPLE, faults).await;
        // Connections that timed out before they were accepted are counted too.
        assert_eq!(gateway.finish().await.0, TIMES, "{bad:?}: each was tried once");
    }
}

/// A self-signed certificate for localhost and 127.0.0.1, valid from 2020 to 2120, and its key.
const CERTIFICATE: &str = "MIIBZDCCAQqgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEy\
    MDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPiCx4lXuArsGuHpjR18+5T9JxzWyl5W\
    kqkcMKT7fKkTD9QDp4MqlM3zkrPvsA6k+/O93abD0LWT0GehVDZef9SjSzBJMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAMBgNVHRMBAf8E\
    AjAAMB0GA1UdDgQWBBR5GH+WfyEdVjxUHuYyxepZEe8HYTAKBggqhkjOPQQDAgNIADBFAiARNbFiPZQjVsQz0K7mgQ8Eo+XYJFh2eGBxLDWF9IJw\
    hAIhAOhZkSdVk2yWkUcikNkSvWYEFQ0Z50UdiPB3IXVk7zRu";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqCJe0krXU/6DwVMptq2/m/eX0egIFth0W/jwriOrsBihRANCAAT4\
    gseJV7gK7Brh6Y0dfPuU/Scc1speVpKpHDCk+3ypEw/UA6eDKpTN85Kz77AOpPvzvd2mw9C1k9BnoVQ2Xn/U";

fn certificate() -> CertificateDer<'static> {
    BASE64_STANDARD.decode(CERTIFICATE).unwrap().into()
}

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings that trust that certificate.
struct Trusting(rustls::ClientConfig);

fn trusting() -> Trusting {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(ring()).with_safe_default_protocol_versions().unwrap();
    Trusting(config.with_root_certificates(roots).with_no_client_auth())
}

impl Trusting {
    fn with_times(self, connect: Duration) -> ReqwestTransport {
        let Self(config) = self;
        ReqwestTransport::from_settings(move |builder| {
            builder.no_proxy().connect_timeout(connect).tls_backend_preconfigured(config.clone())
        })
    }
}

/// An HTTPS server with that certificate on its own thread. Counts handshakes started and requests read.
fn https_server() -> (SocketAddr, Arc<[AtomicUsize; 2]>) {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(BASE64_STANDARD.decode(KEY).unwrap()));
    let config = rustls::ServerConfig::builder_with_provider(ring()).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate()], key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counted = counts.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            counted[0].fetch_add(1, Ordering::SeqCst);
            let mut socket = socket.unwrap();
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut socket);
            let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(len @ 1..) = tls.read(&mut piece) {
                bytes.extend_from_slice(&piece[..len]);
                if whole(&bytes) {
                    counted[1].fetch_add(1, Ordering::SeqCst);
                    _ = tls.write_all(GOOD);
                    break;
                }
            }
            tls.conn.send_close_notify();
            _ = tls.conn.complete_io(tls.sock);
        }
    });
    (address, counts)
}

#[tokio::test]
async fn untrusted_certificate_is_not_sent() {
    let (address, counts) = https_server();
    let base = format!("https://{address}");
    let no_time_out = ReqwestTransport::from_settings(|builder| builder.no_proxy().connect_timeout(AMPLE));
    assert_not_sent(&base, no_time_out, AMPLE, &[TransportErrorKind::Tls]).await;
    assert_eq!(counts[1].load(Ordering::SeqCst), 0);

    // A client that trusts the certificate succeeds, so it was the certificate that stopped the others.
    let endpoint = endpoint(&base, trusting().with_times(AMPLE));
    let reply: Reply = endpoint.send(request(&endpoint, "1", text("1"))).await.unwrap().json().unwrap();
    assert_eq!((reply.id.as_str(), counts[1].load(Ordering::SeqCst)), ("a1", 1));
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\n{\"id\":\"a1\"}";
const GOOD_AND_STAY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"id\":\"a1\"}";

/// Returns `true` if this is a complete request.
fn whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
    let body = &bytes[end + 4..];
    match head.split("content-length: ").nth(1) {
        Some(rest) => body.len() >= rest.lines().next().unwrap().parse().unwrap(),
        None if head.contains("transfer-encoding: chunked") => body.ends_with(b"\r\n0\r\n\r\n"),
        None => true,
    }
}

/// The bytes that a listener read of one request.
struct ReadRequest {
    bytes: Vec<u8>,
    whole: bool,
}

impl ReadRequest {
    /// Reads a request, up to `limit` bytes.
    async fn from(socket: &mut TcpStream, limit: usize) -> Self {
        let mut received = Self { bytes: Vec::new(), whole: false };
        while !received.whole && received.bytes.len() < limit {
            let mut piece = vec![0; (limit - received.bytes.len()).min(64 * 1024)];
            match socket.read(&mut piece).await {
                Ok(len @ 1..) => received.bytes.extend_from_slice(&piece[..len]),
                _ => break,
            }
            received.whole = whole(&received.bytes);
        }
        received
    }

    fn head(&self) -> String {
        String::from_utf8_lossy(&self.bytes).split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
    }

    fn id(&self) -> String {
        let head = self.head();
        let rest = head.split("x-message: ").nth(1).unwrap_or_default();
        rest.lines().next().unwrap_or_default().to_owned()
    }
}

/// The listener's action once it has read its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// A complete 200.
    Good,
    /// A complete 200, a byte at a time.
    Drip,
    /// 100 and 103, then a complete 200.
    GoodAfterInformational,
    /// A 200 that is not JSON.
    NotJson,
    /// A 200 with a `Content-Length` below the length of its body.
    ShortLength,
    /// A 200 cut off in its body by a close or a reset.
    CutBody { reset: bool },
    /// A 200 cut off in its head by a close or a reset.
    CutHead { reset: bool },
    /// A 200 that stalls in its body.
    StallInBody,
    /// A 200 with an endless body, a byte at a time.
    EndlessDrip,
    /// Closes the connection without a response.
    Close,
    /// Resets the connection without a response.
    Reset,
    /// Never responds.
    Stall,
    /// Bytes that are not HTTP.
    Garbage,
    /// An informational response, then a close.
    Informational(u16),
    /// A status with a body.
    Status(u16),
    /// A status without the announced body.
    CutStatus(u16),
    /// A status with a code documented as "not accepted".
    NotTaken(u16),
}

const ACTS: &[Act] = &[
    Act::Good,
    Act::Drip,
    Act::GoodAfterInformational,
    Act::NotJson,
    Act::ShortLength,
    Act::CutBody { reset: true },
    Act::CutBody { reset: false },
    Act::CutHead { reset: true },
    Act::CutHead { reset: false },
    Act::StallInBody,
    Act::EndlessDrip,
    Act::Close,
    Act::Reset,
    Act::Stall,
    Act::Garbage,
    Act::Informational(100),
    Act::Informational(101),
    Act::Informational(103),
    Act::Informational(199),
    Act::Status(301),
    Act::Status(303),
    Act::Status(304),
    Act::Status(307),
    Act::Status(400),
    Act::Status(401),
    Act::Status(402),
    Act::Status(403),
    Act::Status(404),
    Act::Status(408),
    Act::Status(413),
    Act::Status(429),
    Act::Status(500),
    Act::Status(501),
    Act::Status(502),
    Act::Status(503),
    Act::Status(504),
    Act::Status(600),
    Act::Status(799),
    Act::Status(999),
    Act::CutStatus(301),
    Act::CutStatus(400),
    Act::CutStatus(401),
    Act::CutStatus(404),
    Act::CutStatus(408),
    Act::CutStatus(500),
    Act::CutStatus(503),
    Act::NotTaken(408),
    Act::NotTaken(500),
    Act::NotTaken(503),
];

impl Act {
    /// Returns `true` if it lasts until the client times out.
    fn is_endless(self) -> bool {
        matches!(self, Self::Stall | Self::StallInBody | Self::EndlessDrip)
    }

    /// The expected result for a client that has sent the whole request.
    fn means(self) -> Result<(), (Outcome, Option<ErrorKind>, bool)> {
        use Outcome::{Rejected, Unknown};
        match self {
            Self::Good | Self::Drip | Self::GoodAfterInformational => Ok(()),
            Self::NotJson | Self::ShortLength => Err((Unknown, Some(ErrorKind::Unexpected), false)),
            Self::NotTaken(_) => Err((Rejected, Some(ErrorKind::Unavailable), true)),
            Self::Status(status) | Self::CutStatus(status) => Err(match status {
                301..=307 => (Rejected, Some(ErrorKind::Config), false),
                401 => (Rejected, Some(ErrorKind::Unauthenticated), false),
                402 => (Rejected, Some(ErrorKind::Account), false),
                403 => (Rejected, Some(ErrorKind::Forbidden), false),
                404 => (Rejected, Some(ErrorKind::NotFound), false),
                413 => (Rejected, Some(ErrorKind::TooLarge), false),
                429 => (Rejected, Some(ErrorKind::RateLimited), true),
                400 => (Rejected, Some(ErrorKind::Rejected), false),
                408 | 500..=504 => (Unknown, Some(ErrorKind::Unavailable), false),
                _ => (Unknown, Some(ErrorKind::Unexpected), false),
            }),
            _ => Err((Unknown, None, false)),
        }
    }

    async fn play(self, socket: &mut TcpStream, mut done: watch::Receiver<Option<SocketAddr>>) {
        let response = |status: u16, body: &str| {
            format!(
                "HTTP/1.1 {status} {CANARY}\r\nConnection: close\r\nX-Canary: {CANARY}\r\nRetry-After: 7\r\n\
                 Location: http://{}/{CANARY}\r\nContent-Length: {}\r\n\r\n{body}",
                socket.local_addr().unwrap(),
                body.len()
            )
        };
        let refusal = format!("{{\"message\":\"{CANARY}\",\"code\":\"{CANARY} +447700900123\"}}");
        let good = response(200, "{\"id\":\"a1\"}");
        let cut = |text: &str, left_out: usize| text.as_bytes()[..text.len() - left_out].to_vec();
        let answer: Vec<u8> = match self {
            Self::Good => good.into(),
            Self::GoodAfterInformational => {
                format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 {CANARY}\r\nLink: {CANARY}\r\n\r\n{good}").into()
            }
            Self::NotJson => response(200, &format!("<html>{CANARY}</html>")).into(),
            Self::ShortLength => response(200, "{\"id\":\"a1\"}").replace("Length: 11", "Length: 5").into(),
            // The received part parses but is incomplete.
            Self::CutBody { .. } | Self::StallInBody => cut(&response(200, "{\"id\":\"a1\"}        "), 4),
            Self::CutHead { .. } => cut(&good, 25),
            Self::Garbage => format!("\0\u{1F}{CANARY} is not HTTP\r\n\r\n").into(),
            Self::Informational(status) => format!("HTTP/1.1 {status} {CANARY}\r\nX-Canary: {CANARY}\r\n\r\n").into(),
            Self::Status(304) => response(304, "").replace("Content-Length: 0\r\n", "").into(),
            Self::Status(status) => response(status, &refusal).into(),
            Self::CutStatus(status) => cut(&response(status, &refusal), 10),
            Self::NotTaken(status) => response(status, "{\"code\":\"not-taken\"}").into(),
            Self::Drip => {
                for byte in good.as_bytes() {
                    if socket.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                Vec::new()
            }
            Self::EndlessDrip => {
                _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                let mut drops = tokio::time::interval(Duration::from_millis(5));
                while done.borrow().is_none() && socket.write_all(b"1\r\n{\r\n").await.is_ok() {
                    drops.tick().await;
                }
                return;
            }
            Self::Close | Self::Reset | Self::Stall => Vec::new(),
        };
        _ = socket.write_all(&answer).await;
        match self {
            Self::Reset | Self::CutBody { reset: true } | Self::CutHead { reset: true } => {
                socket.set_zero_linger().unwrap();
                return;
            }
            Self::Stall | Self::StallInBody => {}
            _ => _ = socket.shutdown().await,
        }
        // Closing with unread data resets the connection and can discard the response: wait until the client has read
        // it.
        _ = done.wait_for(Option::is_some).await;
    }
}

/// The requests of one message over all its connections.
#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    bytes: usize,
    whole: usize,
}

/// One message with one seeded fault.
#[derive(Debug)]
struct Run {
    act: Act,
    seen: Seen,
    sent: Result<(), Error>,
    calling: bool,
}

impl Run {
    async fn of(seed: u64, listener: &TcpListener, endpoint: &Endpoint) -> Self {
        let random = Random::new(seed);
        let act = *random.pick(ACTS);
        let len = [1, 200, 5_000, 150_000][random.index(4)];
        let limit = match random.index(7) {
            0 => random.index(2),
            1 => random.index(350),
            2 => random.index(350 + len),
            _ => usize::MAX,
        };
        let body: Bytes = CANARY.bytes().cycle().take(len).collect();
        let body = match random.index(4) {
            0 => {
                let pieces: Vec<_> = body.chunks(len.div_ceil(3)).map(Bytes::copy_from_slice).map(Ok).collect();
                Body::stream(Box::pin(stream::iter(pieces)), Some(len as u64))
            }
            1 => {
                let pieces: Vec<_> = body.chunks(len.div_ceil(3)).map(Bytes::copy_from_slice).map(Ok).collect();
                Body::stream(Box::pin(stream::iter(pieces)), None)
            }
            _ => body.to_vec().into(),
        };
        let calling = random.below(8) == 0;
        let mut request = request(endpoint, "1", body);
        let time = if act.is_endless() { Duration::from_millis(60 + random.next() % 60) } else { AMPLE };
        request.extensions_mut().insert(Deadline(time));

        let (done, finished) = watch::channel(None);
        let client = async {
            let answer = if calling { endpoint.call(request).await } else { endpoint.send(request).await };
            let sent = answer.and_then(|answer| answer.json::<Reply>()).map(|reply| assert_eq!(reply.id, "a1"));
            // Connects once more, behind every other connection in the backlog.
            let last = TcpSocket::new_v4().unwrap();
            last.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            done.send_replace(Some(last.local_addr().unwrap()));
            _ = last.connect(listener.local_addr().unwrap()).await.unwrap();
            sent
        };
        let server = async {
            let mut connections = JoinSet::new();
            loop {
                let (mut socket, peer) = listener.accept().await.unwrap();
                if *finished.borrow() == Some(peer) {
                    break;
                }
                let finished = finished.clone();
                connections.spawn(async move {
                    let received = ReadRequest::from(&mut socket, limit).await;
                    act.play(&mut socket, finished).await;
                    received
                });
            }
            let mut seen = Seen::default();
            while let Some(received) = connections.join_next().await {
                let received = received.unwrap();
                seen.connections += 1;
                seen.bytes += received.bytes.len();
                seen.whole += usize::from(received.whole);
            }
            seen
        };
        let (sent, seen) = tokio::join!(client, server);
        Self { act, seen, sent, calling }
    }

    /// The rules that the result breaks.
    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut must = |holds: bool, rule: &str| {
            if !holds {
                breaches.push(rule.to_owned());
            }
        };
        must(self.seen.whole <= 1, "a message is sent once");
        must(self.seen.connections <= 1, "over one connection");
        let error = match &self.sent {
            Ok(()) => {
                if self.seen.whole == 1 {
                    must(self.act.means().is_ok(), "what was not accepted is an error");
                }
                return breaches;
            }
            Err(error) => error,
        };
        assert_masked(error);
        must(error.gateway() == Some("double"), "an error names its gateway");
        if self.calling {
            must(error.outcome() == Outcome::NotSent, "a call that is no send leaves no doubt about a message");
            return breaches;
        }
        match error.outcome() {
            Outcome::NotSent => {
                must(self.seen.bytes == 0, "nothing of a message that was not sent is read");
                must(error.is_retryable(), "what was not sent can be sent again");
            }
            Outcome::Unknown => must(!error.is_retryable(), "an unknown outcome is not retried"),
            Outcome::Rejected => must(error.status().is_some(), "a rejection has a status"),
        }
        if self.seen.whole == 1 {
            match self.act.means() {
                Ok(()) => must(false, "what was accepted is no error"),
                Err((outcome, kind, retryable)) => {
                    must(error.outcome() == outcome, "the outcome");
                    must(kind.is_none_or(|kind| error.kind() == kind), "the kind");
                    must(error.is_retryable() == retryable, "whether to try again");
                }
            }
            if let Act::Status(429 | 503) = self.act {
                must(error.retry_after() == Some(Duration::from_secs(7)), "the wait that was asked for");
            }
        }
        breaches
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcome_never_understates_what_the_server_read() {
    const WORKERS: u64 = 48;
    let seeds = seeds(2_000);
    println!("seeds {seeds:?}; CIVIC_SEED=n replays one");
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let mine: Vec<u64> = seeds.clone().filter(|seed| seed % WORKERS == worker).collect();
        workers.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = at(listener.local_addr().unwrap(), patient());
            let mut runs = Vec::new();
            for seed in mine {
                let run = tokio::time::timeout(AMPLE * 2, Run::of(seed, &listener, &endpoint)).await;
                runs.push((seed, run.unwrap_or_else(|_| panic!("CIVIC_SEED={seed} hangs"))));
            }
            runs
        });
    }
    let (mut tally, mut broken) = (BTreeMap::<_, usize>::new(), Vec::new());
    while let Some(runs) = workers.join_next().await {
        for (seed, run) in runs.unwrap() {
            let breaches = run.breaches();
            if !breaches.is_empty() {
                broken.push(format!("CIVIC_SEED={seed}: {breaches:?}: {:?}, {:?}, {:?}", run.act, run.seen, run.sent));
            }
            let read = match run.seen {
                Seen { whole: 1.., .. } => "all read",
                Seen { bytes: 1.., .. } => "some read",
                _ => "none read",
            };
            let outcome = match &run.sent {
                _ if run.calling => "(call)".to_owned(),
                Ok(()) => "Accepted".to_owned(),
                Err(error) => format!("{:?}", error.outcome()),
            };
            *tally.entry((read, outcome)).or_default() += 1;
        }
    }
    println!("{tally:#?}");
    assert!(
        broken.is_empty(),
        "{} runs break a rule, such as\n{}",
        broken.len(),
        broken[..broken.len().min(10)].join("\n")
    );
}

/// A listener for many messages, with a task per connection. Counts by the id in a message's head.
struct FakeGateway {
    address: SocketAddr,
    received: Arc<Mutex<BTreeMap<String, Count>>>,
    last: watch::Sender<Option<SocketAddr>>,
    task: tokio::task::JoinHandle<usize>,
}

/// The bytes read of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    bytes: usize,
    whole: usize,
}

/// The fake gateway's end of one connection.
struct Connection {
    socket: TcpStream,
    received: Arc<Mutex<BTreeMap<String, Count>>>,
}

impl FakeGateway {
    async fn new<F>(serve: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (last, finished) = watch::channel(None);
        let received = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let shared = received.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                if *finished.borrow() == Some(peer) {
                    break;
                }
                connections.spawn(serve(Connection { socket, received: shared.clone() }));
            }
            drop(listener);
            let taken = connections.len();
            connections.join_all().await;
            taken
        });
        Self { address, received, last, task }
    }

    fn whole(&self, id: &str) -> usize {
        self.received.lock().unwrap().get(id).map_or(0, |count| count.whole)
    }

    /// Waits until every connection has ended. Returns their number and the messages read.
    async fn finish(self) -> (usize, BTreeMap<String, Count>) {
        // Connects once more, behind every other connection in the backlog.
        let last = TcpSocket::new_v4().unwrap();
        last.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        self.last.send_replace(Some(last.local_addr().unwrap()));
        _ = last.connect(self.address).await.unwrap();
        let taken = self.task.await.unwrap();
        let received = self.received.lock().unwrap().clone();
        for (id, count) in &received {
            assert!(count.whole <= 1, "message {id} was sent {} times", count.whole);
        }
        (taken, received)
    }
}

fn messages(received: &BTreeMap<String, Count>) -> usize {
    received.values().map(|count| count.whole).sum()
}

impl Connection {
    /// Reads a request, up to `limit` bytes, and counts it.
    async fn read_request(&mut self, limit: usize) -> ReadRequest {
        let received = ReadRequest::from(&mut self.socket, limit).await;
        if !received.bytes.is_empty() {
            let mut counts = self.received.lock().unwrap();
            let count = counts.entry(received.id()).or_default();
            count.bytes += received.bytes.len();
            count.whole += usize::from(received.whole);
        }
        received
    }

    async fn respond(&mut self, answer: &[u8]) {
        _ = self.socket.write_all(answer).await;
    }

    /// Closes our side and waits for the client. Returns `true` if the client sent nothing more.
    async fn end(&mut self) -> bool {
        _ = self.socket.shutdown().await;
        self.socket.read(&mut [0; 1]).await.is_ok_and(|len| len == 0)
    }
}

const SENDS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_closed_while_idle_is_not_reused() {
    let (noticed, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let gateway = FakeGateway::new(move |mut connection| {
        let noticed = noticed.clone();
        async move {
            connection.read_request(usize::MAX).await;
            connection.respond(GOOD_AND_STAY).await;
            noticed.send(connection.end().await).unwrap();
        }
    })
    .await;
    let endpoint = at(gateway.address, patient());
    for n in 0..SENDS {
        endpoint.send(request(&endpoint, &n.to_string(), text("x"))).await.unwrap();
        assert!(closed.recv().await.unwrap(), "something was sent on a connection that was closed");
    }
    let (connections, received) = gateway.finish().await;
    assert_eq!((connections, messages(&received)), (SENDS, SENDS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_closed_at_next_send_is_unknown_or_unused() {
    let gateway = FakeGateway::new(|mut connection| async move {
        connection.read_request(usize::MAX).await;
        connection.respond(GOOD_AND_STAY).await;
    })
    .await;
    let endpoint = at(gateway.address, patient());
    let mut unknown = 0;
    for n in 0..SENDS {
        match endpoint.send(request(&endpoint, &n.to_string(), text("x"))).await {
            Ok(_) => assert_eq!(gateway.whole(&n.to_string()), 1),
            // The request left before the close arrived; the client cannot know that nobody read it.
            Err(error) => {
                assert_eq!((error.outcome(), error.is_retryable()), (Outcome::Unknown, false), "{error:?}");
                assert_eq!(gateway.whole(&n.to_string()), 0);
                unknown += 1;
            }
        }
    }
    let (_, received) = gateway.finish().await;
    println!("{unknown} of {SENDS} unknown");
    assert_eq!(messages(&received) + unknown, SENDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_closed_after_first_byte_is_unknown() {
    let gateway = FakeGateway::new(|mut connection| async move {
        connection.read_request(usize::MAX).await;
        connection.respond(GOOD_AND_STAY).await;
        connection.read_request(1).await;
    })
    .await;
    let endpoint = at(gateway.address, patient());
    let mut unknown = 0;
    for n in 0..SENDS {
        match endpoint.send(request(&endpoint, &n.to_string(), text("x"))).await {
            Ok(_) => assert_eq!(gateway.whole(&n.to_string()), 1),
            Err(error) => {
                assert_eq!((error.outcome(), error.is_retryable()), (Outcome::Unknown, false), "{error:?}");
                unknown += 1;
            }
        }
    }
    drop(endpoint);
    let (_, received) = gateway.finish().await;
    println!("{unknown} of {SENDS} unknown");
    assert_eq!(messages(&received) + unknown, SENDS);
    // Exactly those of which a byte was read; one byte contains no id.
    assert_eq!(received.get("").map_or(0, |count| count.bytes), unknown);
    assert!(unknown > SENDS / 4, "connections are not kept");
}

#[tokio::test]
async fn gateway_gone_after_success_is_not_sent() {
    for n in 0..TIMES {
        let (_kept, address) = unused_port();
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = at(address, patient());
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            drop(listener);
            assert!(ReadRequest::from(&mut socket, usize::MAX).await.whole);
            socket.write_all(GOOD_AND_STAY).await.unwrap();
            socket.shutdown().await.unwrap();
            assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
        };
        let (answer, ()) = tokio::join!(endpoint.send(request(&endpoint, "1", text("1"))), serve);
        answer.unwrap();
        let (body, polled) = watched_body();
        let error = endpoint.send(request(&endpoint, "2", body)).await.unwrap_err();
        assert_eq!((error.outcome(), error.is_retryable()), (Outcome::NotSent, true), "{n}: {error:?}");
        assert!(!polled.load(Ordering::SeqCst));
    }
}

/// A deadline expires on one thread while another starts to write. A large head takes long to write, so that about one
/// attempt in ten falls between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadline_during_write_has_the_right_outcome() {
    const TRIES: usize = 120;
    let gateway = FakeGateway::new(|mut connection| async move { _ = connection.read_request(600).await }).await;
    let endpoint = at(gateway.address, patient());
    let mut not_sent = Vec::new();
    for n in 0..=TRIES {
        let mut request = request(&endpoint, &n.to_string(), text("x"));
        for _ in 0..12_000 {
            request.headers_mut().append("x", HeaderValue::from_static(""));
        }
        // The last attempt has ample time, to show that such a request is sent.
        let time = if n == TRIES { AMPLE } else { Duration::from_micros(20 * n as u64) };
        request.extensions_mut().insert(Deadline(time));
        let error = endpoint.send(request).await.unwrap_err();
        if error.outcome() == Outcome::NotSent {
            not_sent.push(n.to_string());
        }
    }
    drop(endpoint);
    let (_, received) = gateway.finish().await;
    let lies = not_sent.iter().filter(|id| received.contains_key(*id)).count();
    println!("{} of {TRIES} not sent, {} begun to be read, {lies} both", not_sent.len(), received.len());
    assert_eq!(lies, 0, "read by the listener, and yet called not sent");
    assert!(received.contains_key(&TRIES.to_string()), "none of them goes out at all");
}

/// A head of 400 KiB would be written before the body is polled, so the transport could not detect that bytes left.
#[tokio::test]
async fn oversized_request_head_is_not_sent() {
    let gateway = accepting_gateway().await;
    let endpoint = at(gateway.address, patient());
    let mut request = request(&endpoint, "1", text("1"));
    for _ in 0..20_000 {
        request.headers_mut().append("x-filler", HeaderValue::from_static("0123456789"));
    }
    let error = endpoint.send(request).await.unwrap_err();
    assert_eq!((error.outcome(), error.kind()), (Outcome::NotSent, ErrorKind::Config), "{error:?}");
    assert_eq!(gateway.finish().await.0, 0);
}

/// Polls a future `polls` times and drops it. Reports the count on `polled`.
async fn dropped_after<T>(
    polls: usize,
    polled: &watch::Sender<Option<usize>>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut so_far = 0;
    std::future::poll_fn(|cx| {
        if so_far == polls {
            return Poll::Ready(None);
        }
        so_far += 1;
        let now = future.as_mut().poll(cx);
        polled.send_replace(Some(so_far));
        match now {
            Poll::Pending if so_far < polls => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(done) => Poll::Ready(Some(done)),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_send_is_sent_at_most_once() {
    const POLLS: usize = 64;
    let mut tally = BTreeMap::<_, usize>::new();
    for k in 0..=POLLS {
        let (polled, polls) = watch::channel(Some(0));
        let gateway = FakeGateway::new(move |mut connection| {
            let mut polls = polls.clone();
            async move {
                while connection.read_request(usize::MAX).await.whole {
                    if polls.borrow().is_none() {
                        connection.respond(GOOD_AND_STAY).await;
                        continue;
                    }
                    // Chunk by chunk, each after the last was read, to cause many polls.
                    connection.respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                    for _ in 0..2 * POLLS {
                        let before = polls.borrow_and_update().unwrap_or(usize::MAX);
                        connection.respond(b"1\r\n \r\n").await;
                        _ = polls.wait_for(|polls| polls.is_none_or(|polls| polls > before)).await;
                    }
                    connection.respond(b"b\r\n{\"id\":\"a1\"}\r\n0\r\n\r\n").await;
                }
            }
        })
        .await;
        let endpoint = at(gateway.address, patient());
        let dropped = dropped_after(k, &polled, endpoint.send(request(&endpoint, "dropped", text("x")))).await;
        assert!(dropped.is_none(), "{k}: {dropped:?}");
        assert_eq!(*polled.borrow(), Some(k));
        polled.send_replace(None);
        let after = endpoint.send(request(&endpoint, "after", text("x"))).await.unwrap();
        assert_eq!(after.json::<Reply>().unwrap().id, "a1");
        drop(endpoint);
        let (connections, received) = gateway.finish().await;
        assert_eq!(received["after"].whole, 1);
        let taken = received.get("dropped").map_or(0, |count| count.whole);
        assert!(k > 0 || taken == 0, "sent before it was polled");
        *tally.entry((connections, taken)).or_default() += 1;
    }
    println!("(connections, accepted): how often {tally:?}");
}

#[tokio::test]
async fn response_is_not_transformed() {
    // An empty file compressed with gzip.
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let gateway = FakeGateway::new(move |mut connection| {
        let heads = heads.clone();
        async move {
            loop {
                let received = connection.read_request(usize::MAX).await;
                if !received.whole {
                    break;
                }
                heads.send(received.head()).unwrap();
                let head =
                    "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Encoding: gzip\r\nAlt-Svc: h3=\":443\"\r\n";
                connection.respond(format!("{head}Content-Length: {}\r\n\r\n", GZIP.len()).as_bytes()).await;
                connection.respond(GZIP).await;
            }
        }
    })
    .await;
    let endpoint = at(gateway.address, patient());
    for n in 0..3 {
        let answer = endpoint.send(request(&endpoint, &n.to_string(), text("x"))).await.unwrap();
        assert_eq!(answer.body, GZIP);
        assert_eq!(answer.headers["content-encoding"], "gzip");
        let head = seen.recv().await.unwrap();
        let mut names: Vec<_> = head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "content-length", "host", "x-canary", "x-message"], "{head}");
        assert!(head.starts_with("post /canary-7q4z/messages?q=canary-7q4z http/1.1"), "{head}");
    }
    drop(endpoint);
    assert_eq!(gateway.finish().await.0, 1, "one connection is kept for all");
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere =
        FakeGateway::new(|mut connection| async move { _ = connection.read_request(usize::MAX).await }).await;
    let target = elsewhere.address;
    let gateway = FakeGateway::new(move |mut connection| async move {
        let status: u16 = connection.read_request(usize::MAX).await.id().parse().unwrap();
        let head = format!("HTTP/1.1 {status} Moved\r\nLocation: http://{target}/\r\nConnection: close\r\n");
        connection.respond(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
    })
    .await;
    let endpoint = at(gateway.address, patient());
    for status in [300, 301, 302, 303, 307, 308] {
        for sending in [true, false] {
            let request = request(&endpoint, &status.to_string(), text("x"));
            let error = if sending { endpoint.send(request).await } else { endpoint.call(request).await }.unwrap_err();
            let outcome = if sending { Outcome::Rejected } else { Outcome::NotSent };
            assert_eq!((error.outcome(), error.kind(), error.is_retryable()), (outcome, ErrorKind::Config, false));
        }
    }
    assert_eq!(elsewhere.finish().await.0, 0);
}

/// A gateway that accepts one message per connection.
async fn accepting_gateway() -> FakeGateway {
    FakeGateway::new(|mut connection| async move {
        connection.read_request(usize::MAX).await;
        connection.respond(GOOD).await;
    })
    .await
}

#[test]
fn environment_proxy_is_not_used_for_loopback() {
    if is_child() {
        return block_on(1, async {
            let gateway = accepting_gateway().await;
            let endpoint = at(gateway.address, ReqwestTransport::from_settings(|builder| builder.timeout(AMPLE)));
            endpoint.send(request(&endpoint, "1", text("1"))).await.unwrap();
        });
    }
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let variables: Vec<_> =
        proxies.map(|name| (name, &*address)).into_iter().chain([("no_proxy", ""), ("NO_PROXY", "")]).collect();
    let (passed, output) = run_in_child("outcomes::environment_proxy_is_not_used_for_loopback", &variables);
    let received = proxy.accept();
    assert!(received.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "the proxy got a connection");
    assert!(passed, "{output}");
}

#[tokio::test]
async fn configured_proxy_is_used() {
    let gateway = accepting_gateway().await;
    let proxy = format!("http://{}", gateway.address);
    let transport = ReqwestTransport::from_settings(move |builder| builder.proxy(reqwest::Proxy::all(&proxy).unwrap()));
    let endpoint = endpoint("http://127.0.0.2:9", transport);
    endpoint.send(request(&endpoint, "1", text("1"))).await.unwrap();
    drop(endpoint);
    assert_eq!(gateway.finish().await.1["1"].whole, 1);
}

#[tokio::test]
async fn proxy_without_tunnel_is_not_sent() {
    for answer in ["HTTP/1.1 407 canary-7Q4Z\r\n\r\n", "HTTP/1.1 502 canary-7Q4Z\r\n\r\n", "canary-7Q4Z", ""] {
        let gateway = FakeGateway::new(move |mut connection| async move {
            let polled = ReadRequest::from(&mut connection.socket, usize::MAX).await;
            assert!(polled.head().starts_with("connect gateway.invalid:443 "));
            connection.respond(answer.as_bytes()).await;
        })
        .await;
        let proxy = format!("http://{}", gateway.address);
        let transport =
            ReqwestTransport::from_settings(move |builder| builder.proxy(reqwest::Proxy::all(&proxy).unwrap()));
        assert_not_sent("https://gateway.invalid", transport, AMPLE, &[TransportErrorKind::Connect]).await;
        assert_eq!(gateway.finish().await.0, TIMES);
    }
}

#[test]
fn host_without_certificates_uses_loopback_and_own_roots() {
    if !is_child() {
        let nowhere = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
        let (passed, output) =
            run_in_child("outcomes::host_without_certificates_uses_loopback_and_own_roots", &nowhere);
        return assert!(passed, "{output}");
    }
    block_on(1, async {
        let gateway = accepting_gateway().await;
        let plain = at(gateway.address, patient());
        plain.send(request(&plain, "1", text("1"))).await.unwrap();

        let (address, counts) = https_server();
        let base = format!("https://{address}");
        assert_not_sent(&base, patient(), AMPLE, &[TransportErrorKind::Tls]).await;
        assert_eq!(counts[1].load(Ordering::SeqCst), 0);
        let secure = endpoint(&base, trusting().with_times(AMPLE));
        secure.send(request(&secure, "1", text("1"))).await.unwrap();
    });
}
