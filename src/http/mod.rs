//! Health, peers and actions on one port.
//!
//! Reads are answered from a snapshot the driver publishes ([`Board`]) and the clock. Everything
//! that can change a decision goes to the driver as an [`Incoming`] through one bounded queue, and
//! its answer comes back by a one-time channel: a handler decides nothing. Must not: touch Consul,
//! the disk or another module's state, or show a secret.

pub mod auth;
pub mod board;
mod client;
mod cluster;
mod effects;
mod feed;
mod incoming;
pub mod limits;
pub mod metrics;
pub mod nonce;
mod page;
mod reads;
mod replay;
mod routes;
mod server;
mod socket;
mod tls;

pub use auth::{BadKey, PeerAuth, Refusal, Secret, Token};
pub use board::{App, Board, Published, Role};
pub use client::PeerClient;
pub use feed::Feed;
pub use incoming::{ActionReply, AskId, ConfigAsk, ConfigReply, Incoming};
pub use metrics::Metrics;
pub use server::{BindError, Clock, Parts, Server};
pub use socket::Socket;
pub use tls::{Connector, How as TlsHow, Pem, Tls, TlsError};
