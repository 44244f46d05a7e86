//! `lictor status`: what the cluster is like, and why. Reads Consul, and the nodes' own `/status`
//! where they answer.

use super::client::{self, Client, Failure, Nodes, Seen, uri};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::decide::records::{LockState, MemberValue};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

/// A node that does not answer within this is shown as silent.
const NODE_LIMIT: Duration = Duration::from_secs(1);
/// More than any node says of itself.
const BODY_MAX: usize = 1 << 20;

/// Show the cluster: its leader, members, roles and reasons
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

/// 0 when a primary holds the lock, 1 when nobody does.
pub fn run(args: Args) -> Exit {
    let as_json = args.json;
    client::with(args.config, move |client| async move { show(client, as_json).await })
}

async fn show(client: Client, as_json: bool) -> Result<Exit, Failure> {
    let seen = client.look().await?;
    let answers = ask_all(&client, seen.members.iter().map(status_of)).await?;
    let exit = if held(&seen) { Exit::Done } else { Exit::Failed };
    let name = client.config.local.cluster.as_ref().map(|name| name.as_str()).unwrap_or_default();
    let acts = acts(&seen, &answers);
    if as_json {
        let nodes: Vec<Value> =
            seen.members.iter().zip(&answers).map(|(m, told)| row(&seen, m, told, acts)).collect();
        let value = json!({
            "v": 1, "cluster": name, "cluster_id": seen.cluster.as_ref().map(|c| &c.id),
            "leader": seen.leader, "locked": seen.locked, "term": seen.term, "sync": seen.sync,
            "paused": seen.pause,
            "members": nodes,
        });
        return Ok(output::json(&value, exit));
    }
    Ok(output::answer(table(name, &seen, &answers, acts), exit))
}

/// Somebody leads.
fn held(seen: &Seen) -> bool {
    seen.locked && seen.leader.as_ref().is_some_and(|leader| leader.state == LockState::Held)
}

/// The holder says itself that it is the primary: a dead one may hold the lock for 30 s.
fn acts(seen: &Seen, answers: &[Option<Value>]) -> bool {
    let mut told = seen.members.iter().zip(answers);
    held(seen)
        && told.any(|(member, told)| {
            let leads = seen.leader.as_ref().is_some_and(|leader| leader.node == member.node);
            leads && told.as_ref().is_some_and(|told| told["role"] == "primary")
        })
}

/// What a node says of itself, if it answers.
pub async fn told(client: &Client, member: &MemberValue) -> Option<Value> {
    ask(client.nodes().ok()?, status_of(member)).await
}

/// Where a member's own `/status` is.
pub fn status_of(member: &MemberValue) -> String {
    uri(member.tls, &member.peer, "/status")
}

/// All at once; `None` of whoever does not answer.
pub async fn ask_all(
    client: &Client,
    uris: impl IntoIterator<Item = String>,
) -> Result<Vec<Option<Value>>, Failure> {
    let nodes = client.nodes()?;
    let asked = uris.into_iter().map(|uri| tokio::spawn(ask(nodes.clone(), uri)));
    let mut answers = Vec::new();
    for task in asked.collect::<Vec<_>>() {
        answers.push(task.await.unwrap_or(None));
    }
    Ok(answers)
}

/// A node's own `/status`.
async fn ask(nodes: Nodes, uri: String) -> Option<Value> {
    let uri = uri.parse().ok()?;
    let answer = tokio::time::timeout(NODE_LIMIT, async {
        let response = nodes.get(uri).await.ok()?;
        let body = http_body_util::Limited::new(response.into_body(), BODY_MAX);
        Some(body.collect().await.ok()?.to_bytes())
    });
    serde_json::from_slice(&answer.await.ok()??).ok()
}

fn row(seen: &Seen, member: &MemberValue, told: &Option<Value>, acts: bool) -> Value {
    let field = |name: &str| told.as_ref().map_or(Value::Null, |told| told[name].clone());
    json!({
        "node": member.node,
        "answers": told.is_some(),
        "role": told.as_ref().map_or(json!("unknown"), |told| told["role"].clone()),
        "state": told.as_ref().map_or(json!(member.state), |told| told["state"].clone()),
        "sync": in_sync(seen, member),
        "eligible": eligible(seen, member),
        "app": member.app,
        "peer": member.peer,
        "follows": field("follows"),
        "healthy": told.as_ref().map_or(Value::Null, |told| told["app"]["healthy"].clone()),
        "reason": last_reason(told, acts),
        "version": member.version,
        "performs": member.roles.performs,
        "hold_down": field("hold_down"),
        "needs": field("needs"),
        "note": note(told),
    })
}

/// What keeps a node from joining or from leading, when that is its own matter: the last reason
/// tells what happened, not what lasts.
fn note(told: &Option<Value>) -> Value {
    const LASTING: [&str; 3] = ["wait.requires", "wait.bootstrap-needs", "bar.max-lag"];
    let Some(told) = told else { return Value::Null };
    let held = &told["hold_down"]["reason"];
    let waits = &told["waits_for"];
    let lasts = waits["code"].as_str().is_some_and(|code| LASTING.contains(&code));
    let reason = if held.is_null() && lasts { waits } else { held };
    reason["text"].clone()
}

fn in_sync(seen: &Seen, member: &MemberValue) -> bool {
    seen.sync.as_ref().is_some_and(|sync| sync.members.contains(&member.node))
}

pub fn eligible(seen: &Seen, member: &MemberValue) -> bool {
    let listed = |term: &crate::decide::records::TermValue| {
        term.eligible.iter().any(|e| e.node == member.node && e.disk == member.disk)
    };
    seen.term.as_ref().is_some_and(listed)
}

/// Without a primary it is what the node waits for: why it does not take over.
fn last_reason(told: &Option<Value>, acts: bool) -> Value {
    let Some(told) = told else { return json!("the node does not answer") };
    if !acts {
        return told["waits_for"]["text"].clone();
    }
    let last = told["reasons"].as_array().and_then(|reasons| reasons.last());
    last.map_or(Value::Null, |reason| reason["text"].clone())
}

fn table(name: &str, seen: &Seen, answers: &[Option<Value>], acts: bool) -> String {
    let mut text = match (&seen.leader, seen.locked) {
        (Some(leader), true) if !acts => format!(
            "cluster {name}: {} holds the lock, epoch {}, and is no primary\n",
            leader.node, leader.epoch
        ),
        (Some(leader), true) => {
            format!("cluster {name}: {} leads, epoch {}\n", leader.node, leader.epoch)
        }
        (Some(leader), false) => {
            format!(
                "cluster {name}: nobody leads (last: {}, epoch {})\n",
                leader.node, leader.epoch
            )
        }
        (None, _) => format!("cluster {name}: nobody leads\n"),
    };
    if let Some(sync) = &seen.sync {
        let members: Vec<&str> = sync.members.iter().map(|node| node.as_str()).collect();
        text += &format!("sync: {} (acks {})\n", members.join(", "), sync.acks);
    }
    if let Some(pause) = &seen.pause {
        text += &format!("paused by {}: `lictor resume` ends it\n", pause.told());
    }
    text += &format!(
        "{:<12} {:<10} {:<14} {:<6} {:<9} {:<22} {}\n",
        "NODE", "ROLE", "STATE", "SYNC", "ELIGIBLE", "APPLICATION", "LAST REASON"
    );
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    for (member, told) in seen.members.iter().zip(answers) {
        let row = row(seen, member, told, acts);
        text += &format!(
            "{:<12} {:<10} {:<14} {:<6} {:<9} {:<22} {}\n",
            member.node.as_str(),
            row["role"].as_str().unwrap_or("unknown"),
            row["state"].as_str().unwrap_or("unknown"),
            yes(in_sync(seen, member)),
            yes(eligible(seen, member)),
            member.app,
            row["reason"].as_str().unwrap_or("-"),
        );
    }
    for (member, told) in seen.members.iter().zip(answers) {
        if let Some(note) = note(told).as_str() {
            text += &format!("{}: {note}\n", member.node);
        }
    }
    text.trim_end().to_owned()
}
