//! Runs hooks: executables of one directory, with facts in the environment and on stdin, and a
//! certain end.
//!
//! Each run is a task of its own around a contained child, so any number of hooks may run at once,
//! each with its timeout, and each may be cancelled by its id. The invariant: **when a run has
//! ended, its whole tree is gone**, also what the hook left running after exit 0. Nothing in here
//! decides which hook runs when, or what its end means.

use super::children::{Children, Env, ExitOf, Group, Input, Output, Spawned, Spec};
use super::environment::{self, Pairs};
use super::lines::{self, Stream};
use super::link::Guard;
use super::user::User;
use super::{Exit, clock};
use crate::decide::hook::{Hook, HookCall, HookEnd};
use crate::decide::time::{At, Span};
use crate::decide::types::OpId;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Runs at once: every hook there is, twice. A call beyond is not started.
pub const RUNS_LIMIT: usize = 2 * Hook::ALL.len();

/// What a hook wrote is read on for this long after its tree is gone; only a process that got the
/// pipe from elsewhere can hold it open.
const OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// The same for every run.
#[derive(Clone)]
pub struct HookSettings {
    pub dir: PathBuf,
    /// The working directory.
    pub state_dir: PathBuf,
    pub user: Option<User>,
    /// The application's environment.
    pub env: Pairs,
    /// Names in `env` that hooks must not see, beside those that look like secrets.
    pub secret: Vec<String>,
    /// Facts that never change, as `LICTOR_*` names without the prefix: CLUSTER, NODE, DATA_DIR,
    /// STATE_DIR, ..
    pub facts: BTreeMap<String, String>,
}

/// A handle; clones share the runs.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    settings: HookSettings,
    env: Pairs,
    children: Children,
    guard: Option<Guard>,
    running: Mutex<HashMap<OpId, oneshot::Sender<()>>>,
}

/// Why a required hook cannot be used; said at start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("the hook {0} does not exist")]
    File(PathBuf),
    #[error("the hook {0} is not an executable file")]
    NotExecutable(PathBuf),
}

/// Looks whether `hook` is an executable file of `dir`.
pub fn check(dir: &Path, hook: Hook) -> Result<(), Missing> {
    let path = dir.join(hook.name());
    match std::fs::metadata(&path) {
        Err(_) => Err(Missing::File(path)),
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(Missing::NotExecutable(path)),
    }
}

impl Hooks {
    /// `guard`: is told of each promote hook, so that a fence kills it first.
    pub fn new(settings: HookSettings, children: Children, guard: Option<Guard>) -> Hooks {
        let env = environment::of_hook(&settings.env, &settings.secret);
        let running = Mutex::new(HashMap::new());
        Hooks(Arc::new(Inner { settings, env, children, guard, running }))
    }

    /// Starts `call`; `done` is called once, when its tree is gone. Call it on the runtime's
    /// thread.
    pub fn start(&self, call: HookCall, done: impl FnOnce(OpId, HookEnd) + Send + 'static) {
        let (cancel, cancelled) = oneshot::channel();
        let id = call.id;
        match self.begin(&call, cancel) {
            Ok((spawned, until)) => {
                let hooks = self.clone();
                tokio::spawn(async move {
                    let end = hooks.finish(&call, spawned, until, cancelled).await;
                    tracing::info!(event = "hook_end", hook = %call.hook, op = id.0, end = ?end);
                    done(id, end);
                });
            }
            Err(end) => {
                tracing::warn!(event = "hook_not_run", hook = %call.hook, op = id.0, end = ?end);
                done(id, end);
            }
        }
    }

    /// Starts `call` and waits for its end. Dropped, the run goes on.
    pub async fn run(&self, call: HookCall) -> HookEnd {
        let (tell, end) = oneshot::channel();
        self.start(call, move |_, end| drop(tell.send(end)));
        end.await.unwrap_or(HookEnd::Cancelled)
    }

    /// Kills the run's tree; its end is `Cancelled`, unless it ended by itself before. An id that
    /// doesn't run is ignored.
    pub fn cancel(&self, id: OpId) {
        drop(self.running().remove(&id));
    }

    pub fn cancel_all(&self) {
        self.running().clear();
    }

    fn running(&self) -> MutexGuard<'_, HashMap<OpId, oneshot::Sender<()>>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(
        &self,
        call: &HookCall,
        cancel: oneshot::Sender<()>,
    ) -> Result<(Spawned, At), HookEnd> {
        let not_started = |why: String| HookEnd::NotStarted { why };
        let mut running = self.running();
        if running.len() >= RUNS_LIMIT || running.contains_key(&call.id) {
            return Err(not_started(format!("{} hooks are running already", running.len())));
        }
        let now = clock::now();
        let until = call.valid_until.unwrap_or(At(u64::MAX)).min(now + call.timeout);
        if now >= until {
            return Err(HookEnd::Cancelled);
        }
        let spec = self.spec(call, now.until(until));
        let spawned =
            self.0.children.spawn(&spec).map_err(|error| not_started(error.to_string()))?;
        self.tell_guard(call, Some(&spawned));
        let (op, pid) = (call.id.0, spawned.proc.pid.0);
        tracing::info!(event = "hook_start", hook = %call.hook, op, pid);
        running.insert(call.id, cancel);
        Ok((spawned, until))
    }

    fn tell_guard(&self, call: &HookCall, spawned: Option<&Spawned>) {
        if let (Hook::Promote, Some(guard)) = (call.hook, &self.0.guard) {
            guard.set_promote_hook(spawned.map(|spawned| spawned.proc));
        }
    }

    async fn finish(
        &self,
        call: &HookCall,
        mut spawned: Spawned,
        until: At,
        cancelled: oneshot::Receiver<()>,
    ) -> HookEnd {
        let (hook, op) = (call.hook.name(), call.id.0);
        let read = |stream, from: Option<_>, keep| {
            from.map(|from| tokio::spawn(lines::log(hook, op, stream, from, keep)))
        };
        let stdout = read(Stream::Stdout, spawned.stdout.take(), call.hook.answers());
        let stderr = read(Stream::Stderr, spawned.stderr.take(), false);
        let interrupted = tokio::select! {
            biased;
            exit = spawned.exit.wait() => Ok(exit),
            _ = cancelled => Err(HookEnd::Cancelled),
            () = sleep_until(until) => Err(self.after_its_time(call)),
        };
        let end = match interrupted {
            Ok(exit) => Ok(exit),
            Err(end) => {
                self.kill(&mut spawned.exit, spawned.proc).await;
                Err(end)
            }
        };
        self.tell_guard(call, None);
        self.running().remove(&call.id);
        let mut answer = None;
        if let Some(stdout) = stdout {
            answer = read_out(stdout).await;
        }
        if let Some(stderr) = stderr {
            read_out(stderr).await;
        }
        match end {
            Err(end) => end,
            Ok(Exit::Code(0)) => HookEnd::Done { answer },
            Ok(Exit::Code(code)) => HookEnd::Exit { code },
            Ok(Exit::Signal(signal)) => HookEnd::Signal { signal },
        }
    }

    fn after_its_time(&self, call: &HookCall) -> HookEnd {
        if call.valid_until.is_some_and(|valid_until| clock::now() >= valid_until) {
            HookEnd::Cancelled
        } else {
            HookEnd::Timeout
        }
    }

    /// Returns when the shim was reaped, which waits for the last process of the tree.
    async fn kill(&self, exit: &mut ExitOf, shim: super::Proc) {
        let kill = async {
            loop {
                self.0.children.kill_contained(shim).await;
            }
        };
        tokio::select! {
            biased;
            _ = exit.wait() => {}
            () = kill => {}
        }
    }

    fn spec(&self, call: &HookCall, time: Span) -> Spec {
        let settings = &self.0.settings;
        let facts = self.facts(call, time);
        let mut env = self.0.env.clone();
        let pair = |(name, value): (&String, &String)| {
            (OsString::from(format!("LICTOR_{name}")), OsString::from(value))
        };
        env.extend(facts.iter().map(pair));
        Spec {
            args: Vec::new(),
            env: Env::Exactly(env),
            cwd: Some(settings.state_dir.clone()),
            user: settings.user.clone(),
            stdin: Input::Bytes(as_json(&facts)),
            stdout: Output::Pipe,
            stderr: Output::Pipe,
            group: Group::Session,
            contained: true,
            ..Spec::new(settings.dir.join(call.hook.name()))
        }
    }

    /// The facts' names in capitals, without the prefix.
    fn facts(&self, call: &HookCall, time: Span) -> BTreeMap<String, String> {
        let name = |name: &String| {
            let name = name.to_ascii_uppercase();
            name.strip_prefix("LICTOR_").map(str::to_owned).unwrap_or(name)
        };
        let mut facts: BTreeMap<String, String> = BTreeMap::new();
        facts.insert("DEADLINE_MS".to_owned(), time.0.to_string());
        // The core counts the attempts of some hooks itself.
        facts.insert("ATTEMPT".to_owned(), call.attempt.to_string());
        for given in [&self.0.settings.facts, &call.facts] {
            facts.extend(given.iter().map(|(key, value)| (name(key), value.clone())));
        }
        facts.insert("HOOK".to_owned(), call.hook.name().to_owned());
        facts
    }
}

/// `{"v":1, "hook":.., ..}`: the names in small letters, every value a string as in the
/// environment.
fn as_json(facts: &BTreeMap<String, String>) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("v".to_owned(), json!(1));
    for (name, value) in facts {
        object.insert(name.to_ascii_lowercase(), Value::from(value.as_str()));
    }
    let mut text = Value::Object(object).to_string().into_bytes();
    text.push(b'\n');
    text
}

async fn sleep_until(until: At) {
    // The timer does not count suspend: it may be late then, and the guard is what fences.
    while clock::now() < until {
        tokio::time::sleep(clock::now().until(until).to_std()).await;
    }
}

async fn read_out(mut reader: tokio::task::JoinHandle<Option<String>>) -> Option<String> {
    let read = tokio::time::timeout(OUTPUT_LIMIT, &mut reader).await;
    if read.is_err() {
        reader.abort();
    }
    read.ok()?.ok().flatten()
}
