//! A supplier on loopback that does as the script says, and counts the messages it took.
//!
//! It knows nothing of any client: it speaks HTTP/1.1 over a plain socket, so that it can also do what an HTTP server
//! would not do.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;

/// What a supplier does with a message that it has read to the end.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Takes it, and says so.
    Accepts,
    /// Takes it, and closes the connection without a word.
    Drops,
    /// Takes it, and says nothing until the client gives up.
    Silence,
    /// Says no: the person does not want messages.
    OptedOut,
    /// Says no: too many requests, and how long to wait.
    TooMany,
    /// Says that it has an error of its own.
    ServerError,
}

/// Whose wire the supplier speaks: only the words of its answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Meta,
    Twilio,
}

/// The wait that [`Answer::TooMany`] asks for. No other number in its answer is the same.
pub const RETRY_AFTER: Duration = Duration::from_secs(7);

/// A supplier on loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    body: Vec<u8>,
    taken: bool,
}

impl Fake {
    /// Starts one that accepts everything.
    pub async fn start(wire: Wire) -> Self {
        Down::new().start(wire).await
    }

    /// Forgets what came so far, and answers from now on like this, the last answer over and over.
    pub fn script(&self, answers: &[Answer]) {
        *self.state() = State { script: answers.iter().copied().collect(), requests: Vec::new() };
    }

    /// Where it is.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// How many requests it read to the end.
    pub fn requests(&self) -> usize {
        self.state().requests.len()
    }

    /// How many messages it took: the resident gets each of them.
    pub fn copies(&self) -> usize {
        self.state().requests.iter().filter(|request| request.taken).count()
    }

    /// How often this letter is in each request.
    pub fn letters(&self, letter: u8) -> Vec<usize> {
        let count = |request: &Request| request.body.iter().filter(|byte| **byte == letter).count();
        self.state().requests.iter().map(count).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A supplier that is not up yet: it has its port, where nobody listens, so that nothing can be sent to it.
#[derive(Debug)]
pub struct Down {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Down {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port on loopback");
        let address = socket.local_addr().expect("the address of the port");
        Self { socket, address }
    }

    /// Where it will be.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Brings it up, inside a runtime.
    pub async fn start(self, wire: Wire) -> Fake {
        let state = Arc::<Mutex<State>>::default();
        let listener = self.socket.listen(16).expect("a listener on the port");
        let serving = tokio::spawn(accept(listener, wire, state.clone())).abort_handle();
        Fake { address: self.address, state, serving }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, wire: Wire, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        // A connection that the client breaks is no problem of ours.
        tokio::spawn(async move { _ = serve(stream, wire, &state).await });
    }
}

/// One request on each connection: every answer asks the client to close it.
async fn serve(mut stream: TcpStream, wire: Wire, state: &Mutex<State>) -> io::Result<()> {
    let Some(body) = read(&mut stream).await? else { return Ok(()) };
    let answer = {
        let mut state = lock(state);
        let answer = match state.script.len() {
            0 => Answer::Accepts,
            1 => state.script[0],
            _ => state.script.pop_front().unwrap_or(Answer::Accepts),
        };
        let taken = matches!(answer, Answer::Accepts | Answer::Drops | Answer::Silence);
        state.requests.push(Request { body, taken });
        answer
    };
    match answer {
        Answer::Drops => Ok(()),
        Answer::Silence => stream.read(&mut [0]).await.map(|_| ()),
        _ => {
            stream.write_all(words(answer, wire).as_bytes()).await?;
            stream.shutdown().await
        }
    }
}

/// The body of one request; none when the connection ends before it does.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Ok(Some(bytes.split_off(end + 4)));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The answer as the vendor writes it.
fn words(answer: Answer, wire: Wire) -> String {
    let (status, body) = match (answer, wire) {
        (Answer::OptedOut, Wire::Twilio) => ("400 Bad Request", TWILIO_OPTED_OUT),
        (Answer::OptedOut, Wire::Meta) => ("400 Bad Request", META_OPTED_OUT),
        (Answer::TooMany, Wire::Twilio) => ("429 Too Many Requests", TWILIO_TOO_MANY),
        (Answer::TooMany, Wire::Meta) => ("429 Too Many Requests", META_TOO_MANY),
        (Answer::ServerError, Wire::Twilio) => ("500 Internal Server Error", TWILIO_SERVER_ERROR),
        (Answer::ServerError, Wire::Meta) => ("500 Internal Server Error", META_SERVER_ERROR),
        (_, Wire::Twilio) => ("201 Created", TWILIO_ACCEPTED),
        (_, Wire::Meta) => ("200 OK", META_ACCEPTED),
    };
    let wait = match answer {
        Answer::TooMany => format!("retry-after: {}\r\n", RETRY_AFTER.as_secs()),
        _ => String::new(),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{wait}content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

const TWILIO_ACCEPTED: &str = r#"{"sid":"SM11111111111111111111111111111111","status":"queued","num_segments":"1"}"#;
const TWILIO_OPTED_OUT: &str = r#"{"code":21610,"message":"Attempt to send to unsubscribed recipient","more_info":"https://www.twilio.com/docs/errors/21610","status":400}"#;
const TWILIO_TOO_MANY: &str = r#"{"code":20429,"message":"Too Many Requests","more_info":"https://www.twilio.com/docs/errors/20429","status":429}"#;
const TWILIO_SERVER_ERROR: &str = r#"{"code":20500,"message":"Internal Server Error","more_info":"https://www.twilio.com/docs/errors/20500","status":500}"#;

const META_ACCEPTED: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"+447700900123","wa_id":"447700900123"}],"messages":[{"id":"wamid.EXAMPLE"}]}"#;
const META_OPTED_OUT: &str = r#"{"error":{"message":"(#131050) User has stopped marketing messages","type":"OAuthException","code":131050,"fbtrace_id":"AExampleTrace"}}"#;
const META_TOO_MANY: &str = r#"{"error":{"message":"(#130429) Rate limit hit","type":"OAuthException","code":130429,"fbtrace_id":"AExampleTrace"}}"#;
const META_SERVER_ERROR: &str = r#"{"error":{"message":"(#131000) Something went wrong","type":"OAuthException","code":131000,"fbtrace_id":"AExampleTrace"}}"#;
