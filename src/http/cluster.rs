//! `/cluster`: the whole cluster as this node sees it, and one verdict over it.
//!
//! Made from the published snapshot and the clock at each request. What this node cannot know it
//! says so: another's lease has no deadline here, only the moment its last renewal was seen; who is
//! not asked is neither silent nor well. Must not: ask anybody, or guess.

use super::board::{Published, Role};
use crate::decide::time::{At, Span};
use serde_json::{Value, json};

/// A member asked each second that did not answer for longer is told of.
const SILENT: Span = Span::secs(3);

/// How the cluster is, at a glance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Ok,
    /// There is a primary, and something needs an eye.
    Degraded,
    /// Somebody was the primary; this node can't tell whether it still is.
    Unsure,
    /// No primary.
    Down,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Degraded => "degraded",
            Level::Unsure => "unsure",
            Level::Down => "down",
        }
    }
}

/// The body of `/cluster`.
pub(super) fn cluster(published: &Published, now: At) -> Value {
    let view = View::new(published, now);
    let status = &published.status;
    let members: Vec<Value> = view.members().map(|member| view.row(member)).collect();
    let (level, text, troubles) = view.verdict(&members);
    json!({
        "v": 1,
        "cluster": status["cluster"],
        "cluster_id": status["cluster_id"],
        "node": published.node,
        "version": status["version"],
        "role": view.own_role(),
        "state": published.state,
        "epoch": published.epoch,
        "verdict": {"is": level.word(), "text": text, "troubles": troubles},
        "primary": view.primary,
        "leader": view.leader(),
        "sync": status["sync"],
        "paused": status["paused"],
        "held": view.held(),
        "members": members,
    })
}

struct View<'a> {
    published: &'a Published,
    now: At,
    /// Who acts as the primary, as far as this node can know.
    primary: Option<String>,
    /// Who held the lock when it was last seen, and no proof since.
    stale: Option<String>,
}

impl<'a> View<'a> {
    fn new(published: &'a Published, now: At) -> View<'a> {
        let mut view = View { published, now, primary: None, stale: None };
        let leader = &published.status["leader"];
        let (own, holder) = (published.node.as_str(), leader["node"].as_str());
        if published.role == Role::Primary {
            view.primary = view.acts().then(|| own.to_owned());
        } else if let Some(holder) = holder.filter(|holder| *holder != own) {
            let says = view.members().find(|member| member["node"] == holder);
            let primary = says.is_some_and(|member| member["state"] == "primary");
            if primary && leader["state"] == "held" {
                let fresh = view.seen() <= view.lease().scaled_up(103, 100);
                let place = if fresh { &mut view.primary } else { &mut view.stale };
                *place = Some(holder.to_owned());
            }
        }
        view
    }

    fn members(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let published = self.published;
        published.status["members"].as_array().into_iter().flatten()
    }

    fn acts(&self) -> bool {
        self.published.deadline.is_some_and(|deadline| self.now < deadline)
    }

    /// Whether the lease lives on others' promises, Consul being away; only its holder knows.
    fn held(&self) -> bool {
        self.acts() && self.published.status["leadership"]["lease_source"] == "promises"
    }

    fn own_role(&self) -> &'static str {
        match self.published.role {
            Role::Primary if self.acts() => "primary",
            Role::Replica => "replica",
            Role::Primary | Role::None => "none",
        }
    }

    fn lease(&self) -> Span {
        Span(self.published.status["leader"]["lease_ms"].as_u64().unwrap_or(0))
    }

    fn seen(&self) -> Span {
        self.now.since(self.published.leader_since)
    }

    /// The lock's value; `left_ms` is known to the holder alone, `seen_ms` is since this node first
    /// saw what it last saw.
    fn leader(&self) -> Value {
        let leader = &self.published.status["leader"];
        if leader.is_null() {
            return Value::Null;
        }
        let left = self.published.deadline.map(|deadline| self.now.until(deadline));
        json!({
            "node": leader["node"],
            "epoch": leader["epoch"],
            "state": leader["state"],
            "to": leader["to"],
            "app": leader["app"],
            "peer": leader["peer"],
            "lease_ms": leader["lease_ms"],
            "left_ms": left,
            "seen_ms": self.seen(),
        })
    }

    fn row(&self, member: &Value) -> Value {
        let name = member["node"].as_str().unwrap_or_default();
        let role = if name == self.published.node.as_str() {
            self.own_role()
        } else if self.primary.as_deref() == Some(name) {
            "primary"
        } else if member["state"] == "replica" {
            "replica"
        } else {
            "none"
        };
        let leader = &self.published.status["leader"];
        let follows = &member["follows"];
        let current = follows["run"].is_string()
            && (&follows["node"], &follows["run"]) == (&leader["node"], &leader["run"]);
        let field = |name: &str| member[name].clone();
        json!({
            "node": name,
            "role": role,
            "state": member["state"],
            "leader": member["leader"],
            "sync": member["sync"],
            "eligible": member["eligible"],
            "follows": follows["node"],
            "follows_leader": role == "replica" && current,
            "lag_seconds": field("lag_seconds"),
            "silent_ms": field("silent_ms"),
            "app": field("app"),
            "peer": field("peer"),
            "zone": field("zone"),
            "host": field("host"),
            "tags": field("tags"),
            "priority": field("priority"),
            "no_failover": field("no_failover"),
            "version": field("version"),
        })
    }

    fn verdict(&self, members: &[Value]) -> (Level, String, Vec<Value>) {
        let rows = members.iter().filter_map(|row| self.trouble(row));
        let troubles: Vec<Value> = self.of_all().into_iter().chain(rows).collect();
        let (level, text) = match (&self.primary, &self.stale) {
            (Some(primary), _) if troubles.is_empty() => {
                let replicas = members.iter().filter(|row| row["follows_leader"] == true).count();
                (Level::Ok, format!("{primary} is the primary, {} it", follow(replicas)))
            }
            (Some(primary), _) => {
                let text = format!("{primary} is the primary; {} to look at", things(&troubles));
                (Level::Degraded, text)
            }
            (None, Some(stale)) => {
                let (seen, lease) = (self.seen(), self.lease());
                let text = format!(
                    "{stale} was the primary; its last renewal was seen {seen} ago, its lease is \
                     {lease}"
                );
                (Level::Unsure, text)
            }
            (None, None) => (Level::Down, self.nobody()),
        };
        (level, text, troubles)
    }

    fn nobody(&self) -> String {
        let status = &self.published.status;
        let waits = status["waits_for"]["text"].as_str();
        match waits.unwrap_or(&self.published.reason.text) {
            "" => "no primary".to_owned(),
            why => format!("no primary: {why}"),
        }
    }

    /// What concerns the whole cluster.
    fn of_all(&self) -> Vec<Value> {
        let told = |text: String| json!({"node": null, "text": text});
        let pause = &self.published.status["paused"];
        let word = |name: &str| pause[name].as_str().unwrap_or("nobody knows");
        let why = pause["reason"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
        let paused = pause.is_object().then(|| {
            told(format!("paused by {}{why}: nothing takes over or restarts", word("by")))
        });
        let held = self.held().then(|| {
            told("Consul is away: the lease lives on the other members' promises".to_owned())
        });
        paused.into_iter().chain(held).collect()
    }

    /// What needs an eye at a member.
    fn trouble(&self, row: &Value) -> Option<Value> {
        let state = row["state"].as_str().unwrap_or_default();
        let silent = Span(row["silent_ms"].as_u64().unwrap_or(0));
        let text = if silent > SILENT {
            format!("has not answered for {} s", silent.0 / 1_000)
        } else if row["role"] == "none" {
            format!("is {state}")
        } else if row["role"] == "replica" && row["follows_leader"] != true {
            "does not follow the leader".to_owned()
        } else if row["eligible"] != true {
            "is not admitted: it may not take over".to_owned()
        } else {
            return None;
        };
        Some(json!({"node": row["node"], "text": text}))
    }
}

fn follow(replicas: usize) -> String {
    match replicas {
        0 => "nobody follows".to_owned(),
        1 => "1 replica follows".to_owned(),
        more => format!("{more} replicas follow"),
    }
}

fn things(troubles: &[Value]) -> String {
    match troubles.len() {
        1 => "1 thing".to_owned(),
        more => format!("{more} things"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::reason::Reason;
    use crate::decide::types::{Epoch, NodeName};
    use crate::http::board::App;
    use std::sync::Arc;

    const NOW: At = At(10_000);

    fn member(node: &str, state: &str) -> Value {
        let follows = (state == "replica").then(|| json!({"epoch": 3, "node": "a", "run": "ra"}));
        json!({
            "node": node, "state": state, "eligible": true, "sync": false, "leader": node == "a",
            "follows": follows,
        })
    }

    /// `a` leads, `b` and `c` follow, as `node` sees it.
    fn seen_by(node: &str, role: Role, deadline: Option<At>, members: Vec<Value>) -> Published {
        let leader = json!({
            "node": "a", "run": "ra", "epoch": 3, "state": "held", "lease_ms": 3_000,
        });
        let status = json!({
            "cluster": "db", "leader": leader, "members": members,
            "waits_for": {"code": "take.wait", "text": "waits 1 s"},
        });
        Published {
            node: NodeName::new(node),
            role,
            state: if role == Role::Primary { "primary" } else { "replica" }.into(),
            epoch: Epoch(3),
            deadline,
            sync: false,
            lag_seconds: None,
            app: App::Healthy,
            ready: true,
            leader: Some(NodeName::new("a")),
            leader_since: At(9_000),
            reason: Reason::new("test", "a test"),
            status: Arc::new(status),
            config: Arc::new(serde_json::json!({})),
        }
    }

    fn three() -> Vec<Value> {
        vec![member("a", "primary"), member("b", "replica"), member("c", "replica")]
    }

    fn verdict(seen: &Published, now: At) -> (String, String) {
        let verdict = &cluster(seen, now)["verdict"];
        let word = |name: &str| verdict[name].as_str().unwrap_or_default().to_owned();
        (word("is"), word("text"))
    }

    #[test]
    fn a_primary_with_its_replicas_is_ok_as_each_of_them_sees_it() {
        let text = "a is the primary, 2 replicas follow it".to_owned();
        let leads = seen_by("a", Role::Primary, Some(At(12_500)), three());
        let follows = seen_by("b", Role::Replica, None, three());
        for seen in [&leads, &follows] {
            assert_eq!(verdict(seen, NOW), ("ok".into(), text.clone()));
            let cluster = cluster(seen, NOW);
            let roles: Vec<_> = (0..3).map(|i| cluster["members"][i]["role"].clone()).collect();
            assert_eq!(roles, ["primary", "replica", "replica"]);
            assert_eq!(cluster["leader"]["seen_ms"], 1_000);
        }
        assert_eq!(cluster(&leads, NOW)["leader"]["left_ms"], 2_500);
        assert_eq!(cluster(&follows, NOW)["leader"]["left_ms"], Value::Null);
    }

    /// No step happens: the clock alone turns the verdict.
    #[test]
    fn a_lease_that_is_over_leaves_no_primary() {
        let leads = seen_by("a", Role::Primary, Some(At(12_500)), three());
        let (level, text) = verdict(&leads, At(12_500));
        assert_eq!((level.as_str(), text.as_str()), ("down", "no primary: waits 1 s"));
        assert_eq!(cluster(&leads, At(12_500))["members"][0]["role"], "none");
        // Another's lease may have been promised longer: a follower can't know.
        let follows = seen_by("b", Role::Replica, None, three());
        assert_eq!(verdict(&follows, At(12_090)).0, "ok");
        let (level, text) = verdict(&follows, At(12_091));
        assert_eq!(level, "unsure");
        assert!(text.contains("seen 3.091 s ago, its lease is 3 s"), "{text}");
    }

    #[test]
    fn what_needs_an_eye_is_named() {
        for (change, says) in [
            (json!({"silent_ms": 14_200}), "has not answered for 14 s"),
            (json!({"state": "bootstrapping", "follows": null}), "is bootstrapping"),
            (json!({"follows": null}), "does not follow the leader"),
            (json!({"follows": {"node": "a", "run": "older"}}), "does not follow the leader"),
            (json!({"eligible": false}), "is not admitted"),
        ] {
            let mut members = three();
            for (name, value) in change.as_object().expect("an object") {
                members[2][name] = value.clone();
            }
            let seen = seen_by("a", Role::Primary, Some(At(12_500)), members);
            assert_eq!(verdict(&seen, NOW).0, "degraded", "{says}");
            let trouble = &cluster(&seen, NOW)["verdict"]["troubles"][0];
            assert_eq!(trouble["node"], "c");
            assert!(trouble["text"].as_str().is_some_and(|it| it.contains(says)), "{trouble}");
        }
        // Asked and answered late is no trouble yet; never asked is none at all.
        let mut members = three();
        members[1]["silent_ms"] = json!(3_000);
        let seen = seen_by("a", Role::Primary, Some(At(12_500)), members);
        assert_eq!(verdict(&seen, NOW).0, "ok");
    }

    #[test]
    fn a_pause_and_a_held_lease_are_told() {
        let mut seen = seen_by("a", Role::Primary, Some(At(12_500)), three());
        let mut status = (*seen.status).clone();
        status["paused"] = json!({"v": 1, "by": "cli root@ops", "at": 1, "reason": "disks"});
        status["leadership"] = json!({"is": "open", "lease_source": "promises"});
        seen.status = Arc::new(status);
        let told = cluster(&seen, NOW);
        assert_eq!(told["verdict"]["is"], "degraded");
        assert_eq!(told["verdict"]["text"], "a is the primary; 2 things to look at");
        let texts = told["verdict"]["troubles"].to_string();
        assert!(texts.contains("paused by cli root@ops (disks)"), "{texts}");
        assert!(texts.contains("Consul is away"), "{texts}");
        assert_eq!(told["held"], true);
        assert_eq!(cluster(&seen, At(12_500))["held"], false);
    }

    #[test]
    fn without_a_leader_there_is_none() {
        let mut seen = seen_by("b", Role::None, None, vec![member("b", "joining")]);
        seen.status = Arc::new(json!({"members": [member("b", "joining")]}));
        let cluster = cluster(&seen, NOW);
        assert_eq!(cluster["verdict"]["text"], "no primary: a test");
        assert_eq!((&cluster["leader"], &cluster["primary"]), (&Value::Null, &Value::Null));
    }
}
