//! The MariaDB hooks against real servers, without lictor: each hook's contract, and the ways a row
//! gets lost.
//!
//! Needs root (hooks and servers run as `mysql`), `mariadbd` and `mariadb-backup`. Each test has
//! its own directory and ports on the loopback. The time of each hook is printed with
//! `--nocapture`.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and children of its own")]

mod mariadb;

use mariadb::{APP_SECRET, Group, SECRET, Writer, wait_for};
use mysql::prelude::Queryable;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_group_forms_follows_and_changes_its_primary() {
    let mut group = Group::new(3);
    group.hook(0, "bootstrap", &[("LICTOR_BOOTSTRAP", "create")]).is(0);
    group.start(0, &[]);
    let refused = group.nodes[0].connect().expect("connects").query_drop("create table t (id int)");
    assert!(refused.is_err(), "the first primary too starts read-only");
    assert_eq!(group.position(0, false), 0);
    group.promote(0, 1).is(0);
    group.nodes[0].admin("create table app.t (id bigint primary key)");
    for i in [1, 2] {
        // The second is cloned from the first replica.
        let how = group.clone_from(i, i - 1).is(0);
        assert!(how.output.contains("by mariadb-backup"), "{}", how.output);
        group.start(i, &[]);
        group.replicate(i, 0, 1).is(0);
        group.replicate(i, 0, 1).is(0);
    }
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1"), ("LICTOR_SYNC_MEMBERS", "n1,n2,n3")]).is(0);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "2")]).is(1);
    for id in 1..=20 {
        group.nodes[0].insert(id).expect("the primary writes");
    }
    for i in [1, 2] {
        group.wait_rows(i, 20);
        assert!(group.nodes[i].insert(99).is_err(), "a replica refuses writes");
    }
    assert_eq!(group.position(0, false), group.position(1, false));

    // A planned change, twice round, so that each has been everything.
    let mut rows = 20;
    for (epoch, from, to) in [(2, 0, 1), (3, 1, 2), (4, 2, 0), (5, 0, 1), (6, 1, 2), (7, 2, 0)] {
        group.hook(from, "demote", &[]).is(0);
        group.hook(from, "demote", &[]).is(0);
        assert!(group.nodes[from].insert(1000).is_err(), "demoted");
        let last = group.position(from, false);
        wait_for("the successor has it all", || group.position(to, true) == last);
        group.promote(to, epoch).is(0);
        group.promote(to, epoch).is(0);
        for other in (0..3).filter(|other| *other != to) {
            group.replicate(other, to, epoch).is(0);
            group.replicate(other, to, epoch - 1).is(1);
        }
        group.hook(to, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
        rows += 1;
        group.nodes[to].insert(rows).expect("the new primary writes");
        for i in 0..3 {
            group.wait_rows(i, usize::try_from(rows).expect("small"));
        }
    }
    let epoch_passed = group.promote(1, 3);
    assert_eq!(epoch_passed.code, 1, "an older epoch is refused: {}", epoch_passed.output);
}

#[test]
fn a_hanging_commit_is_never_acknowledged_and_its_primary_comes_back() {
    let mut group = Group::formed(3);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].insert(1).expect("two replicas acknowledge");
    for i in [1, 2] {
        group.wait_rows(i, 1);
        // A clean way to a replica that gets nothing: its threads are stopped.
        group.nodes[i].admin("stop slave");
    }
    let acknowledged = Arc::new(AtomicBool::new(false));
    let mut connection = group.nodes[0].connect().expect("connects");
    let writer = {
        let acknowledged = Arc::clone(&acknowledged);
        thread::spawn(move || {
            if connection.query_drop("insert into t values (2)").is_ok() {
                acknowledged.store(true, Ordering::SeqCst);
            }
        })
    };
    wait_for("the commit waits", || {
        group.nodes[0].admin("show processlist").contains("Waiting for semi-sync ACK")
    });
    group.hook(0, "demote", &[]).is(4);
    assert!(!acknowledged.load(Ordering::SeqCst));
    group.nodes[0].kill();
    writer.join().expect("the writer ends");
    assert!(!acknowledged.load(Ordering::SeqCst), "nobody else has this row");

    group.promote(1, 2).is(0);
    group.replicate(2, 1, 2).is(0);
    group.nodes[1].insert(3).expect("asynchronous until the sync hook ran");
    let successor = [("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")];
    group.start(0, &successor);
    assert!(group.nodes[0].log().contains("Successfully truncated binlog"), "the tail is cut");
    group.replicate(0, 1, 2).is(0);
    for i in 0..3 {
        group.wait_rows(i, 2);
        assert_eq!(group.nodes[i].ids(), [1, 3]);
    }
}

#[test]
fn an_old_primary_gets_back_the_acknowledged_rows_that_it_cut() {
    let mut group = Group::formed(2);
    let (mut epoch, mut cut) = (1, 0);
    for (old, new) in [(0, 1), (1, 0), (0, 1)] {
        group.hook(old, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
        let writer = Writer::start(&group.nodes[old]);
        wait_for("rows flow", || writer.count() > 30);
        group.nodes[old].kill();
        let acknowledged = writer.stop();
        epoch += 1;
        group.position(new, true);
        group.promote(new, epoch).is(0);
        let (name, number) = (group.nodes[new].name.clone(), epoch.to_string());
        group.start(old, &[("LICTOR_PRIMARY_NODE", &name), ("LICTOR_PRIMARY_EPOCH", &number)]);
        cut += group.nodes[old].log().matches("Successfully truncated").count();
        // As lictor lets it come back: it is not counted yet, then it is.
        group.replicate_with(old, new, epoch, &[("LICTOR_SYNC_SELF", "no")]).is(0);
        let expected = group.nodes[new].ids();
        assert!(acknowledged.iter().all(|id| expected.binary_search(id).is_ok()));
        group.wait_rows(old, expected.len());
        assert_eq!(group.nodes[old].ids(), expected);
        group.replicate_with(old, new, epoch, &[("LICTOR_SYNC_SELF", "member")]).is(0);
    }
    println!("{cut} tails cut");
}

#[test]
fn an_old_primary_with_committed_rows_of_its_own_has_diverged() {
    let mut group = Group::formed(2);
    group.nodes[1].admin("stop slave");
    group.nodes[0].insert(1).expect("asynchronous");
    group.nodes[0].kill();
    group.promote(1, 2).is(0);
    // Once with the new primary behind, once ahead of the old one's number.
    group.start(0, &[("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")]);
    // Committed in the engine in spite of the cut, as a row is when a second has passed before the
    // crash.
    if group.nodes[0].ids().is_empty() {
        group.nodes[0].admin("insert into app.t values (1)");
    }
    group.replicate(0, 1, 2).is(3);
    for id in 2..=5 {
        group.nodes[1].insert(id).expect("the new primary writes");
    }
    group.replicate(0, 1, 2).is(3);
    group.nodes[0].kill();
    group.hook(0, "bootstrap", &[("LICTOR_BOOTSTRAP", "rewind")]).is(3);
    group.clone_from(0, 1).is(0);
    group.start(0, &[("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")]);
    group.replicate(0, 1, 2).is(0);
    group.wait_rows(0, 4);
}

#[test]
fn what_only_the_relay_log_holds_survives_a_restart() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].insert(1).expect("acknowledged");
    group.wait_rows(1, 1);
    group.nodes[1].admin("stop slave sql_thread");
    for id in 2..=200 {
        group.nodes[0].insert(id).expect("acknowledged from the relay log alone");
    }
    let last = group.position(0, false);
    group.nodes[1].kill();
    group.nodes[0].kill();
    group.start(1, &[]);
    assert_eq!(group.position(1, true), last, "what it acknowledged, it knows");
    group.promote(1, 2).is(0);
    assert_eq!(group.nodes[1].ids().len(), 200);
}

#[test]
fn a_replica_killed_while_it_applies_comes_back_with_all_it_acknowledged() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    // A commit may be caught by a reconnect: lictor checks health each second, and that wakes it.
    let flow = |group: &Group, writer: &Writer| {
        let seen = writer.count();
        wait_for("rows flow", || {
            group.hook(0, "health", &[]).is(0);
            writer.count() > seen + 50
        });
    };
    let writer = Writer::start(&group.nodes[0]);
    for round in 0..5 {
        flow(&group, &writer);
        group.nodes[1].kill();
        group.start(1, &[]);
        // Alternately: as the one asked for its position, and as a replica of the same primary.
        if round % 2 == 0 {
            group.position(1, true);
        }
        group.replicate(1, 0, 1).is(0);
    }
    flow(&group, &writer);
    group.nodes[1].kill();
    group.nodes[0].kill();
    let acknowledged = writer.stop();
    group.start(1, &[]);
    group.position(1, true);
    group.promote(1, 2).is(0);
    let have = group.nodes[1].ids();
    let lost: Vec<_> = acknowledged.iter().filter(|id| have.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "of {} acknowledged lost {lost:?}", acknowledged.len());
}

#[test]
fn a_successor_that_still_applies_is_not_taken_for_one_that_lacks_rows() {
    let group = Group::formed(3);
    group.nodes[1].admin("stop slave sql_thread");
    for id in 1..=20 {
        group.nodes[0].insert(id).expect("writes");
    }
    group.wait_rows(2, 20);
    let last = group.position(0, false);
    wait_for("the successor has received it all", || group.position(1, false) == last);
    group.hook(0, "demote", &[]).is(0);
    // Its promotion is decided and not done: it has received, not applied.
    group.replicate(2, 1, 2).is(75);
    group.nodes[1].admin("start slave sql_thread");
    group.promote(1, 2).is(0);
    group.replicate(2, 1, 2).is(0);
    group.replicate(0, 1, 2).is(0);
}

#[test]
fn a_frozen_position_is_final() {
    let group = Group::formed(2);
    group.nodes[0].insert(1).expect("writes");
    let frozen = group.position(1, true);
    for id in 2..=10 {
        group.nodes[0].insert(id).expect("writes");
    }
    assert!(group.position(0, false) > frozen);
    assert_eq!(group.position(1, false), frozen);
    assert_eq!(group.position(1, true), frozen);
    // Not needed after all: the same primary again.
    group.replicate(1, 0, 1).is(0);
    group.wait_rows(1, 10);
}

#[test]
fn a_primary_alone_killed_20_times_keeps_every_acknowledged_row() {
    let mut group = Group::formed(1);
    let mut acknowledged = Vec::new();
    let mut next = 1;
    for round in 0..20_u32 {
        // Four connections, so that commits are grouped and some are always under way.
        let writers: Vec<_> =
            (0..4).map(|i| Writer::start_at(&group.nodes[0], next + i * 1_000_000)).collect();
        wait_for("rows flow", || writers.iter().all(|w| w.count() > 10 + round as usize));
        group.nodes[0].kill();
        for writer in writers {
            acknowledged.extend(writer.stop());
        }
        next += 10_000_000;
        // In place, under its own old epoch still known as the primary's.
        group.start(0, &[("LICTOR_PRIMARY_NODE", "n1"), ("LICTOR_PRIMARY_EPOCH", "1")]);
        group.promote(0, round + 2).is(0);
        let have = group.nodes[0].ids();
        let lost: Vec<_> =
            acknowledged.iter().filter(|id| have.binary_search(id).is_err()).collect();
        assert!(lost.is_empty(), "round {round}: of {} lost {lost:?}", acknowledged.len());
    }
    println!("{} acknowledged rows, none lost in 20 kills", acknowledged.len());
}

#[test]
fn an_old_primary_waits_for_its_successor_before_it_keeps_its_tail() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].kill();
    group.hook(0, "pre-start", &[]).is(75);
    group
        .hook(0, "pre-start", &[("LICTOR_PRIMARY_NODE", "n1"), ("LICTOR_PRIMARY_EPOCH", "1")])
        .is(75);
    let known = [("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")];
    let cut = group.hook(0, "pre-start", &known).is(0);
    assert!(cut.output.contains("init-rpl-role=SLAVE"), "{}", cut.output);
    // That start did not come up (nobody replicated since): the tail is kept the second time.
    let kept = group.hook(0, "pre-start", &known).is(0);
    assert!(kept.output.contains("init-rpl-role=MASTER"), "{}", kept.output);
    // And nobody ever comes: it starts all the same.
    let mut last = group.hook(0, "pre-start", &[]);
    wait_for("the wait ends", || {
        last = group.hook(0, "pre-start", &[]);
        last.code == 0
    });
    assert!(last.output.contains("init-rpl-role=MASTER"), "{}", last.output);
}

#[test]
fn only_members_acknowledge() {
    let group = Group::formed(2);
    let clients =
        || group.nodes[0].admin("show status like 'Rpl_semi_sync_master_clients'").ends_with("\t1");
    group.replicate_with(1, 0, 1, &[("LICTOR_SYNC_SELF", "no")]).is(0);
    wait_for("no client is left", || !clients());
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    assert!(group.nodes[0].connect().is_ok());
    let mut connection = group.nodes[0].connect().expect("connects");
    let writer = thread::spawn(move || connection.query_drop("insert into t values (1)"));
    wait_for("the commit waits", || {
        group.nodes[0].admin("show processlist").contains("Waiting for semi-sync ACK")
    });
    group.replicate_with(1, 0, 1, &[("LICTOR_SYNC_SELF", "member")]).is(0);
    wait_for("it is a client", clients);
    // It had the row already, and says nothing of it again: the check of health wakes the commit.
    wait_for("the commit returns", || {
        group.hook(0, "health", &[]).is(0);
        writer.is_finished()
    });
    writer.join().expect("the writer ends").expect("a member acknowledges what waits");
}

#[test]
fn a_source_on_another_machine_is_cloned_by_a_dump() {
    let mut group = Group::formed(2);
    for id in 1..=50 {
        group.nodes[0].insert(id).expect("writes");
    }
    group.nodes[1].kill();
    // As if the directory it names were another server's.
    fs::write(group.nodes[0].dir.join("app/lictor-mark"), "of another start\n").expect("write");
    let how = group.clone_from(1, 0).is(0);
    assert!(how.output.contains("by mariadb-dump"), "{}", how.output);
    group.start(1, &[]);
    group.replicate(1, 0, 1).is(0);
    group.nodes[0].insert(51).expect("writes");
    group.wait_rows(1, 51);
    assert_eq!(group.position(0, false), group.position(1, false));
}

#[test]
fn secrets_are_in_no_argument_and_no_environment() {
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let (mut looks, mut found) = (0_u64, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
                    for part in ["cmdline", "environ"] {
                        let text = fs::read(entry.path().join(part)).unwrap_or_default();
                        let text = String::from_utf8_lossy(&text);
                        looks += u64::from(!text.is_empty());
                        if text.contains(SECRET) || text.contains(APP_SECRET) {
                            found.push(text.into_owned());
                        }
                    }
                }
            }
            (looks, found)
        })
    };
    let mut group = Group::formed(2);
    group.nodes[1].kill();
    fs::write(group.nodes[0].dir.join("app/lictor-mark"), "of another start\n").expect("write");
    group.clone_from(1, 0).is(0);
    group.start(1, &[]);
    group.replicate(1, 0, 1).is(0);
    stop.store(true, Ordering::SeqCst);
    let (looks, found) = watcher.join().expect("the watcher ends");
    assert!(found.is_empty(), "{found:?}");
    assert!(looks > 100, "it looked {looks} times");
    for node in &group.nodes {
        assert!(!node.log().contains(SECRET), "in the server's log");
        assert!(!node.dir.join("state/bootstrap.d").exists(), "the option file is gone");
    }
}
