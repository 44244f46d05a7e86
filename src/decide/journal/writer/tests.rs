//! The pen against `Fake`, with answers that get lost and copies that arrive late.

use super::*;
use crate::decide::lead::fake::Fake;
use crate::decide::reason::Reason;
use crate::decide::types::{ClusterName, DiskId};
use proptest::prelude::*;

const KEEP: u64 = 20;

fn keys() -> Keys {
    Keys::new(&ClusterName::new("c"))
}

struct Scribe {
    me: Identity,
    notes: Notes,
    writer: Writer,
}

impl Scribe {
    fn new(name: &str) -> Scribe {
        let me = Identity {
            node: NodeName::new(name),
            run: RunId::new(&format!("r{name}")),
            disk: DiskId::new(name),
        };
        Scribe { me, notes: Notes::default(), writer: Writer::default() }
    }

    fn work(&mut self, now: At) -> Option<Call> {
        let keys = keys();
        let members = BTreeSet::from([NodeName::new("a"), NodeName::new("b")]);
        let desk = Desk { keys: &keys, me: &self.me, own: &self.notes, members, keep: KEEP };
        self.writer.work(now, &desk)
    }

    fn note(&mut self, at: u64) {
        self.notes.note(At(at), at, Epoch(1), &Reason::new("open", "a decision"));
    }

    fn asks(&mut self, other: &Scribe) {
        if let Some(known) = self.writer.heard_of(&other.me.node, &other.me.run) {
            let lines: Vec<Line> = other.notes.after(known).take(8).cloned().collect();
            self.writer.told(other.me.node.clone(), other.me.run.clone(), lines);
        }
    }
}

/// Gives the lock to a new session; the old one is gone.
fn lock(store: &mut Fake, epoch: u64) -> Term {
    let answer = store.apply(&Call::SessionCreate { name: String::new(), ttl: Span(1) });
    let Ok(Answer::Session(session)) = answer else { panic!("{answer:?}") };
    let old = store.get(&keys().leader()).and_then(|entry| entry.session);
    let value = epoch.to_string().into_bytes();
    let mut verbs: Vec<Verb> =
        old.map(|old| Verb::Unlock(keys().leader(), old, value.clone())).into_iter().collect();
    verbs.push(Verb::Lock(keys().leader(), session.clone(), value));
    store.apply(&Call::Txn(verbs)).expect("free");
    Term { epoch: Epoch(epoch), session }
}

fn head(store: &Fake) -> Head {
    let entry = store.get(&keys().journal_head()).expect("a head");
    decode(&entry.value).expect("ours")
}

fn entries(store: &Fake) -> Vec<Entry> {
    store.entries.values().filter_map(|entry| Entry::under(&keys(), entry)).collect()
}

fn settle(scribe: &mut Scribe, store: &mut Fake, now: &mut u64) {
    for _ in 0..40 {
        *now += 200;
        while let Some(call) = scribe.work(At(*now)) {
            let result = store.apply(&call);
            scribe.writer.answered(At(*now), &keys(), result);
        }
    }
}

#[test]
fn a_leader_appends_its_own_and_the_others_lines_in_their_order() {
    let (mut store, mut now) = (Fake::default(), 0);
    let (mut a, mut b) = (Scribe::new("a"), Scribe::new("b"));
    for at in [10, 30] {
        a.note(at);
    }
    for at in [20, 40] {
        b.note(at);
    }
    a.writer.lead(Some(lock(&mut store, 3)));
    settle(&mut a, &mut store, &mut now);
    a.asks(&b);
    a.note(50);
    settle(&mut a, &mut store, &mut now);
    let told: Vec<_> =
        entries(&store).iter().map(|e| (e.epoch.0, e.seq, e.node.to_string(), e.line.at)).collect();
    let of = |seq, node: &str, at| (3, seq, node.to_owned(), at);
    let want = [of(1, "a", 10), of(2, "a", 30), of(3, "b", 20), of(4, "b", 40), of(5, "a", 50)];
    assert_eq!(told, want);
    // The next leader asks for what is not in yet, no more.
    b.note(60);
    b.writer.lead(Some(lock(&mut store, 4)));
    settle(&mut b, &mut store, &mut now);
    b.asks(&a);
    settle(&mut b, &mut store, &mut now);
    let last = entries(&store).pop().expect("six");
    assert_eq!((last.epoch, last.seq, last.line.at), (Epoch(4), 6, 60));
}

#[test]
fn a_deposed_leader_appends_nothing() {
    let (mut store, mut now) = (Fake::default(), 0);
    let (mut a, mut b) = (Scribe::new("a"), Scribe::new("b"));
    a.writer.lead(Some(lock(&mut store, 1)));
    settle(&mut a, &mut store, &mut now);
    a.note(1);
    b.note(2);
    b.writer.lead(Some(lock(&mut store, 2)));
    settle(&mut b, &mut store, &mut now);
    let call = a.work(At(now)).expect("it does not know yet");
    let result = store.apply(&call);
    assert!(matches!(result, Err(StoreError::Conflict { op: Some(0), .. })), "{result:?}");
    a.writer.answered(At(now), &keys(), result);
    assert_eq!(entries(&store).len(), 1);
}

/// What the entry this writes says of lines before it.
fn lost_before(verb: &Verb) -> u64 {
    let Verb::Cas(_, _, value) = verb else { return 0 };
    let entry = decode::<Entry>(value);
    let told = entry.and_then(|entry| entry.line.inputs.get("lost_before")?.parse().ok());
    told.unwrap_or(0)
}

#[test]
fn a_burst_goes_in_batches_at_a_bounded_rate() {
    let (mut store, mut now) = (Fake::default(), 10_000);
    let mut a = Scribe::new("a");
    a.writer.lead(Some(lock(&mut store, 1)));
    settle(&mut a, &mut store, &mut now);
    let (mut sent, mut lost) = (0, 0);
    for ms in 0..10_000 {
        a.note(now + ms);
        while let Some(call) = a.work(At(now + ms)) {
            let result = store.apply(&call);
            a.writer.answered(At(now + ms), &keys(), result);
            let Call::Txn(verbs) = call else { continue };
            sent += 1;
            lost += verbs.iter().map(lost_before).sum::<u64>();
        }
    }
    assert!((10..=14).contains(&sent), "{sent} transactions in 10 s");
    assert!(lost > 8_000, "what fell off the tail is told: {lost}");
    settle(&mut a, &mut store, &mut now);
    assert_eq!(head(&store).count(), KEEP);
    assert_eq!(entries(&store).len() as u64, KEEP);
}

#[test]
fn a_lost_head_is_made_anew_from_the_entries() {
    let (mut store, mut now) = (Fake::default(), 0);
    let mut a = Scribe::new("a");
    a.writer.lead(Some(lock(&mut store, 1)));
    for at in 0..5 {
        a.note(at);
    }
    settle(&mut a, &mut store, &mut now);
    for damage in
        [None, Some(&b"garbage"[..]), Some(br#"{"v":1,"seq":2,"spans":[[1,9]],"heard":{}}"#)]
    {
        match damage {
            None => store.delete(&keys().journal_head()),
            Some(bytes) => store.put(&keys().journal_head(), bytes),
        }
        let before = entries(&store).len() as u64;
        a.note(now);
        settle(&mut a, &mut store, &mut now);
        assert_eq!(head(&store).seq, before + 1);
        assert_eq!(entries(&store).len() as u64, before + 1);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Note(bool),
    Ask,
    /// What becomes of the next call: applied and answered; applied, answer lost; lost; lost now
    /// and applied later.
    Call(u8),
    Late,
    Change,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<bool>().prop_map(Act::Note),
        2 => Just(Act::Ask),
        8 => (0_u8..4).prop_map(Act::Call),
        2 => Just(Act::Late),
        1 => Just(Act::Change),
        4 => (1_u64..2_000).prop_map(Act::Pass),
    ]
}

proptest! {
    /// Whatever gets lost or comes late: numbers are given once, each note is in once, nothing that
    /// is kept is missing, and in the end everything is in.
    #[test]
    fn each_note_is_in_once(acts in proptest::collection::vec(act(), 0..150)) {
        let mut store = Fake::default();
        let mut scribes = [Scribe::new("a"), Scribe::new("b")];
        let (mut now, mut epoch, mut leads) = (0_u64, 1, 0_usize);
        let mut late: Vec<Call> = Vec::new();
        let mut seen: BTreeMap<u64, Entry> = BTreeMap::new();
        scribes[0].writer.lead(Some(lock(&mut store, epoch)));
        for act in acts {
            match act {
                Act::Note(second) if scribes[usize::from(second)].notes.last() < 60 => {
                    scribes[usize::from(second)].note(now);
                }
                Act::Note(_) => {}
                Act::Ask => {
                    let [a, b] = &mut scribes;
                    if leads == 0 { a.asks(b) } else { b.asks(a) }
                }
                Act::Call(outcome) => {
                    let scribe = &mut scribes[leads];
                    if let Some(call) = scribe.work(At(now)) {
                        let unknown = Err(StoreError::Unknown("lost".into()));
                        let result = match outcome {
                            0 => store.apply(&call),
                            1 => { drop(store.apply(&call)); unknown }
                            2 => unknown,
                            _ => { late.push(call); unknown }
                        };
                        scribe.writer.answered(At(now), &keys(), result);
                    }
                }
                Act::Late => { if let Some(call) = late.pop() { drop(store.apply(&call)); } }
                Act::Change => {
                    epoch += 1;
                    scribes[leads].writer.lead(None);
                    leads = 1 - leads;
                    scribes[leads].writer.lead(Some(lock(&mut store, epoch)));
                }
                Act::Pass(ms) => now += ms,
            }
            for entry in entries(&store) {
                let known = seen.entry(entry.seq).or_insert_with(|| entry.clone());
                prop_assert_eq!(&*known, &entry, "one number, two entries");
            }
        }
        let [a, b] = &mut scribes;
        let (leader, other) = if leads == 0 { (a, b) } else { (b, a) };
        for _ in 0..20 {
            settle(leader, &mut store, &mut now);
            leader.asks(other);
        }
        settle(leader, &mut store, &mut now);
        seen.extend(entries(&store).into_iter().map(|entry| (entry.seq, entry)));
        let notes = seen.values().map(|e| (e.node.to_string(), e.line.no));
        let mut notes: Vec<(String, u64)> = notes.collect();
        notes.sort();
        let mut twice = notes.clone();
        twice.dedup();
        prop_assert_eq!(&twice, &notes, "a note is in twice");
        if let Some(entry) = store.get(&keys().journal_head()) {
            let head: Head = decode(&entry.value).expect("ours");
            prop_assert!(head.count() <= KEEP);
            let places: Vec<u64> = head.places(0).map(|(_, seq)| seq).collect();
            let there: Vec<u64> = entries(&store).iter().map(|entry| entry.seq).collect();
            prop_assert_eq!(places, there, "what is kept is there, and nothing else");
            for scribe in [&*leader, &*other] {
                let heard = head.heard_of(&scribe.me.node, &scribe.me.run);
                prop_assert_eq!(heard, scribe.notes.last());
            }
        }
    }
}
