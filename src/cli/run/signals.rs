//! SIGTERM and ctrl-c.

use tokio::sync::watch;

/// Waits for the signal to stop, and passes it on. A second signal ends the process at once, as `kill -9` would.
pub(super) async fn watch(stop: watch::Sender<bool>) {
    received().await;
    _ = stop.send(true);
    received().await;
    std::process::exit(130);
}

/// Waits until the signal was received.
pub(super) async fn fired(mut stopped: watch::Receiver<bool>) {
    // Without a sender nobody can ask any more.
    _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(unix)]
async fn received() {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => _ = tokio::signal::ctrl_c().await,
    }
}

#[cfg(not(unix))]
async fn received() {
    _ = tokio::signal::ctrl_c().await;
}
