//! Reading the journal: which keys hold the newest entries, and what is missing among them.

use super::{Entry, Head};
use crate::decide::call::{self, Call, Verb};
use crate::decide::keys::Keys;
use crate::decide::records::decode;
use crate::decide::types::Epoch;
use std::collections::BTreeMap;

/// Consul takes 64 operations in a transaction; one reads the head again.
const KEYS_MOST: usize = 63;

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// In the order of their numbers.
    pub entries: Vec<Entry>,
    /// Numbers that should be there and are not, from and to: someone removed them by hand.
    pub missing: Vec<(u64, u64)>,
    /// The oldest number kept, and the last one given.
    pub first: u64,
    pub seq: u64,
}

/// The reads that bring the newest `most` entries after number `after`.
pub struct Plan {
    places: Vec<(Epoch, u64)>,
    pub calls: Vec<Call>,
}

impl Plan {
    pub fn new(keys: &Keys, head: &Head, after: u64, most: usize) -> Plan {
        let newest = (head.seq + 1).saturating_sub(most as u64);
        let places: Vec<_> = head.places(newest.max(after.saturating_add(1))).collect();
        let read = |some: &[(Epoch, u64)]| {
            let entries = some.iter().map(|(epoch, seq)| keys.journal_entry(*epoch, *seq));
            let all = std::iter::once(keys.journal_head()).chain(entries);
            Call::Txn(all.map(Verb::GetTree).collect())
        };
        let calls = places.chunks(KEYS_MOST).map(read).collect();
        Plan { places, calls }
    }

    /// Makes of the answers what is there. The head is read with every part: what was compacted
    /// meanwhile is no gap.
    pub fn gather(self, keys: &Keys, head: &Head, answers: &[call::Entry]) -> Tail {
        let heads = answers.iter().filter(|entry| entry.key == keys.journal_head());
        let first = heads
            .filter_map(|entry| decode::<Head>(&entry.value).filter(Head::is_sound))
            .map(|head| head.first())
            .fold(head.first(), u64::max);
        let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
        for answer in answers {
            if let Some(entry) = Entry::under(keys, answer) {
                found.insert(entry.seq, entry);
            }
        }
        let mut missing: Vec<(u64, u64)> = Vec::new();
        for (_, seq) in self.places {
            if seq < first || found.contains_key(&seq) {
                continue;
            }
            match missing.last_mut() {
                Some((_, to)) if *to + 1 == seq => *to = seq,
                Some(_) | None => missing.push((seq, seq)),
            }
        }
        Tail { entries: found.into_values().collect(), missing, first, seq: head.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;
    use crate::decide::records::encode;
    use crate::decide::types::{ClusterName, Index, NodeName, RunId};

    fn keys() -> Keys {
        Keys::new(&ClusterName::new("c"))
    }

    fn journal(epochs: &[u64]) -> (Head, Vec<call::Entry>) {
        let mut head = Head::empty();
        let mut kv = Vec::new();
        for (no, epoch) in epochs.iter().enumerate() {
            let line = Line {
                no: no as u64 + 1,
                at: 0,
                seen: Epoch(*epoch),
                code: "open".into(),
                text: String::new(),
                flip: None,
                inputs: BTreeMap::new(),
            };
            let entry = head.append(Epoch(*epoch), NodeName::new("a"), RunId::new("r"), line);
            let key = keys().journal_entry(entry.epoch, entry.seq);
            let value = encode(&entry);
            kv.push(call::Entry { key, value, modify: Index(1), session: None });
        }
        (head, kv)
    }

    #[test]
    fn the_newest_are_asked_for_by_their_keys() {
        let (head, kv) = journal(&[1; 100]);
        let plan = Plan::new(&keys(), &head, 0, 70);
        let sizes: Vec<usize> = plan
            .calls
            .iter()
            .map(|call| match call {
                Call::Txn(verbs) => verbs.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [64, 8]);
        let tail = plan.gather(&keys(), &head, &kv[30..]);
        assert_eq!(
            tail.entries.iter().map(|e| e.seq).collect::<Vec<_>>(),
            (31..=100).collect::<Vec<_>>()
        );
        assert!(tail.missing.is_empty());
        assert!(Plan::new(&keys(), &head, 100, 70).calls.is_empty(), "nothing new");
    }

    #[test]
    fn a_gap_is_told_and_what_was_compacted_is_none() {
        let (head, mut kv) = journal(&[1, 1, 2, 2, 2, 3]);
        kv.drain(3..5);
        let tail = Plan::new(&keys(), &head, 0, 50).gather(&keys(), &head, &kv);
        assert_eq!(tail.missing, [(4, 5)]);
        let mut later = head.clone();
        later.compact(1, 50);
        let value = encode(&later);
        let key = keys().journal_head();
        kv.push(call::Entry { key, value, modify: Index(2), session: None });
        let tail = Plan::new(&keys(), &head, 0, 50).gather(&keys(), &head, &kv);
        assert!(tail.missing.is_empty(), "{:?}", tail.missing);
        assert_eq!(tail.first, 6);
    }
}
