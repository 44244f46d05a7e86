//! `lictor man`: manual pages, one a command, and one of all settings; from the definitions that
//! command lines and configurations are read by.

use super::exit::Exit;
use super::output;
use crate::config::{self, Preset, Scope, Setting};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::path::PathBuf;

/// The page of all settings, beside those of the commands.
const SETTINGS: &str = "lictor-settings";

/// Print or write the manual pages
///
/// Read one with `lictor man config set | man -l -`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The command whose page is printed, such as "config set", or "settings" [default: lictor]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages into this directory, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Of this version's pages.
const DATE: &str = "2026-11-25";

/// A page's name without its section, and its text.
type Page = (String, String);

pub fn run(args: &Args, command: Command) -> Exit {
    let pages = pages(command);
    let Some(dir) = &args.dir else {
        let name = std::iter::once("lictor").chain(args.command.iter().map(String::as_str));
        let name = name.collect::<Vec<_>>().join("-");
        return match pages.iter().find(|(page, _)| *page == name) {
            Some((_, text)) => output::answer(text.trim_end(), Exit::Done),
            None => {
                let text = format!("there is no command {}", args.command.join(" "));
                output::error(text, Exit::Usage)
            }
        };
    };
    for (name, text) in &pages {
        let path = dir.join(format!("{name}.1"));
        if let Err(error) = std::fs::write(&path, text) {
            return output::error(
                format!("cannot write {}: {error}", path.display()),
                Exit::Failed,
            );
        }
    }
    output::answer(format_args!("{} pages in {}", pages.len(), dir.display()), Exit::Done)
}

fn pages(command: Command) -> Vec<Page> {
    let mut pages = Vec::new();
    collect(command.disable_help_subcommand(true), "lictor", &mut pages);
    pages.push((SETTINGS.to_owned(), settings_page()));
    pages
}

fn collect(command: Command, name: &str, pages: &mut Vec<Page>) {
    let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    for inner in visible.cloned().collect::<Vec<_>>() {
        let below = format!("{name}-{}", inner.get_name());
        collect(inner, &below, pages);
    }
    // clap lives as long as the process: so may the names of its pages.
    let leaked: &'static str = String::leak(name.to_owned());
    let spoken: &'static str = String::leak(name.replace('-', " "));
    let command =
        command.name(leaked).bin_name(spoken).display_name(leaked).disable_version_flag(true);
    let mut text = Vec::new();
    Man::new(command).render(&mut text).expect("writing to memory cannot fail");
    pages.push((name.to_owned(), tidied(name, &String::from_utf8_lossy(&text))));
}

/// With a title that has all its fields, and without the breaks that formatters complain of.
fn tidied(name: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // A blank line is one too.
    let is_space = |at: Option<usize>| {
        at.and_then(|at| lines.get(at)).is_some_and(|line| matches!(*line, ".sp" | ""))
    };
    let kept = lines.iter().enumerate().filter(|(at, line)| {
        **line != ".br" || !is_space(at.checked_sub(1)) && !is_space(Some(at + 1))
    });
    let title = format!(".TH {name} 1 \"{DATE}\" \"{}\"", version());
    let mut page = String::new();
    for (_, line) in kept {
        page.push_str(if line.starts_with(".TH ") { &title } else { line });
        page.push('\n');
    }
    page
}

fn version() -> &'static str {
    concat!("lictor ", env!("CARGO_PKG_VERSION"))
}

fn settings_page() -> String {
    let mut page = Roff::new();
    page.control("TH", [SETTINGS, "1"]);
    page.control("SH", ["NAME"]);
    page.text([roman("lictor-settings - every setting of lictor")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "Each covers the one before: default, state/config in Consul (cluster scope only), file, \
         environment, flag.",
    )]);
    for (scope, title) in
        [(Scope::Local, "LOCAL"), (Scope::Cluster, "CLUSTER: THE SAME ON EVERY NODE, IN KV TOO")]
    {
        page.control("SH", [title]);
        for setting in config::all_settings().filter(|setting| setting.scope == scope) {
            entry(&mut page, setting);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("lictor-config(1), lictor-run(1)")]);
    tidied(SETTINGS, &page.to_roff())
}

fn entry(page: &mut Roff, setting: &Setting) {
    page.control("TP", []);
    page.text([bold(setting.name), roman(format!(" ({})", setting.kind.name()))]);
    let preset = match setting.preset {
        Preset::Is("") => "empty".to_owned(),
        Preset::Is(text) => text.to_owned(),
        Preset::Told(words) => words.replace('`', ""),
    };
    let by = match (setting.kind.is_scalar(), setting.kind.has_flag()) {
        (true, true) => format!(" {}, --{}.", setting.variable(), setting.flag()),
        (true, false) => format!(" {}.", setting.variable()),
        (false, _) => String::new(),
    };
    let about = setting.about.replace('`', "");
    page.text([roman(format!("{about} Default: {preset}.{by}"))]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::all_settings;

    fn all() -> Vec<Page> {
        pages(super::super::command())
    }

    fn page(name: &str) -> String {
        let found = all().into_iter().find(|(page, _)| page == name);
        found.unwrap_or_else(|| panic!("no page {name}")).1.replace("\\-", "-")
    }

    #[test]
    fn every_command_has_a_page_and_every_setting_its_place() {
        let names: Vec<String> = all().into_iter().map(|(name, _)| name).collect();
        for name in ["lictor", "lictor-run", "lictor-config-set", "lictor-ring-lookup", SETTINGS] {
            assert!(names.iter().any(|page| page == name), "{name} of {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("debug")), "{names:?}");
        let (run, settings) = (page("lictor-run"), page(SETTINGS));
        for setting in all_settings() {
            assert!(settings.contains(setting.name), "{}", setting.name);
            if setting.kind.has_flag() {
                assert!(run.contains(&format!("--{}", setting.flag())), "{}", setting.name);
            }
            if setting.kind.is_scalar() {
                assert!(settings.contains(&setting.variable()), "{}", setting.name);
            }
        }
        assert!(page("lictor-config-set").contains("lictor config set"));
    }
}
