//! From the core's snapshot to what the HTTP side shows.

use crate::decide::life::Node;
use crate::decide::reason::Reason;
use crate::decide::time::At;
use crate::decide::types::NodeName;
use crate::http::{App, Published, Role};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn published(node: &Node, config: &Arc<Value>, now: At) -> Published {
    let shown = node.snapshot(now);
    let role = match shown.role {
        "primary" => Role::Primary,
        "replica" => Role::Replica,
        _ => Role::None,
    };
    let app = match (shown.app_running, shown.healthy) {
        (false, _) => App::Down,
        (true, false) => App::Failing,
        (true, true) => App::Healthy,
    };
    Published {
        node: node.name().clone(),
        role,
        state: shown.state.to_owned(),
        epoch: shown.epoch,
        deadline: shown.deadline,
        sync: shown.in_sync,
        lag_seconds: shown.lag_seconds,
        app,
        ready: shown.ready,
        leader: shown.leader.as_deref().map(NodeName::new),
        leader_since: shown.leader_since,
        reason: shown.reason,
        status: Arc::new(shown.status),
        config: Arc::clone(config),
    }
}

/// Before there is a core: Consul has not answered yet.
pub(super) fn waiting(node: &NodeName, why: &str) -> Published {
    let reason = Reason::new("start.consul", why).flip("Consul answers");
    let wall = super::wall::now_ms();
    let status = serde_json::json!({
        "v": 1,
        "node": node,
        "state": "init",
        "role": "none",
        "members": [],
        "reasons": [
            {"at": wall, "code": reason.code, "text": reason.text, "flip": reason.flip},
        ],
    });
    Published {
        node: node.clone(),
        role: Role::None,
        state: "init".into(),
        epoch: Default::default(),
        deadline: None,
        sync: false,
        lag_seconds: None,
        app: App::Down,
        ready: false,
        leader: None,
        leader_since: At(0),
        reason,
        status: Arc::new(status),
        config: Arc::new(serde_json::json!({"v": 1, "settings": []})),
    }
}
