//! The text of a message: as X escapes it, and without the link to its file.

use super::wire::Url;
use crate::model::event::{InboundContent, Selection};
use crate::model::message::MediaRef;

/// Returns the content of a message, without the link that stands in its text for its file.
pub(super) fn content(
    text: Option<&str>,
    urls: &[Url<'_>],
    media: Vec<MediaRef>,
    chosen: Option<String>,
    unescape: bool,
) -> InboundContent {
    let text = text.unwrap_or_default();
    let text = if media.is_empty() { text } else { without_media_link(text, urls) };
    let text = if unescape { unescaped(text) } else { text.to_owned() };
    match chosen {
        _ if !media.is_empty() => InboundContent::Media { text: Some(text).filter(|text| !text.is_empty()), media },
        Some(id) => InboundContent::Selection(Selection { id, title: text }),
        None if text.is_empty() => InboundContent::unsupported(None::<String>),
        None => InboundContent::Text(text),
    }
}

/// The text without the link that X puts at its end for a file. The entity says which link that is; its indices are
/// not trusted, since X does not say what they count.
pub(super) fn without_media_link<'t>(text: &'t str, urls: &[Url<'_>]) -> &'t str {
    let links = urls.iter().filter(|url| url.expanded_url.as_deref().is_some_and(|to| to.contains("/messages/media/")));
    let cut = |link: &Url<'_>| text.trim_end().strip_suffix(link.url.some()?);
    links.into_iter().find_map(cut).unwrap_or(text).trim_end()
}

/// Reads `&amp;`, `&lt;` and `&gt;` back, once: `&amp;lt;` was `&lt;`.
pub(super) fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let known = [("amp;", '&'), ("lt;", '<'), ("gt;", '>')];
        let (c, left) =
            known.iter().find_map(|(name, c)| Some((*c, after.strip_prefix(name)?))).unwrap_or(('&', after));
        plain.push(c);
        rest = left;
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::json::{self, List};

    #[test]
    fn text_is_unescaped_once() {
        for (written, read) in [
            ("Bins &amp; recycling: is 7 &lt; 8 &gt; 6?", "Bins & recycling: is 7 < 8 > 6?"),
            ("&amp;lt;", "&lt;"),
            ("&amp;amp;amp;", "&amp;amp;"),
            ("&quot;&#39;&nbsp;&AMP;", "&quot;&#39;&nbsp;&AMP;"),
            ("a & b &", "a & b &"),
            ("&&lt;&", "&<&"),
            ("tŷ&amp;😀", "tŷ&😀"),
            ("", ""),
        ] {
            assert_eq!(unescaped(written), read);
        }
    }

    #[test]
    fn only_media_link_is_removed() {
        let links = r#"[
            {"url": "https://t.co/a", "expanded_url": "https://x.com/i/status/1"},
            {"url": "https://t.co/b", "expanded_url": "https://x.com/messages/media/1"},
            {"url": "", "expanded_url": "https://x.com/messages/media/1"}
        ]"#;
        let links: List<Url<'_>> = json::read(links).unwrap();
        let cut = |text: &'static str| without_media_link(text, &links.items);
        assert_eq!(cut("😀 Photo https://t.co/b"), "😀 Photo");
        assert_eq!(cut("https://t.co/b"), "");
        assert_eq!(cut("See https://t.co/a"), "See https://t.co/a");
        assert_eq!(cut("https://t.co/b first"), "https://t.co/b first");
        assert_eq!(cut("https://t.co/a https://t.co/b "), "https://t.co/a");
    }
}
