//! What would happen if the primary died now; without one, what happens as things are.

use super::super::lead::counted::{self, Short};
use super::super::lead::{Standpoint, rank};
use super::super::time::Span;
use super::super::types::NodeName;
use super::{Facts, Seat, Told, Would, join};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What would come of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    Takes {
        node: NodeName,
        /// When the lock is free for it, in milliseconds; it then asks positions and promotes.
        in_ms: Span,
        /// Who else may; whoever has most data goes first.
        or: Vec<NodeName>,
    },
    Nobody,
    /// It hangs on nodes that did not answer.
    Unknown,
}

/// One node's part in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    pub node: NodeName,
    /// Not known of a node that does not answer.
    pub may: Option<bool>,
    /// When it could, in milliseconds.
    pub in_ms: Option<Span>,
    #[serde(flatten)]
    pub told: Told,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Foretold {
    /// Who is supposed to die; none: nobody leads, and nothing is supposed.
    pub dies: Option<NodeName>,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// One sentence.
    pub text: String,
    /// What acknowledged writes would be lost; none where nobody takes over.
    pub lost: Option<String>,
    /// The one fact that would make it otherwise.
    pub flip: String,
    /// What follows if its application alone ends.
    pub app_dies: Option<String>,
    pub nodes: Vec<Row>,
}

/// A node that may, and how it stands among those.
struct Candidate<'a> {
    seat: &'a Seat,
    in_ms: Span,
    held: bool,
    counted: bool,
    rank: u64,
}

pub fn foretell(facts: &Facts) -> Foretold {
    let dies = facts.acting().map(|seat| seat.node.clone());
    let others: Vec<&Seat> =
        facts.seats.iter().filter(|seat| Some(&seat.node) != dies.as_ref()).collect();
    let rows: Vec<Row> = others.iter().map(|seat| row(facts, seat)).collect();
    let mut may = candidates(&others, &rows);
    may.sort_by_key(|it| (it.held, it.rank, it.in_ms.0, it.seat.node.clone()));
    let silent: Vec<&NodeName> = others
        .iter()
        .zip(&rows)
        // Whose term is replaced, and who says nothing, is who died.
        .filter(|(seat, _)| facts.replaced() != Some(&seat.node))
        .filter(|(seat, row)| row.may.is_none() && seat.listed)
        .map(|(seat, _)| &seat.node)
        .collect();
    let mut told = match may.first() {
        Some(first) => takes(facts, first, &may, &silent),
        None if !silent.is_empty() => unknown(&silent),
        None => nobody(facts, &others, &rows),
    };
    told.app_dies = facts.acting().and_then(app_dies);
    told.dies = dies;
    told.nodes = rows;
    told
}

fn told(outcome: Outcome, text: String, flip: String) -> Foretold {
    Foretold { dies: None, outcome, text, lost: None, flip, app_dies: None, nodes: Vec::new() }
}

/// The node's own verdict; of one that counts answers also whether enough would come.
fn row(facts: &Facts, seat: &Seat) -> Row {
    let row = |may, in_ms, told| Row { node: seat.node.clone(), may, in_ms, told };
    let said = match &seat.said {
        Ok(said) => said,
        Err(why) => return row(None, None, plain("silent", why.clone())),
    };
    match &said.would {
        None => {
            let text = "runs a version that does not say what it would do".to_owned();
            row(None, None, plain("unknown", text))
        }
        Some(Would::Leads { .. }) => row(Some(true), None, plain("lead", "leads".to_owned())),
        Some(Would::Barred { reason }) => row(Some(false), None, reason.clone()),
        Some(Would::Takes { in_ms, asks, counted, held, case }) => {
            if let Some(short) = too_few(facts, seat, asks, *counted) {
                return row(Some(false), None, short);
            }
            if let Some(held) = held {
                return row(Some(true), Some(*in_ms), held.clone());
            }
            let text = format!("priority {}{}", seat.priority, lag(seat));
            row(Some(true), Some(*in_ms), plain(case, text))
        }
    }
}

fn plain(code: &str, text: String) -> Told {
    Told { code: code.to_owned(), text, flip: None }
}

/// The core's own count, with every node that answers taken for one that could say where it stands.
/// Positions are not compared: they move on until the primary is dead.
fn too_few(facts: &Facts, seat: &Seat, asks: &BTreeSet<NodeName>, counted: bool) -> Option<Told> {
    let (sync, replaced) = (facts.sync.as_ref()?, facts.replaced()?);
    if !counted {
        return None;
    }
    let answers = asks
        .iter()
        .filter(|node| facts.seat(node).is_some_and(could_answer))
        .map(|node| (node.clone(), standpoint(seat, 0)))
        .collect();
    match counted::suffices(sync, replaced, &seat.node, &answers) {
        Ok(()) | Err(Short::Ahead { .. }) => None,
        Err(short) => Some(Told::from(short.reason())),
    }
}

/// A leader that comes back could, too; here it is the one that died.
fn could_answer(seat: &Seat) -> bool {
    seat.said().is_some_and(|said| said.state == "replica" && said.app.healthy)
}

fn standpoint(seat: &Seat, order: u64) -> Standpoint {
    Standpoint { order, priority: seat.priority, frozen: true }
}

/// Those that may, ranked as they would rank themselves: by their data as far as their lag tells,
/// then priority, then name.
fn candidates<'a>(others: &[&'a Seat], rows: &[Row]) -> Vec<Candidate<'a>> {
    let may: Vec<&Seat> = others
        .iter()
        .zip(rows)
        .filter(|(seat, row)| row.may == Some(true) && !seat.leads())
        .map(|(seat, _)| *seat)
        .collect();
    let stands: BTreeMap<NodeName, Standpoint> =
        may.iter().map(|seat| (seat.node.clone(), standpoint(seat, order(seat)))).collect();
    may.into_iter()
        .filter_map(|seat| match seat.would()? {
            Would::Takes { in_ms, counted, held, .. } => Some(Candidate {
                seat,
                in_ms: *in_ms,
                held: held.is_some(),
                counted: *counted,
                rank: rank(&seat.node, &stands),
            }),
            Would::Leads { .. } | Would::Barred { .. } => None,
        })
        .collect()
}

/// Whole seconds of lag: positions asked for at different moments can't be compared.
fn order(seat: &Seat) -> u64 {
    let lag = seat.said().and_then(|said| said.lag_seconds);
    lag.map_or(0, |seconds| u64::MAX - seconds.max(0.0).ceil() as u64)
}

fn lag(seat: &Seat) -> String {
    match seat.said().and_then(|said| said.lag_seconds) {
        Some(seconds) => format!(", {seconds} s behind"),
        None => String::new(),
    }
}

fn takes(
    facts: &Facts,
    first: &Candidate<'_>,
    may: &[Candidate<'_>],
    silent: &[&NodeName],
) -> Foretold {
    let node = &first.seat.node;
    let others = || may.iter().skip(1).filter(|it| it.held == first.held);
    let or: Vec<NodeName> = others().map(|it| it.seat.node.clone()).collect();
    let mut text = format!(
        "{node} {}: the lock is free for it in {}, then it compares positions and promotes",
        takes_over(facts),
        first.in_ms
    );
    if first.held {
        text += " (held down: it lets others go first, and no other may)";
    }
    let flip = match or.as_slice() {
        [] if silent.is_empty() => format!("without {node} nobody would lead: no other may now"),
        [] => format!(
            "{} could go first if it answers and has more data",
            join(silent.iter().copied())
        ),
        [other] => format!("{other} goes first if it has more data then, or a higher priority"),
        more => {
            format!("one of {} goes first with more data then, or a higher priority", join(more))
        }
    };
    let outcome = Outcome::Takes { node: node.clone(), in_ms: first.in_ms, or };
    let mut told = told(outcome, text, flip);
    told.lost = Some(lost(facts, first));
    told
}

/// Supposed, or under way.
fn takes_over(facts: &Facts) -> &'static str {
    if facts.acting().is_some() { "would take over" } else { "takes over" }
}

fn lost(facts: &Facts, first: &Candidate<'_>) -> String {
    let node = &first.seat.node;
    match &facts.sync {
        Some(sync) if first.counted => {
            let others = counted::others(sync, facts.replaced().unwrap_or(node));
            format!("no acknowledged write: each is on {} of {}", sync.acks.max(1), join(&others))
        }
        Some(_) | None => match first.seat.said().and_then(|said| said.lag_seconds) {
            Some(seconds) => format!(
                "asynchronous: what {node} has not received; it was {seconds} s behind when last \
                 asked"
            ),
            None => format!("asynchronous: what {node} has not received; how much is not known"),
        },
    }
}

fn unknown(silent: &[&NodeName]) -> Foretold {
    let names = join(silent.iter().copied());
    let text = format!("not known: none that answers may take over, and {names} did not answer");
    told(Outcome::Unknown, text, format!("an answer of {names}"))
}

fn nobody(facts: &Facts, others: &[&Seat], rows: &[Row]) -> Foretold {
    if others.is_empty() {
        let flip = "a second node that follows it".to_owned();
        let text = format!("nobody {}: there is no other member", takes_over(facts));
        return told(Outcome::Nobody, text, flip);
    }
    // The best placed one: what bars a member of the sync set, then a listed one, is worth mending.
    let placed = |seat: &Seat| {
        let counted = facts.sync.as_ref().is_some_and(|sync| sync.members.contains(&seat.node));
        (!counted, !seat.listed, std::cmp::Reverse(seat.priority), seat.node.clone())
    };
    let best = others.iter().zip(rows).min_by_key(|(seat, _)| placed(seat));
    let (text, flip) = match best {
        Some((seat, row)) => (
            format!("nobody {}: {}: {}", takes_over(facts), seat.node, row.told.text),
            row.told.flip.clone().unwrap_or_else(|| format!("another state of {}", seat.node)),
        ),
        None => (format!("nobody {}", takes_over(facts)), "a candidate".to_owned()),
    };
    told(Outcome::Nobody, text, flip)
}

fn app_dies(seat: &Seat) -> Option<String> {
    match seat.would()? {
        Would::Leads { restarts: true } => Some(format!(
            "if its application alone ends, {} starts it again in place and keeps the lock",
            seat.node
        )),
        Would::Leads { restarts: false } => Some(format!(
            "if its application alone ends, {} gives the lock back at once: nobody waits for the \
             lease",
            seat.node
        )),
        Would::Takes { .. } | Would::Barred { .. } => None,
    }
}
