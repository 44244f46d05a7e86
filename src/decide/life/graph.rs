//! The state machine as a table: which way a node may go, why, and which hook starts on the way.
//!
//! [`Node::to`](super::Node) holds every transition against it while the tests run, so that what
//! `lictor graph` prints is what the code does. It must not: decide. Why a way is taken is said in
//! the handlers; here is only that it may be.

use super::State;
use crate::decide::hook::Hook;

/// A state without its data; `Bootstrapping` is told in its three steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    Init,
    Joining,
    Wiping,
    Marking,
    Bootstrapping,
    Keeping,
    Waiting,
    Pausing,
    Preparing,
    Starting,
    Replica,
    Arming,
    Requiring,
    Promoting,
    Primary,
    Demoting,
    Draining,
    Killing,
    Parting,
    Stopping,
    Stopped,
    Failed,
}

use self::Phase::*;

/// A phase for people.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub phase: Phase,
    pub name: &'static str,
    /// What `status` and the member record call it.
    pub status: &'static str,
    pub about: &'static str,
    /// What ends it when nothing else does.
    pub bound: &'static str,
    /// Hooks that run while it lasts, beside the way through the table.
    pub beside: &'static [Hook],
}

/// Ways to one phase for one reason.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub from: &'static [Phase],
    pub to: Phase,
    /// Started with the transition.
    pub hook: Option<Hook>,
    pub when: &'static str,
    /// Why no test of this table takes it.
    pub untaken: Option<&'static str>,
}

impl Phase {
    pub fn place(self) -> &'static Place {
        PLACES.iter().find(|place| place.phase == self).expect("test every_phase_has_its_place")
    }

    pub fn name(self) -> &'static str {
        self.place().name
    }
}

impl State {
    pub fn phase(&self) -> Phase {
        match self {
            State::Init => Init,
            State::Joining => Joining,
            State::Wiping => Wiping,
            State::Bootstrapping { marked: false, .. } => Marking,
            State::Bootstrapping { hook: Some(_), .. } => Bootstrapping,
            State::Bootstrapping { hook: None, .. } => Keeping,
            State::Waiting { .. } => Waiting,
            State::Pausing { .. } => Pausing,
            State::Preparing { .. } => Preparing,
            State::Starting { .. } => Starting,
            State::Replica => Replica,
            State::Arming { .. } => Arming,
            State::Requiring { .. } => Requiring,
            State::Promoting { .. } => Promoting,
            State::Primary => Primary,
            State::Demoting { .. } => Demoting,
            State::Draining { .. } => Draining,
            State::Killing { .. } => Killing,
            State::Parting { .. } => Parting,
            State::Stopping { .. } => Stopping,
            State::Stopped => Stopped,
            State::Failed { .. } => Failed,
        }
    }
}

/// Whether the table knows this way. To stay where one is is none.
pub fn allows(from: Phase, to: Phase, hook: Option<Hook>) -> bool {
    from == to && hook.is_none()
        || WAYS.iter().any(|way| way.to == to && way.hook == hook && way.from.contains(&from))
}

/// What a failure of this hook costs, and when it runs again; `bootstrap` and `promote` share the
/// backoff of crashes.
pub fn undo(hook: Hook) -> &'static str {
    match hook {
        Hook::Bootstrap => "the data is wiped, then again: at once, 200 ms, doubling up to 30 s",
        Hook::PreStart => "again after 1 s",
        Hook::Replicate => "again after 300 ms, doubling up to 5 s; exit 3: `bootstrap=rewind`",
        Hook::Promote => {
            "the application is killed, the lock given back; started again with bootstrap's pauses"
        }
        Hook::Demote => "the application is killed",
        Hook::Sync => "the set stays, again after 1 s; before `promote`: as a failed `promote`",
        Hook::Position => "counts as no answer; asked again where one is needed",
        Hook::Backup => {
            "nothing is listed; the schedule's is tried again after 5 min, 3 times in all"
        }
        Hook::Verify => "not verified; exit 3: the backup is marked bad",
        Hook::Health => "again each 50 ms while starting, else each `health_interval`",
        Hook::Reload => "is told; the change is in force already",
    }
}

const SERVING: &[Hook] = &[Hook::Health, Hook::Position];

const fn place(
    phase: Phase,
    (name, status): (&'static str, &'static str),
    about: &'static str,
    bound: &'static str,
    beside: &'static [Hook],
) -> Place {
    Place { phase, name, status, about, bound, beside }
}

/// Every phase, in the order of a life.
pub const PLACES: [Place; 22] = [
    place(
        Init,
        ("init", "init"),
        "nothing is known yet of the cluster",
        "none: Consul's first answer",
        &[],
    ),
    place(
        Joining,
        ("joining", "joining"),
        "the disk is empty: waits for a source to clone from, or for the lock to create the data",
        "none: `status` says what is missing",
        &[],
    ),
    place(
        Wiping,
        ("wiping", "wiping"),
        "the application's directory is emptied",
        "the volume's answer",
        &[],
    ),
    place(
        Marking,
        ("marking", "bootstrapping"),
        "the marker of an unfinished bootstrap is made durable; a backup to restore is read whole",
        "the volume's answer",
        &[],
    ),
    place(
        Bootstrapping,
        ("bootstrapping", "bootstrapping"),
        "`bootstrap` runs",
        "`timeouts.bootstrap`",
        &[],
    ),
    place(
        Keeping,
        ("keeping", "bootstrapping"),
        "the cluster's id is made durable",
        "the volume's answer",
        &[],
    ),
    place(
        Waiting,
        ("waiting", "waiting"),
        "this node led: its start depends on who takes over; or a pause after crashes",
        "two of `lease_max` and 1 s, or the pause",
        &[],
    ),
    place(
        Pausing,
        ("backoff", "backoff"),
        "the application died too often, or `pre-start` failed",
        "30 s",
        &[],
    ),
    place(Preparing, ("preparing", "starting"), "`pre-start` runs", "`timeouts.pre_start`", &[]),
    place(
        Starting,
        ("starting", "starting"),
        "the application was started, read-only, and does not serve yet",
        "none: its health; a leader gives the lock up after one lease",
        &[Hook::Health],
    ),
    place(
        Replica,
        ("replica", "replica"),
        "runs and refuses writes",
        "none",
        &[Hook::Replicate, Hook::Health, Hook::Position, Hook::Reload, Hook::Backup, Hook::Verify],
    ),
    place(
        Arming,
        ("arming", "promoting"),
        "holds the lock; the guard has not acknowledged the deadline yet",
        "the lease less D",
        SERVING,
    ),
    place(
        Requiring,
        ("requiring", "promoting"),
        "`sync = \"strict\"`: acknowledgements are required before anything is written",
        "the lease less D; `timeouts.sync`",
        SERVING,
    ),
    place(
        Promoting,
        ("promoting", "promoting"),
        "`promote` runs",
        "the lease less D; `timeouts.promote`",
        SERVING,
    ),
    place(
        Primary,
        ("primary", "primary"),
        "takes writes",
        "the lease less D",
        &[Hook::Sync, Hook::Health, Hook::Position, Hook::Reload, Hook::Backup, Hook::Verify],
    ),
    place(
        Demoting,
        ("demoting", "demoting"),
        "`demote` runs",
        "the lease less K; `timeouts.demote`",
        SERVING,
    ),
    place(
        Draining,
        ("draining", "draining"),
        "refuses writes; waits, inside the lease, for the successor to report the final position",
        "the lease less K and 100 ms",
        SERVING,
    ),
    place(
        Killing,
        ("killing", "killing"),
        "the application's whole tree is being killed",
        "none: the tree's end",
        &[],
    ),
    place(
        Parting,
        ("leaving", "leaving"),
        "asked to stop while commits wait for this replica: until the leader counts it no more",
        "3 s",
        SERVING,
    ),
    place(
        Stopping,
        ("stopping", "stopping"),
        "the application was asked to end",
        "`stop_timeout`",
        &[],
    ),
    place(Stopped, ("stopped", "stopped"), "lictor ends", "none", &[]),
    place(
        Failed,
        ("failed", "failed"),
        "stays down; its reason says why",
        "none: an operator",
        &[],
    ),
];

const fn way(from: &'static [Phase], to: Phase, hook: Option<Hook>, when: &'static str) -> Way {
    Way { from, to, hook, when, untaken: None }
}

/// Every way, by what it leads to.
pub const WAYS: &[Way] = &[
    way(&[Init], Joining, None, "the disk is empty"),
    way(&[Wiping], Joining, None, "it is empty now"),
    way(&[Marking], Joining, None, "the source to clone from is gone"),
    way(&[Init], Wiping, None, "a bootstrap had not finished"),
    way(&[Bootstrapping], Wiping, None, "`bootstrap` failed, or the creator lost the lock"),
    way(&[Marking, Keeping], Wiping, None, "the creator lost the lock, or the backup is not whole"),
    way(&[Killing], Wiping, None, "another node has created the cluster, or `reinit`"),
    way(&[Joining], Marking, None, "the lock is ours: create; or a source is there: clone"),
    way(&[Killing], Marking, None, "the data diverged: rewind"),
    way(&[Marking], Bootstrapping, Some(Hook::Bootstrap), "the marker is durable"),
    way(&[Bootstrapping], Keeping, None, "`bootstrap` is done"),
    way(
        &[Init, Killing],
        Waiting,
        None,
        "this node led and another may take; or a pause after crashes",
    ),
    way(&[Killing], Pausing, None, "crashed again within `restart_window`"),
    way(&[Preparing], Pausing, None, "`pre-start` failed"),
    way(&[Init], Preparing, Some(Hook::PreStart), "there is data"),
    way(&[Keeping], Preparing, Some(Hook::PreStart), "the cluster's id is durable"),
    way(&[Waiting], Preparing, Some(Hook::PreStart), "another node leads, or the time is over"),
    way(&[Pausing], Preparing, Some(Hook::PreStart), "the pause is over"),
    way(&[Killing], Preparing, Some(Hook::PreStart), "nothing is left of the application"),
    way(&[Preparing], Starting, None, "`pre-start` is done: the application is started"),
    way(&[Starting], Replica, None, "`health` succeeds"),
    way(&[Demoting], Replica, None, "fenced: `demote` is done"),
    way(
        &[Draining],
        Replica,
        None,
        "the lock is released, or taken again by a late successor's fault",
    ),
    way(&[Replica], Arming, None, "the lock is ours, the cluster written, the epoch durable"),
    way(&[Arming], Requiring, Some(Hook::Sync), "`strict`: the guard acknowledged"),
    way(&[Arming], Promoting, Some(Hook::Promote), "the guard acknowledged"),
    way(&[Requiring], Promoting, Some(Hook::Promote), "`sync` is in force"),
    way(&[Promoting], Primary, None, "`promote` is done"),
    way(
        &[Primary],
        Demoting,
        Some(Hook::Demote),
        "a switchover, a stop, an application that is unable, or the lease ends",
    ),
    way(&[Demoting], Draining, Some(Hook::Position), "planned: `demote` is done"),
    way(&[Replica], Parting, None, "asked to stop, and in the sync set"),
    way(
        &[Replica, Parting],
        Stopping,
        None,
        "asked to stop: not in the sync set, no leader, or the time is over",
    ),
    way(
        &[Starting, Replica, Arming, Requiring, Promoting, Primary, Demoting, Draining],
        Killing,
        None,
        "the application ended, or the guard fired",
    ),
    way(&[Replica, Primary], Killing, None, "no check succeeded for `hung_after`"),
    way(
        &[Stopping],
        Killing,
        None,
        "the application ended, `stop_timeout` is over, or the guard fired",
    ),
    way(
        &[Arming, Requiring, Promoting],
        Killing,
        None,
        "the lease ends, or a hook before the promotion failed",
    ),
    way(&[Primary], Killing, None, "the lease ends too soon for `demote`"),
    way(&[Demoting], Killing, None, "`demote` failed, hung, or said \"stop me\""),
    way(&[Replica], Killing, None, "the data diverged, or was created in vain"),
    way(
        &[
            Wiping,
            Marking,
            Bootstrapping,
            Keeping,
            Waiting,
            Pausing,
            Preparing,
            Starting,
            Arming,
            Requiring,
            Promoting,
        ],
        Killing,
        None,
        "asked to stop",
    ),
    way(
        &[
            Init,
            Joining,
            Wiping,
            Marking,
            Bootstrapping,
            Keeping,
            Waiting,
            Pausing,
            Preparing,
            Starting,
            Replica,
            Arming,
            Requiring,
            Promoting,
            Primary,
            Demoting,
            Draining,
            Parting,
            Stopping,
        ],
        Killing,
        None,
        "the volume failed",
    ),
    way(&[Init, Joining], Stopped, None, "asked to stop before anything ran"),
    way(&[Killing], Stopped, None, "asked to stop, and nothing is left"),
    way(&[Failed], Stopped, None, "asked to stop"),
    way(&[Init], Failed, None, "the volume is another cluster's, or of none that is known"),
    way(&[Killing], Failed, None, "the volume failed, and nothing is left"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_phase_has_its_place_and_its_own_name() {
        let names: BTreeSet<&str> = PLACES.iter().map(|place| place.name).collect();
        let phases: BTreeSet<Phase> = PLACES.iter().map(|place| place.phase).collect();
        assert_eq!((names.len(), phases.len()), (PLACES.len(), PLACES.len()));
        assert_eq!(Failed.name(), "failed");
    }

    #[test]
    fn every_phase_but_the_last_can_be_left_and_every_one_but_the_first_reached() {
        for place in PLACES {
            let left = WAYS.iter().any(|way| way.from.contains(&place.phase));
            let reached = WAYS.iter().any(|way| way.to == place.phase);
            assert_eq!(left, place.phase != Stopped, "{}", place.name);
            assert_eq!(reached, place.phase != Init, "{}", place.name);
        }
    }

    #[test]
    fn an_unknown_way_is_refused() {
        assert!(allows(Preparing, Starting, None));
        assert!(!allows(Preparing, Primary, None));
        assert!(!allows(Arming, Promoting, None), "its hook is missing");
        assert!(!allows(Arming, Promoting, Some(Hook::Sync)), "the wrong hook");
        assert!(allows(Killing, Killing, None), "no way at all");
    }
}
