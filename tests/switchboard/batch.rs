//! The largest webhook that Meta posts, and a small one that arrives while it is stored.

use std::time::{Duration, Instant};

use civic_messaging::switchboard::{Line, Store, Switchboard};
use civic_messaging::transport::NoTransport;
use civic_messaging::webhook::Request;
use civic_messaging::{Context, Meta, meta};
use serde_json::json;

use super::Database;
use super::support::signed_by_meta;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn post(messages: impl Iterator<Item = usize>, text: &str) -> Request {
    let message = |n: usize| {
        let (id, from) = (format!("wamid.{n}"), format!("4477009{n:05}"));
        json!({ "from": from, "id": id, "timestamp": "1795000000", "type": "text", "text": { "body": text } })
    };
    let value = json!({
        "metadata": { "phone_number_id": "200000000000001" }, "messages": messages.map(message).collect::<Vec<_>>(),
    });
    let body = json!({ "object": "whatsapp_business_account", "entry": [
        { "id": "100000000000001", "changes": [{ "field": "messages", "value": value }] },
    ] });
    let body = body.to_string();
    signed_by_meta(SECRET, body)
}

/// Prints the times, and asserts them only with `CIVIC_TIMES=1`, because machines differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_webhook_is_not_delayed_by_a_3_mb_batch() {
    let file = Database::new();
    let config = meta::Config::new("EAAG-test-token", "200000000000001").unwrap().app_secret(SECRET).unwrap();
    let channel = Meta::whatsapp_with(config, &Context::with_transport(NoTransport)).unwrap();
    let store = Store::open(&file.url()).await.unwrap();
    let builder = Switchboard::builder(store).line(Line::new("desk").channel(channel)).route("whatsapp", ["desk"]);
    let switchboard = builder.build().unwrap();
    let mut worst = [Duration::ZERO; 2];
    for round in 0..5_usize {
        let first = 10_000 + round * 2_000;
        let batch = post(first..first + 1_000, &"x".repeat(2_900));
        let [slow, quick] = [switchboard.clone(), switchboard.clone()];
        let batch = tokio::spawn(async move {
            let start = Instant::now();
            (slow.receive("whatsapp", batch).await.status, start.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let start = Instant::now();
        let small = quick.receive("whatsapp", post(first + 1_500..first + 1_501, "Hello")).await;
        let waited = start.elapsed();
        let (status, took) = batch.await.unwrap();
        assert_eq!((small.status.as_u16(), status.as_u16()), (200, 200));
        worst = [worst[0].max(took), worst[1].max(waited)];
    }
    let stored = switchboard.stats().await.unwrap().all().unread;
    println!(
        "a batch of 1,000 took at most {:.0?}, and the webhook behind it {:.0?}; {stored} stored",
        worst[0], worst[1]
    );
    assert_eq!(stored, 5 * 1_001);
    if std::env::var("CIVIC_TIMES").is_ok() {
        assert!(worst[1] < Duration::from_millis(250), "{worst:?}");
    }
}
