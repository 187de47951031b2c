//! A send to WhatsApp as it is written by hand over reqwest, with all that ours promises: one client, kept alive, with
//! the settings of `ReqwestTransport`; typed JSON both ways; the whole answer kept; and a note of whether the body was
//! ever asked for, without which a broken connection says nothing about the message.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::{Deserialize, Serialize};

pub(crate) const TOKEN: &str = "EAAG-system-user-token";
pub(crate) const NUMBER: &str = "200000000000001";
pub(crate) const TEXT: &str = "Your report of a missed bin in Mill Lane is logged: we collect it on Tuesday.";

pub(crate) struct ByHand {
    client: reqwest::Client,
    url: String,
    token: String,
}

#[derive(Debug)]
#[allow(dead_code, reason = "kept for whoever sends")]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) wa_id: Option<String>,
    pub(crate) raw: Bytes,
}

/// A failure, and whether its outcome is unknown.
#[derive(Debug)]
#[allow(dead_code, reason = "kept for whoever sends")]
pub(crate) struct Failed {
    pub(crate) unknown: bool,
}

impl ByHand {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .pool_idle_timeout(Duration::from_secs(4))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .build()
            .expect("a client");
        Self { client, url: format!("http://{address}/v26.0/{NUMBER}/messages"), token: TOKEN.to_owned() }
    }

    pub(crate) async fn send(&self, to: &str, text: &str) -> Result<Sent, Failed> {
        let message = Outgoing {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to,
            kind: "text",
            text: Text { body: text },
        };
        let body = serde_json::to_vec(&message).map_err(|_| Failed { unknown: false })?;
        let polled = Arc::new(AtomicBool::new(false));
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(reqwest::Body::wrap(Watched { body: Some(body.into()), polled: polled.clone() }));
        let answer = request.send().await.map_err(|_| Failed { unknown: polled.load(Ordering::Acquire) })?;
        let status = answer.status();
        let raw = answer.bytes().await.map_err(|_| Failed { unknown: !status.is_client_error() })?;
        if !status.is_success() {
            return Err(Failed { unknown: status.is_server_error() });
        }
        let taken: Taken = serde_json::from_slice(&raw).map_err(|_| Failed { unknown: true })?;
        let id = taken.messages.into_iter().next().ok_or(Failed { unknown: true })?.id;
        Ok(Sent { id, wa_id: taken.contacts.into_iter().next().and_then(|contact| contact.wa_id), raw })
    }
}

#[derive(Serialize)]
struct Outgoing<'a> {
    messaging_product: &'a str,
    recipient_type: &'a str,
    to: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    text: Text<'a>,
}

#[derive(Serialize)]
struct Text<'a> {
    body: &'a str,
}

#[derive(Deserialize)]
struct Taken {
    messages: Vec<TakenMessage>,
    #[serde(default)]
    contacts: Vec<TakenContact>,
}

#[derive(Deserialize)]
struct TakenMessage {
    id: String,
}

#[derive(Deserialize)]
struct TakenContact {
    wa_id: Option<String>,
}

struct Watched {
    body: Option<Bytes>,
    polled: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.polled.store(true, Ordering::Release);
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
