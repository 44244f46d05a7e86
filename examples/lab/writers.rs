//! One writer per node: it keeps a connection to its node and inserts a row with an id of its own,
//! again and again, whether the node is the primary or not. Who takes the row is the node's
//! business. Beside it one prober per node asks whether it is read-only.

use super::figures::Ack;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);
const PROBE_PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(1);

/// How to reach the application of a node.
#[derive(Clone, Debug)]
pub struct Target {
    pub port: u16,
    pub password: String,
}

impl Target {
    pub fn connect(&self) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(Some("127.0.0.1"))
                .tcp_port(self.port)
                .prefer_socket(false)
                .user(Some("app"))
                .pass(Some(self.password.clone()))
                .db_name(Some("app"))
                .tcp_connect_timeout(Some(LIMIT))
                .read_timeout(Some(LIMIT))
                .write_timeout(Some(LIMIT)),
        )
    }
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    next: AtomicU64,
    acks: Mutex<Vec<Ack>>,
    /// Answers that said: not read-only.
    writable: Mutex<Vec<Ack>>,
}

pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    start: Instant,
}

impl Writers {
    pub fn start(targets: &[Target], start: Instant) -> Writers {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for (node, target) in targets.iter().enumerate() {
            let (mine, to) = (Arc::clone(&shared), target.clone());
            threads.push(thread::spawn(move || {
                at_pace(&mine, &to, PAUSE, |connection| write(&mine, node, connection, start));
            }));
            let (mine, to) = (Arc::clone(&shared), target.clone());
            threads.push(thread::spawn(move || {
                at_pace(&mine, &to, PROBE_PAUSE, |connection| {
                    probe(&mine, node, connection, start)
                });
            }));
        }
        Writers { shared, threads, start }
    }

    pub fn now_ms(&self) -> u64 {
        since_ms(self.start)
    }

    /// All acknowledgements so far, in the order of their confirmation.
    pub fn acks(&self) -> Vec<Ack> {
        let mut acks = all(&self.shared.acks);
        acks.sort_by_key(|ack| ack.done_ms);
        acks
    }

    /// All sights of a writable node so far.
    pub fn writable(&self) -> Vec<Ack> {
        all(&self.shared.writable)
    }

    pub fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn all(list: &Mutex<Vec<Ack>>) -> Vec<Ack> {
    list.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn push(list: &Mutex<Vec<Ack>>, one: Ack) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(one);
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn since_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Calls `each` with a connection again and again. A connection with an error other than a refusal
/// is dropped: its next answer could belong to this question.
fn at_pace(
    shared: &Shared,
    target: &Target,
    pause: Duration,
    mut each: impl FnMut(&mut Conn) -> mysql::Result<()>,
) {
    let mut connection = None;
    while !shared.over.load(Ordering::Relaxed) {
        connection = connection.take().or_else(|| target.connect().ok());
        match connection.as_mut().map(&mut each) {
            Some(Ok(()) | Err(mysql::Error::MySqlError(_))) | None => {}
            Some(Err(_)) => connection = None,
        }
        thread::sleep(pause);
    }
}

/// Refused or unknown is no acknowledgement; only a confirmed row counts.
fn write(shared: &Shared, node: usize, open: &mut Conn, start: Instant) -> mysql::Result<()> {
    let id = shared.next.fetch_add(1, Ordering::Relaxed) + 1;
    let sent_ms = since_ms(start);
    open.query_drop(format!("insert into w (id, node) values ({id}, {node})"))?;
    push(&shared.acks, Ack { id, node, sent_ms, done_ms: since_ms(start) });
    Ok(())
}

fn probe(shared: &Shared, node: usize, open: &mut Conn, start: Instant) -> mysql::Result<()> {
    let sent_ms = since_ms(start);
    if open.query_first::<u8, _>("select @@global.read_only")? == Some(0) {
        push(&shared.writable, Ack { id: 0, node, sent_ms, done_ms: since_ms(start) });
    }
    Ok(())
}

/// Reads the ids back one by one.
pub fn read_back(target: &Target, ids: impl Iterator<Item = u64>) -> mysql::Result<BTreeSet<u64>> {
    let mut connection = target.connect()?;
    let mut found = BTreeSet::new();
    for id in ids {
        found
            .extend(connection.query_first::<u64, _>(format!("select id from w where id = {id}"))?);
    }
    Ok(found)
}
