//! The answer of the `position` hook.

use crate::decide::hook::HookEnd;
use serde::Deserialize;

/// What the `position` hook answers.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Position {
    pub order: u64,
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    #[serde(default)]
    pub text: String,
}

pub fn read_position(end: &HookEnd) -> Option<Position> {
    match end {
        HookEnd::Done { answer: Some(line) } => serde_json::from_str(line).ok(),
        HookEnd::Done { answer: None }
        | HookEnd::Exit { .. }
        | HookEnd::Signal { .. }
        | HookEnd::Timeout
        | HookEnd::Cancelled
        | HookEnd::NotStarted { .. } => None,
    }
}
