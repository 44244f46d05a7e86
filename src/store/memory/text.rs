//! Consul's HTTP, as far as lictor and the `consul` command use it for keys, sessions and
//! transactions: a request's text in, an answer's text out.

use super::{Behavior, Fault, Memory, Mode, Op, Query, Row, Seen, Session, Spec};
use crate::decide::time::{At, Span};
use crate::decide::types::SessionId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of a value, and of a transaction's text.
const BYTES_MOST: usize = 512 << 10;
/// Without `wait`, and at most.
const WAIT: Span = Span::secs(300);
const WAIT_MOST: Span = Span::secs(600);
const LOCK_DELAY: Span = Span::secs(15);

/// One request: `PUT`, `/v1/kv/a?cas=3`, its body; at which agent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: &'a [u8],
    pub node: &'a str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    pub status: u16,
    /// `X-Consul-Index`.
    pub index: Option<u64>,
    pub body: String,
}

/// An answer, or what it waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answered {
    Now(Reply),
    Wait(Query),
}

type Flags = BTreeMap<String, String>;

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Reply {
        Reply { status: fault.status, index: None, body: fault.text }
    }
}

impl Memory {
    /// Carries out one request. What has no place here is 404.
    pub fn answer(&mut self, now: At, asked: &Asked<'_>) -> Answered {
        self.tick(now);
        let (path, flags) = split(asked.target);
        match self.route(now, asked, &path, &flags) {
            Ok(answered) => answered,
            Err(fault) => Answered::Now(fault.into()),
        }
    }

    /// Of a query that waited: what it returns now, if it does.
    pub fn answer_waiting(&mut self, now: At, query: &Query) -> Option<Reply> {
        self.tick(now);
        self.poll(now, query).map(|seen| rows_reply(&seen))
    }

    fn route(
        &mut self,
        now: At,
        asked: &Asked<'_>,
        path: &str,
        flags: &Flags,
    ) -> Result<Answered, Fault> {
        let parts = path.strip_prefix("/v1/").unwrap_or_default();
        let (what, rest) = parts.split_once('/').unwrap_or((parts, ""));
        match (asked.method, what) {
            ("GET", "kv") => self.kv_get(now, rest, flags),
            ("PUT", "kv") => self.kv_put(now, rest, flags, asked.body).map(Answered::Now),
            ("DELETE", "kv") => self.kv_delete(rest, flags).map(Answered::Now),
            ("PUT", "txn") => self.txn_text(now, asked.body).map(Answered::Now),
            (_, "session") => self.session_text(now, asked, rest).map(Answered::Now),
            ("GET", "status") if rest == "leader" => {
                self.leads()?;
                Ok(Answered::Now(plain(200, &json!("127.0.0.1:8300"))))
            }
            _ => Err(Fault::new(404, format!("{} {path} is not served", asked.method))),
        }
    }

    fn kv_get(&mut self, now: At, key: &str, flags: &Flags) -> Result<Answered, Fault> {
        if !flags.contains_key("stale") {
            self.leads()?;
        }
        let recurse = flags.contains_key("recurse");
        if flags.contains_key("consistent") && !key.is_empty() && !flags.contains_key("index") {
            return Ok(Answered::Now(rows_reply(&self.read(key, recurse))));
        }
        if flags.contains_key("keys") {
            return Ok(Answered::Now(self.keys(key, flags.get("separator"))));
        }
        if key.is_empty() && !recurse {
            return Err(Fault::new(400, "Missing key name"));
        }
        let after = number(flags, "index")?.unwrap_or(0);
        let wait = match flags.get("wait").map(|text| duration(text)) {
            None => WAIT,
            Some(Some(wait)) => wait.min(WAIT_MOST),
            Some(None) => return Err(Fault::new(400, "Invalid wait time")),
        };
        let query = self.query(key, recurse, after, now + wait);
        let seen = self.poll(now, &query);
        if let (Some(seen), true) = (&seen, flags.contains_key("raw")) {
            let value = seen.rows.first().map(|(_, row)| row.value.clone());
            let status = if value.is_some() { 200 } else { 404 };
            let body = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
            return Ok(Answered::Now(Reply { status, index: Some(seen.index), body }));
        }
        Ok(seen.map_or(Answered::Wait(query), |seen| Answered::Now(rows_reply(&seen))))
    }

    /// The names under a prefix, up to the next separator.
    fn keys(&self, prefix: &str, separator: Option<&String>) -> Reply {
        let seen = self.read_plain(prefix, true);
        let mut names: Vec<&str> = Vec::new();
        for (key, _) in &seen.rows {
            let rest = &key[prefix.len()..];
            let end = separator
                .filter(|separator| !separator.is_empty())
                .and_then(|separator| Some(rest.find(separator.as_str())? + separator.len()));
            let name = end.map_or(key.as_str(), |end| &key[..prefix.len() + end]);
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        match names.is_empty() {
            true => Reply { status: 404, index: Some(seen.index), body: String::new() },
            false => Reply { index: Some(seen.index), ..plain(200, &json!(names)) },
        }
    }

    fn kv_put(&mut self, now: At, key: &str, flags: &Flags, body: &[u8]) -> Result<Reply, Fault> {
        if key.is_empty() {
            return Err(Fault::new(400, "Missing key name"));
        }
        let modes = ["cas", "acquire", "release"].map(|name| flags.contains_key(name));
        if modes.iter().filter(|given| **given).count() > 1 {
            return Err(Fault::new(400, "Conflicting flags"));
        }
        if body.len() > BYTES_MOST {
            let text = format!(
                "Request body({} bytes) too large, max size: {BYTES_MOST} bytes.",
                body.len()
            );
            return Err(Fault::new(413, text));
        }
        let mark = number(flags, "flags")?.unwrap_or(0);
        let session = |name: &str| flags.get(name).map(|id| SessionId::new(id));
        let mode = match (number(flags, "cas")?, session("acquire"), session("release")) {
            (Some(index), _, _) => Mode::Cas(index),
            (None, Some(id), _) => Mode::Acquire(id),
            (None, None, Some(id)) => Mode::Release(id),
            (None, None, None) => Mode::Plain,
        };
        let done = self.put(now, key, mark, body.to_vec(), &mode)?;
        Ok(plain(200, &json!(done)))
    }

    fn kv_delete(&mut self, key: &str, flags: &Flags) -> Result<Reply, Fault> {
        if flags.contains_key("recurse") {
            if flags.contains_key("cas") {
                return Err(Fault::new(400, "Conflicting flags"));
            }
            self.delete_under(key)?;
            return Ok(plain(200, &json!(true)));
        }
        if key.is_empty() {
            return Err(Fault::new(400, "Missing key name"));
        }
        let done = self.delete(key, number(flags, "cas")?)?;
        Ok(plain(200, &json!(done)))
    }

    fn txn_text(&mut self, now: At, body: &[u8]) -> Result<Reply, Fault> {
        if body.len() > BYTES_MOST {
            return Err(Fault::new(413, "Request body too large"));
        }
        let parsed: Vec<TxnText> = serde_json::from_slice(body)
            .map_err(|error| Fault::new(400, format!("Failed to parse body: {error}")))?;
        let ops =
            parsed.into_iter().map(|text| text.kv.op()).collect::<Result<Vec<Op>, Fault>>()?;
        let result = self.txn(now, &ops)?;
        let mut reply = match result {
            Ok(rows) => {
                let rows: Vec<Value> = rows
                    .iter()
                    .map(|(key, row, whole)| json!({"KV": row_json(key, row, *whole)}))
                    .collect();
                (200, json!({"Results": rows, "Errors": null}))
            }
            Err(errors) => {
                let errors: Vec<Value> = errors
                    .iter()
                    .map(|error| json!({"OpIndex": error.op, "What": error.what}))
                    .collect();
                (409, json!({"Results": null, "Errors": errors}))
            }
        };
        if ops.iter().all(Op::is_read) {
            // Answered without raft, it tells of the read.
            let (_, body) = &mut reply;
            body["Index"] = json!(0);
            body["LastContact"] = json!(0);
            body["KnownLeader"] = json!(true);
            body["ConsistencyLevel"] = json!("");
        }
        Ok(plain(reply.0, &reply.1))
    }

    fn session_text(&mut self, now: At, asked: &Asked<'_>, rest: &str) -> Result<Reply, Fault> {
        let (verb, id) = rest.split_once('/').unwrap_or((rest, ""));
        let id = SessionId::new(id);
        match (asked.method, verb) {
            ("PUT", "create") => {
                let spec = spec_of(asked)?;
                let id = self.session_create(now, spec)?;
                Ok(plain(200, &json!({"ID": id})))
            }
            ("PUT", "destroy") => {
                self.session_destroy(now, &id)?;
                Ok(plain(200, &json!(true)))
            }
            ("PUT", "renew") => match self.session_renew(now, &id)? {
                Some(session) => Ok(plain(200, &json!([session_json(&session)]))),
                None => Err(Fault::new(404, format!("Session id '{id}' not found"))),
            },
            ("GET", "info") => {
                self.leads()?;
                let found: Vec<Value> = self.session(&id).map(session_json).into_iter().collect();
                Ok(plain(200, &json!(found)))
            }
            ("GET", "list") => {
                self.leads()?;
                Ok(plain(200, &json!(self.sessions().map(session_json).collect::<Vec<_>>())))
            }
            ("GET", "node") => {
                self.leads()?;
                let of = self.sessions().filter(|session| session.spec.node == id.as_str());
                Ok(plain(200, &json!(of.map(session_json).collect::<Vec<_>>())))
            }
            _ => Err(Fault::new(404, format!("{} session/{rest} is not served", asked.method))),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnText {
    #[serde(rename = "KV")]
    kv: OpText,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpText {
    verb: String,
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    flags: u64,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    session: String,
}

impl OpText {
    fn op(self) -> Result<Op, Fault> {
        let OpText { verb, key, value, flags, index, session } = self;
        let value = STANDARD
            .decode(value.unwrap_or_default())
            .map_err(|error| Fault::new(400, format!("Failed to parse body: {error}")))?;
        let session = SessionId::new(&session);
        Ok(match verb.as_str() {
            "set" => Op::Set { key, flags, value },
            "cas" => Op::Cas { key, index, flags, value },
            "lock" => Op::Lock { key, session, flags, value },
            "unlock" => Op::Unlock { key, session, flags, value },
            "get" => Op::Get { key },
            "get-tree" => Op::GetTree { key },
            "check-index" => Op::CheckIndex { key, index },
            "check-session" => Op::CheckSession { key, session },
            "check-not-exists" => Op::CheckNotExists { key },
            "delete" => Op::Delete { key },
            "delete-tree" => Op::DeleteTree { key },
            "delete-cas" => Op::DeleteCas { key, index },
            other => Op::Unknown { verb: other.to_owned() },
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SpecText {
    name: String,
    node: String,
    #[serde(rename = "TTL")]
    ttl: String,
    lock_delay: Option<String>,
    behavior: String,
}

fn spec_of(asked: &Asked<'_>) -> Result<Spec, Fault> {
    let bad = |what: String| Fault::new(400, format!("Request decode failed: {what}"));
    let text: SpecText = match asked.body {
        [] => SpecText::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    let span = |text: &str| duration(text).ok_or_else(|| bad(format!("duration {text:?}")));
    Ok(Spec {
        name: text.name,
        node: if text.node.is_empty() { asked.node.to_owned() } else { text.node },
        ttl: if text.ttl.is_empty() { None } else { Some(span(&text.ttl)?) },
        ttl_text: text.ttl,
        lock_delay: text.lock_delay.as_deref().map_or(Ok(LOCK_DELAY), span)?,
        behavior: match text.behavior.as_str() {
            "delete" => Behavior::Delete,
            "" | "release" => Behavior::Release,
            other => {
                return Err(Fault::new(500, format!("Invalid Behavior setting '{other}'")));
            }
        },
    })
}

fn plain(status: u16, body: &Value) -> Reply {
    Reply { status, index: None, body: body.to_string() }
}

fn rows_reply(seen: &Seen) -> Reply {
    let rows: Vec<Value> = seen.rows.iter().map(|(key, row)| row_json(key, row, true)).collect();
    match rows.is_empty() {
        true => Reply { status: 404, index: Some(seen.index), body: String::new() },
        false => Reply { index: Some(seen.index), ..plain(200, &Value::Array(rows)) },
    }
}

fn row_json(key: &str, row: &Row, whole: bool) -> Value {
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

fn session_json(session: &Session) -> Value {
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

fn split(target: &str) -> (String, Flags) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let flags = query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    });
    (decoded(path), flags.collect())
}

/// Percent-encoding; what is none of it stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number(flags: &Flags, name: &str) -> Result<Option<u64>, Fault> {
    let Some(text) = flags.get(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Fault::new(400, format!("Invalid {name} {text:?}"))),
    }
}

/// Go's, without fractions: `15s`, `1500ms`, `1m30s`.
fn duration(text: &str) -> Option<Span> {
    let (mut rest, mut total) = (text, 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[end..];
    }
    Some(Span(total))
}
