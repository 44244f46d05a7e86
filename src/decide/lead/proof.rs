//! Until when a term may act, from a list of proofs.
//!
//! Each source says "until then"; the latest holds. A shorter lease cuts them all (rule 5).
//! Who reads the deadline does not know where it comes from.

use super::super::time::{At, Span};
use super::mutant::{self, Mutant};

/// Where a proof comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Source {
    /// A write of `leader` that was applied.
    Renewal,
    /// Every other node that could take has promised not to (rule 15).
    Promises,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Proofs {
    renewal: Option<At>,
    promises: Option<At>,
    /// The shortest lease that may stand in `leader`.
    shortest: Span,
}

impl Proofs {
    pub(super) fn new(source: Source, until: At, lease: Span) -> Proofs {
        let of = |one| (source == one).then_some(until);
        let (renewal, promises) = (of(Source::Renewal), of(Source::Promises));
        Proofs { renewal, promises, shortest: lease }
    }

    /// The moment from which nothing may act on this term.
    pub(super) fn deadline(&self) -> At {
        self.renewal.max(self.promises).unwrap_or_default()
    }

    /// Before a value with `lease` is sent: no proof may outlast what a taker could then read.
    pub(super) fn before_sending(&mut self, sent: At, lease: Span) {
        if lease >= self.shortest || mutant::on(Mutant::M16) {
            return;
        }
        self.shortest = lease;
        for until in self.renewal.iter_mut().chain(&mut self.promises) {
            *until = (*until).min(sent + lease);
        }
    }

    /// A value with `lease`, sent then, is known to stand. It replaces what was known of the lease
    /// before.
    pub(super) fn confirmed(&mut self, sent: At, lease: Span) {
        self.shortest = lease;
        self.renewal = self.renewal.max(Some(sent + lease));
    }

    /// All who could take have promised not to until then.
    pub(super) fn promised(&mut self, until: At) {
        self.promises = self.promises.max(Some(until));
    }

    /// What a promise may count by, asked for now or before.
    pub(super) fn shortest(&self) -> Span {
        self.shortest
    }

    /// Where the deadline comes from.
    pub(super) fn source(&self) -> Source {
        // Of equal ones it is the renewal; none is less than any.
        if self.promises > self.renewal { Source::Promises } else { Source::Renewal }
    }

    #[cfg(test)]
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut At> {
        self.renewal.iter_mut().chain(&mut self.promises)
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

    #[test]
    fn promises_count_beside_renewals_and_a_shorter_lease_cuts_them_too() {
        let mut proofs = Proofs::new(Source::Renewal, At(3_000), Span(3_000));
        proofs.promised(At(4_500));
        assert_eq!((proofs.deadline(), proofs.source()), (At(4_500), Source::Promises));
        proofs.promised(At(4_000));
        assert_eq!(proofs.deadline(), At(4_500), "an older promise takes nothing away");
        proofs.before_sending(At(2_000), Span(1_000));
        assert_eq!((proofs.deadline(), proofs.shortest()), (At(3_000), Span(1_000)));
        proofs.confirmed(At(2_500), Span(1_000));
        assert_eq!((proofs.deadline(), proofs.source()), (At(3_500), Source::Renewal));
    }
}
