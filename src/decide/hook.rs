//! Hooks as the core sees them: which, with what facts, and how they ended. `process::hooks` runs
//! them.

use super::io::is_over;
use super::mutant::{self, Mutant};
use super::time::{At, Span};
use super::types::OpId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    Bootstrap,
    PreStart,
    Replicate,
    Promote,
    Demote,
    Sync,
    Position,
    Health,
    /// The configuration changed; not required.
    Reload,
    Backup,
    Verify,
}

impl Hook {
    pub const ALL: [Hook; 11] = [
        Hook::Bootstrap,
        Hook::PreStart,
        Hook::Replicate,
        Hook::Promote,
        Hook::Demote,
        Hook::Sync,
        Hook::Position,
        Hook::Health,
        Hook::Reload,
        Hook::Backup,
        Hook::Verify,
    ];

    /// The file name in the hooks directory, and `LICTOR_HOOK`.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Bootstrap => "bootstrap",
            Hook::PreStart => "pre-start",
            Hook::Replicate => "replicate",
            Hook::Promote => "promote",
            Hook::Demote => "demote",
            Hook::Sync => "sync",
            Hook::Position => "position",
            Hook::Health => "health",
            Hook::Reload => "reload",
            Hook::Backup => "backup",
            Hook::Verify => "verify",
        }
    }

    /// These answer with the last line of their stdout.
    pub fn answers(self) -> bool {
        matches!(self, Hook::Position | Hook::Backup | Hook::Verify)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One run of a hook.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HookCall {
    pub id: OpId,
    pub hook: Hook,
    /// `LICTOR_*` facts beyond those the runner knows; also the JSON on stdin. Never a secret.
    pub facts: BTreeMap<String, String>,
    /// The tree is killed when this has passed since the start.
    pub timeout: Span,
    /// Not started after this; also killed at it.
    pub valid_until: Option<At>,
    pub attempt: u32,
}

impl HookCall {
    /// Whether it may begin now. A `promote` may not begin after its time, and runs on under a
    /// lease that is renewed meanwhile; the others end at it too.
    pub fn may_start(&mut self, now: At) -> bool {
        match self.hook {
            Hook::Promote => !is_over(self.valid_until.take(), now) || mutant::on(Mutant::M66),
            Hook::Bootstrap
            | Hook::PreStart
            | Hook::Replicate
            | Hook::Demote
            | Hook::Sync
            | Hook::Position
            | Hook::Health
            | Hook::Reload
            | Hook::Backup
            | Hook::Verify => !is_over(self.valid_until, now),
        }
    }
}

/// How a hook ended. Its tree is gone in every case.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum HookEnd {
    /// Exit 0; the last line of stdout where the hook answers.
    Done {
        answer: Option<String>,
    },
    /// Any other exit code: 75 again, 3 and 4 as the hook's contract says, else failed.
    Exit {
        code: i32,
    },
    Signal {
        signal: i32,
    },
    Timeout,
    /// Interrupted by us: a fence, a demotion, or its time to be valid was over.
    Cancelled,
    /// It could not be started.
    NotStarted {
        why: String,
    },
}

/// As the end of "the hook ended with".
impl fmt::Display for HookEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookEnd::Done { answer: Some(_) } => f.write_str("exit 0 and an unusable answer"),
            HookEnd::Done { answer: None } => f.write_str("exit 0 and no answer"),
            HookEnd::Exit { code } => write!(f, "exit {code}"),
            HookEnd::Signal { signal } => write!(f, "signal {signal}"),
            HookEnd::Timeout => f.write_str("its timeout"),
            HookEnd::Cancelled => f.write_str("our interruption"),
            HookEnd::NotStarted { why } => write!(f, "no start: {why}"),
        }
    }
}
