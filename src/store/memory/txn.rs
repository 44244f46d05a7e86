//! Transactions: every verb in turn, on what the ones before it left; one failure undoes all, and
//! each that failed is told.

use super::{Fault, Memory, Row};
use crate::decide::time::At;
use crate::decide::types::SessionId;

/// What a Consul takes: beyond, it answers 413.
const OPS_MOST: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    Set {
        key: String,
        flags: u64,
        value: Vec<u8>,
    },
    Cas {
        key: String,
        index: u64,
        flags: u64,
        value: Vec<u8>,
    },
    Lock {
        key: String,
        session: SessionId,
        flags: u64,
        value: Vec<u8>,
    },
    Unlock {
        key: String,
        session: SessionId,
        flags: u64,
        value: Vec<u8>,
    },
    Get {
        key: String,
    },
    GetTree {
        key: String,
    },
    CheckIndex {
        key: String,
        index: u64,
    },
    CheckSession {
        key: String,
        session: SessionId,
    },
    CheckNotExists {
        key: String,
    },
    Delete {
        key: String,
    },
    DeleteTree {
        key: String,
    },
    DeleteCas {
        key: String,
        index: u64,
    },
    /// A verb that this Consul does not know.
    Unknown {
        verb: String,
    },
}

/// One operation's failure.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TxnError {
    pub op: u16,
    pub what: String,
}

/// A row that a transaction answers with. Only what was got has its value.
pub type Got = (String, Row, bool);

impl Op {
    pub(super) fn is_read(&self) -> bool {
        self.writes().is_none()
    }

    /// The key that must be named: only a deleted tree may be the whole.
    fn key(&self) -> Option<&str> {
        match self {
            Op::Get { key } | Op::GetTree { key } | Op::Delete { key } => Some(key),
            Op::CheckNotExists { key } => Some(key),
            Op::CheckIndex { key, .. } | Op::CheckSession { key, .. } => Some(key),
            Op::Set { key, .. } | Op::Cas { key, .. } | Op::DeleteCas { key, .. } => Some(key),
            Op::Lock { key, .. } | Op::Unlock { key, .. } => Some(key),
            Op::DeleteTree { .. } | Op::Unknown { .. } => None,
        }
    }

    /// The key it may write, and whether all under it.
    fn writes(&self) -> Option<(&str, bool)> {
        match self {
            Op::Get { .. }
            | Op::GetTree { .. }
            | Op::CheckIndex { .. }
            | Op::CheckSession { .. }
            | Op::CheckNotExists { .. }
            // What is no write that Consul knows goes where reads go.
            | Op::Unknown { .. } => None,
            Op::Set { key, .. }
            | Op::Cas { key, .. }
            | Op::Lock { key, .. }
            | Op::Unlock { key, .. }
            | Op::Delete { key }
            | Op::DeleteCas { key, .. } => Some((key, false)),
            Op::DeleteTree { key } => Some((key, true)),
        }
    }
}

impl Memory {
    /// What it answers, or what failed; `Err`: it was not taken at all.
    pub fn txn(&mut self, now: At, ops: &[Op]) -> Result<Result<Vec<Got>, Vec<TxnError>>, Fault> {
        if ops.len() > OPS_MOST {
            let text =
                format!("Transaction contains too many operations ({} > {OPS_MOST})", ops.len());
            return Err(Fault::new(413, text));
        }
        self.leads()?;
        // Before raft, and then nothing else is looked at.
        let refused: Vec<TxnError> = ops
            .iter()
            .enumerate()
            .filter_map(|(at, op)| match op {
                _ if op.key().is_some_and(str::is_empty) => {
                    Some(TxnError { op: at as u16, what: "Must provide key".to_owned() })
                }
                Op::Lock { key, .. } if self.is_delayed(now, key) => Some(TxnError {
                    op: at as u16,
                    what: format!("failed to lock key {key:?} due to lock delay"),
                }),
                _ => None,
            })
            .collect();
        if !refused.is_empty() {
            return Ok(Err(refused));
        }
        self.txn_admitted(ops)
    }

    /// The same, by the log.
    pub fn txn_admitted(&mut self, ops: &[Op]) -> Result<Result<Vec<Got>, Vec<TxnError>>, Fault> {
        let index = match ops.iter().all(Op::is_read) {
            true => self.state.index,
            false => self.next()?,
        };
        let mut undo = self.state.kv.undo();
        let (mut got, mut errors) = (Vec::new(), Vec::new());
        for (at, op) in ops.iter().enumerate() {
            if let Some((key, tree)) = op.writes() {
                self.state.kv.keep(&mut undo, key, tree);
            }
            match self.one(index, op) {
                Ok(rows) => got.extend(rows),
                Err(what) => errors.push(TxnError { op: at as u16, what }),
            }
        }
        if errors.is_empty() {
            return Ok(Ok(got));
        }
        self.state.kv.roll_back(undo);
        Ok(Err(errors))
    }

    fn one(&mut self, index: u64, op: &Op) -> Result<Vec<Got>, String> {
        let kv = &self.state.kv;
        let row = match op {
            Op::Set { key, flags, value } => (key, kv.plain(key, *flags, value.clone())),
            Op::Cas { key, index: expected, flags, value } => {
                if !kv.cas_fits(key, *expected) {
                    return Err(format!("failed to set key {key:?}, index is stale"));
                }
                (key, kv.plain(key, *flags, value.clone()))
            }
            Op::Lock { key, session, flags, value } => {
                self.known(session)?;
                let row = kv.locked(key, session, *flags, value.clone());
                let held = || format!("failed to lock key {key:?}, lock is already held");
                (key, row.ok_or_else(held)?)
            }
            Op::Unlock { key, session, flags, value } => {
                if session.as_str().is_empty() {
                    return Err("missing session".to_owned());
                }
                let row = kv.unlocked(key, session, *flags, value.clone());
                let other = || {
                    format!(
                        "failed to unlock key {key:?}, lock isn't held, or is held by another \
                         session"
                    )
                };
                (key, row.ok_or_else(other)?)
            }
            Op::Delete { key } => {
                self.state.kv.delete(index, key);
                return Ok(Vec::new());
            }
            Op::DeleteTree { key } => {
                self.state.kv.delete_under(index, key);
                return Ok(Vec::new());
            }
            Op::DeleteCas { key, index: expected } => {
                if kv.get(key).is_some_and(|row| row.modify != *expected) {
                    return Err(format!("failed to delete key {key:?}, index is stale"));
                }
                self.state.kv.delete(index, key);
                return Ok(Vec::new());
            }
            Op::Unknown { verb } => return Err(format!("unknown KV verb {verb:?}")),
            Op::Get { .. }
            | Op::GetTree { .. }
            | Op::CheckIndex { .. }
            | Op::CheckSession { .. }
            | Op::CheckNotExists { .. } => return self.look(op),
        };
        let (key, row) = row;
        let row = self.state.kv.set(index, key, row).clone();
        Ok(vec![(key.clone(), row, false)])
    }

    fn look(&self, op: &Op) -> Result<Vec<Got>, String> {
        let kv = &self.state.kv;
        let one = |key: &String, row: &Row, whole| vec![(key.clone(), row.clone(), whole)];
        match op {
            Op::Get { key } => match kv.get(key) {
                Some(row) => Ok(one(key, row, true)),
                None => Err(format!("key {key:?} doesn't exist")),
            },
            Op::GetTree { key } => {
                Ok(kv.under(key).map(|(key, row)| (key.clone(), row.clone(), true)).collect())
            }
            Op::CheckIndex { key, index } => match kv.get(key) {
                None => Err(format!("failed to check index, key {key:?} doesn't exist")),
                Some(row) if row.modify != *index => Err(format!(
                    "failed index check for key {key:?}, current modify index {} != {index}",
                    row.modify
                )),
                Some(row) => Ok(one(key, row, false)),
            },
            Op::CheckSession { key, session } => match kv.get(key) {
                None => Err(format!("failed to check session, key {key:?} doesn't exist")),
                Some(row) if row.session.as_ref() != Some(session) => {
                    let current = row.session.as_ref().map_or("", SessionId::as_str);
                    Err(format!(
                        "failed session check for key {key:?}, current session {current:?} != {:?}",
                        session.as_str()
                    ))
                }
                Some(row) => Ok(one(key, row, false)),
            },
            Op::CheckNotExists { key } => match kv.get(key) {
                None => Ok(Vec::new()),
                Some(_) => Err(format!("key {key:?} exists")),
            },
            Op::Set { .. }
            | Op::Cas { .. }
            | Op::Lock { .. }
            | Op::Unlock { .. }
            | Op::Delete { .. }
            | Op::DeleteTree { .. }
            | Op::DeleteCas { .. }
            | Op::Unknown { .. } => Ok(Vec::new()),
        }
    }
}
