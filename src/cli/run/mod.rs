//! `civic-messaging run`: webhooks, worker, and the officers' API, until it is asked to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use civic_messaging::media::FolderStore;
use civic_messaging::switchboard::{ShutdownReport, Switchboard};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::api::Api;
use self::signals::Signals;
use super::args::Common;
use super::failure::{Code, Failure};
use super::open;
use super::output::print;

mod api;
mod logs;
mod metrics;
mod signals;
mod token;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    file: PathBuf,
    /// The address for webhooks; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    webhooks: SocketAddr,
    /// The path of the routes
    #[arg(long, value_name = "PATH", default_value = "/webhooks")]
    webhook_path: String,
    /// The address of the officers' API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    api: SocketAddr,
    /// Run without the officers' API
    #[arg(long)]
    no_api: bool,
    /// Serve the API beyond this machine, behind a proxy with TLS
    #[arg(long)]
    allow_remote_api: bool,
    /// The file with the token of the API; the variable CIVIC_MESSAGING_API_TOKEN by default
    #[arg(long, value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// Serve /health on the address for webhooks: 200 while the store is available
    #[arg(long)]
    health: bool,
    /// Serve /metrics on the address of the API, for Prometheus
    #[arg(long)]
    metrics: bool,
    /// Acknowledge every event once it is stored, where no program reads them from the API
    #[arg(long)]
    acknowledge_events: bool,
    /// The log on stderr: error, warn, info, debug or off
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: logs::Level,
}

/// The maximum time for a request, as long as gateways wait.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// The maximum time for open requests to end once the worker has stopped.
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Args, common: &Common) -> Result<Code, Failure> {
    let configuration = open::configuration(&args.file, common)?;
    let token = match args.no_api {
        true => None,
        false => Some(token::read(args.api_token_file.as_deref())?),
    };
    check(&args)?;
    logs::start(args.log_level);
    let media = configuration.media_folder().map(FolderStore::new).transpose()?;
    let (switchboard, lines) = open::opened(configuration).await?;
    let mut webhooks = Router::new().nest(&args.webhook_path, switchboard.router());
    if args.health {
        webhooks = webhooks.route("/health", switchboard.health_endpoint());
    }
    // Bound before the worker runs, so that a service that cannot listen sends nothing.
    let webhooks = (bind(args.webhooks, "--webhooks").await?, webhooks);
    let api = match token {
        None => None,
        Some(token) => {
            let router = Api::new(switchboard.clone(), lines, media, token).router(args.metrics);
            Some((bind(args.api, "--api").await?, router))
        }
    };
    // Before somebody learns that the service runs, and stops it.
    let signals = Signals::new()?;
    announce(&webhooks.0, api.as_ref().map(|(listener, _)| listener), &args.webhook_path, common)?;
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for (listener, router) in std::iter::once(webhooks).chain(api) {
        let router = router.layer(middleware::from_fn(limited));
        let server = axum::serve(listener, router).with_graceful_shutdown(signals::fired(stopped.clone()));
        servers.spawn(async move { server.await });
    }
    if args.acknowledge_events {
        tokio::spawn(acknowledge(switchboard.clone()));
    }
    tokio::spawn(signals.watch(stop));
    let report = switchboard.run(signals::fired(stopped)).await?;
    _ = tokio::time::timeout(CLOSE_MAX, async { while servers.join_next().await.is_some() {} }).await;
    finish(report, common);
    Ok(Code::Done)
}

/// Refuses an API that more than this machine can reach, and paths that are not one.
fn check(args: &Args) -> Result<(), Failure> {
    if !args.no_api && !args.api.ip().is_loopback() && !args.allow_remote_api {
        let rule =
            "is not on loopback: officers' messages would cross the network; to allow it, add --allow-remote-api";
        return Err(Failure::Usage(format!("--api: {} {rule}", args.api)));
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let path = &args.webhook_path;
    if !path.starts_with('/')
        || path.len() < 2
        || path.ends_with('/')
        || path.contains("//")
        || !path.chars().all(is_path)
    {
        return Err(Failure::Usage("--webhook-path: must be a path such as /webhooks".to_owned()));
    }
    if args.health && path == "/health" {
        return Err(Failure::Usage("--webhook-path: is the path of --health".to_owned()));
    }
    Ok(())
}

async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| Failure::Usage(format!("{option}: cannot listen on {address}: {}", error.kind())))
}

/// Writes where the service listens, for people and for programs that start it.
fn announce(webhooks: &TcpListener, api: Option<&TcpListener>, path: &str, common: &Common) -> Result<(), Failure> {
    let base = |listener: &TcpListener| {
        let address = listener.local_addr();
        address
            .map(|address| format!("http://{address}"))
            .map_err(|error| Failure::Failed(format!("the socket has no address: {}", error.kind())))
    };
    let (webhooks, api) = (format!("{}{path}", base(webhooks)?), api.map(base).transpose()?);
    if common.json {
        print(&json!({ "listening": { "webhooks": webhooks, "api": api } }).to_string());
        return Ok(());
    }
    print(&format!("webhooks  {webhooks}/ROUTE"));
    print(&format!("api       {}", api.as_deref().unwrap_or("none")));
    Ok(())
}

/// Answers 503 after the time that gateways wait: they redeliver then.
async fn limited(request: Request, next: Next) -> Response {
    let ended = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
    ended.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

/// Acknowledges all events.
async fn acknowledge(switchboard: Switchboard) {
    let inbox = switchboard.all();
    loop {
        match inbox.next_batch(100).await {
            Ok(events) if events.is_empty() => return,
            Ok(events) => {
                for event in events {
                    // Redelivered otherwise.
                    _ = event.ack().await;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

fn finish(report: ShutdownReport, common: &Common) {
    let unfinished = report.unfinished;
    if common.json {
        print(&Value::to_string(&json!({ "stopped": { "unfinished": unfinished } })));
        return;
    }
    print(&match unfinished {
        0 => "stopped: no message was in flight".to_owned(),
        1 => "stopped: 1 message was in flight, and is resolved when the service runs again".to_owned(),
        n => format!("stopped: {n} messages were in flight, and are resolved when the service runs again"),
    });
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn checked(words: &[&str]) -> Result<(), String> {
        let words = ["run", "council.toml"].iter().chain(words);
        check(&Only::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args).map_err(|failure| {
            assert_eq!(failure.code(), Code::Usage);
            format!("{failure:?}")
        })
    }

    #[test]
    fn api_beyond_loopback_is_refused_unless_named() {
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&["--api", "[::1]:0"]), Ok(()));
        for address in ["0.0.0.0:8081", "192.0.2.1:8081", "[::]:0"] {
            assert!(checked(&["--api", address]).unwrap_err().contains("--allow-remote-api"), "{address}");
            assert_eq!(checked(&["--api", address, "--allow-remote-api"]), Ok(()));
            assert_eq!(checked(&["--api", address, "--no-api"]), Ok(()));
        }
        // Webhooks come from outside.
        assert_eq!(checked(&["--webhooks", "0.0.0.0:8080"]), Ok(()));
    }

    #[test]
    fn wrong_path_of_webhooks_is_refused() {
        for path in ["", "/", "hooks", "/hooks/", "/a//b", "/{route}", "/a b"] {
            assert!(checked(&[&format!("--webhook-path={path}")]).is_err(), "{path}");
        }
        assert_eq!(checked(&["--webhook-path", "/civic/hooks"]), Ok(()));
        assert!(checked(&["--webhook-path", "/health", "--health"]).is_err());
    }
}
