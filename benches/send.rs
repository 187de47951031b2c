//! What a send costs: a WhatsApp text by `Meta` over `ReqwestTransport`, against the same written by hand over reqwest.
//!
//! The gateway is a stub on loopback, in a process of its own so that its time is not counted. Plain HTTP/1.1: TLS and
//! a real gateway's tens of milliseconds come on top of both. Time is CPU time of this process, from the kernel's
//! scheduler, so that other work on the machine counts less. Allocations are exact; `tests/allocations.rs` is their gate.
//! And the same through the five layers, against the bare channel.

use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use civic_messaging::{Address, Channel, Message, Meta, meta};
use tokio::runtime::Runtime;

#[path = "common/by_hand.rs"]
mod by_hand;
#[path = "common/mod.rs"]
mod common;
#[path = "common/in_memory.rs"]
mod in_memory;
#[path = "common/stub.rs"]
mod stub;

use by_hand::{ByHand, NUMBER, TEXT, TOKEN};
use common::{Pairs, Target, header, rounds};
use in_memory::layered;

const STUB: &str = "CIVIC_MESSAGING_BENCH_STUB";
const TO: &str = "+447700900123";

fn main() {
    if std::env::var_os(STUB).is_some() {
        return be_the_stub();
    }
    let (_stub, address) = start_the_stub();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let message = Message::text(Address::whatsapp(TO).expect("a number"), TEXT);
    let channel = || {
        let config = meta::Config::new(TOKEN, NUMBER).and_then(|c| c.base_url(&format!("http://{address}")));
        config.and_then(Meta::whatsapp).expect("a channel")
    };
    let (one, layered) = (sending(Arc::new(channel()), &message), sending(layered(channel()), &message));
    let hand = Arc::new(ByHand::new(address));
    let by_hand = move || {
        let hand = hand.clone();
        async move { drop(hand.send(TO, TEXT).await.expect("the stub accepts")) }
    };

    let messages = if rounds(2) == 1 { 64 } else { 1_600 };
    let bare = bare(&runtime, address, messages);
    let start = Instant::now();
    at_once(&runtime, 64, messages, &by_hand);
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    println!("the stub answers bare sockets {:.1} times as fast as reqwest asks it", bare / rate);

    header("a send: CPU time", "by hand", "µs a message");
    for (name, tasks, target) in [("one after another", 1, Target::None), ("64 at once", 64, Target::Times(1.03))] {
        let ours = || cpu(messages, || at_once(&runtime, tasks, messages, &one));
        let floor = || cpu(messages, || at_once(&runtime, tasks, messages, &by_hand));
        Pairs::measure(rounds(101), ours, floor).print(name, target);
    }

    header("a send through five layers: CPU time", "bare", "µs a message");
    let ours = || cpu(messages, || at_once(&runtime, 64, messages, &layered));
    let floor = || cpu(messages, || at_once(&runtime, 64, messages, &one));
    Pairs::measure(rounds(101), ours, floor).print("64 at once", Target::Times(1.03));

    header("a send: allocations", "by hand", "calls a message");
    let ours = || allocations(&runtime, &one);
    let floor = || allocations(&runtime, &by_hand);
    Pairs::measure(rounds(5), ours, floor).print("one after another", Target::Plus(6.0));
}

/// A program that sends this message again and again.
fn sending(
    channel: Arc<dyn Channel>,
    message: &Message,
) -> impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Clone + use<> {
    let ours = Arc::new((channel, message.clone()));
    move || {
        let ours = ours.clone();
        Box::pin(async move { drop(ours.0.send(&ours.1).await.expect("the stub accepts")) })
    }
}

/// Runs `messages` sends on so many tasks.
fn at_once<S, F>(runtime: &Runtime, tasks: usize, messages: usize, send: &S)
where
    S: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    runtime.block_on(async {
        let task = |_| {
            let send = send.clone();
            tokio::spawn(async move {
                for _ in 0..messages / tasks {
                    send().await;
                }
            })
        };
        for task in (0..tasks).map(task).collect::<Vec<_>>() {
            task.await.expect("no send panics");
        }
    });
}

/// Messages a second over 64 bare sockets.
fn bare(runtime: &Runtime, address: SocketAddr, messages: usize) -> f64 {
    let start = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..64).map(|_| tokio::spawn(stub::hammer(address, messages / 64))).collect();
        for task in tasks {
            task.await.expect("the stub answers");
        }
    });
    messages as f64 / start.elapsed().as_secs_f64()
}

fn allocations<F: Future<Output = ()>>(runtime: &Runtime, send: &impl Fn() -> F) -> f64 {
    const MESSAGES: u32 = 200;
    runtime.block_on(send());
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                send().await;
            }
        });
    });
    counted.count_total as f64 / f64::from(MESSAGES)
}

/// CPU time of this process a message, in microseconds.
fn cpu(messages: usize, work: impl FnOnce()) -> f64 {
    let start = cpu_so_far();
    work();
    (cpu_so_far() - start).as_nanos() as f64 / 1_000.0 / messages as f64
}

/// CPU time of all threads of this process so far. Where the kernel does not tell, the time of day.
fn cpu_so_far() -> Duration {
    // A thread's own time is brought up to date when it is switched out.
    std::thread::sleep(Duration::from_micros(50));
    let spent = || {
        let mut nanos = 0;
        for thread in std::fs::read_dir("/proc/self/task").ok()? {
            let line = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            nanos += line.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(nanos))
    };
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    spent().unwrap_or_else(|| START.get_or_init(Instant::now).elapsed())
}

struct Stub(std::process::Child);

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_the_stub() -> (Stub, SocketAddr) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    let mut child =
        command.env(STUB, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the stub starts");
    let mut line = String::new();
    let read = child.stdout.take().map(BufReader::new).and_then(|mut out| out.read_line(&mut line).ok());
    read.expect("the stub prints its address");
    (Stub(child), line.trim().parse().expect("an address"))
}

fn be_the_stub() {
    // It ends with the program that started it, whose end of the pipe is then closed.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    stub::serve(|address| println!("{address}"));
}
