//! The endpoints that can change a decision: each becomes an event for the driver and waits for its
//! answer.
//!
//! Order: who asks, then a place among those in flight, then the body, then the queue. Nothing is
//! decided here; whatever fails before the queue has had no effect, and says so.

use super::auth::{Head, Refusal};
use super::incoming::{ActionReply, AskId, ConfigAsk, ConfigReply, Incoming};
use super::limits::{ACTION_ANSWER, BODY_BYTES, BODY_TIME, PEER_ANSWER};
use super::routes::{Shared, error, line};
use super::server::Caller;
use crate::decide::action::{Action, Args};
use crate::decide::peer::{Ask, Told};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{SemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

/// `POST /peer/*`: proven, then handed to the core. The answer is authenticated, whatever its
/// status.
pub(super) async fn peer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.as_str(), head.uri.path());
    let auth = &shared.parts.auth;
    let asked = match auth.admit(method, path, &head.headers) {
        Ok(asked) => asked,
        Err(why) => return unproven(why),
    };
    let (_place, body) = match take(&shared, body).await {
        Ok(taken) => taken,
        Err(refused) => return refused,
    };
    if let Err(why) = auth.admit_body(&asked, &body) {
        return unproven(why);
    }
    let (status, answer) = match ask(&shared, &asked, path, &body).await {
        Ok(Told::Denied { .. }) => {
            auth.count(Refusal::OtherTerm);
            return unproven(Refusal::OtherTerm);
        }
        Ok(told) => (StatusCode::OK, json!(told)),
        Err((status, text)) => (status, json!({"code": "peer.unanswered", "error": text})),
    };
    let answer = answer.to_string();
    let mut headers = auth.sign_answer(&asked, status.as_u16(), answer.as_bytes());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, headers, answer).into_response()
}

fn unproven(why: Refusal) -> Response {
    error(StatusCode::UNAUTHORIZED, why.code(), why.to_string())
}

async fn ask(
    shared: &Shared,
    asked: &Head,
    path: &str,
    body: &[u8],
) -> Result<Told, (StatusCode, String)> {
    let ask: Ask = serde_json::from_slice(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("not a question: {error}")))?;
    if path_of(&ask) != path {
        return Err((StatusCode::BAD_REQUEST, format!("this question goes to {}", path_of(&ask))));
    }
    let (reply, answer) = oneshot::channel();
    let (from, run) = (asked.from.clone(), asked.from_run.clone());
    let epoch = asked.epoch;
    let event = Incoming::Peer { id: number(shared), from, run, epoch, ask, reply };
    shared.queue.try_send(event).map_err(|full| (StatusCode::SERVICE_UNAVAILABLE, busy(&full)))?;
    match timeout(PEER_ANSWER, answer).await {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(_)) => Err((StatusCode::SERVICE_UNAVAILABLE, "the core gave no answer".into())),
        Err(_) => Err((StatusCode::GATEWAY_TIMEOUT, "the core did not answer in time".into())),
    }
}

/// Where a question is put.
pub(super) fn path_of(ask: &Ask) -> &'static str {
    match ask {
        Ask::Ping => "/peer/ping",
        Ask::Position { .. } => "/peer/position",
        Ask::Promise { .. } => "/peer/promise",
        Ask::Journal { .. } => "/peer/journal",
    }
}

/// `POST /<verb>`: by the token. The path is the verb, the body an object with its arguments; an
/// empty one has none.
pub(super) async fn operator(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    if let Some(refused) = no_operator(&shared, &head) {
        return refused;
    }
    let (_place, body) = match take(&shared, body).await {
        Ok(taken) => taken,
        Err(refused) => return refused,
    };
    let verb = head.uri.path().trim_start_matches('/');
    match arguments(&body).and_then(|args| Action::parse(verb, &args)) {
        Ok(action) => act(&shared, action, caller.name()).await,
        Err(text) => error(StatusCode::BAD_REQUEST, "action.malformed", text),
    }
}

/// Texts as they are, numbers, `true` and `false` as they are written; `null` is not given.
fn arguments(body: &[u8]) -> Result<Args, String> {
    if body.trim_ascii().is_empty() {
        return Ok(Args::new());
    }
    let object: BTreeMap<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    let mut args = Args::new();
    for (name, value) in object {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("the body: `{name}` is not one value"));
            }
        };
        args.insert(name, text);
    }
    Ok(args)
}

/// The refusal, unless the token is the right one, or none is needed.
fn no_operator(shared: &Shared, head: &http::request::Parts) -> Option<Response> {
    if let Some(Caller::Socket { .. }) = head.extensions.get::<Caller>() {
        return None;
    }
    let headers = &head.headers;
    let Some(token) = shared.parts.token.get() else {
        let text =
            "actions over HTTP are off: no token_file is set; set one, or use the command line";
        return Some(error(StatusCode::FORBIDDEN, "action.no-token-file", text));
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| token.matches(given)) {
        return None;
    }
    let text = "this needs `Authorization: Bearer` with the content of token_file";
    let mut refused = error(StatusCode::UNAUTHORIZED, "action.wrong-token", text);
    let bearer = HeaderValue::from_static("Bearer");
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    Some(refused)
}

async fn act(shared: &Shared, action: Action, by: String) -> Response {
    let (reply, answer) = oneshot::channel();
    let event = Incoming::Action { id: number(shared), action, by, reply };
    if let Err(full) = shared.queue.try_send(event) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "action.not-written", busy(&full));
    }
    let became = match timeout(ACTION_ANSWER, answer).await {
        Ok(Ok(became)) => became,
        Ok(Err(_)) => ActionReply::Unknown("the core gave no answer".into()),
        Err(_) => ActionReply::Unknown("the core did not answer in time".into()),
    };
    match became {
        ActionReply::Written { request } => {
            let location = format!("/requests/{request}");
            let mut answer = line(StatusCode::ACCEPTED, &json!({"request": request}));
            if let Ok(location) = HeaderValue::from_str(&location) {
                answer.headers_mut().insert(header::LOCATION, location);
            }
            answer
        }
        ActionReply::Refused(reason) => line(
            StatusCode::CONFLICT,
            &json!({"code": reason.code, "error": reason.text, "reason": reason}),
        ),
        ActionReply::NotWritten(text) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "action.not-written", text)
        }
        ActionReply::Unknown(text) => error(StatusCode::GATEWAY_TIMEOUT, "action.unknown", text),
    }
}

/// `PATCH /config` and `POST /reload`: by the token.
pub(super) async fn config(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if let Some(refused) = no_operator(&shared, &head) {
        return refused;
    }
    let (_place, body) = match take(&shared, body).await {
        Ok(taken) => taken,
        Err(refused) => return refused,
    };
    let ask = if head.method == Method::PATCH {
        match serde_json::from_slice(&body) {
            Ok(patch) => ConfigAsk::Patch(patch),
            Err(wrong) => {
                let text = format!("the body is no JSON: {wrong}");
                return error(StatusCode::BAD_REQUEST, "config.malformed", text);
            }
        }
    } else {
        ConfigAsk::Reload
    };
    let (reply, answer) = oneshot::channel();
    if let Err(full) = shared.queue.try_send(Incoming::Config { ask, reply }) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "config.not-written", busy(&full));
    }
    let became = match timeout(ACTION_ANSWER, answer).await {
        Ok(Ok(became)) => became,
        Ok(Err(_)) => ConfigReply::Unknown("the node gave no answer".into()),
        Err(_) => ConfigReply::Unknown("the node did not answer in time".into()),
    };
    match became {
        ConfigReply::Done(value) => line(StatusCode::OK, &value),
        ConfigReply::Bad(text) => error(StatusCode::BAD_REQUEST, "config.bad", text),
        ConfigReply::Refused(text) => error(StatusCode::CONFLICT, "config.refused", text),
        ConfigReply::NotWritten(text) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "config.not-written", text)
        }
        ConfigReply::Unknown(text) => error(StatusCode::GATEWAY_TIMEOUT, "config.unknown", text),
    }
}

fn number(shared: &Shared) -> AskId {
    AskId(shared.next.fetch_add(1, Ordering::Relaxed) + 1)
}

fn busy(full: &mpsc::error::TrySendError<Incoming>) -> String {
    match full {
        mpsc::error::TrySendError::Full(_) => "the core has too many questions waiting".into(),
        mpsc::error::TrySendError::Closed(_) => "the core has ended".into(),
    }
}

/// A place in flight and the whole body, or the refusal.
async fn take(shared: &Shared, body: Body) -> Result<(SemaphorePermit<'_>, Bytes), Response> {
    let Ok(place) = shared.slots.try_acquire() else {
        let text = "too many requests in flight";
        return Err(error(StatusCode::SERVICE_UNAVAILABLE, "http.in-flight", text));
    };
    let too_large = || {
        let text = format!("a body has {BODY_BYTES} bytes at most");
        error(StatusCode::PAYLOAD_TOO_LARGE, "http.too-large", text)
    };
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |bytes| bytes > BODY_BYTES) {
        return Err(too_large());
    }
    match timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok((place, body.to_bytes())),
        Ok(Err(failed)) if failed.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(failed)) => Err(error(
            StatusCode::BAD_REQUEST,
            "http.body",
            format!("the body did not arrive whole: {failed}"),
        )),
        Err(_) => Err(error(
            StatusCode::REQUEST_TIMEOUT,
            "http.slow",
            format!("the body took longer than {} ms", BODY_TIME.as_millis()),
        )),
    }
}
