//! Services and checks on both sides: what the agent says of itself at once, and what the catalog
//! says when the agent has told it.
//!
//! Not compared, beside what is not of keys: ids and addresses of nodes, and outputs in the catalog
//! (one that comes without a change of status gets there minutes later).

use super::common::consul::Consul;
use super::rig::http;
use lictor::decide::time::At;
use lictor::sim::rng::Rng;
use lictor::store::memory::{Answered, Asked, Memory};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SCRIPTS: u64 = 60;
const ACTS: u64 = 12;
/// The agent tells the catalog within moments; the machine may be busy.
const SYNCED: Duration = Duration::from_secs(20);
const NAMES: [&str; 2] = ["orders", "mail"];
const IDS: [&str; 3] = ["one", "two", "three"];

#[derive(Debug)]
struct Request {
    method: &'static str,
    target: String,
    body: String,
}

/// Services of a script have names of their own: what ran before is out of sight.
fn request(dice: &mut Rng, corner: u64) -> Request {
    let name = format!("{}{corner}", dice.pick(&NAMES));
    let id = format!("{}{corner}", dice.pick(&IDS));
    let put = |target: String, body: Value| Request {
        method: "PUT",
        target,
        body: if body.is_null() { String::new() } else { body.to_string() },
    };
    let status = dice.pick(&["passing", "warning", "critical"]);
    match dice.below(12) {
        0..5 => {
            let mut check = json!({"CheckID": format!("service:{id}"), "Name": "c", "TTL": "24h"});
            if dice.chance(600) {
                check["Status"] = json!(status);
            }
            let tags: &[&str] = dice.pick(&[&[], &["primary"], &["replica", "x"]]);
            let service = json!({
                "ID": id, "Name": name, "Address": dice.pick(&["", "127.0.0.1"]), "Port": 3306,
                "Tags": tags, "Meta": {"epoch": dice.below(3).to_string()}, "Check": check,
            });
            let alone = if dice.chance(700) { "?replace-existing-checks=true" } else { "" };
            put(format!("/v1/agent/service/register{alone}"), service)
        }
        5..8 => {
            let output = dice.pick(&["", "it serves", "it does not"]);
            put(
                format!("/v1/agent/check/update/service:{id}"),
                json!({"Status": status, "Output": output}),
            )
        }
        8 => put(format!("/v1/agent/check/fail/service:{id}?note=n"), Value::Null),
        9 => put(format!("/v1/agent/service/deregister/{id}"), Value::Null),
        _ => {
            let on = dice.chance(600);
            put(format!("/v1/agent/service/maintenance/{id}?enable={on}&reason=a"), Value::Null)
        }
    }
}

struct Sides {
    port: u16,
    model: Memory,
    compared: usize,
}

impl Sides {
    fn ours(&mut self, request: &Request) -> (u16, Value) {
        let Request { method, target, body } = request;
        let asked = Asked { method, target, body: body.as_bytes(), node: "server-1" };
        let Answered::Now(reply) = self.model.answer(At(1_000), &asked) else {
            panic!("{target} waits")
        };
        (reply.status, parsed(&String::from_utf8_lossy(reply.body.bytes())))
    }

    fn theirs(&self, request: &Request) -> (u16, Value) {
        let (status, body) = http(self.port, request.method, &request.target, &request.body);
        (status, parsed(&body))
    }

    /// At once.
    fn same(&mut self, request: &Request) {
        let (theirs, ours) = (self.theirs(request), self.ours(request));
        self.compared += 1;
        assert_eq!(theirs.0, ours.0, "{request:?}: status of the real one, then of the model");
        let differs = difference(&bare(theirs.1), &bare(ours.1));
        assert!(differs.is_none(), "{request:?}: {}", differs.unwrap_or_default());
    }

    /// In time.
    fn agrees(&mut self, target: String) {
        let request = Request { method: "GET", target, body: String::new() };
        let ours = self.ours(&request);
        let ours = (ours.0, catalogued(bare(ours.1)));
        let begun = Instant::now();
        loop {
            let theirs = self.theirs(&request);
            let theirs = (theirs.0, catalogued(bare(theirs.1)));
            if theirs == ours {
                self.compared += 1;
                return;
            }
            let told = || difference(&theirs.1, &ours.1).unwrap_or_default();
            assert!(begun.elapsed() < SYNCED, "{request:?}: {}", told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| json!(body.trim()))
}

/// Where two answers are apart first.
fn difference(theirs: &Value, ours: &Value) -> Option<String> {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let absent = Value::Null;
            names
                .filter_map(|name| {
                    let of = |fields: &serde_json::Map<String, Value>| {
                        fields.get(name).cloned().unwrap_or(absent.clone())
                    };
                    Some(format!("{name}: {}", difference(&of(a), &of(b))?))
                })
                .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(a, b)| difference(a, b))
        }
        (a, b) if a == b => None,
        (a, b) => Some(format!("{a} and, of the model, {b}")),
    }
}

/// Without what is drawn, counted, or another machine's.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| {
                !name.ends_with("Index") && name != "ContentHash" && name != "NodeMeta"
            })
            .map(|(name, value)| match name.as_str() {
                // A node, whole: all but its name is a machine's.
                "Node" if value.is_object() => (name, value["Node"].clone()),
                _ => (name, bare(value)),
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(bare).collect(),
        other => other,
    }
}

fn catalogued(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // A row of the catalog is a node's, and a service's by longer names.
            let of_node = fields.contains_key("Datacenter");
            let drop = |name: &str| {
                name == "Output" || of_node && (name == "ID" || name == "TaggedAddresses")
            };
            let stays = fields.into_iter().filter(|(name, _)| !drop(name));
            stays.map(|(name, value)| (name, catalogued(value))).collect()
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(catalogued).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        other => other,
    }
}

#[test]
fn agents_and_the_catalog_say_the_same() {
    let consul = Consul::one();
    let mut sides = Sides { port: consul.servers[0].http, model: Memory::new(9), compared: 0 };
    // Ten of them a second, about.
    let long = std::env::var("LICTOR_DIFFERENTIAL").ok().and_then(|text| text.parse::<u64>().ok());
    for corner in 1..=long.map_or(SCRIPTS, |seconds| seconds * 10) {
        let mut dice = Rng::new(corner, 1);
        for _ in 0..ACTS {
            let asked = request(&mut dice, corner);
            sides.same(&asked);
            for id in IDS {
                let target = format!("/v1/agent/service/{id}{corner}");
                sides.same(&Request { method: "GET", target, body: String::new() });
            }
        }
        for target in ["/v1/agent/services", "/v1/agent/checks"] {
            let target = target.to_owned();
            sides.same(&Request { method: "GET", target, body: String::new() });
        }
        for name in NAMES {
            sides.agrees(format!("/v1/health/service/{name}{corner}"));
            sides.agrees(format!("/v1/health/service/{name}{corner}?passing"));
            sides.agrees(format!("/v1/health/checks/{name}{corner}"));
            sides.agrees(format!("/v1/catalog/service/{name}{corner}"));
        }
        sides.agrees("/v1/catalog/services".to_owned());
        sides.agrees("/v1/health/node/server-1".to_owned());
    }
    println!("{} answers about services compared", sides.compared);
    assert!(sides.compared > 2_000, "{}", sides.compared);
}
