//! What this process costs, from /proc: memory only, no disk is touched.

use std::fs;

/// Of the sidecar; the guard is another process, and so are hooks and the application.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Cost {
    pub resident_bytes: u64,
    pub open_files: u64,
    pub cpu_seconds: f64,
}

/// What can't be read is zero.
pub(super) fn cost() -> Cost {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    // The open directory is one of them.
    let files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() - 1);
    Cost {
        resident_bytes: resident.unwrap_or(0) * size(nix::unistd::SysconfVar::PAGE_SIZE, 4_096),
        open_files: u64::try_from(files).unwrap_or(u64::MAX),
        cpu_seconds: ticks(&stat) as f64 / size(nix::unistd::SysconfVar::CLK_TCK, 100) as f64,
    }
}

fn size(what: nix::unistd::SysconfVar, usual: u64) -> u64 {
    let known = nix::unistd::sysconf(what).ok().flatten();
    known.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(usual)
}

/// User and system time of /proc/PID/stat: fields 14 and 15, counted after the name, which may hold
/// anything.
fn ticks(stat: &str) -> u64 {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_read() {
        assert_eq!(ticks("7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 5 6"), 42);
        assert_eq!(ticks(""), 0);
        let cost = cost();
        assert!(cost.resident_bytes > 500_000, "{cost:?}");
        assert!(cost.open_files >= 3, "{cost:?}");
    }
}
