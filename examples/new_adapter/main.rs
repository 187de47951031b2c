//! Writes a new adapter: `cargo run --example new_adapter --features testing -- NAME --auth basic --body form`.
//!
//! The new crate compiles, and passes the conformance suite with an invented supplier. `--help` lists the options.

mod generate;
mod options;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::{HELP, Options};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(arguments).and_then(write) {
        Ok(directory) => {
            let directory = directory.display();
            println!("written: {directory}\nNext: cd {directory} && cargo fmt && cargo test, then its README.md");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the crate into a directory that does not exist yet.
fn write(mut options: Options) -> Result<PathBuf, String> {
    if let Some(path) = &options.path {
        // Absolute, because the manifest is in another directory.
        let checkout = fs::canonicalize(path).ok().filter(|path| path.join("Cargo.toml").is_file());
        let missing = || format!("--path {}: no Cargo.toml is there", path.display());
        options.path = Some(checkout.ok_or_else(missing)?);
    }
    let files = generate::generate(&options)?;
    let directory = options.out.unwrap_or_else(|| PathBuf::from(&options.name));
    let failed = |path: &Path, error: &std::io::Error| format!("{} cannot be written: {error}", path.display());
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
    }
    fs::create_dir(&directory).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("{} exists: choose another directory with --out", directory.display()),
        _ => failed(&directory, &error),
    })?;
    for (path, text) in files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(&directory);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| failed(&path, &error))?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;
    use crate::options::{Auth, Body, Method, Signature};

    fn parse(arguments: &str) -> Result<Options, String> {
        Options::parse(arguments.split(' ').map(str::to_owned))
    }

    /// Returns the text of a file of a new crate.
    fn file(options: &Options, path: &str) -> String {
        let files = generate(options).unwrap();
        files.into_iter().find(|(there, _)| there == Path::new(path)).unwrap().1
    }

    #[test]
    fn every_combination_selects_and_fills_its_parts() {
        let mut count = 0;
        for medium in ["sms", "whatsapp", "messenger", "x", "rcs"] {
            for auth in Auth::ALL {
                for signature in Signature::ALL {
                    for body in Body::ALL {
                        for webhook in Method::ALL {
                            let mut options = Options::new("acme-sms").unwrap();
                            (options.medium, options.auth, options.signature) = (medium.to_owned(), *auth, *signature);
                            (options.body, options.webhook) = (*body, *webhook);
                            let Ok(files) = generate(&options) else {
                                assert_eq!((*signature, *webhook), (Signature::Hmac, Method::Get));
                                continue;
                            };
                            for (path, text) in files {
                                let left = text.lines().find(|line| line.contains('@') || line.starts_with('%'));
                                assert_eq!(left, None, "{options:?}: {}", path.display());
                                let rust = path.extension().is_some_and(|extension| extension == "rs");
                                assert_eq!(rust, text.contains("AcmeSms::new("));
                                assert_eq!(text.matches('{').count(), text.matches('}').count(), "{}", path.display());
                            }
                            count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(count, 5 * 4 * 5 * 2);
    }

    #[test]
    fn every_flag_of_the_templates_is_set_by_an_option() {
        let mut given = String::new();
        for arguments in [
            "acme",
            "acme --medium whatsapp --auth basic --signature token --body form",
            "acme --medium messenger --auth header --signature none",
            "acme --medium x --auth query --signature token --webhook get",
            "acme --medium rcs",
        ] {
            given +=
                &generate::flags(&parse(arguments).unwrap()).into_iter().map(|flag| flag + " ").collect::<String>();
        }
        for (path, template) in generate::TEMPLATES {
            for line in template.lines().filter_map(|line| line.strip_prefix("%if ")) {
                assert!(line.split(' ').all(|flag| given.contains(&format!("{flag} "))), "{path}: {line}");
            }
            let lines = |start: &str| template.lines().filter(|line| line.starts_with(start)).count();
            assert_eq!(lines("%if "), lines("%end"), "{path}");
            assert_eq!(lines("%"), lines("%if ") + lines("%else") + lines("%end"), "{path}");
        }
    }

    /// The example is the generated adapter in one file: it is formatted, linted and tested there.
    ///
    /// `CIVIC_WRITE=1 cargo test --all-features --example new_adapter && cargo fmt` rewrites it.
    #[test]
    fn custom_gateway_is_the_generated_adapter() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom_gateway.rs");
        let example = fs::read_to_string(path).unwrap();
        let severn = Options::new("severn").unwrap();
        let from_imports = |path| {
            let text = file(&severn, path);
            text[text.find("use ").unwrap()..].trim_end().to_owned()
        };
        let recorded = from_imports("tests/conformance.rs")
            .replace("severn::", "super::")
            .replace("struct Recorded", "pub struct Recorded")
            .replace("civic_messaging::conformance_tests!", "#[cfg(test)]\ncivic_messaging::conformance_tests!");
        let (head, rest) = example.split_at(example.find("use ").unwrap());
        let (_, rest) = rest.split_at(rest.find("// ---- In your own crate").unwrap());
        let (line, rest) = rest.split_at(rest.find("mod recorded {").unwrap());
        let (_, main) = rest.split_at(rest.find("// ---- Runs the suite").unwrap());
        let lib = from_imports("src/lib.rs");
        let expected = format!("{head}{lib}\n\n{line}mod recorded {{\n{recorded}\n}}\n\n{main}");
        if std::env::var_os("CIVIC_WRITE").is_some() {
            fs::write(path, &expected).unwrap();
            return;
        }
        // rustfmt breaks lines elsewhere in the indented module.
        let tokens = |text: &str| text.split_whitespace().collect::<String>();
        assert!(tokens(&example) == tokens(&expected), "rewrite it with CIVIC_WRITE=1, then cargo fmt");
    }

    #[test]
    fn guide_lists_the_dependencies_of_a_new_crate() {
        let guide = include_str!("../../docs/adapter.md");
        let (_, rest) = guide.split_once("```toml\n[dependencies]").unwrap();
        let (listed, _) = rest.split_once("```").unwrap();
        let manifest = file(&Options::new("acme").unwrap(), "Cargo.toml");
        let (_, expected) = manifest.split_once("[dependencies]").unwrap();
        let tokens = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(tokens(listed), tokens(expected));
    }

    #[test]
    fn wrong_option_is_named_with_its_rule() {
        for (arguments, rule) in [
            ("Acme", "NAME must be lowercase words"),
            ("acme--sms", "NAME must be lowercase words"),
            ("acme_", "NAME must be lowercase words"),
            ("4com", "NAME must be lowercase words"),
            ("../acme", "NAME must be lowercase words"),
            ("async", "NAME must not be `async`"),
            ("serde-json", "NAME must not be `serde-json`"),
            ("acme --auth oauth", "--auth must be one of: bearer, basic, header, query"),
            ("acme --body xml", "--body must be one of: json, form"),
            ("acme --signature", "--signature needs a value"),
            ("acme --colour green", "unknown option --colour"),
            ("acme --colour", "unknown option --colour"),
            ("acme --medium Fax", "--medium \"Fax\": "),
            ("acme --webhook get", "--webhook get has no body to sign"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(rule), "{arguments}: {error}");
        }
        assert_eq!(parse("acme --webhook get --signature token").unwrap().webhook, Method::Get);
    }

    #[test]
    fn name_of_another_struct_is_refused() {
        for name in ["config", "option", "subject"] {
            let error = generate(&Options::new(name).unwrap()).unwrap_err();
            assert!(error.contains("which the crate uses already"), "{name}: {error}");
        }
    }

    #[test]
    fn kebab_case_names_the_package_and_snake_case_the_crate() {
        let options = parse("acme-sms --path .").unwrap();
        assert!(file(&options, "Cargo.toml").contains("name = \"acme-sms\""));
        assert!(file(&options, "Cargo.toml").contains("civic-messaging = { path = \".\","));
        assert!(file(&options, "tests/conformance.rs").contains("acme_sms::AcmeSms::new("));
    }

    #[test]
    fn existing_directory_is_not_overwritten() {
        let options = Options { out: Some(std::env::temp_dir()), ..Options::new("acme").unwrap() };
        assert!(write(options).unwrap_err().contains("exists"));
    }

    #[test]
    fn path_without_a_manifest_is_refused() {
        let options = Options { path: Some("/nowhere".into()), ..Options::new("acme").unwrap() };
        assert_eq!(write(options).unwrap_err(), "--path /nowhere: no Cargo.toml is there");
    }
}
