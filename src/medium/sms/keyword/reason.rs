//! Reasons for a request, and signatures after it.

use super::phrases::{BEFORE_REASON, REASONS};
use super::request::Parser;
use super::vocabulary::Word;

impl Parser<'_> {
    pub(super) fn reason(&mut self) -> bool {
        let listed = |parser: &mut Self| {
            while parser.one_of(BEFORE_REASON) {}
            parser.one_of(REASONS)
        };
        self.has(listed)
            || self.has(Self::gone)
            || self.has(Self::away)
            || self.has(Self::not_mine)
            || self.has(Self::unasked)
    }

    /// "I never signed up for this", "I didn't ask for these texts".
    fn unasked(&mut self) -> bool {
        use self::Word::*;
        self.any(&[I, Ive]);
        if !(self.any(&[Dont, Didnt]) || self.all(&[Do, Not]) || self.all(&[Have, Not]) || self.eat(Not)) {
            return false;
        }
        if !self.eat(Sign) {
            return false;
        }
        self.eat(Up);
        if self.any(&[For, To]) {
            return self.messages().is_some() || self.any(&[These, This, It]);
        }
        true
    }

    /// "I am not Jane Smith".
    pub(super) fn other_person(&mut self) -> bool {
        use self::Word::*;
        let not = self.all(&[I, Am, Not])
            || self.all(&[Im, Not])
            || self.all(&[This, Isnt])
            || self.all(&[This, Is, Not])
            || self.all(&[It, Is, Not])
            || self.all(&[Its, Not]);
        self.eat(Title);
        let named = not && self.eat(Name);
        self.eat(Name);
        named
    }

    /// "I have moved to Telford", "she no longer lives here", "my mother has died".
    fn gone(&mut self) -> bool {
        use self::Word::*;
        let others = self.eat(He) || self.all(&[My, Kin]);
        let speaker = !others && (self.any(&[Ive, Im]) || self.eat(I));
        if !(others || speaker) {
            return false;
        }
        while self.any(&[I, Am, Have, Has, Now, Please]) {}
        if self.eat(Moved) {
            while self.any(&[Away, Out, House, On, Now, Sir])
                || self.has(Self::place)
                || self.has(Self::named_place)
                || self.all(&[The, House])
            {}
            return true;
        }
        if others && (self.eat(Died) || self.all(&[Passed, Away]) || self.all(&[Passed, On])) {
            return true;
        }
        self.away()
    }

    /// "No longer live there", "not at this address".
    fn away(&mut self) -> bool {
        use self::Word::*;
        let no_longer = self.all(&[No, Longer]);
        let not = no_longer || self.eat(Dont) || self.all(&[Do, Not]) || self.eat(Not);
        if !not {
            return false;
        }
        self.eat(Very); // "yn byw"
        if self.eat(Live) {
            return self.eat(Sir) || self.has(Self::place) || self.has(Self::named_place) || no_longer;
        }
        self.has(Self::place)
    }

    /// "At this address", "out of the area".
    fn place(&mut self) -> bool {
        use self::Word::*;
        self.eat(Out);
        let leads = self.any(&[At, In, To, From, Of]);
        while self.any(&[The, This, That, Your, My, And, New]) {}
        leads && self.eat(House)
    }

    /// "To Telford", "in Ellesmere Port".
    fn named_place(&mut self) -> bool {
        use self::Word::*;
        let named = self.any(&[In, To, From, Of]) && self.eat(Name);
        self.eat(Name);
        named
    }

    /// "This number is not mine", "not for me", "this belongs to someone else".
    fn not_mine(&mut self) -> bool {
        use self::Word::*;
        let subject = self.has(Self::target_number) || self.any(&[This, It, Its, That]);
        if subject && (self.all(&[Belong, To]) || self.all(&[Is])) && self.all(&[Someone, Else]) {
            return true;
        }
        let not = self.all(&[Is, Not]) || self.eat(Isnt) || self.eat(Not) || self.all(&[Is, No, Longer]);
        if subject && (self.eat(Dont) || self.all(&[Do, Not])) {
            return self.all(&[Belong, To, Me]);
        }
        if !not {
            return false;
        }
        self.eat(For);
        self.eat(Mine) || self.has(Self::target)
    }

    /// "Sent from my Galaxy S24", "kind regards Jane Smith", or a name behind "thanks", to the end.
    pub(super) fn signature(&mut self) -> bool {
        use self::Word::*;
        if self.has(Self::closing) {
            return true;
        }
        let thanked = matches!(self.words.get(..self.at), Some([.., Thanks | Much] | [.., Thanks, You]));
        if thanked && self.has(|parser| parser.names(1)) {
            return true;
        }
        self.has(|parser| {
            if !(parser.eat(Word::Sent) || parser.all(&[Word::Receive, Word::Device])) {
                return false;
            }
            parser.any(&[Word::From, Word::Via]);
            parser.eat(Word::My);
            let start = parser.at;
            while parser.any(&[Device, Model, Number, For, On, To]) {}
            parser.at > start && parser.at == parser.words.len()
        })
    }

    /// "Kind regards Jane Smith".
    pub(super) fn closing(&mut self) -> bool {
        use self::Word::*;
        while self.any(&[Kind, Many]) {}
        self.eat(Regards) && {
            while self.any(&[Regards, Kind]) {}
            self.names(0)
        }
    }

    /// Parses a name at the end, of at least `min` and at most two words.
    pub(super) fn names(&mut self, min: usize) -> bool {
        use self::Word::*;
        self.eat(Title);
        let start = self.at;
        while self.at < start + 2 && self.any(&[Name, Can, Device]) {}
        self.at >= start + min && self.at == self.words.len()
    }
}
