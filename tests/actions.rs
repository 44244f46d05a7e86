//! An operator's actions on a real Consul, with the toy application: what each does, and when it is
//! refused.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{wait_for, wait_some};
use std::time::{Duration, Instant};

/// A code and what the command said.
fn ask(node: &Toy, words: &[&str]) -> (i32, String) {
    let output = node.ask(words);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&text).into_owned())
}

/// Expects this code and these words in what is said.
fn expect(node: &Toy, words: &[&str], code: i32, says: &[&str]) {
    let (ended, text) = ask(node, words);
    assert_eq!(ended, code, "{words:?}: {text}");
    for part in says {
        assert!(text.contains(part), "{words:?} says {text:?}, not {part:?}");
    }
}

/// No primary for so long: well beyond the lease of 3 s and what a take-over needs.
const NOBODY: Duration = Duration::from_secs(6);

#[test]
fn paused_nobody_takes_over_until_resumed() {
    let consul = Consul::one();
    let mut nodes = three("quiet", &consul.addresses());
    let first = settle(&mut nodes);
    let other = (first + 1) % 3;
    nodes[first].write("one");
    expect(&nodes[other], &["pause", "--reason", "a new disk"], 0, &["paused: no take-over"]);
    expect(&nodes[other], &["pause"], 0, &["paused already, by cli on", "(a new disk)"]);
    expect(&nodes[other], &["status"], 0, &["paused by cli on", "(a new disk): `lictor resume`"]);
    expect(&nodes[other], &["switchover"], 3, &["refused: the cluster is paused", "--to"]);
    // A crash of the primary's application: released, nobody takes, nothing is restarted.
    let app = nodes[first].app_pid().expect("it runs");
    nix::sys::signal::kill(app, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    wait_for(LIMIT, "it is down", || nodes[first].state() == "waiting");
    let begun = Instant::now();
    while begun.elapsed() < NOBODY {
        assert_eq!(primary(&nodes), None);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Without a leader too.
    expect(&nodes[other], &["resume"], 0, &["resumed; it was paused by cli on"]);
    expect(&nodes[other], &["resume"], 0, &["the cluster is not paused"]);
    let second = wait_some(LIMIT, "a primary", || primary(&nodes));
    nodes[second].write("two");
    wait_for(LIMIT, "all run again", || {
        nodes.iter().all(|node| node.rows().is_some_and(|rows| rows == ["one", "two"]))
    });
}

/// Waits until all of these acknowledge.
fn wait_synced(nodes: &[&Toy]) {
    for node in nodes {
        wait_for(LIMIT, &format!("{} acknowledges", node.name), || node.code("/sync") == 200);
    }
}

#[test]
fn failover_by_the_rules_and_by_force() {
    let consul = Consul::one();
    let mut nodes = three("fall", &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("sync", "\"on\""));
    let first = settle(&mut nodes);
    wait_synced(&nodes.iter().collect::<Vec<_>>());
    nodes[first].write("one");
    let (next, third) = ((first + 1) % 3, (first + 2) % 3);
    let name = nodes[next].name.clone();

    // The primary lives, and loses nothing: its successor is counted.
    let reply = format!("{name} is the primary");
    expect(&nodes[third], &["failover", "--to", &name], 0, &[&reply]);
    nodes[next].wait_primary();
    nodes[next].write("two");
    nodes[first].wait_replica();
    nodes[third].wait_replica();
    wait_synced(&nodes.iter().collect::<Vec<_>>());

    // It is dead, and the cluster paused: nobody takes until somebody says so.
    expect(&nodes[third], &["pause"], 0, &[]);
    nodes[next].crash();
    let begun = Instant::now();
    while begun.elapsed() < NOBODY {
        assert_eq!(primary(&nodes), None);
        std::thread::sleep(Duration::from_millis(100));
    }
    expect(&nodes[third], &["failover"], 0, &["is the primary"]);
    expect(&nodes[third], &["resume"], 0, &[]);
    let leads = primary(&nodes).expect("the command waited for it");
    assert_eq!(nodes[leads].rows(), Some(vec!["one".to_owned(), "two".to_owned()]));

    // One of three is left, and the others may have more.
    nodes[next].start();
    nodes[next].wait_replica();
    wait_synced(&nodes.iter().collect::<Vec<_>>());
    let left = if leads == first { third } else { first };
    nodes[leads].crash();
    nodes[next].crash();
    let name = nodes[left].name.clone();
    let flag = format!("--accept-loss --to {name} would promote {name} anyway");
    expect(&nodes[left], &["failover"], 3, &["refused: ", "may have more", &flag]);
    assert_eq!(primary(&nodes), None);
    let forced = format!("{name} is the primary, by force: ");
    expect(&nodes[left], &["failover", "--to", &name, "--accept-loss"], 0, &[&forced]);
    nodes[left].write("three");
    assert!(nodes[left].logged(&["failover.forced"]) > 0);
    nodes[leads].start();
    nodes[next].start();
    for index in [leads, next] {
        wait_for(LIMIT, "it follows", || {
            nodes[index].rows().is_some_and(|rows| rows == ["one", "two", "three"])
        });
    }
}

#[test]
fn a_node_is_made_anew_and_another_leaves() {
    let consul = Consul::one();
    let mut nodes = three("part", &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("sync", "\"on\""));
    let first = settle(&mut nodes);
    wait_synced(&nodes.iter().collect::<Vec<_>>());
    nodes[first].write("one");
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    let name = |index: usize| nodes[index].name.clone();
    let (leads, anew, goes) = (name(first), name(second), name(third));

    expect(&nodes[third], &["reinit", &leads], 3, &["is the primary; `lictor switchover` first"]);
    expect(&nodes[third], &["reinit", "nobody"], 3, &["nobody is not a member"]);
    let before = nodes[second].app_pid();
    let done = format!("{anew} was wiped, cloned again, and follows {leads}");
    expect(&nodes[third], &["reinit", &anew], 0, &[&done]);
    assert_ne!(nodes[second].app_pid(), before);
    assert_eq!(nodes[second].logged(&["reinit.wipe"]), 1);
    nodes[second].wait_replica();
    wait_synced(&nodes.iter().collect::<Vec<_>>());
    assert_eq!(nodes[second].rows(), Some(vec!["one".to_owned()]));

    // A replica leaves, by itself and for good.
    let left = format!("{goes} has stopped its application and left");
    expect(&nodes[second], &["leave", &goes], 0, &[&left]);
    assert_eq!(nodes[third].wait(), 0);
    let record = format!("lictor/part/state/members/{goes}");
    assert!(consul.entry(&record).is_none());
    let (_, table) = ask(&nodes[second], &["status"]);
    assert!(!table.contains(&format!("\n{goes} ")), "{table}");

    // The only one in sync with the primary stays, unless it must not.
    let only = format!("{anew} is the only node in sync with the primary {leads}");
    expect(&nodes[first], &["leave", &anew], 3, &[&only, "--force"]);
    // The primary hands over first.
    let left = format!("{leads} has stopped its application and left");
    expect(&nodes[second], &["leave", &leads], 0, &[&left]);
    assert_eq!(nodes[first].wait(), 0);
    nodes[second].wait_primary();
    nodes[second].write("two");
    // And the last one by force alone.
    expect(&nodes[second], &["leave", &anew], 3, &["nobody can take over", "--force"]);
    expect(&nodes[second], &["leave", &anew, "--force"], 0, &["and left"]);
    assert_eq!(nodes[second].wait(), 0);
    // Who left comes back as who it was.
    nodes[second].start();
    nodes[second].wait_primary();
    assert_eq!(nodes[second].rows(), Some(vec!["one".to_owned(), "two".to_owned()]));
}

#[test]
fn a_cluster_that_consul_forgot_is_adopted() {
    let consul = Consul::one();
    let wipe = || consul.request("DELETE", "/v1/kv/lictor/lost?recurse", "");
    let mut nodes = three("lost", &consul.addresses());
    let first = settle(&mut nodes);
    nodes[first].write("one");
    let other = (first + 1) % 3;
    let (leads, second) = (nodes[first].name.clone(), nodes[other].name.clone());
    for node in &nodes {
        wait_for(LIMIT, "the row is everywhere", || {
            node.rows().is_some_and(|rows| rows == ["one"])
        });
    }
    let id = consul.entry("lictor/lost/state/cluster").expect("there")["Value"].clone();

    // Under a living leader: it leads on, and writes what is missing when it is told to.
    wipe();
    wait_for(LIMIT, "the lock is there again", || consul.entry("lictor/lost/leader").is_some());
    nodes[first].write("two");
    expect(&nodes[other], &["adopt", &second], 3, &[&format!("adopt {leads}")]);
    expect(&nodes[other], &["adopt", &leads], 0, &["adopted"]);
    assert_eq!(consul.entry("lictor/lost/state/cluster").expect("there")["Value"], id);
    for index in [other, (first + 2) % 3] {
        nodes[index].wait_replica();
    }
    // The peers have their new key: without it nobody could be asked.
    let reply = format!("{second} is the primary");
    wait_for(LIMIT, "a switchover", || ask(&nodes[first], &["switchover", "--to", &second]).0 == 0);
    assert!(nodes[other].is_primary(), "{reply}");

    // Nobody is left that remembers.
    nodes.iter_mut().for_each(Toy::crash);
    wipe();
    nodes.iter_mut().for_each(Toy::start);
    for node in &nodes {
        wait_for(LIMIT, "it runs as a replica", || node.state() == "replica");
    }
    std::thread::sleep(NOBODY);
    assert_eq!(primary(&nodes), None);
    expect(&nodes[first], &["failover"], 3, &["`lictor adopt"]);
    expect(&nodes[first], &["adopt", &second], 0, &[&reply, "adopted"]);
    nodes[other].write("three");
    for node in &nodes {
        wait_for(LIMIT, "all follow", || {
            node.rows().is_some_and(|rows| rows == ["one", "two", "three"])
        });
    }
    expect(&nodes[first], &["adopt", &second], 3, &["nothing to adopt"]);
}

#[test]
fn actions_by_http_and_by_the_socket() {
    let consul = Consul::one();
    let mut node = Toy::new("ways", "one", &consul.addresses());
    let token = node.path("token");
    std::fs::write(&token, "secret\n").expect("our directory is writable");
    node.set("token_file", &format!("{token:?}"));
    node.start();
    node.wait_primary();
    let bearer = "Authorization: Bearer secret\r\n";
    let post = |path: &str, headers: &str, body: &str| {
        let (code, answer) = node.http("POST", path, headers, body).expect("an answer");
        (code, serde_json::from_str::<serde_json::Value>(&answer).unwrap_or_default())
    };
    for path in ["/switchover", "/failover", "/reinit", "/leave", "/pause", "/resume"] {
        assert_eq!(post(path, "", "").0, 401, "{path}");
        assert_eq!(node.code(path), 405, "{path}");
    }
    let cases = [
        ("/pause", "{", 400, "the body"),
        ("/pause", r#"{"why":"x"}"#, 400, "`pause` takes no `why`"),
        ("/reinit", "", 400, "`reinit` needs `node`"),
        ("/failover", r#"{"accept_loss":"perhaps"}"#, 400, "is true or false"),
    ];
    for (path, body, code, says) in cases {
        let (got, answer) = post(path, bearer, body);
        assert_eq!(got, code, "{answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(says)), "{answer}");
    }
    let (code, answer) = post("/pause", bearer, r#"{"reason":"by http"}"#);
    assert_eq!(code, 202, "{answer}");
    let at = format!("/requests/{}", answer["request"].as_str().expect("an id"));
    wait_for(LIMIT, "it is paused", || {
        node.http("GET", &at, "", "").is_some_and(|(_, body)| body.contains("\"done\""))
    });
    assert_eq!(node.code("/requests/none"), 404);
    assert!(node.status().is_some_and(|status| status["paused"]["reason"] == "by http"));

    let socket = node.path("volume/.lictor/sock");
    let mode = std::fs::metadata(&socket).expect("it is there");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let by_socket = |words: &[&str]| {
        let path = socket.to_str().expect("UTF-8");
        let output = node.lictor(&[words, &["--socket", path]].concat()).output();
        let output = output.expect("lictor starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ends"), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = by_socket(&["resume"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("resumed; it was paused by http 127.0.0.1 (by http)"), "{text}");
    let (code, text) = by_socket(&["switchover", "--to", "nobody"]);
    assert_eq!((code, text.as_str()), (3, "lictor: refused: nobody is not a member\n"));
    assert!(node.logged(&["switchover, asked by socket, uid "]) > 0);
    // A socket that a dead process left is no hindrance.
    node.crash();
    let (code, text) = by_socket_of(&node);
    assert_eq!(code, 1, "{text}");
    node.start();
    node.wait_primary();
    assert_eq!(by_socket_of(&node).0, 0);
}

fn by_socket_of(node: &Toy) -> (i32, String) {
    let path = node.path("volume/.lictor/sock");
    let output = node.lictor(&["resume", "--socket", path.to_str().expect("UTF-8")]).output();
    let output = output.expect("lictor starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ends"), String::from_utf8_lossy(&text).into_owned())
}
