//! The arguments every command with a configuration has: `-c FILE` and a flag for every scalar
//! setting.
//!
//! The flags are made from the settings' table, so that flag, variable and key can't disagree.

use crate::config::{self, Environment, Kind, LoadArgs, Preset, Purpose, Setting};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Shown by `-h` too; the others by `--help`.
const SHORT: [&str; 7] = ["cluster", "node", "address", "listen", "volume", "hooks", "app_port"];

/// A setting's flag and help line, made once: clap wants both for the life of the process.
static FLAGS: LazyLock<Vec<(&'static Setting, String)>> = LazyLock::new(|| {
    let with_flag = config::all_settings().filter(|setting| setting.kind.has_flag());
    with_flag.map(|setting| (setting, setting.flag())).collect()
});

/// Where the configuration comes from, as far as the command line says it.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration file [default: /etc/lictor/lictor.toml if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl ConfigArgs {
    /// The arguments of `config::load`, with this process's environment.
    pub fn load_args(self, purpose: Purpose, command: Vec<String>) -> LoadArgs {
        LoadArgs {
            purpose,
            file: self.config,
            flags: self.flags.0,
            command,
            env: Environment::of_process(),
            kv: None,
        }
    }
}

/// Setting names and their texts.
#[derive(Clone, Debug)]
struct Flags(Vec<(String, String)>);

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let given = FLAGS.iter().filter_map(|(setting, _)| {
            let text = matches.get_one::<String>(setting.name)?;
            Some((setting.name.to_owned(), text.clone()))
        });
        Ok(Flags(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (setting, flag)| command.arg(argument(setting, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

fn argument(setting: &Setting, flag: &'static str) -> Arg {
    let value_name = match setting.kind {
        Kind::Duration => "DURATION",
        Kind::Number => "NUMBER",
        Kind::Switch => "BOOL",
        Kind::Text | Kind::Secret | Kind::List | Kind::Table => "TEXT",
    };
    let about = setting.about.trim_end_matches('.').replace('`', "");
    let help = match setting.preset {
        Preset::Is("") => about,
        Preset::Is(text) => format!("{about} [default: {text}]"),
        Preset::Told(words) => format!("{about} [default: {}]", words.replace('`', "")),
    };
    Arg::new(setting.name)
        .long(flag)
        .value_name(value_name)
        .action(ArgAction::Set)
        .help(help)
        .help_heading("Settings")
        .hide_short_help(!SHORT.contains(&setting.name))
}
