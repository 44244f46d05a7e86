//! A node's own tail of decisions: what the leader's journal takes from it, or has taken.
//!
//! Bounded in length, and in what one rule that fires again and again may fill of it. A line that
//! falls off before a leader took it is told as missing by the next one's number.

use super::Line;
use super::codes::{self, Class};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;
use std::collections::{BTreeMap, VecDeque};

/// Lines a node keeps: three failovers with all that goes with them.
const KEPT: usize = 64;
/// Of a rule that may fire again and again so many are noted at once, then one in a while.
const BURST: u32 = 4;
const ONE_IN: Span = Span::secs(300);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Bucket {
    left: u32,
    since: At,
    held_back: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    lines: VecDeque<Line>,
    last: u64,
    buckets: BTreeMap<&'static str, Bucket>,
}

impl Notes {
    /// Notes a decision, if it is one for the journal.
    pub fn note(&mut self, now: At, wall: u64, seen: Epoch, reason: &Reason) {
        let repeated = match codes::class(reason.code) {
            Class::Chatter => return,
            Class::Always => 0,
            Class::Sparse => match self.admitted(now, reason.code) {
                Some(repeated) => repeated,
                None => return,
            },
        };
        self.last += 1;
        let mut line = Line::of(self.last, wall, seen, reason);
        if repeated > 0 {
            line.inputs.insert("not_noted_before".into(), repeated.to_string());
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clipped());
    }

    /// How many of this code were held back before; `None`: this one is held back.
    fn admitted(&mut self, now: At, code: &'static str) -> Option<u32> {
        let fresh = Bucket { left: BURST, since: now, held_back: 0 };
        let bucket = self.buckets.entry(code).or_insert(fresh);
        while bucket.left < BURST && now.since(bucket.since) >= ONE_IN {
            bucket.left += 1;
            bucket.since = bucket.since + ONE_IN;
        }
        if bucket.left == 0 {
            bucket.held_back = bucket.held_back.saturating_add(1);
            return None;
        }
        if bucket.left == BURST {
            bucket.since = now;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.held_back))
    }

    /// The number of the last line; 0: none yet.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The lines after this number, oldest first.
    pub fn after(&self, no: u64) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.no > no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(notes: &mut Notes, now: u64, code: &'static str) {
        notes.note(At(now), now, Epoch(1), &Reason::new(code, "because"));
    }

    #[test]
    fn chatter_is_not_noted_and_terms_always_are() {
        let mut notes = Notes::default();
        for round in 0..20 {
            note(&mut notes, round, "take.wait");
            note(&mut notes, round, "promote.done");
        }
        assert_eq!(notes.last(), 20);
        assert!(notes.after(0).all(|line| line.code == "promote.done"));
        assert_eq!(notes.after(18).count(), 2);
    }

    #[test]
    fn what_fires_again_and_again_is_noted_now_and_then_and_counted() {
        let mut notes = Notes::default();
        for round in 0..100 {
            note(&mut notes, round * 1_000, "follow.failed");
        }
        assert_eq!(notes.last(), 4);
        note(&mut notes, 301_000, "follow.failed");
        assert_eq!(notes.last(), 5);
        let last = notes.after(4).next().expect("noted");
        assert_eq!(last.inputs["not_noted_before"], "96");
        // Another rule has its own share.
        note(&mut notes, 301_000, "app.unhealthy");
        assert_eq!(notes.last(), 6);
    }

    #[test]
    fn the_tail_is_bounded_and_its_numbers_show_what_fell_off() {
        let mut notes = Notes::default();
        for round in 0..200 {
            note(&mut notes, round, "open");
        }
        let kept: Vec<u64> = notes.after(0).map(|line| line.no).collect();
        assert_eq!(kept, (137..=200).collect::<Vec<_>>());
    }
}
