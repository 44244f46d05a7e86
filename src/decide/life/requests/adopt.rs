//! `adopt`: Consul has forgotten the cluster (it was wiped, or `state/term` was lost) while members
//! hold its data. An operator says whose data counts.
//!
//! Where a leader lives, it has written lock and term again by itself; it only writes
//! `state/cluster` and a new `secrets/peer`. Else the named node takes by force (`lead::force`)
//! once the longest lease was waited out, under an epoch above all that members have seen. The
//! others follow it, by rewind or a new clone where their data differs.

use super::super::{Node, State};
use super::{Outcome, Seat};
use crate::decide::records::MemberValue;
use crate::decide::time::{At, Span};
use crate::decide::types::{ClusterId, Epoch, NodeName};

/// The node that is named answers by itself, if it lives; the others wait this long.
const LEAVE_TO_NAMED: Span = Span::secs(3);

impl Node {
    pub(super) fn answer_adopt(
        &mut self,
        now: At,
        seat: &Seat,
        id: &str,
        (node, accept_loss): (&NodeName, bool),
    ) -> Option<Outcome> {
        let known = self.cluster_at.is_some();
        let me = self.me().clone();
        match seat {
            Seat::Leader(_) if known => Some(Outcome::refused(format!(
                "Consul knows the cluster and {me} leads it: there is nothing to adopt"
            ))),
            Seat::Leader(_) if *node != me => {
                Some(Outcome::refused(format!("{me} leads and has the data; adopt {me}")))
            }
            Seat::Leader(_) => {
                let text = format!("{me} leads; it writes state/cluster again");
                Some(Outcome::started(me, text))
            }
            Seat::Anybody if known && self.term_seen().is_some() => Some(Outcome::refused(
                "Consul knows the cluster and its last leader; `lictor failover` makes another",
            )),
            Seat::Anybody if *node != me => {
                let waited = now.since(self.first_seen(now, id)) >= LEAVE_TO_NAMED;
                let text = format!("{node} does not answer; its own lictor adopts, so start it");
                waited.then(|| Outcome::refused(text))
            }
            Seat::Anybody => self.adopt_own(accept_loss),
        }
    }

    fn adopt_own(&self, accept_loss: bool) -> Option<Outcome> {
        let me = self.me();
        let Some(own) = self.disk.cluster.as_ref().filter(|_| self.disk.data && !self.disk.marker)
        else {
            return Some(Outcome::refused(format!("{me} has no data of a cluster")));
        };
        if !matches!(self.state, State::Replica) {
            return None;
        }
        let newer = |member: &&MemberValue| {
            member.cluster.as_ref() == Some(own) && member.floor > self.disk.floor
        };
        if let Some(member) = self.members().find(newer).filter(|_| !accept_loss) {
            let (other, theirs, ours) = (&member.node, member.floor, self.disk.floor);
            return Some(Outcome::refused(format!(
                "{other} has seen epoch {theirs}, {me} only {ours}: the data of {other} may be \
                 newer; adopt {other}, or --accept-loss"
            )));
        }
        let strange = |member: &&MemberValue| member.cluster.as_ref().is_some_and(|id| id != own);
        let strangers: Vec<_> =
            self.members().filter(strange).map(|member| member.node.as_str()).collect();
        let rest = if strangers.is_empty() {
            "the others follow it".to_owned()
        } else {
            format!("{} hold data of another cluster and stay out", strangers.join(", "))
        };
        let text = format!("the data of {me}, cluster {own}, is the cluster's; {rest}");
        Some(Outcome::started(me.clone(), text))
    }

    /// The highest epoch that any member keeps.
    pub(super) fn highest_floor(&self) -> Epoch {
        let floors = self.members.values().map(|member| member.floor);
        floors.max().unwrap_or_default().max(self.disk.floor)
    }

    /// The adopted node leads: what is missing in Consul is written, then it is done.
    pub(super) fn next_adopt(
        &mut self,
        now: At,
        node: &NodeName,
        out: &mut crate::decide::io::Outbox,
    ) -> Option<Outcome> {
        let me = self.me().clone();
        if *node != me {
            let text = format!("{me} leads instead");
            return Some(Outcome::failed(Some(me), text));
        }
        if self.cluster_at.is_none() {
            let epoch = self.lead_epoch();
            self.write_cluster(now, epoch, out);
            return None;
        }
        let id = self.birth_id();
        let text = format!("{me} is the primary of cluster {id}, adopted");
        matches!(self.state, State::Primary).then(|| Outcome::done(Some(me), text))
    }

    /// The id under which this node's data enters Consul: what the volume says, or a new one.
    pub(crate) fn birth_id(&self) -> ClusterId {
        self.disk.cluster.clone().unwrap_or_else(|| self.boot.fresh_id.clone())
    }
}
