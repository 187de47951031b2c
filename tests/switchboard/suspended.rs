//! Suspended accounts: their messages wait and need no manual work.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use civic_messaging::clock::{Clock, VirtualClock};
use civic_messaging::error::Scope;
use civic_messaging::health::Health;
use civic_messaging::layer::retry::Schedule;
use civic_messaging::switchboard::{Id, Line, Resolution, State, Switchboard};
use civic_messaging::{Accepted, Channel, Error, ErrorKind, Message, Mock, Outcome, Purpose, Result, webhook};
use tokio::task::JoinHandle;

use super::desk::{Desk, memory, text};
use super::support::signed_by_meta;
use super::{Ahead, virtual_clock};

const SECOND: Duration = Duration::from_secs(1);

/// A mock whose credentials can expire, and which refuses one text with the same error.
#[derive(Clone, Debug)]
struct Account {
    mock: Mock,
    expired: Arc<AtomicBool>,
    misfit: &'static str,
    refused: Arc<AtomicUsize>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Account {
    fn new(name: &str) -> Self {
        let mock = Mock::sms().account(name);
        Self { mock, expired: Arc::default(), misfit: "none", refused: Arc::default(), sent: Arc::default() }
    }

    fn expires(&self, expired: bool) {
        self.expired.store(expired, Ordering::SeqCst);
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

fn expired() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the token has expired").with_outcome(Outcome::Rejected)
}

#[civic_messaging::async_trait]
impl Channel for Account {
    fn info(&self) -> &civic_messaging::Info {
        self.mock.info()
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        let civic_messaging::Content::Text(text) = &message.content else { panic!("a text") };
        if self.expired.load(Ordering::SeqCst) || text == self.misfit {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(expired().with_gateway("mock"));
        }
        self.sent.lock().unwrap().push(text.clone());
        self.mock.send(message).await
    }

    async fn receive(&self, request: &webhook::Request) -> Result<webhook::Received> {
        self.mock.receive(request).await
    }

    async fn health(&self) -> Result<Health> {
        Err(Error::unsupported("there is nothing to ask"))
    }
}

/// Advances virtual time by `step` every few milliseconds.
fn passing(clock: &VirtualClock, step: Duration) -> JoinHandle<()> {
    let clock = clock.clone();
    tokio::spawn(async move {
        loop {
            clock.advance(step);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    })
}

async fn desk(lines: impl IntoIterator<Item = Line>) -> (Desk, VirtualClock) {
    let clock = virtual_clock();
    (Desk::of(Switchboard::builder(memory().await).clock(clock.clone()), lines), clock)
}

async fn send_all(desk: &Desk, texts: impl IntoIterator<Item = String>) -> Vec<Id> {
    let mut ids = Vec::new();
    for (n, words) in texts.into_iter().enumerate() {
        ids.push(desk.switchboard.send("desk", text(u32::try_from(n).unwrap(), &words)).await.unwrap());
    }
    ids
}

#[tokio::test]
async fn expired_credential_rejects_no_message() {
    let account = Account::new("one");
    let (desk, clock) = desk([Line::new("desk").channel(account.clone())]).await;
    account.expires(true);
    let ids = send_all(&desk, (0..200).map(|n| format!("Reminder {n}"))).await;
    let suspended = async {
        loop {
            let stats = desk.switchboard.stats().await.unwrap();
            if let [one] = &stats.suspended[..] {
                return one.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let suspension = tokio::time::timeout(Duration::from_secs(20), suspended).await.unwrap();
    assert_eq!((suspension.gateway, suspension.account.as_str()), ("mock", "one"));
    assert_eq!(suspension.kind, ErrorKind::Unauthenticated);
    assert!(suspension.reason.contains("the token has expired"), "{}", suspension.reason);
    let health = desk.switchboard.health().await;
    assert_eq!(health[0].suspended.as_ref(), Some(&suspension));
    let time = passing(&clock, SECOND);
    // For ten minutes.
    let begun = clock.monotonic();
    while clock.monotonic() < begun + Duration::from_secs(600) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = desk.switchboard.stats().await.unwrap().all();
    assert_eq!(all.count(State::Rejected) + all.count(State::Parked) + all.count(State::Accepted), 0, "{all:?}");
    for id in &ids {
        let reason = desk.switchboard.status(*id).await.unwrap().unwrap().reason.unwrap_or_default();
        assert!(reason.starts_with("the account is suspended: "), "{reason}");
    }
    // The concurrent sends, and occasional probes.
    let refused = account.refused.load(Ordering::SeqCst);
    assert!(refused <= 32 + 10, "{refused} messages were spent");
    account.expires(false);
    for id in &ids {
        assert!(desk.until(*id, &[State::Accepted, State::Rejected, State::Parked]).await.state == State::Accepted);
    }
    let sent = account.sent();
    assert_eq!((sent.len(), sent.iter().collect::<HashSet<_>>().len()), (200, 200));
    assert_eq!(desk.switchboard.stats().await.unwrap().suspended, []);
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn unsuitable_message_is_rejected_alone() {
    let account = Account { misfit: "Reminder 7", ..Account::new("one") };
    let (desk, clock) = desk([Line::new("desk").channel(account.clone())]).await;
    let time = passing(&clock, SECOND);
    let ids = send_all(&desk, (0..200).map(|n| format!("Reminder {n}"))).await;
    for (n, id) in ids.iter().enumerate() {
        let status = desk.until(*id, &[State::Accepted, State::Rejected, State::Parked]).await;
        assert_eq!(status.state == State::Rejected, n == 7, "{n}: {status:?}");
    }
    assert_eq!(account.sent().len(), 199);
    // A person may have it resent.
    assert!(desk.switchboard.settle(ids[7], Resolution::Resend).await.unwrap());
    desk.until(ids[7], &[State::Deferred, State::Rejected]).await;
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn sole_message_of_suspended_account_is_its_probe() {
    let account = Account::new("one");
    let (desk, clock) = desk([Line::new("desk").channel(account.clone())]).await;
    account.expires(true);
    let time = passing(&clock, 20 * SECOND);
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    while account.refused.load(Ordering::SeqCst) < 30 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = desk.switchboard.status(id).await.unwrap().unwrap();
    assert!(!status.state.is_settled(), "more failures than a message has tries: {status:?}");
    account.expires(false);
    assert_eq!(desk.until(id, &[State::Accepted, State::Rejected, State::Parked]).await.state, State::Accepted);
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn other_supplier_takes_over_from_suspended_account() {
    let (one, two) = (Account::new("one"), Account::new("two"));
    let (desk, _clock) = desk([Line::new("desk").channel(one.clone()).channel(two.clone())]).await;
    one.expires(true);
    let ids = send_all(&desk, (0..20).map(|n| format!("Reminder {n}"))).await;
    for id in ids {
        desk.until(id, &[State::Accepted]).await;
    }
    assert_eq!((one.sent().len(), two.sent().len()), (0, 20));
    desk.close().await;
}

#[tokio::test]
async fn suspended_message_still_expires() {
    let account = Account::new("one");
    let (desk, clock) = desk([Line::new("desk").channel(account.clone())]).await;
    account.expires(true);
    let time = passing(&clock, SECOND);
    let until = clock.now().plus(Duration::from_secs(90));
    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(desk.switchboard.send("desk", text(n, "Hello").not_after(until)).await.unwrap());
    }
    for id in ids {
        assert_eq!(desk.until(id, &[State::Expired, State::Rejected, State::Parked]).await.state, State::Expired);
    }
    // Before the next probe, 36 seconds later.
    assert!(clock.now().since(until) < Duration::from_secs(30), "{:?}", clock.now().since(until));
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn retry_deadline_counts_from_first_attempt() {
    let mock = Mock::sms();
    let (desk, clock) = desk([Line::new("desk").channel(mock.clone())]).await;
    for _ in 0..3 {
        mock.will_fail(Error::new(ErrorKind::Unavailable, "no connection could be made"));
    }
    let planned = clock.now().plus(Duration::from_secs(48 * 3_600));
    let id = desk.switchboard.send_at("desk", text(1, "Hello"), planned).await.unwrap();
    clock.advance(Duration::from_secs(48 * 3_600));
    let time = passing(&clock, SECOND);
    let status = desk.until(id, &[State::Accepted, State::Parked]).await;
    assert_eq!((status.state, status.attempts), (State::Accepted, 4));
    time.abort();
    desk.close().await;
}

#[tokio::test]
async fn rejected_message_can_be_resent() {
    let mock = Mock::sms();
    let (desk, _clock) = desk([Line::new("desk").channel(mock.clone())]).await;
    mock.will_fail(Error::new(ErrorKind::InvalidRecipient, "nobody is there").with_outcome(Outcome::Rejected));
    let id = desk.switchboard.send("desk", text(1, "Hello").purpose(Purpose::Reply)).await.unwrap();
    desk.until(id, &[State::Rejected]).await;
    assert!(desk.switchboard.settle(id, Resolution::Resend).await.unwrap());
    desk.until(id, &[State::Accepted]).await;
    assert!(!desk.switchboard.settle(id, Resolution::Resend).await.unwrap(), "it has gone");
    desk.close().await;
}

#[tokio::test]
async fn resent_message_gets_all_its_attempts_again() {
    let (mock, clock) = (Mock::sms(), Ahead::default());
    let schedule = Schedule::default().attempts(2).unwrap();
    let builder = Switchboard::builder(memory().await).clock(clock.clone()).schedule(schedule);
    let desk = Desk::of(builder, [Line::new("desk").channel(mock.clone())]);
    for _ in 0..3 {
        mock.will_fail(Error::new(ErrorKind::Unavailable, "busy").with_retry(true, None));
    }
    let id = desk.switchboard.send("desk", text(1, "Hello")).await.unwrap();
    desk.until(id, &[State::Deferred]).await;
    clock.advance_by(Duration::from_secs(30));
    desk.until(id, &[State::Parked]).await;
    assert!(desk.switchboard.settle(id, Resolution::Resend).await.unwrap());
    let status = desk.until(id, &[State::Deferred, State::Parked]).await;
    assert_eq!((status.state, status.attempts, status.history.len()), (State::Deferred, 3, 3));
    clock.advance_by(Duration::from_secs(30));
    assert_eq!(desk.until(id, &[State::Accepted]).await.attempts, 4);
    desk.close().await;
}

#[test]
fn error_scope_follows_kind_and_row() {
    let scope = |kind| Error::new(kind, "no").scope();
    assert_eq!(scope(ErrorKind::Unauthenticated), Scope::Channel);
    assert_eq!(scope(ErrorKind::OptedOut), Scope::Recipient);
    assert_eq!(scope(ErrorKind::InvalidMessage), Scope::Message);
    let pair = Error::new(ErrorKind::QuotaExceeded, "no").with_per_recipient(true);
    assert!(pair.scope() == Scope::Recipient && !pair.is_account_fault());
    let row: civic_messaging::error::ErrorClass =
        serde_json::from_str(r#"{ "kind": "forbidden", "scope": "recipient" }"#).unwrap();
    assert_eq!((row.kind, row.scope), (ErrorKind::Forbidden, Some(Scope::Recipient)));
    let template = Error::new(ErrorKind::Config, "no").with_scope(Scope::Template);
    assert!(template.scope() == Scope::Template && !template.is_account_fault());
}

#[cfg(all(feature = "meta", feature = "notify", feature = "testing"))]
mod gateways {
    use civic_messaging::media::MemoryStore;
    use civic_messaging::switchboard::{File, InboxEvent};
    use civic_messaging::testing::{FakeGateway, Step};
    use civic_messaging::{Address, Meta, Notify, meta, notify};
    use serde_json::Value;

    use super::*;

    const FAULTS: &str = include_str!("../fixtures/cases/switchboard/account_faults.json");
    const KEY: &str = "council-11111111-1111-4111-8111-111111111111-22222222-2222-4222-8222-222222222222";
    const TEMPLATE: &str = "33333333-3333-4333-8333-333333333333";

    fn answer(step: Step, fault: &Value) -> Step {
        let body = match &fault["body"] {
            Value::String(text) => text.clone(),
            body => body.to_string(),
        };
        let step = step.answers(u16::try_from(fault["status"].as_u64().unwrap()).unwrap(), body);
        let step = fault["location"].as_str().into_iter().fold(step, |step, to| step.response_header("location", to));
        let kind = fault["content_type"].as_str().unwrap_or("application/json");
        step.response_header("content-type", kind)
    }

    fn whatsapp(fake_gateway: &FakeGateway) -> Meta {
        let config = meta::Config::new("EAAG-example-token", "200000000000001").unwrap();
        Meta::whatsapp(config.app_secret("app-secret-app-secret").unwrap().base_url(&fake_gateway.base_url()).unwrap())
            .unwrap()
    }

    fn sms(fake_gateway: &FakeGateway) -> Notify {
        let config = notify::Config::new(KEY, TEMPLATE).unwrap().base_url(&fake_gateway.base_url()).unwrap();
        Notify::sms(config.callback_token("a-long-callback-token").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn messages_survive_account_faults() {
        let faults: Value = serde_json::from_str(FAULTS).unwrap();
        let mut tried = 0;
        for fault in faults["first_answers"].as_array().unwrap() {
            for gateway in ["meta", "notify"] {
                if ![gateway, "any"].contains(&fault["gateway"].as_str().unwrap()) {
                    continue;
                }
                tried += 1;
                let fake_gateway = FakeGateway::start().await;
                fake_gateway.expects(answer(Step::any(), fault));
                let id = r#""id":"740e5834-3a29-46b4-9a6f-16142fde533a""#;
                let both = format!(r#"{{"messages":[{{"id":"wamid.X"}}],{id}}}"#);
                fake_gateway.always(Step::any().answers(201, both).response_header("content-type", "application/json"));
                let (line, to) = match gateway {
                    "meta" => {
                        (Line::new("desk").channel(whatsapp(&fake_gateway)), Address::whatsapp("07700 900123").unwrap())
                    }
                    _ => (Line::new("desk").channel(sms(&fake_gateway)), Address::phone("07700 900123").unwrap()),
                };
                let (desk, clock) = desk([line]).await;
                let time = passing(&clock, SECOND);
                let id = desk.switchboard.send("desk", Message::text(to, "Hello Jane")).await.unwrap();
                let status = desk.until(id, &[State::Accepted, State::Rejected, State::Parked, State::Unknown]).await;
                assert_eq!(
                    (status.state, fake_gateway.accepted("Hello Jane")),
                    (State::Accepted, 1),
                    "{gateway} {fault}: {status:?}"
                );
                time.abort();
                desk.close().await;
            }
        }
        assert_eq!(tried, 9);
    }

    #[tokio::test]
    async fn files_survive_account_faults() {
        let faults: Value = serde_json::from_str(FAULTS).unwrap();
        for fault in faults["first_answers"].as_array().unwrap().iter().filter(|fault| fault["gateway"] != "notify") {
            let (fake_gateway, media) = (FakeGateway::start().await, MemoryStore::new());
            fake_gateway.expects(answer(Step::get("/v23.0/MEDIA_1"), fault).clone());
            let clock = virtual_clock();
            let builder = Switchboard::builder(memory().await).clock(clock.clone()).media(media.clone());
            let whatsapp = whatsapp(&fake_gateway);
            let desk = Desk::of(builder, [Line::new("desk").channel(whatsapp)]);
            let time = passing(&clock, SECOND);
            let located =
                format!(r#"{{"url":"{}/file","mime_type":"image/jpeg","id":"MEDIA_1"}}"#, fake_gateway.base_url());
            fake_gateway.expects(Step::any().answers(200, located).response_header("content-type", "application/json"));
            fake_gateway
                .always(Step::any().answers(200, "a fallen tree").response_header("content-type", "image/jpeg"));
            let body = r#"{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{
                "messaging_product":"whatsapp","metadata":{"display_phone_number":"441","phone_number_id":"200000000000001"},
                "messages":[{"from":"447700900123","id":"wamid.1","timestamp":"1795000000","type":"image",
                "image":{"id":"MEDIA_1","mime_type":"image/jpeg"}}]}}]}]}"#;
            let reply = desk.switchboard.receive("all", signed_by_meta("app-secret-app-secret", body)).await;
            assert_eq!(reply.status, 200);
            let handed: InboxEvent = tokio::time::timeout(Duration::from_secs(30), async {
                desk.switchboard.line("desk").unwrap().next().await.unwrap().unwrap()
            })
            .await
            .unwrap();
            let held = async {
                loop {
                    match &handed.files().await.unwrap()[..] {
                        [File::Held(_)] => break,
                        [File::Waiting] => tokio::time::sleep(Duration::from_millis(5)).await,
                        other => panic!("{fault}: {other:?}"),
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), held).await.unwrap_or_else(|_| panic!("never: {fault}"));
            time.abort();
            desk.close().await;
        }
    }
}
