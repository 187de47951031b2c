//! The reader thread: a connection that stays open beside the writer, for interactive queries.

use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{failed, gone, keep_statements, wait_when_busy};
use crate::model::error::Result;

/// Work on the connection of the thread, which is opened on first use.
type Job = Box<dyn FnOnce(&mut Option<Connection>, &str) + Send>;

/// Reads what is committed at the time of the call. The thread ends when this is dropped.
pub(super) struct Reader {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(path: String) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let run = move || {
            let mut db = None;
            while let Ok(job) = inbox.recv() {
                job(&mut db, &path);
            }
        };
        let thread = std::thread::Builder::new().name("civic-store-look".to_owned()).spawn(run).map_err(|_| gone())?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Reads a snapshot.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, done) = oneshot::channel();
        let job: Job = Box::new(move |db, path| {
            let read = read(db, path, work);
            if read.is_err() {
                // After any error the next job opens a new connection.
                *db = None;
            }
            drop(sender.send(read.map_err(|error| failed(&error))));
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

fn read<T>(
    db: &mut Option<Connection>,
    path: &str,
    work: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let db = match db {
        Some(db) => db,
        None => db.insert(open(path)?),
    };
    let transaction = db.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let read = work(&transaction)?;
    transaction.commit()?;
    Ok(read)
}

fn open(path: &str) -> rusqlite::Result<Connection> {
    let mut db = Connection::open(path)?;
    wait_when_busy(&mut db)?;
    keep_statements(&db)?;
    Ok(db)
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs = None;
        self.thread.take().map(JoinHandle::join);
    }
}
