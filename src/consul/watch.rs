//! Blocking queries by our own call: a key that is not there yet can be waited for.
//!
//! Invariant: a return is never taken for a change; what looks like a restored store is told as
//! `early`. An index is at least 1, since 0 would not wait at all.

use super::ConsulStore;
use super::error::Failure;
use super::ext::{Ask, Reply, path_of};
use super::kv::entries_of;
use super::walk::Scope;
use crate::decide::call::{Entry, StoreError};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::Index;
use crate::store::Watched;
use tokio::time::sleep;

/// Consul adds up to a sixteenth of the wait, against herds.
const JITTER_SHARE: u64 = 16;
/// For everything but the waiting itself. A reply that is later than this makes the next address be
/// asked.
const MARGIN: Span = Span(2_000);
/// A wait counts as over from nine tenths of it on: our clock and Consul's are read at different
/// ends of the connection.
const OVER: (u64, u64) = (9, 10);

impl ConsulStore {
    pub(super) async fn blocking_query(
        &self,
        key: &Key,
        recurse: bool,
        after: Option<Index>,
        wait: Span,
    ) -> Result<Watched, StoreError> {
        let Some(after) = after.map(|index| index.max(Index(1))) else {
            let (entries, index) = self.query(key, recurse, None, MARGIN).await?;
            return Ok(Watched { entries, index, early: false });
        };
        let limit = MARGIN + wait + wait.scaled_up(1, JITTER_SHARE);
        let query = self.query(key, recurse, Some((after, wait)), limit);
        tokio::pin!(query);
        let nearly_over = sleep(wait.scaled_up(OVER.0, OVER.1).to_std());
        let (answer, in_wait) = tokio::select! {
            biased;
            answer = &mut query => (answer, true),
            () = nearly_over => (query.await, false),
        };
        let (entries, index) = answer?;
        let early = is_early(after, index, in_wait);
        let seen = Watched { entries, index, early };
        if !early {
            return Ok(seen);
        }
        tracing::warn!(event = "consul_watch_early", key = %key, after = after.0, index = index.0);
        // A restore ends queries with what they saw before it (test `a_restore_is_told_as_early`),
        // and from that index on nothing of the restored state would wake anybody: so look again at
        // once.
        match self.query(key, recurse, None, MARGIN).await {
            Ok((entries, index)) => Ok(Watched { entries, index, early }),
            Err(_) => Ok(seen),
        }
    }

    /// One query, blocking after an index for a while, or at once.
    async fn query(
        &self,
        key: &Key,
        recurse: bool,
        block: Option<(Index, Span)>,
        limit: Span,
    ) -> Result<(Vec<Entry>, Index), StoreError> {
        let mut path = format!("/v1/kv/{}?", path_of(key.as_str()));
        if recurse {
            path.push_str("recurse&");
        }
        if let Some((after, wait)) = block {
            path.push_str(&format!("index={}&wait={}ms", after.0, wait.0));
        }
        self.exchange(&Ask::read(path), Scope::Any, limit, |reply| seen(&reply)).await
    }
}

fn seen(reply: &Reply) -> Result<(Vec<Entry>, Index), Failure> {
    let entries = entries_of(reply)?;
    let index = reply.index.ok_or_else(|| Failure::Lost("an answer without index".to_string()))?;
    Ok((entries, index.max(Index(1))))
}

/// Whether the return is a sign of a restore. `in_wait`: clearly before the wait was over.
fn is_early(after: Index, index: Index, in_wait: bool) -> bool {
    index < after || (index == after && in_wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_is_unmoved_before_its_time_or_lower_at_any_time() {
        let cases = [
            (5, 6, true, false),
            (5, 6, false, false),
            (5, 5, false, false),
            (5, 5, true, true),
            (5, 4, true, true),
            (5, 4, false, true),
        ];
        for (after, index, in_wait, early) in cases {
            let found = is_early(Index(after), Index(index), in_wait);
            assert_eq!(found, early, "{after} {index} {in_wait}");
        }
    }
}
