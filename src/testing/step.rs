//! One request that a double expects, and what it does with it.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use serde_json::Value;

use super::fake_gateway::ReceivedRequest;

/// One request that a [`FakeGateway`](super::FakeGateway) expects, and what it does with it.
///
/// ```
/// use civic_messaging::testing::Step;
///
/// let taken = Step::post("/messages").json(r#"{"to":"+447700900123","text":"Hello"}"#).answers(200, r#"{"id":"A-1"}"#);
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
    pub(super) claims: Option<u64>,
    echoes: bool,
    pub(super) fault: Option<SocketFault>,
}

#[derive(Clone, Debug)]
enum Expected {
    Bytes(Bytes),
    Form(String),
    Json(String),
}

/// How a [`FakeGateway`](super::FakeGateway) breaks a connection.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFault {
    /// It answers and then closes the connection, without having said that it would.
    CloseAfterAnswer,
    /// It writes so many bytes of its answer, head included, and closes the connection.
    CutAnswer(usize),
    /// It reads so many bytes of the request, head included, and resets the connection.
    CutRequest(usize),
    /// It writes the head of its answer, and then the body byte by byte, this long apart.
    Drip(Duration),
    /// It reads the request whole, and resets the connection.
    ResetAfterRequest,
    /// It resets the connection as soon as there is one.
    ResetAtOnce,
    /// It reads the request whole, and never answers. A channel waits 30 s by default; a test gives it a shorter time, by
    /// `Context::new().transport(ReqwestTransport::from_settings(|builder| builder.timeout(..)))`.
    Stall,
}

impl Step {
    /// Any request, answered with an empty 200.
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
            claims: None,
            echoes: false,
            fault: None,
        }
    }

    /// A request of this method, to exactly this path and query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method: Some(method), path: Some(path.into()), ..Self::any() }
    }

    /// A GET of exactly this path and query.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST to exactly this path and query.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// It must carry this header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// It must carry this token as `Authorization: Bearer`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// It must carry this user and password as `Authorization: Basic`.
    pub fn basic(self, user: &str, password: &str) -> Self {
        self.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Its body must be this JSON, however it is spaced and ordered.
    pub fn json(mut self, body: impl Into<String>) -> Self {
        self.body = Some(Expected::Json(body.into()));
        self
    }

    /// Its body must be this form, in whichever order.
    pub fn form(mut self, body: impl Into<String>) -> Self {
        self.body = Some(Expected::Form(body.into()));
        self
    }

    /// Its body must be exactly this.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(Expected::Bytes(body.into()));
        self
    }

    /// It is answered so: as JSON if the body looks like it, else as text. A status that is none becomes 500.
    pub fn answers(mut self, status: u16, body: impl Into<Bytes>) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.answer = body.into();
        self
    }

    /// The answer carries this header.
    pub fn response_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.answer_headers.push((name.into(), value.into()));
        self
    }

    /// The answer claims to be so many bytes long, whatever it is.
    pub fn claims(mut self, len: u64) -> Self {
        self.claims = Some(len);
        self
    }

    /// The answer repeats the whole request behind its body, as a careless gateway does in an error.
    pub fn echoes(mut self) -> Self {
        self.echoes = true;
        self
    }

    /// Whether the message counts as accepted, against what its answer would say.
    pub fn accepting(mut self, accepts: bool) -> Self {
        self.accepts = Some(accepts);
        self
    }

    /// The connection breaks so.
    pub fn breaks(mut self, fault: SocketFault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// The same answer to any request.
    pub(super) fn unconditional(self) -> Self {
        Self { method: None, path: None, headers: Vec::new(), body: None, ..self }
    }

    /// The step with `base` in the place of each `{base}` of its answer.
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

    /// The step with this in the place of what the answer's headers say.
    pub(super) fn with_header_values(mut self, value: &str) -> Self {
        for (_, said) in &mut self.answer_headers {
            value.clone_into(said);
        }
        self
    }

    /// The step with another body in the answer.
    pub(super) fn with_answer(mut self, body: impl Into<Bytes>) -> Self {
        self.answer = body.into();
        self
    }

    pub(super) fn accepts(&self) -> bool {
        let doubtful = self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT;
        self.accepts.unwrap_or(self.status.is_success() || doubtful)
    }

    /// What in the request is not as it should be.
    pub(super) fn problem(&self, asked: &ReceivedRequest) -> Option<String> {
        let is = format!("{} {}", asked.method, asked.path);
        if self.method.as_ref().is_some_and(|method| *method != asked.method)
            || self.path.as_ref().is_some_and(|path| *path != asked.path)
        {
            let (method, path) = (self.method.as_ref().map_or("", |m| m.as_str()), self.path.as_deref());
            return Some(format!("{is} was asked, and {method} {} expected", path.unwrap_or_default()));
        }
        for (name, value) in &self.headers {
            if asked.headers.get(name.as_str()).is_none_or(|there| there.as_bytes() != value.as_bytes()) {
                return Some(format!("{is}: the header {name} is not as expected"));
            }
        }
        let difference = match self.body.as_ref()? {
            Expected::Bytes(body) => (*body != asked.body).then(|| {
                format!("the body has {} bytes, and should be {} certain others", asked.body.len(), body.len())
            }),
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
                    (None, Some((name, _))) => Some(format!("the field {name} should not be there")),
                    (None, None) => (expected != there).then(|| "a field stands there twice".to_owned()),
                }
            }
            Expected::Json(body) => match (serde_json::from_str(body), serde_json::from_slice(&asked.body)) {
                (Ok(expected), Ok(there)) => difference(&expected, &there, "the body"),
                (Err(_), _) => Some("what is expected of the body is not JSON".to_owned()),
                (_, Err(_)) => Some("the body is not JSON".to_owned()),
            },
        };
        difference.map(|difference| format!("{is}: {difference}"))
    }

    /// The answer as it goes over the wire.
    pub(super) fn written(&self, asked: Option<&ReceivedRequest>) -> Vec<u8> {
        let mut body = self.answer.to_vec();
        if let (true, Some(asked)) = (self.echoes, asked) {
            body.extend_from_slice(asked.head.as_bytes());
            body.extend_from_slice(&asked.body);
        }
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        let named = |name: &HeaderName| self.answer_headers.iter().any(|(there, _)| name.as_str() == *there);
        if !named(&CONTENT_LENGTH) {
            head.push_str(&format!("content-length: {}\r\n", self.claims.unwrap_or(body.len() as u64)));
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

/// Where two JSON values differ first, without the values: they may be personal.
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
                (None, Some(name)) => Some(format!("{at}/{name} should not be there")),
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
        _ => Some(format!("{at} is {}, and should be another: {}", kind(there), kind(expected))),
    }
}
