//! What sending at a rate costs beside many that wait: processor time and bytes written for each message, of a worker at 50
//! messages a second, with 1,000 and with 100,000 queued in SQLite. With one reply and one emergency a second to another
//! person, and how long these take.

use std::time::{Duration, Instant};

use civic_messaging::capability::TextLimit;
use civic_messaging::rate::Rate;
use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::{
    Accepted, Address, Channel, Content, Error, Info, Medium, Message, Purpose, Result, async_trait, webhook,
};
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

const RATE: u32 = 50;
const SECONDS: u64 = 20;

/// A channel that says what it takes.
#[derive(Clone, Debug)]
struct Tells(Info, mpsc::UnboundedSender<(String, Instant)>);

#[async_trait]
impl Channel for Tells {
    fn info(&self) -> &Info {
        &self.0
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let Content::Text(text) = &message.content else { return Err(Error::unsupported("texts only")) };
        let _ = self.1.send((text.clone(), Instant::now()));
        Ok(Accepted::new("memory", format!("SM-{text}"), bytes::Bytes::new()))
    }

    async fn receive(&self, _: &webhook::Request) -> Result<webhook::Received> {
        Err(Error::unsupported("it only takes messages"))
    }
}

pub(crate) fn measure(runtime: &Runtime) {
    println!("\nat {RATE} messages a second for {SECONDS} s, in SQLite");
    println!(
        "{:<10}{:>8}{:>14}{:>14}{:>22}{:>22}",
        "queued", "sent", "CPU ms each", "KB each", "emergency ms p50/p99", "reply ms p50/p99"
    );
    for queued in [1_000, 100_000] {
        runtime.block_on(at_a_rate(queued));
    }
}

async fn at_a_rate(queued: u32) {
    let path = crate::file("rate");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.expect("a file");
    let (tells, mut received) = mpsc::unbounded_channel();
    let info = Info::new("memory", Medium::Sms, "desk").with_capability(|can| {
        can.text = Some(TextLimit::characters(4_096));
        can.rate = Some(Rate::per_second(RATE));
    });
    let line = Line::new("desk").channel(Tells(info, tells)).marketing_without_consent(true);
    let board = Switchboard::builder(store).line(line).build().expect("a switchboard");
    let person = |n: u32| crate::taking::message(n as usize).to;
    for chunk in 0..queued / 500 {
        let bulk = (chunk * 500..(chunk + 1) * 500)
            .map(|n| board.send("desk", Message::text(person(n), format!("bulk {n}")).purpose(Purpose::Marketing)));
        join_all(bulk).await.into_iter().for_each(|taken| {
            taken.expect("it is taken");
        });
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(board.clone().run(async { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, written, start) = (cpu(), written(), Instant::now());
    let mut begun = Vec::new();
    for second in 0..SECONDS {
        for (kind, purpose) in [("emergency", Purpose::Emergency), ("reply", Purpose::Reply)] {
            let text = format!("{kind} {second}");
            begun.push((text.clone(), Instant::now()));
            let to = Address::phone("07700 900123").expect("a number");
            board.send("desk", Message::text(to, text).purpose(purpose)).await.expect("it is taken");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let took = start.elapsed();
    let (cpu, written) = (self::cpu() - cpu, self::written() - written);
    drop(stop);
    worker.await.expect("no panic").expect("it works");
    let (mut sent, mut times) = (0_u32, std::collections::HashMap::new());
    while let Ok((text, at)) = received.try_recv() {
        sent += u32::from(at >= start && at < start + took);
        times.insert(text, at);
    }
    let of = |kind: &str| {
        let mut waits: Vec<_> = begun
            .iter()
            .filter(|(text, _)| text.starts_with(kind))
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|(text, since)| Some(times.get(text)?.saturating_duration_since(*since).as_secs_f64() * 1e3))
            .collect();
        waits.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        format!("{:.0} / {:.0}", at(50), at(99))
    };
    println!(
        "{queued:<10}{sent:>8}{:>14.2}{:>14.1}{:>22}{:>22}",
        cpu / f64::from(sent),
        written / 1024.0 / f64::from(sent),
        of("emergency"),
        of("reply")
    );
    let _ = crate::file("rate");
}

/// Milliseconds of processor time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = |n: usize| after.split_whitespace().nth(n).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 10.0
}

/// Bytes that this process has written.
fn written() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|n| n.trim().parse().ok());
    line.unwrap_or(0.0)
}
