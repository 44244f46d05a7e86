//! Writes of keys.

use super::super::{Fault, Memory, Mode};
use super::decode::{Flags, number};
use super::{Reply, too_large};
use crate::decide::time::At;
use crate::decide::types::SessionId;
use serde_json::json;

impl Memory {
    pub(super) fn kv_put(
        &mut self,
        now: At,
        key: &str,
        flags: &Flags,
        body: &[u8],
    ) -> Result<Reply, Fault> {
        if key.is_empty() {
            return Err(Fault::new(400, "Missing key name"));
        }
        let modes = ["cas", "acquire", "release"].map(|name| flags.contains_key(name));
        if modes.iter().filter(|given| **given).count() > 1 {
            return Err(Fault::new(400, "Conflicting flags"));
        }
        if let Some(reply) = too_large("/v1/kv", body.len()) {
            return Ok(reply);
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
        Ok(Reply::json(&json!(done)))
    }

    pub(super) fn kv_delete(&mut self, key: &str, flags: &Flags) -> Result<Reply, Fault> {
        if flags.contains_key("recurse") {
            if flags.contains_key("cas") {
                return Err(Fault::new(400, "Conflicting flags"));
            }
            self.delete_under(key)?;
            return Ok(Reply::json(&json!(true)));
        }
        if key.is_empty() {
            return Err(Fault::new(400, "Missing key name"));
        }
        let done = self.delete(key, number(flags, "cas")?)?;
        Ok(Reply::json(&json!(done)))
    }
}
