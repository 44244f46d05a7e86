//! The one HTTP client: a small pool, http and https, shared by rs-consul and our own calls.
//!
//! Invariant: it never sends a request twice by itself (`retry_canceled_requests(false)`); whether
//! a request went out is known to `ext` alone. It must not hold a token.

use super::error::SetupError;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// The type rs-consul takes, so that both share one pool.
pub(super) type Http = rs_consul::HttpsClient;

/// Two watches and one control connection are in use at a time; idle ones beyond these are closed.
const IDLE_CONNECTIONS_MAX: usize = 3;
/// Longer than the 30 s reconcile, so that a quiet sidecar still finds a connection.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Notices a peer that vanished without a word while a watch waits.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Certificates in PEM. Without a CA the system's roots count.
#[derive(Clone, Default)]
pub struct Tls {
    pub ca: Option<Vec<u8>>,
    /// The client's certificate chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// Builds the client. The system's roots are read only when an https address needs them: they cost
/// more memory than everything else here.
pub(super) fn build(tls: &Tls, tls_used: bool) -> Result<Http, SetupError> {
    let config = if tls_used { tls_config(tls)? } else { without_roots()? };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_timer(TokioTimer::new())
        .build(connector))
}

fn tls_config(tls: &Tls) -> Result<ClientConfig, SetupError> {
    let builder = match &tls.ca {
        Some(pem) => versions()?.with_root_certificates(roots(pem)?),
        None => versions()?
            .with_native_roots()
            .map_err(|error| SetupError::Tls(format!("the system's CA certificates: {error}")))?,
    };
    let Some((chain, key)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| SetupError::Tls(format!("client key: {error}")))?;
    builder
        .with_client_auth_cert(certificates(chain, "client certificate")?, key)
        .map_err(|error| SetupError::Tls(format!("client certificate and key: {error}")))
}

fn without_roots() -> Result<ClientConfig, SetupError> {
    Ok(versions()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn versions() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, SetupError> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls(error.to_string()))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, SetupError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "CA")? {
        store.add(certificate).map_err(|error| SetupError::Tls(format!("CA: {error}")))?;
    }
    Ok(store)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let list = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SetupError::Tls(format!("{what}: {error}")))?;
    if list.is_empty() {
        return Err(SetupError::Tls(format!("{what}: no certificate in it")));
    }
    Ok(list)
}
