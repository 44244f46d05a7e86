//! The job under way, as its node knows it.

use crate::decide::backup::{BackupDone, BackupId, BackupValue, CatalogValue, Job, JobState, Slot};
use crate::decide::hook::HookEnd;
use crate::decide::time::{At, Span};
use crate::decide::types::Index;
use serde_json::{Value, json};

/// Between two signs of life: a write wakes every node's watch, so not more often.
pub(super) const BEAT: Span = Span::secs(15);
/// How often what was written is counted.
pub(super) const MEASURE: Span = Span::secs(2);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The lock is being taken.
    Taking,
    /// Something is under way whose end brings the next step.
    Beginning,
    Copying,
    Sealing,
    Reading,
    Checking,
    Verifying,
    /// It ended well: to be written.
    Publish(Box<CatalogValue>, Index),
    Fail(String),
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Taking | Step::Beginning => "begins",
            Step::Copying => "copies",
            Step::Sealing => "computes checksums",
            Step::Reading => "reads the catalog",
            Step::Checking => "compares checksums",
            Step::Verifying => "opens a copy",
            Step::Publish(..) => "writes the catalog",
            Step::Fail(_) => "ends",
        }
    }
}

/// The job under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Running {
    pub value: BackupValue,
    pub step: Step,
    pub lost: bool,
    pub began: At,
    pub began_wall: u64,
    pub beat: At,
    pub measure: At,
    pub bytes: u64,
    pub position: String,
    pub engine: String,
    pub dir: String,
    /// What is verified, and where the catalog has it.
    pub entry: Option<(CatalogValue, Index)>,
    /// The last write was made, and perhaps not applied.
    pub ending: bool,
    /// What came back: an act's result or a hook's end, to be looked at by `tend_job`.
    pub came: Option<Came>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Came {
    Act(Result<BackupDone, String>),
    Hook(HookEnd),
    Entry(Result<Option<(CatalogValue, Index)>, String>),
}

impl Came {
    /// The directory that a hook waits for.
    pub fn starts_a_hook(&self) -> bool {
        matches!(self, Came::Act(Ok(BackupDone::Dir(_))))
    }
}

impl Running {
    pub fn new(value: BackupValue, now: At, wall: u64) -> Running {
        Running {
            value,
            step: Step::Taking,
            lost: false,
            began: now,
            began_wall: wall,
            beat: now + BEAT,
            measure: now,
            bytes: 0,
            position: String::new(),
            engine: String::new(),
            dir: String::new(),
            entry: None,
            ending: false,
            came: None,
        }
    }

    /// How a job ends whose entry is written, and what is said of it.
    pub fn verdict(&self, entry: &CatalogValue) -> (bool, String) {
        match (&self.value.job, &entry.verified) {
            (Job::Verify, Some(verified)) => (verified.ok, verified.text.clone()),
            (Job::Verify, None) | (Job::Backup, _) => (
                true,
                format!("{} bytes in {} files at {}", entry.bytes, entry.files, entry.position),
            ),
        }
    }

    pub fn wake(&self) -> Option<At> {
        let measure = Some(self.measure).filter(|_| self.step == Step::Copying);
        measure.into_iter().chain([self.beat]).min()
    }

    pub fn id(&self) -> &BackupId {
        &self.value.id
    }

    pub fn json(&self, now: At) -> Value {
        json!({
            "job": self.value.job,
            "id": self.value.id,
            "step": self.step.name(),
            "bytes": self.bytes,
            "since_ms": now.since(self.began),
        })
    }

    /// What the lock's value becomes.
    pub fn written(&self, state: JobState, reason: &str) -> BackupValue {
        let done = self.value.job == Job::Backup && state == JobState::Done;
        let slot = self.value.slot.clone().map(|slot| Slot { done: slot.done || done, ..slot });
        BackupValue {
            state,
            step: self.step.name().to_owned(),
            bytes: self.bytes,
            n: self.value.n.saturating_add(1),
            slot,
            reason: reason.to_owned(),
            ..self.value.clone()
        }
    }
}
