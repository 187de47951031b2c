//! Writes a new adapter: `cargo run --example new_adapter --features testing -- NAME --auth basic --body form`.
//!
//! The new crate compiles, and passes the conformance suite with an invented supplier. `--help` lists the options.

mod generate;
mod options;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::{HELP, Options};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(arguments).and_then(|options| write(&options)) {
        Ok(folder) => {
            println!(
                "{} is written. Next: cd {} && cargo fmt && cargo test, and its README.md",
                folder.display(),
                folder.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the crate into a folder that does not exist yet.
fn write(options: &Options) -> Result<PathBuf, String> {
    let folder = options.out.clone().unwrap_or_else(|| PathBuf::from(&options.name));
    if folder.exists() {
        return Err(format!("{} exists: choose another --out", folder.display()));
    }
    for (path, text) in generate::generate(options) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Auth, Body, Method, Signature};

    fn parse(arguments: &str) -> Result<Options, String> {
        Options::parse(arguments.split(' ').map(str::to_owned))
    }

    #[test]
    fn every_combination_fills_every_slot() {
        let mut count = 0;
        for medium in ["sms", "whatsapp", "messenger", "x", "rcs"] {
            for auth in Auth::ALL {
                for signature in Signature::ALL {
                    for body in Body::ALL {
                        for webhook in Method::ALL {
                            let mut options = Options::new("acme_sms").unwrap();
                            (options.medium, options.auth, options.signature) = (medium.to_owned(), *auth, *signature);
                            (options.body, options.webhook) = (*body, *webhook);
                            if options.check().is_err() {
                                continue;
                            }
                            for (path, text) in generate::generate(&options) {
                                assert!(!text.contains('@'), "{options:?} {path}: {text}");
                                assert!(!path.ends_with(".rs") || text.contains("AcmeSms"), "{path}");
                            }
                            count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(count, 5 * 4 * 2 * 5);
    }

    #[test]
    fn wrong_option_is_named() {
        for (arguments, rule) in [
            ("Acme", "NAME must"),
            ("acme-sms", "NAME must"),
            ("acme --auth oauth", "--auth must be one of: bearer, basic, header, query"),
            ("acme --signature", "--signature needs a value"),
            ("acme --colour green", "unknown option --colour"),
            ("acme --medium Fax", "--medium must"),
            ("acme --webhook get", "a GET has no body to sign"),
        ] {
            assert!(parse(arguments).unwrap_err().contains(rule), "{arguments}");
        }
        assert_eq!(parse("acme --webhook get --signature token").unwrap().webhook, Method::Get);
    }

    #[test]
    fn existing_folder_is_not_overwritten() {
        let options = Options { out: Some(std::env::temp_dir()), ..Options::new("acme").unwrap() };
        assert!(write(&options).unwrap_err().contains("exists"));
    }
}
