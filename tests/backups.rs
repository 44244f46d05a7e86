//! Backups of the toy application under the real `lictor` on a real Consul: made, listed, verified,
//! restored into empty volumes; killed in the middle; by schedule; beyond the retention.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, settle, three};
use common::{wait_for, wait_some};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// A schedule's minute, and a machine that is busy.
const MINUTE_LIMIT: Duration = Duration::from_secs(100);

/// A mount that all nodes share.
fn shared(nodes: &mut [Toy]) -> tempfile::TempDir {
    let dir = common::scratch("backups");
    for node in nodes {
        let path = toml::Value::from(dir.path().to_str().expect("UTF-8")).to_string();
        node.set("backup_dir", &path);
    }
    dir
}

fn backup(node: &Toy, words: &[&str]) -> Output {
    let config = node.configure();
    let (first, rest) = words.split_first().expect("a subcommand");
    let line = [&["backup", *first, "-c", config.to_str().expect("UTF-8")], rest].concat();
    node.lictor(&line).output().expect("lictor starts")
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn made(node: &Toy, words: &[&str]) -> Value {
    json(&backup(node, &[&["run", "--json"], words].concat()), 0)
}

fn listed(node: &Toy) -> Vec<String> {
    let list = json(&backup(node, &["list", "--json"]), 0);
    let entries = list["backups"].as_array().expect("a list");
    entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
}

/// What lies in the directory, sorted.
fn kept(dir: &Path, cluster: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join(cluster)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn wait_kept(dir: &Path, cluster: &str, want: &[String]) {
    wait_for(LIMIT, &format!("{want:?} alone is kept"), || kept(dir, cluster) == want);
}

#[test]
fn made_verified_and_restored_into_empty_volumes() {
    let consul = Consul::one();
    let mut nodes = three("whole", &consul.addresses());
    let dir = shared(&mut nodes);
    let primary = settle(&mut nodes);
    for row in 0..20 {
        nodes[primary].write(&format!("row-{row}"));
    }
    let old_id = nodes[primary].status().expect("it answers")["cluster_id"].clone();
    let rows = nodes[primary].rows();
    for (index, node) in nodes.iter().enumerate() {
        wait_for(LIMIT, &format!("{index} has all rows"), || node.rows() == rows);
    }
    let first = made(&nodes[0], &[]);
    assert_ne!(first["node"], nodes[primary].name.as_str(), "a replica does it: {first}");
    let id = first["id"].as_str().expect("an id").to_owned();
    wait_kept(dir.path(), "whole", std::slice::from_ref(&id));

    let good = json(&backup(&nodes[0], &["verify", "--json", &id]), 0);
    assert_eq!(good["reason"], "counted 20 rows", "{good}");
    let second = made(&nodes[0], &["--on", &nodes[primary].name]);
    assert_eq!(second["node"], nodes[primary].name.as_str());
    let other = second["id"].as_str().expect("an id").to_owned();
    wait_kept(dir.path(), "whole", &[id.clone(), other.clone()]);
    flip(&dir.path().join("whole").join(&other).join("data/rows"));
    let bad = backup(&nodes[0], &["verify", &other]);
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
    assert!(said(&bad).contains("data/rows was changed"), "{}", said(&bad));
    let table = said(&backup(&nodes[0], &["list"]));
    assert!(table.contains("BAD") && table.contains("data/rows was changed"), "{table}");

    for target in [id.as_str(), "latest"] {
        let early = backup(&nodes[0], &["restore", target]);
        assert_eq!(early.status.code(), Some(3), "{}", said(&early));
        assert!(said(&early).contains("the cluster exists"), "{}", said(&early));
    }
    nodes[primary].write("written after the backup");
    nodes.iter_mut().for_each(Toy::crash);
    consul.delete("lictor/whole/leader");
    consul.request("DELETE", "/v1/kv/lictor/whole/state/?recurse", "");
    for node in &nodes {
        std::fs::remove_dir_all(node.path("volume")).expect("ours");
    }
    let refused = backup(&nodes[0], &["restore", &other]);
    assert_eq!(refused.status.code(), Some(3), "it is bad: {}", said(&refused));
    // The last one that is good.
    let wish = json(&backup(&nodes[0], &["restore", "latest", "--json"]), 0);
    assert_eq!(wish["id"], id.as_str());
    let primary = settle(&mut nodes);
    for node in &nodes {
        wait_for(LIMIT, "the rows of the backup are back", || node.rows() == rows);
    }
    nodes[primary].write("life goes on");
    let status = nodes[primary].status().expect("it answers");
    assert_ne!(status["cluster_id"], old_id, "a new cluster");
    wait_for(LIMIT, "the wish is gone", || consul.entry("lictor/whole/state/restore").is_none());
    assert_eq!(listed(&nodes[0]), [id, other]);
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).expect("ours");
}

#[test]
fn a_node_that_dies_in_the_middle_leaves_no_backup_and_no_lock() {
    let consul = Consul::one();
    let mut nodes = three("middle", &consul.addresses());
    let dir = shared(&mut nodes);
    nodes.iter_mut().for_each(|node| node.set("backup_keep", "2"));
    let primary = settle(&mut nodes);
    let victim = (primary + 1) % 3;
    let began = nodes[victim].path("began");
    let slow = format!(
        "#!/bin/bash\necho half >\"$LICTOR_BACKUP_DIR/half\"\n: >{}\nsleep 600\n",
        began.display()
    );
    nodes[victim].hook("backup", &slow);
    let name = nodes[victim].name.clone();
    let begun = json(&backup(&nodes[primary], &["run", "--json", "--no-wait", "--on", &name]), 0);
    assert_eq!(begun["node"], name.as_str());
    wait_for(LIMIT, "the hook writes", || began.exists());
    let refused = backup(&nodes[primary], &["run"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("one at a time"), "{}", said(&refused));
    let half = kept(dir.path(), "middle");
    assert!(half.len() == 1 && half[0].starts_with(&format!(".part.{name}.")), "{half:?}");
    nodes[victim].crash();
    nodes[victim].mend_hook("backup");
    nodes[victim].start();
    wait_for(LIMIT, "the lock is given up", || {
        let lock = consul.entry("lictor/middle/state/backup");
        lock.is_some_and(|lock| decoded(&lock)["state"] == "failed")
    });
    wait_kept(dir.path(), "middle", &[]);
    assert_eq!(listed(&nodes[primary]), Vec::<String>::new());
    nodes[victim].wait_replica();

    // Any node works again, and of three the oldest goes.
    let ids: Vec<String> = (0..3)
        .map(|_| made(&nodes[primary], &["--on", &name])["id"].as_str().expect("an id").to_owned())
        .collect();
    wait_kept(dir.path(), "middle", &ids[1..]);
    wait_for(LIMIT, "the oldest is not listed", || listed(&nodes[primary]) == ids[1..]);
    a_hook_that_fails(&nodes[primary], &nodes[victim], dir.path(), &ids[1..]);
}

fn a_hook_that_fails(primary: &Toy, node: &Toy, dir: &Path, before: &[String]) {
    node.hook("backup", "#!/bin/bash\necho x >\"$LICTOR_BACKUP_DIR/x\"\nexit 1\n");
    let failed = backup(primary, &["run", "--on", &node.name]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(said(&failed).contains("the backup hook ended with exit 1"), "{}", said(&failed));
    wait_kept(dir, "middle", before);
    assert_eq!(listed(primary), before);
    let table = said(&backup(primary, &["list"]));
    assert!(table.contains("failed: the backup hook ended"), "{table}");
}

fn decoded(entry: &Value) -> Value {
    use base64::Engine;
    let text = entry["Value"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// A minute passes for real: the wall clock is the schedule's input.
#[test]
fn the_schedule_makes_one_and_a_directory_restores_without_consul() {
    let consul = Consul::one();
    let mut first = Toy::new("alone", "a", &consul.addresses());
    let dir = shared(std::slice::from_mut(&mut first));
    first.set("backup_schedule", "\"* * * * *\"");
    first.start();
    first.wait_primary();
    first.write("one");
    let ids = wait_some(MINUTE_LIMIT, "a backup by schedule", || {
        Some(listed(&first)).filter(|ids| !ids.is_empty())
    });
    let lock = decoded(&consul.entry("lictor/alone/state/backup").expect("there was one"));
    assert_eq!(lock["by"], "schedule", "{lock}");
    wait_for(LIMIT, "it has its name", || kept(dir.path(), "alone").contains(&ids[0]));
    first.crash();
    let path: PathBuf = dir.path().join("alone").join(&ids[0]);

    // Another cluster on another Consul, from the directory alone.
    let elsewhere = Consul::one();
    let mut copy = Toy::new("copy", "b", &elsewhere.addresses());
    copy.set("restore_from", &toml::Value::from(path.to_str().expect("UTF-8")).to_string());
    copy.start();
    copy.wait_primary();
    assert_eq!(copy.rows(), Some(vec!["one".to_owned()]));
}

#[test]
fn a_backup_dir_without_its_hook_is_an_error_at_the_start() {
    let mut node = Toy::new("nohook", "a", &["127.0.0.1:1".to_owned()]);
    let _dir = shared(std::slice::from_mut(&mut node));
    std::fs::remove_file(node.path("hooks/backup")).expect("ours");
    node.start();
    assert_eq!(node.wait(), 64);
    assert_eq!(node.logged(&["hooks/backup does not exist"]), 1, "{}", node.log());
}
