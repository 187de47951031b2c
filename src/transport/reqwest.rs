//! The default transport: reqwest and rustls.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame, SizeHint};
use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{
    Body, Deadline, Inner, PublicOnly, SendProgress, Transport, TransportError, TransportErrorKind, is_public,
};
use crate::model::error::{Error, Result};
use crate::transport::tls;

/// HTTP/1.1 over reqwest and rustls (ring), with a pool of keep-alive connections.
///
/// Clones share the pool. Clients are built on first use, so a machine without root certificates can still use loopback
/// and the mock.
///
/// Defaults: 5 s to connect, 30 s for an exchange without a [`Deadline`], 4 s for an idle connection: if the server
/// closes a connection during a write, the outcome of the send is unknown.
///
/// The environment's proxies are used, and may be private. [`PublicOnly`] checks the URL's host, with or without a
/// proxy: a numeric host directly, and a name by all addresses that it resolves to on this machine, before the request.
/// Without a proxy the connection uses a checked address. A proxy resolves the name again and decides where to connect:
/// it may see other addresses than this machine, so a proxy that must not reach private addresses has to refuse them
/// itself. A name that this machine cannot resolve is left to the proxy.
#[derive(Clone)]
pub struct ReqwestTransport {
    settings: Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>,
    clients: Arc<Clients>,
}

/// The maximum length of a request head in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// Three clients, each built on first use: plain HTTP (loopback), TLS, and TLS to public addresses only.
#[derive(Default)]
struct Clients {
    plain: OnceLock<Option<reqwest::Client>>,
    tls: OnceLock<Option<reqwest::Client>>,
    public: OnceLock<Option<reqwest::Client>>,
}

impl ReqwestTransport {
    /// Creates a transport with the defaults.
    pub fn new() -> Self {
        Self::from_settings(|builder| builder)
    }

    /// Creates a transport with custom client settings: a proxy, other timeouts, another TLS backend.
    ///
    /// Set custom roots with `tls_backend_preconfigured`: reqwest ignores certificates that are added to a
    /// preconfigured backend.
    ///
    /// The builder passed to `settings` has the defaults and a TLS backend. Redirects, retries and decompression are
    /// switched off afterwards in any case.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use civic_messaging::transport::ReqwestTransport;
    ///
    /// let transport = ReqwestTransport::from_settings(|builder| builder.connect_timeout(Duration::from_secs(2)));
    /// ```
    pub fn from_settings(settings: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self { settings: Arc::new(settings), clients: Arc::default() }
    }

    fn client(&self, request: &Request<Body>) -> Result<&reqwest::Client, TransportError> {
        let public = request.extensions().get::<PublicOnly>().is_some();
        let client = match request.uri().scheme_str() {
            _ if public => self.clients.public.get_or_init(|| {
                self.builder(tls::trusting()?, false).dns_resolver(Arc::new(PublicResolver)).build().ok()
            }),
            Some("https") => self.clients.tls.get_or_init(|| self.builder(tls::trusting()?, false).build().ok()),
            _ => self.clients.plain.get_or_init(|| self.builder(tls::unused()?, true).build().ok()),
        };
        client.as_ref().ok_or(TransportError::new(TransportErrorKind::Tls, SendProgress::NothingSent))
    }

    fn builder(&self, tls: rustls::ClientConfig, loopback: bool) -> ClientBuilder {
        let mut defaults = ClientBuilder::new()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(4))
            .tcp_nodelay(true);
        if loopback {
            // Loopback never uses the environment's proxy.
            defaults = defaults.no_proxy();
        }
        (self.settings)(defaults)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
    }
}

impl Default for ReqwestTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestTransport").finish_non_exhaustive()
    }
}

impl Transport for ReqwestTransport {
    // Not `async`, so that the future contains reqwest's request but not ours as well.
    fn call<'a, 'f>(&'a self, request: Request<Body>) -> TransportFuture<'f>
    where
        'a: 'f,
        Self: 'f,
    {
        let pending = self.client(&request).and_then(|client| {
            let (call, public, state) = prepare(request).map_err(not_sent)?;
            Ok(match public {
                Some(host) => Pending::Checked(Box::pin(checked(client, call, host, state))),
                None => Pending::Made(client.execute(call), state),
            })
        });
        Box::pin(async move {
            match pending? {
                Pending::Checked(checked) => checked.await,
                Pending::Made(answer, state) => finish(answer.await, state),
            }
        })
    }
}

/// A call in progress.
enum Pending<'f, F> {
    Checked(TransportFuture<'f>),
    Made(F, Option<Arc<BodyState>>),
}

/// Makes a request after checking that all addresses of its host are public.
async fn checked(
    client: &reqwest::Client,
    mut call: reqwest::Request,
    host: Arc<str>,
    state: Option<Arc<BodyState>>,
) -> Result<Response<Body>, TransportError> {
    let started = Instant::now();
    let time = *call.timeout().unwrap_or(&LOOKUP_MAX);
    match tokio::time::timeout(time, addresses(&host)).await {
        Ok(Ok(found)) if !all_public(&found) => return Err(not_sent(TransportErrorKind::NotPublic)),
        // Without an address the connection fails later, unless a proxy can resolve the name.
        Ok(_) => {}
        Err(_) => return Err(not_sent(TransportErrorKind::TimedOut)),
    }
    if let Some(time) = call.timeout_mut() {
        *time = time.saturating_sub(started.elapsed());
    }
    finish(FILE_HOST.scope(host, client.execute(call)).await, state)
}

/// The maximum time of a name lookup for a request without a deadline.
const LOOKUP_MAX: Duration = Duration::from_secs(30);

const fn not_sent(kind: TransportErrorKind) -> TransportError {
    TransportError::new(kind, SendProgress::NothingSent)
}

fn finish(
    answer: reqwest::Result<reqwest::Response>,
    state: Option<Arc<BodyState>>,
) -> Result<Response<Body>, TransportError> {
    match answer {
        Ok(answer) => Ok(http::Response::from(answer).map(|body| Body(Inner::Frames(Frames(body))))),
        // If no piece of the body was read, nothing was sent: the head and the first piece are written together.
        // Without a body, this cannot be determined.
        Err(error) if error.is_connect() || state.is_some_and(|state| state.withdraw()) => Err(not_sent(fault(&error))),
        Err(error) => Err(TransportError::new(fault(&error), SendProgress::MayHaveArrived)),
    }
}

type TransportFuture<'f> = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'f>>;

/// A request for reqwest; the name of its host, if that must be public; and the state of its body, if it has one.
type PreparedRequest = (reqwest::Request, Option<Arc<str>>, Option<Arc<BodyState>>);

fn prepare(request: Request<Body>) -> Result<PreparedRequest, TransportErrorKind> {
    let (parts, body) = request.into_parts();
    let url = url(&parts.uri).ok_or(TransportErrorKind::Request)?;
    // A numeric host in any spelling is never looked up, so the resolver cannot refuse it.
    let mut public = None;
    if parts.extensions.get::<PublicOnly>().is_some() {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if !is_public(ip) => return Err(TransportErrorKind::NotPublic),
            Ok(_) => {}
            Err(_) => public = Some(Arc::from(host)),
        }
    }
    // A longer head is written before the body is read, which would then not show that nothing was sent.
    let head: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head > HEAD_MAX {
        return Err(TransportErrorKind::Request);
    }
    let mut call = reqwest::Request::new(parts.method, url);
    *call.headers_mut() = parts.headers;
    if let Some(Deadline(deadline)) = parts.extensions.get() {
        *call.timeout_mut() = Some(*deadline);
    }
    if body.is_empty() {
        return Ok((call, public, None));
    }
    let state = Arc::new(BodyState::default());
    *call.body_mut() = Some(reqwest::Body::wrap(TrackedBody { body: Mutex::new(body), state: state.clone() }));
    Ok((call, public, Some(state)))
}

/// The state of a request's body: first read, or withdrawn before that.
///
/// The connection writes on another task, and may be about to read when a deadline expires here. Only one of the two
/// comes first: reading a withdrawn body fails, and the connection ends with nothing written.
#[derive(Default)]
struct BodyState(AtomicU8);

impl BodyState {
    const READ: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// Records the first read; returns `false` if the body was withdrawn.
    fn start_read(&self) -> bool {
        self.first(Self::READ)
    }

    /// Withdraws the body; returns `false` if it was read before and may have been sent.
    fn withdraw(&self) -> bool {
        self.first(Self::WITHDRAWN)
    }

    fn first(&self, what: u8) -> bool {
        let was = self.0.compare_exchange(0, what, Ordering::AcqRel, Ordering::Acquire);
        was.map_or_else(|before| before == what, |_| true)
    }
}

/// A request body that records its first read.
struct TrackedBody {
    // reqwest requires `Sync`, which a stream need not be. Never contended: a body has one reader.
    body: Mutex<Body>,
    state: Arc<BodyState>,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if !self.state.start_read() {
            return Poll::Ready(Some(Err(Error::new(
                crate::model::error::ErrorKind::Unavailable,
                "the request was withdrawn",
            ))));
        }
        let body = &mut self.get_mut().body;
        body.get_mut().unwrap_or_else(PoisonError::into_inner).poll_chunk(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.len().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Avoids the reallocations of `Uri::to_string`.
fn url(uri: &Uri) -> Option<reqwest::Url> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    reqwest::Url::parse(&[scheme, "://", authority.as_str(), path].concat()).ok()
}

/// A response body.
pub(super) struct Frames(reqwest::Body);

impl Frames {
    pub(super) fn len(&self) -> Option<u64> {
        self.0.size_hint().exact()
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            return Poll::Ready(match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => None,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) if error.is_timeout() => Some(Err(Error::unknown("the response timed out"))),
                Some(Err(_)) => Some(Err(Error::unknown("the connection broke during the response"))),
            });
        }
    }
}

fn fault(error: &reqwest::Error) -> TransportErrorKind {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if is_tls(cause) {
            return TransportErrorKind::Tls;
        }
        if cause.is::<NotPublic>() {
            return TransportErrorKind::NotPublic;
        }
        if cause.is::<Error>() {
            return TransportErrorKind::Body;
        }
        source = cause.source();
    }
    match error {
        e if e.is_timeout() => TransportErrorKind::TimedOut,
        e if e.is_dns() => TransportErrorKind::Name,
        e if e.is_connect() => TransportErrorKind::Connect,
        e if e.is_builder() => TransportErrorKind::Request,
        _ => TransportErrorKind::Broken,
    }
}

/// Returns `true` for an error of rustls, which is wrapped in one or more `io::Error`s.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => is_tls(inner),
        None => error.is::<rustls::Error>(),
    }
}

tokio::task_local! {
    /// The host of the current request's URL.
    static FILE_HOST: Arc<str>;
}

/// A resolver that uses the system's and refuses a name with any address outside the public internet.
///
/// A name that is not the URL's host is exempt: connections go to the URL's host or to a proxy, which the configuration
/// names.
///
/// The task that resolves determines which of the two it is. A connection that continues without its request (because
/// another became free first) has resolved by then; if it has not, it is refused as without a proxy.
struct PublicResolver;

/// Resolves all addresses of a name on this machine.
async fn addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// Returns `true` if every address is public. One private address among public ones is a sign of DNS rebinding.
fn all_public(found: &[SocketAddr]) -> bool {
    found.iter().all(|address| is_public(address.ip()))
}

/// The error for a name with an address outside the public internet.
#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not of the public internet")
    }
}

impl std::error::Error for NotPublic {}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let proxy = FILE_HOST.try_with(|host| !host.eq_ignore_ascii_case(name.as_str())).unwrap_or(false);
        Box::pin(async move {
            let found = addresses(name.as_str()).await?;
            if proxy || all_public(&found) {
                Ok(Box::new(found.into_iter()) as Addrs)
            } else {
                Err(Box::new(NotPublic) as _)
            }
        })
    }
}
