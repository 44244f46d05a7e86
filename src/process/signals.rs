//! The signals that others send to the sidecar, as a stream.
//!
//! `guard::split` has blocked them all, so none is lost between the fork and here, and none
//! interrupts anything.

use super::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Every signal but SIGCHLD, which is the reaper's.
pub struct Signals {
    fd: AsyncFd<OwnedFd>,
}

impl Signals {
    /// Call it inside the runtime, once.
    pub fn new() -> io::Result<Signals> {
        let mut set = sys::every_signal();
        // SAFETY: `set` is initialised; removing a signal only clears its bit.
        unsafe { libc::sigdelset(&mut set, libc::SIGCHLD) };
        Ok(Signals { fd: sys::watch(sys::signal_fd(&set)?)? })
    }

    /// SIGTERM and SIGINT alone, for a command that has no children. Call it inside the runtime,
    /// before there is a second thread.
    pub fn of_stop() -> io::Result<Signals> {
        let mut set = sys::only(libc::SIGTERM);
        // SAFETY: `set` is initialised; adding a signal only sets its bit.
        unsafe { libc::sigaddset(&mut set, libc::SIGINT) };
        sys::block(&set);
        Ok(Signals { fd: sys::watch(sys::signal_fd(&set)?)? })
    }

    /// The next signal's number. May be dropped and called again without losing one.
    pub async fn next(&mut self) -> io::Result<i32> {
        next(&self.fd).await
    }
}

pub(super) async fn next(fd: &AsyncFd<OwnedFd>) -> io::Result<i32> {
    loop {
        let mut ready = fd.readable().await?;
        if let Ok(signal) = ready.try_io(|fd| read_signal(fd.get_ref())) {
            return signal;
        }
    }
}

fn read_signal(fd: &OwnedFd) -> io::Result<i32> {
    // SAFETY: all-zero is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    let target: *mut libc::signalfd_siginfo = &mut info;
    // SAFETY: `target` has room for `size` bytes.
    match unsafe { libc::read(fd.as_raw_fd(), target.cast(), size) } {
        got if got == size as isize => Ok(info.ssi_signo as i32),
        _ => Err(io::Error::last_os_error()),
    }
}
