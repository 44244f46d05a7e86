//! A replica that stops on purpose makes no commit wait.

use super::*;

fn sync_value(world: &World) -> SyncValue {
    let entry = world.store.get(&world.node.keys().sync()).expect("there is a sync set");
    decode(&entry.value).expect("ours")
}

fn put_sync(world: &mut World, members: &[&str], acks: u32) {
    let members = members.iter().map(|name| NodeName::from(*name)).collect();
    let value = SyncValue { v: 1, epoch: Epoch(5), members, acks };
    world.put(world.node.keys().sync(), &encode(&value));
}

/// A replica of `b` whose acknowledgements count.
fn counted() -> World {
    let mut world = replica(SyncMode::On);
    put_sync(&mut world, &["a", "b"], 1);
    world.pass(200);
    world.log.clear();
    world.give(Input::Stop);
    world.pass(500);
    world
}

fn own_state(world: &World) -> String {
    let key = world.node.keys().member(&"a".into());
    let entry = world.store.get(&key).expect("it wrote its record");
    decode::<MemberValue>(&entry.value).expect("ours").state
}

#[test]
fn a_counted_replica_says_that_it_leaves_and_stops_when_it_is_counted_no_more() {
    let mut world = counted();
    assert_eq!((world.state(), own_state(&world).as_str()), ("leaving", "leaving"));
    assert!(!world.has("term"), "it acknowledges still");
    put_sync(&mut world, &["b"], 0);
    world.pass(100);
    assert!(world.has("term") && world.has("exit 0"), "{:?}", world.log);
}

#[test]
fn a_leader_that_does_not_let_go_holds_no_stop_up() {
    let mut world = counted();
    world.pass(2_300);
    assert!(!world.has("term"));
    world.pass(500);
    assert!(world.has("exit 0"), "{:?}", world.log);
}

#[test]
fn who_is_not_counted_or_has_no_leader_stops_at_once() {
    let mut async_mode = replica(SyncMode::Off);
    async_mode.give(Input::Stop);
    assert!(async_mode.has("exit 0"), "{:?}", async_mode.log);
    let mut alone = counted();
    assert_eq!(alone.state(), "leaving");
    let key = alone.node.keys().leader();
    alone.store.delete(&key);
    alone.pass(100);
    assert!(alone.has("exit 0"), "{:?}", alone.log);
}

#[test]
fn the_leader_counts_a_leaving_replica_no_more_at_once() {
    let mut world = primary(SyncMode::On);
    world.member_b();
    world.pass(2_000);
    assert!(sync_value(&world).members.contains(&"b".into()), "{:?}", sync_value(&world));
    let key = world.node.keys().member(&"b".into());
    let record = world.store.get(&key).expect("a record");
    let mut record: MemberValue = decode(&record.value).expect("ours");
    record.state = "leaving".into();
    world.put(key, &encode(&record));
    world.pass(100);
    let alone = [NodeName::from("a")].into();
    assert_eq!(sync_value(&world).members, alone);
    assert!(world.is_listed("b"), "it comes back");
}
