//! The MariaDB hooks against real servers, without lictor: each hook's contract, and the ways a row gets lost.
//!
//! Needs root (hooks and servers run as `mysql`), `mariadbd` and `mariadb-backup`. Each test has its own
//! directory and ports on the loopback. The time of each hook is printed: `cargo test -- --nocapture`.

#![allow(clippy::disallowed_methods, reason = "a test has clocks and children of its own")]

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// With the characters that SQL and option files treat specially.
const SECRET: &str = r#"re'pl\se"cr#t-5417"#;
const APP_SECRET: &str = "app-secret-9921";
/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

struct Ended {
    code: i32,
    output: String,
}

impl Ended {
    #[track_caller]
    fn is(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "{}", self.output);
        self
    }

    fn order(&self) -> u64 {
        let line = self.output.lines().next_back().expect("position answers with a line");
        let answer: serde_json::Value = serde_json::from_str(line).expect("the line is JSON");
        answer["order"].as_u64().expect("order is a number")
    }
}

struct Node {
    name: String,
    dir: PathBuf,
    port: u16,
    uid: u32,
    gid: u32,
    server: Option<Child>,
}

struct Group {
    nodes: Vec<Node>,
    times: Arc<Mutex<BTreeMap<String, Vec<u128>>>>,
    _dir: TempDir,
}

fn mysql_ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let line = passwd
        .lines()
        .find(|line| line.starts_with("mysql:"))
        .expect("there is a user mysql: install mariadb-server");
    let mut fields = line.split(':').skip(2).map(|id| id.parse::<u32>().expect("ids are numbers"));
    (fields.next().expect("uid"), fields.next().expect("gid"))
}

/// Below the range that outgoing connections take theirs from: a server that was killed must get its own again.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 5_000).expect("below 5,000");
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::SeqCst);
        assert!(port < 32_768, "no free port on the loopback");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Group {
    fn new(count: usize) -> Group {
        let dir = tempfile::Builder::new().prefix("lictor-hooks.").tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let (uid, gid) = mysql_ids();
        let nodes = (1..=count)
            .map(|i| {
                let node = Node {
                    name: format!("n{i}"),
                    dir: dir.path().join(format!("n{i}")),
                    port: free_port(),
                    uid,
                    gid,
                    server: None,
                };
                for part in ["", "app", "state", "secrets"] {
                    fs::create_dir(node.dir.join(part)).expect("mkdir");
                    chown(node.dir.join(part), Some(uid), Some(gid)).expect("chown");
                }
                for (name, value) in [("replication", SECRET), ("app", APP_SECRET)] {
                    let file = node.dir.join("secrets").join(name);
                    fs::write(&file, format!("{value}\n")).expect("write");
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).expect("chmod");
                    chown(&file, Some(uid), Some(gid)).expect("chown");
                }
                node
            })
            .collect();
        Group { nodes, times: Arc::default(), _dir: dir }
    }

    fn hook(&self, i: usize, hook: &str, facts: &[(&str, &str)]) -> Ended {
        let node = &self.nodes[i];
        let from = Instant::now();
        let ended = node.run(hook, facts);
        let key = match facts.iter().find(|(name, _)| *name == "LICTOR_BOOTSTRAP") {
            Some((_, kind)) => format!("{hook} {kind}"),
            None => hook.to_owned(),
        };
        let took = from.elapsed().as_millis();
        self.times.lock().expect("no test panics in here").entry(key).or_default().push(took);
        for secret in [SECRET, APP_SECRET] {
            assert!(!ended.output.contains(secret), "a secret in the log of {hook}");
        }
        ended
    }

    fn start(&mut self, i: usize, facts: &[(&str, &str)]) {
        self.hook(i, "pre-start", facts).is(0);
        self.nodes[i].start();
        wait_for("the server answers", || self.nodes[i].run("health", &[]).code == 0);
    }

    fn promote(&self, i: usize, epoch: u32) -> Ended {
        self.hook(i, "promote", &[("LICTOR_EPOCH", &epoch.to_string())])
    }

    fn replicate(&self, i: usize, primary: usize, epoch: u32) -> Ended {
        self.replicate_with(i, primary, epoch, &[])
    }

    fn replicate_with(&self, i: usize, primary: usize, epoch: u32, more: &[(&str, &str)]) -> Ended {
        let (port, epoch) = (self.nodes[primary].port.to_string(), epoch.to_string());
        let mut facts = vec![
            ("LICTOR_PRIMARY_NODE", self.nodes[primary].name.as_str()),
            ("LICTOR_PRIMARY_ADDR", "127.0.0.1"),
            ("LICTOR_PRIMARY_PORT", &port),
            ("LICTOR_PRIMARY_EPOCH", &epoch),
            ("LICTOR_EPOCH", &epoch),
        ];
        facts.extend(more);
        self.hook(i, "replicate", &facts)
    }

    fn clone_from(&self, i: usize, source: usize) -> Ended {
        let port = self.nodes[source].port.to_string();
        let facts = [
            ("LICTOR_BOOTSTRAP", "clone"),
            ("LICTOR_SOURCE_NODE", self.nodes[source].name.as_str()),
            ("LICTOR_SOURCE_ADDR", "127.0.0.1"),
            ("LICTOR_SOURCE_PORT", &port),
        ];
        self.hook(i, "bootstrap", &facts)
    }

    /// `n1` writable in epoch 1 with a table, the others cloned from it and following.
    fn formed(count: usize) -> Group {
        let mut group = Group::new(count);
        group.hook(0, "bootstrap", &[("LICTOR_BOOTSTRAP", "create")]).is(0);
        group.start(0, &[]);
        group.promote(0, 1).is(0);
        group.nodes[0].admin("create table app.t (id bigint primary key)");
        for i in 1..count {
            group.clone_from(i, 0).is(0);
            group.start(i, &[]);
            group.replicate(i, 0, 1).is(0);
        }
        group
    }

    fn position(&self, i: usize, freeze: bool) -> u64 {
        let facts: &[(&str, &str)] = if freeze { &[("LICTOR_FREEZE", "1")] } else { &[] };
        self.hook(i, "position", facts).is(0).order()
    }

    fn wait_rows(&self, i: usize, count: usize) {
        wait_for("the rows arrive", || self.nodes[i].ids().len() == count);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        for (hook, times) in &*self.times.lock().expect("no test panics in here") {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            println!(
                "{hook:18} n={:<3} median {:>5} ms, max {:>5} ms",
                sorted.len(),
                sorted[sorted.len() / 2],
                sorted[sorted.len() - 1]
            );
        }
    }
}

impl Node {
    fn run(&self, hook: &str, facts: &[(&str, &str)]) -> Ended {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("containers/mariadb/hooks").join(hook);
        let output = Command::new(&file)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LICTOR_HOOK", hook)
            .env("LICTOR_CLUSTER", "test")
            .env("LICTOR_NODE", &self.name)
            .env("LICTOR_DATA_DIR", self.dir.join("app"))
            .env("LICTOR_STATE_DIR", self.dir.join("state"))
            .env("LICTOR_SECRETS_DIR", self.dir.join("secrets"))
            .env("LICTOR_APP_ADDR", "127.0.0.1")
            .env("LICTOR_APP_PORT", self.port.to_string())
            .envs(facts.iter().copied())
            .current_dir(self.dir.join("state"))
            .stdin(Stdio::null())
            .uid(self.uid)
            .gid(self.gid)
            .output()
            .expect("the hook is executable");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            output: text(&output.stderr) + &text(&output.stdout),
        }
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"));
        let server = Command::new("mariadbd")
            .arg(format!("--defaults-file={}", self.dir.join("state/my.cnf").display()))
            .uid(self.uid)
            .gid(self.gid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("mariadbd is installed");
        self.server = Some(server);
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn connect(&self) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(Some("127.0.0.1"))
                .tcp_port(self.port)
                .prefer_socket(false)
                .user(Some("app"))
                .pass(Some(APP_SECRET))
                .db_name(Some("app"))
                .read_timeout(Some(Duration::from_secs(5)))
                .tcp_connect_timeout(Some(Duration::from_secs(5))),
        )
    }

    /// As the operating system's root, who may write on a replica.
    fn admin(&self, statement: &str) -> String {
        let socket = self.dir.join("state/mysqld.sock");
        let output = Command::new("mariadb")
            .args(["--no-defaults", "-NB", "-uroot", "-S"])
            .arg(socket)
            .args(["-e", statement])
            .output()
            .expect("the client is installed");
        assert!(
            output.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn insert(&self, id: u64) -> mysql::Result<()> {
        self.connect()?.query_drop(format!("insert into t values ({id})"))
    }

    fn ids(&self) -> Vec<u64> {
        let mut connection = self.connect().expect("a running server takes readers");
        connection.query("select id from t order by id").expect("the table can be read")
    }
}

#[test]
fn a_group_forms_follows_and_changes_its_primary() {
    let mut group = Group::new(3);
    group.hook(0, "bootstrap", &[("LICTOR_BOOTSTRAP", "create")]).is(0);
    group.start(0, &[]);
    let refused = group.nodes[0].connect().expect("connects").query_drop("create table t (id int)");
    assert!(refused.is_err(), "the first primary too starts read-only");
    assert_eq!(group.position(0, false), 0);
    group.promote(0, 1).is(0);
    group.nodes[0].admin("create table app.t (id bigint primary key)");
    for i in [1, 2] {
        // The second is cloned from the first replica.
        let how = group.clone_from(i, i - 1).is(0);
        assert!(how.output.contains("by mariadb-backup"), "{}", how.output);
        group.start(i, &[]);
        group.replicate(i, 0, 1).is(0);
        group.replicate(i, 0, 1).is(0);
    }
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1"), ("LICTOR_SYNC_MEMBERS", "n1,n2,n3")]).is(0);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "2")]).is(1);
    for id in 1..=20 {
        group.nodes[0].insert(id).expect("the primary writes");
    }
    for i in [1, 2] {
        group.wait_rows(i, 20);
        assert!(group.nodes[i].insert(99).is_err(), "a replica refuses writes");
    }
    assert_eq!(group.position(0, false), group.position(1, false));

    // A planned change, twice round, so that each has been everything.
    let mut rows = 20;
    for (epoch, from, to) in [(2, 0, 1), (3, 1, 2), (4, 2, 0), (5, 0, 1), (6, 1, 2), (7, 2, 0)] {
        group.hook(from, "demote", &[]).is(0);
        group.hook(from, "demote", &[]).is(0);
        assert!(group.nodes[from].insert(1000).is_err(), "demoted");
        let last = group.position(from, false);
        wait_for("the successor has it all", || group.position(to, true) == last);
        group.promote(to, epoch).is(0);
        group.promote(to, epoch).is(0);
        for other in (0..3).filter(|other| *other != to) {
            group.replicate(other, to, epoch).is(0);
            group.replicate(other, to, epoch - 1).is(1);
        }
        group.hook(to, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
        rows += 1;
        group.nodes[to].insert(rows).expect("the new primary writes");
        for i in 0..3 {
            group.wait_rows(i, usize::try_from(rows).expect("small"));
        }
    }
    let epoch_passed = group.promote(1, 3);
    assert_eq!(epoch_passed.code, 1, "an older epoch is refused: {}", epoch_passed.output);
}

#[test]
fn a_hanging_commit_is_never_acknowledged_and_its_primary_comes_back() {
    let mut group = Group::formed(3);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].insert(1).expect("two replicas acknowledge");
    for i in [1, 2] {
        group.wait_rows(i, 1);
        // A clean way to a replica that gets nothing: its threads are stopped.
        group.nodes[i].admin("stop slave");
    }
    let acknowledged = Arc::new(AtomicBool::new(false));
    let mut connection = group.nodes[0].connect().expect("connects");
    let writer = {
        let acknowledged = Arc::clone(&acknowledged);
        thread::spawn(move || {
            if connection.query_drop("insert into t values (2)").is_ok() {
                acknowledged.store(true, Ordering::SeqCst);
            }
        })
    };
    wait_for("the commit waits", || {
        group.nodes[0].admin("show processlist").contains("Waiting for semi-sync ACK")
    });
    group.hook(0, "demote", &[]).is(4);
    assert!(!acknowledged.load(Ordering::SeqCst));
    group.nodes[0].kill();
    writer.join().expect("the writer ends");
    assert!(!acknowledged.load(Ordering::SeqCst), "nobody else has this row");

    group.promote(1, 2).is(0);
    group.replicate(2, 1, 2).is(0);
    group.nodes[1].insert(3).expect("asynchronous until the sync hook ran");
    let successor = [("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")];
    group.start(0, &successor);
    assert!(group.nodes[0].log().contains("Successfully truncated binlog"), "the tail is cut");
    group.replicate(0, 1, 2).is(0);
    for i in 0..3 {
        group.wait_rows(i, 2);
        assert_eq!(group.nodes[i].ids(), [1, 3]);
    }
}

#[test]
fn an_old_primary_with_committed_rows_of_its_own_has_diverged() {
    let mut group = Group::formed(2);
    group.nodes[1].admin("stop slave");
    group.nodes[0].insert(1).expect("asynchronous");
    group.nodes[0].kill();
    group.promote(1, 2).is(0);
    // Once with the new primary behind, once ahead of the old one's number.
    group.start(0, &[("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")]);
    // Committed in the engine in spite of the cut, as a row is when a second has passed before the crash.
    if group.nodes[0].ids().is_empty() {
        group.nodes[0].admin("insert into app.t values (1)");
    }
    group.replicate(0, 1, 2).is(3);
    for id in 2..=5 {
        group.nodes[1].insert(id).expect("the new primary writes");
    }
    group.replicate(0, 1, 2).is(3);
    group.nodes[0].kill();
    group.hook(0, "bootstrap", &[("LICTOR_BOOTSTRAP", "rewind")]).is(3);
    group.clone_from(0, 1).is(0);
    group.start(0, &[("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")]);
    group.replicate(0, 1, 2).is(0);
    group.wait_rows(0, 4);
}

#[test]
fn what_only_the_relay_log_holds_survives_a_restart() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].insert(1).expect("acknowledged");
    group.wait_rows(1, 1);
    group.nodes[1].admin("stop slave sql_thread");
    for id in 2..=200 {
        group.nodes[0].insert(id).expect("acknowledged from the relay log alone");
    }
    let last = group.position(0, false);
    group.nodes[1].kill();
    group.nodes[0].kill();
    group.start(1, &[]);
    assert_eq!(group.position(1, true), last, "what it acknowledged, it knows");
    group.promote(1, 2).is(0);
    assert_eq!(group.nodes[1].ids().len(), 200);
}

#[test]
fn a_replica_killed_while_it_applies_comes_back_with_all_it_acknowledged() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    let writer = Writer::start(&group.nodes[0]);
    for round in 0..5 {
        let seen = writer.count();
        wait_for("rows flow", || writer.count() > seen + 50);
        group.nodes[1].kill();
        group.start(1, &[]);
        // Alternately: as the one asked for its position, and as a replica of the same primary.
        if round % 2 == 0 {
            group.position(1, true);
        }
        group.replicate(1, 0, 1).is(0);
    }
    let seen = writer.count();
    wait_for("rows flow", || writer.count() > seen + 50);
    group.nodes[1].kill();
    group.nodes[0].kill();
    let acknowledged = writer.stop();
    group.start(1, &[]);
    group.position(1, true);
    group.promote(1, 2).is(0);
    let have = group.nodes[1].ids();
    let lost: Vec<_> = acknowledged.iter().filter(|id| have.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "of {} acknowledged lost {lost:?}", acknowledged.len());
}

#[test]
fn a_frozen_position_is_final() {
    let group = Group::formed(2);
    group.nodes[0].insert(1).expect("writes");
    let frozen = group.position(1, true);
    for id in 2..=10 {
        group.nodes[0].insert(id).expect("writes");
    }
    assert!(group.position(0, false) > frozen);
    assert_eq!(group.position(1, false), frozen);
    assert_eq!(group.position(1, true), frozen);
    // Not needed after all: the same primary again.
    group.replicate(1, 0, 1).is(0);
    group.wait_rows(1, 10);
}

/// Inserts ids one after another and remembers those that were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start(node: &Node) -> Writer {
        let from = node.ids().last().map_or(1, |last| last + 1);
        Writer::start_at(node, from)
    }

    fn start_at(node: &Node, from: u64) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let mut connection = node.connect().expect("connects");
        let (stopped, list) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = thread::spawn(move || {
            for id in from.. {
                let insert = format!("insert into t values ({id})");
                if stopped.load(Ordering::SeqCst) || connection.query_drop(insert).is_err() {
                    return;
                }
                list.lock().expect("nobody panics with it").push(id);
            }
        });
        Writer { stop, acknowledged, thread }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("nobody panics with it").len()
    }

    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer ends");
        self.acknowledged.lock().expect("nobody panics with it").clone()
    }
}

#[test]
fn a_primary_alone_killed_20_times_keeps_every_acknowledged_row() {
    let mut group = Group::formed(1);
    let mut acknowledged = Vec::new();
    let mut next = 1;
    for round in 0..20_u32 {
        // Four connections, so that commits are grouped and some are always under way.
        let writers: Vec<_> =
            (0..4).map(|i| Writer::start_at(&group.nodes[0], next + i * 1_000_000)).collect();
        wait_for("rows flow", || writers.iter().all(|w| w.count() > 10 + round as usize));
        group.nodes[0].kill();
        for writer in writers {
            acknowledged.extend(writer.stop());
        }
        next += 10_000_000;
        // In place, under its own old epoch still known as the primary's.
        group.start(0, &[("LICTOR_PRIMARY_NODE", "n1"), ("LICTOR_PRIMARY_EPOCH", "1")]);
        group.promote(0, round + 2).is(0);
        let have = group.nodes[0].ids();
        let lost: Vec<_> =
            acknowledged.iter().filter(|id| have.binary_search(id).is_err()).collect();
        assert!(lost.is_empty(), "round {round}: of {} lost {lost:?}", acknowledged.len());
    }
    println!("{} acknowledged rows, none lost in 20 kills", acknowledged.len());
}

#[test]
fn an_old_primary_waits_for_its_successor_before_it_keeps_its_tail() {
    let mut group = Group::formed(2);
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    group.nodes[0].kill();
    group.hook(0, "pre-start", &[]).is(75);
    group
        .hook(0, "pre-start", &[("LICTOR_PRIMARY_NODE", "n1"), ("LICTOR_PRIMARY_EPOCH", "1")])
        .is(75);
    let known = [("LICTOR_PRIMARY_NODE", "n2"), ("LICTOR_PRIMARY_EPOCH", "2")];
    let cut = group.hook(0, "pre-start", &known).is(0);
    assert!(cut.output.contains("init-rpl-role=SLAVE"), "{}", cut.output);
    // That start did not come up (nobody replicated since): the tail is kept the second time.
    let kept = group.hook(0, "pre-start", &known).is(0);
    assert!(kept.output.contains("init-rpl-role=MASTER"), "{}", kept.output);
    // And nobody ever comes: it starts all the same.
    let mut last = group.hook(0, "pre-start", &[]);
    wait_for("the wait ends", || {
        last = group.hook(0, "pre-start", &[]);
        last.code == 0
    });
    assert!(last.output.contains("init-rpl-role=MASTER"), "{}", last.output);
}

#[test]
fn only_members_acknowledge() {
    let group = Group::formed(2);
    let clients =
        || group.nodes[0].admin("show status like 'Rpl_semi_sync_master_clients'").ends_with("\t1");
    group.replicate_with(1, 0, 1, &[("LICTOR_SYNC_SELF", "no")]).is(0);
    wait_for("no client is left", || !clients());
    group.hook(0, "sync", &[("LICTOR_SYNC_ACKS", "1")]).is(0);
    assert!(group.nodes[0].connect().is_ok());
    let mut connection = group.nodes[0].connect().expect("connects");
    let writer = thread::spawn(move || connection.query_drop("insert into t values (1)"));
    wait_for("the commit waits", || {
        group.nodes[0].admin("show processlist").contains("Waiting for semi-sync ACK")
    });
    group.replicate_with(1, 0, 1, &[("LICTOR_SYNC_SELF", "member")]).is(0);
    wait_for("it is a client", clients);
    // It had the row already, and says nothing of it again: the check of health wakes the commit.
    wait_for("the commit returns", || {
        group.hook(0, "health", &[]).is(0);
        writer.is_finished()
    });
    writer.join().expect("the writer ends").expect("a member acknowledges what waits");
}

#[test]
fn a_source_on_another_machine_is_cloned_by_a_dump() {
    let mut group = Group::formed(2);
    for id in 1..=50 {
        group.nodes[0].insert(id).expect("writes");
    }
    group.nodes[1].kill();
    // As if the directory it names were another server's.
    fs::write(group.nodes[0].dir.join("app/lictor-mark"), "of another start\n").expect("write");
    let how = group.clone_from(1, 0).is(0);
    assert!(how.output.contains("by mariadb-dump"), "{}", how.output);
    group.start(1, &[]);
    group.replicate(1, 0, 1).is(0);
    group.nodes[0].insert(51).expect("writes");
    group.wait_rows(1, 51);
    assert_eq!(group.position(0, false), group.position(1, false));
}

#[test]
fn secrets_are_in_no_argument_and_no_environment() {
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let (mut looks, mut found) = (0_u64, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
                    for part in ["cmdline", "environ"] {
                        let text = fs::read(entry.path().join(part)).unwrap_or_default();
                        let text = String::from_utf8_lossy(&text);
                        looks += u64::from(!text.is_empty());
                        if text.contains(SECRET) || text.contains(APP_SECRET) {
                            found.push(text.into_owned());
                        }
                    }
                }
            }
            (looks, found)
        })
    };
    let mut group = Group::formed(2);
    group.nodes[1].kill();
    fs::write(group.nodes[0].dir.join("app/lictor-mark"), "of another start\n").expect("write");
    group.clone_from(1, 0).is(0);
    group.start(1, &[]);
    group.replicate(1, 0, 1).is(0);
    stop.store(true, Ordering::SeqCst);
    let (looks, found) = watcher.join().expect("the watcher ends");
    assert!(found.is_empty(), "{found:?}");
    assert!(looks > 100, "it looked {looks} times");
    for node in &group.nodes {
        assert!(!node.log().contains(SECRET), "in the server's log");
        assert!(!node.dir.join("state/bootstrap.d").exists(), "the option file is gone");
    }
}
