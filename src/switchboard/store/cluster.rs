//! A PostgreSQL server for tests: the one that `CIVIC_MESSAGING_TEST_POSTGRES` names, or one that ends with the tests.
//! Also included by the tests in `tests/`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "CIVIC_MESSAGING_TEST_POSTGRES";

/// Runs the server until its standard input closes, however the tests end; each line kills and restarts it. `fsync`
/// stays on: what is committed is on disk. With a port it also serves TLS there, as `db.example.gov.uk`, with a
/// certificate of its own authority.
const SCRIPT: &str = r#"
trap '' INT
rm -rf "$2" && mkdir -m 700 "$2" && cd "$2" || exit 1
"$1/initdb" -D data -U postgres -A trust -E UTF8 --locale=C >log 2>&1 || { cat log >&2; exit 1; }
network="-c listen_addresses=''"
if [ -n "$3" ]; then
    key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    printf 'subjectAltName=DNS:db.example.gov.uk\nbasicConstraints=CA:FALSE\n' >server.ext
    openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj "/CN=Authority of a test" >>log 2>&1 &&
        openssl req $key -keyout server.key -out server.csr -subj "/CN=db.example.gov.uk" >>log 2>&1 &&
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
            -out server.pem >>log 2>&1 || { cat log >&2; exit 1; }
    chmod 755 . && network="-c listen_addresses=127.0.0.1 -c port=$3 -c ssl=on -c ssl_cert_file='$2/server.pem'"
    network="$network -c ssl_key_file='$2/server.key'"
fi
"$1/pg_ctl" -D data -w -l log -o "-k '$2' $network -c max_connections=200" start >start 2>&1 ||
    { cat start log >&2; exit 1; }
echo ready
while read -r _; do
    "$1/pg_ctl" -D data -w -l log -m immediate restart >start 2>&1 || { cat start log >&2; exit 1; }
    echo ready
done
"$1/pg_ctl" -D data -m immediate stop >/dev/null
rm -rf "$2"
"#;

/// A database, with a role of the same name.
pub(crate) struct Database {
    url: String,
    name: String,
}

/// A server that can be killed without affecting other tests.
pub(crate) struct Own(Child, BufReader<ChildStdout>, PathBuf);

struct Server {
    url: String,
    /// Present if the server is ours, and ends with the database.
    own: Option<Own>,
}

impl Database {
    /// Creates an empty database. Without a server it prints that and returns `None`; in CI that is a failure.
    pub(crate) async fn new() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let server = server()?;
        let name = format!("civic_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&server.url, &format!("CREATE DATABASE {name}")).await;
        run(&server.url, &format!("CREATE ROLE {name}")).await;
        let (scheme, rest) = server.url.split_once("://").unwrap();
        let authority = rest.split(['/', '?']).next().unwrap();
        let options = rest.find('?').map_or("", |at| &rest[at..]);
        Some(Self { url: format!("{scheme}://{authority}/{name}{options}"), name })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for its role.
    pub(crate) fn url_of_role(&self) -> String {
        let mark = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{mark}options=-c%20role%3D{}", self.url, self.name)
    }

    /// Runs the grants in the comment of a migration that name this role, and returns their number.
    pub(crate) async fn grant(&self, step: &str, to: &str) -> usize {
        let grants = step.lines().filter_map(|line| line.strip_prefix("--   ")).filter(|line| line.contains(to));
        let grants: Vec<_> = grants.map(|grant| grant.replace(to, &self.name)).collect();
        run(&self.url, &grants.concat()).await;
        grants.len()
    }
}

impl Own {
    /// Starts a server, and returns the URL of its database: `None` if no server is installed.
    pub(crate) fn start() -> Option<(Self, String)> {
        server()?;
        let Server { url, own } = start(&programs()?, None);
        Some((own?, url))
    }

    /// Starts a server that also serves TLS on this port of loopback.
    pub(crate) fn start_tls(port: u16) -> Option<Self> {
        server()?;
        start(&programs()?, Some(port)).own
    }

    /// Returns the certificate of the authority that issued its own.
    pub(crate) fn authority(&self) -> PathBuf {
        self.2.join("ca.pem")
    }

    /// Kills the server, as a machine fault would, and restarts it.
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
        // Our own server is removed as a whole.
        let Some(Server { url, own: None }) = server() else { return };
        let (url, name) = (url.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                run(&url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                run(&url, &format!("DROP ROLE IF EXISTS {name}")).await;
            });
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

/// Runs SQL with psql, as a DBA does.
pub(crate) fn psql(url: &str, sql: &str) {
    let program = programs().map_or("psql".into(), |programs| programs.join("psql"));
    let mut psql = Command::new(program);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut psql = psql.spawn().unwrap();
    psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert!(psql.wait().unwrap().success());
}

fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let found = SERVER.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(url) => Some(Server { url, own: None }),
        Err(_) => programs().map(|programs| start(&programs, None)),
    });
    if found.is_none() {
        let text = format!("skipped: no PostgreSQL is installed under /usr/lib/postgresql, and {VARIABLE} is not set");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
        println!("{text}");
    }
    found.as_ref()
}

/// Returns the folder with the programs of the newest installed server.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let folders = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    folders.max_by_key(|bin| bin.parent().and_then(|of| of.file_name()?.to_str()?.parse::<u32>().ok()))
}

fn start(programs: &std::path::Path, tls: Option<u16>) -> Server {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // Not in TMPDIR: the path of a socket must be short, and accessible to the server's user.
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
    command
        .args(["-c", SCRIPT, "sh"])
        .arg(programs)
        .arg(&folder)
        .arg(tls.map_or(String::new(), |port| port.to_string()));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    let socket = folder.to_str().unwrap().replace('/', "%2F");
    let mut own = Own(child, answers, folder);
    own.wait();
    Server { url: format!("postgres://postgres@{socket}/postgres"), own: Some(own) }
}
