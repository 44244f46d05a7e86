//! Live changes of the configuration: what they do at once, in which order, and what they leave
//! alone.

use super::*;
use crate::decide::call::Verb;
use crate::decide::life::Stated;
use crate::decide::records::{ConfigNote, SyncValue};

/// The settings with one cluster setting told as changed.
fn stated(set: Settings, name: &str, value: &str) -> Settings {
    let mut listed = set.stated.listed.clone();
    listed.insert(name.to_owned(), value.to_owned());
    let digest = format!("{listed:?}");
    Settings { stated: Stated { listed, digest, own: Vec::new() }, ..set }
}

fn with_sync(mode: SyncMode, text: &str) -> Settings {
    stated(settings(mode), "sync", text)
}

fn with_lease(ms: u64) -> Settings {
    let set = settings(SyncMode::Off);
    let lead = LeadConfig { lease: Span(ms), ..set.lead.clone() };
    stated(Settings { lead, ..set }, "lease", &format!("{ms}ms"))
}

fn good(settings: Settings) -> Input {
    Input::Config(ConfigNews::Good { settings: Box::new(settings), text: Some("text".into()) })
}

fn bad(what: &str) -> Input {
    Input::Config(ConfigNews::Bad { what: what.into() })
}

impl World {
    fn codes(&self, code: &str) -> Vec<String> {
        let all = self.node.reasons.iter().filter(|(_, reason)| reason.code == code);
        all.map(|(_, reason)| reason.text.clone()).collect()
    }

    fn sync_value(&self) -> Option<SyncValue> {
        decode(&self.store.get(&self.node.keys().sync())?.value)
    }

    fn sync_names(&self) -> Option<(Vec<String>, u32)> {
        let value = self.sync_value()?;
        Some((value.members.iter().map(ToString::to_string).collect(), value.acks))
    }
}

#[test]
fn a_change_is_told_and_kept_and_costs_the_application_nothing() {
    let mut world = primary(SyncMode::Off);
    let pid = world.node.app;
    world.give(good(with_lease(2_000)));
    assert_eq!(world.codes("config.changed"), ["changed: lease none -> 2000ms"]);
    world.pass(3_000);
    assert_eq!(world.leader().lease_ms, Span(2_000), "the next renewal says so");
    world.give(good(with_lease(3_000)));
    world.pass(3_000);
    assert_eq!(world.leader().lease_ms, Span(3_000));
    assert_eq!(world.state(), "primary");
    assert_eq!(world.node.app, pid);
    assert!(!world.has("run promote") && !world.has("run demote") && !world.has("kill"));
    // The same again is no change.
    let told = world.codes("config.changed").len();
    world.give(good(with_lease(3_000)));
    assert_eq!(world.codes("config.changed").len(), told);
}

#[test]
fn the_guard_is_cut_before_a_shorter_lease_is_sent() {
    let mut world = primary(SyncMode::Off);
    // Just after a renewal, so that the shorter lease ends before the longer one.
    let n = world.leader().n;
    while world.leader().n == n {
        world.pass(50);
    }
    let mut out = Vec::new();
    let now = |at: u64| Now { at: At(at), wall: at };
    world.node.step(now(world.at), good(with_lease(1_000)), &mut out);
    // The next renewal is due by the old lease.
    world.node.step(now(world.at + 1_050), Input::Tick, &mut out);
    let cut = out.iter().position(|effect| matches!(effect, Effect::Extend { .. }));
    let sends = |effect: &Effect| match effect {
        Effect::Call { call: Call::Txn(verbs), .. } => verbs
            .iter()
            .any(|verb| matches!(verb, Verb::Cas(key, ..) if key.as_str().ends_with("leader"))),
        _ => false,
    };
    let sent = out.iter().position(sends);
    assert!(cut.is_some() && sent.is_some() && cut < sent, "{cut:?} {sent:?} {out:?}");
    let Some(Effect::Extend { kill_at }) = cut.map(|at| &out[at]) else { panic!("a cut") };
    assert_eq!(*kill_at, At(world.at + 1_050 + 1_000 - 200));
}

#[test]
fn a_bad_one_changes_nothing_is_told_once_and_heals() {
    let mut world = primary(SyncMode::Off);
    let before = world.node.set.clone();
    for _ in 0..2 {
        world.give(bad("KV state/config:1:9: lease: 3 has no unit"));
    }
    let told = world.codes("config.bad");
    let want = "not used, the last good one stays: KV state/config:1:9: lease: 3 has no unit";
    assert_eq!(told, [want]);
    assert_eq!(world.node.set, before);
    world.pass(200);
    let record: MemberValue =
        decode(&world.store.get(&world.node.keys().member(&"a".into())).expect("written").value)
            .expect("ours");
    let note = record.config.expect("told");
    assert_eq!(note.bad.as_deref(), Some("KV state/config:1:9: lease: 3 has no unit"));
    world.give(good((*before).clone()));
    assert_eq!(
        world.codes("config.changed"),
        ["state/config is good again; changed: nothing else"]
    );
    assert_eq!(world.node.config_note().bad, None);
}

#[test]
fn sync_switched_on_is_required_before_it_is_written_and_off_the_other_way_round() {
    let mut world = pair();
    assert_eq!(world.sync_names(), None);
    world.give(good(with_sync(SyncMode::On, "on")));
    world.member_b();
    world.pass(3_000);
    assert_eq!(world.sync_names(), Some((vec!["a".into(), "b".into()], 1)), "{:?}", world.log);
    // First the leader alone, which promises nothing; then the hook, then the set.
    let acts: Vec<&str> =
        world.log.iter().map(String::as_str).filter(|act| act.contains("sync")).collect();
    assert_eq!(acts, ["sync set", "run sync", "sync set"]);
    world.log.clear();
    world.give(good(with_sync(SyncMode::Off, "off")));
    world.pass(1_000);
    let acts: Vec<&str> =
        world.log.iter().map(String::as_str).filter(|act| act.contains("sync")).collect();
    assert_eq!(acts, ["sync gone", "run sync"]);
    assert_eq!(world.sync_names(), None);
    assert_eq!(world.state(), "primary");
    assert_eq!(world.node.lead.sync_in_force(), Default::default());
}

#[test]
fn sync_that_cannot_be_switched_off_is_tried_again() {
    let mut world = pair();
    world.give(good(with_sync(SyncMode::On, "on")));
    world.member_b();
    world.pass(3_000);
    world.held = vec!["sync"];
    world.give(good(with_sync(SyncMode::Off, "off")));
    world.pass(500);
    world.end(Hook::Sync, HookEnd::Exit { code: 1 });
    assert_eq!(world.sync_names(), None, "nobody counts any more");
    world.held.clear();
    world.pass(1_500);
    assert_eq!(world.node.lead.sync_in_force(), Default::default());
}

#[test]
fn a_crash_while_sync_is_switched_off_restarts_in_place_only_when_nobody_counts_any_more() {
    let mut world = pair();
    world.give(good(with_sync(SyncMode::On, "on")));
    world.member_b();
    world.pass(3_000);
    assert!(!world.node.lead.sync_allows_restart());
    world.held = vec!["store"];
    let off = Settings { on_crash: OnCrash::Restart, ..with_sync(SyncMode::Off, "off") };
    world.give(good(off));
    assert!(!world.node.lead.sync_allows_restart(), "the set still stands");
}

#[test]
fn strict_says_when_too_few_follow() {
    let mut world = primary(SyncMode::Off);
    world.give(good(with_sync(SyncMode::Strict(1), "strict")));
    assert_eq!(world.codes("sync.too-few"), ["strict needs 1 replicas and 0 follow"]);
    assert_eq!(world.state(), "primary");
}

#[test]
fn the_reload_hook_is_told_what_changed_and_only_beside_no_other() {
    let mut world = pair();
    world.give(good(with_lease(2_000)));
    assert!(world.has("run reload"), "{:?}", world.log);
    world.log.clear();
    // A start or a kill is no change.
    world.pass(500);
    assert!(!world.has("run reload"));
}

#[test]
fn the_leader_names_who_has_another_configuration_once_and_not_at_once() {
    let mut world = pair();
    let key = world.node.keys().member(&"b".into());
    let note = |digest: &str| {
        Some(ConfigNote { digest: digest.into(), own: vec!["lease".into()], bad: None })
    };
    let mut record: MemberValue =
        decode(&world.store.get(&key).expect("written").value).expect("ours");
    record.config = note("other");
    world.put(key.clone(), &encode(&record));
    world.pass(29_000);
    assert!(world.codes("config.differs").is_empty());
    world.pass(5_000);
    let told = world.codes("config.differs");
    let want = "b runs with other settings of the cluster; set on b itself: lease; on this leader \
                itself: nothing";
    assert_eq!(told, [want]);
    record.config = note("");
    world.put(key, &encode(&record));
    world.pass(500);
    let status = world.node.snapshot(At(world.at)).status;
    let rows = status["members"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["config_differs"] == false), "{rows:?}");
}
