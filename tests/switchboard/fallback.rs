//! What goes instead of a message, and what the policy says of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use civic_messaging::clock::{Clock, SystemClock, VirtualClock};
use civic_messaging::lookup::LookupOutcome;
use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
use civic_messaging::switchboard::{Fallback, Line, Outgoing, Resolution, State, Status, Store, Switchboard};
use civic_messaging::{
    Address, Channel, DeliveryState, Error, ErrorKind, Message, Mock, OnUnknown, Outcome, Purpose, Result, Timestamp,
    async_trait,
};

use super::desk::{Desk, memory, text};
use super::{Ahead, Database, person};

/// A message by WhatsApp, with an SMS that goes instead of it.
fn both(n: u32, within: Duration) -> Outgoing {
    let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
    let whatsapp = whatsapp.key(format!("flood-{n}")).on_unknown(OnUnknown::Park);
    Outgoing::new(whatsapp).fallback(Fallback::new(Message::text(person(n), "By SMS"), within))
}

async fn desk(clock: &Ahead) -> (Desk, Mock, Mock) {
    let (whatsapp, sms) = (Mock::whatsapp(), Mock::sms());
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    (Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]), whatsapp, sms)
}

/// What went instead, once it did.
async fn instead(desk: &Desk, id: civic_messaging::switchboard::Id) -> Status {
    let waiting = async {
        loop {
            if let Some(instead) = desk.switchboard.status(id).await.unwrap().unwrap().fallback {
                return desk.until(instead, &[State::Accepted]).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it goes")
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn sms_goes_instead_when_whatsapp_does_not_take_it_or_does_not_deliver_it() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    whatsapp.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let id = desk.switchboard.send("desk", both(1, HOUR)).await.unwrap();
    let status = instead(&desk, id).await;
    assert_eq!((status.instead_of, status.attempts), (Some(id), 1));
    sms.assert_sent(person(1).expose(), "By SMS");

    // Taken, and reported as not delivered.
    let id = desk.switchboard.send("desk", both(2, HOUR)).await.unwrap();
    let gateway_id = desk.until(id, &[State::Accepted]).await.gateway_id.unwrap();
    assert_eq!(sms.sent().len(), 1);
    let failed = whatsapp.reports(&gateway_id, DeliveryState::Failed);
    assert_eq!(desk.switchboard.receive("all", failed).await.status, 200);
    instead(&desk, id).await;

    // Taken, and nothing more is heard of it in time.
    let id = desk.switchboard.send("desk", both(3, HOUR)).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    clock.goes_on(HOUR);
    instead(&desk, id).await;
    assert_eq!((whatsapp.sent().len(), sms.sent().len()), (3, 3));
    desk.close().await;
}

#[tokio::test]
async fn nothing_goes_instead_of_what_is_delivered_or_may_have_gone_or_was_not_wanted() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let delivered = desk.switchboard.send("desk", both(1, HOUR)).await.unwrap();
    let gateway_id = desk.until(delivered, &[State::Accepted]).await.gateway_id.unwrap();
    let report = whatsapp.reports(&gateway_id, DeliveryState::Delivered);
    assert_eq!(desk.switchboard.receive("all", report).await.status, 200);
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let doubtful = desk.switchboard.send("desk", both(2, HOUR)).await.unwrap();
    desk.until(doubtful, &[State::Parked]).await;
    whatsapp.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let stopped = desk.switchboard.send("desk", both(3, HOUR)).await.unwrap();
    desk.until(stopped, &[State::Rejected]).await;

    // The last one's fallback goes, so the time of the others has come too.
    let late = desk.switchboard.send("desk", both(4, HOUR)).await.unwrap();
    desk.until(late, &[State::Accepted]).await;
    clock.goes_on(HOUR);
    instead(&desk, late).await;
    for id in [delivered, doubtful, stopped] {
        assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);

    // Asked for, it goes even then.
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let urgent = Message::text(Address::whatsapp("07700 900123").unwrap(), "Flood!").on_unknown(OnUnknown::Park);
    let fallback = Fallback::new(Message::text(person(5), "Flood!"), HOUR).even_if_unknown();
    let urgent = desk.switchboard.send("desk", Outgoing::new(urgent).fallback(fallback)).await.unwrap();
    desk.until(urgent, &[State::Parked]).await;
    clock.goes_on(HOUR);
    instead(&desk, urgent).await;
    assert_eq!(desk.switchboard.status(urgent).await.unwrap().unwrap().state, State::Parked);
    desk.close().await;
}

#[tokio::test]
async fn a_fallback_that_cannot_go_is_refused_before_anything_is_taken() {
    let (desk, ..) = desk(&Ahead::default()).await;
    let first = || Message::text(person(1), "Hello");
    for (fallback, field) in [
        (Fallback::new(Message::text(Address::x("12").unwrap(), "Hello"), HOUR), "fallback.to"),
        (Fallback::new(text(1, ""), HOUR), "fallback.text"),
        (Fallback::new(text(1, "Hello").key("k"), HOUR), "fallback.key"),
        (Fallback::new(text(1, "Hello"), Duration::ZERO), "fallback.within"),
    ] {
        let error = desk.switchboard.send("desk", Outgoing::new(first()).fallback(fallback)).await.unwrap_err();
        assert_eq!((error.outcome(), error.field()), (Outcome::NotSent, Some(field)), "{error}");
    }
    assert!(desk.switchboard.stats().await.unwrap().all().messages.is_empty());
    desk.close().await;
}

#[tokio::test]
async fn what_the_gateway_has_and_what_a_person_saw_is_not_made_up_for() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let board = &desk.switchboard;
    // Its answer was lost; the gateway was asked, and then tells of it by an id that nobody had written down.
    whatsapp.will_accept_unheard();
    let lost = board.send("desk", both(1, HOUR)).await.unwrap();
    desk.until(lost, &[State::Parked]).await;
    let sent = civic_messaging::lookup::LookupQuery::new(whatsapp.sent()[0].clone(), clock.now());
    let civic_messaging::lookup::LookupOutcome::Found(found) =
        civic_messaging::Channel::look_up(&whatsapp, &sent).await.unwrap()
    else {
        panic!("the mock has it")
    };
    assert_eq!(board.receive("all", whatsapp.brings(found[0].clone().into())).await.status, 200);
    let id = desk.until(lost, &[State::Accepted]).await.gateway_id.unwrap();
    assert_eq!(board.receive("all", whatsapp.reports(&id, DeliveryState::Delivered)).await.status, 200);

    // A person found that it went.
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let seen = board.send("desk", both(2, HOUR)).await.unwrap();
    desk.until(seen, &[State::Parked]).await;
    assert!(board.settle(seen, Resolution::Sent).await.unwrap());

    let late = board.send("desk", both(3, HOUR)).await.unwrap();
    desk.until(late, &[State::Accepted]).await;
    clock.goes_on(HOUR);
    instead(&desk, late).await;
    for id in [lost, seen] {
        assert_eq!(board.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn a_new_number_on_whatsapp_says_nothing_of_the_phone() {
    let (desk, whatsapp, sms) = desk(&Ahead::default()).await;
    let [old, new] = ["07700 900123", "07700 900124"].map(|number| Address::whatsapp(number).unwrap());
    let request = whatsapp.arrives("07700 900123", "I have a new number");
    let inbound = civic_messaging::Channel::receive(&whatsapp, &request).await.unwrap().events.remove(0);
    let changed = civic_messaging::event::AddressChanged::new(inbound.envelope().clone(), old.clone(), new.clone());
    assert_eq!(desk.switchboard.receive("all", whatsapp.brings(changed.into())).await.status, 200);
    let by_whatsapp = desk.switchboard.send("desk", Message::text(old, "Hello")).await.unwrap();
    let by_sms = Message::text(Address::phone("07700 900123").unwrap(), "Hello");
    let by_sms = desk.switchboard.send("desk", by_sms).await.unwrap();
    for id in [by_whatsapp, by_sms] {
        desk.until(id, &[State::Accepted]).await;
    }
    assert_eq!((&whatsapp.sent()[0].to, sms.sent()[0].to.expose()), (&new, "+447700900123"));
    desk.close().await;
}

/// No advertising; and nothing but emergencies before a moment, or while it is out of order.
#[derive(Debug)]
struct Rules {
    opens: Timestamp,
    broken: Arc<AtomicBool>,
}

#[async_trait]
impl Policy for Rules {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "the register of objections does not answer"));
        }
        let reason = |rule, words| Reason::new(rule, words);
        Ok(match question.message.purpose {
            Purpose::Marketing => Decision::Refuse(reason("no-marketing", "this council sends no advertising")),
            Purpose::Emergency => Decision::Allow,
            _ if question.at < self.opens => {
                Decision::Defer { until: self.opens, reason: reason("quiet-hours", "it is night") }
            }
            _ => Decision::Allow,
        })
    }
}

#[tokio::test]
async fn the_policy_is_asked_when_a_message_is_taken_and_again_before_it_goes() {
    let mock = Mock::sms();
    let clock = Ahead::default();
    let opens = clock.now().plus(HOUR);
    let broken = Arc::new(AtomicBool::new(false));
    let (file, rules) = (Database::new(), Rules { opens, broken: broken.clone() });
    let store = Store::open(&file.url()).await.unwrap();
    let builder = Switchboard::builder(store).clock(clock.clone()).policy(rules);
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    let board = &desk.switchboard;
    let error = board.send("desk", text(1, "Buy!").purpose(Purpose::Marketing)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Refused, Outcome::NotSent));
    assert!(error.to_string().contains("no advertising"), "{error}");

    // It would be over before it may go.
    let error = board.send("desk", text(2, "Hello").not_after(opens.minus(HOUR / 2))).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("not_after")));
    assert!(error.to_string().contains("it is night"), "{error}");

    let waits = board.send("desk", text(2, "Hello")).await.unwrap();
    let urgent = board.send("desk", text(3, "Flood!").purpose(Purpose::Emergency)).await.unwrap();
    desk.until(urgent, &[State::Accepted]).await;
    assert_eq!(mock.sent().len(), 1);
    let status = board.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (State::Deferred, Some("it is night")));
    let said = "SELECT decision, rule, reason FROM decision WHERE message = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]);
    let said = rusqlite::Connection::open(&file.0).unwrap().query_row(said, (i64::from(waits),), read);
    assert_eq!(said.unwrap(), ["defer", "quiet-hours", "it is night"]);
    clock.goes_on(HOUR);
    desk.until(waits, &[State::Accepted]).await;

    // A policy that does not work lets nothing through.
    broken.store(true, Ordering::Relaxed);
    let error = board.send("desk", text(4, "Hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    desk.close().await;
}

/// It puts off until a moment that has come.
#[derive(Debug)]
struct Slips;

#[async_trait]
impl Policy for Slips {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        Ok(Decision::Defer { until: question.at, reason: Reason::new("slip", "it is open") })
    }
}

#[tokio::test]
async fn a_policy_that_puts_off_until_now_is_not_asked_without_end() {
    let clock = VirtualClock::starting_at(SystemClock::new().now());
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).policy(Slips);
    let desk = Desk::of(builder, [Line::new("desk").channel(Mock::sms())]);
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    let status = desk.until(id, &[State::Deferred]).await;
    assert!(status.due >= Some(clock.now().plus(Duration::from_secs(1))), "{status:?}");
    desk.close().await;
}

/// It refuses what goes by SMS, once it is told to.
#[derive(Debug)]
struct NoSms(Arc<AtomicBool>);

#[async_trait]
impl Policy for NoSms {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        let refuses = self.0.load(Ordering::Relaxed) && question.message.content.words() == Some("By SMS");
        Ok(if refuses { Decision::Refuse(Reason::new("no-sms", "the SMS are used up")) } else { Decision::Allow })
    }
}

#[tokio::test]
async fn a_message_is_not_called_back_for_what_the_policy_would_refuse() {
    let (clock, whatsapp, sms) = (Ahead::default(), Mock::whatsapp(), Mock::sms());
    let (file, refuses) = (Database::new(), Arc::new(AtomicBool::new(false)));
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    let store = Store::open(&file.url()).await.unwrap();
    let desk = Desk::of(Switchboard::builder(store).clock(clock.clone()).policy(NoSms(refuses.clone())), [line]);
    let board = &desk.switchboard;
    // WhatsApp does not work for a while, and so it waits for its next try.
    let down = Error::new(ErrorKind::Unavailable, "it does not work").with_retry(true, Some(4 * HOUR));
    whatsapp.will_fail(down);
    let id = board.send("desk", both(1, HOUR)).await.unwrap();
    desk.until(id, &[State::Deferred]).await;
    refuses.store(true, Ordering::Relaxed);
    clock.goes_on(HOUR);
    let db = rusqlite::Connection::open(&file.0).unwrap();
    let of = "SELECT decision, rule, reason FROM decision WHERE message = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]);
    let said = async {
        loop {
            match db.query_row(of, (i64::from(id),), read) {
                Ok(said) => return said,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(20), said).await.expect("it is asked");
    assert_eq!(said, ["refuse_fallback", "no-sms", "the SMS are used up"]);
    clock.goes_on(4 * HOUR);
    let status = desk.until(id, &[State::Accepted, State::Cancelled]).await;
    assert_eq!((status.state, status.fallback), (State::Accepted, None));
    assert_eq!((whatsapp.sent().len(), sms.sent().len()), (2, 0));
    desk.close().await;
}

/// It changes its mind between the taking and the sending.
#[derive(Debug)]
struct Objects(AtomicBool);

#[async_trait]
impl Policy for Objects {
    async fn decide(&self, _: &PolicyInput<'_>) -> Result<Decision> {
        let objects = self.0.swap(true, Ordering::Relaxed);
        Ok(if objects { Decision::Refuse(Reason::new("objection", "this person objected")) } else { Decision::Allow })
    }
}

#[tokio::test]
async fn what_is_refused_after_it_was_taken_does_not_go_and_says_why() {
    let mock = Mock::sms();
    let builder = Switchboard::builder(memory().await).policy(Objects(AtomicBool::new(false)));
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    let id = desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap();
    let status = desk.until(id, &[State::Refused]).await;
    assert_eq!((status.attempts, status.reason.as_deref()), (0, Some("this person objected")));
    let settled = desk.switchboard.line("desk").unwrap().next().await.unwrap().unwrap();
    assert_eq!(settled.as_settled().map(|settled| settled.state), Some(State::Refused));
    // It was taken, and stays so.
    assert_eq!(desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap(), id);
    mock.assert_nothing_sent();
    desk.close().await;
}

/// Waits until all fallbacks that are due have been looked at: that of a message that fails now comes last.
async fn looked_at(desk: &Desk, whatsapp: &Mock) {
    whatsapp.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let last = Message::text(Address::whatsapp("07700 900123").unwrap(), "Last");
    let fallback = Fallback::on_failure(Message::text(person(999), "Last"));
    let last = desk.switchboard.send("desk", Outgoing::new(last).fallback(fallback)).await.unwrap();
    instead(desk, last).await;
}

/// A policy that refuses what says these words, once it is told to.
#[derive(Debug)]
struct Refuses(AtomicBool, &'static str, Reason);

#[async_trait]
impl Policy for &'static Refuses {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        let refuses = self.0.load(Ordering::Relaxed) && question.message.content.words() == Some(self.1);
        Ok(if refuses { Decision::Refuse(self.2.clone()) } else { Decision::Allow })
    }
}

fn refuses(words: &'static str, reason: Reason) -> &'static Refuses {
    Box::leak(Box::new(Refuses(AtomicBool::new(false), words, reason)))
}

#[tokio::test]
async fn refusal_between_send_and_claim_ends_the_fallback() {
    for (of_medium, instead_of_it) in [(false, 0), (true, 1)] {
        let reason = Reason::new("rule", "it may not go");
        let policy = refuses("By WhatsApp", if of_medium { reason.of_medium() } else { reason });
        let (clock, whatsapp, sms) = (Ahead::default(), Mock::whatsapp(), Mock::sms());
        let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
        let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()).policy(policy), [line]);
        let at = clock.now().plus(HOUR);
        let id = desk.switchboard.send_at("desk", both(1, 6 * HOUR), at).await.unwrap();
        policy.0.store(true, Ordering::Relaxed);
        clock.goes_on(HOUR);
        desk.until(id, &[State::Refused]).await;
        if of_medium {
            instead(&desk, id).await;
        }
        clock.goes_on(12 * HOUR);
        looked_at(&desk, &whatsapp).await;
        assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback.is_some(), of_medium);
        let of_first = sms.sent().iter().filter(|sent| sent.to == person(1)).count();
        assert_eq!(of_first, instead_of_it);
        desk.close().await;
    }
}

#[tokio::test]
async fn refusal_of_the_medium_at_send_lets_the_fallback_go() {
    let policy = refuses("By WhatsApp", Reason::new("no-template", "has no template yet").of_medium());
    policy.0.store(true, Ordering::Relaxed);
    let (whatsapp, sms) = (Mock::whatsapp(), Mock::sms());
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    let desk = Desk::of(Switchboard::builder(memory().await).policy(policy), [line]);
    let id = desk.switchboard.send("desk", both(1, HOUR)).await.unwrap();
    instead(&desk, id).await;
    assert_eq!(desk.until(id, &[State::Refused]).await.attempts, 0);
    // Without a fallback nothing would go.
    let alone = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
    let error = desk.switchboard.send("desk", alone).await.unwrap_err();
    assert_eq!((error.kind(), whatsapp.sent().len(), sms.sent().len()), (ErrorKind::Refused, 0, 1));
    desk.close().await;
}

/// A channel that can be asked about messages and reports nothing, and what it says.
#[derive(Clone, Debug)]
struct Silent(Mock, Arc<std::sync::Mutex<(Option<DeliveryState>, usize)>>);

#[async_trait]
impl Channel for Silent {
    fn info(&self) -> &civic_messaging::Info {
        self.0.info()
    }

    async fn send(&self, message: &Message) -> Result<civic_messaging::Accepted> {
        self.0.send(message).await
    }

    async fn receive(&self, request: &civic_messaging::webhook::Request) -> Result<civic_messaging::webhook::Received> {
        self.0.receive(request).await
    }

    async fn look_up(&self, sent: &civic_messaging::lookup::LookupQuery) -> Result<LookupOutcome> {
        let found = self.0.look_up(sent).await?;
        let mut asked = self.1.lock().unwrap();
        asked.1 += 1;
        match (found, asked.0) {
            (LookupOutcome::Found(mut found), Some(state)) => {
                found.iter_mut().for_each(|delivery| delivery.state = state);
                Ok(LookupOutcome::Found(found))
            }
            _ => Ok(LookupOutcome::Inconclusive),
        }
    }
}

fn silent(says: Option<DeliveryState>) -> Silent {
    let mock = Mock::whatsapp().capability(|can| {
        (can.receive, can.poll, can.delivery_status) = (false, false, false);
    });
    Silent(mock, Arc::new(std::sync::Mutex::new((says, 0))))
}

#[tokio::test]
async fn timed_fallback_asks_where_no_delivery_is_reported() {
    use DeliveryState::{Delivered, Failed, Sent};
    for (says, goes) in [(Some(Delivered), 0), (Some(Sent), 20), (Some(Failed), 20), (None, 0)] {
        let (clock, whatsapp, sms) = (Ahead::default(), silent(says), Mock::sms());
        let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
        let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]);
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(desk.switchboard.send("desk", both(n, 2 * HOUR)).await.unwrap());
        }
        for id in &ids {
            desk.until(*id, &[State::Accepted]).await;
        }
        clock.goes_on(2 * HOUR);
        let asked = async {
            while whatsapp.1.lock().unwrap().1 < 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is asked");
        for id in &ids[..goes] {
            instead(&desk, *id).await;
        }
        looked_at(&desk, &whatsapp.0).await;
        assert_eq!((sms.sent().len(), whatsapp.1.lock().unwrap().1), (goes + 1, 20), "{says:?}");
        desk.close().await;
    }
}

#[tokio::test]
async fn timed_fallback_of_a_mute_channel_is_refused() {
    let mute = Mock::whatsapp().capability(|can| {
        (can.receive, can.poll, can.look_up, can.delivery_status) = (false, false, false, false);
    });
    let (clock, sms) = (Ahead::default(), Mock::sms());
    let line = Line::new("desk").channel(mute.clone()).channel(sms.clone());
    let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]);
    let error = desk.switchboard.send("desk", both(1, HOUR)).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("fallback")), "{error}");
    assert!(error.to_string().contains("Fallback::on_failure"), "{error}");
    mute.assert_nothing_sent();

    // On a failure it may go.
    let on_failure = || {
        let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
        Outgoing::new(whatsapp).fallback(Fallback::on_failure(Message::text(person(1), "By SMS")))
    };
    let taken = desk.switchboard.send("desk", on_failure()).await.unwrap();
    desk.until(taken, &[State::Accepted]).await;
    mute.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let failed = desk.switchboard.send("desk", on_failure()).await.unwrap();
    instead(&desk, failed).await;
    clock.goes_on(1000 * HOUR);
    let failed = desk.switchboard.status(taken).await.unwrap().unwrap();
    assert_eq!((failed.fallback, sms.sent().len()), (None, 1));
    desk.close().await;
}

#[tokio::test]
async fn fallback_on_failure_goes_however_late_it_is_reported() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let send = async |n: u32| {
        let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
        let whatsapp = whatsapp.on_unknown(OnUnknown::Park);
        let fallback = Fallback::on_failure(Message::text(person(n), "By SMS"));
        desk.switchboard.send("desk", Outgoing::new(whatsapp).fallback(fallback)).await.unwrap()
    };
    let late = send(1).await;
    let gateway_id = desk.until(late, &[State::Accepted]).await.gateway_id.unwrap();
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let doubtful = send(2).await;
    desk.until(doubtful, &[State::Parked]).await;
    clock.goes_on(100 * HOUR);
    let failed = whatsapp.reports(&gateway_id, DeliveryState::Failed);
    assert_eq!(desk.switchboard.receive("all", failed).await.status, 200);
    instead(&desk, late).await;
    assert_eq!(desk.switchboard.status(doubtful).await.unwrap().unwrap().fallback, None);
    assert!(desk.switchboard.settle(doubtful, Resolution::NotSent).await.unwrap());
    instead(&desk, doubtful).await;
    assert_eq!(sms.sent().len(), 2);
    desk.close().await;
}

#[tokio::test]
async fn stop_of_a_second_attempt_ends_the_fallback() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    whatsapp.will_fail(Error::unknown("no answer in time"));
    whatsapp.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let flood = Message::text(Address::whatsapp("07700 900123").unwrap(), "Flood!").on_unknown(OnUnknown::Resend);
    let fallback = Fallback::new(Message::text(person(1), "Flood!"), HOUR).even_if_unknown();
    let id = desk.switchboard.send("desk", Outgoing::new(flood).fallback(fallback)).await.unwrap();
    assert_eq!(desk.until(id, &[State::Parked, State::Rejected]).await.attempts, 2);
    clock.goes_on(2 * HOUR);
    looked_at(&desk, &whatsapp).await;
    assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback, None);
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn typed_stop_ends_what_waits_and_the_fallbacks() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let board = &desk.switchboard;
    let accepted = board.send("desk", both(1, HOUR)).await.unwrap();
    desk.until(accepted, &[State::Accepted]).await;
    let later = clock.now().plus(6 * HOUR);
    let waits = board.send_at("desk", both(2, HOUR), later).await.unwrap();
    // By the number of the one's fallback, and by that of the other itself.
    for (channel, from) in [(&sms, person(1).expose()), (&whatsapp, "07700 900123")] {
        assert_eq!(board.receive("all", channel.arrives(from, "STOP")).await.status, 200);
    }
    let status = board.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts), (State::Refused, 0));
    assert!(status.reason.unwrap().contains("opted out"));
    clock.goes_on(12 * HOUR);
    looked_at(&desk, &whatsapp).await;
    for id in [accepted, waits] {
        assert_eq!(board.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn resend_goes_to_another_supplier_by_kind() {
    use ErrorKind::{Account, InvalidRecipient, OptedOut, Rejected, Unavailable, Unexpected};
    for (kind, first, second) in [
        (Unavailable, 1, 1),
        (Account, 1, 1),
        (Unexpected, 1, 1),
        (Rejected, 2, 0),
        (InvalidRecipient, 2, 0),
        (OptedOut, 1, 0),
    ] {
        let one = Mock::sms();
        let two = Mock::sms().account("other");
        let line = Line::new("desk").channel(one.clone()).channel(two.clone());
        let desk = Desk::of(Switchboard::builder(memory().await), [line]);
        one.will_fail(Error::new(kind, "it may have gone").with_outcome(Outcome::Unknown));
        let message = text(1, "Hello").on_unknown(OnUnknown::Resend);
        let id = desk.switchboard.send("desk", message).await.unwrap();
        desk.until(id, &[State::Accepted, State::Parked]).await;
        assert_eq!((one.sent().len(), two.sent().len()), (first, second), "{kind:?}");
        desk.close().await;
    }
}
