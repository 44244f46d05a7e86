//! The configuration of a running node: what `state/config` says now, and what follows.
//!
//! Parsing and checking are pure and bounded (`config::KV_MAX`), so they run between two steps; the
//! file is read again on the small pool. Whether anything changes is the core's business: here a
//! text only becomes the input that says whether it is good.

use super::volume::Volume;
use super::{Driver, settings};
use crate::config::{self, Config, ConfigError, Layers, LoadArgs, Shared};
use crate::decide::call::Entry;
use crate::decide::hook::Hook;
use crate::decide::io::Input;
use crate::decide::keys::Keys;
use crate::decide::life::ConfigNews;
use crate::decide::types::Index;
use crate::http::ConfigReply;
use crate::process::hooks;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;

/// `state/config` as one read showed it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stands {
    pub index: Index,
    /// `None`: it is not there.
    pub bytes: Option<Vec<u8>>,
}

/// What comes back to the loop from work on the configuration beside it.
pub(super) enum Inside {
    /// The own file, read again, and the whole of what it makes without KV.
    Reread { read: Result<Box<(Layers, Config)>, String>, reply: oneshot::Sender<ConfigReply> },
}

/// What a live configuration needs.
#[derive(Debug)]
pub(super) struct Live {
    pub load: LoadArgs,
    pub layers: Layers,
    /// The last that was looked at, good or bad.
    pub stands: Stands,
    /// In force: made of the last good one.
    pub shared: Shared,
    /// What the volume must keep, where that is other than what it has.
    to_keep: Option<Option<String>>,
    /// Why what stands is not in force.
    pub bad: Option<String>,
    /// The body of `GET /config`: made when it changes, not when it is asked for.
    pub page: Arc<Value>,
}

impl Live {
    /// What the node starts with: `state/config` as it stands, or, where that is bad, what the
    /// volume kept of a former run.
    pub fn first(
        load: LoadArgs,
        layers: Layers,
        config: &Config,
        stands: Stands,
        kept: Option<&str>,
    ) -> Result<Live, String> {
        let standing = text_of(stands.bytes.as_deref())
            .and_then(|text| Ok((shared(&layers, config, text.as_deref())?, text)));
        let (shared, text, bad) = match standing {
            Ok((shared, text)) => (shared, text, None),
            Err(bad) => match kept.map(|text| (shared(&layers, config, Some(text)), text)) {
                Some((Ok(shared), text)) => (shared, Some(text.to_owned()), Some(bad)),
                Some((Err(_), _)) | None => return Err(bad),
            },
        };
        let page = page(&shared, bad.as_deref());
        let trimmed = |text: Option<&str>| text.map(|text| text.trim_end().to_owned());
        let to_keep = (trimmed(kept) != trimmed(text.as_deref())).then_some(text);
        Ok(Live { load, layers, stands, shared, to_keep, bad, page })
    }

    /// Takes in everything under `state/`; whether its configuration is another one than before.
    fn moved(&mut self, keys: &Keys, entries: &[Entry]) -> bool {
        let key = keys.config();
        let found = entries.iter().find(|entry| entry.key == key);
        // A token that sees nothing must not look like a configuration that was deleted.
        if found.is_none() && !entries.iter().any(|entry| entry.key == keys.term()) {
            return false;
        }
        let bytes = found.map(|entry| entry.value.clone());
        let index = found.map(|entry| entry.modify).unwrap_or_default();
        let moved = bytes != self.stands.bytes;
        self.stands = Stands { index, bytes };
        moved
    }
}

/// What is in force and where it comes from. No secret is among it.
fn page(shared: &Shared, bad: Option<&str>) -> Arc<Value> {
    let (digest, settings) = (shared.digest(), &shared.effective);
    Arc::new(json!({"v": 1, "digest": digest, "bad": bad, "settings": settings}))
}

impl Driver {
    /// Before the first step: what the start found is told and kept.
    pub(super) fn begin_config(&mut self) {
        if let Some(what) = self.live.bad.clone() {
            self.queue.push_back(Input::Config(ConfigNews::Bad { what }));
        }
        if let Some(text) = self.live.to_keep.take() {
            self.keep_config(text);
        }
    }

    pub(super) fn keep_config(&mut self, text: Option<String>) {
        let work = move |volume: &Volume| volume.write_config(text.as_deref());
        self.on_volume(work, Input::Tick, |what| Input::Config(ConfigNews::NotKept { what }));
    }

    /// Before the core steps over what the watch of `state/` showed; the news come after it.
    pub(super) fn look_at_config(&mut self, input: &Input) {
        let Input::State { entries, .. } = input else { return };
        if self.live.moved(self.node.keys(), entries) {
            self.judge_config();
        }
    }

    /// What stands in KV, under the own layers as they are now, becomes news for the core.
    pub(super) fn judge_config(&mut self) {
        let judged = text_of(self.live.stands.bytes.as_deref())
            .and_then(|text| Ok((shared(&self.live.layers, &self.config, text.as_deref())?, text)));
        let news = match judged {
            Ok((shared, text)) => {
                let settings = Box::new(settings::settings(&self.config, &shared));
                let cluster = shared.settings.clone();
                self.config = Arc::new(Config { cluster, ..Config::clone(&self.config) });
                self.live.shared = shared;
                self.live.bad = None;
                ConfigNews::Good { settings, text }
            }
            Err(what) => {
                self.live.bad = Some(what.clone());
                ConfigNews::Bad { what }
            }
        };
        self.live.page = page(&self.live.shared, self.live.bad.as_deref());
        self.queue.push_front(Input::Config(news));
    }
}

pub(super) fn text_of(bytes: Option<&[u8]>) -> Result<Option<String>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    config::kv_text(bytes).map(|text| Some(text.to_owned())).map_err(|error| error.to_string())
}

/// The cluster's settings under this text of KV, if this node can serve by them.
pub(super) fn shared(
    layers: &Layers,
    config: &Config,
    text: Option<&str>,
) -> Result<Shared, String> {
    let shared = layers
        .shared(text, config.local.lease_max)
        .map_err(|error: ConfigError| error.to_string())?;
    if settings::needs_sync_hook(shared.settings.sync) {
        hooks::check(&config.local.hooks, Hook::Sync)
            .map_err(|missing| format!("sync: {missing}; put it there on every node first"))?;
    }
    Ok(shared)
}
