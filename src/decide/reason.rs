//! Why something was decided: data first, a sentence second.

use serde::Serialize;
use std::fmt;

/// One decision's explanation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Reason {
    /// Stable, for machines: `take.wait`, `demote.deadline`.
    pub code: &'static str,
    /// One sentence with the inputs that decided.
    pub text: String,
    /// The one fact that would flip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<String>,
}

impl Reason {
    pub fn new(code: &'static str, text: impl Into<String>) -> Reason {
        Reason { code, text: text.into(), flip: None }
    }

    pub fn flip(mut self, fact: impl Into<String>) -> Reason {
        self.flip = Some(fact.into());
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.flip {
            Some(flip) => write!(f, "{} ({}; would change: {flip})", self.text, self.code),
            None => write!(f, "{} ({})", self.text, self.code),
        }
    }
}
