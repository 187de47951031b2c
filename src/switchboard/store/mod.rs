//! The durable store of a switchboard.

use std::fmt;
use std::sync::Arc;

use super::engine::Engine;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::error::{Error, Result};

// The integration tests use more of it.
#[allow(dead_code)]
#[cfg(all(test, feature = "postgres"))]
mod cluster;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite-system")]
mod sqlite;
#[cfg(test)]
mod suite;

/// The durable store of a switchboard: SQLite or PostgreSQL.
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
    /// Opens a store: `sqlite:` and a path, or a `postgres://` URL.
    ///
    /// **SQLite** (features `sqlite` and `sqlite-system`): creates the file if it is missing, and migrates its tables.
    /// `sqlite::memory:` is a database for tests that lives as long as its handle. One worker at a time.
    ///
    /// **PostgreSQL** (feature `postgres`), from version 12: `postgres://user:password@host:port/database?options`, as
    /// `tokio-postgres` parses it. A host may be the folder of the Unix socket, written `%2Fvar%2Frun%2Fpostgresql`.
    /// `sslmode` is `disable`, `prefer` (the default, which falls back to an unencrypted connection if the server has
    /// no TLS) or `require`. With TLS, the certificate must be trusted by this machine, for this host;
    /// docs/operations.md describes how to install your own authority.
    ///
    /// Several workers may run at once, in several processes. Claims and due times use the clock of the database, which
    /// the machines' clocks need not match. All tables are in the schema `civic_messaging`, which must exist: see
    /// [`migrate`](Self::migrate). A store holds up to four sessions, and a fifth for `LISTEN`. They keep statements
    /// prepared, so a pooler must pool sessions, not transactions. Requires a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): another scheme; a path that cannot be opened, or a file that is
    /// not a database; a server that refuses the user; tables that need a migration, or of a newer version: for
    /// PostgreSQL newer by more than one step, so that the database can be migrated before the programs.
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable): the server cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        match Location::parse(url)? {
            #[cfg(feature = "sqlite-system")]
            Location::Sqlite(path) => Ok(Self(Arc::new(sqlite::Sqlite::open(path).await?))),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => Ok(Self(Arc::new(postgres::Postgres::open(url).await?))),
        }
    }

    /// Checks a URL as far as is possible without opening the store.
    pub(super) fn check_url(url: &str) -> Result<()> {
        Location::parse(url).map(drop)
    }

    /// Creates or migrates the tables of a database, in one transaction. There is no downgrade. Several programs may
    /// call it at once. The user needs the right to create in the database; the programs that use it later do not.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrate(url: &str) -> Result<()> {
        match Location::parse(url)? {
            #[cfg(feature = "sqlite-system")]
            Location::Sqlite(path) => sqlite::Sqlite::open(path).await.map(|_| ()),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::migrate(url).await,
        }
    }

    /// Returns the SQL that [`migrate`](Self::migrate) would run on this database now, for a DBA. It is empty if
    /// nothing is missing, and always for SQLite, which [`open`](Self::open) migrates.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrations(url: &str) -> Result<String> {
        match Location::parse(url)? {
            #[cfg(feature = "sqlite-system")]
            Location::Sqlite(_) => Ok(String::new()),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::migrations(url).await,
        }
    }
}

/// The location of a store.
enum Location<'a> {
    #[cfg(feature = "sqlite-system")]
    Sqlite(&'a str),
    #[cfg(feature = "postgres")]
    Postgres(&'a str),
}

impl<'a> Location<'a> {
    fn parse(url: &'a str) -> Result<Self> {
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

    /// Refuses paths that SQLite would treat as a temporary file, or as another file than is meant.
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
    /// Holds the messages of a store that was restored from a backup made at this time.
    ///
    /// Call it once, before a worker runs.
    ///
    /// Call it as well after a file was put back with a part of its log (`-wal`), or without it.
    ///
    /// Messages that waited then may have been sent since the backup. None is sent until the gateway does not find it,
    /// in a look-up after ten minutes, or a person decides; what is scheduled for later than now is unchanged. Returns
    /// the number of held messages.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if a SQLite store has a worker,
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) for a time in the future,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store is unavailable.
    pub async fn hold_after_restore(&self, at: Timestamp) -> Result<u64> {
        let now = SystemClock::new().now();
        if at > now {
            return Err(Error::invalid("at", "is in the future: give the time of the backup"));
        }
        let _working = self.0.lock().await?;
        self.0.hold_after_restore(at, now).await
    }
}

impl Store {
    /// Checks the whole store: each message against its stored digest, and in SQLite the tables and indexes as well. It
    /// reads everything, concurrently with other work: seconds for a million messages.
    ///
    /// A SQLite file is checked when it is opened after a crash, and when it is a copy of an open file. Run this now
    /// and then, and after a disk fault.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the store is damaged,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it is unavailable.
    pub async fn check(&self) -> Result<()> {
        match self.0.check().await? {
            0 => Ok(()),
            1 => Err(Error::config("store", "has 1 message that does not match its digest: restore a backup")),
            n => Err(Error::config(
                "store",
                format!("has {n} messages that do not match their digests: restore a backup"),
            )),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
