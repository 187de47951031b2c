//! Multipart forms with files (RFC 7578), streamed.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderValue;

use super::Body;
use crate::model::error::Result;
use crate::model::random::Random;

/// A multipart form with one file, streamed as it is sent.
///
/// ```
/// use civic_messaging::random::SystemRandom;
/// use civic_messaging::media::MediaStream;
/// use civic_messaging::transport::Multipart;
///
/// let photo = MediaStream::from_bytes("image/png", vec![1, 2, 3]);
/// let form = Multipart::new(&SystemRandom)?.text("type", "image/png");
/// let (content_type, body) = form.file("file", "photo.png", "image/png", photo.into_body());
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Debug)]
pub struct Multipart {
    boundary: String,
    head: String,
}

impl Multipart {
    /// Creates an empty form with a random boundary that no file can contain on purpose.
    ///
    /// # Errors
    /// If the source has no randomness.
    pub fn new(random: &dyn Random) -> Result<Self> {
        let mut nonce = [0; 16];
        random.fill(&mut nonce)?;
        Ok(Self { boundary: format!("{:032x}", u128::from_be_bytes(nonce)), head: String::new() })
    }

    /// Adds a field.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        let (boundary, name) = (&self.boundary, quoted(name));
        let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.head.push_str(&part);
        self
    }

    /// Adds the file and ends the form; returns the value of `Content-Type` and the body.
    pub fn file(self, name: &str, filename: &str, mime: &str, file: Body) -> (HeaderValue, Body) {
        let (content_type, head, tail) = self.around(name, filename, mime);
        let len = file.len().map(|len| len + head.len() as u64 + tail.len() as u64);
        let parts = Parts { now: Body::from(head), then: vec![Body::from(tail), file] };
        (content_type, Body::stream(Box::pin(parts), len))
    }

    /// As [`file`](Self::file), of a file in memory, so that the request can be made again.
    pub fn bytes(self, name: &str, filename: &str, mime: &str, file: &[u8]) -> (HeaderValue, Bytes) {
        let (content_type, head, tail) = self.around(name, filename, mime);
        (content_type, [head.as_bytes(), file, tail.as_bytes()].concat().into())
    }

    /// The content type, and what stands before and after the file.
    fn around(mut self, name: &str, filename: &str, mime: &str) -> (HeaderValue, String, String) {
        let (boundary, name, filename) = (&self.boundary, quoted(name), quoted(filename));
        let mime: String = mime.chars().filter(|c| !c.is_control()).collect();
        self.head.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\
             Content-Type: {mime}\r\n\r\n"
        ));
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        // The boundary is hexadecimal, which is valid in every header.
        let content_type = content_type.unwrap_or_else(|_| HeaderValue::from_static("multipart/form-data"));
        let tail = format!("\r\n--{boundary}--\r\n");
        (content_type, self.head, tail)
    }
}

/// Escapes quotes and line breaks as browsers do.
fn quoted(text: &str) -> String {
    let text = text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Bodies in sequence; the next one is last in `then`.
struct Parts {
    now: Body,
    then: Vec<Body>,
}

impl Stream for Parts {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(self.now.poll_chunk(cx)) {
                Some(piece) => return Poll::Ready(Some(piece)),
                None => match self.then.pop() {
                    Some(next) => self.now = next,
                    None => return Poll::Ready(None),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::SeededRandom;

    #[tokio::test]
    async fn form_length_is_exact_and_values_are_escaped() {
        let random = SeededRandom::new(1);
        let form = Multipart::new(&random).unwrap().text("type", "image/png");
        let (kind, mut body) = form.file("file", "a\"\r\nX: y.png", "image/png\r\nX: y", Body::from("abc".to_owned()));
        let len = body.len().unwrap();
        let mut all = Vec::new();
        while let Some(piece) = body.chunk().await {
            all.extend_from_slice(&piece.unwrap());
        }
        let text = String::from_utf8(all).unwrap();
        assert_eq!(text.len() as u64, len);
        let boundary = kind.to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
        assert_eq!(
            text.replace(boundary, "B"),
            "--B\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\nimage/png\r\n\
             --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22%0D%0AX: y.png\"\r\n\
             Content-Type: image/pngX: y\r\n\r\nabc\r\n--B--\r\n"
        );
    }
}
