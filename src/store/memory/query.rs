//! Blocking queries, polled: pure code can't wait.
//!
//! A query is over when the index of what it reads is above the one it was given, or its wait is.
//! A return is not a change. A restore ends every one with what it saw before it.

use super::{Memory, Row, State};
use crate::decide::time::At;

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Query {
    key: String,
    recurse: bool,
    after: u64,
    until: At,
    /// As it was when it began.
    restores: u64,
}

/// What a read returned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Seen {
    pub rows: Vec<(String, Row)>,
    pub index: u64,
}

impl Memory {
    /// A consistent read.
    pub fn read(&self, key: &str, recurse: bool) -> Seen {
        seen(&self.state, key, recurse)
    }

    /// One row as a consistent read sees it; copies nothing.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.state.kv.get(key)
    }

    /// A plain one: of a server that is behind, or of a leader that was deposed.
    pub fn read_plain(&self, key: &str, recurse: bool) -> Seen {
        seen(self.behind.as_deref().unwrap_or(&self.state), key, recurse)
    }

    /// `after` 0 does not wait.
    pub fn query(&self, key: &str, recurse: bool, after: u64, until: At) -> Query {
        Query { key: key.to_owned(), recurse, after, until, restores: self.restores }
    }

    /// Whether [`Memory::poll`] has an answer; copies nothing.
    pub fn is_over(&self, now: At, query: &Query) -> bool {
        let kv = &self.behind.as_deref().unwrap_or(&self.state).kv;
        let index = match query.recurse {
            true => kv.index_under(&query.key),
            false => kv.index_of(&query.key),
        };
        let fresh = query.after == 0 || index > query.after || query.until <= now;
        fresh || (self.abandoned.is_some() && query.restores != self.restores)
    }

    /// `None`: it waits on.
    pub fn poll(&self, now: At, query: &Query) -> Option<Seen> {
        let found = self.read_plain(&query.key, query.recurse);
        match &self.abandoned {
            Some(before) if query.restores != self.restores => {
                Some(seen(before, &query.key, query.recurse))
            }
            _ if query.after == 0 || found.index > query.after || query.until <= now => Some(found),
            Some(_) | None => None,
        }
    }
}

fn seen(state: &State, key: &str, recurse: bool) -> Seen {
    let kv = &state.kv;
    let own = |(key, row): (&String, &Row)| (key.clone(), row.clone());
    match recurse {
        true => Seen { rows: kv.under(key).map(own).collect(), index: kv.index_under(key) },
        false => {
            let row = kv.get(key).map(|row| (key.to_owned(), row.clone()));
            Seen { rows: row.into_iter().collect(), index: kv.index_of(key) }
        }
    }
}
