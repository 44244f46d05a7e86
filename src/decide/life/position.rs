//! The answer of the `position` hook, and to whom it is given.

use super::Node;
use crate::decide::hook::HookEnd;
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::Leadership;
use crate::decide::mutant::{self, Mutant};
use crate::decide::peer::Told;
use crate::decide::time::At;
use crate::decide::types::{Epoch, OpId, RunId};
use serde::Deserialize;

/// What the `position` hook answers.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Position {
    pub order: u64,
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    #[serde(default)]
    pub text: String,
}

pub fn read_position(end: &HookEnd) -> Option<Position> {
    match end {
        HookEnd::Done { answer: Some(line) } => serde_json::from_str(line).ok(),
        HookEnd::Done { answer: None }
        | HookEnd::Exit { .. }
        | HookEnd::Signal { .. }
        | HookEnd::Timeout
        | HookEnd::Cancelled
        | HookEnd::NotStarted { .. } => None,
    }
}

impl Node {
    pub(crate) fn may_answer(&self, freeze: bool, epoch: Epoch, run: &RunId) -> Result<(), String> {
        if self.app.is_none() || !self.state.serves() {
            return Err(format!("the node is {}", self.state.name()));
        }
        if !freeze || mutant::on(Mutant::M64) {
            return Ok(());
        }
        if !matches!(self.leadership(), Leadership::Follower | Leadership::Taking) {
            return Err("this node holds the lock".into());
        }
        let same = self.term_seen().is_some_and(|term| term.epoch == epoch && term.run == *run);
        if !same {
            return Err("this node sees another term".into());
        }
        // Wiped and cloned since, it may miss what it acknowledged before: its word would count.
        let known = self.follow.done.as_ref().zip(self.term_seen());
        if !known.is_some_and(|(done, term)| done.node == term.node && done.run == term.run) {
            return Err("this node's data did not follow that term".into());
        }
        Ok(())
    }

    pub(crate) fn answer_ended(&mut self, _now: At, ask: OpId, end: HookEnd, out: &mut Outbox) {
        let told = match read_position(&end) {
            Some(position) => Told::Position {
                order: position.order,
                text: position.text,
                lag_seconds: position.lag_seconds,
                priority: self.set.priority(self.me()),
                frozen: false,
            },
            None => Told::Refused { reason: format!("the position hook ended with {end}") },
        };
        out.push(Effect::PeerAnswer { id: ask, told });
    }
}
