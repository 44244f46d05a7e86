//! A rolling restart and a rolling upgrade of lictor under load: one node after the other, replicas
//! first, and the primary last.
//!
//! Each costs one switchover: no commit fails but the one in flight at it, none is lost, and none
//! waits for a replica that is restarted. The bounds are generous, for machines are noisy; what was
//! measured is printed.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{Cluster, Options};
use common::wait_for;
use common::writer::Writer;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Commits that may wait while a replica is restarted, on however busy a machine. A replica that
/// fell silent would be noticed after 3 s.
const STALL_MOST: Duration = Duration::from_millis(2_500);
/// No planned hand-over may take longer, on however busy a machine.
const GAP_MOST: Duration = Duration::from_secs(10);
/// One writer a node: so many commits can be in flight.
const IN_FLIGHT: usize = 1;
const SETTLED_ROWS: usize = 50;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_rolling_restart_and_a_rolling_upgrade_cost_one_switchover_each() {
    let mut cluster = Cluster::start(Options::default());
    let writer = Writer::start(&cluster);
    roll(&mut cluster, &writer, "restart", None);

    let dir = tempfile::tempdir().expect("the temporary directory is writable");
    let (newer, version) = newer_build(dir.path());
    a_member_of_the_future(&cluster);
    roll(&mut cluster, &writer, "upgrade", Some(&newer));
    for node in &cluster.nodes {
        let status = node.status().expect("it answers");
        assert_eq!(status["version"], version.as_str(), "{}", node.name);
    }
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

/// In a two-node cluster a commit waits for the one replica: it must leave the set before it goes.
#[test]
fn no_commit_waits_for_the_only_replica_while_it_is_restarted() {
    let mut cluster = Cluster::start(Options::default());
    let primary = cluster.wait_converged();
    let mut replicas = names_but(&cluster, &primary);
    let gone = replicas.pop().expect("there are two");
    let other = replicas.pop().expect("there are two");
    assert_eq!(cluster.node_mut(&gone).stop(), 0);
    cluster.wait_converged();
    let writer = Writer::start(&cluster);
    let from = Instant::now();
    restart_replica(&mut cluster, &writer, &primary, &other);
    assert_eq!(writer.failed(cluster.index(&primary), from), 0);
    writer.finish(&cluster).assert_nothing_lost();
}

fn names_but(cluster: &Cluster, primary: &str) -> Vec<String> {
    let names = cluster.nodes.iter().map(|node| node.name.clone());
    names.filter(|name| name != primary).collect()
}

/// Every node once, by the program given.
fn roll(cluster: &mut Cluster, writer: &Writer, what: &str, program: Option<&Path>) {
    let begun = Instant::now();
    let primary = cluster.wait_converged();
    for name in names_but(cluster, &primary) {
        cluster.node_mut(&name).program = program.map(Path::to_owned);
        restart_replica(cluster, writer, &primary, &name);
    }
    let old = cluster.index(&primary);
    assert_eq!(writer.failed(old, begun), 0, "{what}: a commit failed for a replica's restart");

    let at = Instant::now();
    cluster.nodes[old].program = program.map(Path::to_owned);
    assert_eq!(cluster.nodes[old].stop(), 0);
    let next = cluster.wait_primary();
    assert_ne!(next, primary);
    cluster.nodes[old].start();
    assert_eq!(cluster.wait_converged(), next, "{what}: more than one switchover");
    writer.wait_acks_of(cluster.index(&next), Instant::now(), SETTLED_ROWS);
    let (gap, failed) = (writer.gap(at), writer.failed(old, at));
    println!(
        "rolling {what}: primary moved with a gap of {} ms, {failed} commit in flight failed; \
         all in {} ms",
        gap.as_millis(),
        begun.elapsed().as_millis()
    );
    assert!(gap < GAP_MOST, "{what}: nothing acknowledged for {gap:?}");
    assert!(failed <= IN_FLIGHT, "{what}: {failed} commits failed at one switchover");
    assert_eq!(writer.failed(cluster.index(&next), at), 0, "{what}: the new primary failed one");
}

fn restart_replica(cluster: &mut Cluster, writer: &Writer, primary: &str, name: &str) {
    let at = Instant::now();
    assert_eq!(cluster.node_mut(name).stop(), 0);
    let stopped = at.elapsed();
    writer.wait_acks_of(cluster.index(primary), Instant::now(), SETTLED_ROWS);
    cluster.node_mut(name).start();
    assert_eq!(cluster.wait_converged(), primary);
    writer.wait_acks_of(cluster.index(primary), Instant::now(), SETTLED_ROWS);
    let gap = writer.gap(at);
    println!(
        "replica {name} restarted: stopped in {} ms, longest wait of a commit {} ms",
        stopped.as_millis(),
        gap.as_millis()
    );
    assert!(gap < STALL_MOST, "commits waited {gap:?} for {name}");
}

/// The same program under another version's number, from another path.
fn newer_build(dir: &Path) -> (PathBuf, String) {
    let (own, other) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_VERSION").replace('.', "_"));
    let mut program = std::fs::read(env!("CARGO_BIN_EXE_lictor")).expect("it was built");
    let places: Vec<usize> = program
        .windows(own.len())
        .enumerate()
        .filter(|(_, window)| *window == own.as_bytes())
        .map(|(place, _)| place)
        .collect();
    for place in places {
        program[place..place + own.len()].copy_from_slice(other.as_bytes());
    }
    let path = dir.join("lictor-newer");
    std::fs::write(&path, program).expect("our directory is writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("ours");
    (path, other)
}

/// A later version's record, with fields that this one does not know: it is read, and what is known
/// of it is shown.
fn a_member_of_the_future(cluster: &Cluster) {
    let model = cluster.nodes[0].status().expect("it answers")["members"][0].clone();
    let record = json!({
        "v": 1, "node": "later", "run": "none", "disk": "none", "cluster": null,
        "roles": {"performs": ["oracle"], "foresees": ["rain"]},
        "peer": "127.0.0.1:9", "app": model["app"], "zone": "", "host": "", "tags": [],
        "priority": 1, "no_failover": true, "state": "dreaming", "floor": 0, "follows": null,
        "version": "99", "mood": {"of": ["the", "future"]},
    });
    cluster.consul.put("lictor/demo/state/members/later", &record.to_string());
    wait_for(LIMIT, "the record is understood", || {
        let status = cluster.nodes[0].status().unwrap_or_default();
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|member| member["version"] == "99" && member["state"] == "dreaming")
    });
}
