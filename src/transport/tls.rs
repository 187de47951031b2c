//! TLS over rustls and ring, as the machine trusts.

use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt;

/// What the machine trusts. One that trusts nothing reaches no server, unless the settings bring roots of their own.
pub(crate) fn trusting() -> Option<rustls::ClientConfig> {
    match provider()?.with_platform_verifier() {
        Ok(trusting) => Some(trusting.with_no_client_auth()),
        Err(_) => unused(),
    }
}

/// For loopback over plain HTTP: no certificate is ever looked at, so none need be there.
pub(crate) fn unused() -> Option<rustls::ClientConfig> {
    Some(provider()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Option<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().ok()
}
