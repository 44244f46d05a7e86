//! Every setting, once: its raw field, scope, default and meaning.
//!
//! The macro below makes the raw structs, the way a higher layer covers a lower one, and the table
//! from which defaults, environment variables, flags and `docs/settings.md` come. A setting that is
//! not here does not exist.

use super::secret::Secret;
use super::shape::{Form, Kind, Shape};
use super::values::{Duration, LogFormat, LogLevel, Name, OnConsulLoss, OnCrash, Sync};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Who may set it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Image, file, environment and flags only: who may write KV must not get a shell in every
    /// container.
    Local,
    /// KV `state/config` too.
    Cluster,
}

/// What holds when nobody sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// This value, written as in an environment variable.
    Is(&'static str),
    /// Found out at start, or nothing; told in words.
    Told(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Dotted: `timeouts.bootstrap`.
    pub name: &'static str,
    pub scope: Scope,
    pub kind: Kind,
    pub form: Form,
    pub preset: Preset,
    pub about: &'static str,
}

impl Setting {
    /// `LICTOR_TIMEOUTS_BOOTSTRAP`: one rule for all.
    pub fn variable(&self) -> String {
        format!("LICTOR_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// `timeouts-bootstrap`: one rule for all; without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }
}

/// All settings, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [Raw::ROWS, RawRoles::ROWS, RawConsul::ROWS, RawTls::ROWS, RawLog::ROWS, RawTimeouts::ROWS]
        .into_iter()
        .flatten()
}

/// The names of the groups: tables of the file that hold settings of their own.
pub const GROUPS: [&str; 5] = ["roles", "consul", "tls", "log", "timeouts"];

macro_rules! settings {
    (
        $(#[$doc:meta])* $name:ident, $prefix:literal,
        { $($field:ident: $type:ty, $scope:ident, $preset:expr, $about:literal;)* }
        { $($group:ident: $group_type:ty;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(pub $field: Option<$type>,)*
            $(pub $group: $group_type,)*
        }

        impl $name {
            const ROWS: &'static [Setting] = &[$(Setting {
                name: concat!($prefix, stringify!($field)),
                scope: Scope::$scope,
                kind: <$type as Shape>::KIND,
                form: <$type as Shape>::FORM,
                preset: $preset,
                about: $about,
            }),*];

            /// What `over` sets covers what is here; lists and tables of values are covered as a
            /// whole.
            pub fn cover(&mut self, over: $name) {
                $(if over.$field.is_some() { self.$field = over.$field; })*
                $(self.$group.cover(over.$group);)*
            }

            /// What is set, as it would be written.
            pub fn shown(&self) -> Vec<(&'static str, Value)> {
                let mut all = Vec::new();
                $(if let Some(value) = &self.$field {
                    all.push((concat!($prefix, stringify!($field)), value.shown()));
                })*
                $(all.extend(self.$group.shown());)*
                all
            }
        }
    };
}

use Preset::{Is, Told};

settings! {
    /// One layer's settings: what it does not set is `None`.
    Raw, "", {
        command: Vec<String>, Local, Told("none"),
            "The application: program and arguments, no shell; `-- CMD..` covers it.";
        cluster: Name, Local, Told("none: supervise only"),
            "The cluster this node belongs to.";
        node: Name, Local, Told("the host name"),
            "This node's name, unique in its cluster.";
        address: IpAddr, Local, Told("the address of the default route"),
            "The IP address under which other nodes reach this one.";
        listen: SocketAddr, Local, Is("0.0.0.0:8008"),
            "Where health, control and peer requests are taken.";
        volume: PathBuf, Local, Is("/data"),
            "The one mount, one file system: application's data in `app`, lictor's in `.lictor`.";
        hooks: PathBuf, Local, Is("/etc/lictor/hooks"),
            "The directory of the hooks.";
        hook_user: String, Local, Told("lictor's own"),
            "The user hooks run as: a name or a number.";
        app_user: String, Local, Told("lictor's own"),
            "The user the application runs as: a name or a number.";
        record: PathBuf, Local, Told("nothing is recorded"),
            "A file for all that the core is told and answers, for `lictor replay`; no secrets.";
        app_port: u16, Local, Told("none; required in a cluster"),
            "The application's port, registered with Consul.";
        zone: String, Local, Is(""),
            "The failure zone this node is in.";
        host: String, Local, Told("the node's name"),
            "The machine this node is on.";
        tags: Vec<String>, Local, Told("none"),
            "More tags of the service in Consul; `primary` and `replica` are lictor's own.";
        token_file: PathBuf, Local, Told("none: actions over HTTP are refused"),
            "A file with the token that actions over HTTP must carry.";
        secret_files: BTreeMap<Name, PathBuf>, Local, Told("none"),
            "Secrets for hooks: name = file.";
        service: Name, Local, Told("the cluster's name"),
            "The name of the service in Consul.";
        lease_max: Duration, Local, Is("3s"),
            "The longest `lease` this node accepts; raise it on all nodes before raising `lease`.";
        stop_timeout: Duration, Local, Is("10s"),
            "How long the application may take to stop before its whole process tree is killed.";
        env: BTreeMap<String, String>, Local, Told("none"),
            "More environment variables for the application.";
        backup_dir: PathBuf, Local, Told("none: this node makes no backups"),
            "Where backups go: a mount that all nodes share, or a directory of this one.";
        restore_from: String, Local, Told("none: create an empty one"),
            "What a cluster is created from: `latest`, an id, or the path of a backup.";
        lease: Duration, Cluster, Is("3s"),
            "How long a proof of holding the lock lets the leader act.";
        request_timeout: Duration, Cluster, Is("500ms"),
            "How long one address of Consul may take before the next is tried.";
        demote_budget: Duration, Cluster, Is("500ms"),
            "D: the demote hook starts this long before the lease ends.";
        kill_budget: Duration, Cluster, Is("200ms"),
            "K: the guard kills this long before the lease ends.";
        sync: Sync, Cluster, Is("off"),
            "Whether commits wait for replicas: `off`, `on` (while there are any) or `strict`.";
        sync_acks: u32, Cluster, Is("1"),
            "How many replicas acknowledge a commit when `sync` is not `off`.";
        on_crash: OnCrash, Cluster, Told("`failover` with sync, else `restart`"),
            "What follows a crash of the primary's application: `failover` or `restart` in place.";
        on_consul_loss: OnConsulLoss, Cluster, Is("hold"),
            "While Consul is silent: `hold`, by the promises of all candidates, or `fence`.";
        bootstrap_expect: u32, Cluster, Is("1"),
            "How many members must report, all without data, before one creates the cluster.";
        restart_max: u32, Cluster, Is("3"),
            "How often within `restart_window` the application is started again in place.";
        restart_window: Duration, Cluster, Is("60s"),
            "The window of `restart_max`.";
        priorities: BTreeMap<Name, u32>, Cluster, Told("100 each"),
            "Which node goes first among equally good candidates: node = number, higher first.";
        no_failover: Vec<Name>, Cluster, Told("none"),
            "Nodes that never become primary.";
        health_interval: Duration, Cluster, Is("1s"),
            "How often the health hook runs.";
        expel_after: Duration, Cluster, Is("10s"),
            "How long a member may not answer before it leaves the list of candidates.";
        hold_down: Duration, Cluster, Is("10s"),
            "How long a node that lost its term by a failure lets others lead; `0s`: not at all.";
        hold_down_max: Duration, Cluster, Is("5m"),
            "The longest `hold_down`.";
        hold_down_window: Duration, Cluster, Is("10m"),
            "Each further failure within this doubles `hold_down`.";
        max_lag: Duration, Cluster, Told("none: any lag"),
            "Without sync: a replica that lags more, or whose lag is not known, is no candidate.";
        hung_after: Duration, Cluster, Is("10s"),
            "How long no health check may succeed before the application is ended; `0s`: never.";
        backup_schedule: String, Cluster, Told("none: only when asked for"),
            "When backups are made: cron, five fields, UTC.";
        backup_keep: u32, Cluster, Is("7"),
            "How many good backups stay at least; 0: no limit by count.";
        backup_keep_days: u32, Cluster, Is("0"),
            "How many days a backup stays at least; 0: no limit by age.";
        journal_keep: u32, Cluster, Is("1000"),
            "How many entries the journal keeps.";
    } {
        roles: RawRoles;
        consul: RawConsul;
        tls: RawTls;
        log: RawLog;
        timeouts: RawTimeouts;
    }
}

settings! {
    /// What this node does and needs.
    RawRoles, "roles.", {
        performs: Vec<String>, Local, Told("none"),
            "Roles this node performs: other members may require them.";
        requires: Vec<String>, Local, Told("none"),
            "Services that must pass in Consul, or roles members perform, before it joins.";
        bootstrap_needs: Vec<String>, Local, Told("none"),
            "Services that must pass in Consul before it creates the cluster.";
    } {}
}

settings! {
    /// How to reach Consul.
    RawConsul, "consul.", {
        addresses: Vec<String>, Local, Told("`[\"127.0.0.1:8500\"]`"),
            "Agents or servers, tried in turn, the node's own agent first (`CONSUL_HTTP_ADDR`).";
        token: Secret, Local, Told("none"),
            "The ACL token (`CONSUL_HTTP_TOKEN`).";
        token_file: PathBuf, Local, Told("none"),
            "A file with the ACL token (`CONSUL_HTTP_TOKEN_FILE`).";
        ssl: bool, Local, Is("false"),
            "Use HTTPS for addresses without a scheme (`CONSUL_HTTP_SSL`).";
        ca: PathBuf, Local, Told("the system's"),
            "The CA certificates Consul's are checked against (`CONSUL_CACERT`).";
        cert: PathBuf, Local, Told("none"),
            "The client certificate (`CONSUL_CLIENT_CERT`).";
        key: PathBuf, Local, Told("none"),
            "The client certificate's key (`CONSUL_CLIENT_KEY`).";
    } {}
}

settings! {
    /// TLS on lictor's own port and between nodes.
    RawTls, "tls.", {
        cert: PathBuf, Local, Told("none: the port speaks plain HTTP"),
            "This node's certificate chain; the port then speaks HTTPS.";
        key: PathBuf, Local, Told("none"),
            "The certificate's key.";
        ca: PathBuf, Local, Told("none; required with `tls.cert`"),
            "The CA certificates that other nodes' certificates are checked against.";
        peer_name: String, Local, Told("none: the nodes' IP addresses"),
            "The DNS name that every node's certificate carries.";
        plain: bool, Local, Is("false"),
            "Take plain HTTP on the port too, while a cluster changes over.";
        verify_clients: bool, Local, Is("false"),
            "Serve only clients with a certificate of `tls.ca`.";
    } {}
}

settings! {
    /// The log on stderr.
    RawLog, "log.", {
        level: LogLevel, Local, Is("info"), "`error`, `warn`, `info`, `debug` or `trace`.";
        format: LogFormat, Local, Is("text"), "`text` or `json`.";
    } {}
}

settings! {
    /// How long each hook may take.
    RawTimeouts, "timeouts.", {
        bootstrap: Duration, Cluster, Is("6h"), "The bootstrap hook.";
        pre_start: Duration, Cluster, Is("10s"), "The pre-start hook.";
        replicate: Duration, Cluster, Is("60s"), "The replicate hook.";
        promote: Duration, Cluster, Is("30s"), "The promote hook.";
        demote: Duration, Cluster, Told("`lease`"),
            "The demote hook; what the lease has left bounds it too.";
        position: Duration, Cluster, Is("5s"), "The position hook.";
        health: Duration, Cluster, Is("5s"), "The health hook.";
        sync: Duration, Cluster, Is("5s"), "The sync hook.";
        reload: Duration, Cluster, Is("10s"), "The reload hook.";
        backup: Duration, Cluster, Is("6h"), "The backup hook.";
        verify: Duration, Cluster, Is("6h"), "The verify hook.";
    } {}
}
