//! All layers but KV's, read once, so that a new text of KV is checked against them at any time
//! without a file, a variable or a wait; and where each value in force comes from.

use super::check::{self, ClusterSettings};
use super::error::{ConfigError, Place};
use super::layer::{self, Source};
use super::settings::{self, Preset, Raw, Scope};
use super::values::{Duration, Name};
use super::{Config, KV_MAX, LoadArgs, Local, Purpose, read_file};
use crate::decide::time::Span;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "from", content = "at", rename_all = "lowercase")]
pub enum Origin {
    Default,
    Kv,
    File(PathBuf),
    Environment(String),
    Flag(String),
    /// What follows `--`.
    Arguments,
}

impl Origin {
    /// This node alone says so: other nodes may say otherwise.
    pub fn is_own(&self) -> bool {
        match self {
            Origin::Default | Origin::Kv => false,
            Origin::File(_) | Origin::Environment(_) | Origin::Flag(_) | Origin::Arguments => true,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Kv => f.write_str("KV state/config"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
            Origin::Arguments => f.write_str("after \"--\""),
        }
    }
}

/// A setting as it is in force.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Effective {
    pub name: &'static str,
    pub scope: Scope,
    /// `None`: not set; `note` says what that means.
    pub value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    pub origin: Origin,
}

/// What a text of KV makes of the cluster's settings on this node.
#[derive(Clone, PartialEq, Debug)]
pub struct Shared {
    pub settings: ClusterSettings,
    /// Those of cluster scope.
    pub effective: Vec<Effective>,
}

impl Shared {
    /// Name and value, as people read them.
    pub fn listed(&self) -> BTreeMap<String, String> {
        let rows = self.effective.iter().map(|it| (it.name.to_owned(), it.shown()));
        rows.collect()
    }

    /// The names of those that this node sets by itself.
    pub fn overridden(&self) -> Vec<String> {
        let own = self.effective.iter().filter(|it| it.origin.is_own());
        own.map(|it| it.name.to_owned()).collect()
    }

    /// The same on every node that has the same values, wherever they come from.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in self.listed() {
            hash.update(format!("{name}={value}\n"));
        }
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Effective {
    /// The value as people read it.
    pub fn shown(&self) -> String {
        match &self.value {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => self.note.unwrap_or("none").to_owned(),
        }
    }
}

/// Defaults, file, environment and flags.
#[derive(Clone, Debug)]
pub struct Layers {
    purpose: Purpose,
    file: Option<(PathBuf, Raw)>,
    consul: Raw,
    variables: Raw,
    flags: Raw,
    command: Vec<String>,
    warnings: Vec<String>,
}

impl Layers {
    /// Reads the file; everything else is in `args`.
    pub fn read(args: &LoadArgs) -> Result<Layers, ConfigError> {
        let file = match read_file(args.file.as_deref())? {
            Some((path, text)) => {
                let raw = layer::from_toml(&text, Source::File(&path, &args.env))?;
                Some((path, raw))
            }
            None => None,
        };
        let (variables, warnings) = layer::from_variables(&args.env)?;
        Ok(Layers {
            purpose: args.purpose,
            file,
            consul: layer::from_consul_variables(&args.env)?,
            variables,
            flags: layer::from_flags(&args.flags)?,
            command: args.command.clone(),
            warnings,
        })
    }

    /// Nothing but the defaults: what a text of KV must hold together with on any node.
    pub fn bare() -> Layers {
        Layers {
            purpose: Purpose::Check,
            file: None,
            consul: Raw::default(),
            variables: Raw::default(),
            flags: Raw::default(),
            command: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn covered(&self, kv: Option<&str>) -> Result<Raw, ConfigError> {
        let mut raw = defaults();
        if let Some(text) = kv {
            raw.cover(layer::from_toml(text, Source::Kv)?);
        }
        let file = self.file.iter().map(|(_, raw)| raw);
        for over in file.chain([&self.consul, &self.variables, &self.flags]) {
            cover(&mut raw, over.clone());
        }
        if !self.command.is_empty() {
            raw.command = Some(self.command.clone());
        }
        Ok(raw)
    }

    /// The whole configuration. Looks up the host name and the own address where they are not set.
    pub fn config(&self, kv: Option<&str>) -> Result<Config, ConfigError> {
        let raw = self.covered(kv)?;
        let local = check::local(&raw, self.purpose)?;
        let cluster = check::cluster(&raw, local.lease_max).map_err(|error| name_kv(error, kv))?;
        Ok(Config { local, cluster, warnings: self.warnings.clone() })
    }

    /// The cluster's settings alone, on a node that accepts leases up to `lease_max`. Pure.
    pub fn shared(&self, kv: Option<&str>, lease_max: Span) -> Result<Shared, ConfigError> {
        let mut raw = self.covered(kv)?;
        let settings = check::cluster(&raw, lease_max).map_err(|error| name_kv(error, kv))?;
        derived(&mut raw, &settings);
        let mut effective = self.effective(&raw, kv)?;
        effective.retain(|it| it.scope == Scope::Cluster);
        Ok(Shared { settings, effective })
    }

    /// Every setting in force, with its origin, in the order of the documentation.
    pub fn all(&self, config: &Config, kv: Option<&str>) -> Result<Vec<Effective>, ConfigError> {
        let mut raw = self.covered(kv)?;
        derived(&mut raw, &config.cluster);
        found(&mut raw, &config.local);
        self.effective(&raw, kv)
    }

    fn effective(&self, raw: &Raw, kv: Option<&str>) -> Result<Vec<Effective>, ConfigError> {
        let names = |raw: &Raw| raw.shown().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let in_kv = match kv {
            Some(text) => names(&layer::from_toml(text, Source::Kv)?),
            None => Vec::new(),
        };
        let file = self.file.as_ref().map(|(path, raw)| (path, names(raw)));
        let (consul, variables, flags) =
            (names(&self.consul), names(&self.variables), names(&self.flags));
        let origin = |setting: &settings::Setting| {
            let name = setting.name;
            if name == "command" && !self.command.is_empty() {
                return Origin::Arguments;
            }
            if flags.contains(&name) {
                return Origin::Flag(format!("--{}", setting.flag()));
            }
            if variables.contains(&name) {
                return Origin::Environment(setting.variable());
            }
            if consul.contains(&name) {
                return Origin::Environment(layer::consul_variable(name).to_owned());
            }
            match &file {
                Some((path, names)) if names.contains(&name) => Origin::File((*path).clone()),
                Some(_) | None if in_kv.contains(&name) => Origin::Kv,
                Some(_) | None => Origin::Default,
            }
        };
        let shown: BTreeMap<&str, Value> = raw.shown().into_iter().collect();
        let row = |setting: &settings::Setting| {
            let value = shown.get(setting.name).cloned();
            let note = match setting.preset {
                Preset::Told(words) if value.is_none() => Some(words),
                Preset::Told(_) | Preset::Is(_) => None,
            };
            let (name, scope) = (setting.name, setting.scope);
            // One that is set and covered by its twin, as a token file by a token, is not in force.
            let origin = if value.is_some() { origin(setting) } else { Origin::Default };
            Effective { name, scope, value, note, origin }
        };
        Ok(settings::all().map(row).collect())
    }
}

/// The text of `state/config`, or why its bytes are none.
pub fn kv_text(bytes: &[u8]) -> Result<&str, ConfigError> {
    let fail = |line, column, what: String| {
        Err(ConfigError::Value { place: Place::Kv { line, column }, what })
    };
    if bytes.len() > KV_MAX {
        let what = format!("{} bytes are more than the {KV_MAX} of a configuration", bytes.len());
        return fail(1, 1, what);
    }
    std::str::from_utf8(bytes).or_else(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        fail(line, column, "this is no UTF-8 text; write TOML".to_owned())
    })
}

/// What follows from other settings where it is not set.
fn derived(raw: &mut Raw, settings: &ClusterSettings) {
    raw.on_crash.get_or_insert(settings.on_crash);
    raw.timeouts.demote.get_or_insert(Duration(settings.timeouts.demote));
}

/// What was found out at the start where it is not set.
fn found(raw: &mut Raw, local: &Local) {
    raw.node.get_or_insert_with(|| Name(local.node.to_string()));
    raw.host.get_or_insert_with(|| local.host.clone());
    raw.address.get_or_insert(local.address);
    if let Some(service) = &local.service {
        raw.service.get_or_insert_with(|| Name(service.clone()));
    }
    raw.consul.addresses.get_or_insert_with(|| local.consul.addresses.clone());
}

/// The other layers held together by themselves before KV was read, so the mend may be there.
fn name_kv(error: ConfigError, kv: Option<&str>) -> ConfigError {
    match error {
        ConfigError::Check(what) if kv.is_some() => {
            ConfigError::Check(format!("with KV state/config: {what}"))
        }
        ConfigError::Check(_) | ConfigError::Unreadable { .. } | ConfigError::Value { .. } => error,
    }
}

/// Covers a layer; a token covers a token file and the other way round, for they are one thing.
fn cover(raw: &mut Raw, over: Raw) {
    if over.consul.token.is_some() || over.consul.token_file.is_some() {
        raw.consul.token = None;
        raw.consul.token_file = None;
    }
    raw.cover(over);
}

/// The lowest layer, from the settings' own table.
fn defaults() -> Raw {
    let mut raw = Raw::default();
    for setting in settings::all() {
        if let Preset::Is(text) = setting.preset {
            let place = Place::Flag(setting.name.to_owned());
            let one =
                layer::one(setting, text, place).expect("test every_default_is_set reads all");
            raw.cover(one);
        }
    }
    raw
}
