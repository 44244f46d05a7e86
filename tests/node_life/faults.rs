//! Hooks that fail, hang or leave something behind; applications that die again and again; a
//! creation that is cut short.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use super::{members, text};
use crate::common::consul::Consul;
use crate::common::toy::{LIMIT, Toy, lives, primary, settle, three, tree};
use crate::common::{wait_for, wait_some};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Ends of a backoff that begins with 0, 200, 400, 800, 1,600 ms: before the sixth start.
const FIVE_PAUSES: Duration = Duration::from_millis(3_000);

/// Its application serves only once `shut` is removed, so that its creation does not come to an
/// end.
fn shut(node: &Toy) {
    let shut = node.path("shut");
    std::fs::write(&shut, "").expect("ours");
    let own = node.path("hooks/health");
    let kept = node.path("hooks/health.kept");
    std::fs::rename(own, &kept).expect("it was there");
    let (shut, kept) = (shut.display(), kept.display());
    node.hook("health", &format!("#!/bin/sh\n[ -e {shut} ] && exit 1\nexec {kept}\n"));
}

fn open(node: &Toy) {
    std::fs::remove_file(node.path("shut")).expect("it was shut");
}

/// Data is there and the cluster is not.
fn is_creating(node: &Toy) -> bool {
    node.state() == "starting" && node.app_dir().join("rows").exists()
}

#[test]
fn the_creator_dies_and_creates_again() {
    let consul = Consul::one();
    let mut node = Toy::new("again", "one", &consul.addresses());
    shut(&node);
    node.start();
    wait_for(LIMIT, "it is creating", || is_creating(&node));
    assert!(consul.entry("lictor/again/state/cluster").is_none());
    node.crash();
    assert!(node.path("volume/.lictor/bootstrapping").exists());
    std::fs::write(node.app_dir().join("half"), "done").expect("ours");
    open(&node);
    node.start();
    node.wait_primary();
    assert_eq!(node.logged(&["disk.wiped"]), 1);
    assert!(!node.app_dir().join("half").exists());
    assert!(!node.path("volume/.lictor/bootstrapping").exists());
    assert_eq!(node.logged(&["hook_start", "hook=bootstrap"]), 2);
}

#[test]
fn a_creation_that_consul_knows_is_not_undone() {
    let consul = Consul::one();
    let mut node = Toy::new("late", "one", &consul.addresses());
    node.start();
    node.wait_primary();
    node.write("kept");
    node.crash();
    // As if it had died before the marker's removal was durable.
    std::fs::write(node.path("volume/.lictor/bootstrapping"), "1\n").expect("ours");
    node.start();
    node.wait_primary();
    assert_eq!(node.rows(), Some(vec!["kept".to_owned()]));
    assert!(!node.path("volume/.lictor/bootstrapping").exists());
    assert_eq!(node.stop(), 0);
}

#[test]
fn the_creator_dies_and_another_creates() {
    let consul = Consul::one();
    let mut nodes = three("heirs", &consul.addresses());
    for node in &mut nodes {
        shut(node);
        node.start();
    }
    let creating = || nodes.iter().position(is_creating);
    let first = wait_some(LIMIT, "one is creating", creating);
    assert!(consul.entry("lictor/heirs/state/cluster").is_none());
    nodes[first].crash();
    nodes.iter().for_each(open);
    let next = wait_some(LIMIT, "another one leads", || primary(&nodes));
    assert_ne!(next, first);
    nodes[next].write("of the second");
    settle(&mut nodes);
    let rows = || nodes[first].rows().is_some_and(|rows| rows == ["of the second"]);
    wait_for(LIMIT, "the first follows", rows);
    assert!(nodes[first].logged(&["disk.wiped"]) > 0);
    assert_eq!(primary(&nodes), Some(next));
}

#[test]
fn a_promote_hook_that_fails_hands_on() {
    let consul = Consul::one();
    let mut nodes = three("unable", &consul.addresses());
    let first = settle(&mut nodes);
    nodes[first].write("before");
    let unable = (first + 1) % 3;
    nodes[unable].hook("promote", "#!/bin/sh\necho cannot >&2\nexit 1\n");
    let asked = nodes[first].ask(&["switchover", "--to", &nodes[unable].name]);
    let said = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains("became the primary instead"), "{said}");
    let next = wait_some(LIMIT, "another one leads", || primary(&nodes));
    assert_ne!(next, unable);
    nodes[next].write("after");
    assert!(nodes[unable].logged(&["promote.failed"]) > 0);
    nodes[unable].mend_hook("promote");
    settle(&mut nodes);
    let asked = nodes[first].ask(&["switchover", "--to", &nodes[unable].name]);
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
    assert_eq!(nodes[unable].rows(), Some(vec!["before".to_owned(), "after".to_owned()]));
}

#[test]
fn a_promote_hook_that_always_fails_is_not_run_hot() {
    let consul = Consul::one();
    let mut node = Toy::new("hot", "one", &consul.addresses());
    node.hook("promote", "#!/bin/sh\nexit 1\n");
    node.start();
    node.wait_logged(&["hook_start", "hook=promote"]);
    let begun = Instant::now();
    wait_for(LIMIT, "it is tried again", || node.logged(&["hook_start", "hook=promote"]) >= 6);
    let took = begun.elapsed();
    assert!(took >= FIVE_PAUSES - Duration::from_millis(100), "5 failures within {took:?}");
    node.mend_hook("promote");
    node.wait_primary();
}

#[test]
fn a_bootstrap_hook_that_always_fails_is_not_run_hot() {
    let consul = Consul::one();
    let mut node = Toy::new("barren", "one", &consul.addresses());
    node.hook("bootstrap", "#!/bin/sh\n: >$LICTOR_DATA_DIR/half\nexit 1\n");
    node.start();
    let tried = |node: &Toy| node.logged(&["hook_start", "hook=bootstrap"]);
    wait_for(LIMIT, "it is tried", || tried(&node) > 0);
    let begun = Instant::now();
    wait_for(LIMIT, "it is tried again", || tried(&node) >= 6);
    let took = begun.elapsed();
    assert!(took >= FIVE_PAUSES - Duration::from_millis(100), "5 failures within {took:?}");
    node.mend_hook("bootstrap");
    node.wait_primary();
    assert!(!node.app_dir().join("half").exists(), "wiped before each");
}

#[test]
fn an_application_that_dies_again_and_again_is_not_started_hot() {
    let consul = Consul::one();
    let mut node = Toy::new("loop", "one", &consul.addresses());
    node.set("command", "[\"sh\", \"-c\", \"echo it begins; exit 7\"]");
    node.start();
    node.wait_logged(&["it begins"]);
    let begun = Instant::now();
    wait_for(LIMIT, "it is started again", || node.logged(&["it begins"]) >= 6);
    let took = begun.elapsed();
    assert!(took >= FIVE_PAUSES - Duration::from_millis(100), "5 crashes within {took:?}");
    assert_eq!(node.code("/liveness"), 200);
    assert_eq!(node.stop(), 0);
}

#[test]
fn a_replica_that_dies_again_and_again_disturbs_nobody() {
    let consul = Consul::one();
    let mut nodes = three("weak", &consul.addresses());
    let first = settle(&mut nodes);
    let weak = (first + 1) % 3;
    for round in 0..3 {
        nodes[first].write(&format!("{round}"));
        let old = nodes[weak].app_pid();
        // No answer: it is gone before it could.
        nodes[weak].toy("exit 9");
        wait_for(LIMIT, "another process runs", || {
            nodes[weak].app_pid().is_some_and(|pid| Some(pid) != old)
        });
        nodes[weak].wait_replica();
        wait_for(LIMIT, "it has the row", || {
            nodes[weak].rows().is_some_and(|rows| rows.len() == round + 1)
        });
    }
    assert_eq!(primary(&nodes), Some(first));
    assert_eq!(nodes[first].logged(&["promote.done"]), 1, "one term all the time");
}

/// Switches over from a primary with this demote hook.
fn switch_with(cluster: &str, demote: &str) -> (Vec<Toy>, usize, usize) {
    let consul = Consul::one();
    let mut nodes = three(cluster, &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("sync", "\"on\""));
    let first = settle(&mut nodes);
    let synced = || nodes.iter().filter(|node| node.code("/sync") == 200).count() == 3;
    wait_for(LIMIT, "all acknowledge", synced);
    nodes[first].write("before");
    let app = nodes[first].app_pid().expect("it runs");
    nodes[first].hook("demote", demote);
    let to = (first + 1) % 3;
    wait_for(LIMIT, "the row is there", || nodes[to].rows().is_some_and(|r| r.len() == 1));
    let asked = nodes[to].ask(&["switchover", "--to", &nodes[to].name]);
    let next = wait_some(LIMIT, "one leads", || primary(&nodes));
    // It did not say that it refuses writes, so it must not be there to take any.
    assert!(!lives(app), "the old primary's process");
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
    assert_eq!(next, to, "the chosen one leads");
    nodes[to].write("after");
    settle(&mut nodes);
    wait_for(LIMIT, "the old one follows", || nodes[first].rows().is_some_and(|r| r.len() == 2));
    (nodes, first, to)
}

#[test]
fn a_demote_hook_that_asks_to_be_stopped() {
    let (nodes, first, _) = switch_with("stopme", "#!/bin/sh\nexit 4\n");
    assert_eq!(nodes[first].logged(&["demote.kill", "4"]), 1);
}

#[test]
fn a_demote_hook_that_hangs() {
    let (nodes, first, _) = switch_with("hangs", "#!/bin/sh\nsleep 60\n");
    assert!(nodes[first].logged(&["demote.kill"]) <= 1);
}

#[test]
fn a_demote_hook_has_its_own_time_too() {
    let consul = Consul::one();
    let mut node = Toy::new("slow", "one", &consul.addresses());
    node.set("timeouts.demote", "\"100ms\"");
    node.hook("demote", "#!/bin/sh\nsleep 60\n");
    node.start();
    node.wait_primary();
    let app = node.app_pid().expect("it runs");
    assert_eq!(node.stop(), 0);
    assert!(!lives(app));
    assert_eq!(node.logged(&["demote.kill", "its timeout"]), 1, "not cancelled by the lease's end");
}

#[test]
fn attempts_of_replicate_are_counted() {
    let consul = Consul::one();
    let mut nodes = three("count", &consul.addresses());
    nodes.truncate(2);
    nodes.iter_mut().for_each(|node| node.set("bootstrap_expect", "2"));
    for node in &nodes {
        node.hook("replicate", "#!/bin/sh\necho attempt $LICTOR_ATTEMPT\nexit 1\n");
        // No health of its own: the port is tried.
        std::fs::remove_file(node.path("hooks/health")).expect("it was there");
    }
    nodes.iter_mut().for_each(Toy::start);
    let first = wait_some(LIMIT, "one is the primary", || primary(&nodes));
    nodes[1 - first].wait_logged(&["attempt 3"]);
    assert_eq!(nodes[1 - first].logged(&["line=attempt 1"]), 1);
}

#[test]
fn hands_on_the_lock_do_not_interrupt_its_holder() {
    let consul = Consul::one();
    let mut node = Toy::new("hands", "one", &consul.addresses());
    node.start();
    node.wait_primary();
    let app = node.app_pid();
    let key = "lictor/hands/leader";
    let holder = || consul.entry(key).and_then(|it| Some(it["Session"].as_str()?.to_owned()));
    for (round, spoil) in ["delete", "put", "destroy"].iter().enumerate() {
        let session = wait_some(LIMIT, "the lock is held", holder);
        match *spoil {
            "delete" => consul.delete(key),
            "put" => consul.put(key, "garbage"),
            _ => drop(consul.json("PUT", &format!("/v1/session/destroy/{session}"), "")),
        }
        wait_for(LIMIT, "held again, and renewed", || {
            let text = consul.request("GET", &format!("/v1/kv/{key}?raw"), "").1;
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            holder().is_some() && value["state"] == "held" && value["n"].as_u64() >= Some(2)
        });
        node.write(&format!("{round}"));
        assert!(node.is_primary(), "after {spoil}");
    }
    assert_eq!(node.app_pid(), app, "the same process");
    assert_eq!(node.logged(&["hook_start", "hook=demote"]), 0);
    assert_eq!(node.logged(&["hook_start", "hook=promote"]), 1);
}

#[test]
fn what_hooks_leave_behind_is_ended() {
    let consul = Consul::one();
    let mut node = Toy::new("litter", "one", &consul.addresses());
    // Nobody else sleeps for so long; the number is this test's own.
    let mark = format!("100{}", node.port);
    for hook in ["pre-start", "promote", "position", "health"] {
        let kept = node.path("hooks").join(format!("{hook}.kept"));
        std::fs::rename(node.path("hooks").join(hook), &kept).expect("it was there");
        let litter = format!("setsid sleep {mark} </dev/null >/dev/null 2>&1 &");
        let litter =
            format!("#!/bin/bash\n{litter}\n(sleep {mark} &) &\nexec {}\n", kept.display());
        node.hook(hook, &litter);
    }
    node.start();
    node.wait_primary();
    node.write("one");
    let health = node.logged(&["hook_end", "hook=health"]);
    wait_for(LIMIT, "more hooks", || node.logged(&["hook_end", "hook=health"]) > health + 1);
    // Between two health hooks there is none.
    wait_for(LIMIT, "nothing is left between two hooks", || sleepers(&node, &mark).is_empty());
    assert!(node.is_primary());
    let whole = tree(node.pid());
    assert_eq!(node.stop(), 0);
    wait_for(LIMIT, "nothing is left", || !whole.iter().any(|pid| lives(*pid)));
}

fn sleepers(node: &Toy, mark: &str) -> Vec<Pid> {
    let sleeps = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    tree(node.pid()).into_iter().filter(sleeps).collect()
}

#[test]
fn nobody_creates_beside_data_of_a_cluster_that_consul_forgot() {
    let consul = Consul::one();
    let mut nodes = three("wiped", &consul.addresses());
    nodes.truncate(2);
    nodes.iter_mut().for_each(|node| node.set("bootstrap_expect", "2"));
    settle(&mut nodes);
    nodes.iter_mut().for_each(|node| assert_eq!(node.stop(), 0));
    let path = "/v1/kv/lictor/wiped/?recurse";
    consul.json("DELETE", path, "");
    // The second with an empty volume: it alone could create.
    std::fs::remove_dir_all(nodes[1].path("volume")).expect("ours");
    nodes.iter_mut().for_each(Toy::start);
    wait_for(LIMIT, "both report", || members(&nodes[1]) == 2);
    let status = nodes[1].status().unwrap_or_default()["waits_for"].to_string();
    assert!(status.contains("data"), "it says why: {status}");
    // Longer than a creation takes: the maximum lease and the hooks.
    let health = nodes[0].logged(&["hook_end", "hook=health"]);
    wait_for(LIMIT, "time passes", || nodes[0].logged(&["hook_end", "hook=health"]) > health + 6);
    assert!(primary(&nodes).is_none());
    assert!(!nodes[1].app_dir().join("rows").exists(), "nothing was created");
    assert!(nodes[0].app_dir().join("rows").exists(), "nothing was lost");
}
