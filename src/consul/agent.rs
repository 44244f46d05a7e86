//! The node's own agent: registration, the TTL check, maintenance.
//!
//! Invariant: only the first address is asked; what another agent registers would be another
//! node's.

use super::ConsulStore;
use super::error::Failure;
use super::ext::{Ask, path_of};
use super::walk::Scope;
use crate::decide::call::{Registration, StoreError};
use crate::decide::time::Span;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: &'a str,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    check: NewCheck,
}

#[derive(Serialize)]
struct NewCheck {
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(rename = "Name")]
    name: &'static str,
    #[serde(rename = "TTL")]
    ttl: String,
    #[serde(rename = "Status")]
    status: &'static str,
}

/// What the agent holds; missing lists and tables are `null`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OldService {
    service: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

impl OldService {
    fn is(self, wanted: &Registration) -> bool {
        self.service == wanted.service
            && self.address == wanted.address
            && self.port == wanted.port
            && self.tags.unwrap_or_default() == wanted.tags
            && self.meta.unwrap_or_default() == wanted.meta
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckState<'a> {
    status: &'static str,
    output: &'a str,
}

impl ConsulStore {
    /// Registers the service with its check in one request; then tells the check's output, for
    /// which the registration has no place. The agent passes an output on with a change of status,
    /// else minutes later (`check_update_interval`): what must be seen soon belongs into tags or
    /// meta.
    pub(super) async fn register(
        &self,
        registration: &Registration,
        limit: Span,
    ) -> Result<(), StoreError> {
        let service = NewService {
            id: &registration.id,
            name: &registration.service,
            address: &registration.address,
            port: registration.port,
            tags: &registration.tags,
            meta: &registration.meta,
            check: NewCheck {
                id: check_id(&registration.id),
                name: "lictor",
                ttl: format!("{}ms", registration.ttl.0),
                // Without it a new check starts critical, and an old one keeps what it said.
                status: status(registration.passing),
            },
        };
        let body = serde_json::to_vec(&service).expect("strings and numbers only");
        let path = "/v1/agent/service/register?replace-existing-checks=true".to_string();
        let ask = Ask::write(path, body);
        self.exchange(&ask, Scope::OwnAgent, limit, |reply| reply.accepted().map(drop)).await?;
        if registration.output.is_empty() {
            return Ok(());
        }
        self.check_update(&registration.id, registration.passing, &registration.output, limit).await
    }

    /// Done too when the agent does not know the service.
    pub(super) async fn deregister(&self, id: &str, limit: Span) -> Result<(), StoreError> {
        let ask = Ask::write(format!("/v1/agent/service/deregister/{}", path_of(id)), "");
        self.exchange(&ask, Scope::OwnAgent, limit, |reply| match reply.status {
            StatusCode::NOT_FOUND => Ok(()),
            // With ACLs 1.8.7 looks for the service first, to know whose it is.
            _ if reply.body.starts_with(b"Unknown service") => Ok(()),
            _ => reply.accepted().map(drop),
        })
        .await
    }

    /// `Refused` when the agent has forgotten the check: register again.
    pub(super) async fn check_update(
        &self,
        id: &str,
        passing: bool,
        output: &str,
        limit: Span,
    ) -> Result<(), StoreError> {
        let body = serde_json::to_vec(&CheckState { status: status(passing), output })
            .expect("strings only");
        let path = format!("/v1/agent/check/update/{}", path_of(&check_id(id)));
        let ask = Ask::write(path, body);
        self.exchange(&ask, Scope::OwnAgent, limit, |reply| reply.accepted().map(drop)).await
    }

    /// Whether the agent knows it, and as it is wanted: a registration that timed out may be
    /// applied late, over a newer one.
    pub(super) async fn registered(
        &self,
        wanted: &Registration,
        limit: Span,
    ) -> Result<bool, StoreError> {
        let ask = Ask::read(format!("/v1/agent/service/{}", path_of(&wanted.id)));
        self.exchange(&ask, Scope::OwnAgent, limit, |reply| match reply.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => Ok(reply.accepted()?.json::<OldService>()?.is(wanted)),
        })
        .await
    }

    /// Adds (or removes) a critical check that takes the service out of every healthy list.
    pub async fn maintenance(
        &self,
        id: &str,
        on: bool,
        reason: &str,
        limit: Span,
    ) -> Result<(), StoreError> {
        let path = format!(
            "/v1/agent/service/maintenance/{}?enable={on}&reason={}",
            path_of(id),
            path_of(reason)
        );
        let ask = Ask::write(path, "");
        let known = |reply: super::ext::Reply| match reply.status {
            StatusCode::NOT_FOUND => {
                Err(Failure::Final(StoreError::Refused(format!("the agent knows no service {id}"))))
            }
            _ => reply.accepted().map(drop),
        };
        self.exchange(&ask, Scope::OwnAgent, limit, known).await
    }
}

fn check_id(service: &str) -> String {
    format!("service:{service}")
}

fn status(passing: bool) -> &'static str {
    match passing {
        true => "passing",
        false => "critical",
    }
}
