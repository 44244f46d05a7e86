//! A machine: its clock, its volume, its application with the guard, and the sidecar's process.

use super::app::{App, Data};
use super::fault::{Ill, Lost, Place};
use crate::decide::hook::{Hook, HookCall};
use crate::decide::io::{Effect, Input};
use crate::decide::life::{Node, Settings};
use crate::decide::records::Follows;
use crate::decide::time::At;
use crate::decide::types::{ClusterId, DiskId, Epoch, NodeName, OpId, RunId};
use crate::store::memory::Query;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Milliseconds of BOOTTIME against the world's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub offset: u64,
    /// In millionths.
    pub rate: i64,
}

impl Clock {
    pub fn local(self, t: u64) -> At {
        let drift = i64::try_from(t).expect("minutes") * self.rate / 1_000_000;
        At((self.offset + t).saturating_add_signed(drift))
    }

    /// The first moment of the world at which this clock shows `at` or later.
    pub fn global(self, at: At) -> u64 {
        let ahead = at.0.saturating_sub(self.offset);
        let drift = i64::try_from(ahead).expect("minutes") * self.rate / 1_000_000;
        let mut t = ahead.saturating_add_signed(-drift).saturating_sub(2);
        while self.local(t) < at {
            t += 1;
        }
        t
    }
}

/// What is on the volume.
#[derive(Clone, Debug)]
pub struct Volume {
    pub disk: DiskId,
    pub floor: Epoch,
    pub cluster: Option<ClusterId>,
    pub marker: bool,
    pub follows: Option<Follows>,
    pub data: Option<Data>,
    pub fails_until: u64,
}

/// The page that the sidecar and its guard share: what is armed, and till when.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    pub armed: Option<(u32, At)>,
}

/// One run of a hook.
#[derive(Clone, Debug)]
pub struct Running {
    pub call: Rc<HookCall>,
    pub ill: Option<Ill>,
    /// It has done what it should; how it will end.
    pub did: Option<i32>,
    pub answer: Option<String>,
}

/// A blocking query, between its begin and its return.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub after: Option<u64>,
    pub waits: Option<Query>,
    /// Told apart from its own past.
    pub turn: u64,
    /// Its wait is clearly not over before this.
    pub nearly_over: u64,
    /// The holder does not watch `leader`.
    pub rests: bool,
}

/// The sidecar's process.
pub struct Process {
    pub id: u64,
    pub run: RunId,
    pub node: Node,
    pub inbox: VecDeque<Input>,
    /// Effects of a step that were not carried out yet: it was stopped in between.
    pub late: VecDeque<Effect>,
    pub settling: bool,
    /// It carries out the first of these effects until then.
    pub busy: Option<u64>,
    pub calls: BTreeSet<OpId>,
    pub peer_calls: BTreeSet<OpId>,
    /// Who asked, by the number given here.
    pub asked: BTreeMap<OpId, (Place, u64, OpId)>,
    pub outside: u64,
    pub watches: [Watch; 2],
    pub wake: u64,
    pub stop_by: Option<u64>,
    pub leaving: bool,
}

/// What is wrong with a node's surroundings, and until when.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    pub consul_lost: Option<(Lost, u64)>,
    pub consul_slow: (u64, u64),
    pub consul_loss: (u64, u64),
    pub isolated: u64,
    pub peer_slow: (u64, u64),
    pub peer_cut: BTreeMap<Place, u64>,
    pub sidecar_paused: u64,
    pub pause_mid: Option<u64>,
    pub app_paused: u64,
    pub node_paused: u64,
    pub replication_slow: (u64, u64),
    /// The guard was frozen too, beyond the time to kill.
    pub thawed_late: bool,
    pub crash_loop: u64,
    pub ills: Vec<(Hook, Ill, u64)>,
}

pub struct SimNode {
    pub name: NodeName,
    pub clock: Clock,
    pub wall_ahead: i64,
    pub settings: Settings,
    pub volume: Volume,
    pub app: Option<App>,
    pub guard: Guard,
    pub hooks: BTreeMap<OpId, Running>,
    pub process: Option<Process>,
    pub trouble: Trouble,
    /// Which life of the machine: what was under way in another one does not count.
    pub pids: u32,
}

impl SimNode {
    pub fn sidecar_until(&self) -> u64 {
        self.trouble.sidecar_paused.max(self.trouble.node_paused)
    }

    pub fn app_until(&self) -> u64 {
        self.trouble.app_paused.max(self.trouble.node_paused)
    }

    /// It would accept a write at this moment.
    pub fn writable(&self, t: u64) -> bool {
        self.app.as_ref().is_some_and(|app| app.writable) && self.app_until() <= t
    }

    /// The same, but for the moments between a thaw of the whole machine and the kill by its guard,
    /// which was frozen too: an assumption of the safety argument excludes them, and acknowledged
    /// rows must survive them all the same.
    pub fn counts_as_writable(&self, t: u64) -> bool {
        let thawed = self.trouble.thawed_late || self.trouble.node_paused == t;
        self.writable(t) && !thawed
    }

    pub fn serves(&self, t: u64) -> bool {
        self.app.as_ref().is_some_and(|app| app.up <= t && !app.dying) && self.app_until() <= t
    }

    /// How the next run of this hook goes wrong.
    pub fn ill(&mut self, hook: Hook) -> Option<Ill> {
        let found = self.trouble.ills.iter_mut().find(|(of, _, left)| *of == hook && *left > 0)?;
        found.2 -= 1;
        Some(found.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_there_and_back() {
        for rate in [-9_000, 0, 9_000] {
            let clock = Clock { offset: 5_000_000, rate };
            for t in [0, 1, 999, 123_456, 1_800_000] {
                let at = clock.local(t);
                let back = clock.global(at);
                assert!(back <= t && clock.local(back) == at, "{rate} {t} {back}");
            }
        }
    }
}
