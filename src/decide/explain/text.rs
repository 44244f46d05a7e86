//! The answers as a terminal shows them.

use super::foretell::{Foretold, Outcome, Row};
use super::history::{Noted, Past};
use super::lock::Lock;
use super::member::Member;
use super::{Facts, Told};
use crate::decide::backup::calendar;
use std::fmt::Write;

/// Where "would change it" is indented to.
const FLIP: &str = "would change it: ";

/// `lictor explain`: the lock, what would happen, and who is what, a line each.
pub fn overview(facts: &Facts, lock: &Lock, told: &Foretold, past: &Past) -> String {
    let mut text = head(facts, lock);
    outcome(&mut text, told);
    nodes(&mut text, &told.nodes, false);
    if let Some(change) = &past.change {
        line(
            &mut text,
            &format!(
                "epoch {} began at {}: {}",
                change.epoch,
                calendar::precise(change.at),
                change.why
            ),
        );
    }
    unread(&mut text, past);
    clean(&text)
}

pub fn failover(facts: &Facts, lock: &Lock, told: &Foretold, past: &Past) -> String {
    let mut text = head(facts, lock);
    outcome(&mut text, told);
    if let Some(app) = &told.app_dies {
        line(&mut text, app);
    }
    nodes(&mut text, &told.nodes, true);
    if let Some(change) = &past.change {
        let from = change.from.as_ref().map(|from| format!(" after {from}")).unwrap_or_default();
        let took = change.took_ms.map(|ms| format!(", {}.{:03} s", ms / 1_000, ms % 1_000));
        let took = took.unwrap_or_default();
        line(
            &mut text,
            &format!(
                "the last change: {}{from}, epoch {}, {}{took}",
                change.node,
                change.epoch,
                calendar::precise(change.at)
            ),
        );
        line(&mut text, &format!("  {}", change.why));
        change.decisions.iter().for_each(|it| noted(&mut text, it));
    }
    if !past.since.is_empty() {
        line(&mut text, "since then:");
        past.since.iter().for_each(|it| noted(&mut text, it));
    }
    unread(&mut text, past);
    clean(&text)
}

pub fn lock(facts: &Facts, lock: &Lock) -> String {
    let mut text = head(facts, lock);
    line(&mut text, &format!("  {FLIP}{}", lock.flip));
    for other in &lock.others {
        line(&mut text, &format!("{:<12} {}", other.node.as_str(), other.told.text));
        flip(&mut text, &other.told);
    }
    clean(&text)
}

pub fn member(facts: &Facts, lock: &Lock, member: &Member) -> String {
    let mut text = head(facts, lock);
    let lag = member.lag_seconds.map(|lag| format!(", {lag} s behind")).unwrap_or_default();
    line(
        &mut text,
        &format!(
            "{} {} ({}; priority {}{lag})",
            member.node, member.text, member.phase, member.priority
        ),
    );
    match &member.chance {
        Some(Row { may: Some(true), in_ms: Some(in_ms), told, .. }) => {
            line(&mut text, &format!("it may take over: in {in_ms} ({})", told.text));
            flip(&mut text, told);
        }
        Some(Row { may: Some(false), told, .. }) => {
            line(&mut text, &format!("it may not take over: {} ({})", told.text, told.code));
            flip(&mut text, told);
        }
        Some(row) => {
            line(&mut text, &format!("whether it may take over is not known: {}", row.told.text))
        }
        None => line(&mut text, "it leads"),
    }
    line(&mut text, &format!("now: {}", member.waits_for.text));
    flip(&mut text, &member.waits_for);
    if !member.decisions.is_empty() {
        line(&mut text, "its last decisions:");
        member.decisions.iter().for_each(|it| noted(&mut text, it));
    }
    clean(&text)
}

fn head(facts: &Facts, lock: &Lock) -> String {
    let mut text = String::new();
    line(&mut text, &format!("cluster {}: {}", facts.cluster, lock.text));
    if let Some(why) = &facts.consul {
        let by = facts.by.as_ref().map_or("nobody", |node| node.as_str());
        line(
            &mut text,
            &format!("Consul does not answer ({why}); what follows is as {by} knows it"),
        );
    }
    if let Some(pause) = &facts.paused {
        line(&mut text, &format!("paused by {pause}: nothing takes over; `lictor resume` ends it"));
    }
    text
}

fn outcome(text: &mut String, told: &Foretold) {
    match &told.dies {
        Some(node) => line(text, &format!("if {node} died now:")),
        None => line(text, "nobody leads now:"),
    }
    line(text, &format!("  {}", told.text));
    if let (Outcome::Takes { .. }, Some(lost)) = (&told.outcome, &told.lost) {
        line(text, &format!("  lost: {lost}"));
    }
    line(text, &format!("  {FLIP}{}", told.flip));
}

fn nodes(text: &mut String, rows: &[Row], flips: bool) {
    if rows.is_empty() {
        return;
    }
    line(text, &format!("{:<12} {:<5} {:<9} {}", "NODE", "MAY", "IN", "WHY"));
    for row in rows {
        let may = match row.may {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let when = row.in_ms.map_or_else(|| "-".to_owned(), |span| span.to_string());
        line(text, &format!("{:<12} {may:<5} {when:<9} {}", row.node.as_str(), row.told.text));
        if flips {
            flip(text, &row.told);
        }
    }
}

fn flip(text: &mut String, told: &Told) {
    if let Some(fact) = &told.flip {
        line(text, &format!("{:13}{FLIP}{fact}", ""));
    }
}

fn noted(text: &mut String, noted: &Noted) {
    let (at, node, told) = (calendar::precise(noted.at), noted.node.as_str(), &noted.told);
    line(text, &format!("  {at} {node:<12} {:<17} {}", told.code, told.text));
}

fn unread(text: &mut String, past: &Past) {
    if let Some(why) = &past.unread {
        line(text, &format!("the journal was not read: {why}"));
    }
}

fn line(text: &mut String, words: &str) {
    // What a hook said may have line breaks of its own.
    let words = words.replace('\n', " ");
    writeln!(text, "{}", words.trim_end()).expect("a String");
}

/// A terminal obeys control characters.
fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
