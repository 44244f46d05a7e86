//! The list of the eligible (rule 16) and the cluster's birth certificate: writes under the lock,
//! one at a time a key.

use super::super::call::{Answer, Call, Entry, StoreError, Verb};
use super::super::reason::Reason;
use super::super::records::{ClusterValue, TermValue, decode, encode};
use super::super::time::At;
use super::super::types::{ClusterId, Index, Member, OpId};
use super::machine::{Lead, Pending};
use super::renew::index_of;
use super::view::How;
use super::write::{RETRY, Settled, Write};
use super::{LeadOut, Seen};
use std::collections::BTreeSet;

/// Members a list may name; far above any cluster, so that no record grows without end.
const MOST_LISTED: usize = 256;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct List {
    /// What `life` asked for and `state/term` does not show yet.
    pub(super) add: BTreeSet<Member>,
    pub(super) remove: BTreeSet<Member>,
    /// Everyone named by a list sent since the last one confirmed.
    pub(super) named: BTreeSet<Member>,
    pub(super) write: Option<Write>,
    value: Vec<u8>,
}

/// `state/cluster` and `secrets/peer`, to be written once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ClusterWrite {
    id: ClusterId,
    secret: Vec<u8>,
    pub(super) secret_index: Index,
    pub(super) op: Option<OpId>,
    pub(super) next: At,
    /// The outcome of a write is unknown: look first.
    look: bool,
}

impl Lead {
    pub(super) fn admit(&mut self, member: Member) {
        // `life` says it again at each step.
        let frozen = self.is_cut_off();
        if let Some(term) = self.term.as_mut().filter(|term| term.open && !frozen) {
            term.list.remove.remove(&member);
            term.list.add.insert(member);
        }
    }

    pub(super) fn expel(&mut self, member: Member) {
        let me = self.me.member();
        let frozen = self.is_cut_off();
        if let Some(term) = self.term.as_mut().filter(|term| term.open && member != me && !frozen) {
            term.list.add.remove(&member);
            term.list.remove.insert(member);
        }
    }

    pub(super) fn drive_list(&mut self, now: At, out: &mut Vec<LeadOut>) {
        self.decide_list(out);
        let Some(term) = self.term.as_mut().filter(|term| term.open) else { return };
        let Some(write) = term.list.write.as_mut().filter(|write| write.due(now)) else { return };
        let (call, deadline) = (write.call.clone(), term.proofs.deadline());
        let op = self.call(Pending::List, call, Some(deadline), out);
        if let Some(write) = self.term.as_mut().and_then(|term| term.list.write.as_mut()) {
            write.sent(op);
        }
    }

    fn decide_list(&mut self, out: &mut Vec<LeadOut>) {
        let holds = self.holds_lock() && self.taking.is_none() && !self.is_cut_off();
        let (Some(seen), index) = (self.view.term_value(), self.view.term_index()) else {
            return;
        };
        let Some(term) = self.term.as_mut().filter(|term| term.open && holds) else { return };
        let list = &mut term.list;
        let idle = list.add.is_empty() && list.remove.is_empty();
        if list.write.is_some() || idle {
            return;
        }
        list.add.retain(|member| !seen.eligible.contains(member));
        list.remove.retain(|member| seen.eligible.contains(member));
        let mut eligible = seen.eligible.clone();
        eligible.retain(|member| !list.remove.contains(member));
        // A name has one disk: a fresh one replaces the other.
        eligible.retain(|member| !list.add.iter().any(|new| new.node == member.node));
        let room = MOST_LISTED.saturating_sub(eligible.len());
        eligible.extend(list.add.iter().take(room).cloned());
        if eligible == seen.eligible {
            return;
        }
        let names = eligible.iter().map(|member| member.node.as_str()).collect::<Vec<_>>();
        let why = Reason::new("list", format!("the list becomes {}", names.join(", ")));
        list.named.extend(eligible.iter().cloned());
        list.value = encode(&TermValue { eligible, ..seen.clone() });
        let call = Call::Txn(vec![
            Verb::CheckSession(self.keys.leader(), term.session.clone()),
            Verb::Cas(self.keys.term(), index, list.value.clone()),
        ]);
        list.write = Some(Write::new(call, index));
        self.decided(why, out);
    }

    pub(super) fn list_reply(&mut self, now: At, op: OpId, result: Result<Answer, StoreError>) {
        let key = self.keys.term();
        let Some(term) = &mut self.term else { return };
        let Some(write) = term.list.write.as_mut().filter(|write| write.is(op)) else { return };
        match result {
            Ok(answer) => {
                let value = term.list.value.clone();
                if let Some(modify) = index_of(&answer, &key) {
                    let entry = Entry { key, value, modify, session: None };
                    let calm = self.calm_span();
                    self.view.see_term(now, Some(&entry), How::Watch(Seen::Read), calm);
                }
                self.settle_list(now, false);
            }
            Err(error) => {
                write.failed(&error);
                self.want_read(now);
            }
        }
    }

    pub(super) fn settle_list(&mut self, now: At, read: bool) {
        let index = self.view.term_index();
        let confirmed = self.view.term_value().map(|term| &term.eligible);
        let Some(term) = &mut self.term else { return };
        let Some(write) = &mut term.list.write else { return };
        match write.look(now, index, read, false) {
            Settled::Open => {}
            Settled::Moved | Settled::Void => {
                term.list.write = None;
                term.list.named = confirmed.cloned().unwrap_or_default();
            }
        }
    }

    pub(super) fn write_cluster(&mut self, now: At, id: ClusterId, secret: Vec<u8>) {
        if let Some(term) = self.term.as_mut().filter(|term| term.open)
            && term.cluster.is_none()
        {
            let secret_index = Index(0);
            term.cluster =
                Some(ClusterWrite { id, secret, secret_index, op: None, next: now, look: false });
        }
    }

    pub(super) fn drive_cluster(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let holds = self.holds_lock();
        let Some(term) = self.term.as_ref().filter(|term| term.open && holds) else { return };
        let Some(cluster) = &term.cluster else { return };
        if cluster.op.is_some() || cluster.next > now {
            return;
        }
        let (key, secret_key) = (self.keys.cluster(), self.keys.secret("peer"));
        let verbs = if cluster.look {
            vec![Verb::GetTree(key), Verb::GetTree(secret_key)]
        } else {
            let value = encode(&ClusterValue { v: 1, id: cluster.id.clone() });
            vec![
                Verb::CheckSession(self.keys.leader(), term.session.clone()),
                Verb::Cas(key, Index(0), value),
                Verb::Cas(secret_key, cluster.secret_index, cluster.secret.clone()),
            ]
        };
        let deadline = term.proofs.deadline();
        let op = self.call(Pending::Cluster, Call::Txn(verbs), Some(deadline), out);
        if let Some(cluster) = self.term.as_mut().and_then(|term| term.cluster.as_mut()) {
            cluster.op = Some(op);
        }
    }

    pub(super) fn cluster_reply(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let (key, secret_key) = (self.keys.cluster(), self.keys.secret("peer"));
        let Some(term) = &mut self.term else { return };
        let Some(cluster) = term.cluster.as_mut().filter(|cluster| cluster.op == Some(op)) else {
            return;
        };
        cluster.op = None;
        let Ok(answer) = result else {
            // Done or not, and if not, why: a look tells. A look that failed is repeated.
            let pause = if cluster.look { RETRY } else { super::super::time::Span::ZERO };
            cluster.next = now + pause;
            cluster.look = true;
            return;
        };
        if !cluster.look {
            self.cluster_written(out);
            return;
        }
        let Answer::Txn(entries) = answer else { return };
        let found = entries.iter().find(|entry| entry.key == key);
        match found.map(|entry| decode::<ClusterValue>(&entry.value)) {
            Some(Some(value)) if value.id == cluster.id => self.cluster_written(out),
            Some(_) => {
                let why = Reason::new("close.cluster", "state/cluster names another cluster")
                    .flip("nothing here: this volume's data belongs to no cluster in Consul");
                self.close(why, out);
            }
            None => {
                let secret = entries.iter().find(|entry| entry.key == secret_key);
                cluster.secret_index = secret.map_or(Index(0), |entry| entry.modify);
                cluster.look = false;
                cluster.next = now + RETRY;
            }
        }
    }

    fn cluster_written(&mut self, out: &mut Vec<LeadOut>) {
        if let Some(term) = &mut self.term {
            term.cluster = None;
        }
        self.view.cluster = true;
        out.push(LeadOut::ClusterWritten);
    }
}
