//! One node of a test's cluster: `lictor run` with MariaDB, its processes, and what breaks them.
//!
//! Processes are found as the node's own, by the path of its directory in their arguments or
//! environment, and ended by pid. A killed node leaves nothing behind.

use super::{wait_for, wait_some};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a signal may take to end a tree, and a node to end by itself.
const END_LIMIT: Duration = Duration::from_secs(30);
const HTTP_LIMIT: Duration = Duration::from_secs(2);
/// The password of the database's root, for hands that reach past lictor.
pub const ROOT_SECRET: &str = "root-secret";
/// The password of the application's user, who may write into one database and nothing more.
pub const APP_SECRET: &str = "app-secret";

/// A node: running or not.
pub struct Node {
    pub name: String,
    /// Its HTTP.
    pub listen: u16,
    /// MariaDB's.
    pub port: u16,
    pub volume: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
    /// Another build of lictor than the one under test.
    pub program: Option<PathBuf>,
    child: Option<Child>,
}

impl Node {
    pub fn new(name: &str, listen: u16, port: u16, dir: &Path) -> Node {
        Node {
            name: name.to_owned(),
            listen,
            port,
            volume: dir.join(name),
            config: dir.join(format!("{name}.toml")),
            log: dir.join(format!("{name}.log")),
            program: None,
            child: None,
        }
    }

    /// Starts it, the first time or again on its old volume.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("our directory is writable");
        let program = self.program.clone();
        let child = program
            .map_or_else(lictor, |path| bare(&path))
            .args(["run", "-c"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file can be cloned"))
            .stdout(log)
            .spawn()
            .expect("lictor starts");
        self.child = Some(child);
    }

    /// Started and not yet seen to have ended.
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// `lictor run` forks once: the parent guards.
    pub fn guard(&self) -> Pid {
        let id = self.child.as_ref().expect("the node runs").id();
        Pid::from_raw(i32::try_from(id).expect("a pid is positive and small"))
    }

    /// The guard's child.
    pub fn sidecar(&self) -> Pid {
        let guard = self.guard();
        let is_ours = |process: &Process| process.parent == guard && process.name == "lictor";
        let found = processes().into_iter().find(is_ours);
        found.unwrap_or_else(|| panic!("{} has no sidecar", self.name)).pid
    }

    /// The running MariaDB, wherever its parent went; not the private one of a bootstrap.
    pub fn app(&self) -> Option<Pid> {
        let config = format!("--defaults-file={}", self.volume.display());
        processes()
            .into_iter()
            .filter(|process| process.name == "mariadbd" && !process.is_zombie)
            .find(|process| {
                let line = text_of(process.pid, "cmdline");
                line.contains(&config) && !line.contains("--skip-networking")
            })
            .map(|process| process.pid)
    }

    /// SIGKILL to the application alone.
    pub fn kill_app(&self) {
        let app = self.app().unwrap_or_else(|| panic!("{} runs no application", self.name));
        send(app, Signal::SIGKILL);
    }

    /// Everything of the node at once, as when its machine dies; returns when nothing is left.
    pub fn kill(&mut self) {
        wait_for(END_LIMIT, "nothing of the node is left", || {
            let left = self.all();
            left.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
            left.is_empty()
        });
        self.wait_end();
    }

    /// SIGTERM to lictor, as an init does it; returns its exit code when it has ended.
    pub fn stop(&mut self) -> i32 {
        send(self.guard(), Signal::SIGTERM);
        self.wait_end()
    }

    /// Waits until `lictor run` has ended by itself: its exit code, 128 + signal when killed.
    pub fn wait_end(&mut self) -> i32 {
        let Some(mut child) = self.child.take() else { return 0 };
        let what = format!("{} has ended", self.name);
        let status: ExitStatus =
            wait_some(END_LIMIT, &what, || child.try_wait().expect("our child can be waited for"));
        status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// Waits until no process of it is left, whoever ended them.
    pub fn wait_gone(&self, limit: Duration) {
        let what = format!("every process of {} is gone", self.name);
        wait_for(limit, &what, || self.all().is_empty());
    }

    /// All its live processes: whose arguments or environment name its directory.
    pub fn all(&self) -> Vec<Pid> {
        let path = self.volume.display().to_string();
        let is_ours = |process: &Process| {
            !process.is_zombie
                && (text_of(process.pid, "cmdline").contains(&path)
                    || text_of(process.pid, "environ").contains(&path))
        };
        processes().into_iter().filter(is_ours).map(|process| process.pid).collect()
    }

    /// Forgets everything on its volume, as a lost disk does. Only while it does not run.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        fs::remove_dir_all(&self.volume).expect("our directory can be removed");
    }

    /// A GET: status and body; `None` when it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listen)).ok()?;
        stream.set_read_timeout(Some(HTTP_LIMIT)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.name).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The status code alone; 0 when it does not answer.
    pub fn code(&self, path: &str) -> u16 {
        self.get(path).map_or(0, |(code, _)| code)
    }

    /// What it says of itself.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.get("/status")?.1).ok()
    }

    /// A statement by the database's root through its socket, past lictor.
    pub fn admin(&self, statement: &str) {
        self.root().query_drop(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// The first field of a question to the database, by root.
    pub fn ask(&self, question: &str) -> Option<String> {
        self.root().query_first(question).unwrap_or_else(|error| panic!("{question}: {error}"))
    }

    /// A field of `show slave status`.
    pub fn replication(&self, field: &str) -> Option<String> {
        let row: mysql::Row = self.root().query_first("show slave status").ok()??;
        row.get_opt::<Option<String>, _>(field)?.ok()?
    }

    pub fn root(&self) -> Conn {
        let socket = self.volume.join(".lictor/state/mysqld.sock");
        let how = OptsBuilder::new()
            .socket(Some(socket.display().to_string()))
            .user(Some("root"))
            .pass(Some(ROOT_SECRET));
        Conn::new(how).unwrap_or_else(|error| panic!("{}: root cannot connect: {error}", self.name))
    }

    /// Whether its log has said this.
    pub fn log_has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).contains(text)
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // No assertion here: a panic while another unwinds ends the process at once.
        for _ in 0..100 {
            let left = self.all();
            left.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The program under test, without the settings of whoever runs the tests.
pub fn lictor() -> Command {
    bare(Path::new(env!("CARGO_BIN_EXE_lictor")))
}

fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// To a process that may have ended already.
pub fn send(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

struct Process {
    pid: Pid,
    parent: Pid,
    name: String,
    is_zombie: bool,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("there is /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(process).collect()
}

/// `pid (name) state parent ..`; the name may hold anything.
fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some(Process {
        pid: Pid::from_raw(pid),
        parent: Pid::from_raw(fields.next()?.parse().ok()?),
        name: head.split_once('(')?.1.to_owned(),
        is_zombie: matches!(state, "Z" | "X"),
    })
}

fn text_of(pid: Pid, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
