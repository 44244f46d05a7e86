//! Every process there is, from `/proc`, without an allocation: the guard kills by this when memory
//! is short.
//!
//! One [`Table`] has room for [`ROWS`] processes in a mapping that costs only the pages it touches.
//! A scan is no snapshot: processes fork, die and change parents while it runs. So a scan never
//! says "gone" by itself: a chain of parents that breaks is counted, and `tree` asks for two clean
//! scans.

use super::{Pid, Proc, sys};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Processes of one scan. Those beyond it are met by the next scan, when these are dead.
pub const ROWS: usize = 65_536;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    Unknown = 0,
    /// Not below the root.
    Outside,
    /// Below the root.
    Within,
    /// Below the process that is to be killed first.
    First,
    /// Below a process that is to be left alone.
    Spared,
    /// Its parent was not found: died meanwhile.
    Broken,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Row {
    pub start: u64,
    pub pid: i32,
    pub parent: i32,
    pub alive: bool,
    pub class: Class,
}

/// Whose descendants, and which of them not.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub root: i32,
    /// Processes that are themselves left alone, while their children are not; the root always is.
    pub exempt: i32,
    /// Processes that are left alone with all their descendants.
    pub spare: &'a [Proc],
    /// Killed, with its descendants, before the rest.
    pub first: Option<Proc>,
}

pub struct Table {
    rows: &'static mut [Row],
    len: usize,
    incomplete: bool,
}

impl Table {
    pub fn map() -> io::Result<Table> {
        // SAFETY: a fresh anonymous mapping, or MAP_FAILED.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                ROWS * size_of::<Row>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is ours alone, aligned, zeroed and never unmapped; all-zero is a
        // valid Row.
        let rows = unsafe { std::slice::from_raw_parts_mut(memory.cast::<Row>(), ROWS) };
        Ok(Table { rows, len: 0, incomplete: false })
    }

    /// Gives the memory back to the kernel until the next scan.
    pub fn release(&mut self) {
        self.len = 0;
        let memory = self.rows.as_mut_ptr().cast();
        // SAFETY: exactly our mapping; its pages read as zeroes afterwards, and a zeroed Row is
        // valid.
        unsafe { libc::madvise(memory, size_of_val(self.rows), libc::MADV_DONTNEED) };
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows[..self.len]
    }

    /// Something was not seen, or a chain of parents broke: the next scan knows more.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Reads every process and sorts it by `rules`. Fails when `/proc` can't be read or is not that
    /// of our namespace.
    pub fn scan(&mut self, rules: &Rules<'_>) -> io::Result<()> {
        self.len = 0;
        self.incomplete = false;
        let dir = open_proc()?;
        self.read_all(dir.as_raw_fd())?;
        let own = sys::get_pid();
        if self.find(own).is_none() {
            return Err(io::Error::other("/proc is not that of this pid namespace"));
        }
        self.classify(rules);
        Ok(())
    }

    fn read_all(&mut self, dir: RawFd) -> io::Result<()> {
        let mut buffer = Entries([0; 4_096]);
        loop {
            // SAFETY: the buffer is valid for the length given.
            let got = unsafe {
                libc::syscall(libc::SYS_getdents64, dir, buffer.0.as_mut_ptr(), buffer.0.len())
            };
            match got {
                -1 => return Err(io::Error::last_os_error()),
                0 => return Ok(()),
                got => self.read_entries(dir, &buffer.0[..got as usize]),
            }
        }
    }

    /// `entries`: packed `linux_dirent64`: inode 8, offset 8, length 2, type 1, name.
    fn read_entries(&mut self, dir: RawFd, entries: &[u8]) {
        let mut rest = entries;
        while rest.len() > 19 {
            let length = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
            if let Some(pid) = number(&rest[19..length]) {
                self.read_one(dir, pid);
            }
            rest = &rest[length..];
        }
    }

    fn read_one(&mut self, dir: RawFd, pid: i32) {
        match read_stat(dir, pid) {
            Ok(Some(row)) if self.len < self.rows.len() => {
                self.rows[self.len] = row;
                self.len += 1;
            }
            Ok(Some(_)) | Err(_) => self.incomplete = true,
            Ok(None) => {}
        }
    }

    /// `/proc` lists pids in ascending order.
    fn find(&self, pid: i32) -> Option<usize> {
        self.rows().binary_search_by_key(&pid, |row| row.pid).ok()
    }

    fn classify(&mut self, rules: &Rules<'_>) {
        for row in &mut self.rows[..self.len] {
            let is = |proc: &Proc| proc.pid.0 == row.pid && proc.start == row.start;
            row.class = if row.pid == rules.root {
                Class::Within
            } else if rules.spare.iter().any(is) {
                Class::Spared
            } else if rules.first.as_ref().is_some_and(is) {
                Class::First
            } else if row.parent == 0 {
                Class::Outside
            } else {
                Class::Unknown
            };
        }
        for index in 0..self.len {
            let class = self.class_above(index);
            self.mark_chain(index, class);
            self.incomplete |= class == Class::Broken;
        }
    }

    /// The class of the nearest process up the chain that has one.
    fn class_above(&self, from: usize) -> Class {
        let mut index = from;
        // A chain can't be longer than the table, unless reused pids made a circle of it.
        for _ in 0..=self.len {
            let row = self.rows[index];
            if row.class != Class::Unknown {
                return row.class;
            }
            match self.find(row.parent) {
                Some(above) => index = above,
                None => return Class::Broken,
            }
        }
        Class::Broken
    }

    fn mark_chain(&mut self, from: usize, class: Class) {
        let mut index = from;
        while self.rows[index].class == Class::Unknown {
            self.rows[index].class = class;
            match self.find(self.rows[index].parent) {
                Some(above) => index = above,
                None => return,
            }
        }
    }
}

/// getdents64 fills in structures that begin with 8-byte numbers.
#[repr(align(8))]
struct Entries([u8; 4_096]);

pub fn open_proc() -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a NUL-terminated path.
    sys::owned(unsafe { libc::open(c"/proc".as_ptr(), flags) })
}

/// The process `pid`, from an open `/proc`; `None` when there is none (any more).
pub fn read_stat(dir: RawFd, pid: i32) -> io::Result<Option<Row>> {
    let path = stat_path(pid);
    // SAFETY: `path` is NUL-terminated.
    let fd = unsafe { libc::openat(dir, path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd == -1 {
        return gone_or(io::Error::last_os_error());
    }
    let fd = sys::owned(fd)?;
    let mut text = [0u8; 512];
    // SAFETY: `text` is valid for the length given.
    let got = unsafe { libc::read(fd.as_raw_fd(), text.as_mut_ptr().cast(), text.len()) };
    if got == -1 {
        return gone_or(io::Error::last_os_error());
    }
    Ok(parse_stat(pid, &text[..got as usize]))
}

fn gone_or(error: io::Error) -> io::Result<Option<Row>> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Ok(None),
        Some(_) | None => Err(error),
    }
}

/// `<pid>/stat` and a NUL.
fn stat_path(pid: i32) -> [u8; 20] {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    let mut rest = pid;
    while at > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0u8; 20];
    let length = digits.len() - at;
    path[..length].copy_from_slice(&digits[at..]);
    path[length..length + 5].copy_from_slice(b"/stat");
    path
}

/// The digits up to the first NUL, as a number.
fn number(bytes: &[u8]) -> Option<i32> {
    let mut value: i32 = 0;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(i32::from(byte - b'0'))?,
            0 if index > 0 => return Some(value),
            _ => return None,
        }
    }
    None
}

/// Fields count from after the command's name, which may hold anything, `)` too: state 0, parent 1,
/// number of threads 17, start time 19 (fields 3, 4, 20 and 22 of proc(5)).
fn parse_stat(pid: i32, text: &[u8]) -> Option<Row> {
    let name_end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = text.get(name_end + 2..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let parent = unsigned(fields.next()?)? as i32;
    let threads = unsigned(fields.nth(15)?)?;
    let start = unsigned(fields.nth(1)?)?;
    // The first thread may be dead while others write on: only when it is the last one is the
    // process no more.
    let alive = !matches!(state, b'Z' | b'X' | b'x') || threads > 1;
    Some(Row { start, pid, parent, alive, class: Class::Unknown })
}

fn unsigned(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Sends `signal` to exactly this process, never to one that got its pid since. Whether it was
/// sent.
pub fn signal_exactly(dir: RawFd, target: Proc, signal: i32) -> bool {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, target.pid.0, 0) } as RawFd;
    let Ok(fd) = sys::owned(fd) else {
        // Kernels before 5.3. The check and the kill are two steps there; a pid is not reused
        // within microseconds.
        let old_kernel = sys::errno() == libc::ENOSYS && is_same(dir, target);
        if old_kernel {
            sys::kill(target.pid.0, signal);
        }
        return old_kernel;
    };
    // The descriptor was opened first: if the pid still has this start time now, the descriptor
    // means this process.
    if !is_same(dir, target) {
        return false;
    }
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for the same as kill().
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, none, 0) == 0 }
}

fn is_same(dir: RawFd, target: Proc) -> bool {
    matches!(read_stat(dir, target.pid.0), Ok(Some(row)) if row.start == target.start)
}

/// The start time of a child of ours that we have not reaped.
pub fn start_time(pid: Pid) -> io::Result<Option<u64>> {
    let dir = open_proc()?;
    Ok(read_stat(dir.as_raw_fd(), pid.0)?.map(|row| row.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: i32, parent: i32) -> Row {
        Row { start: pid as u64, pid, parent, alive: true, class: Class::Unknown }
    }

    fn proc(pid: i32) -> Proc {
        Proc { pid: Pid(pid), start: pid as u64 }
    }

    fn classes(rows: &[Row], rules: &Rules<'_>) -> (Vec<Class>, bool) {
        let mut table = Table::map().expect("memory");
        table.rows[..rows.len()].copy_from_slice(rows);
        table.len = rows.len();
        table.classify(rules);
        (table.rows().iter().map(|row| row.class).collect(), table.incomplete)
    }

    #[test]
    fn a_name_full_of_parentheses_and_spaces_is_parsed() {
        let text = b"42 (a) b) R 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 123456 99 0 184";
        let row = parse_stat(42, text).expect("parses");
        assert_eq!((row.pid, row.parent, row.start, row.alive), (42, 7, 123_456, true));
    }

    #[test]
    fn a_zombie_with_living_threads_is_alive() {
        let zombie = |threads: u32| {
            let text = format!("42 (a) Z 7 4 4 0 -1 4 1 0 0 0 0 0 0 0 20 0 {threads} 0 12 0");
            parse_stat(42, text.as_bytes()).expect("parses").alive
        };
        assert!(!zombie(1));
        assert!(zombie(2));
    }

    #[test]
    fn spared_trees_and_foreign_processes_are_told_apart() {
        // 1 is the namespace's first process; 10 the root; 11 below it; 20 a job with a child 21;
        // 30 is foreign.
        let rows =
            [row(1, 0), row(10, 1), row(11, 10), row(12, 11), row(20, 11), row(21, 20), row(30, 1)];
        let spare = [proc(20)];
        let rules = Rules { root: 10, exempt: 11, spare: &spare, first: Some(proc(12)) };
        use Class::{First, Outside, Spared, Within};
        let expected = vec![Outside, Within, Within, First, Spared, Spared, Outside];
        assert_eq!(classes(&rows, &rules), (expected, false));
    }

    #[test]
    fn a_reused_pid_is_not_spared() {
        let rows = [row(1, 0), row(10, 1), row(20, 10)];
        let spare = [Proc { pid: Pid(20), start: 19 }];
        let rules = Rules { root: 10, exempt: 0, spare: &spare, first: None };
        assert_eq!(classes(&rows, &rules).0[2], Class::Within);
    }

    #[test]
    fn a_broken_chain_and_a_circle_are_incomplete() {
        let broken = [row(1, 0), row(10, 1), row(12, 11)];
        let rules = Rules { root: 10, exempt: 0, spare: &[], first: None };
        assert!(classes(&broken, &rules).1);
        let circle = [row(1, 0), row(10, 1), row(12, 13), row(13, 12)];
        assert!(classes(&circle, &rules).1);
    }

    #[test]
    fn this_process_is_found_with_its_start_time() {
        let own = sys::get_pid();
        let start = start_time(Pid(own)).expect("/proc").expect("we are alive");
        let mut table = Table::map().expect("memory");
        let rules = Rules { root: own, exempt: 0, spare: &[], first: None };
        table.scan(&rules).expect("/proc");
        let found = table.find(own).map(|index| table.rows()[index].start);
        assert_eq!(found, Some(start));
    }
}
