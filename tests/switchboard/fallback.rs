//! Fallback messages, and policies that apply to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use civic_messaging::clock::Clock;
use civic_messaging::lookup::LookupOutcome;
use civic_messaging::policy::{Decision, Policy, PolicyInput, Reason};
use civic_messaging::switchboard::{Fallback, Line, Outgoing, Resolution, State, Status, Store, Switchboard};
use civic_messaging::{
    Address, Channel, DeliveryState, Error, ErrorKind, Message, Mock, OnUnknown, Outcome, Purpose, Result, Timestamp,
    async_trait,
};

use super::desk::{Desk, memory, text};
use super::{Ahead, Database, person, virtual_clock};

/// A WhatsApp message with an SMS fallback.
fn with_fallback(n: u32, within: Duration) -> Outgoing {
    let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
    let whatsapp = whatsapp.key(format!("flood-{n}")).on_unknown(OnUnknown::Park);
    Outgoing::new(whatsapp).fallback(Fallback::new(Message::text(person(n), "By SMS"), within))
}

async fn desk(clock: &Ahead) -> (Desk, Mock, Mock) {
    let (whatsapp, sms) = (Mock::whatsapp(), Mock::sms());
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    (Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]), whatsapp, sms)
}

/// Waits for the fallback of a message and returns its status.
async fn fallback_of(desk: &Desk, id: civic_messaging::switchboard::Id) -> Status {
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
async fn sms_falls_back_for_undelivered_whatsapp() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    whatsapp.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let id = desk.switchboard.send("desk", with_fallback(1, HOUR)).await.unwrap();
    let status = fallback_of(&desk, id).await;
    assert_eq!((status.instead_of, status.attempts), (Some(id), 1));
    sms.assert_sent(person(1).expose(), "By SMS");

    // Accepted, then reported as undelivered.
    let id = desk.switchboard.send("desk", with_fallback(2, HOUR)).await.unwrap();
    let gateway_id = desk.until(id, &[State::Accepted]).await.gateway_id.unwrap();
    assert_eq!(sms.sent().len(), 1);
    let failed = whatsapp.reports(&gateway_id, DeliveryState::Failed);
    assert_eq!(desk.switchboard.receive("all", failed).await.status, 200);
    fallback_of(&desk, id).await;

    // Accepted, without a delivery report in time.
    let id = desk.switchboard.send("desk", with_fallback(3, HOUR)).await.unwrap();
    desk.until(id, &[State::Accepted]).await;
    clock.advance_by(HOUR);
    fallback_of(&desk, id).await;
    assert_eq!((whatsapp.sent().len(), sms.sent().len()), (3, 3));
    desk.close().await;
}

#[tokio::test]
async fn fallback_skips_delivered_unknown_and_refused() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let delivered = desk.switchboard.send("desk", with_fallback(1, HOUR)).await.unwrap();
    let gateway_id = desk.until(delivered, &[State::Accepted]).await.gateway_id.unwrap();
    let report = whatsapp.reports(&gateway_id, DeliveryState::Delivered);
    assert_eq!(desk.switchboard.receive("all", report).await.status, 200);
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let unknown = desk.switchboard.send("desk", with_fallback(2, HOUR)).await.unwrap();
    desk.until(unknown, &[State::Parked]).await;
    whatsapp.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let stopped = desk.switchboard.send("desk", with_fallback(3, HOUR)).await.unwrap();
    desk.until(stopped, &[State::Rejected]).await;

    wants_messages_again(&desk).await;

    // The last one's fallback is sent, so those of the others were due as well.
    let late = desk.switchboard.send("desk", with_fallback(4, HOUR)).await.unwrap();
    desk.until(late, &[State::Accepted]).await;
    clock.advance_by(HOUR);
    fallback_of(&desk, late).await;
    for id in [delivered, unknown, stopped] {
        assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);

    // With `after_unknown` it is sent even then.
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let urgent = Message::text(Address::whatsapp("07700 900123").unwrap(), "Flood!").on_unknown(OnUnknown::Park);
    let fallback = Fallback::new(Message::text(person(5), "Flood!"), HOUR).even_if_unknown();
    let urgent = desk.switchboard.send("desk", Outgoing::new(urgent).fallback(fallback)).await.unwrap();
    desk.until(urgent, &[State::Parked]).await;
    clock.advance_by(HOUR);
    fallback_of(&desk, urgent).await;
    assert_eq!(desk.switchboard.status(urgent).await.unwrap().unwrap().state, State::Parked);
    desk.close().await;
}

#[tokio::test]
async fn unsendable_fallback_is_refused_at_intake() {
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
async fn fallback_skips_messages_found_by_look_up_or_person() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let board = &desk.switchboard;
    // The response was lost; the gateway then reports it under an id that was not recorded.
    whatsapp.will_lose_response();
    let lost = board.send("desk", with_fallback(1, HOUR)).await.unwrap();
    desk.until(lost, &[State::Parked]).await;
    let sent = civic_messaging::lookup::LookupQuery::new(whatsapp.sent()[0].clone(), clock.now());
    let civic_messaging::lookup::LookupOutcome::Found(found) =
        civic_messaging::Channel::look_up(&whatsapp, &sent).await.unwrap()
    else {
        panic!("the mock has it")
    };
    assert_eq!(board.receive("all", whatsapp.emits(found[0].clone().into())).await.status, 200);
    let id = desk.until(lost, &[State::Accepted]).await.gateway_id.unwrap();
    assert_eq!(board.receive("all", whatsapp.reports(&id, DeliveryState::Delivered)).await.status, 200);

    // A person settled it as sent.
    whatsapp.will_fail(Error::unknown("no answer in time"));
    let seen = board.send("desk", with_fallback(2, HOUR)).await.unwrap();
    desk.until(seen, &[State::Parked]).await;
    assert!(board.settle(seen, Resolution::Sent).await.unwrap());

    let late = board.send("desk", with_fallback(3, HOUR)).await.unwrap();
    desk.until(late, &[State::Accepted]).await;
    clock.advance_by(HOUR);
    fallback_of(&desk, late).await;
    for id in [lost, seen] {
        assert_eq!(board.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn whatsapp_number_change_leaves_the_sms_number() {
    let (desk, whatsapp, sms) = desk(&Ahead::default()).await;
    let [old, new] = ["07700 900123", "07700 900124"].map(|number| Address::whatsapp(number).unwrap());
    let request = whatsapp.arrives("07700 900123", "I have a new number");
    let inbound = civic_messaging::Channel::receive(&whatsapp, &request).await.unwrap().events.remove(0);
    let changed = civic_messaging::event::AddressChanged::new(inbound.envelope().clone(), old.clone(), new.clone());
    assert_eq!(desk.switchboard.receive("all", whatsapp.emits(changed.into())).await.status, 200);
    let by_whatsapp = desk.switchboard.send("desk", Message::text(old, "Hello")).await.unwrap();
    let by_sms = Message::text(Address::phone("07700 900123").unwrap(), "Hello");
    let by_sms = desk.switchboard.send("desk", by_sms).await.unwrap();
    for id in [by_whatsapp, by_sms] {
        desk.until(id, &[State::Accepted]).await;
    }
    assert_eq!((&whatsapp.sent()[0].to, sms.sent()[0].to.expose()), (&new, "+447700900123"));
    desk.close().await;
}

/// Refuses marketing, defers all but emergencies until a time, and can fail.
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
async fn policy_decides_at_intake_and_before_sending() {
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

    // It would expire before it may be sent.
    let error = board.send("desk", text(2, "Hello").not_after(opens.minus(HOUR / 2))).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("not_after")));
    assert!(error.to_string().contains("it is night"), "{error}");

    let waits = board.send("desk", text(2, "Hello")).await.unwrap();
    let urgent = board.send("desk", text(3, "Flood!").purpose(Purpose::Emergency)).await.unwrap();
    desk.until(urgent, &[State::Accepted]).await;
    assert_eq!(mock.sent().len(), 1);
    let status = board.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.reason.as_deref()), (State::Deferred, Some("it is night")));
    let decision = "SELECT decision, rule, reason FROM decision WHERE message = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]);
    let decision = rusqlite::Connection::open(&file.0).unwrap().query_row(decision, (i64::from(waits),), read);
    assert_eq!(decision.unwrap(), ["defer", "quiet-hours", "it is night"]);
    clock.advance_by(HOUR);
    desk.until(waits, &[State::Accepted]).await;

    // A failing policy lets no message through.
    broken.store(true, Ordering::Relaxed);
    let error = board.send("desk", text(4, "Hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    desk.close().await;
}

/// Defers until the current time.
#[derive(Debug)]
struct DefersUntilNow;

#[async_trait]
impl Policy for DefersUntilNow {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        Ok(Decision::Defer { until: question.at, reason: Reason::new("slip", "it is open") })
    }
}

#[tokio::test]
async fn policy_deferring_until_now_does_not_loop() {
    let clock = virtual_clock();
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).policy(DefersUntilNow);
    let desk = Desk::of(builder, [Line::new("desk").channel(Mock::sms())]);
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    let status = desk.until(id, &[State::Deferred]).await;
    assert!(status.due >= Some(clock.now().plus(Duration::from_secs(1))), "{status:?}");
    desk.close().await;
}

/// Refuses SMS once switched on.
#[derive(Debug)]
struct NoSms(Arc<AtomicBool>);

#[async_trait]
impl Policy for NoSms {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        let refuses = self.0.load(Ordering::Relaxed) && question.message.content.as_text() == Some("By SMS");
        Ok(if refuses { Decision::Refuse(Reason::new("no-sms", "the SMS are used up")) } else { Decision::Allow })
    }
}

#[tokio::test]
async fn policy_refused_fallback_does_not_cancel_its_message() {
    let (clock, whatsapp, sms) = (Ahead::default(), Mock::whatsapp(), Mock::sms());
    let (file, refuses) = (Database::new(), Arc::new(AtomicBool::new(false)));
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    let store = Store::open(&file.url()).await.unwrap();
    let desk = Desk::of(Switchboard::builder(store).clock(clock.clone()).policy(NoSms(refuses.clone())), [line]);
    let board = &desk.switchboard;
    // WhatsApp is unavailable, so the message waits for its next attempt.
    let down = Error::new(ErrorKind::Unavailable, "it does not work").with_retry(true, Some(4 * HOUR));
    whatsapp.will_fail(down);
    let id = board.send("desk", with_fallback(1, HOUR)).await.unwrap();
    desk.until(id, &[State::Deferred]).await;
    refuses.store(true, Ordering::Relaxed);
    clock.advance_by(HOUR);
    let db = rusqlite::Connection::open(&file.0).unwrap();
    let of = "SELECT decision, rule, reason FROM decision WHERE message = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]);
    let decision = async {
        loop {
            match db.query_row(of, (i64::from(id),), read) {
                Ok(decision) => return decision,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let decision = tokio::time::timeout(Duration::from_secs(20), decision).await.expect("it is asked");
    assert_eq!(decision, ["refuse_fallback", "no-sms", "the SMS are used up"]);
    clock.advance_by(4 * HOUR);
    let status = desk.until(id, &[State::Accepted, State::Cancelled]).await;
    assert_eq!((status.state, status.fallback), (State::Accepted, None));
    assert_eq!((whatsapp.sent().len(), sms.sent().len()), (2, 0));
    desk.close().await;
}

/// Allows a message at intake and refuses it before sending.
#[derive(Debug)]
struct RefusesLater(AtomicBool);

#[async_trait]
impl Policy for RefusesLater {
    async fn decide(&self, _: &PolicyInput<'_>) -> Result<Decision> {
        let objects = self.0.swap(true, Ordering::Relaxed);
        Ok(if objects { Decision::Refuse(Reason::new("objection", "this person objected")) } else { Decision::Allow })
    }
}

#[tokio::test]
async fn message_refused_after_intake_is_not_sent() {
    let mock = Mock::sms();
    let builder = Switchboard::builder(memory().await).policy(RefusesLater(AtomicBool::new(false)));
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    let id = desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap();
    let status = desk.until(id, &[State::Refused]).await;
    assert_eq!((status.attempts, status.reason.as_deref()), (0, Some("this person objected")));
    let settled = desk.switchboard.line("desk").unwrap().next().await.unwrap().unwrap();
    assert_eq!(settled.as_settled().map(|settled| settled.state), Some(State::Refused));
    // It was enqueued and stays enqueued.
    assert_eq!(desk.switchboard.send("desk", text(1, "Hello").key("k")).await.unwrap(), id);
    mock.assert_nothing_sent();
    desk.close().await;
}

/// Lifts the opt-out of the person to whom first messages go.
async fn wants_messages_again(desk: &Desk) {
    let person = Address::whatsapp("07700 900123").unwrap();
    assert_eq!(desk.switchboard.opt_outs().lift("desk", &person, "J. Jones").await.unwrap(), 1);
}

/// Waits until all due fallbacks were processed: that of a message failing now is the last.
async fn fallbacks_processed(desk: &Desk, whatsapp: &Mock) {
    whatsapp.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let last = Message::text(Address::whatsapp("07700 900123").unwrap(), "Last");
    let fallback = Fallback::on_failure(Message::text(person(999), "Last"));
    let last = desk.switchboard.send("desk", Outgoing::new(last).fallback(fallback)).await.unwrap();
    fallback_of(desk, last).await;
}

/// Refuses messages with this text once switched on.
#[derive(Debug)]
struct Refuses(AtomicBool, &'static str, Reason);

#[async_trait]
impl Policy for &'static Refuses {
    async fn decide(&self, question: &PolicyInput<'_>) -> Result<Decision> {
        let refuses = self.0.load(Ordering::Relaxed) && question.message.content.as_text() == Some(self.1);
        Ok(if refuses { Decision::Refuse(self.2.clone()) } else { Decision::Allow })
    }
}

fn refuses(words: &'static str, reason: Reason) -> &'static Refuses {
    Box::leak(Box::new(Refuses(AtomicBool::new(false), words, reason)))
}

#[tokio::test]
async fn policy_refusal_before_claim_ends_the_fallback() {
    for (for_medium, instead_of_it) in [(false, 0), (true, 1)] {
        let reason = Reason::new("rule", "it may not go");
        let policy = refuses("By WhatsApp", if for_medium { reason.for_medium() } else { reason });
        let (clock, whatsapp, sms) = (Ahead::default(), Mock::whatsapp(), Mock::sms());
        let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
        let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()).policy(policy), [line]);
        let at = clock.now().plus(HOUR);
        let id = desk.switchboard.send_at("desk", with_fallback(1, 6 * HOUR), at).await.unwrap();
        policy.0.store(true, Ordering::Relaxed);
        clock.advance_by(HOUR);
        desk.until(id, &[State::Refused]).await;
        if for_medium {
            fallback_of(&desk, id).await;
        }
        clock.advance_by(12 * HOUR);
        fallbacks_processed(&desk, &whatsapp).await;
        assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback.is_some(), for_medium);
        let of_first = sms.sent().iter().filter(|sent| sent.to == person(1)).count();
        assert_eq!(of_first, instead_of_it);
        desk.close().await;
    }
}

#[tokio::test]
async fn medium_scope_refusal_starts_the_fallback() {
    let policy = refuses("By WhatsApp", Reason::new("no-template", "has no template yet").for_medium());
    policy.0.store(true, Ordering::Relaxed);
    let (whatsapp, sms) = (Mock::whatsapp(), Mock::sms());
    let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
    let desk = Desk::of(Switchboard::builder(memory().await).policy(policy), [line]);
    let id = desk.switchboard.send("desk", with_fallback(1, HOUR)).await.unwrap();
    fallback_of(&desk, id).await;
    assert_eq!(desk.until(id, &[State::Refused]).await.attempts, 0);
    // Without a fallback nothing would be sent.
    let alone = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
    let error = desk.switchboard.send("desk", alone).await.unwrap_err();
    assert_eq!((error.kind(), whatsapp.sent().len(), sms.sent().len()), (ErrorKind::Refused, 0, 1));
    desk.close().await;
}

/// A channel that supports look-ups but sends no delivery reports, and the state that look-ups find.
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
        let mut state = self.1.lock().unwrap();
        state.1 += 1;
        match (found, state.0) {
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
async fn timed_fallback_looks_up_unreported_deliveries() {
    use DeliveryState::{Delivered, Failed, Sent};
    for (says, goes) in [(Some(Delivered), 0), (Some(Sent), 20), (Some(Failed), 20), (None, 0)] {
        let (clock, whatsapp, sms) = (Ahead::default(), silent(says), Mock::sms());
        let line = Line::new("desk").channel(whatsapp.clone()).channel(sms.clone());
        let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]);
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(desk.switchboard.send("desk", with_fallback(n, 2 * HOUR)).await.unwrap());
        }
        for id in &ids {
            desk.until(*id, &[State::Accepted]).await;
        }
        clock.advance_by(2 * HOUR);
        let looked_up = async {
            while whatsapp.1.lock().unwrap().1 < 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looked_up).await.expect("it is asked");
        for id in &ids[..goes] {
            fallback_of(&desk, *id).await;
        }
        fallbacks_processed(&desk, &whatsapp.0).await;
        assert_eq!((sms.sent().len(), whatsapp.1.lock().unwrap().1), (goes + 1, 20), "{says:?}");
        desk.close().await;
    }
}

#[tokio::test]
async fn timed_fallback_without_delivery_reports_is_refused() {
    let mute = Mock::whatsapp().capability(|can| {
        (can.receive, can.poll, can.look_up, can.delivery_status) = (false, false, false, false);
    });
    let (clock, sms) = (Ahead::default(), Mock::sms());
    let line = Line::new("desk").channel(mute.clone()).channel(sms.clone());
    let desk = Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), [line]);
    let error = desk.switchboard.send("desk", with_fallback(1, HOUR)).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidMessage, Some("fallback")), "{error}");
    assert!(error.to_string().contains("Fallback::on_failure"), "{error}");
    mute.assert_nothing_sent();

    // A fallback on failure is allowed.
    let on_failure = || {
        let whatsapp = Message::text(Address::whatsapp("07700 900123").unwrap(), "By WhatsApp");
        Outgoing::new(whatsapp).fallback(Fallback::on_failure(Message::text(person(1), "By SMS")))
    };
    let taken = desk.switchboard.send("desk", on_failure()).await.unwrap();
    desk.until(taken, &[State::Accepted]).await;
    mute.will_fail(Error::recipient("is not on WhatsApp").with_outcome(Outcome::Rejected));
    let failed = desk.switchboard.send("desk", on_failure()).await.unwrap();
    fallback_of(&desk, failed).await;
    clock.advance_by(1000 * HOUR);
    let failed = desk.switchboard.status(taken).await.unwrap().unwrap();
    assert_eq!((failed.fallback, sms.sent().len()), (None, 1));
    desk.close().await;
}

#[tokio::test]
async fn fallback_starts_on_a_late_failure_report() {
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
    let unknown = send(2).await;
    desk.until(unknown, &[State::Parked]).await;
    clock.advance_by(100 * HOUR);
    let failed = whatsapp.reports(&gateway_id, DeliveryState::Failed);
    assert_eq!(desk.switchboard.receive("all", failed).await.status, 200);
    fallback_of(&desk, late).await;
    assert_eq!(desk.switchboard.status(unknown).await.unwrap().unwrap().fallback, None);
    assert!(desk.switchboard.settle(unknown, Resolution::NotSent).await.unwrap());
    fallback_of(&desk, unknown).await;
    assert_eq!(sms.sent().len(), 2);
    desk.close().await;
}

#[tokio::test]
async fn opt_out_on_second_attempt_ends_the_fallback() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    whatsapp.will_fail(Error::unknown("no answer in time"));
    whatsapp.will_fail(Error::new(ErrorKind::OptedOut, "said STOP").with_outcome(Outcome::Rejected));
    let flood = Message::text(Address::whatsapp("07700 900123").unwrap(), "Flood!").on_unknown(OnUnknown::Resend);
    let fallback = Fallback::new(Message::text(person(1), "Flood!"), HOUR).even_if_unknown();
    let id = desk.switchboard.send("desk", Outgoing::new(flood).fallback(fallback)).await.unwrap();
    assert_eq!(desk.until(id, &[State::Parked, State::Rejected]).await.attempts, 2);
    clock.advance_by(2 * HOUR);
    wants_messages_again(&desk).await;
    fallbacks_processed(&desk, &whatsapp).await;
    assert_eq!(desk.switchboard.status(id).await.unwrap().unwrap().fallback, None);
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn stop_keyword_ends_queued_messages_and_fallbacks() {
    let clock = Ahead::default();
    let (desk, whatsapp, sms) = desk(&clock).await;
    let board = &desk.switchboard;
    let accepted = board.send("desk", with_fallback(1, HOUR)).await.unwrap();
    desk.until(accepted, &[State::Accepted]).await;
    let later = clock.now().plus(6 * HOUR);
    let waits = board.send_at("desk", with_fallback(2, HOUR), later).await.unwrap();
    // From the number of the one's fallback and from the other's own number.
    for (channel, from) in [(&sms, person(1).expose()), (&whatsapp, "07700 900123")] {
        assert_eq!(board.receive("all", channel.arrives(from, "STOP")).await.status, 200);
    }
    let status = board.status(waits).await.unwrap().unwrap();
    assert_eq!((status.state, status.attempts), (State::Refused, 0));
    assert!(status.reason.unwrap().contains("opted out"));
    clock.advance_by(12 * HOUR);
    wants_messages_again(&desk).await;
    fallbacks_processed(&desk, &whatsapp).await;
    for id in [accepted, waits] {
        assert_eq!(board.status(id).await.unwrap().unwrap().fallback, None);
    }
    assert_eq!(sms.sent().len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn resend_supplier_depends_on_the_error_kind() {
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
        one.will_fail(Error::new(kind, "the outcome is unknown").with_outcome(Outcome::Unknown));
        let message = text(1, "Hello").on_unknown(OnUnknown::Resend);
        let id = desk.switchboard.send("desk", message).await.unwrap();
        desk.until(id, &[State::Accepted, State::Parked]).await;
        assert_eq!((one.sent().len(), two.sent().len()), (first, second), "{kind:?}");
        desk.close().await;
    }
}
