//! Short forms for tests of the store: stores, keys and calls of a cluster `orders`, kinds of
//! errors.

use lictor::consul::{ConsulStore, Secret, Settings, Tls};
use lictor::decide::call::{Call, Registration, StoreError, Verb};
use lictor::decide::keys::Key;
use lictor::decide::time::Span;
use lictor::decide::types::Index;
use lictor::store::{Store, Watched};
use std::collections::BTreeMap;
use std::time::Duration;

/// Generous, for what must succeed.
pub const LIMIT: Span = Span(10_000);
/// For what must not be answered.
pub const SHORT: Span = Span(400);
/// A watch that is woken returns far sooner; one that is not would take all of it.
pub const LONG_WAIT: Span = Span(60_000);
/// "At once", on a machine that others use too.
pub const SOON: Duration = Duration::from_secs(5);

pub fn store_at<S: AsRef<str>>(addresses: &[S]) -> ConsulStore {
    store_with(addresses, None, Tls::default())
}

pub fn store_with<S: AsRef<str>>(addresses: &[S], token: Option<&str>, tls: Tls) -> ConsulStore {
    let addresses = addresses.iter().map(|a| a.as_ref().parse().expect("host:port")).collect();
    let token = token.map(Secret::new);
    ConsulStore::new(Settings { addresses, token, tls }).expect("good settings")
}

pub fn key(text: &str) -> Key {
    Key::new(&format!("lictor/orders/{text}"))
}

pub fn set(name: &str, value: &[u8]) -> Call {
    Call::Txn(vec![Verb::Set(key(name), value.to_vec())])
}

pub fn read(name: &str) -> Call {
    Call::Read { key: key(name), recurse: false }
}

pub async fn watch(store: &ConsulStore, name: &str, after: Option<Index>, wait: Span) -> Watched {
    store.watch(&key(name), false, after, wait).await.expect("Consul is up")
}

pub fn is_unknown<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unknown(_)))
}

pub fn is_not_sent<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotSent(_)))
}

pub fn is_denied<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Denied(_)))
}

pub fn is_refused<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(_)))
}

/// A registration of node `n1` of the service `orders`.
pub fn service(id: &str, passing: bool) -> Registration {
    Registration {
        id: id.to_string(),
        service: "orders".to_string(),
        address: "127.0.0.1".to_string(),
        port: 3306,
        tags: vec!["primary".to_string()],
        meta: BTreeMap::from([("epoch".to_string(), "3".to_string())]),
        ttl: Span::secs(10),
        passing,
        output: "it serves".to_string(),
    }
}
