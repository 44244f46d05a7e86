//! `lictor leave`: a node goes for good.

use super::exit::Exit;
use super::request::{self, Asking, node_name};
use crate::decide::action::Action;
use crate::decide::types::NodeName;

/// Take a node out of the cluster: hands over, stops its application and ends its lictor
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// The node that leaves
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub of: NodeName,
    /// Even if it is the last that could lead, or nobody leads
    #[arg(long)]
    pub force: bool,
}

pub fn run(args: Args) -> Exit {
    request::run(args.asking, Action::Leave { node: args.of, force: args.force })
}
