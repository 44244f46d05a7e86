//! The health of a service with its checks and meta, which rs-consul leaves out.

use super::ConsulStore;
use super::ext::{Ask, path_of};
use super::walk::Scope;
use crate::decide::call::StoreError;
use crate::decide::time::Span;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One instance of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthEntry {
    /// The Consul node, not ours.
    pub node: String,
    pub id: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    pub checks: Vec<HealthCheck>,
}

impl HealthEntry {
    pub fn is_passing(&self) -> bool {
        self.checks.iter().all(|check| check.status == "passing")
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct HealthCheck {
    #[serde(rename = "CheckID")]
    pub id: String,
    #[serde(rename = "Status")]
    pub status: String,
    #[serde(rename = "Output")]
    pub output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    node: RawNode,
    service: RawService,
    #[serde(default)]
    checks: Vec<HealthCheck>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

impl ConsulStore {
    /// All instances, healthy or not. Under default-deny an anonymous reader gets an empty list:
    /// prove the token before an empty answer counts.
    pub async fn health(&self, service: &str, limit: Span) -> Result<Vec<HealthEntry>, StoreError> {
        let ask = Ask::read(format!("/v1/health/service/{}", path_of(service)));
        self.exchange(&ask, Scope::Any, limit, |reply| {
            let list: Vec<Raw> = reply.accepted()?.json()?;
            Ok(list.into_iter().map(entry).collect())
        })
        .await
    }
}

impl ConsulStore {
    /// Who passes: by the meta `node`, or by the id where there is none.
    pub(super) async fn passing(
        &self,
        service: &str,
        limit: Span,
    ) -> Result<BTreeSet<String>, StoreError> {
        let name = |mut entry: HealthEntry| entry.meta.remove("node").unwrap_or(entry.id);
        let all = self.health(service, limit).await?;
        Ok(all.into_iter().filter(HealthEntry::is_passing).map(name).collect())
    }
}

fn entry(raw: Raw) -> HealthEntry {
    let address = match raw.service.address.is_empty() {
        true => raw.node.address,
        false => raw.service.address,
    };
    HealthEntry {
        node: raw.node.node,
        id: raw.service.id,
        address,
        port: raw.service.port,
        tags: raw.service.tags.unwrap_or_default(),
        meta: raw.service.meta.unwrap_or_default(),
        checks: raw.checks,
    }
}
