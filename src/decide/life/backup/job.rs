//! The asked node's side: one backup or verification from its beginning to the catalog.
//!
//! A job that was lost (another holds the lock, or nobody) ends as soon as what it has under way
//! ends, and writes nothing. What it left is removed by `keep`.

use super::super::facts::with;
use super::super::{Node, Owner, Side, State};
use super::running::{BEAT, Came, MEASURE, Running, Step};
use super::{For, Purpose};
use crate::decide::backup::{
    BackupAct, BackupDone, BackupValue, CatalogValue, HookAnswer, Job, JobState, Origin, Source,
    Verified,
};
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::hook::HookEnd;
use crate::decide::io::Outbox;
use crate::decide::reason::Reason;
use crate::decide::records::{decode, encode};
use crate::decide::time::At;
use crate::decide::types::{ClusterId, Index};

struct Sealed {
    files: u64,
    manifest: String,
    dir: String,
}

impl Node {
    pub(super) fn tend_job(&mut self, now: At, out: &mut Outbox) {
        let Some(mut job) = self.backup.job.take() else {
            self.begin_if_asked(now, out);
            return;
        };
        if !job.lost && !self.lock_is_busy(now) && !self.is_mine(&job.value) {
            if job.ending && self.is_over(&job.value) {
                return;
            }
            job.lost = true;
            let BackupValue { job: of, id, .. } = &job.value;
            let text = format!("{of} {id} is given up: the lock is not this node's any more");
            self.decided(Reason::new("backup.lost", text), out);
            self.cancel_job_hook(out);
        }
        if let Some(came) = job.came.take_if(|came| !came.starts_a_hook() || self.is_settled()) {
            self.advance(now, &mut job, came, out);
        }
        if job.lost {
            if !self.backup_acts(Purpose::Job) && !self.job_hook_runs() {
                self.backup.keep.due();
                return;
            }
        } else {
            self.keep_going(now, &mut job, out);
        }
        self.backup.job = Some(job);
    }

    fn keep_going(&mut self, now: At, job: &mut Running, out: &mut Outbox) {
        let hook = match job.value.job {
            Job::Backup => self.set.timeouts.backup,
            Job::Verify => self.set.timeouts.verify,
        };
        // As much again as the hook for reading all of it.
        let ends = matches!(job.step, Step::Publish(..) | Step::Fail(_));
        if !ends && now.since(job.began) > hook + hook {
            self.cancel_job_hook(out);
            job.step = Step::Fail(format!("not done within {}", hook + hook));
        }
        if !self.lock_is_busy(now) {
            self.write_job(now, job, out);
        }
        if job.step == Step::Copying && now >= job.measure && !self.backup_acts(Purpose::Measure) {
            job.measure = now + MEASURE;
            let id = job.value.id.clone();
            self.backup_act(Purpose::Measure, BackupAct::Measure { id }, out);
        }
    }

    fn cancel_job_hook(&mut self, out: &mut Outbox) {
        self.cancel_where(|side| matches!(side, Side::Backup | Side::Verify), out);
    }

    fn job_hook_runs(&self) -> bool {
        self.sides.values().any(|side| matches!(side, Side::Backup | Side::Verify))
    }

    fn is_mine(&self, own: &BackupValue) -> bool {
        self.backup.held().is_some_and(|held| self.is_same(held, own))
    }

    fn is_over(&self, own: &BackupValue) -> bool {
        let value = self.backup.value.as_ref();
        value.is_some_and(|value| !value.is_held() && self.is_same(value, own))
    }

    fn is_same(&self, value: &BackupValue, own: &BackupValue) -> bool {
        let same = value.id == own.id && value.job == own.job && value.at == own.at;
        same && value.node == *self.me() && value.run == self.boot.identity.run
    }

    /// The lock names this node.
    fn begin_if_asked(&mut self, now: At, out: &mut Outbox) {
        if self.lock_is_busy(now) || self.job_hook_runs() {
            return;
        }
        let Some(held) = self.backup.held().filter(|held| held.node == *self.me()).cloned() else {
            return;
        };
        let mine = held.run == self.boot.identity.run;
        let bar = match (mine, held.state) {
            (false, _) => Some("lictor was restarted in the middle of it".to_owned()),
            (true, JobState::Asked) => self.bars(held.job),
            (true, _) => Some("this node lost track of it".to_owned()),
        };
        // Under its own name, whichever process was asked: the write below ends it.
        let value = BackupValue { run: self.boot.identity.run.clone(), ..held };
        let mut job = Running::new(value, now, self.wall);
        match bar {
            Some(why) => job.step = Step::Fail(why),
            None => {
                job.value = job.written(JobState::Running, "");
                self.write_lock(job.value.clone(), None, None, out);
            }
        }
        if !mine {
            // Nobody else writes it meanwhile but the leader, at the same index.
            self.end_job(&mut job, out);
            return;
        }
        self.backup.job = Some(job);
    }

    /// Why this node can't, as the end of a sentence that begins with its name.
    fn bars(&self, job: Job) -> Option<String> {
        if self.backup_acts(Purpose::Job) {
            return Some("still waits for its backup_dir to answer".to_owned());
        }
        match job {
            Job::Backup if self.set.backup.bar.is_some() => self.set.backup.bar.clone(),
            Job::Verify if self.set.backup.no_verify.is_some() => self.set.backup.no_verify.clone(),
            Job::Backup | Job::Verify if !self.is_settled() => {
                Some(format!("is {}", self.state.name()))
            }
            Job::Backup | Job::Verify => None,
        }
    }

    /// Between two roles no hook of a job begins.
    fn is_settled(&self) -> bool {
        self.app.is_some() && matches!(self.state, State::Replica | State::Primary)
    }

    fn write_job(&mut self, now: At, job: &mut Running, out: &mut Outbox) {
        match &job.step {
            // The lock is written, and this node's: `tend_job` has looked.
            Step::Taking if job.value.job == Job::Backup => {
                job.step = Step::Beginning;
                let id = job.value.id.clone();
                self.backup_act(Purpose::Job, BackupAct::Begin { id }, out);
            }
            Step::Taking => {
                job.step = Step::Reading;
                let key = self.keys.catalog_of(&job.value.id);
                self.call(Owner::Backup(For::Entry), Call::Read { key, recurse: false }, out);
            }
            Step::Publish(..) | Step::Fail(_) => self.end_job(job, out),
            _ if now >= job.beat => {
                job.beat = now + BEAT;
                job.value = job.written(JobState::Running, "");
                self.write_lock(job.value.clone(), None, None, out);
            }
            Step::Beginning
            | Step::Copying
            | Step::Sealing
            | Step::Reading
            | Step::Checking
            | Step::Verifying => {}
        }
    }

    /// The last write, with the catalog's entry in one transaction. Until it is seen to be applied
    /// it is made again.
    fn end_job(&mut self, job: &mut Running, out: &mut Outbox) {
        let (state, reason, entry) = match &job.step {
            Step::Publish(entry, index) => {
                let (good, text) = job.verdict(entry);
                let state = if good { JobState::Done } else { JobState::Failed };
                let key = self.keys.catalog_of(&entry.id);
                (state, text, Some(Verb::Cas(key, *index, encode(&**entry))))
            }
            Step::Fail(why) => (JobState::Failed, why.clone(), None),
            Step::Taking
            | Step::Beginning
            | Step::Copying
            | Step::Sealing
            | Step::Reading
            | Step::Checking
            | Step::Verifying => return,
        };
        if !job.ending {
            let code = if state == JobState::Done { "backup.done" } else { "backup.failed" };
            let text = format!("{} {}: {reason}", job.value.job, job.value.id);
            self.decided(Reason::new(code, text), out);
        }
        job.ending = true;
        self.write_lock(job.written(state, &reason), None, entry, out);
    }

    pub(super) fn not_published(&mut self, why: &str) {
        if let Some(job) = self.backup.job.as_mut().filter(|job| job.ending) {
            job.step = Step::Fail(why.to_owned());
        }
    }

    fn advance(&mut self, now: At, job: &mut Running, came: Came, out: &mut Outbox) {
        if job.lost {
            return;
        }
        let id = job.value.id.clone();
        match (&job.step, came) {
            (Step::Beginning, Came::Act(Ok(BackupDone::Dir(dir)))) => {
                job.step = Step::Copying;
                let facts = with(self.facts(), "BACKUP_ID", &id);
                self.run_side(Side::Backup, with(facts, "BACKUP_DIR", dir), out);
            }
            (Step::Copying, Came::Hook(end)) => self.copied(job, end, out),
            (Step::Sealing, Came::Act(Ok(BackupDone::Sealed { bytes, files, manifest, dir }))) => {
                job.bytes = bytes;
                let sealed = Sealed { files, manifest, dir };
                let entry = self.entry_of(now, job, sealed);
                job.step = Step::Publish(Box::new(entry), Index(0));
            }
            (Step::Reading, Came::Entry(Ok(Some((entry, index))))) => {
                job.step = Step::Checking;
                let source = Source::Id { id, manifest: Some(entry.manifest.clone()) };
                job.entry = Some((entry, index));
                self.backup_act(Purpose::Job, BackupAct::Check { source }, out);
            }
            (Step::Reading, Came::Entry(Ok(None))) => {
                job.step = Step::Fail(format!("the catalog has no backup {id}"));
            }
            (Step::Checking, Came::Act(Ok(BackupDone::Whole { dir, bytes, .. }))) => {
                job.step = Step::Verifying;
                job.bytes = bytes;
                job.dir = dir;
                self.backup_act(Purpose::Job, BackupAct::Scratch { id }, out);
            }
            (Step::Checking, Came::Act(Ok(BackupDone::Corrupt(what)))) => {
                self.verified(job, false, what);
            }
            (Step::Verifying, Came::Act(Ok(BackupDone::Dir(scratch)))) => {
                let facts = with(self.facts(), "BACKUP_ID", &id);
                let facts = with(facts, "BACKUP_DIR", &job.dir);
                self.run_side(Side::Verify, with(facts, "BACKUP_SCRATCH", scratch), out);
            }
            (Step::Verifying, Came::Hook(HookEnd::Done { answer })) => {
                let text = answer.unwrap_or_else(|| "the verify hook found it good".to_owned());
                self.verified(job, true, text);
            }
            (Step::Verifying, Came::Hook(HookEnd::Exit { code: 3 })) => {
                let text = "the verify hook found it bad; its node's log says why";
                self.verified(job, false, text.to_owned());
            }
            (Step::Verifying, Came::Hook(end)) => {
                job.step = Step::Fail(format!("the verify hook ended with {end}"));
            }
            (_, Came::Act(Err(why)) | Came::Entry(Err(why))) => job.step = Step::Fail(why),
            (_, Came::Act(Ok(other))) => job.step = Step::Fail(format!("unexpected: {other:?}")),
            // After it was given up for its time.
            (_, Came::Hook(_) | Came::Entry(_)) => {}
        }
    }

    fn copied(&mut self, job: &mut Running, end: HookEnd, out: &mut Outbox) {
        let answer = match end {
            HookEnd::Done { answer: Some(line) } => serde_json::from_str::<HookAnswer>(&line)
                .map_err(|error| format!("the backup hook's last line is no answer: {error}")),
            HookEnd::Done { answer: None } => Err("the backup hook answered nothing".to_owned()),
            HookEnd::Exit { .. }
            | HookEnd::Signal { .. }
            | HookEnd::Timeout
            | HookEnd::Cancelled
            | HookEnd::NotStarted { .. } => Err(format!("the backup hook ended with {end}")),
        };
        let answer = answer.and_then(|answer| match answer.id == job.value.id.as_str() {
            true => Ok(answer),
            false => Err(format!("the backup hook answered for {:?}", answer.id)),
        });
        match answer {
            Err(why) => job.step = Step::Fail(why),
            Ok(answer) => {
                job.step = Step::Sealing;
                (job.position, job.engine) = (answer.position, answer.engine);
                let origin = Origin {
                    id: job.value.id.clone(),
                    cluster_name: self.boot.cluster_name.to_string(),
                    cluster: self.cluster_id().unwrap_or_else(|| ClusterId::new("")),
                    node: self.me().to_string(),
                    epoch: self.epoch(),
                    at: job.began_wall,
                    position: job.position.clone(),
                    engine: job.engine.clone(),
                };
                self.backup_act(Purpose::Job, BackupAct::Seal { origin }, out);
            }
        }
    }

    fn entry_of(&self, now: At, job: &Running, sealed: Sealed) -> CatalogValue {
        CatalogValue {
            v: 1,
            id: job.value.id.clone(),
            node: self.me().clone(),
            host: self.set.host.clone(),
            dir: sealed.dir,
            epoch: self.epoch(),
            cluster: self.cluster_id().unwrap_or_else(|| ClusterId::new("")),
            at: job.began_wall,
            took_ms: now.since(job.began).0,
            bytes: job.bytes,
            files: sealed.files,
            position: job.position.clone(),
            engine: job.engine.clone(),
            manifest: sealed.manifest,
            verified: None,
            extra: Default::default(),
        }
    }

    fn verified(&self, job: &mut Running, ok: bool, text: String) {
        let Some((mut entry, index)) = job.entry.clone() else { return };
        let node = self.me().clone();
        entry.verified = Some(Verified { at: self.wall, node, ok, text });
        job.step = Step::Publish(Box::new(entry), index);
    }

    pub(super) fn job_acted(&mut self, result: Result<BackupDone, String>) {
        self.job_came(Came::Act(result));
    }

    pub(crate) fn backup_hook_ended(&mut self, end: HookEnd) {
        self.job_came(Came::Hook(end));
    }

    pub(crate) fn verify_hook_ended(&mut self, end: HookEnd) {
        self.job_came(Came::Hook(end));
    }

    fn job_came(&mut self, came: Came) {
        if let Some(job) = &mut self.backup.job {
            job.came = Some(came);
        }
    }

    pub(super) fn measured(&mut self, result: Result<BackupDone, String>) {
        if let (Some(job), Ok(BackupDone::Measured(bytes))) = (&mut self.backup.job, result) {
            job.bytes = bytes;
        }
    }

    pub(super) fn entry_read(&mut self, result: Result<Answer, StoreError>) {
        let came = match result {
            Ok(Answer::Entries(entries)) => match entries.first() {
                None => Ok(None),
                Some(entry) => match decode::<CatalogValue>(&entry.value) {
                    Some(value) => Ok(Some((value, entry.modify))),
                    None => Err(format!("{} is not to be read", entry.key)),
                },
            },
            Ok(other) => Err(format!("the catalog answered {other:?}")),
            Err(error) => Err(format!("the catalog can't be read: {error}")),
        };
        self.job_came(Came::Entry(came));
    }
}
