//! The wire format of direct messages: in webhooks of both its APIs, and in the lists of `/2/dm_events`.

use std::borrow::Cow;

use super::GATEWAY;
use crate::adapter::json::{self, List, MapAccess, Member, MemberValue, Name, Pass, Piece, Text};
use crate::adapter::lenient;
use crate::model::clock::Timestamp;
use crate::model::event::InboundContent;
use crate::model::message::{Location, MediaRef};

/// The longest name that is shown, in bytes. X allows 50 characters.
const NAME_MAX: usize = 1_024;

lenient! {
    /// A message, a read receipt or a sign of typing: X writes them in one shape.
    pub(super) struct DirectMessage<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) id: Text<'a>,
        pub(super) created_timestamp: Text<'a>,
        pub(super) message_create: MessageCreate<'a>,
        pub(super) sender_id: Text<'a>,
        pub(super) last_read_event_id: Text<'a>,
    }

    pub(super) struct MessageCreate<'a> {
        pub(super) sender_id: Text<'a>,
        pub(super) target: Target<'a>,
        pub(super) message_data: MessageData<'a>,
    }

    pub(super) struct Target<'a> {
        pub(super) recipient_id: Text<'a>,
    }

    pub(super) struct MessageData<'a> {
        pub(super) text: Text<'a>,
        pub(super) entities: Entities<'a>,
        pub(super) quick_reply_response: QuickReply<'a>,
        pub(super) attachment: Attachment<'a>,
    }

    pub(super) struct Entities<'a> {
        pub(super) urls: List<Url<'a>>,
    }

    #[derive(Clone)]
    pub(super) struct Url<'a> {
        pub(super) url: Text<'a>,
        pub(super) expanded_url: Text<'a>,
    }

    pub(super) struct QuickReply<'a> {
        pub(super) metadata: Text<'a>,
    }

    pub(super) struct Attachment<'a> {
        pub(super) kind = "type": Text<'a>,
        pub(super) media: Option<Attached<'a>>,
        pub(super) location: Option<Piece<'a>>,
    }

    /// A place, as v1.1 documents it: a point, or a place that X knows.
    struct SharedLocation<'a> {
        shared_coordinate: SharedCoordinate<'a>,
        shared_place: SharedPlace<'a>,
    }

    struct SharedCoordinate<'a> {
        coordinates: Point<'a>,
    }

    struct Point<'a> {
        coordinates: List<f64>,
    }

    struct SharedPlace<'a> {
        place: Place<'a>,
    }

    struct Place<'a> {
        url: Text<'a>,
        name: Text<'a>,
        full_name: Text<'a>,
    }

    /// A file in a webhook. Its `id` is a number, which is read where it is whole and `id_str` is not there.
    pub(super) struct Attached<'a> {
        pub(super) id_str: Text<'a>,
        pub(super) id: Text<'a>,
        pub(super) media_url_https: Text<'a>,
        pub(super) url: Text<'a>,
        pub(super) expanded_url: Text<'a>,
        pub(super) video_info: VideoInfo<'a>,
    }

    /// As in v1.1; that direct messages still have it is unverified.
    pub(super) struct VideoInfo<'a> {
        pub(super) variants: List<Variant<'a>>,
    }

    pub(super) struct Variant<'a> {
        pub(super) bitrate: Option<f64>,
        pub(super) content_type: Text<'a>,
        pub(super) url: Text<'a>,
    }

    /// A person, under the names of v1.1, those of v2, or those of v2 in a `data` of their own.
    pub(super) struct User<'a> {
        pub(super) id: Text<'a>,
        pub(super) name: Text<'a>,
        pub(super) screen_name: Text<'a>,
        pub(super) username: Text<'a>,
        pub(super) data: Option<Box<User<'a>>>,
    }

    /// An event of a list. What the specification of August 2026 names anew, and a shared post, are not read.
    pub(super) struct DmEvent<'a> {
        pub(super) id: Text<'a>,
        pub(super) event_type: Text<'a>,
        pub(super) text: Text<'a>,
        pub(super) sender_id: Text<'a>,
        pub(super) dm_conversation_id: Text<'a>,
        pub(super) created_at: Text<'a>,
        pub(super) attachments: Attachments<'a>,
        pub(super) entities: Entities<'a>,
        pub(super) urls: List<Url<'a>>,
    }

    pub(super) struct Attachments<'a> {
        pub(super) media_keys: List<Text<'a>>,
    }

    /// The people and files that a list refers to.
    pub(super) struct Includes<'a> {
        pub(super) users: List<User<'a>>,
        pub(super) media: List<IncludedMedia<'a>>,
    }

    pub(super) struct IncludedMedia<'a> {
        pub(super) media_key: Text<'a>,
        pub(super) url: Text<'a>,
    }
}

/// The members of an object whose names matter, each as it stands and as often as it occurs.
#[derive(Default)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, Piece<'a>)>);

impl<'a> Members<'a> {
    /// Every value under this name.
    pub(super) fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = Piece<'a>> + 'm {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, piece)| *piece)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

impl<'a> Member<'a> for Members<'a> {
    fn object<M: MapAccess<'a>>(&mut self, mut members: M, pass: Pass) -> Result<bool, M::Error> {
        while let Some(name) = members.next_key::<Name<'a>>()? {
            let mut piece = Piece::default();
            MemberValue::new(&mut members, pass).read(&mut piece)?;
            self.0.push((name.into_text(), piece));
        }
        Ok(true)
    }
}

/// The place that an attachment holds, or the page of it.
pub(super) fn place(piece: &Piece<'_>) -> Option<InboundContent> {
    let SharedLocation { shared_coordinate, shared_place, .. } = json::read(piece.get())?;
    let place = shared_place.place;
    let name = place.full_name.some().or(place.name.some()).map(str::to_owned);
    let point = shared_coordinate.coordinates.coordinates;
    match point.as_ref() {
        // As in GeoJSON, the degrees east come first.
        [longitude, latitude, ..] if !point.malformed => {
            let mut location = Location::new(*latitude, *longitude);
            location.name = name;
            Some(InboundContent::Location(location))
        }
        _ => Some(InboundContent::Link { title: name, url: place.url.some()?.to_owned() }),
    }
}

impl DirectMessage<'_> {
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.created_timestamp.as_deref().and_then(Timestamp::from_unix)
    }
}

impl<'a> Attached<'a> {
    /// The link that X writes into the text for the file.
    pub(super) fn link(&self) -> Option<Url<'a>> {
        self.url.0.as_ref()?;
        Some(Url { url: self.url.clone(), expanded_url: self.expanded_url.clone(), ..Url::default() })
    }

    /// The file. One without an id that could be read has that of its message.
    pub(super) fn reference(&self, message: &str) -> Option<MediaRef> {
        let films = self.video_info.variants.iter().filter(|film| film.bitrate.is_some());
        let best = films.max_by(|a, b| a.bitrate.unwrap_or_default().total_cmp(&b.bitrate.unwrap_or_default()));
        let own = self.media_url_https.some().or(best.and_then(|film| film.url.some())).map(|_| message);
        let mut media = MediaRef::new(GATEWAY, self.id_str.some().or(self.id.some()).or(own)?);
        (media.url, media.mime) = match best {
            Some(film) => (film.url.to_text(), film.content_type.to_text()),
            None => (self.media_url_https.to_text(), self.media_url_https.as_deref().and_then(mime_by_name)),
        };
        Some(media)
    }
}

fn mime_by_name(url: &str) -> Option<String> {
    let mime = match url.rsplit_once('.')?.1 {
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "mp4" => "video/mp4",
        "png" => "image/png",
        "webp" => "image/webp",
        _ => return None,
    };
    Some(mime.to_owned())
}

impl User<'_> {
    /// The name and the handle. Each message of theirs has both, so that none of any length is taken.
    pub(super) fn shown(&self) -> (Option<String>, Option<String>) {
        let user = self.data.as_deref().unwrap_or(self);
        let short = |text: &Text<'_>| text.as_deref().filter(|text| text.len() <= NAME_MAX).map(str::to_owned);
        (short(&user.name), short(&user.username).or_else(|| short(&user.screen_name)))
    }
}

impl<'a> DmEvent<'a> {
    /// The links, which stood beside the text before they stood under `entities`.
    pub(super) fn urls(&self) -> &[Url<'a>] {
        if self.entities.urls.is_empty() { &self.urls } else { &self.entities.urls }
    }

    /// The files, each by its key and its id.
    pub(super) fn media_ids(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attachments.media_keys.iter().filter_map(|key| Some((key.some()?, key.some()?.split_once('_')?.1)))
    }

    pub(super) fn media(&self, people: &Includes<'_>) -> Vec<MediaRef> {
        let reference = |(key, id): (&str, &str)| {
            let mut media = MediaRef::new(GATEWAY, id);
            let included = people.media.iter().find(|included| included.media_key.as_deref() == Some(key));
            media.url = included.and_then(|included| included.url.to_text());
            media.mime = media.url.as_deref().and_then(mime_by_name);
            media
        };
        self.media_ids().map(reference).collect()
    }
}
