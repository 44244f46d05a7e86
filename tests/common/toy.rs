//! A toy application under the real `lictor run`: a whole life on a real Consul in seconds, without
//! a database.
//!
//! The application and its hooks are in `tests/fixtures/toy`. Each node has a directory with its
//! volume, its own copy of the hooks (to be replaced by worse ones), its configuration and its log.
//! Whatever a node started is gone when it is dropped.

use super::{free_port, scratch, wait_for, wait_some};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A test fails only when a condition never comes: many share the machine.
pub const LIMIT: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(5);
const HOOKS: [&str; 10] = [
    "bootstrap",
    "pre-start",
    "replicate",
    "promote",
    "demote",
    "sync",
    "position",
    "health",
    "backup",
    "verify",
];

/// One node: what it is made of, and its process while it runs.
pub struct Toy {
    pub name: String,
    pub cluster: String,
    /// lictor's port.
    pub port: u16,
    pub app_port: u16,
    /// Settings by their dotted names; every one as TOML text. Written at each start.
    pub settings: Vec<(String, String)>,
    /// More environment for lictor.
    pub env: Vec<(String, String)>,
    /// What `lictor run` is run under, such as `unshare`.
    pub under: Vec<String>,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

/// How lictor ended: its exit code, or 128 + the signal.
pub type Code = i32;

impl Toy {
    /// A node that can be started; nothing runs yet.
    pub fn new(cluster: &str, name: &str, consul: &[String]) -> Toy {
        let toy = Toy {
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            port: free_port(),
            app_port: free_port(),
            settings: Vec::new(),
            env: Vec::new(),
            under: Vec::new(),
            dir: scratch("toy"),
            child: None,
        };
        let hooks = toy.path("hooks");
        std::fs::create_dir(&hooks).expect("our directory is writable");
        for file in HOOKS.iter().chain(&["lib.sh"]) {
            std::fs::copy(fixture(&format!("hooks/{file}")), hooks.join(file)).expect("copied");
        }
        toy.with_settings(consul)
    }

    fn with_settings(mut self, consul: &[String]) -> Toy {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let path = |path: PathBuf| quoted(path.to_str().expect("UTF-8"));
        let volume = self.path("volume");
        let state = volume.join(".lictor/state");
        let toy = fixture("toy.py");
        // A wrapper of a language manager is slow to start, and no toy.
        let system = Path::new("/usr/bin/python3");
        let words = [
            if system.exists() { "/usr/bin/python3" } else { "python3" },
            "-I",
            "-S",
            toy.to_str().expect("UTF-8"),
            volume.join("app").to_str().expect("UTF-8"),
            state.to_str().expect("UTF-8"),
            "127.0.0.1",
            &self.app_port.to_string(),
        ]
        .map(toml::Value::from)
        .to_vec();
        let addresses: Vec<_> = consul.iter().map(|it| toml::Value::from(it.as_str())).collect();
        for (name, text) in [
            ("cluster", quoted(&self.cluster)),
            ("node", quoted(&self.name)),
            ("address", quoted("127.0.0.1")),
            ("listen", quoted(&format!("127.0.0.1:{}", self.port))),
            ("volume", path(volume)),
            ("hooks", path(self.path("hooks"))),
            ("app_port", self.app_port.to_string()),
            ("command", toml::Value::from(words).to_string()),
            ("consul.addresses", toml::Value::from(addresses).to_string()),
            ("log.level", quoted("debug")),
        ] {
            self.set(name, &text);
        }
        self
    }

    /// Sets one setting to a text of TOML, instead of what it was.
    pub fn set(&mut self, name: &str, toml: &str) {
        self.unset(name);
        self.settings.push((name.to_owned(), toml.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.settings.retain(|(it, _)| it != name);
    }

    /// A path in the node's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn app_dir(&self) -> PathBuf {
        self.path("volume/app")
    }

    /// Replaces a hook by this text.
    pub fn hook(&self, name: &str, text: &str) {
        let path = self.path("hooks").join(name);
        // Beside and renamed: a running hook keeps its file.
        let beside = self.path("hook.new");
        std::fs::write(&beside, text).expect("our directory is writable");
        std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o755)).expect("ours");
        std::fs::rename(beside, path).expect("ours");
    }

    /// The toy's own hook again.
    pub fn mend_hook(&self, name: &str) {
        let text = std::fs::read_to_string(fixture(&format!("hooks/{name}"))).expect("there");
        self.hook(name, &text);
    }

    /// Writes the configuration file as the settings are now.
    pub fn configure(&self) -> PathBuf {
        let path = self.path("lictor.toml");
        let text: String =
            self.settings.iter().map(|(name, toml)| format!("{name} = {toml}\n")).collect();
        std::fs::write(&path, text).expect("our directory is writable");
        path
    }

    /// lictor with these words, less any configuration of this process's environment.
    pub fn lictor(&self, words: &[&str]) -> Command {
        let mut line: Vec<String> = self.under.clone();
        line.push(env!("CARGO_BIN_EXE_lictor").to_owned());
        line.extend(words.iter().map(|word| word.to_string()));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("LICTOR_") || text.starts_with("CONSUL_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that ends by itself with this node's configuration, such as `status --json`.
    pub fn ask(&self, words: &[&str]) -> Output {
        let path = self.configure();
        let path = path.to_str().expect("UTF-8");
        let (first, rest) = words.split_first().expect("a subcommand");
        let line = [&[*first, "-c", path], rest].concat();
        self.lictor(&line).output().expect("lictor starts")
    }

    /// Starts `lictor run`; its output goes to the log.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let config = self.configure();
        let log = File::options().create(true).append(true).open(self.path("log"));
        let log = log.expect("our directory is writable");
        let config = config.to_str().expect("UTF-8");
        let mut command = self.lictor(&["run", "-c", config]);
        command.stdout(log.try_clone().expect("a file can be cloned")).stderr(log);
        command.process_group(0);
        self.child = Some(command.spawn().expect("lictor starts"));
    }

    pub fn pid(&self) -> Pid {
        pid_of(self.child.as_ref().expect("it runs"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Waits for lictor's end by itself.
    pub fn wait(&mut self) -> Code {
        let mut child = self.child.take().expect("it was started");
        let name = format!("{} ends", self.name);
        let status = wait_some(LIMIT, &name, || child.try_wait().expect("our child"));
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Whether it ended by itself.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("our child").is_some())
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> Code {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// As a machine that loses power: everything at once, and waits until nothing is left.
    pub fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let tree = tree(pid_of(&child));
        for pid in &tree {
            // What is gone already needs no kill.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        drop(child.wait());
        wait_for(LIMIT, "the node's tree is gone", || {
            let left: Vec<_> = tree.iter().filter(|pid| lives(**pid)).collect();
            for pid in &left {
                let _ = kill(**pid, Signal::SIGKILL);
            }
            left.is_empty()
        });
    }

    /// Everything it wrote to stdout and stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How many lines of the log hold all of these.
    pub fn logged(&self, parts: &[&str]) -> usize {
        self.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    pub fn wait_logged(&self, parts: &[&str]) {
        wait_for(LIMIT, &format!("{} logs {parts:?}", self.name), || self.logged(parts) > 0);
    }

    /// A request to lictor's port: status and body.
    pub fn http(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(REQUEST)).ok()?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The status of `GET path`; 0 without an answer.
    pub fn code(&self, path: &str) -> u16 {
        self.http("GET", path, "", "").map_or(0, |(code, _)| code)
    }

    /// What it says of itself.
    pub fn status(&self) -> Option<Value> {
        let (_, body) = self.http("GET", "/status", "", "")?;
        serde_json::from_str(&body).ok()
    }

    pub fn state(&self) -> String {
        let status = self.status().unwrap_or_default();
        status["state"].as_str().unwrap_or("silent").to_owned()
    }

    pub fn is_primary(&self) -> bool {
        self.code("/primary") == 200
    }

    /// Waits until it is the primary.
    pub fn wait_primary(&self) {
        wait_for(LIMIT, &format!("{} is the primary", self.name), || self.is_primary());
    }

    /// Waits until it follows and may take.
    pub fn wait_replica(&self) {
        wait_for(LIMIT, &format!("{} is an eligible replica", self.name), || {
            let Some(status) = self.status() else { return false };
            let rows = status["members"].as_array().cloned().unwrap_or_default();
            let own = rows.iter().find(|row| row["node"] == self.name.as_str());
            let eligible = own.is_some_and(|row| row["eligible"] == true);
            eligible && status["state"] == "replica" && !status["follows"].is_null()
        });
    }

    /// The running application's pid.
    pub fn app_pid(&self) -> Option<Pid> {
        let pid = self.status()?["app"]["pid"].as_i64()?;
        Some(Pid::from_raw(i32::try_from(pid).expect("a pid is small")))
    }

    /// One command to the application; its first line of answer.
    pub fn toy(&self, words: &str) -> Option<String> {
        say(self.app_port, words)
    }

    /// The application's rows, if it answers.
    pub fn rows(&self) -> Option<Vec<String>> {
        let (answer, mut file) = ask_toy(self.app_port, "read")?;
        let count: usize = answer?.strip_prefix("ok ")?.parse().ok()?;
        let mut line = || {
            let mut text = String::new();
            file.read_line(&mut text).ok()?;
            Some(text.trim_end_matches('\n').to_owned())
        };
        (0..count).map(|_| line()).collect()
    }

    /// Writes a row, which must be acknowledged.
    pub fn write(&self, row: &str) {
        let answer = self.toy(&format!("write {row}")).unwrap_or_default();
        assert!(answer.starts_with("ok"), "{} answers {answer:?} to a write", self.name);
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.crash();
        if std::thread::panicking() {
            let name = &self.name;
            eprintln!("--- log of {name}\n{}--- end of {name}", self.log());
        }
    }
}

/// Three nodes of one cluster, not started.
pub fn three(cluster: &str, consul: &[String]) -> Vec<Toy> {
    let nodes = ["a", "b", "c"].map(|name| {
        let mut toy = Toy::new(cluster, name, consul);
        toy.set("bootstrap_expect", "3");
        toy
    });
    nodes.into()
}

/// Starts all and waits until one leads and the others may take over; where the primary is.
pub fn settle(nodes: &mut [Toy]) -> usize {
    for node in nodes.iter_mut().filter(|node| node.child.is_none()) {
        node.start();
    }
    let primary = wait_some(LIMIT, "one is the primary", || primary(nodes));
    for (index, node) in nodes.iter().enumerate() {
        if index != primary {
            node.wait_replica();
        }
    }
    primary
}

/// Which of these is the primary now.
pub fn primary(nodes: &[Toy]) -> Option<usize> {
    nodes.iter().position(Toy::is_primary)
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/toy").join(name)
}

/// One command to the application on this port; its first line of answer.
pub fn say(port: u16, words: &str) -> Option<String> {
    ask_toy(port, words)?.0
}

fn ask_toy(port: u16, words: &str) -> Option<(Option<String>, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(REQUEST)).ok()?;
    stream.write_all(format!("{words}\n").as_bytes()).ok()?;
    let mut file = BufReader::new(stream);
    let mut text = String::new();
    file.read_line(&mut text).ok()?;
    let answer = text.ends_with('\n').then(|| text.trim_end().to_owned());
    Some((answer, file))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid is positive and small"))
}

/// Whether this process runs; a zombie does not.
pub fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A process and all that descend from it.
pub fn tree(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let pids = text.split_whitespace().filter_map(|word| word.parse().ok());
            found.extend(pids.map(Pid::from_raw));
        }
    }
    found
}
