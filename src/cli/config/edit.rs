//! `lictor config edit`: the whole text in an editor, checked before it is written. What can't be
//! written is never lost: its place is told.

use super::write::{Stands, Wrote};
use crate::cli::client::{self, Client, Failure};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::settings::ConfigArgs;
use crate::config::{self, Environment, Preset, Scope};
use crate::http::nonce;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Edit the cluster's configuration in Consul (state/config) in an editor
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: Args) -> Exit {
    client::with(args.config, |client| async move { edit(&client).await })
}

async fn edit(client: &Client) -> Result<Exit, Failure> {
    let stands = Stands::look(client).await?;
    // What stands there may be anything: it is there to be mended.
    let old = String::from_utf8_lossy(&stands.bytes).into_owned();
    let begun = if old.is_empty() { template() } else { old.clone() };
    let file = temporary(&begun)?;
    let first = read(&file)?;
    loop {
        open_editor(&file)?;
        let text = read(&file)?;
        if text == first && stands.judge(&text).is_ok() || text == old {
            drop(fs::remove_file(&file));
            return Ok(output::answer("nothing changed", Exit::Done));
        }
        match stands.judge(&text) {
            Ok(()) => match stands.write(client, &text).await.map_err(|why| kept(why, &file))? {
                Wrote::Done => {
                    drop(fs::remove_file(&file));
                    return Ok(output::answer("written; nodes take it within moments", Exit::Done));
                }
                Wrote::Moved => {
                    let why = "state/config changed while you edited; nothing is written";
                    return Err(kept(Failure(why.to_owned(), Exit::Refused), &file));
                }
            },
            Err(why) if again(&why.0) => {}
            Err(why) => return Err(kept(why, &file)),
        }
    }
}

fn kept(Failure(why, exit): Failure, file: &Path) -> Failure {
    Failure(format!("{why}; your text is kept in {}", file.display()), exit)
}

/// At a terminal the editor is opened again, unless the answer is no.
fn again(why: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    output::error(why, Exit::Usage);
    eprint!("edit again? [Y/n] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok_and(|bytes| bytes > 0) && !answer.trim_start().starts_with(['n', 'N'])
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure(format!("cannot {what} {}: {error}", path.display()), Exit::Failed)
}

fn read(file: &Path) -> Result<String, Failure> {
    match fs::read(file) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| kept(Failure("the text is no UTF-8".to_owned(), Exit::Usage), file)),
        Err(error) => Err(failed("read", file, &error)),
    }
}

/// A file that only this user can read, under a name that nobody can guess.
fn temporary(text: &str) -> Result<PathBuf, Failure> {
    let name = nonce::hex::<8>().map_err(|error| Failure(error.to_string(), Exit::Failed))?;
    let path = std::env::temp_dir().join(format!("lictor-config-{name}.toml"));
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| failed("write", &path, &error))?;
    Ok(path)
}

/// As git does it: by a shell, so that the variable may hold arguments.
#[expect(clippy::disallowed_methods, reason = "a command of a person, with no reaper beside it")]
fn open_editor(file: &Path) -> Result<(), Failure> {
    let env = Environment::of_process();
    let editor = env.get("VISUAL").or(env.get("EDITOR")).unwrap_or("vi");
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$@\""))
        .arg(editor)
        .arg(file)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let why = format!("the editor `{editor}` ended with {status}; nothing is written");
            Err(kept(Failure(why, Exit::Failed), file))
        }
        Err(error) => Err(kept(failed("start", Path::new(editor), &error), file)),
    }
}

/// Where nothing stands yet: every setting, to be uncommented.
fn template() -> String {
    let mut text = "# The cluster's configuration: TOML, the same for every node, live.\n\
                    # Local settings (paths, users, commands) have no place here.\n"
        .to_owned();
    for setting in config::all_settings().filter(|it| it.scope == Scope::Cluster) {
        let preset = match setting.preset {
            Preset::Is(text) if setting.kind == config::Kind::Number => text.to_owned(),
            Preset::Is(text) => format!("\"{text}\""),
            Preset::Told(words) => format!("..  # default: {}", words.replace('`', "")),
        };
        write!(text, "\n# {}\n# {} = {preset}\n", setting.about, setting.name)
            .expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_configuration_that_sets_nothing_and_holds_when_uncommented() {
        let text = template();
        config::may_write(&text, &[]).expect("comments alone");
        let named = |line: &str| config::all_settings().any(|it| it.name == line);
        let rows = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| {
            line.split_once(" = ")
                .is_some_and(|(name, value)| named(name) && !value.starts_with(".."))
        });
        let set: String = rows.map(|line| format!("{line}\n")).collect();
        assert!(set.lines().count() > 10, "{set}");
        config::may_write(&set, &[]).expect("the defaults, written out");
    }
}
