//! Asks peers, and believes only the process that was asked.
//!
//! Connections are kept a few seconds and reused. Every question has one timeout over connecting,
//! sending and the whole answer. Addresses are `ip:port`: no name is ever looked up here.

use super::auth::{NotSigned, PeerAuth};
use super::effects::path_of;
use super::limits::{BODY_BYTES, IDLE, IDLE_PER_PEER};
use super::tls::{Connector, Tls};
use crate::decide::peer::{Ask, PeerCall, PeerError, Told};
use crate::decide::types::Epoch;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::net::SocketAddr;
use tokio::time::timeout;

/// The most of a peer's unproven text that gets into an error.
const EXCERPT: usize = 200;

/// Clones share the connections.
#[derive(Clone, Debug)]
pub struct PeerClient {
    auth: PeerAuth,
    pool: Client<Connector, Full<Bytes>>,
}

impl PeerClient {
    /// Asks nodes that speak plain HTTP.
    pub fn new(auth: PeerAuth) -> PeerClient {
        PeerClient::with_tls(auth, None)
    }

    /// Asks those that speak HTTPS too.
    pub fn with_tls(auth: PeerAuth, tls: Option<Tls>) -> PeerClient {
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_PEER)
            .build(Connector::new(tls));
        PeerClient { auth, pool }
    }

    /// One question; `epoch` is this node's own. Dropping the future gives the question up.
    pub async fn ask(&self, call: PeerCall, epoch: Epoch) -> Result<Told, PeerError> {
        timeout(call.timeout.to_std(), self.exchange(&call, epoch))
            .await
            .unwrap_or(Err(PeerError::Timeout(call.timeout)))
    }

    async fn exchange(&self, call: &PeerCall, epoch: Epoch) -> Result<Told, PeerError> {
        let addr: SocketAddr = call
            .addr
            .parse()
            .map_err(|_| PeerError::Unreachable(format!("{:?} is not ip:port", call.addr)))?;
        let path = path_of(&call.ask);
        let body = serde_json::to_vec(&call.ask).expect("a question has string keys only");
        let to = (&call.to, &call.run);
        let (asked, headers) = self.auth.sign(to, epoch, path, &body).map_err(not_signed)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::builder()
            .scheme(if call.tls { "https" } else { "http" })
            .authority(addr.to_string())
            .path_and_query(path)
            .build()
            .expect("an address and a path of ours make a URI");
        *request.headers_mut() = headers;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let answer = self.pool.request(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = whole(answer).await?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(PeerError::Unauthenticated(excerpt(&body))),
            status => return Err(PeerError::Bad(format!("{status}: {}", excerpt(&body)))),
        }
        self.auth
            .check_answer(&asked, head.status.as_u16(), &head.headers, &body)
            .map_err(|why| PeerError::Unauthenticated(why.into()))?;
        understood(&call.ask, &body)
    }
}

async fn whole(answer: Response<Incoming>) -> Result<(http::response::Parts, Bytes), PeerError> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, BODY_BYTES).collect().await;
    let body = body.map_err(|error| PeerError::Bad(format!("its body: {error}")))?;
    Ok((head, body.to_bytes()))
}

/// An answer to this kind of question.
fn understood(ask: &Ask, body: &[u8]) -> Result<Told, PeerError> {
    let told: Told =
        serde_json::from_slice(body).map_err(|error| PeerError::Bad(error.to_string()))?;
    match (ask, &told) {
        (Ask::Promise { round, .. }, Told::Promised { round: answered }) if round != answered => {
            Err(PeerError::Unauthenticated("the answer is to another round".into()))
        }
        (Ask::Ping, Told::Pong { .. })
        | (Ask::Position { .. }, Told::Position { .. })
        | (Ask::Promise { .. }, Told::Promised { .. })
        | (Ask::Journal { .. }, Told::Journal { .. })
        | (_, Told::Refused { .. }) => Ok(told),
        (Ask::Ping | Ask::Position { .. } | Ask::Promise { .. } | Ask::Journal { .. }, _) => {
            Err(PeerError::Bad("an answer to another kind of question".into()))
        }
    }
}

fn not_signed(why: NotSigned) -> PeerError {
    match why {
        NotSigned::NoKey(_) => PeerError::Unauthenticated(why.to_string()),
        NotSigned::NoRandom(_) | NotSigned::Unfit => PeerError::Bad(why.to_string()),
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> PeerError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    PeerError::Unreachable(text)
}

/// What a peer said without proof: for people only, and printable.
fn excerpt(body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = said.as_ref().and_then(|said| said.get("error")).and_then(|text| text.as_str());
    let text = text.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(EXCERPT).collect()
}
