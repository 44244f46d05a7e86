//! Backups, as far as they are decided: when, by whom, which stay, and what KV says of them.
//!
//! `life` puts these to use: the leader asks one node at a time through `state/backup`, that node
//! runs its hooks and writes the catalog. What touches files is `crate::backup`'s.

mod acts;
pub mod calendar;
mod choose;
mod cron;
mod records;
mod retain;

pub use acts::{BackupAct, BackupDone, HookAnswer, Origin, Source};
pub use choose::{Candidate, choose};
pub use cron::Cron;
pub use records::{
    BackupId, BackupValue, CatalogValue, Job, JobState, RestoreValue, Slot, Verified,
};
pub use retain::{Keep, expired};
