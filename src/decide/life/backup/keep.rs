//! Housekeeping after a job and at the start: what was left half-done goes, and what is beyond the
//! retention.
//!
//! The catalog is read first. What is finished and listed gets its name, what is half-done and not
//! listed goes. Then the oldest beyond `backup_keep` go, each by the node that holds it: the
//! directory first, the entry after it, so that nothing is on a disk that no list knows. An entry
//! whose directory is gone is found by the next round.

use super::super::{Node, Owner};
use super::{For, Purpose};
use crate::decide::backup::{BackupAct, BackupDone, BackupId, CatalogValue, expired};
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::io::Outbox;
use crate::decide::reason::Reason;
use crate::decide::records::decode;
use crate::decide::time::{At, Span};
use crate::decide::types::Index;
use std::collections::VecDeque;

/// After a round that failed.
const AGAIN: Span = Span::secs(60);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Reading,
    Sweeping { expired: VecDeque<Gone> },
    Deleting { gone: Gone, rest: VecDeque<Gone> },
    Unlisting { rest: VecDeque<Gone> },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Gone {
    id: BackupId,
    index: Index,
    own: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keeping {
    is_due: bool,
    step: Option<Step>,
    again: Option<At>,
}

impl Default for Keeping {
    /// The last process may have left something.
    fn default() -> Keeping {
        Keeping { is_due: true, step: None, again: None }
    }
}

impl Keeping {
    pub fn due(&mut self) {
        self.is_due = true;
        self.again = None;
    }

    pub fn wake(&self) -> Option<At> {
        self.again.filter(|_| self.is_due)
    }

    fn failed(&mut self, now: At) {
        self.step = None;
        self.is_due = true;
        self.again = Some(now + AGAIN);
    }
}

impl Node {
    pub(super) fn tend_keep(&mut self, now: At, out: &mut Outbox) {
        let keep = &mut self.backup.keep;
        let rests = keep.again.is_some_and(|again| now < again);
        // Without a directory there is nothing to keep.
        if !keep.is_due || keep.step.is_some() || rests || self.set.backup.bar.is_some() {
            return;
        }
        keep.is_due = false;
        keep.again = None;
        keep.step = Some(Step::Reading);
        let call = Call::Read { key: self.keys.catalog(), recurse: true };
        self.call(Owner::Backup(For::Catalog), call, out);
    }

    pub(super) fn catalog_read(
        &mut self,
        now: At,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        let Ok(Answer::Entries(entries)) = result else {
            self.backup.keep.failed(now);
            return;
        };
        let prefix = self.keys.catalog();
        let named = entries.iter().filter_map(|entry| {
            let id = entry.key.as_str().strip_prefix(prefix.as_str())?;
            Some((BackupId::parse(id)?, entry))
        });
        let named: Vec<_> = named.collect();
        // An entry that can't be read protects its directory all the same.
        let listed = named.iter().map(|(id, _)| id.clone()).collect();
        let catalog: Vec<CatalogValue> =
            named.iter().filter_map(|(_, entry)| decode(&entry.value)).collect();
        let gone = expired(&catalog, self.set.backup.keep, self.wall);
        let gone = gone.into_iter().filter_map(|id| {
            let index = named.iter().find(|(of, _)| *of == id).map(|(_, entry)| entry.modify)?;
            let entry = catalog.iter().find(|entry| entry.id == id)?;
            let own = entry.node == *self.me();
            // Another member's are that one's; whose node is no member any more is anybody's that
            // finds them here.
            (own || !self.members.contains_key(&entry.node)).then_some(Gone { id, index, own })
        });
        let gone = gone.collect();
        let but = self.backup.job.as_ref().map(|job| job.id().clone());
        self.backup.keep.step = Some(Step::Sweeping { expired: gone });
        self.backup_act(Purpose::Keep, BackupAct::Sweep { listed, but }, out);
    }

    pub(super) fn keep_acted(
        &mut self,
        now: At,
        result: Result<BackupDone, String>,
        out: &mut Outbox,
    ) {
        match (self.backup.keep.step.take(), result) {
            (Some(Step::Sweeping { expired }), Ok(_)) => self.delete_next(expired, out),
            (Some(Step::Deleting { gone, rest }), Ok(_)) => {
                let text = format!("{} is beyond what is kept: deleted", gone.id);
                self.decided(Reason::new("backup.expired", text), out);
                self.backup.keep.step = Some(Step::Unlisting { rest });
                let key = self.keys.catalog_of(&gone.id);
                let call = Call::Txn(vec![Verb::DeleteCas(key, gone.index)]);
                self.call(Owner::Backup(For::Unlisted), call, out);
            }
            // Not here.
            (Some(Step::Deleting { gone, rest }), Err(_)) if !gone.own => {
                self.delete_next(rest, out);
            }
            (Some(Step::Sweeping { .. } | Step::Deleting { .. }), Err(why)) => {
                let text = format!("the directory of backups can't be kept in order: {why}");
                self.decided(Reason::new("backup.keep", text), out);
                self.backup.keep.failed(now);
            }
            (step @ (Some(Step::Reading | Step::Unlisting { .. }) | None), _) => {
                self.backup.keep.step = step;
            }
        }
    }

    fn delete_next(&mut self, mut rest: VecDeque<Gone>, out: &mut Outbox) {
        // One that is being verified stays until that is over; its end brings the next round.
        let busy = self.backup.held().map(|held| held.id.clone());
        rest.retain(|gone| Some(&gone.id) != busy.as_ref());
        let Some(gone) = rest.pop_front() else { return };
        let (id, own) = (gone.id.clone(), gone.own);
        self.backup.keep.step = Some(Step::Deleting { gone, rest });
        self.backup_act(Purpose::Keep, BackupAct::Delete { id, own }, out);
    }

    /// Whatever became of it: the next round looks again.
    pub(super) fn unlisted(
        &mut self,
        now: At,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        let Some(Step::Unlisting { rest }) = self.backup.keep.step.take() else { return };
        match result {
            Ok(_) => self.delete_next(rest, out),
            Err(_) => self.backup.keep.failed(now),
        }
    }
}
