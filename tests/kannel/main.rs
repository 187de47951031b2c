//! Kannel for real: Debian's bearerbox, smsbox and fake SMSC on loopback, through the table in `docs/suppliers`.
//!
//! Skipped with a line on the output where Kannel is not installed, unless `CI` is set. The fake SMSC's port is open to
//! all addresses, which Kannel's configuration cannot change; it accepts connections from loopback only.

#![cfg(all(feature = "custom", feature = "reqwest", feature = "toml"))]

mod gateway;

use std::sync::Arc;

use civic_messaging::error::Scope;
use civic_messaging::{
    Address, Channel, ChannelExt, Custom, DeliveryState, Error, ErrorKind, Event, Inbound, Medium, Message, Outcome,
    Settings, custom,
};

use self::gateway::{Kannel, TOKEN};

/// Connects to a Kannel by the table alone.
fn connect(kannel: &Kannel, password: &str) -> Arc<dyn Channel> {
    let table = include_str!("../../docs/suppliers/kannel.toml");
    let receipts = kannel.webhook("id={reference:url}&to=%p&status=%d&ts=%T");
    let values =
        [("KANNEL_PASSWORD", password), ("KANNEL_WEBHOOK_TOKEN", TOKEN), ("KANNEL_DLR_URL", receipts.as_str())];
    let table = values.iter().fold(table.to_owned(), |table, (name, value)| {
        let reference = format!("{{ env = \"{name}\" }}");
        assert!(table.contains(&reference), "{name}");
        table.replace(&reference, &format!("{value:?}"))
    });
    let config: custom::Config = Settings::from_toml(&table).unwrap().read().unwrap();
    let config = config.base_url(kannel.base_url().parse().unwrap());
    Arc::new(Custom::new(Medium::Sms, config, &civic_messaging::Context::new()).unwrap())
}

fn resident() -> Address {
    Address::phone("07700 900123").unwrap()
}

/// Waits for a message's last report, and returns its states in the order of arrival.
async fn reports(kannel: &mut Kannel, channel: &dyn Channel, key: &str) -> Vec<DeliveryState> {
    let mut states = Vec::new();
    while states.len() < 2 {
        let request = kannel.webhooks.recv().await.unwrap();
        for event in channel.receive(&request).await.unwrap().events {
            let Event::Delivery(delivery) = event else { panic!("{event:?}") };
            assert_eq!(delivery.key(), Some(key));
            assert_eq!(delivery.recipient, Some(resident()));
            states.push(delivery.state);
        }
    }
    states.sort_unstable();
    states
}

async fn inbound(kannel: &mut Kannel, channel: &dyn Channel) -> Inbound {
    let request = kannel.webhooks.recv().await.unwrap();
    let mut events = channel.receive(&request).await.unwrap().events;
    assert_eq!(events.len(), 1);
    let Some(Event::Inbound(inbound)) = events.pop() else { panic!("not an inbound message") };
    inbound
}

fn refused(kannel: &Error) -> (ErrorKind, Outcome, bool, Scope) {
    (kannel.kind(), kannel.outcome(), kannel.is_retryable(), kannel.scope())
}

#[tokio::test]
async fn table_of_kannel_works_with_a_real_kannel() {
    let Some(mut kannel) = Kannel::start() else { return };
    let channel = connect(&kannel, gateway::PASSWORD);

    // A resident's text with a euro sign and an emoji, in UCS-2 on the air.
    let asked = "Is it £5 or €5? 😀";
    kannel.write("447700900124", asked);
    let first = inbound(&mut kannel, &*channel).await;
    assert_eq!((first.from.expose(), first.text()), ("+447700900124", Some(asked)));
    assert_eq!(first.to.as_ref().map(Address::expose), Some("60777"));
    assert!(!first.id.as_str().is_empty());

    // GSM-7 with characters of the extension table; the key has every character that its place in a URL could change.
    for (key, text, parts, is_ucs2) in [
        ("case 26/4711&a=b+c%d", "Collection: £5, €5 [Tue] ~ @ é", 1, false),
        ("welsh", "Mae’r casgliad ddydd Mawrth, tŷ’r cyngor 😀 €5", 1, true),
        ("two-parts", &*"Collection is on Tuesday for £5, or €6. ".repeat(5), 2, false),
        ("two-parts-ucs2", &*"Dŵr a tŷ 😀 ".repeat(8), 2, true),
    ] {
        let message = Message::text(resident(), text).key(key);
        assert_eq!(channel.plan(&message).segments(), Some(parts), "{key}");
        let accepted = channel.send(&message).await.unwrap();
        assert_eq!(accepted.id().as_str(), key);
        let expected = match is_ucs2 {
            true => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            false => text.as_bytes().to_vec(),
        };
        assert_eq!(kannel.on_the_air(parts).await, expected, "{key}");
        // One report for each state, however many the parts.
        assert_eq!(
            reports(&mut kannel, &*channel, key).await,
            [DeliveryState::Sent, DeliveryState::Delivered],
            "{key}"
        );
    }

    // A wrong password: the account's fault and not the message's.
    let wrong = connect(&kannel, "another-password").send_text(&resident(), "Hello").await.unwrap_err();
    assert_eq!(refused(&wrong), (ErrorKind::Unauthenticated, Outcome::Rejected, false, Scope::Channel));
}
