//! What was seen of `leader`, `state/term` and `state/sync`, and the timer that runs since (rule
//! 10).
//!
//! The timer starts at the first receipt of the current pair of ModifyIndexes, whatever changed and
//! however it was read. An older answer that arrives late changes nothing; a key whose index went
//! back under our eyes was restored, and then nothing is taken at once for a maximum lease. Nothing
//! here decides.

use super::super::call::Entry;
use super::super::records::{self, Follows, LeaderValue, SyncValue, TermValue};
use super::super::time::{At, Span};
use super::super::types::{Epoch, Index, NodeName, RunId, SessionId};
use super::Seen;
use super::mutant::{self, Mutant};
use serde::de::DeserializeOwned;

/// `(1 + rho) / (1 - rho)` with rho 1 % a clock is 1.0203: the wait that covers a lease on another
/// node's clock.
pub(super) fn wait_for(lease: Span) -> Span {
    let percent = if mutant::on(Mutant::M12) { 101 } else { 103 };
    lease.scaled_up(percent, 100)
}

/// A key's content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Body<T> {
    Absent,
    Garbage,
    Value(T),
}

impl<T> Body<T> {
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Body::Value(value) => Some(value),
            Body::Absent | Body::Garbage => None,
        }
    }
}

/// A key as it was last seen. Index 0: absent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Slot<T> {
    pub(super) index: Index,
    pub(super) session: Option<SessionId>,
    pub(super) body: Body<T>,
}

impl<T: DeserializeOwned> Slot<T> {
    fn of(entry: Option<&Entry>) -> Slot<T> {
        match entry {
            None => Slot { index: Index(0), session: None, body: Body::Absent },
            Some(entry) => Slot {
                index: entry.modify,
                session: entry.session.clone(),
                body: records::decode(&entry.value).map_or(Body::Garbage, Body::Value),
            },
        }
    }
}

/// How an entry came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Watch(Seen),
    /// A consistent read, and the key's index known when it was sent: an index below that one went
    /// back.
    Fresh(Index),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    None,
    New,
    WentBack,
}

fn change(known: Index, seen: Index, how: How) -> Change {
    match how {
        How::Watch(Seen::Early) => Change::WentBack,
        How::Fresh(asked) if seen < known && seen < asked && seen != Index(0) => Change::WentBack,
        How::Watch(Seen::Read) | How::Fresh(_) => {
            if seen > known || seen == Index(0) && known != Index(0) {
                Change::New
            } else {
                Change::None
            }
        }
    }
}

/// Consecutive epochs of one run of one node: nobody else led in between, so what followed the
/// first follows the last.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Lineage {
    node: NodeName,
    run: RunId,
    from: Epoch,
    to: Epoch,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct View {
    pub(super) leader: Option<Slot<LeaderValue>>,
    pub(super) term: Option<Slot<TermValue>>,
    pub(super) sync: Slot<SyncValue>,
    /// Whether `state/cluster` was ever seen. It is written once; nobody acts on its absence
    /// afterwards.
    pub(super) cluster: bool,
    /// First receipt of the current (leader, term) indexes.
    pub(super) since: At,
    /// Nothing is taken at once before this: a key went back.
    pub(super) calm_until: Option<At>,
    /// Since when `leader` and `state/term` are both absent.
    pub(super) empty_since: Option<At>,
    lineage: Option<Lineage>,
}

impl View {
    pub(super) fn new(now: At) -> View {
        let since = if mutant::on(Mutant::M14) { At(0) } else { now };
        let sync = Slot { index: Index(0), session: None, body: Body::Absent };
        View {
            leader: None,
            term: None,
            sync,
            cluster: false,
            since,
            calm_until: None,
            empty_since: None,
            lineage: None,
        }
    }

    pub(super) fn leader_index(&self) -> Index {
        self.leader.as_ref().map_or(Index(0), |slot| slot.index)
    }

    pub(super) fn term_index(&self) -> Index {
        self.term.as_ref().map_or(Index(0), |slot| slot.index)
    }

    pub(super) fn term_value(&self) -> Option<&TermValue> {
        self.term.as_ref().and_then(|slot| slot.body.value())
    }

    pub(super) fn leader_value(&self) -> Option<&LeaderValue> {
        self.leader.as_ref().and_then(|slot| slot.body.value())
    }

    /// The sync set of the current term: one of an older epoch says nothing of what this term
    /// acknowledged.
    pub(super) fn sync_in_force(&self) -> Option<&SyncValue> {
        let epoch = self.term_value()?.epoch;
        let value = self.sync.body.value()?;
        (value.epoch == epoch || mutant::on(Mutant::M30)).then_some(value)
    }

    /// The highest epoch anything shows.
    pub(super) fn highest_epoch(&self) -> Epoch {
        let term = self.term_value().map_or(Epoch::NONE, |term| term.epoch);
        let value = self.leader_value().map_or(Epoch::NONE, |value| value.epoch);
        term.max(value)
    }

    pub(super) fn see_leader(&mut self, now: At, entry: Option<&Entry>, how: How, calm: Span) {
        let seen = entry.map_or(Index(0), |entry| entry.modify);
        let first = self.leader.is_none();
        let change = change(self.leader_index(), seen, how);
        if first || change != Change::None {
            let slot = Slot::of(entry);
            let news = self.is_news(&slot) || self.term.is_none();
            self.leader = Some(slot);
            self.restarted(now, change, calm, news && !(first && mutant::on(Mutant::M14)));
        }
    }

    pub(super) fn see_term(&mut self, now: At, entry: Option<&Entry>, how: How, calm: Span) {
        let seen = entry.map_or(Index(0), |entry| entry.modify);
        let first = self.term.is_none();
        let change = change(self.term_index(), seen, how);
        if first || change != Change::None {
            self.term = Some(Slot::of(entry));
            self.note_lineage();
            self.restarted(now, change, calm, !(first && mutant::on(Mutant::M14)));
        }
    }

    pub(super) fn see_sync(&mut self, entry: Option<&Entry>, how: How) {
        let seen = entry.map_or(Index(0), |entry| entry.modify);
        if change(self.sync.index, seen, how) != Change::None {
            self.sync = Slot::of(entry);
        }
    }

    fn is_news(&self, slot: &Slot<LeaderValue>) -> bool {
        if !mutant::on(Mutant::M19) {
            return true;
        }
        match (self.leader_value(), slot.body.value()) {
            (Some(known), Some(seen)) => {
                (known.epoch, &known.run, known.n) != (seen.epoch, &seen.run, seen.n)
            }
            (Some(_) | None, _) => true,
        }
    }

    fn restarted(&mut self, now: At, change: Change, calm: Span, news: bool) {
        if news {
            self.since = now;
        }
        if change == Change::WentBack {
            self.calm_until = Some(now + calm);
        }
        let (Some(leader), Some(term)) = (&self.leader, &self.term) else { return };
        if leader.body == Body::Absent && term.body == Body::Absent {
            self.empty_since.get_or_insert(now);
        } else {
            self.empty_since = None;
        }
    }

    fn note_lineage(&mut self) {
        let Some(term) = self.term.as_ref().and_then(|slot| slot.body.value()) else { return };
        let next = match self.lineage.take() {
            Some(known)
                if known.node == term.node
                    && known.run == term.run
                    && (term.epoch == known.to || term.epoch == known.to.next()) =>
            {
                Lineage { to: term.epoch, ..known }
            }
            Some(_) | None => Lineage {
                node: term.node.clone(),
                run: term.run.clone(),
                from: term.epoch,
                to: term.epoch,
            },
        };
        self.lineage = Some(next);
    }

    /// Whether a `replicate` done for that term is one for the current term (rule 18).
    pub(super) fn follows_current(&self, follows: &Follows) -> bool {
        self.lineage.as_ref().is_some_and(|line| {
            line.node == follows.node
                && line.run == follows.run
                && line.from <= follows.epoch
                && follows.epoch <= line.to
        })
    }

    #[cfg(test)]
    pub(super) fn indexes(&mut self) -> impl Iterator<Item = &mut Index> {
        let leader = self.leader.as_mut().map(|slot| &mut slot.index);
        let term = self.term.as_mut().map(|slot| &mut slot.index);
        leader.into_iter().chain(term).chain([&mut self.sync.index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_covers_the_lease_on_the_worst_pair_of_clocks() {
        for lease in [2_000_u64, 3_000, 3_001, 30_000] {
            // The holder's clock runs 1 % slow, the taker's 1 % fast: in true time, scaled by
            // 10,000.
            let holder = lease * 10_000 * 100 / 99;
            let taker = wait_for(Span(lease)).0 * 10_000 * 100 / 101;
            assert!(taker >= holder, "lease {lease}: taker {taker}, holder {holder}");
        }
    }

    #[test]
    fn an_older_answer_changes_nothing_and_a_step_back_is_told() {
        let read = How::Watch(Seen::Read);
        assert_eq!(change(Index(7), Index(5), read), Change::None);
        assert_eq!(change(Index(7), Index(7), How::Fresh(Index(7))), Change::None);
        assert_eq!(change(Index(7), Index(5), How::Fresh(Index(4))), Change::None);
        assert_eq!(change(Index(7), Index(5), How::Fresh(Index(7))), Change::WentBack);
        assert_eq!(change(Index(7), Index(7), How::Watch(Seen::Early)), Change::WentBack);
        assert_eq!(change(Index(7), Index(0), read), Change::New);
        assert_eq!(change(Index(7), Index(8), read), Change::New);
    }
}
