//! Configuration: raw layers, then environment substitution, then one checked tree.
//!
//! A layer covers the one before: defaults, the cluster's configuration in KV (cluster scope only),
//! the file, the environment (`CONSUL_*`, then `LICTOR_*`), flags. Every layer refuses unknown keys
//! and says where they stand. What comes out is complete and checked: nobody else reads files or
//! variables, or supplies a default.
//!
//! [`load`] is called before any thread exists. The layers without KV must hold together by
//! themselves; the driver keeps them as [`Layers`], against which every new text of `state/config`
//! is checked.

mod check;
mod docs;
mod edit;
mod environment;
mod error;
mod layer;
mod layers;
mod schema;
mod secret;
mod settings;
mod shape;
mod substitute;
#[cfg(test)]
mod tests;
mod values;

pub use check::{ClusterSettings, Consul, Log, PRIORITY, Timeouts, Tls, read_secret};
pub use docs::settings_page;
pub use edit::{NotWritten, may_write, merge, set, unset};
pub use environment::Environment;
pub use error::{ConfigError, Place};
pub use layers::{Effective, Layers, Origin, Shared, kv_text};
pub use schema::schema;
pub use secret::{Secret, secret_of};
pub use settings::{GROUPS, Preset, Scope, Setting, all as all_settings};
pub use shape::{Form, Kind};
pub use values::{LogFormat, LogLevel, OnConsulLoss, OnCrash, check_name, parse_duration};

use crate::decide::backup::Source as BackupSource;
use crate::decide::lead::LeadConfig;
use crate::decide::records::Roles;
use crate::decide::time::Span;
use crate::decide::types::{ClusterName, NodeName};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Read if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/lictor/lictor.toml";

/// The largest file that is read.
const TEXT_MAX: u64 = 512 * 1_024;

/// The largest `state/config`: it is parsed between two steps of the core.
pub const KV_MAX: usize = 64 * 1_024;

/// How long one rank of candidates waits for the one before; for speed only, never for safety.
const RANK_STEP: Span = Span(50);

/// What the configuration is for: a run needs more than a question to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// `lictor run`: command, and in a cluster the application's port.
    Run,
    /// `config check`: as a run, but the command may follow later.
    Check,
    /// `config show`: whatever there is.
    Show,
    /// `status`, `switchover` and other commands that only ask.
    Ask,
}

/// Where settings come from.
#[derive(Clone, Debug)]
pub struct LoadArgs {
    pub purpose: Purpose,
    /// `-c FILE`; must exist when named.
    pub file: Option<PathBuf>,
    /// Setting name and text, in the order given.
    pub flags: Vec<(String, String)>,
    /// What follows `--`; empty: the file's.
    pub command: Vec<String>,
    pub env: Environment,
    /// The text of `state/config`, once it has been read.
    pub kv: Option<String>,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub local: Local,
    pub cluster: ClusterSettings,
    /// Not wrong, but probably not meant; to be logged once.
    pub warnings: Vec<String>,
}

/// What this node says of itself; never from KV.
#[derive(Clone, Debug)]
pub struct Local {
    /// Program and arguments; not empty for [`Purpose::Run`].
    pub command: Vec<String>,
    /// None: supervise only.
    pub cluster: Option<ClusterName>,
    pub node: NodeName,
    pub address: IpAddr,
    pub listen: SocketAddr,
    pub volume: PathBuf,
    pub hooks: PathBuf,
    /// Name or number.
    pub hook_user: Option<String>,
    /// Name or number.
    pub app_user: Option<String>,
    pub record: Option<PathBuf>,
    /// Set and not 0 in a cluster for [`Purpose::Run`].
    pub app_port: Option<u16>,
    pub zone: String,
    pub host: String,
    pub tags: Vec<String>,
    pub roles: Roles,
    pub consul: Consul,
    /// None: plain HTTP, and nodes that speak HTTPS can't be asked.
    pub tls: Option<Tls>,
    /// For actions over HTTP; read with [`read_secret`].
    pub token_file: Option<PathBuf>,
    pub secret_files: BTreeMap<String, PathBuf>,
    /// Set in a cluster.
    pub service: Option<String>,
    pub lease_max: Span,
    pub stop_timeout: Span,
    /// Besides the inherited environment.
    pub env: BTreeMap<String, String>,
    /// None: this node makes no backups.
    pub backup_dir: Option<PathBuf>,
    /// What the cluster is created from, should this node create it.
    pub restore_from: Option<BackupSource>,
    pub log: Log,
}

impl Local {
    /// `ip:port` other nodes reach this one's peer interface at.
    pub fn peer(&self) -> String {
        SocketAddr::new(self.address, self.listen.port()).to_string()
    }

    /// `ip:port` clients reach the application at; empty without a port.
    pub fn app(&self) -> String {
        self.app_port
            .map_or_else(String::new, |port| SocketAddr::new(self.address, port).to_string())
    }
}

impl Config {
    /// What the lease needs to know, under these settings of the cluster.
    pub fn lead(&self, cluster: &ClusterSettings) -> LeadConfig {
        LeadConfig {
            lease: cluster.lease,
            lease_max: self.local.lease_max,
            request_timeout: cluster.request_timeout,
            sync: cluster.sync,
            hold: cluster.on_consul_loss == OnConsulLoss::Hold,
            rank_step: RANK_STEP,
            peer: self.local.peer(),
            app: self.local.app(),
        }
    }
}

/// Reads all layers and checks the result.
pub fn load(args: &LoadArgs) -> Result<Config, ConfigError> {
    Layers::read(args)?.config(args.kv.as_deref())
}

fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let fail = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(e.to_string())),
    };
    if size > TEXT_MAX {
        return Err(fail(format!("{size} bytes are more than the {TEXT_MAX} of a configuration")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    Ok(Some((path.to_owned(), text)))
}
