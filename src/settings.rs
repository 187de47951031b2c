//! The settings of a channel, from a file or the environment.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::address::Medium;
use crate::model::error::{Error, Result};

/// The configuration of a channel, from TOML, JSON or the environment.
///
/// A value can be kept out of the file: `{ env = "NOTIFY_API_KEY" }` is read from the environment, `{ file = "…" }`
/// from a file, both without the line's end. `Debug` shows the names of the settings only.
#[derive(Clone)]
pub struct Settings(pub(crate) Map<String, Value>);

impl Settings {
    /// Reads TOML.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is not TOML.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self> {
        let value: Value = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |at| text.get(..at.start).map_or(1, |t| t.lines().count().max(1)));
            Error::config("configuration", format!("is not TOML: see line {line}"))
        })?;
        Self::new(value)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|e| Error::config("configuration", format!("is not JSON: see line {}", e.line())))?;
        Self::new(value)
    }

    /// Reads environment variables: with the prefix `BINS_`, `BINS_API_KEY` is the setting `api_key`. The line's end is
    /// left out of each.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when no variable has the prefix.
    pub fn from_env(prefix: &str) -> Result<Self> {
        let named = |(name, value): (String, String)| {
            Some((name.strip_prefix(prefix)?.to_lowercase(), Value::from(line(value))))
        };
        let vars = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
        let settings: Map<_, _> = vars.filter_map(named).collect();
        if settings.is_empty() {
            return Err(Error::config("environment", "has no variable with this prefix"));
        }
        Ok(Self(settings))
    }

    /// Sets one value over what was read.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), Value::String(value.into()));
        self
    }

    /// The name of the gateway.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is missing.
    pub fn gateway(&self) -> Result<String> {
        if !self.0.contains_key("gateway") {
            return Err(Error::config("gateway", "is missing, and there is no list of suppliers either"));
        }
        self.one("gateway")
    }

    /// The medium.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is missing or no medium's name.
    pub fn medium(&self) -> Result<Medium> {
        self.one("medium")
    }

    /// The settings as a gateway's `Config`. `gateway` and `medium` are left out, being read already.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the field and its rule, and no value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let mut map = self.0.clone();
        map.retain(|name, _| name != "gateway" && name != "medium");
        self.value("configuration", Value::Object(map))
    }

    /// The tables in it, as settings of their own, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when there is anything but tables.
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

    fn one<T: DeserializeOwned>(&self, name: &'static str) -> Result<T> {
        let value = self.0.get(name).ok_or_else(|| Error::config(name, "is missing"))?;
        self.value(name, value.clone())
    }

    fn value<T: DeserializeOwned>(&self, name: &str, mut value: Value) -> Result<T> {
        resolve(&mut value, name)?;
        serde_path_to_error::deserialize(&value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { name.to_owned() } else { path };
            Error::config(field, rule(&error.into_inner().to_string(), &value))
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Puts values in the place of `{ env = "…" }` and `{ file = "…" }`, and names the setting whose value cannot be had.
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
        *value = Value::String(line(text));
    }
    Ok(())
}

/// The text without the line's end, with which secrets are often stored.
fn line(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    text
}

/// What a deserialiser says, without any value of the configuration in it: one of them could be a secret.
fn rule(words: &str, value: &Value) -> String {
    let mut shown = Vec::new();
    let mut hide = vec![value];
    while let Some(value) = hide.pop() {
        match value {
            Value::Array(values) => hide.extend(values),
            Value::Object(map) => hide.extend(map.values()),
            // As it is, and as serde quotes it.
            Value::String(text) => shown.extend([text.clone(), format!("{text:?}").trim_matches('"').to_owned()]),
            // A short number is no secret, and a rule may be written with it.
            Value::Number(number) => shown.extend(Some(number.to_string()).filter(|number| number.len() > 5)),
            _ => {}
        }
    }
    // The longest first: a short one may be a part of it, and would leave the rest of it to be seen.
    shown.sort_by_key(|text| std::cmp::Reverse(text.len()));
    shown.retain(|text| !text.is_empty());
    shown.iter().fold(words.to_owned(), |words, text| without(&words, text))
}

/// The words with `…` in the place of this text, but where it is a part of another word: `short` is none of `shorter`.
fn without(words: &str, text: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
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
        for (json, field, words) in [
            (r#"{"gateway":"acme"}"#, "configuration", "missing field `token`"),
            (r#"{"token":"short"}"#, "token", "is shorter than 8 bytes"),
            (r#"{"token":12345678901}"#, "token", "invalid type"),
            (r#"{"token":"canary-token","retries":"canary-retries"}"#, "retries", "invalid type"),
            (r#"{"token":"canary-token","colour":1}"#, "colour", "unknown field"),
            // As serde quotes it, and with another value in its middle.
            (r#"{"token":"ab","retries":"canary\"ab\\canary"}"#, "retries", "invalid type"),
        ] {
            let error = Settings::from_json(json).unwrap().read::<Config>().unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{json}");
            let text = error.to_string();
            assert!(text.contains(words) && !text.contains("canary") && !text.contains("12345678901"), "{text}");
        }
        assert!(!format!("{:?}", Settings::from_json(r#"{"token":"canary-token"}"#).unwrap()).contains("canary"));
    }

    #[test]
    fn values_come_from_files_and_the_environment() {
        let path = std::env::temp_dir().join(format!("civic-secret-{}", std::process::id()));
        std::fs::write(&path, "from-a-file\n").unwrap();
        let json = serde_json::json!({ "token": { "file": path } }).to_string();
        assert_eq!(Settings::from_json(&json).unwrap().read::<Config>().unwrap().token.expose(), "from-a-file");
        std::fs::remove_file(path).unwrap();
        // PATH is there on every machine that runs tests.
        let settings = Settings::from_json(r#"{"token":{"env":"PATH"}}"#).unwrap();
        assert_eq!(settings.read::<Config>().unwrap().token.expose(), std::env::var("PATH").unwrap());
        let missing = Settings::from_json(r#"{"token":{"env":"CIVIC_NOT_SET"}}"#).unwrap();
        let error = missing.read::<Config>().unwrap_err();
        assert_eq!(error.field(), Some("token"));
        assert!(error.to_string().contains("the variable CIVIC_NOT_SET, which is not set"), "{error}");
    }

    #[test]
    fn environment_values_lose_their_line_end() {
        // Cargo sets no variable with a line's end, and a test must not change its environment: a child has one.
        if std::env::var_os("CIVIC_TEST_TOKEN").is_none() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "settings::tests::environment_values_lose_their_line_end", "--nocapture"]);
            let output = child.env("CIVIC_TEST_TOKEN", "from-the-environment\r\n").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let token = |settings: Settings| settings.read::<Config>().unwrap().token.expose().to_owned();
        let named = Settings::from_json(r#"{"token":{"env":"CIVIC_TEST_TOKEN"}}"#).unwrap();
        assert_eq!(token(named), "from-the-environment");
        assert_eq!(token(Settings::from_env("CIVIC_TEST_").unwrap()), "from-the-environment");
    }

    #[test]
    fn the_medium_that_is_configured_is_the_one_that_is_connected() {
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
    fn an_unknown_gateway_is_told_what_is_known() {
        let context = Context::with_transport(crate::transport::NoTransport);
        let registry = Registry::empty().register("acme", |_, _| Err(Error::config("token", "is empty")));
        let error = registry.connect(&Settings::from_json(r#"{"gateway":"acne"}"#).unwrap(), &context).unwrap_err();
        assert!(error.to_string().contains("acme"));
        let all = Settings::from_json(r#"{"bins":{"gateway":"acme"}}"#).unwrap();
        assert_eq!(registry.connect_all(&all, &context).unwrap_err().field(), Some("bins.token"));
    }
}
