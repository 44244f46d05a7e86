//! What this node has seen of the others, by `Lead`.

use super::Node;
use crate::decide::lead::Leadership;
use crate::decide::records::{Follows, LockState, SyncValue, TermValue};

impl Node {
    pub(crate) fn term_seen(&self) -> Option<&TermValue> {
        self.lead.term_seen().map(|(term, _)| term)
    }

    pub(crate) fn sync_seen(&self) -> Option<&SyncValue> {
        self.lead.sync_seen().map(|(sync, _)| sync)
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.lead.leadership()
    }

    /// The term this node follows, if another node leads.
    pub(crate) fn other_leader(&self) -> Option<Follows> {
        let value = self.lead.leader_seen()?;
        let term = self.term_seen()?;
        let current = value.epoch == term.epoch && value.run == term.run;
        // The lock of a former process of this node is nobody's to follow.
        let other = value.node != *self.me();
        let held = value.state == LockState::Held;
        (current && other && held).then(|| Follows {
            epoch: value.epoch,
            node: value.node.clone(),
            run: value.run.clone(),
        })
    }
}
