//! Scripts: what is asked, in terms that mean the same to both sides.

use lictor::sim::rng::Rng;

/// Few and nested, so that acts meet.
const KEYS: [&str; 6] = ["a", "a/b", "a/b/c", "a/c", "b", "b/"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "a/b", "b/"];
const VALUES: [&str; 4] = ["", "x", "y", "a longer value\n"];
pub const SLOTS: usize = 3;

/// An index that one side knows under another number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The key's own, as read just before.
    Now,
    /// The one that was read of it last before that.
    Before,
    Zero,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Plain,
    Cas(At),
    Acquire(usize),
    Release(usize),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    Set,
    Cas(At),
    Lock(usize),
    Unlock(usize),
    Get,
    GetTree,
    CheckIndex(At),
    CheckSession(usize),
    CheckNotExists,
    Delete,
    DeleteTree,
    DeleteCas(At),
    /// Consul knows none of this name.
    Garbage,
}

impl Verb {
    pub fn writes(&self) -> bool {
        match self {
            Verb::Set
            | Verb::Cas(_)
            | Verb::Lock(_)
            | Verb::Unlock(_)
            | Verb::Delete
            | Verb::DeleteTree
            | Verb::DeleteCas(_) => true,
            Verb::Get
            | Verb::GetTree
            | Verb::CheckIndex(_)
            | Verb::CheckSession(_)
            | Verb::CheckNotExists
            | Verb::Garbage => false,
        }
    }
}

/// One thing that is asked; keys and prefixes are below the script's own corner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    Put {
        key: &'static str,
        value: &'static str,
        flags: u64,
        form: Form,
    },
    Get {
        key: &'static str,
        recurse: bool,
    },
    Keys {
        prefix: &'static str,
        separator: bool,
    },
    Delete {
        key: &'static str,
        cas: Option<At>,
    },
    DeleteTree {
        prefix: &'static str,
    },
    NewSession {
        slot: usize,
        delay: bool,
        deletes: bool,
    },
    Destroy {
        slot: usize,
    },
    Renew {
        slot: usize,
    },
    Info {
        slot: usize,
    },
    Txn(Vec<(Verb, &'static str, &'static str)>),
    /// Begins to wait for what comes after what is there now.
    Watch {
        key: &'static str,
        recurse: bool,
    },
    /// Requests that are none.
    Wrong {
        number: usize,
    },
}

pub fn script(dice: &mut Rng) -> Vec<Act> {
    let long = 15 + dice.below(50);
    let mut acts = vec![Act::NewSession { slot: 0, delay: false, deletes: false }];
    acts.extend((0..long).map(|_| act(dice)));
    acts
}

fn at(dice: &mut Rng) -> At {
    dice.pick(&[At::Now, At::Now, At::Now, At::Before, At::Zero])
}

fn slot(dice: &mut Rng) -> usize {
    dice.below(SLOTS as u64) as usize
}

fn act(dice: &mut Rng) -> Act {
    let key = dice.pick(&KEYS);
    let value = dice.pick(&VALUES);
    let prefix = dice.pick(&PREFIXES);
    match dice.below(100) {
        0..30 => {
            let flags = if dice.chance(150) { 42 } else { 0 };
            let form = match dice.below(10) {
                0..3 => Form::Plain,
                3..5 => Form::Cas(at(dice)),
                5..8 => Form::Acquire(slot(dice)),
                _ => Form::Release(slot(dice)),
            };
            Act::Put { key, value, flags, form }
        }
        30..40 => match dice.chance(500) {
            true => Act::Get { key, recurse: false },
            false => Act::Get { key: prefix, recurse: true },
        },
        40..44 => Act::Keys { prefix, separator: dice.chance(600) },
        44..52 => Act::Delete { key, cas: dice.chance(400).then(|| at(dice)) },
        52..55 => Act::DeleteTree { prefix },
        55..62 => {
            let (delay, deletes) = (dice.chance(300), dice.chance(300));
            Act::NewSession { slot: slot(dice), delay, deletes }
        }
        62..67 => Act::Destroy { slot: slot(dice) },
        67..69 => Act::Renew { slot: slot(dice) },
        69..71 => Act::Info { slot: slot(dice) },
        71..90 => Act::Txn((0..1 + dice.below(4)).map(|_| verb(dice)).collect()),
        90..98 => match dice.chance(500) {
            true => Act::Watch { key, recurse: false },
            false => Act::Watch { key: prefix, recurse: true },
        },
        _ => Act::Wrong { number: dice.below(6) as usize },
    }
}

fn verb(dice: &mut Rng) -> (Verb, &'static str, &'static str) {
    let verb = match dice.below(26) {
        0..4 => Verb::Set,
        4..7 => Verb::Cas(at(dice)),
        7..11 => Verb::Lock(slot(dice)),
        11..14 => Verb::Unlock(slot(dice)),
        14 => Verb::Get,
        15 => Verb::GetTree,
        16..18 => Verb::CheckIndex(at(dice)),
        18..20 => Verb::CheckSession(slot(dice)),
        20 => Verb::CheckNotExists,
        21 => Verb::Delete,
        22 => Verb::DeleteTree,
        23..25 => Verb::DeleteCas(at(dice)),
        _ => Verb::Garbage,
    };
    (verb, dice.pick(&KEYS), dice.pick(&VALUES))
}
