//! `lictor explain`: why things are as they are, and what would happen next. Asks Consul, every
//! node and the journal, and puts their answers side by side.

use super::client::{self, Client, Failure, LIMIT, Seen, uri};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use super::status;
use crate::decide::explain::{self, Facts, Said, Seat, text};
use crate::decide::records::PauseValue;
use crate::decide::types::NodeName;
use crate::driver::journal;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};

/// Of the journal: some changes of leader, with what led to each.
const ENTRIES: usize = 400;

/// Explain: what would happen if the primary died now, why, and what would change it
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What to explain; without it, all of it in short
    #[arg(value_enum)]
    pub about: Option<About>,
    /// Of `member`: which one
    #[arg(value_name = "NODE", required_if_eq("about", "member"))]
    pub member: Option<String>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Who would take over if the primary died now, when, and what would be lost; why the last
    /// change of leader came about
    Failover,
    /// Who holds the lock, until when, and what the others wait for
    Lock,
    /// One node: whether it may take over, why not, and what it decided
    Member,
}

/// 0 when there is an answer, 1 when neither Consul nor the node of this configuration answers.
pub fn run(args: Args) -> Exit {
    let Args { config, about, member: node, json } = args;
    if let (Some(node), Some(About::Failover | About::Lock)) = (&node, about) {
        let text = format!("{node}: only `member` takes a node");
        return output::error(text, Exit::Usage);
    }
    client::with(config, move |client| async move {
        let node = node.as_deref().map(NodeName::new);
        show(&client, about, node.as_ref(), json).await
    })
}

async fn show(
    client: &Client,
    about: Option<About>,
    node: Option<&NodeName>,
    as_json: bool,
) -> Result<Exit, Failure> {
    let facts = gather(client).await?;
    let lock = explain::lock(&facts);
    let told = explain::foretell(&facts);
    let past = explain::past(&facts);
    let member = match node {
        None => None,
        Some(node) => match explain::member(&facts, &told, node) {
            Some(member) => Some(member),
            None => {
                let names: Vec<&str> = facts.seats.iter().map(|seat| seat.node.as_str()).collect();
                let text = format!("no member is named {node}; there are: {}", names.join(", "));
                return Err(Failure(text, Exit::Usage));
            }
        },
    };
    if as_json {
        let value = json!({
            "v": 1, "cluster": facts.cluster, "consul": facts.consul, "by": facts.by,
            "paused": facts.paused, "lock": lock, "failover": told, "past": past, "member": member,
        });
        return Ok(output::json(&value, Exit::Done));
    }
    let text = match (about, &member) {
        (_, Some(member)) => text::member(&facts, &lock, member),
        (Some(About::Failover), None) => text::failover(&facts, &lock, &told, &past),
        (Some(About::Lock), None) => text::lock(&facts, &lock),
        (Some(About::Member) | None, None) => text::overview(&facts, &lock, &told, &past),
    };
    Ok(output::answer(text, Exit::Done))
}

async fn gather(client: &Client) -> Result<Facts, Failure> {
    let cluster = client.config.local.cluster.as_ref().map(ToString::to_string);
    let cluster = cluster.unwrap_or_default();
    match client.look().await {
        Ok(seen) => from_consul(client, cluster, seen).await,
        Err(Failure(why, Exit::Failed)) => match from_node(client, cluster, &why).await? {
            Some(facts) => Ok(facts),
            None => {
                let local = &client.config.local;
                let text = format!("{why}; and {} at {} does not either", local.node, local.peer());
                Err(Failure(text, Exit::Failed))
            }
        },
        Err(other) => Err(other),
    }
}

async fn from_consul(client: &Client, cluster: String, seen: Seen) -> Result<Facts, Failure> {
    let answers = status::ask_all(client, seen.members.iter().map(status::status_of)).await?;
    let seats = seen.members.iter().zip(answers).map(|(member, told)| Seat {
        node: member.node.clone(),
        listed: status::eligible(&seen, member),
        priority: member.priority,
        state: member.state.clone(),
        said: said(told),
    });
    let seats = seats.collect();
    let tail = journal::read(&client.store, &client.keys, 0, ENTRIES, LIMIT).await;
    Ok(Facts {
        cluster,
        consul: None,
        by: None,
        leader: seen.leader,
        locked: Some(seen.locked),
        term: seen.term,
        sync: seen.sync,
        paused: seen.pause.as_ref().map(PauseValue::told),
        seats,
        journal: tail.map(|tail| tail.entries).map_err(|error| error.to_string()),
    })
}

/// What a row of a node's `/status` says of a member.
#[derive(Deserialize)]
struct Row {
    #[serde(flatten)]
    member: Place,
    eligible: bool,
}

#[derive(Deserialize)]
struct Place {
    node: NodeName,
    peer: String,
    tls: bool,
    state: String,
    priority: u32,
}

/// Without Consul: the cluster as the node that this configuration is of knows it.
async fn from_node(client: &Client, cluster: String, why: &str) -> Result<Option<Facts>, Failure> {
    let local = &client.config.local;
    let own = uri(local.tls.is_some(), &local.peer(), "/status");
    let Some(view) = status::ask_all(client, [own]).await?.pop().flatten() else {
        return Ok(None);
    };
    let rows: Vec<Row> = read(&view, "members").unwrap_or_default();
    let uris = rows.iter().map(|row| uri(row.member.tls, &row.member.peer, "/status"));
    let answers = status::ask_all(client, uris).await?;
    let seats = rows.iter().zip(answers).map(|(row, told)| Seat {
        node: row.member.node.clone(),
        listed: row.eligible,
        priority: row.member.priority,
        state: row.member.state.clone(),
        said: said(told),
    });
    Ok(Some(Facts {
        cluster,
        consul: Some(why.to_owned()),
        by: read(&view, "node"),
        leader: read(&view, "leader"),
        locked: None,
        term: read(&view, "term"),
        sync: read(&view, "sync"),
        paused: read::<PauseValue>(&view, "paused").map(|pause| pause.told()),
        seats: seats.collect(),
        journal: Err("Consul does not answer".to_owned()),
    }))
}

fn read<T: serde::de::DeserializeOwned>(view: &Value, name: &str) -> Option<T> {
    serde_json::from_value(view[name].clone()).ok()
}

fn said(told: Option<Value>) -> Result<Box<Said>, String> {
    let told = told.ok_or_else(|| "does not answer".to_owned())?;
    let said = serde_json::from_value(told);
    said.map(Box::new).map_err(|error| format!("answers with what is not understood: {error}"))
}
