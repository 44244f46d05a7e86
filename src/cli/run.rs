//! `lictor run`: starts and supervises the application, and in a cluster takes part in it.

use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::config::{self, Purpose};
use std::process::ExitCode;

/// Start and supervise the application; with a cluster, take part in its election
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The application: program and arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Checks the configuration; what follows forks the guard before any thread exists.
pub fn run(args: Args) -> ExitCode {
    let load = args.config.load_args(Purpose::Run, args.command);
    match config::load(&load) {
        Ok(_) => output::error("this build does not run applications yet", Exit::Failed).into(),
        Err(e) => output::error(e, Exit::Usage).into(),
    }
}
