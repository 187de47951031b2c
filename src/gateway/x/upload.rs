//! Chunked upload of files.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::api::{ApiRequest, numeric};
use super::{GATEWAY, X};
use crate::adapter::query;
use crate::media::MediaStream;
use crate::medium::x as rules;
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::message::{Media, MediaRef, MediaSource};
use crate::transport::Multipart;

/// The size of an upload segment. X's clients use 1 to 4 MiB; the maximum is unverified.
const CHUNK: usize = 1024 * 1024;

/// The maximum number of status requests while X processes a video.
const STATUS_CALLS_MAX: u32 = 60;

impl X {
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
        let begin = json!({ "media_type": mime, "total_bytes": len, "media_category": category });
        let answer =
            self.call(ApiRequest::post("media_initialize", "/2/media/upload/initialize").json(&begin)?).await?;
        let mut upload: Upload = self.data(&answer)?;
        // It becomes a part of further paths.
        let id = numeric("media", &upload.id).map_err(|_| answer.unreadable())?.to_owned();

        let (mut sent, mut index, mut segment) = (0, 0, Vec::new());
        while let Some(piece) = bytes.chunk().await {
            let mut piece = piece.map_err(|error| error.with_gateway(GATEWAY))?;
            sent += piece.len() as u64;
            if sent > len {
                return Err(wrong("is longer than declared"));
            }
            while !piece.is_empty() {
                segment.extend_from_slice(&piece.split_to(piece.len().min(CHUNK - segment.len())));
                if segment.len() == CHUNK {
                    self.append(&id, index, &segment).await?;
                    index += 1;
                    segment.clear();
                }
            }
        }
        if sent < len {
            return Err(wrong("is shorter than declared"));
        }
        if !segment.is_empty() {
            self.append(&id, index, &segment).await?;
        }

        let answer = self.call(ApiRequest::post("media_finalize", format!("/2/media/upload/{id}/finalize"))).await?;
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
            let query = query(&[("command", "STATUS"), ("media_id", &id)]);
            let answer = self.call(ApiRequest::get("media_status", format!("/2/media/upload?{query}"))).await?;
            upload = self.data(&answer)?;
        }
        let mut media = MediaRef::new(GATEWAY, id);
        media.expires = upload.expires_after_secs.map(|secs| self.clock.now().plus(Duration::from_secs(secs)));
        (media.mime, media.len) = (Some(mime), Some(len));
        Ok(media)
    }

    async fn append(&self, id: &str, index: u32, segment: &[u8]) -> Result<()> {
        let form = Multipart::new(&*self.random)?.text("segment_index", &index.to_string());
        let (content_type, body) = form.bytes("media", "media", "application/octet-stream", segment);
        let mut request = ApiRequest::post("media_append", format!("/2/media/upload/{id}/append"));
        (request.content_type, request.body) = (Some(content_type), body);
        self.done(request).await
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
