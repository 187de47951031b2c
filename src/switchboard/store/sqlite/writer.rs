//! The writer thread, which commits in groups.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{failed, gone, is_alone, is_full};
use crate::model::error::Result;

/// The maximum number of jobs in one commit.
const GROUP_MAX: usize = 256;

/// The longest commit for which the next one waits for others.
const PATIENCE_MAX: Duration = Duration::from_millis(10);

pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which ends when the writer is dropped.
    pub(super) async fn start(connect: impl FnOnce() -> Result<Connection> + Send + 'static) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let (sender, opened) = oneshot::channel();
        let run = move || match connect() {
            Ok(connection) => {
                _ = sender.send(Ok(()));
                write(connection, &inbox);
            }
            Err(error) => drop(sender.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("civic-store".to_owned()).spawn(run).map_err(|_| gone())?;
        opened.await.map_err(|_| gone())??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does this wholly or not at all, durable when it returns. It may be done more than once: see [`Job`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, done) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Box::new(Piece { work, worked: Err(gone()), sender })).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

/// Waits until the submitted work is done and the file is closed: a program that ends right after leaves no file that
/// looks as after a crash.
impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            _ = thread.join();
        }
    }
}

/// A job within a shared transaction. If one fails, the transaction is rolled back and the others run again in a new
/// one: this costs nothing while all succeed, unlike a savepoint for each.
trait Job: Send {
    /// Returns `false` if it failed.
    fn work(&mut self, db: &Connection) -> bool;

    fn reply(self: Box<Self>, committed: Result<()>);
}

struct Piece<T, W> {
    work: W,
    worked: Result<T>,
    sender: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: Fn(&Connection) -> rusqlite::Result<T> + Send> Job for Piece<T, W> {
    fn work(&mut self, db: &Connection) -> bool {
        self.worked = (self.work)(db).map_err(|error| failed(&error));
        self.worked.is_ok()
    }

    fn reply(self: Box<Self>, committed: Result<()>) {
        // The caller may have dropped the call.
        drop(self.sender.send(committed.and(self.worked)));
    }
}

/// Runs the jobs until all senders are dropped.
fn write(mut db: Connection, inbox: &mpsc::Receiver<Box<dyn Job>>) {
    let mut pace = Pace { several: 1, took: Duration::ZERO };
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        let committed = loop {
            match commit(&mut db, &mut group, inbox, &mut pace) {
                Ok(Some(job)) => job.reply(Ok(())),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if committed.as_ref().is_err_and(is_full) {
            // Moves the log's content to the database file, where there may be space: that frees space in the log.
            _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        for job in group {
            job.reply(committed.as_ref().copied().map_err(failed));
        }
    }
    _ = is_alone(&db);
}

/// Commits these jobs and those that arrive meanwhile; or nothing, and removes the one that failed.
fn commit(
    db: &mut Connection,
    group: &mut Vec<Box<dyn Job>>,
    inbox: &mpsc::Receiver<Box<dyn Job>>,
    pace: &mut Pace,
) -> rusqlite::Result<Option<Box<dyn Job>>> {
    let start = Instant::now();
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for n in 0..GROUP_MAX {
        if n == group.len() {
            group.extend(inbox.recv_timeout(pace.patience(n, start)));
        }
        let Some(job) = group.get_mut(n) else { break };
        if !job.work(&transaction) {
            return Ok(Some(group.remove(n)));
        }
    }
    let start = Instant::now();
    transaction.commit()?;
    *pace = Pace { several: group.len(), took: start.elapsed().min(PATIENCE_MAX) };
    Ok(None)
}

/// The callers of one commit return at nearly the same time. If the last commit had several, the next one waits for as
/// many, for at most half the duration of the last one.
struct Pace {
    several: usize,
    took: Duration,
}

impl Pace {
    fn patience(&self, so_far: usize, start: Instant) -> Duration {
        let left = (self.took / 2).saturating_sub(start.elapsed());
        if so_far < self.several { left } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rusqlite::OptionalExtension;

    use super::*;

    async fn writer() -> Writer {
        let connect = || {
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").unwrap();
            Ok(db)
        };
        Writer::start(connect).await.unwrap()
    }

    fn put(n: i64) -> impl Fn(&Connection) -> rusqlite::Result<()> {
        move |db| db.execute("INSERT INTO t VALUES (?1)", (n,)).map(|_| ())
    }

    /// A job that blocks the thread until it is released.
    fn held() -> (mpsc::Sender<()>, impl Fn(&Connection) -> rusqlite::Result<()>) {
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        (release, move |_| {
            _ = released.lock().unwrap().recv();
            Ok(())
        })
    }

    #[tokio::test]
    async fn failed_job_leaves_nothing_and_the_others_commit() {
        let writer = writer().await;
        let (release, held) = held();
        let first = writer.run(move |db| {
            held(db)?;
            put(1)(db)
        });
        let fails = |n| {
            writer.run(move |db| {
                put(n)(db)?;
                Err::<(), _>(rusqlite::Error::InvalidQuery)
            })
        };
        let rest = async {
            let rest =
                futures_util::future::join5(fails(2), writer.run(put(3)), fails(4), writer.run(put(5)), fails(6));
            futures_util::future::join(rest, async { drop(release) }).await.0
        };
        let (first, (second, third, fourth, fifth, sixth)) = futures_util::future::join(first, rest).await;
        assert!(first.is_ok() && third.is_ok() && fifth.is_ok());
        assert!(second.is_err() && fourth.is_err() && sixth.is_err());
        let there = |db: &Connection| {
            db.prepare("SELECT n FROM t ORDER BY n")?.query_map((), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()
        };
        assert_eq!(writer.run(there).await.unwrap(), [1, 3, 5]);
    }

    #[tokio::test]
    async fn job_of_a_dropped_call_still_runs() {
        let writer = writer().await;
        let (release, held) = held();
        let mut first = Box::pin(writer.run(held));
        let mut dropped = Box::pin(writer.run(put(1)));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut dropped).is_pending());
        drop((first, dropped, release));
        let there = writer.run(|db| db.query_row("SELECT n FROM t", (), |row| row.get(0)).optional()).await;
        assert_eq!(there.unwrap(), Some(1));
    }
}
