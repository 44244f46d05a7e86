//! A value that must not be seen: no `Display`, and a `Debug` that hides it.

use serde::{Deserialize, Deserializer};
use std::fmt;

/// A token or password. Reading it takes a call that names what happens.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The plain value, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret)
    }
}

/// What a secret's file says: without the final line break, and not empty. A byte order mark, which
/// an editor puts in unseen, would be a part of the secret that nobody knows of.
pub fn secret_of(text: &str) -> Result<Secret, String> {
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty".to_owned()),
        marked if marked.starts_with('\u{feff}') => {
            Err("it begins with a byte order mark; save it as plain UTF-8 without one".to_owned())
        }
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, secret_of};

    #[test]
    fn a_file_says_one_secret_that_everybody_can_see() {
        let said = |text| secret_of(text).map(|secret| secret.reveal().to_owned());
        assert_eq!(said("hunter2\r\n").as_deref(), Ok("hunter2"));
        assert!(said("\n").is_err_and(|why| why.contains("empty")));
        assert!(said("\u{feff}hunter2\n").is_err_and(|why| why.contains("byte order mark")));
    }

    #[test]
    fn debug_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }
}
