//! What `lictor explain` foretells is what happens, on a real Consul: it is asked, then the primary
//! is killed.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

mod common;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Two leases of 3 s, and a survey: who would take over has done it by then.
const ALL_COULD: Duration = Duration::from_secs(9);

fn explain(node: &Toy, words: &[&str]) -> Value {
    let output = node.ask(&[&["explain", "--json"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

fn told(node: &Toy, words: &[&str]) -> String {
    let output = node.ask(&[&["explain"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn row(told: &Value, node: &str) -> Value {
    let rows = told["failover"]["nodes"].as_array().expect("rows");
    rows.iter().find(|row| row["node"] == node).cloned().unwrap_or_default()
}

/// Every other node has the same, and `heir` the higher priority.
fn foresees(node: &Toy, heir: &str) -> Option<Value> {
    let told = explain(node, &["failover"]);
    let others = told["failover"]["nodes"].as_array()?.iter().all(|row| row["may"] == true);
    (others && told["failover"]["node"] == heir).then_some(told)
}

#[test]
fn who_is_foretold_takes_over_and_afterwards_it_says_why() {
    let consul = Consul::one();
    let mut nodes = three("foretold", &consul.addresses());
    for node in &mut nodes {
        // The names would put `b` before `c`.
        node.set("priorities", "{ a = 300, c = 200 }");
    }
    let first = settle(&mut nodes);
    let heir = if first == 0 { 2 } else { 0 };
    let (old, new) = (nodes[first].name.clone(), nodes[heir].name.clone());
    let other = &nodes[3 - first - heir];
    nodes[first].write("row-1");
    let told = wait_some(LIMIT, "the heir is foretold", || foresees(other, &new));
    assert_eq!(told["failover"]["dies"], old.as_str(), "{told}");
    assert_eq!(told["lock"]["holder"], old.as_str(), "{told}");
    let lost = told["failover"]["lost"].as_str().expect("it says what is lost");
    assert!(lost.starts_with("asynchronous"), "{lost}");

    let killed = Instant::now();
    nodes[first].crash();
    let second = wait_some(LIMIT, "another primary", || primary(&nodes).filter(|i| *i != first));
    let took = killed.elapsed();
    assert_eq!(nodes[second].name, new, "after {took:?}");
    let free = told["failover"]["in_ms"].as_u64().expect("a time");
    assert!(free <= 3_090, "a lease of 3 s, with the clocks' allowance: {told}");

    let asked = &nodes[heir];
    let told = wait_some(LIMIT, "the change is told", || {
        let told = explain(asked, &["failover"]);
        let change = &told["past"]["change"];
        (change["node"] == new.as_str() && change["took_ms"].is_null()).then_some(told)
    });
    let change = &told["past"]["change"];
    assert_eq!(change["from"], old.as_str(), "{told}");
    let why = change["why"].as_str().expect("a sentence");
    assert_eq!(why, format!("{old} fell silent, and its lease was waited out"));
    // The dead one is told as what it is.
    assert_eq!(row(&told, &old)["may"], Value::Null, "{told}");
    let text = self::told(asked, &["member", &old]);
    assert!(text.contains("does not answer"), "{text}");
}

#[test]
fn nobody_is_foretold_nobody_takes_over_and_one_setting_flips_it() {
    let consul = Consul::one();
    let key = "lictor/barred/state/config";
    let mut nodes = three("barred", &consul.addresses());
    let first = settle(&mut nodes);
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let others: Vec<usize> = (0..3).filter(|at| *at != first).collect();
    let asked = &nodes[others[0]];
    consul.put(key, "no_failover = [\"a\", \"b\", \"c\"]\n");
    let told = wait_some(LIMIT, "nobody is foretold", || {
        let told = explain(asked, &["failover"]);
        (told["failover"]["is"] == "nobody").then_some(told)
    });
    for at in &others {
        assert_eq!(row(&told, &names[*at])["code"], "bar.no-failover", "{told}");
    }
    let flip = told["failover"]["flip"].as_str().expect("a fact");
    assert!(flip.contains("`no_failover`"), "{flip}");

    nodes[first].crash();
    let crashed = Instant::now();
    wait_for(LIMIT, "the time in which one could have", || {
        assert_eq!(primary(&nodes), None, "{told}");
        crashed.elapsed() > ALL_COULD
    });
    let asked = &nodes[others[0]];
    let text = self::told(asked, &["failover"]);
    assert!(text.contains("nobody takes over") && text.contains("`no_failover`"), "{text}");
    // Without Consul it says what the own node knows.
    consul.servers[0].stop();
    let without = explain(asked, &[]);
    assert!(without["consul"].is_string(), "{without}");
    assert_eq!(without["by"], names[others[0]].as_str());
    assert_eq!(row(&without, &names[others[1]])["code"], "bar.no-failover", "{without}");
    consul.servers[0].cont();

    // The one fact.
    let heir = names[others[1]].as_str();
    consul.put(key, &format!("no_failover = [\"{}\", \"{}\"]\n", names[first], names[others[0]]));
    wait_for(LIMIT, "the one that may takes over", || primary(&nodes) == Some(others[1]));
    let text = self::told(&nodes[others[0]], &["member", heir]);
    assert!(text.contains("is the primary"), "{text}");
    let text = self::told(&nodes[others[0]], &["lock"]);
    assert!(text.contains(&format!("{heir} leads under epoch")), "{text}");
}

#[test]
fn wrong_words_end_with_a_sentence() {
    let consul = Consul::one();
    let mut node = Toy::new("words", "one", &consul.addresses());
    node.start();
    node.wait_primary();
    for (words, says) in [
        (&["explain", "member"][..], "<NODE>"),
        (&["explain", "lock", "one"], "only `member` takes a node"),
        (&["explain", "member", "two"], "no member is named two; there are: one"),
        (&["explain", "weather"], "possible values: failover, lock, member"),
    ] {
        let output = node.ask(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{words:?}: {said}");
        assert!(said.contains(says), "{words:?}: {said}");
    }
    let text = told(&node, &[]);
    assert!(text.contains("nobody would take over: there is no other member"), "{text}");
}
