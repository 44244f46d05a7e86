//! A cluster for a test: Consul, and nodes with MariaDB under `lictor run`, on ports and in a
//! directory of its own.
//!
//! One at a time in a test process: the times measured here mean nothing when several databases
//! fight for two cores. What was started ends, and its directory goes, when it is dropped; the
//! logs are kept below `target/tmp`, and after a failure their ends printed.

use super::consul::{self, Agent, Consul};
use super::node::{APP_SECRET, Node, ROOT_SECRET, lictor};
use super::safe::Safe;
use super::{free_port, wait_for, wait_some};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Three databases made and cloned, on a busy machine.
pub const CONVERGE_LIMIT: Duration = Duration::from_secs(90);
/// The space that three small databases and their logs need.
const ROOM_BYTES: u64 = 3 << 30;
/// How much of a log is printed after a failure.
const TAIL_LINES: usize = 120;

static ALONE: Mutex<()> = Mutex::new(());

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Consul servers: 1 or 3.
    pub servers: usize,
    pub dns: bool,
    /// Empty: not in the nodes' own files, for KV to say.
    pub sync: &'static str,
    /// More lines for the top of every node's configuration.
    pub settings: String,
    /// Tables for its end.
    pub tables: String,
    /// Each node reaches Consul by a client agent of its own alone.
    pub agents: bool,
    /// Default-deny ACLs with a token a node, Consul by https with client certificates, and HTTPS
    /// between nodes.
    pub secure: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            servers: 1,
            dns: false,
            sync: "on",
            settings: String::new(),
            tables: String::new(),
            agents: false,
            secure: false,
        }
    }
}

/// Three nodes `n1` to `n3` of the cluster `demo`.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub consul: Consul,
    /// Of the nodes in their order, if each has its own.
    pub agents: Vec<Agent>,
    /// Of a secure one.
    pub safe: Option<Safe>,
    options: Options,
    dir: tempfile::TempDir,
    /// Last, so that the next test starts when all of this is gone.
    _alone: MutexGuard<'static, ()>,
}

/// What a switchover said.
#[derive(Debug)]
pub struct Switchover {
    pub exit: i32,
    pub answer: String,
    pub took: Duration,
}

impl Cluster {
    /// Starts everything and returns when all follow one primary.
    pub fn start(options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.wait_converged();
        cluster
    }

    fn prepare(options: Options) -> Cluster {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = consul::Options {
            servers: options.servers,
            dns: options.dns,
            ..consul::Options::default()
        };
        let (consul, safe) = if options.secure {
            let (consul, safe) = Safe::start(plain);
            (consul, Some(safe))
        } else {
            (Consul::start(plain), None)
        };
        let dir = roomy();
        let hooks = dir.path().join("hooks");
        copy_hooks(&hooks);
        for (name, secret) in
            [("replication", "repl-secret"), ("root", ROOT_SECRET), ("app", APP_SECRET)]
        {
            fs::write(dir.path().join(name), secret).expect("our directory is writable");
        }
        let agents = (1..=3).filter(|_| options.agents);
        let agents = agents.map(|n| consul.start_client(&format!("agent-{n}"))).collect();
        let nodes = (1..=3)
            .map(|n| Node::new(&format!("n{n}"), free_port(), free_port(), dir.path()))
            .collect();
        let cluster = Cluster { nodes, consul, agents, safe, options, dir, _alone: alone };
        for node in &cluster.nodes {
            if let Some(safe) = &cluster.safe {
                safe.equip(&cluster.consul, node, cluster.dir.path());
            }
            fs::write(&node.config, cluster.config(node)).expect("our directory is writable");
        }
        cluster
    }

    fn config(&self, node: &Node) -> String {
        let dir = self.dir.path().display();
        let (name, volume) = (&node.name, node.volume.display());
        let (listen, port) = (node.listen, node.port);
        let Options { sync, settings, tables, .. } = &self.options;
        let operator = self
            .safe
            .as_ref()
            .map_or(String::new(), |_| format!("token_file = \"{dir}/operator\""));
        let addresses = match &self.safe {
            Some(safe) => vec![safe.address.clone()],
            None => match self.agents.get(self.index(&node.name)) {
                Some(own) => vec![own.address()],
                None => self.consul.addresses(),
            },
        };
        let (consul, more) = match &self.safe {
            Some(safe) => safe.config(node, self.dir.path()),
            None => Default::default(),
        };
        let sync = if sync.is_empty() { String::new() } else { format!("sync = \"{sync}\"\n") };
        format!(
            "cluster = \"demo\"\nnode = \"{name}\"\naddress = \"127.0.0.1\"\n\
             listen = \"127.0.0.1:{listen}\"\nvolume = \"{volume}\"\nhooks = \"{dir}/hooks\"\n\
             hook_user = \"mysql\"\napp_user = \"mysql\"\napp_port = {port}\n\
             command = [\"mariadbd\", \"--defaults-file={volume}/.lictor/state/my.cnf\"]\n\
             {sync}bootstrap_expect = 3\n{operator}\n{settings}\n\
             [consul]\naddresses = {addresses:?}\n{consul}{more}\
             [secret_files]\nreplication = \"{dir}/replication\"\nroot = \"{dir}/root\"\n\
             app = \"{dir}/app\"\n[log]\nlevel = \"debug\"\n{tables}\n"
        )
    }

    /// Where everything of it is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the node of this name is in `nodes`.
    pub fn index(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        let index = self.index(name);
        &mut self.nodes[index]
    }

    /// `lictor status --json`; `None` while Consul does not answer.
    pub fn status(&self) -> Option<Value> {
        let config = &self.nodes[0].config;
        let output = lictor().args(["status", "--json", "-c"]).arg(config).output();
        serde_json::from_slice(&output.expect("lictor starts").stdout).ok()
    }

    /// Who holds the lock and acts as primary, as that node says itself.
    pub fn primary(&self) -> Option<String> {
        let acting = self.nodes.iter().filter(|node| node.is_up() && node.code("/primary") == 200);
        acting.map(|node| node.name.clone()).next()
    }

    pub fn wait_primary(&self) -> String {
        wait_some(CONVERGE_LIMIT, "there is a primary", || self.primary())
    }

    /// Waits until another node than this one is primary.
    pub fn wait_successor(&self, of: &str) -> String {
        let what = format!("another node than {of} is primary");
        wait_some(CONVERGE_LIMIT, &what, || self.primary().filter(|name| name != of))
    }

    /// Waits until every node that is up follows one primary under its epoch, and is listed, and
    /// counted in sync mode. Returns the primary.
    pub fn wait_converged(&self) -> String {
        wait_some(CONVERGE_LIMIT, "all nodes follow one primary", || {
            self.status().and_then(|status| self.converged(&status))
        })
    }

    fn converged(&self, status: &Value) -> Option<String> {
        let leader = &status["leader"];
        let primary = leader["node"].as_str()?;
        if status["locked"] != true || leader["state"] != "held" {
            return None;
        }
        let up: Vec<&str> =
            self.nodes.iter().filter(|n| n.is_up()).map(|n| n.name.as_str()).collect();
        let members = status["members"].as_array()?;
        for name in &up {
            let member = members.iter().find(|member| member["node"] == *name)?;
            let settled = if *name == primary {
                member["role"] == "primary"
            } else {
                let follows = &member["follows"];
                member["role"] == "replica"
                    && follows["epoch"] == leader["epoch"]
                    && follows["node"] == leader["node"]
            };
            if !settled || member["healthy"] != true || member["eligible"] != true {
                return None;
            }
        }
        if !matches!(self.options.sync, "off" | "") {
            let sync = &status["sync"];
            let names = sync["members"].as_array()?;
            let complete =
                names.len() == up.len() && up.iter().all(|n| names.iter().any(|m| m == n));
            let acks = u64::from(up.len() > 1);
            if !complete || sync["epoch"] != leader["epoch"] || sync["acks"] != acks {
                return None;
            }
        }
        Some(primary.to_owned())
    }

    /// `lictor switchover`, to a node or to the best one.
    pub fn switchover(&self, to: Option<&str>) -> Switchover {
        let begun = Instant::now();
        let mut command = lictor();
        command.args(["switchover", "-c"]).arg(&self.nodes[0].config);
        command.args(to.iter().flat_map(|name| ["--to", name]));
        let output = command.output().expect("lictor starts");
        let answer = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Switchover { exit: output.status.code().unwrap_or(-1), answer, took: begun.elapsed() }
    }

    /// Makes this node the primary, by switchover if it is not.
    pub fn lead_by(&self, name: &str) {
        if self.wait_converged() != name {
            let done = self.switchover(Some(name));
            assert_eq!(done.exit, 0, "switchover to {name}: {}", done.answer);
            assert_eq!(self.wait_converged(), name);
        }
    }

    /// Waits until every replica's database holds what the primary's does.
    pub fn wait_equal(&self) {
        let primary = self.wait_converged();
        let ids = "select coalesce(bit_xor(crc32(id)), 0) * 1000000 + count(*) from app.kept";
        wait_for(CONVERGE_LIMIT, "every replica holds the primary's rows", || {
            let want = self.node(&primary).ask(ids);
            self.nodes.iter().filter(|node| node.is_up()).all(|node| node.ask(ids) == want)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let keep = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-logs"));
        let _ = fs::create_dir_all(&keep);
        for node in &self.nodes {
            let _ = fs::copy(&node.log, keep.join(format!("{}.log", node.name)));
        }
        if std::thread::panicking() {
            let status = lictor().args(["status", "-c"]).arg(&self.nodes[0].config).output();
            let text = status.map(|output| [output.stdout, output.stderr].concat());
            eprintln!("--- status\n{}", String::from_utf8_lossy(&text.unwrap_or_default()));
            for node in &self.nodes {
                eprintln!("--- the end of {}'s log\n{}", node.name, node.tail(TAIL_LINES));
            }
            eprintln!("--- whole logs: {}", keep.display());
        }
        // Before Consul, so that none is left to do anything about its loss.
        self.nodes.clear();
    }
}

/// A directory that other users can walk: in memory when there is room.
fn roomy() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let room = nix::sys::statvfs::statvfs(&memory)
        .map_or(0, |it| it.blocks_available() * it.fragment_size());
    let parent = if room >= ROOM_BYTES { memory } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("lictor-cluster-").tempdir_in(parent);
    let dir = dir.expect("the temporary directory is writable");
    open(dir.path());
    dir
}

fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// A copy: the repository may lie where the hooks' user cannot walk.
fn copy_hooks(to: &Path) {
    fs::create_dir(to).expect("our directory is writable");
    open(to);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("containers/mariadb/hooks");
    for entry in fs::read_dir(from).expect("the hooks are in the repository").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a hook can be copied");
    }
}
