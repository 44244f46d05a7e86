//! Consul is lost, whole or to one node: writers notice nothing as long as every candidate promises
//! to take nothing; with one missing the primary is fenced at its deadline.
//!
//! The bounds are generous, for machines are noisy; the measured times are printed.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{Cluster, Options};
use common::consul::Agent;
use common::node::{Node, send};
use common::wait_for;
use common::writer::Writer;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// No pause of the writes may reach a lease.
const LEASE: Duration = Duration::from_secs(3);
/// How long all of Consul stands still: far longer than every lease.
const FROZEN: Duration = Duration::from_secs(20);
/// How long a node's first address stands still.
const FIRST_FROZEN: Duration = Duration::from_secs(8);
/// For what takes a second or a lease.
const SOON: Duration = Duration::from_secs(15);
/// Consul's sessions end at twice their TTL of 15 s, at the latest.
const SESSION_LIMIT: Duration = Duration::from_secs(60);
/// Consul elects, somebody takes and promotes: about 4 s on a machine of its own.
const BACK_LIMIT: Duration = Duration::from_secs(30);
const SETTLED_ROWS: usize = 100;

/// What keeps the term of this node open.
fn source(node: &Node) -> Option<String> {
    let status = node.status()?;
    status["leadership"]["lease_source"].as_str().map(str::to_owned)
}

fn is_carried_by(node: &Node, what: &str) -> bool {
    source(node).as_deref() == Some(what)
}

fn stop_all(servers: &[Agent]) {
    servers.iter().for_each(Agent::stop);
}

/// Every look until `over` finds the same primary.
fn stays_primary(node: &Node, limit: Duration, what: &str, mut over: impl FnMut() -> bool) {
    wait_for(limit, what, || {
        assert_eq!(node.code("/primary"), 200, "{} is the primary: {what}", node.name);
        over()
    });
}

/// Since `at` no write failed and none waited for long, and the application is the same process.
fn assert_nothing_happened(cluster: &Cluster, writer: &Writer, primary: &str, at: Instant) {
    let failed = writer.failed(cluster.index(primary), at);
    let gap = writer.gap(at);
    println!("{failed} failed writes, gap {} ms", gap.as_millis());
    assert_eq!(failed, 0, "writes failed");
    assert!(gap < LEASE, "nothing acknowledged for {gap:?}");
}

#[test]
fn all_of_consul_frozen_costs_no_write_unless_a_candidate_is_missing() {
    let cluster = Cluster::start(Options { servers: 3, ..Options::default() });
    let writer = Writer::start(&cluster);
    let primary = cluster.wait_converged();
    let node = cluster.node(&primary);
    let app = node.app();

    let at = Instant::now();
    stop_all(&cluster.consul.servers);
    stays_primary(node, SOON, "it lives on promises", || is_carried_by(node, "promises"));
    println!("promises carry the term {} ms after Consul froze", at.elapsed().as_millis());
    for other in cluster.nodes.iter().filter(|other| other.name != primary) {
        let status = other.status().expect("it answers");
        assert!(status["promised"]["left_ms"].as_u64() > Some(0), "{}: {status}", other.name);
    }
    stays_primary(node, FROZEN * 2, "the pause is over", || at.elapsed() >= FROZEN);
    let back = Instant::now();
    cluster.consul.servers.iter().for_each(Agent::cont);
    stays_primary(node, BACK_LIMIT, "it renews", || is_carried_by(node, "renewals"));
    println!("renewing {} ms after Consul's return", back.elapsed().as_millis());
    writer.wait_more(SETTLED_ROWS);
    assert_nothing_happened(&cluster, &writer, &primary, at);
    assert_eq!(cluster.wait_converged(), primary);
    assert_eq!(node.app(), app, "the application was not touched");

    first_address_frozen(&cluster, &writer, &primary);
    one_candidate_frozen_too(&cluster, &writer, &primary);
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

/// It is every node's first, and the raft leader's death as well in one run of three.
fn first_address_frozen(cluster: &Cluster, writer: &Writer, primary: &str) {
    let node = cluster.node(primary);
    let at = Instant::now();
    cluster.consul.servers[0].stop();
    stays_primary(node, SOON * 2, "the pause is over", || at.elapsed() >= FIRST_FROZEN);
    cluster.consul.servers[0].cont();
    writer.wait_more(SETTLED_ROWS);
    assert_nothing_happened(cluster, writer, primary, at);
    assert_eq!(cluster.wait_converged(), primary);
}

fn one_candidate_frozen_too(cluster: &Cluster, writer: &Writer, primary: &str) {
    let node = cluster.node(primary);
    let mute = cluster.nodes.iter().find(|other| other.name != primary).expect("there are three");
    let at = Instant::now();
    stop_all(&cluster.consul.servers);
    send(mute.sidecar(), Signal::SIGSTOP);
    wait_for(SOON, "the primary is fenced", || {
        node.status().is_some_and(|status| status["state"] == "replica")
    });
    println!("fenced {} ms after Consul and a candidate froze", at.elapsed().as_millis());
    let acked = writer.acked();
    let status = node.status().expect("it answers");
    let told = status["reasons"].as_array().expect("a list").iter();
    let why = told.rev().find(|reason| reason["code"] == "hold.unanswered");
    let text = why.expect("it says why")["text"].to_string();
    assert!(text.contains(&mute.name), "{text}");
    // Well past every lease and promise nobody has taken, for nobody can.
    let alive = || cluster.nodes.iter().filter(|other| other.name != mute.name);
    wait_for(SOON * 2, "three leases are over", || {
        assert!(alive().all(|other| other.code("/primary") == 503), "nobody is the primary");
        at.elapsed() >= LEASE * 3
    });
    // A row that was under way at the fence may have come through.
    assert!(writer.acked() <= acked + 1, "rows were acknowledged after the fence");
    let (back, acked) = (Instant::now(), writer.acked());
    cluster.consul.servers.iter().for_each(Agent::cont);
    wait_for(BACK_LIMIT, "rows are acknowledged again", || writer.acked() > acked + 1);
    println!("writing again {} ms after Consul's return", back.elapsed().as_millis());
    send(mute.sidecar(), Signal::SIGCONT);
    writer.wait_more(SETTLED_ROWS);
    cluster.wait_converged();
}

#[test]
fn a_session_that_ends_while_its_holder_is_cut_off_is_replaced_under_way() {
    let cluster = Cluster::start(Options { agents: true, ..Options::default() });
    let writer = Writer::start(&cluster);
    let primary = cluster.wait_converged();
    let index = cluster.index(&primary);
    let node = cluster.node(&primary);
    let app = node.app();
    let epoch = |node: &Node| node.status().and_then(|status| status["term"]["epoch"].as_u64());
    let before = epoch(node);

    let at = Instant::now();
    cluster.agents[index].stop();
    let locked = || {
        let entry = cluster.consul.entry("lictor/demo/leader").expect("it was written");
        entry["Session"].is_string()
    };
    stays_primary(node, SESSION_LIMIT, "its session has ended", || !locked());
    println!("the session ended after {} ms", at.elapsed().as_millis());
    // The others see a free lock now, for longer than a lease, and keep their word.
    let free = Instant::now();
    stays_primary(node, SOON * 2, "two leases are over", || free.elapsed() >= LEASE * 2);
    assert!(!locked(), "somebody took");
    let back = Instant::now();
    cluster.agents[index].cont();
    stays_primary(node, SOON, "it took again", || locked() && is_carried_by(node, "renewals"));
    println!("under a new epoch {} ms after its agent's return", back.elapsed().as_millis());
    assert_eq!(epoch(node), before.map(|epoch| epoch + 1));
    writer.wait_more(SETTLED_ROWS);
    assert_nothing_happened(&cluster, &writer, &primary, at);
    assert_eq!(node.app(), app, "the application was not touched");
    assert_eq!(cluster.wait_converged(), primary);
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}
