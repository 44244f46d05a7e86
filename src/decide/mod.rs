//! The pure core: what was observed and the time go in, effects come out.
//!
//! Nothing here does I/O, reads a clock or draws a random number; `clippy.toml` and `tests/tidy.rs`
//! keep it so. The same functions run in the driver, in the model checker and in tests.

pub mod action;
pub mod backup;
mod bytes;
pub mod call;
pub mod explain;
pub mod guard;
pub mod hook;
pub mod invariants;
pub mod io;
pub mod journal;
pub mod keys;
pub mod lead;
pub mod life;
pub mod mutant;
pub mod peer;
pub mod reason;
pub mod records;
pub mod ring;
pub mod time;
pub mod types;
