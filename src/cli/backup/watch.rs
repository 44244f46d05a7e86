//! Following a job to its end: on a terminal one line that changes, else a line for each step.
//!
//! `state/backup` is what counts, and its bytes are up to 15 s old; the node itself tells more when
//! it answers.

use super::super::client::{Client, Failure};
use super::super::output;
use super::super::status;
use super::size;
use crate::decide::backup::{BackupValue, JobState};
use crate::decide::records::{MemberValue, decode};
use crate::decide::time::Span;
use crate::decide::types::NodeName;
use crate::process::clock;
use crate::store::Store;
use std::io::{IsTerminal, Write};

/// Between two looks.
const LOOK: Span = Span::secs(1);
/// Two hooks' default time and as much again for checksums; then nobody knows.
const MOST: Span = Span::secs(24 * 3_600);

/// How it ended.
pub enum Ended {
    So(BackupValue),
    Unknown(String),
}

pub async fn follow(client: &Client, request: &str) -> Result<Ended, Failure> {
    let until = clock::now() + MOST;
    let mut line = Line::new();
    let mut after = None;
    let mut seen = false;
    while clock::now() < until {
        let watched = match client.store.watch(&client.keys.backup(), false, after, LOOK).await {
            Ok(watched) => watched,
            Err(error) => {
                line.tell(&format!("Consul does not answer: {error}"));
                after = None;
                tokio::time::sleep(LOOK.to_std()).await;
                continue;
            }
        };
        after = Some(watched.index);
        let value = watched.entries.first().and_then(|e| decode::<BackupValue>(&e.value));
        match value.filter(|value| value.request.as_deref() == Some(request)) {
            Some(value) if !value.is_held() => {
                line.end();
                return Ok(Ended::So(value));
            }
            Some(value) => {
                seen = true;
                let (step, bytes) = live(client, &value).await;
                line.tell_progress(&value, &step, bytes);
            }
            None if seen => {
                line.end();
                let text = "another job has begun since; `lictor backup list` shows what became";
                return Ok(Ended::Unknown(text.into()));
            }
            None => {}
        }
    }
    line.end();
    Ok(Ended::Unknown(format!("no end within {MOST}; `lictor backup list` shows more")))
}

/// The step and the bytes so far, as the node says it now, else as it last wrote.
async fn live(client: &Client, value: &BackupValue) -> (String, u64) {
    let written = || (value.step.clone(), value.bytes);
    if value.state == JobState::Asked {
        return written();
    }
    let Some(member) = member(client, &value.node).await else { return written() };
    let Some(told) = status::told(client, &member).await else { return written() };
    let job = &told["backup"]["job"];
    match (job["id"] == value.id.as_str(), job["step"].as_str(), job["bytes"].as_u64()) {
        (true, Some(step), Some(bytes)) => (step.to_owned(), bytes),
        _ => written(),
    }
}

async fn member(client: &Client, node: &NodeName) -> Option<MemberValue> {
    let entries = client.read(client.keys.member(node), false).await.ok()?;
    decode(&entries.first()?.value)
}

/// Where progress goes.
struct Line {
    terminal: bool,
    told: String,
    width: usize,
}

impl Line {
    fn new() -> Line {
        Line { terminal: std::io::stderr().is_terminal(), told: String::new(), width: 0 }
    }

    fn tell_progress(&mut self, value: &BackupValue, step: &str, bytes: u64) {
        let BackupValue { job, id, node, .. } = value;
        if self.terminal {
            self.tell(&format!("{job} {id}: {node} {step}, {}", size(bytes)));
        } else {
            // Without a terminal the bytes alone are no news.
            self.tell(&format!("{job} {id}: {node} {step}"));
        }
    }

    fn tell(&mut self, text: &str) {
        if self.told == text {
            return;
        }
        self.told = text.to_owned();
        if self.terminal {
            // The rest of a longer line is written over.
            let blank = " ".repeat(self.width.saturating_sub(text.len()));
            self.width = text.len();
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r{text}{blank}").and_then(|()| out.flush());
        } else {
            output::progress(text);
        }
    }

    fn end(&mut self) {
        if self.terminal && self.width > 0 {
            let _ = write!(std::io::stderr(), "\r{}\r", " ".repeat(self.width));
            self.width = 0;
        }
    }
}
