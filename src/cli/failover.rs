//! `lictor failover`: another primary, where the present one is dead or hangs.

use super::exit::Exit;
use super::request::{self, Asking, node_name};
use crate::decide::action::{Action, Failover};
use crate::decide::types::NodeName;

/// Make another node the primary now, because the present one is dead or hangs
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// The new primary [default: the best candidate]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub to: Option<NodeName>,
    /// Promote even where acknowledged writes may be lost; refused without, with what is at risk
    #[arg(long)]
    pub accept_loss: bool,
    /// You know that the old primary does not run any more
    #[arg(long, requires = "accept_loss")]
    pub primary_stopped: bool,
}

pub fn run(args: Args) -> Exit {
    let Args { asking, to, accept_loss, primary_stopped } = args;
    request::run(asking, Action::Failover(Failover { to, accept_loss, primary_stopped }))
}
