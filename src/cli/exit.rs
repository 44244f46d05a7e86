//! Exit codes: a contract with scripts.

use std::process::ExitCode;

/// How a command ended. `run` ends with the application's own code instead: 128 + signal when one
/// killed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// A plan has changes that are not applied.
    Pending = 2,
    /// Understood and refused.
    Refused = 3,
    /// Wrong arguments or configuration (EX_USAGE).
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
