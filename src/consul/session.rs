//! Sessions: behavior `release`, lock-delay `1ms`, no checks at all.
//!
//! Checks would end a session for reasons that have nothing to do with the lease (DESIGN of the
//! election trusts no session anyway). Both forms of "no checks" are sent: 1.8 knows `NodeChecks`,
//! older ones `Checks` alone, and leaving either out means `serfHealth`.

use super::ConsulStore;
use super::error::Failure;
use super::ext::{Ask, path_of};
use super::walk::Scope;
use crate::decide::call::StoreError;
use crate::decide::time::Span;
use crate::decide::types::SessionId;
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// "0s" is refused by later versions; our own wait replaces the delay.
const LOCK_DELAY: &str = "1ms";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
    lock_delay: &'static str,
    checks: [&'static str; 0],
    node_checks: [&'static str; 0],
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl ConsulStore {
    pub(super) async fn session_create(
        &self,
        name: &str,
        ttl: Span,
        limit: Span,
    ) -> Result<SessionId, StoreError> {
        let session = NewSession {
            name,
            ttl: format!("{}ms", ttl.0),
            behavior: "release",
            lock_delay: LOCK_DELAY,
            checks: [],
            node_checks: [],
        };
        let body = serde_json::to_vec(&session).expect("strings only");
        let ask = Ask::write("/v1/session/create".to_string(), body);
        self.exchange(&ask, Scope::Any, limit, |reply| {
            Ok(SessionId::new(&reply.accepted()?.json::<Created>()?.id))
        })
        .await
    }

    /// Not a proof of holding anything: it is answered from one server's memory.
    pub(super) async fn session_renew(
        &self,
        id: &SessionId,
        limit: Span,
    ) -> Result<(), StoreError> {
        let ask = Ask::write(format!("/v1/session/renew/{}", path_of(id.as_str())), "");
        self.exchange(&ask, Scope::Any, limit, |reply| {
            if reply.status == StatusCode::NOT_FOUND {
                return Err(Failure::Final(StoreError::SessionGone));
            }
            reply.accepted().map(drop)
        })
        .await
    }

    /// Done too when there is no such session.
    pub(super) async fn session_destroy(
        &self,
        id: &SessionId,
        limit: Span,
    ) -> Result<(), StoreError> {
        let ask = Ask::write(format!("/v1/session/destroy/{}", path_of(id.as_str())), "");
        self.exchange(&ask, Scope::Any, limit, |reply| reply.accepted().map(drop)).await
    }
}
