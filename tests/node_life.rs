//! A node's whole life on a real Consul, with a toy for an application: creation, roles,
//! switchover, hooks that fail, crashes, ends.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

#[path = "node_life/candidates.rs"]
mod candidates;
#[macro_use]
mod common;
#[path = "node_life/faults.rs"]
mod faults;
#[path = "node_life/process.rs"]
mod process;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The maximum lease before the first promotion, the toy's hooks, and what is promised on top; with
/// room for a machine that is busy with other tests.
const FIRST_PRIMARY: Duration = Duration::from_secs(3 + 2 + 5);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

on_both! {
    a_single_node_creates_leads_ends_and_comes_back,
}

fn a_single_node_creates_leads_ends_and_comes_back(consul: &Consul) {
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

#[test]
fn three_create_follow_and_switch_over() {
    let consul = Consul::one();
    let mut nodes = three("trio", &consul.addresses());
    // Two of three expected: nobody creates.
    nodes[0].start();
    nodes[1].start();
    for node in &nodes[..2] {
        wait_for(LIMIT, "it joins", || node.state() == "joining");
    }
    wait_for(LIMIT, "both are members", || members(&nodes[0]) == 2);
    assert!(consul.entry("lictor/trio/leader").is_none(), "created before all were there");
    let first = settle(&mut nodes);
    nodes[first].write("one");
    for node in &nodes {
        wait_for(LIMIT, "the row is everywhere", || node.rows().is_some_and(|r| r == ["one"]));
    }
    roles_by_http(&nodes, first);
    let to = (first + 1) % 3;
    refusals(&nodes, first, to);
    let done = nodes[0].ask(&["switchover", "--to", &nodes[to].name]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    wait_for(LIMIT, "the new one leads", || primary(&nodes) == Some(to));
    nodes[to].write("two");
    settle(&mut nodes);
    for node in &nodes {
        wait_for(LIMIT, "both rows are everywhere", || {
            node.rows().is_some_and(|rows| rows == ["one", "two"])
        });
    }
    // The primary is stopped: it hands over, and the others do not wait for its lease.
    assert_eq!(nodes[to].stop(), 0);
    let begun = Instant::now();
    let next = wait_some(LIMIT, "another one leads", || primary(&nodes));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?} after a clean stop");
    nodes[next].write("three");
    // Without sync mode what no replica has would be lost.
    let last = 3 - next - to;
    wait_for(LIMIT, "the row is shipped", || nodes[last].rows().is_some_and(|r| r.len() == 3));
    // The second of three loses power; the last one takes after the lease.
    nodes[next].crash();
    nodes[last].wait_primary();
    nodes[last].write("four");
    let back = settle(&mut nodes);
    assert_eq!(back, last);
    wait_for(LIMIT, "the row of all terms is everywhere", || {
        let all = ["one", "two", "three", "four"];
        nodes.iter().all(|node| node.rows().is_some_and(|rows| rows == all))
    });
}

#[test]
fn in_sync_mode_nothing_acknowledged_is_lost() {
    let consul = Consul::one();
    let mut nodes = three("safe", &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("sync", "\"on\""));
    let mut written: Vec<String> = Vec::new();
    for round in 0..3 {
        let first = settle(&mut nodes);
        let synced = || nodes.iter().filter(|node| node.code("/sync") == 200).count() == 3;
        wait_for(LIMIT, "all acknowledge", synced);
        for row in 0..20 {
            let row = format!("{round}-{row}");
            nodes[first].write(&row);
            written.push(row);
        }
        nodes[first].crash();
        let next = wait_some(LIMIT, "another one leads", || primary(&nodes));
        assert_ne!(next, first);
        assert_eq!(nodes[next].rows().as_ref(), Some(&written), "round {round}");
    }
}

fn members(node: &Toy) -> usize {
    let status = node.status().unwrap_or_default();
    status["members"].as_array().map_or(0, Vec::len)
}

fn roles_by_http(nodes: &[Toy], primary: usize) {
    for (index, node) in nodes.iter().enumerate() {
        let leads = index == primary;
        for (path, code) in [
            ("/primary", if leads { 200 } else { 503 }),
            ("/replica", if leads { 503 } else { 200 }),
            ("/read-only", 200),
            ("/health", 200),
            ("/readiness", 200),
            ("/liveness", 200),
        ] {
            assert_eq!(node.code(path), code, "{path} of {}, leads: {leads}", node.name);
        }
    }
}

fn refusals(nodes: &[Toy], primary: usize, other: usize) {
    for (to, code, why) in [
        ("nobody-here", 3, "nobody-here is not a member"),
        (nodes[primary].name.as_str(), 0, "is the primary already"),
        ("Not A Name", 64, "Not A Name"),
    ] {
        let asked = nodes[other].ask(&["switchover", "--to", to]);
        let said = text(&asked.stdout) + &text(&asked.stderr);
        assert_eq!(asked.status.code(), Some(code), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_node_that_is_not_eligible_is_not_switched_over_to() {
    let consul = Consul::one();
    let mut nodes = three("unfit", &consul.addresses());
    nodes.truncate(2);
    for node in &mut nodes {
        node.set("bootstrap_expect", "2");
        node.set("no_failover", "[\"b\"]");
    }
    // Never follows, so never admitted.
    let mut third = Toy::new("unfit", "c", &consul.addresses());
    third.hook("replicate", "#!/bin/sh\nexit 1\n");
    let first = settle_first(&mut nodes);
    assert_eq!(first, 0, "`b` is barred");
    third.start();
    wait_for(LIMIT, "it runs", || third.state() == "replica");
    third.wait_logged(&["follow.failed"]);
    for (to, why) in [("c", "c is not eligible"), ("b", "b is barred by `no_failover`")] {
        let asked = third.ask(&["switchover", "--to", to, "--json"]);
        let said = text(&asked.stdout) + &text(&asked.stderr);
        assert_eq!(asked.status.code(), Some(3), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let asked = third.ask(&["switchover"]);
    let said = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(3), "{said}");
    assert!(said.contains("`no_failover`") && said.contains("not eligible"), "{said}");
    assert!(nodes[0].is_primary());
}

fn settle_first(nodes: &mut [Toy]) -> usize {
    nodes.iter_mut().for_each(Toy::start);
    wait_some(LIMIT, "one is the primary", || primary(nodes))
}

#[test]
fn actions_over_http_need_their_token() {
    let consul = Consul::one();
    let mut nodes = three("http", &consul.addresses());
    let token = nodes[0].path("token");
    std::fs::write(&token, "open-sesame\n").expect("ours");
    let token = format!("\"{}\"", token.to_str().expect("UTF-8"));
    nodes[0].set("token_file", &token);
    nodes[1].set("token_file", &token);
    let first = settle(&mut nodes);
    let bearer = |word: &str| format!("Authorization: Bearer {word}\r\n");
    let post = |node: &Toy, headers: &str, body: &str| {
        node.http("POST", "/switchover", headers, body).expect("an answer")
    };
    let (code, said) = post(&nodes[2], &bearer("open-sesame"), "");
    assert_eq!(code, 403, "{said}");
    assert!(said.contains("token_file"), "{said}");
    for headers in ["", &bearer("open"), "Authorization: Basic b3Blbg==\r\n"] {
        let (code, said) = post(&nodes[0], headers, "");
        assert_eq!(code, 401, "{said}");
        assert!(said.contains("token_file"), "{said}");
    }
    assert_eq!(primary(&nodes), Some(first), "nothing happened");
    let to = (first + 1) % 3;
    let body = format!("{{\"to\":\"{}\"}}", nodes[to].name);
    // By a node that does not lead: the request goes through Consul.
    let (code, said) = post(&nodes[if first == 0 { 1 } else { 0 }], &bearer("open-sesame"), &body);
    assert_eq!(code, 202, "{said}");
    wait_for(LIMIT, "it happened", || primary(&nodes) == Some(to));
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let id = said["request"].as_str().expect("the request's id");
    let key = format!("lictor/http/state/requests/{id}-result");
    wait_for(LIMIT, "the result is written", || {
        consul.entry(&key).is_some_and(|entry| decoded(&entry)["status"] == "done")
    });
    assert!(nodes.iter().all(|node| !node.log().contains("open-sesame")));
}

/// The JSON in a KV entry.
fn decoded(entry: &Value) -> Value {
    use base64::Engine;
    let text = entry["Value"].as_str().expect("a value");
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}
