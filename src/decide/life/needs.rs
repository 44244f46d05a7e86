//! What this node needs from others before it joins (`roles.requires`) or creates the cluster
//! (`roles.bootstrap_needs`).
//!
//! A name is met by a passing instance of that service in Consul, or by another member of this
//! cluster that performs it, serves, and passes its own check. It is asked for until this disk is
//! admitted: whoever is a member stays one when the service vanishes, and starts again without it.
//! It must not: stop what runs.

use super::{Node, Owner, State};
use crate::decide::call::{Answer, Call, StoreError};
use crate::decide::io::Outbox;
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// While something waits for the answer.
const SOON: Span = Span::secs(2);
/// For `status` alone.
const LATER: Span = Span::secs(30);
/// Instances shown.
const SHOWN: usize = 8;

/// What is known of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Known {
    passing: BTreeSet<String>,
    /// Consul did not say.
    error: Option<String>,
    answered: bool,
    asking: bool,
    asked: Option<At>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    services: BTreeMap<String, Known>,
    /// What was last said to be missing.
    told: Option<Reason>,
}

impl Needs {
    pub fn answered(&mut self, service: &str, result: Result<Answer, StoreError>) {
        let Some(known) = self.services.get_mut(service) else { return };
        known.asking = false;
        known.answered = true;
        match result {
            Ok(Answer::Passing(passing)) => {
                known.passing = passing;
                known.error = None;
            }
            Ok(_) => {}
            // What was there is not known to be gone, and what was missing is not there.
            Err(error) => known.error = Some(error.to_string()),
        }
    }

    fn passing(&self, service: &str) -> Option<&BTreeSet<String>> {
        self.services.get(service).map(|known| &known.passing)
    }
}

impl Node {
    /// Why this node may not join yet: a member's disk joined long ago.
    pub(crate) fn bars_joining(&self) -> Option<Reason> {
        if self.is_listed() {
            return None;
        }
        self.missing("wait.requires", &self.set.roles.requires, "before it joins")
    }

    /// Why this node may not create the cluster yet.
    pub(crate) fn bars_creating(&self) -> Option<Reason> {
        let names = &self.set.roles.bootstrap_needs;
        self.missing("wait.bootstrap-needs", names, "before it creates the cluster")
    }

    fn is_listed(&self) -> bool {
        let me = self.boot.identity.member();
        self.term_seen().is_some_and(|term| term.eligible.contains(&me))
    }

    fn missing(&self, code: &'static str, names: &[String], what: &str) -> Option<Reason> {
        let name = names.iter().find(|name| self.met_by(name).is_empty())?;
        let known = self.needs.services.get(name);
        let error = known.and_then(|known| known.error.as_ref());
        let why = match error {
            Some(error) => format!("Consul does not say: {error}"),
            None => "no instance of it is passing".to_owned(),
        };
        let text = format!("waits for service {name}, needed {what}: {why}");
        let flip = format!("a passing instance of {name} in Consul, or a member that performs it");
        Some(Reason::new(code, text).flip(flip))
    }

    /// Who answers to this name now.
    fn met_by(&self, name: &str) -> BTreeSet<String> {
        let own = self.needs.passing(&self.set.service);
        let members = self.performers(name).filter(|member| {
            own.is_some_and(|passing| passing.contains(member.node.as_str()))
                && (member.state == "primary" || member.state == "replica")
        });
        let members = members.map(|member| member.node.to_string());
        let services = self.needs.passing(name).into_iter().flatten().cloned();
        services.chain(members).collect()
    }

    fn performers(&self, name: &str) -> impl Iterator<Item = &crate::decide::records::MemberValue> {
        self.members().filter(move |member| {
            member.node != *self.me() && member.roles.performs.iter().any(|role| role == name)
        })
    }

    /// What something waits for now.
    pub(crate) fn waits_for(&self) -> Option<Reason> {
        let creates = self.state == State::Joining && self.cluster.is_none();
        let joins = matches!(self.state, State::Joining | State::Replica);
        if creates {
            self.bars_creating()
        } else if joins && self.other_leader().is_some() {
            self.bars_joining()
        } else {
            None
        }
    }

    /// What this node waits for, and the one fact that would flip it.
    pub(crate) fn explain(&self, now: At) -> Reason {
        self.waits_for().unwrap_or_else(|| self.hold_explained(now, self.lead.explain(now)))
    }

    pub(crate) fn tend_needs(&mut self, now: At, out: &mut Outbox) {
        let roles = &self.set.roles;
        let mut names: BTreeSet<String> =
            roles.requires.iter().chain(&roles.bootstrap_needs).cloned().collect();
        if names.is_empty() || !self.seen_state {
            return;
        }
        if names.iter().any(|name| self.performers(name).next().is_some()) {
            names.insert(self.set.service.clone());
        }
        let waiting = self.waits_for();
        let step = if waiting.is_some() { SOON } else { LATER };
        for name in names {
            let known = self.needs.services.entry(name.clone()).or_default();
            if known.asking || known.asked.is_some_and(|asked| now.since(asked) < step) {
                continue;
            }
            known.asking = true;
            known.asked = Some(now);
            let owner = Owner::Service { name: name.clone() };
            self.call(owner, Call::Passing { service: name }, out);
        }
        self.tell_waiting(waiting, out);
    }

    /// Each change once, and not before the first answers.
    fn tell_waiting(&mut self, waiting: Option<Reason>, out: &mut Outbox) {
        let asked = self.needs.services.values().all(|known| known.answered);
        if !asked || waiting == self.needs.told {
            return;
        }
        let over = || Reason::new("wait.over", "what this node needs from others is there");
        self.decided(waiting.clone().unwrap_or_else(over), out);
        self.needs.told = waiting;
    }

    /// For `status`.
    pub(crate) fn needs_json(&self) -> Value {
        let one = |name: &String, what: &str| {
            let by: Vec<String> = self.met_by(name).into_iter().take(SHOWN).collect();
            let known = self.needs.services.get(name);
            let error = known.and_then(|known| known.error.as_ref());
            json!({"name": name, "for": what, "met": !by.is_empty(), "by": by, "error": error})
        };
        let roles = &self.set.roles;
        let requires = roles.requires.iter().map(|name| one(name, "joining"));
        let needs = roles.bootstrap_needs.iter().map(|name| one(name, "creating"));
        requires.chain(needs).collect()
    }
}
