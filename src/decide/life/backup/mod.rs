//! Backups in a node's life: the lock `state/backup` as this node sees and writes it.
//!
//! ```text
//!   ask.rs   the leader: a request or the schedule -> a node is chosen -> the lock names it
//!   job.rs   that node: begin -> hook -> seal -> publish; or check -> hook -> publish
//!   keep.rs  every node: what it has left half-done or has too many of goes
//! ```
//!
//! Invariant: every write of the key is bound to the index of what was judged, and after one whose
//! outcome is not known nothing is written before a consistent read. So two nodes never both hold
//! the lock, and whoever lost it finds that out by its next write at the latest.

mod ask;
mod job;
mod keep;
mod running;

pub(crate) use ask::{Granted, Wish};

use super::{Node, Owner};
use crate::decide::backup::{BackupAct, BackupDone, BackupValue, Cron};
use crate::decide::call::{Answer, Call, Entry, StoreError, Verb};
use crate::decide::io::{Effect, Outbox};
use crate::decide::records::{decode, encode};
use crate::decide::time::{At, Span};
use crate::decide::types::{Index, OpId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// After a write that had no good answer.
const AGAIN: Span = Span::secs(1);
/// A watch may return what it read before an own write; never after its wait (30 s) is over.
const STALE_MOST: Span = Span::secs(35);
/// How far ids may run ahead of the wall clock: one backup a second for a minute.
const AHEAD_MOST: Span = Span::secs(60);
/// Between two returns of the watch; longer, and Consul was away: nobody could write.
const WATCH_MOST: Span = Span::secs(40);

/// What an answer of the store belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum For {
    /// A write of the lock.
    Lock,
    /// The consistent read after one that is not known.
    Reread,
    /// The catalog's entry that is to be verified.
    Entry,
    /// The whole catalog.
    Catalog,
    /// The entry of a backup that is deleted.
    Unlisted,
}

/// What an act in the directory of backups belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Job,
    Measure,
    Keep,
    /// Looking for what is to be restored.
    Find,
    /// Checking it before its hook runs.
    Restore,
}

/// Everything this node knows and does about backups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Backups {
    /// None: absent, or not to be read.
    value: Option<BackupValue>,
    index: Index,
    /// When this index was first seen.
    since: At,
    /// The last own write that succeeded.
    wrote: At,
    /// The last return of the watch.
    watched: At,
    writing: Option<BackupValue>,
    reread: bool,
    again: Option<At>,
    acts: BTreeMap<OpId, Purpose>,
    ask: ask::Ask,
    job: Option<running::Running>,
    keep: keep::Keeping,
}

impl Backups {
    pub fn wake(&self, now: At) -> Option<At> {
        let job = self.job.as_ref().and_then(|job| job.wake());
        [self.again, self.ask.wake(), job, self.keep.wake()]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn held(&self) -> Option<&BackupValue> {
        self.value.as_ref().filter(|value| value.is_held())
    }

    fn take(&mut self, now: At, value: Option<BackupValue>, index: Index) {
        if index != self.index {
            self.since = now;
        }
        let ended = value.as_ref().is_some_and(|value| !value.is_held());
        if index != self.index && ended {
            self.keep.due();
        }
        self.value = value;
        self.index = index;
    }
}

fn value_of(entry: Option<&Entry>) -> (Option<BackupValue>, Index) {
    match entry {
        // Garbage is no lock: the next one is written over it.
        Some(entry) => (decode(&entry.value), entry.modify),
        None => (None, Index(0)),
    }
}

impl Node {
    /// What the watch says of `state/backup`.
    pub(crate) fn backup_seen(&mut self, now: At, entry: Option<&Entry>) {
        let backup = &mut self.backup;
        let away = now.since(backup.watched) > WATCH_MOST;
        backup.watched = now;
        let (value, index) = value_of(entry);
        if index < backup.index && now.since(backup.wrote) < STALE_MOST {
            return;
        }
        backup.take(now, value, index);
        if away {
            backup.since = now;
        }
    }

    pub(crate) fn tend_backup(&mut self, now: At, out: &mut Outbox) {
        if !self.seen_state {
            return;
        }
        let backup = &mut self.backup;
        if backup.reread && backup.again.is_none_or(|again| now >= again) {
            backup.reread = false;
            backup.again = None;
            let call = Call::Read { key: self.keys.backup(), recurse: false };
            self.call(Owner::Backup(For::Reread), call, out);
            return;
        }
        self.tend_job(now, out);
        self.tend_ask(now, out);
        self.tend_keep(now, out);
    }

    /// Whether the lock must not be written now: a write is under way, or not known.
    fn lock_is_busy(&self, now: At) -> bool {
        let reading = |owner: &Owner| matches!(owner, Owner::Backup(For::Reread));
        let backup = &self.backup;
        backup.writing.is_some()
            || backup.reread
            || backup.again.is_some_and(|again| now < again)
            || self.calls.values().any(reading)
    }

    /// Writes the lock at the index that was judged, with `first` before and `more` after it.
    fn write_lock(
        &mut self,
        value: BackupValue,
        first: Option<Verb>,
        more: Option<Verb>,
        out: &mut Outbox,
    ) {
        let cas = Verb::Cas(self.keys.backup(), self.backup.index, encode(&value));
        let verbs = first.into_iter().chain([cas]).chain(more).collect();
        self.backup.writing = Some(value);
        self.call(Owner::Backup(For::Lock), Call::Txn(verbs), out);
    }

    pub(crate) fn backup_answered(
        &mut self,
        now: At,
        of: For,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        match of {
            For::Lock => self.lock_written(now, result),
            For::Reread => self.lock_reread(now, result),
            For::Entry => self.entry_read(result),
            For::Catalog => self.catalog_read(now, result, out),
            For::Unlisted => self.unlisted(now, result, out),
        }
    }

    fn lock_written(&mut self, now: At, result: Result<Answer, StoreError>) {
        let Some(value) = self.backup.writing.take() else { return };
        let key = self.keys.backup();
        let place = |entries: &[Entry]| {
            entries.iter().find(|entry| entry.key == key).map(|entry| entry.modify)
        };
        match result {
            Ok(Answer::Txn(entries)) if place(&entries).is_some() => {
                let index = place(&entries).unwrap_or_default();
                self.backup.wrote = now;
                self.backup.take(now, Some(value), index);
            }
            // The catalog has an entry of that name already, or another one than was read.
            Err(StoreError::Conflict { op: Some(1), .. }) if self.backup.job.is_some() => {
                self.not_published("the catalog's entry was written by somebody else");
                self.read_again(now);
            }
            Ok(_) | Err(_) => self.read_again(now),
        }
    }

    fn read_again(&mut self, now: At) {
        self.backup.reread = true;
        self.backup.again = Some(now + AGAIN);
    }

    fn lock_reread(&mut self, now: At, result: Result<Answer, StoreError>) {
        match result {
            Ok(Answer::Entries(entries)) => {
                let (value, index) = value_of(entries.first());
                self.backup.take(now, value, index);
            }
            Ok(_) | Err(_) => self.read_again(now),
        }
    }

    /// Something to be done in the directory of backups.
    pub(crate) fn backup_act(&mut self, purpose: Purpose, act: BackupAct, out: &mut Outbox) {
        let id = self.next_op();
        self.backup.acts.insert(id, purpose);
        out.push(Effect::Backup { id, act });
    }

    pub(crate) fn backup_acts(&self, purpose: Purpose) -> bool {
        self.backup.acts.values().any(|under_way| *under_way == purpose)
    }

    pub(crate) fn backup_acted(
        &mut self,
        now: At,
        id: OpId,
        result: Result<BackupDone, String>,
        out: &mut Outbox,
    ) {
        match self.backup.acts.remove(&id) {
            Some(Purpose::Job) => self.job_acted(result),
            Some(Purpose::Measure) => self.measured(result),
            Some(Purpose::Keep) => self.keep_acted(now, result, out),
            Some(Purpose::Find) => self.restore_found(now, result, out),
            Some(Purpose::Restore) => self.restore_checked(now, result, out),
            None => {}
        }
    }

    /// For `status`: the lock, and how far the own job is.
    pub(crate) fn backup_json(&self, now: At) -> Value {
        let job = self.backup.job.as_ref().map(|job| job.json(now));
        let schedule = self.set.backup.schedule.as_ref();
        let next = schedule.and_then(|schedule| schedule.next_after(self.wall));
        json!({
            "lock": self.backup.value,
            "job": job,
            "schedule": schedule.map(Cron::to_string),
            "next": next,
            "bar": self.set.backup.bar,
        })
    }

    /// When a backup is asked for: later than the last one by a second at least, for its id is made
    /// of this and the epoch.
    fn asked_at(&self) -> u64 {
        let last = self.backup.value.as_ref().map_or(0, |value| value.at.saturating_add(1_000));
        let wall = self.wall;
        // A clock that was far ahead once must not lead for ever.
        if last > wall + AHEAD_MOST.0 { wall } else { wall.max(last) }
    }
}
