//! The store on real Consul: one pooled HTTP client, used by rs-consul where it serves (plain reads
//! of our keys, service nodes) and by calls of our own where it has none (transactions, sessions,
//! agent, blocking queries that survive a missing key, health with checks).
//!
//! Invariants: every call ends within its timeout; a write goes out at most once, and when it may
//! have gone out without a definite answer it is `Unknown`; the token travels in its header alone.
//! What it must not do: decide anything, or repeat a write.

mod acl;
mod address;
mod agent;
mod client;
mod error;
mod ext;
mod health;
mod kv;
mod secret;
mod session;
mod txn;
mod walk;
mod watch;

pub use address::{Address, Scheme};
pub use client::Tls;
pub use error::SetupError;
pub use health::{HealthCheck, HealthEntry};
pub use kv::ServiceNode;
pub use secret::Secret;

use crate::decide::call::{Answer, Call, StoreError};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::Index;
use crate::store::{Store, Watched};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

/// Where Consul is and how to talk to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tried in turn; the first is the node's own agent.
    pub addresses: Vec<Address>,
    pub token: Option<Secret>,
    pub tls: Tls,
}

/// The store on real Consul. Clones share connections, token and the address that last worked.
#[derive(Clone)]
pub struct ConsulStore {
    inner: Arc<Inner>,
}

struct Inner {
    http: RwLock<client::Http>,
    addresses: Vec<Address>,
    /// The position in `addresses` where the next call starts.
    preferred: AtomicUsize,
    token: RwLock<Option<Secret>>,
}

impl ConsulStore {
    /// Builds the client. Nothing is sent yet.
    pub fn new(settings: Settings) -> Result<ConsulStore, SetupError> {
        if settings.addresses.is_empty() {
            return Err(SetupError::NoAddress);
        }
        let http = client::build(&settings.tls, uses_tls(&settings.addresses))?;
        Ok(ConsulStore {
            inner: Arc::new(Inner {
                http: RwLock::new(http),
                addresses: settings.addresses,
                preferred: AtomicUsize::new(0),
                token: RwLock::new(settings.token),
            }),
        })
    }

    /// Replaces the token; calls that start from now on carry the new one.
    pub fn set_token(&self, token: Option<Secret>) {
        *self.inner.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Replaces the certificates; calls that start from now on make new connections with the new
    /// ones. On an error the old ones stay.
    pub fn set_tls(&self, tls: &Tls) -> Result<(), SetupError> {
        let http = client::build(tls, uses_tls(&self.inner.addresses))?;
        *self.inner.http.write().unwrap_or_else(PoisonError::into_inner) = http;
        Ok(())
    }

    /// The same addresses and connections with another token, to try it.
    pub fn with_token(&self, token: Secret) -> ConsulStore {
        ConsulStore {
            inner: Arc::new(Inner {
                http: RwLock::new(self.http()),
                addresses: self.inner.addresses.clone(),
                preferred: AtomicUsize::new(0),
                token: RwLock::new(Some(token)),
            }),
        }
    }

    fn token(&self) -> Option<Secret> {
        self.inner.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn http(&self) -> client::Http {
        self.inner.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn uses_tls(addresses: &[Address]) -> bool {
    addresses.iter().any(|address| address.scheme() == Scheme::Https)
}

impl Store for ConsulStore {
    async fn call(&self, call: Call, timeout: Span) -> Result<Answer, StoreError> {
        match call {
            Call::Txn(verbs) => self.txn(&verbs, timeout).await.map(Answer::Txn),
            Call::Read { key, recurse } => {
                walk::within(timeout, self.read(&key, recurse, timeout)).await.map(Answer::Entries)
            }
            Call::SessionCreate { name, ttl } => {
                self.session_create(&name, ttl, timeout).await.map(Answer::Session)
            }
            Call::SessionRenew(id) => self.session_renew(&id, timeout).await.map(|()| Answer::Done),
            Call::SessionDestroy(id) => {
                self.session_destroy(&id, timeout).await.map(|()| Answer::Done)
            }
            Call::Register(registration) => {
                let both = self.register(&registration, timeout);
                walk::within(timeout, both).await.map(|()| Answer::Done)
            }
            Call::Deregister { id } => self.deregister(&id, timeout).await.map(|()| Answer::Done),
            Call::CheckUpdate { id, passing, output } => {
                self.check_update(&id, passing, &output, timeout).await.map(|()| Answer::Done)
            }
            Call::Registered(wanted) => self.registered(&wanted, timeout).await.map(Answer::Known),
            Call::Passing { service } => self.passing(&service, timeout).await.map(Answer::Passing),
        }
    }

    async fn watch(
        &self,
        key: &Key,
        recurse: bool,
        after: Option<Index>,
        wait: Span,
    ) -> Result<Watched, StoreError> {
        self.blocking_query(key, recurse, after, wait).await
    }
}
