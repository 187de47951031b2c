//! The files of a new adapter, from the templates and its options.

use std::path::Path;

use crate::options::{Auth, Body, Method, Options, Signature};

/// Returns each file's path in the new crate, with its text.
pub(crate) fn generate(options: &Options) -> Vec<(&'static str, String)> {
    let slots = slots(options);
    [
        ("Cargo.toml", include_str!("template/Cargo.toml.in")),
        ("README.md", include_str!("template/README.md.in")),
        ("src/lib.rs", include_str!("template/lib.rs.in")),
        ("tests/conformance.rs", include_str!("template/conformance.rs.in")),
    ]
    .into_iter()
    .map(|(path, template)| (path, fill(template, &slots)))
    .collect()
}

type Slots = Vec<(&'static str, String)>;

/// Replaces each `@slot@`. The text of a slot may have slots itself, up to four deep.
fn fill(template: &str, slots: &Slots) -> String {
    let once = |text: String, _| slots.iter().fold(text, |text, (slot, of)| text.replace(&format!("@{slot}@"), of));
    (0..4).fold(template.to_owned(), once)
}

fn slots(options: &Options) -> Slots {
    let mut slots = vec![
        ("name", options.name.clone()),
        ("host", options.name.replace('_', "-")),
        ("Type", type_name(&options.name)),
        ("source", source(options.path.as_deref())),
        ("serde_json", if options.body == Body::Json { "serde_json = \"1\"\n".to_owned() } else { String::new() }),
        ("imports", imports(options)),
        ("test_imports", test_imports(options)),
    ];
    slots.extend(medium(options));
    slots.extend(auth(options.auth));
    slots.extend(signature(options));
    slots.extend(body(options));
    slots.extend(webhook(options));
    slots.into_iter().map(|(slot, text)| (slot, text.trim_start_matches('\n').to_owned())).collect()
}

fn type_name(name: &str) -> String {
    let capital = |part: &str| part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect();
    name.split('_').map(capital).collect::<Vec<String>>().concat()
}

fn source(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("path = {:?}", path.display().to_string()),
        None => "version = \"0.1\"".to_owned(),
    }
}

fn reads_json(options: &Options) -> bool {
    options.webhook == Method::Post && options.body == Body::Json
}

fn imports(options: &Options) -> String {
    let auth = match options.auth {
        Auth::Bearer => ", bearer",
        Auth::Basic => ", basic",
        Auth::Header => ", sensitive",
        Auth::Query => ", query",
    };
    let mut names: Vec<_> =
        ["self", "Answer", "Endpoint", "VendorError", auth.trim_start_matches(", "), "delivery_state"]
            .into_iter()
            .chain(reads_json(options).then_some("lenient"))
            .collect();
    names[4..].sort_unstable();
    let json = if reads_json(options) { "use civic_messaging::adapter::json::{Json, Text};\n" } else { "" };
    format!("{json}use civic_messaging::adapter::{{{}}};", names.join(", "))
}

fn test_imports(options: &Options) -> String {
    let encoding = match options.signature {
        Signature::Hmac => "use civic_messaging::webhook::SignatureEncoding;\n",
        Signature::Token | Signature::None => "",
    };
    let medium = if is_other(&options.medium) { "Medium, " } else { "" };
    format!(
        "{encoding}use civic_messaging::{{Address, Channel, DeliveryState, ErrorKind, {medium}Message, Result, Secret}};"
    )
}

fn is_other(medium: &str) -> bool {
    !matches!(medium, "sms" | "whatsapp" | "messenger" | "x")
}

/// The medium, its limit, and the addresses of recordings.
fn medium(options: &Options) -> Slots {
    let (medium, limit, person, account, resident, sender) = match options.medium.as_str() {
        "sms" => ("Medium::Sms", "segments(6)", "Address::sms_sender", "+447700900456", "phone(\"07700 900123\")", ""),
        "whatsapp" => (
            "Medium::WhatsApp",
            "characters(4_096)",
            "|from| Address::whatsapp(from).ok()",
            "+447700900456",
            "whatsapp(\"+447700900123\")",
            "+447700900123",
        ),
        "messenger" => (
            "Medium::Messenger",
            "characters(2_000)",
            "|from| Address::messenger(from).ok()",
            "7000000000000001",
            "messenger(\"8000000000000001\")",
            "8000000000000001",
        ),
        "x" => (
            "Medium::X",
            "characters(10_000)",
            "|from| Address::x(from).ok()",
            "1900000000000000202",
            "x(\"1900000000000000101\")",
            "1900000000000000101",
        ),
        other => {
            let medium = format!("Medium::other(\"{other}\")?");
            let person = format!("|from| Address::other(Medium::other(\"{other}\").ok()?, from).ok()");
            let resident = format!("Address::other(Medium::other(\"{other}\").unwrap(), \"resident-4711\")");
            return vec![
                ("medium", medium),
                ("text_limit", "TextLimit::characters(1_000)".to_owned()),
                ("person", person),
                ("account", "council-desk".to_owned()),
                ("resident", resident),
                ("sender", "resident-4711".to_owned()),
            ];
        }
    };
    vec![
        ("medium", medium.to_owned()),
        ("text_limit", format!("TextLimit::{limit}")),
        ("person", person.to_owned()),
        ("account", account.to_owned()),
        ("resident", format!("Address::{resident}")),
        ("sender", if sender.is_empty() { "+447700900123" } else { sender }.to_owned()),
    ]
}

/// The credential: its settings, how requests carry it, and how a recording shows it.
fn auth(auth: Auth) -> Slots {
    let (config, fields, new, headers, imports, test, step) = match auth {
        Auth::Bearer => (
            "    /// The token of the API.\n    pub api_token: Secret,",
            "    api_token: Secret,",
            "            api_token: config.api_token,",
            "HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.api_token)?)])",
            "{AUTHORIZATION, HeaderMap@header_name@}",
            "            api_token: Secret::new(\"@name@-api-secret\")?,",
            ".bearer(\"@name@-api-secret\")",
        ),
        Auth::Basic => (
            "    /// The user of the API.\n    pub api_user: String,\n    /// The password of the API.\n    pub api_password: Secret,",
            "    api_user: String,\n    api_password: Secret,",
            "            api_user: config.api_user,\n            api_password: config.api_password,",
            "HeaderMap::from_iter([(AUTHORIZATION, basic(&self.api_user, &self.api_password)?)])",
            "{AUTHORIZATION, HeaderMap@header_name@}",
            "            api_user: \"council\".to_owned(),\n            api_password: Secret::new(\"@name@-api-secret\")?,",
            ".basic(\"council\", \"@name@-api-secret\")",
        ),
        Auth::Header => (
            "    /// The key of the API.\n    pub api_key: Secret,",
            "    api_key: Secret,",
            "            api_key: config.api_key,",
            "HeaderMap::from_iter([(HeaderName::from_static(\"x-api-key\"), sensitive(self.api_key.expose())?)])",
            "{HeaderMap, HeaderName}",
            "            api_key: Secret::new(\"@name@-api-secret\")?,",
            ".header(\"x-api-key\", \"@name@-api-secret\")",
        ),
        Auth::Query => (
            "    /// The key of the API.\n    pub api_key: Secret,",
            "    api_key: Secret,",
            "            api_key: config.api_key,",
            "HeaderMap::new()",
            "@query_imports@",
            "            api_key: Secret::new(\"@name@-api-secret\")?,",
            "",
        ),
    };
    let (path, url) = match auth {
        Auth::Query => (
            "&format!(\"/v1/messages?{}\", query(&[(\"api_key\", self.api_key.expose())]))",
            "/v1/messages?api_key=@name@-api-secret",
        ),
        _ => ("\"/v1/messages\"", "/v1/messages"),
    };
    [
        ("config_auth", config),
        ("struct_auth", fields),
        ("init_auth", new),
        ("headers", headers),
        ("http_imports", imports),
        ("test_auth", test),
        ("step_auth", step),
        ("path", path),
        ("url", url),
    ]
    .map(|(slot, text)| (slot, text.to_owned()))
    .into()
}

/// The proof of webhooks.
fn signature(options: &Options) -> Slots {
    let secrets = "    /// The secrets that prove webhooks: several during a rotation.\n    \
                   #[serde(default, deserialize_with = \"webhook::secrets\")]\n    \
                   pub webhook_secrets: Vec<SigningSecret>,";
    let owned = "        let owned = std::slice::from_ref(&info.account);\n        \
                 let secrets = config.webhook_secrets.into_iter().map(|secret| secret.or_owns(owned));\n";
    let test = "            webhook_secrets: setup.webhook_secrets.clone(),";
    let has_secrets = "!config.webhook_secrets.is_empty()";
    let (scheme, names, config, can, new, test, signer, setting) = match (options.signature, options.webhook) {
        (Signature::Hmac, _) => (
            "HmacSha256",
            "HmacSha256, Received, SignatureEncoding, SigningSecret",
            secrets,
            has_secrets,
            format!(
                "{owned}        let header = HeaderName::from_static(\"x-signature\");\n        \
                 let scheme = HmacSha256::new(header, \"\", SignatureEncoding::Hex, secrets);"
            ),
            test,
            "Signer::hmac_sha256(\"x-signature\", \"\", SignatureEncoding::Hex)",
            "webhook_secrets",
        ),
        (Signature::Token, Method::Post) => (
            "HeaderToken",
            "HeaderToken, Received, SigningSecret",
            secrets,
            has_secrets,
            format!("{owned}        let scheme = HeaderToken::new(HeaderName::from_static(\"x-token\"), secrets);"),
            test,
            "Signer::header_token(\"x-token\")",
            "webhook_secrets",
        ),
        (Signature::Token, Method::Get) => (
            "QueryToken",
            "QueryToken, Received, SigningSecret",
            secrets,
            has_secrets,
            format!("{owned}        let scheme = QueryToken::new(\"token\", secrets);"),
            test,
            "Signer::query_token(\"token\")",
            "webhook_secrets",
        ),
        (Signature::None, _) => (
            "Unsigned",
            "Received, SigningSecret, Unsigned",
            "    /// Accepts webhooks that nothing proves: anybody who knows the URL can write as any resident.\n    \
             #[serde(default)]\n    pub accept_unproven: bool,",
            "config.accept_unproven",
            "        let owner = SigningSecret::for_accounts(Secret::new(\"unproven\")?, [info.account.clone()]);\n        \
             let scheme = Unsigned::new(owner);"
                .to_owned(),
            "            accept_unproven: true,",
            "Signer::unsigned()",
            "accept_unproven",
        ),
    };
    let names_header = scheme == "HmacSha256" || scheme == "HeaderToken";
    [
        ("scheme", scheme.to_owned()),
        ("webhook_imports", if reads_json(options) { names.to_owned() } else { with_form(names) }),
        ("config_webhook", config.to_owned()),
        ("can_receive", can.to_owned()),
        ("new_scheme", new),
        ("test_webhook", test.to_owned()),
        ("signer", signer.to_owned()),
        ("webhook_setting", setting.to_owned()),
        ("header_name", if names_header { ", HeaderName" } else { "" }.to_owned()),
        ("query_imports", if names_header { "{HeaderMap, HeaderName}" } else { "HeaderMap" }.to_owned()),
    ]
    .into()
}

fn with_form(names: &str) -> String {
    let mut names: Vec<_> = names.split(", ").chain(["Form"]).collect();
    names.sort_unstable();
    names.join(", ")
}

/// The body of requests.
fn body(options: &Options) -> Slots {
    let (send, step) = match options.body {
        Body::Json => (
            "        let body = serde_json::json!({ \"from\": from, \"to\": to, \"text\": text, \"reference\": message.key });\n        \
             let request = self.endpoint.json(@path@, headers, &body)?;",
            "                        .json(\n                            \
             r#\"{ \"from\": \"@account@\", \"to\": \"@sender@\", \"text\": \"Your collection is on Tuesday.\",\n                                 \
             \"reference\": \"case-4711\" }\"#,\n                        )",
        ),
        Body::Form => (
            "        let fields = [\n            (\"from\", Some(from)),\n            (\"to\", Some(to)),\n            \
             (\"text\", Some(text.as_str())),\n            (\"reference\", message.key.as_deref()),\n        ];\n        \
             let request = self.endpoint.form(@path@, headers, fields)?;",
            "                        .form(\n                            \
             \"from=@account_form@&to=@sender_form@&text=Your+collection+is+on+Tuesday.&reference=case-4711\",\n                        )",
        ),
    };
    let slots = medium(options);
    let of = |name: &str| slots.iter().find(|(slot, _)| *slot == name).map_or("", |(_, text)| text);
    vec![
        ("send", send.to_owned()),
        ("step", format!("                    Step::post(\"@url@\")\n@step_auth_line@{step}")),
        (
            "step_auth_line",
            match options.auth {
                Auth::Query => String::new(),
                _ => "                        @step_auth@\n".to_owned(),
            },
        ),
        ("account_form", of("account").replace('+', "%2B")),
        ("sender_form", of("sender").replace('+', "%2B")),
    ]
}

/// How a webhook is read, and the recordings of webhooks.
fn webhook(options: &Options) -> Slots {
    let recorded = |write: &dyn Fn(&str) -> String| {
        let fields = [
            (
                "id=in-0000001&from=@sender@&text=When is my bin day?",
                ".brings([ExpectedEvent::text(\"in-0000001\", \"When is my bin day?\").from(\"@sender@\")])",
            ),
            (
                "id=in-0000002&from=@sender@&text=STOP",
                ".brings([ExpectedEvent::inbound(\"in-0000002\"), ExpectedEvent::opt_out()])",
            ),
            (
                "id=@name@-0000001&status=DELIVERED&reference=case-4711",
                ".brings([ExpectedEvent::delivery(\"@name@-0000001\", DeliveryState::Delivered).key(\"case-4711\")])",
            ),
            (
                "id=@name@-0000002&status=FAILED",
                ".brings([ExpectedEvent::delivery(\"@name@-0000002\", DeliveryState::Failed)])",
            ),
            (
                "id=@name@-0000002&status=PONDERING",
                ".brings([ExpectedEvent::delivery(\"@name@-0000002\", DeliveryState::Unrecognised)])",
            ),
            ("colour=green", ".brings([ExpectedEvent::unrecognised()])"),
        ];
        let line = |(fields, brings): (&str, &str)| {
            format!("            post({})\n                {brings},\n", write(fields))
        };
        fields.into_iter().map(line).collect::<String>()
    };
    let other = |write: &dyn Fn(&str) -> String| {
        format!(
            "            // Of another account.\n            other({}).discards(1),\n",
            write("id=in-0000003&from=@sender@&text=Hello")
        )
    };
    if reads_json(options) {
        let json = |fields: &str| {
            let member = |field: &str| {
                let (name, value) = field.split_once('=').unwrap_or((field, ""));
                format!("\"{name}\": \"{value}\"")
            };
            format!("r#\"{}\"#", fields.split('&').map(member).collect::<Vec<_>>().join(", "))
        };
        let head = "        let of = |account: &str, fields: &str| {\n            \
                    Webhook::json(format!(r#\"{{ {fields}, \"number\": \"{account}\", \"at\": \"2026-11-22T13:46:42Z\" }}\"#))\n        };\n        \
                    let (post, other) = (|fields| of(\"@account@\", fields), |fields| of(\"another\", fields));\n        vec![\n";
        return vec![
            ("read", "            let json = Json::new(webhook.body());\n            let hook: Hook<'_> = json.read().unwrap_or_default();".to_owned()),
            ("raw", "webhook.body().clone()".to_owned()),
            ("hook", include_str!("template/hook_json.rs.in").to_owned()),
            ("Hook", "Hook<'_>".to_owned()),
            ("id", "self.id.some()".to_owned()),
            ("text", "self.text.to_text()".to_owned()),
            ("status", "self.status.some()".to_owned()),
            ("reference", "self.reference.to_text()".to_owned()),
            ("webhooks", format!("{head}{}{}        ]", recorded(&json), other(&json))),
        ];
    }
    let form = |fields: &str| {
        format!("{:?}", fields.replace('+', "%2B").replace(' ', "+").replace("@sender@", "@sender_form@"))
    };
    let (make, raw) = match options.webhook {
        Method::Get => ("Webhook::get(&", "webhook.query().unwrap_or_default().to_owned()"),
        Method::Post => ("Webhook::form(", "webhook.body().clone()"),
    };
    let head = format!(
        "        let of = |account: &str, fields: &str| {{\n            \
         {make}format!(\"{{fields}}&number={{account}}&at=2026-11-22T13%3A46%3A42Z\"))\n        }};\n        \
         let (post, other) = (|fields| of(\"@account_form@\", fields), |fields| of(\"another\", fields));\n        vec![\n"
    );
    vec![
        (
            "read",
            "            let Some(form) = webhook.fields() else { return };\n            let hook = Hook::new(&form);"
                .to_owned(),
        ),
        ("raw", raw.to_owned()),
        ("hook", include_str!("template/hook_form.rs.in").to_owned()),
        ("Hook", "Hook".to_owned()),
        ("id", "self.id.as_deref()".to_owned()),
        ("text", "self.text.clone()".to_owned()),
        ("status", "self.status.as_deref()".to_owned()),
        ("reference", "self.reference.clone()".to_owned()),
        ("webhooks", format!("{head}{}{}        ]", recorded(&form), other(&form))),
    ]
}
