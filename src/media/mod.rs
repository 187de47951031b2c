//! Media files on their way to and from gateways: streamed, capped and hashed, from allowed hosts only.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use sha2::{Digest as _, Sha256};

use crate::model::clock::{Clock, Sleep};
use crate::model::error::{Error, ErrorKind, Outcome, Result};
use crate::model::id::MediaType;
use crate::model::message::{Content, Media, MediaSource, Message};
use crate::transport::{BaseUrl, Body, ByteStream};

mod store;
pub use crate::model::digest::Digest;
pub use store::{FolderStore, MemoryStore};

/// A stream of a file's bytes.
///
/// The file is never held in memory as a whole unless [`bytes`](Self::bytes) is called. The stream is bounded:
/// exceeding the cap or the deadline, or ending with another hash than expected, is an error.
pub struct MediaStream {
    mime: Option<String>,
    body: Body,
    seen: u64,
    cap: u64,
    deadline: Option<Sleep>,
    hash: Option<(Sha256, Digest)>,
}

impl MediaStream {
    /// Creates a stream from a complete file.
    pub fn from_bytes(mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::new(Some(mime.into()), Body::from(bytes.into()))
    }

    /// Creates a stream from another, with its length if known.
    pub fn from_stream(mime: impl Into<String>, stream: ByteStream, len: Option<u64>) -> Self {
        Self::new(Some(mime.into()), Body::stream(stream, len))
    }

    pub(crate) fn new(mime: Option<String>, body: Body) -> Self {
        Self { mime, body, seen: 0, cap: u64::MAX, deadline: None, hash: None }
    }

    /// Returns the media type supplied by the gateway or the caller.
    pub fn mime(&self) -> Option<&str> {
        self.mime.as_deref()
    }

    /// Returns the remaining length in bytes, if known.
    pub fn len(&self) -> Option<u64> {
        self.body.len()
    }

    /// Returns `true` if the file is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Fails the stream after `cap` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] at once if the length is known and over the cap.
    pub fn capped(mut self, cap: u64) -> Result<Self> {
        if self.len().is_some_and(|len| len > cap) {
            return Err(too_large(cap));
        }
        self.cap = self.cap.min(cap);
        Ok(self)
    }

    /// Fails the stream if it has not ended after this time.
    #[must_use]
    pub fn deadline(mut self, clock: &dyn Clock, time: Duration) -> Self {
        self.deadline = Some(clock.sleep(time));
        self
    }

    /// Fails the stream at its end if the bytes do not have this hash, where it is known.
    #[must_use]
    pub fn hashed(mut self, digest: impl Into<Option<Digest>>) -> Self {
        self.hash = digest.into().map(|digest| (Sha256::new(), digest));
        self
    }

    /// Returns the next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over the cap, [`ErrorKind::Unavailable`] for a broken connection or a timeout,
    /// [`ErrorKind::Unexpected`] if the hash does not match.
    pub async fn chunk(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads the whole file. For small files and tests.
    ///
    /// # Errors
    /// Those of [`chunk`](Self::chunk).
    pub async fn bytes(mut self) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }

    /// Converts it into the body of a request.
    pub fn into_body(self) -> Body {
        let len = self.len();
        Body::stream(Box::pin(self), len)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.body = Body::empty();
            self.deadline = None;
            self.hash = None;
            return Poll::Ready(Some(Err(Error::new(ErrorKind::Unavailable, "the media fetch timed out"))));
        }
        Poll::Ready(match std::task::ready!(self.body.poll_chunk(cx)) {
            None => {
                self.deadline = None;
                let wrong =
                    self.hash.take().is_some_and(|(hash, digest)| Digest::new(hash.finalize().into()) != digest);
                wrong.then(|| Err(Error::new(ErrorKind::Unexpected, "the file does not have the expected SHA-256")))
            }
            Some(Ok(piece)) => {
                self.seen = self.seen.saturating_add(piece.len() as u64);
                if self.seen > self.cap {
                    self.body = Body::empty();
                    self.hash = None;
                    return Poll::Ready(Some(Err(too_large(self.cap))));
                }
                if let Some((hash, _)) = &mut self.hash {
                    hash.update(&piece);
                }
                Some(Ok(piece))
            }
            Some(Err(error)) => {
                self.body = Body::empty();
                self.hash = None;
                // No send depends on this stream: it failed before any send.
                Some(Err(error.with_outcome(crate::model::error::Outcome::NotSent)))
            }
        })
    }
}

impl Stream for MediaStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.get_mut().poll_chunk(cx)
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mime = self.mime.as_deref().map(MediaType);
        f.debug_struct("MediaStream").field("mime", &mime).field("len", &self.len()).finish_non_exhaustive()
    }
}

pub(crate) fn too_large(cap: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the file is over {cap} bytes")).with_field("media")
}

/// A store of the service's files, each under its SHA-256.
///
/// [`FolderStore`] and [`MemoryStore`] are built in; implement the trait for a bucket or a database.
#[async_trait]
pub trait MediaStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a file and returns its hash. Storing a file again is not an error.
    async fn put(&self, media: MediaStream) -> Result<StoredMedia>;

    /// Opens a file, whose hash is verified while it is read.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not stored.
    async fn open(&self, sha256: &Digest) -> Result<MediaStream>;

    /// Removes a file. Removing one that is not stored is not an error.
    async fn remove(&self, sha256: &Digest) -> Result<()>;
}

/// A file in a [`MediaStore`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub struct StoredMedia {
    /// The SHA-256.
    pub sha256: Digest,
    /// The length in bytes.
    pub len: u64,
    /// The media type.
    pub mime: String,
}

impl fmt::Debug for StoredMedia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mime = MediaType(&self.mime);
        f.debug_struct("Stored").field("sha256", &self.sha256).field("len", &self.len).field("mime", &mime).finish()
    }
}

impl StoredMedia {
    /// Creates a description of a stored file.
    pub fn new(sha256: Digest, len: u64, mime: impl Into<String>) -> Self {
        Self { sha256, len, mime: mime.into() }
    }
}

impl From<StoredMedia> for MediaSource {
    fn from(stored: StoredMedia) -> Self {
        Self::Stored { sha256: stored.sha256, len: stored.len, mime: stored.mime }
    }
}

/// Publishes stored files under a URL, for gateways that accept only links.
///
/// The embedding service implements it. The URL should be hard to guess and short-lived.
#[async_trait]
pub trait Publish: fmt::Debug + Send + Sync + 'static {
    /// Returns an https URL from which the gateway can fetch this file.
    async fn publish(&self, media: &Media) -> Result<String>;
}

/// The URL of a file on a host that may receive the credential, for
/// [`Credential::access`](crate::adapter::Credential::access).
///
/// It can be created only from an unambiguous path, so that the path that is checked is the path that is requested.
/// `Debug` does not show it: the URL alone may give access to the file.
pub struct FileUrl<'a> {
    host: String,
    path: Cow<'a, str>,
    query: Option<&'a str>,
}

impl<'a> FileUrl<'a> {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] for a path with a `.`, `..` or empty segment, a backslash or an encoded slash, in any
    /// spelling.
    pub fn new(uri: &'a http::Uri) -> Result<Self> {
        let path = crate::transport::normal(uri.path())
            .ok_or_else(|| Error::new(ErrorKind::Forbidden, "has an ambiguous path").with_field("media.url"))?;
        Ok(Self { host: uri.host().unwrap_or_default().to_ascii_lowercase(), path, query: uri.query() })
    }

    /// Returns the host in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns `true` if the host is this machine, as in a test.
    pub fn is_loopback(&self) -> bool {
        crate::transport::is_loopback(&self.host)
    }

    /// Returns the path, percent-decoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query as written.
    pub fn query(&self) -> Option<&str> {
        self.query
    }
}

impl fmt::Debug for FileUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileUrl(masked)")
    }
}

/// The hosts that a gateway serves files from.
///
/// An entry is a name, or `*.name` for all of its subdomains. Files are fetched from these hosts only, over https on
/// the default port. The credential is sent only to the `trusted` hosts and the base URL's own host, and there only for
/// the files that [`Credential::access`](crate::adapter::Credential::access) allows. If the base URL is loopback, as in
/// a test, only loopback is allowed, and the credential is sent only to the base URL's own port.
#[derive(Clone, Copy, Debug)]
pub struct HostRules {
    /// Hosts that receive the credential.
    pub trusted: &'static [&'static str],
    /// Hosts that serve files by URL alone, without the credential.
    pub open: &'static [&'static str],
}

impl HostRules {
    /// Checks the URL of a file; returns `true` with it if the credential may be sent.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] with the rule that the URL breaks.
    pub fn check(&self, url: &str, base: &BaseUrl) -> Result<(http::Uri, bool)> {
        let forbidden = |rule: &'static str| Error::new(ErrorKind::Forbidden, rule).with_field("media.url");
        let uri: http::Uri = url.parse().map_err(|_| forbidden("is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| forbidden("is not an absolute URL"))?;
        if authority.as_str().contains('@') {
            return Err(forbidden("contains a user name"));
        }
        let host = authority.host().to_ascii_lowercase();
        if base.is_loopback() {
            return if crate::transport::is_loopback(&host) {
                let own = authority.as_str().eq_ignore_ascii_case(base.authority());
                Ok((uri, own))
            } else {
                Err(forbidden("is not on loopback, as the base URL is"))
            };
        }
        if uri.scheme_str() != Some("https") {
            return Err(forbidden("is not https"));
        }
        if authority.port_u16().is_some_and(|port| port != 443) {
            return Err(forbidden("has a port other than 443"));
        }
        let listed = |list: &[&str]| {
            list.iter().any(|entry| match entry.strip_prefix("*.") {
                Some(under) => host.strip_suffix(under).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                None => host == *entry,
            })
        };
        match (host == base.host() || listed(self.trusted), listed(self.open)) {
            (true, _) => Ok((uri, true)),
            (false, true) => Ok((uri, false)),
            (false, false) => Err(forbidden("is not on a host of this gateway")),
        }
    }
}

/// Publishes the stored files of a message, for a gateway that accepts only links, and puts their URLs in their place.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is a stored file and `publish` is `None`, and those of the hook.
pub async fn publish_files<'m>(
    mut message: Cow<'m, Message>,
    publish: Option<&Arc<dyn Publish>>,
) -> Result<Cow<'m, Message>> {
    let is_stored = |file: &Media| matches!(file.source, MediaSource::Stored { .. });
    if !matches!(&message.content, Content::Media(files) if files.iter().any(is_stored)) {
        return Ok(message);
    }
    if let Content::Media(files) = &mut message.to_mut().content {
        for file in files.iter_mut().filter(|file| is_stored(file)) {
            let rule = "this gateway accepts files by link only: use a link, or set `publish` in the context";
            let publish = publish.ok_or_else(|| Error::unsupported(rule).with_field("media.source"))?;
            // A failure here comes before the send.
            let link = publish.publish(file).await.map_err(|error| error.with_outcome(Outcome::NotSent))?;
            if !link.starts_with("https://") {
                return Err(Error::invalid("media.source", "was published at a URL that is not https"));
            }
            file.source = link.into();
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{Timestamp, VirtualClock};

    const HOSTS: HostRules = HostRules { trusted: &["lookaside.fbsbx.com"], open: &["*.fbcdn.net"] };

    fn base(url: &str) -> BaseUrl {
        url.parse().unwrap()
    }

    #[test]
    fn host_rules_send_the_credential_to_trusted_hosts_only() {
        assert!(HOSTS.check("https://lookaside.fbsbx.com/a?mid=1", &base("https://graph.example")).unwrap().1);
        assert!(HOSTS.check("https://LOOKASIDE.fbsbx.com:443/a", &base("https://graph.example")).unwrap().1);
        assert!(HOSTS.check("https://graph.example/a", &base("https://graph.example")).unwrap().1);
        assert!(!HOSTS.check("https://scontent.fbcdn.net/a", &base("https://graph.example")).unwrap().1);
        for bad in [
            "http://lookaside.fbsbx.com/a",
            "https://lookaside.fbsbx.com:8443/a",
            "https://fbcdn.net/a",
            "https://evilfbcdn.net/a",
            "https://lookaside.fbsbx.com.evil.org/",
            "https://lookaside.fbsbx.com@evil.org/",
            "https://evil.org#lookaside.fbsbx.com",
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "https://2130706433/",
            "https://0x7f.1/",
            "ftp://lookaside.fbsbx.com/",
            "/relative",
            "",
            "https://lookaside.fbsbx.com./a",
            "https://169.254.169.254/latest/meta-data",
        ] {
            let error = HOSTS.check(bad, &base("https://graph.example")).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{bad}");
        }
    }

    #[test]
    fn file_url_refuses_ambiguous_paths() {
        let uri: http::Uri = "https://API.example/v1/a%20file?x=%2e%2e#part".parse().unwrap();
        let file = FileUrl::new(&uri).unwrap();
        assert_eq!((file.host(), file.path(), file.query()), ("api.example", "/v1/a file", Some("x=%2e%2e")));
        assert!(!format!("{file:?}").contains("v1"));
        for bad in
            ["/a/../b", "/a/%2e%2e/b", "/a/%2E%2E/b", "/a/.%2e/b", "/a/./b", "//b", "/a%2fb", "/a%5C..", "/%252e%252e/"]
        {
            let uri: http::Uri = format!("https://api.example{bad}").parse().unwrap();
            let error = FileUrl::new(&uri).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Forbidden, Some("media.url")), "{bad}");
        }
    }

    #[test]
    fn loopback_base_stays_on_loopback() {
        assert!(HOSTS.check("http://127.0.0.1:1/a", &base("http://127.0.0.1:1")).unwrap().1);
        assert!(!HOSTS.check("http://127.0.0.1:8080/a", &base("http://127.0.0.1:1")).unwrap().1);
        assert!(HOSTS.check("http://[::1]:8080/a", &base("http://127.0.0.1:1")).is_ok());
        assert!(HOSTS.check("https://lookaside.fbsbx.com/a", &base("http://127.0.0.1:1")).is_err());
    }

    #[tokio::test]
    async fn cap_holds_with_and_without_a_length() {
        assert_eq!(MediaStream::from_bytes("a/b", "12345").capped(4).unwrap_err().kind(), ErrorKind::TooLarge);
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(b"123")));
        let mut stream = MediaStream::from_stream("a/b", Box::pin(endless), None).capped(4).unwrap();
        assert!(stream.chunk().await.unwrap().is_ok());
        assert_eq!(stream.chunk().await.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(stream.chunk().await.is_none());
    }

    #[tokio::test]
    async fn wrong_hash_is_an_error_at_the_end() {
        let stream = |bytes: &'static str| MediaStream::from_bytes("a/b", bytes).hashed(Digest::sha256(b"tree"));
        assert_eq!(stream("tree").bytes().await.unwrap(), "tree");
        assert_eq!(stream("trees").bytes().await.unwrap_err().kind(), ErrorKind::Unexpected);
        assert_eq!(stream("").bytes().await.unwrap_err().kind(), ErrorKind::Unexpected);
    }

    #[tokio::test]
    async fn slow_file_is_ended_by_its_deadline() {
        let clock = VirtualClock::starting_at(Timestamp::default());
        let never = futures_util::stream::pending();
        let mut stream =
            MediaStream::from_stream("a/b", Box::pin(never), None).deadline(&clock, Duration::from_secs(60));
        let read = tokio::spawn(async move { (stream.chunk().await, stream.chunk().await.is_none()) });
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(60));
        let (error, ended) = read.await.unwrap();
        assert_eq!(error.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(ended);
    }
}
