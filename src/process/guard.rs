//! The guard: the parent of the sidecar, which kills the application when its time is over.
//!
//! [`split`] forks before any thread, runtime or open connection exists. The parent stays in
//! [`Guard::watch`] for ever: it sleeps in `poll` until a signal, a poke of the sidecar or the time
//! to kill comes. It forwards every signal, reaps every orphan, and leaves with the sidecar's exit
//! code.
//!
//! It kills the application's tree when the time in the shared page comes while armed, when the
//! sidecar asks, and at once when the sidecar ends without having announced it (then it exits 137).
//! The invariant: nothing here waits for the sidecar, and after `split` nothing here allocates, so
//! that neither a stopped sidecar nor a lack of memory delays a kill. It must not decide anything
//! else: no leases, no roles.

use super::link::GuardLink;
use super::page::{MAX_JOBS, Orders, Page};
use super::scan::Rules;
use super::tree::{self, Killer, Progress};
use super::{Exit, Pid, Proc, clock, slim, sys};
use crate::decide::guard::is_due;
use crate::decide::time::At;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The exit code of a guard whose sidecar died: 128 + SIGKILL, whatever it died of.
pub const SIDECAR_DIED: i32 = 137;

/// After the sidecar's end the guard goes on killing for this long, then leaves a tree that SIGKILL
/// cannot end (a process in uninterruptible sleep) to the kernel: every process has got its SIGKILL
/// by then.
const LAST_KILL_LIMIT_MS: u64 = 10_000;

/// Forks. Returns in the child, the sidecar; the parent becomes the guard and never returns.
///
/// Call it first thing in `main`: it refuses to fork a process that has threads. All signals are
/// blocked afterwards; `signals::Signals` and `Children` receive them.
pub fn split() -> io::Result<GuardLink> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("the guard has to be forked before any thread is started"));
    }
    slim::one_heap();
    // Both processes get what the start has left.
    slim::free_heap();
    let page = Page::map()?;
    let poke = sys::event_fd()?;
    let (news, notify) = sys::pipe()?;
    sys::block(&sys::every_signal());
    let guard_pid = sys::get_pid();
    if guard_pid != 1 {
        sys::become_subreaper()?;
    }
    // SAFETY: there is one thread, so the child may do anything that the parent may.
    match sys::check(unsafe { libc::fork() })? {
        0 => {
            drop(notify);
            sys::become_subreaper()?;
            Ok(GuardLink::new(page, poke, news, Pid(guard_pid)))
        }
        sidecar => {
            drop(news);
            sys::set_name(c"lictor-guard");
            sys::run_first();
            match Guard::new(page, poke, notify, sidecar) {
                Ok(mut guard) => {
                    slim::drop_code();
                    sys::leave(guard.watch())
                }
                Err(_) => {
                    sys::kill(sidecar, libc::SIGKILL);
                    sys::leave(SIDECAR_DIED)
                }
            }
        }
    }
}

/// Why the guard is killing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killing {
    No,
    /// The time of this generation came, or the sidecar asked for the fence of this number.
    Tree {
        generation: u64,
        fence: u64,
    },
}

struct Guard {
    page: &'static Page,
    sidecar: i32,
    poke: OwnedFd,
    notify: OwnedFd,
    signals: OwnedFd,
    timer: OwnedFd,
    killer: Killer,
    killing: Killing,
    sidecar_end: Option<Exit>,
}

impl Guard {
    fn new(page: &'static Page, poke: OwnedFd, notify: OwnedFd, sidecar: i32) -> io::Result<Guard> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers.
        let timer = sys::owned(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, flags) })?;
        Ok(Guard {
            page,
            sidecar,
            poke,
            notify,
            signals: sys::signal_fd(&sys::every_signal())?,
            timer,
            killer: Killer::new()?,
            killing: Killing::No,
            sidecar_end: None,
        })
    }

    /// Returns the exit code once the sidecar has ended and everything below is gone.
    fn watch(&mut self) -> i32 {
        loop {
            self.wait();
            self.take_signals();
            drain(self.poke.as_raw_fd());
            drain(self.timer.as_raw_fd());
            self.reap();
            if let Some(end) = self.sidecar_end {
                return self.after_sidecar(end);
            }
            self.obey(self.page.orders());
            self.kill_on();
        }
    }

    /// Sleeps until something happens; while killing, at most until the next pass.
    fn wait(&mut self) {
        let timeout = match self.killing {
            Killing::No => -1,
            Killing::Tree { .. } => self.killer.pause_ms() as i32,
        };
        let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [
            entry(self.signals.as_raw_fd()),
            entry(self.poke.as_raw_fd()),
            entry(self.timer.as_raw_fd()),
        ];
        // SAFETY: three valid entries. An interrupted or failed poll only means one more round.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
    }

    fn take_signals(&mut self) {
        // SAFETY: all-zero is a valid signalfd_siginfo.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        let target: *mut libc::signalfd_siginfo = &mut info;
        // SAFETY: `target` has room for `size` bytes, and nothing else refers to `info` during the
        // call.
        while unsafe { libc::read(self.signals.as_raw_fd(), target.cast(), size) } == size as isize
        {
            // SAFETY: filled in by the read above.
            let (signal, code) = unsafe { ((*target).ssi_signo as i32, (*target).ssi_code) };
            let our_own_pipe = signal == libc::SIGPIPE && code > 0;
            if signal != libc::SIGCHLD && !our_own_pipe {
                sys::kill(self.sidecar, signal);
            }
        }
    }

    fn reap(&mut self) {
        while let sys::Reaped::Ended { pid, status } = sys::reap() {
            if pid == self.sidecar {
                self.sidecar_end = Some(Exit::from_status(status));
            }
        }
    }

    fn obey(&mut self, orders: Orders) {
        let now = clock::now();
        let due = orders.kill_at.is_some_and(|at| is_due(at, now))
            && orders.generation != self.page.fired()
            && orders.generation != self.page.firing();
        let asked = orders.fences_asked != self.page.fences_done();
        let new_fence = match self.killing {
            Killing::No => asked,
            Killing::Tree { fence, .. } => asked && fence != orders.fences_asked,
        };
        if due || new_fence {
            self.start_killing(orders, due);
        }
        if let Some(at) = orders.kill_at {
            self.set_timer(at);
        }
        if orders.generation != self.page.acked() {
            self.page.ack(orders.generation);
            self.tell();
        }
    }

    fn start_killing(&mut self, orders: Orders, due: bool) {
        let generation = if due { orders.generation } else { self.page.firing() };
        self.killer.restart();
        self.killing = Killing::Tree { generation, fence: orders.fences_asked };
        self.page.set_firing(generation);
    }

    /// One pass, if a kill is under way.
    fn kill_on(&mut self) {
        let Killing::Tree { generation, fence } = self.killing else { return };
        let mut spare = [Proc { pid: Pid(0), start: 0 }; MAX_JOBS];
        let rules = self.rules(&mut spare);
        match self.killer.pass(&rules) {
            Ok(Progress::Gone) => {
                self.killer.restart();
                self.killing = Killing::No;
                self.page.set_fired(generation);
                self.page.set_fences_done(fence);
                self.tell();
            }
            Ok(Progress::Left(_) | Progress::Perhaps) => {}
            Err(_) => self.kill_blind(),
        }
    }

    fn rules<'a>(&self, spare: &'a mut [Proc; MAX_JOBS]) -> Rules<'a> {
        let mut count = 0;
        for job in self.page.jobs.iter().filter_map(|slot| slot.get()) {
            spare[count] = job;
            count += 1;
        }
        let first = self.page.promote.get();
        Rules { root: sys::get_pid(), exempt: self.sidecar, spare: &spare[..count], first }
    }

    /// `/proc` can't be read. As PID 1 our end is everybody's end; else what is known of the
    /// application is killed.
    fn kill_blind(&self) {
        if sys::get_pid() == 1 {
            sys::leave(SIDECAR_DIED);
        }
        for proc in [self.page.promote.get(), self.page.app.get()].into_iter().flatten() {
            sys::kill(-proc.pid.0, libc::SIGKILL);
            sys::kill(proc.pid.0, libc::SIGKILL);
        }
    }

    fn set_timer(&self, at: At) {
        // A zero value would disarm the timer: in its place comes the first instant after boot.
        let at = At(at.0.max(1));
        let value = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(at.0 / 1_000).unwrap_or(libc::time_t::MAX),
                tv_nsec: (at.0 % 1_000 * 1_000_000) as libc::c_long,
            },
        };
        // A time that was killed for already would wake us in a circle.
        if at > clock::now() {
            let flags = libc::TFD_TIMER_ABSTIME;
            let old = std::ptr::null_mut();
            // SAFETY: `value` is valid, the old value is not asked for.
            unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), flags, &value, old) };
        }
    }

    /// Wakes the sidecar. A full pipe is as good: it has not read yet.
    fn tell(&self) {
        // SAFETY: one byte from a static.
        unsafe { libc::write(self.notify.as_raw_fd(), b"!".as_ptr().cast(), 1) };
    }

    /// Ends whatever the sidecar has left, and says with which code to leave.
    fn after_sidecar(&mut self, end: Exit) -> i32 {
        let code = match end {
            Exit::Code(code) if self.page.is_leaving() => code,
            Exit::Code(_) | Exit::Signal(_) => SIDECAR_DIED,
        };
        if !matches!(sys::reap(), sys::Reaped::NoChildren) {
            let first = self.page.promote.get();
            let rules = Rules { root: sys::get_pid(), exempt: 0, spare: &[], first };
            tree::kill_blocking(&mut self.killer, &rules, LAST_KILL_LIMIT_MS);
        }
        code
    }
}

/// Empties an eventfd or timerfd.
fn drain(fd: RawFd) {
    let mut count = 0u64;
    let target: *mut u64 = &mut count;
    // SAFETY: room for the eight bytes that both kinds of descriptor give; they don't block.
    unsafe { libc::read(fd, target.cast(), 8) };
}
