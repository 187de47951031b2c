//! TLS over rustls and ring, with the system's roots.

use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt;

/// Trusts the system's roots. Without any, no server can be reached unless the settings add roots.
pub(crate) fn trusting() -> Option<rustls::ClientConfig> {
    match provider()?.with_platform_verifier() {
        Ok(trusting) => Some(trusting.with_no_client_auth()),
        Err(_) => unused(),
    }
}

/// For loopback over plain HTTP: certificates are never checked, so none are loaded.
pub(crate) fn unused() -> Option<rustls::ClientConfig> {
    Some(provider()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Option<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().ok()
}
