//! A small enquiries desk: residents write by SMS, and the desk answers each. The service is killed halfway and restarted,
//! and the gateway delivers every webhook twice: no message is lost, and no resident is answered twice.
//!
//! Run it with `cargo run --example desk --all-features`. The gateway is a fake GOV.UK Notify on loopback; the service is a
//! separate process with a SQLite store and webhooks behind axum.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use civic_messaging::switchboard::{State, Switchboard};
use civic_messaging::testing::{FakeGateway, Step};
use civic_messaging::{Context, Registry, Settings};

const DATABASE: &str = "DESK_DATABASE";
const GATEWAY: &str = "DESK_GATEWAY";
const TOKEN: &str = "the-token-of-our-callbacks";

/// The whole service: one line, one channel, one route for webhooks. docs/council.toml has six lines on four media.
const SETTINGS: &str = r#"
store.url = "sqlite:desk.db"

[lines.enquiries]
name = "General enquiries"
controller = "Exampleshire Council"

[[lines.enquiries.channels]]
gateway = "notify"
medium = "sms"
template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"

[gateways.notify] # secrets: { env = "NOTIFY_API_KEY" }
api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
callback_tokens = "the-token-of-our-callbacks"

[routes]
notify = ["enquiries"]
"#;

async fn switchboard(database: &str, gateway: &str) -> civic_messaging::Result<Switchboard> {
    let settings = Settings::from_toml(SETTINGS)?.set("store.url", database).set("gateways.notify.base_url", gateway);
    Switchboard::from_settings(&settings, &Registry::standard(), &Context::new()).await
}

/// The service.
async fn serve(database: &str, gateway: &str) -> Result<(), Box<dyn Error>> {
    let switchboard = switchboard(database, gateway).await?;
    tokio::spawn(switchboard.clone().run(std::future::pending()));
    let router = axum::Router::new().nest("/webhooks", switchboard.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let line = switchboard.line("enquiries")?;
    while let Some(event) = line.next().await? {
        if let Some(inbound) = event.answerable() {
            let question = inbound.text().unwrap_or("your message");
            switchboard.reply("enquiries", inbound, format!("We are on it: {question}")).await?;
        }
        // Acknowledge last: after a crash the event is redelivered, and the reply has the same idempotency key.
        event.ack().await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(database), Ok(gateway)) = (std::env::var(DATABASE), std::env::var(GATEWAY)) {
        return serve(&database, &gateway).await;
    }
    let gateway = FakeGateway::start().await;
    let accepted = r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;
    gateway.always(Step::any().answers(201, accepted));
    let file = std::env::temp_dir().join(format!("civic-desk-{}.db", std::process::id()));
    let database = format!("sqlite:{}", file.display());

    let client = client()?;
    let (mut service, mut address) = start(&database, &gateway.base_url())?;
    println!("Twelve residents write. The service is killed after the sixth, and restarted.");
    for n in 1..=12 {
        if n == 7 {
            service.kill()?;
            service.wait()?;
            (service, address) = start(&database, &gateway.base_url())?;
        }
        // Gateways deliver webhooks at least once: send each twice.
        for _ in 0..2 {
            let post = client.post(format!("http://{address}/webhooks/notify")).bearer_auth(TOKEN).body(inbound(n));
            assert_eq!(post.send().await?.status(), 200);
        }
    }
    let store = switchboard(&database, &gateway.base_url()).await?;
    let counts = loop {
        let stats = store.stats().await?.line("enquiries").unwrap_or_default();
        if stats.count(State::Accepted) + stats.count(State::Unknown) == 12 {
            break stats.messages;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    service.kill()?;
    service.wait()?;

    for n in 1..=12 {
        assert!(gateway.accepted(&format!("question {n}?")) <= 1, "resident {n} was answered twice");
    }
    println!("Every webhook was answered 200. The replies in the store: {counts:?}.");
    println!(
        "The gateway accepted no reply twice. An unknown one was being sent when the service was killed: a look-up"
    );
    println!("at the gateway resolves it half a minute later, and it is never resent blindly.");
    drop(store);
    for end in ["", "-wal", "-shm", "-worker"] {
        _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
    Ok(())
}

/// Starts the service in a separate process and returns its address.
fn start(database: &str, gateway: &str) -> Result<(Child, SocketAddr), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.env(DATABASE, database).env(GATEWAY, gateway).stdout(Stdio::piped()).spawn()?;
    let lines = child.stdout.take().map(BufReader::new).ok_or("the service has no stdout")?.lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
    Ok((child, address.ok_or("the service did not start")?))
}

/// Returns a resident's message as Notify posts it.
fn inbound(n: u32) -> String {
    format!(
        r#"{{"id":"9968018b-f64e-4d8a-b068-2815a1fa{n:04}","source_number":"4477009001{n:02}",
            "destination_number":"07700900456","message":"question {n}?","date_received":"2026-11-25T13:46:46.155112Z"}}"#
    )
}

/// Returns an HTTP client that posts webhooks as the gateway does.
fn client() -> Result<reqwest::Client, Box<dyn Error>> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).build()?)
}
