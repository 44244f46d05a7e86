//! What this node has seen of the others: the watched keys, and what `Lead` made of them.

use super::Node;
use crate::decide::call::Entry;
use crate::decide::io::Outbox;
use crate::decide::lead::{LeadIn, Leadership, Seen};
use crate::decide::records::{
    ClusterValue, Follows, LockState, MemberValue, SyncValue, TermValue, decode,
};
use crate::decide::time::At;
use std::sync::Arc;

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

    /// The watched prefix, whole.
    pub(crate) fn absorb_state(
        &mut self,
        now: At,
        entries: Vec<Entry>,
        seen: Seen,
        out: &mut Outbox,
    ) {
        self.seen_state = true;
        self.remember_addresses();
        self.members.clear();
        self.member_at.clear();
        let mut read = std::mem::take(&mut self.member_read);
        self.desk.requests.clear();
        self.desk.garbled.clear();
        let former = std::mem::take(&mut self.desk.results);
        let (mut term, mut sync, mut cluster, mut pause) = (None, None, None, None);
        let (mut backup, mut restore) = (None, None);
        let members = self.keys.members();
        let requests = self.keys.requests();
        for entry in entries {
            let key = entry.key.as_str();
            if key == self.keys.term().as_str() {
                term = Some(entry);
            } else if key == self.keys.sync().as_str() {
                sync = Some(entry);
            } else if key == self.keys.cluster().as_str() {
                cluster = Some(entry);
            } else if key == self.keys.pause().as_str() {
                pause = Some(entry);
            } else if key == self.keys.backup().as_str() {
                backup = Some(entry);
            } else if key == self.keys.restore().as_str() {
                restore = Some(entry);
            } else if key.starts_with(members.as_str()) {
                let same = read.remove(&entry.key).filter(|(at, bytes, _)| {
                    (*at, bytes.as_slice()) == (entry.modify, entry.value.as_slice())
                });
                let member = match same {
                    Some((_, _, member)) => Some(member),
                    None => decode::<MemberValue>(&entry.value).map(Arc::new),
                };
                if let Some(member) = member {
                    self.member_at.insert(member.node.clone(), entry.modify);
                    self.members.insert(member.node.clone(), member.clone());
                    self.member_read.insert(entry.key, (entry.modify, entry.value, member));
                }
            } else if let Some(id) = key.strip_prefix(requests.as_str()) {
                self.absorb_request(now, id.to_owned(), &entry, &former);
            }
        }
        self.record_shown();
        self.keep_fresh_results(now, former);
        self.absorb_pause(pause.as_ref(), out);
        let exists = cluster.is_some();
        self.cluster_at = cluster.as_ref().map(|entry| entry.modify);
        if let Some(value) = cluster.and_then(|entry| decode::<ClusterValue>(&entry.value)) {
            self.cluster = Some(value);
        }
        self.backup_seen(now, backup.as_ref());
        self.restore_seen(restore.as_ref());
        self.cluster_seen(out);
        self.tell_lead(now, LeadIn::State { term, sync, cluster: exists, seen }, out);
    }
}
