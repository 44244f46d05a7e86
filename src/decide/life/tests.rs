//! A node's main flows, input by input: what it does, in which order, and what it waits for.
//!
//! [`World`] answers what always succeeds (store, volume, quick hooks) and keeps back what a test
//! holds. Its log is the order of the acts.

use super::*;
use crate::decide::backup::{BackupAct, Keep};
use crate::decide::call::Entry;
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::Exit;
use crate::decide::keys::Key;
use crate::decide::lead::fake::Fake;
use crate::decide::lead::{LeadConfig, Seen, SyncMode};
use crate::decide::peer::{Ask, PeerError, Told};
use crate::decide::records::{
    Follows, LeaderValue, LockState, RequestStatus, ResultValue, Roles, TermValue, decode, encode,
};
use crate::decide::types::{ClusterId, ClusterName, DiskId, Identity, Member, RunId};
use std::collections::BTreeSet;

mod actions;
mod backups;
mod candidates;
mod config;
mod hung;
mod joining;
mod mishaps;
mod parting;
mod promises;
mod stopping;
mod ways;

pub(super) use ways::taken;

const LEASE: u64 = 3_000;

fn settings(sync: SyncMode) -> Settings {
    let long = Span::secs(60);
    Settings {
        lead: LeadConfig {
            lease: Span(LEASE),
            lease_max: Span(LEASE),
            request_timeout: Span(500),
            sync,
            hold: false,
            rank_step: Span(50),
            peer: "127.0.0.1:1".into(),
            app: "127.0.0.1:2".into(),
        },
        demote_budget: Span(500),
        kill_budget: Span(200),
        on_crash: OnCrash::Failover,
        restart_max: 3,
        restart_window: long,
        timeouts: Timeouts {
            bootstrap: long,
            pre_start: long,
            replicate: long,
            promote: long,
            demote: long,
            position: Span::secs(5),
            health: Span::secs(5),
            sync: Span::secs(5),
            reload: Span::secs(5),
            backup: long,
            verify: long,
        },
        bootstrap_expect: 1,
        priorities: BTreeMap::new(),
        no_failover: Default::default(),
        health_interval: Span::secs(1),
        expel_after: Span::secs(10),
        hung_after: Span::secs(10),
        hold_down: Span::secs(10),
        hold_down_max: Span::secs(300),
        hold_down_window: Span::secs(600),
        max_lag: None,
        journal_keep: 1_000,
        stop_timeout: Span::secs(20),
        service: "db".into(),
        tls: false,
        address: "127.0.0.1".into(),
        app_port: 2,
        zone: String::new(),
        host: String::new(),
        tags: Vec::new(),
        roles: Roles::default(),
        version: "1".into(),
        stated: Stated::default(),
        backup: BackupSettings {
            schedule: None,
            keep: Keep { count: 2, days: 0 },
            bar: None,
            no_verify: None,
            restore_from: None,
        },
    }
}

struct World {
    node: Node,
    store: Fake,
    at: u64,
    /// How far the wall clock is ahead of `at`.
    ahead: u64,
    /// Acts in their order: `run promote`, `arm`, `kill`, `start`, `exit 0`, ..
    log: Vec<String>,
    /// Hooks and acts (`kill`, `arm`, `peer`, `store`, `result`) whose end the test gives itself.
    held: Vec<&'static str>,
    /// How often it was asked to keep whom it follows.
    followed: u32,
    hooks: Vec<(OpId, Hook)>,
    answers: Vec<Told>,
    /// Ends of held work on the volume.
    kept: Vec<Input>,
    replies: Vec<Result<String, StoreError>>,
    /// What `position` says of it.
    lag: String,
    /// Whether the agent has what is wanted.
    agent_knows: bool,
    /// Who passes, by service.
    passing: BTreeMap<String, BTreeSet<String>>,
    /// Given when time passes next.
    later: Vec<Input>,
    pid: u32,
    order: u64,
    /// What was done in the directory of backups; held: `shelf`.
    shelf: Vec<BackupAct>,
    /// What is wrong with the backups, if something is.
    corrupt: Option<String>,
}

impl World {
    fn new(boot: Boot, set: Settings) -> World {
        let at = 10_000;
        let now = Now { at: At(at), wall: at };
        let store = Fake { index: 10, ..Fake::default() };
        World {
            node: Node::new(boot, set, now),
            store,
            at,
            ahead: 0,
            log: Vec::new(),
            held: Vec::new(),
            followed: 0,
            hooks: Vec::new(),
            answers: Vec::new(),
            kept: Vec::new(),
            replies: Vec::new(),
            lag: "0".into(),
            agent_knows: true,
            passing: BTreeMap::new(),
            later: Vec::new(),
            pid: 100,
            order: 7,
            shelf: Vec::new(),
            corrupt: None,
        }
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = Now { at: At(self.at), wall: self.at + self.ahead };
        self.node.step(now, input, &mut out);
        for effect in out {
            for answer in self.act(effect) {
                self.give(answer);
            }
        }
    }

    fn holds(&self, what: &str) -> bool {
        self.held.contains(&what)
    }

    fn act(&mut self, effect: Effect) -> Vec<Input> {
        self.followed += u32::from(matches!(effect, Effect::PersistFollows(_)));
        match effect {
            Effect::Call { op, call, .. } => self.store_call(op, call).into_iter().collect(),
            Effect::RunHook(call) => {
                self.log.push(format!("run {}", call.hook));
                self.hooks.push((call.id, call.hook));
                if self.holds(call.hook.name()) {
                    return Vec::new();
                }
                let (order, lag) = (self.order, &self.lag);
                let line = format!("{{\"order\":{order},\"lag_seconds\":{lag}}}");
                let answer = match call.hook {
                    Hook::Backup => Some(self.backup_line(&call)),
                    of => of.answers().then_some(line),
                };
                self.end_of(call.hook, HookEnd::Done { answer }).into_iter().collect()
            }
            Effect::CancelHook { id } => {
                let known = self.hooks.iter().position(|(hook, _)| *hook == id);
                let Some(place) = known else { return Vec::new() };
                self.hooks.remove(place);
                vec![Input::HookEnded { id, end: HookEnd::Cancelled }]
            }
            Effect::StartApp => {
                self.log.push("start".into());
                self.pid += 1;
                vec![Input::AppStarted { pid: self.pid }]
            }
            Effect::TermApp => {
                self.log.push("term".into());
                if self.holds("term") {
                    return Vec::new();
                }
                vec![Input::AppExited { pid: self.pid, exit: Exit::Code(0) }]
            }
            Effect::KillTree => {
                self.log.push("kill".into());
                if self.holds("kill") { Vec::new() } else { vec![Input::TreeGone] }
            }
            Effect::Arm { pid, kill_at } => {
                self.log.push("arm".into());
                if self.holds("arm") {
                    return Vec::new();
                }
                vec![Input::GuardArmed { pid, kill_at }]
            }
            Effect::Backup { id, act } => self.on_shelf(id, act),
            Effect::PeerCall { id, call } => vec![self.peer_call(id, &call.ask, call.timeout)],
            Effect::PeerAnswer { told, .. } => {
                self.answers.push(told);
                Vec::new()
            }
            Effect::Exit { code, .. } => {
                self.log.push(format!("exit {code}"));
                Vec::new()
            }
            Effect::Extend { .. }
            | Effect::Disarm
            | Effect::PersistFollows(_)
            | Effect::PersistConfig(_)
            | Effect::Decided(_) => Vec::new(),
            Effect::ActionReply { result, .. } => {
                self.replies.push(result);
                Vec::new()
            }
            volume => self.volume(volume).into_iter().collect(),
        }
    }

    fn volume(&mut self, effect: Effect) -> Option<Input> {
        let (act, done) = match effect {
            Effect::PersistFloor(epoch) if self.holds("floor") => {
                return Some(Input::FloorFailed { epoch, what: "no space".into() });
            }
            Effect::PersistFloor(epoch) => ("floor", Input::FloorDurable(epoch)),
            Effect::PersistClusterId(id) => ("id", Input::ClusterIdDurable(id)),
            Effect::WriteMarker => ("marker", Input::MarkerWritten),
            Effect::RemoveMarker => ("unmark", Input::MarkerRemoved),
            Effect::Wipe => ("wipe", Input::Wiped),
            other => panic!("{other:?} is not the volume's"),
        };
        self.log.push(act.into());
        if self.holds(act) {
            self.kept.push(done);
            return None;
        }
        Some(done)
    }

    fn peer_call(&self, id: OpId, ask: &Ask, timeout: Span) -> Input {
        let result = match ask {
            _ if self.holds("peer") => Err(PeerError::Timeout(timeout)),
            Ask::Ping => Ok(Told::Pong {
                epoch: Epoch(0),
                state: if self.holds("starting") { "starting" } else { "replica" }.into(),
                lag_seconds: Some(0.25),
                healthy: !self.holds("ill") && !self.holds("starting"),
                notes: 0,
            }),
            Ask::Promise { round, .. } => Ok(Told::Promised { round: *round }),
            Ask::Journal { .. } => Ok(Told::Journal { lines: Vec::new() }),
            Ask::Position { freeze, .. } => Ok(Told::Position {
                order: self.order,
                text: String::new(),
                lag_seconds: None,
                priority: 100,
                frozen: *freeze,
            }),
        };
        Input::PeerReplied { id, result }
    }

    fn store_call(&mut self, op: OpId, call: Call) -> Option<Input> {
        let result = match &call {
            Call::Register(_) => {
                self.log.push("register".into());
                Ok(Answer::Done)
            }
            Call::Deregister { .. } | Call::CheckUpdate { .. } => Ok(Answer::Done),
            Call::Registered(_) => Ok(Answer::Known(self.agent_knows)),
            Call::Passing { service } => {
                Ok(Answer::Passing(self.passing.get(service).cloned().unwrap_or_default()))
            }
            Call::Txn(verbs) => {
                let of = |part: &str| {
                    verbs.iter().any(|verb| match verb {
                        super::super::call::Verb::Set(key, _)
                        | super::super::call::Verb::Cas(key, ..) => key.as_str().contains(part),
                        _ => false,
                    })
                };
                if of("state/requests") {
                    self.log.push("result".into());
                    if self.holds("result") {
                        let down = StoreError::NotSent("nobody listens".into());
                        self.later.push(Input::StoreReply { op, result: Err(down) });
                        return None;
                    }
                }
                let sync = |verb: &super::super::call::Verb| match verb {
                    super::super::call::Verb::Cas(key, ..) if key.as_str().ends_with("/sync") => {
                        Some("sync set")
                    }
                    super::super::call::Verb::DeleteCas(..) => Some("sync gone"),
                    _ => None,
                };
                self.log.extend(verbs.iter().filter_map(sync).map(str::to_owned));
                if of("state/cluster") {
                    self.log.push("cluster".into());
                    if self.holds("cluster") {
                        return self.unanswered(op);
                    }
                }
                if self.holds("store") {
                    return self.unanswered(op);
                }
                self.store.apply(&call)
            }
            _ if self.holds("store") => return self.unanswered(op),
            _ => self.store.apply(&call),
        };
        Some(Input::StoreReply { op, result })
    }

    fn unanswered(&mut self, op: OpId) -> Option<Input> {
        let result = Err(StoreError::Unknown("no answer".into()));
        self.later.push(Input::StoreReply { op, result });
        None
    }

    fn end_of(&mut self, hook: Hook, end: HookEnd) -> Option<Input> {
        let place = self.hooks.iter().position(|(_, of)| *of == hook)?;
        let (id, _) = self.hooks.remove(place);
        Some(Input::HookEnded { id, end })
    }

    /// Ends the held hook.
    fn end(&mut self, hook: Hook, end: HookEnd) {
        let input = self.end_of(hook, end).expect("the hook runs");
        self.give(input);
    }

    fn done(&mut self, hook: Hook) {
        self.end(hook, HookEnd::Done { answer: None });
    }

    /// Both watches return.
    fn look(&mut self) {
        let keys = self.node.keys().clone();
        let entry = self.store.get(&keys.leader());
        self.give(Input::Leader { entry, seen: Seen::Read });
        let state = keys.state();
        let below = self.store.entries.values();
        let entries: Vec<Entry> =
            below.filter(|e| e.key.as_str().starts_with(state.as_str())).cloned().collect();
        self.give(Input::State { entries, seen: Seen::Read });
    }

    /// Time passes in steps of 50 ms; the watches return.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.at += 50;
            for input in std::mem::take(&mut self.later) {
                self.give(input);
            }
            if !self.holds("store") {
                self.look();
            }
            self.give(Input::Tick);
        }
    }

    fn has(&self, what: &str) -> bool {
        self.log.iter().any(|act| act == what)
    }

    fn place(&self, what: &str) -> usize {
        let found = self.log.iter().position(|act| act == what);
        found.unwrap_or_else(|| panic!("no `{what}` in {:?}", self.log))
    }

    fn state(&self) -> &'static str {
        self.node.state.name()
    }

    fn leader(&self) -> LeaderValue {
        let entry = self.store.get(&self.node.keys().leader()).expect("there is a leader key");
        decode(&entry.value).expect("it is ours")
    }

    fn is_released(&self) -> bool {
        self.leader().state == LockState::Clean
    }

    fn put(&mut self, key: Key, value: &[u8]) {
        self.store.put(&key, value);
    }

    fn epoch(&self) -> Epoch {
        self.node.epoch()
    }

    /// `b` follows `a`'s running term and was admitted, or at least wrote that it does.
    fn member_b(&mut self) {
        let follows = Follows { epoch: self.epoch(), node: "a".into(), run: RunId::new("run-a") };
        let cluster = self.node.cluster_id();
        let record = member("b", cluster, "replica", self.epoch(), Some(follows));
        self.put(self.node.keys().member(&"b".into()), &encode(&record));
    }

    fn is_listed(&self, name: &str) -> bool {
        let entry = self.store.get(&self.node.keys().term()).expect("there is a term");
        let term: TermValue = decode(&entry.value).expect("it is ours");
        term.eligible.iter().any(|member| member.node.as_str() == name)
    }

    /// `node` holds the lock and the term.
    fn leads(&mut self, node: &str, run: &str, epoch: u64) {
        let keys = self.node.keys().clone();
        let call = Call::SessionCreate { name: node.into(), ttl: Span::secs(15) };
        let Ok(Answer::Session(session)) = self.store.apply(&call) else { panic!("a session") };
        let value = LeaderValue {
            v: 1,
            epoch: Epoch(epoch),
            node: node.into(),
            run: RunId::new(run),
            lease_ms: Span(LEASE),
            n: 1,
            state: LockState::Held,
            peer: "127.0.0.1:3".into(),
            app: "127.0.0.1:4".into(),
            to: None,
        };
        let eligible = ["a", "b"].map(|name| Member { node: name.into(), disk: DiskId::new(name) });
        let term = TermValue {
            v: 1,
            epoch: Epoch(epoch),
            node: node.into(),
            run: RunId::new(run),
            eligible: eligible.into(),
        };
        self.store.delete(&keys.leader());
        self.put(keys.term(), &encode(&term));
        let lock = super::super::call::Verb::Lock(keys.leader(), session, encode(&value));
        self.store.apply(&Call::Txn(vec![lock])).expect("a free lock");
    }
}

fn member(
    name: &str,
    cluster: Option<ClusterId>,
    state: &str,
    floor: Epoch,
    follows: Option<Follows>,
) -> MemberValue {
    MemberValue {
        v: 1,
        node: name.into(),
        run: RunId::new(&format!("run-{name}")),
        disk: DiskId::new(name),
        cluster,
        roles: Roles::default(),
        peer: "127.0.0.1:3".into(),
        tls: false,
        app: "127.0.0.1:4".into(),
        zone: String::new(),
        host: String::new(),
        tags: Vec::new(),
        priority: 100,
        no_failover: false,
        state: state.into(),
        floor,
        follows,
        bars_backup: None,
        version: "1".into(),
        held_until: None,
        lease_max: None,
        config: None,
        extra: Default::default(),
    }
}

fn boot(cluster: Option<&str>, floor: u64) -> Boot {
    Boot {
        identity: Identity { node: "a".into(), run: RunId::new("run-a"), disk: DiskId::new("a") },
        cluster_name: ClusterName::new("c"),
        floor: Epoch(floor),
        cluster: cluster.map(ClusterId::new),
        data: cluster.is_some(),
        marker: false,
        follows: None,
        fresh_id: ClusterId::new("fresh"),
        fresh_secret: b"{}".to_vec(),
    }
}

/// The first node of a cluster, its volume empty.
fn first(sync: SyncMode) -> World {
    let mut world = World::new(boot(None, 0), settings(sync));
    world.look();
    world
}

/// The only primary, alone.
fn primary(sync: SyncMode) -> World {
    let mut world = first(sync);
    world.pass(4_000);
    assert_eq!(world.state(), "primary", "{:?}", world.log);
    world.log.clear();
    world
}

/// A primary with the listed replica `b`.
fn pair() -> World {
    let mut world = primary(SyncMode::Off);
    world.member_b();
    world.pass(500);
    assert!(world.is_listed("b"));
    world.log.clear();
    world
}

/// A replica that follows `b`, epoch 5.
fn replica(sync: SyncMode) -> World {
    let mut world = World::new(boot(Some("id"), 5), settings(sync));
    let keys = world.node.keys().clone();
    world.put(keys.cluster(), &encode(&ClusterValue { v: 1, id: ClusterId::new("id") }));
    world.leads("b", "run-b", 5);
    let b = member("b", Some(ClusterId::new("id")), "primary", Epoch(5), None);
    world.put(keys.member(&"b".into()), &encode(&b));
    world.pass(200);
    assert_eq!(world.state(), "replica");
    assert!(world.node.follow.current().is_some());
    world.log.clear();
    world
}

fn freeze_of(epoch: u64) -> Ask {
    Ask::Position { freeze: true, epoch: Epoch(epoch), run: RunId::new("run-b") }
}

fn asked(id: u64, ask: Ask) -> Input {
    Input::PeerAsked { id: OpId(1 << 50 | id), from: "b".into(), from_run: RunId::new("r"), ask }
}

#[test]
fn the_first_node_creates_writes_the_cluster_and_waits_the_longest_lease_before_it_promotes() {
    let mut world = first(SyncMode::Off);
    let begun = world.at;
    while !world.has("run promote") {
        world.pass(50);
        assert!(world.at < begun + 5_000, "{:?}", world.log);
    }
    assert!(world.at - begun >= LEASE * 103 / 100, "{} ms", world.at - begun);
    let order = ["marker", "run bootstrap", "run pre-start", "start", "cluster", "unmark", "arm"];
    let places: Vec<usize> = order.iter().map(|act| world.place(act)).collect();
    assert!(places.is_sorted(), "{:?}", world.log);
    assert!(world.place("arm") < world.place("run promote"));
}

#[test]
fn nothing_is_promoted_before_the_guard_has_acknowledged_for_this_very_application() {
    let mut world = first(SyncMode::Off);
    world.held = vec!["arm"];
    world.pass(4_000);
    assert!(world.has("arm") && !world.has("run promote"));
    world.give(Input::GuardArmed { pid: world.pid - 1, kill_at: At(0) });
    assert!(!world.has("run promote"), "another application's acknowledgement");
    world.give(Input::GuardArmed { pid: world.pid, kill_at: At(0) });
    assert!(world.has("run promote"));
}

#[test]
fn without_a_renewal_the_primary_is_demoted_from_deadline_less_d_on() {
    let mut world = primary(SyncMode::Off);
    world.held = vec!["store", "demote"];
    let deadline = world.node.deadline().expect("it leads").0;
    while !world.has("run demote") {
        world.at += 10;
        world.give(Input::Tick);
        assert!(world.at < deadline);
    }
    assert!((deadline - 500..deadline - 480).contains(&world.at));
    assert!(!world.has("kill"));
    world.done(Hook::Demote);
    assert_eq!(world.state(), "replica");
}

#[test]
fn a_demote_hook_that_says_stop_me_costs_the_tree_and_only_then_the_lock_goes_back() {
    let mut world = pair();
    world.held = vec!["store", "demote", "kill"];
    world.pass(3_000);
    assert!(world.has("run demote"));
    world.held.retain(|what| *what != "store");
    world.end(Hook::Demote, HookEnd::Exit { code: 4 });
    world.pass(200);
    assert!(world.has("kill") && !world.is_released());
    world.give(Input::TreeGone);
    assert!(world.is_released());
}

#[test]
fn a_crash_alone_restarts_in_place_and_hands_over_where_others_may_take() {
    let mut alone = primary(SyncMode::Off);
    let epoch = alone.epoch();
    alone.give(Input::AppExited { pid: alone.pid, exit: Exit::Signal(9) });
    alone.pass(200);
    assert_eq!((alone.state(), alone.epoch()), ("primary", epoch));
    assert!(alone.place("kill") < alone.place("run pre-start"));

    let mut world = pair();
    world.held = vec!["kill"];
    world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    world.pass(100);
    assert!(!world.is_released(), "others of its tree may still write");
    world.give(Input::TreeGone);
    assert!(world.is_released());
    assert_eq!(world.state(), "waiting");
}

#[test]
fn asked_to_stop_a_primary_demotes_releases_and_ends_with_the_applications_code() {
    let mut world = primary(SyncMode::Off);
    world.give(Input::Stop);
    let order = ["run demote", "term", "kill", "exit 0"];
    let places: Vec<usize> = order.iter().map(|act| world.place(act)).collect();
    assert!(places.is_sorted(), "{:?}", world.log);
    assert!(world.is_released());
}

#[test]
fn one_freeze_answers_all_of_a_term_and_nobody_after_replicate_has_begun_again() {
    let mut world = replica(SyncMode::Off);
    std::sync::Arc::make_mut(&mut world.node.set).no_failover.insert("a".into());
    world.held = vec!["position"];
    world.give(asked(1, freeze_of(5)));
    world.give(asked(2, freeze_of(5)));
    let runs = world.log.iter().filter(|act| *act == "run position").count();
    let lag = 1;
    assert!(runs <= 1 + lag, "{:?}", world.log);
    let line = "{\"order\":42}".to_owned();
    while world.hooks.iter().any(|(_, hook)| *hook == Hook::Position) {
        world.end(Hook::Position, HookEnd::Done { answer: Some(line.clone()) });
    }
    let frozen = |told: &Told| matches!(told, Told::Position { order: 42, frozen: true, .. });
    assert!(world.answers.len() == 2 && world.answers.iter().all(frozen), "{:?}", world.answers);
    world.give(asked(3, freeze_of(5)));
    assert_eq!(world.answers.len(), 3, "known already");
    // Without a new leader receiving begins again; what was final is no more.
    world.pass(3_100);
    assert!(world.has("run replicate"));
    world.give(asked(4, freeze_of(5)));
    assert_eq!(world.answers.len(), 3, "asked of the application anew");
    world.give(asked(5, freeze_of(4)));
    assert!(matches!(world.answers.last(), Some(Told::Refused { .. })), "another term");
}

#[test]
fn a_node_that_does_not_answer_is_not_admitted() {
    let mut world = primary(SyncMode::Off);
    world.held = vec!["peer"];
    // Known, and silent for long; only now its record says that it follows.
    let record = member("b", world.node.cluster_id(), "starting", Epoch(0), None);
    world.put(world.node.keys().member(&"b".into()), &encode(&record));
    world.pass(5_000);
    world.member_b();
    world.pass(500);
    assert!(!world.is_listed("b"));
    world.held.clear();
    world.pass(1_500);
    assert!(world.is_listed("b"));
}
