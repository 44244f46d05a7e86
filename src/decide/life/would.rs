//! What this node would do if the lock's holder fell silent now, for `explain`.
//!
//! The answer is the core's own verdict under that supposition: nothing here judges a second time.

use super::Node;
use crate::decide::explain::{Told, Would};
use crate::decide::lead::Leadership;
use crate::decide::time::At;

impl Node {
    pub(crate) fn would(&self, now: At) -> Would {
        if matches!(self.leadership(), Leadership::Open { .. }) {
            let restarts = self.would_restart(now);
            return Would::Leads { restarts };
        }
        let lasting = self.waits_for().or_else(|| self.bar_that_lasts());
        match self.lead.foresee(now, lasting) {
            Ok(chance) => {
                let held = self.hold_delay(now).filter(|(until, _)| *until > chance.from);
                let from = held.as_ref().map_or(chance.from, |(until, _)| *until);
                Would::Takes {
                    in_ms: now.until(from),
                    case: chance.case.to_owned(),
                    asks: chance.asks,
                    counted: chance.counted,
                    held: held.map(|(_, reason)| Told::from(reason)),
                }
            }
            Err(reason) => Would::Barred { reason: Told::from(reason) },
        }
    }
}
