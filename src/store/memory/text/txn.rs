//! Transactions of keys; those of nodes, services and checks are not served.

use super::super::{Fault, Memory, Op, TxnError};
use super::read::row_json;
use super::{Body, Reply, too_large};
use crate::decide::time::At;
use crate::decide::types::SessionId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

impl Memory {
    pub(super) fn txn_text(&mut self, now: At, body: &[u8]) -> Result<Reply, Fault> {
        if let Some(reply) = too_large("/v1/txn", body.len()) {
            return Ok(reply);
        }
        let bad = |what: String| Fault::new(400, format!("Failed to parse body: {what}"));
        let parsed: Vec<TxnText> =
            serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        let ops = parsed
            .into_iter()
            .map(|text| text.kv.ok_or_else(|| bad("only KV operations are served here".into())))
            .map(|text| text?.op())
            .collect::<Result<Vec<Op>, Fault>>()?;
        let (status, mut value) = match self.txn(now, &ops)? {
            Ok(rows) => {
                let rows: Vec<Value> = rows
                    .iter()
                    .map(|(key, row, whole)| json!({"KV": row_json(key, row, *whole)}))
                    .collect();
                (200, json!({"Results": rows, "Errors": null}))
            }
            Err(errors) => (409, json!({"Results": null, "Errors": told(&errors)})),
        };
        let is_read = ops.iter().all(Op::is_read);
        if is_read {
            // Answered without raft, it tells of the read.
            value["Index"] = json!(0);
            value["LastContact"] = json!(0);
            value["KnownLeader"] = json!(true);
            value["ConsistencyLevel"] = json!("");
        }
        Ok(Reply { is_read, ..Reply::new(status, Body::Json(value.to_string())) })
    }
}

fn told(errors: &[TxnError]) -> Vec<Value> {
    let one = |error: &TxnError| json!({"OpIndex": error.op, "What": error.what});
    errors.iter().map(one).collect()
}

#[derive(Deserialize)]
struct TxnText {
    #[serde(rename = "KV")]
    kv: Option<OpText>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct OpText {
    verb: String,
    key: String,
    value: Option<String>,
    flags: u64,
    index: u64,
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
