//! Auto-replies out of hours: a resident writes on Sunday evening, on each medium, and gets one auto-reply with the next
//! opening; the two pictures that follow get none, and a person answers on Monday.
//!
//! Run it with `cargo run --example office_hours`. It prints each step, and fails if one differs.

use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::event::InboundContent;
use civic_messaging::policy::auto_reply::{self, History, Language, OutOfHours};
use civic_messaging::policy::hours::{self, Division, Hours};
use civic_messaging::{Channel, ChannelExt, Mock, Result, Timestamp, webhook};

const AUTO_REPLY: &str = "Thank you for your message. We are closed now. We open again tomorrow at 9am. \
                     In an emergency call 999.";

/// The state that a service keeps of one resident, in place of a database.
struct Desk {
    out_of_hours: OutOfHours,
    history: History,
    clock: VirtualClock,
}

impl Desk {
    /// Handles a webhook and returns the auto-replies sent.
    async fn handle(&mut self, channel: &dyn Channel, request: &webhook::Request) -> Result<Vec<String>> {
        let received = channel.receive(request).await?;
        // A real service stores `received.events` here first.
        received.events.iter().for_each(|event| self.history.heard(event));
        let mut sent = Vec::new();
        for inbound in received.answerable() {
            let now = self.clock.now();
            if let Some(reply) = self.out_of_hours.reply(inbound, &self.history, now)? {
                self.history.auto_replied(now); // before the send: no reply is better than two
                channel.reply(inbound, reply.text.clone()).await?;
                sent.push(reply.text);
            }
        }
        Ok(sent)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let week = hours::OpeningTimes::new("Mon-Fri 09:00-17:00").bank_holidays(Division::EnglandAndWales);
    let texts = auto_reply::ReplyTexts::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.");
    let out_of_hours = OutOfHours::new(Hours::new(&week)?, &texts)?;
    let sunday: Timestamp = "2026-11-22T21:14:00Z".parse()?;

    for (medium, channel, resident) in [
        ("SMS", Mock::sms(), "07700 900123"),
        ("WhatsApp", Mock::whatsapp(), "07700 900123"),
        ("X", Mock::x(), "1146654567674912769"),
        ("Messenger", Mock::messenger(), "5741220865924301"),
    ] {
        let clock = VirtualClock::starting_at(sunday);
        let channel = channel.clock(clock.clone());
        let mut history = History::new();
        history.language(Language::English);
        let mut desk = Desk { out_of_hours: out_of_hours.clone(), history, clock: clock.clone() };

        println!("{medium}, Sunday 21:14. A tree has fallen on Mill Lane.");
        let webhook = channel.arrives(resident, "A tree has fallen on Mill Lane.");
        let sent = desk.handle(&channel, &webhook).await?;
        assert_eq!(sent, [AUTO_REPLY]);
        println!("{medium}, auto-reply.   {}", sent[0]);

        for picture in ["the tree", "the lane"] {
            clock.advance(Duration::from_secs(60));
            let media = vec![channel.add_file("image/jpeg", picture)];
            let webhook = channel.arrives_with(resident, InboundContent::Media { text: None, media });
            assert!(desk.handle(&channel, &webhook).await?.is_empty());
            println!("{medium}, Sunday.       (a picture of {picture}; no second auto-reply)");
        }

        clock.advance("2026-11-23T09:12:00Z".parse::<Timestamp>()?.since(clock.now()));
        let webhook = channel.arrives(resident, "Is anybody coming?");
        assert!(desk.handle(&channel, &webhook).await?.is_empty(), "the office is open");
        let inbound = channel.receive(&webhook).await?.events[0].as_inbound().cloned().expect("a message");
        channel.reply(&inbound, "Thank you for the pictures. A crew is on its way.").await?;
        desk.history.replied(clock.now());
        println!("{medium}, Monday 09:12. A crew is on its way.");
        assert_eq!(channel.sent().len(), 2);
        channel.assert_sent(resident, AUTO_REPLY);

        // Councils report response times in working time.
        let waited = desk.out_of_hours.hours().working_time(sunday, clock.now())?;
        assert_eq!(waited, Duration::from_secs(12 * 60));
        println!("{medium}: answered in {} minutes of working time\n", waited.as_secs() / 60);
    }
    println!("one auto-reply on each medium");
    Ok(())
}
