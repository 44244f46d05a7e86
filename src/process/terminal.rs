//! The terminal's foreground, lent to the application and taken back at the end.
//!
//! The application gets it so that Ctrl-C reaches it once, by the terminal, and that it may read.
//! Without a terminal on stdin nothing here does anything.

use super::sys;

/// Whose the foreground was. Given back when dropped.
pub struct Foreground {
    group: i32,
}

impl Foreground {
    /// `None` without a terminal. Take it before a child is started with `Group::Foreground`.
    pub fn remember() -> Option<Foreground> {
        // SAFETY: no pointers.
        let group = sys::check(unsafe { libc::tcgetpgrp(0) }).ok()?;
        Some(Foreground { group })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // SAFETY: no pointers. SIGTTOU, which the background gets for this, is blocked in the
        // sidecar.
        unsafe { libc::tcsetpgrp(0, self.group) };
    }
}
