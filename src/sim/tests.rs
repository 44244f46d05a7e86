//! The simulator held against itself: one course for one seed, and seeds that failed once. That it
//! finds faults planted in the product is a step of `tests/run.sh`.

use super::run;
use super::swarm::{Shape, plan};

const SHAPE: Shape = Shape { nodes: None, minutes: 5, restore: false };

#[test]
fn the_same_seed_has_the_same_course() {
    let plan = plan(7, &SHAPE);
    let (first, second) = (run(&plan, false), run(&plan, true));
    assert_eq!(first.trace.hash, second.trace.hash);
    assert!(first.check.written > 1_000 && first.check.terms > 0);
    let other = run(&super::swarm::plan(8, &SHAPE), false);
    assert_ne!(first.trace.hash, other.trace.hash);
}

/// `tests/seeds.txt`: a seed a line, then why it is kept.
#[test]
fn seeds_that_failed_once_are_good_now() {
    let kept = include_str!("../../tests/seeds.txt");
    let lines = kept.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (seed, _why) = line.split_once(' ').expect("a seed, a space, and why");
        let plan = plan(seed.parse().expect("a number"), &SHAPE);
        let broken = run(&plan, false).check.broken;
        assert!(broken.is_none(), "seed {line}: {broken:?}");
    }
}
