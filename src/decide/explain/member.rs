//! One member: how far it is on the way to be a candidate, what it waits for, what it decided.

use super::super::types::NodeName;
use super::foretell::{Foretold, Row};
use super::history::Noted;
use super::{Facts, Seat, Told};
use serde::Serialize;

const DECISIONS_MOST: usize = 8;

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Member {
    pub node: NodeName,
    /// `primary`, or the step on the way to a candidate.
    pub phase: &'static str,
    /// The same in a sentence.
    pub text: String,
    pub state: String,
    pub listed: bool,
    pub in_sync: bool,
    pub priority: u32,
    pub lag_seconds: Option<f64>,
    /// Whether it would take over if the primary died now, and why not.
    pub chance: Option<Row>,
    pub waits_for: Told,
    /// Its last decisions, from the journal; what it says itself where that can't be read.
    pub decisions: Vec<Noted>,
}

/// `None`: no member has this name.
pub fn member(facts: &Facts, foretold: &Foretold, node: &NodeName) -> Option<Member> {
    let seat = facts.seat(node)?;
    let in_sync = facts.sync.as_ref().is_some_and(|sync| sync.members.contains(node));
    let (phase, text) = phase(facts, seat, in_sync);
    let silent = |why: &String| Told { code: "silent".to_owned(), text: why.clone(), flip: None };
    Some(Member {
        node: node.clone(),
        phase,
        text,
        state: seat.said().map_or_else(|| seat.state.clone(), |said| said.state.clone()),
        listed: seat.listed,
        in_sync,
        priority: seat.priority,
        lag_seconds: seat.said().and_then(|said| said.lag_seconds),
        chance: foretold.nodes.iter().find(|row| row.node == *node).cloned(),
        waits_for: match &seat.said {
            Ok(said) => said.waits_for.clone(),
            Err(why) => silent(why),
        },
        decisions: decisions(facts, seat),
    })
}

fn phase(facts: &Facts, seat: &Seat, in_sync: bool) -> (&'static str, String) {
    let Some(said) = seat.said() else {
        let text = format!("silent; its record says {}", seat.state);
        return ("silent", text);
    };
    let (phase, text) = match said.state.as_str() {
        "primary" => ("primary", "is the primary"),
        "joining" | "init" => ("joining", "waits until it may join"),
        "bootstrapping" | "wiping" => ("cloning", "gets its data"),
        "replica" if !follows(facts, said) => ("catching-up", "does not follow this term yet"),
        "replica" if !seat.listed => ("admission", "follows, and is not on the list yet"),
        "replica" if in_sync => ("counted", "follows, may take over, and acknowledges writes"),
        "replica" => ("eligible", "follows, and may take over"),
        "stopping" | "leaving" | "stopped" => ("leaving", "stops"),
        "failed" => ("failed", "stays down until somebody looks"),
        _ => ("starting", "its application is on the way up or down"),
    };
    (phase, text.to_owned())
}

fn follows(facts: &Facts, said: &super::Said) -> bool {
    let (Some(term), Some(follows)) = (&facts.term, &said.follows) else { return false };
    (&follows.node, &follows.run) == (&term.node, &term.run)
}

fn decisions(facts: &Facts, seat: &Seat) -> Vec<Noted> {
    let mut all: Vec<Noted> = match &facts.journal {
        Ok(entries) => entries.iter().filter(|it| it.node == seat.node).map(Noted::of).collect(),
        Err(_) => seat
            .said()
            .into_iter()
            .flat_map(|said| &said.reasons)
            .map(|it| Noted { at: it.at, node: seat.node.clone(), told: it.told.clone() })
            .collect(),
    };
    all.sort_by_key(|noted| noted.at);
    let newest = all.len().saturating_sub(DECISIONS_MOST);
    all.split_off(newest)
}
