//! The durable record: what a switchboard needs of a database.

use std::fmt;
use std::sync::Arc;

use super::engine::Engine;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::error::{Error, Result};

// The tests of the whole want more of it.
#[allow(dead_code)]
#[cfg(all(test, feature = "postgres"))]
mod cluster;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite-system")]
mod sqlite;
#[cfg(test)]
mod suite;

/// The durable record of a switchboard.
///
/// ```no_run
/// # async fn run() -> civic_messaging::Result<()> {
/// use civic_messaging::switchboard::Store;
///
/// # #[cfg(feature = "sqlite-system")]
/// let store = Store::open("sqlite:desk.db").await?;
/// # #[cfg(feature = "postgres")]
/// let store = Store::open("postgres://desk@db.example.gov.uk/messages?sslmode=require").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store(pub(super) Arc<dyn Engine>);

impl Store {
    /// Opens a store: `sqlite:` and a path, or `postgres://` and where the database is.
    ///
    /// **SQLite** (features `sqlite` and `sqlite-system`): the file is made where it is not there yet, and brought up to
    /// date. `sqlite::memory:` is one that lives as long as it is held, for tests. One worker at a time.
    ///
    /// **PostgreSQL** (feature `postgres`), from version 12: `postgres://user:password@host:port/database?options`, as
    /// `tokio-postgres` reads it. A folder for the host is that of the Unix socket, written `%2Fvar%2Frun%2Fpostgresql`.
    /// `sslmode` is `disable`, `prefer` (which it is without, and which speaks in the clear with a server that has no
    /// TLS) or `require`; where there is TLS, the certificate has to be one that this machine trusts, for this host;
    /// docs/operations.md says how it trusts an authority of your own.
    ///
    /// Several workers may run at once, in several processes. Claims, and what is due, go by the clock of the database:
    /// those of the machines need not agree with it. Everything lies in the schema `civic_messaging`, which has to be
    /// there: see [`migrate`](Self::migrate). Four sessions are held at most, and a fifth that listens for what other
    /// processes put there; they keep statements prepared: a pooler before the server has to give out whole sessions, not
    /// transactions. It runs within tokio.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another scheme; a path that cannot be opened, a file that is no
    /// database; a server that does not let the user in; tables that lack a step, and those of a version that is too new:
    /// for PostgreSQL by more than one step, so that the database may be ahead of the programs.
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) for a server that cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(path) => Ok(Self(Arc::new(sqlite::Sqlite::open(path).await?))),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => Ok(Self(Arc::new(postgres::Postgres::open(url).await?))),
        }
    }

    /// Makes the tables in a database, or brings them up to date: each step that is missing, all or none. It goes forward
    /// only, and may be run by several at once. The user needs the right to create in the database; the programs that work
    /// on it later do not.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrate(url: &str) -> Result<()> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(path) => sqlite::Sqlite::open(path).await.map(|_| ()),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => postgres::migrate(url).await,
        }
    }

    /// The SQL that [`migrate`](Self::migrate) would run on this database now, for a DBA to read and to run. It is empty
    /// when nothing is missing, and always for SQLite, where [`open`](Self::open) does it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrations(url: &str) -> Result<String> {
        match Home::of(url)? {
            #[cfg(feature = "sqlite-system")]
            Home::Sqlite(_) => Ok(String::new()),
            #[cfg(feature = "postgres")]
            Home::Postgres(url) => postgres::migrations(url).await,
        }
    }
}

/// Where a store is.
enum Home<'a> {
    #[cfg(feature = "sqlite-system")]
    Sqlite(&'a str),
    #[cfg(feature = "postgres")]
    Postgres(&'a str),
}

impl<'a> Home<'a> {
    fn of(url: &'a str) -> Result<Self> {
        match url.split_once(':') {
            #[cfg(feature = "sqlite-system")]
            Some(("sqlite", path)) => Self::sqlite(path),
            #[cfg(not(feature = "sqlite-system"))]
            Some(("sqlite", _)) => Err(Error::config("store", "needs the feature sqlite of this crate")),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url)),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err(Error::config("store", "needs the feature postgres of this crate"))
            }
            _ => Err(Error::config("store", "must be sqlite: and the path of a file, or postgres:// and a database")),
        }
    }

    /// What SQLite would take for a file that is gone tomorrow, or for another file than is meant, is refused.
    #[cfg(feature = "sqlite-system")]
    fn sqlite(path: &'a str) -> Result<Self> {
        let wrong = |rule| Err(Error::config("store", rule));
        match path {
            ":memory:" => Ok(Self::Sqlite(path)),
            _ if path.trim().is_empty() => wrong("needs the path of a file after sqlite:, or :memory: in tests"),
            _ if path.starts_with("//") => wrong("is sqlite: and a path, without the two slashes: sqlite:desk.db"),
            _ if path.contains('?') => wrong("takes no options after the path of the file"),
            _ if path.trim_matches(':') == "memory" => wrong("is sqlite::memory: where it lives in memory"),
            _ => Ok(Self::Sqlite(path)),
        }
    }
}

impl Store {
    /// Says that this store was restored from a backup that was made at that moment: call it once, before a worker runs.
    ///
    /// So is a file that was put back with a part of its log (`-wal`), or with none.
    ///
    /// What waits in it may have gone since the backup was made. None of it is sent until a gateway says that it does not
    /// have it, which it is asked after ten minutes, or a person decides; what is planned for later than now stays as it
    /// is. Says how many messages are held so.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a store in SQLite that has a worker,
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a moment that is still to come,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work.
    pub async fn hold_after_restore(&self, at: Timestamp) -> Result<u64> {
        let now = SystemClock::new().now();
        if at > now {
            return Err(Error::invalid("at", "is still to come: say when the backup was made"));
        }
        let _working = self.0.lock().await?;
        self.0.hold_after_restore(at, now).await
    }
}

impl Store {
    /// Checks the whole store: each message against the digest that was made when it was taken, and in SQLite the tables and
    /// indexes as well. It reads everything, beside the work that goes on: seconds for a million messages.
    ///
    /// A file of SQLite is checked when it is opened after a crash, and when it is a copy of one that was open. Run this every
    /// now and then, and after a fault of the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a store that is damaged,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the store does not work.
    pub async fn check(&self) -> Result<()> {
        match self.0.check().await? {
            0 => Ok(()),
            1 => Err(Error::config("store", "holds a message that is not as it was taken: restore a backup")),
            n => Err(Error::config(
                "store",
                format!("holds {n} messages that are not as they were taken: restore a backup"),
            )),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
