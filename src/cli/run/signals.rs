//! SIGTERM and ctrl-c.

use tokio::sync::watch;

use super::super::failure::Failure;

/// The signals to stop, caught from its creation on.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};

            let failed = |error: std::io::Error| Failure::Failed(format!("cannot catch signals: {}", error.kind()));
            let terminate = signal(SignalKind::terminate()).map_err(failed)?;
            Ok(Self { terminate, interrupt: signal(SignalKind::interrupt()).map_err(failed)? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for a signal, and passes it on. A second signal ends the process at once, as `kill -9` would.
    pub(super) async fn watch(mut self, stop: watch::Sender<bool>) {
        self.received().await;
        _ = stop.send(true);
        self.received().await;
        std::process::exit(130);
    }

    #[cfg(unix)]
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn received(&mut self) {
        _ = tokio::signal::ctrl_c().await;
    }
}

/// Waits until the signal was received.
pub(super) async fn fired(mut stopped: watch::Receiver<bool>) {
    // Without a sender nobody can ask any more.
    _ = stopped.wait_for(|stopped| *stopped).await;
}
