//! The transport over reqwest and rustls.

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

/// HTTP/1.1 over reqwest and rustls (ring), with a pool of kept-alive connections.
///
/// Clones share the pool. Nothing is built until the first call, so a machine without certificates can still reach
/// loopback and use the mock.
///
/// Defaults: 5 s to connect, 30 s for an exchange without a [`Deadline`], 4 s for an idle connection: one that the
/// server closes as we write to it turns a send into an unknown outcome.
///
/// The environment's proxies are used, and may be private. [`PublicOnly`] checks the URL's host, whether a proxy is used or
/// not: a host written as a number, and a name by all addresses that it has here, before the request. Without a proxy the
/// connection goes to an address that was checked. A proxy resolves the name again, and then decides itself where to
/// connect: it may see other addresses than this machine, and one that must not lead to private addresses has to refuse
/// them. A name that this machine cannot resolve is left to the proxy.
#[derive(Clone)]
pub struct ReqwestTransport {
    settings: Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>,
    clients: Arc<Clients>,
}

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// Three clients, each built when it is first needed: plain HTTP (loopback), TLS, and TLS to public addresses only.
#[derive(Default)]
struct Clients {
    plain: OnceLock<Option<reqwest::Client>>,
    tls: OnceLock<Option<reqwest::Client>>,
    public: OnceLock<Option<reqwest::Client>>,
}

impl ReqwestTransport {
    /// A transport with the defaults.
    pub fn new() -> Self {
        Self::from_settings(|builder| builder)
    }

    /// A transport whose clients are built with these settings: a proxy, other times, another TLS backend.
    ///
    /// Roots of your own come with `tls_backend_preconfigured`: reqwest passes over certificates that are added to a
    /// backend which is there already.
    ///
    /// The builder that is handed in carries the defaults and a TLS backend. Redirects, retries and decompression
    /// are switched off after it, whatever it says.
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
            // What stays on this machine is no business of the environment's proxy.
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
    // Written out, so that the future holds what reqwest makes of the request, and not the request as well.
    fn call<'a, 'f>(&'a self, request: Request<Body>) -> Calling<'f>
    where
        'a: 'f,
        Self: 'f,
    {
        let begun = self.client(&request).and_then(|client| {
            let (call, public, asked) = written(request).map_err(not_sent)?;
            Ok(match public {
                Some(host) => Begun::Checked(Box::pin(checked(client, call, host, asked))),
                None => Begun::Made(client.execute(call), asked),
            })
        });
        Box::pin(async move {
            match begun? {
                Begun::Checked(checked) => checked.await,
                Begun::Made(answer, asked) => answered(answer.await, asked),
            }
        })
    }
}

/// A call that only has to be waited for.
enum Begun<'f, F> {
    Checked(Calling<'f>),
    Made(F, Option<Arc<Asked>>),
}

/// Makes a request once all addresses of its host are found to be public.
async fn checked(
    client: &reqwest::Client,
    mut call: reqwest::Request,
    host: Arc<str>,
    asked: Option<Arc<Asked>>,
) -> Result<Response<Body>, TransportError> {
    let begun = Instant::now();
    let time = *call.timeout().unwrap_or(&LOOKUP_MAX);
    match tokio::time::timeout(time, addresses(&host)).await {
        Ok(Ok(found)) if !all_public(&found) => return Err(not_sent(TransportErrorKind::NotPublic)),
        // The connection fails by itself, unless a proxy knows the name.
        Ok(_) => {}
        Err(_) => return Err(not_sent(TransportErrorKind::TimedOut)),
    }
    if let Some(time) = call.timeout_mut() {
        *time = time.saturating_sub(begun.elapsed());
    }
    answered(FILE_HOST.scope(host, client.execute(call)).await, asked)
}

/// The longest that a name is looked up where the request has no deadline.
const LOOKUP_MAX: Duration = Duration::from_secs(30);

const fn not_sent(fault: TransportErrorKind) -> TransportError {
    TransportError::new(fault, SendProgress::NothingSent)
}

fn answered(
    answer: reqwest::Result<reqwest::Response>,
    asked: Option<Arc<Asked>>,
) -> Result<Response<Body>, TransportError> {
    match answer {
        Ok(answer) => Ok(http::Response::from(answer).map(|body| Body(Inner::Frames(Frames(body))))),
        // A body that was never asked for shows that nothing left: its head and its first piece are written
        // together. A request without a body shows nothing.
        Err(error) if error.is_connect() || asked.is_some_and(|asked| asked.withdraw()) => Err(not_sent(fault(&error))),
        Err(error) => Err(TransportError::new(fault(&error), SendProgress::MayHaveArrived)),
    }
}

type Calling<'f> = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'f>>;

/// A request as reqwest has it; the name of its host, where that must be public; and whether its body was asked for, if
/// there is a body.
type Written = (reqwest::Request, Option<Arc<str>>, Option<Arc<Asked>>);

fn written(request: Request<Body>) -> Result<Written, TransportErrorKind> {
    let (parts, body) = request.into_parts();
    let url = url(&parts.uri).ok_or(TransportErrorKind::Request)?;
    // An address that is written as numbers, in whichever of their spellings, is never looked up, so that the
    // resolver cannot refuse it.
    let mut public = None;
    if parts.extensions.get::<PublicOnly>().is_some() {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if !is_public(ip) => return Err(TransportErrorKind::NotPublic),
            Ok(_) => {}
            Err(_) => public = Some(Arc::from(host)),
        }
    }
    // A longer head is written before the body is asked for, which could then not tell whether anything left.
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
    let asked = Arc::new(Asked::default());
    *call.body_mut() = Some(reqwest::Body::wrap(Watched { body: Mutex::new(body), asked: asked.clone() }));
    Ok((call, public, Some(asked)))
}

/// Whether a request's body was asked for a piece, or withdrawn before it could be.
///
/// The connection writes on a task of its own, and may be about to ask when a deadline strikes here. Only one of the
/// two comes first: a body that was withdrawn fails when it is asked, and the connection ends with nothing written.
#[derive(Default)]
struct Asked(AtomicU8);

impl Asked {
    const ASKED: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// Notes that the body is asked for a piece. False: it was withdrawn, and there is none.
    fn ask(&self) -> bool {
        self.first(Self::ASKED)
    }

    /// Withdraws the body. False: it was asked before, and may have gone.
    fn withdraw(&self) -> bool {
        self.first(Self::WITHDRAWN)
    }

    fn first(&self, what: u8) -> bool {
        let was = self.0.compare_exchange(0, what, Ordering::AcqRel, Ordering::Acquire);
        was.map_or_else(|before| before == what, |_| true)
    }
}

/// A request's body that notes when it is first asked for a piece.
struct Watched {
    // reqwest wants `Sync`, which a stream need not be. Never contended: a body has one reader.
    body: Mutex<Body>,
    asked: Arc<Asked>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if !self.asked.ask() {
            return Poll::Ready(Some(Err(Error::new(crate::model::error::ErrorKind::Unavailable, "it was withdrawn"))));
        }
        let body = &mut self.get_mut().body;
        body.get_mut().unwrap_or_else(PoisonError::into_inner).poll_chunk(cx).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.len().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// `Uri::to_string` finds its room in several steps.
fn url(uri: &Uri) -> Option<reqwest::Url> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    reqwest::Url::parse(&[scheme, "://", authority.as_str(), path].concat()).ok()
}

/// An answer's body.
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
                Some(Err(error)) if error.is_timeout() => Some(Err(Error::unknown("the answer took too long"))),
                Some(Err(_)) => Some(Err(Error::unknown("the connection broke inside the answer"))),
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

/// Whether it is an error of rustls, which comes wrapped in one or more of `io::Error`.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => is_tls(inner),
        None => error.is::<rustls::Error>(),
    }
}

tokio::task_local! {
    /// The host of the URL that a request is made for, while it is made.
    static FILE_HOST: Arc<str>;
}

/// Resolves names as the system does, and refuses one that leads anywhere but to the public internet. The one exception
/// is a name that is not the URL's host: a connection for a URL is made to its host or to a proxy, which is named by the
/// configuration.
///
/// Which of the two is known by the task that asks. A connection that goes on without its request (another one became
/// free before it) has asked by then; if it has not, it is refused like one without a proxy.
struct PublicResolver;

/// All addresses of a name here.
async fn addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// Returns `true` if each of these addresses is public. One bad address among good ones is how a name is made to change
/// its mind.
fn all_public(found: &[SocketAddr]) -> bool {
    found.iter().all(|address| is_public(address.ip()))
}

/// A name led to an address that is not of the public internet.
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
