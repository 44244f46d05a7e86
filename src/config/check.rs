//! From covered layers to checked values: what holds together, and what a run needs.

use super::error::ConfigError;
use super::secret::Secret;
use super::settings::{Raw, RawConsul, RawTimeouts, RawTls};
use super::values::{
    Duration, LogFormat, LogLevel, Name, OnConsulLoss, OnCrash, Sync, check_name, consul_url,
};
use super::{Local, Purpose};
use crate::decide::backup::{BackupId, Cron, Keep, Source};
use crate::decide::lead::SyncMode;
use crate::decide::records::Roles;
use crate::decide::time::Span;
use crate::decide::types::{ClusterName, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

/// The largest token file: a token is a UUID, a password a line.
const TOKEN_MAX: u64 = 4_096;

/// The largest `restart_max`: so many crashes are remembered.
const RESTARTS: u32 = 1_000;

/// A failover writes ten entries; ten thousand are some 5 MB in Consul.
const JOURNAL: std::ops::RangeInclusive<u32> = 50..=10_000;

/// What a node is not told twice: `priorities` names nodes that differ from this.
pub const PRIORITY: u32 = 100;

/// How to reach Consul.
#[derive(Clone, Debug)]
pub struct Consul {
    /// Base URLs without a final slash, at least one; the first is the node's own agent.
    pub addresses: Vec<String>,
    pub token: Option<Secret>,
    /// Where the token came from, if from a file: read again while lictor runs.
    pub token_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    /// Certificate and key, both or none.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// TLS on the port and between nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Certificate and key; none: this node only asks.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub ca: PathBuf,
    pub peer_name: Option<String>,
    pub plain: bool,
    pub verify_clients: bool,
}

/// The log on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// How long each hook may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    pub bootstrap: Span,
    pub pre_start: Span,
    pub replicate: Span,
    pub promote: Span,
    pub demote: Span,
    pub position: Span,
    pub health: Span,
    pub sync: Span,
    pub reload: Span,
    pub backup: Span,
    pub verify: Span,
}

/// What must be the same on every node; may come from KV.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterSettings {
    pub lease: Span,
    pub request_timeout: Span,
    /// D: the demote hook starts this long before the deadline.
    pub demote_budget: Span,
    /// K: the guard kills this long before the deadline; less than D.
    pub kill_budget: Span,
    pub sync: SyncMode,
    /// At least 1, whatever `sync` is.
    pub sync_acks: u32,
    pub on_crash: OnCrash,
    pub on_consul_loss: OnConsulLoss,
    /// At least 1.
    pub bootstrap_expect: u32,
    pub restart_max: u32,
    pub restart_window: Span,
    pub priorities: BTreeMap<NodeName, u32>,
    pub no_failover: BTreeSet<NodeName>,
    pub timeouts: Timeouts,
    pub health_interval: Span,
    pub expel_after: Span,
    /// Zero: never.
    pub hung_after: Span,
    /// Zero: no hold-down.
    pub hold_down: Span,
    pub hold_down_max: Span,
    pub hold_down_window: Span,
    pub max_lag: Option<Span>,
    pub backup_schedule: Option<Cron>,
    pub backup_keep: Keep,
    /// Entries the journal keeps.
    pub journal_keep: u32,
}

impl ClusterSettings {
    /// Higher goes first.
    pub fn priority(&self, node: &NodeName) -> u32 {
        self.priorities.get(node).copied().unwrap_or(PRIORITY)
    }
}

fn refuse<T>(what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Check(what.into()))
}

/// Unwraps a setting that has a default in the table; the defaults are the lowest layer.
fn set<T>(value: Option<T>) -> T {
    value.expect("the layer of defaults sets it: test every_default_is_set")
}

fn span(value: Option<Duration>) -> Span {
    set(value).0
}

/// Checks what this node says of itself.
pub fn local(raw: &Raw, purpose: Purpose) -> Result<Local, ConfigError> {
    let node = match &raw.node {
        Some(Name(name)) => name.clone(),
        None => host_name()?,
    };
    let cluster = raw.cluster.as_ref().map(|Name(name)| ClusterName::new(name));
    let listen = set(raw.listen);
    let text = |name: &Option<Name>| name.as_ref().map(|Name(name)| name.clone());
    let checked = Local {
        command: raw.command.clone().unwrap_or_default(),
        service: text(&raw.service).or_else(|| text(&raw.cluster)),
        cluster,
        host: raw.host.clone().unwrap_or_else(|| node.clone()),
        node: NodeName::new(&node),
        address: raw.address.unwrap_or_else(own_address),
        listen,
        volume: set(raw.volume.clone()),
        hooks: set(raw.hooks.clone()),
        hook_user: raw.hook_user.clone(),
        app_user: raw.app_user.clone(),
        record: raw.record.clone(),
        app_port: raw.app_port,
        zone: set(raw.zone.clone()),
        tags: raw.tags.clone().unwrap_or_default(),
        roles: Roles {
            performs: raw.roles.performs.clone().unwrap_or_default(),
            requires: raw.roles.requires.clone().unwrap_or_default(),
            bootstrap_needs: raw.roles.bootstrap_needs.clone().unwrap_or_default(),
        },
        consul: consul(&raw.consul)?,
        tls: tls(&raw.tls)?,
        token_file: raw.token_file.clone(),
        secret_files: named(raw.secret_files.clone(), |name| name),
        lease_max: span(raw.lease_max),
        stop_timeout: span(raw.stop_timeout),
        env: raw.env.clone().unwrap_or_default(),
        backup_dir: raw.backup_dir.clone(),
        restore_from: raw.restore_from.as_deref().map(restore_from).transpose()?.flatten(),
        log: Log { level: set(raw.log.level), format: set(raw.log.format) },
    };
    check_local(&checked, purpose)?;
    Ok(checked)
}

/// A service's name is a part of a path of Consul's: what no service is called would be waited for
/// without end.
fn check_roles(roles: &Roles) -> Result<(), ConfigError> {
    for (setting, names) in [
        ("roles.performs", &roles.performs),
        ("roles.requires", &roles.requires),
        ("roles.bootstrap_needs", &roles.bootstrap_needs),
    ] {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if let Some(name) = names.iter().find(|name| name.is_empty() || !name.chars().all(plain)) {
            return refuse(format!(
                "{setting}: {name:?} is no service's name; write letters, digits, `-`, `_`, `.`"
            ));
        }
    }
    Ok(())
}

fn check_local(local: &Local, purpose: Purpose) -> Result<(), ConfigError> {
    check_roles(&local.roles)?;
    if local.command.first().is_some_and(String::is_empty) {
        return refuse("command: the program's name is empty");
    }
    if let Some(bad) = local.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return refuse(format!("env: \"{bad}\" is no name of an environment variable"));
    }
    if let Some(own) = local.tags.iter().find(|tag| matches!(tag.as_str(), "primary" | "replica")) {
        return refuse(format!("tags: \"{own}\" is set by lictor itself; remove it"));
    }
    match purpose {
        Purpose::Ask if local.cluster.is_none() => {
            return refuse("there is no cluster to ask; name it with --cluster or LICTOR_CLUSTER");
        }
        Purpose::Ask | Purpose::Show => return Ok(()),
        Purpose::Run if local.command.is_empty() => {
            return refuse("there is no command to run; write it after \"--\" or set command");
        }
        Purpose::Run | Purpose::Check => {}
    }
    if local.cluster.is_none() {
        return Ok(());
    }
    if local.app_port.is_none_or(|port| port == 0) {
        return refuse("app_port is not set; a node of a cluster needs the application's port");
    }
    if local.address.is_unspecified() {
        return refuse(format!("address: {} reaches no node; write an own IP", local.address));
    }
    let paths = [("volume", &local.volume), ("hooks", &local.hooks)];
    let backups = local.backup_dir.as_ref().map(|path| ("backup_dir", path));
    for (name, path) in paths.into_iter().chain(backups) {
        if !path.is_absolute() {
            return refuse(format!("{name}: {} is not absolute", path.display()));
        }
    }
    Ok(())
}

/// `latest`, a path, or an id; an empty text is none.
fn restore_from(text: &str) -> Result<Option<Source>, ConfigError> {
    match text {
        "" => Ok(None),
        "latest" => Ok(Some(Source::Latest)),
        path if path.starts_with('/') => Ok(Some(Source::Path(path.to_owned()))),
        id => match BackupId::parse(id) {
            Some(id) => Ok(Some(Source::Id { id, manifest: None })),
            None => refuse(format!(
                "restore_from: \"{id}\" is no backup; write latest, an id of `lictor backup list`, \
                 or an absolute path"
            )),
        },
    }
}

fn schedule(text: &str) -> Result<Option<Cron>, ConfigError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Cron::parse(text).map(Some).or_else(|why| refuse(format!("backup_schedule: {why}")))
}

fn named<K: Ord, V>(map: Option<BTreeMap<Name, V>>, key: impl Fn(String) -> K) -> BTreeMap<K, V> {
    map.unwrap_or_default().into_iter().map(|(Name(name), value)| (key(name), value)).collect()
}

fn consul(raw: &RawConsul) -> Result<Consul, ConfigError> {
    let default = vec!["127.0.0.1:8500".to_owned()];
    let written = raw.addresses.as_ref().unwrap_or(&default);
    if written.is_empty() {
        return refuse("consul.addresses is empty; name at least one agent or server");
    }
    let https = set(raw.ssl);
    let addresses = written
        .iter()
        .map(|text| consul_url(text, https))
        .collect::<Result<Vec<_>, _>>()
        .or_else(|what| refuse(format!("consul.addresses: {what}")))?;
    let token = match (&raw.token, &raw.token_file) {
        (Some(_), Some(_)) => {
            return refuse("consul.token and consul.token_file are both set; set one");
        }
        (Some(token), None) => Some(token.clone()),
        (None, Some(path)) => Some(read_secret(path)?),
        (None, None) => None,
    };
    let identity = identity("consul", &raw.cert, &raw.key)?;
    let token_file = raw.token_file.clone();
    Ok(Consul { addresses, token, token_file, ca: raw.ca.clone(), identity })
}

/// A certificate and its key, both or none.
fn identity(
    group: &str,
    cert: &Option<PathBuf>,
    key: &Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => refuse(format!("{group}.cert needs {group}.key")),
        (None, Some(_)) => refuse(format!("{group}.key needs {group}.cert")),
    }
}

fn tls(raw: &RawTls) -> Result<Option<Tls>, ConfigError> {
    let identity = identity("tls", &raw.cert, &raw.key)?;
    let (plain, verify_clients) = (set(raw.plain), set(raw.verify_clients));
    if identity.is_none() && (plain || verify_clients) {
        let name = if plain { "tls.plain" } else { "tls.verify_clients" };
        return refuse(format!("{name} needs tls.cert and tls.key"));
    }
    if plain && verify_clients {
        return refuse("tls.plain lets anybody in whom tls.verify_clients keeps out; set one");
    }
    let Some(ca) = raw.ca.clone() else {
        let needs = |name| refuse(format!("{name} needs tls.ca, by which nodes check each other"));
        return match (&identity, &raw.peer_name) {
            (Some(_), _) => needs("tls.cert"),
            (None, Some(_)) => needs("tls.peer_name"),
            (None, None) => Ok(None),
        };
    };
    let peer_name = raw.peer_name.clone();
    Ok(Some(Tls { identity, ca, peer_name, plain, verify_clients }))
}

/// A secret from its file, without the final line break; an empty one is an error.
pub fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let fail = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if size > TOKEN_MAX {
        return Err(fail(format!("{size} bytes are more than the {TOKEN_MAX} of a secret")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    super::secret::secret_of(&text).map_err(fail)
}

/// The host name up to its first dot, in lower case.
fn host_name() -> Result<String, ConfigError> {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let name =
        name.or_else(|e| refuse(format!("node is not set and there is no host name: {e}")))?;
    let short = name.split('.').next().unwrap_or_default().to_lowercase();
    check_name(&short).or_else(|what| refuse(format!("node is not set; host name {what}")))?;
    Ok(short)
}

/// The source address the kernel would choose towards the world (a documentation address;
/// connecting a UDP socket sends nothing), else loopback.
fn own_address() -> IpAddr {
    let routed = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    routed().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Checks what the cluster shares; `lease_max` is this node's.
pub fn cluster(raw: &Raw, lease_max: Span) -> Result<ClusterSettings, ConfigError> {
    let acks = set(raw.sync_acks);
    let sync = match set(raw.sync) {
        Sync::Off => SyncMode::Off,
        Sync::On => SyncMode::On,
        Sync::Strict => SyncMode::Strict(acks),
    };
    let on_crash = raw.on_crash.unwrap_or(match sync {
        SyncMode::Off => OnCrash::Restart,
        SyncMode::On | SyncMode::Strict(_) => OnCrash::Failover,
    });
    let lease = span(raw.lease);
    let checked = ClusterSettings {
        lease,
        request_timeout: span(raw.request_timeout),
        demote_budget: span(raw.demote_budget),
        kill_budget: span(raw.kill_budget),
        sync,
        sync_acks: acks,
        on_crash,
        on_consul_loss: set(raw.on_consul_loss),
        bootstrap_expect: set(raw.bootstrap_expect),
        restart_max: set(raw.restart_max),
        restart_window: span(raw.restart_window),
        priorities: named(raw.priorities.clone(), |name| NodeName::new(&name)),
        no_failover: raw
            .no_failover
            .iter()
            .flatten()
            .map(|Name(name)| NodeName::new(name))
            .collect(),
        timeouts: timeouts(&raw.timeouts, lease),
        health_interval: span(raw.health_interval),
        expel_after: span(raw.expel_after),
        hung_after: span(raw.hung_after),
        hold_down: span(raw.hold_down),
        hold_down_max: span(raw.hold_down_max),
        hold_down_window: span(raw.hold_down_window),
        max_lag: raw.max_lag.map(|Duration(span)| span),
        backup_schedule: raw.backup_schedule.as_deref().map_or(Ok(None), schedule)?,
        backup_keep: Keep { count: set(raw.backup_keep), days: set(raw.backup_keep_days) },
        journal_keep: set(raw.journal_keep),
    };
    check_cluster(&checked, lease_max)?;
    Ok(checked)
}

fn timeouts(raw: &RawTimeouts, lease: Span) -> Timeouts {
    Timeouts {
        bootstrap: span(raw.bootstrap),
        pre_start: span(raw.pre_start),
        replicate: span(raw.replicate),
        promote: span(raw.promote),
        demote: raw.demote.map_or(lease, |Duration(span)| span),
        position: span(raw.position),
        health: span(raw.health),
        sync: span(raw.sync),
        reload: span(raw.reload),
        backup: span(raw.backup),
        verify: span(raw.verify),
    }
}

fn check_cluster(it: &ClusterSettings, lease_max: Span) -> Result<(), ConfigError> {
    let t = &it.timeouts;
    if it.restart_max > RESTARTS {
        return refuse(format!("restart_max: {} is above {RESTARTS}", it.restart_max));
    }
    for (name, value) in [
        ("lease", it.lease),
        ("request_timeout", it.request_timeout),
        ("demote_budget", it.demote_budget),
        ("kill_budget", it.kill_budget),
        ("restart_window", it.restart_window),
        ("health_interval", it.health_interval),
        ("expel_after", it.expel_after),
        ("hold_down_max", it.hold_down_max),
        ("hold_down_window", it.hold_down_window),
        ("timeouts.bootstrap", t.bootstrap),
        ("timeouts.pre_start", t.pre_start),
        ("timeouts.replicate", t.replicate),
        ("timeouts.promote", t.promote),
        ("timeouts.demote", t.demote),
        ("timeouts.position", t.position),
        ("timeouts.health", t.health),
        ("timeouts.sync", t.sync),
        ("timeouts.reload", t.reload),
        ("timeouts.backup", t.backup),
        ("timeouts.verify", t.verify),
    ] {
        if value == Span::ZERO {
            return refuse(format!("{name} is 0; write a duration above it"));
        }
    }
    if !JOURNAL.contains(&it.journal_keep) {
        let (least, most) = (JOURNAL.start(), JOURNAL.end());
        return refuse(format!("journal_keep: {} is not {least} to {most}", it.journal_keep));
    }
    for (name, value) in [("sync_acks", it.sync_acks), ("bootstrap_expect", it.bootstrap_expect)] {
        if value == 0 {
            return refuse(format!("{name} is 0; write 1 or more"));
        }
    }
    if it.hold_down > it.hold_down_max {
        let (first, most) = (it.hold_down, it.hold_down_max);
        return refuse(format!(
            "hold_down {first} is above hold_down_max {most}; raise that first"
        ));
    }
    check_lease(it, lease_max)
}

/// The arithmetic of the lease: one renewal may go unanswered by two addresses and the demotion
/// still fits.
fn check_lease(it: &ClusterSettings, lease_max: Span) -> Result<(), ConfigError> {
    let (lease, request, d, k) = (it.lease, it.request_timeout, it.demote_budget, it.kill_budget);
    if lease > lease_max {
        return refuse(format!(
            "lease {lease} is above lease_max {lease_max}; raise lease_max on all nodes first"
        ));
    }
    if k >= d {
        return refuse(format!(
            "kill_budget {k} must be below demote_budget {d}: demoting comes before killing"
        ));
    }
    let third = lease.scaled_up(1, 3);
    let needed = third + request + request + d;
    if needed >= lease {
        return refuse(format!(
            "lease {lease} is too short: lease/3 {third} + 2 x request_timeout {request} + \
             demote_budget {d} = {needed} must be below it; raise lease or lower the others"
        ));
    }
    Ok(())
}
