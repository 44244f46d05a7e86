//! The listener: one port, a bounded number of connections, each with limits on its head, its idle
//! time and its life.
//!
//! [`Server::bind`] takes the port before anything is promised; [`Server::run`] ends only with its
//! task, and takes its connections with it.

use super::auth::{PeerAuth, Secret};
use super::board::Board;
use super::incoming::Incoming;
use super::limits::{
    ACCEPT_PAUSE, CONNECTION_END, CONNECTION_LIFE, CONNECTIONS, HEAD_BYTES, HEAD_TIME, HEADERS,
    QUEUE,
};
use super::metrics::Metrics;
use super::routes;
use crate::decide::time::At;
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
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
    pub token: Option<Secret>,
    pub metrics: Metrics,
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
pub(super) struct Caller(pub SocketAddr);

/// A bound port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    router: Router,
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
        let metrics = parts.metrics.clone();
        let router = routes::router(parts, sender);
        Ok((Server { listener, addr: bound, router, metrics }, receiver))
    }

    /// Where it listens; with port 0 asked for, the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(event = "http.panic", %error, "a connection's task failed");
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) if connections.len() < CONNECTIONS => {
                        let (router, metrics) = (self.router.clone(), self.metrics.clone());
                        connections.spawn(serve(stream, Caller(from), router, metrics));
                    }
                    Ok((_, from)) => {
                        tracing::warn!(event = "http.full", %from, limit = CONNECTIONS);
                    }
                    Err(error) => {
                        tracing::warn!(event = "http.accept", %error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl BindError {
    fn from_io(addr: SocketAddr, source: io::Error) -> BindError {
        match source.kind() {
            ErrorKind::AddrInUse => BindError::Taken(addr),
            ErrorKind::AddrNotAvailable => BindError::NotHere(addr),
            ErrorKind::PermissionDenied => BindError::Denied(addr),
            _ => BindError::Other { addr, source },
        }
    }
}

async fn serve(stream: TcpStream, caller: Caller, router: Router, metrics: Metrics) {
    // Small answers in one write each: waiting for the former one's acknowledgement only costs
    // time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller);
        let path = routes::known(request.uri().path());
        let (answer, metrics) = (router.clone().call(request), metrics.clone());
        async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                metrics.answered(path, response.status());
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
