//! Who lets others lead: after a failure as leader, and with data that is too old.

use super::*;
use crate::decide::explain::Would;

fn fail(world: &mut World) {
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.pass(500);
}

/// A primary whose application died and who handed over; nobody has taken.
fn handed_over(change: impl FnOnce(&mut Settings)) -> World {
    let mut world = pair();
    change(std::sync::Arc::make_mut(&mut world.node.set));
    fail(&mut world);
    assert!(world.is_released(), "{:?}", world.log);
    world
}

/// How long until it leads again by itself.
fn absent_ms(world: &mut World) -> u64 {
    let begun = world.at;
    while world.node.deadline().is_none() {
        world.pass(50);
        assert!(world.at < begun + 30_000, "{:?}", world.node.explain(At(world.at)));
    }
    world.at - begun
}

#[test]
fn a_node_that_failed_as_leader_lets_others_go_first_and_says_until_when() {
    let mut world = handed_over(|_| {});
    // Its own successor wait would hide the hold-down.
    world.node.state = State::Replica;
    world.node.health.ok = true;
    world.look();
    let reason = world.node.explain(At(world.at));
    assert_eq!(reason.code, "bar.hold-down", "{reason}");
    assert!(reason.text.contains("more: it lost its term"), "{reason}");
    let shown = world.node.snapshot(At(world.at)).status;
    assert!(shown["hold_down"]["left_ms"].as_u64().is_some_and(|left| left > 9_000), "{shown}");
    let record = world.store.get(&world.node.keys().member(&"a".into())).expect("written");
    let record: MemberValue = decode(&record.value).expect("ours");
    assert!(record.held_until.is_some());
}

#[test]
fn the_only_candidate_is_not_held_down() {
    // No other is listed.
    let mut world = primary(SyncMode::Off);
    std::sync::Arc::make_mut(&mut world.node.set).on_crash = OnCrash::Restart;
    std::sync::Arc::make_mut(&mut world.node.set).restart_max = 0;
    let epoch = world.epoch();
    fail(&mut world);
    assert!(absent_ms(&mut world) < 2_000);
    assert!(world.epoch() > epoch, "a new term, for the old one failed");
    // Listed, and barred by the configuration.
    let mut barred = handed_over(|_| {});
    let mut b = member("b", barred.node.cluster_id(), "replica", Epoch(1), None);
    b.no_failover = true;
    barred.put(barred.node.keys().member(&"b".into()), &encode(&b));
    barred.node.state = State::Replica;
    barred.node.health.ok = true;
    assert!(absent_ms(&mut barred) < 2_000);
}

#[test]
fn where_all_failed_lately_nobody_waits_for_another() {
    // `c` is neither the leader that is replaced nor held down, then it is.
    for (until, waits) in [(None, true), (Some(1), true), (Some(u64::MAX), false)] {
        let mut world = handed_over(|_| {});
        let (keys, id) = (world.node.keys().clone(), world.node.cluster_id());
        let mut c = member("b", id, "replica", Epoch(1), None);
        c.held_until = until;
        world.put(keys.member(&"b".into()), &encode(&c));
        world.node.state = State::Replica;
        world.node.health.ok = true;
        world.held = vec!["peer"];
        let took = absent_ms(&mut world);
        assert_eq!(took > 3_000, waits, "{until:?}: {took} ms");
        assert!(waits || took < 2_000, "{until:?}: {took} ms");
    }
}

#[test]
fn a_lock_that_no_other_takes_is_taken_in_spite_of_the_hold_down() {
    let mut world = handed_over(|set| set.hold_down = Span::secs(60));
    world.held = vec!["peer"];
    // It waits two leases for a successor before it starts, and so long others had it.
    let took = absent_ms(&mut world);
    assert!((6_000..9_500).contains(&took), "{took} ms");
    world.pass(500);
    assert_eq!(world.state(), "primary");
    assert!(world.node.hold_json(At(world.at)).is_null(), "over once it leads");
}

#[test]
fn a_switchover_to_a_held_node_is_no_business_of_the_hold_down() {
    let mut world = handed_over(|_| {});
    world.node.state = State::Replica;
    world.node.health.ok = true;
    let key = world.node.keys().leader();
    let value = LeaderValue { to: Some("a".into()), ..world.leader() };
    world.put(key, &encode(&value));
    assert!(absent_ms(&mut world) < 2_000);
}

#[test]
fn each_failure_within_the_window_doubles_the_hold_down_up_to_its_longest() {
    let mut world = pair();
    let why = Reason::new("test", "test");
    let mut lengths = Vec::new();
    for epoch in 0..7 {
        // Another term each time; one term fails once.
        for _ in 0..2 {
            let (at, set) = (At(world.at), world.node.set.clone());
            world.node.hold.again(at, Epoch(epoch), &why, &set);
        }
        let left = world.node.hold_json(At(world.at))["left_ms"].as_u64();
        lengths.push(left.expect("it is held") / 1_000);
        world.at += 1_000;
    }
    assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);
    world.at += 600_000;
    let (at, set) = (At(world.at), world.node.set.clone());
    world.node.hold.again(at, Epoch(9), &why, &set);
    assert_eq!(world.node.hold_json(at)["left_ms"], 10_000, "the window is over");
}

#[test]
fn zero_holds_nobody_down() {
    let world = handed_over(|set| set.hold_down = Span::ZERO);
    assert!(world.node.hold_json(At(world.at)).is_null());
}

/// A replica of `b` that lags so much, then `b` is gone.
fn lagging(sync: SyncMode, lag: &str, most: Option<Span>) -> World {
    let mut world = World::new(boot(Some("id"), 5), settings(sync));
    world.lag = lag.to_owned();
    std::sync::Arc::make_mut(&mut world.node.set).max_lag = most;
    let keys = world.node.keys().clone();
    world.put(keys.cluster(), &encode(&ClusterValue { v: 1, id: ClusterId::new("id") }));
    world.leads("b", "run-b", 5);
    world.pass(1_000);
    // As MariaDB answers once its primary is gone.
    world.lag = "null".to_owned();
    world.held.push("peer");
    world
}

#[test]
fn max_lag_bars_whoever_lagged_when_the_primary_was_last_seen_and_whose_lag_is_not_known() {
    let ten = Some(Span::secs(10));
    for (lag, most, takes) in [
        ("12.5", None, true),
        ("12.5", ten, false),
        ("9.5", ten, true),
        ("10", ten, true),
        ("null", ten, false),
        ("null", None, true),
    ] {
        let mut world = lagging(SyncMode::Off, lag, most);
        world.pass(9_000);
        assert_eq!(world.node.deadline().is_some(), takes, "{lag} {most:?}");
        let reason = world.node.explain(At(world.at));
        assert_eq!(reason.code == "bar.max-lag", !takes, "{reason}");
        if lag == "12.5" && !takes {
            assert!(reason.text.contains("12.5") && reason.text.contains("10"), "{reason}");
            assert!(reason.flip.is_some());
        }
    }
}

#[test]
fn in_sync_mode_acknowledgements_are_counted_and_no_lag() {
    let world = lagging(SyncMode::On, "99", Some(Span::secs(10)));
    assert_ne!(world.node.explain(At(world.at)).code, "bar.max-lag");
}

#[test]
fn a_lag_that_was_not_told_for_long_before_the_primary_was_last_seen_is_not_known() {
    let mut world = lagging(SyncMode::Off, "1", Some(Span::secs(10)));
    let key = world.node.keys().leader();
    for n in 2..40 {
        let value = LeaderValue { n, ..world.leader() };
        world.put(key.clone(), &encode(&value));
        world.pass(500);
    }
    assert_eq!(world.node.explain(At(world.at)).code, "bar.max-lag");
}

/// Asked first, then left alone: what it does, and from when on.
fn foretold(world: &mut World) -> (Would, Option<u64>) {
    let (told, asked) = (world.node.would(At(world.at)), world.at);
    while world.node.deadline().is_none() {
        if world.at >= asked + 12_000 {
            return (told, None);
        }
        world.pass(50);
    }
    (told, Some(world.at - asked))
}

#[test]
fn what_a_node_foretells_is_what_it_does() {
    let ten = Some(Span::secs(10));
    for (sync, lag, most, no_failover) in [
        (SyncMode::Off, "1", None, false),
        (SyncMode::Off, "12.5", None, false),
        (SyncMode::Off, "12.5", ten, false),
        (SyncMode::Off, "1", None, true),
        (SyncMode::Off, "null", ten, false),
    ] {
        let mut world = lagging(sync, lag, most);
        if no_failover {
            std::sync::Arc::make_mut(&mut world.node.set).no_failover =
                BTreeSet::from(["a".into()]);
            world.give(Input::Tick);
        }
        match foretold(&mut world) {
            (Would::Takes { in_ms, case, held: None, .. }, Some(took)) => {
                assert_eq!(case, "waited");
                // Then it asks positions, which the silent one holds up for a while.
                assert!((in_ms.0..in_ms.0 + 3_000).contains(&took), "{in_ms} {took} ms");
            }
            (Would::Barred { reason }, None) => {
                assert!(reason.code.starts_with("bar."), "{reason:?}");
                assert!(reason.flip.is_some(), "{reason:?}");
            }
            other => panic!("{lag} {most:?} {no_failover}: {other:?}"),
        }
    }
}

#[test]
fn a_held_node_foretells_how_long_it_lets_others_go_first() {
    let mut world = handed_over(|set| set.hold_down = Span::secs(60));
    world.node.state = State::Replica;
    world.node.health.ok = true;
    world.look();
    world.held = vec!["peer"];
    let (told, took) = foretold(&mut world);
    let Would::Takes { in_ms, held: Some(held), .. } = told else { panic!("{told:?}") };
    assert_eq!(held.code, "bar.hold-down");
    let took = took.expect("nobody else takes");
    assert!((in_ms.0..in_ms.0 + 3_000).contains(&took), "{in_ms} {took} ms");
}

#[test]
fn a_leader_foretells_what_it_does_when_its_application_ends() {
    for (on_crash, restarts) in [(OnCrash::Restart, true), (OnCrash::Failover, false)] {
        let mut world = pair();
        std::sync::Arc::make_mut(&mut world.node.set).on_crash = on_crash;
        assert_eq!(world.node.would(At(world.at)), Would::Leads { restarts });
        fail(&mut world);
        assert_eq!(world.is_released(), !restarts, "{:?}", world.log);
    }
}
