//! `store::memory` behind Consul's HTTP: for trying lictor without a Consul, and for fast tests.
//!
//! Invariant: what is answered is the store's; here are a port, the clock, and waits. It keeps
//! nothing: with its process all is gone, and there is one of it. Must not: be anybody's Consul in
//! production.

mod limits;
mod serve;

use crate::decide::time::At;
use crate::http::{BindError, nonce};
use crate::store::memory::{Answered, Asked, Memory, Reply};
use limits::{ACCEPT_PAUSE, CONNECTIONS};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Reads CLOCK_BOOTTIME.
pub type Clock = fn() -> At;

/// A bound port. Everything is on one thread: run it in a `LocalSet`.
pub struct Dev {
    listener: TcpListener,
    addr: SocketAddr,
    held: Rc<Held>,
}

/// What all connections share.
struct Held {
    memory: RefCell<Memory>,
    /// The store's index, for who waits.
    changed: watch::Sender<u64>,
    clock: Clock,
    /// The one node's name.
    node: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    NoRandom(#[from] nonce::NoRandom),
}

impl Dev {
    pub async fn bind(addr: SocketAddr, node: &str, clock: Clock) -> Result<Dev, Error> {
        let failed = |error| BindError::from_io(addr, error);
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let mut memory = Memory::new(u32::from_ne_bytes(nonce::bytes()?));
        // As every server does first. Whoever has seen index 1, which stands for none, is so woken
        // by the first write.
        memory.join(node);
        let held = Held {
            changed: watch::Sender::new(memory.index()),
            memory: RefCell::new(memory),
            clock,
            node: node.to_owned(),
        };
        Ok(Dev { listener, addr, held: Rc::new(held) })
    }

    /// Where it listens; with port 0 asked for, the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let time = self.held.pass();
        tokio::pin!(time);
        loop {
            tokio::select! {
                () = &mut time => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok(_) if connections.len() >= CONNECTIONS => {
                        tracing::warn!(event = "dev.full", limit = CONNECTIONS);
                    }
                    Ok((stream, _)) => {
                        connections.spawn_local(serve::serve(stream, Rc::clone(&self.held)));
                    }
                    Err(error) => {
                        tracing::warn!(event = "dev.accept", %error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl Held {
    /// Answers, at once or when there is something new.
    async fn answer(&self, asked: &Asked<'_>) -> Reply {
        let waiting = match self.act(|memory, now| memory.answer(now, asked)) {
            Answered::Now(reply) => return reply,
            Answered::Wait(waiting) => waiting,
        };
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(reply) = self.act(|memory, now| memory.answer_waiting(now, &waiting)) {
                return reply;
            }
            tokio::select! {
                // It can't end: the sender is here.
                _ = changed.changed() => {}
                () = self.until(waiting.until()) => {}
            }
        }
    }

    /// Whatever ends by time alone.
    async fn pass(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            let next = self.act(|memory, now| {
                memory.tick(now);
                memory.wake()
            });
            let due = async {
                match next {
                    Some(at) => self.until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = due => {}
            }
        }
    }

    fn act<T>(&self, act: impl FnOnce(&mut Memory, At) -> T) -> T {
        let mut memory = self.memory.borrow_mut();
        let done = act(&mut memory, (self.clock)());
        let index = memory.index();
        self.changed.send_if_modified(|known| std::mem::replace(known, index) != index);
        done
    }

    async fn until(&self, at: At) {
        // A timer's own clock may be a little before ours.
        sleep((self.clock)().until(at).to_std() + Duration::from_millis(1)).await;
    }
}
