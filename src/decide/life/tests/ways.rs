//! Nodes that are told anything at any time: no way is taken that the table of ways does not know,
//! and every way of the table is taken, or it says why not.

use super::*;
use crate::decide::life::graph::{Phase, WAYS};
use crate::decide::records::RequestValue;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Walks, each from one of the starts below; then on until every way was taken, some hundreds more.
const WALKS: u64 = 300;
const WALKS_MOST: u64 = 6_000;
/// Inputs of one walk: enough for a creation, a term and its end.
const STEPS: u64 = 60;

thread_local! {
    static TAKEN: RefCell<BTreeSet<(Phase, Phase)>> = const { RefCell::new(BTreeSet::new()) };
}

/// Told by `Node::enter`; each test has its own thread.
pub(in super::super) fn taken(from: Phase, to: Phase) {
    TAKEN.with_borrow_mut(|all| all.insert((from, to)));
}

/// Numerical Recipes' generator: a test needs the same walks on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

const HELD: [&str; 15] = [
    "store",
    "kill",
    "arm",
    "term",
    "peer",
    "bootstrap",
    "pre-start",
    "promote",
    "demote",
    "replicate",
    "sync",
    "health",
    "marker",
    "wipe",
    "id",
];

fn held(mut world: World, dice: &mut Dice, of: &[&'static str]) -> World {
    for _ in 0..dice.below(3) {
        world.held.push(of[dice.below(of.len() as u64) as usize]);
    }
    world
}

/// Consul knows the cluster `id`, and this node leads it.
fn known(mut world: World, node: &str, run: &str) -> World {
    let cluster = ClusterValue { v: 1, id: ClusterId::new("id") };
    world.put(world.node.keys().cluster(), &encode(&cluster));
    world.leads(node, run, 5);
    let record = member(node, Some(ClusterId::new("id")), "primary", Epoch(5), None);
    world.put(world.node.keys().member(&node.into()), &encode(&record));
    world
}

fn start(dice: &mut Dice) -> World {
    let sync = [SyncMode::Off, SyncMode::On, SyncMode::Strict(1)][dice.below(3) as usize];
    match dice.below(8) {
        0 => held(World::new(boot(None, 0), settings(sync)), dice, &HELD),
        1 => {
            let world = World::new(boot(None, 0), settings(sync));
            let mut world = held(world, dice, &["arm", "sync", "promote"]);
            world.pass(3_000 + 50 * dice.below(40));
            world
        }
        2 => primary(SyncMode::Off),
        3 => pair(),
        4 => {
            let mut world = held(pair(), dice, &["peer"]);
            switchover(&mut world);
            world.pass(50);
            world
        }
        5 => {
            let world = known(World::new(boot(Some("id"), 5), settings(sync)), "b", "run-b");
            let mut world = held(world, dice, &["replicate", "health"]);
            if sync != SyncMode::Off {
                let members = ["a", "b"].map(NodeName::from).into();
                let value = SyncValue { v: 1, epoch: Epoch(5), members, acks: 1 };
                world.put(world.node.keys().sync(), &encode(&value));
            }
            world.pass(200);
            if world.hooks.iter().any(|(_, hook)| *hook == Hook::Replicate) {
                world.end(Hook::Replicate, any_end(dice));
            }
            world
        }
        6 => {
            let world = known(World::new(boot(None, 0), settings(sync)), "b", "run-b");
            let mut world = held(world, dice, &["marker", "bootstrap", "id", "wipe"]);
            world.look();
            if dice.below(2) == 0 {
                world.store.delete(&world.node.keys().leader());
                world.look();
            }
            world
        }
        _ => {
            let old = boot(["id", "other"].get(dice.below(3) as usize).copied(), 0);
            let data = old.data || dice.below(3) == 0;
            let marker = dice.below(2) == 0;
            let world = World::new(Boot { marker, data, ..old }, settings(sync));
            let mut world = held(world, dice, &["wipe"]);
            if dice.below(2) == 0 {
                world = known(world, ["a", "b"][dice.below(2) as usize], "run-before");
            }
            world.look();
            world
        }
    }
}

/// An operator asks for one, to whomever is best.
fn switchover(world: &mut World) {
    let request = RequestValue {
        v: 1,
        verb: "switchover".into(),
        args: BTreeMap::new(),
        by: "op".into(),
        epoch: world.epoch(),
        expires: u64::MAX,
    };
    let key = world.node.keys().request(&format!("r{}", world.at));
    world.put(key, &encode(&request));
}

fn any_end(dice: &mut Dice) -> HookEnd {
    match dice.below(6) {
        0 | 1 => HookEnd::Done { answer: Some("{\"order\":7}".into()) },
        2 => HookEnd::Exit { code: 3 },
        3 => HookEnd::Exit { code: 4 },
        4 => HookEnd::Timeout,
        _ => HookEnd::Signal { signal: 9 },
    }
}

fn one_step(world: &mut World, dice: &mut Dice) {
    match dice.below(24) {
        0..6 => world.pass(50 << dice.below(4)),
        6 | 7 => {
            let what = HELD[dice.below(HELD.len() as u64) as usize];
            world.held.push(what);
        }
        8..11 => world.held.clear(),
        11..14 => {
            let main = |(_, hook): &&(OpId, Hook)| !matches!(hook, Hook::Health | Hook::Position);
            if let Some((_, hook)) = world.hooks.iter().find(main).copied() {
                let end = any_end(dice);
                world.end(hook, end);
            }
        }
        14 => world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) }),
        15 => {
            if world.state() == "killing" {
                world.give(Input::TreeGone);
            } else if !world.kept.is_empty() {
                let done = world.kept.remove(0);
                world.give(done);
            }
        }
        16 => world.give(Input::GuardArmed { pid: world.pid, kill_at: At(0) }),
        17 if dice.below(4) == 0 => world.give(Input::GuardFired),
        18 if dice.below(8) == 0 => world.store.delete(&world.node.keys().leader()),
        20 if dice.below(4) == 0 => {
            let cluster = ClusterValue { v: 1, id: ClusterId::new("theirs") };
            world.put(world.node.keys().cluster(), &encode(&cluster));
        }
        21 => {
            let epoch = world.epoch().0 + dice.below(2);
            world.leads("b", "run-b", epoch);
            let b = member("b", world.node.cluster_id(), "primary", Epoch(epoch), None);
            world.put(world.node.keys().member(&"b".into()), &encode(&b));
        }
        22 if world.state() == "primary" => {
            world.member_b();
            world.pass(200);
        }
        _ => switchover(world),
    }
}

fn end(world: &mut World, dice: &mut Dice) {
    match dice.below(3) {
        0 => world.give(Input::VolumeFailed { what: "full".into() }),
        1 => world.give(Input::GuardFired),
        _ => world.give(Input::Stop),
    }
    if dice.below(2) == 0 {
        world.held.clear();
    }
    if dice.below(2) == 0 {
        world.give(Input::AppExited { pid: world.pid, exit: Exit::Signal(9) });
    }
    world.pass(1_000);
    world.give(Input::Stop);
    if world.state() == "killing" {
        world.give(Input::TreeGone);
    }
}

fn untaken() -> Vec<(Phase, Phase)> {
    let taken = TAKEN.with_borrow(Clone::clone);
    let all = WAYS.iter().filter(|way| way.untaken.is_none());
    let pairs = all.flat_map(|way| way.from.iter().map(|from| (*from, way.to)));
    pairs.filter(|pair| !taken.contains(pair)).collect()
}

/// `Node::enter` asserts the one half: what it takes is in the table.
#[test]
fn every_way_is_in_the_table_and_every_way_of_the_table_is_taken() {
    mishaps::data_created_in_vain_is_wiped();
    for walk in 0..WALKS_MOST {
        if walk >= WALKS && untaken().is_empty() {
            return;
        }
        let mut dice = Dice(walk);
        let mut world = start(&mut dice);
        for _ in 0..dice.below(STEPS) {
            one_step(&mut world, &mut dice);
        }
        end(&mut world, &mut dice);
    }
    panic!("no walk took {:?}; a way that none can take says so in the table", untaken());
}
