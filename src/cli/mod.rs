//! Subcommands, one file each.

pub mod run_alone;
