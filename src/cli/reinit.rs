//! `lictor reinit`: one node's data made anew.

use super::exit::Exit;
use super::request::{self, Asking, node_name};
use crate::decide::action::Action;
use crate::decide::types::NodeName;

/// Wipe a node's data and clone it again
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// The node, which is not the primary
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub of: NodeName,
}

pub fn run(args: Args) -> Exit {
    request::run(args.asking, Action::Reinit { node: args.of })
}
