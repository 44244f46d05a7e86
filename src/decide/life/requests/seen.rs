//! What KV shows of requests and their results.

use super::super::Node;
use super::{Answered, Asked, FRESH};
use crate::decide::call::Entry;
use crate::decide::records::{RequestValue, ResultValue, decode};
use crate::decide::time::At;
use std::collections::BTreeMap;

impl Node {
    /// `former`: the results known so far.
    pub(crate) fn absorb_request(
        &mut self,
        now: At,
        id: String,
        entry: &Entry,
        former: &BTreeMap<String, Answered>,
    ) {
        let at = entry.modify;
        if let Some(request) = id.strip_suffix("-result") {
            let Some(value) = decode::<ResultValue>(&entry.value) else {
                self.desk.garbled.insert(request.to_owned(), at);
                return;
            };
            let same = former.get(request).filter(|known| known.value == value);
            let since = same.map_or(now, |known| known.since);
            self.desk.results.insert(request.to_owned(), Answered { value, at, since });
        } else {
            let value = decode::<RequestValue>(&entry.value);
            self.desk.requests.insert(id, Asked { value, at });
        }
    }

    /// A look that is older than a write of this node does not undo it.
    pub(crate) fn keep_fresh_results(&mut self, now: At, former: BTreeMap<String, Answered>) {
        for (id, known) in former {
            let fresh = known.value.by == *self.me() && now.since(known.since) < FRESH;
            let older = self.desk.results.get(&id).is_none_or(|seen| seen.at < known.at);
            if fresh && older && self.desk.requests.contains_key(&id) {
                self.desk.results.insert(id, known);
            }
        }
    }
}
