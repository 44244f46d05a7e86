//! A shorter list that breaks the same thing: delta debugging (Zeller, Hildebrandt 2002).

use super::run;
use super::swarm::Plan;

/// Runs that shrinking may take.
const RUNS_MOST: usize = 300;

/// Fewer faults with the same invariant broken.
pub fn shrink(plan: &Plan, broken: &str) -> Plan {
    let faults = fewest(&plan.faults, |faults| {
        let less = Plan { faults: faults.to_vec(), ..plan.clone() };
        run(&less, false).check.broken.is_some_and(|(_, what, _)| what == broken)
    });
    Plan { faults, ..plan.clone() }
}

/// The shortest list found that still breaks it, in the order of `all`, which does.
pub fn fewest<T: Clone>(all: &[T], mut breaks: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let (mut best, mut runs, mut parts) = (all.to_vec(), 0, 2);
    while best.len() > 1 && parts <= best.len() {
        let size = best.len().div_ceil(parts);
        let mut found = None;
        for begin in (0..best.len()).step_by(size) {
            runs += 1;
            if runs > RUNS_MOST {
                return best;
            }
            let mut less = best.clone();
            less.drain(begin..(begin + size).min(best.len()));
            if breaks(&less) {
                found = Some(less);
                break;
            }
        }
        match found {
            Some(less) => {
                best = less;
                parts = 2.max(parts - 1);
            }
            None if parts == best.len() => break,
            None => parts = (parts * 2).min(best.len()),
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_is_left() {
        let all: Vec<u32> = (0..60).collect();
        let needs = |list: &[u32]| [7, 8, 51].iter().all(|it| list.contains(it));
        assert_eq!(fewest(&all, needs), [7, 8, 51]);
        assert_eq!(fewest(&all, |list| list.contains(&3)), [3]);
        assert_eq!(fewest(&all, |list| list.len() == 60), all);
    }
}
