//! The catalog and health: reads that can be waited for.

use super::super::agent::{Check, Kept, Node, Service, Status};
use super::super::{Fault, State};
use super::agent::{check_json, service_json, tagged};
use super::decode::Flags;
use super::{Look, Reply};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// `path` is below `/v1/`.
pub(super) fn look<'a>(
    state: &'a State,
    path: &'a str,
    flags: &'a Flags,
    id: &str,
) -> Result<Look<'a>, Fault> {
    let mut parts = path.splitn(3, '/');
    let (part, what) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let of = parts.next().unwrap_or("");
    let (catalog, id) = (&state.catalog, id.to_owned());
    // Nothing has index 0: who waits for it would never wait.
    let index =
        if (part, what) == ("catalog", "nodes") { catalog.nodes_index } else { catalog.index };
    let nodes = &catalog.nodes;
    Ok(Look::new(index.max(1), move || match (part, what) {
        ("catalog", "nodes") => {
            Reply::json(&nodes.iter().map(|(name, node)| node_json(name, node, &id)).collect())
        }
        ("catalog", "services") => Reply::json(&services(nodes)),
        ("catalog", "node") => match nodes.get(of) {
            Some(node) => Reply::json(&whole_json(of, node, &id)),
            None => Reply::json(&Value::Null),
        },
        ("catalog", _) => Reply::json(&instances(nodes, of, flags, |name, node, kept| {
            catalog_json(name, node, kept, &id)
        })),
        ("health", "node") => {
            let node = nodes.get_key_value(of);
            Reply::json(&node.map_or(Value::Array(Vec::new()), |(name, node)| {
                node.checks.values().map(|check| kept_json(name, check)).collect()
            }))
        }
        ("health", "checks") => {
            let rows = nodes.iter().flat_map(|(name, node)| {
                let of_it = move |check: &&Kept<Check>| check.it.service_name == of;
                node.checks.values().filter(of_it).map(move |it| kept_json(name, it))
            });
            Reply::json(&rows.collect())
        }
        (_, _) => Reply::json(&instances(nodes, of, flags, |name, node, kept| {
            let checks: Vec<&Kept<Check>> = node
                .checks
                .values()
                .filter(|check| {
                    check.it.service.as_ref().is_none_or(|service| *service == kept.it.id)
                })
                .collect();
            let passing = checks.iter().all(|check| check.it.status == Status::Passing);
            (passing || !flags.contains_key("passing")).then(|| {
                let mut service = service_json(&kept.it);
                service["Proxy"] = proxy();
                service["Connect"] = json!({});
                service["CreateIndex"] = kept.create.into();
                service["ModifyIndex"] = kept.modify.into();
                let checks: Vec<Value> =
                    checks.iter().map(|check| kept_json(name, check)).collect();
                json!({"Node": node_json(name, node, &id), "Service": service, "Checks": checks})
            })
        })),
    }))
}

type Nodes = BTreeMap<String, Node>;

fn instances(
    nodes: &Nodes,
    name: &str,
    flags: &Flags,
    json: impl Fn(&str, &Node, &Kept<Service>) -> Option<Value>,
) -> Value {
    let tag = flags.get("tag");
    let wanted = |kept: &&Kept<Service>| {
        kept.it.name == name && tag.is_none_or(|tag| kept.it.tags.contains(tag))
    };
    let mut rows = Vec::new();
    for (at, node) in nodes {
        rows.extend(node.services.values().filter(wanted).filter_map(|it| json(at, node, it)));
    }
    Value::Array(rows)
}

/// Consul's own service is there with every server.
fn services(nodes: &Nodes) -> Value {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([("consul", BTreeSet::new())]);
    for kept in nodes.values().flat_map(|node| node.services.values()) {
        let tags = names.entry(&kept.it.name).or_default();
        tags.extend(kept.it.tags.iter().map(String::as_str));
    }
    json!(names)
}

fn node_json(name: &str, node: &Node, id: &str) -> Value {
    let here = "127.0.0.1";
    json!({
        "ID": id, "Node": name, "Address": here, "Datacenter": "dc1",
        "TaggedAddresses": {"lan": here, "lan_ipv4": here, "wan": here, "wan_ipv4": here},
        "Meta": {"consul-network-segment": ""},
        "CreateIndex": node.create, "ModifyIndex": node.create,
    })
}

fn whole_json(name: &str, node: &Node, id: &str) -> Value {
    let services: BTreeMap<&String, Value> =
        node.services.iter().map(|(id, kept)| (id, service_json(&kept.it))).collect();
    json!({"Node": node_json(name, node, id), "Services": services})
}

fn catalog_json(name: &str, node: &Node, kept: &Kept<Service>, id: &str) -> Option<Value> {
    let mut json = node_json(name, node, id);
    let meta = json["Meta"].take();
    let row = json.as_object_mut()?;
    row.remove("Meta");
    let it = &kept.it;
    let more = json!({
        "NodeMeta": meta, "ServiceKind": "", "ServiceID": it.id, "ServiceName": it.name,
        "ServiceTags": it.tags, "ServiceAddress": it.address,
        "ServiceWeights": {"Passing": 1, "Warning": 1}, "ServiceProxy": proxy(),
        "ServiceConnect": {},
        "ServiceMeta": it.meta, "ServicePort": it.port, "ServiceEnableTagOverride": false,
        "CreateIndex": kept.create, "ModifyIndex": kept.modify,
    });
    row.extend(more.as_object()?.clone());
    if let Some(tagged) = tagged(it) {
        row.insert("ServiceTaggedAddresses".to_owned(), tagged);
    }
    Some(json)
}

/// There is none, and Consul says so at length.
fn proxy() -> Value {
    json!({"MeshGateway": {}, "Expose": {}})
}

fn kept_json(name: &str, check: &Kept<Check>) -> Value {
    check_json(name, &check.it, (check.create, check.modify))
}
