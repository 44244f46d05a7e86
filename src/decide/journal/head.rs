//! `journal/head`: which numbers are kept, under which epochs, and how far each node's notes got.
//!
//! From it every kept entry's key is known without a listing. Invariant: `spans` grow in number,
//! and the numbers from the first span's to `seq` are those kept.

use super::{Entry, Line};
use crate::decide::records::Extra;
use crate::decide::types::{Epoch, NUMBER_MAX, NodeName, RunId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Terms kept at the most, so that the head stays small: 20 bytes each.
pub const EPOCHS_MOST: usize = 256;

/// Entries that a head may say are kept: twice what can be set, for what is still to be removed. A
/// head that claims more is garbage, which would be compacted for ever.
const COUNT_MOST: u64 = 2 * 10_000;

/// How far a node's notes got in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heard {
    pub run: RunId,
    pub no: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Head {
    pub v: u32,
    /// The last entry's number; 0: there was none yet.
    pub seq: u64,
    /// An epoch, and the first number kept of it; oldest first.
    pub spans: Vec<(Epoch, u64)>,
    pub heard: BTreeMap<NodeName, Heard>,
    #[serde(flatten)]
    pub extra: Extra,
}

impl Head {
    /// Of a journal without entries.
    pub fn empty() -> Head {
        Head { v: 1, ..Head::default() }
    }

    /// Whether its numbers hold together; one that does not is made anew from the entries.
    pub fn is_sound(&self) -> bool {
        let rising = self.spans.windows(2).all(|pair| pair[0].1 < pair[1].1);
        let within = self.spans.iter().all(|(_, first)| *first >= 1 && *first <= self.seq);
        // Last: `count` is a number only where these hold.
        self.seq <= NUMBER_MAX && rising && within && self.count() <= COUNT_MOST
    }

    /// The oldest number kept; the next one to come when there is none.
    pub fn first(&self) -> u64 {
        self.spans.first().map_or(self.seq + 1, |(_, first)| *first)
    }

    pub fn count(&self) -> u64 {
        self.seq + 1 - self.first()
    }

    /// Under which epoch a kept number was appended: the other half of its key.
    pub fn epoch_of(&self, seq: u64) -> Option<Epoch> {
        if seq > self.seq {
            return None;
        }
        self.spans.iter().rev().find(|(_, first)| *first <= seq).map(|(epoch, _)| *epoch)
    }

    /// The kept places from `from` on.
    pub fn places(&self, from: u64) -> impl Iterator<Item = (Epoch, u64)> + '_ {
        let numbers = from.max(self.first())..=self.seq;
        numbers.filter_map(|seq| Some((self.epoch_of(seq)?, seq)))
    }

    /// How far this run's notes got in.
    pub fn heard_of(&self, node: &NodeName, run: &RunId) -> u64 {
        self.heard.get(node).filter(|heard| heard.run == *run).map_or(0, |heard| heard.no)
    }

    /// Gives a line the next number under `epoch`.
    pub fn append(&mut self, epoch: Epoch, node: NodeName, run: RunId, line: Line) -> Entry {
        self.seq += 1;
        if self.spans.last().is_none_or(|(last, _)| *last != epoch) {
            self.spans.push((epoch, self.seq));
        }
        self.heard.insert(node.clone(), Heard { run: run.clone(), no: line.no });
        Entry { v: 1, epoch, seq: self.seq, node, run, line }
    }

    /// Forgets the oldest until no more than `keep` entries of [`EPOCHS_MOST`] epochs are left, at
    /// most `most` of them: whose keys are to be removed together with this head's write.
    pub fn compact(&mut self, keep: u64, most: usize) -> Vec<(Epoch, u64)> {
        let mut gone = Vec::new();
        while gone.len() < most && (self.count() > keep || self.spans.len() > EPOCHS_MOST) {
            let Some((epoch, first)) = self.spans.first().copied() else { break };
            gone.push((epoch, first));
            let next = first + 1;
            let ends = self.spans.get(1).map_or(self.seq < next, |(_, second)| *second == next);
            if ends {
                self.spans.remove(0);
            } else {
                self.spans[0].1 = next;
            }
        }
        gone
    }

    /// Whether [`Head::compact`] would remove something.
    pub fn is_over(&self, keep: u64) -> bool {
        self.count() > keep || self.spans.len() > EPOCHS_MOST
    }

    /// Nodes that are no members any more are not heard again.
    pub fn forget_others(&mut self, members: &BTreeSet<NodeName>) {
        self.heard.retain(|node, _| members.contains(node));
    }

    /// After the head was lost or is garbage: from the entries that are there. What does not fit
    /// in (a number that does not rise with its epoch, or is far from the others) stays as it lies
    /// and is not counted.
    pub fn rebuilt(mut entries: Vec<Entry>) -> Head {
        entries.sort_by_key(|entry| (entry.epoch, entry.seq));
        let mut head = Head::empty();
        for entry in entries {
            let begins = head.spans.is_empty();
            let far = !begins && entry.seq.saturating_sub(head.first()) >= COUNT_MOST;
            if entry.seq <= head.seq || entry.seq > NUMBER_MAX || far {
                continue;
            }
            head.seq = entry.seq;
            if head.spans.last().is_none_or(|(last, _)| *last != entry.epoch) {
                head.spans.push((entry.epoch, entry.seq));
            }
            let heard = Heard { run: entry.run, no: entry.line.no };
            head.heard.insert(entry.node, heard);
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(no: u64) -> Line {
        Line {
            no,
            at: no,
            seen: Epoch(1),
            code: "c".into(),
            text: "t".into(),
            flip: None,
            inputs: BTreeMap::new(),
        }
    }

    fn add(head: &mut Head, epoch: u64) -> Entry {
        let no = head.seq + 1;
        head.append(Epoch(epoch), NodeName::new("a"), RunId::new("r"), line(no))
    }

    #[test]
    fn numbers_rise_over_terms_and_keys_are_known() {
        let mut head = Head::empty();
        assert_eq!((head.first(), head.count(), head.epoch_of(1)), (1, 0, None));
        for epoch in [1, 1, 2, 4, 4] {
            add(&mut head, epoch);
        }
        let places: Vec<_> = head.places(0).map(|(epoch, seq)| (epoch.0, seq)).collect();
        assert_eq!(places, [(1, 1), (1, 2), (2, 3), (4, 4), (4, 5)]);
        assert_eq!(head.places(4).count(), 2);
        assert_eq!(head.epoch_of(6), None);
    }

    #[test]
    fn garbage_is_unsound_and_never_an_overflow() {
        let head = |seq, spans: &[(u64, u64)]| Head {
            seq,
            spans: spans.iter().map(|(epoch, first)| (Epoch(*epoch), *first)).collect(),
            ..Head::empty()
        };
        assert!(Head::empty().is_sound() && head(9, &[(1, 1), (2, 5)]).is_sound());
        for (seq, spans) in [
            (u64::MAX, &[][..]),
            (u64::MAX, &[(1, 1)]),
            (u64::MAX, &[(1, u64::MAX)]),
            (3, &[(1, 7)]),
            (3, &[(1, 0)]),
            (9, &[(2, 5), (1, 1)]),
            (1 << 40, &[(1, 1)]),
        ] {
            assert!(!head(seq, spans).is_sound(), "{seq} {spans:?}");
        }
        let entry = |seq| Entry {
            v: 1,
            epoch: Epoch(1),
            seq,
            node: NodeName::new("a"),
            run: RunId::new("r"),
            line: line(1),
        };
        let built = Head::rebuilt([1, 2, 3, 1 << 40, u64::MAX].map(entry).to_vec());
        assert_eq!((built.seq, built.is_sound()), (3, true));
    }

    #[test]
    fn so_many_terms_are_kept_at_the_most() {
        let mut head = Head::empty();
        for epoch in 1..=EPOCHS_MOST as u64 + 3 {
            add(&mut head, epoch);
            add(&mut head, epoch);
        }
        let gone = head.compact(10_000, 1_000);
        assert_eq!(gone.len(), 6, "three terms of two entries");
        assert_eq!(head.spans.len(), EPOCHS_MOST);
        assert_eq!(head.first(), 7);
    }

    proptest! {
        /// Against a plain list: compaction removes the oldest and nothing else, never one that is
        /// to be kept, and what is left is what the head says.
        #[test]
        fn compaction_removes_the_oldest_alone(
            epochs in proptest::collection::vec(0_u64..3, 0..120),
            keeps in proptest::collection::vec((1_u64..40, 0_usize..20), 1..12),
        ) {
            let mut head = Head::empty();
            let mut kept: Vec<(Epoch, u64)> = Vec::new();
            let mut epoch = 1;
            for step in epochs {
                epoch += step;
                let entry = add(&mut head, epoch);
                kept.push((entry.epoch, entry.seq));
            }
            for (keep, most) in keeps {
                let before = kept.len();
                let gone = head.compact(keep, most);
                prop_assert!(gone.len() <= most);
                prop_assert_eq!(&gone[..], &kept[..gone.len()]);
                kept.drain(..gone.len());
                let over = before.saturating_sub(keep as usize);
                prop_assert_eq!(gone.len(), over.min(most));
                let places: Vec<_> = head.places(0).collect();
                prop_assert_eq!(&places, &kept);
                prop_assert_eq!(head.count() as usize, kept.len());
                prop_assert!(head.is_sound());
            }
        }

        /// From the entries alone the same head comes out.
        #[test]
        fn a_lost_head_is_made_anew(epochs in proptest::collection::vec(0_u64..3, 0..60)) {
            let mut head = Head::empty();
            let mut entries = Vec::new();
            let mut epoch = 1;
            for step in epochs {
                epoch += step;
                entries.push(add(&mut head, epoch));
            }
            let gone = head.compact(25, 100);
            entries.retain(|entry| !gone.contains(&(entry.epoch, entry.seq)));
            entries.reverse();
            prop_assert_eq!(Head::rebuilt(entries), head);
        }
    }
}
