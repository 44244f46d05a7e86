//! `lictor switchover`: a planned change of the primary. Writes a request, then watches what
//! becomes of it.

use super::client::{self, Client, Failure, LIMIT};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::config::check_name;
use crate::decide::action::Action;
use crate::decide::call::{Call, StoreError, Verb};
use crate::decide::records::{RequestStatus, ResultValue, decode, encode};
use crate::decide::time::Span;
use crate::decide::types::{Index, NodeName};
use crate::driver;
use crate::http::nonce;
use crate::process::clock;
use crate::store::Store;
use serde_json::json;

/// How long the command waits for an outcome: longer than the request is good for.
const OUTCOME_MOST: Span = Span::secs(40);

/// Move the primary to another node without losing a write
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The new primary [default: the best candidate]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub to: Option<NodeName>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

fn node_name(text: &str) -> Result<NodeName, String> {
    check_name(text).map(|()| NodeName::new(text))
}

/// 0 done, 3 refused with the reason, 1 when it failed or nothing is known after 40 s.
pub fn run(args: Args) -> Exit {
    let (to, as_json) = (args.to, args.json);
    client::with(args.config, move |client| async move { ask(client, to, as_json).await })
}

async fn ask(client: Client, to: Option<NodeName>, as_json: bool) -> Result<Exit, Failure> {
    let seen = client.look().await?;
    let Some(term) = seen.term else {
        return Err(Failure("the cluster has no leader yet".into(), Exit::Refused));
    };
    let id = nonce::hex::<8>().map_err(|e| Failure(e.to_string(), Exit::Failed))?;
    let action = Action::Switchover { to };
    let host = client.config.local.host.clone();
    let request = driver::request(&action, format!("cli on {host}"), term.epoch, driver::wall_ms());
    let begun = clock::now();
    let write = Verb::Cas(client.keys.request(&id), Index(0), encode(&request));
    match client.store.call(Call::Txn(vec![write]), LIMIT).await {
        // Unknown: the answer below shows whether it was written.
        Ok(_) | Err(StoreError::Unknown(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let result = outcome(&client, &id).await?;
    let took = clock::now().since(begun);
    let exit = match result.status {
        RequestStatus::Done => Exit::Done,
        RequestStatus::Refused => Exit::Refused,
        RequestStatus::Failed | RequestStatus::Started => Exit::Failed,
    };
    if as_json {
        let value = json!({
            "v": 1, "id": id, "status": result.status, "to": result.to, "reason": result.reason,
            "epoch": result.epoch, "took_ms": took,
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

/// Watches for a final result.
async fn outcome(client: &Client, id: &str) -> Result<ResultValue, Failure> {
    let key = client.keys.request_result(id);
    let until = clock::now() + OUTCOME_MOST;
    let mut after = None;
    loop {
        let left = clock::now().until(until);
        if left == Span::ZERO {
            let text = "no outcome is known; `lictor status` shows who leads";
            return Err(Failure(text.into(), Exit::Failed));
        }
        match client.store.watch(&key, false, after, Span::secs(1)).await {
            Ok(watched) => {
                after = Some(watched.index);
                let value = watched.entries.first().and_then(|e| decode::<ResultValue>(&e.value));
                if let Some(value) = value.filter(|v| v.status != RequestStatus::Started) {
                    return Ok(value);
                }
            }
            Err(_) => {
                after = None;
                tokio::time::sleep(Span(200).to_std()).await;
            }
        }
    }
}
