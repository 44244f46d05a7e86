//! What hooks do to the application: each acts at one moment and ends at a later one, so that a
//! kill, a pause or a failure may come between.

use super::app::{App, Data, Need};
use super::fault::{Ill, Place};
use super::world::{Event, World};
use crate::decide::hook::{Hook, HookCall, HookEnd};
use crate::decide::types::OpId;
use std::rc::Rc;

/// A hook that waits for a stopped application looks again.
const AGAIN: u64 = 50;
/// Between two looks of a replica at its primary.
const PULL: (u64, u64) = (20, 90);
/// Between two writes of the clients.
const WRITE: (u64, u64) = (40, 160);
const DIVERGED: i32 = 3;

fn fact<'a>(call: &'a HookCall, name: &str) -> Option<&'a str> {
    call.facts.get(&format!("LICTOR_{name}")).map(String::as_str)
}

fn number(call: &HookCall, name: &str) -> u64 {
    fact(call, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl World<'_> {
    pub(super) fn hook_acts(&mut self, node: Place, id: OpId) {
        let Some(running) = self.nodes[node].hooks.get(&id) else { return };
        if running.did.is_some() {
            return;
        }
        let call = Rc::clone(&running.call);
        let needs_app = !matches!(call.hook, Hook::Bootstrap | Hook::PreStart);
        let frozen = self.nodes[node].trouble.node_paused;
        let frozen = if needs_app { self.nodes[node].app_until() } else { frozen };
        if frozen > self.t {
            self.after(AGAIN, Event::HookActs { node, id });
            return;
        }
        let ill = self.nodes[node].hooks.get(&id).and_then(|running| running.ill);
        let (code, answer) = match ill {
            Some(Ill::Fail) => (1, None),
            Some(Ill::HalfDone) => {
                let (code, _) = self.does(node, &call);
                (if code == 0 { 1 } else { code }, None)
            }
            Some(Ill::Slow(_) | Ill::Hang | Ill::HangAfter) | None => self.does(node, &call),
        };
        if let Some(running) = self.nodes[node].hooks.get_mut(&id) {
            running.did = Some(code);
            running.answer = answer;
        }
    }

    pub(super) fn hook_ends(&mut self, node: Place, id: OpId) {
        let t = self.t;
        let Some(running) = self.nodes[node].hooks.get(&id) else { return };
        let Some(code) = running.did.filter(|_| self.nodes[node].trouble.node_paused <= t) else {
            self.after(AGAIN, Event::HookEnds { node, id });
            return;
        };
        let answer = running.answer.clone();
        let end = if code == 0 { HookEnd::Done { answer } } else { HookEnd::Exit { code } };
        self.hook_over(node, id, end);
    }

    /// The sidecar kills what runs too long, once it runs itself.
    pub(super) fn hook_timeout(&mut self, node: Place, id: OpId) {
        let Some(running) = self.nodes[node].hooks.get(&id) else { return };
        let until = self.nodes[node].sidecar_until();
        if until > self.t {
            self.at(until, Event::HookKilled { node, id });
            return;
        }
        let cancelled = running.call.valid_until.is_some();
        let end = if cancelled { HookEnd::Cancelled } else { HookEnd::Timeout };
        self.hook_over(node, id, end);
    }

    fn does(&mut self, node: Place, call: &HookCall) -> (i32, Option<String>) {
        let serves = self.nodes[node].serves(self.t);
        let code = match call.hook {
            Hook::Bootstrap => self.bootstrap(node, call),
            Hook::PreStart => self.pre_start(node, call),
            Hook::Reload | Hook::Backup | Hook::Verify => 0,
            Hook::Replicate | Hook::Promote | Hook::Demote | Hook::Sync if !serves => 1,
            Hook::Position | Hook::Health if !serves => 1,
            Hook::Replicate => self.replicate(node, call),
            Hook::Promote => self.promote(node, call),
            Hook::Demote => self.demote(node, call),
            Hook::Sync => self.sync(node, call),
            Hook::Health => 0,
            Hook::Position => return self.position(node, call),
        };
        (code, None)
    }

    fn pre_start(&mut self, node: Place, call: &HookCall) -> i32 {
        let other = fact(call, "PRIMARY_NODE").is_some_and(|name| self.place(name) != Some(node));
        let epoch = number(call, "PRIMARY_EPOCH");
        if let Some(data) = &mut self.nodes[node].volume.data {
            data.cuts = other && data.led.is_some_and(|led| epoch > led);
        }
        0
    }

    fn bootstrap(&mut self, node: Place, call: &HookCall) -> i32 {
        match fact(call, "BOOTSTRAP") {
            Some("create" | "restore") => {
                self.nodes[node].volume.data = Some(Data::default());
                0
            }
            Some("clone") => {
                let source = fact(call, "SOURCE_NODE").and_then(|name| self.place(name));
                let Some(from) = source.filter(|from| self.reaches(node, *from)) else { return 1 };
                let mut data = self.nodes[from].volume.data.clone().unwrap_or_default();
                data.unclean = None;
                data.led = None;
                self.nodes[node].volume.data = Some(data);
                0
            }
            Some("rewind") => {
                let source = fact(call, "PRIMARY_NODE").and_then(|name| self.place(name));
                let Some(from) = source.filter(|from| self.reaches(node, *from)) else { return 1 };
                if self.rng.chance(500) {
                    return 1;
                }
                let theirs = self.nodes[from].volume.data.clone().unwrap_or_default();
                let Some(own) = &mut self.nodes[node].volume.data else { return 1 };
                let common = own.common(&theirs);
                own.cut(common);
                own.unclean = None;
                0
            }
            Some(_) | None => 1,
        }
    }

    /// Whether the other one's application can be talked to.
    fn reaches(&self, from: Place, to: Place) -> bool {
        from != to
            && !self.is_cut(from, to)
            && !self.is_cut(to, from)
            && self.nodes[to].serves(self.t)
    }

    fn replicate(&mut self, node: Place, call: &HookCall) -> i32 {
        let primary = fact(call, "PRIMARY_NODE").and_then(|name| self.place(name));
        let Some(primary) = primary.filter(|primary| self.reaches(node, *primary)) else {
            return 1;
        };
        let acks = fact(call, "SYNC_SELF").is_some_and(|part| part != "no");
        let theirs = self.nodes[primary].volume.data.clone().unwrap_or_default();
        let t = self.t;
        let it = &mut self.nodes[node];
        let (Some(own), Some(app)) = (&mut it.volume.data, &mut it.app) else { return 1 };
        app.writable = false;
        app.need = Need::default();
        if !own.is_begin_of(&theirs) {
            return DIVERGED;
        }
        own.led = None;
        app.acks = acks;
        let pulls = app.receives.replace(primary).is_some();
        let pid = app.pid;
        self.trace.line(t, node, "follows", || format!("node {primary}, acknowledges {acks}"));
        if !pulls {
            self.after(PULL.0, Event::Pull { node, pid });
        }
        0
    }

    fn promote(&mut self, node: Place, call: &HookCall) -> i32 {
        let (t, epoch) = (self.t, number(call, "EPOCH"));
        let it = &mut self.nodes[node];
        let Some(app) = &mut it.app else { return 1 };
        app.receives = None;
        app.got.clear();
        let rows = it.volume.data.as_ref().map_or(0, |data| data.rows.len());
        if let Some(data) = &mut it.volume.data {
            data.led = Some(epoch);
        }
        app.acked = rows;
        app.writable = true;
        let (pid, begins) = (app.pid, !std::mem::replace(&mut app.writes, true));
        self.trace.line(t, node, "WRITABLE", || format!("{rows} rows"));
        if begins {
            self.after(WRITE.0, Event::Write { node, pid });
        }
        self.check_promoted(node);
        self.check_writable();
        0
    }

    fn demote(&mut self, node: Place, call: &HookCall) -> i32 {
        let t = self.t;
        if let Some(app) = &mut self.nodes[node].app {
            app.writable = false;
            // Whoever leads without a set next must not wait for this one's.
            app.need = Need::default();
        }
        self.trace.line(t, node, "read-only", String::new);
        if fact(call, "DEMOTE") == Some("planned") {
            self.demoted_by_plan(node);
        }
        0
    }

    fn sync(&mut self, node: Place, call: &HookCall) -> i32 {
        let acks = fact(call, "SYNC_ACKS").and_then(|acks| acks.parse().ok()).unwrap_or(0);
        let names = fact(call, "SYNC_MEMBERS").unwrap_or_default();
        let of = names.split(',').filter_map(|name| self.place(name)).collect();
        let t = self.t;
        self.trace.line(t, node, "sync", || format!("{acks} of {names:?}"));
        let it = &mut self.nodes[node];
        if let (Some(app), Some(data)) = (&mut it.app, &it.volume.data) {
            if app.need.acks == 0 {
                app.before_need = data.rows.len();
            }
            app.need = Need { acks, of };
        }
        self.acknowledge(node);
        0
    }

    fn position(&mut self, node: Place, call: &HookCall) -> (i32, Option<String>) {
        let it = &mut self.nodes[node];
        let rows = it.volume.data.as_ref().map_or(0, |data| data.rows.len());
        if fact(call, "FREEZE").is_some()
            && let Some(app) = &mut it.app
        {
            app.receives = None;
        }
        (0, Some(format!("{{\"order\":{rows},\"lag_seconds\":0.0,\"text\":\"\"}}")))
    }

    /// A client's write, and the next one's time.
    pub(super) fn write(&mut self, node: Place, pid: u32) {
        let t = self.t;
        let next = self.rng.within(WRITE.0, WRITE.1);
        let writable = self.nodes[node].writable(t);
        let it = &mut self.nodes[node];
        let Some(app) = it.app.as_mut().filter(|app| app.pid == pid) else { return };
        if !app.writable {
            app.writes = false;
            return;
        }
        let until = it.trouble.app_paused.max(it.trouble.node_paused);
        if writable && let Some(data) = &mut it.volume.data {
            self.rows += 1;
            data.rows.push(self.rows);
            self.check.written += 1;
        }
        self.acknowledge(node);
        self.at((t + next).max(until), Event::Write { node, pid });
    }

    /// Tells clients of what enough replicas have.
    pub(super) fn acknowledge(&mut self, node: Place) {
        let t = self.t;
        let it = &mut self.nodes[node];
        if !it.writable(t) {
            return;
        }
        let (Some(app), Some(data)) = (&mut it.app, &mut it.volume.data) else { return };
        let acked = app.acknowledged(data.rows.len()).max(app.acked);
        let news = data.rows[app.acked..acked].to_vec();
        app.acked = acked;
        data.safe = data.safe.max(acked);
        if !news.is_empty() {
            self.acknowledged(node, &news);
        }
    }

    /// A replica takes what there is.
    pub(super) fn pull(&mut self, node: Place, pid: u32) {
        let t = self.t;
        let (by, until) = self.nodes[node].trouble.replication_slow;
        let slow = if until > t { by } else { 0 };
        let next = self.rng.within(PULL.0, PULL.1) + slow;
        let Some(app) = self.nodes[node].app.as_ref().filter(|app| app.pid == pid) else { return };
        let Some(primary) = app.receives else { return };
        self.after(next, Event::Pull { node, pid });
        if !self.nodes[node].serves(t) || !self.reaches(node, primary) {
            return;
        }
        if self.is_cut_off(node, primary) {
            return;
        }
        let Some((theirs, their_pid)) = self.sent(node, primary) else { return };
        let Some(data) = &mut self.nodes[node].volume.data else { return };
        data.rows.extend(theirs);
        let len = data.rows.len();
        let acks = self.nodes[node].app.as_ref().is_some_and(|app| app.acks);
        if acks && let Some(data) = &mut self.nodes[node].volume.data {
            data.safe = len;
            let ms = self.rng.within(0, self.plan.net);
            self.after(ms, Event::Ack { node: primary, pid: their_pid, from: node, len });
        }
    }

    /// It comes back as one that does not acknowledge, or when it counts.
    fn is_cut_off(&self, node: Place, primary: Place) -> bool {
        let acks = self.nodes[node].app.as_ref().is_some_and(|app| app.acks);
        let out = self.nodes[primary].app.as_ref().is_some_and(|app| app.leaves_out(node));
        self.plan.cuts_off && acks && out
    }

    /// What the primary has beyond the own end; `None`, and an end of receiving, where the logs
    /// do not fit.
    fn sent(&mut self, node: Place, primary: Place) -> Option<(Vec<u64>, u32)> {
        let theirs = self.nodes[primary].volume.data.as_ref()?;
        let own = self.nodes[node].volume.data.as_ref()?;
        let pid = self.nodes[primary].app.as_ref().map(|app: &App| app.pid)?;
        if !own.is_begin_of(theirs) {
            if let Some(app) = &mut self.nodes[node].app {
                app.receives = None;
            }
            return None;
        }
        Some((theirs.rows[own.rows.len()..].to_vec(), pid))
    }

    pub(super) fn ack(&mut self, node: Place, pid: u32, from: Place, len: usize) {
        if let Some(app) = self.nodes[node].app.as_mut().filter(|app| app.pid == pid) {
            let got = app.got.entry(from).or_default();
            *got = (*got).max(len);
            self.acknowledge(node);
        }
    }
}
