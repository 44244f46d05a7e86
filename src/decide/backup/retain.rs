//! Which backups are kept.
//!
//! Invariant: the newest good backup is never among those that go, whatever the settings and the
//! clock say.

use super::calendar::DAY_MS;
use super::records::{BackupId, CatalogValue};
use serde::{Deserialize, Serialize};

/// How many and how long; 0 sets no limit by it. With both a backup goes when it is beyond both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Keep {
    pub count: u32,
    pub days: u32,
}

/// Those that go, oldest first. One that was found bad does not count, and goes with the good ones
/// of its age.
pub fn expired(catalog: &[CatalogValue], keep: Keep, wall: u64) -> Vec<BackupId> {
    if keep == (Keep { count: 0, days: 0 }) {
        return Vec::new();
    }
    let least = u64::from(keep.count.max(1));
    let old = |at: u64| keep.days == 0 || at.saturating_add(u64::from(keep.days) * DAY_MS) < wall;
    let mut gone: Vec<&CatalogValue> = catalog
        .iter()
        .filter(|entry| {
            let newer = |other: &&CatalogValue| {
                other.is_good() && (other.at, &other.id) > (entry.at, &entry.id)
            };
            let newer = catalog.iter().filter(newer).count();
            u64::try_from(newer).unwrap_or(u64::MAX) >= least && old(entry.at)
        })
        .collect();
    gone.sort_by_key(|entry| (entry.at, &entry.id));
    gone.into_iter().map(|entry| entry.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::records::Verified;
    use super::*;
    use crate::decide::types::{ClusterId, Epoch};
    use proptest::prelude::*;

    fn entry(day: u64, ok: bool) -> CatalogValue {
        let verified =
            (!ok).then(|| Verified { at: 0, node: "a".into(), ok: false, text: String::new() });
        CatalogValue {
            v: 1,
            id: BackupId::new(&format!("{day:04}")),
            node: "a".into(),
            host: "h".into(),
            dir: "/d".into(),
            epoch: Epoch(1),
            cluster: ClusterId::new("c"),
            at: day * DAY_MS,
            took_ms: 1,
            bytes: 1,
            files: 1,
            position: String::new(),
            engine: String::new(),
            manifest: String::new(),
            verified,
            extra: Default::default(),
        }
    }

    fn gone(days: &[(u64, bool)], count: u32, keep_days: u32, today: u64) -> Vec<u64> {
        let catalog: Vec<_> = days.iter().map(|(day, ok)| entry(*day, *ok)).collect();
        let gone = expired(&catalog, Keep { count, days: keep_days }, today * DAY_MS + 1);
        gone.iter().map(|id| id.as_str().parse().expect("a day")).collect()
    }

    #[test]
    fn by_count_by_age_by_both() {
        let week: Vec<(u64, bool)> = (1..=7).map(|day| (day, true)).collect();
        assert_eq!(gone(&week, 3, 0, 100), [1, 2, 3, 4]);
        assert_eq!(gone(&week, 0, 5, 8), [1, 2, 3], "the third is 5 days and a moment old");
        assert_eq!(gone(&week, 3, 7, 9), [1, 2], "each protects");
        assert_eq!(gone(&week, 6, 2, 9), [1], "each protects");
        assert_eq!(gone(&week, 0, 0, 1_000), Vec::<u64>::new(), "no limit");
        assert_eq!(gone(&week, 0, 1, 1_000), [1, 2, 3, 4, 5, 6], "the last one stays");
    }

    #[test]
    fn a_bad_one_does_not_count() {
        let days = [(1, true), (2, false), (3, true), (4, false), (5, false)];
        assert_eq!(gone(&days, 1, 0, 9), [1, 2], "the third is the last good one");
        assert_eq!(gone(&days, 2, 0, 9), Vec::<u64>::new());
        assert_eq!(gone(&[(1, false), (2, false)], 1, 0, 9), Vec::<u64>::new(), "none is good");
    }

    proptest! {
        #[test]
        fn good_ones_stay(
            days in proptest::collection::btree_map(0_u64..60, any::<bool>(), 0..20),
            count in 0_u32..8, keep_days in 0_u32..40, today in 0_u64..100,
        ) {
            let days: Vec<(u64, bool)> = days.into_iter().collect();
            let gone = gone(&days, count, keep_days, today);
            let good: Vec<u64> = days.iter().filter(|(_, ok)| *ok).map(|(day, _)| *day).collect();
            let left = good.iter().filter(|day| !gone.contains(day)).count();
            prop_assert!(left >= good.len().min(count.max(1) as usize));
            prop_assert!(good.last().is_none_or(|last| !gone.contains(last)));
            prop_assert!(gone.is_sorted());
        }
    }
}
