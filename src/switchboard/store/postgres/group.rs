//! Group commit: pieces of work that share a transaction.
//!
//! What arrives while a group is being committed makes up the next group. Pieces of one kind run concurrently in one
//! session: the statements that they issue at the same moment are merged (see `together`), or at least pipelined. If a
//! piece fails, the transaction is rolled back and each piece runs again by itself.

use std::collections::{HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::session::{Fault, LONGEST, Session, Sessions, Work, by_index};
use crate::model::error::Result;

/// The maximum number of pieces in a group.
const GROUP_MAX: usize = 128;

/// The beginning of a group's transaction. A piece that waits for a lock for longer runs by itself, and delays no other.
const BEGIN: &str =
    concat!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '250ms'; ", by_index!());

/// The number of rollbacks of a group because of pieces that cannot run beside others.
const ALONE_MAX: usize = 3;

/// The kinds of pieces, in the order in which a group runs them: those that lock names and conversations first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Enqueue,
    Finish,
    PutOff,
    Begin,
    Ack,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Enqueue, Self::Finish, Self::PutOff, Self::Begin, Self::Ack];
}

/// A queue of pieces of work, which one task at a time commits group by group.
pub(super) struct Groups(Arc<Shared>);

struct Shared {
    sessions: Arc<Sessions>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Job>>,
    /// A task commits what waits.
    driven: bool,
}

impl Groups {
    pub(super) fn new(sessions: &Arc<Sessions>) -> Self {
        Self(Arc::new(Shared { sessions: Arc::clone(sessions), queue: Mutex::default() }))
    }

    /// Runs a piece of work, wholly or not at all; it is durable when this returns. It may run more than once until then. A
    /// group has one piece about a message at most.
    pub(super) async fn run<A, T>(
        &self,
        kind: Kind,
        message: Option<i64>,
        with: A,
        work: impl for<'a> Fn(&'a Session, &'a A) -> Work<'a, T> + Send + Sync + 'static,
    ) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let piece = Piece { kind, message, with, work, worked: Mutex::default(), sender };
        self.push(Box::new(piece));
        match tokio::time::timeout(LONGEST, receiver).await {
            Ok(result) => result.unwrap_or_else(|_| Err(Fault::GivenUp.error())),
            Err(_) => Err(Fault::Late.error()),
        }
    }

    fn push(&self, job: Box<dyn Job>) {
        let mut queue = self.0.queue();
        queue.waiting.push_back(job);
        if !std::mem::replace(&mut queue.driven, true) {
            drop(queue);
            tokio::spawn(Driver { shared: Arc::clone(&self.0), ended: false }.drive());
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that commits.
struct Driver {
    shared: Arc<Shared>,
    ended: bool,
}

impl Driver {
    async fn drive(mut self) {
        loop {
            // The callers of one commit return at nearly the same time.
            tokio::task::yield_now().await;
            let group = self.next();
            if group.is_empty() {
                return;
            }
            commit(&self.shared.sessions, group).await;
        }
    }

    /// Takes the next group: an empty one ends the task.
    fn next(&mut self) -> Vec<Box<dyn Job>> {
        let mut queue = self.shared.queue();
        let (mut group, mut messages, mut later) = (Vec::<Box<dyn Job>>::new(), HashSet::new(), VecDeque::new());
        while group.len() < GROUP_MAX
            && let Some(job) = queue.waiting.pop_front()
        {
            // A piece that was cancelled before it began does not run.
            if !job.is_awaited() {
                continue;
            }
            if job.message().is_none_or(|message| messages.insert(message)) {
                group.push(job);
            } else {
                later.push_back(job);
            }
        }
        later.append(&mut queue.waiting);
        queue.waiting = later;
        queue.driven = !group.is_empty();
        self.ended = group.is_empty();
        group
    }
}

/// A runtime that shuts down drops the task with the waiting pieces: the next piece starts a new task.
impl Drop for Driver {
    fn drop(&mut self) {
        if !self.ended {
            let mut queue = self.shared.queue();
            queue.waiting.clear();
            queue.driven = false;
        }
    }
}

/// A piece of work of any type.
trait Job: Send + Sync {
    fn kind(&self) -> Kind;

    /// Returns the message that it concerns, if no other piece of the group may concern the same.
    fn message(&self) -> Option<i64>;

    /// Returns `true` if its caller still waits.
    fn is_awaited(&self) -> bool;

    fn work<'a>(&'a self, db: &'a Session) -> Work<'a, ()>;

    fn reply(self: Box<Self>, committed: Result<()>);
}

struct Piece<A, T, W> {
    kind: Kind,
    message: Option<i64>,
    with: A,
    work: W,
    worked: Mutex<Option<T>>,
    sender: oneshot::Sender<Result<T>>,
}

impl<A, T, W> Job for Piece<A, T, W>
where
    A: Send + Sync,
    T: Send,
    W: for<'a> Fn(&'a Session, &'a A) -> Work<'a, T> + Send + Sync,
{
    fn kind(&self) -> Kind {
        self.kind
    }

    fn message(&self) -> Option<i64> {
        self.message
    }

    fn is_awaited(&self) -> bool {
        !self.sender.is_closed()
    }

    fn work<'a>(&'a self, db: &'a Session) -> Work<'a, ()> {
        Box::pin(async move {
            let worked = (self.work)(db, &self.with).await?;
            *self.worked.lock().unwrap_or_else(PoisonError::into_inner) = Some(worked);
            Ok(())
        })
    }

    fn reply(self: Box<Self>, committed: Result<()>) {
        let worked = self.worked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let done = committed.and_then(|()| worked.ok_or_else(|| Fault::GivenUp.error()));
        // The caller may have been dropped.
        drop(self.sender.send(done));
    }
}

/// The reason why a group was not committed.
enum Failed {
    /// The session or the commit failed: the result is unknown.
    Session(Fault),
    /// A piece failed, and nothing was written.
    Piece(Fault),
}

/// Commits a group, and replies to each caller.
async fn commit(sessions: &Arc<Sessions>, mut group: Vec<Box<dyn Job>>) {
    let committed = tokio::time::timeout(LONGEST, attempt(sessions, &group)).await;
    let result = match committed.unwrap_or(Err(Failed::Session(Fault::Late))) {
        Ok(()) => Ok(()),
        Err(Failed::Session(fault)) => Err(fault),
        Err(Failed::Piece(fault)) if group.len() == 1 && !fault.is_of_order() && !fault.is_lock_timeout() => Err(fault),
        Err(Failed::Piece(_)) => {
            for job in group.drain(..) {
                tokio::spawn(by_itself(Arc::clone(sessions), job));
            }
            return;
        }
    };
    for job in group {
        job.reply(result.as_ref().copied().map_err(Fault::error));
    }
}

/// Runs a piece in a transaction of its own.
async fn by_itself(sessions: Arc<Sessions>, job: Box<dyn Job>) {
    if job.is_awaited() {
        let done = sessions.run(&job, |db, job| job.work(db)).await;
        job.reply(done);
    }
}

async fn attempt(sessions: &Sessions, group: &[Box<dyn Job>]) -> Result<(), Failed> {
    let _place = sessions.place().await.map_err(Failed::Session)?;
    let mut alone = vec![false; group.len()];
    for _ in 0..ALONE_MAX {
        let session = sessions.begun(BEGIN).await.map_err(Failed::Session)?;
        session.set_by_index();
        let worked = work(&session, group, &mut alone).await;
        // Unfinished work is not returned: the connection closes, and the server rolls back.
        let ended = session.finish(worked.is_ok()).await;
        if ended.is_ok() {
            sessions.give_back(session);
        }
        return match (worked, ended) {
            (Ok(()), Ok(())) => Ok(()),
            // The server confirms that nothing was written.
            (Ok(()), Err(fault)) if fault.is_of_order() => Err(Failed::Piece(fault)),
            (Ok(()), Err(fault)) => Err(Failed::Session(fault)),
            (Err(Fault::Alone), Ok(())) => continue,
            (Err(fault), _) if fault.is_of_session() => Err(Failed::Session(fault)),
            (Err(fault), _) => Err(Failed::Piece(fault)),
        };
    }
    Err(Failed::Piece(Fault::Alone))
}

/// Does the work of a group kind by kind, and then the pieces that cannot run beside others.
async fn work(session: &Session, group: &[Box<dyn Job>], alone: &mut [bool]) -> Result<(), Fault> {
    for kind in Kind::ALL {
        let those = || (0..).zip(group.iter().zip(&*alone)).filter(|(_, (job, alone))| job.kind() == kind && !**alone);
        let numbers: Vec<usize> = those().map(|(n, _)| n).collect();
        let works: Vec<_> = those().map(|(_, (job, _))| job.work(session)).collect();
        session.set_together(works.len() > 1);
        let worked = join(works).await;
        session.set_together(false);
        let (mut faults, mut beside) = (Vec::new(), true);
        for (n, fault) in numbers.into_iter().zip(worked).filter_map(|(n, worked)| Some((n, worked.err()?))) {
            match (fault, alone.get_mut(n)) {
                (Fault::Alone, Some(alone)) => (*alone, beside) = (true, false),
                (fault, _) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            let of_session = faults.iter().position(Fault::is_of_session).unwrap_or(0);
            return Err(faults.swap_remove(of_session));
        }
        if !beside {
            return Err(Fault::Alone);
        }
    }
    for (job, _) in group.iter().zip(&*alone).filter(|(_, alone)| **alone) {
        job.work(session).await?;
    }
    Ok(())
}

/// Runs all of these concurrently, each to its end.
async fn join<T>(works: Vec<Work<'_, T>>) -> Vec<Result<T, Fault>> {
    let mut works: Vec<_> = works.into_iter().map(Running::Going).collect();
    let all = poll_fn(|cx| {
        let mut going = false;
        for work in &mut works {
            going |= work.poll(cx);
        }
        if going { Poll::Pending } else { Poll::Ready(()) }
    });
    // A piece that waited for the task's budget would miss the merged statement.
    tokio::task::unconstrained(all).await;
    works.into_iter().filter_map(Running::done).collect()
}

enum Running<'a, T> {
    Going(Work<'a, T>),
    Done(Result<T, Fault>),
}

impl<T> Running<'_, T> {
    /// Returns `true` while it is unfinished.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Going(work) = self else { return false };
        match Pin::new(work).poll(cx) {
            Poll::Pending => true,
            Poll::Ready(done) => {
                *self = Self::Done(done);
                false
            }
        }
    }

    fn done(self) -> Option<Result<T, Fault>> {
        match self {
            Self::Going(_) => None,
            Self::Done(done) => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::super::super::super::engine::Engine;
    use super::super::super::super::lanes::Rooms;
    use super::super::super::super::record::{Attempt, End, New};
    use super::super::super::super::status::State;
    use super::super::super::cluster::{self, Database};
    use super::super::{Postgres, migrate};
    use super::*;
    use crate::model::address::{Address, Phone};
    use crate::model::clock::Timestamp;
    use crate::model::error::ErrorKind;
    use crate::model::id::MessageId;
    use crate::model::message::Message;

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn new(n: u32) -> New {
        let to = Address::from(Phone::from_digits(&format!("4477009{n:05}")).unwrap());
        let (line, key, message) = ("desk".to_owned(), n.to_string(), Message::text(to, "Hello"));
        New { line, message, key, priority: 2, account: None, due: NOW, deferred: None, fallback: None, now: NOW }
    }

    async fn opened() -> Option<(Database, Postgres)> {
        let database = Database::new().await?;
        migrate(database.url()).await.unwrap();
        cluster::run(database.url(), "CREATE TABLE t (n INTEGER NOT NULL)").await;
        let store = Postgres::open(database.url()).await.unwrap();
        Some((database, store))
    }

    async fn column(database: &Database, sql: &str) -> Vec<String> {
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn put(db: &Session, n: i32) -> Result<(), Fault> {
        db.change("INSERT INTO t VALUES ($1)", &[&n]).await.map(drop)
    }

    #[tokio::test]
    async fn concurrent_enqueues_share_commits() {
        let Some((database, store)) = opened().await else { return };
        for taken in join_all((0..64).map(|n| store.enqueue(new(n)))).await {
            taken.unwrap();
        }
        let rows = column(&database, "SELECT xmin::text FROM civic_messaging.message").await;
        let commits: HashSet<_> = rows.iter().collect();
        assert!(rows.len() == 64 && commits.len() <= 4, "{} rows, {} commits", rows.len(), commits.len());
    }

    #[tokio::test]
    async fn failed_piece_does_not_affect_the_others() {
        let Some((database, store)) = opened().await else { return };
        let piece = |n: i32| {
            store.taking.run(Kind::Enqueue, None, n, |db, n| {
                Box::pin(async move {
                    put(db, *n).await?;
                    if *n % 5 == 3 { db.row("SELECT 1 / 0", &[]).await.map(drop) } else { Ok(()) }
                })
            })
        };
        let done = join_all((0..20).map(piece)).await;
        let failed: Vec<_> = (0..20).zip(&done).filter(|(_, done)| done.is_err()).map(|(n, _)| n).collect();
        assert_eq!(failed, [3, 8, 13, 18]);
        assert!(done.iter().flat_map(|done| done.as_ref().err()).all(|error| error.to_string().contains("22012")));
        let there = column(&database, "SELECT n::text FROM t ORDER BY t.n").await;
        let others: Vec<_> = (0..20).filter(|n| !failed.contains(n)).map(|n: i32| n.to_string()).collect();
        assert_eq!(there, others);
    }

    #[tokio::test]
    async fn cancelled_piece_runs_wholly_or_not_at_all() {
        let Some((database, store)) = opened().await else { return };
        let piece = |n: i32| {
            store.taking.run(Kind::Enqueue, None, n, |db, n| {
                Box::pin(async move {
                    put(db, *n).await?;
                    put(db, *n).await
                })
            })
        };
        for n in 0..60 {
            let mut cancelled = Box::pin(piece(2 * n));
            let wait = Duration::from_micros(50 * u64::try_from(n).unwrap());
            let beside = async {
                _ = tokio::time::timeout(wait, &mut cancelled).await;
                drop(cancelled);
            };
            let (kept, ()) = tokio::join!(piece(2 * n + 1), beside);
            kept.unwrap();
        }
        let counts = "SELECT DISTINCT (n % 2)::text || ' ' || count(*) FROM t GROUP BY n ORDER BY 1";
        let counts = column(&database, counts).await;
        assert!(counts == ["0 2", "1 2"] || counts == ["1 2"], "{counts:?}");
    }

    #[tokio::test]
    async fn piece_waiting_for_a_lock_delays_no_other() {
        let Some((database, store)) = opened().await else { return };
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let enqueue = r#"BEGIN; SELECT civic_messaging.enqueue('desk',
            '{"to": {"phone": "+447700900777"}, "content": {"text": "Hello"}, "key": "0"}'::text)"#;
        client.batch_execute(enqueue).await.unwrap();
        let waits = AtomicU32::new(1);
        let waiting = async {
            store.enqueue(new(0)).await.unwrap();
            waits.store(0, Ordering::Release);
        };
        let others = async {
            for n in 1..4 {
                for taken in join_all((0..10).map(|m| store.enqueue(new(n * 10 + m)))).await {
                    taken.unwrap();
                }
            }
            assert_eq!(waits.load(Ordering::Acquire), 1);
            client.batch_execute("ROLLBACK").await.unwrap();
        };
        tokio::join!(waiting, others);
    }

    /// Returns the contents of the tables after some messages were sent: concurrently, or one after the other.
    async fn after_sending(at_once: bool) -> Option<Vec<String>> {
        let (database, store) = opened().await?;
        for n in 0..24 {
            store.enqueue(new(n)).await.unwrap();
        }
        // Another message of the conversation waits for the first.
        store.enqueue(New { key: "behind".to_owned(), ..new(0) }).await.unwrap();
        let early = "INSERT INTO civic_messaging.early (gateway, account, id, key, delivery, at)
             SELECT 'mock', 'desk', CASE WHEN n < 3 THEN 'id-' || n END, CASE WHEN n >= 3 THEN n::text END,
                    '{\"state\":\"delivered\"}', 1 FROM generate_series(1, 4) AS n";
        cluster::run(database.url(), early).await;
        let rooms = Rooms { lines: [("desk".to_owned(), 99)].into(), ..Rooms::default() };
        let lease = Duration::from_secs(180);
        let claimed = store.claim(NOW, lease, rooms).await.unwrap().claimed;
        assert_eq!(claimed.len(), 24);
        let attempt = || Attempt::new("mock", "desk", NOW);
        let end = |n: usize| {
            let end = End::without_attempt(State::Accepted, "", NOW);
            let ids = vec![MessageId::from(format!("id-{n}")), MessageId::from(format!("also-{n}"))];
            match n {
                // The gateway names the person otherwise, and the person opts out.
                5..8 => {
                    let user = format!("GB.{n}1234567");
                    let recipient = Some(Address::whatsapp(&user).unwrap());
                    End { ids, recipient, ..end }
                }
                8 => End { kind: ErrorKind::OptedOut.as_str(), ..End::without_attempt(State::Rejected, "", NOW) },
                9 => End { outcome: "unknown", ..End::without_attempt(State::Unknown, "no answer", NOW) },
                10 => End { due: Some(NOW), ..End::without_attempt(State::Deferred, "again", NOW) },
                _ => End { ids, ..end },
            }
        };
        if at_once {
            let begun = join_all(claimed.iter().map(|claimed| store.begin(claimed.hold, attempt()))).await;
            assert!(begun.into_iter().all(|begun| begun.unwrap()));
            let ended = (0..).zip(&claimed).map(|(n, claimed)| store.finish(claimed.hold, end(n)));
            assert!(join_all(ended).await.into_iter().all(|ended| ended.unwrap()));
            let commits = "SELECT DISTINCT xmin::text FROM civic_messaging.attempt";
            assert!(column(&database, commits).await.len() <= 4);
        } else {
            for (n, claimed) in (0..).zip(&claimed) {
                assert!(store.begin(claimed.hold, attempt()).await.unwrap());
                assert!(store.finish(claimed.hold, end(n)).await.unwrap());
            }
        }
        // A lapsed claim ends and begins nothing.
        let stale = join_all(claimed.iter().map(|claimed| store.begin(claimed.hold, attempt()))).await;
        assert!(stale.into_iter().all(|begun| !begun.unwrap()));
        let stale = join_all(claimed.iter().map(|claimed| store.finish(claimed.hold, end(20)))).await;
        assert!(stale.into_iter().all(|ended| !ended.unwrap()));
        let all =
            "SELECT concat_ws(' ', 'message', key, state, delivery, attempts, head, planned, reason, lease, due > 0,
                                    settled > 0) FROM civic_messaging.message
             UNION ALL SELECT concat_ws(' ', 'attempt', m.key, a.n, a.outcome, a.kind, a.passing, a.bound, a.ended > 0)
             FROM civic_messaging.attempt AS a JOIN civic_messaging.message AS m ON m.id = a.message
             UNION ALL SELECT concat_ws(' ', 'part', m.key, p.gateway, p.account, p.id)
             FROM civic_messaging.part AS p JOIN civic_messaging.message AS m ON m.id = p.message
             UNION ALL SELECT concat_ws(' ', 'event', line, kind, body) FROM civic_messaging.event
             UNION ALL SELECT concat_ws(' ', 'link', previous, current) FROM civic_messaging.link
             UNION ALL SELECT concat_ws(' ', 'early', id, key) FROM civic_messaging.early ORDER BY 1";
        Some(column(&database, all).await)
    }

    #[tokio::test]
    async fn merged_sends_end_as_single_ones() {
        let (Some(together), Some(one_by_one)) = (after_sending(true).await, after_sending(false).await) else {
            return;
        };
        let count = |of: &str| one_by_one.iter().filter(|row| row.starts_with(of)).count();
        assert_eq!((count("link"), count("early"), count("part"), count("attempt")), (3, 0, 42, 24), "{one_by_one:#?}");
        assert_eq!(together, one_by_one);
    }
}
