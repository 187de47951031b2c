//! Sessions with the server: a small pool, TLS, and errors.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, Connection, Row, Socket, Statement};

use super::super::super::engine::Notification;
use super::time::Ahead;
use super::together::Gathers;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, ErrorKind, Result};
use crate::transport::tls;

/// The maximum number of sessions of a store.
const SESSIONS: usize = 4;

/// The maximum time of one piece of work, with the wait for a session.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// The maximum time for a pooled session to respond: one dropped by a firewall never does.
const ANSWER: Duration = Duration::from_secs(5);

/// The maximum number of retries after a conflict.
const AGAIN: u32 = 8;

/// The first statements of every session. Without synchronous commit `Ok` would not mean durable, and without
/// the timeout a machine that vanishes would hold its locks until TCP notices.
const BEGINNING: &str = "SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') = 'off';
     SET idle_in_transaction_session_timeout = '30s'";

/// The server gives up when we do.
const AT_WORK: &str = "SET statement_timeout = '30s'";

/// The first statement of a transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Settings for plans that find every row by an index and hold for any number of rows: a plan made while the tables
/// were empty stays right when they are full, and nothing is planned twice.
macro_rules! by_index {
    () => {
        "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off;
         SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"
    };
}
pub(super) use by_index;

/// A piece of work within a transaction.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// A pool of sessions.
pub(super) struct Sessions {
    config: Config,
    idle: Mutex<Vec<Session>>,
    places: Semaphore,
    answer: Duration,
    ahead: Ahead,
}

impl Sessions {
    /// Returns a pool on a machine with this clock.
    pub(super) fn new(config: Config, ours: Arc<dyn Clock>) -> Self {
        let (idle, places, ahead) = (Mutex::default(), Semaphore::new(SESSIONS), Ahead::new(ours));
        Self { config, idle, places, answer: ANSWER, ahead }
    }

    /// Prepares a session and returns it to the pool.
    pub(super) async fn keep(&self, session: Session) -> Result<(), Fault> {
        self.put_to_work(&session).await?;
        self.idle().push(session);
        Ok(())
    }

    /// A new session may be with another server, which has another clock.
    async fn put_to_work(&self, session: &Session) -> Result<(), Fault> {
        session.batch(AT_WORK).await?;
        self.ahead.measure(session.milliseconds()).await
    }

    /// Measures the offset of the database's clock again: both clocks may be set.
    pub(super) async fn measure(&self) -> Result<()> {
        self.run(&self.ahead, |db, ahead| Box::pin(ahead.measure(db.milliseconds()))).await
    }

    /// Converts a program's time to the clock of the database.
    pub(super) fn theirs(&self, at: Timestamp) -> Timestamp {
        self.ahead.theirs(at)
    }

    /// Converts a time of the database to a program's.
    pub(super) fn ours(&self, at: Timestamp) -> Timestamp {
        self.ahead.ours(at)
    }

    /// Runs this in a transaction of its own, which is durable when it returns, and repeats it after a conflict.
    pub(super) async fn run<A, T>(
        &self,
        with: A,
        work: impl for<'a> Fn(&'a Session, &'a A) -> Work<'a, T> + Send + Sync,
    ) -> Result<T>
    where
        A: Send + Sync,
        T: Send,
    {
        let (mut again, with) = (0, &with);
        let done = tokio::time::timeout(LONGEST, async {
            loop {
                match self.once(with, &work).await {
                    Err(fault) if again < AGAIN && fault.is_of_order() => again += 1,
                    done => return done,
                }
            }
        });
        done.await.unwrap_or(Err(Fault::Late)).map_err(|fault| fault.error())
    }

    async fn once<'a, A, T>(
        &self,
        with: &'a A,
        work: &(impl for<'b> Fn(&'b Session, &'b A) -> Work<'b, T> + Send + Sync),
    ) -> Result<T, Fault> {
        let _place = self.place().await?;
        let session = self.begun(BEGIN).await?;
        let done = work(&session, with).await;
        // Unfinished work is not returned: the connection closes, and the server rolls back.
        match session.finish(done.is_ok()).await {
            Ok(()) => {
                self.give_back(session);
                done
            }
            Err(fault) => done.and(Err(fault)),
        }
    }

    /// Waits for a free session.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.places.acquire().await.map_err(|_| Fault::Late)
    }

    /// Returns a session to the pool.
    pub(super) fn give_back(&self, session: Session) {
        self.idle().push(session);
    }

    /// Returns a session in a transaction. If a pooled one was lost, takes the next or opens a new one.
    pub(super) async fn begun(&self, begin: &str) -> Result<Session, Fault> {
        loop {
            let ready = self.idle().pop();
            let Some(session) = ready else {
                let session = Session::open(&self.config).await?;
                self.put_to_work(&session).await?;
                session.batch(begin).await?;
                return Ok(session);
            };
            // Nothing was done in it yet, so another session replaces it, whatever the error.
            let begun = tokio::time::timeout(self.answer, session.batch(begin));
            if !session.client.is_closed() && matches!(begun.await, Ok(Ok(()))) {
                return Ok(session);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session, its prepared statements, and the notifications to send after the commit.
pub(super) struct Session {
    client: Client,
    /// By text, and by whether their plans are made [by index](by_index).
    prepared: Mutex<HashMap<(&'static str, bool), Statement>>,
    by_index: AtomicBool,
    to_send: AtomicBool,
    to_read: AtomicBool,
    /// Several pieces of work share the session now.
    together: AtomicBool,
    gathers: Gathers,
}

/// Opens a session, and returns it with the connection that has to be driven.
pub(super) async fn connect(config: &Config) -> Result<(Client, Connection<Socket, Within>), Fault> {
    let mut config = config.clone();
    if config.get_application_name().is_none() {
        config.application_name("civic-messaging");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    // After a failover the old primary may still answer.
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config.connect(Tls).await.map_err(Fault::Connect)
}

impl Session {
    /// Reads the database's clock.
    async fn milliseconds(&self) -> Result<i64, Fault> {
        // The time of the statement; `now()` is that of the transaction.
        let now = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        Ok(self.row(now, &[]).await?.ok_or(Fault::Unreadable)?.try_get(0)?)
    }

    pub(super) async fn open(config: &Config) -> Result<Self, Fault> {
        let (client, connection) = connect(config).await?;
        tokio::spawn(async move {
            // The client gets the error.
            _ = connection.await;
        });
        let (to_send, to_read) = (AtomicBool::new(false), AtomicBool::new(false));
        let (by_index, together) = (AtomicBool::new(false), AtomicBool::new(false));
        let (prepared, gathers) = (Mutex::default(), Gathers::default());
        let session = Self { client, prepared, by_index, to_send, to_read, together, gathers };
        session.batch(BEGINNING).await?;
        Ok(session)
    }

    /// Notifies once the transaction is durable.
    pub(super) fn notify(&self, kind: Notification) {
        self.kind(kind).store(true, Ordering::Relaxed);
    }

    fn kind(&self, kind: Notification) -> &AtomicBool {
        match kind {
            Notification::ToSend => &self.to_send,
            Notification::ToRead => &self.to_read,
        }
    }

    /// Sets whether several pieces of work share the session from now on.
    pub(super) fn set_together(&self, together: bool) {
        self.together.store(together, Ordering::Relaxed);
    }

    /// Returns the merged statements, while several pieces share the session.
    pub(super) fn gathers(&self) -> Option<&Gathers> {
        self.together.load(Ordering::Relaxed).then_some(&self.gathers)
    }

    /// Fails while several pieces of work share the session: what follows reads and writes what another may.
    pub(super) fn alone(&self) -> Result<(), Fault> {
        if self.together.load(Ordering::Relaxed) { Err(Fault::Alone) } else { Ok(()) }
    }

    /// Records that this transaction began with [`by_index`].
    pub(super) fn set_by_index(&self) {
        self.by_index.store(true, Ordering::Relaxed);
    }

    /// Makes the plans of this transaction [by index](by_index).
    pub(super) async fn plan_by_index(&self) -> Result<(), Fault> {
        self.set_by_index();
        self.batch(by_index!()).await
    }

    /// Ends a transaction: it is durable when this returns, or rolled back.
    pub(super) async fn finish(&self, done: bool) -> Result<(), Fault> {
        self.by_index.store(false, Ordering::Relaxed);
        self.batch(&self.end(done)).await
    }

    /// Returns the end of a transaction. `NOTIFY` follows it instead of being a part: the server commits transactions
    /// with `NOTIFY` one at a time.
    fn end(&self, done: bool) -> String {
        let mut end = if done { "COMMIT" } else { "ROLLBACK" }.to_owned();
        for kind in [Notification::ToSend, Notification::ToRead] {
            if self.kind(kind).swap(false, Ordering::Relaxed) && done {
                end = end + "; " + notify_statement(kind);
            }
        }
        end
    }

    /// Runs statements without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Returns all rows.
    pub(super) async fn rows(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql).await?;
        let hidden: Vec<_> = with.iter().map(|value| Hidden(*value)).collect();
        let hidden: Vec<_> = hidden.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        Ok(self.client.query(&statement, &hidden).await?)
    }

    /// Returns the first row.
    pub(super) async fn row(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, with).await?.into_iter().next())
    }

    /// Returns the number of changed rows.
    pub(super) async fn change(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        let statement = self.prepared(sql).await?;
        let hidden: Vec<_> = with.iter().map(|value| Hidden(*value)).collect();
        let hidden: Vec<_> = hidden.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        Ok(self.client.execute(&statement, &hidden).await?)
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, Fault> {
        let held = || self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (sql, self.by_index.load(Ordering::Relaxed));
        let known = held().get(&place).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        held().insert(place, statement.clone());
        Ok(statement)
    }
}

/// A parameter with an empty `Debug`: the driver logs the parameters of each statement.
struct Hidden<'a>(&'a (dyn ToSql + Sync));

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl ToSql for Hidden<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql_checked(of, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The cause of a failure.
pub(super) enum Fault {
    /// No session could be opened.
    Connect(tokio_postgres::Error),
    Database(tokio_postgres::Error),
    /// The stored data cannot be read.
    Unreadable,
    /// It exceeded its time.
    Late,
    /// It cannot run beside other pieces of work in one session.
    Alone,
    /// It was rolled back with others, because of one of them.
    GivenUp,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(_: serde_json::Error) -> Self {
        Self::Unreadable
    }
}

impl Fault {
    /// Returns `true` after a conflict that left nothing behind, so that the work can be repeated.
    pub(super) fn is_of_order(&self) -> bool {
        let of_order = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        matches!(self, Self::Database(error) if error.code().is_some_and(|code| of_order.contains(code)))
    }

    /// Returns `true` if it waited too long for a lock.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Returns `true` if the session is lost, or none could be opened: the work itself is not at fault.
    pub(super) fn is_of_session(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Late => true,
            Self::Database(error) => error.code().is_none_or(|code| code.code().starts_with("57P")),
            _ => false,
        }
    }

    /// Returns the error of a failing store: the server's code, and none of its text, which may contain data.
    pub(super) fn error(&self) -> Error {
        let failed =
            |text: &str| Error::new(ErrorKind::Unavailable, format!("unavailable: {text}")).with_field("store");
        match self {
            Self::Connect(error) => match error.code() {
                Some(code) if code.code().starts_with("28") => {
                    Error::config("store", format!("the server refuses this user (SQLSTATE {})", code.code()))
                }
                Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                    Error::config("store", "the server has no such database (SQLSTATE 3D000)")
                }
                Some(code) => failed(&format!("the server accepts no sessions now (SQLSTATE {})", code.code())),
                None if is_tls(error) => {
                    let rule = "no TLS with the server: see sslmode, and whether this machine trusts its certificate";
                    Error::config("store", rule)
                }
                None => failed("the server cannot be reached"),
            },
            Self::Database(error) => match error.code() {
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                    let rule = "the role may not do this: grant it USAGE on the schema civic_messaging, and SELECT, \
                                INSERT, UPDATE and DELETE on its tables (SQLSTATE 42501)";
                    Error::config("store", rule)
                }
                Some(code) => failed(&format!("SQLSTATE {}", code.code())),
                None if error.is_closed() || has_io(error) => failed("the connection was lost"),
                None => failed("the server's response cannot be read"),
            },
            Self::Unreadable => failed("the stored data cannot be read"),
            Self::Late => failed("timeout"),
            Self::Alone | Self::GivenUp => failed("rolled back"),
        }
    }
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    // The driver distinguishes it by its text only.
    error.to_string().starts_with("error performing TLS handshake")
}

fn has_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>())
}

/// TLS as in the rest of this crate. The trust store is read when a server first requires TLS.
#[derive(Clone, Copy)]
struct Tls;

/// A TLS session to open, with the server of this name.
struct To(String);

/// A stream within TLS.
pub(super) struct Within(tokio_rustls::client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Within;
    type TlsConnect = To;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<To> {
        Ok(To(name.to_owned()))
    }
}

impl TlsConnect<Socket> for To {
    type Stream = Within;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Within>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        static TRUSTING: OnceLock<Option<Arc<rustls::ClientConfig>>> = OnceLock::new();
        Box::pin(async move {
            let trusting = TRUSTING.get_or_init(|| tls::trusting().map(Arc::new)).clone();
            let name = ServerName::try_from(self.0).map_err(|_| io::ErrorKind::InvalidInput)?;
            let connector = tokio_rustls::TlsConnector::from(trusting.ok_or(io::ErrorKind::Unsupported)?);
            connector.connect(name, socket).await.map(Within)
        })
    }
}

impl TlsStream for Within {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Within {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Within {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Returns the statement that notifies every process.
pub(super) fn notify_statement(kind: Notification) -> &'static str {
    match kind {
        Notification::ToSend => "NOTIFY civic_messaging_to_send",
        Notification::ToRead => "NOTIFY civic_messaging_to_read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_parameter_has_an_empty_debug() {
        let number = "+447700900123";
        assert_eq!(format!("{:?}", [Hidden(&number)]), "[…]");
    }

    #[tokio::test]
    async fn session_dropped_by_a_firewall_is_replaced() {
        use std::sync::atomic::AtomicUsize;

        let Some(database) = super::super::super::cluster::Database::new().await else { return };
        let config: Config = database.url().parse().unwrap();
        let [tokio_postgres::config::Host::Unix(folder)] = config.get_hosts() else { return };
        let socket = folder.join(".s.PGSQL.5432");
        let firewall = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = firewall.local_addr().unwrap();
        // From the signal on, the first connection carries nothing, without being closed.
        let (through, (forget, forgotten)) = (Arc::new(AtomicUsize::new(0)), tokio::sync::watch::channel(false));
        let count = Arc::clone(&through);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = firewall.accept().await {
                let (n, socket, mut forgotten) =
                    (count.fetch_add(1, Ordering::AcqRel), socket.clone(), forgotten.clone());
                tokio::spawn(async move {
                    let mut server = tokio::net::UnixStream::connect(socket).await.unwrap();
                    tokio::select! {
                                            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    () = async { drop(forgotten.wait_for(|forgotten| *forgotten && n == 0).await) } => std::future::pending().await,
                                        }
                });
            }
        });
        let url = format!("postgres://postgres@{at}/{}", config.get_dbname().unwrap());
        let mut sessions = Sessions::new(url.parse().unwrap(), Arc::new(crate::model::clock::SystemClock::new()));
        sessions.answer = Duration::from_millis(200);
        for (then, forgets) in [(1, false), (1, true), (2, true), (2, true)] {
            let asks = sessions.run((), |db, ()| Box::pin(async move { db.row("SELECT 1", &[]).await.map(drop) }));
            asks.await.unwrap();
            assert_eq!(through.load(Ordering::Acquire), then);
            forget.send_replace(forgets);
        }
    }
}
