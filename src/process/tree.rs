//! The certain end of a whole tree: SIGSTOP and SIGKILL, again and again, until nothing is left to
//! find.
//!
//! Stopping first keeps a tree from growing behind the scan. One pass is short (a scan of `/proc`
//! and a few calls a process), so the sidecar's one thread makes passes between other work, and the
//! guard between polls.
//!
//! The invariant: [`Progress::Gone`] comes only after two complete scans in a row without a living
//! process. The pass never touches a process that it has not just seen below the root with that
//! start time.

use super::scan::{self, Class, Rules, Table};
use super::{Pid, Proc, sys};
use std::io;
use std::os::fd::AsRawFd;

/// Between two passes: at first short, since most trees are gone at once; later a busy exit gets
/// the processor.
pub const FIRST_PAUSE_MS: u64 = 1;
pub const LAST_PAUSE_MS: u64 = 20;

/// A process that forks once between our two looks is seen by the second.
pub(super) const CLEAN_SCANS: u32 = 2;

/// After so many passes: 1 ms for the first sixteen, for a tree that forks faster than we look is
/// only caught by looking often; then twice as long after each sixteen, up to [`LAST_PAUSE_MS`].
pub fn pause_ms(passes: u64) -> u64 {
    (FIRST_PAUSE_MS << (passes / 16).min(6)).min(LAST_PAUSE_MS)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// This many were alive when the pass looked.
    Left(usize),
    /// Nothing was seen, once; the next pass makes sure.
    Perhaps,
    Gone,
}

/// One kill in progress. Each call of [`Killer::pass`] does a short piece of it.
pub struct Killer {
    table: Table,
    clean: u32,
    passes: u64,
}

impl Killer {
    pub fn new() -> io::Result<Killer> {
        Ok(Killer { table: Table::map()?, clean: 0, passes: 0 })
    }

    /// Forgets what earlier passes saw.
    pub fn restart(&mut self) {
        self.clean = 0;
        self.passes = 0;
        self.table.release();
    }

    /// How long to wait until the next pass, in milliseconds.
    pub fn pause_ms(&self) -> u64 {
        pause_ms(self.passes)
    }

    /// Looks at every process and kills what `rules` name: `first` before the rest, a stop before
    /// each kill.
    pub fn pass(&mut self, rules: &Rules<'_>) -> io::Result<Progress> {
        self.passes += 1;
        self.table.scan(rules)?;
        let dir = scan::open_proc()?;
        for class in [Class::First, Class::Within] {
            for signal in [libc::SIGSTOP, libc::SIGKILL] {
                for target in targets(&self.table, rules, class) {
                    scan::signal_exactly(dir.as_raw_fd(), target, signal);
                }
            }
        }
        Ok(self.judge(rules))
    }

    /// Only looks: how many are alive.
    pub fn count(&mut self, rules: &Rules<'_>) -> io::Result<usize> {
        self.table.scan(rules)?;
        Ok(self.left(rules))
    }

    /// Sends `signal` once to every process that `rules` name.
    pub fn signal(&mut self, rules: &Rules<'_>, signal: i32) -> io::Result<usize> {
        self.table.scan(rules)?;
        let dir = scan::open_proc()?;
        let mut sent = 0;
        for class in [Class::First, Class::Within] {
            for target in targets(&self.table, rules, class) {
                sent += usize::from(scan::signal_exactly(dir.as_raw_fd(), target, signal));
            }
        }
        Ok(sent)
    }

    fn left(&self, rules: &Rules<'_>) -> usize {
        let of = |class| targets(&self.table, rules, class).count();
        of(Class::First) + of(Class::Within)
    }

    fn judge(&mut self, rules: &Rules<'_>) -> Progress {
        let left = self.left(rules);
        if left > 0 || self.table.is_incomplete() {
            self.clean = 0;
            return Progress::Left(left);
        }
        self.clean += 1;
        if self.clean >= CLEAN_SCANS { Progress::Gone } else { Progress::Perhaps }
    }
}

fn targets<'a>(
    table: &'a Table,
    rules: &'a Rules<'a>,
    class: Class,
) -> impl Iterator<Item = Proc> + 'a {
    table
        .rows()
        .iter()
        .filter(move |row| row.class == class && row.alive)
        .filter(move |row| row.pid != rules.root && row.pid != rules.exempt)
        .map(|row| Proc { pid: Pid(row.pid), start: row.start })
}

/// Kills everything below `rules.root`, reaping what becomes our child, until it is gone or
/// `limit_ms` have passed. Blocks: only for a process that has nothing else left to do. Whether all
/// is gone.
pub fn kill_blocking(killer: &mut Killer, rules: &Rules<'_>, limit_ms: u64) -> bool {
    killer.restart();
    let mut waited = 0;
    loop {
        let progress = killer.pass(rules);
        while let sys::Reaped::Ended { .. } = sys::reap() {}
        match progress {
            Ok(Progress::Gone) => return true,
            Ok(Progress::Perhaps) => {}
            Ok(Progress::Left(_)) | Err(_) => {
                sys::pause(killer.pause_ms());
                waited += killer.pause_ms();
            }
        }
        if waited >= limit_ms {
            return false;
        }
    }
}

/// The living processes below `root`, itself not included. For tests and for `status`.
pub fn descendants(root: Pid) -> io::Result<Vec<Proc>> {
    let mut table = Table::map()?;
    let rules = Rules { root: root.0, exempt: 0, spare: &[], first: None };
    table.scan(&rules)?;
    Ok(targets(&table, &rules, Class::Within).collect())
}
