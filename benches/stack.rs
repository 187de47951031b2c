//! What the five layers cost around a channel in memory: `benches/send.rs` has the same over HTTP.
//!
//! Nobody listens to `tracing` or `metrics` here. The floor is the same channel without layers.

use std::sync::Arc;

use allocation_counter::measure;
use civic_messaging::{Address, Channel, Message};
use futures_util::FutureExt;

#[path = "common/mod.rs"]
mod common;
#[path = "common/in_memory.rs"]
mod in_memory;

use common::{Pairs, Target, header, rounds};
use in_memory::{InMemory, layered};

fn main() {
    let message = Message::text(Address::whatsapp("+447700900123").expect("a number"), "Your bin is on Tuesday.");
    let (bare, stack): (Arc<dyn Channel>, _) = (Arc::new(InMemory::new()), layered(InMemory::new()));
    let send =
        |channel: &Arc<dyn Channel>| channel.send(&message).now_or_never().expect("nothing waits").expect("taken");

    header("five layers: time", "without", "ns a message");
    Pairs::time(rounds(201), 2_000, || send(&stack), || send(&bare)).print("one after another", Target::Plus(2_000.0));

    header("five layers: allocations", "without", "calls a message");
    let count = |channel| measure(|| drop(send(channel))).count_total as f64;
    Pairs::measure(rounds(5), || count(&stack), || count(&bare)).print("one after another", Target::Plus(7.0));
}
