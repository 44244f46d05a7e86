//! `lictor run -- CMD` without a cluster: an init and supervisor for one application.
//!
//! It forwards signals, reaps everything, and leaves with the application's own exit code (128 +
//! the signal's number when it was killed). After SIGTERM, SIGINT or SIGQUIT the application has
//! the stop timeout; then its whole tree is killed. When the application has ended, what it left
//! running gets SIGTERM and the same time. It leaves as soon as the last process is gone. It speaks
//! to nobody: no Consul, no port.

use crate::decide::time::{At, Span};
use crate::process::children::{Children, Group, Spawned, Spec};
use crate::process::link::{Guard, GuardLink};
use crate::process::signals::Signals;
use crate::process::terminal::Foreground;
use crate::process::{Exit, clock, guard, slim};
use anyhow::Context;
use std::ffi::OsString;
use std::time::Duration;

const USAGE: i32 = 64;
const FAILED: i32 = 1;

/// How long the guard may take to acknowledge: it does nothing but sleep.
const ACK_LIMIT: Span = Span::secs(1);

/// Runs `argv` to its end and returns the exit code to leave with. Call it before anything starts a
/// thread.
pub fn run(argv: Vec<OsString>, stop_timeout: Duration) -> i32 {
    enter(argv, Duty { stop_timeout, fence: None })
}

/// For tests: the same, with the guard armed to kill the application after `kill_in`, come what
/// may.
pub fn debug_fence(argv: Vec<OsString>, stop_timeout: Duration, kill_in: Span) -> i32 {
    enter(argv, Duty { stop_timeout, fence: Some(kill_in) })
}

struct Duty {
    stop_timeout: Duration,
    fence: Option<Span>,
}

fn enter(argv: Vec<OsString>, duty: Duty) -> i32 {
    if argv.is_empty() {
        eprintln!("lictor: nothing to run: give a command after --");
        return USAGE;
    }
    let code = guard::split()
        .context("cannot start the guard")
        .and_then(|link| in_sidecar(link, argv, &duty));
    code.unwrap_or_else(|error| {
        eprintln!("lictor: {error:#}");
        FAILED
    })
}

fn in_sidecar(link: GuardLink, argv: Vec<OsString>, duty: &Duty) -> anyhow::Result<i32> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().context("cannot start the event loop")?;
    runtime.block_on(async {
        let guard = link.start().context("cannot listen to the guard")?;
        let code = supervise(&guard, argv, duty).await;
        guard.announce_leaving();
        code
    })
}

async fn supervise(guard: &Guard, argv: Vec<OsString>, duty: &Duty) -> anyhow::Result<i32> {
    let children = Children::start().context("cannot watch for ended children")?;
    let mut signals = Signals::new().context("cannot receive signals")?;
    let mut argv = argv.into_iter();
    let program = argv.next().context("no command")?;
    let group = Group::Foreground;
    let _given_back_at_the_end = Foreground::remember();
    let spec = Spec { args: argv.collect(), group, ..Spec::new(program) };
    let mut app = match children.spawn(&spec) {
        Ok(app) => app,
        Err(error) => {
            eprintln!("lictor: {error}");
            return Ok(error.exit_code());
        }
    };
    let job = match duty.fence {
        Some(kill_in) => Some(arm(guard, &children, &app, kill_in).await?),
        None => None,
    };
    slim::let_go();
    let mut stop = Stop::new(duty.stop_timeout);
    let exit = until_exit(&children, &mut signals, &mut app, &mut stop).await?;
    until_none_left(&children, &mut signals, &mut stop).await?;
    drop(job);
    Ok(exit.code())
}

/// Arms the guard, with a job beside the application that the fence has to spare; says who is who.
async fn arm(
    guard: &Guard,
    children: &Children,
    app: &Spawned,
    kill_in: Span,
) -> anyhow::Result<Spawned> {
    let job = Spec { args: vec!["1000000".into()], contained: true, ..Spec::new("sleep") };
    let job = children.spawn(&job)?;
    anyhow::ensure!(guard.add_job(job.proc), "no room for a job");
    let kill_at = clock::now() + kill_in;
    let generation = guard.arm(app.proc, kill_at);
    anyhow::ensure!(guard.wait_acked(generation, ACK_LIMIT).await, "the guard did not answer");
    let (guard, sidecar) = (guard.pid(), std::process::id());
    let (app, pid) = (app.proc.pid, job.proc.pid);
    eprintln!("armed guard={guard} sidecar={sidecar} app={app} job={pid} kill_at={}", kill_at.0);
    Ok(job)
}

/// When the time to stop is over; it starts once.
struct Stop {
    timeout: Duration,
    kill_at: Option<At>,
}

impl Stop {
    fn new(timeout: Duration) -> Stop {
        Stop { timeout, kill_at: None }
    }

    fn begin(&mut self) {
        let timeout = Span(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX));
        self.kill_at.get_or_insert(clock::now() + timeout);
    }

    async fn over(&self) {
        let Some(kill_at) = self.kill_at else { return std::future::pending().await };
        tokio::time::sleep(clock::now().until(kill_at).to_std()).await;
    }
}

fn is_stop(signal: i32) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
}

async fn until_exit(
    children: &Children,
    signals: &mut Signals,
    app: &mut Spawned,
    stop: &mut Stop,
) -> anyhow::Result<Exit> {
    loop {
        tokio::select! {
            biased;
            exit = app.exit.wait() => return Ok(exit),
            signal = signals.next() => {
                let signal = signal.context("cannot receive signals")?;
                children.signal(app.proc, signal);
                if is_stop(signal) {
                    stop.begin();
                }
            }
            () = stop.over() => {
                eprintln!("lictor: the application did not stop in {:?}: killed", stop.timeout);
                children.kill_all_but(&[]).await;
                return Ok(app.exit.wait().await);
            }
        }
    }
}

/// The application has ended; others may be left: they are asked, then killed.
async fn until_none_left(
    children: &Children,
    signals: &mut Signals,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    if tokio::time::timeout(Duration::ZERO, children.none_left()).await.is_ok() {
        return Ok(());
    }
    children.signal_all_but(&[], libc::SIGTERM).context("cannot look at the processes left")?;
    stop.begin();
    loop {
        tokio::select! {
            biased;
            () = children.none_left() => return Ok(()),
            signal = signals.next() => {
                let signal = signal.context("cannot receive signals")?;
                children.signal_all_but(&[], signal).context("cannot pass a signal on")?;
            }
            () = stop.over() => {
                children.kill_all_but(&[]).await;
                return Ok(());
            }
        }
    }
}
