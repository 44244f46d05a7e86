//! A node that gives up its data (`reinit`) or itself (`leave`).

use super::actions::{asked, put_request, result_of};
use super::*;
use crate::decide::records::ResultValue;

#[test]
fn a_node_is_off_the_list_before_it_is_told_to_wipe() {
    let mut world = pair();
    for (node, says) in [("a", "a is the primary"), ("zz", "zz is not a member")] {
        let request = asked(&world, "reinit", &[("node", node)]);
        put_request(&mut world, node, &request);
        let result = result_of(&world, node);
        assert_eq!(result.status, RequestStatus::Refused);
        assert!(result.reason.contains(says), "{}", result.reason);
    }
    let request = asked(&world, "reinit", &[("node", "b")]);
    world.put(world.node.keys().request("r1"), &encode(&request));
    world.look();
    let term = world.store.get(&world.node.keys().term()).expect("there");
    world.pass(100);
    let result = world.store.get(&world.node.keys().request_result("r1")).expect("a result");
    assert!(!world.is_listed("b"));
    let unlisted = world.store.get(&world.node.keys().term()).expect("there");
    assert!(term.modify < unlisted.modify && unlisted.modify < result.modify);
    assert_eq!(result_of(&world, "r1").to, Some("b".into()));
    // It follows still, and is not admitted until it is done.
    world.pass(2_000);
    assert!(!world.is_listed("b"));
    let done = ResultValue { status: RequestStatus::Done, ..result_of(&world, "r1") };
    world.put(world.node.keys().request_result("r1"), &encode(&done));
    world.pass(500);
    assert!(world.is_listed("b"));
    let request = asked(&world, "pause", &[]);
    put_request(&mut world, "p1", &request);
    let request = asked(&world, "reinit", &[("node", "b")]);
    put_request(&mut world, "r2", &request);
    assert!(result_of(&world, "r2").reason.contains("the cluster is paused"));
}

/// The word that this node is to do this.
fn told(world: &mut World, verb: &str, by: &str) {
    let request = asked(world, verb, &[("node", "a")]);
    world.put(world.node.keys().request("r1"), &encode(&request));
    let value = ResultValue {
        v: 1,
        status: RequestStatus::Started,
        by: by.into(),
        epoch: world.epoch(),
        to: Some("a".into()),
        reason: "a is off the list".into(),
        force: false,
        at: world.at,
    };
    world.put(world.node.keys().request_result("r1"), &encode(&value));
    world.look();
}

#[test]
fn a_node_marks_wipes_clones_and_says_so() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["bootstrap"];
    told(&mut world, "reinit", "b");
    world.pass(200);
    assert!(world.place("result") < world.place("marker"), "{:?}", world.log);
    assert!(world.place("marker") < world.place("kill"), "{:?}", world.log);
    assert!(world.place("kill") < world.place("wipe"), "{:?}", world.log);
    let result = result_of(&world, "r1");
    assert_eq!(
        (result.status, result.reason.as_str()),
        (RequestStatus::Started, "a is empty and is bootstrapping")
    );
    world.done(Hook::Bootstrap);
    world.held.clear();
    world.pass(1_000);
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Done);
    assert_eq!(result.reason, "a was wiped, cloned again, and follows b");
    world.log.clear();
    world.pass(2_000);
    assert!(!world.has("wipe") && !world.has("kill"), "once: {:?}", world.log);
}

#[test]
fn a_process_that_finds_its_reinit_begun_wipes_nothing_again() {
    let mut world = replica(SyncMode::Off);
    // The write of the beginning was the former process's.
    told(&mut world, "reinit", "a");
    world.pass(200);
    assert!(!world.has("kill"), "{:?}", world.log);
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Failed);
    assert!(result.reason.contains("lictor on a was restarted meanwhile"), "{}", result.reason);
}

#[test]
fn a_replica_that_leaves_ends_with_its_record_removed() {
    let mut world = replica(SyncMode::Off);
    world.pass(1_000);
    let record = world.node.keys().member(&"a".into());
    assert!(world.store.get(&record).is_some());
    told(&mut world, "leave", "b");
    world.pass(1_000);
    assert!(world.place("term") < world.place("exit 0"), "{:?}", world.log);
    assert!(world.store.get(&record).is_none());
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Done);
    assert_eq!(world.log.iter().filter(|act| act.starts_with("exit")).count(), 1);
}

#[test]
fn a_node_that_leaves_without_consul_ends_all_the_same() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["result"];
    told(&mut world, "leave", "b");
    world.pass(7_000);
    assert!(world.has("exit 0"), "{:?}", world.log);
}

#[test]
fn the_last_that_could_lead_leaves_by_force_alone() {
    let mut world = pair();
    let request = asked(&world, "leave", &[("node", "b")]);
    put_request(&mut world, "r1", &request);
    let result = result_of(&world, "r1");
    assert!(result.reason.contains("b is the only node that could take over"), "{}", result.reason);
    let request = asked(&world, "leave", &[("node", "b"), ("force", "true")]);
    put_request(&mut world, "r2", &request);
    world.pass(200);
    assert!(!world.is_listed("b"));
    assert_eq!(result_of(&world, "r2").to, Some("b".into()));
    let mut world = primary(SyncMode::Off);
    let request = asked(&world, "leave", &[("node", "a")]);
    put_request(&mut world, "r1", &request);
    let result = result_of(&world, "r1");
    assert!(result.reason.contains("nobody can take over (there is no other member)"));
    let request = asked(&world, "leave", &[("node", "a"), ("force", "true")]);
    put_request(&mut world, "r2", &request);
    world.pass(2_000);
    assert!(world.is_released() && world.has("exit 0"), "{:?}", world.log);
    assert_eq!(result_of(&world, "r2").status, RequestStatus::Done);
}

#[test]
fn a_primary_hands_over_before_it_leaves() {
    let mut world = pair();
    let request = asked(&world, "leave", &[("node", "a")]);
    put_request(&mut world, "r1", &request);
    world.pass(200);
    assert!(world.is_released(), "{:?}", world.log);
    assert_eq!(world.leader().to, Some("b".into()));
    assert!(!world.log.iter().any(|act| act.starts_with("exit")), "not yet: b takes it off");
    assert_eq!(result_of(&world, "r1").to, Some("b".into()));
    // It does not come: this node leads again and stays.
    world.pass(3_000);
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Failed);
    assert!(result.reason.contains("a leads again"), "{}", result.reason);
    assert_eq!(world.state(), "primary");
}

#[test]
fn the_successor_of_a_leader_that_leaves_stays() {
    let mut world = replica(SyncMode::Off);
    let request = asked(&world, "leave", &[("node", "b")]);
    world.put(world.node.keys().request("r1"), &encode(&request));
    let value = ResultValue {
        v: 1,
        status: RequestStatus::Started,
        by: "b".into(),
        epoch: world.epoch(),
        to: Some("a".into()),
        reason: "b hands over to a before it leaves".into(),
        force: false,
        at: world.at,
    };
    world.put(world.node.keys().request_result("r1"), &encode(&value));
    world.pass(500);
    assert!(!world.has("term"), "{:?}", world.log);
    assert_eq!(world.state(), "replica");
}
