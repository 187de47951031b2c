//! Expected requests of a fake gateway, and its responses.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use serde_json::Value;

use super::multipart::{self, Part};
use super::request::ReceivedRequest;

/// A request that a [`FakeGateway`](super::FakeGateway) expects, with its response.
///
/// ```
/// use civic_messaging::testing::Step;
///
/// let accepted = Step::post("/messages").json(r#"{"to":"+447700900123","text":"Hello"}"#).answers(200, r#"{"id":"A-1"}"#);
/// let busy = Step::post("/messages").answers(429, "").response_header("retry-after", "3");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Step {
    method: Option<Method>,
    path: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Expected>,
    status: StatusCode,
    answer_headers: Vec<(String, String)>,
    answer: Bytes,
    accepts: Option<bool>,
    pub(super) content_length: Option<u64>,
    echoes: bool,
    pub(super) fault: Option<SocketFault>,
}

#[derive(Clone, Debug)]
enum Expected {
    Bytes(Bytes),
    Form(String),
    Json(String),
    Multipart(Vec<Part>),
}

/// A connection failure that a [`FakeGateway`](super::FakeGateway) injects.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFault {
    /// Responds, then closes the connection without `Connection: close`.
    CloseAfterAnswer,
    /// Writes this number of bytes of the response, including its head, and closes the connection.
    CutAnswer(usize),
    /// Reads this number of bytes of the request, including its head, and resets the connection.
    CutRequest(usize),
    /// Writes the head of the response, then the body byte by byte with this interval.
    Drip(Duration),
    /// Reads the whole request, and resets the connection.
    ResetAfterRequest,
    /// Resets the connection as soon as it is established.
    ResetAtOnce,
    /// Reads the whole request, and never responds. A channel waits 30 s by default; set a shorter timeout in tests with
    /// `Context::new().transport(ReqwestTransport::from_settings(|builder| builder.timeout(..)))`.
    Stall,
}

impl Step {
    /// Matches any request, and responds with an empty 200.
    pub fn any() -> Self {
        Self {
            method: None,
            path: None,
            headers: Vec::new(),
            body: None,
            status: StatusCode::OK,
            answer_headers: Vec::new(),
            answer: Bytes::new(),
            accepts: None,
            content_length: None,
            echoes: false,
            fault: None,
        }
    }

    /// Matches a request with this method and exactly this path and query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method: Some(method), path: Some(path.into()), ..Self::any() }
    }

    /// Matches a GET of exactly this path and query.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Matches a POST to exactly this path and query.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Requires this header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Requires this token as `Authorization: Bearer`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Requires this user and password as `Authorization: Basic`.
    pub fn basic(self, user: &str, password: &str) -> Self {
        self.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Requires this JSON body, in any formatting and order.
    pub fn json(mut self, body: impl Into<String>) -> Self {
        self.body = Some(Expected::Json(body.into()));
        self
    }

    /// Requires this form body, in any order.
    pub fn form(mut self, body: impl Into<String>) -> Self {
        self.body = Some(Expected::Form(body.into()));
        self
    }

    /// Requires a multipart form with exactly these parts, in this order; the boundary may be any.
    pub fn multipart(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.body = Some(Expected::Multipart(parts.into_iter().collect()));
        self
    }

    /// Requires exactly this body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(Expected::Bytes(body.into()));
        self
    }

    /// Sets the response: JSON if the body looks like it, else text. An invalid status becomes 500.
    pub fn answers(mut self, status: u16, body: impl Into<Bytes>) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.answer = body.into();
        self
    }

    /// Adds a header to the response.
    pub fn response_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.answer_headers.push((name.into(), value.into()));
        self
    }

    /// Sets the response's `Content-Length`, whatever the body's length.
    pub fn content_length(mut self, len: u64) -> Self {
        self.content_length = Some(len);
        self
    }

    /// Appends the whole request to the response's body, as some gateways do in an error.
    pub fn echoes(mut self) -> Self {
        self.echoes = true;
        self
    }

    /// Overrides if the request counts as accepted.
    pub fn accepting(mut self, accepts: bool) -> Self {
        self.accepts = Some(accepts);
        self
    }

    /// Injects a connection failure.
    pub fn breaks(mut self, fault: SocketFault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Removes the requirements and keeps the response.
    pub(super) fn unconditional(self) -> Self {
        Self { method: None, path: None, headers: Vec::new(), body: None, ..self }
    }

    /// Replaces each `{base}` of the response.
    pub(super) fn based(mut self, base: &str) -> Self {
        if let Ok(text) = std::str::from_utf8(&self.answer)
            && text.contains("{base}")
        {
            self.answer = text.replace("{base}", base).into();
        }
        for (_, value) in &mut self.answer_headers {
            *value = value.replace("{base}", base);
        }
        self
    }

    pub(super) fn answer_len(&self) -> usize {
        self.written(None).len()
    }

    pub(super) fn answer(&self) -> &Bytes {
        &self.answer
    }

    /// Replaces the values of the response's headers.
    pub(super) fn with_header_values(mut self, value: &str) -> Self {
        for (_, header) in &mut self.answer_headers {
            value.clone_into(header);
        }
        self
    }

    /// Replaces the response's body.
    pub(super) fn with_answer(mut self, body: impl Into<Bytes>) -> Self {
        self.answer = body.into();
        self
    }

    pub(super) fn accepts(&self) -> bool {
        let ambiguous = self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT;
        self.accepts.unwrap_or(self.status.is_success() || ambiguous)
    }

    /// Returns the first difference between a request and the step.
    pub(super) fn problem(&self, asked: &ReceivedRequest) -> Option<String> {
        let is = format!("{} {}", asked.method, asked.path);
        if self.method.as_ref().is_some_and(|method| *method != asked.method)
            || self.path.as_ref().is_some_and(|path| *path != asked.path)
        {
            let (method, path) = (self.method.as_ref().map_or("", |m| m.as_str()), self.path.as_deref());
            return Some(format!("expected {method} {}, got {is}", path.unwrap_or_default()));
        }
        for (name, value) in &self.headers {
            if asked.headers.get(name.as_str()).is_none_or(|there| there.as_bytes() != value.as_bytes()) {
                return Some(format!("{is}: expected the header {name} with another value"));
            }
        }
        let difference = match self.body.as_ref()? {
            Expected::Bytes(body) => (*body != asked.body)
                .then(|| format!("expected a certain body of {} bytes, got {} others", body.len(), asked.body.len())),
            Expected::Form(body) => {
                let sorted = |body: &[u8]| {
                    let mut pairs: Vec<_> = form_urlencoded::parse(body).into_owned().collect();
                    pairs.sort();
                    pairs
                };
                let (expected, there) = (sorted(body.as_bytes()), sorted(&asked.body));
                let extra = there.iter().find(|pair| !expected.contains(pair));
                let missing = expected.iter().find(|pair| !there.contains(pair));
                match (missing, extra) {
                    (Some((name, _)), _) => Some(format!("the field {name} is missing or different")),
                    (None, Some((name, _))) => Some(format!("unexpected field {name}")),
                    (None, None) => (expected != there).then(|| "a field is duplicated".to_owned()),
                }
            }
            Expected::Multipart(parts) => multipart::difference(parts, asked.parts().as_deref()),
            Expected::Json(body) => match (serde_json::from_str(body), serde_json::from_slice(&asked.body)) {
                (Ok(expected), Ok(there)) => difference(&expected, &there, "the body"),
                (Err(_), _) => Some("the expected body is not JSON".to_owned()),
                (_, Err(_)) => Some("the body is not JSON".to_owned()),
            },
        };
        difference.map(|difference| format!("{is}: {difference}"))
    }

    /// Returns the response's bytes.
    pub(super) fn written(&self, asked: Option<&ReceivedRequest>) -> Vec<u8> {
        let mut body = self.answer.to_vec();
        if let (true, Some(asked)) = (self.echoes, asked) {
            body.extend_from_slice(asked.head.as_bytes());
            body.extend_from_slice(&asked.body);
        }
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        let named = |name: &HeaderName| self.answer_headers.iter().any(|(there, _)| name.as_str() == *there);
        if !named(&CONTENT_LENGTH) {
            head.push_str(&format!("content-length: {}\r\n", self.content_length.unwrap_or(body.len() as u64)));
        }
        if !named(&CONTENT_TYPE) && !body.is_empty() {
            let json = matches!(body.first(), Some(b'{' | b'['));
            head.push_str(if json { "content-type: application/json\r\n" } else { "content-type: text/plain\r\n" });
        }
        for (name, value) in &self.answer_headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.into_bytes(), body].concat()
    }
}

/// Returns the first difference of two JSON values by kind and place only: values may be personal data.
fn difference(expected: &Value, there: &Value, at: &str) -> Option<String> {
    let kind = |value: &Value| match value {
        Value::Array(all) => format!("an array of {}", all.len()),
        Value::Bool(one) => one.to_string(),
        Value::Null => "null".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::Object(all) => format!("an object of {}", all.len()),
        Value::String(text) => format!("a string of {} characters", text.chars().count()),
    };
    match (expected, there) {
        (Value::Object(expected), Value::Object(there)) => {
            let missing = expected.keys().find(|name| !there.contains_key(*name));
            let extra = there.keys().find(|name| !expected.contains_key(*name));
            match (missing, extra) {
                (Some(name), _) => Some(format!("{at}/{name} is missing")),
                (None, Some(name)) => Some(format!("unexpected {at}/{name}")),
                (None, None) => expected
                    .iter()
                    .find_map(|(name, value)| difference(value, there.get(name)?, &format!("{at}/{name}"))),
            }
        }
        (Value::Array(expected), Value::Array(there)) if expected.len() == there.len() => {
            let both = expected.iter().zip(there).enumerate();
            both.into_iter().find_map(|(n, (expected, there))| difference(expected, there, &format!("{at}/{n}")))
        }
        _ if expected == there => None,
        _ => Some(format!("{at}: expected {}, got {}", kind(expected), kind(there))),
    }
}
