//! The journal: what was decided, by whom and from what, kept in KV for people.
//!
//! ```text
//!   a decision -> Notes (a bounded tail in each node) -> the leader's Writer -> journal/head
//!                 (a leader asks the members for theirs: `/peer/journal`)      + <epoch>-<seq>
//! ```
//!
//! Only the holder of the lock appends: one transaction of `check-session` on the lock, `cas` of
//! the head, the entries, and the removal of the oldest. The head says how far each node's notes
//! have got in, so an entry is appended once whatever the outcome of a write is: after a lost
//! answer, and after a change of the leader. Nothing decides by the journal. It must not carry a
//! secret, and must not be trusted with more than telling.

pub mod codes;
pub mod head;
pub mod notes;
pub mod read;
pub mod writer;

pub use head::Head;
pub use notes::Notes;
pub use writer::Writer;

use super::call;
use super::keys::Keys;
use super::reason::Reason;
use super::records::decode;
use super::types::{Epoch, NodeName, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one entry may hold: 31 of them must fit in a transaction of 512 KiB with room to spare.
const TEXT_MOST: usize = 600;
const INPUT_MOST: usize = 200;
const INPUTS_MOST: usize = 12;

/// One decision as its node noted it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Counts this process's notes from 1.
    pub no: u64,
    /// Unix time in milliseconds, by the node's own clock.
    pub at: u64,
    /// The highest term the node knew when it decided.
    pub seen: Epoch,
    /// The rule.
    pub code: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<String>,
    /// What decided, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

impl Line {
    /// Within the bounds of an entry, whoever wrote it.
    fn clipped(mut self) -> Line {
        clip(&mut self.code, INPUT_MOST);
        clip(&mut self.text, TEXT_MOST);
        if let Some(flip) = &mut self.flip {
            clip(flip, TEXT_MOST);
        }
        while self.inputs.len() > INPUTS_MOST {
            self.inputs.pop_last();
        }
        self.inputs.values_mut().for_each(|value| clip(value, INPUT_MOST));
        self.inputs.retain(|name, _| name.len() <= INPUT_MOST);
        self
    }

    fn of(no: u64, at: u64, seen: Epoch, reason: &Reason) -> Line {
        let inputs = reason.inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Line {
            no,
            at,
            seen,
            code: reason.code.to_owned(),
            text: reason.text.clone(),
            flip: reason.flip.clone(),
            inputs: inputs.collect(),
        }
    }
}

/// Cuts at a character's border and shows that something is missing.
fn clip(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let cut = (0..=most - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(cut.unwrap_or(0));
    text.push('…');
}

/// `journal/<epoch>-<seq>`: a line with its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub v: u32,
    /// The term under which it was appended.
    pub epoch: Epoch,
    /// Grows by one over all terms.
    pub seq: u64,
    pub node: NodeName,
    pub run: RunId,
    #[serde(flatten)]
    pub line: Line,
}

impl Entry {
    /// What lies under an entry's key; none when it is garbage, or another place's.
    pub(crate) fn under(keys: &Keys, found: &call::Entry) -> Option<Entry> {
        let entry = decode::<Entry>(&found.value)?;
        (keys.journal_entry(entry.epoch, entry.seq) == found.key).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        let mut text = "ä".repeat(400);
        clip(&mut text, TEXT_MOST);
        assert!(text.len() <= TEXT_MOST && text.ends_with('…'), "{}", text.len());
        let mut short = "ä".to_owned();
        clip(&mut short, TEXT_MOST);
        assert_eq!(short, "ä");
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let reason = Reason::new("take", "takes").flip("nothing").with("case", "waited");
        let line = Line::of(7, 1_700_000_000_000, Epoch(3), &reason);
        let (node, run) = (NodeName::new("a"), RunId::new("r"));
        let entry = Entry { v: 1, epoch: Epoch(4), seq: 12, node, run, line };
        let text = serde_json::to_string(&entry).expect("plain");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("ours"), entry);
        let newer = text.replace("\"v\":1", "\"v\":1,\"later\":true");
        assert_eq!(serde_json::from_str::<Entry>(&newer).expect("unknown is ignored"), entry);
    }

    #[test]
    fn an_entry_under_another_place_is_none() {
        use super::super::types::{ClusterName, Index};
        let keys = Keys::new(&ClusterName::new("c"));
        let line = Line::of(7, 1, Epoch(3), &Reason::new("take", "takes"));
        let (node, run) = (NodeName::new("a"), RunId::new("r"));
        let entry = Entry { v: 1, epoch: Epoch(4), seq: 12, node, run, line };
        let at = |key| call::Entry {
            key,
            value: serde_json::to_vec(&entry).expect("plain"),
            modify: Index(1),
            session: None,
        };
        let own = at(keys.journal_entry(Epoch(4), 12));
        assert_eq!(Entry::under(&keys, &own).as_ref(), Some(&entry));
        for place in [keys.journal_entry(Epoch(4), 13), keys.journal_head()] {
            assert_eq!(Entry::under(&keys, &at(place)), None);
        }
        let garbage = call::Entry { value: b"{".to_vec(), ..own };
        assert_eq!(Entry::under(&keys, &garbage), None);
    }
}
