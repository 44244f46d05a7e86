//! `lictor run`: starts and supervises the application, and in a cluster takes part in it.

use super::exit::Exit;
use super::settings::ConfigArgs;
use super::{output, run_alone};
use crate::config::{self, Purpose};
use crate::decide::time::Span;
use crate::driver;
use std::ffi::OsString;
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
    let config = match config::load(&load) {
        Ok(config) => config,
        Err(e) => return output::error(e, Exit::Usage).into(),
    };
    let code = if config.local.cluster.is_some() {
        driver::run(config, load)
    } else {
        let command = config.local.command.into_iter().map(OsString::from).collect();
        run_alone::run(command, config.local.stop_timeout.to_std())
    };
    // An exit code is one byte: 128 + a signal's number fits, and nothing larger comes.
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// For tests of the guard: run a command that is killed after a time, come what may
#[derive(clap::Args, Debug)]
pub struct FenceArgs {
    /// When the guard kills, in milliseconds from the start
    #[arg(long)]
    kill_in_ms: u64,
    /// The application: program and arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn debug_fence(args: FenceArgs) -> ExitCode {
    let stop_timeout = std::time::Duration::from_secs(10);
    let code = run_alone::debug_fence(args.command, stop_timeout, Span(args.kill_in_ms));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
