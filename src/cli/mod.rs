//! Subcommands, one file each. Wrong arguments and wrong configuration end with code 64 and one
//! clear line.
//!
//! Nothing here starts a thread before the command does: `run` forks its guard first.

pub mod adopt;
pub mod backup;
mod client;
pub mod completions;
pub mod config;
pub mod dev;
pub mod events;
pub mod exit;
pub mod explain;
pub mod failover;
pub mod graph;
pub mod leave;
pub mod man;
pub mod output;
pub mod pause;
pub mod reinit;
pub mod replay;
pub mod request;
pub mod ring;
pub mod run;
pub mod run_alone;
pub mod settings;
pub mod sim;
mod socket;
pub mod status;
pub mod switchover;

use clap::{CommandFactory, Parser, Subcommand};
use exit::Exit;
use std::process::ExitCode;

/// An autopilot sidecar for stateful containers, on Consul
#[derive(Parser, Debug)]
#[command(name = "lictor", version, propagate_version = false, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    Status(status::Args),
    Events(events::Args),
    Explain(explain::Args),
    Switchover(switchover::Args),
    Failover(failover::Args),
    Reinit(reinit::Args),
    Adopt(adopt::Args),
    Leave(leave::Args),
    Backup(backup::Args),
    Graph(graph::Args),
    Pause(pause::Args),
    Resume(pause::ResumeArgs),
    Ring(ring::Args),
    Sim(sim::Args),
    Replay(replay::Args),
    Dev(dev::Args),
    Config(config::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    DebugFence(run::FenceArgs),
}

/// The whole program: parses, runs, and says how the process ends.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return misunderstood(&e).into(),
    };
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(args).into(),
        Command::Events(args) => events::run(args).into(),
        Command::Explain(args) => explain::run(args).into(),
        Command::Switchover(args) => switchover::run(args).into(),
        Command::Failover(args) => failover::run(args).into(),
        Command::Reinit(args) => reinit::run(args).into(),
        Command::Adopt(args) => adopt::run(args).into(),
        Command::Leave(args) => leave::run(args).into(),
        Command::Backup(args) => backup::run(args).into(),
        Command::Pause(args) => pause::run(args).into(),
        Command::Resume(args) => pause::resume(args).into(),
        Command::DebugFence(args) => run::debug_fence(args),
        Command::Graph(args) => graph::run(args).into(),
        Command::Ring(args) => ring::run(args).into(),
        Command::Sim(args) => sim::run(args).into(),
        Command::Replay(args) => replay::run(args).into(),
        Command::Dev(args) => dev::run(args).into(),
        Command::Config(args) => config::run(args).into(),
        Command::Completions(args) => completions::run(&args, command()).into(),
        Command::Man(args) => man::run(&args, command()).into(),
    }
}

/// All of it, as `completions` and `man` need it: the same definitions that are parsed by.
fn command() -> clap::Command {
    Cli::command()
}

/// Help and version are answers; everything else clap says is a wrong use.
fn misunderstood(error: &clap::Error) -> Exit {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    match error.print() {
        Ok(()) => exit,
        Err(_) if exit == Exit::Usage => exit,
        Err(_) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let line = ["lictor", "run", "--cluster", "db", "--", "mariadbd", "--node", "x"];
        let cli = Cli::try_parse_from(line).expect("understood");
        let Command::Run(args) = cli.command else { panic!("run") };
        assert_eq!(args.command, ["mariadbd", "--node", "x"]);
    }
}
