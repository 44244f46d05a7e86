//! What this node would do if the holder of the lock fell silent now: the same verdict as
//! [`Lead::judge`], at the time at which only time was in the way.
//!
//! Nothing else moves meanwhile: that is the supposition. It decides nothing, and its answer is for
//! people.

use super::super::reason::Reason;
use super::super::time::At;
use super::super::types::NodeName;
use super::machine::Lead;
use super::take::{Bar, Case};
use std::collections::BTreeSet;

/// A lease, a promise, a calm after a restore, a preferred successor: each is waited for once.
const WAITS_MOST: usize = 6;

/// It would try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chance {
    /// On what ground; the word is the one of the journal's `case`.
    pub case: &'static str,
    /// From when on, by this node's clock.
    pub from: At,
    /// Whose positions it would ask for.
    pub asks: BTreeSet<NodeName>,
    /// Whether too few answers keep it from taking.
    pub counted: bool,
}

impl Lead {
    /// `barred` stands for what bars this node then, in place of what bars it now.
    pub fn foresee(&self, now: At, barred: Option<Reason>) -> Result<Chance, Reason> {
        let mut then = self.clone();
        if let Some(standing) = &mut then.standing {
            standing.barred = barred;
        }
        let mut at = now.max(self.idle_until);
        for _ in 0..WAITS_MOST {
            match then.judge(at) {
                Ok(case) => return Ok(then.chance(case, at)),
                Err(Bar::Wait { until, .. }) => at = until,
                Err(bar) => return Err(bar.reason(at)),
            }
        }
        Err(Reason::new("take.wait", "waits for more than can be foreseen"))
    }

    fn chance(&self, case: Case, from: At) -> Chance {
        let (asks, counted) = self.whom_to_ask(case).unwrap_or_default();
        Chance { case: case.name(), from, asks, counted }
    }
}
