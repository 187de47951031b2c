//! Three messages by two suppliers: what is carried from GOV.UK Notify to Twilio, what is not, and how the doubt is
//! settled. Both suppliers are doubles on loopback, over real sockets.
//!
//! Run it with `cargo run --example failover --all-features`. It prints the story, and fails if it goes another way.

use civic_messaging::clock::{Clock, SystemClock};
use civic_messaging::lookup::{LookupOutcome, LookupQuery};
use civic_messaging::testing::{FakeGateway, SocketFault, Step};
use civic_messaging::{Address, Channel, Context, Message, Outcome, Registry, Result, Settings};

/// What a council writes: suppliers in the order of its preference. The base URLs are there for the doubles.
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

const NOTIFY_TAKES: &str =
    r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;
const NOTIFY_HAS: &str = r#"{"notifications":[{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","reference":"waste-4712",
    "phone_number":"+447700900123","type":"sms","status":"delivered","created_at":"2026-11-25T10:00:00.000000Z",
    "sent_at":"2026-11-25T10:00:01.000000Z","completed_at":"2026-11-25T10:00:04.000000Z"}],"links":{}}"#;
const NOTIFY_USED_UP: &str = r#"{"status_code":429,"errors":[{"error":"TooManyRequestsError",
    "message":"Exceeded send limits (sms: 250000) for today"}]}"#;
const TWILIO_TAKES: &str = r#"{"sid":"SM1a2b3c4d5e6f708192a3b4c5d6e7f809","status":"queued","num_segments":"1"}"#;
const TWILIO_OPTED_OUT: &str = r#"{"code":21610,"message":"Attempt to send to unsubscribed recipient","status":400}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let (notify, twilio) = (FakeGateway::start().await, FakeGateway::start().await);
    let suppliers = SUPPLIERS.replace("{notify}", &notify.base_url()).replace("{twilio}", &twilio.base_url());
    let sms = Registry::standard().connect(&Settings::from_toml(&suppliers)?, &Context::new())?;
    println!("One channel for SMS, in these layers: {}.\n", sms.info().layers.join(", "));
    let to = Address::phone("07700 900123")?;
    let copies = |text: &str| (notify.accepted(text), twilio.accepted(text));

    println!("1. Notify takes the message, and the connection breaks before it says so.");
    notify.expects(Step::any().answers(201, NOTIFY_TAKES).breaks(SocketFault::ResetAfterRequest));
    let message = Message::text(to.clone(), "Your collection is on Tuesday.").key("waste-4712");
    let begun = SystemClock::new().now();
    let error = sms.send(&message).await.unwrap_err();
    println!("   {error}.");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(copies("Tuesday"), (1, 0));
    println!("   So Twilio is not asked. The supplier in doubt is asked what became of it:");
    notify.expects(Step::any().answers(200, NOTIFY_HAS));
    let sent = LookupQuery::new(message, begun).gateway(error.gateway().unwrap_or_default());
    let LookupOutcome::Found(found) = sms.look_up(&sent).await? else { panic!("Notify has it") };
    println!("   it has the message, and it is {:?}. Nothing is left in doubt.\n", found[0].state);

    println!("2. Notify's messages of the day are used up, and it says so.");
    notify.expects(Step::any().answers(429, NOTIFY_USED_UP));
    twilio.expects(Step::any().answers(201, TWILIO_TAKES));
    let accepted = sms.send(&Message::text(to.clone(), "The road is open again.")).await?;
    println!("   That is a definite no which another supplier can cure: {} took it.\n", accepted.gateway);
    assert_eq!((accepted.gateway, copies("road")), ("twilio", (0, 1)));

    println!("3. Notify rests until midnight. Twilio says that this person has said STOP to us.");
    twilio.expects(Step::any().answers(400, TWILIO_OPTED_OUT));
    let error = sms.send(&Message::text(to, "The library is closed today.")).await.unwrap_err();
    println!("   {error}.");
    println!("   That no is the person's own, so no other supplier is asked.");
    assert_eq!((error.outcome(), copies("library")), (Outcome::Rejected, (0, 0)));

    notify.assert_done();
    twilio.assert_done();
    Ok(())
}
