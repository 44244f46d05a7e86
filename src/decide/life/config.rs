//! The cluster's configuration while the node runs: what changed, what is wrong with it, who has
//! another one.
//!
//! A good one replaces the settings at once: every decision reads them when it is made, and none of
//! them is the application's. `Lead` puts a shorter lease (rule 5) and a change of `sync` (rule 17)
//! into their order. A bad one changes nothing and is told, here and in the member record.

use super::facts::with;
use super::{Node, Settings, Side, State};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership, SyncMode};
use crate::decide::reason::Reason;
use crate::decide::records::{ConfigNote, MemberValue};
use crate::decide::time::{At, Span};
use crate::decide::types::NodeName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A change reaches all nodes within moments; one that has not by then needs a person.
const DIFFERS_AFTER: Span = Span::secs(30);

/// What the driver made of `state/config`, or of the node's own file read again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigNews {
    /// Parsed, checked, and no longer lease than this node accepts.
    Good {
        settings: Box<Settings>,
        /// `state/config` as it stands, to be kept on the volume; `None`: there is none.
        text: Option<String>,
    },
    /// It can't be used; which key, where, and the mend.
    Bad { what: String },
    /// The volume could not keep the last good one.
    NotKept { what: String },
}

/// What is remembered of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configured {
    bad: Option<String>,
    /// Settings the `reload` hook has not been told of.
    reload: BTreeSet<String>,
    /// Members with another configuration: which, since when.
    differs: BTreeMap<NodeName, (String, At)>,
    told: BTreeMap<NodeName, String>,
}

impl Node {
    pub(crate) fn config_news(&mut self, now: At, news: ConfigNews, out: &mut Outbox) {
        match news {
            ConfigNews::Good { settings, text } => {
                out.push(Effect::PersistConfig(text));
                self.configure(now, *settings, out);
            }
            ConfigNews::Bad { what } => {
                if self.configured.bad.as_ref() == Some(&what) {
                    return;
                }
                let text = format!("not used, the last good one stays: {what}");
                let reason = Reason::new("config.bad", text).flip("a good value in state/config");
                self.decided(reason, out);
                self.configured.bad = Some(what);
                self.record.transition();
            }
            ConfigNews::NotKept { what } => {
                let text = format!("a start that finds a bad one would have an older one: {what}");
                self.decided(Reason::new("config.not-kept", text), out);
            }
        }
    }

    fn configure(&mut self, now: At, settings: Settings, out: &mut Outbox) {
        let healed = self.configured.bad.take().is_some();
        let (old, new) = (&self.set.stated.listed, &settings.stated.listed);
        let changes: Vec<(&String, String)> = new
            .iter()
            .filter(|(name, value)| old.get(*name) != Some(*value))
            .map(|(name, value)| {
                let before = old.get(name).map_or("none", String::as_str);
                (name, format!("{name} {before} -> {value}"))
            })
            .collect();
        let names: Vec<String> = changes.iter().map(|(name, _)| (*name).clone()).collect();
        let texts: Vec<String> = changes.into_iter().map(|(_, text)| text).collect();
        if healed || !texts.is_empty() {
            let what = if texts.is_empty() { "nothing else".to_owned() } else { texts.join(", ") };
            let healed = if healed { "state/config is good again; " } else { "" };
            let reason = Reason::new("config.changed", format!("{healed}changed: {what}"));
            self.decided(reason, out);
            self.record.transition();
        }
        self.configured.reload.extend(names);
        if settings.lead.sync != self.set.lead.sync {
            self.sync_mode_changes(settings.lead.sync, out);
        }
        let lead = settings.lead.clone();
        self.set = Arc::new(settings);
        self.tell_lead(now, LeadIn::Config(lead), out);
    }

    /// Under `strict` a running primary begins to require when enough replicas are ready.
    fn sync_mode_changes(&mut self, mode: SyncMode, out: &mut Outbox) {
        self.sync.tell_again();
        let SyncMode::Strict(acks) = mode else { return };
        let following = self.members.values().filter(|member| self.follows_me(member)).count();
        if self.state == State::Primary && following < acks as usize {
            let text = format!("strict needs {acks} replicas and {following} follow");
            let reason = Reason::new("sync.too-few", text)
                .flip("that many follow: then every commit waits for them");
            self.decided(reason, out);
        }
    }

    pub(crate) fn config_note(&self) -> ConfigNote {
        ConfigNote {
            digest: self.set.stated.digest.clone(),
            own: self.set.stated.own.clone(),
            bad: self.configured.bad.clone(),
        }
    }

    pub(crate) fn is_config_note(&self, note: &ConfigNote) -> bool {
        let ConfigNote { digest, own, bad } = note;
        let stated = &self.set.stated;
        (digest, own, bad) == (&stated.digest, &stated.own, &self.configured.bad)
    }

    /// Tells the `reload` hook, and, as leader, who has another configuration.
    pub(crate) fn tend_config(&mut self, now: At, out: &mut Outbox) {
        let settled = matches!(self.state, State::Primary | State::Replica);
        if settled && !self.configured.reload.is_empty() && !self.main_hook_running() {
            let names = std::mem::take(&mut self.configured.reload);
            let names: Vec<String> = names.into_iter().collect();
            let facts = with(self.facts(), "CHANGED", names.join(","));
            self.run_side(Side::Reload, facts, out);
        }
        self.tend_differences(now, out);
    }

    pub(crate) fn reload_ended(&mut self, end: HookEnd, out: &mut Outbox) {
        match end {
            HookEnd::Done { .. } | HookEnd::Cancelled => {}
            end => {
                let text = format!("the {} hook ended with {end}", Hook::Reload);
                self.decided(Reason::new("config.reload", text), out);
            }
        }
    }

    fn tend_differences(&mut self, now: At, out: &mut Outbox) {
        if !matches!(self.leadership(), Leadership::Open { .. }) {
            self.configured.differs.clear();
            self.configured.told.clear();
            return;
        }
        let others = self.members.values().filter(|member| member.node != *self.me());
        let differing: BTreeMap<NodeName, ConfigNote> = others
            .filter(|member| self.config_differs(member))
            .filter_map(|member| Some((member.node.clone(), member.config.clone()?)))
            .collect();
        self.configured.differs.retain(|node, (digest, _)| {
            differing.get(node).is_some_and(|note| note.digest == *digest)
        });
        self.configured.told.retain(|node, _| differing.contains_key(node));
        for (node, note) in differing {
            let fresh = || (note.digest.clone(), now);
            let (_, since) = *self.configured.differs.entry(node.clone()).or_insert_with(fresh);
            let told = self.configured.told.get(&node) == Some(&note.digest);
            if told || now.since(since) < DIFFERS_AFTER {
                continue;
            }
            self.configured.told.insert(node.clone(), note.digest.clone());
            let reason = self.difference(&node, &note);
            self.decided(reason, out);
        }
    }

    fn difference(&self, node: &NodeName, note: &ConfigNote) -> Reason {
        let named = |names: &[String]| {
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let text = format!(
            "{node} runs with other settings of the cluster; set on {node} itself: {}; on this \
             leader itself: {}",
            named(&note.own),
            named(&self.set.stated.own)
        );
        let bad = note.bad.is_some();
        let flip = if bad { "a good value in state/config" } else { "set them in KV alone" };
        Reason::new("config.differs", text).flip(flip)
    }

    /// Whether a member is known to run with another configuration than this node.
    pub(crate) fn config_differs(&self, member: &MemberValue) -> bool {
        differs(member, &self.set.stated.digest)
    }
}

fn differs(member: &MemberValue, own: &str) -> bool {
    member.config.as_ref().is_some_and(|note| note.digest != own)
}
