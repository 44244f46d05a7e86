//! What commands that ask have in common: the configuration, the store, and one blocking look at
//! the cluster.

use super::exit::Exit;
use super::output;
use super::settings::ConfigArgs;
use crate::config::{self, Config, Purpose};
use crate::consul::ConsulStore;
use crate::decide::call::{Answer, Call, Entry, StoreError};
use crate::decide::keys::{Key, Keys};
use crate::decide::records::{
    ClusterValue, LeaderValue, MemberValue, PauseValue, SyncValue, TermValue, decode,
};
use crate::decide::time::Span;
use crate::driver;
use crate::http::Connector;
use crate::store::Store;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::future::Future;

/// One request of a person at a terminal; the sidecars' own limit is shorter.
pub const LIMIT: Span = Span::secs(3);

/// A command's connection to its cluster.
pub struct Client {
    pub store: ConsulStore,
    pub keys: Keys,
    pub config: Config,
}

/// What Consul says of the cluster.
pub struct Seen {
    pub leader: Option<LeaderValue>,
    /// Whether a session holds the lock.
    pub locked: bool,
    pub term: Option<TermValue>,
    pub sync: Option<SyncValue>,
    pub cluster: Option<ClusterValue>,
    pub pause: Option<PauseValue>,
    pub members: Vec<MemberValue>,
}

/// Loads the configuration, then runs `work` in a small runtime. Errors end with their exit code.
pub fn with<F>(args: ConfigArgs, work: impl FnOnce(Client) -> F) -> Exit
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let config = match config::load(&args.load_args(Purpose::Ask, Vec::new())) {
        Ok(config) => config,
        Err(e) => return output::error(e, Exit::Usage),
    };
    ask_once(&config, work).unwrap_or_else(|Failure(text, exit)| output::error(text, exit))
}

/// Runs `work` in a small runtime that ends with it.
pub fn ask_once<T, F>(config: &Config, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let Some(cluster) = config.local.cluster.clone() else {
        let text = "no cluster is named; set `cluster` or give --cluster";
        return Err(Failure(text.to_owned(), Exit::Usage));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure(format!("cannot start: {e}"), Exit::Failed))?;
    runtime.block_on(async {
        let store = driver::store(config).map_err(|e| Failure(e.to_string(), Exit::Usage))?;
        let keys = Keys::new(&cluster);
        work(Client { store, keys, config: config.clone() }).await
    })
}

/// One sentence and the code it ends with.
pub struct Failure(pub String, pub Exit);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::Denied(why) => {
                Failure(format!("Consul refuses this token: {why}"), Exit::Refused)
            }
            other => Failure(format!("Consul does not answer: {other}"), Exit::Failed),
        }
    }
}

/// For questions to the nodes themselves.
pub type Nodes = HttpClient<Connector, Empty<Bytes>>;

/// Where a node answers.
pub fn uri(tls: bool, peer: &str, path: &str) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{peer}{path}")
}

impl Client {
    /// Asks nodes over HTTP, and over HTTPS where `tls.ca` says whom to believe.
    pub fn nodes(&self) -> Result<Nodes, Failure> {
        let tls = driver::node_tls(&self.config);
        let tls = tls.map_err(|error| Failure(error.to_string(), Exit::Usage))?;
        Ok(HttpClient::builder(TokioExecutor::new()).build(Connector::new(tls)))
    }

    pub async fn read(&self, key: Key, recurse: bool) -> Result<Vec<Entry>, Failure> {
        match self.store.call(Call::Read { key, recurse }, LIMIT).await? {
            Answer::Entries(entries) => Ok(entries),
            Answer::Txn(_)
            | Answer::Session(_)
            | Answer::Known(_)
            | Answer::Passing(_)
            | Answer::Done => Ok(Vec::new()),
        }
    }

    pub async fn look(&self) -> Result<Seen, Failure> {
        let leader = self.read(self.keys.leader(), false).await?;
        let state = self.read(self.keys.state(), true).await?;
        if leader.is_empty() && state.is_empty() {
            // Nothing at all may also mean that this token sees nothing.
            self.store.prove_token(&self.keys.leader(), LIMIT).await?;
        }
        let members = self.keys.members();
        let under = state.iter().filter(|entry| entry.key.as_str().starts_with(members.as_str()));
        Ok(Seen {
            locked: leader.first().is_some_and(|entry| entry.session.is_some()),
            leader: leader.first().and_then(|entry| decode(&entry.value)),
            term: value(&state, &self.keys.term()),
            sync: value(&state, &self.keys.sync()),
            cluster: value(&state, &self.keys.cluster()),
            pause: value(&state, &self.keys.pause()),
            members: under.filter_map(|entry| decode(&entry.value)).collect(),
        })
    }
}

pub fn value<T: DeserializeOwned>(entries: &[Entry], key: &Key) -> Option<T> {
    entries.iter().find(|entry| entry.key == *key).and_then(|entry| decode(&entry.value))
}
