//! Promises between nodes while Consul is silent: who is asked where, and how the answer goes back.
//!
//! `Lead` decides on both sides. A member is asked by its disk, at the address and run that its
//! record last told: whoever began anew since is another process, and nothing it says counts.

use super::Node;
use super::peers::Asked;
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{Declined, LeadIn, Request};
use crate::decide::peer::{Ask, PeerCall, PeerError, Told};
use crate::decide::records::MemberValue;
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, Member, NodeName, OpId, RunId};
use std::collections::BTreeMap;

/// Where a member was last known to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    run: RunId,
    addr: String,
    tls: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promises {
    /// Of members whose record is gone, while the list names them.
    places: BTreeMap<Member, Place>,
    /// The rounds of those who wait for an answer of this node.
    rounds: BTreeMap<OpId, u64>,
}

/// What a leader asks for.
pub(crate) struct Promising {
    pub epoch: Epoch,
    pub run: RunId,
    pub round: u64,
    pub lease: Span,
}

fn place(record: &MemberValue) -> Place {
    Place { run: record.run.clone(), addr: record.peer.clone(), tls: record.tls }
}

impl Node {
    /// Before the records are read again: one that is gone then is still good to ask by.
    pub(crate) fn remember_addresses(&mut self) {
        let Some(term) = self.term_seen() else { return };
        let listed = term.eligible.clone();
        self.promises.places.retain(|member, _| listed.contains(member));
        for record in self.members.values() {
            let member = Member { node: record.node.clone(), disk: record.disk.clone() };
            if listed.contains(&member) {
                self.promises.places.insert(member, place(record));
            }
        }
    }

    fn place_of(&self, member: &Member) -> Option<Place> {
        match self.members.get(&member.node) {
            Some(record) if record.disk == member.disk => Some(place(record)),
            // The name's disk is another one now: that node's word binds nobody who is listed.
            Some(_) => None,
            None => self.promises.places.get(member).cloned(),
        }
    }

    /// What this node has promised, for `status`.
    pub(crate) fn promised_json(&self, now: At) -> Option<serde_json::Value> {
        let (epoch, left) = self.lead.promise_given(now)?;
        Some(serde_json::json!({"epoch": epoch, "left_ms": left}))
    }

    pub(crate) fn ask_promise(
        &mut self,
        now: At,
        round: OpId,
        of: &Member,
        (epoch, lease): (Epoch, Span),
        out: &mut Outbox,
    ) {
        let Some(Place { run, addr, tls }) = self.place_of(of) else {
            let result = Err("its record is not known".to_owned());
            self.tell_lead(now, LeadIn::Promised { id: round, result }, out);
            return;
        };
        let own = self.boot.identity.run.clone();
        let ask = Ask::Promise { epoch, run: own, round: round.0, lease };
        let id = self.next_op();
        self.peers.calls.insert(id, Asked::Promise(round));
        let timeout = self.set.lead.request_timeout;
        let call = PeerCall { to: of.node.clone(), run, addr, tls, ask, timeout };
        out.push(Effect::PeerCall { id, call });
    }

    pub(crate) fn promise_replied(
        &mut self,
        now: At,
        id: OpId,
        result: Result<Told, PeerError>,
        out: &mut Outbox,
    ) {
        let result = match result {
            Ok(Told::Promised { round }) if round == id.0 => Ok(()),
            Ok(Told::Promised { .. }) => Err("its answer is to another round".to_owned()),
            Ok(Told::Refused { reason } | Told::Denied { reason }) => Err(reason),
            Ok(Told::Pong { .. } | Told::Position { .. } | Told::Journal { .. }) => {
                Err("another answer".to_owned())
            }
            Err(error) => Err(error.to_string()),
        };
        self.tell_lead(now, LeadIn::Promised { id, result }, out);
    }

    pub(crate) fn promise_asked(
        &mut self,
        now: At,
        id: OpId,
        (node, run): (NodeName, RunId),
        asked: Promising,
        out: &mut Outbox,
    ) {
        if asked.run != run {
            self.deny(id, Declined::OtherTerm, out);
            return;
        }
        self.promises.rounds.insert(id, asked.round);
        let request = Request { node, run, epoch: asked.epoch, lease: asked.lease };
        self.tell_lead(now, LeadIn::PromiseAsked { id, request }, out);
    }

    pub(crate) fn answer_promise(
        &mut self,
        id: OpId,
        result: Result<(), Declined>,
        out: &mut Outbox,
    ) {
        let Some(round) = self.promises.rounds.remove(&id) else { return };
        match result {
            Ok(()) => out.push(Effect::PeerAnswer { id, told: Told::Promised { round } }),
            Err(why) => self.deny(id, why, out),
        }
    }

    fn deny(&mut self, id: OpId, why: Declined, out: &mut Outbox) {
        let reason = why.to_string();
        let told = match why {
            Declined::OtherTerm => Told::Denied { reason },
            Declined::Taking | Declined::Holding | Declined::TooLong => Told::Refused { reason },
        };
        out.push(Effect::PeerAnswer { id, told });
    }
}
