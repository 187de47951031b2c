//! The contents of a message: text, choice, files, places and links.

use std::collections::HashSet;

use super::super::GATEWAY;
use super::wire::{Attachment, Message, Postback, ReferralWire};
use crate::adapter::json::{self, Piece};
use crate::model::event::{InboundContent, Referral, Selection};
use crate::model::message::{Location, MediaKind, MediaRef};

/// The most previews of links that are looked for in the text of their message.
const PREVIEWS_MAX: usize = 10;

impl Message<'_> {
    /// It has neither an id nor anything that a reader could show.
    pub(super) fn says_nothing(&self) -> bool {
        let has_choice = self.quick_reply.as_ref().is_some_and(|reply| reply.payload.some().is_some());
        self.is_deleted == Some(true)
            || (self.text.some().is_none() && !has_choice && self.attachments.items.is_empty())
    }

    /// The contents in parts: the files with the text, then each attachment that is no file, with its own piece.
    pub(super) fn contents(&self, mid: &str) -> Vec<(Option<Piece<'_>>, InboundContent)> {
        if self.is_deleted == Some(true) {
            return vec![(None, InboundContent::Withdrawn(mid.into()))];
        }
        let mut contents = Vec::new();
        let chosen = self.quick_reply.as_ref().filter(|reply| reply.payload.some().is_some());
        let chosen = chosen.and_then(|chosen| chosen.chosen(self.text.some()));
        // The text of a choice is its title.
        let text = self.text.some().filter(|_| chosen.is_none());
        contents.extend(chosen.map(|chosen| (None, InboundContent::Selection(chosen))));
        let attached = self.attached(mid);
        match text {
            text if !attached.media.is_empty() => {
                contents.push((None, InboundContent::Media { text: text.map(str::to_owned), media: attached.media }));
            }
            Some(text) => contents.push((None, InboundContent::Text(text.to_owned()))),
            None => {}
        }
        contents.extend(attached.others);
        if contents.is_empty() {
            contents.push((None, InboundContent::unsupported(None::<String>)));
        }
        contents
    }

    fn attached(&self, mid: &str) -> Attached<'_> {
        let mut attached = Attached { media: Vec::new(), others: Vec::new() };
        let (mut unread, mut previews) = (HashSet::new(), 0);
        let text = self.text.some();
        for (n, piece) in self.attachments.items.iter().chain(&self.attachments.malformed).enumerate() {
            let attachment: Attachment<'_> = json::read(piece.get()).unwrap_or_default();
            if let Some(file) = attachment.file(mid, n) {
                attached.media.push(file);
                continue;
            }
            let mut is_preview = |url: &str| {
                previews += 1;
                previews <= PREVIEWS_MAX && text.is_some_and(|text| text.contains(url))
            };
            let kind = attachment.kind.some();
            let place = attachment.place();
            match attachment.link() {
                // The preview of a link in the text says what the text says.
                Some((_, url)) if place.is_none() && is_preview(url) => continue,
                None if place.is_none() && text.is_some() && kind == Some("fallback") => continue,
                None if place.is_none() => {
                    if unread.insert(kind.map(str::to_owned)) {
                        attached.others.push((Some(*piece), InboundContent::unsupported(kind)));
                    }
                }
                link => {
                    let link = link.map(|(title, url)| InboundContent::Link { title, url: url.to_owned() });
                    let both = place.map(InboundContent::Location).into_iter().chain(link);
                    attached.others.extend(both.map(|content| (Some(*piece), content)));
                }
            }
        }
        attached
    }
}

/// The attachments of a message: its files, and the others with the piece of each.
struct Attached<'a> {
    media: Vec<MediaRef>,
    others: Vec<(Option<Piece<'a>>, InboundContent)>,
}

impl Attachment<'_> {
    /// The file, if it is one. Messenger gives no id for it, so it has its place in the message for one.
    fn file(&self, mid: &str, n: usize) -> Option<MediaRef> {
        let kind = match self.kind.as_deref()? {
            "audio" => MediaKind::Audio,
            "file" => MediaKind::Document,
            "image" => MediaKind::Image,
            "sticker" => MediaKind::Sticker,
            "video" => MediaKind::Video,
            _ => return None,
        };
        let mut media = MediaRef::new(GATEWAY, format!("{mid}/{n}"));
        media.url = Some(self.payload.as_ref()?.url.some()?.to_owned());
        media.kind = Some(kind);
        Some(media)
    }

    fn shown_title(&self) -> Option<String> {
        self.title.some().or_else(|| self.payload.as_ref()?.title.some()).map(str::to_owned)
    }

    fn place(&self) -> Option<Location> {
        let degrees = self.payload.as_ref()?.coordinates.as_ref()?;
        let mut place = Location::new(degrees.lat?, degrees.long?);
        place.name = self.shown_title();
        Some(place)
    }

    /// The page that was shared, such as a post, a reel or a product: its title and its address.
    fn link(&self) -> Option<(Option<String>, &str)> {
        let url = self.payload.as_ref().and_then(|payload| payload.url.some()).or(self.url.some())?;
        Some((self.shown_title(), url))
    }
}

impl Postback<'_> {
    /// The chosen option: by our payload, or by its title without one.
    pub(super) fn chosen(&self, title: Option<&str>) -> Option<Selection> {
        let id = self.payload.some().or(title)?.to_owned();
        Some(Selection { id, title: title.unwrap_or_default().to_owned() })
    }
}

impl ReferralWire<'_> {
    pub(super) fn referral(&self) -> Box<Referral> {
        let mut referral = Referral::default();
        (referral.source, referral.id) = (self.source.to_text(), self.ad_id.to_text());
        (referral.url, referral.text) = (self.referer_uri.to_text(), self.word.to_text());
        Box::new(referral)
    }
}
