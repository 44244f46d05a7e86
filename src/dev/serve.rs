//! One connection: a request's bytes to the store, a reply's bytes back, with Consul's headers.

use super::Held;
use super::limits::{BODY_TIME, HEAD_TIME};
use crate::store::memory::{Asked, BYTES_MOST, Body, Reply, too_large};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, VARY};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) async fn serve(stream: TcpStream, held: Rc<Held>) {
    // Small answers in one write each: waiting for the former one's acknowledgement only costs
    // time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let held = Rc::clone(&held);
        async move { Ok::<_, Infallible>(response(answer(&held, request).await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is its client's business: nothing here depends on it.
    let _ = connection.await;
}

async fn answer(held: &Held, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let told = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(reply) = told.and_then(|bytes| too_large(target, bytes)) {
        return reply;
    }
    let body = match timeout(BODY_TIME, Limited::new(body, BYTES_MOST).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        // Longer than it may be, of a length not told before; or cut off, and nobody reads this.
        Ok(Err(_)) => return too_large(target, BYTES_MOST + 1).unwrap_or_else(slow),
        Err(_) => return slow(),
    };
    let method = head.method.as_str();
    held.answer(&Asked { method, target, body: &body, node: &held.node }).await
}

/// The body did not come.
fn slow() -> Reply {
    Reply {
        status: 408,
        index: None,
        is_read: false,
        header: None,
        body: Body::Text(format!("the body took longer than {BODY_TIME:?}")),
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let status = reply.status;
    let (kind, bytes) = match reply.body {
        Body::Nothing => (None, Bytes::new()),
        Body::Json(text) => (Some("application/json"), Bytes::from(text)),
        Body::Text(text) => (Some("text/plain; charset=utf-8"), Bytes::from(text)),
        Body::Raw(bytes) => (Some("text/plain"), Bytes::from(bytes)),
    };
    let mut response = Response::new(Full::new(bytes));
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(index) = reply.index {
        headers.insert("X-Consul-Index", HeaderValue::from(index));
    }
    if reply.is_read {
        headers.insert("X-Consul-KnownLeader", HeaderValue::from_static("true"));
        headers.insert("X-Consul-LastContact", HeaderValue::from_static("0"));
    }
    if let Some((name, text)) = reply.header
        && let Ok(value) = HeaderValue::from_str(&text)
    {
        headers.insert(name, value);
    }
    if matches!(status, 408 | 413) {
        // What is left of the body is not read.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
