//! What once went wrong, each with how it showed.

use super::*;
use crate::decide::records::RequestValue;

/// The lock was won while the data turned out to be another's: it was renewed for ever by a
/// node with an empty disk.
#[test]
fn a_lock_won_by_a_node_that_cannot_use_it_is_given_back() {
    let mut world = primary(SyncMode::Off);
    world.member_b();
    world.pass(500);
    world.node.app = None;
    world.node.state = State::Joining;
    world.node.disk.data = false;
    world.pass(200);
    assert!(world.is_released());
}

/// The same for one whose volume failed.
#[test]
fn a_lock_won_by_a_failed_node_is_given_back() {
    let mut world = pair();
    world.node.app = None;
    world.node.state = State::Failed { reason: Reason::new("volume.failed", "") };
    world.pass(200);
    assert!(world.is_released());
}

/// A kill that does not end (a process in uninterruptible sleep) kept the lock for ever.
#[test]
fn a_leader_whose_tree_does_not_die_lets_its_lease_run_out() {
    let mut world = pair();
    std::sync::Arc::make_mut(&mut world.node.set).on_crash = OnCrash::Restart;
    world.held = vec!["kill"];
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.pass(200);
    assert!(world.node.deadline().is_some(), "restarted in place");
    world.pass(5_000);
    assert!(world.node.deadline().is_none());
    assert!(!world.is_released(), "what is left of the tree may still write");
}

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

/// The first term ended before `state/cluster` was written; the second never wrote it.
#[test]
fn the_cluster_is_written_in_a_later_term_if_the_first_one_could_not() {
    let mut world = first(SyncMode::Off);
    world.held = vec!["cluster"];
    world.pass(1_000);
    assert!(world.has("cluster"));
    world.held.push("store");
    world.pass(4_000);
    world.held.clear();
    world.log.clear();
    world.pass(12_000);
    assert!(world.has("cluster"), "{:?}", world.log);
    assert_eq!(world.state(), "primary");
}

/// A hook's volume failed while the tree was dying: the lock went back before it was gone.
#[test]
fn a_volume_that_fails_while_the_tree_dies_does_not_hasten_the_release() {
    let mut world = pair();
    world.held = vec!["kill"];
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.give(Input::VolumeFailed { what: "full".into() });
    world.give(Input::Stop);
    world.pass(200);
    assert!(!world.is_released() && !world.has("exit 1"), "{:?}", world.log);
    world.give(Input::TreeGone);
    assert!(world.is_released() && world.has("exit 1"), "{:?}", world.log);
}

/// The signal came during the kill and was forgotten after it.
#[test]
fn asked_to_stop_during_the_last_kill_of_a_failed_node_it_ends() {
    let mut world = pair();
    world.held = vec!["kill"];
    world.give(Input::VolumeFailed { what: "full".into() });
    world.give(Input::Stop);
    world.give(Input::TreeGone);
    assert!(world.has("exit 1"), "{:?}", world.log);
}

/// A health check that was due and could not run woke the process in a circle.
#[test]
fn a_stopping_application_is_waited_for_asleep() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["term"];
    world.give(Input::Stop);
    world.pass(5_000);
    assert_eq!(world.state(), "stopping");
    assert!(world.node.wake() > At(world.at));
}

/// A time that came between the last step and the question was taken for done.
#[test]
fn a_time_that_came_since_the_last_step_is_not_slept_through() {
    let mut world = primary(SyncMode::Off);
    world.held = vec!["store"];
    let deadline = world.node.deadline().expect("it leads");
    world.at = deadline.0 - 501;
    world.give(Input::Tick);
    assert!(world.node.wake() <= deadline - Span(500));
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

/// The guard's kill of a former application arrived while its successor data was being made.
#[test]
fn a_guard_that_fired_does_not_start_half_made_data() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["bootstrap", "replicate"];
    world.node.follow.reset();
    world.look();
    world.end(Hook::Replicate, HookEnd::Exit { code: 3 });
    assert_eq!(world.state(), "bootstrapping");
    world.log.clear();
    world.give(Input::GuardFired);
    world.pass(200);
    assert!(!world.has("run pre-start"), "{:?}", world.log);
}

/// Asked to stop, with an heir that is too slow: nobody took for a whole lease.
#[test]
fn a_leaving_primary_releases_even_if_its_heir_did_not_catch_up() {
    let mut world = pair();
    world.held = vec!["peer", "term"];
    world.node.peers.forget_orders();
    world.give(Input::Stop);
    world.pass(3_000);
    assert!(world.is_released(), "{:?}", world.log);
}

/// The lock was lost before the cluster was written, and another node created one.
#[test]
pub(super) fn data_created_in_vain_is_wiped() {
    let mut world = first(SyncMode::Off);
    world.held = vec!["cluster"];
    world.pass(1_000);
    assert!(world.has("cluster"));
    let key = world.node.keys().cluster();
    world.put(key, &encode(&ClusterValue { v: 1, id: ClusterId::new("theirs") }));
    world.leads("b", "run-b", 5);
    world.pass(500);
    assert!(world.place("kill") < world.place("wipe"), "{:?}", world.log);
    assert_eq!(world.state(), "joining");
}

/// Fenced, its application demoted and never stopped, it waited for the answer of a member that was
/// frozen: nobody could write, though nothing could be missing here.
#[test]
fn a_fenced_primary_whose_application_ran_on_takes_again_without_the_others_answers() {
    let mut world = primary(SyncMode::On);
    world.member_b();
    world.pass(1_500);
    let counted = |world: &World| world.node.sync_seen().is_some_and(|it| it.members.len() == 2);
    assert!(counted(&world), "{:?}", world.node.sync_seen());
    world.held = vec!["store"];
    world.pass(3_000);
    assert_eq!(world.state(), "replica");
    world.held = vec!["peer"];
    world.pass(5_000);
    assert_eq!(world.state(), "primary", "{:?}", world.node.reasons.back());

    // The same after a start, which may have cut what only b has acknowledged.
    world.held.clear();
    world.member_b();
    world.pass(1_500);
    assert!(counted(&world), "{:?}", world.node.sync_seen());
    world.held = vec!["store", "demote"];
    world.pass(3_000);
    world.held = vec!["peer"];
    world.end(Hook::Demote, HookEnd::Exit { code: 4 });
    world.pass(9_000);
    assert_ne!(world.state(), "primary");
}

/// The last answer of a replica dated from its start, and a switchover to it was refused.
#[test]
fn a_health_told_while_starting_is_not_that_of_the_replica() {
    for (what, released) in [("starting", true), ("ill", false)] {
        let mut world = primary(SyncMode::Off);
        world.held = vec![what];
        world.member_b();
        // Asked each second.
        world.pass(1_500);
        assert!(world.is_listed("b"));
        let request = RequestValue {
            v: 1,
            verb: "switchover".into(),
            args: [("to".to_owned(), "b".to_owned())].into(),
            by: "op".into(),
            epoch: world.epoch(),
            expires: u64::MAX,
        };
        world.put(world.node.keys().request("r1"), &encode(&request));
        world.pass(200);
        assert_eq!(world.is_released(), released, "{what}");
    }
}
