//! A secret text: shown by nothing but [`Secret::expose`].

use std::fmt;
use std::sync::Arc;

/// A token. `Debug` is redacted and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Surrounding white space, as a file's last line has it, is no part of a token.
    pub fn new(text: &str) -> Secret {
        Secret(Arc::from(text.trim()))
    }

    /// The text itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", Some(Secret::new("b1gs3cret\n")));
        assert_eq!(shown, "Some(Secret(redacted))");
        assert_eq!(Secret::new(" b1gs3cret\n").expose(), "b1gs3cret");
    }
}
