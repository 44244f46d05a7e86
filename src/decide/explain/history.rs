//! Why the last change of leader came about, and what was decided since: from the journal alone.
//!
//! A node that is lost tells nothing any more: then the ground of the take-over says what others
//! saw.

use super::super::journal::Entry;
use super::super::time::Span;
use super::super::types::{Epoch, NodeName};
use super::{Facts, Told};
use serde::Serialize;

/// Before the take-over; a lease is 60 s at most.
const CAUSES_WITHIN: Span = Span::secs(120);
const CAUSES_MOST: usize = 12;
const SINCE_MOST: usize = 6;

/// What a term ends by, who was barred meanwhile, and how the next one begins.
const ABOUT: [&str; 18] = [
    "app.",
    "bar.",
    "close.",
    "crash.",
    "demote.",
    "fence.",
    "guard.",
    "hold",
    "lead.",
    "open",
    "pause",
    "promote.",
    "release",
    "resume",
    "stop",
    "switchover.",
    "take",
    "volume.",
];
/// What a term ends by.
const ENDS: [&str; 7] = ["app.", "close.", "crash.slow", "demote.", "fence.", "guard.", "stop"];

/// A decision, by whom and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Noted {
    /// Unix time in milliseconds, by the node's own clock.
    pub at: u64,
    pub node: NodeName,
    #[serde(flatten)]
    pub told: Told,
}

/// The last time that a term began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    pub epoch: Epoch,
    pub node: NodeName,
    /// Who led before; none: nobody, or the journal does not reach so far back.
    pub from: Option<NodeName>,
    pub at: u64,
    /// From the first sign of its cause until the primary was there, in milliseconds.
    pub took_ms: Option<u64>,
    /// One sentence.
    pub why: String,
    /// What was decided on the way.
    pub decisions: Vec<Noted>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Past {
    pub change: Option<Change>,
    /// What bore on the leadership since.
    pub since: Vec<Noted>,
    /// Why the journal could not be read.
    pub unread: Option<String>,
}

pub fn past(facts: &Facts) -> Past {
    let entries = match &facts.journal {
        Ok(entries) => entries,
        Err(why) => return Past { change: None, since: Vec::new(), unread: Some(why.clone()) },
    };
    let mut entries: Vec<&Entry> = entries.iter().filter(|entry| is_about(entry)).collect();
    entries.sort_by_key(|entry| (entry.line.at, entry.seq));
    let opens = || entries.iter().filter(|entry| entry.line.code == "open");
    let Some(open) = opens().max_by_key(|entry| entry.line.seen) else {
        return Past { change: None, since: noted(&entries, SINCE_MOST), unread: None };
    };
    let before = opens().filter(|it| it.line.seen < open.line.seen).max_by_key(|it| it.line.seen);
    let done = entries
        .iter()
        .find(|it| it.line.code == "promote.done" && follows(it, open))
        .map_or(open.line.at, |entry| entry.line.at);
    let from = open.line.at.saturating_sub(CAUSES_WITHIN.0);
    let from = before.map_or(from, |before| from.max(before.line.at + 1));
    let way: Vec<&Entry> = entries
        .iter()
        .filter(|it| (from..=done).contains(&it.line.at))
        .filter(|it| {
            before.is_none_or(|before| !(it.line.code == "promote.done" && follows(it, before)))
        })
        .copied()
        .collect();
    let cause = way.iter().find(|it| starts_with(it, &ENDS));
    let change = Change {
        epoch: open.line.seen,
        node: open.node.clone(),
        from: before.map(|before| before.node.clone()),
        at: open.line.at,
        took_ms: cause.map(|cause| done.saturating_sub(cause.line.at)),
        why: why(open, before.copied(), cause.copied(), &way),
        decisions: noted(&way, CAUSES_MOST),
    };
    let since: Vec<&Entry> = entries.iter().filter(|it| it.line.at > done).copied().collect();
    Past { change: Some(change), since: noted(&since, SINCE_MOST), unread: None }
}

fn follows(entry: &Entry, open: &Entry) -> bool {
    (&entry.node, &entry.run, entry.line.seen) == (&open.node, &open.run, open.line.seen)
}

fn is_about(entry: &Entry) -> bool {
    starts_with(entry, &ABOUT)
}

fn starts_with(entry: &Entry, codes: &[&str]) -> bool {
    codes.iter().any(|code| entry.line.code.starts_with(code))
}

/// The newest, oldest first.
fn noted(entries: &[&Entry], most: usize) -> Vec<Noted> {
    let newest = entries.len().saturating_sub(most);
    entries.iter().skip(newest).map(|entry| Noted::of(entry)).collect()
}

impl Noted {
    pub(super) fn of(entry: &Entry) -> Noted {
        let line = &entry.line;
        let told =
            Told { code: line.code.clone(), text: line.text.clone(), flip: line.flip.clone() };
        Noted { at: line.at, node: entry.node.clone(), told }
    }
}

fn why(open: &Entry, before: Option<&Entry>, cause: Option<&Entry>, way: &[&Entry]) -> String {
    let node = &open.node;
    let ground = way
        .iter()
        .rfind(|it| it.line.code == "take" && it.node == *node)
        .and_then(|take| take.line.inputs.get("case"))
        .map(String::as_str);
    let told = cause.map(|cause| format!(" ({}: {})", cause.node, cause.line.text));
    let told = told.unwrap_or_default();
    let former = before.map_or("the holder", |before| before.node.as_str());
    match ground {
        Some("boot") => format!("{node} was the first of all"),
        Some("again") => format!("{node} took its own term again{told}"),
        Some("clean") => format!("{former} gave the lock back{told}"),
        Some("forced") => format!("an operator ordered {node} to take over{told}"),
        Some("waited") if cause.is_none() => {
            format!("{former} fell silent, and its lease was waited out")
        }
        Some("waited") => format!("{former}'s lease was waited out{told}"),
        Some(_) | None => format!("{node} took the lock{told}"),
    }
}
