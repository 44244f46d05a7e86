//! Backups: one at a time, by the right node, from the wish to the catalog, whatever happens
//! meanwhile.

mod restore;
mod schedule;

use super::*;
use crate::decide::backup::{
    BackupDone, BackupId, BackupValue, CatalogValue, Job, JobState, Origin, Source,
};
use crate::decide::hook::HookCall;
use crate::decide::records::RequestValue;

impl World {
    pub(super) fn backup_line(&self, call: &HookCall) -> String {
        let id = &call.facts["LICTOR_BACKUP_ID"];
        format!("{{\"id\":\"{id}\",\"bytes\":5,\"position\":\"p{}\",\"engine\":\"e\"}}", self.order)
    }

    pub(super) fn on_shelf(&mut self, id: OpId, act: BackupAct) -> Vec<Input> {
        let origin = |id: &BackupId| Origin {
            id: id.clone(),
            cluster_name: "c".into(),
            cluster: ClusterId::new("id"),
            node: "a".into(),
            epoch: Epoch(1),
            at: 1,
            position: "p".into(),
            engine: "e".into(),
        };
        let dir = || "/b/data".to_owned();
        let done = match (&act, &self.corrupt) {
            (BackupAct::Check { .. }, Some(what)) => Ok(BackupDone::Corrupt(what.clone())),
            (BackupAct::Find { .. }, Some(what)) => Err(what.clone()),
            (BackupAct::Begin { .. } | BackupAct::Scratch { .. }, _) => Ok(BackupDone::Dir(dir())),
            (BackupAct::Measure { .. }, _) => Ok(BackupDone::Measured(3)),
            (BackupAct::Seal { .. }, _) => {
                let manifest = "sum".to_owned();
                Ok(BackupDone::Sealed { bytes: 5, files: 2, manifest, dir: "/b".into() })
            }
            (BackupAct::Check { source } | BackupAct::Find { source }, None) => {
                let Source::Id { id: of, .. } = source else { panic!("{source:?}") };
                let (dir, origin) = (dir(), origin(of));
                Ok(match act {
                    BackupAct::Find { .. } => BackupDone::Found { dir, origin },
                    _ => BackupDone::Whole { dir, origin, bytes: 5, files: 2 },
                })
            }
            (BackupAct::Sweep { .. } | BackupAct::Delete { .. }, _) => Ok(BackupDone::Done),
        };
        let name = format!("{act:?}");
        self.log.push(format!("shelf {}", name.split(' ').next().unwrap_or_default()));
        self.shelf.push(act);
        let input = Input::BackupActed { id, result: done };
        if self.holds("shelf") {
            self.later.push(input);
            return Vec::new();
        }
        vec![input]
    }

    fn lock(&self) -> BackupValue {
        let entry = self.store.get(&self.node.keys().backup()).expect("there was a backup");
        decode(&entry.value).expect("it is ours")
    }

    fn put_lock(&mut self, value: &BackupValue) {
        self.put(self.node.keys().backup(), &encode(value));
        self.look();
    }

    fn catalog(&self) -> Vec<CatalogValue> {
        let prefix = self.node.keys().catalog();
        let under = self
            .store
            .entries
            .values()
            .filter(|entry| entry.key.as_str().starts_with(prefix.as_str()));
        under.map(|entry| decode(&entry.value).expect("it is ours")).collect()
    }

    fn ask(&mut self, id: &str, verb: &str, args: &[(&str, &str)]) {
        let args = args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (epoch, expires) = (self.epoch(), self.at + self.ahead + 30_000);
        let request =
            RequestValue { v: 1, verb: verb.into(), args, by: "op".into(), epoch, expires };
        self.put(self.node.keys().request(id), &encode(&request));
        self.look();
        self.pass(100);
    }

    fn answer(&self, id: &str) -> (RequestStatus, String) {
        let entry = self.store.get(&self.node.keys().request_result(id)).expect("a result");
        let result: ResultValue = decode(&entry.value).expect("it is ours");
        (result.status, result.reason)
    }

    /// As `pass`, in steps of half a second.
    fn doze(&mut self, ms: u64) {
        for _ in 0..ms / 500 {
            self.at += 450;
            self.pass(50);
        }
    }

    fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|act| *act == what).count()
    }
}

/// `a` is asked by `b`, who leads.
fn asked_by_b(world: &World, job: Job, id: &str) -> BackupValue {
    BackupValue {
        v: 1,
        job,
        id: BackupId::new(id),
        node: "a".into(),
        run: world.node.boot.identity.run.clone(),
        state: JobState::Asked,
        step: "asked".into(),
        bytes: 0,
        n: 0,
        epoch: Epoch(5),
        at: world.at,
        by: "op".into(),
        request: None,
        slot: None,
        reason: String::new(),
    }
}

fn entry(id: &str, at: u64) -> CatalogValue {
    CatalogValue {
        v: 1,
        id: BackupId::new(id),
        node: "a".into(),
        host: "h".into(),
        dir: "/b".into(),
        epoch: Epoch(1),
        cluster: ClusterId::new("id"),
        at,
        took_ms: 1,
        bytes: 5,
        files: 2,
        position: "p".into(),
        engine: "e".into(),
        manifest: "sum".into(),
        verified: None,
        extra: Default::default(),
    }
}

#[test]
fn a_request_becomes_a_backup_in_the_catalog() {
    let mut world = primary(SyncMode::Off);
    world.ask("r1", "backup", &[]);
    let (status, reason) = world.answer("r1");
    assert_eq!(status, RequestStatus::Done, "{reason}");
    let lock = world.lock();
    assert_eq!((lock.state, lock.node.as_str()), (JobState::Done, "a"), "{}", lock.reason);
    assert_eq!(lock.request.as_deref(), Some("r1"));
    let [entry] = &world.catalog()[..] else { panic!("one entry") };
    assert_eq!(entry.id, lock.id);
    assert_eq!((entry.position.as_str(), entry.bytes, entry.files), ("p7", 5, 2));
    assert_eq!(entry.manifest, "sum");
    // It gets its name when it is listed.
    let named = |act: &BackupAct| match act {
        BackupAct::Sweep { listed, .. } => listed.contains(&entry.id),
        _ => false,
    };
    assert!(world.shelf.iter().any(named), "{:?}", world.shelf);
    assert!(world.place("shelf Begin") < world.place("run backup"), "{:?}", world.log);
    assert!(world.place("run backup") < world.place("shelf Seal"), "{:?}", world.log);
}

/// The third got the id of the second.
#[test]
fn backups_of_one_second_have_ids_of_their_own() {
    let mut world = primary(SyncMode::Off);
    std::sync::Arc::make_mut(&mut world.node.set).backup.keep = Keep { count: 0, days: 0 };
    for request in ["r1", "r2", "r3", "r4"] {
        world.ask(request, "backup", &[]);
    }
    assert_eq!(world.catalog().len(), 4);
}

#[test]
fn a_replica_is_asked_first_and_one_at_a_time() {
    let mut world = pair();
    world.ask("r1", "backup", &[]);
    let lock = world.lock();
    assert_eq!((lock.node.as_str(), lock.state), ("b", JobState::Asked));
    assert!(!world.has("run backup"));
    world.ask("r2", "backup", &[("node", "a")]);
    let (status, reason) = world.answer("r2");
    assert_eq!(status, RequestStatus::Refused);
    assert!(reason.contains("b is at backup") && reason.contains("one at a time"), "{reason}");
    assert_eq!(world.lock().id, lock.id);
}

#[test]
fn who_can_not_is_said_by_name() {
    let mut world = pair();
    std::sync::Arc::make_mut(&mut world.node.set).backup.bar = Some("has no backup_dir".into());
    world.doze(11_000);
    world.held = vec!["peer"];
    world.pass(4_000);
    world.ask("r1", "backup", &[]);
    let (status, reason) = world.answer("r1");
    assert_eq!(status, RequestStatus::Refused);
    assert_eq!(reason, "a has no backup_dir; b does not answer");
}

#[test]
fn the_lock_of_a_dead_node_is_taken_away() {
    for (state, limit) in [(JobState::Asked, 20_000), (JobState::Running, 60_000)] {
        let mut world = pair();
        world.ask("r1", "backup", &[("node", "b")]);
        let mut lock = BackupValue { state, ..world.lock() };
        world.put_lock(&BackupValue { n: 1, ..lock.clone() });
        world.doze(limit - 2_000);
        assert_eq!(world.lock().state, state);
        // A sign of life.
        lock.n = 2;
        world.put_lock(&lock);
        world.doze(limit - 2_000);
        assert_eq!(world.lock().state, state);
        world.pass(3_000);
        assert_eq!(world.lock().state, JobState::Failed);
        let lock = world.lock();
        assert!(lock.reason.contains("b "), "{}", lock.reason);
        world.ask("r2", "backup", &[("node", "a")]);
        assert_eq!(world.catalog().len(), 1, "the next one can be made");
    }
}

#[test]
fn the_lock_of_a_former_process_is_taken_away_at_once() {
    let mut world = pair();
    world.ask("r1", "backup", &[("node", "b")]);
    let lock = world.lock();
    let other = BackupValue { run: RunId::new("former"), state: JobState::Running, n: 3, ..lock };
    world.put_lock(&other);
    world.pass(100);
    assert_eq!(world.lock().state, JobState::Failed);
    assert!(world.lock().reason.contains("restarted"));
}

/// The leader that is gone took its clock with it: the next one counts from its own beginning.
#[test]
fn a_new_leader_gives_a_holder_its_time() {
    let mut world = replica(SyncMode::Off);
    let lock = asked_by_b(&world, Job::Backup, "1");
    let held = BackupValue { node: "b".into(), run: RunId::new("run-b"), ..lock };
    world.put_lock(&BackupValue { state: JobState::Running, ..held });
    world.doze(50_000);
    world.held = vec!["peer"];
    // b's lock is gone and a takes.
    let keys = world.node.keys().clone();
    let entry = world.store.get(&keys.leader()).expect("there");
    world.store.end_session(&entry.session.expect("held"));
    world.doze(12_000);
    assert_eq!(world.state(), "primary");
    assert_eq!(world.lock().state, JobState::Running, "60 s, and not to this leader");
    world.doze(60_000);
    assert_eq!(world.lock().state, JobState::Failed);
}

#[test]
fn the_asked_node_begins_beats_and_publishes() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["backup"];
    let lock = asked_by_b(&world, Job::Backup, "1");
    world.put_lock(&lock);
    assert_eq!(world.lock().state, JobState::Running);
    assert!(world.has("run backup"));
    let n = world.lock().n;
    world.doze(16_000);
    let lock = world.lock();
    assert_eq!((lock.state, lock.n), (JobState::Running, n + 1), "one beat in 15 s");
    assert_eq!((lock.bytes, lock.step.as_str()), (3, "copies"));
    world.doze(30_000);
    assert_eq!(world.lock().n, n + 3);
    let answer = Some(r#"{"id":"1","position":"q"}"#.to_owned());
    world.end(Hook::Backup, HookEnd::Done { answer });
    assert_eq!(world.lock().state, JobState::Done);
    assert_eq!(world.catalog()[0].position, "q");
    assert_eq!(world.catalog()[0].took_ms, 46_000);
}

#[test]
fn whoever_lost_the_lock_stops_and_lists_nothing() {
    let mut world = replica(SyncMode::Off);
    world.held = vec!["backup"];
    let lock = asked_by_b(&world, Job::Backup, "1");
    world.put_lock(&lock);
    assert!(world.has("run backup"));
    let taken = BackupValue { state: JobState::Failed, reason: "silent".into(), ..world.lock() };
    world.put_lock(&taken);
    world.pass(1_000);
    assert!(world.hooks.iter().all(|(_, hook)| *hook != Hook::Backup), "cancelled");
    assert_eq!(world.catalog(), []);
    assert_eq!(world.lock(), taken);
    assert!(!world.has("shelf Seal"));
    assert!(world.count("shelf Sweep") > 0, "{:?}", world.log);
    // And can make the next one.
    world.held.clear();
    world.put_lock(&BackupValue { at: world.at, ..asked_by_b(&world, Job::Backup, "2") });
    world.pass(100);
    assert_eq!(world.lock().state, JobState::Done);
}

#[test]
fn a_hook_that_fails_lists_nothing() {
    let ends = [
        HookEnd::Exit { code: 1 },
        HookEnd::Timeout,
        HookEnd::Signal { signal: 9 },
        HookEnd::Done { answer: None },
        HookEnd::Done { answer: Some("made it".into()) },
        HookEnd::Done { answer: Some(r#"{"id":"2","position":"q"}"#.into()) },
    ];
    for end in ends {
        let mut world = replica(SyncMode::Off);
        world.held = vec!["backup"];
        world.put_lock(&asked_by_b(&world, Job::Backup, "1"));
        world.end(Hook::Backup, end.clone());
        world.pass(100);
        assert_eq!(world.lock().state, JobState::Failed, "{end:?}");
        assert_eq!(world.catalog(), [], "{end:?}");
        assert!(!world.has("shelf Seal"), "{end:?}");
        assert_eq!(world.count("shelf Sweep"), 1, "what it wrote goes: {end:?}");
    }
}

/// The answer to the last write is lost: applied or not, the catalog has the backup once.
#[test]
fn a_publication_without_an_answer_is_settled_by_a_read() {
    for applied in [false, true] {
        let mut world = replica(SyncMode::Off);
        world.held = vec!["backup"];
        world.put_lock(&asked_by_b(&world, Job::Backup, "1"));
        world.held = vec!["store"];
        let answer = Some(r#"{"id":"1","position":"q"}"#.to_owned());
        let input = world.end_of(Hook::Backup, HookEnd::Done { answer }).expect("it runs");
        if applied {
            // As `pass` would, but with the write carried out.
            let before = world.store.clone();
            world.held.clear();
            world.give(input);
            assert_eq!(world.catalog().len(), 1);
            assert_ne!(before, world.store);
        } else {
            world.give(input);
            assert_eq!(world.catalog(), []);
        }
        world.held.clear();
        world.pass(2_500);
        assert_eq!(world.lock().state, JobState::Done, "applied: {applied}");
        assert_eq!(world.catalog().len(), 1);
        assert_eq!(world.count("run backup"), 1);
    }
}

#[test]
fn a_demotion_interrupts_a_backup() {
    let mut world = pair();
    world.held = vec!["backup"];
    world.ask("r1", "backup", &[("node", "a")]);
    assert!(world.has("run backup"));
    world.ask("r2", "switchover", &[("to", "b")]);
    assert!(world.hooks.iter().all(|(_, hook)| *hook != Hook::Backup), "cancelled");
    world.pass(1_000);
    assert_eq!(world.lock().state, JobState::Failed);
    assert_eq!(world.catalog(), []);
}

#[test]
fn a_former_process_left_it_half_done() {
    let mut world = World::new(boot(Some("id"), 5), settings(SyncMode::Off));
    let keys = world.node.keys().clone();
    world.put(keys.cluster(), &encode(&ClusterValue { v: 1, id: ClusterId::new("id") }));
    world.leads("b", "run-b", 5);
    let lock = BackupValue {
        run: RunId::new("former"),
        state: JobState::Running,
        ..asked_by_b(&world, Job::Backup, "1")
    };
    world.put_lock(&lock);
    world.pass(2_000);
    assert_eq!(world.lock().state, JobState::Failed);
    assert!(world.lock().reason.contains("restarted"), "{}", world.lock().reason);
    let swept = BackupAct::Sweep { listed: Default::default(), but: None };
    assert!(world.shelf.contains(&swept), "{:?}", world.shelf);
    assert_eq!(world.count("run backup"), 0);
}

#[test]
fn a_verification_says_good_or_what_is_wrong() {
    let changed = Some("db/t.ibd was changed".to_owned());
    let exit = |code| Some(HookEnd::Exit { code });
    let cases = [
        (None, None, JobState::Done, Some(true)),
        (changed, None, JobState::Failed, Some(false)),
        (None, exit(3), JobState::Failed, Some(false)),
        // It could not be looked at: that says nothing of the backup.
        (None, exit(1), JobState::Failed, None),
    ];
    for (corrupt, end, state, verdict) in cases {
        let mut world = replica(SyncMode::Off);
        world.put(world.node.keys().catalog_of(&BackupId::new("1")), &encode(&entry("1", 1)));
        world.corrupt = corrupt.clone();
        if end.is_some() {
            world.held = vec!["verify"];
        }
        world.put_lock(&asked_by_b(&world, Job::Verify, "1"));
        if let Some(end) = end.clone() {
            world.end(Hook::Verify, end);
        }
        world.pass(100);
        let lock = world.lock();
        assert_eq!(lock.state, state, "{corrupt:?} {end:?}");
        let verified = world.catalog()[0].verified.clone();
        assert_eq!(verified.as_ref().map(|it| it.ok), verdict, "{corrupt:?} {end:?}");
        if let Some(what) = corrupt {
            assert_eq!(lock.reason, what);
            assert_eq!(verified.map(|it| it.text), Some(what));
            assert!(!world.has("run verify"), "a changed file is not opened");
        }
    }
}

#[test]
fn a_verification_of_what_is_not_listed_fails() {
    let mut world = replica(SyncMode::Off);
    world.put_lock(&asked_by_b(&world, Job::Verify, "1"));
    world.pass(100);
    assert_eq!(world.lock().state, JobState::Failed);
    assert_eq!(world.lock().reason, "the catalog has no backup 1");
}

/// `settings` keep 2.
#[test]
fn what_is_beyond_the_retention_goes_after_a_good_one() {
    let mut world = primary(SyncMode::Off);
    let keys = world.node.keys().clone();
    for (id, at, node) in [("1", 1, "a"), ("2", 2, "b"), ("3", 3, "gone")] {
        let of = CatalogValue { node: node.into(), ..entry(id, at) };
        world.put(keys.catalog_of(&of.id), &encode(&of));
    }
    world.member_b();
    world.pass(500);
    world.ask("r1", "backup", &[("node", "a")]);
    world.pass(100);
    let left: Vec<String> = world.catalog().iter().map(|entry| entry.id.to_string()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    // 2 is another member's, who sees the same.
    assert!(left.contains(&"2".to_owned()) && !left.contains(&"1".to_owned()), "{left:?}");
    let gone = BackupAct::Delete { id: BackupId::new("1"), own: true };
    assert!(world.shelf.contains(&gone), "{:?}", world.shelf);
    // Of a node that is no member any more: whoever finds it.
    world.ask("r2", "backup", &[("node", "a")]);
    world.pass(100);
    let gone = BackupAct::Delete { id: BackupId::new("3"), own: false };
    assert!(world.shelf.contains(&gone), "{:?}", world.shelf);
}
