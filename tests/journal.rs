//! The journal on a real Consul: what a crash and a switchover leave in it, who reads it, and that
//! nobody but the holder of the lock writes it.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

/// What `lictor events --json` prints, an entry a line.
fn events(node: &Toy) -> Vec<Value> {
    let output = node.ask(&["events", "--json", "-n", "1000"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

fn has(entries: &[Value], node: &str, code: &str) -> bool {
    entries.iter().any(|entry| entry["node"] == node && entry["code"] == code)
}

/// Numbers grow by one, under terms that never go back.
fn assert_whole(entries: &[Value]) {
    let seq = |entry: &Value| entry["seq"].as_u64().expect("it has a number");
    for pair in entries.windows(2) {
        assert_eq!(seq(&pair[0]) + 1, seq(&pair[1]), "{pair:?}");
        assert!(pair[0]["epoch"].as_u64() <= pair[1]["epoch"].as_u64(), "{pair:?}");
    }
}

#[test]
fn a_crash_and_a_switchover_are_read_from_the_journal() {
    let consul = Consul::one();
    let mut nodes = three("told", &consul.addresses());
    for node in &mut nodes {
        node.set("on_crash", "\"failover\"");
    }
    let first = settle(&mut nodes);
    let old = nodes[first].name.clone();
    wait_for(LIMIT, "the first term is told", || has(&events(&nodes[0]), &old, "promote.done"));

    // Somebody follows from now on.
    let config = nodes[(first + 1) % 3].configure();
    let words = ["events", "-c", config.to_str().expect("UTF-8"), "-f", "--json", "-n", "1"];
    let mut follower = nodes[(first + 1) % 3].lictor(&words);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("it starts");
    let out = follower.stdout.take().expect("it is piped");
    let (sender, told) = mpsc::channel::<Value>();
    let reader = thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let entry = serde_json::from_str(&line).expect("an entry");
            if sender.send(entry).is_err() {
                return;
            }
        }
    });

    // It has begun: what is appended from here on is new to it.
    let begun = told.recv_timeout(LIMIT).expect("the newest entry");
    assert!(begun["seq"].as_u64() > Some(0), "{begun}");

    let app = nodes[first].app_pid().expect("it runs");
    nix::sys::signal::kill(app, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let second = wait_some(LIMIT, "another primary", || primary(&nodes).filter(|i| *i != first));
    let heir = nodes[second].name.clone();
    wait_for(LIMIT, "the crash is told, by the node that had it", || {
        let entries = events(&nodes[second]);
        has(&entries, &old, "app.crashed") && has(&entries, &heir, "promote.done")
    });
    let mut followed = Vec::new();
    wait_for(LIMIT, "the follower was told", || {
        followed.extend(told.try_iter());
        has(&followed, &heir, "promote.done")
    });
    follower.kill().and_then(|()| follower.wait()).expect("our child ends");
    reader.join().expect("it reads to the end");

    assert_whole(&events(&nodes[0]));
    read_everywhere(&nodes, &heir);
    assert_refused(&consul);
}

/// The table for people, and each node's `/history`.
fn read_everywhere(nodes: &[Toy], heir: &str) {
    let output = nodes[0].ask(&["events"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("TIME (UTC)"), "{text}");
    assert!(
        text.lines().any(|line| line.contains(heir) && line.contains("promote.done")),
        "{text}"
    );
    for node in nodes {
        wait_for(LIMIT, "the node shows it", || {
            let page = node.http("GET", "/history", "", "").map(|(_, body)| body);
            let page: Value = serde_json::from_str(&page.unwrap_or_default()).unwrap_or_default();
            has(page["entries"].as_array().map_or(&[], Vec::as_slice), heir, "promote.done")
        });
    }
}

/// A write without the lock's session, as a deposed leader's would be.
fn assert_refused(consul: &Consul) {
    let session = consul.json("PUT", "/v1/session/create", r#"{"NodeChecks":[],"Checks":[]}"#);
    let session = session["ID"].as_str().expect("a session");
    let before = consul.entry("lictor/told/journal/head").expect("it is there");
    let body = format!(
        r#"[{{"KV":{{"Verb":"check-session","Key":"lictor/told/leader","Session":"{session}"}}}},
            {{"KV":{{"Verb":"cas","Key":"lictor/told/journal/head","Index":{},"Value":""}}}}]"#,
        before["ModifyIndex"]
    );
    let (status, text) = consul.request("PUT", "/v1/txn", &body);
    assert_eq!(status, 409, "{text}");
}

#[test]
fn the_oldest_entries_go() {
    let consul = Consul::one();
    let mut nodes = three("short", &consul.addresses());
    for node in &mut nodes {
        node.set("journal_keep", "50");
    }
    let mut at = settle(&mut nodes);
    wait_for(LIMIT, "entries were removed, and none that is kept", || {
        let next = nodes[(at + 1) % 3].name.clone();
        let _ = nodes[at].ask(&["switchover", "--to", &next]);
        at = wait_some(LIMIT, "a primary", || primary(&nodes));
        let entries = events(&nodes[0]);
        assert_whole(&entries);
        entries.first().is_some_and(|entry| entry["seq"].as_u64() > Some(1))
    });
    let keys = consul.json("GET", "/v1/kv/lictor/short/journal/?keys", "");
    let count = keys.as_array().map_or(0, Vec::len);
    assert!(count <= 50 + 64, "{count} keys: what is kept, a batch, and the head");
    assert_survives_numbers(&consul, &mut nodes);
}

/// Whoever may write KV may write numbers that no clock and no counter reaches: nobody ends by one,
/// the holder writes over them, and the journal goes on.
fn assert_survives_numbers(consul: &Consul, nodes: &mut [Toy]) {
    let most = u64::MAX;
    let at = wait_some(LIMIT, "a primary", || primary(nodes));
    let last = events(&nodes[0]).last().and_then(|entry| entry["seq"].as_u64());
    let garbage = [
        ("journal/head", format!(r#"{{"v":1,"seq":{most},"spans":[],"heard":{{}}}}"#)),
        ("journal/0000000001-0000000001", format!(r#"{{"v":1,"epoch":1,"seq":{most}}}"#)),
        (
            "state/backup",
            format!(
                r#"{{"v":1,"id":"x","node":"a","run":"r","epoch":{most},"at":{most},"n":{most}}}"#
            ),
        ),
        (
            "leader",
            format!(
                r#"{{"v":1,"epoch":{most},"node":"a","run":"r","lease_ms":{most},"n":{most},
                    "state":"held","peer":"127.0.0.1:1","app":"127.0.0.1:1"}}"#
            ),
        ),
    ];
    for (key, value) in garbage {
        consul.put(&format!("lictor/short/{key}"), &value);
    }
    let heir = (at + 1) % 3;
    let next = nodes[heir].name.clone();
    wait_for(LIMIT, "a switchover is done all the same", || {
        drop(nodes[at].ask(&["switchover", "--to", &next]));
        primary(nodes) == Some(heir)
    });
    wait_for(LIMIT, "and told in the journal, whose numbers go on", || {
        let entries = events(&nodes[0]);
        let told = entries.last().and_then(|entry| entry["seq"].as_u64());
        told > last && has(&entries, &next, "promote.done")
    });
    for node in nodes {
        assert!(!node.ended() && node.logged(&["panicked"]) == 0, "{}", node.log());
    }
}
