//! `lictor config check`: is it right? A node's whole configuration, or a text for `state/config`
//! before it is written.

use super::write::Stands;
use crate::cli::client::{self, Failure};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::settings::ConfigArgs;
use crate::config::{self, Layers, Purpose};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Check the configuration `run` would see, or a text for state/config
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A text for state/config, checked by itself: good on any node, before it is written
    #[arg(value_name = "FILE", conflicts_with = "kv")]
    text: Option<PathBuf>,
    /// Ask Consul too: what stands in state/config, with this node's layers and for every member
    #[arg(long)]
    kv: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Verdict {
    v: u32,
    ok: bool,
    cluster: Option<String>,
    node: Option<String>,
    error: Option<String>,
    warnings: Vec<String>,
    #[serde(skip)]
    good: String,
    #[serde(skip)]
    code: Option<Exit>,
}

pub fn run(args: Args) -> Exit {
    let json = args.json;
    let checked = match &args.text {
        Some(path) => text(path),
        None => whole(args.config, args.kv),
    };
    let verdict = checked.unwrap_or_else(|Failure(error, exit)| Verdict {
        v: 1,
        error: Some(error),
        code: Some(exit),
        ..Verdict::default()
    });
    let exit = verdict.code.unwrap_or(Exit::Done);
    if json { output::json(&verdict, exit) } else { tell(&verdict, exit) }
}

fn usage(error: impl ToString) -> Failure {
    Failure(error.to_string(), Exit::Usage)
}

fn text(path: &Path) -> Result<Verdict, Failure> {
    let read = std::fs::read(path);
    let bytes = read.map_err(|error| usage(format!("cannot read {}: {error}", path.display())))?;
    let text = config::kv_text(&bytes).map_err(usage)?;
    config::may_write(text, &[]).map_err(usage)?;
    let good = "good: a text for state/config".to_owned();
    Ok(Verdict { v: 1, ok: true, good, ..Verdict::default() })
}

fn whole(args: ConfigArgs, kv: bool) -> Result<Verdict, Failure> {
    let load = args.load_args(Purpose::Check, Vec::new());
    let layers = Layers::read(&load).map_err(usage)?;
    let mut config = layers.config(None).map_err(usage)?;
    if kv {
        let stands =
            client::ask_once(&config, |client| async move { Stands::look(&client).await })?;
        if stands.index.0 > 0 {
            let text = stands.text()?;
            stands.judge(text)?;
            config = layers.config(Some(text)).map_err(usage)?;
        }
    }
    let (node, cluster) = (config.local.node.to_string(), config.local.cluster);
    let cluster = cluster.map(|name| name.to_string());
    let good = match &cluster {
        Some(cluster) => format!("good: node {node} of cluster {cluster}"),
        None => "good: no cluster, supervise only".to_owned(),
    };
    let (node, warnings) = (Some(node), config.warnings);
    Ok(Verdict { v: 1, ok: true, cluster, node, warnings, good, ..Verdict::default() })
}

fn tell(verdict: &Verdict, exit: Exit) -> Exit {
    for warning in &verdict.warnings {
        output::error(format_args!("warning: {warning}"), exit);
    }
    match &verdict.error {
        Some(error) => output::error(error, exit),
        None => output::answer(&verdict.good, exit),
    }
}
