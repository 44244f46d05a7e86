//! Why something was decided: data first, a sentence second.

use serde::Serialize;
use std::collections::BTreeMap;
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
    /// What decided, by name; for the journal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<&'static str, String>,
}

impl Reason {
    pub fn new(code: &'static str, text: impl Into<String>) -> Reason {
        Reason { code, text: text.into(), flip: None, inputs: BTreeMap::new() }
    }

    pub fn flip(mut self, fact: impl Into<String>) -> Reason {
        self.flip = Some(fact.into());
        self
    }

    /// Names one thing that decided. Never a secret.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Reason {
        self.inputs.insert(name, value.to_string());
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
