//! Every path by every method, as `docs/http.md` has it: the page's table is the test's.
//!
//! Each request is made of a node in three situations (a primary without a token file, a replica
//! asked without its token, a node that is nothing asked with it). Every code seen must be in the
//! table, and every code of the table must be seen; an action's body is the one that the table
//! names; answers have their type, and those to HEAD no
//! body.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use lictor::decide::journal::read::Tail;
use lictor::decide::journal::{Entry, Line};
use lictor::decide::time::At;
use lictor::decide::types::{Epoch, NodeName, RunId};
use lictor::http::{ActionReply, App, ConfigReply, Incoming, Published, Role};
use node::{Answer, Node, Options, ask_with_header, published};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "http_peer/node.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod node;

const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
const TOKEN: &str = "open-sesame";

/// One cell of the table.
struct Cell {
    path: String,
    method: &'static str,
    codes: BTreeSet<u16>,
    /// The first JSON that the row's meaning names.
    body: String,
}

fn table() -> Vec<Cell> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md");
    let page = std::fs::read_to_string(page).expect("docs/http.md is there");
    let mut table = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| `/")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let path = cells[0].trim_matches('`').to_owned();
        let meaning = cells.last().expect("a row has cells");
        let json = meaning.split('`').find(|word| word.starts_with('{')).unwrap_or_default();
        for (method, codes) in METHODS.iter().zip(&cells[1..]) {
            let body = match *method {
                "POST" => json,
                "PATCH" => "{}",
                _ => "",
            };
            let codes = codes.split(' ').map(|code| code.parse().expect("codes, by spaces"));
            let (path, body) = (path.clone(), body.to_owned());
            table.push(Cell { path, method, codes: codes.collect(), body });
        }
    }
    assert!(table.len() >= 20 * METHODS.len(), "the table is found: {}", table.len());
    table
}

/// Asks, and plays the driver that says yes.
async fn ask(node: &mut Node, (method, path): (&str, &str), header: &str, body: &str) -> Answer {
    let mut answer = std::pin::pin!(ask_with_header(node.addr, method, path, header, body));
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            Some(incoming) = node.incoming.recv() => match incoming {
                Incoming::Action { reply, .. } => {
                    drop(reply.send(ActionReply::Written { request: "r1".into() }));
                }
                Incoming::Config { reply, .. } => {
                    drop(reply.send(ConfigReply::Done(serde_json::json!({"v": 1}))));
                }
                Incoming::Peer { .. } => panic!("nothing here is signed"),
            },
        }
    }
}

#[track_caller]
fn well_formed(method: &str, path: &str, answer: &Answer) {
    let told = format!("{method} {path}: {answer:?}");
    let kind = answer.header("content-type").unwrap_or_default();
    let want = match (answer.status, path) {
        (204, _) => "",
        (200, "/") if method == "GET" => "text/html; charset=utf-8",
        (200, "/events") => "text/event-stream",
        (200, "/metrics") => "text/plain; version=0.0.4; charset=utf-8",
        _ => "application/json",
    };
    assert_eq!(kind, want, "{told}");
    let empty = method == "HEAD" || answer.status == 204;
    assert_eq!(answer.body.is_empty(), empty, "{told}");
    if kind == "application/json" && !empty {
        assert!(answer.json().is_object() && answer.body.lines().count() == 1, "{told}");
    }
    let allow = answer.header("allow").unwrap_or_default();
    assert!(![204, 405].contains(&answer.status) || !allow.is_empty(), "{told}");
    if answer.status == 405 {
        assert!(!allow.split(',').any(|it| it.trim() == method), "{told}");
    }
}

#[tokio::test]
async fn every_path_by_every_method_is_as_documented() {
    let with = |now: fn() -> At| Options { token: Some(TOKEN), clock: now, ..Options::default() };
    let mut primary = Node::start("b", "rb").await;
    let mut replica = Node::with("b", "rb", with(|| At(1_000))).await;
    let role = Role::Replica;
    replica.board.publish(Published { role, deadline: None, ..published("b") });
    // Its core has not stepped for a minute.
    let mut nothing = Node::with("b", "rb", with(|| At(61_000))).await;
    nothing.board.publish(Published {
        role: Role::None,
        deadline: None,
        app: App::Down,
        sync: false,
        ready: false,
        ..published("b")
    });
    for node in [&primary, &replica] {
        node.feed.show(Tail::default(), At(1_000));
    }
    let token = format!("Authorization: Bearer {TOKEN}");
    let none = "X-Nothing: 1";
    for Cell { path, method, codes, body } in table() {
        if (method, path.as_str()) == ("GET", "/events") {
            // It does not end: `events_follow_the_journal`.
            continue;
        }
        let mut seen = BTreeSet::new();
        for (node, header) in
            [(&mut primary, none), (&mut replica, none), (&mut nothing, token.as_str())]
        {
            let answer = ask(node, (method, &path), header, &body).await;
            assert!(codes.contains(&answer.status), "{method} {path}, {codes:?}: {answer:?}");
            well_formed(method, &path, &answer);
            seen.insert(answer.status);
        }
        // A signed question is asked in tests/http_peer.rs.
        let signed = path.starts_with("/peer/") && method == "POST";
        assert!(signed || seen == codes, "{method} {path}: {codes:?} documented, {seen:?} seen");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so_by_every_method() {
    let mut node = Node::start("b", "rb").await;
    for path in ["/nothing", "/ring", "/primary/", "//", "/%00", "/status/.."] {
        for method in METHODS {
            let answer = ask(&mut node, (method, path), "X-Nothing: 1", "").await;
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            well_formed(method, path, &answer);
        }
    }
}

fn tail(from: u64, to: u64) -> Tail {
    let entry = |seq| Entry {
        v: 1,
        epoch: Epoch(1),
        seq,
        node: NodeName::new("a"),
        run: RunId::new("r"),
        line: Line {
            no: seq,
            at: 0,
            seen: Epoch(1),
            code: "open".into(),
            text: "leads".into(),
            flip: None,
            inputs: Default::default(),
        },
    };
    Tail { entries: (from..=to).map(entry).collect(), missing: Vec::new(), first: 1, seq: to }
}

/// A follower: what came so far, asked for until `want` is in it.
async fn follow(addr: std::net::SocketAddr, header: &str, want: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    let request = format!("GET /events HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    read_until(&mut stream, want).await;
    stream
}

async fn read_until(stream: &mut TcpStream, want: &[&str]) -> String {
    let mut raw = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&raw).into_owned();
        if want.iter().all(|part| text.contains(part)) {
            return text;
        }
        let limit = std::time::Duration::from_secs(60);
        let read = tokio::time::timeout(limit, stream.read_buf(&mut raw)).await;
        let read = read.unwrap_or_else(|_| panic!("not there: {want:?} in {text}"));
        assert!(read.expect("readable") > 0, "it ended: {text}");
    }
}

#[tokio::test]
async fn events_follow_the_journal() {
    let node = Node::start("b", "rb").await;
    node.feed.show(tail(1, 3), At(1_000));
    let mut fresh = follow(node.addr, "X-Nothing: 1", &["text/event-stream", "retry: "]).await;
    let mut known = follow(node.addr, "Last-Event-ID: 1", &["id: 2\n", "id: 3\n"]).await;
    node.feed.show(tail(4, 5), At(1_000));
    let text = read_until(&mut fresh, &["id: 4\nevent: open\ndata: {", "id: 5\n"]).await;
    assert!(!text.contains("id: 3\n"), "from now on: {text}");
    read_until(&mut known, &["id: 4\n", "id: 5\n"]).await;
    assert!(node.feed.is_followed());
    drop((fresh, known));
    let gone = async {
        while node.feed.is_followed() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("places are free");
    let bad = ask_with_header(node.addr, "GET", "/events", "Last-Event-ID: x", "").await;
    assert_eq!(bad.status, 400, "{bad:?}");
    let mut all = Vec::new();
    for _ in 0..16 {
        all.push(follow(node.addr, "X-Nothing: 1", &["retry: "]).await);
    }
    let full = ask_with_header(node.addr, "GET", "/events", "X-Nothing: 1", "").await;
    assert_eq!(full.status, 503, "{full:?}");
}
