//! What a node does for a `reinit` or a `leave` of itself, once its leader says that nobody counts
//! on it any more; and the word of it.
//!
//! Wiping: the marker is durable before anything is killed, so that a process which dies in between
//! finds it and wipes. Leaving: the member record goes last, in the transaction of the result.

use super::super::{After, Node, State};
use super::{Outcome, Seat};
use crate::decide::action::Action;
use crate::decide::call::Verb;
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::Leadership;
use crate::decide::reason::Reason;
use crate::decide::records::{RequestStatus, ResultValue};
use crate::decide::time::{At, Span};

/// The last word of a node that leaves is tried for so long; then it ends without.
const LAST_WORD_MOST: Span = Span::secs(5);

/// How far a `reinit` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Its beginning is being written.
    Asked,
    Marking,
    /// From the kill to the empty directory.
    Wiping,
    Cloning,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reinit {
    id: String,
    stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Departure {
    id: String,
    /// Set once only the record and the exit are left.
    give_up: Option<At>,
}

impl Node {
    /// Answers that this node owes because a result names it. `true`: one was written.
    pub(super) fn tend_own(&mut self, now: At, out: &mut Outbox) -> bool {
        let me = self.me().clone();
        let named = self.desk.requests.iter().find_map(|(id, asked)| {
            let value = asked.value.as_ref()?;
            let result = &self.desk.results.get(id)?.value;
            let mine = result.status == RequestStatus::Started && result.to.as_ref() == Some(&me);
            // A leader that leaves names its successor first: that one stays.
            let leaves = match Action::parse(&value.verb, &value.args).ok()? {
                Action::Reinit { node } => (node == me).then_some(false),
                Action::Leave { node, .. } => (node == me).then_some(true),
                Action::Switchover { .. }
                | Action::Failover(_)
                | Action::Adopt { .. }
                | Action::Pause { .. }
                | Action::Resume
                | Action::Backup(_) => None,
            }?;
            mine.then(|| (id.clone(), leaves, result.clone()))
        });
        if self.desk.departure.is_some() {
            return self.last_word(now, out);
        }
        let Some((id, leaves, result)) = named else { return false };
        if leaves {
            self.desk.departure = Some(Departure { id, give_up: None });
            self.begin_stop(now, out);
            return false;
        }
        self.tend_reinit(id, &result, out)
    }

    fn tend_reinit(&mut self, id: String, told: &ResultValue, out: &mut Outbox) -> bool {
        let me = self.me().clone();
        let begun = told.by == me;
        let Some(reinit) = self.desk.reinit.as_ref().filter(|reinit| reinit.id == id) else {
            if begun {
                let text = format!(
                    "lictor on {me} was restarted meanwhile; if its data is still the old one, ask \
                     again"
                );
                self.say(id, Outcome::failed(None, text), out);
                return true;
            }
            let idle = matches!(
                self.state,
                State::Replica | State::Waiting { .. } | State::Pausing { .. }
            );
            let free = matches!(self.leadership(), Leadership::Follower) && !self.stop;
            if !idle || !free {
                return false;
            }
            self.desk.reinit = Some(Reinit { id: id.clone(), stage: Stage::Asked });
            let text = format!("{me} stops its application and wipes its data");
            self.say(id, Outcome::started(me, text), out);
            return true;
        };
        let progress = match (reinit.stage, &self.state) {
            (Stage::Asked, _) if !begun => {
                // The write of the beginning failed: again.
                self.desk.reinit = None;
                return false;
            }
            (Stage::Asked | Stage::Marking | Stage::Wiping, _) => return false,
            (Stage::Cloning, State::Replica) if self.follow.current().is_some() => {
                let leader = self.follow.current().map(|follows| follows.node.clone());
                let leader = leader.map_or_else(|| "nobody".into(), |node| node.to_string());
                let text = format!("{me} was wiped, cloned again, and follows {leader}");
                self.desk.reinit = None;
                self.say(id, Outcome::done(Some(me), text), out);
                return true;
            }
            (Stage::Cloning, state) => format!("{me} is empty and is {}", state.name()),
        };
        if told.reason == progress {
            return false;
        }
        self.say(id, Outcome::started(me, progress), out);
        true
    }

    fn say(&mut self, id: String, outcome: Outcome, out: &mut Outbox) {
        self.write_result(id, &Seat::Anybody, outcome, Vec::new(), out);
    }

    /// The beginning of a `reinit` is in KV: mark, kill, wipe.
    pub(super) fn begin_reinit(&mut self, id: &str, out: &mut Outbox) {
        let asked = self.desk.reinit.as_mut().filter(|r| r.id == id && r.stage == Stage::Asked);
        let Some(reinit) = asked else { return };
        reinit.stage = Stage::Marking;
        out.push(Effect::WriteMarker);
    }

    pub(crate) fn marked_for_reinit(&mut self, now: At, out: &mut Outbox) {
        let Some(reinit) = self.desk.reinit.as_mut().filter(|r| r.stage == Stage::Marking) else {
            return;
        };
        reinit.stage = Stage::Wiping;
        let text = "an operator wants this node's data made anew: wiped";
        self.decided(Reason::new("reinit.wipe", text), out);
        self.kill(now, After::Wipe, out);
    }

    pub(crate) fn wiped_for_reinit(&mut self) {
        if let Some(reinit) = self.desk.reinit.as_mut().filter(|r| r.stage == Stage::Wiping) {
            reinit.stage = Stage::Cloning;
        }
    }

    /// Whether the exit waits for the last word of a node that leaves.
    pub(crate) fn has_last_word(&mut self, now: At) -> bool {
        let Some(departure) = &mut self.desk.departure else { return false };
        departure.give_up = Some(now + LAST_WORD_MOST);
        true
    }

    /// Whether the own record is on its way out: it is written no more.
    pub(crate) fn is_departing(&self) -> bool {
        self.desk.departure.as_ref().is_some_and(|departure| departure.give_up.is_some())
    }

    fn last_word(&mut self, now: At, out: &mut Outbox) -> bool {
        let Some(Departure { id, give_up: Some(give_up) }) = self.desk.departure.clone() else {
            return false;
        };
        if self.desk.left {
            return false;
        }
        let me = self.me().clone();
        let said = self
            .desk
            .results
            .get(&id)
            .is_none_or(|known| known.value.status != RequestStatus::Started);
        if now >= give_up || said {
            self.desk.left = true;
            let why = if said { "left the cluster" } else { "left; its record may still stand" };
            out.push(Effect::Exit { code: 0, why: why.into() });
            return false;
        }
        if self.record.is_writing() {
            return false;
        }
        let text = format!("{me} has stopped its application and left");
        let at = self.member_at.get(&me);
        let gone = at.map(|at| Verb::DeleteCas(self.keys.member(&me), *at)).into_iter().collect();
        self.write_result(id, &Seat::Anybody, Outcome::done(Some(me), text), gone, out);
        true
    }
}
