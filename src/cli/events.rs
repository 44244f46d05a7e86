//! `lictor events`: the journal, from Consul alone: it works when no node runs.

use super::client::{self, Client, Failure, LIMIT};
use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::config::parse_duration;
use crate::decide::backup::calendar;
use crate::decide::journal::Entry;
use crate::decide::journal::read::Tail;
use crate::decide::time::Span;
use crate::driver::{journal, wall_ms};
use serde_json::json;
use std::fmt::Write;
use std::io::ErrorKind;

/// Without `-n` and `--since`.
const SHOWN: usize = 50;
/// More than any journal keeps.
const ALL: usize = 20_000;
/// Between two attempts to reach Consul while following.
const AGAIN: Span = Span::secs(1);

/// Show the journal: what was decided, when, by which node, and why
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Go on with what is appended from now on
    #[arg(short, long)]
    pub follow: bool,
    /// At most the newest N entries [default: 50, or all with --since]
    #[arg(short, value_name = "N")]
    pub n: Option<usize>,
    /// Only what was decided within this time: 10m, 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub since: Option<Span>,
    /// Entries as they stand in the journal, one line of JSON each
    #[arg(long)]
    pub json: bool,
}

/// 0 when the journal could be read, 1 when Consul does not answer.
pub fn run(args: Args) -> Exit {
    let Args { config, follow, n, since, json } = args;
    let most = n.unwrap_or(if since.is_some() { ALL } else { SHOWN });
    let asked = Asked { follow, most, since, json };
    client::with(config, move |client| async move { show(client, asked).await })
}

struct Asked {
    follow: bool,
    most: usize,
    since: Option<Span>,
    json: bool,
}

async fn show(client: Client, asked: Asked) -> Result<Exit, Failure> {
    let tail = match asked.most {
        0 => Tail { seq: read(&client, 0, 1).await?.seq, ..Tail::default() },
        most => read(&client, 0, most).await?,
    };
    if tail.seq == 0 {
        // Nothing at all may also mean that this token sees nothing.
        client.store.prove_token(&client.keys.leader(), LIMIT).await?;
    }
    let tail = within(tail, asked.since.map(|since| wall_ms().saturating_sub(since.0)));
    let mut text = String::new();
    if asked.json {
        text = lines(&tail);
    } else if tail.seq == 0 {
        text.push_str("the journal has no entries yet\n");
    } else {
        text.push_str(HEAD);
        text.push_str(&table(&tail));
    }
    if !print(&text)? || !asked.follow {
        return Ok(Exit::Done);
    }
    follow(&client, tail.seq, asked.json).await
}

async fn read(client: &Client, after: u64, most: usize) -> Result<Tail, Failure> {
    Ok(journal::read(&client.store, &client.keys, after, most, LIMIT).await?)
}

/// Until nobody reads what is printed. Consul's silence is told once and waited out.
async fn follow(client: &Client, mut last: u64, as_json: bool) -> Result<Exit, Failure> {
    let mut after = None;
    let mut silent = false;
    loop {
        let tail = match journal::wait(&client.store, &client.keys, after).await {
            Ok(index) => {
                after = index;
                journal::read(&client.store, &client.keys, last, ALL, LIMIT).await
            }
            Err(error) => Err(error),
        };
        match tail {
            Ok(tail) => {
                if std::mem::take(&mut silent) {
                    output::progress("Consul answers again");
                }
                if tail.seq < last {
                    output::progress("the journal begins anew: its keys were deleted or restored");
                }
                last = tail.seq;
                let text = if as_json { lines(&tail) } else { table(&tail) };
                if !print(&text)? {
                    return Ok(Exit::Done);
                }
            }
            Err(error) => {
                after = None;
                if !std::mem::replace(&mut silent, true) {
                    output::progress(format_args!("Consul does not answer: {error}"));
                }
                tokio::time::sleep(AGAIN.to_std()).await;
            }
        }
    }
}

fn within(mut tail: Tail, from: Option<u64>) -> Tail {
    if let Some(from) = from {
        tail.entries.retain(|entry| entry.line.at >= from);
    }
    tail
}

/// `false`: nobody reads any more.
fn print(text: &str) -> Result<bool, Failure> {
    match output::plain(text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure(format!("cannot write the answer: {error}"), Exit::Failed)),
    }
}

const HEAD: &str = "TIME (UTC)               EPOCH  SEQ     NODE         WHAT                WHY\n";

/// Causes before effects: by the time each node's clock told, not by the order of appending.
pub fn table(tail: &Tail) -> String {
    let mut entries: Vec<&Entry> = tail.entries.iter().collect();
    entries.sort_by_key(|entry| (entry.line.at, entry.seq));
    let mut text = String::new();
    for (from, to) in &tail.missing {
        writeln!(text, "-- entries {from} to {to} are missing: somebody removed their keys --")
            .expect("a String");
    }
    for entry in entries {
        let line = &entry.line;
        let (at, node, why) =
            (calendar::precise(line.at), entry.node.as_str(), one_line(&line.text));
        let (epoch, seq, code) = (line.seen, entry.seq, &line.code);
        writeln!(text, "{at:<24} {epoch:<6} {seq:<7} {node:<12} {code:<19} {why}")
            .expect("a String");
        for (name, what) in [("lost_before", "could not be kept"), ("not_noted_before", "repeated")]
        {
            if let Some(count) = line.inputs.get(name) {
                writeln!(text, "{:<73} ({count} before it: {what})", "").expect("a String");
            }
        }
    }
    text
}

/// What a hook said may have line breaks and worse: a terminal obeys control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn lines(tail: &Tail) -> String {
    let mut text = String::new();
    for (from, to) in &tail.missing {
        let gap = json!({"missing": {"from": from, "to": to}});
        writeln!(text, "{gap}").expect("a String");
    }
    for entry in &tail.entries {
        let line = serde_json::to_string(entry).expect("an entry has string keys only");
        writeln!(text, "{line}").expect("a String");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::journal::Line;
    use crate::decide::types::{Epoch, NodeName, RunId};

    fn entry(seq: u64, at: u64, node: &str, seen: u64, code: &str, text: &str) -> Entry {
        let line = Line {
            no: seq,
            at,
            seen: Epoch(seen),
            code: code.into(),
            text: text.into(),
            flip: None,
            inputs: Default::default(),
        };
        let (node, run) = (NodeName::new(node), RunId::new("r"));
        Entry { v: 1, epoch: Epoch(4), seq, node, run, line }
    }

    fn failover() -> Tail {
        let at = 1_764_036_843_120;
        let mut late = entry(44, at - 400, "a", 3, "fence.deadline", "the lease ends in 500 ms");
        late.line.inputs.insert("lost_before".into(), "2".into());
        let entries = vec![
            entry(
                41,
                at,
                "b",
                3,
                "take",
                "takes the lock under epoch 4: the holder's lease was waited out",
            ),
            entry(42, at + 31, "b", 4, "open", "leads under epoch 4"),
            entry(43, at + 207, "b", 4, "promote.done", "this node is the primary"),
            late,
        ];
        Tail { entries, missing: vec![(38, 40)], first: 1, seq: 44 }
    }

    #[test]
    fn the_table_reads_from_cause_to_effect() {
        insta::assert_snapshot!(format!("{HEAD}{}", table(&failover())));
    }

    #[test]
    fn a_line_is_an_entry_or_a_gap() {
        let text = lines(&failover());
        let first = text.lines().next().expect("five lines");
        assert_eq!(first, r#"{"missing":{"from":38,"to":40}}"#);
        let seq = |line| serde_json::from_str::<Entry>(line).expect("an entry").seq;
        assert_eq!(text.lines().skip(1).map(seq).collect::<Vec<_>>(), [41, 42, 43, 44]);
    }

    #[test]
    fn since_is_by_the_time_of_the_decision() {
        let tail = within(failover(), Some(1_764_036_843_130));
        assert_eq!(tail.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [42, 43]);
        assert_eq!(one_line("a\u{1b}[31m\nb"), "a [31m b");
    }
}
