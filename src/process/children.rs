//! Starts processes and reaps them: the only place that calls `waitpid`, on the one thread.
//!
//! A second waiter anywhere breaks this one: std's `Child::wait` and tokio's processes are banned
//! outside. Everything that ends below us is reaped at once, known or not, because a zombie's pid
//! keeps some databases from starting again.
//!
//! The invariant: between the start of a child and its entry in the table nobody reaps (one lock
//! covers both), so no exit is ever lost. It knows nothing of what the processes are for.

use super::contain::ChildSetup;
use super::scan::{self, Rules};
use super::tree::{self, CLEAN_SCANS, Killer, Progress};
use super::user::User;
use super::{Exit, Pid, Proc, signals, sys};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

/// What fits into a pipe without a reader, so that writing it cannot block: Linux pipes hold 64
/// KiB.
pub const STDIN_LIMIT: usize = 64 * 1_024;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Looked up in PATH if it has no slash.
    pub program: OsString,
    pub args: Vec<OsString>,
    pub env: Env,
    pub cwd: Option<PathBuf>,
    pub user: Option<User>,
    pub stdin: Input,
    pub stdout: Output,
    pub stderr: Output,
    pub group: Group,
    /// Behind a shim that keeps its whole tree together: the pid is the shim's, its end is the
    /// whole tree's.
    pub contained: bool,
}

impl Spec {
    /// `program` with our environment and standard streams, in a process group of its own.
    pub fn new(program: impl Into<OsString>) -> Spec {
        Spec {
            program: program.into(),
            args: Vec::new(),
            env: Env::Inherit,
            cwd: None,
            user: None,
            stdin: Input::Inherit,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            group: Group::Own,
            contained: false,
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum Env {
    Inherit,
    /// These and nothing else.
    Exactly(Vec<(OsString, OsString)>),
}

impl std::fmt::Debug for Env {
    /// Values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Env::Inherit => f.write_str("Inherit"),
            Env::Exactly(pairs) => {
                f.debug_list().entries(pairs.iter().map(|(name, _)| name)).finish()
            }
        }
    }
}

#[derive(Clone, Debug)]
pub enum Input {
    Inherit,
    Null,
    /// These, then the end; at most [`STDIN_LIMIT`].
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Inherit,
    Null,
    Pipe,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// A process group of its own.
    Own,
    /// The same, and the terminal's foreground, if stdin is a terminal: for the one application of
    /// an interactive run.
    Foreground,
    /// A session of its own, so no terminal.
    Session,
}

/// A child that was started.
#[derive(Debug)]
pub struct Spawned {
    pub proc: Proc,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
    pub exit: ExitOf,
}

/// Resolves when the process was reaped. Says nothing of its children, unless it was contained.
#[derive(Debug)]
pub struct ExitOf(oneshot::Receiver<Exit>);

impl ExitOf {
    /// May be dropped and called again; after it has resolved, not.
    pub async fn wait(&mut self) -> Exit {
        match (&mut self.0).await {
            Ok(exit) => exit,
            // The reaper is gone, which only happens as the runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot run {program}: {why}")]
    NotFound { program: String, why: String },
    #[error("cannot run {program}: {why}")]
    NotExecutable { program: String, why: String },
    #[error("cannot start {program}: {source}")]
    Other { program: String, source: io::Error },
}

impl SpawnError {
    /// As shells say it: 127 not found, 126 found but not executable, 1 for the rest.
    pub fn exit_code(&self) -> i32 {
        match self {
            SpawnError::NotFound { .. } => 127,
            SpawnError::NotExecutable { .. } => 126,
            SpawnError::Other { .. } => 1,
        }
    }

    fn of(spec: &Spec, source: io::Error) -> SpawnError {
        let program = spec.program.to_string_lossy().into_owned();
        let not_executable =
            |why: &str| SpawnError::NotExecutable { program: program.clone(), why: why.into() };
        let why = match source.raw_os_error() {
            Some(libc::EACCES) => return not_executable("permission denied"),
            Some(libc::ENOEXEC) => return not_executable("it is no program and no #! script"),
            Some(libc::EISDIR) => return not_executable("it is a directory"),
            Some(libc::ENOENT) => not_found(spec),
            Some(_) | None => return SpawnError::Other { program, source },
        };
        SpawnError::NotFound { program, why }
    }
}

/// ENOENT has three causes; the kernel doesn't say which.
fn not_found(spec: &Spec) -> String {
    match &spec.cwd {
        Some(cwd) if !cwd.is_dir() => {
            return format!("its working directory {} does not exist", cwd.display());
        }
        Some(_) | None => {}
    }
    let path = PathBuf::from(&spec.program);
    if path.components().count() > 1 || path.is_absolute() {
        if path.exists() {
            return "the interpreter that it names does not exist".to_owned();
        }
        return "no such file".to_owned();
    }
    "no such file in PATH".to_owned()
}

/// What is left of the descendants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    Some,
    None,
}

/// A handle to the one table of children; clones share it.
#[derive(Clone)]
pub struct Children {
    shared: Arc<Mutex<Shared>>,
    left: watch::Receiver<Left>,
}

struct Shared {
    known: HashMap<Pid, Known>,
    orphans: u64,
    killer: Killer,
    report: watch::Sender<Left>,
}

struct Known {
    start: u64,
    tell: oneshot::Sender<Exit>,
}

impl Children {
    /// Starts the reaper. Call it once, inside the runtime, with SIGCHLD blocked (`guard::split`
    /// has done so).
    pub fn start() -> io::Result<Children> {
        let fd = sys::watch(sys::signal_fd(&sys::only(libc::SIGCHLD))?)?;
        let (report, left) = watch::channel(Left::None);
        let killer = Killer::new()?;
        let shared = Shared { known: HashMap::new(), orphans: 0, killer, report };
        let shared = Arc::new(Mutex::new(shared));
        tokio::spawn(reap_for_ever(fd, Arc::clone(&shared)));
        Ok(Children { shared, left })
    }

    /// Starts a process. Call it on the thread that runs for as long as the process: the child dies
    /// with that thread.
    pub fn spawn(&self, spec: &Spec) -> Result<Spawned, SpawnError> {
        let fail = |source| SpawnError::of(spec, source);
        let mut command = command(spec);
        let stdin = match &spec.stdin {
            Input::Bytes(bytes) => Some(filled_pipe(bytes).map_err(fail)?),
            Input::Inherit | Input::Null => None,
        };
        match stdin {
            Some(read_end) => command.stdin(Stdio::from(read_end)),
            None if matches!(spec.stdin, Input::Null) => command.stdin(Stdio::null()),
            None => command.stdin(Stdio::inherit()),
        };
        let mut shared = self.lock();
        #[expect(clippy::disallowed_methods, reason = "the one reaper starts what it reaps")]
        let mut child = command.spawn().map_err(fail)?;
        let pid = Pid(i32::try_from(child.id()).expect("the kernel's pids are positive i32"));
        let start = scan::start_time(pid).ok().flatten().unwrap_or(0);
        let (tell, exit) = oneshot::channel();
        shared.known.insert(pid, Known { start, tell });
        shared.report.send_replace(Left::Some);
        drop(shared);
        let stdout = child.stdout.take().map(|end| receiver(end.into())).transpose();
        let stderr = child.stderr.take().map(|end| receiver(end.into())).transpose();
        Ok(Spawned {
            proc: Proc { pid, start },
            stdout: stdout.map_err(fail)?,
            stderr: stderr.map_err(fail)?,
            exit: ExitOf(exit),
        })
    }

    /// The children that are known and not reaped yet.
    pub fn known(&self) -> Vec<Proc> {
        let shared = self.lock();
        shared.known.iter().map(|(pid, known)| Proc { pid: *pid, start: known.start }).collect()
    }

    /// Unknown processes reaped so far.
    pub fn orphans_reaped(&self) -> u64 {
        self.lock().orphans
    }

    /// Resolves when we have no child left, so no descendant either.
    pub async fn none_left(&self) {
        let mut left = self.left.clone();
        if left.wait_for(|left| *left == Left::None).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends `signal` to `target` unless it was reaped.
    pub fn signal(&self, target: Proc, signal: i32) {
        let shared = self.lock();
        if shared.known.get(&target.pid).is_some_and(|known| known.start == target.start) {
            sys::kill(target.pid.0, signal);
        }
    }

    /// Sends `signal` once to every descendant of ours but the trees of `spare`.
    pub fn signal_all_but(&self, spare: &[Proc], signal: i32) -> io::Result<usize> {
        let rules = Rules { root: sys::get_pid(), exempt: 0, spare, first: None };
        self.lock().killer.signal(&rules, signal)
    }

    /// Kills every descendant of ours but the trees of `spare`, and returns when they are gone.
    ///
    /// No kill here has a limit: what SIGKILL doesn't end is not gone, and saying so would be a
    /// lie. The caller may drop it.
    pub async fn kill_all_but(&self, spare: &[Proc]) {
        self.kill(None, || spare.to_vec()).await;
    }

    /// Kills what is left of the application `app`, itself and everything detached too, and returns
    /// when it is gone. Spared are the other known children with their trees: hooks, jobs, an
    /// application started meanwhile.
    pub async fn kill_application(&self, app: Proc) {
        self.kill(None, || self.known_but(app)).await;
    }

    /// Kills every descendant of a contained child; the child's own end follows.
    pub async fn kill_contained(&self, child: Proc) {
        self.kill(Some(child), Vec::new).await;
    }

    /// How many processes of the application `app` are alive, detached ones too. Only looks.
    pub fn application_left(&self, app: Proc) -> io::Result<usize> {
        let spare = self.known_but(app);
        let rules = Rules { root: sys::get_pid(), exempt: 0, spare: &spare, first: None };
        let mut shared = self.lock();
        let left = shared.killer.count(&rules);
        shared.killer.restart();
        left
    }

    fn known_but(&self, app: Proc) -> Vec<Proc> {
        let mut known = self.known();
        known.retain(|child| *child != app);
        known
    }

    /// `root`: a known child, whose end is the end of the kill too, as its pid may then be
    /// another's; else we are.
    async fn kill(&self, root: Option<Proc>, spare: impl Fn() -> Vec<Proc>) {
        let below = root.map_or(sys::get_pid(), |root| root.pid.0);
        let mut passes = 0;
        let mut clean = 0;
        // The kernel's own word that we have no child left needs no look at every process there is.
        while !(root.is_none() && self.has_none()) {
            let spare = spare();
            let rules = Rules { root: below, exempt: 0, spare: &spare, first: None };
            clean = after_pass(clean, self.one_pass(root, &rules));
            if clean >= CLEAN_SCANS {
                return;
            }
            passes += 1;
            tokio::time::sleep(Duration::from_millis(tree::pause_ms(passes))).await;
        }
    }

    /// Whether we have no child, so no descendant either: orphans below us become our children.
    fn has_none(&self) -> bool {
        reap_all(&mut self.lock());
        *self.left.borrow() == Left::None
    }

    /// Kills of several trees share the table, so each pass starts from nothing.
    fn one_pass(&self, root: Option<Proc>, rules: &Rules<'_>) -> io::Result<Progress> {
        let mut shared = self.lock();
        let is_known =
            |root: Proc| shared.known.get(&root.pid).is_some_and(|k| k.start == root.start);
        if root.is_some_and(|root| !is_known(root)) {
            return Ok(Progress::Gone);
        }
        shared.killer.restart();
        let progress = shared.killer.pass(rules);
        reap_all(&mut shared);
        shared.killer.restart();
        progress
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

/// How many passes in a row have found nothing.
fn after_pass(clean: u32, progress: io::Result<Progress>) -> u32 {
    match progress {
        Ok(Progress::Left(_)) => 0,
        Ok(Progress::Perhaps | Progress::Gone) => clean + 1,
        Err(error) => {
            tracing::error!(event = "kill_pass_failed", %error);
            0
        }
    }
}

/// A panic while the lock was held leaves a table that is still right: every change of it is one
/// call.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn reap_for_ever(fd: AsyncFd<OwnedFd>, shared: Arc<Mutex<Shared>>) {
    loop {
        reap_all(&mut lock(&shared));
        if signals::next(&fd).await.is_err() {
            return;
        }
    }
}

fn reap_all(shared: &mut Shared) {
    loop {
        match sys::reap() {
            sys::Reaped::Ended { pid, status } => match shared.known.remove(&Pid(pid)) {
                // Whoever asked for it may have stopped waiting.
                Some(known) => drop(known.tell.send(Exit::from_status(status))),
                None => shared.orphans += 1,
            },
            sys::Reaped::Running => return report(shared, Left::Some),
            sys::Reaped::NoChildren => return report(shared, Left::None),
        }
    }
}

fn report(shared: &Shared, left: Left) {
    shared.report.send_if_modified(|known| std::mem::replace(known, left) != left);
}

fn command(spec: &Spec) -> Command {
    let output = |output| match output {
        Output::Inherit => Stdio::inherit(),
        Output::Null => Stdio::null(),
        Output::Pipe => Stdio::piped(),
    };
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).stdout(output(spec.stdout)).stderr(output(spec.stderr));
    if let Env::Exactly(pairs) = &spec.env {
        command.env_clear().envs(pairs.iter().map(|(name, value)| (name, value)));
    }
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let setup = ChildSetup {
        contained: spec.contained,
        session: spec.group == Group::Session,
        foreground: spec.group == Group::Foreground,
        user: spec.user.clone(),
        parent: sys::get_pid(),
    };
    // SAFETY: `run` only makes system calls, on data prepared above.
    unsafe { command.pre_exec(move || setup.run()) };
    command
}

/// A pipe that holds `bytes` and whose writing end is closed.
fn filled_pipe(bytes: &[u8]) -> io::Result<OwnedFd> {
    if bytes.len() > STDIN_LIMIT {
        return Err(io::Error::other(format!("its standard input exceeds {STDIN_LIMIT} bytes")));
    }
    let (read_end, write_end) = sys::pipe()?;
    // Does not block: where the system gives small pipes, it fails instead.
    std::fs::File::from(write_end).write_all(bytes)?;
    sys::make_blocking(&read_end)?;
    Ok(read_end)
}

fn receiver(end: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(end)
}
