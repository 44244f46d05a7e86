//! Three Consul servers on 127.0.0.1, and client agents beside nodes where they are wanted; or
//! `lictor dev` in their place.

use super::net::{Ports, http};
use super::processes;
use super::tls::Tls;
use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// One agent, server or client.
#[derive(Debug)]
pub struct Agent {
    pub name: String,
    pub http: u16,
    https: u16,
    serf: u16,
    server: u16,
    home: PathBuf,
    child: Option<Child>,
}

#[derive(Debug)]
pub struct Consul {
    binary: PathBuf,
    pub version: String,
    pub servers: Vec<Agent>,
    /// The own agent of each node; none: nodes ask the servers.
    pub agents: Vec<Agent>,
    /// `lictor dev`, one, instead of servers.
    stand_in: bool,
    /// What nodes verify the servers by, where they are to speak HTTPS.
    pub tls: Option<Tls>,
}

impl Agent {
    fn new(dir: &Path, name: String, ports: &mut Ports) -> Result<Agent> {
        let home = dir.join(&name);
        fs::create_dir(&home)?;
        let (http, https) = (ports.next()?, ports.next()?);
        let (serf, server) = (ports.next()?, ports.next()?);
        Ok(Agent { name, http, https, serf, server, home, child: None })
    }

    fn configure(&self, join: &[String], is_server: bool, tls: Option<&Tls>) -> Result<()> {
        let mut config = json!({
            "node_name": self.name,
            "data_dir": self.home.join("data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {"http": self.http, "serf_lan": self.serf, "server": self.server,
                      "serf_wan": -1, "dns": -1, "grpc": -1},
            "retry_join": join,
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": true,
            "log_level": "WARN",
        });
        if is_server {
            config["server"] = json!(true);
            config["bootstrap_expect"] = json!(3);
            config["autopilot"] = json!({"cleanup_dead_servers": false});
        }
        if let Some(tls) = tls {
            config["ports"]["https"] = json!(self.https);
            config["cert_file"] = json!(tls.certificate);
            config["key_file"] = json!(tls.key);
        }
        fs::write(self.home.join("config.json"), config.to_string())?;
        Ok(())
    }

    fn start(&mut self, binary: &Path) -> Result<()> {
        let config = format!("-config-file={}", self.home.join("config.json").display());
        let mut command = Command::new(binary);
        command.arg("agent").arg(config);
        self.child = Some(processes::start(&mut command, &self.home.join("log"))?);
        Ok(())
    }

    fn stand_in(&mut self, lictor: &Path) -> Result<()> {
        let mut command = Command::new(lictor);
        command.args(["dev", "--node", &self.name, "--listen"]);
        command.arg(format!("127.0.0.1:{}", self.http));
        self.child = Some(processes::start(&mut command, &self.home.join("log"))?);
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Ok(Pid::from_raw(i32::try_from(child.id())?))
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) -> Result<()> {
        processes::freeze(self.pid()?)
    }

    pub fn thaw(&self) -> Result<()> {
        processes::thaw(self.pid()?)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Consul {
    /// Starts the servers; [`Consul::is_up`] says when there is a leader.
    pub fn start(binary: &Path, dir: &Path, ports: &mut Ports, tls: bool) -> Result<Consul> {
        let version = Command::new(binary).arg("version").output().context("consul version")?;
        let version = String::from_utf8_lossy(&version.stdout);
        let servers = (1..=3).map(|n| Agent::new(dir, format!("consul{n}"), ports));
        let mut consul = Consul {
            binary: binary.to_owned(),
            version: version.lines().next().unwrap_or("unknown").to_owned(),
            servers: servers.collect::<Result<_>>()?,
            agents: Vec::new(),
            stand_in: false,
            tls: tls.then(|| Tls::make(dir)).transpose()?,
        };
        let join = consul.join();
        for server in &mut consul.servers {
            server.configure(&join, true, consul.tls.as_ref())?;
            server.start(&consul.binary)?;
        }
        Ok(consul)
    }

    /// `lictor dev`: it keeps nothing, and nothing of it can be killed but all.
    pub fn stand_in(lictor: &Path, dir: &Path, ports: &mut Ports) -> Result<Consul> {
        let mut server = Agent::new(dir, "dev".to_owned(), ports)?;
        server.stand_in(lictor)?;
        Ok(Consul {
            binary: lictor.to_owned(),
            version: "dev".to_owned(),
            servers: vec![server],
            agents: Vec::new(),
            stand_in: true,
            tls: None,
        })
    }

    /// A client agent for one more node.
    pub fn start_agent(&mut self, dir: &Path, ports: &mut Ports) -> Result<()> {
        let name = format!("agent{}", self.agents.len() + 1);
        let mut agent = Agent::new(dir, name, ports)?;
        agent.configure(&self.join(), false, self.tls.as_ref())?;
        agent.start(&self.binary)?;
        self.agents.push(agent);
        Ok(())
    }

    fn join(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("127.0.0.1:{}", server.serf)).collect()
    }

    /// What the node of this number is to ask, in this order: its own agent, then any server.
    pub fn addresses(&self, node: usize) -> Vec<String> {
        let own = self.agents.get(node).into_iter();
        let address = |agent: &Agent| match self.tls {
            Some(_) => format!("https://127.0.0.1:{}", agent.https),
            None => format!("127.0.0.1:{}", agent.http),
        };
        own.chain(&self.servers).map(address).collect()
    }

    /// All servers know each other, all vote, and one leads.
    pub fn is_up(&self) -> bool {
        let all_vote = |server: &Agent| {
            let answer = http(server.http, "GET", "/v1/operator/raft/configuration");
            let peers: Value = answer
                .filter(|(status, _)| *status == 200)
                .and_then(|(_, body)| serde_json::from_str(&body).ok())
                .unwrap_or_default();
            let servers = peers["Servers"].as_array().map_or(&[][..], Vec::as_slice);
            servers.iter().filter(|peer| peer["Voter"] == true).count() == 3
        };
        let put = |agent: &Agent| {
            let answer = http(agent.http, "PUT", "/v1/kv/lab/up");
            answer.is_some_and(|(status, _)| status == 200)
        };
        (self.stand_in || self.servers.iter().all(all_vote))
            && self.servers.iter().chain(&self.agents).all(put)
    }

    /// The server that leads, as any of them says.
    pub fn leader(&self) -> Result<usize> {
        if self.stand_in {
            return Ok(0);
        }
        for asked in &self.servers {
            let Some((200, body)) = http(asked.http, "GET", "/v1/status/leader") else { continue };
            let port =
                body.trim().trim_matches('"').rsplit(':').next().and_then(|p| p.parse().ok());
            let found = self.servers.iter().position(|server| Some(server.server) == port);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        bail!("no Consul server knows a leader")
    }

    pub fn restart_server(&mut self, server: usize) -> Result<()> {
        match self.stand_in {
            true => self.servers[server].stand_in(&self.binary),
            false => self.servers[server].start(&self.binary),
        }
    }

    /// After a freeze: each finds the others at once, not when its gossip next tries them.
    pub fn meet(&self) {
        for agent in self.servers.iter().chain(&self.agents) {
            for server in &self.servers {
                let path = format!("/v1/agent/join/127.0.0.1:{}", server.serf);
                let _ = http(agent.http, "PUT", &path);
            }
        }
    }

    pub fn pids(&self) -> Vec<u32> {
        let agents = self.servers.iter().chain(&self.agents);
        agents.filter_map(|agent| agent.child.as_ref()).map(Child::id).collect()
    }

    pub fn end(&mut self) {
        self.servers.iter_mut().chain(&mut self.agents).for_each(Agent::kill);
    }
}
