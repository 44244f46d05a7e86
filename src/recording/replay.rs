//! The same inputs into a fresh core of this program.

use super::format::{Head, Line, VERSION, told};
use crate::decide::io::{Effect, Now};
use crate::decide::life::Node;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead};

/// Effects of the last steps before a difference.
const BEFORE: usize = 5;

/// What a decision says of itself, and when.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    pub at_ms: u64,
    pub wall: u64,
    pub code: String,
    pub text: String,
}

/// Where the core of this program does something else.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Its line in the file.
    pub line: usize,
    pub at_ms: u64,
    pub input: Value,
    pub recorded: Vec<Value>,
    pub now: Vec<Value>,
    /// What was decided last before it.
    pub before: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub v: u32,
    /// The version that recorded, and this one.
    pub recorded_by: String,
    pub replayed_by: String,
    pub node: String,
    pub steps: u64,
    pub span_ms: u64,
    pub effects: u64,
    /// How often each reason was decided.
    pub reasons: BTreeMap<String, u64>,
    /// The last line was cut off: the node was killed while it was written.
    pub cut_off: bool,
    pub difference: Option<Box<Difference>>,
}

/// Why a file cannot be replayed: the line, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("line 1: this is no recording of lictor: {0}")]
    Head(serde_json::Error),
    #[error("line 1: format {0}, and this lictor reads {VERSION}; use the lictor that recorded it")]
    Version(u64),
    #[error("it is empty")]
    Empty,
    #[error("line {line}: {error}; a line may be missing at the end, not between others")]
    Line { line: usize, error: serde_json::Error },
}

/// Replays to the end or to the first difference; each decision is told on the way.
pub fn replay(mut from: impl BufRead, mut tell: impl FnMut(&Decided)) -> Result<Report, Bad> {
    let mut head = Vec::new();
    if from.read_until(b'\n', &mut head)? == 0 {
        return Err(Bad::Empty);
    }
    let version: Value = serde_json::from_slice(&head).map_err(Bad::Head)?;
    match version["v"].as_u64() {
        Some(v) if v == u64::from(VERSION) => {}
        Some(other) => return Err(Bad::Version(other)),
        None => {}
    }
    let Head { lictor, now: began, boot, settings, .. } =
        serde_json::from_slice(&head).map_err(Bad::Head)?;
    let mut report = Report {
        v: VERSION,
        recorded_by: lictor,
        replayed_by: env!("CARGO_PKG_VERSION").to_owned(),
        node: boot.identity.node.to_string(),
        ..Report::default()
    };
    let mut node = Node::new(boot, settings, began);
    let mut before: Vec<String> = Vec::new();
    for line in 2.. {
        let mut bytes = Vec::new();
        if from.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let Line { now, input, effects: recorded } = match serde_json::from_slice(&bytes) {
            Ok(read) => read,
            Err(_) if !bytes.ends_with(b"\n") => {
                report.cut_off = true;
                break;
            }
            Err(error) => return Err(Bad::Line { line, error }),
        };
        let said = serde_json::to_value(&input).unwrap_or(Value::Null);
        let mut effects = Vec::new();
        node.step(now, input, &mut effects);
        report.steps += 1;
        report.effects += effects.len() as u64;
        report.span_ms = now.at.since(began.at).0;
        for decided in effects.iter().filter_map(|effect| decided(began, now, effect)) {
            *report.reasons.entry(decided.code.clone()).or_default() += 1;
            before.push(format!("{} ({})", decided.text, decided.code));
            tell(&decided);
        }
        let ours: Vec<Value> = effects.iter().map(told).collect();
        if ours != recorded {
            let before = before.split_off(before.len().saturating_sub(BEFORE));
            let at_ms = report.span_ms;
            let difference = Difference { line, at_ms, input: said, recorded, now: ours, before };
            report.difference = Some(Box::new(difference));
            break;
        }
    }
    Ok(report)
}

fn decided(began: Now, now: Now, effect: &Effect) -> Option<Decided> {
    let Effect::Decided(reason) = effect else { return None };
    let (at_ms, text) = (now.at.since(began.at).0, reason.text.clone());
    Some(Decided { at_ms, wall: now.wall, code: reason.code.to_owned(), text })
}
