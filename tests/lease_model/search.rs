//! Breadth-first search: the first violation found has a shortest trace.

use crate::acts::Act;
use crate::world::{Shared, World};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// Folded multiplication over 128 bits: fast, and far from collisions at the sizes here (n^2 /
/// 2^65).
#[derive(Clone)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.write_u64(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        let mut last = [0_u8; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_u64(&mut self, n: u64) {
        let product =
            u128::from(self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        self.0 = ((product >> 64) as u64 ^ product as u64).rotate_left(23) ^ 0x2545_F491_4F6C_DD1D;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The fingerprints are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept")
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut fold = Fold(0x1234_5678_9ABC_DEF1);
    world.hash(&mut fold);
    fold.finish()
}

/// Progress is looked at from one state in so many.
const SAMPLE: u32 = 32;

#[derive(Clone, Copy)]
pub struct Limits {
    pub states: usize,
    pub time: Duration,
}

pub struct Outcome {
    pub states: usize,
    pub depth: usize,
    /// Every reachable state was seen.
    pub complete: bool,
    /// The highest epoch that was acquired.
    pub epoch: u64,
    pub took: Duration,
    pub violation: Option<(&'static str, Vec<Act>)>,
}

pub fn search(ground: &Shared, start: World, progress: bool, limits: Limits) -> Outcome {
    let began = Instant::now();
    let mut seen: HashSet<u64, BuildHasherDefault<Same>> = HashSet::default();
    let mut parents: Vec<(u32, Act)> = vec![(0, Act::Tick)];
    let mut first = start;
    first.canonical(ground);
    seen.insert(fingerprint(&first));
    let mut level = vec![(0_u32, first)];
    let mut acts = Vec::new();
    let mut outcome = Outcome {
        states: 1,
        depth: 0,
        complete: false,
        epoch: 0,
        took: Duration::ZERO,
        violation: None,
    };
    'levels: while !level.is_empty() {
        let mut next = Vec::new();
        for (id, world) in level {
            if progress && id % SAMPLE == 0 && !world.comes_to_lead(ground) {
                let what = "S4: nobody leads, though nothing is in the way any more";
                outcome.violation = Some((what, trace(&parents, id)));
                break 'levels;
            }
            world.acts(ground, &mut acts);
            for act in acts.drain(..) {
                let mut after = world.clone();
                if !after.act(ground, act) {
                    continue;
                }
                after.canonical(ground);
                if !seen.insert(fingerprint(&after)) {
                    continue;
                }
                let own = parents.len() as u32;
                parents.push((id, act));
                outcome.epoch = outcome.epoch.max(after.ghost.epoch.0);
                if let Some(what) = after.broken(ground) {
                    outcome.violation = Some((what, trace(&parents, own)));
                    break 'levels;
                }
                next.push((own, after));
            }
            if parents.len() >= limits.states || began.elapsed() >= limits.time {
                break 'levels;
            }
        }
        level = next;
        outcome.depth += usize::from(!level.is_empty());
        outcome.complete = level.is_empty();
    }
    outcome.states = parents.len();
    outcome.took = began.elapsed();
    outcome
}

fn trace(parents: &[(u32, Act)], mut id: u32) -> Vec<Act> {
    let mut acts = Vec::new();
    while id != 0 {
        let (parent, act) = parents[id as usize];
        acts.push(act);
        id = parent;
    }
    acts.reverse();
    acts
}
