//! Messages that the gateway approved beforehand.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::location::Location;
use super::media::Media;

/// A template approved by the gateway, with its parameters.
///
/// ```
/// use civic_messaging::message::Template;
///
/// let positional = Template::new("bin_day_reminder").language("en_GB").parameter("Alex").parameter("Tuesday");
/// let named = Template::new("bin_day_named").language("en_GB").named("first_name", "Alex").named("day", "Tuesday");
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// The name.
    pub name: String,
    /// The gateway's code for the language, such as `en_GB`.
    ///
    /// Never derived from the resident's language: WhatsApp has no code for Welsh, so Welsh templates are filed under
    /// another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The parameters of the body: all positional, or all named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// The content of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// The name of the parameter in the header's text, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// The parameters of the buttons, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<TemplateButton>,
    /// The template's own id at each gateway, by gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub native: BTreeMap<String, String>,
}

/// A parameter of a template.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// The name, for a template with named parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The value.
    pub value: String,
}

/// The parameter of one template button.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateButton {
    /// A code to copy.
    CopyCode {
        /// The index of the button, from 0.
        index: u8,
        /// The code.
        code: String,
    },
    /// A quick reply.
    QuickReply {
        /// The index of the button, from 0.
        index: u8,
        /// The payload returned when it is tapped.
        payload: String,
    },
    /// A link with a variable suffix.
    Url {
        /// The index of the button, from 0.
        index: u8,
        /// The suffix of the URL.
        suffix: String,
    },
}

impl Template {
    /// Creates a template from its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            language: None,
            parameters: Vec::new(),
            header: None,
            header_name: None,
            buttons: Vec::new(),
            native: BTreeMap::new(),
        }
    }

    /// Sets the gateway's code for the language.
    #[must_use]
    pub fn language(mut self, code: impl Into<String>) -> Self {
        self.language = Some(code.into());
        self
    }

    /// Adds the next positional parameter.
    #[must_use]
    pub fn parameter(mut self, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter { name: None, value: value.into() });
        self
    }

    /// Adds a named parameter.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push(Parameter { name: Some(name.into()), value: value.into() });
        self
    }

    /// Sets the header.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the name of the parameter in the header's text, for a template with named parameters.
    ///
    /// ```
    /// use civic_messaging::message::Template;
    ///
    /// let closed = Template::new("road_closed").language("en_GB").named("day", "Tuesday");
    /// let closed = closed.header("Mill Lane").header_name("road");
    /// ```
    #[must_use]
    pub fn header_name(mut self, name: impl Into<String>) -> Self {
        self.header_name = Some(name.into());
        self
    }

    /// Adds a button's parameter.
    #[must_use]
    pub fn button(mut self, button: TemplateButton) -> Self {
        self.buttons.push(button);
        self
    }

    /// Sets the template's own id at one gateway.
    #[must_use]
    pub fn native(mut self, gateway: impl Into<String>, id: impl Into<String>) -> Self {
        self.native.insert(gateway.into(), id.into());
        self
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .field("language", &self.language)
            .field("parameters", &self.parameters.len())
            .finish_non_exhaustive()
    }
}

/// The header of a template or choice.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateHeader {
    /// A location.
    Location(Location),
    /// A file.
    Media(Media),
    /// A line of text.
    Text(String),
}

impl From<&str> for TemplateHeader {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Media> for TemplateHeader {
    fn from(media: Media) -> Self {
        Self::Media(media)
    }
}

impl From<Location> for TemplateHeader {
    fn from(location: Location) -> Self {
        Self::Location(location)
    }
}
