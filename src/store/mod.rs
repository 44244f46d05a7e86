//! The store as the driver sees it: calls with an answer, and watches. Its verbs are Consul's.
//!
//! Invariant: a write has three outcomes (done, not done, unknown) and an implementation sends it
//! at most once. What it must not do: decide, retry a write that may have been sent, or wait
//! without a limit.

pub mod memory;

use crate::decide::call::{Answer, Call, Entry, StoreError};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::Index;
use std::future::Future;

/// What a watch returned. A return does not mean a change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Watched {
    /// The entry of the key, or all entries under the prefix; empty when there is none.
    pub entries: Vec<Entry>,
    /// Where the next watch of the same key continues; never 0.
    pub index: Index,
    /// The sign of a restored store: the query returned clearly before its wait was over although
    /// its index had not moved, or the index is lower than the one it was asked to pass. `entries`
    /// and `index` are then read anew, after it.
    pub early: bool,
}

/// A store with Consul's semantics.
pub trait Store {
    /// Carries out one call within `timeout`. A write that may have been sent and got no definite
    /// answer is [`StoreError::Unknown`]; it is never sent again.
    fn call(
        &self,
        call: Call,
        timeout: Span,
    ) -> impl Future<Output = Result<Answer, StoreError>> + Send;

    /// Reads `key` (a prefix when `recurse`): at once without `after`, else when something changed
    /// after that index or `wait` is over. A key that is not there can be waited for.
    fn watch(
        &self,
        key: &Key,
        recurse: bool,
        after: Option<Index>,
        wait: Span,
    ) -> impl Future<Output = Result<Watched, StoreError>> + Send;
}
