//! The auto-reply: what a resident is told, once, when nobody is there.
//!
//! It says when the office opens again, and where to turn in an emergency, in English, in Welsh, or in both. **The Welsh
//! words of this crate have not been checked by somebody who speaks it.** Whether it is due is a pure decision of
//! [`OutOfHours::reply`]; sending it and remembering that it was sent is for the service.
//!
//! ```
//! use civic_messaging::policy::auto_reply::{self, History, OutOfHours};
//! use civic_messaging::policy::hours::{self, Hours};
//! use civic_messaging::{Channel, ChannelExt, Mock};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let hours = Hours::new(&hours::Config::new("Mon-Fri 09:00-17:00"))?;
//! let out_of_hours = OutOfHours::new(hours, &auto_reply::Config::new("In an emergency call 999."))?;
//!
//! let sms = Mock::sms();
//! let (mut history, sunday) = (History::new(), "2026-11-22T21:14:00Z".parse()?);
//! let received = sms.receive(&sms.arrives("07700 900123", "A tree has fallen on Mill Lane")).await?;
//! for inbound in received.answerable() {
//!     if let Some(reply) = out_of_hours.reply(inbound, &history, sunday)? {
//!         history.auto_replied(sunday); // in a store, and before it is sent
//!         sms.reply(inbound, reply.text).await?;
//!     }
//! }
//! sms.assert_sent(
//!     "07700 900123",
//!     "Thank you for your message. We are closed now. We open again tomorrow at 9am. In an emergency call 999.",
//! );
//! # Ok::<(), civic_messaging::Error>(()) }).unwrap();
//! ```

mod words;

use serde::{Deserialize, Serialize};

pub use self::words::Language;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::event::{Event, Inbound, InboundContent, opt_out_keyword};
use crate::model::id::MessageId;
use crate::policy::hours::{Hours, Period};

/// The council's words, for [`OutOfHours::new`].
///
/// ```
/// use civic_messaging::policy::auto_reply::Config;
///
/// let config = Config::new("In an emergency call 999. For a danger on a road call 0345 678 9006.")
///     .welsh("Mewn argyfwng ffoniwch 999.");
/// assert!(config.text.en.is_none()); // this crate's own words, which fit one text message
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to turn in an emergency. English is needed; Welsh makes auto-replies in Welsh.
    pub signpost: Texts,
    /// The whole text, with the places `{opening}`, for a sentence such as "We open again on Monday at 9am.", and
    /// `{signpost}`. Without one, this crate's own.
    #[serde(default)]
    pub text: Texts,
}

/// A text in the languages in which the council has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// In Welsh.
    #[serde(default)]
    pub cy: Option<String>,
    /// In English.
    #[serde(default)]
    pub en: Option<String>,
}

impl Texts {
    fn in_language(&self, language: Language) -> Option<&str> {
        match language {
            Language::Welsh => self.cy.as_deref(),
            Language::English => self.en.as_deref(),
        }
    }
}

impl Config {
    /// The words of this crate around an emergency signpost in English.
    pub fn new(signpost: impl Into<String>) -> Self {
        Self { signpost: Texts { en: Some(signpost.into()), cy: None }, text: Texts::default() }
    }

    /// Adds the emergency signpost in Welsh, and so auto-replies in Welsh.
    #[must_use]
    pub fn welsh(mut self, signpost: impl Into<String>) -> Self {
        self.signpost.cy = Some(signpost.into());
        self
    }

    /// Puts a text in the place of this crate's own.
    #[must_use]
    pub fn text(mut self, language: Language, text: impl Into<String>) -> Self {
        match language {
            Language::Welsh => self.text.cy = Some(text.into()),
            Language::English => self.text.en = Some(text.into()),
        }
        self
    }
}

/// What was said between us and one resident, as far as an auto-reply asks.
///
/// Fill it from the store, with what happened since the office last closed; older things do no harm. On which
/// medium it was does not matter: a person who was told by text message need not be told on WhatsApp again.
#[derive(Clone, Debug, Default)]
pub struct History {
    auto_replied: Option<Timestamp>,
    replied: Option<Timestamp>,
    echoes: Vec<(Address, Timestamp)>,
    wishes: Vec<MessageId>,
    automated: bool,
    language: Option<Language>,
}

impl History {
    /// Nothing was said.
    pub fn new() -> Self {
        Self::default()
    }

    /// An auto-reply was made to this resident, at this moment. Keep this before it is sent: when the send fails or its
    /// outcome is unknown, silence is better than two.
    pub fn auto_replied(&mut self, at: Timestamp) {
        self.auto_replied = self.auto_replied.max(Some(at));
    }

    /// Somebody answered this resident at this moment: a person, or a program that knew the answer.
    pub fn replied(&mut self, at: Timestamp) {
        self.replied = self.replied.max(Some(at));
    }

    /// What a gateway told us of: the echo of an answer that was given elsewhere counts as an answer, and an
    /// [`OptOut`](crate::event::OptOut) makes the message that it came of one that nobody answers. Other events change nothing,
    /// and so do those of other residents.
    pub fn heard(&mut self, event: &Event) {
        match event {
            Event::Inbound(echo) if echo.echo => {
                let to = echo.envelope.conversation.as_ref().or(echo.to.as_ref());
                self.echoes.extend(to.map(|to| (to.clone(), echo.envelope.at)));
            }
            Event::OptOut(wish) => self.wishes.extend(wish.inbound.clone()),
            _ => {}
        }
    }

    /// The message that is to be answered was written by a program, as far as the service can tell: no medium says so
    /// itself. Two programs that answer each other never end.
    pub fn automated(&mut self) {
        self.automated = true;
    }

    /// The language in which this resident writes, or wants to be written to. Where it is not known, and there are words
    /// in Welsh, both are sent together.
    pub fn language(&mut self, language: Language) {
        self.language = Some(language);
    }
}

/// An auto-reply that is due.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoReply {
    /// What to say: no personal data, and no more than the council's own words.
    pub text: String,
    /// Its language; none when both are in it.
    pub language: Option<Language>,
    /// The time without an opening that it is for. With the resident it is the key of "once": keep both as unique, so
    /// that two programs that decide at the same moment do not both send.
    pub period: Period,
}

/// Decides about auto-replies, and words them.
#[derive(Clone, Debug)]
pub struct OutOfHours {
    hours: Hours,
    /// In the order in which they are sent together.
    texts: Vec<(Language, String)>,
}

impl OutOfHours {
    /// Checks the words.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule: no signpost in English, one that is
    /// empty, a text in Welsh without a signpost in Welsh, a text that does not have each of `{opening}` and
    /// `{signpost}` once, or has another place in braces.
    pub fn new(hours: Hours, config: &Config) -> Result<Self> {
        let mut texts = Vec::new();
        for language in [Language::Welsh, Language::English] {
            let field = |name: &str| format!("{name}.{}", language.tag());
            let text = config.text.in_language(language);
            let Some(signpost) = config.signpost.in_language(language) else {
                match (language, text) {
                    (Language::Welsh, None) => continue,
                    _ => return Err(Error::config(field("signpost"), "is missing: say where to turn in an emergency")),
                }
            };
            if signpost.trim().is_empty() {
                return Err(Error::config(field("signpost"), "is empty: say where to turn in an emergency"));
            }
            if signpost.contains(['{', '}']) {
                return Err(Error::config(field("signpost"), "has a brace, but no place for anything"));
            }
            let text = text.unwrap_or(language.words().text);
            let mut rest = text.to_owned();
            for place in [OPENING, SIGNPOST] {
                if text.matches(place).count() != 1 {
                    return Err(Error::config(field("text"), format!("has to have the place {place}, and once")));
                }
                rest = rest.replace(place, "");
            }
            if rest.contains(['{', '}']) {
                let rule = format!("has a brace that belongs to no place: {OPENING} and {SIGNPOST} are all there are");
                return Err(Error::config(field("text"), rule));
            }
            texts.push((language, text.replace(SIGNPOST, signpost)));
        }
        Ok(Self { hours, texts })
    }

    /// The hours that it goes by.
    pub fn hours(&self) -> &Hours {
        &self.hours
    }

    /// The auto-reply that is due to this message now, if one is.
    ///
    /// `now` is when the decision is made, and not when the message was written: a message of Sunday that a gateway
    /// brings on Monday morning is not told that the office is closed. There is none
    ///
    /// - when somebody is there;
    /// - to an echo of ours, to a STOP or START (of which an [`OptOut`](crate::event::OptOut) is derived, or one that the history
    ///   [heard](History::heard)), and to what is no message: a reaction, a message taken back, a notice of the medium;
    /// - to a program: as the history [says](History::automated), or as the address says that has no person behind it,
    ///   which a sender's name and a short code are;
    /// - when this resident had one in this same time without an opening;
    /// - when we said something else to this resident in it, or after the message.
    ///
    /// # Errors
    /// Those of [`Hours`]: when it is not known whether the office is open now, or when it opens again.
    pub fn reply(&self, inbound: &Inbound, history: &History, now: Timestamp) -> Result<Option<AutoReply>> {
        if inbound.echo || !is_message(&inbound.content) || is_program(inbound, history) || is_wish(inbound, history) {
            return Ok(None);
        }
        let Some(period) = self.hours.closed_period(now)? else {
            return Ok(None);
        };
        let since = period.from.min(inbound.envelope.at);
        let echoed = |(to, at): &(Address, Timestamp)| *at >= since && to.same_person(inbound.reply_address());
        if history.auto_replied.is_some_and(|at| at >= period.from)
            || history.replied.is_some_and(|at| at >= since)
            || history.echoes.iter().any(echoed)
        {
            return Ok(None);
        }
        self.word(period, history.language, now).map(Some)
    }

    fn word(&self, period: Period, language: Option<Language>, now: Timestamp) -> Result<AutoReply> {
        let today = self.hours.local(now)?.0;
        let opens = self.hours.local(period.until)?;
        // Where a day between is closed that would be open else, the name of the day alone misleads.
        let mut dated = false;
        for days in 0..opens.0.days_since(today) {
            dated |= self.hours.closed_for(today.plus_days(days))?.is_some();
        }
        let known = language.filter(|known| self.texts.iter().any(|(language, _)| language == known));
        // Somebody who wants Welsh from a council that has none gets English; where nothing is known, all there is.
        let chosen = self.texts.iter().filter(|(language, _)| known.is_none_or(|known| known == *language));
        let worded = chosen
            .map(|(language, text)| (*language, text.replace(OPENING, &language.words().opening(today, opens, dated))));
        let worded: Vec<_> = worded.collect();
        let language = match worded.as_slice() {
            [(language, _)] => Some(*language),
            _ => None,
        };
        let text = worded.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n\n");
        Ok(AutoReply { text, language, period })
    }
}

const OPENING: &str = "{opening}";
const SIGNPOST: &str = "{signpost}";

/// Whether a person said something that somebody should read.
fn is_message(content: &InboundContent) -> bool {
    !matches!(content, InboundContent::Reaction { .. } | InboundContent::System(_) | InboundContent::Withdrawn(_))
}

fn is_program(inbound: &Inbound, history: &History) -> bool {
    history.automated || matches!(inbound.from, Address::SenderName(_) | Address::ShortCode(_))
}

/// Returns `true` for a STOP or START, by the rule that events go by, or because the gateway said so.
fn is_wish(inbound: &Inbound, history: &History) -> bool {
    opt_out_keyword(inbound).is_some() || history.wishes.contains(&inbound.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::sms::count;
    use crate::model::address::Medium;
    use crate::model::event::{Envelope, OptOut, OptOutScope, Raw, Selection};
    use crate::model::id::AccountId;
    use crate::policy::hours;

    const SUNDAY: &str = "2026-11-22T21:14:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn office() -> OutOfHours {
        let config = hours::Config::new("Mon-Fri 09:00-17:00").bank_holidays(hours::Division::EnglandAndWales);
        let words = Config::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.");
        OutOfHours::new(Hours::new(&config).unwrap(), &words).unwrap()
    }

    fn inbound(content: InboundContent) -> Inbound {
        let envelope = Envelope::new("test", Medium::Sms, AccountId::new("desk"), at(SUNDAY), Raw::default());
        Inbound::new(envelope, "m1", Address::phone("07700 900123").unwrap(), content)
    }

    fn text(text: &str) -> Inbound {
        inbound(InboundContent::Text(text.into()))
    }

    fn english() -> History {
        let mut history = History::new();
        history.language(Language::English);
        history
    }

    fn said(history: &History, now: &str) -> Option<String> {
        office().reply(&text("A tree has fallen"), history, at(now)).unwrap().map(|reply| reply.text)
    }

    #[test]
    fn it_is_said_once_in_a_time_without_an_opening_and_again_in_the_next() {
        let mut history = english();
        assert!(said(&history, SUNDAY).is_some());
        history.auto_replied(at(SUNDAY));
        for later in [SUNDAY, "2026-11-22T21:15:00Z", "2026-11-23T08:59:59.999Z"] {
            assert_eq!(said(&history, later), None, "{later}");
        }
        assert_eq!(said(&history, "2026-11-23T09:00:00Z"), None);
        assert!(said(&history, "2026-11-23T17:00:00Z").is_some());
        // One of the last closed time says nothing of this one.
        let mut friday = english();
        friday.auto_replied(at("2026-11-20T08:00:00Z"));
        assert!(said(&friday, SUNDAY).is_some());
    }

    #[test]
    fn it_is_never_said_over_an_answer() {
        for (replied, due) in [
            ("2026-11-22T21:14:05Z", false), // a program answered
            ("2026-11-22T20:00:00Z", false), // somebody works on Sunday, and talks with the resident
            ("2026-11-20T17:00:00Z", false),
            ("2026-11-20T16:59:59Z", true), // the talk of Friday ended with Friday
        ] {
            let mut history = english();
            history.replied(at(replied));
            assert_eq!(said(&history, SUNDAY).is_some(), due, "{replied}");
        }
        // The message came before closing time and was answered before it: nothing is left to be said at 17:01.
        let mut history = english();
        history.replied(at("2026-11-20T16:59:00Z"));
        let mut late = text("Hello");
        late.envelope.at = at("2026-11-20T16:58:00Z");
        assert_eq!(office().reply(&late, &history, at("2026-11-20T17:01:00Z")).unwrap(), None);
        late.envelope.at = at("2026-11-20T16:59:30Z");
        assert!(office().reply(&late, &history, at("2026-11-20T17:01:00Z")).unwrap().is_some());
    }

    #[test]
    fn an_answer_that_was_given_elsewhere_comes_as_an_echo_and_counts() {
        let mut echo = text("I am on my way");
        echo.echo = true;
        echo.to = Some(Address::phone("07700 900123").unwrap());
        let mut history = english();
        history.heard(&echo.clone().into());
        assert_eq!(said(&history, SUNDAY), None);
        echo.to = Some(Address::phone("07700 900999").unwrap());
        let mut history = english();
        history.heard(&echo.into());
        assert!(said(&history, SUNDAY).is_some(), "it was for somebody else");
    }

    #[test]
    fn what_is_nobodys_question_gets_none() {
        let mut echo = text("Hello");
        echo.echo = true;
        let mut bank = text("Your code is 123456");
        bank.from = Address::SenderName(crate::model::address::SenderName::new("MYBANK").unwrap());
        let mut short = text("You have won");
        short.from = Address::ShortCode(crate::model::address::ShortCode::new("60123").unwrap());
        let chosen =
            |id: &str, title: &str| InboundContent::Selection(Selection { id: id.into(), title: title.into() });
        for (what, inbound) in [
            ("echo", echo),
            ("a sender's name", bank),
            ("a short code", short),
            ("stop", text(" Stop. ")),
            ("stopio", text("STOPIO os gwelwch yn dda")),
            ("start", text("START")),
            ("a button by its words", inbound(chosen("1", "Unsubscribe"))),
            ("a caption", inbound(InboundContent::Media { text: Some("STOP".into()), media: Vec::new() })),
            ("an edit", inbound(InboundContent::Edited { id: "m0".into(), content: Box::new(text("STOP").content) })),
            ("a reaction", inbound(InboundContent::Reaction { to: "m0".into(), emoji: Some("👍".into()) })),
            ("taken back", inbound(InboundContent::Withdrawn("m0".into()))),
            ("the medium", inbound(InboundContent::System("changed their number".into()))),
        ] {
            assert_eq!(office().reply(&inbound, &english(), at(SUNDAY)).unwrap(), None, "{what}");
        }
        let mut program = english();
        program.automated();
        assert_eq!(said(&program, SUNDAY), None);
        for (what, inbound) in [
            ("a picture", inbound(InboundContent::Media { text: None, media: Vec::new() })),
            ("a question with stop in it", text("Please stop parking outside the school")),
            ("help", text("HELP")),
            ("a button", inbound(chosen("bins", "My bins"))),
            ("a button that cancels", inbound(chosen("cancel", "Cancel"))),
            ("a button whose id says stop", inbound(chosen("stop", "No, thank you"))),
            ("a button that starts", inbound(chosen("1", "Start"))),
            ("a word that only some gateways act on", text("End")),
        ] {
            assert!(office().reply(&inbound, &english(), at(SUNDAY)).unwrap().is_some(), "{what}");
        }
    }

    #[test]
    fn a_stop_in_words_that_only_the_gateway_knows_comes_as_an_opt_out() {
        let message = text("no more of this");
        let mut wish = OptOut::new(message.envelope.clone(), message.from.clone(), OptOutScope::All);
        wish.inbound = Some(message.id.clone());
        let mut history = english();
        history.heard(&wish.into());
        assert_eq!(office().reply(&message, &history, at(SUNDAY)).unwrap(), None);
    }

    #[test]
    fn the_next_opening_is_named_as_people_name_it() {
        for (now, opening) in [
            (SUNDAY, "We open again tomorrow at 9am."),
            ("2026-11-20T17:00:00Z", "We open again on Monday at 9am."),
            ("2026-11-23T07:00:00Z", "We open again today at 9am."),
            // Monday 25 May 2026 is a bank holiday: "Tuesday" on Saturday could be any.
            ("2026-05-23T12:00:00Z", "We open again on Tuesday 26 May at 9am."),
            ("2026-05-24T12:00:00Z", "We open again on Tuesday 26 May at 9am."),
            ("2026-05-25T12:00:00Z", "We open again tomorrow at 9am."),
            ("2025-05-24T12:00:00Z", "We open again on Tuesday 27 May at 9am."),
            // 23:30 by the clock of Greenwich is tomorrow by the clock on the wall.
            ("2026-06-07T22:59:00Z", "We open again tomorrow at 9am."),
            ("2026-06-07T23:30:00Z", "We open again today at 9am."),
        ] {
            let said = said(&english(), now).unwrap();
            assert!(said.contains(opening), "{now}: {said}");
        }
    }

    #[test]
    fn the_language_is_the_residents_and_both_where_it_is_not_known() {
        let reply = |language| {
            let mut history = History::new();
            if let Some(language) = language {
                history.language(language);
            }
            office().reply(&text("Helo"), &history, at(SUNDAY)).unwrap().unwrap()
        };
        let welsh =
            "Diolch am eich neges. Rydym ar gau nawr. Byddwn ar agor eto yfory am 9yb. Mewn argyfwng ffoniwch 999.";
        assert_eq!(reply(Some(Language::Welsh)).text, welsh);
        let both = reply(None);
        assert_eq!((both.text.split("\n\n").count(), both.language), (2, None));
        assert!(both.text.starts_with(welsh));
        // A council without Welsh words answers in English.
        let hours = office().hours().clone();
        let english_only = OutOfHours::new(hours, &Config::new("Call 999.")).unwrap();
        let mut history = History::new();
        history.language(Language::Welsh);
        let reply = english_only.reply(&text("Helo"), &history, at(SUNDAY)).unwrap().unwrap();
        assert_eq!(reply.language, Some(Language::English));
    }

    #[test]
    fn this_crates_own_words_fit_one_text_message_whatever_the_day() {
        let signposts = [
            (Language::English, "In an emergency call 999. Urgent repairs: 0345 678 9000."),
            (Language::Welsh, "Mewn argyfwng ffoniwch 999. Am waith brys 0345 678 9000."),
        ];
        for (language, signpost) in signposts {
            let mut longest = 0;
            for days in 0..3 * 365 {
                let today = hours::Date::new(2026, 1, 1).unwrap().plus_days(days);
                for (time, dated) in [("09:00", true), ("10:30", true), ("12:00", true), ("09:00", false)] {
                    let opens = (today.plus_days(4), time.parse().unwrap());
                    let words = language.words();
                    let opening = words.opening(today, opens, dated);
                    let count = count(&words.text.replace(OPENING, &opening).replace(SIGNPOST, signpost));
                    assert_eq!(count.segments(), 1, "{opening}");
                    longest = longest.max(count.units());
                }
            }
            assert!(longest > 140, "the signposts here are as long as they can be: {longest}");
        }
    }

    #[test]
    fn words_that_say_too_little_are_refused_before_anybody_writes() {
        let with = |text: &str| Config::new("Call 999.").text(Language::English, text);
        for (config, field, words) in [
            (Config::default(), "signpost.en", "is missing"),
            (Config::new("  "), "signpost.en", "is empty"),
            (Config::new("Call {number}"), "signpost.en", "a brace"),
            (Config::new("Call 999.").welsh(""), "signpost.cy", "is empty"),
            (Config::new("Call 999.").text(Language::Welsh, "{opening} {signpost}"), "signpost.cy", "is missing"),
            (with("We are closed. {signpost}"), "text.en", "{opening}"),
            (with("{opening}"), "text.en", "{signpost}"),
            (with("{opening} {opening} {signpost}"), "text.en", "{opening}, and once"),
            (with("{opening} {signpost} {name}"), "text.en", "belongs to no place"),
            (with("{opening} {signpost} {"), "text.en", "belongs to no place"),
        ] {
            let error = OutOfHours::new(office().hours().clone(), &config).unwrap_err();
            assert_eq!((error.kind(), error.field()), (crate::ErrorKind::Config, Some(field)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(serde_json::from_str::<Config>(r#"{"signpost":{"en":"Call 999."},"colour":1}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"signpost":{"fr":"Appelez le 112."}}"#).is_err());
    }

    #[test]
    fn where_the_calendar_ends_nothing_is_said_of_the_next_opening() {
        let error = office().reply(&text("Hello"), &english(), at("2028-12-30T12:00:00Z")).unwrap_err();
        assert_eq!(error.field(), Some("bank_holidays"));
    }
}
