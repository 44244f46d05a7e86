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
//! - the wake of who waits for a key that goes with a tree, where the transaction wrote something
//!   before: Consul 1.8 mostly forgets it, and he sleeps until his wait is over. lictor deletes no
//!   trees, and reads anew after its waits;
//! - of services, node ids and addresses, and outputs in the catalog (see `services`);
//! - the texts of 4xx other than 409: what a parser says of garbage is the parser's.
//!
//! A divergence is told with the shortest script that still shows it.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

#[path = "../common/mod.rs"]
mod common;

mod rig;
mod script;
mod services;

use common::consul::Consul;
use lictor::sim::rng::Rng;
use lictor::sim::shrink::fewest;
use rig::Rig;
use script::{Act, script};
use std::time::{Duration, Instant};

/// Of an ordinary run; some thousand acts.
const SCRIPTS: u64 = 400;

/// Runs one script in a corner of its own. What differed, if something did.
fn run(rig: &mut Rig, acts: &[Act]) -> Result<(), String> {
    rig.begin();
    let result = acts.iter().enumerate().try_for_each(|(at, act)| {
        rig.act(act).map_err(|what| format!("act {at}, {act:?}: {what}"))
    });
    rig.end();
    result
}

/// The number of acts; else what differs, and the shortest script that shows it.
fn compare(rig: &mut Rig, seed: u64) -> Result<usize, String> {
    let acts = script(&mut Rng::new(seed, 0));
    let Err(mut what) = run(rig, &acts) else { return Ok(acts.len()) };
    let fewer = fewest(&acts, |fewer| {
        let differs = run(rig, fewer).err();
        differs.map(|why| what = why).is_some()
    });
    let list: String = fewer.iter().map(|act| format!("    {act:?}\n")).collect();
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
