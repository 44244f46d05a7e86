//! The traps of Consul that cost others weeks, each by name; that the model is right about them is
//! `tests/consul_differential`'s and `tests/consul_lease_txn.rs`'s to show.

use super::*;
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::Index;

const NOW: At = At(1_000_000);
const TTL: Span = Span::secs(15);

fn spec(delay: Span) -> Spec {
    Spec {
        name: "s".into(),
        node: "n".into(),
        ttl: Some(TTL),
        ttl_text: "15s".into(),
        lock_delay: delay,
        behavior: Behavior::Release,
    }
}

fn session(memory: &mut Memory, delay: Span) -> SessionId {
    memory.session_create(NOW, spec(delay)).expect("there is a leader")
}

fn acquire(memory: &mut Memory, now: At, id: &SessionId) -> bool {
    let done = memory.put(now, "leader", 0, b"held".to_vec(), &Mode::Acquire(id.clone()));
    done.expect("there is a leader")
}

fn row(memory: &Memory) -> Row {
    memory.read("leader", false).rows.pop().expect("it is there").1
}

#[test]
fn trap_lock_delay_is_tested_before_raft_and_is_overtaken_by_what_is_queued() {
    let mut memory = Memory::new(1);
    let (a, b) = (session(&mut memory, Span::secs(15)), session(&mut memory, TTL));
    assert!(acquire(&mut memory, NOW, &a));
    // It came in while `a` held the key; it is applied after `a` is gone.
    memory.session_destroy(NOW, &a).expect("there is a leader");
    let c = session(&mut memory, TTL);
    assert!(!acquire(&mut memory, NOW, &c), "the delay runs");
    let queued = memory.put_admitted("leader", 0, b"b".to_vec(), &Mode::Acquire(b.clone()));
    assert_eq!(queued, Ok(true));
    assert_eq!(row(&memory).session, Some(b));
}

#[test]
fn trap_lock_index_goes_back_by_a_plain_write_and_by_a_deletion() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    for round in 1..=3 {
        assert!(acquire(&mut memory, NOW, &a));
        assert_eq!(row(&memory).lock, round);
        let done = memory.put(NOW, "leader", 0, Vec::new(), &Mode::Release(a.clone()));
        assert_eq!(done, Ok(true));
    }
    assert!(acquire(&mut memory, NOW, &a));
    assert_eq!(memory.put(NOW, "leader", 0, b"by hand".to_vec(), &Mode::Plain), Ok(true));
    let held = row(&memory);
    assert_eq!((held.lock, held.session), (0, Some(a.clone())), "the session keeps it");
    assert_eq!(memory.delete("leader", None), Ok(true));
    assert!(acquire(&mut memory, NOW, &a));
    assert_eq!(row(&memory).lock, 1);
}

#[test]
fn trap_a_renewed_session_is_no_proof_of_the_lock() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    assert!(acquire(&mut memory, NOW, &a));
    assert_eq!(memory.delete("leader", None), Ok(true));
    assert!(memory.session_renew(NOW, &a).expect("there is a leader").is_some());
    assert_eq!(memory.read("leader", false).rows, []);
}

#[test]
fn trap_a_session_ends_late_and_later_still_after_an_election() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    assert!(!memory.expire(NOW + Span(14_999), &a), "not before its TTL");
    memory.tick(NOW + Span(29_999));
    assert!(memory.session(&a).is_some());
    memory.lose_leader();
    memory.tick(NOW + Span::secs(40));
    assert!(memory.session(&a).is_some(), "nobody ends it without a leader");
    memory.elect(NOW + Span::secs(40));
    memory.tick(NOW + Span::secs(69));
    assert!(memory.session(&a).is_some(), "armed anew");
    assert_eq!(memory.wake(), Some(NOW + Span::secs(70)));
    memory.tick(NOW + Span::secs(70));
    assert!(memory.session(&a).is_none());
    // Where Consul may choose, the owner does.
    let b = memory.session_create(NOW, spec(Span::ZERO)).expect("there is a leader");
    assert!(memory.expire(NOW + TTL, &b));
}

#[test]
fn trap_a_session_may_end_early() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    assert!(acquire(&mut memory, NOW, &a));
    let before = row(&memory);
    memory.invalidate(NOW, &a);
    let after = row(&memory);
    assert_eq!((after.session, after.lock), (None, before.lock));
    assert!(after.modify > before.modify, "the end of a session moves the index");
    assert_eq!(memory.session_renew(NOW, &a), Ok(None));
}

#[test]
fn trap_a_plain_read_shows_an_old_holder_and_a_consistent_one_does_not() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    assert!(acquire(&mut memory, NOW, &a));
    memory.fall_behind();
    memory.invalidate(NOW, &a);
    assert_eq!(memory.read_plain("leader", false).rows[0].1.session, Some(a));
    assert_eq!(row(&memory).session, None);
    memory.catch_up();
    assert_eq!(memory.read_plain("leader", false).rows[0].1.session, None);
}

#[test]
fn trap_whoever_lost_its_session_waits_the_delay_too() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::secs(15));
    assert!(acquire(&mut memory, NOW, &a));
    memory.invalidate(NOW, &a);
    let again = session(&mut memory, Span::secs(15));
    assert!(!acquire(&mut memory, NOW + Span(14_999), &again));
    assert!(acquire(&mut memory, NOW + Span::secs(15), &again));
    // A delay is a minute at most, and a release has none.
    assert_eq!(memory.put(NOW, "leader", 0, Vec::new(), &Mode::Release(again)), Ok(true));
    let long = session(&mut memory, Span::secs(90));
    let later = NOW + Span::secs(20);
    assert!(acquire(&mut memory, later, &long));
    memory.invalidate(later, &long);
    let next = session(&mut memory, Span::ZERO);
    assert!(!acquire(&mut memory, later + Span(59_999), &next));
    assert!(acquire(&mut memory, later + Span::secs(60), &next));
}

#[test]
fn trap_a_restore_brings_back_sessions_keys_and_indexes_and_wakes_with_the_old() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::secs(15));
    assert!(acquire(&mut memory, NOW, &a));
    let snapshot = memory.snapshot();
    let old = row(&memory);
    memory.invalidate(NOW, &a);
    let b = session(&mut memory, Span::ZERO);
    assert!(acquire(&mut memory, NOW + TTL, &b));
    let taken = row(&memory);
    let waits = memory.query("leader", false, taken.modify, NOW + Span::secs(300));
    assert_eq!(memory.poll(NOW, &waits), None);
    memory.restore(NOW, snapshot);
    let seen = memory.poll(NOW, &waits).expect("a restore wakes everybody");
    assert_eq!((seen.index, &seen.rows[0].1), (taken.modify, &taken), "with what was before it");
    assert_eq!(row(&memory), old, "the old holder is back, at its old index");
    assert!(memory.session(&a).is_some() && memory.session(&b).is_none());
    // And what is written next is above all that ever was.
    assert_eq!(memory.put(NOW, "leader", 0, b"x".to_vec(), &Mode::Plain), Ok(true));
    assert!(row(&memory).modify > taken.modify);
}

#[test]
fn without_a_leader_nothing_is_written_and_the_outcome_is_not_known() {
    let mut memory = Memory::new(1);
    memory.lose_leader();
    let verbs = vec![Verb::Set(Key::new("k"), b"v".to_vec())];
    let told = memory.call(NOW, "n", &Call::Txn(verbs.clone()));
    assert!(matches!(told, Err(StoreError::Unknown(_))), "{told:?}");
    memory.elect(NOW);
    let Ok(Answer::Txn(entries)) = memory.call(NOW, "n", &Call::Txn(verbs)) else {
        panic!("it is taken")
    };
    assert_eq!(entries[0].value, b"v");
    // Nothing changes: no write, no new index, nobody is woken.
    let again = Call::Txn(vec![Verb::Cas(Key::new("k"), entries[0].modify, b"v".to_vec())]);
    let Ok(Answer::Txn(same)) = memory.call(NOW, "n", &again) else { panic!("it fits") };
    assert_eq!(same[0].modify, entries[0].modify);
    let stale = Call::Txn(vec![Verb::CheckIndex(Key::new("k"), Index(99))]);
    let told = memory.call(NOW, "n", &stale);
    assert!(matches!(told, Err(StoreError::Conflict { op: Some(0), .. })), "{told:?}");
}

#[test]
fn a_transaction_that_fails_leaves_everything_as_it_was() {
    let mut memory = Memory::new(1);
    let a = session(&mut memory, Span::ZERO);
    assert!(acquire(&mut memory, NOW, &a));
    for key in ["t/a", "t/b", "t/c"] {
        assert_eq!(memory.put(NOW, key, 0, b"v".to_vec(), &Mode::Plain), Ok(true));
    }
    assert_eq!(memory.delete("t/c", None), Ok(true));
    let before = memory.snapshot();
    let key = |text: &str| text.to_owned();
    let ops = [
        Op::Set { key: key("leader"), flags: 3, value: b"x".to_vec() },
        Op::Set { key: key("t/c"), flags: 0, value: b"again".to_vec() },
        Op::DeleteTree { key: key("t/") },
        Op::Set { key: key("t/new"), flags: 0, value: Vec::new() },
        Op::Delete { key: key("leader") },
        Op::Lock { key: key("leader"), session: a, flags: 0, value: Vec::new() },
        Op::Get { key: key("t/a") },
    ];
    let told = memory.txn(NOW, &ops).expect("there is a leader");
    let errors = told.expect_err("the tree was deleted before it was read");
    assert_eq!(errors.iter().map(|error| error.op).collect::<Vec<_>>(), [6]);
    let after = State { index: before.index, ..memory.snapshot() };
    assert_eq!(after, before);
    assert!(memory.txn(NOW, &ops[..6]).expect("there is a leader").is_ok());
    assert_ne!(memory.snapshot().kv, before.kv);
}
