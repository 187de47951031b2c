//! Auto-reply: one reply to a resident while the office is closed.
//!
//! The text contains the next opening and an emergency signpost, in English, in Welsh, or in both. **The Welsh text of
//! this crate has not been checked by a Welsh speaker.** [`OutOfHours::reply`] is a pure decision. A switchboard acts on
//! it by itself for each line with an auto-reply; elsewhere, sending the reply and recording it is for the service.
//!
//! ```
//! use civic_messaging::policy::auto_reply::{self, History, OutOfHours};
//! use civic_messaging::policy::hours::{self, Hours};
//! use civic_messaging::{Channel, ChannelExt, Mock};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let hours = Hours::new(&hours::OpeningTimes::new("Mon-Fri 09:00-17:00"))?;
//! let out_of_hours = OutOfHours::new(hours, &auto_reply::ReplyTexts::new("In an emergency call 999."))?;
//!
//! let sms = Mock::sms();
//! let (mut history, sunday) = (History::new(), "2026-11-22T21:14:00Z".parse()?);
//! let received = sms.receive(&sms.arrives("07700 900123", "A tree has fallen on Mill Lane")).await?;
//! for inbound in received.answerable() {
//!     if let Some(reply) = out_of_hours.reply(inbound, &history, sunday)? {
//!         history.auto_replied(sunday); // store it before the send
//!         sms.reply(inbound, reply.text).await?;
//!     }
//! }
//! sms.assert_sent(
//!     "07700 900123",
//!     "Thank you for your message. We are closed now. We open again tomorrow at 9am. In an emergency call 999.",
//! );
//! # Ok::<(), civic_messaging::Error>(()) }).unwrap();
//! ```

mod language;
mod reply_texts;
mod words;

pub use self::reply_texts::{Notice, ReplyTexts, Texts};
pub use self::words::Language;
use crate::model::address::Address;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::event::{Event, Inbound, InboundContent, opt_out_keyword};
use crate::model::id::MessageId;
use crate::policy::hours::{Date, Hours, Period, Time};

/// The recent contact with one resident, as far as auto-replies need it.
///
/// Fill it from the store with everything since the office last closed, on any medium: a person who got the auto-reply by
/// SMS does not get it on WhatsApp again. Older entries do no harm.
#[derive(Clone, Debug, Default)]
pub struct History {
    auto_replied: Option<Timestamp>,
    replied: Option<Timestamp>,
    echoes: Vec<(Address, Timestamp)>,
    opt_outs: Vec<MessageId>,
    automated: bool,
    language: Option<Language>,
}

impl History {
    /// Creates an empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records an auto-reply to this resident. Store it before the send: if the send fails or its outcome is unknown, no
    /// reply is better than two.
    pub fn auto_replied(&mut self, at: Timestamp) {
        self.auto_replied = self.auto_replied.max(Some(at));
    }

    /// Records another reply to this resident, by a person or by a program that had the answer.
    pub fn replied(&mut self, at: Timestamp) {
        self.replied = self.replied.max(Some(at));
    }

    /// Records an event: an echo of a reply sent elsewhere counts as a reply, and the inbound message of an
    /// [`OptOut`](crate::event::OptOut) gets no auto-reply. Other events, and those of other residents, have no effect.
    pub fn heard(&mut self, event: &Event) {
        match event {
            Event::Inbound(echo) if echo.echo => {
                let to = echo.envelope.conversation.as_ref().or(echo.to.as_ref());
                self.echoes.extend(to.map(|to| (to.clone(), echo.envelope.at)));
            }
            Event::OptOut(opt_out) => self.opt_outs.extend(opt_out.inbound.clone()),
            _ => {}
        }
    }

    /// Marks the inbound message as written by a program, which prevents a loop of automatic replies. No medium reports
    /// this, and [`OutOfHours::reply`] detects only the most common first words.
    pub fn automated(&mut self) {
        self.automated = true;
    }

    /// Sets the resident's recorded language, for a message whose own language is not clear. Without either, the reply
    /// contains every configured language.
    pub fn language(&mut self, language: Language) {
        self.language = Some(language);
    }
}

/// An auto-reply that is due.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoReply {
    /// The text, without personal data.
    pub text: String,
    /// The language; `None` if the text contains both.
    pub language: Option<Language>,
    /// The closed period, or the days of the notice. The resident and the period form a unique key: enforce it in the
    /// store, so that two concurrent programs do not both reply.
    pub period: Period,
}

/// Decides if an auto-reply is due, and composes its text.
#[derive(Clone, Debug)]
pub struct OutOfHours {
    hours: Hours,
    /// In the order in which they are joined.
    texts: Vec<Text>,
    notices: Vec<(Date, Date)>,
}

/// The next opening, as seen from today.
struct NextOpening {
    today: Date,
    date: Date,
    time: Time,
    /// An exceptional closure lies in between, so that the weekday alone is ambiguous.
    dated: bool,
}

/// The texts of one language.
#[derive(Clone, Debug)]
struct Text {
    language: Language,
    /// Of an out-of-hours reply, with the placeholder `{opening}`.
    closed: String,
    signpost: String,
    notices: Vec<String>,
}

impl Text {
    /// Returns the reply, with the notice in force, if any: `opening` while the office is closed.
    fn compose(&self, opening: Option<&str>, notice: Option<usize>) -> String {
        let rest = match opening {
            Some(opening) => self.closed.replace(OPENING, opening),
            None => self.signpost.clone(),
        };
        match notice.and_then(|n| self.notices.get(n)) {
            Some(notice) => format!("{notice} {rest}"),
            None => rest,
        }
    }
}

impl OutOfHours {
    /// Validates the texts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule: no English signpost, an empty
    /// signpost, a Welsh text without a Welsh signpost, a text without exactly one `{opening}` and one `{signpost}`, or
    /// with another placeholder; a notice without a text in a language of the signpost, that ends before it begins, or
    /// that overlaps another.
    pub fn new(hours: Hours, config: &ReplyTexts) -> Result<Self> {
        let notices = config.check_notices()?;
        let mut texts = Vec::new();
        for language in [Language::Welsh, Language::English] {
            let Some((signpost, closed)) = config.check_texts(language)? else { continue };
            let notice = |notice: &Notice| notice.text.in_language(language).unwrap_or_default().to_owned();
            let (closed, signpost) = (closed.replace(SIGNPOST, signpost), signpost.to_owned());
            texts.push(Text { language, closed, signpost, notices: config.notices.iter().map(notice).collect() });
        }
        Ok(Self { hours, texts, notices })
    }

    /// Returns the opening hours.
    pub fn hours(&self) -> &Hours {
        &self.hours
    }

    /// Returns the auto-reply that is due to this message, if any.
    ///
    /// `now` is the time of the decision, and not of the message: a message of Sunday that a gateway delivers on Monday
    /// morning gets no reply. While a [`Notice`] is in force, out-of-hours replies begin with it, and a resident who
    /// writes in opening hours gets it with the signpost. No reply is due
    ///
    /// - while the office is open, without a notice;
    /// - to an echo, to a STOP or START (by its keyword, or by an [`OptOut`](crate::event::OptOut) in the
    ///   [history](History::heard)), and to anything that is not a message: a reaction, a withdrawn message, a system
    ///   notice;
    /// - to a program: by the [history](History::automated), by the kind of its address (sender name, short code), or by
    ///   a text that begins as automatic replies do ("Automatic reply:", "Out of office", or our own text);
    /// - if this resident already got one in this closed period, or since the notice began;
    /// - if this resident got another reply in that time, or after the message.
    ///
    /// # Errors
    /// The errors of [`Hours`]: the current or the next opening is not known.
    pub fn reply(&self, inbound: &Inbound, history: &History, now: Timestamp) -> Result<Option<AutoReply>> {
        if inbound.echo
            || !is_message(&inbound.content)
            || is_opt_out(inbound, history)
            || history.automated
            || self.is_from_program(inbound)
        {
            return Ok(None);
        }
        let today = self.hours.local(now)?.0;
        let notice = self.notices.iter().position(|(from, until)| (*from..=*until).contains(&today));
        let closed = self.hours.closed_period(now)?;
        let period = match (closed, notice.and_then(|n| self.notices.get(n))) {
            (Some(period), _) => period,
            (None, Some((from, until))) => {
                Period { from: self.hours.midnight(*from)?, until: self.hours.midnight(until.plus_days(1))? }
            }
            (None, None) => return Ok(None),
        };
        let since = period.from.min(inbound.envelope.at);
        let echoed = |(to, at): &(Address, Timestamp)| *at >= since && to.same_person(inbound.reply_address());
        if history.auto_replied.is_some_and(|at| at >= period.from)
            || history.replied.is_some_and(|at| at >= since)
            || history.echoes.iter().any(echoed)
        {
            return Ok(None);
        }
        let language = Language::detect(inbound.text().unwrap_or_default()).or(history.language);
        let opening = closed.map(|closed| self.opening(today, closed.until)).transpose()?;
        let (text, language) = self.compose(opening.as_ref(), notice, language);
        Ok(Some(AutoReply { text, language, period }))
    }

    /// Describes the next opening.
    fn opening(&self, today: Date, opens: Timestamp) -> Result<NextOpening> {
        let (date, time) = self.hours.local(opens)?;
        let mut dated = false;
        for days in 0..date.days_since(today) {
            dated |= self.hours.closed_for(today.plus_days(days))?.is_some();
        }
        Ok(NextOpening { today, date, time, dated })
    }

    fn compose(
        &self,
        opening: Option<&NextOpening>,
        notice: Option<usize>,
        language: Option<Language>,
    ) -> (String, Option<Language>) {
        let known = language.filter(|known| self.texts.iter().any(|text| text.language == *known));
        // Without a text in the resident's language, and without a known language, send all texts.
        let chosen: Vec<_> =
            self.texts.iter().filter(|text| known.is_none_or(|known| known == text.language)).collect();
        let compose = |text: &&Text| {
            let words = text.language.words();
            let opening = opening.map(|at| words.opening(at.today, (at.date, at.time), at.dated));
            text.compose(opening.as_deref(), notice)
        };
        let language = match chosen.as_slice() {
            [only] => Some(only.language),
            _ => None,
        };
        (chosen.iter().map(compose).collect::<Vec<_>>().join("\n\n"), language)
    }

    /// Returns `true` for a message written by a program, as far as its sender or its first words show.
    fn is_from_program(&self, inbound: &Inbound) -> bool {
        let text = inbound.text().unwrap_or_default().trim_start();
        let ours = |text_of: &Text| {
            let before = text_of.closed.split(OPENING).next().unwrap_or_default().trim();
            !before.is_empty() && text.starts_with(before)
        };
        matches!(inbound.from, Address::SenderName(_) | Address::ShortCode(_))
            || language::is_automatic(text)
            || self.texts.iter().any(ours)
    }
}

const OPENING: &str = "{opening}";
const SIGNPOST: &str = "{signpost}";

/// Returns `true` for content that a person wrote to be read.
fn is_message(content: &InboundContent) -> bool {
    !matches!(content, InboundContent::Reaction { .. } | InboundContent::System(_) | InboundContent::Withdrawn(_))
}

/// Returns `true` for a STOP or START, by its keyword or by the gateway's event.
fn is_opt_out(inbound: &Inbound, history: &History) -> bool {
    opt_out_keyword(inbound).is_some() || history.opt_outs.contains(&inbound.id)
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
        let config = hours::OpeningTimes::new("Mon-Fri 09:00-17:00").bank_holidays(hours::Division::EnglandAndWales);
        let words = ReplyTexts::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.");
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

    fn reply_text(history: &History, now: &str) -> Option<String> {
        office().reply(&text("A tree has fallen"), history, at(now)).unwrap().map(|reply| reply.text)
    }

    #[test]
    fn reply_is_sent_once_per_closed_period() {
        let mut history = english();
        assert!(reply_text(&history, SUNDAY).is_some());
        history.auto_replied(at(SUNDAY));
        for later in [SUNDAY, "2026-11-22T21:15:00Z", "2026-11-23T08:59:59.999Z"] {
            assert_eq!(reply_text(&history, later), None, "{later}");
        }
        assert_eq!(reply_text(&history, "2026-11-23T09:00:00Z"), None);
        assert!(reply_text(&history, "2026-11-23T17:00:00Z").is_some());
        // A reply of an earlier closed period does not count.
        let mut friday = english();
        friday.auto_replied(at("2026-11-20T08:00:00Z"));
        assert!(reply_text(&friday, SUNDAY).is_some());
    }

    #[test]
    fn no_reply_is_due_after_another_reply() {
        for (replied, due) in [
            ("2026-11-22T21:14:05Z", false), // a program answered
            ("2026-11-22T20:00:00Z", false), // an officer replied on Sunday
            ("2026-11-20T17:00:00Z", false),
            ("2026-11-20T16:59:59Z", true), // replied before Friday's closing
        ] {
            let mut history = english();
            history.replied(at(replied));
            assert_eq!(reply_text(&history, SUNDAY).is_some(), due, "{replied}");
        }
        // The message arrived and was answered before closing time: no reply is due at 17:01.
        let mut history = english();
        history.replied(at("2026-11-20T16:59:00Z"));
        let mut late = text("Hello");
        late.envelope.at = at("2026-11-20T16:58:00Z");
        assert_eq!(office().reply(&late, &history, at("2026-11-20T17:01:00Z")).unwrap(), None);
        late.envelope.at = at("2026-11-20T16:59:30Z");
        assert!(office().reply(&late, &history, at("2026-11-20T17:01:00Z")).unwrap().is_some());
    }

    #[test]
    fn echo_of_a_reply_sent_elsewhere_counts_as_a_reply() {
        let mut echo = text("I am on my way");
        echo.echo = true;
        echo.to = Some(Address::phone("07700 900123").unwrap());
        let mut history = english();
        history.heard(&echo.clone().into());
        assert_eq!(reply_text(&history, SUNDAY), None);
        echo.to = Some(Address::phone("07700 900999").unwrap());
        let mut history = english();
        history.heard(&echo.into());
        assert!(reply_text(&history, SUNDAY).is_some(), "echo to another resident");
    }

    #[test]
    fn echoes_programs_opt_outs_and_notices_get_no_reply() {
        let mut echo = text("Hello");
        echo.echo = true;
        let mut bank = text("Your code is 123456");
        bank.from = Address::SenderName(crate::model::address::SenderName::new("MYBANK").unwrap());
        let mut short = text("You have won");
        short.from = Address::ShortCode(crate::model::address::ShortCode::new("60123").unwrap());
        let chosen =
            |id: &str, title: &str| InboundContent::Selection(Selection { id: id.into(), title: title.into() });
        for (case, inbound) in [
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
            assert_eq!(office().reply(&inbound, &english(), at(SUNDAY)).unwrap(), None, "{case}");
        }
        let mut program = english();
        program.automated();
        assert_eq!(reply_text(&program, SUNDAY), None);
        for (case, inbound) in [
            ("a picture", inbound(InboundContent::Media { text: None, media: Vec::new() })),
            ("a question with stop in it", text("Please stop parking outside the school")),
            ("help", text("HELP")),
            ("a button", inbound(chosen("bins", "My bins"))),
            ("a button that cancels", inbound(chosen("cancel", "Cancel"))),
            ("a button whose id says stop", inbound(chosen("stop", "No, thank you"))),
            ("a button that starts", inbound(chosen("1", "Start"))),
            ("a word that only some gateways act on", text("End")),
        ] {
            assert!(office().reply(&inbound, &english(), at(SUNDAY)).unwrap().is_some(), "{case}");
        }
    }

    #[test]
    fn opt_out_event_of_the_gateway_suppresses_the_reply() {
        let message = text("no more of this");
        let mut opt_out = OptOut::new(message.envelope.clone(), message.from.clone(), OptOutScope::All);
        opt_out.inbound = Some(message.id.clone());
        let mut history = english();
        history.heard(&opt_out.into());
        assert_eq!(office().reply(&message, &history, at(SUNDAY)).unwrap(), None);
    }

    #[test]
    fn next_opening_is_described_relative_to_today() {
        for (now, opening) in [
            (SUNDAY, "We open again tomorrow at 9am."),
            ("2026-11-20T17:00:00Z", "We open again on Monday at 9am."),
            ("2026-11-23T07:00:00Z", "We open again today at 9am."),
            // Monday 25 May 2026 is a bank holiday: "Tuesday" on Saturday could be any.
            ("2026-05-23T12:00:00Z", "We open again on Tuesday 26 May at 9am."),
            ("2026-05-24T12:00:00Z", "We open again on Tuesday 26 May at 9am."),
            ("2026-05-25T12:00:00Z", "We open again tomorrow at 9am."),
            ("2025-05-24T12:00:00Z", "We open again on Tuesday 27 May at 9am."),
            // 23:30 UTC is the next day in local time.
            ("2026-06-07T22:59:00Z", "We open again tomorrow at 9am."),
            ("2026-06-07T23:30:00Z", "We open again today at 9am."),
        ] {
            let reply = reply_text(&english(), now).unwrap();
            assert!(reply.contains(opening), "{now}: {reply}");
        }
    }

    #[test]
    fn language_is_the_residents_or_both_if_unknown() {
        let reply = |language| {
            let mut history = History::new();
            if let Some(language) = language {
                history.language(language);
            }
            office().reply(&text("SY2 6ND"), &history, at(SUNDAY)).unwrap().unwrap()
        };
        let welsh =
            "Diolch am eich neges. Rydym ar gau nawr. Byddwn ar agor eto yfory am 9yb. Mewn argyfwng ffoniwch 999.";
        assert_eq!(reply(Some(Language::Welsh)).text, welsh);
        let both = reply(None);
        assert_eq!((both.text.split("\n\n").count(), both.language), (2, None));
        assert!(both.text.starts_with(welsh));
        // A council without a Welsh text replies in English.
        let hours = office().hours().clone();
        let english_only = OutOfHours::new(hours, &ReplyTexts::new("Call 999.")).unwrap();
        let mut history = History::new();
        history.language(Language::Welsh);
        let reply = english_only.reply(&text("Helo"), &history, at(SUNDAY)).unwrap().unwrap();
        assert_eq!(reply.language, Some(Language::English));
    }

    #[test]
    fn language_of_the_message_precedes_the_recorded_one() {
        let reply = |words: &str, language| {
            let mut history = History::new();
            history.language(language);
            office().reply(&text(words), &history, at(SUNDAY)).unwrap().unwrap().language
        };
        assert_eq!(reply("Mae coeden wedi cwympo", Language::English), Some(Language::Welsh));
        assert_eq!(reply("A tree has fallen", Language::Welsh), Some(Language::English));
        assert_eq!(reply("SY2 6ND", Language::Welsh), Some(Language::Welsh));
    }

    #[test]
    fn automatic_replies_and_our_own_text_get_no_reply() {
        for words in [
            "Automatic reply: I am away",
            "Thank you for your message. We are closed now. We open again tomorrow at 10am. Call 999.",
            "Diolch am eich neges. Rydym ar gau nawr. Byddwn ar agor eto yfory am 9yb.",
        ] {
            assert_eq!(office().reply(&text(words), &english(), at(SUNDAY)).unwrap(), None, "{words}");
        }
    }

    fn flooded() -> OutOfHours {
        let text = |en: &str, cy: &str| Texts { en: Some(en.into()), cy: Some(cy.into()) };
        let words = ReplyTexts::new("In an emergency call 999.").welsh("Mewn argyfwng ffoniwch 999.").notice(
            hours::Date::new(2026, 11, 23).unwrap(),
            hours::Date::new(2026, 11, 24).unwrap(),
            text("Flooding: expect delays.", "Llifogydd: disgwyliwch oedi."),
        );
        OutOfHours::new(office().hours().clone(), &words).unwrap()
    }

    #[test]
    fn notice_is_sent_once_in_opening_hours() {
        let reply = |history: &History, now: &str| {
            let mut inbound = text("A tree has fallen");
            inbound.envelope.at = at(now);
            flooded().reply(&inbound, history, at(now)).unwrap()
        };
        let first = reply(&english(), "2026-11-23T10:00:00Z").unwrap();
        assert_eq!(first.text, "Flooding: expect delays. In an emergency call 999.");
        let days = Period { from: at("2026-11-23T00:00:00Z"), until: at("2026-11-25T00:00:00Z") };
        assert_eq!(first.period, days);
        // Once, over both days; an answer in that time is enough.
        for record in [History::auto_replied, History::replied] {
            let mut history = english();
            record(&mut history, at("2026-11-23T10:00:00Z"));
            assert_eq!(reply(&history, "2026-11-24T16:59:00Z"), None);
        }
        // A reply of the closed period before the notice does not count.
        let mut sunday = english();
        sunday.auto_replied(at("2026-11-22T21:14:00Z"));
        assert!(reply(&sunday, "2026-11-23T09:00:00Z").is_some());
        for outside in ["2026-11-20T10:00:00Z", "2026-11-25T09:00:00Z"] {
            assert_eq!(reply(&english(), outside), None, "{outside}");
        }
        let both = flooded().reply(&text("?"), &History::new(), at("2026-11-23T10:00:00Z")).unwrap().unwrap();
        assert_eq!(
            both.text,
            "Llifogydd: disgwyliwch oedi. Mewn argyfwng ffoniwch 999.\n\nFlooding: expect delays. In an emergency call 999."
        );
    }

    #[test]
    fn out_of_hours_reply_begins_with_the_notice() {
        let text = |now: &str| flooded().reply(&text("A tree has fallen"), &english(), at(now)).unwrap().unwrap().text;
        let closed =
            "Thank you for your message. We are closed now. We open again tomorrow at 9am. In an emergency call 999.";
        let notice = "Flooding: expect delays.";
        assert_eq!(text("2026-11-23T20:00:00Z"), format!("{notice} {closed}"));
        // The notice ends at midnight.
        assert_eq!(text("2026-11-24T23:59:59Z"), format!("{notice} {closed}"));
        assert_eq!(text("2026-11-25T00:00:00Z"), closed.replace("tomorrow", "today"));
    }

    #[test]
    fn default_texts_fit_one_segment_on_any_day() {
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
            assert!(longest > 140, "make the signposts as long as they can be: {longest}");
        }
    }

    #[test]
    fn incomplete_texts_are_config_errors() {
        let with = |text: &str| ReplyTexts::new("Call 999.").text(Language::English, text);
        let notices = |all: &[(i8, i8, &str)]| {
            let day = |day| hours::Date::new(2026, 12, day).unwrap();
            let text = |text: &str| Texts { en: Some(text.into()), cy: None };
            let add = |config: ReplyTexts, (from, until, words): &(i8, i8, &str)| {
                config.notice(day(*from), day(*until), text(words))
            };
            all.iter().fold(ReplyTexts::new("Call 999."), add)
        };
        for (config, field, words) in [
            (ReplyTexts::default(), "signpost.en", "is missing"),
            (ReplyTexts::new("  "), "signpost.en", "is empty"),
            (ReplyTexts::new("Call {number}"), "signpost.en", "a brace"),
            (ReplyTexts::new("Call 999.").welsh(""), "signpost.cy", "is empty"),
            (ReplyTexts::new("Call 999.").text(Language::Welsh, "{opening} {signpost}"), "signpost.cy", "is missing"),
            (with("We are closed. {signpost}"), "text.en", "{opening}"),
            (with("{opening}"), "text.en", "{signpost}"),
            (with("{opening} {opening} {signpost}"), "text.en", "{opening} exactly once"),
            (with("{opening} {signpost} {name}"), "text.en", "unknown placeholder"),
            (with("{opening} {signpost} {"), "text.en", "unknown placeholder"),
            (notices(&[(2, 1, "Delays.")]), "notices[0].until", "before from"),
            (notices(&[(1, 3, "Delays."), (3, 4, "Delays.")]), "notices[1].from", "overlaps"),
            (notices(&[(1, 1, " ")]), "notices[0].text.en", "is empty"),
            (notices(&[(1, 1, "Delays. {signpost}")]), "notices[0].text.en", "a brace"),
            (notices(&[(1, 1, "Delays.")]).welsh("Ffoniwch 999."), "notices[0].text.cy", "is missing"),
        ] {
            let error = OutOfHours::new(office().hours().clone(), &config).unwrap_err();
            assert_eq!((error.kind(), error.field()), (crate::ErrorKind::Config, Some(field)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(serde_json::from_str::<ReplyTexts>(r#"{"signpost":{"en":"Call 999."},"colour":1}"#).is_err());
        assert!(serde_json::from_str::<ReplyTexts>(r#"{"signpost":{"fr":"Appelez le 112."}}"#).is_err());
    }

    #[test]
    fn opening_beyond_the_calendar_is_an_error() {
        let error = office().reply(&text("Hello"), &english(), at("2028-12-30T12:00:00Z")).unwrap_err();
        assert_eq!(error.field(), Some("bank_holidays"));
    }
}
