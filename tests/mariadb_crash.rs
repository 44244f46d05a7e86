//! A primary that is alone in the sync set and whose application crashes again and again under
//! load: restarted and promoted in place, with every acknowledged row.
//!
//! MariaDB can cut what it takes for unacknowledged from its binary log at a start after a crash;
//! here nobody else has those rows.

#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

mod common;

use common::cluster::{CONVERGE_LIMIT, Cluster, Options};
use common::writer::Writer;
use common::{wait_for, wait_some};
use std::time::{Duration, Instant};

const KILLS: usize = 50;
/// Rows between two kills: some are always under way.
const ROWS: usize = 15;

#[test]
fn fifty_crashes_of_a_lone_primary_lose_no_acknowledged_row() {
    // A window as short as a crash and its restart: no backoff between two kills.
    let settings = "restart_max = 1000\nrestart_window = \"1s\"\nexpel_after = \"3s\"".to_owned();
    let mut cluster = Cluster::start(Options { settings, ..Options::default() });
    let writer = Writer::start(&cluster);
    let primary = cluster.wait_converged();
    let others: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    for other in others.iter().filter(|name| **name != primary) {
        cluster.node_mut(other).kill();
    }
    assert_eq!(cluster.wait_converged(), primary, "alone, and counted alone");

    let mut gaps: Vec<Duration> = Vec::new();
    for _ in 0..KILLS {
        writer.wait_more(ROWS);
        let node = cluster.node(&primary);
        let app = wait_some(CONVERGE_LIMIT, "the application runs", || node.app());
        let at = Instant::now();
        node.kill_app();
        wait_for(CONVERGE_LIMIT, "it runs again", || node.app().is_some_and(|now| now != app));
        writer.wait_acks_of(cluster.index(&primary), at + Duration::from_millis(100), 1);
        gaps.push(writer.gap(at));
    }
    gaps.sort();
    println!("{KILLS} kills: gap median {:?}, longest {:?}", gaps[KILLS / 2], gaps[KILLS - 1]);
    assert_eq!(cluster.wait_converged(), primary, "nobody else could take over");
    writer.finish(&cluster).assert_nothing_lost();

    for other in others.iter().filter(|name| **name != primary) {
        cluster.node_mut(other).start();
    }
    cluster.wait_equal();
}
