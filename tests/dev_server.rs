//! `lictor dev`, asked by the real `consul` command and over HTTP; and how it starts and ends.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

mod common;

use common::consul::{Consul, binary};
use common::{free_port, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn run(consul: &Consul, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary())
        .args(arguments)
        .env("CONSUL_HTTP_ADDR", consul.servers[0].address())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("consul starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it is read");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// What it printed; it must succeed.
fn said(consul: &Consul, arguments: &[&str]) -> String {
    let output = run(consul, arguments, "");
    let (out, error) = (&output.stdout, &output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(error));
    String::from_utf8_lossy(out).into_owned()
}

fn fails(consul: &Consul, arguments: &[&str]) -> String {
    let output = run(consul, arguments, "");
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

mod catalog {
    use super::*;

    #[test]
    fn consul_catalog_lists_nodes_services_and_data_centers() {
        let consul = &Consul::dev();
        let node = said(consul, &["catalog", "nodes"]);
        assert!(node.starts_with("Node ") && node.contains("127.0.0.1"), "{node}");
        let name = node.lines().nth(1).and_then(|line| line.split(' ').next()).expect("a node");
        assert_eq!(said(consul, &["catalog", "services"]), "consul\n");
        let service = json!({
            "ID": "orders-a", "Name": "orders", "Port": 3306, "Tags": ["primary"],
            "Check": {"CheckID": "service:orders-a", "TTL": "60s", "Status": "passing"},
        });
        let (code, _) = consul.request("PUT", "/v1/agent/service/register", &service.to_string());
        assert_eq!(code, 200);
        assert_eq!(said(consul, &["catalog", "services"]), "consul\norders\n");
        let tagged = said(consul, &["catalog", "services", "-tags"]);
        assert!(tagged.lines().any(|row| row.starts_with("orders") && row.ends_with("primary")));
        assert_eq!(said(consul, &["catalog", "datacenters"]), "dc1\n");
        let of = said(consul, &["catalog", "nodes", "-service=orders"]);
        assert!(of.contains(name), "{of}");
        let members = said(consul, &["members"]);
        assert!(members.contains(name) && members.contains("alive"), "{members}");
    }

    /// Texts and codes as of Consul 1.8.7.
    #[test]
    fn what_is_wrong_is_said_as_consul_says_it() {
        let consul = Consul::dev();
        for (method, path, body, want) in [
            ("PUT", "agent/service/register", "{}", (400, "Missing service name")),
            (
                "PUT",
                "agent/check/update/service:x",
                r#"{"Status":"passing"}"#,
                (500, "CheckID \"service:x\" does not have associated TTL"),
            ),
            (
                "PUT",
                "agent/check/update/x",
                r#"{"Status":"bad"}"#,
                (400, "Invalid check status: 'bad'"),
            ),
            ("GET", "agent/service/x", "", (404, "unknown service ID: x")),
            ("PUT", "agent/service/deregister/x", "", (200, "")),
            (
                "PUT",
                "agent/service/maintenance/x?enable=true",
                "",
                (404, "No service registered with ID \"x\""),
            ),
            ("GET", "health/service/x", "", (200, "[]")),
        ] {
            let (code, text) = consul.request(method, &format!("/v1/{path}"), body);
            assert_eq!((code, text.trim()), want, "{path}");
        }
    }
}

mod keys {
    use super::*;

    #[test]
    fn consul_kv_puts_gets_lists_and_deletes() {
        let consul = Consul::dev();
        let consul = &consul;
        assert_eq!(said(consul, &["kv", "put", "a/b", "one"]), "Success! Data written to: a/b\n");
        said(consul, &["kv", "put", "-flags=42", "a/c d", "two"]);
        said(consul, &["kv", "put", "z", ""]);
        assert_eq!(said(consul, &["kv", "get", "a/b"]), "one\n");
        assert_eq!(said(consul, &["kv", "get", "-recurse", "a/"]), "a/b:one\na/c d:two\n");
        assert_eq!(said(consul, &["kv", "get", "-keys", ""]), "a/\nz\n");
        assert_eq!(said(consul, &["kv", "get", "-keys", "-separator=", "a"]), "a/b\na/c d\n");
        let detailed = said(consul, &["kv", "get", "-detailed", "a/c d"]);
        assert!(detailed.contains("Flags            42\n"), "{detailed}");
        let index = detailed.lines().find_map(|line| line.strip_prefix("ModifyIndex"));
        let index = format!("-modify-index={}", index.expect("told").trim());
        said(consul, &["kv", "put", "-cas", &index, "a/c d", "three"]);
        let stale = fails(consul, &["kv", "put", "-cas", &index, "a/c d", "four"]);
        assert!(stale.contains("CAS failed"), "{stale}");
        assert_eq!(said(consul, &["kv", "get", "-stale", "a/c d"]), "three\n");
        said(consul, &["kv", "delete", "-recurse", "a/"]);
        assert!(fails(consul, &["kv", "get", "a/b"]).contains("No key exists at: a/b"));
        assert_eq!(said(consul, &["kv", "get", "-keys", ""]), "z\n");
    }

    #[test]
    fn consul_kv_exports_and_imports() {
        let consul = Consul::dev();
        said(&consul, &["kv", "put", "a/b", "one"]);
        said(&consul, &["kv", "put", "-flags=3", "a/c", "two\nlines"]);
        let exported = said(&consul, &["kv", "export", "a/"]);
        let other = Consul::dev();
        assert!(run(&other, &["kv", "import", "-"], &exported).status.success());
        assert_eq!(said(&other, &["kv", "export", "a/"]), exported);
        assert_eq!(said(&other, &["kv", "get", "a/c"]), "two\nlines\n");
    }

    #[test]
    fn bytes_that_are_no_text_come_back_raw() {
        let consul = Consul::dev();
        let verbs = json!([{"KV": {"Verb": "set", "Key": "raw", "Value": "/wD+"}}]).to_string();
        assert_eq!(consul.request("PUT", "/v1/txn", &verbs).0, 200);
        let output = run(&consul, &["kv", "get", "raw"], "");
        assert_eq!(output.stdout, b"\xff\0\xfe\n");
    }

    /// As Consul 1.8.7 answers, to the letter.
    #[test]
    fn what_is_wrong_is_told_as_consul_does() {
        let consul = Consul::dev();
        let nobody = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
        let renew = format!("/v1/session/renew/{nobody}");
        let gone = format!("Session id '{nobody}' not found");
        let uuid = "failed session lookup: index error: UUID must be 36 characters";
        let large = "x".repeat(600_000);
        let too_large = "Request body(600000 bytes) too large, max size: 524288 bytes. See \
                         https://www.consul.io/docs/agent/options.html#kv_max_value_size.";
        let many = json!(vec![json!({"KV": {"Verb": "get", "Key": "a"}}); 65]).to_string();
        let many_ops = "Transaction contains too many operations (65 > 64)";
        let both = "Cannot specify ?stale with ?consistent, conflicting semantics.";
        let cases = [
            ("GET", "/v1/kv/", "", 400, "Missing key name"),
            ("GET", "/v1/kv/nothing", "", 404, ""),
            ("GET", "/v1/kv/a?index=x", "", 400, "Invalid index"),
            ("GET", "/v1/kv/a?index=1&wait=x", "", 400, "Invalid wait time"),
            ("GET", "/v1/kv/a?stale&consistent", "", 400, both),
            ("GET", "/v1/kv/a?dc=dc2", "", 500, "No path to datacenter"),
            ("PUT", "/v1/kv/a?cas=1&acquire=x", "", 400, "Conflicting flags"),
            ("PUT", "/v1/kv/a?acquire=x", "", 500, uuid),
            ("PUT", "/v1/kv/a?acquire=", "", 500, "missing session"),
            ("PUT", "/v1/kv/large", &large, 413, too_large),
            ("POST", "/v1/kv/a", "", 405, "method POST not allowed"),
            ("PUT", "/v1/txn", &many, 413, many_ops),
            ("GET", "/v1/nothing", "", 404, ""),
            ("GET", "/v1/acl/tokens", "", 401, "ACL support disabled"),
            ("GET", "/", "", 200, "Consul Agent"),
            ("PUT", &renew, "", 404, &gone),
            ("PUT", "/v1/session/renew/xyz", "", 500, uuid),
            ("PUT", "/v1/session/renew/", "", 400, "Missing session"),
            ("GET", "/v1/session/info/", "", 400, "Missing session"),
        ];
        for (method, path, body, status, text) in cases {
            let told = consul.request(method, path, body);
            assert_eq!(told, (status, text.to_owned()), "{method} {path}");
        }
    }
}

mod sessions {
    use super::*;

    #[test]
    fn a_session_locks_is_listed_and_frees_its_key() {
        let consul = Consul::dev();
        let spec = json!({"Name": "s", "TTL": "15s", "LockDelay": "1ms", "NodeChecks": []});
        let made = consul.json("PUT", "/v1/session/create", &spec.to_string());
        let id = made["ID"].as_str().expect("an id");
        let lock = |id: &str| consul.json("PUT", &format!("/v1/kv/lock?acquire={id}"), "held");
        assert_eq!(lock(id), true);
        let other = consul.json("PUT", "/v1/session/create", &spec.to_string());
        let other = other["ID"].as_str().expect("an id");
        assert_ne!(other, id);
        assert_eq!(lock(other), false);
        assert_eq!(consul.entry("lock").expect("there")["Session"], id);
        let renewed = consul.json("PUT", &format!("/v1/session/renew/{id}"), "");
        assert_eq!((&renewed[0]["TTL"], &renewed[0]["Node"]), (&json!("15s"), &json!("server-1")));
        let count = |path: &str| consul.json("GET", path, "").as_array().map_or(0, Vec::len);
        assert_eq!(count("/v1/session/list"), 2);
        assert_eq!(count("/v1/session/node/server-1"), 2);
        assert_eq!(count("/v1/session/node/other"), 0);
        assert_eq!(count(&format!("/v1/session/info/{id}")), 1);
        assert_eq!(consul.json("PUT", &format!("/v1/session/destroy/{id}"), ""), true);
        assert_eq!(consul.entry("lock").expect("there")["Session"], Value::Null);
        wait_for(LIMIT, "the lock-delay is over", || lock(other) == true);
    }
}

mod waits {
    use super::*;

    fn index(consul: &Consul, key: &str) -> u64 {
        consul.entry(key).expect("there")["ModifyIndex"].as_u64().expect("a number")
    }

    #[test]
    fn a_blocking_query_returns_with_the_write_and_not_before() {
        let consul = Consul::dev();
        consul.put("a", "1");
        let path = format!("/v1/kv/a?raw&wait=60s&index={}", index(&consul, "a"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (consul.request("GET", &path, ""), Instant::now()));
            // Writes elsewhere wake nobody here.
            for n in 0..50 {
                consul.put(&format!("b/{n}"), "x");
            }
            assert!(!waiting.is_finished());
            let written = Instant::now();
            consul.put("a", "2");
            let ((status, value), returned) = waiting.join().expect("it returns");
            assert_eq!((status, value.as_str()), (200, "2"));
            assert!(returned > written && returned - written < Duration::from_secs(5));
        });
    }

    #[test]
    fn a_wait_ends_by_itself_with_what_is_there() {
        let consul = Consul::dev();
        consul.put("a", "1");
        let started = Instant::now();
        let path = format!("/v1/kv/?keys&wait=300ms&index={}", index(&consul, "a"));
        assert_eq!(consul.json("GET", &path, ""), json!(["a"]));
        assert!(started.elapsed() >= Duration::from_millis(300));
    }

    /// A lock that nobody renews is free after twice its TTL; who waits for the key sees it.
    #[test]
    fn time_alone_ends_a_session_and_wakes_who_waits() {
        let consul = Consul::dev();
        let spec = json!({"TTL": "10s", "NodeChecks": []}).to_string();
        let made = consul.json("PUT", "/v1/session/create", &spec);
        let id = made["ID"].as_str().expect("an id");
        let started = Instant::now();
        consul.json("PUT", &format!("/v1/kv/lock?acquire={id}"), "held");
        let mut at = index(&consul, "lock");
        let freed = loop {
            // The harness reads for 15 s at most.
            let path = format!("/v1/kv/lock?wait=8s&index={at}");
            let row = consul.json("GET", &path, "")[0].clone();
            at = row["ModifyIndex"].as_u64().expect("a number");
            if row["Session"].is_null() {
                break started.elapsed();
            }
            assert!(started.elapsed() < Duration::from_secs(60));
        };
        assert!(freed >= Duration::from_secs(10), "{freed:?}");
    }
}

mod process {
    use super::*;

    #[test]
    fn it_says_loudly_that_it_keeps_nothing_and_ends_when_told() {
        let address = format!("127.0.0.1:{}", free_port());
        let mut child = Command::new(env!("CARGO_BIN_EXE_lictor"))
            .args(["dev", "--listen", &address])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let told: Vec<String> = lines.by_ref().take(4).collect();
        assert!(told[0].contains("WARNING") && told[0].contains("keeps NOTHING"), "{told:?}");
        assert!(told[3].contains(&address), "{told:?}");
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        assert!(child.wait().expect("it ends").success());
        assert!(lines.any(|line| line.contains("is gone")));
    }

    #[test]
    fn a_bad_address_is_one_clear_error() {
        let consul = Consul::dev();
        let taken = consul.servers[0].address();
        for (address, why) in [
            (taken.as_str(), "the port is taken"),
            ("203.0.113.9:8500", "does not have the address"),
            ("nowhere", "invalid value 'nowhere' for '--listen"),
        ] {
            let output = Command::new(env!("CARGO_BIN_EXE_lictor"))
                .args(["dev", "--listen", address])
                .output()
                .expect("it starts");
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{text}");
            assert!(text.contains(why) && !text.contains("WARNING"), "{text}");
        }
    }
}
