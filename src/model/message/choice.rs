//! Buttons, lists, links and requests for information.

use serde::{Deserialize, Serialize};

use super::template::TemplateHeader;

/// A question with options: buttons or a list.
///
/// ```
/// use civic_messaging::message::{Choice, Row};
///
/// let buttons = Choice::buttons("Keep this appointment?").option("keep", "Keep").option("cancel", "Cancel");
/// let list = Choice::list("Choose a slot", "View slots")
///     .section("Monday", [Row::new("m9", "09:00").description("Bulky waste"), Row::new("m10", "10:00")]);
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The question.
    pub body: String,
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<TemplateHeader>,
    /// The footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// The label that opens a list; `None` for buttons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_label: Option<String>,
    /// The options. Buttons are one section without a title.
    pub sections: Vec<Section>,
}

/// Options under one title.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The title; required if there are several sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The options.
    pub rows: Vec<Row>,
}

/// One option of a choice.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The id returned when it is selected.
    pub id: String,
    /// The title that the person reads.
    pub title: String,
    /// A second line (lists only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Row {
    /// Creates an option.
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self { id: id.into(), title: title.into(), description: None }
    }

    /// Sets the second line.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl Choice {
    /// Creates a question with buttons.
    pub fn buttons(body: impl Into<String>) -> Self {
        Self { body: body.into(), header: None, footer: None, list_label: None, sections: Vec::new() }
    }

    /// Creates a question with a list, opened by a label.
    pub fn list(body: impl Into<String>, label: impl Into<String>) -> Self {
        Self { list_label: Some(label.into()), ..Self::buttons(body) }
    }

    /// Adds an option to the last section.
    #[must_use]
    pub fn option(mut self, id: impl Into<String>, title: impl Into<String>) -> Self {
        let row = Row::new(id, title);
        match self.sections.last_mut() {
            Some(section) => section.rows.push(row),
            None => self.sections.push(Section { title: None, rows: vec![row] }),
        }
        self
    }

    /// Adds a section of options.
    #[must_use]
    pub fn section(mut self, title: impl Into<String>, rows: impl IntoIterator<Item = Row>) -> Self {
        self.sections.push(Section { title: Some(title.into()), rows: rows.into_iter().collect() });
        self
    }

    /// Sets the header.
    #[must_use]
    pub fn header(mut self, header: impl Into<TemplateHeader>) -> Self {
        self.header = Some(header.into());
        self
    }

    /// Sets the footer.
    #[must_use]
    pub fn footer(mut self, footer: impl Into<String>) -> Self {
        self.footer = Some(footer.into());
        self
    }

    /// Returns all options in order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }
}

/// A labelled link.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The text above it.
    pub body: String,
    /// The button's label.
    pub label: String,
    /// The URL.
    pub url: String,
    /// The footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
}

impl Link {
    /// Creates a labelled link.
    pub fn new(body: impl Into<String>, label: impl Into<String>, url: impl Into<String>) -> Self {
        Self { body: body.into(), label: label.into(), url: url.into(), footer: None }
    }
}

/// A request for information that a button of the app supplies.
#[non_exhaustive]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct InfoRequest {
    /// The question.
    pub body: String,
    /// The requested information.
    pub what: InfoField,
}

/// The information that an [`InfoRequest`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfoField {
    /// The person's contact card, which includes a phone number.
    Contact,
    /// The person's location.
    Location,
}

impl InfoRequest {
    /// Requests a contact card.
    pub fn contact(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Contact }
    }

    /// Requests a location.
    pub fn location(body: impl Into<String>) -> Self {
        Self { body: body.into(), what: InfoField::Location }
    }
}
