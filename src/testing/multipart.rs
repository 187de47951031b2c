//! Parts of multipart forms (RFC 7578), as recordings expect them and as they arrive.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::model::digest::Digest;

/// A part of a multipart form: a field, or a file.
///
/// ```
/// use civic_messaging::testing::{Part, Step};
///
/// let upload = Step::post("/media")
///     .multipart([
///         Part::text("type", "image/png"),
///         Part::file("file", "tree.png", "image/png", &b"\x89PNG"[..]),
///     ])
///     .answers(200, r#"{"id":"F-1"}"#);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// The name of the file, if it is one.
    pub filename: Option<String>,
    /// The content type, if it has one.
    pub content_type: Option<String>,
    /// The content.
    pub body: Bytes,
}

impl Part {
    /// Creates a field.
    pub fn text(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), filename: None, content_type: None, body: value.into() }
    }

    /// Creates a file.
    pub fn file(
        name: impl Into<String>,
        filename: impl Into<String>,
        content_type: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Self {
        let (filename, content_type) = (Some(filename.into()), Some(content_type.into()));
        Self { filename, content_type, ..Self::text(name, body) }
    }

    /// Returns the first difference from the part that was expected.
    fn difference(&self, expected: &Self) -> Option<String> {
        let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
        if self.name != expected.name {
            return Some(format!("expected the name {}, got {}", expected.name, self.name));
        }
        if self.filename != expected.filename {
            let (expected, got) = (named(&expected.filename), named(&self.filename));
            return Some(format!("expected the filename {expected}, got {got}"));
        }
        if self.content_type != expected.content_type {
            let (expected, got) = (named(&expected.content_type), named(&self.content_type));
            return Some(format!("expected the content type {expected}, got {got}"));
        }
        // The content may be personal data.
        (self.body != expected.body)
            .then(|| format!("expected certain {} bytes, got {} others", expected.body.len(), self.body.len()))
    }

    /// Returns the part for a snapshot, with a digest of content that is no short text.
    pub(super) fn shown(&self) -> Value {
        let text = std::str::from_utf8(&self.body).ok().filter(|_| self.filename.is_none());
        let body = text.map_or_else(
            || json!({ "len": self.body.len(), "sha256": Digest::sha256(&self.body).to_string() }),
            Value::from,
        );
        json!({ "name": self.name, "filename": self.filename, "content_type": self.content_type, "body": body })
    }
}

/// Returns the first difference between the parts of a form and those that were expected.
pub(super) fn difference(expected: &[Part], got: Option<&[Part]>) -> Option<String> {
    let Some(got) = got else { return Some("the body is not a multipart form".to_owned()) };
    if expected.len() != got.len() {
        return Some(format!("expected {} parts, got {}", expected.len(), got.len()));
    }
    let differs =
        |(n, (expected, got)): (usize, (&Part, &Part))| Some(format!("part {}: {}", n + 1, got.difference(expected)?));
    expected.iter().zip(got).enumerate().find_map(differs)
}

/// Returns the boundary of a multipart form.
pub(super) fn boundary(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let parameters = kind.strip_prefix("multipart/form-data")?.split(';');
    let boundary = parameters.filter_map(|one| one.trim().strip_prefix("boundary=")).next()?.trim_matches('"');
    Some(boundary).filter(|boundary| !boundary.is_empty())
}

/// Parses a multipart form: `None` if it is none, or not complete.
pub(super) fn parse(headers: &HeaderMap, body: &Bytes) -> Option<Vec<Part>> {
    let boundary = boundary(headers)?;
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    // The first delimiter has no line break before it.
    let mut rest = body.strip_prefix(delimiter.as_bytes().get(2..)?).map(|rest| body.slice_ref(rest))?;
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, delimiter.as_bytes())?;
        parts.push(read(&rest.slice_ref(part.get(..end)?))?);
        rest = rest.slice_ref(part.get(end + delimiter.len()..)?);
    }
    rest.starts_with(b"--").then_some(parts)
}

fn read(part: &Bytes) -> Option<Part> {
    let end = find(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(part.get(..end)?).ok()?;
    let header = |name: &str| {
        let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.filter(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let disposition = header("content-disposition")?.strip_prefix("form-data")?;
    let parameter = |name: &str| {
        let start = disposition.find(&format!("; {name}=\""))? + name.len() + 4;
        disposition.get(start..)?.split('"').next().map(str::to_owned)
    };
    Some(Part {
        name: parameter("name")?,
        filename: parameter("filename"),
        content_type: header("content-type").map(str::to_owned),
        body: part.slice(end + 4..),
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|piece| piece == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::SeededRandom;
    use crate::transport::Multipart;

    fn form() -> (HeaderMap, Bytes) {
        let form = Multipart::new(&SeededRandom::new(1)).unwrap().text("type", "image/png");
        let (kind, body) = form.bytes("file", "tree.png", "image/png", b"\r\n--\x89PNG\r\n");
        (HeaderMap::from_iter([(CONTENT_TYPE, kind)]), body)
    }

    fn parts() -> [Part; 2] {
        [Part::text("type", "image/png"), Part::file("file", "tree.png", "image/png", &b"\r\n--\x89PNG\r\n"[..])]
    }

    #[test]
    fn form_is_read_as_it_was_written() {
        let (headers, body) = form();
        assert_eq!(parse(&headers, &body).unwrap(), parts());
        for cut in 0..body.len() - 3 {
            assert_eq!(parse(&headers, &body.slice(..cut)), None, "{cut}");
        }
        assert_eq!(parse(&HeaderMap::new(), &body), None);
    }

    #[test]
    fn difference_names_its_part() {
        let (headers, body) = form();
        let got = parse(&headers, &body);
        assert_eq!(difference(&parts(), got.as_deref()), None);
        let [text, file] = parts();
        for (expected, words) in [
            (vec![text.clone()], "expected 1 parts, got 2"),
            (vec![text.clone(), Part { name: "media".to_owned(), ..file.clone() }], "part 2: expected the name media"),
            (vec![text.clone(), Part { filename: None, ..file.clone() }], "part 2: expected the filename none, got"),
            (vec![text, Part { content_type: None, ..file.clone() }], "part 2: expected the content type none"),
            (vec![Part::text("type", "image/gif"), file], "part 1: expected certain 9 bytes, got 9 others"),
        ] {
            let found = difference(&expected, got.as_deref()).unwrap();
            assert!(found.starts_with(words), "{found}");
        }
        assert_eq!(difference(&[], None).unwrap(), "the body is not a multipart form");
    }
}
