//! A replica group of real MariaDB servers whose hooks are run by hand, as lictor would.

// Each test crate uses a part of it.
#![allow(dead_code)]

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
pub const SECRET: &str = r#"re'pl\se"cr#t-5417"#;
pub const APP_SECRET: &str = "app-secret-9921";
/// Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Ended {
    pub code: i32,
    pub output: String,
}

impl Ended {
    #[track_caller]
    pub fn is(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "{}", self.output);
        self
    }

    pub fn order(&self) -> u64 {
        let line = self.output.lines().next_back().expect("position answers with a line");
        let answer: serde_json::Value = serde_json::from_str(line).expect("the line is JSON");
        answer["order"].as_u64().expect("order is a number")
    }
}

pub struct Node {
    pub name: String,
    pub dir: PathBuf,
    port: u16,
    uid: u32,
    gid: u32,
    server: Option<Child>,
}

pub struct Group {
    pub nodes: Vec<Node>,
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

/// Below the range that outgoing connections take theirs from: a server that was killed must get
/// its own again.
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
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Group {
    pub fn new(count: usize) -> Group {
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

    /// Runs a hook. Where `facts` do not say else, everybody is a member and all others count.
    pub fn hook(&self, i: usize, hook: &str, facts: &[(&str, &str)]) -> Ended {
        let node = &self.nodes[i];
        let names: Vec<&str> = self.nodes.iter().map(|it| it.name.as_str()).collect();
        let others: Vec<&str> = names.iter().copied().filter(|it| *it != node.name).collect();
        let (names, others) = (names.join(","), others.join(","));
        let mut all = vec![("LICTOR_MEMBERS", names.as_str())];
        if hook == "sync" {
            all.push(("LICTOR_SYNC_MEMBERS", &others));
        }
        all.extend(facts);
        let from = Instant::now();
        let ended = node.run(hook, &all);
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

    pub fn start(&mut self, i: usize, facts: &[(&str, &str)]) {
        self.hook(i, "pre-start", facts).is(0);
        self.nodes[i].start();
        wait_for("the server answers", || self.nodes[i].run("health", &[]).code == 0);
    }

    pub fn promote(&self, i: usize, epoch: u32) -> Ended {
        self.hook(i, "promote", &[("LICTOR_EPOCH", &epoch.to_string())])
    }

    pub fn replicate(&self, i: usize, primary: usize, epoch: u32) -> Ended {
        self.replicate_with(i, primary, epoch, &[])
    }

    pub fn replicate_with(
        &self,
        i: usize,
        primary: usize,
        epoch: u32,
        more: &[(&str, &str)],
    ) -> Ended {
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

    pub fn clone_from(&self, i: usize, source: usize) -> Ended {
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
    pub fn formed(count: usize) -> Group {
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

    pub fn position(&self, i: usize, freeze: bool) -> u64 {
        let facts: &[(&str, &str)] = if freeze { &[("LICTOR_FREEZE", "1")] } else { &[] };
        self.hook(i, "position", facts).is(0).order()
    }

    pub fn wait_rows(&self, i: usize, count: usize) {
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
    pub fn run(&self, hook: &str, facts: &[(&str, &str)]) -> Ended {
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

    pub fn start(&mut self) {
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

    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Stops the server's process where it is.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        let pid = i32::try_from(server.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("our child takes signals");
    }

    pub fn connect(&self) -> mysql::Result<Conn> {
        self.connect_for(Duration::from_secs(5))
    }

    /// For statements that take up to `limit`.
    pub fn connect_for(&self, limit: Duration) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(Some("127.0.0.1"))
                .tcp_port(self.port)
                .prefer_socket(false)
                .user(Some("app"))
                .pass(Some(APP_SECRET))
                .db_name(Some("app"))
                .read_timeout(Some(limit))
                .tcp_connect_timeout(Some(Duration::from_secs(5))),
        )
    }

    /// As the operating system's root, who may write on a replica.
    pub fn admin(&self, statement: &str) -> String {
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

    /// A number of the server's status.
    pub fn status(&self, name: &str) -> u64 {
        let line = self.admin(&format!("show global status like '{name}'"));
        let value = line.split('\t').next_back().expect("a split has a part");
        value.parse().expect("the value is a number")
    }

    pub fn insert(&self, id: u64) -> mysql::Result<()> {
        self.connect()?.query_drop(format!("insert into t values ({id})"))
    }

    pub fn ids(&self) -> Vec<u64> {
        let mut connection = self.connect().expect("a running server takes readers");
        connection.query("select id from t order by id").expect("the table can be read")
    }
}

/// Inserts ids one after another and remembers those that were acknowledged.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    pub fn start(node: &Node) -> Writer {
        let from = node.ids().last().map_or(1, |last| last + 1);
        Writer::start_at(node, from)
    }

    pub fn start_at(node: &Node, from: u64) -> Writer {
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

    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("nobody panics with it").len()
    }

    pub fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer ends");
        self.acknowledged.lock().expect("nobody panics with it").clone()
    }
}
