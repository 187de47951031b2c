//! The choices of a new adapter.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Writes an adapter for a gateway: a crate that compiles and passes the conformance suite with an invented supplier.

    cargo run --example new_adapter --features testing -- NAME [OPTIONS]

NAME                     lowercase letters, digits and _, such as acme_sms
--medium MEDIUM          sms (default), whatsapp, messenger, x, or the name of another medium
--auth AUTH              bearer (default), basic, header or query
--signature SIGNATURE    hmac-sha256 (default), token, or none: nothing proves who sent a webhook
--body BODY              json (default) or form
--webhook WEBHOOK        post (default), or get: the values are in the query
--out DIR                the new folder (default: NAME)
--path DIR               where civic-messaging is, in place of its published version
";

/// The choices of a new adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) medium: String,
    pub(crate) auth: Auth,
    pub(crate) signature: Signature,
    pub(crate) body: Body,
    pub(crate) webhook: Method,
    pub(crate) out: Option<PathBuf>,
    pub(crate) path: Option<PathBuf>,
}

macro_rules! choices {
    ($(#[doc = $doc:literal] $type:ident { $($variant:ident = $word:literal),* })*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $type {
            $($variant),*
        }

        impl $type {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            fn parse(option: &str, word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{option} must be one of: {}", [$($word),*].join(", "))),
                }
            }
        }
    )*};
}

choices! {
    /// The credential of requests.
    Auth { Bearer = "bearer", Basic = "basic", Header = "header", Query = "query" }
    /// The proof of webhooks.
    Signature { Hmac = "hmac-sha256", Token = "token", None = "none" }
    /// The body of requests.
    Body { Json = "json", Form = "form" }
    /// The method of webhooks.
    Method { Post = "post", Get = "get" }
}

impl Options {
    /// Returns the default choices.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_name) || name.ends_with('_') {
            return Err("NAME must consist of lowercase letters, digits and _, and start with a letter".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            medium: "sms".to_owned(),
            auth: Auth::Bearer,
            signature: Signature::Hmac,
            body: Body::Json,
            webhook: Method::Post,
            out: None,
            path: None,
        })
    }

    /// Parses the arguments of the command line.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let mut options = Self::new(&arguments.next().ok_or("NAME is missing")?)?;
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--medium" => options.medium = medium(value)?,
                "--auth" => options.auth = Auth::parse(&option, &value)?,
                "--signature" => options.signature = Signature::parse(&option, &value)?,
                "--body" => options.body = Body::parse(&option, &value)?,
                "--webhook" => options.webhook = Method::parse(&option, &value)?,
                "--out" => options.out = Some(value.into()),
                "--path" => options.path = Some(value.into()),
                _ => return Err(format!("unknown option {option}; see --help")),
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Refuses choices that exclude each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (self.webhook, self.signature) {
            (Method::Get, Signature::Hmac) => {
                Err("a GET has no body to sign: use --signature token, or none".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn medium(name: String) -> Result<String, String> {
    match name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) && !name.is_empty() {
        true => Ok(name),
        false => Err("--medium must consist of lowercase letters and digits".to_owned()),
    }
}
