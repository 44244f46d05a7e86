//! Who may acknowledge a commit: with real MariaDB servers, the hooks run as lictor runs them.
//!
//! The invariant: once the `sync` hook has ended well, no commit returns by the acknowledgement of
//! a node that the hook was not told, whatever has become of that node's own hooks.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and children of its own")]

mod mariadb;

use mariadb::{Ended, Group, LIMIT, Node, SECRET, wait_for};
use mysql::prelude::Queryable;
use std::fs;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// An insert under way on the primary.
struct Commit(JoinHandle<()>);

impl Commit {
    /// Begins one and sees it wait for an acknowledgement.
    fn waits(primary: &Node, id: u64) -> Commit {
        let mut connection = primary.connect_for(LIMIT).expect("connects");
        let commit = Commit(thread::spawn(move || {
            let text = format!("insert into t values ({id})");
            connection.query_drop(text).expect("nobody takes the primary's connection");
        }));
        wait_for("the commit waits", || {
            primary.admin("show processlist").contains("Waiting for semi-sync ACK")
        });
        commit
    }

    #[track_caller]
    fn still_waits(&self) {
        assert!(!self.0.is_finished(), "somebody else acknowledged");
    }

    fn returns(self) {
        wait_for("the commit returns", || self.0.is_finished());
        self.0.join().expect("it was written");
    }
}

/// Lets a node that was locked out try again a few times.
fn some_logins_are_refused(primary: &Node) {
    let before = primary.status("Aborted_connects");
    wait_for("logins are refused", || primary.status("Aborted_connects") >= before + 3);
}

fn replicas_that_acknowledge(primary: &Node) -> u64 {
    primary.status("Rpl_semi_sync_master_clients")
}

/// One acknowledgement of `members`, or none where there are none.
fn sync(group: &Group, i: usize, members: &str) -> Ended {
    let acks = if members.is_empty() { "0" } else { "1" };
    group.hook(i, "sync", &[("LICTOR_SYNC_ACKS", acks), ("LICTOR_SYNC_MEMBERS", members)])
}

fn follow(group: &Group, i: usize, primary: usize, epoch: u32, part: &str) -> Ended {
    group.replicate_with(i, primary, epoch, &[("LICTOR_SYNC_SELF", part)])
}

/// `n1` leads, `n2` and `n3` are counted and connected.
fn counted() -> Group {
    let group = Group::formed(3);
    sync(&group, 0, "").is(0);
    for i in [1, 2] {
        follow(&group, i, 0, 1, "may").is(0);
    }
    sync(&group, 0, "n2,n3").is(0);
    for i in [1, 2] {
        follow(&group, i, 0, 1, "member").is(0);
    }
    group
}

/// After the set shrank to `member` the other one's server runs on, its hooks do not.
fn only_one_acknowledges(primary: &Node, member: &Node, id: u64) {
    primary.insert(id).expect("the member acknowledges");
    member.freeze();
    let commit = Commit::waits(primary, id + 1);
    some_logins_are_refused(primary);
    commit.still_waits();
    member.thaw();
    commit.returns();
}

#[test]
fn a_dropped_node_acknowledges_nothing_though_its_server_runs_on() {
    let group = counted();
    let [n1, n2, n3] = &group.nodes[..] else { panic!("three nodes") };
    // What the lock is for: without it the third node alone lets a commit return.
    n2.admin("stop slave io_thread");
    n1.insert(1).expect("written");
    n2.admin("start slave io_thread");
    wait_for("both are back", || replicas_that_acknowledge(n1) == 2);

    sync(&group, 0, "n2").is(0);
    assert!(replicas_that_acknowledge(n1) <= 1);
    sync(&group, 0, "n2").is(0);
    only_one_acknowledges(n1, n2, 2);
    assert!(n3.admin("show all slaves status").contains("account is locked"), "it keeps trying");
    group.wait_rows(1, 3);

    // Its hooks run again: it follows, and has a row whose commit still waits.
    follow(&group, 2, 0, 1, "no").is(0);
    n2.freeze();
    let commit = Commit::waits(n1, 4);
    group.wait_rows(2, 4);
    commit.still_waits();
    n2.thaw();
    commit.returns();

    // It is told before the primary is, then after.
    let early = follow(&group, 2, 0, 1, "member").is(75);
    assert!(early.output.contains("does not let lictor_n3 in"), "{}", early.output);
    sync(&group, 0, "n2,n3").is(0);
    follow(&group, 2, 0, 1, "member").is(0);
    n2.admin("stop slave io_thread");
    n1.insert(5).expect("written");
    group.wait_rows(2, 5);
}

#[test]
fn the_lock_is_each_primarys_own() {
    let group = counted();
    group.nodes[0].insert(1).expect("written");
    group.wait_rows(1, 1);
    group.wait_rows(2, 1);
    sync(&group, 0, "n2").is(0);
    change_primary(&group, 0, 1, 2);
    // n3, locked on n1, and n1 itself may acknowledge here at once.
    for i in [0, 2] {
        let told = follow(&group, i, 1, 2, "may").is(0);
        assert!(told.output.contains("acknowledges: 1"), "{}", told.output);
    }
    sync(&group, 1, "n1,n3").is(0);
    group.nodes[1].insert(2).expect("written");
    sync(&group, 1, "n1").is(0);
    only_one_acknowledges(&group.nodes[1], &group.nodes[0], 3);
    follow(&group, 2, 1, 2, "no").is(0);
    for i in 0..3 {
        group.wait_rows(i, 4);
    }
    // Back: what n1 had locked in epoch 1 does no harm.
    change_primary(&group, 1, 0, 3);
    for i in [1, 2] {
        let told = follow(&group, i, 0, 3, "may").is(0);
        assert!(told.output.contains("acknowledges: 1"), "{}", told.output);
    }
    group.nodes[0].insert(5).expect("written");
    for i in 0..3 {
        group.wait_rows(i, 5);
        assert_eq!(group.position(i, false), group.position(0, false));
    }
}

fn change_primary(group: &Group, from: usize, to: usize, epoch: u32) {
    group.hook(from, "demote", &[]).is(0);
    let last = group.position(from, false);
    wait_for("the successor has it all", || group.position(to, true) == last);
    group.promote(to, epoch).is(0);
}

#[test]
fn without_accounts_nobody_acknowledges_and_no_secret_shows() {
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || look_for_secrets(&stop))
    };
    let group = Group::formed(2);
    let n1 = &group.nodes[0];
    n1.admin("set sql_log_bin=0; drop user lictor_n1, lictor_n2; kill user lictor_n2");
    let follows_without = |part: &str| {
        let told = follow(&group, 1, 0, 1, part).is(0);
        assert!(told.output.contains("as replication, acknowledges: 0"), "{}", told.output);
        assert_eq!(replicas_that_acknowledge(n1), 0);
    };
    follows_without("may");
    follows_without("may");
    follow(&group, 1, 0, 1, "member").is(75);
    follows_without("no");

    let before = group.position(0, false);
    sync(&group, 0, "").is(0);
    let told = follow(&group, 1, 0, 1, "may").is(0);
    assert!(told.output.contains("as lictor_n2, acknowledges: 1"), "{}", told.output);
    wait_for("it may acknowledge", || replicas_that_acknowledge(n1) == 1);
    sync(&group, 0, "n2").is(0);
    n1.insert(1).expect("written");
    assert_eq!(group.position(0, false), before + 1, "accounts are in no binary log");

    // A password that was changed reaches the accounts with the next sync.
    let hash = "select json_value(priv, '$.authentication_string') from mysql.global_priv";
    n1.admin("alter user replication@'%' identified by 'another'");
    sync(&group, 0, "n2").is(0);
    let hashes = n1.admin(&format!("{hash} where user = 'lictor_n2' or user = 'replication'"));
    let (one, other) = hashes.split_once('\n').expect("two accounts");
    assert_eq!(one, other);

    // A login that hangs could have begun before a lock: it is ended.
    let port: u16 = n1.admin("select @@port").parse().expect("a port");
    let silent = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let hangs = || n1.admin("show processlist").contains("unauthenticated user");
    wait_for("the login hangs", hangs);
    sync(&group, 0, "n2").is(0);
    assert!(!hangs());
    drop(silent);

    let facts = [("LICTOR_SYNC_ACKS", "1"), ("LICTOR_SYNC_MEMBERS", "n2'@'%' --")];
    group.hook(0, "sync", &facts).is(1);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1"), ("LICTOR_SYNC_MEMBERS", "")]).is(1);
    stop.store(true, Ordering::SeqCst);
    let looks = watcher.join().expect("no secret is seen");
    assert!(looks > 100, "it looked {looks} times");
}

fn look_for_secrets(stop: &AtomicBool) -> u64 {
    let mut looks = 0;
    while !stop.load(Ordering::SeqCst) {
        for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
            for part in ["cmdline", "environ"] {
                let text = fs::read(entry.path().join(part)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                looks += u64::from(!text.is_empty());
                assert!(!text.contains(SECRET), "{text}");
            }
        }
    }
    looks
}

#[test]
fn another_replica_that_acknowledges_is_not_overlooked() {
    let group = counted();
    let n3 = &group.nodes[2];
    // By hand, as the hooks never do it: the shared account, acknowledging.
    let text = SECRET.replace('\\', r"\\").replace('\'', "''");
    n3.admin(&format!(
        "stop slave; set global rpl_semi_sync_slave_enabled=1; change master to
        master_user='replication', master_password='{text}'; start slave"
    ));
    wait_for("it may acknowledge", || replicas_that_acknowledge(&group.nodes[0]) == 2);
    let refused = sync(&group, 0, "n2").is(1);
    assert!(refused.output.contains("others may acknowledge"), "{}", refused.output);
    follow(&group, 2, 0, 1, "no").is(0);
    sync(&group, 0, "n2").is(0);
}

#[test]
fn a_node_keeps_what_it_received_when_locked_out_and_when_its_account_changes() {
    let mut group = Group::formed(2);
    sync(&group, 0, "n2").is(0);
    follow(&group, 1, 0, 1, "member").is(0);
    // It cannot apply: what it acknowledges is in its relay log alone.
    let mut holder = group.nodes[1].connect().expect("connects");
    holder.query_drop("lock tables t read").expect("an application may lock its tables");
    for id in 1..=50 {
        group.nodes[0].insert(id).expect("written");
    }
    let last = group.position(0, false);
    sync(&group, 0, "n9").is(0);
    some_logins_are_refused(&group.nodes[0]);
    assert_eq!(group.position(1, false), last);
    // Unlocked, it comes back on its own.
    sync(&group, 0, "n2").is(0);
    group.nodes[0].insert(51).expect("written");

    // The primary dies, and then the account changes: nothing could be fetched a second time.
    group.nodes[0].kill();
    let group = &group;
    thread::scope(|scope| {
        let hook = scope.spawn(|| follow(group, 1, 0, 1, "no"));
        wait_for("the hook waits for the rows to be applied", || {
            group.nodes[1].admin("show processlist").contains("master_gtid_wait(")
        });
        holder.query_drop("unlock tables").expect("they were locked");
        hook.join().expect("the hook ends").is(75);
    });
    assert_eq!(group.position(1, true), last + 1);
    group.promote(1, 2).is(0);
    assert_eq!(group.nodes[1].ids().len(), 51);
}
