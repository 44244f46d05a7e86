//! The node's part in the journal: it notes its decisions, and as the leader appends them and asks
//! the members for theirs. Nothing here decides anything else.

use super::peers::Asked;
use super::{Node, Owner};
use crate::decide::call::{Answer, StoreError};
use crate::decide::io::Outbox;
use crate::decide::journal::writer::{Desk, Term};
use crate::decide::journal::{Line, Notes, Writer};
use crate::decide::lead::Leadership;
use crate::decide::peer::{Ask, Told};
use crate::decide::reason::Reason;
use crate::decide::records::SyncValue;
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, NodeName, RunId};

/// Lines in one answer to a leader: 8 of 3.6 kB are below a body's 64 KiB, escapes and all.
const TOLD_MOST: usize = 8;
const ASK_TIMEOUT: Span = Span::secs(1);

#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub(crate) notes: Notes,
    pub(crate) writer: Writer,
    /// Positions of the last survey, for the decision that followed from it.
    pub(crate) positions: Option<String>,
    sync: Option<SyncValue>,
}

impl Node {
    /// Called for every decision of this node.
    pub(crate) fn note(&mut self, reason: &Reason) {
        let mut reason = reason.clone().with("state", self.state.name());
        if reason.code.starts_with("take")
            && let Some(positions) = &self.journal.positions
        {
            reason = reason.with("positions", positions);
        }
        let seen = self.term_seen().map(|term| term.epoch).unwrap_or_default();
        self.journal.notes.note(self.now, self.wall, seen, &reason);
    }

    pub(crate) fn tend_journal(&mut self, now: At, out: &mut Outbox) {
        self.tell_sync(out);
        // The lock's session lives from the acquisition until the release: what is decided between
        // the end of a term and its release still gets in.
        let epoch = match self.leadership() {
            Leadership::Open { epoch, .. } | Leadership::Closed { epoch, .. } => Some(epoch),
            Leadership::Follower | Leadership::Taking => None,
        };
        let term = epoch.zip(self.lead.session());
        let leads = term.is_some();
        self.journal.writer.lead(term.map(|(epoch, session)| Term { epoch, session }));
        if !leads {
            return;
        }
        let mut members: std::collections::BTreeSet<NodeName> =
            self.members.keys().cloned().collect();
        members.insert(self.me().clone());
        let desk = Desk {
            keys: &self.keys,
            me: &self.boot.identity,
            own: &self.journal.notes,
            members,
            keep: u64::from(self.set.journal_keep),
        };
        let Some(call) = self.journal.writer.work(now, &desk) else { return };
        let epoch = epoch.unwrap_or_default();
        self.call(Owner::Journal { epoch }, call, out);
    }

    pub(crate) fn journal_answered(
        &mut self,
        now: At,
        epoch: Epoch,
        result: Result<Answer, StoreError>,
    ) {
        // An answer of a former term settles nothing: the head is read anew under each.
        if self.journal.writer.epoch() == Some(epoch) {
            self.journal.writer.answered(now, &self.keys, result);
        }
    }

    /// The set of those who acknowledge is `Lead`'s; that it changed is told here, once it is
    /// written.
    fn tell_sync(&mut self, out: &mut Outbox) {
        let Leadership::Open { epoch, .. } = self.leadership() else {
            self.journal.sync = None;
            return;
        };
        let Some(sync) = self.sync_seen().filter(|sync| sync.epoch == epoch).cloned() else {
            return;
        };
        if self.journal.sync.as_ref() == Some(&sync) {
            return;
        }
        let names = super::facts::names(&sync.members);
        let text = match sync.acks {
            0 => format!("the sync set becomes {names}; commits wait for nobody"),
            acks => {
                format!("the sync set becomes {names}; a commit waits for {acks} of the others")
            }
        };
        let reason = Reason::new("sync", text).with("members", names).with("acks", sync.acks);
        self.journal.sync = Some(sync);
        self.decided(reason, out);
    }

    /// A member's pong told how many lines it has: what is not in yet is asked for.
    pub(crate) fn news_of(&mut self, node: &NodeName, notes: u64, out: &mut Outbox) {
        let Some(run) = self.members.get(node).map(|member| member.run.clone()) else { return };
        let Some(known) = self.journal.writer.heard_of(node, &run) else { return };
        let asked = Asked::Journal { node: node.clone(), run };
        if notes <= known || self.peers.is_asked(&asked) {
            return;
        }
        if let Some(id) = self.peer_call(node, Ask::Journal { after: known }, ASK_TIMEOUT, out) {
            self.peers.ask(id, asked);
        }
    }

    pub(crate) fn lines_after(&self, after: u64) -> Told {
        let lines: Vec<Line> = self.journal.notes.after(after).take(TOLD_MOST).cloned().collect();
        Told::Journal { lines }
    }

    pub(crate) fn lines_told(&mut self, node: NodeName, run: RunId, lines: Vec<Line>) {
        self.journal.writer.told(node, run, lines);
    }
}
