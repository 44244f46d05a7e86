//! What integration tests share: conditions with a limit, ports of one's own, a real Consul, a
//! proxy that makes faults.

// Each test crate uses a part of it.
#![allow(dead_code)]
#![allow(clippy::disallowed_methods, reason = "a test has clocks, processes and waits of its own")]

pub mod certs;
pub mod cluster;
pub mod consul;
pub mod fake;
pub mod node;
pub mod proxy;
pub mod safe;
pub mod store;
pub mod toy;
pub mod writer;

use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Below the ephemeral range, so that no outgoing connection takes one.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The ports of this process, held by locks until it ends.
static HELD: Mutex<Vec<Flock<File>>> = Mutex::new(Vec::new());

/// Waits until `is_so`; panics with `what` after `limit`.
pub fn wait_for(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until `find` finds something; panics with `what` after `limit`.
pub fn wait_some<T>(limit: Duration, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_for(limit, what, || {
        found = find();
        found.is_some()
    });
    found.expect("the wait ended because it was found")
}

/// A port on 127.0.0.1, free for TCP and UDP, that no other test process gets while this one lives.
pub fn free_port() -> u16 {
    let dir = std::env::temp_dir().join("lictor-test-ports");
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let mut held = HELD.lock().expect("nothing panics while it holds this");
    let width = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(97) % width;
    for step in 0..width {
        let offset = u16::try_from((first + step) % width).expect("less than the width");
        let port = PORTS.start + offset;
        if let Some(lock) = try_hold(&dir, port) {
            held.push(lock);
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

fn try_hold(dir: &std::path::Path, port: u16) -> Option<Flock<File>> {
    let file = File::create(dir.join(format!("{port}.lock"))).ok()?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok()?;
    UdpSocket::bind(("127.0.0.1", port)).ok()?;
    Some(lock)
}

/// A directory of its own for a test, in memory where there is such a place; removed when dropped.
pub fn scratch(name: &str) -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix(&format!("lictor-{name}-"))
        .tempdir_in(parent)
        .expect("the temporary directory is writable")
}

/// Runs a future on a runtime like the product's: one thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(work)
}

/// Each of these, once on the real Consul and once on `lictor dev`.
#[allow(unused_macros, reason = "not every test file has both")]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_consul {
            use super::*;
            $(#[test] fn $name() { super::$name(&Consul::one()); })*
        }

        mod on_dev {
            use super::*;
            $(#[test] fn $name() { super::$name(&Consul::dev()); })*
        }
    };
}
