//! Processes: the guard above us, the children below us, and the certain end of a whole tree.
//!
//! `lictor run` is two processes. The parent is the *guard* ([`guard`]): it sleeps, forwards
//! signals, and kills the application's whole tree when its time is over or when the sidecar dies.
//! The child is the *sidecar*, which does everything else; it starts and reaps every process
//! through [`children`], and runs hooks through [`hooks`].
//!
//! The invariant: **a process that was reaped is not a tree that is gone.** Only [`tree`] says that
//! a tree is gone, by looking at every process there is. Nothing in here knows of leases, roles or
//! Consul.

pub mod children;
pub mod clock;
mod contain;
pub mod environment;
pub mod guard;
pub mod hooks;
mod lines;
pub mod link;
mod page;
mod scan;
pub mod signals;
pub mod slim;
mod sys;

pub use sys::step_back;
pub mod terminal;
pub mod tree;
pub mod user;

use std::fmt;

/// A process id as our own pid namespace numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One process for certain: a pid alone may name another process a moment later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Proc {
    pub pid: Pid,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub start: u64,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// From a status that `waitpid` filled in for a process that has ended.
    pub(crate) fn from_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// What a shell would say: the code, or 128 + the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
