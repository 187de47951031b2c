//! Download of residents' files.

use std::time::Duration;

use http::{HeaderValue, Method};

use super::auth::Signer;
use super::{GATEWAY, X};
use crate::adapter::{Access, Credential, FetchLimits};
use crate::media::{FileUrl, HostRules, MediaStream};
use crate::medium::x as rules;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::message::MediaRef;
use crate::model::secret::Secret;

/// Where residents' files are. The token goes nowhere else.
const HOSTS: HostRules = HostRules { trusted: &["ton.twitter.com", "ton.x.com", "api.x.com"], open: &[] };

impl X {
    /// A resident's file. X's address for it is of the v1.1 API: a signed request goes there, a token to its
    /// successor under v2.
    pub(super) async fn fetch(&self, media: &MediaRef) -> Result<MediaStream> {
        let missing = || Error::new(ErrorKind::NotFound, "X gave no address for this file; its webhooks do");
        let url = media.url.as_deref().ok_or_else(|| missing().with_field("media.url").with_gateway(GATEWAY))?;
        let base = self.endpoint.base();
        // With a token the file is asked of the base URL, and this address only says which file it is.
        let named = HOSTS.check(url, base).or_else(|error| match base.is_loopback() {
            true => HOSTS.check(url, &super::BASE_URL.parse()?),
            false => Err(error),
        });
        let (uri, _) = named.map_err(|error| error.with_gateway(GATEWAY))?;
        let place = place(uri.path()).ok_or_else(|| {
            Error::new(ErrorKind::Forbidden, "is not the address of a file in a message")
                .with_field("media.url")
                .with_gateway(GATEWAY)
        })?;
        let url = match &*self.signer {
            Signer::OAuth1 { .. } => url.to_owned(),
            Signer::OAuth2(_) => format!("{}/2/dm_conversations/media/{place}", base.as_str()),
        };
        let url = url.as_str();
        let stream = self.signer.authorise(|token| self.fetch_once(url, token)).await?;
        Ok(stream.hashed(media.sha256))
    }

    async fn fetch_once(&self, url: &str, token: Option<Secret>) -> Result<MediaStream> {
        let limits = FetchLimits { cap: rules::VIDEO_BYTES_MAX, time: Duration::from_secs(600) };
        let sign =
            |uri: &http::Uri| -> Result<Option<HeaderValue>> { self.signer.header(token.as_ref(), &Method::GET, uri) };
        // What is signed opens the whole API: it goes to files of messages alone, redirects included.
        let v2 = [self.endpoint.base().path(), "/2/dm_conversations/media/"].concat();
        let sign = sign.limited_to(|file: &FileUrl<'_>| {
            let folder = place(file.path()).and_then(|place| file.path().strip_suffix(&*place));
            let of_files = folder.is_some_and(|folder| folder == v2 || FOLDERS.contains(&folder));
            if of_files { Access::Credential } else { Access::Refused }
        });
        self.endpoint.fetch(url, &HOSTS, sign, limits).await
    }
}

/// The last three parts of a file's path, `{dm_id}/{media_id}/{resource_id}`, when nothing in the path is special.
fn place(path: &str) -> Option<String> {
    let resource = |part: &str| {
        (1..=50).contains(&part.len())
            && !matches!(part, "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    match parts.as_slice() {
        [.., dm, media, file]
            if parts.iter().all(|part| resource(part)) && rules::user_id(dm) && rules::user_id(media) =>
        {
            Some(format!("{dm}/{media}/{file}"))
        }
        _ => None,
    }
}

/// The prefixes of file paths: those in X's webhooks, and those of its site.
const FOLDERS: [&str; 2] = ["/1.1/ton/data/dm/", "/i/ton/data/dm/"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_special_segments_is_refused() {
        assert_eq!(place("/1.1/ton/data/dm/12/34/Ab3d_E-f9h.jpg").as_deref(), Some("12/34/Ab3d_E-f9h.jpg"));
        let long = format!("/dm/12/34/{}", "a".repeat(51));
        for bad in [
            "",
            "/",
            "/12/34",
            "/dm/12/34/",
            "/dm/12/34/..",
            "/dm/12/34/.",
            "/dm/../12/34/a.jpg",
            "/dm/%2e%2e/12/34/a",
            "/dm/12/x/a.jpg",
            "/dm/12/34/a%2Fb",
            "/dm/12/34/a;b",
            "//12/34/a.jpg",
            "dm/12/34/a.jpg",
            &long,
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
