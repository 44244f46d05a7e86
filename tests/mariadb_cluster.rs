//! Three MariaDB nodes under lictor on a real Consul: what breaks, who takes over, and that no
//! acknowledged row is lost and never two nodes are writable.
//!
//! The bounds are generous, for machines are noisy; the measured gaps are printed.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{Cluster, Options};
use common::node::send;
use common::wait_for;
use common::writer::{Verdict, Writer, assert_the_judge_judges};
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// No failover may take longer, on however busy a machine.
const GAP_MOST: Duration = Duration::from_secs(10);
/// Rows on the new primary before the next event: its term is then told from the next.
const SETTLED_ROWS: usize = 100;
/// How long a fence by the guard may take to be seen.
const FENCE_LIMIT: Duration = Duration::from_secs(10);
/// How long a sidecar stands still.
const STOPPED: Duration = Duration::from_secs(20);

#[test]
fn the_judge_judges() {
    assert_the_judge_judges();
}

/// Runs one event under load: waits for the successor to work, says and checks the gap.
fn event(cluster: &mut Cluster, writer: &Writer, name: &str, act: impl FnOnce(&mut Cluster)) {
    let at = Instant::now();
    act(cluster);
    let primary = cluster.wait_primary();
    let rest = Instant::now();
    writer.wait_acks_of(cluster.index(&primary), rest, SETTLED_ROWS);
    let gap = writer.gap(at);
    println!("{name}: {primary} is primary, gap {} ms", gap.as_millis());
    assert!(gap < GAP_MOST, "{name}: nothing acknowledged for {gap:?}");
}

#[test]
fn an_application_a_node_and_a_plan_cost_no_acknowledged_row() {
    let mut cluster = Cluster::start(Options::default());
    let writer = Writer::start(&cluster);

    let old = cluster.wait_converged();
    event(&mut cluster, &writer, "application killed", |cluster| {
        cluster.node(&old).kill_app();
        cluster.wait_successor(&old);
    });
    let old = cluster.wait_converged();
    event(&mut cluster, &writer, "node killed", |cluster| {
        cluster.node_mut(&old).kill();
        cluster.wait_successor(&old);
    });
    cluster.node_mut(&old).start();
    let from = cluster.wait_converged();
    assert_ne!(from, old, "a node that comes back follows");
    event(&mut cluster, &writer, "switchover to a node", |cluster| {
        let done = cluster.switchover(Some(&old));
        assert_eq!(done.exit, 0, "{}", done.answer);
        println!("the command took {} ms: {}", done.took.as_millis(), done.answer.trim());
        assert_eq!(cluster.wait_primary(), old);
    });
    let from = cluster.wait_converged();
    event(&mut cluster, &writer, "switchover", |cluster| {
        let done = cluster.switchover(None);
        assert_eq!(done.exit, 0, "{}", done.answer);
        assert_ne!(cluster.wait_primary(), from);
    });
    let refused = cluster.switchover(Some("nobody"));
    assert_eq!(refused.exit, 3, "{}", refused.answer);
    cluster.wait_converged();
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

#[test]
fn a_stopped_sidecar_is_fenced_and_comes_back_as_a_replica() {
    let cluster = Cluster::start(Options::default());
    let writer = Writer::start(&cluster);
    let old = cluster.wait_converged();
    let node = cluster.node(&old);
    let (sidecar, app) = (node.sidecar(), node.app());
    let at = Instant::now();
    send(sidecar, Signal::SIGSTOP);
    wait_for(FENCE_LIMIT, "the guard kills the application", || node.app() != app);
    println!("fenced after {} ms", at.elapsed().as_millis());
    let successor = cluster.wait_successor(&old);
    writer.wait_acks_of(cluster.index(&successor), at, SETTLED_ROWS);
    let gap = writer.gap(at);
    println!("sidecar stopped: gap {} ms", gap.as_millis());
    assert!(gap < GAP_MOST, "{gap:?}");
    // The length of the pause is what is tested: long after its lease it must not act on it.
    wait_for(STOPPED * 2, "the pause is over", || at.elapsed() >= STOPPED);
    assert_eq!(node.app(), None, "nobody starts an application while the sidecar stands still");
    send(sidecar, Signal::SIGCONT);
    assert_ne!(cluster.wait_converged(), old);
    assert_eq!(cluster.node(&old).sidecar(), sidecar, "the same process goes on");
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

/// The signal hits the primary's sidecar or guard; the promise is the same.
fn one_process_of_lictor_is_killed(which: fn(&common::node::Node) -> nix::unistd::Pid) -> i32 {
    let mut cluster = Cluster::start(Options::default());
    let writer = Writer::start(&cluster);
    let old = cluster.wait_converged();
    let at = Instant::now();
    send(which(cluster.node(&old)), Signal::SIGKILL);
    cluster.node(&old).wait_gone(FENCE_LIMIT);
    println!("everything of the node is gone after {} ms", at.elapsed().as_millis());
    let code = cluster.node_mut(&old).wait_end();
    let successor = cluster.wait_successor(&old);
    writer.wait_acks_of(cluster.index(&successor), at, SETTLED_ROWS);
    let gap = writer.gap(at);
    println!("gap {} ms, exit code {code}", gap.as_millis());
    assert!(gap < GAP_MOST, "{gap:?}");
    cluster.node_mut(&old).start();
    assert_ne!(cluster.wait_converged(), old);
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
    code
}

#[test]
fn a_killed_sidecar_takes_its_application_with_it() {
    let code = one_process_of_lictor_is_killed(common::node::Node::sidecar);
    assert_eq!(code, 137, "the guard says that its sidecar was killed");
}

#[test]
fn a_killed_guard_takes_its_application_with_it() {
    one_process_of_lictor_is_killed(common::node::Node::guard);
}

#[test]
fn without_sync_a_crash_restarts_in_place_and_a_lost_node_fails_over() {
    let mut cluster = Cluster::start(Options { sync: "off", ..Options::default() });
    let writer = Writer::start(&cluster);
    let old = cluster.wait_converged();
    event(&mut cluster, &writer, "application killed", |cluster| {
        let app = cluster.node(&old).app();
        cluster.node(&old).kill_app();
        wait_for(GAP_MOST, "it runs again", || {
            cluster.node(&old).app().is_some_and(|now| Some(now) != app)
        });
        assert_eq!(cluster.wait_primary(), old, "restarted in place");
    });
    assert_eq!(cluster.wait_converged(), old);
    event(&mut cluster, &writer, "node killed", |cluster| {
        cluster.node_mut(&old).kill();
        cluster.wait_successor(&old);
    });
    cluster.node_mut(&old).start();
    assert_ne!(cluster.wait_converged(), old);
    let verdict: Verdict = writer.finish(&cluster);
    // What was not yet shipped may be lost here; two primaries may not be.
    verdict.assert_one_primary();
    cluster.wait_equal();
}

#[test]
fn the_name_of_the_primary_resolves_to_it_alone() {
    let mut cluster = Cluster::start(Options { dns: true, ..Options::default() });
    let old = cluster.wait_converged();
    let port = cluster.node(&old).port;
    let dns = cluster.consul.servers[0].dns.expect("asked for");
    let limit = Duration::from_secs(15);
    let primary = || ports_of(dns, "primary.demo.service.consul");
    wait_for(limit, "Consul names the primary", || primary() == [port]);
    let mut replicas: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    replicas.retain(|it| *it != port);
    replicas.sort();
    wait_for(limit, "Consul names both replicas", || {
        ports_of(dns, "replica.demo.service.consul") == replicas
    });
    cluster.node_mut(&old).kill();
    let successor = cluster.wait_successor(&old);
    let next = cluster.node(&successor).port;
    wait_for(limit, "Consul names the new primary alone", || primary() == [next]);
    cluster.node_mut(&old).start();
    cluster.wait_converged();
    assert_eq!(primary(), [next]);
}

/// The ports of the SRV records of a name, in order.
fn ports_of(dns: u16, name: &str) -> Vec<u16> {
    let mut question = vec![0x4c, 0x49, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("labels are short"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 33, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit can be set");
    socket.send_to(&question, ("127.0.0.1", dns)).expect("Consul is up");
    let mut answer = [0; 4096];
    let Ok(length) = socket.recv(&mut answer) else { return Vec::new() };
    let answer = &answer[..length];
    let number = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    let mut at = question.len();
    let mut ports = Vec::new();
    for _ in 0..number(6) {
        at = skip_name(answer, at);
        let (kind, size) = (number(at), usize::from(number(at + 8)));
        if kind == 33 {
            ports.push(number(at + 14));
        }
        at += 10 + size;
    }
    ports.sort();
    ports
}

fn skip_name(message: &[u8], mut at: usize) -> usize {
    loop {
        match message[at] {
            0 => return at + 1,
            pointer if pointer >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    }
}

#[test]
fn a_lost_volume_and_a_diverged_one_are_cloned() {
    let mut cluster = Cluster::start(Options::default());
    let writer = Writer::start(&cluster);
    cluster.lead_by("n1");
    let disk = cluster.node("n2").status().expect("n2 answers")["disk"].clone();
    cluster.node_mut("n2").kill();
    cluster.node("n2").wipe();
    cluster.node_mut("n2").start();
    assert_eq!(cluster.wait_converged(), "n1");
    let fresh = cluster.node("n2").status().expect("n2 answers")["disk"].clone();
    assert_ne!(disk, fresh, "an empty volume is another disk");

    // An old primary writes what no other will ever have.
    assert_eq!(cluster.switchover(Some("n3")).exit, 0);
    assert_eq!(cluster.wait_converged(), "n3");
    let stray = u64::MAX - 1;
    let diverge = format!("set sql_log_bin = 1; insert into app.kept values ({stray}, 9)");
    cluster.node("n1").admin(&diverge);
    cluster.node_mut("n1").kill();
    cluster.node_mut("n1").start();
    assert_eq!(cluster.wait_converged(), "n3");
    let count = format!("select count(*) from app.kept where id = {stray}");
    assert_eq!(cluster.node("n1").ask(&count).as_deref(), Some("0"), "the stray row is gone");
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

#[test]
fn without_consul_the_primary_is_fenced_and_comes_back() {
    let options =
        Options { servers: 3, settings: "on_consul_loss = \"fence\"".into(), ..Options::default() };
    let mut cluster = Cluster::start(options);
    let writer = Writer::start(&cluster);
    // The leader of Consul dies: an election later at most, there is a primary that writes.
    cluster.wait_converged();
    let raft = cluster.consul.leader().expect("Consul has a leader");
    let at = Instant::now();
    cluster.consul.servers[raft].kill();
    writer.wait_more(SETTLED_ROWS);
    cluster.wait_converged();
    println!("Consul's leader killed: gap {} ms", writer.gap(at).as_millis());
    cluster.consul.servers[raft].restart();
    cluster.consul.wait_healthy();

    // No quorum until well after every lease: nobody may be writable.
    cluster.wait_converged();
    let at = Instant::now();
    let [one, two, _] = &cluster.consul.servers[..] else { panic!("three were asked for") };
    one.stop();
    two.stop();
    wait_for(FENCE_LIMIT, "no node is writable", || cluster.nodes.iter().all(refuses_writes));
    let fenced = at.elapsed();
    println!("fenced {} ms after Consul lost its quorum", fenced.as_millis());
    wait_for(FENCE_LIMIT, "no node says that it is primary", || cluster.primary().is_none());
    one.cont();
    two.cont();
    cluster.consul.wait_leader();
    writer.wait_more(SETTLED_ROWS);
    cluster.wait_converged();
    println!("no quorum: gap {} ms", writer.gap(at).as_millis());
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
}

/// Not running, or read-only.
fn refuses_writes(node: &common::node::Node) -> bool {
    use mysql::prelude::Queryable;
    let Ok(mut conn) = common::writer::connect(node.port) else { return true };
    conn.query_first::<u8, _>("select @@global.read_only").ok() != Some(Some(0))
}
