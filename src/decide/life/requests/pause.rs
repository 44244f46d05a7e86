//! A paused cluster: people act, lictor only keeps what is. No take-over, restart, clone, rewind or
//! wipe; renewals, guard and fence go on as ever.
//!
//! `state/pause` is the one switch. It is written and removed in the transaction of the result, by
//! the leader, or where nobody leads by whoever is first.

use super::super::Node;
use super::Outcome;
use crate::decide::call::{Entry, Verb};
use crate::decide::io::Outbox;
use crate::decide::lead::Leadership;
use crate::decide::reason::Reason;
use crate::decide::records::{LockState, PauseValue, decode, encode};
use crate::decide::types::Index;

impl Node {
    /// What stands in `state/pause` now.
    pub(crate) fn absorb_pause(&mut self, entry: Option<&Entry>, out: &mut Outbox) {
        // What can't be read was meant to pause.
        let unreadable = || PauseValue { v: 1, by: "somebody".into(), at: 0, reason: None };
        let pause = entry.map(|entry| {
            (decode::<PauseValue>(&entry.value).unwrap_or_else(unreadable), entry.modify)
        });
        let known = self.pause.as_ref().map(|(value, _)| value);
        let seen = pause.as_ref().map(|(value, _)| value);
        if known != seen {
            let reason = match seen {
                Some(pause) => Reason::new("pause", format!("paused by {}", pause.told()))
                    .flip("`lictor resume`"),
                None => Reason::new("resume", "the cluster is no longer paused"),
            };
            self.decided(reason, out);
        }
        self.pause = pause;
    }

    pub(super) fn answer_pause(&self, by: &str, reason: Option<String>) -> (Outcome, Vec<Verb>) {
        if let Some((pause, _)) = &self.pause {
            return (Outcome::done(None, format!("paused already, by {}", pause.told())), vec![]);
        }
        let value = PauseValue { v: 1, by: by.to_owned(), at: self.wall, reason };
        let write = Verb::Cas(self.keys.pause(), Index(0), encode(&value));
        let text = "paused: no take-over, restart, clone or rewind until `lictor resume`";
        (Outcome::done(None, text), vec![write])
    }

    pub(super) fn answer_resume(&self) -> (Outcome, Vec<Verb>) {
        match &self.pause {
            None => (Outcome::done(None, "the cluster is not paused"), vec![]),
            Some((pause, at)) => {
                let text = format!("resumed; it was paused by {}", pause.told());
                (Outcome::done(None, text), vec![Verb::DeleteCas(self.keys.pause(), *at)])
            }
        }
    }

    /// Why this node does not take over, if that is because of a pause. A planned successor and a
    /// leader whose successor did not catch up finish what an operator began.
    pub(crate) fn bar_of_pause(&self) -> Option<Reason> {
        let (pause, _) = self.pause.as_ref()?;
        let named = self.lead.leader_seen().is_some_and(|leader| {
            leader.state == LockState::Clean && leader.to.as_ref() == Some(self.me())
        });
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        if named || leads || self.lead.takes_again() || self.is_ordered() {
            return None;
        }
        let text = format!("the cluster is paused by {}", pause.told());
        Some(Reason::new("bar.paused", text).flip("`lictor resume`, or `lictor failover`"))
    }
}
