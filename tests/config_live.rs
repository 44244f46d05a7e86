//! The cluster's configuration in KV under running nodes: bad values that harm nobody, live changes
//! that cost the application nothing, and what a start makes of what it finds.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn config_key(node: &Toy) -> String {
    format!("lictor/{}/state/config", node.cluster)
}

/// Any bytes, as no JSON body could carry them.
fn put_bytes(consul: &Consul, key: &str, bytes: &[u8]) {
    let value = BASE64_STANDARD.encode(bytes);
    let txn = json!([{"KV": {"Verb": "set", "Key": key, "Value": value}}]);
    let (code, answer) = consul.request("PUT", "/v1/txn", &txn.to_string());
    assert_eq!(code, 200, "{answer}");
}

/// The texts of the last decisions with this code.
fn reasons(node: &Toy, code: &str) -> Vec<String> {
    let status = node.status().unwrap_or_default();
    let all = status["reasons"].as_array().cloned().unwrap_or_default();
    let found = all.iter().filter(|reason| reason["code"] == code);
    found.filter_map(|reason| reason["text"].as_str().map(str::to_owned)).collect()
}

fn wait_reason(node: &Toy, code: &str, part: &str) {
    let what = format!("{} says {code}: {part}", node.name);
    wait_for(LIMIT, &what, || reasons(node, code).iter().any(|text| text.contains(part)));
}

fn leader(consul: &Consul, cluster: &str) -> Value {
    let entry = consul.entry(&format!("lictor/{cluster}/leader")).expect("there is a leader");
    let value = entry["Value"].as_str().expect("with a value");
    let bytes = BASE64_STANDARD.decode(value).expect("base64");
    serde_json::from_slice(&bytes).expect("ours")
}

fn wait_lease(consul: &Consul, cluster: &str, ms: u64) {
    let what = format!("the lease is {ms} ms");
    wait_for(LIMIT, &what, || leader(consul, cluster)["lease_ms"] == ms);
}

fn app(node: &Toy) -> Pid {
    wait_some(LIMIT, "the application runs", || node.app_pid())
}

/// What must hurt nobody: the bytes, and what is said of them.
fn bad_values() -> Vec<(&'static [u8], &'static str)> {
    vec![
        (b"\xff\xfe\x00garbage", "KV state/config:1:1: this is no UTF-8 text"),
        (b"lease = \"3s\"\nsync = \"\xff\"", "KV state/config:2:9: this is no UTF-8 text"),
        (b"lease = ", "KV state/config:1:9:"),
        (b"<html>", "KV state/config:1:1:"),
        (b"leese = \"3s\"", "KV state/config:1:1: unknown setting leese; did you mean lease?"),
        (b"[timeouts]\nsink = \"1s\"", "KV state/config:2:1: unknown setting timeouts.sink"),
        (b"lease = 3", "KV state/config:1:9: lease: 3 has no unit"),
        (b"sync_acks = \"1\"", "KV state/config:1:13: sync_acks: invalid type"),
        (b"command = [\"sh\"]", "command is local: who may write KV"),
        (b"[consul]\ntoken = \"t\"", "consul.token is local"),
        (b"hooks = \"/tmp\"", "hooks is local"),
        (b"lease = \"10s\"", "lease 10 s is above lease_max 4 s"),
        (b"kill_budget = \"900ms\"", "kill_budget 900 ms must be below demote_budget 500 ms"),
        (b"lease = \"1s\"", "lease 1 s is too short"),
        (b"lease = \"0s\"", "lease is 0"),
        (b"sync = \"on\"", "hooks/sync does not exist"),
        (b"no_failover = [\"${HOME}\"]", "is no name"),
    ]
}

#[test]
fn a_bad_value_in_kv_harms_no_running_node_and_a_good_one_heals() {
    let consul = Consul::one();
    let mut node = Toy::new("bad", "one", &consul.addresses());
    node.set("lease_max", "\"4s\"");
    std::fs::remove_file(node.path("hooks/sync")).expect("it was there");
    node.start();
    node.wait_primary();
    let pid = app(&node);
    let key = config_key(&node);
    let huge = vec![b'#'; 64 * 1_024 + 1];
    let table = bad_values().into_iter().chain([(huge.as_slice(), "65537 bytes are more than")]);
    for (number, (bytes, want)) in table.enumerate() {
        put_bytes(&consul, &key, bytes);
        wait_reason(&node, "config.bad", want);
        node.write(&format!("row-{number}"));
    }
    assert_eq!(node.code("/primary"), 200);
    // It is in the member record too, for whoever looks at the cluster alone.
    wait_for(LIMIT, "its record says so", || {
        let status = node.status().unwrap_or_default();
        let bad = &status["members"][0]["config"]["bad"];
        bad.as_str().is_some_and(|bad| bad.contains("65537 bytes"))
    });
    assert_eq!(leader(&consul, "bad")["lease_ms"], 3_000, "the last good one stands");
    consul.put(&key, "lease = \"4s\"");
    wait_reason(&node, "config.changed", "state/config is good again; changed: lease 3s -> 4s");
    wait_lease(&consul, "bad", 4_000);
    // Gone: back to the defaults.
    consul.delete(&key);
    wait_reason(&node, "config.changed", "changed: lease 4s -> 3s");
    wait_lease(&consul, "bad", 3_000);
    assert_eq!(app(&node), pid, "the application was not touched");
    assert_eq!(node.stop(), 0);
}

#[test]
fn a_start_under_a_bad_value_takes_what_the_volume_kept() {
    let consul = Consul::one();
    let mut node = Toy::new("kept", "one", &consul.addresses());
    node.set("lease_max", "\"4s\"");
    let key = config_key(&node);
    consul.put(&key, "lease = ");
    node.start();
    assert_eq!(node.wait(), 64, "nothing was kept yet");
    assert_eq!(node.logged(&["lictor: KV state/config:1:9:"]), 1);
    consul.put(&key, "# ours\nlease = \"4s\"\n");
    node.start();
    node.wait_primary();
    assert_eq!(leader(&consul, "kept")["lease_ms"], 4_000);
    let kept = node.path("volume/.lictor/config");
    wait_for(LIMIT, "it is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text == "# ours\nlease = \"4s\"\n")
    });
    node.crash();
    consul.put(&key, "leese = \"3s\"");
    node.start();
    node.wait_primary();
    wait_reason(&node, "config.bad", "unknown setting leese");
    wait_lease(&consul, "kept", 4_000);
    consul.put(&key, "lease = \"3500ms\"");
    wait_reason(&node, "config.changed", "good again; changed: lease 4s -> 3500ms");
    // An own setting covers KV's.
    assert_eq!(node.stop(), 0);
    node.env.push(("LICTOR_LEASE".to_owned(), "3s".to_owned()));
    node.start();
    node.wait_primary();
    wait_lease(&consul, "kept", 3_000);
    let status = node.status().expect("it answers");
    assert_eq!(status["config"]["own"], json!(["lease"]));
}

/// Writes rows to whoever is primary as long as it lives; counts what was not acknowledged.
struct Rows {
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<(u32, u32)>>,
}

impl Rows {
    fn to(port: u16) -> Rows {
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let (mut good, mut failed) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let answer = common::toy::say(port, &format!("write row-{good}-{failed}"));
                if answer.is_some_and(|answer| answer.starts_with("ok")) {
                    good += 1;
                } else {
                    failed += 1;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            (good, failed)
        });
        Rows { end, thread: Some(thread) }
    }

    fn end(mut self) -> (u32, u32) {
        self.end.store(true, Ordering::Release);
        self.thread.take().expect("it runs").join().expect("it does not panic")
    }
}

#[test]
fn live_changes_cost_no_write_and_sync_is_switched_on_and_off_under_load() {
    let consul = Consul::one();
    let mut nodes = three("live", &consul.addresses());
    for node in &mut nodes {
        node.set("lease_max", "\"5s\"");
        node.hook(
            "reload",
            "#!/bin/bash\necho \"reload: $LICTOR_CHANGED mode $LICTOR_SYNC_MODE\"\n",
        );
    }
    let first = settle(&mut nodes);
    let pids: Vec<Pid> = nodes.iter().map(app).collect();
    let key = config_key(&nodes[0]);
    let rows = Rows::to(nodes[first].app_port);
    consul.put(&key, "lease = \"5s\"");
    wait_lease(&consul, "live", 5_000);
    consul.put(&key, "lease = \"2500ms\"\ndemote_budget = \"600ms\"");
    wait_lease(&consul, "live", 2_500);
    for round in 0..2 {
        consul.put(&key, "sync = \"on\"");
        let sync = wait_some(LIMIT, "all three are in the sync set", || {
            let status = nodes[first].status()?;
            let sync = status["sync"].clone();
            (sync["members"].as_array()?.len() == 3 && sync["acks"] == 1).then_some(sync)
        });
        assert_eq!(sync["epoch"], leader(&consul, "live")["epoch"], "round {round}");
        consul.put(&key, "sync = \"off\"");
        wait_for(LIMIT, "no set stands any more", || {
            consul.entry("lictor/live/state/sync").is_none()
        });
        wait_for(LIMIT, "nothing is required any more", || {
            nodes[first].toy("required").is_some_and(|text| text == "ok 0")
        });
    }
    let (good, failed) = rows.end();
    assert_eq!(failed, 0, "of {good} rows");
    assert!(good > 20, "{good} rows");
    assert_eq!(primary(&nodes), Some(first));
    assert_eq!(nodes.iter().map(app).collect::<Vec<_>>(), pids, "no application was touched");
    for node in &nodes {
        node.wait_logged(&["reload: ", "sync", "mode on"]);
        node.wait_logged(&["reload: ", "sync", "mode off"]);
    }
    // And what was switched on at run time holds at a take-over.
    consul.put(&key, "sync = \"on\"");
    wait_for(LIMIT, "the set is whole again", || {
        let status = nodes[first].status().unwrap_or_default();
        status["sync"]["members"].as_array().is_some_and(|members| members.len() == 3)
    });
    nodes[first].write("last");
    nodes[first].crash();
    let next = wait_some(LIMIT, "another leads", || primary(&nodes));
    assert_ne!(next, first);
    assert!(nodes[next].rows().expect("it serves").contains(&"last".to_owned()));
}

const TOKEN: &str = "Authorization: Bearer of-the-operator\r\n";

fn patch(node: &Toy, headers: &str, body: &Value) -> (u16, Value) {
    let answer = node.http("PATCH", "/config", headers, &body.to_string());
    let (code, text) = answer.expect("it answers");
    (code, serde_json::from_str(&text).expect("JSON"))
}

fn shown(node: &Toy, name: &str) -> Value {
    let (code, text) = node.http("GET", "/config", "", "").expect("it answers");
    assert_eq!(code, 200);
    let page: Value = serde_json::from_str(&text).expect("JSON");
    let rows = page["settings"].as_array().expect("rows").clone();
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_default()
}

#[test]
fn configuration_over_http_is_shown_to_all_and_changed_by_the_token_alone() {
    let consul = Consul::one();
    let mut node = Toy::new("http", "one", &consul.addresses());
    let token = node.path("token");
    std::fs::write(&token, "of-the-operator\n").expect("ours");
    node.set("token_file", &format!("\"{}\"", token.display()));
    node.set("expel_after", "\"12s\"");
    node.start();
    node.wait_primary();
    let pid = app(&node);
    let key = config_key(&node);
    assert_eq!(shown(&node, "lease")["origin"]["from"], "default");
    assert_eq!(shown(&node, "expel_after")["value"], "12s");
    assert_eq!(shown(&node, "expel_after")["origin"]["from"], "file");
    assert_eq!(shown(&node, "token_file"), Value::Null, "local settings are not the cluster's");
    for (headers, body, code, want) in [
        ("", json!({"lease": "2500ms"}), 401, "action.wrong-token"),
        ("Authorization: Bearer x\r\n", json!({"lease": "2500ms"}), 401, "action.wrong-token"),
        (TOKEN, json!({"lease": "1s"}), 400, "config.bad"),
        (TOKEN, json!({"command": ["sh"]}), 400, "config.bad"),
        (TOKEN, json!(["lease"]), 400, "config.bad"),
        (TOKEN, json!({"lease": "9s"}), 409, "config.refused"),
    ] {
        let (was, answer) = patch(&node, headers, &body);
        assert_eq!((was, answer["code"].as_str()), (code, Some(want)), "{body}: {answer}");
    }
    assert!(consul.entry(&key).is_none(), "nothing was written");
    consul.put(&key, "# kept\nsync_acks = 1\n");
    wait_for(LIMIT, "the node has seen it", || shown(&node, "sync_acks")["origin"]["from"] == "kv");
    let change = json!({"lease": "2500ms", "timeouts": {"sync": "4s"}});
    let (code, answer) = patch(&node, TOKEN, &change);
    assert_eq!(code, 200, "{answer}");
    wait_lease(&consul, "http", 2_500);
    wait_for(LIMIT, "it is shown", || shown(&node, "timeouts.sync")["value"] == "4s");
    let entry = consul.entry(&key).expect("written");
    let text = BASE64_STANDARD.decode(entry["Value"].as_str().expect("text")).expect("base64");
    assert!(text.starts_with(b"# kept\nsync_acks = 1\nlease = \"2500ms\"\n"), "{entry}");
    reload(&mut node, &consul);
    assert_eq!(app(&node), pid);
}

/// The own file is read again: what may change at once does, the rest is named.
fn reload(node: &mut Toy, consul: &Consul) {
    let asked = |node: &Toy| {
        let (code, text) = node.http("POST", "/reload", TOKEN, "").expect("it answers");
        (code, serde_json::from_str::<Value>(&text).expect("JSON"))
    };
    node.set("lease", "\"2600ms\"");
    node.set("zone", "\"z2\"");
    node.configure();
    let (code, answer) = asked(node);
    assert_eq!(code, 200, "{answer}");
    let changed = json!(["lease", "timeouts.demote"]);
    assert_eq!(answer, json!({"changed": changed, "needs_restart": ["zone"]}));
    wait_lease(consul, "http", 2_600);
    wait_reason(node, "config.changed", "changed: lease 2500ms -> 2600ms");
    node.set("lease", "\"2\"");
    node.configure();
    let (code, answer) = asked(node);
    let told = answer["error"].as_str().unwrap_or_default();
    assert_eq!(code, 400, "{answer}");
    assert!(told.contains("lictor.toml") && told.contains("lease: 2 has no unit"), "{answer}");
    assert_eq!(leader(consul, "http")["lease_ms"], 2_600);
    let (code, _) = node.http("POST", "/reload", "", "").expect("it answers");
    assert_eq!(code, 401);
}
