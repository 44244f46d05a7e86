//! `lictor backup run` and `verify`: a request, and with it the job that it became.

use super::super::client::{self, Client, Failure};
use super::super::exit::Exit;
use super::super::output;
use super::super::request::{self, node_name};
use super::watch::{Ended, follow};
use super::{Common, Which, catalog, size, which};
use crate::decide::action::{Action, Wanted};
use crate::decide::backup::{BackupValue, JobState};
use crate::decide::records::RequestStatus;
use crate::decide::types::NodeName;
use crate::process::clock;
use serde_json::json;

/// Make a backup now, on the best replica unless a node is named
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Who makes it
    #[arg(long = "on", value_name = "NODE", value_parser = node_name)]
    on: Option<NodeName>,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

/// Compare a backup with its checksums, and let its engine open a copy
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    common: Common,
    /// The backup
    #[arg(value_name = "ID", value_parser = which, default_value = "latest")]
    id: Which,
    /// Another node that has it, where backup_dir is shared [default: the one that made it]
    #[arg(long = "on", value_name = "NODE", value_parser = node_name)]
    on: Option<NodeName>,
}

/// 0 made, 1 failed, 3 refused.
pub fn run(args: Args) -> Exit {
    let Args { common, on, no_wait } = args;
    client::with(common.config, move |client| async move {
        let action = Action::Backup(Wanted::Make { node: on });
        carry_out(client, action, !no_wait, common.json).await
    })
}

/// 0 good, 1 bad or not verified, 3 refused.
pub fn verify(args: VerifyArgs) -> Exit {
    let VerifyArgs { common, id, on } = args;
    client::with(common.config, move |client| async move {
        let entry = id.of(&catalog(&client).await?)?;
        let node = on.unwrap_or(entry.node);
        let action = Action::Backup(Wanted::Verify { id: entry.id, node });
        carry_out(client, action, true, common.json).await
    })
}

async fn carry_out(
    client: Client,
    action: Action,
    waits: bool,
    as_json: bool,
) -> Result<Exit, Failure> {
    let begun = clock::now();
    let (request, result) = request::put(&client, &action).await?;
    if result.status != RequestStatus::Done {
        return Err(Failure(format!("refused: {}", result.reason), Exit::Refused));
    }
    if !waits {
        if as_json {
            let value = json!({"v": 1, "request": request, "node": result.to, "state": "asked"});
            return Ok(output::json(&value, Exit::Done));
        }
        return Ok(output::answer(format_args!("begun: {}", result.reason), Exit::Done));
    }
    let value = match follow(&client, &request).await? {
        Ended::So(value) => value,
        Ended::Unknown(why) => return Err(Failure(why, Exit::Failed)),
    };
    let exit = if value.state == JobState::Done { Exit::Done } else { Exit::Failed };
    let took = clock::now().since(begun);
    if as_json {
        let told = json!({
            "v": 1, "request": request, "job": value.job, "id": value.id, "node": value.node,
            "state": value.state, "bytes": value.bytes, "reason": value.reason, "took_ms": took,
        });
        return Ok(output::json(&told, exit));
    }
    let BackupValue { job, id, node, reason, bytes, .. } = &value;
    match exit {
        Exit::Done => {
            let text = format!("{job} {id} by {node}: {} ({took}); {reason}", size(*bytes));
            Ok(output::answer(text, exit))
        }
        _ => Err(Failure(format!("{job} {id} by {node} failed: {reason}"), exit)),
    }
}
