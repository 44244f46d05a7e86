//! Backups of a real MariaDB cluster: made under writers on a replica, verified, a flipped byte
//! found, and the whole cluster restored into empty volumes.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{CONVERGE_LIMIT, Cluster, Options};
use common::node::lictor;
use common::wait_for;
use common::writer::Writer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

/// Rows before a backup begins.
const ROWS: usize = 200;
const COUNT: &str = "select count(*) from app.kept";

fn backup(cluster: &Cluster, words: &[&str]) -> Output {
    let (first, rest) = words.split_first().expect("a subcommand");
    let mut command = lictor();
    command.args(["backup", *first, "-c"]).arg(&cluster.nodes[0].config).args(rest);
    command.output().expect("lictor starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("an answer")
}

fn number(text: Option<String>) -> usize {
    text.and_then(|text| text.parse().ok()).expect("a number")
}

fn ids(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let text = cluster
        .node(name)
        .ask("select group_concat(id) from (select id from app.kept limit 100000000) as t");
    text.unwrap_or_default().split(',').map(str::to_owned).collect()
}

/// Some file of a table of ours.
fn table_file(dir: &Path) -> PathBuf {
    dir.join("data/app/kept.ibd")
}

#[test]
fn a_cluster_comes_back_from_a_backup_made_under_load() {
    let dir = tempfile::Builder::new().prefix("lictor-backups-").tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let settings = format!("backup_dir = {:?}\n", dir.path());
    let mut cluster = Cluster::start(Options { settings, ..Options::default() });
    let primary = cluster.wait_converged();
    let writer = Writer::start(&cluster);
    writer.wait_more(ROWS);
    let before = number(cluster.node(&primary).ask(COUNT));
    let at = Instant::now();
    let made = json(&backup(&cluster, &["run", "--json"]));
    println!("a backup of {} bytes took {} ms", made["bytes"], at.elapsed().as_millis());
    assert_ne!(made["node"], primary.as_str(), "a replica makes it");
    let after = number(cluster.node(&primary).ask(COUNT));
    let id = made["id"].as_str().expect("an id").to_owned();
    // A planned change while the primary is being backed up.
    let asked = json(&backup(&cluster, &["run", "--json", "--no-wait", "--on", &primary]));
    assert_eq!(asked["node"], primary.as_str());
    let done = cluster.switchover(None);
    assert_eq!(done.exit, 0, "{}", done.answer);
    println!("switchover during a backup: {} ms", done.took.as_millis());
    let primary = cluster.wait_converged();
    writer.finish(&cluster).assert_nothing_lost();
    cluster.wait_equal();
    let all = ids(&cluster, &primary);

    let at = Instant::now();
    let good = json(&backup(&cluster, &["verify", &id, "--json"]));
    println!("verified in {} ms: {}", at.elapsed().as_millis(), good["reason"]);
    one_flipped_byte_is_found(&cluster, dir.path());
    restored(&mut cluster, &id, (before, after), &all);
}

fn one_flipped_byte_is_found(cluster: &Cluster, dir: &Path) {
    let made = json(&backup(cluster, &["run", "--json"]));
    let id = made["id"].as_str().expect("an id");
    let place = dir.join("demo").join(id);
    wait_for(CONVERGE_LIMIT, "it has its name", || place.is_dir());
    let file = table_file(&place);
    let mut bytes = std::fs::read(&file).expect("the table is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&file, bytes).expect("ours");
    let bad = backup(cluster, &["verify", id]);
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
    assert!(said(&bad).contains("data/app/kept.ibd was changed"), "{}", said(&bad));
}

fn restored(cluster: &mut Cluster, id: &str, between: (usize, usize), all: &BTreeSet<String>) {
    let old = cluster.status().expect("it answers")["cluster_id"].clone();
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    cluster.consul.delete("lictor/demo/leader");
    cluster.consul.request("DELETE", "/v1/kv/lictor/demo/state/?recurse", "");
    cluster.nodes.iter().for_each(|node| node.wipe());
    // Never a bad one by itself.
    let wish = json(&backup(cluster, &["restore", "latest", "--json"]));
    assert_eq!(wish["id"], id);
    let at = Instant::now();
    cluster.nodes.iter_mut().for_each(|node| node.start());
    let primary = cluster.wait_converged();
    println!("three nodes are back after {} ms", at.elapsed().as_millis());
    let count = number(cluster.node(&primary).ask(COUNT));
    assert!((between.0..=between.1).contains(&count), "{count} of {between:?}");
    assert!(ids(cluster, &primary).is_subset(all));
    assert_ne!(cluster.status().expect("it answers")["cluster_id"], old);
    // It lives: new rows, on every node, in a new history.
    let writer = Writer::start(cluster);
    writer.wait_more(ROWS);
    writer.finish(cluster).assert_nothing_lost();
    cluster.wait_equal();
    let position = cluster.node(&primary).ask("select @@gtid_binlog_pos").expect("a position");
    let sequence: usize = position.rsplit('-').next().and_then(|n| n.parse().ok()).expect("1-..-n");
    assert!(sequence < between.0 + ROWS * 4 && position.starts_with("1-"), "{position}");
}
