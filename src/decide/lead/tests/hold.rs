//! Rule 15: what carries a term on while Consul is silent, and what does not.

use super::*;

fn holding() -> LeadConfig {
    LeadConfig { hold: true, ..config() }
}

fn silent() -> Failing {
    (|_| true, StoreError::Unknown("timeout".into()))
}

/// The rounds asked for since the last look: whom, and for how long.
fn asked(node: &mut Node) -> Vec<(OpId, String, Span)> {
    let said = std::mem::take(&mut node.said);
    let rounds = said.into_iter().filter_map(|said| match said {
        LeadOut::AskPromise { id, of, lease, .. } => Some((id, of.node.to_string(), lease)),
        _ => None,
    });
    rounds.collect()
}

fn codes(node: &mut Node) -> Vec<&'static str> {
    let said = std::mem::take(&mut node.said).into_iter();
    said.filter_map(|said| match said {
        LeadOut::Decided(reason) => Some(reason.code),
        _ => None,
    })
    .collect()
}

/// What `giver` answers to the leader `run` of `epoch`.
fn promise(giver: &mut Node, store: &mut Fake, run: &str, epoch: u64) -> Result<(), Declined> {
    let request =
        Request { node: "a".into(), run: run.into(), epoch: Epoch(epoch), lease: Span(3_000) };
    giver.give(store, LeadIn::PromiseAsked { id: OpId(1), request });
    let said = std::mem::take(&mut giver.said).into_iter();
    said.filter_map(|said| match said {
        LeadOut::PromiseAnswer { result, .. } => Some(result),
        _ => None,
    })
    .next()
    .expect("every request is answered")
}

#[test]
fn a_term_goes_on_from_the_last_request_that_each_one_answered() {
    let (mut store, mut a, _) = cluster(holding());
    a.give(&mut store, LeadIn::Admit(identity("c", "rc").member()));
    a.at(&mut store, 11_000);
    a.fail = Some(silent());
    a.said.clear();
    a.at(&mut store, 12_000);
    let rounds = asked(&mut a);
    assert_eq!(rounds.len(), 2, "{rounds:?}");
    assert_eq!((rounds[0].1.as_str(), rounds[1].1.as_str()), ("b", "c"));
    a.now = At(12_100);
    a.give(&mut store, LeadIn::Promised { id: rounds[0].0, result: Ok(()) });
    assert_eq!(a.deadline(), Some(At(14_000)), "one of two is not all");
    a.now = At(12_400);
    a.give(&mut store, LeadIn::Promised { id: rounds[1].0, result: Ok(()) });
    assert_eq!(a.deadline(), Some(At(15_000)), "from the sending, not from the receipt");
    assert!(codes(&mut a).contains(&"hold"));
    assert_eq!(a.lead.explain(a.now).code, "hold");
    // The same answer once more, or one to a round that nobody asked, is nothing.
    a.give(&mut store, LeadIn::Promised { id: rounds[1].0, result: Ok(()) });
    a.give(&mut store, LeadIn::Promised { id: OpId(9_999), result: Ok(()) });
    a.at(&mut store, 13_000);
    let rounds = asked(&mut a);
    assert_eq!(rounds.len(), 2, "asked again each third of a lease");
    a.give(&mut store, LeadIn::Promised { id: rounds[0].0, result: Ok(()) });
    a.give(&mut store, LeadIn::Promised { id: rounds[1].0, result: Err("mute".into()) });
    assert_eq!(a.deadline(), Some(At(15_000)), "c's last answered request counts");
    let why = a.lead.unanswered().expect("c is late");
    assert_eq!(why.code, "hold.unanswered");
    assert!(why.text.contains("c (mute)") && !why.text.contains('b'), "{why}");
    a.said.clear();
    a.at(&mut store, 15_000);
    assert!(matches!(a.lead.leadership(), Leadership::Closed { fenced: false, .. }));
    assert!(codes(&mut a).contains(&"close.deadline"));
}

#[test]
fn the_first_confirmed_renewal_ends_it_and_closing_is_final() {
    let (mut store, mut a, _) = cluster(holding());
    a.at(&mut store, 11_000);
    a.fail = Some(silent());
    a.at(&mut store, 12_000);
    let rounds = asked(&mut a);
    a.give(&mut store, LeadIn::Promised { id: rounds[0].0, result: Ok(()) });
    a.give(&mut store, LeadIn::Admit(identity("d", "rd").member()));
    a.fail = None;
    a.at(&mut store, 12_300);
    assert_eq!(a.deadline(), Some(At(15_300)));
    assert!(codes(&mut a).contains(&"hold.over"));
    let listed = a.lead.term_seen().map(|(term, _)| term.eligible.len());
    assert_eq!(listed, Some(2), "the list stood still while Consul was silent");
    a.fail = Some(silent());
    a.at(&mut store, 13_300);
    let rounds = asked(&mut a);
    a.give(&mut store, LeadIn::Demote { why: Reason::new("test", "asked") });
    a.give(&mut store, LeadIn::Promised { id: rounds[0].0, result: Ok(()) });
    assert!(matches!(a.lead.leadership(), Leadership::Closed { .. }), "a promise opens nothing");
    a.at(&mut store, 14_300);
    assert_eq!(asked(&mut a), vec![], "nobody is asked for a term that is over");
}

#[test]
fn with_fence_nobody_is_asked_and_alone_its_own_word_suffices() {
    let (mut store, mut a, _) = cluster(config());
    a.at(&mut store, 11_000);
    a.fail = Some(silent());
    a.at(&mut store, 12_000);
    assert_eq!((asked(&mut a), a.deadline()), (vec![], Some(At(14_000))));

    let mut store = Fake::default();
    let mut a = Node::new("a", "ra", holding(), 10_000);
    a.standing(&mut store, Disk::Empty, None);
    a.look(&mut store);
    a.fail = Some(silent());
    a.at(&mut store, 11_000);
    assert_eq!(a.deadline(), Some(At(13_000)), "before the cluster is made anybody may take");
    a.fail = None;
    a.at(&mut store, 11_300);
    a.give(&mut store, LeadIn::WriteCluster { id: ClusterId::new("id"), secret: vec![1] });
    a.fail = Some(silent());
    a.at(&mut store, 12_300);
    assert_eq!(a.deadline(), Some(At(15_300)), "nobody else is listed");
    a.at(&mut store, 13_300);
    assert_eq!(a.deadline(), Some(At(16_300)));
}

#[test]
fn everyone_of_a_list_of_unknown_outcome_is_asked() {
    let (mut store, mut a, _) = cluster(holding());
    a.at(&mut store, 11_000);
    a.fail = Some(silent());
    a.said.clear();
    a.give(&mut store, LeadIn::Admit(identity("c", "rc").member()));
    let names: BTreeSet<String> = asked(&mut a).into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, ["b".to_owned(), "c".to_owned()].into());
}

#[test]
fn a_shorter_lease_cuts_promises_held_and_those_asked_for() {
    let long = LeadConfig { lease: Span(6_000), lease_max: Span(6_000), ..holding() };
    let (mut store, mut a, _) = cluster(long.clone());
    a.fail = Some(silent());
    a.at(&mut store, 12_000);
    let first = asked(&mut a);
    assert_eq!(first[0].2, Span(6_000));
    a.now = At(12_050);
    a.give(&mut store, LeadIn::Promised { id: first[0].0, result: Ok(()) });
    assert_eq!(a.deadline(), Some(At(18_000)));
    a.at(&mut store, 14_000);
    let second = asked(&mut a);
    a.fail = Some((is_renewal, StoreError::Unknown("timeout".into())));
    a.give(&mut store, LeadIn::Config(LeadConfig { lease: Span(3_000), ..long }));
    a.at(&mut store, 14_500);
    assert_eq!(a.deadline(), Some(At(17_500)), "cut before the shorter lease is sent");
    a.give(&mut store, LeadIn::Promised { id: second[0].0, result: Ok(()) });
    assert_eq!(a.deadline(), Some(At(17_500)), "asked for 6 s, it counts 3 s by now");
}

#[test]
fn a_giver_takes_nothing_while_its_promise_runs_but_a_clean_end() {
    let (mut store, mut a, mut b) = cluster(holding());
    a.at(&mut store, 11_000);
    b.now = At(11_000);
    b.look(&mut store);
    b.now = At(13_000);
    assert_eq!(promise(&mut b, &mut store, "ra", 1), Ok(()));
    assert_eq!(b.lead.wake(b.now), Some(At(16_090)));
    b.at(&mut store, 14_090);
    assert_eq!(b.lead.explain(b.now).code, "take.wait");
    let mut other = store.clone();
    let mut waits = Node { lead: b.lead.clone(), now: b.now, said: vec![], fail: None };
    waits.at(&mut other, 16_090);
    assert_eq!(waits.deadline(), Some(At(19_090)));
    // The term itself says that it is over.
    a.at(&mut store, 13_200);
    fence(&mut a, &mut store);
    a.give(&mut store, LeadIn::Release { to: Some("b".into()) });
    b.now = At(14_100);
    b.look(&mut store);
    assert_eq!(b.deadline(), Some(At(17_100)));
}

#[test]
fn a_promise_is_for_the_leader_last_seen_and_from_a_node_without_a_term() {
    let (mut store, mut a, mut b) = cluster(holding());
    a.at(&mut store, 11_000);
    b.now = At(11_000);
    b.look(&mut store);
    assert_eq!(promise(&mut b, &mut store, "former", 1), Err(Declined::OtherTerm));
    assert_eq!(promise(&mut b, &mut store, "ra", 0), Err(Declined::OtherTerm));
    assert_eq!(promise(&mut b, &mut store, "ra", 2), Err(Declined::OtherTerm));
    let request =
        Request { node: "a".into(), run: "ra".into(), epoch: Epoch(1), lease: Span(9_000) };
    b.give(&mut store, LeadIn::PromiseAsked { id: OpId(1), request });
    let long = LeadOut::PromiseAnswer { id: OpId(1), result: Err(Declined::TooLong) };
    assert!(b.said.contains(&long));
    b.said.clear();
    assert_eq!(b.lead.wake(b.now), Some(At(14_090)), "no refusal has an effect");
    // An open take-over first, then a term of its own.
    b.fail = Some((
        |call| matches!(call, Call::Txn(v) if v.iter().any(|x| matches!(x, Verb::Lock(..)))),
        StoreError::Unknown("timeout".into()),
    ));
    b.at(&mut store, 14_090);
    assert_eq!(b.lead.leadership(), Leadership::Taking);
    assert_eq!(promise(&mut b, &mut store, "ra", 1), Err(Declined::Taking));
    b.fail = None;
    b.at(&mut store, 14_290);
    assert!(b.deadline().is_some());
    assert_eq!(promise(&mut b, &mut store, "ra", 1), Err(Declined::OtherTerm));
    assert_eq!(promise(&mut a, &mut store, "ra", 1), Err(Declined::Holding));
    let mut blind = Node::new("c", "rc", holding(), 14_000);
    assert_eq!(promise(&mut blind, &mut store, "ra", 1), Err(Declined::OtherTerm));
}

/// A watch that hangs shows a lease that has run out; to stop receiving then would hold up the
/// commits of a leader that is well.
#[test]
fn nobody_is_frozen_before_a_read_shows_that_the_lease_is_over() {
    for consul in [true, false] {
        let sync = LeadConfig { sync: SyncMode::On, ..holding() };
        let (mut store, mut a, mut b) = cluster(sync);
        a.at(&mut store, 11_000);
        a.at(&mut store, 12_000);
        a.at(&mut store, 13_200);
        a.give(&mut store, LeadIn::SyncReady(["b".into()].into()));
        let hook = a.said.iter().find_map(|said| match said {
            LeadOut::SyncHook { id, .. } => Some(*id),
            _ => None,
        });
        a.give(&mut store, LeadIn::SyncHooked { id: hook.expect("b is required"), ok: true });
        b.now = At(13_300);
        b.look(&mut store);
        a.at(&mut store, 14_200);
        a.at(&mut store, 15_200);
        if !consul {
            b.fail = Some(silent());
        }
        b.at(&mut store, 16_400);
        let frozen = |node: &Node| {
            node.said.iter().any(|said| matches!(said, LeadOut::Survey { freeze: true, .. }))
        };
        assert!(!frozen(&b), "consul {consul}");
        assert_eq!(store.sessions.len(), 1, "nor is a session made");
        if consul {
            assert_eq!(b.lead.explain(b.now).code, "take.wait");
            b.at(&mut store, 19_490);
            assert!(frozen(&b), "the lease is over");
        }
    }
}
