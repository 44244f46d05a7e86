//! The text against a strict reader of the format, the bound of its size, and `docs/metrics.md`.

use super::scrape::{Format, Scrape};
use super::*;
use crate::decide::reason::Reason;
use crate::decide::time::At;
use crate::decide::types::{Epoch, NodeName, RunId};
use crate::http::auth::PeerAuth;
use crate::http::board::{App, Published, Role};
use std::collections::{BTreeMap, BTreeSet};

/// What one family is.
#[derive(Clone, PartialEq, Debug, Default)]
struct Read {
    kind: String,
    unit: String,
    help: String,
    samples: Vec<Sample>,
}

/// A line: name, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

type Families = BTreeMap<String, Read>;

/// Reads a text as strictly as the formats say; the families by their name.
fn read(text: &str, format: Format) -> Families {
    let mut families = Families::new();
    let mut current = String::new();
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "lines, none of them empty");
    let body = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("ends with EOF"),
        Format::Text => text,
    };
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# ") {
            let words: Vec<&str> = told.splitn(3, ' ').collect();
            let [word, name, rest] = words[..] else { panic!("three parts: {line}") };
            let begins = word == "HELP";
            assert_eq!(families.contains_key(name), !begins, "each once, HELP first: {line}");
            let family = families.entry(name.to_owned()).or_default();
            match word {
                "HELP" => family.help = rest.to_owned(),
                "TYPE" => family.kind = rest.to_owned(),
                "UNIT" if format == Format::OpenMetrics => family.unit = rest.to_owned(),
                _ => panic!("not of the format: {line}"),
            }
            current = name.to_owned();
            continue;
        }
        let (name, labels, value) = sample(line);
        let family = families.get_mut(&current).expect("told before its samples");
        assert!(fits(&current, family, &name, format), "{name} under {current}: {family:?}");
        family.samples.push((name, labels, value));
    }
    for (name, family) in &families {
        let series: BTreeSet<_> = family.samples.iter().map(|(n, l, _)| (n, l)).collect();
        assert_eq!(series.len(), family.samples.len(), "no series twice: {name}");
        assert!(name.ends_with(&family.unit), "the unit is in the name: {name}");
    }
    families
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a number") };
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.starts_with("lictor_") && name.chars().all(word), "{line}");
    let labels = labels.strip_suffix('}').expect("closed");
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once('=').expect("key=value");
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).expect("quoted");
        assert!(key.chars().all(word) && !value.contains(['"', '\\', '\n']), "{line}");
        (key.to_owned(), value.to_owned())
    });
    (name.to_owned(), labels.collect(), value)
}

/// Whether a sample's name is one that its family's type has.
fn fits(family: &str, read: &Read, name: &str, format: Format) -> bool {
    let suffix = name.strip_prefix(family).unwrap_or("not");
    match (read.kind.as_str(), format) {
        ("counter", Format::OpenMetrics) => suffix == "_total",
        ("info", Format::OpenMetrics) => suffix == "_info",
        ("counter", Format::Text) => suffix.is_empty() && name.ends_with("_total"),
        ("gauge", _) => suffix.is_empty(),
        ("histogram", _) => ["_bucket", "_sum", "_count"].contains(&suffix),
        _ => false,
    }
}

fn published() -> Published {
    let status = serde_json::json!({
        "cluster": "db",
        "leader": {"node": "a", "lease_ms": 3_000},
        "sync": {"members": ["a", "b"]},
        "members": [
            {"state": "primary", "eligible": true},
            {"state": "replica", "eligible": true},
            {"state": "\"} 1\nevil 2", "eligible": false},
        ],
    });
    Published {
        node: NodeName::new("a"),
        role: Role::Primary,
        state: "primary".into(),
        epoch: Epoch(12),
        deadline: Some(At(3_250)),
        sync: true,
        lag_seconds: Some(0.5),
        app: App::Healthy,
        ready: true,
        leader: Some(NodeName::new("a")),
        leader_since: At(0),
        reason: Reason::new("test", "a test"),
        status: Arc::new(status),
        config: Arc::new(serde_json::json!({})),
    }
}

fn text(metrics: &Metrics, published: Published, now: At, format: Format) -> String {
    let auth = PeerAuth::new(NodeName::new("a"), RunId::new("ra"));
    metrics.render(Scrape::new(Arc::new(published), At(900), now, &auth), format)
}

/// Something of everything, so that every family has its samples.
fn used() -> Metrics {
    let metrics = Metrics::new(|| 7);
    metrics.decided("take");
    metrics.answered("/primary", http::StatusCode::OK);
    metrics.called("renew", "done", Span(4));
    metrics.called("renew", "unknown", Span(500));
    metrics.called("take", "done", Span(9));
    metrics.hook_ended(Hook::Promote, "done", Span(52));
    metrics.app_started();
    metrics.app_started();
    metrics.fenced("deadline");
    metrics
}

fn value(families: &Families, series: &str) -> f64 {
    let (name, labels, _) = sample(&format!("{series} 0"));
    let all = families.values().flat_map(|family| &family.samples);
    let mut found = all.filter(|(n, l, _)| *n == name && *l == labels).map(|(_, _, value)| *value);
    found.next().unwrap_or_else(|| panic!("no {series}"))
}

#[test]
fn both_texts_are_well_formed_and_say_the_same() {
    let metrics = used();
    let open =
        read(&text(&metrics, published(), At(1_000), Format::OpenMetrics), Format::OpenMetrics);
    let older = read(&text(&metrics, published(), At(1_000), Format::Text), Format::Text);
    assert_eq!(open.len(), older.len());
    for families in [&open, &older] {
        for (series, want) in [
            ("lictor_build_info{version=\"0.1.0\",cluster=\"db\",node=\"a\"}", 1.0),
            ("lictor_role{role=\"primary\"}", 1.0),
            ("lictor_role{role=\"replica\"}", 0.0),
            ("lictor_state{state=\"primary\"}", 1.0),
            ("lictor_epoch", 12.0),
            ("lictor_lease_left_seconds", 2.25),
            ("lictor_lease_seconds", 3.0),
            ("lictor_replication_lag_seconds", 0.5),
            ("lictor_core_idle_seconds", 0.1),
            ("lictor_members{state=\"replica\"}", 1.0),
            ("lictor_members{state=\"other\"}", 1.0),
            ("lictor_eligible_members", 2.0),
            ("lictor_sync_members", 2.0),
            ("lictor_lease_renewals_total{outcome=\"done\"}", 1.0),
            ("lictor_lease_renewals_total{outcome=\"unknown\"}", 1.0),
            ("lictor_lease_renewals_total{outcome=\"conflict\"}", 0.0),
            ("lictor_lease_renewal_duration_seconds_count", 2.0),
            ("lictor_lease_renewal_duration_seconds_bucket{le=\"0.005\"}", 1.0),
            ("lictor_consul_requests_total{kind=\"take\",outcome=\"done\"}", 1.0),
            ("lictor_takes_total{outcome=\"done\"}", 1.0),
            ("lictor_hook_runs_total{hook=\"promote\",end=\"done\"}", 1.0),
            ("lictor_hook_runs_total{hook=\"promote\",end=\"failed\"}", 0.0),
            ("lictor_hook_duration_seconds_sum{hook=\"promote\"}", 0.052),
            ("lictor_application_starts_total", 2.0),
            ("lictor_application_restarts_total", 1.0),
            ("lictor_fences_total{by=\"deadline\"}", 1.0),
            ("lictor_decisions_total{code=\"take\"}", 1.0),
            ("lictor_http_requests_total{path=\"/primary\",code=\"200\"}", 1.0),
            ("lictor_log_lines_dropped_total", 7.0),
            ("lictor_peer_refused_total{why=\"wrong-mac\"}", 0.0),
        ] {
            assert_eq!(value(families, series), want, "{series}");
        }
        assert!(value(families, "lictor_process_resident_memory_bytes") > 500_000.0);
    }
}

/// What the lease leaves is told as of the scrape, and what is unknown is absent, never 0.
#[test]
fn gauges_are_of_the_moment() {
    let metrics = used();
    let seen = |published, now| {
        read(&text(&metrics, published, now, Format::OpenMetrics), Format::OpenMetrics)
    };
    let over = seen(published(), At(3_250));
    for (series, want) in [
        ("lictor_lease_left_seconds", 0.0),
        ("lictor_leader", 0.0),
        ("lictor_role{role=\"primary\"}", 0.0),
        ("lictor_role{role=\"none\"}", 1.0),
    ] {
        assert_eq!(value(&over, series), want, "{series}");
    }
    let status = Arc::new(serde_json::json!({}));
    let early = seen(Published { lag_seconds: None, status, ..published() }, At(1_000));
    assert!(!early.contains_key("lictor_replication_lag_seconds"));
    assert!(!early.contains_key("lictor_lease_seconds"));
    assert_eq!(value(&early, "lictor_members{state=\"replica\"}"), 0.0);
}

/// Series at the start, and the most that can be added: the codes of decisions (a word of the
/// source each, below 150) and paths by status codes (32 by 12). Those at the start grow
/// with the hooks alone: there are eleven.
#[test]
fn the_number_of_series_has_a_bound() {
    const AT_START: usize = 430;
    let families = read(&text(&Metrics::default(), published(), At(0), Format::Text), Format::Text);
    let series: usize = families.values().map(|family| family.samples.len()).sum();
    assert!(series <= AT_START, "{series}");
    assert!(families.values().all(|family| !family.help.is_empty()));
}

const FROM: &str = "<!-- the table is made: `UPDATE=1 cargo test --lib metrics_page` -->\n";
const TO: &str = "<!-- end of the table -->\n";

fn table(families: &Families) -> String {
    let mut rows = "| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n".to_owned();
    for (name, family) in families {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in family.samples.iter().flat_map(|(_, labels, _)| labels) {
            labels.entry(key).or_default().insert(value);
        }
        labels.remove("le");
        let open = ["code", "path", "version", "cluster", "node"];
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, values)| {
                let values: Vec<_> = values.iter().copied().collect();
                let told = if open.contains(key) { String::new() } else { values.join(" ") };
                format!("`{key}` {told}").trim_end().to_owned()
            })
            .collect();
        let unit = if family.unit.is_empty() { "" } else { &family.unit };
        rows += &format!(
            "| `{name}{suffix}` | {} | {unit} | {} | {} |\n",
            family.kind,
            labels.join("; "),
            family.help
        );
    }
    rows
}

/// The page's table is what is exported, and its alerts name nothing else.
#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of this test")]
fn metrics_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let families =
        read(&text(&used(), published(), At(1_000), Format::OpenMetrics), Format::OpenMetrics);
    let old = std::fs::read_to_string(path).expect("docs/metrics.md is there");
    let (head, rest) = old.split_once(FROM).expect("the table's beginning is marked");
    let (_, tail) = rest.split_once(TO).expect("the table's end is marked");
    let want = format!("{head}{FROM}{}{TO}{tail}", table(&families));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &want).expect("docs/metrics.md can be written");
    }
    let have = std::fs::read_to_string(path).expect("docs/metrics.md is there");
    assert!(have == want, "docs/metrics.md is old: UPDATE=1 cargo test --lib metrics_page");
    let rows = table(&families);
    let part = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    for name in format!("{head}{tail}").split(part).filter(|it| it.starts_with("lictor_")) {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = |name: &str| rows.contains(&format!("| `{name}` |"));
        assert!(known(name) || stem.is_some_and(known), "{name} is not exported");
    }
}
