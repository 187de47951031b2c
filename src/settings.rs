//! The settings of a channel, from a file or the environment.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::address::Medium;
use crate::model::error::{Error, Result};

/// The configuration of a channel, from TOML, JSON or the environment.
///
/// A value can stay out of the file: `{ env = "NOTIFY_API_KEY" }` reads the environment, `{ file = "…" }` reads a file;
/// both strip the trailing line break. `Debug` shows setting names only.
#[derive(Clone)]
pub struct Settings(pub(crate) Map<String, Value>);

impl Settings {
    /// Reads TOML.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is not TOML.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self> {
        let value: Value = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |at| text.get(..at.start).map_or(1, |t| t.split('\n').count()));
            match duplicate(text, line).filter(|_| e.message().contains("duplicate")) {
                Some(name) => Error::config(name, format!("is a duplicate: see line {line}")),
                None => Error::config("configuration", format!("is not TOML: see line {line}")),
            }
        })?;
        Self::new(value)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|e| Error::config("configuration", format!("is not JSON: see line {}", e.line())))?;
        Self::new(value)
    }

    /// Reads environment variables: with the prefix `BINS_`, `BINS_API_KEY` is the setting `api_key`.
    ///
    /// Trailing line breaks are stripped.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if no variable has the prefix.
    pub fn from_env(prefix: &str) -> Result<Self> {
        let named = |(name, value): (String, String)| {
            Some((name.strip_prefix(prefix)?.to_lowercase(), Value::from(without_line_break(value))))
        };
        let vars = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
        let settings: Map<_, _> = vars.filter_map(named).collect();
        if settings.is_empty() {
            return Err(Error::config("environment", "has no variable with this prefix"));
        }
        Ok(Self(settings))
    }

    /// Sets one value, replacing the one that was read. Dots lead into tables, which are created where they are missing:
    /// `gateways.notify.base_url`.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        let mut table = &mut self.0;
        let mut rest = name;
        while let Some((first, after)) = rest.split_once('.') {
            let inner = table.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            let Value::Object(inner) = inner else { return self };
            (table, rest) = (inner, after);
        }
        table.insert(rest.to_owned(), Value::String(value.into()));
        self
    }

    /// Returns the gateway's name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is missing.
    pub fn gateway(&self) -> Result<String> {
        if !self.0.contains_key("gateway") {
            return Err(Error::config("gateway", "is missing, and there is no list of suppliers either"));
        }
        self.required("gateway")
    }

    /// Returns the medium.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is missing or is not a medium's name.
    pub fn medium(&self) -> Result<Medium> {
        self.required("medium")
    }

    /// Deserialises the settings as a gateway's `Config`, without `gateway` and `medium`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with the field and the rule, but no value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let mut map = self.0.clone();
        map.retain(|name, _| name != "gateway" && name != "medium");
        value("configuration", Value::Object(map))
    }

    /// Deserialises all of the settings, also `gateway` and `medium`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_all<T: DeserializeOwned>(&self) -> Result<T> {
        value("configuration", Value::Object(self.0.clone()))
    }

    /// Returns the tables in it as separate settings, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it contains anything but tables.
    pub fn tables(&self) -> Result<impl Iterator<Item = (String, Self)>> {
        let table = |(name, value): (&String, &Value)| match value {
            Value::Object(map) => Ok((name.clone(), Self(map.clone()))),
            _ => Err(Error::config(name.clone(), "is not a table")),
        };
        Ok(self.0.iter().map(table).collect::<Result<Vec<_>>>()?.into_iter())
    }

    fn new(value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(Error::config("configuration", "is not a table of settings")),
        }
    }

    fn required<T: DeserializeOwned>(&self, name: &'static str) -> Result<T> {
        let own = self.0.get(name).ok_or_else(|| Error::config(name, "is missing"))?;
        value(name, own.clone())
    }
}

/// Deserialises one value. An error names the field: by its path below this name, or by its path alone below
/// `configuration`.
pub(crate) fn value<T: DeserializeOwned>(name: &str, mut value: Value) -> Result<T> {
    resolve(&mut value, name)?;
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        let field = match (name, &*path) {
            (_, ".") => name.to_owned(),
            ("configuration", _) => path,
            _ if path.starts_with('[') => format!("{name}{path}"),
            _ => format!("{name}.{path}"),
        };
        let rule = redact(&error.into_inner().to_string(), &value);
        Error::config(field, with_hint(rule))
    })
}

/// Returns the name of the table or field in this line of a TOML file, with the table above it.
#[cfg(feature = "toml")]
fn duplicate(text: &str, line: usize) -> Option<String> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | ' '))
    };
    let header = |line: &str| {
        let name = line.split('#').next()?.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(name.trim_matches(['[', ']'])).filter(is_name).map(str::to_owned)
    };
    let mut above: Vec<&str> = text.lines().take(line).collect();
    let last = above.pop()?;
    if let Some(table) = header(last) {
        return Some(table);
    }
    let name = last.split('=').next().map(str::trim).filter(is_name)?;
    let table = above.iter().rev().find_map(|line| header(line));
    Some(table.map_or_else(|| name.to_owned(), |table| format!("{table}.{name}")))
}

/// Adds the nearest known name to a message about an unknown one, which lists the known ones.
fn with_hint(rule: String) -> String {
    let mut names = rule.split('`').skip(1).step_by(2);
    match (rule.starts_with("unknown field"), names.next()) {
        (true, Some(unknown)) => match nearest(unknown, names) {
            Some(near) => format!("{rule}; did you mean {near}?"),
            None => rule,
        },
        _ => rule,
    }
}

/// Returns the known name that differs least from this one, if it is near enough to be a slip.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let all = known.into_iter().map(|known| (distance(name, known), known));
    let (distance, near) = all.min_by_key(|(distance, _)| *distance)?;
    (distance <= near.len().min(name.len()).div_ceil(3)).then_some(near)
}

/// Returns the number of characters to insert, remove, replace or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    const MAX: usize = 64;
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(MAX).collect(), other.chars().take(MAX).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - MAX);
            let mut least = (get(&last, j) + usize::from(a != b)).min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                least = least.min(get(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Resolves `{ env = "…" }` and `{ file = "…" }`; an error names the setting.
fn resolve(value: &mut Value, at: &str) -> Result<()> {
    let under = |name: &str| match at {
        "configuration" => name.to_owned(),
        at => format!("{at}.{name}"),
    };
    let outside = match value {
        Value::Object(map) => match (map.len(), map.get("env"), map.get("file")) {
            (1, Some(Value::String(name)), None) => Some(std::env::var(name).map_err(|_| {
                let rule = format!("is the variable {name}, which is not set in the environment, or is not text");
                Error::config(at.to_owned(), rule)
            })?),
            (1, None, Some(Value::String(path))) => {
                let text = std::fs::read_to_string(path).map_err(|_| {
                    Error::config(at.to_owned(), format!("is the file {path}, which cannot be read as text"))
                })?;
                Some(text)
            }
            _ => {
                map.iter_mut().try_for_each(|(name, value)| resolve(value, &under(name)))?;
                None
            }
        },
        Value::Array(values) => {
            values.iter_mut().enumerate().try_for_each(|(n, value)| resolve(value, &format!("{at}[{n}]")))?;
            None
        }
        _ => None,
    };
    if let Some(text) = outside {
        *value = Value::String(without_line_break(text));
    }
    Ok(())
}

/// Strips the trailing line break with which secrets are often stored.
fn without_line_break(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    text
}

/// Redacts every configuration value from a deserialiser's message: one of them could be a secret.
fn redact(message: &str, value: &Value) -> String {
    let mut shown = Vec::new();
    let mut hide = vec![value];
    while let Some(value) = hide.pop() {
        match value {
            Value::Array(values) => hide.extend(values),
            Value::Object(map) => hide.extend(map.values()),
            // Verbatim, and as serde quotes it.
            Value::String(text) => shown.extend([text.clone(), format!("{text:?}").trim_matches('"').to_owned()]),
            // A short number is not a secret, and a rule may contain it.
            Value::Number(number) => shown.extend(Some(number.to_string()).filter(|number| number.len() > 5)),
            _ => {}
        }
    }
    // Longest first: a short value may be part of a longer one, and would leave the rest of it visible.
    shown.sort_by_key(|text| std::cmp::Reverse(text.len()));
    // Blanks alone are no secret, and are in every message.
    shown.retain(|text| !text.trim().is_empty());
    shown.iter().fold(message.to_owned(), |message, text| redact_value(&message, text))
}

/// Replaces `text` with `…`, except inside another word: `short` stays in `shorter`.
fn redact_value(message: &str, text: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(text) {
        let joined = |side: Option<char>, own: Option<char>| {
            side.is_some_and(char::is_alphanumeric) && own.is_some_and(char::is_alphanumeric)
        };
        let last = before.chars().next_back().or_else(|| out.chars().next_back());
        let part = joined(last, text.chars().next()) || joined(after.chars().next(), text.chars().next_back());
        out.push_str(before);
        out.push_str(if part { text } else { "…" });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::context::Context;
    use crate::model::error::ErrorKind;
    use crate::model::secret::Secret;
    use crate::registry::Registry;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        token: Secret,
        #[serde(default, rename = "retries")]
        _retries: u32,
    }

    #[test]
    fn errors_name_the_field_and_no_value() {
        for (json, field, rule) in [
            (r#"{"gateway":"acme"}"#, "configuration", "missing field `token`"),
            (r#"{"token":"short"}"#, "token", "is shorter than 8 bytes"),
            (r#"{"token":12345678901}"#, "token", "invalid type"),
            (r#"{"token":"canary-token","retries":"canary-retries"}"#, "retries", "invalid type"),
            (r#"{"token":"canary-token","colour":1}"#, "colour", "unknown field"),
            (r#"{"token":"canary-token","retries":" "}"#, "retries", "invalid type: string"),
            // Verbatim as serde quotes it, and with another value in the middle.
            (r#"{"token":"ab","retries":"canary\"ab\\canary"}"#, "retries", "invalid type"),
        ] {
            let error = Settings::from_json(json).unwrap().read::<Config>().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{json}");
            let text = error.to_string();
            assert!(text.contains(rule) && !text.contains("canary") && !text.contains("12345678901"), "{text}");
        }
        assert!(!format!("{:?}", Settings::from_json(r#"{"token":"canary-token"}"#).unwrap()).contains("canary"));
    }

    #[test]
    fn unknown_field_has_a_hint_at_the_nearest_one() {
        let text = |name: &str| {
            let json = serde_json::json!({ "token": "canary-token", name: 1 }).to_string();
            Settings::from_json(&json).unwrap().read::<Config>().unwrap_err().to_string()
        };
        for (name, hint) in [("retires", "did you mean retries?"), ("tokens", "did you mean token?")] {
            assert!(text(name).ends_with(hint), "{}", text(name));
        }
        assert!(!text("colour").contains("did you mean"));
        for (name, near) in [("hourse", Some("hours")), ("languagse", Some("languages")), ("x", None), ("", None)] {
            assert_eq!(nearest(name, ["hours", "languages", "lines"]), near, "{name}");
        }
    }

    #[test]
    fn set_leads_into_tables() {
        let settings = Settings::from_json(r#"{"gateways":{"notify":{"a":"1"}},"store":"x"}"#).unwrap();
        let settings = settings.set("gateways.notify.base_url", "u").set("store.url", "y").set("media", "m");
        let expected = serde_json::json!({
            "gateways": { "notify": { "a": "1", "base_url": "u" } }, "store": { "url": "y" }, "media": "m"
        });
        assert_eq!(Value::Object(settings.0), expected);
    }

    #[cfg(feature = "toml")]
    #[test]
    fn invalid_toml_names_the_line() {
        for (text, rule) in [
            ("[a]\nb = 1\n[a] # again\n", "a: is a duplicate: see line 3"),
            ("[[a.b]]\n[lines.desk]\n[lines.desk]\n", "lines.desk: is a duplicate: see line 3"),
            ("a = 1\n\na = 'canary'\n", "a: is a duplicate: see line 3"),
            ("[a.b]\nc = 1\nd = 2\nc = 'canary'\n", "a.b.c: is a duplicate: see line 4"),
            ("a = 1\nb = canary\n", "configuration: is not TOML: see line 2"),
        ] {
            let error = Settings::from_toml(text).unwrap_err();
            assert_eq!(error.to_string(), rule, "{text}");
        }
    }

    #[test]
    fn values_come_from_files_and_the_environment() {
        let path = std::env::temp_dir().join(format!("civic-secret-{}", std::process::id()));
        std::fs::write(&path, "from-a-file\n").unwrap();
        let json = serde_json::json!({ "token": { "file": path } }).to_string();
        assert_eq!(Settings::from_json(&json).unwrap().read::<Config>().unwrap().token.expose(), "from-a-file");
        std::fs::remove_file(path).unwrap();
        // PATH is set on every machine that runs tests.
        let settings = Settings::from_json(r#"{"token":{"env":"PATH"}}"#).unwrap();
        assert_eq!(settings.read::<Config>().unwrap().token.expose(), std::env::var("PATH").unwrap());
        let missing = Settings::from_json(r#"{"token":{"env":"CIVIC_NOT_SET"}}"#).unwrap();
        let error = missing.read::<Config>().unwrap_err();
        assert_eq!(error.field(), Some("token"));
        assert!(error.to_string().contains("the variable CIVIC_NOT_SET, which is not set"), "{error}");
    }

    #[test]
    fn environment_values_lose_their_line_break() {
        // Cargo sets no variable with a line break and a test must not change its own environment, so it runs a child
        // process.
        if std::env::var_os("CIVIC_TEST_TOKEN").is_none() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "settings::tests::environment_values_lose_their_line_break", "--nocapture"]);
            let output = child.env("CIVIC_TEST_TOKEN", "from-the-environment\r\n").output().unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
            return;
        }
        let token = |settings: Settings| settings.read::<Config>().unwrap().token.expose().to_owned();
        let named = Settings::from_json(r#"{"token":{"env":"CIVIC_TEST_TOKEN"}}"#).unwrap();
        assert_eq!(token(named), "from-the-environment");
        assert_eq!(token(Settings::from_env("CIVIC_TEST_").unwrap()), "from-the-environment");
    }

    #[test]
    fn connect_checks_the_configured_medium() {
        let registry = Registry::empty().register("acme", |_, _| Ok(Arc::new(crate::Mock::sms())));
        let connect = |json: &str| {
            let settings = Settings::from_json(json).unwrap();
            registry
                .connect(&settings, &Context::with_transport(crate::transport::NoTransport))
                .map(|c| c.info().medium.clone())
        };
        assert_eq!(connect(r#"{"gateway":"acme","medium":"sms"}"#).unwrap(), Medium::Sms);
        assert_eq!(connect(r#"{"gateway":"acme"}"#).unwrap(), Medium::Sms);
        for wrong in ["whatsapp", "rcs", "Not A Medium"] {
            let error = connect(&format!(r#"{{"gateway":"acme","medium":"{wrong}"}}"#)).unwrap_err();
            assert_eq!(error.field(), Some("medium"), "{wrong}");
        }
    }

    #[test]
    fn unknown_gateway_error_lists_known_gateways() {
        let context = Context::with_transport(crate::transport::NoTransport);
        let registry = Registry::empty().register("acme", |_, _| Err(Error::config("token", "is empty")));
        let error = registry.connect(&Settings::from_json(r#"{"gateway":"acne"}"#).unwrap(), &context).unwrap_err();
        assert!(error.to_string().contains("acme"));
        let all = Settings::from_json(r#"{"bins":{"gateway":"acme"}}"#).unwrap();
        assert_eq!(registry.connect_all(&all, &context).unwrap_err().field(), Some("bins.token"));
    }
}
