//! What a reply or its absence means: the one place that turns HTTP into [`StoreError`].
//!
//! Invariant: a 5xx never counts as "not done" unless its text can only come from before the write
//! was handed to raft. Consul forwards and retries inside; `No cluster leader` is not in that list.

use crate::decide::call::StoreError;
use http::StatusCode;

/// Error texts are cut here: enough for every message of Consul, never a page of a proxy.
const TEXT_MAX: usize = 300;

/// 500s of Consul that are refusals (1.8.7; later versions answer 4xx): checked before the write.
const REFUSALS: [&str; 6] = [
    "Invalid Session TTL",
    "does not have associated TTL",
    "Unknown check",
    "Unknown service",
    "failed session lookup: index error",
    "Missing check",
];

/// The agent had no server to send the request to, so nobody has it.
const NOBODY_HAS_IT: &str = "No known Consul servers";

/// Denials that some endpoints answer as 500.
const DENIALS: [&str; 2] = ["Permission denied", "ACL not found"];

/// Why the store could not be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    #[error("no address of Consul is given")]
    NoAddress,
    #[error("Consul address {text:?}: {why}")]
    Address { text: String, why: &'static str },
    #[error("TLS for Consul: {0}")]
    Tls(String),
}

/// Whether a request may be repeated after it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    Write,
}

/// How one attempt at one address failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// This address did not take the request: another one may.
    NotSent(String),
    /// Sent, or perhaps sent, and no definite answer: a read may go on to another address.
    Lost(String),
    /// A definite answer, whoever is asked.
    Final(StoreError),
}

/// The meaning of a reply that is not 2xx.
pub(super) fn judge(status: StatusCode, body: &[u8]) -> Failure {
    let text = describe(status, body);
    let is_one_of = |list: &[&str]| list.iter().any(|part| text.contains(part));
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return Failure::Final(StoreError::Denied(text));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::NotSent(text);
    }
    if status.is_client_error() {
        return Failure::Final(StoreError::Refused(text));
    }
    if is_one_of(&DENIALS) {
        return Failure::Final(StoreError::Denied(text));
    }
    if is_one_of(&REFUSALS) {
        return Failure::Final(StoreError::Refused(text));
    }
    if text.contains(NOBODY_HAS_IT) {
        return Failure::NotSent(text);
    }
    Failure::Lost(text)
}

/// `500: text`, cut to a length for a log line.
pub(super) fn describe(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let cut: String = text.trim().chars().take(TEXT_MAX).collect();
    format!("{}: {cut}", status.as_u16())
}

/// An error with all its causes: hyper hides the useful one innermost.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_definite_only_where_its_text_proves_it() {
        let cases = [
            (403, "Permission denied", "denied"),
            (403, "ACL not found", "denied"),
            (500, "rpc error making call: Permission denied", "denied"),
            (400, "Conflicting flags", "refused"),
            (413, "too many", "refused"),
            (429, "slow down", "not sent"),
            (500, "Invalid Session TTL '9'", "refused"),
            (500, "No cluster leader", "lost"),
            (500, "leadership lost while committing log", "lost"),
            (502, "<html>a proxy's page</html>", "lost"),
            (500, "No known Consul servers", "not sent"),
        ];
        for (status, body, expected) in cases {
            let status = StatusCode::from_u16(status).expect("a status of this table");
            let found = match judge(status, body.as_bytes()) {
                Failure::NotSent(_) => "not sent",
                Failure::Lost(_) => "lost",
                Failure::Final(StoreError::Denied(_)) => "denied",
                Failure::Final(_) => "refused",
            };
            assert_eq!(found, expected, "{status} {body}");
        }
    }
}
