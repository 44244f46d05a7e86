//! Asking a node through the Unix socket beside its volume: no configuration, no Consul, no token.

use super::client::Failure;
use super::exit::Exit;
use super::output;
use crate::decide::action::Action;
use crate::decide::time::{At, Span};
use crate::process::clock;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// One exchange: the node waits 3 s for Consul itself.
const EXCHANGE_MOST: Duration = Duration::from_secs(5);
/// Between two looks at what became of it.
const LOOK_STEP: Duration = Duration::from_millis(100);
/// More than any answer has.
const BODY_MAX: usize = 1 << 20;

/// Asks, then waits for the end as the command line with Consul does.
pub async fn ask(path: &Path, action: &Action, as_json: bool) -> Result<Exit, Failure> {
    let begun = clock::now();
    let body = json!(action.args()).to_string();
    let (code, answer) = exchange(path, "POST", &format!("/{}", action.verb()), body).await?;
    let error = || answer["error"].as_str().unwrap_or("no reason was given").to_owned();
    let id = match code {
        202 => answer["request"].as_str().unwrap_or_default().to_owned(),
        400 => return Err(Failure(error(), Exit::Usage)),
        409 => return Err(Failure(format!("refused: {}", error()), Exit::Refused)),
        _ => return Err(Failure(format!("failed: {}", error()), Exit::Failed)),
    };
    let until = begun + action.good_for() + action.ends_within();
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK_STEP).await;
        let (code, known) =
            exchange(path, "GET", &format!("/requests/{id}"), String::new()).await?;
        let status = known["status"].as_str().unwrap_or_default();
        let reason = known["reason"].as_str().unwrap_or_default();
        let exit = match status {
            "done" => Exit::Done,
            "refused" => Exit::Refused,
            "failed" => Exit::Failed,
            _ if clock::now() >= until => {
                let text = format!("no end is known of request {id} ({code})");
                return Err(Failure(text, Exit::Failed));
            }
            _ => {
                if reason != told && clock::now().since(begun) >= Span::secs(1) {
                    output::progress(reason);
                    told = reason.to_owned();
                }
                continue;
            }
        };
        return end(&known, (status, reason, exit), begun, as_json);
    }
}

fn end(
    known: &Value,
    (status, reason, exit): (&str, &str, Exit),
    begun: At,
    as_json: bool,
) -> Result<Exit, Failure> {
    let took = clock::now().since(begun);
    if as_json {
        let value = json!({
            "v": 1, "id": known["id"], "status": status, "to": known["to"], "reason": reason,
            "took_ms": took,
        });
        return Ok(output::json(&value, exit));
    }
    match exit {
        Exit::Done => Ok(output::answer(format_args!("{reason} ({took})"), exit)),
        Exit::Failed | Exit::Pending | Exit::Refused | Exit::Usage => {
            Err(Failure(format!("{status}: {reason}"), exit))
        }
    }
}

async fn exchange(
    path: &Path,
    method: &str,
    target: &str,
    body: String,
) -> Result<(u16, Value), Failure> {
    let place = path.display();
    let failed = |why: String| Failure(format!("{place}: {why}"), Exit::Failed);
    let whole = async {
        let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        let driven = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(target)
            .header(http::header::HOST, "lictor")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        driven.abort();
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((code, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    match tokio::time::timeout(EXCHANGE_MOST, whole).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(failed(format!("no answer within {} s", EXCHANGE_MOST.as_secs()))),
    }
}
