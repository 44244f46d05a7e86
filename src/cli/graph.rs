//! `lictor graph`: the node's state machine, from the table that the code is held against.
//!
//! Needs no cluster and no configuration. `docs/states.md` is made here too.

use super::exit::Exit;
use super::output;
use crate::config::{Preset, all_settings};
use crate::decide::hook::Hook;
use crate::decide::life::graph::{PLACES, Phase, Place, WAYS, Way, undo};
use serde::Serialize;
use std::fmt::Write;

/// Print the node's state machine: states, ways between them, and the hook on each way
#[derive(clap::Args, Debug)]
pub struct Args {
    /// For Graphviz: `lictor graph --dot | dot -Tsvg`
    #[arg(long, group = "form")]
    dot: bool,
    /// For Mermaid, as Markdown pages draw it
    #[arg(long, group = "form")]
    mermaid: bool,
    /// One JSON value
    #[arg(long, group = "form")]
    json: bool,
}

pub fn run(args: Args) -> Exit {
    if args.json {
        return output::json(&json(), Exit::Done);
    }
    let text = match (args.dot, args.mermaid) {
        (true, _) => dot(),
        (false, true) => mermaid(),
        (false, false) => text(),
    };
    output::answer(text.trim_end(), Exit::Done)
}

#[derive(Serialize)]
struct Graph {
    v: u32,
    states: Vec<StateRow>,
    edges: Vec<EdgeRow>,
}

#[derive(Serialize)]
struct StateRow {
    name: &'static str,
    status: &'static str,
    about: &'static str,
    bound: &'static str,
    beside: Vec<Hook>,
}

#[derive(Serialize)]
struct EdgeRow {
    from: &'static str,
    to: &'static str,
    when: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<HookRow>,
}

#[derive(Serialize)]
struct HookRow {
    name: Hook,
    timeout: String,
    fails: &'static str,
}

fn json() -> Graph {
    let hook = |name: Hook| HookRow { name, timeout: timeout(name), fails: undo(name) };
    let state = |place: &Place| StateRow {
        name: place.name,
        status: place.status,
        about: place.about,
        bound: place.bound,
        beside: place.beside.to_vec(),
    };
    let edge = |from: &Phase, way: &Way| EdgeRow {
        from: from.name(),
        to: way.to.name(),
        when: way.when,
        hook: way.hook.map(hook),
    };
    let edges = WAYS.iter().flat_map(|way| way.from.iter().map(move |from| edge(from, way)));
    Graph { v: 1, states: PLACES.iter().map(state).collect(), edges: edges.collect() }
}

/// What the hook may take: its setting's default.
fn timeout(hook: Hook) -> String {
    let name = format!("timeouts.{}", hook.name().replace('-', "_"));
    match all_settings().find(|setting| setting.name == name).map(|setting| setting.preset) {
        Some(Preset::Is(text)) => text.to_owned(),
        Some(Preset::Told(text)) => text.replace('`', ""),
        None => unreachable!("test every_hook_has_a_timeout"),
    }
}

/// The ways out of a phase.
fn ways_from(phase: Phase) -> impl Iterator<Item = &'static Way> {
    WAYS.iter().filter(move |way| way.from.contains(&phase))
}

fn text() -> String {
    let mut page = String::new();
    let put = |page: &mut String, line: String| {
        writeln!(page, "{}", line.trim_end()).expect("writing to a String cannot fail");
    };
    for place in &PLACES {
        let shown = if place.name == place.status {
            String::new()
        } else {
            format!(" (status: {})", place.status)
        };
        put(&mut page, format!("{}{shown}: {}", place.name, place.about));
        put(&mut page, format!("    bound: {}", place.bound));
        if !place.beside.is_empty() {
            put(&mut page, format!("    beside it: {}", names(place.beside)));
        }
        for way in ways_from(place.phase) {
            put(&mut page, format!("    -> {:<13} {}", way.to.name(), way.when));
            if let Some(hook) = way.hook {
                let (time, undo) = (timeout(hook), undo(hook));
                put(&mut page, format!("       {:<13} runs {hook} ({time}; failing: {undo})", ""));
            }
        }
        put(&mut page, String::new());
    }
    page
}

fn names(hooks: &[Hook]) -> String {
    hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ")
}

/// One arrow a pair and hook: what the drawings show.
fn arrows() -> Vec<(&'static str, &'static str, Option<Hook>)> {
    let mut arrows = Vec::new();
    for way in WAYS {
        for from in way.from {
            let arrow = (from.name(), way.to.name(), way.hook);
            if !arrows.contains(&arrow) {
                arrows.push(arrow);
            }
        }
    }
    arrows
}

fn dot() -> String {
    let mut page = "digraph lictor {\n    rankdir=LR;\n    node [shape=box];\n".to_owned();
    for (from, to, hook) in arrows() {
        let label = hook.map_or_else(String::new, |hook| format!(" [label=\"{hook}\"]"));
        writeln!(page, "    {from} -> {to}{label};").expect("writing to a String cannot fail");
    }
    page + "}\n"
}

fn mermaid() -> String {
    let mut page = "stateDiagram-v2\n    [*] --> init\n".to_owned();
    for (from, to, hook) in arrows() {
        let label = hook.map_or_else(String::new, |hook| format!(": {hook}"));
        writeln!(page, "    {from} --> {to}{label}").expect("writing to a String cannot fail");
    }
    page + "    stopped --> [*]\n"
}

const HEAD: &str = "# A node's states

<!-- Made from src/decide/life/graph.rs; `UPDATE=1 cargo test --lib states_page` writes it anew. -->

Every node is in one of these states; `lictor status` and `/status` show it. `lictor graph` prints
this page's table from the running version; `--dot`, `--mermaid` and `--json` are for drawings and
machines. The tests hold every transition of the code against this table, and fail for a row that
no node takes.

A fence comes before everything else: whatever the state, from 500 ms (`demote_budget`, D) before
the end of the lease a primary is demoted, and 200 ms (`kill_budget`, K) before it the guard kills.

";

/// `docs/states.md`.
pub fn states_page() -> String {
    let mut page = HEAD.to_owned();
    page += "| state | in `status` | what it is | bound | hooks beside |\n";
    page += "|---|---|---|---|---|\n";
    for place in &PLACES {
        let Place { name, status, about, bound, beside, .. } = place;
        let beside = names(beside);
        writeln!(page, "| {name} | `{status}` | {about} | {bound} | {beside} |")
            .expect("writing to a String cannot fail");
    }
    page += "\n## Ways\n\n| from | to | when | hook | its timeout | when it fails |\n";
    page += "|---|---|---|---|---|---|\n";
    for way in WAYS {
        let from: Vec<_> = way.from.iter().map(|phase| phase.name()).collect();
        let hook = match way.hook {
            Some(hook) => format!("`{hook}` | {} | {}", timeout(hook), undo(hook)),
            None => " | | ".to_owned(),
        };
        writeln!(page, "| {} | {} | {} | {hook} |", from.join(", "), way.to.name(), way.when)
            .expect("writing to a String cannot fail");
    }
    page + "\n## Drawn\n\n```mermaid\n" + &mermaid() + "```\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_a_timeout() {
        for hook in Hook::ALL {
            assert!(!timeout(hook).is_empty());
        }
    }

    #[test]
    fn every_state_is_drawn() {
        let (dot, mermaid) = (dot(), mermaid());
        for place in &PLACES {
            let name = place.name;
            assert!(dot.contains(&format!(" {name}")) && mermaid.contains(&format!(" {name}")));
        }
        assert!(dot.contains("arming -> promoting [label=\"promote\"];"), "{dot}");
    }

    /// Fails when the page and the table differ; `UPDATE=1` writes the page.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the switch of this test")]
    fn states_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");
        let want = states_page();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &want).expect("docs/states.md can be written");
        }
        let have = std::fs::read_to_string(path).expect("docs/states.md is there");
        assert!(have == want, "docs/states.md is old: UPDATE=1 cargo test --lib states_page");
    }
}
