//! The log on stderr: the events of this library only, which contain no personal data and no secret.

use clap::ValueEnum;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

/// The least severe level to log.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

/// Starts the log.
pub(super) fn start(level: Level) {
    let level = match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // Other crates may log what they handle.
    let ours = Targets::new().with_target("civic_messaging", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(ours));
    // Set once in a process.
    _ = tracing::subscriber::set_global_default(subscriber);
}
