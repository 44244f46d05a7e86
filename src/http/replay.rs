//! Which numbered requests were seen: each is admitted once.
//!
//! Every sender numbers its requests, and its number is under the MAC together with both run ids. A
//! request is admitted when its number is above all seen from that run, or among the last
//! [`WINDOW`] and not seen yet (requests overtake each other on different connections). No clock
//! takes part, since the clocks of two nodes need not agree.
//!
//! Only authenticated requests get here, so an outsider can't fill the table. It remembers [`RUNS`]
//! runs and forgets the one silent for longest: a captured request of a run that old could be
//! admitted once more, if this process still lives. The request then still names a term that is
//! over, which the core refuses.

use crate::decide::types::{NodeName, RunId};
use std::collections::BTreeMap;

/// How far a request may be overtaken: 16 are in flight at a receiver, the rest is room for a
/// sender's other calls.
pub(super) const WINDOW: u64 = u128::BITS as u64;

/// Runs remembered: a cluster of 1,000 nodes, each restarted once, about 100 bytes each.
pub(super) const RUNS: usize = 2_048;

/// The numbers seen of one run: the highest, and a bit for each of the [`WINDOW`] up to it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    top: u64,
    bits: u128,
    used: u64,
}

/// The table of runs.
#[derive(Debug, Default)]
pub(super) struct Replays {
    runs: BTreeMap<(NodeName, RunId), Seen>,
    clock: u64,
}

impl Replays {
    /// Whether this number of this run is new; it isn't any more afterwards.
    pub(super) fn admit(&mut self, from: &NodeName, run: &RunId, seq: u64) -> bool {
        self.clock += 1;
        let used = self.clock;
        let key = (from.clone(), run.clone());
        if let Some(seen) = self.runs.get_mut(&key) {
            seen.used = used;
            return seen.admit(seq);
        }
        if self.runs.len() >= RUNS {
            self.forget_oldest();
        }
        self.runs.insert(key, Seen { top: seq, bits: 1, used });
        true
    }

    fn forget_oldest(&mut self) {
        let oldest = self.runs.iter().min_by_key(|(_, seen)| seen.used).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.runs.remove(&key);
        }
    }
}

impl Seen {
    fn admit(&mut self, seq: u64) -> bool {
        if seq > self.top {
            let ahead = seq - self.top;
            self.bits = if ahead < WINDOW { self.bits << ahead } else { 0 };
            self.bits |= 1;
            self.top = seq;
            return true;
        }
        let behind = self.top - seq;
        if behind >= WINDOW {
            return false;
        }
        let bit = 1_u128 << behind;
        let new = self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn node() -> (NodeName, RunId) {
        (NodeName::new("a"), RunId::new("r"))
    }

    #[test]
    fn each_number_once_in_any_order_of_the_window() {
        let (from, run) = node();
        let mut table = Replays::default();
        for (seq, fresh) in
            [(5, true), (5, false), (3, true), (132, true), (4, false), (5, false), (132, false)]
        {
            assert_eq!(table.admit(&from, &run, seq), fresh, "{seq}");
        }
        assert!(table.admit(&from, &RunId::new("other"), 5));
        assert!(table.admit(&from, &run, u64::MAX) && !table.admit(&from, &run, u64::MAX));
    }

    #[test]
    fn a_full_table_forgets_the_run_silent_for_longest() {
        let (from, _) = node();
        let mut table = Replays::default();
        for n in 0..RUNS {
            assert!(table.admit(&from, &RunId::new(&n.to_string()), 1));
        }
        assert!(!table.admit(&from, &RunId::new("0"), 1));
        assert!(table.admit(&from, &RunId::new("new"), 1));
        assert_eq!(table.runs.len(), RUNS);
        assert!(!table.admit(&from, &RunId::new("0"), 1), "0 was used last");
        assert!(table.admit(&from, &RunId::new("1"), 1), "1 was the oldest");
    }

    proptest! {
        #[test]
        fn nothing_is_admitted_twice(order in prop::collection::vec(0_u64..400, 1..300)) {
            let (from, run) = node();
            let mut table = Replays::default();
            let mut admitted = BTreeSet::new();
            for seq in order {
                let top = admitted.last().copied().unwrap_or(0);
                let fresh = table.admit(&from, &run, seq);
                prop_assert!(!fresh || admitted.insert(seq), "{seq} twice");
                prop_assert!(fresh || admitted.contains(&seq) || seq + WINDOW <= top);
            }
        }
    }
}
