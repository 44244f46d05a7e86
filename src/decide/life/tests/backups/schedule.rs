//! When backups are made by themselves.

use super::*;
use crate::decide::backup::{Cron, Slot};

/// 2026-11-25 00:00:10Z, ten seconds after the world's own beginning of time.
const AHEAD: u64 = 1_795_564_800_000;

fn scheduled(schedule: &str) -> World {
    let mut world = primary(SyncMode::Off);
    world.ahead = AHEAD - world.at + 10_000;
    std::sync::Arc::make_mut(&mut world.node.set).backup.schedule =
        Some(Cron::parse(schedule).expect("a schedule"));
    std::sync::Arc::make_mut(&mut world.node.set).backup.keep = Keep { count: 0, days: 0 };
    world.pass(100);
    world
}

#[test]
fn the_schedule_makes_one_a_moment() {
    let mut world = scheduled("*/2 * * * *");
    assert_eq!(world.catalog(), [], "nothing is made up for before it was set");
    world.doze(119_000);
    let [first] = &world.catalog()[..] else { panic!("one: {:?}", world.catalog()) };
    assert!(first.id.as_str().starts_with("20261125-000200-"), "{}", first.id);
    let slot = world.lock().slot.expect("of the schedule");
    assert_eq!((slot.attempt, slot.done), (1, true));
    world.doze(100_000);
    assert_eq!(world.catalog().len(), 1);
    world.doze(15_000);
    assert_eq!(world.catalog().len(), 2);
    assert_eq!(world.lock().by, "schedule");
}

#[test]
fn a_scheduled_one_that_fails_is_tried_three_times() {
    let mut world = scheduled("1 0 * * *");
    world.held = vec!["backup"];
    world.doze(52_000);
    for attempt in 1..=3 {
        assert_eq!(world.lock().slot.map(|slot| slot.attempt), Some(attempt));
        assert_eq!(world.lock().state, JobState::Running);
        world.end(Hook::Backup, HookEnd::Exit { code: 1 });
        world.doze(290_000);
        assert_eq!(world.lock().state, JobState::Failed, "rests");
        world.doze(12_000);
    }
    assert_eq!(world.count("run backup"), 3);
    world.doze(600_000);
    assert_eq!(world.count("run backup"), 3);
}

#[test]
fn a_moment_that_a_former_leader_took_care_of_is_not_taken_again() {
    let mut world = scheduled("1 0 * * *");
    world.node.backup = Default::default();
    let slot = Slot { at: AHEAD + 60_000, schedule: "1 0 * * *".into(), attempt: 1, done: true };
    let lock = BackupValue {
        state: JobState::Done,
        slot: Some(slot),
        node: "b".into(),
        ..asked_by_b(&world, Job::Backup, "1")
    };
    world.put_lock(&lock);
    world.doze(120_000);
    assert_eq!(world.count("run backup"), 0);
    // Missed by a leader that was not there: made up for within the hour.
    let slot = lock.slot.clone().map(|slot| Slot { at: slot.at - 24 * 3_600_000, ..slot });
    world.put_lock(&BackupValue { slot, ..lock });
    world.pass(1_000);
    assert_eq!(world.count("run backup"), 1);
}

#[test]
fn a_schedule_without_anybody_says_so_once_a_minute() {
    let mut world = scheduled("1 0 * * *");
    std::sync::Arc::make_mut(&mut world.node.set).backup.bar = Some("has no backup_dir".into());
    world.doze(70_000);
    let said = world.node.reasons.iter().filter(|(_, it)| it.code == "backup.nobody").count();
    assert_eq!(said, 1);
    assert!(world.store.get(&world.node.keys().backup()).is_none());
}
