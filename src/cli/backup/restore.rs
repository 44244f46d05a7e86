//! `lictor backup restore`: the cluster that will be created next takes its data from a backup.
//!
//! It writes the wish; the nodes, empty and waiting or started afterwards, carry it out. Refused
//! while there is anything that it could destroy.

use super::super::client::{self, Client, Failure, LIMIT, Seen};
use super::super::exit::Exit;
use super::super::output;
use super::{Common, Which, catalog, which};
use crate::decide::backup::RestoreValue;
use crate::decide::backup::calendar::written;
use crate::decide::call::{Call, Verb};
use crate::decide::records::encode;
use crate::driver;
use crate::store::Store;
use serde_json::json;

/// Create the cluster from a backup: prepares it for empty nodes, when there is no cluster
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The backup
    #[arg(value_name = "ID|latest", value_parser = which)]
    id: Which,
}

/// 0 prepared, 3 refused.
pub fn run(args: Args) -> Exit {
    let Args { common, id } = args;
    client::with(common.config, move |client| async move { restore(client, id, common.json).await })
}

async fn restore(client: Client, id: Which, as_json: bool) -> Result<Exit, Failure> {
    let seen = client.look().await?;
    if let Some(why) = bar(&client, &seen) {
        return Err(Failure(format!("refused: {why}"), Exit::Refused));
    }
    let entry = id.of(&catalog(&client).await?)?;
    if let Some(verified) = entry.verified.as_ref().filter(|verified| !verified.ok) {
        let text = format!("refused: {} is bad: {}", entry.id, verified.text);
        return Err(Failure(text, Exit::Refused));
    }
    let host = client.config.local.host.clone();
    let value = RestoreValue {
        v: 1,
        id: entry.id.clone(),
        manifest: entry.manifest.clone(),
        by: format!("cli on {host}"),
        at: driver::wall_ms(),
    };
    let keys = &client.keys;
    let mut verbs = vec![Verb::CheckNotExists(keys.cluster())];
    if seen.leader.is_none() {
        verbs.push(Verb::CheckNotExists(keys.leader()));
    }
    verbs.push(Verb::Set(keys.restore(), encode(&value)));
    client.store.call(Call::Txn(verbs), LIMIT).await?;
    if as_json {
        let told = json!({
            "v": 1, "id": entry.id, "node": entry.node, "dir": entry.dir,
            "position": entry.position,
        });
        return Ok(output::json(&told, Exit::Done));
    }
    let text = format!(
        "the next creation takes {} of {} at {}\nit lies on {} at {}: that node, or every node \
         that finds it there, creates; the others clone\nstart the nodes with empty volumes now, \
         if they do not wait already",
        entry.id,
        written(entry.at),
        entry.position,
        entry.node,
        entry.dir,
    );
    Ok(output::answer(text, Exit::Done))
}

/// Why nothing is to be restored here, and how it would be.
fn bar(client: &Client, seen: &Seen) -> Option<String> {
    let base = client.keys.state();
    let base = base.as_str().trim_end_matches("state/");
    if seen.cluster.is_some() {
        return Some(format!(
            "the cluster exists. To replace it: stop lictor on every node, `consul kv delete \
             -recurse {base}state/` and `consul kv delete {base}leader` (not {base}backups/), \
             empty the volumes of all nodes, then this command again"
        ));
    }
    if seen.locked {
        return Some("a node holds the lock and creates the cluster at this moment".to_owned());
    }
    let data = seen.members.iter().find(|member| member.cluster.is_some());
    data.map(|member| {
        format!(
            "{} reports data of a cluster that Consul does not know; `lictor adopt` takes it, or \
             empty its volume first",
            member.node
        )
    })
}
