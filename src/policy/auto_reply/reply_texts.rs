//! The texts of auto-replies.

use serde::{Deserialize, Serialize};

use super::words::Language;
use super::{OPENING, SIGNPOST};
use crate::model::error::{Error, Result};
use crate::policy::hours::Date;

/// The texts of auto-replies, for [`OutOfHours::new`](super::OutOfHours::new).
///
/// ```
/// use civic_messaging::policy::auto_reply::ReplyTexts;
///
/// let config = ReplyTexts::new("In an emergency call 999. For a danger on a road call 0345 678 9006.")
///     .welsh("Mewn argyfwng ffoniwch 999.");
/// assert!(config.text.en.is_none()); // the default text, which fits one SMS segment
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyTexts {
    /// The emergency signpost. English is required; Welsh enables auto-replies in Welsh.
    pub signpost: Texts,
    /// The whole text, with the placeholders `{opening}`, for a sentence such as "We open again on Monday at 9am.", and
    /// `{signpost}`. Defaults to this crate's text.
    #[serde(default)]
    pub text: Texts,
    /// Notices for days of many messages, such as floods.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// A notice for some days, such as "Because of the flooding, replies take longer."
///
/// Out-of-hours replies begin with it, and a resident who writes in opening hours gets it once, before the signpost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The first day, in local time.
    pub from: Date,
    /// The last day.
    pub until: Date,
    /// The text in each language of the signpost.
    pub text: Texts,
}

/// A text in several languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// The Welsh text.
    #[serde(default)]
    pub cy: Option<String>,
    /// The English text.
    #[serde(default)]
    pub en: Option<String>,
}

impl Texts {
    pub(super) fn in_language(&self, language: Language) -> Option<&str> {
        match language {
            Language::Welsh => self.cy.as_deref(),
            Language::English => self.en.as_deref(),
        }
    }
}

impl ReplyTexts {
    /// Creates the default texts around an English emergency signpost.
    pub fn new(signpost: impl Into<String>) -> Self {
        Self { signpost: Texts { en: Some(signpost.into()), cy: None }, ..Self::default() }
    }

    /// Sets the Welsh emergency signpost, which enables auto-replies in Welsh.
    #[must_use]
    pub fn welsh(mut self, signpost: impl Into<String>) -> Self {
        self.signpost.cy = Some(signpost.into());
        self
    }

    /// Replaces the default text of a language.
    #[must_use]
    pub fn text(mut self, language: Language, text: impl Into<String>) -> Self {
        match language {
            Language::Welsh => self.text.cy = Some(text.into()),
            Language::English => self.text.en = Some(text.into()),
        }
        self
    }

    /// Adds a notice from one day to another, both included.
    #[must_use]
    pub fn notice(mut self, from: Date, until: Date, text: Texts) -> Self {
        self.notices.push(Notice { from, until, text });
        self
    }

    /// Checks the texts.
    ///
    /// # Errors
    /// Those of [`OutOfHours::new`](super::OutOfHours::new).
    pub fn check(&self) -> Result<()> {
        self.check_notices()?;
        self.check_texts(Language::Welsh)?;
        self.check_texts(Language::English).map(drop)
    }

    /// Returns the signpost and the text of a language: `None` without either.
    pub(super) fn check_texts(&self, language: Language) -> Result<Option<(&str, &str)>> {
        let field = |name: &str| format!("{name}.{}", language.tag());
        let text = self.text.in_language(language);
        let Some(signpost) = self.signpost.in_language(language) else {
            return match (language, text) {
                (Language::Welsh, None) => Ok(None),
                _ => Err(Error::config(field("signpost"), "is missing: say where to turn in an emergency")),
            };
        };
        if signpost.trim().is_empty() {
            return Err(Error::config(field("signpost"), "is empty: say where to turn in an emergency"));
        }
        if signpost.contains(['{', '}']) {
            return Err(Error::config(field("signpost"), "has a brace: a signpost has no placeholders"));
        }
        let text = text.unwrap_or(language.words().text);
        let mut rest = text.to_owned();
        for placeholder in [OPENING, SIGNPOST] {
            if text.matches(placeholder).count() != 1 {
                return Err(Error::config(field("text"), format!("must contain {placeholder} exactly once")));
            }
            rest = rest.replace(placeholder, "");
        }
        if rest.contains(['{', '}']) {
            let rule = format!("has an unknown placeholder: use {OPENING} and {SIGNPOST} only");
            return Err(Error::config(field("text"), rule));
        }
        Ok(Some((signpost, text)))
    }

    /// Checks the notices, and returns the first and the last day of each.
    pub(super) fn check_notices(&self) -> Result<Vec<(Date, Date)>> {
        let mut days: Vec<(Date, Date)> = Vec::new();
        for (n, notice) in self.notices.iter().enumerate() {
            let Notice { from, until, text } = notice;
            if until < from {
                return Err(Error::config(format!("notices[{n}].until"), "is before from: both days are included"));
            }
            if days.iter().any(|(first, last)| from <= last && first <= until) {
                return Err(Error::config(format!("notices[{n}].from"), "overlaps another notice"));
            }
            for language in [Language::English, Language::Welsh] {
                let field = || format!("notices[{n}].text.{}", language.tag());
                match (self.signpost.in_language(language), text.in_language(language)) {
                    (Some(_), None) => {
                        return Err(Error::config(field(), "is missing: the signpost has this language"));
                    }
                    (None, Some(_)) => {
                        return Err(Error::config(field(), "is in a language that the signpost lacks: add it there"));
                    }
                    (_, Some(text)) if text.trim().is_empty() => return Err(Error::config(field(), "is empty")),
                    (_, Some(text)) if text.contains(['{', '}']) => {
                        return Err(Error::config(field(), "has a brace: a notice has no placeholders"));
                    }
                    _ => {}
                }
            }
            days.push((*from, *until));
        }
        Ok(days)
    }
}
