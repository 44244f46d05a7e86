//! `lictor config`: is it right?

use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::config::{self, Purpose};
use serde::Serialize;

/// Ask the configuration
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Check the configuration `run` would see, without Consul
    Check(Check),
}

#[derive(clap::Args, Debug)]
struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verdict {
    v: u32,
    ok: bool,
    cluster: Option<String>,
    node: Option<String>,
    error: Option<String>,
    warnings: Vec<String>,
}

pub fn run(args: Args) -> Exit {
    let Command::Check(check) = args.command;
    let load = check.config.load_args(Purpose::Check, Vec::new());
    let verdict = match config::load(&load) {
        Ok(config) => Verdict {
            v: 1,
            ok: true,
            cluster: config.local.cluster.map(|name| name.to_string()),
            node: Some(config.local.node.to_string()),
            error: None,
            warnings: config.warnings,
        },
        Err(e) => Verdict {
            v: 1,
            ok: false,
            cluster: None,
            node: None,
            error: Some(e.to_string()),
            warnings: Vec::new(),
        },
    };
    let exit = if verdict.ok { Exit::Done } else { Exit::Usage };
    if check.json { output::json(&verdict, exit) } else { tell(&verdict, exit) }
}

fn tell(verdict: &Verdict, exit: Exit) -> Exit {
    for warning in &verdict.warnings {
        output::error(format_args!("warning: {warning}"), exit);
    }
    if let Some(error) = &verdict.error {
        return output::error(error, exit);
    }
    let node = verdict.node.as_deref().unwrap_or_default();
    match &verdict.cluster {
        Some(cluster) => {
            output::answer(format_args!("good: node {node} of cluster {cluster}"), exit)
        }
        None => output::answer("good: no cluster, supervise only", exit),
    }
}
