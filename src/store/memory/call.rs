//! The calls of `decide` on it, with the answers that `consul` makes of the real one's.

use super::{Behavior, Fault, Memory, Op, Row, Spec};
use crate::decide::call::{Answer, Call, Entry, StoreError, Verb};
use crate::decide::keys::Key;
use crate::decide::time::{At, Span};
use crate::decide::types::Index;

impl Memory {
    /// One call through the agent of `node`. It is answered at once: what gets lost on the way is
    /// the caller's to decide.
    pub fn call(&mut self, now: At, node: &str, call: &Call) -> Result<Answer, StoreError> {
        self.tick(now);
        match call {
            Call::Txn(verbs) => self.call_txn(now, verbs).map(Answer::Txn),
            Call::Read { key, recurse } => {
                self.leads().map_err(unknown)?;
                let seen = self.read(key.as_str(), *recurse);
                Ok(Answer::Entries(seen.rows.iter().map(|(key, row)| entry(key, row)).collect()))
            }
            Call::SessionCreate { name, ttl } => {
                let spec = Spec {
                    name: name.clone(),
                    node: node.to_owned(),
                    ttl: Some(*ttl),
                    ttl_text: format!("{}ms", ttl.0),
                    lock_delay: Span(1),
                    behavior: Behavior::Release,
                };
                self.session_create(now, spec).map(Answer::Session).map_err(unknown)
            }
            Call::SessionRenew(id) => match self.session_renew(now, id).map_err(unknown)? {
                Some(_) => Ok(Answer::Done),
                None => Err(StoreError::SessionGone),
            },
            Call::SessionDestroy(id) => {
                self.session_destroy(now, id).map(|()| Answer::Done).map_err(unknown)
            }
            Call::Register(_)
            | Call::Deregister { .. }
            | Call::CheckUpdate { .. }
            | Call::Registered(_)
            | Call::Passing { .. } => Err(StoreError::Refused("no agents here".to_owned())),
        }
    }

    fn call_txn(&mut self, now: At, verbs: &[Verb]) -> Result<Vec<Entry>, StoreError> {
        let ops: Vec<Op> = verbs.iter().map(op_of).collect();
        let done = self.txn(now, &ops).map_err(unknown)?;
        let rows = done.map_err(|errors| match errors.into_iter().next() {
            Some(first) => StoreError::Conflict { op: Some(first.op), what: first.what },
            None => StoreError::Conflict { op: None, what: String::new() },
        })?;
        // Checks answer with a row too, which nobody asked for.
        let mut rows = rows.into_iter().peekable();
        let mut kept = Vec::new();
        for verb in verbs {
            match verb {
                Verb::GetTree(prefix) => {
                    let under = |key: &str| key.starts_with(prefix.as_str());
                    while let Some((key, row, _)) = rows.next_if(|(key, _, got)| *got && under(key))
                    {
                        kept.push(entry(&key, &row));
                    }
                }
                Verb::CheckIndex(..) | Verb::CheckSession(..) => drop(rows.next()),
                Verb::CheckNotExists(_) | Verb::DeleteCas(..) | Verb::Delete(_) => {}
                Verb::Set(..) | Verb::Cas(..) | Verb::Lock(..) | Verb::Unlock(..) => {
                    kept.extend(rows.next().map(|(key, row, _)| entry(&key, &row)));
                }
            }
        }
        Ok(kept)
    }
}

/// Of a write nobody can say more: Consul answers 500 to what it may still carry out.
fn unknown(fault: Fault) -> StoreError {
    match fault.status {
        500.. => StoreError::Unknown(fault.text),
        _ => StoreError::Refused(fault.text),
    }
}

fn entry(key: &str, row: &Row) -> Entry {
    Entry {
        key: Key::new(key),
        value: row.value.clone(),
        modify: Index(row.modify),
        session: row.session.clone(),
    }
}

fn op_of(verb: &Verb) -> Op {
    let text = |key: &Key| key.as_str().to_owned();
    match verb {
        Verb::GetTree(key) => Op::GetTree { key: text(key) },
        Verb::CheckIndex(key, index) => Op::CheckIndex { key: text(key), index: index.0 },
        Verb::CheckNotExists(key) => Op::CheckNotExists { key: text(key) },
        Verb::CheckSession(key, session) => {
            Op::CheckSession { key: text(key), session: session.clone() }
        }
        Verb::Set(key, value) => Op::Set { key: text(key), flags: 0, value: value.clone() },
        Verb::Cas(key, index, value) => {
            Op::Cas { key: text(key), index: index.0, flags: 0, value: value.clone() }
        }
        Verb::Lock(key, session, value) => {
            Op::Lock { key: text(key), session: session.clone(), flags: 0, value: value.clone() }
        }
        Verb::Unlock(key, session, value) => {
            Op::Unlock { key: text(key), session: session.clone(), flags: 0, value: value.clone() }
        }
        Verb::DeleteCas(key, index) => Op::DeleteCas { key: text(key), index: index.0 },
        Verb::Delete(key) => Op::Delete { key: text(key) },
    }
}
