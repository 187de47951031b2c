//! A line that replies by itself outside its hours: on both stores, over restarts, in virtual time.

use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::event::InboundContent;
use civic_messaging::message::MediaRef;
use civic_messaging::policy::auto_reply::{self, Texts};
use civic_messaging::policy::hours::{Division, Hours, OpeningTimes};
use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
use civic_messaging::switchboard::{EntryContent, Line, ReceiveBy, State, Store, Switchboard};
use civic_messaging::{Address, Channel, Event, Message, Mock, Purpose, Result, Secret, Timestamp, async_trait};

use super::desk::Desk;
use super::intake::{self, SECRET};
use super::{Database, Random, cluster, number, seed, until};

const HOUR: Duration = Duration::from_secs(3600);

fn hours() -> Hours {
    Hours::new(&OpeningTimes::new("Mon-Fri 09:00-17:00").bank_holidays(Division::EnglandAndWales)).unwrap()
}

fn texts() -> auto_reply::ReplyTexts {
    auto_reply::ReplyTexts::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.")
}

/// A service that can be restarted: each start has a new worker on the same store, with the same gateway and clock.
struct Service {
    url: String,
    clock: VirtualClock,
    mock: Mock,
    desk: Desk,
}

impl Service {
    async fn start(url: String, now: &str, texts: auto_reply::ReplyTexts) -> Self {
        let clock = VirtualClock::starting_at(now.parse().unwrap());
        let mock = Mock::sms().clock(clock.clone());
        let desk = Self::desk(&url, &clock, &mock, texts).await;
        Self { url, clock, mock, desk }
    }

    async fn desk(url: &str, clock: &VirtualClock, mock: &Mock, texts: auto_reply::ReplyTexts) -> Desk {
        let line =
            Line::new("enquiries").channel(mock.clone()).languages(["en", "cy"]).hours(hours()).auto_reply(texts);
        Desk::of(Switchboard::builder(Store::open(url).await.unwrap()).clock(clock.clone()), [line])
    }

    /// Stops the worker at an arbitrary point, and starts a new one.
    async fn restart(self, texts: auto_reply::ReplyTexts) -> Self {
        let Self { url, clock, mock, desk } = self;
        desk.kill().await;
        let desk = Self::desk(&url, &clock, &mock, texts).await;
        Self { url, clock, mock, desk }
    }

    fn go_to(&self, now: &str) {
        let now: Timestamp = now.parse().unwrap();
        self.clock.advance(now.since(self.clock.now()));
    }

    async fn arrives(&self, from: &str, text: &str) {
        let webhook = self.mock.arrives(from, text);
        for _ in 0..2 {
            // The gateway delivers it twice.
            assert_eq!(self.desk.switchboard.receive("all", webhook.clone()).await.status, 200);
        }
    }

    async fn photo(&self, from: &str) {
        let content = InboundContent::Media { text: None, media: vec![MediaRef::new("mock", "photo")] };
        let webhook = self.mock.arrives_with(from, content);
        assert_eq!(self.desk.switchboard.receive("all", webhook).await.status, 200);
    }

    /// Waits until nothing is to be sent, and returns the texts that one person has received.
    async fn received(&self, by: &str) -> Vec<String> {
        let to = Address::phone(by).unwrap();
        // A killed worker's claims lapse after three minutes.
        until(&self.clock, Duration::from_millis(250), async || {
            let all = self.desk.switchboard.stats().await.unwrap().all();
            let open = [State::Queued, State::Claimed, State::Sending, State::Unknown];
            open.iter().all(|state| all.count(*state) == 0)
        })
        .await;
        let sent = self.mock.sent().into_iter().filter(|message| message.to == to);
        sent.map(|message| message.content.as_text().unwrap().to_owned()).collect()
    }
}

const ANN: &str = "07700 900101";
const BEN: &str = "07700 900102";
const CERI: &str = "07700 900103";
const DAI: &str = "07700 900104";

async fn replies_once_per_closed_period_over_restarts(url: String) {
    // Scene 1: a Sunday evening.
    let service = Service::start(url, "2026-11-22T21:14:00Z", texts()).await;
    service.arrives(ANN, "A tree has fallen on Mill Lane").await;
    let service = service.restart(texts()).await;
    let monday =
        "Thank you for your message. We are closed now. We open again tomorrow at 9am. In an emergency call 999.";
    assert_eq!(service.received(ANN).await, [monday]);
    for _ in 0..2 {
        service.photo(ANN).await;
        assert_eq!(service.received(ANN).await, [monday]);
    }
    let service = service.restart(texts()).await;
    service.arrives(ANN, "Is anybody there?").await;
    assert_eq!(service.received(ANN).await, [monday]);
    // Another resident, in Welsh; her photo alone shows no language, and her earlier message does.
    service.arrives(CERI, "Mae coeden wedi cwympo ar y ffordd").await;
    let welsh = "Diolch am eich neges. Rydym ar gau nawr. Byddwn ar agor eto yfory am 9yb. Mewn argyfwng ffoniwch 999.";
    assert_eq!(service.received(CERI).await, [welsh]);
    // A resident of whom nothing is known.
    service.photo(BEN).await;
    assert_eq!(service.received(BEN).await, [format!("{welsh}\n\n{monday}")]);

    // Open: nothing. Closed again: a new period, in the recorded language.
    service.go_to("2026-11-23T10:00:00Z");
    service.arrives(ANN, "Hello?").await;
    assert_eq!(service.received(ANN).await.len(), 1);
    service.go_to("2026-11-23T18:00:00Z");
    let service = service.restart(texts()).await;
    service.photo(CERI).await;
    assert_eq!(service.received(CERI).await, [welsh, welsh]);
    service.arrives(ANN, "Hello?").await;
    assert_eq!(service.received(ANN).await, [monday, monday]);

    // Before a bank holiday, the day is named with its date.
    service.go_to("2026-12-24T20:00:00Z");
    service.arrives(DAI, "Is the tip open?").await;
    let closed = service.received(DAI).await;
    assert!(closed[0].contains("We open again on Tuesday 29 December at 9am."), "{closed:?}");
    let messages = service.desk.switchboard.messages("enquiries", State::Accepted, None, 99).await.unwrap();
    assert!(messages.iter().all(|status| status.tag.as_deref() == Some("auto-reply")));
    service.desk.close().await;
}

async fn is_not_sent_to_programs_or_after_an_answer(url: String) {
    let service = Service::start(url, "2026-11-22T21:14:00Z", texts()).await;
    let board = service.desk.switchboard.clone();
    // An officer answers from home before the resident writes again.
    let answer = Message::text(Address::phone(ANN).unwrap(), "Yes, on Tuesday.").purpose(Purpose::Reply);
    board.send("enquiries", answer).await.unwrap();
    service.arrives(ANN, "Thank you").await;
    assert_eq!(service.received(ANN).await, ["Yes, on Tuesday."]);
    // A notice is no answer.
    let notice = Message::text(Address::phone(BEN).unwrap(), "Your bin day changes.").purpose(Purpose::Notice);
    board.send("enquiries", notice).await.unwrap();
    service.arrives(BEN, "To which day?").await;
    assert_eq!(service.received(BEN).await.len(), 2);
    let ours = "Diolch am eich neges. Rydym ar gau nawr. Byddwn ar agor eto yfory am 9yb.";
    for text in ["STOP", "Automatic reply: I am away", ours, "START"] {
        service.arrives(CERI, text).await;
        assert!(service.received(CERI).await.is_empty(), "{text}");
    }
    // The officer's own phone answered, and its echo arrives in one webhook with the message.
    drop(service.mock.arrives(DAI, "Hello"));
    let mut events = service.mock.poll(None).await.unwrap().events;
    let Some(Event::Inbound(question)) = events.pop() else { panic!("no message") };
    let mut echo = question.clone();
    (echo.id, echo.echo, echo.to) = ("echo-1".into(), true, Some(question.from.clone()));
    let both = service.mock.emits_all([question.into(), echo.into()]);
    assert_eq!(board.receive("all", both).await.status, 200);
    assert!(service.received(DAI).await.is_empty());
    service.desk.close().await;
}

async fn expires_when_the_line_opens(url: String) {
    let service = Service::start(url, "2026-11-22T21:14:00Z", texts()).await;
    let Service { url, clock, mock, desk } = service;
    // No worker runs until Monday at ten.
    desk.kill().await;
    let line = Line::new("enquiries").channel(mock.clone()).hours(hours()).auto_reply(texts());
    let builder = Switchboard::builder(Store::open(&url).await.unwrap()).clock(clock.clone());
    let board = builder.line(line).route("all", ["enquiries"]).build().unwrap();
    assert_eq!(board.receive("all", mock.arrives(ANN, "Is the tip open?")).await.status, 200);
    let [waiting] = &board.messages("enquiries", State::Queued, None, 9).await.unwrap()[..] else { panic!("not one") };
    clock.advance(13 * HOUR);
    let desk = Service::desk(&url, &clock, &mock, texts()).await;
    let status = desk.until(waiting.id, &[State::Expired]).await;
    assert_eq!(status.tag.as_deref(), Some("auto-reply"));
    mock.assert_nothing_sent();
    desk.close().await;
}

async fn notice_is_sent_once_in_opening_hours(url: String) {
    let text = Texts { en: Some("Flooding: expect delays.".into()), cy: Some("Llifogydd: disgwyliwch oedi.".into()) };
    let texts = || {
        let (from, until) = ("2026-11-23".parse().unwrap(), "2026-11-24".parse().unwrap());
        texts().notice(from, until, text.clone())
    };
    let service = Service::start(url, "2026-11-23T10:00:00Z", texts()).await;
    service.arrives(ANN, "The river is in my garden").await;
    let notice = "Flooding: expect delays. In an emergency call 999.";
    assert_eq!(service.received(ANN).await, [notice]);
    let service = service.restart(texts()).await;
    service.go_to("2026-11-24T10:00:00Z");
    service.arrives(ANN, "And now in my kitchen").await;
    assert_eq!(service.received(ANN).await, [notice]);
    service.go_to("2026-11-24T20:00:00Z");
    service.arrives(BEN, "The river is in my garden").await;
    let received = service.received(BEN).await;
    assert!(received[0].starts_with("Flooding: expect delays. Thank you for your message."), "{received:?}");
    service.go_to("2026-11-25T10:00:00Z");
    service.arrives(CERI, "The river is gone").await;
    assert!(service.received(CERI).await.is_empty());
    service.desk.close().await;
}

const DATABASE: &str = "CIVIC_TEST_AUTO_REPLY";

async fn switchboard(url: &str) -> Switchboard {
    let mock = Mock::sms().webhook_secrets([Secret::new(SECRET).unwrap().into()]);
    let line = Line::new("enquiries").channel(mock).hours(hours()).auto_reply(texts());
    let clock = VirtualClock::starting_at("2026-11-22T21:14:00Z".parse().unwrap());
    let builder = Switchboard::builder(Store::open(url).await.unwrap()).clock(clock);
    builder.line(line).route("sms", ["enquiries"]).build().unwrap()
}

/// The process that is killed. Does nothing without its variable.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    intake::serve(&switchboard(&url).await).await;
}

/// A resident writes three times, until each message is answered 2xx; the service is killed at any time in between.
async fn survives_kill_with_its_message(url: String) {
    let (kills, random) = (number("CIVIC_CYCLES", 30), Random::new(seed(20_261_201)));
    let mock = Mock::sms();
    let people: Vec<_> = (0..kills).map(|n| format!("07700 900{:03}", n % 1000)).collect();
    for person in &people {
        let texts = ["A tree has fallen", "on Mill Lane", "Is anybody there?"];
        let webhooks = texts.map(|text| intake::webhook_bytes(&mock, person, text.to_owned()));
        let (mut child, at) = intake::start_child("auto_reply::child", DATABASE, &url);
        let kill = tokio::time::sleep(Duration::from_micros(random.below(8_000)));
        let posts = async {
            for webhook in &webhooks {
                intake::post(at, webhook).await;
            }
        };
        tokio::select! {
            () = kill => {}
            () = posts => {}
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (mut child, at) = intake::start_child("auto_reply::child", DATABASE, &url);
        for webhook in &webhooks {
            while !intake::post(at, webhook).await {}
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let board = switchboard(&url).await;
    for person in &people {
        let entries = board.conversation("enquiries", &Address::phone(person).unwrap(), None, 9).await.unwrap();
        let (ours, theirs): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| matches!(entry.content, EntryContent::Ours { .. }));
        assert_eq!((ours.len(), theirs.len()), (1, 3), "{person}");
    }
}

async fn is_sent_once_over_the_media_of_a_person(url: String) {
    let clock = VirtualClock::starting_at("2026-11-22T21:14:00Z".parse().unwrap());
    let sms = Mock::sms().clock(clock.clone());
    let whatsapp = Mock::whatsapp().account("200000000000001").clock(clock.clone());
    let line = Line::new("enquiries").channel(sms.clone()).channel(whatsapp.clone()).hours(hours()).auto_reply(texts());
    let desk = Desk::of(Switchboard::builder(Store::open(&url).await.unwrap()).clock(clock.clone()), [line]);
    let webhooks = [
        whatsapp.arrives("07700 900101", "A tree has fallen"),
        sms.arrives("07700 900101", "Have you had my WhatsApp?"),
        sms.arrives("07700 900102", "A tree has fallen"),
    ];
    for webhook in webhooks {
        assert_eq!(desk.switchboard.receive("all", webhook).await.status, 200);
    }
    until(&clock, Duration::from_millis(250), async || {
        desk.switchboard.stats().await.unwrap().all().count(State::Accepted) == 2
    })
    .await;
    assert_eq!((whatsapp.sent().len(), sms.sent().len()), (1, 1));
    desk.close().await;
}

/// Defers auto-replies for an hour.
#[derive(Debug)]
struct Slow(VirtualClock, Timestamp);

#[async_trait]
impl Policy for Slow {
    async fn decide(&self, input: &PolicyInput<'_>) -> Result<Decision> {
        Ok(match input.message.tag.as_deref() {
            Some("auto-reply") if self.0.now() < self.1 => {
                Decision::Defer { until: self.1, reason: Reason::new("slow", "waits an hour") }
            }
            _ => Decision::Allow,
        })
    }
}

async fn is_cancelled_by_an_answer_before_it(url: String) {
    let clock = VirtualClock::starting_at("2026-11-22T21:14:00Z".parse().unwrap());
    let mock = Mock::sms().clock(clock.clone());
    let line = Line::new("enquiries").channel(mock.clone()).hours(hours()).auto_reply(texts());
    let slow = Slow(clock.clone(), clock.now().plus(HOUR));
    let desk =
        Desk::of(Switchboard::builder(Store::open(&url).await.unwrap()).clock(clock.clone()).policy(slow), [line]);
    let board = &desk.switchboard;
    for person in [ANN, BEN] {
        assert_eq!(board.receive("all", mock.arrives(person, "Is the tip open?")).await.status, 200);
    }
    let count = async |state| board.messages("enquiries", state, None, 9).await.unwrap().len();
    until(&clock, Duration::from_millis(250), async || count(State::Deferred).await == 2).await;
    // An officer answers one of them at once.
    let answer = Message::text(Address::phone(ANN).unwrap(), "Yes.").purpose(Purpose::Reply);
    board.send("enquiries", answer).await.unwrap();
    until(&clock, Duration::from_millis(250), async || count(State::Accepted).await == 1).await;
    clock.advance(HOUR);
    until(&clock, Duration::from_millis(250), async || count(State::Deferred).await == 0).await;
    until(&clock, Duration::from_millis(250), async || count(State::Accepted).await == 2).await;
    let cancelled = board.messages("enquiries", State::Cancelled, None, 9).await.unwrap();
    assert_eq!(cancelled[0].reason.as_deref(), Some("the person was answered before it was sent"));
    let sent: Vec<_> = mock.sent().into_iter().map(|message| message.to).collect();
    assert_eq!(sent, [ANN, BEN].map(|person| Address::phone(person).unwrap()));
    desk.close().await;
}

async fn is_sent_to_polled_messages(url: String) {
    let clock = VirtualClock::starting_at("2026-11-22T21:14:00Z".parse().unwrap());
    let mock = Mock::sms().clock(clock.clone());
    let line = Line::new("enquiries").channel(mock.clone()).hours(hours()).auto_reply(texts());
    let builder = Switchboard::builder(Store::open(&url).await.unwrap()).clock(clock.clone());
    let desk = Desk::run(builder.line(line.receive_by("mock", ReceiveBy::Poll)));
    for text in ["Is the tip open?", "Hello?"] {
        drop(mock.arrives(ANN, text));
    }
    until(&clock, Duration::from_millis(250), async || {
        let stats = desk.switchboard.stats().await.unwrap().all();
        stats.unread >= 2 && stats.count(State::Accepted) == 1
    })
    .await;
    assert_eq!(mock.sent().len(), 1);
    desk.close().await;
}

/// Runs each scene on each kind of store.
macro_rules! on_both_stores {
    ($($scene:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $scene() {
                let database = super::Database::new();
                super::$scene(database.url()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $scene() {
                let Some(database) = super::cluster::Database::new().await else { return };
                civic_messaging::switchboard::Store::migrate(database.url()).await.unwrap();
                super::$scene(database.url().to_owned()).await;
            })*
        }
    };
}

on_both_stores! {
    replies_once_per_closed_period_over_restarts
    is_not_sent_to_programs_or_after_an_answer
    expires_when_the_line_opens
    notice_is_sent_once_in_opening_hours
    is_sent_once_over_the_media_of_a_person
    is_cancelled_by_an_answer_before_it
    is_sent_to_polled_messages
    survives_kill_with_its_message
}
