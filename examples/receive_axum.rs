//! Receives the webhooks of all gateways in one axum server.
//!
//! Starts on loopback, posts a signed and a forged webhook to itself, and exits. In a service, keep the server and handle
//! the events where this example prints them.

use std::sync::Arc;

use axum::Router;
use civic_messaging::{Context, Event, Registry, Result, Settings};

/// Handles the events of one webhook: store them here, because the gateway does not send them again.
async fn store(name: String, events: Vec<Event>) -> Result<()> {
    for event in events {
        match event {
            Event::Inbound(inbound) => println!("{name}: {:?} from {:?}", inbound.content, inbound.from),
            other => println!("{name}: {other:?}"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::from_toml(
        r#"
        [whatsapp]
        gateway = "meta"
        medium = "whatsapp"
        access_token = "EAAG-example-token"
        phone_number_id = "200000000000001"
        app_secrets = "example-app-secret"
        verify_token = "example-verify-token"

        [dm]
        gateway = "x"
        medium = "x"
        user_id = "1900000000000000202"
        consumer_key = "example-consumer-key"
        consumer_secret = "example-consumer-secret"
        access_token = "example-access-token"
        access_token_secret = "example-access-token-secret"

        [sms]
        gateway = "twilio"
        medium = "sms"
        account_sid = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        auth_token = "example-auth-token"
        from = "+447700900456"
        public_url = "https://messages.example.gov.uk"

        [bins]
        gateway = "notify"
        medium = "sms"
        api_key = "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"
        template_id = "5484cfca-668a-4c18-afb1-5ddd0e3521b1"
        callback_tokens = "example-callback-token"
        "#,
    )?;
    let channels = Registry::standard().connect_all(&settings, &Context::new())?;
    let router = Router::new().nest("/webhooks", civic_messaging::axum::router(channels, store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/webhooks", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let client = reqwest_on_loopback()?;
    let body = r#"{"id":"9968018b-f64e-4d8a-b068-2815a1faa0e7","source_number":"447700900123",
        "destination_number":"07700900456","message":"When is my bin day?","date_received":"2026-11-22T13:46:46.155112Z"}"#;
    for (token, status) in [("example-callback-token", 200), ("a-forged-token", 403)] {
        let post = client.post(format!("{base}/bins")).bearer_auth(token).body(body);
        assert_eq!(post.send().await?.status(), status);
    }
    let handshake = "hub.mode=subscribe&hub.challenge=1158&hub.verify_token=example-verify-token";
    let challenge = client.get(format!("{base}/whatsapp?{handshake}")).send().await?;
    assert_eq!(challenge.text().await?, "1158");
    println!("webhook accepted, forged webhook rejected, handshake answered");
    Ok(())
}

/// Returns an HTTP client that posts webhooks as the gateways do.
fn reqwest_on_loopback() -> Result<reqwest::Client, Box<dyn std::error::Error>> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).build()?)
}
