//! Exact allocation counts, which unlike times do not depend on the machine.
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
mod support;

use by_hand::{ByHand, NUMBER, TEXT, TOKEN};
use support::{mac, signature};

const TO: &str = "+447700900123";

fn message() -> Message {
    Message::text(Address::whatsapp(TO).unwrap(), TEXT)
}

/// Allocations per call, over many calls on one thread. The gateway is a stub on another thread, which is not counted.
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
fn send_allocates_no_more_than_a_handwritten_request() {
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
fn layers_allocate_little_more_than_one_future_each() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (bare, layered, message) =
        (in_memory::InMemory::new(), in_memory::layered(in_memory::InMemory::new()), message());
    let floor = each(&runtime, || async { drop(bare.send(&message).await.unwrap()) });
    let ours = each(&runtime, || async { drop(layered.send(&message).await.unwrap()) });
    println!("a send through five layers allocates {ours} times, without them {floor}");
    // `metrics` allocates a list of labels.
    let limit = if cfg!(feature = "metrics") { 6.0 } else { 5.0 };
    assert!(ours - floor <= limit, "{ours} against {floor}");
}

#[test]
fn segment_counting_and_checks_allocate_nothing() {
    let (channel, message) = (Mock::whatsapp(), message());
    for text in [TEXT, "Mae’r casgliad ddydd Mawrth, ger Lôn y Felin.", "£5 or €6 {now}"] {
        assert_eq!(measure(|| assert!(sms::count(text).segments() > 0)).count_total, 0, "{text}");
    }
    assert_eq!(measure(|| channel.check(&message).unwrap()).count_total, 0);
}

#[test]
fn phone_parse_allocates_once_and_keyword_match_never() {
    for number in ["07700 900123", "+44 (0)7700 900123\r\n", "+353 (0)86 123 4567", "7700900123"] {
        assert_eq!(measure(|| drop(Phone::new(number).unwrap())).count_total, 1, "{number}");
    }
    for text in ["STOP", "Please stop sending me these texts. Thank you", "When is my bin collected?"] {
        assert_eq!(measure(|| _ = sms::keyword(text)).count_total, 0, "{text}");
    }
}

#[test]
fn arc_of_channel_adds_no_allocation() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (channel, message) = (Mock::whatsapp(), message());
    let arc: Arc<dyn Channel> = Arc::new(channel.clone());
    // A look-up without a match, whose allocations do not depend on earlier sends.
    let sent = civic_messaging::lookup::LookupQuery::new(message, civic_messaging::Timestamp::default());
    let bare = each(&runtime, || async { drop(Channel::look_up(&channel, &sent).await.unwrap()) });
    let through = each(&runtime, || async { drop(Channel::look_up(&arc, &sent).await.unwrap()) });
    let twice = Arc::new(arc.clone());
    let deeper = each(&runtime, || async { drop(Channel::look_up(&twice, &sent).await.unwrap()) });
    assert_eq!((bare, bare), (through, deeper));
}

/// Receives a body with `parts` parts, and returns the bytes allocated and the number of events.
#[cfg(all(feature = "notify", feature = "x"))]
#[test]
fn webhook_allocation_is_linear_in_its_length() {
    use civic_messaging::transport::NoTransport;
    use civic_messaging::webhook::Request;
    use civic_messaging::{Context, X, x};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let context = || Context::with_transport(NoTransport);
    let whatsapp = meta::Config::new(TOKEN, "200000000000001").unwrap().app_secret(SECRET).unwrap();
    let whatsapp = Meta::whatsapp_with(whatsapp, &context()).unwrap();
    let page = meta::Config::for_page(TOKEN, "7000000000000001").unwrap().app_secret(SECRET).unwrap();
    let page = Meta::messenger_with(page, &context()).unwrap();
    let keys = civic_messaging::adapter::OAuth1::new("fixture-key", SECRET, "1900-token", "token-secret").unwrap();
    let x = X::direct_messages_with(x::Config::new("1900000000000000202", keys), &context()).unwrap();

    let signed = |body: String| -> Request {
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac(SECRET, body.as_bytes()));
        let signature = signature(SECRET, body.as_bytes());
        let request = http::Request::post("/").header("x-hub-signature-256", signature);
        request.header("x-twitter-webhooks-signature", format!("sha256={base64}")).body(body).unwrap().into()
    };
    let list = |n: usize, part: &dyn Fn(usize) -> String| (0..n).map(part).collect::<Vec<_>>().join(",");
    let value = |inner: String| {
        format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{{"field":"messages","value":
            {{"metadata":{{"phone_number_id":"200000000000001"}},{inner}}}}}]}}]}}"#
        )
    };
    let text = |n: usize| {
        format!(
            r#"{{"from":"4477009{n:05}","id":"wamid.{n}","timestamp":"1795000000","type":"text","text":{{"body":"Hello"}}}}"#
        )
    };
    let messenger = |inner: String| {
        format!(
            r#"{{"object":"page","entry":[{{"id":"7000000000000001","time":1795000000500,"messaging":[{inner}]}}]}}"#
        )
    };
    type Case<'c> = (&'c str, &'c dyn Channel, &'c dyn Fn(usize) -> String);
    let cases: [Case<'_>; 11] = [
        ("texts", &whatsapp, &|n| value(format!(r#""messages":[{}]"#, list(n, &text)))),
        ("texts and contacts", &whatsapp, &|n| {
            let contact = |n: usize| format!(r#"{{"wa_id":"4477009{n:05}","profile":{{"name":"A"}}}}"#);
            value(format!(r#""contacts":[{}],"messages":[{}]"#, list(n, &contact), list(n, &text)))
        }),
        ("empty values", &whatsapp, &|n| {
            let change = |_| r#"{"value":{}}"#.to_owned();
            format!(r#"{{"entry":[{{"id":"200000000000001","changes":[{}]}}]}}"#, list(n, &change))
        }),
        ("empty changes", &whatsapp, &|n| {
            let changes = list(n, &|_| "{}".to_owned());
            format!(r#"{{"entry":[{{"id":"200000000000001","changes":[{changes}]}}]}}"#)
        }),
        ("changes that are none", &whatsapp, &|n| {
            let changes = list(n, &|_| "1".to_owned());
            format!(r#"{{"entry":[{{"id":"200000000000001","changes":[{changes}]}}]}}"#)
        }),
        ("edits within edits", &whatsapp, &|n| {
            let [open, close] = [r#"{"edit":{"message":"#, "}}"].map(|part| part.repeat(n));
            value(format!(r#""messages":[{open}{{}}{close}]"#))
        }),
        ("attachments", &page, &|n| {
            let attachment =
                |n: usize| format!(r#"{{"type":"image","payload":{{"url":"https://cdn.example/{n}.png"}}}}"#);
            let attachments = list(n, &attachment);
            messenger(format!(
                r#"{{"sender":{{"id":"6000000000000001"}},"recipient":{{"id":"7000000000000001"}},"timestamp":1795000000500,
                "message":{{"mid":"m1","text":"Hi","attachments":[{attachments}]}}}}"#
            ))
        }),
        ("empty entries", &whatsapp, &|n| {
            format!(r#"{{"entry":[{}]}}"#, list(n, &|_| r#"{"id":"200000000000001"}"#.to_owned()))
        }),
        ("empty items", &page, &|n| messenger(list(n, &|_| "{}".to_owned()))),
        ("ids of one delivery", &page, &|n| {
            let ids = list(n, &|n| format!("\"m{n}\""));
            messenger(format!(
                r#"{{"sender":{{"id":"6000000000000001"}},"delivery":{{"mids":[{ids}],"watermark":1}}}}"#
            ))
        }),
        ("direct messages", &x, &|n| {
            let message = |n: usize| {
                format!(
                    r#"{{"id":"{n}","message_create":{{"sender_id":"1900000000000000101","message_data":{{"text":"Hi"}}}}}}"#
                )
            };
            format!(r#"{{"for_user_id":"1900000000000000202","direct_message_events":[{}]}}"#, list(n, &message))
        }),
    ];
    let runtime = Builder::new_current_thread().build().unwrap();
    for (name, channel, body) in cases {
        let cost = |n: usize| {
            let body = body(n);
            let len = body.len();
            let request = signed(body);
            let mut events = Vec::new();
            let bytes = measure(|| events = runtime.block_on(channel.receive(&request)).unwrap().events).bytes_total;
            // The stored bytes: no part twice, except for the first of several events from one object.
            let kept: usize = events.iter().map(|event| event.envelope().raw.as_bytes().len()).sum();
            assert!(kept <= 2 * len + 1_000, "{name}: of {len} bytes, {kept} are kept");
            (bytes as f64, events.len() as f64)
        };
        cost(8);
        let ((bytes, events), (twice_bytes, twice_events)) = (cost(2_000), cost(4_000));
        println!("{name}: {:.2} x the bytes and {:.2} x the events", twice_bytes / bytes, twice_events / events);
        assert!(twice_bytes / bytes <= 2.2, "{name}: {bytes} bytes and {twice_bytes}");
        assert!(twice_events / events <= 2.2, "{name}: {events} events and {twice_events}");
        // Expansion is bounded, however short the parts are.
        let (bytes, events) = cost(24_000);
        println!("{name}: 24,000 parts are {events} events of {:.1} MB", bytes / 1e6);
        assert!(events <= 11_000.0 && bytes < 120e6, "{name}: {events} events, {bytes} bytes");
    }
}
