//! The axum router over sockets: what gateways are answered, below a prefix and tower layers.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::twilio::Signature;
use civic_messaging::webhook::{BODY_MAX, SigningSecret};
use civic_messaging::{Channel, Error, Event, Meta, Mock, Secret, Twilio, meta, twilio};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::limit::ConcurrencyLimitLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use super::Database;
use super::desk::memory;
use super::support::signature;

const SECRET: &str = "the secret of this test";
const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TOKEN: &str = "12345678901234567890123456789012";
const PUBLIC: &str = "https://messages.example.gov.uk";

fn mock() -> Mock {
    Mock::sms().webhook_secrets([Secret::new(SECRET).unwrap().into()])
}

async fn switchboard(store: Store) -> Switchboard {
    let whatsapp = meta::Config::new("EAAG-test-token", "200000000000001").unwrap();
    let whatsapp = whatsapp.app_secret(SECRET).unwrap().verify_token("example-verify-token").unwrap();
    let sms = twilio::Config::new(ACCOUNT, TOKEN).unwrap().sender("+447700900456").unwrap();
    let sms = sms.public_url(PUBLIC).unwrap();
    let line =
        Line::new("desk").channel(mock()).channel(Meta::whatsapp(whatsapp).unwrap()).channel(Twilio::sms(sms).unwrap());
    Switchboard::builder(store).line(line).route("all", ["desk"]).build().unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

/// Sends these bytes and returns the status and body of the response.
async fn exchange(at: SocketAddr, request: &[u8]) -> (u16, String) {
    let once = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // The server may answer and close before it has read everything.
        _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {answer:?}"));
        (head[9..12].parse().unwrap(), body.to_owned())
    };
    tokio::time::timeout(Duration::from_secs(60), once).await.expect("no response within a minute")
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A webhook with one message, as the mock's gateway posts it. No two are alike.
fn event(target: &str, text: &str) -> Vec<u8> {
    static SENDER: LazyLock<Mock> = LazyLock::new(Mock::sms);
    drop(SENDER.arrives("07700 900123", text));
    let mut events = SENDER.poll(None).now_or_never().unwrap().unwrap().events;
    events.retain(|event| event.as_inbound().and_then(|inbound| inbound.text()) == Some(text));
    let body = serde_json::to_vec(&events[events.len() - 1..]).unwrap();
    request("POST", target, &[("x-mock-signature", &signature(SECRET, &body))], &body)
}

/// The texts in the inbox, which it acknowledges.
async fn texts(board: &Switchboard) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(event) = board.all().try_next().await.unwrap() {
        texts.extend(event.as_inbound().and_then(|inbound| inbound.text()).map(str::to_owned));
        event.ack().await.unwrap();
    }
    texts.sort();
    texts
}

#[tokio::test]
async fn signatures_hold_below_a_prefix_and_tower_layers() {
    let board = switchboard(memory().await).await;
    let hooks = board.router().layer(TraceLayer::new_for_http()).layer(ConcurrencyLimitLayer::new(16));
    let timeout = TimeoutLayer::with_status_code(http::StatusCode::REQUEST_TIMEOUT, Duration::from_secs(60));
    // A prefix with a parameter of its own.
    let app = Router::new().nest("/{council}/webhooks", hooks).route("/health", board.health_endpoint()).layer(timeout);
    let at = serve(app).await;
    let path = "/exampleshire/webhooks/all";

    // The body is signed.
    assert_eq!(exchange(at, &event(path, "one")).await.0, 200);
    // The URL is signed, as the gateway calls it.
    let keys = [SigningSecret::new(Secret::new(TOKEN).unwrap())];
    let scheme = Signature::new(&PUBLIC.parse().unwrap(), keys, []);
    let form = format!("AccountSid={ACCOUNT}&Body=two&From=%2B447700900123&MessageSid=SM{:032}&To=%2B447700900456", 2);
    let target = format!("{path}?hook=1");
    for (signed, status) in [(&*target, 200), ("/all?hook=1", 403), ("/exampleshire/webhooks/all", 403)] {
        let header = scheme.sign(signed, form.as_bytes()).unwrap();
        let headers = [("x-twilio-signature", &*header), ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(exchange(at, &request("POST", &target, &headers, form.as_bytes())).await.0, status, "{signed}");
    }
    // The handshake is a GET.
    let handshake = "hub.mode=subscribe&hub.challenge=1158&hub.verify_token=";
    let right = request("GET", &format!("{path}?{handshake}example-verify-token"), &[], b"");
    assert_eq!(exchange(at, &right).await, (200, "1158".to_owned()));
    let wrong = request("GET", &format!("{path}?{handshake}another-token"), &[], b"");
    assert_eq!(exchange(at, &wrong).await, (403, String::new()));

    assert_eq!(exchange(at, &request("GET", "/health", &[], b"")).await, (200, "ok\n".to_owned()));
    assert_eq!(texts(&board).await, ["one", "two"]);
}

#[tokio::test]
async fn rejected_webhooks_have_their_statuses() {
    let board = switchboard(memory().await).await;
    let small = board.router().layer(RequestBodyLimitLayer::new(100));
    let at = serve(board.router().nest("/small", small)).await;
    let chunked = |target: &str, size: usize| {
        let head =
            format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        let size_line = format!("{size:x}\r\n");
        [head.as_bytes(), size_line.as_bytes(), &vec![b' '; size], b"\r\n0\r\n\r\n"].concat()
    };
    for (status, request) in [
        (401, request("POST", "/all", &[], b"[]")),
        (403, request("POST", "/all", &[("x-mock-signature", "sha256=00")], b"[]")),
        (404, request("POST", "/other", &[], b"[]")),
        (404, request("POST", "/all/more", &[], b"[]")),
        // Its body is not waited for.
        (404, b"POST /other HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n".to_vec()),
        (405, request("PUT", "/all", &[], b"[]")),
        (400, request("POST", "/%ff", &[], b"[]")),
        // Read in full, and refused for its signature.
        (401, chunked("/all", BODY_MAX)),
        (413, chunked("/all", BODY_MAX + 1)),
        // Only declared, and not sent.
        (413, format!("POST /all HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", BODY_MAX + 1).into_bytes()),
        (413, chunked("/small/all", 101)),
        (413, request("POST", "/small/all", &[], &[b' '; 101])),
        (401, request("POST", "/small/all", &[], &[b' '; 100])),
    ] {
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        let answer = exchange(at, &request).await;
        assert_eq!(answer.0, status, "{shown}");
        assert!(status == 400 || status == 413 || answer.1.is_empty(), "{shown}: {}", answer.1);
    }
    assert!(texts(&board).await.is_empty());
}

#[tokio::test]
async fn unavailable_store_is_answered_503() {
    let database = Database::new();
    let board = switchboard(Store::open(&database.url()).await.unwrap()).await;
    let at = serve(board.router().route("/health", board.health_endpoint())).await;
    let health = request("GET", "/health", &[], b"");
    let store = rusqlite::Connection::open(&database.0).unwrap();
    let rename = |from: &str, to: &str| store.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    for (from, to) in [("event", "event_away"), ("message", "message_away")] {
        rename(from, to);
    }
    assert_eq!(exchange(at, &event("/all", "one")).await, (503, String::new()));
    assert_eq!(exchange(at, &health).await.0, 503);
    for (from, to) in [("event_away", "event"), ("message_away", "message")] {
        rename(from, to);
    }
    // The gateway redelivers it.
    assert_eq!(exchange(at, &event("/all", "one")).await.0, 200);
    assert_eq!(exchange(at, &health).await.0, 200);
    assert_eq!(texts(&board).await, ["one"]);
}

#[tokio::test]
async fn slow_and_aborted_bodies_block_no_other_webhook() {
    let board = switchboard(memory().await).await;
    let at = serve(board.router()).await;
    let begin = async |n: usize| {
        let whole = event("/all", &format!("slow {n}"));
        let mut stream = TcpStream::connect(at).await.unwrap();
        let (sent, rest) = whole.split_at(whole.len() - 5);
        stream.write_all(sent).await.unwrap();
        (stream, rest.to_owned())
    };
    // More than are processed at once.
    let mut slow = join_all((0..300).map(begin)).await;
    assert_eq!(exchange(at, &event("/all", "quick")).await.0, 200);
    assert_eq!(texts(&board).await, ["quick"]);
    // All but two break off.
    slow.truncate(2);
    for (stream, rest) in &mut slow {
        stream.write_all(rest).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(texts(&board).await, ["slow 0", "slow 1"]);
}

#[tokio::test]
async fn hanging_body_is_ended_by_a_timeout_layer() {
    let board = switchboard(memory().await).await;
    let timeout = TimeoutLayer::with_status_code(http::StatusCode::REQUEST_TIMEOUT, Duration::from_millis(50));
    let at = serve(board.router().layer(timeout)).await;
    let whole = event("/all", "late");
    assert_eq!(exchange(at, &whole[..whole.len() - 5]).await.0, 408);
    assert!(texts(&board).await.is_empty());
}

#[tokio::test]
async fn channel_router_stores_events_before_it_accepts() {
    let (stored, received) = std::sync::mpsc::channel();
    let store = move |name: String, events: Vec<Event>| {
        let text = events[0].as_inbound().unwrap().text().unwrap().to_owned();
        let result = if text == "lost" { Err(Error::unknown("the disk is full")) } else { Ok(()) };
        stored.send((name, text, events.len())).unwrap();
        async move { result }
    };
    let meta = meta::Config::new("EAAG-test-token", "200000000000001").unwrap();
    let meta = meta.app_secret(SECRET).unwrap().verify_token("example-verify-token").unwrap();
    let channels: [(&str, std::sync::Arc<dyn Channel>); 2] =
        [("sms", std::sync::Arc::new(mock())), ("whatsapp", std::sync::Arc::new(Meta::whatsapp(meta).unwrap()))];
    let at = serve(Router::new().nest("/in", civic_messaging::axum::router(channels, store))).await;
    assert_eq!(exchange(at, &event("/in/sms", "kept")).await.0, 200);
    assert_eq!(exchange(at, &event("/in/sms", "lost")).await.0, 503);
    assert_eq!(exchange(at, &event("/in/bins", "kept")).await.0, 404);
    assert_eq!(exchange(at, &event("/in/whatsapp", "kept")).await.0, 401);
    let handshake = "hub.mode=subscribe&hub.challenge=1158&hub.verify_token=example-verify-token";
    let handshake = request("GET", &format!("/in/whatsapp?{handshake}"), &[], b"");
    assert_eq!(exchange(at, &handshake).await, (200, "1158".to_owned()));
    let calls: Vec<_> = received.try_iter().collect();
    assert_eq!(calls, [("sms".into(), "kept".into(), 1), ("sms".into(), "lost".into(), 1)]);
}
