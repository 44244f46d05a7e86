//! One scrape: the counters, and gauges of what the snapshot and the clock say now.
//!
//! OpenMetrics 1.0 to whom accepts it, else Prometheus' older text format 0.0.4: the same lines
//! less `# UNIT` and `# EOF`, and a counter's type is told under its sample's name.

use super::process::{self, Cost};
use super::{Metrics, seconds};
use crate::decide::life::State;
use crate::decide::time::{At, Span};
use crate::http::auth::{PeerAuth, Refusal};
use crate::http::board::{App, Published, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde_json::Value;
use std::fmt::Error;
use std::sync::Arc;

/// What the asker reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Format {
    OpenMetrics,
    Text,
}

impl Format {
    /// By the `Accept` header.
    pub fn accepted(accept: Option<&str>) -> Format {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Format::OpenMetrics,
            Some(_) | None => Format::Text,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What is true now.
#[derive(Clone, Debug)]
pub(in crate::http) struct Scrape {
    published: Arc<Published>,
    now: At,
    idle: Span,
    refused: [u64; Refusal::ALL.len()],
    log_dropped: u64,
    cost: Cost,
}

impl Scrape {
    pub fn new(published: Arc<Published>, last_step: At, now: At, auth: &PeerAuth) -> Scrape {
        Scrape {
            published,
            now,
            idle: now.since(last_step),
            refused: Refusal::ALL.map(|why| auth.refused(why)),
            log_dropped: 0,
            cost: process::cost(),
        }
    }
}

impl Metrics {
    /// The whole text.
    pub(in crate::http) fn render(&self, scrape: Scrape, format: Format) -> String {
        let log_dropped = (self.0.log_dropped)();
        let mut moment = Registry::with_prefix("lictor");
        moment.register_collector(Box::new(Scrape { log_dropped, ..scrape }));
        let mut text = String::new();
        let written = encode_registry(&mut text, &moment)
            .and_then(|()| encode_registry(&mut text, &self.0.registry))
            .and_then(|()| encode_eof(&mut text));
        written.expect("writing to a String cannot fail");
        match format {
            Format::OpenMetrics => text,
            Format::Text => older(&text),
        }
    }
}

fn older(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut held: Option<&str> = None;
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        if line.starts_with("# HELP ") {
            held = Some(line);
            continue;
        }
        let help = held.take();
        let suffix = match line.strip_prefix("# TYPE ").and_then(|rest| rest.rsplit_once(' ')) {
            Some((_, "counter")) => "_total",
            Some((_, "info")) => "_info",
            Some(_) | None => "",
        };
        for line in help.into_iter().chain([line]) {
            lines.push_str(&renamed(line, suffix));
            lines.push('\n');
        }
    }
    lines
}

/// `# TYPE name counter` tells the type of samples called `name_total`.
fn renamed(line: &str, suffix: &str) -> String {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(word), Some(name), Some(rest)) => {
            let rest = if word == "TYPE" && rest == "info" { "gauge" } else { rest };
            format!("# {word} {name}{suffix} {rest}")
        }
        _ => line.to_owned(),
    }
}

type Encoded = Result<(), Error>;

/// No exemplars here.
type Plain = [(&'static str, &'static str); 0];

struct Gauges<'a>(DescriptorEncoder<'a>);

impl Gauges<'_> {
    /// A registry ends its helps so, too.
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, Error> {
        self.0.encode_descriptor(name, &format!("{help}."), unit, kind)
    }

    fn one(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> Encoded {
        encode(&mut self.begin(name, help, unit, MetricType::Gauge)?, value)
    }

    fn is(&mut self, name: &str, help: &str, value: bool) -> Encoded {
        self.one(name, help, None, if value { 1.0 } else { 0.0 })
    }

    fn many<'w>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'w str, f64)>,
    ) -> Encoded {
        let mut family = self.begin(name, help, None, MetricType::Gauge)?;
        for (word, value) in values {
            encode(&mut family.encode_family(&[(label, word)])?, value)?;
        }
        Ok(())
    }

    fn counters<'w>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'w str, u64)>,
    ) -> Encoded {
        let mut family = self.begin(name, help, None, MetricType::Counter)?;
        for (word, value) in values {
            let labels = [(label, word)];
            family.encode_family(&labels)?.encode_counter::<Plain, u64, u64>(&value, None)?;
        }
        Ok(())
    }
}

/// Whole numbers without a fraction: people read this too.
fn encode(gauge: &mut MetricEncoder<'_>, value: f64) -> Encoded {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return gauge.encode_gauge(&(value as i64));
    }
    gauge.encode_gauge(&value)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Encoded {
        let mut gauges = Gauges(encoder);
        self.identity(&mut gauges)?;
        self.role(&mut gauges)?;
        self.lease(&mut gauges)?;
        self.application(&mut gauges)?;
        self.members(&mut gauges)?;
        self.process(&mut gauges)
    }
}

impl Scrape {
    fn identity(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let help = "Which lictor this is";
        let cluster = self.published.status["cluster"].as_str().unwrap_or_default();
        let node = self.published.node.as_str();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("cluster", cluster), ("node", node)];
        gauges.begin("build", help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn role(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let acts = self.left() > Span::ZERO;
        let role = match self.published.role {
            Role::Primary if acts => "primary",
            Role::Replica => "replica",
            Role::Primary | Role::None => "none",
        };
        let help = "The role of the application here: 1 for the one that holds. `primary` only \
                    while the lease runs, as `/primary` answers";
        let roles = ["primary", "replica", "none"];
        gauges.many("role", help, "role", roles.map(|it| (it, flag(it == role))).into_iter())?;
        let help = "The node's state: 1 for the one that holds";
        let known = State::NAMES.contains(&self.published.state.as_str());
        let state = if known { self.published.state.as_str() } else { "other" };
        let states = State::NAMES.into_iter().chain(["other"]);
        gauges.many("state", help, "state", states.map(|it| (it, flag(it == state))))?;
        gauges.is("ready", "Whether the role is settled, as `/readiness`", self.published.ready)?;
        let help = "The epoch of the term last seen; it only grows";
        gauges.one("epoch", help, None, self.published.epoch.0 as f64)
    }

    /// What is left of the own lease.
    fn left(&self) -> Span {
        self.published.deadline.map_or(Span::ZERO, |deadline| self.now.until(deadline))
    }

    fn lease(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let help = "Whether this node holds a lease that still runs";
        gauges.is("leader", help, self.left() > Span::ZERO)?;
        let help = "What is left of this node's own lease now; 0 where it holds none";
        gauges.one("lease_left", help, Some(&Unit::Seconds), seconds(self.left()))?;
        let lease = self.published.status["leader"]["lease_ms"].as_u64();
        if let Some(lease) = lease {
            let help = "The length of the leader's lease; absent while there was no leader yet";
            gauges.one("lease", help, Some(&Unit::Seconds), seconds(Span(lease)))?;
        }
        let help = "Since the core's last step; `/liveness` fails above 10";
        gauges.one("core_idle", help, Some(&Unit::Seconds), seconds(self.idle))
    }

    fn application(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let app = self.published.app;
        gauges.is("application_up", "Whether the application's process runs", app != App::Down)?;
        let help = "Whether it runs and its check passes";
        gauges.is("application_healthy", help, app == App::Healthy)?;
        if let Some(lag) = self.published.lag_seconds {
            let help = "How far this replica is behind; absent while unknown and on a primary";
            gauges.one("replication_lag", help, Some(&Unit::Seconds), lag)?;
        }
        Ok(())
    }

    fn members(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let status = &self.published.status;
        let members = status["members"].as_array().map_or(&[][..], |members| members);
        let help = "Members by the state they last reported (`other`: one this version does not \
                    know)";
        let state = |member: &Value| {
            let told = member["state"].as_str().unwrap_or_default();
            State::NAMES.into_iter().find(|name| *name == told).unwrap_or("other")
        };
        let states = State::NAMES
            .into_iter()
            .chain(["other"])
            .map(|name| (name, count(members.iter().filter(|member| state(member) == name))));
        gauges.many("members", help, "state", states)?;
        let eligible = members.iter().filter(|member| member["eligible"] == true);
        let help = "Members that may take over, the leader too";
        gauges.one("eligible_members", help, None, count(eligible))?;
        let sync = status["sync"]["members"].as_array().map_or(0.0, |all| count(all.iter()));
        let help = "Nodes that can be promoted without loss, the leader too; 0 without sync mode";
        gauges.one("sync_members", help, None, sync)?;
        let help = "Whether this node is one of them, as `state/sync` says";
        gauges.is("sync_member", help, self.published.sync)
    }

    fn process(&self, gauges: &mut Gauges<'_>) -> Encoded {
        let help = "Requests to `/peer/` that were refused with 401, by why";
        let refused = Refusal::ALL
            .iter()
            .zip(self.refused)
            .map(|(why, count)| (why.code().trim_start_matches("peer."), count));
        gauges.counters("peer_refused", help, "why", refused)?;
        let help = "Lines of the log that were dropped because nobody read stderr";
        let mut counter = gauges.begin("log_lines_dropped", help, None, MetricType::Counter)?;
        counter.encode_counter::<Plain, u64, u64>(&self.log_dropped, None)?;
        let help = "Resident memory of the sidecar's process, without the guard's";
        let bytes = self.cost.resident_bytes as f64;
        gauges.one("process_resident_memory", help, Some(&Unit::Bytes), bytes)?;
        let help = "Open file descriptors of the sidecar's process";
        gauges.one("process_open_fds", help, None, self.cost.open_files as f64)?;
        let help = "CPU time of the sidecar's process, user and system";
        let (name, unit) = ("process_cpu", Some(&Unit::Seconds));
        let mut cpu = gauges.begin(name, help, unit, MetricType::Counter)?;
        cpu.encode_counter::<Plain, f64, u64>(&self.cost.cpu_seconds, None)
    }
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn count<T>(these: impl Iterator<Item = T>) -> f64 {
    these.count() as f64
}
