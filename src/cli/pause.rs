//! `lictor pause` and `lictor resume`: whether lictor acts, or people do.

use super::exit::Exit;
use super::request::{self, Asking};
use crate::decide::action::Action;

/// Stop take-overs and restarts in the whole cluster; fencing goes on
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub asking: Asking,
    /// Why, for whoever looks at `status`
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Let lictor act again
#[derive(clap::Args, Debug)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub asking: Asking,
}

pub fn run(args: Args) -> Exit {
    request::run(args.asking, Action::Pause { reason: args.reason })
}

pub fn resume(args: ResumeArgs) -> Exit {
    request::run(args.asking, Action::Resume)
}
