//! The words of a message.

use super::normalised::Normalised;
use super::vocabulary::{Word, listed};

/// The words of a possible request, without a signature on separate lines.
pub(super) struct Sentence {
    words: [Word; Self::MAX],
    len: usize,
}

impl Sentence {
    /// More words than any request with its courtesies.
    const MAX: usize = 32;

    /// Longer than any request with its courtesies and a signature, in bytes.
    const BYTES_MAX: usize = 512;

    /// Parses a message; `None` if it is too long or contains a word that no request contains.
    pub(super) fn read(text: &str) -> Option<Self> {
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

    pub(super) fn words(&self) -> &[Word] {
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
    pub(super) fn read(characters: &mut Normalised<'_>) -> (Self, Option<char>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::sms::keyword::vocabulary::VOCABULARY;

    #[test]
    fn vocabulary_is_sorted_and_fits_a_word() {
        assert!(VOCABULARY.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(VOCABULARY.iter().all(|(word, _)| word.len() <= Spelled::MAX));
    }
}
