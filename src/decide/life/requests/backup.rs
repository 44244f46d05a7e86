//! Requests for a backup or a verification: answered when a node has the lock for them. How its
//! work ends stands in `state/backup`, which names the request.

use super::super::Node;
use super::super::backup::{Granted, Wish};
use super::{Outcome, Seat};
use crate::decide::action::Wanted;
use crate::decide::backup::Job;
use crate::decide::io::Outbox;
use crate::decide::time::At;

impl Node {
    pub(super) fn answer_backup(
        &mut self,
        now: At,
        seat: &Seat,
        (id, by): (&str, &str),
        wanted: Wanted,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        let Seat::Leader(_) = seat else {
            return Some(Outcome::refused("nobody leads: a backup is asked for by the leader"));
        };
        let (job, of, node) = match wanted {
            Wanted::Make { node } => (Job::Backup, None, node),
            Wanted::Verify { id, node } => (Job::Verify, Some(id), Some(node)),
        };
        let (by, request) = (by.to_owned(), Some(id.to_owned()));
        let wish = Wish { job, id: of, node, by, request, slot: None };
        match self.grant(now, &wish, out) {
            Granted::Wait => None,
            Granted::Node(node, of) => {
                let reason = format!("{job} {of} by {node}");
                Some(Outcome::done(Some(node), reason))
            }
            Granted::No(why) => Some(Outcome::refused(why)),
        }
    }
}
