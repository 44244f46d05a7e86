//! The listener: one port, a bounded number of connections, each with limits on its head, its idle
//! time and its life.
//!
//! [`Server::bind`] takes the port before anything is promised; [`Server::run`] ends only with its
//! task, and takes its connections with it.

use super::auth::{PeerAuth, Token};
use super::board::Board;
use super::feed::Feed;
use super::incoming::Incoming;
use super::limits::{
    ACCEPT_PAUSE, CONNECTION_END, CONNECTION_LIFE, CONNECTIONS, CONNECTIONS_PER_ADDRESS,
    HEAD_BYTES, HEAD_TIME, HEADERS, QUEUE,
};
use super::metrics::Metrics;
use super::routes;
use super::tls::Tls;
use crate::decide::time::At;
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

/// Reads CLOCK_BOOTTIME.
pub type Clock = fn() -> At;

/// What a server answers from.
#[derive(Clone, Debug)]
pub struct Parts {
    pub board: Board,
    pub auth: PeerAuth,
    pub clock: Clock,
    /// The content of `token_file`, without its line end; none: actions over HTTP are off.
    pub token: Token,
    /// None, or without a certificate: plain HTTP.
    pub tls: Option<Tls>,
    pub metrics: Metrics,
    /// The tail of the journal.
    pub feed: Feed,
}

/// The port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "cannot listen on {0}: the port is taken; stop what listens there or choose another address"
    )]
    Taken(SocketAddr),
    #[error("cannot listen on {0}: this machine does not have the address; choose one it has")]
    NotHere(SocketAddr),
    #[error("cannot listen on {0}: not permitted; choose a port from 1024 on")]
    Denied(SocketAddr),
    #[error("cannot listen on {addr}: {source}")]
    Other { addr: SocketAddr, source: io::Error },
}

/// Who made a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Port(SocketAddr),
    /// Could open the socket's file.
    Socket {
        uid: u32,
    },
}

impl Caller {
    /// As a request's `by` names it.
    pub fn name(self) -> String {
        match self {
            Caller::Port(from) => format!("http {}", from.ip()),
            Caller::Socket { uid } => format!("socket, uid {uid}"),
        }
    }
}

/// A bound port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    front: Front,
}

/// What every connection needs.
#[derive(Clone, Debug)]
pub(super) struct Front {
    router: Router,
    tls: Option<Tls>,
    metrics: Metrics,
}

impl Server {
    /// Takes the port; what arrives for the driver comes out of the receiver.
    pub async fn bind(
        addr: SocketAddr,
        parts: Parts,
    ) -> Result<(Server, mpsc::Receiver<Incoming>), BindError> {
        let failed = |error| BindError::from_io(addr, error);
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (tls, metrics) = (parts.tls.clone(), parts.metrics.clone());
        let front = Front { router: routes::router(parts, sender), tls, metrics };
        Ok((Server { listener, addr: bound, front }, receiver))
    }

    /// Where it listens; with port 0 asked for, the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn front(&self) -> Front {
        self.front.clone()
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let shares = Shares::default();
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(event = "http.panic", %error, "a connection's task failed");
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((_, from)) if connections.len() >= CONNECTIONS => {
                        tracing::warn!(event = "http.full", %from, limit = CONNECTIONS);
                    }
                    Ok((stream, from)) => match shares.take(from.ip()) {
                        Some(share) => {
                            let served = serve(stream, from, self.front.clone());
                            connections.spawn(async move {
                                served.await;
                                drop(share);
                            });
                        }
                        None => {
                            let limit = CONNECTIONS_PER_ADDRESS;
                            tracing::warn!(event = "http.full-of-one", %from, limit);
                        }
                    },
                    Err(error) => {
                        tracing::warn!(event = "http.accept", %error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Shares(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection's part; given back when it is dropped, also by a panic.
struct Share {
    of: Shares,
    from: IpAddr,
}

impl Shares {
    fn take(&self, from: IpAddr) -> Option<Share> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Share { of: self.clone(), from })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

impl BindError {
    /// By what the operating system said.
    pub fn from_io(addr: SocketAddr, source: io::Error) -> BindError {
        match source.kind() {
            ErrorKind::AddrInUse => BindError::Taken(addr),
            ErrorKind::AddrNotAvailable => BindError::NotHere(addr),
            ErrorKind::PermissionDenied => BindError::Denied(addr),
            _ => BindError::Other { addr, source },
        }
    }
}

/// What a TLS connection begins with: the type of a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Told in plain text to who speaks it where only TLS is taken.
const HTTPS_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
    Connection: close\r\nContent-Length: 81\r\n\r\n\
    {\"code\":\"http.https-only\",\"error\":\"this port speaks https; use https:// for it\"}\n";

async fn serve(stream: TcpStream, from: SocketAddr, front: Front) {
    let caller = Caller::Port(from);
    // Small answers in one write each: waiting for the former one's acknowledgement only costs
    // time.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = front.tls.as_ref().and_then(Tls::acceptor) else {
        return speak(stream, caller, front).await;
    };
    match timeout(HEAD_TIME, begins_tls(&stream)).await {
        Ok(Ok(true)) => match timeout(HEAD_TIME, acceptor.accept(stream)).await {
            Ok(Ok(secured)) => speak(secured, caller, front).await,
            Ok(Err(error)) => tracing::debug!(event = "http.handshake", %from, %error),
            Err(_) => tracing::debug!(event = "http.handshake-slow", %from),
        },
        Ok(Ok(false)) if front.tls.as_ref().is_some_and(Tls::takes_plain) => {
            speak(stream, caller, front).await
        }
        Ok(Ok(false)) => refuse_plain(stream).await,
        // How a connection ends is its client's business: nothing here depends on it.
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == TLS_HANDSHAKE)
}

/// The head is taken in first: closing over unread bytes resets the connection, and the answer with
/// it.
async fn refuse_plain(mut stream: TcpStream) {
    let told = async {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await?;
        stream.write_all(HTTPS_ONLY).await?;
        stream.shutdown().await
    };
    let _ = timeout(HEAD_TIME, told).await;
}

pub(super) async fn speak<S>(stream: S, caller: Caller, front: Front)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller);
        let path = routes::known(request.uri().path()).to_owned();
        let (answer, metrics) = (front.router.clone().call(request), front.metrics.clone());
        async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                metrics.answered(&path, response.status());
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // How a connection ends is its client's business: nothing here depends on it.
    if timeout(CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CONNECTION_END, connection).await;
    }
}
