//! One task, one biased select: inputs, step, effects. The only owner of a clock.
//!
//! The life of a node's sidecar:
//!
//! * before the fork: the volume is opened and locked, required hooks are looked for;
//! * the guard is split off; what follows runs in the child, in one thread;
//! * the port is bound and answers at once: `/liveness` is up while Consul is not;
//! * Consul is asked until it answers: is the token good, what does `state/config` say;
//! * two watches, the timer, signals, ends of processes and hooks, peers and operators feed
//!   `Node::step`;
//! * its effects are carried out in their order; one that is too late comes back as the input that
//!   says so;
//! * when the core says `Exit`, what is under way gets a moment, then the process leaves with the
//!   application's code.
//!
//! It must not decide: what a thing means is `decide`'s business.

mod act;
mod app;
mod backup;
pub mod journal;
mod live;
mod meter;
mod operate;
mod publish;
mod record;
mod rotate;
mod settings;
mod setup;
mod volume;
mod wall;
mod watch;

pub use setup::{node_tls, request, run, store};
pub use wall::now_ms as wall_ms;

use crate::config::Config;
use crate::consul::ConsulStore;
use crate::decide::io::{Effect, Input, Now};
use crate::decide::life::Node;
use crate::decide::peer::Told;
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::OpId;
use crate::http::{ActionReply, Board, Incoming, PeerAuth, PeerClient};
use crate::process::children::Children;
use crate::process::clock;
use crate::process::hooks::Hooks;
use crate::process::link::{Generation, Guard};
use crate::process::signals::Signals;
use crate::recording::writer::Recorder;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch::Sender as Tell;
use tokio::sync::{Notify, mpsc, oneshot};
use volume::Volume;

/// Ends of effects that may wait to be stepped: more than can be under way at once (16 hooks, 16
/// peers in flight, two watches, and the store calls of one core, which has at most a few dozen).
const INPUTS_MAX: usize = 1_024;
/// What is under way when the core says `Exit` gets this long: one store call's timeout, twice.
const LEAVE_MOST: Span = Span(1_000);
/// Questions from outside get numbers from here on, so that they never meet the core's own.
const OUTSIDE: u64 = 1 << 48;

/// A process that runs as the application.
pub(super) struct App {
    pub proc: crate::process::Proc,
    pub exit: crate::process::children::ExitOf,
}

/// When the peers' key was last asked for, and the `state/cluster` with which it was last read.
#[derive(Default)]
pub(super) struct Keying {
    asked: Option<At>,
    of: Arc<AtomicU64>,
}

/// The hands of the core.
pub(super) struct Driver {
    node: Node,
    recorder: Option<Recorder>,
    config: Arc<Config>,
    live: live::Live,
    store: ConsulStore,
    guard: Guard,
    children: Children,
    hooks: Hooks,
    peers: PeerClient,
    auth: PeerAuth,
    board: Board,
    meter: meter::Meter,
    volume: Arc<Volume>,
    /// Work on the volume takes turns, first come first served.
    volume_order: Arc<tokio::sync::Mutex<()>>,
    shelves: backup::Shelves,
    app: Option<App>,
    app_user: Option<crate::process::user::User>,
    inputs: mpsc::Sender<Input>,
    inside: mpsc::Sender<live::Inside>,
    queue: VecDeque<Input>,
    asked: BTreeMap<OpId, oneshot::Sender<Told>>,
    actions: BTreeMap<OpId, oneshot::Sender<ActionReply>>,
    outside: u64,
    /// What the guard goes by.
    kill_at: At,
    fired: Generation,
    keying: Keying,
    /// Effects that were sent out and have not come back.
    under_way: Arc<std::sync::atomic::AtomicUsize>,
    leaving: Option<i32>,
    /// Whether the watch of `leader` may rest.
    leads: Tell<bool>,
    /// Consul refused a call: the token's file may have changed.
    refused: Arc<Notify>,
}

/// What the loop listens to beside the driver's own state.
pub(super) struct Ears {
    pub inputs: mpsc::Receiver<Input>,
    inside: mpsc::Receiver<live::Inside>,
    pub incoming: mpsc::Receiver<Incoming>,
    pub signals: Signals,
}

fn now() -> Now {
    Now { at: clock::now(), wall: wall::now_ms() }
}

impl Driver {
    /// Runs until the core says `Exit`; the code to leave with.
    pub(super) async fn live(mut self, mut ears: Ears) -> i32 {
        self.queue.push_back(Input::Tick);
        self.begin_config();
        loop {
            self.settle().await;
            let leads = self.node.deadline().is_some();
            self.leads.send_if_modified(|known| std::mem::replace(known, leads) != leads);
            if let Some(code) = self.leaving {
                return self.leave(code, &mut ears).await;
            }
            let at = clock::now();
            let wait = at.until(self.node.wake()).to_std();
            let guard = self.guard.clone();
            tokio::select! {
                biased;
                exit = wait_exit(&mut self.app) => self.app_ended(exit),
                () = guard.news() => self.guard_news(),
                signal = ears.signals.next() => self.signal(signal),
                Some(input) = ears.inputs.recv() => self.queue.push_back(input),
                Some(inside) = ears.inside.recv() => self.inside(inside),
                Some(incoming) = ears.incoming.recv() => self.incoming(incoming),
                () = tokio::time::sleep(wait) => self.queue.push_back(Input::Tick),
            }
            while let Ok(input) = ears.inputs.try_recv() {
                self.queue.push_back(input);
            }
            // Another branch may have won while the guard's news came; they are not told twice, and
            // told late they would be taken for a later application's.
            self.guard_news();
        }
    }

    /// Steps until nothing is left to take in.
    async fn settle(&mut self) {
        while let Some(input) = self.queue.pop_front() {
            let mut effects = Vec::new();
            self.look_at_config(&input);
            self.meter.input(clock::now(), &input);
            let heard = self.recorder.as_ref().map(|recorder| recorder.heard(&input));
            let now = now();
            self.node.step(now, input, &mut effects);
            self.record(now, heard, &effects);
            self.meter.epoch(self.node.epoch());
            for effect in effects {
                self.meter.effect(clock::now(), &effect);
                self.act(effect).await;
            }
        }
        let at = clock::now();
        self.board.stepped(at);
        self.board.publish(publish::published(&self.node, &self.live.page, at));
        self.ask_for_key(at);
    }

    fn record(&mut self, now: Now, heard: Option<Input>, effects: &[Effect]) {
        let (Some(recorder), Some(input)) = (&mut self.recorder, heard) else { return };
        if let Err(error) = recorder.step(now, input, effects) {
            tracing::warn!(event = "record.ended", %error);
            self.recorder = None;
        }
    }

    fn guard_news(&mut self) {
        let fired = self.guard.fired();
        if fired > self.fired {
            self.fired = fired;
            self.queue.push_back(Input::GuardFired);
        }
    }

    fn signal(&mut self, signal: std::io::Result<i32>) {
        match signal {
            Ok(libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) => self.queue.push_back(Input::Stop),
            Ok(other) => {
                if let Some(app) = &self.app {
                    self.children.signal(app.proc, other);
                }
            }
            Err(error) => {
                tracing::error!(event = "signals.lost", %error);
                self.queue.push_back(Input::Stop);
            }
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        self.outside += 1;
        let id = OpId(OUTSIDE + self.outside);
        match incoming {
            Incoming::Peer { from, run, ask, reply, .. } => {
                if reply.is_closed() {
                    return;
                }
                self.asked.retain(|_, reply| !reply.is_closed());
                self.asked.insert(id, reply);
                self.queue.push_back(Input::PeerAsked { id, from, from_run: run, ask });
            }
            Incoming::Config { ask, reply } => self.config_asked(ask, reply),
            Incoming::Action { action, by, reply, .. } => {
                let epoch = self.node.epoch();
                let request = setup::request(&action, by, epoch, wall::now_ms());
                match crate::http::nonce::hex::<8>() {
                    Ok(request_id) => {
                        self.actions.insert(id, reply);
                        self.queue.push_back(Input::Action { id, request_id, request });
                    }
                    Err(error) => {
                        let reason = Reason::new("request.no-random", error.to_string());
                        // The asker may be gone: nobody to tell.
                        drop(reply.send(ActionReply::Refused(reason)));
                    }
                }
            }
        }
    }

    /// The peers' key is read once the cluster exists, and again until that succeeds.
    fn ask_for_key(&mut self, at: At) {
        let Some(cluster) = self.node.cluster_id() else { return };
        // An adopted cluster has a new key; until its key is there the old one is as good as none.
        let index = self.node.cluster_index().map_or(0, |index| index.0);
        let news = index != 0 && index != self.keying.of.load(Ordering::Acquire);
        let known = self.auth.has_key() && !news;
        if known || self.keying.asked.is_some_and(|last| at.since(last) < Span::secs(1)) {
            return;
        }
        self.keying.asked = Some(at);
        let (store, auth, key_of) =
            (self.store.clone(), self.auth.clone(), Arc::clone(&self.keying.of));
        let key = self.node.keys().secret("peer");
        let limit = self.config.cluster.request_timeout;
        tokio::spawn(async move {
            match setup::read_peer_key(&store, &auth, cluster, key, limit).await {
                Ok(()) => key_of.store(index, Ordering::Release),
                Err(error) => tracing::warn!(event = "peer.no-key", %error),
            }
        });
    }

    async fn leave(mut self, code: i32, ears: &mut Ears) -> i32 {
        let until = clock::now() + LEAVE_MOST;
        while self.under_way.load(std::sync::atomic::Ordering::Acquire) > 0 {
            let left = clock::now().until(until);
            if left == Span::ZERO {
                break;
            }
            if let Ok(Some(input)) = tokio::time::timeout(left.to_std(), ears.inputs.recv()).await {
                self.queue.push_back(input);
                self.settle().await;
            }
        }
        code
    }

    async fn act(&mut self, effect: Effect) {
        let failed = |what| Input::VolumeFailed { what };
        match effect {
            Effect::Call { op, call, valid_until } => self.call(op, call, valid_until),
            Effect::RunHook(call) => self.run_hook(call),
            Effect::CancelHook { id } => self.hooks.cancel(id),
            Effect::StartApp => self.start_app(),
            Effect::TermApp => self.term_app(),
            Effect::KillTree => self.kill_tree(),
            Effect::Arm { pid, kill_at } => self.arm(pid, kill_at),
            Effect::Extend { kill_at } => self.extend(kill_at),
            Effect::Disarm => self.disarm(),
            Effect::PersistFloor(epoch) => {
                let failed = move |what| Input::FloorFailed { epoch, what };
                let done = Input::FloorDurable(epoch);
                self.on_volume(move |volume| volume.write_floor(epoch), done, failed);
            }
            Effect::PersistFollows(follows) => {
                let failed = |what| Input::FollowsFailed { what };
                self.on_volume(move |volume| volume.write_follows(&follows), Input::Tick, failed);
            }
            Effect::PersistClusterId(id) => {
                let written = id.clone();
                self.on_volume(
                    move |volume| volume.write_cluster(&written),
                    Input::ClusterIdDurable(id),
                    failed,
                );
            }
            Effect::PersistConfig(text) => {
                self.keep_config(text);
            }
            Effect::WriteMarker => {
                self.on_volume(|volume| volume.write_marker(), Input::MarkerWritten, failed);
            }
            Effect::RemoveMarker => {
                self.on_volume(|volume| volume.remove_marker(), Input::MarkerRemoved, failed);
            }
            Effect::Backup { id, act } => self.on_shelf(id, act),
            Effect::Wipe => self.on_volume(|volume| volume.wipe(), Input::Wiped, failed),
            Effect::PeerCall { id, call } => self.peer_call(id, call),
            Effect::PeerAnswer { id, told } => {
                if let Some(reply) = self.asked.remove(&id) {
                    // The asker may have given up.
                    drop(reply.send(told));
                }
            }
            Effect::ActionReply { id, result } => self.action_reply(id, result),
            Effect::Decided(reason) => {
                tracing::info!(event = "decided", code = reason.code, reason = %reason);
            }
            Effect::Exit { code, why } => {
                // A refusal to start is one line, as those before the log began.
                if self.node.has_failed() && self.leaving.is_none() {
                    let place = self.config.local.volume.display();
                    eprintln!("lictor: {place}: {why}");
                    tracing::info!(event = "exit", code);
                } else {
                    tracing::info!(event = "exit", code, why);
                }
                self.leaving = Some(code);
            }
        }
    }
}

async fn wait_exit(app: &mut Option<App>) -> crate::process::Exit {
    match app {
        Some(app) => app.exit.wait().await,
        None => std::future::pending().await,
    }
}
