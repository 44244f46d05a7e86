//! The page at `/` in a real browser: what it shows of a running cluster, what it does with hostile
//! words, and that silence is seen.
//!
//! Headless Chromium runs the page's scripts against lictor and prints the document that came of
//! it. `SHOTS=DIR cargo test --test page` keeps the pictures.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;
#[path = "http_peer/node.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod node;

use common::consul::Consul;
use common::proxy::{Mode, Proxy};
use common::toy::{LIMIT, settle, three};
use common::{block_on, scratch, wait_for, wait_some};
use lictor::http::Published;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Ten rounds of the page's own, as fast as they are answered.
const ROUNDS: &str = "--virtual-time-budget=10000";
/// Enough of them for the proxy to be told in between.
const MANY_ROUNDS: &str = "--virtual-time-budget=120000";
const WALL: &str = "--window-size=1920,1080";
const PHONE: &str = "--window-size=390,844";

/// One run of the browser, in a profile of its own.
struct Browser {
    child: Child,
    profile: tempfile::TempDir,
}

impl Browser {
    fn start(url: &str, words: &[&str]) -> Browser {
        let profile = scratch("chromium");
        let out = std::fs::File::create(profile.path().join("out")).expect("ours");
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .args(words)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts: install Debian's package chromium");
        Browser { child, profile }
    }

    /// Waits for its end; what it printed.
    fn end(mut self) -> String {
        wait_for(LIMIT, "the browser ends", || self.child.try_wait().expect("our child").is_some());
        std::fs::read_to_string(self.profile.path().join("out")).expect("it printed")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Gone already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The document after the page's scripts ran.
fn document(url: &str) -> String {
    Browser::start(url, &[WALL, ROUNDS, "--dump-dom"]).end()
}

/// A picture of the page; its size in pixels as the file says.
fn picture(url: &str, name: &str, words: &[&str]) -> (u32, u32) {
    let dir = scratch("shot");
    let path = dir.path().join(name);
    let shot = format!("--screenshot={}", path.display());
    Browser::start(url, &[words, &[ROUNDS, &shot]].concat()).end();
    let png = std::fs::read(&path).expect("a picture was written");
    assert!(png.len() > 20_000, "not a blank page: {} bytes", png.len());
    if let Some(keep) = std::env::var_os("SHOTS") {
        std::fs::copy(&path, std::path::Path::new(&keep).join(name)).expect("SHOTS is a directory");
    }
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

/// The text of the element with this id, without the elements in it.
fn text_of(document: &str, id: &str) -> String {
    let begin = document.split_once(&format!("id=\"{id}\"")).map(|(_, rest)| rest);
    let inside = begin.and_then(|rest| rest.split_once('>')).map(|(_, rest)| rest);
    let inside = inside.unwrap_or_else(|| panic!("no #{id} in {document}"));
    let end = inside.find("</section>").unwrap_or(inside.len());
    let end = inside.find("</ol>").map_or(end, |list| list.min(end));
    let mut text = String::new();
    let mut tag = false;
    for c in inside[..end].chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            c if !tag => text.push(c),
            _ => {}
        }
    }
    text
}

/// The page's own script, the last of the document, is no part of what it shows.
const SCRIPT: &str = "<script>\n\"use strict\"";

/// The tags with this text in them. In a printed document `<` begins a tag, but for those in quoted
/// attributes.
fn tags(document: &str, part: &str) -> Vec<String> {
    let shown = document.split_once(SCRIPT).map_or(document, |(shown, _)| shown);
    let (mut found, mut tag, mut quoted) = (Vec::new(), None::<String>, false);
    for c in shown.chars() {
        match (&mut tag, c) {
            (None, '<') => tag = Some(String::new()),
            (None, _) => {}
            (Some(_), '>') if !quoted => found.extend(tag.take()),
            (Some(text), c) => {
                quoted ^= c == '"';
                text.push(c);
            }
        }
    }
    found.retain(|tag| tag.contains(part));
    found
}

#[test]
fn a_running_cluster_is_seen_at_a_glance() {
    let consul = Consul::one();
    let mut nodes = three("orders", &consul.addresses());
    for (node, zone) in nodes.iter_mut().zip(["east", "west", "west"]) {
        node.set("zone", &format!("\"{zone}\""));
        node.set("sync", "\"on\"");
    }
    let first = settle(&mut nodes);
    let verdict = || {
        let (_, body) = nodes[first].http("GET", "/cluster", "", "")?;
        let cluster: Value = serde_json::from_str(&body).ok()?;
        let sync = cluster["sync"]["members"].as_array().is_some_and(|all| all.len() == 3);
        (cluster["verdict"]["is"] == "ok" && sync).then_some(cluster)
    };
    let cluster = wait_some(LIMIT, "all is well", verdict);
    for (index, node) in nodes.iter().enumerate() {
        let seen = document(&format!("http://127.0.0.1:{}/", node.port));
        let leader = &nodes[first].name;
        assert_eq!(tags(&seen, "data-fresh=\"live\"").len(), 1, "{seen}");
        assert_eq!(tags(&seen, "id=\"verdict\" data-is=\"ok\"").len(), 1, "{seen}");
        let verdict = text_of(&seen, "verdict");
        assert!(verdict.contains(&format!("{leader} is the primary, 2 replicas follow it")));
        assert!(text_of(&seen, "lease").contains(&format!("Lease of {leader}")));
        let epoch = cluster["epoch"].to_string();
        assert!(text_of(&seen, "epoch").starts_with(&epoch), "epoch {epoch}");
        let fill = tags(&seen, "id=\"fill\"").concat();
        assert!(fill.contains("width: ") && !fill.contains("width: 0"), "{fill}");
        for (other, it) in nodes.iter().enumerate() {
            let card = tags(&seen, &format!("data-node=\"{}\"", it.name)).concat();
            let role = if other == first { "primary" } else { "replica" };
            assert!(card.contains(&format!("data-role=\"{role}\"")), "{card}");
            let own_page = format!("href=\"http://127.0.0.1:{}/\"", it.port);
            assert_eq!(tags(&seen, &own_page).len(), usize::from(other != index), "{own_page}");
        }
        assert_eq!(tags(&seen, "data-wire=\"sync\"").len(), 2);
        assert!(seen.contains("zone east") && seen.contains("zone west"));
        let code = if index == first { "promote.done" } else { "follow.done" };
        assert!(text_of(&seen, "reasons").contains(code), "{}", text_of(&seen, "reasons"));
    }
    let url = format!("http://127.0.0.1:{}/", nodes[first].port);
    assert_eq!(picture(&url, "wall.png", &[WALL, "--force-dark-mode"]), (1920, 1080));
    assert_eq!(picture(&url, "phone.png", &[PHONE]), (390, 844));
    a_node_is_lost(&mut nodes, first);
}

/// The leader says who is silent; a page whose node is gone says that itself.
fn a_node_is_lost(nodes: &mut [common::toy::Toy], first: usize) {
    let lost = (first + 1) % 3;
    nodes[lost].crash();
    let url = format!("http://127.0.0.1:{}/", nodes[first].port);
    let name = nodes[lost].name.clone();
    let silent = || {
        let (_, body) = nodes[first].http("GET", "/cluster", "", "").unwrap_or_default();
        body.contains("has not answered for")
    };
    wait_for(LIMIT, "the leader misses it", silent);
    let seen = document(&url);
    assert_eq!(tags(&seen, "id=\"verdict\" data-is=\"degraded\"").len(), 1, "{seen}");
    let verdict = text_of(&seen, "verdict");
    assert!(verdict.contains(&format!("{name} has not answered for")), "{verdict}");

    let proxy = Proxy::start(nodes[first].port);
    let url = format!("http://{}/", proxy.address());
    let browser = Browser::start(&url, &[PHONE, MANY_ROUNDS, "--dump-dom"]);
    let asked = || proxy.seen().iter().filter(|it| it.starts_with(b"GET /status ")).count();
    wait_for(LIMIT, "the page shows the cluster", || asked() >= 2);
    proxy.set(Mode::CutReply);
    let seen = browser.end();
    assert_eq!(tags(&seen, "data-fresh=\"stale\"").len(), 1, "{seen}");
    let verdict = text_of(&seen, "verdict");
    let leader = &nodes[first].name;
    assert!(verdict.starts_with("STALE") || verdict.contains("STALE"), "{verdict}");
    assert!(verdict.contains(&format!("{leader} gives no answer")), "{verdict}");
    assert!(verdict.contains("it said: "), "{verdict}");
}

/// Names, reasons and addresses that try to become markup, script or a link that runs.
#[test]
fn hostile_words_stay_words() {
    let evil = "<img src=x onerror=\"document.body.dataset.owned=1\">\
                <script>document.body.dataset.owned=1</script>";
    let status = json!({
        "cluster": evil, "cluster_id": evil, "version": evil, "state": evil,
        "leader": {"node": evil, "run": "r", "epoch": evil, "state": "held", "lease_ms": 3_000},
        "members": [
            {"node": evil, "state": evil, "zone": evil, "app": evil, "peer": "javascript:alert(1)",
             "eligible": true, "follows": {"node": evil, "run": "r"}, "lag_seconds": evil},
            {"node": "b", "state": "replica", "peer": evil, "follows": {"node": evil, "run": "r"}},
        ],
        "reasons": [{"at": 1, "code": evil, "text": evil, "flip": evil}],
        "waits_for": {"code": evil, "text": evil},
    });
    let seen = block_on(async {
        let node = node::Node::start("b", "rb").await;
        let shown = Published { status: Arc::new(status), ..node::published("b") };
        node.board.publish(shown);
        let url = format!("http://{}/", node.addr);
        tokio::task::spawn_blocking(move || document(&url)).await.expect("it ran")
    });
    let page = seen.split_once("<body").map_or("", |(_, body)| body);
    // All was shown: as text, and by the page's script.
    for id in ["cluster", "topo", "reasons", "lease"] {
        assert!(text_of(&seen, id).contains("&lt;script&gt;"), "#{id}: {}", text_of(&seen, id));
    }
    assert!(!page.contains("data-owned"), "it ran: {page}");
    assert!(page.contains(SCRIPT), "the page's own stands at its end");
    let words = |tag: &String| tag.split(' ').next().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = tags(page, "").iter().map(words).collect();
    assert!(names.contains("article") && names.contains("li"), "{names:?}");
    assert!(!names.contains("script") && !names.contains("img"), "{names:?}");
    assert!(tags(page, "href=").iter().all(|tag| !tag.contains("javascript")), "{page}");
}
