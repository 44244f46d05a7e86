//! Applications that run and do not do their work, and volumes that are full.

use super::*;

/// The other node's lease goes on.
fn renews(world: &mut World) {
    let mut value = world.leader();
    if value.node != *world.node.me() {
        value.n += 1;
        world.put(world.node.keys().leader(), &encode(&value));
    }
}

/// Fails every health check that is under way or begins, while time passes.
fn sick(world: &mut World, ms: u64, how: &HookEnd) {
    world.held.push("health");
    for _ in 0..ms / 50 {
        renews(world);
        world.pass(50);
        while world.hooks.iter().any(|(_, hook)| *hook == Hook::Health) {
            world.end(Hook::Health, how.clone());
        }
    }
    world.held.retain(|what| *what != "health");
}

const FAILS: HookEnd = HookEnd::Exit { code: 1 };
const UNABLE: HookEnd = HookEnd::Exit { code: 4 };

fn said(world: &World, code: &str) -> usize {
    world.node.reasons.iter().filter(|(_, reason)| reason.code == code).count()
}

#[test]
fn a_hung_primary_is_ended_and_another_takes_but_not_before_hung_after() {
    let mut world = pair();
    sick(&mut world, 9_000, &FAILS);
    assert!(!world.has("kill"), "{:?}", world.log);
    sick(&mut world, 2_000, &HookEnd::Timeout);
    assert!(world.has("kill") && !world.has("run demote"), "{:?}", world.log);
    assert!(world.is_released());
    assert_eq!(said(&world, "app.hung"), 1);
}

#[test]
fn one_good_check_begins_the_count_anew() {
    let mut world = pair();
    sick(&mut world, 9_000, &FAILS);
    world.pass(2_000);
    sick(&mut world, 9_000, &FAILS);
    assert!(!world.has("kill"), "{:?}", world.log);
}

#[test]
fn a_hung_primary_alone_is_started_again_in_place_under_its_lease() {
    let mut world = primary(SyncMode::Off);
    let epoch = world.epoch();
    sick(&mut world, 11_000, &FAILS);
    world.pass(1_000);
    assert!(world.place("kill") < world.place("run pre-start"), "{:?}", world.log);
    assert_eq!((world.state(), world.epoch()), ("primary", epoch));
}

#[test]
fn with_restart_it_is_started_in_place_once_and_handed_over_the_second_time() {
    let mut world = pair();
    std::sync::Arc::make_mut(&mut world.node.set).on_crash = OnCrash::Restart;
    sick(&mut world, 11_000, &FAILS);
    world.pass(1_000);
    assert!(!world.is_released() && world.state() == "primary", "{:?}", world.log);
    sick(&mut world, 11_000, &FAILS);
    assert!(world.is_released());
}

#[test]
fn a_hung_replica_is_started_again() {
    let mut world = replica(SyncMode::Off);
    sick(&mut world, 11_000, &FAILS);
    world.pass(500);
    assert!(world.place("kill") < world.place("run pre-start"), "{:?}", world.log);
    assert_eq!(world.state(), "replica");
}

#[test]
fn hung_after_zero_and_a_hook_that_cannot_start_end_nothing() {
    let mut world = pair();
    std::sync::Arc::make_mut(&mut world.node.set).hung_after = Span::ZERO;
    sick(&mut world, 30_000, &FAILS);
    assert!(!world.has("kill"));
    let mut other = pair();
    sick(&mut other, 30_000, &HookEnd::NotStarted { why: "no memory".into() });
    assert!(!other.has("kill"));
}

#[test]
fn a_primary_that_says_it_is_unable_hands_over_as_planned_after_two_checks() {
    let mut world = pair();
    sick(&mut world, 3_500, &UNABLE);
    assert!(world.has("run demote") && !world.has("kill"), "{:?}", world.log);
    assert!(world.is_released());
    assert_eq!(world.leader().to, Some("b".into()));
}

#[test]
fn where_nobody_is_fit_an_unable_primary_stays_and_says_so_once() {
    let mut world = pair();
    world.held = vec!["ill"];
    world.pass(1_500);
    sick(&mut world, 30_000, &UNABLE);
    assert!(!world.has("run demote") && !world.has("kill"), "{:?}", world.log);
    assert_eq!(said(&world, "app.unable"), 1);
}

/// A full disk made a replica fail for good at the next change of the primary.
#[test]
fn a_floor_that_is_not_durable_is_tried_again_and_the_replica_lives_on() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["floor"];
    world.leads("b", "run-b2", 6);
    world.pass(2_500);
    renews(&mut world);
    assert!(!world.has("kill") && world.state() == "replica", "{:?}", world.log);
    assert_eq!(said(&world, "volume.floor"), 1);
    world.held.clear();
    world.pass(1_500);
    assert_eq!(world.node.disk.floor, Epoch(6));
}

/// Written once and lost to a full disk, it made a replica that was started anew no candidate.
#[test]
fn whom_it_follows_is_written_again_until_the_disk_has_room() {
    let mut world = replica(SyncMode::Off);
    let before = world.followed;
    world.give(Input::FollowsFailed { what: "no space".into() });
    assert_eq!(said(&world, "volume.follows"), 1);
    world.pass(1_100);
    assert_eq!(world.followed, before + 1, "{:?}", world.log);
    world.give(Input::FollowsFailed { what: "no space".into() });
    assert_eq!(said(&world, "volume.follows"), 1, "once, not each second");
    world.pass(5_000);
    assert_eq!(world.followed, before + 2);
}
