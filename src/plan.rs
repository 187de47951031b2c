//! Offline plans of messages.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::media::too_large;
use crate::medium::{sms, whatsapp};
use crate::model::address::Medium;
use crate::model::capability::{ChoiceLimits, MediaLimits, MediaRule, TextLimit, Unit};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::info::Info;
pub use crate::model::message::Loss;
use crate::model::message::{
    Choice, ContactCard, Content, Degradation, InfoField, InfoRequest, Link, Location, Media, MediaKind, MediaSource,
    Message, Reaction, Template, TemplateButton, TemplateHeader,
};

/// The result of planning a message for a channel: pure, offline, and consistent with `send`.
///
/// ```
/// use civic_messaging::{Address, ChannelExt, Message, Mock};
/// use civic_messaging::message::Media;
///
/// let to = Address::phone("07700 900123")?;
/// let sms = Mock::sms().plan(&Message::text(to.clone(), "Mae’r casgliad ddydd Mawrth."));
/// assert_eq!(sms.segments(), Some(1));
/// assert_eq!(sms.encoding(), Some(civic_messaging::medium::sms::Encoding::Ucs2));
///
/// let three = ["a", "b", "c"].map(|name| Media::image(format!("https://example.org/{name}.jpg")));
/// let parts = Mock::whatsapp().plan(&Message::media(to, three).key("case-1")).split()?;
/// assert_eq!(parts.len(), 3);
/// assert_eq!(parts[2].key.as_deref(), Some("case-1/3"));
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Debug)]
pub struct Plan {
    messages: Vec<Message>,
    losses: Vec<Loss>,
    problems: Vec<Error>,
    notes: Vec<Note>,
    count: Option<sms::Count>,
}

/// A limitation of a plan.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The gateway composes the text from its own template, so only it knows the number of segments and the cost.
    UnknownSegments,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSegments => f.write_str("the gateway writes the text: only it knows the number of segments"),
        }
    }
}

impl Plan {
    pub(crate) fn new(message: &Message, info: &Info) -> Self {
        let mut planner = Planner { info, losses: Vec::new(), problems: Vec::new() };
        let messages = planner.message(message);
        let Planner { losses, problems, .. } = planner;
        let texts = || messages.iter().filter_map(|message| message.content.as_text());
        let sms = info.medium == Medium::Sms;
        let by_gateway =
            |message: &Cow<'_, Message>| matches!(message.content, Content::Native(_) | Content::Template(_));
        let notes = if sms && messages.iter().any(by_gateway) { vec![Note::UnknownSegments] } else { Vec::new() };
        let count = (sms && notes.is_empty())
            .then(|| {
                let sent = |text| info.rewrites.map_or(Cow::Borrowed(text), |rewrite| rewrite(text));
                texts().map(|text| sms::count(&sent(text))).max_by_key(sms::Count::segments)
            })
            .flatten();
        Self { messages: messages.into_iter().map(Cow::into_owned).collect(), losses, problems, notes, count }
    }

    /// Returns the number of messages required.
    pub fn parts(&self) -> usize {
        self.messages.len()
    }

    /// Returns the encoding of the text, on SMS.
    pub fn encoding(&self) -> Option<sms::Encoding> {
        self.count.map(|count| count.encoding())
    }

    /// Returns the number of SMS segments that the text takes and is charged as; 0 on other media.
    ///
    /// `None` if only the gateway knows it, because it composes the text from its own template; [`notes`](Self::notes)
    /// then includes [`Note::UnknownSegments`]. An estimate must not count that as 0.
    pub fn segments(&self) -> Option<usize> {
        self.notes.is_empty().then(|| self.count.map_or(0, |count| count.segments()))
    }

    /// Returns the limitations of the plan.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns the losses.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Returns the reasons why it cannot be sent; empty if it can.
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// Returns the messages to send, each with its own key and outcome.
    ///
    /// There are several where the channel cannot carry all of the content in one; the parts of `key` are `key/1`,
    /// `key/2` and so on.
    ///
    /// # Errors
    /// The first reason why it cannot be sent.
    pub fn split(self) -> Result<Vec<Message>> {
        match self.problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(self.messages),
        }
    }
}

impl Info {
    /// Returns the message as this channel will send it. Every `send` starts with this call.
    ///
    /// Degrades the content where the message allows it, replaces the key with the [`reference`](Self::reference), and
    /// borrows if nothing changes.
    ///
    /// # Errors
    /// The first reason why it cannot be sent, with the field and the rule;
    /// [`Outcome::NotSent`](crate::Outcome::NotSent). This includes a message that needs several sends (see
    /// [`Plan::split`]) or whose `not_after` has passed.
    pub fn prepare<'m>(&self, message: &'m Message, now: Timestamp) -> Result<Cow<'m, Message>> {
        if message.not_after.is_some_and(|not_after| now > not_after) {
            return Err(Error::invalid("not_after", "has passed").with_gateway(self.gateway));
        }
        self.check(message)
    }

    /// Returns the message as this channel will send it in one call.
    pub(crate) fn check<'m>(&self, message: &'m Message) -> Result<Cow<'m, Message>> {
        let mut planner = Planner { info: self, losses: Vec::new(), problems: Vec::new() };
        // Fast path: most messages are plain texts that need no change and no allocation.
        if let Content::Text(text) = &message.content
            && message.reply_to.is_none()
        {
            planner.envelope(message);
            planner.message_rule(message);
            if planner.problems.is_empty() && planner.fits_text(text).is_ok() {
                return Ok(self.with_reference(Cow::Borrowed(message)));
            }
            planner.problems.clear();
        }
        let messages = planner.message(message);
        if let Some(problem) = planner.problems.into_iter().next() {
            return Err(problem.with_gateway(self.gateway));
        }
        let parts = messages.len();
        let mut messages = messages.into_iter();
        match (messages.next(), messages.next()) {
            (Some(message), None) => Ok(self.with_reference(message)),
            _ => Err(Error::unsupported(format!("needs {parts} messages: send each of `plan().split()`"))
                .with_field("content")
                .with_gateway(self.gateway)),
        }
    }
}

struct Planner<'i> {
    info: &'i Info,
    losses: Vec<Loss>,
    problems: Vec<Error>,
}

impl Planner<'_> {
    fn message<'m>(&mut self, message: &'m Message) -> Vec<Cow<'m, Message>> {
        self.envelope(message);
        let mut whole = Cow::Borrowed(message);
        if message.reply_to.is_some() && !self.info.capability.reply_to {
            if message.allows(Degradation::DropQuote) {
                self.losses.push(Loss::Degraded(Degradation::DropQuote));
                whole.to_mut().reply_to = None;
            } else {
                self.unsupported("reply_to", "cannot quote a message");
            }
        }
        if let Some(content) = self.degraded(message) {
            whole = Cow::Owned(whole.into_owned().with_content(content));
        }
        self.message_rule(&whole);
        let pieces = self.content(&whole);
        match <[Content; 1]>::try_from(pieces) {
            Ok([content]) if content == whole.content => vec![whole],
            Ok([content]) => vec![Cow::Owned(whole.into_owned().with_content(content))],
            Err(pieces) if pieces.is_empty() => vec![whole],
            Err(pieces) => {
                let part = |(n, content)| whole.part(n + 1, content);
                let parts: Vec<_> = pieces.into_iter().enumerate().map(part).collect();
                // Each part is sent separately, so each must pass the check of its own send.
                if self.problems.is_empty() {
                    self.problems.extend(parts.iter().find_map(|part| self.info.check(part).err()));
                }
                parts.into_iter().map(Cow::Owned).collect()
            }
        }
    }

    /// Applies the adapter's message rule.
    fn message_rule(&mut self, message: &Message) {
        if let Some(rule) = self.info.message_rule
            && let Err(problem) = rule(&self.info.with_reference(Cow::Borrowed(message)))
        {
            self.problems.push(problem);
        }
    }

    /// Checks everything but the content.
    fn envelope(&mut self, message: &Message) {
        let info = self.info;
        if !message.to.fits(&info.medium) {
            let rule = format!("is not an address that {} can send to", info.medium);
            self.problems.push(Error::recipient(rule));
        } else if matches!(message.to, crate::model::address::Address::Conversation(_)) && !info.capability.conversation
        {
            self.unsupported("to", "cannot send to group conversations");
        } else if let Some(Err(rule)) = info.address_rule.map(|rule| rule(&message.to)) {
            self.problems.push(Error::recipient(rule));
        }
        if message.reply_to.as_ref().is_some_and(|id| id.as_str().is_empty()) {
            self.invalid("reply_to", "is empty; set it to the id of a message");
        }
        if let Some(key) = &message.key
            && (key.is_empty() || key.contains(char::is_control))
        {
            self.invalid("key", "must have a character at least, and no control characters");
        }
    }

    /// Degrades the content where the channel cannot carry it and the message allows it.
    fn degraded(&mut self, message: &Message) -> Option<Content> {
        let can = &self.info.capability;
        let link_only = |media: &[Media]| media.iter().all(|m| matches!(m.source, MediaSource::Link(_)));
        let (degradation, content) = match &message.content {
            // A file or location header has no text form and must not be lost.
            Content::Choice(Choice {
                header: Some(TemplateHeader::Location(_) | TemplateHeader::Media(_)), ..
            }) => return None,
            Content::Choice(choice) if can.choice.is_none_or(|limits| is_list(choice) && limits.rows == 0) => {
                (Degradation::ChoiceToText, choice_as_text(choice))
            }
            Content::Link(link) if can.link.is_none() => (Degradation::LinkToText, link_as_text(link)),
            Content::Location(place) if !can.location => (Degradation::LocationToText, location_as_text(place)),
            Content::Media(media) if can.media.is_none() && link_only(media) => {
                (Degradation::MediaToText, media_as_text(media))
            }
            Content::Text(text) if message.allows(Degradation::Typography) => match sms::fold(text) {
                Cow::Owned(folded) => (Degradation::Typography, Content::Text(folded)),
                Cow::Borrowed(_) => return None,
            },
            _ => return None,
        };
        message.allows(degradation).then(|| {
            self.losses.push(Loss::Degraded(degradation));
            content
        })
    }

    /// Checks the content and returns the pieces that the channel can carry.
    fn content(&mut self, message: &Message) -> Vec<Content> {
        match &message.content {
            Content::InfoRequest(request) => self.info_request(request),
            Content::Choice(choice) => self.choice(choice),
            Content::Contacts(cards) => self.contacts(cards),
            Content::Link(link) => self.link(link),
            Content::Location(place) => self.location(place),
            Content::Media(media) => return self.media(media),
            Content::Native(native) => {
                let can = self.info.capability.native && native.gateway() == self.info.wire;
                self.require(can, "native", "cannot send another gateway's native content");
            }
            Content::Reaction(reaction) => self.reaction(reaction),
            Content::Template(template) => self.template(template),
            Content::Text(text) => {
                if let Err(problem) = self.fits_text(text) {
                    self.problems.push(problem);
                }
                if let Some(Cow::Owned(sent)) = self.info.rewrites.map(|rewrite| rewrite(text)) {
                    self.losses.push(Loss::Rewritten { characters: changed(text, &sent) });
                }
            }
        }
        vec![message.content.clone()]
    }

    fn fits_text(&self, text: &str) -> Result<()> {
        let Some(limit) = self.info.capability.text else {
            return Err(Error::unsupported("this channel cannot send text").with_field("text"));
        };
        if text.trim().is_empty() {
            return Err(Error::invalid("text", "is empty"));
        }
        if let Some(length) = self.info.text_length.map(|length| length(text)) {
            return if length == 0 {
                Err(Error::invalid("text", "is empty"))
            } else {
                check_length("text", length, limit)
            };
        }
        match self.info.rewrites.map(|rewrite| rewrite(text)) {
            Some(Cow::Owned(sent)) => check_limit("text", &sent, limit),
            _ => check_limit("text", text, limit),
        }
    }

    fn media(&mut self, media: &[Media]) -> Vec<Content> {
        let Some(limits) = self.info.capability.media.clone() else {
            self.unsupported("media", "cannot send files");
            return Vec::new();
        };
        if media.is_empty() {
            self.invalid("media", "is empty");
        }
        let mut groups: Vec<Vec<Media>> = Vec::new();
        let mut pieces = Vec::new();
        for item in media {
            let mut item = Cow::Borrowed(item);
            let Some(rule) = self.file(&item, &limits, FileFields { file: "media", source: "media.source" }) else {
                continue;
            };
            if item.voice && item.kind != MediaKind::Audio {
                self.invalid("media.voice", "is for audio only");
            }
            // A caption that the medium does not support is sent before the file as a separate text.
            if rule.caption == 0
                && let Some(caption) = item.to_mut().caption.take()
            {
                pieces.extend(groups.drain(..).map(Content::Media));
                pieces.push(Content::Text(caption));
            }
            if let Some(caption) = &item.caption
                && let Err(problem) = check_limit("media.caption", caption, TextLimit::characters(rule.caption))
            {
                self.problems.push(problem);
            }
            let has_room = |group: &&mut Vec<Media>| {
                let captioned = group.iter().any(|m| m.caption.is_some());
                group.len() < limits.per_message && !(captioned && item.caption.is_some())
            };
            match groups.last_mut().filter(has_room) {
                Some(group) => group.push(item.into_owned()),
                None => groups.push(vec![item.into_owned()]),
            }
        }
        pieces.extend(groups.into_iter().map(Content::Media));
        pieces
    }

    /// Checks a file's location, type and size, and returns the rule for its kind.
    fn file(&mut self, item: &Media, limits: &MediaLimits, fields: FileFields) -> Option<MediaRule> {
        if item.description.is_some() {
            self.losses.push(Loss::Description);
        }
        let (allowed, what) = match &item.source {
            MediaSource::Link(link) => {
                if !is_web(link) {
                    self.invalid(fields.source, "is not an http or https URL");
                }
                (limits.link, "cannot send files by link")
            }
            MediaSource::Stored { .. } => (limits.stored, "cannot send files from the media store"),
            MediaSource::Gateway { gateway, .. } => {
                let here = gateway == self.info.gateway;
                (limits.gateway && here, "cannot send files held by another gateway")
            }
        };
        self.require(allowed, fields.source, what);
        let of_kind: Vec<_> = limits.kinds.iter().filter(|rule| rule.kind == item.kind).collect();
        let rule = match (&item.source, of_kind.as_slice()) {
            (_, []) => {
                let what = format!("this channel cannot send {} files", item.kind);
                self.problems.push(Error::unsupported(what).with_field(fields.file));
                return None;
            }
            (MediaSource::Stored { mime, .. }, rules) => {
                let base = mime.split(';').next().unwrap_or_default().trim();
                rules.iter().copied().find(|rule| rule.types.is_empty() || rule.types.contains(&base))
            }
            (_, [rule, ..]) => Some(*rule),
        };
        let Some(rule) = rule else {
            let rule = format!("has a media type that this channel does not accept as {}", item.kind);
            self.problems.push(Error::invalid(fields.file, rule));
            return None;
        };
        if let MediaSource::Stored { len, .. } = item.source {
            if len > rule.max {
                self.problems.push(too_large(rule.max).with_field(fields.file));
            } else if len == 0 {
                self.invalid(fields.file, "is an empty file");
            }
        }
        Some(*rule)
    }

    /// Checks a file that is the header of a choice or a template.
    fn header_file(&mut self, item: &Media, fields: FileFields) {
        match self.info.capability.media.clone() {
            None => self.unsupported(fields.file, "cannot send files"),
            Some(limits) if matches!(item.kind, MediaKind::Document | MediaKind::Image | MediaKind::Video) => {
                self.file(item, &limits, fields);
            }
            Some(_) => self.invalid(fields.file, "must be an image, a video or a document"),
        }
        if item.caption.is_some() {
            self.invalid(fields.file, "cannot have a caption here; put it into the text below");
        }
    }

    fn contacts(&mut self, cards: &[ContactCard]) {
        self.require(self.info.capability.contacts, "content", "cannot send contact cards");
        if cards.is_empty() || cards.iter().any(|card| card.name.trim().is_empty()) {
            self.invalid("contacts", "must hold at least one card, each with a name");
        }
        let mut values = cards.iter().flat_map(|card| [&card.phones, &card.emails, &card.urls]).flatten();
        if values.any(|value| value.value.trim().is_empty()) {
            self.invalid("contacts", "contain an empty number or address");
        }
    }

    fn reaction(&mut self, reaction: &Reaction) {
        self.require(self.info.capability.reaction, "content", "cannot send reactions");
        if reaction.to.as_str().is_empty() {
            self.invalid("reaction.to", "is empty; set it to the id of a message");
        }
        match reaction.emoji.as_deref() {
            Some(emoji) if emoji.trim().is_empty() => {
                self.invalid("reaction.emoji", "is empty; use Reaction::remove to remove a reaction");
            }
            Some(emoji) if !whatsapp::is_emoji(emoji) => {
                self.invalid("reaction.emoji", "must be exactly one emoji and nothing else");
            }
            _ => {}
        }
    }

    fn choice(&mut self, choice: &Choice) {
        let Some(limits) = self.info.capability.choice else {
            return self
                .unsupported("choice", "cannot send choices; allow Degradation::ChoiceToText to send numbered lines");
        };
        let ChoiceLimits { buttons, rows, .. } = limits;
        let list = is_list(choice);
        let count = choice.rows().count();
        if list && rows == 0 {
            return self
                .unsupported("choice", "cannot send lists; allow Degradation::ChoiceToText to send numbered lines");
        }
        let max = if list { rows } else { buttons };
        if !(1..=max).contains(&count) {
            self.problems.push(Error::invalid("choice", format!("has {count} options; the limit is 1 to {max}")));
        }
        self.limited("choice.body", &choice.body, if list { limits.list_body } else { limits.button_body });
        if let Some(label) = &choice.list_label {
            self.limited("choice.list_label", label, limits.list_label);
        }
        match &choice.header {
            Some(_) if limits.header == 0 => self.unsupported("choice.header", "cannot send a header above a choice"),
            Some(TemplateHeader::Text(text)) => self.limited("choice.header", text, limits.header),
            Some(_) if list => self.invalid("choice.header", "must be text above a list"),
            Some(TemplateHeader::Location(_)) => self.invalid("choice.header", "cannot be a location"),
            Some(TemplateHeader::Media(file)) => {
                self.header_file(file, FileFields { file: "choice.header", source: "choice.header.source" });
            }
            None => {}
        }
        match &choice.footer {
            Some(_) if limits.footer == 0 => self.unsupported("choice.footer", "cannot send a footer under a choice"),
            Some(footer) => self.limited("choice.footer", footer, limits.footer),
            None => {}
        }
        let titled = choice.sections.iter().all(|section| section.title.is_some());
        if list && choice.sections.len() > 1 && !titled {
            self.invalid("choice.sections", "must each have a title when there are several");
        }
        if !list && choice.sections.iter().any(|section| section.title.is_some()) {
            self.invalid("choice.sections.title", "is for lists only");
        }
        if choice.sections.iter().any(|section| section.rows.is_empty()) {
            self.invalid("choice.sections", "must each have at least one option");
        }
        for title in choice.sections.iter().filter_map(|section| section.title.as_ref()).filter(|_| list) {
            self.limited("choice.sections.title", title, limits.section_title);
        }
        let (mut ids, mut titles) = (HashSet::new(), HashSet::new());
        for row in choice.rows() {
            self.limited("choice.id", &row.id, if list { limits.row_id } else { limits.button_id });
            if self.info.medium == Medium::WhatsApp && row.id.trim() != row.id && !row.id.trim().is_empty() {
                self.invalid("choice.id", "must not start or end with a space");
            }
            self.limited("choice.title", &row.title, if list { limits.row_title } else { limits.button_title });
            match &row.description {
                Some(_) if !list => self.invalid("choice.description", "is for lists only"),
                Some(text) => self.limited("choice.description", text, limits.row_description),
                None => {}
            }
            if !ids.insert(&row.id) || (!titles.insert(&row.title) && !list) {
                self.invalid("choice", "has two identical options");
            }
        }
    }

    fn link(&mut self, link: &Link) {
        let Some(label) = self.info.capability.link else {
            return self
                .unsupported("link", "cannot send labelled links; allow Degradation::LinkToText to send the URL");
        };
        self.limited("link.label", &link.label, label);
        self.limited("link.body", &link.body, whatsapp::BODY_WITH_BUTTONS_MAX);
        if let Some(footer) = &link.footer {
            self.limited("link.footer", footer, whatsapp::FOOTER_MAX);
        }
        if !is_web(&link.url) {
            self.invalid("link.url", "is not an http or https URL");
        }
    }

    fn info_request(&mut self, request: &InfoRequest) {
        let can = &self.info.capability;
        match request.what {
            InfoField::Contact => self.require(can.ask_contact, "ask", "cannot request a contact card"),
            InfoField::Location => self.require(can.ask_location, "ask", "cannot request a location"),
        }
        self.limited("ask.body", &request.body, whatsapp::BODY_WITH_BUTTONS_MAX);
    }

    fn location(&mut self, place: &Location) {
        if !self.info.capability.location {
            self.unsupported("location", "cannot send locations; allow Degradation::LocationToText to send a map URL");
        }
        self.coordinates("location", place);
    }

    fn coordinates(&mut self, field: &'static str, place: &Location) {
        let is_valid = (-90.0..=90.0).contains(&place.latitude) && (-180.0..=180.0).contains(&place.longitude);
        if !is_valid {
            self.invalid(field, "is out of range: latitude is -90 to 90, longitude -180 to 180");
        }
    }

    fn template(&mut self, template: &Template) {
        let Some(limits) = self.info.capability.template else {
            return self.unsupported("template", "cannot send templates");
        };
        // Meta's own names and components. Other WhatsApp gateways file a template under their own id.
        let by_name = self.info.medium == Medium::WhatsApp && limits.components;
        match template.native.get(self.info.gateway) {
            Some(id) if by_name => {
                if let Err(rule) = whatsapp::template_name(id) {
                    self.invalid("template.native", rule);
                }
            }
            None if template.name.trim().is_empty() => self.invalid("template.name", "is empty"),
            None if by_name => {
                if let Err(rule) = whatsapp::template_name(&template.name) {
                    self.invalid("template.name", rule);
                }
            }
            _ => {}
        }
        match &template.language {
            None if limits.language => self.invalid("template.language", "must be given, such as en_GB"),
            Some(code) if self.info.medium == Medium::WhatsApp => {
                if let Err(rule) = whatsapp::language(code) {
                    self.invalid("template.language", rule);
                }
            }
            _ => {}
        }
        let named = template.parameters.iter().filter(|parameter| parameter.name.is_some()).count();
        let positional = template.parameters.len() - named;
        if named > 0 && positional > 0 {
            self.invalid("template.parameters", "must be either all named or all positional");
        } else if named > 0 && !limits.named {
            self.unsupported("template.parameters", "cannot send named parameters");
        } else if positional > 0 && !limits.positional {
            self.unsupported("template.parameters", "cannot send positional parameters");
        }
        let mut names = HashSet::new();
        for parameter in &template.parameters {
            match parameter.name.as_deref() {
                Some(name) if name.trim().is_empty() => self.invalid("template.parameters", "have an empty name"),
                Some(name) if !names.insert(name) => self.invalid("template.parameters", "contain a duplicate name"),
                Some(name) if by_name && whatsapp::template_name(name).is_err() => {
                    let rule = "must have names of lowercase letters, digits and underscores, such as first_name";
                    self.invalid("template.parameters", rule);
                }
                _ => {}
            }
            if self.info.medium == Medium::WhatsApp
                && let Err(rule) = whatsapp::template_parameter(&parameter.value)
            {
                self.invalid("template.parameters", rule);
            }
        }
        let has_header = template.header.is_some() || template.header_name.is_some();
        if !limits.components && (has_header || !template.buttons.is_empty()) {
            self.unsupported("template", "cannot send template headers and buttons");
        } else if by_name {
            self.template_header(template, named, positional);
            self.template_buttons(&template.buttons);
        }
    }

    fn template_header(&mut self, template: &Template, named: usize, positional: usize) {
        match &template.header {
            Some(TemplateHeader::Location(place)) => self.coordinates("template.header", place),
            Some(TemplateHeader::Media(file)) => {
                self.header_file(file, FileFields { file: "template.header", source: "template.header.source" });
            }
            Some(TemplateHeader::Text(text)) => match whatsapp::template_parameter(text) {
                Ok(()) => self.limited("template.header", text, whatsapp::HEADER_MAX),
                Err(rule) => self.invalid("template.header", rule),
            },
            None => {}
        }
        let text = matches!(template.header, Some(TemplateHeader::Text(_)));
        match template.header_name.as_deref() {
            None if text && named > 0 => {
                self.invalid("template.header_name", "is required: this template has named parameters");
            }
            Some(_) if !text => self.invalid("template.header_name", "is only for a text header"),
            Some(_) if positional > 0 => {
                self.invalid("template.header_name", "must not be set: this template has positional parameters");
            }
            Some(name) => {
                if let Err(rule) = whatsapp::template_name(name) {
                    self.invalid("template.header_name", rule);
                }
            }
            None => {}
        }
    }

    fn template_buttons(&mut self, buttons: &[TemplateButton]) {
        let mut indices = HashSet::new();
        let mut codes = 0;
        for button in buttons {
            let index = match button {
                TemplateButton::CopyCode { index, code } => {
                    codes += 1;
                    self.limited("template.buttons.code", code, whatsapp::COUPON_CODE_MAX);
                    index
                }
                TemplateButton::QuickReply { index, payload } => {
                    if payload.trim().is_empty() {
                        self.invalid("template.buttons.payload", "is empty");
                    }
                    index
                }
                TemplateButton::Url { index, suffix } => {
                    if let Err(rule) = whatsapp::template_parameter(suffix) {
                        self.invalid("template.buttons.suffix", rule);
                    }
                    index
                }
            };
            if usize::from(*index) >= whatsapp::TEMPLATE_BUTTONS_MAX {
                self.invalid("template.buttons.index", "must be from 0 to 9");
            } else if !indices.insert(*index) {
                self.invalid("template.buttons.index", "is used by two buttons");
            }
        }
        if codes > 1 {
            self.invalid("template.buttons", "has two copy-code buttons; the limit is one");
        }
    }

    fn limited(&mut self, field: &'static str, text: &str, max: usize) {
        if text.trim().is_empty() {
            self.invalid(field, "is empty");
        } else if let Err(problem) = check_limit(field, text, TextLimit::characters(max)) {
            self.problems.push(problem);
        }
    }

    fn invalid(&mut self, field: &'static str, rule: &'static str) {
        self.problems.push(Error::invalid(field, rule));
    }

    fn unsupported(&mut self, field: &'static str, what: &'static str) {
        self.problems.push(Error::new(ErrorKind::Unsupported, format!("this channel {what}")).with_field(field));
    }

    fn require(&mut self, can: bool, field: &'static str, what: &'static str) {
        if !can {
            self.unsupported(field, what);
        }
    }
}

/// The names of a file and its source in an error.
#[derive(Clone, Copy)]
struct FileFields {
    file: &'static str,
    source: &'static str,
}

fn check_limit(field: &'static str, text: &str, limit: TextLimit) -> Result<()> {
    let length = match limit.unit {
        Unit::Bytes => text.len(),
        // No text has more characters or UTF-16 code units than bytes, so most texts need no count.
        Unit::Characters | Unit::Utf16 if text.len() <= limit.max => return Ok(()),
        Unit::Characters => text.chars().count(),
        Unit::Segments => sms::count(text).segments(),
        Unit::Utf16 => text.encode_utf16().count(),
    };
    check_length(field, length, limit)
}

fn check_length(field: &'static str, len: usize, limit: TextLimit) -> Result<()> {
    let unit = match limit.unit {
        Unit::Bytes => "bytes",
        Unit::Characters => "characters",
        Unit::Segments => "SMS segments",
        Unit::Utf16 => "UTF-16 code units",
    };
    if len > limit.max {
        return Err(Error::invalid(field, format!("has {len} {unit}; the limit is {}", limit.max)));
    }
    Ok(())
}

fn is_web(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    uri.is_ok_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
}

/// Returns the number of characters of `text` that `sent` has fewer of.
pub(crate) fn changed(text: &str, sent: &str) -> usize {
    let mut left: HashMap<char, usize> = HashMap::new();
    sent.chars().for_each(|c| *left.entry(c).or_default() += 1);
    let is_changed = |c: &char| match left.get_mut(c) {
        Some(n) if *n > 0 => {
            *n -= 1;
            false
        }
        _ => true,
    };
    text.chars().filter(is_changed).count()
}

fn is_list(choice: &Choice) -> bool {
    choice.list_label.is_some()
}

fn choice_as_text(choice: &Choice) -> Content {
    let mut text = String::new();
    if let Some(TemplateHeader::Text(header)) = &choice.header {
        text.push_str(&format!("{header}\n"));
    }
    text.push_str(&choice.body);
    for (n, row) in choice.rows().enumerate() {
        text.push_str(&format!("\n{}. {}", n + 1, row.title));
        if let Some(description) = &row.description {
            text.push_str(&format!(" ({description})"));
        }
    }
    if let Some(footer) = &choice.footer {
        text.push_str(&format!("\n{footer}"));
    }
    Content::Text(text)
}

fn link_as_text(link: &Link) -> Content {
    let mut text = format!("{}\n{}: {}", link.body, link.label, link.url);
    if let Some(footer) = &link.footer {
        text.push_str(&format!("\n{footer}"));
    }
    Content::Text(text)
}

fn location_as_text(place: &Location) -> Content {
    let map = format!("https://www.openstreetmap.org/?mlat={}&mlon={}", place.latitude, place.longitude);
    let words = [place.name.as_deref(), place.address.as_deref(), Some(map.as_str())];
    Content::Text(words.into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

fn media_as_text(media: &[Media]) -> Content {
    let lines = media.iter().flat_map(|item| {
        let link = match &item.source {
            MediaSource::Link(link) => Some(link.as_str()),
            _ => None,
        };
        [item.caption.as_deref().or(item.description.as_deref()), link]
    });
    Content::Text(lines.flatten().collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::address::Address;
    use crate::model::capability::TemplateLimits;

    fn info(medium: Medium) -> Info {
        Info::new("acme", medium, "desk").with_capability(|can| {
            can.text = Some(TextLimit::utf16(4));
            can.template = Some(TemplateLimits { language: false, positional: true, named: true, components: false });
        })
    }

    fn message(content: Content) -> Message {
        Message::new(Address::phone("07700 900123").unwrap(), content)
    }

    #[test]
    fn segments_of_a_template_are_unknown() {
        let template = || message(Content::Template(Template::new("bin_day")));
        let plan = Plan::new(&template(), &info(Medium::Sms));
        assert_eq!((plan.segments(), plan.notes(), plan.problems().len()), (None, &[Note::UnknownSegments][..], 0));
        assert!(plan.notes()[0].to_string().contains("segments"));
        let plan = Plan::new(&template(), &info(Medium::WhatsApp));
        assert_eq!((plan.segments(), plan.notes()), (Some(0), &[][..]));
        let plan = Plan::new(&message("Bins".into()), &info(Medium::Sms));
        assert_eq!((plan.segments(), plan.notes()), (Some(1), &[][..]));
    }

    #[test]
    fn utf16_limit_counts_an_emoji_twice() {
        let info = info(Medium::Sms);
        assert!(info.check(&message("😀😀".into())).is_ok());
        for long in ["😀😀😀", "😀😀a", "abcde"] {
            let error = info.check(&message(long.into())).unwrap_err();
            assert_eq!(error.field(), Some("text"), "{long}");
            assert!(error.to_string().contains("UTF-16"), "{error}");
        }
    }

    #[test]
    fn message_rule_holds_for_plan_and_send_alike() {
        let info = info(Medium::Sms).with_message_rule(|message| match &message.content {
            Content::Text(text) if text == "no" => Err(Error::invalid("text", "is refused")),
            _ => Ok(()),
        });
        let refused = message("no".into());
        assert_eq!(Plan::new(&refused, &info).problems()[0].field(), Some("text"));
        assert_eq!(info.check(&refused).unwrap_err().field(), Some("text"));
        assert!(info.check(&message("yes".into())).is_ok());
    }

    #[test]
    fn long_key_is_checked_as_its_reference() {
        let short = |message: &Message| match message.key.as_deref() {
            Some(key) if key.len() > 20 => Err(Error::invalid("key", "is over 20 bytes")),
            _ => Ok(()),
        };
        let info = info(Medium::Sms).with_capability(|can| can.max_reference = Some(20)).with_message_rule(short);
        let long = message("yes".into()).key("k".repeat(21));
        let sent = info.prepare(&long, crate::Timestamp::default()).unwrap();
        assert_eq!(sent.key.as_deref(), info.reference(&long).as_deref());
        assert_ne!(sent.key, long.key);
        // The message itself keeps the caller's key.
        let plan = Plan::new(&long, &info);
        assert!(plan.problems().is_empty());
        assert_eq!(plan.split().unwrap()[0].key, long.key);
    }

    #[test]
    fn key_is_refused_if_empty_or_with_a_control_character() {
        for key in ["", "line\nbreak", "\u{85}"] {
            let error = info(Medium::Sms).check(&message("yes".into()).key(key)).unwrap_err();
            assert_eq!(error.field(), Some("key"), "{key:?}");
        }
    }

    #[test]
    fn plan_refuses_a_part_that_send_would_refuse() {
        let info = info(Medium::Messenger)
            .with_capability(|can| can.media = Some(MediaLimits::messenger()))
            .with_message_rule(|message| match &message.content {
                Content::Text(text) if text == "no" => Err(Error::invalid("text", "is refused")),
                _ => Ok(()),
            });
        let to = || Address::messenger("6000000000000001").unwrap();
        let file = |caption: &str| Message::media(to(), [Media::image("https://example.org/a.png").caption(caption)]);
        // A caption is sent before the file as a separate text of at most four units.
        for caption in ["no", "too long"] {
            assert_eq!(Plan::new(&file(caption), &info).problems().first().and_then(Error::field), Some("text"));
        }
        assert_eq!(Plan::new(&file("yes"), &info).split().unwrap().len(), 2);
    }

    proptest! {
        /// Plan and check agree on every message, and every part of a plan passes the check of its own send.
        #[test]
        fn plan_and_check_agree(
            key in "\\PC{0,40}",
            limit in proptest::option::of(0usize..40),
            texts in proptest::collection::vec(proptest::option::of("[a-d]{0,6}"), 1..4),
        ) {
            let info = info(Medium::Messenger)
                .with_capability(|can| {
                    can.max_reference = limit;
                    can.media = Some(MediaLimits::messenger());
                })
                .with_message_rule(|message| match (&message.content, &message.key) {
                    (Content::Text(text), _) if text.contains('d') => Err(Error::invalid("text", "is refused")),
                    (_, Some(key)) if key.contains('d') => Err(Error::invalid("key", "is refused")),
                    _ => Ok(()),
                });
            let file = |caption: Option<String>| Media {
                caption, ..Media::image("https://example.org/a.png")
            };
            let to = Address::messenger("6000000000000001").unwrap();
            let message = Message::media(to, texts.into_iter().map(file)).key(key);
            let (plan, checked) = (Plan::new(&message, &info), info.check(&message));
            match plan.split() {
                Ok(parts) => {
                    prop_assert_eq!(checked.is_ok(), parts.len() == 1);
                    for part in &parts {
                        prop_assert!(info.check(part).is_ok());
                    }
                }
                Err(problem) => {
                    let field = checked.err().and_then(|error| error.field().map(str::to_owned));
                    prop_assert_eq!(field.as_deref(), problem.field());
                }
            }
        }
    }

    #[test]
    fn text_length_of_the_gateway_is_what_counts() {
        let mut info = info(Medium::Sms);
        info.text_length = Some(|text| text.trim().len());
        assert!(info.check(&message(" abcd   ".into())).is_ok());
        assert!(info.check(&message("abcde".into())).is_err());
        info.text_length = Some(|_| 0);
        assert_eq!(info.check(&message("\u{200B}".into())).unwrap_err().field(), Some("text"));
    }
}
