//! What is wrong is said once, in one line that names the place and the mend, with a stable exit
//! code; and no application is started.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use common::consul::Consul;
use common::free_port;
use common::toy::Toy;
use common::wait_for;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const USAGE: i32 = 64;
const REFUSED: i32 = 3;
const FAILED: i32 = 1;
const LIMIT: Duration = Duration::from_secs(30);

/// Nobody listens there while this test process lives.
fn nowhere() -> Vec<String> {
    vec![format!("127.0.0.1:{}", free_port())]
}

/// Starts the node and expects its end with this code, and one line that holds all of `parts`.
fn refuses(mut node: Toy, code: i32, parts: &[&str]) -> Toy {
    node.start();
    let ended = node.wait();
    let log = node.log();
    assert_eq!(ended, code, "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("lictor: ")).collect();
    assert_eq!(lines.len(), 1, "one error, by lictor: {log}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} in: {}", lines[0]);
    }
    let said = lines[0].trim_start_matches("lictor: ");
    assert_eq!(log.matches(said).count(), 1, "said once: {log}");
    for never in ["panicked", "toy: ", "app.started", "hook_start", "ERROR"] {
        assert!(!log.contains(never), "{never:?} in: {log}");
    }
    node
}

/// A configuration that is wrong by itself: Consul is not even asked.
fn wrong(spoil: impl FnOnce(&mut Toy), parts: &[&str]) {
    let mut node = Toy::new("bad", "one", &nowhere());
    spoil(&mut node);
    refuses(node, USAGE, parts);
}

#[test]
fn an_unknown_key() {
    wrong(|node| node.set("volumes", "1"), &["lictor.toml:11:1", "volumes", "volume"]);
}

#[test]
fn a_wrong_unit() {
    wrong(|node| node.set("lease", "\"3 seconds\""), &["lictor.toml:11:9", "3 seconds", "500ms"]);
    wrong(|node| node.set("lease", "3"), &["lictor.toml:11:9", "3s"]);
    let by_variable = |node: &mut Toy| node.env.push(("LICTOR_LEASE".into(), "3x".into()));
    wrong(by_variable, &["environment LICTOR_LEASE", "3x"]);
}

#[test]
fn bad_toml() {
    wrong(|node| node.set("lease", "\"3s"), &["lictor.toml:11:"]);
}

#[test]
fn a_lease_that_this_node_does_not_accept() {
    wrong(|node| node.set("lease", "\"4s\""), &["lease 4 s", "lease_max 3 s", "raise lease_max"]);
}

#[test]
fn an_unknown_way_to_live_without_consul() {
    wrong(
        |node| node.set("on_consul_loss", "\"wait\""),
        &["lictor.toml:11:18", "wait", "hold", "fence"],
    );
}

#[test]
fn a_required_hook_is_missing() {
    for hook in ["bootstrap", "pre-start", "replicate", "promote", "demote", "position"] {
        wrong(
            |node| std::fs::remove_file(node.path("hooks").join(hook)).expect("it was there"),
            &[&format!("hooks/{hook} "), "does not exist"],
        );
    }
    // Not required: the port is tried instead, and without `sync` nobody waits.
    let node = Toy::new("bad", "one", &nowhere());
    for hook in ["health", "sync"] {
        std::fs::remove_file(node.path("hooks").join(hook)).expect("it was there");
    }
    waits_for_consul(node);
}

#[test]
fn a_hook_is_not_executable() {
    wrong(
        |node| {
            let path = node.path("hooks/promote");
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).expect("ours");
        },
        &["hooks/promote ", "not an executable file", "chmod"],
    );
}

#[test]
fn sync_without_its_hook() {
    for mode in ["on", "strict"] {
        wrong(
            |node| {
                std::fs::remove_file(node.path("hooks/sync")).expect("it was there");
                node.set("sync", &format!("\"{mode}\""));
            },
            &["hooks/sync ", "does not exist"],
        );
    }
}

#[test]
fn users_that_do_not_exist() {
    for setting in ["hook_user", "app_user"] {
        wrong(
            |node| node.set(setting, "\"nobody-of-this-name\""),
            &[setting, "nobody-of-this-name"],
        );
    }
}

#[test]
fn no_port_of_the_application() {
    wrong(|node| node.unset("app_port"), &["app_port is not set"]);
}

#[test]
fn a_secret_file_that_is_missing() {
    let mut node = Toy::new("bad", "one", &nowhere());
    node.set("secret_files.replication", "\"/no/such/secret\"");
    refuses(node, FAILED, &["/no/such/secret", "No such file"]);
}

#[test]
fn a_token_file_that_is_missing() {
    for setting in ["token_file", "consul.token_file"] {
        wrong(|node| node.set(setting, "\"/no/such/token\""), &["/no/such/token", "No such file"]);
    }
}

#[test]
fn an_address_of_consul_that_is_none() {
    wrong(|node| node.set("consul.addresses", "[\"127.0.0.1:port\"]"), &["consul.addresses"]);
}

#[test]
fn the_port_is_taken() {
    let node = Toy::new("bad", "one", &nowhere());
    let _taken = TcpListener::bind(("127.0.0.1", node.port)).expect("it is ours");
    let place = format!("127.0.0.1:{}", node.port);
    refuses(node, FAILED, &[&place, "the port is taken", "choose another"]);
}

#[test]
fn a_volume_of_another_cluster_by_name() {
    let node = Toy::new("bad", "one", &nowhere());
    let own = node.path("volume/.lictor");
    std::fs::create_dir_all(&own).expect("ours");
    std::fs::write(own.join("name"), "other\n").expect("ours");
    let volume = node.path("volume");
    let volume = volume.to_str().expect("UTF-8");
    refuses(node, REFUSED, &[volume, "`other`", "`bad`", "mount the right volume"]);
}

#[test]
fn a_volume_of_another_cluster_by_id() {
    let consul = Consul::one();
    consul.put("lictor/bad/state/cluster", r#"{"v":1,"id":"1111111111111111"}"#);
    let node = with_data("bad", &consul, Some("2222222222222222"));
    let node =
        refuses(node, REFUSED, &["2222222222222222", "1111111111111111", "mount the right volume"]);
    assert_eq!(std::fs::read(node.app_dir().join("rows")).expect("kept"), b"precious\n");
}

#[test]
fn data_of_no_known_cluster() {
    let consul = Consul::one();
    let node = with_data("bad", &consul, None);
    let volume = node.path("volume");
    let place = format!("{}: `app`", volume.display());
    let node = refuses(node, REFUSED, &[&place, "no known cluster", "move it away"]);
    assert_eq!(std::fs::read(node.app_dir().join("rows")).expect("kept"), b"precious\n");
    assert!(consul.entry("lictor/bad/leader").is_none(), "it never tried to lead");
}

/// A node with data, and the id of its cluster.
fn with_data(cluster: &str, consul: &Consul, id: Option<&str>) -> Toy {
    let node = Toy::new(cluster, "one", &consul.addresses());
    std::fs::create_dir_all(node.app_dir()).expect("ours");
    std::fs::write(node.app_dir().join("rows"), "precious\n").expect("ours");
    let own = node.path("volume/.lictor");
    std::fs::create_dir_all(&own).expect("ours");
    if let Some(id) = id {
        std::fs::write(own.join("cluster"), id).expect("ours");
    }
    node
}

#[test]
fn a_second_process_on_the_volume() {
    let mut first = Toy::new("bad", "one", &nowhere());
    first.start();
    wait_for(LIMIT, "the first is up", || first.code("/liveness") == 200);
    let mut second = Toy::new("bad", "two", &nowhere());
    let volume = first.path("volume");
    let volume = volume.to_str().expect("UTF-8");
    second.set("volume", &format!("\"{volume}\""));
    refuses(second, REFUSED, &[volume, "in use by another lictor", "stop that one"]);
    assert_eq!(first.code("/liveness"), 200);
    assert_eq!(first.stop(), 0);
}

/// A mount that ends with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount_tmpfs(path: &Path) -> Option<Mounted> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(path).stderr(Stdio::null());
    mount.status().is_ok_and(|status| status.success()).then(|| Mounted(path.to_owned()))
}

#[test]
fn data_and_volume_on_two_file_systems() {
    let node = Toy::new("bad", "one", &nowhere());
    let app = node.app_dir();
    std::fs::create_dir_all(&app).expect("ours");
    // Unmounted before the node's directory is removed.
    let Some(mounted) = mount_tmpfs(&app) else {
        println!("skipped: this system does not let us mount a tmpfs");
        return;
    };
    let app = app.to_str().expect("UTF-8");
    let node = refuses(node, USAGE, &[app, "two file systems", "mount one volume"]);
    drop(mounted);
    drop(node);
}

#[test]
fn a_local_setting_and_bad_toml_in_kv() {
    let consul = Consul::one();
    for (value, parts) in [
        ("lease = \"3s\"\nhooks = \"/tmp\"\n", ["KV state/config:2:1", "hooks", "local"]),
        ("lease = 3s\n", ["KV state/config:1:9", "quoted", ""]),
        ("lease = \"9s\"\n", ["KV state/config: lease 9 s", "lease_max 3 s", "raise lease_max"]),
        ("leases = \"3s\"\n", ["KV state/config:1:1", "leases", "lease"]),
    ] {
        consul.put("lictor/bad/state/config", value);
        refuses(Toy::new("bad", "one", &consul.addresses()), USAGE, &parts);
    }
    assert!(consul.entry("lictor/bad/leader").is_none(), "nobody tried to lead");
}

/// `sync` may come from KV; its hook must be there then too.
#[test]
fn sync_in_kv_without_its_hook() {
    let consul = Consul::one();
    consul.put("lictor/bad/state/config", "sync = \"on\"\n");
    let node = Toy::new("bad", "one", &consul.addresses());
    std::fs::remove_file(node.path("hooks/sync")).expect("it was there");
    refuses(node, USAGE, &["hooks/sync ", "does not exist"]);
    assert!(consul.entry("lictor/bad/leader").is_none(), "it never tried to lead");
}

#[test]
fn tokens_that_consul_refuses() {
    let consul = Consul::with_acl();
    let read_only = consul.make_token("reader", r#"key_prefix "lictor/bad/" { policy = "read" }"#);
    let no_session =
        consul.make_token("writer", r#"key_prefix "lictor/bad/" { policy = "write" }"#);
    let bogus = "deadbeef-dead-beef-dead-beefdeadbeef".to_owned();
    for token in [None, Some(bogus), Some(read_only), Some(no_session)] {
        let mut node = Toy::new("bad", "one", &consul.addresses());
        if let Some(token) = &token {
            node.env.push(("CONSUL_HTTP_TOKEN".into(), token.clone()));
        }
        let node = refuses(node, REFUSED, &["Consul refuses this token", "docs/security.md"]);
        if let Some(token) = &token {
            assert!(!node.log().contains(token.as_str()), "the token is in no log");
        }
        assert!(!node.app_dir().join("rows").exists(), "nothing was bootstrapped");
    }
    assert!(consul.entry("lictor/bad/leader").is_none(), "nobody tried to lead");
    assert!(consul.entry("lictor/bad/state/term").is_none());
}

/// The other way round: the rules of docs/security.md, and nothing more, are enough.
#[test]
fn the_documented_rules_are_enough() {
    let consul = Consul::with_acl();
    let page = include_str!("../docs/security.md");
    let rules = page.split("```hcl\n").nth(1).and_then(|rest| rest.split("```").next());
    let rules = rules.expect("the page shows the rules").replace("<cluster>", "good");
    let token = consul.make_token("good", &rules.replace("<service>", "good"));
    let mut node = Toy::new("good", "one", &consul.addresses());
    node.env.push(("CONSUL_HTTP_TOKEN".into(), token.clone()));
    node.start();
    node.wait_primary();
    let path = "/v1/health/service/good?passing&tag=primary";
    wait_for(LIMIT, "the primary is registered", || {
        consul.json("GET", path, "").as_array().is_some_and(|found| found.len() == 1)
    });
    assert_eq!(node.stop(), 0);
    assert!(!node.log().contains(&token));
    assert_eq!(node.logged(&["ermission denied"]), 0);
}

#[test]
fn consul_does_not_answer() {
    waits_for_consul(Toy::new("bad", "one", &nowhere()));
}

/// Says once that Consul is not there, is alive meanwhile, and ends when told.
fn waits_for_consul(mut node: Toy) {
    node.start();
    wait_for(LIMIT, "alive without Consul", || node.code("/liveness") == 200);
    node.wait_logged(&["does not answer"]);
    // Each round of asking steps the core: two more have passed when this was seen twice.
    let asked = |node: &Toy| node.logged(&["start.asked"]);
    let before = asked(&node);
    wait_for(LIMIT, "it asks again", || asked(&node) >= before + 2);
    assert_eq!(node.logged(&["WARN"]), 1, "{}", node.log());
    for (path, code) in [("/liveness", 200), ("/primary", 503), ("/replica", 503), ("/status", 200)]
    {
        assert_eq!(node.code(path), code, "{path}");
    }
    let status = node.status().unwrap_or_default().to_string();
    assert!(status.contains("does not answer"), "{status}");
    assert_eq!(node.stop(), 0);
    for never in ["panicked", "toy: ", "hook_start"] {
        assert!(!node.log().contains(never), "{}", node.log());
    }
}
