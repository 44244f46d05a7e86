//! A recording: everything that a node's core was told, and what it answered; and the replay of it.
//!
//! ```text
//!   format   lines of a recording, without secrets
//!   writer   a file behind a queue: the one thread of the sidecar waits for no disk
//!   replay   the same inputs into a fresh core: the same effects, or the first that differs
//! ```
//!
//! The core is a function of what it is told, so that a recording is the whole course. Must not:
//! change what a node does, or hold anything that is secret.

pub mod format;
pub mod replay;
pub mod writer;
