//! The sidecar's end of the guard: arm, extend, shorten, disarm, and news of what the guard did.
//!
//! [`GuardLink`] is what `guard::split` returns; inside the runtime it becomes a [`Guard`], which
//! may be cloned. Its task notices the guard's death: then nothing would fence us any more, so it
//! kills the tree at once and leaves with 137.
//!
//! The invariant: an order takes effect for certain only when the guard has acknowledged its
//! generation. Nothing here decides when to arm or what time to give.

use super::guard::SIDECAR_DIED;
use super::page::Page;
use super::scan::Rules;
use super::tree::{self, Killer};
use super::{Pid, Proc, sys};
use crate::decide::time::{At, Span};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How long the sidecar goes on killing after the guard's death before it leaves in any case.
const LAST_KILL_LIMIT_MS: u64 = 10_000;

/// The number of an order to the guard; it only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u64);

/// The sidecar's end before there is a runtime.
pub struct GuardLink {
    page: &'static Page,
    poke: OwnedFd,
    news: OwnedFd,
    guard: Pid,
}

impl GuardLink {
    pub(super) fn new(page: &'static Page, poke: OwnedFd, news: OwnedFd, guard: Pid) -> GuardLink {
        GuardLink { page, poke, news, guard }
    }

    /// Starts to listen to the guard. Call it inside the runtime.
    pub fn start(self) -> io::Result<Guard> {
        let killer = Killer::new()?;
        let news = sys::watch(self.news)?;
        let (told, listen) = watch::channel(());
        tokio::spawn(listen_to_guard(news, told, killer));
        Ok(Guard(Arc::new(Inner { page: self.page, poke: self.poke, pid: self.guard, listen })))
    }
}

/// The sidecar's end inside the runtime. Only the driver gives orders; anybody may ask.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    page: &'static Page,
    poke: OwnedFd,
    pid: Pid,
    listen: watch::Receiver<()>,
}

impl Guard {
    pub fn pid(&self) -> Pid {
        self.0.pid
    }

    /// From now on the guard kills `app`'s tree at `kill_at` (the caller has taken K off), whatever
    /// the sidecar does.
    pub fn arm(&self, app: Proc, kill_at: At) -> Generation {
        let generation = self.0.page.arm(app, kill_at);
        self.poke();
        Generation(generation)
    }

    /// A later time. Needs no acknowledgement: until the guard has seen it, it goes by the earlier
    /// one.
    pub fn extend(&self, kill_at: At) {
        if kill_at > self.0.page.kill_at() {
            self.0.page.set_kill_at(kill_at);
        }
    }

    /// An earlier time. In force for certain once the generation is acknowledged.
    pub fn shorten(&self, kill_at: At) -> Generation {
        if kill_at < self.0.page.kill_at() {
            self.0.page.set_kill_at(kill_at);
        }
        let generation = self.0.page.next_generation();
        self.poke();
        Generation(generation)
    }

    /// No time holds any more: the application refuses writes, or its tree is gone.
    pub fn disarm(&self) {
        self.0.page.disarm();
        self.poke();
    }

    /// The promote hook that runs now; its tree is killed before the application.
    pub fn set_promote_hook(&self, hook: Option<Proc>) {
        self.0.page.promote.set(hook);
    }

    /// A fence spares this job's tree. False when the table is full: the job is then not spared.
    pub fn add_job(&self, job: Proc) -> bool {
        let free = self.0.page.jobs.iter().find(|slot| slot.get().is_none());
        if let Some(slot) = free {
            slot.set(Some(job));
        }
        free.is_some()
    }

    pub fn remove_job(&self, job: Proc) {
        for slot in self.0.page.jobs.iter().filter(|slot| slot.get() == Some(job)) {
            slot.set(None);
        }
    }

    /// The guard sleeps until the time of this order or of a later one.
    pub fn acked(&self, generation: Generation) -> bool {
        self.0.page.acked() >= generation.0
    }

    /// Waits for the acknowledgement; false after `limit`, or when the guard is dead.
    pub async fn wait_acked(&self, generation: Generation, limit: Span) -> bool {
        self.wait_until(limit, || self.acked(generation)).await
    }

    /// The last generation whose time came, with everything killed; 0 = none.
    pub fn fired(&self) -> Generation {
        Generation(self.0.page.fired())
    }

    /// A kill has begun and is not over: start nothing now, it would be killed too.
    pub fn is_firing(&self) -> bool {
        self.0.page.firing() > self.0.page.fired()
    }

    /// Resolves when the guard has news: an acknowledgement or a kill. Then ask.
    pub async fn news(&self) {
        let mut listen = self.0.listen.clone();
        listen.mark_unchanged();
        // An error means that the listening task is gone, which only happens as the process ends.
        if listen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Has the guard kill the application's tree now. False after `limit`: it is not gone yet.
    pub async fn fence_now(&self, limit: Span) -> bool {
        let number = self.0.page.ask_fence();
        self.poke();
        self.wait_until(limit, || self.0.page.fences_done() >= number).await
    }

    /// The sidecar's exit from here on is meant: the guard passes its exit code on.
    pub fn announce_leaving(&self) {
        self.0.page.announce_leaving();
    }

    async fn wait_until(&self, limit: Span, done: impl Fn() -> bool) -> bool {
        let mut listen = self.0.listen.clone();
        let wait = async {
            loop {
                listen.mark_unchanged();
                if done() {
                    return true;
                }
                if listen.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit.to_std(), wait).await.unwrap_or_else(|_| done())
    }

    fn poke(&self) {
        // SAFETY: eight bytes from a local; an eventfd takes them. A full counter has been poked
        // already.
        unsafe {
            let one = 1u64.to_ne_bytes();
            libc::write(self.0.poke.as_raw_fd(), one.as_ptr().cast(), one.len())
        };
    }
}

/// Passes news on; when the pipe is closed the guard is dead.
async fn listen_to_guard(news: AsyncFd<OwnedFd>, told: watch::Sender<()>, mut killer: Killer) {
    loop {
        let Ok(mut ready) = news.readable().await else { return };
        match ready.try_io(|fd| read_news(fd.get_ref())) {
            Ok(Ok(0)) | Ok(Err(_)) => break,
            Ok(Ok(_)) => {
                told.send_replace(());
            }
            Err(_would_block) => {}
        }
    }
    sys::run_first();
    let rules = Rules { root: sys::get_pid(), exempt: 0, spare: &[], first: None };
    tree::kill_blocking(&mut killer, &rules, LAST_KILL_LIMIT_MS);
    sys::leave(SIDECAR_DIED)
}

fn read_news(fd: &OwnedFd) -> io::Result<usize> {
    let mut bytes = [0u8; 64];
    // SAFETY: `bytes` is valid for its length.
    let got = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}
