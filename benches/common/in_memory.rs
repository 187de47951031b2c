//! A channel in memory that takes everything, and the five layers around any channel.

#![allow(dead_code, reason = "not every bench uses both")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use civic_messaging::capability::TextLimit;
use civic_messaging::layer::{CircuitBreaker, Failover, Layer, RateLimit, Retry, Trace};
use civic_messaging::rate::Rate;
use civic_messaging::webhook::{Received, Request};
use civic_messaging::{Accepted, Channel, Error, Info, Medium, Message, Result, Timestamp};

#[derive(Debug)]
pub(crate) struct InMemory(Info);

impl InMemory {
    pub(crate) fn new() -> Self {
        let info = Info::new("memory", Medium::WhatsApp, "desk");
        Self(info.with_capability(|can| can.text = Some(TextLimit::characters(4_096))))
    }
}

#[async_trait]
impl Channel for InMemory {
    fn info(&self) -> &Info {
        &self.0
    }

    async fn send(&self, message: &Message) -> Result<Accepted> {
        self.0.prepare(message, Timestamp::default())?;
        Ok(Accepted::new("memory", "wamid.FIXTURE_OUT_0001", Bytes::new()))
    }

    async fn receive(&self, _request: &Request) -> Result<Received> {
        Err(Error::unsupported("it only takes messages"))
    }
}

/// `Trace -> Failover -> Retry -> RateLimit -> CircuitBreaker`, with rates that nobody reaches.
pub(crate) fn layered(channel: impl Channel) -> Arc<dyn Channel> {
    let rate = Rate::new(100_000_000, Duration::from_secs(1)).expect("a rate");
    let limit = RateLimit::new().rate(rate).pair_rate(rate);
    let member = Retry::new().wrap(limit.wrap(CircuitBreaker::new().layer(channel)));
    Trace::new().layer(Failover::new([member]).expect("one member"))
}
