//! From a key to an ordinal: `xxh3_64`, then Lamping and Veach's jump hash.
//!
//! Both functions are wire format: routers written in other languages compute the same, and a
//! change moves keys. The tests freeze Guava's published values. Growing by one ordinal moves keys
//! to the new one only; an ordinal other than the last can't be taken away, so this serves `class =
//! "cache"` alone, where a miss is allowed.
//!
//! The crate takes 0 buckets for 1 and its `k * C + 1` overflows for key 2313046976756913067 in
//! checked builds: the type refuses the first, Cargo profiles switch the check off for that crate
//! alone (test `the_key_that_overflows_is_answered`).

use std::num::NonZeroU32;
use xxhash_rust::xxh3::xxh3_64;

/// The place of a key in the hash space.
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The ordinal, below `buckets`, that a place belongs to. O(ln `buckets`).
pub fn jump(key: u64, buckets: NonZeroU32) -> u32 {
    let buckets = usize::try_from(buckets.get()).expect("lictor runs on 64 bits");
    jump_consistent_hash::hash(key, buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(key: u64, buckets: u32) -> u32 {
        jump(key, NonZeroU32::new(buckets).expect("tests use 1 or more"))
    }

    /// Values of Guava's HashingTest: keys 0 to 19 among 100, and six single ones.
    #[test]
    fn published_values() {
        let of_100 = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
        for (key, want) in (0..).zip(of_100) {
            assert_eq!(at(key, 100), want, "key {key}");
        }
        for (key, buckets, want) in [
            (10_863_919_174_838_991, 11, 6),
            (2_016_238_256_797_177_309, 11, 3),
            (1_673_758_223_894_951_030, 11, 5),
            (2, 100_001, 80_343),
            (2_201, 100_001, 22_152),
            (2_202, 100_001, 15_018),
        ] {
            assert_eq!(at(key, buckets), want, "key {key} among {buckets}");
        }
    }

    /// The paper's function, in wrapping arithmetic and with the loop's number kept apart from the
    /// crate's.
    fn reference(mut key: u64, buckets: u32) -> u32 {
        let (mut last, mut next) = (0, 0_u64);
        while next < u64::from(buckets) {
            last = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            let scale = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
            next = ((last + 1) as f64 * scale) as u64;
        }
        u32::try_from(last).expect("below buckets")
    }

    #[test]
    fn the_key_that_overflows_is_answered() {
        const KEY: u64 = 2_313_046_976_756_913_067;
        let multiplied = KEY.wrapping_mul(2_862_933_555_777_941_757);
        assert_eq!(multiplied, u64::MAX, "the next + 1 overflows");
        for buckets in [1, 2, 100, u32::MAX] {
            assert_eq!(at(KEY, buckets), reference(KEY, buckets), "{buckets} buckets");
        }
    }

    /// XXH3's own value of the empty input and one of ours, frozen: a new version may not move
    /// keys.
    #[test]
    fn key_hashes_are_frozen() {
        assert_eq!(key_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(key_hash(b"user:1"), 0x3b57_7afd_7fed_9501);
    }

    #[test]
    fn keys_are_spread_evenly() {
        const KEYS: u32 = 100_000;
        for buckets in [3_u32, 10, 64] {
            let mut held = vec![0_u32; buckets as usize];
            for key in 0..KEYS {
                held[at(key_hash(format!("key-{key}").as_bytes()), buckets) as usize] += 1;
            }
            let mean = f64::from(KEYS / buckets);
            let slack = 5.0 * mean.sqrt();
            for (bucket, count) in held.iter().enumerate() {
                let off = (f64::from(*count) - mean).abs();
                assert!(off < slack, "bucket {bucket} of {buckets}: {count}, mean {mean}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_new_bucket_takes_keys_and_nobody_else_does(key: u64, buckets in 1_u32..100_000) {
            let (before, after) = (at(key, buckets), at(key, buckets + 1));
            prop_assert!(before < buckets);
            prop_assert!(after == before || after == buckets);
        }

        #[test]
        fn same_as_the_paper(key: u64, buckets in 1_u32..) {
            prop_assert_eq!(at(key, buckets), reference(key, buckets));
        }
    }
}
