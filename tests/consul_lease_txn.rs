//! The transactions of the election on a real Consul: renewal, release, take-over, first take;
//! late, doubled and lost copies of them; and the quirks of Consul that their verbs touch.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

mod common;

use common::block_on;
use common::consul::Consul;
use common::proxy::{Mode, Proxy};
use common::store::{LIMIT, SHORT, store_at};
use lictor::consul::ConsulStore;
use lictor::decide::call::{Answer, Call, Entry, StoreError, Verb};
use lictor::decide::keys::{Key, Keys};
use lictor::decide::time::Span;
use lictor::decide::types::{ClusterName, Index, SessionId};
use lictor::store::Store;
use std::time::Duration;

/// One Consul server and one cluster on it.
struct Bed {
    consul: Consul,
    store: ConsulStore,
    keys: Keys,
}

/// What a taker read before it takes.
#[derive(Clone, Debug, Default)]
struct Seen {
    leader: Option<Entry>,
    term: Index,
    sync: Index,
}

fn bed() -> Bed {
    let consul = Consul::one();
    let store = store_at(&consul.addresses());
    Bed { consul, store, keys: Keys::new(&ClusterName::new("orders")) }
}

async fn txn(store: &ConsulStore, verbs: Vec<Verb>) -> Result<Vec<Entry>, StoreError> {
    match store.call(Call::Txn(verbs), LIMIT).await? {
        Answer::Txn(entries) => Ok(entries),
        other => panic!("a transaction answers {other:?}"),
    }
}

/// The operation at which a transaction was rolled back.
fn conflict(result: Result<Vec<Entry>, StoreError>) -> u16 {
    match result {
        Err(StoreError::Conflict { op: Some(op), .. }) => op,
        other => panic!("expected a conflict with its operation, got {other:?}"),
    }
}

impl Bed {
    async fn session(&self) -> SessionId {
        let call = Call::SessionCreate { name: "orders-n1".to_string(), ttl: Span::secs(15) };
        match self.store.call(call, LIMIT).await {
            Ok(Answer::Session(id)) => id,
            other => panic!("a session is made: {other:?}"),
        }
    }

    async fn destroy(&self, session: &SessionId) {
        let call = Call::SessionDestroy(session.clone());
        assert_eq!(self.store.call(call, LIMIT).await, Ok(Answer::Done));
    }

    /// Destroys it, and waits until its lock-delay is over. While it runs, a transaction that locks
    /// is refused before raft, at its lock, whatever else is wrong with it.
    async fn destroy_and_forget(&self, session: &SessionId) {
        self.destroy(session).await;
        // Fails in either case: the session is dead. Which of the two errors it is, tells.
        let dead = || vec![Verb::Lock(self.keys.leader(), session.clone(), Vec::new())];
        for _ in 0..1_000 {
            match txn(&self.store, dead()).await {
                Err(StoreError::Conflict { what, .. }) if what.contains("lock delay") => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(StoreError::Conflict { .. }) => return,
                other => panic!("a dead session locks nothing: {other:?}"),
            }
        }
        panic!("a lock-delay of 1 ms was not over after a second");
    }

    async fn read(&self, key: Key) -> Option<Entry> {
        match self.store.call(Call::Read { key, recurse: false }, LIMIT).await {
            Ok(Answer::Entries(mut list)) => list.pop(),
            other => panic!("a read answers {other:?}"),
        }
    }

    /// The read-only transaction before a take.
    async fn look(&self) -> Seen {
        let (leader, term, sync) = (self.keys.leader(), self.keys.term(), self.keys.sync());
        let verbs = [&leader, &term, &sync].map(|key| Verb::GetTree(key.clone())).to_vec();
        let found = txn(&self.store, verbs).await.expect("a read");
        let find = |key: &Key| found.iter().find(|entry| entry.key == *key).cloned();
        let index = |key: &Key| find(key).map_or(Index(0), |entry| entry.modify);
        Seen { leader: find(&leader), term: index(&term), sync: index(&sync) }
    }

    /// Rule 12: the take-over of what was seen.
    fn take(&self, seen: &Seen, session: &SessionId, who: &str) -> Vec<Verb> {
        let leader = self.keys.leader();
        let mut verbs = match &seen.leader {
            None => vec![Verb::CheckNotExists(leader.clone())],
            Some(entry) => vec![Verb::CheckIndex(leader.clone(), entry.modify)],
        };
        if let Some(old) = seen.leader.as_ref().and_then(|entry| entry.session.clone()) {
            verbs.push(Verb::Unlock(leader.clone(), old, b"taken".to_vec()));
        }
        verbs.push(Verb::Lock(leader, session.clone(), format!("held by {who}").into_bytes()));
        let term = format!("term of {who} after {}", seen.term.0).into_bytes();
        verbs.push(Verb::Cas(self.keys.term(), seen.term, term));
        let sync = format!("sync of {who} after {}", seen.sync.0).into_bytes();
        verbs.push(Verb::Cas(self.keys.sync(), seen.sync, sync));
        verbs
    }

    /// Takes with a new session; the session and the index of `leader`.
    async fn taken_by(&self, who: &str) -> (SessionId, Index) {
        let session = self.session().await;
        let seen = self.look().await;
        let entries = txn(&self.store, self.take(&seen, &session, who)).await.expect("taken");
        let leader = self.keys.leader();
        let last = entries.iter().rfind(|entry| entry.key == leader).expect("leader was written");
        assert_eq!(last.session.as_ref(), Some(&session));
        (session, last.modify)
    }

    /// Rule 3: the renewal.
    fn renewal(&self, session: &SessionId, index: Index, n: u64) -> Vec<Verb> {
        let leader = self.keys.leader();
        let value = format!("renewal {n}").into_bytes();
        vec![Verb::CheckSession(leader.clone(), session.clone()), Verb::Cas(leader, index, value)]
    }

    async fn renew(
        &self,
        session: &SessionId,
        index: Index,
        n: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        txn(&self.store, self.renewal(session, index, n)).await
    }

    /// Rule 8: the release.
    fn release(&self, session: &SessionId, index: Index) -> Vec<Verb> {
        let leader = self.keys.leader();
        let clean = b"clean".to_vec();
        vec![Verb::CheckIndex(leader.clone(), index), Verb::Unlock(leader, session.clone(), clean)]
    }

    /// Sends a transaction that goes nowhere, and hands out its bytes for later.
    async fn on_the_way(&self, proxy: &Proxy, verbs: Vec<Verb>) -> Vec<u8> {
        proxy.set(Mode::BlackHole);
        let through = store_at(&[proxy.address()]);
        let result = through.call(Call::Txn(verbs), SHORT).await;
        assert!(matches!(result, Err(StoreError::Unknown(_))), "{result:?}");
        proxy.last_seen("/v1/txn")
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(self.consul.servers[0].http)
    }
}

#[test]
fn a_term_from_first_take_to_a_clean_hand_over() {
    block_on(async {
        let bed = bed();
        let (session, taken) = bed.taken_by("a").await;
        let renewed = bed.renew(&session, taken, 1).await.expect("held and at its index");
        assert_eq!(renewed.len(), 1, "the check's own result is not an entry: {renewed:?}");
        assert!(renewed[0].modify > taken);
        assert_eq!(renewed[0].value, b"renewal 1");

        txn(&bed.store, bed.release(&session, renewed[0].modify)).await.expect("released");
        let leader = bed.read(bed.keys.leader()).await.expect("the key stays");
        assert_eq!((leader.value.as_slice(), leader.session), (&b"clean"[..], None));
        assert_eq!(conflict(bed.renew(&session, leader.modify, 2).await), 0, "it is over");

        let (_, index) = bed.taken_by("b").await;
        assert!(index > leader.modify);
        let term = bed.read(bed.keys.term()).await.expect("written by the take");
        assert!(term.value.starts_with(b"term of b"));
    });
}

#[test]
fn a_late_renewal_fails_after_a_take_over_even_when_the_key_is_free_again() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let late = bed.on_the_way(&proxy, bed.renewal(&a, index, 1)).await;

        let (b, taken) = bed.taken_by("b").await;
        assert_eq!(proxy.deliver(&late).0, 409, "b holds it");
        txn(&bed.store, bed.release(&b, taken)).await.expect("released");
        assert_eq!(proxy.deliver(&late).0, 409, "it is free, and still not a's");
        let leader = bed.read(bed.keys.leader()).await.expect("the key stays");
        assert_eq!(leader.value, b"clean");
    });
}

#[test]
fn a_late_renewal_fails_when_its_session_is_gone_and_nobody_took_over() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let late = bed.on_the_way(&proxy, bed.renewal(&a, index, 1)).await;
        bed.destroy(&a).await;
        let (status, body) = proxy.deliver(&late);
        assert_eq!(status, 409, "{body}");
        assert_eq!(bed.read(bed.keys.leader()).await.expect("stays").value, b"held by a");
    });
}

#[test]
fn a_late_release_of_an_earlier_term_fails() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let late = bed.on_the_way(&proxy, bed.release(&a, index)).await;

        let (_, taken) = bed.taken_by("b").await;
        assert_eq!(proxy.deliver(&late).0, 409);
        let leader = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!((leader.modify, leader.value.as_slice()), (taken, &b"held by b"[..]));

        let (again, taken) = bed.taken_by("a").await;
        assert_eq!(proxy.deliver(&late).0, 409, "the same node, another term");
        let leader = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!((leader.modify, leader.session), (taken, Some(again)));
    });
}

#[test]
fn a_release_that_a_renewal_overtook_fails() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let late = bed.on_the_way(&proxy, bed.release(&a, index)).await;
        bed.renew(&a, index, 1).await.expect("renewed");
        assert_eq!(proxy.deliver(&late).0, 409);
        assert_eq!(bed.read(bed.keys.leader()).await.expect("held").session, Some(a));
    });
}

#[test]
fn of_a_doubled_renewal_one_applies_and_the_copy_conflicts() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let through = store_at(&[proxy.address()]);
        let renewed = txn(&through, bed.renewal(&a, index, 1)).await.expect("renewed");
        let (status, body) = proxy.deliver(&proxy.last_seen("/v1/txn"));
        assert_eq!(status, 409, "{body}");
        assert!(body.contains("\"OpIndex\": 1") || body.contains("\"OpIndex\":1"), "{body}");
        let leader = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!(leader.modify, renewed[0].modify, "the copy wrote nothing");
    });
}

#[test]
fn a_lost_reply_is_unknown_and_a_read_shows_that_it_was_applied() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        // A second address is there, and must not be used for a write that may have gone out.
        let second = bed.proxy();
        let (a, mut index) = bed.taken_by("a").await;
        for (n, mode) in [(1, Mode::DropReply), (2, Mode::CutReply)] {
            proxy.set(mode);
            let through = store_at(&[proxy.address(), second.address()]);
            let result = through.call(Call::Txn(bed.renewal(&a, index, n)), Span(2_000)).await;
            assert!(matches!(result, Err(StoreError::Unknown(_))), "{mode:?}: {result:?}");
            let leader = bed.read(bed.keys.leader()).await.expect("held");
            assert_eq!(leader.value, format!("renewal {n}").into_bytes(), "{mode:?}");
            assert!(leader.modify > index);
            index = leader.modify;
        }
        assert_eq!(proxy.seen().len(), 2, "sent once each");
        assert_eq!(second.seen().len(), 0, "never repeated");
    });
}

#[test]
fn an_unknown_renewal_may_still_arrive_after_a_read_showed_nothing() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, index) = bed.taken_by("a").await;
        let through = store_at(&[proxy.address()]);
        proxy.set(Mode::DelayRequest(Duration::from_millis(1_500)));
        let result = through.call(Call::Txn(bed.renewal(&a, index, 1)), SHORT).await;
        assert!(matches!(result, Err(StoreError::Unknown(_))), "{result:?}");
        let before = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!(before.modify, index, "not yet: so a read alone settles nothing");
        // Only a moved index does: the next attempt at the same index, or the late one, wins.
        let again = bed.renew(&a, index, 2).await.expect("at the index of the unanswered one");
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        let after = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!((after.modify, after.value.as_slice()), (again[0].modify, &b"renewal 2"[..]));
    });
}

#[test]
fn a_copy_that_the_network_makes_later_changes_nothing() {
    block_on(async {
        let bed = bed();
        let proxy = bed.proxy();
        let (a, mut index) = bed.taken_by("a").await;
        let through = store_at(&[proxy.address()]);
        proxy.set(Mode::Duplicate(Duration::from_millis(5)));
        for n in 0..50 {
            let renewed = txn(&through, bed.renewal(&a, index, n)).await.expect("renewed");
            assert!(renewed[0].modify > index);
            index = renewed[0].modify;
        }
        let leader = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!((leader.modify, leader.value.as_slice()), (index, &b"renewal 49"[..]));
    });
}

#[test]
fn of_two_takers_at_two_servers_exactly_one_wins() {
    block_on(async {
        let consul = Consul::three();
        let store = store_at(&consul.addresses()[..1]);
        let other = store_at(&consul.addresses()[1..]);
        let bed = Bed { consul, store, keys: Keys::new(&ClusterName::new("orders")) };
        for round in 0..30 {
            let seen = bed.look().await;
            let (a, b) = (bed.session().await, bed.session().await);
            let (take_a, take_b) = (bed.take(&seen, &a, "a"), bed.take(&seen, &b, "b"));
            let results = tokio::join!(txn(&bed.store, take_a), txn(&other, take_b));
            let winner = match results {
                (Ok(_), Err(StoreError::Conflict { .. })) => a,
                (Err(StoreError::Conflict { .. }), Ok(_)) => b,
                other => panic!("round {round}: {other:?}"),
            };
            let leader = bed.read(bed.keys.leader()).await.expect("held");
            assert_eq!(leader.session, Some(winner), "round {round}");
        }
    });
}

#[test]
fn a_vanished_session_can_not_be_unlocked_so_the_taker_leaves_it_out() {
    block_on(async {
        let bed = bed();
        let (a, held) = bed.taken_by("a").await;
        let seen_held = bed.look().await;
        bed.destroy_and_forget(&a).await;
        let seen_free = bed.look().await;
        let leader = seen_free.leader.clone().expect("behavior release keeps the key");
        assert_eq!(leader.session, None);
        assert!(leader.modify > held, "the end of a session moves the index");

        let b = bed.session().await;
        let outdated = txn(&bed.store, bed.take(&seen_held, &b, "b")).await;
        assert_eq!(conflict(outdated), 0, "what was judged has changed");

        let mut with_unlock = bed.take(&seen_free, &b, "b");
        with_unlock.insert(1, Verb::Unlock(bed.keys.leader(), a, b"taken".to_vec()));
        assert_eq!(
            conflict(txn(&bed.store, with_unlock).await),
            1,
            "a dead session unlocks nothing"
        );

        txn(&bed.store, bed.take(&seen_free, &b, "b")).await.expect("without it, it is taken");
    });
}

#[test]
fn a_deleted_key_is_taken_by_check_not_exists() {
    block_on(async {
        let bed = bed();
        let (a, index) = bed.taken_by("a").await;
        let seen_held = bed.look().await;
        bed.consul.delete(bed.keys.leader().as_str());
        assert_eq!(conflict(bed.renew(&a, index, 1).await), 0, "nothing is held");

        let b = bed.session().await;
        assert_eq!(conflict(txn(&bed.store, bed.take(&seen_held, &b, "b")).await), 0);
        let seen_gone = bed.look().await;
        assert_eq!(seen_gone.leader, None);
        bed.consul.put(bed.keys.leader().as_str(), "back");
        let back = txn(&bed.store, bed.take(&seen_gone, &b, "b")).await;
        assert_eq!(conflict(back), 0, "it came back between read and take");
        bed.consul.delete(bed.keys.leader().as_str());
        txn(&bed.store, bed.take(&seen_gone, &b, "b")).await.expect("taken");
    });
}

#[test]
fn a_take_fails_when_sync_or_term_changed_after_the_read() {
    block_on(async {
        let bed = bed();
        let (a, _) = bed.taken_by("a").await;
        let leader = bed.keys.leader();
        let writes = [(bed.keys.sync(), 4), (bed.keys.term(), 3)];
        for (key, failing) in writes {
            let seen = bed.look().await;
            let index = if key == bed.keys.sync() { seen.sync } else { seen.term };
            let held = Verb::CheckSession(leader.clone(), a.clone());
            let shrink = Verb::Cas(key.clone(), index, b"shrunk".to_vec());
            txn(&bed.store, vec![held, shrink]).await.expect("the holder writes it");
            let b = bed.session().await;
            let result = txn(&bed.store, bed.take(&seen, &b, "b")).await;
            assert_eq!(conflict(result), failing, "{key}");
            let still = bed.read(leader.clone()).await.expect("held");
            assert_eq!(still.session.as_ref(), Some(&a), "rolled back as a whole");
        }
    });
}

#[test]
fn garbage_by_hand_over_a_held_key_is_overwritten_by_the_next_renewal() {
    block_on(async {
        let bed = bed();
        let (a, index) = bed.taken_by("a").await;
        let seen = bed.look().await;
        // Not even UTF-8: rs-consul fails the whole read then, ours must not.
        let garbage = vec![0xff, 0xfe, b'!'];
        let put = Verb::Set(bed.keys.leader(), garbage.clone());
        txn(&bed.store, vec![put]).await.expect("Consul's locks are advisory");
        assert_eq!(conflict(bed.renew(&a, index, 1).await), 1, "the index moved, the session not");
        let b = bed.session().await;
        assert_eq!(conflict(txn(&bed.store, bed.take(&seen, &b, "b")).await), 0);

        let leader = bed.read(bed.keys.leader()).await.expect("held");
        assert_eq!((&leader.value, &leader.session), (&garbage, &Some(a.clone())));
        let renewed = bed.renew(&a, leader.modify, 2).await.expect("at the new index");
        assert_eq!(renewed[0].value, b"renewal 2");
    });
}

#[test]
fn a_session_destroyed_early_fails_the_renewal_at_any_index() {
    block_on(async {
        let bed = bed();
        let (a, index) = bed.taken_by("a").await;
        bed.destroy(&a).await;
        assert_eq!(conflict(bed.renew(&a, index, 1).await), 0);
        let leader = bed.read(bed.keys.leader()).await.expect("stays");
        assert_eq!(
            conflict(bed.renew(&a, leader.modify, 2).await),
            0,
            "the index alone is no proof"
        );
        let renewed = bed.store.call(Call::SessionRenew(a), LIMIT).await;
        assert_eq!(renewed, Err(StoreError::SessionGone));
    });
}

#[test]
fn unlock_and_lock_in_one_transaction_know_no_lock_delay() {
    block_on(async {
        let bed = bed();
        let (_, mut last) = bed.taken_by("a").await;
        for round in 0..50 {
            // A held key each time: `taken_by` unlocks the old session and locks with a new one.
            let (_, index) = bed.taken_by(&format!("n{round}")).await;
            assert!(index > last);
            last = index;
        }
    });
}

#[test]
fn after_an_invalidated_session_the_lock_is_free_within_milliseconds() {
    block_on(async {
        let bed = bed();
        let mut delayed = 0;
        for _ in 0..30 {
            let (a, _) = bed.taken_by("a").await;
            let b = bed.session().await;
            bed.destroy(&a).await;
            let seen = bed.look().await;
            let mut tries = 0;
            while let Err(error) = txn(&bed.store, bed.take(&seen, &b, "b")).await {
                let text = error.to_string();
                assert!(text.contains("lock delay") && tries < 50, "{text}");
                delayed += 1;
                tries += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        eprintln!("lock-delay 1ms: {delayed} takes refused at first in 30 rounds");
    });
}

/// What Consul does that a reader of its manual would not expect, as far as our verbs touch it.
mod quirks {
    use super::*;

    #[test]
    fn an_identical_write_moves_no_index() {
        block_on(async {
            let bed = bed();
            let (a, index) = bed.taken_by("a").await;
            let first = bed.renew(&a, index, 7).await.expect("renewed")[0].modify;
            let again = bed.renew(&a, first, 7).await.expect("accepted")[0].modify;
            assert_eq!(again, first, "so `n` must grow by one an attempt");
        });
    }

    #[test]
    fn a_plain_put_resets_lock_index_and_keeps_the_session() {
        block_on(async {
            let bed = bed();
            let (a, _) = bed.taken_by("a").await;
            let key = bed.keys.leader();
            let before = bed.consul.entry(key.as_str()).expect("held");
            assert_eq!(before["LockIndex"], 1);
            bed.consul.put(key.as_str(), "by hand");
            let after = bed.consul.entry(key.as_str()).expect("held");
            assert_eq!(
                (&after["LockIndex"], after["Session"].as_str()),
                (&0.into(), Some(a.as_str()))
            );
        });
    }

    #[test]
    fn a_renewed_session_says_nothing_about_the_lock() {
        block_on(async {
            let bed = bed();
            let (a, _) = bed.taken_by("a").await;
            bed.taken_by("b").await;
            assert_eq!(bed.store.call(Call::SessionRenew(a), LIMIT).await, Ok(Answer::Done));
        });
    }

    #[test]
    fn a_lock_with_a_dead_or_foreign_session_conflicts() {
        block_on(async {
            let bed = bed();
            let key = bed.keys.leader();
            let (a, b) = (bed.session().await, bed.session().await);
            let lock = |id: &SessionId| vec![Verb::Lock(key.clone(), id.clone(), b"x".to_vec())];
            txn(&bed.store, lock(&a)).await.expect("free");
            assert_eq!(conflict(txn(&bed.store, lock(&b)).await), 0, "held by a");
            let foreign = vec![Verb::Unlock(key.clone(), b.clone(), b"x".to_vec())];
            assert_eq!(conflict(txn(&bed.store, foreign).await), 0, "b does not hold it");
            bed.destroy(&b).await;
            assert_eq!(conflict(txn(&bed.store, lock(&b)).await), 0, "b is dead");
        });
    }

    #[test]
    fn reads_of_absent_keys_are_empty_and_checks_of_them_fail() {
        block_on(async {
            let bed = bed();
            let key = bed.keys.leader();
            let tree = txn(&bed.store, vec![Verb::GetTree(key.clone())]).await;
            assert_eq!(tree, Ok(vec![]));
            let absent = vec![Verb::CheckNotExists(key.clone())];
            assert_eq!(txn(&bed.store, absent).await, Ok(vec![]));
            let index = vec![Verb::CheckIndex(key.clone(), Index(1))];
            assert_eq!(conflict(txn(&bed.store, index).await), 0);
            let session = vec![Verb::CheckSession(key.clone(), bed.session().await)];
            assert_eq!(conflict(txn(&bed.store, session).await), 0);
            let delete = vec![Verb::DeleteCas(key.clone(), Index(5))];
            assert_eq!(txn(&bed.store, delete).await, Ok(vec![]), "absent already is deleted");
        });
    }

    #[test]
    fn cas_at_zero_creates_and_never_overwrites() {
        block_on(async {
            let bed = bed();
            let cas = |value: &[u8]| vec![Verb::Cas(bed.keys.term(), Index(0), value.to_vec())];
            txn(&bed.store, cas(b"one")).await.expect("absent");
            assert_eq!(conflict(txn(&bed.store, cas(b"two")).await), 0);
        });
    }

    #[test]
    fn an_agent_that_leaves_ends_sessions_without_checks() {
        block_on(async {
            let bed = bed();
            let mut agent = bed.consul.start_client("leaver");
            let through = store_at(&[agent.address()]);
            let call = Call::SessionCreate { name: "x".to_string(), ttl: Span::secs(3_600) };
            let Ok(Answer::Session(id)) = through.call(call, LIMIT).await else {
                panic!("a session on the client agent's node")
            };
            let lock = Verb::Lock(bed.keys.leader(), id, b"x".to_vec());
            txn(&bed.store, vec![lock]).await.expect("free");
            agent.leave(None);
            let limit = Duration::from_secs(20);
            common::wait_for(limit, "the lock is free though its TTL is an hour", || {
                let entry = bed.consul.entry(bed.keys.leader().as_str()).expect("stays");
                entry["Session"].is_null()
            });
        });
    }

    #[test]
    fn a_restored_snapshot_brings_back_sessions_and_proofs() {
        block_on(async {
            let bed = bed();
            let (a, index) = bed.taken_by("a").await;
            let snapshot = bed.consul.servers[0].snapshot(None);
            let (_, taken) = bed.taken_by("b").await;
            assert_eq!(conflict(bed.renew(&a, index, 1).await), 0);
            bed.consul.servers[0].restore(None, &snapshot);
            bed.consul.wait_leader();
            let leader = bed.read(bed.keys.leader()).await.expect("restored");
            assert_eq!((leader.modify, leader.session.as_ref()), (index, Some(&a)));
            assert!(leader.modify < taken, "an index went back");
            bed.renew(&a, index, 2).await.expect("the old holder proves itself again");
        });
    }
}
