//! Forms that open in WhatsApp.

use serde_json::{Value, json};
use std::fmt;

use super::super::GATEWAY;
use super::encode::interactive;
use crate::medium::whatsapp;
use crate::model::error::{Error, Result};
use crate::model::json::without_nulls;
use crate::model::message::Native;

/// A form that opens in WhatsApp (Meta calls it a flow), as [`Native`] content.
///
/// It opens at its first screen, at the one that [`screen`](Self::screen) names, or at the one that the council's own
/// endpoint answers with ([`endpoint`](Self::endpoint)). (Meta, OpenAPI file v23.0: `flow_action` is `navigate` by
/// default, and only then has a payload, whose `screen` is by default the first one; read 2026-11-30.)
///
/// ```
/// use civic_messaging::{Address, Message, meta::Flow};
///
/// let form = Flow::new("500000000000001", "Report an issue", "Start").token("tok-1").screen("START");
/// let message = Message::new(Address::whatsapp("07700 900123")?, form.content()?);
/// # Ok::<(), civic_messaging::Error>(())
/// ```
#[derive(Clone)]
pub struct Flow {
    id: String,
    body: String,
    label: String,
    token: Option<String>,
    screen: Option<String>,
    endpoint: bool,
    draft: bool,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("draft", &self.draft).finish_non_exhaustive()
    }
}

impl Flow {
    /// Creates a form from Meta's id of it, with the text above and the label of its button.
    pub fn new(id: impl Into<String>, body: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            body: body.into(),
            label: label.into(),
            token: None,
            screen: None,
            endpoint: false,
            draft: false,
        }
    }

    /// Sets the token that comes back with the answer, to identify the form.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the screen that opens first, in place of the form's own first screen.
    #[must_use]
    pub fn screen(mut self, screen: impl Into<String>) -> Self {
        self.screen = Some(screen.into());
        self
    }

    /// Asks the form's endpoint for the screen that opens first (`data_exchange`). For a form that has an endpoint, and
    /// then without [`screen`](Self::screen).
    #[must_use]
    pub fn endpoint(mut self) -> Self {
        self.endpoint = true;
        self
    }

    /// Opens the draft of the form, for its makers.
    #[must_use]
    pub fn draft(mut self) -> Self {
        self.draft = true;
        self
    }

    /// Returns the content of a message that offers the form.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) when the text or the label is empty or too long,
    /// the id or the screen is empty, or a screen is given beside the endpoint.
    pub fn content(&self) -> Result<Native> {
        for (field, text, max) in [
            ("flow.body", &self.body, whatsapp::BODY_WITH_BUTTONS_MAX),
            ("flow.label", &self.label, whatsapp::LINK_LABEL_MAX),
        ] {
            if text.trim().is_empty() || text.chars().count() > max {
                return Err(Error::invalid(field, format!("must have 1 to {max} characters")));
            }
        }
        for (field, text) in [("flow.id", Some(&self.id)), ("flow.screen", self.screen.as_ref())] {
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(Error::invalid(field, "is empty"));
            }
        }
        if self.endpoint && self.screen.is_some() {
            return Err(Error::invalid("flow.screen", "must not be given where the endpoint names the first screen"));
        }
        Native::new(GATEWAY, &content(self))
    }
}

fn content(flow: &Flow) -> Value {
    let parameters = without_nulls(json!({
        "mode": if flow.draft { "draft" } else { "published" },
        "flow_message_version": "3",
        "flow_id": flow.id,
        "flow_cta": flow.label,
        "flow_token": flow.token,
        "flow_action": if flow.endpoint { "data_exchange" } else { "navigate" },
        "flow_action_payload": flow.screen.as_ref().map(|screen| json!({ "screen": screen })),
    }));
    let action = json!({ "name": "flow", "parameters": parameters });
    json!({ "type": "interactive", "interactive": interactive("flow", &flow.body, None, &action) })
}
