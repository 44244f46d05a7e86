//! A shorter schedule that breaks the same thing: delta debugging (Zeller, Hildebrandt 2002) over
//! the faults.

use super::swarm::Plan;
use super::{Outcome, run};

/// Runs that shrinking may take.
const RUNS_MOST: usize = 300;

/// Fewer faults with the same invariant broken.
pub fn shrink(plan: &Plan, broken: &str) -> Plan {
    let mut best = plan.clone();
    let mut runs = 0;
    let mut parts = 2;
    while best.faults.len() > 1 && parts <= best.faults.len() {
        let size = best.faults.len().div_ceil(parts);
        let mut found = None;
        for begin in (0..best.faults.len()).step_by(size) {
            runs += 1;
            if runs > RUNS_MOST {
                return best;
            }
            let mut less = best.clone();
            less.faults.drain(begin..(begin + size).min(best.faults.len()));
            let outcome: Outcome = run(&less, false);
            if outcome.check.broken.as_ref().is_some_and(|(_, what, _)| *what == broken) {
                found = Some(less);
                break;
            }
        }
        match found {
            Some(less) => {
                best = less;
                parts = 2.max(parts - 1);
            }
            None if parts == best.faults.len() => break,
            None => parts = (parts * 2).min(best.faults.len()),
        }
    }
    best
}
