//! Chunked upload of files.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::api::{ApiRequest, numeric};
use super::oauth1::{nonce, query};
use super::{GATEWAY, X};
use crate::media::MediaStream;
use crate::medium::x as rules;
use crate::model::clock::Clock;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::message::{Media, MediaRef, MediaSource};

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
        let begin = Initialize { media_type: &mime, total_bytes: len, media_category: category };
        let answer =
            self.call(ApiRequest::post("media_initialize", "/2/media/upload/initialize").json(&begin)?).await?;
        let mut upload: Upload = self.data(&answer)?;
        // It becomes a part of further paths.
        let id = numeric("media", &upload.id).map_err(|_| answer.unreadable())?.to_owned();

        let boundary = nonce(&*self.random)?;
        let (mut sent, mut index, mut segment) = (0, 0, Segment::new(&boundary, 0));
        while let Some(piece) = bytes.chunk().await {
            let mut piece = piece.map_err(|error| error.with_gateway(GATEWAY))?;
            sent += piece.len() as u64;
            if sent > len {
                return Err(wrong("is longer than declared"));
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
            return Err(wrong("is shorter than declared"));
        }
        if segment.left < CHUNK {
            self.append(&id, segment, &boundary).await?;
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

    async fn append(&self, id: &str, segment: Segment, boundary: &str) -> Result<()> {
        let mut request = ApiRequest::post("media_append", format!("/2/media/upload/{id}/append"));
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        request.content_type = content_type.ok();
        request.body = segment.finish(boundary);
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
