//! Opt-out keywords: stop messages, resume them, or ask for help.

use super::{folds, shapes};

/// The request of a keyword message: see [`keyword`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keyword {
    /// Opts out of messages.
    Stop,
    /// Opts in again.
    Start,
    /// Asks for the sender and for a way to opt out.
    Help,
}

/// Returns the keyword of a message, if the message as a whole is one.
///
/// A keyword inside a sentence about something else does not count: "please stop parking outside the school" is a
/// report. Case, full-width letters, apostrophes, and quotes, punctuation, emoji and invisible characters around the
/// words are ignored.
///
/// *Start* is START, UNSTOP or, in Welsh, DECHRAU, and nothing else; *Help* is HELP, INFO or CYMORTH, and nothing else.
/// YES is not a keyword, although some gateways treat it as START, because it answers questions.
///
/// *Stop* is a message that consists only of these parts, in any order, with at least one request:
///
/// - a request by name: STOP, STOPALL, UNSUBSCRIBE, OPTOUT, OPT OUT, and in Welsh STOPIO, STOPIWCH, ATAL and
///   DAD-DANYSGRIFIO. Its object, if any, must be messages to this person: "stop texting me", "stop all reminders",
///   "unsubscribe me from your list", "opt me out", "I want to stop receiving these texts";
/// - a request in other words, which must name the messages: "no more texts", "don't contact me again", "take me off your
///   list", "I no longer wish to receive messages", "leave me alone";
/// - a courtesy or an emphasis: "please", "hello", "thank you very much", "now", "os gwelwch yn dda";
/// - a reason: "wrong number", "not interested", "I have moved", "this number is not mine", "who is this?";
/// - the signature of a phone or a mail program at the end: "Sent from my iPhone", "Get Outlook for iOS"; and "Regards" or
///   "Thanks" with a name.
///
/// An unknown name is allowed in a signature, before "Council", and as a place that somebody moved to. A letter may be
/// repeated, as in "stoppp", and STOP may be spaced, as in "S T O P".
///
/// Any other word makes it a message for a person to read: "stop sending letters", "stop bin reminders", "unsubscribe
/// from the library newsletter". A question or a wish must name the messages: "can you stop?" and "I want to stop" are
/// messages, "can you stop texting me?" is a request.
///
/// CANCEL, END, QUIT, REMOVE and REVOKE are not keywords, because residents use them for bookings and reports. If a
/// gateway acts on such a word, its adapter reports the opt-out: see [`is_one_of`].
///
/// The English words are those of CTIA, Twilio and AWS; the United Kingdom prescribes no list. **The Welsh words are a
/// convention of this crate, UNVERIFIED**; DIM MWY ("no more") alone is left out because it answers questions. This
/// function only recognises keywords: acting on them is up to the caller.
///
/// It stops at the first word that no request contains, usually one of the first few, ignores messages over 512 bytes,
/// and allocates nothing.
///
/// ```
/// use civic_messaging::medium::sms::{Keyword, keyword};
///
/// assert_eq!(keyword(" “Stop.” "), Some(Keyword::Stop));
/// assert_eq!(keyword("Stop all messages please"), Some(Keyword::Stop));
/// assert_eq!(keyword("Wrong number. Please take me off your list"), Some(Keyword::Stop));
/// assert_eq!(keyword("Please stop parking outside the school"), None);
/// assert_eq!(keyword("Cancel my appointment"), None);
/// assert_eq!(keyword("yes"), None);
/// ```
#[must_use]
pub fn keyword(text: &str) -> Option<Keyword> {
    let sentence = Sentence::read(text)?;
    match sentence.words() {
        [Word::Start | Word::Unstop] => Some(Keyword::Start),
        [Word::Help] => Some(Keyword::Help),
        words => Parser { words, at: 0 }.opt_out().map(|_| Keyword::Stop),
    }
}

/// Returns the keyword of a button's or list row's title.
///
/// Stricter than [`keyword`], because we wrote the title for another purpose: only a request by name stops, and only
/// UNSTOP starts.
pub(crate) fn title_keyword(title: &str) -> Option<Keyword> {
    let sentence = Sentence::read(title)?;
    match sentence.words() {
        [Word::Unstop] => Some(Keyword::Start),
        words => Parser { words, at: 0 }.opt_out().filter(|request| *request == Request::Named).map(|_| Keyword::Stop),
    }
}

/// Returns `true` if a message is exactly one of these words, with [`keyword`]'s rules for case and punctuation.
///
/// For gateways that act on their own words, such as END: the adapter reports an opt-out where the gateway blocks the
/// person anyway. A hyphen in a word counts as a space.
///
/// ```
/// use civic_messaging::medium::sms::is_one_of;
///
/// assert!(is_one_of(" “End.” ", &["QUIT", "END"]));
/// assert!(is_one_of("opt out", &["OPT-OUT"]));
/// assert!(!is_one_of("The end of Mill Lane", &["QUIT", "END"]));
/// ```
#[must_use]
pub fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| Normalised::new(word).eq(Normalised::new(text)))
}

/// The characters of a text in lower case, with one space between words, or a line feed where a line ends. No separator
/// before the first word or after the last.
#[derive(Clone)]
struct Normalised<'a> {
    rest: std::str::Chars<'a>,
    /// The separator before the next character of a word.
    gap: Option<char>,
    begun: bool,
    /// The character after the separator that was just returned.
    held: Option<char>,
}

impl<'a> Normalised<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars(), gap: None, begun: false, held: None }
    }
}

impl Iterator for Normalised<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            let character = self.rest.next()?;
            let character = match character {
                'a'..='z' | '0'..='9' => character,
                'A'..='Z' => character.to_ascii_lowercase(),
                // Part of a word, as in "don't", or a quote around a word.
                '\'' | '`' => continue,
                '\n' | '\r' => {
                    self.gap = Some('\n');
                    continue;
                }
                '\0'..='\x7F' => {
                    self.gap = self.gap.or(Some(' '));
                    continue;
                }
                _ => match self.beyond_ascii(character) {
                    Some(character) => character,
                    None => continue,
                },
            };
            let gap = self.gap.take().filter(|_| self.begun);
            self.begun = true;
            if gap.is_some() {
                self.held = Some(character);
                return gap;
            }
            return Some(character);
        }
    }
}

impl Normalised<'_> {
    /// Returns the letter of a character, or `None` after recording the separator that it forms.
    fn beyond_ascii(&mut self, character: char) -> Option<char> {
        let character = narrow(character);
        if is_of_a_word(character) {
            return character.to_lowercase().next();
        }
        match character {
            '\'' | '`' | '’' | '‘' | 'ʼ' | '´' => {}
            '\u{2028}' | '\u{2029}' => self.gap = Some('\n'),
            c if folds(c) == Some("") || shapes(c) => {}
            _ => self.gap = self.gap.or(Some(' ')),
        }
        None
    }
}

/// Returns `true` for a letter or digit, except for an emoji that Unicode counts as one.
fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric()
        && !matches!(character, 'ℹ' | 'ʼ' | '\u{2460}'..='\u{24FF}' | '\u{3251}'..='\u{32BF}' | '\u{1F100}'..='\u{1F1FF}')
}

/// Converts a full-width form to ASCII.
fn narrow(character: char) -> char {
    match u32::from(character) {
        wide @ 0xFF01..=0xFF5E => char::from_u32(wide - 0xFEE0).unwrap_or(character),
        _ => character,
    }
}

/// The words of a possible request, without a signature on separate lines.
struct Sentence {
    words: [Word; Self::MAX],
    len: usize,
}

impl Sentence {
    /// More words than any request with its courtesies.
    const MAX: usize = 32;

    /// Longer than any request with its courtesies and a signature, in bytes.
    const BYTES_MAX: usize = 512;

    /// Parses a message; `None` if it is too long or contains a word that no request contains.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > Self::BYTES_MAX || begins_unlike_request(text) {
            return None;
        }
        let mut sentence = Self { words: [Word::And; Self::MAX], len: 0 };
        let mut characters = Normalised::new(text);
        let mut own_line = false;
        loop {
            let (spelled, end) = Spelled::read(&mut characters);
            if own_line && spelled.begins_signature(&characters) {
                return Some(sentence);
            }
            let word = spelled.word()?;
            if word == Word::Name && !sentence.introduces_name() {
                return None;
            }
            // STOP may be repeated any number of times.
            if !(word == Word::Stop && sentence.words().last() == Some(&Word::Stop)) {
                *sentence.words.get_mut(sentence.len)? = word;
                sentence.len += 1;
            }
            match end {
                Some(gap) => own_line = gap == '\n',
                None => return Some(sentence),
            }
        }
    }

    fn words(&self) -> &[Word] {
        self.words.get(..self.len).unwrap_or_default()
    }

    /// Returns `true` if a name may follow: "thanks Jane", "from Shropshire Council", "not live in Telford".
    fn introduces_name(&self) -> bool {
        use self::Word::*;
        self.words().last().is_some_and(|word| {
            matches!(
                word,
                And | Cyngor
                    | Dear
                    | From
                    | Hello
                    | In
                    | Isnt
                    | Kind
                    | Model
                    | Much
                    | Name
                    | Not
                    | Of
                    | Regards
                    | Thanks
                    | The
                    | Title
                    | To
                    | You
            )
        })
    }
}

/// Returns `true` if the first word is plain and begins no request, as in most messages; needs no normalising.
fn begins_unlike_request(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut letters = [0; Spelled::MAX];
    let mut len = 0;
    for (letter, byte) in letters.iter_mut().zip(bytes) {
        match byte | 0x20 {
            lower @ b'a'..=b'z' => *letter = lower,
            _ => break,
        }
        len += 1;
    }
    let letters = letters.get(..len).unwrap_or_default();
    let stretched = letters.windows(3).any(|three| matches!(three, [a, b, c] if a == b && b == c));
    len > 1 && bytes.get(len) == Some(&b' ') && !stretched && listed(letters).is_none()
}

/// The letters of one word.
#[derive(Default)]
struct Spelled {
    letters: [u8; Self::MAX],
    len: usize,
    /// `true` if a letter occurs three or more times in a row; two are kept.
    stretched: bool,
    /// `true` if it has a letter that no vocabulary word has, or is too long.
    foreign: bool,
}

impl Spelled {
    /// Longer than any vocabulary word.
    const MAX: usize = 16;
    /// Maximum words of a signature.
    const SIGNATURE_MAX: usize = 8;

    /// Reads one word and the separator after it.
    fn read(characters: &mut Normalised<'_>) -> (Self, Option<char>) {
        if let Some(stop) = Self::read_spaced_stop(characters) {
            return stop;
        }
        let mut spelled = Self::default();
        loop {
            match characters.next() {
                Some(gap @ (' ' | '\n')) => return (spelled, Some(gap)),
                Some(letter) => spelled.push(without_circumflex(letter)),
                None => return (spelled, None),
            }
        }
    }

    /// Reads "S T O P" as one word.
    fn read_spaced_stop(characters: &mut Normalised<'_>) -> Option<(Self, Option<char>)> {
        let mut ahead = characters.clone();
        if !"s t o p".chars().all(|letter| ahead.next() == Some(letter)) {
            return None;
        }
        let end = ahead.next();
        if end.is_some_and(|end| !matches!(end, ' ' | '\n')) {
            return None;
        }
        *characters = ahead;
        let mut spelled = Self::default();
        "stop".chars().for_each(|letter| spelled.push(letter));
        Some((spelled, end))
    }

    fn push(&mut self, letter: char) {
        let Some(letter) = u8::try_from(letter).ok().filter(u8::is_ascii) else {
            self.foreign = true;
            return;
        };
        if self.as_bytes().ends_with(&[letter, letter]) {
            self.stretched = true;
            return;
        }
        match self.letters.get_mut(self.len) {
            Some(place) => {
                *place = letter;
                self.len += 1;
            }
            None => self.foreign = true,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.letters.get(..self.len).unwrap_or_default()
    }

    /// Returns the vocabulary word, or `None` without letters.
    fn word(&self) -> Option<Word> {
        let letters = self.as_bytes();
        if self.foreign || letters.is_empty() {
            return self.foreign.then_some(Word::Name);
        }
        if let Some(word) = listed(letters) {
            return Some(word);
        }
        // "Stooop", "pleaseee".
        if self.stretched {
            let mut once = Self::default();
            for letter in letters.iter().filter(|letter| letter.is_ascii_alphabetic()) {
                if once.as_bytes().last() != Some(letter) {
                    once.push(char::from(*letter));
                }
            }
            if let Some(word) = listed(once.as_bytes()) {
                return Some(word);
            }
        }
        Some(match letters {
            b"2" => Word::To,
            b"4" => Word::For,
            // A model, as in "Galaxy S24", or a short code.
            _ if letters.iter().any(u8::is_ascii_digit) => Word::Model,
            _ => Word::Name,
        })
    }

    /// Returns `true` if this word and the rest form a signature: "Sent from my …", "Get Outlook for …", "Regards, …".
    fn begins_signature(&self, rest: &Normalised<'_>) -> bool {
        let seconds: &[&str] = match self.as_bytes() {
            b"regards" | b"cofion" => &[],
            b"kind" | b"best" | b"warm" | b"many" => &["regards", "wishes"],
            b"sent" => &["from", "via", "with", "using"],
            b"get" => &["outlook"],
            b"anfonwyd" => &["o"],
            _ => return false,
        };
        let is_second = || {
            let (second, _) = Self::read(&mut rest.clone());
            seconds.iter().any(|word| word.as_bytes() == second.as_bytes())
        };
        let words = rest.clone().filter(|character| matches!(character, ' ' | '\n'));
        (seconds.is_empty() || is_second()) && words.take(Self::SIGNATURE_MAX).count() < Self::SIGNATURE_MAX
    }
}

/// Removes the circumflex of a Welsh vowel.
fn without_circumflex(letter: char) -> char {
    match letter {
        'â' => 'a',
        'ê' | 'ë' => 'e',
        'î' => 'i',
        'ô' => 'o',
        'û' => 'u',
        'ŷ' => 'y',
        _ => letter,
    }
}

/// Returns the role of a vocabulary word.
fn listed(letters: &[u8]) -> Option<Word> {
    let (from, to) = BY_FIRST_LETTER.get(usize::from(letters.first()?.wrapping_sub(b'a')))?;
    let candidates = VOCABULARY.get(*from..*to)?;
    candidates.iter().find(|(word, _)| word.as_bytes() == letters).map(|(_, word)| *word)
}

/// The words of requests, courtesies, reasons and signatures, by their role. `Name` is any other word.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Adjective, All, Alone, Am, And, Anghywir, Anymore, Are, At, Away, Be, Belong, By, Can, Cease, Changed, Council,
    Cyngor, Dad, Danysgrifio, Dda, Dear, Details, Device, Didnt, Died, Do, Dont, Else, Everything, For, From, Good,
    Got, Gwelwch, Has, Have, He, Hello, Help, House, I, Id, Im, In, Interested, Is, Isnt, It, Its, Ive, Keep, Kin,
    Kind, Leave, Like, List, ListKind, Live, Longer, Many, Me, Mine, Model, More, Morning, Moved, Much, My, Name, New,
    No, Not, Notice, Now, Number, Of, Off, On, Once, Opt, Os, Out, Passed, Peidiwch, Person, Please, Receive, Regards,
    Remove, Removed, Reply, Rhif, Rhowch, Right, Said, Sending, Sent, Sign, Sir, Someone, Start, Stop, Subscribe,
    Take, Tenant, Text, Texted, Texting, Texts, Thanks, That, The, These, Think, This, Title, To, Too, Un, Unstop,
    Unsubscribe, Up, Very, Via, Want, Who, Whos, With, Would, Wrong, You, Your,
}

/// In alphabetical order.
#[rustfmt::skip]
const VOCABULARY: &[(&str, Word)] = {
    use self::Word::*;
    &[
        ("a", And), ("abroad", Away), ("address", House), ("addresses", House), ("afternoon", Morning), ("ag", And),
        ("again", Now), ("alert", Notice), ("alerting", Texting), ("alerts", Texts), ("all", All), ("allan", Out),
        ("allwch", Can), ("alone", Alone), ("altogether", Now), ("am", Am), ("and", And), ("android", Device),
        ("anfon", Sending), ("anghywir", Anghywir), ("annoying", Adjective), ("annwyl", Dear), ("any", The),
        ("anymore", Anymore), ("app", Device), ("ar", From), ("are", Are), ("area", House), ("as", And),
        ("asap", Now), ("ask", Sign), ("asked", Sign), ("at", At), ("ata", Me), ("ataf", Me), ("atal", Stop),
        ("ataliwch", Stop), ("automated", Adjective), ("automatic", Adjective), ("away", Away), ("be", Be),
        ("because", And), ("belong", Belong), ("belongs", Belong), ("best", Kind), ("blackberry", Device),
        ("bloody", Adjective), ("borough", House), ("bothering", Texting), ("but", And), ("by", By), ("byth", Now),
        ("byw", Live), ("can", Can), ("cancel", Cease), ("cease", Cease), ("cell", Number), ("changed", Changed),
        ("cheers", Thanks), ("chi", You), ("child", Kin), ("chysylltu", Texting), ("city", House),
        ("cofion", Regards), ("communication", Notice), ("communications", Texts), ("completely", Now),
        ("constant", Adjective), ("contact", Text), ("contacted", Texted), ("contacting", Texting),
        ("contacts", List), ("cos", And), ("could", Can), ("council", Council), ("county", House),
        ("customer", Tenant), ("cymorth", Help), ("cyngor", Cyngor), ("cynnes", Kind), ("cysylltu", Texting),
        ("dad", Dad), ("daddanysgrifio", Unsubscribe), ("danfon", Sending), ("danysgrifio", Danysgrifio),
        ("danysgrifiwch", Danysgrifio), ("data", Details), ("database", List), ("databases", List), ("daughter", Kin),
        ("daughters", Kin), ("dda", Dda), ("ddad", Dad), ("dderbyn", Receive), ("ddim", Dont), ("dear", Dear),
        ("dechrau", Start), ("decst", Notice), ("decstiau", Texts), ("decstio", Texting), ("decsts", Texts),
        ("delete", Remove), ("derbyn", Receive), ("destun", Notice), ("details", Details), ("device", Device),
        ("did", Do), ("didnt", Didnt), ("died", Died), ("dileu", Remove), ("dilewch", Remove), ("dim", No),
        ("diolch", Thanks), ("distribution", ListKind), ("do", Do), ("does", Do), ("doesnt", Dont), ("dont", Dont),
        ("dr", Title), ("dw", I), ("dwi", I), ("dydw", I), ("dymuno", Want), ("effing", Adjective), ("eich", The),
        ("eisiau", Want), ("else", Else), ("email", Device), ("end", Cease), ("enw", Details), ("estate", House),
        ("eto", Now), ("evening", Morning), ("ever", Now), ("every", The), ("everything", Everything),
        ("faithfully", Regards), ("father", Kin), ("fawr", Much), ("fi", Me), ("flat", House), ("for", For),
        ("forever", Now), ("from", From), ("fucking", Adjective), ("further", More), ("future", More), ("fy", My),
        ("gadewch", Leave), ("galaxy", Device), ("gan", From), ("gennych", You), ("get", Receive),
        ("getting", Receive), ("gmail", Device), ("good", Good), ("gorau", Kind), ("got", Got), ("guy", Person),
        ("gwelwch", Gwelwch), ("gysylltu", Texting), ("halt", Cease), ("has", Has), ("have", Have), ("havent", Didnt),
        ("havnt", Didnt), ("he", He), ("hello", Hello), ("helo", Hello), ("help", Help), ("her", He), ("here", Sir),
        ("hey", Hello), ("hi", Hello), ("hiya", Hello), ("hoffwn", Id), ("home", House), ("house", House),
        ("huawei", Device), ("husband", Kin), ("hwn", This), ("hyn", These), ("i", I), ("id", Id), ("im", Im),
        ("imi", Me), ("immediately", Now), ("in", In), ("info", Help), ("interested", Interested), ("ios", Device),
        ("ipad", Device), ("iphone", Device), ("ir", To), ("is", Is), ("isio", Want), ("isnt", Isnt), ("it", It),
        ("its", Its), ("ive", Ive), ("just", Please), ("keep", Keep), ("kind", Kind), ("kindly", Please),
        ("lady", Person), ("landline", Number), ("leave", Leave), ("left", Moved), ("like", Like), ("list", List),
        ("lists", List), ("live", Live), ("lived", Live), ("lives", Live), ("living", Live), ("longer", Longer),
        ("lonydd", Alone), ("madam", Sir), ("mail", Device), ("mailing", ListKind), ("mam", Kin), ("man", Person),
        ("many", Many), ("max", Device), ("may", Can), ("me", Me), ("mesage", Text), ("mesages", Texts),
        ("message", Text), ("messaged", Texted), ("messageing", Texting), ("messages", Texts), ("messagin", Texting),
        ("messaging", Texting), ("mi", Me), ("mine", Mine), ("mini", Device), ("miss", Title), ("mms", Text),
        ("mobile", Number), ("more", More), ("morning", Morning), ("mother", Kin), ("moto", Device),
        ("motorola", Device), ("moved", Moved), ("moving", Moved), ("moyn", Want), ("mr", Title), ("mrs", Title),
        ("ms", Title), ("msg", Text), ("msging", Texting), ("msgs", Texts), ("much", Much), ("mum", Kin),
        ("mwy", More), ("my", My), ("name", Details), ("nawr", Now), ("need", Want), ("neges", Notice),
        ("negeseuon", Texts), ("neu", And), ("never", Dont), ("new", New), ("nhecstio", Texting), ("ni", Me),
        ("nid", Not), ("no", No), ("nokia", Device), ("nos", Number), ("not", Not), ("notification", Notice),
        ("notifications", Texts), ("notifying", Texting), ("now", Now), ("number", Number), ("o", Of), ("oddi", Off),
        ("of", Of), ("off", Off), ("ok", Hello), ("okay", Hello), ("old", New), ("on", On), ("once", Once),
        ("oneplus", Device), ("opt", Opt), ("opting", Opt), ("optio", Opt), ("optout", Unsubscribe), ("or", And),
        ("os", Os), ("our", My), ("out", Out), ("outlook", Device), ("owner", Tenant), ("paid", Peidiwch),
        ("parent", Tenant), ("passed", Passed), ("peidiwch", Peidiwch), ("permanently", Now), ("person", Person),
        ("pestering", Texting), ("phone", Number), ("pixel", Device), ("place", House), ("please", Please),
        ("plis", Please), ("pls", Please), ("plus", Device), ("plz", Please), ("pob", The), ("pro", Device),
        ("property", House), ("quit", Cease), ("r", Are), ("receive", Receive), ("receiving", Receive),
        ("recently", Now), ("recieve", Receive), ("recieving", Receive), ("records", List), ("refrain", Cease),
        ("regards", Regards), ("reminder", Notice), ("reminders", Texts), ("reminding", Texting), ("remove", Remove),
        ("removed", Removed), ("reply", Reply), ("resident", Tenant), ("rhagor", More), ("rhestr", List),
        ("rhestrau", List), ("rhif", Rhif), ("rhowch", Rhowch), ("right", Right), ("rwan", Now), ("rwy", I),
        ("rwyf", I), ("rwyn", I), ("rydw", I), ("said", Said), ("samsung", Device), ("send", Sending),
        ("sendin", Sending), ("sending", Sending), ("sent", Sent), ("service", List), ("she", He), ("sign", Sign),
        ("signed", Sign), ("silly", Adjective), ("since", Now), ("sincerely", Regards), ("sir", Sir),
        ("smartphone", Device), ("sms", Text), ("so", Very), ("someone", Someone), ("son", Kin), ("sony", Device),
        ("sorry", Hello), ("sotp", Stop), ("spam", Notice), ("spamming", Texting), ("sstop", Stop), ("start", Start),
        ("stop", Stop), ("stopall", Stop), ("stopio", Stop), ("stopior", Stop), ("stopiwch", Stop), ("stopp", Stop),
        ("stpo", Stop), ("straight", Right), ("sttop", Stop), ("stupid", Adjective), ("subscribe", Subscribe),
        ("such", The), ("symud", Moved), ("system", List), ("ta", Thanks), ("tablet", Device), ("take", Take),
        ("taken", Removed), ("tanysgrifio", Danysgrifio), ("team", Sir), ("tecst", Notice), ("tecstiau", Texts),
        ("tecstio", Texting), ("tecsts", Texts), ("tel", Number), ("telephone", Number), ("tenant", Tenant),
        ("testun", Notice), ("testunau", Texts), ("texing", Texting), ("text", Text), ("texted", Texted),
        ("textin", Texting), ("texting", Texting), ("texts", Texts), ("thank", Thanks), ("thanks", Thanks),
        ("thankyou", Thanks), ("that", That), ("the", The), ("thecstiau", Texts), ("thecstio", Texting),
        ("then", And), ("there", Sir), ("these", These), ("they", He), ("think", Think), ("this", This),
        ("those", The), ("thx", Thanks), ("to", To), ("today", Now), ("too", Too), ("town", House),
        ("truly", Regards), ("txt", Text), ("txtin", Texting), ("txting", Texting), ("txts", Texts), ("ty", Thanks),
        ("tynnu", Take), ("tynnwch", Take), ("type", Reply), ("u", You), ("ultra", Device), ("un", Un),
        ("unstop", Unstop), ("unsub", Unsubscribe), ("unsubcribe", Unsubscribe), ("unsubscribe", Unsubscribe),
        ("unsubscribed", Unsubscribe), ("unsubscribeme", Unsubscribe), ("unsubscribing", Unsubscribe),
        ("unsubsribe", Unsubscribe), ("unsuscribe", Unsubscribe), ("unwanted", Adjective), ("up", Up),
        ("update", Notice), ("updates", Texts), ("ur", Your), ("us", Me), ("usubscribe", Unsubscribe), ("very", Very),
        ("via", Via), ("village", House), ("want", Want), ("warm", Kind), ("we", I), ("wedi", Have), ("weve", Ive),
        ("whatsapp", Text), ("whatsapps", Texts), ("who", Who), ("whos", Whos), ("wife", Kin), ("will", Can),
        ("windows", Device), ("wish", Want), ("wishes", Regards), ("with", With), ("wnewch", Can), ("woman", Person),
        ("wont", Dont), ("would", Would), ("wrong", Wrong), ("wrth", From), ("wyf", I), ("x", Please),
        ("xperia", Device), ("xx", Please), ("xxx", Please), ("y", The), ("yahoo", Device), ("yma", Sir),
        ("yn", Very), ("yna", Sir), ("yno", Sir), ("you", You), ("your", Your), ("yours", Kind), ("youve", Its),
        ("yr", The),
    ]
};

/// The range of the words with each first letter.
#[allow(clippy::indexing_slicing, reason = "done when compiling, where an index out of bounds is an error")]
static BY_FIRST_LETTER: [(usize, usize); 26] = {
    let mut places = [(0, 0); 26];
    let mut at = 0;
    while at < VOCABULARY.len() {
        let letter = (VOCABULARY[at].0.as_bytes()[0] - b'a') as usize;
        if places[letter].1 == 0 {
            places[letter].0 = at;
        }
        at += 1;
        places[letter].1 = at;
    }
    places
};

/// The wording of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
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

/// Courtesies, emphasis and conjunctions of requests, longer phrases first.
const COURTESIES: &[&[Word]] = {
    use self::Word::*;
    &[
        &[Please],
        &[Thanks, You, Very, Much],
        &[Thanks, Very, Much],
        &[Thanks, You],
        &[Thanks],
        &[Many, Thanks],
        &[No, Thanks, You],
        &[No, Thanks],
        &[Hello, Sir],
        &[Hello, Council],
        &[Hello, Name, Council],
        &[Hello, Name, Name, Council],
        &[Dear, Name, Council],
        &[Dear, Name, Name, Council],
        &[Hello],
        &[Dear, Sir],
        &[Dear, Council],
        &[Dear, All],
        &[Good, Morning],
        &[Now],
        &[Anymore],
        &[The, More],
        &[Right, Now],
        &[Right, Away],
        &[At, Once],
        &[At, All],
        &[For, Good],
        &[By, Text],
        &[Via, Text],
        &[From, Now, On],
        &[Os, Gwelwch, Very, Dda],
        &[And],
    ]
};

const REASONS: &[&[Word]] = {
    use self::Word::*;
    &[
        &[Wrong, Number],
        &[Wrong, Person],
        &[Wrong, No],
        &[Rhif, Anghywir],
        &[Not, The, Right, Person],
        &[Not, The, Right, Number],
        &[Not, Tenant],
        &[Not, The, Tenant],
        &[Not, And, Tenant],
        &[No, Longer, Tenant],
        &[No, Longer, The, Tenant],
        &[No, Longer, And, Tenant],
        &[No, Longer, Want, These],
        &[No, Longer, Want, This],
        &[Changed, My, Number],
        &[Changed, Number],
        &[My, Number, Has, Changed],
        &[New, Number],
        &[Too, Many, Texts],
        &[Moved, House],
        &[Adjective],
        &[Dont, Want, These],
        &[Dont, Want, This],
        &[Do, Not, Want, These],
        &[Do, Not, Want, This],
        &[Not, Interested],
        &[No, Longer, Interested],
        &[Who, Is, This],
        &[Whos, This],
        &[Who, Are, You],
    ]
};

/// Phrases that may precede a reason.
const BEFORE_REASON: &[&[Word]] = {
    use self::Word::*;
    &[
        &[This, Is],
        &[Its],
        &[It, Is],
        &[You, Have],
        &[Have],
        &[Got],
        &[I, Am],
        &[I, Think],
        &[I],
        &[Im],
        &[Ive],
        &[The],
        &[And],
    ]
};

/// Parses words from left to right; a part that does not match leaves the position unchanged.
struct Parser<'a> {
    words: &'a [Word],
    at: usize,
}

impl Parser<'_> {
    /// Returns the request that the words form; by name, if one of several is.
    fn opt_out(mut self) -> Option<Request> {
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

    fn peek(&self) -> Option<Word> {
        self.words.get(self.at).copied()
    }

    fn eat(&mut self, word: Word) -> bool {
        let is_next = self.peek() == Some(word);
        self.at += usize::from(is_next);
        is_next
    }

    fn any(&mut self, words: &[Word]) -> bool {
        let is_next = self.peek().is_some_and(|word| words.contains(&word));
        self.at += usize::from(is_next);
        is_next
    }

    fn all(&mut self, phrase: &[Word]) -> bool {
        let fits = self.words.get(self.at..).is_some_and(|rest| rest.starts_with(phrase));
        self.at += if fits { phrase.len() } else { 0 };
        fits
    }

    fn one_of(&mut self, phrases: &[&[Word]]) -> bool {
        phrases.iter().any(|phrase| self.all(phrase))
    }

    fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = part(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn has(&mut self, part: impl FnOnce(&mut Self) -> bool) -> bool {
        self.attempt(|parser| part(parser).then_some(())).is_some()
    }

    fn reason(&mut self) -> bool {
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
    fn other_person(&mut self) -> bool {
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
    fn signature(&mut self) -> bool {
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
    fn closing(&mut self) -> bool {
        use self::Word::*;
        while self.any(&[Kind, Many]) {}
        self.eat(Regards) && {
            while self.any(&[Regards, Kind]) {}
            self.names(0)
        }
    }

    /// Parses a name at the end, of at least `min` and at most two words.
    fn names(&mut self, min: usize) -> bool {
        use self::Word::*;
        self.eat(Title);
        let start = self.at;
        while self.at < start + 2 && self.any(&[Name, Can, Device]) {}
        self.at >= start + min && self.at == self.words.len()
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
    fn target(&mut self) -> bool {
        use self::Word::*;
        if self.eat(Me) || self.all(&[I, Me]) || self.all(&[And, Me]) {
            self.any(&[I, Me]);
            return true;
        }
        self.target_number()
    }

    /// "This number", "my phone no", "y rhif hwn".
    fn target_number(&mut self) -> bool {
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
    fn object(&mut self) -> bool {
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
    fn messages(&mut self) -> Option<Amount> {
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
    fn sender(&mut self) -> bool {
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
enum Amount {
    One,
    Several,
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const OPT_OUTS: &[&str] = &[
        "STOP", "stop", " Stop. ", "“STOP”", "‘stop’!!", "(stop)", "STOP 🛑", "ＳＴＯＰ", "ST\u{200B}OP", "\u{FEFF}stop\r\n",
        "ℹ️ STOP", "🆗 stop", "STOPALL", "stop  ALL", "STOP-ALL", "stop!!!", "Stop?", "STOP STOP", "stop. stop. stop.", "STOP SMS",
        "stop msgs", "stop reminders", "stop alerts", "Stop the reminders please", "STOP or UNSUBSCRIBE", "stop & unsubscribe",
        "Stop all texts now, thank you", "stop please", "Please stop", "Ok. Stop", "Hi, please STOP. Many thanks",
        "stop sending me messages", "stop sending", "stop sending me", "stop sending me these", "Stop sending these to me",
        "stop sending texts to this number", "Stop texting me", "stop txting me!!", "Stop messaging this number",
        "stop contacting me", "stop texting my phone", "stop these annoying texts",
        "stop all of your text messages immediately", "stop the messages that you keep sending me", "stop reminding me",
        "stop council texts", "stop texts from the council", "STOP to 60777", "STOP to unsubscribe", "Text STOP", "reply stop",
        "Stop\nSent from my iPhone", "STOP\r\n\r\nSent from my Galaxy", "Stop. Sent from my Galaxy S24 Ultra",
        "Unsubscribe\n\nGet Outlook for iOS", "stop\nSent from Yahoo Mail on Android", "stop\nSent via BT Email App",
        "Please stop.\nRegards\nM. Example", "stop\nKind regards, A Resident", "Stop\nAnfonwyd o fy iPhone",
        "Wrong number. Stop", "Stop, wrong number", "Stop, this is the wrong number", "STOP you have the wrong person",
        "stop, not interested", "I'm not interested. Unsubscribe", "Who is this? Stop texting me", "Stop. Who are you?",
        "unsubscribe", "Unsubscribe me please", "please unsubscribe me", "un-subscribe", "unsubscribe from your list",
        "unsubscribe me from this mailing list", "unsubscribe me from these texts", "UNSUBSCRIBE ALL",
        "I want to unsubscribe", "I would like to unsubscribe please", "I’d like to opt out", "can I unsubscribe",
        "please can I be removed from your list", "I want to be unsubscribed",
        "OPTOUT", "opt out", "OPT-OUT", "opt me out", "Opt out of all messages", "opting out", "I'm opting out",
        "no more texts please", "No more messages", "no more text messages from you", "no further reminders",
        "Do not contact me again", "Don't text me", "DONT MESSAGE ME ANYMORE", "don’t send me any more texts",
        "I don't want these messages", "I do not wish to receive any more texts", "I no longer want reminders",
        "I don't want to be contacted", "I don't want you to text me", "i dont want to get texts",
        "I want to stop receiving these messages", "I want these texts to stop", "Can you stop texting me please",
        "could you please stop sending me messages", "I said STOP", "leave me alone",
        "take me off your list", "Please take me off your mailing list", "take my number off your list", "take me off",
        "remove me", "remove this number", "Wrong number, please remove my number from your list",
        "cease texting me", "quit texting me", "end these messages", "cancel all texts",
        "STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP STOP",
        "stop x", "Stop! I don't want these", "STOP. I never signed up for this", "this isn't me, stop", "Stop, not for me",
        "stop all communication", "opt me out of future messages", "stop this text service", "stop texts and reminders",
        "stop texting and messaging me", "I want to stop getting these", "I want no more messages", "want to unsubscribe",
        "would like to opt out", "Do not contact", "never text me again", "take me off this", "STOPP", "sotp",
        "STOPIO", "Stopiwch", "Stopio os gwelwch yn dda", "STOPIO os gwelwch yn dda. Diolch yn fawr", "ATAL", "atal, diolch",
        "dad-danysgrifio", "Dad danysgrifio", "stopiwch anfon negeseuon", "atal pob neges", "dim mwy o negeseuon",
        "Peidiwch ag anfon negeseuon", "Rhif anghywir. Stopiwch", "hoffwn ddad-danysgrifio", "STOP / STOPIO",
    ];

    #[rustfmt::skip]
    const MESSAGES: &[&str] = &[
        "", " ... ", "🙂", "please stop parking outside the school", "stop parking outside the school", "The bus stop",
        "bus stop", "I can't find the bus stop", "What time does the bus stop?", "Stop the bins", "stopped", "stopyou",
        "non-stop", "don't stop", "Don't stop the service", "please don't stop texting me", "don't unsubscribe me",
        "stop?start", "stop.com", "stop it", "stop this", "stop here", "stop the", "stop you", "stop 4",
        "stop the noise", "stop sending letters", "stop sending me letters about bins", "stop the emails", "stop calling me",
        "stop bin reminders", "stop reminders about my bins", "stop texting my mum", "stop texting me at night",
        "Please stop the lorry outside number 4", "Can you stop the leak?", "Can you stop?", "can you stop it please",
        "I want to stop", "I want to stop my direct debit", "I need to stop smoking", "Why did you stop texting me?",
        "when will you stop sending texts", "Stop. There is a fire in Mill Lane", "stop the service", "stop the texts sent from school",
        "cancel", "cancel please", "Cancel my appointment", "cancel my reminder", "CANCEL", "end", "End.", "the end",
        "end of Mill Lane", "The end of Mill Lane is blocked", "QUIT", "quit it", "revoke", "remove", "please remove",
        "Remove the fly tipping", "remove my bin", "REMOVE", "take me", "can you take me", "take me off the waiting list",
        "can you remove me", "remove me from the housing register", "take messages", "unsubscribe from the library newsletter?",
        "unsubscribe from email", "opt out of the garden waste service", "opt outs", "opt in", "out", "opt",
        "no more", "no more letters", "no more bins", "no texts", "no", "No thanks", "not interested", "wrong number",
        "any more messages?", "text me", "message me please", "send me a text", "send reminders", "texts", "reminders please",
        "I do not want the appointment", "I don't want to stop", "I never got the text", "leave me a message",
        "start on Monday", "start start", "help me please", "please help", "yes", "YES please", "no stop", "dim mwy",
        "do not update me", "Don't text me, ring me", "I don't get any texts", "I no longer get reminders", "I'm not receiving messages",
        "I don't want these", "I do not want to stop receiving messages", "who is this?", "I got your text", "stop at number 4",
        "stop my number", "stop off", "no more updates needed", "how do I unsubscribe", "You stop texting me", "stop everything",
        "Sent from my iPhone", "Regards", "stop\nget the bins moved", "atal y gollyngiad", "stopiwch y lori", "STOP ŵ",
    ];

    #[rustfmt::skip]
    const OPT_OUTS_WITH_MORE: &[&str] = &[
        "I want you to stop texting me", "please stop these messages, I have moved", "I've moved, stop", "STOP I moved",
        "I no longer live there. Please stop texting", "stop this number is not mine",
        "stop texts from shropshire council", "Please stop txting this no", "Stop\nThanks\nJane",
        "Stop. Kind regards Jane Smith", "Remove my number from your database", "I'm unsubscribing", "STOP 2 END",
        "stoppp", "S T O P", "s.t.o.p.", "Stooooop!!!", "stopppppppppppppppppppppppp", "stop pleaseee",
        "stopiwch anfon negeseuon ataf", "Stopiwch decstio fi", "peidiwch â thecstio fi", "Peidiwch â chysylltu â mi",
        "dim mwy o decstiau", "tynnwch fi oddi ar y rhestr", "Hi, I would like you to stop sending me texts please",
        "We have moved house, please stop texting us", "I don't live in Shropshire any more, please stop texting me",
        "She no longer lives here. Stop", "my mother has died please stop texting", "STOP - this isn't my number",
        "Stop texting me, this phone is not mine", "this number does not belong to me, stop",
        "stop messages from Telford and Wrekin Council", "Hi Shropshire Council, please stop texting me",
        "Dear Shropshire Council, please unsubscribe me. Yours sincerely Jane Smith",
        "please stop texting me. Thanks Jane", "Please remove me from your system", "take my details off your list",
        "I do not want to be on your list", "Stop texting me I've moved to Birmingham",
        "I have moved out of the area, please stop sending me messages", "I moved away. Unsubscribe",
        "not at this address any more. stop", "stop sending messages to this no", "Dwi ddim eisiau negeseuon",
        "Dwi wedi symud, stopiwch", "rhowch y gorau i anfon negeseuon ataf", "peidiwch ag anfon tecstiau ataf eto",
        "stopiwch y negeseuon oddi wrth y cyngor", "Stop texting me please, I'm not the right person",
        "Stop. Many thanks, Mrs Jane Smith", "STOP to end", "Stop Thanks Siân",
        "Could you please stop texting me, I no longer live in Telford", "would you stop sending these messages please",
        "Please can you stop sending me text messages", "Please could you take me off this list",
        "can you take my number off your system please", "Please remove my number from your records",
        "please delete my number", "Please delete my number from your list, I have moved",
        "I wish to be removed from your list", "I want to be taken off the list", "take us off your mailing list",
        "we do not live there any more, please stop texting us", "We've moved house. Please stop these texts",
        "I have left the area please stop messages", "Stop please I don't live in the area",
        "I don't live there now so stop texting", "STOP. I am no longer a resident",
        "You have the wrong number please stop texting", "Wrong number. Stop texting",
        "I think you have the wrong number, please stop", "this isn't Jane, stop texting",
        "I am not Jane. Stop texting me", "Stop texting me. I'm not Jane Smith", "stop it's the wrong number",
        "sorry wrong number stop", "Please stop all messages to this number", "Stop sending messages to my phone",
        "stop texting this number thanks", "please stop sending texts to this number as I have moved",
        "please stop texting me because I have moved", "Stop as I have moved",
        "please unsubscribe me as I no longer live there", "unsubscribe me from all texts", "unsubscribe this number",
        "Unsubscribe my number please", "please opt me out of these texts", "opt out please",
        "I'd like to opt out of receiving texts", "I no longer want to receive texts from you",
        "I don't want any more messages from you", "I dont want any messages from the council",
        "no more messages from you thank you", "no more of these texts please", "Stop\n\nRegards,\nJane",
        "Hello, please stop texting me. Thank you, Jane Smith", "Hi there please stop thanks",
        "Good morning. Please stop texting me. Kind regards. J Smith", "stop!!! stop!!! stop!!!", "sToP", "STOP.",
        "stop stop stop texting me", "Stop all", "Stop all texts", "Quit texting me", "stop bothering me",
        "Stop spamming me", "stop with the texts", "please do not text me", "please don't text this number",
        "please do not send me any more texts", "Please do not contact me again by text", "dont send me texts",
        "never message me again", "I never signed up for this, stop", "I didn't ask for these texts. Stop",
        "I did not sign up for these messages stop", "I have not signed up to this. Stop", "Who is this? Stop",
        "Who's this? Stop texting", "this is not my number, please stop", "You've got the wrong number, remove me",
        "not interested stop", "not interested, take me off your list", "stop now", "stop immediately",
        "I would like to stop receiving these messages please", "I'd like you to stop texting me",
        "We want you to stop messaging us", "I need you to stop texting me", "Pls stop txting me", "plz stop",
        "stop plz", "peidiwch â tecstio fi", "peidiwch ag anfon mwy o negeseuon",
        "Dim mwy o negeseuon os gwelwch yn dda", "dim rhagor o negeseuon", "stopiwch anfon tecstiau ataf i",
        "stopiwch anfon negeseuon ata i", "Stopiwch os gwelwch yn dda", "stopiwch y tecstiau", "stopiwch y negeseuon",
        "Rydw i eisiau stopio derbyn negeseuon", "dwi ddim eisiau mwy o negeseuon", "dydw i ddim eisiau negeseuon",
        "Nid wyf eisiau derbyn negeseuon", "hoffwn stopio derbyn negeseuon", "tynnwch fy rhif oddi ar eich rhestr",
        "tynnwch fi oddi ar eich rhestr", "dileu fy rhif", "dad-danysgrifio fi", "Peidiwch â chysylltu â fi",
        "peidiwch â chysylltu â mi eto", "Rhif anghywir, stopiwch", "Rwyf wedi symud, stopiwch",
        "Dwi ddim yn byw yno, stopiwch", "stopiwch anfon negeseuon i mi", "stopiwch anfon negeseuon i'r rhif hwn",
        "peidiwch a tecstio fi", "peidiwch a fy nhecstio", "gadewch lonydd i mi", "rhowch y gorau i decstio fi",
        "s-t-o-p", "S.T.O.P", "S T O P please", "STOP 2 UNSUBSCRIBE", "text STOP to end", "STOP TO OPT OUT", "sttop",
        "stop.stop", "stop pls ta",
        "Stop. Thank you. Jane", "STOP my number has changed", "I moved out of Shropshire, stop the texts",
        "stopiwch y negeseuon hyn", "Peidiwch â fy nhecstio i", "dim mwy o decsts", "Rwy'n dymuno optio allan",
        "a wnewch chi stopio anfon negeseuon ataf", "Allwch chi stopio tecstio fi", "Stopiwch gysylltu â mi",
        "Stop. Best wishes, Jane", "stop texts from Telford & Wrekin Council",
    ];

    #[rustfmt::skip]
    const MESSAGES_LIKE_OPT_OUTS: &[&str] = &[
        "the bus stop", "stop the bin lorry blocking my road", "please stop my direct debit", "stop the parking fine",
        "Can you stop my neighbour", "I want to stop my garden waste collection", "when does it stop",
        "can you stop the noise", "please stop sending the bill to my old address", "remove my bin", "don't stop",
        "stop and search", "the stop has moved", "stop has moved", "stop moved", "The bus stop has moved",
        "I want you to stop", "I want you to stop the noise", "I've moved",
        "I have moved house, what do I do about council tax", "I've moved, stop my council tax",
        "I have moved, please stop my direct debit", "Stop I moved the bin", "my neighbour has moved, stop the noise",
        "stop in Telford", "stop to let people on", "Can you stop here", "stop at the house", "stop in the area",
        "stop from Jane", "stop texts from school", "remove my details", "remove my name from the electoral register",
        "remove me from the council tax list", "stop regards my bins", "my number is not working",
        "this number is not mine", "Thanks Jane", "stop living here", "I no longer live there",
        "I no longer live there, please stop the bill", "stop this house", "stop 2", "stop 4", "stop the system",
        "the system is not mine", "remove this house from your system", "Please remove the bin from my address",
        "please stop sending letters, I've moved", "stop texting my mum", "can you stop texting my mother",
        "we want to stop", "we have to stop", "Stop new house", "she left me alone", "leave my bin alone",
        "Stop, my mum has died and I need help", "please refrain from parking", "our bins", "stop?parking",
        "I am not a resident. stop the noise", "Thanks for stopping the noise", "how do I stop texts",
        "stop sending him messages", "do they stop here", "does it stop here", "they stop here", "has it stopped",
        "stop to house", "has the bus stop moved", "is the stop here", "stop in", "stop x ray",
        "I have moved house, please stop my garden waste subscription", "stop the council", "stop council tax",
        "stop the new houses", "Please stop the traffic on my road", "stop the texts to my mum",
        "stop texts about bins", "please stop texting about bins", "stop my bin reminders",
        "I have moved, please update my number", "please update my number", "I changed my number", "wrong number plate",
        "remove my name from the list of applicants", "please remove my car from your system", "please remove the data",
        "Who is this", "Please remove me from the waiting list", "stop letting people park here", "stop at my house",
        "stop in my road", "The bus doesn't stop here", "the bus does not stop at my house",
        "does the bus still stop there", "stop sign missing", "stop sign", "the stop", "next stop", "my stop",
        "stop outside my house", "you must stop", "they must stop", "this has to stop", "it has to stop",
        "this must stop", "I want this to stop", "I want it to stop", "make it stop", "can it stop", "will it stop",
        "stop the rubbish", "please stop sending me council tax bills", "please stop sending bills to my mother",
        "please stop sending post to this address", "stop sending letters to this address", "stop collecting my bin",
        "how can I stop texts", "can I stop the texts about bins only", "stop marketing texts", "no more marketing",
        "cancel my texts about bins", "did you stop", "have you stopped texting", "why did you stop",
        "please do not stop", "never stop texting", "do not stop texting me", "don't remove me from your list",
        "please don't take me off the list", "I don't want to opt out", "I do not wish to unsubscribe", "not stop",
        "can you text me", "text me when it stops", "stop or start", "start or stop", "STOP START", "stop and give way",
        "thanks for the text", "thanks Jane", "kind regards Jane", "Hi Jane", "I have moved to Telford",
        "my husband has died", "my mother has died, who do I tell", "my mother has died, can you stop her pension",
        "my dad has died, stop his bins", "she has passed away", "he no longer lives here",
        "he no longer lives here, stop his council tax", "I am not the tenant", "stop him", "stop her", "stop them",
        "stop he has moved the bins", "please stop him texting me", "stop my neighbour texting me",
        "stop people texting", "Can you stop Jane texting me", "a man keeps texting me, stop him", "stop the boy",
        "gadewch y bin", "stopiwch y bws", "stopiwch y sŵn", "peidiwch â stopio", "peidiwch â stopio anfon negeseuon",
        "peidiwch stopio", "safle bws stop", "dim biniau", "dim negeseuon am finiau", "tynnwch y bin",
        "tynnwch y bin oddi ar y ffordd", "dwi ddim eisiau bin", "rhif anghywir", "dwi wedi symud",
        "stopiwch anfon biliau", "lle mae'r bws yn stopio", "mae'r bws yn stopio", "stop go", "full stop", "stop full",
        "stop by", "stop by tomorrow", "stop over", "stop in the name of the law", "stop to think", "stop for a minute",
        "stop for now", "stop on", "stop work", "stop the work", "stop this work", "stop the planning application",
        "I want to stop the planning application", "I would like you to stop the fly tipping",
        "I want you to stop sending letters", "I want you to stop emailing me", "please stop emailing me",
        "please stop calling me", "please stop ringing", "stop phoning me", "I have moved my bin stop",
        "I live in Mill Lane", "stop as you like", "Stop think", "so what", "so stop the noise", "so the bus stop",
        "as the bus stop", "did you get my text", "did the bus stop", "I didn't ask for a new bin",
        "I didn't sign up for garden waste", "I did not ask for this", "leave the bin alone", "stop by the school",
        "stop because of the noise", "I have left the bin out", "left the house",
        "I didn't sign up for this, stop the bill", "please stop as my bin", "stop this", "how do I stop this",
        "I asked for a bin", "Stop. I'm not happy", "I'm not sure, stop", "I'm not Jane",
        "I'm not happy, please stop the noise", "stop this isn't working",
        "stop the man from Telford Council", "stop from the council", "stop calls from the council",
        "stop the calls from Telford Council", "I have a new phone", "my number has changed",
        "remove my number from the bin list", "remove me from your waiting list", "remove my address from your system",
        "please remove my house from your list", "delete my account", "delete my data", "delete my details",
        "take my bin off your list", "take me off the garden waste list", "take my house off the list", "stop the list",
        "stop my mother", "stop my number", "stop the number 7 bus", "stop number 7",
        "is there a bus stop near the house", "the stop at the house is gone", "stop new texts about bins",
        "stop texting about my bins", "stop that", "stop being silly", "stop to me", "stop at this address",
        "stop deliveries to this address", "not at this address", "we have moved out of the house",
        "we have moved, can you stop my bins", "we moved out, stop the bins", "stop we have moved the bins out",
        "stop from telford", "stop in Telford to the house", "there is no stop in Telford", "I live at the stop",
        "you stop here", "he stopped", "2 stop", "4 stop", "it is not my house, stop the bill", "this is not my bin",
        "this is not my bin, please stop", "this is not mine", "the bin is not mine, stop",
        "stop the bill it is not mine", "can you stop it its not mine", "peidiwch", "peidiwch â phoeni",
        "peidiwch â pharcio yma", "peidiwch â symud y bin", "tynnwch", "dileu", "symud", "dwi eisiau stopio",
        "stopiwch chi", "stopiwch fi",
    ];

    #[test]
    fn request_with_reason_or_signature_is_stop() {
        for text in OPT_OUTS_WITH_MORE {
            for text in [shouted(text, true), shouted(text, false), (*text).to_owned()] {
                assert_eq!(keyword(&text), Some(Keyword::Stop), "{text:?}");
            }
        }
        for text in MESSAGES_LIKE_OPT_OUTS {
            for text in [shouted(text, true), shouted(text, false), (*text).to_owned()] {
                assert_eq!(keyword(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn vocabulary_is_sorted_and_fits_a_word() {
        assert!(VOCABULARY.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(VOCABULARY.iter().all(|(word, _)| word.len() <= Spelled::MAX));
    }

    #[test]
    fn request_to_stop_messages_is_stop() {
        for text in OPT_OUTS {
            assert_eq!(keyword(text), Some(Keyword::Stop), "{text:?}");
        }
    }

    #[test]
    fn sentence_about_anything_else_is_a_message() {
        for text in MESSAGES {
            assert_eq!(keyword(text), None, "{text:?}");
        }
        assert_eq!(keyword(&format!("stop {}", "please ".repeat(1_000))), None);
        assert_eq!(keyword(&"stop now ".repeat(1_000)), None);
    }

    #[test]
    fn phrases_of_the_fixture_agree() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sms/opt_out_phrases.json");
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let phrases = |list: &serde_json::Value| {
            let phrases: Vec<_> =
                list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
            assert!(phrases.len() >= 4);
            phrases
        };
        for text in phrases(&file["opt_out"]) {
            assert_eq!(keyword(&text), Some(Keyword::Stop), "{text:?}");
        }
        let some = &file["opt_out_only_where_the_gateway_acts_on_it"];
        for list in [&file["message"], &some["elsewhere_a_message"], &some["twilio"], &some["aws"]] {
            for text in phrases(list) {
                assert_eq!(keyword(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn start_and_help_are_whole_messages() {
        for start in ["START", "unstop!", "Dechrau"] {
            assert_eq!(keyword(start), Some(Keyword::Start), "{start:?}");
        }
        for help in ["HELP", "help?", "Info", "cymorth"] {
            assert_eq!(keyword(help), Some(Keyword::Help), "{help:?}");
        }
    }

    #[test]
    fn title_stops_only_by_name() {
        for title in [
            "STOP",
            "Stop",
            "Unsubscribe",
            "Opt out",
            "OPT OUT",
            "Stopio",
            "ATAL",
            "Stopiwch",
            "Dad-danysgrifio",
            "STOP / STOPIO",
            "Stop messages",
            "🛑 Stop",
        ] {
            assert_eq!(title_keyword(title), Some(Keyword::Stop), "{title}");
        }
        for title in [
            "Cancel",
            "End",
            "Remove",
            "Quit",
            "Revoke",
            "Remove me",
            "No more reminders",
            "Cancel reminders",
            "Start",
            "START",
            "Dechrau",
            "Help",
            "Stop the clock",
            "Bus stop",
        ] {
            assert_eq!(title_keyword(title), None, "{title}");
        }
        assert_eq!(title_keyword("UNSTOP"), Some(Keyword::Start));
    }

    #[test]
    fn gateway_keyword_is_the_whole_message() {
        let words = ["END", "QUIT", "CANCEL", "OPT-OUT", "ARRET"];
        for text in ["END", "end", " End. ", "“quit”", "🛑 Cancel!", "opt out", "Opt-Out", "ＥＮＤ"] {
            assert!(is_one_of(text, &words), "{text}");
        }
        for text in ["", "the end", "end please", "cancel my appointment", "ended", "optout", "ENDQUIT", "END QUIT"] {
            assert!(!is_one_of(text, &words), "{text}");
        }
    }

    fn shouted(text: &str, upper: bool) -> String {
        if upper { text.to_uppercase() } else { text.to_lowercase() }
    }

    proptest! {
        #[test]
        fn decoration_does_not_change_the_result(
            at in 0..OPT_OUTS.len(), other in 0..MESSAGES.len(), upper in any::<bool>(),
            before in "[ \t\"“‘(*_🛑👍🙏❗️]{0,4}", after in "[ \n\"”’)*_.!,😡🛑👍🏽❗️…]{0,6}",
        ) {
            for (text, expected) in [(OPT_OUTS[at], Some(Keyword::Stop)), (MESSAGES[other], None)] {
                for text in [text.to_owned(), shouted(text, upper)] {
                    prop_assert_eq!(keyword(&format!("{before}{text}{after}")), expected, "{:?}", text);
                }
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), word in any::<String>()) {
            let _ = (keyword(&text), title_keyword(&text), is_one_of(&text, &[&word]));
            prop_assert!(Normalised::new(&text).eq(Normalised::new(&text.clone())) && is_one_of(&text, &[&text]));
        }
    }
}
