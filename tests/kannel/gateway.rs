//! Kannel's processes, and the webhooks that they call.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use axum::Router;
use axum::body::Bytes;
use civic_messaging::webhook;
use tokio::sync::mpsc;

pub(crate) const PASSWORD: &str = "kannel-password";
pub(crate) const TOKEN: &str = "a-token-of-the-webhook";

const FAKE_SMSC: &str = "/usr/lib/kannel/test/fakesmsc";

/// The time that a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Kannel with a fake SMSC. Its processes end with it.
pub(crate) struct Kannel {
    pub(crate) webhooks: Webhooks,
    http: u16,
    hook: u16,
    smsc: u16,
    processes: Vec<Process>,
    folder: PathBuf,
    /// The messages that the network received, as the fake SMSC prints them.
    air: mpsc::UnboundedReceiver<String>,
    air_of: mpsc::UnboundedSender<String>,
}

pub(crate) struct Webhooks(mpsc::UnboundedReceiver<webhook::Request>);

impl Webhooks {
    pub(crate) async fn recv(&mut self) -> Option<webhook::Request> {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("Kannel calls the webhook in time")
    }
}

/// A process that is killed with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of a program.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Returns ports that are free.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Starts a process, passes on the lines that it logs, and returns once one contains this text. If it ends before,
/// returns its log.
fn start(command: &mut Command, until: &str, lines: impl Fn(&str) + Send + 'static) -> Result<Process, String> {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let (found, logged) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // Kannel logs texts in any encoding.
        for line in log.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            lines(&line);
            let _ = found.send(line.into_owned());
        }
    });
    let process = Process(process);
    let mut log = Vec::new();
    while let Ok(line) = logged.recv_timeout(PATIENCE) {
        if line.contains(until) {
            return Ok(process);
        }
        log.push(line);
    }
    Err(format!("{command:?} did not log {until:?}, but:\n{}", log.join("\n")))
}

impl Kannel {
    /// Starts Kannel; `None` if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let (bearerbox, smsbox) = (program("bearerbox"), program("smsbox"));
        let (Some(bearerbox), Some(smsbox), true) = (bearerbox, smsbox, Path::new(FAKE_SMSC).exists()) else {
            assert!(env::var_os("CI").is_none(), "Kannel is not installed: apt-get install kannel kannel-extras");
            println!("skipped: Kannel is not installed (apt-get install kannel kannel-extras)");
            return None;
        };
        let (hook, webhooks) = serve();
        let folder = env::temp_dir().join(format!("civic-kannel-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("kannel.conf");
        let (air_of, air) = mpsc::unbounded_channel();
        let mut kannel = Self { webhooks, http: 0, hook, smsc: 0, processes: Vec::new(), folder, air, air_of };
        let mut log = String::new();
        // Another process may take a free port before Kannel does.
        for _ in 0..5 {
            let [admin, boxes, smsc, http] = free_ports();
            (kannel.smsc, kannel.http) = (smsc, http);
            fs::write(&file, kannel.configuration(admin, boxes)).unwrap();
            let run = |program: &Path, until| start(Command::new(program).arg(&file), until, |_| {});
            let started = run(&bearerbox, "Start-up done, entering mainloop")
                .and_then(|first| Ok(vec![first, run(&smsbox, "Connected to bearerbox")?]));
            match started {
                Ok(processes) => {
                    kannel.processes = processes;
                    return Some(kannel);
                }
                Err(failed) => log = failed,
            }
        }
        panic!("{log}");
    }

    fn configuration(&self, admin: u16, boxes: u16) -> String {
        let (smsc, http) = (self.smsc, self.http);
        let inbound = self.webhook("from=%p&to=%P&text=%b&id=%I&ts=%T");
        format!(
            r#"
group = core
admin-port = {admin}
admin-password = admin
admin-interface = 127.0.0.1
smsbox-port = {boxes}
smsbox-interface = 127.0.0.1
box-allow-ip = "127.0.0.1"
dlr-storage = internal

group = smsc
smsc = fake
smsc-id = FAKE
port = {smsc}
connect-allow-ip = "127.0.0.1"

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {boxes}
sendsms-port = {http}
sendsms-interface = 127.0.0.1
sendsms-chars = "0123456789 +-"
mo-recode = true

group = sendsms-user
username = council
password = {PASSWORD}
concatenation = true
max-messages = 10
user-allow-ip = "127.0.0.1"

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "{inbound}"
"#
        )
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Returns the URL of the webhook with these parameters after the token.
    pub(crate) fn webhook(&self, parameters: &str) -> String {
        format!("http://127.0.0.1:{}/kannel?token={TOKEN}&{parameters}", self.hook)
    }

    /// Connects the fake SMSC, and sends one text from a person. It stays connected, and receives what Kannel sends.
    pub(crate) fn write(&mut self, from: &str, text: &str) {
        let units = text.encode_utf16().flat_map(u16::to_be_bytes);
        let payload: String = units.map(|byte| format!("%{byte:02X}")).collect();
        let mut command = Command::new(FAKE_SMSC);
        command.args(["-H", "127.0.0.1", "-r", &self.smsc.to_string(), "-i", "0.01", "-m", "1"]);
        command.arg(format!("{from} 60777 ucs2 {payload}"));
        let air = self.air_of.clone();
        let received = move |line: &str| {
            if let Some((_, message)) = line.split_once(": Got message ").filter(|(_, rest)| rest.contains(": <")) {
                let _ = air.send(message.split_once(": <").unwrap().1.trim_end_matches('>').to_owned());
            }
        };
        self.processes.push(start(&mut command, "sent message 1", received).unwrap());
    }

    /// Returns the payload of one message that the network received in so many parts.
    pub(crate) async fn on_the_air(&mut self, parts: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        for expected in 1..=parts {
            let line = tokio::time::timeout(PATIENCE, self.air.recv()).await.expect("the network receives it in time");
            let (bytes, number) = part(&line.unwrap());
            assert_eq!(usize::from(number), expected);
            payload.extend(bytes);
        }
        payload
    }
}

impl Drop for Kannel {
    fn drop(&mut self) {
        self.processes.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the payload and the number of a part, from the line of the fake SMSC.
fn part(line: &str) -> (Vec<u8>, u8) {
    let decoded = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).collect::<Vec<u8>>();
    let [_, _, kind, rest] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    match (kind, rest.split_once(" data ")) {
        ("text", _) => (rest.as_bytes().to_vec(), 1),
        ("ucs-2", _) => (decoded(rest), 1),
        ("udh", Some((header, data))) => (decoded(data), *decoded(header).last().unwrap()),
        _ => panic!("{line}"),
    }
}

/// Accepts webhooks at a port, and passes them on.
fn serve() -> (u16, Webhooks) {
    let (found, requests) = mpsc::unbounded_channel();
    let answer = move |request: axum::http::Request<axum::body::Body>| {
        let found = found.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body: Bytes = axum::body::to_bytes(body, webhook::BODY_MAX).await.unwrap();
            let _ = found.send(webhook::Request::new(axum::http::Request::from_parts(parts, body)));
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (port, Webhooks(requests))
}
