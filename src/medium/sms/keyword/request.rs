//! Requests to stop messages.

use super::phrases::COURTESIES;
use super::vocabulary::Word;

/// The wording of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// By STOP, UNSUBSCRIBE, OPT OUT or their Welsh forms.
    Named,
    /// In other words.
    Described,
}

/// A phrase before a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    None,
    /// "Can you", "could you please".
    Ask,
    /// "I want to", "I would like to", "can I".
    Want,
}

/// Parses words from left to right; a part that does not match leaves the position unchanged.
pub(super) struct Parser<'a> {
    pub(super) words: &'a [Word],
    pub(super) at: usize,
}

impl Parser<'_> {
    /// Returns the request that the words form; by name, if one of several is.
    pub(super) fn opt_out(mut self) -> Option<Request> {
        let mut found = None;
        let (mut names_messages, mut denies_name) = (false, false);
        while self.at < self.words.len() {
            if found.is_some() && self.signature() {
                break;
            }
            if self.one_of(COURTESIES) {
                continue;
            }
            let start = self.at;
            let request = self.attempt(Self::request);
            names_messages |= request.is_some() && self.at > start + 1;
            match request {
                Some(Request::Described) if found.is_some() => {}
                Some(request) => found = Some(request),
                None if self.reason() => {}
                None if self.has(Self::other_person) => denies_name = true,
                None => return None,
            }
        }
        // "Stop. I'm not happy" could be about anything.
        found.filter(|_| names_messages || !denies_name)
    }

    pub(super) fn peek(&self) -> Option<Word> {
        self.words.get(self.at).copied()
    }

    pub(super) fn eat(&mut self, word: Word) -> bool {
        let is_next = self.peek() == Some(word);
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn any(&mut self, words: &[Word]) -> bool {
        let is_next = self.peek().is_some_and(|word| words.contains(&word));
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn all(&mut self, phrase: &[Word]) -> bool {
        let fits = self.words.get(self.at..).is_some_and(|rest| rest.starts_with(phrase));
        self.at += if fits { phrase.len() } else { 0 };
        fits
    }

    pub(super) fn one_of(&mut self, phrases: &[&[Word]]) -> bool {
        phrases.iter().any(|phrase| self.all(phrase))
    }

    pub(super) fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = part(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    pub(super) fn has(&mut self, part: impl FnOnce(&mut Self) -> bool) -> bool {
        self.attempt(|parser| part(parser).then_some(())).is_some()
    }

    fn request(&mut self) -> Option<Request> {
        use self::Word::*;
        // "So stop texting me".
        self.eat(Very);
        if self.all(&[Leave, Me, Alone]) || self.all(&[Leave, Alone, I, Me]) {
            return Some(Request::Described);
        }
        if self.has(Self::refusal) || self.has(|parser| parser.want() && (parser.refusal() || parser.stopping())) {
            return Some(Request::Described);
        }
        // "Text STOP".
        let instructed = self.words.get(self.at + 1).is_some_and(|next| matches!(next, Stop | Unsubscribe));
        if instructed && self.any(&[Text, Reply, Sending]) {
            return self.verb(Lead::None);
        }
        let lead = self.lead();
        while self.eat(Please) {}
        self.verb(lead)
    }

    fn lead(&mut self) -> Lead {
        use self::Word::*;
        if self.has(|parser| parser.any(&[Can, Would]) && parser.any(&[You, Someone])) {
            return Lead::Ask;
        }
        if self.has(Self::want) || self.all(&[Can, I]) {
            return Lead::Want;
        }
        // "I said STOP", "I'm opting out", "I unsubscribe".
        if self.all(&[I, Said]) || self.all(&[I, Am]) || self.eat(Im) || self.eat(I) {
            return Lead::Want;
        }
        Lead::None
    }

    /// "I want to", "I'd like you to", "hoffwn".
    fn want(&mut self) -> bool {
        use self::Word::*;
        while self.eat(I) {}
        let wants = self.eat(Want) || self.all(&[Would, Like]) || self.all(&[Id, Like]) || self.eat(Id);
        if !self.all(&[You, To]) && !self.all(&[I, You]) {
            self.eat(To);
        }
        wants
    }

    /// "These texts to stop", behind "I want".
    fn stopping(&mut self) -> bool {
        self.messages().is_some() && self.all(&[Word::To, Word::Stop])
    }

    fn verb(&mut self, lead: Lead) -> Option<Request> {
        use self::Word::*;
        match self.peek()? {
            Stop => {
                let said = self.at.checked_sub(1).and_then(|at| self.words.get(at)) == Some(&Said);
                self.at += 1;
                let ending = |parser: &mut Self| parser.eat(To) && (parser.leaving() || parser.any(&[Cease, Stop]));
                if self.all(&[To, Model]) || self.has(ending) {
                    return Some(Request::Named);
                }
                let has_object = self.has(Self::object);
                (has_object || said || lead == Lead::None).then_some(Request::Named)
            }
            Unsubscribe | Un | Dad | Opt => self.has(Self::leaving).then_some(Request::Named),
            Be => {
                self.at += 1;
                if self.eat(Unsubscribe) {
                    self.has(|parser| parser.eat(From) && parser.source());
                    return Some(Request::Named);
                }
                (self.eat(Removed) && self.any(&[Off, From]) && self.has(Self::source)).then_some(Request::Described)
            }
            Cease => {
                self.at += 1;
                self.eat(From);
                self.has(Self::object_in_the_plural).then_some(Request::Described)
            }
            // "Rhowch y gorau i anfon negeseuon".
            Rhowch => {
                let given_up = self.all(&[Rhowch, The, Kind, I]) && self.has(Self::object_in_the_plural);
                given_up.then_some(Request::Described)
            }
            Remove | Take => self.has(|parser| parser.removal(lead)).then_some(Request::Described),
            _ => None,
        }
    }

    /// "Unsubscribe me from your list", "opt me out of these texts".
    fn leaving(&mut self) -> bool {
        use self::Word::*;
        let named = if self.eat(Opt) {
            self.has(Self::target);
            self.eat(Out)
        } else {
            self.eat(Unsubscribe) || self.all(&[Un, Subscribe]) || self.all(&[Dad, Danysgrifio])
        };
        if !named {
            return false;
        }
        self.has(Self::target);
        if !self.has(|parser| parser.any(&[From, Of, To]) && parser.source()) {
            // "UNSUBSCRIBE ALL".
            self.eat(All);
        }
        true
    }

    /// Parses the source that a person is removed from: a list of people to message, or messages.
    fn source(&mut self) -> bool {
        use self::Word::*;
        let list = |parser: &mut Self| {
            while parser.any(&[The, These, This, Your, All, Of, Council]) {}
            while parser.any(&[ListKind, Text, Notice, Texting]) {}
            parser.eat(List)
        };
        self.has(list)
            || self.messages().is_some()
            || self.any(&[All, Everything, These, This])
            || self.has(|parser| parser.any(&[Receive, Sending]) && parser.messages().is_some())
    }

    /// "Take me off your list", "remove this number".
    fn removal(&mut self, lead: Lead) -> bool {
        use self::Word::*;
        let take = self.eat(Take);
        if !take && !self.eat(Remove) {
            return false;
        }
        let details = self.all(&[My, Details]);
        let target = !details && self.has(Self::target);
        let off = self.eat(Off);
        let from = self.any(&[From, Of]);
        if (off || from) && self.has(Self::source) {
            return true;
        }
        if details {
            return false;
        }
        !from && target && (off || !take && lead == Lead::None)
    }

    /// "Me", "this number", "my phone".
    pub(super) fn target(&mut self) -> bool {
        use self::Word::*;
        if self.eat(Me) || self.all(&[I, Me]) || self.all(&[And, Me]) {
            self.any(&[I, Me]);
            return true;
        }
        self.target_number()
    }

    /// "This number", "my phone no", "y rhif hwn".
    pub(super) fn target_number(&mut self) -> bool {
        use self::Word::*;
        let ours = self.any(&[My, This]);
        if self.has(|parser| {
            parser.eat(The);
            parser.eat(Rhif) && (parser.any(&[This, I]) || ours)
        }) {
            return true;
        }
        let start = self.at;
        while ours && self.eat(Number) {}
        let short = ours && self.peek() == Some(No) && !self.words.get(self.at + 1).is_some_and(|next| *next == More);
        self.at += usize::from(short);
        ours && self.at > start
    }

    /// Parses the object of a request to stop: "texting me", "sending me reminders", "all these messages".
    pub(super) fn object(&mut self) -> bool {
        use self::Word::*;
        if self.eat(Texting) {
            while self.eat(Texting) || self.all(&[And, Texting]) {}
            self.has(Self::target);
            return true;
        }
        if self.eat(Sending) {
            let target = self.has(Self::target);
            let messages = self.messages().is_some() || self.any(&[These, This]);
            return target | messages | self.has(|parser| parser.eat(To) && parser.target()) || self.is_at_an_end();
        }
        if self.eat(Receive) {
            return self.messages().is_some() || self.any(&[These, This]);
        }
        if self.eat(With) {
            return self.messages().is_some();
        }
        self.messages().is_some() || self.any(&[All, These])
    }

    fn object_in_the_plural(&mut self) -> bool {
        match self.peek() {
            Some(Word::Texting | Word::Sending | Word::Receive) => self.has(Self::object),
            _ => self.messages() == Some(Amount::Several),
        }
    }

    /// Returns `true` if a courtesy or the end follows: "stop sending, please".
    fn is_at_an_end(&self) -> bool {
        self.peek().is_none_or(|word| matches!(word, Word::Please | Word::Thanks | Word::Now))
    }

    /// Parses messages and their amount: "all these annoying text messages from you to this number".
    pub(super) fn messages(&mut self) -> Option<Amount> {
        use self::Word::*;
        self.attempt(|parser| {
            let mut many = parser.nouns()?;
            while parser.has(|parser| parser.eat(And) && parser.nouns().is_some()) {
                many = Amount::Several;
            }
            // "This text service".
            parser.eat(List);
            while parser.has(Self::about_messages) {}
            Some(many)
        })
    }

    fn nouns(&mut self) -> Option<Amount> {
        use self::Word::*;
        while self.any(&[The, These, This, Your, My, All, More, Anymore, Of]) {}
        while self.any(&[Adjective, Council]) {}
        let mut many = None;
        loop {
            many = match self.peek() {
                Some(Text | Notice) => Some(Amount::One),
                Some(Texts) => Some(Amount::Several),
                _ => return many,
            };
            self.at += 1;
        }
    }

    /// Parses the sender and recipient of the messages.
    fn about_messages(&mut self) -> bool {
        use self::Word::*;
        if self.eat(These)
            || self.has(Self::sender)
            || self.has(Self::target)
            || self.has(|parser| parser.eat(To) && parser.target())
        {
            return true;
        }
        // "That you keep sending me".
        self.eat(That);
        let sent = self.eat(You) && {
            self.any(&[Are, Keep]);
            self.eat(Sending)
        };
        if sent {
            self.has(Self::target);
        }
        sent
    }

    /// "From you", "from Shropshire Council", "oddi wrth y cyngor".
    pub(super) fn sender(&mut self) -> bool {
        use self::Word::*;
        self.eat(Off);
        if !self.eat(From) {
            return false;
        }
        if self.eat(You) || self.all(&[This, Number]) {
            return true;
        }
        self.any(&[The, Your, My]);
        if self.eat(Cyngor) {
            self.eat(Name);
            return true;
        }
        for _ in 0..2 {
            self.eat(Name);
            self.has(|parser| parser.eat(And) && parser.eat(Name));
        }
        self.eat(Council)
    }

    /// "No more texts", "don't contact me", "I no longer wish to receive these".
    fn refusal(&mut self) -> bool {
        use self::Word::*;
        if self.all(&[No, More]) {
            return self.messages().is_some();
        }
        if self.eat(Peidiwch) {
            self.eat(And);
            self.eat(My); // "fy nhecstio"
            if self.eat(Texting) {
                if !self.has(Self::target) {
                    self.eat(I);
                }
                return true;
            }
            return self.eat(Sending) && self.has(Self::sendable);
        }
        while self.eat(I) {}
        if !(self.eat(Dont) || self.all(&[Do, Not]) || self.all(&[No, Longer]) || self.all(&[Not, I])) {
            return false;
        }
        self.eat(Now); // "ever"
        if self.eat(Want) {
            if self.all(&[You, To]) {
                return self.contact();
            }
            if !self.eat(To) {
                self.eat(Receive);
                return self.messages().is_some();
            }
            if self.eat(Be) {
                return self.eat(Texted)
                    || self.eat(Sent) && self.messages().is_some()
                    || self.eat(On) && self.has(Self::source);
            }
            return self.eat(Receive) && self.messages().is_some();
        }
        self.contact()
    }

    /// "Text me", "send me any more reminders".
    fn contact(&mut self) -> bool {
        use self::Word::*;
        if self.eat(Text) {
            return self.has(Self::target) || self.is_at_an_end();
        }
        self.eat(Sending) && self.has(Self::sendable)
    }

    fn sendable(&mut self) -> bool {
        let target = self.has(Self::target);
        self.messages().is_some() || target && self.eat(Word::These)
    }
}

/// The number of messages meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    One,
    Several,
}
