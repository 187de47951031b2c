//! The language of a resident's text, and automatic replies, by their most common words.

use super::words::Language;

/// Words of Welsh text that are not English words as well. An apostrophe divides words: `mae'r` is `mae` and `r`.
const WELSH: &[&str] = &[
    "ac", "am", "ar", "beth", "ble", "bod", "bore", "cael", "chi", "dda", "ddim", "diolch", "dw", "dwi", "dydd",
    "dydy", "eich", "ein", "ei", "eisiau", "fy", "fydd", "gan", "gwelwch", "gyda", "hefyd", "heddiw", "helo", "ydy",
    "mae", "maen", "mewn", "mynd", "neu", "ni", "nid", "nos", "oes", "oedd", "os", "pam", "pan", "pryd", "prynhawn",
    "pwy", "rhaid", "rwy", "rwyf", "rydw", "rydym", "roedd", "sut", "sydd", "wedi", "wnewch", "yfory", "yma", "yn",
    "yng", "yr", "yw", "y",
];

/// Words of English text that are not Welsh words as well.
const ENGLISH: &[&str] = &[
    "and", "are", "been", "but", "could", "do", "does", "for", "from", "good", "has", "have", "hello", "help", "hi",
    "how", "is", "it", "me", "my", "near", "not", "of", "on", "our", "outside", "please", "thank", "thanks", "that",
    "the", "there", "they", "this", "was", "we", "were", "what", "when", "where", "which", "who", "why", "will",
    "with", "would", "you", "your",
];

/// How automatic replies begin, in small letters.
const AUTOMATIC: &[&str] = &[
    "allan o'r swyddfa",
    "auto reply",
    "auto-reply",
    "auto response",
    "auto-response",
    "automated message",
    "automatic reply",
    "autoreply",
    "neges awtomatig",
    "out of office",
    "out-of-office",
    "this is an automated",
    "this is an automatic",
    "ymateb awtomatig",
];

/// The number of characters that are read.
const READ_MAX: usize = 2000;

impl Language {
    /// Returns the language of a text by its most common words, `None` if they do not show it, as in `OK`.
    ///
    /// A text in both languages counts as the one with more of them. **The Welsh words have not been checked by a Welsh
    /// speaker.**
    ///
    /// ```
    /// use civic_messaging::policy::auto_reply::Language;
    ///
    /// assert_eq!(Language::detect("Mae coeden wedi cwympo ar y ffordd"), Some(Language::Welsh));
    /// assert_eq!(Language::detect("A tree has fallen on the road"), Some(Language::English));
    /// assert_eq!(Language::detect("SY2 6ND"), None);
    /// ```
    pub fn detect(text: &str) -> Option<Self> {
        let read: String = text.chars().take(READ_MAX).collect::<String>().to_lowercase();
        let words = || read.split(|c: char| !c.is_alphabetic());
        let count = |of: &[&str]| words().filter(|word| of.contains(word)).count();
        let (welsh, english) = (count(WELSH), count(ENGLISH));
        match welsh.cmp(&english) {
            std::cmp::Ordering::Greater => Some(Self::Welsh),
            std::cmp::Ordering::Less => Some(Self::English),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// Returns `true` for a text that begins as automatic replies do.
pub(super) fn is_automatic(text: &str) -> bool {
    let start: String = text.chars().take(40).collect::<String>().to_lowercase().replace('\u{2019}', "'");
    let start = start.trim_start_matches(|c: char| !c.is_alphabetic());
    AUTOMATIC.iter().any(|begins| start.starts_with(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_is_detected_by_common_words() {
        for (text, language) in [
            ("When is my bin day?", Some(Language::English)),
            ("Pryd mae fy niwrnod bin?", Some(Language::Welsh)),
            ("MAE'R BIN YN LLAWN", Some(Language::Welsh)),
            ("Diolch", Some(Language::Welsh)),
            ("Bore da, is the office open today? Diolch yn fawr. Please tell me when.", Some(Language::English)),
            ("pothole", None),
            ("", None),
            ("👍 07700 900123", None),
        ] {
            assert_eq!(Language::detect(text), language, "{text}");
        }
        assert!(WELSH.iter().all(|word| !ENGLISH.contains(word)));
    }

    #[test]
    fn automatic_replies_are_recognised_by_their_start() {
        for text in
            ["Automatic reply: away", "[Auto-Reply] Hello", "OUT OF OFFICE until Monday", "Allan o\u{2019}r swyddfa"]
        {
            assert!(is_automatic(text), "{text}");
        }
        for text in ["Your automatic reply was rude", "", "The bus is out of order", "Away with the fairies"] {
            assert!(!is_automatic(text), "{text}");
        }
    }
}
