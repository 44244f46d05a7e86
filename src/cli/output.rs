//! What commands print: answers to stdout, one-line errors to stderr. A reader that has gone away
//! is no error of ours.

use super::exit::Exit;
use serde::Serialize;
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Prints an answer; a failed write (a full disk, say) is a failed command.
pub fn answer(text: impl Display, exit: Exit) -> Exit {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(e) if e.kind() == ErrorKind::BrokenPipe => exit,
        Err(e) => error(format_args!("cannot write the answer: {e}"), Exit::Failed),
    }
}

/// Prints lines as they are, and says whether that was possible.
pub fn plain(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Prints an answer as one line of JSON.
pub fn json(value: &impl Serialize, exit: Exit) -> Exit {
    let text = serde_json::to_string(value).expect("answers have string keys only");
    answer(text, exit)
}

/// Prints one line to stderr; nothing more can be done when that fails.
pub fn error(text: impl Display, exit: Exit) -> Exit {
    let _ = writeln!(std::io::stderr(), "lictor: {text}");
    exit
}

/// Prints what happens meanwhile to stderr; nothing depends on its being read.
pub fn progress(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "lictor: .. {text}");
}
