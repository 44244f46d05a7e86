//! What is counted, and the text of `/metrics`.
//!
//! The driver tells every input and effect of the core ([`Metrics`]' verbs), the server every
//! answer it gave; what is true at the moment of a scrape (role, lease left, members) is read from
//! the published snapshot then. Invariant: the number of series has a bound that no client, peer or
//! key in Consul can move: labels are words of ours. Must not: decide anything, or be read by what
//! decides.

mod process;
mod scrape;

pub(super) use scrape::{Format, Scrape};

use crate::decide::hook::Hook;
use crate::decide::time::Span;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

/// A name and a word of ours.
type Label = (&'static str, &'static str);
type By<const N: usize> = Family<[Label; N], Counter>;
type Times = Family<[Label; 1], Histogram, fn() -> Histogram>;

/// A renewal answers in milliseconds; one of [`crate::decide::lead`]'s attempts takes at most a
/// lease.
const RENEWAL_SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Hooks take from 5 ms (a position) to hours (a clone).
const HOOK_SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3_600.0];

/// What a request to Consul was for.
pub const CALL_KINDS: [&str; 14] = [
    "renew",
    "take",
    "release",
    "list",
    "sync",
    "passing",
    "read",
    "write",
    "session_create",
    "session_renew",
    "session_destroy",
    "register",
    "check",
    "registered",
];
/// What became of it.
pub const CALL_OUTCOMES: [&str; 7] =
    ["done", "conflict", "denied", "session_gone", "refused", "not_sent", "unknown"];
/// How a hook ended.
pub const HOOK_ENDS: [&str; 7] =
    ["done", "again", "failed", "signal", "timeout", "cancelled", "not_started"];
/// What became of a question to a peer.
pub const PEER_OUTCOMES: [&str; 6] =
    ["answered", "declined", "unreachable", "timeout", "unauthenticated", "bad"];
/// Why or by whom an acting primary was fenced.
pub const FENCES: [&str; 3] = ["deadline", "lost", "guard"];
/// How the application ended.
pub const APP_ENDS: [&str; 3] = ["clean", "code", "signal"];
/// The two blocking queries.
pub const WATCHES: [&str; 2] = ["leader", "state"];

/// The counters of this process; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    counters: Counters,
    log_dropped: fn() -> u64,
}

/// Every counter and histogram; its help is where it is registered.
struct Counters {
    consul_requests: By<2>,
    renewals: By<1>,
    renewal_seconds: Histogram,
    takes: By<1>,
    terms: Counter,
    fences: By<1>,
    demotions: Counter,
    tree_kills: Counter,
    hook_runs: By<2>,
    hook_seconds: Times,
    app_starts: Counter,
    app_restarts: Counter,
    app_ends: By<1>,
    watch_answers: By<1>,
    watch_restarts: By<1>,
    peer_requests: By<1>,
    decisions: By<1>,
    steps: Counter,
    http: Family<[(&'static str, String); 2], Counter>,
}

impl Metrics {
    /// `log_dropped`: how many lines of the log were dropped so far.
    pub fn new(log_dropped: fn() -> u64) -> Metrics {
        let mut registry = Registry::with_prefix("lictor");
        let counters = Counters::new();
        counters.register_lease(&mut registry);
        counters.register_work(&mut registry);
        counters.begin_at_zero();
        Metrics(Arc::new(Inner { registry, counters, log_dropped }))
    }

    /// A request to Consul is answered: one of [`CALL_KINDS`], one of [`CALL_OUTCOMES`].
    pub fn called(&self, kind: &'static str, outcome: &'static str, took: Span) {
        let counters = &self.0.counters;
        let labels = [("kind", kind), ("outcome", outcome)];
        counters.consul_requests.get_or_create(&labels).inc();
        if kind == "renew" {
            counters.renewals.get_or_create(&[("outcome", outcome)]).inc();
            counters.renewal_seconds.observe(seconds(took));
        }
        if kind == "take" {
            counters.takes.get_or_create(&[("outcome", outcome)]).inc();
        }
    }

    /// A term that this node had not seen began, whoever leads it.
    pub fn term_began(&self) {
        self.0.counters.terms.inc();
    }

    /// One of [`FENCES`].
    pub fn fenced(&self, by: &'static str) {
        self.0.counters.fences.get_or_create(&[("by", by)]).inc();
    }

    pub fn demoted(&self) {
        self.0.counters.demotions.inc();
    }

    pub fn tree_killed(&self) {
        self.0.counters.tree_kills.inc();
    }

    /// A hook's run is over: one of [`HOOK_ENDS`].
    pub fn hook_ended(&self, hook: Hook, end: &'static str, took: Span) {
        let counters = &self.0.counters;
        let name = hook.name();
        counters.hook_runs.get_or_create(&[("hook", name), ("end", end)]).inc();
        counters.hook_seconds.get_or_create(&[("hook", name)]).observe(seconds(took));
    }

    pub fn app_started(&self) {
        let counters = &self.0.counters;
        if counters.app_starts.inc() > 0 {
            counters.app_restarts.inc();
        }
    }

    /// One of [`APP_ENDS`].
    pub fn app_ended(&self, how: &'static str) {
        self.0.counters.app_ends.get_or_create(&[("how", how)]).inc();
    }

    /// A blocking query returned: one of [`WATCHES`].
    pub fn watch_answered(&self, watch: &'static str) {
        self.0.counters.watch_answers.get_or_create(&[("watch", watch)]).inc();
    }

    /// A blocking query failed and begins anew: one of [`WATCHES`].
    pub fn watch_restarted(&self, watch: &'static str) {
        self.0.counters.watch_restarts.get_or_create(&[("watch", watch)]).inc();
    }

    /// A question to a peer is over: one of [`PEER_OUTCOMES`].
    pub fn peer_replied(&self, outcome: &'static str) {
        self.0.counters.peer_requests.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A decision, by its reason's code: a word of the source, so there are as many as it has.
    pub fn decided(&self, code: &'static str) {
        self.0.counters.decisions.get_or_create(&[("code", code)]).inc();
    }

    pub fn stepped(&self) {
        self.0.counters.steps.inc();
    }

    /// An answer of the HTTP side; `path` is one of ours or `other`.
    pub(super) fn answered(&self, path: &str, status: http::StatusCode) {
        let labels = [("path", path.to_owned()), ("code", status.as_str().to_owned())];
        self.0.counters.http.get_or_create(&labels).inc();
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(|| 0)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Exact: a span of milliseconds is far below 2^53.
fn seconds(span: Span) -> f64 {
    span.0 as f64 / 1_000.0
}

impl Counters {
    fn new() -> Counters {
        Counters {
            consul_requests: Family::default(),
            renewals: Family::default(),
            renewal_seconds: Histogram::new(RENEWAL_SECONDS),
            takes: Family::default(),
            terms: Counter::default(),
            fences: Family::default(),
            demotions: Counter::default(),
            tree_kills: Counter::default(),
            hook_runs: Family::default(),
            hook_seconds: Times::new_with_constructor(|| Histogram::new(HOOK_SECONDS)),
            app_starts: Counter::default(),
            app_restarts: Counter::default(),
            app_ends: Family::default(),
            watch_answers: Family::default(),
            watch_restarts: Family::default(),
            peer_requests: Family::default(),
            decisions: Family::default(),
            steps: Counter::default(),
            http: Family::default(),
        }
    }

    fn register_lease(&self, registry: &mut Registry) {
        let help = "Renewals of the lease that this node sent, by what became of them; anything \
                    but `done` leaves the old deadline standing";
        registry.register("lease_renewals", help, self.renewals.clone());
        let help = "Time from sending a renewal to its answer, or to giving it up";
        let seconds = self.renewal_seconds.clone();
        registry.register_with_unit("lease_renewal_duration", help, Unit::Seconds, seconds);
        let help = "Attempts of this node to take the lock, by what became of them";
        registry.register("takes", help, self.takes.clone());
        let help = "Leadership terms that this node saw begin, whoever leads: elections and \
                    switchovers";
        registry.register("elections", help, self.terms.clone());
        let help = "Fences of this node as an acting primary: its lease ran out (`deadline`), \
                    another leads (`lost`), or the guard killed (`guard`)";
        registry.register("fences", help, self.fences.clone());
        let help = "Runs of the `demote` hook: switchovers, stops and fences of a primary";
        registry.register("demotions", help, self.demotions.clone());
        let help = "Times the node killed the application's whole tree by itself";
        registry.register("tree_kills", help, self.tree_kills.clone());
        let help = "Decisions by the code of their reason, as in the log and `/status`";
        registry.register("decisions", help, self.decisions.clone());
    }

    fn register_work(&self, registry: &mut Registry) {
        let help = "Requests to Consul other than the watches, by what they were for and what \
                    became of them";
        registry.register("consul_requests", help, self.consul_requests.clone());
        let help = "Answers of the two blocking queries";
        registry.register("watch_answers", help, self.watch_answers.clone());
        let help = "Blocking queries that failed and began anew";
        registry.register("watch_restarts", help, self.watch_restarts.clone());
        let help = "Hook runs by how they ended; `again` is exit code 75, `failed` any other code";
        registry.register("hook_runs", help, self.hook_runs.clone());
        let help = "Time from a hook's start until its whole tree was gone";
        let seconds = self.hook_seconds.clone();
        registry.register_with_unit("hook_duration", help, Unit::Seconds, seconds);
        let help = "Starts of the application";
        registry.register("application_starts", help, self.app_starts.clone());
        let help = "Starts of the application after its first";
        registry.register("application_restarts", help, self.app_restarts.clone());
        let help = "Ends of the application: exit code 0 (`clean`), another (`code`) or a signal";
        registry.register("application_ends", help, self.app_ends.clone());
        let help = "Questions to peers by what became of them";
        registry.register("peer_requests", help, self.peer_requests.clone());
        let help = "Answers of the HTTP side by path (`other`: none of ours) and status code";
        registry.register("http_requests", help, self.http.clone());
        let help = "Inputs that the core took in";
        registry.register("steps", help, self.steps.clone());
    }

    /// A series that begins with its first event hides that event from `rate`.
    fn begin_at_zero(&self) {
        for outcome in CALL_OUTCOMES {
            for kind in CALL_KINDS {
                drop(self.consul_requests.get_or_create(&[("kind", kind), ("outcome", outcome)]));
            }
            drop(self.renewals.get_or_create(&[("outcome", outcome)]));
            drop(self.takes.get_or_create(&[("outcome", outcome)]));
        }
        for hook in Hook::ALL.map(Hook::name) {
            for end in HOOK_ENDS {
                drop(self.hook_runs.get_or_create(&[("hook", hook), ("end", end)]));
            }
            drop(self.hook_seconds.get_or_create(&[("hook", hook)]));
        }
        let begin = |family: &By<1>, label: &'static str, words: &[&'static str]| {
            for word in words {
                drop(family.get_or_create(&[(label, *word)]));
            }
        };
        begin(&self.fences, "by", &FENCES);
        begin(&self.app_ends, "how", &APP_ENDS);
        begin(&self.watch_answers, "watch", &WATCHES);
        begin(&self.watch_restarts, "watch", &WATCHES);
        begin(&self.peer_requests, "outcome", &PEER_OUTCOMES);
    }
}

#[cfg(test)]
mod tests;
