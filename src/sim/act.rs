//! Effects become acts, as the driver makes them; ends of acts become inputs.
//!
//! The time until which an effect is valid is looked at just before the act, by the same functions
//! the driver asks. Must not: decide.

use super::app::{App, CUT_MOST};
use super::fault::{Ill, Place};
use super::node::Running;
use super::world::{Event, World};
use crate::decide::guard::is_due;
use crate::decide::hook::{Hook, HookCall, HookEnd};
use crate::decide::io::{Effect, Exit, Input};
use crate::decide::types::OpId;
use std::rc::Rc;

/// From the decision to kill until nothing is left of the tree, at most.
const KILL_MOST: u64 = 80;
/// One write on the volume, fsync included, at most.
const VOLUME_MOST: u64 = 20;
/// From the start until the application serves, at most.
const UP_MOST: u64 = 800;
/// A process that says it leaves is gone by then.
const LEAVE: u64 = 20;

impl World<'_> {
    pub(super) fn act(&mut self, node: Place, effect: Effect) {
        match effect {
            Effect::Call { op, call, valid_until } => self.call(node, op, call, valid_until),
            Effect::RunHook(call) => self.run_hook(node, call),
            Effect::CancelHook { id } => self.cancel_hook(node, id),
            Effect::StartApp => self.start_app(node),
            Effect::TermApp => self.term_app(node),
            Effect::KillTree => self.kill_tree(node),
            Effect::Arm { pid, kill_at } => self.arm(node, pid, kill_at),
            Effect::Extend { kill_at } => self.extend(node, kill_at),
            Effect::Disarm => self.nodes[node].guard.armed = None,
            Effect::PersistFloor(_)
            | Effect::PersistFollows(_)
            | Effect::PersistClusterId(_)
            | Effect::WriteMarker
            | Effect::RemoveMarker
            | Effect::Wipe => {
                let process = self.process_id(node);
                let ms = self.rng.within(1, VOLUME_MOST);
                self.after(ms, Event::Volume { node, process, effect: Box::new(effect) });
            }
            Effect::PersistConfig(_) | Effect::ActionReply { .. } => {}
            Effect::Backup { id, .. } => {
                let result = Err("there is no directory for backups here".to_owned());
                self.give(node, Input::BackupActed { id, result });
            }
            Effect::PeerCall { id, call } => self.peer_call(node, id, call),
            Effect::PeerAnswer { id, told } => self.peer_answer(node, id, told),
            Effect::Decided(reason) => {
                let t = self.t;
                *self.check.reasons.entry(reason.code).or_default() += 1;
                self.trace.line(t, node, "decided", || reason.to_string());
            }
            Effect::Exit { code, why } => {
                let t = self.t;
                self.trace.line(t, node, "exit", || format!("{code}: {why}"));
                let id = self.process_id(node);
                if let Some(process) = self.process(node, id) {
                    process.leaving = true;
                }
                self.check.exits.insert(code);
                self.after(LEAVE, Event::Left { node, process: id });
            }
        }
    }

    /// The end of a write on the volume, if it came to that.
    pub(super) fn on_volume(&mut self, node: Place, process: u64, effect: Effect) {
        let alive = self.process(node, process).is_some();
        // Written or not: nobody is there any more to hear it.
        if !alive && self.rng.chance(500) {
            return;
        }
        let fails = self.nodes[node].volume.fails_until > self.t;
        let volume = &mut self.nodes[node].volume;
        let what = || "no space left on device".to_owned();
        let input = match effect {
            Effect::PersistFloor(epoch) if fails => Input::FloorFailed { epoch, what: what() },
            Effect::PersistFollows(_) if fails => Input::FollowsFailed { what: what() },
            _ if fails => Input::VolumeFailed { what: what() },
            Effect::PersistFloor(epoch) => {
                volume.floor = epoch;
                Input::FloorDurable(epoch)
            }
            Effect::PersistFollows(follows) => {
                volume.follows = Some(follows);
                Input::Tick
            }
            Effect::PersistClusterId(id) => {
                volume.cluster = Some(id.clone());
                Input::ClusterIdDurable(id)
            }
            Effect::WriteMarker => {
                volume.marker = true;
                Input::MarkerWritten
            }
            Effect::RemoveMarker => {
                volume.marker = false;
                Input::MarkerRemoved
            }
            Effect::Wipe => {
                volume.data = None;
                volume.cluster = None;
                volume.follows = None;
                volume.marker = false;
                Input::Wiped
            }
            other => unreachable!("{other:?} is not the volume's"),
        };
        self.give_to(node, process, input);
    }

    fn start_app(&mut self, node: Place) {
        let up = self.t + self.rng.within(20, UP_MOST);
        let (cuts, most) = (self.rng.chance(500), self.rng.within(0, CUT_MOST));
        let t = self.t;
        let it = &mut self.nodes[node];
        let Some(data) = &mut it.volume.data else {
            self.give(node, Input::AppNotStarted { why: "no data".to_owned() });
            return;
        };
        if let Some(stays) = data.unclean.take().filter(|_| cuts && data.cuts) {
            let len = data.rows.len().saturating_sub(usize::try_from(most).expect("a few"));
            data.cut(len.max(stays.min(data.rows.len())));
        }
        let rows = data.rows.len();
        it.pids += 1;
        let pid = it.pids;
        it.app = Some(App::new(pid, up, rows));
        let loops = it.trouble.crash_loop > 0;
        it.trouble.crash_loop = it.trouble.crash_loop.saturating_sub(1);
        self.trace.line(t, node, "app-starts", || format!("pid {pid}, {rows} rows"));
        if loops {
            let ms = self.rng.within(1, UP_MOST);
            self.after(ms, Event::AppEnds { node, pid });
        }
        self.give(node, Input::AppStarted { pid });
    }

    fn term_app(&mut self, node: Place) {
        let ms = self.rng.within(10, 500);
        if let Some(app) = &self.nodes[node].app {
            let pid = app.pid;
            // A stopped process does not end by being asked.
            let at = (self.t + ms).max(self.nodes[node].app_until());
            if let Some(data) = &mut self.nodes[node].volume.data {
                data.unclean = None;
            }
            self.at(at, Event::AppEnds { node, pid });
        }
    }

    /// The main process ends by itself: a crash, or because it was asked.
    pub(super) fn app_ends(&mut self, node: Place, pid: u32) {
        let it = &mut self.nodes[node];
        let Some(app) = it.app.take_if(|app| app.pid == pid && !app.dying) else { return };
        if let Some(data) = &mut it.volume.data {
            data.unclean = app.cut_from().or(data.unclean);
        }
        let exit = Exit::Code(i32::from(app.writable));
        let t = self.t;
        self.trace.line(t, node, "app-ended", || format!("pid {pid}"));
        self.give(node, Input::AppExited { pid, exit });
    }

    fn kill_tree(&mut self, node: Place) {
        let ids: Vec<OpId> = self.nodes[node].hooks.keys().copied().collect();
        for id in ids {
            self.cancel_hook(node, id);
        }
        let t = self.t;
        self.trace.line(t, node, "kill", String::new);
        self.begin_kill(node, true);
    }

    /// Until it is gone it may still write.
    pub(super) fn begin_kill(&mut self, node: Place, told: bool) {
        let ms = self.rng.within(0, KILL_MOST);
        let pid = self.nodes[node].app.as_mut().map_or(0, |app| {
            app.dying = true;
            app.pid
        });
        self.after(ms, Event::Dead { node, pid, told });
    }

    pub(super) fn dead(&mut self, node: Place, pid: u32, told: bool) {
        let it = &mut self.nodes[node];
        it.trouble.thawed_late = false;
        if let Some(app) = it.app.take_if(|app| app.pid == pid) {
            if let Some(data) = &mut it.volume.data {
                data.unclean = app.cut_from().or(data.unclean);
            }
            self.give(node, Input::AppExited { pid, exit: Exit::Signal(9) });
        }
        if told {
            self.give(node, Input::TreeGone);
        }
    }

    fn arm(&mut self, node: Place, pid: u32, kill_at: crate::decide::time::At) {
        let it = &mut self.nodes[node];
        if it.app.as_ref().is_none_or(|app| app.pid != pid) {
            return;
        }
        it.guard.armed = Some((pid, kill_at));
        let at = it.clock.global(kill_at);
        self.at(at, Event::Guard { node });
        let process = self.process_id(node);
        let input = Input::GuardArmed { pid, kill_at };
        self.after(1, Event::Input { node, process, input });
    }

    fn extend(&mut self, node: Place, kill_at: crate::decide::time::At) {
        let it = &mut self.nodes[node];
        if let Some((_, armed)) = &mut it.guard.armed {
            *armed = kill_at;
            let at = it.clock.global(kill_at);
            self.at(at, Event::Guard { node });
        }
    }

    /// The guard wakes by its own timer, whatever the sidecar does.
    pub(super) fn guard_looks(&mut self, node: Place) {
        let (t, now) = (self.t, self.now(node).at);
        let it = &mut self.nodes[node];
        if it.trouble.node_paused > t {
            return;
        }
        let Some((pid, _)) = it.guard.armed.filter(|(_, kill_at)| is_due(*kill_at, now)) else {
            return;
        };
        it.guard.armed = None;
        it.trouble.thawed_late = it.trouble.node_paused == t;
        self.trace.line(t, node, "guard-kills", || format!("pid {pid}"));
        self.check.guard_kills += 1;
        let ids: Vec<OpId> = self.nodes[node].hooks.keys().copied().collect();
        for id in ids {
            self.hook_over(node, id, HookEnd::Signal { signal: 9 });
        }
        self.begin_kill(node, false);
        self.give(node, Input::GuardFired);
    }

    fn run_hook(&mut self, node: Place, mut call: HookCall) {
        let now = self.now(node).at;
        let id = call.id;
        if !call.may_start(now) {
            self.give(node, Input::HookEnded { id, end: HookEnd::Cancelled });
            return;
        }
        let hook = call.hook;
        let most = match hook {
            Hook::Health | Hook::Position => 20.min(self.plan.hook),
            Hook::Bootstrap => self.plan.hook * 4,
            Hook::PreStart
            | Hook::Replicate
            | Hook::Promote
            | Hook::Demote
            | Hook::Sync
            | Hook::Reload
            | Hook::Backup
            | Hook::Verify => self.plan.hook,
        };
        let ill = self.nodes[node].ill(hook);
        let slow = match ill {
            Some(Ill::Slow(by)) => by,
            Some(Ill::Hang | Ill::HangAfter | Ill::Fail | Ill::HalfDone) | None => 0,
        };
        let acts = self.rng.within(1, most) + slow;
        let ends = acts + self.rng.within(0, most);
        let clock = self.nodes[node].clock;
        let over =
            call.valid_until.map_or(now + call.timeout, |until| until.min(now + call.timeout));
        let t = self.t;
        if hook != Hook::Health {
            self.trace.line(t, node, "hook", || format!("{hook} {ill:?}"));
        }
        self.nodes[node]
            .hooks
            .insert(id, Running { call: Rc::new(call), ill, did: None, answer: None });
        if ill != Some(Ill::Hang) {
            self.after(acts, Event::HookActs { node, id });
        }
        if !matches!(ill, Some(Ill::Hang | Ill::HangAfter)) {
            self.after(ends, Event::HookEnds { node, id });
        }
        self.at(clock.global(over), Event::HookKilled { node, id });
    }

    /// What it has begun may still take effect.
    pub(super) fn cancel_hook(&mut self, node: Place, id: OpId) {
        if self.rng.chance(300) {
            self.hook_acts(node, id);
        }
        self.hook_over(node, id, HookEnd::Cancelled);
    }

    pub(super) fn hook_over(&mut self, node: Place, id: OpId, end: HookEnd) {
        let Some(running) = self.nodes[node].hooks.remove(&id) else { return };
        let t = self.t;
        if running.call.hook == Hook::Demote && !matches!(end, HookEnd::Done { .. }) {
            // It ends by a kill: what it had and nobody acknowledged may be lost.
            self.check.handover = None;
        }
        if running.call.hook != Hook::Health {
            self.trace.line(t, node, "hook-ended", || format!("{} {end:?}", running.call.hook));
        }
        self.give(node, Input::HookEnded { id, end });
    }
}
