//! The configuration in KV under running MariaDB nodes: synchronous replication is switched on and
//! off while rows are written, no database is touched, and what is acknowledged meanwhile stays.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{CONVERGE_LIMIT, Cluster, Options};
use common::wait_for;
use common::writer::Writer;

const KEY: &str = "lictor/demo/state/config";
/// Rows between two changes.
const ROWS: usize = 50;

fn semi_sync(cluster: &Cluster, node: &str) -> String {
    let ask = "select variable_value from information_schema.global_status \
               where variable_name = 'Rpl_semi_sync_master_status'";
    cluster.node(node).ask(ask).unwrap_or_default()
}

/// All three are counted, by the key and by the database.
fn wait_counted(cluster: &Cluster, primary: &str) {
    wait_for(CONVERGE_LIMIT, "the set is whole and in force", || {
        let sync = cluster.status().map(|status| status["sync"].clone()).unwrap_or_default();
        sync["members"].as_array().is_some_and(|members| members.len() == 3)
            && sync["acks"] == 1
            && semi_sync(cluster, primary) == "ON"
    });
}

#[test]
fn sync_is_switched_on_and_off_under_load_and_holds_when_the_primary_dies() {
    let mut cluster = Cluster::start(Options { sync: "", ..Options::default() });
    let primary = cluster.wait_converged();
    let apps: Vec<_> = cluster.nodes.iter().map(|node| node.app()).collect();
    assert_eq!(semi_sync(&cluster, &primary), "OFF");
    let writer = Writer::start(&cluster);
    writer.wait_more(ROWS);
    cluster.consul.put(KEY, "sync = \"on\"");
    wait_counted(&cluster, &primary);
    writer.wait_more(ROWS);
    cluster.consul.put(KEY, "sync = \"off\"");
    wait_for(CONVERGE_LIMIT, "nothing is counted or required any more", || {
        cluster.consul.entry("lictor/demo/state/sync").is_none()
            && semi_sync(&cluster, &primary) == "OFF"
    });
    writer.wait_more(ROWS);
    let now: Vec<_> = cluster.nodes.iter().map(|node| node.app()).collect();
    assert_eq!(now, apps, "no database was started again");
    assert_eq!(cluster.wait_primary(), primary);
    // On again, and then the primary dies: what was acknowledged is there.
    cluster.consul.put(KEY, "sync = \"on\"");
    wait_counted(&cluster, &primary);
    writer.wait_more(ROWS);
    cluster.node_mut(&primary).kill();
    cluster.wait_successor(&primary);
    writer.wait_more(ROWS);
    cluster.node_mut(&primary).start();
    cluster.wait_converged();
    let verdict = writer.finish(&cluster);
    verdict.assert_nothing_lost();
    verdict.assert_one_primary();
}
