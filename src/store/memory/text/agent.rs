//! The agent's part of the API: what it is told of services and checks, and what it says of them.

use super::super::agent::{Check, NewCheck, Service, Status};
use super::super::{Fault, Memory};
use super::decode::{Flags, duration};
use super::{Asked, Body, Reply};
use crate::decide::time::At;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceText {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    port: u16,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    check: Option<CheckText>,
    checks: Option<Vec<CheckText>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CheckText {
    #[serde(rename = "CheckID")]
    id: String,
    name: String,
    #[serde(rename = "TTL")]
    ttl: String,
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Fed {
    status: String,
    output: String,
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    let bad = |error| Fault::new(400, format!("Request decode failed: {error}"));
    serde_json::from_slice(body).map_err(bad)
}

fn status(name: &str) -> Result<Status, Fault> {
    Status::of(name).ok_or_else(|| Fault::new(400, format!("Invalid check status: '{name}'")))
}

fn done() -> Reply {
    Reply::new(200, Body::Nothing)
}

impl Memory {
    /// `path` is one of the table's; `rest` what follows it.
    pub(super) fn agent_text(
        &mut self,
        now: At,
        asked: &Asked<'_>,
        (path, rest): (&str, &str),
        flags: &Flags,
    ) -> Result<Reply, Fault> {
        let node = asked.node;
        match path {
            "agent/service/register" => self.register_text(now, asked, flags)?,
            "agent/service/deregister/" => self.deregister(node, rest),
            "agent/service/maintenance/" => {
                let on = match flags.get("enable").map(String::as_str) {
                    Some("true") => true,
                    Some("false") => false,
                    Some(_) => return Err(Fault::new(400, "Invalid value for enable: \"\"")),
                    None => return Err(Fault::new(400, "Missing value for enable")),
                };
                let why = flags.get("reason").map_or("", String::as_str);
                self.maintain(node, rest, on, why)?;
            }
            "agent/check/update/" => {
                let fed: Fed = read(asked.body)?;
                self.feed(now, node, rest, (status(&fed.status)?, &fed.output))?;
            }
            _ => {
                let told = match path {
                    "agent/check/pass/" => Status::Passing,
                    "agent/check/warn/" => Status::Warning,
                    _ => Status::Critical,
                };
                let note = flags.get("note").map_or("", String::as_str);
                self.feed(now, node, rest, (told, note))?;
            }
        }
        Ok(done())
    }

    fn register_text(&mut self, now: At, asked: &Asked<'_>, flags: &Flags) -> Result<(), Fault> {
        let told: ServiceText = read(asked.body)?;
        if told.name.is_empty() {
            return Err(Fault::new(400, "Missing service name"));
        }
        let id = if told.id.is_empty() { told.name.clone() } else { told.id };
        let all = told.check.into_iter().chain(told.checks.into_iter().flatten());
        let mut checks = Vec::new();
        for (place, check) in all.enumerate() {
            let bad = |why| Fault::new(400, format!("Invalid check: {why}"));
            let ttl = match check.ttl.as_str() {
                "" => return Err(bad("TTL must be set: no other check is served here".to_owned())),
                ttl => duration(ttl).map_err(bad)?,
            };
            let number = if place == 0 { String::new() } else { format!(":{}", place + 1) };
            let own = format!("service:{id}{number}");
            checks.push(NewCheck {
                id: if check.id.is_empty() { own } else { check.id },
                name: if check.name.is_empty() {
                    format!("Service '{}' check", told.name)
                } else {
                    check.name
                },
                ttl: Some(ttl),
                status: match check.status.as_str() {
                    "" => None,
                    name => Some(status(name)?),
                },
            });
        }
        let service = Service {
            id,
            name: told.name,
            address: told.address,
            port: told.port,
            tags: told.tags.unwrap_or_default(),
            meta: told.meta.unwrap_or_default(),
        };
        let alone = flags.contains_key("replace-existing-checks");
        self.register(now, asked.node, service, checks, alone);
        Ok(())
    }

    /// What the agent itself knows; nobody waits for it.
    pub(super) fn agent_says(&mut self, node: &str, path: &str) -> Result<Reply, Fault> {
        self.join(node);
        let agent = &self.agents[node];
        let told = match path.strip_prefix("agent/").unwrap_or(path) {
            "services" => {
                agent.services.iter().map(|(id, it)| (id.clone(), service_json(it))).collect()
            }
            "checks" => {
                let json = |check: &Check| check_json(node, check, (0, 0));
                agent.checks.iter().map(|(id, it)| (id.clone(), json(it))).collect()
            }
            "self" => return Ok(Reply::json(&self.self_json(node))),
            "members" => return Ok(Reply::json(&json!([member_json(node)]))),
            other => {
                let id = other.strip_prefix("service/").unwrap_or(other);
                let unknown = || Fault::new(404, format!("unknown service ID: {id}"));
                return Ok(Reply::json(&service_json(agent.services.get(id).ok_or_else(unknown)?)));
            }
        };
        Ok(Reply::json(&Value::Object(told)))
    }

    /// The same for one instance, as ids of sessions are.
    pub(super) fn node_id(&self) -> String {
        format!("{:08x}-0000-4000-9000-000000000001", self.salt)
    }

    fn self_json(&self, node: &str) -> Value {
        json!({
            "Config": {
                "Datacenter": "dc1", "NodeName": node, "NodeID": self.node_id(), "Revision": "",
                "Server": true, "Version": VERSION,
            },
            "DebugConfig": {},
            "Member": member_json(node),
            "Meta": {},
        })
    }
}

/// Whose API this is.
pub(super) const VERSION: &str = "1.8.7";

fn member_json(node: &str) -> Value {
    json!({
        "Name": node, "Addr": "127.0.0.1", "Port": 8301,
        "Tags": {"role": "consul", "dc": "dc1", "build": format!("{VERSION}:"), "segment": ""},
        "Status": 1, "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2,
        "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
    })
}

/// Where a service is reached; none without an address of its own.
pub(super) fn tagged(service: &Service) -> Option<Value> {
    let place = json!({"Address": service.address, "Port": service.port});
    (!service.address.is_empty()).then(|| json!({"lan_ipv4": place, "wan_ipv4": place}))
}

pub(super) fn service_json(service: &Service) -> Value {
    let mut json = json!({
        "ID": service.id, "Service": service.name, "Tags": service.tags, "Meta": service.meta,
        "Port": service.port, "Address": service.address,
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
    });
    if let Some(tagged) = tagged(service) {
        json["TaggedAddresses"] = tagged;
    }
    json
}

pub(super) fn check_json(node: &str, check: &Check, (create, modify): (u64, u64)) -> Value {
    json!({
        "Node": node, "CheckID": check.id, "Name": check.name, "Status": check.status.name(),
        "Notes": check.notes, "Output": check.output,
        "ServiceID": check.service.as_deref().unwrap_or(""),
        "ServiceName": check.service_name, "ServiceTags": check.service_tags,
        "Type": check.kind, "Definition": Map::new(),
        "CreateIndex": create, "ModifyIndex": modify,
    })
}
