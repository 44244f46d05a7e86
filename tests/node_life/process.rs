//! The process itself: as PID 1, with secrets, and how it ends.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use crate::common::consul::Consul;
use crate::common::toy::{LIMIT, Toy, lives, tree};
use crate::common::{wait_for, wait_some};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

#[test]
fn as_pid_1() {
    let mut probe = Command::new(UNSHARE[0]);
    probe.args(&UNSHARE[1..]).arg("true").stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: this system does not let us make a PID namespace");
        return;
    }
    let consul = Consul::one();
    let mut node = Toy::new("first", "one", &consul.addresses());
    node.under = UNSHARE.map(str::to_owned).into();
    node.start();
    node.wait_primary();
    node.write("one");
    let whole = tree(node.pid());
    let guard = whole[1];
    let status = std::fs::read_to_string(format!("/proc/{guard}/status")).expect("it runs");
    let inner = status.lines().find(|line| line.starts_with("NSpid:")).expect("namespaces");
    assert_eq!(inner.split_whitespace().last(), Some("1"), "{inner}");
    // An orphan that lictor must reap: its parent ends at once.
    kill(guard, Signal::SIGTERM).expect("it runs");
    assert_eq!(node.wait(), 0);
    wait_for(LIMIT, "nothing is left", || !whole.iter().any(|pid| lives(*pid)));
    node.start();
    node.wait_primary();
    assert_eq!(node.rows(), Some(vec!["one".to_owned()]));
}

/// What nobody may see.
const SECRETS: [&str; 3] = ["first-secret-of-the-file", "token-for-actions", "password-of-ours"];

#[test]
fn secrets_are_in_files_alone() {
    let consul = Consul::one();
    let mut node = Toy::new("quiet", "one", &consul.addresses());
    for (setting, name, secret) in
        [("secret_files.replication", "secret", SECRETS[0]), ("token_file", "token", SECRETS[1])]
    {
        std::fs::write(node.path(name), format!("{secret}\n")).expect("ours");
        node.set(setting, &format!("\"{}\"", node.path(name).display()));
    }
    // The application may have it, hooks and the log not.
    node.env.push(("TOY_PASSWORD".into(), SECRETS[2].into()));
    // Consul runs without ACLs and takes any token.
    node.env.push(("LICTOR_CONSUL_TOKEN".into(), "00000000-0000-0000-0000-000000000002".into()));
    let check = "#!/bin/bash\n. \"${BASH_SOURCE%/*}/lib.sh\"\nsleep 0.2\n\
        f=$LICTOR_SECRETS_DIR/replication\n\
        echo \"mode $(stat -c %a \"$f\"), $(sha256sum <\"$f\")\"\nask status\nmust\n";
    node.hook("health", check);
    node.set("log.level", "\"trace\"");
    node.start();
    let (seen, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let root = node.pid();
        let (seen, done) = (&seen, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                seen.fetch_add(look(root), Ordering::AcqRel);
                std::thread::yield_now();
            }
        });
        let drive = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            node.wait_primary();
            node.write("one");
            let status = node.status().unwrap_or_default().to_string();
            for secret in SECRETS {
                assert!(!status.contains(secret), "{secret} in /status");
            }
            let before = node.logged(&["hook_end", "hook=health"]);
            wait_for(LIMIT, "more hooks", || {
                node.logged(&["hook_end", "hook=health"]) > before + 2
            });
        }));
        done.store(true, Ordering::Release);
        drive.expect("the node's life");
    });
    assert!(seen.load(Ordering::Acquire) > 10, "hooks and the application were seen");
    let digest = Command::new("sha256sum").arg(node.path("secret")).output().expect("it runs");
    let digest = String::from_utf8_lossy(&digest.stdout);
    let digest = digest.split(' ').next().expect("a word");
    assert!(node.logged(&["mode 400", digest]) > 0, "hooks can read it: {}", node.log());
    assert_eq!(node.stop(), 0);
    let log = node.log();
    for secret in SECRETS.iter().chain(&["00000000-0000-0000-0000-000000000002"]) {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}

/// Looks at all that lictor started; how many hooks and applications that were.
fn look(root: Pid) -> usize {
    let mut seen = 0;
    for pid in tree(root) {
        let read = |name: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (line, environ) = (read("cmdline"), read("environ"));
        if line.is_empty() || line.starts_with(env!("CARGO_BIN_EXE_lictor")) {
            // lictor itself was given its environment by whoever started it.
            continue;
        }
        seen += 1;
        let is_app = line.contains("toy.py");
        for secret in &SECRETS[..if is_app { 2 } else { 3 }] {
            assert!(!environ.contains(secret), "{secret} in the environment of {line}");
        }
        assert!(!environ.contains("0000-000000000002"), "Consul's token is seen by {line}");
        assert!(SECRETS.iter().all(|secret| !line.contains(secret)), "{line}");
    }
    seen
}

#[test]
fn a_sidecar_that_dies_takes_everything_with_it() {
    let consul = Consul::one();
    let mut node = Toy::new("gone", "one", &consul.addresses());
    node.start();
    node.wait_primary();
    let whole = tree(node.pid());
    // The guard is first, its child the sidecar.
    kill(whole[1], Signal::SIGKILL).expect("it runs");
    assert_eq!(node.wait(), 137);
    wait_for(LIMIT, "nothing is left", || !whole.iter().any(|pid| lives(*pid)));
    node.start();
    wait_some(LIMIT, "it comes back", || node.is_primary().then_some(()));
}
