//! What is searched: each scenario has its faults and its mutants.

use crate::decide::lead::SyncMode;
use crate::decide::lead::mutant::Mutant;
use crate::world::{Budget, Ground, Rules, Shared, World};

pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub rules: Rules,
    pub left: Budget,
    pub nodes: usize,
    /// Whenever the faults stop, a leader must come: nothing here destroys data or the list.
    pub progress: bool,
    /// Nodes in the list; 0: nothing is made yet.
    pub listed: usize,
    /// Others whose acknowledgement is required from the start.
    pub required: usize,
}

impl Scenario {
    pub fn start(&self) -> (Shared, World) {
        let ground = Ground::new(self.rules.clone());
        let world = if self.listed == 0 {
            World::empty(&ground, self.nodes, self.left)
        } else {
            World::made(&ground, self.nodes, self.listed, self.required, self.left)
        };
        (ground, world)
    }
}

fn rules() -> Rules {
    Rules {
        lease: 2_000,
        lease_max: 2_000,
        slow_tick: 1_000,
        fast_tick: 1_030,
        sync: SyncMode::Off,
        hold: false,
        cloned: false,
        guard: true,
        twin: false,
        eager: false,
        runs_on: false,
        last_epoch: 2,
        shorter: 0,
    }
}

fn scenario(name: &'static str, what: &'static str, nodes: usize, left: Budget) -> Scenario {
    Scenario { name, what, rules: rules(), left, nodes, listed: nodes, required: 0, progress: true }
}

fn with(mut scenario: Scenario, change: impl FnOnce(&mut Rules)) -> Scenario {
    change(&mut scenario.rules);
    scenario
}

/// One fault at a time, mostly exhausted.
fn single(none: Budget) -> Vec<Scenario> {
    vec![
        with(scenario("quiet", "no fault, 3 epochs", 3, none), |r| r.last_epoch = 3),
        scenario("pair", "no fault", 2, none),
        scenario("slow1", "1 slow call", 2, Budget { slow: 1, ..none }),
        scenario("sess1", "1 session lost", 2, Budget { sessions: 1, ..none }),
        scenario("demote1", "1 demotion", 2, Budget { demotions: 1, ..none }),
        scenario("put1", "1 garbage PUT", 2, Budget { puts: 1, ..none }),
        scenario("del1", "1 DELETE", 2, Budget { deletes: 1, ..none }),
        scenario("sess", "1 session lost", 3, Budget { sessions: 1, ..none }),
        scenario(
            "late",
            "1 slow call, 1 session lost, 1 demotion",
            2,
            Budget { slow: 1, sessions: 1, demotions: 1, ..none },
        ),
        scenario("slow2", "2 slow calls", 2, Budget { slow: 2, ..none }),
        with(
            scenario("reply", "1 slow call, a lease of 4 ticks", 2, Budget { slow: 1, ..none }),
            |r| {
                r.lease = 4_000;
                r.lease_max = 4_000;
            },
        ),
        scenario("slow3n", "1 slow call, 3 nodes", 3, Budget { slow: 1, ..none }),
    ]
}

/// Faults together, twins, crashes, hands on the lock.
fn together(none: Budget) -> Vec<Scenario> {
    vec![
        scenario(
            "core",
            "1 slow call, 2 sessions lost",
            2,
            Budget { slow: 1, sessions: 2, ..none },
        ),
        scenario(
            "dup",
            "1 call twice, 1 slow, 1 session lost",
            2,
            Budget { slow: 1, dup: 1, sessions: 1, ..none },
        ),
        scenario(
            "op",
            "garbage PUT, DELETE, 1 slow call",
            2,
            Budget { slow: 1, puts: 1, deletes: 1, ..none },
        ),
        scenario(
            "crash",
            "1 crash, old or empty volume, 1 slow call",
            2,
            Budget { crashes: 1, slow: 1, ..none },
        ),
        with(
            scenario(
                "twin",
                "two processes of one name, 1 slow call, 1 session lost",
                3,
                Budget { slow: 1, sessions: 1, ..none },
            ),
            |r| r.twin = true,
        ),
        with(
            scenario(
                "lease",
                "lease shortened on each, 1 slow call",
                2,
                Budget { slow: 1, shorter: 2, ..none },
            ),
            |r| {
                r.lease = 4_000;
                r.lease_max = 4_000;
                r.shorter = 1_000;
            },
        ),
    ]
}

/// The list, the sync set, clocks at their bound.
fn sets(none: Budget) -> Vec<Scenario> {
    vec![
        scenario(
            "list",
            "2 changes of the list, 1 slow call, 1 session lost",
            3,
            Budget { lists: 2, slow: 1, sessions: 1, ..none },
        ),
        with(
            scenario(
                "sync",
                "2 changes of the set, 1 write, 1 slow call, 1 silent survey",
                2,
                Budget { syncs: 2, commits: 1, slow: 1, mutes: 1, ..none },
            ),
            |r| r.sync = SyncMode::On,
        ),
        with(
            scenario(
                "sync3",
                "2 changes of the set, 1 write, 3 nodes",
                3,
                Budget { syncs: 2, commits: 1, mutes: 1, ..none },
            ),
            |r| r.sync = SyncMode::On,
        ),
        with(
            scenario(
                "retake",
                "sync set, 1 write, 1 session lost, 1 slow call",
                2,
                Budget { syncs: 1, commits: 1, slow: 1, sessions: 1, ..none },
            ),
            |r| {
                r.sync = SyncMode::On;
                r.last_epoch = 3;
            },
        ),
        with(
            scenario(
                "kept",
                "sync set, 1 write, 2 demotions, the application may run on, 1 silent survey",
                2,
                Budget { syncs: 1, commits: 1, demotions: 2, mutes: 1, ..none },
            ),
            |r| {
                r.sync = SyncMode::On;
                r.runs_on = true;
                r.last_epoch = 4;
            },
        ),
        with(
            scenario("clock", "100 ticks a lease, clocks at the bound, the holder silent", 2, none),
            |r| {
                r.lease = 9_999;
                r.lease_max = 9_999;
                r.slow_tick = 99;
                r.fast_tick = 101;
                r.eager = true;
                r.last_epoch = 1;
            },
        ),
    ]
}

/// The sync set switched on and off while a node leads, as each node's configuration says.
fn switched(none: Budget) -> Vec<Scenario> {
    let left = Budget { flips: 2, syncs: 1, commits: 1, slow: 1, ..none };
    vec![
        scenario("off-on", "sync switched on and off at each node, 1 write, 1 slow call", 2, left),
        with(
            scenario(
                "on-off",
                "sync switched off and on at each node, 1 write, 1 slow call",
                2,
                left,
            ),
            |r| r.sync = SyncMode::On,
        ),
    ]
}

fn ticks(of: u64) -> impl FnOnce(&mut Rules) {
    move |r| {
        r.lease = of * 1_000;
        r.lease_max = of * 1_000;
        r.shorter = 1_000;
    }
}

/// Consul is lost to one node at a time, and terms go on by promises.
fn holds(none: Budget) -> Vec<Scenario> {
    let cut = Budget { cuts: 1, ..none };
    let late = Budget { slow: 1, ..cut };
    let told_late = Budget { asks: 1, echoes: 1, ..late };
    let mut all = vec![
        scenario("hold1", "promises", 2, cut),
        scenario("hold", "promises, 1 slow call, 3 nodes", 3, late),
        with(
            scenario(
                "holdd",
                "promises, 1 of them late, 1 twice, 1 slow call, a lease of 3 ticks",
                2,
                told_late,
            ),
            ticks(3),
        ),
        scenario("holdc", "promises, 1 crash, 1 slow call", 2, Budget { crashes: 1, ..late }),
        scenario(
            "holdt",
            "promises, 2 demotions, 1 session lost",
            2,
            Budget { demotions: 2, sessions: 1, ..cut },
        ),
        with(
            scenario(
                "leasehold",
                "promises, lease shortened, 1 crash, 1 slow call",
                2,
                Budget { shorter: 1, crashes: 1, ..late },
            ),
            ticks(4),
        ),
    ];
    all.extend(holds_of_some(late));
    all.iter_mut().for_each(|scenario| scenario.rules.hold = true);
    all
}

/// Not everybody is listed who has the data.
fn holds_of_some(late: Budget) -> Vec<Scenario> {
    let some = |listed, scenario| {
        let scenario = with(scenario, |r| r.cloned = true);
        Scenario { listed, progress: false, ..scenario }
    };
    let change = Budget { lists: 1, ..late };
    let hand = Budget { puts: 1, deletes: 1, slow: 0, ..late };
    vec![
        some(
            2,
            scenario("hold2", "promises, a list of 2 of 3 and 1 change, 1 slow call", 3, change),
        ),
        some(
            1,
            scenario("hold3", "promises, a list of 1 of 2 and 1 change, 1 slow call", 2, change),
        ),
        some(2, scenario("holdop", "promises, a list of 2 of 3, garbage PUT, DELETE", 3, hand)),
    ]
}

/// Nothing there yet, or nothing any more.
fn emptiness(none: Budget) -> Vec<Scenario> {
    let mut boot = scenario(
        "boot",
        "empty store, 2 slow calls, 1 session lost",
        2,
        Budget { slow: 2, sessions: 1, ..none },
    );
    boot.listed = 0;
    let mut emptied = scenario(
        "emptied",
        "everything deleted under a leader, a blank node",
        3,
        Budget { wipes: 1, ..none },
    );
    emptied.listed = 2;
    vec![boot, emptied]
}

/// An operator's hand on who takes.
fn orders(none: Budget) -> Vec<Scenario> {
    vec![Scenario {
        listed: 2,
        progress: false,
        ..scenario(
            "force",
            "2 orders to take, to members and to one that is not, 1 slow call, 1 session lost",
            3,
            Budget { forces: 2, slow: 1, sessions: 1, ..none },
        )
    }]
}

/// States in which epoch `last_epoch` was passed are checked, and not left any more.
pub fn all(last_epoch: u64) -> Vec<Scenario> {
    let none = Budget::default();
    let groups = [
        single(none),
        together(none),
        sets(none),
        holds(none),
        orders(none),
        switched(none),
        emptiness(none),
    ];
    let mut all: Vec<Scenario> = groups.into_iter().flatten().collect();
    const STUCK: [&str; 7] = ["crash", "boot", "emptied", "clock", "list", "holdc", "leasehold"];
    for scenario in all.iter_mut().filter(|scenario| STUCK.contains(&scenario.name)) {
        scenario.progress = false;
    }
    for scenario in all.iter_mut().filter(|scenario| scenario.rules.sync == SyncMode::On) {
        scenario.required = 1;
    }
    for scenario in all.iter_mut().filter(|s| s.rules.last_epoch < last_epoch && !s.rules.eager) {
        scenario.rules.last_epoch = last_epoch;
    }
    all
}

/// Which scenario shows which fault.
pub const MUTANTS: &[(Mutant, &str)] = &[
    (Mutant::M01, "reply"),
    (Mutant::M02, "late"),
    (Mutant::M03, "core"),
    (Mutant::M04, "late"),
    (Mutant::M05, "hold1"),
    (Mutant::M08, "op"),
    (Mutant::M09, "late"),
    (Mutant::M10, "list"),
    (Mutant::M12, "clock"),
    (Mutant::M13, "holdd"),
    (Mutant::M14, "crash"),
    (Mutant::M15, "hold3"),
    (Mutant::M16, "lease"),
    (Mutant::M17, "op"),
    (Mutant::M18, "emptied"),
    (Mutant::M19, "dup"),
    (Mutant::M20, "late"),
    (Mutant::M21, "late"),
    (Mutant::M22, "late"),
    (Mutant::M23, "late"),
    (Mutant::M24, "late"),
    (Mutant::M25, "late"),
    (Mutant::M28, "twin"),
    (Mutant::M29, "sync"),
    (Mutant::M30, "sync"),
    (Mutant::M31, "sync"),
    (Mutant::M33, "holdd"),
    (Mutant::M34, "holdt"),
    (Mutant::M35, "leasehold"),
    (Mutant::M36, "sync3"),
    (Mutant::M37, "sync"),
    (Mutant::M38, "boot"),
    (Mutant::M39, "slow1"),
    (Mutant::M47, "on-off"),
    (Mutant::M50, "force"),
    (Mutant::M40, "kept"),
];

/// Faults that change nothing: the rules beside them suffice. A request for a promise that meets an
/// open acquisition of its giver was sent after the lease was over by the giver's clock, and
/// promises open no term.
pub const EQUIVALENT: &[(Mutant, &str)] = &[(Mutant::M06, "holdd"), (Mutant::M07, "holdd")];
