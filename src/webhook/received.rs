//! Events of a webhook.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::response::Response;
use crate::model::address::{Address, Phone};
use crate::model::event::{Event, Inbound, OptOutScope, with_opt_outs};
use crate::model::id::{AccountId, Masked};

/// The events of a webhook, and the response for its gateway.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The events in the gateway's order.
    pub events: Vec<Event>,
    /// The response. Return it only once the events are durable: the gateway will not send them again.
    pub response: Response,
    /// The events discarded because the secret does not own their account, for example if one Meta app serves several
    /// numbers.
    ///
    /// Pass the same request to the channels with these accounts in [`Info::account`](crate::Info::account). Store the
    /// events of all of them, then return the first one's response; if another fails, return its
    /// [`Error::webhook_status`](crate::Error::webhook_status): the gateway redelivers everything, and [`Event::id`]
    /// identifies the duplicates. Events that every channel discards, and those without an account, belong to none.
    ///
    /// ```
    /// use civic_messaging::{Channel, Error, Mock};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let secrets = || [civic_messaging::webhook::SigningSecret::new(civic_messaging::Secret::new("shared-by-both").unwrap())];
    /// # let [enquiries, leader] = ["enquiries", "leader"].map(|account| {
    /// #     Mock::whatsapp().account(account).webhook_secrets(secrets())
    /// # });
    /// # let request = leader.arrives("07700 900123", "Thank you");
    /// let received = enquiries.receive(&request).await?;
    /// let mut events = received.events;
    /// for channel in [&leader] {
    ///     if received.discarded.iter().any(|one| one.account.as_ref() == Some(&channel.info().account)) {
    ///         events.extend(channel.receive(&request).await?.events);
    ///     }
    /// }
    /// assert_eq!((events.len(), received.response.status.as_u16()), (1, 200));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub discarded: Vec<Discarded>,
}

/// The discarded events of one account: see [`Received::discarded`].
///
/// `Debug` masks the account: a malformed webhook may have personal data in its place.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub struct Discarded {
    /// The account, or `None` if they name none.
    pub account: Option<AccountId>,
    /// The number of events, as far as they could be counted.
    pub events: usize,
}

impl fmt::Debug for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A malformed webhook may have personal data in place of an account.
        let account = self.account.as_ref().map(|account| Masked(account.as_str()).to_string());
        f.debug_struct("Discarded").field("account", &account).field("events", &self.events).finish()
    }
}

impl Discarded {
    /// Creates a count of discarded events.
    pub fn new(account: Option<AccountId>, events: usize) -> Self {
        Self { account, events }
    }
}

impl Received {
    /// Creates a result with these events and an empty 200 response.
    ///
    /// Adds an [`OptOut`](crate::event::OptOut) for each STOP or START message, for every adapter alike.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events: with_opt_outs(events), response: Response::ok(), discarded: Vec::new() }
    }

    /// Returns the messages that need a reply, by [`Event::as_answerable`], except those of a person who sends STOP in
    /// this webhook.
    ///
    /// Gateways redeliver events: deduplicate by [`Event::id`] first.
    pub fn answerable(&self) -> impl Iterator<Item = &Inbound> {
        let mut resumed = HashSet::new();
        // By each identifier of the person: a phone number, a user id.
        let mut stopped: HashMap<&str, Vec<&Address>> = HashMap::new();
        for event in &self.events {
            match event {
                Event::OptOut(start) if start.resume => resumed.extend(&start.inbound),
                Event::OptOut(stop) if stop.scope == OptOutScope::All => {
                    identifiers(&stop.from).for_each(|name| stopped.entry(name).or_default().push(&stop.from));
                }
                _ => {}
            }
        }
        let has_stopped = move |from: &Address| {
            identifiers(from).filter_map(|name| stopped.get(name)).flatten().any(|stopped| stopped.same_person(from))
        };
        let answerable = self.events.iter().filter_map(Event::as_answerable);
        answerable.filter(move |inbound| !resumed.contains(&inbound.id) && !has_stopped(&inbound.from))
    }

    /// Sets the response.
    #[must_use]
    pub fn with_response(mut self, response: Response) -> Self {
        self.response = response;
        self
    }

    /// Returns the number of discarded events over all accounts.
    pub fn discarded_events(&self) -> usize {
        self.discarded.iter().map(|discarded| discarded.events).sum()
    }

    /// Adds discarded events.
    #[must_use]
    pub fn with_discarded(mut self, account: Option<AccountId>, events: usize) -> Self {
        self.discarded.push(Discarded::new(account, events));
        self
    }
}

fn identifiers(person: &Address) -> impl Iterator<Item = &str> {
    std::iter::once(person.expose()).chain(person.as_phone().map(Phone::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answerable_skips_echoes_and_stop() {
        use crate::model::event::InboundContent;
        use crate::{Channel, Mock};
        let sms = Mock::sms();
        let answered = async |text: &str, echo: bool| {
            let content = InboundContent::Text(text.to_owned());
            sms.arrives_with("07700 900123", content);
            let mut events = sms.poll(None).await.unwrap().events;
            let Some(Event::Inbound(mut inbound)) = events.drain(..).rfind(|event| event.as_inbound().is_some()) else {
                panic!("nothing arrived")
            };
            inbound.echo = echo;
            Received::new(vec![inbound.into()]).answerable().count()
        };
        assert_eq!(answered("When is my bin day?", false).await, 1);
        assert_eq!(answered("When is my bin day?", true).await, 0);
        assert_eq!(answered("STOP", false).await, 0);
    }

    #[tokio::test]
    async fn answerable_skips_people_who_stop_and_reactions() {
        use crate::model::event::InboundContent;
        use crate::{Channel, Mock};
        let sms = Mock::sms();
        sms.arrives("07700 900123", "When is my bin day?");
        sms.arrives("07700 900456", "And mine?");
        sms.arrives("07700 900123", "STOP");
        sms.arrives("07700 900789", "START");
        let reaction = InboundContent::Reaction { to: "m1".into(), emoji: Some("👍".to_owned()) };
        sms.arrives_with("07700 900456", reaction);
        let received = Received::new(sms.poll(None).await.unwrap().events);
        let texts: Vec<_> = received.answerable().map(Inbound::text).collect();
        assert_eq!(texts, [Some("And mine?")]);
    }
}
