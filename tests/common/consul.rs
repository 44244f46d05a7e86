//! A Consul for a test: one real server or three on 127.0.0.1, on ports and in a directory of its
//! own; or `lictor dev` in its place.
//!
//! Agents are killed, waited for and their directory removed when dropped. Faults go by pid:
//! `stop`, `cont`, `kill`, `leave`, `restart`.

use super::{free_port, scratch, wait_for, wait_some};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Generous: many tests share the machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A killed server is a healthy voter again 22 s after its return.
const HEALTHY_LIMIT: Duration = Duration::from_secs(90);
const HTTP_LIMIT: Duration = Duration::from_secs(15);

/// What kind of Consul.
#[derive(Clone, Debug)]
pub struct Options {
    /// 1 or 3.
    pub servers: usize,
    /// Default policy deny; [`Consul::token`] is the management token.
    pub acl: bool,
    /// A DNS port on every agent.
    pub dns: bool,
    /// More settings of the configuration file, by their top-level name.
    pub extra: Value,
}

impl Default for Options {
    fn default() -> Options {
        Options { servers: 1, acl: false, dns: false, extra: json!({}) }
    }
}

/// The servers.
pub struct Consul {
    pub servers: Vec<Agent>,
    /// The management token, with ACLs on.
    pub token: Option<String>,
    options: Options,
}

/// One running agent, server or client.
pub struct Agent {
    pub name: String,
    pub http: u16,
    pub serf: u16,
    pub server: u16,
    pub dns: Option<u16>,
    /// `lictor dev`, not Consul.
    is_dev: bool,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

/// The binary: `LICTOR_CONSUL`, `PATH`, or `.tools/consul` of the repository.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("LICTOR_CONSUL") {
        return PathBuf::from(path);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&paths).map(|dir| dir.join("consul"));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/consul");
    on_path
        .chain([own])
        .find(|path| path.is_file())
        .expect("no consul: set LICTOR_CONSUL, or put it on PATH or at .tools/consul")
}

impl Consul {
    pub fn one() -> Consul {
        Consul::start(Options::default())
    }

    /// `lictor dev`, which speaks like one server.
    pub fn dev() -> Consul {
        let options = Options::default();
        let mut agent = Agent::prepare("server-1", &options);
        agent.is_dev = true;
        agent.spawn();
        wait_for(START_LIMIT, "lictor dev answers", || {
            let reply = agent.try_request("GET", "/v1/status/leader", None, "");
            reply.is_some_and(|(status, _)| status == 200)
        });
        Consul { servers: vec![agent], token: None, options }
    }

    pub fn three() -> Consul {
        Consul::start(Options { servers: 3, ..Options::default() })
    }

    /// Default-deny ACLs on one server.
    pub fn with_acl() -> Consul {
        Consul::start(Options { acl: true, ..Options::default() })
    }

    /// Starts the servers and returns when there is a leader and all of them vote.
    pub fn start(options: Options) -> Consul {
        let mut servers: Vec<Agent> = (1..=options.servers)
            .map(|n| Agent::prepare(&format!("server-{n}"), &options))
            .collect();
        let join: Vec<String> =
            servers.iter().map(|agent| format!("127.0.0.1:{}", agent.serf)).collect();
        for agent in &mut servers {
            agent.configure(&options, Some(options.servers), &join);
            agent.spawn();
        }
        let mut consul = Consul { servers, token: None, options };
        consul.wait_leader();
        if consul.options.acl {
            consul.bootstrap_acl();
        }
        consul.wait_registered();
        consul
    }

    /// `host:port` of every server's HTTP.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(Agent::address).collect()
    }

    /// A client agent joined to the servers, known in the catalog.
    pub fn start_client(&self, name: &str) -> Agent {
        let mut agent = Agent::prepare(name, &self.options);
        let join: Vec<String> =
            self.servers.iter().map(|agent| format!("127.0.0.1:{}", agent.serf)).collect();
        agent.configure(&self.options, None, &join);
        agent.spawn();
        if let Some(token) = &self.token {
            agent.give_token(token);
        }
        let path = format!("/v1/catalog/node/{name}");
        wait_for(START_LIMIT, "the client agent is in the catalog", || {
            let reply = agent.try_request("GET", &path, self.token.as_deref(), "");
            reply.is_some_and(|(status, body)| status == 200 && body.contains(name))
        });
        agent
    }

    /// A request to the first server with the management token, if any: status and body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.servers[0]
            .try_request(method, path, self.token.as_deref(), body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    /// A request that must succeed; its JSON.
    pub fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, text) = self.request(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Writes a key by hand, as an operator would.
    pub fn put(&self, key: &str, value: &str) {
        assert_eq!(self.json("PUT", &format!("/v1/kv/{key}"), value), json!(true), "{key}");
    }

    pub fn delete(&self, key: &str) {
        assert_eq!(self.json("DELETE", &format!("/v1/kv/{key}"), ""), json!(true), "{key}");
    }

    /// The entry of a key with all its fields; `None` when absent.
    pub fn entry(&self, key: &str) -> Option<Value> {
        let (status, text) = self.request("GET", &format!("/v1/kv/{key}?consistent"), "");
        match status {
            404 => None,
            200 => {
                let list: Value = serde_json::from_str(&text).expect("KV answers JSON");
                Some(list[0].clone())
            }
            other => panic!("{key}: {other} {text}"),
        }
    }

    /// A token with these rules.
    pub fn make_token(&self, name: &str, rules: &str) -> String {
        self.json("PUT", "/v1/acl/policy", &json!({"Name": name, "Rules": rules}).to_string());
        let token = json!({"Policies": [{"Name": name}]}).to_string();
        let made = self.json("PUT", "/v1/acl/token", &token);
        made["SecretID"].as_str().expect("a token has a secret").to_string()
    }

    /// The position of the leader among the servers, as they say now.
    pub fn leader(&self) -> Option<usize> {
        self.servers.iter().find_map(|agent| {
            let (_, text) = agent.try_request("GET", "/v1/status/leader", None, "")?;
            let port = text.trim().trim_matches('"').rsplit(':').next()?.parse::<u16>().ok()?;
            self.servers.iter().position(|agent| agent.server == port)
        })
    }

    pub fn wait_leader(&self) {
        wait_for(START_LIMIT, "Consul has a leader", || self.leader().is_some());
    }

    /// Waits until all servers are healthy voters: between two faults of servers (else the second
    /// one may leave no quorum).
    pub fn wait_healthy(&self) {
        wait_for(HEALTHY_LIMIT, "all servers are healthy voters", || {
            let path = "/v1/operator/autopilot/health";
            let reply = self.servers[0].try_request("GET", path, self.token.as_deref(), "");
            let Some((200, text)) = reply else { return false };
            let health: Value = serde_json::from_str(&text).unwrap_or_default();
            let list = health["Servers"].as_array().cloned().unwrap_or_default();
            let voters = list.iter().filter(|s| s["Voter"] == true && s["Healthy"] == true);
            health["Healthy"] == true && voters.count() == self.servers.len()
        });
    }

    /// Waits until every server votes, is in the catalog of every other, and a write succeeds.
    fn wait_registered(&self) {
        let token = self.token.as_deref();
        wait_for(START_LIMIT, "all servers vote and are registered", || {
            self.servers.iter().all(|agent| {
                let nodes = agent.try_request("GET", "/v1/catalog/nodes", token, "");
                let peers = agent.try_request("GET", "/v1/operator/raft/configuration", token, "");
                let put = agent.try_request("PUT", "/v1/kv/test-harness/up", token, "1");
                let (Some((200, nodes)), Some((200, peers))) = (nodes, peers) else { return false };
                let nodes: Value = serde_json::from_str(&nodes).unwrap_or_default();
                let peers: Value = serde_json::from_str(&peers).unwrap_or_default();
                let voters = peers["Servers"]
                    .as_array()
                    .map_or(0, |list| list.iter().filter(|server| server["Voter"] == true).count());
                let known = nodes.as_array().map_or(0, Vec::len);
                put.is_some_and(|(status, _)| status == 200)
                    && voters == self.servers.len()
                    && known == self.servers.len()
            })
        });
        self.delete("test-harness/up");
    }

    fn bootstrap_acl(&mut self) {
        let secret = wait_some(START_LIMIT, "ACLs are bootstrapped", || {
            let (status, text) =
                self.servers[0].try_request("PUT", "/v1/acl/bootstrap", None, "")?;
            let made: Value = serde_json::from_str(&text).ok()?;
            (status == 200).then(|| made["SecretID"].as_str().map(str::to_string)).flatten()
        });
        for agent in &self.servers {
            agent.give_token(&secret);
        }
        self.token = Some(secret);
    }
}

impl Agent {
    fn prepare(name: &str, options: &Options) -> Agent {
        Agent {
            name: name.to_string(),
            http: free_port(),
            serf: free_port(),
            server: free_port(),
            dns: options.dns.then(free_port),
            is_dev: false,
            dir: scratch("consul"),
            child: None,
        }
    }

    /// Writes the configuration file. `servers`: how many are expected; `None` for a client agent.
    fn configure(&self, options: &Options, servers: Option<usize>, join: &[String]) {
        let dns = self.dns.map_or(-1, i32::from);
        let mut config = json!({
            "node_name": self.name,
            "data_dir": self.dir.path().join("data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "retry_join": join,
            "retry_interval": "1s",
            "disable_update_check": true,
            "leave_on_terminate": false,
            "log_level": "warn",
            "performance": {"raft_multiplier": 1},
            "ports": {
                "http": self.http, "https": -1, "grpc": -1, "dns": dns,
                "serf_lan": self.serf, "serf_wan": -1, "server": self.server,
            },
        });
        if let Some(expected) = servers {
            config["server"] = json!(true);
            config["bootstrap_expect"] = json!(expected);
        }
        if options.acl {
            config["acl"] = json!({
                "enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
            });
        }
        for (name, value) in options.extra.as_object().into_iter().flatten() {
            match (config[name].as_object_mut(), value.as_object()) {
                (Some(inner), Some(more)) => inner.extend(more.clone()),
                _ => config[name] = value.clone(),
            }
        }
        std::fs::write(self.dir.path().join("agent.json"), config.to_string())
            .expect("our directory is writable");
    }

    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("our directory is writable");
        let mut command = match self.is_dev {
            true => Command::new(env!("CARGO_BIN_EXE_lictor")),
            false => Command::new(binary()),
        };
        match self.is_dev {
            true => command.args(["dev", "--node", &self.name, "--listen", &self.address()]),
            false => {
                command.args(["agent", "-config-file"]).arg(self.dir.path().join("agent.json"))
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file can be cloned"))
            .stdout(log)
            .spawn()
            .expect("it starts");
        self.child = Some(child);
    }

    /// `host:port` of its HTTP.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    pub fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("the agent runs").id();
        Pid::from_raw(i32::try_from(id).expect("a pid is positive and small"))
    }

    /// SIGSTOP: it keeps its connections and answers nothing. Returns when every thread has
    /// stopped: one that runs on another core goes on for a moment, and may answer.
    pub fn stop(&self) {
        let pid = self.pid();
        kill(pid, Signal::SIGSTOP).expect("the agent runs");
        wait_for(START_LIMIT, "all threads of the agent have stopped", || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the agent is there");
            tasks.flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                // The state follows the name, which is in parentheses.
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
            })
        });
    }

    pub fn cont(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("the agent runs");
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A graceful leave, and waits for its end.
    pub fn leave(&mut self, token: Option<&str>) {
        self.try_request("PUT", "/v1/agent/leave", token, "");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Starts it again on its old ports and data, after `kill` or `leave`.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        self.spawn();
    }

    /// A snapshot of the whole state, for `restore`.
    pub fn snapshot(&self, token: Option<&str>) -> Vec<u8> {
        let reply = self.exchange("GET", "/v1/snapshot", token, b"").expect("a snapshot");
        assert_eq!(reply.0, 200, "{}", String::from_utf8_lossy(&reply.1));
        reply.1
    }

    /// Puts an earlier state back.
    pub fn restore(&self, token: Option<&str>, snapshot: &[u8]) {
        let reply = self.exchange("PUT", "/v1/snapshot", token, snapshot).expect("an answer");
        assert_eq!(reply.0, 200, "{}", String::from_utf8_lossy(&reply.1));
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn give_token(&self, token: &str) {
        let body = json!({"Token": token}).to_string();
        wait_for(START_LIMIT, "the agent takes its token", || {
            let path = "/v1/agent/token/agent";
            let reply = self.try_request("PUT", path, Some(token), &body);
            reply.is_some_and(|(status, _)| status == 200)
        });
    }

    /// One request; `None`: no complete answer.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Option<(u16, String)> {
        let (status, bytes) = self.exchange(method, path, token, body.as_bytes())?;
        Some((status, String::from_utf8(bytes).ok()?))
    }

    /// By HTTP/1.0, which spares us chunks.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &[u8],
    ) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        stream.set_read_timeout(Some(HTTP_LIMIT)).ok()?;
        let token = token.map(|text| format!("X-Consul-Token: {text}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\n{token}Content-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
        let status = String::from_utf8_lossy(&reply[..end]).split(' ').nth(1)?.parse().ok()?;
        Some((status, reply.split_off(end + 4)))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
