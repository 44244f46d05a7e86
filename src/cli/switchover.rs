//! `lictor switchover`: a planned change of the primary.

use super::exit::Exit;
use super::request::{self, Asking, node_name};
use crate::decide::action::Action;
use crate::decide::types::NodeName;

/// Move the primary to another node without losing a write
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// The new primary [default: the best candidate]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub to: Option<NodeName>,
}

pub fn run(args: Args) -> Exit {
    request::run(args.asking, Action::Switchover { to: args.to })
}
