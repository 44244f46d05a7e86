//! Transactions: verbs to Consul's JSON and back.
//!
//! Invariant: a transaction of reads alone is made with `?consistent`, and only such a one may be
//! asked of a second address after it was sent. 409 means rolled back as a whole; the first failed
//! operation names why.

use super::ConsulStore;
use super::error::{Failure, Kind, describe, judge};
use super::ext::{Ask, Reply};
use super::kv::KvEntry;
use super::walk::Scope;
use crate::decide::call::{Entry, StoreError, Verb};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::{Index, SessionId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Consul's limits; over them it answers 413 and may close in mid-body, which would read as
/// unknown.
const VERBS_MAX: usize = 64;
const BODY_MAX: usize = 512 * 1024;

#[derive(Serialize)]
struct Op<'a> {
    #[serde(rename = "KV")]
    kv: KvOp<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KvOp<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    #[serde(default)]
    results: Option<Vec<OpResult>>,
    #[serde(default)]
    errors: Option<Vec<OpError>>,
}

#[derive(Deserialize)]
struct OpResult {
    #[serde(rename = "KV")]
    kv: Option<KvEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpError {
    op_index: u16,
    what: String,
}

impl ConsulStore {
    pub(super) async fn txn(&self, verbs: &[Verb], limit: Span) -> Result<Vec<Entry>, StoreError> {
        if verbs.len() > VERBS_MAX {
            return Err(StoreError::Refused(format!("{} verbs, at most {VERBS_MAX}", verbs.len())));
        }
        let ops: Vec<Op<'_>> = verbs.iter().map(|verb| Op { kv: op_of(verb) }).collect();
        let body = serde_json::to_vec(&ops).expect("strings and numbers only");
        if body.len() > BODY_MAX {
            return Err(StoreError::Refused(format!("{} bytes, at most {BODY_MAX}", body.len())));
        }
        let is_read = verbs.iter().all(Verb::is_read);
        let (path, kind) = match is_read {
            true => ("/v1/txn?consistent", Kind::Read),
            false => ("/v1/txn", Kind::Write),
        };
        let ask = Ask { kind, ..Ask::write(path.to_string(), body) };
        self.exchange(&ask, Scope::Any, limit, |reply| understand(verbs, &reply)).await
    }
}

fn op_of(verb: &Verb) -> KvOp<'_> {
    fn op<'a>(
        verb: &'static str,
        key: &'a Key,
        index: Option<Index>,
        session: Option<&'a SessionId>,
        value: Option<&[u8]>,
    ) -> KvOp<'a> {
        KvOp {
            verb,
            key: key.as_str(),
            value: value.map(|bytes| STANDARD.encode(bytes)),
            index: index.map(|index| index.0),
            session: session.map(SessionId::as_str),
        }
    }
    match verb {
        Verb::GetTree(key) => op("get-tree", key, None, None, None),
        Verb::CheckIndex(key, index) => op("check-index", key, Some(*index), None, None),
        Verb::CheckNotExists(key) => op("check-not-exists", key, None, None, None),
        Verb::CheckSession(key, id) => op("check-session", key, None, Some(id), None),
        Verb::Set(key, value) => op("set", key, None, None, Some(value)),
        Verb::Cas(key, index, value) => op("cas", key, Some(*index), None, Some(value)),
        Verb::Lock(key, id, value) => op("lock", key, None, Some(id), Some(value)),
        Verb::Unlock(key, id, value) => op("unlock", key, None, Some(id), Some(value)),
        Verb::DeleteCas(key, index) => op("delete-cas", key, Some(*index), None, None),
        Verb::Delete(key) => op("delete", key, None, None, None),
    }
}

fn understand(verbs: &[Verb], reply: &Reply) -> Result<Vec<Entry>, Failure> {
    if reply.status == StatusCode::CONFLICT {
        return Err(Failure::Final(rolled_back(reply)));
    }
    if !reply.status.is_success() {
        return Err(judge(reply.status, &reply.body));
    }
    let outcome: Outcome = reply.json()?;
    let results = outcome.results.unwrap_or_default().into_iter().filter_map(|result| result.kv);
    let entries = results.map(KvEntry::into_entry).collect::<Result<Vec<_>, _>>()?;
    assign(verbs, entries)
        .ok_or_else(|| Failure::Lost("answer does not fit the transaction".to_string()))
}

/// A denied operation is reported as a conflict too; it is told apart here.
fn rolled_back(reply: &Reply) -> StoreError {
    let errors = reply.json::<Outcome>().ok().and_then(|outcome| outcome.errors);
    let errors = errors.unwrap_or_default();
    if let Some(denied) = errors.iter().find(|error| error.what.contains("Permission denied")) {
        return StoreError::Denied(format!("operation {}: {}", denied.op_index, denied.what));
    }
    match errors.into_iter().next() {
        Some(first) => StoreError::Conflict { op: Some(first.op_index), what: first.what },
        None => StoreError::Conflict { op: None, what: describe(reply.status, &reply.body) },
    }
}

/// Results carry no operation number, and the checks' ones are noise: takes the results of each
/// verb in turn and keeps what was got or written, the latter with the bytes that were written.
/// `None`: they don't fit.
fn assign(verbs: &[Verb], results: Vec<Entry>) -> Option<Vec<Entry>> {
    let mut results = results.into_iter().peekable();
    let mut kept = Vec::new();
    for (position, verb) in verbs.iter().enumerate() {
        match verb {
            Verb::GetTree(prefix) => {
                let reserved: usize = verbs[position + 1..].iter().map(results_of).sum();
                while results.len() > reserved {
                    match results.next_if(|entry| entry.key.as_str().starts_with(prefix.as_str())) {
                        Some(entry) => kept.push(entry),
                        None => break,
                    }
                }
            }
            Verb::CheckIndex(..) | Verb::CheckSession(..) => {
                results.next()?;
            }
            Verb::CheckNotExists(_) | Verb::DeleteCas(..) | Verb::Delete(_) => {}
            Verb::Set(_, value)
            | Verb::Cas(_, _, value)
            | Verb::Lock(_, _, value)
            | Verb::Unlock(_, _, value) => {
                let written = results.next()?;
                kept.push(Entry { value: value.clone(), ..written });
            }
        }
    }
    results.next().is_none().then_some(kept)
}

/// How many results a verb has at least; exactly, but for `get-tree`.
fn results_of(verb: &Verb) -> usize {
    match verb {
        Verb::GetTree(_) | Verb::CheckNotExists(_) | Verb::DeleteCas(..) | Verb::Delete(_) => 0,
        Verb::CheckIndex(..)
        | Verb::CheckSession(..)
        | Verb::Set(..)
        | Verb::Cas(..)
        | Verb::Lock(..)
        | Verb::Unlock(..) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, modify: u64) -> Entry {
        Entry { key: Key::new(key), value: vec![], modify: Index(modify), session: None }
    }

    #[test]
    fn results_go_to_their_verbs_and_checks_are_dropped() {
        let tree = Verb::GetTree(Key::new("a/"));
        let check = Verb::CheckIndex(Key::new("a/x"), Index(1));
        let cas = Verb::Cas(Key::new("a/y"), Index(1), b"new".to_vec());
        let gone = Verb::DeleteCas(Key::new("a/z"), Index(1));
        let answer = vec![entry("a/x", 1), entry("a/y", 2), entry("a/x", 1), entry("a/y", 3)];
        let kept = assign(&[tree, check, gone, cas], answer).expect("they fit");
        let kept: Vec<_> = kept.iter().map(|e| (e.modify.0, e.value.as_slice())).collect();
        assert_eq!(kept, [(1, &b""[..]), (2, b""), (3, b"new")]);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_not_believed() {
        let cas = Verb::Cas(Key::new("a"), Index(1), vec![]);
        assert_eq!(assign(std::slice::from_ref(&cas), vec![]), None);
        assert_eq!(assign(&[cas], vec![entry("a", 1), entry("b", 1)]), None);
        assert_eq!(assign(&[Verb::GetTree(Key::new("a"))], vec![entry("b", 1)]), None);
    }
}
