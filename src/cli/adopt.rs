//! `lictor adopt`: Consul has forgotten the cluster; whose data counts.

use super::exit::Exit;
use super::request::{self, Asking, node_name};
use crate::decide::action::Action;
use crate::decide::types::NodeName;

/// After Consul lost the cluster: say whose data is the cluster's
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// The node whose data counts; it becomes the primary
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub of: NodeName,
    /// Even if another member has seen a later epoch
    #[arg(long)]
    pub accept_loss: bool,
}

pub fn run(args: Args) -> Exit {
    let action = Action::Adopt { node: args.of, accept_loss: args.accept_loss };
    request::run(args.asking, action)
}
