//! What the writers saw, as figures: gap, loss and overlap. Pure.
//!
//! Times are milliseconds since the start of the run. An acknowledgement has two: when the write
//! was sent and when it was confirmed; the application was writable somewhere between them.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How long before an event its gap is looked for.
pub const BEFORE_MS: u64 = 1_000;
/// A node that acknowledged nothing for longer had stopped: its next write opens another period.
const PERIOD_BREAK_MS: u64 = 500;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    pub id: u64,
    pub node: usize,
    pub sent_ms: u64,
    pub done_ms: u64,
}

/// Whether commits wait for replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Sync,
    Async,
}

/// One event of one round.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    pub name: &'static str,
    pub mode: Mode,
    pub gap_ms: u64,
    /// From the end of a fault until the next acknowledgement, where that is what is asked.
    pub back_ms: Option<u64>,
    pub acked: usize,
    pub lost: usize,
    pub dual_ms: u64,
}

/// An event of one mode over all rounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    pub name: &'static str,
    pub mode: Mode,
    /// The gap of each round; `gap_ms` is their median.
    pub rounds: Vec<u64>,
    pub gap_min_ms: u64,
    pub gap_ms: u64,
    pub gap_max_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub back_rounds: Vec<u64>,
    pub acked: usize,
    /// Of all rounds together, then of one round.
    pub lost: usize,
    pub lost_min: usize,
    pub lost_median: usize,
    pub lost_max: usize,
    pub dual_min_ms: u64,
    pub dual_median_ms: u64,
    /// The worst.
    pub dual_ms: u64,
}

/// The longest time between two consecutive acknowledgements by any node in `from..=to`. A window
/// without an end to its silence counts to its edge: never coming back is no short gap.
pub fn gap_ms(acks: &[Ack], from: u64, to: u64) -> u64 {
    let mut times: Vec<u64> =
        acks.iter().map(|ack| ack.done_ms).filter(|at| (from..=to).contains(at)).collect();
    times.extend([from, to]);
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

/// The longest overlap of two nodes' acknowledged writes in `from..=to`.
///
/// A node's period lasts from its first confirmation to the sending of its last write: within it
/// the node was writable for certain, however late an answer was read.
pub fn dual_ms(acks: &[Ack], from: u64, to: u64) -> u64 {
    let mut periods: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
    let mut sorted: Vec<&Ack> =
        acks.iter().filter(|ack| ack.done_ms >= from && ack.sent_ms <= to).collect();
    sorted.sort_by_key(|ack| ack.done_ms);
    for ack in sorted {
        let of_node = periods.entry(ack.node).or_default();
        match of_node.last_mut() {
            Some((_, last)) if ack.sent_ms <= last.saturating_add(PERIOD_BREAK_MS) => {
                *last = (*last).max(ack.sent_ms);
            }
            Some(_) | None => of_node.push((ack.done_ms, ack.sent_ms)),
        }
    }
    let all: Vec<(usize, u64, u64)> = periods
        .iter()
        .flat_map(|(node, list)| list.iter().map(|(first, last)| (*node, *first, *last)))
        .collect();
    let overlap =
        |a: &(usize, u64, u64), b: &(usize, u64, u64)| a.2.min(b.2).saturating_sub(a.1.max(b.1));
    all.iter()
        .flat_map(|a| all.iter().filter(|b| a.0 < b.0).map(move |b| overlap(a, b)))
        .max()
        .unwrap_or(0)
}

/// The acknowledged ids that are not there.
pub fn lost(acked: &[Ack], found: &BTreeSet<u64>) -> Vec<u64> {
    acked.iter().map(|ack| ack.id).filter(|id| !found.contains(id)).collect()
}

/// When the first write after `from` was confirmed, counted from there.
pub fn back_ms(acks: &[Ack], from: u64) -> Option<u64> {
    acks.iter().filter(|ack| ack.sent_ms >= from).map(|ack| ack.done_ms - from).min()
}

/// The middle one; of an even number the higher of the two, so that it is one that was measured.
pub fn median<T: Copy + Ord + Default>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn least<T: Copy + Ord + Default>(values: &[T]) -> T {
    values.iter().copied().min().unwrap_or_default()
}

fn most<T: Copy + Ord + Default>(values: &[T]) -> T {
    values.iter().copied().max().unwrap_or_default()
}

/// One line per event name and mode that was measured, in the given order.
pub fn summarize(names: &[&'static str], measured: &[Measured]) -> Vec<Summary> {
    let lines = names.iter().flat_map(|name| [(*name, Mode::Sync), (*name, Mode::Async)]);
    lines.filter_map(|(name, mode)| line(name, mode, measured)).collect()
}

fn line(name: &'static str, mode: Mode, measured: &[Measured]) -> Option<Summary> {
    let of: Vec<&Measured> = measured.iter().filter(|m| m.name == name && m.mode == mode).collect();
    if of.is_empty() {
        return None;
    }
    let rounds: Vec<u64> = of.iter().map(|m| m.gap_ms).collect();
    let lost: Vec<usize> = of.iter().map(|m| m.lost).collect();
    let dual: Vec<u64> = of.iter().map(|m| m.dual_ms).collect();
    Some(Summary {
        name,
        mode,
        gap_min_ms: least(&rounds),
        gap_ms: median(&rounds),
        gap_max_ms: most(&rounds),
        back_rounds: of.iter().filter_map(|m| m.back_ms).collect(),
        acked: of.iter().map(|m| m.acked).sum(),
        lost: lost.iter().sum(),
        lost_min: least(&lost),
        lost_median: median(&lost),
        lost_max: most(&lost),
        dual_min_ms: least(&dual),
        dual_median_ms: median(&dual),
        dual_ms: most(&dual),
        rounds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(id: u64, node: usize, sent_ms: u64, done_ms: u64) -> Ack {
        Ack { id, node, sent_ms, done_ms }
    }

    fn steady(node: usize, from: u64, to: u64) -> Vec<Ack> {
        (from..to).step_by(10).map(|at| ack(at, node, at, at + 2)).collect()
    }

    #[test]
    fn gap_is_the_longest_silence_of_all_nodes_together() {
        let acks = [steady(0, 0, 5_000), steady(1, 5_300, 26_000)].concat();
        assert_eq!(gap_ms(&acks, 4_000, 25_000), 5_302 - 4_992);
    }

    #[test]
    fn gap_counts_a_silence_that_does_not_end() {
        assert_eq!(gap_ms(&steady(0, 0, 5_000), 4_000, 25_000), 25_000 - 4_992);
        assert_eq!(gap_ms(&[], 0, 21_000), 21_000);
    }

    #[test]
    fn gap_outside_the_window_is_another_events() {
        let acks = [steady(0, 0, 1_000), steady(0, 9_000, 40_000)].concat();
        assert!(gap_ms(&acks, 10_000, 31_000) <= 12);
    }

    #[test]
    fn dual_is_zero_for_a_change_of_primary() {
        let acks =
            [steady(0, 0, 5_000), steady(1, 5_000, 9_000), steady(0, 9_300, 12_000)].concat();
        assert_eq!(dual_ms(&acks, 0, 12_000), 0);
    }

    #[test]
    fn dual_is_the_longest_overlap_of_two_nodes() {
        let acks = [steady(0, 0, 5_000), steady(1, 4_000, 9_000), steady(2, 8_900, 9_000)].concat();
        assert_eq!(dual_ms(&acks, 0, 10_000), 4_990 - 4_002);
    }

    #[test]
    fn dual_ignores_an_answer_that_was_read_late() {
        let mut acks = [steady(0, 0, 5_000), steady(1, 5_010, 9_000)].concat();
        acks.push(ack(77, 0, 5_000, 5_600));
        assert_eq!(dual_ms(&acks, 0, 10_000), 0);
    }

    #[test]
    fn dual_sees_a_second_period_of_the_old_primary() {
        let acks =
            [steady(0, 0, 5_000), steady(1, 5_300, 20_000), steady(0, 9_000, 9_500)].concat();
        assert_eq!(dual_ms(&acks, 0, 20_000), 9_490 - 9_002);
    }

    #[test]
    fn lost_names_each_acknowledged_id_that_is_missing() {
        let acks = [ack(1, 0, 0, 1), ack(2, 0, 2, 3), ack(3, 1, 4, 5)];
        assert_eq!(lost(&acks, &BTreeSet::from([1, 3, 9])), [2]);
        assert_eq!(lost(&acks, &BTreeSet::from([1, 2, 3])), [0_u64; 0]);
    }

    #[test]
    fn back_is_the_first_write_that_was_sent_after_the_end_of_the_fault() {
        let acks = [ack(1, 0, 90, 105), ack(2, 0, 110, 112), ack(3, 1, 101, 120)];
        assert_eq!(back_ms(&acks, 100), Some(12));
        assert_eq!(back_ms(&acks, 500), None);
    }

    #[test]
    fn summary_has_least_median_and_most_of_each_mode_that_was_measured() {
        let one = |mode, gap_ms, lost, dual_ms| Measured {
            name: "switchover",
            mode,
            gap_ms,
            back_ms: (gap_ms == 10).then_some(4),
            acked: 5,
            lost,
            dual_ms,
        };
        let (sync, other) = (Mode::Sync, Mode::Async);
        let all =
            [one(sync, 30, 0, 0), one(other, 99, 1, 0), one(sync, 10, 1, 0), one(sync, 20, 0, 7)];
        let lines = summarize(&["app_killed", "switchover"], &all);
        assert_eq!(lines.len(), 2, "nothing is said of what was not measured");
        let s = &lines[0];
        assert_eq!((s.mode, s.gap_min_ms, s.gap_ms, s.gap_max_ms), (sync, 10, 20, 30));
        assert_eq!((s.acked, s.lost, s.lost_min, s.lost_median, s.lost_max), (15, 1, 0, 0, 1));
        assert_eq!((s.dual_min_ms, s.dual_median_ms, s.dual_ms), (0, 0, 7));
        assert_eq!((s.rounds.as_slice(), s.back_rounds.as_slice()), (&[30, 10, 20][..], &[4][..]));
        assert_eq!((lines[1].mode, lines[1].lost), (other, 1));
    }
}
