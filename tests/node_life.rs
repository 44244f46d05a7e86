//! A node's whole life on a real Consul, with a toy for an application: creation, roles, switchover,
//! hooks that fail, crashes, ends.

mod common;

use common::consul::Consul;
use common::toy::Toy;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The maximum lease before the first promotion, the toy's hooks, and what is promised on top; with
/// room for a machine that is busy with other tests.
const FIRST_PRIMARY: Duration = Duration::from_secs(3 + 2 + 5);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_single_node_creates_leads_ends_and_comes_back() {
    let consul = Consul::one();
    let mut node = Toy::new("solo", "one", &consul.addresses());
    let before = node.ask(&["status"]);
    assert_eq!(before.status.code(), Some(1), "nobody leads yet: {}", text(&before.stdout));
    let begun = Instant::now();
    node.start();
    node.wait_primary();
    let took = begun.elapsed();
    assert!(took < FIRST_PRIMARY, "primary after {took:?}");
    // Promoted, not started writable: pre-start comes first.
    assert_eq!(node.logged(&["toy: 0 rows, ro"]), 1);
    for (path, code) in [
        ("/primary", 200),
        ("/replica", 503),
        ("/read-only", 200),
        ("/health", 200),
        ("/readiness", 200),
        ("/liveness", 200),
        ("/status", 200),
    ] {
        assert_eq!(node.code(path), code, "{path}");
    }
    node.write("first");
    status_tells(&node);
    let begun = Instant::now();
    assert_eq!(node.stop(), 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "a stop took {took:?}");
    let leader = consul.entry("lictor/solo/leader").expect("the lock stays");
    assert!(leader["Session"].is_null(), "released: {leader}");
    node.start();
    node.wait_primary();
    node.write("second");
    assert_eq!(node.rows(), Some(vec!["first".to_owned(), "second".to_owned()]));
    // And after a loss of power: no release, the lease is waited for.
    node.crash();
    node.start();
    node.wait_primary();
    assert_eq!(node.rows(), Some(vec!["first".to_owned(), "second".to_owned()]));
    assert_eq!(node.stop(), 0);
    let after = node.ask(&["status"]);
    assert_eq!(after.status.code(), Some(1), "nobody leads any more: {}", text(&after.stdout));
}

fn status_tells(node: &Toy) {
    let table = node.ask(&["status"]);
    assert_eq!(table.status.code(), Some(0));
    let table = text(&table.stdout);
    let first = table.lines().next().unwrap_or_default();
    assert!(first.starts_with("cluster solo: one leads, epoch "), "{table}");
    let row = table.lines().find(|line| line.starts_with("one ")).unwrap_or_default();
    let words: Vec<_> = row.split_whitespace().collect();
    let app = format!("127.0.0.1:{}", node.app_port);
    assert_eq!(words[1..3], ["primary", "primary"], "{table}");
    assert!(words.contains(&app.as_str()), "{table}");
    let json = node.ask(&["status", "--json"]);
    assert_eq!(json.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&json.stdout).expect("one JSON value");
    assert_eq!(json["v"], 1);
    assert_eq!(json["locked"], true);
    assert_eq!(json["leader"]["node"], "one");
    assert_eq!(json["members"][0]["role"], "primary");
    assert_eq!(json["members"][0]["answers"], true);
}
