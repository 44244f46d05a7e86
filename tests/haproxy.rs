//! The real HAProxy, with the file that users copy, follows the primary through ten failovers.
//!
//! `examples/haproxy.cfg` is run with the addresses of a toy cluster in sync mode. A client writes
//! through its port for writes all the time; what was acknowledged must be there at the end, each
//! failover must let it write again by itself, and the port for reads leads to replicas alone.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

mod common;

use common::consul::Consul;
use common::toy::{LIMIT, Toy, primary, settle, three};
use common::{free_port, scratch, wait_for, wait_some};
use nix::sys::signal::{Signal, kill};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const FAILOVERS: usize = 10;
/// Connections that must all come to the right place.
const TRIES: usize = 6;
/// Longer than the toy waits for acknowledgements (10 s).
const ANSWER: Duration = Duration::from_secs(15);
const PACE: Duration = Duration::from_millis(10);
/// After a refusal, before the next connection.
const AGAIN: Duration = Duration::from_millis(50);
const SERVERS: [&str; 3] = ["db1", "db2", "db3"];

/// A running HAProxy; ends with the test.
struct Haproxy {
    child: Child,
    write: u16,
    read: u16,
    dir: tempfile::TempDir,
}

/// One server of one of the two parts.
#[derive(Clone, Debug)]
struct Server {
    up: bool,
    /// Connections so far.
    sessions: u64,
}

impl Haproxy {
    /// With `examples/haproxy.cfg`, its addresses replaced by the nodes'.
    fn start(nodes: &[Toy]) -> Haproxy {
        let dir = scratch("haproxy");
        let (write, read) = (free_port(), free_port());
        let socket = dir.path().join("admin.sock");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/haproxy.cfg");
        let mut text = std::fs::read_to_string(example).expect("the example is there");
        let mut swap = |from: &str, to: &str, times: usize| {
            assert_eq!(text.matches(from).count(), times, "{from} in the example");
            text = text.replace(from, to);
        };
        swap("bind :3306\n", &format!("bind 127.0.0.1:{write}\n"), 1);
        swap("bind :3307\n", &format!("bind 127.0.0.1:{read}\n"), 1);
        swap("/run/haproxy/admin.sock", socket.to_str().expect("UTF-8"), 1);
        for (index, node) in nodes.iter().enumerate() {
            let from = format!("10.0.0.1{}:3306 maxconn 500 check port 8008\n", index + 1);
            let (app, port) = (node.app_port, node.port);
            swap(&from, &format!("127.0.0.1:{app} maxconn 500 check port {port}\n"), 2);
        }
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, text).expect("ours");
        let log = std::fs::File::create(dir.path().join("log")).expect("ours");
        let child = Command::new("haproxy")
            .args(["-db", "-f", config.to_str().expect("UTF-8")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("haproxy starts: install Debian's package haproxy");
        let haproxy = Haproxy { child, write, read, dir };
        wait_for(LIMIT, "haproxy answers on its socket", || haproxy.stat().is_some());
        haproxy
    }

    /// Every server by its part and name.
    fn stat(&self) -> Option<BTreeMap<(String, String), Server>> {
        let mut stream = UnixStream::connect(self.dir.path().join("admin.sock")).ok()?;
        stream.write_all(b"show stat\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let head: Vec<_> = lines.next()?.trim_start_matches("# ").split(',').collect();
        let at = |name: &str| head.iter().position(|it| *it == name).expect("a column");
        let (part, server, status) = (at("pxname"), at("svname"), at("status"));
        let sessions = at("stot");
        let rows = lines.map(|line| line.split(',').collect::<Vec<_>>()).filter_map(|row| {
            let key = (row[part].to_owned(), row[server].to_owned());
            let sessions = row[sessions].parse().ok()?;
            Some((key, Server { up: row[status].starts_with("UP"), sessions }))
        });
        Some(rows.filter(|((_, name), _)| SERVERS.contains(&name.as_str())).collect())
    }

    fn up(&self, part: &str) -> BTreeSet<usize> {
        let stat = self.stat().expect("haproxy answers");
        let up = |index: &usize| stat[&(part.to_owned(), SERVERS[*index].to_owned())].up;
        (0..SERVERS.len()).filter(up).collect()
    }

    fn sessions(&self, part: &str) -> Vec<u64> {
        let stat = self.stat().expect("haproxy answers");
        SERVERS.iter().map(|it| stat[&(part.to_owned(), it.to_string())].sessions).collect()
    }

    /// Waits until it has seen what is: this primary, and these replicas.
    fn wait_seen(&self, primary: usize, replicas: &BTreeSet<usize>) {
        wait_for(
            LIMIT,
            &format!("haproxy sees {primary} as the primary, {replicas:?} beside"),
            || self.up("primary") == BTreeSet::from([primary]) && self.up("replicas") == *replicas,
        );
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- log of haproxy\n{log}--- end of haproxy");
        }
    }
}

/// A line to a port and its answer.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(port: u16) -> Option<Line> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        Some(Line(BufReader::new(stream)))
    }

    fn ask(&mut self, words: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{words}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).ok()?;
        answer.ends_with('\n').then(|| answer.trim_end().to_owned())
    }
}

#[derive(Default)]
struct Told {
    /// Rows that were acknowledged, and when.
    acked: Vec<(String, Instant)>,
    /// Answers of nodes that refuse writes.
    refused: usize,
}

/// Writes through HAProxy without end, on one connection as long as that serves.
struct Client {
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn start(port: u16) -> Client {
        let (told, over) = (Arc::<Mutex<Told>>::default(), Arc::<AtomicBool>::default());
        let (tell, end) = (Arc::clone(&told), Arc::clone(&over));
        let thread = thread::spawn(move || write_on(port, &tell, &end));
        Client { told, over, thread: Some(thread) }
    }

    fn told<T>(&self, read: impl FnOnce(&Told) -> T) -> T {
        read(&self.told.lock().expect("nothing panics while it holds this"))
    }

    /// Waits for an acknowledgement after this moment.
    fn wait_acked(&self, since: Instant) {
        wait_for(LIMIT, "the client writes again by itself", || {
            self.told(|told| told.acked.last().is_some_and(|(_, at)| *at > since))
        });
    }

    /// The longest time without an acknowledgement since then.
    fn gap(&self, since: Instant) -> Duration {
        self.told(|told| {
            let times: Vec<_> = told.acked.iter().map(|(_, at)| *at).collect();
            let pairs = times.windows(2).filter(|pair| pair[1] > since);
            pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        })
    }

    fn finish(mut self) -> (Vec<String>, usize) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().expect("it runs").join().expect("the client does not panic");
        self.told(|told| (told.acked.iter().map(|(row, _)| row.clone()).collect(), told.refused))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn write_on(port: u16, told: &Mutex<Told>, over: &AtomicBool) {
    let mut line = None;
    let mut next = 0;
    while !over.load(Ordering::SeqCst) {
        if line.is_none() {
            line = Line::open(port);
        }
        next += 1;
        let row = format!("row-{next}");
        let answer = line.as_mut().and_then(|line| line.ask(&format!("write {row}")));
        let mut told = told.lock().expect("nothing panics while it holds this");
        match answer.as_deref() {
            Some(ok) if ok.starts_with("ok ") => told.acked.push((row, Instant::now())),
            Some("err read-only") => told.refused += 1,
            Some(_) | None => {}
        }
        let acked = told.acked.last().is_some_and(|(last, _)| *last == format!("row-{next}"));
        drop(told);
        if acked {
            thread::sleep(PACE);
        } else {
            line = None;
            thread::sleep(AGAIN);
        }
    }
}

#[test]
fn the_primary_is_followed_through_ten_failovers() {
    let consul = Consul::one();
    let mut nodes = three("balanced", &consul.addresses());
    nodes.iter_mut().for_each(|node| node.set("sync", "\"on\""));
    let mut leads = settle(&mut nodes);
    let haproxy = Haproxy::start(&nodes);
    let client = Client::start(haproxy.write);
    all_is_well(&nodes, leads, &haproxy);
    client.wait_acked(Instant::now());
    for round in 0..FAILOVERS {
        let former = leads;
        let at = Instant::now();
        let what = ["application killed", "node killed", "switchover"][round % 3];
        match round % 3 {
            0 => {
                let app = nodes[former].app_pid().expect("the primary's application runs");
                kill(app, Signal::SIGKILL).expect("it runs");
            }
            1 => nodes[former].crash(),
            _ => {
                let to = nodes[(former + 1) % 3].name.clone();
                let done = nodes[former].ask(&["switchover", "--to", &to]);
                assert_eq!(done.status.code(), Some(0), "{done:?}");
            }
        }
        leads = wait_some(LIMIT, &format!("{round}: another one leads after {what}"), || {
            primary(&nodes).filter(|leads| *leads != former)
        });
        client.wait_acked(Instant::now());
        let gap = client.gap(at).as_millis();
        eprintln!("{round}: {what}: the client wrote nothing for {gap} ms");
        let again = settle(&mut nodes);
        assert_eq!(again, leads, "{round}: nobody else took over since");
        all_is_well(&nodes, leads, &haproxy);
    }
    figures_tell(&nodes, leads);
    let (acked, refused) = client.finish();
    eprintln!(
        "{} writes acknowledged, {refused} refused by nodes that are no primary",
        acked.len()
    );
    assert!(acked.len() > 20 * FAILOVERS, "{} writes", acked.len());
    for node in &nodes {
        wait_for(LIMIT, &format!("{} has every acknowledged row", node.name), || {
            let rows: BTreeSet<String> = node.rows().unwrap_or_default().into_iter().collect();
            acked.iter().all(|row| rows.contains(row))
        });
    }
}

/// What the driver did was counted where it was done.
fn figures_tell(nodes: &[Toy], leads: usize) {
    let (code, text) = nodes[leads].http("GET", "/metrics", "", "").expect("it answers");
    assert_eq!(code, 200);
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        let value = line.unwrap_or_else(|| panic!("no {series} in {text}"));
        value.parse().expect("a number")
    };
    let epochs = FAILOVERS as f64 + 1.0;
    assert!(value("lictor_epoch") >= epochs, "a term each");
    assert_eq!(value("lictor_role{role=\"primary\"}"), 1.0);
    assert_eq!(value("lictor_members{state=\"replica\"}"), 2.0);
    assert_eq!(value("lictor_sync_members"), 3.0);
    let left = value("lictor_lease_left_seconds");
    assert!(left > 0.0 && left <= value("lictor_lease_seconds"), "{left}");
    for counted in [
        "lictor_elections_total",
        "lictor_takes_total{outcome=\"done\"}",
        "lictor_lease_renewals_total{outcome=\"done\"}",
        "lictor_lease_renewal_duration_seconds_count",
        "lictor_hook_runs_total{hook=\"promote\",end=\"done\"}",
        "lictor_hook_duration_seconds_sum{hook=\"promote\"}",
        "lictor_consul_requests_total{kind=\"session_create\",outcome=\"done\"}",
        "lictor_watch_answers_total{watch=\"leader\"}",
        "lictor_peer_requests_total{outcome=\"answered\"}",
        "lictor_decisions_total{code=\"promote.done\"}",
        "lictor_application_starts_total",
        "lictor_http_requests_total{path=\"/primary\",code=\"200\"}",
        "lictor_process_cpu_seconds_total",
        "lictor_steps_total",
    ] {
        assert!(value(counted) > 0.0, "{counted}");
    }
    eprintln!("a scrape: {} bytes, {} lines", text.len(), text.lines().count());
}

/// HAProxy sees what is; every connection for writes comes to the primary, those for reads to both
/// replicas and never to the primary.
fn all_is_well(nodes: &[Toy], leads: usize, haproxy: &Haproxy) {
    wait_for(LIMIT, "all are in sync", || nodes.iter().all(|node| node.code("/sync") == 200));
    let replicas: BTreeSet<usize> = (0..nodes.len()).filter(|it| *it != leads).collect();
    haproxy.wait_seen(leads, &replicas);
    let before = haproxy.sessions("replicas");
    let (writes, reads) = (haproxy.sessions("primary"), &before);
    for _ in 0..TRIES {
        for (port, says) in [(haproxy.write, " rw "), (haproxy.read, " ro ")] {
            let answer = Line::open(port).and_then(|mut line| line.ask("status"));
            assert!(answer.as_deref().is_some_and(|it| it.contains(says)), "{says}: {answer:?}");
        }
    }
    let grown = |part: &str, before: &[u64]| -> Vec<u64> {
        haproxy.sessions(part).iter().zip(before).map(|(now, then)| now - then).collect()
    };
    let (wrote, read) = (grown("primary", &writes), grown("replicas", reads));
    for index in 0..nodes.len() {
        let is_primary = index == leads;
        assert_eq!(wrote[index] > 0, is_primary, "writes came to {wrote:?}, {leads} leads");
        assert_eq!(read[index] > 0, !is_primary, "reads came to {read:?}, {leads} leads");
    }
}
