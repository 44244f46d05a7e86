//! A node's life: what is on its disk, what its application may do, and which hook comes next.
//!
//! `Node` is the whole core of one process: it feeds [`Lead`] and derives the role from what `Lead`
//! holds. It is level-triggered: every input only changes what is known, then `drive` compares what
//! is with what should be.
//!
//! Invariant: nothing of this node is writable unless `Lead` is open and the guard has acknowledged
//! its deadline. It must not: touch the outside, read a clock, or decide who leads.

pub mod backup;
pub mod boot;
pub mod bootstrap;
pub mod config;
pub mod crash;
mod denied;
pub mod drive;
pub mod facts;
pub mod follow;
pub mod freeze;
pub mod graph;
pub mod hold;
pub mod hooks;
pub mod hung;
pub mod journal;
pub mod lag;
pub mod members;
pub mod needs;
pub mod peers;
pub mod position;
pub mod promises;
pub mod register;
pub mod requests;
pub mod restore;
pub mod role;
pub mod seen;
pub mod settings;
pub mod state;
pub mod status;
pub mod sync;
pub mod volume;
pub mod would;

#[cfg(test)]
mod tests;

use super::call::{Answer, Call, StoreError};
use super::hook::Hook;
use super::io::{Effect, Input, Now, Outbox, Renewed};
use super::keys::{Key, Keys};
use super::lead::{Lead, LeadIn, LeadOut};
use super::reason::Reason;
use super::records::{ClusterValue, MemberValue, PauseValue, ResultValue, SyncValue};
use super::time::{At, Span};
use super::types::{Epoch, Index, NodeName, OpId};
pub use boot::Boot;
pub(crate) use boot::Disk;
pub use config::ConfigNews;
pub use settings::{BackupSettings, OnCrash, Settings, Stated, Timeouts};
pub use state::{After, Bootstrap, Demotion, Side, State, Work};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The last decisions kept for `status`.
const REASONS_KEPT: usize = 20;
/// Transitions one step may make; the longest legal chain is 4 (demoted, released, taken again,
/// followed).
const TRANSITIONS_MAX: usize = 8;

/// Whose answer a store call brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Lead(OpId),
    Record(Box<MemberValue>),
    RequestWritten { action: OpId, request_id: String },
    Result { request_id: String, value: Box<ResultValue> },
    Register,
    Known,
    Check { passing: bool },
    Service { name: String },
    Backup(backup::For),
    Journal { epoch: Epoch },
    Ignored,
}

/// The core of one process.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) boot: Boot,
    pub(crate) keys: Keys,
    pub(crate) set: Arc<Settings>,
    pub(crate) lead: Lead,
    pub(crate) counter: u64,
    pub(crate) calls: BTreeMap<OpId, Owner>,
    pub(crate) state: State,
    pub(crate) since: At,
    pub(crate) disk: Disk,
    pub(crate) seen_leader: bool,
    pub(crate) seen_state: bool,
    pub(crate) app: Option<u32>,
    pub(crate) health: hooks::Health,
    pub(crate) ailing: hung::Ailing,
    pub(crate) floor: volume::Floor,
    pub(crate) lag: lag::Lag,
    pub(crate) hold: hold::Hold,
    pub(crate) sides: BTreeMap<OpId, Side>,
    pub(crate) follow: follow::Follow,
    pub(crate) freezing: Option<freeze::Freezing>,
    pub(crate) cluster: Option<ClusterValue>,
    pub(crate) members: BTreeMap<NodeName, Arc<MemberValue>>,
    /// The index of `state/cluster`; none: it is not there now.
    pub(crate) cluster_at: Option<Index>,
    pub(crate) desk: requests::Desk,
    /// `state/pause` and its index.
    pub(crate) pause: Option<(PauseValue, Index)>,
    /// The application ended while the cluster was paused: it stays down until that is over.
    pub(crate) down_in_pause: bool,
    /// The indexes of the members' records.
    pub(crate) member_at: BTreeMap<NodeName, Index>,
    /// Their bytes as last read: what did not change is not decoded again.
    member_read: BTreeMap<Key, (Index, Vec<u8>, Arc<MemberValue>)>,
    /// Since when the lock is held by a node whose application is not the primary.
    pub(crate) idle_lead: Option<At>,
    pub(crate) peers: peers::Peers,
    pub(crate) needs: needs::Needs,
    pub(crate) promises: promises::Promises,
    pub(crate) crashes: crash::Crashes,
    pub(crate) record: members::Record,
    pub(crate) service: register::Service,
    pub(crate) sync: sync::SyncWork,
    pub(crate) configured: config::Configured,
    /// What the guard was last told: application and deadline.
    pub(crate) armed: Option<(u32, At)>,
    pub(crate) last_deadline: At,
    /// Whom a planned demotion was for, should it end by a kill.
    pub(crate) heir: Option<NodeName>,
    /// The term in which `state/cluster` was last asked to be written.
    pub(crate) wrote_cluster: Option<Epoch>,
    /// The sync set under which this node, as the last leader, started its application again: a
    /// start may cut the end of the data that only others acknowledged.
    pub(crate) cut_under: Option<SyncValue>,
    /// The application runs on since it was promoted, and received nothing.
    pub(crate) kept: bool,
    pub(crate) backup: backup::Backups,
    pub(crate) restore: restore::Restore,
    pub(crate) stop: bool,
    /// Consul refuses the token: not told again before this.
    pub(crate) denied_until: Option<At>,
    pub(crate) journal: journal::Journal,
    pub(crate) standing: Option<super::lead::Standing>,
    pub(crate) reasons: VecDeque<(u64, Reason)>,
    pub(crate) now: At,
    pub(crate) wall: u64,
}

impl Node {
    pub fn new(boot: Boot, set: Settings, now: Now) -> Node {
        let keys = Keys::new(&boot.cluster_name);
        let lead =
            Lead::new(boot.identity.clone(), keys.clone(), set.lead.clone(), boot.floor, now.at);
        let disk = Disk {
            data: boot.data,
            cluster: boot.cluster.clone(),
            marker: boot.marker,
            floor: boot.floor,
        };
        let follow = follow::Follow::known(boot.follows.clone());
        Node {
            boot,
            keys,
            set: Arc::new(set),
            lead,
            counter: 0,
            calls: BTreeMap::new(),
            state: State::Init,
            since: now.at,
            disk,
            seen_leader: false,
            seen_state: false,
            app: None,
            health: hooks::Health::default(),
            ailing: hung::Ailing::default(),
            floor: volume::Floor::default(),
            lag: lag::Lag::default(),
            hold: hold::Hold::default(),
            sides: BTreeMap::new(),
            follow,
            freezing: None,
            cluster: None,
            members: BTreeMap::new(),
            cluster_at: None,
            desk: requests::Desk::default(),
            pause: None,
            down_in_pause: false,
            member_at: BTreeMap::new(),
            member_read: BTreeMap::new(),
            idle_lead: None,
            peers: peers::Peers::default(),
            needs: needs::Needs::default(),
            promises: promises::Promises::default(),
            crashes: crash::Crashes::default(),
            record: members::Record::default(),
            service: register::Service::default(),
            sync: sync::SyncWork::default(),
            configured: config::Configured::default(),
            armed: None,
            last_deadline: At(0),
            heir: None,
            wrote_cluster: None,
            cut_under: None,
            kept: false,
            backup: backup::Backups::default(),
            restore: restore::Restore::default(),
            stop: false,
            denied_until: None,
            journal: journal::Journal::default(),
            standing: None,
            reasons: VecDeque::new(),
            now: now.at,
            wall: now.wall,
        }
    }

    /// Takes in one input and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Outbox) {
        self.wall = now.wall;
        self.now = now.at;
        // The first act after a pause is to look at the deadline.
        self.tell_lead(now.at, LeadIn::Tick, out);
        self.absorb(now.at, input, out);
        for _ in 0..TRANSITIONS_MAX {
            self.tell_standing(now.at, out);
            if !self.drive(now.at, out) {
                break;
            }
        }
        self.keep_deadline(now.at, out);
        self.tend_volume(now.at, out);
        self.tend_peers(now.at, out);
        self.tend_sync(now.at, out);
        self.tend_backup(now.at, out);
        self.tend_restore(now.at, out);
        self.tend_requests(now.at, out);
        self.tend_config(now.at, out);
        self.tend_record(now.at, out);
        self.tend_service(now.at, out);
        self.tend_needs(now.at, out);
        self.tend_health(now.at, out);
        self.tend_lag(now.at, out);
        self.tend_journal(now.at, out);
    }

    /// When the next `Tick` is needed. Seen from the last step: what came due since is not done
    /// yet, and what was due then and did nothing waits for another input.
    pub fn wake(&self) -> At {
        let now = self.now;
        let idle = now + Span::secs(1);
        let health = self.health.wake().filter(|at| *at > now);
        [
            self.lead.wake(now),
            self.life_wake(now),
            self.peers.wake(now),
            health,
            self.desk.result_again,
            self.backup.wake(now),
            self.restore.wake(),
            self.journal.writer.wake(now),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .fold(idle, At::min)
    }

    fn life_wake(&self, now: At) -> Option<At> {
        let quiet = (self.state == State::Joining).then(|| self.crashes.quiet_until());
        let state = self.state.waits_until(now);
        let hold = self.hold_wake(now);
        [state, quiet, self.fence_at(), self.follow.wake(), self.floor.wake(), hold]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn absorb(&mut self, now: At, input: Input, out: &mut Outbox) {
        match input {
            Input::Tick => {}
            Input::Leader { entry, seen } => {
                self.seen_leader = true;
                self.tell_lead(now, LeadIn::Leader { entry, seen }, out);
                self.lag.primary_seen(now, self.lead.leader_seen());
            }
            Input::State { entries, seen } => self.absorb_state(now, entries, seen, out),
            Input::StoreReply { op, result } => self.absorb_reply(now, op, result, out),
            Input::HookEnded { id, end } => self.hook_ended(now, id, end, out),
            Input::AppStarted { pid } => self.app = Some(pid),
            Input::AppNotStarted { why } => self.app_not_started(now, why, out),
            Input::AppExited { pid, exit } => self.app_exited(now, pid, exit, out),
            Input::TreeGone => self.tree_gone(now, out),
            Input::GuardArmed { pid, kill_at } => self.guard_armed(now, pid, kill_at, out),
            Input::GuardFired => self.guard_fired(now, out),
            Input::FloorDurable(epoch) => self.floor_durable(now, epoch, out),
            Input::ClusterIdDurable(id) => self.cluster_id_durable(now, id, out),
            Input::MarkerWritten => self.marker_written(now, out),
            Input::MarkerRemoved => self.disk.marker = false,
            Input::Wiped => self.wiped(now, out),
            Input::FloorFailed { epoch, what } => self.floor_failed(now, epoch, what, out),
            Input::FollowsFailed { what } => self.follows_failed(now, what, out),
            Input::VolumeFailed { what } => self.volume_failed(now, what, out),
            Input::PeerAsked { id, from, from_run, ask } => {
                self.peer_asked(now, id, (from, from_run), ask, out);
            }
            Input::PeerReplied { id, result } => self.peer_replied(now, id, result, out),
            Input::Action { id, request_id, request } => {
                self.action(id, request_id, request, out);
            }
            Input::Renewed { what, result } => self.renewed(&what, result, out),
            Input::Config(news) => self.config_news(now, news, out),
            Input::BackupActed { id, result } => self.backup_acted(now, id, result, out),
            Input::Stop => self.begin_stop(now, out),
        }
    }

    fn renewed(&mut self, what: &Renewed, result: Result<(), String>, out: &mut Outbox) {
        let reason = match result {
            Ok(()) => {
                if *what == Renewed::ConsulToken {
                    self.service.told_by_other_token();
                }
                Reason::new("secret.renewed", format!("{what}: its file changed; it is in use now"))
            }
            Err(why) => Reason::new("secret.refused", format!("{what} stays as it was: {why}"))
                .flip("a good content of its file"),
        };
        self.decided(reason, out);
    }

    fn absorb_reply(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        self.heed_denial(now, &result, out);
        match self.calls.remove(&op) {
            Some(Owner::Lead(lead_op)) => {
                self.tell_lead(now, LeadIn::Reply { op: lead_op, result }, out);
            }
            Some(Owner::Record(value)) => self.record_answered(now, *value, result),
            Some(Owner::RequestWritten { action, request_id }) => {
                self.request_written(action, request_id, result, out);
            }
            Some(Owner::Result { request_id, value }) => {
                self.result_written(now, request_id, *value, result, out);
            }
            Some(Owner::Register) => self.service.registered(now, result),
            Some(Owner::Known) => self.service.known(result),
            Some(Owner::Check { passing }) => self.service.checked(passing, result),
            Some(Owner::Service { name }) => self.needs.answered(&name, result),
            Some(Owner::Backup(of)) => self.backup_answered(now, of, result, out),
            Some(Owner::Journal { epoch }) => self.journal_answered(now, epoch, result),
            Some(Owner::Ignored) | None => {}
        }
    }

    /// Passes an input to `Lead` and carries on what it answers.
    pub(crate) fn tell_lead(&mut self, now: At, input: LeadIn, out: &mut Outbox) {
        let mut said = Vec::new();
        self.lead.step(now, input, &mut said);
        self.cut_deadline(out);
        for effect in said {
            match effect {
                LeadOut::Call { op, call, valid_until } => {
                    let id = self.next_op();
                    self.calls.insert(id, Owner::Lead(op));
                    out.push(Effect::Call { op: id, call, valid_until });
                }
                LeadOut::Survey { id, nodes, freeze, epoch, run } => {
                    self.survey(now, peers::Wanted { id, nodes, freeze, epoch, run }, out);
                }
                LeadOut::PersistFloor(epoch) => self.persist_floor(epoch, out),
                LeadOut::SyncHook { id, members, acks } => {
                    self.sync_wanted(now, id, members, acks, out);
                }
                LeadOut::ClusterWritten => self.cluster_written(out),
                LeadOut::AskPromise { id, of, epoch, lease } => {
                    self.ask_promise(now, id, &of, (epoch, lease), out);
                }
                LeadOut::PromiseAnswer { id, result } => self.answer_promise(id, result, out),
                LeadOut::Thaw => self.follow.thaw(),
                LeadOut::Decided(reason) => self.decided(reason, out),
            }
        }
    }

    pub(crate) fn call(&mut self, owner: Owner, call: Call, out: &mut Outbox) {
        let op = self.next_op();
        self.calls.insert(op, owner);
        out.push(Effect::Call { op, call, valid_until: None });
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        OpId::take(&mut self.counter)
    }

    pub(crate) fn me(&self) -> &NodeName {
        &self.boot.identity.node
    }

    pub(crate) fn decided(&mut self, reason: Reason, out: &mut Outbox) {
        self.note(&reason);
        self.remember(reason.clone());
        out.push(Effect::Decided(reason));
    }

    /// For `status` alone.
    pub(crate) fn remember(&mut self, reason: Reason) {
        if self.reasons.len() == REASONS_KEPT {
            self.reasons.pop_front();
        }
        self.reasons.push_back((self.wall, reason));
    }

    /// A transition that starts no hook.
    pub(crate) fn to(&mut self, now: At, state: State) {
        self.enter(now, state, None);
    }

    /// A transition that starts this hook.
    pub(crate) fn enter_with(&mut self, now: At, hook: Hook, state: State) {
        self.enter(now, state, Some(hook));
    }

    fn enter(&mut self, now: At, state: State, hook: Option<Hook>) {
        let (from, to) = (self.state.phase(), state.phase());
        debug_assert!(graph::allows(from, to, hook), "{from:?} -> {to:?} by {hook:?}");
        #[cfg(test)]
        tests::taken(from, to);
        if state.name() != self.state.name() {
            self.since = now;
            self.record.transition();
        }
        self.state = state;
    }
}
