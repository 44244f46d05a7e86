//! Agents and the catalog: services, their checks, and nodes.
//!
//! An agent keeps what it was told and writes it into the catalog (anti-entropy): what another puts
//! there is written over, and what a restored snapshot has lost comes back. A TTL check that is not
//! fed turns critical by time alone. An output without a change of status stays with the agent, as
//! Consul leaves it there for minutes (`check_update_interval`).

use super::{Fault, Memory};
use crate::decide::time::{At, Span};
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    Passing,
    Warning,
    Critical,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }

    pub fn of(name: &str) -> Option<Status> {
        [Status::Passing, Status::Warning, Status::Critical]
            .into_iter()
            .find(|it| it.name() == name)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Check {
    pub id: String,
    pub name: String,
    /// Of which service; none: of the node.
    pub service: Option<String>,
    /// That service's name and tags when the check was made.
    pub service_name: String,
    pub service_tags: Vec<String>,
    pub status: Status,
    pub output: String,
    pub notes: String,
    pub kind: &'static str,
    pub ttl: Option<Span>,
}

/// A check as it is asked for. The status is a new one's: an old one keeps what it said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NewCheck {
    pub id: String,
    pub name: String,
    pub ttl: Option<Span>,
    pub status: Option<Status>,
}

/// What one agent was told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Agent {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) checks: BTreeMap<String, Check>,
    /// When a check that nobody feeds turns critical.
    due: BTreeMap<String, At>,
    /// The catalog may differ.
    dirty: bool,
}

/// Something of the catalog, with its indexes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kept<T> {
    pub(super) it: T,
    pub(super) create: u64,
    pub(super) modify: u64,
}

/// One node of the catalog.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Node {
    pub(super) create: u64,
    pub(super) services: BTreeMap<String, Kept<Service>>,
    pub(super) checks: BTreeMap<String, Kept<Check>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Catalog {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) nodes_index: u64,
    /// Of services and checks.
    pub(super) index: u64,
}

const MAINTENANCE: &str = "_service_maintenance:";

impl Memory {
    /// The agent of this node joins; it is there from then on.
    pub fn join(&mut self, node: &str) {
        let agent = self.agents.entry(node.to_owned()).or_default();
        agent.dirty |= !self.state.catalog.nodes.contains_key(node);
        self.sync();
    }

    /// `alone`: checks of the service that are not named here are gone.
    pub fn register(
        &mut self,
        now: At,
        node: &str,
        service: Service,
        checks: Vec<NewCheck>,
        alone: bool,
    ) {
        let agent = self.agents.entry(node.to_owned()).or_default();
        if alone {
            // An operator's maintenance goes with them.
            let named = |id: &String| checks.iter().any(|check| check.id == *id);
            let others = |check: &Check| check.service.as_ref() != Some(&service.id);
            agent.checks.retain(|id, check| others(check) || named(id));
        }
        for NewCheck { id, name, ttl, status } in checks {
            let known = agent.checks.get(&id);
            let told = known.map(|check| check.status);
            let status = told.or(status).unwrap_or(Status::Critical);
            let output = known.map(|check| check.output.clone()).unwrap_or_default();
            let notes = String::new();
            if let Some(ttl) = ttl {
                agent.due.insert(id.clone(), now + ttl);
            }
            let check = Check {
                id,
                name,
                service: Some(service.id.clone()),
                service_name: service.name.clone(),
                service_tags: service.tags.clone(),
                status,
                output,
                notes,
                kind: "ttl",
                ttl,
            };
            agent.checks.insert(check.id.clone(), check);
        }
        agent.services.insert(service.id.clone(), service);
        agent.dirty = true;
        self.sync();
    }

    /// Done too when there is none.
    pub fn deregister(&mut self, node: &str, id: &str) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.services.remove(id);
            agent.checks.retain(|_, check| check.service.as_deref() != Some(id));
            agent.dirty = true;
        }
        self.sync();
    }

    /// Feeds a TTL check.
    pub fn feed(
        &mut self,
        now: At,
        node: &str,
        id: &str,
        (status, output): (Status, &str),
    ) -> Result<(), Fault> {
        let unknown = || Fault::new(500, format!("CheckID \"{id}\" does not have associated TTL"));
        let agent = self.agents.get_mut(node).ok_or_else(unknown)?;
        let check = agent.checks.get_mut(id).ok_or_else(unknown)?;
        let ttl = check.ttl.ok_or_else(unknown)?;
        check.status = status;
        check.output = output.to_owned();
        agent.due.insert(id.to_owned(), now + ttl);
        agent.dirty = true;
        self.sync();
        Ok(())
    }

    /// A critical check beside the service's own, or its end.
    pub fn maintain(&mut self, node: &str, id: &str, on: bool, why: &str) -> Result<(), Fault> {
        let unknown = || Fault::new(404, format!("No service registered with ID \"{id}\""));
        let agent = self.agents.get_mut(node).ok_or_else(unknown)?;
        let service = agent.services.get(id).ok_or_else(unknown)?;
        let check = format!("{MAINTENANCE}{id}");
        if on {
            let check = Check {
                id: check.clone(),
                name: "Service Maintenance Mode".to_owned(),
                service: Some(id.to_owned()),
                service_name: service.name.clone(),
                service_tags: service.tags.clone(),
                status: Status::Critical,
                output: String::new(),
                notes: why.to_owned(),
                kind: "maintenance",
                ttl: None,
            };
            // One that is there stays as it was made.
            agent.checks.entry(check.id.clone()).or_insert(check);
        } else {
            agent.checks.remove(&check);
        }
        agent.dirty = true;
        self.sync();
        Ok(())
    }

    /// Who has not been fed turns critical; then whatever the catalog lacks.
    pub(super) fn tick_agents(&mut self, now: At) {
        for agent in self.agents.values_mut() {
            let over: Vec<String> =
                agent.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
            for id in over {
                agent.due.remove(&id);
                let Some(check) = agent.checks.get_mut(&id) else { continue };
                let last = std::mem::take(&mut check.output);
                check.output = format!("TTL expired (last output before timeout follows): {last}");
                check.status = Status::Critical;
                agent.dirty = true;
            }
        }
        self.sync();
    }

    pub(super) fn agents_wake(&self) -> Option<At> {
        self.agents.values().flat_map(|agent| agent.due.values().copied()).min()
    }

    /// Another state stands in raft: each agent writes what is its own again.
    pub(super) fn agents_differ(&mut self) {
        for agent in self.agents.values_mut() {
            agent.dirty = true;
        }
    }

    /// Anti-entropy; without a leader it waits.
    fn sync(&mut self) {
        if self.leaderless {
            return;
        }
        let index = &mut self.state.index;
        let catalog = &mut self.state.catalog;
        for (name, agent) in self.agents.iter_mut().filter(|(_, agent)| agent.dirty) {
            agent.dirty = false;
            let node = catalog.nodes.entry(name.clone()).or_default();
            if node.create == 0 {
                *index += 1;
                node.create = *index;
                catalog.nodes_index = *index;
                catalog.index = *index;
                let alive = serf();
                let kept = Kept { it: alive, create: *index, modify: *index };
                node.checks.insert(kept.it.id.clone(), kept);
            }
            let before = *index;
            let same = |a: &Service, b: &Service| a == b;
            align(index, &agent.services, &mut node.services, |_| false, same);
            // What an output says alone is told minutes later.
            let quiet = |a: &Check, b: &Check| {
                let told = |it: &Check| Check { output: String::new(), ..it.clone() };
                told(a) == told(b)
            };
            align(index, &agent.checks, &mut node.checks, |id| id == SERF, quiet);
            if *index > before {
                catalog.index = *index;
            }
        }
    }
}

const SERF: &str = "serfHealth";

fn serf() -> Check {
    Check {
        id: SERF.to_owned(),
        name: "Serf Health Status".to_owned(),
        service: None,
        service_name: String::new(),
        service_tags: Vec::new(),
        status: Status::Passing,
        output: "Agent alive and reachable".to_owned(),
        notes: String::new(),
        kind: "",
        ttl: None,
    }
}

/// Writes what is wanted over what is there, each with an index of its own.
fn align<T: Clone>(
    index: &mut u64,
    wanted: &BTreeMap<String, T>,
    there: &mut BTreeMap<String, Kept<T>>,
    spares: impl Fn(&str) -> bool,
    same: impl Fn(&T, &T) -> bool,
) {
    let gone: Vec<String> =
        there.keys().filter(|id| !wanted.contains_key(*id) && !spares(id)).cloned().collect();
    for id in gone {
        *index += 1;
        there.remove(&id);
    }
    for (id, it) in wanted {
        let known = there.get(id);
        if known.is_some_and(|kept| same(&kept.it, it)) {
            continue;
        }
        let create = known.map(|kept| kept.create);
        *index += 1;
        let kept = Kept { it: it.clone(), create: create.unwrap_or(*index), modify: *index };
        there.insert(id.clone(), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(tags: &[&str]) -> Service {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let (id, name) = ("orders-a".to_owned(), "orders".to_owned());
        Service { id, name, address: "10.0.0.1".into(), port: 3306, tags, meta: BTreeMap::new() }
    }

    fn check(status: Option<Status>) -> NewCheck {
        NewCheck {
            id: "service:orders-a".into(),
            name: "lictor".into(),
            ttl: Some(Span(3_000)),
            status,
        }
    }

    fn of(memory: &Memory) -> &Kept<Check> {
        &memory.state.catalog.nodes["a"].checks["service:orders-a"]
    }

    fn registered() -> Memory {
        let mut memory = Memory::new(1);
        memory.register(At(0), "a", service(&["x"]), vec![check(Some(Status::Passing))], true);
        memory
    }

    #[test]
    fn an_unfed_check_turns_critical_and_a_fed_one_passes_again() {
        let mut memory = registered();
        assert_eq!(memory.wake(), Some(At(3_000)));
        memory.tick(At(2_999));
        assert_eq!(of(&memory).it.status, Status::Passing);
        let before = memory.state.catalog.index;
        memory.tick(At(3_000));
        assert_eq!(of(&memory).it.status, Status::Critical);
        assert!(of(&memory).it.output.starts_with("TTL expired"));
        assert!(memory.state.catalog.index > before, "who waits for it is woken");
        memory.feed(At(4_000), "a", "service:orders-a", (Status::Passing, "")).expect("known");
        assert_eq!(of(&memory).it.status, Status::Passing);
    }

    /// `check_update_interval`: an output alone is no news for the catalog.
    #[test]
    fn an_output_without_a_change_of_status_stays_with_the_agent() {
        let mut memory = registered();
        let before = memory.index();
        memory.feed(At(1), "a", "service:orders-a", (Status::Passing, "news")).expect("known");
        assert_eq!((memory.index(), of(&memory).it.output.as_str()), (before, ""));
        assert_eq!(memory.agents["a"].checks["service:orders-a"].output, "news");
        memory.feed(At(1), "a", "service:orders-a", (Status::Critical, "ill")).expect("known");
        assert_eq!(of(&memory).it.output, "ill");
    }

    #[test]
    fn a_check_without_a_status_begins_critical_and_keeps_what_it_said() {
        let mut memory = Memory::new(1);
        memory.register(At(0), "a", service(&[]), vec![check(None)], true);
        assert_eq!(of(&memory).it.status, Status::Critical);
        memory.feed(At(1), "a", "service:orders-a", (Status::Passing, "")).expect("known");
        memory.register(At(2), "a", service(&["y"]), vec![check(None)], true);
        assert_eq!(of(&memory).it.status, Status::Passing);
    }

    #[test]
    fn an_agent_writes_again_what_the_catalog_has_lost() {
        let mut memory = Memory::new(1);
        let empty = memory.snapshot();
        memory.register(At(0), "a", service(&["x"]), vec![check(Some(Status::Passing))], true);
        memory.restore(At(1), empty);
        assert!(memory.state.catalog.nodes.is_empty());
        memory.tick(At(2));
        assert_eq!(memory.state.catalog.nodes["a"].services["orders-a"].it.tags, ["x"]);
    }

    /// A tag that another wrote into the catalog: two primaries in DNS, until its next word.
    #[test]
    fn trap_what_another_writes_into_the_catalog_its_agent_reverts() {
        let mut memory = registered();
        let node = memory.state.catalog.nodes.get_mut("a").expect("joined");
        node.services.get_mut("orders-a").expect("there").it.tags = vec!["primary".into()];
        memory.feed(At(1), "a", "service:orders-a", (Status::Passing, "")).expect("known");
        assert_eq!(memory.state.catalog.nodes["a"].services["orders-a"].it.tags, ["x"]);
    }

    #[test]
    fn without_a_leader_the_agent_takes_it_in_and_the_catalog_hears_of_it_later() {
        let mut memory = registered();
        memory.lose_leader();
        memory.register(At(1), "a", service(&["y"]), vec![check(Some(Status::Passing))], true);
        let tags =
            |memory: &Memory| memory.state.catalog.nodes["a"].services["orders-a"].it.tags.clone();
        assert_eq!(tags(&memory), ["x"]);
        memory.elect(At(2));
        memory.tick(At(2));
        assert_eq!(tags(&memory), ["y"]);
    }

    #[test]
    fn what_is_forgotten_is_unknown_and_gone_from_the_catalog() {
        let mut memory = registered();
        memory.maintain("a", "orders-a", true, "a disk").expect("known");
        memory.deregister("a", "orders-a");
        assert_eq!(memory.state.catalog.nodes["a"].checks.len(), 1, "serfHealth alone");
        let fed = memory.feed(At(1), "a", "service:orders-a", (Status::Passing, ""));
        assert_eq!(fed.map_err(|fault| fault.status), Err(500));
        let maintained = memory.maintain("a", "orders-a", true, "");
        assert_eq!(maintained.map_err(|fault| fault.status), Err(404));
    }
}
