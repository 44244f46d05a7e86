//! The model against the world: real nodes on a real Consul behind a proxy that delays, cuts and
//! swallows; what each core was told, told again to a fresh core, must give the same effects with
//! the same reasons.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

mod common;

use common::consul::Consul;
use common::proxy::{Mode, Proxy};
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use lictor::sim::rng::Rng;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

/// Faults of one run; each is waited for until it has hit a request.
const FAULTS: usize = 18;
const LATE: Duration = Duration::from_millis(300);

fn recorded(node: &Toy) -> std::path::PathBuf {
    node.path("recording")
}

fn replay(node: &Toy, words: &[&str]) -> Output {
    let path = recorded(node);
    let line = [&["replay", path.to_str().expect("UTF-8")], words].concat();
    node.lictor(&line).output().expect("lictor starts")
}

fn report(node: &Toy) -> (Option<i32>, Value) {
    let output = replay(node, &["--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(text.trim()).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), value)
}

/// One cluster behind a proxy each.
struct Cluster {
    _consul: Consul,
    proxies: Vec<Proxy>,
    nodes: Vec<Toy>,
}

fn cluster(name: &str) -> Cluster {
    let consul = Consul::one();
    let port = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok());
    let target = port(&consul.addresses()[0]).expect("a port");
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::start(target)).collect();
    let mut nodes = three(name, &consul.addresses());
    for (node, proxy) in nodes.iter_mut().zip(&proxies) {
        node.set("consul.addresses", &format!("[\"{}\"]", proxy.address()));
        let path = recorded(node);
        node.set("record", &toml::Value::from(path.to_str().expect("UTF-8")).to_string());
        // A leader that Consul does not hear must be replaced, or nothing would change.
        node.set("on_consul_loss", "\"fence\"");
    }
    Cluster { _consul: consul, proxies, nodes }
}

/// Seeded, so that a failure can be looked for again; the world's times are its own.
fn trouble(cluster: &Cluster, rng: &mut Rng) -> [usize; 4] {
    let mut done = [0; 4];
    for turn in 0..FAULTS {
        let kind = turn % done.len();
        let modes = [Mode::DelayRequest(LATE), Mode::DropReply, Mode::CutReply, Mode::BlackHole];
        let leader = wait_some(LIMIT, "a leader", || primary(&cluster.nodes));
        let at = if rng.chance(600) { leader } else { rng.index(cluster.nodes.len()) };
        let proxy = &cluster.proxies[at];
        let before = proxy.seen().len();
        proxy.set(modes[kind]);
        wait_for(LIMIT, "the fault hits a request", || proxy.seen().len() > before + 1);
        if modes[kind] == Mode::BlackHole && at == leader {
            wait_for(LIMIT, "another leads", || {
                primary(&cluster.nodes).is_some_and(|now| now != leader)
            });
        }
        proxy.set(Mode::Pass);
        done[kind] += 1;
    }
    done
}

fn decided(report: &Value, code: &str) -> u64 {
    report["reasons"][code].as_u64().unwrap_or(0)
}

#[test]
fn what_real_nodes_did_the_core_does_again() {
    let mut cluster = cluster("again");
    settle(&mut cluster.nodes);
    let done = trouble(&cluster, &mut Rng::new(7, 0));
    assert!(done.iter().all(|count| *count > 2), "{done:?}");
    let leader = wait_some(LIMIT, "a leader at the end", || primary(&cluster.nodes));
    // One ends in the middle of a line, perhaps.
    cluster.nodes[(leader + 1) % 3].crash();
    for place in [leader, (leader + 2) % 3] {
        assert_eq!(cluster.nodes[place].stop(), 0);
    }
    let mut opened = 0;
    for node in &cluster.nodes {
        let (code, report) = report(node);
        assert_eq!(code, Some(0), "{}: {report:#}", node.name);
        assert!(report["difference"].is_null());
        assert!(report["steps"].as_u64().is_some_and(|steps| steps > 50), "{report:#}");
        opened += decided(&report, "open");
    }
    assert!(opened > 1, "no leader changed: {opened}");
    look_inside(&cluster.nodes[leader]);
}

/// What a file is like, and that a replay of another one does not pass.
fn look_inside(node: &Toy) {
    let path = recorded(node);
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).expect("text");
    assert!(!text.contains("\\\"key\\\""), "the peers' key is in it");
    let told = String::from_utf8_lossy(&replay(node, &[]).stdout).into_owned();
    assert!(told.contains("promote.done") || told.contains("follow.done"), "{told}");
    assert!(told.contains("the same, step by step"), "{told}");

    // Another reason in one line.
    let lines: Vec<&str> = text.lines().collect();
    let place = lines.iter().position(|line| line.contains("\"bar.state\"")).expect("it waited");
    let mut other: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    other[place] = other[place].replace("\"bar.state\"", "\"bar.stats\"");
    fs::write(&path, other.join("\n")).expect("ours");
    let (code, report) = report(node);
    assert_eq!(code, Some(1));
    assert_eq!(report["difference"]["line"], place + 1);

    // A damaged line, one at the end, another version, nothing at all.
    for (text, says) in [
        ([lines[0], "{\"now\":", lines[1]].join("\n"), "line 2: EOF"),
        ([lines[0], lines[1], "{\"now\":\n"].join("\n"), "line 3: EOF"),
        (lines[0].replacen("\"v\":1", "\"v\":7", 1), "format 7, and this lictor reads 1"),
        ("{}\n".to_owned(), "this is no recording of lictor"),
        (String::new(), "it is empty"),
    ] {
        fs::write(&path, text).expect("ours");
        let output = replay(node, &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    }
    fs::write(&path, [lines[0], lines[1], "{\"now\":{\"at\""].join("\n")).expect("ours");
    let (code, report) = self::report(node);
    assert_eq!((code, &report["cut_off"], &report["steps"]), (Some(0), &true.into(), &1.into()));
}

#[test]
fn the_former_recording_is_kept_and_a_path_that_cannot_be_is_said_at_once() {
    let consul = Consul::one();
    let mut node = Toy::new("twice", "one", &consul.addresses());
    let path = recorded(&node);
    node.set("record", &toml::Value::from(path.to_str().expect("UTF-8")).to_string());
    for _ in 0..2 {
        node.start();
        node.wait_primary();
        assert_eq!(node.stop(), 0);
    }
    assert_eq!(report(&node).0, Some(0));
    assert!(node.path("recording.1").exists());
    // Somebody's file, and a place where none can be.
    let other = node.path("ibdata1");
    fs::write(&other, "pages").expect("ours");
    node.set("record", &toml::Value::from(other.to_str().expect("UTF-8")).to_string());
    node.start();
    assert_eq!(node.wait(), 64, "{}", node.log());
    assert_eq!(fs::read_to_string(&other).expect("it stays"), "pages");
    node.set("record", "\"/proc/nothing/recording\"");
    node.start();
    assert_eq!(node.wait(), 64, "{}", node.log());
    assert_eq!(node.logged(&["record /proc/nothing/recording: "]), 1, "{}", node.log());
}
