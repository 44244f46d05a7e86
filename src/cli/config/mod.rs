//! `lictor config`: what is in force, whether it is right, and changes of what the cluster shares.

mod check;
mod edit;
mod schema;
mod set;
mod show;
mod write;

use super::exit::Exit;

/// Show, check and change the configuration
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Show(show::Args),
    Edit(edit::Args),
    Set(set::Args),
    Check(check::Args),
    Schema(schema::Args),
}

pub fn run(args: Args) -> Exit {
    match args.command {
        Command::Show(args) => show::run(args),
        Command::Edit(args) => edit::run(args),
        Command::Set(args) => set::run(args),
        Command::Check(args) => check::run(args),
        Command::Schema(args) => schema::run(args),
    }
}
