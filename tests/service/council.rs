//! docs/council.toml as a service: the real process between fake gateways on loopback.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use civic_messaging::Timestamp;
use civic_messaging::testing::{FakeGateway, Step};
use serde_json::{Value, json};

use super::support::signature;

pub(super) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/council.toml");
const APP_SECRET: &str = "canary-app-secret";
const CALLBACK_TOKEN: &str = "canary-callback-token";
pub(super) const API_TOKEN: &str = "canary-api-token-of-the-officers";
const ENQUIRIES: &str = "200000000000006";

/// The variables of the file, but for those of folders.
const VARIABLES: &[(&str, &str)] = &[
    ("CIVIC_MESSAGING_API_TOKEN", API_TOKEN),
    ("META_ACCESS_TOKEN", "canary-meta-token"),
    ("META_APP_SECRET", APP_SECRET),
    ("META_PAGE_TOKEN", "canary-page-token"),
    ("META_VERIFY_TOKEN", "canary-verify-token"),
    ("NOTIFY_API_KEY", "bins-26785a09-ab16-4eb0-8407-a37497a57506-3d844edf-8d35-48ac-975b-e847b4f122b0"),
    ("NOTIFY_CALLBACK_TOKEN", CALLBACK_TOKEN),
    ("X_ACCESS_TOKEN", "canary-x-token"),
    ("X_ACCESS_TOKEN_SECRET", "canary-x-token-secret"),
    ("X_CONSUMER_KEY", "canary-consumer-key"),
    ("X_CONSUMER_SECRET", "canary-consumer-secret"),
];

/// The maximum time for what the process does next, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A council's folder and gateways, which outlive the service.
pub(super) struct Council {
    folder: PathBuf,
    /// The configuration.
    pub(super) file: String,
    /// WhatsApp and Messenger.
    pub(super) meta: FakeGateway,
    /// Text messages.
    pub(super) notify: FakeGateway,
    /// The host of residents' pictures.
    pub(super) files: FakeGateway,
    client: reqwest::Client,
}

impl Council {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// Creates a council with more tables in its file.
    pub(super) async fn with(tables: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("civic-service-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        // A killed process with the same id may have left one.
        _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let file = match tables {
            "" => FILE.to_owned(),
            _ => {
                let own = folder.join("council.toml");
                std::fs::write(&own, format!("{}\n{tables}", std::fs::read_to_string(FILE).unwrap())).unwrap();
                own.display().to_string()
            }
        };
        let (meta, notify, files) =
            (FakeGateway::start().await, FakeGateway::start().await, FakeGateway::start().await);
        meta.always(Step::any().answers(200, r#"{"messaging_product":"whatsapp","messages":[{"id":"wamid.out"}]}"#));
        notify.always(Step::any().answers(201, ACCEPTED_BY_NOTIFY));
        files.always(Step::any().answers(200, "a fallen tree").response_header("content-type", "image/jpeg"));
        Self { folder, file, meta, notify, files, client: client() }
    }

    /// Returns a command of the program, at this time.
    pub(super) fn command(&self, at: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_civic-messaging"));
        command.args(words).env_clear().envs(VARIABLES.iter().copied());
        command.env("COUNCIL_STORE", format!("sqlite:{}", self.folder.join("messages.db").display()));
        command.env("COUNCIL_MEDIA", self.folder.join("media")).env("CIVIC_MESSAGING_TEST_TIME", at);
        for (name, value) in [
            ("gateways.meta.base_url", self.meta.base_url()),
            ("gateways.notify.base_url", self.notify.base_url()),
            // Nobody writes by X.
            ("gateways.x.base_url", "http://127.0.0.1:1".to_owned()),
            // The steps of a gateway are for sends and look-ups alone.
            ("lines.enquiries.receive_by.notify", "webhook".to_owned()),
            ("lines.enquiries.receive_by.x", "webhook".to_owned()),
        ] {
            command.args(["--set".to_owned(), format!("{name}={value}")]);
        }
        command
    }

    /// Runs a command to its end, which blocks this thread. Returns its exit code, what it wrote, and its errors.
    pub(super) fn run(&self, at: &str, words: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(at, words).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Starts the service at this time.
    pub(super) fn start(&self, at: &str) -> Service<'_> {
        self.start_with(at, &[])
    }

    /// Starts the service at this time, with more options.
    pub(super) fn start_with(&self, at: &str, options: &[&str]) -> Service<'_> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let listen = ["--webhooks", "127.0.0.1:0", "--api", "127.0.0.1:0", "--health", "--metrics", "--json"];
        let words = [&["run", &*self.file, "--log-level", "debug"], &listen[..], options].concat();
        let mut child = self.command(at, &words).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}{}", self.log()));
        let url = |name: &str| listening["listening"][name].as_str().unwrap().to_owned();
        Service { council: self, child, output, webhooks: url("webhooks"), api: url("api") }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Asserts that the log holds no secret, no number and no text.
    pub(super) fn assert_log_is_clean(&self, texts: &[&str]) {
        let log = self.log();
        for personal in ["canary", "7700900"].iter().chain(texts) {
            assert!(!log.contains(personal), "the log contains {personal}:\n{log}");
        }
    }
}

impl Drop for Council {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A running process.
pub(super) struct Service<'c> {
    council: &'c Council,
    child: Child,
    output: BufReader<ChildStdout>,
    webhooks: String,
    api: String,
}

impl Service<'_> {
    /// Ends the process as `kill -9` does.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop. Returns its exit code and its report.
    pub(super) fn terminate(mut self) -> (i32, Value) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let code = self.child.wait().unwrap().code().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (code, serde_json::from_str(&line).unwrap())
    }

    /// Calls the API, and returns the status and the JSON.
    pub(super) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.council.client.request(method, format!("{}{path}", self.api)).bearer_auth(API_TOKEN);
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        let response = request.send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let (status, json) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{json}");
        json
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, json) = self.call("POST", path, Some(body)).await;
        assert_eq!(status, 200, "{json}");
        json
    }

    /// Returns a request to the API without a token.
    pub(super) fn anonymous(&self, path: &str) -> reqwest::RequestBuilder {
        self.council.client.get(format!("{}{path}", self.api))
    }

    /// Returns a request to the address for webhooks.
    pub(super) fn outside(&self, path: &str) -> reqwest::RequestBuilder {
        let base = self.webhooks.trim_end_matches("/webhooks");
        self.council.client.get(format!("{base}{path}"))
    }

    /// Sends a text on the line of enquiries. Returns the status and the JSON.
    pub(super) async fn send(&self, to: Value, text: &str, purpose: &str) -> (u16, Value) {
        let message = json!({ "to": to, "content": { "text": text }, "purpose": purpose });
        self.call("POST", "/v1/messages", Some(json!({ "line": "enquiries", "message": message }))).await
    }

    /// Returns the messages of enquiries in a state.
    pub(super) async fn messages(&self, state: &str) -> Vec<Value> {
        let all = self.get(&format!("/v1/messages?line=enquiries&state={state}")).await;
        all["messages"].as_array().unwrap().clone()
    }

    /// Returns the counts of enquiries.
    pub(super) async fn stats(&self) -> Value {
        let stats = self.get("/v1/stats").await;
        stats["lines"].as_array().unwrap().iter().find(|line| line["line"] == "enquiries").unwrap().clone()
    }

    /// Waits until a message is in a state, and returns it.
    pub(super) async fn until(&self, id: &Value, state: &str) -> Value {
        until(async || {
            let message = self.get(&format!("/v1/messages/{id}")).await;
            (message["state"] == state).then_some(message)
        })
        .await
    }

    /// Returns a conversation of enquiries, newest first.
    pub(super) async fn conversation(&self, person: Value) -> Vec<Value> {
        let read = json!({ "line": "enquiries", "person": person });
        self.post("/v1/conversation", read).await["entries"].as_array().unwrap().clone()
    }

    /// A resident writes by WhatsApp.
    pub(super) async fn whatsapp(&self, from: &str, at: &str, message: Value) {
        let time = at.parse::<Timestamp>().unwrap().as_secs().to_string();
        let mut message = message;
        message["from"] = from.into();
        message["timestamp"] = time.into();
        let value = json!({
            "messaging_product": "whatsapp", "metadata": { "phone_number_id": ENQUIRIES }, "messages": [message],
        });
        let change = json!({ "field": "messages", "value": value });
        let body = json!({
            "object": "whatsapp_business_account", "entry": [{ "id": "100", "changes": [change] }],
        });
        let body = body.to_string();
        let signed = signature(APP_SECRET, body.as_bytes());
        let post = self.council.client.post(format!("{}/meta", self.webhooks));
        let response = post.header("x-hub-signature-256", signed).body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }

    /// A resident writes by text message.
    pub(super) async fn sms(&self, id: u32, from: &str, at: &str, text: &str) {
        self.notify(json!({
            "id": format!("9968018b-f64e-4d8a-b068-2815a1fa{id:04}"),
            "source_number": from,
            "destination_number": "07700900456",
            "message": text,
            "date_received": at,
        }))
        .await;
    }

    /// Notify calls back.
    pub(super) async fn notify(&self, body: Value) {
        let post = self.council.client.post(format!("{}/notify", self.webhooks)).bearer_auth(CALLBACK_TOKEN);
        assert_eq!(post.body(body.to_string()).send().await.unwrap().status(), 200);
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub(super) const ACCEPTED_BY_NOTIFY: &str =
    r#"{"id":"740e5834-3a29-46b4-9a6f-16142fde533a","content":{"body":"b","from_number":"GOVUK"}}"#;

/// Asks again until there is an answer.
pub(super) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it never is")
}

/// Returns an HTTP client without certificates.
fn client() -> reqwest::Client {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}
