//! Creating a cluster from a backup.

use super::*;
use crate::decide::backup::RestoreValue;

fn wish() -> RestoreValue {
    RestoreValue { v: 1, id: BackupId::new("1"), manifest: "sum".into(), by: "op".into(), at: 1 }
}

#[test]
fn a_cluster_is_created_from_the_backup_that_is_wished() {
    let mut world = World::new(boot(None, 0), settings(SyncMode::Off));
    let key = world.node.keys().restore();
    world.put(key.clone(), &encode(&wish()));
    world.held = vec!["bootstrap"];
    world.look();
    world.pass(4_000);
    assert!(world.place("shelf Find") < world.place("shelf Check"), "{:?}", world.log);
    assert!(world.place("marker") < world.place("shelf Check"), "{:?}", world.log);
    assert!(world.place("shelf Check") < world.place("run bootstrap"), "{:?}", world.log);
    world.held.clear();
    world.done(Hook::Bootstrap);
    world.pass(4_000);
    assert_eq!(world.state(), "primary");
    assert_eq!(world.node.cluster_id(), Some(ClusterId::new("fresh")), "a new cluster");
    assert!(world.store.get(&key).is_none(), "it is not carried out a second time");
}

#[test]
fn whoever_does_not_find_the_backup_does_not_create() {
    let mut world = World::new(boot(None, 0), settings(SyncMode::Off));
    world.put(world.node.keys().restore(), &encode(&wish()));
    world.corrupt = Some("there is no backup at /b/1".into());
    world.look();
    world.doze(20_000);
    assert!(world.store.get(&world.node.keys().leader()).is_none(), "the lock is not taken");
    let waits = world.node.lead.explain(At(world.at));
    assert!(waits.text.contains("there is no backup at /b/1"), "{waits}");
    let looks = world.count("shelf Find");
    assert!((3..=6).contains(&looks), "now and then: {looks}");
    // It is copied there.
    world.corrupt = None;
    world.doze(15_000);
    assert_eq!(world.state(), "primary");
}

#[test]
fn a_backup_that_is_not_whole_is_not_restored() {
    let mut world = World::new(boot(None, 0), settings(SyncMode::Off));
    world.put(world.node.keys().restore(), &encode(&wish()));
    world.held = vec!["shelf"];
    world.look();
    for _ in 0..200 {
        world.pass(50);
        if world.has("marker") {
            break;
        }
    }
    world.held.clear();
    let check = world.later.pop();
    let Some(Input::BackupActed { id, .. }) = check else { panic!("{check:?}") };
    let what = BackupDone::Corrupt("t.ibd was changed".into());
    world.give(Input::BackupActed { id, result: Ok(what) });
    assert!(world.has("wipe") && !world.has("run bootstrap"), "{:?}", world.log);
    let said = |(_, it): &(u64, Reason)| it.text.contains("t.ibd was changed");
    assert!(world.node.reasons.iter().any(said));
}

#[test]
fn a_wish_has_no_effect_where_the_cluster_exists() {
    let mut world = pair();
    let key = world.node.keys().restore();
    world.put(key.clone(), &encode(&wish()));
    world.pass(6_000);
    assert_eq!(world.state(), "primary");
    assert!(world.store.get(&key).is_none());
    assert!(!world.has("wipe") && !world.has("shelf Find"), "{:?}", world.log);
}
