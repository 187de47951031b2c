//! A scripted gateway on loopback that injects faults and counts accepted messages.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::request::ReceivedRequest;
use super::step::{SocketFault, Step};

/// A scripted gateway on loopback that injects faults and counts accepted messages.
///
/// Script it with [`Step`]s: each matches one request, in order, and defines its response; after the last one,
/// [`always`](Self::always) applies. An unexpected request is a problem, and gets 404. The gateway implements HTTP/1.1 on a
/// plain socket, so that it can fail as an HTTP server would not: see [`SocketFault`].
///
/// A request counts as accepted once it was read completely, unless its response is a definite rejection: a gateway that
/// responds with 500, or whose response is lost, may have accepted the message.
///
/// ```
/// use civic_messaging::testing::{FakeGateway, SocketFault, Step};
/// use civic_messaging::{Address, ChannelExt, Meta, Outcome, meta};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let gateway = FakeGateway::start().await;
/// gateway.expects(Step::any().breaks(SocketFault::ResetAfterRequest));
///
/// let config = meta::Config::new("EAAG-example-token", "200000000000001")?.base_url(&gateway.base_url())?;
/// let whatsapp = Meta::whatsapp(config)?;
/// let error = whatsapp.send_text(&Address::whatsapp("07700 900123")?, "Case 4711 is closed.").await.unwrap_err();
///
/// assert_eq!(error.outcome(), Outcome::Unknown); // and the gateway did accept it:
/// assert_eq!(gateway.accepted("Case 4711"), 1);
/// gateway.assert_done();
/// # Ok::<(), civic_messaging::Error>(()) }).unwrap();
/// ```
pub struct FakeGateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: AbortHandle,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Default)]
struct State {
    script: VecDeque<Step>,
    always: Option<Step>,
    /// The place of the idempotency key, and the answers to the accepted requests.
    idempotency: Option<String>,
    answers: HashMap<String, Vec<u8>>,
    asked: Vec<ReceivedRequest>,
    problems: Vec<String>,
    open: usize,
}

impl State {
    /// Returns the first answer to a repeated request, or records the answer to an accepted one.
    fn answer_to_repeated(&mut self, asked: &ReceivedRequest, answer: &[u8]) -> Option<Vec<u8>> {
        let name = self.idempotency.as_ref().filter(|_| asked.whole)?;
        let fields = asked.fields();
        let places = ["header ", "query ", "field ", "part ", "body/"].map(|place| format!("{place}{name}"));
        let key = places.iter().find_map(|place| fields.get(place))?;
        let first = self.answers.get(key).cloned();
        if first.is_none() && asked.accepted {
            self.answers.insert(key.clone(), answer.to_vec());
        }
        first
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeGateway {
    /// Starts a gateway, inside a tokio runtime. Dropping it stops it.
    ///
    /// # Panics
    /// If no port on loopback is available.
    #[allow(clippy::panic, reason = "a test cannot run without its server")]
    pub async fn start() -> Self {
        match Self::bound().await {
            Ok(gateway) => gateway,
            Err(error) => panic!("no port on loopback: {error}"),
        }
    }

    async fn bound() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Ok(Self { shared, address, serving })
    }

    /// Returns the base URL: `http://127.0.0.1:` and a port.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds the next expected request, with its response.
    pub fn expects(&self, step: Step) {
        self.shared.state().script.push_back(step);
    }

    /// Sets the response to every request after the last step.
    pub fn always(&self, step: Step) {
        self.shared.state().always = Some(step);
    }

    /// Recognises a repeated request by this header, query parameter, form field, part or top-level member of JSON, as a gateway
    /// with an idempotency key does: it gets the first answer, and is not accepted again.
    ///
    /// A repeated request uses its step, with the fault of that step.
    pub fn idempotency_key(&self, name: impl Into<String>) {
        self.shared.state().idempotency = Some(name.into());
    }

    /// Returns the requests received, in order, including incomplete ones.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.state().asked.clone()
    }

    /// Returns the number of accepted requests that contain this text: a [`Message::key`](crate::Message::key) if the
    /// gateway carries it, else any text unique to a message. See [`ReceivedRequest::contains`].
    pub fn accepted(&self, key: &str) -> usize {
        self.shared.state().asked.iter().filter(|asked| asked.accepted && asked.contains(key)).count()
    }

    /// Returns the requests that did not match, and the number of steps that were not used. Empty on success.
    pub fn problems(&self) -> Vec<String> {
        let state = self.shared.state();
        let left = state.script.len();
        let unused = (left > 0).then(|| format!("{left} of the expected requests were never made"));
        state.problems.iter().cloned().chain(unused).collect()
    }

    /// Asserts that every request matched its step, and that no step is left.
    ///
    /// # Panics
    /// If there are problems.
    #[track_caller]
    pub fn assert_done(&self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    /// Waits until every connection is closed and nothing more can arrive. Drop the client first: its pool keeps
    /// connections open.
    pub async fn closed(&self) {
        loop {
            let closed = self.shared.closed.notified();
            if self.shared.state().open == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl fmt::Debug for FakeGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("FakeGateway").field("asked", &state.asked.len()).field("left", &state.script.len()).finish()
    }
}

/// A bound port on loopback without a listener: it refuses connections, and no other process can take it.
#[derive(Debug)]
pub(super) struct RefusedPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl RefusedPort {
    pub(super) fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = socket.local_addr()?;
        Ok(Self { _socket: socket, address })
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.state().open += 1;
        let open = Open(shared.clone());
        connections.spawn(async move {
            let connection = Connection { stream, bytes: Vec::new(), len: 0, limit: usize::MAX };
            // Connection errors of the client are expected.
            _ = connection.serve(&open.0).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Counts a connection as open.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().open -= 1;
        self.0.closed.notify_waiters();
    }
}

/// A connection, with the bytes received of the current request.
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    len: usize,
    limit: usize,
}

/// The maximum size of a request.
const REQUEST_MAX: usize = 64 * 1024 * 1024;

impl Connection {
    async fn serve(mut self, shared: &Shared) -> io::Result<()> {
        loop {
            let at_once = {
                let mut state = shared.state();
                let first = state.script.front().or(state.always.as_ref());
                let at_once = first.is_some_and(|step| step.fault == Some(SocketFault::ResetAtOnce));
                if at_once {
                    state.script.pop_front();
                }
                at_once
            };
            if at_once {
                return self.reset();
            }
            // A step is used when a request begins: an idle connection uses none.
            self.limit = usize::MAX;
            self.len = self.bytes.len();
            if self.bytes.is_empty() && !self.more(1).await? {
                return Ok(());
            }
            let step = {
                let mut state = shared.state();
                state.script.pop_front().or_else(|| state.always.clone())
            };
            let fault = step.as_ref().and_then(|step| step.fault);
            if let Some(SocketFault::CutRequest(limit)) = fault {
                self.limit = limit.max(1);
            }
            let mut asked = self.request().await?;
            let cut = matches!(fault, Some(SocketFault::CutRequest(_)));
            let Some(step) = step else {
                let problem = format!("unexpected request: {} {}", asked.method, asked.path);
                {
                    let mut state = shared.state();
                    state.problems.push(problem);
                    state.asked.push(asked);
                }
                self.stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?;
                continue;
            };
            asked.accepted = asked.whole && step.accepts();
            let mut answer = step.written(Some(&asked));
            {
                let mut state = shared.state();
                if let Some(first) = state.answer_to_repeated(&asked, &answer) {
                    (asked.accepted, answer) = (false, first);
                }
                if !cut && asked.whole {
                    state.problems.extend(step.problem(&asked));
                }
                state.asked.push(asked.clone());
            }
            if cut {
                return self.reset();
            }
            if !asked.whole {
                return Ok(());
            }
            match fault {
                Some(SocketFault::CutAnswer(len)) => {
                    self.stream.write_all(answer.get(..len).unwrap_or(&answer)).await?;
                    return self.stream.shutdown().await;
                }
                Some(SocketFault::Drip(apart)) => {
                    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
                    let (head, body) = answer.split_at_checked(head).unwrap_or((&answer, &[]));
                    self.stream.write_all(head).await?;
                    for byte in body {
                        self.stream.write_all(&[*byte]).await?;
                        tokio::time::sleep(apart).await;
                    }
                }
                Some(SocketFault::ResetAfterRequest) => return self.reset(),
                Some(SocketFault::Stall) => {
                    while self.more(usize::MAX).await? {}
                    return Ok(());
                }
                _ => self.stream.write_all(&answer).await?,
            }
            if fault == Some(SocketFault::CloseAfterAnswer) || step.content_length.is_some() {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Reads more bytes. Returns `false` at the end or at the limit.
    async fn more(&mut self, at_most: usize) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let room = (self.limit - self.len).min(at_most).min(piece.len());
        let read = match piece.get_mut(..room) {
            Some(room) if !room.is_empty() => self.stream.read(room).await?,
            _ => 0,
        };
        self.bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        self.len += read;
        Ok(read > 0)
    }

    /// Reads one request, which may be incomplete.
    async fn request(&mut self) -> io::Result<ReceivedRequest> {
        let mut asked = ReceivedRequest {
            method: Method::GET,
            path: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            whole: false,
            accepted: false,
            len: self.len,
            head: String::new(),
        };
        let head = loop {
            if let Some(head) = read_head(&self.bytes, &mut asked)? {
                break head;
            }
            if self.bytes.len() > REQUEST_MAX || !self.more(usize::MAX).await.unwrap_or(false) {
                asked.len = self.len;
                return Ok(asked);
            }
        };
        asked.head = String::from_utf8_lossy(self.bytes.get(..head).unwrap_or_default()).into_owned();
        let length = asked.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
        let chunked = asked.headers.contains_key("transfer-encoding");
        loop {
            let rest = self.bytes.get(head..).unwrap_or_default();
            let read =
                if chunked { unchunk(rest)? } else { rest.get(..length.unwrap_or(0)).map(|b| (b.to_vec(), b.len())) };
            if let Some((body, len)) = read {
                asked.body = body.into();
                asked.whole = true;
                self.bytes.drain(..head + len);
                break;
            }
            if rest.len() > REQUEST_MAX || !self.more(usize::MAX).await.unwrap_or(false) {
                asked.body = Bytes::copy_from_slice(self.bytes.get(head..).unwrap_or_default());
                break;
            }
        }
        asked.len = self.len;
        Ok(asked)
    }

    /// Resets the connection, which discards unsent bytes.
    fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }
}

/// Parses the head of a request. Returns its length once it is complete.
fn read_head(bytes: &[u8], asked: &mut ReceivedRequest) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else { return Ok(None) };
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    asked.method = request.method.unwrap_or("GET").parse().map_err(|_| wrong())?;
    asked.path = request.path.unwrap_or("/").to_owned();
    for header in request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| wrong())?;
        asked.headers.append(name, HeaderValue::from_bytes(header.value).map_err(|_| wrong())?);
    }
    Ok(Some(head))
}

/// Decodes a chunked body. Returns it with its encoded length once it is complete. Trailers are not supported.
fn unchunk(bytes: &[u8]) -> io::Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (start, len) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((start, len))) => (start, usize::try_from(len).unwrap_or(usize::MAX)),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        let end = start.saturating_add(len).saturating_add(2);
        let Some(chunk) = rest.get(start..end) else { return Ok(None) };
        body.extend_from_slice(chunk.get(..len).unwrap_or_default());
        at += end;
        if len == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn ask(gateway: &FakeGateway, request: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        _ = stream.write_all(request.as_bytes()).await;
        stream.shutdown().await.unwrap_or_default();
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer).await;
        answer
    }

    const POST: &str = "POST /messages HTTP/1.1\r\ncontent-length: 14\r\n\r\n{\"key\":\"k-12\"}";

    #[tokio::test]
    async fn expected_requests_are_counted_and_others_are_problems() {
        let gateway = FakeGateway::start().await;
        gateway.expects(Step::post("/messages").json(r#"{ "key": "k-12" }"#).answers(200, r#"{"id":1}"#));
        let answer = String::from_utf8(ask(&gateway, POST).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n") && answer.ends_with(r#"{"id":1}"#));
        assert_eq!((gateway.accepted("k-12"), gateway.accepted("k-13")), (1, 0));
        gateway.assert_done();
        assert!(ask(&gateway, POST).await.starts_with(b"HTTP/1.1 404"));
        assert_eq!(gateway.problems(), ["unexpected request: POST /messages"]);
        assert_eq!(gateway.accepted("k-12"), 1);
    }

    #[tokio::test]
    async fn unused_and_mismatched_steps_are_problems() {
        for (step, words) in [
            (Step::get("/messages"), "expected GET /messages, got POST /messages"),
            (Step::post("/other"), "expected"),
            (Step::any().header("x-token", "a"), "expected the header x-token"),
            (Step::any().json(r#"{"key":"k-1"}"#), "got a string of 4 characters"),
            (Step::any().json(r#"{"key":"k-12","a":1}"#), "the body/a is missing"),
            (Step::any().json("{}"), "unexpected the body/key"),
            (Step::any().form("a=1"), "the field a is missing or different"),
            (Step::any().body("a"), "got 14 others"),
            (Step::any().multipart([]), "the body is not a multipart form"),
        ] {
            let gateway = FakeGateway::start().await;
            gateway.expects(step);
            ask(&gateway, POST).await;
            let problems = gateway.problems();
            assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
            assert!(!problems[0].contains("k-12"));
        }
        let gateway = FakeGateway::start().await;
        gateway.expects(Step::any());
        assert_eq!(gateway.problems(), ["1 of the expected requests were never made"]);
    }

    #[tokio::test]
    async fn socket_faults_count_possibly_accepted_requests() {
        let full = Step::any().answers(200, "{}").answer_len();
        for (fault, bytes, accepted) in [
            (SocketFault::CloseAfterAnswer, full, 1),
            (SocketFault::CutAnswer(9), 9, 1),
            (SocketFault::CutRequest(20), 0, 0),
            (SocketFault::Drip(Duration::ZERO), full, 1),
            (SocketFault::ResetAfterRequest, 0, 1),
            (SocketFault::ResetAtOnce, 0, 0),
            (SocketFault::Stall, 0, 1),
        ] {
            let gateway = FakeGateway::start().await;
            gateway.expects(Step::any().answers(200, "{}").breaks(fault));
            assert_eq!(ask(&gateway, POST).await.len(), bytes, "{fault:?}");
            gateway.closed().await;
            assert_eq!(gateway.accepted("k-12"), accepted, "{fault:?}");
            gateway.assert_done();
        }
    }

    #[tokio::test]
    async fn only_definite_rejections_accept_nothing() {
        for (status, accepted) in [(200, 1), (202, 1), (302, 0), (400, 0), (408, 1), (429, 0), (500, 1), (503, 1)] {
            let gateway = FakeGateway::start().await;
            gateway.expects(Step::any().answers(status, ""));
            ask(&gateway, POST).await;
            assert_eq!(gateway.accepted("k-12"), accepted, "{status}");
        }
    }

    #[tokio::test]
    async fn chunked_bodies_and_requests_on_one_connection_are_read() {
        let gateway = FakeGateway::start().await;
        gateway.always(Step::any().answers(200, "ok"));
        let chunked = "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        ask(&gateway, &[chunked, POST].concat()).await;
        let asked = gateway.requests();
        assert_eq!((asked[0].body.as_ref(), asked[1].path.as_str()), (&b"abcde"[..], "/messages"));
        assert!(!format!("{asked:?}").contains("abcde"));
    }

    #[tokio::test]
    async fn repeated_key_gets_the_first_answer_and_is_not_accepted_again() {
        let gateway = FakeGateway::start().await;
        gateway.idempotency_key("key");
        gateway.expects(Step::any().answers(200, r#"{"id":1}"#).breaks(SocketFault::ResetAfterRequest));
        gateway.always(Step::any().answers(200, r#"{"id":2}"#));
        assert!(ask(&gateway, POST).await.is_empty());
        assert!(ask(&gateway, POST).await.ends_with(br#"{"id":1}"#));
        assert!(ask(&gateway, &POST.replace("k-12", "k-13")).await.ends_with(br#"{"id":2}"#));
        assert_eq!((gateway.accepted("k-12"), gateway.accepted("k-13")), (1, 1));
        assert_eq!(gateway.requests().len(), 3);
    }

    #[tokio::test]
    async fn texts_are_found_in_json_forms_and_queries() {
        let gateway = FakeGateway::start().await;
        gateway.always(Step::any());
        let request = |head: &str, body: &str| format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let form = "POST /a?q=x%20y HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        ask(&gateway, &request(form, "b=%C5%B5+")).await;
        ask(&gateway, &request("POST /a HTTP/1.1\r\n", r#"{"a":[{"b":"\u0175!"}]}"#)).await;
        let asked = gateway.requests();
        assert!(
            asked[0].contains("x y") && asked[0].contains("ŵ ") && asked[1].contains("ŵ!") && !asked[1].contains("x y")
        );
    }
}
