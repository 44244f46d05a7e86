//! Who joins, who lets others lead, and who goes first: services that are required, priorities, the
//! hold-down and `max_lag` on a real Consul.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use super::text;
use crate::common::consul::Consul;
use crate::common::toy::{LIMIT, Toy, primary, settle, three};
use crate::common::{wait_for, wait_some};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What a node waits for, as it says.
fn waits(node: &Toy) -> Value {
    node.status().unwrap_or_default()["waits_for"].clone()
}

fn wait_code(node: &Toy, code: &str) {
    wait_for(LIMIT, &format!("{} says {code}", node.name), || waits(node)["code"] == code);
}

/// A service with one check of this status.
fn register(consul: &Consul, name: &str, status: &str) {
    let body =
        format!("{{\"Name\":\"{name}\",\"Check\":{{\"TTL\":\"10m\",\"Status\":\"{status}\"}}}}");
    let (code, said) = consul.request("PUT", "/v1/agent/service/register", &body);
    assert_eq!(code, 200, "{said}");
}

#[test]
fn services_are_waited_for_before_creation_and_before_joining_and_not_after() {
    let consul = Consul::one();
    let mut nodes = three("needy", &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("bootstrap_expect", "1"));
    let [a, b, c] = &mut nodes[..] else { panic!("three") };
    a.set("roles.bootstrap_needs", "[\"vault\"]");
    a.set("roles.performs", "[\"control\"]");
    b.set("roles.requires", "[\"cache\"]");
    c.set("roles.requires", "[\"control\"]");
    a.start();
    wait_code(a, "wait.bootstrap-needs");
    let said = waits(a);
    assert!(said["text"].as_str().is_some_and(|it| it.contains("service vault")), "{said}");
    assert!(said["flip"].as_str().is_some_and(|it| it.contains("passing")), "{said}");
    assert!(consul.entry("lictor/needy/leader").is_none(), "nothing was locked meanwhile");
    register(&consul, "vault", "passing");
    a.wait_primary();
    register(&consul, "cache", "critical");
    b.start();
    wait_code(b, "wait.requires");
    assert_eq!(b.state(), "joining");
    let (code, said) = consul.request("PUT", "/v1/agent/check/pass/service:cache", "");
    assert_eq!(code, 200, "{said}");
    b.wait_replica();
    // A role that a member performs is no service of Consul's.
    c.start();
    c.wait_replica();
    let needs = c.status().unwrap_or_default()["needs"].clone();
    assert_eq!((&needs[0]["met"], &needs[0]["by"][0]), (&true.into(), &"a".into()), "{needs}");
    // The service vanishes: what runs stays, and a candidate comes back.
    let (code, _) = consul.request("PUT", "/v1/agent/service/deregister/cache", "");
    assert_eq!(code, 200);
    assert_eq!(b.stop(), 0);
    b.start();
    b.wait_replica();
}

#[test]
fn priority_goes_first_but_not_right_after_a_failure() {
    let consul = Consul::one();
    let mut nodes = three("flap", &consul.addresses());
    for node in &mut nodes {
        node.set("priorities", "{ a = 300, b = 200 }");
        node.set("on_crash", "\"failover\"");
        node.set("hold_down", "\"60s\"");
    }
    let first = settle(&mut nodes);
    if first != 0 {
        switch(&nodes, first, "a");
        settle(&mut nodes);
    }
    // The first failover is not delayed, and priority decides it.
    let begun = Instant::now();
    crash_app(&nodes[0]);
    wait_for(LIMIT, "b leads", || primary(&nodes) == Some(1));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    settle(&mut nodes);
    let held = nodes[0].status().unwrap_or_default()["hold_down"].clone();
    assert!(held["left_ms"].as_u64().is_some_and(|left| left > 1_000), "{held}");
    assert_eq!(held["reason"]["code"], "bar.hold-down", "{held}");
    let shown = text(&nodes[1].ask(&["status"]).stdout);
    assert!(shown.contains("\na: held down for "), "{shown}");
    // Its priority would make it the next.
    crash_app(&nodes[1]);
    wait_for(LIMIT, "c leads, for a is held down", || primary(&nodes) == Some(2));
    settle(&mut nodes);
    // Both are held down: with no other left, one takes all the same.
    nodes[2].crash();
    let next = wait_some(Duration::from_secs(30), "a or b leads", || primary(&nodes));
    assert_ne!(next, 2);
    settle(&mut nodes);
    // An operator's word goes before it.
    let other = 1 - next;
    switch(&nodes, 2, &nodes[other].name);
    assert_eq!(primary(&nodes), Some(other));
}

/// Asked again while the leader has not heard that the node is healthy.
fn switch(nodes: &[Toy], by: usize, to: &str) {
    wait_for(LIMIT, "switched over", || {
        let done = nodes[by].ask(&["switchover", "--to", to]);
        let said = text(&done.stderr);
        let early = said.contains("its check fails") || said.contains("does not follow");
        assert!(done.status.success() || early, "{said}");
        done.status.success()
    });
}

fn crash_app(node: &Toy) {
    // It ends at once: there may be no answer.
    drop(node.toy("exit 1"));
}

#[test]
fn whoever_lags_too_much_is_no_candidate_whatever_its_priority() {
    let consul = Consul::one();
    let mut nodes = three("lags", &consul.addresses());
    for node in &mut nodes {
        node.set("priorities", "{ a = 300, b = 200 }");
        node.set("max_lag", "\"5s\"");
        let dir = node.path("");
        let told = dir.join("lag");
        std::fs::write(&told, "0").expect("ours");
        let (own, kept) = (node.path("hooks/position"), node.path("hooks/position.kept"));
        std::fs::rename(&own, &kept).expect("it was there");
        let (kept, told) = (kept.display(), told.display());
        let change = format!("s/\"lag_seconds\":0/\"lag_seconds\":$(cat {told})/");
        let change = change.replace('"', "\\\"");
        let hook = format!("#!/bin/bash\nset -o pipefail\n{kept} | sed \"{change}\"\n");
        node.hook("position", &hook);
    }
    let first = settle(&mut nodes);
    let lagging = if first == 0 { 1 } else { 0 };
    let good = 3 - first - lagging;
    std::fs::write(nodes[lagging].path("lag"), "9.5").expect("ours");
    wait_for(LIMIT, "the lag is told", || {
        let said = waits(&nodes[lagging]);
        let text = said["text"].as_str().unwrap_or_default().to_owned();
        said["code"] == "bar.max-lag" && text.starts_with("lagged 9.500 s")
    });
    assert_ne!(waits(&nodes[good])["code"], "bar.max-lag");
    nodes[first].crash();
    let next = wait_some(LIMIT, "one leads", || primary(&nodes));
    assert_eq!(next, good, "the other lagged");
}
