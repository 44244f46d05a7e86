//! The rules one by one, against [`Fake`]; all interleavings are the model's business.

use super::super::call::{Call, StoreError, Verb};
use super::super::keys::Keys;
use super::super::reason::Reason;
use super::super::records::{Follows, LeaderValue, LockState, encode};
use super::super::time::{At, Span};
use super::super::types::{ClusterName, DiskId, Epoch, Identity, NodeName, OpId};
use super::fake::Fake;
use super::*;
use std::collections::BTreeMap;

mod hold;

fn keys() -> Keys {
    Keys::new(&ClusterName::new("c"))
}

fn config() -> LeadConfig {
    LeadConfig {
        lease: Span(3_000),
        lease_max: Span(3_000),
        request_timeout: Span(500),
        sync: SyncMode::Off,
        hold: false,
        rank_step: Span(50),
        peer: "p".into(),
        app: "a".into(),
    }
}

fn identity(name: &str, run: &str) -> Identity {
    Identity { node: name.into(), run: run.into(), disk: DiskId::new(name) }
}

type Failing = (fn(&Call) -> bool, StoreError);

/// One node, its machine and what it said that no store answers.
struct Node {
    lead: Lead,
    now: At,
    said: Vec<LeadOut>,
    /// Answers for the next calls that match; others go to the store.
    fail: Option<Failing>,
}

impl Node {
    fn new(name: &str, run: &str, config: LeadConfig, now: u64) -> Node {
        let lead = Lead::new(identity(name, run), keys(), config, Epoch::NONE, At(now));
        Node { lead, now: At(now), said: Vec::new(), fail: None }
    }

    fn give(&mut self, store: &mut Fake, input: LeadIn) {
        let mut out = Vec::new();
        self.lead.step(self.now, input, &mut out);
        for effect in out {
            let (op, call) = match effect {
                LeadOut::Call { op, call, .. } => (op, call),
                LeadOut::PersistFloor(epoch) => {
                    self.give(store, LeadIn::FloorDurable(epoch));
                    continue;
                }
                other => {
                    self.said.push(other);
                    continue;
                }
            };
            let result = match &self.fail {
                Some((matches, error)) if matches(&call) => Err(error.clone()),
                _ => store.apply(&call),
            };
            self.give(store, LeadIn::Reply { op, result });
        }
    }

    fn look(&mut self, store: &mut Fake) {
        let leader = store.get(&keys().leader());
        self.give(store, LeadIn::Leader { entry: leader, seen: Seen::Read });
        let (term, sync) = (store.get(&keys().term()), store.get(&keys().sync()));
        let cluster = store.get(&keys().cluster()).is_some();
        self.give(store, LeadIn::State { term, sync, cluster, seen: Seen::Read });
    }

    fn at(&mut self, store: &mut Fake, now: u64) {
        self.now = At(now);
        self.give(store, LeadIn::Tick);
    }

    fn standing(&mut self, store: &mut Fake, disk: Disk, follows: Option<Follows>) {
        let standing = Standing {
            disk,
            follows,
            may_bootstrap: true,
            cut_under: None,
            kept: false,
            barred: None,
        };
        self.give(store, LeadIn::Standing(standing));
    }

    fn deadline(&self) -> Option<At> {
        match self.lead.leadership() {
            Leadership::Open { deadline, .. } => Some(deadline),
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => None,
        }
    }
}

fn is_renewal(call: &Call) -> bool {
    matches!(call, Call::Txn(verbs) if matches!(verbs[..], [Verb::CheckSession(..), Verb::Cas(..)]))
}

/// A made cluster: `a` leads epoch 1 since 10,000, `b` is listed and followed.
fn cluster(config: LeadConfig) -> (Fake, Node, Node) {
    let mut store = Fake::default();
    let mut a = Node::new("a", "ra", config.clone(), 10_000);
    a.standing(&mut store, Disk::Empty, None);
    a.look(&mut store);
    assert!(a.deadline().is_some(), "{:?}", a.lead.explain(a.now));
    a.give(&mut store, LeadIn::WriteCluster { id: ClusterId::new("id"), secret: vec![1] });
    a.standing(&mut store, Disk::Data, None);
    a.give(&mut store, LeadIn::Admit(identity("b", "rb").member()));
    a.look(&mut store);
    let mut b = Node::new("b", "rb", config, 10_000);
    let follows = Follows { epoch: Epoch(1), node: "a".into(), run: "ra".into() };
    b.standing(&mut store, Disk::Data, Some(follows));
    b.look(&mut store);
    assert_eq!(b.lead.leadership(), Leadership::Follower);
    (store, a, b)
}

fn fence(node: &mut Node, store: &mut Fake) {
    node.give(store, LeadIn::Demote { why: Reason::new("test", "asked") });
    node.give(store, LeadIn::Fenced);
}

#[test]
fn the_first_of_all_takes_at_once_and_promotes_after_the_maximum_lease() {
    let (_, a, _) = cluster(config());
    let Leadership::Open { epoch, deadline, promote_from, retaken } = a.lead.leadership() else {
        panic!("not open")
    };
    assert_eq!((epoch, deadline, promote_from), (Epoch(1), At(13_000), At(13_090)));
    assert!(!retaken);
    assert!(a.said.contains(&LeadOut::ClusterWritten));
}

#[test]
fn a_renewal_moves_the_deadline_from_its_sending_and_nothing_else_does() {
    let (mut store, mut a, _) = cluster(config());
    a.at(&mut store, 11_000);
    assert_eq!(a.deadline(), Some(At(14_000)));
    a.fail = Some((is_renewal, StoreError::Unknown("timeout".into())));
    a.at(&mut store, 12_000);
    assert_eq!(a.deadline(), Some(At(14_000)));
    a.fail = None;
    a.at(&mut store, 12_500);
    assert_eq!(a.deadline(), Some(At(15_500)));
    a.at(&mut store, 15_500);
    assert!(matches!(a.lead.leadership(), Leadership::Closed { fenced: false, .. }));
}

#[test]
fn a_taker_waits_out_the_lease_on_two_clocks_from_the_last_write_it_saw() {
    let (mut store, mut a, mut b) = cluster(config());
    b.now = At(11_000);
    b.look(&mut store);
    a.at(&mut store, 11_000);
    b.now = At(11_200);
    b.look(&mut store);
    assert_eq!(b.lead.wake(b.now), Some(At(14_290)));
    b.at(&mut store, 14_289);
    assert_eq!(b.lead.leadership(), Leadership::Follower);
    b.at(&mut store, 14_290);
    assert_eq!(b.deadline(), Some(At(17_290)));
    // The former leader sees the other term and is out at once; its late renewal fails.
    a.now = At(13_999);
    a.look(&mut store);
    assert!(matches!(a.lead.leadership(), Leadership::Closed { fenced: false, .. }));
    a.give(&mut store, LeadIn::Fenced);
    assert_eq!(a.lead.leadership(), Leadership::Follower);
}

#[test]
fn a_clean_release_is_taken_at_once_but_the_preferred_successor_goes_first() {
    let (mut store, mut a, mut b) = cluster(config());
    a.now = At(13_100 - 200);
    a.at(&mut store, 12_000);
    a.at(&mut store, 13_200);
    fence(&mut a, &mut store);
    let mut later = store.clone();
    a.give(&mut store, LeadIn::Release { to: None });
    assert_eq!(a.lead.leadership(), Leadership::Follower);
    b.now = At(13_210);
    b.look(&mut store);
    let survey = b.said.iter().find_map(|said| match said {
        LeadOut::Survey { id, freeze: false, .. } => Some(*id),
        _ => None,
    });
    let answers =
        BTreeMap::from([("b".into(), Standpoint { order: 1, priority: 1, frozen: false })]);
    let id = survey.expect("positions rank the candidates");
    b.give(&mut store, LeadIn::Surveyed { id, answers });
    assert_eq!(b.deadline(), Some(At(16_210)));
    // With another successor named, it waits a second.
    let mut value = super::super::records::decode::<LeaderValue>(
        &later.get(&keys().leader()).expect("held").value,
    )
    .expect("ours");
    value.state = LockState::Clean;
    value.to = Some(NodeName::new("z"));
    let session = later.get(&keys().leader()).and_then(|entry| entry.session).expect("held");
    let verbs = vec![Verb::Unlock(keys().leader(), session, encode(&value))];
    later.apply(&Call::Txn(verbs)).expect("it holds the lock");
    let mut c = Node::new("b", "rb", config(), 13_000);
    let follows = Follows { epoch: Epoch(1), node: "a".into(), run: "ra".into() };
    c.standing(&mut later, Disk::Data, Some(follows));
    c.look(&mut later);
    assert_eq!(c.lead.wake(c.now), Some(At(14_000)));
    assert_eq!(c.lead.explain(c.now).code, "take.wait");
}

#[test]
fn a_session_lost_by_accident_is_retaken_while_the_application_stays() {
    for wipe in [false, true] {
        let (mut store, mut a, _) = cluster(config());
        a.at(&mut store, 11_000);
        let session = store.get(&keys().leader()).and_then(|entry| entry.session).expect("held");
        store.end_session(&session);
        if wipe {
            store.delete(&keys().leader());
        }
        a.now = At(11_500);
        a.look(&mut store);
        let Leadership::Open { epoch, deadline, retaken, .. } = a.lead.leadership() else {
            panic!("closed")
        };
        assert_eq!((epoch, deadline, retaken), (Epoch(2), At(14_500), true));
        assert_eq!(store.sessions.len(), 1, "the old session is no more");
    }
}

#[test]
fn garbage_by_hand_is_overwritten_by_the_next_renewal() {
    let (mut store, mut a, _) = cluster(config());
    store.put(&keys().leader(), b"garbage");
    a.at(&mut store, 11_000);
    assert_eq!(a.deadline(), Some(At(14_000)));
}

#[test]
fn a_shorter_lease_cuts_the_deadline_before_it_is_sent() {
    let long = LeadConfig { lease: Span(6_000), lease_max: Span(6_000), ..config() };
    let (mut store, mut a, _) = cluster(long.clone());
    a.give(&mut store, LeadIn::Config(LeadConfig { lease: Span(3_000), ..long.clone() }));
    a.fail = Some((is_renewal, StoreError::Unknown("timeout".into())));
    a.at(&mut store, 12_000);
    assert_eq!(a.deadline(), Some(At(15_000)));
    a.give(&mut store, LeadIn::Config(LeadConfig { lease: Span(9_000), ..long }));
    assert!(a.said.iter().any(|s| matches!(s, LeadOut::Decided(r) if r.code == "config.refused")));
}

#[test]
fn an_unanswered_take_over_is_settled_by_a_read_or_sent_again_alike() {
    for applied in [false, true] {
        let (mut store, mut a, mut b) = cluster(config());
        a.at(&mut store, 11_000);
        b.now = At(11_000);
        b.look(&mut store);
        b.fail = Some((
            |call| matches!(call, Call::Txn(v) if v.iter().any(|x| matches!(x, Verb::Lock(..)))),
            StoreError::Unknown("timeout".into()),
        ));
        if applied {
            // The copy is applied, its answer lost.
            let mut twin = Node::new("b", "rb", config(), 0);
            twin.lead = b.lead.clone();
            twin.at(&mut store, 14_090);
        }
        b.at(&mut store, 14_090);
        let _ = &mut b;
        if applied {
            assert_eq!(b.deadline(), None, "the other process has another session");
            continue;
        }
        assert_eq!(b.lead.leadership(), Leadership::Taking);
        b.fail = None;
        b.at(&mut store, 14_290);
        assert_eq!(b.deadline(), Some(At(17_090)), "counted from the first sending");
    }
}

#[test]
fn a_release_ends_the_term_and_take_again_opens_a_new_one() {
    let (mut store, mut a, _) = cluster(config());
    a.at(&mut store, 12_000);
    a.at(&mut store, 13_200);
    fence(&mut a, &mut store);
    assert!(matches!(a.lead.leadership(), Leadership::Closed { fenced: true, .. }));
    a.give(&mut store, LeadIn::TakeAgain);
    let Leadership::Open { epoch, retaken, .. } = a.lead.leadership() else { panic!("not open") };
    assert_eq!((epoch, retaken), (Epoch(2), false));
}

#[test]
fn an_early_return_of_a_watch_calms_everything_down() {
    let (mut store, mut a, mut b) = cluster(config());
    a.at(&mut store, 12_000);
    a.at(&mut store, 13_200);
    fence(&mut a, &mut store);
    a.give(&mut store, LeadIn::Release { to: None });
    b.now = At(14_000);
    let entry = store.get(&keys().leader());
    b.give(&mut store, LeadIn::Leader { entry, seen: Seen::Early });
    assert_eq!(b.lead.explain(b.now).code, "take.wait");
    assert_eq!(b.lead.wake(b.now), Some(At(17_090)));
}

#[test]
fn one_acknowledgement_of_two_is_written_before_it_is_required() {
    let sync = LeadConfig { sync: SyncMode::On, ..config() };
    let (mut store, mut a, _) = cluster(sync);
    a.at(&mut store, 11_000);
    a.at(&mut store, 12_000);
    a.at(&mut store, 13_200);
    let hooks = |node: &Node| -> Vec<(OpId, usize, u32)> {
        let said = node.said.iter();
        said.filter_map(|s| match s {
            LeadOut::SyncHook { id, members, acks } => Some((*id, members.len(), *acks)),
            _ => None,
        })
        .collect()
    };
    a.give(&mut store, LeadIn::SyncReady(["b".into()].into()));
    let (id, members, acks) = hooks(&a)[0];
    assert_eq!((members, acks), (1, 1), "the first is required before it is written");
    assert_eq!(a.lead.sync_seen().map(|(s, _)| s.members.len()), Some(1));
    a.give(&mut store, LeadIn::SyncHooked { id, ok: true });
    assert_eq!(a.lead.sync_seen().map(|(s, _)| (s.members.len(), s.acks)), Some((2, 1)));
    a.give(&mut store, LeadIn::SyncReady(["b".into(), "d".into()].into()));
    assert_eq!(a.lead.sync_seen().map(|(s, _)| s.members.len()), Some(3), "written first");
    let (id, members, _) = hooks(&a)[1];
    assert_eq!(members, 2);
    a.give(&mut store, LeadIn::SyncHooked { id, ok: true });
    a.give(&mut store, LeadIn::SyncReady(["d".into()].into()));
    let (id, members, _) = hooks(&a)[2];
    assert_eq!(members, 1, "required first, for one acknowledgement covers the larger set");
    assert_eq!(a.lead.sync_seen().map(|(s, _)| s.members.len()), Some(3));
    a.give(&mut store, LeadIn::SyncHooked { id, ok: true });
    assert_eq!(a.lead.sync_seen().map(|(s, _)| s.members.len()), Some(2));
    a.give(&mut store, LeadIn::SyncReady(BTreeSet::new()));
    assert_eq!(a.lead.sync_seen().map(|(s, _)| (s.members.len(), s.acks)), Some((1, 0)));
}

#[test]
fn a_node_without_part_in_the_term_does_not_take() {
    let (mut store, mut a, _) = cluster(config());
    a.at(&mut store, 11_000);
    let mut c = Node::new("c", "rc", config(), 11_000);
    c.standing(&mut store, Disk::Data, None);
    c.look(&mut store);
    c.at(&mut store, 20_000);
    assert_eq!(c.lead.explain(c.now).code, "take.unlisted");
    let mut b = Node::new("b", "rb2", config(), 11_000);
    b.standing(&mut store, Disk::Data, None);
    b.look(&mut store);
    assert_eq!(b.lead.explain(b.now).code, "take.not_following");
    store.delete(&keys().term());
    b.look(&mut store);
    assert_eq!(b.lead.explain(b.now).code, "take.no_term");
}

#[test]
fn members_and_runs_are_told_apart() {
    let (mut store, mut a, _) = cluster(config());
    a.at(&mut store, 11_000);
    let mut twin = Node::new("a", "other-run", config(), 11_000);
    twin.standing(&mut store, Disk::Data, None);
    twin.look(&mut store);
    assert_eq!(twin.lead.explain(twin.now).code, "take.wait", "not its term: it waits");
}

#[test]
fn a_watch_of_the_lock_that_runs_ahead_of_the_answer_is_no_loss() {
    let (mut store, mut a, mut b) = cluster(config());
    a.at(&mut store, 11_000);
    b.now = At(11_000);
    b.look(&mut store);
    b.now = At(14_090);
    let mut out = Vec::new();
    let mut held = None;
    b.lead.step(b.now, LeadIn::Tick, &mut out);
    // Every call is answered, but the take-over's answer is kept back.
    while let Some(effect) = out.pop() {
        let LeadOut::Call { op, call, .. } = effect else { continue };
        let result = store.apply(&call);
        let takes = matches!(&call, Call::Txn(v) if v.iter().any(|x| matches!(x, Verb::Lock(..))));
        if takes {
            held = Some((op, result));
            continue;
        }
        b.lead.step(b.now, LeadIn::Reply { op, result }, &mut out);
    }
    let (op, result) = held.expect("it takes");
    // A read sent before it was applied comes back after the watch of the lock.
    let entry = store.get(&keys().leader());
    b.lead.step(b.now, LeadIn::Leader { entry, seen: Seen::Read }, &mut out);
    assert_eq!(b.lead.leadership(), Leadership::Taking, "one key alone proves nothing");
    b.lead.step(b.now, LeadIn::Reply { op, result }, &mut out);
    assert_eq!(b.deadline(), Some(At(17_090)));
}
