//! Reads that can be waited for: an index, and what is there.

use super::super::{Behavior, Fault, Row, Session, State};
use super::decode::Flags;
use super::{Body, Look, Reply};
use crate::decide::types::SessionId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// `path` is below `/v1/`; `id` is that of nodes.
pub(super) fn look<'a>(
    state: &'a State,
    path: &'a str,
    flags: &'a Flags,
    id: &str,
) -> Result<Look<'a>, Fault> {
    let (what, rest) = path.split_once('/').unwrap_or((path, ""));
    match what {
        "kv" => keys(state, rest, flags),
        "catalog" | "health" => super::catalog::look(state, path, flags, id),
        _ => sessions(state, rest),
    }
}

fn keys<'a>(state: &'a State, key: &'a str, flags: &'a Flags) -> Result<Look<'a>, Fault> {
    let given = |name: &str| flags.contains_key(name);
    let kv = &state.kv;
    if given("keys") {
        return Ok(Look::new(kv.index_under(key), move || names(state, key, flags)));
    }
    if given("recurse") {
        return Ok(Look::new(kv.index_under(key), move || {
            rows(kv.under(key).map(|(key, row)| row_json(key, row, true)).collect())
        }));
    }
    if key.is_empty() {
        return Err(Fault::new(400, "Missing key name"));
    }
    let is_raw = given("raw");
    Ok(Look::new(kv.index_of(key), move || match (kv.get(key), is_raw) {
        (Some(row), true) => Reply::new(200, Body::Raw(row.value.clone())),
        (row, _) => rows(row.into_iter().map(|row| row_json(key, row, true)).collect()),
    }))
}

fn rows(rows: Vec<Value>) -> Reply {
    match rows.is_empty() {
        true => Reply::new(404, Body::Nothing),
        false => Reply::json(&Value::Array(rows)),
    }
}

/// The names under a prefix, up to the next separator.
fn names(state: &State, prefix: &str, flags: &Flags) -> Reply {
    let separator = flags.get("separator").filter(|separator| !separator.is_empty());
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in state.kv.under(prefix) {
        let rest = &key[prefix.len()..];
        let end =
            separator.and_then(|separator| Some(rest.find(separator.as_str())? + separator.len()));
        let name = end.map_or(key.as_str(), |end| &key[..prefix.len() + end]);
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => Reply::new(404, Body::Nothing),
        false => Reply::json(&json!(names)),
    }
}

pub(super) fn row_json(key: &str, row: &Row, whole: bool) -> Value {
    let value = (whole && !row.value.is_empty()).then(|| STANDARD.encode(&row.value));
    let mut json = json!({
        "LockIndex": row.lock, "Key": key, "Flags": row.flags, "Value": value,
        "CreateIndex": row.create, "ModifyIndex": row.modify,
    });
    if let Some(session) = &row.session {
        json["Session"] = json!(session);
    }
    json
}

/// Whatever is asked of sessions, the index is that of all.
fn sessions<'a>(state: &'a State, rest: &'a str) -> Result<Look<'a>, Fault> {
    let (verb, of) = rest.split_once('/').unwrap_or((rest, ""));
    match (verb, of) {
        ("info", "") => return Err(Fault::new(400, "Missing session")),
        ("node", "") => return Err(Fault::new(400, "Missing node name")),
        ("info", id) => super::session::check(&SessionId::new(id))?,
        (_, _) => {}
    }
    let is_wanted = move |session: &&Session| match verb {
        "info" => session.id.as_str() == of,
        "node" => session.spec.node == of,
        _ => true,
    };
    Ok(Look::new(state.sessions_index, move || {
        let found = state.sessions.values().filter(is_wanted);
        Reply::json(&found.map(session_json).collect())
    }))
}

pub(super) fn session_json(session: &Session) -> Value {
    let spec = &session.spec;
    json!({
        "ID": session.id,
        "Name": spec.name,
        "Node": spec.node,
        "LockDelay": spec.lock_delay.0 * 1_000_000,
        "Behavior": match spec.behavior {
            Behavior::Release => "release",
            Behavior::Delete => "delete",
        },
        "TTL": spec.ttl_text,
        "NodeChecks": [],
        "ServiceChecks": null,
        "CreateIndex": session.create,
        "ModifyIndex": session.create,
    })
}
