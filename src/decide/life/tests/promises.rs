//! Consul is silent: what goes on by promises, what ends it, and whom a giver believes.

use super::*;
use serde_json::Value;

fn of(hold: bool, sync: SyncMode) -> World {
    let mut set = settings(sync);
    set.lead.hold = hold;
    let mut world = World::new(boot(None, 0), set);
    world.look();
    world.pass(4_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    world.member_b();
    world.pass(500);
    assert!(world.is_listed("b"));
    world.log.clear();
    world
}

/// A primary with the listed replica `b`, and a silent Consul.
fn cut_off() -> World {
    let mut world = of(true, SyncMode::Off);
    world.held = vec!["store"];
    world
}

fn status(world: &World) -> Value {
    world.node.snapshot(At(world.at)).status
}

fn asks(id: u64, (from, run): (&str, &str), epoch: u64, says: &str) -> Input {
    let ask = Ask::Promise {
        epoch: Epoch(epoch),
        run: RunId::new(says),
        round: 70 + id,
        lease: Span(LEASE),
    };
    Input::PeerAsked { id: OpId(1 << 50 | id), from: from.into(), from_run: RunId::new(run), ask }
}

#[test]
fn a_primary_goes_on_and_nothing_of_it_stops_but_what_needs_consul() {
    let mut world = cut_off();
    world.pass(30_000);
    assert_eq!(world.state(), "primary");
    assert!(!world.has("run demote") && !world.has("kill"), "{:?}", world.log);
    assert!(world.has("run health"));
    let told = status(&world);
    assert_eq!(told["leadership"]["lease_source"], "promises");
    assert_eq!(told["leadership"]["promises"][0]["node"], "b");
    assert_eq!(told["waits_for"]["code"], "hold");
    world.held.clear();
    world.pass(1_000);
    assert_eq!(status(&world)["leadership"]["lease_source"], "renewals");
    assert!(world.is_listed("b"), "who answers is not expelled");
    assert_eq!(world.epoch(), Epoch(1));
}

/// The session ended meanwhile: the same application goes on under a new epoch.
#[test]
fn a_session_that_ended_meanwhile_is_replaced_with_no_hook() {
    let mut world = cut_off();
    world.pass(10_000);
    let keys = world.node.keys().clone();
    let session = world.store.get(&keys.leader()).and_then(|entry| entry.session).expect("held");
    world.store.end_session(&session);
    world.held.clear();
    world.log.clear();
    world.pass(1_000);
    assert_eq!((world.state(), world.epoch()), ("primary", Epoch(2)));
    assert!(!world.log.iter().any(|act| act == "run demote" || act == "run promote"));
    assert_eq!(world.leader().epoch, Epoch(2));
}

#[test]
fn with_a_member_missing_it_is_fenced_in_time_and_says_whose_answer_it_lacked() {
    let mut world = cut_off();
    world.pass(5_000);
    world.held.push("peer");
    let before = world.at;
    world.pass(4_000);
    let fenced = world.place("run demote");
    assert!(fenced < world.log.len() && world.at - before == 4_000);
    assert!(world.node.deadline().is_none());
    let reasons = status(&world)["reasons"].as_array().cloned().unwrap_or_default();
    let why = reasons.iter().find(|reason| reason["code"] == "hold.unanswered");
    let why = why.unwrap_or_else(|| panic!("{reasons:?}"));
    assert!(why["text"].as_str().is_some_and(|text| text.contains('b')), "{why}");
    assert_eq!(why["flip"], "its answer or Consul's, before the deadline");
    // Both are back: it releases, and whoever may takes.
    world.held.clear();
    world.pass(500);
    assert!(world.node.deadline().is_some() || world.is_released());
}

/// By its name alone another volume would answer for it.
#[test]
fn a_member_is_asked_by_its_disk_and_at_its_last_known_place() {
    let mut world = of(true, SyncMode::Off);
    world.node.members.clear();
    world.node.promises = Default::default();
    world.held = vec!["store"];
    world.pass(5_000);
    assert!(world.node.deadline().is_none(), "no place is known");

    let mut world = of(true, SyncMode::Off);
    let key = world.node.keys().member(&"b".into());
    world.store.delete(&key);
    world.pass(100);
    assert!(!world.node.members.contains_key(&NodeName::from("b")));
    world.held = vec!["store"];
    world.pass(10_000);
    assert!(world.node.deadline().is_some(), "its record is gone, its place is not");

    let mut world = of(true, SyncMode::Off);
    let mut other = member("b", world.node.cluster_id(), "replica", world.epoch(), None);
    other.disk = DiskId::new("fresh");
    let key = world.node.keys().member(&"b".into());
    world.put(key, &encode(&other));
    world.pass(100);
    world.held = vec!["store"];
    world.pass(5_000);
    assert!(world.node.deadline().is_none(), "the listed disk gave no word");
}

#[test]
fn fence_is_what_it_was() {
    let mut world = of(false, SyncMode::Off);
    world.held = vec!["store"];
    world.pass(4_000);
    assert!(world.has("run demote"));
    assert!(world.node.deadline().is_none());
}

/// Nobody else can take, and a released lock would reach nobody.
#[test]
fn a_crash_meanwhile_is_restarted_in_place() {
    let mut world = cut_off();
    world.pass(3_000);
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.pass(2_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    assert!(world.has("start") && world.has("run promote"));
    // With Consul there, another takes.
    let mut world = of(true, SyncMode::Off);
    std::sync::Arc::make_mut(&mut world.node.set).on_crash = OnCrash::Failover;
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.pass(100);
    assert!(world.is_released());
}

#[test]
fn only_the_leader_of_the_term_is_promised_anything() {
    let mut world = replica(SyncMode::Off);
    for (id, who, epoch, says) in [
        (1, ("b", "former"), 5, "former"),
        (2, ("b", "run-b"), 4, "run-b"),
        (3, ("b", "run-b"), 6, "run-b"),
        (4, ("c", "run-b"), 5, "run-b"),
        (5, ("b", "former"), 5, "run-b"),
        (6, ("b", "run-b"), 5, "former"),
    ] {
        world.answers.clear();
        world.give(asks(id, who, epoch, says));
        assert!(matches!(world.answers[..], [Told::Denied { .. }]), "{id}: {:?}", world.answers);
        assert_eq!(status(&world)["promised"], Value::Null, "{id}");
    }
    world.answers.clear();
    world.give(asks(7, ("b", "run-b"), 5, "run-b"));
    assert_eq!(world.answers, [Told::Promised { round: 77 }]);
    assert_eq!(status(&world)["promised"]["epoch"], 5);
    assert_eq!(status(&world)["promised"]["left_ms"], 3_090);
}

/// b's lock stands still from here on; a's own patience is a lease, its word another.
#[test]
fn a_giver_keeps_its_word_and_then_takes() {
    let mut world = replica(SyncMode::Off);
    world.pass(2_500);
    world.give(asks(1, ("b", "run-b"), 5, "run-b"));
    world.pass(3_000);
    assert_eq!(world.state(), "replica");
    assert_eq!(world.epoch(), Epoch(5));
    world.pass(3_000);
    assert_eq!(world.epoch(), Epoch(6), "{:?}", status(&world)["waits_for"]);
}

/// It said that nobody leads, and the leader then did what was asked for: two answers.
#[test]
fn whoever_gave_its_word_to_a_leader_does_not_answer_as_if_nobody_led() {
    let mut world = replica(SyncMode::Off);
    let request = super::actions::asked(&world, "switchover", &[]);
    let result = world.node.keys().request_result("r1");
    world.pass(2_500);
    world.give(asks(1, ("b", "run-b"), 5, "run-b"));
    // A lease later b's lock looks waited out, and b leads by promises.
    world.pass(1_000);
    super::actions::put_request(&mut world, "r1", &request);
    world.pass(1_000);
    assert!(world.store.get(&result).is_none(), "{:?}", world.log);
    world.pass(4_000);
    assert_eq!(world.epoch(), Epoch(6));
    assert!(world.store.get(&result).is_some(), "the word is kept, and a new leader answers");
}
