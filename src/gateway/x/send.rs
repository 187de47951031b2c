//! What goes out: messages, files, and what X says when it does not take them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Ask, GATEWAY, RateLimits, X, date, numeric, oauth};
use crate::adapter::json::{Json, Text};
use crate::adapter::lenient;
use crate::adapter::wire::Str;
use crate::adapter::{Answer, RETRY_AFTER_MAX, RETRY_AFTER_MIN, VendorError};
use crate::media::MediaStream;
use crate::medium::x as rules;
use crate::model::address::{Address, Medium, XUser};
use crate::model::error::{Error, ErrorClass, ErrorKind, Outcome, Result};
use crate::model::message::{Accepted, Content, Media, MediaRef, MediaSource, Message};

/// How much of a file goes up at once. X's clients use 1 to 4 MiB; the most that it takes is unverified.
const CHUNK: usize = 1024 * 1024;

/// How often X is asked whether it has prepared a film, at most.
const STATUS_CALLS_MAX: u32 = 60;

pub(super) fn address(to: &Address) -> Result<(), &'static str> {
    match to {
        Address::X(_) => Ok(()),
        Address::Conversation(conversation) if rules::conversation_id(conversation.id()) => Ok(()),
        _ => Err("must be a numeric user id on X, or the id of a conversation there"),
    }
}

impl X {
    /// Uploads what must be uploaded, and then makes the one call that the resident sees.
    pub(super) async fn send_prepared(&self, message: &Message) -> Result<Accepted> {
        let path = match &message.to {
            Address::X(user) => format!("/2/dm_conversations/with/{}/messages", user.id()),
            to => format!("/2/dm_conversations/{}/messages", to.expose()),
        };
        let (text, media) = match &message.content {
            Content::Text(text) => (Some(text.as_str()), None),
            Content::Media(media) => match media.as_slice() {
                [media] => (media.caption.as_deref(), Some(media)),
                _ => return Err(Error::invalid("media", "must be one file").with_gateway(GATEWAY)),
            },
            _ => return Err(Error::unsupported("this channel sends text and files").with_gateway(GATEWAY)),
        };
        let media = match media {
            Some(media) => Some(self.media_id(media).await?),
            None => None,
        };
        if media.is_some() {
            // The upload may have taken minutes.
            self.info.prepare(message, self.clock.now())?;
        }
        let ask = Ask::post("dm_send", path).json(&Outgoing::new(text, media.as_deref()))?;
        let answer = self.exchange(&ask, true).await?;
        self.accepted(&answer).map(|(accepted, _)| accepted)
    }

    /// X's answer to a message, and the conversation that it is in. With an id it was accepted, whatever errors stand
    /// beside it; without one, but with errors, X said no in a 2xx. (X, Response codes and errors, "Partial errors", read
    /// 2026-11-30.)
    pub(super) fn accepted(&self, answer: &Answer) -> Result<(Accepted, Option<Address>)> {
        let json = Json::new(&answer.body);
        let created = json.read::<Said<'_>>().and_then(|said| said.data).unwrap_or_default();
        let accepted = answer.accepted(created.dm_event_id.id());
        let mut accepted = accepted.map_err(|unreadable| self.refusal(answer).unwrap_or(unreadable))?;
        accepted.allowance = RateLimits::tightest(&answer.headers, self.clock.now());
        let conversation = created.dm_conversation_id.some();
        let conversation = conversation.filter(|id| rules::conversation_id(id));
        accepted.recipient = conversation.and_then(|id| match rules::other_party(id, self.info.account.as_str()) {
            Some(person) => Address::x(person).ok(),
            None => Address::conversation(Medium::X, id).ok(),
        });
        let conversation = conversation.and_then(|id| Address::conversation(Medium::X, id).ok());
        Ok((accepted, conversation))
    }

    /// The error that a 2xx holds in place of data, if it does.
    pub(super) fn refusal(&self, answer: &Answer) -> Option<Error> {
        let body = String::from_utf8_lossy(&answer.body);
        let members: Members<'_> = serde_json::from_str(&body).ok()?;
        if members.get("data").is_some_and(|data| data.get() != "null") {
            return None;
        }
        let errors = Problem::listed(&members);
        errors.first()?;
        // What an error says of its status tells more than the status of the answer. The highest counts, so that a fault
        // among them leaves the outcome unknown.
        let mut refusal = answer.clone();
        refusal.status = errors.iter().filter_map(Problem::status).max().unwrap_or(answer.status);
        let error = self.endpoint.refused(&refusal).with_status(answer.status);
        // A fault is no refusal, whatever status it came with.
        let is_fault = error.outcome() == Outcome::Rejected && error.kind() == ErrorKind::Unavailable;
        Some(if is_fault { error.with_outcome(Outcome::Unknown) } else { error })
    }

    async fn media_id<'m>(&self, media: &'m Media) -> Result<Cow<'m, str>> {
        match &media.source {
            MediaSource::Gateway { id, .. } => numeric("media.source", id).map(Cow::Borrowed),
            MediaSource::Stored { sha256, .. } => {
                let bytes = self.media.open(sha256).await.map_err(|error| error.with_outcome(Outcome::NotSent))?;
                Ok(Cow::Owned(self.upload(media, bytes).await?.id))
            }
            MediaSource::Link(_) => Err(Error::unsupported("X takes no files by link").with_field("media.source")),
        }
    }

    /// A file in pieces of 1 MiB, of which one at a time is in memory.
    pub(super) async fn upload(&self, media: &Media, mut bytes: MediaStream) -> Result<MediaRef> {
        let (stored_mime, stored_len) = match &media.source {
            MediaSource::Stored { mime, len, .. } => (Some(mime.as_str()), Some(*len)),
            _ => (None, None),
        };
        let mime =
            stored_mime.or(bytes.mime()).and_then(|mime| mime.split(';').next()).unwrap_or_default().trim().to_owned();
        let (category, max) = category(&mime)?;
        let wrong = |rule: &'static str| Error::invalid("media", rule).with_gateway(GATEWAY);
        let len =
            stored_len.or(bytes.len()).ok_or_else(|| wrong("must have a length that is known before it is sent"))?;
        if len == 0 {
            return Err(wrong("is an empty file"));
        }
        if len > max {
            let rule = format!("the file is over {max} bytes");
            return Err(Error::new(ErrorKind::TooLarge, rule).with_field("media").with_gateway(GATEWAY));
        }
        let begin = Initialize { media_type: &mime, total_bytes: len, media_category: category };
        let answer = self.call(Ask::post("media_initialize", "/2/media/upload/initialize").json(&begin)?).await?;
        let mut upload: Upload = self.data(&answer)?;
        // It becomes a part of further paths.
        let id = numeric("media", &upload.id).map_err(|_| answer.unreadable())?.to_owned();

        let boundary = oauth::nonce(&*self.clock)?;
        let (mut sent, mut index, mut segment) = (0, 0, Segment::new(&boundary, 0));
        while let Some(piece) = bytes.chunk().await {
            let mut piece = piece.map_err(|error| error.with_gateway(GATEWAY))?;
            sent += piece.len() as u64;
            if sent > len {
                return Err(wrong("is longer than it was said to be"));
            }
            while !piece.is_empty() {
                segment.take(&mut piece);
                if segment.left == 0 {
                    index += 1;
                    let full = std::mem::replace(&mut segment, Segment::new(&boundary, index));
                    self.append(&id, full, &boundary).await?;
                }
            }
        }
        if sent < len {
            return Err(wrong("is shorter than it was said to be"));
        }
        if segment.left < CHUNK {
            self.append(&id, segment, &boundary).await?;
        }

        let answer = self.call(Ask::post("media_finalize", format!("/2/media/upload/{id}/finalize"))).await?;
        upload = self.data(&answer)?;
        let mut calls = 0;
        while let Some(processing) = &upload.processing_info {
            match processing.state.as_str() {
                "succeeded" => break,
                "failed" => {
                    let what = "X could not prepare the file: its format or its length in time may be wrong";
                    return Err(Error::new(ErrorKind::InvalidMessage, what).with_field("media").with_gateway(GATEWAY));
                }
                _ if calls == STATUS_CALLS_MAX => {
                    return Err(
                        Error::new(ErrorKind::Unavailable, "X is still preparing the file").with_gateway(GATEWAY)
                    );
                }
                _ => {}
            }
            let wait = processing.check_after_secs.unwrap_or(1).clamp(1, 60);
            self.clock.sleep(Duration::from_secs(wait)).await;
            calls += 1;
            let query = oauth::query(&[("command", "STATUS"), ("media_id", &id)]);
            let answer = self.call(Ask::get("media_status", format!("/2/media/upload?{query}"))).await?;
            upload = self.data(&answer)?;
        }
        let mut media = MediaRef::new(GATEWAY, id);
        media.expires = upload.expires_after_secs.map(|secs| self.clock.now().plus(Duration::from_secs(secs)));
        (media.mime, media.len) = (Some(mime), Some(len));
        Ok(media)
    }

    async fn append(&self, id: &str, segment: Segment, boundary: &str) -> Result<()> {
        let mut ask = Ask::post("media_append", format!("/2/media/upload/{id}/append"));
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        ask.content_type = content_type.ok();
        ask.body = segment.finish(boundary);
        self.done(ask).await
    }
}

fn category(mime: &str) -> Result<(&'static str, u64)> {
    match mime {
        mime if rules::GIF_TYPES.contains(&mime) => Ok(("dm_gif", rules::GIF_BYTES_MAX)),
        mime if rules::IMAGE_TYPES.contains(&mime) => Ok(("dm_image", rules::IMAGE_BYTES_MAX)),
        mime if rules::VIDEO_TYPES.contains(&mime) => Ok(("dm_video", rules::VIDEO_BYTES_MAX)),
        _ => {
            let what = "X takes images, GIFs and videos in messages: send a link to any other file";
            Err(Error::unsupported(what).with_field("media").with_gateway(GATEWAY))
        }
    }
}

/// One piece of a file as the form that carries it, written into one buffer.
struct Segment {
    form: BytesMut,
    left: usize,
}

impl Segment {
    fn new(boundary: &str, index: u32) -> Self {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"segment_index\"\r\n\r\n{index}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"media\"; filename=\"media\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        Self { form: BytesMut::from(head.as_bytes()), left: CHUNK }
    }

    fn take(&mut self, piece: &mut Bytes) {
        let taken = piece.split_to(self.left.min(piece.len()));
        self.left -= taken.len();
        self.form.extend_from_slice(&taken);
    }

    fn finish(mut self, boundary: &str) -> Bytes {
        self.form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        self.form.freeze()
    }
}

/// What X's codes mean: the numbers of the v1.1 table, which shared layers still give, and the last parts of the
/// `type` of a problem. <https://docs.x.com/x-api/fundamentals/response-codes-and-errors>, read 2026-11-22 from a
/// stored copy. A 5xx is never documented as "not accepted", so after one the outcome stays unknown.
pub(super) const ERRORS: &[(&str, ErrorClass)] = &[
    ("17", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("32", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("34", ErrorClass::new(ErrorKind::NotFound)),
    ("38", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("44", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("50", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("63", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("64", ErrorClass::new(ErrorKind::Account)),
    ("88", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("89", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("93", ErrorClass::new(ErrorKind::Forbidden)),
    ("99", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("108", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("130", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("131", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("135", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("150", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("151", ErrorClass::new(ErrorKind::Rejected)),
    // The same text was sent to the same person just before: a second try is refused in the same way.
    ("187", ErrorClass::new(ErrorKind::Rejected)),
    ("215", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("220", ErrorClass::new(ErrorKind::Forbidden)),
    ("226", ErrorClass::new(ErrorKind::Account)),
    ("261", ErrorClass::new(ErrorKind::Forbidden)),
    ("324", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("325", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("349", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("354", ErrorClass::new(ErrorKind::InvalidMessage)),
    ("389", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("416", ErrorClass::new(ErrorKind::Forbidden)),
    ("420", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    // UNVERIFIED, from a public report: "Sender is not verified to send message requests". The person takes requests of
    // verified accounts only; others can still be written to.
    ("476", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("client-forbidden", ErrorClass::new(ErrorKind::Forbidden)),
    ("credits", ErrorClass::new(ErrorKind::Account)),
    ("credits-depleted", ErrorClass::new(ErrorKind::Account)),
    ("disallowed-resource", ErrorClass::new(ErrorKind::Rejected)),
    ("dm-not-permitted", ErrorClass::new(ErrorKind::InvalidRecipient)),
    ("internal-error", ErrorClass::new(ErrorKind::Unavailable).retry(None)),
    ("invalid-request", ErrorClass::new(ErrorKind::InvalidMessage)),
    // The four of OAuth 2.0, which the call for new tokens gives.
    ("invalid_client", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("invalid_grant", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("invalid_request", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("unauthorized_client", ErrorClass::new(ErrorKind::Unauthenticated)),
    ("not-authorized-for-resource", ErrorClass::new(ErrorKind::Forbidden)),
    ("oauth1-permissions", ErrorClass::new(ErrorKind::Forbidden)),
    ("operation-not-permitted", ErrorClass::new(ErrorKind::Rejected)),
    ("rate-limit-exceeded", ErrorClass::new(ErrorKind::RateLimited).retry(None)),
    ("resource-not-found", ErrorClass::new(ErrorKind::NotFound)),
    ("resource-unavailable", ErrorClass::new(ErrorKind::NotFound)),
    ("unsupported-authentication", ErrorClass::new(ErrorKind::Forbidden)),
    ("usage-capped", ErrorClass::new(ErrorKind::QuotaExceeded)),
];

/// Refusals that have words and no code, by a piece of the words, and what they are called here.
const NAMED: &[(&str, &str)] = &[
    ("do not have permission to DM", "dm-not-permitted"),
    ("operation is not permitted", "operation-not-permitted"),
    ("CreditsDepleted", "credits-depleted"),
];

/// 326 has two meanings, told apart by a piece of its words.
const MEANINGS_OF_326: &[(&str, ErrorClass)] =
    &[("do not follow", ErrorClass::new(ErrorKind::InvalidRecipient)), ("locked", ErrorClass::new(ErrorKind::Account))];

pub(super) fn vendor_error(answer: &Answer) -> VendorError<'_> {
    let problems = Problem::of(&String::from_utf8_lossy(&answer.body));
    let all = || problems.iter();
    let words = || all().flat_map(|p| [&p.title, &p.detail, &p.message]).flatten();
    let named = || NAMED.iter().find(|(piece, _)| words().any(|words| words.contains(piece))).map(|(_, name)| *name);
    let last = |uri: &String| uri.rsplit_once('/').map(|(_, last)| last.to_owned());
    let code = (all().find_map(|p| p.code.clone()))
        .or_else(|| all().find_map(|p| p.r#type.as_ref().and_then(last)))
        .or_else(|| problems.first().and_then(|problem| problem.error.clone()))
        .or_else(|| named().map(str::to_owned));

    let mut said = VendorError::default();
    if code.as_deref() == Some("326") {
        let meaning = MEANINGS_OF_326.iter().find(|(piece, _)| words().any(|words| words.contains(piece)));
        said.class = meaning.map(|(_, class)| *class);
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let rates = RateLimits::read("", &answer.headers);
        // Both times are X's own, so a wrong clock of ours does no harm.
        let now = date(&answer.headers);
        let used_up = || rates.all().filter(|rate| rate.remaining == 0);
        let reset = used_up().filter_map(|rate| rate.reset).max();
        said.retry_after = reset.zip(now).map(|(reset, now)| reset.since(now).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX));
        if [rates.user_day, rates.app_day].iter().flatten().any(|rate| rate.remaining == 0) {
            said.class = Some(ErrorClass::new(ErrorKind::QuotaExceeded).retry(None));
        }
    }
    said.code = code.map(Cow::Owned);
    said.trace = answer.headers.get("x-transaction-id").and_then(|id| id.to_str().ok()).map(Cow::Borrowed);
    said.help = Some(Cow::Borrowed("https://docs.x.com/x-api/fundamentals/response-codes-and-errors"));
    said
}

/// The members of an object, each to be read by itself, so that a strange one costs nothing beside it.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// All the shapes of X's errors in one: a problem, a list of problems, the v1.1 pair of code and message, bare or in
/// a list, and that of OAuth 2.0.
struct Problem {
    r#type: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    message: Option<String>,
    error: Option<String>,
    status: Option<String>,
}

impl Problem {
    /// The problem that a body is, and those that it lists.
    fn of(body: &str) -> Vec<Self> {
        let Ok(members) = serde_json::from_str::<Members<'_>>(body) else { return Vec::new() };
        std::iter::once(Self::read(&members)).chain(Self::listed(&members)).collect()
    }

    /// The problems under `errors` that say anything.
    fn listed(members: &Members<'_>) -> Vec<Self> {
        let listed = members.get("errors").and_then(|listed| serde_json::from_str::<Vec<&RawValue>>(listed.get()).ok());
        let listed = listed.unwrap_or_default().into_iter();
        let objects = listed.filter_map(|problem| serde_json::from_str::<Members<'_>>(problem.get()).ok());
        objects.filter(|members| !members.is_empty()).map(|members| Self::read(&members)).collect()
    }

    fn read(members: &Members<'_>) -> Self {
        let text = |name| serde_json::from_str::<Str<'_>>(members.get(name)?.get()).ok().map(Str::into_string);
        Self {
            r#type: text("type"),
            title: text("title"),
            detail: text("detail"),
            code: text("code"),
            message: text("message"),
            error: text("error"),
            status: text("status"),
        }
    }

    /// The status that it states, if it is that of a refusal or a fault.
    fn status(&self) -> Option<StatusCode> {
        let status = StatusCode::from_u16(self.status.as_deref()?.parse().ok()?).ok()?;
        Some(status).filter(|status| status.is_client_error() || status.is_server_error())
    }
}

lenient! {
    /// X's answer to a message.
    struct Said<'a> {
        data: Option<Created<'a>>,
    }

    /// What X made of a message that it accepted.
    struct Created<'a> {
        dm_event_id: Text<'a>,
        dm_conversation_id: Text<'a>,
    }
}

/// A message: no empty text, no nulls and no other keys.
#[derive(Serialize)]
pub(super) struct Outgoing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<[Attachment<'a>; 1]>,
}

#[derive(Serialize)]
struct Attachment<'a> {
    media_id: &'a str,
}

impl<'a> Outgoing<'a> {
    fn new(text: Option<&'a str>, media_id: Option<&'a str>) -> Self {
        let text = text.filter(|text| !text.trim().is_empty());
        Self { text, attachments: media_id.map(|media_id| [Attachment { media_id }]) }
    }
}

/// A new conversation of several people.
#[derive(Serialize)]
pub(super) struct Group<'a> {
    conversation_type: &'static str,
    participant_ids: Vec<&'a str>,
    message: Outgoing<'a>,
}

impl<'a> Group<'a> {
    pub(super) fn new(people: &'a [XUser], text: &'a str) -> Self {
        Self {
            conversation_type: "Group",
            participant_ids: people.iter().map(XUser::id).collect(),
            message: Outgoing::new(Some(text), None),
        }
    }
}

#[derive(Serialize)]
struct Initialize<'a> {
    media_type: &'a str,
    total_bytes: u64,
    media_category: &'static str,
}

/// A file on its way up.
#[derive(Deserialize)]
struct Upload {
    #[serde(default)]
    id: String,
    expires_after_secs: Option<u64>,
    processing_info: Option<Processing>,
}

#[derive(Deserialize)]
struct Processing {
    state: String,
    check_after_secs: Option<u64>,
}
