//! Consul refuses what this node asks: its token was revoked, or its rules are too narrow.
//!
//! Told once, and again after [`QUIET`] while it lasts; the first call that succeeds says that it
//! is over. What follows from the refusals (no renewal, then promises or the fence) is decided
//! where those calls are made.

use super::Node;
use crate::decide::call::{Answer, StoreError};
use crate::decide::io::Outbox;
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};

/// Between two tellings of the same.
const QUIET: Span = Span::secs(60);

impl Node {
    pub(crate) fn heed_denial(
        &mut self,
        now: At,
        result: &Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        let Err(StoreError::Denied(why)) = result else {
            let over = result.is_ok() && self.denied_until.take().is_some();
            if over {
                let text = "Consul takes this node's token again";
                self.decided(Reason::new("consul.allowed", text), out);
            }
            return;
        };
        if self.denied_until.is_some_and(|quiet| now < quiet) {
            return;
        }
        self.denied_until = Some(now + QUIET);
        let reason =
            Reason::new("consul.denied", format!("Consul refuses this node's token: {why}"))
                .flip("a token with the rules of docs/security.md in consul.token_file");
        self.decided(reason, out);
    }
}
