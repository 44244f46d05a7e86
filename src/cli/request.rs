//! What every action of an operator has in common: a request is written, then what becomes of it is
//! watched and told.

use super::client::{self, Client, Failure, LIMIT};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use super::socket;
use crate::config::check_name;
use crate::decide::action::Action;
use crate::decide::call::{Call, StoreError, Verb};
use crate::decide::records::{RequestStatus, ResultValue, decode, encode};
use crate::decide::time::{At, Span};
use crate::decide::types::{Index, NodeName};
use crate::driver;
use crate::http::nonce;
use crate::process::clock;
use crate::store::Store;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Beyond the time a request is good for, somebody has answered or nobody will.
const ANSWER_GRACE: Span = Span::secs(10);
/// What takes longer than this is told on the way.
const TELL_AFTER: Span = Span::secs(1);
/// Between two looks after a failed one.
const LOOK_AGAIN: Span = Span(200);

/// What every action takes.
#[derive(clap::Args, Debug)]
pub struct Asking {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the node of this Unix socket (`.lictor/sock` on its volume) instead of Consul
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Reads a node's name.
pub fn node_name(text: &str) -> Result<NodeName, String> {
    check_name(text).map(|()| NodeName::new(text))
}

/// Asks for an action and waits for its end: 0 done, 3 refused with the reason, 1 when it failed or
/// nothing is known in time.
pub fn run(asking: Asking, action: Action) -> Exit {
    if let Err(wrong) = Action::parse(action.verb(), &action.args()) {
        return output::error(wrong, Exit::Usage);
    }
    let as_json = asking.json;
    if let Some(path) = asking.socket {
        return by_socket(&path, &action, as_json);
    }
    client::with(asking.config, move |client| async move { ask(client, action, as_json).await })
}

fn by_socket(path: &Path, action: &Action, as_json: bool) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return output::error(format_args!("cannot start: {e}"), Exit::Failed),
    };
    let done = runtime.block_on(socket::ask(path, action, as_json));
    done.unwrap_or_else(|Failure(text, exit)| output::error(text, exit))
}

async fn ask(client: Client, action: Action, as_json: bool) -> Result<Exit, Failure> {
    let begun = clock::now();
    let (id, result) = put(&client, &action).await?;
    tell(&id, &result, begun, as_json)
}

/// Writes the request and waits for its outcome.
pub async fn put(client: &Client, action: &Action) -> Result<(String, ResultValue), Failure> {
    let seen = client.look().await?;
    if seen.members.is_empty() && seen.term.is_none() {
        let text = "no node of this cluster ever reported; nobody could answer";
        return Err(Failure(text.into(), Exit::Refused));
    }
    let epoch = seen.term.map(|term| term.epoch).unwrap_or_default();
    let id = nonce::hex::<8>().map_err(|e| Failure(e.to_string(), Exit::Failed))?;
    let host = client.config.local.host.clone();
    let request = driver::request(action, format!("cli on {host}"), epoch, driver::wall_ms());
    let begun = clock::now();
    let write = Verb::Cas(client.keys.request(&id), Index(0), encode(&request));
    match client.store.call(Call::Txn(vec![write]), LIMIT).await {
        // Unknown: the answer below shows whether it was written.
        Ok(_) | Err(StoreError::Unknown(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let result = outcome(client, action, &id, begun).await?;
    Ok((id, result))
}

fn tell(id: &str, result: &ResultValue, begun: At, as_json: bool) -> Result<Exit, Failure> {
    let took = clock::now().since(begun);
    let exit = match result.status {
        RequestStatus::Done => Exit::Done,
        RequestStatus::Refused => Exit::Refused,
        RequestStatus::Failed | RequestStatus::Started => Exit::Failed,
    };
    if as_json {
        let value = json!({
            "v": 1, "id": id, "status": result.status, "to": result.to, "by": result.by,
            "reason": result.reason, "epoch": result.epoch, "took_ms": took,
        });
        return Ok(output::json(&value, exit));
    }
    match exit {
        Exit::Done => Ok(output::answer(format_args!("{} ({took})", result.reason), exit)),
        Exit::Refused => Err(Failure(format!("refused: {}", result.reason), exit)),
        Exit::Failed | Exit::Pending | Exit::Usage => {
            Err(Failure(format!("failed: {}", result.reason), exit))
        }
    }
}

/// Watches for a final result, and tells what happens on the way.
async fn outcome(
    client: &Client,
    action: &Action,
    id: &str,
    begun: At,
) -> Result<ResultValue, Failure> {
    let key = client.keys.request_result(id);
    let mut until = begun + action.good_for() + ANSWER_GRACE;
    let (mut after, mut told) = (None, None);
    loop {
        let now = clock::now();
        if now >= until {
            let text = if told.is_some() {
                format!("no end is known of request {id}; `lictor status` shows how things are")
            } else {
                "nobody answered; `lictor status` shows which nodes run".to_owned()
            };
            return Err(Failure(text, Exit::Failed));
        }
        match client.store.watch(&key, false, after, Span::secs(1)).await {
            Ok(watched) => {
                after = Some(watched.index);
                let value = watched.entries.first().and_then(|e| decode::<ResultValue>(&e.value));
                match value {
                    Some(value) if value.status != RequestStatus::Started => return Ok(value),
                    Some(value) => {
                        until = until.max(begun + action.ends_within());
                        let news = told.as_ref() != Some(&value.reason);
                        if news && clock::now().since(begun) >= TELL_AFTER {
                            output::progress(&value.reason);
                            told = Some(value.reason);
                        }
                    }
                    None => {}
                }
            }
            Err(_) => {
                after = None;
                tokio::time::sleep(LOOK_AGAIN.to_std()).await;
            }
        }
    }
}
