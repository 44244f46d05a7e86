//! What is wrong with a configuration, where, and how to mend it: one line a problem.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A configuration file; lines and columns count from 1, columns in characters.
    File { path: PathBuf, line: usize, column: usize },
    /// The cluster's configuration in Consul.
    Kv { line: usize, column: usize },
    /// An environment variable.
    Env(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Place::Kv { line, column } => write!(f, "KV state/config:{line}:{column}"),
            Place::Env(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why there is no configuration. The process ends with exit code 64.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    /// One value is wrong by itself.
    #[error("{place}: {what}")]
    Value { place: Place, what: String },
    /// Values do not fit together, or one that is needed is missing.
    #[error("configuration: {0}")]
    Check(String),
}
