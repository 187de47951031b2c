//! TLS sessions with PostgreSQL, verified against the system's certificate authorities.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use civic_messaging::switchboard::Store;
use civic_messaging::{ErrorKind, Result};

use super::cluster;

const DATABASE: &str = "CIVIC_TEST_TLS";

/// Opens a store in its own process, because trusted roots are read once. Does nothing without its variable.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let opened = async {
        Store::migrate(&url).await?;
        Store::open(&url).await
    };
    let opened: Result<Store> = opened.await;
    println!("{}", opened.map_or_else(|error| format!("{}: {error}", error.kind().as_str()), |_| "opened".to_owned()));
}

/// The result in a process that trusts this authority.
fn opens(url: &str, authority: &Path) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tls::child", "--nocapture", "--test-threads=1"]).env(DATABASE, url);
    let output = child.env("SSL_CERT_FILE", authority).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn server_certificate_needs_a_trusted_ca_and_its_name() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is not installed");
        println!("skipped: openssl is not installed");
        return;
    }
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, other) = (free(), free());
    let Some(server) = cluster::Own::start_tls(port) else { return };
    let Some(another) = cluster::Own::start_tls(other) else { return };
    let url = |host: &str, mode: &str| {
        format!("postgres://postgres@{host}:{port}/postgres?hostaddr=127.0.0.1&sslmode={mode}")
    };
    let (right, wrong) = ("db.example.gov.uk", "other.example.gov.uk");
    let ours = server.authority();
    assert!(opens(&url(right, "require"), &ours).contains("opened"));
    for (host, mode, authority) in [
        (wrong, "require", ours.clone()),
        (right, "require", another.authority()),
        // An untrusted certificate is refused in every mode with TLS.
        (wrong, "prefer", ours),
    ] {
        let result = opens(&url(host, mode), &authority);
        assert!(result.contains("config: ") && result.contains("no TLS with the server"), "{host} {mode}: {result}");
    }
    // This process does not trust the authority.
    let error = Store::open(&url(right, "require")).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{error}");
    assert!(Store::open(&url(wrong, "disable")).await.is_ok());
}

#[tokio::test]
async fn server_without_tls_is_refused_if_tls_is_required() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    // A server without TLS, and the bytes that it receives before the client closes.
    let received = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut asks = [0; 8];
        client.read_exact(&mut asks).unwrap();
        client.write_all(b"N").unwrap();
        client.read(&mut [0; 64]).unwrap()
    });
    let error = Store::open(&format!("postgres://desk:hunter2@{at}/desk?sslmode=require")).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("store")), "{error}");
    assert!(error.to_string().contains("no TLS with the server"), "{error}");
    assert_eq!(received.join().unwrap(), 0);
}
