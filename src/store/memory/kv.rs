//! Keys: the rows, their three indexes, and what of a deleted key is remembered.
//!
//! As Consul 1.8 does it, quirks included: a write that changes nothing is none; a plain write
//! keeps
//! the lock and sets its LockIndex to 0; the index of a list is the highest of what is in it or was
//! deleted from it, and the table's where nothing ever was.

use super::{Fault, Memory};
use crate::decide::time::At;
use crate::decide::types::SessionId;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Row {
    pub create: u64,
    pub modify: u64,
    /// How often it was locked, until a plain write.
    pub lock: u64,
    pub flags: u64,
    pub value: Vec<u8>,
    pub session: Option<SessionId>,
}

/// The form of a write.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    Plain,
    /// 0: only if the key is absent.
    Cas(u64),
    Acquire(SessionId),
    Release(SessionId),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Kv {
    rows: BTreeMap<String, Row>,
    tombs: BTreeMap<String, u64>,
    /// Of the last write or deletion.
    index: u64,
}

/// What stood before a transaction's writes, one after the other.
pub(super) struct Undo {
    index: u64,
    before: Vec<(String, Option<Row>, Option<u64>)>,
}

impl Kv {
    pub fn undo(&self) -> Undo {
        Undo { index: self.index, before: Vec::new() }
    }

    /// Before a write to this key, or to all that is under it.
    pub fn keep(&self, undo: &mut Undo, key: &str, tree: bool) {
        let under = self.under(key).filter(|_| tree).map(|(key, _)| key.as_str());
        for key in under.chain([key]) {
            let (row, tomb) = (self.rows.get(key).cloned(), self.tombs.get(key).copied());
            undo.before.push((key.to_owned(), row, tomb));
        }
    }

    pub fn roll_back(&mut self, undo: Undo) {
        self.index = undo.index;
        for (key, row, tomb) in undo.before.into_iter().rev() {
            match tomb {
                Some(index) => self.tombs.insert(key.clone(), index),
                None => self.tombs.remove(&key),
            };
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    pub fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Row)> {
        let from = self.rows.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// What a read of one key is at; at least 1.
    pub fn index_of(&self, key: &str) -> u64 {
        self.get(key).map_or(self.index, |row| row.modify).max(1)
    }

    /// What a list is at.
    pub fn index_under(&self, prefix: &str) -> u64 {
        let rows = self.under(prefix).map(|(_, row)| row.modify).max();
        let tombs = self
            .tombs
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, index)| *index)
            .max();
        let own = match prefix {
            "" => None,
            _ => rows.max(tombs),
        };
        // The table's where nothing under it was ever written, or it was deleted as a part of more.
        own.unwrap_or(self.index).max(1)
    }

    /// Writes with this index, unless that changes nothing. The row as it stands then.
    pub fn set(&mut self, index: u64, key: &str, mut row: Row) -> &Row {
        let known = self.rows.get(key);
        row.create = known.map_or(index, |known| known.create);
        row.modify = known.map_or(index, |known| known.modify);
        if known != Some(&row) {
            row.modify = index;
            self.index = index;
            self.rows.insert(key.to_owned(), row);
        }
        &self.rows[key]
    }

    /// What a plain write makes of the row: the session stays.
    pub fn plain(&self, key: &str, flags: u64, value: Vec<u8>) -> Row {
        let session = self.get(key).and_then(|row| row.session.clone());
        Row { flags, value, session, ..Row::default() }
    }

    pub fn cas_fits(&self, key: &str, expected: u64) -> bool {
        match (self.get(key), expected) {
            (None, 0) => true,
            (None, _) | (Some(_), 0) => false,
            (Some(row), _) => row.modify == expected,
        }
    }

    /// The row that a lock would leave; `None`: another session holds it.
    pub fn locked(&self, key: &str, id: &SessionId, flags: u64, value: Vec<u8>) -> Option<Row> {
        let lock = match self.get(key) {
            None => 1,
            Some(row) => match &row.session {
                Some(holder) if holder == id => row.lock,
                Some(_) => return None,
                None => row.lock + 1,
            },
        };
        Some(Row { lock, flags, value, session: Some(id.clone()), ..Row::default() })
    }

    /// The row that an unlock would leave; `None`: this session does not hold it.
    pub fn unlocked(&self, key: &str, id: &SessionId, flags: u64, value: Vec<u8>) -> Option<Row> {
        let row = self.get(key).filter(|row| row.session.as_ref() == Some(id))?;
        Some(Row { lock: row.lock, flags, value, ..Row::default() })
    }

    pub fn delete(&mut self, index: u64, key: &str) {
        if self.rows.remove(key).is_some() {
            self.tombs.insert(key.to_owned(), index);
            self.index = index;
        }
    }

    /// Remembered as one, under the prefix itself: a list below it does not see it.
    pub fn delete_under(&mut self, index: u64, prefix: &str) {
        let keys: Vec<String> = self.under(prefix).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        for key in keys {
            self.rows.remove(&key);
        }
        if !prefix.is_empty() {
            self.tombs.insert(prefix.to_owned(), index);
        }
        self.index = index;
    }

    pub fn held_by(&self, id: &SessionId) -> Vec<String> {
        let held = self.rows.iter().filter(|(_, row)| row.session.as_ref() == Some(id));
        held.map(|(key, _)| key.clone()).collect()
    }
}

impl Memory {
    /// `PUT /v1/kv/KEY`: whether it was written.
    pub fn put(
        &mut self,
        now: At,
        key: &str,
        flags: u64,
        value: Vec<u8>,
        mode: &Mode,
    ) -> Result<bool, Fault> {
        if let Mode::Acquire(_) = mode
            && self.is_delayed(now, key)
        {
            self.leads()?;
            return Ok(false);
        }
        self.put_admitted(key, flags, value, mode)
    }

    /// The same, by the log: whatever stood against it was looked at when it came in. What is
    /// queued behind the end of a session takes the lock in spite of its delay.
    pub fn put_admitted(
        &mut self,
        key: &str,
        flags: u64,
        value: Vec<u8>,
        mode: &Mode,
    ) -> Result<bool, Fault> {
        let index = self.next()?;
        let kv = &self.state.kv;
        let row = match mode {
            Mode::Plain => Some(kv.plain(key, flags, value)),
            Mode::Cas(expected) => kv.cas_fits(key, *expected).then(|| kv.plain(key, flags, value)),
            Mode::Acquire(id) => {
                self.known(id).map_err(|text| Fault::new(500, text))?;
                kv.locked(key, id, flags, value)
            }
            Mode::Release(id) => kv.unlocked(key, id, flags, value),
        };
        let Some(row) = row else { return Ok(false) };
        self.state.kv.set(index, key, row);
        Ok(true)
    }

    /// `DELETE /v1/kv/KEY`, `?cas=`: whether it is gone. An absent key is, whatever the index.
    pub fn delete(&mut self, key: &str, cas: Option<u64>) -> Result<bool, Fault> {
        let index = self.next()?;
        let kv = &mut self.state.kv;
        if let (Some(expected), Some(row)) = (cas, kv.get(key))
            && row.modify != expected
        {
            return Ok(false);
        }
        kv.delete(index, key);
        Ok(true)
    }

    /// `DELETE /v1/kv/PREFIX?recurse`.
    pub fn delete_under(&mut self, prefix: &str) -> Result<(), Fault> {
        let index = self.next()?;
        self.state.kv.delete_under(index, prefix);
        Ok(())
    }
}
