//! The frozen position: receiving is stopped once for a term, and whoever asks gets the one final
//! answer.
//!
//! Every candidate asks every member, itself too; the hook runs once for all of them. Invariant: an
//! answer is given again only while receiving has not begun since it was made.

use super::facts::with;
use super::position::read_position;
use super::{Node, Side};
use crate::decide::hook::HookEnd;
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::Standpoint;
use crate::decide::mutant::{self, Mutant};
use crate::decide::peer::Told;
use crate::decide::time::At;
use crate::decide::types::{Epoch, OpId, RunId};

/// Askers that wait for one hook: every node of a cluster and this one; more are told to ask again.
const ASKERS_MAX: usize = 32;

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    Peer(OpId),
    Survey(OpId),
}

/// What this node holds, final for one term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Final {
    epoch: Epoch,
    run: RunId,
    order: u64,
    text: String,
}

/// The hook is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freezing {
    epoch: Epoch,
    run: RunId,
    askers: Vec<Asker>,
}

impl Node {
    /// Answers with what is known to be final, or makes it known.
    pub(crate) fn frozen_wanted(
        &mut self,
        now: At,
        (epoch, run): (Epoch, RunId),
        asker: Asker,
        out: &mut Outbox,
    ) {
        let known = self.follow.last.as_ref();
        let known = known.filter(|last| (last.epoch, &last.run) == (epoch, &run));
        let frozen = self.follow.frozen.is_some() || mutant::on(Mutant::M65);
        if let Some(last) = known.filter(|_| frozen).cloned() {
            self.freeze(now);
            self.tell_frozen(now, asker, Ok(&last), out);
            return;
        }
        if let Some(freezing) = &mut self.freezing {
            let same = (freezing.epoch, &freezing.run) == (epoch, &run);
            if same && freezing.askers.len() < ASKERS_MAX {
                freezing.askers.push(asker);
                self.freeze(now);
            } else {
                self.tell_frozen(now, asker, Err("a freeze is under way; ask again"), out);
            }
            return;
        }
        if self.main_hook_running() {
            // What it has sent to the application may still take effect: the next answer can be
            // final, this one not.
            self.cancel_replicate(out);
            self.hold_replicate(now);
            self.tell_frozen(now, asker, Err("replicate is being stopped; ask again"), out);
            return;
        }
        self.freeze(now);
        self.freezing = Some(Freezing { epoch, run, askers: vec![asker] });
        let mut facts = self.facts();
        if !mutant::on(Mutant::M75) {
            facts = with(facts, "FREEZE", 1);
        }
        self.run_side(Side::Freeze, facts, out);
    }

    pub(crate) fn freeze_ended(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        let Some(Freezing { epoch, run, askers }) = self.freezing.take() else { return };
        let still = self.follow.frozen.is_some();
        let answer = match read_position(&end) {
            Some(position) if still => {
                Ok(Final { epoch, run, order: position.order, text: position.text })
            }
            Some(_) => Err("receiving has begun again".to_owned()),
            None => Err(format!("the position hook ended with {end}")),
        };
        self.follow.last = answer.as_ref().ok().cloned();
        for asker in askers {
            self.tell_frozen(now, asker, answer.as_ref().map_err(String::as_str), out);
        }
    }

    fn tell_frozen(
        &mut self,
        now: At,
        asker: Asker,
        answer: Result<&Final, &str>,
        out: &mut Outbox,
    ) {
        let me = self.me().clone();
        let priority = self.set.priority(&me);
        match asker {
            Asker::Survey(survey) => match answer {
                Ok(last) => {
                    let point = Standpoint { order: last.order, priority, frozen: true };
                    self.survey_answered(now, survey, me, Some(point), out);
                }
                Err(_) => self.survey_refused(now, survey, me, out),
            },
            Asker::Peer(id) => {
                let told = match answer {
                    Ok(last) => Told::Position {
                        order: last.order,
                        text: last.text.clone(),
                        lag_seconds: None,
                        priority,
                        frozen: true,
                    },
                    Err(reason) => Told::Refused { reason: reason.to_owned() },
                };
                out.push(Effect::PeerAnswer { id, told });
            }
        }
    }
}
