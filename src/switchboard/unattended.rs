//! A warning for lines with due messages and no active worker.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::record::Wait;
use super::status::Id;
use super::{Inner, Switchboard, lock};
use crate::model::clock::Clock;
use crate::telemetry::switchboard as telemetry;

/// The time that a due message may wait for a worker.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time after which a worker without a round counts as gone: it has one at least every 30 seconds.
const ABSENCE: Duration = Duration::from_secs(60);

/// The longest time between two checks of a scheduled message.
const LOOK_MAX: Duration = Duration::from_secs(3600);

/// The watched lines, with the last message enqueued on each.
pub(super) type Watched = Mutex<HashMap<String, Id>>;

impl Switchboard {
    /// Watches an enqueued message until a worker claims it, if none runs in this program. One message of a line is
    /// watched at a time, by a read of its row every 30 seconds.
    pub(super) fn watch(&self, line: &str, id: Id) {
        if self.0.running.load(Ordering::Acquire) > 0 {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        match lock(&self.0.watched).entry(line.to_owned()) {
            Entry::Occupied(mut last) => drop(last.insert(id)),
            Entry::Vacant(last) => {
                last.insert(id);
                let watch = Watch { switchboard: Arc::downgrade(&self.0), line: line.to_owned(), ended: false };
                runtime.spawn(watch.run(self.0.clock.clone(), id));
            }
        }
    }
}

/// Watches the messages of one line.
struct Watch {
    switchboard: Weak<Inner>,
    line: String,
    ended: bool,
}

impl Watch {
    async fn run(mut self, clock: Arc<dyn Clock>, mut id: Id) {
        let (mut wait, mut warned) = (PATIENCE, false);
        loop {
            clock.sleep(wait).await;
            let Some(inner) = self.switchboard.upgrade() else { return };
            if inner.running.load(Ordering::Acquire) > 0 {
                return;
            }
            wait = PATIENCE;
            match inner.store.0.wait(id, clock.now()).await {
                Ok(Some(waits)) => match waits.warning() {
                    Warning::Due => {
                        if !warned {
                            telemetry::unattended(&self.line, id.0);
                        }
                        warned = true;
                    }
                    Warning::DueIn(left) => (wait, warned) = (left.min(LOOK_MAX), false),
                },
                Ok(None) => {
                    let mut watched = lock(&inner.watched);
                    let last = watched.get(&self.line).copied().filter(|last| *last != id);
                    let Some(last) = last else {
                        watched.remove(&self.line);
                        self.ended = true;
                        return;
                    };
                    (id, wait, warned) = (last, Duration::ZERO, false);
                }
                // The store logs its own failures.
                Err(_) => {}
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended
            && let Some(inner) = self.switchboard.upgrade()
        {
            lock(&inner.watched).remove(&self.line);
        }
    }
}

/// When to warn about a waiting message.
enum Warning {
    Due,
    DueIn(Duration),
}

impl Wait {
    fn warning(self) -> Warning {
        let patient = self.due.plus(PATIENCE);
        let absent = self.attended.map(|attended| attended.plus(ABSENCE));
        let from = absent.map_or(patient, |absent| patient.max(absent));
        if from <= self.now { Warning::Due } else { Warning::DueIn(from.since(self.now)) }
    }
}
