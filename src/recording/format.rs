//! Lines of JSON: one head, then one line a step.

use crate::decide::call::{Answer, Call, Entry, Verb};
use crate::decide::io::{Effect, Input, Now};
use crate::decide::keys::Key;
use crate::decide::life::{Boot, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the format.
pub const VERSION: u32 = 1;
/// What stands for a secret.
const BLANK: &[u8] = b"secret";

/// What a core is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub v: u32,
    /// The version that recorded.
    pub lictor: String,
    pub now: Now,
    pub boot: Boot,
    pub settings: Settings,
}

impl Head {
    pub fn new(boot: &Boot, settings: &Settings, now: Now) -> Head {
        let boot = Boot { fresh_secret: BLANK.to_vec(), ..boot.clone() };
        let lictor = env!("CARGO_PKG_VERSION").to_owned();
        Head { v: VERSION, lictor, now, boot, settings: settings.clone() }
    }
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub now: Now,
    pub input: Input,
    /// As JSON, for they hold words that only the program knows.
    pub effects: Vec<Value>,
}

fn is_secret(key: &Key) -> bool {
    key.as_str().contains("/secrets/")
}

fn blank_entries(entries: &mut [Entry]) {
    for entry in entries.iter_mut().filter(|entry| is_secret(&entry.key)) {
        entry.value = BLANK.to_vec();
    }
}

/// The core looks at a secret's index, never at its value.
pub fn without_secrets(input: &Input) -> Input {
    let mut input = input.clone();
    if let Input::StoreReply { result: Ok(answer), .. } = &mut input {
        match answer {
            Answer::Txn(entries) | Answer::Entries(entries) => blank_entries(entries),
            Answer::Session(_) | Answer::Known(_) | Answer::Passing(_) | Answer::Done => {}
        }
    }
    input
}

/// An effect as it is recorded.
pub fn told(effect: &Effect) -> Value {
    let mut effect = effect.clone();
    if let Effect::Call { call: Call::Txn(verbs), .. } = &mut effect {
        for verb in verbs {
            match verb {
                Verb::Set(key, value)
                | Verb::Cas(key, _, value)
                | Verb::Lock(key, _, value)
                | Verb::Unlock(key, _, value) => {
                    if is_secret(key) {
                        *value = BLANK.to_vec();
                    }
                }
                Verb::GetTree(_)
                | Verb::CheckIndex(..)
                | Verb::CheckNotExists(_)
                | Verb::CheckSession(..)
                | Verb::DeleteCas(..)
                | Verb::Delete(_) => {}
            }
        }
    }
    // Our own types, with string keys only.
    serde_json::to_value(&effect).unwrap_or(Value::Null)
}
