//! What a node waits for before it joins or creates, and what becomes of records and registrations
//! that others, or a late answer, changed.

use super::*;

fn needing(requires: &[&str], bootstrap: &[&str]) -> Settings {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let roles = Roles {
        performs: Vec::new(),
        requires: names(requires),
        bootstrap_needs: names(bootstrap),
    };
    Settings { roles, ..settings(SyncMode::Off) }
}

/// An empty node beside the primary `b`.
fn joiner(set: Settings) -> World {
    let mut world = World::new(boot(None, 0), set);
    let keys = world.node.keys().clone();
    world.put(keys.cluster(), &encode(&ClusterValue { v: 1, id: ClusterId::new("id") }));
    world.leads("b", "run-b", 5);
    let term = world.store.get(&keys.term()).expect("there is a term");
    let mut term: TermValue = decode(&term.value).expect("ours");
    term.eligible.retain(|member| member.node.as_str() == "b");
    world.put(keys.term(), &encode(&term));
    world
}

fn put_b(world: &mut World, performs: &[&str], state: &str) {
    let mut b = member("b", Some(ClusterId::new("id")), state, Epoch(5), None);
    b.roles.performs = performs.iter().map(|name| (*name).to_owned()).collect();
    world.put(world.node.keys().member(&"b".into()), &encode(&b));
}

fn pass_at(world: &mut World, service: &str, instances: &[&str]) {
    let all = instances.iter().map(|name| (*name).to_owned()).collect();
    world.passing.insert(service.to_owned(), all);
}

fn waits(world: &World) -> &'static str {
    world.node.explain(At(world.at)).code
}

#[test]
fn nobody_creates_before_what_creation_needs_is_there() {
    let mut world = World::new(boot(None, 0), needing(&["cache"], &["vault", "dns"]));
    pass_at(&mut world, "dns", &["x"]);
    world.pass(8_000);
    assert!(!world.has("marker") && world.node.deadline().is_none(), "{:?}", world.log);
    let reason = world.node.explain(At(world.at));
    assert_eq!(reason.code, "wait.bootstrap-needs");
    assert!(reason.text.contains("service vault"), "{reason}");
    assert!(reason.flip.is_some());
    pass_at(&mut world, "vault", &["y"]);
    // What joining requires is not asked of the creator: a member may be what performs it.
    world.pass(7_000);
    assert_eq!(world.state(), "primary");
}

#[test]
fn a_node_joins_when_what_it_requires_passes_and_stays_when_that_vanishes() {
    let mut world = joiner(needing(&["vault"], &["never"]));
    put_b(&mut world, &[], "primary");
    world.pass(3_000);
    assert_eq!((world.state(), waits(&world)), ("joining", "wait.requires"));
    assert!(!world.has("marker"));
    pass_at(&mut world, "vault", &["v1"]);
    world.pass(2_500);
    assert_eq!(world.state(), "replica");
    assert!(world.node.follow.current().is_some());
    // Admitted meanwhile; the service goes, and another primary is followed all the same.
    world.passing.clear();
    world.leads("b", "run-b", 6);
    world.pass(1_000);
    let done = world.node.follow.current().expect("it follows");
    assert_eq!(done.epoch, Epoch(6));
    assert_ne!(waits(&world), "wait.requires");
}

#[test]
fn a_role_that_a_member_performs_is_as_good_as_a_service_while_the_member_passes() {
    let mut world = joiner(needing(&["control"], &[]));
    put_b(&mut world, &["control"], "primary");
    world.pass(3_000);
    assert_eq!(waits(&world), "wait.requires", "its record may be old");
    pass_at(&mut world, "db", &["b"]);
    put_b(&mut world, &["control"], "failed");
    world.pass(3_000);
    assert_eq!(waits(&world), "wait.requires", "it does not serve");
    put_b(&mut world, &["control"], "primary");
    world.pass(3_000);
    assert_eq!(world.state(), "replica");
}

#[test]
fn consul_that_does_not_say_is_told_and_is_no_yes() {
    let mut world = joiner(needing(&["vault"], &[]));
    put_b(&mut world, &[], "primary");
    world.pass(500);
    let denied = Err(StoreError::Denied("no service:read".into()));
    world.node.needs.answered("vault", denied);
    let reason = world.node.explain(At(world.at));
    assert!(reason.text.contains("no service:read"), "{reason}");
    // What passed is not gone because one answer is missing.
    let passing = Answer::Passing(["v".to_owned()].into());
    world.node.needs.answered("vault", Ok(passing));
    world.node.needs.answered("vault", Err(StoreError::Unknown("late".into())));
    assert_ne!(waits(&world), "wait.requires");
}

/// Nobody asked the node without a record any more, and its silence was not counted.
#[test]
fn a_listed_node_whose_record_was_removed_is_expelled_for_silence() {
    let mut world = pair();
    let key = world.node.keys().member(&"b".into());
    world.store.delete(&key);
    world.pass(9_000);
    assert!(world.is_listed("b"));
    world.pass(2_000);
    assert!(!world.is_listed("b"));
}

/// It was written again after 10 s, as late as its node was expelled.
#[test]
fn the_own_record_is_written_again_when_somebody_removed_it() {
    let mut world = pair();
    let key = world.node.keys().member(&"a".into());
    world.pass(2_000);
    world.store.delete(&key);
    world.pass(200);
    assert!(world.store.get(&key).is_some());
}

/// A `Register` with the tag `primary` that had no answer is applied late, over the next.
#[test]
fn a_registration_that_may_come_late_is_looked_after_soon() {
    let mut world = replica(SyncMode::Off);
    world.pass(2_000);
    let late = Err(StoreError::Unknown("no answer".into()));
    world.node.service.registered(At(world.at), late);
    world.agent_knows = false;
    world.log.clear();
    world.pass(1_100);
    let registered = |world: &World| world.log.iter().filter(|act| *act == "register").count();
    assert_eq!(registered(&world), 1, "again after 1 s");
    world.pass(2_100);
    assert_eq!(registered(&world), 2, "the agent knows something else");
}
