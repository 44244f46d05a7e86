//! Our own requests over the shared client, and the knowledge whether one may have gone out.
//!
//! Invariant: [`Sent`] is false only while no connection has taken the request for writing. hyper
//! asks the body for its end or its size before it writes the first byte of the head, and no
//! sooner; the body here notes that moment. Every request has a `Content-Length`, the empty ones
//! too.

use super::ConsulStore;
use super::client::Http;
use super::error::{Failure, Kind, chain, judge};
use super::walk::{Attempt, Route, Scope};
use crate::decide::call::StoreError;
use crate::decide::time::Span;
use crate::decide::types::Index;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, SizeHint};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// A thousand members of a kilobyte each, base64, with room; more is no answer of ours.
const REPLY_MAX: usize = 16 * 1024 * 1024;

/// Characters that stand for themselves in a path; `/` separates.
const PLAIN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";

/// Whether one request may have gone out.
#[derive(Clone, Default, Debug)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub fn may_be(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// For requests made by others, whose writing can't be observed: they count as sent at once.
    pub fn assume(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A body that notes when a connection begins to write its request.
struct Noting {
    body: Full<Bytes>,
    sent: Sent,
}

impl Body for Noting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.assume();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.sent.assume();
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.assume();
        self.body.size_hint()
    }
}

/// A request without its address.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub method: Method,
    /// From `/v1` on, with its query.
    pub path: String,
    pub body: Bytes,
    pub kind: Kind,
}

impl Ask {
    pub fn read(path: String) -> Ask {
        Ask { method: Method::GET, path, body: Bytes::new(), kind: Kind::Read }
    }

    pub fn write(path: String, body: impl Into<Bytes>) -> Ask {
        Ask { method: Method::PUT, path, body: body.into(), kind: Kind::Write }
    }
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub index: Option<Index>,
    pub body: Bytes,
}

impl Reply {
    /// The reply of a 2xx, or what its status means.
    pub fn accepted(self) -> Result<Reply, Failure> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(judge(self.status, &self.body)),
        }
    }

    /// The body as JSON. A write whose answer can't be read is not known to be done.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Lost(format!("unreadable answer: {error}")))
    }
}

/// An attempt with our own request.
struct Own<'a, F> {
    store: &'a ConsulStore,
    ask: &'a Ask,
    understand: F,
}

impl<T, F> Attempt for Own<'_, F>
where
    F: Fn(Reply) -> Result<T, Failure> + Send + Sync,
{
    type Answer = T;

    async fn run(&self, at: usize, sent: Sent) -> Result<T, Failure> {
        (self.understand)(self.store.send(at, self.ask, &sent).await?)
    }
}

impl ConsulStore {
    /// Sends `ask` along the addresses; `understand` says what a complete reply means.
    pub(super) async fn exchange<T>(
        &self,
        ask: &Ask,
        scope: Scope,
        limit: Span,
        understand: impl Fn(Reply) -> Result<T, Failure> + Send + Sync,
    ) -> Result<T, StoreError> {
        let route = Route { kind: ask.kind, scope, limit: limit.to_std() };
        self.walk(route, Own { store: self, ask, understand }).await
    }

    /// One attempt at one address. Without a time limit of its own: `walk` has it.
    async fn send(&self, at: usize, ask: &Ask, sent: &Sent) -> Result<Reply, Failure> {
        let uri = format!("{}{}", self.inner.addresses[at].base(), ask.path);
        let mut builder = Request::builder()
            .method(ask.method.clone())
            .uri(uri)
            .header(CONTENT_LENGTH, ask.body.len())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = self.token() {
            builder = builder.header("X-Consul-Token", header_of(token.expose())?);
        }
        let body = Noting { body: Full::new(ask.body.clone()), sent: sent.clone() };
        let request =
            builder.body(BoxBody::new(body)).map_err(|error| refused(&error.to_string()))?;
        receive(&self.http(), request, sent).await
    }
}

async fn receive(
    http: &Http,
    request: Request<BoxBody<Bytes, Infallible>>,
    sent: &Sent,
) -> Result<Reply, Failure> {
    let failed = |text: String| match sent.may_be() {
        true => Failure::Lost(text),
        false => Failure::NotSent(text),
    };
    let response = http.request(request).await.map_err(|error| failed(chain(&error)))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, REPLY_MAX)
        .collect()
        .await
        .map_err(|error| Failure::Lost(format!("reply broke off: {}", chain(&*error))))?
        .to_bytes();
    let reply = Reply { status: head.status, index: index_of(&head.headers), body };
    match is_filtered(&head.headers) {
        true => Err(Failure::Final(StoreError::Denied("the token hides part of it".to_string()))),
        false => Ok(reply),
    }
}

fn refused(text: &str) -> Failure {
    Failure::Final(StoreError::Refused(text.to_string()))
}

fn header_of(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(token)
        .map_err(|_| refused("the token has characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn index_of(headers: &HeaderMap) -> Option<Index> {
    let text = headers.get("x-consul-index")?.to_str().ok()?;
    text.parse().ok().map(Index)
}

/// From 1.11 on Consul says when a list was cut by the token: an empty one is then no evidence.
fn is_filtered(headers: &HeaderMap) -> bool {
    headers
        .get("x-consul-results-filtered-by-acls")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// `text` as it may stand in a path.
pub(super) fn path_of(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match PLAIN.contains(&byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Whether `text` can stand in a path as it is.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| PLAIN.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_characters_go_into_a_path() {
        assert_eq!(path_of("lictor/a-b/state/term"), "lictor/a-b/state/term");
        assert_eq!(path_of("a b?c&d#e%"), "a%20b%3Fc%26d%23e%25");
        assert!(is_plain("lictor/x") && !is_plain("x?y"));
    }
}
