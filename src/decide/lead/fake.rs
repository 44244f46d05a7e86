//! Consul as the model and the unit tests see it: KV, locks, sessions and transactions, exactly the
//! verbs used here.
//!
//! Written from what was measured on Consul 1.8.7: a write that changes nothing moves no index; a
//! plain PUT keeps the lock; a session that ends frees its keys and moves their index; a
//! transaction has one index.

use super::super::call::{Answer, Call, Entry, StoreError, Verb};
use super::super::keys::Key;
use super::super::types::{Index, SessionId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Fake {
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) sessions: BTreeSet<SessionId>,
    pub(crate) index: u64,
    pub(crate) next_session: u32,
}

impl Fake {
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    pub(crate) fn apply(&mut self, call: &Call) -> Result<Answer, StoreError> {
        match call {
            Call::Txn(verbs) => self.txn(verbs),
            Call::SessionCreate { .. } => {
                self.next_session += 1;
                let id = SessionId::new(&format!("s{}", self.next_session));
                self.sessions.insert(id.clone());
                Ok(Answer::Session(id))
            }
            Call::SessionRenew(id) if self.sessions.contains(id) => Ok(Answer::Done),
            Call::SessionRenew(_) => Err(StoreError::SessionGone),
            Call::SessionDestroy(id) => {
                self.end_session(id);
                Ok(Answer::Done)
            }
            Call::Read { key, recurse } => {
                let wanted = |of: &Key| match recurse {
                    true => of.as_str().starts_with(key.as_str()),
                    false => of == key,
                };
                let found = self.entries.iter().filter(|(of, _)| wanted(of));
                Ok(Answer::Entries(found.map(|(_, entry)| entry.clone()).collect()))
            }
            Call::Register(_)
            | Call::Deregister { .. }
            | Call::CheckUpdate { .. }
            | Call::Registered(_)
            | Call::Passing { .. } => Err(StoreError::Refused("not modelled".into())),
        }
    }

    pub(crate) fn end_session(&mut self, id: &SessionId) {
        if !self.sessions.remove(id) {
            return;
        }
        self.index += 1;
        for entry in self.entries.values_mut().filter(|e| e.session.as_ref() == Some(id)) {
            entry.session = None;
            entry.modify = Index(self.index);
        }
    }

    /// An operator's plain PUT.
    pub(crate) fn put(&mut self, key: &Key, value: &[u8]) {
        let _ = self.txn(&[Verb::Set(key.clone(), value.to_vec())]);
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        self.index += 1;
        self.entries.remove(key);
    }

    fn txn(&mut self, verbs: &[Verb]) -> Result<Answer, StoreError> {
        let mut txn = Txn { store: self, changed: BTreeMap::new(), got: Vec::new() };
        for (op, verb) in verbs.iter().enumerate() {
            txn.verb(verb).map_err(|what| {
                let op = u16::try_from(op).ok();
                StoreError::Conflict { op, what: what.into() }
            })?;
        }
        let Txn { changed, got, .. } = txn;
        if !changed.is_empty() {
            self.index += 1;
        }
        for (key, entry) in changed {
            match entry {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
        Ok(Answer::Txn(got))
    }
}

/// One transaction: all of it, or nothing.
struct Txn<'a> {
    store: &'a Fake,
    changed: BTreeMap<Key, Option<Entry>>,
    got: Vec<Entry>,
}

impl Txn<'_> {
    fn at(&self, key: &Key) -> Option<&Entry> {
        match self.changed.get(key) {
            Some(entry) => entry.as_ref(),
            None => self.store.entries.get(key),
        }
    }

    fn set(&mut self, key: &Key, value: &[u8], session: Option<SessionId>) {
        let old = self.at(key);
        let same = old.filter(|entry| entry.value == value && entry.session == session);
        let modify = same.map_or(Index(self.store.index + 1), |entry| entry.modify);
        let is_same = same.is_some();
        let entry = Entry { key: key.clone(), value: value.to_vec(), modify, session };
        self.got.push(Entry { value: Vec::new(), ..entry.clone() });
        if !is_same {
            self.changed.insert(key.clone(), Some(entry));
        }
    }

    fn held_by(&self, key: &Key, id: &SessionId) -> Result<(), &'static str> {
        let entry = self.at(key).ok_or("no such key")?;
        if entry.session.as_ref() == Some(id) { Ok(()) } else { Err("not held by the session") }
    }

    fn stands_at(&self, key: &Key, index: Index) -> Result<(), &'static str> {
        let stands = self.at(key).map_or(Index(0), |entry| entry.modify);
        if stands == index { Ok(()) } else { Err("index is stale") }
    }

    fn verb(&mut self, verb: &Verb) -> Result<(), &'static str> {
        match verb {
            Verb::GetTree(prefix) => {
                let tree = self.store.entries.values();
                let below = tree.filter(|e| e.key.as_str().starts_with(prefix.as_str()));
                self.got.extend(below.cloned());
            }
            Verb::CheckIndex(key, index) => {
                self.at(key).ok_or("no such key")?;
                self.stands_at(key, *index)?;
            }
            Verb::CheckNotExists(key) => {
                if self.at(key).is_some() {
                    return Err("key exists");
                }
            }
            Verb::CheckSession(key, id) => self.held_by(key, id)?,
            Verb::Set(key, value) => {
                let session = self.at(key).and_then(|entry| entry.session.clone());
                self.set(key, value, session);
            }
            Verb::Cas(key, index, value) => {
                self.stands_at(key, *index)?;
                let session = self.at(key).and_then(|entry| entry.session.clone());
                self.set(key, value, session);
            }
            Verb::Lock(key, id, value) => {
                if !self.store.sessions.contains(id) {
                    return Err("invalid session");
                }
                let holder = self.at(key).and_then(|entry| entry.session.as_ref());
                if holder.is_some_and(|held| held != id) {
                    return Err("lock is held");
                }
                self.set(key, value, Some(id.clone()));
            }
            Verb::Unlock(key, id, value) => {
                self.held_by(key, id)?;
                self.set(key, value, None);
            }
            Verb::DeleteCas(key, index) => {
                self.stands_at(key, *index)?;
                self.changed.insert(key.clone(), None);
            }
            Verb::Delete(key) => {
                if self.at(key).is_some() {
                    self.changed.insert(key.clone(), None);
                }
            }
        }
        Ok(())
    }
}
