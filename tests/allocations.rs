//! What a call allocates, counted exactly: clocks differ from machine to machine, counts do not.
#![cfg(all(feature = "meta", feature = "reqwest", feature = "tracing"))]

use std::future::Future;
use std::sync::Arc;

use allocation_counter::measure;
use civic_messaging::address::Phone;
use civic_messaging::medium::sms;
use civic_messaging::{Address, Channel, ChannelExt, Message, Meta, Mock, meta};
use tokio::runtime::{Builder, Runtime};

#[path = "../benches/common/by_hand.rs"]
mod by_hand;
#[path = "../benches/common/in_memory.rs"]
mod in_memory;
#[path = "../benches/common/stub.rs"]
mod stub;

use by_hand::{ByHand, NUMBER, TEXT, TOKEN};

const TO: &str = "+447700900123";

fn message() -> Message {
    Message::text(Address::whatsapp(TO).unwrap(), TEXT)
}

/// Allocations a call, over many calls on one thread. The gateway is a stub in another, whose own do not count.
fn each<F: Future<Output = ()>>(runtime: &Runtime, call: impl Fn() -> F) -> f64 {
    const CALLS: u32 = 200;
    let calls = |count| {
        runtime.block_on(async {
            for _ in 0..count {
                call().await;
            }
        });
    };
    calls(8);
    measure(|| calls(CALLS)).count_total as f64 / f64::from(CALLS)
}

#[test]
fn a_send_allocates_no_more_than_one_written_by_hand() {
    let address = stub::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let config = meta::Config::new(TOKEN, NUMBER).unwrap().base_url(&format!("http://{address}")).unwrap();
    let (meta, message, hand) = (Meta::whatsapp(config).unwrap(), message(), ByHand::new(address));
    let ours = each(&runtime, || async { drop(meta.send(&message).await.unwrap()) });
    let floor = each(&runtime, || async { drop(hand.send(TO, TEXT).await.unwrap()) });
    println!("a send allocates {ours} times, by hand {floor}");
    assert!(ours <= floor, "{ours} against {floor}");
}

#[test]
fn five_layers_allocate_a_future_each_and_hardly_more() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (bare, layered, message) =
        (in_memory::InMemory::new(), in_memory::layered(in_memory::InMemory::new()), message());
    let floor = each(&runtime, || async { drop(bare.send(&message).await.unwrap()) });
    let ours = each(&runtime, || async { drop(layered.send(&message).await.unwrap()) });
    println!("a send through five layers allocates {ours} times, without them {floor}");
    // `metrics` asks for a list of labels.
    let most = if cfg!(feature = "metrics") { 6.0 } else { 5.0 };
    assert!(ours - floor <= most, "{ours} against {floor}");
}

#[test]
fn to_count_segments_and_to_check_a_text_allocate_nothing() {
    let (channel, message) = (Mock::whatsapp(), message());
    for text in [TEXT, "Mae’r casgliad ddydd Mawrth, ger Lôn y Felin.", "£5 or €6 {now}"] {
        assert_eq!(measure(|| assert!(sms::count(text).segments() > 0)).count_total, 0, "{text}");
    }
    assert_eq!(measure(|| channel.check(&message).unwrap()).count_total, 0);
}

#[test]
fn parsed_number_allocates_itself_alone_and_keyword_nothing() {
    for number in ["07700 900123", "+44 (0)7700 900123\r\n", "+353 (0)86 123 4567", "7700900123"] {
        assert_eq!(measure(|| drop(Phone::new(number).unwrap())).count_total, 1, "{number}");
    }
    for text in ["STOP", "Please stop sending me these texts. Thank you", "When is my bin collected?"] {
        assert_eq!(measure(|| _ = sms::keyword(text)).count_total, 0, "{text}");
    }
}

#[test]
fn an_arc_of_a_channel_adds_nothing() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (channel, message) = (Mock::whatsapp(), message());
    let arc: Arc<dyn Channel> = Arc::new(channel.clone());
    // A look-up of nothing: what it allocates does not depend on what was sent before.
    let sent = civic_messaging::Sent::new(message, civic_messaging::Timestamp::default());
    let bare = each(&runtime, || async { drop(Channel::look_up(&channel, &sent).await.unwrap()) });
    let through = each(&runtime, || async { drop(Channel::look_up(&arc, &sent).await.unwrap()) });
    let twice = Arc::new(arc.clone());
    let deeper = each(&runtime, || async { drop(Channel::look_up(&twice, &sent).await.unwrap()) });
    assert_eq!((bare, bare), (through, deeper));
}
