//! One run over one cluster: start it, make things happen to it under writers, measure each.

use super::figures::{self, Ack, BEFORE_MS, Measured};
use super::stop::Stop;
use super::world::{Options, World};
use super::writers::{self, Writers};
use anyhow::{Context, Result, ensure};
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

/// Building the first node, cloning the others, or coming back after a fault, on a slow machine.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(180);

pub struct Run {
    pub world: World,
    pub writers: Writers,
    pub measured: Vec<Measured>,
    stop: Stop,
    start: Instant,
    /// How long after an event, or after what follows it ended, is watched.
    after_ms: u64,
    /// Acknowledgements up to here are read back already.
    checked_ms: u64,
}

/// What happened, in milliseconds since the start.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub name: &'static str,
    pub at: u64,
    /// When a fault that lasts was over.
    pub over: Option<u64>,
    /// Whether the time from there to the next write is a figure of its own.
    pub back: bool,
}

impl Event {
    pub fn new(name: &'static str, at: u64) -> Event {
        Event { name, at, over: None, back: false }
    }
}

pub fn say(start: Instant, what: &str) {
    println!("{:8.2} s  {what}", start.elapsed().as_secs_f64());
}

impl Run {
    /// Starts everything; returns when three counted nodes take writes.
    pub fn start(options: Options, stop: Stop, start: Instant, after_ms: u64) -> Result<Run> {
        let what = if options.consul.is_some() {
            "three Consul servers start"
        } else {
            "lictor dev starts"
        };
        say(start, what);
        let mut world = World::new(options, stop.clone())?;
        say(start, &format!("{} has a leader; three nodes start", world.consul.version));
        for i in 0..world.nodes.len() {
            world.start_node(i)?;
        }
        world.wait_for("writable primary", WHOLE_LIMIT, |world| world.primary().is_some())?;
        let first = world.primary().context("the primary is gone again")?;
        say(start, &format!("{} is the primary", world.nodes[first].name));
        world.wait_for("cluster of three counted members", WHOLE_LIMIT, World::is_whole)?;
        say(start, "the others are cloned and follow");
        let mut connection = world.nodes[first].target.connect().context("the primary")?;
        let table = "create table w (id bigint unsigned primary key, node int not null)";
        connection.query_drop(table)?;
        let targets: Vec<_> = world.nodes.iter().map(|node| node.target.clone()).collect();
        let writers = Writers::start(&targets, start);
        let measured = Vec::new();
        let run = Run { world, writers, measured, stop, start, after_ms, checked_ms: 0 };
        run.watch(BEFORE_MS * 2)?;
        Ok(run)
    }

    pub fn say(&self, what: &str) {
        say(self.start, what);
    }

    pub fn name(&self, node: usize) -> &str {
        &self.world.nodes[node].name
    }

    /// Lets `ms` pass.
    pub fn watch(&self, ms: u64) -> Result<()> {
        let until = self.writers.now_ms() + ms;
        while self.writers.now_ms() < until {
            self.stop.check()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn primary(&self) -> Result<usize> {
        self.world.wait_for("primary", WHOLE_LIMIT, |world| world.primary().is_some())?;
        self.world.primary().context("the primary is gone again")
    }

    /// Until the event's window is over.
    pub fn watch_event(&self, event: &Event) -> Result<()> {
        let until = event.over.unwrap_or(event.at) + self.after_ms;
        self.watch(until.saturating_sub(self.writers.now_ms()))
    }

    /// Watches, waits for the cluster to be whole, and measures.
    pub fn measure(&mut self, event: Event) -> Result<()> {
        self.watch_event(&event)?;
        self.world.wait_for("cluster of three counted members", WHOLE_LIMIT, World::is_whole)?;
        let primary = self.primary()?;
        let from = event.at.saturating_sub(BEFORE_MS);
        let to = event.over.unwrap_or(event.at) + self.after_ms;
        let until = self.writers.now_ms();
        let acks = self.writers.acks();
        let new: Vec<_> = acks
            .iter()
            .filter(|ack| ack.done_ms >= self.checked_ms && ack.done_ms < until)
            .copied()
            .collect();
        let missing = self.missing(primary, &new)?;
        self.checked_ms = until;
        let over = event.over.filter(|_| event.back);
        let one = Measured {
            name: event.name,
            mode: self.world.options.mode,
            gap_ms: figures::gap_ms(&acks, from, to),
            back_ms: over.and_then(|over| figures::back_ms(&acks, over)),
            acked: new.len(),
            lost: missing.len(),
            dual_ms: self.dual_ms(&acks, from, until),
        };
        let back = one.back_ms.map(|ms| format!(", again {ms} ms after its end"));
        self.say(&format!(
            "{} is the primary; writes stood still for {} ms{}; {} rows acknowledged, {} lost",
            self.name(primary),
            one.gap_ms,
            back.unwrap_or_default(),
            one.acked,
            one.lost
        ));
        if one.lost > 0 || one.dual_ms > 0 {
            self.say(&format!("LOST {missing:?}, two writable for {} ms", one.dual_ms));
        }
        self.measured.push(one);
        Ok(())
    }

    /// By acknowledged writes, and by what each node said of itself.
    pub fn dual_ms(&self, acks: &[Ack], from: u64, until: u64) -> u64 {
        let seen = figures::dual_ms(&self.writers.writable(), from, until);
        figures::dual_ms(acks, from, until).max(seen)
    }

    /// Acknowledged ids that the primary does not have.
    pub fn missing(&self, primary: usize, acks: &[Ack]) -> Result<Vec<u64>> {
        let target = &self.world.nodes[primary].target;
        let found: BTreeSet<u64> = writers::read_back(target, acks.iter().map(|ack| ack.id))
            .context("reading the rows back")?;
        Ok(figures::lost(acks, &found))
    }

    /// Stops writing and reads everything back; `false`: not all of it was there, or two took
    /// writes at once.
    pub fn verdict(&mut self) -> Result<Verdict> {
        self.writers.stop();
        let acks = self.writers.acks();
        let missing = self.missing(self.primary()?, &acks)?;
        println!(
            "{} rows acknowledged in all, each read back at the end: {} missing",
            acks.len(),
            missing.len()
        );
        self.explain_what_is_missing(&acks, &missing);
        Ok(Verdict { lost: missing.len(), dual_ms: self.dual_ms(&acks, 0, u64::MAX) })
    }

    /// For whoever has to find out why: which node acknowledged it, when, and who has it.
    fn explain_what_is_missing(&self, acks: &[Ack], missing: &[u64]) {
        for ack in acks.iter().filter(|ack| missing.contains(&ack.id)) {
            let has = |target| {
                writers::read_back(target, std::iter::once(ack.id)).is_ok_and(|ids| !ids.is_empty())
            };
            let nodes = self.world.nodes.iter();
            let holders: Vec<_> = nodes.filter(|n| has(&n.target)).map(|n| &n.name).collect();
            println!(
                "  row {}: sent to {} at {:.2} s, acknowledged at {:.2} s, now on {holders:?}",
                ack.id,
                self.name(ack.node),
                ack.sent_ms as f64 / 1e3,
                ack.done_ms as f64 / 1e3,
            );
        }
    }

    pub fn explain_what_is_left(&self) {
        let world = &self.world;
        let (lictor, config) = (world.options.lictor.display(), world.nodes[0].config.display());
        println!("\nEverything runs on. To play with:");
        println!("  {lictor} status -c {config}");
        println!("  {lictor} switchover -c {config}");
        for node in &world.nodes {
            println!(
                "  {}: curl -s http://127.0.0.1:{}/status; mariadb -S {}; tail -f {}",
                node.name,
                node.listen,
                node.volume.join(".lictor/state/mysqld.sock").display(),
                node.log.display()
            );
        }
        println!("  Consul: http://127.0.0.1:{}", world.consul.servers[0].http);
        let pids: Vec<String> = world.pids().iter().map(ToString::to_string).collect();
        let mounts: String = world
            .nodes
            .iter()
            .filter(|node| node.disk.is_some())
            .map(|node| format!("umount {}; ", node.volume.display()))
            .collect();
        println!("To end it: kill {}; {mounts}rm -rf {}", pids.join(" "), world.dir.display());
    }
}

/// Of a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub lost: usize,
    pub dual_ms: u64,
}

impl Verdict {
    /// The promises: nothing is lost in sync mode, never are two writable.
    pub fn hold(&self, sync: bool) -> Result<()> {
        ensure!(!sync || self.lost == 0, "{} acknowledged rows were lost", self.lost);
        ensure!(self.dual_ms == 0, "two nodes took writes at once for {} ms", self.dual_ms);
        Ok(())
    }
}
