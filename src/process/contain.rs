//! What happens in a child between `fork` and `exec`, and the shim that keeps a contained child's
//! tree together.
//!
//! A hook may leave processes running, detached and in sessions of their own. When their parent
//! ends, they become children of the nearest subreaper; were that the sidecar, nobody could say
//! whose they were. So a contained child gets a parent of its own, the *shim*: a subreaper that
//! never execs, kills what is left when the child has ended, and then ends as the child did. Its
//! pid stands for the whole tree.
//!
//! The invariant: everything here is async-signal-safe, since it runs in a forked copy: no
//! allocation, no lock.

use super::scan::Rules;
use super::tree::{Killer, Progress};
use super::user::User;
use super::{Exit, sys};
use std::io;

/// Kernels without `close_range` (before 5.9, with its flag 5.11): descriptors up to here are
/// closed one by one.
const OLD_KERNEL_FDS: i32 = 1_024;

/// Prepared in the sidecar, carried out in the child.
pub struct ChildSetup {
    pub contained: bool,
    /// A session of its own instead of a process group of its own.
    pub session: bool,
    /// Its process group becomes the terminal's, if stdin is one.
    pub foreground: bool,
    pub user: Option<User>,
    /// The sidecar.
    pub parent: i32,
}

impl ChildSetup {
    /// Runs in the forked child; returns in the process that is to exec.
    pub fn run(&self) -> io::Result<()> {
        let parent = if self.contained {
            keep_only_standard_streams();
            contain(self.parent)?
        } else {
            self.parent
        };
        if self.session {
            // SAFETY: no pointers. We are no group's leader, having just been forked.
            sys::check(unsafe { libc::setsid() })?;
        } else {
            // SAFETY: no pointers.
            sys::check(unsafe { libc::setpgid(0, 0) })?;
        }
        if self.foreground {
            take_terminal();
        }
        if let Some(user) = &self.user {
            become_user(user)?;
        }
        // After the change of user, which clears it.
        sys::die_with_parent()?;
        if sys::get_parent() != parent {
            sys::leave(128 + libc::SIGKILL);
        }
        sys::reset_signals();
        Ok(())
    }
}

/// Our own descriptors all close on exec; this is for those that we inherited. They stay open until
/// then, as std reports a failed exec through one of its own.
fn keep_only_standard_streams() {
    let close_on_exec = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: no pointers.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, close_on_exec) } == -1 {
        for fd in 3..OLD_KERNEL_FDS {
            // SAFETY: no pointers; a descriptor that is not open is an error without effect.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

fn take_terminal() {
    // SAFETY: no pointers. A process in the background that asks for the terminal gets SIGTTOU,
    // unless it ignores it.
    unsafe {
        if libc::isatty(0) == 1 {
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            libc::tcsetpgrp(0, libc::getpid());
        }
    }
}

fn become_user(user: &User) -> io::Result<()> {
    // SAFETY: the list is valid for its length. Called through the C library, which in a forked
    // child has one thread to change. Groups first: only root may change them.
    unsafe {
        sys::check(libc::setgroups(user.groups.len(), user.groups.as_ptr()))?;
        sys::check(libc::setgid(user.gid))?;
        sys::check(libc::setuid(user.uid))?;
    }
    Ok(())
}

/// Forks once more. Returns in the inner process, with its parent's pid; the outer becomes the
/// shim.
fn contain(parent: i32) -> io::Result<i32> {
    sys::block(&sys::every_signal());
    sys::become_subreaper()?;
    sys::die_with_parent()?;
    if sys::get_parent() != parent {
        sys::leave(128 + libc::SIGKILL);
    }
    let shim = sys::get_pid();
    // SAFETY: a forked copy has one thread.
    match sys::check(unsafe { libc::fork() })? {
        0 => Ok(shim),
        inner => shim_until_gone(inner),
    }
}

/// Waits for `inner`, kills what it left, and ends as it did.
fn shim_until_gone(inner: i32) -> ! {
    sys::set_name(c"lictor-hook");
    close_everything();
    let mut end = Exit::Signal(libc::SIGKILL);
    loop {
        match sys::wait_any(0) {
            sys::Reaped::Ended { pid, status } if pid == inner => {
                end = Exit::from_status(status);
                break;
            }
            sys::Reaped::Ended { .. } | sys::Reaped::Running => {}
            sys::Reaped::NoChildren => break,
        }
    }
    kill_leftovers();
    end_as(end)
}

/// Without a child there is no descendant either, as we are a subreaper: the usual case costs one
/// call.
fn kill_leftovers() {
    let mut killer = None;
    loop {
        while let sys::Reaped::Ended { .. } = sys::reap() {}
        if matches!(sys::reap(), sys::Reaped::NoChildren) {
            return;
        }
        if killer.is_none() {
            killer = Killer::new().ok();
        }
        let rules = Rules { root: sys::get_pid(), exempt: 0, spare: &[], first: None };
        let pause = match &mut killer {
            Some(killer) => match killer.pass(&rules) {
                Ok(Progress::Left(_) | Progress::Perhaps | Progress::Gone) | Err(_) => {
                    killer.pause_ms()
                }
            },
            None => super::tree::LAST_PAUSE_MS,
        };
        sys::pause(pause);
    }
}

/// Pipes that the sidecar reads until their end must not be held open by the shim.
fn close_everything() {
    // SAFETY: no pointers. Nothing in the shim uses a descriptor that is open now.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) } == -1 {
        for fd in 0..OLD_KERNEL_FDS {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

fn end_as(end: Exit) -> ! {
    if let Exit::Signal(signal) = end {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `no_core` is valid.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &no_core) };
        sys::reset_signals();
        sys::kill(sys::get_pid(), signal);
    }
    sys::leave(end.code())
}
