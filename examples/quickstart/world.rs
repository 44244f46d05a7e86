//! The processes of the demonstration: three Consul servers and three nodes, each node a `lictor
//! run` with its own volume and ports. Whatever was started here is ended here, by pid.
//!
//! A process belongs to us if an argument names a path under our directory, which is new and ours
//! alone, or if it descends from one that does. Pids of others are never touched.

use crate::stop::Stop;
use crate::writers::Target;
use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const HTTP_LIMIT: Duration = Duration::from_secs(1);
/// About half a second of ids.
const CLOSE_ROWS: u64 = 100;
const POLL: Duration = Duration::from_millis(50);
/// Below the range that outgoing connections take theirs from: a killed server must get its own
/// again.
const FIRST_PORT: u16 = 18_000;
const LAST_PORT: u16 = 32_000;

pub struct Node {
    pub name: String,
    pub config: PathBuf,
    pub volume: PathBuf,
    pub log: PathBuf,
    pub listen: u16,
    pub target: Target,
    guard: Option<Child>,
}

pub struct World {
    pub dir: PathBuf,
    pub lictor: PathBuf,
    pub consul: PathBuf,
    pub consul_version: String,
    pub consul_ports: Vec<u16>,
    pub nodes: Vec<Node>,
    servers: Vec<Child>,
    stop: Stop,
    /// Leave everything running at the end.
    pub keep: bool,
}

/// Ports that nobody listens on now.
struct Ports(u16);

impl Ports {
    fn next(&mut self) -> Result<u16> {
        while self.0 < LAST_PORT {
            self.0 += 1;
            if TcpListener::bind(("127.0.0.1", self.0)).is_ok() {
                return Ok(self.0);
            }
        }
        bail!("no free port on 127.0.0.1 between {FIRST_PORT} and {LAST_PORT}")
    }
}

impl World {
    pub fn new(consul: PathBuf, lictor: PathBuf, repository: &Path, stop: Stop) -> Result<World> {
        let dir = tempfile::Builder::new().prefix("lictor-quickstart.").tempdir()?.keep();
        // The application's user must get through to its volume.
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let spread = u16::try_from(std::process::id() % 8_000).unwrap_or(0);
        let mut ports = Ports(FIRST_PORT + spread);
        let version = Command::new(&consul).arg("version").output().context("consul version")?;
        let version = String::from_utf8_lossy(&version.stdout);
        let mut world = World {
            consul_version: version.lines().next().unwrap_or("unknown").to_owned(),
            dir,
            lictor,
            consul,
            consul_ports: Vec::new(),
            nodes: Vec::new(),
            servers: Vec::new(),
            stop,
            keep: false,
        };
        world.start_consul(&mut ports)?;
        world.write_nodes(&mut ports, repository)?;
        Ok(world)
    }

    fn start_consul(&mut self, ports: &mut Ports) -> Result<()> {
        let mut gossip = Vec::new();
        for _ in 0..3 {
            self.consul_ports.push(ports.next()?);
            gossip.push(ports.next()?);
        }
        for (i, http) in self.consul_ports.clone().into_iter().enumerate() {
            let home = self.dir.join(format!("consul{}", i + 1));
            fs::create_dir(&home)?;
            let config = json!({
                "node_name": format!("consul{}", i + 1),
                "server": true,
                "bootstrap_expect": 3,
                "data_dir": home.join("data"),
                "bind_addr": "127.0.0.1",
                "client_addr": "127.0.0.1",
                "ports": {"http": http, "serf_lan": gossip[i], "server": ports.next()?,
                          "serf_wan": -1, "dns": -1, "grpc": -1},
                "retry_join": gossip.iter().map(|p| format!("127.0.0.1:{p}")).collect::<Vec<_>>(),
                "retry_interval": "1s",
                "performance": {"raft_multiplier": 1},
                "autopilot": {"cleanup_dead_servers": false},
                "disable_update_check": true,
                "log_level": "WARN",
            });
            fs::write(home.join("config.json"), config.to_string())?;
            let mut command = Command::new(&self.consul);
            command
                .arg("agent")
                .arg(format!("-config-file={}", home.join("config.json").display()));
            self.servers.push(start(&mut command, &home.join("log"))?);
        }
        let ports = self.consul_ports.clone();
        self.wait_for("three Consul servers with a leader", Duration::from_secs(60), || {
            let peers = ports.iter().map(|port| http(*port, "GET", "/v1/status/peers"));
            let all = peers.flatten().filter(|(_, body)| body.matches(':').count() == 3).count();
            let put = http(ports[0], "PUT", "/v1/kv/quickstart?raw").is_some_and(|(s, _)| s == 200);
            all == 3 && put
        })
    }

    fn write_nodes(&mut self, ports: &mut Ports, repository: &Path) -> Result<()> {
        let secrets = self.dir.join("secrets");
        fs::create_dir(&secrets)?;
        for name in ["replication", "app"] {
            fs::write(secrets.join(name), random_hex()? + "\n")?;
            fs::set_permissions(secrets.join(name), Permissions::from_mode(0o400))?;
        }
        let password = fs::read_to_string(secrets.join("app"))?.trim().to_owned();
        let consul: Vec<String> =
            self.consul_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        for i in 1..=3 {
            let name = format!("n{i}");
            let volume = self.dir.join(&name);
            fs::create_dir(&volume)?;
            let (listen, port) = (ports.next()?, ports.next()?);
            let config = self.dir.join(format!("{name}.toml"));
            let my_cnf = volume.join(".lictor/state/my.cnf");
            fs::write(
                &config,
                format!(
                    "cluster = \"demo\"\n\
                     node = \"{name}\"\n\
                     address = \"127.0.0.1\"\n\
                     listen = \"127.0.0.1:{listen}\"\n\
                     volume = \"{volume}\"\n\
                     hooks = \"{hooks}\"\n\
                     hook_user = \"mysql\"\n\
                     app_user = \"mysql\"\n\
                     app_port = {port}\n\
                     command = [\"mariadbd\", \"--defaults-file={my_cnf}\"]\n\
                     sync = \"on\"\n\
                     bootstrap_expect = 3\n\n\
                     [consul]\n\
                     addresses = {consul:?}\n\n\
                     [secret_files]\n\
                     replication = \"{secrets}/replication\"\n\
                     app = \"{secrets}/app\"\n",
                    volume = volume.display(),
                    hooks = repository.join("containers/mariadb/hooks").display(),
                    my_cnf = my_cnf.display(),
                    secrets = secrets.display(),
                ),
            )?;
            self.nodes.push(Node {
                log: self.dir.join(format!("{name}.log")),
                target: Target { port, password: password.clone() },
                name,
                config,
                volume,
                listen,
                guard: None,
            });
        }
        Ok(())
    }

    pub fn start_node(&mut self, i: usize) -> Result<()> {
        let mut command = Command::new(&self.lictor);
        command.arg("run").arg("-c").arg(&self.nodes[i].config);
        // A relative PATH entry or none at all would hide the application.
        let guard = start(&mut command, &self.nodes[i].log)?;
        self.nodes[i].guard = Some(guard);
        Ok(())
    }

    /// SIGKILL to the application's main process alone.
    pub fn kill_application(&self, i: usize) -> Result<()> {
        let mark = format!("--defaults-file={}", self.nodes[i].volume.display());
        let all = processes();
        let main = all.iter().find(|(_, p)| p.args.contains("mariadbd") && p.args.contains(&mark));
        let (pid, _) =
            main.with_context(|| format!("no mariadbd of {} runs", self.nodes[i].name))?;
        kill(Pid::from_raw(*pid), Signal::SIGKILL).context("kill of the application")
    }

    /// SIGKILL to guard, sidecar, application and hooks, until none of them is left.
    pub fn kill_node(&mut self, i: usize) -> Result<()> {
        let marks = [self.nodes[i].config.clone(), self.nodes[i].volume.clone()];
        let left = kill_all(&marks, self.nodes[i].guard.as_ref().map(Child::id));
        if let Some(mut guard) = self.nodes[i].guard.take() {
            let _ = guard.wait();
        }
        ensure!(left, "processes of {} survive SIGKILL", self.nodes[i].name);
        Ok(())
    }

    /// The node that says it is the primary.
    pub fn primary(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|i| self.is(*i, "/primary"))
    }

    pub fn is(&self, i: usize, path: &str) -> bool {
        http(self.nodes[i].listen, "GET", path).is_some_and(|(status, _)| status == 200)
    }

    /// `lictor status --json` of the whole cluster.
    pub fn status(&self) -> Option<Value> {
        let output = Command::new(&self.lictor)
            .args(["status", "--json", "-c"])
            .arg(&self.nodes[0].config)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    pub fn switchover(&self) -> Result<()> {
        let output = Command::new(&self.lictor)
            .args(["switchover", "-c"])
            .arg(&self.nodes[0].config)
            .stdin(Stdio::null())
            .output()
            .context("lictor switchover")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lictor switchover failed: {}", told.trim());
        Ok(())
    }

    /// Everybody is healthy, one is primary, the others follow closely, and all are counted for
    /// sync.
    pub fn is_whole(&self) -> bool {
        let count = self.nodes.len();
        let saying = |path: &str| (0..count).filter(|i| self.is(*i, path)).count();
        saying("/health") == count
            && saying("/primary") == 1
            && saying("/replica") == count - 1
            && self.status().is_some_and(|status| {
                let members = status["sync"]["members"].as_array().map_or(0, Vec::len);
                members == count && status["sync"]["acks"].as_u64().unwrap_or(0) > 0
            })
            && self.is_close()
    }

    /// The replicas have applied nearly all rows; a change to one that is far behind has to wait
    /// for it.
    fn is_close(&self) -> bool {
        let last = |node: &Node| node.target.connect().ok().map(last_row);
        let last: Option<Vec<u64>> = self.nodes.iter().map(last).collect();
        let spread = |rows: &Vec<u64>| rows.iter().max().zip(rows.iter().min()).map(|(a, b)| a - b);
        last.as_ref().and_then(spread).is_some_and(|spread| spread <= CLOSE_ROWS)
    }

    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<()> {
        let from = Instant::now();
        while !done() {
            self.stop.check()?;
            if from.elapsed() > limit {
                bail!("no {what} within {} s; logs: {}/*.log", limit.as_secs(), self.dir.display());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub fn pids(&self) -> Vec<u32> {
        let guards = self.nodes.iter().filter_map(|node| node.guard.as_ref());
        guards.chain(&self.servers).map(Child::id).collect()
    }

    fn end(&mut self) {
        let mut left = true;
        for i in 0..self.nodes.len() {
            left &= self.kill_node(i).is_ok();
        }
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        if !left || !kill_all(std::slice::from_ref(&self.dir), None) {
            eprintln!("processes of {} are left", self.dir.display());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        self.end();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// In a process group of its own, so that Ctrl-C reaches us alone and we end it in order.
fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

#[derive(Debug)]
struct Process {
    parent: i32,
    args: String,
    zombie: bool,
}

/// Every process of the machine.
fn processes() -> BTreeMap<i32, Process> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |part: &str| fs::read(entry.path().join(part)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // The name in brackets may hold anything; the fields follow its last bracket.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let mut fields = fields.split_whitespace();
        let zombie = fields.next().is_some_and(|state| state == "Z" || state == "X");
        let parent = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        let args = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        all.insert(pid, Process { parent, args, zombie });
    }
    all
}

/// Kills what names one of `paths` in its arguments, `root`, and all their descendants, until a
/// look finds none.
fn kill_all(paths: &[PathBuf], root: Option<u32>) -> bool {
    const LOOKS: u32 = 200;
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let root = root.and_then(|pid| i32::try_from(pid).ok());
    // A descendant whose parent died between two looks belongs to somebody else then: remember it.
    let mut ours: BTreeSet<i32> = root.into_iter().collect();
    for _ in 0..LOOKS {
        let all = processes();
        ours.retain(|pid| all.contains_key(pid));
        let named = |process: &Process| names.iter().any(|name| process.args.contains(name));
        ours.extend(all.iter().filter(|(pid, p)| **pid != own && named(p)).map(|(pid, _)| *pid));
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|(pid, p)| ours.contains(&p.parent) && !ours.contains(*pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            ours.extend(more);
        }
        let alive: Vec<i32> = ours.iter().copied().filter(|pid| !all[pid].zombie).collect();
        if alive.is_empty() {
            return true;
        }
        for pid in alive {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// 0 before there is a table.
fn last_row(mut connection: mysql::Conn) -> u64 {
    connection.query_first("select max(id) from w").ok().flatten().unwrap_or(0)
}

/// Status and body.
fn http(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, HTTP_LIMIT).ok()?;
    stream.set_read_timeout(Some(HTTP_LIMIT)).ok()?;
    stream.set_write_timeout(Some(HTTP_LIMIT)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((status, body))
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consul_comes_up_and_everything_goes_away() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let consul = repository.join(".tools/consul");
        assert!(consul.exists(), "tests/run.sh puts Consul at {}", consul.display());
        let world =
            World::new(consul, "/nonexistent".into(), repository, Stop::never()).expect("starts");
        let (dir, pids) = (world.dir.clone(), world.pids());
        assert_eq!(pids.len(), 3);
        assert_eq!(world.nodes.len(), 3);
        drop(world);
        assert!(!dir.exists());
        let all = processes();
        assert!(pids.iter().all(|pid| !all.contains_key(&i32::try_from(*pid).expect("fits"))));
    }
}
