//! What must hold whatever happens: each once, for the simulator, the model and the tests.
//!
//! Names are those of `docs/lease.md`. Functions get what an all-seeing observer knows, which no
//! node does. Must not: be asked by a decision.

use super::records::{LeaderValue, LockState, RequestStatus, ResultValue, TermValue, decode};
use super::types::{Epoch, NodeName, RunId};

/// A broken one, in words.
pub type Broken = &'static str;

pub const TWO_WRITABLE: Broken = "S1: two writable";
pub const EPOCH_TWICE: Broken = "S2: an epoch was given twice";
pub const CLEAN_WHILE_WRITABLE: Broken = "S5: clean while somebody is writable";
pub const UNLISTED: Broken = "S7: taken by a node that the list does not name";
pub const LOST: Broken = "S8: promoted without an acknowledged write";
pub const WRITABLE_WITHOUT_TERM: Broken = "S0: writable without a term";
pub const HANDOVER_LOST: Broken = "S11: a planned handover lost a row";
pub const ANSWERED_TWICE: Broken = "S12: a request got two final results";
pub const JOURNAL_UNLOCKED: Broken = "S13: the journal was written outside the own term";

/// S1: two that accept writes at one instant.
pub fn one_writable(writable: usize) -> Result<(), Broken> {
    if writable > 1 { Err(TWO_WRITABLE) } else { Ok(()) }
}

/// S5: the value says that nobody needs to wait.
pub fn clean_is_true(value: &[u8], locked: bool, writable: usize) -> Result<(), Broken> {
    let clean = decode::<LeaderValue>(value).is_some_and(|it| it.state == LockState::Clean);
    if clean && !locked && writable > 0 { Err(CLEAN_WHILE_WRITABLE) } else { Ok(()) }
}

/// S2: an acquisition's epoch against the highest there ever was.
pub fn epoch_grows(highest: Epoch, given: Epoch) -> Result<(), Broken> {
    if given <= highest { Err(EPOCH_TWICE) } else { Ok(()) }
}

/// S7: the term that is replaced names whoever takes; there is none before the cluster is made.
pub fn listed(before: Option<&TermValue>, taker: &NodeName) -> Result<(), Broken> {
    match before {
        Some(term) if !term.eligible.iter().any(|member| member.node == *taker) => Err(UNLISTED),
        Some(_) | None => Ok(()),
    }
}

/// S12: what is written over what stood there.
pub fn answered_once(before: &ResultValue, after: &ResultValue) -> Result<(), Broken> {
    let is_final = before.status != RequestStatus::Started;
    if is_final && before.status != after.status { Err(ANSWERED_TWICE) } else { Ok(()) }
}

/// S13: who wrote, and what stood in `state/term` and held the lock then.
pub fn journal_under_lock(
    writer: &RunId,
    term: Option<&TermValue>,
    locked: bool,
) -> Result<(), Broken> {
    let own = term.is_some_and(|term| term.run == *writer);
    if own && locked { Ok(()) } else { Err(JOURNAL_UNLOCKED) }
}
