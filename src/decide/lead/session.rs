//! Sessions: one an acquisition, kept alive while it is open or held, destroyed when it is over.
//!
//! Nothing here proves anything: Consul ends sessions late, and early too. A session that is gone
//! only asks for a read.

use super::super::call::{Answer, Call, StoreError};
use super::super::time::{At, Span};
use super::super::types::{OpId, SessionId};
use super::LeadOut;
use super::machine::{Lead, Pending};

/// The shortest that Consul takes is 10 s.
const TTL: Span = Span::secs(15);
const RENEW: Span = Span::secs(5);
const AGAIN: Span = Span::secs(1);
/// Attempts to destroy a session; then its TTL ends it.
const MOST_TRIES: u8 = 5;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Session {
    doomed: bool,
    tries: u8,
    pub(super) at: At,
    pub(super) op: Option<OpId>,
    /// Known to be gone; what was sent with a later number was sent after that.
    pub(super) gone: Option<OpId>,
}

impl Session {
    #[cfg(test)]
    pub(super) fn is_doomed(&self) -> bool {
        self.doomed
    }
}

impl Lead {
    pub(super) fn create_session(&mut self, out: &mut Vec<LeadOut>) -> OpId {
        let name = format!("lictor {}", self.me.node);
        self.call(Pending::Create, Call::SessionCreate { name, ttl: TTL }, None, out)
    }

    pub(super) fn adopt_session(&mut self, now: At, id: SessionId) {
        let session = Session { doomed: false, tries: 0, at: now + RENEW, op: None, gone: None };
        self.sessions.insert(id, session);
    }

    /// Its acquisition is over.
    pub(super) fn doom(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            if session.gone.is_some() {
                self.sessions.remove(&id);
            } else if !session.doomed {
                session.doomed = true;
                session.at = At(0);
            }
        }
    }

    /// Whether what was sent as `op` was sent after the session was known to be gone.
    pub(super) fn was_gone(&self, id: &SessionId, op: Option<OpId>) -> bool {
        let gone = self.sessions.get(id).and_then(|session| session.gone);
        gone.is_some_and(|mark| op.is_some_and(|op| op > mark))
    }

    pub(super) fn drive_sessions(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let due =
            |session: &Session| session.op.is_none() && session.gone.is_none() && session.at <= now;
        let ids: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| due(s)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let doomed = self.sessions.get(&id).is_some_and(|session| session.doomed);
            let call = if doomed {
                Call::SessionDestroy(id.clone())
            } else {
                Call::SessionRenew(id.clone())
            };
            let op = self.call(Pending::Session(id.clone()), call, None, out);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.op = Some(op);
            }
        }
    }

    pub(super) fn session_reply(
        &mut self,
        now: At,
        op: OpId,
        id: &SessionId,
        result: Result<Answer, StoreError>,
    ) {
        let mark = OpId(self.next);
        let used = self.taking.as_ref().is_some_and(|taking| &taking.session == id);
        let Some(session) = self.sessions.get_mut(id).filter(|s| s.op == Some(op)) else { return };
        session.op = None;
        match result {
            Ok(_) if !session.doomed => session.at = now + RENEW,
            Ok(_) | Err(StoreError::SessionGone) => {
                session.gone = Some(mark);
                if session.doomed && !used {
                    self.sessions.remove(id);
                }
                self.want_read(now);
            }
            Err(_) => {
                session.at = now + AGAIN;
                session.tries = session.tries.saturating_add(u8::from(session.doomed));
                if session.tries >= MOST_TRIES && !used {
                    self.sessions.remove(id);
                }
            }
        }
    }
}
