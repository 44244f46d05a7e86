//! What the measured examples share: Consul, nodes with MariaDB under lictor, writers and probes,
//! and the figures that come of them.

#![allow(dead_code, reason = "each example uses its part")]

pub mod consul;
pub mod disk;
pub mod figures;
pub mod net;
pub mod processes;
pub mod run;
pub mod stop;
pub mod tls;
pub mod world;
pub mod writers;
