//! A line: one public identity of the council.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::directory::{LineRules, OptOutReach};
use super::outbox::NextSuppliers;
use super::record::Attempt;
use super::{account, account_id};
use crate::channel::{Channel, ChannelExt};
use crate::model::address::{Address, Medium};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::Envelope;
use crate::model::info::Info;
use crate::model::message::Message;
use crate::plan::Plan;
use crate::policy::auto_reply::{self, Language, OutOfHours};
use crate::policy::hours::Hours;

/// One public identity of the council: its channels, and the controller of its data.
///
/// Several channels of one medium are its suppliers, the preferred one first.
///
/// A council tries it with its leader, four councillors and general enquiries. Each councillor is the controller for
/// the letters of their own ward, and so has a line of their own:
///
/// ```
/// use std::time::Duration;
///
/// use civic_messaging::policy::hours::{Hours, OpeningTimes};
/// use civic_messaging::switchboard::Line;
/// use civic_messaging::Mock;
///
/// const DAYS: Duration = Duration::from_secs(24 * 3600);
/// let hours = Hours::new(&OpeningTimes::new("Mon-Fri 09:00-17:00"))?;
/// let line = |id, number| {
///     let whatsapp = Mock::whatsapp().account(number);
///     Line::new(id).channel(whatsapp).languages(["en", "cy"]).hours(hours.clone()).retention(180 * DAYS)
/// };
/// let council = |line: Line| line.controller("Exampleshire Council");
/// let lines = [
///     council(line("leader", "200000000000001")).name("The leader of the council"),
///     line("ward-north", "200000000000002").controller("Councillor A. Adams"),
///     line("ward-east", "200000000000003").controller("Councillor B. Bevan"),
///     line("ward-south", "200000000000004").controller("Councillor C. Clarke"),
///     line("ward-west", "200000000000005").controller("Councillor D. Davies").retention(90 * DAYS),
///     council(line("enquiries", "200000000000006")).name("General enquiries"),
/// ];
/// assert_eq!(lines[1].controller.as_deref(), Some("Councillor A. Adams"));
/// assert_eq!(lines[4].retention, Some(90 * DAYS));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Line {
    /// The id: 1 to 64 small letters, digits, `-` and `_`.
    pub id: String,
    /// The name for people: the id if none is set.
    pub name: String,
    /// The data controller, if set.
    pub controller: Option<String>,
    /// The languages in which it is answered, as BCP 47 tags, the preferred one first.
    pub languages: Vec<String>,
    /// The opening hours, if set.
    pub hours: Option<Hours>,
    /// The auto-reply outside the hours, if set. See [`auto_reply`](Self::auto_reply).
    pub auto_reply: Option<auto_reply::ReplyTexts>,
    /// The reach of opt-outs that arrive on the line. See [`opt_out_reach`](Self::opt_out_reach).
    pub opt_out_reach: OptOutReach,
    /// Emergencies are sent despite an opt-out. See
    /// [`emergencies_despite_opt_out`](Self::emergencies_despite_opt_out).
    pub emergencies_despite_opt_out: bool,
    /// Marketing is sent without a recorded consent. See
    /// [`marketing_without_consent`](Self::marketing_without_consent).
    pub marketing_without_consent: bool,
    /// The retention of content: unlimited if not set. See [`retention`](Self::retention).
    pub retention: Option<Duration>,
    pub(super) channels: Vec<Arc<dyn Channel>>,
    /// How the channels of a gateway are received, where that is set.
    pub(super) receive_by: BTreeMap<String, ReceiveBy>,
}

/// How the events of a gateway are received: see [`Line::receive_by`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiveBy {
    /// By webhook: the switchboard does not poll.
    Webhook,
    /// By poll. Webhooks that arrive nevertheless are accepted.
    Poll,
    /// By both. An event that arrives twice is delivered once.
    Both,
}

/// Younger messages may still be in progress.
const RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);

impl Line {
    /// Returns a line with this id: 1 to 64 small letters, digits, `-` and `_`. The store keeps the id permanently.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            controller: None,
            languages: Vec::new(),
            hours: None,
            auto_reply: None,
            opt_out_reach: OptOutReach::default(),
            emergencies_despite_opt_out: false,
            marketing_without_consent: false,
            retention: None,
            channels: Vec::new(),
            receive_by: BTreeMap::new(),
        }
    }

    /// Sets the name for people.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the data controller: the council, or a councillor. Lines without one have a common controller. An opt-out
    /// holds on every line of its controller: see [`Switchboard::opt_outs`](super::Switchboard::opt_outs).
    #[must_use]
    pub fn controller(mut self, controller: impl Into<String>) -> Self {
        self.controller = Some(controller.into());
        self
    }

    /// Sets the languages in which it is answered, as BCP 47 tags, the preferred one first: `en`, `cy`.
    #[must_use]
    pub fn languages<L: Into<String>>(mut self, languages: impl IntoIterator<Item = L>) -> Self {
        self.languages = languages.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the opening hours. The switchboard sends and receives at any hour; see [`auto_reply`](Self::auto_reply).
    #[must_use]
    pub fn hours(mut self, hours: Hours) -> Self {
        self.hours = Some(hours);
        self
    }

    /// Sets the auto-reply to residents who write outside the [`hours`](Self::hours): once per person in each closed
    /// period, with the next opening and an emergency signpost.
    ///
    /// It is stored in the transaction of the resident's message, so that a crash neither loses nor repeats it, and
    /// carries the tag `auto-reply`. It is sent in the language of the message, else of the person's last messages, else
    /// in all languages. None is sent to a STOP, to an echo or to a program; after a [`Reply`](crate::Purpose::Reply) to
    /// the person in this period; or once the line has opened. See [`OutOfHours::reply`].
    ///
    /// The line needs hours, and texts in each of its [`languages`](Self::languages).
    ///
    /// ```
    /// use civic_messaging::Mock;
    /// use civic_messaging::policy::auto_reply;
    /// use civic_messaging::policy::hours::{self, Hours};
    /// use civic_messaging::switchboard::Line;
    ///
    /// let signposts = auto_reply::ReplyTexts::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.");
    /// let hours = Hours::new(&hours::OpeningTimes::new("Mon-Fri 09:00-17:00"))?;
    /// let enquiries = Line::new("enquiries").channel(Mock::sms()).languages(["en", "cy"]).hours(hours).auto_reply(signposts);
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    #[must_use]
    pub fn auto_reply(mut self, texts: auto_reply::ReplyTexts) -> Self {
        self.auto_reply = Some(texts);
        self
    }

    /// Sets the reach of opt-outs that arrive on this line: by default the person on every medium of the lines with the
    /// same [`controller`](Self::controller).
    #[must_use]
    pub fn opt_out_reach(mut self, reach: OptOutReach) -> Self {
        self.opt_out_reach = reach;
        self
    }

    /// Sets whether messages with [`Purpose::Emergency`](crate::Purpose::Emergency) are sent despite an opt-out: not by
    /// default. Each such message has a recorded decision.
    #[must_use]
    pub fn emergencies_despite_opt_out(mut self, despite: bool) -> Self {
        self.emergencies_despite_opt_out = despite;
        self
    }

    /// Sets whether messages with [`Purpose::Marketing`](crate::Purpose::Marketing) are sent to persons without a
    /// [recorded consent](super::Switchboard::consents): not by default. For a service that keeps the consents itself.
    #[must_use]
    pub fn marketing_without_consent(mut self, without: bool) -> Self {
        self.marketing_without_consent = without;
        self
    }

    /// Sets how long content is kept: at least a day. This long after a message of ours is settled, it loses its text,
    /// its recipient and the reasons for its states. This long after an event arrives, it loses its content, its person
    /// and its files. The rest still counts: the line, states, times, attempts, key and tag of a message, and a hash of
    /// an event, so that neither is processed twice.
    ///
    /// Waiting work is never removed: messages that are not settled or that need a person, and unacknowledged events.
    /// Without a retention nothing is removed. A running worker removes content; the retention of a line that is no
    /// longer configured still applies.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Adds a channel; call it once for each of several suppliers. The channel must be bare: the switchboard retries,
    /// waits and fails over itself, because its attempts are counted and survive a crash.
    #[must_use]
    pub fn channel(mut self, channel: impl Channel) -> Self {
        self.channels.push(Arc::new(channel));
        self
    }

    /// Sets how the events of a gateway's channels are received.
    ///
    /// By default both ways are used, and an event that arrives twice is delivered once. Some gateways allow only one way
    /// ([`Capability::webhook_excludes_poll`](crate::Capability::webhook_excludes_poll)): these are received by webhook
    /// if a route has the line and the channel can verify webhooks, and by poll otherwise. Set `Webhook` in a worker whose
    /// webhooks another program receives.
    ///
    /// ```
    /// use civic_messaging::Mock;
    /// use civic_messaging::switchboard::{Line, ReceiveBy};
    ///
    /// let line = Line::new("enquiries").channel(Mock::x()).receive_by("mock", ReceiveBy::Webhook);
    /// ```
    #[must_use]
    pub fn receive_by(mut self, gateway: impl Into<String>, by: ReceiveBy) -> Self {
        self.receive_by.insert(gateway.into(), by);
        self
    }

    /// Returns the channels, the preferred supplier of each medium first.
    pub fn channels(&self) -> &[Arc<dyn Channel>] {
        &self.channels
    }

    /// Returns the plan of a message, by the channel that [`Switchboard::send`](super::Switchboard::send) tries first.
    ///
    /// It is offline, and asks no rule of the switchboard.
    ///
    /// ```
    /// use civic_messaging::switchboard::Line;
    /// use civic_messaging::{Address, Message, Mock};
    ///
    /// let line = Line::new("enquiries").channel(Mock::whatsapp()).channel(Mock::sms());
    /// let to = Address::phone("07700 900123")?;
    /// assert_eq!(line.plan(&Message::text(to, "â".repeat(71)))?.segments(), Some(2)); // by SMS
    /// let to = Address::whatsapp("07700 900123")?;
    /// assert_eq!(line.plan(&Message::text(to, "â".repeat(71)))?.segments(), Some(0));
    /// assert!(line.plan(&Message::text(Address::x("44196397")?, "Hello")).is_err());
    /// # Ok::<(), civic_messaging::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecipient`](crate::ErrorKind::InvalidRecipient) if no channel of the line reaches the recipient.
    pub fn plan(&self, message: &Message) -> Result<Plan> {
        let suppliers = self.suppliers(&message.to);
        let able = suppliers.iter().find(|channel| channel.info().check(message).is_ok());
        match able.or(suppliers.first()) {
            Some(channel) => Ok(channel.plan(message)),
            None => Err(self.unreachable()),
        }
    }

    /// Returns the channels to poll; `has_route` if a route has the line.
    pub(super) fn polled(&self, has_route: bool) -> impl Iterator<Item = &Arc<dyn Channel>> {
        self.channels.iter().filter(move |channel| {
            let (info, can) = (channel.info(), &channel.info().capability);
            let by_webhook = match self.receive_by.get(info.gateway) {
                Some(by) => *by == ReceiveBy::Webhook,
                None => can.webhook_excludes_poll && can.receive && has_route,
            };
            can.poll && !by_webhook
        })
    }

    fn check_receive_by(&self) -> Result<(), String> {
        for (gateway, by) in &self.receive_by {
            let of_gateway =
                || self.channels.iter().map(|channel| channel.info()).filter(|info| info.gateway == gateway);
            if of_gateway().next().is_none() {
                return Err(format!("sets how {gateway} is received, but has no channel of it"));
            }
            for can in of_gateway().map(|info| &info.capability) {
                if *by == ReceiveBy::Both && can.webhook_excludes_poll {
                    return Err(format!("receives {gateway} by both, but that gateway delivers by webhook or by poll"));
                }
                if *by != ReceiveBy::Webhook && !can.poll {
                    return Err(format!("receives {gateway} by poll, which it does not support"));
                }
                if *by == ReceiveBy::Both && !can.receive {
                    return Err(format!("receives {gateway} by webhook, but that channel has no webhook secret"));
                }
            }
        }
        Ok(())
    }

    /// Returns everything that is wrong with the line alone.
    pub(super) fn faults(&self) -> Vec<Error> {
        let mut faults = Vec::new();
        let mut wrong = |name: &str, rule: String| faults.push(Error::config(self.field(name), rule));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if !(1..=64).contains(&self.id.len()) || !self.id.chars().all(plain) {
            wrong("", "must have an id of 1 to 64 small letters, digits, - and _".to_owned());
        }
        if self.channels.is_empty() {
            wrong("channels", "is empty: the line needs a channel".to_owned());
        }
        if self.controller.as_ref().is_some_and(|controller| controller.trim().is_empty()) {
            wrong("controller", "is blank".to_owned());
        }
        for language in self.languages.iter().filter(|language| !is_language(language)) {
            wrong("languages", format!("has {language:?}, which is not a BCP 47 tag such as en or cy-GB"));
        }
        if self.retention.is_some_and(|retention| retention < RETENTION_MIN) {
            wrong("retention", "is less than a day".to_owned());
        }
        for (n, info) in self.channels.iter().map(|channel| channel.info()).enumerate() {
            let channel = format!("channels[{n}]");
            if let Some(layer) = info.layers.iter().find(|layer| **layer != "trace") {
                let bare = "give the bare one, and each of several by its own .channel(…)";
                wrong(&channel, format!("is a channel of {} with the layer {layer}: {bare}", info.gateway));
            }
            let same = |other: &&Arc<dyn Channel>| {
                let other = other.info();
                other.gateway == info.gateway && other.account == info.account && other.medium == info.medium
            };
            if self.channels.iter().take(n).any(|other| same(&other)) {
                wrong(&channel, format!("has an account of {} for {} twice in this line", info.gateway, info.medium));
            }
        }
        if let Err(rule) = self.check_receive_by() {
            faults.push(Error::config(self.field("receive_by"), rule));
        }
        faults.extend(self.out_of_hours().err());
        faults
    }

    /// Returns the name of a field of this line in errors.
    pub(super) fn field(&self, name: &str) -> String {
        match name {
            "" => format!("lines.{}", self.id),
            _ => format!("lines.{}.{name}", self.id),
        }
    }

    /// Returns the checked auto-reply, if there is one.
    pub(super) fn out_of_hours(&self) -> Result<Option<OutOfHours>> {
        let Some(config) = &self.auto_reply else { return Ok(None) };
        let Some(hours) = &self.hours else {
            return Err(Error::config(self.field("auto_reply"), "needs the hours of the line: set them"));
        };
        let under = |error: Error| {
            let name = error.field().map_or_else(|| "auto_reply".to_owned(), |name| format!("auto_reply.{name}"));
            error.with_field(self.field(&name))
        };
        let out_of_hours = OutOfHours::new(hours.clone(), config).map_err(under)?;
        for language in &self.languages {
            let text = match Language::from_tag(language) {
                Some(Language::English) => &config.signpost.en,
                Some(Language::Welsh) => &config.signpost.cy,
                None => &None,
            };
            if text.is_none() {
                let rule = format!("is missing: the line answers in {language}, so auto-replies need a text in it");
                return Err(Error::config(self.field(&format!("auto_reply.signpost.{language}")), rule));
            }
        }
        Ok(Some(out_of_hours))
    }

    /// Checks that a channel of the line can carry a message; fails with the reason of the first one.
    pub(super) fn check_message(&self, message: &Message) -> Result<()> {
        let mut wrong = None;
        for channel in self.suppliers(&message.to) {
            match channel.info().check(message) {
                Ok(_) => return Ok(()),
                Err(error) => drop(wrong.get_or_insert(error)),
            }
        }
        Err(wrong.unwrap_or_else(|| self.unreachable()))
    }

    fn unreachable(&self) -> Error {
        let media: Vec<_> = self.channels.iter().map(|channel| channel.info().medium.as_str()).collect();
        let has = media.join(", ");
        Error::recipient(format!("cannot be reached by any channel of the line {}: it has {has}", self.id))
    }

    /// Returns the channels that reach an address, all of one medium: SMS for a plain phone number, if the line has it.
    pub(super) fn suppliers(&self, to: &Address) -> Vec<&Arc<dyn Channel>> {
        let media = || self.channels.iter().map(|channel| &channel.info().medium).filter(|medium| to.fits(medium));
        let Some(medium) = media().find(|medium| **medium == Medium::Sms).or_else(|| media().next()) else {
            return Vec::new();
        };
        self.channels.iter().filter(|channel| channel.info().medium == *medium).collect()
    }

    /// Returns the settings on which the register of opt-outs depends.
    pub(super) fn rules(&self) -> LineRules {
        let has = |medium: &Medium| self.channels.iter().any(|channel| channel.info().medium == *medium);
        let phone = if has(&Medium::WhatsApp) && !has(&Medium::Sms) { Medium::WhatsApp } else { Medium::Sms };
        let controller = self.controller.clone().unwrap_or_default();
        let (emergencies, reach) = (self.emergencies_despite_opt_out, self.opt_out_reach);
        LineRules { controller, emergencies, consent: !self.marketing_without_consent, reach, phone }
    }

    /// Returns the account that alone may send a message next, after these attempts: `None` if several may, or if the
    /// line has no other.
    pub(super) fn only_account(&self, message: &Message, attempts: &[Attempt], now: Timestamp) -> Option<String> {
        let suppliers = self.suppliers(&message.to);
        if suppliers.len() < 2 {
            return None;
        }
        let only = NextSuppliers::new(&suppliers, message, attempts, now).only()?;
        Some(account_id(&account(suppliers.get(only)?.info())))
    }

    /// Returns `true` if the line has this account.
    pub(super) fn owns(&self, gateway: &str, account: &str, medium: &Medium) -> bool {
        self.of(gateway, account, medium).is_some()
    }

    /// Returns the channel of an event: by its account and medium, else by its account if no channel has that medium,
    /// such as RCS in front of SMS.
    pub(super) fn channel_of(&self, envelope: &Envelope) -> Option<&Arc<dyn Channel>> {
        let (gateway, account) = (envelope.gateway.as_ref(), envelope.account.as_str());
        let close = |info: &Info| info.gateway == gateway && info.account.as_str() == account;
        let other = || self.channels.iter().find(|channel| close(channel.info()));
        let exact = self.of(gateway, account, &envelope.medium);
        exact.or_else(|| other().filter(|_| matches!(envelope.medium, Medium::Other(_))))
    }

    /// Returns the channel of an account.
    fn of(&self, gateway: &str, account: &str, medium: &Medium) -> Option<&Arc<dyn Channel>> {
        let same = |info: &Info| info.gateway == gateway && info.account.as_str() == account && info.medium == *medium;
        self.channels.iter().find(|channel| same(channel.info()))
    }
}

/// Returns `true` if the text has the form of a BCP 47 tag.
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Mock;
    use crate::model::event::Raw;

    #[test]
    fn rcs_event_belongs_to_the_accounts_sms_channel() {
        let line = Line::new("bins").channel(Mock::sms()).channel(Mock::whatsapp());
        let info = Mock::sms().info().clone();
        let of = |medium: Medium, account: &str| {
            let envelope = Envelope::new(info.gateway, medium, account.into(), Timestamp::from_secs(1), Raw::default());
            line.channel_of(&envelope).map(|channel| channel.info().medium.clone())
        };
        let (rcs, account) = (Medium::other("rcs").unwrap(), info.account.as_str());
        assert_eq!(of(Medium::Sms, account), Some(Medium::Sms));
        assert_eq!(of(rcs.clone(), account), Some(Medium::Sms));
        assert_eq!(of(rcs, "another"), None);
        assert_eq!(of(Medium::X, account), None);
    }
}
