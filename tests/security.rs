//! A whole cluster with everything locked: Consul under default-deny and by https with client
//! certificates, HTTPS between the nodes, a token a node with exactly the documented rules.
//!
//! It does what every cluster does, shows its secrets nowhere, and has its tokens replaced and
//! revoked under a writer.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and threads of its own")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::cluster::{Cluster, Options};
use common::node::{APP_SECRET, Node, ROOT_SECRET};
use common::safe::{OPERATOR, rules, secret, token_file};
use common::writer::Writer;
use common::{wait_for, wait_some};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

mod common;

/// Generous: what is waited for takes seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at all processes: hooks live for some ten milliseconds.
const LOOK: Duration = Duration::from_millis(15);
const PAGES: [&str; 9] = [
    "/",
    "/status",
    "/cluster",
    "/metrics",
    "/history",
    "/config",
    "/explain",
    "/requests",
    "/none",
];

#[test]
fn a_locked_cluster_lives_and_its_tokens_are_replaced() {
    let mut cluster = Cluster::start(Options { secure: true, ..Options::default() });
    let eyes = Eyes::open(&cluster);
    let writer = Writer::start(&cluster);
    writer.wait_more(50);

    let old = cluster.wait_converged();
    cluster.node(&old).kill_app();
    cluster.wait_successor(&old);
    cluster.wait_converged();
    let old = cluster.wait_primary();
    cluster.node_mut(&old).kill();
    cluster.wait_successor(&old);
    cluster.node_mut(&old).start();
    cluster.lead_by(&old);
    assert_tagged(&cluster, &old);
    assert_https(cluster.node(&old));

    replace_tokens(&cluster, &writer);
    let heir = cluster.nodes.iter().find(|node| node.name != old).expect("there are three");
    let heir = heir.name.clone();
    cluster.lead_by(&heir);
    assert_tagged(&cluster, &heir);
    revoke_and_mend(&cluster, &old);

    let verdict = writer.finish(&cluster);
    verdict.assert_nothing_lost();
    eyes.close_and_check(&cluster);
}

/// What the eyes are for.
#[test]
fn the_eyes_see() {
    let (dir, shown) = ("/tmp/of-the-cluster-18a3", "plain-to-see-55d0");
    let mut child = std::process::Command::new("sleep");
    child.arg("60").env("WHERE", dir).env("PASSWORD", shown);
    let mut child = child.spawn().expect("sleep starts");
    let found = Mutex::new(BTreeSet::new());
    wait_for(LIMIT, "the secret is seen", || {
        look(dir, &[shown.to_owned()], &found) > 0
            && !found.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    });
    child.kill().and_then(|()| child.wait()).expect("our child ends");
}

/// DNS answers by the catalog: the agent syncs the tag with the node's token.
fn assert_tagged(cluster: &Cluster, primary: &str) {
    wait_for(LIMIT, "the tag `primary` is at the primary alone", || {
        let list = cluster.consul.json("GET", "/v1/health/service/demo?tag=primary", "");
        let ids: Vec<&str> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["Service"]["ID"].as_str())
            .collect();
        ids == [format!("demo-{primary}")]
    });
}

/// Nodes ask each other by HTTPS, as their records say.
fn assert_https(node: &Node) {
    let status = node.status().expect("it answers");
    let members = status["members"].as_array().expect("it has members");
    assert!(members.iter().all(|member| member["tls"] == true), "{members:?}");
}

/// New tokens, then the old ones are revoked: nothing is interrupted.
fn replace_tokens(cluster: &Cluster, writer: &Writer) {
    let primary = cluster.wait_converged();
    let epoch = cluster.status().expect("Consul answers")["term"]["epoch"].clone();
    let begun = Instant::now();
    for node in &cluster.nodes {
        let file = token_file(cluster.dir(), &node.name);
        let former = fs::read_to_string(&file).expect("it was written");
        secret(&file, &cluster.consul.make_token(&format!("{}-new", node.name), &rules()));
        wait_for(LIMIT, "the new token is in use", || node.log_has("secret.renewed"));
        revoke(cluster, former.trim());
    }
    let revoked = Instant::now();
    // More than a lease of renewals with the new tokens alone.
    let seconds = |status: &Value| status["leader"]["n"].as_u64();
    let from = cluster.status().as_ref().and_then(seconds).expect("somebody leads");
    wait_for(LIMIT, "the lease is renewed", || {
        cluster.status().as_ref().and_then(seconds).is_some_and(|n| n >= from + 5)
    });
    writer.wait_acks_of(cluster.index(&primary), revoked, 50);
    let now = cluster.status().expect("Consul answers");
    assert_eq!((&now["term"]["epoch"], now["leader"]["node"].as_str()), (&epoch, Some(&*primary)));
    println!("tokens replaced: longest gap {} ms", writer.gap(begun).as_millis());
}

fn revoke(cluster: &Cluster, token: &str) {
    let agent = &cluster.consul.servers[0];
    let path = "/v1/acl/token/self";
    let (status, text) = agent.try_request("GET", path, Some(token), "").expect("Consul answers");
    assert_eq!(status, 200, "{text}");
    let own: Value = serde_json::from_str(&text).expect("it is JSON");
    let accessor = own["AccessorID"].as_str().expect("a token has one");
    cluster.consul.json("DELETE", &format!("/v1/acl/token/{accessor}"), "");
}

/// A replica whose token is revoked says so, takes no token that Consul refuses, and is well with
/// the next good one.
fn revoke_and_mend(cluster: &Cluster, name: &str) {
    let node = cluster.node(name);
    let file = token_file(cluster.dir(), name);
    revoke(cluster, fs::read_to_string(&file).expect("it was written").trim());
    wait_for(LIMIT, "the node says that Consul refuses it", || node.log_has("consul.denied"));
    let narrow = r#"key_prefix "lictor/demo/" { policy = "write" }"#;
    secret(&file, &cluster.consul.make_token("narrow", narrow));
    wait_for(LIMIT, "a token without sessions is refused", || {
        node.log_has("secret.refused") && node.log_has("making a session")
    });
    secret(&file, &cluster.consul.make_token("good-again", &rules()));
    wait_for(LIMIT, "the node is well again", || node.log_has("consul.allowed"));
    cluster.wait_converged();
}

/// Looks at every process of the cluster for its secrets, as long as it is open.
struct Eyes {
    over: Arc<AtomicBool>,
    secrets: Vec<String>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    looks: Option<JoinHandle<usize>>,
}

impl Eyes {
    fn open(cluster: &Cluster) -> Eyes {
        let secrets = secrets(cluster);
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let dir = cluster.dir().display().to_string();
        let (stop, found, wanted) = (over.clone(), seen.clone(), secrets.clone());
        let looks = thread::spawn(move || {
            let mut processes = 0;
            while !stop.load(Ordering::Acquire) {
                processes += look(&dir, &wanted, &found);
                thread::sleep(LOOK);
            }
            processes
        });
        Eyes { over, secrets, seen, looks: Some(looks) }
    }

    /// Of arguments and environments, logs, KV and pages, none shows a secret.
    fn close_and_check(mut self, cluster: &Cluster) {
        self.over.store(true, Ordering::Release);
        let processes =
            self.looks.take().map_or(0, |looks| looks.join().expect("the looks did not panic"));
        println!("looked {processes} times at a process of the cluster");
        assert!(processes > 1_000, "{processes} looks are too few to say something");
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(seen.is_empty(), "shown in {seen:?}");
        // Those that were made on the way too.
        self.secrets.extend(secrets(cluster));
        for node in &cluster.nodes {
            let log = fs::read(&node.log).expect("the log is there");
            self.absent(&String::from_utf8_lossy(&log), &format!("the log of {}", node.name));
            for path in PAGES {
                let page = wait_some(LIMIT, "the node answers", || node.get(path));
                self.absent(&page.1, &format!("{path} of {}", node.name));
            }
        }
        let entries = cluster.consul.json("GET", "/v1/kv/lictor/demo?recurse", "");
        let entries = entries.as_array().expect("a list").clone();
        for entry in &entries {
            let key = entry["Key"].as_str().expect("a key");
            let value = STANDARD.decode(entry["Value"].as_str().unwrap_or("")).expect("base64");
            if !key.starts_with("lictor/demo/secrets/") {
                self.absent(&String::from_utf8_lossy(&value), key);
            }
        }
        assert!(entries.len() > 5, "{entries:?}");
    }

    fn absent(&self, text: &str, place: &str) {
        let shown = self.secrets.iter().find(|secret| text.contains(secret.as_str()));
        assert_eq!(shown, None, "a secret is shown in {place}");
    }
}

/// How many of the cluster's processes were looked at; what they show goes into `found`.
fn look(dir: &str, secrets: &[String], found: &Mutex<BTreeSet<String>>) -> usize {
    let read = |pid: &str, file| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut looks = 0;
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let (arguments, environment) = (read(&name, "cmdline"), read(&name, "environ"));
        if !arguments.contains(dir) && !environment.contains(dir) {
            continue;
        }
        looks += 1;
        for (text, what) in [(&arguments, "arguments"), (&environment, "environment")] {
            if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
                let told = format!("{what} of {arguments:?} ({} characters)", secret.len());
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(told);
            }
        }
    }
    looks
}

/// Whatever must not be seen: tokens, passwords, the peers' key, a private key.
fn secrets(cluster: &Cluster) -> Vec<String> {
    let fixed = [ROOT_SECRET, APP_SECRET, "repl-secret", OPERATOR].map(str::to_owned);
    let tokens = cluster.nodes.iter().map(|node| {
        let token = fs::read_to_string(token_file(cluster.dir(), &node.name));
        token.expect("it was written").trim().to_owned()
    });
    let entry = cluster.consul.entry("lictor/demo/secrets/peer").expect("the cluster is made");
    let value = STANDARD.decode(entry["Value"].as_str().expect("a value")).expect("base64");
    let value: Value = serde_json::from_slice(&value).expect("it is JSON");
    let peers = value["key"].as_str().expect("a key").to_owned();
    let safe = cluster.safe.as_ref().expect("it is a secure one");
    let key = fs::read_to_string(&safe.peer.key).expect("it was made");
    let line = key.lines().nth(1).expect("a line of base64").to_owned();
    fixed.into_iter().chain(tokens).chain([peers, line]).collect()
}
