//! lictor: an autopilot sidecar for stateful containers, on Consul.

pub mod backup;
pub mod cli;
pub mod config;
pub mod consul;
pub mod decide;
pub mod dev;
pub mod driver;
pub mod http;
pub mod process;
pub mod recording;
pub mod sim;
pub mod store;
pub mod telemetry;
