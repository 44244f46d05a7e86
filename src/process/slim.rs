//! What only the start needed is given back: freed memory, and code that will not run again.
//!
//! Code is dropped from this process alone, not from the page cache; whatever is called again is
//! mapped again. Nothing that can be written is touched: relocated tables are in other segments.

use std::time::Duration;

/// When a sidecar has settled, and between two times after that.
const FIRST: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(600);

/// One heap for all threads: the few that there are beside the first allocate next to nothing, and
/// each would get one of its own. Call it before there are any.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives freed memory back to the system.
pub fn free_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; it takes the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Drops the mapped pages of our own code and constants. No allocation.
pub fn drop_code() {
    // SAFETY: the callback below neither unwinds nor calls the loader.
    unsafe { libc::dl_iterate_phdr(Some(drop_segments), std::ptr::null_mut()) };
}

/// For the program itself, whose name is empty, and libraries, which are files; the kernel's own
/// object is neither.
unsafe extern "C" fn drop_segments(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a valid object.
    let object = unsafe { &*object };
    // SAFETY: a NUL-terminated string, if it is there.
    let first = if object.dlpi_name.is_null() { 0 } else { unsafe { *object.dlpi_name } };
    if object.dlpi_phdr.is_null() || (first != 0 && first as u8 != b'/') {
        return 0;
    }
    let count = usize::from(object.dlpi_phnum);
    // SAFETY: the object's program headers, which stay as long as it is loaded.
    let segments = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, count) };
    let page = page_size();
    for segment in segments {
        if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        let from = (object.dlpi_addr + segment.p_vaddr) as usize;
        let start = from / page * page;
        let end = (from + segment.p_memsz as usize).div_ceil(page) * page;
        // SAFETY: a private mapping of a file that was never written to: its pages come back as
        // they were. An error changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
    0
}

fn page_size() -> usize {
    // SAFETY: no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4_096).max(1)
}

/// Both, now.
pub fn let_go() {
    free_heap();
    drop_code();
}

/// Both, when the start is over, and now and then for what ran since.
pub async fn stay_slim() {
    tokio::time::sleep(FIRST).await;
    loop {
        let_go();
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: [u8; 8_192] = [7; 8_192];

    fn resident_kb() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss_File:"));
        line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    #[test]
    fn what_was_dropped_is_there_again_when_it_is_used() {
        let sum = || CONSTANT.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!(sum(), 57_344);
        let before = resident_kb();
        let_go();
        assert!(resident_kb() < before, "nothing was dropped of {before} kB");
        assert_eq!(sum(), 57_344);
    }
}
