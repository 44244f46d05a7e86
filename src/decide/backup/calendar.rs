//! Unix time as a date, in UTC, by the proleptic Gregorian calendar.
//!
//! The day arithmetic is Howard Hinnant's `civil_from_days` and `days_from_civil`, which count from
//! the first of March so that the leap day ends a year.

pub const DAY_MS: u64 = 86_400_000;
pub const MINUTE_MS: u64 = 60_000;

/// A day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Date {
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// The date of a day, counted from 1970-01-01.
pub fn date_of(days: u64) -> Date {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = small(doy - (153 * mp + 2) / 5 + 1);
    let month = small(if mp < 10 { mp + 3 } else { mp - 9 });
    Date { year: yoe + era * 400 + u64::from(month <= 2), month, day }
}

/// 0 is Sunday; 1970-01-01 was a Thursday.
pub fn weekday_of(days: u64) -> u8 {
    small((days + 4) % 7)
}

fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// `(date, hour, minute, second)` of a time in milliseconds.
pub fn split(wall: u64) -> (Date, u64, u64, u64) {
    let seconds = wall / 1_000;
    (date_of(wall / DAY_MS), seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-25 03:15:00Z`.
pub fn written(wall: u64) -> String {
    let (Date { year, month, day }, hour, minute, second) = split(wall);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// For people who compare decisions: `2025-11-25 02:14:03.120`, UTC.
pub fn precise(wall: u64) -> String {
    let (date, hour, minute, second) = split(wall);
    let Date { year, month, day } = date;
    let ms = wall % 1_000;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// `20261125-031500`: sorts by time, and may be part of a key and of a file's name.
pub fn compact(wall: u64) -> String {
    let (Date { year, month, day }, hour, minute, second) = split(wall);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        // As `date -u -d @SECONDS` says them.
        for (seconds, text, weekday) in [
            (0, "1970-01-01 00:00:00Z", 4),
            (951_782_400, "2000-02-29 00:00:00Z", 2),
            (1_709_164_800, "2024-02-29 00:00:00Z", 4),
            (1_764_039_600, "2025-11-25 03:00:00Z", 2),
            (4_107_542_399, "2100-02-28 23:59:59Z", 0),
            (4_107_542_400, "2100-03-01 00:00:00Z", 1),
        ] {
            assert_eq!(written(seconds * 1_000), text);
            assert_eq!(weekday_of(seconds * 1_000 / DAY_MS), weekday, "{text}");
        }
        assert_eq!(compact(1_764_039_600_999), "20251125-030000");
    }

    proptest! {
        /// The next day is the next of its month, or the first of the next month after a month's
        /// last day.
        #[test]
        fn days_follow_each_other(days in 0_u64..200_000) {
            let (today, next) = (date_of(days), date_of(days + 1));
            let leap = today.year % 4 == 0 && (today.year % 100 != 0 || today.year % 400 == 0);
            let last = match today.month {
                2 => 28 + u8::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let follows = if today.day < last {
                Date { day: today.day + 1, ..today }
            } else if today.month < 12 {
                Date { month: today.month + 1, day: 1, ..today }
            } else {
                Date { year: today.year + 1, month: 1, day: 1 }
            };
            prop_assert_eq!(next, follows);
        }
    }
}
