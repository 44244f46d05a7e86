//! `lictor completions`: what a shell must know to complete our command lines.

use super::exit::Exit;
use super::output;
use clap_complete::Shell;

/// Print completions for a shell
///
/// bash: `lictor completions bash > /etc/bash_completion.d/lictor`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: &Args, command: clap::Command) -> Exit {
    output::answer(script(args.shell, command).trim_end(), Exit::Done)
}

fn script(shell: Shell, mut command: clap::Command) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command, "lictor", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::all_settings;

    #[test]
    fn every_shell_knows_every_flag_and_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell, super::super::command());
            for setting in all_settings().filter(|setting| setting.kind.has_flag()) {
                let long = setting.flag();
                let flag =
                    if shell == Shell::Fish { format!("-l {long} ") } else { format!("--{long}") };
                assert!(text.contains(&flag), "{shell}: {flag}");
            }
            for command in ["switchover", "schema", "completions", "lookup"] {
                assert!(text.contains(command), "{shell}: {command}");
            }
        }
    }
}
