//! `store::memory` is like Consul: random scripts run against it and against a real one, and every
//! answer is equal.
//!
//!     cargo test --test consul_differential
//!     LICTOR_DIFFERENTIAL=600 cargo test --test consul_differential     # for ten minutes
//!
//! Not compared, and nothing else:
//!
//! - session ids: drawn at random; one id stands for one id in every answer;
//! - absolute indexes: raft counts entries that no client sees; equality and order are compared,
//!   over the whole run;
//! - when a TTL ends a session: anywhere between once and twice of it; scripts have long ones;
//! - wakes for nothing: a write beside an absent key may wake who waits for it, by the shape of
//!   Consul's tree;
//! - the texts of 4xx other than 409: what a parser says of garbage is the parser's.
//!
//! A divergence is told with the shortest script that still shows it.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

#[path = "../common/mod.rs"]
mod common;

mod dice;
mod rig;
mod script;

use common::consul::Consul;
use dice::Dice;
use rig::Rig;
use script::{Act, script};
use std::time::{Duration, Instant};

/// Of an ordinary run; some thousand acts.
const SCRIPTS: u64 = 400;
const SHRINKS_MOST: usize = 300;

/// Runs one script in a corner of its own. What differed, if something did.
fn run(rig: &mut Rig, acts: &[Act]) -> Result<(), String> {
    rig.begin();
    let result = acts.iter().enumerate().try_for_each(|(at, act)| {
        rig.act(act).map_err(|what| format!("act {at}, {act:?}: {what}"))
    });
    rig.end();
    result
}

/// Drops acts as long as it still differs.
fn shrunk(rig: &mut Rig, acts: &[Act], what: String) -> (Vec<Act>, String) {
    let (mut best, mut what) = (acts.to_vec(), what);
    let (mut tries, mut step) = (0, best.len() / 2);
    while step > 0 {
        let mut at = 0;
        while at < best.len() && tries < SHRINKS_MOST {
            let mut fewer = best.clone();
            fewer.drain(at..(at + step).min(best.len()));
            tries += 1;
            match run(rig, &fewer) {
                Err(why) => (best, what) = (fewer, why),
                Ok(()) => at += step,
            }
        }
        step /= 2;
    }
    (best, what)
}

fn compare(rig: &mut Rig, seed: u64) -> Result<usize, String> {
    let acts = script(&mut Dice::new(seed));
    let Err(what) = run(rig, &acts) else { return Ok(acts.len()) };
    let (acts, what) = shrunk(rig, &acts, what);
    let list: String = acts.iter().map(|act| format!("    {act:?}\n")).collect();
    Err(format!("seed {seed} differs: {what}\nthe shortest script that shows it:\n{list}"))
}

#[test]
fn every_answer_is_equal() {
    let seconds = std::env::var("LICTOR_DIFFERENTIAL").ok().and_then(|text| text.parse().ok());
    let long: Option<Duration> = seconds.map(Duration::from_secs);
    let consul = Consul::one();
    let mut rig = Rig::new(&consul);
    let begun = Instant::now();
    let (mut seed, mut acts) = (1, 0);
    while long.map_or(seed <= SCRIPTS, |long| begun.elapsed() < long) {
        acts += compare(&mut rig, seed).unwrap_or_else(|told| panic!("{told}"));
        seed += 1;
    }
    let took = begun.elapsed();
    println!("{} scripts, {acts} acts, {} answers compared in {took:?}", seed - 1, rig.compared());
    assert!(rig.compared() > 3_000, "{}", rig.compared());
    rig.assert_all_reached();
}

/// A store that keeps LockIndex over a plain write would be told apart, in a few acts.
#[test]
fn a_planted_difference_is_found_and_shrunk() {
    let consul = Consul::one();
    let mut rig = Rig::new(&consul);
    rig.plant();
    let told = (1..200).find_map(|seed| compare(&mut rig, seed).err());
    let told = told.expect("it is found");
    let acts = told.lines().filter(|line| line.starts_with("    ")).count();
    assert!(acts <= 4, "{told}");
    assert!(told.contains("LockIndex"), "{told}");
}
