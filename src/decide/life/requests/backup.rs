//! Requests for a backup or a verification: answered when a node has the lock for them. How its
//! work ends stands in `state/backup`, which names the request.

use super::super::Node;
use super::super::backup::{Granted, Wish};
use super::Outcome;
use crate::decide::io::Outbox;
use crate::decide::time::At;

impl Node {
    pub(super) fn answer_backup(
        &mut self,
        now: At,
        wish: &Wish,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        match self.grant(now, wish, out) {
            Granted::Wait => None,
            Granted::Node(node, of) => {
                let reason = format!("{} {of} by {node}", wish.job);
                Some(Outcome::done(Some(node), reason))
            }
            Granted::No(why) => Some(Outcome::refused(why)),
        }
    }
}
