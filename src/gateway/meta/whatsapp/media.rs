//! Files: uploads, and those that residents send.

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use serde::Deserialize;

use super::super::Meta;
use super::super::graph::{is_unknown_object, not_found};
use super::errors::HELP;
use crate::adapter::{Access, Credential, FetchLimits, segment};
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::medium::whatsapp;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::message::{Media, MediaRef};
use crate::transport::Multipart;

impl Meta {
    pub(in super::super) async fn upload(&self, media: &Media, bytes: MediaStream) -> Result<MediaRef> {
        if !self.info.capability.upload_media {
            return Err(Error::unsupported("this medium takes files by link").with_gateway(self.info.gateway));
        }
        let rules = self.info.capability.media.iter().flat_map(|limits| &limits.kinds);
        let rule = rules.into_iter().find(|rule| rule.kind == media.kind);
        let bytes = bytes.capped(rule.map_or(0, |rule| rule.max))?;
        let mime = bytes.mime().unwrap_or("application/octet-stream").to_owned();
        let filename = upload_name(media, &mime);
        let form = Multipart::new(&*self.context.random)?.text("messaging_product", "whatsapp").text("type", &mime);
        let (content_type, body) = form.file("file", &filename, &mime, bytes.into_body());
        let mut headers = self.headers("");
        headers.insert(CONTENT_TYPE, content_type);
        let path = format!("{}/media", self.connection.account);
        let answer = self.endpoint.call(self.endpoint.request(Method::POST, &path, headers, body)?).await?;
        let uploaded: Uploaded = answer.json()?;
        if uploaded.id.trim().is_empty() {
            return Err(answer.unreadable());
        }
        let mut held = MediaRef::new(self.info.gateway, uploaded.id);
        held.mime = Some(mime);
        held.filename = media.filename.clone();
        held.expires = Some(self.context.clock.now().plus(UPLOAD_KEPT));
        Ok(held)
    }

    pub(in super::super) async fn fetch_whatsapp(&self, media: &MediaRef) -> Result<MediaStream> {
        // The address in a webhook lives five minutes; the id lives a week.
        let at_once = match &media.url {
            Some(url) => Some(self.fetch(url).await),
            None => None,
        };
        let (stream, sha256) = match at_once {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            Some(Ok(stream)) => (stream, media.sha256),
            Some(Err(_)) | None => {
                let located = self.locate(&media.id).await?;
                let sha256 = media.sha256.or_else(|| located.sha256.as_deref()?.parse().ok());
                (self.fetch(&located.url).await?, sha256)
            }
        };
        Ok(stream.hashed(sha256.filter(|_| self.verify_hashes)))
    }

    /// Where a file is: its address, hash, type and length.
    async fn locate(&self, id: &str) -> Result<Located> {
        let id = segment("media.id", id).map_err(|error| error.with_gateway(self.info.gateway))?;
        let path = format!("{}/{id}", self.connection.root);
        let answer = self.endpoint.get(&path, self.headers("application/json")).await;
        answer.map_err(|error| if is_unknown_object(&error) { not_found(&error, HELP) } else { error })?.json()
    }

    /// A file by its address. The credential opens the whole API, so that it goes to files and nowhere else.
    async fn fetch(&self, url: &str) -> Result<MediaStream> {
        let rewritten = match url.parse::<Uri>().ok().filter(|_| self.connection.own_files) {
            Some(uri) if uri.host().is_some_and(|host| host.eq_ignore_ascii_case(FILES)) => {
                let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                Cow::Owned([self.endpoint.base().as_str(), path].concat())
            }
            _ => Cow::Borrowed(url),
        };
        let base = self.endpoint.base().path();
        let (hosts, files) = match self.connection.own_files {
            true => (&HOSTS_360DIALOG, [base, FILES_PATH].concat()),
            false => (&HOSTS, FILES_PATH.to_owned()),
        };
        let api = [base, &self.connection.root, "/"].concat();
        let credential = self.connection.authorization.clone().limited_to(|file: &FileUrl<'_>| {
            let of_files = match file.is_loopback() {
                // Where the API and its files are one host, what is not the API's.
                true => self.connection.own_files || !file.path().starts_with(&api),
                false => file.path().starts_with(&files) && (self.connection.own_files || file.host() == FILES),
            };
            if of_files { Access::Credential } else { Access::Refused }
        });
        let limits = FetchLimits { cap: whatsapp::INBOUND_BYTES_MAX, time: Duration::from_secs(120) };
        self.endpoint.fetch(&rewritten, hosts, credential, limits).await
    }
}

/// Hosts that serve Meta's files. The redirect target is unverified, and so is `cdn.fbsbx.com`: public programs show
/// that Messenger's sounds and documents lie there, and no page of Meta's says it.
pub(in super::super) const HOSTS: HostRules = HostRules { trusted: &[FILES], open: &["*.fbcdn.net", "cdn.fbsbx.com"] };

/// 360dialog's key goes to its own host alone, as Meta's token goes to none of 360dialog's.
const HOSTS_360DIALOG: HostRules =
    HostRules { trusted: &["waba-v2.360dialog.io"], open: &["*.fbcdn.net", "cdn.fbsbx.com"] };

/// The host of the files that residents send by WhatsApp, and what their paths begin with there, by Meta's examples:
/// <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media> (read
/// 2026-11-22 from stored copies).
const FILES: &str = "lookaside.fbsbx.com";
const FILES_PATH: &str = "/whatsapp_business/";

/// The name of a file in its upload, with an extension that fits its type: Meta goes by the name where the type of the
/// part does not tell, and refuses a file that it takes for `application/octet-stream`. (Public reports of error 100,
/// read 2026-11-30.)
fn upload_name(media: &Media, mime: &str) -> String {
    let base = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name = media.filename.as_deref().map(|name| name.trim().trim_end_matches('.')).filter(|name| !name.is_empty());
    let name = name.map_or_else(|| media.kind.to_string(), str::to_owned);
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
    match EXTENSIONS.iter().find(|(kind, _)| *kind == base).map(|(_, extensions)| *extensions) {
        Some(known) if extension.is_some_and(|own| known.iter().any(|one| one.eq_ignore_ascii_case(own))) => name,
        Some([first, ..]) => format!("{name}.{first}"),
        _ if extension.is_some() => name,
        _ => format!("{name}.bin"),
    }
}

/// The extensions that fit a type, the usual one first.
const EXTENSIONS: &[(&str, &[&str])] = &[
    ("application/msword", &["doc"]),
    ("application/pdf", &["pdf"]),
    ("application/vnd.ms-excel", &["xls"]),
    ("application/vnd.ms-powerpoint", &["ppt"]),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", &["pptx"]),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"]),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"]),
    ("audio/aac", &["aac"]),
    ("audio/amr", &["amr"]),
    ("audio/mp4", &["m4a", "mp4"]),
    ("audio/mpeg", &["mp3"]),
    ("audio/ogg", &["ogg", "oga", "opus"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/png", &["png"]),
    ("image/webp", &["webp"]),
    ("text/csv", &["csv"]),
    ("text/plain", &["txt", "text", "log", "csv"]),
    ("video/3gpp", &["3gp"]),
    ("video/mp4", &["mp4", "m4v"]),
];

/// The time for which Meta keeps an uploaded file.
const UPLOAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

#[derive(Deserialize)]
struct Located {
    url: String,
    #[serde(default)]
    sha256: Option<String>,
}
