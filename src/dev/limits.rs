//! Every limit of the server, with its arithmetic.

use std::time::Duration;

/// Connections at once: a cluster of nine with three of each, the tools of a test, with room; one
/// more is closed at once. Below the usual 1024 descriptors.
pub const CONNECTIONS: usize = 512;

/// From the first wait for a request's head to its end, idle time included: longer than lictor's
/// client keeps an idle connection, so that it never writes into one that is being closed.
pub const HEAD_TIME: Duration = Duration::from_secs(120);

/// How long a body may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// The pause after a failed accept (no file descriptors left): the reason does not go away at once.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
