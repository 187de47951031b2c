//! A gateway on loopback that answers every request with the same bytes and keeps its connections open.

#![allow(dead_code, reason = "the bench starts it in another process, the test in another thread")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\ncontent-length: 146\r\n\r\n",
    r#"{"messaging_product":"whatsapp","contacts":[{"input":"+447700900123","wa_id":"447700900123"}],"#,
    r#""messages":[{"id":"wamid.FIXTURE_OUT_0001_LONG_1"}]}"#,
);

/// Serves on its own runtime in this thread, after it passed its address to `on_start`.
pub(crate) fn serve(on_start: impl FnOnce(SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        on_start(listener.local_addr().expect("an address"));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
}

/// Serves in another thread.
pub(crate) fn start() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || serve(|address| sender.send(address).expect("a receiver")));
    receiver.recv().expect("the stub starts")
}

async fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut seen = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        while let Some(len) = whole(&seen) {
            seen.drain(..len);
            if stream.write_all(ANSWER.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The length of the first request, once it is all there.
fn whole(seen: &[u8]) -> Option<usize> {
    let head = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let lines = std::str::from_utf8(&seen[..head]).ok()?.split("\r\n");
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let len = head + length.map_or(Ok(0), |(_, value)| value.trim().parse::<usize>()).ok()?;
    (seen.len() >= len).then_some(len)
}

/// Makes requests over bare sockets and reads the answers, to see that the stub is not what limits.
pub(crate) async fn hammer(address: SocketAddr, requests: usize) {
    const REQUEST: &[u8] = b"POST /v26.0/200000000000001/messages HTTP/1.1\r\ncontent-length: 130\r\n\r\n";
    let mut stream = TcpStream::connect(address).await.expect("the stub listens");
    let _ = stream.set_nodelay(true);
    let request = [REQUEST, &[b' '; 130]].concat();
    let mut answer = vec![0; ANSWER.len()];
    for _ in 0..requests {
        stream.write_all(&request).await.expect("the stub reads");
        stream.read_exact(&mut answer).await.expect("the stub answers");
    }
}
