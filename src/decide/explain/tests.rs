//! Every situation an operator may ask about, as the terminal shows it.

use super::*;
use crate::decide::journal::Line;
use crate::decide::types::{DiskId, Member as Listed, RunId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const WALL: u64 = 1_764_036_843_120;

fn name(node: &str) -> NodeName {
    NodeName::new(node)
}

/// `a` leads, `b` and `c` follow it and acknowledge.
fn three() -> Facts {
    let eligible = ["a", "b", "c"].map(|node| Listed { node: name(node), disk: DiskId::new("d") });
    Facts {
        cluster: "db".into(),
        consul: None,
        by: None,
        leader: serde_json::from_value(json!({
            "v": 1, "epoch": 7, "node": "a", "run": "ra", "lease_ms": 3_000, "n": 40,
            "state": "held", "peer": "10.0.0.1:8008", "app": "10.0.0.1:3306",
        }))
        .expect("ours"),
        locked: Some(true),
        term: Some(TermValue {
            v: 1,
            epoch: Epoch(7),
            node: name("a"),
            run: RunId::new("ra"),
            eligible: eligible.into(),
        }),
        sync: Some(SyncValue {
            v: 1,
            epoch: Epoch(7),
            members: ["a", "b", "c"].map(name).into(),
            acks: 1,
        }),
        paused: None,
        seats: vec![seat("a", leads()), seat("b", takes("b")), seat("c", takes("c"))],
        journal: Ok(Vec::new()),
    }
}

fn seat(node: &str, status: Value) -> Seat {
    Seat {
        node: name(node),
        listed: true,
        priority: 100,
        state: "replica".into(),
        said: Ok(Box::new(serde_json::from_value(status).expect("a status"))),
    }
}

fn leads() -> Value {
    json!({
        "state": "primary", "role": "primary", "app": {"pid": 7, "healthy": true},
        "leadership": {
            "is": "open", "epoch": 7, "lease_left_ms": 2_400, "lease_source": "renewals",
            "promises": [],
        },
        "waits_for": {"code": "lead", "text": "leads under epoch 7 for 2.400 s more"},
        "would": {"is": "leads", "restarts": false},
    })
}

fn takes(node: &str) -> Value {
    let others: Vec<&str> = ["b", "c"].into_iter().collect();
    json!({
        "state": "replica", "role": "replica", "app": {"pid": 8, "healthy": true},
        "leadership": {"is": "follower"},
        "follows": {"epoch": 7, "node": "a", "run": "ra"},
        "lag_seconds": 0.0, "position": {"order": 5, "age_ms": 900}, "node": node,
        "waits_for": {"code": "take.wait", "text": "waits 2.310 s for the lease",
            "flip": "a clean release, or that time"},
        "would": {"is": "takes", "in_ms": 2_310, "case": "waited", "asks": others,
            "counted": true},
    })
}

fn barred(code: &str, text: &str, flip: &str) -> Value {
    let mut status = takes("x");
    status["would"] = json!({"is": "barred", "code": code, "text": text, "flip": flip});
    status
}

fn silent(node: &str) -> Seat {
    Seat { said: Err("does not answer".into()), ..seat(node, takes(node)) }
}

fn failover(facts: &Facts) -> String {
    text::failover(facts, &lock(facts), &foretell(facts), &past(facts))
}

fn asynchronous(mut facts: Facts) -> Facts {
    facts.sync = None;
    for seat in &mut facts.seats {
        let Ok(said) = &mut seat.said else { continue };
        if let Some(Would::Takes { counted, .. }) = &mut said.would {
            *counted = false;
        }
    }
    facts
}

fn entry(seq: u64, at: u64, node: &str, seen: u64, code: &str, text: &str) -> Entry {
    let inputs = if code == "take" { vec![("case", "waited")] } else { Vec::new() };
    let inputs = inputs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
    let line = Line {
        no: seq,
        at: WALL + at,
        seen: Epoch(seen),
        code: code.into(),
        text: text.into(),
        flip: None,
        inputs: inputs.collect::<BTreeMap<_, _>>(),
    };
    Entry {
        v: 1,
        epoch: Epoch(seen),
        seq,
        node: name(node),
        run: RunId::new(&format!("r{node}")),
        line,
    }
}

/// `c` led, was lost, and `a` took over; since then `b` was barred.
fn failed_over() -> Vec<Entry> {
    vec![
        entry(1, 0, "c", 6, "open", "leads under epoch 6"),
        entry(2, 200, "c", 6, "promote.done", "this node is the primary"),
        entry(3, 60_000, "a", 6, "take", "takes the lock under epoch 7: .."),
        entry(4, 60_030, "a", 7, "open", "leads under epoch 7"),
        entry(5, 60_210, "a", 7, "promote.done", "this node is the primary"),
        entry(6, 61_000, "a", 7, "follow.done", "not about the leadership"),
        entry(7, 70_000, "b", 7, "bar.max-lag", "lagged 40 s behind a"),
    ]
}

#[test]
fn in_sync_mode_either_replica_takes_over_and_nothing_is_lost() {
    let mut facts = three();
    facts.journal = Ok(failed_over());
    insta::assert_snapshot!("failover", failover(&facts));
    let told = foretell(&facts);
    assert_eq!(
        told.outcome,
        Outcome::Takes { node: name("b"), in_ms: Span(2_310), or: vec![name("c")] }
    );
    let (lock, past) = (lock(&facts), past(&facts));
    insta::assert_snapshot!("overview", text::overview(&facts, &lock, &told, &past));
    insta::assert_snapshot!("lock", text::lock(&facts, &lock));
    let member = member(&facts, &told, &name("b")).expect("it is there");
    insta::assert_snapshot!("member", text::member(&facts, &lock, &member));
}

#[test]
fn more_data_goes_before_priority_and_priority_before_the_name() {
    let mut facts = asynchronous(three());
    facts.seats[2].priority = 200;
    assert!(foretell(&facts).text.starts_with("c would"), "{}", foretell(&facts).text);
    let Ok(said) = &mut facts.seats[2].said else { panic!("it answers") };
    said.lag_seconds = Some(31.0);
    let told = foretell(&facts);
    assert!(told.text.starts_with("b would"), "{}", told.text);
    assert!(told.lost.is_some_and(|lost| lost.contains("asynchronous")));
}

#[test]
fn the_count_fails_with_a_sync_member_that_does_not_answer() {
    let mut facts = three();
    facts.seats[2] = silent("c");
    let told = foretell(&facts);
    assert_eq!(told.outcome, Outcome::Unknown, "{told:?}");
    let row = told.nodes.iter().find(|row| row.node == name("b")).expect("b");
    assert_eq!((row.may, row.told.code.as_str()), (Some(false), "take.too_few"));
    insta::assert_snapshot!("too_few", failover(&facts));
    // Where each write is on both, one of them is enough.
    if let Some(sync) = &mut facts.sync {
        sync.acks = 2;
    }
    assert!(matches!(foretell(&facts).outcome, Outcome::Takes { .. }));
}

#[test]
fn nobody_may_and_the_best_placed_one_says_what_would_flip_it() {
    let mut facts = asynchronous(three());
    let flip = "a lag of 10 s or less, a larger max_lag, or an operator's failover";
    facts.seats[1] = seat("b", barred("bar.max-lag", "lagged 40 s behind a", flip));
    facts.seats[2] = seat("c", barred("bar.no-failover", "`no_failover` names this node", "x"));
    facts.seats[2].priority = 50;
    let told = foretell(&facts);
    assert_eq!((told.outcome, told.flip.as_str(), told.lost), (Outcome::Nobody, flip, None));
    insta::assert_snapshot!("nobody", failover(&facts));
}

#[test]
fn whoever_is_held_down_goes_after_the_others_and_alone_at_last() {
    let mut facts = asynchronous(three());
    let held = json!({"code": "bar.hold-down", "text": "held down for 8 s more", "flip": "time"});
    let mut status = takes("b");
    status["would"]["counted"] = json!(false);
    status["would"]["in_ms"] = json!(6_310);
    status["would"]["held"] = held;
    facts.seats[1] = seat("b", status);
    assert!(foretell(&facts).text.starts_with("c would"));
    facts.seats[2] = seat("c", barred("bar.state", "the node is starting", "it serves"));
    let told = foretell(&facts);
    assert!(told.text.starts_with("b would take over: the lock is free for it in 6.310 s"));
    assert!(told.text.contains("held down"), "{}", told.text);
}

#[test]
fn alone_and_unled_clusters_are_told_as_they_are() {
    let mut facts = three();
    facts.seats.truncate(1);
    facts.sync = None;
    let told = foretell(&facts);
    assert_eq!(told.text, "nobody would take over: there is no other member");
    // Nobody leads: the lock was given back, and each says what bars it.
    let mut facts = three();
    facts.locked = Some(false);
    let paused = "paused by root@ops (disks)";
    facts.paused = Some("root@ops (disks)".into());
    for node in 0..3 {
        let name = ["a", "b", "c"][node];
        facts.seats[node] = seat(name, barred("bar.paused", paused, "`lictor resume`"));
    }
    insta::assert_snapshot!("unled", failover(&facts));
    assert_eq!(foretell(&facts).dies, None);
}

#[test]
fn without_consul_the_holder_and_the_promises_are_told() {
    let mut facts = three();
    facts.consul = Some("no answer within 3 s".into());
    facts.by = Some(name("b"));
    facts.locked = None;
    facts.journal = Err("Consul does not answer".into());
    let mut status = leads();
    status["leadership"]["lease_source"] = json!("promises");
    status["leadership"]["promises"] = json!([
        {"node": "b", "age_ms": 300, "refusal": null},
        {"node": "c", "age_ms": null, "refusal": "no answer"},
    ]);
    facts.seats[0] = seat("a", status);
    let lock = lock(&facts);
    insta::assert_snapshot!("held", text::lock(&facts, &lock));
    assert!(lock.flip.contains("c: no answer"), "{}", lock.flip);
    assert!(failover(&facts).contains("the journal was not read: Consul does not answer"));
}

#[test]
fn a_silent_holder_is_not_said_to_lead() {
    let mut facts = three();
    facts.seats[0] = silent("a");
    let lock = lock(&facts);
    assert!(lock.text.contains("did not answer here: whether it leads is not known"));
    assert_eq!(lock.left_ms, None);
    let told = foretell(&facts);
    assert_eq!(told.dies, None);
    assert!(told.text.starts_with("b takes over"), "{}", told.text);
}

#[test]
fn an_older_node_and_garbage_are_no_verdict() {
    let mut facts = three();
    let mut old = takes("b");
    old.as_object_mut().expect("an object").remove("would");
    facts.seats[1] = seat("b", old);
    let row = &foretell(&facts).nodes[0];
    assert_eq!((row.may, row.told.code.as_str()), (None, "unknown"));
    let mut facts = three();
    facts.seats[1] = seat("b", json!({"state": "replica\u{1b}[31m\n"}));
    let told = foretell(&facts);
    let member = member(&facts, &told, &name("b")).expect("it is there");
    let text = text::member(&facts, &lock(&facts), &member);
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn each_ground_of_a_take_over_has_its_sentence() {
    for (case, says) in [
        ("boot", "a was the first of all"),
        ("again", "a took its own term again (c: killed)"),
        ("clean", "c gave the lock back (c: killed)"),
        ("forced", "an operator ordered a to take over (c: killed)"),
        ("waited", "c's lease was waited out (c: killed)"),
    ] {
        let mut entries = failed_over();
        entries[2].line.inputs.insert("case".into(), case.into());
        entries.push(entry(8, 57_000, "c", 6, "app.crashed", "killed"));
        let mut facts = three();
        facts.journal = Ok(entries);
        let change = past(&facts).change.expect("it is there");
        assert_eq!(change.why, says);
        assert_eq!((change.took_ms, change.from), (Some(3_210), Some(name("c"))));
    }
}
