//! A PostgreSQL for tests: the one that `CIVIC_MESSAGING_TEST_POSTGRES` names, or one of their own, which goes when they
//! do. The tests in `tests/` have this file as well.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "CIVIC_MESSAGING_TEST_POSTGRES";

/// The server lives until nobody can write to this any more, however the tests end; it is killed and starts again for
/// each line. It never lies: what it has committed is on the disk.
const SCRIPT: &str = r#"
trap '' INT
rm -rf "$2" && mkdir -m 700 "$2" && cd "$2" || exit 1
"$1/initdb" -D data -U postgres -A trust -E UTF8 --locale=C >log 2>&1 || { cat log >&2; exit 1; }
"$1/pg_ctl" -D data -w -l log -o "-k '$2' -c listen_addresses='' -c max_connections=200" start >start 2>&1 ||
    { cat start log >&2; exit 1; }
echo ready
while read -r _; do
    "$1/pg_ctl" -D data -w -l log -m immediate restart >start 2>&1 || { cat start log >&2; exit 1; }
    echo ready
done
"$1/pg_ctl" -D data -m immediate stop >/dev/null
rm -rf "$2"
"#;

/// A database of its own.
pub(crate) struct Database {
    url: String,
    name: String,
}

/// A server that is killed while others are not.
pub(crate) struct Own(Child, BufReader<ChildStdout>);

struct Server {
    url: String,
    /// It is ours, and goes with this.
    own: Option<Own>,
}

impl Database {
    /// An empty one. Where there is no server, that is said and there is none; for CI it is a failure.
    pub(crate) async fn new() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let server = server()?;
        let name = format!("civic_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&server.url, &format!("CREATE DATABASE {name}")).await;
        let (scheme, rest) = server.url.split_once("://").unwrap();
        let authority = rest.split(['/', '?']).next().unwrap();
        let options = rest.find('?').map_or("", |at| &rest[at..]);
        Some(Self { url: format!("{scheme}://{authority}/{name}{options}"), name })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Own {
    /// A server by itself, and the URL of its database. None where no server is installed.
    pub(crate) fn start() -> Option<(Self, String)> {
        server()?;
        let Server { url, own } = start(&programs()?);
        Some((own?, url))
    }

    /// Kills the server as a fault of the machine would, and starts it again.
    pub(crate) fn kill(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"again\n").unwrap();
        self.wait();
    }

    fn wait(&mut self) {
        let mut ready = String::new();
        self.1.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "PostgreSQL did not start");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Ours goes as a whole.
        let Some(Server { url, own: None }) = server() else { return };
        let (url, sql) = (url.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(&url, &sql));
        });
        _ = dropped.join();
    }
}

/// Runs SQL as the user of the server.
pub(crate) async fn run(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let found = SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(url) => Some(Server { url, own: None }),
        Err(_) => programs().map(|programs| start(&programs)),
    });
    if found.is_none() {
        let words = format!("skipped: no PostgreSQL is installed under /usr/lib/postgresql, and {VARIABLE} is not set");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{words}");
        println!("{words}");
    }
    found.as_ref()
}

/// The folder with the programs of the newest server that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let folders = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    folders.max_by_key(|bin| bin.parent().and_then(|of| of.file_name()?.to_str()?.parse::<u32>().ok()))
}

fn start(programs: &std::path::Path) -> Server {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // Not the folder of TMPDIR: the path of a socket must be short, and the server's user may get there.
    let folder = PathBuf::from(format!("/tmp/civic-pg-{}-{n}", std::process::id()));
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    // The server does not run as root.
    let mut command = match user.trim_ascii() {
        b"0" => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        }
        _ => Command::new("sh"),
    };
    command.args(["-c", SCRIPT, "sh"]).arg(programs).arg(&folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    let mut own = Own(child, answers);
    own.wait();
    let socket = folder.to_str().unwrap().replace('/', "%2F");
    Server { url: format!("postgres://postgres@{socket}/postgres"), own: Some(own) }
}
