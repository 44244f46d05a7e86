//! The one page that the sidecar and the guard share: plain atomics, because either may stop or die
//! at any instruction.
//!
//! Each field has one writer. There is no lock and no sequence counter: a sidecar that is stopped
//! halfway through a change must not keep the guard from killing. What makes that safe: the guard
//! kills everything that is not listed as a job, so a torn entry can only lead to killing too much;
//! `kill_at` is written before `armed`, both before `generation`, and read in the opposite order.

use super::{Pid, Proc};
use crate::decide::time::At;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Release};

/// Jobs whose trees a fence spares. A job beyond this is not spared.
pub const MAX_JOBS: usize = 64;

/// A process, or none while `pid` is 0.
#[derive(Default)]
pub struct Slot {
    pid: AtomicI32,
    start: AtomicU64,
}

impl Slot {
    pub fn set(&self, value: Option<Proc>) {
        self.pid.store(0, Release);
        if let Some(value) = value {
            self.start.store(value.start, Release);
            self.pid.store(value.pid.0, Release);
        }
    }

    pub fn get(&self) -> Option<Proc> {
        let pid = self.pid.load(Acquire);
        (pid > 0).then(|| Proc { pid: Pid(pid), start: self.start.load(Acquire) })
    }
}

#[repr(C)]
pub struct Page {
    // Written by the sidecar.
    generation: AtomicU64,
    armed: AtomicU32,
    leaving: AtomicU32,
    kill_at: AtomicU64,
    fences_asked: AtomicU64,
    pub app: Slot,
    pub promote: Slot,
    pub jobs: [Slot; MAX_JOBS],
    // Written by the guard.
    acked: AtomicU64,
    firing: AtomicU64,
    fired: AtomicU64,
    fences_done: AtomicU64,
}

/// What the guard has to go by, read in one go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orders {
    pub generation: u64,
    /// Kill at this time; `None` while disarmed.
    pub kill_at: Option<At>,
    pub fences_asked: u64,
}

impl Page {
    /// A new page, zeroed (disarmed), shared with every process forked from here on. It is never
    /// unmapped.
    pub fn map() -> io::Result<&'static Page> {
        // SAFETY: a fresh anonymous mapping of at least the size asked for, or MAP_FAILED.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: mapped above for the life of the process, page-aligned, zeroed; zero is valid for
        // every atomic.
        Ok(unsafe { &*memory.cast::<Page>() })
    }

    // The sidecar's side.

    /// Arms for `app`; returns the generation to wait for.
    pub fn arm(&self, app: Proc, kill_at: At) -> u64 {
        self.app.set(Some(app));
        self.kill_at.store(kill_at.0, Release);
        self.armed.store(1, Release);
        self.next_generation()
    }

    pub fn set_kill_at(&self, kill_at: At) {
        self.kill_at.store(kill_at.0, Release);
    }

    pub fn kill_at(&self) -> At {
        At(self.kill_at.load(Acquire))
    }

    pub fn disarm(&self) {
        self.armed.store(0, Release);
    }

    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Release) + 1
    }

    pub fn ask_fence(&self) -> u64 {
        self.fences_asked.fetch_add(1, Release) + 1
    }

    /// The sidecar's exit from here on is meant, and its exit code is the answer.
    pub fn announce_leaving(&self) {
        self.leaving.store(1, Release);
    }

    pub fn acked(&self) -> u64 {
        self.acked.load(Acquire)
    }

    pub fn firing(&self) -> u64 {
        self.firing.load(Acquire)
    }

    pub fn fired(&self) -> u64 {
        self.fired.load(Acquire)
    }

    pub fn fences_done(&self) -> u64 {
        self.fences_done.load(Acquire)
    }

    // The guard's side.

    pub fn orders(&self) -> Orders {
        let generation = self.generation.load(Acquire);
        let armed = self.armed.load(Acquire) == 1;
        Orders {
            generation,
            kill_at: armed.then(|| self.kill_at()),
            fences_asked: self.fences_asked.load(Acquire),
        }
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Acquire) == 1
    }

    pub fn ack(&self, generation: u64) {
        self.acked.store(generation, Release);
    }

    pub fn set_firing(&self, generation: u64) {
        self.firing.store(generation, Release);
    }

    pub fn set_fired(&self, generation: u64) {
        self.fired.store(generation, Release);
    }

    pub fn set_fences_done(&self, count: u64) {
        self.fences_done.store(count, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_follow_arm_extend_disarm() {
        let page = Page::map().expect("an anonymous page");
        assert_eq!(page.orders(), Orders { generation: 0, kill_at: None, fences_asked: 0 });
        let app = Proc { pid: Pid(7), start: 99 };
        let generation = page.arm(app, At(1_000));
        assert_eq!(page.app.get(), Some(app));
        assert_eq!(page.orders(), Orders { generation, kill_at: Some(At(1_000)), fences_asked: 0 });
        page.set_kill_at(At(2_000));
        assert_eq!(page.orders().kill_at, Some(At(2_000)));
        page.disarm();
        assert_eq!(page.orders().kill_at, None);
    }
}
