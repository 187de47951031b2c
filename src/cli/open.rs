//! A switchboard from a configuration file.

use std::path::Path;

use civic_messaging::switchboard::{Configuration, Line, Switchboard};
use civic_messaging::{Context, Registry, Settings};

use super::args::Common;
use super::failure::Failure;

/// Reads a file, with the values that were set on the command line.
pub(crate) fn settings(file: &Path, common: &Common) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{}: cannot be read: {}", file.display(), error.kind())))?;
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let mut settings = if is_json { Settings::from_json(&text) } else { Settings::from_toml(&text) }?;
    for one in &common.set {
        match one.split_once('=') {
            Some((name, value)) if !name.is_empty() => settings = settings.set(name, value),
            _ => return Err(Failure::Usage("--set: must be NAME=VALUE".to_owned())),
        }
    }
    Ok(settings)
}

/// Checks a file.
pub(crate) fn configuration(file: &Path, common: &Common) -> Result<Configuration, Failure> {
    let settings = settings(file, common)?;
    Ok(Configuration::new(&settings, &Registry::standard(), &context()?)?)
}

/// Checks a file, and that its store exists: a misspelt path must not look like an empty store.
pub(crate) fn existing(file: &Path, common: &Common) -> Result<Configuration, Failure> {
    let configuration = configuration(file, common)?;
    match configuration.store_file() {
        Some(path) if !path.exists() => {
            let hint = "check the path, which is relative to the working directory; `civic-messaging run` creates it";
            Err(Failure::Usage(format!("store.url: there is no file {}: {hint}", path.display())))
        }
        _ => Ok(configuration),
    }
}

/// Opens the switchboard of a file whose store exists.
pub(crate) async fn switchboard(file: &Path, common: &Common) -> Result<(Switchboard, Vec<Line>), Failure> {
    opened(existing(file, common)?).await
}

pub(crate) async fn opened(configuration: Configuration) -> Result<(Switchboard, Vec<Line>), Failure> {
    let lines = configuration.lines().to_vec();
    Ok((configuration.open().await?.build()?, lines))
}

/// Returns the dependencies of the channels, with the system clock.
#[cfg(not(feature = "testing"))]
fn context() -> Result<Context, Failure> {
    Ok(Context::new())
}

/// Returns the dependencies of the channels. The program of the tests may start at another time, from which its clock runs
/// on.
#[cfg(feature = "testing")]
fn context() -> Result<Context, Failure> {
    use civic_messaging::Timestamp;
    use civic_messaging::clock::{Clock, Sleep, SystemClock};
    use std::time::Duration;

    /// The system clock with an offset in milliseconds.
    #[derive(Debug)]
    struct Offset(SystemClock, i64);

    impl Clock for Offset {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.now().as_millis().saturating_add(self.1))
        }

        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }

        fn sleep(&self, duration: Duration) -> Sleep {
            self.0.sleep(duration)
        }
    }

    let context = Context::new();
    match std::env::var("CIVIC_MESSAGING_TEST_TIME") {
        Ok(time) => {
            let (system, time) = (SystemClock::new(), time.parse::<Timestamp>()?);
            let offset = time.as_millis().saturating_sub(system.now().as_millis());
            Ok(context.clock(Offset(system, offset)))
        }
        Err(_) => Ok(context),
    }
}
