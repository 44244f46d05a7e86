//! The sum of many schedules, and what must hold of it: every kind of fault happened, every reason
//! was reached.

use super::Outcome;
use super::fault::Fault;
use super::swarm::Plan;
use crate::decide::journal::codes::CODES;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// From so many schedules on, what never happened is a failure of the simulator.
pub const COUNTS_FROM: u64 = 1_000;

/// Reasons that few schedules reach: from how many on their absence counts, and why.
const RARE: &[(&str, u64, &str)] =
    &[("lead.useless", 200_000, "a stop in the milliseconds in which a take-over is answered")];

/// Reasons that no schedule can reach, and why.
pub const OUT_OF_REACH: &[(&str, &str)] = &[
    ("backup.", "the simulator makes no backups"),
    ("restore.", "no backups, so nothing to restore from"),
    ("bar.restore", "no backups"),
    ("bootstrap.restore", "no backups"),
    ("config.bad", "configurations are given parsed"),
    ("config.refused", "configurations are given parsed"),
    ("config.not-kept", "the kept configuration always fits"),
    ("consul.", "tokens are not simulated"),
    ("secret.", "no files"),
    ("bar.max-lag", "`max_lag` is not set"),
    ("app.not-started", "an application with data always starts"),
    ("app.unable", "no health hook answers 4"),
    ("start.consul", "the driver tells it, before there is a core"),
    ("wait.over", "no service of others is required"),
    ("start.foreign", "no volume of another cluster is mounted"),
    ("take.foreign", "no volume of another cluster is mounted"),
    ("start.unknown-data", "no data of unknown origin is mounted"),
    ("close.cluster", "nobody but lictor writes `state/cluster`"),
    ("take.sync_garbage", "nobody but lictor writes `state/sync`"),
    ("take.starting", "a node tells how fit it is in its first step"),
    ("sync.too-few", "no change of the configuration turns to `strict`"),
    ("bootstrap.in-vain", "faults begin when the cluster stands"),
    ("close.lost", "no lock is taken under a running lease, unless an assumption is broken"),
];

#[derive(Debug, Serialize)]
pub struct Violation {
    pub seed: u64,
    pub version: &'static str,
    pub at_ms: u64,
    pub what: String,
    pub more: String,
    /// The shortest list found that still breaks it.
    pub faults: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub v: u32,
    pub schedules: u64,
    /// Cluster-hours simulated.
    pub hours: f64,
    pub hours_per_minute: f64,
    pub seconds: f64,
    pub written: u64,
    pub acknowledged: u64,
    pub terms: u64,
    pub guard_kills: u64,
    /// Of all courses together, in any order: the same on every machine.
    #[serde(serialize_with = "hex")]
    pub trace: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each was decided.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Those that a node answered with when it was asked what it waits for, or decided last.
    pub told: BTreeSet<&'static str>,
    /// Schedules whose cluster could not heal by the rules, and why.
    pub excused: BTreeMap<&'static str, u64>,
    pub never_injected: Vec<&'static str>,
    pub never_reached: Vec<&'static str>,
    /// Reached, though [`OUT_OF_REACH`] says that no schedule can: its excuse is none any more.
    pub beyond_reach: Vec<&'static str>,
    pub violations: Vec<Violation>,
}

fn hex<S: serde::Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{number:016x}"))
}

fn add(to: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}

/// Whether a code is expected to be reached.
pub fn in_reach(code: &str) -> bool {
    !OUT_OF_REACH.iter().any(|(prefix, _)| code.starts_with(prefix))
}

impl Report {
    pub fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let check = &outcome.check;
        self.schedules += 1;
        self.hours += plan.length as f64 / 3_600_000.0;
        self.written += check.written;
        self.acknowledged += check.acked;
        self.terms += check.terms;
        self.guard_kills += check.guard_kills;
        self.trace = self.trace.wrapping_add(outcome.trace.hash);
        add(&mut self.faults, &check.faults);
        add(&mut self.reasons, &check.reasons);
        self.told.extend(&check.told);
        if let Some(why) = check.excused {
            *self.excused.entry(why).or_default() += 1;
        }
    }

    pub fn merge(&mut self, other: Report) {
        self.schedules += other.schedules;
        self.hours += other.hours;
        self.written += other.written;
        self.acknowledged += other.acknowledged;
        self.terms += other.terms;
        self.guard_kills += other.guard_kills;
        self.trace = self.trace.wrapping_add(other.trace);
        add(&mut self.faults, &other.faults);
        add(&mut self.reasons, &other.reasons);
        self.told.extend(other.told);
        add(&mut self.excused, &other.excused);
        self.violations.extend(other.violations);
    }

    pub fn close(&mut self, seconds: f64) {
        self.v = 1;
        self.seconds = seconds;
        self.hours_per_minute = self.hours / seconds.max(0.001) * 60.0;
        self.violations.sort_by_key(|it| it.seed);
        let never = |kind: &&str| !self.faults.contains_key(*kind);
        self.never_injected = Fault::KINDS.iter().copied().filter(never).collect();
        let codes = CODES.iter().map(|it| it.code).filter(|code| in_reach(code));
        let unreached =
            |code: &&str| !self.reasons.contains_key(*code) && !self.told.contains(*code);
        let expected = |code: &&str| {
            let rare = RARE.iter().find(|(name, ..)| name == code);
            rare.is_none_or(|(_, from, _)| self.schedules >= *from)
        };
        self.never_reached = codes.filter(unreached).filter(expected).collect();
        let reached = self.reasons.keys().chain(&self.told).copied();
        let beyond: BTreeSet<_> = reached.filter(|code| !in_reach(code)).collect();
        self.beyond_reach = beyond.into_iter().collect();
    }

    /// Nothing was broken, and the simulator did what it is for.
    pub fn is_good(&self) -> bool {
        let idle = !self.never_injected.is_empty() || !self.never_reached.is_empty();
        let excused = self.beyond_reach.is_empty();
        self.violations.is_empty() && excused && !(idle && self.schedules >= COUNTS_FROM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_reach_is_a_reason_that_there_is() {
        for (prefix, why) in OUT_OF_REACH {
            let named = CODES.iter().any(|it| it.code.starts_with(prefix));
            assert!(named && !why.is_empty(), "{prefix}");
        }
    }

    #[test]
    fn an_excuse_that_a_schedule_refutes_fails_the_run() {
        let mut report = Report::default();
        report.told.insert("take.foreign");
        report.close(1.0);
        assert_eq!(report.beyond_reach, ["take.foreign"]);
        assert!(!report.is_good());
        let mut report = Report { schedules: 5, ..Report::default() };
        report.close(1.0);
        assert!(report.is_good(), "few schedules miss much");
    }
}
