//! Sessions: who may hold keys, and how that ends.
//!
//! A session ends by its owner, by its TTL (not before it, and at twice of it at the latest; every
//! election of Consul's begins the count anew), or early, for whatever reason. Its keys are freed
//! with a new ModifyIndex, or deleted; then nobody locks them until the lock-delay is over, which
//! is tested before raft and so can be overtaken.

use super::{Fault, Memory, Timer};
use crate::decide::time::{At, Span};
use crate::decide::types::SessionId;

const TTL_LEAST: Span = Span::secs(10);
const TTL_MOST: Span = Span::secs(86_400);
/// However long a delay a session asks for.
const DELAY_MOST: Span = Span::secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Behavior {
    /// Its keys stay, unlocked.
    Release,
    Delete,
}

/// What a session is made of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Spec {
    pub name: String,
    pub node: String,
    /// None: it does not end by time.
    pub ttl: Option<Span>,
    /// The same as it was given: that is what Consul tells.
    pub ttl_text: String,
    pub lock_delay: Span,
    pub behavior: Behavior,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Session {
    pub id: SessionId,
    pub spec: Spec,
    pub create: u64,
}

impl Memory {
    pub fn session_create(&mut self, now: At, spec: Spec) -> Result<SessionId, Fault> {
        if let Some(ttl) = spec.ttl.filter(|ttl| !(TTL_LEAST..=TTL_MOST).contains(ttl)) {
            let text = format!(
                "Invalid Session TTL '{}', must be between [10s=24h0m0s]",
                ttl.0 * 1_000_000
            );
            return Err(Fault::new(500, text));
        }
        let index = self.next()?;
        self.born += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}", self.salt, self.born);
        let session = Session { id: SessionId::new(&id), spec, create: index };
        self.arm(now, &session);
        self.state.sessions.insert(session.id.clone(), session.clone());
        self.state.sessions_index = index;
        Ok(session.id)
    }

    /// The leader's memory alone: no quorum, no raft entry. `None`: there is none.
    pub fn session_renew(&mut self, now: At, id: &SessionId) -> Result<Option<Session>, Fault> {
        self.leads()?;
        let Some(session) = self.state.sessions.get(id).cloned() else { return Ok(None) };
        self.arm(now, &session);
        Ok(Some(session))
    }

    /// Done too when there is none.
    pub fn session_destroy(&mut self, now: At, id: &SessionId) -> Result<(), Fault> {
        self.leads()?;
        self.invalidate(now, id);
        Ok(())
    }

    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.state.sessions.get(id)
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.state.sessions.values()
    }

    /// Ends it by its TTL, anywhere between once and twice of it. Whether it was time.
    pub fn expire(&mut self, now: At, id: &SessionId) -> bool {
        let due = !self.leaderless && self.timers.get(id).is_some_and(|timer| timer.may <= now);
        if due {
            self.invalidate(now, id);
        }
        due
    }

    /// Ends it now, for whatever reason: an operator, a leaving agent, a reaped server.
    pub fn invalidate(&mut self, now: At, id: &SessionId) {
        self.state.index += 1;
        let index = self.state.index;
        self.timers.remove(id);
        let Some(session) = self.state.sessions.remove(id) else { return };
        self.state.sessions_index = index;
        let delay = Span(session.spec.lock_delay.0.min(DELAY_MOST.0));
        for key in self.state.kv.held_by(id) {
            match session.spec.behavior {
                Behavior::Release => {
                    let row = self.state.kv.get(&key).cloned().unwrap_or_default();
                    let row = super::Row { session: None, ..row };
                    self.state.kv.set(index, &key, row);
                }
                Behavior::Delete => self.state.kv.delete(index, &key),
            }
            if delay > Span::ZERO {
                self.delays.insert(key, now + delay);
            }
        }
    }

    pub(super) fn arm(&mut self, now: At, session: &Session) {
        if let Some(ttl) = session.spec.ttl {
            let timer = Timer { may: now + ttl, must: now + ttl + ttl };
            self.timers.insert(session.id.clone(), timer);
        }
    }

    /// Or what Consul says of a session that is not there.
    pub(super) fn known(&self, id: &SessionId) -> Result<(), String> {
        match id.as_str() {
            "" => Err("missing session".to_owned()),
            _ if uuid(id).is_err() => uuid(id),
            _ if self.state.sessions.contains_key(id) => Ok(()),
            text => Err(format!("invalid session {text:?}")),
        }
    }

    /// Whether its lock-delay runs.
    pub(super) fn is_delayed(&self, now: At, key: &str) -> bool {
        self.delays.get(key).is_some_and(|until| now < *until)
    }
}

/// How long an id is, and what Consul says of another.
const ID_CHARS: usize = 36;

pub(super) fn uuid(id: &SessionId) -> Result<(), String> {
    match id.as_str().len() {
        ID_CHARS => Ok(()),
        _ => Err(format!("failed session lookup: index error: UUID must be {ID_CHARS} characters")),
    }
}
