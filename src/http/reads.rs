//! The read endpoints: the snapshot and the clock give 200 or 503, and one line of JSON.
//!
//! Open to everybody; must not show a secret, and changes nothing.

use super::board::{self, Published, Verdict};
use super::cluster::cluster;
use super::metrics::{Format, Scrape};
use super::routes::{Shared, error, line};
use crate::decide::time::At;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

/// What can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    Primary,
    Replica,
    ReadOnly,
    Sync,
    Health,
    Readiness,
    Liveness,
    Status,
    Explain,
    Cluster,
    Config,
}

pub(super) const PAGES: [(&str, Page); 10] = [
    ("/primary", Page::Primary),
    ("/replica", Page::Replica),
    ("/read-only", Page::ReadOnly),
    ("/sync", Page::Sync),
    ("/health", Page::Health),
    ("/readiness", Page::Readiness),
    ("/liveness", Page::Liveness),
    ("/status", Page::Status),
    ("/explain", Page::Explain),
    ("/cluster", Page::Cluster),
];

type Asked = BTreeMap<String, String>;

/// The handler of a page.
pub(super) fn read(
    page: Page,
) -> impl Fn(State<Arc<Shared>>, Query<Asked>) -> Ready<Response> + Clone + Send + Sync + 'static {
    move |State(shared), Query(asked)| ready(show(page, &shared, &asked))
}

fn show(page: Page, shared: &Shared, asked: &Asked) -> Response {
    let max_lag = match asked.get("lag").map(|text| seconds(text)) {
        None => None,
        Some(Some(seconds)) => Some(seconds),
        Some(None) => {
            let text = "lag takes seconds, such as ?lag=5 or ?lag=0.5";
            return error(StatusCode::BAD_REQUEST, "http.bad-lag", text);
        }
    };
    let board = &shared.parts.board;
    let published = board.read();
    let last_step = board.last_step();
    let now = (shared.parts.clock)();
    let verdict = match page {
        Page::Primary => published.primary(now),
        Page::Replica => published.replica(max_lag),
        Page::ReadOnly => published.read_only(now, max_lag),
        Page::Sync => published.in_sync(now),
        Page::Health => published.health(),
        Page::Readiness => published.readiness(),
        Page::Liveness => board::liveness(last_step, now),
        Page::Status => return line(StatusCode::OK, &published.status),
        Page::Explain => return line(StatusCode::OK, &explain(&published.status)),
        Page::Config => return line(StatusCode::OK, &published.config),
        Page::Cluster => return line(StatusCode::OK, &cluster(&published, now)),
    };
    let (status, why) = match verdict {
        Verdict::Yes(why) => (StatusCode::OK, why),
        Verdict::No(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    line(status, &summary(&published, &why, now))
}

/// Of `/status`, what tells why this node does what it does, and what it would do if the lock's
/// holder fell silent now. `lictor explain` puts the answers of all nodes together.
fn explain(status: &Value) -> Value {
    const ABOUT: [&str; 15] = [
        "v",
        "cluster",
        "node",
        "version",
        "state",
        "role",
        "leadership",
        "waits_for",
        "would",
        "follows",
        "lag_seconds",
        "position",
        "paused",
        "hold_down",
        "reasons",
    ];
    let field = |name: &&str| ((*name).to_owned(), status[*name].clone());
    Value::Object(ABOUT.iter().map(field).collect())
}

/// `/metrics`: OpenMetrics to whom accepts it, else Prometheus' text.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let board = &shared.parts.board;
    let (published, last_step) = (board.read(), board.last_step());
    let now = (shared.parts.clock)();
    let scrape = Scrape::new(published, last_step, now, &shared.parts.auth);
    let text = shared.parts.metrics.render(scrape, format);
    let kind = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// `GET /requests/<id>`: an action that was asked for, and what became of it so far.
pub(super) async fn request(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let published = shared.parts.board.read();
    match published.status["requests"].get(&id) {
        Some(known) => line(StatusCode::OK, known),
        None => {
            let text = "no request of this id is known here; a new one takes a moment";
            error(StatusCode::NOT_FOUND, "request.unknown", text)
        }
    }
}

fn seconds(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

/// `why` answers the question asked, `reason` says why the node is what it is.
fn summary(published: &Published, why: &str, now: At) -> Value {
    json!({
        "node": published.node,
        "role": published.role,
        "state": published.state,
        "epoch": published.epoch,
        "leader": published.leader,
        "app": published.app,
        "lag_seconds": published.lag_seconds,
        "deadline_ms": published.deadline.map(|deadline| now.until(deadline)),
        "why": why,
        "reason": published.reason,
    })
}
