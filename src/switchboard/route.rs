//! Routes: one webhook path, and the channels behind it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::StatusCode;

use crate::channel::Channel;
use crate::model::error::Error;
use crate::model::event::Event;
use crate::model::id::AccountId;
use crate::webhook::{Refusal, Request, Response};

/// The receiving channels of a route, grouped by the requests that they accept.
pub(super) struct Route(Vec<Group>);

/// Channels that accept the same requests.
#[derive(Default)]
struct Group {
    channels: Vec<Arc<dyn Channel>>,
    /// The first channel of each account.
    owners: HashMap<AccountId, usize>,
}

/// The events and responses of a route's channels for one request.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) events: Vec<Event>,
    reply: Option<Response>,
    error: Option<Error>,
}

impl Route {
    pub(super) fn new<'c>(channels: impl IntoIterator<Item = &'c Arc<dyn Channel>>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for channel in channels.into_iter().filter(|channel| channel.info().capability.receive) {
            let n = groups.iter().position(|group| group.has_same_verifier(channel)).unwrap_or(groups.len());
            if n == groups.len() {
                groups.push(Group::default());
            }
            if let Some(group) = groups.get_mut(n) {
                for account in channel.verifier().into_iter().flat_map(|verifier| verifier.accounts()) {
                    group.owners.entry(account.clone()).or_insert(group.channels.len());
                }
                group.channels.push(channel.clone());
            }
        }
        Self(groups)
    }

    /// Returns `true` if no channel can verify a webhook.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) async fn receive(&self, request: &Request) -> Collected {
        let mut collected = Collected::default();
        for group in &self.0 {
            group.receive(request, &mut collected).await;
        }
        collected
    }
}

impl Group {
    fn has_same_verifier(&self, channel: &Arc<dyn Channel>) -> bool {
        self.channels.first().is_some_and(|first| {
            let (info, other) = (first.info(), channel.info());
            let verifiers = first.verifier().zip(channel.verifier());
            (info.gateway, &info.medium) == (other.gateway, &other.medium)
                && verifiers.is_some_and(|(one, other)| one.is_equivalent(other))
        })
    }

    /// Calls the first channel, and those whose accounts it reports as discarded. The cost therefore does not grow with
    /// the number of channels.
    async fn receive(&self, request: &Request, collected: &mut Collected) {
        let (mut called, mut queue) = (HashSet::from([0]), vec![0]);
        while let Some(channel) = queue.pop().and_then(|n| self.channels.get(n)) {
            let mut is_for_all = false;
            match channel.receive(request).await {
                Ok(received) => {
                    for discarded in &received.discarded {
                        match &discarded.account {
                            Some(account) => {
                                queue.extend(self.owners.get(account).copied().filter(|owner| called.insert(*owner)));
                            }
                            // Account unknown: any channel may own it.
                            None => is_for_all = true,
                        }
                    }
                    collected.events.extend(received.events);
                    collected.reply.get_or_insert(received.response);
                }
                Err(error) => {
                    // A refusal holds for the whole group; another failure concerns this channel only.
                    is_for_all = Refusal::from_error(&error).is_none();
                    let named = error.gateway().is_some();
                    collected.fail(if named { error } else { error.with_gateway(channel.info().gateway) });
                }
            }
            if is_for_all {
                queue.extend((0..self.channels.len()).filter(|n| called.insert(*n)));
            }
        }
    }
}

impl Collected {
    fn fail(&mut self, error: Error) {
        if self.error.as_ref().is_none_or(|worst| severity(&error) > severity(worst)) {
            self.error = Some(error);
        }
    }

    /// Returns the response to the request, once its events are stored.
    pub(super) fn reply(self) -> Result<Response, Error> {
        match (self.reply, self.error) {
            // The rest may belong to the failed channel: the gateway redelivers everything, and stored events are
            // deduplicated.
            (Some(_), Some(error)) if Refusal::from_error(&error).is_none() => {
                Err(error.with_webhook_status(StatusCode::SERVICE_UNAVAILABLE))
            }
            (Some(reply), _) => Ok(reply),
            (None, error) => {
                Err(error.unwrap_or_else(|| Error::unsupported("no channel of this route receives webhooks")))
            }
        }
    }
}

/// Ranks the errors of a route's channels: the highest is logged and answered. Our own failures rank above refusals,
/// and transient ones above permanent ones, such as a body that is too large.
fn severity(error: &Error) -> u8 {
    match Refusal::from_error(error) {
        Some(Refusal::Missing) => 0,
        Some(Refusal::Wrong) => 1,
        Some(Refusal::Stale) => 2,
        None if error.webhook_status() != StatusCode::SERVICE_UNAVAILABLE => 3,
        None => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures_util::FutureExt;

    use super::*;
    use crate::mock::Mock;
    use crate::model::error::{ErrorKind, Result};
    use crate::model::info::Info;
    use crate::model::message::{Accepted, Message};
    use crate::model::secret::Secret;
    use crate::webhook::{Received, Scheme, SignatureCoverage, SigningSecret, Unverified, Verification, Verifier};

    /// A scheme that refuses everything for one reason.
    #[derive(Debug)]
    struct Refuses(Refusal);

    impl Scheme for Refuses {
        fn verify(&self, _: Unverified<'_>) -> Verification {
            Verification::Refused(self.0)
        }

        fn covers(&self) -> SignatureCoverage {
            SignatureCoverage::Body
        }
    }

    #[test]
    fn severity_ranks_missing_wrong_stale_and_own_failures() {
        let request = Request::new(http::Request::new("{}"));
        let refusals = [Refusal::Missing, Refusal::Wrong, Refusal::Stale];
        let mut errors: Vec<_> = refusals.map(|refusal| request.open(&Refuses(refusal)).unwrap_err()).into();
        errors.push(Error::new(ErrorKind::TooLarge, "is too large"));
        errors.push(Error::new(ErrorKind::Unavailable, "no connection could be made"));
        assert!(errors.windows(2).all(|pair| severity(&pair[0]) < severity(&pair[1])));
    }

    /// A channel that counts its calls, and can be made to fail.
    #[derive(Debug)]
    struct Counted {
        mock: Mock,
        called: Arc<AtomicUsize>,
        fails: bool,
    }

    #[async_trait]
    impl Channel for Counted {
        fn info(&self) -> &Info {
            self.mock.info()
        }

        async fn send(&self, message: &Message) -> Result<Accepted> {
            self.mock.send(message).await
        }

        async fn receive(&self, request: &Request) -> Result<Received> {
            self.called.fetch_add(1, Ordering::Relaxed);
            match self.fails {
                true => Err(Error::new(ErrorKind::Unavailable, "no connection could be made")),
                false => self.mock.receive(request).await,
            }
        }

        fn verifier(&self) -> Option<&Verifier> {
            self.mock.verifier()
        }
    }

    fn mock(account: usize) -> Mock {
        Mock::sms().account(account.to_string())
    }

    fn event(account: usize) -> Event {
        let request = mock(account).arrives("07700 900123", "Hello");
        mock(account).receive(&request).now_or_never().unwrap().unwrap().events.remove(0)
    }

    /// Calls 200 channels: returns the accounts with events, the number of calls, and the status.
    async fn call(request: &Request, mock: impl Fn(usize) -> Mock, failing: usize) -> (Vec<String>, usize, u16) {
        let called = Arc::new(AtomicUsize::new(0));
        let counted = |n| Counted { mock: mock(n), called: called.clone(), fails: n == failing };
        let channels: Vec<Arc<dyn Channel>> = (0..200).map(|n| Arc::new(counted(n)) as _).collect();
        let mut collected = Route::new(&channels).receive(request).await;
        let events = std::mem::take(&mut collected.events);
        let mut accounts: Vec<_> = events.iter().map(|event| event.envelope().account.as_str().to_owned()).collect();
        accounts.sort();
        let status = collected.reply().unwrap_or_else(Response::from).status;
        (accounts, called.load(Ordering::Relaxed), status.as_u16())
    }

    #[tokio::test]
    async fn webhook_calls_its_channels_and_one_more() {
        let request = |accounts: &[usize]| mock(0).emits_all(accounts.iter().map(|account| event(*account)));
        for (accounts, called) in
            [(vec![0], 1), (vec![150], 2), (vec![7, 0, 199, 7], 3), (vec![999, 3], 2), (vec![], 1)]
        {
            let mut own: Vec<_> = accounts.iter().filter(|account| **account < 200).map(usize::to_string).collect();
            own.sort();
            assert_eq!(call(&request(&accounts), mock, usize::MAX).await, (own, called, 200), "{accounts:?}");
        }
        let forged = http::Request::post("/").header("x-mock-signature", "sha256=00").body("[]").unwrap();
        assert_eq!(call(&forged.into(), mock, usize::MAX).await, (vec![], 1, 403));
        assert_eq!(
            call(&http::Request::post("/").body("[]").unwrap().into(), mock, usize::MAX).await,
            (vec![], 1, 401)
        );
    }

    #[tokio::test]
    async fn every_channel_that_may_own_an_event_is_called() {
        let secret = |n: usize| SigningSecret::new(Secret::new(format!("signing-secret-{n}")).unwrap());
        let request = |n: usize, mock: Mock| mock.emits(event(n));
        // Each channel has a secret of its own.
        let own = |n: usize| mock(n).webhook_secrets([secret(n)]);
        assert_eq!(call(&request(150, own(150)), own, usize::MAX).await, (vec!["150".to_owned()], 200, 200));
        // The secrets of a rotation own different accounts.
        let split = |n: usize| {
            let old = SigningSecret::for_accounts(Secret::new("signing-secret-old").unwrap(), ["old".into()]);
            mock(n).webhook_secrets([secret(0), old])
        };
        assert_eq!(call(&request(150, split(0)), split, usize::MAX).await, (vec!["150".to_owned()], 200, 200));
        // The first channel fails, and so names no account.
        assert_eq!(call(&request(150, mock(0)), mock, 0).await, (vec!["150".to_owned()], 200, 503));
        // The channel of the account fails.
        assert_eq!(call(&request(150, mock(0)), mock, 150).await, (vec![], 200, 503));
    }

    #[test]
    fn verifiers_differ_by_each_setting_and_each_secret() {
        let secret = |text: &str| SigningSecret::for_accounts(Secret::new(text).unwrap(), ["desk".into()]);
        let (one, two) = (secret("signing-secret-1"), secret("signing-secret-2"));
        let both = [one.clone(), two.clone()];
        let verifiers = [
            Verifier::new([], &both[..1]),
            Verifier::new([], &both[1..]),
            Verifier::new([], &both),
            Verifier::new(["signing-secret-1"], &both[1..]),
            Verifier::new(["signing-secret-1", ""], &both[1..]),
            Verifier::new(["a", "b"], &both[..1]),
            Verifier::new(["ab"], &both[..1]),
        ];
        for (n, one) in verifiers.iter().flatten().enumerate() {
            for (m, other) in verifiers.iter().flatten().enumerate() {
                assert_eq!(one.is_equivalent(other), n == m, "{n} {m}");
            }
        }
        assert_eq!(verifiers.iter().flatten().count(), 7);
        assert!(!format!("{verifiers:?}").contains("signing-secret"));
        assert!(Verifier::new([], &[]).is_none());
        assert!(
            Verifier::new([], &[one, SigningSecret::for_accounts(two.secret().clone(), ["other".into()])]).is_none()
        );
    }

    #[cfg(all(feature = "meta", feature = "notify", feature = "twilio"))]
    mod gateways {
        use std::collections::BTreeSet;

        use http::HeaderName;

        use super::*;
        use crate::context::Context;
        use crate::gateway::{meta, notify, twilio};
        use crate::transport::NoTransport;
        use crate::webhook::{HmacSha256, SignatureEncoding};

        async fn refused(channels: &[Arc<dyn Channel>], request: Request) -> Error {
            Route::new(channels).receive(&request).await.reply().unwrap_err()
        }

        #[tokio::test]
        async fn refusal_names_the_gateway_of_the_wrong_signature() {
            let context = Context::with_transport(NoTransport);
            let channels = || -> Vec<Arc<dyn Channel>> {
                let config = meta::Config::new("EAAG-test-token", "200000000000001").unwrap();
                let meta = meta::Meta::whatsapp_with(config.app_secret("an-app-secret").unwrap(), &context).unwrap();
                let key = "desk-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0";
                let config = notify::Config::new(key, "5484cfca-668a-4c18-afb1-5ddd0e3521b1").unwrap();
                let config = config.callback_token("a-callback-token").unwrap();
                let notify = notify::Notify::sms_with(config, &context).unwrap();
                let config = twilio::Config::new(format!("AC{:032}", 1), "an-auth-token")
                    .unwrap()
                    .sender("+447700900001")
                    .unwrap();
                let config = config.public_url("https://sms.example.gov.uk").unwrap();
                let twilio = twilio::Twilio::sms_with(config, &context).unwrap();
                vec![Arc::new(meta), Arc::new(notify), Arc::new(twilio), Arc::new(Mock::x())]
            };
            for (header, value, gateway) in [
                ("authorization", "Bearer wrong", "notify"),
                ("x-hub-signature-256", "sha256=00", "meta"),
                ("x-twilio-signature", "AAAA", "twilio"),
                ("x-mock-signature", "sha256=00", "mock"),
            ] {
                for turns in 0..4 {
                    let mut channels = channels();
                    channels.rotate_left(turns);
                    let request = http::Request::post("/").header(header, value).body("{}").unwrap();
                    let error = refused(&channels, request.into()).await;
                    assert_eq!((error.gateway(), error.webhook_status().as_u16()), (Some(gateway), 403), "{error}");
                    assert!(error.to_string().contains("signature is wrong"), "{error}");
                    assert_eq!(error.to_string().contains("public_url"), gateway == "twilio", "{error}");
                }
            }
            let nothing = refused(&channels(), http::Request::post("/").body("{}").unwrap().into()).await;
            assert_eq!((nothing.gateway(), nothing.webhook_status().as_u16()), (Some("meta"), 401));
        }

        #[tokio::test]
        async fn route_collects_what_each_channel_would_receive() {
            let context = Context::with_transport(NoTransport);
            let secret = || Secret::new("an-app-secret").unwrap().into();
            let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
            for number in 1..=5 {
                let mut config = meta::Config::new("EAAG-test-token", number.to_string()).unwrap();
                config.app_secrets = vec![secret()];
                // The last two are of another business account.
                config.business_account_id = Some(if number < 4 { "100" } else { "101" }.into());
                channels.push(Arc::new(meta::Meta::whatsapp_with(config, &context).unwrap()));
            }
            for page in 21..=22 {
                let mut config = meta::Config::for_page("EAAG-test-token", page.to_string()).unwrap();
                config.app_secrets = vec![secret()];
                channels.push(Arc::new(meta::Meta::messenger_with(config, &context).unwrap()));
            }
            let message = |number: &str| {
                let metadata = number.is_empty().then(String::new);
                let metadata = metadata.unwrap_or_else(|| format!(r#""metadata":{{"phone_number_id":"{number}"}},"#));
                let message =
                    format!(r#"{{"id":"wamid.{number}","from":"447700900123","type":"text","text":{{"body":"x"}}}}"#);
                format!(r#"{{"field":"messages","value":{{{metadata}"messages":[{message}]}}}}"#)
            };
            let entry = |account: &str, changes: &[String]| {
                format!(r#"{{"id":"{account}","changes":[{}]}}"#, changes.join(","))
            };
            let review = r#"{"field":"account_review_update","value":{"decision":"APPROVED"}}"#.to_owned();
            let whatsapp = |entries: &[String]| {
                format!(r#"{{"object":"whatsapp_business_account","entry":[{}]}}"#, entries.join(","))
            };
            let page = |page: &str| {
                let message = r#"{"sender":{"id":"9"},"recipient":{"id":"PAGE"},"message":{"mid":"m","text":"x"}}"#;
                format!(
                    r#"{{"object":"page","entry":[{{"id":"{page}","messaging":[{}]}}]}}"#,
                    message.replace("PAGE", page)
                )
            };
            for (body, at_least) in [
                (whatsapp(&[entry("100", &[message("1")])]), 1),
                (
                    whatsapp(&[
                        entry("100", &[message("3"), message("7")]),
                        entry("101", &[message("5"), message("4")]),
                    ]),
                    3,
                ),
                (whatsapp(&[entry("101", &[message("5"), message("")]), entry("102", &[message("8")])]), 1),
                (whatsapp(&[entry("101", std::slice::from_ref(&review)), entry("", &[message("2")])]), 2),
                (whatsapp(&[entry("", &[message("")])]), 0),
                (page("22"), 1),
                (page("23"), 0),
                ("[]".to_owned(), 0),
                (r#"{"object":"page","entry":[]}"#.to_owned(), 0),
            ] {
                let header = HeaderName::from_static("x-hub-signature-256");
                let scheme = HmacSha256::new(header, "sha256=", SignatureEncoding::Hex, [secret()]);
                let request =
                    http::Request::post("/").header("x-hub-signature-256", scheme.sign(body.as_bytes()).unwrap());
                let request = request.body(body.clone()).unwrap().into();
                let ids = |events: &[Event]| events.iter().map(|event| event.id().to_string()).collect::<BTreeSet<_>>();
                let mut each = BTreeSet::new();
                for channel in &channels {
                    each.extend(ids(&channel.receive(&request).await.unwrap().events));
                }
                assert!(each.len() >= at_least, "{body}");
                assert_eq!(ids(&Route::new(&channels).receive(&request).await.events), each, "{body}");
            }
        }
    }
}
