//! The counted rule of sync mode: a node is promoted only with answers from so many members that
//! one of them has every acknowledged row, wherever that row is.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{CONVERGE_LIMIT, Cluster, Options};
use common::writer::connect;
use common::{wait_for, wait_some};
use mysql::prelude::Queryable;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Three times what a failover takes here.
const NO_PROMOTION: Duration = Duration::from_secs(10);

/// n1 leads; n2 has the better rank and has stopped receiving; n3 alone acknowledges a row.
fn only_the_worse_replica_has_a_row(cluster: &Cluster) -> u64 {
    cluster.lead_by("n1");
    let mut conn = connect(cluster.node("n1").port).expect("the primary takes connections");
    conn.query_drop(
        "create table if not exists app.kept (id bigint unsigned primary key, node int)",
    )
    .expect("the primary takes writes");
    // lictor may be about to run `replicate` on n2 once more: then another row, the next time.
    let mut id = 0;
    wait_for(CONVERGE_LIMIT, "n2 receives nothing", || {
        id += 1;
        cluster.node("n2").admin("stop slave io_thread");
        conn.query_drop(format!("insert into app.kept values ({id}, 0)")).expect("acknowledged");
        wait_for(CONVERGE_LIMIT, "n3 applies the row", || has(cluster, "n3", id) == 1);
        let stopped = cluster.node("n2").replication("Slave_IO_Running").as_deref() == Some("No");
        stopped && has(cluster, "n2", id) == 0
    });
    id
}

fn has(cluster: &Cluster, node: &str, id: u64) -> u32 {
    // Before the table is there, the row is not there either.
    let mut conn = cluster.node(node).root();
    let count = conn.query_first(format!("select count(*) from app.kept where id = {id}"));
    count.ok().flatten().unwrap_or(0)
}

fn options() -> Options {
    let tables = "[priorities]\nn1 = 100\nn2 = 200\nn3 = 50\n".to_owned();
    Options { tables, ..Options::default() }
}

#[test]
fn a_row_on_the_worse_replica_alone_survives() {
    let mut cluster = Cluster::start(options());
    let id = only_the_worse_replica_has_a_row(&cluster);
    cluster.node_mut("n1").kill();
    let successor = cluster.wait_successor("n1");
    println!("{successor} took over");
    assert_eq!(has(&cluster, &successor, id), 1, "the acknowledged row is on the new primary");
    cluster.node_mut("n1").start();
    cluster.wait_equal();
    assert!(cluster.nodes.iter().all(|node| has(&cluster, &node.name, id) == 1));
}

#[test]
fn without_the_replica_that_may_have_it_nobody_is_promoted() {
    let mut cluster = Cluster::start(options());
    let id = only_the_worse_replica_has_a_row(&cluster);
    cluster.node_mut("n1").kill();
    cluster.node_mut("n3").kill();
    let began = Instant::now();
    let why = wait_some(CONVERGE_LIMIT, "n2 says whom it misses", || {
        assert_eq!(cluster.primary(), None, "n2 may not know every acknowledged row");
        let status = cluster.node("n2").status()?;
        let text = status["waits_for"]["text"].as_str()?.to_owned();
        let names_n3 = status["waits_for"]["code"] == "take.too_few" && text.contains("n3");
        names_n3.then_some(text)
    });
    println!("n2 waits: {why}");
    wait_for(NO_PROMOTION * 2, "ten seconds without a promotion", || {
        assert_eq!(cluster.primary(), None, "n2 may not know every acknowledged row");
        began.elapsed() >= NO_PROMOTION
    });
    let status = cluster.status().expect("Consul answers");
    assert!(reason_of(&status, "n2").contains("n3"), "{status}");

    cluster.node_mut("n3").start();
    let successor = cluster.wait_primary();
    println!("{successor} took over when n3 was back");
    assert_eq!(has(&cluster, &successor, id), 1, "the acknowledged row is on the new primary");
    cluster.node_mut("n1").start();
    cluster.wait_equal();
}

#[test]
fn a_replica_that_lost_its_volume_does_not_count() {
    let mut cluster = Cluster::start(options());
    let id = only_the_worse_replica_has_a_row(&cluster);
    cluster.node_mut("n1").kill();
    cluster.node_mut("n3").kill();
    cluster.node("n3").wipe();
    cluster.node_mut("n3").start();
    let began = Instant::now();
    // From n2: its data is no older than n2's, and still not what it was counted for.
    wait_for(CONVERGE_LIMIT, "n3 is cloned", || {
        assert_eq!(cluster.primary(), None, "the row is on n1's disk alone");
        cluster.node("n3").status().is_some_and(|status| status["state"] == "replica")
    });
    wait_for(NO_PROMOTION * 2, "ten seconds without a promotion", || {
        assert_eq!(cluster.primary(), None, "the row is on n1's disk alone");
        began.elapsed() >= NO_PROMOTION
    });
    cluster.node_mut("n1").start();
    let primary = cluster.wait_converged();
    println!("{primary} leads when n1 is back");
    assert_eq!(has(&cluster, &primary, id), 1, "the acknowledged row is on the primary");
    cluster.wait_equal();
}

/// The reason that `lictor status` shows for a node.
fn reason_of(status: &Value, node: &str) -> String {
    let members = status["members"].as_array().expect("a list");
    let row = members.iter().find(|member| member["node"] == node).expect("it is a member");
    row["reason"].to_string()
}
