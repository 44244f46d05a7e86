//! What only the start needed is given back: freed memory, and code that will not run again.
//!
//! Code is dropped from this process alone, not from the page cache; whatever is called again is
//! mapped again. Nothing that can be written is touched: relocated tables are in other segments.

use std::time::Duration;

/// When a sidecar has settled, and between two times after that.
const FIRST: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(600);
/// What one fault maps of our code at most, and into how many mappings a segment is split at most.
const PIECE_PAGES: usize = 2;
const PIECES_MOST: usize = 2_048;

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
    each_segment(drop_segment);
}

/// Makes a page of code that is needed bring few others with it: once, before [`drop_code`].
///
/// The kernel maps the 64 KiB around a page that is touched, but never beyond the mapping it lies
/// in, and what an idle sidecar runs is strewn over all of its code. So every other piece gets a
/// flag that makes it a mapping of its own and means nothing else: not to be in a core dump, where
/// code is not anyway. Read-ahead and reclaim are as before. Measured: 6.8 MB became 4.7; pieces of
/// a page would make it 4.1, at twice the mappings, which each fork copies.
pub fn split_code() {
    each_segment(split_segment);
}

/// A segment's pages, and whether it is the program's own.
struct Segment {
    start: usize,
    end: usize,
    own: bool,
}

/// Those that are never written to, of the program and of its libraries.
fn each_segment(act: fn(&Segment)) {
    let data = (&raw const act).cast_mut().cast();
    // SAFETY: the callback gets the pointer to `act`, which outlives the call; it neither unwinds
    // nor calls the loader.
    unsafe { libc::dl_iterate_phdr(Some(each_of), data) };
}

/// For the program itself, whose name is empty, and libraries, which are files; the kernel's own
/// object is neither.
unsafe extern "C" fn each_of(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: `each_segment` passes a pointer to a function of this type.
    let act = unsafe { *data.cast::<fn(&Segment)>() };
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
        act(&Segment { start, end, own: first == 0 });
    }
    0
}

fn drop_segment(segment: &Segment) {
    let (start, length) = (segment.start, segment.end - segment.start);
    // SAFETY: a private mapping of a file that was never written to: its pages come back as they
    // were. An error changes nothing.
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

fn split_segment(segment: &Segment) {
    if !segment.own {
        return;
    }
    let page = page_size();
    let pages = (segment.end - segment.start).div_ceil(page);
    let piece = PIECE_PAGES.max(pages.div_ceil(PIECES_MOST)) * page;
    for start in (segment.start..segment.end).step_by(2 * piece) {
        let length = piece.min(segment.end - start);
        // SAFETY: changes what a core dump has of this mapping, and nothing that can be read. An
        // error (too many mappings) leaves it whole.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTDUMP) };
    }
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
    split_code();
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

    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
    }

    #[test]
    fn code_is_split_into_a_bounded_number_of_mappings_and_runs_on() {
        let before = mappings();
        split_code();
        let after = mappings();
        assert!(after > before + 100 && after < before + 4 * PIECES_MOST, "{before}, {after}");
        split_code();
        assert!(mappings() < after + 100, "twice is once");
        drop_code();
        assert_eq!(CONSTANT.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 57_344);
    }

    #[test]
    fn what_was_dropped_is_there_again_when_it_is_used() {
        let sum = || CONSTANT.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!(sum(), 57_344);
        // Other tests run meanwhile and bring pages in: one try of many shows it.
        let dropped = (0..100).any(|_| {
            let before = resident_kb();
            let_go();
            resident_kb() < before
        });
        assert!(dropped, "nothing was dropped of {} kB", resident_kb());
        assert_eq!(sum(), 57_344);
    }
}
