//! Sends and receives through four gateways and four media with one interface, all on loopback.
//!
//! Starts mock servers of Meta, X, Twilio and GOV.UK Notify, connects the adapters to them by a TOML configuration, sends
//! one message of each kind, posts recorded webhooks, and replies to every resident with the same code. Prints a table of
//! the results. The exit code is 0 only if every check passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use civic_messaging::media::{Digest, MediaStream};
use civic_messaging::medium::sms::{Keyword, keyword};
use civic_messaging::message::{Choice, Location, Media, Row, Template, TemplateButton};
use civic_messaging::webhook::Request;
use civic_messaging::{
    Address, Channel, ChannelExt, Context, DeliveryState, Event, Inbound, Message, Outcome, Registry, Settings,
};

mod table;
mod vendors;

use table::Table;
use vendors::Vendors;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
type Channels = BTreeMap<String, Arc<dyn Channel>>;

const FALLEN_TREE: &[u8] = include_bytes!("../data/fallen-tree.png");

#[tokio::main]
async fn main() -> Result<()> {
    let vendors = Vendors::start().await;
    let context = Context::new();
    let map = context.media.put(MediaStream::from_bytes("image/png", FALLEN_TREE)).await?;
    let channels = Registry::standard().connect_all(&Settings::from_toml(&vendors.settings())?, &context)?;
    let mut table = Table::new();

    // Outbound: text, pictures and the media's own kinds.
    for (name, what, message) in messages(&map.into())? {
        let channel = channel(&channels, name)?;
        let result = channel.send(&message).await;
        let outcome = result.as_ref().map_or_else(ToString::to_string, |accepted| {
            let losses = if accepted.losses.is_empty() { String::new() } else { format!(", {:?}", accepted.losses) };
            format!("accepted as {}{losses}", accepted.id())
        });
        table.row(name, channel, "sent", what, &outcome, result.is_ok());
    }

    // Invalid: each fails with the field and the rule, before the network.
    let before = vendors.requests().await;
    for (name, what, message) in invalid_messages()? {
        let channel = channel(&channels, name)?;
        let error = channel.send(&message).await.err().ok_or("an invalid message was sent")?;
        let passed = error.outcome() == Outcome::NotSent && error.field().is_some();
        table.row(name, channel, "refused", what, &error.to_string(), passed);
    }
    table.check("no invalid message reached a gateway", vendors.requests().await == before);

    // Inbound: every webhook is delivered twice, as gateways do.
    let mut seen = BTreeSet::new();
    let mut ladder: BTreeMap<String, DeliveryState> = BTreeMap::new();
    let mut repeats = 0;
    for (name, request) in vendors.webhooks()? {
        let channel = channel(&channels, name)?;
        for event in channel.receive(&request).await?.events {
            if !seen.insert(event.id()) {
                repeats += 1;
                continue;
            }
            match event {
                // Messenger echoes what we send: no reply.
                Event::Inbound(inbound) if inbound.echo => {
                    let outcome = "not answered";
                    table.row(name, channel, "received", "echo", outcome, channel.reply(&inbound, "Hm").await.is_err());
                }
                Event::Inbound(inbound) => {
                    let (what, passed) = describe(channel, &inbound).await?;
                    table.row(name, channel, "received", &what, &format!("from {}", inbound.from), passed);
                    // STOP gets no reply.
                    if inbound.text().and_then(keyword) == Some(Keyword::Stop) {
                        continue;
                    }
                    let reply = channel.reply(&inbound, "Thank you, we are on it.").await;
                    let outcome =
                        reply.as_ref().map_or_else(ToString::to_string, |a| format!("accepted as {}", a.id()));
                    table.row(name, channel, "replied", "text", &outcome, reply.is_ok());
                }
                Event::Delivery(delivery) => {
                    // A status of Messenger concerns one message, or all up to a time.
                    let id = delivery.id().map_or("all", |id| id.as_str());
                    let state = ladder.entry(format!("{name} {id}")).or_insert(DeliveryState::Unrecognised);
                    *state = state.join(delivery.state);
                    let outcome = format!("now {state:?}");
                    table.row(name, channel, "status", &delivery.status, &outcome, *state >= delivery.state);
                }
                Event::OptOut(opt_out) => {
                    table.row(
                        name,
                        channel,
                        "opt-out",
                        &format!("{:?}", opt_out.scope),
                        &opt_out.from.to_string(),
                        true,
                    );
                }
                other => table.row(name, channel, "event", "other", &format!("{other:?}"), false),
            }
        }
    }
    let finals: Vec<_> = ladder.values().copied().collect();
    use DeliveryState::{Delivered, Read};
    table.check(
        "statuses out of order and duplicated end in the highest state",
        finals == [Read, Delivered, Delivered, Delivered, Read],
    );
    table.check("all duplicates were recognised", repeats == seen.len());

    // Forged webhooks.
    for (name, request) in vendors.forgeries()? {
        let channel = channel(&channels, name)?;
        let error = channel.receive(&request).await.err().ok_or("a forged webhook was accepted")?;
        let passed = matches!(error.webhook_status().as_u16(), 401 | 403);
        table.row(
            name,
            channel,
            "refused",
            "forged webhook",
            &format!("{error}; answered {}", error.webhook_status()),
            passed,
        );
    }

    table.check("every vendor received the expected requests", vendors.verify().await);
    table.finish()
}

fn channel<'a>(channels: &'a Channels, name: &str) -> Result<&'a dyn Channel> {
    Ok(&**channels.get(name).ok_or("no such channel")?)
}

/// Describes a resident's message. Fetches a picture and compares its hash.
async fn describe(channel: &dyn Channel, inbound: &Inbound) -> Result<(String, bool)> {
    let [photo] = inbound.media() else {
        let text = inbound.text().unwrap_or_default();
        return Ok((format!("text of {} characters", text.chars().count()), !text.is_empty()));
    };
    let bytes = channel.fetch_media(photo).await?.bytes().await?;
    let hash = Digest::sha256(&bytes);
    Ok((format!("photo, {} bytes, sha256 {:.8}…", bytes.len(), hash.to_string()), hash == Digest::sha256(FALLEN_TREE)))
}

type Sends = Vec<(&'static str, &'static str, Message)>;

fn messages(map: &civic_messaging::message::MediaSource) -> Result<Sends> {
    let phone = Address::phone("07700 900123")?;
    let on_page = Address::messenger("6000000000000001")?;
    let on_x = Address::x("1900000000000000101")?;
    let thread = Address::conversation(civic_messaging::Medium::X, "1900000000000000101-1900000000000000202")?;
    let picture = || Media::image(map.clone()).caption("The tree on Mill Lane");
    let link = || Media::image("https://www.example.gov.uk/tree.png").caption("The tree on Mill Lane");
    let reminder = || Template::new("bin_day_reminder").language("en_GB");
    Ok(vec![
        ("whatsapp", "text", Message::text(phone.clone(), "Your report is logged.").key("case-4711")),
        ("whatsapp", "image, uploaded", Message::media(phone.clone(), [picture()])),
        (
            "whatsapp",
            "template",
            Message::template(
                phone.clone(),
                reminder()
                    .parameter("Alex")
                    .parameter("Tuesday")
                    .button(TemplateButton::QuickReply { index: 0, payload: "STOP".into() }),
            ),
        ),
        (
            "whatsapp",
            "list",
            Message::new(
                phone.clone(),
                Choice::list("Choose a slot", "View slots").section("Monday", [Row::new("m9", "09:00")]),
            ),
        ),
        ("whatsapp", "location", Message::new(phone.clone(), Location::new(52.7073, -2.7553).name("Shirehall"))),
        ("messenger", "text", Message::text(on_page.clone(), "Your report is logged.").key("case-1")),
        (
            "messenger",
            "image by link",
            Message::media(on_page.clone(), [Media::image("https://www.example.gov.uk/tree.png")]),
        ),
        (
            "messenger",
            "quick replies",
            Message::new(
                on_page,
                Choice::buttons("Keep this appointment?").option("keep", "Keep").option("cancel", "Cancel"),
            ),
        ),
        ("dm", "text", Message::text(on_x.clone(), "Your bin collection is on Thursday.")),
        ("dm", "image, uploaded", Message::media(on_x, [picture()])),
        ("dm", "text to a conversation", Message::text(thread, "Thank you both.")),
        ("twilio", "text", Message::text(phone.clone(), "Your collection is on Tuesday.")),
        ("twilio", "MMS by link", Message::media(phone.clone(), [link()])),
        ("twilio_whatsapp", "text", Message::text(phone.clone(), "Your report is logged.")),
        (
            "twilio_whatsapp",
            "template",
            Message::template(
                phone.clone(),
                reminder().parameter("Alex").native("twilio", "HXaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ),
        ),
        ("notify", "text", Message::text(phone.clone(), "Your collection is on Tuesday.").key("waste-4711")),
        ("notify", "text that Notify rewrites", Message::text(phone.clone(), "It’s bin day 😀 — café, Dŵr €5")),
        (
            "notify",
            "template",
            Message::template(
                phone,
                Template::new("reminder")
                    .named("day", "Tuesday")
                    .native("notify", "5484cfca-668a-4c18-afb1-5ddd0e3521b1"),
            ),
        ),
    ])
}

fn invalid_messages() -> Result<Sends> {
    let phone = Address::phone("07700 900123")?;
    let on_x = Address::x("1900000000000000101")?;
    let picture = || Media::image("https://www.example.gov.uk/tree.png");
    Ok(vec![
        ("notify", "image", Message::media(phone.clone(), [picture()])),
        ("notify", "text of 919 characters", Message::text(phone.clone(), "a".repeat(919))),
        (
            "messenger",
            "list",
            Message::new(Address::messenger("6000000000000001")?, Choice::list("Choose", "Open").option("a", "A")),
        ),
        ("dm", "phone number", Message::text(phone.clone(), "Hello")),
        ("dm", "image by link", Message::media(on_x, [picture()])),
        ("whatsapp", "empty text", Message::text(phone.clone(), " ")),
        ("whatsapp", "two pictures at once", Message::media(phone.clone(), [picture(), picture()])),
        (
            "whatsapp",
            "mixed parameters",
            Message::template(phone.clone(), Template::new("t").language("en_GB").parameter("a").named("b", "c")),
        ),
        ("twilio", "list", Message::new(phone, Choice::list("Choose", "Open").option("a", "A"))),
    ])
}

/// Signed webhooks, by the name of their channel.
type Webhooks = Vec<(&'static str, Request)>;
