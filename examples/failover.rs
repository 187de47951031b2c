//! Failover between two suppliers: which message fails over from GOV.UK Notify to Twilio, which does not, and how an
//! unknown outcome is resolved. Both suppliers are fake gateways on loopback.
//!
//! Run it with `cargo run --example failover --all-features`. It prints each step, and fails if one differs.

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::testing::{FakeGateway, SocketFault, Step};
use civic_messaging::{Address, Channel, Context, Message, Outcome, Registry, Result, Settings};

/// The council's configuration: suppliers in order of preference. The base URLs point to the fake gateways.
const SUPPLIERS: &str = r#"
medium = "sms"
pepper = "a pepper of this deployment"

[[suppliers]]
gateway = "notify"
api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
base_url = "{notify}"

[[suppliers]]
gateway = "twilio"
account_sid = "ACa1b2c3d4e5f60718293a4b5c6d7e8f90"
auth_token = "0123456789abcdef0123456789abcdef"
from = "+447700900999"
base_url = "{twilio}"
"#;

const NOTIFY_ACCEPTED: &str =
    r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;
const NOTIFY_FOUND: &str = r#"{"notifications":[{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","reference":"waste-4712",
    "phone_number":"+447700900123","type":"sms","status":"delivered","created_at":"2026-11-25T10:00:00.000000Z",
    "sent_at":"2026-11-25T10:00:01.000000Z","completed_at":"2026-11-25T10:00:04.000000Z"}],"links":{}}"#;
const NOTIFY_DAILY_LIMIT: &str = r#"{"status_code":429,"errors":[{"error":"TooManyRequestsError",
    "message":"Exceeded send limits (sms: 250000) for today"}]}"#;
const TWILIO_ACCEPTED: &str = r#"{"sid":"SM1a2b3c4d5e6f708192a3b4c5d6e7f809","status":"queued","num_segments":"1"}"#;
const TWILIO_OPTED_OUT: &str = r#"{"code":21610,"message":"Attempt to send to unsubscribed recipient","status":400}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let (notify, twilio) = (FakeGateway::start().await, FakeGateway::start().await);
    let suppliers = SUPPLIERS.replace("{notify}", &notify.base_url()).replace("{twilio}", &twilio.base_url());
    let sms = Registry::standard().connect(&Settings::from_toml(&suppliers)?, &Context::new())?;
    println!("One channel for SMS, in these layers: {}.\n", sms.info().layers.join(", "));
    let to = Address::phone("07700 900123")?;
    let copies = |text: &str| (notify.accepted(text), twilio.accepted(text));

    println!("1. Notify accepts the message, but the connection breaks before the response arrives.");
    notify.expects(Step::any().answers(201, NOTIFY_ACCEPTED).breaks(SocketFault::ResetAfterRequest));
    let message = Message::text(to.clone(), "Your collection is on Tuesday.").key("waste-4712");
    let started = SystemClock::new().now();
    let error = sms.send(&message).await.unwrap_err();
    println!("   {error}.");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(copies("Tuesday"), (1, 0));
    println!("   The outcome is unknown, so the message does not fail over. A look-up at Notify resolves it:");
    notify.expects(Step::any().answers(200, NOTIFY_FOUND));
    let query = LookupQuery::new(message, started).gateway(error.gateway().unwrap_or_default());
    let LookupOutcome::Found(found) = sms.look_up(&query).await? else { panic!("expected Found") };
    println!("   found, with the state {:?}.\n", found[0].state);

    println!("2. Notify rejects the message: the daily limit is reached.");
    notify.expects(Step::any().answers(429, NOTIFY_DAILY_LIMIT));
    twilio.expects(Step::any().answers(201, TWILIO_ACCEPTED));
    let accepted = sms.send(&Message::text(to.clone(), "The road is open again.")).await?;
    println!("   A definite rejection that another supplier can avoid: {} accepted the message.\n", accepted.gateway);
    assert_eq!((accepted.gateway, copies("road")), ("twilio", (0, 1)));

    println!("3. Notify is paused until midnight. Twilio rejects the message: the person has opted out.");
    twilio.expects(Step::any().answers(400, TWILIO_OPTED_OUT));
    let error = sms.send(&Message::text(to, "The library is closed today.")).await.unwrap_err();
    println!("   {error}.");
    println!("   The person refused, so no other supplier is tried.");
    assert_eq!((error.outcome(), copies("library")), (Outcome::Rejected, (0, 0)));

    notify.assert_done();
    twilio.assert_done();
    Ok(())
}
