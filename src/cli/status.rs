//! `lictor status`: what the cluster is like, and why.

use super::settings::ConfigArgs;

/// Show the cluster: its leader, members, roles and reasons
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}
