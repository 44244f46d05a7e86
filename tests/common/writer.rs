//! The load of a test and its judge: rows with unique ids to every node, which were acknowledged
//! when, and which nodes could be seen writable at the same time.
//!
//! Two nodes are only said to have overlapped when the order of requests and answers proves it, so
//! that a slow machine accuses nobody.

use super::cluster::Cluster;
use super::node::APP_SECRET;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two writes to one node.
const PACE: Duration = Duration::from_millis(10);
const PROBE_PACE: Duration = Duration::from_millis(20);
/// For a connection, a statement, an answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Two acknowledgements or probes of one node further apart may belong to two of its terms.
const SAME_TERM: Duration = Duration::from_millis(500);
/// ER_OPTION_PREVENTS_STATEMENT.
const READ_ONLY: u16 = 1290;
const ACK_LIMIT: Duration = Duration::from_secs(60);

/// Something a node did between a question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub id: u64,
    pub node: usize,
    pub sent: Instant,
    pub answered: Instant,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    next: AtomicU64,
    /// Rows that were acknowledged.
    acks: Mutex<Vec<Seen>>,
    /// Commits that were sent and got an error, other than by a node that refuses all writes.
    failed: Mutex<Vec<Seen>>,
    /// Answers that said: not read-only.
    writable: Mutex<Vec<Seen>>,
}

/// Writes to every node until [`Writer::finish`].
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    pub acked: usize,
    /// Acknowledged, and not on the primary.
    pub lost: Vec<u64>,
    /// Longest proven overlap of two nodes' acknowledged writes; `None`: no overlap.
    pub dual: Option<Duration>,
    /// The same of being writable.
    pub both_writable: Option<Duration>,
}

impl Verdict {
    /// The promise of sync mode.
    pub fn assert_nothing_lost(&self) {
        assert!(self.acked > 0, "nothing was written");
        assert!(
            self.lost.is_empty(),
            "{} of {} lost: {:?}",
            self.lost.len(),
            self.acked,
            self.lost
        );
        self.assert_one_primary();
    }

    /// The promise of every mode.
    pub fn assert_one_primary(&self) {
        assert_eq!(self.dual, None, "two nodes acknowledged writes at the same time");
        assert_eq!(self.both_writable, None, "two nodes were writable at the same time");
    }
}

impl Writer {
    /// Makes the table and writes to all nodes.
    pub fn start(cluster: &Cluster) -> Writer {
        let primary = cluster.wait_primary();
        let port = cluster.node(&primary).port;
        let mut conn = connect(port).expect("the primary takes connections");
        let table =
            "create table if not exists app.kept (id bigint unsigned primary key, node int)";
        conn.query_drop(table).expect("the primary takes writes");
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for (node, port) in cluster.nodes.iter().map(|node| node.port).enumerate() {
            let writing = shared.clone();
            threads.push(thread::spawn(move || write(&writing, node, port)));
            let probing = shared.clone();
            threads.push(thread::spawn(move || probe(&probing, node, port)));
        }
        let writer = Writer { shared, threads };
        writer.wait_more(20);
        writer
    }

    fn acks(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.shared.acks.lock().expect("no writer panics")
    }

    pub fn acked(&self) -> usize {
        self.acks().len()
    }

    /// Waits until so many more rows were acknowledged, by any node.
    pub fn wait_more(&self, rows: usize) {
        let want = self.acked() + rows;
        super::wait_for(ACK_LIMIT, "more rows are acknowledged", || self.acked() >= want);
    }

    /// Waits until this node acknowledged so many rows since `since`: one term of a second or so,
    /// which tells its terms apart.
    pub fn wait_acks_of(&self, node: usize, since: Instant, rows: usize) {
        super::wait_for(ACK_LIMIT, "the new primary acknowledges rows", || {
            let acks = self.acks();
            acks.iter().filter(|it| it.node == node && it.sent > since).count() >= rows
        });
    }

    /// Commits sent to this node since `from` that failed or whose answer was lost.
    pub fn failed(&self, node: usize, from: Instant) -> usize {
        let failed = self.shared.failed.lock().expect("no writer panics");
        failed.iter().filter(|it| it.node == node && it.sent >= from).count()
    }

    /// The longest time between two acknowledgements from 1 s before `event` until now.
    pub fn gap(&self, event: Instant) -> Duration {
        let from = event - Duration::from_secs(1);
        let mut times: Vec<Instant> =
            self.acks().iter().map(|it| it.answered).filter(|it| *it >= from).collect();
        times.push(Instant::now());
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Stops writing, waits until the cluster has converged, and reads back every row.
    pub fn finish(mut self, cluster: &Cluster) -> Verdict {
        self.stop();
        let primary = cluster.wait_converged();
        let mut conn = cluster.node(&primary).root();
        let there: Vec<u64> = conn.query("select id from app.kept").expect("the primary answers");
        let there: BTreeSet<u64> = there.into_iter().collect();
        let acks = self.acks().clone();
        let writable = self.shared.writable.lock().expect("no prober panics").clone();
        let verdict = Verdict {
            acked: acks.len(),
            lost: acks.iter().map(|it| it.id).filter(|id| !there.contains(id)).collect(),
            dual: overlap(&acks),
            both_writable: overlap(&writable),
        };
        println!(
            "acknowledged {}, lost {}, dual {:?}, both writable {:?}",
            verdict.acked,
            verdict.lost.len(),
            verdict.dual,
            verdict.both_writable
        );
        verdict
    }

    fn stop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection of the application's user, with limits.
pub fn connect(port: u16) -> Result<Conn, mysql::Error> {
    let how = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some("app"))
        .pass(Some(APP_SECRET))
        .tcp_connect_timeout(Some(TIMEOUT))
        .read_timeout(Some(TIMEOUT))
        .write_timeout(Some(TIMEOUT));
    Conn::new(how)
}

/// Calls `each` at a pace with a connection to the port; it says whether the connection lives.
fn at_pace(shared: &Shared, port: u16, pace: Duration, mut each: impl FnMut(&mut Conn) -> bool) {
    let mut open = None;
    while !shared.over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        open = open.take().or_else(|| connect(port).ok());
        if open.as_mut().is_some_and(|conn| !each(conn)) {
            open = None;
        }
        thread::sleep(pace.saturating_sub(begun.elapsed()));
    }
}

fn write(shared: &Shared, node: usize, port: u16) {
    at_pace(shared, port, PACE, |conn| {
        let id = shared.next.fetch_add(1, Ordering::SeqCst);
        let sent = Instant::now();
        match conn.query_drop(format!("insert into app.kept values ({id}, {node})")) {
            Ok(()) => {
                let seen = Seen { id, node, sent, answered: Instant::now() };
                shared.acks.lock().expect("no writer panics").push(seen);
                true
            }
            // Refused: the connection is as good as before.
            Err(mysql::Error::MySqlError(error)) if error.code == READ_ONLY => true,
            Err(error) => {
                let seen = Seen { id, node, sent, answered: Instant::now() };
                shared.failed.lock().expect("no writer panics").push(seen);
                matches!(error, mysql::Error::MySqlError(_))
            }
        }
    });
}

fn probe(shared: &Shared, node: usize, port: u16) {
    at_pace(shared, port, PROBE_PACE, |conn| {
        let sent = Instant::now();
        let Ok(answer) = conn.query_first::<u8, _>("select @@global.read_only") else {
            return false;
        };
        if answer == Some(0) {
            let seen = Seen { id: 0, node, sent, answered: Instant::now() };
            shared.writable.lock().expect("no prober panics").push(seen);
        }
        true
    });
}

/// One node's answers without a pause: it was writable from the end of the first to the start of
/// the last at least.
#[derive(Debug)]
struct Term {
    node: usize,
    from: Instant,
    until: Instant,
}

/// The longest time in which two nodes both were what `seen` says, proven by the order of
/// questions and answers.
fn overlap(seen: &[Seen]) -> Option<Duration> {
    let nodes: BTreeSet<usize> = seen.iter().map(|it| it.node).collect();
    let terms: Vec<Term> = nodes.into_iter().flat_map(|node| terms(seen, node)).collect();
    let mut worst = None;
    for (index, one) in terms.iter().enumerate() {
        for other in terms[index + 1..].iter().filter(|it| it.node != one.node) {
            // A single answer is a term that ends before it begins; inside another, it counts.
            if one.from < other.until && other.from < one.until {
                let (from, until) = (one.from.max(other.from), one.until.min(other.until));
                worst = worst.max(Some(until.saturating_duration_since(from)));
            }
        }
    }
    worst
}

fn terms(seen: &[Seen], node: usize) -> Vec<Term> {
    let mut answers: Vec<&Seen> = seen.iter().filter(|it| it.node == node).collect();
    answers.sort_by_key(|it| it.sent);
    let mut terms: Vec<Term> = Vec::new();
    let mut last: Option<Instant> = None;
    for answer in answers {
        let same = last.is_some_and(|it| answer.sent.saturating_duration_since(it) < SAME_TERM);
        match terms.last_mut().filter(|_| same) {
            Some(term) => term.until = answer.sent,
            None => terms.push(Term { node, from: answer.answered, until: answer.sent }),
        }
        last = Some(answer.answered);
    }
    terms
}

/// The judge is tested too: one that accuses nobody would pass everything.
pub fn assert_the_judge_judges() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let seen = |node: usize, times: &[(u64, u64)]| {
        let each = |(sent, answered): &(u64, u64)| Seen {
            id: 0,
            node,
            sent: at(*sent),
            answered: at(*answered),
        };
        times.iter().map(each).collect::<Vec<_>>()
    };
    let first = seen(0, &[(0, 5), (10, 15), (20, 25)]);
    let cases: [(&str, Vec<Seen>, Option<u64>); 5] = [
        ("one after the other", seen(1, &[(30, 35), (40, 45)]), None),
        ("a slow last answer", seen(1, &[(21, 22), (40, 45)]), None),
        ("both for 12 ms", seen(1, &[(2, 8), (50, 51)]), Some(12)),
        ("one stray answer inside", seen(1, &[(11, 12)]), Some(0)),
        ("a second term", seen(1, &[(900, 905)]), None),
    ];
    for (name, second, want) in cases {
        let all = [first.clone(), second].concat();
        assert_eq!(overlap(&all), want.map(Duration::from_millis), "{name}");
    }
}
