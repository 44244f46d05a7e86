//! The journal as it is read: by the command line, and by a node for `/history` and `/events`.
//!
//! A node reads it when somebody asks, at most once a second, and watches its head only while
//! somebody follows: nobody pays for a journal that nobody reads. Nothing here decides.

use crate::consul::ConsulStore;
use crate::decide::call::{Answer, Call, Entry, StoreError};
use crate::decide::journal::Head;
use crate::decide::journal::read::{Plan, Tail};
use crate::decide::keys::Keys;
use crate::decide::records::decode;
use crate::decide::time::Span;
use crate::decide::types::Index;
use crate::http::Feed;
use crate::process::clock;
use crate::store::Store;

/// One blocking query on the head.
const WAIT: Span = Span::secs(30);
/// Between two reads, and after one that failed.
const PAUSE: Span = Span::secs(1);

/// The newest `most` entries after number `after`. A head that is not there yet is an empty
/// journal; one that is unreadable is made anew by the next leader, and empty till then.
pub async fn read(
    store: &ConsulStore,
    keys: &Keys,
    after: u64,
    most: usize,
    limit: Span,
) -> Result<Tail, StoreError> {
    let read = Call::Read { key: keys.journal_head(), recurse: false };
    let entries = entries(store.call(read, limit).await?);
    let head = entries.first().and_then(|entry| decode::<Head>(&entry.value));
    let Some(head) = head.filter(Head::is_sound) else { return Ok(Tail::default()) };
    // What follows a number that was never given begins anew: all keys were deleted.
    let after = if after > head.seq { 0 } else { after };
    let mut plan = Plan::new(keys, &head, after, most);
    let mut answers = Vec::new();
    for call in std::mem::take(&mut plan.calls) {
        answers.extend(self::entries(store.call(call, limit).await?));
    }
    Ok(plan.gather(keys, &head, &answers))
}

fn entries(answer: Answer) -> Vec<Entry> {
    match answer {
        Answer::Entries(entries) | Answer::Txn(entries) => entries,
        Answer::Session(_) | Answer::Known(_) | Answer::Passing(_) | Answer::Done => Vec::new(),
    }
}

/// Waits for a change of the head after `after`, or for a while. The index to wait after next;
/// none: the wait was no sign of anything, look at once.
pub async fn wait(
    store: &ConsulStore,
    keys: &Keys,
    after: Option<Index>,
) -> Result<Option<Index>, StoreError> {
    let watched = store.watch(&keys.journal_head(), false, after, WAIT).await?;
    Ok((!watched.early).then_some(watched.index))
}

/// Feeds `/history` and `/events` until the process ends.
pub(super) async fn feed(store: ConsulStore, keys: Keys, feed: Feed, limit: Span) {
    let mut after = None;
    loop {
        if feed.is_followed() {
            match wait(&store, &keys, after).await {
                Ok(index) => after = index,
                Err(error) => {
                    after = None;
                    feed.failed(error.to_string());
                    tokio::time::sleep(PAUSE.to_std()).await;
                    continue;
                }
            }
        } else {
            after = None;
            feed.wanted().await;
        }
        let asked = clock::now();
        match read(&store, &keys, feed.last(), Feed::KEPT, limit).await {
            Ok(tail) => feed.show(tail, asked),
            Err(error) => feed.failed(error.to_string()),
        }
        if !feed.is_followed() {
            tokio::time::sleep(PAUSE.to_std()).await;
        }
    }
}
