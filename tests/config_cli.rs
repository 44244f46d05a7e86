//! `lictor config` on a real Consul, as an operator uses it; and a node that starts with two
//! variables and the image's own file. Completions and manual pages as their readers take them.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::consul::{Consul, binary};
use common::toy::{LIMIT, Toy};
use common::{scratch, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const KEY: &str = "lictor/ops/state/config";

struct Desk {
    consul: Consul,
    node: Toy,
}

impl Desk {
    fn new() -> Desk {
        let consul = Consul::one();
        let node = Toy::new("ops", "one", &consul.addresses());
        Desk { consul, node }
    }

    /// `lictor config ..`: exit code, stdout, stderr.
    fn config(&self, words: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
        let path = self.node.configure();
        let (first, rest) = words.split_first().expect("a subcommand");
        let line = [&["config", *first, "-c", path.to_str().expect("UTF-8")], rest].concat();
        let output = self.node.lictor(&line).envs(env.iter().copied()).output();
        spoken(&output.expect("lictor starts"))
    }

    fn text(&self) -> Option<String> {
        let entry = self.consul.entry(KEY)?;
        let bytes = BASE64_STANDARD.decode(entry["Value"].as_str().unwrap_or_default());
        Some(String::from_utf8(bytes.expect("base64")).expect("UTF-8"))
    }

    fn member(&self, name: &str, lease_max_ms: u64) {
        let record = json!({
            "v": 1, "node": name, "run": "r", "disk": "d", "cluster": null, "roles": {},
            "peer": "127.0.0.1:1", "app": "127.0.0.1:2", "zone": "", "host": "", "priority": 100,
            "no_failover": false, "state": "replica", "floor": 1, "follows": null, "version": "1",
            "lease_max": lease_max_ms,
        });
        self.consul.put(&format!("lictor/ops/state/members/{name}"), &record.to_string());
    }

    /// An editor: a script that gets the file as `$1`.
    fn editor(&self, name: &str, script: &str) -> String {
        self.node.hook(name, &format!("#!/bin/bash\n{script}\n"));
        self.node.path("hooks").join(name).display().to_string()
    }
}

fn spoken(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn settings_are_shown_with_their_origin_and_no_secret() {
    let mut desk = Desk::new();
    desk.consul.put(KEY, "lease = \"2500ms\"\nexpel_after = \"20s\"\n");
    desk.node.set("expel_after", "\"30s\"");
    let env = [("LICTOR_ZONE", "z1"), ("CONSUL_HTTP_TOKEN", "")];
    let (code, out, err) = desk.config(&["show", "--origin", "--sync-acks", "2"], &env);
    assert_eq!(code, 0, "{err}");
    let line = |name: &str| {
        let start = format!("{name} = ");
        out.lines().find(|line| line.starts_with(&start)).unwrap_or_default().to_owned()
    };
    for (name, value, origin) in [
        ("lease", "\"2500ms\"", "# KV state/config"),
        ("zone", "\"z1\"", "# environment LICTOR_ZONE"),
        ("sync_acks", "2", "# flag --sync-acks"),
        ("request_timeout", "\"500ms\"", "# default"),
        ("expel_after", "\"30s\"", "# file "),
        ("timeouts.demote", "\"2500ms\"", "# default"),
    ] {
        let line = line(name);
        assert!(line.contains(value) && line.contains(origin), "{name}: {line}");
    }
    assert!(out.contains("# no_failover: none"), "{out}");
    let env = [("LICTOR_CONSUL_TOKEN", "hunter2")];
    for words in [&["show"][..], &["show", "--json"]] {
        let (_, out, err) = desk.config(words, &env);
        assert!(out.contains("(set)") && !(out + &err).contains("hunter2"));
    }
    let (code, out, _) = desk.config(&["show", "--json"], &[]);
    let shown: Value = serde_json::from_str(&out).expect("one JSON value");
    let rows = shown["settings"].as_array().expect("rows");
    let lease = rows.iter().find(|row| row["name"] == "lease").expect("a row");
    assert_eq!((code, &lease["origin"]["from"]), (0, &json!("kv")));
    // A bad one is said, and what holds without it is shown.
    desk.consul.put(KEY, "leese = 1");
    let (code, out, err) = desk.config(&["show"], &[]);
    assert!(code == 1 && out.contains("lease = \"3s\""), "{code} {out}");
    assert!(err.contains("left out: KV state/config:1:1: unknown setting leese"), "{err}");
    assert_eq!(desk.config(&["check", "--kv"], &[]).0, 64);
    assert_eq!(desk.config(&["show", "--kv"], &[]).1, "leese = 1\n");
}

#[test]
fn a_setting_is_set_checked_and_refused() {
    let desk = Desk::new();
    desk.consul.put(KEY, "# ours\nlease = \"3s\" # short\n");
    desk.member("one", 5_000);
    desk.member("two", 4_000);
    let ok = desk.config(&["set", "lease", "4s"], &[]);
    assert_eq!(ok.0, 0, "{}", ok.2);
    assert_eq!(desk.text().as_deref(), Some("# ours\nlease = \"4s\" # short\n"));
    assert_eq!(desk.config(&["check", "--kv", "--lease-max", "4s"], &[]).0, 0);
    for (words, code, want) in [
        (&["set", "lease", "5s"][..], 3, "lease 5s is above lease_max 4s of two; raise lease_max"),
        (&["set", "kill_budget", "900ms"], 64, "kill_budget 900 ms must be below demote_budget"),
        (&["set", "lease", "4"], 64, "lease: 4 has no unit"),
        (&["set", "leese", "4s"], 64, "did you mean lease?"),
        (&["set", "command", "[\"sh\"]"], 64, "command is local"),
        (&["set", "lease"], 64, "VALUE"),
        (&["set", "lease", "4s", "--unset"], 64, "cannot be used with"),
    ] {
        let (was, _, err) = desk.config(words, &[]);
        assert!(was == code && err.contains(want), "{words:?}: {was} {err}");
        assert_eq!(desk.text().as_deref(), Some("# ours\nlease = \"4s\" # short\n"), "{words:?}");
    }
    for words in [&["set", "priorities.n1", "50"][..], &["set", "lease", "--unset"]] {
        let (code, _, err) = desk.config(words, &[]);
        assert_eq!(code, 0, "{words:?}: {err}");
    }
    let text = desk.text().expect("written");
    assert!(text.contains("[priorities]\nn1 = 50\n") && !text.contains("lease"), "{text}");
    let (code, out, _) = desk.config(&["set", "lease", "--unset", "--json"], &[]);
    assert_eq!((code, out.as_str()), (0, "{\"changed\":false,\"key\":\"lease\",\"v\":1}\n"));
}

#[test]
fn a_text_is_edited_and_what_cannot_be_written_is_kept() {
    let desk = Desk::new();
    let edit = |editor: &str| desk.config(&["edit"], &[("VISUAL", editor), ("EDITOR", "false")]);
    // The first text is a template; the file is this user's alone.
    let mode = desk.node.path("mode");
    let script =
        format!("stat -c %a \"$1\" >{}; echo 'lease = \"2500ms\"' >>\"$1\"", mode.display());
    let (code, _, err) = edit(&desk.editor("add", &script));
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::read_to_string(mode).expect("written"), "600\n");
    let text = desk.text().expect("written");
    assert!(
        text.ends_with("\nlease = \"2500ms\"\n") && text.contains("# sync = \"off\""),
        "{text}"
    );
    let (code, out, _) = edit("true");
    assert_eq!((code, out.as_str()), (0, "nothing changed\n"));
    let put = format!("{} kv put {KEY} 'lease = \"3s\"'", binary().display());
    let moved = format!("CONSUL_HTTP_ADDR={} {put}; echo >>\"$1\"", desk.consul.addresses()[0]);
    for (name, script, code, want) in [
        ("bad", "echo 'leese = 1' >\"$1\"", 64, "unknown setting leese; did you mean lease?"),
        ("ends", "exit 7", 1, "ended with exit status: 7"),
        ("moved", &moved, 3, "changed while you edited"),
    ] {
        let before = desk.text();
        let (was, _, err) = edit(&desk.editor(name, script));
        assert!(was == code && err.contains(want), "{name}: {was} {err}");
        let kept = err.trim().rsplit("your text is kept in ").next().unwrap_or_default();
        assert!(std::fs::metadata(kept).is_ok(), "{name}: {err}");
        std::fs::remove_file(kept).expect("ours");
        if name != "moved" {
            assert_eq!(desk.text(), before, "{name}");
        }
    }
}

/// Directories of an image that this machine may lack; taken away again where they were made.
struct Mounts(Vec<&'static Path>);

impl Mounts {
    fn new(paths: &[&'static str]) -> Mounts {
        let missing = paths.iter().map(|path| Path::new(*path)).filter(|path| !path.exists());
        let made: Vec<_> = missing.collect();
        for path in &made {
            std::fs::create_dir_all(path).expect("root may");
        }
        Mounts(made)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// In a network and with mounts of its own: the image's file and hooks where the image has them,
/// the stock ports, and a Consul that is reached at its stock address.
const MACHINE: &str = r#"set -e
ip link set lo up
mount --bind "$1/etc" /etc/lictor
mount --bind "$1/data" /data
mount --bind "$1/secrets" /run/secrets
"$2" agent -dev -log-level=warn >"$1/consul.log" 2>&1 &
until "$2" kv put lictor/db/state/config "$4" >/dev/null 2>&1; do sleep 0.1; done
exec env -i PATH="$PATH" CONSUL_HTTP_ADDR=127.0.0.1:8500 LICTOR_CLUSTER=db "$3" run
"#;

#[test]
fn two_variables_and_the_images_own_file_bring_a_node_up() {
    let dir = scratch("two");
    let root = dir.path();
    std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("ours");
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("containers/mariadb");
    for name in ["etc", "data", "secrets"] {
        std::fs::create_dir(root.join(name)).expect("ours");
    }
    std::fs::copy(image.join("lictor.toml"), root.join("etc/lictor.toml")).expect("copied");
    let hooks =
        Command::new("cp").arg("-r").arg(image.join("hooks")).arg(root.join("etc")).status();
    assert!(hooks.expect("cp").success());
    std::fs::write(root.join("secrets/replication"), "repl-secret").expect("ours");
    let _mounts = Mounts::new(&["/etc/lictor", "/data", "/run/secrets"]);
    let kv = "sync = \"on\"\nhealth_interval = \"500ms\"\n";
    let log = std::fs::File::create(root.join("log")).expect("ours");
    let mut machine = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", MACHINE, "sh"])
        .arg(root)
        .arg(binary())
        .arg(env!("CARGO_BIN_EXE_lictor"))
        .arg(kv)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be cloned"))
        .stderr(log)
        .spawn()
        .expect("unshare starts");
    let inside = |words: &[&str]| {
        let pid = machine.id().to_string();
        let own = ["--target", &pid, "--net", "--mount", "env", "-i"];
        let names = ["CONSUL_HTTP_ADDR=127.0.0.1:8500", "LICTOR_CLUSTER=db"];
        let mut command = Command::new("nsenter");
        command.args(own).args(names).arg(env!("CARGO_BIN_EXE_lictor")).args(words);
        spoken(&command.output().expect("nsenter starts"))
    };
    let status = || serde_json::from_str::<Value>(&inside(&["status", "--json"]).1).ok();
    let led = || status().is_some_and(|it| it["members"][0]["role"] == "primary");
    let up = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(LIMIT, "the node is the primary", led);
        let (_, out, _) = inside(&["config", "show", "--origin"]);
        let shown = |line: &str| out.lines().any(|it| it.replace("  ", "").contains(line));
        assert!(shown("sync = \"on\" # KV") || out.contains("sync = \"on\""), "{out}");
        assert!(out.contains("# file /etc/lictor/lictor.toml"), "{out}");
        assert!(out.contains("# environment LICTOR_CLUSTER"), "{out}");
    }));
    let _ = machine.kill();
    let _ = machine.wait();
    if up.is_err() {
        eprintln!("{}", std::fs::read_to_string(root.join("log")).unwrap_or_default());
    }
    up.expect("the node came up");
}

#[test]
fn bash_completes_a_command_and_the_pages_have_no_faults() {
    let dir = scratch("pages");
    let lictor = env!("CARGO_BIN_EXE_lictor");
    let script = dir.path().join("lictor.bash");
    let output = Command::new(lictor).args(["completions", "bash"]).output().expect("starts");
    std::fs::write(&script, &output.stdout).expect("ours");
    // What bash itself would offer after `lictor sw` and `lictor config s`.
    let ask = "source \"$1\"; complete -p lictor; COMP_WORDS=(\"${@:2}\"); COMP_CWORD=$(($# - 2)); \
               _lictor lictor \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[*]}\"";
    for (words, want) in [
        (&["lictor", "sw"][..], "switchover"),
        (&["lictor", "config", "s"], "show set schema"),
        (&["lictor", "run", "--timeouts-pro"], "--timeouts-promote"),
    ] {
        let output =
            Command::new("bash").args(["-c", ask, "bash"]).arg(&script).args(words).output();
        let (code, out, err) = spoken(&output.expect("bash starts"));
        assert!(code == 0 && err.is_empty(), "{words:?}: {code} {err}");
        let mut lines = out.lines();
        assert!(lines.next().is_some_and(|line| line.ends_with("-F _lictor lictor")), "{out}");
        assert_eq!(lines.next(), Some(want), "{words:?}");
    }
    let output = Command::new(lictor).args(["man", "--dir"]).arg(dir.path()).output();
    let (code, out, _) = spoken(&output.expect("starts"));
    assert!(code == 0 && out.contains(" pages in "), "{out}");
    let pages: Vec<_> = std::fs::read_dir(dir.path())
        .expect("ours")
        .map(|entry| entry.expect("ours").path())
        .filter(|path| path.extension().is_some_and(|it| it == "1"))
        .collect();
    assert!(pages.len() > 10, "{pages:?}");
    let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&pages).output();
    let (code, out, _) = spoken(&output.expect("mandoc is installed by tests/run.sh"));
    assert_eq!(code, 0, "{out}");
    let (code, _, err) =
        spoken(&Command::new(lictor).args(["man", "nothing"]).output().expect("ran"));
    assert_eq!((code, err.as_str()), (64, "lictor: there is no command nothing\n"));
}
