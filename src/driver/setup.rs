//! From a checked configuration to a running driver, in the order the module's doc tells.

use super::backup::Shelves;
use super::journal;
use super::live::{self, Live, Stands};
use super::meter::Meter;
use super::rotate::Rotation;
use super::volume::{Volume, VolumeError};
use super::{Driver, Ears, INPUTS_MAX, publish, record, settings, wall, watch};
use crate::config::{self, Config, ConfigError, Layers, LoadArgs};
use crate::consul::{Address, ConsulStore, Secret as ConsulSecret, Settings, SetupError, Tls};
use crate::decide::action::Action;
use crate::decide::call::{Answer, Call, StoreError};
use crate::decide::hook::Hook;
use crate::decide::io::Now;
use crate::decide::keys::{Key, Keys};
use crate::decide::life::Boot;
use crate::decide::records::RequestValue;
use crate::decide::time::Span;
use crate::decide::types::{ClusterId, ClusterName, Epoch, Identity, RunId};
use crate::http::{self, BindError, Board, Metrics, Parts, PeerAuth, PeerClient, Server, nonce};
use crate::process::children::Children;
use crate::process::guard;
use crate::process::hooks::{self, HookSettings, Hooks, Missing};
use crate::process::link::{Generation, GuardLink};
use crate::process::signals::Signals;
use crate::process::{clock, environment, slim, user};
use crate::store::Store;
use crate::telemetry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Between two attempts to reach Consul at the start.
const CONSUL_AGAIN: Span = Span::secs(1);
/// fsync, name look-ups and directory walks; they never spawn or wait for processes.
const BLOCKING_THREADS: usize = 2;
/// Reloads that wait for the loop; more wait for their place.
const RELOADS_MAX: usize = 4;
const FLUSH: Duration = Duration::from_millis(500);

/// What ends a start. The exit code is part of the contract.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `state/config`, with its place, and nothing kept of a former run.
    #[error("{0}")]
    Shared(String),
    #[error("{0}; a node of a cluster needs it there and executable (chmod +x)")]
    Hook(#[from] Missing),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Consul(#[from] SetupError),
    #[error(transparent)]
    Tls(#[from] http::TlsError),
    #[error("Consul refuses this token: {0}; give one with the rules of docs/security.md")]
    Denied(String),
    #[error("record {path}: {error}; name a file in a directory that lictor may write to")]
    Record { path: String, error: std::io::Error },
    #[error("cannot start: {0}")]
    Other(String),
}

impl StartError {
    pub fn code(&self) -> i32 {
        match self {
            StartError::Config(_)
            | StartError::Shared(_)
            | StartError::Hook(_)
            | StartError::Consul(_)
            | StartError::Tls(_)
            | StartError::Record { .. } => 64,
            StartError::Volume(VolumeError::TwoFileSystems { .. } | VolumeError::NoUser { .. }) => {
                64
            }
            StartError::Volume(VolumeError::OtherCluster { .. } | VolumeError::InUse(_))
            | StartError::Denied(_) => 3,
            StartError::Volume(_) | StartError::Bind(_) | StartError::Other(_) => 1,
        }
    }
}

fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

/// Runs a node of a cluster to its end; the exit code. Called before any thread exists.
pub fn run(config: Config, load: LoadArgs) -> i32 {
    let started = check_hooks(&config)
        .and_then(|()| Ok(Volume::open(&config)?))
        .and_then(|volume| Ok((volume, guard::split().map_err(other)?)));
    let end = started.and_then(|(volume, link)| in_sidecar(config, load, volume, link));
    end.unwrap_or_else(|error| {
        eprintln!("lictor: {error}");
        error.code()
    })
}

fn check_hooks(config: &Config) -> Result<(), StartError> {
    let dir = &config.local.hooks;
    let required = [
        Hook::Bootstrap,
        Hook::PreStart,
        Hook::Replicate,
        Hook::Promote,
        Hook::Demote,
        Hook::Position,
    ];
    for hook in required {
        hooks::check(dir, hook)?;
    }
    if settings::needs_sync_hook(config.cluster.sync) {
        hooks::check(dir, Hook::Sync)?;
    }
    if config.local.backup_dir.is_some() {
        hooks::check(dir, Hook::Backup)?;
    }
    Ok(())
}

fn in_sidecar(
    config: Config,
    load: LoadArgs,
    volume: Volume,
    link: GuardLink,
) -> Result<i32, StartError> {
    let log = telemetry::start(config.local.log).map_err(other)?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime =
        builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build().map_err(other)?;
    let end = runtime.block_on(async {
        let guard = link.start().map_err(other)?;
        tokio::spawn(slim::stay_slim());
        let end = start(config, load, Arc::new(volume), &guard).await;
        guard.announce_leaving();
        end
    });
    runtime.shutdown_background();
    log.flush(FLUSH);
    end
}

async fn start(
    config: Config,
    load: LoadArgs,
    volume: Arc<Volume>,
    guard: &crate::process::link::Guard,
) -> Result<i32, StartError> {
    let children = Children::start().map_err(other)?;
    let mut signals = Signals::new().map_err(other)?;
    let (node, at) = (config.local.node.clone(), clock::now());
    let run = RunId::new(&nonce::hex::<8>().map_err(other)?);
    let parts = parts(&config, &run)?;
    let incoming = serve(config.local.listen, parts.clone(), &volume).await?;
    let store = store(&config)?;
    let asked = (&store, &parts.board, &mut signals);
    let Some((config, live)) = configured(config, load, volume.config.as_deref(), asked).await?
    else {
        return Ok(0);
    };
    let boot = boot(&config, &volume, Identity { node, run, disk: volume.disk.clone() })?;
    let settings = settings::settings(&config, &live.shared);
    let (node, recorder) = record::core(&config, boot, settings, Now { at, wall: wall::now_ms() })?;
    let (inputs, listen) = mpsc::channel(INPUTS_MAX);
    let (inside, from_inside) = mpsc::channel(RELOADS_MAX);
    let refused = Arc::new(Notify::new());
    let keys = node.keys().clone();
    let rotation = Rotation {
        config: config.clone(),
        store: store.clone(),
        probe: keys.leader(),
        served: parts.clone(),
        volume: volume.clone(),
        inputs: inputs.clone(),
        refused: refused.clone(),
    };
    tokio::spawn(rotation.run());
    show_journal(&config, &store, &keys, &parts);
    let driver = Driver {
        leads: watch::spawn(&keys, &store, &inputs, &parts.metrics),
        refused,
        node,
        recorder,
        hooks: hooks_of(&config, &volume, &children, guard)?,
        app_user: user_of(config.local.app_user.as_deref())?,
        shelves: Shelves::of(&config)?,
        config,
        live,
        store,
        guard: guard.clone(),
        children,
        peers: PeerClient::with_tls(parts.auth.clone(), parts.tls),
        auth: parts.auth,
        board: parts.board,
        meter: Meter::new(parts.metrics, keys),
        volume,
        volume_order: Default::default(),
        app: None,
        inputs,
        inside,
        queue: Default::default(),
        asked: BTreeMap::new(),
        actions: BTreeMap::new(),
        outside: 0,
        kill_at: at,
        fired: Generation(0),
        keying: Default::default(),
        under_way: Default::default(),
        leaving: None,
    };
    Ok(driver.live(Ears { inputs: listen, inside: from_inside, incoming, signals }).await)
}

fn show_journal(config: &Config, store: &ConsulStore, keys: &Keys, parts: &Parts) {
    let (feed, limit) = (parts.feed.clone(), config.cluster.request_timeout);
    tokio::spawn(journal::feed(store.clone(), keys.clone(), feed, limit));
}

/// On the port, and on a socket beside the volume where that can be: it is for convenience.
async fn serve(
    listen: SocketAddr,
    parts: Parts,
    volume: &Volume,
) -> Result<mpsc::Receiver<http::Incoming>, StartError> {
    let (server, incoming) = Server::bind(listen, parts).await?;
    let path = volume.own.join("sock");
    match server.socket(&path) {
        Ok(socket) => drop(tokio::spawn(socket.run())),
        Err(error) => tracing::warn!(event = "socket.none", path = %path.display(), %error),
    }
    tokio::spawn(server.run());
    Ok(incoming)
}

/// What the port answers from.
fn parts(config: &Config, run: &RunId) -> Result<Parts, StartError> {
    let node = &config.local.node;
    let token = match &config.local.token_file {
        Some(path) => Some(http::Secret::new(config::read_secret(path)?.reveal().as_bytes())),
        None => None,
    };
    Ok(Parts {
        board: Board::new(publish::waiting(node, "Consul was not asked yet"), clock::now()),
        auth: PeerAuth::new(node.clone(), run.clone()),
        clock: clock::now,
        token: http::Token::new(token),
        tls: node_tls(config)?,
        metrics: Metrics::new(telemetry::dropped),
        feed: http::Feed::default(),
    })
}

/// While Consul is not there, what it said last is the best guess of how long it may take.
fn last_known(config: Config, layers: &Layers, kept: Option<&str>) -> Config {
    match kept.and_then(|text| live::shared(layers, &config, Some(text)).ok()) {
        Some(shared) => Config { cluster: shared.settings, ..config },
        None => config,
    }
}

/// The configuration with what Consul says; `kept` is the volume's. `None`: asked to stop
/// meanwhile.
async fn configured(
    config: Config,
    load: LoadArgs,
    kept: Option<&str>,
    (store, board, signals): (&ConsulStore, &Board, &mut Signals),
) -> Result<Option<(Arc<Config>, Live)>, StartError> {
    let layers = Layers::read(&load)?;
    let config = last_known(config, &layers, kept);
    let Some(stands) = reach(&config, store, board, signals).await? else { return Ok(None) };
    let live = Live::first(load, layers, &config, stands, kept).map_err(StartError::Shared)?;
    let cluster = live.shared.settings.clone();
    let config = Arc::new(Config { cluster, ..config });
    for warning in &config.warnings {
        tracing::warn!(event = "config.warning", warning);
    }
    Ok(Some((config, live)))
}

/// The store as configured.
pub fn store(config: &Config) -> Result<ConsulStore, StartError> {
    let consul = &config.local.consul;
    let addresses =
        consul.addresses.iter().map(|text| text.parse::<Address>()).collect::<Result<_, _>>()?;
    let token = consul.token.as_ref().map(|token| ConsulSecret::new(token.reveal()));
    Ok(ConsulStore::new(Settings { addresses, token, tls: consul_tls(config)? })?)
}

/// TLS on the own port and to other nodes, as configured.
pub fn node_tls(config: &Config) -> Result<Option<http::Tls>, StartError> {
    let Some(tls) = &config.local.tls else { return Ok(None) };
    let identity = match &tls.identity {
        Some((cert, key)) => Some((bytes_of(cert)?, bytes_of(key)?)),
        None => None,
    };
    let how = http::TlsHow {
        peer_name: tls.peer_name.clone(),
        plain: tls.plain,
        verify_clients: tls.verify_clients,
    };
    Ok(Some(http::Tls::new(&http::Pem { identity, ca: bytes_of(&tls.ca)? }, how)?))
}

fn bytes_of(path: &std::path::Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), why: error.to_string() })
}

/// The certificates for Consul, read from their files.
fn consul_tls(config: &Config) -> Result<Tls, StartError> {
    let consul = &config.local.consul;
    Ok(Tls {
        ca: consul.ca.as_deref().map(bytes_of).transpose()?,
        identity: match &consul.identity {
            Some((cert, key)) => Some((bytes_of(cert)?, bytes_of(key)?)),
            None => None,
        },
    })
}

/// Waits for Consul: a token that is good, and `state/config`. `None`: asked to stop meanwhile.
async fn reach(
    config: &Config,
    store: &ConsulStore,
    board: &Board,
    signals: &mut Signals,
) -> Result<Option<Stands>, StartError> {
    let cluster = config.local.cluster.clone().unwrap_or_else(|| ClusterName::new(""));
    let keys = Keys::new(&cluster);
    let limit = config.cluster.request_timeout;
    let mut said = false;
    loop {
        board.stepped(clock::now());
        match ask(store, &keys, limit).await {
            Ok(stands) => {
                if said {
                    tracing::info!(event = "start.consul-answers");
                }
                return Ok(Some(stands));
            }
            Err(StoreError::Denied(why)) => return Err(StartError::Denied(why)),
            Err(error) => {
                let addresses = config.local.consul.addresses.join(", ");
                let why = format!(
                    "Consul at {addresses} does not answer: {error}; asked again each \
                     {CONSUL_AGAIN}"
                );
                // Once, not once a second: it may take hours.
                if said {
                    tracing::debug!(event = "start.asked", %error);
                } else {
                    tracing::warn!(event = "start.consul", reason = why);
                }
                said = true;
                board.publish(publish::waiting(&config.local.node, &why));
            }
        }
        tokio::select! {
            signal = signals.next() => {
                if matches!(signal, Ok(libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) | Err(_)) {
                    return Ok(None);
                }
            }
            () = tokio::time::sleep(CONSUL_AGAIN.to_std()) => {}
        }
    }
}

async fn ask(store: &ConsulStore, keys: &Keys, limit: Span) -> Result<Stands, StoreError> {
    store.prove_token(&keys.leader(), limit).await?;
    let read = Call::Read { key: keys.config(), recurse: false };
    match store.call(read, limit).await? {
        Answer::Entries(entries) => {
            let entry = entries.into_iter().next();
            let stands = entry.map(|e| Stands { index: e.modify, bytes: Some(e.value) });
            Ok(stands.unwrap_or_default())
        }
        Answer::Txn(_)
        | Answer::Session(_)
        | Answer::Known(_)
        | Answer::Passing(_)
        | Answer::Done => Ok(Stands::default()),
    }
}

/// `secrets/peer`.
#[derive(Serialize, Deserialize)]
struct PeerKey {
    v: u32,
    /// 32 bytes in hexadecimal digits.
    key: String,
}

fn boot(config: &Config, volume: &Volume, identity: Identity) -> Result<Boot, StartError> {
    let cluster_name = config.local.cluster.clone().ok_or_else(|| other("no cluster"))?;
    let key = PeerKey { v: 1, key: nonce::hex::<32>().map_err(other)? };
    Ok(Boot {
        identity,
        cluster_name,
        floor: volume.floor,
        cluster: volume.cluster.clone(),
        data: volume.data,
        marker: volume.marker,
        follows: volume.follows.clone(),
        fresh_id: ClusterId::new(&nonce::hex::<8>().map_err(other)?),
        fresh_secret: serde_json::to_vec(&key).map_err(other)?,
    })
}

/// Reads the key that peers prove themselves by; it stays in memory.
pub(super) async fn read_peer_key(
    store: &ConsulStore,
    auth: &PeerAuth,
    cluster: ClusterId,
    key: Key,
    limit: Span,
) -> Result<(), String> {
    let read = Call::Read { key, recurse: false };
    let answer = store.call(read, limit).await.map_err(|error| error.to_string())?;
    let Answer::Entries(entries) = answer else { return Err("no entries".into()) };
    let entry = entries.first().ok_or("secrets/peer is not there")?;
    let value: PeerKey =
        serde_json::from_slice(&entry.value).map_err(|_| "secrets/peer is not ours")?;
    let bytes = unhex(&value.key).ok_or("secrets/peer holds no key")?;
    auth.set_key(cluster, &http::Secret::new(&bytes)).map_err(|error| error.to_string())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// Looked up once: a name service must not stand between a deadline and its fence.
pub(super) fn user_of(name: Option<&str>) -> Result<Option<user::User>, StartError> {
    name.map(|name| user::find(name).map_err(other)).transpose()
}

fn hooks_of(
    config: &Config,
    volume: &Volume,
    children: &Children,
    guard: &crate::process::link::Guard,
) -> Result<Hooks, StartError> {
    let local = &config.local;
    let user = user_of(local.hook_user.as_deref())?;
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let facts = BTreeMap::from([
        ("CLUSTER".to_owned(), local.cluster.as_ref().map(|c| c.to_string()).unwrap_or_default()),
        ("NODE".to_owned(), local.node.to_string()),
        ("DATA_DIR".to_owned(), path(volume.app.clone())),
        ("STATE_DIR".to_owned(), path(volume.state_dir())),
        ("SECRETS_DIR".to_owned(), path(volume.secrets_dir())),
        ("APP_ADDR".to_owned(), local.address.to_string()),
        ("APP_PORT".to_owned(), local.app_port.unwrap_or(0).to_string()),
    ]);
    let own = config::Environment::of_process().0;
    let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
    let mut env = environment::of_application(own, &[]);
    env.extend(local.env.iter().map(|(name, value)| (name.into(), value.into())));
    let settings = HookSettings {
        dir: local.hooks.clone(),
        state_dir: volume.state_dir(),
        user,
        env,
        secret: Vec::new(),
        facts,
    };
    Ok(Hooks::new(settings, children.clone(), Some(guard.clone())))
}

/// An operator's action as the record that asks for it.
pub fn request(action: &Action, by: String, epoch: Epoch, wall: u64) -> RequestValue {
    let (verb, args) = (action.verb().to_owned(), action.args());
    RequestValue { v: 1, verb, args, by, epoch, expires: wall + action.good_for().0 }
}
