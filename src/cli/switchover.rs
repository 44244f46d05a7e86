//! `lictor switchover`: a planned change of the primary.

use super::settings::ConfigArgs;

/// Move the primary to another node without losing a write
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The new primary [default: the best candidate]
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}
