//! Until when a term may act, from a list of proofs.
//!
//! Each source says "until then"; the latest holds. A shorter lease cuts them all (rule 5).
//! Renewals are the one source today; promises of other members become another without any change
//! to who reads the deadline.

use super::super::time::{At, Span};
use super::mutant::{self, Mutant};
use std::collections::BTreeMap;

/// Where a proof comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Source {
    /// A write of `leader` that was applied.
    Renewal,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Proofs {
    until: BTreeMap<Source, At>,
    /// The shortest lease that may stand in `leader`.
    shortest: Span,
}

impl Proofs {
    pub(super) fn new(source: Source, until: At, lease: Span) -> Proofs {
        Proofs { until: BTreeMap::from([(source, until)]), shortest: lease }
    }

    /// The moment from which nothing may act on this term.
    pub(super) fn deadline(&self) -> At {
        self.until.values().copied().max().unwrap_or_default()
    }

    /// Before a value with `lease` is sent: no proof may outlast what a taker could then read.
    pub(super) fn before_sending(&mut self, sent: At, lease: Span) {
        if lease >= self.shortest || mutant::on(Mutant::M16) {
            return;
        }
        self.shortest = lease;
        for until in self.until.values_mut() {
            *until = (*until).min(sent + lease);
        }
    }

    /// A value with `lease`, sent then, is known to stand. It replaces what was known of the lease
    /// before.
    pub(super) fn confirmed(&mut self, sent: At, lease: Span) {
        self.shortest = lease;
        let until = self.until.entry(Source::Renewal).or_default();
        *until = (*until).max(sent + lease);
    }

    #[cfg(test)]
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut At> {
        self.until.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_only_grows_by_confirmation_and_is_cut_by_a_shorter_lease() {
        let mut proofs = Proofs::new(Source::Renewal, At(3_000), Span(3_000));
        proofs.confirmed(At(1_000), Span(3_000));
        assert_eq!(proofs.deadline(), At(4_000));
        proofs.confirmed(At(500), Span(3_000));
        assert_eq!(proofs.deadline(), At(4_000), "an older proof takes nothing away");
        proofs.before_sending(At(1_500), Span(2_000));
        assert_eq!(proofs.deadline(), At(3_500), "cut before the shorter lease is sent");
        proofs.before_sending(At(2_000), Span(2_000));
        assert_eq!(proofs.deadline(), At(3_500), "a second attempt extends nothing");
        proofs.confirmed(At(2_000), Span(2_000));
        assert_eq!(proofs.deadline(), At(4_000));
    }
}
