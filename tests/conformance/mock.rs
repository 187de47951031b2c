//! Conformance of the mock, for which checks of the wire do not apply.

use std::sync::Arc;

use civic_messaging::event::{Envelope, InboundContent, Raw};
use civic_messaging::health::CheckStatus;
use civic_messaging::lookup::LookupQuery;
use civic_messaging::message::{
    Choice, ContactCard, InfoRequest, Link, Location, Media, MediaRef, MediaSource, Native, Reaction, Template,
};
use civic_messaging::testing::{Exchange, ExpectedEvent, Setup, Signer, Subject, Webhook};
use civic_messaging::webhook::SignatureEncoding;
use civic_messaging::{
    Address, Channel, ChannelExt, Content, Delivery, DeliveryState, Event, Inbound, Indicator, Medium, Message, Mock,
    Result,
};
use futures_util::FutureExt;

/// A mock of one medium.
pub(crate) struct Mocked(pub(crate) &'static str);

impl Mocked {
    fn medium(&self) -> Medium {
        Medium::other(self.0).unwrap()
    }

    fn resident(&self) -> Address {
        let address = match self.0 {
            "sms" | "whatsapp" => "07700 900123",
            "pager" => "pager-900123",
            _ => "6000000000000001",
        };
        Address::parse(&self.medium(), address).unwrap()
    }

    fn lost(&self) -> Message {
        Message::text(self.resident(), "The answer to this one got lost.").key("case-0001")
    }

    fn inbound(&self) -> Inbound {
        let account = "mock-account".into();
        let envelope = Envelope::new("mock", self.medium(), account, self.now(), Raw::default());
        Inbound::new(envelope, "mock-in-0001", self.resident(), InboundContent::Text("Is it Tuesday?".into()))
    }

    /// An id in the mock's format.
    fn id(&self, what: &str) -> String {
        format!("mock-{}-{what}", self.medium())
    }

    /// One message of each content it accepts.
    fn messages(&self, mock: &Mock) -> Vec<Message> {
        let held = MediaSource::from(MediaRef::new("mock", self.id("media-0001")));
        let contents: Vec<Content> = vec![
            "Your collection is on Tuesday.".into(),
            Media::image(held).into(),
            Template::new("bin_day").language("en_GB").parameter("Tuesday").into(),
            Choice::buttons("Keep it?").option("yes", "Yes").option("no", "No").into(),
            Choice::list("Which day?", "Days").option("mon", "Monday").option("tue", "Tuesday").into(),
            Link::new("Pay your council tax", "Pay now", "https://example.org/pay").into(),
            InfoRequest::location("Where is the pothole?").into(),
            InfoRequest::contact("Please share your number").into(),
            Location::new(52.7077, -2.7541).into(),
            ContactCard::new("Council Helpdesk").into(),
            Reaction::new("mock-in-0001", "👍").into(),
            Native::new("mock", &serde_json::json!({ "type": "flow" })).unwrap().into(),
        ];
        let mut messages: Vec<_> = contents.into_iter().map(|content| Message::new(self.resident(), content)).collect();
        messages.push(Message::text(self.resident(), "As you asked.").reply_to("mock-in-0001"));
        let group = Address::conversation(self.medium(), "1900000000000000101-1900000000000000202").unwrap();
        messages.push(Message::text(group, "Hello all."));
        messages.retain(|message| mock.check(message).is_ok());
        messages
    }
}

impl Subject for Mocked {
    fn connect(&self, setup: &Setup) -> Result<Arc<dyn Channel>> {
        let mock =
            Mock::new(self.medium()).clock(setup.context.clock.clone()).webhook_secrets(setup.webhook_secrets.clone());
        // The mock starts with a file, an inbound message, and a message whose response was lost.
        mock.add_file("image/png", "a picture");
        mock.emits(self.inbound().into());
        mock.will_lose_response();
        mock.send(&self.lost()).now_or_never().unwrap().unwrap_err();
        Ok(Arc::new(mock))
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn signer(&self) -> Signer {
        Signer::hmac_sha256("x-mock-signature", "sha256=", SignatureEncoding::Hex)
    }

    fn exchanges(&self) -> Vec<Exchange> {
        let mock = Mock::new(self.medium());
        let id = self.id("out-0003");
        let sends = self.messages(&mock).into_iter().map(|message| Exchange::send(message).accepts([&*id]));
        let file = MediaRef::new("mock", self.id("media-0001"));
        let mut all: Vec<_> = sends.collect();
        all.extend([
            Exchange::poll(None).returns_events([ExpectedEvent::text("mock-in-0001", "Is it Tuesday?")]),
            Exchange::look_up(LookupQuery::new(self.lost(), self.now())).finds([DeliveryState::Accepted]),
            Exchange::look_up(LookupQuery::new(self.lost().key("case-0002"), self.now())).not_found(),
            Exchange::look_up(LookupQuery::new(Message::text(self.resident(), "Without a key."), self.now()))
                .inconclusive(),
            Exchange::upload(Media::image("https://example.org/a.png"), "image/png", "a picture")
                .media_id(self.id("media-0003")),
            Exchange::fetch(file).file("a picture"),
            Exchange::health().health_check("credentials", CheckStatus::Pass),
        ]);
        if mock.info().capability.read {
            all.extend(
                [Indicator::Read, Indicator::Typing].map(|signal| Exchange::send_indicator(self.inbound(), signal)),
            );
        }
        all
    }

    fn webhooks(&self) -> Vec<Webhook> {
        let post = |events: &[Event]| Webhook::json(serde_json::to_vec(events).unwrap());
        let question = || ExpectedEvent::text("mock-in-0001", "Is it Tuesday?").from(self.resident().expose());
        let stop = |mut inbound: Inbound| {
            inbound.id = "mock-in-0002".into();
            inbound.content = InboundContent::Text("STOP".into());
            inbound
        };
        let delivery = |state| {
            Delivery::new(self.inbound().envelope, "mock-out-0001", state, "word").with_key(Some("case-4711".into()))
        };
        vec![
            post(&[self.inbound().into()]).returns_events([question()]),
            post(&[stop(self.inbound()).into()])
                .returns_events([ExpectedEvent::inbound("mock-in-0002"), ExpectedEvent::opt_out()]),
            post(&[delivery(DeliveryState::Sent).into(), self.inbound().into()]).returns_events([
                ExpectedEvent::delivery("mock-out-0001", DeliveryState::Sent).key("case-4711"),
                question(),
            ]),
            Webhook::json(r#"{"colour":"green"}"#).returns_events([ExpectedEvent::unrecognised()]),
        ]
    }
}

mod sms {
    use super::Mocked;
    civic_messaging::conformance_tests!(Mocked("sms"));
}

mod whatsapp {
    use super::Mocked;
    civic_messaging::conformance_tests!(Mocked("whatsapp"));
}

mod x {
    use super::Mocked;
    civic_messaging::conformance_tests!(Mocked("x"));
}

mod messenger {
    use super::Mocked;
    civic_messaging::conformance_tests!(Mocked("messenger"));
}

/// A medium that the crate does not define.
mod pager {
    use super::Mocked;
    civic_messaging::conformance_tests!(Mocked("pager"));
}
