//! One writer per node: it keeps a connection to its node and inserts a row with an id of its own,
//! again and again, whether the node is the primary or not. Who takes the row is the node's
//! business.

use crate::figures::Ack;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);
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

pub struct Writers {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
    threads: Vec<JoinHandle<()>>,
    start: Instant,
}

impl Writers {
    pub fn start(targets: &[Target], start: Instant) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let acks = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(AtomicU64::new(1));
        let threads = targets
            .iter()
            .cloned()
            .enumerate()
            .map(|(node, target)| {
                let (stop, acks, next) = (Arc::clone(&stop), Arc::clone(&acks), Arc::clone(&next));
                thread::spawn(move || {
                    let mut connection = None;
                    while !stop.load(Ordering::Relaxed) {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        if let Some(ack) = write(node, &target, &mut connection, id, start) {
                            acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
                        }
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        Writers { stop, acks, threads, start }
    }

    pub fn now_ms(&self) -> u64 {
        since_ms(self.start)
    }

    /// All acknowledgements so far, in the order of their confirmation.
    pub fn acks(&self) -> Vec<Ack> {
        let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        acks.sort_by_key(|ack| ack.done_ms);
        acks
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn since_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `None`: refused or unknown; only a confirmed row counts. A connection with an error other than
/// a refusal is dropped: its next answer could belong to this write.
fn write(
    node: usize,
    target: &Target,
    connection: &mut Option<Conn>,
    id: u64,
    start: Instant,
) -> Option<Ack> {
    if connection.is_none() {
        *connection = target.connect().ok();
    }
    let open = connection.as_mut()?;
    let sent_ms = since_ms(start);
    match open.query_drop(format!("insert into w (id, node) values ({id}, {node})")) {
        Ok(()) => Some(Ack { id, node, sent_ms, done_ms: since_ms(start) }),
        Err(mysql::Error::MySqlError(_)) => None,
        Err(_) => {
            *connection = None;
            None
        }
    }
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
