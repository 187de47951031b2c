//! Requests as values, and answers as JSON.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use civic_messaging::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::super::failure::{Failure, shape};

/// The answer of a route.
pub(super) type Answer = Result<Reply, Refusal>;

/// A successful answer.
pub(super) struct Reply(pub(super) Value);

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "application/json")], self.0.to_string()).into_response()
    }
}

/// An answer that names what is wrong, without any value of the request.
pub(super) struct Refusal {
    status: StatusCode,
    error: Value,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &str, message: &str) -> Self {
        Self { status, error: json!({ "kind": kind, "message": message }) }
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// Adds the member in which the wrong value is.
    pub(super) fn below(mut self, member: &str) -> Self {
        if let Some(Value::String(field)) = self.error.get_mut("field") {
            *field = format!("{member}.{field}");
        }
        if let Some(Value::String(message)) = self.error.get_mut("message") {
            *message = format!("{member}.{message}");
        }
        self
    }

    fn bad_request(field: &str, rule: &str) -> Self {
        let error = json!({ "kind": "bad_request", "field": field, "message": format!("{field}: {rule}") });
        Self { status: StatusCode::BAD_REQUEST, error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error }).to_string();
        (self.status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Config | ErrorKind::Unexpected => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { status, error: shape(&error) }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => error.into(),
            Failure::Failed(what) | Failure::Usage(what) => Self::conflict(&what),
            Failure::Configuration(errors) => Error::from(errors).into(),
        }
    }
}

/// Reads the JSON of a body.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        let what = inner.to_string();
        if inner.is_data() {
            // Without the value, which may be a number or a text.
            match what.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
                Some(name) if path == "." => Refusal::bad_request(name, "is missing"),
                Some(name) => Refusal::bad_request(&format!("{path}.{name}"), "is missing"),
                None => Refusal::bad_request(&path, "is unknown, or has another form than documented"),
            }
        } else {
            Refusal::bad_request("body", &format!("is not JSON: see line {}", inner.line()))
        }
    })
}

/// The parameters of a query.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn new(query: &RawQuery) -> Self {
        let text = query.0.as_deref().unwrap_or_default();
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Takes a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a number.
    pub(super) fn number<N: FromStr>(&mut self, name: &str) -> Result<Option<N>, Refusal> {
        let wrong = |_| Refusal::bad_request(name, "must be a whole number in range");
        self.take(name).map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// Takes a parameter that must be set.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Refusal> {
        self.take(name).ok_or_else(|| Refusal::bad_request(name, "is missing"))
    }

    /// Refuses parameters that are left.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Refusal::bad_request("query", "has an unknown parameter")),
        }
    }
}

/// The maximum number of items in an answer.
const ITEMS_MAX: u32 = 500;

/// Returns the number of items to answer with.
pub(super) fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(50).clamp(1, ITEMS_MAX)
}

/// Refuses a path's id that is not a number.
pub(super) fn id(text: &str) -> Result<i64, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("the id in the path is not a number"))
}

/// Refuses a value of the request.
pub(super) fn wrong(field: &str, rule: &str) -> Refusal {
    Refusal::bad_request(field, rule)
}
