//! The characters of a message, without case, punctuation and decoration.

use crate::medium::sms::{folds, shapes};

/// before the first word or after the last.
#[derive(Clone)]
pub(super) struct Normalised<'a> {
    rest: std::str::Chars<'a>,
    /// The separator before the next character of a word.
    gap: Option<char>,
    begun: bool,
    /// The character after the separator that was just returned.
    held: Option<char>,
}

impl<'a> Normalised<'a> {
    pub(super) fn new(text: &'a str) -> Self {
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
