//! What once went wrong, each with how it showed.

use super::*;

/// `replicate` said that the data differs from a primary that is none any more.
#[test]
fn a_leader_does_not_throw_its_data_away_for_the_former_primary() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["replicate"];
    world.node.follow.reset();
    world.look();
    assert!(world.has("run replicate"));
    world.held.push("peer");
    // b is gone; a takes while its hook still runs.
    let hooks = std::mem::take(&mut world.hooks);
    world.pass(5_000);
    assert!(world.node.deadline().is_some(), "a leads");
    world.hooks = hooks;
    world.end(Hook::Replicate, HookEnd::Exit { code: 3 });
    world.pass(200);
    assert!(!world.has("kill") && !world.has("wipe"), "{:?}", world.log);
    assert_eq!(world.state(), "primary");
}

/// The lock of this node's former process made it start at once and follow itself.
#[test]
fn the_own_former_process_is_no_other_leader() {
    let mut world = World::new(boot(Some("id"), 5), settings(SyncMode::Off));
    let keys = world.node.keys().clone();
    world.put(keys.cluster(), &encode(&ClusterValue { v: 1, id: ClusterId::new("id") }));
    world.leads("a", "run-before", 5);
    world.look();
    assert_eq!(world.state(), "waiting", "{:?}", world.log);
}
