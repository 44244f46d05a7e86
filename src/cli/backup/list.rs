//! `lictor backup list`: the catalog, and how the last job ended.

use super::super::client::{self, Client, Failure};
use super::super::exit::Exit;
use super::super::output;
use super::{Common, catalog, size};
use crate::decide::backup::calendar::written;
use crate::decide::backup::{BackupValue, CatalogValue, JobState};
use crate::decide::records::decode;
use serde_json::json;

/// Show the backups there are, and how the last one ended
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> Exit {
    let as_json = args.common.json;
    client::with(args.common.config, move |client| async move { list(client, as_json).await })
}

async fn list(client: Client, as_json: bool) -> Result<Exit, Failure> {
    let catalog = catalog(&client).await?;
    let last = client.read(client.keys.backup(), false).await?;
    let last = last.first().and_then(|entry| decode::<BackupValue>(&entry.value));
    if as_json {
        let value = json!({"v": 1, "backups": catalog, "last": last});
        return Ok(output::json(&value, Exit::Done));
    }
    Ok(output::answer(table(&catalog, last.as_ref()), Exit::Done))
}

fn table(catalog: &[CatalogValue], last: Option<&BackupValue>) -> String {
    let mut text = format!(
        "{:<22} {:<21} {:<12} {:>11} {:<10} {}\n",
        "ID", "WHEN", "NODE", "SIZE", "VERIFIED", "POSITION"
    );
    for entry in catalog {
        let verified = match &entry.verified {
            None => "-",
            Some(verified) if verified.ok => "good",
            Some(_) => "BAD",
        };
        text += &format!(
            "{:<22} {:<21} {:<12} {:>11} {:<10} {}\n",
            entry.id.as_str(),
            written(entry.at),
            entry.node.as_str(),
            size(entry.bytes),
            verified,
            if entry.position.is_empty() { "-" } else { &entry.position },
        );
    }
    let bad = catalog.iter().filter_map(|entry| entry.verified.as_ref().map(|it| (entry, it)));
    for (entry, verified) in bad.filter(|(_, verified)| !verified.ok) {
        text += &format!("{} is bad: {}\n", entry.id, verified.text);
    }
    if let Some(last) = last {
        text += &match last.state {
            JobState::Asked | JobState::Running => {
                let so_far = size(last.bytes);
                format!("now: {} {} on {}, {}, {so_far}\n", last.job, last.id, last.node, last.step)
            }
            JobState::Done => String::new(),
            JobState::Failed => {
                format!("last: {} {} on {} failed: {}\n", last.job, last.id, last.node, last.reason)
            }
        };
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::backup::{BackupId, Job, Verified};
    use crate::decide::types::{ClusterId, Epoch, RunId};

    #[test]
    fn the_table() {
        let entry = |id: &str, bytes, verified: Option<(bool, &str)>| CatalogValue {
            v: 1,
            id: BackupId::new(id),
            node: "n2".into(),
            host: "h".into(),
            dir: "/backups/db/x".into(),
            epoch: Epoch(7),
            cluster: ClusterId::new("c"),
            at: 1_795_575_300_000,
            took_ms: 2_000,
            bytes,
            files: 3,
            position: "1-5-1234".into(),
            engine: "MariaDB".into(),
            manifest: "sum".into(),
            verified: verified.map(|(ok, text)| Verified {
                at: 1,
                node: "n2".into(),
                ok,
                text: text.into(),
            }),
            extra: Default::default(),
        };
        let catalog = [
            entry("20261125-025500-7", 1 << 30, None),
            entry("20261125-025501-7", 5 << 20, Some((true, "checked"))),
            entry("20261125-025502-7", 512, Some((false, "db/t.ibd was changed"))),
        ];
        let last = BackupValue {
            v: 1,
            job: Job::Backup,
            id: BackupId::new("20261125-030000-7"),
            node: "n3".into(),
            run: RunId::new("r"),
            state: JobState::Failed,
            step: "copies".into(),
            bytes: 9,
            n: 3,
            epoch: Epoch(7),
            at: 1,
            by: "schedule".into(),
            request: None,
            slot: None,
            reason: "the backup hook ended with Timeout".into(),
        };
        insta::assert_snapshot!(table(&catalog, Some(&last)));
        let running = BackupValue { state: JobState::Running, ..last };
        insta::assert_snapshot!(table(&[], Some(&running)));
    }
}
