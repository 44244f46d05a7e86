//! Operator's actions: who answers a request, with what, and what is done about it.

use super::*;
use crate::decide::records::RequestValue;

pub(super) fn asked(world: &World, verb: &str, args: &[(&str, &str)]) -> RequestValue {
    let args = args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let (epoch, expires) = (world.epoch(), world.at + 30_000);
    RequestValue { v: 1, verb: verb.into(), args, by: "op".into(), epoch, expires }
}

pub(super) fn put_request(world: &mut World, id: &str, request: &RequestValue) {
    world.put(world.node.keys().request(id), &encode(request));
    world.look();
}

pub(super) fn result_of(world: &World, id: &str) -> ResultValue {
    let key = world.node.keys().request_result(id);
    let entry = world.store.get(&key).expect("a result");
    decode(&entry.value).expect("it is ours")
}

#[test]
fn the_start_of_a_switchover_is_durable_before_the_demotion() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "b")]);
    put_request(&mut world, "r1", &request);
    assert!(world.place("result") < world.place("run demote"), "{:?}", world.log);
    assert_eq!(result_of(&world, "r1").status, RequestStatus::Started);
    assert!(world.is_released(), "b has the final position");
    assert_eq!(world.leader().to, Some("b".into()));
}

/// It was tried again as fast as Consul refused it.
#[test]
fn a_result_that_cannot_be_written_is_not_tried_in_a_circle() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "nobody")]);
    world.held = vec!["result"];
    put_request(&mut world, "r1", &request);
    world.pass(1_000);
    let tries = world.log.iter().filter(|act| *act == "result").count();
    assert!((2..=10).contains(&tries), "{tries} in a second");
}

/// A leader that did not see it yet would have carried out what the operator was told is refused.
#[test]
fn a_leader_does_not_answer_over_an_answer() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "b")]);
    let key = world.node.keys().request_result("r1");
    let refused = ResultValue {
        v: 1,
        status: RequestStatus::Refused,
        by: "b".into(),
        epoch: world.epoch(),
        to: None,
        reason: "nobody leads".into(),
        force: false,
        at: world.at,
    };
    world.put(world.node.keys().request("r1"), &encode(&request));
    world.put(key.clone(), &encode(&refused));
    // The watch has brought the request alone.
    let state = world.node.keys().state();
    let seen = |entry: &&Entry| entry.key != key && entry.key.as_str().starts_with(state.as_str());
    let entries = world.store.entries.values().filter(seen).cloned().collect();
    world.give(Input::State { entries, seen: Seen::Read });
    world.pass(1_000);
    assert_eq!(result_of(&world, "r1").status, RequestStatus::Refused);
    assert_eq!(world.state(), "primary");
    assert!(!world.has("run demote"), "{:?}", world.log);
}

#[test]
fn a_result_that_cannot_be_read_is_written_over() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "nobody")]);
    world.put(world.node.keys().request_result("r1"), b"{");
    put_request(&mut world, "r1", &request);
    assert_eq!(result_of(&world, "r1").status, RequestStatus::Refused);
}

#[test]
fn what_nobody_can_do_is_refused_with_its_mend() {
    let mut world = pair();
    let good = asked(&world, "switchover", &[("to", "b")]);
    let late = RequestValue { expires: world.at - 1, ..good.clone() };
    let ahead = RequestValue { epoch: Epoch(99), ..good };
    let cases = [
        (
            encode(&asked(&world, "dance", &[])),
            "does not know `dance`; it knows switchover, failover",
        ),
        (encode(&asked(&world, "switchover", &[("too", "b")])), "takes no `too`"),
        (encode(&asked(&world, "switchover", &[("to", "B!")])), "is not a node's name"),
        (encode(&asked(&world, "switchover", &[("to", "zz")])), "zz is not a member"),
        (encode(&late), "expired before anybody could answer"),
        (encode(&ahead), "made for epoch 99, and this is"),
        (b"{}".to_vec(), "this is no request: write JSON with v, verb"),
    ];
    for (place, (value, says)) in cases.into_iter().enumerate() {
        let id = format!("r{place}");
        world.put(world.node.keys().request(&id), &value);
        world.look();
        let result = result_of(&world, &id);
        assert_eq!(result.status, RequestStatus::Refused, "{says}");
        assert!(result.reason.contains(says), "{} lacks {says}", result.reason);
    }
    assert_eq!(world.state(), "primary");
}

#[test]
fn requests_and_results_go_when_nobody_asks_any_more() {
    let mut world = pair();
    world.put(world.node.keys().request("garbage"), b"{}");
    let request = asked(&world, "switchover", &[("to", "zz")]);
    put_request(&mut world, "plain", &request);
    world.look();
    assert!(world.store.get(&world.node.keys().request_result("garbage")).is_some());
    world.ahead += 10 * 60 * 1_000 + 1;
    let left = |world: &World| {
        let all = world.node.keys().requests();
        world.store.entries.keys().filter(|key| key.as_str().starts_with(all.as_str())).count()
    };
    world.look();
    assert_eq!(left(&world), 2, "the plain one is good for 30 s more");
    world.ahead += 30_000;
    world.look();
    world.look();
    assert_eq!(left(&world), 0);
}

#[test]
fn what_was_asked_of_another_primary_is_refused() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "b")]);
    let old = RequestValue { epoch: Epoch(0), ..request };
    put_request(&mut world, "r1", &old);
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Refused);
    assert!(result.reason.contains("the primary changed since"), "{}", result.reason);
    // What is not about one primary is done all the same.
    let old = RequestValue { epoch: Epoch(0), ..asked(&world, "pause", &[]) };
    put_request(&mut world, "r2", &old);
    assert_eq!(result_of(&world, "r2").status, RequestStatus::Done);
}

#[test]
fn a_doubled_id_is_written_once() {
    let mut world = pair();
    for place in 0..2 {
        let request = asked(&world, "switchover", &[("to", "zz")]);
        let id = OpId(1 << 50 | place);
        world.give(Input::Action { id, request_id: "same".into(), request });
    }
    assert_eq!(world.replies[0], Ok("same".to_owned()));
    assert!(matches!(world.replies[1], Err(StoreError::Conflict { .. })), "{:?}", world.replies);
}

fn paused(world: &World) -> bool {
    world.store.get(&world.node.keys().pause()).is_some()
}

#[test]
fn a_paused_leader_renews_and_restarts_nothing() {
    let mut world = pair();
    let request = asked(&world, "pause", &[("reason", "a new disk")]);
    put_request(&mut world, "p1", &request);
    assert_eq!(result_of(&world, "p1").status, RequestStatus::Done);
    assert!(paused(&world));
    let n = world.leader().n;
    world.pass(10_000);
    assert!(world.leader().n > n + 8, "renewed as ever");
    assert_eq!(world.state(), "primary");
    let request = asked(&world, "switchover", &[]);
    put_request(&mut world, "s1", &request);
    assert!(result_of(&world, "s1").reason.contains("name the new primary with --to"));
    world.log.clear();
    let pid = world.pid;
    world.give(Input::AppExited { pid, exit: Exit::Code(1) });
    assert!(world.is_released() && world.leader().to.is_none(), "{:?}", world.log);
    world.pass(20_000);
    assert!(!world.has("start"), "{:?}", world.log);
    assert!(world.node.bar_of_pause().is_some());
    // Nobody leads: this node itself answers.
    let request = asked(&world, "resume", &[]);
    put_request(&mut world, "p2", &request);
    assert_eq!(result_of(&world, "p2").status, RequestStatus::Done);
    assert!(!paused(&world));
    world.pass(15_000);
    assert!(world.has("start"), "{:?}", world.log);
    assert_eq!(world.state(), "primary");
}

#[test]
fn a_paused_replica_takes_nothing_until_it_is_resumed() {
    let mut world = replica(SyncMode::Off);
    let keys = world.node.keys().clone();
    // Unreadable is paused too.
    world.put(keys.pause(), b"?");
    world.pass(20_000);
    assert_eq!(world.state(), "replica");
    assert_eq!(world.leader().node, "b".into());
    assert!(world.node.lead.explain(At(world.at)).text.contains("paused by somebody"));
    let request = asked(&world, "resume", &[]);
    put_request(&mut world, "p1", &request);
    world.pass(1_000);
    assert_eq!(world.leader().node, "a".into());
    assert_eq!(world.state(), "primary");
}

#[test]
fn a_named_switchover_goes_through_a_pause() {
    let mut world = replica(SyncMode::Off);
    let keys = world.node.keys().clone();
    world.put(keys.pause(), b"?");
    world.pass(200);
    let mut value = world.leader();
    (value.state, value.to) = (LockState::Clean, Some("a".into()));
    let leader = world.store.get(&keys.leader()).expect("there");
    let session = leader.session.expect("held");
    let unlock = super::super::super::call::Verb::Unlock(keys.leader(), session, encode(&value));
    world.store.apply(&Call::Txn(vec![unlock])).expect("unlocked");
    world.pass(1_000);
    assert_eq!(world.leader().node, "a".into());
    assert_eq!(world.state(), "primary");
}

#[test]
fn a_diverged_replica_is_not_rewound_in_a_pause() {
    let mut world = replica(SyncMode::Off);
    let keys = world.node.keys().clone();
    world.put(keys.pause(), b"?");
    world.held = vec!["replicate"];
    world.leads("b", "run-c", 6);
    let b = member("b", Some(ClusterId::new("id")), "primary", Epoch(6), None);
    world.put(keys.member(&"b".into()), &encode(&MemberValue { run: RunId::new("run-c"), ..b }));
    world.pass(200);
    world.end(Hook::Replicate, HookEnd::Exit { code: 3 });
    world.pass(1_000);
    assert!(!world.has("kill") && !world.has("marker"), "{:?}", world.log);
    assert_eq!(world.state(), "replica");
}

#[test]
fn a_failover_without_sync_is_refused_until_the_loss_is_accepted() {
    let mut world = pair();
    let request = asked(&world, "failover", &[("to", "b")]);
    put_request(&mut world, "f1", &request);
    world.pass(200);
    let result = result_of(&world, "f1");
    assert_eq!(result.status, RequestStatus::Refused);
    assert!(result.reason.contains("sync is off: what a has acknowledged"), "{}", result.reason);
    assert_eq!(world.state(), "primary");
    let request = asked(&world, "failover", &[("to", "b"), ("accept_loss", "true")]);
    put_request(&mut world, "f2", &request);
    world.pass(200);
    assert_eq!(result_of(&world, "f2").status, RequestStatus::Started);
    assert!(world.has("kill") && !world.has("run demote"), "it may hang: {:?}", world.log);
    assert!(world.is_released());
    assert_eq!(world.leader().to, Some("b".into()));
}

/// A replica of the dead `b`, with the silent member `c`; paused.
fn bereaved(sync: SyncMode) -> World {
    let mut world = replica(sync);
    let keys = world.node.keys().clone();
    if sync != SyncMode::Off {
        let members = ["a", "b", "c"].map(NodeName::from).into();
        let value = SyncValue { v: 1, epoch: Epoch(5), members, acks: 1 };
        world.put(keys.sync(), &encode(&value));
    }
    let c = member("c", Some(ClusterId::new("id")), "replica", Epoch(5), None);
    world.put(keys.member(&"c".into()), &encode(&c));
    world.put(keys.pause(), b"?");
    world.held = vec!["peer"];
    world.pass(1_000);
    world.log.clear();
    world
}

#[test]
fn a_failover_waits_for_the_lease_and_goes_through_a_pause() {
    let mut world = bereaved(SyncMode::Off);
    let request = asked(&world, "failover", &[]);
    put_request(&mut world, "f1", &request);
    world.pass(1_000);
    assert!(world.store.get(&world.node.keys().request_result("f1")).is_none(), "b may live");
    world.pass(5_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    let result = result_of(&world, "f1");
    assert_eq!((result.status, result.reason.as_str()), (RequestStatus::Done, "a is the primary"));
    assert!(paused(&world));
}

/// Each began the other's round of questions anew, with a hook each time: ever more of them.
#[test]
fn two_failovers_at_once_are_answered_one_after_the_other() {
    let mut world = bereaved(SyncMode::On);
    let request = asked(&world, "failover", &[]);
    world.put(world.node.keys().request("f1"), &encode(&request));
    put_request(&mut world, "f2", &request);
    world.pass(8_000);
    let positions = world.log.iter().filter(|act| *act == "run position").count();
    assert!(positions <= 20, "{positions} hooks");
    for id in ["f1", "f2"] {
        assert_eq!(result_of(&world, id).status, RequestStatus::Refused);
    }
}

#[test]
fn where_nobody_can_take_the_refusal_says_why_and_what_is_at_risk() {
    let mut world = bereaved(SyncMode::On);
    let keys = world.node.keys().clone();
    let request = asked(&world, "failover", &[]);
    put_request(&mut world, "f1", &request);
    world.pass(6_000);
    let result = result_of(&world, "f1");
    assert_eq!(result.status, RequestStatus::Refused);
    for part in [
        "a needs the positions of 2 sync members and has 1: c may have more",
        "c does not answer",
        "--accept-loss --to a would promote a anyway: it has position 7",
        "what only b, c has is lost",
    ] {
        assert!(result.reason.contains(part), "{}", result.reason);
    }
    let request = asked(&world, "failover", &[("to", "a"), ("accept_loss", "true")]);
    put_request(&mut world, "f2", &request);
    world.pass(3_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    let result = result_of(&world, "f2");
    assert_eq!(result.status, RequestStatus::Done);
    assert!(result.reason.starts_with("a is the primary, by force: "), "{}", result.reason);
    let term: TermValue =
        decode(&world.store.get(&keys.term()).expect("there").value).expect("ours");
    assert_eq!(term.eligible.len(), 1, "whoever has more must follow first");
}

#[test]
fn a_node_that_no_promise_binds_needs_to_know_the_old_primary_stopped() {
    let mut world = bereaved(SyncMode::Off);
    let keys = world.node.keys().clone();
    let entry = world.store.get(&keys.term()).expect("there");
    let mut term: TermValue = decode(&entry.value).expect("ours");
    term.eligible.retain(|member| member.node.as_str() == "b");
    world.put(keys.term(), &encode(&term));
    let wish = [("to", "a"), ("accept_loss", "true")];
    let request = asked(&world, "failover", &wish);
    put_request(&mut world, "f1", &request);
    world.pass(6_000);
    let result = result_of(&world, "f1");
    assert_eq!(result.status, RequestStatus::Refused);
    assert!(result.reason.contains("b may still be writing"), "{}", result.reason);
    let wish = [wish[0], wish[1], ("primary_stopped", "true")];
    let request = asked(&world, "failover", &wish);
    put_request(&mut world, "f2", &request);
    world.pass(3_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
}

#[test]
fn a_forced_take_waits_for_a_leader_that_came_back() {
    let mut world = bereaved(SyncMode::On);
    let wish = [("to", "a"), ("accept_loss", "true")];
    let request = asked(&world, "failover", &wish);
    put_request(&mut world, "f1", &request);
    world.pass(2_000);
    // Ordered by another node's answer while b renews after all.
    let value = ResultValue {
        v: 1,
        status: RequestStatus::Started,
        by: "c".into(),
        epoch: Epoch(5),
        to: Some("a".into()),
        reason: "a by force".into(),
        force: true,
        at: world.at,
    };
    world.put(world.node.keys().request_result("f1"), &encode(&value));
    for n in 2..12 {
        let mut leader = world.leader();
        leader.n = n;
        world.put(world.node.keys().leader(), &encode(&leader));
        world.pass(1_000);
        assert_eq!(world.state(), "replica", "its lease runs");
    }
    assert!(world.node.is_ordered());
    world.pass(4_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
}

/// Data of cluster `id`, and Consul knows nothing.
fn orphan() -> World {
    let mut world = World::new(boot(Some("id"), 5), settings(SyncMode::Off));
    world.pass(500);
    assert_eq!(world.state(), "replica");
    world.log.clear();
    world
}

#[test]
fn an_adopted_node_leads_with_the_cluster_that_its_data_is() {
    let mut world = orphan();
    world.pass(10_000);
    assert!(world.store.get(&world.node.keys().leader()).is_none(), "by itself nobody takes");
    let request = asked(&world, "failover", &[]);
    put_request(&mut world, "f1", &request);
    world.pass(2_000);
    assert!(result_of(&world, "f1").reason.contains("`lictor adopt"));
    let request = asked(&world, "adopt", &[("node", "a")]);
    put_request(&mut world, "a1", &request);
    world.pass(2_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    let result = result_of(&world, "a1");
    assert_eq!(result.status, RequestStatus::Done);
    assert_eq!(result.reason, "a is the primary of cluster id, adopted");
    let cluster = world.store.get(&world.node.keys().cluster()).expect("written");
    let cluster: ClusterValue = decode(&cluster.value).expect("ours");
    assert_eq!(cluster.id, ClusterId::new("id"));
    assert!(world.epoch() > Epoch(5));
    assert!(world.place("cluster") < world.place("run promote"), "{:?}", world.log);
    let request = asked(&world, "adopt", &[("node", "a")]);
    put_request(&mut world, "a2", &request);
    assert!(result_of(&world, "a2").reason.contains("there is nothing to adopt"));
}

#[test]
fn who_has_seen_less_is_not_adopted_by_oversight() {
    let mut world = orphan();
    let b = member("b", Some(ClusterId::new("id")), "replica", Epoch(9), None);
    world.put(world.node.keys().member(&"b".into()), &encode(&b));
    let request = asked(&world, "adopt", &[("node", "a")]);
    put_request(&mut world, "a1", &request);
    world.pass(5_000);
    let result = result_of(&world, "a1");
    assert!(result.reason.contains("b has seen epoch 9, a only 5"), "{}", result.reason);
    let request = asked(&world, "adopt", &[("node", "a"), ("accept_loss", "true")]);
    put_request(&mut world, "a2", &request);
    world.pass(3_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    assert!(world.epoch() > Epoch(9), "above all that anybody has seen");
}

/// A primary in sync mode with two counted replicas; the hook that lets `c` in is held.
fn letting_c_in() -> World {
    let mut world = primary(SyncMode::On);
    world.member_b();
    world.pass(1_500);
    let set = |world: &World| world.node.sync_seen().map(|sync| sync.members.clone());
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).into()).collect());
    assert_eq!(set(&world), named(&["a", "b"]), "{:?}", world.log);
    world.held = vec!["sync"];
    let follows = Follows { epoch: world.epoch(), node: "a".into(), run: RunId::new("run-a") };
    let cluster = world.node.cluster_id();
    let mut record = member("c", cluster, "replica", world.epoch(), Some(follows));
    record.priority = 200;
    world.put(world.node.keys().member(&"c".into()), &encode(&record));
    for _ in 0..40 {
        if set(&world) == named(&["a", "b", "c"]) {
            break;
        }
        world.pass(50);
    }
    assert_eq!(set(&world), named(&["a", "b", "c"]), "{:?}", world.log);
    world.log.clear();
    world
}

#[test]
fn a_switchover_waits_until_its_successor_is_let_in() {
    let mut world = letting_c_in();
    let request = asked(&world, "switchover", &[("to", "c")]);
    put_request(&mut world, "r1", &request);
    world.pass(300);
    assert_eq!(world.state(), "primary", "the hook that lets it in still runs: {:?}", world.log);
    world.done(Hook::Sync);
    world.pass(300);
    assert!(world.has("run demote"), "{:?}", world.log);
    // Not for ever, and not by losing the primary.
    let mut world = letting_c_in();
    let request = asked(&world, "switchover", &[("to", "c")]);
    put_request(&mut world, "r1", &request);
    world.pass(3_000);
    let result = result_of(&world, "r1");
    assert_eq!(result.status, RequestStatus::Refused);
    assert!(result.reason.contains("has not let it in yet"), "{}", result.reason);
    assert_eq!(world.state(), "primary");
    // Nobody chooses it while another is inside, whatever its priority.
    let mut world = letting_c_in();
    assert_eq!(world.node.choose(None), Ok("b".into()));
    world.done(Hook::Sync);
    assert_eq!(world.node.choose(None), Ok("c".into()));
}
