//! Sessions: made, renewed, ended.

use super::super::{Behavior, Fault, Memory, Spec};
use super::decode::duration;
use super::read::session_json;
use super::{Asked, Reply};
use crate::decide::time::{At, Span};
use crate::decide::types::SessionId;
use serde::Deserialize;
use serde_json::{Value, json};

const LOCK_DELAY: Span = Span::secs(15);
/// A number of nanoseconds, unless it is so small that only seconds can be meant.
const SECONDS_BELOW: u64 = 1_000;

impl Memory {
    pub(super) fn session_text(
        &mut self,
        now: At,
        asked: &Asked<'_>,
        path: &str,
        id: &str,
    ) -> Result<Reply, Fault> {
        if path == "session/create" {
            let id = self.session_create(now, spec_of(asked)?)?;
            return Ok(Reply::json(&json!({"ID": id})));
        }
        let id = SessionId::new(id);
        if id.as_str().is_empty() {
            return Err(Fault::new(400, "Missing session"));
        }
        check(&id)?;
        if path == "session/destroy/" {
            self.session_destroy(now, &id)?;
            return Ok(Reply::json(&json!(true)));
        }
        match self.session_renew(now, &id)? {
            Some(session) => Ok(Reply::json(&json!([session_json(&session)]))),
            None => Err(Fault::new(404, format!("Session id '{id}' not found"))),
        }
    }
}

/// Consul looks sessions up by 36 characters, no others.
pub(super) fn check(id: &SessionId) -> Result<(), Fault> {
    super::super::session::uuid(id).map_err(|text| Fault::new(500, text))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SpecText {
    name: String,
    node: String,
    #[serde(rename = "TTL")]
    ttl: String,
    lock_delay: Value,
    behavior: String,
}

fn spec_of(asked: &Asked<'_>) -> Result<Spec, Fault> {
    let bad = |what: String| Fault::new(400, format!("Request decode failed: {what}"));
    let text: SpecText = match asked.body {
        [] => SpecText::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    let lock_delay = match &text.lock_delay {
        Value::Null => LOCK_DELAY,
        Value::String(text) => duration(text).map_err(bad)?,
        other => match other.as_u64() {
            Some(seconds) if seconds < SECONDS_BELOW => Span::secs(seconds),
            Some(nanos) => Span(nanos.div_ceil(1_000_000)),
            None => return Err(bad(format!("{other} is no duration"))),
        },
    };
    let ttl = match text.ttl.as_str() {
        "" => None,
        ttl => {
            let bad = |why| Fault::new(500, format!("Session TTL '{ttl}' invalid: {why}"));
            Some(duration(ttl).map_err(bad)?)
        }
    };
    Ok(Spec {
        name: text.name,
        node: if text.node.is_empty() { asked.node.to_owned() } else { text.node },
        ttl,
        ttl_text: text.ttl,
        lock_delay,
        behavior: match text.behavior.as_str() {
            "delete" => Behavior::Delete,
            "" | "release" => Behavior::Release,
            other => {
                return Err(Fault::new(500, format!("Invalid Behavior setting '{other}'")));
            }
        },
    })
}
