//! `lictor config schema`: the JSON Schema of a configuration.

use crate::cli::exit::Exit;
use crate::cli::output;
use crate::config;

/// Print the JSON Schema of a node's file, or of state/config
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Of state/config in Consul: what the cluster shares
    #[arg(long)]
    kv: bool,
}

pub fn run(args: Args) -> Exit {
    let text = serde_json::to_string_pretty(&config::schema(args.kv));
    output::answer(text.expect("a schema has string keys only"), Exit::Done)
}
