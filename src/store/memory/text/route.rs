//! Which methods a path takes, and what serves it.

use super::super::{Fault, Memory};
use super::decode::Flags;
use super::{Answered, Asked, Body, Reply};
use crate::decide::time::At;
use serde_json::json;

/// Below `/v1/`; with a slash at its end it stands for all that is under it.
const PATHS: [(&str, &str); 30] = [
    ("kv/", "GET,PUT,DELETE"),
    ("txn", "PUT"),
    ("session/create", "PUT"),
    ("session/destroy/", "PUT"),
    ("session/renew/", "PUT"),
    ("session/info/", "GET"),
    ("session/list", "GET"),
    ("session/node/", "GET"),
    ("status/leader", "GET"),
    ("status/peers", "GET"),
    ("agent/service/register", "PUT"),
    ("agent/service/deregister/", "PUT"),
    ("agent/service/maintenance/", "PUT"),
    ("agent/check/update/", "PUT"),
    ("agent/check/pass/", "PUT"),
    ("agent/check/warn/", "PUT"),
    ("agent/check/fail/", "PUT"),
    ("agent/service/", "GET"),
    ("agent/services", "GET"),
    ("agent/checks", "GET"),
    ("agent/self", "GET"),
    ("agent/members", "GET"),
    ("catalog/datacenters", "GET"),
    ("catalog/nodes", "GET"),
    ("catalog/services", "GET"),
    ("catalog/service/", "GET"),
    ("catalog/node/", "GET"),
    ("health/service/", "GET"),
    ("health/node/", "GET"),
    ("health/checks/", "GET"),
];

/// Where raft would listen; nobody does.
const RAFT: &str = "127.0.0.1:8300";

impl Memory {
    pub(super) fn route(
        &mut self,
        now: At,
        asked: &Asked<'_>,
        path: &str,
        flags: Flags,
    ) -> Result<Answered, Fault> {
        let Some(path) = path.strip_prefix("/v1/") else {
            return match path {
                "/" => Err(Fault::new(200, "Consul Agent")),
                _ => Ok(Answered::Now(Reply::new(404, Body::Nothing))),
            };
        };
        if path.starts_with("acl/") {
            return Err(Fault::new(401, "ACL support disabled"));
        }
        let known = PATHS.iter().find(|(name, _)| match name.ends_with('/') {
            true => path.starts_with(name),
            false => path == *name,
        });
        let Some((name, methods)) = known else {
            return Ok(Answered::Now(Reply::new(404, Body::Nothing)));
        };
        if !methods.split(',').any(|method| method == asked.method) {
            return Ok(Answered::Now(not_allowed(asked.method, methods)));
        }
        if flags.get("dc").is_some_and(|dc| !["", "dc1"].contains(&dc.as_str())) {
            return Err(Fault::new(500, "No path to datacenter"));
        }
        let rest = &path[name.len()..];
        let reply = match (asked.method, *name) {
            ("PUT", "kv/") => self.kv_put(now, rest, &flags, asked.body)?,
            ("DELETE", "kv/") => self.kv_delete(rest, &flags)?,
            ("PUT", "txn") => self.txn_text(now, asked.body)?,
            ("GET", "status/leader") => {
                self.leads()?;
                Reply::json(&json!(RAFT))
            }
            ("GET", "status/peers") => Reply::json(&json!([RAFT])),
            ("PUT", path) if path.starts_with("agent/") => {
                self.agent_text(now, asked, (path, rest), &flags)?
            }
            ("PUT", _) => self.session_text(now, asked, name, rest)?,
            ("GET", name) if name.starts_with("agent/") => self.agent_says(asked.node, path)?,
            ("GET", "catalog/datacenters") => Reply::json(&json!(["dc1"])),
            ("GET", name) if name.starts_with("catalog/") || name.starts_with("health/") => {
                self.join(asked.node);
                return self.read_text(now, path, flags);
            }
            (_, _) => return self.read_text(now, path, flags),
        };
        Ok(Answered::Now(reply))
    }
}

fn not_allowed(method: &str, methods: &str) -> Reply {
    let text = format!("method {method} not allowed");
    let header = Some(("Allow", format!("OPTIONS,{methods}")));
    Reply { header, ..Reply::new(405, Body::Text(text)) }
}
