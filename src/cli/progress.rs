//! A sign of life for work that takes long: on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Awaits the work. After a second, and then each second, it writes what is done and for how long to stderr.
pub(crate) async fn shown<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let (begun, mut stderr, mut is_written) = (Instant::now(), std::io::stderr(), false);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                _ = write!(stderr, "\r{what}: {} s", begun.elapsed().as_secs());
                _ = stderr.flush();
                is_written = true;
            }
        }
    };
    if is_written {
        // Erases the line.
        _ = write!(stderr, "\r\u{1b}[2K");
        _ = stderr.flush();
    }
    done
}
