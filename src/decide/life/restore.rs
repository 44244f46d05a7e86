//! Creating the cluster from a backup: `state/restore`, or `restore_from` of this node's own
//! configuration.
//!
//! The rules of a creation hold unchanged: the lock first, empty disks, a new cluster id. Only the
//! data is a backup's. A node that does not find the backup in its own `backup_dir` does not
//! create; it clones from the one that does. Where the cluster exists a wish has no effect, and its
//! leader removes it, so that it is not carried out a second time.

use super::backup::Purpose;
use super::facts::with;
use super::{Bootstrap, Node, Owner, State};
use crate::decide::backup::{BackupAct, BackupDone, Origin, RestoreValue, Source};
use crate::decide::call::{Call, Entry, Verb};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::Outbox;
use crate::decide::lead::Leadership;
use crate::decide::reason::Reason;
use crate::decide::records::decode;
use crate::decide::time::{At, Span};
use crate::decide::types::Index;

/// What is not there may come: a mount, or a backup that is copied.
const LOOK_AGAIN: Span = Span::secs(5);
/// After a removal of the wish that may have failed.
const REMOVE_AGAIN: Span = Span::secs(5);

/// What is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restore {
    wished: Option<(RestoreValue, Index)>,
    /// What was looked for, and what was found.
    found: Option<(Source, Result<Origin, String>)>,
    again: Option<At>,
}

impl Restore {
    pub fn wake(&self) -> Option<At> {
        self.again
    }
}

impl Node {
    pub(crate) fn restore_seen(&mut self, entry: Option<&Entry>) {
        self.restore.wished = entry.and_then(|entry| Some((decode(&entry.value)?, entry.modify)));
    }

    /// What the next creation takes its data from.
    fn source(&self) -> Option<Source> {
        match &self.restore.wished {
            Some((RestoreValue { id, manifest, .. }, _)) => {
                Some(Source::Id { id: id.clone(), manifest: Some(manifest.clone()) })
            }
            None => self.set.backup.restore_from.clone(),
        }
    }

    pub(crate) fn tend_restore(&mut self, now: At, out: &mut Outbox) {
        if !self.seen_state {
            return;
        }
        if self.cluster.is_some() {
            self.remove_wish(now, out);
            return;
        }
        let Some(source) = self.source().filter(|_| !self.disk.data) else {
            self.restore.found = None;
            return;
        };
        let known = self.restore.found.as_ref().filter(|(of, _)| *of == source);
        let settled = known.is_some_and(|(_, found)| found.is_ok());
        let rests = known.is_some() && self.restore.again.is_some_and(|again| now < again);
        if settled || rests || self.backup_acts(Purpose::Find) {
            return;
        }
        if known.is_none() {
            self.restore.found = Some((source.clone(), Err("not looked for yet".to_owned())));
        }
        self.restore.again = Some(now + LOOK_AGAIN);
        self.backup_act(Purpose::Find, BackupAct::Find { source }, out);
    }

    pub(crate) fn restore_found(
        &mut self,
        _now: At,
        result: Result<BackupDone, String>,
        out: &mut Outbox,
    ) {
        let Some((source, before)) = self.restore.found.take() else { return };
        let found = match result {
            Ok(BackupDone::Found { origin, .. }) => Ok(origin),
            Ok(other) => Err(format!("unexpected: {other:?}")),
            Err(why) => Err(why),
        };
        if found != before {
            let reason = match &found {
                Ok(origin) => Reason::new(
                    "restore.found",
                    format!("backup {} of {} is here", origin.id, origin.cluster_name),
                ),
                Err(why) => Reason::new("restore.not-here", format!("no restore here: {why}"))
                    .flip("the backup in backup_dir of this node"),
            };
            self.decided(reason, out);
        }
        self.restore.found = Some((source, found));
    }

    /// Why this node does not create although it may.
    pub(crate) fn restore_bar(&self) -> Option<Reason> {
        if self.cluster.is_some() || self.disk.data {
            return None;
        }
        let source = self.source()?;
        let found = self.restore.found.as_ref().filter(|(of, _)| *of == source);
        let why = match found {
            Some((_, Ok(_))) => return None,
            Some((_, Err(why))) => why.clone(),
            None => "not looked for yet".to_owned(),
        };
        let text = format!("the cluster is to be restored, and not from here: {why}");
        Some(Reason::new("bar.restore", text).flip("the backup in backup_dir of this node"))
    }

    /// How the cluster comes to be, and why so.
    pub(crate) fn creation(&self) -> (Bootstrap, Reason) {
        match self.restore.found.as_ref().filter(|_| self.source().is_some()) {
            Some((_, Ok(origin))) => {
                let text = format!(
                    "no data anywhere and the lock is ours: restore {} at {}",
                    origin.id, origin.position
                );
                (Bootstrap::Restore, Reason::new("bootstrap.restore", text))
            }
            Some((_, Err(_))) | None => {
                let text = "no data anywhere and the lock is ours: create";
                (Bootstrap::Create, Reason::new("bootstrap.create", text))
            }
        }
    }

    /// Before the hook: every file as the manifest has it.
    pub(crate) fn check_restored(&mut self, out: &mut Outbox) {
        if let Some((source, Ok(_))) = self.restore.found.clone() {
            self.backup_act(Purpose::Restore, BackupAct::Check { source }, out);
        }
    }

    pub(crate) fn restore_checked(
        &mut self,
        now: At,
        result: Result<BackupDone, String>,
        out: &mut Outbox,
    ) {
        let waiting = State::Bootstrapping { kind: Bootstrap::Restore, marked: false, hook: None };
        if self.state != waiting {
            return;
        }
        let why = match result {
            Ok(BackupDone::Whole { dir, origin, .. }) => {
                let facts = with(self.facts(), "BOOTSTRAP", Bootstrap::Restore.name());
                let facts = with(facts, "BACKUP_ID", &origin.id);
                let facts = with(facts, "BACKUP_DIR", dir);
                let facts = with(facts, "BACKUP_POSITION", &origin.position);
                let hook = self.run_hook(Hook::Bootstrap, facts, None, out);
                let kind = Bootstrap::Restore;
                let made = State::Bootstrapping { kind, marked: true, hook: Some(hook) };
                self.enter_with(now, Hook::Bootstrap, made);
                return;
            }
            Ok(BackupDone::Corrupt(what)) => what,
            Ok(other) => format!("unexpected: {other:?}"),
            Err(why) => why,
        };
        // Not whole: not looked at again before the next attempt.
        self.restore.found = None;
        self.bootstrap_ended(now, Bootstrap::Restore, HookEnd::NotStarted { why }, out);
    }

    fn remove_wish(&mut self, now: At, out: &mut Outbox) {
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        let Some((_, index)) = self.restore.wished.as_ref().filter(|_| leads) else { return };
        if self.state != State::Primary || self.restore.again.is_some_and(|again| now < again) {
            return;
        }
        self.restore.again = Some(now + REMOVE_AGAIN);
        let call = Call::Txn(vec![Verb::DeleteCas(self.keys.restore(), *index)]);
        self.call(Owner::Ignored, call, out);
    }
}
