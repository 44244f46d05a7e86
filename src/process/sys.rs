//! Thin, allocation-free calls that the guard, a contained child and the sidecar share.
//!
//! Everything here may be called between `fork` and `exec`. Nothing in here decides.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::{Interest, unix::AsyncFd};

/// Turns the -1 of a system call into the error it stands for.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Signals that a fault in our own code raises. They stay unblocked: blocked, the kernel would kill
/// without a core.
const FAULTS: [i32; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

/// Every signal but our own faults; the kernel leaves SIGKILL and SIGSTOP out by itself.
pub fn every_signal() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is valid memory; sigfillset initialises it, sigdelset only
    // clears bits.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for fault in FAULTS {
            libc::sigdelset(&mut set, fault);
        }
        set
    }
}

pub fn only(signal: i32) -> libc::sigset_t {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        set
    }
}

pub fn block(set: &libc::sigset_t) {
    // SAFETY: `set` is valid, the old mask is not asked for. Fails only for an unknown first
    // argument.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
}

/// Default dispositions and nothing blocked: what a program expects to be started with.
pub fn reset_signals() {
    // SAFETY: signal() with SIG_DFL installs no handler; for SIGKILL, SIGSTOP and glibc's own it
    // fails harmlessly.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

pub fn signal_fd(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: `set` is valid; -1 asks for a new descriptor.
    owned(unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })
}

pub fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

pub fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A pipe whose ends don't block and don't survive an exec: (read, write).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

/// As programs expect their standard input to be.
pub fn make_blocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers. The only flag that `pipe` has set is the one to clear.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, 0) }).map(drop)
}

pub fn get_pid() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getpid() }
}

pub fn get_parent() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getppid() }
}

/// Orphans below us become our children instead of the pid namespace's first process's.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The kernel sends us SIGKILL when the thread that forked us ends. A change of user clears it.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }).map(drop)
}

/// Runs before ordinary processes whenever it has anything to do, where the system allows it: real
/// time at its lowest, else the best nice value. Not passed on to children.
pub fn run_first() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` is valid; the second call has no pointers.
    unsafe {
        if libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &lowest) == -1 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
    }
}

/// Shown by `ps`; at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: a NUL-terminated string; the kernel copies up to 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process without running destructors, which is what is wanted.
    unsafe { libc::_exit(code) }
}

/// Sends `signal`; a process that is no more is no error to any caller.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, signal) };
}

/// What `waitpid(-1, WNOHANG)` has to say.
pub enum Reaped {
    Ended {
        pid: i32,
        status: i32,
    },
    /// There are children, all of them running.
    Running,
    /// There is no child at all, so no descendant either: we are a subreaper.
    NoChildren,
}

pub fn reap() -> Reaped {
    wait_any(libc::WNOHANG)
}

/// With `flags` 0 it blocks until a child has ended.
pub fn wait_any(flags: i32) -> Reaped {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, flags | libc::__WALL) };
        match pid {
            0 => return Reaped::Running,
            -1 if errno() == libc::EINTR => {}
            -1 => return Reaped::NoChildren,
            pid => return Reaped::Ended { pid, status },
        }
    }
}

pub fn pause(millis: u64) {
    let time = libc::timespec {
        tv_sec: (millis / 1_000) as libc::time_t,
        tv_nsec: ((millis % 1_000) * 1_000_000) as libc::c_long,
    };
    // SAFETY: `time` is valid; the remainder is not asked for.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

/// The calling thread alone gets less of the processors where others want them: for work that can
/// wait. Best effort.
pub fn step_back() {
    const NICE: libc::c_int = 10;
    // SAFETY: no memory is passed; 0 is the calling thread on Linux.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Registers with the runtime's event loop, inside of which it has to be called.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is the same open descriptor for as long as it lives, and nobody gets it
    // out mutably.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
