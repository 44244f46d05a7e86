//! The processes of a measured cluster: Consul, and three nodes, each a `lictor run` with its own
//! volume and ports. Whatever was started here is ended here, by pid.

use super::consul::Consul;
use super::disk::Disk;
use super::figures::Mode;
use super::net::{Ports, http};
use super::processes::{self, kill_all, start};
use super::stop::Stop;
use super::tls::Tls;
use super::writers::Target;
use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// About half a second of ids.
const CLOSE_ROWS: u64 = 100;
const POLL: Duration = Duration::from_millis(50);
const CONSUL_LIMIT: Duration = Duration::from_secs(60);

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Consul and lictor binaries.
    /// The binary; none: `lictor dev` stands in.
    pub consul: Option<PathBuf>,
    pub lictor: PathBuf,
    pub mode: Mode,
    /// A client agent beside each node, which it asks first.
    pub agents: bool,
    /// A small file system for each volume.
    pub disks: bool,
    /// HTTPS to Consul.
    pub tls: bool,
    /// More lines for the top of every node's configuration.
    pub settings: String,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub config: PathBuf,
    pub volume: PathBuf,
    pub log: PathBuf,
    pub listen: u16,
    pub target: Target,
    pub disk: Option<Disk>,
    guard: Option<Child>,
}

#[derive(Debug)]
pub struct World {
    pub dir: PathBuf,
    pub options: Options,
    pub consul: Consul,
    pub nodes: Vec<Node>,
    stop: Stop,
    /// Leave everything running at the end.
    pub keep: bool,
    /// Where the logs of nodes and Consul are copied to at the end.
    pub logs: Option<PathBuf>,
}

impl World {
    pub fn new(options: Options, stop: Stop) -> Result<World> {
        let dir = tempfile::Builder::new().prefix("lictor-lab.").tempdir()?.keep();
        // The application's user must get through to its volume.
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let mut ports = Ports::new();
        let consul = match &options.consul {
            Some(binary) => Consul::start(binary, &dir, &mut ports, options.tls)?,
            None => Consul::stand_in(&options.lictor, &dir, &mut ports)?,
        };
        let (nodes, keep, logs) = (Vec::new(), false, None);
        let mut world = World { dir, options, consul, nodes, stop, keep, logs };
        if world.options.agents {
            for _ in 0..3 {
                world.consul.start_agent(&world.dir, &mut ports)?;
            }
        }
        world.wait_for("three Consul servers with a leader", CONSUL_LIMIT, |w| w.consul.is_up())?;
        world.write_nodes(&mut ports)?;
        Ok(world)
    }

    fn write_nodes(&mut self, ports: &mut Ports) -> Result<()> {
        let secrets = self.dir.join("secrets");
        fs::create_dir(&secrets)?;
        for name in ["replication", "app"] {
            fs::write(secrets.join(name), random_hex()? + "\n")?;
            fs::set_permissions(secrets.join(name), Permissions::from_mode(0o400))?;
        }
        let password = fs::read_to_string(secrets.join("app"))?.trim().to_owned();
        for i in 0..3 {
            let name = format!("n{}", i + 1);
            let volume = self.dir.join(&name);
            fs::create_dir(&volume)?;
            let image = self.dir.join(format!("{name}.ext4"));
            let disk = self.options.disks.then(|| Disk::mount(&image, &volume)).transpose()?;
            let node = Node {
                log: self.dir.join(format!("{name}.log")),
                config: self.dir.join(format!("{name}.toml")),
                listen: ports.next()?,
                target: Target { port: ports.next()?, password: password.clone() },
                name,
                volume,
                disk,
                guard: None,
            };
            fs::write(&node.config, self.config(i, &node, &secrets))?;
            self.nodes.push(node);
        }
        Ok(())
    }

    fn config(&self, i: usize, node: &Node, secrets: &Path) -> String {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let hooks = repository.join("containers/mariadb/hooks");
        let sync = match self.options.mode {
            Mode::Sync => "on",
            Mode::Async => "off",
        };
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
             command = [\"mariadbd\", \"--defaults-file={volume}/.lictor/state/my.cnf\"]\n\
             sync = \"{sync}\"\n\
             bootstrap_expect = 3\n{settings}\n\
             [consul]\n\
             addresses = {consul:?}\n{ca}\n\
             [secret_files]\n\
             replication = \"{secrets}/replication\"\n\
             app = \"{secrets}/app\"\n",
            name = node.name,
            listen = node.listen,
            volume = node.volume.display(),
            hooks = hooks.display(),
            port = node.target.port,
            settings = self.options.settings,
            consul = self.consul.addresses(i),
            ca = self.consul.tls.as_ref().map(Tls::settings).unwrap_or_default(),
            secrets = secrets.display(),
        )
    }

    pub fn start_node(&mut self, i: usize) -> Result<()> {
        let mut command = Command::new(&self.options.lictor);
        command.arg("run").arg("-c").arg(&self.nodes[i].config);
        let guard = start(&mut command, &self.nodes[i].log)?;
        self.nodes[i].guard = Some(guard);
        Ok(())
    }

    /// The application's main process.
    pub fn application(&self, i: usize) -> Result<Pid> {
        let mark = format!("--defaults-file={}", self.nodes[i].volume.display());
        let all = processes::all();
        let is_main =
            |p: &processes::Process| p.args.contains("mariadbd") && p.args.contains(&mark);
        let main = all.iter().find(|(_, p)| is_main(p) && !p.zombie);
        let (pid, _) =
            main.with_context(|| format!("no mariadbd of {} runs", self.nodes[i].name))?;
        Ok(Pid::from_raw(*pid))
    }

    pub fn guard(&self, i: usize) -> Result<Pid> {
        let guard = self.nodes[i].guard.as_ref().context("the node does not run")?;
        Ok(Pid::from_raw(i32::try_from(guard.id())?))
    }

    /// The guard's child that reads the same configuration.
    pub fn sidecar(&self, i: usize) -> Result<Pid> {
        let node = &self.nodes[i];
        let guard = self.guard(i)?.as_raw();
        let mark = node.config.display().to_string();
        let all = processes::all();
        let found = all.iter().find(|(_, p)| p.parent == guard && p.args.contains(&mark));
        let (pid, _) = found.with_context(|| format!("{} has no sidecar", node.name))?;
        Ok(Pid::from_raw(*pid))
    }

    /// SIGKILL to the application's main process alone.
    pub fn kill_application(&self, i: usize) -> Result<()> {
        kill(self.application(i)?, Signal::SIGKILL).context("kill of the application")
    }

    /// SIGKILL to the sidecar alone; returns when its guard has gone too.
    pub fn kill_sidecar(&mut self, i: usize) -> Result<()> {
        kill(self.sidecar(i)?, Signal::SIGKILL).context("kill of the sidecar")?;
        if let Some(mut guard) = self.nodes[i].guard.take() {
            guard.wait().context("the guard")?;
        }
        Ok(())
    }

    /// SIGSTOP or SIGCONT to guard, sidecar, application and hooks.
    pub fn signal_node(&self, i: usize, signal: Signal) {
        processes::signal_all(&self.marks(i), signal);
    }

    fn marks(&self, i: usize) -> [PathBuf; 2] {
        [self.nodes[i].config.clone(), self.nodes[i].volume.clone()]
    }

    /// SIGKILL to guard, sidecar, application and hooks, until none of them is left.
    pub fn kill_node(&mut self, i: usize) -> Result<()> {
        let left = kill_all(&self.marks(i), self.nodes[i].guard.as_ref().map(Child::id));
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
        let output = Command::new(&self.options.lictor)
            .args(["status", "--json", "-c"])
            .arg(&self.nodes[0].config)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    pub fn switchover(&self) -> Result<()> {
        let output = Command::new(&self.options.lictor)
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
            && self.status().is_some_and(|status| self.all_count(&status))
            && self.is_close()
    }

    fn all_count(&self, status: &Value) -> bool {
        let count = self.nodes.len();
        let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
        let listed = members.iter().filter(|member| member["eligible"] == true).count() == count;
        let counted = status["sync"]["members"].as_array().map_or(0, Vec::len) == count
            && status["sync"]["acks"].as_u64().unwrap_or(0) > 0;
        listed && (self.options.mode == Mode::Async || counted)
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
        done: impl Fn(&World) -> bool,
    ) -> Result<()> {
        let from = Instant::now();
        while !done(self) {
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
        guards.map(Child::id).chain(self.consul.pids()).collect()
    }

    fn keep_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        for node in &self.nodes {
            fs::copy(&node.log, to.join(format!("{}.log", node.name)))?;
        }
        for agent in self.consul.servers.iter().chain(&self.consul.agents) {
            fs::copy(self.dir.join(&agent.name).join("log"), to.join(agent.name.clone() + ".log"))?;
        }
        Ok(())
    }

    fn end(&mut self) {
        let mut left = true;
        for i in 0..self.nodes.len() {
            left &= self.kill_node(i).is_ok();
        }
        self.consul.end();
        if !left || !kill_all(std::slice::from_ref(&self.dir), None) {
            eprintln!("processes of {} are left", self.dir.display());
        }
        self.nodes.iter_mut().for_each(|node| drop(node.disk.take()));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.logs.as_ref().map(|to| self.keep_logs(to)) {
            eprintln!("the logs could not be kept: {error}");
        }
        if self.keep {
            self.nodes.iter_mut().for_each(|node| std::mem::forget(node.disk.take()));
            return;
        }
        self.end();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// 0 before there is a table.
fn last_row(mut connection: mysql::Conn) -> u64 {
    connection.query_first("select max(id) from w").ok().flatten().unwrap_or(0)
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
        let consul = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/consul");
        assert!(consul.exists(), "tests/run.sh puts Consul at {}", consul.display());
        let options = Options {
            consul: Some(consul),
            lictor: "/nonexistent".into(),
            mode: Mode::Sync,
            agents: true,
            disks: false,
            tls: false,
            settings: String::new(),
        };
        let world = World::new(options, Stop::never()).expect("starts");
        let (dir, pids) = (world.dir.clone(), world.pids());
        assert_eq!((pids.len(), world.nodes.len()), (6, 3));
        assert!(world.consul.leader().expect("there is one") < 3);
        drop(world);
        assert!(!dir.exists());
        let all = processes::all();
        assert!(pids.iter().all(|pid| !all.contains_key(&i32::try_from(*pid).expect("fits"))));
    }
}
