//! Every limit of the HTTP side, with its arithmetic.

use crate::decide::time::Span;
use std::time::Duration;

/// The largest body taken, either way: a position's text is the longest part and a few hundred
/// bytes.
pub const BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to arrive: one segment on a healthy link.
pub const BODY_TIME: Duration = Duration::from_secs(1);

/// Peers' requests and actions being read or waiting for the driver.
pub const IN_FLIGHT: usize = 16;

/// Events that wait for the driver: twice what can be in flight, since those whose asker is gone
/// stay until taken.
pub const QUEUE: usize = 2 * IN_FLIGHT;

/// How long a peer's question waits for the core: a counted survey gives up after 2.7 s, a
/// `position` hook is answered or given up by then.
pub const PEER_ANSWER: Duration = Duration::from_secs(3);

/// How long an action waits for its write: three of Consul's addresses at 500 ms, twice.
pub const ACTION_ANSWER: Duration = Duration::from_secs(3);

/// Connections at once: load balancers, agents and some tools; one more is closed at once.
pub const CONNECTIONS: usize = 256;

/// Of them, from one address: whoever holds its share open for nothing keeps nobody else out, least
/// of all the members that promise. A proxy's or a bridge's clients share one.
pub const CONNECTIONS_PER_ADDRESS: usize = 64;

/// From the first wait for a request's head to its end, idle time included.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 16 * 1024;

/// Headers of a request.
pub const HEADERS: usize = 64;

/// A connection is closed after this, so that one whose reader stalls can't keep its place.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// What is under way then may still end.
pub const CONNECTION_END: Duration = Duration::from_secs(5);

/// The pause after a failed accept (no file descriptors left): the reason does not go away at once.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client keeps an idle connection: less than the server's [`HEAD_TIME`], or it would
/// write into a connection being closed.
pub const IDLE: Duration = Duration::from_secs(8);

/// Idle connections a client keeps to one peer: a ping and a position at once.
pub const IDLE_PER_PEER: usize = 2;

/// Connections to the Unix socket at once: some people and their scripts; more wait.
pub const SOCKET_CONNECTIONS: usize = 16;

/// How old a read of the journal may be that `/history` answers from: a page asks each few seconds.
pub const HISTORY_GOOD: Span = Span(900);

/// How long `/history` waits for a read: three of Consul's addresses at 500 ms.
pub const HISTORY_WAIT: Duration = Duration::from_millis(1_500);

/// Followers of `/events` at once: some pages and tools; more are refused.
pub const FOLLOWERS: usize = 16;

/// Events that wait for a follower who does not read: all that is kept here, twice.
pub const FOLLOW_QUEUE: usize = 2 * super::feed::Feed::KEPT;

/// A follower hears at least so often that the connection is alive.
pub const FOLLOW_ALIVE: Duration = Duration::from_secs(10);
