//! The default texts of auto-replies, in both languages.

use serde::{Deserialize, Serialize};

use crate::policy::hours::{Date, Time};

/// A language of auto-replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Language {
    /// Welsh.
    #[serde(rename = "cy")]
    Welsh,
    /// English.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// Returns the language of a BCP 47 tag, such as that of a [`Message`](crate::Message) or of a WhatsApp template:
    /// `en`, `cy`, `en_GB`. `None` for any other language.
    ///
    /// ```
    /// use civic_messaging::policy::auto_reply::Language;
    ///
    /// assert_eq!(Language::from_tag("cy-GB"), Some(Language::Welsh));
    /// assert_eq!(Language::from_tag("pl"), None);
    /// ```
    pub fn from_tag(tag: &str) -> Option<Self> {
        let language = tag.split(['-', '_']).next().unwrap_or_default();
        WORDS.iter().find(|words| words.tag.eq_ignore_ascii_case(language)).map(|words| words.language)
    }

    /// Returns the BCP 47 tag: `cy` or `en`.
    pub fn tag(self) -> &'static str {
        self.words().tag
    }

    pub(super) fn words(self) -> &'static Words {
        let [welsh, english] = &WORDS;
        match self {
            Self::Welsh => welsh,
            Self::English => english,
        }
    }
}

/// The texts of one language.
#[derive(Debug)]
pub(super) struct Words {
    language: Language,
    tag: &'static str,
    /// The default text of an auto-reply.
    pub(super) text: &'static str,
    /// The sentence with the next opening, with the placeholders `{day}` and `{time}`.
    opening: &'static str,
    today: &'static str,
    tomorrow: &'static str,
    /// From Monday, with the preposition.
    weekdays: [&'static str; 7],
    months: [&'static str; 12],
    before_noon: &'static str,
    after_noon: &'static str,
    noon: &'static str,
}

/// Every letter is in GSM-7, so that a text message stays one segment. The Welsh needs a review by a Welsh speaker; a
/// council can replace the text, but not the names of days.
const WORDS: [Words; 2] = [
    Words {
        language: Language::Welsh,
        tag: "cy",
        text: "Diolch am eich neges. Rydym ar gau nawr. {opening} {signpost}",
        opening: "Byddwn ar agor eto {day} am {time}.",
        today: "heddiw",
        tomorrow: "yfory",
        weekdays: [
            "ddydd Llun",
            "ddydd Mawrth",
            "ddydd Mercher",
            "ddydd Iau",
            "ddydd Gwener",
            "ddydd Sadwrn",
            "ddydd Sul",
        ],
        months: [
            "Ionawr",
            "Chwefror",
            "Mawrth",
            "Ebrill",
            "Mai",
            "Mehefin",
            "Gorffennaf",
            "Awst",
            "Medi",
            "Hydref",
            "Tachwedd",
            "Rhagfyr",
        ],
        before_noon: "yb",
        after_noon: "yh",
        noon: "hanner dydd",
    },
    Words {
        language: Language::English,
        tag: "en",
        text: "Thank you for your message. We are closed now. {opening} {signpost}",
        opening: "We open again {day} at {time}.",
        today: "today",
        tomorrow: "tomorrow",
        weekdays: ["on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday"],
        months: [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
        before_noon: "am",
        after_noon: "pm",
        noon: "midday",
    },
];

impl Words {
    /// Returns the sentence with an opening. `dated` adds the date to the weekday.
    pub(super) fn opening(&self, today: Date, opens: (Date, Time), dated: bool) -> String {
        let (date, time) = opens;
        let day = match date.days_since(today) {
            0 => self.today.to_owned(),
            1 => self.tomorrow.to_owned(),
            days => {
                let weekday = self.weekdays.get(date.weekday().index()).copied().unwrap_or_default();
                let month = usize::try_from(date.month() - 1).ok().and_then(|month| self.months.get(month));
                match month {
                    Some(month) if dated || days > 6 => format!("{weekday} {} {month}", date.day()),
                    _ => weekday.to_owned(),
                }
            }
        };
        self.opening.replace("{day}", &day).replace("{time}", &self.time(time))
    }

    /// Formats a time of day: `9am`, `1:30pm`, `midday`; `9yb`, `1:30yh`, `hanner dydd`.
    fn time(&self, time: Time) -> String {
        let half = if time.hour() % 24 < 12 { self.before_noon } else { self.after_noon };
        let hour = match time.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        match (time.hour(), time.minute()) {
            (12, 0) => self.noon.to_owned(),
            (_, 0) => format!("{hour}{half}"),
            (_, minute) => format!("{hour}:{minute:02}{half}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_use_the_12_hour_clock() {
        for (time, english, welsh) in [
            ("00:00", "12am", "12yb"),
            ("00:30", "12:30am", "12:30yb"),
            ("09:00", "9am", "9yb"),
            ("11:59", "11:59am", "11:59yb"),
            ("12:00", "midday", "hanner dydd"),
            ("12:05", "12:05pm", "12:05yh"),
            ("13:30", "1:30pm", "1:30yh"),
            ("17:00", "5pm", "5yh"),
        ] {
            let time = time.parse().unwrap();
            assert_eq!(Language::English.words().time(time), english);
            assert_eq!(Language::Welsh.words().time(time), welsh);
        }
    }

    #[test]
    fn language_matches_its_texts_and_tag() {
        for language in [Language::English, Language::Welsh] {
            assert_eq!((language.words().language, Language::from_tag(language.tag())), (language, Some(language)));
        }
        assert_eq!(Language::from_tag("EN_gb"), Some(Language::English));
        assert_eq!(Language::from_tag(""), None);
    }

    #[test]
    fn days_are_described_by_their_distance() {
        let today: Date = "2026-11-22".parse().unwrap();
        let nine: Time = "09:00".parse().unwrap();
        for (days, dated, english, welsh) in [
            (0, false, "We open again today at 9am.", "Byddwn ar agor eto heddiw am 9yb."),
            (1, true, "We open again tomorrow at 9am.", "Byddwn ar agor eto yfory am 9yb."),
            (2, false, "We open again on Tuesday at 9am.", "Byddwn ar agor eto ddydd Mawrth am 9yb."),
            (
                2,
                true,
                "We open again on Tuesday 24 November at 9am.",
                "Byddwn ar agor eto ddydd Mawrth 24 Tachwedd am 9yb.",
            ),
            (6, false, "We open again on Saturday at 9am.", "Byddwn ar agor eto ddydd Sadwrn am 9yb."),
            (
                7,
                false,
                "We open again on Sunday 29 November at 9am.",
                "Byddwn ar agor eto ddydd Sul 29 Tachwedd am 9yb.",
            ),
        ] {
            let opens = (today.plus_days(days), nine);
            assert_eq!(Language::English.words().opening(today, opens, dated), english);
            assert_eq!(Language::Welsh.words().opening(today, opens, dated), welsh);
        }
    }
}
