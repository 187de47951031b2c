//! The options of a new adapter.

use std::path::PathBuf;

use civic_messaging::Medium;

pub(crate) const HELP: &str = "\
Writes an adapter for a gateway: a crate that compiles, and passes the conformance suite with an invented supplier.

    cargo run --example new_adapter --features testing -- NAME [OPTIONS]

NAME                     of the crate: lowercase words with - or _ between them, such as acme-sms
--medium MEDIUM          sms (default), whatsapp, messenger, x, or the name of another medium
--auth AUTH              credential of requests: bearer (default), basic, header or query
--signature SIGNATURE    proof of webhooks: hmac-sha256 (default), token, or none: anybody can forge them
--body BODY              body of requests, and of webhooks by POST: json (default) or form
--webhook WEBHOOK        method of webhooks: post (default), or get: the values are in the query
--out DIR                the new directory (default: NAME)
--path DIR               a checkout of civic-messaging to depend on (default: version 0.1 of the registry)
";

/// The options of a new adapter.
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
    /// Returns the default options.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        Ok(Self {
            name: checked_name(name)?,
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
        let mut options = Self::new(&arguments.next().ok_or("NAME is missing: see --help")?)?;
        while let Some(option) = arguments.next() {
            if !HELP.lines().any(|line| line.starts_with("--") && line.split(' ').next() == Some(&option)) {
                return Err(format!("unknown option {option}: see --help"));
            }
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--medium" => options.medium = checked_medium(value)?,
                "--auth" => options.auth = Auth::parse(&option, &value)?,
                "--signature" => options.signature = Signature::parse(&option, &value)?,
                "--body" => options.body = Body::parse(&option, &value)?,
                "--webhook" => options.webhook = Method::parse(&option, &value)?,
                "--out" => options.out = Some(value.into()),
                _ => options.path = Some(value.into()),
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Refuses options that exclude each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (self.webhook, self.signature) {
            (Method::Get, Signature::Hmac) => {
                Err("--webhook get has no body to sign: add --signature token, or none".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Names that a crate cannot have beside its dependencies, or that are words of the language.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "http",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "serde_json",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "civic_messaging",
];

fn checked_name(name: &str) -> Result<String, String> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.split(['-', '_']).all(is_word) {
        return Err(format!(
            "NAME must be lowercase words of letters and digits with - or _ between them, such as acme-sms: got {name:?}"
        ));
    }
    match RESERVED.contains(&name.replace('-', "_").as_str()) {
        true => Err(format!("NAME must not be `{name}`: the name is reserved, or that of a dependency")),
        false => Ok(name.to_owned()),
    }
}

fn checked_medium(name: String) -> Result<String, String> {
    Medium::other(&name).map_err(|error| format!("--medium {name:?}: {error}"))?;
    Ok(name)
}
