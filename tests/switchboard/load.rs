//! Webhook intake at a steady rate, under ten times that rate (or overload), and afterwards, from a gateway on loopback
//! that signs webhooks and records 2xx responses. The service is its own process, so that its memory can be measured.
//!
//! `CIVIC_INTAKE_SECONDS` sets the duration of the steady rate (2); the overload lasts half as long. With it the
//! targets for time and memory are asserted; without it, only that nothing is lost and that the service recovers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use civic_messaging::{Channel, Mock};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Database;
use super::intake::{SECRET, start};
use super::support::signature;

/// Webhooks per second.
const RATE: u32 = 500;

/// More connections than the service accepts at once.
const CROWD: usize = 1_024;

/// One webhook and its response.
struct Posted {
    n: u64,
    /// `None` without a response.
    status: Option<u16>,
    due: Instant,
    took: Duration,
}

/// A gateway: each webhook is due at a fixed time, from which its latency counts.
struct Gateway {
    at: SocketAddr,
    body: String,
    id: String,
    next: AtomicU64,
}

impl Gateway {
    fn new(at: SocketAddr) -> Arc<Self> {
        let mock = Mock::sms();
        drop(mock.arrives("07700 900123", "Message 0."));
        let event = mock.poll(None).now_or_never().unwrap().unwrap().events.remove(0);
        let id = event.as_inbound().unwrap().id.as_str().to_owned();
        Arc::new(Self { at, body: serde_json::to_string(&[event]).unwrap(), id, next: AtomicU64::new(0) })
    }

    fn request(&self, n: u64) -> Vec<u8> {
        let body = self.body.replace(&self.id, &format!("load-{n}")).replace("Message 0.", &format!("Message {n}."));
        let (signature, len) = (signature(SECRET, body.as_bytes()), body.len());
        format!(
            "POST /sms HTTP/1.1\r\nhost: localhost\r\nx-mock-signature: {signature}\r\ncontent-length: {len}\r\n\r\n\
             {body}"
        )
        .into_bytes()
    }

    /// Posts `rate` webhooks per second for `time` over `connections` connections.
    async fn posts(self: &Arc<Self>, rate: u32, time: Duration, connections: usize) -> Vec<Posted> {
        let (start, turn) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (gateway, turn) = (self.clone(), turn.clone());
            tasks.spawn(async move {
                let (mut posted, mut stream) = (Vec::new(), None);
                loop {
                    let after = Duration::from_secs(turn.fetch_add(1, Ordering::AcqRel)) / rate;
                    if after >= time {
                        return posted;
                    }
                    let due = start + after;
                    tokio::time::sleep_until(due.into()).await;
                    // Webhooks that are late are skipped.
                    if start.elapsed() >= time {
                        return posted;
                    }
                    let n = gateway.next.fetch_add(1, Ordering::AcqRel);
                    let request = gateway.request(n);
                    let once = post(gateway.at, &mut stream, &request);
                    let status = tokio::time::timeout(Duration::from_secs(10), once).await.ok().flatten();
                    if status.is_none() {
                        stream = None;
                    }
                    posted.push(Posted { n, status, due, took: due.elapsed() });
                }
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn post(at: SocketAddr, stream: &mut Option<TcpStream>, request: &[u8]) -> Option<u16> {
    let stream = match stream {
        Some(stream) => stream,
        none => none.insert(TcpStream::connect(at).await.ok()?),
    };
    stream.write_all(request).await.ok()?;
    let (mut answer, mut have) = ([0; 1024], 0);
    loop {
        match stream.read(answer.get_mut(have..)?).await.ok()? {
            0 => return None,
            more => have += more,
        }
        let text = std::str::from_utf8(&answer[..have]).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let len =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(Some(0), |n| n.parse().ok());
        if body.len() >= len? {
            return head.get(9..12)?.parse().ok();
        }
    }
}

/// A percentile of the latencies.
fn percentile<'a>(posted: impl Iterator<Item = &'a Posted>, percent: usize) -> Duration {
    let mut took: Vec<_> = posted.map(|posted| posted.took).collect();
    took.sort_unstable();
    took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn count(posted: &[Posted], status: impl Fn(Option<u16>) -> bool) -> usize {
    posted.iter().filter(|posted| status(posted.status)).count()
}

/// A line of `/proc/PID/status`, in kB.
fn memory(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|of| of.strip_prefix(line)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_answered_2xx_survive_tenfold_load() {
    let long = std::env::var("CIVIC_INTAKE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let steady = Duration::from_secs(long.unwrap_or(2));
    let database = Database::new();
    let (mut service, at) = start(&database);
    let gateway = Gateway::new(at);
    let idle = memory(service.id(), "VmRSS:");

    let before = gateway.posts(RATE, steady, 64).await;
    let ok = |status: Option<u16>| status.is_some_and(|status| (200..300).contains(&status));
    let p99 = percentile(before.iter(), 99);
    let at_work = memory(service.id(), "VmHWM:");
    println!(
        "{RATE} a second for {} s: {} answered 2xx, {} not; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; {idle} kB when idle, \
         {at_work} kB at most",
        steady.as_secs(),
        count(&before, ok),
        count(&before, |status| !ok(status)),
        percentile(before.iter(), 50).as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        percentile(before.iter(), 100).as_secs_f64() * 1e3,
    );

    // If it handles ten times the rate, every connection posts as fast as it can.
    let mut during = Vec::new();
    for times in [10, 100] {
        let posted = gateway.posts(times * RATE, steady / 2, CROWD).await;
        let refused = count(&posted, |status| status == Some(503));
        println!(
            "up to {} a second for {} s: {} answered 2xx, {refused} answered 503, {} without an answer; {} kB at most",
            times * RATE,
            (steady / 2).as_secs(),
            count(&posted, ok),
            count(&posted, |status| status.is_none()),
            memory(service.id(), "VmHWM:"),
        );
        during.extend(posted);
        if refused > 0 {
            break;
        }
    }
    let overloaded = memory(service.id(), "VmHWM:");

    // The time from which each quarter of a second is as before.
    let end = Instant::now();
    let after = gateway.posts(RATE, Duration::from_secs(if long.is_some() { 10 } else { 2 }), 64).await;
    let quarter = |posted: &Posted| posted.due.duration_since(end).as_millis() / 250;
    let bad = |n: u128| {
        let of = || after.iter().filter(|posted| quarter(posted) == n);
        of().any(|posted| !ok(posted.status)) || percentile(of(), 99) > Duration::from_millis(100)
    };
    let recovered = Duration::from_millis(250) * (0..40).rev().find(|n| bad(*n)).map_or(0, |n| n as u32 + 1);
    println!("{:.2} s until it was as before; {} kB at last", recovered.as_secs_f64(), memory(service.id(), "VmRSS:"));
    service.kill().unwrap();
    service.wait().unwrap();

    let mut there = HashMap::<u64, usize>::new();
    let db = rusqlite::Connection::open(&database.0).unwrap();
    let mut bodies = db.prepare("SELECT body FROM event").unwrap();
    for body in bodies.query_map((), |row| row.get::<_, String>(0)).unwrap() {
        let body = body.unwrap();
        let n = body.split_once("Message ").and_then(|(_, rest)| rest.split_once('.')?.0.parse().ok()).unwrap();
        *there.entry(n).or_default() += 1;
    }
    let all = || before.iter().chain(&during).chain(&after);
    let lost = all().filter(|posted| ok(posted.status) && !there.contains_key(&posted.n)).count();
    let twice = there.values().filter(|times| **times > 1).count();
    println!(
        "{} posted, {} are there; {lost} that were answered 2xx are lost, {twice} are there twice",
        all().count(),
        there.len()
    );
    assert!(lost == 0 && twice == 0);
    assert!(count(&before, ok) > 0 && count(&after[after.len() / 2..], ok) > 0, "hardly anything happened");
    // The maximum held for concurrent requests.
    assert!(overloaded < at_work + 64 * 1024, "{at_work} kB, and {overloaded} kB under overload");
    if long.is_some() {
        assert!(count(&before, |status| !ok(status)) == 0 && p99 <= Duration::from_millis(100), "{p99:?}");
        assert!(recovered < Duration::from_secs(10), "{recovered:?}");
        assert!(count(&during, |status| status == Some(503)) > 0, "it was no overload");
    }
}
