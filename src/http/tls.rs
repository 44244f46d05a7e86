//! TLS on the port and towards other nodes: one certificate for both, all of it replaceable while
//! lictor runs.
//!
//! A connection takes what is in use when it begins. Whom a node believes is still decided by the
//! MAC of `auth`: TLS hides what is said, and keeps out who has no certificate of the cluster's CA.

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// What the files hold, in PEM.
#[derive(Clone)]
pub struct Pem {
    /// The node's certificate chain and key; none for a command that only asks.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Who may sign the other nodes' certificates.
    pub ca: Vec<u8>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// How TLS is spoken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct How {
    /// The DNS name in every node's certificate; none: the certificates have the nodes' addresses.
    pub peer_name: Option<String>,
    /// Plain HTTP is taken on the port too.
    pub plain: bool,
    /// Only clients with a certificate of the CA are served.
    pub verify_clients: bool,
}

/// What is wrong with certificates or names.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct TlsError {
    what: &'static str,
    why: String,
}

fn bad(what: &'static str, why: impl fmt::Display) -> TlsError {
    TlsError { what, why: why.to_string() }
}

struct InUse {
    /// None without a certificate of one's own.
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

/// TLS as it is now. Clones share it.
#[derive(Clone)]
pub struct Tls {
    in_use: Arc<RwLock<InUse>>,
    how: How,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("how", &self.how).finish_non_exhaustive()
    }
}

impl Tls {
    pub fn new(pem: &Pem, how: How) -> Result<Tls, TlsError> {
        name_of(&how)?;
        Ok(Tls { in_use: Arc::new(RwLock::new(built(pem, &how)?)), how })
    }

    /// Connections that begin from now on use these; on an error the former ones stay.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        let fresh = built(pem, &self.how)?;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(super) fn takes_plain(&self) -> bool {
        self.how.plain
    }

    /// None without a certificate of one's own: then the port speaks plain HTTP.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        let in_use = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
        in_use.server.clone().map(TlsAcceptor::from)
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.in_use.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }
}

fn built(pem: &Pem, how: &How) -> Result<InUse, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", &pem.ca)? {
        roots.add(certificate).map_err(|error| bad("tls.ca", error))?;
    }
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("tls", error))?
        .with_root_certificates(roots.clone());
    let Some((chain, key)) = &pem.identity else {
        let client = Arc::new(client.with_no_client_auth());
        return Ok(InUse { server: None, client });
    };
    let chain = certificates("tls.cert", chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad("tls.key", error))?;
    let client = client
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(|error| bad("tls.cert and tls.key", error))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("tls", error))?;
    let server = if how.verify_clients {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        server.with_client_cert_verifier(verifier.build().map_err(|error| bad("tls.ca", error))?)
    } else {
        server.with_no_client_auth()
    };
    let server =
        server.with_single_cert(chain, key).map_err(|error| bad("tls.cert and tls.key", error))?;
    Ok(InUse { server: Some(Arc::new(server)), client: Arc::new(client) })
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(what, error))?;
    if list.is_empty() {
        return Err(bad(what, "no certificate in it; it must be PEM"));
    }
    Ok(list)
}

fn name_of(how: &How) -> Result<Option<ServerName<'static>>, TlsError> {
    let name = how.peer_name.clone().map(ServerName::try_from).transpose();
    name.map_err(|error| bad("tls.peer_name", error))
}

/// Connects to nodes: plain, or by TLS as it is then.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Option<Tls>,
}

impl Connector {
    pub fn new(tls: Option<Tls>) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        Connector { tcp, tls }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<http::Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: http::Uri) -> Self::Future {
        if to.scheme_str() != Some("https") {
            let connecting = self.tcp.call(to);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        }
        let Some(tls) = &self.tls else {
            let text = "it speaks https, and no tls.ca is set here";
            return Box::pin(async move { Err(text.into()) });
        };
        let tcp = self.tcp.clone();
        let mut https = match name_of(&tls.how) {
            Ok(Some(name)) => {
                let fixed = Arc::new(FixedServerNameResolver::new(name));
                HttpsConnector::new(tcp, tls.client(), true, fixed)
            }
            Ok(None) => HttpsConnector::from((tcp, tls.client())),
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        https.call(to)
    }
}
