//! A cron schedule: five fields in UTC, as `crontab(5)` has them.
//!
//! Minute, hour, day of the month, month, day of the week (0 or 7 is Sunday; names in English work
//! too). A field is `*`, a number, a range `a-b`, each with a step `/n`, or a list of these by
//! commas. When both days are restricted, either is enough, as everywhere. `@hourly`, `@daily`,
//! `@weekly` and `@monthly` are there too. Nothing here reads a clock: the next run is a function
//! of the time it is given.

use super::calendar::{DAY_MS, MINUTE_MS, date_of, weekday_of};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A 29th of February on one day of the week comes each 28 years, and once in 40 where a century is
/// no leap year between.
const DAYS_MOST: u64 = 40 * 366;
/// Every month has so many days.
const MONTH_LEAST: u8 = 28;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SHORT: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
];

/// When something runs. Compared by what was written.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    /// A bit for each value.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are restricted.
    either_day: bool,
}

impl TryFrom<String> for Cron {
    type Error = String;
    fn try_from(text: String) -> Result<Cron, String> {
        Cron::parse(&text).map_err(|error| error.to_string())
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

/// One field: its name, its least and greatest value, and names for values from the least on.
struct Field {
    name: &'static str,
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl Cron {
    /// The error says which field is wrong and what may stand there.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let written = text.trim();
        let fields = SHORT.iter().find(|(name, _)| *name == written).map_or(written, |(_, it)| it);
        let words: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(format!(
                "\"{written}\" has {} fields; write five: minute, hour, day, month, day of the \
                 week, as in \"0 3 * * *\"",
                words.len()
            ));
        };
        let [minutes, hours, days, months] =
            [(0, minute), (1, hour), (2, day), (3, month)].map(|(at, it)| FIELDS[at].bits(it));
        let weekdays = FIELDS[4].bits(weekday)?;
        let cron = Cron {
            text: written.to_owned(),
            minutes: minutes?,
            hours: hours?,
            days: days?,
            months: months?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match cron.next_after(0) {
            Some(_) => Ok(cron),
            None => Err(format!("\"{written}\" never comes: no such day has that date")),
        }
    }

    /// The first minute that matches after this moment; both in milliseconds of Unix time.
    pub fn next_after(&self, wall: u64) -> Option<u64> {
        let first = wall / MINUTE_MS + 1;
        let from = first * MINUTE_MS / DAY_MS;
        let mut day = from;
        while day <= from + DAYS_MOST {
            let date = date_of(day);
            if !has(self.months, u64::from(date.month)) && date.day < MONTH_LEAST {
                day += u64::from(MONTH_LEAST - date.day);
                continue;
            }
            let begin = day * DAY_MS / MINUTE_MS;
            if self.has_day(day)
                && let Some(minute) = self.minute_from(first.saturating_sub(begin))
            {
                return Some((begin + minute) * MINUTE_MS);
            }
            day += 1;
        }
        None
    }

    /// The first minute of a day that matches, from this one on.
    fn minute_from(&self, least: u64) -> Option<u64> {
        (least / 60..24).filter(|hour| has(self.hours, *hour)).find_map(|hour| {
            let from = least.saturating_sub(hour * 60);
            (from..60).find(|minute| has(self.minutes, *minute)).map(|minute| hour * 60 + minute)
        })
    }

    /// The last minute that matches, later than `after` and not later than `wall`, and at most
    /// `reach` ago.
    pub fn last_due(&self, after: u64, wall: u64, reach: u64) -> Option<u64> {
        let mut found = None;
        let mut from = after.max(wall.saturating_sub(reach));
        // At most one a minute.
        for _ in 0..=reach / MINUTE_MS {
            match self.next_after(from) {
                Some(next) if next <= wall => {
                    found = Some(next);
                    from = next;
                }
                Some(_) | None => break,
            }
        }
        found
    }

    fn has_day(&self, days: u64) -> bool {
        let date = date_of(days);
        let of_month = has(self.days, u64::from(date.day));
        let of_week = has(self.weekdays, u64::from(weekday_of(days)));
        let fits = if self.either_day { of_month || of_week } else { of_month && of_week };
        fits && has(self.months, u64::from(date.month))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn has(bits: u64, value: u64) -> bool {
    bits >> value & 1 == 1
}

impl Field {
    fn bits(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let step = match step.map(str::parse::<u64>) {
            None => 1,
            Some(Ok(step)) if (1..=self.most).contains(&step) => step,
            Some(_) => return self.refuse(text),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (Some(self.least), Some(self.most)),
            Some((from, to)) => (self.value(from), self.value(to)),
            // `5/15` begins at 5 and goes on to the end.
            None if text.contains('/') => (self.value(range), Some(self.most)),
            None => (self.value(range), self.value(range)),
        };
        match (from, to) {
            (Some(from), Some(to)) if from <= to => {
                let values = (from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX));
                Ok(values.fold(0, |bits, value| bits | 1 << value))
            }
            _ => self.refuse(text),
        }
    }

    fn value(&self, text: &str) -> Option<u64> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.names.iter().position(|name| *name == lower) {
            return Some(self.least + u64::try_from(at).ok()?);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.filter(|number| (self.least..=self.most).contains(number))
    }

    fn refuse<T>(&self, text: &str) -> Result<T, String> {
        let names = match self.names {
            [] => String::new(),
            names => format!(" or {} to {}", names[0], names[names.len() - 1]),
        };
        Err(format!(
            "\"{text}\" is no {}; write *, {} to {}{names}, a range a-b, a step /n, or a list of \
             these by commas",
            self.name, self.least, self.most
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::calendar::written;
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-25 01:50:33Z, a Wednesday.
    const WALL: u64 = 1_795_571_433_000;

    #[test]
    fn the_next_run() {
        assert_eq!(written(WALL), "2026-11-25 01:50:33Z");
        for (schedule, next) in [
            ("* * * * *", "2026-11-25 01:51:00Z"),
            ("0 3 * * *", "2026-11-25 03:00:00Z"),
            ("@daily", "2026-11-26 00:00:00Z"),
            ("@hourly", "2026-11-25 02:00:00Z"),
            ("*/20 * * * *", "2026-11-25 02:00:00Z"),
            ("5/15 1 * * *", "2026-11-26 01:05:00Z"),
            ("50,51,52 1 * * *", "2026-11-25 01:51:00Z"),
            ("30 2 * * 7", "2026-11-29 02:30:00Z"),
            ("30 2 * * 0", "2026-11-29 02:30:00Z"),
            ("30 2 * * mon-fri", "2026-11-25 02:30:00Z"),
            ("0 0 1 Jan *", "2027-01-01 00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29 00:00:00Z"),
            ("0 0 31 * *", "2026-12-31 00:00:00Z"),
            // Either day is enough: the first, or a Friday.
            ("0 4 1 * fri", "2026-11-27 04:00:00Z"),
            // One is `*`: the other alone.
            ("0 4 */2 * fri", "2026-11-27 04:00:00Z"),
            ("59 23 31 12 *", "2026-12-31 23:59:00Z"),
        ] {
            let cron = Cron::parse(schedule).expect(schedule);
            let found = cron.next_after(WALL).map(written);
            assert_eq!(found.as_deref(), Some(next), "{schedule}");
            assert_eq!(cron.to_string(), schedule);
        }
        // `*/7` is Sunday, and no restriction by the rule above: both must fit.
        let rare = Cron::parse("0 0 29 2 */7").expect("a schedule");
        let of_2088 = 3_728_851_200_000 - 1;
        let after = |wall| rare.next_after(wall).expect("comes");
        assert_eq!(written(after(of_2088)), "2088-02-29 00:00:00Z");
        assert_eq!(written(after(after(of_2088))), "2128-02-29 00:00:00Z");
        let leap = Cron::parse("0 0 29 2 *").expect("a schedule");
        let before_2100 = 3_981_312_000_000; // 2096-03-01
        assert_eq!(
            leap.next_after(before_2100).map(written).as_deref(),
            Some("2104-02-29 00:00:00Z")
        );
    }

    #[test]
    fn what_is_refused_names_its_field() {
        for (schedule, part) in [
            ("0 3 * *", "4 fields"),
            ("0 3 * * * *", "6 fields"),
            ("", "0 fields"),
            ("@yesterday", "1 fields"),
            ("60 3 * * *", "minute"),
            ("0 24 * * *", "hour"),
            ("0 3 0 * *", "day of the month"),
            ("0 3 * 13 *", "month"),
            ("0 3 * * 8", "day of the week"),
            ("0 3 * * xyz", "sun to sat"),
            ("5-1 * * * *", "\"5-1\" is no minute"),
            ("*/0 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
            ("0 0 31 2 *", "never comes"),
            ("0 0 30,31 2 *", "never comes"),
        ] {
            let error = Cron::parse(schedule).expect_err(schedule);
            assert!(error.contains(part), "{schedule}: {error}");
        }
    }

    #[test]
    fn what_was_missed_is_due_for_a_while() {
        let cron = Cron::parse("0 3 * * *").expect("a schedule");
        let three = cron.next_after(WALL).expect("comes");
        let hour = 60 * MINUTE_MS;
        assert_eq!(cron.last_due(WALL, three - 1, hour), None);
        assert_eq!(cron.last_due(WALL, three, hour), Some(three));
        assert_eq!(cron.last_due(WALL, three + hour - 1, hour), Some(three));
        assert_eq!(cron.last_due(WALL, three + hour + MINUTE_MS, hour), None, "too late");
        assert_eq!(cron.last_due(three, three + 1, hour), None, "that one is done");
        let minutely = Cron::parse("* * * * *").expect("a schedule");
        let last = minutely.last_due(0, three + 30_000, hour);
        assert_eq!(last, Some(three), "of many that were missed the last one");
    }

    fn field(least: u64, most: u64) -> impl Strategy<Value = String> {
        let value = least..=most;
        prop_oneof![
            2 => Just("*".to_owned()),
            2 => value.clone().prop_map(|it| it.to_string()),
            1 => (value.clone(), value.clone())
                .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (1..=most).prop_map(|step| format!("*/{step}")),
            1 => proptest::collection::vec(value, 1..4)
                .prop_map(|list| list.iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
        ]
    }

    /// The definition, slowly: looks at every single minute.
    fn slowly(cron: &Cron, wall: u64, minutes: u64) -> Option<u64> {
        let first = wall / MINUTE_MS + 1;
        (first..first + minutes).map(|minute| minute * MINUTE_MS).find(|at| {
            let minute = at % DAY_MS / MINUTE_MS;
            let time = has(cron.hours, minute / 60) && has(cron.minutes, minute % 60);
            time && cron.has_day(at / DAY_MS)
        })
    }

    proptest! {
        #[test]
        fn the_next_run_is_the_first_minute_that_matches(
            minute in field(0, 59), hour in field(0, 23), day in field(1, 31),
            month in field(1, 12), weekday in field(0, 7), wall in 0_u64..4_200_000_000_000,
        ) {
            let text = format!("{minute} {hour} {day} {month} {weekday}");
            let Ok(cron) = Cron::parse(&text) else {
                // Only a day that its month does not have.
                prop_assert!(text.contains(" 2 ") || day.parse::<u64>().is_ok_and(|day| day > 28)
                    || day.contains("30") || day.contains("31"), "{}", text);
                return Ok(());
            };
            let next = cron.next_after(wall).expect("a schedule comes again");
            prop_assert!(next > wall && next % MINUTE_MS == 0);
            let horizon = 3 * 24 * 60;
            match slowly(&cron, wall, horizon) {
                Some(found) => prop_assert_eq!(next, found),
                None => prop_assert!(next >= (wall / MINUTE_MS + 1 + horizon) * MINUTE_MS),
            }
            // One after the other, none is left out and none comes twice.
            prop_assert_eq!(cron.next_after(next - 1), Some(next));
            prop_assert!(cron.next_after(next).is_some_and(|after| after > next));
            prop_assert_eq!(cron.last_due(wall, next, 3_600_000), Some(next));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "[0-9a-z*,/@ -]{0,24}") {
            let _ = Cron::parse(&text);
        }
    }
}
