//! The paths and their methods.

use super::limits::IN_FLIGHT;
use super::reads::{self, PAGES, Page, read};
use super::server::Parts;
use super::{effects, feed, incoming::Incoming, page};
use crate::decide::action::VERBS;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Semaphore, mpsc};

/// Paths of the interface that this version does not have.
const LATER: [&str; 3] = ["/ring", "/ring/lookup", "/peer/grant"];

/// Where peers put their questions.
const PEERS: [&str; 4] = ["/peer/ping", "/peer/position", "/peer/promise", "/peer/journal"];

/// One action's outcome lies below.
const REQUESTS: &str = "/requests/";

/// What the handlers share.
pub(super) struct Shared {
    pub parts: Parts,
    pub queue: mpsc::Sender<Incoming>,
    /// Numbers the questions.
    pub next: AtomicU64,
    /// The places of [`IN_FLIGHT`].
    pub slots: Semaphore,
}

pub(super) type Routes = MethodRouter<Arc<Shared>>;

pub(super) fn router(parts: Parts, queue: mpsc::Sender<Incoming>) -> Router {
    let slots = Semaphore::new(IN_FLIGHT);
    let shared = Shared { parts, queue, next: AtomicU64::new(0), slots };
    let mut routes = Router::new().route("/", root());
    for (path, page) in PAGES {
        routes = routes.route(path, get(read(page)).options(read(page)));
    }
    for verb in VERBS {
        routes = routes.route(&format!("/{verb}"), post(effects::operator));
    }
    for path in PEERS {
        routes = routes.route(path, post(effects::peer));
    }
    let config = get(read(Page::Config)).options(read(Page::Config)).patch(effects::config);
    routes
        .route("/config", config)
        .route("/requests/{id}", get(reads::request).options(reads::request))
        .route("/reload", post(effects::config))
        .route("/history", get(feed::history).options(feed::history))
        .route("/events", get(feed::events))
        .route("/metrics", get(reads::metrics).options(reads::metrics))
        .fallback(not_there)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(shared))
}

/// A path as the metrics name it: one of ours, or `other`, however many a client thinks of.
pub(super) fn known(path: &str) -> &str {
    if path.starts_with(REQUESTS) {
        return REQUESTS;
    }
    let ours = paths().any(|known| known == path) || LATER.contains(&path);
    if ours { path } else { "other" }
}

/// Every path that is served.
fn paths() -> impl Iterator<Item = String> {
    let pages = PAGES.iter().map(|(page, _)| *page);
    let rest =
        pages.chain(PEERS).chain(["/", "/config", "/events", "/history", "/metrics", "/reload"]);
    rest.map(str::to_owned).chain(VERBS.map(|verb| format!("/{verb}")))
}

/// `HEAD /` and `OPTIONS /` are what load balancers ask by default.
fn root() -> Routes {
    get(page::page).head(read(Page::Primary)).options(read(Page::Primary))
}

/// One line of JSON.
pub(super) fn line(status: StatusCode, body: &Value) -> Response {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = (status, Body::from(text)).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A line that says what went wrong.
pub(super) fn error(status: StatusCode, code: &str, text: impl Into<String>) -> Response {
    line(status, &json!({"code": code, "error": text.into()}))
}

async fn not_there(uri: Uri) -> Response {
    let path = uri.path();
    let text = if LATER.contains(&path) {
        format!("{path} is not in this version of lictor yet")
    } else {
        format!("there is no {path}; /status is a place to begin")
    };
    error(StatusCode::NOT_FOUND, "http.not-there", text)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let text =
        format!("{} does not take {method}; the Allow header says what it takes", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "http.wrong-method", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/http_paths.rs` holds the page's table against a server; no path may be missing in it.
    #[test]
    fn every_path_is_documented() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md");
        let page = std::fs::read_to_string(page).expect("docs/http.md is there");
        for path in paths() {
            assert!(page.contains(&format!("\n| `{path}` |")), "{path} is not in docs/http.md");
            assert_eq!(known(&path), path);
        }
        for path in LATER {
            assert!(!paths().any(|served| served == path), "{path} is served already");
            assert!(page.contains(&format!("`{path}`")), "{path} is not in docs/http.md");
        }
        assert_eq!(known("/nothing"), "other");
        assert_eq!(known("/requests/ab"), "/requests/");
    }
}
