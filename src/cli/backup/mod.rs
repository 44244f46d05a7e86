//! `lictor backup`: make one, list them, verify one, create a cluster from one.

mod list;
mod restore;
mod run;
mod watch;

use super::client::{Client, Failure};
use super::exit::Exit;
use super::settings::ConfigArgs;
use crate::decide::backup::{BackupId, CatalogValue};
use crate::decide::records::decode;
use clap::Subcommand;

/// Make, list, verify and restore backups
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    List(list::Args),
    Verify(run::VerifyArgs),
    Restore(restore::Args),
}

/// What all of them take.
#[derive(clap::Args, Debug)]
struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Exit {
    match args.command {
        Command::Run(args) => run::run(args),
        Command::List(args) => list::run(args),
        Command::Verify(args) => run::verify(args),
        Command::Restore(args) => restore::run(args),
    }
}

/// `latest`, or an id.
#[derive(Clone, Debug)]
enum Which {
    Latest,
    Id(BackupId),
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "latest" => Ok(Which::Latest),
        id => BackupId::parse(id).map(Which::Id).ok_or_else(|| {
            "not an id; `lictor backup list` shows them. A path is for `restore_from` on the nodes"
                .to_owned()
        }),
    }
}

impl Which {
    /// The catalog's entry; `latest` is the last one that is not known to be bad.
    fn of(self, catalog: &[CatalogValue]) -> Result<CatalogValue, Failure> {
        let found = match &self {
            Which::Latest => catalog.iter().rev().find(|entry| entry.is_good()),
            Which::Id(id) => catalog.iter().find(|entry| entry.id == *id),
        };
        found.cloned().ok_or_else(|| {
            let text = match self {
                Which::Latest => "there is no good backup in the catalog".to_owned(),
                Which::Id(id) => {
                    format!("there is no backup {id}; `lictor backup list` shows them")
                }
            };
            Failure(text, Exit::Refused)
        })
    }
}

/// The catalog, oldest first.
async fn catalog(client: &Client) -> Result<Vec<CatalogValue>, Failure> {
    let entries = client.read(client.keys.catalog(), true).await?;
    let mut catalog: Vec<CatalogValue> =
        entries.iter().filter_map(|entry| decode(&entry.value)).collect();
    catalog.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(catalog)
}

/// `12.3 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Tenths in integers: the first unit in which fewer than 1,024 are left.
    let mut tenths = bytes.saturating_mul(10) / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (10_485_760, "10.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX / 16, "1023.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn only_ids_and_latest() {
        assert!(matches!(which("latest"), Ok(Which::Latest)));
        assert!(matches!(which("20261125-031500-7"), Ok(Which::Id(_))));
        for bad in ["", "/backups/db/1", "a b", "-x", "A"] {
            assert!(which(bad).is_err(), "{bad}");
        }
    }
}
