//! Reads that rs-consul serves: plain keys of ours, and the nodes of a service.
//!
//! Only here is rs-consul named. It knows no time limit on KV calls (ours is `walk`'s), loses the
//! index of a missing key (`watch` has it), and fails a whole read on one value that is not UTF-8:
//! such a value, put there by hand, is read again by our own call. What it must not do: write,
//! lock, or take a namespace or datacenter.

#![expect(clippy::disallowed_types, reason = "the one place that names rs-consul's client")]

use super::ConsulStore;
use super::error::{Failure, Kind, judge};
use super::ext::{Ask, Reply, Sent, is_plain, path_of};
use super::walk::{Attempt, Route, Scope};
use crate::decide::call::{Entry, StoreError};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::{Index, SessionId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use rs_consul::{Config, ConsistencyMode, Consul, ConsulError};
use rs_consul::{GetServiceNodesRequest, ReadKeyRequest, ReadKeyResponse};
use serde::Deserialize;

/// One instance of a service, as far as rs-consul tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceNode {
    pub node: String,
    pub id: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
}

/// A KV entry in Consul's JSON; transactions and blocking queries have it too.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KvEntry {
    key: String,
    #[serde(default)]
    value: Option<String>,
    modify_index: u64,
    #[serde(default)]
    session: Option<String>,
}

impl KvEntry {
    pub fn into_entry(self) -> Result<Entry, Failure> {
        let value = STANDARD
            .decode(self.value.unwrap_or_default())
            .map_err(|error| Failure::Lost(format!("value of {}: {error}", self.key)))?;
        Ok(Entry {
            key: Key::new(&self.key),
            value,
            modify: Index(self.modify_index),
            session: self.session.filter(|id| !id.is_empty()).map(|id| SessionId::new(&id)),
        })
    }
}

/// A read by rs-consul; `None` when there is a value that it can't return.
struct PlainRead<'a> {
    store: &'a ConsulStore,
    key: &'a Key,
    recurse: bool,
}

impl Attempt for PlainRead<'_> {
    type Answer = Option<Vec<Entry>>;

    async fn run(&self, at: usize, sent: Sent) -> Result<Option<Vec<Entry>>, Failure> {
        sent.assume();
        let request = ReadKeyRequest {
            key: self.key.as_str(),
            recurse: self.recurse,
            consistency: ConsistencyMode::Consistent,
            ..ReadKeyRequest::default()
        };
        understand_read(self.store.facade(at).read_key(request).await)
    }
}

/// The nodes of a service by rs-consul.
struct Nodes<'a> {
    store: &'a ConsulStore,
    service: &'a str,
}

impl Attempt for Nodes<'_> {
    type Answer = Vec<ServiceNode>;

    async fn run(&self, at: usize, sent: Sent) -> Result<Vec<ServiceNode>, Failure> {
        sent.assume();
        let request =
            GetServiceNodesRequest { service: self.service, ..GetServiceNodesRequest::default() };
        let found = self.store.facade(at).get_service_nodes(request, None).await;
        Ok(found.map_err(failure_of)?.response.into_iter().map(service_node).collect())
    }
}

impl ConsulStore {
    /// A consistent read; a key that is not there is an empty list.
    pub(super) async fn read(
        &self,
        key: &Key,
        recurse: bool,
        limit: Span,
    ) -> Result<Vec<Entry>, StoreError> {
        if !is_plain(key.as_str()) {
            return self.read_raw(key, recurse, limit).await;
        }
        let route = Route { kind: Kind::Read, scope: Scope::Any, limit: limit.to_std() };
        match self.walk(route, PlainRead { store: self, key, recurse }).await? {
            Some(entries) => Ok(entries),
            None => self.read_raw(key, recurse, limit).await,
        }
    }

    /// The same read by our own call, which takes any bytes.
    async fn read_raw(
        &self,
        key: &Key,
        recurse: bool,
        limit: Span,
    ) -> Result<Vec<Entry>, StoreError> {
        let prefix = if recurse { "&recurse" } else { "" };
        let ask = Ask::read(format!("/v1/kv/{}?consistent{prefix}", path_of(key.as_str())));
        self.exchange(&ask, Scope::Any, limit, |reply| entries_of(&reply)).await
    }

    /// Who provides a service, healthy or not; `health` says how they are.
    pub async fn service_nodes(
        &self,
        service: &str,
        limit: Span,
    ) -> Result<Vec<ServiceNode>, StoreError> {
        if !is_plain(service) {
            return Err(StoreError::Refused(format!("service name {service:?}")));
        }
        let route = Route { kind: Kind::Read, scope: Scope::Any, limit: limit.to_std() };
        self.walk(route, Nodes { store: self, service }).await
    }

    /// rs-consul for one address. It takes its token at birth, so each read makes one: a few
    /// strings beside the shared client.
    fn facade(&self, at: usize) -> Consul {
        let config = Config {
            address: self.inner.addresses[at].base().to_string(),
            token: self.token().map(|token| token.expose().to_string()),
            ..Config::default()
        };
        rs_consul::ConsulBuilder::new(config).with_https_client(self.http()).build()
    }
}

/// The entries of a raw KV read; 404 is "none", not an error.
pub(super) fn entries_of(reply: &Reply) -> Result<Vec<Entry>, Failure> {
    if reply.status == StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    let list: Vec<KvEntry> = reply.clone().accepted()?.json()?;
    list.into_iter().map(KvEntry::into_entry).collect()
}

fn understand_read(
    result: Result<rs_consul::ResponseMeta<Vec<ReadKeyResponse>>, ConsulError>,
) -> Result<Option<Vec<Entry>>, Failure> {
    match result {
        Ok(found) => Ok(Some(found.response.into_iter().map(entry).collect())),
        Err(ConsulError::UnexpectedResponseCode(StatusCode::NOT_FOUND, _)) => Ok(Some(Vec::new())),
        Err(ConsulError::InvalidUtf8(_)) => Ok(None),
        Err(other) => Err(failure_of(other)),
    }
}

fn entry(found: ReadKeyResponse) -> Entry {
    Entry {
        key: Key::new(&found.key),
        value: found.value.unwrap_or_default().into_bytes(),
        modify: Index(found.modify_index.unsigned_abs()),
        session: found.session.filter(|id| !id.is_empty()).map(|id| SessionId::new(&id)),
    }
}

fn service_node(found: rs_consul::ServiceNode) -> ServiceNode {
    let address = match found.service.address.is_empty() {
        true => found.node.address,
        false => found.service.address,
    };
    ServiceNode {
        node: found.node.node,
        id: found.service.id,
        address,
        port: found.service.port,
        tags: found.service.tags,
    }
}

/// Reads only, so everything without a status may simply be tried at the next address.
fn failure_of(error: ConsulError) -> Failure {
    match error {
        ConsulError::UnexpectedResponseCode(status, body) => {
            judge(status, body.unwrap_or_default().as_bytes())
        }
        ConsulError::ResponseError(error) if error.is_connect() => {
            Failure::NotSent(super::error::chain(&error))
        }
        other => Failure::Lost(super::error::chain(&other)),
    }
}
