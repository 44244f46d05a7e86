//! What an operator asks of the configuration over HTTP: a change of `state/config`, or that the
//! node's own file is read again.
//!
//! A change is judged like one from the command line, against the members that the last read of
//! `state/` showed, and bound to the index it was made from. That it is in force is told later, by
//! the watch, like any other change.

use super::Driver;
use super::live::{self, Inside, text_of};
use crate::config::{self, Layers, NotWritten};
use crate::decide::call::{Call, StoreError, Verb};
use crate::http::{ConfigAsk, ConfigReply};
use crate::store::Store;
use serde_json::{Value, json};
use tokio::sync::oneshot;

impl Driver {
    pub(super) fn config_asked(&mut self, ask: ConfigAsk, reply: oneshot::Sender<ConfigReply>) {
        if reply.is_closed() {
            return;
        }
        match ask {
            ConfigAsk::Patch(patch) => self.patch_config(&patch, reply),
            ConfigAsk::Reload => self.reload(reply),
        }
    }

    fn patch_config(&mut self, patch: &Value, reply: oneshot::Sender<ConfigReply>) {
        let text = match self.patched(patch) {
            Ok(text) => text,
            Err(refusal) => {
                // The asker may be gone: nobody to tell.
                drop(reply.send(refusal));
                return;
            }
        };
        let key = self.node.keys().config();
        let call = Call::Txn(vec![Verb::Cas(key, self.live.stands.index, text.into_bytes())]);
        let (store, limit) = (self.store.clone(), self.config.cluster.request_timeout);
        tokio::spawn(async move {
            let told = match store.call(call, limit).await {
                Ok(_) => ConfigReply::Done(json!({"written": true})),
                Err(StoreError::Conflict { .. }) => ConfigReply::Refused(
                    "state/config changed meanwhile; look at it and ask again".into(),
                ),
                Err(error) if error.is_definite() => ConfigReply::NotWritten(error.to_string()),
                Err(error) => ConfigReply::Unknown(error.to_string()),
            };
            drop(reply.send(told));
        });
    }

    fn patched(&self, patch: &Value) -> Result<String, ConfigReply> {
        let bad = |error: &dyn std::fmt::Display| ConfigReply::Bad(error.to_string());
        let old = text_of(self.live.stands.bytes.as_deref()).map_err(|error| bad(&error))?;
        let text = config::merge(&old.unwrap_or_default(), patch).map_err(|error| bad(&error))?;
        let members: Vec<_> = self.node.members().cloned().collect();
        match config::may_write(&text, &members) {
            Ok(_) => Ok(text),
            Err(NotWritten::Bad(error)) => Err(bad(&error)),
            Err(NotWritten::Strands(why)) => Err(ConfigReply::Refused(why)),
        }
    }

    /// The file is read in the pool; what became of it comes back to the loop.
    fn reload(&mut self, reply: oneshot::Sender<ConfigReply>) {
        let load = self.live.load.clone();
        let inside = self.inside.clone();
        // Tokens, secrets and certificates too: their round is now.
        self.refused.notify_one();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || {
                let layers = Layers::read(&load)?;
                let config = layers.config(None)?;
                Ok::<_, config::ConfigError>((layers, config))
            });
            let read = match read.await {
                Ok(read) => read.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // The loop is gone only when the process leaves.
            drop(inside.send(Inside::Reread { read: read.map(Box::new), reply }).await);
        });
    }

    pub(super) fn inside(&mut self, inside: Inside) {
        let Inside::Reread { read, reply } = inside;
        let told = match read {
            Ok(read) => self.reread(*read),
            Err(what) => ConfigReply::Bad(what),
        };
        drop(reply.send(told));
    }

    /// Cluster settings of the file are in force at once, if all holds together; what else changed
    /// is told as what needs a restart.
    fn reread(&mut self, (layers, fresh): (Layers, config::Config)) -> ConfigReply {
        let rows = |layers: &Layers, config: &config::Config| layers.all(config, None);
        let (Ok(old), Ok(new)) = (rows(&self.live.layers, &self.config), rows(&layers, &fresh))
        else {
            return ConfigReply::Bad("the file can't be shown".into());
        };
        let changed = old.iter().zip(&new).filter(|(old, new)| old.value != new.value);
        let (shared, local): (Vec<_>, Vec<_>) = changed
            .map(|(_, new)| (new.name, new.scope))
            .partition(|(_, scope)| *scope == config::Scope::Cluster);
        let standing = text_of(self.live.stands.bytes.as_deref());
        let judged = standing.and_then(|text| live::shared(&layers, &self.config, text.as_deref()));
        if let Err(what) = judged {
            return ConfigReply::Bad(what);
        }
        self.live.layers = layers;
        self.judge_config();
        let names = |rows: Vec<(&'static str, config::Scope)>| {
            rows.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let restart = names(local);
        if !restart.is_empty() {
            tracing::warn!(event = "config.restart", settings = restart.join(", "));
        }
        ConfigReply::Done(json!({"changed": names(shared), "needs_restart": restart}))
    }
}
